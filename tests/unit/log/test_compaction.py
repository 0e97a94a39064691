"""The log cleaner: last value per key, offsets kept, tombstones for a while."""

from __future__ import annotations

from kafkasim.core.log.compaction import clean, is_dirty_enough
from kafkasim.core.log.log import Log
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.records import batch_of


def compacted(*batches: dict[bytes, bytes | None]) -> Log:
    """Each batch in a segment of its own, and an active segment behind them."""
    log = Log("id", LogSettings(compact=True, delete=False, delete_retention_ms=1000))
    for records in ({**batch} for batch in batches):
        log.append(batch_of(list(records.values()), list(records)).placed(log.end, 0))
        log.roll()
    log.append(batch_of([b"active"], [b"active"]).placed(log.end, 0))
    return log


def content(log: Log) -> list[tuple[int, bytes | None, bytes | None]]:
    return [
        (batch.offset_at(index), batch.columns.keys[index], batch.columns.values[index])
        for batch in log.read_all()
        for index in range(len(batch.columns))
    ]


def test_only_the_last_record_of_a_key_stays() -> None:
    """Offsets do not change; a reader jumps over the gaps."""
    log = compacted({b"a": b"1", b"b": b"1"}, {b"a": b"2"})
    assert is_dirty_enough(log, 4, 0)
    assert clean(log, 4, 0) == 1
    assert content(log) == [(1, b"b", b"1"), (2, b"a", b"2"), (3, b"active", b"active")]
    assert not is_dirty_enough(log, 4, 0)
    assert log.read(0, 10_000, 4)[0].offsets == [1]
    assert log.end == 4


def test_nothing_at_or_above_the_high_watermark_is_cleaned() -> None:
    """What may yet be cut off proves nothing about older records."""
    log = compacted({b"a": b"1"}, {b"a": b"2"})
    assert clean(log, 1, 0) == 0


def test_tombstones_stay_for_delete_retention() -> None:
    """The first cleaning sets the horizon, one after it removes the tombstone."""
    log = compacted({b"a": b"1"}, {b"a": None})
    clean(log, 3, 5000)
    assert content(log)[0] == (1, b"a", None)
    clean(log, 3, 5999)
    assert content(log)[0] == (1, b"a", None)
    clean(log, 3, 6000)
    assert content(log) == [(2, b"active", b"active")]


def test_the_last_batch_of_a_producer_stays_empty() -> None:
    """Its sequence is needed; its records are not."""
    log = Log("id", LogSettings(compact=True, delete=False))
    first = batch_of([b"1"], [b"a"])
    object.__setattr__(first, "producer_id", 7)
    object.__setattr__(first, "base_sequence", 0)
    log.append(first.placed(0, 0))
    log.append(batch_of([b"2"], [b"a"]).placed(1, 0))
    log.roll()
    log.append(batch_of([b"3"], [b"b"]).placed(2, 0))
    clean(log, 3, 0)
    assert [(batch.base_offset, len(batch.columns)) for batch in log.read_all()] == [(0, 0), (1, 1), (2, 1)]
