"""Shrinking: the smallest run that fails for the same cause, and what single change would let it pass.

Inputs:   a scenario, the recipe of a failing run, the cause, a budget of time.
Effects:  a `Shrunk`: a recipe with fewer faults, shorter ones, fewer records, a duller schedule; and its counterfactuals.
Rule 1:   a run that fails for another cause is no smaller version of this one: it must fail with the same finding, and where a protection
          or an alternative of the scenario let the first run pass, it must let the smaller one pass too.
Rule 2:   the plan is lifted first: faults that never fired are left out before anything is tried.
Rule 3:   when time is up the smallest run so far is the result; it says that it may not be minimal.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from time import monotonic

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.explore.causes import Cause, causes_of
from kafkasim.explore.recipe import SCHEDULE_LABELS, Recipe, cook
from kafkasim.explore.reduce import smallest_number, smallest_part
from kafkasim.explore.trial import Scenario, Trial
from kafkasim.sim.plan import Fault, Plan

DEFAULT_BUDGET_S = 30.0
#: Times that people think in, shortest first; an outage is shortened to the first one that will do.
_TIMES_S = (0.001, 0.01, 0.1, 1.0, 5.0, 10.0, 30.0)
#: What is a milder form of what.
_MILDER = {"power_loss": "crash", "shutdown": "crash", "stop": "kill"}
_SPARED_S = 0.2
"""Share of the budget that is kept for the counterfactuals."""


class _OutOfTime(Exception):
    """The budget is spent."""


@attrs.frozen
class Counterfactual:
    """One change, and whether the run passes with it; ``instead`` is what it breaks then, if anything."""

    change: str
    passes: bool
    instead: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.passes:
            return f"{self.change}: fails all the same"
        return f"{self.change}: passes" + (f" (but {', '.join(self.instead)})" if self.instead else "")


@attrs.frozen
class Shrunk:
    """``before`` is the recipe that came in; ``is_minimal``: nothing smaller that is tried here fails for this cause."""

    cause: Cause
    before: Recipe
    recipe: Recipe
    sizes_before: dict[str, int]
    trial: Trial
    counterfactuals: tuple[Counterfactual, ...]
    runs: int
    wall_s: float
    is_minimal: bool

    @property
    def mends(self) -> list[Counterfactual]:
        """The single changes that make it pass."""
        return [one for one in self.counterfactuals if one.passes]

    @property
    def summary(self) -> str:
        sizes = {**self.sizes_before, **self.recipe.sizes}
        shrunk = [f"{name} {size}->{sizes[name]}" for name, size in self.sizes_before.items() if sizes[name] != size]
        parts = [f"faults {len(self.before.plan)}->{len(self.recipe.plan)}", *shrunk]
        if self.recipe.calm:
            parts.append("every delay the same" if len(self.recipe.calm) == len(SCHEDULE_LABELS) else "calm schedule")
        return f"{', '.join(parts)}; {self.runs} runs, {self.wall_s:.1f} s" + (
            "" if self.is_minimal else ", time was up"
        )


class Shrinker:
    """Where shrinking stands: progress is drawn from its fields."""

    def __init__(
        self,
        scenario: Scenario,
        recipe: Recipe,
        cause: Cause,
        budget_s: float = DEFAULT_BUDGET_S,
        on_progress: Callable[[Shrinker], None] = lambda shrinker: None,
    ) -> None:
        self.scenario = scenario
        self.before = recipe
        self.cause = cause
        self.budget_s = budget_s
        self.best = recipe
        self.runs = 0
        self.step = "lifting the plan"
        self._on_progress = on_progress
        self._began = monotonic()
        self._known: dict[str, bool] = {}
        #: The change that lets the first run pass.
        self._anchor: str | None = None

    @property
    def wall_s(self) -> float:
        return monotonic() - self._began

    @property
    def sizes(self) -> dict[str, int]:
        return {**self.scenario.sizes, **self.best.sizes}

    def shrink(self) -> Shrunk:
        """Raises ConfigurationError where the run does not fail for the cause."""
        trial = self._cook(self.before)
        if self.cause not in causes_of(trial.findings):
            raise ConfigurationError(f"there is nothing to shrink: the run does not fail with {self.cause}")
        is_minimal = True
        try:
            self._anchor = next((name for name in self._changes() if not self._fails_with(name, self.before)), None)
            fired = [one.fault for one in trial.fired]
            lifted = Plan(tuple(fault for fault in self.before.plan if fault in fired))
            if len(lifted) < len(self.before.plan):
                self._try(attrs.evolve(self.best, plan=lifted))
            before = None
            while before != self.best:
                before = self.best
                self._pass()
        except _OutOfTime:
            is_minimal = False
        self.step = "what would let it pass"
        counterfactuals = tuple(self._counterfactuals())
        trial = self._cook(self.best)
        sizes = dict(self.scenario.sizes)
        sizes.update(self.before.sizes)
        return Shrunk(
            self.cause,
            self.before,
            self.best,
            sizes,
            trial,
            counterfactuals,
            self.runs,
            self.wall_s,
            is_minimal,
        )

    # --- one pass ----------------------------------------------------------------------------------------------------

    def _pass(self) -> None:
        self.step = "fewer faults"
        smallest_part(self.best.plan.faults, lambda part: self._try(attrs.evolve(self.best, plan=Plan(part))))
        self.step = "the same chance all through"
        if self.best.forks:
            smallest_part(self.best.forks, lambda part: self._try(attrs.evolve(self.best, forks=part)))
        self.step = "a duller schedule"
        self._calm()
        self.step = "earlier and shorter faults"
        for index in range(len(self.best.plan)):
            self._simplify(index)
        self._all_sooner()
        self.step = "smaller sizes"
        for name, size in self.sizes.items():
            smallest_number(size, 1, lambda value, name=name: self._try(self._sized(name, value)))  # type: ignore[misc]

    def _calm(self) -> None:
        if len(self.best.calm) == len(SCHEDULE_LABELS) or self._try(attrs.evolve(self.best, calm=SCHEDULE_LABELS)):
            return
        for label in SCHEDULE_LABELS:
            if label not in self.best.calm:
                self._try(attrs.evolve(self.best, calm=(*self.best.calm, label)))

    def _simplify(self, index: int) -> None:
        fault = self.best.plan.faults[index]
        if fault.what in _MILDER:
            self._replace(index, what=_MILDER[fault.what])
        if fault.on is not None and fault.nth > 1:
            smallest_number(fault.nth, 1, lambda nth: self._replace(index, nth=nth))
        if fault.at_s:
            self._earlier(index, fault.at_s)
        if fault.for_s is not None:
            for for_s in _TIMES_S:
                if for_s >= fault.for_s or self._replace(index, for_s=for_s):
                    break

    def _all_sooner(self) -> None:
        """All times together: what is a second apart stays in its order."""
        for share in (0.5, 0.5, 0.5, 0.75, 0.75):
            faults = self.best.plan.faults
            if sum(fault.at_s is not None and fault.at_s > 0 for fault in faults) < 2:
                return
            sooner = [fault if fault.at_s is None else attrs.evolve(fault, at_s=fault.at_s * share) for fault in faults]
            self._try(attrs.evolve(self.best, plan=Plan(tuple(sooner))))

    def _earlier(self, index: int, at_s: float) -> None:
        """At a round time, and as early as halving gets it: what a later one needs, fewer records cannot give."""
        for candidate in (0.0, 1.0, float(int(at_s)), round(at_s, 1)):
            if candidate < at_s and self._replace(index, at_s=candidate):
                at_s = candidate
                break
        while at_s > 1.0 and self._replace(index, at_s=float(round(at_s / 2))):
            at_s = float(round(at_s / 2))

    def _replace(self, index: int, **changes: object) -> bool:
        faults = list(self.best.plan.faults)
        try:
            faults[index] = _evolved(faults[index], changes)
        except ConfigurationError:
            return False
        return self._try(attrs.evolve(self.best, plan=Plan(tuple(faults))))

    def _sized(self, name: str, value: int) -> Recipe:
        return attrs.evolve(self.best, sizes={**self.best.sizes, name: value})

    # --- trials ------------------------------------------------------------------------------------------------------

    def _try(self, recipe: Recipe) -> bool:
        """Does it still fail for this cause? Then it is the best so far."""
        key = repr(recipe)
        known = self._known.get(key)
        if known is None:
            if self.wall_s > self.budget_s * (1 - _SPARED_S):
                raise _OutOfTime
            known = self.cause in causes_of(self._cook(recipe).findings)
            if known and self._anchor is not None:
                known = not self._fails_with(self._anchor, recipe)
            self._known[key] = known
        if known:
            self.best = recipe
        return known

    def _cook(self, recipe: Recipe, scenario: Scenario | None = None) -> Trial:
        self.runs += 1
        with contextlib.redirect_stdout(io.StringIO()):
            trial = cook(scenario or self.scenario, recipe)
        self._on_progress(self)
        return trial

    def _counterfactuals(self) -> Iterable[Counterfactual]:
        for index, fault in enumerate(self.best.plan):
            yield self._changed(f"without {fault}", attrs.evolve(self.best, plan=self.best.plan.without(index)))
        for name in self._changes():
            yield self._changed(f"with {name}", *self._with(name, self.best))

    def _changes(self) -> list[str]:
        """Protections that are off, and what the scenario itself could do otherwise."""
        features = {**(self.scenario.options.get("features") or {}), **self.before.features}
        return [*(name for name, is_on in features.items() if not is_on), *self.scenario.alternatives]

    def _with(self, name: str, recipe: Recipe) -> tuple[Recipe, Scenario]:
        if name in self.scenario.alternatives:
            return recipe, self.scenario.alternatives[name]
        return attrs.evolve(recipe, features={**recipe.features, name: True}), self.scenario

    def _fails_with(self, name: str, recipe: Recipe) -> bool:
        return self.cause in causes_of(self._cook(*self._with(name, recipe)).findings)

    def _changed(self, change: str, recipe: Recipe, scenario: Scenario | None = None) -> Counterfactual:
        causes = causes_of(self._cook(recipe, scenario).findings)
        passes = self.cause not in causes
        return Counterfactual(
            change, passes, tuple(dict.fromkeys(cause.invariant for cause in causes)) if passes else ()
        )


def _evolved(fault: Fault, changes: dict[str, object]) -> Fault:
    return attrs.evolve(fault, **changes)  # type: ignore[arg-type]
