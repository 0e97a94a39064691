"""Coverage: what a trial has been to, and what a campaign may not have seen yet.

Inputs:   the history of a trial, and the faults that fired.
Effects:  items (role | state | event), matrix cells (fault × event × role), hashes of abstract states, things that happen sometimes.
Rule 1:   one pass over the history after the run; the run itself pays nothing.
Rule 2:   states are coarse on purpose: how many replicas are in sync, how many servers are up, who owns how much. Ids, offsets and
          times are no state.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Assigned, Committed, Delivered, Happened, HistoryEvent, Revoked
from kafkasim.core.model.ids import TopicPartition
from kafkasim.sim.injection import Fired

#: What every campaign would like to have seen, whatever it explores; the names are part of the report.
BUILT_IN = (
    "a leader died and another took over",
    "the isr shrank to one",
    "the isr grew again",
    "a follower truncated its log",
    "the controller moved",
    "a produce request failed at the leader",
    "a send failed or timed out",
    "a group rebalanced after its first assignment",
    "partitions were lost, not revoked",
    "a commit failed",
    "a record was delivered twice to one group",
)
_ROLES = {
    "became leader": "leader",
    "produce failed": "leader",
    "truncated": "follower",
    "quorum-role": "voter",
    "broker-state": "broker",
    "controlled-shutdown": "broker",
}
_DULL = ("metadata-published", "metadata-committed", "metadata-written")
_DOWN = ("crash", "power_loss", "shutdown", "stopped")


@attrs.frozen
class Coverage:
    """What one trial has been to, each list in order of first occurrence."""

    items: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Everything that counts as new when it is seen for the first time."""
        return frozenset((*self.items, *self.cells, *self.states))


class _Reader:
    """Walks a history and keeps the abstract state."""

    def __init__(self) -> None:
        self.items: dict[str, None] = {}
        self.states: dict[str, None] = {}
        self.reached: dict[str, None] = {}
        self._down: dict[int, str] = {}
        self._isr: dict[object, int] = {}
        self._leaders: dict[object, int] = {}
        self._controller = -1
        self._owned: dict[str, dict[str, int]] = {}
        self._highest: dict[tuple[str, TopicPartition], int] = {}

    def note(self, event: Happened) -> None:
        kind = event.kind
        if kind in _DULL:
            return
        fields = dict(event.fields)
        state = self._up()
        role = _ROLES.get(kind) or ("leader" if kind.startswith("isr ") else "fault")
        if kind in _DOWN or kind == "pause":
            self._down[event.node] = kind
        elif kind in ("start", "resume"):
            self._down.pop(event.node, None)
        elif kind == "controller-active":
            role = "controller"
            if self._controller not in (-1, event.node):
                self._reach("the controller moved")
            self._controller = event.node
        elif kind == "controller-renounced":
            role = "controller"
        elif kind == "quorum-role":
            kind = f"became {fields.get('role')}"
        elif kind == "broker-state":
            kind = f"is {fields.get('state')}"
        elif role in ("leader", "follower"):
            state = self._partition(event, kind, fields)
        self.items[f"{role} | {state} | {kind}"] = None
        self._snap()

    def _partition(self, event: Happened, kind: str, fields: dict[str, object]) -> str:
        subject = event.subject
        before = self._isr.get(subject, 0)
        isr = fields.get("isr")
        if kind in ("became leader", "isr shrunk", "isr expanded") and isinstance(isr, Sequence):
            self._isr[subject] = len(isr)
            if before > 1 and len(isr) == 1:
                self._reach("the isr shrank to one")
            if kind == "isr expanded" and before:
                self._reach("the isr grew again")
        if kind == "became leader":
            if self._leaders.get(subject, event.node) != event.node and self._leaders[subject] in self._down:
                self._reach("a leader died and another took over")
            self._leaders[subject] = event.node
        elif kind == "truncated":
            self._reach("a follower truncated its log")
        elif kind == "produce failed":
            self._reach("a produce request failed at the leader")
        return f"isr {before}, {self._up()}"

    def client(self, event: Acked | Delivered | Assigned | Revoked | Committed) -> None:
        if type(event) is Delivered:
            place = (event.group, event.tp)
            first = event.batch.offset_at(event.start)
            again = first <= self._highest.get(place, -1)
            self._highest[place] = max(self._highest.get(place, -1), event.batch.offset_at(event.stop - 1))
            if again:
                self._reach("a record was delivered twice to one group")
            self._client("consumer", event.group, "was given records again" if again else "was given records")
        elif type(event) is Acked:
            if event.error is not ErrorCode.NONE:
                self._reach("a send failed or timed out")
            isr = self._isr.get(event.tp, 0)
            self.items[f"producer | isr {isr}, {self._up()} | {event.error.name}"] = None
        elif type(event) is Committed:
            errors = sorted({error.name for _, _, error in event.offsets})
            if errors != ["NONE"]:
                self._reach("a commit failed")
            self._client("consumer", event.group, f"committed: {', '.join(errors)}")
        elif type(event) is Assigned:
            owners = self._owned.setdefault(event.group, {})
            if owners:
                self._reach("a group rebalanced after its first assignment")
            self._client("consumer", event.group, "was assigned partitions")
            owners[event.client] = len(event.partitions)
            self._snap()
        elif type(event) is Revoked:
            if event.lost:
                self._reach("partitions were lost, not revoked")
            self._client("consumer", event.group, "lost partitions" if event.lost else "gave partitions up")
            self._owned.setdefault(event.group, {}).pop(event.client, None)
            self._snap()

    def _client(self, role: str, group: str, what: str) -> None:
        owners = len(self._owned.get(group, ()))
        self.items[f"{role} | {min(owners, 3)} owners, {self._up()} | {what}"] = None

    def _up(self) -> str:
        return f"{len(self._down)} down"

    def _reach(self, name: str) -> None:
        self.reached[name] = None

    def _snap(self) -> None:
        """The abstract state as it is now."""
        isrs = sorted(set(self._isr.values()))
        headless = any(leader in self._down for leader in self._leaders.values())
        groups = sorted((group, len(owners)) for group, owners in self._owned.items())
        down = sorted(Counter(self._down.values()).items())
        shape = repr((isrs, headless, self._controller in self._down, groups, down))
        self.states[hashlib.blake2b(shape.encode(), digest_size=5).hexdigest()] = None


