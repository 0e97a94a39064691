"""Where a partition begins and ends, and which offset belongs to a time."""

from __future__ import annotations

import pytest


def test_a_new_partition_is_empty(kit):
    """Both watermarks of a new partition are 0."""
    topic = kit.topic()
    assert kit.consumer().get_watermark_offsets(kit.at(topic)) == (0, 0)


def test_the_high_watermark_counts_acknowledged_records(kit):
    """After five records with acks=all a consumer sees (0, 5)."""
    topic = kit.topic()
    kit.fill(topic, 5)
    assert kit.consumer().get_watermark_offsets(kit.at(topic)) == (0, 5)


def test_each_partition_counts_for_itself(kit):
    """Offsets of one partition do not touch another's."""
    topic = kit.topic(partitions=3)
    kit.fill(topic, 4, partition=1)
    consumer = kit.consumer()
    assert [consumer.get_watermark_offsets(kit.at(topic, p)) for p in range(3)] == [(0, 0), (0, 4), (0, 0)]


def test_cached_watermarks_are_unknown_before_a_fetch(kit):
    """cached=True asks nobody: both are OFFSET_INVALID until something was fetched."""
    topic = kit.topic()
    invalid = kit.ck.OFFSET_INVALID
    assert kit.consumer().get_watermark_offsets(kit.at(topic), cached=True) == (invalid, invalid)


def test_cached_watermarks_follow_the_fetches(kit):
    """Once records came, the cached high watermark is the one of the last fetch."""
    topic = kit.topic()
    kit.fill(topic, 3)
    consumer = kit.assigned(topic)
    kit.read(consumer, 3)
    _, high = consumer.get_watermark_offsets(kit.at(topic), cached=True)
    assert high == 3


@pytest.mark.parametrize("partition", [7, 100])
def test_watermarks_of_an_unknown_partition(kit, partition):
    """The client knows the partition count and refuses without asking a leader."""
    topic = kit.topic()
    with kit.fails("_UNKNOWN_PARTITION", "Failed to get watermark offsets: Local: Unknown partition"):
        kit.consumer().get_watermark_offsets(kit.at(topic, partition), timeout=10)


def test_deleted_records_move_the_low_watermark(kit):
    """After DeleteRecords up to 2 the partition begins at 2; offsets stay what they were."""
    topic = kit.topic()
    kit.fill(topic, 5)
    kit.result(kit.admin().delete_records([kit.at(topic, 0, 2)]))
    consumer = kit.assigned(topic, 0, kit.ck.OFFSET_BEGINNING)
    assert consumer.get_watermark_offsets(kit.at(topic)) == (2, 5)
    assert [m.offset() for m in kit.read(consumer, 3)] == [2, 3, 4]


def _timed(kit):
    """A partition with records at 1000, 2000, 3000 ms."""
    topic = kit.topic()
    producer = kit.producer()
    for index in range(3):
        kit.send(topic, producer=producer, timestamp=1000 * (index + 1))
    return topic


@pytest.mark.parametrize(
    ("time_ms", "offset"), [(0, 0), (1000, 0), (1001, 1), (2000, 1), (2999, 2), (3000, 2), (3001, -1)]
)
def test_the_offset_for_a_time_is_the_first_not_before_it(kit, time_ms, offset):
    """offsets_for_times answers the first record at or after the time; OFFSET_END where none is."""
    topic = _timed(kit)
    (found,) = kit.consumer().offsets_for_times([kit.at(topic, 0, time_ms)], timeout=10)
    assert (found.topic, found.partition, found.offset) == (topic, 0, offset)


def test_offsets_for_times_with_records_out_of_order(kit):
    """Timestamps need not grow: the answer is the first offset whose timestamp is late enough."""
    topic = kit.topic()
    producer = kit.producer()
    for timestamp in (5000, 1000, 3000, 6000):
        kit.send(topic, producer=producer, timestamp=timestamp)
    consumer = kit.consumer()
    found = [consumer.offsets_for_times([kit.at(topic, 0, t)], timeout=10)[0].offset for t in (500, 2000, 5500)]
    assert found == [0, 0, 3]


