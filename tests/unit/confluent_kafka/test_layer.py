"""The client's Python layer over our classes, with nothing native loaded."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from kafkasim.confluent_kafka import layer


def run(program: str) -> str:
    """What a program prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_native_is_mapped_with_the_whole_layer_loaded() -> None:
    """Neither librdkafka nor the C extension is in the process, nor the real package in sys.modules."""
    printed = run(
        """
        import sys
        import kafkasim.confluent_kafka as client
        import kafkasim.confluent_kafka.admin, kafkasim.confluent_kafka.aio
        import kafkasim.confluent_kafka.serialization, kafkasim.confluent_kafka.error
        for name in client.__all__:
            getattr(client, name)
        maps = open("/proc/self/maps").read()
        print("rdkafka" in maps, "cimpl" in maps, any(n.startswith("confluent_kafka") for n in sys.modules))
        """
    )
    assert printed.split() == ["False", "False", "False"]


def test_nothing_native_is_mapped_while_clients_work() -> None:
    """Clients made inside install(), by the real package's name, produce and consume without librdkafka in the process."""
    printed = run(
        """
        import kafkasim
        with kafkasim.Cluster(brokers=1, seed=1) as cluster, cluster.install():
            from confluent_kafka import Consumer, Producer
            from confluent_kafka.admin import AdminClient, NewTopic
            AdminClient({"bootstrap.servers": "b"}).create_topics([NewTopic("t", 1, 1)])["t"].result()
            with Producer({"bootstrap.servers": "b"}) as producer:
                producer.produce("t", b"value")
            consumer = Consumer({"bootstrap.servers": "b", "group.id": "g", "auto.offset.reset": "earliest"})
            consumer.subscribe(["t"])
            print(consumer.poll(10).value())
            consumer.close()
        maps = open("/proc/self/maps").read()
        print("rdkafka" in maps, "cimpl" in maps)
        """
    )
    assert printed.splitlines() == ["b'value'", "False False"]


def test_layer_classes_stand_on_ours() -> None:
    """The layer's clients, exceptions and enumerations use the simulated classes and their constants."""
    import kafkasim.confluent_kafka as client
    from kafkasim.confluent_kafka import admin, error
    from kafkasim.confluent_kafka.cimpl import Producer, _AdminClientImpl

    assert issubclass(client.SerializingProducer, Producer)
    assert issubclass(admin.AdminClient, _AdminClientImpl)
    assert issubclass(error.ConsumeError, client.KafkaException)
    assert client.ConsumerGroupState.STABLE.value == 3


def test_futures_of_the_layer_are_ours() -> None:
    """A future that AdminClient makes is one that waits in virtual time."""
    from kafkasim.confluent_kafka import admin, futures

    assert isinstance(admin.AdminClient._create_future(), futures.Future)


def test_plain_imports_inside_the_layer_are_rebound() -> None:
    """However a layer module spells an import of the client, it gets ours under the name that it expects."""
    source = b"\n".join(
        [
            b"import confluent_kafka",
            b"import confluent_kafka.serialization",
            b"import confluent_kafka.error as failures, os.path",
            b"from confluent_kafka import Producer",
            b"from confluent_kafka.cimpl import TopicPartition as TP",
            b"import concurrent.futures",
            b"from concurrent.futures import Future",
        ]
    )
    names: dict[str, object] = {}
    exec(layer.redirected_code(source, "module.py"), names)
    assert names["confluent_kafka"] is sys.modules["kafkasim.confluent_kafka"]
    assert names["failures"] is sys.modules["kafkasim.confluent_kafka.error"]
    assert names["TP"] is sys.modules["kafkasim.confluent_kafka.cimpl"].TopicPartition
    assert names["Future"] is sys.modules["kafkasim.confluent_kafka.futures"].Future
    assert names["concurrent"].futures is sys.modules["kafkasim.confluent_kafka.futures"]  # type: ignore[attr-defined]
    assert "os" in names


def test_without_the_wheel_the_error_names_the_extra() -> None:
    """The client classes are still there; what needs the layer says what to install."""
    printed = run(
        """
        import sys, importlib.machinery
        find = importlib.machinery.PathFinder.find_spec
        importlib.machinery.PathFinder.find_spec = classmethod(
            lambda cls, name, *rest: None if name == "confluent_kafka" else find(name, *rest)
        )
        import kafkasim.confluent_kafka as client
        print(client.TopicPartition("t"))
        for use in (
            lambda: client.Node,
            lambda: __import__("kafkasim.confluent_kafka.admin"),
            lambda: exec("from kafkasim.confluent_kafka import SerializingProducer"),
            lambda: exec("from kafkasim.confluent_kafka import aio"),
        ):
            try:
                use()
            except ImportError as error:
                print("pip install 'kafkasim[confluent]'" in str(error))
        """
    )
    assert printed.splitlines()[1:] == ["True"] * 4


def test_unknown_names_are_attribute_errors() -> None:
    """A name that the real package has not either is missing in the usual way."""
    import kafkasim.confluent_kafka as client

    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = client.Nonsense
    with pytest.raises(ModuleNotFoundError):
        __import__("kafkasim.confluent_kafka.nonsense")
