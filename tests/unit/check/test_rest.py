"""A cluster at rest (B11, K8): what never heals is told without being asked, and a cluster that heals is left in peace."""

from __future__ import annotations

import pytest

import kafkasim
from kafkasim.core.model.metadata import MetadataBatch, PartitionChangeRecord

CONFIG = {"replica.lag.time.max.ms": 2000, "broker.session.timeout.ms": 2000}


def healed(seed: int = 1) -> kafkasim.Cluster:
    """A cluster that lost a broker and a link for a while, and had time."""
    cluster = kafkasim.Cluster(brokers=3, seed=seed, config=CONFIG)
    cluster.create_topic("t", partitions=3, config={"min.insync.replicas": 2})
    cluster.broker(1).crash()
    cluster.produce("t", ["a", "b"])
    cluster.run_for(10.0)
    cluster.broker(1).start()
    cluster.network.partition(2, 3)
    cluster.run_for(5.0)
    cluster.network.heal()
    return cluster


def test_a_cluster_that_has_healed() -> None:
    """At rest it is asked; before, and while somebody is away, it is not."""
    with healed() as cluster:
        assert "times at rest" not in cluster.check().looked_at
        cluster.run_for(60.0)
        report = cluster.check()
        assert report.ok, report
        assert report.looked_at["times at rest"] == 1
        cluster.broker(2).pause()
        cluster.run_for(60.0)
        assert "times at rest" not in cluster.check().looked_at
        cluster.broker(2).resume()
        cluster.network.slow(1, 2, extra_ms=10)
        cluster.run_for(60.0)
        assert "times at rest" not in cluster.check().looked_at


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"isr": (1, 2)}, "ISR (1, 2) of replicas"),
        ({"isr": (), "leader": -1, "elr": (1, 2), "last_known_elr": (1,)}, "no leader, ELR (1, 2)"),
    ],
)
def test_a_partition_that_never_heals(fields: dict[str, object], text: str) -> None:
    """B11: the metadata say for ever that a replica is missing, or the leader."""
    with healed() as cluster:
        cluster.run_for(60.0)
        assert cluster.watch is not None
        oracle = cluster.watch.oracle
        (key, _), *_ = oracle.metadata.partitions()
        end = oracle.metadata._log[-1].next_offset
        oracle.metadata.take(MetadataBatch(end, 1 << 20, (PartitionChangeRecord(*key, **fields),)))  # type: ignore[arg-type]
        (finding,) = cluster.check().findings
        assert finding.id == "B11"
        assert text in finding.text


def test_a_quorum_that_nobody_leads() -> None:
    """K8: everything runs, and no controller is active."""
    with healed() as cluster:
        cluster.run_for(60.0)
        for node in cluster._live_nodes():
            if node.controller is not None:
                node.controller._active_epoch = -1
        assert [finding.id for finding in cluster.check().findings] == ["K8"]
