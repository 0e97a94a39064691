"""Leader side of one partition: checks and appends, counts follower fetches, moves the high watermark.

Mirrors:  kafka.cluster.Partition, Replica, LogValidator (KIP-101, KIP-497, KIP-966).
Inputs:   check, append, on_follower_fetch, advance_high_watermark, update (from metadata), commit_isr.
Rule 1:   every write to ``high_watermark`` after the start is in ``advance_high_watermark``; it never goes back here.
Rule 2:   the high watermark counts the *maximal* ISR (a pending expansion holds it back, a pending shrinking does not yet free
          it) and stands still while the committed ISR is smaller than ``min.insync.replicas``.
Rule 3:   what is only needed while somebody waits (queues, follower sessions) is made when somebody does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kafkasim.core.log.log import Log
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_OFFSET, NodeId, TopicPartition
from kafkasim.core.model.messages import EpochEnd, PartitionFetch, PartitionFetched
from kafkasim.core.model.metadata import RECOVERED
from kafkasim.core.model.records import LOG_APPEND_TIME, RecordBatch

if TYPE_CHECKING:
    from kafkasim.core.replica.session import FollowerSession

_NONE = ErrorCode.NONE

#: ``eligible(node, broker_epoch of its fetches)``: may this replica join the ISR, as far as the metadata tells?
Eligible = Callable[[NodeId, int], bool]
#: ``epoch_end(log, epoch)``: the epoch that is answered for, and where it ended.
EpochEndOf = Callable[[Log, int], tuple[int, int]]


class FollowerState:
    """What the leader knows of one follower of one partition."""

    __slots__ = (
        "broker_epoch",
        "dirty",
        "in_maximal_isr",
        "last_caught_up_us",
        "last_fetch_leader_end",
        "last_fetch_us",
        "leader",
        "log_end",
        "log_start",
        "node_id",
        "sent_high_watermark",
        "sent_log_start",
        "session",
    )

    def __init__(self, leader: LeaderReplica, node_id: NodeId) -> None:
        self.leader = leader
        self.node_id = node_id
        self.log_end = NO_OFFSET
        self.log_start = NO_OFFSET
        self.broker_epoch = NO_EPOCH
        self.in_maximal_isr = False
        self.last_caught_up_us = 0
        self.last_fetch_us = 0
        self.last_fetch_leader_end = NO_OFFSET
        self.session: FollowerSession | None = None
        self.dirty = False
        self.sent_high_watermark = NO_OFFSET
        self.sent_log_start = NO_OFFSET

    def caught_up_us(self) -> int:
        """When it was last known to hold everything."""
        session = self.session
        if session is not None and not session.closed and self.log_end >= self.leader.log.end:
            return session.last_fetch_us
        return self.last_caught_up_us

    def on_fetch(self, offset: int, leader_end: int, now_us: int) -> None:
        if offset >= leader_end:
            self.last_caught_up_us = now_us
        elif offset >= self.last_fetch_leader_end >= 0 and self.last_fetch_us > self.last_caught_up_us:
            self.last_caught_up_us = self.last_fetch_us
        self.log_end = offset
        self.last_fetch_us = now_us
        self.last_fetch_leader_end = leader_end


class LeaderReplica:
    """``isr`` is the committed one; ``pending_isr`` is what the controller has been asked for."""

    is_leader = True

    __slots__ = (
        "epoch_start",
        "followers",
        "high_watermark",
        "idle_answer",
        "isr",
        "leader_epoch",
        "leader_id",
        "log",
        "min_isr",
        "partition_epoch",
        "pending_isr",
        "recovery_state",
        "tp",
        "waiting_deletes",
        "waiting_fetches",
        "waiting_produces",
        "watch",
    )

    def __init__(self, tp: TopicPartition, log: Log, node_id: NodeId, high_watermark: int) -> None:
        self.tp = tp
        self.log = log
        self.leader_id = node_id
        self.high_watermark = high_watermark
        self.leader_epoch = NO_EPOCH
        self.partition_epoch = NO_EPOCH
        self.epoch_start = 0
        self.isr: tuple[NodeId, ...] = ()
        self.pending_isr: tuple[NodeId, ...] | None = None
        self.recovery_state = RECOVERED
        self.min_isr = 1
        self.followers: tuple[FollowerState, ...] = ()
        #: (required end offset, operation, index in it), in order of the offsets.
        self.waiting_produces: deque[tuple[int, Any, int]] | None = None
        self.waiting_fetches: dict[int, Any] | None = None
        self.waiting_deletes: list[tuple[int, Any, int]] | None = None
        self.idle_answer: PartitionFetched | None = None
        #: Which periodic checks look at this partition (bits of the node's upkeep).
        self.watch = 0

    @property
    def log_start(self) -> int:
        return self.log.start

    @property
    def log_end(self) -> int:
        return self.log.end

    # --- role and ISR ----------------------------------------------------------------------------------------------

    def become_leader(self, leader_epoch: int, now_us: int) -> None:
        """A new leader epoch begins at the log end; what followers told before counts only if they tell it again."""
        is_new_leader = self.leader_epoch == NO_EPOCH
        self.leader_epoch = leader_epoch
        self.epoch_start = self.log.end
        self.log.assign_epoch(leader_epoch)
        self.idle_answer = None
        for follower in self.followers:
            in_sync = follower.in_maximal_isr
            follower.last_caught_up_us = now_us if in_sync else 0
            follower.last_fetch_us = now_us if in_sync and not is_new_leader else 0
            follower.last_fetch_leader_end = NO_OFFSET if is_new_leader else self.log.end

    def update(
        self,
        replicas: tuple[NodeId, ...],
        isr: tuple[NodeId, ...],
        partition_epoch: int,
        recovery_state: int,
    ) -> None:
        """Metadata is newer than what is known here: take it, and forget what was pending."""
        known = {follower.node_id: follower for follower in self.followers}
        self.followers = tuple(
            known.get(node) or FollowerState(self, node) for node in replicas if node != self.leader_id
        )
        self.recovery_state = recovery_state
        self.update_min_isr()
        self.commit_isr(isr, partition_epoch)

    def update_min_isr(self) -> None:
        self.min_isr = min(self.log.settings.min_insync_replicas, len(self.followers) + 1)

    def commit_isr(self, isr: tuple[NodeId, ...], partition_epoch: int) -> None:
        self.isr = isr
        self.partition_epoch = partition_epoch
        self.pending_isr = None
        self._mark_maximal_isr(isr)

    def propose_isr(self, isr: tuple[NodeId, ...], counted: tuple[NodeId, ...]) -> None:
        """Ask for ``isr``; until that is settled ``counted`` is what holds the high watermark back."""
        assert self.pending_isr is None
        self.pending_isr = isr
        self._mark_maximal_isr(counted)

    def roll_back_isr(self) -> None:
        self.pending_isr = None
        self._mark_maximal_isr(self.isr)

    def _mark_maximal_isr(self, isr: tuple[NodeId, ...]) -> None:
        for follower in self.followers:
            inside = follower.node_id in isr
            follower.in_maximal_isr = inside
            session = follower.session
            if session is not None:
                if follower.node_id in self.isr:
                    session.outside_isr.pop(follower, None)
                else:
                    session.outside_isr[follower] = None

    def maximal_isr_size(self) -> int:
        return max(len(self.isr), len(self.pending_isr or ()))

    def follower(self, node_id: NodeId) -> FollowerState | None:
        for follower in self.followers:
            if follower.node_id == node_id:
                return follower
        return None

    def expanded_isr(
        self, follower: FollowerState, eligible: Eligible, *, at_epoch_start: bool = True
    ) -> tuple[NodeId, ...] | None:
        """The ISR with ``follower`` in it, if it may join now; ``at_epoch_start``: it needs all that this leader began with."""
        if (
            self.pending_isr is not None
            or follower.in_maximal_isr
            or follower.log_end < self.high_watermark
            or (at_epoch_start and follower.log_end < self.epoch_start)
            or not eligible(follower.node_id, follower.broker_epoch)
        ):
            return None
        return (*self.isr, follower.node_id)

    def shrunk_isr(self, lag_us: int, now_us: int) -> tuple[NodeId, ...] | None:
        """The ISR without those that have been behind for longer than ``lag_us``."""
        if self.pending_isr is not None:
            return None
        end = self.log.end
        behind = [
            follower.node_id
            for follower in self.followers
            if follower.in_maximal_isr and follower.log_end != end and now_us - follower.caught_up_us() > lag_us
        ]
        if not behind:
            return None
        return tuple(node for node in self.isr if node not in behind)

    def has_lagging_follower(self) -> bool:
        end = self.log.end
        return any(follower.in_maximal_isr and follower.log_end != end for follower in self.followers)

    # --- produce ---------------------------------------------------------------------------------------------------

    def check(self, batch: RecordBatch, acks: int, wall_ms: int) -> tuple[ErrorCode, int]:
        """May this batch be appended? (error, offset): DUPLICATE_SEQUENCE_NUMBER tells where it already stands."""
        log = self.log
        settings = log.settings
        if acks == -1 and len(self.isr) < self.min_isr:
            return ErrorCode.NOT_ENOUGH_REPLICAS, NO_OFFSET
        columns = batch.columns
        if batch.count <= 0 or batch.count != len(columns.values):
            return ErrorCode.CORRUPT_MESSAGE, NO_OFFSET
        size_bytes = batch.size_bytes
        if size_bytes > settings.max_message_bytes:
            return ErrorCode.MESSAGE_TOO_LARGE, NO_OFFSET
        if settings.compact and None in columns.keys:
            return ErrorCode.INVALID_RECORD, NO_OFFSET
        if not settings.log_append_time:
            if batch.max_timestamp_ms - wall_ms > settings.timestamp_after_max_ms:
                return ErrorCode.INVALID_TIMESTAMP, NO_OFFSET
            before_ms = settings.timestamp_before_max_ms
            if before_ms < wall_ms and wall_ms - min(columns.timestamps_ms) > before_ms:
                return ErrorCode.INVALID_TIMESTAMP, NO_OFFSET
        if size_bytes > settings.segment_bytes:
            return ErrorCode.RECORD_LIST_TOO_LARGE, NO_OFFSET
        if batch.producer_id >= 0 and log.producers is not None:
            return log.producers.check(batch, wall_ms - settings.producer_id_expiration_ms)
        return _NONE, NO_OFFSET

    def append(self, batch: RecordBatch, wall_ms: int) -> RecordBatch:
        """Place ``batch`` at the log end; the followers' sessions learn that there is something to read."""
        log = self.log
        old_end = log.end
        if log.settings.log_append_time:
            placed = batch.placed(old_end, self.leader_epoch)
            placed = RecordBatch(
                placed.columns,
                placed.count,
                placed.size_bytes,
                wall_ms,
                old_end,
                self.leader_epoch,
                placed.producer_id,
                placed.producer_epoch,
                placed.base_sequence,
                LOG_APPEND_TIME,
                placed.is_transactional,
                placed.is_control,
                placed.compression,
                placed.offsets,
            )
        else:
            placed = batch.placed(old_end, self.leader_epoch)
        log.append_as_leader(placed)
        for follower in self.followers:
            session = follower.session
            if session is not None:
                if follower.log_end == old_end and not session.closed:
                    follower.last_caught_up_us = follower.last_fetch_us = session.last_fetch_us
                    follower.last_fetch_leader_end = old_end
                if not follower.dirty:
                    follower.dirty = True
                    session.dirty.append(follower)
        return placed

    # --- follower fetch --------------------------------------------------------------------------------------------

    def on_follower_fetch(
        self, follower: FollowerState, part: PartitionFetch, epoch_end: EpochEndOf, now_us: int
    ) -> PartitionFetched | None:
        """Count one listed fetch; an answer (divergence, out of range) if the follower cannot go on from there."""
        log = self.log
        offset = part.fetch_offset
        if part.last_fetched_epoch >= 0:
            epoch, end_offset = epoch_end(log, part.last_fetched_epoch)
            if epoch == NO_EPOCH:
                return PartitionFetched(self.tp, ErrorCode.OFFSET_OUT_OF_RANGE)
            if epoch < part.last_fetched_epoch or end_offset < offset:
                return PartitionFetched(
                    self.tp,
                    _NONE,
                    self.high_watermark,
                    self.high_watermark,
                    log.start,
                    diverging=EpochEnd(epoch, end_offset),
                )
        if not log.start <= offset <= log.end:
            return PartitionFetched(self.tp, ErrorCode.OFFSET_OUT_OF_RANGE)
        follower.log_start = part.log_start_offset
        follower.on_fetch(offset, log.end, now_us)
        return None

    # --- high watermark --------------------------------------------------------------------------------------------

    def advance_high_watermark(self, now_us: int, lag_us: int, eligible: Eligible) -> bool:
        """Raise it to what every replica that counts has; True if it moved."""
        if len(self.isr) < self.min_isr:
            return False
        end = candidate = self.log.end
        for follower in self.followers:
            follower_end = follower.log_end
            if follower_end < candidate and (
                follower.in_maximal_isr
                or (
                    now_us - follower.last_caught_up_us <= lag_us
                    and follower_end < end
                    and follower.last_caught_up_us > 0
                    and eligible(follower.node_id, follower.broker_epoch)
                )
            ):
                candidate = follower_end
        if candidate <= self.high_watermark:
            return False
        self.high_watermark = candidate
        self.idle_answer = None
        for follower in self.followers:
            session = follower.session
            if session is not None and not follower.dirty:
                follower.dirty = True
                session.dirty.append(follower)
        return True

    def log_start_raised(self) -> None:
        """The followers are to hear of a new log start."""
        self.idle_answer = None
        for follower in self.followers:
            if follower.session is not None:
                follower.session.mark(follower)

    def low_watermark(self, alive: Callable[[NodeId], bool]) -> int:
        """The smallest log start of the replicas that live."""
        low = self.log.start
        for follower in self.followers:
            if follower.log_start < low and alive(follower.node_id):
                low = follower.log_start
        return low

    def fetched(self, batches: tuple[RecordBatch, ...]) -> PartitionFetched:
        high_watermark = self.high_watermark
        return PartitionFetched(self.tp, _NONE, high_watermark, high_watermark, self.log.start, batches)
