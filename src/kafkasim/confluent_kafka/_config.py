"""From what an application passes to a client's constructor to a checked configuration and callbacks.

Mirrors:  common_conf_setup of confluent_kafka.c.
Rule 1:   callbacks and the few properties that the binding keeps for itself are taken out here; every other property goes
          to the table of librdkafka's properties, in the order in which the application gave them.
Differs:  plugins are never loaded; ``oauth_cb`` is checked and never called, because nothing here authenticates.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from kafkasim.confluent_kafka.errors import KafkaError, throw
from kafkasim.core.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

PRODUCER = "producer"
CONSUMER = "consumer"
ADMIN = "admin"

_NOT_CALLABLE = {
    "error_cb": TypeError,
    "throttle_cb": ValueError,
    "stats_cb": TypeError,
    "oauth_cb": TypeError,
}


class ClientSettings:
    """A client's properties, as text, and what the binding keeps: callbacks and the like."""

    __slots__ = (
        "error_cb",
        "logger",
        "oauth_cb",
        "on_commit",
        "on_delivery",
        "only_error_reports",
        "properties",
        "stats_cb",
        "throttle_cb",
    )

    def __init__(self) -> None:
        self.properties: dict[str, str | None] = {}
        self.error_cb: Callable[[KafkaError], Any] | None = None
        self.stats_cb: Callable[[str], Any] | None = None
        self.throttle_cb: Callable[[Any], Any] | None = None
        self.oauth_cb: Callable[[str], Any] | None = None
        self.logger: Any = None
        self.on_delivery: Callable[[KafkaError | None, Any], Any] | None = None
        self.on_commit: Callable[[KafkaError | None, list[Any]], Any] | None = None
        self.only_error_reports = False


def settings_from(kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ClientSettings:
    """Read the constructor's arguments: one dict, keywords, or both, where keywords win."""
    given = _given(args, kwargs)
    if kind == CONSUMER and "group.id" not in given:
        raise ValueError("Failed to create consumer: group.id must be set")
    settings = ClientSettings()
    # Debug contexts come first in the real client, so that they see what follows; the order decides which error is raised.
    for early in ("debug", "plugin.library.paths"):
        if early in given:
            settings.properties[early] = str(given.pop(early))
    if "default.topic.config" in given:
        topic_config = given.pop("default.topic.config")
        given.update({key: topic_config[key] for key in topic_config.keys()})  # noqa: SIM118  (an AttributeError is wanted)
    for key, value in given.items():
        _take(settings, kind, str(key), value)
    return settings


class UnmodelledConfigWarning(UserWarning):
    """A property that the real client knows and that changes nothing here."""


_warned_of: set[str] = set()


def warn_of_unmodelled(names: tuple[str, ...]) -> None:
    """Say it once for each property."""
    for name in names:
        if name not in _warned_of:
            _warned_of.add(name)
            warnings.warn(
                f"configuration property {name!r} is accepted but not modelled by kafkasim, see docs/fidelity.md",
                UnmodelledConfigWarning,
                stacklevel=5,
            )


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Any, Any]:
    if len(args) > 1:
        raise TypeError("expected tuple containing single dict")
    if args and not isinstance(args[0], dict):
        raise TypeError("expected configuration dict")
    if not args and not kwargs:
        raise TypeError("expected configuration dict")
    return {**(args[0] if args else {}), **kwargs}


def _take(settings: ClientSettings, kind: str, key: str, value: Any) -> None:
    if key in _NOT_CALLABLE:
        if not callable(value):
            raise _NOT_CALLABLE[key](f"expected {key} property as a callable function")
        setattr(settings, key, value)
    elif key == "logger":
        settings.logger = value
    elif (key == "on_delivery" and kind == PRODUCER) or (key == "on_commit" and kind == CONSUMER):
        if not callable(value):
            throw(ErrorCode._INVALID_ARG, f"{key} requires a callable object")
        setattr(settings, key, value)
    elif key == "delivery.report.only.error" and kind == PRODUCER:
        if not isinstance(value, bool):
            raise TypeError(f"Expected {key} to be bool type, not {type(value).__name__}")
        settings.only_error_reports = value
    else:
        settings.properties[key] = None if value is None else str(value)
