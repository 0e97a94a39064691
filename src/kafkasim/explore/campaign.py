"""A campaign: many trials of one scenario under a portfolio of policies, and what they say together.

Inputs:   a target, a seed, a budget of seeds, time or failures; where trials run.
Effects:  a `Result`; outcomes go into a file as they arrive, and a later campaign goes on from there.
Rule 1:   trials are taken in the order of their numbers, whatever order they end in: the same seeds give the same result anywhere.
Rule 2:   a round of trials may mutate what trials of rounds before the last one reached, so that two rounds can overlap.
Rule 3:   "nothing broke" is never said alone: beside it stands the chance that the next trial shows something new.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import ExitStack
from time import monotonic
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.explore.causes import Cause, cause_of
from kafkasim.explore.coverage import Tally
from kafkasim.explore.jobs import Job, Outcome, outcome_of
from kafkasim.explore.ledger import Ledger
from kafkasim.explore.policies import NONE, Parent, Portfolio
from kafkasim.explore.pools import Pool, pool_for
from kafkasim.explore.recipe import Recipe
from kafkasim.explore.shape import shape_of
from kafkasim.explore.targets import Target, scenario_for, scenario_of
from kafkasim.explore.trial import Scenario
from kafkasim.version import MODEL, VERSION

ROUND = 32
DEFAULT_SEEDS = 200
_MOST_PARENTS = 64


@attrs.define(slots=True)
class Failure:
    """One way in which trials failed. ``witness`` is the one with the fewest faults; ``trials`` says how many failed like it."""

    cause: Cause
    witness: Outcome
    trials: int = 1

    @property
    def text(self) -> str:
        """The witness's own words for it."""
        return next(finding.text for finding in self.witness.findings if cause_of(finding) == self.cause)


@attrs.define(slots=True)
class Result:
    """What a campaign has found."""

    target: str
    seed: int
    failures: list[Failure]
    tally: Tally
    policies: dict[str, int]
    never: list[str]
    trials: int
    failed_trials: int
    virtual_s: float
    wall_s: float
    stopped_by: str

    @property
    def ok(self) -> bool:
        """No trial broke a promise. Look at ``unseen`` beside it."""
        return not self.failures

    @property
    def unseen(self) -> float:
        """The estimated chance that one more trial gets to something that none has been to."""
        return self.tally.unseen

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "target": self.target,
            "seed": self.seed,
            "ok": self.ok,
            "trials": self.trials,
            "failed_trials": self.failed_trials,
            "stopped_by": self.stopped_by,
            "failures": [
                {
                    "invariant": failure.cause.invariant,
                    "cause": failure.cause.signature,
                    "text": failure.text,
                    "trials": failure.trials,
                    "witness": failure.witness.number,
                    "policy": failure.witness.policy,
                    "run": failure.witness.recipe.to_values(),
                    "fingerprint": failure.witness.fingerprint,
                }
                for failure in self.failures
            ],
            "policies": self.policies,
            "coverage": {
                "items": dict(sorted(self.tally.items.items())),
                "faults": dict(sorted(self.tally.cells.items())),
                "states": len(self.tally.states),
                "sometimes": dict(sorted(self.tally.reached.items())),
                "never": self.never,
            },
            "unseen": self.unseen,
            "virtual_seconds": self.virtual_s,
            "wall_seconds": self.wall_s,
        }


