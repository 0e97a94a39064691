"""Produce: checks in order, acks, replication, retries, time-outs."""

from __future__ import annotations

import pytest
from tests.unit.node.plane_cluster import PlaneCluster, produce_request

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import PartitionChangeRecord
from kafkasim.core.model.records import LOG_APPEND_TIME

NONE = ErrorCode.NONE


def test_acks_all_is_answered_when_all_of_the_isr_has_it() -> None:
    """The answer needs one fetch of each follower, and no time."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.settle()
    number = cluster.ask(1, produce_request(tp, cluster.batch(b"a")))
    assert number not in cluster.answers
    cluster.settle()
    answer = cluster.answers[number].partitions[0]
    assert (answer.error, answer.base_offset) == (NONE, 0)
    assert cluster.replica(1, tp).high_watermark == 1
    assert cluster.replica(2, tp).log.batches[0] is cluster.replica(1, tp).log.batches[0]


def test_acks_one_and_zero_do_not_wait() -> None:
    """acks=1 is answered after the local append, acks=0 never."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.cut.update({2: None, 3: None})
    assert cluster.produce(1, tp, b"a", acks=1).base_offset == 0
    assert cluster.produce(1, tp, b"b", acks=0) is None
    assert cluster.values(1, tp) == [b"a", b"b"]
    assert cluster.produce(1, tp, b"c", acks=2).error is ErrorCode.INVALID_REQUIRED_ACKS


def test_a_write_that_is_not_replicated_times_out_with_its_offset() -> None:
    """REQUEST_TIMED_OUT: the record stays in the log and may become visible later."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.settle()
    cluster.cut.update({2: None, 3: None})
    number = cluster.ask(1, produce_request(tp, cluster.batch(b"a"), timeout_ms=2_000))
    cluster.run_for(1.9)
    assert number not in cluster.answers
    cluster.run_for(0.2)
    answer = cluster.answers[number].partitions[0]
    assert (answer.error, answer.base_offset) == (ErrorCode.REQUEST_TIMED_OUT, 0)
    cluster.cut.clear()
    cluster.run_for(2)
    assert cluster.replica(1, tp).high_watermark == 1


def test_under_min_isr_nothing_is_appended_at_acks_all() -> None:
    """NOT_ENOUGH_REPLICAS at once; acks=1 is accepted but stays invisible until the ISR has recovered."""
    cluster = PlaneCluster()
    tp = cluster.topic(min_insync_replicas="2")
    cluster.cut.update({2: None, 3: None})
    cluster.change(PartitionChangeRecord(cluster.state(tp).topic_id, 0, isr=(1,)))
    assert cluster.produce(1, tp, b"a").error is ErrorCode.NOT_ENOUGH_REPLICAS
    assert cluster.values(1, tp) == []
    assert cluster.produce(1, tp, b"b", acks=1).error is NONE
    assert cluster.replica(1, tp).high_watermark == 0
    cluster.cut.clear()
    cluster.run_for(3)
    assert cluster.state(tp).isr == (1, 2, 3)
    assert cluster.replica(1, tp).high_watermark == 1


def test_min_isr_is_never_more_than_the_replicas() -> None:
    """min.insync.replicas=2 with one replica is 1."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,), min_insync_replicas="2")
    assert cluster.produce(1, tp, b"a").error is NONE


def test_a_broker_that_does_not_lead_says_who_does() -> None:
    """NOT_LEADER_OR_FOLLOWER with leader and epoch, also from a broker without a replica; an unknown topic is unknown."""
    cluster = PlaneCluster()
    tp = cluster.topic(replicas=(1, 2))
    for node in (2, 3):
        answer = cluster.produce(node, tp, b"a")
        assert (answer.error, answer.current_leader, answer.current_leader_epoch) == (
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            1,
            0,
        )
    assert cluster.produce(1, TopicPartition("no", 0), b"a").error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    inner = cluster.topic("__consumer_offsets")
    assert cluster.produce(1, inner, b"a").error is ErrorCode.INVALID_TOPIC_EXCEPTION


