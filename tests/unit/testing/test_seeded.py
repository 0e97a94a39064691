"""``@kafkasim.test``: many seeds, a plan for each, and one screen when a promise breaks."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kafkasim
from kafkasim import faults
from kafkasim.check.history_lines import read_history_lines
from kafkasim.errors import ConfigurationError

pytest_plugins = ["pytester"]

SOUND = """
import kafkasim
from kafkasim.sim import nemeses

@kafkasim.test(seeds=3, faults=lambda seed: nemeses.event_indexed(["orders-0"], seed=seed, kinds=["crash", "pause"]))
def test_orders(cluster, tmp_path):
    assert tmp_path.is_dir()
    cluster.create_topic("orders", config={"min.insync.replicas": 2})
    cluster.produce("orders", [b"1", b"2"])
    with open("seeds", "a") as seen:
        seen.write(f"{cluster.seed} ")
"""
LOSES = """
import kafkasim
from kafkasim import faults

@kafkasim.test(seeds=5, faults=faults.power_loss("leader:orders-0", on="Produce.answered", nth=3, down=60.0))
def test_orders(cluster):
    cluster.create_topic("orders", replication_factor=1)
    producer = cluster.producer({"linger.ms": 0})
    for number in range(5):
        producer.produce("orders", str(number).encode())
        producer.flush(1.0)
    cluster.run_for(100.0)
    assert len(cluster.records("orders")) == 5, "orders are missing"
"""


def run(pytester: pytest.Pytester, source: str, *flags: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=source)
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", *flags)


def test_a_sound_test_passes_under_all_its_seeds(pytester: pytest.Pytester) -> None:
    """Fixtures come by name, seeds in order."""
    run(pytester, SOUND).assert_outcomes(passed=1)
    assert Path("seeds").read_text() == "0 1 2 "


def test_one_seed_can_be_asked_for(pytester: pytest.Pytester) -> None:
    """By the flag that every cluster test knows."""
    run(pytester, SOUND, "--kafkasim-seed=7").assert_outcomes(passed=1)
    assert Path("seeds").read_text() == "7 "


def test_a_failure_is_one_screen_and_can_be_replayed(pytester: pytest.Pytester) -> None:
    """Seed, fault, lanes, a line to paste; the plan and the history are files."""
    result = run(pytester, LOSES)
    result.assert_outcomes(failed=1)
    screen = result.stdout.str()
    assert "seed 0" in screen
    assert "orders are missing" in screen
    assert "power_loss leader:orders-0 on Produce.answered #3 for 60s hit broker" in screen
    assert "replay:  pytest 'test_it.py::test_orders' --kafkasim-replay .kafkasim/failures/test_orders-0.json" in screen
    kept = json.loads(Path(".kafkasim/failures/test_orders-0.json").read_text())
    assert kept["seed"] == 0
    assert read_history_lines(Path(".kafkasim/failures/test_orders-0.history.jsonl").read_text().splitlines())
    kept["plan"] = {"faults": []}
    Path("sound.json").write_text(json.dumps(kept))
    again = pytester.runpytest_subprocess(
        "-q", "test_it.py::test_orders", "--kafkasim-replay", ".kafkasim/failures/test_orders-0.json"
    )
    again.assert_outcomes(failed=1)
    pytester.runpytest_subprocess("-q", "test_it.py::test_orders", "--kafkasim-replay", "sound.json").assert_outcomes(
        passed=1
    )


def test_a_fault_that_never_came_fails_where_it_is_required(pytester: pytest.Pytester) -> None:
    """Otherwise the test would test nothing."""
    source = SOUND.replace(
        'seeds=3, faults=lambda seed: nemeses.event_indexed(["orders-0"], seed=seed, kinds=["crash", "pause"])',
        "seeds=1, require_fired=True, faults=kafkasim.faults.crash(on='DeleteTopics.sent')",
    )
    result = run(pytester, source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*planned faults never happened*"])


def test_a_file_that_is_no_plan_is_refused(pytester: pytest.Pytester) -> None:
    """With what is wrong in it."""
    Path("broken.json").write_text(json.dumps({"seed": 1, "plan": {"faults": [{"what": "explode"}]}}))
    result = run(pytester, SOUND, "--kafkasim-replay", "broken.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing called 'explode' can go wrong*"])


def test_what_cannot_be_a_seeded_test_is_refused() -> None:
    """No seed, or no place for the cluster."""
    with pytest.raises(ConfigurationError, match="no seed"):
        kafkasim.test(seeds=0)
    with pytest.raises(ConfigurationError, match="the first one is the cluster"):
        kafkasim.test(faults=faults.pause(at=1.0))(lambda: None)
    with pytest.raises(ConfigurationError, match="seeds go by name, seeds=50"):
        kafkasim.test(50)  # type: ignore[arg-type]


async def asynchronous(cluster: kafkasim.Cluster) -> AsyncIterator[int]:
    """Would never be iterated."""
    yield 1


def generator(cluster: kafkasim.Cluster) -> Iterator[int]:
    """Would never be iterated."""
    yield 1


@pytest.mark.parametrize("function", [asynchronous, generator])
def test_what_would_pass_without_having_been_run_is_refused(function: Callable[..., Any]) -> None:
    """Calling it does nothing, so that nothing in it could ever fail."""
    with pytest.raises(ConfigurationError, match=f"{function.__name__}.. is .*runs nothing"):
        kafkasim.test(function)


SHAPES = """
import asyncio
import time
from confluent_kafka import Producer
import kafkasim

