"""What user code made of its records: worked on at least once, at most once, in order, and committed only afterwards.

E1 at-least-once · E2 at-most-once · E3 effectively-once · E4 key-order, stale-overwrite · R4 unseen · E9 lag · E7 recovery
G3 commit-ahead (the cause of which E1 is the consequence) · G4 commit-regress

Inputs:   the history of either backend; the promises.      Effects: findings.
Rule 1:   all promises are held against one reading of the history (``check.work``); what is asked of each record there costs a byte.
Rule 2:   a check goes over the history again only where that reading saw something unusual: effects that were not in order.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TypeAlias

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.marks import Marks
from kafkasim.check.report import Report
from kafkasim.check.spans import some
from kafkasim.check.work import Part, Work, merged, read_work
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    DONE,
    Acked,
    Delivered,
    Effected,
    HistoryEvent,
    ShareDelivered,
)
from kafkasim.core.model.ids import TopicPartition

_MOST_TOLD = 5
#: Where work shows: a sink, and the partition that it is about.
_Shown: TypeAlias = "tuple[str, TopicPartition]"


def check_effects(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    guarantees: Sequence[Guarantee],
    report: Report,
    work: Work | None = None,
) -> None:
    """Hold the history against what groups promise. ``work``: what was read of it already. O(events), and O(batches) for each promise."""
    work = work or read_work(events, guarantees)
    for guarantee in guarantees:
        if guarantee.group is None:
            continue
        parts = work.parts_of(guarantee)
        report.count("promises of groups")
        # At least once of share groups: `check.share`.
        if (guarantee.at_least_once or guarantee.effectively_once) and guarantee.group not in work.shared:
            _check_ahead(parts, guarantee, report)
            _check_at_least_once(parts, work.acked, logs, guarantee, report)
        if guarantee.at_most_once or guarantee.effectively_once:
            _check_at_most_once(parts, guarantee, report)
        if guarantee.ordered_by_key:
            _check_order(events, work.unordered(guarantee), guarantee, report)
        if guarantee.drained:
            _check_drained(parts, work.acked, logs, guarantee, report)
        if guarantee.max_lag is not None or guarantee.recovery_s is not None:
            _check_lag(work.rest, guarantee, report)


def _check_ahead(parts: Mapping[TopicPartition, Part], guarantee: Guarantee, report: Report) -> None:
    """G3; and G4, which Kafka accepts, as a remark."""
    for tp, part in parts.items():
        for offset, commit, at_us in part.lanes[guarantee.sink].ahead[:_MOST_TOLD]:
            text = f"{guarantee.whom} committed {tp} up to {commit} at {at_us / 1e6:.6f} s, before offset {offset} was worked on"
            report.add("commit-ahead", text, at_us=at_us, tp=tp, cause="committed before its work")
        for before, offset, at_us in part.regressed[:_MOST_TOLD]:
            text = f"{guarantee.whom} committed {tp} at {offset} at {at_us / 1e6:.6f} s, after {before}"
            report.allow("commit-regress", f"{text}: what is between may be given again")


def _check_at_least_once(
    parts: Mapping[TopicPartition, Part],
    acked: Mapping[TopicPartition, Sequence[tuple[int, int]]],
    logs: Mapping[TopicPartition, LogView],
    guarantee: Guarantee,
    report: Report,
) -> None:
    """E1: an acknowledged record that was not worked on, and to which the group will not come back."""
    for tp in _partitions(parts, acked, guarantee):
        view = logs.get(tp)
        committed, marks = -1, Marks()
        if tp in parts:
            committed, marks = parts[tp].committed, parts[tp].lanes[guarantee.sink].marks
        deleted = 0 if view is None else view.start_offset
        passed: list[int] = []
        lost = waiting = 0
        for first, stop in _holes(marks, acked.get(tp, ())):
            # What is behind both is in the log, and the group may still come to it.
            end = max(first, min(stop, max(committed, deleted)))
            waiting += stop - end
            lost += end - first
            passed += range(first, min(end, first + _MOST_TOLD))
        if waiting:
            report.count(f"records that {guarantee.group} has not worked on yet", waiting)
        for offset in passed[:_MOST_TOLD]:
            cause = "it was committed past" if offset < committed else "it was deleted from the log before"
            why = f"{cause} (up to {committed})" if offset < committed else cause
            text = f"{guarantee.whom} never worked on {tp} offset {offset}: {why}"
            report.add("at-least-once", text, tp=tp, cause=cause)
        if lost > _MOST_TOLD:
            report.add("at-least-once", f"{guarantee.whom}: {lost - _MOST_TOLD} more records of {tp} like these")


def _holes(marks: Marks, spans: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    return (hole for start, stop in spans for hole in marks.holes(start, stop))


def _check_at_most_once(parts: Mapping[TopicPartition, Part], guarantee: Guarantee, report: Report) -> None:
    """E2, and the half of E3 that it is."""
    name = "effectively-once" if guarantee.effectively_once else "at-most-once"
    for tp, part in parts.items():
        doubled = sorted(part.lanes[guarantee.sink].doubled.items())
        for offset, times in doubled[:_MOST_TOLD]:
            report.add(name, f"{guarantee.whom} worked on {tp} offset {offset} {times} times")
        if len(doubled) > _MOST_TOLD:
            report.add(name, f"{guarantee.whom}: {len(doubled) - _MOST_TOLD} more records of {tp} like these")


def _check_order(
    events: Iterable[HistoryEvent], unordered: Container[_Shown], guarantee: Guarantee, report: Report
) -> None:
    """E4: a key's effects, in the order in which they were applied: where any of its sink and partition were out of order."""
    keys = _unordered_keys(events, unordered, guarantee) if unordered else {}
    if not keys:
        return
    highest: dict[tuple[_Shown, bytes], int] = {}
    seen: dict[tuple[_Shown, bytes], set[int]] = {}
    for event in events:
        if type(event) is not Effected or event.phase != DONE or event.key is None or event.group != guarantee.group:
            continue
        place = ((event.sink, event.tp), event.key)
        if place not in keys:
            continue
        before = highest.get(place, -1)
        if event.offset < before:
            text = (
                f"{guarantee.whom}: key {event.key!r} of {event.tp}: offset {event.offset} took effect after {before}"
            )
            is_first = event.offset not in seen.setdefault(place, set())
            report.add("key-order" if is_first else "stale-overwrite", f"{text}, at {event.at_us / 1e6:.6f} s")
        seen.setdefault(place, set()).add(event.offset)
        highest[place] = max(before, event.offset)


