"""What a quorum replica keeps on disk: the metadata log with its leader epochs, and the quorum-state file.

Mirrors:  KafkaRaftLog, LeaderEpochFileCache, FileQuorumStateStore (KIP-595).
Rule 1:   both survive the crash of the process and a loss of power: Kafka flushes them before they count; here a write
          is a flushed write.
Rule 2:   offsets handed in are batch boundaries; a batch is never split: followers take and truncate whole batches.
Rule 3:   a snapshot is noted where it was taken, and put together only when somebody asks for it or the log before it goes:
          until then the log holds all that it would say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeAlias

from sortedcontainers import SortedDict

from kafkasim.core.model.ids import NO_NODE, NodeId
from kafkasim.core.model.messages import EpochEnd
from kafkasim.core.model.metadata import METADATA_RECORD_BYTES, MetadataBatch, MetadataRecord, MetadataSnapshot

#: Records that say in fewer words what all of these say together.
Compact: TypeAlias = "Callable[[Iterable[MetadataRecord]], tuple[MetadataRecord, ...]]"


class MetadataLog:
    """``log_end`` is the offset of the next record; ``last_epoch`` is 0 while the log is empty.

    ``base`` is the snapshot that ends at ``log_start``, None as long as the log begins at the beginning. ``snapshots`` are those
    that were taken since, oldest first, each with its time.
    """

    __slots__ = ("_batches", "_compact", "_epochs", "base", "last_epoch", "log_end", "log_start", "snapshots")

    def __init__(self, compact: Compact = tuple) -> None:
        self._compact = compact
        self.log_start = 0
        self.log_end = 0
        self.last_epoch = 0
        self.base: MetadataSnapshot | None = None
        self.snapshots: list[tuple[EpochEnd, int]] = []
        #: By base offset.
        self._batches: SortedDict = SortedDict()
        #: The epoch cache: where each epoch begins.
        self._epochs: SortedDict = SortedDict()

    def append(self, batch: MetadataBatch) -> None:
        assert batch.base_offset == self.log_end, "a batch must continue the log"
        assert batch.records, "a batch holds at least one record"
        assert batch.epoch >= self.last_epoch, "leader epochs never fall along the log"
        if batch.epoch > self.last_epoch or not self._epochs:
            self._epochs[batch.epoch] = batch.base_offset
            self.last_epoch = batch.epoch
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
        if self._epochs:
            self.last_epoch = self._epochs.peekitem()[0]
        else:
            self.last_epoch = 0 if self.base is None else self.base.epoch

    # --- snapshots -------------------------------------------------------------------------------------------------

    @property
    def latest_snapshot_end(self) -> int:
        """Where the latest snapshot ends; 0 if none was taken."""
        return self.snapshots[-1][0].end_offset if self.snapshots else self.log_start

    def take_snapshot(self, end_offset: int, now_ms: int) -> None:
        """Everything below ``end_offset``, a batch boundary, is committed."""
        assert self.latest_snapshot_end < end_offset <= self.log_end
        epoch = self._epochs.keys()[self._epoch_index_at(end_offset - 1)]
        self.snapshots.append((EpochEnd(epoch, end_offset), now_ms))

    def clean(self, max_bytes: int, retention_ms: int, now_ms: int) -> None:
        """Give up the oldest snapshots, and the log before the next, while there is too much or it is too old; -1: never."""
        while len(self.snapshots) > 1:
            size = (self.log_end - self.log_start) * METADATA_RECORD_BYTES
            if not (0 <= max_bytes < size or 0 <= retention_ms < now_ms - self.snapshots[0][1]):
                return
            self._drop_before(self.snapshots[1][0])
            del self.snapshots[0]

    def snapshot_instead(self, fetch_offset: int, last_fetched_epoch: int) -> EpochEnd | None:
        """What a log that ends at ``fetch_offset`` in that epoch must be given first; None if batches will do."""
        if not self.snapshots:
            return None
        latest = self.snapshots[-1][0]
        if fetch_offset == 0:
            return latest
        base = self.base
        if base is None:
            return None
        outdated = fetch_offset == self.log_start and last_fetched_epoch != base.epoch
        return latest if fetch_offset < self.log_start or outdated or last_fetched_epoch < base.epoch else None

    def read_snapshot(self, snapshot_id: EpochEnd) -> MetadataSnapshot | None:
        """The snapshot, put together now; None if there is none of that id (any more)."""
        base = self.base
        if base is not None and (base.epoch, base.end_offset) == (snapshot_id.epoch, snapshot_id.end_offset):
            return base
        if all(known != snapshot_id for known, _ in self.snapshots):
            return None
        records = list(base.records) if base is not None else []
        for batch in self.read_between(self.log_start, snapshot_id.end_offset):
            records += batch.records
        return MetadataSnapshot(snapshot_id.end_offset, snapshot_id.epoch, self._compact(records))

    def install_snapshot(self, snapshot: MetadataSnapshot, now_ms: int) -> None:
        """A follower begins anew with a leader's snapshot: whatever it had is in there, or was never committed."""
        self._batches.clear()
        self._epochs.clear()
        self._epochs[snapshot.epoch] = snapshot.end_offset
        self.last_epoch = snapshot.epoch
        self.log_start = self.log_end = snapshot.end_offset
        self.base = snapshot
        self.snapshots = [(EpochEnd(snapshot.epoch, snapshot.end_offset), now_ms)]

    def _drop_before(self, snapshot_id: EpochEnd) -> None:
        base = self.read_snapshot(snapshot_id)
        assert base is not None
        while self._batches and self._batches.peekitem(0)[0] < base.end_offset:
            self._batches.popitem(0)
        while len(self._epochs) > 1 and self._epochs.peekitem(1)[1] <= base.end_offset:
            self._epochs.popitem(0)
        first_epoch, start = self._epochs.peekitem(0)
        self._epochs[first_epoch] = max(start, base.end_offset)
        self.base = base
        self.log_start = base.end_offset

    def _epoch_index_at(self, offset: int) -> int:
        index = len(self._epochs) - 1
        while index > 0 and self._epochs.peekitem(index)[1] > offset:
            index -= 1
        return index


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
