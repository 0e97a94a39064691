"""One small program, asked of one peer: prints what it saw as JSON. ``truth_table`` runs it; it needs nothing but the peer itself.

    python benchmarks/truth_program.py kafkasim|librdkafka|mockafka|mocha

Three brokers, a topic of four partitions, forty records with keys and delivery callbacks and no partition, two members of one
group, of which the second joins once the first has its partitions. Every question is asked in the words of confluent_kafka; a peer
that has no such call says so. The commits are the application's own (``enable.auto.commit`` is off), so that what a member reads
twice is the peer's doing.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

TOPIC = "truth"
PARTITIONS = 4
RECORDS = 40
PATIENCE_SECONDS = 25.0
QUIET_POLLS = 15
CONSUMER_CONFIG = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    # librdkafka's mock cluster completes a rebalance when the session of a member that is slow to rejoin is over.
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 1000,
}

Cells = dict[str, str]


class Peer:
    """How a peer is set up; everything else is confluent_kafka's interface."""

    def __init__(self, name: str, version: str) -> None:
        self.name = f"{name} {version}"

    def producer(self) -> Any: ...

    def consumer(self, config: dict[str, Any]) -> Any: ...

    def admin(self) -> Any:
        raise NotImplementedError("has no AdminClient")

    def new_topic(self, name: str) -> Any:
        from confluent_kafka.admin import NewTopic

        return NewTopic(name, 2, 3)

    def kill_replica(self) -> tuple[str, list[int], list[int]]:
        """Kill a follower of partition 0; its name, the replicas and the ISR as a client then sees them."""
        raise NotImplementedError("has no call that kills a broker")


@contextlib.contextmanager
def kafkasim_peer() -> Iterator[Peer]:
    import kafkasim
    from kafkasim import confluent_kafka

    with kafkasim.Cluster(brokers=3, seed=7) as cluster:
        cluster.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)

        class Simulator(Peer):
            def producer(self) -> Any:
                return cluster.producer()

            def consumer(self, config: dict[str, Any]) -> Any:
                return confluent_kafka.Consumer({**config, "bootstrap.servers": cluster.bootstrap_servers})

            def admin(self) -> Any:
                return cluster.admin()

            def new_topic(self, name: str) -> Any:
                from kafkasim.confluent_kafka.admin import NewTopic

                return NewTopic(name, 2, 3)

            def kill_replica(self) -> tuple[str, list[int], list[int]]:
                partition = cluster.describe_topic(TOPIC)[0]
                follower = next(replica for replica in partition.replicas if replica != partition.leader)
                cluster.broker(follower).crash()
                cluster.run_for(60.0)
                seen = self.producer().list_topics(TOPIC, timeout=10).topics[TOPIC].partitions[0]
                return f"broker {follower}", seen.replicas, seen.isrs

        yield Simulator("kafkasim", kafkasim.__version__)


@contextlib.contextmanager
def librdkafka_peer() -> Iterator[Peer]:
    import confluent_kafka

    home = confluent_kafka.Producer({"test.mock.num.brokers": 3, "log_level": 0})
    metadata = home.list_topics(TOPIC, timeout=10)
    addresses = ",".join(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())

    class Mock(Peer):
        def producer(self) -> Any:
            return confluent_kafka.Producer({"bootstrap.servers": addresses, "log_level": 0})

        def consumer(self, config: dict[str, Any]) -> Any:
            return confluent_kafka.Consumer({**config, "bootstrap.servers": addresses, "log_level": 0})

        def admin(self) -> Any:
            from confluent_kafka.admin import AdminClient

            return AdminClient({"bootstrap.servers": addresses, "log_level": 0})

        def kill_replica(self) -> tuple[str, list[int], list[int]]:
            raise NotImplementedError("no Python call kills a mock broker")

    yield Mock("librdkafka mock", confluent_kafka.libversion()[0])


