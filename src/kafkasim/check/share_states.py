"""Share partitions as their brokers saw them: legal states, one holder, the delivery limit, nothing that stays behind.

Q2 lock-overlap: acquired while another holds it.                     Q3 over-delivery: more deliveries than the group's limit.
Q5 stuck: available, and passed by; or not given out again in the time that was promised.
Q7 legal-state: only KIP-932's edges; the start offset never moves back, all before it is terminal; only the holder acknowledges.

Inputs:   the notes of brokers (``core.model.history``, SHARE_*): a simulated cluster's; a real one keeps them to itself.
Rule 1:   states belong to one leader's share partition, from one load to the next: locks, and attempts that ended nowhere, die with it.
Rule 2:   what the log deletes beneath a share partition is nobody's any more: it is left out from then on.
Rule 3:   the cost of a note is that of the spans that it names, not of the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import Any

import attrs

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.report import Report
from kafkasim.check.spans import Spans, span_text
from kafkasim.core.model.history import (
    ACCEPT,
    GAP,
    LOCK_TIMED_OUT,
    REJECT,
    RELEASE,
    SESSION_ENDED,
    SHARE_ACQUIRED,
    SHARE_CHANGED,
    SHARE_INITIALIZED,
    SHARE_LOADED,
    SHARE_MOVED,
    SHARE_SKIPPED,
    WRITE_FAILED,
    Happened,
    HistoryEvent,
)
from kafkasim.core.model.ids import NodeId, TopicPartition

#: A record may be available for so long before something behind it is given out.
STUCK_AFTER_US = 60_000_000
_MOST_TOLD = 5

AVAILABLE, ACQUIRED, ACKNOWLEDGED, ARCHIVED = "AVAILABLE", "ACQUIRED", "ACKNOWLEDGED", "ARCHIVED"
_TERMINAL = (ACKNOWLEDGED, ARCHIVED)
#: What a record in somebody's hands may become, and why.
_AFTER: Mapping[str, tuple[str, ...]] = {
    ACCEPT: (ACKNOWLEDGED,),
    REJECT: (ARCHIVED,),
    GAP: (ARCHIVED,),
    RELEASE: (AVAILABLE, ARCHIVED),
    SESSION_ENDED: (AVAILABLE, ARCHIVED),
    LOCK_TIMED_OUT: (AVAILABLE, ARCHIVED),
    WRITE_FAILED: (ACQUIRED, AVAILABLE, ARCHIVED),
}


@attrs.define(slots=True, eq=False)
class _State:
    state: str
    delivery_count: int
    member: str
    since_us: int


@attrs.define(slots=True, eq=False)
class _Partition:
    """One leader's share partition. ``floor``: what the log has deleted below."""

    name: str
    node: NodeId
    start: int
    states: Spans[_State] = attrs.field(factory=Spans)
    floor: int = 0
    #: (first, last) of what became available, the lowest first; some of it is not any more.
    available: list[tuple[int, int]] = attrs.field(factory=list)
    limit: int = 0
    is_limit_lowered: bool = False

    def put(self, first: int, last: int, state: _State) -> None:
        self.states.put(first, last, state)
        if state.state == AVAILABLE:
            heappush(self.available, (first, last))

    def lowest_available(self) -> tuple[int, _State] | None:
        while self.available:
            first, last = self.available[0]
            found = self.states.reaching(first)
            while found is not None and found[0] <= last and found[2].state != AVAILABLE:
                found = self.states.reaching(found[1] + 1)
            heappop(self.available)
            if found is not None and found[0] <= last:
                at = max(first, found[0])
                heappush(self.available, (at, last))
                return at, found[2]
        return None


