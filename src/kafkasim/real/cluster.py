"""The cluster handle over real Kafka: the surface of the simulated one, in real time.

Mirrors:  the handle of `kafkasim.Cluster`.
Inputs:   bootstrap servers of any cluster; or a `LocalKafka`, whose brokers can be harmed.
Effects:  clients of the installed confluent_kafka, threads and processes, topics on the cluster.
Rule 1:   what a real cluster cannot do raises Unsupported with the reason; nothing is silently left out.
Rule 2:   one handle is one test: `now` starts at 0, and `close` ends the clients and tasks the handle made.
Differs:  time is real, `install` makes clients record and nothing else, no seed has an effect, `fingerprint` does not exist.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.history_lines import history_lines
from kafkasim.check.identity import BY_CONTENT
from kafkasim.check.report import Report
from kafkasim.check.run import check_history
from kafkasim.core.model.history import Acked, Delivered, ShareDelivered
from kafkasim.core.model.views import GroupDescription, MemberDescription, PartitionDescription, StoredRecord
from kafkasim.errors import Unsupported
from kafkasim.real import wire
from kafkasim.real.faults import BrokerGroup, UnsupportedNetwork
from kafkasim.real.history import RealHistory
from kafkasim.real.installed import recording
from kafkasim.real.local_kafka import LocalBroker, LocalKafka
from kafkasim.real.logs import log_views, read_records
from kafkasim.real.recording import RecordedClient, RecordingAdmin
from kafkasim.real.tasks import ProcessTask, Task, ThreadTask
from kafkasim.sim.files import write_whole
from kafkasim.sim.user_lines import ended_with
from kafkasim.views.lag import GroupLag, group_lag
from kafkasim.views.share_lag import ShareLag, share_lag

_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

# Keys of the client whose names really hold underscores.
_UNDERSCORE_KEYS = frozenset(
    {
        "error_cb",
        "stats_cb",
        "throttle_cb",
        "oauth_cb",
        "log_cb",
        "on_delivery",
        "on_commit",
        "ssl_key",
        "ssl_certificate",
        "ssl_ca",
    }
)


def client_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn keyword arguments into a client's config: ``linger_ms=5`` means ``linger.ms``."""
    return {
        name if "." in name or name in _UNDERSCORE_KEYS else name.replace("_", "."): value
        for name, value in config.items()
    }


