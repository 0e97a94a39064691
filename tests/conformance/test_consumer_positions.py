"""Assign, poll, consume, position: what a consumer without a group's help sees."""

from __future__ import annotations

import pytest


def test_poll_without_an_assignment_is_none(kit):
    """Neither subscribed nor assigned: poll() waits and returns None, and raises nothing."""
    assert kit.consumer().poll(0.1) is None


def test_a_position_begins_invalid(kit):
    """Before the first record position() is OFFSET_INVALID, assigned or not."""
    topic = kit.topic()
    consumer = kit.consumer()
    assert consumer.position([kit.at(topic)])[0].offset == kit.ck.OFFSET_INVALID
    consumer.assign([kit.at(topic, 0, 0)])
    assert consumer.position([kit.at(topic)])[0].offset == kit.ck.OFFSET_INVALID


def test_a_position_is_after_the_last_record_returned(kit):
    """position() is the offset of the last returned record plus one, not of the last fetched one."""
    topic = kit.topic()
    kit.fill(topic, 5)
    consumer = kit.assigned(topic)
    for expected in (1, 2, 3):
        kit.read(consumer, 1)
        assert consumer.position([kit.at(topic)])[0].offset == expected


def test_a_position_carries_the_leader_epoch(kit):
    """Positions and messages name the leader epoch of the record."""
    topic = kit.topic()
    kit.fill(topic, 1)
    consumer = kit.assigned(topic)
    (message,) = kit.read(consumer, 1)
    assert message.leader_epoch() == 0
    assert consumer.position([kit.at(topic)])[0].leader_epoch == 0


def test_assignment_shows_what_was_assigned(kit):
    """assignment() returns topic, partition and the offset that was asked for."""
    topic = kit.topic(partitions=2)
    consumer = kit.consumer()
    assert consumer.assignment() == []
    consumer.assign([kit.at(topic, 0, kit.ck.OFFSET_BEGINNING), kit.at(topic, 1, 3)])
    shown = sorted((each.partition, each.offset) for each in consumer.assignment())
    assert shown == [(0, kit.ck.OFFSET_BEGINNING), (1, 3)]


@pytest.mark.parametrize(("epoch", "again"), [(0, 0), (-1, 3)], ids=["with its epoch", "without"])
def test_assign_compares_an_offset_with_its_epoch(kit, epoch, again):
    """Told the epoch of the record before, it sees that the log ends earlier and goes on there; else the policy decides."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.consumer(auto_offset_reset="earliest")
    consumer.assign([kit.ck.TopicPartition(topic, 0, 5, leader_epoch=epoch)])
    values = kit.values(kit.poll_for(4, consumer))
    assert values == [b"v0", b"v1", b"v2"][:again]
    kit.fill(topic, 1, start=100)
    (message,) = kit.read(consumer, 1)
    assert (message.offset(), message.value()) == (3, b"v100")


@pytest.mark.parametrize(("offset", "first"), [(0, 0), (2, 2), (-2, 0)], ids=["zero", "two", "beginning"])
def test_assign_starts_where_it_says(kit, offset, first):
    """An absolute offset, or OFFSET_BEGINNING, is where reading starts."""
    topic = kit.topic()
    kit.fill(topic, 4)
    consumer = kit.assigned(topic, 0, offset)
    assert kit.read(consumer, 1)[0].offset() == first


def test_assign_at_the_end_sees_only_what_is_new(kit):
    """OFFSET_END starts behind what is there when the position is looked up."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.assigned(topic, 0, kit.ck.OFFSET_END, enable_partition_eof=True)
    kit.is_error(kit.event(consumer).error(), "_PARTITION_EOF")
    kit.fill(topic, 1, start=3)
    assert kit.read(consumer, 1)[0].offset() == 3


def test_a_second_assign_replaces_the_first(kit):
    """assign() is the whole assignment: what it does not name is gone."""
    topic = kit.topic(partitions=2)
    kit.fill(topic, 2, partition=0)
    kit.fill(topic, 2, partition=1)
    consumer = kit.assigned(topic, 0)
    kit.read(consumer, 2)
    consumer.assign([kit.at(topic, 1)])
    assert kit.partitions(consumer) == [1]
    assert {m.partition() for m in kit.read(consumer, 2)} == {1}


