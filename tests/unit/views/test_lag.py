"""The lag of a group, from the history of its clients."""

from __future__ import annotations

import pytest

import kafkasim


def test_lag_grows_with_records_and_falls_with_commits() -> None:
    """By partition and in all; behind commits, and behind deliveries."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders", partitions=2)
        producer = cluster.producer({"linger.ms": 0})
        for number in range(10):
            producer.produce("orders", b"x", partition=number % 2)
        producer.flush()
        consumer = cluster.consumer(
            "billing", ["orders"], {"auto.offset.reset": "earliest", "enable.auto.commit": False}
        )
        taken = []
        while len(taken) < 10:
            taken += consumer.consume(10, 1.0)
        assert len(cluster.lag("billing")) == 0  # nothing committed yet
        assert cluster.lag("billing", committed=False).total.last == 0
        consumer.commit(offsets=[kafkasim_partition(0, 2)], asynchronous=False)
        lag = cluster.lag("billing")
        assert [str(place) for place in lag] == ["orders-0"]
        assert lag["orders", 0].last == 3
        consumer.commit(offsets=[kafkasim_partition(0, 5), kafkasim_partition(1, 5)], asynchronous=False)
        producer.produce("orders", b"x", partition=1)
        producer.flush()
        lag = cluster.lag("billing")
        assert (lag["orders", 0].last, lag["orders", 1].last, lag.total.last) == (0, 1, 1)
        assert lag.total.max() == 3
        assert lag.rows()[0]["topic"] == "orders"
        with pytest.raises(KeyError, match="orders-0"):
            lag["orders", 7]


def kafkasim_partition(number: int, offset: int) -> object:
    from kafkasim.confluent_kafka import TopicPartition

    return TopicPartition("orders", number, offset)
