"""Creating, growing and deleting topics; placement."""

from __future__ import annotations

import pytest
from tests.unit.controller.plane import Plane, seeded, zero

from kafkasim.core.controller.image import BrokerState
from kafkasim.core.controller.placement import PlacementError, StripedReplicaPlacer
from kafkasim.core.model.admin_messages import (
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    NewPartitionsSpec,
    NewTopicSpec,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.metadata import ClearElrRecord, ConfigRecord, PartitionRecord, TopicRecord


def brokers(*racks: str | None, fenced: tuple[int, ...] = ()) -> list[BrokerState]:
    return [BrokerState(node, 0, "", "", 0, rack, fenced=node in fenced) for node, rack in enumerate(racks, start=1)]


def test_the_batch_of_a_new_topic() -> None:
    """Topic, configs, the clearing of ELRs that the minimum asks for, partitions in order."""
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2, 3), (2, 3, 1), min_insync_replicas="2", retention_ms="1000")
    records = plane.fresh()
    assert [type(record) for record in records] == [
        TopicRecord,
        ConfigRecord,
        ConfigRecord,
        ClearElrRecord,
        PartitionRecord,
        PartitionRecord,
    ]
    state = plane.partition("t", 1)
    assert (state.leader, state.leader_epoch, state.partition_epoch, state.isr) == (2, 0, 0, (2, 3, 1))


def test_defaults_come_from_the_controller() -> None:
    """-1 means num.partitions and default.replication.factor."""
    plane = Plane((1, 2), config={"num.partitions": "4", "default.replication.factor": "2"})
    created = plane.create("t")
    assert (created.num_partitions, created.replication_factor) == (4, 2)
    assert created.topic_id == plane.image.topics["t"].topic_id