def test_unassign_ends_delivery(kit):
    """After unassign() nothing is assigned and nothing comes."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.assigned(topic)
    kit.read(consumer, 1)
    consumer.unassign()
    assert consumer.assignment() == []
    assert kit.poll_for(0.3, consumer) == []


def test_incremental_assign_adds_and_removes(kit):
    """incremental_assign/unassign change the assignment by what they name; the rest reads on."""
    topic = kit.topic(partitions=2)
    kit.fill(topic, 1, partition=0)
    kit.fill(topic, 1, partition=1)
    consumer = kit.consumer()
    consumer.incremental_assign([kit.at(topic, 0, 0)])
    assert kit.read(consumer, 1)[0].partition() == 0
    consumer.incremental_assign([kit.at(topic, 1, 0)])
    assert kit.read(consumer, 1)[0].partition() == 1
    consumer.incremental_unassign([kit.at(topic, 0)])
    assert kit.partitions(consumer) == [1]


def test_incremental_assign_twice_conflicts(kit):
    """A partition that is assigned cannot be assigned again."""
    topic = kit.topic()
    consumer = kit.consumer()
    consumer.incremental_assign([kit.at(topic, 0, 0)])
    with kit.fails("_CONFLICT", f"{topic} [0] is already part of the current assignment"):
        consumer.incremental_assign([kit.at(topic, 0, 0)])


def test_incremental_unassign_of_what_is_not_assigned(kit):
    """A partition that is not assigned cannot be taken away."""
    topic = kit.topic(partitions=2)
    consumer = kit.consumer()
    consumer.incremental_assign([kit.at(topic, 0, 0)])
    with kit.fails("_INVALID_ARG", f"{topic} [1] can't be unassigned since it is not in the current assignment"):
        consumer.incremental_unassign([kit.at(topic, 1)])


def test_consume_returns_at_most_what_it_was_asked(kit):
    """consume(n) returns up to n records in order."""
    topic = kit.topic()
    kit.fill(topic, 10)
    consumer = kit.assigned(topic)
    first = consumer.consume(4, timeout=20)
    rest = consumer.consume(6, timeout=20)
    assert [m.offset() for m in first + rest] == list(range(10))
    assert len(first) == 4


def test_consume_with_nothing_to_read_returns_an_empty_list(kit):
    """When the timeout passes consume() returns what it has: nothing."""
    consumer = kit.assigned(kit.topic())
    before = kit.cluster.now
    assert consumer.consume(5, timeout=0.3) == []
    assert kit.cluster.now - before >= 0.25


def test_consume_waits_for_the_whole_count_or_the_timeout(kit):
    """consume(n, t) with fewer records than n returns them only when t has passed."""
    topic = kit.topic()
    kit.fill(topic, 2)
    consumer = kit.assigned(topic)
    kit.read(consumer, 1)
    before = kit.cluster.now
    assert len(consumer.consume(5, timeout=0.5)) == 1
    assert kit.cluster.now - before >= 0.45


@pytest.mark.parametrize("count", [-1, 1_000_001])
def test_consume_bounds_its_count(kit, count):
    """0 to a million."""
    with pytest.raises(ValueError, match="num_messages must be between 0 and 1000000"):
        kit.consumer().consume(count)


def test_consume_zero(kit):
    """consume(0) is an empty list."""
    assert kit.consumer().consume(0, 0.1) == []


def test_all_partitions_are_read_each_in_its_order(kit):
    """Reading several partitions interleaves them, but never reorders one."""
    topic = kit.topic(partitions=3)
    for partition in range(3):
        kit.fill(topic, 20, partition=partition)
    consumer = kit.consumer()
    consumer.assign([kit.at(topic, p, 0) for p in range(3)])
    messages = kit.read(consumer, 60)
    for partition in range(3):
        assert [m.offset() for m in messages if m.partition() == partition] == list(range(20))


def test_two_consumers_read_the_same_partition_independently(kit):
    """Without a group's subscription consumers do not share anything."""
    topic = kit.topic()
    kit.fill(topic, 3)
    first, second = kit.assigned(topic), kit.assigned(topic)
    assert kit.values(kit.read(first, 3)) == kit.values(kit.read(second, 3)) == [b"v0", b"v1", b"v2"]


def test_a_record_larger_than_the_fetch_size_still_comes(kit):
    """max.partition.fetch.bytes bounds a fetch only from its second batch on (KIP-74)."""
    topic = kit.topic()
    kit.send(topic, b"x" * 50_000)
    consumer = kit.assigned(topic, max_partition_fetch_bytes=1000)
    assert len(kit.read(consumer, 1)[0]) == 50_000


def test_records_written_while_polling_arrive(kit):
    """A parked fetch answers when something is written."""
    topic = kit.topic()
    consumer = kit.assigned(topic)
    assert kit.poll_for(0.3, consumer) == []
    kit.fill(topic, 2)
    assert kit.values(kit.read(consumer, 2)) == [b"v0", b"v1"]


def test_a_message_knows_its_place(kit):
    """A consumed message: topic, partition, offset, key, value, no error, and length of its value."""
    topic = kit.topic(partitions=2)
    kit.send(topic, b"value", key=b"key", partition=1)
    (message,) = kit.read(kit.assigned(topic, 1), 1)
    assert (message.topic(), message.partition(), message.offset()) == (topic, 1, 0)
    assert (message.key(), message.value(), len(message)) == (b"key", b"value", 5)
    assert message.error() is None
    assert message.latency() is None


def test_assigned_without_an_offset_starts_at_the_committed_one(kit):
    """assign() of a plain TopicPartition resumes where the group committed."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 5)
    first = kit.consumer(group)
    first.commit(offsets=[kit.at(topic, 0, 3)], asynchronous=False)
    first.close()
    second = kit.assigned(topic, group=group)
    assert kit.read(second, 1)[0].offset() == 3


def test_tail_of_a_partition(kit):
    """OFFSET_TAIL is -2000 minus a count: start that many records before the end."""
    topic = kit.topic()
    kit.fill(topic, 6)
    consumer = kit.assigned(topic, 0, -2002)
    assert [m.offset() for m in kit.read(consumer, 2)] == [4, 5]
