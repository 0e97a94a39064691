"""One URL, one handle: the simulator, brokers of our own on this machine, or a cluster that someone else runs.

Inputs:   ``sim://?brokers=3&seed=7`` · ``local://?brokers=3&racks=a,b,c`` · ``kafka://host:9092,host2:9092`` · ``docker://?image=…``
Rule 1:   a backend and what it needs are imported only when its URL is used.
Rule 2:   in a query, a name with a dot is a config: of the brokers for sim, local and docker, of the clients for kafka.
Rule 3:   ``features=epoch_truncation:false`` takes protections away, comma-separated; only the simulator can do that.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from kafkasim.errors import Unsupported

if TYPE_CHECKING:
    from kafkasim.real.cluster import RealCluster

_SHAPES = "sim://?brokers=3&seed=7, local://?brokers=3, kafka://host:9092 or docker://"


def connect(url: str) -> Any:
    """Return the cluster handle for a URL; use it in a ``with`` statement."""
    parts = urlsplit(url)
    options = _read_options(url, parts.query)
    if parts.scheme == "sim":
        return _connect_simulator(options)
    if parts.scheme in ("local", "kafka", "docker") and options.pop("features", None):
        raise Unsupported(
            f"{parts.scheme}:// cannot take protections away (features=): real Kafka has no such switches"
        )
    if parts.scheme == "local":
        return _connect_local(options)
    if parts.scheme == "kafka":
        return _connect_running(url, parts.netloc, options)
    if parts.scheme == "docker":
        return _connect_docker(options)
    raise ValueError(f"cannot connect to {url!r}: expected {_SHAPES}")


def _connect_simulator(options: dict[str, Any]) -> Any:
    from kafkasim.handle import Cluster

    return Cluster(**options)


def _connect_local(options: dict[str, Any]) -> RealCluster:
    real_cluster = _import_real_cluster()
    from kafkasim.real.local_kafka import LocalKafka

    seed = options.pop("seed", 0)
    _refuse_unknown("local", options, ("brokers", "racks", "config"))
    local = LocalKafka(**options).start()
    cluster = real_cluster(local.bootstrap_servers, local=local, owns_local=True, seed=seed)
    try:
        cluster.wait_for_coordinators()
    except BaseException:
        cluster.close()
        raise
    return cluster


def _connect_running(url: str, address: str, options: dict[str, Any]) -> RealCluster:
    if not address:
        raise ValueError(f"{url!r} names no host: expected kafka://host:9092")
    seed = options.pop("seed", 0)
    _refuse_unknown("kafka", options, ("config",))
    return _import_real_cluster()(address, seed=seed, client_options=options.get("config"), remove_topics=True)


def _connect_docker(options: dict[str, Any]) -> RealCluster:
    """One broker in a container; its brokers cannot be harmed one by one."""
    real_cluster = _import_real_cluster()
    try:
        from testcontainers.kafka import KafkaContainer
    except ImportError as missing:
        raise ImportError(
            "docker:// needs testcontainers; install the extra: pip install 'kafkasim[docker]'"
        ) from missing
    seed = options.pop("seed", 0)
    image = options.pop("image", "apache/kafka:4.3.0")
    _refuse_unknown("docker", options, ("config",))
    container = KafkaContainer(image)
    for name, value in options.get("config", {}).items():
        container = container.with_env("KAFKA_" + name.replace(".", "_").upper(), str(value))
    container.start()
    stopping = contextlib.ExitStack()
    stopping.callback(container.stop)
    return real_cluster(container.get_bootstrap_server(), seed=seed, on_close=stopping.close)


def _import_real_cluster() -> type[RealCluster]:
    try:
        from kafkasim.real.cluster import RealCluster
    except ImportError as missing:
        if (missing.name or "").partition(".")[0] != "confluent_kafka":
            raise
        raise ImportError(
            "a real cluster needs confluent-kafka; install the extra: pip install 'kafkasim[confluent]'"
        ) from missing
    return RealCluster


def _read_options(url: str, query: str) -> dict[str, Any]:
    """Read a query: counts as ints, lists by comma, and every name with a dot into one config."""
    options: dict[str, Any] = {}
    config: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if "." in name:
            config[name] = value
        elif name in ("brokers", "seed", "controllers"):
            options[name] = _read_count(url, name, value)
        elif name == "racks":
            options[name] = value.split(",")
        elif name == "features":
            options[name] = _read_features(url, value)
        else:
            options[name] = value
    if config:
        options["config"] = config
    return options


def _read_count(url: str, name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name}={value!r} in {url!r} is not a whole number") from None


def _read_features(url: str, value: str) -> dict[str, bool]:
    """``a:false,b:true``; the names are judged by the cluster."""
    features: dict[str, bool] = {}
    for item in value.split(","):
        name, _, switch = item.partition(":")
        if switch not in ("true", "false"):
            raise ValueError(f"features={value!r} in {url!r}: expected name:false, comma-separated, not {item!r}")
        features[name] = switch == "true"
    return features


def _refuse_unknown(scheme: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"{scheme}:// does not know {unknown}; it knows {list(known)}")


class _CallableModule(ModuleType):
    """Importing this module puts it into its package as ``kafkasim.connect``, over the function of that name."""

    def __call__(self, url: str) -> Any:
        return connect(url)


sys.modules[__name__].__class__ = _CallableModule
