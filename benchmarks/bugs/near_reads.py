"""Bugs of reading nearby: consumers that are served by a replica in their own rack instead of the leader (KIP-392).

Rule 1:   three racks with a broker each; readers of every rack. Which replica serves them is the cluster's choice.
Rule 2:   a reader may be behind by what a replica in sync may lack, and no further.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from benchmarks.bugs.replication import CONFIG, PRODUCER, RECORDS, SPAN_S, TOPIC, is_settled, wait_for_next
from benchmarks.bugs.row import Row
from benchmarks.bugs.settings import READER, unheard_leaders
from kafkasim.check.report import Report
from kafkasim.confluent_kafka import KafkaError, TopicPartition
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster
from kafkasim.testing.audit import audit

_RACKS = ("a", "b", "c")
_PATIENCE_S = 3.0
_LOOK_EVERY_S = 2.0
#: A leader hears from its followers, and they from it, at least so often.
_SLACK_S = 1.0


@attrs.frozen
class _Look:
    """A job that began at ``since_s`` and was told that the log ends at ``end``."""

    rack: str
    since_s: float
    end: int


@attrs.define
class _Seen:
    """What one trial's clients know: offsets with the times at which they were sent and acknowledged; the jobs' looks."""

    acked: list[tuple[int, float, float]] = attrs.field(factory=list)
    looks: list[_Look] = attrs.field(factory=list)
    is_over: bool = False


def _in_racks(
    name: str,
    features: dict[str, bool],
    read: Callable[[Cluster, _Seen, str], None],
    judge: Callable[[Cluster, _Seen], Report],
) -> Scenario:
    trials: list[_Seen] = []

    def prepare(cluster: Cluster) -> None:
        trials[:] = [_Seen()]
        audit(cluster)
        cluster.create_topic(TOPIC, config={"min.insync.replicas": 2})

    def body(cluster: Cluster, records: int) -> None:
        seen = trials[0]
        for rack in _RACKS:
            cluster.spawn(read, cluster, seen, rack, name=f"reader-{rack}")
        writer = cluster.producer(PRODUCER)

        def delivered(sent_s: float) -> Callable[[Any, Any], None]:
            def report(error: Any, message: Any) -> None:
                if error is None:
                    seen.acked.append((message.offset(), sent_s, cluster.now))

            return report

        for number in range(records):
            writer.produce(TOPIC, b"%d" % number, on_delivery=delivered(cluster.now))
            until_s = cluster.now + wait_for_next(cluster, number)
            while cluster.now < until_s:
                writer.poll(until_s - cluster.now)
        writer.flush(30)
        seen.is_over = True

    selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    options = {
        "brokers": 3,
        "controllers": 1,
        "racks": list(_RACKS),
        "config": {**CONFIG, "replica.selector.class": selector, "offsets.topic.num.partitions": 1},
        "features": features,
    }
    return Scenario(
        name,
        body,
        prepare,
        options,
        partitions=(f"{TOPIC}-0",),
        settle_s=60.0,
        span_s=SPAN_S,
        settled=is_settled,
        judge=lambda cluster: judge(cluster, trials[0]),
        sizes={"records": RECORDS},
    )


# --- jobs that look what is new -----------------------------------------------------------------------------------------


def _looks_now_and_then(cluster: Cluster, seen: _Seen, rack: str) -> None:
    """Begins where the last look ended, reads to the end of the log, and goes away."""
    offset = 0
    while not seen.is_over:
        since_s = cluster.now
        consumer = cluster.consumer(f"reader-{rack}", [], {**READER, "client.rack": rack, "enable.partition.eof": True})
        consumer.assign([TopicPartition(TOPIC, 0, offset)])
        while cluster.now < since_s + _PATIENCE_S:
            message: Any = consumer.poll(0.2)
            if message is None:
                continue
            if message.error() is None:
                offset = message.offset() + 1
            elif message.error().code() == KafkaError._PARTITION_EOF:
                seen.looks.append(_Look(rack, since_s, message.offset()))
                break
        consumer.close()
        cluster.run_for(_LOOK_EVERY_S)


def up_to_date(cluster: Cluster, seen: _Seen) -> Report:
    """R5: whoever begins to read is told of all that was acknowledged long before.

    Long before: something that was sent after that acknowledgement has been acknowledged in its turn, and a moment has passed. A replica
    in sync had to fetch for that, and so has heard how far the log was committed. A leader that does not know that it is none may tell
    less (``unheard_leaders``); and nothing is said where records are lost.
    """
    report = cluster.check()
    if cluster.budget().overruns or any(finding.invariant == "acked-loss" for finding in report.allowed):
        return report
    unheard = unheard_leaders(cluster)
    for look in seen.looks:
        since_us = round(look.since_s * 1e6)
        if any(begin_us <= since_us + round(_PATIENCE_S * 1e6) and since_us <= end_us for begin_us, end_us in unheard):
            continue
        last_sent_s = max((sent_s for _, sent_s, acked_s in seen.acked if acked_s < look.since_s - _SLACK_S), default=0)
        missed = [offset for offset, _, acked_s in seen.acked if offset >= look.end and acked_s < last_sent_s]
        if missed:
            report.add(
                "stale-read",
                f"a reader in rack {look.rack} that began at {look.since_s:.3f} s was told that the log ends at {look.end}; "
                f"{len(missed)} records from there on had been acknowledged before {last_sent_s:.3f} s",
            )
            break
    return report


# --- readers that stay --------------------------------------------------------------------------------------------------


def _reads_on(cluster: Cluster, seen: _Seen, rack: str) -> None:
    consumer = cluster.consumer(f"reader-{rack}", [], {**READER, "client.rack": rack})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    while not seen.is_over:
        consumer.poll(1.0)
    consumer.close()


def _as_checked(cluster: Cluster, _: _Seen) -> Report:
    return cluster.check()


NEAR_READS: tuple[Row, ...] = (
    Row(
        "19",
        "lagging-replica-preferred",
        "KAFKA-14372",
        lambda protection: _in_racks(
            "lagging-replica-preferred", {"in_sync_read_replica": protection}, _looks_now_and_then, up_to_date
        ),
        ("stale-read",),
        forbidden=("inconsistent-offset", "acked-loss"),
        faults=1,
    ),
    Row(
        "19b",
        "uncommitted-follower-read",
        "KIP-392",
        lambda protection: _in_racks(
            "uncommitted-follower-read", {"committed_follower_reads": protection}, _reads_on, _as_checked
        ),
        ("repeatable-read", "inconsistent-offset", "poll-back", "position-jump"),
        forbidden=("acked-loss",),
        faults=0,
        stress=4,
    ),
)
