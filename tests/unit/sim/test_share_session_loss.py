"""A share session on the client's side: what ends it, and what an acknowledgement hears then."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.sim.shares import earliest

from kafkasim import Cluster
from kafkasim.confluent_kafka import AcknowledgeType, ShareConsumer
from kafkasim.sim.plan import Fault, Plan

CONFIG = {
    "group.share.min.heartbeat.interval.ms": 1000,
    "group.share.heartbeat.interval.ms": 1000,
}


@pytest.fixture
def cluster() -> Any:
    with Cluster(brokers=3, seed=5, config=CONFIG) as cluster:
        cluster.create_topic("jobs", replication_factor=1)
        cluster.produce("jobs", ["a", "b"])
        yield cluster


def _holder(cluster: Cluster, **config: object) -> Any:
    """A consumer that has accepted two records, and has not said so."""
    earliest(cluster, "workers")
    settings = {
        "bootstrap.servers": cluster.bootstrap_servers,
        "group.id": "workers",
        "share.acknowledgement.mode": "explicit",
        "reconnect.backoff.max.ms": 500,
    }
    consumer = ShareConsumer({**settings, **config})
    consumer.subscribe(["jobs"])
    messages: list[Any] = []
    while not messages:
        messages = list(consumer.poll(0.5))
    for message in messages:
        consumer.acknowledge(message, AcknowledgeType.ACCEPT)
    cluster.run_for(1.0)
    return consumer


def _outcomes(consumer: Any) -> list[str]:
    return [error.args[0].name() for error in consumer.commit_sync().values() if error is not None]


def test_a_connection_that_broke_does_not_end_it(cluster: Cluster) -> None:
    """Nothing was in hand, so the client goes on with the session, which the broker forgot with the connection."""
    consumer = _holder(cluster)
    leader = cluster.describe_topic("jobs")[0].leader
    cluster.inject(Plan((Fault("reset", f"broker:{leader}", at_s=0.0),)))
    cluster.run_for(2.0)
    assert _outcomes(consumer) == ["SHARE_SESSION_NOT_FOUND"]
    assert _outcomes(consumer) == []


def test_metadata_without_the_broker_end_it(cluster: Cluster) -> None:
    """The broker that comes back is another to the client, which fails what is acknowledged before it has fetched again."""
    consumer = _holder(cluster, **{"topic.metadata.refresh.interval.ms": 500})
    leader = cluster.describe_topic("jobs")[0].leader
    cluster.broker(leader).crash()
    cluster.run_for(20.0)
    cluster.broker(leader).start()
    cluster.run_for(5.0)
    assert _outcomes(consumer) == ["INVALID_SHARE_SESSION_EPOCH"]
