"""Changes of topic, broker and group configs: what they may be, and the records that make them so.

Mirrors:  ConfigurationControlManager, ControllerConfigurationValidator, LogConfig.validate (KIP-339, KIP-966).
Rule 1:   a topic key set to what it already is writes nothing; a broker's or the cluster's always writes.
Rule 2:   any record for ``min.insync.replicas`` is followed by one that clears the ELRs it was the measure of.
Differs:  a broker of Kafka checks its dynamic keys before it forwards; here the controller does it for both.
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
    records: Records = []
    results = []
    for resource, changes in resources:
        try:
            _check_resource(image, resource)
            records += config_records(image, resource, changes)
            results.append(ConfigAltered(resource, ErrorCode.NONE))
        except ConfigError as problem:
            results.append(ConfigAltered(resource, problem.error, problem.text))
    return records, AlterConfigsResponse(tuple(results))


def config_records(image: ControllerImage, resource: ConfigResource, changes: Iterable[Change]) -> Records:
    """The records of one resource's changes, all or (``ConfigError``) none."""
    key = _resource_key(resource)
    existing = image.configs.get(key, {})
    values = dict(existing)
    records: Records = []
    for name, operation, value in changes:
        text = _changed_value(resource, name, operation, value, values.get(name))
        if text is not None and len(text) > _MAX_VALUE_LENGTH:
            raise ConfigError(
                ErrorCode.INVALID_CONFIG,
                "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.",
            )
        if name == MIN_ISR:
            _check_min_isr_with_elr(image, resource, text)
        # What is said of brokers is written even if it changes nothing, as Kafka does (KAFKA-14136).
        if text != values.get(name) or resource.resource_type == BROKER_RESOURCE:
            records.append(ConfigRecord(resource.resource_type, resource.name, name, text))
        if text is None:
            values.pop(name, None)
        else:
            values[name] = text
    _validate(image, resource, values, [record.name for record in records if isinstance(record, ConfigRecord)])
    if image.elr_enabled and any(isinstance(record, ConfigRecord) and record.name == MIN_ISR for record in records):
        records.append(ClearElrRecord(resource.name if resource.resource_type == TOPIC_RESOURCE else ""))
    return records


def _resource_key(resource: ConfigResource) -> tuple[int, str]:
    return resource.resource_type, resource.name


def _check_resource(image: ControllerImage, resource: ConfigResource) -> None:
    """Does the thing exist that is to be configured?"""
    if resource.resource_type == TOPIC_RESOURCE:
        problem = topic_name_problem(resource.name)
        if problem is not None:
            raise ConfigError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
        if resource.name not in image.topics:
            raise ConfigError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{resource.name}' does not exist.")
    elif resource.resource_type == BROKER_RESOURCE:
        if resource.name and not resource.name.isdecimal():
            raise ConfigError(ErrorCode.INVALID_REQUEST, "Unable to parse broker name as a base 10 number.")
        if resource.name and int(resource.name) not in image.brokers:
            raise ConfigError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker {resource.name} is not registered.")
    elif resource.resource_type == GROUP_RESOURCE:
        if not resource.name:
            raise ConfigError(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")
    else:
        raise ConfigError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {resource.resource_type}")


def _known_keys(resource: ConfigResource) -> dict[str, ServerConfigKey]:
    if resource.resource_type == TOPIC_RESOURCE:
        return TOPIC_CONFIGS
    return BROKER_CONFIGS if resource.resource_type == BROKER_RESOURCE else GROUP_CONFIGS


def _changed_value(
    resource: ConfigResource, name: str, operation: int, value: str | None, current: str | None
) -> str | None:
    """What the key is after the operation, None if it is to be deleted."""
    if operation == DELETE_OPERATION:
        return None
    if operation == SET_OPERATION:
        return value
    spec = _known_keys(resource).get(name)
    word = "APPEND" if operation == APPEND_OPERATION else "SUBTRACT"
    if spec is None or spec.kind != "list":
        raise ConfigError(ErrorCode.INVALID_CONFIG, f"Can't {word} to key {name} because its type is not LIST.")
    text = current if current is not None else spec.default or ""
    items = [item for item in text.split(",") if item]
    operands = [item.strip() for item in (value or "").split(",") if item.strip()]
    if operation == SUBTRACT_OPERATION:
        items = [item for item in items if item not in operands]
    else:
        items += [item for item in operands if item not in items]
    return ",".join(items)


def _check_min_isr_with_elr(image: ControllerImage, resource: ConfigResource, text: str | None) -> None:
    """The ELR is measured by one cluster-wide minimum, so there must be one and no broker may have its own."""
    if not image.elr_enabled or resource.resource_type != BROKER_RESOURCE:
        return
    if resource.name:
        raise ConfigError(
            ErrorCode.INVALID_CONFIG,
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
        )
    if text is None:
        raise ConfigError(
            ErrorCode.INVALID_CONFIG,
            "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
        )


def _validate(image: ControllerImage, resource: ConfigResource, values: dict[str, str], changed: list[str]) -> None:
    """Every value must be one that its key can take; the keys of a topic or a group must also go together."""
    keys = _known_keys(resource)
    for name in changed if resource.resource_type == BROKER_RESOURCE else values:
        spec = keys.get(name)
        if spec is None:
            if resource.resource_type != BROKER_RESOURCE:
                kind = "topic" if resource.resource_type == TOPIC_RESOURCE else "group"
                raise ConfigError(ErrorCode.INVALID_CONFIG, f"Unknown {kind} config name: {name}")
            continue
        if spec.read_only:
            raise ConfigError(ErrorCode.INVALID_REQUEST, f"Cannot update these configs dynamically: [{name}]")
        try:
            spec.parse(values.get(name))
        except ValueError as problem:
            raise ConfigError(ErrorCode.INVALID_CONFIG, str(problem)) from None
    if resource.resource_type == TOPIC_RESOURCE:
        _validate_topic(values)
    elif resource.resource_type == GROUP_RESOURCE:
        _validate_group(image, values)


def _validate_group(image: ControllerImage, values: dict[str, str]) -> None:
    """What a group may choose for itself lies within the bounds that the broker's own configs set."""
    for kind in ("heartbeat.interval.ms", "session.timeout.ms", "assignment.interval.ms"):
        name = f"consumer.{kind}"
        if name not in values:
            continue
        low, high = f"group.consumer.min.{kind}", f"group.consumer.max.{kind}"
        if int(values[name]) < image.broker_int(low):
            raise ConfigError(ErrorCode.INVALID_CONFIG, f"{name} must be greater than or equal to {low}")
        if int(values[name]) > image.broker_int(high):
            raise ConfigError(ErrorCode.INVALID_CONFIG, f"{name} must be less than or equal to {high}")


def _validate_topic(values: dict[str, str]) -> None:
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
