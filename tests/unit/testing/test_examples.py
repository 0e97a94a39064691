"""Examples of Hypothesis on a cluster: judged, told, kept, and run again in each of the ways that Hypothesis and pytest have."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import kafkasim
from kafkasim import faults
from kafkasim.check.report import Report
from kafkasim.sim.plan import Plan
from kafkasim.sim.plan_text import plan_from_values
from kafkasim.testing.examples import BrokenPromise, broken, judged

pytest_plugins = ["pytester"]

#: All phases that find and shrink; explaining takes many more runs.
_ALL = "reuse generate target shrink"

#: A topic of one replica, and a promise that it cannot keep when its broker loses power.
LOSES = """
import os

import kafkasim
from hypothesis import Phase, given, reproduce_failure, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from kafkasim.testing.examples import judged
from kafkasim.testing.strategies import fault_plans, seeds, workloads

def nothing_is_lost(plan, work, seed):
    with kafkasim.Cluster(brokers=1, seed=seed) as cluster:
        cluster.create_topic("orders")
        cluster.guarantee(topics="orders", no_loss=True)
        with judged(cluster, plan, work, settle=20.0):
            work.produce(cluster, "orders")
            cluster.run_for(10.0)

@settings(
    max_examples=400, deadline=None, print_blob=True, database=DirectoryBasedExampleDatabase("found"),
    phases=[Phase[name] for name in os.environ["PHASES"].split()],
)
@given(plan=fault_plans(["orders-0"], brokers=1, kinds=["pause", "power_loss"], max_at=5), work=workloads(), seed=seeds())
def test_orders(plan, work, seed):
    nothing_is_lost(plan, work, seed)
"""


def run(pytester: pytest.Pytester, *flags: str, extra: str = "", phases: str = _ALL) -> pytest.RunResult:
    # Not in the source, by which the database knows a test.
    os.environ["PHASES"] = phases
    pytester.makepyfile(test_it=LOSES.replace("@settings", f"{extra}\n@settings", 1))
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "test_it.py::test_orders", *flags)


def test_a_failure_is_shrunk_told_and_brought_back_in_every_way(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen has the fault, the lanes and a line to paste; that line, the decorator and the database each find it again."""
    monkeypatch.setenv("PHASES", "")
    only_reuse = "reuse"
    assert "failed" not in run(pytester, phases=only_reuse).parseoutcomes()

    result = run(pytester, "--hypothesis-show-statistics")
    result.assert_outcomes(failed=1)
    screen = result.stdout.str()
    for told in (
        "AckedLoss",
        "power_loss broker:1 at",
        "became leader orders-0",
        "broken: acked-loss",
        "leaders began: ",
    ):
        assert told in screen, told

    # First, as a run under which the example passes takes it out of the database.
    brought_back = run(pytester, phases=only_reuse)
    assert "AckedLoss" in brought_back.stdout.str(), "the database"

    line = re.search(r"replay: pytest '(\S+)' --kafkasim-replay (\S+)", screen)
    assert line is not None
    kept = json.loads(Path(line[2]).read_text())
    assert "power_loss" in [fault.what for fault in plan_from_values(kept["plan"])]
    assert kept["records"] == [[None, "0"]]
    again = pytester.runpytest_subprocess("-q", line[1], "--kafkasim-replay", line[2])
    again.assert_outcomes(failed=1)
    assert "AckedLoss" in again.stdout.str()
    kept["plan"] = {"faults": []}
    Path("sound.json").write_text(json.dumps(kept))
    pytester.runpytest_subprocess("-q", line[1], "--kafkasim-replay", "sound.json").assert_outcomes(passed=1)

    blob = re.search(r"@reproduce_failure\([^)]*\)", screen)
    assert blob is not None
    brought_back = run(pytester, extra=blob[0])
    assert "AckedLoss" in brought_back.stdout.str(), "the decorator"


def test_each_invariant_has_an_exception_of_its_own() -> None:
    """So that Hypothesis reports two bugs as two."""
    raised = []
    for name in ("acked-loss", "poll-back", "acked-loss"):
        report = Report()
        report.add(name, "orders-0")
        raised.append(broken(report))
    assert [type(problem).__name__ for problem in raised] == ["AckedLoss", "PollBack", "AckedLoss"]
    assert type(raised[0]) is type(raised[2])
    assert all(isinstance(problem, BrokenPromise) for problem in raised)
    assert Plan() == plan_from_values({"faults": []})


def test_a_plain_test_is_judged_too() -> None:
    """Outside Hypothesis nobody can be told, and the promise that broke is raised all the same, with the finding first."""

    def work(cluster: kafkasim.Cluster) -> None:
        with judged(cluster, faults.power_loss("broker:1", at=2.0, down=5.0), settle=20.0):
            cluster.produce("orders", ["1"])
            cluster.run_for(10.0)

    with kafkasim.Cluster(brokers=1) as cluster:
        cluster.create_topic("orders")
        cluster.guarantee(topics="orders", no_loss=True)
        with pytest.raises(BrokenPromise, match=r"^orders-0 ") as raised:
            work(cluster)
    assert type(raised.value).__name__ == "AckedLoss"
