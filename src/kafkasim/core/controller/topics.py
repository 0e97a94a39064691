"""Topics come, grow and go: validation, placement, and the records of it.

Mirrors:  ReplicationControlManager.createTopics, deleteTopics, createPartitions (Kafka 4.3's checks, codes and words).
Rule 1:   each topic of a request succeeds or fails by itself; what succeeds is written as one atomic batch.
Rule 2:   a new partition's ISR is those of its replicas that are active now; the first of them leads.
Differs:  no create-topic policy, no mutation quota.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.controller.configs import ConfigError, config_records
from kafkasim.core.controller.image import TopicImage
from kafkasim.core.controller.placement import PlacementError, StripedReplicaPlacer
from kafkasim.core.controller.state import ControllerImage, has_collision_characters, unified_name
from kafkasim.core.model.admin_messages import (
    SET_OPERATION,
    TOPIC_RESOURCE,
    ConfigResource,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    NamedResult,
    NewPartitionsSpec,
    NewTopicSpec,
    TopicCreated,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import CLUSTER_METADATA_TOPIC, Draw, NodeId
from kafkasim.core.model.metadata import MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord
from kafkasim.core.model.names import topic_name_problem

MAX_PARTITIONS_PER_REQUEST = 10_000
_TOO_MANY_TEXT = "Excessively large number of partitions per request."
_UUID_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

Records = list[MetadataRecord]


class TopicError(Exception):
    """One topic's refusal; the text is Kafka's. Caught in this room and by ``partitions``."""

    def __init__(self, error: ErrorCode, text: str | None = None) -> None:
        super().__init__(text)
        self.error = error
        self.text = text


# --- create ---------------------------------------------------------------------------------------------------------


def create_topics(
    image: ControllerImage, request: CreateTopicsRequest, draw: Draw
) -> tuple[Records, CreateTopicsResponse]:
    if _requested_partitions(image, request) > MAX_PARTITIONS_PER_REQUEST:
        refused = [TopicCreated(spec.name, ErrorCode.POLICY_VIOLATION, _TOO_MANY_TEXT) for spec in request.topics]
        return [], CreateTopicsResponse(tuple(refused))
    names = [spec.name for spec in request.topics]
    records: Records = []
    results: dict[str, TopicCreated] = {}
    for spec in request.topics:
        if spec.name in results:
            continue
        try:
            if names.count(spec.name) > 1:
                raise TopicError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            if spec.name == CLUSTER_METADATA_TOPIC:
                text = f"Creation of internal topic {spec.name} is prohibited."
                raise TopicError(ErrorCode.INVALID_REQUEST, text)
            _check_name(image, spec.name)
            created, result = _create_topic(image, spec, image.next_offset + len(records), draw)
            records += created
        except (TopicError, ConfigError) as problem:
            result = TopicCreated(spec.name, problem.error, problem.text)
        results[spec.name] = result
    return [] if request.validate_only else records, CreateTopicsResponse(tuple(results.values()))


def _requested_partitions(image: ControllerImage, request: CreateTopicsRequest) -> int:
    default = image.broker_int("num.partitions")
    total = 0
    for spec in request.topics:
        total += len(spec.assignments) or (default if spec.num_partitions == -1 else max(0, spec.num_partitions))
    return total


def _check_name(image: ControllerImage, name: str) -> None:
    problem = topic_name_problem(name)
    if problem is not None:
        raise TopicError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    if name in image.topics:
        raise TopicError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    if has_collision_characters(name):
        for other in image.collisions.get(unified_name(name), {}):
            raise TopicError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {other}")


def _create_topic(image: ControllerImage, spec: NewTopicSpec, offset: int, draw: Draw) -> tuple[Records, TopicCreated]:
    missing = ",".join(name for name, value in spec.configs if value is None)
    if missing:
        raise TopicError(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {missing}")
    changes = [(name, SET_OPERATION, value) for name, value in spec.configs]
    configs = config_records(image, ConfigResource(TOPIC_RESOURCE, spec.name), changes)
    if spec.assignments:
        assignments = _manual_assignments(image, spec)
    else:
        assignments = _placed_assignments(image, spec, draw)
    topic_id = draw_topic_id(offset, draw)
    partitions = _partition_records(topic_id, 0, assignments)
    created = TopicCreated(spec.name, ErrorCode.NONE, None, topic_id, len(assignments), len(assignments[0][0]))
    return [TopicRecord(spec.name, topic_id), *configs, *partitions], created


def _manual_assignments(
    image: ControllerImage, spec: NewTopicSpec
) -> list[tuple[tuple[NodeId, ...], tuple[NodeId, ...]]]:
    """(replicas, isr) of each partition as the caller wants them."""
    if spec.replication_factor != -1:
        raise TopicError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        )
    if spec.num_partitions != -1:
        raise TopicError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        )
    chosen: dict[int, tuple[tuple[NodeId, ...], tuple[NodeId, ...]]] = {}
    replication_factor = None
    for partition, replicas in spec.assignments:
        if partition in chosen:
            raise TopicError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {partition}",
            )
        check_manual_assignment(image, replicas, replication_factor)
        replication_factor = len(replicas)
        chosen[partition] = (replicas, _initial_isr(image, replicas, partition))
    if sorted(chosen) != list(range(len(chosen))):
        raise TopicError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
        )
    return [chosen[partition] for partition in range(len(chosen))]


def _initial_isr(image: ControllerImage, replicas: Sequence[NodeId], partition: int) -> tuple[NodeId, ...]:
    isr = tuple(node for node in replicas if image.broker_active(node))
    if not isr:
        raise TopicError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"All brokers specified in the manual partition assignment for partition {partition} "
            "are fenced or in controlled shutdown.",
        )
    return isr


def check_manual_assignment(image: ControllerImage, replicas: Sequence[NodeId], replication_factor: int | None) -> None:
    """Registered brokers (fenced ones too), each once, as many as elsewhere in the topic."""
    if not replicas:
        raise TopicError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes an empty replica list."
        )
    previous = None
    for node in sorted(replicas):
        if node not in image.brokers:
            raise TopicError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes broker {node}, but no such broker is registered.",
            )
        if node == previous:
            raise TopicError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes the broker {node} more than once.",
            )
        previous = node
    if replication_factor is not None and len(replicas) != replication_factor:
        raise TopicError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but this is not "
            f"consistent with previous partitions, which have {replication_factor} replica(s).",
        )


def _placed_assignments(
    image: ControllerImage, spec: NewTopicSpec, draw: Draw
) -> list[tuple[tuple[NodeId, ...], tuple[NodeId, ...]]]:
    if spec.replication_factor < -1 or spec.replication_factor == 0:
        raise TopicError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if spec.num_partitions < -1 or spec.num_partitions == 0:
        raise TopicError(ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    count = image.broker_int("num.partitions") if spec.num_partitions == -1 else spec.num_partitions
    factor = spec.replication_factor
    if factor == -1:
        factor = image.broker_int("default.replication.factor")
    try:
        return _place(image, count, factor, draw)
    except PlacementError as problem:
        text = f"Unable to replicate the partition {factor} time(s): {problem}"
        raise TopicError(ErrorCode.INVALID_REPLICATION_FACTOR, text) from None


def _place(
    image: ControllerImage, count: int, factor: int, draw: Draw
) -> list[tuple[tuple[NodeId, ...], tuple[NodeId, ...]]]:
    placed = StripedReplicaPlacer(image.brokers.values(), draw).place(count, factor)
    active = {node for node, broker in image.brokers.items() if broker.active}
    assignments = []
    for replicas in placed:
        isr = replicas if active.issuperset(replicas) else tuple(node for node in replicas if node in active)
        if not isr:
            raise TopicError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"Unable to replicate the partition {factor} time(s): "
                "All brokers are currently fenced or in controlled shutdown.",
            )
        assignments.append((replicas, isr))
    return assignments


def _partition_records(
    topic_id: str, first: int, assignments: Sequence[tuple[tuple[NodeId, ...], tuple[NodeId, ...]]]
) -> Records:
    return [
        PartitionRecord(topic_id, partition, replicas, isr, isr[0])
        for partition, (replicas, isr) in enumerate(assignments, first)
    ]


def draw_topic_id(offset: int, draw: Draw) -> str:
    """A topic id in Kafka's spelling: random, and unlike every other of this log because its offset is in it."""
    number = ((draw("controller.topic_id", 1 << 62) << 64) | offset) << 4  # 22 digits hold 132 bits, a Uuid 128
    digits = []
    for _ in range(22):
        digits.append(_UUID_DIGITS[number & 63])
        number >>= 6
    return "".join(reversed(digits))


