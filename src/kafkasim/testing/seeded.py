"""``@kafkasim.test``: one test body under many seeds and a fault plan for each, for those who want seeds rather than Hypothesis.

Inputs:   a function that takes the cluster first; ``seeds``, ``faults`` (a plan, or a function of the seed), the cluster's options.
Effects:  a pytest test. A failure prints one screen and leaves the plan and the whole history in files that it names.
Rule 1:   after the body the plan is healed, the cluster gets ``settle`` seconds, and its history is checked: a breach fails the test.
Rule 2:   ``--kafkasim-seed N`` runs that seed alone; ``--kafkasim-replay FILE`` runs the seed and the plan of a failure.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kafkasim.check.report import Report
from kafkasim.errors import ConfigurationError
from kafkasim.explore.lanes import lanes
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.trial import Scenario, Trial
from kafkasim.handle import Cluster
from kafkasim.sim.files import write_whole
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan import Fault, Plan
from kafkasim.testing.plugin import replayed

Faults = Plan | Fault | Callable[[int], Plan | Fault]
_FOLDER = Path(".kafkasim") / "failures"


class Breach(AssertionError):
    """A promise was broken under a seed. The text is one screen; ``report`` has every finding."""

    def __init__(self, text: str, report: Report | None) -> None:
        super().__init__(text)
        self.report = report


def seeded(
    *,
    seeds: int | Iterable[int] = 20,
    faults: Faults | None = None,
    settle: float = 30.0,
    require_fired: bool = False,
    **cluster_options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run a test function under many seeds, each with a simulated cluster of its own.

    Args:
        seeds: how many, or which.
        faults: a plan (``kafkasim.faults``), or a function that makes one from the seed (a nemesis, say).
        settle: virtual seconds between the end of the body, with all faults healed, and the check of the history.
        require_fired: fail where a planned fault never happened.
        cluster_options: ``brokers``, ``config``, ``racks``, ``features`` … as of ``kafkasim.Cluster``.

    The function gets the cluster as its first argument, and pytest's fixtures by name.
    """
    chosen = range(seeds) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise ConfigurationError(f"seeds={seeds!r}: no seed to run")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters:
            raise ConfigurationError(f"{function.__name__}() takes no argument: the first one is the cluster")

        @functools.wraps(function)
        def run(request: pytest.FixtureRequest, **fixtures: Any) -> None:
            if request.config.getoption("--kafkasim-real"):
                pytest.skip("seeds and fault plans need the simulator")
            asked = _asked(request.config)
            for seed in chosen if asked is None else (asked,):
                recipe = seed if isinstance(seed, Recipe) else Recipe(seed, _plan(faults, seed))
                _run_seed(request.node, function, fixtures, recipe, settle, require_fired, cluster_options)

        run.kafkasim_scenario = Scenario(  # type: ignore[attr-defined]
            function.__name__,
            function,
            options=cluster_options,
            settle_s=settle,
            faults=None if faults is None else lambda seed: _plan(faults, seed),
            sizes={one.name: one.default for one in parameters[1:] if type(one.default) is int},
        )
        request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        own = [parameter for parameter in parameters[1:] if parameter.name != "request"]
        run.__signature__ = inspect.Signature([request, *own])  # type: ignore[attr-defined]
        del run.__wrapped__
        return run

    return decorate


# pytest collects functions by their name; this one makes tests and is none.
seeded.__test__ = False  # type: ignore[attr-defined]


def _asked(config: pytest.Config) -> int | Recipe | None:
    """The seed, or the run of a replay file, that the command line asks for."""
    recorded = replayed(config)
    if recorded is not None:
        return Recipe.from_values({"seed": 0, **recorded}) if "plan" in recorded else int(recorded.get("seed", 0))
    seed: int | None = config.getoption("--kafkasim-seed")
    return seed


def _plan(faults: Faults | None, seed: int) -> Plan:
    if faults is None:
        return Plan()
    return Plan.of(faults if isinstance(faults, Plan | Fault) else faults(seed))


def _run_seed(
    item: Any,
    function: Callable[..., Any],
    fixtures: Mapping[str, Any],
    recipe: Recipe,
    settle: float,
    require_fired: bool,
    options: Mapping[str, Any],
) -> None:
    failure: list[Breach] = []

    def judge(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        problem = trial.error
        if problem is None and require_fired:
            try:
                injection.require_fired()
            except AssertionError as never:
                problem = never
        if problem is not None or not trial.ok:
            breach = Breach(_screen(item, cluster, injection, recipe, trial.report, problem), trial.report)
            breach.__cause__ = problem
            failure.append(breach)

    scenario = Scenario(item.name, functools.partial(function, **fixtures), options=options, settle_s=settle)
    cook(scenario, recipe, on_end=judge)
    if failure:
        raise failure[0]


# --- what a failure says ---------------------------------------------------------------------------------------------


def _screen(
    item: Any, cluster: Any, injection: Injection, recipe: Recipe, report: Report | None, problem: BaseException | None
) -> str:
    plan_file, history_file = _keep(item, cluster, recipe)
    lines = [f"seed {recipe.seed}, {cluster.now:.3f} virtual seconds"]
    if problem is not None:
        lines.append(f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}")
    if report is not None and not report.ok:
        worst = report.findings[0]
        lines.append(f"promise broken: {worst}")
        if len(report.findings) > 1:
            lines.append(f"  and {len(report.findings) - 1} more")
    lines.append("faults: " + str(injection).replace("\n", "\n        "))
    lines += ["", *lanes(cluster.history, cluster.broker_ids()), ""]
    lines.append(f"replay:  pytest '{item.nodeid}' --kafkasim-replay {plan_file}")
    lines.append(f"history: {history_file}")
    return "\n".join(lines)


def _keep(item: Any, cluster: Any, recipe: Recipe) -> tuple[Path, Path]:
    """Write the plan and the history beside one another; relative to where pytest runs, so that the line can be pasted."""
    folder = item.config.rootpath / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in item.name)
    plan_file, history_file = folder / f"{name}-{recipe.seed}.json", folder / f"{name}-{recipe.seed}.history.jsonl"
    kept = {**recipe.to_values(), "test": item.nodeid}
    write_whole(plan_file, json.dumps(kept, indent=2))
    cluster.save_history(history_file)
    here = item.config.invocation_params.dir
    return Path(os.path.relpath(plan_file, here)), Path(os.path.relpath(history_file, here))
