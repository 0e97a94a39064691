"""Where faults fall: equal budgets and tables, moments of their own, the same plans every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import pytest

from kafkasim import Cluster, faults
from kafkasim.errors import ConfigurationError
from kafkasim.sim import aiming
from kafkasim.sim.aiming import HARMS, PROMISES, Shape
from kafkasim.sim.plan import Fault, Plan

SHAPE = Shape([1, 2, 3], ["orders-0", "orders-1"], span_s=10.0)
EVERYWHERE = pytest.mark.parametrize(
    "aim", [aiming.at_any_time, aiming.at_leaders, aiming.around_changes], ids=lambda aim: aim.__name__
)


@EVERYWHERE
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_seed_gives_one_plan_and_seeds_give_many(aim: Callable[[Shape, int, int], Plan], count: int) -> None:
    """Equal for equal seeds; each of them valid, with as many faults as asked for."""
    plans = [aim(SHAPE, seed, count) for seed in range(100)]
    assert plans == [aim(SHAPE, seed, count) for seed in range(100)]
    assert len(set(plans)) > 70
    assert {len(plan) for plan in plans} == {count}


@EVERYWHERE
def test_all_draw_from_the_same_kinds_and_down_times(aim: Callable[[Shape, int, int], Plan]) -> None:
    """Only moments and places differ; the power is cut once at most."""
    plans = [aim(SHAPE, seed, 3) for seed in range(300)]
    drawn = {(fault.what, fault.for_s) for plan in plans for fault in plan}
    lasting = {True: SHAPE.long_s, False: SHAPE.brief_s}
    assert drawn == {(kind, None if kind == "reset" else lasting[is_long]) for kind, is_long in HARMS}
    assert max(Counter(fault.what for fault in plan)["power_loss"] for plan in plans) == 1


def test_what_is_aimed_begins_at_a_promise_and_goes_on_from_there() -> None:
    """Each later fault waits for the one before it: in the same moment, at a change, at a promise, or when fewer are in sync."""
    plans = [aiming.around_changes(SHAPE, seed, 3) for seed in range(200)]
    assert all(plan.faults[0].on in PROMISES and not plan.faults[0].then for plan in plans)
    later = [fault for plan in plans for fault in plan.faults[1:]]
    assert all(fault.then for fault in later)
    assert {fault.on or fault.when or fault.at_s for fault in later if not _names_a_broker(fault)} == {
        *PROMISES,
        "change",
        0.0,
        *(f"isr:orders-{partition} <= {size}" for partition in (0, 1) for size in (1, 2)),
    }


@pytest.mark.parametrize("count", [2, 3])
def test_some_plans_hit_a_broker_again_when_it_has_just_come_back(count: int) -> None:
    """The same one, after its outage and before another is over; others name roles alone."""
    plans = [aiming.around_changes(SHAPE, seed, count) for seed in range(200)]
    again = [plan for plan in plans if _names_a_broker(plan.faults[0])]
    assert 10 < len(again) < 100
    for first, second, *_ in again:
        back_s = first.for_s or 0.0
        assert second.target == first.target
        assert second.at_s is not None
        assert back_s <= second.at_s <= back_s + SHAPE.long_s
    assert not any(_names_a_broker(fault) for plan in plans if plan not in again for fault in plan)


def test_who_is_left_is_the_leader() -> None:
    """Once every other replica has fallen out of sync, nobody else can be hit, and the power may be what fails."""
    plans = [aiming.around_changes(SHAPE, seed, 3) for seed in range(200)]
    last = [plan.faults[2] for plan in plans if str(plan.faults[2].when).endswith("<= 1")]
    assert {fault.target.partition(":")[0] for fault in last} == {"leader"}
    assert Counter(fault.what for fault in last)["power_loss"] > len(last) // 4


def test_a_partition_has_followers_only_where_it_has_replicas() -> None:
    """Five brokers, one of which has the only copy: nobody follows; with three copies the ISR shrinks from three."""
    brokers = [1, 2, 3, 4, 5]
    alone = Shape(brokers, ["orders-0"], {"orders-0": 1})
    plans = [aiming.around_changes(alone, seed, count) for seed in range(100) for count in (1, 2, 3)]
    assert not any(fault.target.startswith("follower:") for plan in plans for fault in plan)
    three = Shape(brokers, ["orders-0"], {"orders-0": 3})
    conditions = {fault.when for seed in range(100) for fault in aiming.around_changes(three, seed, 3)}
    assert conditions == {None, "isr:orders-0 <= 2", "isr:orders-0 <= 1"}


def test_a_lone_fault_hits_mostly_who_promised() -> None:
    """Three leaders to one follower; no faults make an empty plan."""
    hit = Counter(aiming.around_changes(SHAPE, seed, 1).faults[0].target.partition(":")[0] for seed in range(400))
    assert set(hit) == {"leader", "follower"}
    assert 2 < hit["leader"] / hit["follower"] < 5
    assert aiming.around_changes(SHAPE, 0, 0) == Plan()


def _names_a_broker(fault: Fault) -> bool:
    return fault.target.startswith("broker:")


def test_where_roles_change_anyway_half_of_the_plans_begin_there() -> None:
    """At one of as many changes as were seen."""
    shape = attrs.evolve(SHAPE, changes=5)
    first = [aiming.around_changes(shape, seed, 1).faults[0] for seed in range(200)]
    changes = [fault for fault in first if fault.on == "change"]
    assert 60 < len(changes) < 140
    assert {fault.nth for fault in changes} == {1, 2, 3, 4, 5}


def test_a_shape_without_anything_is_refused() -> None:
    """With what it needs."""
    with pytest.raises(ConfigurationError, match="needs brokers and partitions"):
        Shape([1], [])


# --- what plans of this kind aim at ---------------------------------------------------------------------------------------


def _hit_after(first: Fault, then: Fault) -> list[tuple[str, ...]]:
    """Whom two faults hit on a cluster that is written to."""
    with Cluster(brokers=3, seed=4) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        injection = cluster.inject(Plan((first, attrs.evolve(then, then=True))))
        for number in range(50):
            cluster.produce("orders", [str(number)])
            cluster.run_for(1.0)
        return [fired.hit for fired in injection.fired]


def test_a_change_counts_whatever_it_is_and_its_subject_is_who_changes() -> None:
    """A follower that was away: it starts, it is unfenced, it is about to join; all three are changes, all three are about it."""
    away = faults.crash("follower:orders-0", on="Produce.answered", nth=3, down=20)
    for nth in (1, 2, 3):
        one, other = _hit_after(away, Fault("pause", "subject", on="change", nth=nth, for_s=1.0))
        assert one == other, nth
    _, new_leader = _hit_after(
        attrs.evolve(away, target="leader:orders-0"), Fault("pause", "subject", on="change", for_s=1.0)
    )
    assert new_leader != one


def test_a_follower_is_one_that_the_plan_has_spared() -> None:
    """Two followers, not one of them twice; while the first is away it is in the ISR still."""
    away = faults.crash("follower:orders-0", on="Produce.answered", nth=3, down=20)
    one, other = _hit_after(away, Fault("pause", "follower:orders-0", at_s=0.0, for_s=1.0))
    assert one != other


def test_a_subject_needs_an_event() -> None:
    """At a time nothing is anybody's subject."""
    with pytest.raises(ConfigurationError, match="'subject' needs an event"):
        Fault("crash", "subject", at_s=1.0)
