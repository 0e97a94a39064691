"""Where consumers read on: each checker against its definition on random histories."""

from __future__ import annotations

import random

import attrs
from tests.unit.check.histories import TP, acked, batch, draws, given

from kafkasim.check.log_oracles import LogView
from kafkasim.check.lost_writes import check_lost_writes
from kafkasim.check.positions import check_positions, measure_reading
from kafkasim.check.report import Report
from kafkasim.core.model.history import (
    Acked,
    Assigned,
    Closed,
    Delivered,
    Happened,
    HistoryEvent,
    Repositioned,
    Revoked,
    Sought,
)
from kafkasim.core.model.records import RecordBatch

#: Of every place (two offsets each) what was there before a truncation, and what came instead.
PLACES = 4


def moved(draw: random.Random, at_us: int, client: str) -> HistoryEvent:
    """Anything after which a client may read elsewhere."""
    return draw.choice(
        [
            Assigned(at_us, client, "g", (TP,)),
            Revoked(at_us, client, "g", (TP,), False),
            Sought(at_us, client, "g", TP, 0),
            Repositioned(at_us, client, "g", TP, "truncation"),
        ]
    )


def read(draw: random.Random, at_us: int, placed: RecordBatch) -> Delivered:
    start = draw.choice([0, 0, 1])
    return given(at_us, placed, draw.choice("ccd"), draw.choice("ggh"), start=start, stop=draw.randrange(start, 2) + 1)


def readings(draw: random.Random) -> tuple[list[HistoryEvent], LogView]:
    """Two consumers read old and new batches in some order; the log holds the new ones from some place on."""
    old = [batch(2, place * 2, 1) for place in range(PLACES)]
    new = [batch(2, place * 2, 2) for place in range(PLACES)]
    cut = draw.randrange(PLACES + 1)
    log = [*old[:cut], *new[cut : draw.randrange(cut, PLACES + 1)]]
    events: list[HistoryEvent] = []
    for at_us in range(draw.randrange(1, 9)):
        kind = draw.randrange(8)
        if kind == 0:
            events.append(moved(draw, at_us, draw.choice("cd")))
        elif kind == 1 and draw.random() < 0.3:
            events.append(Closed(at_us, draw.choice("cd")))
        else:
            events.append(read(draw, at_us, draw.choice(draw.choice([old, new]))))
    return events, LogView(log, start_offset=draw.choice([0, 0, 2]))


def follow_one_another(events: list[HistoryEvent], first: int, second: int) -> bool:
    """Are these two deliveries to one client, with nothing between that is given to it or moves it?"""
    one, two = events[first], events[second]
    if not isinstance(one, Delivered) or not isinstance(two, Delivered) or one.client != two.client:
        return False
    return not any(getattr(event, "client", None) == one.client for event in events[first + 1 : second])


def test_position_jump_is_its_definition() -> None:
    """R3: given a record that the log has replaced, and right after it a later one that is in the log."""
    broken = 0
    for draw in draws("position-jump"):
        events, view = readings(draw)
        there = {offset: each for each in view.batches for offset in (each.base_offset, each.base_offset + 1)}
        expected = False
        for first, one in enumerate(events):
            for second in range(first + 1, len(events)):
                two = events[second]
                if not follow_one_another(events, first, second):
                    continue
                assert isinstance(one, Delivered)
                assert isinstance(two, Delivered)
                last, next_offset = one.batch.base_offset + one.stop - 1, two.batch.base_offset + two.start
                is_later = two.batch.base_offset > one.batch.base_offset
                is_gone = last >= view.start_offset and there.get(last) is not one.batch
                expected |= is_later and is_gone and there.get(next_offset) is two.batch
        report = Report()
        check_positions(events, {TP: view}, report)
        broken += expected
        assert bool(report.of("R3")) == expected
    assert broken


def test_truncation_silence_is_its_definition() -> None:
    """G9: at the end, a consumer's last record is behind the end of the log, the leader is no news, and nothing moved it."""
    broken = 0
    for draw in draws("truncation-silence"):
        events, view = readings(draw)
        led_us, end_us = draw.randrange(20), draw.choice([30, 29_999_999, 60_000_000])
        events.append(Happened(led_us, 1, "became leader", TP))
        events.append(Happened(end_us, 1, "broker-state", 1))
        end = view.batches[-1].next_offset if view.batches else view.start_offset
        expected = False
        for client in "cd":
            own = [event for event in events if getattr(event, "client", None) == client]
            if own and isinstance(own[-1], Delivered):
                is_old = end_us - max(led_us, own[-1].at_us) > 30_000_000
                expected |= own[-1].batch.base_offset >= end and is_old
        report = Report()
        check_positions(events, {TP: view}, report)
        broken += expected
        assert bool(report.of("G9")) == expected
    assert broken


