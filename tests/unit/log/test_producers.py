"""Idempotence: sequences, duplicates, epochs, expiry, rebuilding."""

from __future__ import annotations

import attrs

from kafkasim.core.log.log import Log
from kafkasim.core.log.producers import ProducerStates
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.records import RecordBatch, batch_of

NONE = ErrorCode.NONE
DUPLICATE = ErrorCode.DUPLICATE_SEQUENCE_NUMBER
OUT_OF_ORDER = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
NEVER = -1


def batch(sequence: int, epoch: int = 0, count: int = 1, offset: int = -1) -> RecordBatch:
    made = batch_of([b"x"] * count, timestamp_ms=1000)
    return attrs.evolve(made, producer_id=7, producer_epoch=epoch, base_sequence=sequence, base_offset=offset)


def states(*sequences: int, epoch: int = 0) -> ProducerStates:
    producers = ProducerStates()
    for offset, sequence in enumerate(sequences):
        producers.on_append(batch(sequence, epoch, offset=100 + offset))
    return producers


def test_only_the_next_sequence_is_appended() -> None:
    """A gap is out of order; so is a retry of more than five batches ago."""
    producers = states(0, 1, 2, 3, 4, 5)
    assert producers.check(batch(6), NEVER) == (NONE, -1)
    assert producers.check(batch(8), NEVER)[0] is OUT_OF_ORDER
    assert producers.check(batch(0), NEVER)[0] is OUT_OF_ORDER


def test_a_retry_of_the_last_five_batches_is_known() -> None:
    """A duplicate is told by its first and last sequence and answered with its offset."""
    producers = states(0, 1, 2, 3, 4, 5)
    assert producers.check(batch(1), NEVER) == (DUPLICATE, 101)
    assert producers.check(batch(5), NEVER) == (DUPLICATE, 105)
    assert producers.check(batch(1, count=2), NEVER)[0] is OUT_OF_ORDER


def test_epochs_fence_and_begin_at_zero() -> None:
    """An older epoch is refused, a newer one begins at sequence 0."""
    producers = states(0, epoch=3)
    assert producers.check(batch(1, epoch=2), NEVER)[0] is ErrorCode.INVALID_PRODUCER_EPOCH
    assert producers.check(batch(1, epoch=4), NEVER)[0] is OUT_OF_ORDER
    assert producers.check(batch(0, epoch=4), NEVER)[0] is NONE


def test_an_unknown_or_expired_producer_may_begin_anywhere() -> None:
    """Without state nothing can be checked."""
    assert ProducerStates().check(batch(42), NEVER)[0] is NONE
    assert states(0).check(batch(42), 1000)[0] is NONE


def test_sequences_wrap() -> None:
    """After 2^31 - 1 comes 0."""
    assert states(0x7FFFFFFF).check(batch(0), NEVER)[0] is NONE


def test_truncation_rebuilds_from_what_remains() -> None:
    """After a cut the last sequence is that of the last batch left."""
    log = Log("id", LogSettings())
    for sequence in range(4):
        log.append(batch(sequence).placed(log.end, 0))
    log.truncate_to(2)
    assert log.producers is not None
    assert log.producers.check(batch(2), NEVER)[0] is NONE
    log.truncate_to(0)
    assert log.producers is None
