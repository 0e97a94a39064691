"""Bugs of replicas that move from broker to broker: who holds the data meanwhile.

Rule 1:   the moves are an operator's, part of the scenario; that a broker dies in the midst of one is the plan's doing.
"""

from __future__ import annotations

from benchmarks.bugs.replication import (
    CONFIG,
    LOSS,
    PRODUCER,
    RECORDS,
    SPAN_S,
    TOPIC,
    ask_controller,
    is_settled,
    wait_for_next,
)
from benchmarks.bugs.row import Row
from kafkasim.core.model.admin_messages import AlterPartitionReassignmentsRequest, Reassignment
from kafkasim.core.model.ids import TopicPartition
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster
from kafkasim.sim.links import Link
from kafkasim.testing.audit import audit

_MOVES = 3


def _reassigned(protection: bool) -> Scenario:
    """Two replicas walk over three brokers, under a producer, now and then; a copy takes four seconds."""

    def prepare(cluster: Cluster) -> None:
        audit(cluster)
        cluster.create_topic(TOPIC, replication_factor=2, config={"min.insync.replicas": 2})
        cluster.produce(TOPIC, [bytes(500_000)] * 16)
        cluster.fabric.set_default_link(Link(bandwidth_bytes_per_s=2_000_000))

    def body(cluster: Cluster, records: int) -> None:
        writer = cluster.producer(PRODUCER)
        for _ in range(_MOVES):
            at_s = cluster.choices.draw("bugs.move", round(SPAN_S * 1_000_000)) / 1_000_000
            cluster.at(cluster.now + at_s, _move_on, cluster)
        for number in range(records):
            writer.produce(TOPIC, b"%d" % number)
            cluster.run_for(wait_for_next(cluster, number))
            writer.poll(0)
        writer.flush(30)

    options = {"brokers": 3, "controllers": 1, "config": CONFIG, "features": {"adding_replicas_check": protection}}
    return Scenario(
        "dropped-before-replaced",
        body,
        prepare,
        options,
        partitions=(f"{TOPIC}-0",),
        settle_s=60.0,
        span_s=SPAN_S,
        settled=is_settled,
        sizes={"records": RECORDS},
    )


def _move_on(cluster: Cluster) -> None:
    """The broker that has no replica gets the one of the first that has; nobody waits for the answer."""
    state = cluster._controller_image().topics[TOPIC].partitions[0]
    if state.adding_replicas or state.removing_replicas:
        return
    (free,) = [broker for broker in cluster.broker_ids() if broker not in state.replicas]
    moved = Reassignment(TopicPartition(TOPIC, 0), (*state.replicas[1:], free))
    ask_controller(cluster, AlterPartitionReassignmentsRequest((moved,)))


MOVES: tuple[Row, ...] = (
    Row(
        "17",
        "dropped-before-replaced",
        "KIP-455",
        _reassigned,
        (*LOSS, "global-survival"),
        forbidden=("log-duplicate",),
        faults=1,
    ),
)