@pytest.mark.parametrize(
    ("configs", "changes", "error"),
    [
        ({"max_message_bytes": "60"}, {}, ErrorCode.MESSAGE_TOO_LARGE),
        ({"cleanup_policy": "compact"}, {}, ErrorCode.INVALID_RECORD),
        ({"cleanup_policy": "compact"}, {"keys": [b"k"]}, NONE),
        ({}, {"timestamp_ms": 1_700_000_001_000 + 3_600_001}, ErrorCode.INVALID_TIMESTAMP),
        ({}, {"timestamp_ms": 1_700_000_001_000 + 3_600_000}, NONE),
        ({"message_timestamp_before_max_ms": "5000"}, {"timestamp_ms": 1_699_999_995_000}, ErrorCode.INVALID_TIMESTAMP),
        ({}, {"count": 2}, ErrorCode.CORRUPT_MESSAGE),
    ],
)
def test_batches_that_are_refused(configs: dict[str, str], changes: dict[str, object], error: ErrorCode) -> None:
    """Size, keys and timestamps are checked against the topic's configs before anything is appended."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,), **configs)
    answer = cluster.produce(1, tp, b"value", **changes)
    assert answer.error is error
    assert len(cluster.values(1, tp)) == (error is NONE)


def test_log_append_time_is_stamped_by_the_leader() -> None:
    """Batch and answer carry the append time, whatever the producer said."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,), message_timestamp_type="LogAppendTime")
    answer = cluster.produce(1, tp, b"a", timestamp_ms=5)
    assert answer.log_append_time_ms == 1_700_000_001_000
    batch = cluster.replica(1, tp).log.batches[0]
    assert (batch.timestamp_type, batch.timestamp_ms_at(0)) == (LOG_APPEND_TIME, 1_700_000_001_000)


def test_an_idempotent_retry_is_answered_with_its_first_offset() -> None:
    """Also after a fail-over: the state is in the log, so the next leader knows it too."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    batches = [cluster.batch(b"%d" % n, producer_id=7, producer_epoch=0, base_sequence=n) for n in range(3)]
    for batch in batches:
        cluster.call(1, produce_request(tp, batch))
    again = cluster.call(1, produce_request(tp, batches[1])).partitions[0]
    assert (again.error, again.base_offset) == (NONE, 1)
    cluster.crash(1)
    cluster.elect(tp, 2, (2, 3))
    cluster.settle()
    again = cluster.call(2, produce_request(tp, batches[2])).partitions[0]
    assert (again.error, again.base_offset) == (NONE, 2)
    assert cluster.values(2, tp) == [b"0", b"1", b"2"]


def test_a_duplicate_of_an_uncommitted_batch_waits_for_it() -> None:
    """The retry is parked until the first attempt's records are committed."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.settle()
    cluster.cut.update({2: None, 3: None})
    batch = cluster.batch(b"a", producer_id=7, producer_epoch=0, base_sequence=0)
    first, second = (cluster.ask(1, produce_request(tp, batch)) for _ in range(2))
    cluster.settle()
    assert not cluster.answers
    cluster.cut.clear()
    cluster.run_for(2)
    assert [cluster.answers[n].partitions[0].base_offset for n in (first, second)] == [0, 0]


def test_losing_leadership_ends_parked_writes() -> None:
    """NOT_LEADER_OR_FOLLOWER as soon as the broker learns that it follows."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.settle()
    cluster.cut.update({2: None, 3: None})
    number = cluster.ask(1, produce_request(tp, cluster.batch(b"a")))
    cluster.elect(tp, 2)
    assert cluster.answers[number].partitions[0].error is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_a_coordinator_hears_of_an_instant_commit_after_append_has_returned() -> None:
    """A partition without followers commits at once; ``on_done`` comes at the next deadline, which is now."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,))
    done: list[ErrorCode] = []
    plane = cluster.brokers[1].plane
    assert plane.append(tp, cluster.batch(b"a"), cluster.now_us, lambda error, *_: done.append(error)) is NONE
    assert not done
    assert plane.deadline_us <= cluster.now_us
    plane.on_deadline(cluster.now_us)
    assert done == [NONE]


def test_coordinator_appends_are_told_when_committed() -> None:
    """``append`` returns the local error; ``on_done`` comes with the high watermark, or with the loss of leadership."""
    cluster = PlaneCluster()
    tp = cluster.topic("__consumer_offsets", cleanup_policy="compact")
    cluster.settle()
    done: list[tuple[ErrorCode, int]] = []
    plane = cluster.brokers[1].plane

    def append() -> ErrorCode:
        batch = cluster.batch(b"v", keys=[b"k"])
        error = plane.append(tp, batch, cluster.now_us, lambda code, offset, now_us: done.append((code, offset)))
        cluster.drain(1)
        return error

    assert append() is NONE
    assert not done
    cluster.settle()
    assert done == [(NONE, 0)]
    cluster.cut.update({2: None, 3: None})
    assert append() is NONE
    cluster.elect(tp, 2)
    assert done[1] == (ErrorCode.NOT_LEADER_OR_FOLLOWER, 1)
    assert append() is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_one_request_for_many_partitions() -> None:
    """Each partition is answered by itself, in the order asked; one bad one does not hold up the others."""
    cluster = PlaneCluster()
    cluster.topic(partitions=3)
    cluster.settle()
    request = produce_request(TopicPartition("t", 0), cluster.batch(b"a"))
    for partition in (1, 2, 9):
        request.partitions.extend(produce_request(TopicPartition("t", partition), cluster.batch(b"a")).partitions)
    answers = cluster.call(1, request).partitions
    assert [a.error for a in answers] == [NONE, NONE, NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
