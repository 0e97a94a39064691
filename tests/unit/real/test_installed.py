"""Clients by the real package's own names, recorded while a real cluster is installed."""

from __future__ import annotations

import sys
from types import ModuleType

import confluent_kafka
import pytest

from kafkasim.real.installed import recording


class Recorded(ModuleType):
    """What a recorded client is made of, as far as names go."""

    Producer = type("Producer", (confluent_kafka.Producer,), {"__module__": "kafkasim.real.recording"})
    Consumer = type("Consumer", (confluent_kafka.Consumer,), {"__module__": "kafkasim.real.recording"})

    def __getattr__(self, name: str) -> object:
        return getattr(confluent_kafka, name)


def test_names_are_swapped_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the package, and where a module has imported a class by name; what is no client is left alone."""
    module = ModuleType("billing_service")
    module.Consumer = real = confluent_kafka.Consumer  # type: ignore[attr-defined]
    module.TopicPartition = confluent_kafka.TopicPartition  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "billing_service", module)
    client = Recorded("confluent_kafka")
    with recording(client):
        assert confluent_kafka.Consumer is module.Consumer is client.Consumer  # type: ignore[attr-defined]
        assert confluent_kafka.Producer is client.Producer
        assert issubclass(confluent_kafka.Consumer, real)
        assert module.TopicPartition is confluent_kafka.TopicPartition  # type: ignore[attr-defined]
    assert confluent_kafka.Consumer is module.Consumer is real  # type: ignore[attr-defined]
