"""Requests and responses of administration: topics, partitions, configs, elections, the cluster.

Mirrors:  CreateTopics, DeleteTopics, CreatePartitions, DescribeConfigs, IncrementalAlterConfigs, AlterConfigs, ElectLeaders,
          AlterPartitionReassignments, UnregisterBroker, UpdateFeatures, DescribeCluster, DescribeTopicPartitions
          of org.apache.kafka.common.message.
Rule 1:   a broker forwards what changes metadata to the active controller; the controller answers the same message.
"""

from __future__ import annotations

from typing import ClassVar

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, NodeId, TopicPartition
from kafkasim.core.model.message import message
from kafkasim.core.model.messages import BrokerEndpoint

#: Resource types of configs (ConfigResource.Type).
TOPIC_RESOURCE = 2
BROKER_RESOURCE = 4
GROUP_RESOURCE = 32

#: Operations of IncrementalAlterConfigs.
SET_OPERATION = 0
DELETE_OPERATION = 1
APPEND_OPERATION = 2
SUBTRACT_OPERATION = 3

#: Where a config value comes from (DescribeConfigsResponse.ConfigSource).
DYNAMIC_TOPIC_CONFIG = 1
DYNAMIC_BROKER_CONFIG = 2
DYNAMIC_DEFAULT_BROKER_CONFIG = 3
STATIC_BROKER_CONFIG = 4
DEFAULT_CONFIG = 5
GROUP_CONFIG = 8


@message
class NewTopicSpec:
    """``num_partitions`` and ``replication_factor`` -1: the broker's defaults (or given by ``assignments``)."""

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    assignments: tuple[tuple[int, tuple[NodeId, ...]], ...] = ()
    configs: tuple[tuple[str, str | None], ...] = ()


@message
class CreateTopicsRequest:
    API_KEY: ClassVar[int] = 19

    topics: tuple[NewTopicSpec, ...]
    timeout_ms: int = 60_000
    validate_only: bool = False


@message
class TopicCreated:
    name: str
    error: ErrorCode
    error_message: str | None = None
    topic_id: str = ""
    num_partitions: int = -1
    replication_factor: int = -1


@message
class CreateTopicsResponse:
    topics: tuple[TopicCreated, ...]


@message
class DeleteTopicsRequest:
    API_KEY: ClassVar[int] = 20

    names: tuple[str, ...]
    timeout_ms: int = 60_000


@message
class NamedResult:
    """Outcome for one named thing: a topic, a group."""

    name: str
    error: ErrorCode
    error_message: str | None = None


@message
class DeleteTopicsResponse:
    topics: tuple[NamedResult, ...]


@message
class NewPartitionsSpec:
    """``count`` is the new total; ``assignments`` None lets the controller place the added ones."""

    name: str
    count: int
    assignments: tuple[tuple[NodeId, ...], ...] | None = None


@message
class CreatePartitionsRequest:
    API_KEY: ClassVar[int] = 37

    topics: tuple[NewPartitionsSpec, ...]
    timeout_ms: int = 60_000
    validate_only: bool = False


@message
class CreatePartitionsResponse:
    topics: tuple[NamedResult, ...]


@message
class ConfigResource:
    resource_type: int
    name: str


@message
class DescribeConfigsRequest:
    """A broker answers for topics and for itself; names None: every key."""

    API_KEY: ClassVar[int] = 32

    resources: tuple[ConfigResource, ...]
    include_synonyms: bool = True


@message
class ConfigValue:
    name: str
    value: str | None
    source: int
    read_only: bool = False
    is_default: bool = False
    is_sensitive: bool = False
    synonyms: tuple[tuple[str, str | None, int], ...] = ()


@message
class DescribedConfig:
    resource: ConfigResource
    error: ErrorCode
    error_message: str | None = None
    configs: tuple[ConfigValue, ...] = ()


@message
class DescribeConfigsResponse:
    results: tuple[DescribedConfig, ...]


@message
class ConfigAlteration:
    """``changes``: (key, operation, value)."""

    resource: ConfigResource
    changes: tuple[tuple[str, int, str | None], ...]


@message
class IncrementalAlterConfigsRequest:
    API_KEY: ClassVar[int] = 44

    resources: tuple[ConfigAlteration, ...]
    validate_only: bool = False


@message
class AlterConfigsRequest:
    """The old, replacing form: keys that are not named go back to their defaults."""

    API_KEY: ClassVar[int] = 33

    resources: tuple[ConfigAlteration, ...]
    validate_only: bool = False


@message
class ConfigAltered:
    resource: ConfigResource
    error: ErrorCode
    error_message: str | None = None


@message
class AlterConfigsResponse:
    """Answers both IncrementalAlterConfigs and AlterConfigs."""

    results: tuple[ConfigAltered, ...]


PREFERRED_ELECTION = 0
UNCLEAN_ELECTION = 1


@message
class ElectLeadersRequest:
    """``partitions`` None: all."""

    API_KEY: ClassVar[int] = 43

    election_type: int
    partitions: tuple[TopicPartition, ...] | None
    timeout_ms: int = 60_000


@message
class PartitionResult:
    tp: TopicPartition
    error: ErrorCode
    error_message: str | None = None


@message
class ElectLeadersResponse:
    error: ErrorCode
    partitions: tuple[PartitionResult, ...] = ()


@message
class Reassignment:
    """``replicas`` None cancels a running reassignment."""

    tp: TopicPartition
    replicas: tuple[NodeId, ...] | None


@message
class AlterPartitionReassignmentsRequest:
    API_KEY: ClassVar[int] = 45

    reassignments: tuple[Reassignment, ...]
    allow_replication_factor_change: bool = True
    timeout_ms: int = 60_000


@message
class AlterPartitionReassignmentsResponse:
    error: ErrorCode
    partitions: tuple[PartitionResult, ...] = ()


@message
class UnregisterBrokerRequest:
    API_KEY: ClassVar[int] = 64

    broker_id: NodeId


@message
class UnregisterBrokerResponse:
    """``error_message`` is empty, not absent, where nothing is wrong: so the protocol has it."""

    error: ErrorCode
    error_message: str | None = ""


#: Kinds of a feature's update (FeatureUpdate.UpgradeType).
UPGRADE = 1
SAFE_DOWNGRADE = 2
UNSAFE_DOWNGRADE = 3


@message
class FeatureUpdate:
    name: str
    level: int
    upgrade_type: int = UPGRADE


@message
class UpdateFeaturesRequest:
    """All of the updates, or none."""

    API_KEY: ClassVar[int] = 57

    updates: tuple[FeatureUpdate, ...]
    validate_only: bool = False


@message
class UpdateFeaturesResponse:
    error: ErrorCode
    error_message: str | None = None


@message
class DescribeClusterRequest:
    API_KEY: ClassVar[int] = 60

    include_fenced_brokers: bool = False


@message
class DescribeClusterResponse:
    error: ErrorCode
    cluster_id: str = ""
    controller_id: NodeId = NO_NODE
    brokers: tuple[BrokerEndpoint, ...] = ()
