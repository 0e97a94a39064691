"""Bugs of replication and of the controller: one partition of three replicas under one producer, faults at brokers.

Rule 1:   timers are short, so that sessions end and ISRs shrink within the seconds that a scenario lasts.
Rule 2:   every log, leader and high watermark goes past the replication oracle, which finds the cause before a consumer could.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.bugs.row import Row
from kafkasim.check.report import Report
from kafkasim.core.model.admin_messages import (
    PREFERRED_ELECTION,
    AlterPartitionReassignmentsRequest,
    ElectLeadersRequest,
    Reassignment,
)
from kafkasim.core.model.cluster_messages import AlterPartitionRequest
from kafkasim.core.model.ids import TopicPartition
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster
from kafkasim.sim.links import Link
from kafkasim.testing.audit import audit

TOPIC = "orders"
CONFIG: Mapping[str, object] = {
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 1000,
    "replica.lag.time.max.ms": 3000,
    "replica.fetch.wait.max.ms": 1000,
    "leader.imbalance.check.interval.seconds": 1,
    "unclean.leader.election.interval.ms": 1000,
}
PRODUCER: Mapping[str, object] = {
    "acks": "all",
    "linger.ms": 0,
}
#: In every run that is sparse.
RECORDS = 60
GAP_S = 1.0
SPAN_S = RECORDS * GAP_S
BURST = 2
CLOSE_S = 0.05
MOVE_S = 0.5
#: What links of an uneven network take longer than others.
SLOWER_MS = (0, 0, 0, 3, 30, 150)
#: How long requests wait that come late.
LATE_MS = (2500, 8000)
#: Found where a replica that may lead lacks what was committed, or holds something else there.
LOSS = (
    "leader-completeness",
    "candidate-completeness",
    "quorum-superset",
    "global-survival",
    "log-matching",
    "acked-loss",
    "weak-ack",
)


def replicated(
    name: str,
    *,
    features: Mapping[str, bool] | None = None,
    topic: Mapping[str, object] | None = None,
    producer: Mapping[str, object] | None = None,
    config: Mapping[str, object] | None = None,
    brokers: int = 3,
    controllers: int | None = 1,
    records: int = RECORDS,
    gap_s: float = GAP_S,
    close_s: float = CLOSE_S,
    uneven: bool = False,
    late: Sequence[type[Any]] = (),
    late_ms: Sequence[int] = LATE_MS,
    backlog: bool = False,
    size: int = 0,
    bystander: bool = False,
    operator: int = 0,
    errand: bool = False,
    judge: Callable[[Cluster], Report] | None = None,
) -> Scenario:
    """A producer writes ``records``, one every ``gap_s``, to a partition with a replica on each broker, two of which must be in sync.

    ``uneven``: some links between servers are slow, so that what happens at once in one place is heard of late in another.
    ``late``: requests that take long, as they wait in somebody's queue.
    ``backlog``: the log is large and the links are narrow, so that a replica that begins anew needs four seconds.
    ``bystander``: another producer writes without waiting for replicas, so that leaders hold what their followers lack.
    ``errand``: leadership is moved once in the middle of the run, and back half a second later.
    ``operator``: so often it is moved at some record, and back within half a second.
    """

    def prepare(cluster: Cluster) -> None:
        audit(cluster)
        cluster.create_topic(TOPIC, replication_factor=brokers, config={"min.insync.replicas": 2, **(topic or {})})
        if backlog:
            cluster.produce(TOPIC, [bytes(500_000)] * 16)
            cluster.fabric.set_default_link(Link(bandwidth_bytes_per_s=900_000))
        if uneven:
            slow_some_links(cluster)
        for kind in late:
            cluster.fabric.delay_api(kind.API_KEY, 1000 * late_ms[cluster.choices.draw("bugs.late", len(late_ms))])

    def body(cluster: Cluster, records: int) -> None:
        writer = cluster.producer({**PRODUCER, **(producer or {})})
        other = cluster.producer({**PRODUCER, "acks": 1}) if bystander else None
        moves = [cluster.choices.draw("bugs.move", records) for _ in range(operator)]
        for number in range(records):
            writer.produce(TOPIC, b"%d" % number, b"x" * size or None)
            if other is not None:
                other.produce(TOPIC, b"other %d" % number)
                other.poll(0)
            if errand and number == records // 2:
                _move_leader_and_back(cluster)
            if number in moves:
                _move_leader_and_back(cluster, cluster.choices.draw("bugs.back", round(MOVE_S * 1_000_000)) / 1_000_000)
            cluster.run_for(wait_for_next(cluster, number, gap_s, close_s))
            writer.poll(0)
        writer.flush(30)

    return Scenario(
        name,
        body,
        prepare,
        {
            "brokers": brokers,
            "controllers": controllers,
            "config": {**CONFIG, **(config or {})},
            "features": dict(features or {}),
        },
        partitions=(f"{TOPIC}-0",),
        settle_s=60.0,
        span_s=records * gap_s,
        settled=is_settled,
        judge=judge,
        sizes={"records": records},
    )


def wait_for_next(cluster: Cluster, number: int, gap_s: float = GAP_S, close_s: float = CLOSE_S) -> float:
    """Seconds until the next record: two come close together, and then none for a while, so that no outage keeps step with them.

    Records that come closer than that still come evenly.
    """
    if gap_s <= close_s / 2:
        return gap_s
    if number % BURST < BURST - 1:
        return close_s
    mean_us = round((gap_s * BURST - (BURST - 1) * close_s) * 1_000_000)
    return cluster.choices.draw("bugs.gap", 2 * max(1, mean_us)) / 1_000_000


def write(cluster: Cluster, writer: Any, records: int) -> None:
    """So many records, as ``wait_for_next`` has them."""
    for number in range(records):
        writer.produce(TOPIC, b"%d" % number)
        writer.poll(0)
        cluster.run_for(wait_for_next(cluster, number))
    writer.flush(30)


def _move_leader_and_back(cluster: Cluster, back_s: float = MOVE_S) -> None:
    """Let another replica be the preferred one, and be elected, and soon the first again; nobody waits for the answers."""
    state = cluster._controller_image().partition(TopicPartition(TOPIC, 0))
    if state is None or state.leader not in state.replicas:
        return
    order = _rotated(tuple(state.replicas), state.replicas.index(state.leader))
    _prefer(cluster, _rotated(order, 1))
    cluster.at(cluster.now + back_s, _prefer, cluster, order)


def _rotated(items: tuple[int, ...], by: int) -> tuple[int, ...]:
    first = by % len(items)
    return (*items[first:], *items[:first])


def _prefer(cluster: Cluster, replicas: tuple[int, ...]) -> None:
    tp = TopicPartition(TOPIC, 0)
    ask_controller(cluster, AlterPartitionReassignmentsRequest((Reassignment(tp, replicas),)))
    ask_controller(cluster, ElectLeadersRequest(PREFERRED_ELECTION, (tp,)))


def ask_controller(cluster: Cluster, request: Any) -> None:
    """As an operator does; nobody waits for the answer."""
    shell = cluster._admin()
    shell.call(shell.engine.call, request, "controller", 2_000_000)


def slow_some_links(cluster: Cluster, slower_ms: Sequence[int] = SLOWER_MS) -> None:
    servers = list(range(1, len(cluster.broker_ids()) + 2))
    for one in servers:
        for other in servers[one:]:
            extra_ms = slower_ms[cluster.choices.draw("bugs.link", len(slower_ms))]
            if extra_ms:
                cluster.network.slow(one, other, extra_ms=extra_ms)


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
    features = more.pop("features", {})
    return lambda protection: replicated(name, features={**features, feature: protection}, **more)


def _row(
    number: str,
    name: str,
    source: str,
    feature: str,
    expected: tuple[str, ...] = LOSS,
    *,
    faults: int,
    rare: bool = False,
    **more: Any,
) -> Row:
    scenario = _protected_by(feature, name, **more)
    return Row(number, name, source, scenario, expected, forbidden=("log-duplicate",), faults=faults, rare=rare)


_LATE = [AlterPartitionRequest]

REPLICATION: tuple[Row, ...] = (
    _row("1", "truncate-to-high-watermark", "KIP-101", "epoch_truncation", faults=2),
    _row(
        "2",
        "diverging-logs",
        "KIP-101",
        "epoch_truncation",
        ("log-matching", "watermark-sanity"),
        brokers=2,
        topic={"min.insync.replicas": 1, "flush.messages": 3},
        faults=3,
        rare=True,
    ),
    _row(
        "3",
        "epoch-answer",
        "KIP-279",
        "epoch_answer_below",
        ("log-matching", "watermark-sanity"),
        brokers=2,
        bystander=True,
        errand=True,
        config={"broker.session.timeout.ms": 3000},
        faults=1,
        rare=True,
    ),
    _row(
        "4",
        "zombie-fetch",
        "KIP-320",
        "fetch_epoch_check",
        uneven=True,
        bystander=True,
        errand=True,
        config={"broker.session.timeout.ms": 3000},
        faults=2,
        rare=True,
    ),
    _row("5", "join-at-high-watermark", "KAFKA-7128", "epoch_start_check", uneven=True, faults=2, rare=True),
    _row("9", "high-watermark-over-isr", "KIP-497", "maximal_isr", late=_LATE, late_ms=LATE_MS[:1], faults=2),
    _row(
        "10",
        "stale-alter-partition",
        "KIP-497",
        "partition_epoch_check",
        late=_LATE,
        late_ms=LATE_MS[1:],
        backlog=True,
        size=300_000,
        faults=2,
        rare=True,
    ),
    _row("11", "fenced-in-isr", "KIP-841", "fenced_broker_check", ("fenced-not-in-isr",), faults=1),
    _row(
        "12",
        "restarted-in-isr",
        "KIP-903",
        "broker_epoch_check",
        late=_LATE,
        late_ms=LATE_MS[1:],
        backlog=True,
        faults=2,
    ),
    _row("13", "last-replica-trusted", "KIP-966", "eligible_leader_replicas", faults=3),
    _row("14", "unclean-shutdown-trusted", "KIP-966", "unclean_shutdown_detection", faults=3),
)
