"""Where reading starts without a usable offset, and the end-of-partition event."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("policy", "first"),
    [("earliest", 0), ("smallest", 0), ("beginning", 0), ("latest", 3), ("largest", 3), ("end", 3)],
)
@pytest.mark.parametrize("start", ["none", "beyond"])
def test_reset_policies(kit, policy, first, start):
    """Without a committed offset, or with one that the log does not hold, auto.offset.reset decides."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.assigned(
        topic, 0, None if start == "none" else 99, auto_offset_reset=policy, enable_partition_eof=True
    )
    if first == 3:
        event = kit.event(consumer)
        kit.is_error(event.error(), "_PARTITION_EOF")
        assert event.offset() == 3
        kit.fill(topic, 1, start=3)
    assert kit.read(consumer, 1)[0].offset() == first


def test_the_default_policy_is_latest(kit):
    """A consumer that says nothing about resets starts at the end."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.ck.Consumer(
        kit.config({"group.id": kit.group(), "enable.partition.eof": True, "fetch.wait.max.ms": 100})
    )
    try:
        consumer.assign([kit.at(topic)])
        event = kit.event(consumer)
        kit.is_error(event.error(), "_PARTITION_EOF")
        assert event.offset() == 3
    finally:
        consumer.close()


def test_reset_error_without_a_committed_offset(kit):
    """auto.offset.reset=error: one event _AUTO_OFFSET_RESET, without an offset, and then nothing."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.assigned(topic, auto_offset_reset="error")
    event = kit.event(consumer)
    kit.is_error(
        event.error(), "_AUTO_OFFSET_RESET", "no previously committed offset available: Local: No offset stored"
    )
    assert (event.topic(), event.partition(), event.offset()) == (topic, 0, None)
    assert kit.poll_for(0.4, consumer) == []


def test_reset_error_out_of_range(kit):
    """The same for an offset beyond the end: the event names the offset and the broker's reason."""
    topic = kit.topic()
    kit.fill(topic, 3)
    event = kit.event(kit.assigned(topic, 0, 99, auto_offset_reset="error"))
    kit.is_error(
        event.error(),
        "_AUTO_OFFSET_RESET",
        "fetch failed due to requested offset not available on the broker: Broker: Offset out of range",
    )
    assert (event.topic(), event.partition(), event.offset()) == (topic, 0, 99)
    assert not event.error().fatal()
    assert not event.error().retriable()


def test_only_a_new_assign_recovers_from_a_reset_error(kit):
    """Surprise: the error event stops the partition's fetcher, so seek() is refused; assign() starts it again."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.assigned(topic, 0, 99, auto_offset_reset="error")
    kit.event(consumer)
    with kit.fails("_STATE", "Failed to seek to offset 1: Local: Erroneous state"):
        consumer.seek(kit.at(topic, 0, 1))
    consumer.assign([kit.at(topic, 0, 1)])
    assert kit.read(consumer, 1)[0].offset() == 1


def test_a_position_below_the_log_start_is_out_of_range(kit):
    """Records deleted below a reader's position reset it as well."""
    topic = kit.topic()
    kit.fill(topic, 5)
    kit.result(kit.admin().delete_records([kit.at(topic, 0, 3)]))
    assert kit.read(kit.assigned(topic, 0, 1), 1)[0].offset() == 3


def test_eof_is_off_by_default(kit):
    """Without enable.partition.eof the end of a partition is silence."""
    topic = kit.topic()
    kit.fill(topic, 1)
    consumer = kit.assigned(topic)
    kit.read(consumer, 1)
    assert kit.poll_for(0.5, consumer) == []


def test_eof_is_a_message_with_an_error(kit):
    """The event: error _PARTITION_EOF, the offset that comes next, the partition; its value is the error's text."""
    topic = kit.topic()
    kit.fill(topic, 2)
    consumer = kit.assigned(topic, enable_partition_eof=True)
    kit.read(consumer, 2)
    event = kit.event(consumer)
    kit.is_error(event.error(), "_PARTITION_EOF", "reached end of partition at offset 2 (HighwaterMark 2)")
    assert event.error() == kit.ck.KafkaError._PARTITION_EOF
    assert (event.topic(), event.partition(), event.offset()) == (topic, 0, 2)
    assert event.key() is None
    assert event.value() == event.error().str().encode()


def test_eof_comes_once_for_each_arrival_at_the_end(kit):
    """One event when the end is reached; the next only after more records were read."""
    topic = kit.topic()
    kit.fill(topic, 1)
    consumer = kit.assigned(topic, enable_partition_eof=True)
    kit.read(consumer, 1)
    assert kit.event(consumer).offset() == 1
    assert kit.poll_for(0.5, consumer) == []
    kit.fill(topic, 1, start=1)
    kit.read(consumer, 1)
    assert kit.event(consumer).offset() == 2


def test_each_partition_has_its_own_eof(kit):
    """Empty partitions reach their end at once, each with its own event."""
    topic = kit.topic(partitions=3)
    consumer = kit.consumer(enable_partition_eof=True)
    consumer.assign([kit.at(topic, p, 0) for p in range(3)])
    events = [kit.event(consumer) for _ in range(3)]
    assert sorted((event.partition(), event.offset()) for event in events) == [(0, 0), (1, 0), (2, 0)]


def test_eof_again_after_a_seek(kit):
    """A seek back makes the end new: it is announced again."""
    topic = kit.topic()
    kit.fill(topic, 1)
    consumer = kit.assigned(topic, enable_partition_eof=True)
    kit.read(consumer, 1)
    kit.event(consumer)
    consumer.seek(kit.at(topic, 0, 0))
    kit.read(consumer, 1)
    kit.is_error(kit.event(consumer).error(), "_PARTITION_EOF")
