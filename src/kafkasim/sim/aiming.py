"""Where faults fall: generators of plans that harm alike and differ in moments and places, to be measured against one another.

Inputs:   a shape (brokers, partitions, how long the run lasts), a seed, how many faults.      Effects: none; a `Plan`.
Rule 1:   kinds of faults and down-times are drawn from the same tables by all of them.
Rule 2:   they know brokers, partitions, roles and events of the protocol, and nothing of any bug.
Rule 3:   the same arguments give the same plan, in any process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.sim.choices import Choices
from kafkasim.sim.plan import Fault, Plan

#: What goes wrong: each as likely as it is listed. Held links lose nothing, as TCP does not.
KINDS = ("crash", "crash", "power_loss", "pause", "hold", "hold")
#: For how long, in spans of the run: from a blink to for good.
DOWN = (0.0003, 0.015, 0.1, 0.3, 1.0, 4.0)

#: What comes with every record,
OFTEN = ("Produce.received", "Produce.answered", "ReplicaFetch.received", "ReplicaFetch.answered")
#: and what comes when somebody restarts, falls behind, catches up or is elected.
RARELY = (
    "note:became leader",
    "note:broker-fenced",
    "note:broker-registered",
    "note:broker-unfenced",
    "note:isr proposed",
    "note:isr expanded",
    "note:isr shrunk",
    "note:truncated",
    "AlterPartition.sent",
    "AlterPartition.received",
    "AlterPartition.answered",
)
#: States in which more depends on one replica than usual.
WHEN = ("isr:{} <= 1", "isr:{} <= 2", "behind:{} > 0", "behind:{} > 2")
_SOON_S = (0.0, 0.001, 0.01, 0.1, 1.0)


@attrs.frozen
class Shape:
    """What there is to aim at; ``horizon``: about how often what comes with every record comes."""

    brokers: Sequence[int]
    partitions: Sequence[str]
    span_s: float = 60.0
    horizon: int = 60

    def __attrs_post_init__(self) -> None:
        if not self.brokers or not self.partitions:
            raise ConfigurationError(
                f"aiming needs brokers and partitions, not {list(self.brokers)} and {list(self.partitions)}"
            )


def at_any_time(shape: Shape, seed: int, faults: int) -> Plan:
    """Any broker at any time: the yardstick."""
    choices = Choices(seed)
    return Plan(tuple(_harm(choices, shape, _at(choices, shape), _brokers(shape)) for _ in range(faults)))


def at_leaders(shape: Shape, seed: int, faults: int) -> Plan:
    """Whoever leads, at any time."""
    choices = Choices(seed)
    return Plan(tuple(_harm(choices, shape, _at(choices, shape), _leaders(shape)) for _ in range(faults)))


def at_events(shape: Shape, seed: int, faults: int) -> Plan:
    """Whoever takes part, at the n-th occurrence of an event."""
    choices = Choices(seed)
    planned = []
    for _ in range(faults):
        trigger = _some_event(choices, shape)
        planned.append(_harm(choices, shape, trigger, _roles(choices, shape, trigger)))
    return Plan(tuple(planned))


def around_elections(shape: Shape, seed: int, faults: int) -> Plan:
    """The first like ``at_events``; the others mostly soon after the one before, when somebody promises or changes roles."""
    choices = Choices(seed)
    planned: list[Fault] = []
    for _ in range(faults):
        then = bool(planned) and choices.draw("aim.then", 6) > 0
        trigger = _soon(choices, shape) if then else _some_record(choices, shape)
        planned.append(_harm(choices, shape, {**trigger, "then": then}, _roles(choices, shape, trigger)))
    return Plan(tuple(planned))


def mixed(shape: Shape, seed: int, faults: int) -> Plan:
    """A swarm: a few kinds of faults for this plan alone; times, leaders and events by chance."""
    choices = Choices(seed)
    kinds = [kind for kind in dict.fromkeys(KINDS) if choices.draw(f"aim.mixed.{kind}", 2)] or ["crash"]
    planned = []
    for _ in range(faults):
        trigger = _some_event(choices, shape) if choices.draw("aim.mixed.event", 2) else _at(choices, shape)
        targets = _leaders(shape) if choices.draw("aim.mixed.leader", 2) else _brokers(shape)
        planned.append(_harm(choices, shape, trigger, targets, kinds))
    return Plan(tuple(planned))


def chase(shape: Shape, seed: int, faults: int) -> Plan:
    """Whoever leads, again and again, each time so many answers after the last."""
    choices = Choices(seed)
    every = 1 + choices.draw("aim.every", max(1, shape.horizon // faults))
    return Plan(
        tuple(
            _harm(choices, shape, {"on": "Produce.answered", "nth": every, "then": turn > 0}, _leaders(shape))
            for turn in range(faults)
        )
    )


# --- moments -----------------------------------------------------------------------------------------------------------


def _at(choices: Choices, shape: Shape) -> dict[str, Any]:
    return {"at_s": choices.draw("aim.at", max(1, round(shape.span_s * 1_000_000))) / 1_000_000}


def _some_record(choices: Choices, shape: Shape) -> dict[str, Any]:
    return {"on": _one(choices, "aim.often", OFTEN), "nth": 1 + choices.draw("aim.nth", shape.horizon)}


def _some_event(choices: Choices, shape: Shape) -> dict[str, Any]:
    if choices.draw("aim.is_rare", 2):
        return {"on": _one(choices, "aim.rarely", RARELY), "nth": 1 + choices.draw("aim.rare_nth", 4)}
    return _some_record(choices, shape)


def _soon(choices: Choices, shape: Shape) -> dict[str, Any]:
    """Within the next few events, or a little later."""
    way = choices.draw("aim.way", 6)
    if way == 0:
        return {"at_s": _one(choices, "aim.soon_s", _SOON_S)}
    if way == 1:
        return {"when": _one(choices, "aim.when", WHEN).format(_partition(choices, shape))}
    if way <= 3:
        return {"on": _one(choices, "aim.soon_often", OFTEN), "nth": 1 + choices.draw("aim.soon_nth", 4)}
    return {"on": _one(choices, "aim.rarely", RARELY), "nth": 1 + max(0, choices.draw("aim.soon_rare_nth", 4) - 2)}


# --- places ------------------------------------------------------------------------------------------------------------


def _brokers(shape: Shape) -> list[str]:
    return [f"broker:{broker}" for broker in shape.brokers]


def _leaders(shape: Shape) -> list[str]:
    return [f"leader:{partition}" for partition in shape.partitions]


def _roles(choices: Choices, shape: Shape, trigger: dict[str, Any]) -> list[str]:
    partition = _partition(choices, shape)
    roles = [f"leader:{partition}", f"follower:{partition}", f"lagging:{partition}"]
    return [*roles, "server"] if "on" in trigger else roles


def _partition(choices: Choices, shape: Shape) -> str:
    return str(_one(choices, "aim.partition", shape.partitions))


# --- what goes wrong there -----------------------------------------------------------------------------------------------


def _harm(
    choices: Choices, shape: Shape, trigger: dict[str, Any], targets: Sequence[str], kinds: Sequence[str] = KINDS
) -> Fault:
    kind = _one(choices, "aim.kind", kinds)
    for_s = shape.span_s * _one(choices, "aim.down", DOWN)
    target = _one(choices, "aim.target", targets)
    if kind != "hold":
        return Fault(kind, target, **trigger, for_s=for_s)
    sides = ["controller", "others", *(_brokers(shape) if target.startswith("broker") else targets)]
    against = _one(choices, "aim.against", [side for side in sides if side != target])
    one_way = bool(choices.draw("aim.one_way", 2))
    return Fault(kind, target, **trigger, for_s=for_s, against=against, one_way=one_way)


def _one(choices: Choices, label: str, options: Sequence[Any]) -> Any:
    return options[choices.draw(label, len(options))]
