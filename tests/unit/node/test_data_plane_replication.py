"""Replication over three data planes: fail-over, truncation, ISR, checkpoints, sessions, upkeep."""

from __future__ import annotations

from tests.unit.node.plane_cluster import PlaneCluster, produce_request

from kafkasim.core.model.admin_messages import TOPIC_RESOURCE
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import FetchRequest, PartitionFetch
from kafkasim.core.model.metadata import ConfigRecord, PartitionChangeRecord

NONE = ErrorCode.NONE


def test_acks_one_records_are_lost_and_their_offsets_used_again() -> None:
    """The old leader cuts off what the new one never had, as recorded from real brokers."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"warm")
    cluster.cut.update({2: None, 3: None})
    for value in (b"r1", b"r2", b"r3"):
        assert cluster.produce(1, tp, value, acks=1).error is NONE
    cluster.crash(1)
    cluster.cut.clear()
    cluster.elect(tp, 2, (2, 3))
    cluster.run_for(2)
    assert cluster.produce(2, tp, b"r4").base_offset == 1
    cluster.start(1)
    cluster.run_for(3)
    for node in (1, 2, 3):
        assert cluster.values(node, tp) == [b"warm", b"r4"]
    assert cluster.state(tp).isr == (1, 2, 3)


def test_a_zombie_leader_accepts_acks_one_until_it_learns_the_epoch() -> None:
    """That data is truncated later; acks=all can never commit there."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.cut[1] = None
    cluster.elect(tp, 2, (2, 3), publish=False)
    cluster.publish(2, 3)
    cluster.run_for(1)
    assert cluster.produce(1, tp, b"zombie", acks=1).error is NONE
    number = cluster.ask(1, produce_request(tp, cluster.batch(b"never")))
    assert cluster.produce(2, tp, b"b").error is NONE
    assert number not in cluster.answers
    cluster.cut.clear()
    cluster.publish()
    assert cluster.answers[number].partitions[0].error is ErrorCode.NOT_LEADER_OR_FOLLOWER
    cluster.run_for(2)
    assert cluster.values(1, tp) == [b"a", b"b"]


def test_a_stuck_follower_is_removed_after_one_to_one_and_a_half_lag_times() -> None:
    """isr-expiration runs every half lag time, and only counts a follower whose log end differs."""
    cluster = PlaneCluster(static={"replica.lag.time.max.ms": "3000"})
    tp = cluster.topic()
    cluster.run_for(1)
    cluster.cut[3] = None
    cluster.run_for(10)
    assert cluster.state(tp).isr == (1, 2, 3)
    before_us = cluster.now_us
    number = cluster.ask(1, produce_request(tp, cluster.batch(b"a")))
    while number not in cluster.answers and cluster.now_us < before_us + 10_000_000:
        cluster.run_for(0.1)
    assert cluster.answers[number].partitions[0].error is NONE
    assert cluster.now_us - before_us <= 4_600_000
    assert cluster.state(tp).isr == (1, 2)
    assert cluster.brokers[1].plane.deadline_us > cluster.now_us


def test_a_live_but_slow_commit_keeps_the_isr() -> None:
    """A follower that keeps fetching is never behind for longer than one round."""
    cluster = PlaneCluster(static={"replica.lag.time.max.ms": "3000"})
    tp = cluster.topic()
    for _ in range(20):
        cluster.produce(1, tp, b"x")
        cluster.run_for(0.5)
    assert cluster.state(tp).isr == (1, 2, 3)


def test_an_idle_follower_rejoins_without_a_write() -> None:
    """It joins at a fetch after it was unfenced, though nothing changed in the partition."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.fence(3, True)
    cluster.change(PartitionChangeRecord(cluster.state(tp).topic_id, 0, isr=(1, 2)))
    cluster.run_for(2)
    assert cluster.state(tp).isr == (1, 2)
    cluster.fence(3, False)
    cluster.run_for(0.6)
    assert cluster.state(tp).isr == (1, 2, 3)


def test_a_refused_expansion_is_rolled_back_and_tried_again() -> None:
    """INELIGIBLE_REPLICA leaves the committed ISR in force."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.change(PartitionChangeRecord(cluster.state(tp).topic_id, 0, isr=(1, 2)), publish=False)
    cluster.refuse_isr_changes = ErrorCode.INELIGIBLE_REPLICA
    cluster.publish()
    cluster.run_for(1)
    leader = cluster.replica(1, tp)
    assert (leader.isr, leader.pending_isr) == ((1, 2), None)
    cluster.refuse_isr_changes = None
    cluster.run_for(0.6)
    assert cluster.state(tp).isr == (1, 2, 3)


