"""Histories of batches of one record, as they are recorded around a real client, before the same oracles."""

from __future__ import annotations

import pytest

from kafkasim.check.identity import BY_COLUMNS, BY_CONTENT
from kafkasim.check.log_oracles import LogView
from kafkasim.check.run import check_history
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Delivered, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import LOG_APPEND_TIME, Columns, RecordBatch

TP = TopicPartition("orders", 0)


def one(offset: int, value: bytes = b"v", key: bytes | None = b"k", stamp_ms: int = 7, kind: int = 0) -> RecordBatch:
    """A batch of one record, made anew at each call."""
    return RecordBatch(Columns([key], [value], [stamp_ms]), 1, 1, stamp_ms, offset, timestamp_type=kind)


def acked(batch: RecordBatch, error: ErrorCode = ErrorCode.NONE, idempotent: bool = True) -> Acked:
    """A delivery report to a producer of acks=all."""
    return Acked(5, "p", TP, batch, 0, 1, error, batch.base_offset, -1, idempotent)


def delivered(batch: RecordBatch, client: str = "c") -> Delivered:
    """A record that a consumer was given."""
    return Delivered(6, client, "g", TP, batch, 0, 1)


def view(*batches: RecordBatch, min_insync_replicas: int = 2) -> dict[TopicPartition, LogView]:
    """A log that promises what was acknowledged."""
    return {TP: LogView(list(batches), 0, min_insync_replicas, 3)}


def found(events: list[HistoryEvent], logs: dict[TopicPartition, LogView]) -> list[str]:
    """The names of the broken invariants."""
    return [finding.invariant for finding in check_history(events, logs, BY_CONTENT).findings]


def test_equal_content_is_the_same_record() -> None:
    """A record read back is not the object that was sent, and still the record; by columns it would be lost."""
    events: list[HistoryEvent] = [acked(one(0)), delivered(one(0)), delivered(one(0), "other")]
    assert found(events, view(one(0))) == []
    report = check_history(events, view(one(0)), BY_COLUMNS)
    assert {finding.invariant for finding in report.findings} == {"acked-loss", "inconsistent-offset"}


@pytest.mark.parametrize("there", [(), (one(0, b"other"),), (one(0, key=None),)])
def test_an_acknowledged_record_that_is_gone(there: tuple[RecordBatch, ...]) -> None:
    """Nothing at its offset, or another value, or another key: lost."""
    assert found([acked(one(0))], view(*there)) == ["acked-loss"]


def test_two_consumers_that_saw_different_records_at_one_offset() -> None:
    """Content is compared at each offset."""
    events: list[HistoryEvent] = [
        delivered(one(0)),
        delivered(one(0, b"other"), "d"),
        delivered(one(1)),
        delivered(one(1), "d"),
    ]
    assert found(events, view(one(0), one(1))) == ["position-jump", "inconsistent-offset"]


def test_equal_records_sent_twice_are_no_duplicate() -> None:
    """The log may hold a content as often as it was reported, also where a report was an error."""
    assert found([acked(one(0)), acked(one(1))], view(one(0), one(1))) == []
    timed_out = one(-1)
    assert found([acked(one(0)), acked(timed_out, ErrorCode._MSG_TIMED_OUT)], view(one(0), one(1))) == []


def test_one_copy_too_many_is_a_duplicate() -> None:
    """Reported once, in the log twice: a breach with idempotence, allowed without; strangers' records are nobody's duplicates."""
    log = view(one(0), one(1), one(2, b"theirs"), one(3, b"theirs"))
    assert found([acked(one(0))], log) == ["log-duplicate"]
    report = check_history([acked(one(0), idempotent=False)], log, BY_CONTENT)
    assert report.ok
    assert [finding.invariant for finding in report.allowed] == ["log-duplicate"]


def test_a_retry_keeps_its_timestamp() -> None:
    """Equal key and value with another CreateTime is another record; an append time says nothing of that."""
    assert found([acked(one(0))], view(one(0), one(1, stamp_ms=8))) == []
    appended = view(one(0, kind=LOG_APPEND_TIME), one(1, stamp_ms=8, kind=LOG_APPEND_TIME))
    assert found([acked(one(0, kind=LOG_APPEND_TIME))], appended) == ["log-duplicate"]


def test_skips_and_steps_back_among_single_records() -> None:
    """Order and holes are seen as on the simulator."""
    log = view(one(0), one(1), one(2))
    assert found([delivered(one(0)), delivered(one(2))], log) == ["poll-skip"]
    assert found([delivered(one(1)), delivered(one(0))], log) == ["poll-back"]
