"""Consumer groups (KIP-848): joining, moving partitions, leaving, fencing, sessions, static members, fail-over."""

from __future__ import annotations

import pytest
from tests.unit.group.consumer_member import Member, group_of, settle
from tests.unit.group.shard_driver import FakeTopics, ShardDriver

from kafkasim.core.group.runtime import ConsumerGroupSettings
from kafkasim.core.group.shard import GroupSettings
from kafkasim.core.model.consumer_group_messages import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupHeartbeatRequest,
    TopicPartitions,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition

CALLS = [TopicPartition("calls", number) for number in range(8)]


def group(count: int, driver: ShardDriver | None = None, **kwargs: object) -> tuple[ShardDriver, list[Member]]:
    """A stable group of ``count`` members."""
    driver = driver or ShardDriver()
    members = [Member(driver, f"m{number}", **kwargs) for number in range(count)]  # type: ignore[arg-type]
    for member in members:
        assert member.beat() is ErrorCode.NONE
    settle(driver, members)
    assert group_of(driver).state == "Stable"
    return driver, members


def shares(members: list[Member]) -> list[int]:
    return [len(member.partitions) for member in members]


def test_the_first_member_gets_everything_in_epoch_two() -> None:
    """A new group begins with epoch 1; its first member moves it to 2 and has all partitions in its first answer."""
    driver = ShardDriver()
    member = Member(driver, "m0")
    answer = member.ask()
    assert answer is not None
    assert (answer.error, answer.member_epoch, answer.heartbeat_interval_ms) == (ErrorCode.NONE, 2, 5000)
    topic = driver.topics.named("calls")
    assert topic is not None
    assert answer.assignment == (TopicPartitions(topic.topic_id, tuple(range(8))),)


def test_who_joins_within_the_assignment_interval_waits_for_the_next_target() -> None:
    """The second member gets nothing at first, its share at its next heartbeat, and what is still owned later."""
    driver = ShardDriver()
    driver.wait(1)  # at time 0 the target would look as if nobody knew when it was made
    first, second = Member(driver, "m0"), Member(driver, "m1")
    first.beat()
    second.beat()
    assert (shares([first, second]), second.epoch, group_of(driver).state) == ([8, 0], 2, "Assigning")
    driver.wait(1)
    second.beat()
    assert (second.epoch, group_of(driver).state) == (3, "Reconciling")
    first.beat()
    assert shares([first, second]) == [4, 0]
    second.beat()
    assert shares([first, second]) == [4, 4]
    assert group_of(driver).state == "Stable"


def test_a_member_stays_in_its_epoch_until_it_has_given_up() -> None:
    """What it must give up stays its own as long as its heartbeats report it."""
    driver, (first,) = group(1)
    first.stuck = True
    second = Member(driver, "m1")
    second.beat()
    epoch = first.epoch
    first.beat()
    assert (first.epoch, second.epoch) == (epoch, epoch + 1)
    first.beat(full=True)
    second.beat()
    assert (first.epoch, shares([first, second])) == (epoch, [8, 0])
    first.stuck = False
    first.reconcile()
    second.beat()
    assert (first.epoch, second.epoch, shares([first, second])) == (epoch + 1, epoch + 1, [4, 4])


def test_a_member_that_does_not_give_up_is_fenced_after_its_rebalance_timeout() -> None:
    """Its partitions go to the others; its next heartbeat tells it."""
    driver, (first,) = group(1, rebalance_timeout_ms=10_000)
    first.stuck = True
    second = Member(driver, "m1")
    second.beat()
    first.beat()
    driver.wait(9)
    assert first.beat() is ErrorCode.NONE
    driver.wait(2)
    assert "m0" not in group_of(driver).members
    second.beat()
    assert shares([second]) == [8]
    assert first.beat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_leave_moves_the_epoch_and_the_next_heartbeat_the_partitions() -> None:
    """Nobody gets anything before it beats."""
    driver, members = group(3)
    epoch = group_of(driver).group_epoch
    assert members[0].leave() is ErrorCode.NONE
    assert (group_of(driver).group_epoch, group_of(driver).state) == (epoch + 1, "Assigning")
    settle(driver, members[1:])
    assert sorted(shares(members[1:])) == [4, 4]


