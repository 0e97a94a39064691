"""The members of a share group: tasks that take one fetch at a time, work on it, and acknowledge record by record.

Rule 1:   as of consumer groups: modelled members work on slices of columns, only a handler makes Message objects.
Rule 2:   implicitly, everything is accepted by the next poll, after the work; explicitly, each record gets its own word.
Rule 3:   poison is a malformed record, or one on which the handler raises: it is worked on like any other, given back so many times
          (or until the group's limit archives it), or refused; a dead-letter topic gets it before it is refused for good.
Rule 4:   a group's lag is what its share partitions have left, as their leaders count; of those without a leader what was last known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from kafkasim.core.client.items import ConsumerError, Slice
from kafkasim.core.client.share_acks import ShareRun
from kafkasim.core.model.admin_messages import (
    GROUP_RESOURCE,
    AlterConfigsResponse,
    ConfigAlteration,
    ConfigResource,
    IncrementalAlterConfigsRequest,
)
from kafkasim.core.model.client_config import SHARE_CONSUMER, ClientConfig
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    GAP,
    LOCK_TIMED_OUT,
    SHARE_ARCHIVED,
    SHARE_CHANGED,
    Happened,
    HistoryEvent,
    ShareAcknowledged,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.share_messages import ACK_ACCEPT, ACK_REJECT, ACK_RELEASE
from kafkasim.core.share.partition import ACTIVE, SharePartition
from kafkasim.errors import ConfigurationError
from kafkasim.lab.design import ShareGroupDesign
from kafkasim.lab.measure import GroupMeasure
from kafkasim.lab.members import Clockwork, DeadLetters, load_handler, partition_of
from kafkasim.lab.process import Process, stamps_of
from kafkasim.lab.result import ShareResult
from kafkasim.sim.drive import ClientShell

_SET = 0
#: Well within max.poll.interval.ms, and long enough to cost nothing.
_LONGEST_POLL_US = 60_000_000
_COMMIT_TIMEOUT_US = 60_000_000
_NO_LIMIT = 1 << 30


@attrs.define(slots=True, eq=False)
class ShareMeasure(GroupMeasure):
    """``look_up()``: the share partitions of the group at their leaders."""

    look_up: Callable[[], Iterable[tuple[TopicPartition, SharePartition]]] = tuple
    redelivered: int = 0
    released: int = 0
    rejected: int = 0

    def on_done(self, slices: Iterable[Slice], now_us: int) -> None:
        """As of every group; how far it is, it hears from the leaders (``look``)."""
        ends = dict(self.ends)
        GroupMeasure.on_done(self, slices, now_us)
        self.ends = ends

    def look(self) -> None:
        """How many offsets are over, as the leaders count."""
        for tp, found in self.look_up():
            self.ends[tp] = found.start_offset + found.delivery_complete_count


class ShareMember(Process):
    """One member of a share group."""

    def __init__(self, group: ShareGroup, number: int) -> None:
        super().__init__(group, f"{group.design.name}-{number + 1}")
        self.group: ShareGroup = group

    def body(self) -> Callable[[], None]:
        return self._run if self.group.handler is None else self._run_handler

    @property
    def config(self) -> ClientConfig:
        """What its consumer is made with, defaults included."""
        return ClientConfig.parse(SHARE_CONSUMER, self._config())

    def _config(self) -> dict[str, Any]:
        design = self.group.design
        return {
            "bootstrap.servers": self.group.cluster.bootstrap_servers,
            "client.id": self.name,
            "group.id": design.name,
            "share.acknowledgement.mode": design.acknowledgement_mode,
            "max.poll.records": design.batch,
            **design.consumer_config,
        }

    def _letters(self) -> DeadLetters | None:
        topic = self.group.design.dead_letter_topic
        return None if topic is None else DeadLetters(self, topic)

    # --- a modelled member -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        cluster = self.group.cluster
        shell = self._shell = cluster.open_client(SHARE_CONSUMER, self.config, name=self.name, host=self.host)
        letters = self._letters()
        shell.call(shell.engine.subscribe, list(self.group.design.topics))
        patience_us = min(_LONGEST_POLL_US, self.config.ms("max.poll.interval.ms") * 500)
        try:
            while True:
                runs = self._poll(shell, patience_us)
                if runs:
                    self._work(shell, runs, letters)
        finally:
            if self.host.alive and not cluster.scheduler.closing:
                operation = shell.call(shell.engine.close_begin)
                shell.wait(lambda: operation.done, None)
                shell.call(shell.engine.close)
                shell.close()

    def _poll(self, shell: ClientShell, patience_us: int) -> list[ShareRun]:
        engine = shell.engine
        error, text = shell.call(engine.poll)
        assert error is ErrorCode.NONE, text
        shell.wait(engine.has_items, patience_us)
        taken = shell.call(engine.take)
        if isinstance(taken, ConsumerError):
            self.group.measure.on_error(ErrorCode(taken.code).name)
            return []
        runs: list[ShareRun] = taken
        return runs

    def _work(self, shell: ClientShell, runs: list[ShareRun], letters: DeadLetters | None) -> None:
        group = self.group
        measure = group.measure
        measure.redelivered += sum(run.stop - run.start for run in runs if run.delivery_count > 1)
        slices = [Slice(run.tp, run.batch, run.start, run.stop) for run in runs]
        stamps = stamps_of(slices)
        done_us = self._spend(shell, slices, group.clockwork.done_us(shell.now_us, len(stamps)))
        measure.on_latencies(stamps, done_us)
        if group.design.acknowledgement_mode == "explicit":
            slices = list(self._judge(shell, runs, letters))
        measure.on_done(slices, shell.now_us)
        self._commit(shell)

    def _judge(self, shell: ClientShell, runs: list[ShareRun], letters: DeadLetters | None) -> Iterator[Slice]:
        """Acknowledge every record; what was worked on, or sent to the dead letters, comes back."""
        engine, group = shell.engine, self.group
        malformed = group.malformed if group.design.poison != "accept" else frozenset()
        for run in runs:
            values, start = run.batch.columns.values, run.start
            poison = [] if malformed.isdisjoint(values) else range(run.start, run.stop)
            for index in (index for index in poison if values[index] in malformed):
                part = Slice(run.tp, run.batch, index, index + 1)
                kind = group.fate(run.delivery_count)
                stop = index + 1 if self._tell_fate(part, kind, letters) else index
                engine.acknowledge(run.tp, run.batch.offset_at(index), kind)
                if start < stop:
                    yield Slice(run.tp, run.batch, start, stop)
                start = index + 1
            if start < run.stop:
                yield Slice(run.tp, run.batch, start, run.stop)
        engine.accept_rest()

    def _tell_fate(self, part: Slice, kind: int, letters: DeadLetters | None) -> bool:
        """Count a poison record; True if it went to the dead letters."""
        measure = self.group.measure
        if kind == ACK_RELEASE:
            measure.released += 1
            return False
        measure.rejected += 1
        if letters is not None:
            letters.send_all([part])
        return letters is not None

    def _commit(self, shell: ClientShell) -> None:
        """Say now what became of the records, unless the next poll is to."""
        commit = self.group.design.commit
        if commit == "async":
            shell.call(shell.engine.commit_async)
        elif commit == "sync":
            operation = shell.call(shell.engine.commit_sync, _COMMIT_TIMEOUT_US)
            shell.wait(lambda: operation.done, None)

    # --- a member with a handler -----------------------------------------------------------------------------------

    def _run_handler(self) -> None:
        """The user's function for each message, in the loop that share consumers usually have."""
        from kafkasim.confluent_kafka import KafkaException, ShareConsumer

        design, measure = self.group.design, self.group.measure
        consumer = ShareConsumer(self._config())
        self._shell = consumer._shell
        consumer.subscribe(list(design.topics))
        letters = self._letters()
        try:
            while True:
                try:
                    messages = consumer.poll(1.0)
                except KafkaException as problem:
                    measure.on_error(str(problem.args[0].name()))
                    continue
                for message in messages:
                    kind = self._handle(message, letters)
                    if design.acknowledgement_mode == "explicit":
                        consumer.acknowledge(message, kind)
                if messages and design.commit == "sync":
                    consumer.commit_sync()
                elif messages and design.commit == "async":
                    consumer.commit_async()
        finally:
            if self.host.alive and not self.group.cluster.scheduler.closing:
                consumer.close()

    def _handle(self, message: Any, letters: DeadLetters | None) -> int:
        """Work on one message; how to acknowledge it."""
        group, cluster = self.group, self.group.cluster
        assert group.handler is not None
        measure, source, index = group.measure, message._key, message._offset
        part = Slice(partition_of(source), source.batch, index, index + 1)
        count = message.delivery_count() or 1
        measure.redelivered += count > 1
        done_us = group.clockwork.done_us(cluster.now_us, 1)
        last_us = done_us if isinstance(done_us, int) else done_us[-1]
        if last_us > cluster.now_us:
            cluster.scheduler.sleep_us(last_us - cluster.now_us)
        kind = ACK_ACCEPT
        try:
            group.handler(message)
        except Exception as problem:
            if group.design.poison == "accept":
                raise
            measure.on_error(type(problem).__name__)
            kind = group.fate(count)
        if kind == ACK_ACCEPT or self._tell_fate(part, kind, letters):
            measure.on_done([part], cluster.now_us)
        measure.on_latencies(stamps_of([part]), cluster.now_us)
        return kind


