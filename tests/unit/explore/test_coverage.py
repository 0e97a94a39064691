"""Coverage, estimates and causes: how a campaign knows new from old."""

from __future__ import annotations

import pytest

import kafkasim
from kafkasim.check.report import Finding
from kafkasim.explore.causes import cause_of, causes_of
from kafkasim.explore.coverage import Coverage, Tally, cover
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.sometimes import listening, names_in_source, sometimes
from kafkasim.explore.targets import Target
from kafkasim.explore.trial import Trial
from kafkasim.handle import Cluster
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan import Fault, Plan

TARGET = Target.of("tests.unit.explore.scenes:works_first")


def _coverage(plan: Plan) -> Coverage:
    seen: list[Coverage] = []

    def on_end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        seen.append(cover(cluster.history, trial.fired))

    cook(TARGET.scenario(), Recipe(1, plan), on_end=on_end)
    return seen[0]


def test_a_crash_reaches_states_that_a_quiet_run_does_not() -> None:
    """Leaders that take over, a smaller ISR, and the cell of the fault itself."""
    quiet = _coverage(Plan())
    crash = _coverage(Plan((Fault("crash", "leader:calls-0", on="Produce.answered", for_s=12.0),)))
    assert "a leader died and another took over" in crash.reached
    assert "a leader died and another took over" not in quiet.reached
    assert crash.cells == ("crash × Produce.answered × leader",)
    assert set(crash.states) - set(quiet.states)
    assert any(item.startswith("leader | ") and item.endswith("became leader") for item in crash.items)
    assert quiet == _coverage(Plan())


def test_the_estimate_is_the_share_of_trials_that_have_been_somewhere_alone() -> None:
    """Good and Turing: what was seen once is a measure of what was not seen."""
    tally = Tally()
    assert tally.unseen == 1.0
    assert tally.add(0, Coverage(items=("a", "b"))) is True
    assert tally.add(1, Coverage(items=("a",))) is False
    assert tally.unseen == 0.5
    assert tally.add(2, Coverage(items=("b",), states=("s",))) is True
    assert tally.unseen == pytest.approx(1 / 3)
    assert tally.add(3, Coverage(states=("s",))) is False
    assert tally.unseen == 0.0


def test_what_never_happened_is_told_by_name() -> None:
    """Declared in the source, passed by in a run, or built in."""
    tally = Tally()
    tally.add(0, Coverage(reached=("x", "the controller moved"), passed=("y",)))
    never = tally.never(["x", "z"])
    assert never[:2] == ["z", "y"]
    assert "the isr shrank to one" in never
    assert "the controller moved" not in never


def test_sometimes_is_heard_by_the_trial_that_runs_and_by_nobody_else() -> None:
    """Outside it does nothing."""
    sometimes("nobody listens")
    with listening() as outer:
        kafkasim.sometimes("reached")
        with listening() as inner:
            kafkasim.sometimes("inside")
        kafkasim.sometimes("passed", 1 > 2)
    assert (list(outer.reached), list(outer.passed)) == (["reached"], ["passed"])
    assert list(inner.reached) == ["inside"]
    assert "nobody listens" in names_in_source(__file__)
    assert names_in_source("no such file") == ()


def test_causes_are_the_same_where_only_numbers_and_names_differ() -> None:
    """And another where the words do."""
    first = Finding("at-least-once", "group b never worked on calls-0 offset 7: it was committed past (up to 9)")
    again = Finding("at-least-once", "group b never worked on calls-1 offset 12: it was committed past (up to 40)")
    other = Finding("at-least-once", "group b never worked on calls-0 offset 7: it was deleted from the log before")
    assert cause_of(first) == cause_of(again) != cause_of(other)
    one = Finding("acked-loss", "calls-0 offset 3, acknowledged to a#producer-1 at 1.5 s, are not in the log")
    many = Finding("acked-loss", "calls-0 offsets 3..7, acknowledged to a#producer-2 at 12.25 s, are not in the log")
    assert cause_of(one) == cause_of(many)


def test_what_an_oracle_saw_inside_comes_before_what_clients_saw() -> None:
    """The cause before its consequence, code that raised last."""
    findings = [Finding("raised", "x"), Finding("acked-loss", "y"), Finding("leader-completeness", "z")]
    assert [cause.invariant for cause in causes_of(findings)] == ["leader-completeness", "acked-loss", "raised"]
