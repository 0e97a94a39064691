"""URLs of connect(), and what they refuse."""

from __future__ import annotations

import sys

import pytest

import kafkasim
from kafkasim.connect import connect


def test_a_simulator_url() -> None:
    """sim:// makes a simulated cluster with the brokers and the seed of its query."""
    with connect("sim://?brokers=2&seed=9&racks=a,b&message.max.bytes=5000") as cluster:
        assert cluster.seed == 9
        assert len(cluster.bootstrap_servers.split(",")) == 2
        assert cluster.zone("b").state == "running"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://host", "expected sim://"),
        ("nonsense", "expected sim://"),
        ("kafka://", "names no host"),
        ("sim://?brokers=many", "not a whole number"),
        ("local://?brocken=3", "does not know"),
        ("kafka://host:1?brokers=3", "does not know"),
        ("sim://?brokers", "bad query field"),
    ],
)
def test_wrong_urls(url: str, text: str) -> None:
    """A URL that means nothing raises ValueError with what was expected."""
    with pytest.raises(ValueError, match=text):
        connect(url)


def test_a_running_cluster_is_not_ours() -> None:
    """kafka:// cannot harm brokers, links or time, and says so."""
    with connect("kafka://127.0.0.1:1") as cluster:
        assert cluster.bootstrap_servers == "127.0.0.1:1"
        assert len(cluster.history) == 0
        for harm in (
            lambda: cluster.broker(1),
            lambda: cluster.zone("a"),
            lambda: cluster.network.partition(1, 2),
            lambda: cluster.network.heal(),
            cluster.fingerprint,
            lambda: cluster.metrics,
            lambda: cluster.why("t", 0),
        ):
            with pytest.raises(kafkasim.Unsupported):
                harm()


def test_options_of_clients_in_the_url() -> None:
    """Dotted names in a kafka:// query are config of every client, and wrong ones are refused by the client."""
    confluent_kafka = pytest.importorskip("confluent_kafka")
    with connect("kafka://127.0.0.1:1?no.such=1") as cluster, pytest.raises(confluent_kafka.KafkaException):
        cluster.producer()


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [("docker://", "testcontainers.kafka", "docker"), ("kafka://h:1", "confluent_kafka", "confluent")],
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str) -> None:
    """Without the library a backend needs, an ImportError names the extra."""
    for name in [name for name in sys.modules if name.startswith("kafkasim.real.cluster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"kafkasim\[{extra}\]"):
        connect(url)


def test_the_packages_name_is_callable_each_time() -> None:
    """``kafkasim.connect(url)`` works a second time too, when the module of that name has been imported."""
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot connect to"):
            kafkasim.connect("nothing://")
