"""What rows about user code share: settings, a stage for workers and their sink, memories of sinks, and when all is over.

Rule 1:   workers are written as people write them, against ``confluent_kafka`` alone; the stage gives them a cluster and a sink.
Rule 2:   sessions end within seconds, so that a scenario need not last minutes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from benchmarks.bugs.replication import wait_for_next
from kafkasim import sinks
from kafkasim.confluent_kafka import KafkaException
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import DONE, SKIPPED, Acked, Committed, Delivered, Effected, ShareDelivered
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster

TOPIC = "calls"
GROUP = "billing"
CONSUMER: Mapping[str, object] = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
    "max.poll.interval.ms": 6000,
    "fetch.wait.max.ms": 1000,
    #: A broker that lost its power does not say so: what it was asked is waited for so long.
    "socket.timeout.ms": 5000,
}
PRODUCER: Mapping[str, object] = {"acks": "all", "enable.idempotence": True, "linger.ms": 0}
GAP_S = 0.1
WORK_S = 0.01
#: Longer than a restart, a session and a rebalance together: after that nobody will take up what a dead member left.
_NEVER_AGAIN_S = 25.0
_QUIET_S = 3.0
_LOOK_EVERY_S = 0.5
_OVER = (DONE, SKIPPED)
_WORK = (Delivered, ShareDelivered, Effected, Committed)


@attrs.define(eq=False)
class Stage:
    """One trial of a scenario: its cluster, its sink, and the worker that runs there."""

    cluster: Cluster
    sink: sinks.Sink
    worker: Callable[[Stage], None]
    workers: int = 2

    def begin(self) -> None:
        """Start the workers."""
        for number in range(self.workers):
            self.cluster.spawn(self.worker, self, name=f"worker-{number + 1}")

    def after(self, seconds: float, function: Callable[..., object], *arguments: object) -> None:
        self.cluster.at(self.cluster.now + seconds, function, *arguments)


Worker = Callable[[Stage], None]


@attrs.frozen
class Traffic:
    """What is produced: ``records``, one every ``gap_s``, or two so ``close_s`` to one another and then none for a while.

    ``place`` chooses the partition of a key, None: the client does.
    """

    records: int = 40
    gap_s: float = GAP_S
    close_s: float | None = None
    keys: int = 8
    value: Callable[[int], bytes] = lambda number: b"%d" % number
    place: Callable[[bytes], int] | None = None
    producer: Mapping[str, object] = attrs.field(factory=dict)

    def send(self, cluster: Cluster) -> None:
        producer = cluster.producer({**PRODUCER, **self.producer})
        for number in range(self.records):
            key = b"key-%d" % (number % self.keys)
            place = -1 if self.place is None else self.place(key)
            producer.produce(TOPIC, self.value(number), key, place)
            producer.poll(0)
            close_s = self.close_s
            cluster.run_for(self.gap_s if close_s is None else wait_for_next(cluster, number, self.gap_s, close_s))
        producer.flush(10)


def staged(
    name: str,
    worker: Worker,
    *,
    promises: Mapping[str, bool],
    memory: Callable[[], Callable[[Any], object]] | None = None,
    traffic: Traffic | None = None,
    workers: int = 2,
    topics: tuple[str, ...] = (),
    before: Callable[[Stage], None] | None = None,
    during: Callable[[Stage], None] | None = None,
    is_late: bool = False,
    config: Mapping[str, object] | None = None,
) -> Scenario:
    """Workers of one group work on what is produced to two partitions of a topic.

    ``memory``: what the sink makes of a record (`Once`, `Newest`), made for each trial; ``topics``: others with one partition.
    ``before`` and ``during`` run before the workers start and as the traffic begins; ``is_late``: ``during`` starts them itself.
    """
    traffic = Traffic() if traffic is None else traffic
    stages: list[Stage] = []

    def prepare(cluster: Cluster) -> None:
        cluster.create_topic(TOPIC, partitions=2, config={"min.insync.replicas": 2})
        for topic in topics:
            cluster.create_topic(topic, partitions=1, config={"min.insync.replicas": 2})
        if promises:
            cluster.guarantee(GROUP, topics=TOPIC, **promises)
        sink = sinks.Sink(cluster, "invoices", None if memory is None else memory(), group=GROUP)
        stages[:] = [Stage(cluster, sink, worker, workers)]
        if before is not None:
            before(stages[0])
        if not is_late:
            stages[0].begin()
            cluster.run_for(4.0)

    def body(cluster: Cluster) -> None:
        if during is not None:
            during(stages[0])
        traffic.send(cluster)

    return Scenario(
        name,
        body,
        prepare,
        {"brokers": 3, "controllers": 1, "config": {"group.initial.rebalance.delay.ms": 0, **(config or {})}},
        partitions=(f"{TOPIC}-0", f"{TOPIC}-1"),
        clients=tuple(f"worker-{number + 1}" for number in range(workers)),
        settle_s=60.0,
        span_s=traffic.records * traffic.gap_s,
        settled=Quiet(is_all_committed),
    )


class Quiet:
    """Nobody has worked for a while, and all is done; or for so long that nobody will. Looked at now and then."""

    def __init__(self, is_done: Callable[[Cluster], bool]) -> None:
        self._is_done = is_done
        self._cluster: Cluster | None = None
        self._began_s = self._next_s = 0.0

    def __call__(self, cluster: Cluster) -> bool:
        if self._cluster is not cluster:
            self._cluster, self._began_s = cluster, cluster.now
        elif cluster.now < self._next_s:
            return False
        self._next_s = cluster.now + _LOOK_EVERY_S
        quiet_s = cluster.now - max(self._began_s, last_work_s(cluster))
        return quiet_s >= _QUIET_S and (quiet_s > _NEVER_AGAIN_S or self._is_done(cluster))


def is_all_committed(cluster: Cluster, group: str = GROUP) -> bool:
    """Everything that producers were told of; a partition of which nothing was committed may be lag that nobody sees."""
    left: dict[object, int] = {}
    for event in cluster.history.events:
        if type(event) is Acked and event.error is ErrorCode.NONE and event.tp.topic == TOPIC:
            left[event.tp] = max(left.get(event.tp, 0), event.base_offset + event.stop)
    for event in reversed(cluster.history.events):
        if not left:
            break
        if type(event) is Committed and event.group == group:
            for tp, offset, error in event.offsets:
                if error is ErrorCode.NONE and tp in left:
                    if offset < left[tp]:
                        return False
                    del left[tp]
    return not left


def is_all_worked_on(cluster: Cluster) -> bool:
    """Every record that producers were told of has taken effect, or was dealt with otherwise."""
    done = {
        (event.tp, event.offset) for event in cluster.history.events if type(event) is Effected and event.phase in _OVER
    }
    return all(
        (event.tp, event.base_offset + index) in done
        for event in cluster.history.events
        if type(event) is Acked and event.error is ErrorCode.NONE and event.tp.topic == TOPIC
        for index in range(event.start, event.stop)
    )


def last_work_s(cluster: Cluster) -> float:
    for event in reversed(cluster.history.events):
        if isinstance(event, _WORK):
            return event.at_us / 1e6
    return 0.0


# --- what sinks remember ----------------------------------------------------------------------------------------------


class Once:
    """Each record counts once, whenever it comes: a table of what was applied."""

    def __init__(self) -> None:
        self._applied: set[tuple[str, int, int]] = set()

    def __call__(self, message: Any) -> object:
        place = message.topic(), message.partition(), message.offset()
        if place in self._applied:
            return sinks.ALREADY_APPLIED
        self._applied.add(place)
        return None


class Newest:
    """The latest record of each key counts, and nothing older after it: an upsert with a version."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int, bytes], int] = {}

    def __call__(self, message: Any) -> object:
        place = message.topic(), message.partition(), message.key()
        if message.offset() <= self._versions.get(place, -1):
            return sinks.ALREADY_APPLIED
        self._versions[place] = message.offset()
        return None


# --- what workers do --------------------------------------------------------------------------------------------------


def consumer_of(stage: Stage, **more: object) -> Any:
    """A subscribed consumer; ``auto_offset_reset="latest"`` and so on."""
    settings = {**CONSUMER, **{key.replace("_", "."): value for key, value in more.items()}}
    return stage.cluster.consumer(stage.sink.group, [TOPIC], settings)


def messages(consumer: Any) -> Iterator[Any]:
    """Poll for ever."""
    while True:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            yield message


def try_commit(consumer: Any, message: Any) -> None:
    """What most people do: a commit that a rebalance has overtaken is not the end of the process."""
    with contextlib.suppress(KafkaException):
        consumer.commit(message, asynchronous=False)


def works_first(stage: Stage) -> None:
    """One record at a time; committed when it has been worked on."""
    work_with(stage, consumer_of(stage))


def work_with(stage: Stage, consumer: Any) -> None:
    for message in messages(consumer):
        stage.cluster.run_for(WORK_S)
        stage.sink(message)
        try_commit(consumer, message)
