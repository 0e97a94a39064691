"""Brokers of our own: they start, they are harmed, and whatever happens nothing of them stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafkasim.connect import connect
from kafkasim.real.local_kafka import find_java, find_kafka_libs

pytestmark = [pytest.mark.real, pytest.mark.slow]

HOLD = """
import pathlib, time

def test_before(kafka_cluster):
    kafka_cluster.create_topic("t", replication_factor=1)

def test_hold(kafka_cluster):
    kafka_cluster.produce("t", ["a"])
    pathlib.Path("ready").touch()
    time.sleep(120)
"""
HOLD_MARKER = "import pytest\npytestmark = pytest.mark.kafka(brokers=1)\n"


@pytest.fixture(autouse=True)
def _kafka_is_here() -> None:
    """Raises Unsupported, which skips, where there is no Kafka or no Java on this machine."""
    find_kafka_libs()
    find_java()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every temporary folder of this test is made in."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield folder
    monkeypatch.setattr("tempfile.tempdir", None)


def _processes_naming(folder: Path) -> list[str]:
    """Command lines of the processes that mention a folder: brokers name their properties file."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and int(each.name) != os.getpid():
            try:
                line = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line and "java" in line:
                found.append(line)
    return found


def _wait_until_clean(folder: Path, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while _processes_naming(folder) or list(folder.glob("kafkasim-local-*")):
        assert time.monotonic() < deadline, (_processes_naming(folder), list(folder.iterdir()))
        time.sleep(0.1)


def test_one_broker_from_start_to_end(scratch: Path) -> None:
    """A single broker starts, holds records over a crash and a shutdown, and leaves nothing."""
    with connect("local://?brokers=1&racks=a&num.partitions=2") as cluster:
        assert list(scratch.glob("kafkasim-local-*"))
        cluster.create_topic("t")
        written = cluster.produce("t", ["a", "b"], keys=["k", None])
        assert written == [(0, 0), (0, 1)]
        broker = cluster.zone("a")
        for harm, end in ((broker.crash, "crashed"), (broker.shutdown, "stopped")):
            harm()
            cluster.run_until(lambda end=end: broker.state == end, timeout=30)
            broker.start()
            cluster.run_until(lambda: broker.state == "running", timeout=60)
        assert [(record.key, record.value) for record in cluster.records("t")] == [(b"k", b"a"), (None, b"b")]
        assert cluster.check().ok
        cluster.broker(1).pause()
        assert cluster.broker(1).state == "paused"
    _wait_until_clean(scratch)


def test_a_killed_interpreter_leaves_nothing(scratch: Path) -> None:
    """SIGKILL of the process that started brokers: they go, and so does their folder."""
    code = (
        "import os, kafkasim.connect as c\n"
        "cluster = c.connect('local://?brokers=1')\n"
        "print('READY', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert "READY" in done.stdout
    _wait_until_clean(scratch)


PYTEST = ["pytest", "-q", "-p", "no:cacheprovider", "--kafkasim-real=local", "test_hold.py"]
CONFORM = ["kafkasim", "conform", "test_hold.py"]


@pytest.mark.parametrize(
    ("command", "number"), [(PYTEST, signal.SIGINT), (PYTEST, signal.SIGTERM), (CONFORM, signal.SIGINT)]
)
def test_an_interrupted_run_leaves_nothing(
    scratch: Path, tmp_path: Path, command: list[str], number: signal.Signals
) -> None:
    """Ctrl-C (or SIGTERM) in the middle of a test on local brokers: no broker and no temporary folder stays behind."""
    (tmp_path / "test_hold.py").write_text(HOLD_MARKER + HOLD)
    run = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        process_group=0,
        # Also where the tests run in the background, deaf to SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert _processes_naming(scratch)
    # As the terminal does: to the whole foreground group.
    os.killpg(run.pid, number)
    run.communicate(timeout=60)
    assert run.returncode != 0
    _wait_until_clean(scratch)
    assert not list(scratch.iterdir())
