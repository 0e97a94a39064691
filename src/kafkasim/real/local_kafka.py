"""Real Kafka brokers on this machine: N KRaft nodes, as processes of our own; all of them controllers unless some are named.

Mirrors:  kafka.tools.StorageTool format, kafka.Kafka, config/server.properties.
Inputs:   a Kafka distribution: ``KAFKA_HOME``, or a folder of jars in ``KAFKASIM_KAFKA_LIBS``; java on the PATH.
Effects:  processes, loopback ports, one temporary folder; all gone after `close`, at exit, and after a crash.
Rule 1:   a setting that differs from Kafka's default changes how fast or how big a node is, never what a client sees;
          the exceptions are named in `SMALL_MACHINE_CONFIG`.
Rule 2:   nothing here knows a client library; whether brokers have joined is asked over the wire.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from kafkasim.errors import Unsupported
from kafkasim.real import processes, wire

JVM_FLAGS = ("-Xmx400m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")

SMALL_MACHINE_CONFIG: dict[str, str] = {
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "8388608",
    # Visible: a group's first rebalance does not wait 3 s for more members. `initial_rebalance_delay_ms` sets it.
    "group.initial.rebalance.delay.ms": "0",
}


def find_kafka_libs() -> Path:
    """Return the folder of jars that the environment names, or say how to name one."""
    libs = os.environ.get("KAFKASIM_KAFKA_LIBS")
    home = os.environ.get("KAFKA_HOME")
    folder = Path(libs) if libs else Path(home) / "libs" if home else None
    if folder is None:
        raise Unsupported("no Kafka distribution: set KAFKA_HOME, or KAFKASIM_KAFKA_LIBS to a folder of Kafka's jars")
    if not any(folder.glob("kafka_2.1*.jar")):
        raise Unsupported(f"no kafka_2.1x jar in {folder}")
    return folder


def find_java() -> str:
    """Return the java to run: JAVA_HOME first, then the PATH."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise Unsupported("no java on the PATH and no JAVA_HOME; Kafka 4 needs Java 17 or later")
    return java


