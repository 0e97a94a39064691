"""Bugs of services that write twice: into a database and into Kafka, or into several topics, with nothing that ties the two together.

Rule 1:   the database survives its service; a request that was taken is not made again.
Rule 2:   a topic promises to mirror the database, or several topics to hold the same, once everybody had time to catch up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from benchmarks.bugs.row import Row
from benchmarks.bugs.work import CONSUMER, PRODUCER, TOPIC, Quiet, is_all_committed, messages, try_commit
from kafkasim import sinks
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster

_REQUESTS = 30
_GAP_S = 2.0
_BRANCHES = ("billing", "crm", "warehouse")
_SHORT = {**PRODUCER, "message.timeout.ms": 2000, "request.timeout.ms": 1000, "socket.timeout.ms": 1000}
_NAME = "shop"
_TABLE = "shop database"
_MIRRORED: Mapping[str, Any] = {"mirrors": _TABLE}
_SAME: Mapping[str, Any] = {"same_records": True}


@attrs.define(eq=False)
class Database:
    """What is in it is there for good: rows, and beside them an outbox of (topic, value), written in one transaction."""

    table: sinks.Table
    outbox: deque[tuple[str, bytes]] = attrs.field(factory=deque)

    def insert(self, row: bytes, *messages: tuple[str, bytes]) -> None:
        self.table.insert(row)
        self.outbox.extend(messages)


@attrs.define(eq=False)
class Shop:
    """One trial: requests that come in, the database, and the service that takes them."""

    cluster: Cluster
    topics: tuple[str, ...]
    database: Database = attrs.field(init=False)
    waiting: deque[bytes] = attrs.field(factory=deque)

    def __attrs_post_init__(self) -> None:
        self.database = Database(sinks.Table(self.cluster, _TABLE))

    def next_request(self) -> bytes:
        while not self.waiting:
            self.cluster.run_for(0.01)
        return self.waiting.popleft()


Service = Callable[[Shop], None]


def writes_twice(shop: Shop) -> None:
    """First the row, then a message to each topic, one after the other."""
    producer = shop.cluster.producer(_SHORT)
    while True:
        request = shop.next_request()
        shop.database.insert(request)
        for topic in shop.topics:
            producer.produce(topic, request)
            producer.flush(5)  # its result is in a log that nobody reads


def writes_an_outbox(shop: Shop) -> None:
    """The row and its messages in one transaction; what relays them deletes one when it has been acknowledged."""
    task = shop.cluster.scheduler.current()
    assert task is not None
    shop.cluster.spawn(_relay, shop, host=task.host)
    while True:
        request = shop.next_request()
        shop.database.insert(request, *((topic, request) for topic in shop.topics))


def _note(errors: list[object], error: object, _message: object) -> None:
    errors.append(error)


def _relay(shop: Shop) -> None:
    producer = shop.cluster.producer(_SHORT)
    outbox = shop.database.outbox
    while True:
        if not outbox:
            shop.cluster.run_for(0.02)
            continue
        topic, message = first = outbox[0]
        errors: list[object] = []
        producer.produce(topic, message, on_delivery=partial(_note, errors))
        if producer.flush(5) == 0 and not any(errors) and outbox and outbox[0] is first:
            outbox.popleft()  # unless another relay has, as may be while one restarts


def listens_to_itself(shop: Shop) -> None:
    """A request is a message first; what comes back from the topic is written into the database, once."""
    task = shop.cluster.scheduler.current()
    assert task is not None
    shop.cluster.spawn(_listen, shop, host=task.host)
    producer = shop.cluster.producer(_SHORT)
    while True:
        producer.produce(TOPIC, shop.next_request())
        producer.flush(5)  # what is not acknowledged is refused


def _listen(shop: Shop) -> None:
    consumer = shop.cluster.consumer(_NAME, [TOPIC], dict(CONSUMER))
    for message in messages(consumer):
        if message.value() not in shop.database.table.rows:
            shop.database.insert(message.value())
        try_commit(consumer, message)


def _serving(
    name: str,
    service: Service,
    topics: tuple[str, ...],
    promises: Mapping[str, Any],
    listens: bool = False,
) -> Scenario:
    shops: list[Shop] = []

    def prepare(cluster: Cluster) -> None:
        for topic in topics:
            cluster.create_topic(topic, partitions=1, config={"min.insync.replicas": 2})
        cluster.guarantee(topics=topics, **promises)
        shops[:] = [Shop(cluster, topics)]
        cluster.spawn(service, shops[0], name=_NAME)
        cluster.run_for(1.0)

    def is_settled(cluster: Cluster) -> bool:
        is_heard = not listens or is_all_committed(cluster, _NAME)
        return is_heard and not shops[0].waiting and not shops[0].database.outbox

    return Scenario(
        name,
        lambda cluster: _requests(shops[0]),
        prepare,
        {"brokers": 3, "controllers": 1},
        partitions=tuple(f"{topic}-0" for topic in topics),
        clients=(_NAME,),
        settle_s=60.0,
        span_s=_REQUESTS * _GAP_S,
        settled=Quiet(is_settled),
    )


def _requests(shop: Shop) -> None:
    for number in range(_REQUESTS):
        shop.waiting.append(b"order %d" % number)
        shop.cluster.run_for(_GAP_S)


def _fans_out_by_groups(name: str) -> Scenario:
    """The same three readers, as groups of one topic: nobody has to be told twice."""

    def prepare(cluster: Cluster) -> None:
        cluster.create_topic(TOPIC, partitions=1, config={"min.insync.replicas": 2})
        for group in _BRANCHES:
            cluster.guarantee(group, topics=TOPIC, at_least_once=True, drained=True)
            cluster.spawn(_branch, cluster, sinks.Sink(cluster, group, group=group), name=group)
        cluster.guarantee(topics=TOPIC, **_MIRRORED)
        shops[:] = [Shop(cluster, (TOPIC,))]
        cluster.spawn(writes_an_outbox, shops[0], name=_NAME)
        cluster.run_for(4.0)

    def is_settled(cluster: Cluster) -> bool:
        return not shops[0].database.outbox and all(is_all_committed(cluster, group) for group in _BRANCHES)

    shops: list[Shop] = []
    made = _serving(name, writes_an_outbox, (TOPIC,), _MIRRORED)
    return attrs.evolve(
        made,
        prepare=prepare,
        body=lambda cluster: _requests(shops[0]),
        clients=(_NAME, *_BRANCHES),
        settled=Quiet(is_settled),
    )


def _branch(cluster: Cluster, sink: sinks.Sink) -> None:
    consumer = cluster.consumer(sink.group, [TOPIC], dict(CONSUMER))
    for message in messages(consumer):
        sink(message)
        try_commit(consumer, message)


def _dual_write(protection: bool) -> Scenario:
    return _serving("dual-write", writes_an_outbox if protection else writes_twice, (TOPIC,), _MIRRORED)


def _n_sends(protection: bool) -> Scenario:
    return _serving("fan-out-by-sends", writes_an_outbox if protection else writes_twice, _BRANCHES, _SAME)


SERVICES: tuple[Row, ...] = (
    Row(
        "48",
        "dual-write",
        "transactional outbox",
        _dual_write,
        ("conservation",),
        forbidden=("acked-loss", "log-duplicate"),
        twins=(
            ("listen to yourself", lambda: _serving("listen", listens_to_itself, (TOPIC,), _MIRRORED, listens=True)),
        ),
        faults=1,
    ),
    Row(
        "49",
        "fan-out-by-sends",
        "transactional outbox; consumer groups",
        _n_sends,
        ("branch-convergence",),
        forbidden=("acked-loss", "log-duplicate"),
        twins=(("groups of one topic", lambda: _fans_out_by_groups("groups of one topic")),),
        faults=1,
    ),
)
