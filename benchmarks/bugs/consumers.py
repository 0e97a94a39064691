"""Bugs of consumers: what they commit, when, and what they do with records that are not theirs any more.

Rule 1:   the workers are written as people write them; the protected one differs in the line that the row is about.
Rule 2:   a worker that dies begins anew after a while, under a plan of faults at clients alone.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.bugs.row import Row
from benchmarks.bugs.work import CONSUMER, GROUP, TOPIC
from kafkasim import sinks
from kafkasim.confluent_kafka import KafkaException, TopicPartition
from kafkasim.core.model.history import Committed, Delivered, Effected
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster

_RECORDS = 40
_GAP_S = 0.1
_WORK_S = 0.01
_LAST_WORK_S = 3.0
#: Longer than a session, after which a dead member's partitions have a new owner.
_NEVER_AGAIN_S = 12.0

Worker = Callable[[Cluster, sinks.Sink], None]


def consuming(
    name: str,
    worker: Worker,
    *,
    workers: int = 2,
    records: int = _RECORDS,
    keys: int = 4,
    promises: Mapping[str, bool],
    versioned: bool = False,
    during: Callable[[Cluster, sinks.Sink], object] | None = None,
) -> Scenario:
    """``workers`` of one group work on ``records`` of two partitions; ``versioned``: their sink knows what it has applied."""

    def prepare(cluster: Cluster) -> None:
        cluster.create_topic(TOPIC, partitions=2, config={"min.insync.replicas": 2})
        cluster.guarantee(GROUP, topics=TOPIC, **promises)
        sink = sinks.Sink(cluster, "invoices", Applied() if versioned else None, group=GROUP)
        cluster.bench_sink = sink  # type: ignore[attr-defined]
        for number in range(workers):
            cluster.spawn(worker, cluster, sink, name=f"worker-{number + 1}")
        cluster.wait_for_assignment(GROUP, workers)

    def body(cluster: Cluster) -> None:
        sink = cluster.bench_sink  # type: ignore[attr-defined]
        if during is not None:
            during(cluster, sink)
        producer = cluster.producer(acks="all", linger_ms=0)
        for number in range(records):
            producer.produce(TOPIC, b"%d" % number, b"key-%d" % (number % keys))
            producer.poll(0)
            cluster.run_for(_GAP_S)
        producer.flush(10)

    return Scenario(
        name,
        body,
        prepare,
        {"brokers": 3, "controllers": 1, "config": {"group.initial.rebalance.delay.ms": 0}},
        partitions=(f"{TOPIC}-0", f"{TOPIC}-1"),
        clients=tuple(f"worker-{number + 1}" for number in range(workers)),
        settle_s=40.0,
        span_s=records * _GAP_S,
        settled=is_worked_off,
    )


def is_worked_off(cluster: Cluster) -> bool:
    """Nobody has worked for a while, and everything is committed; or for so long that nobody will. Looked at twice a second."""
    if cluster.now < getattr(cluster, "bench_next_look_s", 0.0):
        return False
    cluster.bench_next_look_s = cluster.now + 0.5  # type: ignore[attr-defined]
    quiet_s = cluster.now - _last_work_s(cluster)
    if quiet_s < _LAST_WORK_S:
        return False
    groups = dict.fromkeys(event.group for event in cluster.history if isinstance(event, Delivered))
    return quiet_s > _NEVER_AGAIN_S or all(cluster.lag(group).total.last == 0 for group in groups)


def _last_work_s(cluster: Cluster) -> float:
    for event in reversed(cluster.history.events):
        if isinstance(event, Delivered | Effected | Committed):
            return event.at_us / 1e6
    return 0.0


class Applied:
    """A sink's own memory: what it has applied of each partition, so that a record counts once and nothing older comes after."""

    def __init__(self) -> None:
        self._highest: dict[tuple[str, int], int] = {}

    def __call__(self, message: Any) -> object:
        place = message.topic(), message.partition()
        if message.offset() <= self._highest.get(place, -1):
            return sinks.ALREADY_APPLIED
        self._highest[place] = message.offset()
        return None


def _messages(consumer: Any) -> Any:
    """Poll for ever."""
    while True:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            yield message


def _consumer(cluster: Cluster, sink: sinks.Sink, **more: object) -> Any:
    return cluster.consumer(
        sink.group, [TOPIC], {**CONSUMER, **{key.replace("_", "."): value for key, value in more.items()}}
    )


# --- commits and work -------------------------------------------------------------------------------------------------


