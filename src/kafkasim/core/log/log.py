"""The log of one replica: batches in offset order, cut into segments, with epochs and producer states beside them.

Mirrors:  UnifiedLog, LocalLog, LogSegment, LogSegments of org.apache.kafka.storage.internals.log.
Inputs:   append, truncate_to, truncate_fully_and_start_at, raise_log_start, lose_unflushed.
Rule 1:   batches are placed (offset and leader epoch stamped) before they come here, and never change afterwards.
Rule 2:   an empty log owns no list; a cluster has many more idle replicas than busy ones.
Rule 3:   a log is what survives a process: the checkpointed high watermark is here, the high watermark in force is not. The log
          start in force is, but ``load`` takes it back to what was checkpointed or to the first segment.
Differs:  a read may cross segments; index sizes and ``segment.jitter.ms`` do not roll.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from kafkasim.core.log.epochs import (
    NO_EPOCHS,
    Epochs,
    assign,
    end_of,
    truncate_end,
    truncate_start,
)
from kafkasim.core.log.producers import ProducerStates
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.ids import NO_EPOCH, NO_TIMESTAMP
from kafkasim.core.model.message import slotted
from kafkasim.core.model.records import RecordBatch

_INT_MAX = 2_147_483_647


@slotted
class Segment:
    """Where a segment begins, what it weighs, and the timestamps that decide when it rolls and when it expires."""

    base_offset: int
    size_bytes: int = 0
    first_timestamp_ms: int = NO_TIMESTAMP
    max_timestamp_ms: int = NO_TIMESTAMP

    def add(self, batch: RecordBatch) -> None:
        if self.size_bytes == 0:
            self.first_timestamp_ms = batch.max_timestamp_ms
        self.size_bytes += batch.size_bytes
        if batch.max_timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = batch.max_timestamp_ms


class Log:
    """Offsets ``start`` (first readable) to ``end`` (next to be written)."""

    __slots__ = (
        "_base_offsets",
        "batches",
        "checkpointed_high_watermark",
        "checkpointed_start",
        "cleaned_end",
        "delete_horizons",
        "end",
        "epochs",
        "flushed",
        "producers",
        "rolled",
        "segments",
        "settings",
        "size_bytes",
        "start",
        "topic_id",
    )

    def __init__(self, topic_id: str, settings: LogSettings) -> None:
        self.topic_id = topic_id
        self.settings = settings
        self.start = 0
        self.end = 0
        self.size_bytes = 0
        self.flushed = 0
        self.checkpointed_high_watermark = 0
        self.checkpointed_start = 0
        #: Where the cleaner stopped last; what is behind it is dirty.
        self.cleaned_end = 0
        #: Base offset of a batch -> when its tombstones may go; only in compacted logs.
        self.delete_horizons: dict[int, int] | None = None
        #: A segment was closed since somebody looked: more may be deleted or compacted now.
        self.rolled = False
        self.epochs: Epochs = NO_EPOCHS
        self.producers: ProducerStates | None = None
        self.batches: list[RecordBatch] | None = None
        self.segments: list[Segment] | None = None
        self._base_offsets: list[int] | None = None

    # --- epochs ----------------------------------------------------------------------------------------------------

    @property
    def latest_epoch(self) -> int:
        return self.epochs[-1][0] if self.epochs else NO_EPOCH

    def assign_epoch(self, epoch: int) -> None:
        """``epoch`` begins at the log end, even if it never writes."""
        self.epochs = assign(self.epochs, epoch, self.end)

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        return end_of(self.epochs, epoch, self.end)

    # --- writing ---------------------------------------------------------------------------------------------------

    def append(self, batch: RecordBatch) -> None:
        """Add one placed batch at the end."""
        base_offset = batch.base_offset
        assert base_offset >= self.end, (base_offset, self.end)
        segments = self.segments
        if segments is None:
            segments = self._open(base_offset)
        segment = segments[-1]
        size_bytes = batch.size_bytes
        if segment.size_bytes:
            settings = self.settings
            if (
                size_bytes > settings.segment_bytes - segment.size_bytes
                or batch.max_timestamp_ms - segment.first_timestamp_ms > settings.segment_ms
                or base_offset - segment.base_offset > _INT_MAX
            ):
                segment = self.roll()
            segment.size_bytes += size_bytes
            if batch.max_timestamp_ms > segment.max_timestamp_ms:
                segment.max_timestamp_ms = batch.max_timestamp_ms
            if segment.first_timestamp_ms == NO_TIMESTAMP:
                segment.first_timestamp_ms = batch.max_timestamp_ms
        else:
            segment.add(batch)
        self.batches.append(batch)  # type: ignore[union-attr]
        self._base_offsets.append(base_offset)  # type: ignore[union-attr]
        self.size_bytes += size_bytes
        epochs = self.epochs
        if not epochs or epochs[-1][0] < batch.leader_epoch:
            self.epochs = assign(epochs, batch.leader_epoch, base_offset)
        end = base_offset + batch.count
        self.end = end
        if batch.producer_id >= 0:
            producers = self.producers
            if producers is None:
                producers = self.producers = ProducerStates()
            producers.on_append(batch)
        if end - self.flushed >= self.settings.flush_messages:
            self.flushed = end

    #: What a leader writes; a follower appends what it was given.
    append_as_leader = append

    def _open(self, base_offset: int) -> list[Segment]:
        self.batches = []
        self._base_offsets = []
        self.segments = [Segment(base_offset)]
        return self.segments

    def roll(self) -> Segment:
        """A new active segment at the log end; Kafka flushes what is before it."""
        assert self.segments is not None
        segment = Segment(self.end)
        self.segments.append(segment)
        self.flushed = max(self.flushed, self.end)
        self.rolled = True
        return segment

    def flush(self) -> None:
        self.flushed = self.end

    def load(self) -> None:
        """A new process opens the log: a start that was not written down is forgotten, where the records are still there."""
        if self.start > self.checkpointed_start and self.segments:
            self.start = min(self.start, max(self.checkpointed_start, self.segments[0].base_offset))

    def recovery_bytes(self) -> int:
        """What is read again after an unclean stop: every segment from the one that holds the recovery point on."""
        total = 0
        for segment in reversed(self.segments or ()):
            total += segment.size_bytes
            if segment.base_offset <= self.flushed:
                break
        return total

    def unflushed(self) -> list[int]:
        """Where the disk may end: at what was flushed, and at the end of each batch above it."""
        if self.flushed >= self.end:
            return []
        return [self.flushed, *(b.next_offset for b in self.batches or () if b.next_offset > self.flushed)]

    def wrote_back(self, end: int) -> None:
        """The page cache reached the disk up to ``end``, one of ``unflushed``, without a flush."""
        self.flushed = end

    def lose_unflushed(self) -> None:
        """The power failed: what was only in the page cache is gone."""
        self.truncate_to(self.flushed)
        if self.checkpointed_high_watermark > self.end:
            self.checkpointed_high_watermark = self.end

    # --- cutting ---------------------------------------------------------------------------------------------------

    def truncate_to(self, offset: int) -> None:
        """Drop every batch that reaches ``offset`` or beyond; the end is a batch boundary at or before it."""
        if offset >= self.end:
            # An epoch that wrote nothing begins at the end: the leader may not know it, so it goes.
            self.epochs = truncate_end(self.epochs, offset)
            return
        if offset <= self.start:
            self.truncate_fully_and_start_at(offset)
            return
        batches = self.batches or []
        bases = self._base_offsets or []
        keep = bisect_left(bases, offset)
        if keep and batches[keep - 1].next_offset > offset:
            keep -= 1
            offset = batches[keep].base_offset
        del batches[keep:]
        del bases[keep:]
        self.end = offset
        segments = self.segments
        if segments is not None:
            while len(segments) > 1 and segments[-1].base_offset >= offset:
                segments.pop()
            segments[-1] = self._measured(segments[-1].base_offset)
            self.size_bytes = sum(segment.size_bytes for segment in segments)
        self.epochs = truncate_end(self.epochs, offset)
        self.flushed = min(self.flushed, offset)
        self.cleaned_end = min(self.cleaned_end, offset)
        if self.producers is not None:
            self.producers.truncate(offset, batches)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        """Forget everything; the next batch is at ``offset`` (or later)."""
        self.start = self.end = self.flushed = self.cleaned_end = offset
        self.size_bytes = 0
        self.epochs = NO_EPOCHS
        self.producers = None
        self.batches = self.segments = self._base_offsets = None

    def raise_log_start(self, offset: int) -> None:
        """Nothing before ``offset`` is readable any more; whole segments go with the next retention check."""
        assert offset <= self.end, (offset, self.end)
        if offset > self.start:
            self.start = offset
            self.epochs = truncate_start(self.epochs, offset)

    def delete_segments(self, count: int) -> None:
        """Remove the oldest ``count`` segments; if these are all, a new empty one follows."""
        segments = self.segments
        assert segments is not None
        assert self.batches is not None
        assert self._base_offsets is not None
        if count == len(segments):
            self.roll()
        next_base = segments[count].base_offset
        gone = bisect_left(self._base_offsets, next_base)
        del self.batches[:gone]
        del self._base_offsets[:gone]
        self.size_bytes -= sum(segment.size_bytes for segment in segments[:count])
        del segments[:count]
        self.raise_log_start(next_base)
        self.cleaned_end = max(self.cleaned_end, self.start)

    def replace_batches(self, batches: list[RecordBatch]) -> None:
        """The cleaner's result: the same offsets with some records gone."""
        self.batches = batches
        self._base_offsets = [batch.base_offset for batch in batches]
        assert self.segments is not None
        self.segments = [self._measured(segment.base_offset, index) for index, segment in enumerate(self.segments)]
        self.size_bytes = sum(segment.size_bytes for segment in self.segments)

    def _measured(self, base_offset: int, index: int = -1) -> Segment:
        """The segment that begins at ``base_offset``, weighed again from the batches in it."""
        segments = self.segments
        assert segments is not None
        assert self.batches is not None
        assert self._base_offsets is not None
        last = index in (-1, len(segments) - 1)
        stop = len(self.batches) if last else bisect_left(self._base_offsets, segments[index + 1].base_offset)
        segment = Segment(base_offset)
        for batch in self.batches[bisect_left(self._base_offsets, base_offset) : stop]:
            segment.add(batch)
        return segment

    # --- reading ---------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, upper: int, at_least_one: bool = True) -> tuple[RecordBatch, ...]:
        """Whole batches from the one that holds ``offset`` on, below ``upper``, within ``max_bytes``.

        With ``at_least_one`` the first batch comes even if it is larger, so that a reader always gets on.
        """
        batches = self.batches
        if not batches or offset >= upper:
            return ()
        last = batches[-1]
        if offset >= last.base_offset:
            # Nearly every read is at the tail.
            if last.base_offset + last.count > upper or (last.size_bytes > max_bytes and not at_least_one):
                return ()
            return (last,) if offset < last.base_offset + last.count else ()
        index = self._index_at(offset)
        first = index
        left_bytes = max_bytes
        count = len(batches)
        while index < count:
            batch = batches[index]
            if batch.base_offset + batch.count > upper:
                break
            left_bytes -= batch.size_bytes
            if left_bytes < 0 and (index > first or not at_least_one):
                break
            index += 1
        return tuple(batches[first:index])

    def holds(self, batch: RecordBatch) -> bool:
        """Does this very object stand where it belongs? Most often it is the last one."""
        batches, base = self.batches, batch.base_offset
        if not batches:
            return False
        if batches[-1].base_offset == base:
            return batches[-1] is batch
        assert self._base_offsets is not None
        index = bisect_left(self._base_offsets, base)
        return index < len(batches) and batches[index] is batch

    def bytes_between(self, offset: int, upper: int, enough: int) -> int:
        """Size of the whole batches that ``read`` would find, counted no further than ``enough``."""
        batches = self.batches
        if not batches or offset >= upper:
            return 0
        total = 0
        for index in range(self._index_at(offset), len(batches)):
            batch = batches[index]
            if batch.base_offset + batch.count > upper:
                break
            total += batch.size_bytes
            if total >= enough:
                break
        return total

    def _index_at(self, offset: int) -> int:
        """Index of the batch that holds ``offset``, or of the next one."""
        assert self.batches is not None
        assert self._base_offsets is not None
        index = bisect_right(self._base_offsets, offset) - 1
        if index < 0:
            return 0
        return index if self.batches[index].next_offset > offset else index + 1

    def read_all(self) -> Iterator[RecordBatch]:
        """Every batch from the log start to the log end."""
        if self.batches:
            yield from self.batches[self._index_at(self.start) :]

    def offset_for_timestamp(self, timestamp_ms: int, upper: int) -> tuple[int, int, int] | None:
        """(offset, timestamp, leader epoch) of the first record at or after that time, below ``upper``."""
        for index in self._indexes_from_segment_with(timestamp_ms):
            batch = self.batches[index]  # type: ignore[index]
            if batch.base_offset >= upper:
                return None
            if batch.max_timestamp_ms < timestamp_ms:
                continue
            for record in range(batch.index_from(self.start), len(batch.columns)):
                found_ms = batch.timestamp_ms_at(record)
                if found_ms >= timestamp_ms:
                    return batch.offset_at(record), found_ms, batch.leader_epoch
        return None

    def _indexes_from_segment_with(self, timestamp_ms: int) -> range:
        """Batch indexes from the first segment that reaches ``timestamp_ms`` on."""
        if not self.batches or self._base_offsets is None:
            return range(0)
        for segment in self.segments or ():
            if segment.max_timestamp_ms >= timestamp_ms:
                first = max(bisect_left(self._base_offsets, segment.base_offset), self._index_at(self.start))
                return range(first, len(self.batches))
        return range(0)

    def offset_of_max_timestamp(self, upper: int) -> tuple[int, int, int] | None:
        """(offset, timestamp, leader epoch) of the first record with the largest timestamp below ``upper``."""
        best: RecordBatch | None = None
        for batch in self.read_all():
            if batch.base_offset >= upper:
                break
            if len(batch.columns) and (best is None or batch.max_timestamp_ms > best.max_timestamp_ms):
                best = batch
        if best is None:
            return None
        return self.offset_for_timestamp(best.max_timestamp_ms, upper)
