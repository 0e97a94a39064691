"""Fault plans as plain values: what goes wrong, where, and at which moment of the run.

Inputs:   faults, each with one trigger: a time, the n-th occurrence of an event, or a condition.
Rule 1:   a plan is data. It prints, compares, adds up, and is the same after TOML or JSON; it holds no function and no cluster.
Rule 2:   a target is a role (``leader:orders-0``) or a name (``broker:2``); a role is resolved when the fault fires.
Rule 3:   a fault may wait for the one before it (``then``): a plan is a row of such chains. A fault taken out hands its place on.
Rule 4:   what cannot be is refused when the value is made, with the fault's own words in the message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError

#: What may go wrong, and what it means. ``for`` undoes it.
KINDS: Mapping[str, str] = {
    "crash": "kill the process; `for`: start it again after so long",
    "power_loss": "cut the power: what was not flushed is gone; `for`: start it again",
    "shutdown": "stop in good order; `for`: start it again",
    "pause": "freeze the process; `for`: let it go on",
    "isolate": "cut it off from every other server and client; `for`: heal",
    "partition": "cut it off from `against`; `for`: heal",
    "hold": "keep back, without losing any, all messages between it and `against`; `for`: release",
    "slow": "multiply the latency between it and `against` by `factor`, or add `extra`; `for`: as before",
    "disk_slow": "let each write to its disk take `extra` seconds; `for`: heal the disk",
    "disk_full": "leave no space on its disk: it halts at its next write; `for`: heal the disk and start it again",
    "disk_fail": "let every operation of its disk fail: it halts; `for`: heal the disk and start it again",
    "reset": "reset all its connections",
    "lose_response": "lose the response that triggers it (`on` = Api.answered): the work is done, its sender does not know",
    "kill": "kill a client's task: nothing more of it runs",
    "stop": "ask a client's task to end, as SIGTERM does",
}
_OF_CLIENTS = ("kill", "stop")
_BETWEEN = ("partition", "hold", "slow")
#: What is over in a moment, so that nothing can be undone.
_MOMENTARY = ("reset", "lose_response", "kill", "stop")

#: Roles and names that a fault can hit.
TARGETS: Mapping[str, str] = {
    "broker:ID": "a broker by its id",
    "zone:RACK": "all brokers of a rack",
    "leader:TOPIC-PARTITION": "the partition's leader at that moment",
    "follower:TOPIC-PARTITION": "the first in-sync follower at that moment",
    "controller": "the active controller",
    "coordinator:GROUP": "the group's coordinator",
    "server": "the server at which the triggering event happens",
    "client": "the client whose request or response the triggering event is",
    "client:NAME": "a task or client by its name",
    "any": "a live broker, by chance",
    "others": "every server that is not the target (for `against`)",
}
#: Where on its way a message is met.
STAGES: Mapping[str, str] = {
    "sent": "a request leaves its sender",
    "received": "a server is about to handle it",
    "answered": "the response is about to leave the server: the work is done, nobody knows",
    "arrived": "the response is about to reach the sender of the request",
}


@attrs.frozen
class Fault:
    """One thing that goes wrong.

    Args:
        what: one of `KINDS`.
        target: one of `TARGETS`.
        at_s: trigger by virtual time, in seconds from the moment when the plan is injected.
        on, nth: trigger by the n-th occurrence of an event: ``"Produce.answered"``, ``"AlterPartition.sent"``, ``"ReplicaFetch.received"``
            (a request of Kafka's protocol by its name, at one of `STAGES`), or ``"note:truncated"`` (something that a server noted).
        when: trigger by a condition, looked at with every message: ``"isr:orders-0 <= 1"``, ``"behind:orders-0 > 100"``.
        for_s: undo it after so many virtual seconds; None: never.
        against: the other side of what is between two.
        one_way: only what goes from the target to ``against``.
        factor, extra_s: how slow.
        then: wait for its moment only once the fault before it in the plan has happened; times and occurrences count from there.

    Raises ConfigurationError for what cannot be.
    """

    what: str
    target: str = "any"
    at_s: float | None = None
    on: str | None = None
    nth: int = 1
    when: str | None = None
    for_s: float | None = None
    against: str = "others"
    one_way: bool = False
    factor: float = 1.0
    extra_s: float = 0.0
    then: bool = False

    def __attrs_post_init__(self) -> None:
        if self.what not in KINDS:
            raise self._error(
                f"nothing called {self.what!r} can go wrong{_close(self.what, KINDS)}; known: {', '.join(KINDS)}"
            )
        self._check_trigger()
        check_target(self.target, self._error)
        check_target(self.against, self._error)
        if self.what in _OF_CLIENTS and not self.target.startswith("client"):
            raise self._error(f"{self.what!r} is for clients: target client or client:NAME, not {self.target!r}")
        if self.what in _MOMENTARY and self.for_s is not None:
            raise self._error(f"{self.what!r} is over at once; `for` has nothing to undo")
        if self.for_s is not None and self.for_s <= 0:
            raise self._error(f"`for` is {self.for_s!r} s, expected more than 0")
        if self.what == "disk_slow" and self.extra_s <= 0:
            raise self._error("`disk_slow` needs extra seconds: how long a write takes")
        if self.what == "slow" and self.factor == 1.0 and self.extra_s == 0.0:
            raise self._error("`slow` needs a factor or extra seconds")
        if self.factor <= 0 or self.extra_s < 0:
            raise self._error(
                f"factor {self.factor!r} and extra {self.extra_s!r} s: a link can only be made slower by them"
            )

    def _check_trigger(self) -> None:
        given = [name for name, value in (("at", self.at_s), ("on", self.on), ("when", self.when)) if value is not None]
        if len(given) != 1:
            raise self._error(f"expected one trigger of at, on and when, not {' and '.join(given) or 'none'}")
        if self.at_s is not None and self.at_s < 0:
            raise self._error(f"`at` is {self.at_s!r} s, expected 0 or more")
        if self.nth < 1:
            raise self._error(f"`nth` is {self.nth!r}, expected 1 or more")
        if self.on is not None:
            check_event(self.on, self._error)
        if self.when is not None:
            Condition.parse(self.when)
        if self.on is None and (self.target in ("server", "client") or self.what == "lose_response"):
            raise self._error(f"{self.what!r} at {self.target!r} needs an event as its trigger: say `on`")
        if self.what == "lose_response" and not str(self.on).endswith(".answered"):
            raise self._error(f"`lose_response` needs on = Api.answered, not {self.on!r}")

    def _error(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"fault {self}: {problem}")

    @property
    def trigger(self) -> str:
        if self.at_s is not None:
            return f"after {self.at_s:g}s" if self.then else f"at {self.at_s:g}s"
        if self.on is not None:
            return f"on {self.on} #{self.nth}"
        return f"when {self.when}"

    def __str__(self) -> str:
        parts = ["then", self.what, self.target] if self.then else [self.what, self.target]
        if self.what in _BETWEEN:
            parts.append(f"{'to' if self.one_way else 'from'} {self.against}")
        if self.what == "slow":
            parts.append(f"x{self.factor:g} +{self.extra_s:g}s")
        if self.what == "disk_slow":
            parts.append(f"+{self.extra_s:g}s")
        parts.append(self.trigger)
        if self.for_s is not None:
            parts.append(f"for {self.for_s:g}s")
        return " ".join(parts)


@attrs.frozen
class Condition:
    """``subject:place comparison number``: ``isr:orders-0 <= 1``."""

    subject: str
    place: str
    comparison: str
    number: int

    #: What can be asked, and what it counts.
    SUBJECTS = {  # noqa: RUF012
        "isr": "in-sync replicas of a partition, as the controller knows them",
        "elr": "eligible leader replicas of a partition",
        "behind": "records of the leader's log above the high watermark",
        "end": "the leader's log end offset",
        "live": "brokers that are not fenced (no place)",
    }
    COMPARISONS = ("<=", ">=", "<", ">", "==")

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Raises ConfigurationError."""
        words = text.split()
        subject, _, place = (words or [""])[0].partition(":")
        usable = (
            len(words) == 3
            and subject in cls.SUBJECTS
            and words[1] in cls.COMPARISONS
            and words[2].isdigit()
            and (subject == "live") == (not place)
        )
        if not usable:
            raise ConfigurationError(
                f"condition {text!r}: expected subject:topic-partition, a comparison and a number, as in 'isr:orders-0 <= 1'; "
                f"subjects: {', '.join(f'{name} ({meaning})' for name, meaning in cls.SUBJECTS.items())}"
            )
        if place:
            check_partition(place, lambda problem: ConfigurationError(f"condition {text!r}: {problem}"))
        return cls(subject, place, words[1], int(words[2]))

    def holds(self, value: int) -> bool:
        comparison = self.comparison
        if comparison == "<=":
            return value <= self.number
        if comparison == ">=":
            return value >= self.number
        if comparison == "<":
            return value < self.number
        if comparison == ">":
            return value > self.number
        return value == self.number


@attrs.frozen
class Plan:
    """Faults, in the order in which they were written. ``plan + other`` is both; ``Plan.of(...)`` takes faults and plans."""

    faults: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, *parts: Fault | Plan | Iterable[Fault]) -> Plan:
        faults: list[Fault] = []
        for part in parts:
            if isinstance(part, Fault):
                faults.append(part)
            else:
                faults.extend(part)
        return cls(tuple(faults))

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def __len__(self) -> int:
        return len(self.faults)

    def __add__(self, other: Plan | Fault) -> Plan:
        return Plan.of(self, other)

    def without(self, index: int) -> Plan:
        """The plan less one fault, for shrinking and counterfactuals."""
        return Plan((*self.faults[:index], *self.faults[index + 1 :]))

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults) or "no faults"


