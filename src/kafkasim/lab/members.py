"""The members of a group: tasks that take what a consumer holds, work on it for a while, and commit.

Rule 1:   modelled members work on slices of columns; only a group with a handler makes Message objects.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any

from kafkasim.core.client.items import ASSIGN, CommitDone, ConsumerError, Rebalance, Slice
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.errors import ConfigurationError
from kafkasim.lab.design import GroupDesign, Processing
from kafkasim.lab.measure import GroupMeasure
from kafkasim.lab.process import Process, stamps_of
from kafkasim.sim.drive import ClientShell

_OFFSET_INVALID = -1001
_DEAD_LETTER_HEADER = "dead-letter-group"


class Clockwork:
    """When each record of a batch is done."""

    def __init__(self, processing: Processing, rng: Random) -> None:
        self._batch_us = processing.per_batch_us
        self._record_us = processing.per_record_us
        self._rng = rng
        self._distribution = processing.distribution
        if processing.distribution == "lognormal":
            self._mu, self._sigma = lognormal_of(processing.per_record_us, processing.p99_us)

    def done_us(self, start_us: int, count: int) -> Sequence[int] | int:
        """The time at which each of ``count`` records is done, or one time for all of them."""
        first_us = start_us + self._batch_us
        mean_us = self._record_us
        if mean_us == 0:
            return first_us
        if self._distribution == "constant":
            if mean_us == int(mean_us):
                step_us = int(mean_us)
                return range(first_us + step_us, first_us + step_us * count + 1, step_us)
            return [first_us + int(mean_us * (index + 1)) for index in range(count)]
        return [first_us + int(spent_us) for spent_us in accumulate(self._draws(count))]

    def _draws(self, count: int) -> list[float]:
        rng, mean_us = self._rng, self._record_us
        if self._distribution == "uniform":
            random = rng.random
            return [2 * mean_us * random() for _ in range(count)]
        if self._distribution == "exponential":
            random = rng.random
            return [-mean_us * log(1.0 - random()) for _ in range(count)]
        gauss, mu, sigma = rng.gauss, self._mu, self._sigma
        return [exp(gauss(mu, sigma)) for _ in range(count)]


def lognormal_of(mean: float, p99: float) -> tuple[float, float]:
    """mu and sigma of the lognormal distribution with this mean and 99th percentile (the less skewed one)."""
    z = NormalDist().inv_cdf(0.99)
    # mean = exp(mu + s**2 / 2) and p99 = exp(mu + z * s), so s**2 / 2 - z * s + log(p99 / mean) = 0.
    ratio = log(p99 / mean)
    sigma = z - sqrt(max(0.0, z * z - 2 * ratio))
    return log(mean) - sigma * sigma / 2, sigma


class Member(Process):
    """One member of a consumer group."""

    def __init__(self, group: Group, number: int) -> None:
        super().__init__(group, f"{group.design.name}-{number + 1}")
        self.group: Group = group
        ids = group.design.instance_ids
        self.instance_id = ids[number] if ids else None

    @property
    def is_assigned(self) -> bool:
        return self._shell is not None and bool(self._shell.engine.assignment())

    def body(self) -> Callable[[], None]:
        return self._run if self.group.handler is None else self._run_handler

    # --- a modelled member -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        cluster, design = self.group.cluster, self.group.design
        shell = self._shell = cluster.open_client("consumer", self.config, name=self.name, host=self.host)
        engine = shell.engine
        letters = None if design.dead_letter_topic is None else DeadLetters(self, design.dead_letter_topic)
        shell.call(engine.subscribe, list(design.topics))
        try:
            while True:
                slices = self._take(shell, design.batch)
                if slices:
                    self._work(shell, slices, letters)
        finally:
            if self.host.alive and not cluster.scheduler.closing:
                self._close(shell)

    @property
    def config(self) -> ClientConfig:
        """What its consumer is made with, defaults included."""
        return ClientConfig.parse("consumer", self._config())

    def _config(self) -> dict[str, Any]:
        design = self.group.design
        config = {
            "bootstrap.servers": self.group.cluster.bootstrap_servers,
            "client.id": self.name,
            "group.id": design.name,
            "enable.auto.commit": "true" if design.commit == "auto" else "false",
            **design.consumer_config,
        }
        if self.instance_id is not None:
            config["group.instance.id"] = self.instance_id
        return config

    def _take(self, shell: ClientShell, count: int) -> list[Slice]:
        """What the consumer holds, at most ``count`` records; waits where it holds nothing (as consume() does), until some come."""
        engine = shell.engine
        if not engine.has_items():
            shell.call(engine.begin_poll)
            shell.wait(engine.has_items, None)
            shell.call(engine.end_poll)
            engine.take_events()
        slices: list[Slice] = []
        wait_us = self.group.design.batch_wait_us
        deadline_us = shell.now_us + wait_us
        while True:
            for item in shell.call(engine.take, count):
                if type(item) is Slice:
                    slices.append(item)
                    count -= item.stop - item.start
                else:
                    self._serve(shell, item)
            left_us = deadline_us - shell.now_us
            if count <= 0 or not slices or left_us <= 0 or not shell.wait(engine.has_items, left_us):
                return slices

    def _serve(self, shell: ClientShell, item: Rebalance | CommitDone | ConsumerError) -> None:
        engine, measure = shell.engine, self.group.measure
        if isinstance(item, Rebalance):
            starts = [(tp, _OFFSET_INVALID) for tp in item.partitions]
            if item.kind == ASSIGN:
                measure.rebalances += 1
                shell.call(engine.incremental_assign if item.protocol == "COOPERATIVE" else engine.assign, starts)
            elif item.protocol == "COOPERATIVE":
                shell.call(engine.incremental_unassign, list(item.partitions))
            else:
                shell.call(engine.unassign)
        elif isinstance(item, CommitDone):
            self._count_commit(item.error)
        else:
            measure.on_error(ErrorCode(item.code).name)

    def _work(self, shell: ClientShell, slices: list[Slice], letters: DeadLetters | None) -> None:
        group = self.group
        if group.design.commit == "before":
            self._commit(shell)
        stamps = stamps_of(slices)
        done_us = self._spend(shell, slices, group.clockwork.done_us(shell.now_us, len(stamps)))
        if letters is not None:
            letters.send(slices)
        group.measure.on_done(slices, shell.now_us)
        group.measure.on_latencies(stamps, done_us)
        if group.design.commit == "after":
            self._commit(shell)

    def _commit(self, shell: ClientShell) -> None:
        """commit(asynchronous=False): what was taken counts as done."""
        operation = shell.call(shell.engine.commit, None)
        if not operation.done:
            shell.wait(lambda: operation.done, None)
        self._count_commit(operation.error)

    def _count_commit(self, error: ErrorCode) -> None:
        measure = self.group.measure
        if error is ErrorCode.NONE:
            measure.commits += 1
        elif error is not ErrorCode._NO_OFFSET:
            measure.failed_commits += 1
            measure.on_error(f"commit: {error.name}")

    def _close(self, shell: ClientShell) -> None:
        engine = shell.engine
        operation = shell.call(engine.close_begin)
        while not operation.done:
            for item in shell.call(engine.take, 1_000_000):
                if type(item) is not Slice:
                    self._serve(shell, item)
            if not operation.done:
                shell.wait(lambda: operation.done or engine.has_items(), 30_000_000)
        shell.call(engine.close)
        shell.close()

    # --- a member with a handler -----------------------------------------------------------------------------------

    def _run_handler(self) -> None:
        """The user's function for each message, in the loop that consumers usually have."""
        from kafkasim.confluent_kafka import Consumer

        design, handler = self.group.design, self.group.handler
        assert handler is not None
        consumer = Consumer(self._config())
        self._shell = consumer._shell
        consumer.subscribe(list(design.topics))
        letters = None if design.dead_letter_topic is None else DeadLetters(self, design.dead_letter_topic)
        try:
            while True:
                messages = [message for message in consumer.consume(design.batch, 1.0) if self._is_record(message)]
                if not messages:
                    continue
                if design.commit == "before":
                    self._commit_facade(consumer)
                for message in messages:
                    self._handle(handler, message, letters)
                if design.commit == "after":
                    self._commit_facade(consumer)
        finally:
            if self.host.alive and not self.group.cluster.scheduler.closing:
                consumer.close()

    def _is_record(self, message: Any) -> bool:
        if message.error() is None:
            return True
        self.group.measure.on_error(str(message.error().name()))
        return False

    def _handle(self, handler: Callable[[Any], Any], message: Any, letters: DeadLetters | None) -> None:
        source, index = message._key, message._offset
        scheduler, measure = self.group.cluster.scheduler, self.group.measure
        part = Slice(partition_of(source), source.batch, index, index + 1)
        start_us = self.group.cluster.now_us
        done_us = self.group.clockwork.done_us(start_us, 1)
        last_us = done_us if isinstance(done_us, int) else done_us[-1]
        if last_us > start_us:
            scheduler.sleep_us(last_us - start_us)
        try:
            handler(message)
        except Exception as problem:
            if letters is None:
                raise
            measure.on_error(type(problem).__name__)
            letters.send_all([part])
        now_us = self.group.cluster.now_us
        measure.on_done([part], now_us)
        measure.on_latencies(stamps_of([part]), now_us)

    def _commit_facade(self, consumer: Any) -> None:
        from kafkasim.confluent_kafka import KafkaException

        try:
            consumer.commit(asynchronous=False)
            self._count_commit(ErrorCode.NONE)
        except KafkaException as problem:
            self._count_commit(ErrorCode(problem.args[0].code()))


