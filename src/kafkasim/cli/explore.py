"""``kafkasim explore``: run a campaign, show how it goes, and say what it found."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kafkasim.cli.interrupts import noted_interrupts
from kafkasim.cli.replay import replay_line, save_shrunk, shrink_with_progress
from kafkasim.cli.run import parse_duration
from kafkasim.errors import ConfigurationError
from kafkasim.explore.campaign import Campaign, Failure, Result, explore
from kafkasim.explore.replay_file import record
from kafkasim.explore.shrink import DEFAULT_BUDGET_S
from kafkasim.explore.targets import Target

BROKEN = 1
INTERRUPTED = 130
_EVERY_S = 0.25
_EVERY_WITHOUT_TERMINAL_S = 10.0
_SCHEDULER_PATIENCE = "10s"
_MOST_CAUSES = 8


def explore_command(
    name: str,
    seed: int,
    seeds: int | None,
    time: str | None,
    failures: int | None,
    jobs: int,
    scheduler: str | None,
    results: str | None,
    duration: str | None,
    out: str,
    shrinks: bool,
    as_json: bool,
    progress: bool | None,
) -> int:
    """The exit status."""
    time_us = parse_duration("--time", time)
    target = Target.of(name, duration_us=parse_duration("--for", duration))
    shows_progress = sys.stderr.isatty() if progress is None else progress
    with ExitStack() as stack:
        executor = None if scheduler is None else stack.enter_context(dask_executor(scheduler))
        interrupts = stack.enter_context(noted_interrupts())
        board = stack.enter_context(Board()) if shows_progress else None
        result = explore(
            target,
            seed=seed,
            seeds=seeds,
            time=None if time_us is None else time_us / 1e6,
            failures=failures,
            jobs=jobs,
            executor=executor,
            workers=None if executor is None else executor.workers,
            results=results,
            on_progress=None if board is None else board.show,
            should_stop=lambda: bool(interrupts),
        )
    saved = save_failures(target, result, Path(out))
    if as_json:
        print(json.dumps({**result.as_json(), "replays": [str(file) for file in saved]}, indent=2))
    else:
        show_result(result, saved)
    if shrinks and result.stopped_by != "interrupt":
        shrink_failures(target, result, saved, shows_progress, as_json)
    if result.stopped_by == "interrupt":
        return INTERRUPTED
    return 0 if result.ok else BROKEN


def save_failures(target: Target, result: Result, folder: Path) -> list[Path]:
    """A replay file for each failure, named after it."""
    files = []
    for number, failure in enumerate(result.failures, 1):
        file = folder / f"{_file_name(target.name)}-{number}-{failure.cause.invariant}.json"
        if failure.witness.fingerprint:
            record(target, failure.witness.recipe, failure.cause).save(file)
        files.append(file)
    return files


def shrink_failures(target: Target, result: Result, files: list[Path], progress: bool, is_quiet: bool) -> None:
    """The smallest run for each failure, as a screen and as a file beside its first one."""
    for failure, file in zip(result.failures, files):
        if not failure.witness.fingerprint:
            continue
        shrunk = shrink_with_progress(target, failure.witness.recipe, failure.cause, DEFAULT_BUDGET_S, progress)
        lines = save_shrunk(target, shrunk, file.with_suffix(".min.json"))
        if not is_quiet:
            print("\n".join(["", *lines]))


def _file_name(target: str) -> str:
    """The function's or the design's own name."""
    name = target.rpartition(":")[2].removesuffix(".toml").rpartition("/")[2]
    return "".join(letter if letter.isalnum() else "_" for letter in name)


@contextmanager
def dask_executor(address: str) -> Iterator[Any]:
    """An executor on a Dask cluster, which runs again by itself what a lost worker had in hand."""
    try:
        client_class: Any = import_module("distributed").Client
    except ImportError:
        raise ConfigurationError("--scheduler needs Dask: pip install 'kafkasim[dask]'") from None
    try:
        client = client_class(address, timeout=_SCHEDULER_PATIENCE, set_as_default=False)
    except OSError as problem:
        raise ConfigurationError(f"--scheduler {address}: no Dask scheduler answers there ({problem})") from None
    with client:
        workers = sum(client.nthreads().values())
        if not workers:
            raise ConfigurationError(f"--scheduler {address}: the scheduler has no workers")
        executor = client.get_executor(pure=False, retries=3)
        executor.workers = workers
        yield executor


# --- progress --------------------------------------------------------------------------------------------------------


class Board:
    """A few lines on stderr that are drawn anew; between trials only, as trials have a clock of their own."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._last = 0.0

    def __enter__(self) -> Board:
        self._live.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._live.__exit__(*problem)

    def show(self, campaign: Campaign) -> None:
        now = monotonic()
        if self._console.is_terminal and now - self._last >= _EVERY_S:
            self._last = now
            self._live.update(_board(campaign), refresh=True)
        elif not self._console.is_terminal and now - self._last >= _EVERY_WITHOUT_TERMINAL_S:
            self._last = now
            self._console.print(_board(campaign))


