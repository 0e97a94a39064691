"""Locks on shared records cost what happens, not how long they last or how many records they hold: kernel events are counted."""

from __future__ import annotations

import kafkasim
from kafkasim.confluent_kafka import ShareConsumer


def _hold(cluster, records):
    """A share consumer that has acquired so many records, and does nothing more."""
    cluster.create_topic("t", partitions=1, replication_factor=3)
    settings = {
        "bootstrap.servers": cluster.bootstrap_servers,
        "group.id": "shared",
        "share.acknowledgement.mode": "explicit",
    }
    consumer = ShareConsumer(settings)
    consumer.subscribe(["t"])
    for _ in range(8):
        assert list(consumer.poll(1.0)) == []
    cluster.produce("t", [b"v"] * records)
    messages = list(consumer.poll(1.0))
    assert [message.delivery_count() for message in messages] == [1] * records
    return consumer, messages


def _events(cluster, seconds):
    before = cluster.kernel.events
    cluster.run_for(seconds)
    return cluster.kernel.events - before


def _run_out(records):
    """Events of 25 s in which a lock is held, five by five, and of the next five, in which it runs out."""
    with kafkasim.Cluster(brokers=3, seed=1) as cluster:
        consumer, messages = _hold(cluster, records)
        held = [_events(cluster, 5.0) for _ in range(5)]
        last = _events(cluster, 5.5)
        for message in messages:
            consumer.acknowledge(message)
        ((_, error),) = consumer.commit_sync().items()
        assert error.args[0].name() == "INVALID_RECORD_STATE"
        return held, last


def test_a_lock_of_thirty_seconds_costs_one_write():
    """While it is held nothing runs for it; when it runs out its state is written and replicated, once for all its records."""
    held, last = _run_out(1)
    assert max(held) - min(held) < 20, "what heartbeats and fetches between brokers cost, lock or no lock"
    assert last < 1.1 * max(held) + 20
    assert _run_out(400) == (held, last)
