"""The admin engine against fake brokers: where requests go, what is tried again, what a timeout says."""

from __future__ import annotations

from typing import Any

import attrs
from tests.unit.client.fake_cluster import SECOND_US, FakeCluster

from kafkasim.core.client.admin import AdminEngine
from kafkasim.core.model.admin_messages import DescribeClusterRequest, DescribeClusterResponse
from kafkasim.core.model.consumer_group_messages import (
    ConsumerGroupDescribedGroup,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import (
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    PartitionListOffsets,
    PartitionOffset,
)


def make(brokers: int = 3) -> tuple[FakeCluster, AdminEngine]:
    cluster = FakeCluster(brokers)
    cluster.handlers[DescribeClusterRequest] = lambda node, request: DescribeClusterResponse(
        ErrorCode.NONE, f"by {node}"
    )
    return cluster, cluster.client(AdminEngine, "admin")


def test_a_broker_is_asked_by_id() -> None:
    """("broker", 3) reaches broker 3, which no bootstrap server names."""
    cluster, admin = make()
    operation = admin.call(DescribeClusterRequest(), ("broker", 3), 10 * SECOND_US, cluster.now_us)
    cluster.run(3)
    assert operation.result.cluster_id == "by 3"


def test_an_absent_broker_is_waited_for() -> None:
    """As recorded: the whole timeout passes, then the text says what was awaited."""
    cluster, admin = make()
    operation = admin.call(DescribeClusterRequest(), ("broker", 9), 5 * SECOND_US, cluster.now_us)
    cluster.run(4.9)
    assert not operation.done
    cluster.run(0.2)
    assert (operation.error, operation.error_text) == (
        ErrorCode._TIMED_OUT,
        "Failed while waiting for broker: Local: Timed out",
    )


def test_a_bootstrap_broker_that_the_cluster_does_not_list() -> None:
    """It has just come back and is fenced: the others, which nobody has connected to, are asked."""
    cluster, admin = make()
    metadata = cluster.handlers[MetadataRequest]

    def without_first(node: int, request: MetadataRequest) -> Any:
        response = metadata(node, request)
        return attrs.evolve(response, brokers=tuple(each for each in response.brokers if each.node_id != 1))

    cluster.handlers[MetadataRequest] = without_first
    operation = admin.call(DescribeClusterRequest(), "controller", 10 * SECOND_US, cluster.now_us)
    cluster.run(3)
    assert operation.result.cluster_id in ("by 2", "by 3")


def test_no_controller_in_time() -> None:
    """Without any broker a controller request times out."""
    cluster, admin = make()
    for node in cluster.brokers:
        cluster.stop(node)
    operation = admin.call(DescribeClusterRequest(), "controller", 2 * SECOND_US, cluster.now_us)
    cluster.run(3)
    assert operation.error_text == "Failed while waiting for controller: Local: Timed out"


def test_not_controller_is_tried_again() -> None:
    """An answer that the controller has moved is no answer."""
    cluster, admin = make()
    errors = [ErrorCode.NOT_CONTROLLER, ErrorCode.NOT_CONTROLLER, ErrorCode.NONE]
    cluster.handlers[DescribeClusterRequest] = lambda node, request: DescribeClusterResponse(errors.pop(0))
    operation = admin.call(DescribeClusterRequest(), "controller", 5 * SECOND_US, cluster.now_us)
    cluster.run(3)
    assert (operation.done, operation.result.error) == (True, ErrorCode.NONE)


def test_a_group_is_described_by_its_own_protocol() -> None:
    """First as a consumer group; where there is none of that kind, as a classic one; another error is the answer."""
    cluster, admin = make()
    errors = {"new": ErrorCode.NONE, "old": ErrorCode.GROUP_ID_NOT_FOUND, "no": ErrorCode.GROUP_AUTHORIZATION_FAILED}
    cluster.handlers[FindCoordinatorRequest] = lambda node, request: FindCoordinatorResponse(ErrorCode.NONE, 2)
    cluster.handlers[ConsumerGroupDescribeRequest] = lambda node, request: ConsumerGroupDescribeResponse(
        tuple(ConsumerGroupDescribedGroup(errors[name], name) for name in request.group_ids)
    )
    cluster.handlers[DescribeGroupsRequest] = lambda node, request: DescribeGroupsResponse(
        tuple(DescribedGroup(ErrorCode.NONE, name, "Stable") for name in request.groups)
    )
    operations = [admin.describe_group(name, 5 * SECOND_US, cluster.now_us) for name in errors]
    cluster.run(2)
    found = [(type(each.result).__name__, each.result.group_id, each.result.error) for each in operations]
    assert found == [
        ("ConsumerGroupDescribedGroup", "new", ErrorCode.NONE),
        ("DescribedGroup", "old", ErrorCode.NONE),
        ("ConsumerGroupDescribedGroup", "no", ErrorCode.GROUP_AUTHORIZATION_FAILED),
    ]


def test_a_group_whose_coordinator_is_away_is_not_described() -> None:
    """The timeout counts for both requests together."""
    cluster, admin = make()
    cluster.handlers[FindCoordinatorRequest] = lambda node, request: FindCoordinatorResponse(ErrorCode.NONE, 9)
    operation = admin.describe_group("g", 2 * SECOND_US, cluster.now_us)
    cluster.run(2.1)
    assert operation.error == ErrorCode._TIMED_OUT


def test_a_coordinator_that_moves_is_followed() -> None:
    """NOT_COORDINATOR leads to another look-up."""
    cluster, admin = make()
    where = [2]

    def describe(node: int, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
        error = ErrorCode.NONE if node == where[0] else ErrorCode.NOT_COORDINATOR
        return DescribeGroupsResponse((DescribedGroup(error, request.groups[0], "Stable"),))

    cluster.handlers[DescribeGroupsRequest] = describe
    cluster.handlers[FindCoordinatorRequest] = lambda node, request: FindCoordinatorResponse(ErrorCode.NONE, where[0])
    first = admin.call(DescribeGroupsRequest(("g",)), ("coordinator", "g"), 5 * SECOND_US, cluster.now_us)
    cluster.run(3)
    where[0] = 3
    second = admin.call(DescribeGroupsRequest(("g",)), ("coordinator", "g"), 5 * SECOND_US, cluster.now_us)
    cluster.run(4)
    assert [operation.result.groups[0].error for operation in (first, second)] == [ErrorCode.NONE] * 2
    assert len(cluster.sent(FindCoordinatorRequest)) == 2


def list_offsets(cluster: FakeCluster, admin: AdminEngine, *tps: tuple[str, int]) -> Any:
    def answer(node: int, request: ListOffsetsRequest) -> ListOffsetsResponse:
        return ListOffsetsResponse(
            [
                PartitionOffset(part.tp, ErrorCode.NONE, 10 * node)
                if cluster.leaders[part.tp][0] == node
                else PartitionOffset(part.tp, ErrorCode.NOT_LEADER_OR_FOLLOWER)
                for part in request.partitions
            ]
        )

    cluster.handlers[ListOffsetsRequest] = answer
    request = ListOffsetsRequest([PartitionListOffsets(TopicPartition(*tp), -1) for tp in tps])
    return admin.call(request, ("leaders",), 5 * SECOND_US, cluster.now_us)


def test_leaders_are_asked_each_for_its_own() -> None:
    """The request is split by leader; the answers come back in the order asked, unknown partitions with their error."""
    cluster, admin = make()
    cluster.add_topic("t", 3)
    operation = list_offsets(cluster, admin, ("t", 2), ("t", 0), ("t", 7), ("t", 1))
    cluster.run(3)
    found = [(part.tp.partition, part.error, part.offset) for part in operation.result.partitions]
    none, unknown = ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert found == [(2, none, 30), (0, none, 10), (7, unknown, -1), (1, none, 20)]
    assert len(cluster.sent(ListOffsetsRequest)) == 3


def test_a_leader_that_moved_is_looked_up_again() -> None:
    """NOT_LEADER_OR_FOLLOWER of one partition repeats the search for that one."""
    cluster, admin = make()
    cluster.add_topic("t", 2)
    stale = cluster.handlers[MetadataRequest]
    operation = list_offsets(cluster, admin, ("t", 0), ("t", 1))

    def metadata(node: int, request: MetadataRequest) -> Any:
        answer = stale(node, request)
        if request.topics == ("t",) and cluster.leaders[TopicPartition("t", 1)][1] == 0:
            cluster.move_leader(TopicPartition("t", 1), 3)
        return answer

    cluster.handlers[MetadataRequest] = metadata
    cluster.run(4)
    assert [part.offset for part in operation.result.partitions] == [10, 30]


def test_no_leaders_at_all() -> None:
    """As recorded for an unknown topic."""
    cluster, admin = make()
    operation = list_offsets(cluster, admin, ("gone", 0))
    cluster.run(1)
    assert (operation.error, operation.error_text) == (
        ErrorCode._NOENT,
        "Failed to query partition leaders: No leaders found",
    )


def test_closing_ends_what_runs() -> None:
    """close() fails what is under way."""
    cluster, admin = make()
    operation = admin.call(DescribeClusterRequest(), ("broker", 9), 60 * SECOND_US, cluster.now_us)
    cluster.run(1)
    admin.close(cluster.now_us)
    assert operation.error == ErrorCode._DESTROY
