"""Requests and responses of share groups: membership, fetching, acknowledging, and the share coordinator's state (KIP-932).

Mirrors:  ShareGroupHeartbeat, ShareGroupDescribe, ShareFetch, ShareAcknowledge, Initialize/Read/Write/Delete/ReadSummary
          ShareGroupState, Describe/Alter/Delete ShareGroupOffsets of org.apache.kafka.common.message (4.3).
Rule 1:   topics travel by their ids, as on the wire; ``TopicIdPartition`` names one partition of one incarnation of a topic.
Rule 2:   a list of acknowledge types with one entry stands for every offset of its batch.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from kafkasim.core.model.consumer_group_messages import TopicPartitions
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_NODE, NO_OFFSET, NodeId
from kafkasim.core.model.message import message
from kafkasim.core.model.records import RecordBatch

SHARE_GROUP_STATE_TOPIC = "__share_group_state"

#: Acknowledge types on the wire. GAP tells that the offset held no record for the client.
ACK_GAP = 0
ACK_ACCEPT = 1
ACK_RELEASE = 2
ACK_REJECT = 3
ACK_RENEW = 4

#: Share session epochs with a meaning of their own.
INITIAL_SESSION_EPOCH = 0
FINAL_SESSION_EPOCH = -1

#: ShareAcquireMode (KIP-1206).
BATCH_OPTIMIZED = 0
RECORD_LIMIT = 1

#: Nobody has asked where the share partition starts yet: ``share.auto.offset.reset`` decides at the first load.
UNINITIALIZED_START_OFFSET = -1
#: The delivery complete count of state that an older write left behind.
UNINITIALIZED_DELIVERY_COMPLETE_COUNT = -1


class TopicIdPartition(NamedTuple):
    """One partition of one incarnation of a topic."""

    topic_id: str
    partition: int


# --- membership ----------------------------------------------------------------------------------------------------


@message
class ShareGroupHeartbeatRequest:
    """``member_epoch`` 0 joins, -1 leaves; a field that is None has not changed. ``member_id`` is the client's own choice."""

    API_KEY: ClassVar[int] = 76

    group_id: str
    member_id: str
    member_epoch: int
    rack_id: str | None = None
    subscribed_topic_names: tuple[str, ...] | None = None
    client_id: str = ""


@message
class ShareGroupHeartbeatResponse:
    """``assignment`` None: nothing new to the member."""

    error: ErrorCode
    error_message: str | None = None
    member_id: str | None = None
    member_epoch: int = 0
    heartbeat_interval_ms: int = 0
    assignment: tuple[TopicPartitions, ...] | None = None


@message
class ShareGroupDescribeRequest:
    API_KEY: ClassVar[int] = 77

    group_ids: tuple[str, ...]


@message
class ShareGroupDescribedMember:
    member_id: str
    member_epoch: int
    client_id: str
    client_host: str
    rack_id: str | None
    subscribed_topic_names: tuple[str, ...]
    assignment: tuple[TopicPartitions, ...]


@message
class ShareGroupDescribed:
    error: ErrorCode
    group_id: str
    error_message: str | None = None
    group_state: str = ""
    group_epoch: int = 0
    assignment_epoch: int = 0
    assignor_name: str = ""
    members: tuple[ShareGroupDescribedMember, ...] = ()


@message
class ShareGroupDescribeResponse:
    groups: tuple[ShareGroupDescribed, ...]


# --- fetching and acknowledging ------------------------------------------------------------------------------------


@message
class AcknowledgementBatch:
    """Offsets ``first_offset`` to ``last_offset``, one type for each or one for all of them."""

    first_offset: int
    last_offset: int
    types: tuple[int, ...]


@message
class PartitionShareFetch:
    """A partition to add to the share session, or one that is in it and has acknowledgements."""

    tip: TopicIdPartition
    acknowledgements: tuple[AcknowledgementBatch, ...] = ()


@message
class ShareFetchRequest:
    API_KEY: ClassVar[int] = 78

    group_id: str
    member_id: str
    session_epoch: int
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    max_records: int
    batch_size: int
    partitions: tuple[PartitionShareFetch, ...] = ()
    forgotten: tuple[TopicIdPartition, ...] = ()
    acquire_mode: int = BATCH_OPTIMIZED
    is_renew_ack: bool = False


@message
class AcquiredRecords:
    """Offsets that the asking member holds the acquisition locks of from now on."""

    first_offset: int
    last_offset: int
    delivery_count: int


@message
class PartitionShareFetched:
    """``acknowledge_error`` is about the acknowledgements that came with the request. ``batches`` are the leader's own objects."""

    tip: TopicIdPartition
    error: ErrorCode = ErrorCode.NONE
    acknowledge_error: ErrorCode = ErrorCode.NONE
    batches: tuple[RecordBatch, ...] = ()
    acquired: tuple[AcquiredRecords, ...] = ()
    current_leader: NodeId = NO_NODE
    current_leader_epoch: int = NO_EPOCH


