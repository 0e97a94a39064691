"""Branches of a fan-out: each check against its definition on random histories."""

from __future__ import annotations

import random

from tests.unit.check.histories import TP, acked, batch, draws, given

from kafkasim.check.branches import check_branches
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.core.model.history import DONE, FAILED, SKIPPED, STARTED, UNKNOWN, Acked, Effected, HistoryEvent

_OVER = (DONE, UNKNOWN, SKIPPED)


def fan_out(draw: random.Random, unreported: int = 0) -> list[HistoryEvent]:
    """Two groups work on some of what was acknowledged, in any order, more than once if it comes so.

    ``unreported``: on so many records besides that are in the log, and of which their producer will hear later.
    """
    events: list[HistoryEvent] = []
    at_us = end = 0
    for _ in range(draw.randrange(2, 14)):
        at_us += draw.randrange(3) * 1_000_000
        if draw.random() < 0.35 or not end:
            count = draw.randrange(1, 4)
            events.append(acked(at_us, batch(count, end)))
            end += count
        elif draw.random() < 0.8:
            phase = draw.choice([DONE, DONE, UNKNOWN, SKIPPED, FAILED, STARTED])
            events.append(
                Effected(at_us, "c", draw.choice("gh"), "s", TP, draw.randrange(end + unreported), None, phase)
            )
        else:
            events.append(given(at_us, batch(1, draw.randrange(end + unreported)), "c", draw.choice("gh")))
    return events


def found(events: list[HistoryEvent], start: int = 0, **promises: object) -> Report:
    report = Report()
    guarantees = [Guarantee.of(group, "orders", promises) for group in "gh"]
    check_branches(events, {TP: LogView([], start, has_leader=False)}, guarantees, report)
    return report


def worked(events: list[HistoryEvent], group: str, offset: int) -> list[str]:
    return [
        e.phase
        for e in events
        if isinstance(e, Effected) and (e.group, e.offset) == (group, offset) and e.phase in _OVER
    ]


def offsets_acked(events: list[HistoryEvent]) -> range:
    return range(max(e.base_offset + e.stop for e in events if isinstance(e, Acked)))


def test_conservation_is_its_definition() -> None:
    """E5: each acknowledged record in one bucket: the best that became of it, or gone, or still to come."""
    for draw in draws("conservation"):
        events, start = fan_out(draw), draw.choice([0, 0, 2])
        report = found(events, start, at_least_once=True)
        for group in "gh":
            if not any(worked(events, group, offset) for offset in offsets_acked(events)):
                continue
            expected: dict[str, int] = {}
            for offset in offsets_acked(events):
                phases = worked(events, group, offset)
                best = next((phase for phase in _OVER if phase in phases), "gone" if offset < start else "to come")
                expected[best] = expected.get(best, 0) + 1
            told = f"conservation: acknowledged records of group {group} that are "
            metrics = {name.removeprefix(told): n for name, n in report.metrics.items() if name.startswith(told)}
            assert metrics == expected


def test_branch_convergence_is_its_definition() -> None:
    """E6: two drained groups with effects, and a record that only one of them has worked on."""
    broken = 0
    for draw in draws("branch-convergence"):
        events = fan_out(draw)
        done = {g: {o for o in offsets_acked(events) if worked(events, g, o)} for g in "gh"}
        expected = all(done.values()) and done["g"] != done["h"]
        broken += expected
        assert bool(found(events, drained=True).of("E6")) == expected
        assert not found(events, at_least_once=True).findings
    assert broken


def test_head_of_line_stall_is_its_definition() -> None:
    """E8: at some moment the head, with records behind it, had not moved for longer than was promised."""
    broken = 0
    for draw in draws("head-of-line"):
        events = fan_out(draw, draw.choice([0, 0, 2]))
        if not any(isinstance(e, Effected) and e.phase in _OVER for e in events):
            continue
        expected = any(stands_still(events, group) > 3_000_000 for group in "gh" if has_effects(events, group))
        expected |= any(
            stands_still(events, group, of_deliveries=True) > 3_000_000
            for group in "gh"
            if not has_effects(events, group)
        )
        broken += expected
        assert bool(found(events, recovery_s=3.0).of("E8")) == expected
    assert broken


def has_effects(events: list[HistoryEvent], group: str) -> bool:
    return any(isinstance(e, Effected) and e.group == group for e in events)


def stands_still(events: list[HistoryEvent], group: str, *, of_deliveries: bool = False) -> int:
    """The longest time between two moments with one and the same head, and records behind it all the time."""

    def state(upto: int) -> tuple[int, bool]:
        head = end = 0
        for event in events[:upto]:
            if isinstance(event, Acked):
                end = max(end, event.base_offset + event.stop)
            elif isinstance(event, Effected):
                if event.group == group and event.phase in _OVER and not of_deliveries:
                    head = max(head, event.offset + 1)
            elif of_deliveries and getattr(event, "group", "") == group:
                head = max(head, event.batch.base_offset + 1)  # type: ignore[union-attr]
        return head, head < end

    worst = 0
    for first in range(1, len(events) + 1):
        head, waits = state(first)
        for last in range(first, len(events) + 1):
            if not waits or state(last) != (head, True):
                break
            until = events[min(last, len(events) - 1)].at_us
            worst = max(worst, until - events[first - 1].at_us)
    return worst
