"""Callbacks that raise, and what else runs inside the calls that serve them."""

from __future__ import annotations

import contextlib
import json

import pytest

UNREACHABLE = "127.0.0.1:1"


class Boom(Exception):
    """What the callbacks raise."""


def _raiser(seen, label="told"):
    def fail(*arguments):
        seen.append(arguments)
        raise Boom(f"{label} {len(seen)}")

    return fail


def _members(kit, consumer):
    kit.wait(lambda: consumer.assignment(), consumer)


# --- Delivery reports ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0.1, 5.0])
def test_poll_raises_at_the_first_callback_that_does(kit, timeout):
    """poll() ends there; the other reports of the batch come with the next poll."""
    topic = kit.topic()
    seen = []
    producer = kit.producer(linger_ms=50)
    kit.send(topic, producer=producer)
    for _ in range(3):
        producer.produce(topic, b"v", on_delivery=_raiser(seen))
    with pytest.raises(Boom, match="told 1"):
        kit.wait(lambda: producer.poll(timeout) and False)
    assert len(seen) == 1
    assert len(producer) >= 2
    with pytest.raises(Boom, match="told 2"):
        producer.poll(timeout)
    with pytest.raises(Boom, match="told 3"):
        producer.flush(20)
    assert len(producer) == 0


def test_a_short_flush_raises_at_the_first_callback_that_does(kit):
    """Below 0.2 s a flush is not repeated."""
    topic = kit.topic()
    seen = []
    producer = kit.producer()
    kit.send(topic, producer=producer)
    for _ in range(3):
        producer.produce(topic, b"v", on_delivery=_raiser(seen))
    with pytest.raises(Boom, match="told 1"):
        kit.wait(lambda: producer.flush(0.15) and False)
    assert len(seen) == 1
    with pytest.raises(Boom, match="told 3"):
        producer.flush(20)


def test_every_callback_that_raises_costs_a_flush_a_fifth_of_a_second(kit):
    """flush() goes on in chunks of 0.2 s, and an exception uses one up: 5 of 8 callbacks run within one second."""
    topic = kit.topic()
    seen = []
    producer = kit.producer(linger_ms=5)
    kit.send(topic, producer=producer)
    for _ in range(8):
        producer.produce(topic, b"v", on_delivery=_raiser(seen))
    kit.cluster.run_for(0.5)
    with pytest.raises(Boom, match="told 5"):
        producer.flush(1.0)
    with pytest.raises(Boom, match="told 8"):
        producer.flush(20)


def test_close_ends_at_the_first_report_that_raises(kit):
    """close() raises it and closes all the same: what was not reported by then never is."""
    topic = kit.topic()
    seen = []
    producer = kit.producer()
    for _ in range(2):
        producer.produce(topic, b"v", on_delivery=_raiser(seen))
    with pytest.raises(Boom):
        producer.close()
    assert len(seen) == 1
    with pytest.raises(RuntimeError, match="Producer has been closed"):
        producer.poll(0)


def test_close_drops_what_is_undelivered_when_a_report_raises(kit):
    """A later record is lost with it."""
    topic = kit.topic(partitions=2)
    producer = kit.producer(linger_ms=20, queue_buffering_max_messages=100)
    producer.produce(topic, b"seen", partition=0, on_delivery=_raiser([]))
    kit.cluster.run_for(1.0)
    producer.produce(topic, b"lost", partition=1)
    with pytest.raises(Boom):
        producer.close()
    kit.cluster.run_for(1.0)
    low_high = [kit.consumer().get_watermark_offsets(kit.at(topic, p), timeout=10) for p in (0, 1)]
    assert low_high == [(0, 1), (0, 0)]


def test_a_with_block_hides_what_a_report_raised_behind_a_system_error(kit):
    """Leaving the block closes the producer, but the binding does not look how that went; the interpreter does."""
    topic = kit.topic()
    seen = []
    with (
        pytest.raises(SystemError, match="returned a result with an exception set") as caught,
        kit.producer() as producer,
    ):
        producer.produce(topic, b"v", on_delivery=_raiser(seen))
    assert isinstance(caught.value.__cause__, Boom)
    assert len(seen) == 1


def test_a_keyboard_interrupt_of_a_callback_leaves_flush(kit):
    """Not only ordinary exceptions do."""
    topic = kit.topic()
    producer = kit.producer()

    def interrupt(error, message):
        raise KeyboardInterrupt

    producer.produce(topic, b"v", on_delivery=interrupt)
    with pytest.raises(KeyboardInterrupt):
        producer.flush(20)
    assert producer.flush(20) == 0