def test_offsets_for_times_of_several_partitions(kit):
    """One call answers for many partitions, each for itself; what was found carries its leader epoch."""
    topic = kit.topic(partitions=2)
    kit.send(topic, partition=0, timestamp=1000)
    found = kit.consumer().offsets_for_times([kit.at(topic, 0, 500), kit.at(topic, 1, 500)], timeout=10)
    assert [(each.partition, each.offset) for each in found] == [(0, 0), (1, kit.ck.OFFSET_END)]
    assert found[0].leader_epoch == 0
    assert found[0].error is None


def test_offsets_for_no_times(kit):
    """An empty list is refused by the client."""
    with kit.fails("_INVALID_ARG", "Failed to get offsets: Local: Invalid argument or configuration"):
        kit.consumer().offsets_for_times([], timeout=10)


def test_offsets_for_times_of_an_unknown_partition(kit):
    """A partition that the topic does not have fails the whole call."""
    topic = kit.topic()
    with kit.fails("_UNKNOWN_PARTITION", "Failed to get offsets: Local: Unknown partition"):
        kit.consumer().offsets_for_times([kit.at(topic, 9, 0)], timeout=10)


@pytest.mark.parametrize(
    ("which", "offset", "timestamp"),
    [("earliest", 0, -1), ("latest", 3, -1), ("max_timestamp", 2, 3000)],
)
def test_list_offsets_of_the_admin_client(kit, which, offset, timestamp):
    """earliest and latest carry no timestamp (-1); max_timestamp names the record's own."""
    topic = _timed(kit)
    spec = getattr(kit.ck.admin.OffsetSpec, which)()
    found = kit.result(kit.admin().list_offsets({kit.at(topic): spec}))
    assert (found.offset, found.timestamp) == (offset, timestamp)


@pytest.mark.parametrize(("time_ms", "offset", "timestamp"), [(1500, 1, 2000), (9000, -1, -1)])
def test_list_offsets_for_a_time(kit, time_ms, offset, timestamp):
    """for_timestamp answers offset and timestamp of the record found; -1 and -1 where none is."""
    topic = _timed(kit)
    spec = kit.ck.admin.OffsetSpec.for_timestamp(time_ms)
    found = kit.result(kit.admin().list_offsets({kit.at(topic): spec}))
    assert (found.offset, found.timestamp) == (offset, timestamp)


def test_max_timestamp_is_of_the_largest_not_of_the_last(kit):
    """max_timestamp finds the record with the largest timestamp wherever it is."""
    topic = kit.topic()
    producer = kit.producer()
    for timestamp in (1000, 9000, 2000):
        kit.send(topic, producer=producer, timestamp=timestamp)
    found = kit.result(kit.admin().list_offsets({kit.at(topic): kit.ck.admin.OffsetSpec.max_timestamp()}))
    assert (found.offset, found.timestamp) == (1, 9000)


def test_list_offsets_of_an_unknown_partition(kit):
    """Nobody leads it: _NOENT once the client has looked for leaders."""
    topic = kit.topic()
    with kit.fails("_NOENT", "Failed to query partition leaders: No leaders found"):
        kit.result(kit.admin().list_offsets({kit.at(topic, 7): kit.ck.admin.OffsetSpec.latest()}, request_timeout=5))


def test_the_handle_describes_offsets(kit):
    """describe_topic of the handle shows log start, high watermark and log end."""
    topic = kit.topic(partitions=2)
    kit.fill(topic, 4)
    kit.wait(lambda: kit.cluster.describe_topic(topic)[0].high_watermark == 4)
    first, second = kit.cluster.describe_topic(topic)
    assert (first.log_start_offset, first.high_watermark, first.log_end_offset) == (0, 4, 4)
    assert (second.log_start_offset, second.high_watermark, second.log_end_offset) == (0, 0, 0)
