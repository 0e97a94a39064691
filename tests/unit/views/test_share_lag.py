"""Where a share group's records are, over time: from brokers' notes, and from clients' words alone."""

from __future__ import annotations

from typing import Any

from tests.unit.sim.shares import earliest
from tests.unit.sim.test_share_history import run

import kafkasim
from kafkasim.confluent_kafka import ShareConsumer
from kafkasim.core.model.history import Happened
from kafkasim.views.share_lag import ShareLag, share_lag


def lives(cluster: kafkasim.Cluster) -> None:
    """Twelve records: eight accepted, one rejected, one released and taken again, two left in hand."""
    cluster.create_topic("jobs", partitions=2, config={"min.insync.replicas": 2})
    earliest(cluster, "workers")
    producer = cluster.producer(linger_ms=0)
    for number in range(12):
        producer.produce("jobs", b"x", partition=number % 2)
    producer.flush()
    consumer = ShareConsumer(
        {
            "bootstrap.servers": cluster.bootstrap_servers,
            "group.id": "workers",
            "share.acknowledgement.mode": "explicit",
        }
    )
    consumer.subscribe(["jobs"])
    taken: list[Any] = []
    while len(taken) < 12:
        found = list(consumer.poll(1.0))
        taken += found
        for message in found:
            kind = {(0, 2): 3, (1, 3): 2}.get((message.partition(), message.offset()), 1)
            consumer.acknowledge(message, kind)
        consumer.commit_sync()
    cluster.run_for(1.0)
    while not consumer.poll(1.0):
        pass
    cluster.run_for(1.0)


def numbers(found: ShareLag) -> tuple[Any, Any, Any]:
    return found.lag.total.last, found.acquired.total.last, found.archived.total.last


def test_records_wait_are_in_hand_and_are_over() -> None:
    """By partition and in all."""
    with kafkasim.Cluster(seed=1) as cluster:
        lives(cluster)
        found = cluster.share_lag("workers")
        assert numbers(found) == (1, 1, 1)
        assert (found.lag["jobs", 0].last, found.lag["jobs", 1].last) == (0, 1)
        assert (found.acquired["jobs", 1].last, found.archived["jobs", 0].last) == (1, 1)
        assert found.acquired.total.max() >= 2
        assert found.lag.total.max() >= 6
        assert {row["what"] for row in found.rows()} == {"lag", "acquired", "archived"}
        assert "share group 'workers'" in repr(found)
        assert numbers(cluster.share_lag("nobody")) == (None, None, None)


def test_clients_alone_tell_nearly_the_same() -> None:
    """As on a real cluster, whose brokers keep their notes to themselves."""
    with kafkasim.Cluster(seed=1) as cluster:
        lives(cluster)
        clients = [event for event in cluster.history if not isinstance(event, Happened)]
        assert numbers(share_lag(clients, "workers", cluster.now)) == (1, 1, 1)


def test_a_new_leader_knows_what_was_persisted_and_no_locks() -> None:
    """Nothing is acquired right after; the lag is what it was."""
    with kafkasim.Cluster(seed=1) as cluster:
        lives(cluster)
        cluster.run_for(40.0)  # the lock runs out
        assert numbers(cluster.share_lag("workers"))[:2] == (1, 0)
        leader = cluster.describe_topic("jobs")[1].leader
        cluster.broker(leader).crash()
        cluster.run_for(30.0)
        assert numbers(cluster.share_lag("workers"))[0] == 1


def test_what_the_limit_takes_is_archived_and_no_lag() -> None:
    """A record that is always released, and one that was rejected."""
    cluster, _ = run()
    found = share_lag(cluster.history, "workers", cluster.now)
    assert numbers(found) == (0, 0, 2)
    times = [time for time, value in found.archived.total if value == 2]
    assert times[0] > next(time for time, value in found.archived.total if value == 1)
