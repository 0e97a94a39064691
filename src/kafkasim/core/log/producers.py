"""What a log remembers of the idempotent producers that wrote to it.

Mirrors:  ProducerStateManager, ProducerStateEntry, ProducerAppendInfo (KIP-98, KIP-360).
Rule 1:   the five last batches of a producer id are known by epoch, first and last sequence, so a retry is answered, not appended.
Rule 2:   only a leader checks sequences, and only of clients; replication and loading trust the log.
Rule 3:   an idle producer is forgotten after ``producer.id.expiration.ms``, noticed when somebody looks.
Differs:  open transactions are not tracked here yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import slotted
from kafkasim.core.model.records import RecordBatch

BATCHES_REMEMBERED = 5
_LAST_SEQUENCE = 0x7FFFFFFF


@slotted
class ProducerEntry:
    """``batches``: (first sequence, last sequence, base offset, last offset), oldest first."""

    epoch: int
    last_timestamp_ms: int
    batches: list[tuple[int, int, int, int]]


class ProducerStates:
    """Every producer id that this log knows."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, ProducerEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, producer_id: int) -> ProducerEntry | None:
        return self._entries.get(producer_id)

    def check(self, batch: RecordBatch, expired_before_ms: int) -> tuple[ErrorCode, int]:
        """(error, original base offset): DUPLICATE_SEQUENCE_NUMBER with an offset means: already appended there."""
        entry = self._entries.get(batch.producer_id)
        if entry is None:
            return ErrorCode.NONE, -1
        if entry.last_timestamp_ms <= expired_before_ms:
            del self._entries[batch.producer_id]
            return ErrorCode.NONE, -1
        first = batch.base_sequence
        if batch.producer_epoch == entry.epoch:
            last_known = entry.batches[-1][1]
            if first == last_known + 1 or (first == 0 and last_known == _LAST_SEQUENCE):
                return ErrorCode.NONE, -1
            last = batch.last_sequence
            for known_first, known_last, base_offset, _ in entry.batches:
                if known_first == first and known_last == last:
                    return ErrorCode.DUPLICATE_SEQUENCE_NUMBER, base_offset
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
        if batch.producer_epoch < entry.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH, -1
        return (ErrorCode.NONE if first == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER), -1

    def on_append(self, batch: RecordBatch) -> None:
        """Take in a batch that is in the log now."""
        entry = self._entries.get(batch.producer_id)
        base_offset = batch.base_offset
        remembered = (batch.base_sequence, batch.last_sequence, base_offset, base_offset + batch.count - 1)
        if entry is None or entry.epoch != batch.producer_epoch:
            self._entries[batch.producer_id] = ProducerEntry(batch.producer_epoch, batch.max_timestamp_ms, [remembered])
            return
        batches = entry.batches
        batches.append(remembered)
        if len(batches) > BATCHES_REMEMBERED:
            del batches[0]
        entry.last_timestamp_ms = batch.max_timestamp_ms

    def expire(self, expired_before_ms: int) -> None:
        """Forget the producers that wrote nothing since ``expired_before_ms``."""
        gone = [key for key, entry in self._entries.items() if entry.last_timestamp_ms <= expired_before_ms]
        for producer_id in gone:
            del self._entries[producer_id]

    def truncate(self, log_end: int, remaining: Iterable[RecordBatch]) -> None:
        """The log was cut at ``log_end``: producers that wrote behind it are rebuilt from what remains."""
        cut = {key: None for key, entry in self._entries.items() if entry.batches[-1][3] >= log_end}
        if not cut:
            return
        for producer_id in cut:
            del self._entries[producer_id]
        for batch in remaining:
            if batch.producer_id in cut:
                self.on_append(batch)
