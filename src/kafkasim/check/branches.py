"""The branches of a fan-out side by side: what became of every record, whether they have done the same, where one stands still.

E5 conservation, a metric: each acknowledged record is in one place: worked on, left out, doubtful, gone, or still to come.
   As a promise of topics that mirror a table: what is in one is in the other.
E6 branch-convergence: groups that were given everything have worked on the same records; topics that promise it hold the same.
E8 head-of-line-stall: a partition whose head did not move for longer than promised, with records behind it.

Inputs:   the history, what was promised, the logs.      Effects: findings, metrics.
Rule 1:   E6 and E8 are judged for groups that promise to be drained, and to recover in time.
Rule 2:   the head of a partition is the highest record that the group has worked on; of a group without effects, that it was given.
Rule 3:   between tables and topics a record is its value; of what a log does not hold any more, producers know. Where no whole log is
          known, nothing is concluded from what it lacks.
Rule 4:   they are asked of one reading of the history (``check.work``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.marks import Marks
from kafkasim.check.report import Report
from kafkasim.check.spans import some
from kafkasim.check.work import MARKS, Work, read_work
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, HistoryEvent, Inserted
from kafkasim.core.model.ids import TopicPartition

_NOTHING = Marks()
_MOST_TOLD = 5


def check_branches(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    guarantees: Sequence[Guarantee],
    report: Report,
    work: Work | None = None,
) -> None:
    """E5, E6 and E8. ``work``: what was read of the history already."""
    work = work or read_work(events, guarantees)
    chosen = [each for each in guarantees if each.group is not None]
    branches = {
        group: {tp: part.lanes[None].marks for tp, part in parts.items()}
        for group, parts in work.groups.items()
        if any(part.lanes[None].marks.pages for part in parts.values())
    }
    if not branches:
        return
    for guarantee in chosen:
        if guarantee.topics and guarantee.group in branches:
            _count(branches[guarantee.group], work.acked, logs, guarantee, report)
    _check_convergence(
        branches, work.acked, [each for each in chosen if each.drained and each.group in branches], report
    )
    for guarantee in chosen:
        if guarantee.recovery_s is not None:
            _check_heads(work, guarantee, report)


def _count(
    work: Mapping[TopicPartition, Marks],
    acked: Mapping[TopicPartition, Sequence[tuple[int, int]]],
    logs: Mapping[TopicPartition, LogView],
    guarantee: Guarantee,
    report: Report,
) -> None:
    """E5: every acknowledged record is counted once."""
    buckets = dict.fromkeys((*MARKS, "gone", "to come"), 0)
    for tp, spans in acked.items():
        if not guarantee.is_about(tp.topic):
            continue
        view, marks = logs.get(tp), work.get(tp, _NOTHING)
        start = 0 if view is None else view.start_offset
        for first, stop in spans:
            left = stop - first
            for phase, mark in MARKS.items():
                number = marks.count(mark, first, stop)
                buckets[phase] += number
                left -= number
            gone = marks.holes(first, min(stop, start)) if left else ()
            deleted = sum(end - begin for begin, end in gone)
            buckets["gone"] += deleted
            buckets["to come"] += left - deleted
    for name, number in buckets.items():
        if number:
            report.measure(f"conservation: acknowledged records of {guarantee.whom} that are {name}", number)


def _check_convergence(
    work: Mapping[str, Mapping[TopicPartition, Marks]],
    acked: Mapping[TopicPartition, Sequence[tuple[int, int]]],
    drained: Sequence[Guarantee],
    report: Report,
) -> None:
    """E6: each group against the first that promised the same topic."""
    for tp in acked:
        branches = list(dict.fromkeys(str(each.group) for each in drained if each.is_about(tp.topic)))
        marks = {group: work[group].get(tp, _NOTHING) for group in branches}
        for group in branches if len(branches) > 1 else ():
            missing = marks[group].lacks(marks.values())
            if missing:
                text = f"group {group} has not worked on {len(missing)} records of {tp} that other branches have (offsets {some(missing)})"
                report.add("branch-convergence", text, tp=tp, cause="branches differ after they were drained")


def _check_heads(work: Work, guarantee: Guarantee, report: Report) -> None:
    """E8, up to the end of the history."""
    group = str(guarantee.group)
    bound_us = round((guarantee.recovery_s or 0) * 1e6)
    for tp, heads in work.heads.items():
        worked, read = heads[group]
        head = worked if group in work.told else read
        if guarantee.is_about(tp.topic) and head.worst_us > bound_us:
            text = (
                f"{guarantee.whom} stood still in {tp} at offset {head.at} or before for {head.worst_us / 1e6:.3f} s "
                f"from {head.worst_from_us / 1e6:.3f} s on"
            )
            report.add(
                "head-of-line-stall",
                f"{text}, with records waiting; at most {guarantee.recovery_s:g} s were promised",
                at_us=head.worst_from_us,
                tp=tp,
                cause="the head of a partition did not move",
            )


# --- tables and topics -----------------------------------------------------------------------------------------------


def check_copies(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    guarantees: Sequence[Guarantee],
    report: Report,
) -> None:
    """E5 and E6 of topics that mirror a table, or one another. O(records) of those."""
    chosen = [each for each in guarantees if each.mirrors is not None or each.same_records]
    if not chosen:
        return
    topics = {topic: _Held() for each in chosen for topic in each.topics}
    rows: dict[str, dict[bytes, int]] = {str(each.mirrors): {} for each in chosen}
    for event in events:
        if type(event) is Inserted:
            if event.table in rows:
                rows[event.table].setdefault(event.value, event.at_us)
        elif type(event) is Acked and event.error is ErrorCode.NONE and event.tp.topic in topics:
            topics[event.tp.topic].take(event.batch.columns.values[event.start : event.stop])
    for tp, view in logs.items():
        held = topics.get(tp.topic)
        if held is not None:
            held.take_log(view)
    for guarantee in chosen:
        if guarantee.mirrors is not None:
            _check_mirror(rows[guarantee.mirrors], guarantee, topics, report)
        if guarantee.same_records:
            _check_same(guarantee, topics, report)


@attrs.define(slots=True, eq=False)
class _Held:
    """The values of a topic, of every partition; ``is_whole``: there are no others."""

    values: dict[bytes, None] = attrs.field(factory=dict)
    is_whole: bool = False
    _logs: int = 0

    def take(self, values: Iterable[bytes | None]) -> None:
        self.values.update(dict.fromkeys(value for value in values if value is not None))

    def take_log(self, view: LogView) -> None:
        for batch in view.batches:
            if not batch.is_control:
                self.take(batch.columns.values)
        is_whole = view.has_leader and not view.is_observed and not view.is_compacted and view.start_offset == 0
        self.is_whole = is_whole and (self.is_whole or not self._logs)
        self._logs += 1


def _check_mirror(rows: Mapping[bytes, int], guarantee: Guarantee, topics: Mapping[str, _Held], report: Report) -> None:
    where = ", ".join(guarantee.topics)
    held = [topics[topic] for topic in guarantee.topics]
    told = _Told(report, "conservation")
    report.count("rows of tables", len(rows))
    for row, at_us in rows.items():
        if all(each.is_whole and row not in each.values for each in held):
            text = (
                f"{row!r} was written into {guarantee.mirrors} at {at_us / 1e6:.6f} s, and nothing of it is in {where}"
            )
            told.add(text, at_us, "in a table, and in no topic")
    for value in dict.fromkeys(value for each in held for value in each.values):
        if value not in rows:
            told.add(f"{value!r} is in {where}, and not in {guarantee.mirrors}", None, "in a topic, and in no table")
    told.end(f"{guarantee.mirrors} and {where}")


def _check_same(guarantee: Guarantee, topics: Mapping[str, _Held], report: Report) -> None:
    told = _Told(report, "branch-convergence")
    for value in dict.fromkeys(value for topic in guarantee.topics for value in topics[topic].values):
        has = [topic for topic in guarantee.topics if value in topics[topic].values]
        lacks = [topic for topic in guarantee.topics if topic not in has and topics[topic].is_whole]
        if lacks:
            text = f"{value!r} is in {', '.join(has)}, and not in {', '.join(lacks)}"
            told.add(text, None, "in some topics, and not in others")
    told.end(", ".join(guarantee.topics))


@attrs.define(slots=True, eq=False)
class _Told:
    """Findings of one invariant: the first few, and how many more."""

    report: Report
    invariant: str
    count: int = 0

    def add(self, text: str, at_us: int | None, cause: str) -> None:
        self.count += 1
        if self.count <= _MOST_TOLD:
            self.report.add(self.invariant, text, at_us=at_us, cause=cause)

    def end(self, where: str) -> None:
        if self.count > _MOST_TOLD:
            self.report.add(self.invariant, f"{where}: {self.count - _MOST_TOLD} more like these")
