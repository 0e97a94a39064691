"""Committed offsets: who may commit, what is kept, what a fail-over finds again, and when it expires."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.group.shard_driver import T0, T1, ShardDriver

from kafkasim.core.group.partitioning import coordinator_partition, java_string_hash
from kafkasim.core.group.records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    decode_assignment,
    decode_group_value,
    decode_key,
    decode_offset_value,
    decode_subscription,
    encode_assignment,
    encode_group_key,
    encode_group_value,
    encode_offset_key,
    encode_offset_value,
    encode_subscription,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    Assignment,
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    OffsetAndMetadata,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    Subscription,
)
from kafkasim.core.model.ids import TopicPartition

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "coordinator_partition.json"


def fetched(driver: ShardDriver, *tps: TopicPartition) -> list[int]:
    response = driver.ask(OffsetFetchRequest("g", tps or None), "fetch")
    return [value.offset for _, value, _ in response.partitions]


@pytest.mark.parametrize(
    ("who", "generation", "error"),
    [
        ("member", 1, ErrorCode.NONE),
        ("member", 0, ErrorCode.ILLEGAL_GENERATION),
        ("stranger", 1, ErrorCode.UNKNOWN_MEMBER_ID),
        ("", -1, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_commits_to_a_stable_group(who: str, generation: int, error: ErrorCode) -> None:
    """Only a member of the current generation may."""
    driver = ShardDriver()
    members = driver.stable_group()
    assert driver.commit_offset(members[0] if who == "member" else who, generation) is error
    assert fetched(driver, T0) == [5 if error is ErrorCode.NONE else -1]


def test_commits_while_the_group_rebalances() -> None:
    """Before the barrier falls a commit of the old generation is taken; between join and sync it has to wait."""
    driver = ShardDriver()
    members = driver.stable_group()
    newcomer = driver.new_member("id9")
    driver.join(newcomer, "join9")
    assert driver.commit_offset(members[0], 1) is ErrorCode.NONE
    for index, member_id in enumerate(members):
        driver.join(member_id, f"again{index}")
    assert driver.commit_offset(members[0], 2) is ErrorCode.REBALANCE_IN_PROGRESS


def test_commits_from_outside() -> None:
    """A group without members takes them from anybody, and exists from then on."""
    driver = ShardDriver()
    assert driver.commit_offset("", 3) is ErrorCode.GROUP_ID_NOT_FOUND
    assert driver.commit_offset("", -1) is ErrorCode.NONE
    described = driver.ask(DescribeGroupsRequest(("g",)), "describe").groups[0]
    assert (described.group_state, described.protocol_type) == ("Empty", "")


@pytest.mark.parametrize(
    ("tp", "metadata", "error"),
    [
        (TopicPartition("gone", 0), "", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (T0, "x" * 4097, ErrorCode.OFFSET_METADATA_TOO_LARGE),
        (T0, "x" * 4096, ErrorCode.NONE),
    ],
)
def test_what_may_be_committed(tp: TopicPartition, metadata: str, error: ErrorCode) -> None:
    """Per partition."""
    assert ShardDriver().commit_offset("", -1, tp=tp, metadata=metadata) is error


def test_a_commit_counts_when_it_is_committed() -> None:
    """Until its record is replicated, nobody sees it; if it cannot be, the client is told to look for the coordinator."""
    driver = ShardDriver()
    driver.held = []
    assert driver.ask(OffsetCommitRequest("g", -1, "", None, ((T0, OffsetAndMetadata(7)),)), "commit") is None
    assert fetched(driver, T0) == [-1]
    driver.commit(driver.held.pop())
    driver.held = None
    driver.carry_out()
    assert fetched(driver, T0) == [7]
    driver.append_error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert driver.commit_offset("", -1, 9) is ErrorCode.NOT_COORDINATOR
    assert fetched(driver, T0) == [7]


def test_a_fail_over_finds_offsets_and_the_stable_group() -> None:
    """Members go on in their generation; a parked join would have to be sent again."""
    driver = ShardDriver()
    members = driver.stable_group()
    driver.commit_offset(members[0], 1, 11)
    driver.commit_offset(members[1], 1, 22, T1)
    driver.fail_over()
    assert fetched(driver, T0, T1) == [11, 22]
    assert fetched(driver) == [11, 22]
    assert driver.state == "Stable"
    assert driver.heartbeat(members[0], 1) is ErrorCode.NONE
    assert driver.sync(members[1], 1, "sync").assignment == Assignment((T1,))


def test_deleting_offsets_and_groups() -> None:
    """Not what somebody reads, not a group with members."""
    driver = ShardDriver()
    members = driver.stable_group(1)
    driver.commit_offset(members[0], 1)
    deleted = driver.ask(OffsetDeleteRequest("g", (T0,)), "delete")
    assert deleted.partitions == ((T0, ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC),)
    assert driver.ask(DeleteGroupsRequest(("g", "other")), "groups").results == (
        ("g", ErrorCode.NON_EMPTY_GROUP),
        ("other", ErrorCode.GROUP_ID_NOT_FOUND),
    )
    driver.leave(members[0])
    assert driver.ask(OffsetDeleteRequest("g", (T0,)), "delete").partitions == ((T0, ErrorCode.NONE),)
    assert fetched(driver, T0) == [-1]
    assert driver.ask(DeleteGroupsRequest(("g",)), "groups").results == (("g", ErrorCode.NONE),)
    driver.fail_over()
    assert driver.shard.groups == {}


def test_a_deletion_is_answered_when_it_is_committed() -> None:
    """Of all groups that were asked for; whoever has the answer finds no offsets. A write that fails is the group's answer."""
    driver = ShardDriver()
    members = driver.stable_group(1)
    driver.commit_offset(members[0], 1)
    driver.leave(members[0])
    driver.held = []
    assert driver.ask(DeleteGroupsRequest(("g", "other")), "groups") is None
    assert fetched(driver, T0) == [5]
    while driver.held:
        assert "groups" not in driver.answers
        driver.commit(driver.held.pop(0))
        driver.carry_out()
    assert driver.answers["groups"].results == (("g", ErrorCode.NONE), ("other", ErrorCode.GROUP_ID_NOT_FOUND))
    assert fetched(driver, T0) == [-1]
    driver = ShardDriver()
    driver.leave(driver.stable_group(1)[0])
    driver.append_error = ErrorCode.NOT_ENOUGH_REPLICAS
    assert driver.ask(DeleteGroupsRequest(("g",)), "groups").results == (("g", ErrorCode.COORDINATOR_NOT_AVAILABLE),)


