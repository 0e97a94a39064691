"""Targets: what a text stands for, and what is said where it stands for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafkasim.errors import ConfigurationError
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.targets import Target, scenario_of

SCENES = "tests.unit.explore.scenes"
_DESIGN = """
[cluster]
duration = "3s"
drain = "3s"
[[topics]]
name = "calls"
partitions = 2
[[workloads]]
topic = "calls"
rate = "20/s"
[[groups]]
name = "billing"
topics = ["calls"]
[groups.promises]
max_lag = 0
latency_p99 = "1us"
[[faults]]
at = "1s"
what = "crash"
broker = 1
"""


def test_a_function_a_file_a_scenario_and_what_makes_one() -> None:
    """Sizes are the whole numbers among a function's defaults."""
    scenario = Target.of(f"{SCENES}:commits_first").scenario()
    assert (scenario.name, scenario.sizes) == ("commits_first", {"calls": 12})
    assert "the moon is full" in scenario.sometimes
    assert Target.of(f"{SCENES}:works_first").scenario().name == "works first"
    assert Target.of(f"{SCENES}:sound").scenario().name == "works first"
    assert Target.of("tests/unit/explore/scenes.py:commits_first").scenario().sizes == {"calls": 12}


def test_a_seeded_test_by_its_node_id(tmp_path: Path) -> None:
    """With the options of its decorator, and its own faults."""
    file = tmp_path / "test_it.py"
    file.write_text(
        "import kafkasim\n"
        "@kafkasim.test(seeds=3, brokers=1, settle=1.0, faults=kafkasim.faults.crash('any', at=2))\n"
        "def test_one(cluster):\n    assert cluster.broker_ids() == [1]\n"
        "@kafkasim.test(seeds=3)\ndef test_two(cluster, tmp_path):\n    pass\n"
        "def test_three():\n    pass\n"
    )
    scenario = Target.of(f"{file}::test_one").scenario()
    assert scenario.options == {"brokers": 1}
    assert scenario.settle_s == 1.0
    assert scenario.faults is not None
    assert cook(scenario, Recipe(1)).ok
    with pytest.raises(ConfigurationError, match="takes the fixture 'tmp_path'"):
        Target.of(f"{file}::test_two").scenario()
    with pytest.raises(ConfigurationError, match=r"decorated with @kafkasim\.test"):
        Target.of(f"{file}::test_three").scenario()


def test_a_design_with_its_promises_and_faults(tmp_path: Path) -> None:
    """A broken promise is a finding; the design's text travels with the target."""
    file = tmp_path / "design.toml"
    file.write_text(_DESIGN)
    target = Target.of(str(file), duration_us=2_000_000)
    file.unlink()
    scenario = target.scenario()
    assert scenario.partitions == ("calls-0", "calls-1")
    assert scenario.span_s == 2.0
    first, second = cook(scenario, Recipe(1)), cook(scenario, Recipe(1))
    assert first.fingerprint == second.fingerprint
    assert {finding.invariant for finding in first.findings} >= {"latency-p99"}
    assert "group billing was promised latency_p99" in str(first.report)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "expected a design"),
        ("nowhere.toml", "No such file"),
        ("no_such_module:x", "No module named"),
        (f"{SCENES}:absent", "has no 'absent'; it has .*commits_first"),
        (f"{SCENES}:not_callable", "is int, expected a function"),
        (f"{SCENES}:needs_more", "parameter 'records' has no default"),
        ("tests/no_such_file.py::test_x", "there is no file"),
        (f"{SCENES}:commits_first[1]", "parametrized"),
        (":x", "expected a design"),
    ],
)
def test_what_is_no_target_is_refused_in_its_own_words(name: str, message: str) -> None:
    """One line, with what would do."""
    with pytest.raises(ConfigurationError, match=message):
        Target.of(name).scenario()


def test_a_duration_is_for_designs() -> None:
    """A function runs as long as it does."""
    with pytest.raises(ConfigurationError, match="a duration is for designs"):
        Target.of(f"{SCENES}:sound", duration_us=1)


def test_the_digest_follows_the_source(tmp_path: Path) -> None:
    """So that a replay can tell that the code is another one now."""
    file = tmp_path / "scene.py"
    file.write_text("def scene(cluster): ...\n")
    before = Target.of(f"{file}:scene").digest
    assert Target.of(f"{file}:scene").digest == before
    file.write_text("def scene(cluster): pass\n")
    assert Target.of(f"{file}:scene").digest != before


def test_brokers_as_a_size_reach_the_cluster() -> None:
    """And whatever is no size is refused."""

    def body(cluster: object, brokers: int = 2) -> None: ...

    assert scenario_of(body).options == {"brokers": 2}
    assert scenario_of(body).with_sizes({"brokers": 1}).options == {"brokers": 1}