def _unordered_keys(
    events: Iterable[HistoryEvent], unordered: Container[_Shown], guarantee: Guarantee
) -> dict[tuple[_Shown, bytes], None]:
    """Those of which one effect came below another before it: workers that go by key keep their order, and partitions do not."""
    highest: dict[_Shown, dict[bytes, int]] = {}
    found: dict[tuple[_Shown, bytes], None] = {}
    sink, tp, own = None, None, None
    for event in events:
        if type(event) is not Effected or event.phase != DONE or event.key is None or event.group != guarantee.group:
            continue
        if event.tp is not tp or event.sink is not sink:
            sink, tp = event.sink, event.tp
            is_asked = (sink, tp) in unordered and guarantee.is_about(tp.topic)
            own = highest.setdefault((sink, tp), {}) if is_asked else None
        if own is None:
            continue
        if event.offset >= own.get(event.key, -1):
            own[event.key] = event.offset
        else:
            found[(event.sink, event.tp), event.key] = None
    return found


def _check_drained(
    parts: Mapping[TopicPartition, Part],
    acked: Mapping[TopicPartition, Sequence[tuple[int, int]]],
    logs: Mapping[TopicPartition, LogView],
    guarantee: Guarantee,
    report: Report,
) -> None:
    """R4: in the log, and never given to the group."""
    for tp in _partitions(parts, acked, guarantee):
        view = logs.get(tp)
        first, end = (0, None) if view is None else (view.start_offset, view.end_offset)
        spans = [(max(start, first), stop if end is None else min(stop, end)) for start, stop in acked.get(tp, ())]
        unseen = _without(spans, merged(parts[tp].given_ever) if tp in parts else ())
        number = sum(stop - start for start, stop in unseen)
        if number:
            offsets = [offset for start, stop in unseen for offset in range(start, min(stop, start + _MOST_TOLD + 1))]
            text = f"{guarantee.whom} was never given {number} records of {tp} (offsets {some(offsets, _MOST_TOLD)})"
            where = "" if end is None else ": they are in the log, and were not consumed"
            report.add("unseen", f"{text}{where}", tp=tp, cause="present, and not consumed")