# --- delete ---------------------------------------------------------------------------------------------------------


def delete_topics(image: ControllerImage, request: DeleteTopicsRequest) -> tuple[Records, DeleteTopicsResponse]:
    enabled = image.broker_config("delete.topic.enable") is True
    records: Records = []
    results: dict[str, NamedResult] = {}
    for name in request.names:
        topic = image.topics.get(name)
        if request.names.count(name) > 1:
            results[name] = NamedResult(name, ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        elif not enabled:
            results[name] = NamedResult(name, ErrorCode.TOPIC_DELETION_DISABLED, "Topic deletion is disabled.")
        elif topic is None:
            results[name] = NamedResult(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        else:
            records.append(RemoveTopicRecord(topic.topic_id))
            results[name] = NamedResult(name, ErrorCode.NONE)
    return records, DeleteTopicsResponse(tuple(results.values()))


# --- grow -----------------------------------------------------------------------------------------------------------


def create_partitions(
    image: ControllerImage, request: CreatePartitionsRequest, draw: Draw
) -> tuple[Records, CreatePartitionsResponse]:
    names = [spec.name for spec in request.topics]
    records: Records = []
    results: dict[str, NamedResult] = {}
    for spec in request.topics:
        if spec.name in results:
            continue
        try:
            if names.count(spec.name) > 1:
                raise TopicError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            records += _added_partitions(image, spec, draw)
            results[spec.name] = NamedResult(spec.name, ErrorCode.NONE)
        except TopicError as problem:
            results[spec.name] = NamedResult(spec.name, problem.error, problem.text)
    return [] if request.validate_only else records, CreatePartitionsResponse(tuple(results.values()))


def _added_partitions(image: ControllerImage, spec: NewPartitionsSpec, draw: Draw) -> Records:
    topic = image.topics.get(spec.name)
    if topic is None:
        raise TopicError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    added = _check_count(topic, spec)
    factor = len(topic.partitions[0].replicas)
    if spec.assignments is None:
        try:
            assignments = _place(image, added, factor, draw)
        except PlacementError as problem:
            raise TopicError(ErrorCode.INVALID_REPLICATION_FACTOR, str(problem)) from None
    else:
        first = len(topic.partitions)
        assignments = []
        for index, replicas in enumerate(spec.assignments):
            check_manual_assignment(image, replicas, factor)
            assignments.append((replicas, _initial_isr(image, replicas, first + index)))
    return _partition_records(topic.topic_id, len(topic.partitions), assignments)


def _check_count(topic: TopicImage, spec: NewPartitionsSpec) -> int:
    """How many partitions are to be added."""
    current = len(topic.partitions)
    added = spec.count - current
    if added == 0:
        raise TopicError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {current} partition(s).")
    if added < 0:
        raise TopicError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {spec.name} currently has {current} partition(s); {spec.count} would not be an increase.",
        )
    if added > MAX_PARTITIONS_PER_REQUEST:
        raise TopicError(ErrorCode.POLICY_VIOLATION, _TOO_MANY_TEXT)
    if spec.assignments is not None and len(spec.assignments) != added:
        raise TopicError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Attempted to add {added} additional partition(s), but only {len(spec.assignments)} assignment(s) "
            "were specified.",
        )
    return added
