"""Answers to administrative requests as the application sees them, built into the classes of the client's Python layer.

Mirrors:  the Admin_c_..._to_py functions of Admin.c.
Rule 1:   the classes are the layer's; here are only values put into them.
Rule 2:   a failure of one topic, group or resource is a KafkaError in its place.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from kafkasim.confluent_kafka import _constants
from kafkasim.confluent_kafka._constants import OFFSET_INVALID
from kafkasim.confluent_kafka.errors import KafkaError, error_or_none, error_text
from kafkasim.confluent_kafka.layer import layer_module
from kafkasim.confluent_kafka.values import TopicPartition, Uuid
from kafkasim.core.model.admin_messages import GROUP_RESOURCE
from kafkasim.core.model.consumer_group_messages import ConsumerGroupDescribedGroup
from kafkasim.core.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafkasim.core.client.operation import Operation
    from kafkasim.core.model.admin_messages import ConfigAltered, ConfigValue, DescribedConfig
    from kafkasim.core.model.consumer_group_messages import ConsumerGroupDescribedMember, TopicPartitions
    from kafkasim.core.model.group_messages import (
        DescribedGroup,
        DescribedMember,
        ListedGroup,
        OffsetAndMetadata,
    )
    from kafkasim.core.model.messages import (
        BrokerEndpoint,
        ListOffsetsResponse,
        MetadataResponse,
        TopicMetadata,
    )

_STATES = {
    "preparingrebalance": _constants.CONSUMER_GROUP_STATE_PREPARING_REBALANCE,
    "completingrebalance": _constants.CONSUMER_GROUP_STATE_COMPLETING_REBALANCE,
    "stable": _constants.CONSUMER_GROUP_STATE_STABLE,
    "dead": _constants.CONSUMER_GROUP_STATE_DEAD,
    "empty": _constants.CONSUMER_GROUP_STATE_EMPTY,
}
_TYPES = {
    "consumer": _constants.CONSUMER_GROUP_TYPE_CONSUMER,
    "classic": _constants.CONSUMER_GROUP_TYPE_CLASSIC,
}
#: States and types as ListGroups filters by them.
STATE_NAMES = {
    _constants.CONSUMER_GROUP_STATE_PREPARING_REBALANCE: "PreparingRebalance",
    _constants.CONSUMER_GROUP_STATE_COMPLETING_REBALANCE: "CompletingRebalance",
    _constants.CONSUMER_GROUP_STATE_STABLE: "Stable",
    _constants.CONSUMER_GROUP_STATE_DEAD: "Dead",
    _constants.CONSUMER_GROUP_STATE_EMPTY: "Empty",
}
TYPE_NAMES = {number: name.capitalize() for name, number in _TYPES.items()}


def group_state(name: str) -> int:
    """A group's state, from Kafka's word to the client's constant."""
    return _STATES.get(name.lower(), _constants.CONSUMER_GROUP_STATE_UNKNOWN)


def failure(code: ErrorCode | int, message: str | None = None) -> KafkaError | None:
    """None, or the error with the broker's own message where it sent one."""
    return error_or_none(code, message or error_text(int(code)))


def named_errors(results: Iterable[Any]) -> dict[str, KafkaError | None]:
    """Outcome by name, of topics."""
    return {result.name: failure(result.error, result.error_message) for result in results}


def named_codes(results: Iterable[Any]) -> dict[str, KafkaError | None]:
    """The same where the client speaks a version of the request that has no messages."""
    return {result.name: failure(result.error) for result in results}


def partition_key(tp: tuple[str, int], offset: int = OFFSET_INVALID, code: int = 0) -> TopicPartition:
    """A partition as the key of a result."""
    return TopicPartition._made(tp[0], tp[1], offset, error_or_none(code))


# --- Configs -------------------------------------------------------------------------------------------------------


def described_configs(results: Iterable[DescribedConfig]) -> dict[Any, Any]:
    """ConfigResource to its entries by name."""
    admin = layer_module("admin")
    described = {}
    for result in results:
        entries = {value.name: _config_entry(admin, value) for value in result.configs}
        described[_resource(admin, result, entries)] = entries
    return described