def _check_lag(events: Iterable[HistoryEvent], guarantee: Guarantee, report: Report) -> None:
    """E9 and E7: how far behind the group was, and for how long it stood still with records waiting."""
    ends: dict[TopicPartition, int] = {}
    reached: dict[TopicPartition, int] = {}
    lag = worst = 0
    worst_at_us = still_since_us = stall_us = stall_from_us = 0
    for event in events:
        if type(event) is Acked:
            if event.error is not ErrorCode.NONE or event.base_offset < 0 or not guarantee.is_about(event.tp.topic):
                continue
            if lag == 0:
                still_since_us = event.at_us
            before, end = ends.get(event.tp, 0), event.base_offset + event.stop
            at = max(before, reached.get(event.tp, 0))
            lag += max(0, end - at)
            ends[event.tp] = max(before, end)
        elif (
            (type(event) is Delivered or type(event) is ShareDelivered)
            and event.group == guarantee.group
            and guarantee.is_about(event.tp.topic)
        ):
            if lag and event.at_us - still_since_us > stall_us:
                stall_us, stall_from_us = event.at_us - still_since_us, still_since_us
            still_since_us = event.at_us
            after = event.batch.offset_at(event.stop - 1) + 1
            before = reached.get(event.tp, 0)
            if after > before:
                lag -= max(0, min(after, ends.get(event.tp, 0)) - before)
                reached[event.tp] = after
        if lag > worst:
            worst, worst_at_us = lag, event.at_us
    if guarantee.max_lag is not None and worst > guarantee.max_lag:
        text = f"{guarantee.whom} was {worst:,} records behind at {worst_at_us / 1e6:.3f} s"
        report.add("lag", f"{text}; at most {guarantee.max_lag:,} were promised")
    if guarantee.recovery_s is not None and stall_us > guarantee.recovery_s * 1_000_000:
        text = f"{guarantee.whom} was given nothing for {stall_us / 1e6:.3f} s from {stall_from_us / 1e6:.3f} s on"
        report.add("recovery", f"{text}, with records waiting; at most {guarantee.recovery_s:g} s were promised")


def _partitions(
    parts: Mapping[TopicPartition, Part], acked: Mapping[TopicPartition, object], guarantee: Guarantee
) -> list[TopicPartition]:
    """What the promise is about: its topics; or, where it names none, the topics of which the group was given anything."""
    topics = dict.fromkeys(guarantee.topics or (tp.topic for tp in parts))
    return sorted(tp for tp in dict.fromkeys([*parts, *acked]) if tp.topic in topics)


def _without(spans: Iterable[tuple[int, int]], given: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of the spans is in none of ``given``; both are in order."""
    left: list[tuple[int, int]] = []
    index = 0
    for start, stop in spans:
        while start < stop:
            while index < len(given) and given[index][1] <= start:
                index += 1
            begin, end = given[index] if index < len(given) else (stop, stop)
            if begin > start:
                left.append((start, min(stop, begin)))
            start = end
    return left
