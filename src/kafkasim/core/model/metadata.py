"""Records of the metadata log: what the controller writes and every node replays.

Mirrors:  org.apache.kafka.common.metadata.* (TopicRecord, PartitionRecord, PartitionChangeRecord, RegisterBrokerRecord, ...).
Rule 1:   a record changes an image only by being replayed; nothing else changes an image.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from kafkasim.core.model.ids import NO_LEADER, NodeId
from kafkasim.core.model.message import aside, message

#: ``PartitionChangeRecord.leader``: the record does not touch the leader.
NO_LEADER_CHANGE = -2

RECOVERED = 0
RECOVERING = 1


@message
class TopicRecord:
    name: str
    topic_id: str


@message
class RemoveTopicRecord:
    topic_id: str


@message
class PartitionRecord:
    topic_id: str
    partition: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    leader: NodeId
    leader_epoch: int = 0
    partition_epoch: int = 0
    removing_replicas: tuple[NodeId, ...] = ()
    adding_replicas: tuple[NodeId, ...] = ()
    leader_recovery_state: int = RECOVERED
    elr: tuple[NodeId, ...] = ()
    last_known_elr: tuple[NodeId, ...] = ()
    #: What replaying this record makes, kept by the first image that did: the same for every other.
    replayed: Any = aside(init=False)


@message
class PartitionChangeRecord:
    """Fields that are None (``leader`` NO_LEADER_CHANGE) stay as they are."""

    topic_id: str
    partition: int
    leader: NodeId = NO_LEADER_CHANGE
    isr: tuple[NodeId, ...] | None = None
    replicas: tuple[NodeId, ...] | None = None
    removing_replicas: tuple[NodeId, ...] | None = None
    adding_replicas: tuple[NodeId, ...] | None = None
    leader_recovery_state: int | None = None
    elr: tuple[NodeId, ...] | None = None
    last_known_elr: tuple[NodeId, ...] | None = None
    #: (state before, state after) of the first image that replayed this record: the same for every other with that state before.
    replayed: Any = aside(init=False)


@message
class ClearElrRecord:
    """Empties ELR and LastKnownElr of one topic, or of all with an empty name."""

    topic_name: str


@message
class RegisterBrokerRecord:
    broker_id: NodeId
    incarnation_id: str
    broker_epoch: int
    host: str
    port: int
    rack: str | None
    fenced: bool = True
    in_controlled_shutdown: bool = False


@message
class UnregisterBrokerRecord:
    broker_id: NodeId
    broker_epoch: int


@message
class BrokerRegistrationChangeRecord:
    """``fenced``: 1 fences, -1 unfences, 0 leaves; ``in_controlled_shutdown``: 1 sets, 0 leaves."""

    broker_id: NodeId
    broker_epoch: int
    fenced: int = 0
    in_controlled_shutdown: int = 0


@message
class ConfigRecord:
    """``resource_type`` as in ``admin_messages``; ``value`` None deletes the key."""

    resource_type: int
    resource_name: str
    name: str
    value: str | None


@message
class ProducerIdsRecord:
    broker_id: NodeId
    broker_epoch: int
    next_producer_id: int


@message
class FeatureLevelRecord:
    name: str
    feature_level: int


@message
class NoOpRecord:
    """Written by an idle controller so that the log shows that it lives."""


@message
class LeaderChangeRecord:
    """Control record at the head of a leader's epoch in the quorum."""

    leader_id: NodeId
    voters: tuple[NodeId, ...]


MetadataRecord: TypeAlias = (
    "TopicRecord | RemoveTopicRecord | PartitionRecord | PartitionChangeRecord | ClearElrRecord | RegisterBrokerRecord"
    " | UnregisterBrokerRecord | BrokerRegistrationChangeRecord | ConfigRecord | ProducerIdsRecord | FeatureLevelRecord"
    " | NoOpRecord | LeaderChangeRecord"
)


@message
class MetadataBatch:
    """An atomic batch of the metadata log: the records at ``base_offset``, ``base_offset + 1``, ..., written in ``epoch``."""

    base_offset: int
    epoch: int
    records: tuple[MetadataRecord, ...]
    append_time_ms: int = 0

    @property
    def next_offset(self) -> int:
        return self.base_offset + len(self.records)


#: What a record takes up in the log, its share of the batch included: thresholds in bytes count records by this.
METADATA_RECORD_BYTES = 100


@message
class MetadataSnapshot:
    """The whole image as of ``end_offset`` (exclusive), as records; ``epoch`` is that of the last record in it."""

    end_offset: int
    epoch: int
    records: tuple[MetadataRecord, ...]

    @property
    def size_bytes(self) -> int:
        return METADATA_RECORD_BYTES * len(self.records)


NO_LEADER_NODE = NO_LEADER