def altered_configs(results: Iterable[ConfigAltered]) -> dict[Any, None]:
    """ConfigResource (which carries the error) to None."""
    admin = layer_module("admin")
    return {_resource(admin, result, {}): None for result in results}


def _resource(admin: Any, result: DescribedConfig | ConfigAltered, entries: dict[str, Any]) -> Any:
    kind = result.resource.resource_type
    return admin.ConfigResource(
        restype=_constants.RESOURCE_GROUP if kind == GROUP_RESOURCE else kind,
        name=result.resource.name,
        described_configs=entries,
        error=failure(result.error, result.error_message),
    )


def _config_entry(admin: Any, value: ConfigValue) -> Any:
    synonyms = {
        name: admin.ConfigEntry(
            name=name,
            value=text,
            source=source,
            is_read_only=0,
            is_default=0,
            is_sensitive=0,
            is_synonym=1,
            synonyms={},
        )
        for name, text, source in value.synonyms
    }
    return admin.ConfigEntry(
        name=value.name,
        value=value.value,
        source=value.source,
        is_read_only=int(value.read_only),
        is_default=int(value.is_default),
        is_sensitive=int(value.is_sensitive),
        is_synonym=0,
        synonyms=synonyms,
    )


# --- Groups --------------------------------------------------------------------------------------------------------


def listed_groups(groups: Iterable[ListedGroup], errors: list[KafkaError]) -> Any:
    """A ListConsumerGroupsResult: groups of consumers, and what some brokers failed with."""
    admin = layer_module("admin")
    valid = [
        admin.ConsumerGroupListing(
            group_id=group.group_id,
            is_simple_consumer_group=group.protocol_type == "",
            state=group_state(group.group_state),
            type=_TYPES.get(group.group_type.lower(), _constants.CONSUMER_GROUP_TYPE_UNKNOWN),
        )
        for group in groups
        if group.protocol_type in ("", "consumer")
    ]
    return admin.ListConsumerGroupsResult(valid=valid, errors=errors)


def described_group(group: DescribedGroup | ConsumerGroupDescribedGroup, coordinator: Any) -> Any:
    """A ConsumerGroupDescription, or the group's KafkaError."""
    if group.error:
        return failure(group.error)
    admin = layer_module("admin")
    if isinstance(group, ConsumerGroupDescribedGroup):
        return admin.ConsumerGroupDescription(
            group_id=group.group_id,
            is_simple_consumer_group=False,
            members=[_described_consumer_member(admin, member) for member in group.members],
            partition_assignor=group.assignor_name,
            state=group_state(group.group_state),
            coordinator=coordinator,
            type=_constants.CONSUMER_GROUP_TYPE_CONSUMER,
        )
    return admin.ConsumerGroupDescription(
        group_id=group.group_id,
        is_simple_consumer_group=group.protocol_type == "",
        members=[_described_member(admin, member) for member in group.members],
        partition_assignor=group.protocol_data,
        state=group_state(group.group_state),
        coordinator=coordinator,
        type=_constants.CONSUMER_GROUP_TYPE_CLASSIC,
    )


def _described_member(admin: Any, member: DescribedMember) -> Any:
    partitions = member.assignment.partitions if member.assignment is not None else ()
    assigned = [partition_key(tp) for tp in partitions]
    return admin.MemberDescription(
        member_id=member.member_id,
        client_id=member.client_id,
        host=member.client_host,
        assignment=admin.MemberAssignment(topic_partitions=assigned),
        group_instance_id=member.group_instance_id,
    )


def _described_consumer_member(admin: Any, member: ConsumerGroupDescribedMember) -> Any:
    return admin.MemberDescription(
        member_id=member.member_id,
        client_id=member.client_id,
        host=member.client_host,
        assignment=admin.MemberAssignment(topic_partitions=_by_name(member.assignment)),
        target_assignment=admin.MemberAssignment(topic_partitions=_by_name(member.target_assignment)),
        group_instance_id=member.instance_id,
    )


def _by_name(topics: Iterable[TopicPartitions]) -> list[TopicPartition]:
    return [partition_key((topic.topic_name, partition)) for topic in topics for partition in topic.partitions]


