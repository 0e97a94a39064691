"""The producer engine against fake brokers: batching, order, retries, timeouts, idempotence, reports."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest
from tests.unit.client.fake_cluster import SECOND_US, FakeCluster

from kafkasim.core.client.accumulator import DeliveryReport
from kafkasim.core.client.producer import ProducerEngine
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import InitProducerIdRequest, ProduceRequest

T0 = TopicPartition("t", 0)


def make(brokers: int = 3, partitions: int = 1, **given: Any) -> tuple[FakeCluster, ProducerEngine]:
    """A cluster with topic t, and a producer that knows it already."""
    cluster = FakeCluster(brokers)
    cluster.add_topic("t", partitions)
    producer = cluster.client(ProducerEngine, "producer", **given)
    return cluster, producer


def put(cluster: FakeCluster, producer: ProducerEngine, value: bytes, **how: Any) -> ErrorCode:
    error = producer.produce(
        how.get("topic", "t"),
        value,
        how.get("key"),
        how.get("partition", -1),
        how.get("timestamp_ms", 0),
        how.get("headers"),
        value,
        cluster.now_us,
    )
    cluster.drain()
    return error


def reports(producer: ProducerEngine) -> list[tuple[Any, ErrorCode, int]]:
    """(opaque, error, offset) of everything reported."""
    found = []
    for report in producer.take_reports(0):
        for index in range(report.start, report.stop):
            offset = report.base_offset + index if report.base_offset >= 0 else report.base_offset
            found.append((report.opaques[index], report.error, offset))
    return found


def test_records_arrive_in_order_with_their_offsets() -> None:
    """A burst before metadata are known is batched and reported with offsets."""
    cluster, producer = make()
    for number in range(100):
        assert put(cluster, producer, b"%d" % number) == ErrorCode.NONE
    cluster.run(0.1)
    assert cluster.values("t") == [b"%d" % number for number in range(100)]
    assert reports(producer) == [(b"%d" % number, ErrorCode.NONE, number) for number in range(100)]
    assert producer.message_count == 0
    assert len(cluster.sent(ProduceRequest)) == 1


def test_linger_and_flush() -> None:
    """Records wait for linger.ms, unless a flush is on."""
    cluster, producer = make(**{"linger.ms": 500})
    put(cluster, producer, b"warm")
    cluster.run(1)
    put(cluster, producer, b"a")
    cluster.run(0.4)
    assert cluster.values("t") == [b"warm"]
    producer.begin_flush(cluster.now_us)
    cluster.run(0.01)
    assert cluster.values("t") == [b"warm", b"a"]
    put(cluster, producer, b"b")
    cluster.run(0.01)
    assert cluster.values("t")[-1] == b"b"
    producer.end_flush()


def test_batches_are_cut_by_count_and_size() -> None:
    """batch.num.messages and batch.size close a batch at once."""
    cluster, producer = make(**{"batch.num.messages": 10, "linger.ms": 1000})
    put(cluster, producer, b"warm")
    cluster.run(2)
    for number in range(25):
        put(cluster, producer, b"%d" % number)
    cluster.run(0.01)
    assert [len(batch.columns) for batch in cluster.logs[T0]] == [1, 10, 10]
    cluster.run(1)
    assert [len(batch.columns) for batch in cluster.logs[T0]] == [1, 10, 10, 5]


def test_keyless_records_stick_once_the_partitions_are_known() -> None:
    """What waited for metadata is spread record by record; from then on sticky.partitioning.linger.ms holds, up or not."""
    turns = count()
    settings = {"draw": lambda _label, bound: next(turns) % bound, "sticky.partitioning.linger.ms": 60_000}
    cluster, producer = make(partitions=8, **settings)
    for number in range(8):
        put(cluster, producer, b"%d" % number)
    cluster.run(1)
    assert len({report.tp.partition for report in producer.take_reports(0)}) > 4
    for number in range(10):
        put(cluster, producer, b"%d" % number)
        cluster.run(1)
    assert len({report.tp.partition for report in producer.take_reports(0)}) == 1


def test_one_request_carries_all_partitions_of_a_leader() -> None:
    """Partitions that are ready together share a request."""
    cluster, producer = make(brokers=1, partitions=8)
    put(cluster, producer, b"warm", partition=0)
    cluster.run(1)
    cluster.requests.clear()
    for partition in range(8):
        put(cluster, producer, b"x", partition=partition)
    cluster.run(0.1)
    assert [len(request.partitions) for request in cluster.sent(ProduceRequest)] == [8]


def test_queue_full_counts_until_reports_are_taken() -> None:
    """The limit holds records whose reports the application has not taken."""
    cluster, producer = make(**{"queue.buffering.max.messages": 2})
    assert put(cluster, producer, b"a") == put(cluster, producer, b"b") == ErrorCode.NONE
    assert put(cluster, producer, b"c") == ErrorCode._QUEUE_FULL
    cluster.run(1)
    assert put(cluster, producer, b"c") == ErrorCode._QUEUE_FULL
    assert len(producer.take_reports(1)) == 1
    assert producer.message_count == 1
    assert put(cluster, producer, b"c") == ErrorCode.NONE


def test_size_limits() -> None:
    """message.max.bytes counts librdkafka's framing; queue.buffering.max.kbytes may refuse a first record."""
    cluster, producer = make()
    assert put(cluster, producer, b"x" * 1_000_000) == ErrorCode.MESSAGE_TOO_LARGE
    assert put(cluster, producer, b"x" * (1_000_000 - 36)) == ErrorCode.NONE
    cluster, producer = make(**{"queue.buffering.max.kbytes": 1})
    assert put(cluster, producer, b"x" * 2000) == ErrorCode._QUEUE_FULL


