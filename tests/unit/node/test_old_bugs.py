"""Bugs that Kafka once had: each comes back when its protection is taken away, and stays away when it is there."""

from __future__ import annotations

import pytest
from tests.unit.node.plane_cluster import PlaneCluster, produce_request

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.metadata import PartitionChangeRecord

NONE = ErrorCode.NONE
protected = pytest.mark.parametrize("protected", [True, False], ids=["protected", "as before"])


@protected
def test_a_follower_that_restarts_after_the_acknowledgement_keeps_the_record(protected: bool) -> None:
    """KIP-101, first scenario: its high watermark lags one fetch; cut there, it loses what was acknowledged."""
    cluster = PlaneCluster(2, features={"epoch_truncation": protected})
    tp = cluster.topic(replicas=(1, 2))
    cluster.produce(1, tp, b"a")
    cluster.run_for(6)
    assert cluster.produce(1, tp, b"b").error is NONE
    assert cluster.replica(2, tp).high_watermark == 1
    cluster.crash(2)
    cluster.start(2)
    cluster.crash(1)  # before the restarted follower got an answer
    cluster.elect(tp, 2, (2,))
    assert cluster.values(2, tp) == ([b"a", b"b"] if protected else [b"a"])


@protected
def test_two_power_losses_do_not_make_logs_diverge(protected: bool) -> None:
    """KIP-101, second scenario: the one that kept its log has a high watermark above what the other wrote anew."""
    cluster = PlaneCluster(2, features={"epoch_truncation": protected})
    tp = cluster.topic(replicas=(1, 2))
    cluster.produce(1, tp, b"a")
    cluster.storages[2].flush()
    cluster.produce(1, tp, b"b")
    cluster.run_for(6)
    cluster.storages[1].flush()
    cluster.crash(1, power=True)
    cluster.crash(2, power=True)
    cluster.elect(tp, 2, (2,))
    cluster.start(2)
    cluster.produce(2, tp, b"c")
    cluster.produce(2, tp, b"d")
    cluster.start(1)
    cluster.run_for(3)
    assert cluster.values(2, tp) == [b"a", b"c", b"d"]
    assert cluster.values(1, tp) == ([b"a", b"c", b"d"] if protected else [b"a", b"b", b"d"])


@protected
def test_fast_elections_do_not_make_logs_diverge(protected: bool) -> None:
    """KIP-279: the leader never saw the epoch in between; where the next began says nothing of where that one parted."""
    cluster = PlaneCluster(2, features={"epoch_answer_below": protected})
    tp = cluster.topic(replicas=(1, 2))
    cluster.produce(1, tp, b"x")
    cluster.auto_publish = False
    cluster.cut[2] = None
    for value in (b"a1", b"a2", b"a3", b"a4"):
        cluster.produce(1, tp, value, acks=1)
    cluster.elect(tp, 2)
    cluster.publish(2)
    for value in (b"b1", b"b2"):
        cluster.produce(2, tp, value, acks=1)
    cluster.elect(tp, 1)
    cluster.cut.clear()
    cluster.publish()
    cluster.run_for(3)
    assert cluster.values(1, tp) == [b"x", b"a1", b"a2", b"a3", b"a4"]
    assert cluster.values(2, tp) == (
        [b"x", b"a1", b"a2", b"a3", b"a4"] if protected else [b"x", b"b1", b"b2", b"a3", b"a4"]
    )


@protected
def test_a_zombie_follower_does_not_get_into_the_isr(protected: bool) -> None:
    """KIP-320: a follower of an older epoch holds other records at the offsets that it claims to have."""
    cluster = PlaneCluster(3, features={"fetch_epoch_check": protected})
    tp = cluster.topic()
    cluster.produce(1, tp, b"x")
    cluster.auto_publish = False
    cluster.cut[2] = None
    cluster.produce(1, tp, b"a", acks=1)  # reaches 3
    cluster.cut.clear()
    cluster.elect(tp, 2, (1, 2))
    cluster.publish(1, 2)  # 3 does not hear of it
    cluster.run_for(0.1)
    assert cluster.produce(2, tp, b"b").error is NONE
    cluster.elect(tp, 1)
    cluster.publish(1, 2)
    cluster.run_for(3)
    assert cluster.values(1, tp) == [b"x", b"b"]
    assert cluster.values(3, tp) == [b"x", b"a"]
    assert cluster.state(tp).isr == ((1, 2) if protected else (1, 2, 3))


