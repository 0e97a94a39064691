"""Nemeses: plans from shapes and seeds, the same ones every time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kafkasim
from kafkasim.errors import ConfigurationError
from kafkasim.faults import KINDS
from kafkasim.sim import nemeses
from kafkasim.sim.menu import ORDER, Menu
from kafkasim.sim.plan import Plan

ROLES = ("leader:orders-0", "follower:orders-0", "controller", "clients")


def test_the_leader_is_chased_from_event_to_event() -> None:
    """A crash of whoever leads then, at every tenth answer."""
    plan = nemeses.chase_the_leader("orders-0", times=2, every=10)
    assert [str(fault) for fault in plan] == [
        "crash leader:orders-0 on Produce.answered #10 for 5s",
        "crash leader:orders-0 on Produce.answered #20 for 5s",
    ]


def test_a_rolling_restart_takes_one_broker_at_a_time() -> None:
    """Each is back before the next goes."""
    plan = nemeses.rolling_restart([1, 2, 3], at=5, pause=30, down=5)
    assert [(fault.target, fault.at_s) for fault in plan] == [("broker:1", 5), ("broker:2", 35), ("broker:3", 65)]


@pytest.mark.parametrize("seed", range(20))
def test_a_split_leaves_nobody_out(seed: int) -> None:
    """Two sides, each with somebody, every pair cut."""
    plan = nemeses.split([1, 2, 3], seed=seed)
    sides = {fault.target for fault in plan}, {fault.against for fault in plan}
    assert len(sides[0]) + len(sides[1]) == 3
    assert not sides[0] & sides[1]


@pytest.mark.parametrize("seed", range(20))
def test_a_swizzle_lets_go_after_all_are_clogged(seed: int) -> None:
    """In an order of its own."""
    plan = nemeses.swizzle_clog([1, 2, 3], seed=seed, at=5, step=2)
    assert sorted(fault.target for fault in plan) == ["broker:1", "broker:2", "broker:3"]
    assert all((fault.at_s or 0) + (fault.for_s or 0) >= 11 for fault in plan)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: nemeses.uniform([1, 2, 3], seed=seed),
        lambda seed: nemeses.event_indexed(["orders-0"], seed=seed),
        lambda seed: nemeses.around_changes([1, 2, 3], ["orders-0"], seed=seed),
        lambda seed: nemeses.swarm([1, 2, 3], ["orders-0"], seed=seed),
        lambda seed: nemeses.split([1, 2, 3], seed=seed),
        lambda seed: nemeses.swarm([1, 2, 3], ["orders-0"], seed=seed, kinds=list(KINDS), clients=["billing"]),
        lambda seed: nemeses.partition_splitter(ROLES, seed=seed),
    ],
)
def test_a_seed_gives_one_plan_and_seeds_give_many(make: object) -> None:
    """Equal for equal seeds; not one and the same for all."""
    plans = [make(seed) for seed in range(30)]  # type: ignore[operator]
    assert plans == [make(seed) for seed in range(30)]  # type: ignore[operator]
    assert len(set(plans)) > 5


def test_every_two_or_three_roles_are_separated() -> None:
    """Six pairs, each both ways and one way either way; four threes; then the first again."""
    plans = [nemeses.partition_splitter(ROLES, seed=seed, lasting=9) for seed in range(23)]
    assert len(set(plans)) == 6 * 3 + 4
    assert plans[22] == plans[0]
    assert [len(plan) for plan in plans[:22]] == [1] * 18 + [3] * 4
    assert str(plans[1]) == "partition leader:orders-0 to follower:orders-0 at 5s for 9s"
    on_event = nemeses.partition_splitter(ROLES, seed=21, on="Produce.answered", nth=4)
    assert {fault.trigger for fault in on_event} == {"on Produce.answered #4"}


def test_a_menu_offers_what_finds_anything_to_hit() -> None:
    """Every kind has its place in the order of harm; operators need a topic, kills a client."""
    assert sorted(ORDER) == sorted(KINDS)
    assert "kill" not in Menu().kinds()
    assert "elect_preferred" not in Menu().kinds()
    whole = Menu(partitions=("orders-0",), clients=("billing",))
    assert [kind for kind in whole.kinds() if kind in ("crash", "kill", "elect_preferred")] == [
        "elect_preferred",
        "kill",
        "crash",
    ]
    for kind in KINDS:
        assert whole.fault(kind, 7, for_s=1.0, at_s=2.0).what == kind
        assert whole.fault(kind, 3, for_s=1.0, on="Produce.received", nth=2).what == kind
    with pytest.raises(ConfigurationError, match="did you mean 'crash'"):
        Menu().kinds(["crush"])


@pytest.mark.parametrize("seed", range(12))
def test_a_sound_cluster_survives_a_swarm_of_everything(seed: int) -> None:
    """Clocks, disks, starved processes, elections and clients too; what more than must survive was harmed is allowed."""
    with kafkasim.Cluster(seed=seed) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})

        def writer() -> None:
            producer = cluster.producer({"acks": "all", "enable.idempotence": True, "linger.ms": 0})
            for number in range(60):
                producer.produce("orders", str(number).encode())
                producer.poll(0.1)
            producer.flush(120.0)

        cluster.spawn(writer, name="writer")
        plan = nemeses.swarm([1, 2, 3], ["orders-0"], seed=seed, faults=6, span=6.0, clients=["writer"])
        injection = cluster.inject(plan)
        cluster.run_for(30.0)
        injection.heal()
        cluster.run_for(60.0)
        assert injection.fired
        report = cluster.check()
        assert report.ok, f"{plan}\n{report}"


@pytest.mark.parametrize("problem", [lambda: nemeses.split([1]), lambda: nemeses.event_indexed([])])
def test_what_has_nothing_to_hit_is_refused(problem: object) -> None:
    """With what it needs."""
    with pytest.raises(ConfigurationError, match="needs"):
        problem()  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "make",
    [
        lambda seed: nemeses.event_indexed(["orders-0"], seed=seed, kinds=("crash", "pause"), horizon=40),
        lambda seed: nemeses.around_changes([1, 2, 3], ["orders-0"], seed=seed, horizon=20),
    ],
    ids=["at events", "around changes"],
)
def test_a_sound_cluster_survives_what_aims_at_it(make: Callable[[int], Plan], seed: int) -> None:
    """acks=all, two in sync, three replicas: whatever comes, nothing acknowledged is lost."""
    with kafkasim.Cluster(seed=seed) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        plan = make(seed)
        injection = cluster.inject(plan)
        producer = cluster.producer({"acks": "all", "enable.idempotence": True, "linger.ms": 0})
        for number in range(60):
            producer.produce("orders", str(number).encode())
            producer.poll(0.1)
        injection.heal()
        producer.flush(120.0)
        cluster.run_for(30.0)
        assert injection.fired
        report = cluster.check()
        assert report.ok, f"{plan}\n{report}"
