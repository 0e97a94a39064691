"""The fault policies that are measured against one another, each with the same number of faults of the same kinds and down-times.

Rule 1:   where a scenario names clients its faults are theirs: killed, stopped or frozen; the swarm adds one of a broker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kafkasim.explore.shape import shape_of
from kafkasim.explore.trial import Scenario
from kafkasim.sim import aiming
from kafkasim.sim.aiming import Shape
from kafkasim.sim.client_nemeses import clients_event_indexed, clients_uniform
from kafkasim.sim.plan import Plan

Policy = Callable[[Scenario, int, int], Plan]


def _aimed(generate: Callable[[Shape, int, int], Plan], at_clients: Policy) -> Policy:
    def policy(scenario: Scenario, seed: int, faults: int) -> Plan:
        if not faults:
            return Plan()
        if scenario.clients:
            return at_clients(scenario, seed, faults)
        return generate(_shape(scenario), seed, faults)

    return policy


def _shape(scenario: Scenario) -> Shape:
    brokers = range(1, int(scenario.options.get("brokers", 3)) + 1)
    return Shape(brokers, scenario.partitions, scenario.span_s)


def _clients_at_any_time(scenario: Scenario, seed: int, faults: int) -> Plan:
    return clients_uniform(scenario.clients, seed=seed, faults=faults, span=scenario.span_s)


def _clients_at_events(scenario: Scenario, seed: int, faults: int) -> Plan:
    if scenario.name not in _occurrences:
        _occurrences[scenario.name] = shape_of(scenario, 0)[0].task_events
    return clients_event_indexed(scenario.clients, seed=seed, faults=faults, occurrences=_occurrences[scenario.name])


#: How often clients' events happen in a scenario without faults: each is run once for it.
_occurrences: dict[str, Mapping[str, int]] = {}


def _clients_and_a_broker(scenario: Scenario, seed: int, faults: int) -> Plan:
    return _clients_at_events(scenario, seed, faults - 1) + aiming.mixed(_shape(scenario), seed, 1)


#: The yardstick.
UNIFORM = "uniform"
POLICIES: dict[str, Policy] = {
    UNIFORM: _aimed(aiming.at_any_time, _clients_at_any_time),
    "leader": _aimed(aiming.at_leaders, _clients_at_any_time),
    "event": _aimed(aiming.at_events, _clients_at_events),
    "election": _aimed(aiming.around_elections, _clients_at_events),
    "swarm": _aimed(aiming.mixed, _clients_and_a_broker),
    "chase": _aimed(aiming.chase, _clients_and_a_broker),
}
#: Those that place faults by events.
BY_EVENTS = ("event", "election")


def portfolio(scenario: Scenario, seed: int, faults: int) -> Plan:
    """Three seeds of four around elections, the others at single events or of a swarm."""
    name = ("election", "election", "election", "event" if seed % 8 < 4 else "swarm")[seed % 4]
    return POLICIES[name](scenario, seed, faults)
