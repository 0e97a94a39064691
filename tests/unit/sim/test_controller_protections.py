"""What the controller's protections are worth on a whole cluster: acknowledged records, through deaths in a bad order."""

from __future__ import annotations

import kafkasim


def after_power_loss(**features: bool) -> kafkasim.Cluster:
    """Three replicas hold three acknowledged records; two lose their power, then the third dies, and one of the two is back."""
    cluster = kafkasim.Cluster(3, controllers=1, seed=3, features=features or None)
    cluster.create_topic("t", 1, 3, {"min.insync.replicas": 3})
    cluster.produce("t", ["a", "b", "c"])
    (partition,) = cluster.describe_topic("t")
    first, *others = [cluster.broker(node) for node in partition.replicas]
    for broker in others:
        broker.power_loss()
    cluster.run_until(lambda: len(cluster.describe_topic("t")[0].isr) == 1, 30)
    first.crash()
    cluster.run_until(lambda: cluster.describe_topic("t")[0].leader == -1, 30)
    others[-1].start()
    cluster.run_for(5)
    return cluster


def test_protected_records_wait_for_who_has_them() -> None:
    """The replica that came back without its unflushed records leads nothing; the one that had them does."""
    with after_power_loss() as cluster:
        (partition,) = cluster.describe_topic("t")
        assert partition.leader == -1
        cluster.broker(partition.last_known_elr[0]).start()
        for node in partition.replicas:
            cluster.broker(node).start()
        cluster.run_until(lambda: len(cluster.describe_topic("t")[0].isr) == 3, 30)
        assert cluster.describe_topic("t")[0].leader == partition.last_known_elr[0]
        cluster.run_for(1)
        assert [record.value for record in cluster.records("t")] == [b"a", b"b", b"c"]


def test_unprotected_records_are_gone() -> None:
    """An eligible replica whose death nobody looked into leads with an empty log."""
    with after_power_loss(unclean_shutdown_detection=False) as cluster:
        (partition,) = cluster.describe_topic("t")
        assert partition.leader >= 0
        assert cluster.records("t") == []


def test_without_elr_the_last_replica_is_trusted() -> None:
    """The last one in the ISR loses its power and leads again with an empty log, though others hold what it lost."""
    with kafkasim.Cluster(3, controllers=1, seed=3, features={"eligible_leader_replicas": False}) as cluster:
        cluster.create_topic("t", 1, 3, {"min.insync.replicas": 2})
        cluster.produce("t", ["a", "b", "c"])
        (partition,) = cluster.describe_topic("t")
        first, *others = [cluster.broker(node) for node in partition.replicas]
        for broker in others:
            broker.crash()
        cluster.run_until(lambda: len(cluster.describe_topic("t")[0].isr) == 1, 30)
        first.power_loss()
        cluster.run_until(lambda: cluster.describe_topic("t")[0].leader == -1, 30)
        assert len(cluster.describe_topic("t")[0].isr) == 1
        for broker in others:
            broker.start()
        cluster.run_for(5)
        assert cluster.describe_topic("t")[0].leader == -1
        first.start()
        cluster.run_until(lambda: cluster.describe_topic("t")[0].leader >= 0, 30)
        assert cluster.records("t") == []