def test_lost_write_is_its_definition() -> None:
    """P1b: acknowledged, then passed by a reader (or met by another record at its offset), and read by nobody."""
    broken = 0
    for draw in draws("lost-write"):
        events, _ = readings(draw)
        sent = [batch(2, place * 2, draw.randrange(1, 3)) for place in range(PLACES) if draw.random() < 0.7]
        known = {id(each.columns): each for event in events if isinstance(event, Delivered) for each in [event.batch]}
        for placed in [*sent, *known.values()]:
            events.insert(draw.randrange(len(events) + 1), acked(0, placed))
        events = [attrs.evolve(event, at_us=at_us) for at_us, event in enumerate(events)]
        expected = 0
        for event in events:
            if isinstance(event, Acked):
                expected += sum(is_lost(events, event, event.base_offset + index) for index in range(2))
        report = Report()
        check_lost_writes(events, (), report)
        broken += bool(expected)
        assert len(report.of("P1b")) == (expected if expected <= 5 else 6)
    assert broken


def is_lost(events: list[HistoryEvent], sent: Acked, offset: int) -> bool:
    is_passed = False
    next_offset: dict[str, int] = {}
    for event in events:
        if isinstance(event, Delivered):
            first, stop = event.batch.base_offset + event.start, event.batch.base_offset + event.stop
            if first <= offset < stop and event.batch.columns is sent.batch.columns:
                return False
            since = min(first, next_offset.get(event.client, first))
            is_passed |= event.at_us >= sent.at_us and since <= offset < stop
            next_offset[event.client] = stop
        elif isinstance(event, Assigned | Revoked | Sought | Repositioned):
            next_offset.pop(event.client, None)
    return is_passed


def test_metrics_of_reading_are_their_definitions() -> None:
    """R5: the longest time from an acknowledgement to the first delivery to a group. G5: deliveries that were not the first."""
    for draw in draws("reading"):
        log = [batch(2, place * 2) for place in range(PLACES)]
        events: list[HistoryEvent] = [acked(draw.randrange(5) + place * 5, each) for place, each in enumerate(log)]
        seen = 0
        for at_us in range(20, 20 + draw.randrange(1, 8)):
            seen = min(PLACES - 1, seen + draw.randrange(2))
            events.append(given(at_us, log[seen] if draw.random() < 0.7 else log[draw.randrange(seen + 1)]))
        report = Report()
        events = [attrs.evolve(event, at_us=event.at_us * 1000) for event in events]
        measure_reading(events, report)
        given_at: dict[int, int] = {}
        deliveries = 0
        for event in events:
            if isinstance(event, Delivered):
                for offset in range(event.batch.base_offset + event.start, event.batch.base_offset + event.stop):
                    given_at.setdefault(offset, event.at_us)
                    deliveries += 1
        told = {event.base_offset: event.at_us for event in events if isinstance(event, Acked)}
        # A record that comes after a later one was read is old news: it was not waited for.
        first_given = {o: at for o, at in given_at.items() if all(at <= given_at[p] for p in given_at if p > o)}
        waits = [at - told[offset // 2 * 2] for offset, at in first_given.items()]
        assert report.metrics["staleness: group g waited for acknowledged records, ms at most"] == max(waits) // 1000
        assert report.metrics.get("redelivery: records that group g was given again", 0) == deliveries - len(given_at)


def test_a_record_that_was_only_acknowledged_with_fewer_copies_may_be_lost() -> None:
    """acks=1 waits for no replica: told as allowed."""
    report = Report()
    sent = batch(1, 1)
    events: list[HistoryEvent] = [acked(1, sent, acks=1), given(2, batch(1, 0)), given(3, batch(1, 2))]
    check_lost_writes(events, (), report)
    assert report.ok
    assert [finding.invariant for finding in report.allowed] == ["lost-write"]
