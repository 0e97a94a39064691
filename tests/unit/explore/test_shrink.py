"""Shrinking: what is left is small, fails for the same cause, and says which single change would let it pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkasim.errors import ConfigurationError
from kafkasim.explore.causes import Cause, causes_of
from kafkasim.explore.recipe import SCHEDULE_LABELS, Fork, Recipe, cook
from kafkasim.explore.reduce import smallest_number, smallest_part
from kafkasim.explore.screen import screen
from kafkasim.explore.shrink import Shrinker, Shrunk
from kafkasim.explore.targets import Target
from kafkasim.explore.trial import Scenario, Trial
from kafkasim.handle import Cluster
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan import Fault, Plan

SCENARIO = Target.of("tests.unit.explore.scenes:commits_first").scenario()
_NOISE = (
    Fault("crash", "follower:calls-0", on="ReplicaFetch.answered", nth=20, for_s=3.0),
    Fault("slow", "broker:2", at_s=4.0, for_s=2.0, extra_s=0.01),
    Fault("pause", "broker:3", at_s=5.0, for_s=0.5),
    Fault("reset", "any", at_s=700.0),
)


def test_the_deadly_fault_alone_is_left() -> None:
    """One fault, at its first occurrence, for a moment; two calls; no chance at all."""
    plan = Plan((*_NOISE, Fault("stop", "client", on="OffsetCommit.arrived", nth=4, for_s=10.0)))
    recipe = Recipe(3, plan, (Fork(30.0, 5),))
    trial = cook(SCENARIO, recipe)
    cause = next(cause for cause in causes_of(trial.findings) if cause.invariant == "at-least-once")
    told: list[str] = []
    shrinker = Shrinker(SCENARIO, recipe, cause, 60.0, lambda shrinker: told.append(shrinker.step))
    shrunk = shrinker.shrink()
    assert [str(fault) for fault in shrunk.recipe.plan] == ["kill client on OffsetCommit.arrived #1 for 0.001s"]
    assert shrunk.recipe.sizes == {"calls": 2}
    assert shrunk.recipe.forks == ()
    assert shrunk.recipe.calm == SCHEDULE_LABELS
    assert shrunk.is_minimal
    assert [one.passes for one in shrunk.counterfactuals] == [True]
    assert cause in causes_of(shrunk.trial.findings)
    assert shrunk.runs == len(told)
    assert told[0] == "lifting the plan"
    _check_screen(shrunk)


def _check_screen(shrunk: Shrunk) -> None:
    lines: list[str] = []

    def on_end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        lines.extend(screen(cluster, injection, trial, shrunk.cause, shrunk, "kafkasim replay x.json"))

    cook(SCENARIO, shrunk.recipe, on_end=on_end)
    text = "\n".join(lines)
    assert lines[0].startswith("FAIL at-least-once (E1)  group billing never worked on calls-0 offset 0")
    assert "faults 5->1, calls 12->2, every delay the same" in text
    assert "the single change that lets it pass: without kill client" in text
    assert "promise made    " in text
    assert "acknowledged from calls-0 offset 0" in text
    assert "FAULT kill client billing-1" in text
    assert "cause chain: lost for billing" in text
    assert "irrelevant: 4 other faults, latencies, calls above 2" in text
    assert lines[-1] == "replay: kafkasim replay x.json"
    assert len(lines) <= 45
    head = next(number for number, line in enumerate(lines) if line.lstrip().startswith("t (s)"))
    rows = lines[head + 1 : lines.index("", head)]
    assert 1 <= len(rows) <= 12


def test_the_protection_that_was_off_is_named() -> None:
    """A switch of the scenario's own is flipped back once."""

    def body(cluster: Cluster) -> None:
        if not cluster.process(1).identity.protections.eligible_leader_replicas:
            raise RuntimeError("no spare leader")

    scenario = Scenario("x", body, options={"features": {"eligible_leader_replicas": False}}, settle_s=0.0)
    cause = Cause("raised", "RuntimeError: no spare leader")
    shrunk = Shrinker(scenario, Recipe(1, Plan(_NOISE[:2])), cause).shrink()
    assert len(shrunk.recipe.plan) == 0
    assert [(one.change, one.passes) for one in shrunk.counterfactuals] == [("with eligible_leader_replicas", True)]


def test_what_let_the_first_run_pass_must_let_the_smaller_one_pass() -> None:
    """Else another bug with the same words would take its place: here that of a plan without any fault."""

    def body(cluster: Cluster, records: int, limit: int = 5) -> None:
        if records > limit or records < 3:
            raise RuntimeError("too many, or far too few")

    def repaired(cluster: Cluster, records: int) -> None:
        body(cluster, records, 100)

    scenario = Scenario(
        "x",
        body,
        settle_s=0.0,
        sizes={"records": 40},
        alternatives={"a limit of 100": Scenario("y", repaired, settle_s=0.0, sizes={"records": 40})},
    )
    shrunk = Shrinker(scenario, Recipe(1), Cause("raised", "RuntimeError: too many, or far too few")).shrink()
    assert shrunk.recipe.sizes == {"records": 6}
    assert [(one.change, one.passes) for one in shrunk.counterfactuals] == [("with a limit of 100", True)]


def test_a_run_that_does_not_fail_like_that_is_refused() -> None:
    """Before anything is tried."""
    with pytest.raises(ConfigurationError, match="nothing to shrink"):
        Shrinker(SCENARIO, Recipe(3), Cause("acked-loss", "x")).shrink()


def test_when_time_is_up_the_smallest_so_far_is_the_result() -> None:
    """And it says that there may be a smaller one."""
    cause = Cause("raised", "RuntimeError: always")

    def body(cluster: Cluster) -> None:
        raise RuntimeError("always")

    shrunk = Shrinker(Scenario("x", body), Recipe(1, Plan(_NOISE)), cause, 0.0).shrink()
    assert not shrunk.is_minimal
    assert "time was up" in shrunk.summary
    assert shrunk.recipe.plan.faults == _NOISE


@given(st.sets(st.integers(0, 30), max_size=6), st.integers(0, 40))
def test_the_smallest_part_holds_and_nothing_can_be_left_out(needed: set[int], count: int) -> None:
    """Whatever is needed is all that stays."""
    needed = {item for item in needed if item < count}
    found = smallest_part(range(count), lambda part: needed <= set(part))
    assert set(found) == needed
    assert list(found) == sorted(found)


@given(st.integers(1, 500), st.integers(1, 500))
def test_the_smallest_number(value: int, least: int) -> None:
    """For what holds from some number on, that number; else what came in."""
    found = smallest_number(value, 1, lambda number: number >= least)
    assert found == (min(least, value))