def cover(
    history: Iterable[HistoryEvent], fired: Iterable[Fired], reached: Iterable[str] = (), passed: Iterable[str] = ()
) -> Coverage:
    """What this run has been to. ``reached`` and ``passed`` are its calls of ``kafkasim.sometimes``."""
    reader = _Reader()
    for event in history:
        if type(event) is Happened:
            reader.note(event)
        elif isinstance(event, Acked | Delivered | Assigned | Revoked | Committed):
            reader.client(event)
    cells = dict.fromkeys(
        f"{one.fault.what} × {one.fault.on or one.fault.when or 'time'} × {one.fault.target.partition(':')[0]}"
        for one in fired
    )
    all_reached = dict.fromkeys((*reader.reached, *reached))
    return Coverage(
        tuple(reader.items),
        tuple(cells),
        tuple(reader.states),
        tuple(all_reached),
        tuple(name for name in passed if name not in all_reached),
    )


@attrs.define(slots=True)
class Tally:
    """Coverage of a whole campaign."""

    trials: int = 0
    #: How many trials have been to each item, cell and state.
    items: Counter[str] = attrs.field(factory=Counter)
    cells: Counter[str] = attrs.field(factory=Counter)
    states: Counter[str] = attrs.field(factory=Counter)
    reached: Counter[str] = attrs.field(factory=Counter)
    passed: dict[str, None] = attrs.field(factory=dict)
    #: The only trial that has been to a key, while it is the only one; and of each trial, for how many keys it is that.
    _only: dict[str, int] = attrs.field(factory=dict)
    _singles: Counter[int] = attrs.field(factory=Counter)

    def add(self, number: int, coverage: Coverage) -> bool:
        """Take a trial in; True if it has been to an abstract state or an item that no other has."""
        self.trials += 1
        is_new = any(state not in self.states for state in coverage.states)
        is_new |= any(item not in self.items for item in coverage.items)
        self.items.update(coverage.items)
        self.cells.update(coverage.cells)
        self.states.update(coverage.states)
        self.reached.update(coverage.reached)
        self.passed.update(dict.fromkeys(coverage.passed))
        for table, keys in ((self.items, coverage.items), (self.states, coverage.states)):
            for key in keys:
                if table[key] == 1:
                    self._only[key] = number
                    self._singles[number] += 1
                elif key in self._only:
                    first = self._only.pop(key)
                    self._singles[first] -= 1
                    if not self._singles[first]:
                        del self._singles[first]
        return is_new

    @property
    def unseen(self) -> float:
        """Good and Turing's estimate of the chance that the next trial gets to an item or state that none has been to: the share of
        trials that have been to one alone."""
        return len(self._singles) / self.trials if self.trials else 1.0

    def never(self, declared: Iterable[str]) -> list[str]:
        """What should happen sometimes and never has: names of user code first, then the built-in ones."""
        wanted = dict.fromkeys((*declared, *self.passed, *BUILT_IN))
        return [name for name in wanted if not self.reached[name]]
