"""Record batches: the unit that travels, is stored and is shared.

A producer seals its records into a ``Columns`` value (one list per field, never changed afterwards). A leader that appends it
makes one ``RecordBatch`` around the same columns, with base offset and leader epoch stamped; its followers and every reader
hold that same object.

Mirrors:  org.apache.kafka.common.record.DefaultRecordBatch (message format 2).
Rule 1:   columns are never mutated after ``seal``; two appends of one retried batch share columns, which is how oracles
          recognise a duplicate.
Rule 2:   ``offsets`` is None for the usual contiguous batch; only compaction makes a batch with gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from kafkasim.core.model.ids import NO_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE
from kafkasim.core.model.message import slotted

Headers: TypeAlias = "tuple[tuple[str, bytes | None], ...]"

#: Bytes of the batch header and, on the average, of the framing of one record (attributes, deltas, lengths).
BATCH_OVERHEAD_BYTES = 61
RECORD_OVERHEAD_BYTES = 8

CREATE_TIME = 0
LOG_APPEND_TIME = 1


@slotted
class Columns:
    """The records of one batch, field by field.

    ``headers`` is None when no record has any. ``timestamps_ms`` are the producer's CreateTime stamps.
    ``tags`` is free for whoever made the records (a workload, an oracle) and is never read by a machine.
    """

    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps_ms: list[int]
    headers: list[Headers | None] | None = None
    tags: object = None

    def __len__(self) -> int:
        return len(self.values)


@slotted
class RecordBatch:
    """One batch of a log, or (``base_offset`` -1) one that a producer sends.

    ``count`` is the number of offsets the batch spans (``last_offset - base_offset + 1``); it equals ``len(columns)`` except
    after compaction. ``size_bytes`` is what the batch weighs on the wire and on disk, compressed. ``max_timestamp_ms`` is the
    largest record timestamp; with ``timestamp_type`` LOG_APPEND_TIME it is the append time of every record.
    """

    columns: Columns
    count: int
    size_bytes: int
    max_timestamp_ms: int
    base_offset: int = -1
    leader_epoch: int = NO_EPOCH
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_EPOCH
    base_sequence: int = NO_SEQUENCE
    timestamp_type: int = CREATE_TIME
    is_transactional: bool = False
    is_control: bool = False
    compression: str = "none"
    offsets: list[int] | None = None

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.count - 1

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.count

    @property
    def last_sequence(self) -> int:
        if self.base_sequence < 0:
            return NO_SEQUENCE
        return (self.base_sequence + self.count - 1) & 0x7FFFFFFF

    def placed(self, base_offset: int, leader_epoch: int) -> RecordBatch:
        """The same records as they stand in a log from ``base_offset`` on, written in ``leader_epoch``."""
        return RecordBatch(
            self.columns,
            self.count,
            self.size_bytes,
            self.max_timestamp_ms,
            base_offset,
            leader_epoch,
            self.producer_id,
            self.producer_epoch,
            self.base_sequence,
            self.timestamp_type,
            self.is_transactional,
            self.is_control,
            self.compression,
            self.offsets,
        )

    def offset_at(self, index: int) -> int:
        """Offset of the record at ``index`` of the columns."""
        return self.base_offset + index if self.offsets is None else self.offsets[index]

    def timestamp_ms_at(self, index: int) -> int:
        if self.timestamp_type == LOG_APPEND_TIME:
            return self.max_timestamp_ms
        return self.columns.timestamps_ms[index]

    def index_from(self, offset: int) -> int:
        """Index of the first record at or after ``offset`` (``len(columns)`` if there is none)."""
        if self.offsets is None:
            return max(0, min(len(self.columns), offset - self.base_offset))
        for index, record_offset in enumerate(self.offsets):
            if record_offset >= offset:
                return index
        return len(self.offsets)


def payload_bytes(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], headers: Sequence[Headers | None] | None = None
) -> int:
    """Uncompressed size of a batch with these columns."""
    size = BATCH_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES * len(values)
    size += sum(len(key) for key in keys if key) + sum(len(value) for value in values if value)
    for record_headers in headers or ():
        for name, value in record_headers or ():
            size += len(name) + len(value or b"") + 2
    return size


def batch_of(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None] | None = None,
    timestamp_ms: int = 0,
    headers: Sequence[Headers | None] | None = None,
) -> RecordBatch:
    """A sealed batch without producer id, for coordinators and tests."""
    all_keys: list[bytes | None] = list(keys) if keys is not None else [None] * len(values)
    columns = Columns(all_keys, list(values), [timestamp_ms] * len(values), list(headers) if headers else None)
    return RecordBatch(columns, len(columns), payload_bytes(all_keys, values, headers), timestamp_ms)
