"""create_topics, create_partitions, delete_topics: results and refusals in the brokers' own words."""

from __future__ import annotations

import pytest


def _create(kit, name, partitions=1, replicas=1, config=None, **options):
    arguments = {"config": config} if config else {}
    new = kit.ck.admin.NewTopic(name, partitions, replicas, **arguments)
    return kit.result(kit.admin().create_topics([new], **options))


def _partitions(kit, name, count, *assignment, **options):
    new = kit.ck.admin.NewPartitions(name, count, *assignment)
    return kit.result(kit.admin().create_partitions([new], **options))


def test_a_topic_is_created(kit):
    """The future's result is None; soon every broker knows the topic."""
    name = kit.name("made")
    assert _create(kit, name, 3, 1) is None
    kit.wait(lambda: len(kit.cluster.describe_topic(name)) == 3)


def test_several_topics_in_one_request(kit):
    """Each topic has its own future; one failing does not touch the others."""
    good, bad = kit.name("good"), "not good"
    new = [kit.ck.admin.NewTopic(name, 1, 1) for name in (good, bad)]
    futures = kit.admin().create_topics(new)
    assert set(futures) == {good, bad}
    assert futures[good].result(20) is None
    with kit.fails("TOPIC_EXCEPTION"):
        futures[bad].result(20)


def test_an_existing_topic_is_refused(kit):
    """TOPIC_ALREADY_EXISTS names the topic."""
    name = kit.topic()
    with kit.fails("TOPIC_ALREADY_EXISTS", f"Topic '{name}' already exists."):
        _create(kit, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a b",
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
        ("", "Topic name is invalid: the empty string is not allowed"),
        (".", "Topic name is invalid: '.' is not allowed"),
        ("..", "Topic name is invalid: '..' is not allowed"),
        (
            "a" * 250,
            "Topic name is invalid: the length of '" + "a" * 250 + "' is longer than the max allowed length 249",
        ),
    ],
    ids=["space", "empty", "dot", "dots", "long"],
)
def test_invalid_names_are_refused(kit, name, text):
    """TOPIC_EXCEPTION with the rule that was broken."""
    with kit.fails("TOPIC_EXCEPTION", text):
        _create(kit, name)


def test_names_that_would_collide_in_metrics(kit):
    """A dot and an underscore at one place collide."""
    _create(kit, kit.name("a") + ".x")
    with kit.fails("TOPIC_EXCEPTION", "collides with existing topic"):
        _create(kit, kit.name("a") + "_x")


@pytest.mark.parametrize(
    ("partitions", "replicas", "code", "text"),
    [
        (0, 1, "INVALID_PARTITIONS", "Number of partitions was set to an invalid non-positive value."),
        (1, 0, "INVALID_REPLICATION_FACTOR", "Replication factor must be larger than 0, or -1 to use the default value."),
        (1, 30, "INVALID_REPLICATION_FACTOR",
         "Unable to replicate the partition 30 time(s): The target replication factor of 30 cannot be reached"),
    ],
    ids=["no-partitions", "no-replicas", "too-many-replicas"],
)  # fmt: skip
def test_impossible_numbers_are_refused(kit, partitions, replicas, code, text):
    """The controller says which number and why."""
    with kit.fails(code, text):
        _create(kit, kit.name("never"), partitions, replicas)


def test_a_number_that_makes_no_sense_is_refused_by_the_client(kit):
    """-2 partitions never leave the client: ValueError."""
    with pytest.raises(ValueError, match="num_partitions out of expected range"):
        _create(kit, kit.name("never"), -2)


def test_defaults_are_the_brokers(kit):
    """NewTopic(name) leaves both numbers to the broker: num.partitions and default.replication.factor, one each."""
    new = kit.ck.admin.NewTopic(kit.name("plain"))
    assert (new.num_partitions, new.replication_factor) == (-1, -1)
    kit.result(kit.admin().create_topics([new]))
    kit.wait(lambda: kit.admin().list_topics(new.topic, timeout=20).topics[new.topic].error is None)
    (partition,) = kit.admin().list_topics(new.topic, timeout=20).topics[new.topic].partitions.values()
    assert len(partition.replicas) == 1


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"no.such": "1"}, "Unknown topic config name: no.such"),
        ({"retention.ms": "x"}, "Invalid value x for configuration retention.ms: Not a number of type LONG"),
        ({"retention.ms": "-5"}, "Invalid value -5 for configuration retention.ms: Value must be at least -1"),
        ({"cleanup.policy": "x"}, "Invalid value x for configuration cleanup.policy: String must be one of: compact, delete"),
        ({"min.insync.replicas": "0"}, "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1"),
        ({"segment.bytes": "1"}, "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576"),
        (
            {"compression.type": "rar"},
            ("Invalid value rar for configuration compression.type: "
            "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"),
        ),
        (
            {"message.timestamp.type": "Now"},
            "Invalid value Now for configuration message.timestamp.type: String must be one of: CreateTime, LogAppendTime",
        ),
        ({"preallocate": "maybe"}, "Invalid value maybe for configuration preallocate: Expected value to be either true or false"),
    ],
    ids=lambda value: "=".join(*value.items()) if isinstance(value, dict) else "",
)  # fmt: skip
def test_impossible_topic_configs_are_refused(kit, config, text):
    """INVALID_CONFIG with the name, the value and the rule."""
    with kit.fails("INVALID_CONFIG", text):
        _create(kit, kit.name("never"), config=config)


def test_validate_only_makes_nothing(kit):
    """validate_only answers as the real thing would, and nothing is there afterwards."""
    name = kit.name("dry")
    assert _create(kit, name, validate_only=True) is None
    with kit.fails("UNKNOWN_TOPIC_OR_PART"):
        kit.result(kit.admin().describe_topics(kit.ck.TopicCollection([name])))
    with kit.fails("INVALID_PARTITIONS"):
        _create(kit, name, 0, validate_only=True)


