"""Timestamps and headers, there and back."""

from __future__ import annotations

import time

import pytest


def _round_trip(kit, topic=None, **arguments):
    topic = topic or kit.topic()
    error, _ = kit.send(topic, **arguments)
    assert error is None
    return kit.read(kit.assigned(topic), 1)[0]


def test_a_given_timestamp_is_kept(kit):
    """CreateTime is the default: the record keeps what the producer said."""
    message = _round_trip(kit, timestamp=1_234_567)
    assert message.timestamp() == (kit.ck.TIMESTAMP_CREATE_TIME, 1_234_567)


@pytest.mark.parametrize("arguments", [{}, {"timestamp": 0}])
def test_without_a_timestamp_it_is_now(kit, arguments):
    """No timestamp, and 0 too, mean the moment of produce()."""
    before = int(time.time() * 1000)
    kind, timestamp = _round_trip(kit, **arguments).timestamp()
    assert kind == kit.ck.TIMESTAMP_CREATE_TIME
    assert before - 10 <= timestamp <= int(time.time() * 1000) + 10


def test_a_negative_timestamp_is_kept(kit):
    """Surprise: a negative timestamp passes client and broker and comes back in the report unchanged."""
    _, message = kit.send(kit.topic(), timestamp=-5)
    assert message.timestamp() == (kit.ck.TIMESTAMP_CREATE_TIME, -5)


def test_a_timestamp_far_ahead_is_refused(kit):
    """More than message.timestamp.after.max.ms (one hour) ahead of the broker: INVALID_TIMESTAMP, not retried."""
    error, message = kit.send(kit.topic(), timestamp=int(time.time() * 1000) + 2 * 3_600_000)
    kit.is_error(error, "INVALID_TIMESTAMP", "Broker: Invalid timestamp")
    assert message.offset() is None


def test_a_topic_may_allow_timestamps_ahead(kit):
    """message.timestamp.after.max.ms of the topic widens what is accepted."""
    ahead = int(time.time() * 1000) + 2 * 3_600_000
    topic = kit.topic(message_timestamp_after_max_ms=3 * 3_600_000)
    assert _round_trip(kit, topic, timestamp=ahead).timestamp()[1] == ahead


def test_a_topic_may_refuse_old_timestamps(kit):
    """message.timestamp.before.max.ms of the topic refuses what is too old."""
    topic = kit.topic(message_timestamp_before_max_ms=1000)
    error, _ = kit.send(topic, timestamp=int(time.time() * 1000) - 60_000)
    kit.is_error(error, "INVALID_TIMESTAMP")


def test_log_append_time_is_the_brokers(kit):
    """With message.timestamp.type=LogAppendTime the producer's timestamp is replaced, and the type says so."""
    topic = kit.topic(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    kind, timestamp = _round_trip(kit, topic, timestamp=1000).timestamp()
    assert kind == kit.ck.TIMESTAMP_LOG_APPEND_TIME
    assert before - 10 <= timestamp <= int(time.time() * 1000) + 10


def test_a_report_under_log_append_time(kit):
    """The report then carries the broker's time and its type too."""
    topic = kit.topic(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    _, message = kit.send(topic, timestamp=1000)
    kind, timestamp = message.timestamp()
    assert kind == kit.ck.TIMESTAMP_LOG_APPEND_TIME
    assert timestamp >= before - 10


def test_records_of_one_batch_share_the_append_time(kit):
    """LogAppendTime is a batch's, so its records have the same."""
    topic = kit.topic(message_timestamp_type="LogAppendTime")
    producer = kit.producer(linger_ms=200)
    for _ in range(3):
        producer.produce(topic, b"x")
    producer.flush(20)
    assert len({m.timestamp() for m in kit.read(kit.assigned(topic), 3)}) == 1


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([("a", b"1"), ("b", b"2")], [("a", b"1"), ("b", b"2")]),
        ([("a", b"1"), ("a", b"2"), ("a", b"1")], [("a", b"1"), ("a", b"2"), ("a", b"1")]),
        ([("a", "text")], [("a", b"text")]),
        ([("a", None), ("b", b"")], [("a", None), ("b", b"")]),
        ({"x": "1", "y": b"2", "z": None}, [("x", b"1"), ("y", b"2"), ("z", None)]),
        ([("schlüssel", "wert ü")], [("schlüssel", "wert ü".encode())]),
        ([(1, "x")], [("1", b"x")]),
        ([("bytes", b"\x00\xff")], [("bytes", b"\x00\xff")]),
    ],
    ids=["order", "repeated", "text", "none-and-empty", "dict", "unicode", "int-key", "binary"],
)
def test_headers_come_back_in_order_as_bytes(kit, given, read):
    """Headers keep their order and repetitions; names are text, values bytes or None; an int name becomes text."""
    assert _round_trip(kit, headers=given).headers() == read


@pytest.mark.parametrize("given", [None, [], {}])
def test_no_headers_are_none(kit, given):
    """A record without headers answers None, not an empty list."""
    arguments = {} if given is None else {"headers": given}
    assert _round_trip(kit, **arguments).headers() is None


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (5, "expected headers to be dict or list of"),
        ([("a",)], "Headers are expected to be a list of"),
        ([("a", 1)], "expected header value to be None, binary, or unicode string, not int"),
        ({"a": 1.5}, "expected header value to be None, binary, or unicode string, not float"),
    ],
)
def test_wrong_headers_raise_at_once(kit, headers, text):
    """What is no header raises TypeError in produce(), before anything is queued."""
    producer = kit.producer()
    with pytest.raises(TypeError, match=text):
        producer.produce(kit.name("never"), b"x", headers=headers)
    assert len(producer) == 0
