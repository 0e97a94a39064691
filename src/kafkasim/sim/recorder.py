"""The recorder: client engines that write down what their application was told, and the history they write to.

Rule 1:   recording is chosen when a client is made (a recording engine or a plain one), so a run without history pays nothing.
Rule 2:   one event a batch, never one a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kafkasim.core.client.accumulator import DeliveryReport
from kafkasim.core.client.admin import AdminEngine, Target
from kafkasim.core.client.consumer import ConsumerEngine
from kafkasim.core.client.items import AppItem, ConsumerError, Slice
from kafkasim.core.client.offsets import CommitResult
from kafkasim.core.client.operation import Operation
from kafkasim.core.client.producer import ProducerEngine
from kafkasim.core.client.share_acks import AckBatch, ShareRun
from kafkasim.core.client.share_consumer import ShareConsumerEngine
from kafkasim.core.client.subscription import Start
from kafkasim.core.model.effects import Note
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import OffsetAndMetadata
from kafkasim.core.model.history import (
    ACKNOWLEDGE_TYPES,
    GAP,
    Acked,
    Assigned,
    Committed,
    Delivered,
    EndTold,
    Happened,
    HistoryEvent,
    OffsetsFetched,
    Repositioned,
    Revoked,
    ShareAcknowledged,
    ShareDelivered,
    Sought,
)
from kafkasim.core.model.ids import LATEST_TIMESTAMP, TopicPartition
from kafkasim.core.model.messages import ListOffsetsRequest, PartitionOffset


class History:
    """The events of a run, oldest first: iterate, index, or append through ``record``."""

    def __init__(self) -> None:
        self.events: list[HistoryEvent] = []
        self.record: Callable[[HistoryEvent], None] = self.events.append

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[HistoryEvent]:
        return iter(self.events)

    def __getitem__(self, index: int) -> HistoryEvent:
        return self.events[index]

    def clear(self) -> None:
        """Let all events go, and whoever wanted to be told of new ones."""
        self.events.clear()
        self.record = self.events.append
        vars(self).pop("note", None)

    def of(self, *kinds: type[Any]) -> list[Any]:
        """The events of these classes, in order."""
        return [event for event in self.events if isinstance(event, kinds)]

    def note(self, at_us: int, node: int, note: Note) -> None:
        self.record(Happened(at_us, node, note.kind, note.subject, note.fields))


class RecordedProducer(ProducerEngine):
    """A producer engine whose delivery reports go into the history as the application takes them."""

    history: History
    client: str
    clock: Callable[[], int]
    _settings: tuple[int, bool, int, int] | None = None

    def take_reports(self, max_messages: int) -> list[DeliveryReport]:
        reports = super().take_reports(max_messages)
        if reports:
            now_us, record = self.clock(), self.history.record
            if self._settings is None:
                self._settings = self._read_settings()
            acks, idempotent, timeout_us, in_flight = self._settings
            for report in reports:
                record(
                    Acked(
                        now_us,
                        self.client,
                        report.tp,
                        report.batch,
                        report.start,
                        report.stop,
                        report.error,
                        report.base_offset,
                        acks,
                        idempotent,
                        report.number or -1,
                        report.sent_us,
                        report.resolved_us,
                        timeout_us,
                        report.persisted,
                        in_flight,
                    )
                )
        return reports

    def _read_settings(self) -> tuple[int, bool, int, int]:
        """acks, enable.idempotence, delivery.timeout.ms (-1: some ends are never told) and what may be in flight."""
        config = self.config
        timeout_us = config.ms("message.timeout.ms") * 1000
        is_all_told = timeout_us > 0 and not config.flag("delivery.report.only.error")
        in_flight = config.integer("max.in.flight.requests.per.connection")
        return (
            config.integer("acks"),
            config.flag("enable.idempotence"),
            round(timeout_us) if is_all_told else -1,
            in_flight,
        )


def _hear_first(operation: Operation, heard: Callable[[Any], None]) -> None:
    """Have ``heard`` called with the result, if there is one, before whoever waits for the operation."""
    on_done = operation.on_done

    def done(ended: Operation) -> None:
        if ended.error is ErrorCode.NONE:
            heard(ended.result)
        if on_done is not None:
            on_done(ended)

    operation.on_done = done


class RecordedAdmin(AdminEngine):
    """An admin client's engine that writes down where partitions were said to end."""

    history: History
    client: str
    clock: Callable[[], int]

    def call(self, request: Any, target: Target, timeout_us: int, now_us: int) -> Operation:
        operation = super().call(request, target, timeout_us, now_us)
        if type(request) is ListOffsetsRequest and not operation.done:
            asked = {part.tp: None for part in request.partitions if part.timestamp_ms == LATEST_TIMESTAMP}

            def told(result: Any) -> None:
                for answer in result.partitions:
                    if answer.tp in asked and answer.error is ErrorCode.NONE:
                        self._record_end(answer, now_us)

            _hear_first(operation, told)
        return operation

    def _record_end(self, answer: PartitionOffset, started_us: int) -> None:
        told = EndTold(self.clock(), self.client, answer.tp, answer.offset, started_us, answer.leader_epoch)
        self.history.record(told)


