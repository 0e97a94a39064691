"""What groups did with their records, read once from a history: given, worked on, committed; for all promises together.

Inputs:   the history, what was promised.      Effects: what each group did in each partition, as promises ask for it.
Rule 1:   one pass, in which the first effect of a record costs a mark and no more. That some came in another order than their
          records is noted; whether they should have is looked at by who promised it.
Rule 2:   a record is its partition and offset: that is what user code is given, and what every group of a fan-out shares.
Rule 3:   work on a record is over when its effect is done, left out, or doubtful: that may have been applied, so it neither loses
          nor doubles anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import attrs

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.marks import DOUBTFUL, LEFT_OUT, PAGE, PAGE_SHIFT, WORKED_ON, Marks
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

#: Where records stand, as ordered spans (first, end) that do not touch.
Places: TypeAlias = "dict[TopicPartition, list[tuple[int, int]]]"
_Sink: TypeAlias = "tuple[str, str | None]"

#: What an effect leaves behind, by its phase; the others leave nothing.
MARKS = {DONE: WORKED_ON, UNKNOWN: DOUBTFUL, SKIPPED: LEFT_OUT}
_INDEX = PAGE - 1
_NEVER_US = 1 << 62


@attrs.define(slots=True, eq=False)
class Head:
    """How far a group is in a partition, and for how long it stood still there with records behind it.

    ``worst_us`` begins with what was promised: a shorter standstill is not looked at.
    """

    worst_us: int = _NEVER_US
    worst_from_us: int = 0
    end: int = 0
    at: int = 0
    since_us: int = 0

    def look(self, now_us: int) -> None:
        if self.at < self.end and now_us - self.since_us > self.worst_us:
            self.worst_us, self.worst_from_us = now_us - self.since_us, self.since_us

    def reach(self, end: int, now_us: int) -> None:
        """There are records up to ``end`` now."""
        if self.at >= self.end:
            self.since_us = now_us
        self.end = max(self.end, end)

    def move(self, at: int, now_us: int) -> None:
        if at > self.at:
            self.look(now_us)
            self.at, self.since_us = at, now_us


@attrs.define(slots=True, eq=False)
class Lane:
    """What became of the records of a partition in one sink of a group, or in any of them."""

    marks: Marks = attrs.field(factory=Marks)
    #: How often the effect of an offset was applied, where that is more than once.
    doubled: dict[int, int] = attrs.field(factory=dict)
    #: (offset, commit, time) of records that were committed before their work was done.
    ahead: list[tuple[int, int, int]] = attrs.field(factory=list)
    _last_ahead: int = -1
    #: All that was given is done before this span of it, and in the span before this offset.
    _span: int = 0
    _at: int = -1

    def on_committed(self, given: Sequence[tuple[int, int]], offset: int, at_us: int) -> None:
        while self._span < len(given):
            start, stop = given[self._span]
            undone = self.marks.first_hole(max(start, self._at), stop)
            if undone is not None:
                self._at = undone
                if self._last_ahead < undone < offset:
                    self.ahead.append((undone, offset, at_us))
                    self._last_ahead = offset - 1
                return
            self._at = stop
            if self._span + 1 == len(given):
                return  # It may grow yet.
            self._span += 1


@attrs.define(slots=True, eq=False)
class Part:
    """One partition as one group has worked on it."""

    #: By sink; None: of all sinks together.
    lanes: dict[str | None, Lane]
    #: Offsets above all that the group was given before, as spans; and all that it was ever given, in the order of that.
    given: list[tuple[int, int]] = attrs.field(factory=list)
    given_ever: list[tuple[int, int]] = attrs.field(factory=list)
    #: Was it given or committed at all; and which sinks told of it.
    is_met: bool = False
    sinks: dict[str, None] = attrs.field(factory=dict)
    committed: int = -1
    regressed: list[tuple[int, int, int]] = attrs.field(factory=list)
    #: The highest record that was worked on; and that was given out, for groups that tell of no effects.
    worked: Head = attrs.field(factory=Head)
    read: Head = attrs.field(factory=Head)

    def on_delivered(self, event: Delivered) -> None:
        self.is_met = True
        spans = _spans(event)
        for first, stop in spans:
            _put(self.given_ever, first, stop)
            highest = self.given[-1][1] if self.given else 0
            if stop > highest:
                _put(self.given, max(first, highest), stop)
        self.read.move(spans[-1][1], event.at_us)

    def on_share_delivered(self, event: ShareDelivered) -> None:
        self.is_met = True
        spans = _spans(event)
        for first, stop in spans:
            _put(self.given_ever, first, stop)
        self.read.move(spans[-1][1], event.at_us)

    def on_committed(self, offset: int, at_us: int) -> None:
        self.is_met = True
        for lane in self.lanes.values():
            lane.on_committed(self.given, offset, at_us)
        if offset < self.committed:
            self.regressed.append((self.committed, offset, at_us))
        self.committed = offset


def _spans(event: Delivered | ShareDelivered) -> list[tuple[int, int]]:
    batch = event.batch
    if batch.offsets is None:
        return [(batch.base_offset + event.start, batch.base_offset + event.stop)]
    return [(offset, offset + 1) for offset in batch.offsets[event.start : event.stop]]


def _put(spans: list[tuple[int, int]], first: int, stop: int) -> None:
    if spans and spans[-1][1] == first:
        spans[-1] = (spans[-1][0], stop)
    else:
        spans.append((first, stop))


@attrs.define(slots=True, eq=False)
class _Place:
    """Where one sink's effects on one partition go."""

    part: Part
    lane: Lane
    #: The lane of this sink alone, if somebody promises anything of it.
    own: Lane | None
    #: The highest offset that was done; and whether another was done below one before it.
    highest: int = -1
    is_unordered: bool = False

    def take(self, offset: int, mark: int, at_us: int) -> None:
        """Any effect: one that is not the first of its record, or that several promises are about."""
        self.part.worked.move(offset + 1, at_us)
        for lane in (self.lane, self.own):
            if lane is not None and lane.marks.raise_to(offset, mark) == mark == WORKED_ON:
                lane.doubled[offset] = lane.doubled.get(offset, 1) + 1
        if mark == WORKED_ON:
            self.is_unordered |= offset < self.highest
            self.highest = max(self.highest, offset)


