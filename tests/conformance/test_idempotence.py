"""The idempotent producer, as far as its user sees it on a healthy cluster."""

from __future__ import annotations

import pytest


def test_an_idempotent_producer_delivers_in_order(kit):
    """Five requests in flight, one partition: the order of produce() is the order of the log."""
    topic = kit.topic()
    producer = kit.producer(enable_idempotence=True, batch_size=200, linger_ms=1)
    for index in range(300):
        producer.produce(topic, b"%d" % index)
    assert producer.flush(20) == 0
    assert kit.values(kit.read(kit.assigned(topic), 300)) == [b"%d" % index for index in range(300)]


@pytest.mark.parametrize("config", [{}, {"acks": "all"}, {"acks": -1}, {"max.in.flight": 5}, {"retries": 3}])
def test_idempotence_agrees_with(kit, config):
    """acks=all in each of its spellings, up to five requests in flight, at least one retry."""
    topic = kit.topic()
    error, message = kit.send(topic, producer=kit.ck.Producer(kit.config({**config, "enable.idempotence": True})))
    assert error is None
    assert message.offset() == 0


def test_two_idempotent_producers_do_not_disturb_each_other(kit):
    """Each has its own producer id, so equal sequence numbers are no duplicates."""
    topic = kit.topic()
    first, second = kit.producer(enable_idempotence=True), kit.producer(enable_idempotence=True)
    for index in range(3):
        kit.send(topic, b"a%d" % index, producer=first)
        kit.send(topic, b"b%d" % index, producer=second)
    assert kit.values(kit.read(kit.assigned(topic), 6)) == [b"a0", b"b0", b"a1", b"b1", b"a2", b"b2"]


def test_a_refused_record_does_not_stop_the_rest(kit):
    """A record that the broker finds too large fails alone: later records of the partition are written."""
    topic = kit.topic(max_message_bytes=2000)
    producer = kit.producer(enable_idempotence=True)
    error, _ = kit.send(topic, b"x" * 5000, producer=producer)
    kit.is_error(error, "MSG_SIZE_TOO_LARGE")
    error, message = kit.send(topic, b"small", producer=producer)
    assert error is None
    assert message.offset() == 0


def test_sequence_numbers_survive_idle_time(kit):
    """Writing, waiting and writing again is one sequence."""
    topic = kit.topic()
    producer = kit.producer(enable_idempotence=True)
    assert kit.send(topic, producer=producer)[1].offset() == 0
    kit.cluster.run_for(0.5)
    assert kit.send(topic, producer=producer)[1].offset() == 1


def test_purge_of_an_idempotent_producer_keeps_the_order(kit):
    """Purging what is queued leaves no gap that would stop the partition."""
    topic = kit.topic()
    producer = kit.producer(enable_idempotence=True, linger_ms=60_000)
    errors = []
    for _ in range(3):
        producer.produce(topic, b"purged", on_delivery=lambda error, message: errors.append(error))
    producer.purge()
    error, message = kit.send(topic, b"kept", producer=producer)
    assert error is None
    assert [each.name() for each in errors] == ["_PURGE_QUEUE"] * 3
    assert message.offset() == 0
