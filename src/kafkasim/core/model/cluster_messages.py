"""Requests and responses between brokers and the controller quorum.

Mirrors:  BrokerRegistration, BrokerHeartbeat, AlterPartition, AllocateProducerIds, Vote, BeginQuorumEpoch, EndQuorumEpoch of
          org.apache.kafka.common.message. Replication of the metadata log itself uses ``FetchRequest`` on METADATA_PARTITION
          with ``MetadataBatch`` objects in the place of record batches.
"""

from __future__ import annotations

from typing import ClassVar

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_NODE, NO_OFFSET, NO_PRODUCER_ID, NodeId, TopicPartition
from kafkasim.core.model.message import message
from kafkasim.core.model.messages import EpochEnd
from kafkasim.core.model.metadata import MetadataBatch, MetadataSnapshot


@message
class BrokerRegistrationRequest:
    """``previous_broker_epoch`` comes from the clean-shutdown file, -1 without one; ``incarnation_id`` is new per process."""

    API_KEY: ClassVar[int] = 62

    broker_id: NodeId
    incarnation_id: str
    host: str
    port: int
    rack: str | None
    previous_broker_epoch: int = -1


@message
class BrokerRegistrationResponse:
    error: ErrorCode
    broker_epoch: int = NO_EPOCH


@message
class BrokerHeartbeatRequest:
    API_KEY: ClassVar[int] = 63

    broker_id: NodeId
    broker_epoch: int
    current_metadata_offset: int
    want_fence: bool
    want_shut_down: bool = False


@message
class BrokerHeartbeatResponse:
    error: ErrorCode
    is_caught_up: bool = False
    is_fenced: bool = True
    should_shut_down: bool = False


@message
class PartitionIsrChange:
    """``new_isr``: (broker id, broker epoch)."""

    tp: TopicPartition
    topic_id: str
    leader_epoch: int
    partition_epoch: int
    new_isr: tuple[tuple[NodeId, int], ...]
    leader_recovery_state: int = 0


@message
class AlterPartitionRequest:
    API_KEY: ClassVar[int] = 56

    broker_id: NodeId
    broker_epoch: int
    partitions: tuple[PartitionIsrChange, ...]


@message
class PartitionIsrResult:
    tp: TopicPartition
    error: ErrorCode
    leader: NodeId = NO_NODE
    leader_epoch: int = NO_EPOCH
    isr: tuple[NodeId, ...] = ()
    partition_epoch: int = NO_EPOCH
    leader_recovery_state: int = 0


@message
class AlterPartitionResponse:
    error: ErrorCode
    partitions: tuple[PartitionIsrResult, ...] = ()


@message
class AllocateProducerIdsRequest:
    API_KEY: ClassVar[int] = 67

    broker_id: NodeId
    broker_epoch: int


@message
class AllocateProducerIdsResponse:
    error: ErrorCode
    producer_id_start: int = NO_PRODUCER_ID
    producer_id_len: int = 0


# --- The quorum ----------------------------------------------------------------------------------------------------


@message
class VoteRequest:
    API_KEY: ClassVar[int] = 52

    candidate_id: NodeId
    candidate_epoch: int
    last_epoch: int
    last_epoch_end_offset: int
    pre_vote: bool = False


@message
class VoteResponse:
    error: ErrorCode
    leader_id: NodeId = NO_NODE
    leader_epoch: int = NO_EPOCH
    vote_granted: bool = False


@message
class BeginQuorumEpochRequest:
    API_KEY: ClassVar[int] = 53

    leader_id: NodeId
    leader_epoch: int


@message
class BeginQuorumEpochResponse:
    error: ErrorCode
    leader_id: NodeId = NO_NODE
    leader_epoch: int = NO_EPOCH


@message
class EndQuorumEpochRequest:
    """``preferred_successors`` in order of their log end."""

    API_KEY: ClassVar[int] = 54

    leader_id: NodeId
    leader_epoch: int
    preferred_successors: tuple[NodeId, ...]


@message
class EndQuorumEpochResponse:
    error: ErrorCode
    leader_id: NodeId = NO_NODE
    leader_epoch: int = NO_EPOCH


@message
class QuorumFetchRequest:
    """Fetch (API 1) of the metadata log by a voter or an observer (``replica_id`` of a broker that is no voter)."""

    API_KEY: ClassVar[int] = 1

    replica_id: NodeId
    current_leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    max_wait_ms: int = 500
    high_watermark: int = NO_OFFSET


@message
class QuorumFetchResponse:
    """Error NONE, or FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER with what the node knows of the leader.

    ``snapshot_id``: what was asked for is not in the log any more; the snapshot that ends there is to be fetched instead.
    """

    error: ErrorCode
    leader_id: NodeId = NO_NODE
    leader_epoch: int = NO_EPOCH
    high_watermark: int = NO_OFFSET
    batches: tuple[MetadataBatch, ...] = ()
    diverging: EpochEnd | None = None
    snapshot_id: EpochEnd | None = None

    @property
    def size_bytes(self) -> int:
        return 60 + sum(60 + 40 * len(batch.records) for batch in self.batches)


@message
class FetchSnapshotRequest:
    """A snapshot of the metadata log, by (epoch, end offset)."""

    API_KEY: ClassVar[int] = 59

    replica_id: NodeId
    current_leader_epoch: int
    snapshot_id: EpochEnd


@message
class FetchSnapshotResponse:
    """Error NONE, SNAPSHOT_NOT_FOUND, or one of a quorum fetch."""

    error: ErrorCode
    leader_id: NodeId = NO_NODE
    leader_epoch: int = NO_EPOCH
    snapshot: MetadataSnapshot | None = None

    @property
    def size_bytes(self) -> int:
        return 80 + (0 if self.snapshot is None else self.snapshot.size_bytes)


@message
class DescribeQuorumRequest:
    API_KEY: ClassVar[int] = 55


@message
class ReplicaState:
    replica_id: NodeId
    log_end_offset: int


@message
class DescribeQuorumResponse:
    error: ErrorCode
    leader_id: NodeId = NO_NODE
    leader_epoch: int = NO_EPOCH
    high_watermark: int = NO_OFFSET
    voters: tuple[ReplicaState, ...] = ()
    observers: tuple[ReplicaState, ...] = ()


@message
class Envelope:
    """An admin request that a broker forwards to the active controller; answered by ``EnvelopeResponse``."""

    API_KEY: ClassVar[int] = 58

    request: object


@message
class EnvelopeResponse:
    error: ErrorCode
    response: object = None
