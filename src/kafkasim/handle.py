"""The cluster handle: a simulated cluster with the client facade, ``install`` and ``check``.

Rule 1:   names and meanings are those of ``kafkasim.connect``'s real backends, so that one test body runs on both.
Rule 2:   views and oracles are imported when somebody looks: together they are a sixth of what a first cluster would wait for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kafkasim.confluent_kafka.install import INSTALLATION
from kafkasim.core.group.partitioning import coordinator_partition
from kafkasim.core.model.ids import TopicPartition
from kafkasim.errors import ConfigurationError
from kafkasim.sim import runtime
from kafkasim.sim.cluster import SimulatedCluster
from kafkasim.sim.files import write_whole
from kafkasim.sim.hosts import Host
from kafkasim.sim.tasks import Task
from kafkasim.watch import Watch

if TYPE_CHECKING:
    from kafkasim.check.budget import Budget
    from kafkasim.check.guarantees import Guarantee
    from kafkasim.check.log_oracles import LogView
    from kafkasim.check.report import Report
    from kafkasim.confluent_kafka import Consumer, KafkaError, Message, Producer
    from kafkasim.core.model.views import StoredRecord
    from kafkasim.views.chain import Explanation
    from kafkasim.views.clients import Clients
    from kafkasim.views.facts import Facts
    from kafkasim.views.lag import GroupLag
    from kafkasim.views.ledger import Ledger
    from kafkasim.views.metrics import Metrics
    from kafkasim.views.record_life import LogNow
    from kafkasim.views.share_lag import ShareLag


class Cluster(SimulatedCluster):
    """A replicated Kafka in virtual time, under one seed.

    Args:
        brokers: how many; their ids are 1, 2, ...
        controllers: None: every broker is also a voter of the controller quorum. A list of broker ids: those are. An int: that
            many dedicated controllers besides the brokers.
        seed: decides everything that is left to chance.
        racks: one name for each broker.
        config: broker configs (server.properties) by Kafka's names.
        features: protections to take away, by name: ``{"epoch_truncation": False}`` brings back the bug that KIP-101 mended
            (docs/fidelity.md lists them).

    Use it in a ``with`` statement; at its end tasks, clients and brokers are gone. Blocking calls of tasks, and of plain code outside
    them, let virtual time pass. Raises ``ConfigurationError`` for what cannot be.
    """

    def __init__(self, brokers: int = 3, **options: Any) -> None:
        super().__init__(brokers, **options)
        self.scheduler.on_first_task.append(self._install_for_tasks)
        self.scheduler.on_last_task.append(self._uninstall_after_tasks)
        self._installed_for_tasks = False
        self._clients_to_close: list[Any] = []
        self._hosts: list[Host] = []
        self._guarantees: list[Guarantee] = []
        #: What oracles besides ``watch`` have to say, which ``check`` tells too.
        self.watched: list[Report] = []
        #: The oracles that see what servers do.
        self.watch = Watch(self) if self.records_history else None
        self._shared_producer: Producer | None = None
        self._facts: Facts | None = None
        self._ledger: Ledger | None = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every task, client and broker; everything patched is as it was."""
        super().close()
        self._uninstall_after_tasks()
        # A killed task's frames stay for ever (sim.tasks): they shall not keep this cluster.
        for host in self._hosts:
            host.respawn = None

    def forget(self) -> None:
        """Close it, and keep nothing of what happened: for those who run many and have seen what they wanted.

        What a killed task referred to is never freed (its frames must not be unwound), and so, often, its cluster; this makes it small.
        """
        self.close()
        self.history.clear()
        self.watched.clear()
        self.client_lives.clear()
        self.watch = self._facts = self._ledger = None
        self._shared_producer = self._admin_shell = None

    def name(self, label: str) -> str:
        """A topic or group name for this test; on a simulated cluster, which nobody shares, the label itself."""
        return label

    # --- user code -------------------------------------------------------------------------------------------------

    def spawn(
        self,
        function: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        host: Host | None = None,
        process: bool = False,
        **keywords: Any,
    ) -> Task:
        """Run blocking user code as a task in virtual time, on a host of its own unless ``host`` is given.

        While any task is there, ``confluent_kafka``, the clock, ``random`` and ``uuid4`` are this cluster's inside it.
        ``process`` is for real clusters; here every task can be killed.
        """
        if host is not None:
            return self.scheduler.spawn(function, *args, name=name, host=host, **keywords)
        host = Host(name or str(getattr(function, "__name__", "task")))
        self._hosts.append(host)
        host.respawn = lambda: self._respawn(function, args, keywords, name)
        host.owner = self.scheduler.spawn(function, *args, name=name, host=host, **keywords)
        return host.owner

    def _respawn(
        self, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any], name: str | None
    ) -> None:
        self.spawn(function, *args, name=name, **keywords)

    @contextlib.contextmanager
    def install(self, bootstrap: str | Sequence[str] | None = None) -> Iterator[Cluster]:
        """Let ``confluent_kafka``, the clock, ``random`` and ``uuid4`` be this cluster's until the end of the ``with`` statement.

        ``bootstrap`` limits it to some addresses; by default every ``bootstrap.servers`` reaches this cluster.
        """
        addresses = None
        if bootstrap is not None:
            listed = bootstrap.split(",") if isinstance(bootstrap, str) else bootstrap
            addresses = frozenset(address.strip() for address in listed)
        entry = runtime.Installed(self, addresses)
        INSTALLATION.install()
        runtime.installed(entry)
        try:
            with self.clock.install():
                yield self
        finally:
            runtime.uninstalled(entry)
            INSTALLATION.uninstall()

    def _install_for_tasks(self) -> None:
        if not self._installed_for_tasks:
            self._installed_for_tasks = True
            INSTALLATION.install()

    def _uninstall_after_tasks(self) -> None:
        if self._installed_for_tasks:
            self._installed_for_tasks = False
            INSTALLATION.uninstall()

    # --- clients ---------------------------------------------------------------------------------------------------

    def producer(self, config: Mapping[str, Any] | None = None, /, **keywords: Any) -> Producer:
        """A ``confluent_kafka.Producer`` on this cluster; ``linger_ms=5`` is ``"linger.ms": 5``."""
        from kafkasim.confluent_kafka import Producer

        return Producer(self._client_config(config, keywords))

    def consumer(
        self,
        group_id: str,
        topics: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        /,
        **keywords: Any,
    ) -> Consumer:
        """A ``confluent_kafka.Consumer`` of the group, subscribed where topics are named."""
        from kafkasim.confluent_kafka import Consumer

        if not isinstance(group_id, str):
            raise TypeError(
                f"the first argument of consumer() is the group's name, not {group_id!r}; properties come third or as keywords"
            )
        consumer = Consumer({"group.id": group_id, **self._client_config(config, keywords)})
        if topics:
            consumer.subscribe(list(topics))
        return consumer

    def admin(self, config: Mapping[str, Any] | None = None, /, **keywords: Any) -> Any:
        """A ``confluent_kafka.admin.AdminClient`` on this cluster (needs the extra ``confluent``)."""
        return import_module("kafkasim.confluent_kafka.admin").AdminClient(self._client_config(config, keywords))

    def _client_config(self, config: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
        dotted = {(name if "." in name else name.replace("_", ".")): value for name, value in keywords.items()}
        return {"bootstrap.servers": self.bootstrap_servers, **dict(config or {}), **dotted}

    # --- short tests -----------------------------------------------------------------------------------------------

    def produce(
        self,
        topic: str,
        values: Iterable[bytes | str | None],
        keys: Iterable[bytes | str | None] | None = None,
    ) -> list[tuple[int, int]]:
        """Write records with ``acks=all`` and wait for all of them; each one's partition and offset."""
        from kafkasim.confluent_kafka import KafkaException

        if self._shared_producer is None:
            self._shared_producer = self.producer({"acks": "all", "client.id": "kafkasim-produce"})
        producer = self._shared_producer
        if isinstance(values, str | bytes):
            raise ConfigurationError(f"produce({topic!r}, {values!r}): values are a list, as in [{values!r}]")
        listed = list(values)
        listed_keys = [None] * len(listed) if keys is None else list(keys)
        outcomes: dict[int, tuple[KafkaError | None, Message]] = {}

        def note(index: int) -> Callable[[KafkaError | None, Message], None]:
            return lambda error, message: outcomes.update({index: (error, message)})

        for index, (key, value) in enumerate(zip(listed_keys, listed, strict=True)):
            producer.produce(topic, value, key, on_delivery=note(index))
            producer.poll(0)
        producer.flush()
        written = []
        for index in range(len(listed)):
            error, message = outcomes[index]
            if error is not None:
                raise KafkaException(error)
            written.append((int(message.partition() or 0), int(message.offset() or 0)))
        return written

    def records(self, topic: str) -> list[StoredRecord]:
        """What the log holds below the high watermark, partition by partition."""
        from kafkasim.core.model.views import StoredRecord

        stored = []
        for number in range(len(self.describe_topic(topic))):
            start = self.describe_topic(topic)[number].log_start_offset or 0
            for batch in self.log(TopicPartition(topic, number)):
                if batch.is_control:
                    continue
                columns = batch.columns
                for index in range(batch.index_from(start), len(columns)):
                    headers = columns.headers[index] if columns.headers is not None else None
                    stored.append(
                        StoredRecord(
                            topic,
                            number,
                            batch.offset_at(index),
                            columns.keys[index],
                            columns.values[index],
                            batch.timestamp_ms_at(index),
                            batch.timestamp_type + 1,
                            list(headers or ()),
                        )
                    )
        return stored

    # --- watching --------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> Metrics:
        """Kafka's JMX metrics over virtual time: ``cluster.metrics["UnderReplicatedPartitions"].max()`` (docs/views.md)."""
        from kafkasim.views.ledger import Ledger
        from kafkasim.views.metrics import Metrics

        facts = self.facts("metrics")
        ledger = self._ledger
        if ledger is None:
            ledger = self._ledger = Ledger(self._processes[0].static_config)
        for committed in facts.committed[ledger.taken :]:
            ledger.take(committed)
        servers = [self._servers[node] for node in self.broker_ids()]
        meters = {server.id: server.meters for server in servers if server.meters is not None}
        return Metrics(facts, ledger, meters, self._processes[0].voters, self.now)

    def lag(self, group: str, *, committed: bool = True) -> GroupLag:
        """How far a group is behind, over time: ``lag("billing").total.max()``, ``lag("billing")["orders", 0].last``.

        ``committed``: behind what it has committed, as kafka-consumer-groups.sh counts; False: behind what it was given.
        """
        from kafkasim.views.lag import group_lag

        return group_lag(self.history, group, self.now, committed=committed)

    def share_lag(self, group: str) -> ShareLag:
        """Where a share group's records are, over time: ``.lag``, ``.acquired`` and ``.archived``, each as ``cluster.lag`` is.

        ``share_lag("ml-training").lag.total.max()``, ``share_lag("ml-training").archived["calls", 0].last``.
        """
        from kafkasim.views.share_lag import share_lag

        return share_lag(self.history, group, self.now)

    def why(
        self,
        topic: str | None = None,
        partition: int | None = None,
        at: float | None = None,
        *,
        record: str | bytes | tuple[str, int, int] | None = None,
        group: str | None = None,
    ) -> Explanation:
        """Why something is as it is: print it for the chain of causes, ``steps`` for the data.

        ``why("orders", 0)``: a partition's leader, ISR and ELR, now or ``at`` a virtual time.
        ``why(record="order-17")``, with ``group="billing"``: what became of a record (by value, key, or (topic, partition, offset)).
        ``why(group="billing")``: what keeps a group from getting on, now or ``at`` a virtual time.

        Raises KeyError for what there never was, ValueError for a time outside the run, TypeError for another combination.
        """
        from kafkasim.views.group_stall import coordinator_place, explain_group
        from kafkasim.views.record_life import explain_record
        from kafkasim.views.why import explain_partition

        facts = self.facts("why()")
        if at is not None and not 0 <= at <= self.now:
            raise ValueError(f"why(at={at}): the run goes from 0 to {self.now:.6f} virtual seconds")
        at_us = self.now_us if at is None else round(at * 1_000_000)
        config, events = self.static_config, self.history.events
        if topic is not None and partition is not None and record is None and group is None:
            voters = self._processes[0].voters
            return explain_partition(facts, config, TopicPartition(topic, partition), at_us, voters)
        if topic is None and partition is None and record is not None and at is None:
            wanted = record.encode() if isinstance(record, str) else record
            return explain_record(events, facts, config, wanted, group, self._log_now, self._known_clients(), at_us)
        if topic is None and partition is None and record is None and group is not None:
            place = coordinator_place(coordinator_partition(group, self._offsets_partitions()))
            return explain_group(events, facts, config, group, place, self._known_clients(), at_us)
        raise TypeError(
            "why() explains a partition: why(topic, partition, at=...), a record: why(record=..., group=...), "
            "or a group: why(group=..., at=...)"
        )

    def _log_now(self, tp: TopicPartition) -> LogNow:
        from kafkasim.views.record_life import LogNow

        view = self._log_views().get(tp)
        return LogNow((), 0, False) if view is None else LogNow(view.batches, view.start_offset, view.has_leader)

    def _known_clients(self) -> Clients:
        from kafkasim.views.clients import Clients

        lives = self.client_lives.items()
        return Clients(
            {name: life.host for name, life in lives if life.host is not None},
            {name: life.ended_us for name, life in lives if life.ended_us is not None},
        )

    def _offsets_partitions(self) -> int:
        return int(self.static_config.get("offsets.topic.num.partitions", 50))

    @property
    def static_config(self) -> dict[str, str]:
        """What the brokers were configured with, by Kafka's names."""
        return dict(self._processes[0].static_config)

    def facts(self, what: str = "facts()") -> Facts:
        """The history as views read it; ``what`` asks for it is named where nothing was recorded (ConfigurationError)."""
        if not self.records_history:
            raise ConfigurationError(
                f"cluster.{what}: this cluster was made with history=False, so nothing was recorded"
            )
        if self._facts is None:
            from kafkasim.views.facts import Facts

            self._facts = Facts(self.history.events)
        self._facts.refresh()
        return self._facts

    # --- judging ---------------------------------------------------------------------------------------------------

    def check(self) -> Report:
        """Hold the history of this run, and the logs as they are now, against what Kafka promises for the settings in use."""
        from kafkasim.check.log_oracles import budget_of
        from kafkasim.check.report import Report
        from kafkasim.check.run import check_history
        from kafkasim.sim.user_lines import ended_with

        report = Report()
        views, events = self._log_views(), self.history.events
        budget = budget_of(events, views)
        if self.watch is not None:
            report.take(self.watch.report(budget))
        for watched in self.watched:
            report.take(watched)
        report.take(check_history(events, views, guarantees=self._guarantees, budget=budget, now_us=self.now_us))
        for task in self.scheduler.failed:
            report.add("task-failed", ended_with(task.name, task.exception), at_us=task.ended_us)
        report.sort()
        return report

    def budget(self) -> Budget:
        """Where more was harmed than must survive, and which losses that excuses: ``cluster.budget().overruns``."""
        from kafkasim.check.log_oracles import budget_of

        return budget_of(self.history.events, self._log_views())

    def guarantee(self, group: str | None = None, *, topics: str | Sequence[str] = (), **promises: Any) -> Guarantee:
        """Promise something that ``check`` then holds the history against: ``guarantee("billing", at_least_once=True)``.

        See `Guarantee` for what can be promised. Raises ConfigurationError for what cannot.
        """
        from kafkasim.check.guarantees import Guarantee

        promised = Guarantee.of(group, topics, promises)
        self._guarantees.append(promised)
        return promised

    def save_history(self, path: str | Path) -> None:
        """Write the history as lines of JSON, which ``kafkasim.check.history_lines`` reads; the file is whole or absent."""
        from kafkasim.check.history_lines import history_lines

        write_whole(Path(path), "".join(f"{line}\n" for line in history_lines(self.history)))

    def _log_views(self) -> dict[TopicPartition, LogView]:
        from kafkasim.check.log_oracles import LogView

        image = self._controller_image()
        views = {}
        for topic in image.topics.values() if image is not None else ():
            is_compacted = "compact" in image.topic_config(topic.name, "cleanup.policy")
            min_isr = image.topic_int(topic.name, "min.insync.replicas")
            is_unclean = image.topic_bool(topic.name, "unclean.leader.election.enable")
            for state in topic.partitions:
                batches = self.log(state.tp)
                replica = self._leader_replica(state)
                start = 0 if replica is None else replica.log_start
                views[state.tp] = LogView(
                    batches,
                    start,
                    min_isr,
                    len(state.replicas),
                    is_compacted,
                    replica is not None and self._serves(state.leader),
                    is_unclean,
                    self.log(state.tp, committed=False),
                    delete_retention_ms=image.topic_int(topic.name, "delete.retention.ms"),
                )
        return views