def test_offsets_expire_a_week_after_the_group_went_empty() -> None:
    """A live subscription keeps them."""
    driver = ShardDriver()
    members = driver.stable_group(1)
    driver.commit_offset(members[0], 1)
    driver.leave(members[0])
    driver.wait(6 * 24 * 3600)
    assert fetched(driver, T0) == [5]
    driver.wait(2 * 24 * 3600)
    assert fetched(driver, T0) == [-1]
    assert driver.shard.groups == {}


def test_offsets_of_a_deleted_topic_go_with_it() -> None:
    """Others stay."""
    driver = ShardDriver()
    driver.commit_offset("", -1, 3)
    driver.commit_offset("", -1, 4, TopicPartition("other", 0))
    driver.shard.on_topics_deleted(["calls"], driver.now_us)
    driver.carry_out()
    assert fetched(driver, T0, TopicPartition("other", 0)) == [-1, 4]


def test_records_survive_their_encoding() -> None:
    """What is decoded is what was encoded; a key that nobody knows is passed over."""
    member = MemberMetadata(
        "m-1", "i-1", "app", "/host", 1, 2, Subscription(("a", "b"), (T0,), 7, "rack", b"x"), Assignment((T0, T1), b"y")
    )
    value = GroupMetadataValue("consumer", 3, "range", "m-1", 123, (member,))
    assert decode_group_value(encode_group_value(value)) == value
    assert decode_key(encode_group_key("gruppe-ü")) == GroupMetadataKey("gruppe-ü")
    assert decode_key(encode_offset_key("g", T1)) == OffsetCommitKey("g", T1)
    decoded = decode_offset_value(encode_offset_value(OffsetAndMetadata(9, 2, "née"), 55))
    assert (decoded.committed, decoded.commit_timestamp_ms) == (OffsetAndMetadata(9, 2, "née"), 55)
    assert decode_key(b"\x00\x63rest") is None


def test_every_group_lives_where_kafka_puts_it() -> None:
    """Rows asked of a real broker."""
    observed = json.loads(GOLDEN.read_text())["observed"]
    assert len(observed) > 50
    for group_id, row in observed.items():
        assert coordinator_partition(group_id, 10) == row["p10"], group_id
        assert coordinator_partition(group_id, 50) == row["p50"], group_id


@pytest.mark.parametrize(("text", "value"), [("", 0), ("a", 97), ("polygenelubricants", -(1 << 31)), ("😀", 1772899)])
def test_java_hashes(text: str, value: int) -> None:
    """Over UTF-16 units, 32 bits, signed; the smallest one has no absolute value and counts as 0."""
    assert java_string_hash(text) == value
    if value == -(1 << 31):
        assert coordinator_partition(text, 50) == 0


def test_an_offset_has_the_bytes_of_a_real_broker() -> None:
    """As Kafka 4.3 wrote it: version 4, the metadata with the client's NUL, the topic's id as a tagged field."""
    written = bytes.fromhex(
        "0004 0000000000000002 00000000 06 6ec3a46800 000001a1fe914744 01 00 10 8e703b79375542e48513c701d5b1e5e2"
    )
    found = decode_offset_value(written)
    assert found.committed == OffsetAndMetadata(2, 0, "n\u00e4h\0")
    assert (found.commit_timestamp_ms, found.topic_id) == (1795272296260, "jnA7eTdVQuSFE8cB1bHl4g")
    assert encode_offset_value(found.committed, found.commit_timestamp_ms, found.topic_id) == written


def test_an_offset_of_an_unknown_topic_has_no_id() -> None:
    """No tagged field then; metadata may be long, their length is a varint of more than one byte."""
    written = encode_offset_value(OffsetAndMetadata(1, -1, "x" * 300), 7)
    assert written[14:16] == b"\xad\x02"
    assert written[-1:] == b"\0"
    found = decode_offset_value(written)
    assert (found.committed.metadata, found.commit_timestamp_ms, found.topic_id) == ("x" * 300, 7, "")


def test_a_member_has_the_bytes_that_a_real_client_wrote() -> None:
    """A subscription of version 3 without a rack, an assignment of version 0."""
    subscription = bytes.fromhex("0003 00000001 0001 74 00000000 00000000 ffffffff 0000")
    assert encode_subscription(Subscription(("t",), rack_id="")) == subscription
    assert decode_subscription(subscription) == Subscription(("t",), rack_id="")
    assignment = bytes.fromhex("0000 00000001 0001 74 00000002 00000002 00000003 00000000")
    given = Assignment((TopicPartition("t", 2), TopicPartition("t", 3)))
    assert encode_assignment(given) == assignment
    assert decode_assignment(assignment) == given
