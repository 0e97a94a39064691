"""Requests and responses of the data plane and of metadata: Produce, Fetch, ListOffsets, Metadata and their kin.

Mirrors:  org.apache.kafka.common.message.*; fields that no machine here reads are left out.
Rule 1:   a request names its API by ``API_KEY``; a response is what a node answers to exactly that request.
Rule 2:   only messages that carry batches have a ``size_bytes`` of their own; every other weighs ``SMALL_MESSAGE_BYTES``.
Beside:   ``group_messages`` (groups and offsets), ``admin_messages`` (topics, configs), ``cluster_messages`` (controller, quorum).
"""

from __future__ import annotations

from typing import ClassVar

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import (
    NO_EPOCH,
    NO_NODE,
    NO_OFFSET,
    NO_PRODUCER_ID,
    NO_TIMESTAMP,
    NodeId,
    TopicPartition,
)
from kafkasim.core.model.message import message
from kafkasim.core.model.records import RecordBatch

SMALL_MESSAGE_BYTES = 120

READ_UNCOMMITTED = 0
READ_COMMITTED = 1


# --- Produce -------------------------------------------------------------------------------------------------------


@message
class PartitionProduce:
    """One sealed batch for one partition; ``batch.base_offset`` is -1 until a leader places it."""

    tp: TopicPartition
    batch: RecordBatch


@message
class ProduceRequest:
    """``acks`` -1, 0 or 1; ``timeout_ms`` bounds the wait for replication at acks=-1."""

    API_KEY: ClassVar[int] = 0

    acks: int
    timeout_ms: int
    partitions: list[PartitionProduce]
    transactional_id: str | None = None

    @property
    def size_bytes(self) -> int:
        size = 80 + 30 * len(self.partitions)
        for part in self.partitions:
            size += part.batch.size_bytes
        return size


@message
class PartitionProduced:
    """``base_offset`` -1 on most errors; ``log_append_time_ms`` -1 unless the topic uses LogAppendTime.

    On NOT_LEADER_OR_FOLLOWER the broker tells what it knows: ``current_leader`` and ``current_leader_epoch`` (KIP-951).
    """

    tp: TopicPartition
    error: ErrorCode
    base_offset: int = NO_OFFSET
    log_append_time_ms: int = NO_TIMESTAMP
    log_start_offset: int = NO_OFFSET
    current_leader: NodeId = NO_NODE
    current_leader_epoch: int = NO_EPOCH
    error_message: str | None = None


@message
class ProduceResponse:
    """``node_endpoints``: where the leaders are that the partitions name (KIP-951)."""

    partitions: list[PartitionProduced]
    node_endpoints: tuple[BrokerEndpoint, ...] = ()


# --- Fetch ---------------------------------------------------------------------------------------------------------


@message
class PartitionFetch:
    """What a fetcher wants of one partition, from ``fetch_offset`` on."""

    tp: TopicPartition
    fetch_offset: int
    max_bytes: int = 1_048_576
    current_leader_epoch: int = NO_EPOCH
    last_fetched_epoch: int = NO_EPOCH
    log_start_offset: int = NO_OFFSET
    topic_id: str | None = None


@message
class FetchRequest:
    """``replica_id`` -1 for a consumer, a broker id for a follower (or quorum follower/observer of the metadata partition).

    Sessions (KIP-227): ``session_id`` 0 and ``session_epoch`` -1 mean a full fetch without a session (all that librdkafka
    does); session_id 0 and epoch 0 ask for a new session; otherwise only changed partitions are listed and ``forgotten`` ones
    dropped. ``replica_epoch`` is the follower's broker epoch.
    """

    API_KEY: ClassVar[int] = 1

    replica_id: NodeId
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    partitions: list[PartitionFetch]
    isolation_level: int = READ_UNCOMMITTED
    session_id: int = 0
    session_epoch: int = -1
    forgotten: tuple[TopicPartition, ...] = ()
    rack_id: str = ""
    replica_epoch: int = NO_EPOCH


@message
class EpochEnd:
    """A leader epoch and its (exclusive) end offset."""

    epoch: int
    end_offset: int


@message
class AbortedTransaction:
    producer_id: int
    first_offset: int


@message
class PartitionFetched:
    """``batches`` are the leader's own objects. ``diverging`` set: no data, the follower must truncate (KIP-595)."""

    tp: TopicPartition
    error: ErrorCode
    high_watermark: int = NO_OFFSET
    last_stable_offset: int = NO_OFFSET
    log_start_offset: int = NO_OFFSET
    batches: tuple[RecordBatch, ...] = ()
    diverging: EpochEnd | None = None
    current_leader: NodeId = NO_NODE
    current_leader_epoch: int = NO_EPOCH
    preferred_read_replica: NodeId = NO_NODE
    aborted_transactions: tuple[AbortedTransaction, ...] = ()


