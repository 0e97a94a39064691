"""The fault policies that are measured against one another, each with the same number of faults of the same kinds and down-times."""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.explore.trial import Scenario
from kafkasim.sim import aiming
from kafkasim.sim.aiming import Shape
from kafkasim.sim.plan import Plan

Policy = Callable[[Scenario, int, int], Plan]


def _aimed(generate: Callable[[Shape, int, int], Plan]) -> Policy:
    def policy(scenario: Scenario, seed: int, faults: int) -> Plan:
        brokers = range(1, int(scenario.options.get("brokers", 3)) + 1)
        return generate(Shape(brokers, scenario.partitions, scenario.span_s), seed, faults)

    return policy


#: The yardstick.
UNIFORM = "uniform"
POLICIES: dict[str, Policy] = {
    UNIFORM: _aimed(aiming.at_any_time),
    "leader": _aimed(aiming.at_leaders),
    "event": _aimed(aiming.at_events),
    "election": _aimed(aiming.around_elections),
    "swarm": _aimed(aiming.mixed),
    "chase": _aimed(aiming.chase),
}
#: Those that place faults by events.
BY_EVENTS = ("event", "election")


def portfolio(scenario: Scenario, seed: int, faults: int) -> Plan:
    """Three seeds of four around elections, the others at single events or of a swarm."""
    name = ("election", "election", "election", "event" if seed % 8 < 4 else "swarm")[seed % 4]
    return POLICIES[name](scenario, seed, faults)
