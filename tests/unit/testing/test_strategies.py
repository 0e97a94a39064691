"""Strategies: what they draw can be used, and what they shrink to is harmless."""

from __future__ import annotations

from hypothesis import find, given, settings
from hypothesis import strategies as st

import kafkasim
from kafkasim.sim.plan import Plan
from kafkasim.testing import strategies

#: Nothing kept from earlier runs, and the same search every time.
ALONE = settings(database=None, derandomize=True, max_examples=500)


@given(strategies.fault_plans(["orders-0", "orders-1"]))
def test_every_plan_that_is_drawn_can_be_written_and_read(plan: Plan) -> None:
    """So that a failure can be kept."""
    assert kafkasim.faults.plan_from_toml(kafkasim.faults.plan_to_toml(plan)) == plan


@given(strategies.fault_plans(["orders-0"], kinds=list(kafkasim.faults.KINDS), clients=["billing"]))
def test_every_kind_can_be_drawn(plan: Plan) -> None:
    """Those that are drawn only where somebody names them too."""
    assert kafkasim.faults.plan_from_json(kafkasim.faults.plan_to_json(plan)) == plan


def test_kinds_shrink_from_harmful_to_harmless() -> None:
    """The least harmful kind that will do, at the first place, at once."""
    plans = strategies.fault_plans(["orders-0"], clients=["billing"])
    found = find(plans, lambda plan: any(fault.for_s for fault in plan), settings=ALONE)
    assert [str(fault) for fault in found] == ["clock_jump broker:1 +3600s at 0s for 0.001s"]


def test_a_plan_shrinks_to_no_fault() -> None:
    """Where nothing else is asked for."""
    assert find(strategies.fault_plans(["orders-0"]), lambda plan: True, settings=ALONE) == Plan()


def test_a_needed_crash_shrinks_to_a_short_one_at_the_start() -> None:
    """The one fault that is needed, as harmless as it can be."""
    plans = strategies.fault_plans(["orders-0"])
    found = find(plans, lambda plan: any(fault.what == "crash" for fault in plan), settings=ALONE)
    assert [str(fault) for fault in found] == ["crash broker:1 at 0s for 0.001s"]


@given(strategies.topic_settings(), st.integers(1, 3))
def test_settings_are_possible(topic: strategies.TopicSettings, brokers: int) -> None:
    """Never more in sync than there are replicas; idempotence only with acks=all."""
    assert 1 <= topic.min_insync_replicas <= topic.replication_factor <= 3
    assert topic.acks == "all" or not topic.idempotent


@settings(max_examples=25, deadline=None)
@given(
    plan=strategies.fault_plans(["orders-0"], kinds=["pause", "crash"], max_nth=20, max_at=10),
    work=strategies.workloads(),
    seed=strategies.seeds(),
)
def test_a_property_of_a_cluster(plan: Plan, work: strategies.Workload, seed: int) -> None:
    """The whole of it in one test: records are acknowledged, kept, and there once, whatever the plan."""
    with kafkasim.Cluster(seed=seed) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        injection = cluster.inject(plan)
        reports = work.produce(cluster, "orders", **{"enable.idempotence": True})
        injection.heal()
        cluster.run_for(20.0)
        assert [error for error, _ in reports if error is not None] == []
        assert [record.value for record in cluster.records("orders")] == [value for _, value in work.records]
        assert cluster.check().ok
