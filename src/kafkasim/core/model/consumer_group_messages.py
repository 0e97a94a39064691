"""Requests and responses of the newer consumer groups (KIP-848).

Mirrors:  ConsumerGroupHeartbeat, ConsumerGroupDescribe of org.apache.kafka.common.message.
Rule 1:   a field of a heartbeat that is None has not changed since the member's last heartbeat.
Rule 2:   heartbeats name topics by their ids alone, as on the wire: a client that does not know an id asks for metadata.
Beside:   offsets travel in ``group_messages``: OffsetCommit carries the member epoch in ``generation_id``.
"""

from __future__ import annotations

from typing import ClassVar

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH
from kafkasim.core.model.message import message

#: Member epochs with a meaning of their own (ConsumerGroupHeartbeatRequest).
JOIN_GROUP_MEMBER_EPOCH = 0
LEAVE_GROUP_MEMBER_EPOCH = -1
LEAVE_GROUP_STATIC_MEMBER_EPOCH = -2

#: ``ConsumerGroupDescribedMember.member_type``.
CLASSIC_MEMBER = 0
CONSUMER_MEMBER = 1


@message
class TopicPartitions:
    """Partitions of one topic, ascending; ``topic_name`` is filled in descriptions only."""

    topic_id: str
    partitions: tuple[int, ...]
    topic_name: str = ""


@message
class ConsumerGroupHeartbeatRequest:
    """``member_epoch`` 0 joins, -1 leaves, -2 leaves for a while (static members). ``member_id`` is the client's own choice.

    ``rebalance_timeout_ms`` -1: unchanged. ``topic_partitions`` is what the member owns: () on joining, None while unchanged.
    """

    API_KEY: ClassVar[int] = 68

    group_id: str
    member_id: str
    member_epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    subscribed_topic_names: tuple[str, ...] | None = None
    subscribed_topic_regex: str | None = None
    server_assignor: str | None = None
    topic_partitions: tuple[TopicPartitions, ...] | None = None
    client_id: str = ""


@message
class ConsumerGroupHeartbeatResponse:
    """``assignment`` None: nothing new to the member; () takes everything away."""

    error: ErrorCode
    error_message: str | None = None
    member_id: str | None = None
    member_epoch: int = 0
    heartbeat_interval_ms: int = 0
    assignment: tuple[TopicPartitions, ...] | None = None


@message
class ConsumerGroupDescribeRequest:
    API_KEY: ClassVar[int] = 69

    group_ids: tuple[str, ...]


@message
class ConsumerGroupDescribedMember:
    """``assignment`` is what the member has now, ``target_assignment`` what it is to have once the group is Stable."""

    member_id: str
    instance_id: str | None
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    subscribed_topic_names: tuple[str, ...]
    subscribed_topic_regex: str | None
    assignment: tuple[TopicPartitions, ...] = ()
    target_assignment: tuple[TopicPartitions, ...] = ()
    member_type: int = CONSUMER_MEMBER


@message
class ConsumerGroupDescribedGroup:
    """``error`` GROUP_ID_NOT_FOUND: no such group, or one that only speaks the classic protocol."""

    error: ErrorCode
    group_id: str
    error_message: str | None = None
    group_state: str = ""
    group_epoch: int = NO_EPOCH
    assignment_epoch: int = NO_EPOCH
    assignor_name: str = ""
    members: tuple[ConsumerGroupDescribedMember, ...] = ()


@message
class ConsumerGroupDescribeResponse:
    groups: tuple[ConsumerGroupDescribedGroup, ...]