@message
class ShareFetchResponse:
    error: ErrorCode
    partitions: tuple[PartitionShareFetched, ...] = ()
    acquisition_lock_timeout_ms: int = 0

    @property
    def size_bytes(self) -> int:
        size = 60
        for part in self.partitions:
            size += 40 + 18 * len(part.acquired)
            for batch in part.batches:
                size += batch.size_bytes
        return size


@message
class ShareAcknowledgeRequest:
    API_KEY: ClassVar[int] = 79

    group_id: str
    member_id: str
    session_epoch: int
    partitions: tuple[PartitionShareFetch, ...] = ()
    is_renew_ack: bool = False


@message
class PartitionShareAcknowledged:
    tip: TopicIdPartition
    error: ErrorCode = ErrorCode.NONE
    current_leader: NodeId = NO_NODE
    current_leader_epoch: int = NO_EPOCH


@message
class ShareAcknowledgeResponse:
    error: ErrorCode
    partitions: tuple[PartitionShareAcknowledged, ...] = ()
    acquisition_lock_timeout_ms: int = 0


# --- the share coordinator -----------------------------------------------------------------------------------------


@message
class StateBatch:
    """Offsets with one delivery state (0 available, 2 acknowledged, 4 archived) and delivery count."""

    first_offset: int
    last_offset: int
    delivery_state: int
    delivery_count: int


@message
class PartitionStateInit:
    tip: TopicIdPartition
    state_epoch: int
    start_offset: int = UNINITIALIZED_START_OFFSET


@message
class InitializeShareGroupStateRequest:
    API_KEY: ClassVar[int] = 83

    group_id: str
    partitions: tuple[PartitionStateInit, ...]


@message
class PartitionStateRead:
    tip: TopicIdPartition
    leader_epoch: int


@message
class ReadShareGroupStateRequest:
    API_KEY: ClassVar[int] = 84

    group_id: str
    partitions: tuple[PartitionStateRead, ...]


@message
class PartitionStateWrite:
    tip: TopicIdPartition
    state_epoch: int
    leader_epoch: int
    start_offset: int
    delivery_complete_count: int
    batches: tuple[StateBatch, ...]


@message
class WriteShareGroupStateRequest:
    API_KEY: ClassVar[int] = 85

    group_id: str
    partitions: tuple[PartitionStateWrite, ...]


@message
class DeleteShareGroupStateRequest:
    API_KEY: ClassVar[int] = 86

    group_id: str
    partitions: tuple[TopicIdPartition, ...]


@message
class ReadShareGroupStateSummaryRequest:
    API_KEY: ClassVar[int] = 87

    group_id: str
    partitions: tuple[PartitionStateRead, ...]


@message
class PartitionState:
    """The answer about one partition: what a read, a summary, an initialisation, a write or a deletion came to."""

    tip: TopicIdPartition
    error: ErrorCode
    state_epoch: int = 0
    leader_epoch: int = NO_EPOCH
    start_offset: int = UNINITIALIZED_START_OFFSET
    delivery_complete_count: int = UNINITIALIZED_DELIVERY_COMPLETE_COUNT
    batches: tuple[StateBatch, ...] = ()


@message
class ShareGroupStateResponse:
    """One answer for all five requests to a share coordinator."""

    partitions: tuple[PartitionState, ...]


# --- administration of share group offsets -------------------------------------------------------------------------


@message
class ShareGroupOffsets:
    """``topics`` None: every topic of the group."""

    group_id: str
    topics: tuple[tuple[str, tuple[int, ...]], ...] | None = None


@message
class DescribeShareGroupOffsetsRequest:
    API_KEY: ClassVar[int] = 90

    groups: tuple[ShareGroupOffsets, ...]


@message
class ShareGroupPartitionOffset:
    """``lag`` -1 while unknown."""

    topic: str
    topic_id: str
    partition: int
    error: ErrorCode
    start_offset: int = NO_OFFSET
    leader_epoch: int = 0
    lag: int = -1


@message
class ShareGroupOffsetsDescribed:
    group_id: str
    error: ErrorCode
    partitions: tuple[ShareGroupPartitionOffset, ...] = ()
    error_message: str | None = None


@message
class DescribeShareGroupOffsetsResponse:
    groups: tuple[ShareGroupOffsetsDescribed, ...]


@message
class AlterShareGroupOffsetsRequest:
    API_KEY: ClassVar[int] = 91

    group_id: str
    #: (topic, partition, start offset)
    offsets: tuple[tuple[str, int, int], ...]


@message
class AlterShareGroupOffsetsResponse:
    error: ErrorCode
    error_message: str | None = None
    #: (topic, partition, error)
    partitions: tuple[tuple[str, int, ErrorCode], ...] = ()


@message
class DeleteShareGroupOffsetsRequest:
    API_KEY: ClassVar[int] = 92

    group_id: str
    topics: tuple[str, ...]


@message
class DeleteShareGroupOffsetsResponse:
    error: ErrorCode
    error_message: str | None = None
    #: (topic, error)
    topics: tuple[tuple[str, ErrorCode], ...] = ()