def _board(campaign: Campaign) -> Group:
    budget = "" if campaign.seeds is None else f" of {campaign.seeds:,}"
    seconds = "" if campaign.time_s is None else f" of {campaign.time_s:.0f}"
    tally = campaign.tally
    head = Text(
        f"{campaign.name}: {campaign.taken:,}{budget} seeds in {campaign.wall_s:.0f}{seconds} s, {campaign.rate:.1f} a second, "
        f"{campaign.failed_trials:,} failed"
    )
    seen = Text(
        f"{len(tally.items):,} events in their states, {len(tally.cells):,} faults at events, {len(tally.states):,} states; "
        f"the next seed shows something new with a chance of {tally.unseen:.0%}"
    )
    listed = [Text(_line(failure)) for failure in list(campaign.failures.values())[:_MOST_CAUSES]]
    return Group(head, seen, *listed)


def _line(failure: Failure) -> str:
    return f"  {failure.trials:>5} × {failure.cause}"


# --- the result ------------------------------------------------------------------------------------------------------


def show_result(result: Result, saved: Sequence[Path] = ()) -> None:
    """What was found, what was covered, and what was not."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{result.target}: {result.trials:,} seeds ({result.failed_trials:,} failed), {result.virtual_s:,.0f} virtual seconds in "
        f"{result.wall_s:.1f} s, {result.trials / max(result.wall_s, 1e-9):.1f} seeds a second; campaign seed {result.seed}, "
        f"ended by its budget of {result.stopped_by}"
        if result.stopped_by != "interrupt"
        else f"{result.target}: interrupted after {result.trials:,} seeds"
    )
    for number, failure in enumerate(result.failures, 1):
        _show_failure(console, number, failure)
        if number <= len(saved):
            console.print(f"  replay: {replay_line(saved[number - 1])}", markup=False)
    tally = result.tally
    console.print()
    console.print("policies   " + ", ".join(f"{name} {count}" for name, count in sorted(result.policies.items())))
    console.print(
        f"covered    {len(tally.items):,} (role, state, event), {len(tally.cells):,} (fault, event, role), "
        f"{len(tally.states):,} abstract states"
    )
    console.print(f"sometimes  {len(tally.reached)} reached")
    if result.never:
        console.print("never      " + "; ".join(result.never), markup=False)
    found = f"{len(result.failures)} different failures" if result.failures else "no promise broke"
    console.print(f"{found}; the next seed shows something new with a chance of about {result.unseen:.1%}")


def _show_failure(console: Console, number: int, failure: Failure) -> None:
    witness = failure.witness
    console.print()
    console.print(
        f"FAILED {number}: {failure.cause.invariant}, in {failure.trials:,} trials", style="bold", markup=False
    )
    console.print(f"  {failure.text}", markup=False)
    plan = str(witness.recipe.plan).splitlines()
    console.print(
        f"  trial {witness.number} ({witness.policy}), seed {witness.recipe.seed}, faults: {plan[0]}", markup=False
    )
    for line in plan[1:]:
        console.print(f"      {line}", markup=False)
