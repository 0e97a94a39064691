"""``@kafkasim.test``: one test body under many seeds and a fault plan for each, for those who want seeds rather than Hypothesis.

Inputs:   a function that takes the cluster first; ``seeds``, ``faults`` (a plan, or a function of the seed), the cluster's options.
Effects:  a pytest test. A failure prints one screen and leaves the plan and the whole history in files that it names.
Rule 1:   after the body the plan is healed, the cluster gets ``settle`` seconds, and its history is checked: a breach fails the test.
Rule 2:   ``--kafkasim-seed N`` runs that seed alone, ``--kafkasim-seeds N`` so many; ``--kafkasim-replay FILE`` runs the seed and the
          plan of a failure.
Rule 3:   what pytest shows is the test's own traceback, where it raised, and the screen; nothing of the way in between.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from kafkasim.check.report import Report
from kafkasim.errors import ConfigurationError
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.screen import screen
from kafkasim.explore.trial import Scenario, Trial
from kafkasim.handle import Cluster
from kafkasim.sim.files import write_whole
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan import Fault, Plan
from kafkasim.testing.plugin import replayed

Faults = Plan | Fault | Callable[[int], Plan | Fault]
_FOLDER = Path(".kafkasim") / "failures"


class Breach(AssertionError):
    """A promise was broken under a seed. The text is one screen; ``report`` has every finding.

    ``is_screen`` tells the plugin to show it as it is, below what the test itself raised (``__cause__``).
    """

    is_screen = True

    def __init__(self, text: str, report: Report | None) -> None:
        super().__init__(text)
        self.report = report


@attrs.frozen
class _Wanted:
    """What the decorator was told."""

    seeds: tuple[int, ...]
    faults: Faults | None
    settle: float
    require_fired: bool
    options: Mapping[str, Any]


def seeded(
    function: Callable[..., Any] | None = None,
    *,
    seeds: int | Iterable[int] = 20,
    faults: Faults | None = None,
    settle: float = 30.0,
    require_fired: bool = False,
    **cluster_options: Any,
) -> Callable[..., Any]:
    """Run a test function under many seeds, each with a simulated cluster of its own.

    Args:
        seeds: how many, or which.
        faults: a plan (``kafkasim.faults``), or a function that makes one from the seed (a nemesis, say).
        settle: virtual seconds between the end of the body, with all faults healed, and the check of the history.
        require_fired: fail where a planned fault never happened.
        cluster_options: ``brokers``, ``config``, ``racks``, ``features`` … as of ``kafkasim.Cluster``.

    The function gets the cluster as its first argument (a method, after ``self``), and pytest's fixtures by name. While it runs,
    ``confluent_kafka``, the clock, ``random``, threads and event loops are the cluster's. ``@kafkasim.test`` alone is ``@kafkasim.test()``.
    """
    if function is not None and not callable(function):
        raise ConfigurationError(f"@kafkasim.test({function!r}): seeds go by name, seeds={function!r}")
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise ConfigurationError(f"seeds={seeds!r}: no seed to run")
    wanted = _Wanted(chosen, faults, settle, require_fired, cluster_options)
    return functools.partial(_decorate, wanted) if function is None else _decorate(wanted, function)


def _decorate(wanted: _Wanted, function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = _parameters(function)
    if inspect.iscoroutinefunction(function):
        function = _run_to_its_end(function)
    own = parameters[:1] if parameters and parameters[0].name == "self" else []
    others = parameters[len(own) + 1 :]

    @functools.wraps(function)
    def run(*instance: Any, request: pytest.FixtureRequest, **fixtures: Any) -> None:
        __tracebackhide__ = True
        if request.config.getoption("--kafkasim-real"):
            pytest.skip("seeds and fault plans need the simulator")
        for recipe in _recipes(wanted, request.config):
            body = functools.partial(function, *instance) if instance else function
            _run_seed(request.node, body, fixtures, recipe, wanted)

    run.kafkasim_scenario = Scenario(  # type: ignore[attr-defined]
        function.__name__,
        function,
        options=wanted.options,
        settle_s=wanted.settle,
        faults=None if wanted.faults is None else lambda seed: _plan(wanted.faults, seed),
        sizes={one.name: one.default for one in others if type(one.default) is int},
    )
    request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY)
    fixtures = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others if parameter.name != "request"
    ]
    run.__signature__ = inspect.Signature([*own, request, *fixtures])  # type: ignore[attr-defined]
    del run.__wrapped__
    return run


def _run_to_its_end(function: Callable[..., Any]) -> Callable[..., Any]:
    """A coroutine function as a plain one; its event loop lives in virtual time, as the body does."""

    @functools.wraps(function)
    def run(*args: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        return asyncio.run(function(*args, **keywords))

    return run


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Raises ConfigurationError for what cannot be a test: it would pass without having been run."""
    name = getattr(function, "__name__", repr(function))
    for is_such, kind in (
        (inspect.isgeneratorfunction, "a generator function"),
        (inspect.isasyncgenfunction, "an asynchronous generator function"),
    ):
        if is_such(function):
            raise ConfigurationError(
                f"{name}() is {kind}: calling it runs nothing; make it a plain function, or async def"
            )
    parameters = list(inspect.signature(function).parameters.values())
    if not [parameter for parameter in parameters if parameter.name != "self"]:
        raise ConfigurationError(f"{name}() takes no argument: the first one is the cluster")
    return parameters