class RealCluster:
    """The handle; see the module's header."""

    network = UnsupportedNetwork()

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        local: LocalKafka | None = None,
        owns_local: bool = False,
        seed: int = 0,
        client_options: Mapping[str, Any] | None = None,
        remove_topics: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.seed = seed
        self._local = local
        self._owns_local = owns_local
        self._options = dict(client_options or {})
        self._remove_topics = remove_topics
        self._on_close = on_close
        self._started = time.monotonic()
        self._clients: list[Any] = []
        self._tasks: list[Task] = []
        self._timers: list[threading.Timer] = []
        self._timer_errors: list[BaseException] = []
        self._guarantees: list[Guarantee] = []
        self._topics: list[str] = []
        self._history = RealHistory(lambda: int(self.now * 1e6))
        self._client = RecordedClient(self._history)
        self._shared_admin: AdminClient | None = None
        self._shared_producer: Producer | None = None
        self._addresses: dict[int, wire.Address] = {}
        self._token = secrets.token_hex(4)
        self._closed = False

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what this handle started; stop the brokers where it owns them."""
        if self._closed:
            return
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            self._end_task(task)
        for client in self._clients:
            with contextlib.suppress(KafkaException, RuntimeError):
                client.close()
        self._history.close()
        if self._remove_topics and self._topics:
            with contextlib.suppress(KafkaException):
                self._admin().delete_topics(self._topics)
        if self._local is not None and self._owns_local:
            self._local.close()
        if self._on_close is not None:
            self._on_close()

    @contextlib.contextmanager
    def install(self, bootstrap: object = None) -> Iterator[Self]:
        """Let clients that are made by confluent_kafka's own names write to `history` until the end of the ``with`` statement."""
        with recording(self._client):
            yield self

    @property
    def now(self) -> float:
        """Seconds since the handle was made."""
        return time.monotonic() - self._started

    @property
    def history(self) -> RealHistory:
        """What clients made through this handle, or from `recorded_client`, did and saw: the same events as on the simulator."""
        return self._history.collect()

    def recorded_client(self) -> RecordedClient:
        """The installed confluent_kafka, with producers and consumers that write to `history`."""
        return self._client

    @property
    def metrics(self) -> NoReturn:
        """Raises Unsupported: a client sees no JMX."""
        raise Unsupported("metrics: a real cluster's metrics come by JMX, which clients do not speak")

    def lag(self, group: str, *, committed: bool = True) -> GroupLag:
        """How far a group is behind, over time: ``lag("billing").total.max()``, ``lag("billing")["orders", 0].last``.

        ``committed``: behind what it has committed, as kafka-consumer-groups.sh counts; False: behind what it was given.
        """
        return group_lag(self.history.collect(), group, self.now, committed=committed)

    def share_lag(self, group: str) -> ShareLag:
        """Where a share group's records are, over time, as far as its clients were told: ``.lag``, ``.acquired``, ``.archived``."""
        return share_lag(self.history.collect(), group, self.now)

    def why(self, *_: object, **__: object) -> NoReturn:
        """Raises Unsupported: a client sees states, not what they follow from."""
        raise Unsupported("why: a client of a real cluster sees its state, not what the controller had in hand")

    def fingerprint(self) -> NoReturn:
        """Raises Unsupported: no run of a real cluster repeats."""
        raise Unsupported("fingerprint: a real cluster does not run under a seed")

    def name(self, label: str) -> str:
        """A topic or group name of this handle alone, so that tests can share one cluster."""
        return f"{label}-{self._token}"

    # --- topics and records ---------------------------------------------------------------------

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication_factor: int | None = None,
        config: Mapping[str, object] | None = None,
    ) -> None:
        """Create a topic and wait until every broker knows its leaders; by default three replicas, or one a broker."""
        factor = replication_factor or min(3, len(self._broker_addresses()))
        texts = {key: str(value) for key, value in (config or {}).items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=factor, config=texts)
        self._admin().create_topics([new])[name].result()
        self._topics.append(name)
        self.run_until(lambda: self._is_known_everywhere(name, partitions), timeout=30.0)

    def describe_topic(self, name: str) -> list[PartitionDescription]:
        """The topic's partitions in order."""
        if self._options:
            return self._describe_topic_by_client(name)
        addresses = self._broker_addresses()
        described = self._first_answer(lambda address: wire.describe_topic(address, name) or None, addresses)
        if described is None:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return [self._with_offsets(name, partition, addresses) for partition in described]

    def produce(
        self,
        topic: str,
        values: Iterable[bytes | str | None],
        keys: Iterable[bytes | str | None] | None = None,
    ) -> list[tuple[int, int]]:
        """Write records with ``acks=all`` and wait for all of them; returns each one's partition and offset."""
        if self._shared_producer is None:
            self._shared_producer = self.producer({"acks": "all", "client.id": "kafkasim-produce"})
        producer = self._shared_producer
        outcomes: dict[int, tuple[KafkaError | None, Message]] = {}
        listed = list(values)
        listed_keys = [None] * len(listed) if keys is None else list(keys)

        def note(index: int) -> Callable[[KafkaError | None, Message], None]:
            return lambda error, message: outcomes.update({index: (error, message)})

        for index, (key, value) in enumerate(zip(listed_keys, listed, strict=True)):
            producer.produce(
                topic,
                value,
                key,
                on_delivery=note(index),
            )
            producer.poll(0)
        producer.flush()
        written: list[tuple[int, int]] = []
        for index in range(len(listed)):
            error, message = outcomes[index]
            if error is not None:
                raise KafkaException(error)
            place = (int(message.partition() or 0), int(message.offset() or 0))
            written.append(place)
        return written

    def records(self, topic: str, timeout: float = 30.0) -> list[StoredRecord]:
        """What the log holds below the high watermark, partition by partition."""
        return read_records(self._base_config(), topic, timeout=timeout)

    def wait_for_coordinators(self, timeout: float = 60.0) -> None:
        """Wait until groups have their internal topic; a new cluster makes it at the first request for one.

        A hundred names reach nearly every one of its fifty partitions.
        """

        def answer() -> bool:
            asked = self._admin().describe_consumer_groups([f"kafkasim-probe-{n}" for n in range(100)])
            return all(future.exception(timeout) is None for future in asked.values())

        self.run_until(answer, timeout)

    # --- groups ---------------------------------------------------------------------------------

    def describe_group(self, group_id: str) -> GroupDescription:
        """The group as its coordinator describes it."""
        found = self._admin().describe_consumer_groups([group_id])[group_id].result()
        members = [
            MemberDescription(
                member_id=member.member_id,
                client_id=member.client_id,
                group_instance_id=member.group_instance_id,
                assignment=sorted((str(each.topic), each.partition) for each in member.assignment.topic_partitions),
            )
            for member in found.members
        ]
        return GroupDescription(
            group_id=found.group_id,
            state=found.state.name.title().replace("_", ""),
            type=found.type.name.title(),
            partition_assignor=found.partition_assignor,
            coordinator=found.coordinator.id if found.coordinator else -1,
            members=members,
        )

    def wait_for_assignment(self, group_id: str, members: int, timeout: float = 30.0) -> None:
        """Wait until the group is stable with that many members and its partitions are given out."""

        def is_assigned() -> bool:
            group = self.describe_group(group_id)
            return (
                group.state == "Stable"
                and len(group.members) == members
                and (members == 0 or any(member.assignment for member in group.members))
            )

        self.run_until(is_assigned, timeout)

    # --- clients --------------------------------------------------------------------------------

    def producer(self, config: Mapping[str, Any] | None = None, /, **keywords: Any) -> Producer:
        """A producer on this cluster; keywords as in `client_config`."""
        merged = {**self._base_config(), **dict(config or {}), **client_config(keywords)}
        producer: Producer = self._client.Producer(merged)
        return producer

    def consumer(
        self,
        group_id: str,
        topics: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        /,
        **keywords: Any,
    ) -> Consumer:
        """A consumer of the group, subscribed where topics are named; it is closed with the handle."""
        if not isinstance(group_id, str):
            raise TypeError(
                f"the first argument of consumer() is the group's name, not {group_id!r}; properties come third or as keywords"
            )
        merged = {
            **self._base_config(),
            "group.id": group_id,
            **dict(config or {}),
            **client_config(keywords),
        }
        consumer: Consumer = self._client.Consumer(merged)
        self._clients.append(consumer)
        if topics:
            consumer.subscribe(list(topics))
        return consumer

    def admin(self, config: Mapping[str, Any] | None = None, /, **keywords: Any) -> AdminClient:
        """An admin client on this cluster."""
        made = type("AdminClient", (RecordingAdmin,), {"history": self.history})
        admin: AdminClient = made({**self._base_config(), **dict(config or {}), **client_config(keywords)})
        return admin

    # --- brokers --------------------------------------------------------------------------------

    def broker(self, broker_id: int) -> BrokerGroup:
        """One broker, to be harmed and healed."""
        brokers = self._own_brokers()
        if broker_id not in brokers:
            raise KeyError(f"no broker {broker_id}: this cluster has {list(brokers)}")
        return BrokerGroup([brokers[broker_id]])

    def zone(self, rack: str) -> BrokerGroup:
        """All brokers of a rack."""
        chosen = [broker for broker in self._own_brokers().values() if broker.rack == rack]
        if not chosen:
            raise KeyError(f"no broker in rack {rack!r}")
        return BrokerGroup(chosen)

    # --- time and tasks -------------------------------------------------------------------------

    def spawn(
        self,
        function: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        process: bool = False,
    ) -> Task:
        """Run user code beside the test: in a thread, or in a process where it has to be killed or paused."""
        if process:
            self._history.before_fork()
        make = ProcessTask if process else ThreadTask
        task: Task = make(function, args, name or str(getattr(function, "__name__", "task")))
        self._tasks.append(task)
        return task

    def at(self, when: float, function: Callable[..., Any], *args: Any) -> None:
        """Call a function when `now` reaches a time; what it raises is raised by the next `run_for` or `run_until`."""

        def call() -> None:
            try:
                function(*args)
            except BaseException as error:
                self._timer_errors.append(error)

        timer = threading.Timer(max(0.0, when - self.now), call)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def run_for(self, seconds: float) -> None:
        """Let real time pass."""
        time.sleep(seconds)
        self._raise_timer_error()

    def run_until(self, predicate: Callable[[], Any], timeout: float = 60.0) -> None:
        """Wait until the predicate is true; TimeoutError where it does not come true."""
        deadline = time.monotonic() + timeout
        while not predicate():
            self._raise_timer_error()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the awaited condition did not come true in {timeout} s")
            time.sleep(0.02)
        self._raise_timer_error()

    def check(self) -> Report:
        """Hold the history, and the logs as they are now, against what Kafka promises for the settings in use."""
        events = self.history.events
        touched = sorted({event.tp.topic for event in events if isinstance(event, Acked | Delivered | ShareDelivered)})
        described: dict[str, list[PartitionDescription]] = {}
        for topic in touched:
            # A topic that is gone took its records with it, as it was asked to.
            with contextlib.suppress(KafkaException):
                described[topic] = self.describe_topic(topic)
        logs = log_views(self._base_config(), self._admin(), described)
        report = check_history(events, logs, BY_CONTENT, self._guarantees)
        for task in self._tasks:
            if task.exception is not None and not task.looked_at:
                report.add("task-failed", ended_with(task.name, task.exception))
        return report

    # --- inside ---------------------------------------------------------------------------------

    def guarantee(self, group: str | None = None, *, topics: str | Sequence[str] = (), **promises: Any) -> Guarantee:
        """Promise something that ``check`` then holds the history against: ``guarantee("billing", at_least_once=True)``.

        See `Guarantee` for what can be promised. Raises ConfigurationError for what cannot.
        """
        promised = Guarantee.of(group, topics, promises)
        self._guarantees.append(promised)
        return promised

    def save_history(self, path: str | Path) -> None:
        """Write the history as lines of JSON, which ``kafkasim.check.history_lines`` reads; the file is whole or absent."""
        write_whole(Path(path), "".join(f"{line}\n" for line in history_lines(self.history.collect())))

    def _base_config(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.bootstrap_servers, **self._options}

    def _admin(self) -> AdminClient:
        if self._shared_admin is None:
            # A client that uses no topic asks for brokers every five minutes, and would go on waiting for one that crashed.
            self._shared_admin = AdminClient({"topic.metadata.refresh.interval.ms": 10_000, **self._base_config()})
        return self._shared_admin

    def _own_brokers(self) -> dict[int, LocalBroker]:
        if self._local is None:
            raise Unsupported(f"the brokers of {self.bootstrap_servers} are not ours to start, stop or harm")
        return self._local.brokers

    def _broker_addresses(self) -> dict[int, wire.Address]:
        """Addresses of the brokers that are up, by id, the longest-running first."""
        if self._local is not None:
            running = [b for b in self._local.answering() if b.state == "running"]
            return {broker.node_id: ("127.0.0.1", broker.port) for broker in running}
        if not self._addresses:
            for broker in self._admin().list_topics(timeout=30.0).brokers.values():
                self._addresses[broker.id] = (str(broker.host), broker.port)
        return self._addresses

    def _is_known_everywhere(self, topic: str, partitions: int) -> bool:
        if self._options:
            known = self._admin().list_topics(timeout=30.0).topics.get(topic)
            return known is not None and len(known.partitions) == partitions
        for address in self._broker_addresses().values():
            try:
                described = wire.describe_topic(address, topic)
            except OSError:
                return False
            if len(described) != partitions or any(each.leader < 0 for each in described):
                return False
        return True

    def _with_offsets(
        self, topic: str, described: wire.WirePartition, addresses: Mapping[int, wire.Address]
    ) -> PartitionDescription:
        wanted = [described.partition]

        def read(timestamp: int, replica_id: int = wire.CONSUMER_REPLICA_ID) -> int | None:
            if described.leader not in addresses:
                return None
            with contextlib.suppress(OSError):
                leader = addresses[described.leader]
                found = wire.list_offsets(leader, topic, wanted, timestamp, replica_id)
                return found[described.partition]
            return None

        return PartitionDescription(
            partition=described.partition,
            leader=described.leader,
            leader_epoch=described.leader_epoch,
            replicas=described.replicas,
            isr=described.isr,
            elr=described.elr,
            last_known_elr=described.last_known_elr,
            high_watermark=read(wire.LATEST_TIMESTAMP),
            log_start_offset=read(wire.EARLIEST_TIMESTAMP),
            log_end_offset=read(wire.LATEST_TIMESTAMP, wire.DEBUGGING_REPLICA_ID),
        )

    def _describe_topic_by_client(self, name: str) -> list[PartitionDescription]:
        """The same through the client library, which shows less: for clusters with TLS or SASL."""
        found = self._admin().list_topics(name, timeout=30.0).topics[name]
        if found.error is not None:
            raise KafkaException(found.error)
        described: list[PartitionDescription] = []
        for partition in sorted(found.partitions):
            each = found.partitions[partition]
            place = TopicPartition(name, partition)
            described.append(
                PartitionDescription(
                    partition=partition,
                    leader=each.leader,
                    leader_epoch=None,
                    replicas=list(each.replicas),
                    isr=list(each.isrs),
                    elr=None,
                    last_known_elr=None,
                    high_watermark=self._offset(place, _LATEST),
                    log_start_offset=self._offset(place, _EARLIEST),
                    log_end_offset=None,
                )
            )
        return described

    def _offset(self, place: TopicPartition, which: OffsetSpec) -> int:
        level = IsolationLevel.READ_UNCOMMITTED
        found = self._admin().list_offsets({place: which}, isolation_level=level)[place].result()
        return int(found.offset)

    def _first_answer(self, ask: Callable[[wire.Address], Any], addresses: Mapping[int, wire.Address]) -> Any:
        for address in addresses.values():
            with contextlib.suppress(OSError):
                answer = ask(address)
                if answer is not None:
                    return answer
        return None

    def _end_task(self, task: Task) -> None:
        if task.done:
            return
        if isinstance(task, ProcessTask):
            task.kill()
        else:
            task.stop()
            with contextlib.suppress(BaseException):
                task.result(timeout=3.0)

    def _raise_timer_error(self) -> None:
        if self._timer_errors:
            raise self._timer_errors.pop(0)
