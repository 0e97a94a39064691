"""What user code made of its records: worked on at least once, at most once, in order, and committed only afterwards.

E1 at-least-once · E2 at-most-once · E3 effectively-once · E4 key-order, stale-overwrite · R4 unseen · E9 lag · E7 recovery
G3 commit-ahead (the cause of which E1 is the consequence) · G4 commit-regress

Inputs:   the history of either backend; the promises.      Effects: findings.
Rule 1:   a record is its partition and offset: that is what user code is given, and what every group of a fan-out shares.
Rule 2:   work on a record is done when its effect is; ``UNKNOWN`` may have been applied, so it neither loses nor doubles anything.
Rule 3:   each check takes one pass, with constant work for each record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    DONE,
    SKIPPED,
    UNKNOWN,
    Acked,
    Committed,
    Delivered,
    Effected,
    HistoryEvent,
    ShareDelivered,
)
from kafkasim.core.model.ids import TopicPartition

_MOST_TOLD = 5


@attrs.define(slots=True, eq=False)
class _Part:
    """One partition as one group has worked on it."""

    #: Offsets in the order in which the group was first given them, and how many of them, from the front, are done.
    given: list[int] = attrs.field(factory=list)
    highest: int = -1
    finished: int = 0
    #: How often the effect of an offset was applied; 0 where the work was left out or may have been done.
    done: dict[int, int] = attrs.field(factory=dict)
    committed: int = -1
    #: (offset, commit, time) of records that were committed before their work was done.
    ahead: list[tuple[int, int, int]] = attrs.field(factory=list)
    last_ahead: int = -1
    regressed: list[tuple[int, int, int]] = attrs.field(factory=list)


def check_effects(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    guarantees: Iterable[Guarantee],
    report: Report,
) -> None:
    """Hold the history against what groups promise. O(records + events) for each promise."""
    acked = acknowledged(events)
    shared = {
        event.group for event in events if type(event) is ShareDelivered
    }  # At least once of these: `check.share`.
    for guarantee in guarantees:
        if guarantee.group is None:
            continue
        parts = _work_of(events, guarantee)
        report.count("promises of groups")
        if (guarantee.at_least_once or guarantee.effectively_once) and guarantee.group not in shared:
            _check_ahead(parts, guarantee, report)
            _check_at_least_once(parts, acked, logs, guarantee, report)
        if guarantee.at_most_once or guarantee.effectively_once:
            _check_at_most_once(parts, guarantee, report)
        if guarantee.ordered_by_key:
            _check_order(events, guarantee, report)
        if guarantee.drained:
            _check_drained(parts, acked, logs, guarantee, report)
        if guarantee.max_lag is not None or guarantee.recovery_s is not None:
            _check_lag(events, guarantee, report)


def acknowledged(events: Iterable[HistoryEvent]) -> dict[TopicPartition, list[tuple[int, int]]]:
    """The offsets that producers were told of, as ordered spans that do not touch."""
    spans: dict[TopicPartition, list[tuple[int, int]]] = {}
    for event in events:
        if isinstance(event, Acked) and event.error is ErrorCode.NONE and event.base_offset >= 0:
            spans.setdefault(event.tp, []).append((event.base_offset + event.start, event.base_offset + event.stop))
    for tp, listed in spans.items():
        listed.sort()
        merged: list[tuple[int, int]] = []
        for start, stop in listed:
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        spans[tp] = merged
    return spans


def _work_of(events: Iterable[HistoryEvent], guarantee: Guarantee) -> dict[TopicPartition, _Part]:
    """One pass over the history for one promise: what was given, done and committed, in the order in which it happened."""
    parts: dict[TopicPartition, _Part] = {}
    group = guarantee.group
    for event in events:
        if isinstance(event, Delivered):
            if event.group == group and guarantee.is_about(event.tp.topic):
                _on_given(parts.setdefault(event.tp, _Part()), event)
        elif isinstance(event, ShareDelivered):
            if event.group == group and guarantee.is_about(event.tp.topic):
                offsets = map(event.batch.offset_at, range(event.start, event.stop))
                parts.setdefault(event.tp, _Part()).given.extend(offsets)
        elif isinstance(event, Effected):
            if event.group == group and guarantee.is_about(event.tp.topic) and guarantee.sink in (None, event.sink):
                part = parts.setdefault(event.tp, _Part())
                if event.phase == DONE:
                    part.done[event.offset] = part.done.get(event.offset, 0) + 1
                elif event.phase in (UNKNOWN, SKIPPED):
                    part.done.setdefault(event.offset, 0)
        elif isinstance(event, Committed) and event.group == group:
            for tp, offset, error in event.offsets:
                if error is ErrorCode.NONE and guarantee.is_about(tp.topic):
                    _on_committed(parts.setdefault(tp, _Part()), offset, event.at_us)
    return parts


def _on_given(part: _Part, event: Delivered) -> None:
    batch = event.batch
    for index in range(event.start, event.stop):
        offset = batch.offset_at(index)
        if offset > part.highest:
            part.given.append(offset)
            part.highest = offset


def _on_committed(part: _Part, offset: int, at_us: int) -> None:
    given, done = part.given, part.done
    while part.finished < len(given) and given[part.finished] in done:
        part.finished += 1
    if part.finished < len(given) and part.last_ahead < given[part.finished] < offset:
        part.ahead.append((given[part.finished], offset, at_us))
        part.last_ahead = offset - 1
    if offset < part.committed:
        part.regressed.append((part.committed, offset, at_us))
    part.committed = offset


def _check_ahead(parts: Mapping[TopicPartition, _Part], guarantee: Guarantee, report: Report) -> None:
    """G3; and G4, which Kafka accepts, as a remark."""
    for tp, part in parts.items():
        for offset, commit, at_us in part.ahead[:_MOST_TOLD]:
            text = f"{guarantee.whom} committed {tp} up to {commit} at {at_us / 1e6:.6f} s, before offset {offset} was worked on"
            report.add("commit-ahead", text, at_us=at_us, tp=tp, cause="committed before its work")
        for before, offset, at_us in part.regressed[:_MOST_TOLD]:
            text = f"{guarantee.whom} committed {tp} at {offset} at {at_us / 1e6:.6f} s, after {before}"
            report.allow("commit-regress", f"{text}: what is between may be given again")


def _check_at_least_once(
    parts: Mapping[TopicPartition, _Part],
    acked: Mapping[TopicPartition, Sequence[tuple[int, int]]],
    logs: Mapping[TopicPartition, LogView],
    guarantee: Guarantee,
    report: Report,
) -> None:
    """E1: an acknowledged record that was not worked on, and to which the group will not come back."""
    for tp in _partitions(parts, acked, guarantee):
        part = parts.get(tp, _Part())
        view = logs.get(tp)
        lost = []
        waiting = 0
        for offset in _undone(acked.get(tp, ()), part):
            why = _why_lost(offset, part, view)
            if why is None:
                waiting += 1
            else:
                lost.append((offset, why))
        if waiting:
            report.count(f"records that {guarantee.group} has not worked on yet", waiting)
        for offset, why in lost[:_MOST_TOLD]:
            report.add(
                "at-least-once",
                f"{guarantee.whom} never worked on {tp} offset {offset}: {why}",
                tp=tp,
                cause=_cause(why),
            )
        if len(lost) > _MOST_TOLD:
            report.add("at-least-once", f"{guarantee.whom}: {len(lost) - _MOST_TOLD} more records of {tp} like these")


def _why_lost(offset: int, part: _Part, view: LogView | None) -> str | None:
    """None: it is in the log and the group may still come to it."""
    if offset < part.committed:
        return f"it was committed past (up to {part.committed})"
    if view is not None and offset < view.start_offset:
        return "it was deleted from the log before"
    return None


def _cause(why: str) -> str:
    return why.partition(" (")[0]


def _check_at_most_once(parts: Mapping[TopicPartition, _Part], guarantee: Guarantee, report: Report) -> None:
    """E2, and the half of E3 that it is."""
    name = "effectively-once" if guarantee.effectively_once else "at-most-once"
    for tp, part in parts.items():
        doubled = [(offset, times) for offset, times in part.done.items() if times > 1]
        for offset, times in doubled[:_MOST_TOLD]:
            report.add(name, f"{guarantee.whom} worked on {tp} offset {offset} {times} times")
        if len(doubled) > _MOST_TOLD:
            report.add(name, f"{guarantee.whom}: {len(doubled) - _MOST_TOLD} more records of {tp} like these")


def _check_order(events: Iterable[HistoryEvent], guarantee: Guarantee, report: Report) -> None:
    """E4: a key's effects, in the order in which they were applied."""
    highest: dict[tuple[str, bytes, TopicPartition], int] = {}
    seen: dict[tuple[str, bytes, TopicPartition], set[int]] = {}
    for event in events:
        if (
            not isinstance(event, Effected)
            or event.phase != DONE
            or event.key is None
            or event.group != guarantee.group
        ):
            continue
        if guarantee.sink not in (None, event.sink) or not guarantee.is_about(event.tp.topic):
            continue
        place = (event.sink, event.key, event.tp)
        before = highest.get(place, -1)
        if event.offset < before:
            text = (
                f"{guarantee.whom}: key {event.key!r} of {event.tp}: offset {event.offset} took effect after {before}"
            )
            is_first = event.offset not in seen.setdefault(place, set())
            report.add("key-order" if is_first else "stale-overwrite", f"{text}, at {event.at_us / 1e6:.6f} s")
        seen.setdefault(place, set()).add(event.offset)
        highest[place] = max(before, event.offset)


