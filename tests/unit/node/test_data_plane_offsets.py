"""ListOffsets, OffsetForLeaderEpoch, DeleteRecords."""

from __future__ import annotations

from typing import Any

from tests.unit.node.plane_cluster import PlaneCluster

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, MAX_TIMESTAMP, TopicPartition
from kafkasim.core.model.messages import (
    DeleteRecordsRequest,
    ListOffsetsRequest,
    OffsetForLeaderEpochRequest,
    PartitionDeleteRecords,
    PartitionEpochQuery,
    PartitionListOffsets,
)

NONE = ErrorCode.NONE


def offset(cluster: PlaneCluster, node: int, tp: TopicPartition, timestamp_ms: int, epoch: int = -1) -> Any:
    request = ListOffsetsRequest([PartitionListOffsets(tp, timestamp_ms, epoch)])
    answer = cluster.call(node, request).partitions[0]
    return answer.offset if answer.error is NONE else answer.error


def epoch_end(cluster: PlaneCluster, node: int, tp: TopicPartition, epoch: int) -> tuple[int, int]:
    answer = cluster.call(node, OffsetForLeaderEpochRequest([PartitionEpochQuery(tp, epoch)])).partitions[0]
    assert answer.error is NONE
    return answer.leader_epoch, answer.end_offset


def delete(cluster: PlaneCluster, tp: TopicPartition, before: int, timeout_ms: int = 30_000) -> int:
    return cluster.ask(1, DeleteRecordsRequest([PartitionDeleteRecords(tp, before)], timeout_ms))


def test_offsets_by_time() -> None:
    """Earliest, latest, the largest time, and the first record at or after a time."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,))
    for timestamp_ms in (1000, 3000, 2000):
        cluster.produce(1, tp, b"x", timestamp_ms=timestamp_ms)
    assert offset(cluster, 1, tp, EARLIEST_TIMESTAMP) == 0
    assert offset(cluster, 1, tp, LATEST_TIMESTAMP) == 3
    assert offset(cluster, 1, tp, MAX_TIMESTAMP) == 1
    assert offset(cluster, 1, tp, 1500) == 1
    assert offset(cluster, 1, tp, 9999) == -1
    assert offset(cluster, 1, tp, 0, epoch=3) is ErrorCode.UNKNOWN_LEADER_EPOCH
    assert offset(cluster, 1, TopicPartition("no", 0), 0) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_a_fresh_leader_does_not_know_the_end_yet() -> None:
    """OFFSET_NOT_AVAILABLE until the high watermark reaches where its epoch began."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.crash(1)
    cluster.cut[3] = None
    cluster.elect(tp, 2, (2, 3))
    assert offset(cluster, 2, tp, LATEST_TIMESTAMP) is ErrorCode.OFFSET_NOT_AVAILABLE
    assert offset(cluster, 2, tp, EARLIEST_TIMESTAMP) == 0
    assert offset(cluster, 3, tp, LATEST_TIMESTAMP) is ErrorCode.NOT_LEADER_OR_FOLLOWER
    cluster.cut.clear()
    cluster.run_for(2)
    assert offset(cluster, 2, tp, LATEST_TIMESTAMP) == 1


def test_ends_of_epochs() -> None:
    """The current epoch ends at the log end, older ones where the next began; the future is unknown without an error."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.elect(tp, 2)
    cluster.run_for(2)
    cluster.produce(2, tp, b"b")
    assert epoch_end(cluster, 2, tp, 0) == (0, 1)
    assert epoch_end(cluster, 2, tp, 1) == (1, 2)
    assert epoch_end(cluster, 2, tp, 9) == (-1, -1)


def test_delete_records_waits_for_every_live_replica() -> None:
    """The answer comes when the followers have heard of the new log start, and tells the low watermark."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    for _ in range(3):
        cluster.produce(1, tp, b"x")
    cluster.run_for(1)
    number = delete(cluster, tp, 2)
    assert number not in cluster.answers
    cluster.run_for(1.1)
    answer = cluster.answers[number].partitions[0]
    assert (answer.error, answer.low_watermark) == (NONE, 2)
    assert [cluster.replica(node, tp).log_start for node in (1, 2, 3)] == [2, 2, 2]
    assert cluster.fetch(1, tp, 0).error is ErrorCode.OFFSET_OUT_OF_RANGE
    assert offset(cluster, 1, tp, EARLIEST_TIMESTAMP) == 2


def test_delete_records_is_refused() -> None:
    """Beyond the high watermark, or where nothing may be deleted."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,))
    kept = cluster.topic("kept", replicas=(1,), cleanup_policy="compact")
    cluster.produce(1, tp, b"x")
    assert cluster.answers[delete(cluster, tp, 2)].partitions[0].error is ErrorCode.OFFSET_OUT_OF_RANGE
    assert cluster.answers[delete(cluster, kept, 0)].partitions[0].error is ErrorCode.POLICY_VIOLATION
    assert cluster.answers[delete(cluster, tp, -1)].partitions[0].low_watermark == 1


def test_delete_records_times_out_or_forgets_dead_replicas() -> None:
    """A follower that is cut off holds it up until the time is over; a fenced one is not waited for."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"x")
    cluster.run_for(1)
    cluster.cut[3] = None
    number = delete(cluster, tp, 1, timeout_ms=2_000)
    cluster.run_for(2.1)
    assert cluster.answers[number].partitions[0].error is ErrorCode.REQUEST_TIMED_OUT
    number = delete(cluster, tp, 1)
    assert number not in cluster.answers
    cluster.fence(3, True)
    assert cluster.answers[number].partitions[0].error is NONE


def test_a_log_start_is_forgotten_if_nobody_wrote_it_down() -> None:
    """It is checkpointed once a minute and at an orderly stop; after a crash before that the records are there again."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,))
    for value in (b"a", b"b", b"c"):
        cluster.produce(1, tp, value)

    def start_after(restart: str) -> int:
        if restart == "orderly":
            cluster.brokers[1].plane.shutdown(cluster.now_us)
            cluster.storages[1].stop_cleanly(1)
        cluster.crash(1)
        cluster.start(1)
        return int(cluster.replica(1, tp).log_start)

    def delete(offset: int) -> None:
        cluster.run_for(6)
        request = DeleteRecordsRequest((PartitionDeleteRecords(tp, offset),), 1000)
        assert cluster.call(1, request).partitions[0].error is NONE

    delete(1)
    assert start_after("crash") == 0
    delete(1)
    cluster.run_for(61)
    assert start_after("crash") == 1
    delete(2)
    assert start_after("orderly") == 2