REFUSALS = [
    (NewTopicSpec("bad name", 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION, "contains one or more characters"),
    (NewTopicSpec("", 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION, "empty string"),
    (NewTopicSpec("x" * 250, 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION, "longer than the max allowed length 249"),
    (NewTopicSpec("old_one", 1, 1), ErrorCode.INVALID_TOPIC_EXCEPTION, "collides with existing topic: old.one"),
    (NewTopicSpec("old.one", 1, 1), ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'old.one' already exists."),
    (NewTopicSpec("t", 0, 1), ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid"),
    (NewTopicSpec("t", 1, 0), ErrorCode.INVALID_REPLICATION_FACTOR, "Replication factor must be larger than 0"),
    (
        NewTopicSpec("t", 1, 4),
        ErrorCode.INVALID_REPLICATION_FACTOR,
        (
            "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because "
            "only 3 broker(s) are registered or some brokers have all their log directories cordoned."
        ),
    ),
    (NewTopicSpec("t", 10_001, 1), ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions"),
    (NewTopicSpec("t", 1, -1, ((0, (1,)),)), ErrorCode.INVALID_REQUEST, "numPartitions was not set to -1"),
    (NewTopicSpec("t", -1, 1, ((0, (1,)),)), ErrorCode.INVALID_REQUEST, "replication factor was not set to -1"),
    (NewTopicSpec("t", -1, -1, ((0, (9,)),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "no such broker"),
    (NewTopicSpec("t", -1, -1, ((0, (1, 1)),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "more than once"),
    (NewTopicSpec("t", -1, -1, ((0, ()),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "empty replica list"),
    (NewTopicSpec("t", -1, -1, ((0, (1,)), (1, (1, 2)))), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "not consistent"),
    (NewTopicSpec("t", -1, -1, ((1, (1,)),)), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "consecutive 0-based"),
    (NewTopicSpec("t", 1, 1, (), (("no.such.key", "1"),)), ErrorCode.INVALID_CONFIG, "Unknown topic config name"),
    (NewTopicSpec("t", 1, 1, (), (("retention.ms", "soon"),)), ErrorCode.INVALID_CONFIG, "retention.ms"),
    (NewTopicSpec("t", 1, 1, (), (("retention.ms", None),)), ErrorCode.INVALID_CONFIG, "Null value not supported"),
]


@pytest.mark.parametrize(("spec", "error", "text"), REFUSALS, ids=[f"{i}-{r[1].name}" for i, r in enumerate(REFUSALS)])
def test_refused_topics(spec: NewTopicSpec, error: ErrorCode, text: str) -> None:
    """Kafka's code and Kafka's words, and nothing written."""
    plane = Plane((1, 2, 3))
    plane.create("old.one", (1,))
    plane.fresh()
    result = plane.ask(CreateTopicsRequest((spec,))).topics[0]
    assert result.error is error
    assert text in (result.error_message or "")
    assert plane.fresh() == []


def test_validate_only_writes_nothing() -> None:
    """The answer is as if it had been done."""
    plane = Plane((1,))
    plane.fresh()
    result = plane.ask(CreateTopicsRequest((NewTopicSpec("t", 2, 1),), validate_only=True)).topics[0]
    assert result.error is ErrorCode.NONE
    assert plane.fresh() == []


def test_replicas_that_are_down_are_not_in_the_first_isr() -> None:
    """The first active replica leads; with none there is no topic."""
    plane = Plane((1, 2))
    plane.kill(1)
    plane.create("t", (1, 2))
    assert (plane.partition().leader, plane.partition().isr) == (2, (2,))
    result = plane.create("u", (1,))
    assert result.error is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert "are fenced or in controlled shutdown" in (result.error_message or "")


def grow(plane: Plane, name: str, count: int, assignments: tuple[tuple[int, ...], ...] | None = None) -> ErrorCode:
    error: ErrorCode = (
        plane.ask(CreatePartitionsRequest((NewPartitionsSpec(name, count, assignments),))).topics[0].error
    )
    return error


def test_more_partitions() -> None:
    """Only ever more, with as many replicas as the topic has."""
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2))
    assert grow(plane, "t", 1) is ErrorCode.INVALID_PARTITIONS
    assert grow(plane, "t", 0) is ErrorCode.INVALID_PARTITIONS
    assert grow(plane, "nowhere", 2) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert grow(plane, "t", 3, ((1, 2),)) is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert grow(plane, "t", 2, ((1, 2, 3),)) is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert grow(plane, "t", 2, ((3, 1),)) is ErrorCode.NONE
    assert grow(plane, "t", 5) is ErrorCode.NONE
    assert len(plane.image.topics["t"].partitions) == 5
    assert all(len(state.replicas) == 2 for state in plane.image.topics["t"].partitions)


def test_deleting_forgets_everything_of_a_topic() -> None:
    """Its name is free again, its configs and its index entries are gone, and a new one has another id."""
    plane = Plane((1, 2))
    first = plane.create("a.b", (1, 2), min_insync_replicas="2").topic_id
    plane.kill(2)
    response = plane.ask(DeleteTopicsRequest(("a.b", "nowhere")))
    assert [result.error for result in response.topics] == [ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert plane.image.partitions_in_isr(1) == []
    assert plane.image.partitions_in_elr(2) == []
    assert plane.create("a_b", (1,)).error is ErrorCode.NONE
    assert plane.create("t", (1,)).topic_id != first
    plane.check_replay()


def test_topics_are_not_deleted_where_that_is_disabled() -> None:
    """delete.topic.enable=false."""
    plane = Plane((1,), config={"delete.topic.enable": "false"})
    plane.create("t", (1,))
    assert plane.ask(DeleteTopicsRequest(("t",))).topics[0].error is ErrorCode.TOPIC_DELETION_DISABLED


def test_replicas_are_striped_over_racks() -> None:
    """Consecutive partitions start on consecutive racks."""
    placed = StripedReplicaPlacer(brokers("a", "b", "c"), zero).place(3, 2)
    assert placed == [(1, 2), (2, 3), (3, 1)]


def test_a_partition_spans_as_many_racks_as_there_are() -> None:
    """Whatever the offsets drawn."""
    racks = {1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 6: "c"}
    for seed in range(20):
        placer = StripedReplicaPlacer(brokers(*racks.values()), seeded(seed))
        for replicas in placer.place(30, 3):
            assert {racks[node] for node in replicas} == {"a", "b", "c"}
            assert len(set(replicas)) == 3


def test_fenced_brokers_follow_but_never_lead() -> None:
    """They are taken where a rack has nobody else."""
    for seed in range(20):
        for replicas in StripedReplicaPlacer(brokers(None, None, None, fenced=(2,)), seeded(seed)).place(12, 3):
            assert replicas[0] != 2
            assert set(replicas) == {1, 2, 3}


def test_leaders_are_spread_evenly() -> None:
    """Every broker leads its share."""
    leaders = [replicas[0] for replicas in StripedReplicaPlacer(brokers(*[None] * 4), seeded(5)).place(400, 3)]
    assert all(80 <= leaders.count(node) <= 120 for node in (1, 2, 3, 4))


def test_what_cannot_be_placed() -> None:
    """Kafka's words."""
    with pytest.raises(PlacementError, match="All brokers are currently fenced"):
        StripedReplicaPlacer(brokers(None, fenced=(1,)), zero).place(1, 1)
    with pytest.raises(PlacementError, match="only 1 broker"):
        StripedReplicaPlacer(brokers(None), zero).place(1, 2)


def test_a_leaving_broker_gets_no_new_replicas() -> None:
    """While it waits to be let go it is no place for anything."""
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2))
    plane.beat(1, want_shut_down=True)
    plane.create("u", partitions=6, factor=2)
    assert {node for state in plane.image.topics["u"].partitions for node in state.replicas} == {2, 3}
    assert plane.create("v", partitions=1, factor=3).error is ErrorCode.INVALID_REPLICATION_FACTOR


def test_the_metadata_log_is_no_topic_to_create() -> None:
    """Its name is taken."""
    refused = Plane((1,)).create("__cluster_metadata", partitions=1, factor=1)
    assert refused.error is ErrorCode.INVALID_REQUEST