def test_reports_can_be_taken_one_by_one() -> None:
    """A batch's report is split, oldest first."""
    cluster, producer = make()
    for number in range(3):
        put(cluster, producer, b"%d" % number)
    cluster.run(1)
    taken: list[DeliveryReport] = []
    while producer.message_count:
        taken += producer.take_reports(1)
    assert [(report.start, report.stop, report.base_offset) for report in taken] == [(0, 1, 0), (1, 2, 0), (2, 3, 0)]
    assert producer._queued_bytes == 0


def test_unknown_partition_and_invalid_topic_are_reported() -> None:
    """Both are taken by produce() and fail by report."""
    cluster, producer = make()
    put(cluster, producer, b"early", partition=7)
    cluster.run(0.5)
    put(cluster, producer, b"late", partition=7)
    put(cluster, producer, b"bad", topic="a b")
    cluster.run(0.5)
    assert [report[:2] for report in reports(producer)] == [
        (b"early", ErrorCode._UNKNOWN_PARTITION),
        (b"late", ErrorCode._UNKNOWN_PARTITION),
        (b"bad", ErrorCode.INVALID_TOPIC_EXCEPTION),
    ]


def test_unknown_topic_after_propagation_time() -> None:
    """As librdkafka 2.16 was seen: queued records fail with the broker's code, later ones are refused by produce()."""
    cluster, producer = make(**{"topic.metadata.propagation.max.ms": 1500})
    put(cluster, producer, b"x", topic="gone")
    cluster.run(1.4)
    assert reports(producer) == []
    cluster.run(0.8)
    assert reports(producer) == [(b"x", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1001)]
    assert put(cluster, producer, b"y", topic="gone") == ErrorCode._UNKNOWN_TOPIC


def test_a_topic_created_meanwhile_is_found() -> None:
    """Records of an unknown topic wait for it."""
    cluster, producer = make()
    put(cluster, producer, b"x", topic="new")
    cluster.run(0.5)
    cluster.add_topic("new", 2)
    cluster.run(2)
    assert [report[:2] for report in reports(producer)] == [(b"x", ErrorCode.NONE)]


def test_leader_change_is_followed_by_the_hint() -> None:
    """NOT_LEADER_OR_FOLLOWER names the new leader; the record goes there without a count of retries."""
    cluster, producer = make(retries=0)
    put(cluster, producer, b"a")
    cluster.run(1)
    cluster.move_leader(T0, 2)
    put(cluster, producer, b"b")
    cluster.run(1)
    assert cluster.values("t") == [b"a", b"b"]
    assert [report[1] for report in reports(producer)] == [ErrorCode.NONE, ErrorCode.NONE]


@pytest.mark.parametrize("idempotent", [False, True])
def test_lost_answer_duplicates_unless_idempotent(idempotent: bool) -> None:
    """A lost answer makes a real retry: a duplicate for a plain producer, none for an idempotent one."""
    cluster, producer = make(**{"socket.timeout.ms": 1000, "enable.idempotence": idempotent})
    put(cluster, producer, b"warm")
    cluster.run(1)
    cluster.drop_produce_answers = 1
    put(cluster, producer, b"a")
    cluster.run(3)
    assert cluster.values("t") == ([b"warm", b"a"] if idempotent else [b"warm", b"a", b"a"])
    assert reports(producer)[-1] == (b"a", ErrorCode.NONE, 1 if idempotent else 2)


