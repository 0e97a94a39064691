"""The reference fan-out, small: ten groups over 24 partitions, through a surge with a broker failure, and what may be planted in it.

Rule 1:   a planted bug is one group's worker, or the producer's acks; the nine other groups stay sound, and must not be reported.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.bugs.consumers import commits_first, hands_to_a_thread
from benchmarks.bugs.row import Row
from benchmarks.bugs.work import TOPIC, Quiet, Stage, Worker, is_all_committed, works_first
from kafkasim import sinks
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster

GROUPS = (
    *("billing", "fraud", "crm", "search", "alerts"),
    *("coaching", "compliance", "embeddings", "qa-dashboard", "warehouse"),
)
_PARTITIONS = 24
_RECORDS = 120
_GAP_S = 0.05
#: From a third of the records to two thirds they come so many times as fast.
_SURGE = 4
_CONFIG: Mapping[str, object] = {
    "group.initial.rebalance.delay.ms": 0,
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
}


def fan_out(
    name: str,
    *,
    planted: Mapping[str, Worker] | None = None,
    acks: str = "all",
    harms_clients: bool = True,
    no_loss: bool = False,
) -> Scenario:
    """Every group promises to work on each record at least once; ``no_loss``: and the topic to lose nothing, whatever its settings."""
    workers = {group: (planted or {}).get(group, works_first) for group in GROUPS}

    def prepare(cluster: Cluster) -> None:
        cluster.create_topic(TOPIC, partitions=_PARTITIONS, replication_factor=3, config={"min.insync.replicas": 2})
        if no_loss:
            cluster.guarantee(topics=TOPIC, no_loss=True)
        for group, worker in workers.items():
            cluster.guarantee(group, topics=TOPIC, at_least_once=True)
            stage = Stage(cluster, sinks.Sink(cluster, f"{group} table", group=group), worker, workers=1)
            cluster.spawn(worker, stage, name=group)
        for group in workers:
            cluster.wait_for_assignment(group, 1)

    def body(cluster: Cluster) -> None:
        producer = cluster.producer(acks=acks, linger_ms=0)
        failing = 1 + cluster.choices.draw("fan-out.broker", 3)
        others = [broker for broker in cluster.broker_ids() if broker != failing]
        for number in range(_RECORDS):
            if number == _RECORDS // 3:
                cluster.network.partition(failing, others)  # it is cut off from its like first, and fails soon after
            if number == _RECORDS // 2:
                cluster.broker(failing).power_loss()
                cluster.network.heal(failing, others)
            producer.produce(TOPIC, b"%d" % number, b"caller-%d" % number)
            producer.poll(0)
            is_surge = _RECORDS // 3 <= number < 2 * _RECORDS // 3
            cluster.run_for(_GAP_S / _SURGE if is_surge else _GAP_S)
        producer.flush(10)
        cluster.broker(failing).start()

    return Scenario(
        name,
        body,
        prepare,
        {"brokers": 3, "controllers": 1, "config": _CONFIG},
        partitions=tuple(f"{TOPIC}-{number}" for number in range(4)),
        clients=GROUPS if harms_clients else (),
        settle_s=60.0,
        span_s=_RECORDS * _GAP_S,
        settled=Quiet(_is_all_committed),
    )


def _is_all_committed(cluster: Cluster) -> bool:
    return all(is_all_committed(cluster, group) for group in GROUPS)


def _sound() -> Scenario:
    return fan_out("fan-out")


FAN_OUT: tuple[Row, ...] = (
    Row(
        "31f",
        "fan-out-commit-before-work",
        "planted in the reference fan-out",
        lambda protection: _sound() if protection else fan_out("fan-out, billing", planted={"billing": commits_first}),
        ("commit-ahead", "at-least-once"),
        forbidden=("acked-loss",),
        faults=0,
        stress=4,
    ),
    Row(
        "34f",
        "fan-out-auto-commit-and-threads",
        "planted in the reference fan-out",
        lambda protection: _sound() if protection else fan_out("fan-out, fraud", planted={"fraud": hands_to_a_thread}),
        ("commit-ahead", "at-least-once"),
        forbidden=("acked-loss",),
        faults=0,
        stress=4,
    ),
    Row(
        "16f",
        "fan-out-acks-1",
        "planted in the reference fan-out",
        lambda protection: fan_out(
            "fan-out at brokers" if protection else "fan-out, acks=1",
            acks="all" if protection else "1",
            harms_clients=False,
            no_loss=True,
        ),
        ("acked-loss",),
        forbidden=("commit-ahead",),
        faults=0,  # the failure of a broker that belongs to the scenario is enough; more would be over the budget
    ),
)
