"""Arrivals, surges, keys and values."""

from itertools import pairwise
from random import Random

import pytest

from kafkasim.lab.design import WorkloadDesign
from kafkasim.lab.workload import Arrivals, _HeaderMaker, malformed_pool, poisson, surge_factor, value_pool


def arrivals(design: WorkloadDesign, until_us: int, step_us: int = 25_000) -> list[int]:
    source = Arrivals(design, Random(1))
    return [time_us for at_us in range(step_us, until_us + 1, step_us) for time_us in source.until(at_us)]


def test_a_surge_is_made_of_straight_lines() -> None:
    """Between two points the factor moves evenly, outside them it stays."""
    points = ((0, 1.0), (100, 3.0), (200, 1.0))
    assert [surge_factor(points, at) for at in (-5, 0, 50, 100, 150, 200, 900)] == [1.0, 1.0, 2.0, 3.0, 2.0, 1.0, 1.0]


def test_regular_arrivals_keep_the_rate_exactly() -> None:
    """A rate of 1000 a second with a surge to the double brings as many as the curve's area."""
    flat = arrivals(WorkloadDesign("w", "t", rate_per_second=1000), 2_000_000)
    assert len(flat) in (1999, 2000)
    assert all(earlier <= later for earlier, later in pairwise(flat))
    surging = WorkloadDesign("w", "t", rate_per_second=1000, surge=((0, 1.0), (2_000_000, 3.0)))
    assert len(arrivals(surging, 2_000_000)) == pytest.approx(4000, abs=1)


def test_poisson_arrivals_have_the_mean_and_the_variance() -> None:
    """Counts for small and large means spread as they should."""
    rng = Random(3)
    for mean in (2.0, 100.0):
        counts = [poisson(rng, mean) for _ in range(4000)]
        average = sum(counts) / len(counts)
        variance = sum((count - average) ** 2 for count in counts) / len(counts)
        assert average == pytest.approx(mean, rel=0.05)
        assert variance == pytest.approx(mean, rel=0.1)


def test_listed_arrivals_come_when_listed() -> None:
    """Times from a file are kept."""
    design = WorkloadDesign("w", "t", arrival_times_us=(10, 26_000, 26_000, 90_000))
    assert arrivals(design, 75_000) == [10, 26_000, 26_000]


def test_values_are_json_of_the_wanted_sizes() -> None:
    """The pool spans the range of sizes; malformed values are cut off and in no pool."""
    pool = value_pool(Random(1), 100, 400)
    sizes = [len(value) for value in pool]
    assert min(sizes) == 100
    assert max(sizes) == 400
    malformed = malformed_pool(pool)
    assert not set(malformed) & set(pool)
    assert value_pool(Random(1), 3, 3)[0] == b"000"


def test_headers_of_records() -> None:
    """Fixed texts, the record's number, its key and its producer; the fast way and the general one agree."""
    fast = WorkloadDesign("w", "t", headers=(("a", "x{producer}"), ("id", "{id}"), ("b", "y")))
    slow = WorkloadDesign("w", "t", headers=(*fast.headers, ("key", "<{key}>")))
    made = _HeaderMaker(fast, 3).make(range(7, 9), [b"k", None])
    assert made == [(("a", b"x3"), ("id", b"7"), ("b", b"y")), (("a", b"x3"), ("id", b"8"), ("b", b"y"))]
    general = _HeaderMaker(slow, 3).make(range(7, 9), [b"k", None])
    assert general == [(*(made[0] or ()), ("key", b"<k>")), (*(made[1] or ()), ("key", b"<>"))]
    assert _HeaderMaker(WorkloadDesign("w", "t"), 1).make(range(2), [None, None]) == [None, None]
