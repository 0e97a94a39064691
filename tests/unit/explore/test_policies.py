"""Policies: plans that depend on campaign seed and trial number alone, and keep to their budget of faults."""

from __future__ import annotations

from collections import Counter

import pytest

from kafkasim.explore.policies import (
    ELECTION,
    EXHAUSTIVE,
    MUTATE,
    PRIORITY,
    SPLIT,
    SWARM,
    Parent,
    Portfolio,
    exhaustive,
)
from kafkasim.explore.recipe import Recipe
from kafkasim.explore.shape import Shape
from kafkasim.sim.plan import Fault, Plan
from kafkasim.sim.plan_text import plan_from_json, plan_to_json

_EVENTS = {
    "Produce.sent": 5,
    "Produce.received": 5,
    "Produce.answered": 5,
    "Produce.arrived": 5,
    "ReplicaFetch.received": 900,
    "BrokerHeartbeat.received": 50,
    "JoinGroup.answered": 2,
}
_TASK_EVENTS = {"OffsetCommit.sent": 9, "OffsetCommit.arrived": 9, "JoinGroup.arrived": 2}
_SHAPE = Shape((1, 2, 3), ("orders-0", "orders-1"), ("billing",), ("billing-1",), _EVENTS, _TASK_EVENTS, 1.0, 31.0)


def test_of_twenty_trials_each_policy_gets_its_share() -> None:
    """40, 20, 15, 15 and 10 per cent; trial 0 is without faults."""
    portfolio = Portfolio(_SHAPE, 7)
    counted = Counter(portfolio.policy_of(number) for number in range(1, 101))
    assert counted == {SWARM: 20, ELECTION: 20, SPLIT: 20, PRIORITY: 15, MUTATE: 15, EXHAUSTIVE: 10}
    assert portfolio.recipe(0) == Recipe(7)


def test_a_recipe_depends_on_seed_and_number_alone() -> None:
    """Whatever was made before it."""
    first, second = Portfolio(_SHAPE, 7), Portfolio(_SHAPE, 7)
    forwards = [first.recipe(number) for number in range(60)]
    backwards = [second.recipe(number) for number in reversed(range(60))]
    assert forwards == backwards[::-1]
    assert forwards != [Portfolio(_SHAPE, 8).recipe(number) for number in range(60)]
    assert len({recipe.seed for recipe in forwards}) == 60


def test_every_plan_can_be_written_heals_and_cuts_the_power_once_at_most() -> None:
    """Also those of mutations of mutations."""
    portfolio = Portfolio(_SHAPE, 3)
    parents: list[Parent] = []
    for number in range(600):
        recipe = portfolio.recipe(number, parents[-20:])
        parents.append(Parent(recipe, 40.0))
        assert plan_from_json(plan_to_json(recipe.plan)) == recipe.plan
        assert Recipe.from_values(recipe.to_values()) == recipe
        kinds = Counter(fault.what for fault in recipe.plan)
        assert kinds["power_loss"] <= 1
        for fault in recipe.plan:
            assert fault.for_s is not None or fault.what in ("slow", "reset", "lose_response", "late"), fault


def test_a_mutation_changes_its_parent_a_little() -> None:
    """One fault, or what comes after a moment of the run."""
    plan = Plan((Fault("crash", "leader:orders-0", on="Produce.answered", nth=3, for_s=5.0),))
    portfolio = Portfolio(_SHAPE, 1)
    mutations = [number for number in range(400) if portfolio.policy_of(number) == MUTATE]
    children = [portfolio.recipe(number, [Parent(Recipe(9, plan), 30.0)]) for number in mutations]
    assert all(child.seed == 9 for child in children)
    assert any(child.forks for child in children)
    assert all(1.0 <= fork.at_s < 30.0 for child in children for fork in child.forks)
    assert all(abs(len(child.plan) - len(plan)) <= 1 for child in children)
    assert {len(child.plan) for child in children} == {1, 2}


def test_the_walk_takes_each_single_fault_once_and_then_pairs() -> None:
    """The death of a client that has just committed comes first."""
    walked = [exhaustive(_SHAPE, index) for index in range(400)]
    singles = [plan for plan in walked if len(plan) == 1]
    assert walked[: len(singles)] == singles
    assert len(set(singles)) == len(singles) == 5 + 5 + 12 + 2 + 9 + 2
    assert str(singles[0]) == "kill client on OffsetCommit.arrived #1 for 10s"
    assert all(len(plan) == 2 and plan.faults[0] != plan.faults[1] for plan in walked[len(singles) :])
    assert not any("Heartbeat" in str(plan) for plan in walked)


def test_a_scenario_where_nothing_can_be_hit_by_events_gets_times() -> None:
    """No events, no tasks, one broker."""
    bare = Portfolio(Shape((1,), (), (), (), {}, {}, 0.0, 10.0), 1)
    for number in range(1, 60):
        assert all(fault.on is None for fault in bare.recipe(number).plan)


@pytest.mark.parametrize("number", [1, 6, 11])
def test_faults_of_the_scenarios_own_get_every_fifth_trial(number: int) -> None:
    """Whoever wrote a nemesis for a test wants it explored too."""
    fault = Fault("crash", "controller", at_s=1.0)
    assert Portfolio(_SHAPE, 1, lambda seed: fault).recipe(number).plan == Plan((fault,))