class Work:
    """What the groups that promise something did."""

    def __init__(self, guarantees: Iterable[Guarantee]) -> None:
        chosen = [each for each in guarantees if each.group is not None]
        #: The history without effects, which most checkers do not ask for: where there are any, they are the most of it.
        self.rest: list[HistoryEvent] = []
        self.groups: dict[str, dict[TopicPartition, Part]] = {str(each.group): {} for each in chosen}
        #: Of which groups user code told anything, and of which share consumers took anything.
        self.told: dict[str, None] = {}
        self.shared: dict[str, None] = {}
        self.acked: Places = {}
        self._sinks: dict[_Sink, None] = {(str(each.group), each.sink): None for each in chosen}
        self._bounds_us: dict[str, int] = {}
        for each in chosen:
            if each.recovery_s is not None:
                bound_us, group = round(each.recovery_s * 1e6), str(each.group)
                self._bounds_us[group] = min(bound_us, self._bounds_us.get(group, bound_us))
        self._places: dict[tuple[str, str, TopicPartition], _Place] = {}
        #: Of each partition, the heads of groups that promise to go on: of their effects, and of what they were given.
        self.heads: dict[TopicPartition, dict[str, tuple[Head, Head]]] = {}

    def part(self, group: str, tp: TopicPartition) -> Part:
        parts = self.groups[group]
        found = parts.get(tp)
        if found is None:
            lanes = {sink: Lane() for name, sink in ((group, None), *self._sinks) if name == group}
            found = parts[tp] = Part(lanes)
            if group in self._bounds_us:
                found.worked, found.read = self._heads_of(tp)[group]
        return found

    def _heads_of(self, tp: TopicPartition) -> dict[str, tuple[Head, Head]]:
        found = self.heads.get(tp)
        if found is None:
            bounds = self._bounds_us.items()
            found = self.heads[tp] = {group: (Head(bound_us), Head(bound_us)) for group, bound_us in bounds}
        return found

    def parts_of(self, guarantee: Guarantee) -> dict[TopicPartition, Part]:
        """What the promise is about, as far as the group or the sink had to do with it."""
        return {
            tp: part
            for tp, part in self.groups[str(guarantee.group)].items()
            if guarantee.is_about(tp.topic) and (part.is_met or guarantee.sink is None or guarantee.sink in part.sinks)
        }

    def place(self, group: str, sink: str, tp: TopicPartition) -> _Place | None:
        found = self._places.get((group, sink, tp))
        if found is None and group in self.groups:
            part = self.part(group, tp)
            part.sinks[sink] = None
            own = part.lanes.get(sink)
            found = self._places[group, sink, tp] = _Place(part, part.lanes[None], own)
            self.told[group] = None
        return found

    def unordered(self, guarantee: Guarantee) -> frozenset[tuple[str, TopicPartition]]:
        """(sink, partition) of effects that were not told in the order of their records."""
        return frozenset(
            (sink, tp)
            for (group, sink, tp), place in self._places.items()
            if place.is_unordered and group == guarantee.group and guarantee.sink in (None, sink)
        )

    def on_acked(self, event: Acked) -> None:
        if event.error is not ErrorCode.NONE or event.base_offset < 0:
            return
        tp, end = event.tp, event.base_offset + event.stop
        _put(self.acked.setdefault(tp, []), event.base_offset + event.start, end)
        if self._bounds_us:
            for worked, read in self._heads_of(tp).values():
                worked.reach(end, event.at_us)
                read.reach(end, event.at_us)

    def on_other(self, event: HistoryEvent) -> None:
        """Anything but an effect."""
        self.rest.append(event)
        if type(event) is Acked:
            self.on_acked(event)
        elif type(event) is Delivered:
            if event.group in self.groups:
                self.part(event.group, event.tp).on_delivered(event)
        elif type(event) is ShareDelivered:
            self.shared[event.group] = None
            if event.group in self.groups:
                self.part(event.group, event.tp).on_share_delivered(event)
        elif type(event) is Committed and event.group in self.groups:
            for tp, offset, error in event.offsets:
                if error is ErrorCode.NONE:
                    self.part(event.group, tp).on_committed(offset, event.at_us)

    def end(self, now_us: int) -> None:
        self.acked = {tp: merged(spans) for tp, spans in self.acked.items()}
        for heads in self.heads.values():
            for worked, read in heads.values():
                worked.look(now_us)
                read.look(now_us)


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same offsets as ordered spans that do not touch."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def acknowledged(events: Iterable[HistoryEvent]) -> Places:
    """The offsets that producers were told of."""
    spans: Places = {}
    for event in events:
        if isinstance(event, Acked) and event.error is ErrorCode.NONE and event.base_offset >= 0:
            _put(spans.setdefault(event.tp, []), event.base_offset + event.start, event.base_offset + event.stop)
    return {tp: merged(each) for tp, each in spans.items()}