# --- Events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["poll", "flush"])
def test_error_cb_of_a_producer_that_raises(kit, call):
    """poll() and flush() raise what error_cb raised."""
    seen = []
    producer = kit.ck.Producer({"bootstrap.servers": UNREACHABLE, "error_cb": _raiser(seen)})
    producer.produce("t", b"v")
    with pytest.raises(Boom):
        kit.wait(lambda: getattr(producer, call)(0.5) and False, timeout=10)
    assert seen
    producer.purge()
    with contextlib.suppress(Boom):
        producer.flush(1)


@pytest.mark.parametrize("call", ["poll", "consume"])
def test_error_cb_of_a_consumer_that_raises(kit, call):
    """poll() and consume() raise what error_cb raised."""
    seen = []
    consumer = kit.ck.Consumer({"bootstrap.servers": UNREACHABLE, "group.id": "g", "error_cb": _raiser(seen)})
    arguments = {"timeout": 0.5} if call == "poll" else {"num_messages": 5, "timeout": 0.5}
    with pytest.raises(Boom):
        kit.wait(lambda: getattr(consumer, call)(**arguments) and False, timeout=10)
    assert seen
    with contextlib.suppress(Boom):
        consumer.close()
    with pytest.raises(RuntimeError, match="Consumer closed"):
        consumer.poll(0)


@pytest.mark.parametrize("client", ["producer", "consumer"])
def test_stats_cb_is_given_json(kit, client):
    """Every statistics.interval.ms, in poll()."""
    seen = []
    made = getattr(kit, client)(statistics_interval_ms=100, stats_cb=seen.append)
    kit.wait(lambda: (made.poll(0.05) and False) or len(seen) >= 2)
    figures = json.loads(seen[0])
    assert figures["type"] == client


@pytest.mark.parametrize("client", ["producer", "consumer"])
def test_stats_cb_that_raises(kit, client):
    """A short poll() raises it."""
    seen = []
    made = getattr(kit, client)(statistics_interval_ms=100, stats_cb=_raiser(seen))
    with pytest.raises(Boom, match="told 1"):
        kit.wait(lambda: made.poll(0.19) and False)
    if client == "consumer":
        with contextlib.suppress(Boom):
            made.close()


# --- Rebalances ------------------------------------------------------------------------------------------------------


def test_the_assignment_stands_after_on_assign_raised(kit):
    """The client answers the rebalance in the callback's place."""
    topic = kit.topic()
    kit.fill(topic, 2)
    seen = []
    consumer = kit.consumer()
    consumer.subscribe([topic], on_assign=_raiser(seen))
    with pytest.raises(Boom, match="told 1"):
        kit.wait(lambda: False, consumer, timeout=20)
    assert kit.partitions(consumer) == [0]
    assert kit.values(kit.read(consumer, 2)) == [b"v0", b"v1"]
    assert len(seen) == 1


