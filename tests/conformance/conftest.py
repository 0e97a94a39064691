"""Fixtures of the conformance suite: each test body runs on the simulator and on real Kafka, and cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.conformance.kit import Kit


@pytest.fixture
def ck(kafka_cluster: Any) -> Iterator[Any]:
    """The client module: the installed one on a real cluster, the cluster's own on the simulator."""
    # Only the cluster's own addresses reach it: a test may then name one that reaches nothing, as on a real cluster.
    with kafka_cluster.install(bootstrap=kafka_cluster.bootstrap_servers):
        import confluent_kafka
        import confluent_kafka.admin

        # The simulator records every client; around the real one it takes classes that do.
        recorded = getattr(kafka_cluster, "recorded_client", None)
        yield confluent_kafka if recorded is None else recorded()


@pytest.fixture
def kit(ck: Any, kafka_cluster: Any, unique: Callable[[str], str]) -> Iterator[Kit]:
    """Short words for what most tests do."""
    kit = Kit(ck, kafka_cluster, unique)
    yield kit
    kit.close()
