"""As a new user would: from the first command of docs/explore.md to a shrunk report of the tutorial's bug."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, blocks_of

_COMMAND = "from kafkasim.cli import main; main()"


def _commands() -> list[list[str]]:
    block = next(block for block in blocks_of(ROOT / "docs" / "explore.md") if "$ kafkasim explore" in block.text)
    return [shlex.split(line)[2:] for line in block.text.splitlines() if line.startswith("$ kafkasim ")]


def test_the_commands_of_the_page_find_shrink_and_replay_the_lost_record(tmp_path: Path) -> None:
    """Copied from the page, run in a folder that has the example and nothing else."""
    (tmp_path / "examples" / "lost_record").mkdir(parents=True)
    example = Path("examples", "lost_record", "billing.py")
    (tmp_path / example).write_text((ROOT / example).read_text())
    commands = _commands()
    assert [command[0] for command in commands] == ["explore", "replay", "shrink", "replay"]
    outputs = []
    for command in commands:
        run = subprocess.run(
            [sys.executable, "-c", _COMMAND, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 1, run.stderr
        outputs.append(run.stdout)
    explored, replayed, shrunk, again = outputs
    assert "FAILED 2: at-least-once" in explored
    for output in (replayed, shrunk):
        assert output.startswith("FAIL at-least-once")
    assert "the same run: " in replayed
    assert "the same run: " in again
    assert "the single change that lets it pass: without kill client on OffsetCommit.arrived" in shrunk
    smallest = json.loads((tmp_path / ".kafkasim/failures/commits_first-2-at-least-once.min.json").read_text())
    assert len(smallest["plan"]["faults"]) == 1
    assert smallest["sizes"]["calls"] <= 10
