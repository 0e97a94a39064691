"""AdminClient of the client's own layer over our implementation and an engine that a test controls."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.confluent_kafka.fakes import FakeAdminEngine, FakeShell

from kafkasim.confluent_kafka import admin
from kafkasim.confluent_kafka.cimpl import KafkaError, KafkaException, NewPartitions, NewTopic, TopicPartition
from kafkasim.core.model import admin_messages, group_messages, messages
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition as Partition

T0 = Partition("t", 0)


@pytest.fixture
def client(shells: list[FakeShell]) -> Any:
    return admin.AdminClient({"bootstrap.servers": "x"})


def engine_of(client: Any) -> FakeAdminEngine:
    engine: FakeAdminEngine = client._engine
    return engine


def test_create_topics(client: Any) -> None:
    """One future a topic; each gets its own outcome."""
    made = client.create_topics(
        [NewTopic("a", 3, 2, config={"retention.ms": 5}), NewTopic("b", replica_assignment=[[1, 2], [2, 1]])],
        operation_timeout=1,
        request_timeout=2,
    )
    request, target, timeout_us = engine_of(client).asked[0]
    assert (target, timeout_us, request.timeout_ms, request.validate_only) == ("controller", 2_000_000, 1_000, False)
    assert request.topics == (
        admin_messages.NewTopicSpec("a", 3, 2, (), (("retention.ms", "5"),)),
        admin_messages.NewTopicSpec("b", -1, -1, ((0, (1, 2)), (1, (2, 1))), ()),
    )
    assert not made["a"].done()
    created = admin_messages.TopicCreated
    engine_of(client).operations[0].succeed(
        admin_messages.CreateTopicsResponse(
            (
                created("a", ErrorCode.NONE),
                created("b", ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'b' already exists."),
            )
        )
    )
    assert made["a"].result() is None
    with pytest.raises(KafkaException) as caught:
        made["b"].result()
    assert caught.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    assert caught.value.args[0].str() == "Topic 'b' already exists."


def test_a_failed_request_fails_every_future(client: Any) -> None:
    """A timeout is the exception of each topic's future."""
    made = client.delete_topics(["a", "b"])
    engine_of(client).operations[0].fail(ErrorCode._TIMED_OUT, "Failed while waiting for controller: Local: Timed out")
    for future in made.values():
        with pytest.raises(KafkaException, match="Failed while waiting for controller"):
            future.result()


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        (NewTopic("a", 3, replica_assignment=[[1]]), "with an outer size of num_partitions"),
        (NewTopic("a", 1, 1, replica_assignment=[[1]]), "are mutually exclusive"),
        (NewTopic("a", -1, replica_assignment=5), "with an outer size of num_partitions"),  # type: ignore[arg-type]
        (NewTopic("a", 1, replica_assignment=[["a"]]), "with an outer size of num_partitions"),  # type: ignore[list-item]
        (NewTopic("a", 1, 40000), "Invalid NewTopic(a): replication_factor out of expected range -1..10000"),
    ],
)
def test_wrong_topics(client: Any, topic: NewTopic, text: str) -> None:
    """ValueErrors in the real client's words, before anything is sent."""
    with pytest.raises(ValueError, match=r".") as caught:
        client.create_topics([topic])
    assert text in str(caught.value)
    assert engine_of(client).asked == []


def test_wrong_lists(client: Any) -> None:
    """The implementation insists on lists of the right objects."""
    for call, error, text in (
        (lambda: client.create_topics([]), ValueError, "Expected non-empty list of NewTopic objects"),
        (
            lambda: client.create_topics([NewTopic("a")], validate_only=5),
            TypeError,
            "Expected validate_only to be bool",
        ),
        (lambda: client.delete_topics([]), ValueError, "Expected non-empty list of topic strings"),
        (lambda: client.create_partitions([]), ValueError, "Expected non-empty list of NewPartitions objects"),
        (
            lambda: client.create_partitions([NewPartitions("a", 0)]),
            ValueError,
            "Invalid NewPartitions(a): new_total_cnt out of expected range 1..100000",
        ),
    ):
        with pytest.raises(error) as caught:
            call()
        assert text in str(caught.value)


