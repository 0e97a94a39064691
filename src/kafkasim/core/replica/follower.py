"""Follower side: one replica that copies its leader, and one fetcher per leader broker that asks for all of them at once.

Mirrors:  ReplicaFetcherThread, AbstractFetcherThread, FetchSessionHandler (KIP-101, KIP-227, KIP-595's divergence in Fetch).
Inputs:   follow, unfollow, build_request, on_response, on_failure, wake.
Rule 1:   at most one request is in flight to a leader broker; a partition that joins meanwhile waits for its answer.
Rule 2:   a request lists only what changed since the last one; an idle partition is in the session and costs nothing.
Rule 3:   an answer counts for a replica only if it was asked in the leader epoch that is in force (``asked_epoch``).
Differs:  a failed request delays its fetcher, not each of its partitions.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from kafkasim.core.log.log import Log
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_LEADER, NodeId, TopicPartition
from kafkasim.core.model.messages import FetchRequest, PartitionFetch, PartitionFetched
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.replica.rules import TruncationOnFetch

_NONE = ErrorCode.NONE

#: States of a replica in its fetcher.
FETCHING = 0
#: Out of the session until its back-off is over or an extra question is answered.
DELAYED = 1
#: Fenced in the epoch that is in force: waits for metadata.
FAILED = 2


class FollowerReplica:
    """``high_watermark`` is the leader's as last heard, but never beyond the own log end."""

    is_leader = False

    __slots__ = (
        "asked_epoch",
        "fetch_state",
        "fetcher",
        "high_watermark",
        "idle_answer",
        "leader_epoch",
        "leader_id",
        "log",
        "tp",
        "waiting_fetches",
        "watch",
    )

    def __init__(self, tp: TopicPartition, log: Log, high_watermark: int) -> None:
        self.tp = tp
        self.log = log
        self.high_watermark = high_watermark
        self.leader_id: NodeId = NO_LEADER
        self.leader_epoch = NO_EPOCH
        self.asked_epoch = NO_EPOCH
        self.fetcher: LeaderFetcher | None = None
        self.fetch_state = FETCHING
        self.waiting_fetches: dict[int, Any] | None = None
        self.idle_answer: PartitionFetched | None = None
        self.watch = 0

    @property
    def log_start(self) -> int:
        return self.log.start

    @property
    def log_end(self) -> int:
        return self.log.end

    @property
    def is_fetching(self) -> bool:
        return self.fetch_state == FETCHING

    def on_fetched(self, part: PartitionFetched) -> bool:
        """Append what came and take the leader's high watermark and log start; True if the high watermark moved."""
        log = self.log
        for batch in part.batches:
            log.append(batch)
        end = log.end
        high_watermark = part.high_watermark
        if high_watermark > end:
            high_watermark = end
        moved = high_watermark != self.high_watermark and high_watermark >= log.start
        if moved:
            self.high_watermark = high_watermark
            self.idle_answer = None
        if part.log_start_offset > log.start:
            start = min(part.log_start_offset, self.high_watermark)
            if start > log.start:
                log.raise_log_start(start)
                self.idle_answer = None
                if self.fetcher is not None:
                    self.fetcher.list_again(self)
        return moved

    def truncate_for(self, epoch: int, end_offset: int) -> None:
        """The leader's log ends ``epoch`` at ``end_offset``: drop what it cannot have."""
        log = self.log
        own_epoch, own_end = log.epoch_end(epoch)
        if own_epoch == epoch:
            target = min(own_end, end_offset, log.end)
        elif own_epoch == NO_EPOCH:
            target = min(end_offset, log.end)
        else:
            # The leader's epoch is unknown here: back to the end of the largest smaller one, and ask again.
            target = min(own_end, log.end)
        self.truncate_to(target)

    def truncate_to(self, offset: int) -> None:
        self.log.truncate_to(max(offset, self.log.start))
        self._keep_high_watermark_inside()

    def start_at(self, offset: int) -> None:
        """The leader has nothing of what is here any more."""
        self.log.truncate_fully_and_start_at(offset)
        self._keep_high_watermark_inside()

    def _keep_high_watermark_inside(self) -> None:
        self.high_watermark = max(self.log.start, min(self.high_watermark, self.log.end))
        self.idle_answer = None

    def fetched(self, batches: tuple[RecordBatch, ...]) -> PartitionFetched:
        high_watermark = self.high_watermark
        return PartitionFetched(self.tp, _NONE, high_watermark, high_watermark, self.log.start, batches)


