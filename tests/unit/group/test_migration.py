"""Classic groups become consumer groups and back again, with members of both kinds in between."""

from __future__ import annotations

import pytest
from tests.unit.group.consumer_member import Member, group_of
from tests.unit.group.shard_driver import ShardDriver

from kafkasim.core.group.classic import ClassicGroup
from kafkasim.core.group.runtime import ConsumerGroupSettings
from kafkasim.core.group.shard import GroupSettings
from kafkasim.core.model.consumer_group_messages import ConsumerGroupDescribeRequest
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import Assignment
from kafkasim.core.model.ids import TopicPartition

BOTH = [TopicPartition("calls", number) for number in range(8)]


class ClassicClient:
    """A classic client in a consumer group: rejoins and syncs when it is told to."""

    def __init__(self, driver: ShardDriver, name: str, member_id: str = "", generation: int = -1) -> None:
        self.driver = driver
        self.name = name
        self.member_id = member_id
        self.generation = generation
        self.owned: tuple[TopicPartition, ...] = ()

    def join(self) -> ErrorCode:
        answer = self.driver.join(self.member_id, self.name)
        if answer is not None and answer.error is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            answer = self.driver.join(self.member_id, self.name)
        assert answer is not None, "parked"
        error: ErrorCode = answer.error
        if error is ErrorCode.NONE:
            self.generation = answer.generation_id
            synced = self.driver.sync(self.member_id, self.generation, self.name)
            assert synced.error is ErrorCode.NONE, synced
            self.owned = synced.assignment.partitions
        return error

    def beat(self) -> ErrorCode:
        error = self.driver.heartbeat(self.member_id, self.generation)
        return self.join() if error is ErrorCode.REBALANCE_IN_PROGRESS else error


def classic_group(settings: GroupSettings | None = None) -> tuple[ShardDriver, list[ClassicClient]]:
    """Two classic members, one on partition 0, one on partition 1, in generation 1."""
    driver = ShardDriver(settings)
    clients = [
        ClassicClient(driver, f"c{index}", member_id, 1) for index, member_id in enumerate(driver.stable_group())
    ]
    return driver, clients


def settle_both(driver: ShardDriver, classic: list[ClassicClient], consumers: list[Member]) -> None:
    for _ in range(6):
        driver.wait(3)
        for client in classic:
            assert client.beat() is ErrorCode.NONE
        for member in consumers:
            assert member.beat() is ErrorCode.NONE


def test_the_first_consumer_member_upgrades_the_group() -> None:
    """The classic members keep what they have, in an epoch that is their generation, and share with the newcomer."""
    driver, clients = classic_group()
    newcomer = Member(driver, "new")
    assert newcomer.beat() is ErrorCode.NONE
    group = group_of(driver)
    assert (group.group_epoch, group.classic_members, len(group.members)) == (2, 2, 3)
    assert [group.members[client.member_id].member_epoch for client in clients] == [1, 1]
    settle_both(driver, clients, [newcomer])
    assert group.state == "Stable"
    assert sorted([*clients[0].owned, *clients[1].owned, *newcomer.partitions]) == BOTH
    described = driver.ask(ConsumerGroupDescribeRequest(("g",)), "describe").groups[0]
    assert sorted(member.member_type for member in described.members) == [0, 0, 1]


def test_parked_requests_hear_of_the_upgrade() -> None:
    """They rejoin, and land in the consumer group."""
    driver = ShardDriver()
    first, _ = driver.stable_group()
    assert driver.join(first, "parked") is None
    assert Member(driver, "new").beat() is ErrorCode.NONE
    assert driver.answers["parked"].error is ErrorCode.REBALANCE_IN_PROGRESS
    assert ClassicClient(driver, "again", first).join() is ErrorCode.NONE
    assert first in group_of(driver).members


def test_the_last_consumer_member_that_leaves_downgrades_the_group() -> None:
    """Its generation is the group epoch; the classic members rebalance among themselves."""
    driver, clients = classic_group()
    newcomer = Member(driver, "new")
    newcomer.beat()
    settle_both(driver, clients, [newcomer])
    epoch = group_of(driver).group_epoch
    assert newcomer.leave() is ErrorCode.NONE
    group = driver.shard.groups["g"]
    assert isinstance(group, ClassicGroup)
    assert (group.state, group.generation_id, len(group.members)) == ("PreparingRebalance", epoch, 2)
    assert driver.heartbeat(clients[0].member_id, epoch) is ErrorCode.REBALANCE_IN_PROGRESS
    for client in clients:
        driver.join(client.member_id, client.name)
    assert {driver.answers[client.name].generation_id for client in clients} == {epoch + 1}


def test_a_group_that_loses_its_consumer_member_downgrades_too() -> None:
    """By the end of its session."""
    driver, clients = classic_group()
    newcomer = Member(driver, "new")
    newcomer.beat()
    settle_both(driver, clients, [newcomer])
    for _ in range(20):
        driver.wait(3)
        for client in clients:
            driver.heartbeat(client.member_id, client.generation)
    assert isinstance(driver.shard.groups["g"], ClassicGroup)


def test_both_conversions_survive_a_fail_over() -> None:
    """The log says what the group is now."""
    driver, clients = classic_group()
    newcomer = Member(driver, "new")
    newcomer.beat()
    driver.fail_over()
    settle_both(driver, clients, [newcomer])
    assert group_of(driver).state == "Stable"
    newcomer.leave()
    driver.fail_over()
    group = driver.shard.groups["g"]
    assert isinstance(group, ClassicGroup)
    assert set(group.members) == {client.member_id for client in clients}


