"""The recorder around the real client, against the broker that librdkafka can pretend to be inside a client."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import attrs
import confluent_kafka
import pytest

from kafkasim.check.foreign import check_foreign
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Assigned, Committed, Delivered, Revoked, Sought
from kafkasim.core.model.ids import TopicPartition
from kafkasim.real.cluster import RealCluster
from kafkasim.real.recording import RecordedClient


@pytest.fixture(scope="module")
def mock_address() -> Iterator[str]:
    """A broker of librdkafka's own, alive as long as this producer."""
    host = confluent_kafka.Producer({"bootstrap.servers": "ignored:1", "test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = host.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    del host


@pytest.fixture
def cluster(mock_address: str) -> Iterator[RealCluster]:
    """A handle on it; topics come to be when they are written to."""
    with RealCluster(mock_address, client_options={"log_level": 0}) as cluster:
        yield cluster


def fields(events: list[Any], *names: str) -> list[tuple[Any, ...]]:
    """Some fields of each event."""
    return [tuple(getattr(event, name) for name in names) for event in events]


def values_read(consumer: Any, count: int) -> list[bytes]:
    """Poll until so many records came."""
    values: list[bytes] = []
    for _ in range(200):
        if len(values) == count:
            return values
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            values.append(message.value())
    raise AssertionError(values)


def manual(cluster: RealCluster, group: str, **config: Any) -> Any:
    """A consumer that reads from the start and commits by hand."""
    return cluster.consumer(group, (), {"auto.offset.reset": "earliest", "enable.auto.commit": False}, **config)


def test_reports_are_recorded_whoever_listens(cluster: RealCluster) -> None:
    """A report is an event with and without a callback of the record's, of the producer's, or of a batch's."""
    topic = cluster.name("reports")
    heard: list[tuple[str, Any]] = []
    producer = cluster.producer(
        {"acks": 1, "on_delivery": lambda error, message: heard.append(("all", message.value()))}
    )

    def own(error: Any, message: Any) -> None:
        heard.append(("own", message.value()))

    producer.produce(topic, b"a", b"k", 0)
    producer.produce(topic, b"b", partition=0, on_delivery=own)
    producer.produce(topic, b"c", None, 0, own)
    producer.produce(topic, b"d", partition=0, callback=own)
    mine = {"value": b"e", "callback": own}
    assert producer.produce_batch(topic, [mine, {"value": b"f"}], 0) == 2
    assert mine["callback"] is own
    assert producer.flush(10) == 0
    assert heard == [("all", b"a"), ("own", b"b"), ("own", b"c"), ("own", b"d"), ("own", b"e"), ("all", b"f")]
    acked = cluster.history.of(Acked)
    assert [event.batch.columns.values for event in acked] == [[b"a"], [b"b"], [b"c"], [b"d"], [b"e"], [b"f"]]
    assert fields(acked, "base_offset") == [(0,), (1,), (2,), (3,), (4,), (5,)]
    assert set(fields(acked, "client", "acks", "idempotent", "error")) == {
        ("rdkafka#producer-1", 1, False, ErrorCode.NONE)
    }
    assert acked[0].batch.columns.keys == [b"k"]


def test_records_are_counted_as_the_client_takes_them(cluster: RealCluster) -> None:
    """One by one and in batches, from several threads; what it refuses is not counted, and no end is missing."""
    topic = cluster.name("counted")
    producer = cluster.producer({"max.in.flight.requests.per.connection": 3, "message.timeout.ms": 9_000})
    producer.produce(topic, b"0", partition=0)
    for wrong in ({"partition": "x"}, {"value": 5}, {"headers": 7}):
        with pytest.raises((TypeError, confluent_kafka.KafkaException)):
            producer.produce(topic, **wrong)
    same = {"value": b"twice"}
    batch = [{"value": b"1"}, {"value": b"2" * 2_000_000}, {"value": b"3"}, same, same]
    assert producer.produce_batch(topic, batch, 0) == 4
    assert ["_error" in each for each in batch] == [False, True, False, False, False]
    assert not any("callback" in each for each in batch)
    with pytest.raises(TypeError):
        producer.produce_batch(topic, [{"value": b"x"}, {"value": 5}])
    threads = [
        threading.Thread(target=lambda: [producer.produce(topic, b"t", partition=0) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert producer.flush(10) == 0
    acked = cluster.history.of(Acked)
    by_value = {event.batch.columns.values[0]: event for event in acked}
    assert [by_value[value].number for value in (b"0", b"1", b"3", b"twice")] == [1, 2, 3, -1]
    counted = [event for event in acked if event.number > 0]
    assert sorted(event.number for event in counted) == list(range(1, 204))
    counted.sort(key=lambda event: event.number)
    assert [event.base_offset for event in counted] == sorted(event.base_offset for event in counted)
    assert [event.sent_us for event in counted] == sorted(event.sent_us for event in counted)
    assert all(0 <= event.sent_us <= event.resolved_us == event.at_us for event in acked)
    assert set(fields(acked, "timeout_us", "in_flight")) == {(9_000_000, 3)}
    assert check_foreign(list(cluster.history)).ok


def test_what_a_real_producer_is_told_is_judged(cluster: RealCluster) -> None:
    """The recorded facts are enough for P4, P7 and P10: a history that breaks them is told so."""
    topic = cluster.name("judged")
    producer = cluster.producer({"enable.idempotence": True, "message.timeout.ms": 1_000})
    for value in (b"a", b"b", b"c"):
        producer.produce(topic, value, partition=0)
        assert producer.flush(10) == 0
    first, second, third = cluster.history.of(Acked)
    assert check_foreign([first, second, third]).ok
    swapped = [attrs.evolve(first, number=second.number), attrs.evolve(second, number=first.number)]
    assert [finding.id for finding in check_foreign(swapped).findings] == ["P4"]
    later = attrs.evolve(first, sent_us=second.at_us + 1, client="another")
    assert "P7" in [finding.id for finding in check_foreign([second, later]).findings]
    late = attrs.evolve(third, sent_us=second.sent_us + 10_000_000, resolved_us=second.sent_us + 10_000_000)
    assert [finding.id for finding in check_foreign([second, late]).findings] == ["P10"]


def test_which_callback_hears_of_a_record_is_the_clients_choice(cluster: RealCluster) -> None:
    """callback= goes before on_delivery=, and where it is None the producer's own hears."""
    heard: list[str] = []

    def named(name: str) -> Any:
        return lambda error, message: heard.append(name)

    for client in (cluster.recorded_client(), confluent_kafka):
        producer = client.Producer({"bootstrap.servers": cluster.bootstrap_servers, "on_delivery": named("all")})
        topic = cluster.name("choice")
        producer.produce(topic, b"a", None, 0, None, named("alias"))
        producer.produce(topic, b"b", partition=0, callback=None, on_delivery=named("alias"))
        producer.produce(topic, b"c", partition=0, callback=named("own"), on_delivery=named("alias"))
        producer.produce(topic, b"d", partition=0, on_delivery=None)
        producer.produce_batch(topic, [{"value": b"e", "callback": None}, {"value": b"f"}], 0, None, named("alias"))
        producer.produce_batch(topic, [{"value": b"g"}], 0, on_delivery=named("alias"))
        producer.flush(10)
        told, heard[:] = list(heard), []
        assert told == ["all", "all", "own", "all", "all", "all", "alias"]


def test_a_failed_report_keeps_its_code(cluster: RealCluster) -> None:
    """What was purged is recorded without an offset, under the client's own code."""
    producer = cluster.producer(linger_ms=10_000, enable_idempotence=True, client_id="mine")
    producer.produce("t", b"a", partition=0)
    producer.purge()
    producer.poll(1)
    (event,) = cluster.history.of(Acked)
    assert (event.error, event.base_offset, event.idempotent, event.acks) == (ErrorCode._PURGE_QUEUE, -1001, True, -1)
    assert event.client == "mine#producer-1"


def test_a_callback_may_raise(cluster: RealCluster) -> None:
    """The application's exception comes out of flush as ever, and the report has been recorded."""
    producer = cluster.producer()

    def fail(error: Any, message: Any) -> None:
        raise KeyError("mine")

    producer.produce(cluster.name("raises"), b"a", on_delivery=fail)
    with pytest.raises(KeyError, match="mine"):
        producer.flush(10)
    assert len(cluster.history.of(Acked)) == 1


def test_what_the_client_refuses_it_still_refuses(cluster: RealCluster) -> None:
    """Wrong arguments reach the client unchanged."""
    client = cluster.recorded_client()
    address = {"bootstrap.servers": cluster.bootstrap_servers}
    for wrong in ({"on_delivery": 5}, {"no.such": 1}):
        with pytest.raises((TypeError, ValueError, confluent_kafka.KafkaException)):
            client.Producer({**address, **wrong})
    with pytest.raises(TypeError):
        client.Producer(5)
    with pytest.raises(TypeError):
        cluster.producer().produce()
    consumer = cluster.consumer("g")
    with pytest.raises(TypeError):
        consumer.subscribe(["t"], on_assign=5)
    with pytest.raises(TypeError):
        consumer.subscribe("t")


def test_deliveries_seeks_and_commits(cluster: RealCluster) -> None:
    """poll and consume, seek, and both ways to commit leave their events in order."""
    topic = cluster.name("read")
    producer = cluster.producer()
    for value in (b"a", b"b"):
        producer.produce(topic, value, partition=2)
    producer.flush(10)
    ends: list[Any] = []
    consumer = manual(cluster, cluster.name("g"), on_commit=lambda error, partitions: ends.append(partitions))
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    consumer.assign([confluent_kafka.TopicPartition(topic, 2, 0)])
    assert values_read(consumer, 2) == [b"a", b"b"]
    consumer.seek(confluent_kafka.TopicPartition(topic, 2, 1))
    assert [message.value() for message in consumer.consume(1, timeout=10)] == [b"b"]
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 2, 2)], asynchronous=False)
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 2, 1)])
    for _ in range(100):
        if not ends:
            consumer.poll(0.1)
    tp = TopicPartition(topic, 2)
    events = [event for event in cluster.history if not isinstance(event, Acked)]
    kinds = [type(event) for event in events]
    assert kinds == [Assigned, Revoked, Assigned, Delivered, Delivered, Sought, Delivered, Committed, Committed]
    assert fields(cluster.history.of(Sought), "tp", "offset") == [(tp, 1)]
    assert fields(cluster.history.of(Committed), "offsets") == [
        (((tp, 2, ErrorCode.NONE),),),
        (((tp, 1, ErrorCode.NONE),),),
    ]
    assert len(ends) == 1
    assert set(fields(cluster.history.of(Delivered), "client", "tp")) == {("rdkafka#consumer-1", tp)}


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "listens"), [("range", True), ("cooperative-sticky", True), ("range", False)])
def test_ownership_of_a_group(cluster: RealCluster, strategy: str, listens: bool) -> None:
    """Assigned and Revoked are told once, with and without the application's callbacks, under both protocols."""
    topic = cluster.name("own")
    cluster.produce(topic, [b"a"])
    calls: list[str] = []
    consumer = manual(cluster, cluster.name("g"), **{"partition.assignment.strategy": strategy})
    callbacks: dict[str, Any] = {}
    if listens:

        def on_assign(given: Any, partitions: Any) -> None:
            assert given is consumer
            calls.append("assign")
            (given.assign if strategy == "range" else given.incremental_assign)(partitions)

        def on_revoke(given: Any, partitions: Any) -> None:
            calls.append("revoke")

        callbacks = {"on_assign": on_assign, "on_revoke": on_revoke}
    consumer.subscribe([topic], **callbacks)
    values_read(consumer, 1)
    owned = tuple(TopicPartition(each.topic, each.partition) for each in consumer.assignment())
    consumer.close()
    told = cluster.history.of(Assigned, Revoked)
    assert [type(event) for event in told] == [Assigned, Revoked]
    assert [sorted(event.partitions) for event in told] == [sorted(owned)] * 2
    assert told[1].lost is False
    assert calls == (["assign", "revoke"] if listens else [])


