"""What ``install`` swaps, and what it cannot."""

from __future__ import annotations

import sys
from types import ModuleType

import confluent_kafka
import pytest

import kafkasim


def test_addresses_of_another_open_cluster_stay_its_own() -> None:
    """Every foreign address reaches the installed cluster; one that another cluster answers to does not."""
    with kafkasim.Cluster(seed=1) as one, kafkasim.Cluster(seed=2) as other:
        one.create_topic("orders")
        other.create_topic("calls")
        with one.install():
            for address, topic in (("kafka.example:9092", "orders"), (other.bootstrap_servers, "calls")):
                consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "g"})
                assert topic in consumer.list_topics(timeout=10.0).topics
                consumer.close()


def test_a_class_derived_from_the_real_client_is_named() -> None:
    """Nothing can give it another base: whoever makes one would wait for a real cluster without knowing why."""

    class Billing(confluent_kafka.Consumer):
        pass

    module = ModuleType("billing_service")
    module.Billing = Billing  # type: ignore[attr-defined]
    sys.modules["billing_service"] = module
    try:
        told = pytest.warns(RuntimeWarning, match=r"Billing derives from the real client .* stays a real client")
        with kafkasim.Cluster() as cluster, told, cluster.install():
            pass
    finally:
        del sys.modules["billing_service"]
