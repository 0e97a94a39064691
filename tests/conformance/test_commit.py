"""Commits: by hand, by message, by list, by interval; what they return and who sees them."""

from __future__ import annotations

import pytest


def _reader(kit, count=5, **config):
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, count)
    return topic, group, kit.assigned(topic, 0, 0, group=group, **config)


def _committed(kit, topic, group, partition=0):
    consumer = kit.consumer(group)
    (found,) = consumer.committed([kit.at(topic, partition)], timeout=20)
    consumer.close()
    return found


def test_nothing_committed_is_invalid(kit):
    """A group without commits answers OFFSET_INVALID, without an error."""
    topic = kit.topic(partitions=2)
    found = kit.consumer().committed([kit.at(topic, 0), kit.at(topic, 1)], timeout=20)
    assert [(each.partition, each.offset, each.error) for each in found] == [(0, -1001, None), (1, -1001, None)]
    assert kit.ck.OFFSET_INVALID == -1001


def test_a_plain_commit_takes_the_position(kit):
    """commit() without arguments commits what was returned by poll(), plus one."""
    topic, group, consumer = _reader(kit)
    kit.read(consumer, 3)
    (committed,) = consumer.commit(asynchronous=False)
    assert (committed.topic, committed.partition, committed.offset, committed.error) == (topic, 0, 3, None)
    assert _committed(kit, topic, group).offset == 3


def test_a_committed_offset_carries_the_leader_epoch(kit):
    """A position that came from records is committed with their leader epoch; one given by hand has none."""
    topic, group, consumer = _reader(kit)
    kit.read(consumer, 1)
    consumer.commit(asynchronous=False)
    assert _committed(kit, topic, group).leader_epoch == 0
    consumer.commit(offsets=[kit.at(topic, 0, 1)], asynchronous=False)
    assert _committed(kit, topic, group).leader_epoch is None


def test_a_commit_with_nothing_new_says_so(kit):
    """Nothing stored, or nothing stored since the last commit: _NO_OFFSET."""
    _, _, consumer = _reader(kit)
    with kit.fails("_NO_OFFSET", "Commit failed: Local: No offset stored"):
        consumer.commit(asynchronous=False)
    kit.read(consumer, 1)
    consumer.commit(asynchronous=False)
    with kit.fails("_NO_OFFSET", "Commit failed: Local: No offset stored"):
        consumer.commit(asynchronous=False)


def test_a_plain_commit_returns_every_assigned_partition(kit):
    """Partitions without a stored offset are in the result too, with OFFSET_INVALID."""
    topic = kit.topic(partitions=2)
    kit.fill(topic, 2, partition=1)
    consumer = kit.consumer()
    consumer.assign([kit.at(topic, 0, 0), kit.at(topic, 1, 0)])
    kit.read(consumer, 2)
    result = consumer.commit(asynchronous=False)
    assert sorted((each.partition, each.offset) for each in result) == [(0, -1001), (1, 2)]


def test_a_commit_of_a_message_is_one_after_it(kit):
    """commit(message=) commits that message's offset plus one, whatever was read since."""
    topic, group, consumer = _reader(kit)
    messages = kit.read(consumer, 4)
    (committed,) = consumer.commit(message=messages[1], asynchronous=False)
    assert committed.offset == 2
    assert _committed(kit, topic, group).offset == 2


def test_a_commit_of_offsets_is_taken_as_it_is(kit):
    """commit(offsets=) commits exactly the offsets given, for any partition, assigned or not."""
    topic, group = kit.topic(partitions=2), kit.group()
    consumer = kit.consumer(group)
    result = consumer.commit(offsets=[kit.at(topic, 0, 7), kit.at(topic, 1, 8)], asynchronous=False)
    assert sorted((each.partition, each.offset) for each in result) == [(0, 7), (1, 8)]
    assert [_committed(kit, topic, group, p).offset for p in (0, 1)] == [7, 8]


@pytest.mark.parametrize("offset", [0, 5, 1000])
def test_any_offset_may_be_committed(kit, offset):
    """The broker does not look whether the log holds an offset, and lower ones may follow higher ones."""
    topic, group, consumer = _reader(kit)
    consumer.commit(offsets=[kit.at(topic, 0, 3)], asynchronous=False)
    consumer.commit(offsets=[kit.at(topic, 0, offset)], asynchronous=False)
    assert _committed(kit, topic, group).offset == offset


