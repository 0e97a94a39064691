"""Bugs of replication and of the controller: one partition of three replicas under one producer, faults at brokers.

Rule 1:   timers are short, so that sessions end and ISRs shrink within the seconds that a scenario lasts.
Rule 2:   every log, leader and high watermark goes past the replication oracle, which finds the cause before a consumer could.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.bugs.row import Row
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster
from kafkasim.testing.audit import audit

TOPIC = "orders"
CONFIG: Mapping[str, object] = {
    "broker.session.timeout.ms": 1000,
    "broker.heartbeat.interval.ms": 300,
    "replica.lag.time.max.ms": 1000,
}
PRODUCER: Mapping[str, object] = {
    "acks": "all",
    "linger.ms": 0,
    "message.timeout.ms": 6000,
    "request.timeout.ms": 1500,
}
#: Found where a replica that may lead lacks what was committed, or holds something else there.
LOSS = ("leader-completeness", "candidate-completeness", "log-matching", "acked-loss", "weak-ack")


def replicated(
    name: str,
    *,
    features: Mapping[str, bool] | None = None,
    topic: Mapping[str, object] | None = None,
    producer: Mapping[str, object] | None = None,
    records: int = 60,
    gap_s: float = 0.05,
) -> Scenario:
    """A producer writes ``records``, one every ``gap_s``, to a partition of three replicas, two of which must be in sync."""

    def prepare(cluster: Cluster) -> None:
        audit(cluster)
        cluster.create_topic(TOPIC, config={"min.insync.replicas": 2, **(topic or {})})

    def body(cluster: Cluster) -> None:
        writer = cluster.producer({**PRODUCER, **(producer or {})})
        for number in range(records):
            writer.produce(TOPIC, b"%d" % number)
            writer.poll(gap_s)
        writer.flush(10)

    return Scenario(
        name,
        body,
        prepare,
        {"brokers": 3, "controllers": 1, "config": CONFIG, "features": dict(features or {})},
        partitions=(f"{TOPIC}-0",),
        settle_s=60.0,
        span_s=records * gap_s,
        settled=is_settled,
    )


def is_settled(cluster: Cluster) -> bool:
    """Every process is registered and serves, every replica is in sync, and everything that the leader has is committed."""
    image = cluster._controller_image()
    for broker in cluster.broker_ids():
        node, known = cluster.process(broker).node, image.brokers.get(broker)
        if node is None or node.broker is None or known is None or known.fenced:
            return False
        if node.broker.ctx.broker_epoch != known.broker_epoch:
            return False
    topic = image.topics.get(TOPIC)
    for state in () if topic is None else topic.partitions:
        if len(state.isr) < len(state.replicas):
            return False
        leader = cluster._leader_replica(state)
        if leader is None or leader.high_watermark < leader.log_end or leader.leader_epoch < state.leader_epoch:
            return False
    return True


def _protected_by(feature: str, name: str, **more: Any) -> Callable[[bool], Scenario]:
    return lambda protection: replicated(name, features={feature: protection}, **more)


def _row(number: str, name: str, source: str, feature: str, expected: tuple[str, ...] = LOSS) -> Row:
    return Row(number, name, source, _protected_by(feature, name), expected, forbidden=("log-duplicate",))


REPLICATION: tuple[Row, ...] = (
    _row("1", "truncate-to-high-watermark", "KIP-101", "epoch_truncation"),
    _row("3", "epoch-answer", "KIP-279", "epoch_answer_below"),
    _row("4", "fetch-without-epoch", "KIP-320", "fetch_epoch_check"),
    _row("9", "high-watermark-over-isr", "KIP-497", "maximal_isr"),
    _row("10", "stale-alter-partition", "KIP-497", "partition_epoch_check"),
    _row("11", "fenced-in-isr", "KIP-841", "fenced_broker_check", ("fenced-not-in-isr", *LOSS)),
    _row("12", "restarted-in-isr", "KIP-903", "broker_epoch_check"),
    _row("13", "last-replica-trusted", "KIP-966", "eligible_leader_replicas"),
    _row("14", "unclean-shutdown-trusted", "KIP-966", "unclean_shutdown_detection"),
)
