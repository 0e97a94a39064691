"""Changes of topic, broker and group configs: what they may be, and the records that make them so.

Mirrors:  ConfigurationControlManager, ControllerConfigurationValidator, LogConfig.validate (KIP-339, KIP-966).
Rule 1:   a topic key set to what it already is writes nothing; a broker's or the cluster's always writes.
Rule 2:   any record for ``min.insync.replicas`` is followed by one that clears the ELRs it was the measure of.
Beside:   a broker looks at changes of its own configs before it forwards them (``core.node.config_admin``).
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.controller.state import ControllerImage
from kafkasim.core.model.admin_messages import (
    APPEND_OPERATION,
    BROKER_RESOURCE,
    DELETE_OPERATION,
    GROUP_RESOURCE,
    SET_OPERATION,
    SUBTRACT_OPERATION,
    TOPIC_RESOURCE,
    AlterConfigsRequest,
    AlterConfigsResponse,
    ConfigAltered,
    ConfigResource,
    IncrementalAlterConfigsRequest,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.metadata import ClearElrRecord, ConfigRecord, MetadataRecord
from kafkasim.core.model.names import topic_name_problem
from kafkasim.core.model.server_config import BROKER_CONFIGS, GROUP_CONFIGS, TOPIC_CONFIGS, ServerConfigKey

MIN_ISR = "min.insync.replicas"
_MAX_VALUE_LENGTH = 32767
_BOUNDED_SHARE_CONFIGS = (
    "heartbeat.interval.ms",
    "session.timeout.ms",
    "record.lock.duration.ms",
    "delivery.count.limit",
    "partition.max.record.locks",
    "assignment.interval.ms",
)

Records = list[MetadataRecord]
Change = tuple[str, int, str | None]


class ConfigError(Exception):
    """A change that is refused; the text is Kafka's. Caught in this room."""

    def __init__(self, error: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text


def incremental_alter_configs(
    image: ControllerImage, request: IncrementalAlterConfigsRequest
) -> tuple[Records, AlterConfigsResponse]:
    """Set, delete, append and subtract single keys; the others stay."""
    records, response = _alter(image, [(alteration.resource, alteration.changes) for alteration in request.resources])
    return ([] if request.validate_only else records), response


def alter_configs(image: ControllerImage, request: AlterConfigsRequest) -> tuple[Records, AlterConfigsResponse]:
    """Set what is named and delete every other key of the resource."""
    resources = []
    for alteration in request.resources:
        named = [(name, SET_OPERATION, value) for name, _, value in alteration.changes]
        kept = {name for name, _, _ in named}
        existing = image.configs.get(_resource_key(alteration.resource), {})
        dropped = [(name, DELETE_OPERATION, None) for name in existing if name not in kept]
        resources.append((alteration.resource, (*named, *dropped)))
    records, response = _alter(image, resources)
    return ([] if request.validate_only else records), response


def _alter(
    image: ControllerImage, resources: Iterable[tuple[ConfigResource, tuple[Change, ...]]]
) -> tuple[Records, AlterConfigsResponse]:
    """The configs of all resources come first in the batch, then what clears ELRs."""
    records: list[ConfigRecord] = []
    results = []
    for resource, changes in resources:
        try:
            changed = _changed_records(image, resource, changes)
            _check_exists(image, resource)
            records += changed
            results.append(ConfigAltered(resource, ErrorCode.NONE))
        except ConfigError as problem:
            results.append(ConfigAltered(resource, problem.error, problem.text))
    return [*records, *_clear_elr_records(image, records)], AlterConfigsResponse(tuple(results))


def config_records(image: ControllerImage, resource: ConfigResource, changes: Iterable[Change]) -> Records:
    """The records of one new resource's configs, all or (``ConfigError``) none."""
    records = _changed_records(image, resource, changes)
    return [*records, *_clear_elr_records(image, records)]


def _changed_records(image: ControllerImage, resource: ConfigResource, changes: Iterable[Change]) -> list[ConfigRecord]:
    values = dict(image.configs.get(_resource_key(resource), {}))
    records: list[ConfigRecord] = []
    for name, operation, value in changes:
        text = changed_value(resource, name, operation, value, values.get(name))
        # What is said of brokers is written even if it changes nothing, as Kafka does (KAFKA-14136).
        if text != values.get(name) or resource.resource_type == BROKER_RESOURCE:
            records.append(ConfigRecord(resource.resource_type, resource.name, name, text))
        if text is None:
            values.pop(name, None)
        else:
            values[name] = text
    for record in records:
        _check_min_isr_with_elr(image, record)
        if record.value is not None and len(record.value) > _MAX_VALUE_LENGTH:
            raise ConfigError(
                ErrorCode.INVALID_CONFIG,
                "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.",
            )
    _validate(image, resource, values)
    return records


def _clear_elr_records(image: ControllerImage, records: Iterable[ConfigRecord]) -> Records:
    """One for each change of a minimum: the ELRs it was the measure of say nothing any more."""
    if not image.elr_enabled:
        return []
    return [
        ClearElrRecord(record.resource_name if record.resource_type == TOPIC_RESOURCE else "")
        for record in records
        if record.name == MIN_ISR
    ]


def elr_safety_records(image: ControllerImage) -> Records:
    """What must hold before the ELR is switched on: one minimum for the whole cluster, and none of a broker's own."""
    records: Records = []
    if MIN_ISR not in image.configs.get((BROKER_RESOURCE, ""), {}):
        spec = BROKER_CONFIGS[MIN_ISR]
        value = image.static_config().get(MIN_ISR, spec.default)
        records.append(ConfigRecord(BROKER_RESOURCE, "", MIN_ISR, value))
    for (resource_type, name), values in image.configs.items():
        if resource_type == BROKER_RESOURCE and name and MIN_ISR in values:
            records.append(ConfigRecord(BROKER_RESOURCE, name, MIN_ISR, None))
    return records


def _resource_key(resource: ConfigResource) -> tuple[int, str]:
    return resource.resource_type, resource.name


def _check_exists(image: ControllerImage, resource: ConfigResource) -> None:
    """Does the thing exist that is to be configured? Asked last, as in Kafka."""
    if resource.resource_type == TOPIC_RESOURCE and resource.name not in image.topics:
        raise ConfigError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{resource.name}' does not exist.")
    if resource.resource_type == BROKER_RESOURCE and resource.name:
        node = int(resource.name)
        if node not in image.brokers and node not in image.voters:
            raise ConfigError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"No node with id {node} found.")


