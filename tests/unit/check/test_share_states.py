"""What brokers noted of share partitions: against a definition record by record, and on notes that break each rule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.unit.sim.test_share_history import run

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.report import Report
from kafkasim.check.share_states import STUCK_AFTER_US, check_share_states
from kafkasim.core.model.history import (
    ACCEPT,
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
)
from kafkasim.core.model.ids import TopicPartition

TP = TopicPartition("jobs", 0)
HISTORIES = 20_000
END = 6
LIMIT = 3
AVAILABLE, ACQUIRED, ACKNOWLEDGED, ARCHIVED = "AVAILABLE", "ACQUIRED", "ACKNOWLEDGED", "ARCHIVED"
AFTER = {
    ACCEPT: (ACKNOWLEDGED,),
    REJECT: (ARCHIVED,),
    RELEASE: (AVAILABLE, ARCHIVED),
    SESSION_ENDED: (AVAILABLE, ARCHIVED),
    LOCK_TIMED_OUT: (AVAILABLE, ARCHIVED),
    WRITE_FAILED: (ACQUIRED, AVAILABLE, ARCHIVED),
}
SECOND = 1_000_000


def note(at_us: int, kind: str, node: int = 1, **fields: object) -> Happened:
    return Happened(at_us, node, kind, TP, (("group", "g"), *fields.items()))


def loaded(at_us: int = 0, start: int = 0, *batches: tuple[int, int, str, int], node: int = 1) -> Happened:
    return note(at_us, SHARE_LOADED, node, leader_epoch=0, start_offset=start, batches=batches)


def acquired(at_us: int, *runs: tuple[int, int, int], member: str = "a", start: int = 0, node: int = 1) -> Happened:
    return note(at_us, SHARE_ACQUIRED, node, member=member, runs=runs, limit=LIMIT, start_offset=start)


def changed(
    at_us: int, *changes: tuple[int, int, str, int, str], member: str = "a", start: int = 0, node: int = 1
) -> Happened:
    return note(at_us, SHARE_CHANGED, node, member=member, changes=changes, start_offset=start)


def found(events: Sequence[Happened], *guarantees: Guarantee) -> list[str]:
    report = Report()
    check_share_states(events, guarantees, report)
    return [finding.invariant for finding in report.findings]


class Plain:
    """A share partition as a dictionary of offsets: what each rule means, record by record."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.nodes: dict[int, dict[str, Any]] = {}
        self.loaded_at: int | None = None
        self.newest: dict[str, Any] | None = None

    def on_note(self, event: Happened) -> None:
        fields: dict[str, Any] = dict(event.fields)
        if event.kind == SHARE_INITIALIZED:
            self.loaded_at = None
            return
        if event.kind == SHARE_LOADED:
            start = fields["start_offset"]
            if self.loaded_at is not None and start < self.loaded_at:
                self.names.add("legal-state")
            self.loaded_at = start
            states = {
                offset: (state, count, "", event.at_us)
                for first, last, state, count in fields["batches"]
                for offset in range(first, last + 1)
                if offset >= start
            }
            self.newest = self.nodes[event.node] = {"start": start, "floor": 0, "states": states}
            return
        if event.node not in self.nodes:
            return
        known = self.nodes[event.node]
        states, floor = known["states"], known["floor"]
        if event.kind == SHARE_ACQUIRED:
            self.start(known, fields["start_offset"])
            first_acquired = fields["runs"][0][0]
            behind = [o for o in sorted(states) if states[o][0] == AVAILABLE and o < first_acquired]
            if behind and event.at_us - states[behind[0]][3] > STUCK_AFTER_US:
                self.names.add("stuck")
            for first, last, count in fields["runs"]:
                for offset in range(max(first, floor), last + 1):
                    state, before = states.get(offset, (AVAILABLE, 0))[:2]
                    if state == ACQUIRED:
                        self.names.add("lock-overlap")
                    elif state != AVAILABLE or offset < known["start"] or count != before + 1:
                        self.names.add("legal-state")
                    states[offset] = (ACQUIRED, count, fields["member"], event.at_us)
                if count > LIMIT and last >= floor:
                    self.names.add("over-delivery")
        elif event.kind == SHARE_CHANGED:
            for first, last, state, count, why in fields["changes"]:
                for offset in range(max(first, floor), last + 1):
                    before = states.get(offset)
                    is_held = before is not None and before[0] == ACQUIRED
                    by_holder = is_held and (why == LOCK_TIMED_OUT or before[2] == fields["member"])
                    if not by_holder or state not in AFTER[why] or before[1] != count:
                        self.names.add("legal-state")
                    states[offset] = (state, count, fields["member"] if state == ACQUIRED else "", event.at_us)
            self.start(known, fields["start_offset"])
        elif event.kind == SHARE_MOVED:
            known["floor"] = fields["to"]
            for offset in [o for o in states if o < fields["to"]]:
                del states[offset]
            self.start(known, fields["to"])
        elif event.kind == SHARE_SKIPPED:
            for offset, state in list(states.items()):
                if fields["offsets"][0] <= offset <= fields["offsets"][1] and state[0] == AVAILABLE:
                    states[offset] = (ARCHIVED, *state[1:])

    def start(self, known: dict[str, Any], start: int) -> None:
        if start < known["start"]:
            self.names.add("legal-state")
        known["start"] = start
        for offset in [o for o in known["states"] if o < start]:
            if known["states"].pop(offset)[0] not in (ACKNOWLEDGED, ARCHIVED):
                self.names.add("legal-state")

    def end(self, bound_us: int, now_us: int) -> None:
        for state, _, _, since_us in self.newest["states"].values() if self.newest else ():
            if state == AVAILABLE and now_us - since_us > bound_us:
                self.names.add("stuck")


