"""Bugs of users of share groups: locks that run out, outages that use up deliveries, an order that nobody promised.

Rule 1:   locks last a second or two, so that a scenario need not last minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from kafkasim.confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from benchmarks.bugs.groups import retrying_in_place
from benchmarks.bugs.row import Row
from benchmarks.bugs.work import (
    GROUP,
    PRODUCER,
    TOPIC,
    WORK_S,
    Newest,
    Once,
    Quiet,
    Stage,
    Traffic,
    Worker,
    is_all_worked_on,
    staged,
)
from kafkasim import sinks
from kafkasim.confluent_kafka import KafkaException, ShareConsumer
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster
from kafkasim.sinks import SinkTimeout

ACCEPT, RELEASE, REJECT = 1, 2, 3
_DEAD_LETTERS = "calls.dlq"
_LOCK_MS = 2000
_OUTAGE_S = (0.5, 2.5)
#: Whatever a broker promises of share groups holds in all of these.
_NEVER = ("lock-overlap", "legal-state", "accept-then-redeliver", "over-delivery", "stuck")


def _shared(
    name: str,
    worker: Worker,
    *,
    promises: Mapping[str, bool],
    lock_ms: int = _LOCK_MS,
    begin: Callable[[Stage], None] | None = None,
    **more: Any,
) -> Scenario:
    def before(stage: Stage) -> None:
        set_up(stage.cluster, lock_ms=lock_ms)
        if begin is not None:
            begin(stage)

    made = staged(
        name,
        worker,
        promises=promises,
        before=before,
        config={"group.share.min.record.lock.duration.ms": 1000},
        **more,
    )
    return attrs.evolve(made, settled=Quiet(is_all_worked_on))


def set_up(cluster: Cluster, *, lock_ms: int, limit: int = 10) -> None:
    settings = {
        "share.auto.offset.reset": "earliest",
        "share.record.lock.duration.ms": str(lock_ms),
        "share.delivery.count.limit": str(limit),
    }
    entries = [ConfigEntry(key, text, incremental_operation=AlterConfigOpType.SET) for key, text in settings.items()]
    group = ConfigResource(ResourceType.GROUP, GROUP, incremental_configs=entries)
    for future in cluster.admin().incremental_alter_configs([group]).values():
        future.result()


def share_consumer(stage: Stage) -> Any:
    consumer = ShareConsumer(
        {
            "bootstrap.servers": stage.cluster.bootstrap_servers,
            "group.id": GROUP,
            "share.acknowledgement.mode": "explicit",
        }
    )
    consumer.subscribe([TOPIC])
    return consumer


def try_commit(consumer: Any) -> None:
    """What could not be acknowledged in time comes again."""
    try:
        consumer.commit_sync(5.0)
    except KafkaException:
        return


def acknowledge(consumer: Any, message: Any, kind: int) -> None:
    try:
        consumer.acknowledge(message, kind)
    except KafkaException:  # its lock ran out, or its session ended
        return


def polls(consumer: Any) -> Any:
    while True:
        try:
            batch = [message for message in consumer.poll(1.0) if message.error() is None]
        except KafkaException:
            continue
        if batch:
            yield batch


# --- 44: longer than the lock -------------------------------------------------------------------------------------------


def _works_long(stage: Stage) -> None:
    """Some records take a second and a half."""
    consumer = share_consumer(stage)
    for batch in polls(consumer):
        for message in batch:
            stage.cluster.run_for(1.5 if message.offset() in (5, 11) else WORK_S)
            stage.sink(message)
            acknowledge(consumer, message, ACCEPT)
            try_commit(consumer)


def _lock(protection: bool) -> Scenario:
    name = "longer-than-the-lock"
    return _shared(name, _works_long, promises={"at_most_once": True}, lock_ms=20_000 if protection else 1000)


# --- 45: an outage ------------------------------------------------------------------------------------------------------


class _Outage:
    """A database that is not there for a while, and knows what it has applied."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._once = Once()
        self._from_s = cluster.now

    @property
    def is_up(self) -> bool:
        begin_s, end_s = _OUTAGE_S
        return not self._from_s + begin_s <= self._cluster.now < self._from_s + end_s

    def begin(self) -> None:
        self._from_s = self._cluster.now

    def __call__(self, message: Any) -> object:
        if not self.is_up:
            raise SinkTimeout("no answer")
        return self._once(message)


