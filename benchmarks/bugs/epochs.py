"""Bugs of offsets without their leader epochs: who begins at one cannot know whether the log was cut below it meanwhile (KIP-320).

KAFKA-19902 was reported as a stale epoch, committed after a change of leaders, that leads to a reset once retention has taken the epoch's
records. But offset and epoch of the last record belong together whatever happens later: a leader that lost the epoch's records to
retention answers with where the next epoch began, which is not before the offset. What the report met were offsets that an application
commits without an epoch (KAFKA-20507). librdkafka commits the epoch with a message or a stored offset; with ``offsets=`` what it is given.

Rule 1:   the topic has one replica on a disk that is written now and then, so that a loss of power takes its last records.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from benchmarks.bugs.replication import CONFIG, PRODUCER, RECORDS, SPAN_S, TOPIC, write
from benchmarks.bugs.row import Row
from benchmarks.bugs.settings import READER, everything_read
from kafkasim.confluent_kafka import KafkaException, TopicPartition
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster

_JOB_S = 1.0
_PAUSE_S = 5.0


def _jobs(protection: bool) -> Scenario:
    """A job looks every few seconds what is new, begins where the last one has committed, and ends."""

    def prepare(cluster: Cluster) -> None:
        cluster.create_topic(TOPIC, replication_factor=1, config={"min.insync.replicas": 1, "flush.messages": 4})
        cluster.consumer("reader", []).committed([TopicPartition(TOPIC, 0)], 20.0)

    def body(cluster: Cluster, records: int) -> None:
        cluster.spawn(_looks_again_and_again, cluster, protection, name="reader")
        write(cluster, cluster.producer({**PRODUCER, "acks": 1}), records)

    config = {**CONFIG, "offsets.topic.num.partitions": 1}
    return Scenario(
        "offset-without-epoch",
        body,
        prepare,
        {"brokers": 3, "controllers": 1, "config": config},
        partitions=(f"{TOPIC}-0",),
        settle_s=25.0,
        span_s=SPAN_S,
        judge=everything_read,
        sizes={"records": RECORDS},
    )


def _looks_again_and_again(cluster: Cluster, with_epoch: bool) -> None:
    while True:
        consumer = cluster.consumer("reader", [], READER)
        with contextlib.suppress(KafkaException):  # the next one will find it
            _look(cluster, consumer, with_epoch)
        consumer.close()
        time.sleep(_PAUSE_S)


def _look(cluster: Cluster, consumer: Any, with_epoch: bool) -> None:
    consumer.assign(consumer.committed([TopicPartition(TOPIC, 0)], 5.0))
    last = None
    until_s = cluster.now + _JOB_S
    while cluster.now < until_s:
        for message in consumer.consume(100, 0.1):
            if message.error() is None:
                last = message
    if last is None:
        return
    if with_epoch:
        consumer.commit(last, asynchronous=False)
    else:
        consumer.commit(offsets=[TopicPartition(TOPIC, 0, last.offset() + 1)], asynchronous=False)


EPOCHS: tuple[Row, ...] = (
    Row(
        "8",
        "offset-without-epoch",
        "KAFKA-19902, KAFKA-20507",
        _jobs,
        ("unseen",),
        forbidden=("commit-ahead",),
        faults=1,
        rare=True,
    ),
)