def explore(
    target: str | Target | Scenario | Callable[..., Any],
    *,
    seed: int = 0,
    seeds: int | None = None,
    time: float | None = None,
    failures: int | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    workers: int | None = None,
    results: str | None = None,
    on_progress: Callable[[Campaign], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Run a campaign.

    Args:
        target: a design file, ``module:function``, a test's node id; a function that takes the cluster, or a `Scenario`.
        seed: of the campaign: all trials follow from it.
        seeds: how many trials, the one without faults included; by default `DEFAULT_SEEDS` where no other budget is given.
        time: wall seconds.
        failures: stop when so many different failures were found.
        jobs: processes on this machine; 1 is this one.
        executor: any ``concurrent.futures`` executor (its workers must be able to import the target); ``workers``: how many it has.
        results: a file that outcomes are added to; where it holds some of this campaign, they are not run again.
        on_progress: called between trials. ``should_stop`` is asked there, too.

    Raises ConfigurationError for a target that cannot be found, or a file of another campaign.
    """
    if seeds is None and time is None and failures is None:
        seeds = DEFAULT_SEEDS
    for name, value in (("seeds", seeds), ("time", time), ("failures", failures), ("jobs", jobs)):
        if value is not None and value <= 0:
            raise ConfigurationError(f"{name}={value}: expected more than 0")
    what, scenario = resolve(target)
    campaign = Campaign(what, scenario, seed, seeds, time, failures)
    with ExitStack() as stack:
        ledger = None if results is None else stack.enter_context(Ledger(results, campaign.head))
        pool = pool_for(jobs, executor, workers)
        stack.callback(pool.close)
        return campaign.run(pool, ledger, on_progress or (lambda campaign: None), should_stop or (lambda: False))


def resolve(target: str | Target | Scenario | Callable[..., Any]) -> tuple[Target | Scenario, Scenario]:
    """What is sent to workers, and the scenario itself."""
    if isinstance(target, str):
        target = Target.of(target)
    if isinstance(target, Target):
        return target, scenario_for(target)
    if isinstance(target, Scenario):
        return target, target
    if not callable(target):
        raise ConfigurationError(
            f"{target!r}: expected a target's name, a Scenario or a function that takes the cluster"
        )
    carried = getattr(target, "kafkasim_scenario", None)
    if isinstance(carried, Scenario):
        return carried, carried
    if not inspect.signature(target).parameters:
        made = target()
        if not isinstance(made, Scenario):
            raise ConfigurationError(f"{target.__name__}() takes no cluster and made no Scenario")
        return made, made
    scenario = scenario_of(target)
    return scenario, scenario


class Campaign:
    """Where a campaign stands: progress is drawn from its fields."""

    def __init__(
        self,
        what: Target | Scenario,
        scenario: Scenario,
        seed: int,
        seeds: int | None,
        time_s: float | None,
        most_failures: int | None,
    ) -> None:
        self.what = what
        self.scenario = scenario
        self.seed = seed
        self.seeds = seeds
        self.time_s = time_s
        self.most_failures = most_failures
        self.tally = Tally()
        self.failures: dict[Cause, Failure] = {}
        self.policies: dict[str, int] = {}
        self.failed_trials = 0
        self.virtual_s = 0.0
        #: Trials taken so far, and those of them that were read from the file.
        self.taken = 0
        self.recalled = 0
        self._began = monotonic()
        self._parents: list[Parent] = []
        #: How many parents were known when each round had been taken.
        self._parents_after: list[int] = []
        self._arrived: dict[int, Outcome] = {}
        self._recorded: dict[int, Outcome] = {}

    @property
    def name(self) -> str:
        return self.what.name

    @property
    def head(self) -> dict[str, Any]:
        """What makes this campaign another one than the next."""
        digest = self.what.digest if isinstance(self.what, Target) else ""
        return {"version": VERSION, "model": MODEL, "target": self.name, "digest": digest, "seed": self.seed}

    @property
    def wall_s(self) -> float:
        return monotonic() - self._began

    @property
    def rate(self) -> float:
        """Trials a second, without those that were read from the file."""
        return (self.taken - self.recalled) / self.wall_s if self.wall_s else 0.0

    def run(
        self,
        pool: Pool,
        ledger: Ledger | None,
        on_progress: Callable[[Campaign], None],
        should_stop: Callable[[], bool],
    ) -> Result:
        """Go on until the budget is spent."""
        if ledger is not None:
            self._recorded = ledger.known
        portfolio = self._begin(ledger)
        number = 1
        stopped_by = ""
        while not stopped_by:
            on_progress(self)
            stopped_by = "interrupt" if should_stop() else self._spent(number)
            if stopped_by:
                break
            while pool.room > 0 and self._may_begin(number):
                self._put(pool, portfolio, number)
                number += 1
            if pool.busy:
                self._arrive(pool.take(), ledger)
            self._take()
        if stopped_by == "time":
            while pool.busy:
                self._arrive(pool.take(), ledger)
            self._take()
        on_progress(self)
        return self._result(stopped_by)

    def _begin(self, ledger: Ledger | None) -> Portfolio:
        """Trial 0: without faults, in this process, as everything else is aimed by what it shows."""
        shape, first = shape_of(self.scenario, self.seed)
        job = Job(self.what, 0, NONE, Recipe(self.seed))
        outcome = outcome_of(job, first.trial, first.coverage, first.wall_s)
        if 0 not in self._recorded:
            self._arrive([outcome], ledger)
        elif self._recorded[0] != outcome:
            raise ConfigurationError(
                f"{self.name} runs another way than in the recorded campaign (trial 0 has fingerprint {outcome.fingerprint}, recorded "
                f"is {self._recorded[0].fingerprint}): name another file for the results"
            )
        else:
            self._arrived[0] = outcome
            self.recalled += 1
        self._take()
        return Portfolio(shape, self.seed, self.scenario.faults)

    def _spent(self, number: int) -> str:
        if self.most_failures is not None and len(self.failures) >= self.most_failures:
            return "failures"
        if self.seeds is not None and self.taken >= self.seeds:
            return "seeds"
        return "time" if self.time_s is not None and self.wall_s >= self.time_s else ""

    def _may_begin(self, number: int) -> bool:
        """Rounds before the last one have been taken, so that its parents are known."""
        if self.seeds is not None and number >= self.seeds:
            return False
        return number // ROUND - 2 < len(self._parents_after)

    def _put(self, pool: Pool, portfolio: Portfolio, number: int) -> None:
        settled = number // ROUND - 2
        parents = self._parents[: self._parents_after[settled]] if settled >= 0 else []
        recipe = portfolio.recipe(number, parents[-_MOST_PARENTS:])
        recorded = self._recorded.get(number)
        if recorded is None:
            pool.put(Job(self.what, number, portfolio.policy_of(number), recipe))
            return
        if recorded.recipe != recipe:
            raise ConfigurationError(
                f"trial {number} of the recorded campaign ran another plan: name another file for the results"
            )
        self._arrived[number] = recorded
        self.recalled += 1

    def _arrive(self, outcomes: Iterable[Outcome], ledger: Ledger | None) -> None:
        for outcome in outcomes:
            self._arrived[outcome.number] = outcome
            if ledger is not None:
                ledger.add(outcome)

    def _take(self) -> None:
        """Take what has arrived, in order, until the budget of failures is spent."""
        while self.taken in self._arrived and self._spent(0) != "failures":
            outcome = self._arrived.pop(self.taken)
            self.taken += 1
            self.policies[outcome.policy] = self.policies.get(outcome.policy, 0) + 1
            self.virtual_s += outcome.virtual_s
            if self.tally.add(outcome.number, outcome.coverage):
                self._parents.append(Parent(outcome.recipe, outcome.virtual_s))
            if self.taken % ROUND == 0:
                self._parents_after.append(len(self._parents))
            self.failed_trials += not outcome.ok
            for cause in outcome.causes:
                self._fail(cause, outcome)

    def _fail(self, cause: Cause, outcome: Outcome) -> None:
        failure = self.failures.get(cause)
        if failure is None:
            self.failures[cause] = Failure(cause, outcome)
            return
        failure.trials += 1
        if (outcome.fired, outcome.planned) < (failure.witness.fired, failure.witness.planned):
            failure.witness = outcome

    def _result(self, stopped_by: str) -> Result:
        return Result(
            self.name,
            self.seed,
            list(self.failures.values()),
            self.tally,
            self.policies,
            self.tally.never(self.scenario.sometimes),
            self.taken,
            self.failed_trials,
            self.virtual_s,
            self.wall_s,
            stopped_by,
        )