_outages: list[_Outage] = []


def _has_outage(stage: Stage) -> None:
    _outages[:] = [_Outage(stage.cluster)]
    stage.sink = sinks.Sink(stage.cluster, "invoices", _outages[0], group=GROUP)


def _releases(on_failure: Callable[[Stage, Any, Any], int], *, waits: bool) -> Worker:
    """What fails is released, for somebody to try again; ``waits``: not before the sink is there again."""

    def worker(stage: Stage) -> None:
        consumer = share_consumer(stage)
        for batch in polls(consumer):
            is_down = False
            for message in batch:
                kind = ACCEPT
                if is_down and waits:
                    kind = RELEASE
                else:
                    stage.cluster.run_for(WORK_S)
                    try:
                        stage.sink(message)
                    except SinkTimeout:
                        is_down = True
                        kind = on_failure(stage, consumer, message)
                acknowledge(consumer, message, kind)
            try_commit(consumer)
            while is_down and waits and not _outages[0].is_up:
                stage.cluster.run_for(0.1)

    return worker


def _release(_: Stage, __: Any, ___: Any) -> int:
    return RELEASE


def _give_up_at_the_third(stage: Stage, _: Any, message: Any) -> int:
    """To the dead letters at the third attempt."""
    if message.delivery_count() < 3:
        return RELEASE
    producer = stage.cluster.producer(PRODUCER)
    producer.produce(_DEAD_LETTERS, message.value(), message.key())
    if producer.flush(10):
        return RELEASE
    stage.sink.skip(message)
    return REJECT


def _outage(name: str, worker: Worker) -> Scenario:
    return _shared(
        name,
        worker,
        promises={"at_least_once": True, "no_archived": True},
        topics=(_DEAD_LETTERS,),
        begin=_has_outage,
        during=lambda _: _outages[0].begin(),
    )


def _breaker(protection: bool) -> Scenario:
    return _outage("outage-uses-up-deliveries", _releases(_release, waits=protection))


# --- 46: order ----------------------------------------------------------------------------------------------------------


def _order(name: str, worker: Worker, memory: type[Once] | type[Newest], build: Callable[..., Scenario]) -> Scenario:
    promises = {"at_least_once": True, "ordered_by_key": True}
    return build(name, worker, promises=promises, memory=memory, during=_fails_now_and_then, traffic=_BUSY)


def _fails_now_and_then(stage: Stage) -> None:
    for nth in (5, 12, 20):
        stage.sink.fail(nth=nth)


_BUSY = Traffic(keys=2, gap_s=0.05)


def _unordered(protection: bool) -> Scenario:
    worker = _releases(_release, waits=False)
    return _order("order-in-a-share-group", worker, Newest if protection else Once, _shared)


def _in_order() -> Scenario:
    return _order("a consumer group", retrying_in_place, Once, staged)


SHARES: tuple[Row, ...] = (
    Row(
        "44",
        "longer-than-the-lock",
        "KIP-932; KIP-1222",
        _lock,
        ("at-most-once",),
        forbidden=_NEVER,
        # No faults for the sound side either: who dies between work and acknowledgement has it done twice, under any lock.
        faults=0,
    ),
    Row(
        "45",
        "outage-uses-up-deliveries",
        "share.delivery.count.limit",
        _breaker,
        ("archived-unprocessed",),
        forbidden=_NEVER,
        twins=(("dead letters", lambda: _outage("dead letters", _releases(_give_up_at_the_third, waits=False))),),
        faults=0,
        stress=4,
    ),
    Row(
        "46",
        "order-in-a-share-group",
        "KIP-932",
        _unordered,
        ("key-order",),
        forbidden=(*_NEVER, "at-least-once"),
        twins=(("a consumer group", _in_order),),
        faults=0,
        stress=4,
    ),
)
