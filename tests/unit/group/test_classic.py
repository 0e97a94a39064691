"""Classic groups: the barrier, generations, sessions, static members, as tables of inputs and answers."""

from __future__ import annotations

import pytest
from tests.unit.group.shard_driver import T0, T1, ShardDriver

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import Assignment, JoinGroupRequest, Subscription

_RANGE = (("range", Subscription(("calls",))),)


def test_a_first_join_is_sent_back_with_an_id() -> None:
    """MEMBER_ID_REQUIRED; the id carries the client id, and blocks nobody for ever."""
    driver = ShardDriver()
    response = driver.join("", "a")
    assert response.error is ErrorCode.MEMBER_ID_REQUIRED
    assert response.member_id.startswith("app-")


def test_an_empty_group_waits_for_its_first_members() -> None:
    """The initial rebalance delay of 3 s is extended once while members keep coming."""
    driver = ShardDriver()
    first = driver.new_member("id1")
    driver.join(first, "join1")
    driver.wait(2.0)
    second = driver.new_member("id2")
    driver.join(second, "join2")
    driver.wait(2.0)
    assert "join1" not in driver.answers
    driver.wait(2.1)
    assert [driver.answers[name].generation_id for name in ("join1", "join2")] == [1, 1]


def test_only_the_leader_gets_the_members() -> None:
    """The first to join leads."""
    driver = ShardDriver()
    members = driver.stable_group()
    assert driver.answers["join0"].leader == driver.answers["join1"].leader == members[0]
    assert [member.member_id for member in driver.answers["join0"].members] == members
    assert driver.answers["join1"].members == ()


def test_sync_hands_out_what_the_leader_decided() -> None:
    """Followers wait for the leader; all get their own part."""
    driver = ShardDriver()
    driver.stable_group()
    assert driver.answers["sync0"].assignment == Assignment((T0,))
    assert driver.answers["sync1"].assignment == Assignment((T1,))


def test_a_newcomer_makes_everybody_join_again() -> None:
    """Heartbeats say REBALANCE_IN_PROGRESS; the barrier falls when the last has joined."""
    driver = ShardDriver()
    members = driver.stable_group()
    newcomer = driver.new_member("id9")
    assert driver.join(newcomer, "join9") is None
    assert driver.state == "PreparingRebalance"
    assert driver.heartbeat(members[0], 1) is ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.join(members[0], "again0") is None
    driver.join(members[1], "again1")
    assert {driver.answers[name].generation_id for name in ("join9", "again0", "again1")} == {2}
    assert driver.state == "CompletingRebalance"


def test_who_does_not_join_in_time_is_out() -> None:
    """After the rebalance timeout the barrier falls without the missing member."""
    driver = ShardDriver()
    members = driver.stable_group()
    newcomer = driver.new_member("id9")
    driver.join(newcomer, "join9")
    for _ in range(8):
        driver.wait(8.0)
        driver.heartbeat(members[1], 1)
    assert driver.answers["join9"].generation_id == 2
    assert list(driver.shard.groups["g"].members) == [newcomer]


@pytest.mark.parametrize(
    ("member", "generation", "error"),
    [
        ("own", 1, ErrorCode.NONE),
        ("own", 0, ErrorCode.ILLEGAL_GENERATION),
        ("own", 2, ErrorCode.ILLEGAL_GENERATION),
        ("stranger", 1, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_heartbeats_in_a_stable_group(member: str, generation: int, error: ErrorCode) -> None:
    """Who asks, and with which generation, decides."""
    driver = ShardDriver()
    members = driver.stable_group()
    assert driver.heartbeat(members[0] if member == "own" else member, generation) is error


def test_a_silent_member_loses_its_session() -> None:
    """After session.timeout.ms without a sign of life the others rebalance."""
    driver = ShardDriver()
    members = driver.stable_group()
    driver.wait(6.0)
    assert driver.heartbeat(members[0], 1) is ErrorCode.NONE
    driver.wait(6.0)
    assert list(driver.shard.groups["g"].members) == [members[0]]
    assert driver.heartbeat(members[0], 1) is ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.heartbeat(members[1], 1) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_member_that_leaves_starts_a_rebalance_at_once() -> None:
    """No session is waited for; when the last has left the group is empty, one generation on."""
    driver = ShardDriver()
    members = driver.stable_group()
    assert driver.leave(members[1]).members[0][1] is ErrorCode.NONE
    assert driver.state == "PreparingRebalance"
    assert driver.leave(members[1], "twice").members[0][1] is ErrorCode.UNKNOWN_MEMBER_ID
    driver.leave(members[0], "last")
    assert driver.state == "Empty"
    assert driver.generation == 2


def test_a_leader_that_joins_a_stable_group_rebalances_it() -> None:
    """A follower with the same subscription gets its generation back; the leader may have seen new partitions."""
    driver = ShardDriver()
    members = driver.stable_group()
    assert driver.join(members[1], "follower").generation_id == 1
    assert driver.state == "Stable"
    assert driver.join(members[0], "leader") is None
    assert driver.state == "PreparingRebalance"


def test_a_member_that_never_syncs_is_removed() -> None:
    """The sync must come within the rebalance timeout, though the group is stable as soon as the leader's has."""
    driver = ShardDriver()
    members = [driver.new_member("id0"), driver.new_member("id1")]
    for index, member_id in enumerate(members):
        driver.join(member_id, f"join{index}")
    driver.wait(6.5)
    driver.sync(members[0], 1, "sync0", {})
    assert driver.state == "Stable"
    for _ in range(7):
        driver.wait(9.0)
        for member_id in list(driver.shard.groups["g"].members):
            driver.heartbeat(member_id, 1)
    assert list(driver.shard.groups["g"].members) == members[:1]
    assert driver.state == "PreparingRebalance"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"session_timeout_ms": 10}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_timeout_ms": 2_000_000}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"member_id": "ghost"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"protocols": ()}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
    ],
)
def test_joins_that_are_refused(change: dict[str, object], error: ErrorCode) -> None:
    """Each for its own reason."""
    fields: dict[str, object] = {
        "group_id": "g",
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 60_000,
        "member_id": "",
        "group_instance_id": None,
        "protocol_type": "consumer",
        "protocols": _RANGE,
    }
    request = JoinGroupRequest(**{**fields, **change})  # type: ignore[arg-type]
    assert ShardDriver().ask(request, "join").error is error