@message
class FetchResponse:
    """``node_endpoints``: where the leaders are that the partitions name (KIP-951)."""

    partitions: list[PartitionFetched]
    error: ErrorCode = ErrorCode.NONE
    session_id: int = 0
    node_endpoints: tuple[BrokerEndpoint, ...] = ()

    @property
    def size_bytes(self) -> int:
        size = 60 + 40 * len(self.partitions)
        for part in self.partitions:
            for batch in part.batches:
                size += batch.size_bytes
        return size


# --- Offsets of a log ----------------------------------------------------------------------------------------------


@message
class PartitionListOffsets:
    """``timestamp_ms``: a time, or LATEST_TIMESTAMP, EARLIEST_TIMESTAMP, MAX_TIMESTAMP of ``ids``."""

    tp: TopicPartition
    timestamp_ms: int
    current_leader_epoch: int = NO_EPOCH


@message
class ListOffsetsRequest:
    API_KEY: ClassVar[int] = 2

    partitions: list[PartitionListOffsets]
    replica_id: NodeId = NO_NODE
    isolation_level: int = READ_UNCOMMITTED


@message
class PartitionOffset:
    """``offset`` -1 when no record is at or after the asked time."""

    tp: TopicPartition
    error: ErrorCode
    offset: int = NO_OFFSET
    timestamp_ms: int = NO_TIMESTAMP
    leader_epoch: int = NO_EPOCH


@message
class ListOffsetsResponse:
    partitions: list[PartitionOffset]


@message
class PartitionEpochQuery:
    tp: TopicPartition
    leader_epoch: int
    current_leader_epoch: int = NO_EPOCH


@message
class OffsetForLeaderEpochRequest:
    API_KEY: ClassVar[int] = 23

    partitions: list[PartitionEpochQuery]
    replica_id: NodeId = NO_NODE


@message
class PartitionEpochEnd:
    """The largest known epoch at most the asked one, and where it ends; (-1, -1) if unknown."""

    tp: TopicPartition
    error: ErrorCode
    leader_epoch: int = NO_EPOCH
    end_offset: int = NO_OFFSET


@message
class OffsetForLeaderEpochResponse:
    partitions: list[PartitionEpochEnd]


@message
class PartitionDeleteRecords:
    """Delete what is before ``offset`` (-1: before the high watermark)."""

    tp: TopicPartition
    offset: int


@message
class DeleteRecordsRequest:
    API_KEY: ClassVar[int] = 21

    partitions: list[PartitionDeleteRecords]
    timeout_ms: int = 30_000


@message
class PartitionRecordsDeleted:
    tp: TopicPartition
    error: ErrorCode
    low_watermark: int = NO_OFFSET


@message
class DeleteRecordsResponse:
    partitions: list[PartitionRecordsDeleted]


# --- Producer ids --------------------------------------------------------------------------------------------------


@message
class InitProducerIdRequest:
    """``producer_id`` and ``producer_epoch`` set: bump the epoch of that id (KIP-360)."""

    API_KEY: ClassVar[int] = 22

    transactional_id: str | None = None
    transaction_timeout_ms: int = 60_000
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_EPOCH


@message
class InitProducerIdResponse:
    error: ErrorCode
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_EPOCH


# --- Metadata ------------------------------------------------------------------------------------------------------


@message
class MetadataRequest:
    """``topics`` None: all topics; () : brokers only. ``topic_ids`` asks for topics of which only the id is known."""

    API_KEY: ClassVar[int] = 3

    topics: tuple[str, ...] | None
    allow_auto_topic_creation: bool = True
    topic_ids: tuple[str, ...] = ()


@message
class BrokerEndpoint:
    node_id: NodeId
    host: str
    port: int
    rack: str | None = None


@message
class PartitionMetadata:
    error: ErrorCode
    partition: int
    leader: NodeId
    leader_epoch: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    offline_replicas: tuple[NodeId, ...] = ()


@message
class TopicMetadata:
    """``partitions`` in order of their numbers, without a gap."""

    error: ErrorCode
    name: str
    topic_id: str
    is_internal: bool
    partitions: tuple[PartitionMetadata, ...]


@message
class MetadataResponse:
    """``controller_id`` is, as in KRaft, just some live broker."""

    brokers: tuple[BrokerEndpoint, ...]
    cluster_id: str
    controller_id: NodeId
    topics: tuple[TopicMetadata, ...]
    error: ErrorCode = ErrorCode.NONE