class Lives:
    """Notes of share partitions on two brokers that behave, except where chance has it otherwise."""

    def __init__(self, draw: random.Random, wildness: float) -> None:
        self.draw = draw
        self.wildness = wildness
        self.plain = Plain()
        self.events: list[Happened] = []
        self.at_us = 0

    def add(self, event: Happened) -> None:
        self.events.append(event)
        self.plain.on_note(event)

    def go(self) -> None:
        draw = self.draw
        self.add(loaded())
        for _ in range(draw.randrange(2, 12)):
            self.at_us += draw.choice([1, SECOND, 40 * SECOND])
            node = draw.choice([1, 1, 1, 2])
            if node not in self.plain.nodes:
                node = 1
            kind = draw.randrange(12)
            if kind <= 4:
                self.acquire(node)
            elif kind <= 9:
                self.change(node)
            elif kind == 10:
                self.load()
            else:
                self.rarely(node)

    def span(self) -> tuple[int, int]:
        first = self.draw.randrange(END)
        return first, self.draw.randrange(first, min(END, first + 3))

    def acquire(self, node: int) -> None:
        known = self.plain.nodes[node]
        states, start = known["states"], known["start"]
        first, last = self.span()
        count = self.draw.choice([1, 2, 4])
        if self.draw.random() > self.wildness:
            free = [o for o in range(max(start, known["floor"]), END) if o not in states or states[o][0] == AVAILABLE]
            if not free:
                return
            first = last = free[0]
            count = 1 + (states[first][1] if first in states else 0)
            while (
                last + 1 in free
                and self.draw.random() < 0.6
                and count == 1 + (states[last + 1][1] if last + 1 in states else 0)
            ):
                last += 1
        self.add(acquired(self.at_us, (first, last, count), member=self.draw.choice("ab"), start=start, node=node))

    def change(self, node: int) -> None:
        draw, known = self.draw, self.plain.nodes[node]
        states = known["states"]
        first, last = self.span()
        why = draw.choice(list(AFTER))
        state, count, member = draw.choice([AVAILABLE, ACKNOWLEDGED, ARCHIVED]), draw.choice([1, 2]), draw.choice("ab")
        if draw.random() > self.wildness:
            held = [o for o, each in states.items() if each[0] == ACQUIRED]
            if not held:
                return
            first = last = draw.choice(held)
            _, count, member, _ = states[first]
            while last + 1 in held and states[last + 1][1:3] == (count, member) and draw.random() < 0.7:
                last += 1
            state = draw.choice(AFTER[why])
        start = known["start"]
        after = {**states, **dict.fromkeys(range(first, last + 1), (state,))}
        if draw.random() < 0.7:
            while start in after and after[start][0] in (ACKNOWLEDGED, ARCHIVED):
                start += 1
        elif draw.random() < self.wildness:
            start = draw.randrange(END)
        self.add(changed(self.at_us, (first, last, state, count, why), member=member, start=start, node=node))

    def load(self) -> None:
        """A new leader, or a new share partition at the same one."""
        draw = self.draw
        newest = self.plain.newest
        assert newest is not None
        start = newest["start"] if draw.random() > self.wildness else draw.randrange(END)
        batches = tuple(
            (offset, offset, AVAILABLE if each[0] == ACQUIRED else each[0], each[1])
            for offset, each in sorted(newest["states"].items())
        )
        self.add(loaded(self.at_us, start, *batches, node=draw.choice([1, 2])))

    def rarely(self, node: int) -> None:
        known = self.plain.nodes[node]
        kind = self.draw.randrange(3)
        if kind == 0:
            to = self.draw.randrange(known["start"], END) if known["start"] < END else known["start"]
            self.add(note(self.at_us, SHARE_MOVED, node, start_offset=known["start"], to=to))
        elif kind == 1:
            self.add(note(self.at_us, SHARE_SKIPPED, node, offsets=self.span()))
        else:
            self.add(note(self.at_us, SHARE_INITIALIZED, 3, start_offset=0))