class LocalBroker:
    """One node's process, started and harmed by signals: a broker, and a controller too where it is one."""

    def __init__(self, cluster: LocalKafka, node_id: int, port: int, rack: str | None) -> None:
        self.node_id = node_id
        self.port = port
        self.rack = rack
        self.folder = cluster.folder / f"node-{node_id}"
        self.properties = self.folder / "server.properties"
        self.log_file = self.folder / "server.log"
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None
        self.paused = False
        self.stopping = False
        self.started_at = 0.0
        self._crashed = False
        self._lock = threading.RLock()

    @property
    def state(self) -> str:
        """One of ``running``, ``starting``, ``paused``, ``stopping``, ``stopped``, ``crashed``."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._reap()
                return "crashed" if self._crashed else "stopped"
            if self.paused:
                return "paused"
            if self.stopping:
                return "stopping"
        return "running" if self._cluster.has_joined(self.node_id) else "starting"

    @property
    def alive(self) -> bool:
        """Whether the process exists, whatever it is doing."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; `state` is ``starting`` until the other brokers know it."""
        with self._lock:
            if self.alive:
                return
            self._reap()
            self.paused = self.stopping = self._crashed = False
            with self.log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    [*self._cluster.java_command, "kafka.Kafka", str(self.properties)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    # Its own session: a Ctrl-C of the terminal must not become an orderly shutdown.
                    start_new_session=True,
                )
            processes.keep(self._process.pid)
            self.started_at = time.monotonic()

    def crash(self) -> None:
        """SIGKILL: the process is gone, what it wrote stays in the page cache."""
        with self._lock:
            if self._process is not None and self.alive:
                self._process.kill()
                self._process.wait()
                self._crashed = True
            self._reap()

    def shutdown(self) -> None:
        """SIGTERM: controlled shutdown, which takes the broker a moment; `state` tells when it is over."""
        with self._lock:
            if self._process is not None and self.alive:
                self.resume()
                self._process.terminate()
                self.stopping = True

    def pause(self) -> None:
        """SIGSTOP: the process exists, its sockets stay open, nothing moves."""
        with self._lock:
            if self._process is not None and self.alive:
                self._process.send_signal(signal.SIGSTOP)
                self.paused = True

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        with self._lock:
            if self._process is not None and self.alive and self.paused:
                self._process.send_signal(signal.SIGCONT)
                # What it knows is as old as the pause: others are asked before it, as before a young one.
                self.started_at = time.monotonic()
            self.paused = False

    def power_loss(self) -> None:
        """Not possible here: the machine's page cache survives its processes."""
        raise Unsupported("power loss: a local broker shares this machine's page cache")

    def wait_until_gone(self, timeout: float = 30.0) -> None:
        """Wait for an orderly shutdown to end."""
        if self._process is not None:
            self._process.wait(timeout)
        with self._lock:
            self._reap()

    def tail(self, lines: int = 20) -> str:
        """The last lines of the broker's own log, for error messages."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _reap(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            processes.release(self._process.pid)


class LocalKafka:
    """N KRaft nodes of one cluster, with broker ids from 1; every one a controller too, or only those in ``controllers``."""

    def __init__(
        self,
        brokers: int = 3,
        *,
        controllers: Sequence[int] | None = None,
        racks: Sequence[str] | None = None,
        config: Mapping[str, object] | None = None,
        initial_rebalance_delay_ms: int = 0,
        log_level: str = "warn",
        libs: Path | None = None,
    ) -> None:
        if os.name != "posix":
            raise Unsupported("local brokers need a POSIX system")
        if brokers < 1:
            raise ValueError(f"brokers must be at least 1, not {brokers}")
        if racks is not None and len(racks) != brokers:
            raise ValueError(f"racks names {len(racks)} racks for {brokers} brokers: expected one for each")
        self.controllers = tuple(range(1, brokers + 1)) if controllers is None else tuple(controllers)
        if not self.controllers or not set(self.controllers) <= set(range(1, brokers + 1)):
            raise ValueError(f"controllers must name some of the nodes 1 to {brokers}, not {list(self.controllers)}")
        jars = libs or find_kafka_libs()
        self.java_command = [
            find_java(),
            *JVM_FLAGS,
            f"-Dorg.slf4j.simpleLogger.defaultLogLevel={log_level}",
            "-cp",
            f"{jars}/*",
        ]
        self.cluster_id = _random_kafka_uuid()
        self.racks = tuple(racks) if racks else ()
        self.config = {
            **SMALL_MACHINE_CONFIG,
            "group.initial.rebalance.delay.ms": str(initial_rebalance_delay_ms),
            **{name: _property_text(value) for name, value in (config or {}).items()},
        }
        self.folder = processes.temporary_folder("kafkasim-local-")
        ports = _free_ports(2 * brokers)
        self._controller_ports = ports[brokers:]
        self.brokers: dict[int, LocalBroker] = {
            node_id: LocalBroker(
                self,
                node_id,
                ports[node_id - 1],
                self.racks[node_id - 1] if self.racks else None,
            )
            for node_id in range(1, brokers + 1)
        }
        self._closed = False

    @property
    def bootstrap_servers(self) -> str:
        """All brokers' addresses, whether they run or not."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers.values())

    def start(self, timeout: float = 90.0) -> Self:
        """Format and start every node, and wait until all know one another."""
        try:
            self._format()
            for broker in self.brokers.values():
                broker.start()
            self.wait_until_joined(timeout)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kill every node and remove the folder; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for broker in self.brokers.values():
            broker.crash()
        processes.remove_folder(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def has_joined(self, node_id: int) -> bool:
        """Whether the broker answers, and the one that has run longest of the others lists it as unfenced."""
        broker = self.brokers[node_id]
        asked = [broker, *[other for other in self.answering() if other is not broker][:1]]
        return all(node_id in self._listed_by(each) for each in asked)

    def answering(self) -> list[LocalBroker]:
        """Brokers that neither stand still nor stop, the longest-running first: a young one's view may be old."""
        able = [b for b in self.brokers.values() if b.alive and not b.paused and not b.stopping]
        return sorted(able, key=lambda broker: broker.started_at)

    def wait_until_joined(self, timeout: float = 90.0) -> None:
        """Wait until every node that has a process is listed by every other."""
        deadline = time.monotonic() + timeout
        waiting = list(self.brokers)
        while waiting:
            node_id = waiting[0]
            broker = self.brokers[node_id]
            if not broker.alive:
                raise RuntimeError(f"broker {node_id} ended while starting:\n{broker.tail()}")
            if set(self._listed_by(broker)) == set(self.brokers):
                waiting.pop(0)
            elif time.monotonic() > deadline:
                raise TimeoutError(f"broker {node_id} had not joined after {timeout} s:\n{broker.tail()}")
            else:
                time.sleep(0.05)

    def restore(self, timeout: float = 90.0) -> None:
        """Bring back every node that was crashed, shut down or paused, and wait until all have joined."""
        for broker in self.brokers.values():
            if broker.state == "stopping":
                broker.wait_until_gone()
            broker.resume()
            broker.start()
        self.wait_until_joined(timeout)

    def _listed_by(self, broker: LocalBroker) -> list[int]:
        with contextlib.suppress(OSError):
            return wire.broker_ids(("127.0.0.1", broker.port), timeout=1.0)
        return []

    def _format(self) -> None:
        """Format the first node with Kafka's tool and give the others the same bootstrap records.

        A node's folder after the tool has run holds its identity and the feature levels to start from; with
        voters named in the properties nothing in it but the identity differs from node to node. One JVM instead of N.
        """
        for broker in self.brokers.values():
            broker.folder.mkdir()
            broker.properties.write_text(self._properties(broker))
        first = self.brokers[self.controllers[0]]
        tool = [
            *self.java_command,
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            self.cluster_id,
            "--config",
            str(first.properties),
        ]
        done = subprocess.run(tool, capture_output=True, text=True, cwd=first.folder, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"kafka.tools.StorageTool failed:\n{done.stdout}{done.stderr}")
        for broker in self.brokers.values():
            if broker is first:
                continue
            shutil.copytree(first.folder / "data", broker.folder / "data")
            meta = broker.folder / "data" / "meta.properties"
            changed = {"node.id": str(broker.node_id), "directory.id": _random_kafka_uuid()}
            meta.write_text(_with_properties(meta.read_text(), changed))

    def _properties(self, broker: LocalBroker) -> str:
        votes = broker.node_id in self.controllers
        own = f",CONTROLLER://127.0.0.1:{self._controller_ports[broker.node_id - 1]}" if votes else ""
        voters = ",".join(f"{node_id}@127.0.0.1:{self._controller_ports[node_id - 1]}" for node_id in self.controllers)
        replicas = str(min(3, len(self.brokers)))
        enough = str(min(2, len(self.brokers)))
        properties = {
            "process.roles": "broker,controller" if votes else "broker",
            "node.id": str(broker.node_id),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{broker.port}{own}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(broker.folder / "data"),
            # Kafka's defaults are for three brokers; a smaller cluster could not create these topics.
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": enough,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": enough,
            **({"broker.rack": broker.rack} if broker.rack else {}),
            **self.config,
        }
        return "".join(f"{name}={value}\n" for name, value in properties.items())


def _random_kafka_uuid() -> str:
    """A random id as Kafka prints one: 16 bytes, URL-safe base64, no padding; Kafka avoids a leading dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _property_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with_properties(text: str, changed: Mapping[str, str]) -> str:
    kept = [line for line in text.splitlines() if line.partition("=")[0] not in changed]
    return "\n".join([*kept, *(f"{name}={value}" for name, value in changed.items())]) + "\n"


def _free_ports(count: int) -> list[int]:
    """Choose free loopback ports below the range that the system gives to outgoing connections.

    A port of that range could be taken by any client while its broker is down, and the broker would not come back.
    """
    chosen: list[int] = []
    entropy = random.SystemRandom()
    for _ in range(2000):
        port = entropy.randrange(20000, 32000)
        if port in chosen:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise RuntimeError(f"{count} free loopback ports were not found")
