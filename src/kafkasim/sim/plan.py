"""Fault plans as plain values: what goes wrong, where, and at which moment of the run.

Inputs:   faults, each with one trigger: a time, the n-th occurrence of an event, or a condition.
Rule 1:   a plan is data. It prints, compares, adds up, and is the same after TOML or JSON; it holds no function and no cluster.
Rule 2:   a target is a role (``leader:orders-0``) or a name (``broker:2``); a role is resolved when the fault fires.
Rule 3:   a fault may wait for the one before it (``then``): a plan is a row of such chains. A fault taken out hands its place on.
Rule 4:   what cannot be is refused when the value is made, with the fault's own words in the message.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.sim.conditions import Condition
from kafkasim.sim.plan_words import (
    ADMIN,
    BETWEEN,
    KINDS,
    MOMENTARY,
    OF_ANYBODY,
    OF_CLIENTS,
    OF_MESSAGES,
    PLANES,
    USES,
    check_api,
    check_event,
    check_target,
    close,
)


@attrs.frozen
class Fault:
    """One thing that goes wrong.

    Args:
        what: one of `KINDS`.
        target: one of `TARGETS`.
        at_s: trigger by virtual time, in seconds from the moment when the plan is injected.
        on, nth: trigger by the n-th occurrence of an event: ``"Produce.answered"``, ``"AlterPartition.sent"``, ``"ReplicaFetch.received"``
            (a request of Kafka's protocol by its name, at one of `STAGES`), ``"note:truncated"`` (something that a server noted), or
            ``"change"`` (one of `FAMILIES`).
        when: trigger by a condition, looked at with every message: ``"isr:orders-0 <= 1"``, ``"behind:orders-0 > 100"``.
        for_s: undo it after so many virtual seconds; None: never.
        against: the other side of what is between two.
        one_way: only what goes from the target to ``against``.
        factor, extra_s: how slow, how fast, how late.
        then: wait for its moment only once the fault before it in the plan has happened; times and occurrences count from there.
        plane, api: only this part of the traffic, only requests of this name.
        tail: a delay for some messages only, and a long one for a few.
        partial: some of what was not flushed had reached the disk.
        spread_s: where there are several targets, each is hit by itself, within so many seconds.
        settings: configs by Kafka's names, as (key, value).
        count: how many.

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
    plane: str = ""
    api: str = ""
    tail: bool = False
    partial: bool = False
    spread_s: float = 0.0
    settings: tuple[tuple[str, str], ...] = ()
    count: int = 1

    def __attrs_post_init__(self) -> None:
        self._check_types()
        if self.what not in KINDS:
            raise self._error(
                f"nothing called {self.what!r} can go wrong{close(self.what, KINDS)}; known: {', '.join(KINDS)}"
            )
        self._check_trigger()
        self._check_places()
        self._check_settings()
        if self.what in MOMENTARY and self.for_s is not None:
            raise self._error(f"{self.what!r} is over at once; `for` has nothing to undo")
        if self.for_s is not None and self.for_s <= 0:
            raise self._error(f"`for` is {self.for_s!r} s, expected more than 0")

    def _check_types(self) -> None:
        """First of all: the text of a fault is made of its fields."""
        for name in ("at_s", "for_s", "extra_s", "spread_s", "factor"):
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value)
            ):
                raise ConfigurationError(
                    f"fault {self.what}: `{name.removesuffix('_s')}` is {value!r}, expected a number (of seconds)"
                )
        for name in ("nth", "count"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigurationError(f"fault {self.what}: `{name}` is {value!r}, expected a whole number")
        for name in ("what", "target", "against"):
            value = getattr(self, name)
            if not isinstance(value, str):
                hint = f"; a broker is 'broker:{value}'" if isinstance(value, int) else ""
                raise ConfigurationError(f"fault {self.what}: `{name}` is {value!r}, expected text{hint}")

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
        stage = OF_MESSAGES.get(self.what)
        if self.on is None and (self.target in ("server", "client", "subject") or stage is not None):
            raise self._error(f"{self.what!r} at {self.target!r} needs an event as its trigger: say `on`")
        if stage is not None and not str(self.on).endswith(f".{stage}"):
            raise self._error(f"`{self.what}` needs on = Api.{stage}, not {self.on!r}")

    def _check_places(self) -> None:
        check_target(self.target, self._error)
        check_target(self.against, self._error)
        is_client = self.target.startswith("client")
        if self.what in OF_CLIENTS and not is_client:
            raise self._error(f"{self.what!r} is for clients: target client or client:NAME, not {self.target!r}")
        is_topic = self.target.startswith("topic:")
        if self.what in ADMIN and not is_topic:
            if self.what != "configure" or not self.target.startswith("broker"):
                of = "topic:NAME, broker:ID or brokers" if self.what == "configure" else "topic:NAME"
                raise self._error(f"an operator does {self.what!r} to {of}, not to {self.target!r}")
        elif is_topic and self.what not in ADMIN:
            raise self._error(f"{self.what!r} cannot happen to a topic; what can: {', '.join(ADMIN)}")
        if self.target == "others" or self.against.startswith("topic:"):
            raise self._error("`others` is for `against`, and a topic is no side of anything")
        known = (*OF_CLIENTS, *OF_ANYBODY, *BETWEEN, *OF_MESSAGES, "isolate", "reset")
        if is_client and self.what not in known:
            raise self._error(f"{self.what!r} cannot happen to a client; what can: {', '.join(known)}")

    def _check_settings(self) -> None:
        for name, kinds in USES.items():
            if self.what not in kinds and getattr(self, name) != _DEFAULTS[name]:
                raise self._error(f"{self.what!r} has no {_WORDS.get(name, name)}; that is for {', '.join(kinds)}")
        if self.factor <= 0 or (self.extra_s < 0 and self.what != "clock_jump"):
            raise self._error(
                f"factor {self.factor!r} and extra {self.extra_s!r} s: a factor is above 0, only a clock jumps back"
            )
        if self.what == "slow" and self.factor == 1.0 and self.extra_s == 0.0:
            raise self._error("`slow` needs a factor or extra seconds")
        if (self.api or self.tail) and self.what == "slow" and (self.factor != 1.0 or self.extra_s == 0.0):
            raise self._error("`slow` with an api or a tail adds extra seconds; a factor is for the whole link")
        if self.what in ("disk_slow", "late", "clock_jump") and self.extra_s == 0:
            means = {"disk_slow": "how long a write takes", "late": "how late", "clock_jump": "how far"}[self.what]
            raise self._error(f"`{self.what}` needs extra seconds: {means}")
        if self.what in ("starve", "clock_drift") and self.factor == 1.0:
            raise self._error(f"`{self.what}` needs a factor")
        if self.what == "starve" and self.factor < 1:
            raise self._error(f"`starve` with the factor {self.factor:g}: expected more than 1")
        if self.plane and self.plane not in PLANES:
            raise self._error(f"no plane {self.plane!r}{close(self.plane, PLANES)}; known: {', '.join(PLANES)}")
        if self.api:
            check_api(self.api, self._error)
        if self.what == "configure" and not self.settings:
            raise self._error('`configure` needs settings, as in {"min.insync.replicas": "1"}')
        if self.count < 1 or self.spread_s < 0:
            raise self._error(f"count {self.count!r}, spread {self.spread_s!r} s: expected 1 and 0 s or more")

    def __add__(self, other: Plan | Fault) -> Plan:
        """Both, as a plan."""
        return Plan.of(self, other)

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
        if self.what in BETWEEN:
            parts.append(f"{'to' if self.one_way else 'from'} {self.against}")
        parts += [f"({part} only)" for part in (self.plane, self.api) if part]
        if self.what == "slow":
            parts.append(f"x{self.factor:g} +{self.extra_s:g}s")
        elif self.extra_s:
            parts.append(f"{self.extra_s:+g}s")
        elif self.factor != 1.0:
            parts.append(f"x{self.factor:g}")
        parts += [word for word, holds in (("in part", self.partial), ("at the tail", self.tail)) if holds]
        parts += [f"{key}={value}" for key, value in self.settings]
        if self.what == "add_partitions":
            parts.append(f"+{self.count}")
        if self.spread_s:
            parts.append(f"within {self.spread_s:g}s")
        parts.append(self.trigger)
        if self.for_s is not None:
            parts.append(f"for {self.for_s:g}s")
        return " ".join(parts)


_DEFAULTS = {field.name: field.default for field in attrs.fields(Fault)}
_WORDS = {"extra_s": "extra", "spread_s": "spread"}


@attrs.frozen
class Plan:
    """Faults, in the order in which they were written. ``plan + other`` is both; ``Plan.of(...)`` takes faults and plans."""

    faults: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, *parts: Fault | Plan | Iterable[Fault]) -> Plan:
        """Raises ConfigurationError for what is no fault."""
        faults: list[Fault] = []
        for part in parts:
            listed = [part] if isinstance(part, Fault) else part
            if isinstance(listed, str) or not isinstance(listed, Iterable):
                raise ConfigurationError(f"{part!r} is no fault and no plan: kafkasim.faults makes them")
            for fault in listed:
                if not isinstance(fault, Fault):
                    raise ConfigurationError(f"{fault!r} is no fault: kafkasim.faults makes them")
                faults.append(fault)
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
