"""Bugs of groups and of those who look after them: rebalances, partitions that are added, offsets that expire, poison, order.

Rule 1:   what operators do (a member more, a partition more, a long outage) is part of the scenario, not a fault.
"""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

from benchmarks.bugs.row import Row
from benchmarks.bugs.work import (
    CONSUMER,
    GROUP,
    PRODUCER,
    TOPIC,
    WORK_S,
    Newest,
    Once,
    Stage,
    Traffic,
    Worker,
    consumer_of,
    messages,
    staged,
    try_commit,
    work_with,
    works_first,
)
from kafkasim import faults
from kafkasim.confluent_kafka import KafkaException, TopicPartition
from kafkasim.explore.trial import Scenario
from kafkasim.sinks import SinkTimeout

_NO_LOSS = {"at_least_once": True, "drained": True}
_ORDER = {"at_least_once": True, "ordered_by_key": True}
_BATCH = 6
_LINGER_S = 1.0
_DEAD_LETTERS = "calls.dlq"
_RETRIES = "calls.retry"
_ORIGIN = "origin"


# --- 38: state in hand, and a new kind of rebalance ---------------------------------------------------------------------


class _Batches:
    """Collects records of each partition, works on them together, and commits behind them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.in_hand: dict[int, list[Any]] = {}
        self._since_s: dict[int, float] = {}

    def drop_all(self, _: Any, __: list[Any]) -> None:
        """Right where every rebalance takes all partitions: what is in hand was not committed, and comes again."""
        self.in_hand.clear()

    def drop(self, _: Any, partitions: list[Any]) -> None:
        for partition in partitions:
            self.in_hand.pop(partition.partition, None)

    def run(self, consumer: Any) -> None:
        while True:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                self.in_hand.setdefault(message.partition(), []).append(message)
            for partition, batch in list(self.in_hand.items()):
                if not batch:
                    continue
                since_s = self._since_s.setdefault(partition, self._stage.cluster.now)
                if len(batch) >= _BATCH or self._stage.cluster.now - since_s > _LINGER_S:
                    self._work(consumer, partition)

    def _work(self, consumer: Any, partition: int) -> None:
        batch = self.in_hand.pop(partition)
        self._since_s.pop(partition, None)
        for message in batch:
            self._stage.cluster.run_for(WORK_S / 10)
            self._stage.sink(message)
        try_commit(consumer, batch[-1])


def _batching(*, strategy: str, drops_all: bool) -> Worker:
    def worker(stage: Stage) -> None:
        batches = _Batches(stage)
        settings = {**CONSUMER, "partition.assignment.strategy": strategy}
        consumer = stage.cluster.consumer(GROUP, [], settings)
        if drops_all:
            consumer.subscribe([TOPIC], on_assign=batches.drop_all, on_revoke=batches.drop_all)
        else:
            consumer.subscribe([TOPIC], on_revoke=batches.drop, on_lost=batches.drop)
        batches.run(consumer)

    return worker


def _scale_out(name: str, worker: Worker) -> Scenario:
    """A second member joins while the work goes on."""

    def during(stage: Stage) -> None:
        for at_s in (1.3, 2.7):
            stage.after(at_s, lambda at_s=at_s: stage.cluster.spawn(worker, stage, name=f"worker-{at_s:g}"))

    return staged(name, worker, promises=_NO_LOSS, workers=1, during=during)


def _cooperative(protection: bool) -> Scenario:
    worker = _batching(strategy="cooperative-sticky", drops_all=not protection)
    return _scale_out("cooperative-as-eager", worker)


def _eager() -> Scenario:
    return _scale_out("eager", _batching(strategy="range", drops_all=True))


# --- 39, 40: where a group begins to read -------------------------------------------------------------------------------


def _resetting(reset: str) -> Worker:
    def worker(stage: Stage) -> None:
        settings = {"auto_offset_reset": reset, "topic_metadata_refresh_interval_ms": 3000}
        work_with(stage, consumer_of(stage, **settings))

    return worker


def _add_a_partition(stage: Stage) -> None:
    stage.after(1.0, stage.cluster.inject, faults.add_partitions(f"topic:{TOPIC}", at=0.0))


def _grows(protection: bool) -> Scenario:
    """A partition more, of which producers hear before the group does."""
    traffic = Traffic(keys=12, producer={"topic.metadata.refresh.interval.ms": 200})
    worker = _resetting("earliest" if protection else "latest")
    return staged(
        "latest-and-new-partitions",
        worker,
        promises=_NO_LOSS,
        traffic=traffic,
        during=_add_a_partition,
        before=_read_some,
    )


def _late(protection: bool) -> Scenario:
    """The group is deployed two seconds after its producer."""
    worker = _resetting("earliest" if protection else "latest")
    name = "latest-and-late-start"
    return staged(name, worker, promises=_NO_LOSS, during=lambda stage: stage.after(2.0, stage.begin), is_late=True)


def _read_some(stage: Stage) -> None:
    """The group has been at work before: some records of each partition are committed."""
    stage.cluster.produce(TOPIC, [b"early %d" % number for number in range(12)], [b"%d" % n for n in range(12)])
    consumer = consumer_of(stage)
    for _ in range(12):
        stage.sink(consumer.poll(30.0))
    consumer.commit(asynchronous=False)
    consumer.close()


def _expires(protection: bool) -> Scenario:
    """Nobody of the group is there for a long weekend of ninety seconds; then all come back, two seconds after the producer."""
    config = {
        "offsets.retention.minutes": 10080 if protection else 1,
        "offsets.retention.check.interval.ms": 5000,
    }

    def during(stage: Stage) -> None:
        stage.cluster.run_for(90.0)
        stage.after(2.0, stage.begin)

    return staged(
        "expired-offsets",
        _resetting("latest"),
        promises=_NO_LOSS,
        before=_read_some,
        during=during,
        is_late=True,
        config=config,
    )


# --- 41: a key's home ---------------------------------------------------------------------------------------------------


def _rekeyed(protection: bool) -> Scenario:
    """A partition more: the default partitioner sends some keys elsewhere from then on; one with a fixed number of slots does not."""
    traffic = Traffic(
        keys=12,
        producer={"topic.metadata.refresh.interval.ms": 200},
        place=(lambda key: zlib.crc32(key) % 2) if protection else None,
    )
    name = "more-partitions-and-order"
    return staged(name, works_first, promises=_ORDER, memory=Newest, traffic=traffic, during=_add_a_partition)


# --- 42: poison ---------------------------------------------------------------------------------------------------------

_POISON = Traffic(value=lambda number: b'{"call": ' if number in (9, 22) else b'{"call": %d}' % number)


def _parsing(on_poison: Callable[[Stage, Any], None]) -> Worker:
    """A worker that reads JSON; a supervisor starts it again five seconds after it died."""

    def run(stage: Stage) -> None:
        consumer = consumer_of(stage)
        try:
            for message in messages(consumer):
                stage.cluster.run_for(WORK_S)
                try:
                    json.loads(message.value())
                except ValueError:
                    on_poison(stage, message)
                else:
                    stage.sink(message)
                try_commit(consumer, message)
        finally:
            consumer.close()

    def worker(stage: Stage) -> None:
        while True:
            with contextlib.suppress(ValueError, KafkaException):
                run(stage)
            time.sleep(5.0)

    return worker


def _raise(_: Stage, message: Any) -> None:
    raise ValueError(f"malformed: {message.value()!r}")


def _skip(_: Stage, __: Any) -> None:
    """Told in a log that nobody reads."""


def _set_aside(stage: Stage, message: Any) -> None:
    """To the dead letters, and wait until it has arrived there."""
    producer = stage.cluster.producer(PRODUCER)
    errors: list[Any] = []
    producer.produce(_DEAD_LETTERS, message.value(), message.key(), on_delivery=lambda error, _: errors.append(error))
    if producer.flush(30) or any(errors):
        raise KafkaException(errors[0] if errors else None)
    stage.sink.skip(message)


def _poison(name: str, unprotected: Callable[[Stage, Any], None]) -> Callable[[bool], Scenario]:
    def scenario(protection: bool) -> Scenario:
        worker = _parsing(_set_aside if protection else unprotected)
        made = staged(name, worker, promises=_NO_LOSS, traffic=_POISON, topics=(_DEAD_LETTERS,))
        return made if protection else attrs.evolve(made, settle_s=20.0)

    return scenario


# --- 43: retries and parallel work ----------------------------------------------------------------------------------------


@attrs.frozen
class _Retried:
    """A record of the retry topic, under the place that it came from at first, which its header tells."""

    _message: Any

    def _origin(self) -> list[Any]:
        found: list[Any] = json.loads(dict(self._message.headers())[_ORIGIN])
        return found

    def topic(self) -> str:
        return str(self._origin()[0])

    def partition(self) -> int:
        return int(self._origin()[1])

    def offset(self) -> int:
        return int(self._origin()[2])

    def key(self) -> Any:
        return self._message.key()

    def value(self) -> Any:
        return self._message.value()


def _with_a_retry_topic(stage: Stage) -> None:
    """What fails is sent to a topic for later, so that it holds nothing up."""
    consumer = stage.cluster.consumer(GROUP, [TOPIC, _RETRIES], dict(CONSUMER))
    producer = stage.cluster.producer(PRODUCER)
    for message in messages(consumer):
        record = message
        if message.topic() == _RETRIES:
            stage.cluster.run_for(0.5)
            record = _Retried(message)
        stage.cluster.run_for(WORK_S)
        try:
            stage.sink(record)
        except SinkTimeout:
            origin = json.dumps([record.topic(), record.partition(), record.offset()])
            producer.produce(_RETRIES, record.value(), record.key(), headers={_ORIGIN: origin.encode()})
            if producer.flush(30):
                raise
            stage.sink.skip(record)
        try_commit(consumer, message)


def retrying_in_place(stage: Stage) -> None:
    """What fails is tried again until it works; what is behind it waits."""
    consumer = consumer_of(stage)
    for message in messages(consumer):
        stage.cluster.run_for(WORK_S)
        while True:
            try:
                stage.sink(message)
            except SinkTimeout:
                stage.cluster.run_for(0.2)
            else:
                break
        try_commit(consumer, message)


def _sink_fails_now_and_then(stage: Stage) -> None:
    for nth in (5, 12, 20):
        stage.sink.fail(nth=nth)


def _retries(name: str, worker: Worker, memory: type[Once] | type[Newest]) -> Scenario:
    return staged(name, worker, promises=_ORDER, memory=memory, topics=(_RETRIES,), during=_sink_fails_now_and_then)


def _retry_topic(protection: bool) -> Scenario:
    return _retries("retry-topic", retrying_in_place if protection else _with_a_retry_topic, Once)


def _in_lanes(lane_of: Callable[[Any], int]) -> Worker:
    """Three records at a time; ``lane_of`` says which of three lanes works on a record. What is complete is committed."""

    def worker(stage: Stage) -> None:
        lanes: list[deque[Any]] = [deque() for _ in range(3)]
        open_offsets: dict[int, list[int]] = {}
        highest: dict[int, int] = {}

        def on_revoke(_: Any, partitions: list[Any]) -> None:
            for partition in partitions:
                open_offsets.pop(partition.partition, None)

        consumer = stage.cluster.consumer(GROUP, [], dict(CONSUMER))
        consumer.subscribe([TOPIC], on_revoke=on_revoke, on_lost=on_revoke)

        def work(lane: deque[Any]) -> None:
            while True:
                if not lane:
                    stage.cluster.run_for(0.02)
                    continue
                message = lane.popleft()
                partition, offset = message.partition(), message.offset()
                stage.cluster.run_for(WORK_S * (40 if offset % 5 == 0 else 1))
                stage.sink(message)
                waiting = open_offsets.get(partition, [])
                if offset not in waiting:
                    continue  # Given away meanwhile.
                waiting.remove(offset)
                commit = min(waiting) if waiting else highest[partition] + 1
                with contextlib.suppress(KafkaException):
                    consumer.commit(offsets=[TopicPartition(TOPIC, partition, commit)], asynchronous=False)

        task = stage.cluster.scheduler.current()
        assert task is not None
        for lane in lanes:
            stage.cluster.spawn(work, lane, host=task.host)
        for message in messages(consumer):
            open_offsets.setdefault(message.partition(), []).append(message.offset())
            highest[message.partition()] = message.offset()
            lanes[lane_of(message)].append(message)

    return worker


def _lanes(protection: bool) -> Scenario:
    def by_key(message: Any) -> int:
        return zlib.crc32(message.key()) % 3

    def in_turn(message: Any) -> int:
        return int(message.offset()) % 3

    worker = _in_lanes(by_key if protection else in_turn)
    return staged("parallel-lanes", worker, promises=_ORDER, memory=Once)


# --- the rows -----------------------------------------------------------------------------------------------------------

_LOSS = ("at-least-once", "unseen")

GROUPS: tuple[Row, ...] = (
    Row(
        "38",
        "cooperative-as-eager",
        "KIP-429",
        _cooperative,
        ("at-least-once",),
        forbidden=("poll-skip", "poll-back", "acked-loss"),
        twins=(("eager", _eager),),
        faults=0,
        stress=4,
    ),
    Row("39", "latest-and-new-partitions", "KIP-1282, KIP-1327", _grows, _LOSS, faults=0, stress=4),
    Row("40", "latest-and-late-start", "auto.offset.reset", _late, _LOSS, faults=0, stress=4),
    Row("40b", "expired-offsets", "KIP-211", _expires, _LOSS, faults=0, stress=4),
    Row("41", "more-partitions-and-order", "default partitioners", _rekeyed, ("key-split",), faults=0, stress=4),
    Row("42", "poison-stall", "dead letters", _poison("poison-stall", _raise), ("unseen",), faults=0, stress=4),
    Row(
        "42b",
        "poison-skipped",
        "dead letters",
        _poison("poison-skipped", _skip),
        ("at-least-once",),
        faults=0,
        stress=4,
    ),
    Row(
        "43",
        "retry-topic",
        "retry topics",
        _retry_topic,
        ("key-order",),
        forbidden=("at-least-once",),
        twins=(("versions in the sink", lambda: _retries("versioned", _with_a_retry_topic, Newest)),),
        faults=1,
    ),
    Row(
        "43b",
        "parallel-lanes",
        "parallel consumers",
        _lanes,
        ("key-order",),
        forbidden=("at-least-once", "commit-ahead"),
        faults=1,
    ),
)
