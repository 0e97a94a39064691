"""Run a replay file again, and say so where the run is another one.

Inputs:   a `Replay`.      Effects: a `Replayed`: the trial, and the first difference if there is one.
Rule 1:   every choice comes from the tape; the first one that the program asks for otherwise ends the claim that it is the same run.
Rule 2:   where all choices are the same and the fingerprint is not, the time span of the first difference is told.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.explore.recipe import cook
from kafkasim.explore.replay_file import Replay, thinned
from kafkasim.explore.targets import Target, scenario_for
from kafkasim.explore.trial import Trial
from kafkasim.handle import Cluster
from kafkasim.sim.choices import ChoiceDiverged, Choices
from kafkasim.sim.injection import Injection
from kafkasim.version import MODEL, VERSION

OnEnd = Callable[[Cluster, Injection, Trial], None]


@attrs.frozen
class Replayed:
    """``difference`` is empty where the run was the recorded one, event by event."""

    trial: Trial
    difference: str = ""

    @property
    def is_same(self) -> bool:
        return not self.difference


class Differs(ConfigurationError):
    """The run is not the one in the file. ``trial`` is what became of it, if it came to an end."""

    def __init__(self, text: str, trial: Trial | None) -> None:
        super().__init__(text)
        self.trial = trial


def replay(recorded: Replay, *, loose: bool = False, on_end: OnEnd | None = None) -> Replayed:
    """Run it again.

    ``loose``: the same seed, plan and sizes under the code as it is now, whatever it draws: is the bug still there?

    Raises ConfigurationError where it cannot be the same run: another version of kafkasim, a target that is not there; and `Differs`
    where it is another one.
    """
    if not loose and (recorded.version, recorded.model) != (VERSION, MODEL):
        raise ConfigurationError(
            f"recorded by kafkasim {recorded.version} (model {recorded.model}), this is {VERSION} (model {MODEL}): the same choices may "
            "mean another run; --loose runs its seed and plan anyway"
        )
    target = Target.of(recorded.target, duration_us=recorded.duration_us)
    scenario = scenario_for(target)
    if loose:
        return Replayed(cook(scenario, recorded.recipe, on_end=on_end))
    choices = Choices.replaying(recorded.tape, seed=recorded.recipe.seed)
    checkpoints: list[tuple[int, str]] = []

    def keep(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        checkpoints.extend(thinned(cluster.trace.checkpoints))
        if on_end is not None and choices.diverged is None:
            on_end(cluster, injection, trial)

    try:
        trial = cook(scenario, recorded.recipe, choices=choices, on_end=keep)
    except ChoiceDiverged as problem:
        raise Differs(_advice(str(problem), target, recorded), None) from None
    difference = _difference(recorded, trial, choices, checkpoints)
    if difference:
        raise Differs(_advice(difference, target, recorded), trial)
    return Replayed(trial)


def _difference(recorded: Replay, trial: Trial, choices: Choices, checkpoints: list[tuple[int, str]]) -> str:
    if choices.diverged is not None:
        return str(choices.diverged)
    left = choices.next_on_tape
    if left is not None:
        return f"the run ended before its tape, which goes on with use {left.use} of {left.label!r}"
    if trial.fingerprint != recorded.fingerprint:
        where = _first_difference(recorded.checkpoints, checkpoints)
        return f"every choice is the same, the run is not: fingerprint {trial.fingerprint}, recorded {recorded.fingerprint}{where}"
    if tuple(trial.findings) != recorded.findings:
        return f"the same run is judged otherwise: {len(trial.findings)} findings, recorded {len(recorded.findings)}"
    return ""


def _first_difference(recorded: tuple[tuple[int, str], ...], found: list[tuple[int, str]]) -> str:
    before_us = 0
    for wanted, got in zip(recorded, found):
        if wanted != got:
            return f"; they part between {before_us / 1e6:.6f} s and {wanted[0] / 1e6:.6f} s"
        before_us = wanted[0]
    return f"; they part after {before_us / 1e6:.6f} s"


def _advice(difference: str, target: Target, recorded: Replay) -> str:
    changed = " (its source has changed since)" if target.digest != recorded.digest else ""
    return f"{target.name}{changed}: {difference}; --loose runs the same seed and plan under the code as it is now"
