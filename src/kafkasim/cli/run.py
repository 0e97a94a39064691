"""``kafkasim run``: read a design, run it, show the result."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from kafkasim.cli.interrupts import noted_interrupts
from kafkasim.cli.show import show_result
from kafkasim.errors import ConfigurationError
from kafkasim.handle import Cluster
from kafkasim.lab.read_design import read_design
from kafkasim.lab.reading import DURATIONS, duration_us
from kafkasim.lab.result import Result
from kafkasim.lab.run import Progress, run_design
from kafkasim.plot.files import plotly_graphs
from kafkasim.report.page import write_page
from kafkasim.report.perfetto import write_trace
from kafkasim.report.story import story_of

BROKEN = 1
INTERRUPTED = 130
_PROGRESS_EVERY_S = 0.2


def run_command(
    path: str,
    seed: int | None,
    duration: str | None,
    as_json: bool,
    progress: bool | None,
    page: str | None = None,
    trace: str | None = None,
) -> int:
    """The exit status."""
    pictures = _Pictures(path, page, trace)
    try:
        design = read_design(path)
    except OSError as problem:
        raise ConfigurationError(f"{path}: {problem.strerror}") from None
    shows_progress = sys.stderr.isatty() if progress is None else progress
    line = _ProgressLine() if shows_progress else None
    with noted_interrupts() as interrupts, _left_uncollected():
        result = run_design(
            design,
            seed=seed,
            duration_us=parse_duration("--for", duration),
            on_progress=None if line is None else line.show,
            should_stop=lambda: bool(interrupts),
            on_end=pictures.draw if page or trace else None,
        )
    if line is not None:
        line.clear()
    if as_json:
        print(json.dumps(result.as_json(), indent=2))
    else:
        show_result(result)
    if not result.complete:
        return INTERRUPTED
    return 0 if result.ok else BROKEN


@contextmanager
def _left_uncollected() -> Iterator[None]:
    """What is made here stays: the world of a run is one great cycle of records, and looking through it for garbage, once it is over,
    would take as long as a good part of the run. The process ends soon.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def parse_duration(option: str, text: str | None) -> int | None:
    """Microseconds of an option's value: seconds, or with a unit."""
    if text is None:
        return None
    try:
        value = duration_us(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError:
        raise ConfigurationError(f"{option} {text}: expected {DURATIONS}") from None
    if value == 0:
        raise ConfigurationError(f"{option} {text}: expected more than 0")
    return value


def check_picture_paths(paths: Sequence[str], page: str | None) -> None:
    """Raises ConfigurationError for a file whose folder is not there, and for a page without Plotly."""
    for path in paths:
        if not Path(path).absolute().parent.is_dir():
            raise ConfigurationError(f"{path}: there is no folder {Path(path).absolute().parent}")
    if page is not None:
        try:
            plotly_graphs()
        except ImportError as problem:
            raise ConfigurationError(f"--report {page}: {problem}") from None


class _Pictures:
    """``--report`` and ``--trace``: what can be refused is refused before the run."""

    def __init__(self, design: str, page: str | None, trace: str | None) -> None:
        self._design = design
        self._page = page
        self._trace = trace
        check_picture_paths([path for path in (page, trace) if path is not None], page)

    def draw(self, cluster: Cluster, result: Result) -> None:
        story = story_of(cluster, title=self._design)
        broken = [
            f"{promise.group}: {promise.promise}: {promise.reason}" for promise in result.promises if not promise.kept
        ]
        story.broken = [*result.broken_checks, *broken]
        story.allowed = result.allowed
        story.verdict = f"{len(result.promises) - len(broken)} of {len(result.promises)} promises kept"
        story.replay = f"kafkasim run {self._design} --seed {result.seed}"
        if self._page is not None:
            write_page(story, self._page)
        if self._trace is not None:
            write_trace(story, self._trace)


class _ProgressLine:
    """One line on stderr, written over itself."""

    def __init__(self) -> None:
        self._last = 0.0

    def show(self, progress: Progress) -> None:
        now = monotonic()
        if now - self._last < _PROGRESS_EVERY_S:
            return
        self._last = now
        rate = progress.virtual_s / progress.wall_s if progress.wall_s else 0.0
        left = (progress.total_s - progress.virtual_s) / rate if rate else 0.0
        sys.stderr.write(
            f"\r{progress.virtual_s:.0f} of {progress.total_s:.0f} virtual seconds, {rate:.0f} times real time, "
            f"about {left:.0f} s left, {progress.records:,} records, {progress.delivered:,} deliveries\x1b[K"
        )
        sys.stderr.flush()

    def clear(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
