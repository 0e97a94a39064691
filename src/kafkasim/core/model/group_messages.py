"""Requests and responses of groups and committed offsets.

Mirrors:  FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit, OffsetFetch, OffsetDelete, ListGroups,
          DescribeGroups, DeleteGroups of org.apache.kafka.common.message.
Rule 1:   subscription and assignment metadata travel as values (``Subscription``, ``Assignment``), not as bytes; the broker
          never looks into them, except that it compares them for equality.
"""

from __future__ import annotations

from typing import ClassVar

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_NODE, NO_OFFSET, NodeId, TopicPartition
from kafkasim.core.model.message import message

GROUP_COORDINATOR = 0
TRANSACTION_COORDINATOR = 1
SHARE_COORDINATOR = 2


@message
class FindCoordinatorRequest:
    API_KEY: ClassVar[int] = 10

    key: str
    key_type: int = GROUP_COORDINATOR


@message
class FindCoordinatorResponse:
    error: ErrorCode
    node_id: NodeId = NO_NODE
    host: str = ""
    port: int = -1


@message
class Subscription:
    """ConsumerProtocolSubscription: what a classic member tells its group's leader."""

    topics: tuple[str, ...]
    owned_partitions: tuple[TopicPartition, ...] = ()
    generation_id: int = -1
    rack_id: str | None = None
    user_data: bytes = b""


@message
class Assignment:
    """ConsumerProtocolAssignment: what the leader of a classic group hands to one member."""

    partitions: tuple[TopicPartition, ...] = ()
    user_data: bytes = b""


@message
class JoinGroupRequest:
    """``protocols``: (assignor name, subscription) in order of preference."""

    API_KEY: ClassVar[int] = 11

    group_id: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    member_id: str
    group_instance_id: str | None
    protocol_type: str
    protocols: tuple[tuple[str, Subscription], ...]
    client_id: str = ""
    reason: str = ""


@message
class JoinGroupMember:
    member_id: str
    group_instance_id: str | None
    subscription: Subscription


@message
class JoinGroupResponse:
    """``members`` is filled for the leader only; ``skip_assignment`` for a static leader that came back (KIP-814)."""

    error: ErrorCode
    generation_id: int = -1
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader: str = ""
    member_id: str = ""
    members: tuple[JoinGroupMember, ...] = ()
    skip_assignment: bool = False


@message
class SyncGroupRequest:
    """``assignments``: (member id, assignment), from the leader only."""

    API_KEY: ClassVar[int] = 14

    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str | None
    assignments: tuple[tuple[str, Assignment], ...] = ()
    protocol_type: str | None = None
    protocol_name: str | None = None


@message
class SyncGroupResponse:
    error: ErrorCode
    assignment: Assignment = Assignment()
    protocol_type: str | None = None
    protocol_name: str | None = None


@message
class HeartbeatRequest:
    API_KEY: ClassVar[int] = 12

    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str | None = None


@message
class HeartbeatResponse:
    error: ErrorCode


@message
class MemberIdentity:
    member_id: str
    group_instance_id: str | None = None
    reason: str = ""


@message
class LeaveGroupRequest:
    API_KEY: ClassVar[int] = 13

    group_id: str
    members: tuple[MemberIdentity, ...]


@message
class LeaveGroupResponse:
    error: ErrorCode
    members: tuple[tuple[MemberIdentity, ErrorCode], ...] = ()


@message
class OffsetAndMetadata:
    """``offset`` is the next one to read; -1 where nothing is committed."""

    offset: int
    leader_epoch: int = NO_EPOCH
    metadata: str = ""


@message
class OffsetCommitRequest:
    """``generation_id`` -1 and an empty ``member_id``: a commit from outside the group (assign(), admin)."""

    API_KEY: ClassVar[int] = 8

    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str | None
    offsets: tuple[tuple[TopicPartition, OffsetAndMetadata], ...]


@message
class OffsetCommitResponse:
    partitions: tuple[tuple[TopicPartition, ErrorCode], ...]


@message
class OffsetFetchRequest:
    """``partitions`` None: everything the group has committed."""

    API_KEY: ClassVar[int] = 9

    group_id: str
    partitions: tuple[TopicPartition, ...] | None
    require_stable: bool = True
    member_id: str | None = None
    member_epoch: int = -1


@message
class OffsetFetchResponse:
    error: ErrorCode
    partitions: tuple[tuple[TopicPartition, OffsetAndMetadata, ErrorCode], ...] = ()


@message
class OffsetDeleteRequest:
    API_KEY: ClassVar[int] = 47

    group_id: str
    partitions: tuple[TopicPartition, ...]


@message
class OffsetDeleteResponse:
    error: ErrorCode
    partitions: tuple[tuple[TopicPartition, ErrorCode], ...] = ()


@message
class ListGroupsRequest:
    API_KEY: ClassVar[int] = 16

    states: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


@message
class ListedGroup:
    """``group_state`` and ``group_type`` in Kafka's words: "Stable", "classic"."""

    group_id: str
    protocol_type: str
    group_state: str
    group_type: str


@message
class ListGroupsResponse:
    error: ErrorCode
    groups: tuple[ListedGroup, ...] = ()


@message
class DescribeGroupsRequest:
    API_KEY: ClassVar[int] = 15

    groups: tuple[str, ...]


@message
class DescribedMember:
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    subscription: Subscription | None
    assignment: Assignment | None


@message
class DescribedGroup:
    error: ErrorCode
    group_id: str
    group_state: str
    protocol_type: str = ""
    protocol_data: str = ""
    members: tuple[DescribedMember, ...] = ()
    generation_id: int = -1


@message
class DescribeGroupsResponse:
    groups: tuple[DescribedGroup, ...]


@message
class DeleteGroupsRequest:
    API_KEY: ClassVar[int] = 42

    groups: tuple[str, ...]


@message
class DeleteGroupsResponse:
    results: tuple[tuple[str, ErrorCode], ...]


UNCOMMITTED = OffsetAndMetadata(NO_OFFSET)