def commits_first(cluster: Cluster, sink: sinks.Sink) -> None:
    consumer = _consumer(cluster, sink)
    for message in _messages(consumer):
        _try_commit(consumer, message)
        cluster.run_for(_WORK_S)
        sink(message)


def works_first(cluster: Cluster, sink: sinks.Sink) -> None:
    consumer = _consumer(cluster, sink)
    for message in _messages(consumer):
        cluster.run_for(_WORK_S)
        sink(message)
        _try_commit(consumer, message)


def _try_commit(consumer: Any, message: Any) -> None:
    """What most people do: a commit that a rebalance has overtaken is not the end of the process."""
    with contextlib.suppress(KafkaException):
        consumer.commit(message, asynchronous=False)


def stores_by_itself(cluster: Cluster, sink: sinks.Sink) -> None:
    """librdkafka's defaults: the offset is stored as the record is handed over, and committed soon after."""
    consumer = _consumer(cluster, sink, enable_auto_commit=True, auto_commit_interval_ms=200)
    for message in _messages(consumer):
        cluster.run_for(9 * _WORK_S)
        sink(message)


def stores_when_done(cluster: Cluster, sink: sinks.Sink) -> None:
    consumer = _consumer(
        cluster, sink, enable_auto_commit=True, auto_commit_interval_ms=200, enable_auto_offset_store=False
    )
    for message in _messages(consumer):
        cluster.run_for(9 * _WORK_S)
        sink(message)
        _try_store(consumer, message)


def _try_store(consumer: Any, message: Any) -> None:
    with contextlib.suppress(KafkaException):  # not ours any more
        consumer.store_offsets(message)


def hands_to_a_thread(cluster: Cluster, sink: sinks.Sink) -> None:
    """Automatic commits, and a queue between poll and work: what is committed has not been worked on."""
    _with_a_queue(cluster, sink, stores=False)


def hands_to_a_thread_and_stores_when_done(cluster: Cluster, sink: sinks.Sink) -> None:
    _with_a_queue(cluster, sink, stores=True)


def _with_a_queue(cluster: Cluster, sink: sinks.Sink, *, stores: bool) -> None:
    consumer = _consumer(
        cluster, sink, enable_auto_commit=True, auto_commit_interval_ms=200, enable_auto_offset_store=not stores
    )
    queue: deque[Any] = deque()

    def work() -> None:
        while True:
            if not queue:
                cluster.run_for(0.05)
                continue
            message = queue[0]
            cluster.run_for(3 * _WORK_S)
            sink(message)
            queue.popleft()
            if stores:
                _try_store(consumer, message)

    task = cluster.scheduler.current()
    assert task is not None
    cluster.spawn(work, host=task.host)
    for message in _messages(consumer):
        queue.append(message)


def commits_out_of_order(cluster: Cluster, sink: sinks.Sink) -> None:
    """Two records at a time, each commits its own offset when it is done: a later one overtakes an earlier one."""
    _in_parallel(cluster, sink, in_order=False)


def commits_what_is_complete(cluster: Cluster, sink: sinks.Sink) -> None:
    """The same, but an offset is committed only when everything before it is done."""
    _in_parallel(cluster, sink, in_order=True)


def _in_parallel(cluster: Cluster, sink: sinks.Sink, *, in_order: bool) -> None:
    open_offsets: dict[int, list[int]] = {}
    highest: dict[int, int] = {}

    def on_revoke(_: Any, partitions: list[Any]) -> None:
        for partition in partitions:
            open_offsets.pop(partition.partition, None)

    consumer = cluster.consumer(sink.group, [], dict(CONSUMER))
    consumer.subscribe([TOPIC], on_revoke=on_revoke, on_lost=on_revoke)
    task = cluster.scheduler.current()
    assert task is not None

    def work(message: Any) -> None:
        partition, offset = message.partition(), message.offset()
        cluster.run_for(_WORK_S * (30 if offset % 2 == 0 else 1))  # every other record takes longer than the next
        sink(message)
        waiting = open_offsets.get(partition)
        if waiting is None or offset not in waiting:
            return  # given away meanwhile
        waiting.remove(offset)
        commit = offset + 1
        if in_order:
            commit = min(waiting) if waiting else highest[partition] + 1
        with contextlib.suppress(KafkaException):
            consumer.commit(offsets=[TopicPartition(TOPIC, partition, commit)], asynchronous=False)

    for message in _messages(consumer):
        open_offsets.setdefault(message.partition(), []).append(message.offset())
        highest[message.partition()] = message.offset()
        cluster.spawn(work, message, host=task.host)


# --- rebalances -------------------------------------------------------------------------------------------------------


