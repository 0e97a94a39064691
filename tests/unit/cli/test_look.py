"""``kafkasim why`` and ``kafkasim diff`` of a replay file, and the pictures of ``kafkasim replay``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kafkasim.cli import main

BUG = "tests.unit.explore.scenes:commits_first"


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A replay file of a run that lost a call."""
    folder = tmp_path_factory.mktemp("failures")
    with pytest.raises(SystemExit):
        main(["explore", BUG, "--seeds", "8", "--out", str(folder), "--no-progress"])
    return str(next(folder.glob("*at-least-once*.json")))


def test_why_tells_of_a_record_and_of_a_group(lost: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The recorded run is made again, and asked."""
    status, out, _ = _run(capsys, "why", lost, "record=call-0", "group=billing")
    assert status == 0
    assert "lost for billing" in out
    status, out, _ = _run(capsys, "why", lost, "group=billing", "--json")
    assert json.loads(out)["summary"] == "it is not behind"
    status, out, _ = _run(capsys, "why", lost, "topic=calls", "partition=0")
    assert out.startswith("calls-0 at ")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nonsense"], "'nonsense': expected record=VALUE"),
        (["partition=many"], "'partition=many': expected a number"),
        (["record=call-999"], "no record 'call-999'"),
        (["group=nobody"], "no group 'nobody'"),
        (["topic=calls"], "explains a partition"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    lost: str, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    """One line, and no traceback."""
    status, _, err = _run(capsys, "why", lost, *words)
    assert status == 2
    assert problem in err
    assert "Traceback" not in err


def test_diff_shows_where_runs_part_and_how_they_ended(lost: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A config that changes the course and not the verdict ends with 0; a protection that does not exist is refused."""
    status, out, _ = _run(capsys, "diff", lost, "--set", "group.initial.rebalance.delay.ms=0")
    assert status == 0
    assert "the same for" in out
    assert "as it is:  " in out
    status, out, _ = _run(capsys, "diff", lost, "--without", "pre_vote", "--json")
    assert json.loads(out)["changes_verdict"] is False
    status, _, err = _run(capsys, "diff", lost, "--without", "gravity")
    assert (status, "unknown protection 'gravity'" in err) == (2, True)
    status, _, err = _run(capsys, "diff", lost)
    assert (status, "nothing is changed" in err) == (2, True)


def test_a_replay_writes_what_there_is_to_look_at(
    lost: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Page, trace, diagram and history, beside the screen; a folder that is not there is refused before the run."""
    files = {name: tmp_path / name for name in ("run.html", "run.json", "run.md", "run.jsonl")}
    options = ("--report", "--trace", "--sequence", "--history")
    asked = [word for option, file in zip(options, files.values(), strict=True) for word in (option, str(file))]
    status, out, _ = _run(capsys, "replay", lost, *asked)
    assert status == 1
    assert out.startswith("FAIL at-least-once")
    assert all(file.stat().st_size > 100 for file in files.values())
    assert any(event["ph"] == "b" for event in json.loads(files["run.json"].read_text())["traceEvents"])
    status, _, err = _run(capsys, "replay", lost, "--trace", str(tmp_path / "nowhere" / "run.json"))
    assert (status, "there is no folder" in err) == (2, True)
