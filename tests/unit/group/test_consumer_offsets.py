"""Offsets of consumer groups: member epochs in commits and fetches, what may be deleted, what expires."""

from __future__ import annotations

import pytest
from tests.unit.group.consumer_member import Member, group_of, settle
from tests.unit.group.shard_driver import ShardDriver

from kafkasim.core.group.runtime import ConsumerGroupSettings
from kafkasim.core.group.shard import GroupSettings
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    DeleteGroupsRequest,
    OffsetAndMetadata,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
)
from kafkasim.core.model.ids import TopicPartition

NONE, STALE, UNKNOWN = ErrorCode.NONE, ErrorCode.STALE_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID
OTHER = TopicPartition("other", 0)
DAY = 24 * 3600


def stable(session_timeout_ms: int = 45_000) -> tuple[ShardDriver, list[Member]]:
    """m0 since epoch 2, m1 since epoch 3, each on four partitions."""
    driver = ShardDriver(GroupSettings(consumer=ConsumerGroupSettings(session_timeout_ms)))
    driver.wait(1)
    members = [Member(driver, f"m{number}") for number in range(2)]
    for member in members:
        member.beat()
    settle(driver, members)
    return driver, members


def commit(driver: ShardDriver, member_id: str, epoch: int, *tps: TopicPartition) -> list[ErrorCode]:
    offsets = tuple((tp, OffsetAndMetadata(5)) for tp in tps)
    answer = driver.ask(OffsetCommitRequest("g", epoch, member_id, None, offsets), "commit")
    return [error for _, error in answer.partitions]


def fetch(driver: ShardDriver, member_id: str | None, epoch: int, tp: TopicPartition) -> ErrorCode | int:
    answer = driver.ask(OffsetFetchRequest("g", (tp,), True, member_id, epoch), "fetch")
    error: ErrorCode = answer.error
    return answer.partitions[0][1].offset if error is NONE else error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("who", "epoch", "errors"),
    [
        ("m0", 3, [NONE, NONE]),  # its own epoch: any partition, also another's
        ("m0", 4, [STALE, STALE]),
        ("m0", 2, [STALE, STALE]),  # the second is not its own since epoch 2
        ("m0", -1, [STALE, STALE]),
        ("stranger", 3, [UNKNOWN, UNKNOWN]),
        ("", -1, [UNKNOWN, UNKNOWN]),
    ],
)
def test_who_may_commit(who: str, epoch: int, errors: list[ErrorCode]) -> None:
    """A member in its epoch may commit anything; one partition that an older epoch does not cover refuses the whole commit."""
    driver, members = stable()
    tps = [members[0].partitions[0], members[1].partitions[0]]
    assert commit(driver, who, epoch, *tps) == errors
    assert (fetch(driver, None, -1, tps[0]) == 5) is (errors[0] is NONE)


def test_an_older_epoch_may_commit_what_it_covers() -> None:
    """Partitions that the member has had since that epoch, also those that it must give up."""
    driver, members = stable()
    held = members[0].partitions[0]
    assert commit(driver, "m0", 2, held) == [NONE]
    assert commit(driver, "m0", 1, held) == [STALE]
    assert commit(driver, "m1", 2, members[1].partitions[0]) == [STALE]
    members[0].stuck = True
    third = Member(driver, "m2")
    third.beat()
    members[0].beat()
    pending = group_of(driver).members["m0"].pending_revocation
    (revoked,) = [part for parts in pending.values() for part in list(parts)[:1]]
    assert commit(driver, "m0", 2, TopicPartition("calls", revoked)) == [NONE]


def test_unknown_partitions_have_an_error_of_their_own() -> None:
    """They do not refuse the others."""
    driver, members = stable()
    gone = TopicPartition("gone", 0)
    assert commit(driver, "m0", 3, members[0].partitions[0], gone) == [NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


@pytest.mark.parametrize(
    ("who", "epoch", "outcome"),
    [("m0", 3, -1), ("m0", 2, STALE), ("m0", 9, STALE), ("stranger", 3, UNKNOWN), (None, -1, -1), (None, 3, UNKNOWN)],
)
def test_who_may_fetch(who: str | None, epoch: int, outcome: ErrorCode | int) -> None:
    """A member in its epoch, or nobody in particular."""
    driver, members = stable()
    assert fetch(driver, who, epoch, members[0].partitions[0]) == outcome


def test_an_empty_group_takes_commits_from_outside() -> None:
    """As tools send them; with members in it, it refuses them."""
    driver, members = stable()
    for member in members:
        member.leave()
    assert commit(driver, "", -1, OTHER) == [NONE]


def test_offsets_of_subscribed_topics_stay() -> None:
    """GROUP_SUBSCRIBED_TO_TOPIC; others may be deleted while there are members."""
    driver, members = stable()
    held = members[0].partitions[0]
    commit(driver, "m0", 3, held, OTHER)
    answer = driver.ask(OffsetDeleteRequest("g", (held, OTHER)), "delete")
    assert dict(answer.partitions) == {held: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, OTHER: NONE}
    assert (fetch(driver, None, -1, held), fetch(driver, None, -1, OTHER)) == (5, -1)


def test_only_empty_groups_are_deleted() -> None:
    """NON_EMPTY_GROUP until the last member is gone; then group and offsets go, and stay gone."""
    driver, members = stable()
    commit(driver, "m0", 3, members[0].partitions[0])
    delete = DeleteGroupsRequest(("g",))
    assert driver.ask(delete, "delete").results == (("g", ErrorCode.NON_EMPTY_GROUP),)
    for member in members:
        member.leave()
    assert driver.ask(delete, "delete").results == (("g", NONE),)
    assert "g" not in driver.shard.groups
    driver.fail_over()
    assert driver.shard.groups == {}
    assert driver.ask(delete, "delete").results == (("g", ErrorCode.GROUP_ID_NOT_FOUND),)


def test_offsets_expire_from_their_commit() -> None:
    """Only those of topics that nobody subscribes to, whether the group is in use or not."""
    driver, members = stable(session_timeout_ms=3_600_000)
    held = members[0].partitions[0]
    commit(driver, "m0", 3, held, OTHER)
    for _ in range(8 * 24 * 2):
        driver.wait(1800)
        for member in members:
            member.beat()
    assert (fetch(driver, None, -1, held), fetch(driver, None, -1, OTHER)) == (5, -1)


def test_a_group_goes_with_its_last_offset() -> None:
    """Empty, and all that it committed is past its retention."""
    driver, members = stable()
    commit(driver, "m0", 3, OTHER)
    for member in members:
        member.leave()
    driver.wait(6 * DAY)
    assert "g" in driver.shard.groups
    driver.wait(1.1 * DAY)
    assert "g" not in driver.shard.groups
