"""AlterPartition, elections on demand, reassignment."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.unit.controller.plane import SECOND_US, Plane

from kafkasim.core.model.admin_messages import (
    PREFERRED_ELECTION,
    SET_OPERATION,
    TOPIC_RESOURCE,
    UNCLEAN_ELECTION,
    AlterPartitionReassignmentsRequest,
    ConfigAlteration,
    ConfigResource,
    ElectLeadersRequest,
    IncrementalAlterConfigsRequest,
    PartitionResult,
    Reassignment,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition

T0 = TopicPartition("t", 0)


@pytest.fixture
def plane() -> Plane:
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2, 3), min_insync_replicas="2")
    plane.fresh()
    return plane


def test_a_leader_shrinks_and_expands_its_isr(plane: Plane) -> None:
    """The answer is the partition as it is from now on; no leader epoch is spent."""
    result = plane.alter_isr((1, 2))
    assert (result.error, result.isr, result.partition_epoch, result.leader_epoch) == (ErrorCode.NONE, (1, 2), 1, 0)
    assert plane.alter_isr((3, 1, 2)).isr == (1, 2, 3)
    assert plane.partition().partition_epoch == 2


def test_a_proposal_that_changes_nothing_writes_nothing(plane: Plane) -> None:
    """The epoch stays, and the leader hears so."""
    result = plane.alter_isr((1, 2, 3))
    assert (result.error, result.partition_epoch) == (ErrorCode.NONE, 0)
    assert plane.fresh() == []


CHECKS = [
    ({"sender_epoch": 0}, ErrorCode.STALE_BROKER_EPOCH),
    ({"topic_id": "unknown"}, ErrorCode.UNKNOWN_TOPIC_ID),
    ({"leader_epoch": 9, "partition_epoch": -5}, ErrorCode.NOT_CONTROLLER),
    ({"partition_epoch": 9}, ErrorCode.NOT_CONTROLLER),
    ({"leader_epoch": -1, "sender": 2}, ErrorCode.FENCED_LEADER_EPOCH),
    ({"sender": 2, "partition_epoch": -1}, ErrorCode.INVALID_REQUEST),
    ({"partition_epoch": -1, "recovery": 1}, ErrorCode.INVALID_UPDATE_VERSION),
    ({"recovery": 1}, ErrorCode.INVALID_REQUEST),
    ({"broker_epoch": 0}, ErrorCode.INELIGIBLE_REPLICA),
]


@pytest.mark.parametrize(("changes", "error"), CHECKS)
def test_checks_of_alter_partition_in_order(plane: Plane, changes: dict[str, Any], error: ErrorCode) -> None:
    """The first check that fails names the error."""
    assert plane.alter_isr((1, 2), **changes).error is error
    assert plane.fresh() == []


@pytest.mark.parametrize("isr", [(), (2, 3), (1, 4), (1, 1)])
def test_an_isr_must_be_of_replicas_and_hold_the_leader(plane: Plane, isr: tuple[int, ...]) -> None:
    """Anything else is no ISR."""
    plane.start(4)
    assert plane.alter_isr(isr).error is ErrorCode.INVALID_REQUEST


def test_who_is_fenced_or_leaving_joins_no_isr(plane: Plane) -> None:
    """INELIGIBLE_REPLICA lets the leader fall back to what it had."""
    plane.kill(3)
    assert plane.alter_isr((1, 2, 3)).error is ErrorCode.INELIGIBLE_REPLICA
    plane.create("u", (2,))
    plane.beat(2, want_shut_down=True)
    assert plane.alter_isr((1, 2)).error is ErrorCode.INELIGIBLE_REPLICA


def elect(plane: Plane, election_type: int, tp: TopicPartition = T0) -> PartitionResult:
    result = plane.ask(ElectLeadersRequest(election_type, (tp,))).partitions[0]
    assert isinstance(result, PartitionResult)
    return result


def test_elections_that_cannot_be(plane: Plane) -> None:
    """Codes of ElectLeaders."""
    assert elect(plane, PREFERRED_ELECTION).error is ErrorCode.ELECTION_NOT_NEEDED
    assert elect(plane, UNCLEAN_ELECTION).error is ErrorCode.ELECTION_NOT_NEEDED
    unknown = elect(plane, PREFERRED_ELECTION, TopicPartition("x", 0))
    assert (unknown.error, unknown.error_message) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "No such topic as x")
    assert elect(plane, PREFERRED_ELECTION, TopicPartition("t", 7)).error_message == "No such partition as t-7"
    plane.kill(1)
    assert elect(plane, PREFERRED_ELECTION).error is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    plane.kill(2)
    plane.kill(3)
    assert elect(plane, UNCLEAN_ELECTION).error is ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE


def test_electing_all_tells_of_those_that_needed_it(plane: Plane) -> None:
    """Partitions that are well led are passed over."""
    plane.create("u", (2, 1))
    plane.stop(1)
    plane.advance(10 * SECOND_US, (2, 3))
    plane.start(1, clean=True)
    plane.alter_isr((1, 2, 3))
    response = plane.ask(ElectLeadersRequest(PREFERRED_ELECTION, None))
    assert [(result.tp, result.error) for result in response.partitions] == [(T0, ErrorCode.NONE)]
    assert plane.partition().leader == 1


def test_leaders_go_home_every_five_minutes(plane: Plane) -> None:
    """The task runs only while some partition is not led by its first replica."""
    assert plane.node.deadline_us < 20 * SECOND_US
    plane.stop(1)
    plane.advance(10 * SECOND_US, (2, 3))
    plane.start(1, clean=True)
    plane.alter_isr((1, 2, 3))
    assert plane.partition().leader == 2
    plane.advance(300 * SECOND_US - plane.now_us, (1, 2, 3))
    assert plane.partition().leader == 1
    assert not plane.image.index.imbalanced


def test_unclean_topics_find_a_leader_every_five_minutes() -> None:
    """A config flip elects nobody by itself; the periodic task does."""
    plane = Plane((1, 2))
    plane.create("t", (1, 2), unclean_leader_election_enable="true", min_insync_replicas="2")
    plane.kill(2)
    plane.kill(1)
    assert plane.partition().leader == -1
    plane.image.brokers[2].fenced = False  # Somebody came up whose unfencing elected nobody.
    plane.advance(300 * SECOND_US - plane.now_us)
    assert plane.partition().leader == 2


def reassign(plane: Plane, replicas: tuple[int, ...] | None, allow: bool = True) -> ErrorCode:
    request = AlterPartitionReassignmentsRequest((Reassignment(T0, replicas),), allow)
    error: ErrorCode = plane.ask(request).partitions[0].error
    return error


def test_reassignment_and_its_cancel(plane: Plane) -> None:
    """Both sets are replicas until the new one is in sync; a cancel goes back."""
    plane.start(4)
    assert reassign(plane, None) is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
    assert reassign(plane, (4, 9, 2)) is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert reassign(plane, (4, 2), False) is ErrorCode.INVALID_REPLICATION_FACTOR
    assert reassign(plane, (4, 2, 3)) is ErrorCode.NONE
    state = plane.partition()
    assert (state.replicas, state.adding_replicas, state.removing_replicas) == ((4, 2, 3, 1), (4,), (1,))
    assert reassign(plane, None) is ErrorCode.NONE
    state = plane.partition()
    assert (state.adding_replicas, state.removing_replicas, sorted(state.replicas)) == ((), (), [1, 2, 3])


def test_completing_takes_the_leadership_from_the_sender(plane: Plane) -> None:
    """The record is written all the same; the sender learns that somebody else leads."""
    plane.start(4)
    reassign(plane, (4, 2, 3))
    assert plane.alter_isr((1, 2, 3, 4)).error is ErrorCode.NEW_LEADER_ELECTED
    state = plane.partition()
    assert (state.leader, state.leader_epoch, state.replicas, state.isr) == (4, 1, (4, 2, 3), (2, 3, 4))
    plane.check_replay()


def move(plane: Plane, replicas: tuple[int, ...] | None, *, resize: bool = True) -> PartitionResult:
    request = AlterPartitionReassignmentsRequest((Reassignment(T0, replicas),), allow_replication_factor_change=resize)
    return cast("PartitionResult", plane.ask(request).partitions[0])


def test_a_reassignment_elects_nobody_uncleanly() -> None:
    """A topic that allows unclean leaders gets none by being moved; the cancel may elect one."""
    plane = Plane((1, 2, 3, 4))
    plane.create("t", (1, 2), unclean_leader_election_enable="false")
    plane.kill(2)
    plane.kill(1)
    change = ConfigAlteration(
        ConfigResource(TOPIC_RESOURCE, "t"), (("unclean.leader.election.enable", SET_OPERATION, "true"),)
    )
    plane.ask(IncrementalAlterConfigsRequest((change,)))
    assert move(plane, (3, 4)).error is ErrorCode.NONE
    assert (plane.partition().leader, plane.partition().replicas) == (-1, (3, 4, 1, 2))


def test_the_replication_factor_may_be_held(plane: Plane) -> None:
    """What counts is the number of replicas once the running change is complete; a wrong list is told first."""
    plane.start(4)
    assert move(plane, (1, 9), resize=False).error is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert move(plane, (1, 4), resize=False).error is ErrorCode.INVALID_REPLICATION_FACTOR
    assert move(plane, (4, 2)).error is ErrorCode.NONE
    refused = move(plane, (1, 2, 4), resize=False)
    assert refused.error_message == "The replication factor is changed from 2 to 3"
    assert move(plane, (1, 4), resize=False).error is ErrorCode.NONE


def test_a_reassignment_that_is_none_cannot_be_cancelled(plane: Plane) -> None:
    """The error says it all."""
    refused = move(plane, None)
    assert (refused.error, refused.error_message) == (ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, None)
