"""Looking into a recorded run: ``kafkasim why``, ``kafkasim diff``, and the pictures of ``kafkasim replay``.

Rule 1:   the run is made again from its replay file; where it is another one by now that is said, and nothing is shown of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from kafkasim.cli.run import check_picture_paths
from kafkasim.errors import ConfigurationError
from kafkasim.explore.diff import Difference, diff
from kafkasim.explore.recipe import cook
from kafkasim.explore.replay_file import Replay
from kafkasim.explore.targets import Target, scenario_for
from kafkasim.explore.trial import Scenario, Trial
from kafkasim.handle import Cluster
from kafkasim.report import story_of, write_page, write_sequence, write_trace
from kafkasim.sim.exchanges import Exchanges
from kafkasim.sim.injection import Injection
from kafkasim.views.chain import Explanation

BROKEN = 1
_WORDS = "record=VALUE, group=NAME, topic=NAME with partition=NUMBER, at=SECONDS"


def again(
    path: str,
    on_end: Callable[[Cluster, Injection, Trial], None],
    on_start: Callable[[Cluster, Injection], None] | None = None,
) -> tuple[Replay, Trial]:
    """Make the recorded run again. Raises ConfigurationError where it is not the same any more."""
    recorded = Replay.load(path)

    def end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        if trial.fingerprint == recorded.fingerprint:
            on_end(cluster, injection, trial)

    trial = cook(_scenario(recorded), recorded.recipe, on_start=on_start, on_end=end)
    if trial.fingerprint != recorded.fingerprint:
        raise ConfigurationError(
            f"{path}: this is not the run that was recorded any more (fingerprint {trial.fingerprint}, recorded "
            f"{recorded.fingerprint}); kafkasim replay {path} says where they part"
        )
    return recorded, trial


def _scenario(recorded: Replay) -> Scenario:
    return scenario_for(Target.of(recorded.target, duration_us=recorded.duration_us))


# --- why -------------------------------------------------------------------------------------------------------------


def why_command(path: str, words: Sequence[str], as_json: bool) -> int:
    """The exit status: 0 if there was something to explain."""
    asked = _asked(words)
    explained: list[Explanation] = []

    def explain(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        explained.append(cluster.why(**asked))

    try:
        again(path, explain)
    except (KeyError, ValueError, TypeError) as problem:
        raise ConfigurationError(str(problem.args[0])) from None
    explanation = explained[0]
    if as_json:
        print(json.dumps({**attrs.asdict(explanation), "summary": explanation.summary}, indent=2, default=str))
    else:
        print(explanation)
    return 0


def _asked(words: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments of ``cluster.why``."""
    asked: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value or name not in ("record", "group", "topic", "partition", "at"):
            raise ConfigurationError(f"{word!r}: expected {_WORDS}; for example: record=call-123 group=billing")
        try:
            asked[name] = int(value) if name == "partition" else float(value) if name == "at" else value
        except ValueError:
            raise ConfigurationError(f"{word!r}: expected a number") from None
    if not asked:
        raise ConfigurationError(f"nothing is asked: expected {_WORDS}")
    return asked


# --- diff ------------------------------------------------------------------------------------------------------------


def diff_command(path: str, flips: Mapping[str, bool], settings: Sequence[str], as_json: bool) -> int:
    """The exit status: 0 if the change made no difference to the verdict."""
    config = dict(map(_setting, settings))
    if not flips and not config:
        raise ConfigurationError(
            "nothing is changed: --without PROTECTION, --with PROTECTION or --set CONFIG=VALUE (a broker config)"
        )
    recorded = Replay.load(path)
    difference = diff(_scenario(recorded), recorded.recipe, features=flips, config=config)
    if as_json:
        print(json.dumps(_diff_values(difference), indent=2))
    else:
        print(difference)
    return BROKEN if difference.changes_verdict else 0


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigurationError(f"--set {text}: expected name=value, as in broker.session.timeout.ms=6000")
    return name.strip(), value.strip()


def _diff_values(difference: Difference) -> dict[str, Any]:
    sides = [
        {
            "label": side.label,
            "ok": side.trial.ok,
            "broken": list(side.trial.broken),
            "acked": side.acked,
            "failed": side.failed,
            "delivered": side.delivered,
            "event": None if difference.first is None else side.event_text(difference.first),
        }
        for side in (difference.left, difference.right)
    ]
    return {"first": difference.first, "changes_verdict": difference.changes_verdict, "sides": sides}


# --- pictures --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Pictures:
    """Where the page, the trace, the sequence diagram and the history of a run go; None: not asked for."""

    page: str | None = None
    trace: str | None = None
    sequence: str | None = None
    history: str | None = None

    @property
    def wanted(self) -> list[str]:
        return [path for path in (self.page, self.trace, self.sequence, self.history) if path is not None]

    def check(self) -> None:
        """Refuse now what cannot be written later."""
        check_picture_paths(self.wanted, self.page)

    def draw(self, path: str) -> None:
        """Make the run of a replay file again, watched, and write what is wanted."""
        watched: list[Exchanges] = []

        def start(cluster: Cluster, injection: Injection) -> None:
            watched.append(Exchanges(cluster, tuple(_scenario(Replay.load(path)).partitions[:4])))

        def end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
            self._write(cluster, injection, trial, watched[0], path)

        again(path, end, start)
        for file in self.wanted:
            print(f"wrote {file}", file=sys.stderr)

    def _write(self, cluster: Cluster, injection: Injection, trial: Trial, requests: Exchanges, path: str) -> None:
        story = story_of(
            cluster,
            title=trial.scenario,
            report=trial.report,
            fired=injection.fired,
            exchanges=requests,
            replay=f"kafkasim replay {path}",
        )
        if self.page is not None:
            write_page(story, self.page)
        if self.trace is not None:
            write_trace(story, self.trace)
        if self.sequence is not None:
            write_sequence(story, self.sequence)
        if self.history is not None:
            cluster.save_history(Path(self.history))