class RecordedConsumer(ConsumerEngine):
    """A consumer engine that writes down deliveries, ownership, seeks, commits, and where partitions were said to end."""

    history: History
    client: str
    clock: Callable[[], int]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.group = self.config.text("group.id")
        self._offsets.on_end = self._record_commit

    def take(self, max_messages: int, now_us: int) -> list[AppItem]:
        items = super().take(max_messages, now_us)
        record, client, group = self.history.record, self.client, self.group
        for item in items:
            if type(item) is Slice:
                record(Delivered(now_us, client, group, item.tp, item.batch, item.start, item.stop))
        return items

    def _change_assignment(self, method: str, partitions: Sequence[Start], now_us: int) -> ErrorCode:
        before = dict.fromkeys(self.assignment())
        lost = self.assignment_lost()
        error = super()._change_assignment(method, partitions, now_us)
        after = dict.fromkeys(self.assignment())
        gone = tuple(tp for tp in before if tp not in after or method == "assign")
        new = tuple(tp for tp in after if tp not in before or method == "assign")
        if gone:
            self.history.record(Revoked(now_us, self.client, self.group, gone, lost))
        if new:
            membership, starts = self._membership, {tp: offset for tp, offset, *_ in partitions}
            offsets = tuple(starts.get(tp, -1) for tp in new)
            named = (membership.member_id, membership.generation_id)
            self.history.record(Assigned(now_us, self.client, self.group, new, *named, offsets))
        return error

    def seek(self, tp: TopicPartition, offset: int, leader_epoch: int, now_us: int) -> ErrorCode:
        error = super().seek(tp, offset, leader_epoch, now_us)
        if error is ErrorCode.NONE:
            self.history.record(Sought(now_us, self.client, self.group, tp, offset))
        return error

    def _query_end(self, tp: TopicPartition, timestamp_ms: int, timeout_us: int, now_us: int, on_end: Any) -> None:
        def told(asked_ms: int, answer: PartitionOffset) -> None:
            if asked_ms == LATEST_TIMESTAMP and answer.error is ErrorCode.NONE:
                end = EndTold(self.clock(), self.client, tp, answer.offset, now_us, answer.leader_epoch)
                self.history.record(end)
            on_end(asked_ms, answer)

        super()._query_end(tp, timestamp_ms, timeout_us, now_us, told)

    def on_position_moved(self, tp: TopicPartition, error: ErrorCode, now_us: int) -> None:
        why = "truncation" if error is ErrorCode._LOG_TRUNCATION else "reset"
        self.history.record(Repositioned(now_us, self.client, self.group, tp, why))

    def committed(self, tps: list[TopicPartition], timeout_us: int, now_us: int) -> Operation:
        operation = super().committed(tps, timeout_us, now_us)
        _hear_first(operation, lambda result: self._record_committed(result, now_us))
        return operation

    def _record_committed(self, result: CommitResult, asked_us: int) -> None:
        offsets = tuple((tp, max(value.offset, -1), code) for tp, value, code in result)
        self.history.record(OffsetsFetched(self.clock(), self.client, self.group, offsets, asked_us))

    def _record_commit(self, result: list[tuple[TopicPartition, OffsetAndMetadata, ErrorCode]], now_us: int) -> None:
        offsets = tuple((tp, value.offset, code) for tp, value, code in result if value.offset >= 0)
        if not offsets:
            return
        self.history.record(Committed(now_us, self.client, self.group, offsets))


class RecordedShareConsumer(ShareConsumerEngine):
    """A share consumer's engine that writes down deliveries, and what became of acknowledgements."""

    history: History
    client: str

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.on_outcome = self._record_outcome

    def take(self, now_us: int) -> list[ShareRun] | ConsumerError:
        taken = super().take(now_us)
        if isinstance(taken, ConsumerError):
            return taken
        record, client, group = self.history.record, self.client, self.group_id
        for run in taken:
            record(ShareDelivered(now_us, client, group, run.tp, run.batch, run.start, run.stop, run.delivery_count))
        return taken

    def _record_outcome(self, batch: AckBatch, error: ErrorCode, now_us: int) -> None:
        """Offsets without a record, which the client acknowledges by itself, are not told."""
        runs = [(run.first_offset, run.last_offset, ACKNOWLEDGE_TYPES[run.types[0]]) for run in batch.runs()]
        acks = tuple(run for run in runs if run[2] != GAP)
        if acks:
            self.history.record(ShareAcknowledged(now_us, self.client, self.group_id, batch.tp, acks, error))
