"""delete_records."""

from __future__ import annotations

import pytest


def _delete(kit, topic, offset, partition=0):
    return kit.result(kit.admin().delete_records([kit.at(topic, partition, offset)])).low_watermark


def test_records_before_an_offset_are_deleted(kit):
    """The answer is the new low watermark; what is before it is gone, offsets stay."""
    topic = kit.topic()
    kit.fill(topic, 5)
    assert _delete(kit, topic, 2) == 2
    assert [record.offset for record in kit.cluster.records(topic)] == [2, 3, 4]


def test_deleting_what_is_gone_changes_nothing(kit):
    """An offset below the log start answers the low watermark as it is."""
    topic = kit.topic()
    kit.fill(topic, 5)
    _delete(kit, topic, 3)
    assert _delete(kit, topic, 1) == 3


def test_everything_can_be_deleted(kit):
    """OFFSET_END deletes up to the high watermark; the next record goes on counting."""
    topic = kit.topic()
    kit.fill(topic, 4)
    assert _delete(kit, topic, kit.ck.OFFSET_END) == 4
    assert kit.cluster.records(topic) == []
    assert kit.send(topic)[1].offset() == 4


@pytest.mark.parametrize("offset", [99, -5])
def test_an_offset_that_is_not_there(kit, offset):
    """Beyond the end, or negative: OFFSET_OUT_OF_RANGE."""
    topic = kit.topic()
    kit.fill(topic, 3)
    with kit.fails("OFFSET_OUT_OF_RANGE", "Broker: Offset out of range"):
        _delete(kit, topic, offset)


@pytest.mark.parametrize("partition", [9, None], ids=["partition", "topic"])
def test_records_of_what_does_not_exist(kit, partition):
    """The client finds no leader to ask."""
    topic = kit.topic()
    with kit.fails("_NOENT", "Failed to query partition leaders: No leaders found"):
        _delete(kit, topic if partition else kit.name("absent"), 1, partition or 0)


def test_several_partitions_in_one_call(kit):
    """Each partition has its own future."""
    topic = kit.topic(partitions=2)
    kit.fill(topic, 3, partition=0)
    kit.fill(topic, 3, partition=1)
    futures = kit.admin().delete_records([kit.at(topic, 0, 1), kit.at(topic, 1, 2)])
    assert {place.partition: future.result(20).low_watermark for place, future in futures.items()} == {0: 1, 1: 2}


def test_nothing_to_delete(kit):
    """An empty list is an empty answer; no list is a TypeError."""
    assert kit.admin().delete_records([]) == {}
    with pytest.raises(TypeError, match="Expected Request to be a list, got 'str'"):
        kit.admin().delete_records("t")


def test_the_handle_reads_what_the_log_holds(kit):
    """records(): every record below the high watermark, with key, value, timestamp and headers."""
    topic = kit.topic(partitions=2)
    kit.send(topic, b"v", key=b"k", partition=1, timestamp=1000, headers=[("h", b"1")])
    (record,) = kit.cluster.records(topic)
    assert (record.topic, record.partition, record.offset) == (topic, 1, 0)
    assert (record.key, record.value, record.timestamp) == (b"k", b"v", 1000)
    assert record.headers == [("h", b"1")]


def test_the_handle_writes_records(kit):
    """produce() of the handle writes values, with keys where they are given, and waits for them."""
    topic = kit.topic()
    kit.cluster.produce(topic, [b"a", "b"])
    kit.cluster.produce(topic, [b"c"], keys=[b"k"])
    assert [(r.key, r.value) for r in kit.cluster.records(topic)] == [(None, b"a"), (None, b"b"), (b"k", b"c")]