def test_user_data_in_an_assignment_forbids_the_upgrade() -> None:
    """As in every group of librdkafka's cooperative-sticky; the classic members go on."""
    driver = ShardDriver()
    first, second = driver.stable_group()
    driver.join(first, "j0")
    driver.join(second, "j1")
    given = {first: Assignment((BOTH[0],), b"sticky"), second: Assignment((BOTH[1],))}
    driver.sync(second, driver.generation, "s1")
    driver.sync(first, driver.generation, "s0", given)
    assert Member(driver, "new").beat() is ErrorCode.GROUP_ID_NOT_FOUND
    assert (driver.state, driver.heartbeat(first, driver.generation)) == ("Stable", ErrorCode.NONE)


@pytest.mark.parametrize(
    ("policy", "upgrades", "downgrades"),
    [("bidirectional", True, True), ("upgrade", True, False), ("downgrade", False, True), ("disabled", False, False)],
)
def test_the_migration_policy(policy: str, upgrades: bool, downgrades: bool) -> None:
    """``group.consumer.migration.policy`` says which way a group may go."""
    settings = GroupSettings(consumer=ConsumerGroupSettings(migration_policy=policy))
    driver, _ = classic_group(settings)
    answer = Member(driver, "new").ask()
    assert answer is not None
    assert (answer.error is ErrorCode.NONE) is upgrades
    other = ShardDriver(settings)
    member = Member(other, "m0")
    member.beat()
    client = ClassicClient(other, "c0")
    assert client.join() is ErrorCode.NONE
    member.leave()
    assert isinstance(other.shard.groups["g"], ClassicGroup) is downgrades


def test_groups_of_other_protocols_and_too_large_ones_stay_classic() -> None:
    """GROUP_ID_NOT_FOUND, with the reason in words."""
    settings = GroupSettings(consumer=ConsumerGroupSettings(max_size=1))
    driver, _ = classic_group(settings)
    answer = Member(driver, "new").ask()
    assert answer is not None
    assert answer.error is ErrorCode.GROUP_ID_NOT_FOUND
    assert "exceeds the consumer group maximum size" in (answer.error_message or "")


def test_empty_groups_turn_either_way() -> None:
    """Without a word."""
    driver, clients = classic_group()
    for client in clients:
        driver.leave(client.member_id)
    member = Member(driver, "m0")
    assert (member.beat(), member.epoch) == (ErrorCode.NONE, 2)
    member.leave()
    fresh = driver.new_member("fresh")
    driver.join(fresh, "fresh")
    driver.wait(4)
    assert (driver.answers["fresh"].generation_id, driver.state) == (1, "CompletingRebalance")
    driver.fail_over()
    assert (driver.state, driver.generation) == ("Empty", 0)  # so much is in the log before the first assignment


def test_a_classic_client_joins_a_consumer_group() -> None:
    """The server assigns: no leader, the generation is the member epoch, the id is the broker's own."""
    driver = ShardDriver()
    member = Member(driver, "m0")
    member.beat()
    driver.wait(2)
    client = ClassicClient(driver, "c0")
    assert client.join() is ErrorCode.NONE
    assert len(client.member_id) == 22
    settle_both(driver, [client], [member])
    assert (len(client.owned), len(member.partitions)) == (4, 4)
    assert client.generation == group_of(driver).group_epoch


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"generation": 1}, ErrorCode.ILLEGAL_GENERATION),
        ({"member_id": "stranger"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member_id": "m0"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_classic_requests_that_a_consumer_group_refuses(change: dict[str, object], error: ErrorCode) -> None:
    """Heartbeats and syncs are checked alike; who speaks the consumer protocol may not use them."""
    driver = ShardDriver()
    member = Member(driver, "m0")
    member.beat()
    driver.wait(2)
    client = ClassicClient(driver, "c0")
    client.join()
    settle_both(driver, [client], [member])
    for name, value in change.items():
        setattr(client, name, value)
    assert driver.heartbeat(client.member_id, client.generation) is error
    assert driver.sync(client.member_id, client.generation, "sync").error is error


def test_a_classic_member_must_rejoin_in_time() -> None:
    """Once told, it has its rebalance timeout; then it is fenced."""
    driver = ShardDriver()
    member = Member(driver, "m0")
    member.beat()
    driver.wait(2)
    client = ClassicClient(driver, "c0")
    client.join()
    settle_both(driver, [client], [member])
    driver.topics.put("calls", 9)
    driver.shard.on_topics_changed(["calls"])
    member.beat()
    for _ in range(13):
        driver.heartbeat(client.member_id, client.generation)
        driver.wait(5)
        member.beat()
    assert list(group_of(driver).members) == ["m0"]


def test_a_classic_process_takes_over_from_a_static_consumer_member() -> None:
    """The last one of its protocol: the group is classic again, with the share of its former self."""
    driver = ShardDriver()
    member = Member(driver, "m0", instance_id="i0")
    member.beat()
    held = member.partitions
    driver.wait(2)
    answer = driver.join("", "c0", instance_id="i0")
    assert answer.error is ErrorCode.NONE
    group = driver.shard.groups["g"]
    assert isinstance(group, ClassicGroup)
    assert list(group.members) == [answer.member_id]
    assert sorted(group.members[answer.member_id].assignment.partitions) == held


def test_a_refused_append_leaves_the_group_classic() -> None:
    """The upgrade is undone before it was done."""
    driver, clients = classic_group()
    driver.append_error = ErrorCode.NOT_ENOUGH_REPLICAS
    assert Member(driver, "new").beat() is ErrorCode.COORDINATOR_NOT_AVAILABLE
    driver.append_error = ErrorCode.NONE
    assert driver.heartbeat(clients[0].member_id, 1) is ErrorCode.NONE
    assert Member(driver, "new").beat() is ErrorCode.NONE
    assert group_of(driver).classic_members == 2