def test_describe_configs(client: Any) -> None:
    """Entries by name, with source and synonyms; a broker's configs are asked of that broker."""
    topic = admin.ConfigResource(admin.ConfigResource.Type.TOPIC, "t")
    futures = client.describe_configs([topic])
    request, target, _ = engine_of(client).asked[0]
    assert target == "any"
    value = admin_messages.ConfigValue(
        "retention.ms", "5", admin_messages.DYNAMIC_TOPIC_CONFIG, synonyms=(("log.retention.ms", "6", 5),)
    )
    described = admin_messages.DescribedConfig(request.resources[0], ErrorCode.NONE, None, (value,))
    engine_of(client).operations[0].succeed(admin_messages.DescribeConfigsResponse((described,)))
    entry = futures[topic].result()["retention.ms"]
    assert (entry.value, entry.source, entry.is_default) == ("5", 1, False)
    assert entry.synonyms["log.retention.ms"].value == "6"

    client.describe_configs([admin.ConfigResource("BROKER", "2")])
    assert engine_of(client).asked[1][1] == ("broker", 2)
    both = [admin.ConfigResource("BROKER", "1"), admin.ConfigResource("BROKER", "2")]
    for future in client.describe_configs(both).values():
        with pytest.raises(KafkaException, match="Only one ConfigResource of type BROKER"):
            future.result()


def test_alter_configs(client: Any) -> None:
    """Incremental and replacing changes, None as the outcome."""
    resource = admin.ConfigResource(
        "TOPIC",
        "t",
        incremental_configs=[
            admin.ConfigEntry("retention.ms", "5", incremental_operation=admin.AlterConfigOpType.SET),
            admin.ConfigEntry("cleanup.policy", None, incremental_operation=admin.AlterConfigOpType.DELETE),
        ],
    )
    futures = client.incremental_alter_configs([resource])
    request = engine_of(client).asked[0][0]
    assert request.resources[0].changes == (("retention.ms", 0, "5"), ("cleanup.policy", 1, None))
    altered = admin_messages.ConfigAltered(request.resources[0].resource, ErrorCode.INVALID_CONFIG, "bad value")
    engine_of(client).operations[0].succeed(admin_messages.AlterConfigsResponse((altered,)))
    with pytest.raises(KafkaException, match="bad value"):
        futures[resource].result()


def test_groups(client: Any) -> None:
    """Groups of consumers are listed, described and deleted; each group is its coordinator's."""
    listing = client.list_consumer_groups(states={admin._ConsumerGroupState.STABLE})
    broker = messages.BrokerEndpoint
    engine_of(client).operations[0].succeed(
        messages.MetadataResponse((broker(1, "h", 1), broker(2, "h", 2)), "cluster", 1, ())
    )
    (one, to_one, _), (two, to_two, _) = engine_of(client).asked[1:]
    assert (one.states, one.types, to_one, to_two) == (("Stable",), (), ("broker", 1), ("broker", 2))
    assert one == two
    listed = group_messages.ListedGroup
    engine_of(client).operations[2].fail(ErrorCode._TIMED_OUT)
    assert not listing.done()
    engine_of(client).operations[1].succeed(
        group_messages.ListGroupsResponse(
            ErrorCode.NONE, (listed("g", "consumer", "Stable", "classic"), listed("s", "share", "Stable", "share"))
        )
    )
    result = listing.result()
    assert [(group.group_id, group.state.name, group.type.name) for group in result.valid] == [
        ("g", "STABLE", "CLASSIC")
    ]
    assert result.errors == [KafkaError._TIMED_OUT]


def test_groups_are_deleted_by_their_coordinators(client: Any) -> None:
    """One request a group; the outcome is the group's own."""
    deleted = client.delete_consumer_groups(["g", "h"])
    assert [target for _, target, _ in engine_of(client).asked] == [("coordinator", "g"), ("coordinator", "h")]
    answer = group_messages.DeleteGroupsResponse
    engine_of(client).operations[1].succeed(answer((("h", ErrorCode.NONE),)))
    engine_of(client).operations[0].succeed(answer((("g", ErrorCode.NON_EMPTY_GROUP),)))
    with pytest.raises(KafkaException) as caught:
        deleted["g"].result()
    assert caught.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    assert deleted["h"].result() is None