class LeaderFetcher:
    """Everything that this broker copies from one leader broker."""

    __slots__ = (
        "_changed",
        "_delayed",
        "_forgotten",
        "_truncation",
        "backoff_until_us",
        "fetching_count",
        "in_flight",
        "leader_id",
        "members",
        "session_epoch",
        "session_id",
    )

    def __init__(self, leader_id: NodeId, truncation: TruncationOnFetch) -> None:
        self.leader_id = leader_id
        self._truncation = truncation
        self.members: dict[FollowerReplica, None] = {}
        self.fetching_count = 0
        self.in_flight = False
        self.backoff_until_us = 0
        self.session_id = 0
        self.session_epoch = 0
        #: To be listed in the next request, in order.
        self._changed: dict[FollowerReplica, None] = {}
        self._delayed: deque[tuple[int, FollowerReplica, int]] = deque()
        self._forgotten: dict[TopicPartition, None] = {}

    @property
    def deadline_us(self) -> int:
        if self.in_flight:
            return NEVER_US
        earliest = self._delayed[0][0] if self._delayed else NEVER_US
        if self.fetching_count and self.backoff_until_us < earliest:
            earliest = self.backoff_until_us
        return earliest

    # --- members ---------------------------------------------------------------------------------------------------

    def follow(self, replica: FollowerReplica) -> None:
        """Copy this partition from here, beginning at its log end in its present leader epoch."""
        if replica not in self.members:
            self.members[replica] = None
            self.fetching_count += 1
        elif replica.fetch_state != FETCHING:
            self.fetching_count += 1
        replica.fetcher = self
        replica.fetch_state = FETCHING
        self.list_again(replica)

    def unfollow(self, replica: FollowerReplica) -> None:
        if replica in self.members:
            del self.members[replica]
            if replica.fetch_state == FETCHING:
                self.fetching_count -= 1
                self._forgotten[replica.tp] = None
        self._changed.pop(replica, None)
        replica.fetcher = None
        replica.fetch_state = FETCHING
        replica.asked_epoch = NO_EPOCH

    def list_again(self, replica: FollowerReplica) -> None:
        """What the session knows of this partition is out of date."""
        self._changed[replica] = None

    def hold(self, replica: FollowerReplica, state: int) -> None:
        """Out of the session: ``FAILED``, or ``DELAYED`` until ``resume``."""
        if replica.fetch_state == FETCHING:
            self.fetching_count -= 1
            self._forgotten[replica.tp] = None
        replica.fetch_state = state

    def delay(self, replica: FollowerReplica, until_us: int) -> None:
        self.hold(replica, DELAYED)
        self._delayed.append((until_us, replica, replica.leader_epoch))

    def resume(self, replica: FollowerReplica) -> None:
        if replica.fetcher is self and replica.fetch_state == DELAYED:
            replica.fetch_state = FETCHING
            self.fetching_count += 1
            self.list_again(replica)

    def wake(self, now_us: int) -> None:
        """Partitions whose back-off is over are fetched again."""
        delayed = self._delayed
        while delayed and delayed[0][0] <= now_us:
            _, replica, epoch = delayed.popleft()
            if replica.leader_epoch == epoch:
                self.resume(replica)

    # --- requests --------------------------------------------------------------------------------------------------

    def build_request(
        self,
        node_id: NodeId,
        broker_epoch: int,
        max_wait_ms: int,
        min_bytes: int,
        max_bytes: int,
        partition_max_bytes: int,
        now_us: int,
    ) -> FetchRequest | None:
        """The next request, or None while one is in flight, while backing off, or if there is nothing to fetch."""
        if self.in_flight or not self.fetching_count or now_us < self.backoff_until_us:
            return None
        if self.session_id == 0:
            candidates = self.members
            forgotten: tuple[TopicPartition, ...] = ()
        else:
            candidates = self._changed
            forgotten = tuple(self._forgotten)
        last_fetched_epoch = self._truncation.last_fetched_epoch
        self._changed = {}
        if self._forgotten:
            self._forgotten = {}
        partitions = []
        for replica in candidates:
            if replica.fetch_state != FETCHING or replica.fetcher is not self:
                continue
            log = replica.log
            epoch = replica.leader_epoch
            replica.asked_epoch = epoch
            partitions.append(
                PartitionFetch(
                    replica.tp,
                    log.end,
                    partition_max_bytes,
                    epoch,
                    last_fetched_epoch(replica),
                    log.start,
                )
            )
        if forgotten:
            listed = {part.tp for part in partitions}
            forgotten = tuple(tp for tp in forgotten if tp not in listed)
        self.in_flight = True
        return FetchRequest(
            node_id,
            max_wait_ms,
            min_bytes,
            max_bytes,
            partitions,
            0,
            self.session_id,
            self.session_epoch if self.session_id else 0,
            forgotten,
            "",
            broker_epoch,
        )

    def on_answered(self, error: ErrorCode, session_id: int) -> bool:
        """The session goes on, or begins anew; False if the answer holds nothing."""
        self.in_flight = False
        if error != _NONE:
            self.session_id = 0
            self.session_epoch = 0
            return False
        if self.session_id == 0:
            self.session_id = session_id
            self.session_epoch = 1
        else:
            self.session_epoch += 1
        return True

    def on_failure(self, retry_us: int) -> None:
        """The request failed as a whole."""
        self.in_flight = False
        self.session_id = 0
        self.session_epoch = 0
        self.backoff_until_us = retry_us