def check_target(target: str, error: Any) -> None:
    """Raises what ``error(problem)`` makes."""
    role, colon, place = target.partition(":")
    known = [name.partition(":")[0] for name in TARGETS]
    with_place = [name.partition(":")[0] for name in TARGETS if ":" in name]
    bare = [name for name in TARGETS if ":" not in name]
    if role not in known or (colon and (role not in with_place or not place)) or (not colon and role not in bare):
        raise error(f"no target {target!r}{_close(role, known)}; known: {', '.join(TARGETS)}")
    if role in ("leader", "follower"):
        check_partition(place, error)
    if role == "broker" and not place.isdigit():
        raise error(f"target {target!r}: a broker's id is a number")


def check_partition(place: str, error: Any) -> None:
    topic, dash, number = place.rpartition("-")
    if not dash or not topic or not number.isdigit():
        raise error(f"{place!r} is no partition: expected TOPIC-NUMBER, as in orders-0")


def check_event(event: str, error: Any) -> None:
    """``note:KIND``, or a request's name and a stage."""
    from kafkasim.sim.wire_events import API_NAMES

    if event.startswith("note:") and len(event) > len("note:"):
        return
    api, dot, stage = event.partition(".")
    if not dot or stage not in STAGES:
        raise error(f"no event {event!r}: expected Api.stage with a stage of {', '.join(STAGES)}, or note:KIND")
    if api not in API_NAMES:
        raise error(f"no request {api!r}{_close(api, API_NAMES)} in event {event!r}; known: {', '.join(API_NAMES)}")


def _close(word: str, known: Iterable[str] | Sequence[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
