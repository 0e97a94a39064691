"""The branches of a fan-out side by side: what became of every record, whether they have done the same, where one stands still.

E5 conservation, a metric: each acknowledged record is in one place: worked on, left out, doubtful, gone, or still to come.
E6 branch-convergence: groups that were given everything have worked on the same records.
E8 head-of-line-stall: a partition whose head did not move for longer than promised, with records behind it.

Inputs:   the history, what was promised, the logs.      Effects: findings, metrics.
Rule 1:   E6 and E8 are judged for groups that promise to be drained, and to recover in time.
Rule 2:   the head of a partition is the highest record that the group has worked on; of a group without effects, that it was given.
Rule 3:   each check takes one pass over the events of its groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from kafkasim.check.effects import acknowledged
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.check.spans import some
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import DONE, SKIPPED, UNKNOWN, Acked, Delivered, Effected, HistoryEvent, ShareDelivered
from kafkasim.core.model.ids import TopicPartition

_OVER = (DONE, UNKNOWN, SKIPPED)


def check_branches(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    guarantees: Sequence[Guarantee],
    report: Report,
) -> None:
    """E5, E6 and E8."""
    chosen = [each for each in guarantees if each.group is not None]
    if not chosen:
        return
    work = _work_of(events, dict.fromkeys(str(each.group) for each in chosen))
    if not work:
        return
    acked = acknowledged(events)
    for guarantee in chosen:
        if guarantee.topics and guarantee.group in work:
            _count(work[guarantee.group], acked, logs, guarantee, report)
    _check_convergence(work, acked, [each for each in chosen if each.drained and each.group in work], report)
    for guarantee in chosen:
        if guarantee.recovery_s is not None:
            _check_heads(events, guarantee, report)


def _work_of(
    events: Iterable[HistoryEvent], groups: Mapping[str, None]
) -> dict[str, dict[TopicPartition, dict[int, str]]]:
    """Group -> partition -> offset -> the best that became of it: done, doubtful, left out."""
    work: dict[str, dict[TopicPartition, dict[int, str]]] = {}
    for event in events:
        if type(event) is Effected and event.group in groups and event.phase in _OVER:
            offsets = work.setdefault(event.group, {}).setdefault(event.tp, {})
            before = offsets.get(event.offset)
            if before is None or _OVER.index(event.phase) < _OVER.index(before):
                offsets[event.offset] = event.phase
    return work


def _count(
    work: Mapping[TopicPartition, Mapping[int, str]],
    acked: Mapping[TopicPartition, Sequence[tuple[int, int]]],
    logs: Mapping[TopicPartition, LogView],
    guarantee: Guarantee,
    report: Report,
) -> None:
    """E5: every acknowledged record is counted once."""
    buckets = dict.fromkeys((*_OVER, "gone", "to come"), 0)
    for tp, spans in acked.items():
        if not guarantee.is_about(tp.topic):
            continue
        view, own = logs.get(tp), work.get(tp, {})
        start = 0 if view is None else view.start_offset
        for first, stop in spans:
            for offset in range(first, stop):
                buckets[own.get(offset) or ("gone" if offset < start else "to come")] += 1
    for name, number in buckets.items():
        if number:
            report.measure(f"conservation: acknowledged records of {guarantee.whom} that are {name}", number)


def _check_convergence(
    work: Mapping[str, Mapping[TopicPartition, Mapping[int, str]]],
    acked: Mapping[TopicPartition, Sequence[tuple[int, int]]],
    drained: Sequence[Guarantee],
    report: Report,
) -> None:
    """E6: each group against the first that promised the same topic."""
    for tp in acked:
        branches = list(dict.fromkeys(str(each.group) for each in drained if each.is_about(tp.topic)))
        everywhere = {offset for group in branches for offset in work[group].get(tp, ())}
        for group in branches if len(branches) > 1 else ():
            missing = sorted(everywhere - work[group].get(tp, {}).keys())
            if missing:
                text = f"group {group} has not worked on {len(missing)} records of {tp} that other branches have (offsets {some(missing)})"
                report.add("branch-convergence", text, tp=tp, cause="branches differ after they were drained")


@attrs.define(slots=True, eq=False)
class _Head:
    end: int = 0
    at: int = 0
    since_us: int = 0
    stall_us: int = 0
    stall_from_us: int = 0

    def look(self, now_us: int) -> None:
        if self.at < self.end and now_us - self.since_us > self.stall_us:
            self.stall_us, self.stall_from_us = now_us - self.since_us, self.since_us


def _check_heads(events: Sequence[HistoryEvent], guarantee: Guarantee, report: Report) -> None:
    """E8, up to the end of the history."""
    has_effects = any(type(event) is Effected and event.group == guarantee.group for event in events)
    heads: dict[TopicPartition, _Head] = {}
    for event in events:
        if type(event) is Acked:
            if event.error is not ErrorCode.NONE or event.base_offset < 0 or not guarantee.is_about(event.tp.topic):
                continue
            head = heads.setdefault(event.tp, _Head())
            if head.at >= head.end:
                head.since_us = event.at_us
            head.end = max(head.end, event.base_offset + event.stop)
            continue
        if type(event) is Effected:
            if event.group != guarantee.group or event.phase not in _OVER:
                continue
            after = event.offset + 1
        elif (type(event) is Delivered or type(event) is ShareDelivered) and not has_effects:
            if event.group != guarantee.group:
                continue
            after = event.batch.offset_at(event.stop - 1) + 1
        else:
            continue
        known = heads.get(event.tp)
        if known is not None and after > known.at:
            known.look(event.at_us)
            known.at, known.since_us = after, event.at_us
    bound_us = round((guarantee.recovery_s or 0) * 1e6)
    for tp, head in heads.items():
        head.look(events[-1].at_us)
        if head.stall_us > bound_us:
            text = (
                f"{guarantee.whom} stood still in {tp} at offset {head.at} or before for {head.stall_us / 1e6:.3f} s "
                f"from {head.stall_from_us / 1e6:.3f} s on"
            )
            report.add(
                "head-of-line-stall",
                f"{text}, with records waiting; at most {guarantee.recovery_s:g} s were promised",
                at_us=head.stall_from_us,
                tp=tp,
                cause="the head of a partition did not move",
            )
