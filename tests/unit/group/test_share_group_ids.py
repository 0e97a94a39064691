"""What a shard of classic and consumer groups says where a share group has the name."""

from __future__ import annotations

import pytest
from tests.unit.group.shard_driver import T0, ShardDriver

from kafkasim.core.group.share_shard import ShareGroupSettings, ShareGroupShard
from kafkasim.core.model.consumer_group_messages import ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    UNCOMMITTED,
    DescribeGroupsRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
)
from kafkasim.core.model.share_messages import ShareGroupHeartbeatRequest


@pytest.fixture
def driver():
    driver = ShardDriver()
    driver.share_groups.append("g")
    yield driver
    assert driver.shard.groups == {}, "no group was made of that name"
    assert driver.log == []


def test_members_of_the_classic_protocol(driver):
    """A join, known or not, hears that the protocols do not go together; for the rest there is no such member."""
    for member_id in ("", "somebody"):
        response = driver.join(member_id, "join")
        assert (response.error, response.member_id) == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "")
    assert driver.sync("somebody", 1, "sync").error is ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.heartbeat("somebody", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    ((_, error),) = driver.leave("somebody").members
    assert error is ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("epoch", [0, 3, -1], ids=["joins", "beats", "leaves"])
def test_members_of_the_consumer_protocol(driver, epoch):
    """There is no consumer group of this name, whatever the member wants."""
    joins = {"rebalance_timeout_ms": 5000, "subscribed_topic_names": ("calls",), "topic_partitions": ()}
    request = ConsumerGroupHeartbeatRequest("g", "m", epoch, **(joins if epoch == 0 else {}))
    response = driver.ask(request, "beat")
    assert response.error is ErrorCode.GROUP_ID_NOT_FOUND
    assert response.error_message == "Group g is not a consumer group."


@pytest.mark.parametrize("generation", [-1, 1])
def test_commits(driver, generation):
    """Nobody commits offsets, not even who belongs to no group."""
    assert driver.commit_offset("", generation) is ErrorCode.GROUP_ID_NOT_FOUND


def test_offsets(driver):
    """There are none to fetch, which is no error, and none to delete, which is one."""
    assert driver.ask(OffsetFetchRequest("g", (T0,)), "fetch").partitions == ((T0, UNCOMMITTED, ErrorCode.NONE),)
    assert driver.ask(OffsetFetchRequest("g", None), "fetch-all").partitions == ()
    assert driver.ask(OffsetDeleteRequest("g", (T0,)), "delete").error is ErrorCode.GROUP_ID_NOT_FOUND


def test_descriptions(driver):
    """Not a consumer group, and not a living classic group."""
    (described,) = driver.ask(ConsumerGroupDescribeRequest(("g",)), "describe").groups
    assert (described.error, described.error_message) == (
        ErrorCode.GROUP_ID_NOT_FOUND,
        "Group g is not a consumer group.",
    )
    (described,) = driver.ask(DescribeGroupsRequest(("g",)), "describe-classic").groups
    assert (described.error, described.group_state) == (ErrorCode.NONE, "Dead")


@pytest.mark.parametrize("epoch", [0, 3, -1], ids=["joins", "beats", "leaves"])
def test_members_of_share_groups(epoch):
    """The other way round: where a group of another type has the name, there is no share group."""
    shard = ShareGroupShard(lambda group_id: ShareGroupSettings(), lambda name: None, lambda group_id: True, 0)
    shard.on_heartbeat(ShareGroupHeartbeatRequest("g", "m", epoch, None, ("calls",)), "/host", "beat", 0)
    (answer,) = shard.effects
    assert answer.response.error is ErrorCode.GROUP_ID_NOT_FOUND
    assert answer.response.error_message == "Group g is not a share group."
    assert shard.groups == {}
