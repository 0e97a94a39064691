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
from benchmarks.bugs.work import (
    CONSUMER,
    TOPIC,
    WORK_S,
    Newest,
    Stage,
    Traffic,
    Worker,
    consumer_of,
    messages,
    staged,
    try_commit,
    works_first,
)
from kafkasim.confluent_kafka import KafkaException, TopicPartition
from kafkasim.explore.trial import Scenario

#: Records do not come in step with commits and heartbeats.
_TRAFFIC = Traffic(keys=4, gap_s=0.097)
#: What a fault has to hit is then a moment in a minute.
_SPARSE = Traffic(keys=4, records=30, gap_s=1.997)


def _consuming(
    name: str,
    worker: Worker,
    promises: Mapping[str, bool],
    *,
    versioned: bool = False,
    during: Callable[[Stage], None] | None = None,
    traffic: Traffic = _TRAFFIC,
) -> Scenario:
    """Two workers of one group; ``versioned``: their sink knows what it has applied."""
    memory = Newest if versioned else None
    return staged(name, worker, promises=promises, memory=memory, traffic=traffic, during=during)


# --- commits and work -------------------------------------------------------------------------------------------------


def commits_first(stage: Stage) -> None:
    consumer = consumer_of(stage)
    for message in messages(consumer):
        try_commit(consumer, message)
        stage.cluster.run_for(WORK_S)
        stage.sink(message)


def stores_by_itself(stage: Stage) -> None:
    """librdkafka's defaults: the offset is stored as the record is handed over, and committed soon after."""
    consumer = consumer_of(stage, enable_auto_commit=True, auto_commit_interval_ms=200)
    for message in messages(consumer):
        stage.cluster.run_for(9 * WORK_S)
        stage.sink(message)


def stores_when_done(stage: Stage) -> None:
    consumer = consumer_of(stage, enable_auto_commit=True, auto_commit_interval_ms=200, enable_auto_offset_store=False)
    for message in messages(consumer):
        stage.cluster.run_for(9 * WORK_S)
        stage.sink(message)
        _try_store(consumer, message)


def _try_store(consumer: Any, message: Any) -> None:
    with contextlib.suppress(KafkaException):  # not ours any more
        consumer.store_offsets(message)


def hands_to_a_thread(stage: Stage) -> None:
    """Automatic commits, and a queue between poll and work: what is committed has not been worked on."""
    _with_a_queue(stage, stores=False)


def hands_to_a_thread_and_stores_when_done(stage: Stage) -> None:
    _with_a_queue(stage, stores=True)


def _with_a_queue(stage: Stage, *, stores: bool) -> None:
    consumer = consumer_of(
        stage, enable_auto_commit=True, auto_commit_interval_ms=200, enable_auto_offset_store=not stores
    )
    queue: deque[Any] = deque()

    def work() -> None:
        while True:
            if not queue:
                stage.cluster.run_for(0.05)
                continue
            message = queue[0]
            stage.cluster.run_for(3 * WORK_S)
            stage.sink(message)
            queue.popleft()
            if stores:
                _try_store(consumer, message)

    task = stage.cluster.scheduler.current()
    assert task is not None
    stage.cluster.spawn(work, host=task.host)
    for message in messages(consumer):
        queue.append(message)


def commits_out_of_order(stage: Stage) -> None:
    """Two records at a time, each commits its own offset when it is done: a later one overtakes an earlier one."""
    _in_parallel(stage, in_order=False)


def commits_what_is_complete(stage: Stage) -> None:
    """The same, but an offset is committed only when everything before it is done."""
    _in_parallel(stage, in_order=True)


def _in_parallel(stage: Stage, *, in_order: bool) -> None:
    open_offsets: dict[int, list[int]] = {}
    highest: dict[int, int] = {}

    def on_revoke(_: Any, partitions: list[Any]) -> None:
        for partition in partitions:
            open_offsets.pop(partition.partition, None)

    consumer = stage.cluster.consumer(stage.sink.group, [], dict(CONSUMER))
    consumer.subscribe([TOPIC], on_revoke=on_revoke, on_lost=on_revoke)
    task = stage.cluster.scheduler.current()
    assert task is not None

    def work(message: Any) -> None:
        partition, offset = message.partition(), message.offset()
        stage.cluster.run_for(WORK_S * (30 if offset % 2 == 0 else 1))  # every other record takes longer than the next
        stage.sink(message)
        waiting = open_offsets.get(partition)
        if waiting is None or offset not in waiting:
            return  # given away meanwhile
        waiting.remove(offset)
        commit = offset + 1
        if in_order:
            commit = min(waiting) if waiting else highest[partition] + 1
        with contextlib.suppress(KafkaException):
            consumer.commit(offsets=[TopicPartition(TOPIC, partition, commit)], asynchronous=False)

    for message in messages(consumer):
        open_offsets.setdefault(message.partition(), []).append(message.offset())
        highest[message.partition()] = message.offset()
        stage.cluster.spawn(work, message, host=task.host)


