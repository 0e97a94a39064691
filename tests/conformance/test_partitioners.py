"""Which partition a record goes to."""

from __future__ import annotations

import zlib

import pytest

PARTITIONS = 7
KEYS = [b"a", b"b", b"key", b"call-0001", b"call-0002", "ключ".encode(), b"\x00", b"x" * 100, b"order:42", b"zz"]


def _murmur2(data: bytes) -> int:
    """Murmur2 as Kafka's Java client seeds it, its sign bit cleared."""
    mask, mixer = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    state = 0x9747B28C ^ length
    whole = length - length % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * mixer & mask
        word = (word ^ word >> 24) * mixer & mask
        state = state * mixer & mask ^ word
    if length % 4:
        state = (state ^ int.from_bytes(data[whole:], "little")) * mixer & mask
    state = (state ^ state >> 13) * mixer & mask
    return (state ^ state >> 15) & 0x7FFFFFFF


def _fnv1a(data: bytes) -> int:
    """32-bit FNV-1a as a signed number's absolute value, as Sarama has it."""
    state = 0x811C9DC5
    for byte in data:
        state = (state ^ byte) * 0x01000193 & 0xFFFFFFFF
    return state if state < 2**31 else 2**32 - state


EXPECTED = {
    "consistent": zlib.crc32,
    "consistent_random": zlib.crc32,
    "murmur2": _murmur2,
    "murmur2_random": _murmur2,
    "fnv1a": _fnv1a,
    "fnv1a_random": _fnv1a,
}


def _places(kit, topic, records, **config):
    """Produce (key, partition or None) pairs one by one and return where each went."""
    producer = kit.producer(**config)
    places = {}

    def note(index):
        return lambda error, message: places.update({index: message.partition()})

    for index, key in enumerate(records):
        producer.produce(topic, b"x", key=key, on_delivery=note(index))
    assert producer.flush(20) == 0
    return [places[index] for index in range(len(records))]


@pytest.mark.parametrize("partitioner", EXPECTED)
def test_keyed_records_go_where_the_hash_says(kit, partitioner):
    """Keys decide: CRC32, Murmur2 (as the Java client) or FNV-1a, modulo the number of partitions."""
    topic = kit.topic(partitions=PARTITIONS)
    places = _places(kit, topic, KEYS, partitioner=partitioner)
    assert places == [EXPECTED[partitioner](key) % PARTITIONS for key in KEYS]


def test_the_default_is_consistent_random(kit):
    """Without a setting: CRC32 of the key."""
    topic = kit.topic(partitions=PARTITIONS)
    assert _places(kit, topic, KEYS) == [zlib.crc32(key) % PARTITIONS for key in KEYS]


@pytest.mark.parametrize("partitioner", ["consistent", "murmur2", "fnv1a"])
@pytest.mark.parametrize("key", [None, b""], ids=["none", "empty"])
def test_plain_hashes_put_keyless_records_into_one_partition(kit, partitioner, key):
    """The variants without _random hash no key as an empty one."""
    topic = kit.topic(partitions=PARTITIONS)
    places = _places(kit, topic, [key] * 6, partitioner=partitioner)
    assert places == [EXPECTED[partitioner](b"") % PARTITIONS] * 6


@pytest.mark.parametrize("partitioner", ["consistent_random", "murmur2_random", "fnv1a_random", "random"])
def test_keyless_records_are_spread(kit, partitioner):
    """With sticky partitioning off each keyless record is drawn for itself: 60 records reach several partitions."""
    topic = kit.topic(partitions=PARTITIONS)
    places = _places(kit, topic, [None] * 60, partitioner=partitioner, sticky_partitioning_linger_ms=0)
    assert len(set(places)) >= 4


def test_keyless_records_stick_for_a_while(kit):
    """sticky.partitioning.linger.ms keeps keyless records in one partition until it passes."""
    topic = kit.topic(partitions=PARTITIONS)
    producer = kit.producer(sticky_partitioning_linger_ms=10_000)
    kit.send(topic, producer=producer)  # metadata is known from here on
    places = [kit.send(topic, producer=producer)[1].partition() for _ in range(8)]
    assert len(set(places)) == 1


def test_random_ignores_keys(kit):
    """partitioner=random does not look at the key."""
    topic = kit.topic(partitions=PARTITIONS)
    places = _places(kit, topic, [b"same"] * 60, partitioner="random", sticky_partitioning_linger_ms=0)
    assert len(set(places)) >= 4


def test_a_given_partition_wins_over_the_key(kit):
    """partition= of produce() is not questioned."""
    topic = kit.topic(partitions=PARTITIONS)
    wanted = (zlib.crc32(b"a") + 1) % PARTITIONS
    _, message = kit.send(topic, key=b"a", partition=wanted)
    assert message.partition() == wanted


def test_the_same_key_keeps_its_partition(kit):
    """All records of a key are in one partition, in order."""
    topic = kit.topic(partitions=3)
    producer = kit.producer()
    for index in range(30):
        producer.produce(topic, b"%d" % index, key=b"key-%d" % (index % 5))
    assert producer.flush(20) == 0
    consumer = kit.consumer()
    consumer.assign([kit.at(topic, p, 0) for p in range(3)])
    places = {}
    values = {}
    for message in kit.read(consumer, 30):
        places.setdefault(message.key(), set()).add(message.partition())
        values.setdefault(message.key(), []).append(int(message.value()))
    assert all(len(partitions) == 1 for partitions in places.values())
    assert all(numbers == sorted(numbers) for numbers in values.values())


def test_more_partitions_move_keys(kit):
    """After create_partitions the modulus changes, once the producer has new metadata."""
    topic = kit.topic(partitions=1)
    key = next(key for key in KEYS if zlib.crc32(key) % 2 == 1)
    assert kit.send(topic, key=key)[1].partition() == 0
    kit.result(kit.admin().create_partitions([kit.ck.admin.NewPartitions(topic, 2)]))
    kit.wait(lambda: len(kit.cluster.describe_topic(topic)) == 2)
    kit.wait(lambda: kit.send(topic, key=key)[1].partition() == 1)