def test_a_frozen_broker_times_records_out() -> None:
    """message.timeout.ms covers the time in flight: the report says timed out, yet the record lands in the log."""
    cluster, producer = make(**{"message.timeout.ms": 2000, "linger.ms": 0})
    put(cluster, producer, b"warm")
    cluster.run(1)
    cluster.freeze(1)
    put(cluster, producer, b"a")
    cluster.run(1.9)
    assert [report[0] for report in reports(producer)] == [b"warm"]
    cluster.run(0.6)
    assert reports(producer) == [(b"a", ErrorCode._MSG_TIMED_OUT, -1001)]
    cluster.thaw(1)
    put(cluster, producer, b"b")
    cluster.run(2)
    assert cluster.values("t") == [b"warm", b"a", b"b"] or cluster.values("t") == [b"warm", b"b"]


def test_records_without_a_broker_time_out() -> None:
    """With nothing to connect to, records fail after message.timeout.ms, and the application hears of the brokers."""
    cluster, producer = make(**{"message.timeout.ms": 3000})
    for node in cluster.brokers:
        cluster.stop(node)
    put(cluster, producer, b"a")
    cluster.run(5)
    assert reports(producer) == [(b"a", ErrorCode._MSG_TIMED_OUT, -1001)]
    events = producer.take_events()
    assert events[0].code == ErrorCode._TRANSPORT
    assert events[0].text.startswith("b1:9092/bootstrap: Connect to ipv4#b1:9092 failed: Connection refused (after ")
    assert any(event.text == "2/2 brokers are down" for event in events)


def test_a_restarted_broker_gets_what_waited() -> None:
    """A broker that is down holds records back without costing retries."""
    cluster, producer = make(brokers=1, retries=0)
    put(cluster, producer, b"a")
    cluster.run(1)
    cluster.stop(1)
    cluster.run(0.1)
    put(cluster, producer, b"b")
    cluster.run(5)
    cluster.start(1)
    cluster.run(15)
    assert cluster.values("t") == [b"a", b"b"]


def test_not_enough_replicas_is_retried_until_retries_end() -> None:
    """A retriable error counts against ``retries``."""
    cluster, producer = make(retries=2)
    put(cluster, producer, b"warm")
    cluster.run(1)
    cluster.produce_errors = [ErrorCode.NOT_ENOUGH_REPLICAS] * 3
    put(cluster, producer, b"a")
    cluster.run(5)
    assert reports(producer)[-1] == (b"a", ErrorCode.NOT_ENOUGH_REPLICAS, -1001)
    assert cluster.values("t") == [b"warm"]


def test_idempotent_batches_carry_sequences() -> None:
    """Producer id, epoch 0, sequences from 0 per partition."""
    cluster, producer = make(partitions=2, **{"enable.idempotence": True})
    for number in range(3):
        for partition in range(2):
            put(cluster, producer, b"%d" % number, partition=partition)
        cluster.run(0.5)
    for partition in range(2):
        log = cluster.logs[TopicPartition("t", partition)]
        assert [(batch.producer_id, batch.producer_epoch) for batch in log] == [(0, 0)] * len(log)
        assert log[-1].last_sequence == 2
    assert len(cluster.sent(InitProducerIdRequest)) == 1


def test_a_permanent_failure_bumps_the_epoch() -> None:
    """A record that is given up leaves a hole, so the next ones start at sequence 0 of the next epoch."""
    cluster, producer = make(**{"enable.idempotence": True})
    put(cluster, producer, b"a")
    cluster.run(1)
    cluster.produce_errors = [ErrorCode.INVALID_RECORD]
    put(cluster, producer, b"bad")
    cluster.run(1)
    put(cluster, producer, b"b")
    cluster.run(1)
    assert [report[1] for report in reports(producer)] == [ErrorCode.NONE, ErrorCode.INVALID_RECORD, ErrorCode.NONE]
    assert [(batch.producer_epoch, batch.base_sequence) for batch in cluster.logs[T0]] == [(0, 0), (1, 0)]


