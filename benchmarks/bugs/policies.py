"""Where the faults of a plan fall: policies to be measured against one another, each with the same number of faults.

Inputs:   a scenario (its brokers, partitions, clients and span), a seed, how many faults.      Effects: none; a `Plan`.
Rule 1:   all policies draw from the same kinds of faults and the same down-times; only the moments and the places differ.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.explore.trial import Scenario
from kafkasim.sim import menu, nemeses
from kafkasim.sim.plan import Plan

Policy = Callable[[Scenario, int, int], Plan]


def _brokers(scenario: Scenario) -> list[int]:
    return list(range(1, int(scenario.options.get("brokers", 3)) + 1))


def uniform(scenario: Scenario, seed: int, faults: int) -> Plan:
    return nemeses.uniform(_brokers(scenario), seed=seed, faults=faults, span=scenario.span_s)


def event_indexed(scenario: Scenario, seed: int, faults: int) -> Plan:
    return nemeses.event_indexed(scenario.partitions, seed=seed, faults=faults)


def swarm(scenario: Scenario, seed: int, faults: int) -> Plan:
    brokers, kinds = _brokers(scenario), menu.BASIC
    return nemeses.swarm(brokers, scenario.partitions, seed=seed, faults=faults, span=scenario.span_s, kinds=kinds)


#: The yardstick first.
UNIFORM = "uniform"
POLICIES: dict[str, Policy] = {
    UNIFORM: uniform,
    "event": event_indexed,
    "swarm": swarm,
}


def portfolio(scenario: Scenario, seed: int, faults: int) -> Plan:
    """Every policy but the yardstick in turn."""
    policies = [policy for name, policy in POLICIES.items() if name != UNIFORM]
    return policies[seed % len(policies)](scenario, seed // len(policies), faults)