@contextlib.contextmanager
def mockafka_peer() -> Iterator[Peer]:
    import mockafka
    from confluent_kafka.admin import NewTopic

    mockafka.FakeAdminClientImpl(clean=True).create_topics([NewTopic(TOPIC, PARTITIONS, 3)])

    class Mockafka(Peer):
        def producer(self) -> Any:
            return mockafka.FakeProducer({})

        def consumer(self, config: dict[str, Any]) -> Any:
            return mockafka.FakeConsumer(config)

        def admin(self) -> Any:
            return mockafka.FakeAdminClientImpl()

    yield Mockafka("mockafka-py", importlib.metadata.version("mockafka-py"))


@contextlib.contextmanager
def mocha_peer() -> Iterator[Peer]:
    os.environ["KAFKA_MOCHA_KSIM_TOPICS"] = json.dumps([f"{TOPIC}:{PARTITIONS}"])
    import confluent_kafka
    import kafka_mocha

    with kafka_mocha.mock_producer(), kafka_mocha.mock_consumer():

        class Mocha(Peer):
            def producer(self) -> Any:
                return confluent_kafka.Producer({"bootstrap.servers": "localhost:9092"})

            def consumer(self, config: dict[str, Any]) -> Any:
                return confluent_kafka.Consumer({**config, "bootstrap.servers": "localhost:9092"})

        yield Mocha("kafka-mocha", importlib.metadata.version("kafka-mocha"))


PEERS: dict[str, Callable[[], contextlib.AbstractContextManager[Peer]]] = {
    "kafkasim": kafkasim_peer,
    "librdkafka": librdkafka_peer,
    "mockafka": mockafka_peer,
    "mocha": mocha_peer,
}


class Member:
    """A consumer that notes its callbacks and what it was given, by ``consume(10)`` or by ``poll()``."""

    def __init__(self, peer: Peer, group: str, *, one_by_one: bool = False) -> None:
        self.one_by_one = one_by_one
        self.consumer = peer.consumer({"group.id": group, **CONSUMER_CONFIG})
        self.calls: list[str] = []
        self.records: list[Any] = []  # values: every one was sent once
        self.consumer.subscribe([TOPIC], on_assign=self._note("assign"), on_revoke=self._note("revoke"))

    def _note(self, kind: str) -> Callable[[Any, list[Any]], None]:
        return lambda consumer, partitions: self.calls.append(f"{kind} {len(partitions)}")

    def poll(self) -> bool:
        if self.one_by_one:
            message = self.consumer.poll(0.1)
            messages = [] if message is None else [message]
        else:
            messages = self.consumer.consume(10, 0.1)
        values = [message.value() for message in messages if message.error() is None]
        self.records += values
        return bool(values)

    @property
    def partitions(self) -> int:
        return len(self.consumer.assignment())


def drain(*members: Member) -> None:
    """Poll in turn until nobody has got anything for a while."""
    quiet, started = 0, time.monotonic()
    while quiet < QUIET_POLLS and time.monotonic() - started < PATIENCE_SECONDS:
        gave = [member.poll() for member in members]
        quiet = 0 if any(gave) else quiet + 1


def wait_for(condition: Callable[[], bool], *members: Member) -> None:
    started = time.monotonic()
    while not condition() and time.monotonic() - started < PATIENCE_SECONDS:
        for member in members:
            member.poll()


def ask(cells: Cells, question: str, answer: Callable[[], str]) -> None:
    """A peer's failure to answer is its answer."""
    try:
        cells[question] = answer()
    except NotImplementedError as problem:
        cells[question] = f"not run: {problem}"
    except Exception as problem:
        text = " ".join(str(problem).split())
        cells[question] = f"raises {type(problem).__name__}" + (f": {text[:60]}" if text else "")


