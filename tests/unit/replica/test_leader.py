"""The leader's own rules: who counts for the high watermark, who may join, who must leave."""

from __future__ import annotations

from kafkasim.core.log.log import Log
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import PartitionFetch
from kafkasim.core.model.records import batch_of
from kafkasim.core.replica.leader import LeaderReplica

TP = TopicPartition("t", 0)
LAG_US = 30_000_000
NOW_US = 100_000_000


def leader(isr: tuple[int, ...] = (1, 2, 3), min_isr: int = 1, records: int = 3) -> LeaderReplica:
    replica = LeaderReplica(TP, Log("id", LogSettings(min_insync_replicas=min_isr)), 1, 0)
    replica.update((1, 2, 3), isr, 0, 0)
    replica.become_leader(0, NOW_US)
    for _ in range(records):
        replica.append(batch_of([b"x"]), 0)
    return replica


def fetch(replica: LeaderReplica, node: int, offset: int, now_us: int = NOW_US, epoch: int = -1) -> object:
    follower = replica.follower(node)
    assert follower is not None
    return replica.on_follower_fetch(follower, PartitionFetch(TP, offset, 1000, 0, epoch, 0), Log.epoch_end, now_us)


def advance(replica: LeaderReplica, now_us: int = NOW_US) -> int:
    replica.advance_high_watermark(now_us, LAG_US, lambda node, epoch: True)
    return replica.high_watermark


def test_the_high_watermark_is_the_smallest_end_of_the_isr() -> None:
    """A follower that never fetched holds it back; it never goes down."""
    replica = leader()
    fetch(replica, 2, 3)
    assert advance(replica) == 0
    fetch(replica, 3, 2)
    assert advance(replica) == 2
    fetch(replica, 3, 1)
    assert advance(replica) == 2


def test_it_stands_still_under_min_isr() -> None:
    """Whatever the followers have."""
    replica = leader(isr=(1,), min_isr=2)
    assert advance(replica) == 0


def test_a_caught_up_outsider_holds_it_back_before_it_joins() -> None:
    """Else it would be committed to without having the records."""
    replica = leader(isr=(1, 2), records=1)
    fetch(replica, 2, 1)
    fetch(replica, 3, 1)
    assert advance(replica) == 1
    replica.append(batch_of([b"y"]), 0)
    fetch(replica, 2, 2)
    assert advance(replica) == 1
    assert advance(replica, NOW_US + LAG_US + 1) == 2


def test_a_pending_expansion_counts_and_a_pending_shrinking_does_not() -> None:
    """The maximal ISR: the stricter reading of what may be in force at the controller."""
    replica = leader(isr=(1, 2))
    replica.propose_isr((1, 2, 3), (1, 2, 3))
    fetch(replica, 2, 3)
    assert advance(replica) == 0
    replica.roll_back_isr()
    assert advance(replica) == 3
    replica.append(batch_of([b"y"]), 0)
    replica.propose_isr((1,), (1, 2))
    assert advance(replica) == 3
    replica.commit_isr((1,), 1)
    assert advance(replica, NOW_US + LAG_US + 1) == 4


def test_joining_needs_the_high_watermark_and_the_epoch_start() -> None:
    """And that the metadata calls the broker eligible."""
    replica = leader(isr=(1,))
    advance(replica)
    follower = replica.follower(2)
    assert follower is not None
    fetch(replica, 2, 2)
    assert replica.expanded_isr(follower, lambda node, epoch: True) is None
    fetch(replica, 2, 3)
    assert replica.expanded_isr(follower, lambda node, epoch: False) is None
    assert replica.expanded_isr(follower, lambda node, epoch: True) == (1, 2)


def test_before_kafka_7128_the_high_watermark_was_enough() -> None:
    """What the leader began with, and does not know as committed yet, may be missing at who joins."""
    replica = leader(isr=(1, 2))
    replica.become_leader(7, NOW_US)
    assert replica.high_watermark < replica.epoch_start
    fetch(replica, 3, replica.high_watermark)
    follower = replica.follower(3)
    assert follower is not None
    assert replica.expanded_isr(follower, lambda node, epoch: True) is None
    assert replica.expanded_isr(follower, lambda node, epoch: True, at_epoch_start=False) == (1, 2, 3)


def test_leaving_needs_a_different_end_and_a_long_time() -> None:
    """A dead follower of an idle partition stays; one that fetches but lags is given the lag time."""
    replica = leader()
    for node in (2, 3):
        fetch(replica, node, 3)
    late_us = NOW_US + LAG_US + 1
    assert replica.shrunk_isr(LAG_US, late_us) is None
    replica.append(batch_of([b"y"]), 0)
    fetch(replica, 2, 4, late_us)
    assert replica.shrunk_isr(LAG_US, late_us - 1) is None
    assert replica.shrunk_isr(LAG_US, late_us) == (1, 2)


def test_a_follower_that_reaches_the_end_of_the_fetch_before_was_caught_up_then() -> None:
    """Under constant load nobody is ever at the very end, yet nobody lags."""
    replica = leader()
    fetch(replica, 2, 0, NOW_US + 1)
    replica.append(batch_of([b"y"]), 0)
    fetch(replica, 2, 3, NOW_US + 2)
    follower = replica.follower(2)
    assert follower is not None
    assert follower.caught_up_us() == NOW_US + 1


def test_a_fetch_from_another_history_is_told_where_it_diverges() -> None:
    """By epoch; and it changes nothing that the leader knows of the follower."""
    replica = leader()
    replica.become_leader(2, NOW_US)
    replica.append(batch_of([b"y"]), 0)
    answer = fetch(replica, 2, 5, epoch=1)
    assert answer.diverging.epoch == 0  # type: ignore[attr-defined]
    assert answer.diverging.end_offset == 3  # type: ignore[attr-defined]
    assert fetch(replica, 2, 3, epoch=0) is None
    unknown = fetch(replica, 3, 9, epoch=7)
    assert unknown.error is ErrorCode.OFFSET_OUT_OF_RANGE  # type: ignore[attr-defined]
