"""Nemeses of clients: plans that kill, stop and freeze the processes of producers and consumers.

Inputs:   names of tasks, how many faults, a seed.      Effects: none; a `Plan`.
Rule 1:   as for the nemeses of brokers: the same arguments give the same plan, in any process.
Rule 2:   a killed or stopped client begins anew after a while, as whatever supervises it would let it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafkasim.errors import ConfigurationError
from kafkasim.sim.choices import Choices
from kafkasim.sim.plan import Fault, Plan

#: Moments at which a client has promised something, or has been given something that it has not worked on.
CLIENT_EVENTS = (
    "Fetch.arrived",
    "OffsetCommit.sent",
    "OffsetCommit.answered",
    "OffsetCommit.arrived",
    "JoinGroup.sent",
    "SyncGroup.arrived",
    "ShareFetch.arrived",
    "ShareAcknowledge.sent",
    "ShareAcknowledge.answered",
    "ShareAcknowledge.arrived",
    "Produce.sent",
    "Produce.answered",
)
CLIENT_KINDS = ("kill", "stop", "pause")
#: Where a moment is chosen, what matters most is that nobody is there to finish what was begun.
_MOSTLY_KILLED = ("kill", *CLIENT_KINDS)
_DOWN_S = (0.1, 0.5, 2.0, 8.0)


def clients_uniform(
    clients: Sequence[str],
    *,
    seed: int = 0,
    faults: int = 3,
    span: float = 30.0,
    kinds: Sequence[str] = CLIENT_KINDS,
) -> Plan:
    """Any client at any time: the yardstick."""
    choices = _choices(clients, kinds, seed)
    return Plan(
        tuple(
            Fault(
                _kind(choices, kinds),
                _client(choices, clients),
                at_s=choices.draw("clients.at", max(1, round(span * 1_000_000))) / 1_000_000,
                for_s=_down_s(choices),
            )
            for _ in range(faults)
        )
    )


def clients_event_indexed(
    clients: Sequence[str],
    *,
    seed: int = 0,
    faults: int = 3,
    occurrences: Mapping[str, int],
    kinds: Sequence[str] = _MOSTLY_KILLED,
) -> Plan:
    """A client at the n-th occurrence of an event: whoever sends or gets the message, or one of ``clients`` by name.

    ``occurrences``: how often each of `CLIENT_EVENTS` happens in a run without faults; what never happens is not waited for.
    """
    choices = _choices(clients, kinds, seed)
    events = [event for event in CLIENT_EVENTS if occurrences.get(event)]
    if not events:
        raise ConfigurationError("a nemesis of clients needs events that happen: occurrences has none of them")
    planned = []
    for _ in range(faults):
        event = events[choices.draw("clients.on", len(events))]
        target = "client" if choices.draw("clients.whose", 4) else _client(choices, clients)
        nth = 1 + choices.draw("clients.nth", occurrences[event])
        planned.append(Fault(_kind(choices, kinds), target, on=event, nth=nth, for_s=_down_s(choices)))
    return Plan(tuple(planned))


def _choices(clients: Sequence[str], kinds: Sequence[str], seed: int) -> Choices:
    if not clients or not kinds:
        raise ConfigurationError("a nemesis of clients needs names of clients and kinds of faults")
    return Choices(seed)


def _kind(choices: Choices, kinds: Sequence[str]) -> str:
    return kinds[choices.draw("clients.kind", len(kinds))]


def _client(choices: Choices, clients: Sequence[str]) -> str:
    return f"client:{clients[choices.draw('clients.name', len(clients))]}"


def _down_s(choices: Choices) -> float:
    return _DOWN_S[choices.draw("clients.down", len(_DOWN_S))]