def test_a_timed_out_idempotent_record_bumps_the_epoch() -> None:
    """As recorded: warm (epoch 0), a timed out but written (epoch 0), then epoch 1 from sequence 0."""
    cluster, producer = make(**{"enable.idempotence": True, "message.timeout.ms": 2000, "linger.ms": 0})
    put(cluster, producer, b"warm")
    cluster.run(1)
    cluster.drop_produce_answers = 1
    put(cluster, producer, b"a")
    cluster.run(2.6)
    put(cluster, producer, b"b")
    cluster.run(2)
    assert [report[1] for report in reports(producer)] == [ErrorCode.NONE, ErrorCode._MSG_TIMED_OUT, ErrorCode.NONE]
    assert [(batch.producer_epoch, batch.base_sequence) for batch in cluster.logs[T0]] == [(0, 0), (0, 1), (1, 0)]


def test_gapless_makes_a_hole_fatal() -> None:
    """enable.gapless.guarantee turns a permanent failure into a fatal error."""
    cluster, producer = make(**{"enable.idempotence": True, "enable.gapless.guarantee": True})
    put(cluster, producer, b"a")
    cluster.run(1)
    cluster.produce_errors = [ErrorCode.INVALID_RECORD]
    put(cluster, producer, b"bad")
    cluster.run(1)
    assert producer.fatal_error == ErrorCode._GAPLESS_GUARANTEE
    assert put(cluster, producer, b"b") == ErrorCode._FATAL


def test_purge_reports_what_waits_and_what_flies() -> None:
    """purge() ends both kinds with their own codes; a late answer changes nothing."""
    cluster, producer = make(**{"linger.ms": 0})
    put(cluster, producer, b"warm")
    cluster.run(1)
    cluster.freeze(1)
    put(cluster, producer, b"a")
    cluster.run(0.1)
    producer.produce("t", b"b", None, -1, 0, None, b"b", cluster.now_us)
    producer.purge(True, True, cluster.now_us)
    cluster.thaw(1)
    cluster.run(1)
    assert [report[:2] for report in reports(producer)][1:] == [
        (b"a", ErrorCode._PURGE_INFLIGHT),
        (b"b", ErrorCode._PURGE_QUEUE),
    ]
    assert producer.message_count == 0


def test_acks_0_reports_without_an_offset() -> None:
    """Nothing is awaited: success at once, offset unknown."""
    cluster, producer = make(acks=0)
    put(cluster, producer, b"a")
    cluster.run(1)
    assert reports(producer) == [(b"a", ErrorCode.NONE, -1001)]
    assert cluster.values("t") == [b"a"]


def test_headers_and_timestamps_travel() -> None:
    """Headers of some records make a column; timestamp 0 is now."""
    cluster, producer = make()
    put(cluster, producer, b"warm")
    cluster.run(1)
    put(cluster, producer, b"a", timestamp_ms=-5)
    put(cluster, producer, b"b", headers=(("h", b"1"),))
    cluster.run(1)
    columns = cluster.logs[T0][-1].columns
    assert columns.headers == [None, (("h", b"1"),)]
    assert columns.timestamps_ms == [-5, 1000]


def test_a_nothing_to_do_producer_is_quiet() -> None:
    """Between refreshes of metadata (every 5 minutes) an idle producer sends nothing."""
    cluster, producer = make()
    put(cluster, producer, b"a")
    cluster.run(5)
    before = len(cluster.requests)
    cluster.run(290)
    assert len(cluster.requests) == before
    cluster.run(20)
    assert len(cluster.requests) == before + 1


@pytest.mark.parametrize("seed", range(8))
def test_idempotent_exactly_once_under_faults(seed: int) -> None:
    """Whatever freezes, moves or gets lost: every record is in its log exactly once and in order, unless reported as failed."""
    source = random.Random(seed)
    cluster, producer = make(partitions=2, **{"enable.idempotence": True, "socket.timeout.ms": 800})
    expected: dict[int, list[bytes]] = {0: [], 1: []}
    for number in range(300):
        partition = source.randrange(2)
        value = b"%d" % number
        assert put(cluster, producer, value, partition=partition) == ErrorCode.NONE
        expected[partition].append(value)
        action = source.randrange(30)
        if action == 0:
            cluster.drop_produce_answers += 1
        elif action == 1:
            cluster.move_leader(TopicPartition("t", source.randrange(2)), 1 + source.randrange(3))
        elif action == 2:
            cluster.produce_errors += [ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND]
        elif action == 3:
            node = 1 + source.randrange(3)
            cluster.freeze(node)
            cluster.at(SECOND_US, lambda node=node: cluster.thaw(node))  # type: ignore[misc]
        cluster.run(source.random() / 20)
    cluster.run(60)
    assert all(report[1] == ErrorCode.NONE for report in reports(producer)), producer.fatal_text
    for partition, values in expected.items():
        assert cluster.values("t", partition) == values
