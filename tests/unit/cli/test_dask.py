"""A campaign on a Dask cluster: workers of one process here, which speak to it over a socket all the same.

Each test has a process of its own, which ends without closing the cluster: closing one sometimes waits for ever on a busy machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kafkasim.explore.campaign import explore

BUG = "tests.unit.explore.scenes:commits_first"
_SECONDS = 240
_ROOT = Path(__file__).resolve().parents[3]
_CLUSTER = """
import json, os, sys
import distributed
from kafkasim.cli.explore import dask_executor
from kafkasim.errors import ConfigurationError
from kafkasim.explore.campaign import explore

cluster = distributed.LocalCluster(
    n_workers={workers}, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
)
"""
_EXPLORE = """
entered = dask_executor(cluster.scheduler_address)
executor = entered.__enter__()
assert executor.workers == 2
found = explore({bug!r}, seed=2, seeds=8, executor=executor, workers=executor.workers).as_json()
print("RESULT" + json.dumps(found), flush=True)
os._exit(0)
"""
_REFUSED = """
try:
    with dask_executor(cluster.scheduler_address):
        pass
except ConfigurationError as problem:
    print("RESULT" + json.dumps(str(problem)), flush=True)
os._exit(0)
"""


def _result(program: str) -> object:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[0].removeprefix("RESULT"))


def test_the_same_seeds_give_the_same_result_on_a_dask_cluster() -> None:
    """Two workers that run one trial at a time between them, as they share a process."""
    pytest.importorskip("distributed")
    there = _result(_CLUSTER.format(workers=2) + _EXPLORE.format(bug=BUG))
    here = json.loads(json.dumps(explore(BUG, seed=2, seeds=8).as_json()))
    assert isinstance(there, dict)
    for told in (here, there):
        del told["wall_seconds"]
    assert there == here


def test_a_cluster_without_workers_is_no_place_to_run() -> None:
    """Said before anything is."""
    pytest.importorskip("distributed")
    assert "has no workers" in str(_result(_CLUSTER.format(workers=0) + _REFUSED))
