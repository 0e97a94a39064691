"""Where faults fall: equal budgets and tables, moments of their own, the same plans every time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kafkasim.errors import ConfigurationError
from kafkasim.sim import aiming
from kafkasim.sim.aiming import DOWN, KINDS, Shape
from kafkasim.sim.plan import Plan

SHAPE = Shape([1, 2, 3], ["orders-0", "orders-1"], span_s=10.0)
EVERYWHERE = pytest.mark.parametrize(
    "aim",
    [
        aiming.at_any_time,
        aiming.at_leaders,
        aiming.at_events,
        aiming.around_elections,
        aiming.mixed,
        aiming.chase,
    ],
    ids=lambda aim: aim.__name__,
)


@EVERYWHERE
def test_a_seed_gives_one_plan_and_seeds_give_many(aim: Callable[[Shape, int, int], Plan]) -> None:
    """Equal for equal seeds; each of them valid, with as many faults as asked for."""
    plans = [aim(SHAPE, seed, 4) for seed in range(100)]
    assert plans == [aim(SHAPE, seed, 4) for seed in range(100)]
    assert len(set(plans)) > 90
    assert {len(plan) for plan in plans} == {4}


@EVERYWHERE
def test_all_draw_from_the_same_kinds_and_down_times(aim: Callable[[Shape, int, int], Plan]) -> None:
    """Only moments and places differ."""
    faults = [fault for seed in range(300) for fault in aim(SHAPE, seed, 4)]
    assert {fault.what for fault in faults} == set(KINDS)
    assert {fault.for_s for fault in faults} == {SHAPE.span_s * share for share in DOWN}


def test_faults_around_elections_wait_for_one_another() -> None:
    """The first comes with some record, most others count from the one before."""
    plans = [aiming.around_elections(SHAPE, seed, 4) for seed in range(200)]
    assert not any(plan.faults[0].then for plan in plans)
    later = [fault for plan in plans for fault in plan.faults[1:]]
    assert sum(fault.then for fault in later) > len(later) / 2


def test_a_shape_without_anything_is_refused() -> None:
    """With what it needs."""
    with pytest.raises(ConfigurationError, match="needs brokers and partitions"):
        Shape([1], [])
