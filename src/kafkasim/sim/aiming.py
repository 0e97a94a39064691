"""Where faults fall: generators of plans that harm alike and differ in moments and places, to be measured against one another.

Inputs:   a shape (brokers, partitions, how long the run lasts), a seed, how many faults.      Effects: none; a `Plan`.
Rule 1:   kinds of faults and down-times come from the same tables in all of them; what is aimed may prefer some where it aims.
Rule 2:   they know brokers, partitions, roles and events of the protocol, and nothing of any bug.
Rule 3:   the same arguments give the same plan, in any process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.sim.choices import Choices
from kafkasim.sim.plan import Fault, Plan

#: What goes wrong for a moment: a process dies and is started again at once, with what its page cache held or without; connections break.
BRIEF = ("crash", "power_loss", "reset")
#: And for longer than the timers of the protocol: gone, frozen, cut off. Held links lose nothing, as TCP does not.
LONG = ("crash", "pause", "hold")
LONG_HARMS = tuple((kind, True) for kind in LONG)
#: What the first fault of a plan is chosen from: (kind, is it long), each as likely as another;
HARMS = (*((kind, False) for kind in BRIEF), *LONG_HARMS)
#: and what the others are, which come while roles change: data is gone at once, or somebody is.
LATER_HARMS = (("power_loss", False), *LONG_HARMS)
#: Where it is aimed, the last of an erosion is as often that the data is gone as that somebody is;
LAST_HARMS = (*((("power_loss", False),) * len(LONG_HARMS)), *LONG_HARMS)
#: and a lone fault breaks connections alone half as often: a process that is started again has lost them too.
LONE_HARMS = (*HARMS, *(harm for harm in HARMS if harm[0] != "reset"))

#: A process is back before anybody misses it; what is long outlasts a session (9 s), and the replica falls out of the ISR with it.
BRIEF_S, LONG_S = 0.02, 20.0

#: The moments at which somebody is promised that a record is kept: about to be written, written, told.
PROMISES = ("Produce.received", "Produce.answered", "Produce.arrived")
#: About so many changes of roles follow a fault.
_CHANGES = 4
_SOON = 4


@attrs.frozen
class Shape:
    """What there is to aim at.

    Args:
        replicas: of a partition, where that is known and not one on each broker.
        promises, changes: about how often a record is acknowledged and a role changes in a run without faults.
        brief_s, long_s: how long things fail.
    """

    brokers: Sequence[int]
    partitions: Sequence[str]
    replicas: Mapping[str, int] = attrs.field(factory=dict)
    span_s: float = 60.0
    promises: int = 60
    changes: int = 0
    brief_s: float = BRIEF_S
    long_s: float = LONG_S

    def __attrs_post_init__(self) -> None:
        if not self.brokers or not self.partitions:
            raise ConfigurationError(
                f"aiming needs brokers and partitions, not {list(self.brokers)} and {list(self.partitions)}"
            )


def at_any_time(shape: Shape, seed: int, faults: int) -> Plan:
    """Any broker at any time: the yardstick."""
    dice = _Dice(shape, seed)
    return dice.at_times(faults, dice.brokers)


def at_leaders(shape: Shape, seed: int, faults: int) -> Plan:
    """Whoever leads, at any time."""
    dice = _Dice(shape, seed)
    return dice.at_times(faults, [f"leader:{partition}" for partition in shape.partitions])


def around_changes(shape: Shape, seed: int, faults: int) -> Plan:
    """The first fault where a record is promised or a role changes, the others in one of four ways: together with it, at what follows
    from it, one by one as fewer replicas are left in sync, or as whoever fell comes back."""
    dice = _Dice(shape, seed)
    if faults < 2:
        return Plan(tuple(dice.first(dice.mostly_leader, LONE_HARMS) for _ in range(faults)))
    way = dice.one("way", _WAYS_OF_TWO if faults == 2 else _WAYS_OF_MORE)
    return Plan(tuple(way(dice, faults)))


def _together(dice: _Dice, faults: int) -> list[Fault]:
    """Several replicas at one moment."""
    planned = [dice.first(dice.roles)]
    while len(planned) < faults:
        others = [role for role in dice.roles if role != dice.leader]
        targets = (others if planned[-1].target == dice.leader else ()) or dice.roles
        planned.append(dice.harm({"at_s": 0.0, "then": True}, targets, LATER_HARMS))
    return planned


def _again(dice: _Dice, faults: int) -> list[Fault]:
    """Each at a change of roles, or at a promise, that follows the one before: mostly whoever comes back, joins or leads."""
    planned = [dice.first(dice.roles, LONG_HARMS if dice.draw("long", 4) else HARMS)]
    while len(planned) < faults:
        if dice.draw("change", 4):
            trigger = {"on": "change", "nth": 1 + dice.draw("changes", _CHANGES), "then": True}
            planned.append(dice.harm(trigger, dice.changing, LATER_HARMS))
        else:
            planned.append(dice.harm({**dice.promise(_SOON), "then": True}, dice.roles, LATER_HARMS))
    return planned


def _erode(dice: _Dice, faults: int) -> list[Fault]:
    """A replica falls out of sync, then another; the last fault hits those that are left."""
    planned = [dice.harm(dice.promise(dice.shape.promises), dice.roles, LONG_HARMS)]
    while len(planned) < faults:
        is_last = len(planned) == faults - 1
        moments = [
            {"when": f"isr:{dice.partition} <= {max(1, dice.replicas - len(planned))}"},
            dice.promise(_SOON),
            *([{"at_s": 0.0}] if len(planned) > 1 else []),
        ]
        trigger = {**dice.one("moment", moments), "then": True}
        left = dice.roles if len(planned) < dice.replicas - 1 else [dice.leader]
        planned.append(dice.harm(trigger, left, LAST_HARMS if is_last else LONG_HARMS))
    return planned


def _relapse(dice: _Dice, faults: int) -> list[Fault]:
    """Whoever fell falls again soon after it is back, before all have heard of it; further faults hit who is left."""
    whose = [dice.one("whose", dice.brokers)]
    planned = [dice.harm(dice.promise(dice.shape.promises), whose)]
    back_s = planned[0].for_s or 0.0
    planned.append(dice.harm({"at_s": back_s + dice.moment(dice.shape.long_s), "then": True}, whose, LATER_HARMS))
    while len(planned) < faults:
        planned.append(dice.harm({**dice.promise(_SOON), "then": True}, dice.roles, LATER_HARMS))
    return planned


#: How often each is taken: what finds most known bugs (benchmarks/bugs). With more faults than two, it is mostly replicas that run out.
_WAYS_OF_TWO = (_together, _again, _again, _erode, _erode, _relapse, _relapse)
_WAYS_OF_MORE = (_together, _again, _relapse, _erode, _erode, _erode)


class _Dice:
    """Draws for one plan, and the pieces that it is made of."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self._choices = Choices(seed)
        self.brokers = [f"broker:{broker}" for broker in shape.brokers]
        self.partition = str(self.one("partition", shape.partitions))
        self.leader = f"leader:{self.partition}"
        self.replicas = shape.replicas.get(self.partition, len(shape.brokers))
        followers = [f"follower:{self.partition}"] if self.replicas > 1 else []
        self.roles = [self.leader, *followers]
        self.mostly_leader = [self.leader, self.leader, *self.roles]
        self.changing = ["subject", "subject", "subject", "subject", *self.roles]
        self._has_cut_power = False

    def draw(self, label: str, count: int) -> int:
        return self._choices.draw(f"aim.{label}", count)

    def one(self, label: str, options: Sequence[Any]) -> Any:
        return options[self.draw(label, len(options))]

    # --- moments ---------------------------------------------------------------------------------------------------------

    def time(self) -> dict[str, Any]:
        return {"at_s": self.moment(self.shape.span_s)}

    def moment(self, span_s: float) -> float:
        return self.draw("at", max(1, round(span_s * 1_000_000))) / 1_000_000

    def promise(self, most: int) -> dict[str, Any]:
        return {"on": self.one("promise", PROMISES), "nth": 1 + self.draw("nth", most)}

    def first(self, targets: Sequence[str], harms: Sequence[tuple[str, bool]] = HARMS) -> Fault:
        """At a record; where roles change without a fault, as often at one of those changes, mostly early: others come of the first."""
        if self.shape.changes and self.draw("first", 2):
            nth = 1 + min(self.draw("changes", self.shape.changes), self.draw("sooner", self.shape.changes))
            return self.harm({"on": "change", "nth": nth}, self.changing, harms)
        return self.harm(self.promise(self.shape.promises), targets, harms)

    def at_times(self, faults: int, targets: Sequence[str]) -> Plan:
        return Plan(tuple(self.harm(self.time(), targets, LATER_HARMS if turn else HARMS) for turn in range(faults)))

    # --- what goes wrong ---------------------------------------------------------------------------------------------------

    def harm(self, trigger: dict[str, Any], targets: Sequence[str], harms: Sequence[tuple[str, bool]] = HARMS) -> Fault:
        kind, is_long = self.one("harm", harms)
        target = self.one("target", targets)
        for_s = self.shape.long_s if is_long else self.shape.brief_s
        if kind == "power_loss":
            kind = "crash" if self._has_cut_power else kind
            self._has_cut_power = True
        if kind == "reset":
            return Fault(kind, target, **trigger)
        if kind != "hold":
            return Fault(kind, target, **trigger, for_s=for_s)
        others = self.brokers if target in self.brokers else self.roles
        other = self.one("other", [side for side in others if side != target] or ["others"])
        return Fault(
            kind, target, **trigger, for_s=for_s, against=self.one("against", ("controller", "others", other, other))
        )