@kafkasim.test
def test_bare(cluster):
    with open("seeds", "a") as seen:
        seen.write(f"{cluster.seed} ")

@kafkasim.test(seeds=2)
async def test_coroutine(cluster):
    await asyncio.sleep(1000.0)
    assert cluster.now < 1000.0, "a coroutine fails"

class TestOrders:
    @kafkasim.test(seeds=2, brokers=1)
    def test_method(self, cluster, tmp_path):
        assert isinstance(self, TestOrders)
        cluster.create_topic("orders")
        producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
        producer.produce("orders", b"1")
        assert producer.flush(10.0) == 0
        time.sleep(1000.0)
        assert cluster.now > 1000.0

    @kafkasim.test(seeds=2)
    def test_fails(self, cluster):
        assert cluster.seed == 1, "seed 0 fails"
"""


def test_a_bare_decorator_and_methods(pytester: pytest.Pytester) -> None:
    """As every decorator of tests is used; clients, sleeps and clocks of the body are the simulator's."""
    run(pytester, SHAPES, "-k", "bare or method").assert_outcomes(passed=2)
    assert Path("seeds").read_text().split() == [str(seed) for seed in range(20)]
    run(pytester, SHAPES, "-k", "bare", "--kafkasim-seed=30", "--kafkasim-seeds=3").assert_outcomes(passed=1)
    assert Path("seeds").read_text().split()[20:] == ["30", "31", "32"]


def test_a_coroutine_is_run_in_virtual_time(pytester: pytest.Pytester) -> None:
    """Its sleeps cost nothing, and what it raises fails the test."""
    result = run(pytester, SHAPES, "-k", "coroutine")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*a coroutine fails*"])


def test_a_failing_method_shows_its_own_lines_and_can_be_shrunk(pytester: pytest.Pytester) -> None:
    """No line of this package stands between the test and its screen; the file that is left can be replayed and shrunk."""
    result = run(pytester, SHAPES, "-k", "fails")
    result.assert_outcomes(failed=1)
    told = result.stdout.str()
    assert "kafkasim/explore" not in told.replace(".kafkasim", "")
    assert "kafkasim/testing" not in told
    assert "assert cluster.seed == 1" in told
    assert "shrink:  kafkasim shrink .kafkasim/failures/test_fails-0.json" in told
    for command in ("replay", "shrink"):
        shown = pytester.run(sys.executable, "-m", "kafkasim", command, ".kafkasim/failures/test_fails-0.json")
        assert shown.ret == 1
        shown.stdout.fnmatch_lines(["FAIL raised*seed 0 fails*"])


def test_determinism_is_checked_where_it_is_asked_for(pytester: pytest.Pytester) -> None:
    """A body that is another one in each run is told."""
    source = """
import itertools
import kafkasim
counter = itertools.count(1)

@kafkasim.test(seeds=1)
def test_it(cluster):
    cluster.run_for(float(next(counter)))
"""
    run(pytester, source).assert_outcomes(passed=1)
    result = run(pytester, source, "--kafkasim-check-determinism")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not deterministic: seed 0*"])


def test_a_replay_file_of_a_campaign_runs_with_its_sizes(pytester: pytest.Pytester) -> None:
    """Seed, plan, sizes and all that a recipe holds; and a failure keeps them."""
    source = """
import kafkasim

@kafkasim.test(seeds=2)
def test_orders(cluster, brokers=3):
    assert brokers == 3, f"{len(cluster.broker_ids())} brokers, seed {cluster.seed}"
"""
    recorded = {"seed": 9, "plan": {"faults": []}, "sizes": {"brokers": 2}, "forks": [{"at_s": 2.0, "seed": 4}]}
    Path("run.json").write_text(json.dumps(recorded))
    result = run(pytester, source, "--kafkasim-replay", "run.json")
    result.assert_outcomes(failed=1)
    assert "2 brokers, seed 9" in result.stdout.str()
    kept = json.loads(Path(".kafkasim/failures/test_orders-9.json").read_text())
    assert {key: kept[key] for key in recorded} == recorded