class ShareGroup:
    """All members of one share group, and what they measure."""

    def __init__(self, cluster: Any, design: ShareGroupDesign, malformed: frozenset[bytes], folder: Path) -> None:
        self.cluster = cluster
        self.design = design
        self.malformed = malformed
        self.partitions: Sequence[TopicPartition] = ()
        self.measure = ShareMeasure(design.name, look_up=self.share_partitions)
        self.clockwork = Clockwork(design.processing, cluster.choices.random_for(f"lab.group.{design.name}"))
        self.handler = None if design.handler is None else load_handler(design.handler, folder)
        self.members = [ShareMember(self, number) for number in range(design.members)]

    def fate(self, delivery_count: int) -> int:
        """How a poison record is acknowledged that came so often: before its last chance goes, the dead letters get it."""
        design = self.design
        if design.poison == "reject" or (design.releases is not None and delivery_count > design.releases):
            return ACK_REJECT
        if design.dead_letter_topic is not None and delivery_count >= self._limit():
            return ACK_REJECT
        return ACK_RELEASE

    def _limit(self) -> int:
        """The group's delivery count limit, as the leaders have it."""
        return next((found.settings.delivery_count_limit for _, found in self.share_partitions()), _NO_LIMIT)

    def start(self, partitions: Sequence[TopicPartition]) -> None:
        """Set the group's configs, and let its members go."""
        self.partitions = partitions
        if self.design.config:
            changes = tuple((name, _SET, text) for name, text in self.design.config.items())
            resource = ConfigResource(GROUP_RESOURCE, self.design.name)
            request = IncrementalAlterConfigsRequest((ConfigAlteration(resource, changes),))
            response: AlterConfigsResponse = self.cluster.ask(request)
            altered = response.results[0]
            if altered.error is not ErrorCode.NONE:
                text = f"{altered.error.name} {altered.error_message or ''}".strip()
                raise ConfigurationError(f"share group {self.design.name!r}: its configs were refused: {text}")
        for member in self.members:
            member.start()

    @property
    def is_settled(self) -> bool:
        """Is every partition with some member, which has asked for its records?"""
        return len(list(self.share_partitions())) == len(self.partitions)

    def share_partitions(self) -> Iterable[tuple[TopicPartition, SharePartition]]:
        """What the partitions' leaders know of the group: of two brokers that know of one the newer leader counts."""
        name = self.design.name
        found: dict[TopicPartition, SharePartition] = {}
        for broker_id in self.cluster.broker_ids():
            node = self.cluster.process(broker_id).node
            if node is None or node.broker is None:
                continue
            led = node.broker.share_plane.partitions
            for tp in self.partitions:
                for key in led.by_tp.get(tp, ()):
                    known = led.known(key) if key[0] == name else None
                    if known is None or known.status != ACTIVE:
                        continue
                    if tp not in found or found[tp].leader_epoch < known.leader_epoch:
                        found[tp] = known
        return found.items()

    def starts(self) -> dict[TopicPartition, int]:
        """Before which offset everything is over; of partitions whose leader is known."""
        return {tp: found.start_offset for tp, found in self.share_partitions()}