def _in_batches(cluster: Cluster, sink: sinks.Sink, *, commits_on_revoke: bool) -> None:
    """Commits every eighth record; what is uncommitted when partitions go is worked on again by their next owner."""
    consumer = cluster.consumer(sink.group, [], dict(CONSUMER))
    dirty = 0

    def commit() -> None:
        nonlocal dirty
        dirty = 0
        with contextlib.suppress(KafkaException):
            consumer.commit(asynchronous=False)

    def on_revoke(_: Any, __: list[Any]) -> None:
        if commits_on_revoke and dirty:
            commit()

    consumer.subscribe([TOPIC], on_revoke=on_revoke)
    for message in _messages(consumer):
        cluster.run_for(_WORK_S)
        sink(message)
        dirty += 1
        if dirty == 8 or message.offset() >= _RECORDS // 2 - 4:
            commit()


def forgets_to_commit_on_revoke(cluster: Cluster, sink: sinks.Sink) -> None:
    _in_batches(cluster, sink, commits_on_revoke=False)


def commits_on_revoke(cluster: Cluster, sink: sinks.Sink) -> None:
    _in_batches(cluster, sink, commits_on_revoke=True)


def _somebody_joins(worker: Worker) -> Callable[[Cluster, sinks.Sink], None]:
    """A third member joins while the work goes on: the rebalance that the row is about."""

    def during(cluster: Cluster, sink: sinks.Sink) -> None:
        cluster.at(cluster.now + 1.3, lambda: cluster.spawn(worker, cluster, sink, name="worker-late"))

    return during


def works_too_long(cluster: Cluster, sink: sinks.Sink) -> None:
    """Some records take longer than max.poll.interval.ms: the group gives them away, and the work goes on."""
    consumer = _consumer(cluster, sink)
    for message in _messages(consumer):
        cluster.run_for(9.0 if message.offset() == 5 else _WORK_S)
        sink(message)
        _try_commit(consumer, message)


# --- the rows ---------------------------------------------------------------------------------------------------------

_LOSS = {"at_least_once": True}


def _pair(
    name: str, sound: Worker, broken: Worker, promises: Mapping[str, bool], **more: Any
) -> Callable[[bool], Scenario]:
    return lambda protection: consuming(name, sound if protection else broken, promises=promises, **more)


def _sink_pair(name: str, worker: Worker, promises: Mapping[str, bool], **more: Any) -> Callable[[bool], Scenario]:
    return lambda protection: consuming(name, worker, promises=promises, versioned=protection, **more)


def _churn(protection: bool) -> Scenario:
    worker = commits_on_revoke if protection else forgets_to_commit_on_revoke
    return consuming("no-commit-on-revoke", worker, promises={"at_most_once": True}, during=_somebody_joins(worker))


CONSUMERS: tuple[Row, ...] = (
    Row(
        "31",
        "commit-before-work",
        "at-least-once consumers",
        _pair("commit-before-work", works_first, commits_first, _LOSS),
        ("at-least-once",),
    ),
    Row(
        "32",
        "work-before-commit-plain-sink",
        "idempotent sinks",
        _sink_pair("work-before-commit-plain-sink", works_first, {"effectively_once": True}),
        ("effectively-once", "at-most-once"),
    ),
    Row(
        "33",
        "auto-offset-store",
        "librdkafka #1122, #2609",
        _pair("auto-offset-store", stores_when_done, stores_by_itself, _LOSS),
        ("at-least-once",),
    ),
    Row(
        "34",
        "auto-commit-and-threads",
        "automatic commits with a queue",
        _pair("auto-commit-and-threads", hands_to_a_thread_and_stores_when_done, hands_to_a_thread, _LOSS),
        ("at-least-once",),
        twins=(("one by one", lambda: consuming("one by one", stores_when_done, promises=_LOSS)),),
    ),
    Row(
        "35",
        "commits-out-of-order",
        "parallel work, commits by record",
        _pair("commits-out-of-order", commits_what_is_complete, commits_out_of_order, _LOSS),
        ("at-least-once",),
    ),
    Row(
        "36",
        "no-commit-on-revoke",
        "rebalance listeners",
        _churn,
        ("at-most-once",),
        faults=0,
    ),
    Row(
        "37",
        "longer-than-max-poll-interval",
        "KIP-62; max.poll.interval.ms",
        _sink_pair("longer-than-max-poll-interval", works_too_long, {"at_most_once": True, "ordered_by_key": True}),
        ("at-most-once", "stale-overwrite", "key-order"),
    ),
)
