"""Delivery reports: when they come, in which order, what they hold, and what a callback may do."""

from __future__ import annotations

import pytest
from tests.conformance.kit import UNREACHABLE


def test_a_report_describes_the_record(kit):
    """A good report: error None, and a message with everything but its headers."""
    topic = kit.topic()
    error, message = kit.send(topic, b"v", key=b"k", headers={"h": "1"}, timestamp=1_700_000_000_000)
    assert error is None
    assert message.error() is None
    assert (message.topic(), message.partition(), message.offset()) == (topic, 0, 0)
    assert (message.key(), message.value()) == (b"k", b"v")
    assert message.timestamp() == (kit.ck.TIMESTAMP_CREATE_TIME, 1_700_000_000_000)


def test_a_report_has_no_headers(kit):
    """The report's message answers None for headers although the record has some."""
    _, message = kit.send(kit.topic(), headers={"h": "1"})
    assert message.headers() is None


def test_a_report_has_a_latency(kit):
    """latency() is the seconds from produce() to the acknowledgement."""
    _, message = kit.send(kit.topic())
    assert 0 < message.latency() < 20


def test_a_message_is_as_long_as_its_value(kit):
    """len(message) is the value's length, so a message without a value is false."""
    topic = kit.topic()
    assert len(kit.send(topic, b"four")[1]) == 4
    empty = kit.send(topic, None)[1]
    assert len(empty) == 0
    assert not empty


@pytest.mark.parametrize("keyword", ["callback", "on_delivery"])
def test_both_names_of_the_callback_work(kit, keyword):
    """produce(callback=) and produce(on_delivery=) mean the same."""
    topic = kit.topic()
    producer = kit.producer()
    reports = []
    producer.produce(topic, b"x", **{keyword: lambda error, message: reports.append(error)})
    assert producer.flush(20) == 0
    assert reports == [None]


def test_the_configured_callback_serves_what_has_no_own(kit):
    """on_delivery in the config is used for records without a callback, and only for those."""
    topic = kit.topic()
    common, own = [], []
    producer = kit.producer(on_delivery=lambda error, message: common.append(message.value()))
    producer.produce(topic, b"common")
    producer.produce(topic, b"own", on_delivery=lambda error, message: own.append(message.value()))
    assert producer.flush(20) == 0
    assert (common, own) == ([b"common"], [b"own"])


def test_callbacks_run_only_inside_poll_and_flush(kit):
    """A report waits until the application asks for it."""
    topic = kit.topic()
    producer = kit.producer()
    reports = []
    producer.produce(topic, b"x", on_delivery=lambda error, message: reports.append(error))
    kit.cluster.run_for(0.5)
    assert reports == []
    kit.wait(lambda: producer.poll(0.1) or reports)
    assert reports == [None]


def test_poll_counts_batches_of_reports_not_reports(kit):
    """poll() returns how many events it served, and one event holds the reports of a whole batch."""
    topic = kit.topic()
    producer = kit.producer(linger_ms=50)
    reports = []
    for _ in range(5):
        producer.produce(topic, b"x", on_delivery=lambda error, message: reports.append(error))
    assert producer.poll(20) == 1
    assert len(reports) == 5
    assert producer.poll(0) == 0


def test_reports_of_one_partition_come_in_order(kit):
    """Callbacks of one partition run in the order of produce()."""
    topic = kit.topic()
    producer = kit.producer()
    order = []
    for index in range(50):
        producer.produce(topic, b"%d" % index, on_delivery=lambda error, message: order.append(message.offset()))
    assert producer.flush(20) == 0
    assert order == list(range(50))


def test_a_callback_may_produce(kit):
    """What a callback produces is sent too, and flush waits for it."""
    topic = kit.topic()
    producer = kit.producer()
    seen = []

    def again(error, message):
        seen.append(message.value())
        if message.value() == b"first":
            producer.produce(topic, b"second", on_delivery=again)

    producer.produce(topic, b"first", on_delivery=again)
    assert producer.flush(20) == 0
    assert seen == [b"first", b"second"]


def test_an_exception_in_a_callback_leaves_flush_and_spares_the_other_callbacks(kit):
    """All callbacks of one round run; then flush raises, and of several exceptions it is the last."""
    topic = kit.topic()
    producer = kit.producer(linger_ms=200)
    seen = []

    def fail(error, message):
        seen.append(message.value())
        raise ValueError(message.value().decode())

    for index in range(3):
        producer.produce(topic, b"%d" % index, on_delivery=fail)
    with pytest.raises(ValueError, match="2"):
        producer.flush(20)
    assert seen == [b"0", b"1", b"2"]
    assert producer.flush(20) == 0


def test_an_unreachable_cluster_times_the_record_out(kit):
    """message.timeout.ms passes without a broker: the report says _MSG_TIMED_OUT."""
    producer = kit.ck.Producer({"bootstrap.servers": UNREACHABLE, "message.timeout.ms": 400, "linger.ms": 5})
    reports = []
    producer.produce("anything", b"x", on_delivery=lambda error, message: reports.append((error, message)))
    assert producer.flush(10) == 0
    error, message = reports[0]
    kit.is_error(error, "_MSG_TIMED_OUT", "Local: Message timed out")
    assert message.offset() is None
    assert message.error().code() == error.code()
    assert message.value() == b"x"


def test_flush_with_a_timeout_returns_what_is_left(kit):
    """flush(timeout) gives up and returns the number of records without a report."""
    producer = kit.ck.Producer({"bootstrap.servers": UNREACHABLE})
    for _ in range(3):
        producer.produce("anything", b"x")
    assert producer.flush(0.2) == 3
    producer.purge()
    assert producer.flush(5) == 0


def test_purge_reports_what_was_queued(kit):
    """purge() drops queued records; their reports say _PURGE_QUEUE and come with the next poll."""
    producer = kit.ck.Producer({"bootstrap.servers": UNREACHABLE})
    errors = []
    for _ in range(3):
        producer.produce("anything", b"x", on_delivery=lambda error, message: errors.append(error))
    assert producer.purge() is None
    assert errors == []
    assert producer.flush(5) == 0
    assert len(errors) == 3
    for error in errors:
        kit.is_error(error, "_PURGE_QUEUE", "Local: Purged in queue")
    assert len(producer) == 0


def test_a_full_queue_refuses_by_count(kit):
    """queue.buffering.max.messages bounds what may wait: BufferError, and poll/purge makes room."""
    producer = kit.ck.Producer({"bootstrap.servers": UNREACHABLE, "queue.buffering.max.messages": 2})
    producer.produce("anything", b"1")
    producer.produce("anything", b"2")
    with pytest.raises(BufferError, match="Local: Queue full"):
        producer.produce("anything", b"3")
    producer.purge()
    producer.flush(5)
    producer.produce("anything", b"4")
    producer.purge()
    producer.flush(5)


def test_a_full_queue_refuses_by_size(kit):
    """queue.buffering.max.kbytes bounds the bytes that may wait, the first record's too."""
    producer = kit.ck.Producer({"bootstrap.servers": UNREACHABLE, "queue.buffering.max.kbytes": 1})
    with pytest.raises(BufferError, match="Local: Queue full"):
        producer.produce("anything", b"x" * 2000)


def test_close_flushes_and_may_be_repeated(kit):
    """close() sends what is queued, serves its report and returns True; again, too."""
    topic = kit.topic()
    producer = kit.producer(linger_ms=1000)
    reports = []
    producer.produce(topic, b"x", on_delivery=lambda error, message: reports.append(error))
    assert producer.close() is True
    assert reports == [None]
    assert producer.close() is True
    assert len(producer) == 0
