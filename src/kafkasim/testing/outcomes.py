"""A small pytest plugin: each test's outcome as a line of JSON, while the run goes on.

Inputs:   ``-p kafkasim.testing.outcomes --kafkasim-outcomes FILE``.
Effects:  the file: ``{"id", "outcome", "detail", "seconds"}`` a test, and ``{"collected", "exit"}`` at the end of a whole run.
Rule 1:   a test is "passed", "failed" (in its body, a fixture or its clean-up) or "skipped"; the first that is not "passed" stands.
Rule 2:   a run that was cut short has no last line, and is told apart by that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_DETAIL_CHARACTERS = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one flag."""
    parser.getgroup("kafkasim").addoption(
        "--kafkasim-outcomes", metavar="FILE", help="write each test's outcome as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect outcomes where they were asked for."""
    file = config.getoption("--kafkasim-outcomes")
    if file:
        config.pluginmanager.register(_Outcomes(Path(file)), "kafkasim-outcomes")


class _Outcomes:
    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8")
        self._outcome = "passed"
        self._detail = ""
        self._seconds = 0.0

    def pytest_runtest_logstart(self) -> None:
        self._outcome, self._detail, self._seconds = "passed", "", 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds += report.duration
        if report.outcome != "passed" and self._outcome == "passed":
            self._outcome, self._detail = report.outcome, _detail(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        entry = {"id": nodeid, "outcome": self._outcome, "detail": self._detail, "seconds": round(self._seconds, 3)}
        self._write(entry)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            self._write({"collected": session.testscollected, "exit": int(exitstatus)})
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def _detail(report: pytest.TestReport) -> str:
    """One line: why it was skipped, or what was raised."""
    if isinstance(report.longrepr, tuple):  # (file, line, reason) of a skip
        text = str(report.longrepr[2]).removeprefix("Skipped: ")
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = str(crash.message if crash is not None else report.longrepr)
    return " ".join(text.split())[:_DETAIL_CHARACTERS]
