"""What one run without faults tells of a scenario."""

from __future__ import annotations

from kafkasim import Cluster
from kafkasim.explore.shape import shape_of
from kafkasim.explore.trial import Scenario

RECORDS = 5


def _prepare(cluster: Cluster) -> None:
    cluster.create_topic("orders", partitions=2)
    cluster.create_topic("audit", replication_factor=1)


def _write(cluster: Cluster) -> None:
    writer = cluster.producer(**{"linger.ms": 0})
    for number in range(RECORDS):
        writer.produce("orders", b"%d" % number, partition=0)
        writer.flush()


def _read(cluster: Cluster) -> None:
    cluster.consumer("billing", ["orders"]).consume(RECORDS, 30.0)


def _body(cluster: Cluster) -> None:
    cluster.spawn(_read, cluster, name="billing-1")
    _write(cluster)
    cluster.run_for(10.0)


def test_the_shape_has_all_that_faults_can_aim_at() -> None:
    """Brokers, partitions with their replicas, groups, tasks, and how often each request was made."""
    shape, first = shape_of(Scenario("orders", _body, _prepare, {"brokers": 3}), seed=3)
    assert first.trial.ok
    assert shape.brokers == (1, 2, 3)
    assert shape.partitions == ("orders-0", "orders-1", "audit-0")
    assert {name: shape.replicas[name] for name in shape.partitions} == {"orders-0": 3, "orders-1": 3, "audit-0": 1}
    assert shape.groups == ("billing",)
    assert shape.tasks == ("billing-1",)
    assert shape.task_events["JoinGroup.arrived"] >= 1
    assert shape.span_s > 10


def test_a_scenario_that_names_its_partitions_is_aimed_at_there() -> None:
    """An internal topic among them is as good as another."""
    named = Scenario("orders", _body, _prepare, {"brokers": 3}, partitions=("__consumer_offsets-0",))
    shape, _ = shape_of(named, seed=3)
    assert shape.partitions == ("__consumer_offsets-0",)
    assert shape.replicas["__consumer_offsets-0"] == 3
    assert shape == shape_of(named, seed=3)[0]
