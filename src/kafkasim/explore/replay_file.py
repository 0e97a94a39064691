"""Replay files: one run that can be had again, as one file of data.

Inputs:   a run that was recorded, or a file.      Effects: a `Replay`; ConfigurationError, in one line, for anything that is none.
Rule 1:   a file holds values and no code: its target is a name, which is imported as if it had been typed.
Rule 2:   what was changed, cut off or written for something else is refused before anything runs.
Rule 3:   ``seed`` and ``plan`` stand where ``pytest --kafkasim-replay`` looks for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from kafkasim.check.report import Finding
from kafkasim.errors import ConfigurationError
from kafkasim.explore.causes import Cause, finding_from_values, finding_to_values
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.targets import Target, scenario_for
from kafkasim.explore.trial import Trial
from kafkasim.handle import Cluster
from kafkasim.sim.choices import Tape
from kafkasim.sim.files import write_whole
from kafkasim.sim.injection import Injection
from kafkasim.sim.tape_text import tape_from_values, tape_to_values
from kafkasim.version import MODEL, VERSION

_FORMAT = "kafkasim replay"
FORMAT_NUMBER = 1
_MOST_CHECKPOINTS = 256
_MOST_BYTES = 512 << 20


@attrs.frozen
class Replay:
    """A run, and how it ended. ``cause`` is the failure that it is kept for; ``notes`` are lines for people."""

    target: str
    digest: str
    duration_us: int | None
    recipe: Recipe
    tape: Tape
    fingerprint: str
    checkpoints: tuple[tuple[int, str], ...]
    findings: tuple[Finding, ...]
    cause: Cause | None = None
    notes: tuple[str, ...] = ()
    version: str = VERSION
    model: int = MODEL

    def to_text(self) -> str:
        values: dict[str, Any] = {
            _FORMAT: FORMAT_NUMBER,
            "version": self.version,
            "model": self.model,
            "target": {"name": self.target, "digest": self.digest, "duration_us": self.duration_us},
            **self.recipe.to_values(),
            "cause": None if self.cause is None else [self.cause.invariant, self.cause.signature],
            "findings": [finding_to_values(finding) for finding in self.findings],
            "notes": list(self.notes),
            "fingerprint": self.fingerprint,
            "checkpoints": [list(checkpoint) for checkpoint in self.checkpoints],
            "tape": tape_to_values(self.tape),
        }
        values["digest"] = _digest(values)
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_text(cls, text: str, name: str = "replay") -> Replay:
        """Raises ConfigurationError."""
        try:
            return cls._from_values(_checked(text))
        except ConfigurationError as problem:
            raise ConfigurationError(f"{name}: {problem}") from None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as problem:
            raise ConfigurationError(f"{name}: a replay file with a part missing ({problem})") from None

    @classmethod
    def _from_values(cls, values: Mapping[str, Any]) -> Replay:
        target, cause = values["target"], values["cause"]
        duration_us = target["duration_us"]
        if duration_us is not None and (not isinstance(duration_us, int) or duration_us <= 0):
            raise ConfigurationError(f"duration_us is {duration_us!r:.40}, expected microseconds")
        return cls(
            target=str(target["name"]),
            digest=str(target["digest"]),
            duration_us=duration_us,
            recipe=Recipe.from_values(values),
            tape=tape_from_values(values["tape"]),
            fingerprint=str(values["fingerprint"]),
            checkpoints=tuple((int(at_us), str(digest)) for at_us, digest in values["checkpoints"]),
            findings=tuple(finding_from_values(finding) for finding in values["findings"]),
            cause=None if cause is None else Cause(str(cause[0]), str(cause[1])),
            notes=tuple(map(str, values["notes"])),
            version=str(values["version"]),
            model=int(values["model"]),
        )

    def save(self, path: str | Path) -> None:
        """Write it; the file is whole or absent."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), self.to_text())

    @classmethod
    def load(cls, path: str | Path) -> Replay:
        """Read a replay file; what a failing ``@kafkasim.test`` left is run once to record it. Raises ConfigurationError."""
        file = Path(path)
        try:
            if file.stat().st_size > _MOST_BYTES:
                raise ConfigurationError(f"{path}: longer than any replay file")
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigurationError(f"{path}: {getattr(problem, 'strerror', None) or 'no text'}") from None
        return _of_a_test(text) or cls.from_text(text, str(path))


def _of_a_test(text: str) -> Replay | None:
    """The run that a failing test left behind, recorded; None where the text is something else."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or _FORMAT in values or not isinstance(values.get("test"), str):
        return None
    if "records" in values:
        raise ConfigurationError(
            f"an example of the Hypothesis test {values['test']}: pytest --kafkasim-replay runs it"
        )
    return record(Target.of(values["test"]), Recipe.from_values(values))


def record(target: Target, recipe: Recipe, cause: Cause | None = None, notes: tuple[str, ...] = ()) -> Replay:
    """Run a recipe once more and keep all that it drew."""
    kept: list[tuple[Tape, tuple[tuple[int, str], ...]]] = []

    def on_end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        kept.append((cluster.choices.tape or [], thinned(cluster.trace.checkpoints)))

    trial = cook(scenario_for(target), recipe, record=True, on_end=on_end)
    tape, checkpoints = kept[0]
    return Replay(
        target.name,
        target.digest,
        target.duration_us,
        recipe,
        tape,
        trial.fingerprint,
        checkpoints,
        tuple(trial.findings),
        cause,
        notes,
    )


def thinned(checkpoints: list[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    """Every n-th, so that they stay few."""
    step = -(-len(checkpoints) // _MOST_CHECKPOINTS) or 1
    return tuple(checkpoints[step - 1 :: step])


def _checked(text: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigurationError("no replay file, or one that was cut off: it is no JSON") from None
    if not isinstance(values, dict) or _FORMAT not in values:
        raise ConfigurationError("no replay file: kafkasim explore, kafkasim shrink and failing tests write them")
    if values[_FORMAT] != FORMAT_NUMBER:
        raise ConfigurationError(
            f"a replay file of format {values[_FORMAT]!r:.20}, this kafkasim reads {FORMAT_NUMBER}"
        )
    digest = values.pop("digest", None)
    if digest != _digest(values):
        raise ConfigurationError(
            "the replay file was changed or damaged since it was written (its digest does not fit)"
        )
    return values


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
