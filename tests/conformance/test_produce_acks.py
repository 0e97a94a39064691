"""What a producer may rely on: acks, order, batching, compression, and what its queue holds."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("acks", ["all", -1, 1, 0, "0", "1"])
def test_a_record_is_readable_under_every_acks(kit, acks):
    """The record is in the log whatever acknowledgement was asked for."""
    topic = kit.topic()
    error, _ = kit.send(topic, b"hello", producer=kit.producer(acks=acks))
    assert error is None
    (message,) = kit.read(kit.assigned(topic), 1)
    assert message.value() == b"hello"


@pytest.mark.parametrize("acks", ["all", 1])
def test_offsets_in_reports_count_up_from_zero(kit, acks):
    """With an acknowledgement each report carries the record's offset."""
    topic = kit.topic()
    producer = kit.producer(acks=acks)
    offsets = [kit.send(topic, producer=producer)[1].offset() for _ in range(4)]
    assert offsets == [0, 1, 2, 3]


def test_without_acknowledgement_no_offset_is_known(kit):
    """acks=0: the report succeeds, but its offset is None."""
    error, message = kit.send(kit.topic(), producer=kit.producer(acks=0))
    assert error is None
    assert message.offset() is None
    assert message.partition() == 0


def test_order_within_a_partition_is_the_order_of_produce(kit):
    """Two hundred records come back in the order they went in."""
    topic = kit.topic()
    kit.fill(topic, 200)
    messages = kit.read(kit.assigned(topic), 200)
    assert kit.values(messages) == [b"v%d" % index for index in range(200)]
    assert [message.offset() for message in messages] == list(range(200))


def test_no_value_and_an_empty_value_differ(kit):
    """A tombstone (None) is not an empty value, and the same holds for keys."""
    topic = kit.topic()
    producer = kit.producer()
    for value, key in [(None, b"k"), (b"", b""), (b"v", None)]:
        kit.send(topic, value, producer=producer, key=key)
    messages = kit.read(kit.assigned(topic), 3)
    assert [(m.value(), m.key()) for m in messages] == [(None, b"k"), (b"", b""), (b"v", None)]


def test_text_is_encoded_as_utf8(kit):
    """str keys and values are written as UTF-8 and come back as bytes."""
    topic = kit.topic()
    kit.send(topic, "grüße", key="ключ")
    (message,) = kit.read(kit.assigned(topic), 1)
    assert message.value() == "grüße".encode()
    assert message.key() == "ключ".encode()


def test_len_counts_what_has_no_report_yet(kit):
    """len() counts records in queue and in flight; flush brings it to 0 and returns 0."""
    topic = kit.topic()
    producer = kit.producer(linger_ms=5000)
    assert len(producer) == 0
    for _ in range(3):
        assert producer.produce(topic, b"x") is None
    assert len(producer) == 3
    assert producer.flush() == 0
    assert len(producer) == 0


def test_an_idle_producer_is_still_true(kit):
    """bool() of a producer with nothing queued is True although its len() is 0."""
    producer = kit.producer()
    assert len(producer) == 0
    assert bool(producer) is True


def test_flush_does_not_wait_for_linger(kit):
    """flush() sends what lingers at once."""
    topic = kit.topic()
    producer = kit.producer(linger_ms=60_000)
    kit.send(topic, producer=producer)  # connections are up from here on
    before = kit.cluster.now
    kit.send(topic, producer=producer)
    assert kit.cluster.now - before < 10


def test_a_lone_record_lingers(kit):
    """Without flush a record waits for linger.ms, which its latency shows."""
    topic = kit.topic()
    producer = kit.producer(linger_ms=400)
    reports = []
    producer.produce(topic, b"x", on_delivery=lambda error, message: reports.append((error, message)))
    kit.wait(lambda: producer.poll(0.05) or reports)
    error, message = reports[0]
    assert error is None
    assert message.latency() >= 0.35


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_compression_does_not_show(kit, codec):
    """Whatever the codec, the same records come back."""
    topic = kit.topic()
    producer = kit.producer(compression_type=codec, linger_ms=50)
    for index in range(20):
        producer.produce(topic, b"%d" % index * 50, key=b"k", headers=[("h", b"1")])
    assert producer.flush(20) == 0
    messages = kit.read(kit.assigned(topic), 20)
    assert kit.values(messages) == [b"%d" % index * 50 for index in range(20)]
    assert messages[0].headers() == [("h", b"1")]


def test_many_small_batches_keep_their_order(kit):
    """batch.size of a few hundred bytes and several requests in flight change nothing for a healthy cluster."""
    topic = kit.topic()
    producer = kit.producer(batch_size=300, linger_ms=5)
    for index in range(100):
        producer.produce(topic, b"%03d" % index + b"." * 50)
    assert producer.flush(20) == 0
    assert [value[:3] for value in kit.values(kit.read(kit.assigned(topic), 100))] == [b"%03d" % i for i in range(100)]


def test_a_record_larger_than_a_batch_is_sent_alone(kit):
    """batch.size bounds batches, not records."""
    topic = kit.topic()
    error, _ = kit.send(topic, b"x" * 5000, producer=kit.producer(batch_size=100))
    assert error is None
    assert len(kit.read(kit.assigned(topic), 1)[0].value()) == 5000


def test_min_insync_replicas_above_the_replicas_is_capped(kit):
    """With three replicas min.insync.replicas=4 asks for three: a write with acks=all succeeds (KIP-966)."""
    topic = kit.topic(min_insync_replicas=4)
    error, message = kit.send(topic, producer=kit.producer(acks="all"))
    assert error is None
    assert message.offset() == 0


def test_produce_to_an_unknown_topic_makes_it(kit):
    """The brokers create a topic on its first use, with one partition; the record is not lost."""
    topic = kit.name("fresh")
    error, message = kit.send(topic)
    assert error is None
    assert (message.partition(), message.offset()) == (0, 0)
    assert list(kit.admin().list_topics(topic).topics[topic].partitions) == [0]


def test_topic_made_while_the_producer_waits(kit):
    """A record for a partition that does not exist yet is reported as failed once metadata is there."""
    topic = kit.topic(partitions=1)
    error, _ = kit.send(topic, partition=3)
    kit.is_error(error, "_UNKNOWN_PARTITION", "Local: Unknown partition")
    kit.result(kit.admin().create_partitions([kit.ck.admin.NewPartitions(topic, 4)]))
    kit.wait(lambda: kit.send(topic, partition=3)[0] is None)


def test_produce_batch_reports_how_many_it_took(kit):
    """produce_batch takes a list of dicts and returns how many were queued."""
    topic = kit.topic()
    producer = kit.producer()
    taken = producer.produce_batch(topic, [{"value": b"a"}, {"value": b"b", "key": b"k"}, {"value": None}])
    assert taken == 3
    assert producer.flush(20) == 0
    messages = kit.read(kit.assigned(topic), 3)
    assert [(m.key(), m.value()) for m in messages] == [(None, b"a"), (b"k", b"b"), (None, None)]


def test_with_statement_flushes_and_closes(kit):
    """Leaving a producer's with block sends what is queued and closes it."""
    topic = kit.topic()
    with kit.producer(linger_ms=1000) as producer:
        producer.produce(topic, b"inside")
    assert kit.values(kit.read(kit.assigned(topic), 1)) == [b"inside"]
    with pytest.raises(RuntimeError, match="Producer has been closed"):
        producer.produce(topic, b"outside")
