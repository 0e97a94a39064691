"""Policies: where a campaign puts its faults, and what share of the trials each way of doing so gets.

Inputs:   the shape of the scenario, the campaign's seed, a trial's number, and for mutations what earlier trials reached.
Effects:  a recipe for each trial.
Rule 1:   a recipe depends on the campaign's seed, the trial's number and the parents it may pick from, and on nothing else.
Rule 2:   every plan heals by itself, and cuts the power once at most: losing what was acknowledged to two power cuts at once is no bug.
Rule 3:   of twenty trials eight are triggered by events (four swarms, four around elections), four split the network, three give
          priorities, three mutate what was new, and two walk through single and double faults in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from kafkasim.explore.recipe import Fork, Recipe
from kafkasim.explore.shape import Shape, events_at
from kafkasim.sim import aiming
from kafkasim.sim.choices import Choices
from kafkasim.sim.plan import Fault, Plan

SWARM, ELECTION, SPLIT, PRIORITY, MUTATE, EXHAUSTIVE, OWN, NONE = (
    "swarm",
    "election",
    "split",
    "priority",
    "mutate",
    "exhaustive",
    "own",
    "no faults",
)
#: A block of twenty trials, mixed so that a short campaign has some of each.
_BLOCK = (
    *(SWARM, SPLIT, ELECTION, EXHAUSTIVE, PRIORITY, SWARM, MUTATE, ELECTION, SPLIT, PRIORITY),
    *(SWARM, MUTATE, ELECTION, SPLIT, EXHAUSTIVE, SWARM, PRIORITY, SPLIT, MUTATE, ELECTION),
)
_DOWN_S = (0.001, 0.05, 0.5, 3.0, 12.0, 40.0)
_CLIENT_DOWN_S = (0.05, 1.0, 10.0, 50.0)
_SCALES_S = (0.001, 0.02, 0.2)
_LATE_S = (0.02, 0.5, 5.0)
_MOST_NTH = 200
#: Requests by which somebody promises something, or takes it back: half of the faults at events are at these.
PROMISING = (
    "Produce.",
    "OffsetCommit.",
    "AlterPartition.",
    "ShareAcknowledge.",
    "EndTxn.",
    "TxnOffsetCommit.",
    "WriteTxnMarkers.",
)
_SERVER_KINDS = (
    *("crash", "power_loss", "pause", "shutdown", "isolate", "hold", "slow", "reset", "lose_response"),
    *("late", "starve", "disk_slow", "disk_full"),
)


@attrs.frozen
class Parent:
    """A trial that reached something new: what a mutation starts from."""

    recipe: Recipe
    virtual_s: float


@attrs.frozen
class Portfolio:
    """Recipes for the trials of one campaign."""

    shape: Shape
    seed: int
    own: Callable[[int], Plan | Fault] | None = None

    def policy_of(self, number: int) -> str:
        """Trial 0 is the run without faults; a scenario with faults of its own gives them every fifth trial."""
        if number == 0:
            return NONE
        if self.own is not None and number % 5 == 1:
            return OWN
        return _BLOCK[(number - 1) % len(_BLOCK)]

    def recipe(self, number: int, parents: Sequence[Parent] = ()) -> Recipe:
        """The recipe of a trial."""
        seed = self.seed if number == 0 else _derived(self.seed, "trial", number) >> 33
        policy = self.policy_of(number)
        dice = _Dice(self.shape, Choices(_derived(self.seed, policy, number)))
        if policy == NONE:
            return Recipe(seed)
        if policy == OWN:
            assert self.own is not None
            return Recipe(seed, Plan.of(self.own(seed)))
        if policy == MUTATE and parents:
            return _mutated(dice, parents[dice.draw("parent", len(parents))], seed)
        if policy == EXHAUSTIVE:
            index = (number - 1) // len(_BLOCK) * 2 + ((number - 1) % len(_BLOCK) > len(_BLOCK) // 2)
            return Recipe(seed, exhaustive(self.shape, index))
        if policy == SPLIT:
            return Recipe(seed, _split(dice))
        if policy == PRIORITY:
            return Recipe(seed, _priorities(dice))
        if policy == ELECTION and self.shape.partitions:
            return Recipe(seed, _elections(dice))
        return Recipe(seed, _swarm(dice))


class _Dice:
    """Draws for one plan, and the pieces that plans are made of."""

    def __init__(self, shape: Shape, choices: Choices) -> None:
        self.shape = shape
        self.draw = choices.draw
        self.has_cut_power = False

    def one(self, label: str, items: Sequence[Any]) -> Any:
        return items[self.draw(label, len(items))]

    def trigger(self, *stages: str, counts: Mapping[str, int] | None = None) -> dict[str, Any]:
        """An event that happens in this scenario, at an occurrence that is likely to come; a time where there is none."""
        counts = self.shape.events if counts is None else counts
        events = events_at(counts, *stages)
        if not events:
            return {"at_s": self.time()}
        promises = [event for event in events if event.startswith(PROMISING)]
        if promises and self.draw("promise", 2):
            events = promises
        event = self.one("event", events)
        most = min(counts[event], _MOST_NTH)
        # Half of the draws are among the first ten: what is rare is early.
        limit = min(most, 10) if self.draw("early", 2) else most
        return {"on": event, "nth": 1 + self.draw("nth", limit)}

    def time(self) -> float:
        return self.draw("at", max(1, round(self.shape.span_s * 1000))) / 1000

    def server(self) -> str:
        targets = ["server", "controller", *(f"broker:{broker}" for broker in self.shape.brokers)]
        targets += [f"leader:{partition}" for partition in self.shape.partitions[:8]] * 2
        targets += [f"follower:{partition}" for partition in self.shape.partitions[:4]]
        targets += [f"coordinator:{group}" for group in self.shape.groups[:4]]
        return str(self.one("target", targets))

    def down(self) -> float:
        return float(self.one("down", _DOWN_S))

    def server_fault(self, kind: str) -> Fault:
        if kind == "power_loss" and self.has_cut_power:
            kind = "crash"
        if kind in ("lose_response", "late"):
            trigger = self.trigger("answered" if kind == "lose_response" else "sent")
            if "on" in trigger and kind == "late":
                return Fault(kind, "client", extra_s=float(self.one("late", _LATE_S)), **trigger)
            if "on" in trigger:
                return Fault(kind, "client", **trigger)
            kind = "reset"
        trigger = self.trigger("received", "answered", "sent") if self.draw("timed", 5) else {"at_s": self.time()}
        target = self.server()
        if target == "server" and "on" not in trigger:
            target = "any"
        if kind == "power_loss":
            self.has_cut_power = True
        if kind in ("slow", "disk_slow"):
            return Fault(kind, target, extra_s=float(self.one("slow", _SCALES_S)), for_s=self.down(), **trigger)
        if kind == "starve":
            return Fault(kind, target, factor=float(self.one("starve", (2, 10, 50))), for_s=self.down(), **trigger)
        return Fault(kind, target, for_s=None if kind == "reset" else self.down(), **trigger)

    def client_fault(self) -> Fault:
        kind = "stop" if self.draw("gently", 5) == 0 else "kill"
        down_s = float(self.one("client.down", _CLIENT_DOWN_S))
        if self.draw("client.timed", 4) == 0:
            return Fault(kind, f"client:{self.one('task', self.shape.tasks)}", at_s=self.time(), for_s=down_s)
        trigger = self.trigger("arrived", "sent", counts=self.shape.task_events)
        target = "client" if "on" in trigger else f"client:{self.one('task', self.shape.tasks)}"
        return Fault(kind, target, for_s=down_s, **trigger)


def _swarm(dice: _Dice) -> Plan:
    """A few kinds of faults, drawn once for all of the plan, at events; in an environment that may be slow."""
    kinds = [kind for kind in _SERVER_KINDS if dice.draw(f"with.{kind}", 2)] or ["crash"]
    if dice.shape.tasks and dice.draw("with.clients", 2):
        kinds += ["client"] * max(1, len(kinds))
    faults: list[Fault] = []
    if dice.draw("with.slow.broker", 4) == 0:
        broker = dice.one("slow.broker", dice.shape.brokers)
        faults.append(Fault("slow", f"broker:{broker}", at_s=0.0, extra_s=float(dice.one("slow.by", _SCALES_S))))
    for _ in range(1 + dice.draw("count", 5)):
        kind = dice.one("kind", kinds)
        faults.append(dice.client_fault() if kind == "client" else dice.server_fault(kind))
    return Plan(tuple(faults))


def _elections(dice: _Dice) -> Plan:
    """One fault at a record, the others where roles change because of it: two elections in a row, say."""
    shape = dice.shape
    aimed = aiming.Shape(
        shape.brokers,
        shape.partitions,
        shape.replicas,
        shape.span_s,
        promises=min(_MOST_NTH, max(1, shape.promises)),
        changes=min(_MOST_NTH, shape.changes),
    )
    return aiming.around_changes(aimed, dice.draw("aim", 1 << 62), 2 + dice.draw("count", 2))


def _split(dice: _Dice) -> Plan:
    """Cut brokers off from one another, side by side or one after the other, one way or both; or clog them and let go in another order."""
    brokers = list(dice.shape.brokers)
    if len(brokers) < 2:
        return _swarm(dice)
    order = _shuffled(dice, brokers)
    style = dice.one("style", ("split", "swizzle", "isolate"))
    begin_s = dice.time()
    lasting_s = float(dice.one("lasting", (1.0, 8.0, 20.0, 40.0)))
    if style == "split":
        side = order[: 1 + dice.draw("size", len(order) - 1)]
        one_way = dice.draw("one way", 3) == 0
        return Plan(
            tuple(
                Fault("partition", f"broker:{a}", at_s=begin_s, for_s=lasting_s, against=f"broker:{b}", one_way=one_way)
                for a in side
                for b in order
                if b not in side
            )
        )
    if style == "isolate":
        trigger = dice.trigger("received", "answered")
        return Plan((Fault("isolate", dice.server() if "on" in trigger else "any", for_s=lasting_s, **trigger),))
    out = _shuffled(dice, brokers)
    step_s = float(dice.one("step", (0.1, 1.0, 5.0)))
    kind = dice.one("kind", ("hold", "isolate"))
    return Plan(
        tuple(
            Fault(
                kind,
                f"broker:{broker}",
                at_s=begin_s + step_s * turn,
                for_s=step_s * (len(order) - turn + out.index(broker)) + 0.001,
            )
            for turn, broker in enumerate(order)
        )
    )


def _priorities(dice: _Dice) -> Plan:
    """Each server has a priority: what it sends and is sent comes later, the lower it is; at one to three events one falls to the bottom.

    What runs first is decided here by latency alone, as in a network: every order that it makes is one that a real cluster can show.
    """
    order = _shuffled(dice, list(dice.shape.brokers))
    scale_s = float(dice.one("scale", _SCALES_S))
    faults = [
        Fault("slow", f"broker:{broker}", at_s=0.0, extra_s=scale_s * rank) for rank, broker in enumerate(order) if rank
    ]
    for turn in range(1 + dice.draw("demotions", 3)):
        broker = dice.one("demoted", order)
        extra_s = scale_s * (len(order) + turn)
        faults.append(Fault("slow", f"broker:{broker}", extra_s=extra_s, **dice.trigger("received", "answered")))
    if dice.draw("and a fault", 2):
        faults.append(dice.server_fault("crash"))
    return Plan(tuple(faults))


# --- mutation --------------------------------------------------------------------------------------------------------


def _mutated(dice: _Dice, parent: Parent, seed: int) -> Recipe:
    """A run like one that reached something new: with another end, or with one fault changed, added or left out."""
    recipe = parent.recipe
    plan = list(recipe.plan)
    way = dice.one("way", ("fork", "change", "add", "drop"))
    if way == "fork" or not plan:
        begin_ms, end_ms = round(dice.shape.begin_s * 1000), round(parent.virtual_s * 1000)
        at_s = (begin_ms + dice.draw("fork", max(1, end_ms - begin_ms))) / 1000
        earlier = tuple(fork for fork in recipe.forks if fork.at_s < at_s)
        return attrs.evolve(recipe, forks=(*earlier, Fork(at_s, seed)))
    dice.has_cut_power = any(fault.what == "power_loss" for fault in plan)
    index = dice.draw("which", len(plan))
    if way == "drop" and len(plan) > 1:
        del plan[index]
    elif way == "change":
        plan[index] = _changed(dice, plan[index])
    elif dice.shape.tasks and dice.draw("client", 2):
        plan.append(dice.client_fault())
    else:
        plan.append(dice.server_fault(dice.one("kind", _SERVER_KINDS)))
    return attrs.evolve(recipe, plan=Plan(tuple(plan)))


def _changed(dice: _Dice, fault: Fault) -> Fault:
    """The same fault a little earlier or later, or for another while."""
    if fault.for_s is not None and dice.draw("aspect", 3) == 0:
        return attrs.evolve(fault, for_s=dice.down())
    if fault.on is not None:
        step = dice.one("step", (-10, -3, -1, 1, 3, 10))
        return attrs.evolve(fault, nth=max(1, fault.nth + step))
    if fault.at_s is not None:
        return attrs.evolve(fault, at_s=dice.time())
    return fault


# --- in order --------------------------------------------------------------------------------------------------------


def exhaustive(shape: Shape, index: int) -> Plan:
    """The ``index``-th plan of a walk through single faults at every event, the first and rare ones first; then through pairs."""
    singles = _singles(shape)
    if not singles:
        return Plan((Fault("crash", "any", at_s=shape.span_s * (index % 100) / 100, for_s=5.0),))
    if index < len(singles):
        return Plan((singles[index],))
    index -= len(singles)
    first, second = index % len(singles), (index // len(singles) + index % len(singles) + 1) % len(singles)
    return Plan((singles[first], singles[second]))


def _singles(shape: Shape) -> list[Fault]:
    found: list[tuple[tuple[int, int, int, str], Fault]] = []
    for counts, stages in ((shape.events, ("received", "answered")), (shape.task_events, ("arrived",))):
        for event in events_at(counts, *stages):
            count = min(counts[event], 12)
            # The death of a client that has just promised something comes first: that is where user code goes wrong.
            rank = 2 - event.startswith(PROMISING) * (2 if "arrived" in stages else 1)
            for turn in range(count):
                nth = 1 + turn * counts[event] // count
                fault = Fault("crash", "server", on=event, nth=nth, for_s=12.0)
                if "arrived" in stages:
                    fault = Fault("kill", "client", on=event, nth=nth, for_s=10.0)
                found.append(((_spread(turn), rank, counts[event], event), fault))
    return [fault for _, fault in sorted(found, key=lambda pair: pair[0])]


def _spread(turn: int) -> int:
    """The middle first, then the halves: 0, 8, 4, 12, 2, …: each prefix is spread over the whole."""
    return int(f"{turn:04b}"[::-1], 2)


def _shuffled(dice: _Dice, items: list[int]) -> list[int]:
    left, order = list(items), []
    while left:
        order.append(left.pop(dice.draw("order", len(left))))
    return order


def _derived(seed: int, what: str, number: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{what}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
