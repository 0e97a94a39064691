"""A shell and engines that do what a test tells them, so that the facade is tested by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from kafkasim.core.client.items import AppItem, Rebalance
from kafkasim.core.client.operation import ClientEvent, Operation
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch, batch_of


@attrs.define
class Report:
    """What the producer engine reports of a slice of a batch."""

    tp: TopicPartition
    batch: RecordBatch
    error: ErrorCode
    base_offset: int
    opaques: list[Any]
    start: int
    stop: int
    persisted: int = 2
    append_time_ms: int = -1


class FakeShell:
    """Virtual time that jumps to what was planned for it."""

    def __init__(self, kind: str, config: ClientConfig) -> None:
        self.kind = kind
        self.config = config
        self.name = f"{config.text('client.id')}#{kind}-1"
        self.now_us = 0
        self.engine: Any = ENGINES[kind](config)
        self.plan: list[tuple[int, Callable[[], None]]] = []
        self.fruitless_calls = 0
        self.is_closed = False

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args, self.now_us)

    def wait(self, predicate: Callable[[], Any], timeout_us: int | None) -> bool:
        until_us = None if timeout_us is None else self.now_us + timeout_us
        while not predicate():
            self.plan.sort(key=lambda entry: entry[0])
            if not self.plan or (until_us is not None and self.plan[0][0] > until_us):
                assert until_us is not None, "waits for ever"
                self.now_us = until_us
                return False
            at_us, action = self.plan.pop(0)
            self.now_us = max(self.now_us, at_us)
            action()
        return True

    def at(self, seconds: float, action: Callable[..., Any], *args: Any) -> None:
        """Do something at a virtual time."""
        self.plan.append((int(seconds * 1_000_000), lambda: action(*args)))

    def fruitless(self) -> None:
        self.fruitless_calls += 1

    def close(self) -> None:
        self.is_closed = True


class _FakeEngine:
    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self.events: list[ClientEvent] = []
        self.calls: list[tuple[Any, ...]] = []

    @property
    def event_count(self) -> int:
        return len(self.events)

    def take_events(self) -> list[ClientEvent]:
        events, self.events = self.events, []
        return events

    def close(self, now_us: int) -> None:
        self.calls.append(("close",))


class FakeProducerEngine(_FakeEngine):
    """Keeps what is produced until ``deliver``."""

    wall_offset_us = 0

    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        self.answer = ErrorCode.NONE
        self.produced: list[tuple[Any, ...]] = []
        self.reports: list[Report] = []
        self.flushing = 0

    def produce(self, *args: Any) -> ErrorCode:
        if self.answer is ErrorCode.NONE:
            self.produced.append(args[:-1])
        return self.answer

    @property
    def outq_len(self) -> int:
        return len(self.produced) + sum(report.stop - report.start + 1 for report in self.reports) + self.event_count

    @property
    def has_reports(self) -> bool:
        return bool(self.reports)

    def take_reports(self, max_messages: int) -> list[Report]:
        reports, self.reports = self.reports, []
        return reports

    def begin_flush(self, now_us: int) -> None:
        self.flushing += 1

    def end_flush(self) -> None:
        self.flushing -= 1

    def purge(self, in_queue: bool, in_flight: bool, now_us: int) -> None:
        self.calls.append(("purge", in_queue, in_flight))
        self.deliver(ErrorCode._PURGE_QUEUE)

    def deliver(self, error: ErrorCode = ErrorCode.NONE) -> None:
        """Report everything that was produced as one batch."""
        produced, self.produced = self.produced, []
        if produced:
            batch = batch_of([entry[1] for entry in produced], keys=[entry[2] for entry in produced], timestamp_ms=5)
            opaques = [entry[6] for entry in produced]
            offset = -1001 if error else 100
            tp = TopicPartition(produced[0][0], 0)
            self.reports.append(Report(tp, batch, error, offset, opaques, 0, len(produced)))


class FakeConsumerEngine(_FakeEngine):
    """Hands out the items that a test puts into its queue."""

    member_id = ""
    generation_id = -1
    group_instance_id: str | None = None
    reports_commits = False

    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        self.queue: list[AppItem] = []
        self.awaiting: Rebalance | None = None
        self.assigned: list[TopicPartition] = []
        self.answer = ErrorCode.NONE
        self.last_error_text = ""
        self.operation = Operation()

    def take(self, max_messages: int, now_us: int) -> list[AppItem]:
        items: list[AppItem] = []
        while self.queue and self.awaiting is None and len(items) < max_messages:
            item = self.queue.pop(0)
            items.append(item)
            if isinstance(item, Rebalance):
                self.awaiting = item
        return items

    def has_items(self) -> bool:
        return bool(self.queue) and self.awaiting is None

    def begin_poll(self, now_us: int) -> None:
        self.calls.append(("begin_poll",))

    def end_poll(self, now_us: int) -> None:
        self.calls.append(("end_poll",))

    def subscribe(self, topics: list[str], now_us: int) -> ErrorCode:
        self.calls.append(("subscribe", topics))
        return self.answer

    def unsubscribe(self, now_us: int) -> ErrorCode:
        return self.answer

    def assignment(self) -> list[TopicPartition]:
        return list(self.assigned)

    def assign(self, partitions: list[tuple[TopicPartition, int, int]], now_us: int) -> ErrorCode:
        self.awaiting = None
        self.calls.append(("assign", partitions))
        self.assigned = [tp for tp, *_ in partitions]
        return self.answer

    def unassign(self, now_us: int) -> ErrorCode:
        self.awaiting = None
        self.calls.append(("unassign",))
        self.assigned = []
        return self.answer

    def incremental_assign(self, partitions: list[tuple[TopicPartition, int, int]], now_us: int) -> ErrorCode:
        self.awaiting = None
        self.calls.append(("incremental_assign", partitions))
        self.assigned += [tp for tp, *_ in partitions]
        return self.answer

    def incremental_unassign(self, partitions: list[TopicPartition], now_us: int) -> ErrorCode:
        self.awaiting = None
        self.calls.append(("incremental_unassign", partitions))
        self.assigned = [tp for tp in self.assigned if tp not in partitions]
        return self.answer

    def commit(self, offsets: Any, now_us: int, wants_report: bool) -> Operation:
        self.calls.append(("commit", offsets, wants_report))
        return self.operation

    def store_offsets(self, offsets: Any) -> list[tuple[TopicPartition, ErrorCode]]:
        self.calls.append(("store", offsets))
        return [(entry[0], self.answer) for entry in offsets]

    def committed(self, tps: Any, timeout_us: int, now_us: int) -> Operation:
        self.calls.append(("committed", tps, timeout_us))
        return self.operation

    def position(self, tp: TopicPartition) -> int:
        return 7 if tp in self.assigned else -1001

    def position_epoch(self, tp: TopicPartition) -> int:
        return 3 if tp in self.assigned else -1

    def seek(self, tp: TopicPartition, offset: int, leader_epoch: int, now_us: int) -> ErrorCode:
        self.calls.append(("seek", tp, offset, leader_epoch))
        return self.answer

    def pause(self, tps: Any) -> list[Any]:
        self.calls.append(("pause", tps))
        return []

    def resume(self, tps: Any, now_us: int) -> list[Any]:
        self.calls.append(("resume", tps))
        return []

    def cached_watermark_offsets(self, tp: TopicPartition) -> tuple[int, int]:
        return 1, 2

    def query_watermark_offsets(self, tp: TopicPartition, timeout_us: int, now_us: int) -> Operation:
        return self.operation

    def offsets_for_times(self, times: Any, timeout_us: int, now_us: int) -> Operation:
        self.calls.append(("offsets_for_times", times))
        return self.operation

    def close_begin(self, now_us: int) -> Operation:
        self.calls.append(("close_begin",))
        return self.operation


class FakeAdminEngine(_FakeEngine):
    """Answers nothing by itself: a test ends the operations."""

    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        self.asked: list[tuple[Any, Any, int]] = []
        self.operations: list[Operation] = []

    def call(self, request: Any, target: Any, timeout_us: int, now_us: int) -> Operation:
        operation = Operation()
        self.asked.append((request, target, timeout_us))
        self.operations.append(operation)
        return operation


ENGINES = {"producer": FakeProducerEngine, "consumer": FakeConsumerEngine, "admin": FakeAdminEngine}
