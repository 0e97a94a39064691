"""What a quorum replica keeps on disk: the metadata log with its leader epochs, and the quorum-state file.

Mirrors:  KafkaRaftLog, LeaderEpochFileCache, FileQuorumStateStore (KIP-595).
Rule 1:   both survive the crash of the process and a loss of power: Kafka flushes them before they count; here a write
          is a flushed write.
Rule 2:   offsets handed in are batch boundaries; a batch is never split: followers take and truncate whole batches.
Differs:  no snapshots yet (``log_start`` stays 0), so the log holds every batch ever written.
"""

from __future__ import annotations

from itertools import islice

from sortedcontainers import SortedDict

from kafkasim.core.model.ids import NO_NODE, NodeId
from kafkasim.core.model.messages import EpochEnd
from kafkasim.core.model.metadata import MetadataBatch


class MetadataLog:
    """``log_end`` is the offset of the next record; ``last_epoch`` is 0 while the log is empty."""

    __slots__ = ("_batches", "_epochs", "log_end", "log_start")

    def __init__(self) -> None:
        self.log_start = 0
        self.log_end = 0
        #: By base offset.
        self._batches: SortedDict = SortedDict()
        #: The epoch cache: where each epoch begins.
        self._epochs: SortedDict = SortedDict()

    @property
    def last_epoch(self) -> int:
        return int(self._epochs.peekitem()[0]) if self._epochs else 0

    def append(self, batch: MetadataBatch) -> None:
        assert batch.base_offset == self.log_end, "a batch must continue the log"
        assert batch.records, "a batch holds at least one record"
        assert batch.epoch >= self.last_epoch, "leader epochs never fall along the log"
        self._epochs.setdefault(batch.epoch, batch.base_offset)
        self._batches[batch.base_offset] = batch
        self.log_end = batch.next_offset

    def read(self, from_offset: int, max_batches: int) -> tuple[MetadataBatch, ...]:
        """At most ``max_batches`` batches that begin at ``from_offset`` or later."""
        if from_offset >= self.log_end:
            return ()
        return tuple(self._batches[base] for base in islice(self._batches.irange(from_offset), max_batches))

    def read_between(self, from_offset: int, end_offset: int) -> list[MetadataBatch]:
        """Whole batches of ``[from_offset, end_offset)``."""
        if from_offset >= end_offset:
            return []
        return [self._batches[base] for base in self._batches.irange(from_offset, end_offset, (True, False))]

    def end_offset_for_epoch(self, epoch: int) -> EpochEnd:
        """Where ``epoch`` ends, or the largest known one below it; beyond the last epoch it is the end of the log."""
        if epoch >= self.last_epoch:
            return EpochEnd(self.last_epoch, self.log_end)
        following = self._epochs.bisect_right(epoch)
        next_start = self._epochs.peekitem(following)[1]
        if following == 0:
            # Older than everything here: that epoch, wherever it was written, ended before our first record.
            return EpochEnd(epoch, next_start)
        return EpochEnd(self._epochs.peekitem(following - 1)[0], next_start)

    def diverging_end(self, fetch_offset: int, last_fetched_epoch: int) -> EpochEnd | None:
        """None if a log that ends at ``fetch_offset`` in that epoch is a prefix of this; else where to look next."""
        if fetch_offset == 0 and last_fetched_epoch == 0:
            return None
        end = self.end_offset_for_epoch(last_fetched_epoch)
        if end.epoch != last_fetched_epoch or end.end_offset < fetch_offset:
            return end
        return None

    def truncation_offset(self, diverging: EpochEnd) -> int:
        """How far this log can agree with a leader that answered ``diverging``."""
        if diverging.epoch == 0:
            return min(diverging.end_offset, self.log_end)
        own = self.end_offset_for_epoch(diverging.epoch)
        if own.epoch == diverging.epoch:
            return min(own.end_offset, diverging.end_offset)
        return own.end_offset

    def truncate_to(self, offset: int) -> None:
        """Drop every batch at or above ``offset``."""
        if offset >= self.log_end:
            return
        assert offset in self._batches, "truncation falls between batches"
        while self._batches and self._batches.peekitem()[0] >= offset:
            self._batches.popitem()
        self.log_end = offset
        while self._epochs and self._epochs.peekitem()[1] >= offset:
            self._epochs.popitem()


class QuorumStateFile:
    """The election state of one replica: its epoch, and the leader and its own vote in it (NO_NODE: none)."""

    __slots__ = ("epoch", "leader_id", "voted_id")

    def __init__(self) -> None:
        self.epoch = 0
        self.leader_id: NodeId = NO_NODE
        self.voted_id: NodeId = NO_NODE

    def write(self, epoch: int, leader_id: NodeId, voted_id: NodeId) -> None:
        assert epoch >= self.epoch, "the epoch of a replica never falls"
        self.epoch = epoch
        self.leader_id = leader_id
        self.voted_id = voted_id