class ToldOfShare:
    """What the history says of one share group: answers to acknowledgements, locks that ran out, records that were archived."""

    def __init__(self) -> None:
        self.timed_out = 0
        self.archived: dict[TopicPartition, dict[int, str]] = {}

    def result(self, measure: ShareMeasure) -> ShareResult:
        return ShareResult(measure.redelivered, measure.released, measure.rejected, self.timed_out)


def told_of_shares(events: Iterable[HistoryEvent], groups: Iterable[Any]) -> dict[str, ToldOfShare]:
    """One pass over the history; answers to acknowledgements are counted as the groups' commits."""
    measures = {group.design.name: group.measure for group in groups if isinstance(group, ShareGroup)}
    told = {name: ToldOfShare() for name in measures}
    for event in events if told else ():
        if isinstance(event, ShareAcknowledged) and event.group in told:
            measure = measures[event.group]
            if event.error is ErrorCode.NONE:
                measure.commits += 1
            else:
                measure.failed_commits += 1
                measure.on_error(f"acknowledge: {event.error.name}")
        elif isinstance(event, Happened) and event.kind in (SHARE_CHANGED, SHARE_ARCHIVED):
            fields: dict[str, Any] = dict(event.fields)
            if fields["group"] not in told:
                continue
            mine = told[fields["group"]]
            if event.kind == SHARE_CHANGED:
                spans = [change[:2] for change in fields["changes"] if change[4] == LOCK_TIMED_OUT]
                mine.timed_out += sum(last - first + 1 for first, last in spans)
            elif fields["why"] != GAP:
                first, last = fields["offsets"]
                place: Any = event.subject
                mine.archived.setdefault(place, {}).update(dict.fromkeys(range(first, last + 1), fields["why"]))
    return told
