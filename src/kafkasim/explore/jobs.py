"""A job: one trial as it travels to a worker, and its outcome as it comes back and is written down.

Inputs:   a target or scenario, a recipe.      Effects: an `Outcome`; nothing is raised for what a trial does.
Rule 1:   an outcome without its wall time is the same wherever the job ran.
Rule 2:   a process runs one trial at a time: the simulator stands in for modules that all threads share.
Rule 3:   what a scenario prints is dropped; ``kafkasim replay`` shows it.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import attrs

from kafkasim.check.report import Finding
from kafkasim.errors import ConfigurationError
from kafkasim.explore.causes import Cause, causes_of, finding_from_values, finding_to_values
from kafkasim.explore.coverage import Coverage, cover
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.sometimes import listening
from kafkasim.explore.targets import Target, scenario_for
from kafkasim.explore.trial import RAISED, Scenario, Trial
from kafkasim.handle import Cluster
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan_text import fault_to_values

_one_at_a_time = threading.RLock()


@attrs.frozen
class Job:
    """``what`` is a target, or a scenario itself where that can be sent to who runs it."""

    what: Target | Scenario
    number: int
    policy: str
    recipe: Recipe


@attrs.frozen
class Outcome:
    """What became of a trial."""

    number: int
    policy: str
    recipe: Recipe
    findings: tuple[Finding, ...]
    fired: int
    planned: int
    fingerprint: str
    virtual_s: float
    coverage: Coverage
    wall_s: float = attrs.field(default=0.0, eq=False)

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def causes(self) -> list[Cause]:
        return causes_of(self.findings)

    def to_values(self) -> dict[str, Any]:
        coverage = self.coverage
        return {
            "trial": self.number,
            "policy": self.policy,
            "run": self.recipe.to_values(),
            "findings": [finding_to_values(finding) for finding in self.findings],
            "fired": self.fired,
            "planned": self.planned,
            "fingerprint": self.fingerprint,
            "virtual_s": self.virtual_s,
            "wall_s": round(self.wall_s, 4),
            "coverage": {
                field.name: list(getattr(coverage, field.name))
                for field in attrs.fields(Coverage)
                if getattr(coverage, field.name)
            },
        }

    @classmethod
    def from_values(cls, values: Any) -> Outcome:
        """Raises ConfigurationError."""
        try:
            coverage = {name: tuple(map(str, listed)) for name, listed in values["coverage"].items()}
            return cls(
                number=int(values["trial"]),
                policy=str(values["policy"]),
                recipe=Recipe.from_values(values["run"]),
                findings=tuple(finding_from_values(finding) for finding in values["findings"]),
                fired=int(values["fired"]),
                planned=int(values["planned"]),
                fingerprint=str(values["fingerprint"]),
                virtual_s=float(values["virtual_s"]),
                coverage=Coverage(**coverage),
                wall_s=float(values["wall_s"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise ConfigurationError(f"no outcome of a trial: {type(problem).__name__}: {problem}") from None


def run_job(job: Job) -> Outcome:
    """Run a trial, here."""
    with _one_at_a_time:
        scenario = scenario_for(job.what) if isinstance(job.what, Target) else job.what
        return _run(scenario, job)


def _run(scenario: Scenario, job: Job) -> Outcome:
    began = perf_counter()
    seen: list[Coverage] = []

    def on_end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        seen.append(cover(cluster.history, trial.fired, reached.reached, reached.passed))

    with listening() as reached, contextlib.redirect_stdout(io.StringIO()):
        try:
            trial = cook(scenario, job.recipe, on_end=on_end)
        except Exception as problem:
            return _died(job, problem, perf_counter() - began)
    return outcome_of(job, trial, seen[0], perf_counter() - began)


def outcome_of(job: Job, trial: Trial, coverage: Coverage, wall_s: float) -> Outcome:
    return Outcome(
        job.number,
        job.policy,
        job.recipe,
        tuple(trial.findings),
        len(trial.fired),
        len(trial.plan),
        trial.fingerprint,
        trial.virtual_s,
        coverage,
        wall_s,
    )


def _died(job: Job, problem: BaseException, wall_s: float) -> Outcome:
    """A trial that did not even come to its verdict: no cluster, say."""
    finding = Finding(RAISED, f"{type(problem).__name__}: {problem}")
    return Outcome(job.number, job.policy, job.recipe, (finding,), 0, len(job.recipe.plan), "", 0.0, Coverage(), wall_s)


def lost(job: Job) -> Outcome:
    """A trial that takes its process with it, each time."""
    problem = RuntimeError("the process that ran this trial died, again and again")
    return _died(job, problem, 0.0)


def plan_values(recipe: Recipe) -> Mapping[str, Any]:
    """The plan alone, as files hold it."""
    return {"faults": [fault_to_values(fault) for fault in recipe.plan]}
