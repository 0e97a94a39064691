"""User code meets the simulated client under every name it may have for it, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime

import confluent_kafka as alias
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

import kafkasim
import kafkasim.confluent_kafka as ours


def test_names_that_were_imported_before() -> None:
    """``from confluent_kafka import Producer`` at the top of a module is swapped inside ``install`` and put back."""
    real = (alias, Producer, AdminClient, sys.modules["confluent_kafka"], time.time, datetime)
    with kafkasim.Cluster(seed=1) as cluster, cluster.install():
        assert Producer is ours.Producer
        assert alias.Consumer is ours.Consumer
        assert AdminClient.__module__.startswith("kafkasim.")
        producer = Producer({"bootstrap.servers": "localhost:9092"})
        producer.produce("t", b"x")
        assert producer.flush(10) == 0
        before = time.time()
        time.sleep(5.0)
        assert time.time() - before == pytest.approx(5.0, abs=0.01)
        assert AdminClient({"bootstrap.servers": "localhost:9092"}).list_topics(timeout=5).topics["t"].topic == "t"
    after = (alias, Producer, AdminClient, sys.modules["confluent_kafka"], time.time, datetime)
    assert [id(each) for each in after] == [id(each) for each in real]


def test_localhost_is_unreachable_outside() -> None:
    """Outside ``install`` and tasks only the cluster's own addresses reach it."""
    with kafkasim.Cluster(seed=1) as cluster:
        far = ours.Producer({"bootstrap.servers": "localhost:9092"})
        with pytest.raises(ours.KafkaException) as caught:
            far.list_topics(timeout=1.0)
        assert caught.value.args[0].code() == ours.KafkaError._TRANSPORT
        near = ours.Producer({"bootstrap.servers": cluster.bootstrap_servers})
        assert len(near.list_topics(timeout=5.0).brokers) == 3


def test_install_may_be_limited_to_some_addresses() -> None:
    """An address that ``install`` does not name stays what it was."""
    with kafkasim.Cluster(seed=1) as cluster, cluster.install(bootstrap="prod-kafka:9092"):
        assert len(Producer({"bootstrap.servers": "prod-kafka:9092"}).list_topics(timeout=5.0).brokers) == 3
        with pytest.raises(ours.KafkaException):
            Producer({"bootstrap.servers": "elsewhere:9092"}).list_topics(timeout=1.0)


NATIVE = """
import kafkasim
with kafkasim.Cluster() as cluster, cluster.install():
    import confluent_kafka, confluent_kafka.admin, confluent_kafka.serialization
    producer = confluent_kafka.Producer({"bootstrap.servers": "x:9092"})
    producer.produce("t", b"v"); assert producer.flush(10) == 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": "x:9092", "group.id": "g"})
    consumer.close()
    confluent_kafka.admin.AdminClient({"bootstrap.servers": "x:9092"}).list_topics(timeout=5)
mapped = open("/proc/self/maps").read()
assert "librdkafka" not in mapped and "confluent_kafka" not in mapped, "a native client library is mapped"
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/maps")
def test_no_native_client_library_is_mapped() -> None:
    """A whole session of producer, consumer and admin client never loads librdkafka."""
    subprocess.run([sys.executable, "-c", NATIVE], check=True, timeout=60)


def test_a_killed_task_runs_nothing_more() -> None:
    """SIGKILL: not even ``finally``; its group notices by the session timeout."""
    ran: list[str] = []

    def member() -> None:
        from confluent_kafka import Consumer

        consumer = Consumer({"bootstrap.servers": "x:9092", "group.id": "g", "session.timeout.ms": 6000})
        consumer.subscribe(["t"])
        try:
            while True:
                consumer.poll(1.0)
        finally:
            ran.append("finally")
            consumer.close()

    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("t", partitions=2)
        task = cluster.spawn(member, name="member")
        cluster.wait_for_assignment("g", 1)
        task.kill()
        assert task.done
        cluster.run_for(2.0)
        assert len(cluster.describe_group("g").members) == 1
        cluster.run_for(6.0)
        assert cluster.describe_group("g").members == []
    assert ran == []