def test_a_restarted_replica_begins_with_the_checkpointed_high_watermark() -> None:
    """Log content survives the process; the high watermark only as it was written down, at most five seconds ago."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,))
    cluster.produce(1, tp, b"a")
    cluster.run_for(5)
    cluster.produce(1, tp, b"b")
    assert cluster.storages[1].logs[tp].checkpointed_high_watermark == 1
    cluster.crash(1)
    cluster.start(1)
    assert cluster.values(1, tp) == [b"a", b"b"]
    assert cluster.replica(1, tp).high_watermark == 2  # alone in the ISR it commits its whole log at once


def test_power_loss_of_one_broker_is_made_good_by_the_others() -> None:
    """What was not flushed is gone; the replica copies it again."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    for value in (b"a", b"b"):
        cluster.produce(1, tp, value)
    cluster.crash(3, power=True)
    assert cluster.storages[3].logs[tp].end == 0
    cluster.start(3)
    cluster.run_for(3)
    assert cluster.values(3, tp) == [b"a", b"b"]


def test_a_clean_stop_flushes_and_checkpoints() -> None:
    """Then even a loss of power loses nothing."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,))
    cluster.produce(1, tp, b"a")
    cluster.brokers[1].plane.shutdown(cluster.now_us)
    cluster.crash(1, power=True)
    log = cluster.storages[1].logs[tp]
    assert (log.end, log.checkpointed_high_watermark) == (1, 1)


def test_idle_partitions_cost_no_work_in_a_session() -> None:
    """After the first round a fetch names no partition, and its answer is empty, however many there are."""
    cluster = PlaneCluster()
    cluster.topic(partitions=50)
    cluster.run_for(2)
    seen: list[FetchRequest] = []
    plane = cluster.brokers[1].plane
    handle = plane.on_request

    def watch(call: object, now_us: int) -> None:
        seen.append(call.request)  # type: ignore[attr-defined]
        handle(call, now_us)  # type: ignore[arg-type]

    plane.on_request = watch  # type: ignore[method-assign]
    cluster.run_for(2)
    assert len(seen) == 8  # two followers, two long polls a second each
    assert all(request.partitions == [] and request.session_epoch > 0 for request in seen)


def test_a_lost_session_is_made_anew() -> None:
    """A leader that does not know the session says so, and the follower lists everything again."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.settle()
    plane = cluster.brokers[1].plane
    plane._fetches._sessions.clear()
    cluster.run_for(1)
    assert cluster.produce(1, tp, b"a").error is NONE


def test_sessions_check_their_epoch() -> None:
    """A repeated or skipped request of a session is refused as a whole."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1, 2))
    parts = [PartitionFetch(tp, 0, 1000, 0, -1, 0)]
    opened = cluster.call(1, FetchRequest(2, 0, 1, 10_000, parts, session_epoch=0))
    assert opened.session_id > 0
    wrong = cluster.call(1, FetchRequest(2, 0, 1, 10_000, [], session_id=opened.session_id, session_epoch=5))
    assert wrong.error is ErrorCode.INVALID_FETCH_SESSION_EPOCH
    lost = cluster.call(1, FetchRequest(2, 0, 1, 10_000, [], session_id=opened.session_id + 1, session_epoch=1))
    assert lost.error is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_broker_that_is_no_replica_is_told_to_wait_for_metadata() -> None:
    """UNKNOWN_LEADER_EPOCH: the leader may yet hear of the reassignment."""
    cluster = PlaneCluster(2)
    tp = cluster.topic(replicas=(1, 2))
    parts = [PartitionFetch(tp, 0, 1000, 0, -1, 0)]
    answer = cluster.call(1, FetchRequest(9, 0, 1, 10_000, parts, session_epoch=0, replica_epoch=5))
    assert answer.partitions[0].error is ErrorCode.UNKNOWN_LEADER_EPOCH


def test_a_new_replica_copies_from_the_log_start() -> None:
    """Its empty log is out of range of a leader whose log begins later; it starts where the leader's does."""
    cluster = PlaneCluster()
    tp = cluster.topic(replicas=(1, 2), segment_bytes="1048576", retention_ms="1000")
    for n in range(3):
        cluster.produce(1, tp, b"%d" % n)
    cluster.run_for(40)
    assert cluster.replica(1, tp).log_start == 3
    cluster.produce(1, tp, b"late")
    cluster.change(PartitionChangeRecord(cluster.state(tp).topic_id, 0, replicas=(1, 2, 3), adding_replicas=(3,)))
    cluster.run_for(3)
    assert cluster.values(3, tp) == [b"late"]
    assert (cluster.replica(3, tp).log_start, cluster.replica(3, tp).log_end) == (3, 4)
    assert cluster.state(tp).isr == (1, 2, 3)


