"""Seek, pause and resume."""

from __future__ import annotations

import pytest


def _reader(kit, count=6, **config):
    topic = kit.topic()
    kit.fill(topic, count)
    consumer = kit.assigned(topic, 0, 0, **config)
    return topic, consumer


@pytest.mark.parametrize("target", [0, 2, 5])
def test_seek_moves_the_next_record(kit, target):
    """After seek() the next record is the one sought, whatever was fetched before."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 3)
    consumer.seek(kit.at(topic, 0, target))
    assert kit.read(consumer, 1)[0].offset() == target


@pytest.mark.parametrize(("logical", "first"), [("OFFSET_BEGINNING", 0), ("OFFSET_END", 6)])
def test_seek_to_a_logical_offset(kit, logical, first):
    """seek() understands OFFSET_BEGINNING and OFFSET_END."""
    topic, consumer = _reader(kit, enable_partition_eof=True)
    kit.read(consumer, 3)
    consumer.seek(kit.at(topic, 0, getattr(kit.ck, logical)))
    if logical == "OFFSET_END":
        kit.is_error(kit.event(consumer).error(), "_PARTITION_EOF")
        kit.fill(topic, 1, start=6)
    assert kit.read(consumer, 1)[0].offset() == first


def test_seek_makes_the_position_unknown_until_a_record_comes(kit):
    """Surprise: right after seek() position() is OFFSET_INVALID again, not the sought offset."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 2)
    consumer.seek(kit.at(topic, 0, 1))
    assert consumer.position([kit.at(topic)])[0].offset == kit.ck.OFFSET_INVALID
    kit.read(consumer, 1)
    assert consumer.position([kit.at(topic)])[0].offset == 2


def test_seek_beyond_the_end_resets(kit):
    """A position that the log does not hold is reset as auto.offset.reset says: here to the beginning."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 1)
    consumer.seek(kit.at(topic, 0, 99))
    assert kit.read(consumer, 1)[0].offset() == 0


@pytest.mark.parametrize(("epoch", "again"), [(0, 0), (-1, 6)], ids=["with its epoch", "without"])
def test_seek_compares_an_offset_with_its_epoch(kit, epoch, again):
    """Told the epoch of the record before, it sees that the log ends earlier and goes on there; else the policy decides."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 6)
    consumer.seek(kit.ck.TopicPartition(topic, 0, 99, leader_epoch=epoch))
    assert len(kit.values(kit.poll_for(4, consumer))) == again
    kit.fill(topic, 1, start=100)
    (message,) = kit.read(consumer, 1)
    assert (message.offset(), message.value()) == (6, b"v100")


def test_seek_of_an_unassigned_partition(kit):
    """Only an assigned partition can be sought."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 1)
    with kit.fails("_STATE", "Failed to seek to offset 1: Local: Erroneous state"):
        consumer.seek(kit.at(topic, 7, 1))


def test_seek_before_any_assignment(kit):
    """A consumer that has never met the partition says so instead."""
    topic = kit.topic()
    with kit.fails("_UNKNOWN_PARTITION", "Failed to seek to offset 1: Local: Unknown partition"):
        kit.consumer().seek(kit.at(topic, 0, 1))


def test_pause_holds_records_back(kit):
    """A paused partition delivers nothing, not even what was fetched already; poll() stays quiet."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 2)
    consumer.pause([kit.at(topic)])
    assert kit.poll_for(0.5, consumer) == []
    assert kit.partitions(consumer) == [0]


def test_resume_goes_on_where_it_stopped(kit):
    """Nothing is lost and nothing comes twice across pause and resume."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 2)
    consumer.pause([kit.at(topic)])
    assert kit.poll_for(0.3, consumer) == []
    consumer.resume([kit.at(topic)])
    assert [m.offset() for m in kit.read(consumer, 4)] == [2, 3, 4, 5]


def test_pause_of_one_partition_spares_the_other(kit):
    """Partitions are paused one by one."""
    topic = kit.topic(partitions=2)
    kit.fill(topic, 3, partition=0)
    kit.fill(topic, 3, partition=1)
    consumer = kit.consumer()
    consumer.assign([kit.at(topic, 0, 0), kit.at(topic, 1, 0)])
    consumer.pause([kit.at(topic, 0)])
    assert {m.partition() for m in kit.read(consumer, 3)} == {1}
    consumer.resume([kit.at(topic, 0)])
    assert {m.partition() for m in kit.read(consumer, 3)} == {0}


def test_seek_while_paused_waits_for_resume(kit):
    """A seek of a paused partition takes effect when it is resumed."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 4)
    consumer.pause([kit.at(topic)])
    consumer.seek(kit.at(topic, 0, 1))
    assert kit.poll_for(0.3, consumer) == []
    consumer.resume([kit.at(topic)])
    assert kit.read(consumer, 1)[0].offset() == 1


def test_pausing_twice_is_resumed_once(kit):
    """Pauses do not add up."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 1)
    consumer.pause([kit.at(topic)])
    consumer.pause([kit.at(topic)])
    consumer.resume([kit.at(topic)])
    assert kit.read(consumer, 1)[0].offset() == 1


def test_a_pause_survives_a_new_assign(kit):
    """Surprise: the pause belongs to the partition, not to the assignment, so assign() does not end it."""
    topic, consumer = _reader(kit)
    kit.read(consumer, 1)
    consumer.pause([kit.at(topic)])
    consumer.assign([kit.at(topic, 0, 0)])
    assert kit.poll_for(1.0, consumer) == []
    consumer.resume([kit.at(topic)])
    assert kit.read(consumer, 1)[0].offset() == 0


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_pause_and_resume_of_unassigned_partitions_are_quiet(kit, verb):
    """Neither raises for a partition that is not assigned."""
    topic = kit.topic()
    assert getattr(kit.consumer(), verb)([kit.at(topic), kit.at(topic, 9)]) is None


def test_a_rebalance_is_served_while_everything_is_paused(kit):
    """A paused member stays in its group: polling it serves callbacks and keeps its partitions."""
    topic, group = kit.topic(partitions=2), kit.group()
    kit.fill(topic, 2, partition=0)
    first = kit.consumer(group, [topic])
    kit.wait(lambda: len(first.assignment()) == 2, first)
    first.pause(first.assignment())
    second = kit.consumer(group, [topic])
    kit.wait(lambda: len(first.assignment()) == len(second.assignment()) == 1, first, second)
