"""One history on both sides: what clients did and saw is recorded alike, and judged by the same oracles."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import attrs
import pytest
from tests.conformance.shares import QUICK_SHARES, Shares

from kafkasim.check.foreign import check_foreign
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    Acked,
    Assigned,
    Committed,
    Delivered,
    EndTold,
    Revoked,
    ShareAcknowledged,
    ShareDelivered,
    Sought,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import Columns, RecordBatch

DURABLE = {"min.insync.replicas": "2"}


def records(events: list[Any], topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    """Offset, key and value of each record that events of a topic name: a batch, or many batches of one."""
    found = []
    for event in events:
        if event.tp.topic == topic:
            base = event.base_offset if isinstance(event, Acked) else event.batch.base_offset
            for index in range(event.start, event.stop):
                columns = event.batch.columns
                found.append((base + index, columns.keys[index], columns.values[index]))
    return found


def test_reports_are_in_the_history(kit, kafka_cluster):
    """Every acknowledged record once, with its place, its content and its producer's settings."""
    topic = kit.topic()
    producer = kit.producer(acks=1, client_id="teller")
    for index in range(5):
        producer.produce(topic, f"v{index}", f"k{index}", partition=0)
    assert producer.flush(20) == 0
    acked = [event for event in kafka_cluster.history.of(Acked) if event.tp.topic == topic]
    assert records(acked, topic) == [(n, f"k{n}".encode(), f"v{n}".encode()) for n in range(5)]
    assert {(event.acks, event.idempotent, event.error) for event in acked} == {(1, False, ErrorCode.NONE)}
    assert {event.client.partition("#")[0] for event in acked} == {"teller"}


def test_when_and_in_which_order_records_were_produced_is_in_the_history(kit, kafka_cluster):
    """Numbers rise as produce() was called, each end has its times, and the settings that promise an order are told."""
    topic = kit.topic(partitions=2)
    settings = {"max_in_flight_requests_per_connection": 1, "message_timeout_ms": 20_000}
    producer = kit.producer(client_id="counter", linger_ms=0, **settings)
    for index in range(6):
        producer.produce(topic, f"v{index}", partition=index % 2)
        assert producer.flush(20) == 0
    acked = [event for event in kafka_cluster.history.of(Acked) if event.tp.topic == topic]
    assert [event.number for event in acked] == [1, 2, 3, 4, 5, 6]
    assert all(event.sent_us <= event.resolved_us <= event.at_us for event in acked)
    assert all(before.at_us <= after.sent_us for before, after in itertools.pairwise(acked))
    assert {(event.timeout_us, event.in_flight) for event in acked} == {(20_000_000, 1)}
    assert kafka_cluster.check().ok


@pytest.mark.parametrize("idempotent", [True, False])
def test_order_and_ends_are_judged_on_both_sides(kit, kafka_cluster, idempotent):
    """A run is sound; the same events, told with two numbers exchanged or an end that came too late, break P4 and P10."""
    topic = kit.topic(min_insync_replicas=2)
    producer = kit.producer(
        enable_idempotence=idempotent, max_in_flight_requests_per_connection=1, message_timeout_ms=5_000, linger_ms=0
    )
    for index in range(3):
        producer.produce(topic, f"v{index}", partition=0)
        assert producer.flush(20) == 0
    first, second, third = (event for event in kafka_cluster.history.of(Acked) if event.tp.topic == topic)
    assert check_foreign([first, second, third]).ok
    assert {event.idempotent for event in (first, second, third)} == {idempotent}
    exchanged = [attrs.evolve(first, number=second.number), attrs.evolve(second, number=first.number), third]
    assert [finding.id for finding in check_foreign(exchanged).findings] == ["P4"]
    end_us = third.sent_us + 60_000_000
    late = attrs.evolve(third, at_us=end_us, resolved_us=end_us)
    between = attrs.evolve(second, number=4, at_us=end_us - 30_000_000, resolved_us=end_us - 30_000_000)
    assert "P10" in [finding.id for finding in check_foreign([first, second, between, late]).findings]