def test_group_offsets(client: Any) -> None:
    """Committed offsets are read and set through ConsumerGroupTopicPartitions."""
    wanted = admin._ConsumerGroupTopicPartitions("g", [TopicPartition("t", 0, 7)])
    found = client.list_consumer_group_offsets([admin._ConsumerGroupTopicPartitions("g")])["g"]
    assert engine_of(client).asked[0][0].partitions is None
    entry = (T0, group_messages.OffsetAndMetadata(5, 1, "note"), ErrorCode.NONE)
    engine_of(client).operations[0].succeed(group_messages.OffsetFetchResponse(ErrorCode.NONE, (entry,)))
    (partition,) = found.result().topic_partitions
    assert (partition.topic, partition.offset, partition.metadata, partition.error) == ("t", 5, "note", None)

    altered = client.alter_consumer_group_offsets([wanted])["g"]
    request = engine_of(client).asked[1][0]
    assert (request.member_id, request.generation_id, request.offsets[0][1].offset) == ("", -1, 7)
    engine_of(client).operations[1].succeed(group_messages.OffsetCommitResponse(((T0, ErrorCode.NONE),)))
    assert altered.result().topic_partitions[0].offset == 7


def test_topics_and_cluster_are_described(client: Any) -> None:
    """Leaders, replicas and controller are Nodes."""
    brokers = (messages.BrokerEndpoint(1, "h1", 9092, "a"), messages.BrokerEndpoint(2, "h2", 9092))
    part = messages.PartitionMetadata(ErrorCode.NONE, 0, 2, 0, (1, 2), (2,))
    topic = messages.TopicMetadata(ErrorCode.NONE, "t", "AAAAAAAAAAEAAAAAAAAAAg", False, (part,))
    response = messages.MetadataResponse(brokers, "cluster", 1, (topic,))
    described = client.describe_topics(admin._TopicCollection(["t", "u"]))
    engine_of(client).operations[0].succeed(response)
    info = described["t"].result()
    assert (info.name, str(info.topic_id), info.partitions[0].leader.id) == ("t", "AAAAAAAAAAEAAAAAAAAAAg", 2)
    assert [node.id for node in info.partitions[0].replicas] == [1, 2]
    with pytest.raises(KafkaException):
        described["u"].result()
    cluster = client.describe_cluster()
    engine_of(client).operations[1].succeed(response)
    assert (cluster.result().cluster_id, cluster.result().controller.id, len(cluster.result().nodes)) == (
        "cluster",
        1,
        2,
    )


def test_records_and_offsets(client: Any) -> None:
    """Offsets are listed by specification, records deleted by offset, leaders elected."""
    tp = TopicPartition("t", 0)
    listed = client.list_offsets({tp: admin.OffsetSpec.latest()})[tp]
    request, target, _ = engine_of(client).asked[0]
    assert (request.partitions[0].timestamp_ms, target) == (-1, ("leaders",))
    answer = messages.PartitionOffset(T0, ErrorCode.NONE, 9, 5, 2)
    engine_of(client).operations[0].succeed(messages.ListOffsetsResponse([answer]))
    assert (listed.result().offset, listed.result().timestamp, listed.result().leader_epoch) == (9, 5, 2)

    deleted = client.delete_records([TopicPartition("t", 0, 4)])[tp]
    assert engine_of(client).asked[1][0].partitions[0].offset == 4
    gone = messages.PartitionRecordsDeleted(T0, ErrorCode.NONE, 4)
    engine_of(client).operations[1].succeed(messages.DeleteRecordsResponse([gone]))
    assert deleted.result().low_watermark == 4

    elected = client.elect_leaders(admin._ElectionType.PREFERRED, [tp])
    outcome = admin_messages.PartitionResult(T0, ErrorCode.ELECTION_NOT_NEEDED)
    engine_of(client).operations[2].succeed(admin_messages.ElectLeadersResponse(ErrorCode.NONE, (outcome,)))
    assert elected.result()[tp].code() == KafkaError.ELECTION_NOT_NEEDED


def test_what_is_not_modelled_says_so(client: Any) -> None:
    """ACLs as on a cluster without an authorizer; SCRAM names the document."""
    binding = admin.AclBindingFilter(
        admin.ResourceType.TOPIC,
        "t",
        admin.ResourcePatternType.LITERAL,
        None,
        None,
        admin.AclOperation.ANY,
        admin.AclPermissionType.ANY,
    )
    with pytest.raises(KafkaException) as caught:
        client.describe_acls(binding).result()
    assert caught.value.args[0].code() == KafkaError.SECURITY_DISABLED
    with pytest.raises(KafkaException, match=r"docs/fidelity\.md"):
        client.describe_user_scram_credentials().result()


def test_closed_admin_client(client: Any) -> None:
    """After the with block the client is closed."""
    with client:
        pass
    with pytest.raises(RuntimeError, match=r"^AdminClient has been closed$"):
        client.delete_topics(["a"])
