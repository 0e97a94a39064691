"""Nemeses: generators of fault plans, from a shape of the cluster and a seed.

Inputs:   what there is to hit (broker ids, partitions, racks), how many faults, a seed where chance is wanted.
Effects:  none; a `Plan`, which prints, replays and shrinks like one written by hand.
Rule 1:   the same arguments give the same plan, in any process.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.sim import aiming
from kafkasim.sim.choices import Choices
from kafkasim.sim.menu import Menu
from kafkasim.sim.plan import Fault, Plan
from kafkasim.sim.plan_words import ADMIN, OF_CLIENTS

#: Moments at which a leader or the controller has promised, or is about to: faults here find more than faults at any time.
EVENTS = (
    "Produce.answered",
    "Produce.received",
    "ReplicaFetch.received",
    "AlterPartition.sent",
    "AlterPartition.answered",
    "BrokerRegistration.answered",
)
_DOWN_S = (0.001, 0.05, 0.5, 3.0, 12.0, 40.0)


def chase_the_leader(
    partition: str, *, times: int = 3, on: str = "Produce.answered", every: int = 10, down: float = 5.0
) -> Plan:
    """Kill whoever leads a partition at every so many occurrences of an event, ``times`` times."""
    return Plan(
        tuple(
            Fault("crash", f"leader:{partition}", on=on, nth=every * turn, for_s=down) for turn in range(1, times + 1)
        )
    )


def rolling_restart(brokers: Sequence[int], *, at: float = 5.0, pause: float = 30.0, down: float = 5.0) -> Plan:
    """Stop every broker in good order and start it again, one after the other, ``pause`` seconds apart."""
    return Plan(
        tuple(
            Fault("shutdown", f"broker:{broker}", at_s=at + pause * turn, for_s=down)
            for turn, broker in enumerate(brokers)
        )
    )


def zone_loss(rack: str, *, at: float = 5.0, down: float | None = 30.0, power: bool = True) -> Plan:
    """A rack is gone at once: by power (what was not flushed is lost), or cut off from the rest."""
    return Plan((Fault("power_loss" if power else "isolate", f"zone:{rack}", at_s=at, for_s=down),))


def split(brokers: Sequence[int], *, seed: int = 0, at: float = 5.0, lasting: float = 20.0) -> Plan:
    """Cut some of the brokers, by chance never all, off from the others."""
    _need(len(brokers) >= 2, f"a split needs two brokers or more, not {list(brokers)}")
    choices = Choices(seed)
    order = _shuffled(choices, "split.order", brokers)
    side = order[: 1 + choices.draw("split.size", len(order) - 1)]
    rest = [broker for broker in brokers if broker not in side]
    return Plan(
        tuple(
            Fault("partition", f"broker:{broker}", at_s=at, for_s=lasting, against=f"broker:{other}")
            for broker in sorted(side)
            for other in rest
        )
    )


def swizzle_clog(brokers: Sequence[int], *, seed: int = 0, at: float = 5.0, step: float = 2.0) -> Plan:
    """Clog brokers one after the other, and let go of them in another order: queues build up and burst."""
    _need(len(brokers) >= 2, f"a swizzle needs two brokers or more, not {list(brokers)}")
    choices = Choices(seed)
    into = _shuffled(choices, "swizzle.in", brokers)
    out = _shuffled(choices, "swizzle.out", brokers)
    end_s = at + step * len(into)
    return Plan(
        tuple(
            Fault(
                "hold",
                f"broker:{broker}",
                at_s=at + step * turn,
                for_s=end_s + step * out.index(broker) - (at + step * turn),
            )
            for turn, broker in enumerate(into)
        )
    )


def uniform(brokers: Sequence[int], *, seed: int = 0, faults: int = 4, span: float = 60.0) -> Plan:
    """Crashes of any broker at any time: the yardstick that better nemeses are measured by."""
    choices = Choices(seed)
    return Plan(
        tuple(
            Fault(
                "crash",
                f"broker:{brokers[choices.draw('uniform.broker', len(brokers))]}",
                at_s=choices.draw("uniform.at", max(1, round(span * 1_000_000))) / 1_000_000,
                for_s=_down_s(choices),
            )
            for _ in range(faults)
        )
    )


def event_indexed(
    partitions: Sequence[str],
    *,
    seed: int = 0,
    faults: int = 4,
    horizon: int = 60,
    events: Sequence[str] = EVENTS,
    kinds: Sequence[str] = ("crash", "power_loss", "pause"),
) -> Plan:
    """Faults at the n-th occurrence of protocol events, up to ``horizon``: at whoever serves it, or who leads a partition."""
    _need(bool(partitions) and bool(events) and bool(kinds), "event_indexed needs partitions, events and kinds")
    choices = Choices(seed)
    planned = []
    for _ in range(faults):
        partition = partitions[choices.draw("event.partition", len(partitions))]
        targets = ("server", f"leader:{partition}", f"follower:{partition}", "controller")
        planned.append(
            Fault(
                kinds[choices.draw("event.kind", len(kinds))],
                targets[choices.draw("event.target", len(targets))],
                on=events[choices.draw("event.on", len(events))],
                nth=1 + choices.draw("event.nth", horizon),
                for_s=_down_s(choices),
            )
        )
    return Plan(tuple(planned))


def around_changes(
    brokers: Sequence[int],
    partitions: Sequence[str],
    *,
    seed: int = 0,
    faults: int = 3,
    horizon: int = 60,
    down: float = aiming.LONG_S,
) -> Plan:
    """The first fault as a record is promised, the others with it, where roles change because of it, or as its broker comes back.

    The nemesis that finds most with few faults.

    ``horizon``: about how many times producers are answered; ``down``: seconds of a long outage, longer than sessions and lag times.
    """
    shape = aiming.Shape(brokers, partitions, promises=horizon, long_s=down)
    return aiming.around_changes(shape, seed, faults)


def swarm(
    brokers: Sequence[int],
    partitions: Sequence[str],
    *,
    seed: int = 0,
    faults: int = 4,
    span: float = 60.0,
    kinds: Sequence[str] | None = None,
    clients: Sequence[str] = (),
) -> Plan:
    """A few kinds of faults, drawn once, and all of this plan out of them; half at events, half at times.

    By default out of all that a sound design survives, ``clients`` killed and frozen among them; ``kinds`` names others.
    """
    choices = Choices(seed)
    menu = Menu(tuple(brokers), tuple(partitions), tuple(clients))
    every = menu.kinds(kinds)
    chosen = [kind for kind in every if choices.draw(f"swarm.{kind}", 2)] or every[-1:]
    planned = []
    for _ in range(faults):
        kind = chosen[choices.draw("swarm.kind", len(chosen))]
        place = choices.draw("swarm.broker", len(brokers))
        if partitions and choices.draw("swarm.role", 2):
            place = len(brokers) + 2 * choices.draw("swarm.partition", len(partitions)) + 1
        if kind in (*OF_CLIENTS, *ADMIN) or (clients and not choices.draw("swarm.client", 4)):
            place = choices.draw("swarm.place", len(menu.places(kind)))
        more: dict[str, Any] = {"factor": 2.0 + choices.draw("swarm.factor", 200)} if kind == "slow" else {}
        for_s = _down_s(choices)
        if choices.draw("swarm.trigger", 2):
            event = EVENTS[choices.draw("swarm.on", len(EVENTS))]
            nth = 1 + choices.draw("swarm.nth", 60)
            planned.append(menu.fault(kind, place, for_s=for_s, on=event, nth=nth, **more))
        else:
            at_s = choices.draw("swarm.at", max(1, round(span * 1_000_000))) / 1_000_000
            planned.append(menu.fault(kind, place, for_s=for_s, at_s=at_s, **more))
    return Plan(tuple(planned))


def splittings(roles: Sequence[str]) -> list[Plan]:
    """Every way to separate two or three key roles from one another: each pair both ways and one way, each three from one another.

    Roles are targets, as ``"leader:orders-0"``, ``"controller"``, ``"clients"``. The faults come at once and stay; `partition_splitter`
    gives one of these plans a time.
    """
    _need(len(roles) >= 2, f"a splitting needs two roles or more, not {list(roles)}")
    plans = []
    for one, other in itertools.combinations(roles, 2):
        plans.append(Plan((Fault("partition", one, at_s=0.0, against=other),)))
        plans.append(Plan((Fault("partition", one, at_s=0.0, against=other, one_way=True),)))
        plans.append(Plan((Fault("partition", other, at_s=0.0, against=one, one_way=True),)))
    for three in itertools.combinations(roles, 3):
        pairs = itertools.combinations(three, 2)
        plans.append(Plan(tuple(Fault("partition", one, at_s=0.0, against=other) for one, other in pairs)))
    return plans


def partition_splitter(
    roles: Sequence[str], *, seed: int = 0, at: float = 5.0, on: str | None = None, nth: int = 1, lasting: float = 20.0
) -> Plan:
    """Key roles separated, two or three of them: seeds from 0 on go through all `splittings` before one comes again."""
    plans = splittings(roles)
    trigger: dict[str, Any] = {"at_s": None, "on": on, "nth": nth} if on is not None else {"at_s": at}
    return Plan(tuple(attrs.evolve(fault, for_s=lasting, **trigger) for fault in plans[seed % len(plans)]))


def _down_s(choices: Choices) -> float:
    return _DOWN_S[choices.draw("nemesis.down", len(_DOWN_S))]


def _shuffled(choices: Choices, label: str, items: Sequence[int]) -> list[int]:
    left, order = list(items), []
    while left:
        order.append(left.pop(choices.draw(label, len(left))))
    return order


def _need(holds: bool, problem: str) -> None:
    if not holds:
        raise ConfigurationError(problem)