def test_a_deleted_topic_leaves_nothing_and_its_name_can_come_back() -> None:
    """Replicas, logs and fetchers go; a new topic of the name begins empty."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.delete("t")
    cluster.settle()
    assert all(cluster.replica(node, tp) is None for node in (1, 2, 3))
    assert all(not storage.logs for storage in cluster.storages.values())
    tp = cluster.topic()
    assert cluster.produce(1, tp, b"b").base_offset == 0
    cluster.run_for(1)
    assert cluster.values(3, tp) == [b"b"]


def test_config_changes_take_effect_at_once() -> None:
    """max.message.bytes and min.insync.replicas are read where they are needed."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.change(ConfigRecord(TOPIC_RESOURCE, "t", "max.message.bytes", "10"))
    assert cluster.produce(1, tp, b"a").error is ErrorCode.MESSAGE_TOO_LARGE
    cluster.change(ConfigRecord(TOPIC_RESOURCE, "t", "max.message.bytes", None))
    assert cluster.produce(1, tp, b"a").error is NONE


def test_the_same_leader_in_a_new_epoch_goes_on() -> None:
    """Followers are fenced, hear the new epoch from metadata, and go on; nothing is lost or written twice."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.elect(tp, 1)
    cluster.run_for(1.5)
    assert cluster.produce(1, tp, b"b").error is NONE
    cluster.run_for(1)
    assert cluster.values(3, tp) == [b"a", b"b"]
    assert cluster.replica(1, tp).log.epochs == ((0, 0), (1, 1))


def test_followers_delete_by_their_own_retention_and_partition_zero_is_not_special() -> None:
    """Retention runs on every replica; several partitions expire each for itself."""
    cluster = PlaneCluster()
    cluster.topic(partitions=2, retention_ms="1000")
    one = TopicPartition("t", 1)
    cluster.produce(1, one, b"a")
    cluster.run_for(400)
    assert [cluster.replica(node, one).log_start for node in (1, 2, 3)] == [1, 1, 1]


def test_a_follower_that_changes_leaders_twice_in_a_row_lists_itself_at_the_second() -> None:
    """What it wanted to tell the first, still polling, leader is not held against it at the second."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.settle()
    cluster.elect(tp, 3)
    cluster.run_for(3)
    cluster.elect(tp, 3, publish=False)
    cluster.publish(2)
    cluster.elect(tp, 1)
    cluster.run_for(3)
    assert cluster.produce(1, tp, b"a").error is NONE
    assert cluster.values(2, tp) == [b"a"]


def test_the_flusher_flushes_by_time_where_it_is_switched_on() -> None:
    """flush.ms counts from the last flush, and only while log.flush.scheduler.interval.ms lets somebody look."""
    cluster = PlaneCluster(1, {"log.flush.scheduler.interval.ms": "1000"})
    slow, fast = cluster.topic("slow", (1,), flush_ms="40000"), cluster.topic("fast", (1,))
    never = PlaneCluster(1)
    other = never.topic("t", (1,), flush_ms="1000")
    for plane, tp in ((cluster, slow), (cluster, fast), (never, other)):
        plane.produce(1, tp, b"a")
        plane.run_for(31)
    assert cluster.storages[1].logs[fast].flushed == 1
    assert cluster.storages[1].logs[slow].flushed == 1
    assert never.storages[1].logs[other].flushed == 0
    cluster.produce(1, slow, b"b")
    cluster.produce(1, fast, b"b")
    cluster.run_for(2)
    assert cluster.storages[1].logs[fast].flushed == 2
    assert cluster.storages[1].logs[slow].flushed == 1
    cluster.run_for(40)
    assert cluster.storages[1].logs[slow].flushed == 2


def test_a_compacted_log_rolls_in_time_for_its_largest_lag() -> None:
    """max.compaction.lag.ms bounds the age of the active segment, so that a quiet key is compacted in time."""
    cluster = PlaneCluster(1)
    tp = cluster.topic(replicas=(1,), cleanup_policy="compact", max_compaction_lag_ms="10000")
    cluster.produce(1, tp, b"old", keys=[b"k"])
    cluster.run_for(11)
    cluster.produce(1, tp, b"new", keys=[b"k"])
    cluster.run_for(1)
    assert [segment.base_offset for segment in cluster.replica(1, tp).log.segments] == [0, 1]
