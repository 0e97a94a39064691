"""Bugs that a setting, an old client or an old quorum lets in: acknowledgements, retries, unclean elections, end offsets, votes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.bugs.replication import (
    CONFIG,
    PRODUCER,
    RECORDS,
    SLOWER_MS,
    SPAN_S,
    TOPIC,
    is_settled,
    replicated,
    slow_some_links,
    wait_for_next,
    write,
)
from benchmarks.bugs.row import Row
from kafkasim.check.disruptions import disruptions
from kafkasim.check.report import Report
from kafkasim.confluent_kafka import KafkaException, TopicPartition
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Delivered, Happened
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster
from kafkasim.testing.audit import audit

#: The longest wait for an acknowledgement while one thing at a time goes wrong: a session, an election, a request that times out.
_LONGEST_WAIT_US = 7_000_000


#: Each record is a request of its own, which is given up and sent again while others are on their way.
_IN_FLIGHT = {"batch.num.messages": 1, "socket.timeout.ms": 2000, "request.timeout.ms": 1500}
_ASK_EVERY_S = 0.1
_HASTY = {"message.timeout.ms": 8000, "socket.timeout.ms": 2000, "request.timeout.ms": 1500}
READER: Mapping[str, object] = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "socket.timeout.ms": 2000,
}


# --- verdicts ------------------------------------------------------------------------------------------------------------


def no_loss_within_budget(cluster: Cluster) -> Report:
    """Nothing acknowledged is lost, whatever the settings say, unless more was harmed than must survive."""
    if not cluster.budget().overruns:
        cluster.guarantee(topics=TOPIC, no_loss=True)
    return cluster.check()


def sent_in_order(cluster: Cluster) -> Report:
    """P4: values are numbers in the order of their sending; their offsets must rise."""
    report = cluster.check()
    if cluster.budget().overruns:
        return report
    placed: dict[int, int] = {}
    for event in cluster.history.events:
        if type(event) is Acked and event.error is ErrorCode.NONE and event.base_offset >= 0:
            for index in range(event.start, event.stop):
                placed[int(event.batch.columns.values[index] or b"0")] = event.base_offset + index
    highest = -1
    for number in sorted(placed):
        if placed[number] < highest:
            report.add("send-reorder", f"record {number} is at offset {placed[number]}, one before it at {highest}")
        highest = max(highest, placed[number])
    return report


def everything_read(cluster: Cluster) -> Report:
    """R4 by records, not by offsets: whatever is in the log was given to the reader at some time."""
    report = cluster.check()
    given: set[bytes | None] = set()
    for event in cluster.history.events:
        if type(event) is Delivered:
            given.update(event.batch.columns.values[event.start : event.stop])
    missed = [record.offset for record in cluster.records(TOPIC) if record.value not in given]
    if missed:
        report.add(
            "unseen", f"the reader was never given {len(missed)} records that are in the log, at offsets {missed[:5]}"
        )
    return report


def available(cluster: Cluster) -> Report:
    """E7: an acknowledgement comes again and again, whatever single thing goes wrong; but see ``unheard_leaders``."""
    report = cluster.check()
    waits: list[tuple[int, int]] = []
    given_up = 0
    last_us: int | None = None
    for event in cluster.history.events:
        if type(event) is not Acked:
            continue
        if event.error is not ErrorCode.NONE:
            given_up += 1
            waits.append((event.at_us - 1000 * int(str(PRODUCER["message.timeout.ms"])), event.at_us))
        else:
            if last_us is not None and event.at_us - last_us > _LONGEST_WAIT_US:
                waits.append((last_us, event.at_us))
            last_us = event.at_us
    longest_s = max((end - begin for begin, end in waits), default=0) / 1e6
    text = f"{given_up} records were given up; the longest wait for one was {longest_s:g} s"
    unheard = unheard_leaders(cluster)
    if any(all(end < begin_us or begin > end_us for begin, end in unheard) for begin_us, end_us in waits):
        report.add("unavailable", text)
    elif waits:
        report.allow("unavailable", f"{text}; the leader that the producer knew could not hear the controller")
    return report


def unheard_leaders(cluster: Cluster) -> list[tuple[int, int]]:
    """When a leader and the controller were cut off from one another (begin, end).

    Another leader is elected, but the old one goes on taking records that it cannot commit, and answers REQUEST_TIMED_OUT; librdkafka
    asks the same broker again without looking for the leader anew, until the record's time is over. Kafka promises nothing better.
    """
    controller = len(cluster.broker_ids()) + 1
    leader = -1
    cuts: dict[int, int] = {}
    found: list[tuple[int, int]] = []
    for event in cluster.history.events:
        if type(event) is not Happened:
            continue
        if event.kind == "became leader" and getattr(event.subject, "topic", None) == TOPIC:
            leader = event.node
        elif event.kind in ("network partition", "network hold"):
            sides: Any = event.subject
            ours, theirs = sides
            if (leader in ours and controller in theirs) or (leader in theirs and controller in ours):
                cuts.setdefault(leader, event.at_us)
        elif event.kind in ("network heal", "network release"):
            found += [(since_us, event.at_us) for since_us in cuts.values()]
            cuts.clear()
    return [*found, *((since_us, round(cluster.now * 1e6)) for since_us in cuts.values())]


def quiet_quorum(cluster: Cluster) -> Report:
    """K9: an active controller stays one unless something happens to itself."""
    report = cluster.check()
    for at_us, old, new in disruptions(cluster.history.events):
        report.add("disruption", f"{new} took over from {old} at {at_us / 1e6:.3f} s, to which nothing had happened")
    return report


# --- scenarios -----------------------------------------------------------------------------------------------------------


def _producing(
    name: str,
    sound: Mapping[str, object],
    unsound: Mapping[str, object],
    judge: Callable[[Cluster], Report] | None = None,
    **more: Any,
) -> Callable[[bool], Scenario]:
    return lambda protection: replicated(name, producer=sound if protection else unsound, judge=judge, **more)


def _unclean(protection: bool) -> Scenario:
    topic = {"unclean.leader.election.enable": not protection}
    return replicated("unclean-election", topic=topic, judge=no_loss_within_budget)


def _forgotten_producer(protection: bool) -> Scenario:
    kept_ms = 86_400_000 if protection else 400
    name = "forgotten-producer"
    return replicated(
        name,
        producer={"enable.idempotence": True},
        config={"producer.id.expiration.ms": kept_ms},
    )


def _few_replicas(protection: bool) -> Scenario:
    return replicated("replica-short", brokers=3 if protection else 2, judge=available, producer=_HASTY)


def _end_offsets(protection: bool) -> Scenario:
    """A client asks for the end of the log again and again: it must not go back."""

    def prepare(cluster: Cluster) -> None:
        audit(cluster)
        cluster.create_topic(TOPIC, config={"min.insync.replicas": 2})
        slow_some_links(cluster, SLOWER_MS[:-1])

    def body(cluster: Cluster) -> None:
        writer = cluster.producer(PRODUCER)
        reader = cluster.consumer("reader", [], READER)
        for number in range(RECORDS):
            writer.produce(TOPIC, b"%d" % number)
            writer.poll(0)
            until = cluster.now + wait_for_next(cluster, number)
            while cluster.now < until:
                cluster.run_for(min(_ASK_EVERY_S, until - cluster.now))
                with contextlib.suppress(KafkaException):
                    reader.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=0.2, cached=False)
        writer.flush(30)

    options = {"brokers": 3, "controllers": 1, "config": CONFIG, "features": {"settled_end_offset": protection}}
    return Scenario(
        "unsettled-end",
        body,
        prepare,
        options,
        partitions=(f"{TOPIC}-0",),
        settle_s=60.0,
        span_s=SPAN_S,
        settled=is_settled,
    )


def _reader_without_epochs(protection: bool) -> Scenario:
    """A consumer follows a log that loses what was not flushed: it must be given what is written in place of what it had read."""

    def prepare(cluster: Cluster) -> None:
        cluster.create_topic(TOPIC, replication_factor=1, config={"min.insync.replicas": 1, "flush.messages": 20})

    def body(cluster: Cluster) -> None:
        def read() -> None:
            """It reads for a while, and looks away for longer."""
            here = [TopicPartition(TOPIC, 0, 0)]
            consumer = cluster.consumer("reader", [], READER)
            consumer.assign(here)
            while True:
                until = cluster.now + 0.5
                while cluster.now < until:
                    consumer.consume(100, 0.1)
                consumer.pause(here)
                time.sleep(1.8)
                consumer.resume(here)

        cluster.spawn(read, name="reader")
        write(cluster, cluster.producer({**PRODUCER, "acks": 1}), RECORDS)

    options = {"brokers": 1, "controllers": 1, "config": CONFIG, "features": {"leader_epoch_in_metadata": protection}}
    return Scenario(
        "reader-without-epochs",
        body,
        prepare,
        options,
        partitions=(f"{TOPIC}-0",),
        settle_s=25.0,
        span_s=SPAN_S,
        judge=everything_read,
    )


def _quorum(protection: bool) -> Scenario:
    """Three servers that are broker and voter each."""
    config = {
        "controller.quorum.fetch.timeout.ms": 1500,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.election.backoff.max.ms": 300,
    }

    features = {"pre_vote": protection}
    return replicated("disruptive-voter", features=features, config=config, controllers=None, judge=quiet_quorum)


SETTINGS: tuple[Row, ...] = (
    Row("7", "reader-without-epochs", "KIP-320", _reader_without_epochs, ("unseen",), faults=1),
    Row("15", "unclean-election", "unclean.leader.election.enable", _unclean, ("acked-loss",), faults=3),
    Row(
        "16",
        "acks-1",
        "acks",
        _producing("acks-1", {}, {"acks": 1}, no_loss_within_budget),
        ("acked-loss",),
        faults=1,
    ),
    Row("18", "unsettled-end", "KIP-207", _end_offsets, ("list-offsets-monotone",), faults=1),
    Row(
        "20",
        "retry-without-idempotence",
        "enable.idempotence",
        _producing("retry-without-idempotence", {"enable.idempotence": True}, {}),
        ("log-duplicate",),
        tolerated=True,
        faults=1,
    ),
    Row(
        "21",
        "in-flight-without-idempotence",
        "max.in.flight",
        _producing(
            "in-flight-without-idempotence",
            {"enable.idempotence": True, **_IN_FLIGHT},
            _IN_FLIGHT,
            sent_in_order,
            close_s=0.5,
        ),
        ("send-reorder",),
        faults=1,
    ),
    Row("22", "forgotten-producer", "KIP-360", _forgotten_producer, ("log-duplicate",), faults=1),
    Row("29", "disruptive-voter", "KIP-996", _quorum, ("disruption",), faults=1),
    Row("50", "replica-short", "min.insync.replicas", _few_replicas, ("unavailable",), faults=1),
)