def test_a_long_poll_drops_its_message_when_a_callback_raised(kit):
    """From 0.2 s on poll() does not end with the callback that raises, but with a message, which is lost."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.consumer()
    consumer.subscribe([topic], on_assign=_raiser([]))
    with pytest.raises(Boom, match="told 1"):
        consumer.poll(20)
    assert kit.values(kit.read(consumer, 2)) == [b"v1", b"v2"]


def test_every_callback_that_raises_costs_a_poll_a_fifth_of_a_second(kit):
    """poll(1.0) has five chunks of 0.2 s, and an exception uses one up."""
    seen = []
    consumer = kit.consumer(statistics_interval_ms=100, stats_cb=_raiser(seen))
    start = kit.cluster.now
    with pytest.raises(Boom, match="told 5"):
        consumer.poll(1.0)
    assert 0.4 <= kit.cluster.now - start < 0.8
    with contextlib.suppress(Boom):
        consumer.close()


def test_on_assign_that_raises_in_consume(kit):
    """consume() raises it."""
    topic = kit.topic()
    kit.fill(topic, 2)
    seen = []
    consumer = kit.consumer()
    consumer.subscribe([topic], on_assign=_raiser(seen))
    with pytest.raises(Boom, match="told 1"):
        kit.wait(lambda: consumer.consume(2, 1.0) and False, timeout=20)
    assert kit.partitions(consumer) == [0]


def test_on_revoke_that_raises_in_close(kit):
    """close() ends what it does and raises then."""
    topic = kit.topic()
    seen = []
    consumer = kit.consumer()
    consumer.subscribe([topic], on_revoke=_raiser(seen))
    _members(kit, consumer)
    with pytest.raises(Boom, match="told 1"):
        consumer.close()
    assert len(seen) == 1
    with pytest.raises(RuntimeError, match="Consumer closed"):
        consumer.poll(0)


def test_on_revoke_that_raises_in_unsubscribe_comes_with_the_next_poll(kit):
    """unsubscribe() itself runs no callback."""
    topic = kit.topic()
    seen = []
    consumer = kit.consumer()
    consumer.subscribe([topic], on_revoke=_raiser(seen))
    _members(kit, consumer)
    consumer.unsubscribe()
    assert seen == []
    with pytest.raises(Boom, match="told 1"):
        kit.wait(lambda: False, consumer, timeout=20)
    kit.wait(lambda: not consumer.assignment(), consumer)


def test_callbacks_of_an_earlier_subscription_are_forgotten(kit):
    """subscribe() replaces them all, those that it is not given too."""
    first, second = kit.topic(), kit.topic(label="second")
    seen = []
    consumer = kit.consumer()
    consumer.subscribe([first], on_assign=lambda *_: seen.append("assign"), on_revoke=lambda *_: seen.append("revoke"))
    _members(kit, consumer)
    assert seen == ["assign"]
    consumer.subscribe([second])
    kit.wait(lambda: [each.topic for each in consumer.assignment()] == [second], consumer)
    assert seen == ["assign"]


# --- Commits ---------------------------------------------------------------------------------------------------------


def test_on_commit_that_raises_in_poll(kit):
    """An asynchronous commit's end is told by poll(), which raises."""
    topic = kit.topic()
    kit.fill(topic, 2)
    seen = []
    consumer = kit.assigned(topic, 0, 0, on_commit=_raiser(seen))
    message = kit.read(consumer, 1)[0]
    consumer.commit(message)
    with pytest.raises(Boom, match="told 1"):
        kit.wait(lambda: False, consumer, timeout=20)
    ((error, offsets),) = seen
    assert error is None
    assert [(each.partition, each.offset) for each in offsets] == [(0, 1)]


def test_on_commit_that_raises_in_close(kit):
    """close() raises it, and has committed."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 2)
    seen = []
    consumer = kit.consumer(group, on_commit=_raiser(seen), enable_auto_commit=True, auto_commit_interval_ms=60_000)
    consumer.assign([kit.at(topic, 0, 0)])
    kit.read(consumer, 2)
    with pytest.raises(Boom, match="told 1"):
        consumer.close()
    assert len(seen) == 1
    assert kit.consumer(group).committed([kit.at(topic)], timeout=10)[0].offset == 2


def test_a_failed_asynchronous_commit_is_told(kit):
    """on_commit gets the error, each partition its own."""
    topic = kit.topic()
    seen = []
    consumer = kit.assigned(topic, 0, 0, on_commit=lambda *arguments: seen.append(arguments))
    consumer.commit(offsets=[kit.at(kit.name("absent"), 0, 1)])
    kit.wait(lambda: seen, consumer)
    error, offsets = seen[0]
    kit.is_error(error, "UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic or partition")
    assert [each.error.name() for each in offsets] == ["UNKNOWN_TOPIC_OR_PART"]


def test_an_asynchronous_commit_of_nothing_is_told(kit):
    """_NO_OFFSET."""
    topic = kit.topic()
    seen = []
    consumer = kit.assigned(topic, 0, 0, on_commit=lambda *arguments: seen.append(arguments))
    consumer.commit()
    kit.wait(lambda: seen, consumer)
    kit.is_error(seen[0][0], "_NO_OFFSET", "Local: No offset stored")


def test_callbacks_may_call_their_consumer(kit):
    """position(), pause(), commit() and close() work inside of on_assign."""
    topic = kit.topic()
    kit.fill(topic, 2)
    seen = []

    def look(consumer, partitions):
        seen.append([each.offset for each in consumer.position(partitions)])
        consumer.assign(partitions)
        consumer.pause(partitions)
        seen.append(kit.partitions(consumer))

    consumer = kit.consumer()
    consumer.subscribe([topic], on_assign=look)
    _members(kit, consumer)
    assert seen == [[-1001], [0]]
    assert kit.poll_for(0.5, consumer) == []
    consumer.resume([kit.at(topic)])
    assert kit.values(kit.read(consumer, 2)) == [b"v0", b"v1"]