def _check_drained(
    parts: Mapping[TopicPartition, _Part],
    acked: Mapping[TopicPartition, Sequence[tuple[int, int]]],
    logs: Mapping[TopicPartition, LogView],
    guarantee: Guarantee,
    report: Report,
) -> None:
    """R4: in the log, and never given to the group."""
    for tp in _partitions(parts, acked, guarantee):
        part = parts.get(tp, _Part())
        view = logs.get(tp)
        given = dict.fromkeys(part.given)
        first, end = (0, None) if view is None else (view.start_offset, view.end_offset)
        spans = [(max(start, first), stop if end is None else min(stop, end)) for start, stop in acked.get(tp, ())]
        unseen = [offset for start, stop in spans for offset in range(start, stop) if offset not in given]
        if unseen:
            some = ", ".join(map(str, unseen[:_MOST_TOLD])) + (" …" if len(unseen) > _MOST_TOLD else "")
            text = f"{guarantee.whom} was never given {len(unseen)} records of {tp} (offsets {some})"
            where = "" if end is None else ": they are in the log, and were not consumed"
            report.add("unseen", f"{text}{where}", tp=tp, cause="present, and not consumed")


def _check_lag(events: Iterable[HistoryEvent], guarantee: Guarantee, report: Report) -> None:
    """E9 and E7: how far behind the group was, and for how long it stood still with records waiting."""
    ends: dict[TopicPartition, int] = {}
    reached: dict[TopicPartition, int] = {}
    lag = worst = 0
    worst_at_us = still_since_us = stall_us = stall_from_us = 0
    for event in events:
        if isinstance(event, Acked):
            if event.error is not ErrorCode.NONE or event.base_offset < 0 or not guarantee.is_about(event.tp.topic):
                continue
            if lag == 0:
                still_since_us = event.at_us
            before, end = ends.get(event.tp, 0), event.base_offset + event.stop
            at = max(before, reached.get(event.tp, 0))
            lag += max(0, end - at)
            ends[event.tp] = max(before, end)
        elif (
            isinstance(event, Delivered | ShareDelivered)
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
    parts: Mapping[TopicPartition, _Part], acked: Mapping[TopicPartition, object], guarantee: Guarantee
) -> list[TopicPartition]:
    """What the promise is about: its topics; or, where it names none, the topics of which the group was given anything."""
    topics = dict.fromkeys(guarantee.topics or (tp.topic for tp in parts))
    return sorted(tp for tp in dict.fromkeys([*parts, *acked]) if tp.topic in topics)


def _undone(spans: Iterable[tuple[int, int]], part: _Part) -> Iterable[int]:
    done = part.done
    return (offset for start, stop in spans for offset in range(start, stop) if offset not in done)