# pytest collects functions by their name; this one makes tests and is none.
seeded.__test__ = False  # type: ignore[attr-defined]


def _recipes(wanted: _Wanted, config: pytest.Config) -> list[Recipe]:
    """The runs that the decorator or, before it, the command line asks for."""
    recorded = replayed(config)
    if recorded is not None and "plan" in recorded:
        return [Recipe.from_values({"seed": 0, **recorded})]
    first: int | None = config.getoption("--kafkasim-seed")
    if recorded is not None:
        first = int(recorded.get("seed", 0))
    count: int | None = config.getoption("--kafkasim-seeds")
    seeds: Iterable[int] = wanted.seeds
    if first is not None or count is not None:
        seeds = range(first or 0, (first or 0) + (count or 1))
    return [Recipe(seed, _plan(wanted.faults, seed)) for seed in seeds]


def _plan(faults: Faults | None, seed: int) -> Plan:
    if faults is None:
        return Plan()
    return Plan.of(faults if isinstance(faults, Plan | Fault) else faults(seed))


def _run_seed(
    item: Any, function: Callable[..., Any], fixtures: Mapping[str, Any], recipe: Recipe, wanted: _Wanted
) -> None:
    __tracebackhide__ = True
    failure: list[Breach] = []

    def judge(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        problem = trial.error
        if problem is None and wanted.require_fired:
            try:
                injection.require_fired()
            except AssertionError as never:
                problem = never.with_traceback(None)
        if problem is not None or not trial.ok:
            told = attrs.evolve(trial, error=problem)
            breach = Breach(_screen(item, cluster, injection, recipe, told), trial.report)
            breach.__cause__ = problem
            failure.append(breach)

    body = functools.partial(function, **fixtures)
    scenario = Scenario(item.name, body, options=wanted.options, settle_s=wanted.settle)
    trial = cook(scenario, recipe, on_end=judge)
    if failure:
        raise failure[0]
    if item.config.getoption("--kafkasim-check-determinism"):
        again = cook(scenario, recipe)
        if again.fingerprint != trial.fingerprint:
            raise AssertionError(
                f"not deterministic: seed {recipe.seed} gave fingerprint {trial.fingerprint} in the first run "
                f"and {again.fingerprint} in the second"
            )


# --- what a failure says ---------------------------------------------------------------------------------------------


def _screen(item: Any, cluster: Cluster, injection: Injection, recipe: Recipe, trial: Trial) -> str:
    plan_file, history_file = _keep(item, cluster, recipe)
    lines = screen(cluster, injection, trial)
    lines += ["", f"replay:  pytest '{item.nodeid}' --kafkasim-replay {plan_file}"]
    if "[" not in item.nodeid:
        lines.append(f"shrink:  kafkasim shrink {plan_file}")
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
