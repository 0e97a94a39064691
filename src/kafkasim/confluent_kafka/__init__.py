"""The client facade: the module tree and names of confluent_kafka 2.16, over simulated clusters.

What is a C extension in the real package is `cimpl` here, in Python. What is Python there (admin, serialization, aio ...) is
taken from the confluent-kafka that is installed, see `layer`, and loaded when first asked for.

Mirrors:  confluent_kafka/__init__.py.
Rule 1:   importing this module loads neither the layer nor a cluster.
"""

from __future__ import annotations

import importlib
from typing import Any

from kafkasim.confluent_kafka import layer as _layer
from kafkasim.confluent_kafka.cimpl import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    OFFSET_STORED,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    ConcurrentModificationException,
    Consumer,
    IllegalStateException,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    ShareConsumer,
    TopicPartition,
    Uuid,
    consistent,
    fnv1a,
    libversion,
    murmur2,
    version,
)

_layer.register()

#: Names that live in the layer, and in which of its modules.
_LAYER_NAMES = {
    "AcknowledgeType": "_model",
    "ConsumerGroupState": "_model",
    "ConsumerGroupTopicPartitions": "_model",
    "ConsumerGroupType": "_model",
    "ElectionType": "_model",
    "IsolationLevel": "_model",
    "Messages": "_model",
    "Node": "_model",
    "TopicCollection": "_model",
    "TopicPartitionInfo": "_model",
    "DeserializingConsumer": "deserializing_consumer",
    "DeserializingShareConsumer": "deserializing_share_consumer",
    "SerializingProducer": "serializing_producer",
}

#: Submodules of the layer; the real package has loaded some of them by the time it is imported itself.
_LAYER_MODULES = frozenset(
    {
        "_model",
        "_types",
        "_util",
        "admin",
        "aio",
        "avro",
        "deserializing_consumer",
        "deserializing_share_consumer",
        "error",
        "kafkatest",
        "schema_registry",
        "serialization",
        "serializing_producer",
    }
)

__all__ = [
    "OFFSET_BEGINNING",
    "OFFSET_END",
    "OFFSET_INVALID",
    "OFFSET_STORED",
    "TIMESTAMP_CREATE_TIME",
    "TIMESTAMP_LOG_APPEND_TIME",
    "TIMESTAMP_NOT_AVAILABLE",
    "AcknowledgeType",
    "ConcurrentModificationException",
    "Consumer",
    "ConsumerGroupState",
    "ConsumerGroupTopicPartitions",
    "ConsumerGroupType",
    "DeserializingConsumer",
    "DeserializingShareConsumer",
    "ElectionType",
    "IllegalStateException",
    "IsolationLevel",
    "KafkaError",
    "KafkaException",
    "Message",
    "Messages",
    "Node",
    "Producer",
    "SerializingProducer",
    "ShareConsumer",
    "TopicCollection",
    "TopicPartition",
    "TopicPartitionInfo",
    "Uuid",
    "admin",
    "aio",
    "consistent",
    "fnv1a",
    "kafkatest",
    "libversion",
    "murmur2",
    "version",
]

__version__ = version()


class ThrottleEvent:
    """What ``throttle_cb`` is told: which broker delayed a request, and for how many seconds."""

    def __init__(self, broker_name: str, broker_id: int, throttle_time: float) -> None:
        self.broker_name = broker_name
        self.broker_id = broker_id
        self.throttle_time = throttle_time

    def __str__(self) -> str:
        return f"{self.broker_name}/{self.broker_id} throttled for {int(self.throttle_time * 1000)} ms"


def _resolve_plugins(plugins: str) -> str:
    """Plugins of librdkafka cannot be loaded here, so their paths stay as they are."""
    return plugins


def __getattr__(name: str) -> Any:
    module = _LAYER_NAMES.get(name)
    if module is not None:
        value = getattr(_layer.layer_module(module), name)
        globals()[name] = value
        return value
    if name in _LAYER_MODULES:
        return _layer.layer_module(name)
    if name == "cimpl":
        return importlib.import_module(f"{__name__}.cimpl")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAYER_NAMES, *_LAYER_MODULES})
