"""A menu of faults to draw from: for each kind who it may hit and how hard, for nemeses and for Hypothesis alike.

Inputs:   the shape of a cluster (brokers, partitions, clients), a kind, a place and a moment, all as small numbers.
Effects:  none; a `Fault`.
Rule 1:   kinds stand in order of harm, places in order of reach, so that smaller numbers are more harmless.
Rule 2:   what changes what a test may expect (deleted records, more partitions, an empty disk) is drawn only by those who name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.sim.plan import Fault
from kafkasim.sim.plan_words import ADMIN, KINDS, MOMENTARY, OF_CLIENTS, OF_MESSAGES, close

#: From the least harm to the most.
ORDER = (
    "elect_preferred",
    "reset",
    "late",
    "lose_response",
    "clock_jump",
    "clock_drift",
    "slow",
    "starve",
    "disk_slow",
    "pause",
    "hold",
    "stop",
    "kill",
    "isolate",
    "partition",
    "reassign",
    "shutdown",
    "disk_full",
    "disk_fail",
    "crash",
    "power_loss",
    "add_partitions",
    "configure",
    "delete_records",
    "delete_topic",
    "disk_replace",
)
#: What a sound design survives without noticing more than delay.
SURVIVED = (
    "elect_preferred",
    "reset",
    "clock_jump",
    "slow",
    "starve",
    "disk_slow",
    "pause",
    "hold",
    "isolate",
    "shutdown",
    "disk_full",
    "crash",
    "power_loss",
)
#: Processes and links alone.
BASIC = ("crash", "power_loss", "pause", "isolate", "hold", "slow", "reset")
#: How hard, where a kind has to be told.
_HOW: dict[str, dict[str, Any]] = {
    "slow": {"factor": 10.0},
    "starve": {"factor": 10.0},
    "late": {"extra_s": 2.0},
    "disk_slow": {"extra_s": 0.05},
    "clock_jump": {"extra_s": 3600.0},
    "clock_drift": {"factor": 1.1},
    "configure": {"settings": (("min.insync.replicas", "1"),)},
}
_OF_CLIENTS_TOO = ("pause", "starve")


@attrs.frozen
class Menu:
    """What there is to hit. ``clients`` are names of tasks."""

    brokers: tuple[int, ...] = (1, 2, 3)
    partitions: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()

    def kinds(self, named: Sequence[str] | None = None) -> list[str]:
        """The kinds of ``named``, by default those that a sound design survives, that find anything to hit, in order of harm."""
        for kind in named or ():
            if kind not in KINDS:
                raise ConfigurationError(
                    f"nothing called {kind!r} can go wrong{close(kind, KINDS)}; known: {', '.join(KINDS)}"
                )
        wanted = named or (*SURVIVED, "kill")
        kinds = [kind for kind in ORDER if kind in wanted and self.places(kind)]
        if not kinds:
            raise ConfigurationError(
                f"kinds={list(wanted)}: a menu needs one that brokers {list(self.brokers)}, partitions {list(self.partitions)} "
                f"or clients {list(self.clients)} can be hit by"
            )
        return kinds

    def places(self, kind: str) -> list[str]:
        """Whom a kind may hit, from the few to the many."""
        if kind in ADMIN:
            return [f"topic:{topic}" for topic in dict.fromkeys(p.rpartition("-")[0] for p in self.partitions)]
        if kind in OF_MESSAGES:
            return ["client"]
        clients = [f"client:{name}" for name in self.clients]
        if kind in OF_CLIENTS:
            return clients
        roles = [f"{role}:{partition}" for partition in self.partitions for role in ("follower", "leader")]
        servers = [*(f"broker:{number}" for number in self.brokers), *roles, "controller"]
        return [*servers, *clients] if kind in _OF_CLIENTS_TOO else servers

    def fault(
        self,
        kind: str,
        place: int,
        *,
        for_s: float | None,
        at_s: float | None = None,
        on: str | None = None,
        nth: int = 1,
        **more: Any,
    ) -> Fault:
        """``place`` counts through the kind's places, round and round. What happens to a message waits for an event of its stage."""
        places = self.places(kind)
        trigger: dict[str, Any] = {"on": on, "nth": nth} if on is not None else {"at_s": at_s}
        if kind in OF_MESSAGES:
            api = "Produce" if on is None else on.partition(".")[0]
            trigger = {"on": f"{api}.{OF_MESSAGES[kind]}", "nth": nth}
        how = {**_HOW.get(kind, {}), **more}
        target = places[place % len(places)]
        return Fault(kind, target, for_s=None if kind in MOMENTARY else for_s, **trigger, **how)
