"""What brokers write of groups into `__consumer_offsets`: which records, and that ours have the same bytes as theirs."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conformance.groups import CONSUMER, COOPERATIVE, QUICK, RANGE, joined, member, settled

from kafkasim.core.group import consumer_records, records
from kafkasim.core.group.java_order import uuid_bits

pytestmark = pytest.mark.kafka(**{**QUICK, "config": {**QUICK["config"], "offsets.topic.num.partitions": 1}})


def _log(kit: Any, *groups: str) -> list[tuple[bytes, bytes | None]]:
    """Keys and values of all records about these groups."""
    reader = kit.consumer(enable_partition_eof=True)
    reader.assign([kit.ck.TopicPartition("__consumer_offsets", 0, 0)])
    found = []
    while (event := kit.event(reader)).error() is None:
        if any(group.encode() in event.key() for group in groups):
            found.append((event.key(), event.value()))
    reader.close()
    return found


def _decoded(key: bytes, value: bytes | None) -> tuple[str, Any, tuple[bytes, bytes | None]]:
    """What kind of record it is (a tombstone with a dash), what it says, and its bytes as we would write them."""
    named = records.decode_key(key)
    dash = "-" if value is None else ""
    if isinstance(named, records.OffsetCommitKey):
        own_key = records.encode_offset_key(named.group_id, named.tp)
        if value is None:
            return "-offset", None, (own_key, None)
        found = records.decode_offset_value(value)
        again = records.encode_offset_value(found.committed, found.commit_timestamp_ms, found.topic_id)
        return "offset", found, (own_key, again)
    if isinstance(named, records.GroupMetadataKey):
        own_key = records.encode_group_key(named.group_id)
        if value is None:
            return "-classic", None, (own_key, None)
        group = records.decode_group_value(value)
        return "classic", group, (own_key, records.encode_group_value(group))
    record = consumer_records.decode(key, value)
    assert record is not None, key
    return dash + type(record).__name__.removesuffix("Record"), record, consumer_records.encode(record)


def _kinds(kit: Any, group: str) -> list[str]:
    return [_decoded(key, value)[0] for key, value in _log(kit, group)]


def _commit(kit: Any, consumer: Any, topic: str, **fields: Any) -> None:
    consumer.commit(offsets=[kit.ck.TopicPartition(topic, 0, 1, **fields)], asynchronous=False)


def _delete(kit: Any, group: str) -> None:
    kit.result(kit.admin().delete_consumer_groups([group]))


def test_a_classic_group_from_its_first_member_to_its_deletion(kit):
    """Empty at first, then each generation whole; commits; tombstones at the end."""
    topic, group = kit.topic(), kit.group()
    consumer = joined(kit, RANGE, group, topic, count=1)
    _commit(kit, consumer, topic)
    consumer.close()
    _delete(kit, group)
    assert _kinds(kit, group) == ["classic", "classic", "offset", "classic", "-offset", "-classic"]


def test_a_consumer_group_from_its_first_member_to_its_deletion(kit):
    """A record for each thing that changes, in this order."""
    topic, group = kit.topic(), kit.group()
    kit.cluster.run_for(1.0)  # A coordinator that did not know the topic yet would assign twice.
    consumer = joined(kit, CONSUMER, group, topic, count=1)
    _commit(kit, consumer, topic)
    consumer.close()
    _delete(kit, group)
    join = ["Member", "GroupEpoch", "TargetMember", "TargetEpoch", "CurrentAssignment"]
    leave = ["-CurrentAssignment", "-TargetMember", "-Member", "GroupEpoch"]
    deletion = ["-offset", "-TargetEpoch", "-SubscriptionMetadata", "-GroupEpoch"]
    assert _kinds(kit, group) == [*join, "offset", *leave, *deletion]


def test_commits_without_members(kit):
    """Nothing of the group is written but its offsets; its deletion takes back both."""
    topic, group = kit.topic(), kit.group()
    _commit(kit, kit.consumer(group), topic)
    _delete(kit, group)
    assert _kinds(kit, group) == ["offset", "-offset", "-classic"]


def test_an_offset_names_its_topic_by_id_too(kit):
    """So that the offset of a topic which was deleted is not taken for one of another topic of that name."""
    topic, group = kit.topic(), kit.group()
    _commit(kit, kit.consumer(group), topic, metadata="näh", leader_epoch=0)
    ((key, value),) = _log(kit, group)
    _, found, _ = _decoded(key, value)
    named = kit.result(kit.admin().describe_topics(kit.ck.TopicCollection([topic])))
    most, least = (getattr(named.topic_id, name)() & (1 << 64) - 1 for name in _HALVES)
    assert uuid_bits(found.topic_id) == most << 64 | least
    assert (found.committed.offset, found.committed.leader_epoch) == (1, 0)
    assert found.committed.metadata == "näh\0"  # The client sends C's strings whole.


_HALVES = ("get_most_significant_bits", "get_least_significant_bits")


def test_every_record_of_every_kind_of_group_is_read_and_written_to_the_byte(kit):
    """Groups of all protocols, with racks, static members, a pattern, both protocols in one group, and tombstones."""
    topic = kit.topic(partitions=4)
    classic, sticky, newer, mixed = names = [kit.group(name) for name in ("classic", "sticky", "newer", "mixed")]
    members = []
    for group, kind, other_kind, pattern in (
        (classic, RANGE, RANGE, topic),
        (sticky, COOPERATIVE, COOPERATIVE, topic),
        (newer, CONSUMER, CONSUMER, f"^{topic}"),
        (mixed, RANGE, CONSUMER, topic),
    ):
        static = {"group.instance.id": "desk"} if group in (sticky, mixed) else {}
        first = joined(kit, kind, group, topic, count=4, client_rack="a" if group != mixed else "")
        second = member(kit, other_kind, group, pattern, **static)
        kit.wait(settled(first, 2, second, 2), first, second)
        _commit(kit, first, topic, metadata="x" * 200)
        members += [first, second]
    kit.poll_for(1, *members)
    for each in members:
        each.close()
    _delete(kit, classic)
    _delete(kit, newer)
    seen: dict[str, None] = {}
    for key, value in _log(kit, *names):
        kind, _, again = _decoded(key, value)
        seen[kind] = None
        assert again == (key, value), kind
    whole = "CurrentAssignment GroupEpoch Member Regex TargetEpoch TargetMember"
    dashed = [f"-{kind}" for kind in ("SubscriptionMetadata", *whole.split(), "classic", "offset")]
    assert sorted(seen) == sorted([*dashed, *whole.split(), "classic", "offset"])