def test_metadata_is_kept(kit):
    """A commit may carry a text, which committed() returns."""
    topic, group, consumer = _reader(kit)
    consumer.commit(offsets=[kit.ck.TopicPartition(topic, 0, 2, metadata="half way")], asynchronous=False)
    found = _committed(kit, topic, group)
    assert (found.offset, found.metadata) == (2, "half way")


@pytest.mark.parametrize("text", ["", "x" * 4095, "ö" * 2047])
def test_metadata_of_any_length_up_to_the_limit(kit, text):
    """No text is one too; 4096 bytes with the NUL behind it are still kept."""
    topic, group, consumer = _reader(kit)
    consumer.commit(offsets=[kit.ck.TopicPartition(topic, 0, 2, metadata=text)], asynchronous=False)
    assert _committed(kit, topic, group).metadata == text


def test_metadata_that_are_too_long(kit):
    """Surprise: the limit of 4096 bytes counts the NUL that the client sends behind the text."""
    topic, group, consumer = _reader(kit)
    too_long = [kit.ck.TopicPartition(topic, 0, 2, metadata="x" * 4096)]
    with kit.fails("OFFSET_METADATA_TOO_LARGE", "Commit failed: Broker: Offset metadata string too large"):
        consumer.commit(offsets=too_long, asynchronous=False)
    assert _committed(kit, topic, group).offset == kit.ck.OFFSET_INVALID


def test_a_negative_offset_is_not_committed(kit):
    """A logical or negative offset is left out, and nothing remains: _NO_OFFSET."""
    topic, _, consumer = _reader(kit)
    with kit.fails("_NO_OFFSET", "Commit failed: Local: No offset stored"):
        consumer.commit(offsets=[kit.at(topic, 0, -5)], asynchronous=False)


@pytest.mark.parametrize("partition", [None, 9], ids=["topic", "partition"])
def test_a_commit_for_what_does_not_exist(kit, partition):
    """Unknown topic or partition: the broker refuses, and the call raises."""
    topic, _, consumer = _reader(kit)
    place = kit.at(topic, 9, 1) if partition else kit.at(kit.name("absent"), 0, 1)
    with kit.fails("UNKNOWN_TOPIC_OR_PART", "Commit failed: Broker: Unknown topic or partition"):
        consumer.commit(offsets=[place], asynchronous=False)


def test_of_a_mixed_commit_the_good_part_holds(kit):
    """One unknown topic among good partitions: the call raises, and yet the good partition is committed."""
    topic, group, consumer = _reader(kit)
    with kit.fails("UNKNOWN_TOPIC_OR_PART"):
        consumer.commit(offsets=[kit.at(topic, 0, 4), kit.at(kit.name("absent"), 0, 1)], asynchronous=False)
    assert _committed(kit, topic, group).offset == 4


def test_an_asynchronous_commit_returns_at_once(kit):
    """commit() is asynchronous by default and returns None; the offset arrives later."""
    topic, _group, consumer = _reader(kit)
    kit.read(consumer, 2)
    assert consumer.commit() is None
    kit.wait(lambda: consumer.committed([kit.at(topic)], timeout=20)[0].offset == 2)


def test_on_commit_reports_what_was_committed(kit):
    """The on_commit callback gets None and the partitions, from poll()."""
    reports = []
    topic, _, consumer = _reader(kit, count=2, on_commit=lambda error, offsets: reports.append((error, offsets)))
    kit.read(consumer, 2)
    consumer.commit()
    assert reports == []
    kit.wait(lambda: reports, consumer)
    error, offsets = reports[0]
    assert error is None
    assert [(each.topic, each.partition, each.offset, each.error) for each in offsets] == [(topic, 0, 2, None)]


def test_on_commit_is_not_called_for_a_synchronous_commit(kit):
    """Surprise: the result of a synchronous commit goes to its caller alone."""
    reports = []
    _, _, consumer = _reader(kit, on_commit=lambda error, offsets: reports.append(error))
    kit.read(consumer, 1)
    consumer.commit(asynchronous=False)
    kit.poll_for(0.5, consumer)
    assert reports == []