def test_a_purged_record_is_in_the_history_as_an_error(kit, kafka_cluster):
    """A report with an error names its code, and the client's word for no offset."""
    topic = kit.topic()
    producer = kit.producer(linger_ms=10_000, enable_idempotence=True)
    producer.produce(topic, b"v", partition=0)
    producer.purge()
    producer.poll(1)
    (event,) = [event for event in kafka_cluster.history.of(Acked) if event.tp.topic == topic]
    assert (event.error, event.base_offset, event.acks, event.idempotent) == (ErrorCode._PURGE_QUEUE, -1001, -1, True)


def test_a_members_life_is_in_the_history(kit, kafka_cluster):
    """Ownership, deliveries, a seek and commits, in the order in which the application had them."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 3)
    consumer = kit.consumer(group, [topic])
    kit.read(consumer, 3)
    consumer.commit(asynchronous=False)
    consumer.seek(kit.at(topic, 0, 2))
    kit.read(consumer, 1)
    consumer.close()
    events = [event for event in kafka_cluster.history if getattr(event, "group", None) == group]
    kinds = [type(event) for event in events if not isinstance(event, Delivered)]
    tp = TopicPartition(topic, 0)
    assert kinds == [Assigned, Committed, Sought, Revoked]
    delivered = [event for event in events if isinstance(event, Delivered)]
    assert records(delivered, topic) == [(0, None, b"v0"), (1, None, b"v1"), (2, None, b"v2"), (2, None, b"v2")]
    assigned, committed, sought, revoked = (event for event in events if not isinstance(event, Delivered))
    assert assigned.partitions == revoked.partitions == (tp,)
    assert revoked.lost is False
    assert committed.offsets == ((tp, 3, ErrorCode.NONE),)
    assert (sought.tp, sought.offset) == (tp, 2)
    assert len({event.client for event in events}) == 1
    assert kafka_cluster.check().ok


def test_where_a_partition_ends_is_in_the_history(kit, kafka_cluster):
    """What a consumer was told by the leader; what it had in its cache already is no news."""
    topic, group = kit.topic(), kit.group()
    consumer = kit.consumer(group, [])
    kit.fill(topic, 3)
    assert consumer.get_watermark_offsets(kit.at(topic, 0), timeout=10) == (0, 3)
    consumer.get_watermark_offsets(kit.at(topic, 0), cached=True)
    told = [event for event in kafka_cluster.history.of(EndTold) if event.tp.topic == topic]
    assert [(event.tp, event.offset) for event in told] == [(TopicPartition(topic, 0), 3)]
    assert told[0].started_us < told[0].at_us
    assert kafka_cluster.check().ok


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_rebalance_is_in_the_history(kit, kafka_cluster, strategy):
    """A second member: what the first gives away is revoked before the second has it, under either protocol."""
    topic, group = kit.topic(partitions=2), kit.group()
    first = kit.consumer(group, [topic], client_id="first", partition_assignment_strategy=strategy)
    kit.wait(lambda: kit.partitions(first) == [0, 1], first)
    second = kit.consumer(group, [topic], client_id="second", partition_assignment_strategy=strategy)
    kit.wait(lambda: len(kit.partitions(first)) == len(kit.partitions(second)) == 1, first, second)
    owners: dict[TopicPartition, str] = {}
    for event in kafka_cluster.history.of(Assigned, Revoked):
        if event.group == group:
            for tp in event.partitions:
                if isinstance(event, Assigned):
                    assert owners.setdefault(tp, event.client) == event.client
                else:
                    assert owners.pop(tp) == event.client
    assert sorted(client.partition("#")[0] for client in owners.values()) == ["first", "second"]


def test_commits_of_every_kind_are_in_the_history(kit, kafka_cluster):
    """Synchronous, asynchronous, and the automatic one at close."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 3)
    ends: list[Any] = []
    consumer = kit.consumer(
        group, [topic], enable_auto_commit=True, on_commit=lambda error, partitions: ends.append(error)
    )
    kit.read(consumer, 3)
    consumer.commit(offsets=[kit.at(topic, 0, 1)], asynchronous=False)
    consumer.commit(offsets=[kit.at(topic, 0, 2)], asynchronous=True)
    kit.wait(lambda: ends, consumer)
    consumer.close()
    offsets = [event.offsets for event in kafka_cluster.history.of(Committed) if event.group == group]
    assert [offset for ((_, offset, _),) in offsets] == [1, 2, 3]


