"""``kafkasim replay`` and ``kafkasim shrink``: a failing run again, and the smallest one like it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.live import Live
from rich.text import Text

from kafkasim.cli.run import parse_duration
from kafkasim.explore.causes import Cause, causes_of
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.replay import Replayed, replay
from kafkasim.explore.replay_file import Replay, record
from kafkasim.explore.screen import screen
from kafkasim.explore.shrink import DEFAULT_BUDGET_S, Shrinker, Shrunk
from kafkasim.explore.targets import Target, scenario_for
from kafkasim.explore.trial import Trial
from kafkasim.handle import Cluster
from kafkasim.sim.injection import Injection

BROKEN = 1


def replay_command(path: str, loose: bool, as_json: bool) -> int:
    """The exit status."""
    recorded = Replay.load(path)
    lines: list[str] = []

    def on_end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        lines.extend(screen(cluster, injection, trial, recorded.cause))

    replayed = replay(recorded, loose=loose, on_end=on_end)
    if as_json:
        print(json.dumps(_replayed_values(recorded, replayed, loose), indent=2))
        return 0 if replayed.trial.ok else BROKEN
    for line in (*recorded.notes, *lines):
        print(line)
    if not loose:
        print(f"the same run: {len(recorded.tape):,} choices, fingerprint {recorded.fingerprint}")
    return 0 if replayed.trial.ok else BROKEN


def _replayed_values(recorded: Replay, replayed: Replayed, loose: bool) -> dict[str, Any]:
    trial = replayed.trial
    return {
        "target": recorded.target,
        "ok": trial.ok,
        "same": not loose,
        "fingerprint": trial.fingerprint,
        "findings": [[finding.invariant, finding.text] for finding in trial.findings],
        "run": recorded.recipe.to_values(),
    }


def shrink_command(path: str, out: str | None, time: str | None, as_json: bool, progress: bool | None) -> int:
    """The exit status: that of a failing run, which is what comes out."""
    recorded = Replay.load(path)
    if recorded.cause is None and not recorded.findings:
        print(f"{path}: no promise broke in this run, so there is nothing to shrink", file=sys.stderr)
        return 0
    time_us = parse_duration("--time", time)
    target = Target.of(recorded.target, duration_us=recorded.duration_us)
    cause = recorded.cause or causes_of(recorded.findings)[0]
    budget_s = DEFAULT_BUDGET_S if time_us is None else time_us / 1e6
    shrunk = shrink_with_progress(target, recorded.recipe, cause, budget_s, progress)
    file = Path(out) if out is not None else Path(path).with_suffix(".min.json")
    lines = save_shrunk(target, shrunk, file)
    if as_json:
        print(json.dumps(shrunk_values(shrunk, file), indent=2))
    else:
        print("\n".join(lines))
    return BROKEN


def shrink_with_progress(
    target: Target, recipe: Recipe, cause: Cause, budget_s: float, progress: bool | None = None
) -> Shrunk:
    """Shrink, with a line on stderr that says where it stands."""
    scenario = scenario_for(target)
    if not (sys.stderr.isatty() if progress is None else progress):
        return Shrinker(scenario, recipe, cause, budget_s).shrink()
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:

        def show(shrinker: Shrinker) -> None:
            sizes = ", ".join(f"{name} {size}" for name, size in shrinker.sizes.items())
            live.update(
                Text(
                    f"shrinking {cause.invariant}: {shrinker.step}; {len(shrinker.best.plan)} faults"
                    f"{', ' + sizes if sizes else ''}; {shrinker.runs} runs, {shrinker.wall_s:.0f} of {budget_s:.0f} s"
                ),
                refresh=True,
            )

        return Shrinker(scenario, recipe, cause, budget_s, show).shrink()


def save_shrunk(target: Target, shrunk: Shrunk, file: Path) -> list[str]:
    """Write the shrunk run as a replay file; the screen about it."""
    lines: list[str] = []

    def on_end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        lines.extend(screen(cluster, injection, trial, shrunk.cause, shrunk, replay_line(file)))

    cook(scenario_for(target), shrunk.recipe, on_end=on_end)
    notes = (f"shrunk: {shrunk.summary}", *(str(one) for one in shrunk.counterfactuals))
    record(target, shrunk.recipe, shrunk.cause, notes).save(file)
    return lines


def shrunk_values(shrunk: Shrunk, file: Path) -> dict[str, Any]:
    """Plain values."""
    return {
        "cause": [shrunk.cause.invariant, shrunk.cause.signature],
        "faults": len(shrunk.recipe.plan),
        "faults_before": len(shrunk.before.plan),
        "run": shrunk.recipe.to_values(),
        "counterfactuals": [attrs.asdict(one) for one in shrunk.counterfactuals],
        "runs": shrunk.runs,
        "wall_seconds": shrunk.wall_s,
        "minimal": shrunk.is_minimal,
        "replay": str(file),
    }


def replay_line(file: Path) -> str:
    """What to paste."""
    return f"kafkasim replay {shlex.quote(str(file))}"