def program(peer: Peer) -> Cells:
    cells: Cells = {}
    producer = peer.producer()
    ask(cells, "leaders", lambda: _leaders(producer))

    started = time.perf_counter()
    first = Member(peer, "billing")
    wait_for(lambda: first.partitions > 0, first)
    second = Member(peer, "billing")
    if first.partitions:
        wait_for(lambda: second.partitions > 0 and first.partitions + second.partitions == PARTITIONS, first, second)
    joined = time.perf_counter() - started

    delivered: list[Any] = []
    ask(cells, "produce without a partition", lambda: _produce(producer, delivered, named=False))
    if not cells["produce without a partition"].startswith("ok"):
        _produce(producer, delivered, named=True)
    cells["delivery callbacks"] = f"{len(delivered)} of {RECORDS}"

    drain(first, second)
    cells["assignment"] = f"{first.partitions} + {second.partitions}"
    settled = first.partitions + second.partitions == PARTITIONS
    cells["join"] = f"{joined:.1f} s" if settled else "never so"
    cells["callbacks"] = f"1st: {', '.join(first.calls) or 'none'}; 2nd: {', '.join(second.calls) or 'none'}"
    shared = len(set(first.records) & set(second.records))
    cells["records"] = f"{len(first.records)} + {len(second.records)}, {shared} to both"
    ask(cells, "watermarks", lambda: _watermarks(peer, first.consumer))

    ask(cells, "rejoin", lambda: _rejoin(peer, first, second))
    ask(cells, "other group", lambda: _other_group(peer))
    ask(cells, "create_topics", lambda: _create_topic(peer))
    ask(cells, "isr", lambda: _kill_replica(peer))
    return cells


def _leaders(producer: Any) -> str:
    topic = producer.list_topics(TOPIC, timeout=10).topics[TOPIC]
    return " ".join(str(topic.partitions[number].leader) for number in sorted(topic.partitions))


def _produce(producer: Any, delivered: list[Any], *, named: bool) -> str:
    for number in range(RECORDS):
        where = {"partition": number % PARTITIONS} if named else {}
        producer.produce(
            TOPIC,
            value=b"call %d" % number,
            key=b"key-%d" % number,
            on_delivery=lambda error, message: delivered.append(message),
            **where,
        )
        producer.poll(0)
    producer.flush(10)
    return "ok"


def _watermarks(peer: Peer, consumer: Any) -> str:
    client: Any = importlib.import_module(
        "kafkasim.confluent_kafka" if peer.name.startswith("kafkasim") else "confluent_kafka"
    )
    marks = [consumer.get_watermark_offsets(client.TopicPartition(TOPIC, number)) for number in range(PARTITIONS)]
    return f"lows {sum(low for low, _ in marks)}, highs {sum(high for _, high in marks)}"


def _rejoin(peer: Peer, first: Member, second: Member) -> str:
    for member in (first, second):
        if member.records:
            member.consumer.commit(asynchronous=False)
    for member in (first, second):
        member.consumer.close()
    again = Member(peer, "billing")
    wait_for(lambda: again.partitions == PARTITIONS, again)
    drain(again)
    again.consumer.close()
    return f"{len(again.records)} read again"


def _other_group(peer: Peer) -> str:
    other = Member(peer, "crm", one_by_one=True)
    wait_for(lambda: other.partitions == PARTITIONS, other)
    drain(other)
    other.consumer.close()
    return f"{len(other.records)} of {RECORDS}"


def _create_topic(peer: Peer) -> str:
    admin = peer.admin()  # kept: a client that is collected takes its futures along
    futures = admin.create_topics([peer.new_topic("made")])
    if not isinstance(futures, dict):
        return f"returns {futures!r} instead of futures"
    for future in futures.values():
        future.result(15)
    return "ok"


def _kill_replica(peer: Peer) -> str:
    who, replicas, isr = peer.kill_replica()
    return f"{who} dead: ISR {len(isr)} of {len(replicas)}"


def main() -> None:
    with PEERS[sys.argv[1]]() as peer:
        cells = program(peer)
    print(json.dumps({"name": peer.name, "cells": cells}), flush=True)
    # Peers that keep threads or half-closed clients must not hold the answer back.
    os._exit(0)


if __name__ == "__main__":
    main()