def test_message_and_offsets_exclude_each_other(kit):
    """Only one of message and offsets may be given."""
    topic, _, consumer = _reader(kit)
    (message,) = kit.read(consumer, 1)
    with pytest.raises(ValueError, match="mutually exclusive"):
        consumer.commit(message=message, offsets=[kit.at(topic, 0, 1)], asynchronous=False)


def test_automatic_commit_happens_at_close(kit):
    """enable.auto.commit: what was returned is committed when the consumer closes."""
    topic, group, consumer = _reader(kit, enable_auto_commit=True)
    kit.read(consumer, 3)
    consumer.close()
    assert _committed(kit, topic, group).offset == 3


def test_automatic_commit_happens_by_interval(kit):
    """auto.commit.interval.ms: it happens without close(), in the background."""
    topic, group, consumer = _reader(kit, count=2, enable_auto_commit=True, auto_commit_interval_ms=200)
    kit.read(consumer, 2)
    other = kit.consumer(group)
    kit.wait(lambda: other.committed([kit.at(topic)], timeout=20)[0].offset == 2, consumer)


def test_without_automatic_commit_close_commits_nothing(kit):
    """enable.auto.commit=false: close() leaves the offsets alone."""
    topic, group, consumer = _reader(kit)
    kit.read(consumer, 3)
    consumer.close()
    assert _committed(kit, topic, group).offset == -1001


def test_stored_offsets_are_what_automatic_commit_commits(kit):
    """enable.auto.offset.store=false: only store_offsets() decides, here one record less than was read."""
    topic, group, consumer = _reader(kit, enable_auto_commit=True, enable_auto_offset_store=False)
    messages = kit.read(consumer, 4)
    consumer.store_offsets(message=messages[2])
    consumer.close()
    assert _committed(kit, topic, group).offset == 3


def test_stored_offsets_are_what_a_plain_commit_commits(kit):
    """The same for commit() by hand, and store_offsets(offsets=) stores exactly what it is given."""
    topic, _, consumer = _reader(kit, enable_auto_offset_store=False)
    kit.read(consumer, 4)
    consumer.store_offsets(offsets=[kit.at(topic, 0, 1)])
    (committed,) = consumer.commit(asynchronous=False)
    assert committed.offset == 1


def test_store_offsets_needs_automatic_store_off(kit):
    """With enable.auto.offset.store=true (the default) storing by hand is refused."""
    topic, _, consumer = _reader(kit)
    kit.read(consumer, 1)
    with kit.fails("_INVALID_ARG", "StoreOffsets failed: Local: Invalid argument or configuration"):
        consumer.store_offsets(offsets=[kit.at(topic, 0, 1)])


def test_store_offsets_needs_an_assigned_partition(kit):
    """Only an assigned partition's offset can be stored."""
    topic, _, consumer = _reader(kit, enable_auto_offset_store=False)
    kit.read(consumer, 1)
    with kit.fails("_STATE", "StoreOffsets failed: Local: Erroneous state"):
        consumer.store_offsets(offsets=[kit.at(topic, 9, 1)])


def test_a_consumer_beside_an_active_group_cannot_commit(kit):
    """While a group has members, a consumer that only assigned by hand is not one of them."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 3)
    member = kit.consumer(group, [topic])
    kit.wait(lambda: member.assignment(), member)
    stranger = kit.assigned(topic, 0, 0, group=group)
    with kit.fails("UNKNOWN_MEMBER_ID", "Commit failed: Broker: Unknown member"):
        stranger.commit(offsets=[kit.at(topic, 0, 1)], asynchronous=False)


def test_groups_do_not_share_offsets(kit):
    """What one group commits another does not see."""
    topic, _, consumer = _reader(kit)
    kit.read(consumer, 2)
    consumer.commit(asynchronous=False)
    assert _committed(kit, topic, kit.group("other")).offset == -1001


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"message": 5}, "expected confluent_kafka.cimpl.Message"),
        ({"offsets": [5]}, "expected cimpl.TopicPartition"),
        ({"offsets": 5}, "requires list of TopicPartition"),
    ],
    ids=["message", "offsets", "no-list"],
)
def test_wrong_arguments_of_commit(kit, arguments, text):
    """A commit of anything else is a TypeError."""
    with pytest.raises(TypeError, match=text):
        kit.consumer().commit(**arguments)
