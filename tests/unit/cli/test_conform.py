"""``kafkasim conform`` on small suites, against an address where nobody listens: what it runs, writes and answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kafkasim.cli.conform import write_whole

SAME = """
def test_same(): pass
"""
DIFFERENT = """
def test_same(): pass
def test_different(request): assert request.config.getoption("--kafkasim-real") is None, "only here"
"""


def conform(folder: Path, suite: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a suite in a folder of its own."""
    (folder / "test_suite.py").write_text(suite)
    command = [sys.executable, "-m", "kafkasim", "conform", "test_suite.py", "--real=127.0.0.1:1", "--report=out"]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_agreement(tmp_path: Path) -> None:
    """Status 0, the counts, the report, and the page where it was asked for."""
    done = conform(tmp_path, SAME, "--document=page.md")
    assert done.returncode == 0, done.stderr
    assert "1 tests: 1 same" in done.stdout
    assert "0 divergences, 0 of them not listed" in done.stdout
    assert json.loads((tmp_path / "out" / "conformance.json").read_text())["ok"] is True
    assert "test_suite.py::test_same" in (tmp_path / "out" / "conformance.md").read_text()
    page = (tmp_path / "page.md").read_text()
    assert "| tests | 1 |" in page
    assert str(tmp_path) not in page
    assert "127.0.0.1" not in page


@pytest.mark.slow
def test_divergence(tmp_path: Path) -> None:
    """Status 1 and both sides' words; 0 once it is listed with a reason; 1 again where it is listed and gone."""
    done = conform(tmp_path, DIFFERENT)
    assert done.returncode == 1
    assert (
        "DIVERGES  test_suite.py::test_different\n    simulator: passed\n    real: failed AssertionError: only here"
        in done.stdout
    )
    (tmp_path / "list.toml").write_text('[divergences]\n"test_suite.py::test_different" = "as a trial"\n')
    done = conform(tmp_path, DIFFERENT, "--divergences=list.toml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["diverges, as listed"] == 1
    done = conform(tmp_path, SAME, "--divergences=list.toml")
    assert done.returncode == 1
    assert "LISTED, BUT NO LONGER SO  test_suite.py::test_different" in done.stdout


FLAKY = """
from pathlib import Path

def test_flaky(request):
    first = Path("tried")
    if request.config.getoption("--kafkasim-real") and not first.exists():
        first.touch()
        raise AssertionError("at first")
"""


@pytest.mark.slow
def test_a_second_try_is_told(tmp_path: Path) -> None:
    """A test that differs runs once more, alone; that it agreed then is counted and printed apart, with what it did at first."""
    done = conform(tmp_path, FLAKY)
    assert done.returncode == 0, done.stderr
    assert "1 tests: 0 same, 1 same, second try" in done.stdout
    assert "SAME, SECOND TRY  test_suite.py::test_flaky" in done.stdout
    assert "first try: simulator: passed; real: failed AssertionError: at first" in done.stdout
    (row,) = json.loads((tmp_path / "out" / "conformance.json").read_text())["tests"]
    assert row["verdict"] == "same, second try"
    assert row["real"]["outcome"] == "failed"
    assert "same, second try" in (tmp_path / "out" / "conformance.md").read_text()


@pytest.mark.slow
def test_a_part_writes_no_page(tmp_path: Path) -> None:
    """-k compares some tests only; the page tells of whole runs."""
    done = conform(tmp_path, DIFFERENT, "-k", "same", "--document=page.md")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
def test_a_suite_that_takes_too_long_is_cut_short(tmp_path: Path) -> None:
    """The time-out ends the run, the report says so, and the status is 1."""
    done = conform(tmp_path, SAME + "def test_stuck():\n    import time\n    time.sleep(60)\n", "--timeout=2")
    assert done.returncode == 1
    assert "CUT SHORT  the run on real Kafka" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_an_interrupt_lets_pytest_clean_up(tmp_path: Path, number: signal.Signals) -> None:
    """The signal reaches the running pytest once; its fixtures end in order, nothing is left running, and the status is 130."""
    (tmp_path / "test_suite.py").write_text(
        "import os, pathlib, time, pytest\n"
        "@pytest.fixture\n"
        "def held():\n"
        "    pathlib.Path('started').write_text(str(os.getpid()))\n"
        "    yield\n"
        "    time.sleep(0.2)\n"
        "    pathlib.Path('ended').touch()\n"
        "def test_stuck(held): time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "kafkasim", "conform", "test_suite.py", "--real=127.0.0.1:1", "--report=out"]
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Also where the tests run in the background, deaf to SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads
    )
    started = tmp_path / "started"
    deadline = time.monotonic() + 30
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(number)
    assert run.wait(30) == 130
    assert (tmp_path / "ended").exists()
    assert not (tmp_path / "out").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


@pytest.mark.slow
def test_mistakes_are_named(tmp_path: Path) -> None:
    """Status 2: no such suite, and no Kafka on this machine."""
    command = [sys.executable, "-m", "kafkasim", "conform"]
    done = subprocess.run([*command, "absent"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no suite at absent" in done.stderr
    (tmp_path / "test_suite.py").write_text(SAME)
    bare = {name: value for name, value in os.environ.items() if name not in ("KAFKA_HOME", "KAFKASIM_KAFKA_LIBS")}
    done = subprocess.run(
        [*command, "test_suite.py"], cwd=tmp_path, capture_output=True, text=True, check=False, env=bare
    )
    assert done.returncode == 2
    assert "Kafka" in done.stderr or "java" in done.stderr


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure on the way leaves the old file and nothing beside it."""
    file = tmp_path / "page.md"
    write_whole(file, "old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(file, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["page.md"]
    assert file.read_text() == "old"