@protected
def test_nobody_cuts_a_log_by_the_word_of_another_epoch(protected: bool) -> None:
    """KIP-320: who leads again has not heard of it, still holds what it will cut, and so keeps others from cutting it."""
    cluster = PlaneCluster(3, features={"truncation_epoch_check": protected})
    tp = cluster.topic()
    cluster.produce(1, tp, b"x")
    cluster.run_for(1)
    cluster.auto_publish = False
    cluster.cut[2] = None
    cluster.produce(1, tp, b"a", acks=1)  # reaches 3, and not 2
    cluster.run_for(0.1)
    cluster.cut.clear()
    cluster.elect(tp, 2)
    cluster.publish(2)
    first = len(cluster.records)
    cluster.elect(tp, 1)
    cluster.publish(3)  # asks 1, which is in the first epoch as yet, once its fetch is over
    cluster.run_for(0.7)
    cluster.publish(1, up_to=first)  # 1 follows 2, and cuts its log
    cluster.run_for(0.1)
    cluster.publish(1, 2)
    cluster.produce(1, tp, b"b", acks=1)
    cluster.run_for(3)
    assert cluster.values(1, tp) == [b"x", b"b"]
    assert cluster.values(3, tp) == ([b"x", b"b"] if protected else [b"x", b"a"])


@protected
def test_a_replica_that_joins_holds_the_high_watermark_back(protected: bool) -> None:
    """KIP-497: the controller may have put it into the ISR, and elect it, before the leader hears of that."""
    cluster = PlaneCluster(3, features={"maximal_isr": protected})
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.cut.update({2: None, 3: None})
    cluster.change(PartitionChangeRecord(cluster.state(tp).topic_id, 0, isr=(1, 2)))
    cluster.lose_isr_changes = True
    number = cluster.ask(1, produce_request(tp, cluster.batch(b"b")))
    cluster.settle()
    leader = cluster.replica(1, tp)
    del cluster.cut[3]
    cluster.step_until(lambda: leader.pending_isr is not None)  # 3 fetched from the high watermark on: it may join
    cluster.cut[3] = None
    cluster.change(PartitionChangeRecord(cluster.state(tp).topic_id, 0, isr=(1, 2, 3)), publish=False)
    del cluster.cut[2]
    cluster.run_for(2)
    assert cluster.replica(2, tp).log_end == 2
    assert (number in cluster.answers) is not protected
    cluster.crash(1)
    cluster.elect(tp, 3, (2, 3))
    assert cluster.values(3, tp) == [b"a"]


@protected
def test_a_replica_that_lags_is_not_offered_to_readers_of_its_rack(protected: bool) -> None:
    """KAFKA-14372: it holds the offset that is asked for, and will be behind for as long as it is cut off."""
    selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    cluster = PlaneCluster(
        3,
        {"replica.selector.class": selector},
        racks={1: "a", 2: "b", 3: "c"},
        features={"in_sync_read_replica": protected},
    )
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.run_for(3)
    assert cluster.fetch(1, tp, 1, rack_id="c").preferred_read_replica == 3
    cluster.cut[3] = None
    cluster.change(PartitionChangeRecord(cluster.state(tp).topic_id, 0, isr=(1, 2)))
    assert cluster.fetch(1, tp, 1, rack_id="c").preferred_read_replica == (-1 if protected else 3)


@protected
def test_a_follower_hides_what_is_not_committed(protected: bool) -> None:
    """KIP-392: what its leader may still lose is nobody's to read."""
    cluster = PlaneCluster(3, features={"committed_follower_reads": protected})
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.run_for(3)
    cluster.cut[2] = None
    cluster.ask(1, produce_request(tp, cluster.batch(b"b")))
    cluster.run_for(0.1)
    follower = cluster.replica(3, tp)
    assert (follower.high_watermark, follower.log_end) == (1, 2)
    assert len(cluster.fetch(3, tp, 1).batches) == (0 if protected else 1)


def test_a_leader_that_skips_epochs_believes_what_it_heard_before() -> None:
    """Kafka's own, as of 4.3 (``Replica.resetReplicaState``): until the follower fetches again, its old log end counts."""
    cluster = PlaneCluster(3)
    tp = cluster.topic()
    cluster.produce(1, tp, b"x")
    cluster.run_for(1)
    cluster.auto_publish = False
    cluster.cut[3] = None
    cluster.produce(1, tp, b"a", acks=1)
    cluster.run_for(1)
    assert cluster.replica(1, tp).follower(2).log_end == 2
    cluster.cut.clear()
    cluster.elect(tp, 3)
    cluster.publish(2, 3)
    cluster.run_for(1)
    assert cluster.replica(2, tp).log_end == 1
    cluster.cut[2] = None
    cluster.elect(tp, 1, (1, 2))
    cluster.publish(1)  # of both elections at once
    leader = cluster.replica(1, tp)
    assert (leader.leader_epoch, leader.high_watermark) == (2, 2)
    assert cluster.replica(2, tp).log_end == 1
