"""A recipe: all that makes one run of a scenario differ from another, as plain values.

Inputs:   seed, plan, and what departs from them: other chance from some moment on, draws held at their benign value, sizes, protections.
Effects:  `cook` runs it; the same recipe gives the same run in any process.
Rule 1:   a recipe is data: it goes through JSON and comes back equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.explore.trial import Scenario, Trial, run_trial
from kafkasim.handle import Cluster
from kafkasim.sim.choices import Choices
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan import Plan
from kafkasim.sim.plan_text import fault_to_values, plan_from_values

#: Draws that decide how a run goes and not who somebody is: held at 0 they make no two members, topics or sessions the same.
SCHEDULE_LABELS = (
    "net.latency",
    "retry.backoff",
    "reconnect.backoff",
    "heartbeat.backoff",
    "quorum.election_timeout_ms",
    "quorum.wakeup_ms",
    "broker.any",
    "metadata.controller_id",
    "partitioner",
    "controller.placement.broker",
    "controller.placement.rack",
    "fault.any",
)
_MOST_SECONDS = 1e9
_SEED_LIMIT = 1 << 64
#: A body that waits for something without a timeout gives up after an hour: what it waits for may have been lost to a fault.
_PATIENCE_US = 3_600_000_000


@attrs.frozen
class Fork:
    """From ``at_s`` virtual seconds on, chance is another seed's: everything before stays as it was."""

    at_s: float
    seed: int


@attrs.frozen
class Recipe:
    """Args:
    seed, plan: as of a trial.
    forks: where chance changes.
    calm: labels of draws that are held at their benign value, out of `SCHEDULE_LABELS`.
    sizes, features: in place of the scenario's.
    """

    seed: int
    plan: Plan = attrs.field(factory=Plan)
    forks: tuple[Fork, ...] = ()
    calm: tuple[str, ...] = ()
    sizes: Mapping[str, int] = attrs.field(factory=dict)
    features: Mapping[str, bool] = attrs.field(factory=dict)

    def to_values(self) -> dict[str, Any]:
        """Plain values, without what is as usual."""
        values: dict[str, Any] = {
            "seed": self.seed,
            "plan": {"faults": [fault_to_values(fault) for fault in self.plan]},
        }
        if self.forks:
            values["forks"] = [{"at_s": fork.at_s, "seed": fork.seed} for fork in self.forks]
        if self.calm:
            values["calm"] = list(self.calm)
        if self.sizes:
            values["sizes"] = dict(self.sizes)
        if self.features:
            values["features"] = dict(self.features)
        return values

    @classmethod
    def from_values(cls, values: Any) -> Recipe:
        """Raises ConfigurationError."""
        if not isinstance(values, Mapping):
            raise ConfigurationError(f"a run is described by a table, not by {values!r:.40}")
        return cls(
            seed=_whole("seed", values.get("seed"), -_SEED_LIMIT),
            plan=plan_from_values(values.get("plan", {"faults": []})),
            forks=tuple(_fork(fork) for fork in _listed("forks", values.get("forks", []))),
            calm=tuple(_label(label) for label in _listed("calm", values.get("calm", []))),
            sizes={name: _whole(f"size {name!r}", size) for name, size in _table("sizes", values).items()},
            features={name: _flag(name, flag) for name, flag in _table("features", values).items()},
        )


def cook(
    scenario: Scenario,
    recipe: Recipe,
    *,
    choices: Choices | None = None,
    record: bool = False,
    on_start: Callable[[Cluster, Injection], None] | None = None,
    on_end: Callable[[Cluster, Injection, Trial], None] | None = None,
) -> Trial:
    """Run a recipe. ``record``: what was drawn is at the end in ``cluster.choices.tape``; ``choices``: a tape in place of the seed."""
    __tracebackhide__ = True
    if recipe.sizes:
        scenario = scenario.with_sizes(recipe.sizes)
    if recipe.features:
        scenario = scenario.with_features(recipe.features)
    if choices is None and (record or recipe.calm):
        choices = Choices(recipe.seed, record=record, calm=recipe.calm)

    def start(cluster: Cluster, injection: Injection) -> None:
        cluster.scheduler.patience_us = min(cluster.scheduler.patience_us, _PATIENCE_US)
        for fork in recipe.forks:
            cluster.at(fork.at_s, cluster.choices.reseed, fork.seed)
        if on_start is not None:
            on_start(cluster, injection)

    return run_trial(scenario, recipe.seed, recipe.plan, choices=choices, on_start=start, on_end=on_end)


def _whole(what: str, value: Any, low: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value < _SEED_LIMIT:
        raise ConfigurationError(f"{what} is {value!r:.40}, expected a whole number")
    return value


def _fork(values: Any) -> Fork:
    at_s = values.get("at_s") if isinstance(values, Mapping) else None
    if not isinstance(at_s, int | float) or isinstance(at_s, bool) or not 0 <= at_s < _MOST_SECONDS or math.isnan(at_s):
        raise ConfigurationError(f"fork {values!r:.60}: expected at_s (virtual seconds) and a seed")
    return Fork(float(at_s), _whole("the seed of a fork", values.get("seed"), -_SEED_LIMIT))


def _listed(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{what}: expected a list, not {value!r:.40}")
    return value


def _table(what: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    table = values.get(what, {})
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{what}: expected a table, not {table!r:.40}")
    return table


def _label(label: Any) -> str:
    if not isinstance(label, str) or label not in SCHEDULE_LABELS:
        raise ConfigurationError(f"calm: no draw {label!r:.40} can be held; known: {', '.join(SCHEDULE_LABELS)}")
    return str(label)


def _flag(name: str, flag: Any) -> bool:
    if not isinstance(flag, bool):
        raise ConfigurationError(f"feature {name!r:.40} is {flag!r:.40}, expected true or false")
    return flag
