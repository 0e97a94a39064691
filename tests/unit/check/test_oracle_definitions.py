"""Losses, duplicates and the order of polls: each check against its definition on random histories."""

from __future__ import annotations

import random

from tests.unit.check.histories import TP, acked, batch, draws, given

from kafkasim.check.consumer_oracles import check_consistency, check_deliveries
from kafkasim.check.log_oracles import LogView, check_acked, check_duplicates
from kafkasim.check.report import Report
from kafkasim.core.model.history import Acked, Assigned, Delivered, HistoryEvent, Revoked, Sought
from kafkasim.core.model.records import RecordBatch

PLACES = 4


def run(draw: random.Random) -> tuple[list[HistoryEvent], LogView]:
    """Batches of two records in two versions; some are acknowledged, some are in the log, two consumers read some."""
    versions = [[batch(2, place * 2, version) for place in range(PLACES)] for version in (1, 2)]
    log: list[RecordBatch] = []
    for place in range(draw.randrange(PLACES + 1)):
        found = draw.choice(versions)[place]
        if draw.random() < 0.1:
            found = draw.choice(log or [found]).placed(place * 2, 1)
        log.append(found)
    for each in log:
        each.producer_id = 7
    events: list[HistoryEvent] = []
    for at_us in range(draw.randrange(1, 10)):
        kind, client = draw.randrange(10), draw.choice("ccd")
        placed = draw.choice(draw.choice(versions))
        if kind < 3:
            events.append(acked(at_us, placed))
        elif kind < 8:
            start = draw.choice([0, 0, 1])
            events.append(given(at_us, placed, client, start=start, stop=draw.randrange(start, 2) + 1))
        elif kind == 8:
            events.append(draw.choice([Assigned(at_us, client, "g", (TP,)), Revoked(at_us, client, "g", (TP,), False)]))
        else:
            events.append(Sought(at_us, client, "g", TP, 0))
    return events, LogView(log, draw.choice([0, 0, 2]), 2, 3)


def test_acked_loss_is_its_definition() -> None:
    """P1: a record that was acknowledged at an offset which the log still covers, and is not there."""
    broken = 0
    for draw in draws("acked-loss"):
        events, view = run(draw)
        there = {each.base_offset: each.columns for each in view.batches}
        lost = [
            event
            for event in events
            if isinstance(event, Acked)
            and any(event.base_offset + index >= view.start_offset for index in range(2))
            and there.get(event.base_offset) is not event.batch.columns
        ]
        report = Report()
        check_acked(events, {TP: view}, report)
        broken += bool(lost)
        assert len(report.of("P1")) == len(lost)
    assert broken


def test_log_duplicate_is_its_definition() -> None:
    """P3: the records of one batch at two offsets, once for every copy after the first."""
    broken = 0
    for draw in draws("log-duplicate"):
        events, view = run(draw)
        copies = sum(
            any(earlier.columns is each.columns for earlier in view.batches[:index])
            for index, each in enumerate(view.batches)
        )
        report = Report()
        check_duplicates(events, {TP: view}, report)
        broken += bool(copies)
        assert len(report.of("P3")) == copies
    assert broken


def last_before(events: list[HistoryEvent], at: int) -> Delivered | None:
    """What the client of the delivery at ``at`` was given last, if nothing has moved it since."""
    for event in reversed(events[:at]):
        if getattr(event, "client", "") == events[at].client:  # type: ignore[union-attr]
            return event if isinstance(event, Delivered) else None
    return None


def test_poll_back_and_poll_skip_are_their_definitions() -> None:
    """R1: at or before the last offset. R2: behind it, and the log has a batch that begins between the two."""
    backs = skips = 0
    for draw in draws("polls"):
        events, view = run(draw)
        back = skip = 0
        for at, event in enumerate(events):
            last = last_before(events, at) if isinstance(event, Delivered) else None
            if last is None or not isinstance(event, Delivered):
                continue
            expected, first = last.batch.base_offset + last.stop, event.batch.base_offset + event.start
            back += first < expected
            between = range(max(expected, view.start_offset), first)
            skip += any(each.base_offset in between for each in view.batches)
        report = Report()
        check_deliveries(events, {TP: view}, report)
        backs, skips = backs + back, skips + skip
        assert len(report.of("R1")) == back
        assert len(report.of("R2")) == skip
    assert backs
    assert skips


def test_inconsistent_offset_is_its_definition() -> None:
    """P6: an offset of which two deliveries had different records."""
    broken = 0
    for draw in draws("inconsistent-offset"):
        events, view = run(draw)
        held: dict[int, list[object]] = {}
        for event in events:
            if isinstance(event, Delivered):
                held.setdefault(event.batch.base_offset, []).append(event.batch.columns)
        different = sum(any(one is not other for one in each for other in each) for each in held.values())
        report = Report()
        check_consistency(events, {TP: view}, report)
        broken += bool(different)
        assert len(report.of("P6")) == different
    assert broken