def test_a_crash_breaks_no_promise(kit, kafka_cluster):
    """acks=all over the crash of a leader: the oracles look at every record, and find nothing broken."""
    topic = kit.topic(**DURABLE)
    producer = kit.producer(enable_idempotence=True)
    consumer = kit.consumer(kit.group(), [topic])
    for index in range(20):
        producer.produce(topic, f"v{index}", partition=0)
        if index == 10:
            assert producer.flush(20) == 0
            kafka_cluster.broker(kafka_cluster.describe_topic(topic)[0].leader).crash()
    assert producer.flush(60) == 0
    assert kit.values(kit.read(consumer, 20, timeout=60)) == [f"v{index}".encode() for index in range(20)]
    report = kafka_cluster.check()
    assert report.ok, report
    assert report.looked_at["acknowledged records"] == report.looked_at["deliveries"] == 20


def test_a_record_that_was_deleted_is_not_lost(kit, kafka_cluster):
    """What lies below the log's start was deleted as asked; what lies above is still there."""
    topic = kit.topic(**DURABLE)
    kit.fill(topic, 5)
    kit.result(kit.admin().delete_records([kit.at(topic, 0, 3)]))
    report = kafka_cluster.check()
    assert report.ok, report


def test_the_oracles_see_a_loss(kit, kafka_cluster):
    """A report for a record that no log holds is an acked-loss, also where another record stands in its place."""
    topic = kit.topic(**DURABLE)
    kit.fill(topic, 1)
    for offset in (0, 7):
        batch = RecordBatch(Columns([None], [b"never sent"], [0]), 1, 80, 0, offset)
        kafka_cluster.history.record(
            Acked(0, "liar", TopicPartition(topic, 0), batch, 0, 1, ErrorCode.NONE, offset, -1, False)
        )
    report = kafka_cluster.check()
    # (The simulator, which knows what was committed, tells of the acknowledgements themselves besides.)
    assert [f.invariant for f in report.findings if f.invariant != "weak-ack"] == ["acked-loss", "acked-loss"]


def consume_until_killed(ck: Any, config: dict[str, Any], topic: str) -> None:
    """A member that reads on for ever."""
    consumer = ck.Consumer(config)
    consumer.subscribe([topic])
    while True:
        consumer.poll(0.1)