# --- rebalances -------------------------------------------------------------------------------------------------------


def _in_batches(stage: Stage, *, commits_on_revoke: bool) -> None:
    """Commits every eighth record; what is uncommitted when partitions go is worked on again by their next owner."""
    consumer = stage.cluster.consumer(stage.sink.group, [], dict(CONSUMER))
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
    for message in messages(consumer):
        stage.cluster.run_for(WORK_S)
        stage.sink(message)
        dirty += 1
        if dirty == 8 or message.offset() >= _TRAFFIC.records // 2 - 4:
            commit()


def forgets_to_commit_on_revoke(stage: Stage) -> None:
    _in_batches(stage, commits_on_revoke=False)


def commits_on_revoke(stage: Stage) -> None:
    _in_batches(stage, commits_on_revoke=True)


def _somebody_joins(stage: Stage) -> None:
    """A third member joins while the work goes on: the rebalance that the row is about."""
    stage.after(0.9, lambda: stage.cluster.spawn(stage.worker, stage, name="worker-late"))


def works_too_long(stage: Stage) -> None:
    """Some records take longer than max.poll.interval.ms: the group gives them away, and the work goes on."""
    consumer = consumer_of(stage)
    for message in messages(consumer):
        stage.cluster.run_for(9.0 if message.offset() == 5 else WORK_S)
        stage.sink(message)
        try_commit(consumer, message)


# --- the rows ---------------------------------------------------------------------------------------------------------

_LOSS = {"at_least_once": True}


def _pair(
    name: str, sound: Worker, broken: Worker, promises: Mapping[str, bool], traffic: Traffic = _SPARSE
) -> Callable[[bool], Scenario]:
    return lambda protection: _consuming(name, sound if protection else broken, promises, traffic=traffic)


def _sink_pair(
    name: str, worker: Worker, promises: Mapping[str, bool], traffic: Traffic = _TRAFFIC
) -> Callable[[bool], Scenario]:
    return lambda protection: _consuming(name, worker, promises, versioned=protection, traffic=traffic)


def _churn(protection: bool) -> Scenario:
    worker = commits_on_revoke if protection else forgets_to_commit_on_revoke
    return _consuming("no-commit-on-revoke", worker, {"at_most_once": True}, during=_somebody_joins)


CONSUMERS: tuple[Row, ...] = (
    Row(
        "31",
        "commit-before-work",
        "at-least-once consumers",
        _pair("commit-before-work", works_first, commits_first, _LOSS),
        ("at-least-once",),
        faults=1,
    ),
    Row(
        "32",
        "work-before-commit-plain-sink",
        "idempotent sinks",
        _sink_pair("work-before-commit-plain-sink", works_first, {"effectively_once": True}, _SPARSE),
        ("effectively-once", "at-most-once"),
        faults=1,
    ),
    Row(
        "33",
        "auto-offset-store",
        "librdkafka #1122, #2609",
        _pair("auto-offset-store", stores_when_done, stores_by_itself, _LOSS),
        ("at-least-once",),
        faults=1,
    ),
    Row(
        "34",
        "auto-commit-and-threads",
        "automatic commits with a queue",
        _pair("auto-commit-and-threads", hands_to_a_thread_and_stores_when_done, hands_to_a_thread, _LOSS),
        ("at-least-once",),
        twins=(("one by one", lambda: _consuming("one by one", stores_when_done, _LOSS, traffic=_SPARSE)),),
        faults=1,
    ),
    Row(
        "35",
        "commits-out-of-order",
        "parallel work, commits by record",
        _pair("commits-out-of-order", commits_what_is_complete, commits_out_of_order, _LOSS, _TRAFFIC),
        ("at-least-once",),
        faults=1,
    ),
    Row("36", "no-commit-on-revoke", "rebalance listeners", _churn, ("at-most-once",), faults=0),
    Row(
        "37",
        "longer-than-max-poll-interval",
        "KIP-62; max.poll.interval.ms",
        _sink_pair("longer-than-max-poll-interval", works_too_long, {"at_most_once": True, "ordered_by_key": True}),
        ("at-most-once", "stale-overwrite", "key-order"),
        faults=0,
        stress=4,
    ),
)