class DeadLetters:
    """Malformed records go to another topic, and have arrived there before the offset is committed (or the record rejected)."""

    def __init__(self, member: Process, topic: str) -> None:
        group = member.group
        self._topic = topic
        self._group = group
        name = f"{member.name}-dead-letters"
        config = ClientConfig.parse(
            "producer",
            {
                "bootstrap.servers": group.cluster.bootstrap_servers,
                "client.id": name,
                "enable.idempotence": "true",
            },
        )
        self._shell: ClientShell = group.cluster.open_client("producer", config, name=name, host=member.host)
        self._headers = ((_DEAD_LETTER_HEADER, group.design.name.encode()),)

    def send(self, slices: list[Slice]) -> None:
        """Those records of ``slices`` that are malformed."""
        malformed = self._group.malformed
        chosen = []
        for part in slices:
            values = part.batch.columns.values
            chosen += [
                Slice(part.tp, part.batch, index, index + 1)
                for index in range(part.start, part.stop)
                if values[index] in malformed
            ]
        if chosen:
            self.send_all(chosen)

    def send_all(self, slices: list[Slice]) -> None:
        shell, measure = self._shell, self._group.measure
        engine = shell.engine
        for part in slices:
            columns, index = part.batch.columns, part.start
            headers = (columns.headers[index] if columns.headers is not None else None) or ()
            engine.produce(
                self._topic,
                columns.values[index],
                columns.keys[index],
                -1,
                0,
                headers + self._headers,
                None,
                shell.now_us,
            )
        shell.call(engine.begin_flush)
        shell.wait(lambda: self._all_reported(engine), None)
        engine.end_flush()
        measure.dead_lettered += len(slices)

    def _all_reported(self, engine: Any) -> bool:
        for report in engine.take_reports(0):
            if report.error is not ErrorCode.NONE:
                self._group.measure.on_error(f"dead letter: {report.error.name}")
        return int(engine.message_count) == 0