def _known_keys(resource: ConfigResource) -> dict[str, ServerConfigKey]:
    if resource.resource_type == TOPIC_RESOURCE:
        return TOPIC_CONFIGS
    return BROKER_CONFIGS if resource.resource_type == BROKER_RESOURCE else GROUP_CONFIGS


def changed_value(
    resource: ConfigResource, name: str, operation: int, value: str | None, current: str | None
) -> str | None:
    """What the key is after the operation, None if it is to be deleted."""
    if operation == DELETE_OPERATION:
        return None
    if operation == SET_OPERATION:
        return value
    if value is None:
        raise ConfigError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {name}")
    spec = _known_keys(resource).get(name)
    word = "APPEND" if operation == APPEND_OPERATION else "SUBTRACT"
    if spec is None or spec.kind != "list":
        raise ConfigError(ErrorCode.INVALID_CONFIG, f"Can't {word} to key {name} because its type is not LIST.")
    text = current if current is not None else spec.default or ""
    items = [item for item in text.split(",") if item]
    operands = [item.strip() for item in value.split(",") if item.strip()]
    if operation == SUBTRACT_OPERATION:
        items = [item for item in items if item not in operands]
    else:
        items += [item for item in operands if item not in items]
    return ",".join(items)


def _check_min_isr_with_elr(image: ControllerImage, record: ConfigRecord) -> None:
    """The ELR is measured by one cluster-wide minimum, so there must be one and no broker may have its own."""
    if not image.elr_enabled or record.resource_type != BROKER_RESOURCE or record.name != MIN_ISR:
        return
    if record.resource_name:
        raise ConfigError(
            ErrorCode.INVALID_CONFIG,
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
        )
    if record.value is None:
        raise ConfigError(
            ErrorCode.INVALID_CONFIG,
            "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
        )


def _validate(image: ControllerImage, resource: ConfigResource, values: dict[str, str]) -> None:
    """The name must be one, and what the resource then has must go together. A broker's values were looked at by itself."""
    if resource.resource_type == TOPIC_RESOURCE:
        if not resource.name:
            raise ConfigError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
        problem = topic_name_problem(resource.name)
        if problem is not None:
            raise ConfigError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
        _validate_topic(values)
    elif resource.resource_type == BROKER_RESOURCE:
        if resource.name and not resource.name.lstrip("-").isdecimal():
            raise ConfigError(ErrorCode.INVALID_REQUEST, "Unable to parse broker name as a base 10 number.")
        if resource.name.startswith("-"):
            raise ConfigError(ErrorCode.INVALID_REQUEST, "Invalid negative broker ID.")
    elif resource.resource_type == GROUP_RESOURCE:
        if not resource.name:
            raise ConfigError(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")
        _check_values("group", GROUP_CONFIGS, values)
        _validate_group(image, values)
    else:
        raise ConfigError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {resource.resource_type}")


def _check_values(kind: str, keys: dict[str, ServerConfigKey], values: dict[str, str]) -> None:
    """Every name must be known before any value is looked at."""
    for name in values:
        if name not in keys:
            raise ConfigError(ErrorCode.INVALID_CONFIG, f"Unknown {kind} config name: {name}")
    for name, value in values.items():
        try:
            keys[name].parse(value)
        except ValueError as problem:
            raise ConfigError(ErrorCode.INVALID_CONFIG, str(problem)) from None


def _validate_group(image: ControllerImage, values: dict[str, str]) -> None:
    """What a group may choose for itself lies within the bounds that the broker's own configs set."""
    bounded = [("consumer", kind) for kind in ("heartbeat.interval.ms", "session.timeout.ms", "assignment.interval.ms")]
    bounded += [("share", kind) for kind in _BOUNDED_SHARE_CONFIGS]
    for protocol, kind in bounded:
        name = f"{protocol}.{kind}"
        if name not in values:
            continue
        low, high = f"group.{protocol}.min.{kind}", f"group.{protocol}.max.{kind}"
        if int(values[name]) < image.broker_int(low):
            raise ConfigError(ErrorCode.INVALID_CONFIG, f"{name} must be greater than or equal to {low}")
        if int(values[name]) > image.broker_int(high):
            raise ConfigError(ErrorCode.INVALID_CONFIG, f"{name} must be less than or equal to {high}")


def _validate_topic(values: dict[str, str]) -> None:
    _check_values("topic", TOPIC_CONFIGS, values)

    def number(name: str) -> int:
        parsed = TOPIC_CONFIGS[name].parse(values.get(name, TOPIC_CONFIGS[name].default))
        assert isinstance(parsed, int), name
        return parsed

    low, high = number("min.compaction.lag.ms"), number("max.compaction.lag.ms")
    if low > high:
        raise ConfigError(
            ErrorCode.INVALID_CONFIG,
            f"conflict topic config setting min.compaction.lag.ms ({low}) > max.compaction.lag.ms ({high})",
        )
