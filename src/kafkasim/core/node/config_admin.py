"""What a broker makes of an alteration of configs before it passes it on: it answers for malformed ones and for its own configs.

Mirrors:  ConfigAdminManager.preprocess, DynamicBrokerConfig.validateConfigs (KIP-226, KIP-339).
Rule 1:   a broker looks at the cluster's configs and its own; of another broker's it knows nothing and refuses them.
Rule 2:   what it refuses the controller never sees; the answer names every resource in the order of the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from kafkasim.core.controller.configs import ConfigError, changed_value
from kafkasim.core.controller.image import MetadataImage
from kafkasim.core.model.admin_messages import (
    BROKER_RESOURCE,
    DELETE_OPERATION,
    AlterConfigsRequest,
    AlterConfigsResponse,
    ConfigAlteration,
    ConfigAltered,
    IncrementalAlterConfigsRequest,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NodeId
from kafkasim.core.model.server_config import BROKER_CONFIGS

AlterRequest: TypeAlias = "IncrementalAlterConfigsRequest | AlterConfigsRequest"


def preprocess(image: MetadataImage, node_id: NodeId, request: AlterRequest) -> list[ConfigAltered | None]:
    """For each resource of ``request`` its refusal, or None if the controller shall decide."""
    keys = [(item.resource.resource_type, item.resource.name) for item in request.resources]
    results: list[ConfigAltered | None] = []
    for item, key in zip(request.resources, keys, strict=True):
        try:
            if keys.count(key) > 1:
                raise ConfigError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
            _check_form(item)
            if item.resource.resource_type == BROKER_RESOURCE:
                _check_broker_change(image, node_id, item)
            results.append(None)
        except ConfigError as problem:
            results.append(ConfigAltered(item.resource, problem.error, problem.text))
    return results


def remaining(request: AlterRequest, results: Sequence[ConfigAltered | None]) -> AlterRequest:
    """The part of ``request`` that nobody has answered yet."""
    left = tuple(item for item, result in zip(request.resources, results, strict=True) if result is None)
    return type(request)(left, request.validate_only)


def reassembled(results: Sequence[ConfigAltered | None], response: AlterConfigsResponse) -> AlterConfigsResponse:
    """The controller's answers put where this broker had none."""
    answers = iter(response.results)
    return AlterConfigsResponse(tuple(next(answers) if result is None else result for result in results))


def _check_form(item: ConfigAlteration) -> None:
    names = [name for name, _, _ in item.changes]
    if len(set(names)) != len(names):
        raise ConfigError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    missing = [name for name, operation, value in item.changes if value is None and operation != DELETE_OPERATION]
    if missing:
        raise ConfigError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {', '.join(missing)}")


def _check_broker_change(image: MetadataImage, node_id: NodeId, item: ConfigAlteration) -> None:
    resource = item.resource
    if resource.name:
        if not resource.name.lstrip("+-").isdecimal():
            text = f"Node id must be an integer, but it is: {resource.name}"
            raise ConfigError(ErrorCode.INVALID_REQUEST, text)
        if int(resource.name) != node_id:
            text = f"Unexpected broker id, expected {node_id}, but received {resource.name}"
            raise ConfigError(ErrorCode.INVALID_REQUEST, text)
    current = image.configs.get((BROKER_RESOURCE, resource.name), {})
    values: dict[str, str] = {}
    for name, operation, value in item.changes:
        text_after = changed_value(resource, name, operation, value, current.get(name))
        if text_after is not None:
            values[name] = text_after
    fixed = [name for name in values if name in BROKER_CONFIGS and BROKER_CONFIGS[name].read_only]
    if fixed:
        text = f"Cannot update these configs dynamically: [{', '.join(fixed)}]"
        raise ConfigError(ErrorCode.INVALID_REQUEST, text)
    for name, text_after in values.items():
        if name in BROKER_CONFIGS:
            try:
                BROKER_CONFIGS[name].parse(text_after)
            except ValueError as problem:
                raise ConfigError(ErrorCode.INVALID_REQUEST, str(problem)) from None
    for protocol in ("consumer", "share"):
        _check_assignment_interval(image, protocol, values)


def _check_assignment_interval(image: MetadataImage, protocol: str, values: dict[str, str]) -> None:
    """The one setting of groups that a running broker takes over lies within bounds that it does not."""
    kind = "assignment.interval.ms"
    name, low, high = (f"group.{protocol}.{bound}{kind}" for bound in ("", "min.", "max."))
    if name not in values:
        return
    if int(values[name]) < image.broker_int(low):
        raise ConfigError(ErrorCode.INVALID_REQUEST, f"{name} must be greater than or equal to {low}")
    if int(values[name]) > image.broker_int(high):
        raise ConfigError(ErrorCode.INVALID_REQUEST, f"{name} must be less than or equal to {high}")
