"""The recorder: client engines that write down what their application was told, and the history they write to.

Rule 1:   recording is chosen when a client is made (a recording engine or a plain one), so a run without history pays nothing.
Rule 2:   one event a batch, never one a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kafkasim.core.client.consumer import ConsumerEngine
from kafkasim.core.client.items import CommitDone, ConsumerError, Rebalance, Slice
from kafkasim.core.client.operation import Operation
from kafkasim.core.client.producer import DeliveryReport, ProducerEngine
from kafkasim.core.model.effects import Note
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Assigned, Committed, Delivered, Happened, HistoryEvent, Revoked, Sought
from kafkasim.core.model.ids import TopicPartition


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

    def take_reports(self, max_messages: int) -> list[DeliveryReport]:
        reports = super().take_reports(max_messages)
        if reports:
            now_us, record = self.clock(), self.history.record
            acks, idempotent = int(self.config["acks"]), bool(self.config["enable.idempotence"])
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
                    )
                )
        return reports


class RecordedConsumer(ConsumerEngine):
    """A consumer engine that writes down deliveries, ownership, seeks and commits."""

    history: History
    client: str

    @property
    def group(self) -> str:
        return str(self.config["group.id"] or "")

    def take(self, max_messages: int, now_us: int) -> list[Any]:
        items = super().take(max_messages, now_us)
        record, client, group = self.history.record, self.client, self.group
        for item in items:
            if type(item) is Slice:
                record(Delivered(now_us, client, group, item.tp, item.batch, item.start, item.stop))
            elif isinstance(item, CommitDone):
                record(Committed(now_us, client, group, tuple(item.offsets)))
            elif isinstance(item, Rebalance | ConsumerError):
                continue
        return items

    def assign(self, partitions: list[tuple[TopicPartition, int]], now_us: int) -> ErrorCode:
        held = self._held()
        error = super().assign(partitions, now_us)
        if error is ErrorCode.NONE:
            self._record_moves(held, now_us)
        return error

    def incremental_assign(self, partitions: list[tuple[TopicPartition, int]], now_us: int) -> ErrorCode:
        held = self._held()
        error = super().incremental_assign(partitions, now_us)
        if error is ErrorCode.NONE:
            self._record_moves(held, now_us)
        return error

    def incremental_unassign(self, partitions: list[TopicPartition], now_us: int) -> ErrorCode:
        held = self._held()
        error = super().incremental_unassign(partitions, now_us)
        if error is ErrorCode.NONE:
            self._record_moves(held, now_us)
        return error

    def unassign(self, now_us: int) -> ErrorCode:
        held = self._held()
        error = super().unassign(now_us)
        self._record_moves(held, now_us)
        return error

    def seek(self, tp: TopicPartition, offset: int, now_us: int) -> ErrorCode:
        error = super().seek(tp, offset, now_us)
        if error is ErrorCode.NONE:
            self.history.record(Sought(now_us, self.client, self.group, tp, offset))
        return error

    def commit(self, offsets: Any, now_us: int, wants_report: bool) -> Operation:
        operation = super().commit(offsets, now_us, wants_report)
        return operation

    def _held(self) -> dict[TopicPartition, None]:
        return dict.fromkeys(tp for tp, *_ in self.assignment())

    def _record_moves(self, before: dict[TopicPartition, None], now_us: int) -> None:
        after = self._held()
        gone = tuple(tp for tp in before if tp not in after)
        new = tuple(tp for tp in after if tp not in before)
        if gone:
            self.history.record(Revoked(now_us, self.client, self.group, gone, bool(self.assignment_lost())))
        if new:
            self.history.record(Assigned(now_us, self.client, self.group, new))