@pytest.mark.parametrize("wildness", [0.0, 0.2])
def test_states_are_what_their_definition_says(wildness: float) -> None:
    """On lives that behave and on lives that do not: the same rules broken, record by record and span by span."""
    draw = random.Random(1)
    names: dict[str, int] = {}
    for _ in range(HISTORIES // 2):
        lives = Lives(draw, wildness)
        lives.go()
        bound_s = draw.choice([20, 100])
        told = set(found(lives.events, Guarantee("g", recovery_s=bound_s)))
        lives.plain.end(bound_s * SECOND, lives.events[-1].at_us)
        assert told == lives.plain.names, lives.events
        for name in told or {"ok"}:
            names[name] = names.get(name, 0) + 1
    assert names["ok"] > HISTORIES // 20
    if wildness:
        assert set(names) == {"ok", "legal-state", "lock-overlap", "over-delivery", "stuck"}
        assert min(names.values()) > HISTORIES // 200, names


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([loaded(), acquired(1, (0, 3, 1)), changed(2, (0, 3, ACKNOWLEDGED, 1, ACCEPT), start=4)], []),
        ([loaded(), acquired(1, (0, 3, 1)), acquired(2, (2, 5, 1), member="b")], ["lock-overlap"]),
        ([loaded(0, 0, (0, 0, AVAILABLE, LIMIT)), acquired(1, (0, 0, LIMIT + 1))], ["over-delivery"]),
        ([loaded(), acquired(1, (0, 0, 1)), changed(2, (0, 0, ACKNOWLEDGED, 1, ACCEPT), member="b")], ["legal-state"]),
        ([loaded(), changed(2, (0, 0, ACKNOWLEDGED, 1, ACCEPT))], ["legal-state"]),
        ([loaded(), acquired(1, (0, 0, 1)), changed(2, (0, 0, AVAILABLE, 1, ACCEPT))], ["legal-state"]),
        ([loaded(), acquired(1, (0, 0, 1)), changed(2, (0, 0, AVAILABLE, 1, RELEASE), start=1)], ["legal-state"]),
        ([loaded(0, 0, (0, 0, ARCHIVED, 1)), acquired(1, (0, 0, 2))], ["legal-state"]),
        ([loaded(0, 5), acquired(1, (4, 5, 1), start=5)], ["legal-state"]),
        ([loaded(0, 5), acquired(1, (5, 5, 1), start=4)], ["legal-state"]),
        ([loaded(0, 5), loaded(1, 4, node=2)], ["legal-state"]),
        ([loaded(0, 5), note(1, SHARE_INITIALIZED, start_offset=4), loaded(2, 4, node=2)], []),
        ([loaded(), acquired(1, (0, 0, 1)), loaded(2, node=2), acquired(3, (0, 0, 1), node=2)], []),
        (
            [
                loaded(0, 0, (0, 0, AVAILABLE, 1)),
                acquired(30 * SECOND, (1, 1, 1)),
                acquired(61 * SECOND, (2, 2, 1)),
            ],
            ["stuck"],
        ),
    ],
)
def test_each_rule_is_broken_by_name(events: list[Happened], expected: list[str]) -> None:
    """And what merely looks like it is not."""
    assert found(events) == expected


def test_a_lowered_limit_is_told_and_no_breach() -> None:
    """A record that had been delivered often enough by the new limit is delivered once more."""
    lowered = note(2, SHARE_ACQUIRED, member="a", runs=((0, 0, 3),), limit=2, start_offset=0)
    report = Report()
    check_share_states([loaded(0, 0, (0, 0, AVAILABLE, 2)), acquired(1, (5, 5, 1)), lowered], [], report)
    assert report.ok
    assert [finding.invariant for finding in report.allowed] == ["over-delivery"]


def test_the_notes_of_a_run_break_nothing() -> None:
    """Poison records included."""
    cluster, _ = run()
    assert found(cluster.history.of(Happened)) == []


def test_ten_thousand_single_records_are_judged_soon() -> None:
    """The cost of a note is that of what it names, however much is in flight."""
    events = [loaded()]
    events += [acquired(at, (at, at, 1)) for at in range(10_000)]
    events += [changed(at, (at, at, AVAILABLE, 1, RELEASE)) for at in range(10_000)]
    events += [acquired(at, (at, at, 2)) for at in range(10_000)]
    assert found(events) == []