def test_validate_only_sees_an_existing_topic(kit):
    """It refuses what exists."""
    name = kit.topic()
    with kit.fails("TOPIC_ALREADY_EXISTS"):
        _create(kit, name, validate_only=True)


def test_a_topic_named_twice_in_one_request(kit):
    """Neither is made."""
    name = kit.name("twice")
    new = [kit.ck.admin.NewTopic(name, 1, 1) for _ in range(2)]
    with kit.fails("INVALID_REQUEST", "Duplicate topic name."):
        kit.result(kit.admin().create_topics(new))


def test_replicas_may_be_assigned_by_hand(kit):
    """replica_assignment names the brokers of each partition; the first is the leader."""
    name = kit.name("placed")
    new = kit.ck.admin.NewTopic(name, 2, replica_assignment=[[1], [1]])
    kit.result(kit.admin().create_topics([new]))
    kit.wait(lambda: [p.replicas for p in kit.cluster.describe_topic(name)] == [[1], [1]])


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ([[99]], "The manual partition assignment includes broker 99, but no such broker is registered."),
        ([[1, 1]], "The manual partition assignment includes the broker 1 more than once."),
    ],
    ids=["unknown-broker", "twice"],
)
def test_impossible_assignments_are_refused(kit, assignment, text):
    """INVALID_REPLICA_ASSIGNMENT."""
    new = kit.ck.admin.NewTopic(kit.name("never"), 1, replica_assignment=assignment)
    with kit.fails("INVALID_REPLICA_ASSIGNMENT", text):
        kit.result(kit.admin().create_topics([new]))


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((1, 2), {"replica_assignment": [[1]]}, "replication_factor and replica_assignment are mutually exclusive"),
        ((3,), {"replica_assignment": [[1]]}, "must be a list of int lists with an outer size of num_partitions"),
    ],
    ids=["both", "count"],
)
def test_contradictions_are_refused_by_the_client(kit, arguments, keywords, text):
    """ValueError before anything is sent."""
    with pytest.raises(ValueError, match=text):
        kit.result(kit.admin().create_topics([kit.ck.admin.NewTopic(kit.name("never"), *arguments, **keywords)]))


@pytest.mark.parametrize(
    ("method", "argument", "kind", "text"),
    [
        ("create_topics", [], ValueError, "Expected non-empty list of NewTopic objects"),
        ("create_partitions", [], ValueError, "Expected non-empty list of NewPartitions"),
        ("delete_topics", [], ValueError, "Expected non-empty list of topic strings"),
        ("delete_topics", "t", TypeError, "argument 1 must be list, not str"),
    ],
)
def test_empty_requests_are_refused_by_the_client(kit, method, argument, kind, text):
    """Nothing to do is an error of the caller."""
    with pytest.raises(kind, match=text):
        getattr(kit.admin(), method)(argument)


def test_partitions_are_added(kit):
    """New partitions are empty; the old ones keep their records."""
    topic = kit.topic(partitions=2)
    kit.fill(topic, 3)
    assert _partitions(kit, topic, 4) is None
    kit.wait(lambda: len(kit.cluster.describe_topic(topic)) == 4)
    consumer = kit.consumer()
    kit.wait(lambda: len(consumer.list_topics(topic, timeout=20).topics[topic].partitions) == 4)
    assert [consumer.get_watermark_offsets(kit.at(topic, p)) for p in range(4)] == [(0, 3), (0, 0), (0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "currently has 2 partition(s); 1 would not be an increase."), (2, "Topic already has 2 partition(s).")],
)
def test_partitions_are_never_taken_away(kit, count, text):
    """INVALID_PARTITIONS."""
    topic = kit.topic(partitions=2)
    with kit.fails("INVALID_PARTITIONS", text):
        _partitions(kit, topic, count)


def test_partitions_of_an_unknown_topic(kit):
    """UNKNOWN_TOPIC_OR_PART."""
    with kit.fails("UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic or partition"):
        _partitions(kit, kit.name("absent"), 5)


def test_new_partitions_with_too_few_assignments(kit):
    """An assignment has to name every new partition."""
    topic = kit.topic()
    with kit.fails(
        "INVALID_REPLICA_ASSIGNMENT",
        "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
    ):
        _partitions(kit, topic, 3, [[1]])


def test_validate_only_adds_no_partition(kit):
    """validate_only of create_partitions changes nothing."""
    topic = kit.topic()
    assert _partitions(kit, topic, 3, validate_only=True) is None
    assert len(kit.cluster.describe_topic(topic)) == 1


def test_a_topic_is_deleted(kit):
    """Afterwards it is unknown, and its name is free again."""
    topic = kit.topic()
    kit.fill(topic, 2)
    assert kit.result(kit.admin().delete_topics([topic])) is None
    with kit.fails("UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic or partition"):
        kit.result(kit.admin().delete_topics([topic]))
    kit.topic()
    assert kit.consumer().get_watermark_offsets(kit.at(topic)) == (0, 0)


@pytest.mark.parametrize("name", [None, "a b"])
def test_what_does_not_exist_cannot_be_deleted(kit, name):
    """Unknown and impossible names give the same answer."""
    with kit.fails("UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic or partition"):
        kit.result(kit.admin().delete_topics([name or kit.name("absent")]))


def test_a_topic_deleted_twice_in_one_request(kit):
    """INVALID_REQUEST, and it is still there."""
    topic = kit.topic()
    with kit.fails("INVALID_REQUEST"):
        kit.result(kit.admin().delete_topics([topic, topic]))
    assert len(kit.cluster.describe_topic(topic)) == 1