class ShareStates:
    """Feed it the notes in order (``on_note``); ``end`` judges what was left."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._partitions: dict[tuple[str, TopicPartition, NodeId], _Partition] = {}
        #: The newest leader's, and with which start offset it began.
        self._newest: dict[tuple[str, TopicPartition], _Partition] = {}
        self._loaded_at: dict[tuple[str, TopicPartition], int] = {}
        self._told: dict[str, int] = {}

    def _tell(self, invariant: str, text: str) -> None:
        count = self._told[invariant] = self._told.get(invariant, 0) + 1
        if count <= _MOST_TOLD:
            self._report.add(invariant, text)

    # --- notes -----------------------------------------------------------------------------------------------------

    def on_note(self, note: Happened) -> None:
        fields: Mapping[str, Any] = dict(note.fields)
        tp: Any = note.subject
        group = str(fields.get("group"))
        if note.kind == SHARE_INITIALIZED:
            self._loaded_at.pop((group, tp), None)
            return
        if note.kind == SHARE_LOADED:
            self._load(note, group, tp, fields)
            return
        partition = self._partitions.get((group, tp, note.node))
        if partition is None:
            return
        if note.kind == SHARE_ACQUIRED:
            self._acquire(partition, fields, note.at_us)
        elif note.kind == SHARE_CHANGED:
            self._change(partition, fields, note.at_us)
        elif note.kind == SHARE_MOVED:
            partition.floor = fields["to"]
            partition.states.take_below(partition.floor)
            self._start(partition, fields["to"], note.at_us)
        elif note.kind == SHARE_SKIPPED:
            for first, last, state in partition.states.overlapping(*fields["offsets"]):
                if state.state == AVAILABLE:
                    partition.states.put(first, last, attrs.evolve(state, state=ARCHIVED))

    def _load(self, note: Happened, group: str, tp: TopicPartition, fields: Mapping[str, Any]) -> None:
        name = f"group {group}: {tp}"
        start = fields["start_offset"]
        made = _Partition(name, note.node, start)
        for first, last, state, count in fields["batches"]:
            if last >= start:
                made.put(max(first, start), last, _State(state, count, "", note.at_us))
        before = self._loaded_at.get((group, tp))
        if before is not None and start < before:
            self._tell("legal-state", f"{name} was loaded with start offset {start}, after {before}{_when(note.at_us)}")
        self._loaded_at[group, tp] = start
        self._partitions[group, tp, note.node] = made
        self._newest[group, tp] = made

    # --- acquiring -------------------------------------------------------------------------------------------------

    def _acquire(self, partition: _Partition, fields: Mapping[str, Any], at_us: int) -> None:
        member, limit = fields["member"], fields["limit"]
        partition.is_limit_lowered |= limit < partition.limit
        partition.limit = limit
        self._start(partition, fields["start_offset"], at_us)
        self._look_behind(partition, fields["runs"][0][0], at_us)
        for first, last, count in fields["runs"]:
            first = max(first, partition.floor)
            if first > last:
                continue
            for begin, end, state in partition.states.pieces(first, last):
                self._check_acquired(partition, (begin, end), state, member, count, at_us)
            partition.put(first, last, _State(ACQUIRED, count, member, at_us))
            if count > limit:
                text = f"{partition.name} {span_text(first, last)} delivered {count} times, limit {limit}{_when(at_us)}"
                if partition.is_limit_lowered:
                    self._report.allow("over-delivery", f"{text} (it was lowered meanwhile)")
                else:
                    self._tell("over-delivery", text)

    def _check_acquired(
        self, partition: _Partition, span: tuple[int, int], state: _State | None, member: str, count: int, at_us: int
    ) -> None:
        text = f"{partition.name} {span_text(*span)} acquired by {member}{_when(at_us)}"
        if state is not None and state.state == ACQUIRED:
            self._tell("lock-overlap", f"{text} while {state.member} held it")
        elif state is not None and state.state in _TERMINAL:
            self._tell("legal-state", f"{text} although {state.state}")
        elif span[0] < partition.start:
            self._tell("legal-state", f"{text}, before the start offset {partition.start}")
        elif count != (1 if state is None else state.delivery_count + 1):
            before = 0 if state is None else state.delivery_count
            self._tell("legal-state", f"{text} with delivery count {count} after {before}")

    def _look_behind(self, partition: _Partition, first: int, at_us: int) -> None:
        """Q5: was something available, and passed by?"""
        lowest = partition.lowest_available()
        if lowest is None or lowest[0] >= first:
            return
        offset, state = lowest
        if at_us - state.since_us > STUCK_AFTER_US:
            since = f"available since {state.since_us / 1e6:.3f} s"
            self._tell("stuck", f"{partition.name} offset {offset}, {since}, was passed by{_when(at_us)}")
            heappop(partition.available)

    # --- changing --------------------------------------------------------------------------------------------------

    def _change(self, partition: _Partition, fields: Mapping[str, Any], at_us: int) -> None:
        member = fields["member"]
        for first, last, state, count, why in fields["changes"]:
            first = max(first, partition.floor)
            if first > last:
                continue
            for begin, end, before in partition.states.pieces(first, last):
                self._check_changed(partition, (begin, end), before, (state, count, why), member, at_us)
            partition.put(first, last, _State(state, count, member if state == ACQUIRED else "", at_us))
        self._start(partition, fields["start_offset"], at_us)

    def _check_changed(
        self,
        partition: _Partition,
        span: tuple[int, int],
        before: _State | None,
        change: tuple[str, int, str],
        member: str,
        at_us: int,
    ) -> None:
        state, count, why = change
        text = f"{partition.name} {span_text(*span)} became {state} ({why}){_when(at_us)}"
        if before is None or before.state != ACQUIRED:
            self._tell("legal-state", f"{text}, and was {'not in flight' if before is None else before.state}")
        elif why != LOCK_TIMED_OUT and before.member != member:
            self._tell("legal-state", f"{text} for {member}, and {before.member} held it")
        elif state not in _AFTER.get(why, ()):
            self._tell("legal-state", text)
        elif count != before.delivery_count:
            self._tell("legal-state", f"{text} with delivery count {count} after {before.delivery_count}")

    def _start(self, partition: _Partition, start: int, at_us: int) -> None:
        """The start offset is told anew."""
        if start < partition.start:
            text = f"{partition.name} start offset moved back from {partition.start} to {start}{_when(at_us)}"
            self._tell("legal-state", text)
        partition.start = start
        for first, last, state in partition.states.take_below(start):
            if state.state not in _TERMINAL:
                text = f"{partition.name} {span_text(first, last)} is {state.state}"
                self._tell("legal-state", f"{text}, before the start offset {start}{_when(at_us)}")

    # --- the end ---------------------------------------------------------------------------------------------------

    def end(self, guarantees: Iterable[Guarantee], now_us: int) -> None:
        """Q5 where a time was promised; and how much more there was to tell."""
        promised = [guarantee for guarantee in guarantees if guarantee.recovery_s is not None]
        for (group, tp), partition in self._newest.items():
            for guarantee in promised:
                if guarantee.group == group and guarantee.is_about(tp.topic) and guarantee.recovery_s is not None:
                    self._check_left(partition, round(guarantee.recovery_s * 1e6), now_us)
        for invariant, count in self._told.items():
            if count > _MOST_TOLD:
                self._report.add(invariant, f"{count - _MOST_TOLD} more like these")

    def _check_left(self, partition: _Partition, bound_us: int, now_us: int) -> None:
        for first, last, state in partition.states:
            if state.state == AVAILABLE and now_us - state.since_us > bound_us:
                text = f"{partition.name} {span_text(first, last)} is available since {state.since_us / 1e6:.3f} s"
                self._tell("stuck", f"{text}, and was not given out again by {now_us / 1e6:.3f} s")


def check_share_states(events: Iterable[HistoryEvent], guarantees: Iterable[Guarantee], report: Report) -> None:
    """Q2, Q3, Q5 and Q7 over what brokers noted. O(spans log spans)."""
    states = ShareStates(report)
    now_us = 0
    for event in events:
        now_us = event.at_us
        if type(event) is Happened and event.kind.startswith("share ") and isinstance(event.subject, tuple):
            states.on_note(event)
    states.end(guarantees, now_us)


def _when(at_us: int) -> str:
    return f" at {at_us / 1e6:.6f} s"
