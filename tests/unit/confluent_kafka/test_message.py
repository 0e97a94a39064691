"""Messages that are still in their batch."""

from __future__ import annotations

import copy
import pickle

from kafkasim.confluent_kafka.cimpl import KafkaError, Message
from kafkasim.confluent_kafka.message import BatchMessage, BatchSource, DeliveredMessage, messages_of
from kafkasim.core.model.records import LOG_APPEND_TIME, batch_of


def source(**more: object) -> BatchSource:
    """A batch of two records at offset 100 of partition 3 of "calls"."""
    batch = batch_of(
        [b"one", None], keys=[None, b"k"], timestamp_ms=7, headers=[(("a", b"b"), ("c", None)), None]
    ).placed(100, 5)
    return BatchSource("calls", 3, batch, **more)  # type: ignore[arg-type]


def test_fields_are_looked_up_in_the_batch() -> None:
    """Every accessor of a consumed message says what the batch holds."""
    one, two = messages_of(source(), range(2))
    assert (one.topic(), one.partition(), one.offset(), one.leader_epoch()) == ("calls", 3, 100, 5)
    assert (one.key(), one.value(), len(one), one.timestamp()) == (None, b"one", 3, (1, 7))
    assert one.headers() == [("a", b"b"), ("c", None)]
    assert (two.key(), two.value(), len(two), two.headers(), two.offset()) == (b"k", None, 0, None, 101)
    assert (one.error(), one.latency(), one.delivery_count()) == (None, None, None)


def test_log_append_time_is_the_time_of_the_batch() -> None:
    """With LogAppendTime every record has the batch's time."""
    found = source()
    found.batch.timestamp_type = LOG_APPEND_TIME
    found.batch.max_timestamp_ms = 9
    assert messages_of(found, range(1))[0].timestamp() == (2, 9)


def test_offsets_of_a_compacted_batch() -> None:
    """A batch with gaps gives each record its own offset."""
    found = source()
    found.batch.offsets = [100, 104]
    assert [message.offset() for message in messages_of(found, range(2))] == [100, 104]


def test_setting_a_field_settles_the_message() -> None:
    """After a set the message is an ordinary one: its other fields stay, its neighbours do not change."""
    one, two = messages_of(source(), range(2))
    one.set_value({"parsed": 1})
    assert type(one) is Message
    assert (one.value(), one.offset(), one.topic(), one.timestamp()) == ({"parsed": 1}, 100, "calls", (1, 7))
    two.set_key("text")
    two.set_headers([("x", b"y")])
    two.set_error(KafkaError(3))
    two.set_topic("other")
    assert (two.key(), two.headers(), two.error(), two.topic()) == ("text", [("x", b"y")], 3, "other")
    assert source().batch.columns.values[0] == b"one"


def test_it_passes_for_a_message() -> None:
    """isinstance, __class__, name, equality, copies and pickles are those of a Message."""
    one = messages_of(source(), range(1))[0]
    same = Message("calls", 3, 100, None, b"one", [("a", b"b"), ("c", None)], None, (1, 7), leader_epoch=5)
    assert isinstance(one, Message)
    assert one.__class__ is Message
    assert type(one).__name__ == "Message"
    assert one == same
    assert copy.copy(one) == same
    assert pickle.loads(pickle.dumps(one)) == same


def test_delivered_message_has_offset_and_latency_but_no_headers() -> None:
    """What the client tells a delivery callback about a record."""
    delivered = DeliveredMessage(source(base_offset=40, reported_ms=257.0), 1)
    assert (delivered.offset(), delivered.latency(), delivered.headers()) == (41, 0.25, None)
    assert (delivered.key(), delivered.leader_epoch(), delivered.timestamp()) == (b"k", None, (1, 7))
    stamped = DeliveredMessage(source(base_offset=40, append_time_ms=9), 0)
    assert (stamped.timestamp(), stamped.latency()) == ((2, 9), None)


def test_failed_delivery_has_an_error_and_no_offset() -> None:
    """An undelivered record has no place in the log."""
    error = KafkaError(KafkaError._MSG_TIMED_OUT)
    failed = DeliveredMessage(source(base_offset=-1001, error=error), 0)
    assert (failed.error(), failed.offset(), failed.latency(), failed.value()) == (error, None, None, b"one")


def test_messages_are_made_lazily() -> None:
    """Nothing but the batch and the place in it is stored."""
    made = messages_of(source(), range(1))[0]
    assert isinstance(made, BatchMessage)
    assert made._offset == 0
