"""The rules of replication that Kafka once did otherwise: each the one of today, and the one from before its KIP.

Mirrors:  AbstractFetcherThread, LeaderEpochFileCache, Partition.checkCurrentLeaderEpoch, PartitionState.maximalIsr; and their ancestors.
Inputs:   ``rules_of(protections)`` when a broker starts; leader, follower and fetch path ask the result.
Rule 1:   today's rules are the default everywhere; an older one is chosen as a whole, and nothing else looks at a protection.
Rule 2:   what an older rule has to remember it keeps here, so that replicas carry nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING

from kafkasim.core.log.log import Log
from kafkasim.core.model.ids import NO_EPOCH, NodeId
from kafkasim.core.model.message import message
from kafkasim.core.model.protections import ALL_PROTECTIONS, Protections

if TYPE_CHECKING:
    from kafkasim.core.replica.follower import FollowerReplica

Isr = tuple[NodeId, ...]


# --- where a follower cuts its log -------------------------------------------------------------------------------------


class TruncationOnFetch:
    """Every fetch tells the epoch of the last record; the leader says where the logs part (KIP-101, KIP-595)."""

    __slots__ = ()

    def begin(self, replica: FollowerReplica) -> None:
        """A new leader epoch: nothing is cut before the leader was asked."""

    def last_fetched_epoch(self, replica: FollowerReplica) -> int:
        return replica.log.latest_epoch

    def agreed(self, replica: FollowerReplica) -> None:
        """The leader found nothing to cut."""

    def questions(self, members: Container[FollowerReplica]) -> Sequence[FollowerReplica]:
        """Who has to ask its leader where their logs part before it may fetch."""
        return ()


class TruncationAtHighWatermark(TruncationOnFetch):
    """Before KIP-101: what is above the own high watermark goes at once, and nobody compares epochs."""

    __slots__ = ()

    def begin(self, replica: FollowerReplica) -> None:
        replica.truncate_to(replica.high_watermark)

    def last_fetched_epoch(self, replica: FollowerReplica) -> int:
        return NO_EPOCH


class TruncationBeforeFetching(TruncationOnFetch):
    """Before KIP-320: the epochs are compared once in a leader epoch; the fetches after that carry none."""

    __slots__ = ("_comparing",)

    def __init__(self) -> None:
        self._comparing: dict[FollowerReplica, None] = {}

    def begin(self, replica: FollowerReplica) -> None:
        self._comparing[replica] = None

    def last_fetched_epoch(self, replica: FollowerReplica) -> int:
        return replica.log.latest_epoch if replica in self._comparing else NO_EPOCH

    def agreed(self, replica: FollowerReplica) -> None:
        self._comparing.pop(replica, None)


class TruncationByQuestion(TruncationBeforeFetching):
    """The same by a request of its own, which the leader answers in whatever epoch it is; the fetches after it are fenced."""

    __slots__ = ()

    def begin(self, replica: FollowerReplica) -> None:
        if replica.log.latest_epoch != NO_EPOCH:
            self._comparing[replica] = None

    def last_fetched_epoch(self, replica: FollowerReplica) -> int:
        return NO_EPOCH

    def questions(self, members: Container[FollowerReplica]) -> Sequence[FollowerReplica]:
        return [replica for replica in self._comparing if replica in members and replica.is_fetching]


# --- where an epoch ended, as a leader tells it ------------------------------------------------------------------------


def end_of_epoch_or_below(log: Log, epoch: int) -> tuple[int, int]:
    """The largest known epoch at most the asked one, and its end (KIP-279)."""
    return log.epoch_end(epoch)


def start_of_next_epoch(log: Log, epoch: int) -> tuple[int, int]:
    """Before KIP-279: the start of the next larger epoch, told as if the asked one were known and had ended there."""
    epochs = log.epochs
    if not epochs or not epochs[0][0] <= epoch <= epochs[-1][0]:
        return log.epoch_end(epoch)
    return epoch, next((start for known, start in epochs if known > epoch), log.end)


# --- whether a fetch is of the leader epoch in force -------------------------------------------------------------------


def refuse_other_epochs(asked: int, own: int) -> bool:
    """A fetch that names another epoch is of a zombie, or for one (KIP-320)."""
    return asked != own and asked >= 0


def refuse_no_epoch(asked: int, own: int) -> bool:
    """Before KIP-320 a fetch carried no epoch."""
    return False


# --- which replicas hold the high watermark back -----------------------------------------------------------------------


def maximal_isr(committed: Isr, proposed: Isr) -> Isr:
    """Those that join count at once, those that leave until that is committed (KIP-497)."""
    return proposed if len(proposed) > len(committed) else committed


def committed_isr(committed: Isr, proposed: Isr) -> Isr:
    """Only those that the controller is known to have in the ISR."""
    return committed


# --- which replicas a consumer may be sent to --------------------------------------------------------------------------


def in_sync_only(node: NodeId, isr: Isr) -> bool:
    """A replica that lags would keep its readers behind for as long as it lags (KAFKA-14372)."""
    return node in isr


def any_replica(node: NodeId, isr: Isr) -> bool:
    """Before KAFKA-14372: whoever holds the offset that is asked for."""
    return True


@message
class ReplicationRules:
    """One value a broker.

    ``waits_for_joiners``: a caught-up replica holds the high watermark back though it is in no ISR yet (KIP-497). ``joins_at_epoch_start``:
    who joins the ISR has all that the leader began with, not only what it knows as committed (KAFKA-7128). ``hides_unsettled_end``: until
    the high watermark has reached that point the leader does not tell an end offset (KIP-207). ``hides_uncommitted``: a follower gives
    consumers what it knows as committed, and no more (KIP-392).
    """

    truncation: TruncationOnFetch
    epoch_end: Callable[[Log, int], tuple[int, int]] = end_of_epoch_or_below
    refuses_epoch: Callable[[int, int], bool] = refuse_other_epochs
    counted_isr: Callable[[Isr, Isr], Isr] = maximal_isr
    waits_for_joiners: bool = True
    joins_at_epoch_start: bool = True
    hides_unsettled_end: bool = True
    may_be_read: Callable[[NodeId, Isr], bool] = in_sync_only
    hides_uncommitted: bool = True


def rules_of(protections: Protections = ALL_PROTECTIONS) -> ReplicationRules:
    if not protections.epoch_truncation:
        truncation: TruncationOnFetch = TruncationAtHighWatermark()
    elif not protections.fetch_epoch_check:
        truncation = TruncationBeforeFetching()
    elif not protections.truncation_epoch_check:
        truncation = TruncationByQuestion()
    else:
        truncation = TruncationOnFetch()
    return ReplicationRules(
        truncation,
        end_of_epoch_or_below if protections.epoch_answer_below else start_of_next_epoch,
        refuse_other_epochs if protections.fetch_epoch_check else refuse_no_epoch,
        maximal_isr if protections.maximal_isr else committed_isr,
        protections.maximal_isr,
        protections.epoch_start_check,
        protections.settled_end_offset,
        in_sync_only if protections.in_sync_read_replica else any_replica,
        protections.committed_follower_reads,
    )
