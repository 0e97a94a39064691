"""``kafkasim explore``, ``replay`` and ``shrink``: what is printed, the files, the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kafkasim.cli import explore, main

BUG = "tests.unit.explore.scenes:commits_first"
SOUND = "tests.unit.explore.scenes:works_first"


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_from_a_campaign_to_a_shrunk_run_and_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each line that is printed to be pasted works."""
    status, out, _ = _run(capsys, "explore", BUG, "--seeds", "8", "--out", str(tmp_path))
    assert status == 1
    assert "FAILED 1: commit-ahead" in out
    assert "never      " in out
    assert "the next seed shows something new with a chance of about" in out
    line = next(line for line in out.splitlines() if "replay: kafkasim" in line and "at-least-once" in line)
    file = line.split()[-1]
    status, out, _ = _run(capsys, "replay", file)
    assert status == 1
    assert out.startswith("FAIL at-least-once")
    assert "the same run: " in out
    status, out, _ = _run(capsys, "shrink", file)
    assert status == 1
    assert "shrunk: faults " in out
    smallest = next(line for line in out.splitlines() if line.startswith("replay: kafkasim")).split()[-1]
    status, out, _ = _run(capsys, "replay", smallest, "--json")
    assert status == 1
    assert len(json.loads(out)["run"]["plan"]["faults"]) == 1
    status, out, _ = _run(capsys, "shrink", smallest, "--json", "--out", str(tmp_path / "again.json"), "--time", "20s")
    assert json.loads(out)["faults"] == 1
    assert (tmp_path / "again.json").exists()


def test_where_nothing_breaks_the_status_is_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With what was not seen beside it; as JSON for machines."""
    status, out, _ = _run(capsys, "explore", SOUND, "--seeds", "6", "--json", "--out", str(tmp_path))
    values = json.loads(out)
    assert (status, values["ok"], values["trials"]) == (0, True, 6)
    assert 0 < values["unseen"] <= 1
    assert "the moon is full" in values["coverage"]["never"]
    status, out, _ = _run(capsys, "explore", SOUND, "--seeds", "3", "--out", str(tmp_path))
    assert status == 0
    assert "no promise broke; the next seed" in out


def test_failures_are_shrunk_on_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The screen of each, and a file."""
    status, out, err = _run(capsys, "explore", BUG, "--failures", "1", "--shrink", "--progress", "--out", str(tmp_path))
    assert status == 1
    assert "minimal plan: no faults at all" in out
    assert "seeds in" in err
    assert len(list(tmp_path.glob("*.min.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explore", "nothing"), "expected a design"),
        (("explore", BUG, "--seeds", "0"), "seeds=0"),
        (("explore", BUG, "--time", "soon"), "--time soon"),
        (("explore", BUG, "--for", "3s"), "a duration is for designs"),
        (("explore", BUG, "--scheduler", "tcp://127.0.0.1:1"), "no Dask scheduler answers"),
        (("replay", "nowhere.json"), "No such file"),
        (("shrink", "pyproject.toml"), "it is no JSON"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    """Never a traceback."""
    monkeypatch.setattr(explore, "_SCHEDULER_PATIENCE", "0.2s")
    status, _, err = _run(capsys, *arguments)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
