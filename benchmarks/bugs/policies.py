"""The fault policies that are measured against one another, each with the same number of faults of the same kinds and down-times.

Rule 1:   where a scenario names clients its faults are theirs: killed, stopped or frozen.
Rule 2:   a policy may look at one run of the scenario without faults, to know what happens in it and how often.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.explore import shape
from kafkasim.explore.trial import Scenario
from kafkasim.sim import aiming
from kafkasim.sim.client_nemeses import clients_event_indexed, clients_uniform
from kafkasim.sim.plan import Plan

#: Twice a session and the time after which a replica has fallen behind, in these scenarios.
LONG_S = 6.0
Policy = Callable[[Scenario, int, int], Plan]


def _aimed(generate: Callable[[aiming.Shape, int, int], Plan], at_clients: Policy) -> Policy:
    def policy(scenario: Scenario, seed: int, faults: int) -> Plan:
        if not faults:
            return Plan()
        if scenario.clients:
            return at_clients(scenario, seed, faults)
        return generate(_aim_at(scenario), seed, faults)

    return policy


def _seen(scenario: Scenario) -> shape.Shape:
    """What happens in a scenario without faults: each is run once for it."""
    if scenario.name not in _shapes:
        _shapes[scenario.name] = shape.shape_of(scenario, 0)[0]
    return _shapes[scenario.name]


_shapes: dict[str, shape.Shape] = {}


def _aim_at(scenario: Scenario) -> aiming.Shape:
    seen = _seen(scenario)
    return aiming.Shape(
        seen.brokers,
        scenario.partitions,
        seen.replicas,
        scenario.span_s,
        promises=max(1, seen.promises),
        changes=seen.changes,
        long_s=LONG_S,
    )


def _clients_at_any_time(scenario: Scenario, seed: int, faults: int) -> Plan:
    return clients_uniform(scenario.clients, seed=seed, faults=faults, span=scenario.span_s)


def _clients_at_events(scenario: Scenario, seed: int, faults: int) -> Plan:
    occurrences = _seen(scenario).task_events
    return clients_event_indexed(scenario.clients, seed=seed, faults=faults, occurrences=occurrences)


#: The yardstick.
UNIFORM = "uniform"
AIMED = "aimed"
POLICIES: dict[str, Policy] = {
    UNIFORM: _aimed(aiming.at_any_time, _clients_at_any_time),
    "leader": _aimed(aiming.at_leaders, _clients_at_any_time),
    AIMED: _aimed(aiming.around_changes, _clients_at_events),
}
