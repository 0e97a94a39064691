"""Arguments of administrative calls, checked and turned into what the requests carry.

Mirrors:  the argument half of Admin.c: which objects it insists on, and what it says where it does not get them.
Rule 1:   wrong values raise here, at once; nothing is sent.
"""

from __future__ import annotations

from typing import Any

from kafkasim.confluent_kafka._arguments import timeout_ms
from kafkasim.confluent_kafka._constants import RESOURCE_BROKER, RESOURCE_GROUP
from kafkasim.confluent_kafka.errors import KafkaError, KafkaException
from kafkasim.confluent_kafka.layer import layer_module
from kafkasim.confluent_kafka.values import NewPartitions, NewTopic, TopicPartition
from kafkasim.core.model import admin_messages as admin
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition as Partition

_MAX_PARTITIONS = 100_000
_MAX_REPLICATION = 10_000
_OPERATION_TIMEOUT_MS = 60_000


def operation_ms(seconds: float) -> int:
    milliseconds = timeout_ms(seconds)
    return _OPERATION_TIMEOUT_MS if milliseconds < 0 else milliseconds


def require_filled_list(value: Any, name: str) -> None:
    if not isinstance(value, list) or not value:
        raise ValueError(f"Expected non-empty list of {name} objects")


def require_bool(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"Expected {name} to be bool type, not {type(value).__name__}")


def require_partitions(partitions: Any) -> None:
    if not isinstance(partitions, list):
        raise TypeError("requires list of TopicPartition")
    for value in partitions:
        partition(value)


def partition(value: Any) -> Partition:
    if type(value) is not TopicPartition:
        raise TypeError("expected cimpl.TopicPartition")
    return Partition(value._topic, value.partition)


def topic_spec(topic: Any) -> admin.NewTopicSpec:
    if not isinstance(topic, NewTopic):
        raise ValueError("Expected list of NewTopic objects")
    problem = None
    if not -1 <= topic.num_partitions <= _MAX_PARTITIONS:
        problem = f"num_partitions out of expected range 1..{_MAX_PARTITIONS} or -1 for broker default"
    elif not -1 <= topic.replication_factor <= _MAX_REPLICATION:
        problem = f"replication_factor out of expected range -1..{_MAX_REPLICATION}"
    if problem:
        raise ValueError(f"Invalid NewTopic({topic.topic}): {problem}")
    assignments: tuple[tuple[int, tuple[int, ...]], ...] = ()
    if topic.replica_assignment:
        if topic.replication_factor != -1:
            raise ValueError("replication_factor and replica_assignment are mutually exclusive")
        count = topic.num_partitions
        if count == -1 and isinstance(topic.replica_assignment, list):
            count = len(topic.replica_assignment)
        checked = _replica_lists(topic.replica_assignment, count, count, "num_partitions")
        assignments = tuple(enumerate(checked))
    configs = tuple([(str(key), str(value)) for key, value in (topic.config or {}).items()])
    # With an assignment the counts must be left to it.
    count = -1 if assignments else topic.num_partitions
    return admin.NewTopicSpec(topic.topic, count, topic.replication_factor, assignments, configs)


def _replica_lists(given: Any, least: int, most: int, what: str) -> tuple[tuple[int, ...], ...]:
    good = isinstance(given, list) and least <= len(given) <= most
    if not good or not all(
        isinstance(replicas, list) and all(isinstance(replica, int) for replica in replicas) for replicas in given
    ):
        raise ValueError(f"replica_assignment must be a list of int lists with an outer size of {what}")
    return tuple([tuple(replicas) for replicas in given])


def partitions_spec(new: Any) -> admin.NewPartitionsSpec:
    if not isinstance(new, NewPartitions):
        raise ValueError("Expected list of NewPartitions objects")
    if not 1 <= new.new_total_count <= _MAX_PARTITIONS:
        raise ValueError(
            f"Invalid NewPartitions({new.topic}): new_total_cnt out of expected range 1..{_MAX_PARTITIONS}"
        )
    assignments = None
    if new.replica_assignment:
        what = "new_total_count - existing partition count"
        assignments = _replica_lists(new.replica_assignment, 1, new.new_total_count, what)
    return admin.NewPartitionsSpec(new.topic, new.new_total_count, assignments)


def config_resource(resource: Any) -> admin.ConfigResource:
    if not isinstance(resource, layer_module("admin").ConfigResource):
        raise ValueError("Expected list of ConfigResource objects")
    kind = int(resource.restype_int)
    # Resources of ACLs and of configs are numbered apart on the wire; the client has one set of numbers for both.
    if not resource.name:  # librdkafka takes no empty name, so there is no way to the cluster-wide configs of brokers.
        raise ValueError(f"Invalid ConfigResource({kind},)")
    return admin.ConfigResource(admin.GROUP_RESOURCE if kind == RESOURCE_GROUP else kind, str(resource.name))


def replacing(resource: Any) -> admin.ConfigAlteration:
    target = config_resource(resource)
    changes = [(str(key), admin.SET_OPERATION, str(value)) for key, value in resource.set_config_dict.items()]
    return admin.ConfigAlteration(target, tuple(changes))


def incremental(resource: Any) -> admin.ConfigAlteration:
    target = config_resource(resource)
    entries = resource.incremental_configs
    if not isinstance(entries, list):
        raise TypeError(f"Expected .incremental_configs to be list type, not {type(entries).__name__}")
    if not entries:
        raise ValueError("expected non-empty list of ConfigEntry to alter incrementally in incremental_configs field")
    changes = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, layer_module("admin").ConfigEntry):
            raise TypeError(f"expected ConfigEntry type in incremental_configs field, index {index}")
        operation = int(entry.incremental_operation.value)
        value = None if operation == admin.DELETE_OPERATION else str(entry.value)
        changes.append((entry.name, operation, value))
    return admin.ConfigAlteration(target, tuple(changes))


def config_target(resources: tuple[admin.ConfigResource, ...], broker: int, future: Any) -> Any:
    """Configs of a broker are asked of that broker, and of one at a time; all others of any. None if that cannot be."""
    brokers = [resource.name for resource in resources if resource.resource_type == RESOURCE_BROKER]
    if len(brokers) > 1:
        text = "Only one ConfigResource of type BROKER is allowed per call"
        future.set_exception(KafkaException(KafkaError(int(ErrorCode._CONFLICT), text)))
        return None
    if brokers and brokers[0]:
        if not brokers[0].isdigit():
            text = f"Expected an int32 broker_id for ConfigResource(type=BROKER, name={brokers[0]})"
            future.set_exception(KafkaException(KafkaError(int(ErrorCode._INVALID_ARG), text)))
            return None
        return ("broker", int(brokers[0]))
    return "any" if broker < 0 else ("broker", broker)


def filter(values: Any, what: str, described: str, names: dict[int, str]) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list):
        raise ValueError(f"{what} must of type list")
    if not all(isinstance(value, int) for value in values):
        raise ValueError(f"Element of {what} must be valid {described}")
    return tuple([names[value] for value in values if value in names])


def group_request(request: Any) -> tuple[str, list[TopicPartition] | None]:
    """The single ConsumerGroupTopicPartitions of a request."""
    if not isinstance(request, list) or len(request) != 1:
        raise ValueError("Currently we support only 1 consumer groups request")
    single = request[0]
    if not isinstance(single, layer_module("_model").ConsumerGroupTopicPartitions):
        raise ImportError("Each group request should be of ConsumerGroupTopicPartitions type")
    if single.group_id is None:
        raise ValueError("Group name is mandatory for list consumer offset operation")
    return single.group_id, single.topic_partitions