def test_a_silent_member_is_fenced_when_its_session_ends() -> None:
    """After 45 seconds by default."""
    driver, (silent, other) = group(2)
    for _ in range(8):
        driver.wait(5)
        other.beat()
    assert "m0" in group_of(driver).members
    driver.wait(6)
    other.beat()
    assert shares([other]) == [8]
    assert silent.beat() is ErrorCode.UNKNOWN_MEMBER_ID
    assert silent.beat() is ErrorCode.NONE
    settle(driver, [silent, other])
    assert shares([silent, other]) == [4, 4]


def test_an_empty_group_keeps_its_epoch() -> None:
    """The last one out leaves it Empty; who comes next goes on counting."""
    driver, (member,) = group(1)
    member.leave()
    assert (group_of(driver).state, group_of(driver).group_epoch) == ("Empty", 3)
    driver.wait(2)
    member.beat()
    assert member.epoch == 4


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"member_epoch": 5}, ErrorCode.FENCED_MEMBER_EPOCH),
        ({"member_epoch": 1}, ErrorCode.FENCED_MEMBER_EPOCH),
        ({"member_id": "stranger"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"group_id": "none"}, ErrorCode.GROUP_ID_NOT_FOUND),
        ({"group_id": "none", "member_epoch": -1}, ErrorCode.GROUP_ID_NOT_FOUND),
        ({"member_id": "stranger", "member_epoch": -1}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member_id": ""}, ErrorCode.INVALID_REQUEST),
        ({"instance_id": " "}, ErrorCode.INVALID_REQUEST),
        ({"member_epoch": -2}, ErrorCode.INVALID_REQUEST),
        ({"member_epoch": -3}, ErrorCode.INVALID_REQUEST),
        ({"member_epoch": 0}, ErrorCode.INVALID_REQUEST),
        ({"server_assignor": "sticky"}, ErrorCode.UNSUPPORTED_ASSIGNOR),
        ({"instance_id": "i0"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_refused_heartbeats(change: dict[str, object], error: ErrorCode) -> None:
    """Each names its reason, and changes nothing."""
    driver, _ = group(1)
    before = len(driver.log)
    request = {"group_id": "g", "member_id": "m0", "member_epoch": 2, **change}
    answer = driver.ask(ConsumerGroupHeartbeatRequest(**request), "beat")  # type: ignore[arg-type]
    assert answer.error is error
    assert answer.error_message
    assert len(driver.log) == before


def test_the_previous_epoch_passes_with_nothing_but_what_was_assigned() -> None:
    """The answer that bumped the epoch may have been lost."""
    driver, (first, second) = group(2)
    second.leave()
    first.beat()
    assert first.epoch == 4
    topic = driver.topics.named("calls")
    assert topic is not None
    for owned, error in (((0,), ErrorCode.NONE), (None, ErrorCode.FENCED_MEMBER_EPOCH)):
        partitions = None if owned is None else (TopicPartitions(topic.topic_id, owned),)
        answer = driver.ask(ConsumerGroupHeartbeatRequest("g", "m0", 3, topic_partitions=partitions), "beat")
        assert answer.error is error


def test_a_full_group_refuses_newcomers() -> None:
    """``group.consumer.max.size``: members may go on."""
    driver = ShardDriver(GroupSettings(consumer=ConsumerGroupSettings(max_size=1)))
    member = Member(driver, "m0")
    assert member.beat() is ErrorCode.NONE
    assert Member(driver, "m1").beat() is ErrorCode.GROUP_MAX_SIZE_REACHED
    assert member.beat() is ErrorCode.NONE


def test_a_group_has_settings_of_its_own() -> None:
    """The GROUP resource goes before the broker's configs."""
    own = {"consumer.heartbeat.interval.ms": "7000", "consumer.session.timeout.ms": "60000"}
    settings = ConsumerGroupSettings(own_configs=lambda group_id: own if group_id == "g" else {})
    driver = ShardDriver(GroupSettings(consumer=settings))
    answer = Member(driver, "m0").ask()
    assert answer is not None
    assert answer.heartbeat_interval_ms == 7000
    driver.wait(59)
    assert group_of(driver).members
    driver.wait(2)
    assert not group_of(driver).members


def test_growth_of_a_topic_moves_the_epoch_once() -> None:
    """The broker notices by itself; the next heartbeat hands the new partitions out."""
    driver, members = group(2)
    epoch = group_of(driver).group_epoch
    driver.topics.put("calls", 12)
    driver.shard.on_topics_changed(["calls"])
    settle(driver, members)
    assert (group_of(driver).group_epoch, sorted(shares(members))) == (epoch + 1, [6, 6])


def test_changes_of_other_topics_are_not_noticed() -> None:
    """Nor are changes that do not concern a group, such as of a leader."""
    driver, members = group(2)
    epoch = group_of(driver).group_epoch
    driver.topics.put("other", 9)
    driver.shard.on_topics_changed(["other", "calls"])
    settle(driver, members)
    assert group_of(driver).group_epoch == epoch


def test_a_topic_that_appears_is_taken_up() -> None:
    """A member may subscribe to what does not exist yet."""
    driver = ShardDriver()
    member = Member(driver, "m0", ("calls", "later"))
    member.beat()
    driver.topics.put("later", 2)
    driver.shard.on_topics_changed(["later"])
    settle(driver, [member])
    assert [tp for tp in member.partitions if tp.topic == "later"] == [TopicPartition("later", n) for n in range(2)]


def test_a_deleted_topic_is_taken_away() -> None:
    """Its partitions leave the assignment with the next target."""
    driver = ShardDriver()
    member = Member(driver, "m0", ("calls", "other"))
    member.beat()
    driver.topics.delete("other")
    driver.shard.on_topics_changed(["other"])
    settle(driver, [member])
    assert member.partitions == CALLS


def test_a_changed_subscription_takes_and_gives_at_once() -> None:
    """What is no longer subscribed goes in the same heartbeat, even before there is a new target."""
    driver, members = group(2)
    assert members[0].subscribe("other") is ErrorCode.NONE
    assert all(tp.topic == "other" for tp in members[0].partitions)
    settle(driver, members)
    assert shares(members) == [4, 8]


def test_assignors_are_chosen_by_majority() -> None:
    """The broker's first is the default; members outvote it."""
    driver = ShardDriver()
    members = [Member(driver, f"m{number}", assignor="range") for number in range(3)]
    for member in members:
        member.beat()
    settle(driver, members)
    assert [tp.partition for tp in members[0].partitions] == [0, 1, 2]
    described = driver.ask(ConsumerGroupDescribeRequest(("g",)), "describe").groups[0]
    assert described.assignor_name == "range"


def test_describing_a_group() -> None:
    """Both assignments of every member, with topics by name; an unknown group is GROUP_ID_NOT_FOUND."""
    driver, (member, _) = group(2)
    known, unknown = driver.ask(ConsumerGroupDescribeRequest(("g", "none")), "describe").groups
    assert (known.group_state, known.group_epoch, known.assignment_epoch, known.assignor_name) == (
        "Stable",
        3,
        3,
        "uniform",
    )
    first = known.members[0]
    assert (first.member_id, first.member_epoch, first.client_id, first.member_type) == ("m0", 3, "app", 1)
    assert first.assignment == first.target_assignment
    assert [TopicPartition(each.topic_name, part) for each in first.assignment for part in each.partitions] == (
        member.partitions
    )
    assert unknown.error is ErrorCode.GROUP_ID_NOT_FOUND


# --- static members -------------------------------------------------------------------------------------------------


def test_a_static_member_that_leaves_for_a_while_is_waited_for() -> None:
    """Its share stays reserved; a new process with its instance id takes over, in the same epoch, without any move."""
    driver = ShardDriver()
    members = [Member(driver, f"m{number}", instance_id=f"i{number}") for number in range(2)]
    for member in members:
        member.beat()
    settle(driver, members)
    before, epoch = members[0].partitions, group_of(driver).group_epoch
    assert members[0].leave(-2) is ErrorCode.NONE
    settle(driver, members[1:])
    assert shares(members[1:]) == [4]
    comeback = Member(driver, "new", instance_id="i0")
    assert comeback.beat() is ErrorCode.NONE
    assert (comeback.partitions, group_of(driver).group_epoch) == (before, epoch)
    assert members[0].beat() is ErrorCode.UNRELEASED_INSTANCE_ID


def test_a_static_member_that_does_not_come_back_loses_its_share() -> None:
    """When its session ends."""
    driver = ShardDriver()
    members = [Member(driver, f"m{number}", instance_id=f"i{number}") for number in range(2)]
    for member in members:
        member.beat()
    settle(driver, members)
    members[0].leave(-2)
    settle(driver, members[1:], 10)
    assert shares(members[1:]) == [8]


def test_an_instance_id_in_use_is_not_released() -> None:
    """The newcomer is refused, and the one that was replaced is fenced."""
    driver = ShardDriver()
    first = Member(driver, "m0", instance_id="i0")
    first.beat()
    second = Member(driver, "m1", instance_id="i0")
    assert second.beat() is ErrorCode.UNRELEASED_INSTANCE_ID
    epoch = first.epoch
    first.leave(-2)
    assert second.beat() is ErrorCode.NONE
    first.epoch = epoch
    assert first.beat() is ErrorCode.FENCED_INSTANCE_ID


# --- the log --------------------------------------------------------------------------------------------------------


def replayed(driver: ShardDriver) -> dict[str, object]:
    """The state of the group, but for what only the live coordinator knows."""
    state = group_of(driver)
    names = [name for name in vars(state) if name not in ("refresh_deadline_ms", "refresh_epoch")]
    return {name: getattr(state, name) for name in names}


def test_a_new_coordinator_knows_what_the_old_one_knew() -> None:
    """State read from the log equals live state, in the middle of a move too; members go on as if nothing had happened."""
    driver, members = group(3)
    members[0].stuck = True
    members.append(Member(driver, "m3", ("calls", "other"), instance_id="i3"))
    members[3].beat()
    for member in members:
        member.beat()
    before = replayed(driver)
    driver.fail_over()
    assert replayed(driver) == before
    members[0].stuck = False
    members[0].reconcile()
    settle(driver, members)
    assert (group_of(driver).state, sum(shares(members))) == ("Stable", 12)


def test_sessions_start_anew_with_a_new_coordinator() -> None:
    """Nobody is fenced for the time in which there was no coordinator."""
    driver, members = group(2)
    driver.wait(40)
    driver.fail_over()
    driver.wait(40)
    assert len(group_of(driver).members) == 2
    driver.wait(6)
    assert not group_of(driver).members
    assert [member.beat() for member in members] == [ErrorCode.UNKNOWN_MEMBER_ID] * 2


def test_a_refused_append_changes_nothing() -> None:
    """The member hears COORDINATOR_NOT_AVAILABLE and the group is what it was."""
    driver, (member,) = group(1)
    before = replayed(driver)
    driver.append_error = ErrorCode.NOT_ENOUGH_REPLICAS
    assert Member(driver, "m1").beat() is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert replayed(driver) == before
    assert member.beat() is ErrorCode.NONE
    driver.append_error = ErrorCode.NONE
    assert Member(driver, "m1").beat() is ErrorCode.NONE


def test_answers_wait_for_the_records_that_they_rest_on() -> None:
    """Also those of a heartbeat that writes nothing itself."""
    driver = ShardDriver()
    driver.held = []
    member = Member(driver, "m0")
    assert member.ask() is None
    member.epoch = 2
    assert member.ask() is None
    driver.answers.clear()
    driver.commit(driver.held.pop())
    driver.shard.effects.reverse()  # both answers carry one token here: look at them one by one
    assert [effect.response.member_epoch for effect in driver.shard.effects] == [2, 2]


def test_fake_topics_keep_their_ids() -> None:
    """A topic that grows is the same; one that is created again would be another."""
    topics = FakeTopics(calls=1)
    first = topics.named("calls")
    topics.put("calls", 2)
    second = topics.named("calls")
    assert first is not None
    assert second is not None
    assert first.topic_id == second.topic_id