class Group:
    """All members of one group, and what they measure."""

    def __init__(self, cluster: Any, design: GroupDesign, malformed: frozenset[bytes], folder: Path) -> None:
        self.cluster = cluster
        self.design = design
        self.malformed = malformed
        self.measure = GroupMeasure(design.name)
        self.clockwork = Clockwork(design.processing, cluster.choices.random_for(f"lab.group.{design.name}"))
        self.handler = None if design.handler is None else load_handler(design.handler, folder)
        self.members = [Member(self, number) for number in range(design.members)]
        self._partition_count = 0

    def start(self, partitions: Sequence[TopicPartition]) -> None:
        self._partition_count = len(partitions)
        for member in self.members:
            member.start()

    @property
    def is_settled(self) -> bool:
        """Has every member its partitions, as far as there are enough of them?"""
        assigned = sum(member.is_assigned for member in self.members)
        return assigned >= min(len(self.members), self._partition_count)


def load_handler(reference: str, folder: Path) -> Callable[[Any], Any]:
    """The function that "module:function" means; modules beside the design are found."""
    module_name, _, function_name = reference.partition(":")
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(module_name)
    except ImportError as problem:
        raise ConfigurationError(f"handler {reference!r}: {problem}") from None
    finally:
        sys.path.remove(str(folder))
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigurationError(f"handler {reference!r}: module {module_name!r} has no function {function_name!r}")
    found: Callable[[Any], Any] = function
    return found


def partition_of(source: Any) -> TopicPartition:
    return TopicPartition(source.topic, source.partition)