def group_offsets(group_id: str, partitions: list[TopicPartition]) -> Any:
    """A ConsumerGroupTopicPartitions."""
    return layer_module("_model").ConsumerGroupTopicPartitions(group_id=group_id, topic_partitions=partitions)


# --- Topics and cluster --------------------------------------------------------------------------------------------


def node(broker: BrokerEndpoint | None) -> Any:
    """A Node."""
    if broker is None:
        return None
    return layer_module("_model").Node(id=broker.node_id, host=broker.host, port=broker.port, rack=broker.rack)


def described_topics(response: MetadataResponse, names: list[str]) -> list[Any]:
    """For each name a TopicDescription or KafkaError, in their order."""
    topics = {topic.name: topic for topic in response.topics}
    brokers = {broker.node_id: broker for broker in response.brokers}
    return [
        _described_topic(topics[name], brokers) if name in topics else failure(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        for name in names
    ]


def _described_topic(topic: TopicMetadata, brokers: dict[int, BrokerEndpoint]) -> Any:
    if topic.error:
        return failure(topic.error)
    model = layer_module("_model")
    partitions = [
        model.TopicPartitionInfo(
            id=part.partition,
            leader=node(brokers.get(part.leader)),
            replicas=[_node_or_bare(brokers, replica) for replica in part.replicas],
            isr=[_node_or_bare(brokers, replica) for replica in part.isr],
        )
        for part in topic.partitions
    ]
    return layer_module("admin").TopicDescription(
        name=topic.name,
        topic_id=uuid_of(topic.topic_id),
        is_internal=topic.is_internal,
        partitions=partitions,
    )


def _node_or_bare(brokers: dict[int, BrokerEndpoint], node_id: int) -> Any:
    """A replica's node; of one that is down only the id is known."""
    broker = brokers.get(node_id)
    if broker is not None:
        return node(broker)
    return layer_module("_model").Node(id=node_id, host="", port=-1)


def uuid_of(topic_id: str) -> Uuid:
    """A topic id, written in base64 by Kafka, as its two halves."""
    try:
        raw = base64.urlsafe_b64decode(topic_id + "=" * (-len(topic_id) % 4))
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raw = topic_id.encode()[:16].rjust(16, b"\0")
    return Uuid(int.from_bytes(raw[:8], "big", signed=True), int.from_bytes(raw[8:], "big", signed=True))


def described_cluster(response: MetadataResponse) -> Any:
    """A DescribeClusterResult."""
    brokers = {broker.node_id: broker for broker in response.brokers}
    return layer_module("admin").DescribeClusterResult(
        cluster_id=response.cluster_id,
        controller=node(brokers.get(response.controller_id)),
        nodes=[node(brokers[node_id]) for node_id in sorted(brokers)],
    )


def listed_offsets(response: ListOffsetsResponse) -> dict[TopicPartition, Any]:
    """TopicPartition to its ListOffsetsResultInfo or KafkaError."""
    info = layer_module("admin").ListOffsetsResultInfo
    return {
        partition_key(part.tp, part.offset, part.error): failure(part.error)
        if part.error
        else info(offset=part.offset, timestamp=part.timestamp_ms, leader_epoch=part.leader_epoch)
        for part in response.partitions
    }


def listing(answers: list[Operation]) -> Any:
    """A ListConsumerGroupsResult of what every broker said, or failed with."""
    groups = []
    errors = []
    for answer in answers:
        error = failure(answer.error or answer.result.error, answer.error_text)
        if error is None:
            groups += answer.result.groups
        else:
            errors.append(error)
    return listed_groups(groups, errors)


def all_groups(answers: list[Operation]) -> list[str]:
    """Ids of the groups of every broker that answered."""
    return [group.group_id for answer in answers if not answer.error for group in answer.result.groups]


def fetched_offset(tp: tuple[str, int], committed: OffsetAndMetadata, code: ErrorCode) -> TopicPartition:
    """What a group has committed for one partition."""
    offset = OFFSET_INVALID if committed.offset < 0 else committed.offset
    return TopicPartition._made(tp[0], tp[1], offset, failure(code), committed.metadata, committed.leader_epoch)