def test_a_dropped_client_goes_at_once(cluster: RealCluster) -> None:
    """No cycle keeps it: the recorder does not hold the client."""
    gc.collect()
    gc.disable()
    try:
        producer = cluster.producer()
        gone = weakref.ref(producer)
        del producer
        assert gone() is None
    finally:
        gc.enable()


def test_a_forked_task_writes_to_the_same_history(cluster: RealCluster) -> None:
    """Its events survive it; what the parent recorded meanwhile is in its place in time."""
    topic = cluster.name("forked")
    cluster.produce(topic, [b"before"])

    def produce_and_die() -> None:
        producer = cluster.recorded_client().Producer({"bootstrap.servers": cluster.bootstrap_servers})
        producer.produce(topic, b"within")
        producer.flush(10)
        raise RuntimeError("mine")

    task = cluster.spawn(produce_and_die, process=True)
    cluster.run_until(lambda: task.done, timeout=20)
    cluster.produce(topic, [b"after"])
    for _ in range(2):  # Nothing is taken in twice.
        assert [event.batch.columns.values[0] for event in cluster.history.of(Acked)] == [
            b"before",
            b"within",
            b"after",
        ]
    assert isinstance(task.exception, RuntimeError)


def test_the_module_is_the_installed_one_but_for_two_classes(cluster: RealCluster) -> None:
    """Names come from the installed client; its classes are bases of the recording ones."""
    client = cluster.recorded_client()
    assert isinstance(client, RecordedClient)
    assert client.KafkaError is confluent_kafka.KafkaError
    assert issubclass(client.Producer, confluent_kafka.Producer)
    assert issubclass(client.Consumer, confluent_kafka.Consumer)
    assert set(dir(confluent_kafka)) <= set(dir(client))
    with pytest.raises(AttributeError):
        _ = client.no_such_name
