"""The example scripts as programs of their own, on both sides: whatever happens to a broker, each call ends up stored once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "call_analytics"
Start = Callable[..., Any]


class Process:
    """A script beside a real cluster."""

    def __init__(self, cluster: Any, script: Path, arguments: list[str], log: Path) -> None:
        with log.open("ab") as output:
            command = [sys.executable, str(script), "--bootstrap-server", cluster.bootstrap_servers, *arguments]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    @property
    def status(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        self._process.terminate()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class SimulatedProcess:
    """The same script as a task in virtual time, with arguments and signal handlers of its own."""

    def __init__(self, cluster: Any, script: Path, arguments: list[str], log: Path) -> None:
        self._script = script
        self._arguments = [str(script), "--bootstrap-server", cluster.bootstrap_servers, *arguments]
        self._handlers: dict[int, Any] = {}
        self._task = cluster.spawn(self._run, name=script.stem)

    @property
    def status(self) -> int | None:
        return self._task.result(0) if self._task.done else None

    def stop(self) -> None:
        self._handlers[signal.SIGTERM](signal.SIGTERM, None)

    def close(self) -> None:
        """The cluster ends its tasks."""

    def _run(self) -> Any:
        names: dict[str, Any] = {"__name__": self._script.stem}
        exec(compile(self._script.read_text(), str(self._script), "exec"), names)
        if "signal" in names:
            names["signal"] = SimpleNamespace(SIGTERM=signal.SIGTERM, signal=self._handlers.__setitem__)
        # Read by the script before it first blocks, and so before another one sets it.
        sys.argv = self._arguments
        return names["main"]()


@pytest.fixture
def start(kafka_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a script by its name; what still runs at the end is ended."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    kind = Process if hasattr(kafka_cluster, "recorded_client") else SimulatedProcess
    started: list[Any] = []

    def start(name: str, *arguments: object) -> Any:
        log = tmp_path / f"{name}.log"
        started.append(kind(kafka_cluster, SCRIPTS / f"{name}.py", [str(each) for each in arguments], log))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def calls(kafka_cluster: Any, unique: Callable[[str], str]) -> str:
    """A topic that outlives one broker."""
    name = unique("calls")
    kafka_cluster.create_topic(name, partitions=6, replication_factor=3, config={"min.insync.replicas": 2})
    return name


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """A file in memory where there is such a place: one transaction a call is slow on a disk, which is not what is tested."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder) / "calls.db"


def stored(database: Path) -> list[str]:
    """The calls in a database so far, in order; their key is unique there."""
    if not database.exists():
        return []
    connection = sqlite3.connect(database)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone():
            return []
        return [call for (call,) in connection.execute("SELECT call_id FROM calls ORDER BY call_id")]
    finally:
        connection.close()


def produced(count: int) -> list[str]:
    """What the producer tells of."""
    return [f"call-{number:08d}" for number in range(count)]


def wait(cluster: Any, predicate: Callable[[], Any], timeout: float = 90.0) -> None:
    """Wait without asking a database fifty times a second."""
    deadline = cluster.now + timeout
    while not predicate():
        assert cluster.now < deadline, "the awaited condition did not come true"
        cluster.run_for(0.25)


def crash_the_leader(cluster: Any, topic: str) -> None:
    """Kill the broker that leads the topic's first partition."""
    cluster.broker(cluster.describe_topic(topic)[0].leader).crash()


@pytest.mark.parametrize("consumer", ["sqlite_consumer", "batching_consumer"])
def test_each_call_is_stored_once(
    kafka_cluster: Any, start: Start, unique: Callable[[str], str], calls: str, database: Path, consumer: str
) -> None:
    """Producers and a consumer side by side; the consumer is stopped in between, and another goes on where it was."""
    options = ("--topic", calls, "--group", unique("group"), "--database", database)
    early = start("producer", "--topic", calls, "--count", 200, "--rate", 100)
    first = start(consumer, *options)
    wait(kafka_cluster, lambda: len(stored(database)) >= 50)
    first.stop()
    wait(kafka_cluster, lambda: first.status is not None and early.status is not None)
    second = start(consumer, *options)
    late = start("producer", "--topic", calls, "--first", 200, "--count", 200)
    wait(kafka_cluster, lambda: len(stored(database)) >= 400)
    second.stop()
    wait(kafka_cluster, lambda: second.status is not None and late.status is not None)
    assert [each.status for each in (early, late, first, second)] == [0, 0, 0, 0]
    assert stored(database) == produced(400)


@pytest.mark.parametrize("consumer", ["sqlite_consumer", "batching_consumer"])
def test_each_call_is_stored_once_although_a_leader_crashes(
    kafka_cluster: Any, start: Start, unique: Callable[[str], str], calls: str, database: Path, consumer: str
) -> None:
    """The broker that leads a partition is killed while both programs work: nothing is lost, nothing stored twice."""
    reader = start(consumer, "--topic", calls, "--group", unique("group"), "--database", database)
    producer = start("producer", "--topic", calls, "--count", 600, "--rate", 100)
    wait(kafka_cluster, lambda: len(stored(database)) >= 50)
    assert producer.status is None
    crash_the_leader(kafka_cluster, calls)
    wait(kafka_cluster, lambda: producer.status is not None and len(stored(database)) >= 600)
    reader.stop()
    wait(kafka_cluster, lambda: reader.status is not None)
    assert (producer.status, reader.status) == (0, 0)
    assert stored(database) == produced(600)


def test_no_dead_letter_is_lost_although_a_leader_crashes(
    kafka_cluster: Any, start: Start, unique: Callable[[str], str], calls: str
) -> None:
    """Every tenth event is malformed: each of them, and no other, reaches the dead-letter topic, from where it stood."""
    letters = unique("letters")
    kafka_cluster.create_topic(letters, partitions=2, replication_factor=3, config={"min.insync.replicas": 2})
    router = start("dead_letter_router", "--topic", calls, "--group", unique("group"), "--dead-letters", letters)
    producer = start("producer", "--topic", calls, "--count", 600, "--rate", 100, "--malformed-every", 10)
    wait(kafka_cluster, lambda: len(kafka_cluster.records(letters)) >= 5)
    assert producer.status is None
    crash_the_leader(kafka_cluster, calls)

    def origins() -> dict[bytes, bytes]:
        """Keys of the dead letters by the place that each came from: one that came twice counts once."""
        return {dict(record.headers)["dlq_origin"]: record.key for record in kafka_cluster.records(letters)}

    wait(kafka_cluster, lambda: producer.status is not None and len(origins()) >= 60)
    router.stop()
    wait(kafka_cluster, lambda: router.status is not None)
    assert (producer.status, router.status) == (0, 0)
    assert sorted(origins().values()) == [f"call-{number:08d}".encode() for number in range(9, 600, 10)]
