"""The frame of the bug benchmark: its statistics, its rows, and one bug that it finds."""

from __future__ import annotations

import math

import pytest
from benchmarks.bugs.hunt import Hunt, hunt, poisson_interval
from benchmarks.bugs.policies import AIMED, POLICIES
from benchmarks.bugs.rows import ROWS, chosen
from benchmarks.bugs.table import best, gain

from kafkasim.explore.trial import run_trial


def _hunt(seeds: int, hits: int) -> Hunt:
    return Hunt(seeds, hits, None, None, 1.0, (), ())


@pytest.mark.parametrize(
    ("hits", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39), (100, 81.36, 121.6)]
)
def test_the_interval_of_a_count_is_the_exact_one(hits: int, low: float, high: float) -> None:
    """Values from tables of the Poisson distribution."""
    assert poisson_interval(hits) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))


def test_half_of_all_searches_need_the_median() -> None:
    """One hit in ten seeds: 6.6 seeds; nothing found: no median and no upper end."""
    assert _hunt(1000, 100).median == pytest.approx(6.58, abs=0.01)
    low, high = _hunt(1000, 100).interval
    assert low < 6.58 < (high or 0)
    assert _hunt(1000, 0).median is None
    assert _hunt(1000, 0).interval[1] is None


def test_gain_is_a_geometric_mean_that_errs_towards_one() -> None:
    """Where one found nothing it is taken to have found one; rows that neither found do not count."""
    hunts = {
        "a": {"event": _hunt(100, 40), "uniform": _hunt(100, 10)},
        "b": {"event": _hunt(100, 9), "uniform": _hunt(100, 0)},
        "c": {"event": _hunt(100, 0), "uniform": _hunt(100, 0)},
    }
    found = gain(hunts, "event", "uniform")
    assert found is not None
    assert found.factor == pytest.approx(6.0)
    spread = 1.96 * (1 / 40 + 1 / 10 + 1 / 9 + 1) ** 0.5 / 2
    assert (found.low, found.high) == pytest.approx((6.0 * math.exp(-spread), 6.0 * math.exp(spread)))
    assert found.rows == 2
    assert gain({"c": hunts["c"]}, "event", "uniform") is None
    assert best(hunts["a"]) == "event"
    assert best(hunts["c"]) is None


def test_rows_have_names_of_their_own() -> None:
    """``--only`` tells them apart, and says what there is where it finds nothing."""
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert chosen(ROWS[0].name) == [ROWS[0]]
    with pytest.raises(SystemExit, match="no row 'unheard-of'"):
        chosen("unheard-of")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_quiet_where_nothing_goes_wrong(row: object) -> None:
    """Protected and by other designs, without a fault: the run works and nothing is reported."""
    for _, scenario in row.sound():  # type: ignore[attr-defined]
        trial = run_trial(scenario, 0)
        assert trial.ok, trial.findings


@pytest.mark.parametrize("name", POLICIES)
def test_policies_have_equal_budgets_and_are_repeatable(name: str) -> None:
    """As many faults as asked for; one seed, one plan."""
    scenario = ROWS[0].scenario(False)
    plans = [POLICIES[name](scenario, seed, 3) for seed in range(20)]
    assert plans == [POLICIES[name](scenario, seed, 3) for seed in range(20)]
    assert {len(plan) for plan in plans} == {3}


def test_a_bug_without_its_protection_is_found() -> None:
    """Logs cut at the high watermark lose records when leaders change."""
    found = hunt(chosen("truncate-to-high-watermark")[0], POLICIES[AIMED], seeds=300, hits=1)
    assert found.hits == 1
    assert not found.alarms
