"""Recipes: data that decides a run."""

from __future__ import annotations

from typing import Any

import pytest

from kafkasim import faults
from kafkasim.errors import ConfigurationError
from kafkasim.explore.recipe import Fork, Recipe, cook
from kafkasim.explore.targets import Target
from kafkasim.explore.trial import Trial
from kafkasim.handle import Cluster
from kafkasim.sim.choices import Choices, Tape
from kafkasim.sim.injection import Injection

SCENARIO = Target.of("tests.unit.explore.scenes:works_first").scenario()
_RECIPE = Recipe(
    4,
    faults.plan(faults.crash("leader:calls-0", on="Produce.answered", down=2.5)),
    (Fork(3.25, 99),),
    ("net.latency",),
    {"calls": 3},
    {"eligible_leader_replicas": False},
)


def test_a_recipe_is_the_same_after_its_values() -> None:
    """With everything, and with nothing but a seed."""
    assert Recipe.from_values(_RECIPE.to_values()) == _RECIPE
    assert Recipe.from_values({"seed": 3}) == Recipe(3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, "a table"),
        ({}, "seed is None"),
        ({"seed": True}, "whole number"),
        ({"seed": 1, "forks": [{"at_s": "now", "seed": 1}]}, "fork"),
        ({"seed": 1, "forks": [{"at_s": float("nan"), "seed": 1}]}, "fork"),
        ({"seed": 1, "calm": ["member.id"]}, "no draw 'member.id' can be held"),
        ({"seed": 1, "calm": [[]]}, "no draw"),
        ({"seed": 1, "sizes": {"calls": "many"}}, "size 'calls'"),
        ({"seed": 1, "sizes": []}, "a table"),
        ({"seed": 1, "features": {"x": 1}}, "true or false"),
        ({"seed": 1, "plan": {"faults": [{"what": "rain"}]}}, "rain"),
    ],
)
def test_what_is_no_recipe_is_refused(values: Any, message: str) -> None:
    """By name."""
    with pytest.raises(ConfigurationError, match=message):
        Recipe.from_values(values)


def _tape_of(recipe: Recipe) -> tuple[Trial, Tape]:
    tapes: list[Tape] = []

    def on_end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        assert cluster.choices.tape is not None
        tapes.append(cluster.choices.tape)

    return cook(SCENARIO, recipe, record=True, on_end=on_end), tapes[0]


def test_a_fork_keeps_what_came_before_it() -> None:
    """Same draws up to the moment, others after it."""
    straight, first = _tape_of(Recipe(5))
    forked, second = _tape_of(Recipe(5, forks=(Fork(4.0, 6),)))
    assert straight.fingerprint != forked.fingerprint
    same = next(index for index, (a, b) in enumerate(zip(first, second)) if a != b)
    assert same > 300
    assert first[:same] == second[:same]


def test_a_recorded_tape_gives_the_same_run_back() -> None:
    """Strictly, forks, calm draws and all; recording changes nothing."""
    trial, tape = _tape_of(_RECIPE)
    assert all(entry.value == 0 for entry in tape if entry.label == "net.latency")
    assert cook(SCENARIO, _RECIPE).fingerprint == trial.fingerprint
    choices = Choices.replaying(tape)
    assert cook(SCENARIO, _RECIPE, choices=choices).fingerprint == trial.fingerprint
    assert choices.exhausted()
    assert choices.diverged is None