def read_work(events: Sequence[HistoryEvent], guarantees: Iterable[Guarantee]) -> Work:
    """One pass over the history for all promises."""
    work = Work(guarantees)
    if not work.groups:
        work.rest = [event for event in events if type(event) is not Effected]
        return work
    on_other = work.on_other
    tp: TopicPartition | None = None
    group = sink = ""
    place: _Place | None = None
    head, own, pages, number, page = Head(), None, Marks(), -1, bytearray()

    for event in events:
        if type(event) is Effected:
            # The next effect of a run is told of the same objects, mostly.
            if event.tp is not tp or event.group is not group or event.sink is not sink:
                tp, group, sink = event.tp, event.group, event.sink
                place = work.place(group, sink, tp)
                number = -1
                if place is not None:
                    head, own, pages = place.part.worked, place.own, place.lane.marks
            if place is None:
                continue
            phase = event.phase
            mark = WORKED_ON if phase == DONE else MARKS.get(phase, 0)
            if not mark:
                continue
            offset = event.offset
            if own is not None:
                place.take(offset, mark, event.at_us)
                continue
            if offset >> PAGE_SHIFT != number:
                number, page = offset >> PAGE_SHIFT, pages.page_of(offset)
            index = offset & _INDEX
            if offset >= head.at:
                now_us = event.at_us
                if now_us - head.since_us > head.worst_us:
                    head.look(now_us)
                head.at, head.since_us = offset + 1, now_us
            elif page[index]:
                place.take(offset, mark, event.at_us)
                continue
            page[index] = mark
            if mark == WORKED_ON:
                if offset > place.highest:
                    place.highest = offset
                else:
                    place.is_unordered = True
        else:
            on_other(event)
    work.end(events[-1].at_us if events else 0)
    return work