def test_no_common_protocol() -> None:
    """A member that could not agree with the others is kept out."""
    driver = ShardDriver()
    driver.stable_group(1)
    request = JoinGroupRequest(
        "g", 10_000, 60_000, "", None, "consumer", (("cooperative-sticky", Subscription(("calls",))),)
    )
    assert driver.ask(request, "join").error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_alone_with_other_protocols() -> None:
    """A member counts with what it brought before: it cannot come back with nothing of that, even if it is alone."""
    driver = ShardDriver()
    (member_id,) = driver.stable_group(1)
    other = (("cooperative-sticky", Subscription(("calls",))),)
    again = JoinGroupRequest("g", 10_000, 60_000, member_id, None, "consumer", other)
    assert driver.ask(again, "again").error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    both = JoinGroupRequest("g", 10_000, 60_000, member_id, None, "consumer", (*again.protocols, *_RANGE))
    assert driver.ask(both, "both").error is ErrorCode.NONE
    assert driver.ask(again, "now").error is ErrorCode.NONE
    driver.shard.groups["g"].check()


def static_member(driver: ShardDriver) -> str:
    driver.join("", "join", "i1")
    driver.wait(3.5)
    member_id: str = driver.answers["join"].member_id
    driver.sync(member_id, 1, "sync", {member_id: Assignment((T0,))})
    return member_id


def test_a_static_member_comes_back_without_a_rebalance() -> None:
    """A new process with the same instance id takes over id, generation and assignment."""
    driver = ShardDriver()
    old = static_member(driver)
    response = driver.join("", "back", "i1")
    assert response.error is ErrorCode.NONE
    assert response.generation_id == 1
    assert response.member_id != old
    assert response.skip_assignment
    assert driver.state == "Stable"
    assert driver.sync(response.member_id, 1, "resync").assignment == Assignment((T0,))


def test_the_old_process_of_a_static_member_is_fenced() -> None:
    """It still names the instance, with an id that is no longer the instance's."""
    from kafkasim.core.model.group_messages import HeartbeatRequest

    driver = ShardDriver()
    old = static_member(driver)
    driver.join("", "back", "i1")
    assert driver.ask(HeartbeatRequest("g", 1, old, "i1"), "beat").error is ErrorCode.FENCED_INSTANCE_ID


def test_a_group_whose_record_cannot_be_written_is_not_stable() -> None:
    """The syncs fail and the members join again."""
    driver = ShardDriver()
    member_id = driver.new_member("id")
    driver.join(member_id, "join")
    driver.wait(3.5)
    driver.append_error = ErrorCode.NOT_ENOUGH_REPLICAS
    assert driver.sync(member_id, 1, "sync", {}).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert driver.state == "PreparingRebalance"


def test_unloading_answers_whatever_is_parked() -> None:
    """NOT_COORDINATOR sends the members to the new one."""
    driver = ShardDriver()
    member_id = driver.new_member("id")
    driver.join(member_id, "join")
    driver.shard.unload(driver.now_us)
    driver.carry_out()
    assert driver.answers["join"].error is ErrorCode.NOT_COORDINATOR


def test_a_new_group_is_in_the_log_from_its_first_join() -> None:
    """A new coordinator knows it, empty; where the log refuses it, there is no group and the join fails."""
    driver = ShardDriver()
    driver.new_member("first")
    driver.fail_over()
    assert driver.state == "Empty"
    refused = ShardDriver()
    refused.append_error = ErrorCode.NOT_ENOUGH_REPLICAS
    static = refused.join("", "static", instance_id="i0")
    assert static.error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert refused.shard.groups == {}
