"""Fetch sessions, the leader broker's side: what one follower broker fetches here, and what it has not been told yet.

Mirrors:  FetchSession, IncrementalFetchContext (KIP-227); one session per follower broker.
Rule 1:   a partition costs nothing while it is idle: it enters ``dirty`` when its log, its high watermark or its log start
          moved since the follower heard of them last, and only dirty partitions are looked at.
Rule 2:   a partition that is in the session and not listed by a request is fetched again from where it was; a caught-up one
          is then caught up at that time too, which is written down (``FollowerState.last_fetch_us``) only when it stops to be.
Rule 3:   an error or a divergence takes the partition out of the session until the follower lists it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.messages import FetchResponse, PartitionFetched
from kafkasim.core.model.records import RecordBatch

if TYPE_CHECKING:
    from kafkasim.core.replica.leader import FollowerState


class ParkedSessionFetch:
    """A follower's fetch that waits for something to read; ``call`` is opaque here."""

    __slots__ = ("call", "connection_id", "done", "session")

    def __init__(self, call: Any, connection_id: int, session: FollowerSession) -> None:
        self.call = call
        self.connection_id = connection_id
        self.session = session
        self.done = False


class FollowerSession:
    """``next_epoch`` is what the next request must carry."""

    __slots__ = (
        "available_bytes",
        "closed",
        "dirty",
        "follower_id",
        "last_fetch_us",
        "max_bytes",
        "min_bytes",
        "next_epoch",
        "outside_isr",
        "parked",
        "partition_max_bytes",
        "session_id",
        "urgent",
    )

    def __init__(self, follower_id: NodeId, session_id: int, now_us: int) -> None:
        self.follower_id = follower_id
        self.session_id = session_id
        self.next_epoch = 1
        self.closed = False
        self.last_fetch_us = now_us
        self.min_bytes = 1
        self.max_bytes = 0
        self.partition_max_bytes = 0
        self.available_bytes = 0
        self.dirty: list[FollowerState] = []
        #: Answers that do not depend on the log: errors and divergences.
        self.urgent: dict[TopicPartition, PartitionFetched] = {}
        #: Followers that are not in the ISR: each fetch of the session asks anew whether they may join.
        self.outside_isr: dict[FollowerState, None] = {}
        self.parked: ParkedSessionFetch | None = None

    def mark(self, follower: FollowerState) -> None:
        """Something of this partition is to be told."""
        if not follower.dirty:
            follower.dirty = True
            self.dirty.append(follower)

    def drop(self, follower: FollowerState, answer: PartitionFetched | None) -> None:
        """Take a partition out; ``answer`` is what the follower hears of it."""
        follower.session = None
        self.outside_isr.pop(follower, None)
        if answer is not None:
            self.urgent[answer.tp] = answer

    def readable_bytes(self) -> int:
        """Bytes that could be sent now, counted no further than the fetch asks for."""
        total = 0
        for follower in self.dirty:
            if follower.session is self:
                log = follower.leader.log
                if follower.log_end < log.end:
                    total += log.bytes_between(follower.log_end, log.end, self.min_bytes - total)
                    if total >= self.min_bytes:
                        break
        return total

    def answer(self) -> FetchResponse:
        """What is new, within ``max_bytes``; what does not fit stays dirty."""
        answers = list(self.urgent.values())
        if answers:
            self.urgent.clear()
        left_bytes = self.max_bytes
        unsent: list[FollowerState] = []
        for follower in self.dirty:
            if follower.session is not self:
                if follower.session is None:
                    follower.dirty = False
                continue
            replica = follower.leader
            log = replica.log
            end = log.end
            batches: tuple[RecordBatch, ...] = ()
            if follower.log_end < end:
                nothing_yet = left_bytes == self.max_bytes
                limit_bytes = min(left_bytes, self.partition_max_bytes)
                batches = log.read(follower.log_end, limit_bytes, end, nothing_yet)
                if batches:
                    for batch in batches:
                        left_bytes -= batch.size_bytes
                else:
                    unsent.append(follower)
            high_watermark = replica.high_watermark
            start = log.start
            if batches or high_watermark != follower.sent_high_watermark or start != follower.sent_log_start:
                follower.sent_high_watermark = high_watermark
                follower.sent_log_start = start
                answers.append(replica.fetched(batches))
            follower.dirty = False
        self.dirty = unsent
        for follower in unsent:
            follower.dirty = True
        return FetchResponse(answers, session_id=self.session_id)