def test_a_killed_tasks_events_stay(kit, kafka_cluster):
    """What a task saw before it was killed is in the history, though it runs in a process of its own on real Kafka."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 3)
    config = kit.config({"group.id": group, "auto.offset.reset": "earliest"})
    task = kit.killable(consume_until_killed, kit.ck, config, topic)

    def delivered() -> list[Any]:
        return [event for event in kafka_cluster.history.of(Delivered) if event.group == group]

    kit.wait(lambda: len(records(delivered(), topic)) == 3)
    task.kill()
    assert records(delivered(), topic) == [(0, None, b"v0"), (1, None, b"v1"), (2, None, b"v2")]
    assert not [event for event in kafka_cluster.history.of(Revoked) if event.group == group]


def test_serializing_clients_are_in_the_history(kit, kafka_cluster):
    """What a serializer made and a deserializer was given: the bytes, whatever the application sees."""
    topic = kit.topic()
    text = importlib.import_module("confluent_kafka.serialization")
    producer = kit.ck.SerializingProducer(kit.config(**{"value.serializer": text.StringSerializer()}))
    producer.produce(topic=topic, value="héllo", key=b"k", partition=0)
    assert producer.flush(20) == 0
    config = kit.config({"group.id": kit.group(), "auto.offset.reset": "earliest"})
    consumer = kit.keep(kit.ck.DeserializingConsumer({**config, "value.deserializer": text.StringDeserializer()}))
    consumer.subscribe([topic])
    assert kit.read(consumer, 1)[0].value() == "héllo"
    written = [(0, b"k", "héllo".encode())]
    for kind in (Acked, Delivered):
        assert records([event for event in kafka_cluster.history.of(kind) if event.tp.topic == topic], topic) == written


def spans(events: list[Any]) -> list[tuple[int, int, str]]:
    """Every acknowledgement with its type, joined: the same however many answers brought them."""
    offsets = sorted(
        (kind, offset) for event in events for first, last, kind in event.acks for offset in range(first, last + 1)
    )
    joined: list[tuple[int, int, str]] = []
    for kind, offset in offsets:
        if joined and joined[-1][1:] == (offset - 1, kind):
            joined[-1] = (joined[-1][0], offset, kind)
        else:
            joined.append((offset, offset, kind))
    return sorted(joined)


@pytest.mark.kafka(config=QUICK_SHARES)
def test_a_share_consumers_life_is_in_the_history(kit, kafka_cluster):
    """Deliveries with their counts, and acknowledgements with their types when their outcome is known, heard or not."""
    shares, topic = Shares(kit), kit.topic()
    group = shares.group()
    kit.fill(topic, 6)
    heard: list[Any] = []
    consumer = shares.consumer(group, topic)
    types = {(1, 1): kit.ck.AcknowledgeType.RELEASE, (3, 1): kit.ck.AcknowledgeType.REJECT}
    counts: dict[int, int] = {}
    while len(counts) < 6 or counts[1] < 2:
        found = shares.poll(consumer)
        assert found
        for message in found:
            place = message.offset(), message.delivery_count()
            counts[place[0]] = place[1]
            consumer.acknowledge(message, types.get(place, kit.ck.AcknowledgeType.ACCEPT))
        consumer.commit_sync()
    consumer.set_acknowledgement_commit_callback(lambda offsets, problem: heard.append((offsets, problem)))
    kit.fill(topic, 1, start=6)
    (last,) = shares.poll(consumer)
    consumer.acknowledge_offset(last.topic(), last.partition(), last.offset())
    consumer.commit_async()
    while not heard:
        consumer.poll(0.2)
    consumer.close()

    given = [event for event in kafka_cluster.history.of(ShareDelivered) if event.group == group]
    once = [event for event in given if event.delivery_count == 1]
    assert records(once, topic) == [(n, None, f"v{n}".encode()) for n in range(7)]
    assert [event.batch.offset_at(event.start) for event in given if event.delivery_count == 2] == [1]
    acks = [event for event in kafka_cluster.history.of(ShareAcknowledged) if event.group == group]
    assert {(event.tp, event.error) for event in acks} == {(TopicPartition(topic, 0), ErrorCode.NONE)}
    assert spans(acks) == [
        (0, 2, "accept"),
        (1, 1, "release"),
        (3, 3, "reject"),
        (4, 6, "accept"),
    ]
    assert acks[-1].acks == ((6, 6, "accept"),)
    assert {event.client for event in (*given, *acks)} == {given[0].client}


@pytest.mark.kafka(config=QUICK_SHARES)
def test_what_an_implicit_share_consumer_accepts_is_in_the_history(kit, kafka_cluster):
    """With the next poll; what is in hand at the close is not accepted."""
    shares, topic = Shares(kit), kit.topic()
    group = shares.group()
    kit.fill(topic, 3)
    consumer = shares.consumer(group, topic, mode="implicit")
    got = 0
    while got < 3:
        got += len(shares.poll(consumer))
    consumer.poll(0.5)
    kit.fill(topic, 1)
    assert shares.poll(consumer)
    consumer.close()
    acks = [event for event in kafka_cluster.history.of(ShareAcknowledged) if event.group == group]
    assert spans(acks) == [(0, 2, "accept")]
