"""``kafkasim conform``: one suite on real Kafka and then on the simulator, and every difference between the two.

Inputs:   a pytest suite that uses the fixture ``kafka_cluster``; a bootstrap address, or Kafka's jars for brokers of our own.
Effects:  two pytest processes, one after the other; a report as Markdown and JSON; on demand the page that the documentation cites.
Rule 1:   a file is written whole or not at all.
Rule 2:   a test that differs is run once more, alone, on both sides; the second try is told as what it is.
Rule 3:   Ctrl-C (SIGTERM, SIGHUP) reaches the running pytest once, and is waited for: it has brokers to stop.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from kafkasim import __version__
from kafkasim.errors import ConfigurationError, Unsupported
from kafkasim.testing import divergences
from kafkasim.testing.divergences import Comparison, Outcomes

BROKEN = 1
INTERRUPTED = 130
_CLEAN_UP_S = 60.0


def conform_command(
    suite: Sequence[str],
    real: str,
    list_file: str,
    report: str,
    document: str | None,
    select: str | None,
    timeout_s: float,
    as_json: bool,
) -> int:
    """The exit status: 0 where both sides agree but for what is listed."""
    missing = [path for path in suite if not Path(path.partition("::")[0]).exists()]
    if missing:
        raise ConfigurationError(f"no suite at {missing[0]}: run this in the project's folder, or name a suite")
    listed = divergences.read_divergences(Path(list_file))
    versions = _versions(real)
    is_part = select is not None or any("::" in path for path in suite)
    try:
        with tempfile.TemporaryDirectory(prefix="kafkasim-conform-") as folder, _interrupts():
            runner = _Runner(suite, select, timeout_s, Path(folder))
            on_real = runner.run("real", "real Kafka", [f"--kafkasim-real={real}"])
            on_simulator = runner.run("simulator", "the simulator", [])
            comparison = divergences.compare(on_simulator, on_real, listed, is_part=is_part)
            _try_again(comparison, runner, real)
    except KeyboardInterrupt:
        print("kafkasim conform: interrupted", file=sys.stderr)
        return INTERRUPTED
    seconds = {"real": on_real.seconds, "simulator": on_simulator.seconds}
    result = divergences.as_json(comparison, versions, seconds)
    target = Path(report)
    target.mkdir(parents=True, exist_ok=True)
    write_whole(target / "conformance.json", json.dumps(result, indent=1) + "\n")
    write_whole(target / "conformance.md", divergences.as_markdown(comparison, versions))
    is_whole = on_real.is_whole and on_simulator.is_whole
    if document is not None and is_whole and not is_part:
        write_whole(Path(document), divergences.as_document(comparison, versions))
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        _show(comparison, on_real, on_simulator, target)
    return 0 if comparison.ok and is_whole else BROKEN


def _try_again(comparison: Comparison, runner: _Runner, real: str) -> None:
    """A test of a real cluster that shared its machine with others may fail by accident; one that is wrong fails alone too."""
    for number, row in enumerate(divergences.to_try_again(comparison)):
        on_real = runner.run(f"real-again-{number}", "real Kafka, once more", [f"--kafkasim-real={real}"], row.test)
        on_simulator = runner.run(f"simulator-again-{number}", "the simulator, once more", [], row.test)
        divergences.tried_again(row, on_simulator, on_real)


def write_whole(file: Path, text: str) -> None:
    """Write beside the file, then rename over it."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as beside:
            beside.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _versions(real: str) -> dict[str, str]:
    """What was compared, without an address or a path."""
    try:
        client = importlib.metadata.version("confluent-kafka")
        importlib.metadata.version("pytest")
    except importlib.metadata.PackageNotFoundError as missing:
        raise ConfigurationError(f"this needs {missing.name}: pip install 'kafkasim[confluent,pytest]'") from None
    kafka = "the cluster behind a bootstrap address"
    if real == "local":
        # confluent_kafka, which kafkasim.real loads, is there: it was just looked up.
        from kafkasim.real.local_kafka import find_java, find_kafka_libs

        try:
            find_java()
            jars = sorted(find_kafka_libs().glob("kafka_2.1*.jar"))
        except Unsupported as problem:
            raise ConfigurationError(str(problem)) from None
        found = re.search(r"kafka_[\d.]+-(\d[\w.]*?)\.jar$", jars[0].name)
        kafka = found.group(1) if found else jars[0].name
    return {"kafkasim": __version__, "Kafka": kafka, "confluent-kafka": client}


class _Runner:
    """Runs the suite in a process of its own and reads what it left."""

    def __init__(self, suite: Sequence[str], select: str | None, timeout_s: float, folder: Path) -> None:
        self._suite = suite
        self._select = [] if select is None else ["-k", select]
        self._timeout_s = timeout_s
        self._folder = folder

    def run(self, name: str, where: str, flags: Sequence[str], only: str | None = None) -> Outcomes:
        """The whole suite, or one test of it."""
        print(f"--- {where}", file=sys.stderr, flush=True)
        file = self._folder / f"{name}.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "kafkasim.testing.outcomes"]
        command += [f"--kafkasim-outcomes={file}", *flags]
        command += [only] if only is not None else [*self._select, *self._suite]
        started = time.monotonic()
        # A group of its own: the terminal's Ctrl-C reaches it through us, once. What it prints is progress: to stderr.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            process_group=0,
            preexec_fn=_hear_interrupts,  # noqa: PLW1509 - no threads
        )
        try:
            process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            print(f"kafkasim conform: stopped after {self._timeout_s:g} s on {where}", file=sys.stderr)
        finally:
            _end(process)
        outcomes = divergences.read_outcomes(file)
        outcomes.seconds = time.monotonic() - started
        return outcomes


def _hear_interrupts() -> None:
    """What a shell starts in the background is deaf to SIGINT, and so would be what we start; but by SIGINT we end it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt it where it still runs; what does not end then is killed, and its brokers by their warden."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_CLEAN_UP_S)
    finally:  # Also where Ctrl-C came again.
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP end as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(comparison: Comparison, real: Outcomes, simulator: Outcomes, target: Path) -> None:
    for row in comparison.rows:
        if row.verdict in divergences.UNEXPECTED:
            print(f"{row.verdict.upper()}  {row.test}")
            for side, outcome in (("simulator", row.simulator), ("real", row.real)):
                if outcome is not None:
                    print(f"    {side}: {outcome.outcome} {outcome.detail}".rstrip())
        elif row.verdict == divergences.SECOND_TRY:
            print(f"{row.verdict.upper()}  {row.test}\n    {row.reason}")
    for entry in comparison.stale:
        print(f"LISTED, BUT NO LONGER SO  {entry}")
    for side, outcomes in (("real Kafka", real), ("the simulator", simulator)):
        if not outcomes.is_whole:
            print(f"CUT SHORT  the run on {side} did not come to its end")
    numbers = divergences.counts(comparison)
    total = numbers.pop("tests")
    print(f"{total} tests: " + ", ".join(f"{number} {verdict}" for verdict, number in numbers.items()))
    listed, unlisted = comparison.count(divergences.LISTED), comparison.count(*divergences.UNEXPECTED)
    print(f"{listed + unlisted} divergences, {unlisted} of them not listed")
    print(f"real Kafka {real.seconds:.1f} s, simulator {simulator.seconds:.1f} s; report in {target}")
