"""``kafkasim run``: exit statuses and what goes where."""

import gc
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kafkasim.cli import main
from kafkasim.lab.run import run_design

DESIGN = """
[cluster]
duration = "5s"
[[topics]]
name = "calls"
[[workloads]]
topic = "calls"
rate = 50
[[groups]]
name = "billing"
topics = "calls"
[promises]
at_least_once = true
"""


def status_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


@pytest.fixture
def design(tmp_path: Path) -> Path:
    path = tmp_path / "design.toml"
    path.write_text(DESIGN)
    return path


def test_kept_promises_end_with_0(design: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table and the verdict go to stdout, beside the model's parameters."""
    assert status_of("run", str(design), "--seed", "3") == 0
    out, err = capsys.readouterr()
    for words in ("seed 3", "billing", "p99", "network latency", "The design keeps its promises."):
        assert words in out
    assert err == ""


def test_broken_promises_end_with_1(design: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A promise that did not hold is named with its reason, and the exit status tells."""
    design.write_text(DESIGN + "latency_p99 = '1ms'\n")
    assert status_of("run", str(design)) == 1
    assert "BROKEN  billing: latency_p99" in capsys.readouterr().out


def test_json_progress_and_duration(design: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is all there is on stdout; progress goes to stderr when asked for; --for changes the duration."""
    assert status_of("run", str(design), "--json", "--progress", "--for", "2s") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["ok"]
    assert 2 <= result["virtual_seconds"] < 5
    assert result["groups"][0]["lost"] == 0
    assert "times real time" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no-such.toml"], "No such file"),
        (["run", "{design}", "--for", "soon"], '"250ms", "30s" or "10m"'),
        (["run", "{design}", "--for", "0"], "more than 0"),
    ],
)
def test_mistakes_end_with_2(
    design: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was asked for wrongly is told on stderr, without a traceback."""
    assert status_of(*[argument.format(design=design) for argument in arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_mistake_in_the_design_names_its_line(design: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File and line come first, as editors expect."""
    design.write_text(DESIGN.replace("rate = 50", "rate = 50\nkeys = 1"))
    assert status_of("run", str(design)) == 2
    assert f"{design}:9: unknown key 'keys'" in capsys.readouterr().err


def test_a_run_is_not_searched_for_garbage(design: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run leaves is told apart before the collector works again, whatever comes between them."""
    searched: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            searched.append(len(gc.get_objects(generation=0)))

    def run(*args: Any, **kwargs: Any) -> Any:
        gc.callbacks.append(note)
        return run_design(*args, **kwargs)

    monkeypatch.setattr("kafkasim.cli.run.run_design", run)
    monkeypatch.setattr("kafkasim.cli.run.show_result", lambda result: gc.callbacks.remove(note))
    try:
        assert status_of("run", str(design)) == 0
        assert max(searched, default=0) < 1000
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints it."""
    assert status_of("--version") == 0
    assert capsys.readouterr().out.count(".") == 2


def test_ctrl_c_ends_with_what_is_known(design: Path) -> None:
    """The tables so far, a word that it was interrupted, and exit status 130."""
    command = [sys.executable, "-m", "kafkasim", "run", str(design), "--for", "100h", "--progress"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.read(1) == b"\r"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert b"Interrupted: this is what was known by then." in out
    assert b"billing" in out
    assert process.returncode == 130
