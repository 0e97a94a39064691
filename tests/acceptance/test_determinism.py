"""The same seed gives the same run, in any process and under any hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.scenario import run

SCENARIO = Path(__file__).with_name("scenario.py")
SEEDS = 200


def start(hash_seed: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": "UTC"}
    command = [sys.executable, str(SCENARIO), "0", str(SEEDS)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_same_fingerprints_in_three_processes() -> None:
    """200 seeds, three processes, three hash seeds: the same 200 fingerprints, and no two seeds alike."""
    processes = [start(hash_seed) for hash_seed in ("0", "1", "4242")]
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert outputs[0] == outputs[1] == outputs[2]
    lines = outputs[0].splitlines()
    assert len(lines) == SEEDS
    assert len({line.split()[1] for line in lines}) == SEEDS


def test_same_fingerprint_twice_in_one_process() -> None:
    """What ran before in a process leaves nothing behind that a later run could see."""
    assert run(3) == run(3)
