"""The log of one replica: reading, cutting, rolling, timestamps, flushes."""

from __future__ import annotations

import sys

from kafkasim.core.log.log import Log
from kafkasim.core.log.retention import NEVER_MS, delete_old_segments, next_due_ms
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.records import RecordBatch, batch_of


def filled(*counts: int, settings: LogSettings | None = None, epoch: int = 0) -> Log:
    """A log with one batch of each count; batch i has timestamp 1000 * (i + 1)."""
    log = Log("id", settings or LogSettings())
    for index, count in enumerate(counts):
        log.append(placed(log.end, count, 1000 * (index + 1), epoch))
    return log


def placed(offset: int, count: int = 1, timestamp_ms: int = 0, epoch: int = 0) -> RecordBatch:
    return batch_of([b"x"] * count, timestamp_ms=timestamp_ms).placed(offset, epoch)


def bases(batches: tuple[RecordBatch, ...]) -> list[int]:
    return [batch.base_offset for batch in batches]


def test_reads_whole_batches_from_the_one_that_holds_the_offset() -> None:
    """A read in the middle of a batch returns that batch and those behind it."""
    log = filled(3, 3, 3)
    assert bases(log.read(4, 10_000, 9)) == [3, 6]
    assert bases(log.read(0, 10_000, 9)) == [0, 3, 6]
    assert bases(log.read(8, 10_000, 9)) == [6]
    assert log.read(9, 10_000, 9) == ()


def test_reads_no_further_than_the_upper_bound() -> None:
    """Batches that reach beyond the bound are not readable."""
    log = filled(3, 3, 3)
    assert bases(log.read(0, 10_000, 6)) == [0, 3]
    assert log.read(7, 10_000, 8) == ()


def test_reads_one_batch_even_if_it_is_too_large() -> None:
    """The first batch comes whatever it weighs, so that a reader gets on; unless it must not."""
    log = filled(3, 3)
    assert bases(log.read(0, 1, 6)) == [0]
    assert log.read(0, 1, 6, at_least_one=False) == ()
    assert log.read(3, 1, 6, at_least_one=False) == ()


def test_truncates_to_a_batch_boundary_and_forgets_epochs() -> None:
    """A cut inside a batch takes the whole batch; epochs that began behind the cut are gone."""
    log = filled(3, 3)
    log.append(placed(6, 2, 9000, epoch=4))
    log.truncate_to(5)
    assert log.end == 3
    assert log.epochs == ((0, 0),)
    assert bases(log.read(0, 10_000, 9)) == [0]
    assert log.size_bytes == placed(0, 3).size_bytes


def test_a_cut_at_the_end_forgets_an_epoch_that_wrote_nothing() -> None:
    """Else a follower that led for a moment would diverge for ever from a leader that never saw that epoch."""
    log = filled(1)
    log.assign_epoch(1)
    assert log.epochs == ((0, 0), (1, 1))
    log.truncate_to(1)
    assert (log.end, log.epochs) == (1, ((0, 0),))


def test_rolls_by_size_and_by_time() -> None:
    """A batch that does not fit, or is too late for its segment, begins a new one."""
    weight = placed(0).size_bytes
    log = filled(1, 1, 1, settings=LogSettings(segment_bytes=2 * weight))
    assert [segment.base_offset for segment in log.segments or []] == [0, 2]
    log = filled(1, 1, 1, settings=LogSettings(segment_ms=1500))
    assert [segment.base_offset for segment in log.segments or []] == [0, 2]


def test_power_loss_keeps_what_was_flushed() -> None:
    """Closed segments are flushed, the active one is not; ``flush.messages`` changes that."""
    weight = placed(0).size_bytes
    log = filled(1, 1, 1, settings=LogSettings(segment_bytes=2 * weight))
    log.checkpointed_high_watermark = 3
    log.lose_unflushed()
    assert (log.end, log.checkpointed_high_watermark) == (2, 2)
    log = filled(1, 1, 1, settings=LogSettings(flush_messages=1))
    log.lose_unflushed()
    assert log.end == 3


def test_finds_offsets_by_timestamp() -> None:
    """The first record at or after a time, below the bound; the first with the largest time."""
    log = filled(2, 2, 2)
    assert log.offset_for_timestamp(1500, 6) == (2, 2000, 0)
    assert log.offset_for_timestamp(2500, 4) is None
    assert log.offset_for_timestamp(9999, 6) is None
    assert log.offset_of_max_timestamp(6) == (4, 3000, 0)
    log.raise_log_start(3)
    assert log.offset_for_timestamp(0, 6) == (3, 2000, 0)


def test_retention_by_size_time_and_log_start() -> None:
    """Whole segments go, oldest first, and only below the high watermark."""
    weight = placed(0).size_bytes
    settings = LogSettings(segment_bytes=weight, retention_bytes=2 * weight, retention_ms=-1)
    log = filled(1, 1, 1, 1, settings=settings)
    assert next_due_ms(log) == 0
    assert delete_old_segments(log, 1, 0) == 1
    assert delete_old_segments(log, 4, 0) == 1
    assert (log.start, log.end, log.size_bytes) == (2, 4, 2 * weight)
    log.raise_log_start(3)
    assert delete_old_segments(log, 4, 0) == 1
    assert bases(log.read(3, 10_000, 4)) == [3]
    assert next_due_ms(log) == NEVER_MS


def test_retention_by_time_empties_a_log_by_rolling() -> None:
    """If every segment is too old, a new empty one follows and offsets go on."""
    log = filled(1, 1, settings=LogSettings(retention_ms=100))
    assert next_due_ms(log) == 2101
    assert delete_old_segments(log, 2, 2100) == 0
    assert delete_old_segments(log, 2, 2101) == 1
    assert (log.start, log.end, log.size_bytes) == (2, 2, 0)
    log.append(placed(2, 1, 5000))
    assert bases(log.read(2, 10_000, 3)) == [2]


def test_a_record_from_the_future_pins_its_segment() -> None:
    """A segment is as old as its youngest record."""
    log = filled(1, settings=LogSettings(retention_ms=100))
    log.append(placed(1, 1, 1_000_000))
    assert delete_old_segments(log, 2, 500_000) == 0


def test_an_idle_log_is_small() -> None:
    """Memory of a cluster is its idle replicas."""
    assert sys.getsizeof(Log("id", LogSettings())) <= 200
