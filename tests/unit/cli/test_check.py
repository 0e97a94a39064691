"""``kafkasim check`` on files: what was sound stays sound, what was broken is found again, and bad files get a clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import kafkasim
from kafkasim.cli import app

RUNNER = CliRunner()


def saved(path: Path, *, is_sound: bool) -> str:
    """A consumer that works before it commits; or commits before it works, and dies in between."""
    with kafkasim.Cluster(seed=2) as cluster:
        cluster.create_topic("orders", partitions=1)
        cluster.produce("orders", [str(number) for number in range(20)])
        sink = kafkasim.sinks.Sink(cluster, "table", group="billing")

        def work() -> None:
            consumer = cluster.consumer(
                "billing", ["orders"], {"auto.offset.reset": "earliest", "enable.auto.commit": False}
            )
            while True:
                message = consumer.poll(1.0)
                if message is None or message.error() is not None:
                    continue
                if is_sound:
                    sink(message)
                    consumer.commit(message, asynchronous=False)
                else:
                    consumer.commit(message, asynchronous=False)
                    cluster.run_for(0.1)
                    sink(message)

        first = cluster.spawn(work, name="first")
        cluster.run_until(lambda: len(sink.values) >= 5, timeout=60)
        cluster.run_for(0.05)
        first.kill()
        cluster.spawn(work, name="second")
        cluster.run_until(lambda: b"19" in sink.values, timeout=120)
        cluster.save_history(path)
    return str(path)


def run(*arguments: str) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["check", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_sound_history_and_a_broken_one(tmp_path: Path) -> None:
    """Exit status and report tell them apart; what nobody promised is not broken."""
    promise = "billing:at_least_once@orders"
    sound, broken = saved(tmp_path / "sound.jsonl", is_sound=True), saved(tmp_path / "broken.jsonl", is_sound=False)
    assert run(sound, "--promise", promise)[0] == 0
    status, output = run(broken, "--promise", promise)
    assert status == 1
    assert output.index("commit-ahead") < output.index("at-least-once"), "the cause stands above its symptom"
    assert run(broken)[0] == 0


def test_the_report_as_json(tmp_path: Path) -> None:
    """For machines: id, name, cause, place and text of each finding."""
    path = saved(tmp_path / "broken.jsonl", is_sound=False)
    status, output = run(path, "--promise", "billing:at_least_once@orders", "--json")
    report: dict[str, Any] = json.loads(output)
    assert status == 1
    assert not report["ok"]
    assert report["findings"][0]["id"] == "G3"
    assert set(report["findings"][0]) == {"id", "invariant", "cause", "at_us", "partition", "text"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "an empty history"),
        (b"\xff\xfe\x00", "is no text"),
        (b'{"a": 1}\n', "no history"),
        (b'{"format": "kafkasim-history", "version": 99}\n', "version 99"),
        (b'{"format": "kafkasim-history", "version": 1}\n{"event": "Nothing"}\n', "line 2"),
    ],
)
def test_files_that_are_no_histories(tmp_path: Path, content: bytes | None, words: str) -> None:
    """Each gets a sentence that names the file and what is wrong with it, and status 2."""
    path = tmp_path / "some.jsonl"
    if content is not None:
        path.write_bytes(content)
    status, output = run(str(path))
    assert status == 2
    assert words in output
    assert "some.jsonl" in output


@pytest.mark.parametrize(
    ("promise", "words"),
    [("billing", "write GROUP:PROMISE"), ("billing:speed", "nothing called 'speed'"), ("b:max_lag=x", "is no number")],
)
def test_promises_that_are_none(tmp_path: Path, promise: str, words: str) -> None:
    """Said before the file is read."""
    status, output = run(str(tmp_path / "none"), "--promise", promise)
    assert status == 2
    assert words in output
