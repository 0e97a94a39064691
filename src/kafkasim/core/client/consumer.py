"""A consumer as librdkafka runs one: what the application calls, wired to membership, assignment, fetcher and offsets.

Mirrors:  rd_kafka_t of type consumer; rd_kafka_consumer_poll, rd_kafka_subscribe, rd_kafka_assign, rd_kafka_commit and their kin.
Inputs:   the calls of an application, and those of every client node.      Effects: Send, Close.
Rule 1:   ``take`` is the only way out for records, errors and rebalances; the answer to a Rebalance is one of the assign calls.
Rule 2:   no call waits: what takes time is an ``Operation``.
Rule 3:   a call that failed leaves librdkafka's words for it in ``last_error_text``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafkasim.core.client.assignment import Assignment
from kafkasim.core.client.assignors import COOPERATIVE, EAGER
from kafkasim.core.client.consumer_membership import ConsumerMembership
from kafkasim.core.client.coordinator import Coordinator
from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.error_text import error_text
from kafkasim.core.client.fetcher import Fetcher
from kafkasim.core.client.items import AppItem, AppQueue, ConsumerError
from kafkasim.core.client.join_states import STEADY, WAIT_UNASSIGN_CALL
from kafkasim.core.client.membership import ClassicMembership
from kafkasim.core.client.offset_queries import OffsetQuery
from kafkasim.core.client.offsets import Offsets
from kafkasim.core.client.operation import Operation
from kafkasim.core.client.subscription import OFFSET_INVALID, Partitions, Start, TopicMatcher
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.effects import COORDINATOR_CHANNEL, MAIN_CHANNEL
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import OffsetAndMetadata
from kafkasim.core.model.ids import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    Draw,
    NodeId,
    TopicPartition,
)
from kafkasim.core.model.messages import READ_COMMITTED, READ_UNCOMMITTED, PartitionOffset

_POLL_CHECK_US = 500_000


class ConsumerEngine(ClientCore):
    """One consumer."""

    KIND = "consumer"

    def __init__(
        self,
        node_id: NodeId,
        config: ClientConfig,
        bootstrap: tuple[NodeId, ...],
        draw: Draw,
        wall_offset_us: int,
    ) -> None:
        super().__init__(node_id, config, bootstrap, draw, wall_offset_us)
        self.last_error_text = ""
        self._queue = AppQueue()
        self._partitions = Partitions(auto_store=config.flag("enable.auto.offset.store"))
        self._fetcher = Fetcher(self, self._queue)
        self._coordinator = Coordinator(self, config.text("group.id"), self._on_coordinator, self._on_coordinator_error)
        membership = ClassicMembership if config["group.protocol"] == "classic" else ConsumerMembership
        self._membership: ClassicMembership | ConsumerMembership = membership(
            self, self._queue, self._coordinator, self
        )
        self._offsets = Offsets(
            self,
            self._queue,
            self._partitions,
            self._coordinator,
            lambda: (self._membership.generation_id, self._membership.member_id),
            self._membership.on_commit_error,
            self.serve_assignment,
        )
        self._assignment = Assignment(
            self,
            self._queue,
            self._partitions,
            self._fetcher,
            self._coordinator,
            self._offsets,
            self.assignment_lost,
            self._membership.on_assignment_done,
        )
        self._max_poll_us = config.ms("max.poll.interval.ms") * 1000
        self._last_poll_us = -1
        self._is_polling = False
        self._poll_watch_us = -1
        self._poll_timer: Timer | None = None
        self._closing: Operation | None = None
        is_committed = config["isolation.level"] == "read_committed"
        self._isolation_level = READ_COMMITTED if is_committed else READ_UNCOMMITTED

    # --- Subscription and assignment -------------------------------------------------------------------------------

    def subscribe(self, topics: list[str], now_us: int) -> ErrorCode:
        self.start(now_us)
        if not topics or len(set(topics)) != len(topics) or "" in topics:
            return ErrorCode._INVALID_ARG
        if self._last_poll_us < 0:
            self._last_poll_us = now_us
        try:
            matcher = TopicMatcher(topics)
        except ValueError:
            return ErrorCode._INVALID_ARG
        return self._membership.subscribe(matcher, now_us)

    def unsubscribe(self, now_us: int) -> ErrorCode:
        self._membership.unsubscribe(now_us)
        return ErrorCode.NONE

    def subscription(self) -> list[str]:
        return self._membership.subscribed()

    def assignment(self) -> list[TopicPartition]:
        return list(self._assignment.partitions)

    def assign(self, partitions: Sequence[Start], now_us: int) -> ErrorCode:
        return self._change_assignment("assign", partitions, now_us)

    def unassign(self, now_us: int) -> ErrorCode:
        return self._change_assignment("unassign", [], now_us)

    def incremental_assign(self, partitions: Sequence[Start], now_us: int) -> ErrorCode:
        return self._change_assignment("incremental-assign", partitions, now_us)

    def incremental_unassign(self, partitions: list[TopicPartition], now_us: int) -> ErrorCode:
        return self._change_assignment("incremental-unassign", [(tp, OFFSET_INVALID) for tp in partitions], now_us)

    def _change_assignment(self, method: str, partitions: Sequence[Start], now_us: int) -> ErrorCode:
        self.start(now_us)
        membership = self._membership
        self.last_error_text = ""
        if membership.terminating or self.fatal_error != ErrorCode.NONE:
            membership.refuse_assignment()
            method, partitions = "unassign", []
        elif membership.protocol == COOPERATIVE and not method.startswith("incremental"):
            self.last_error_text = (
                "Changes to the current assignment must be made using incremental_assign() or "
                "incremental_unassign() when rebalance protocol type is COOPERATIVE"
            )
            return ErrorCode._STATE
        elif membership.protocol == EAGER and method.startswith("incremental"):
            self.last_error_text = (
                "Changes to the current assignment must be made using assign() when rebalance protocol type is EAGER"
            )
            return ErrorCode._STATE
        elif method == "assign" and not partitions and membership.state == WAIT_UNASSIGN_CALL:
            method = "unassign"
        error = self._apply_assignment(method, partitions, now_us)
        if error == ErrorCode.NONE:
            self._queue.awaiting_answer = None
            membership.on_answer(method, now_us)
            self._assignment.serve(now_us)
            self.wake = True
        return error

    def _apply_assignment(self, method: str, partitions: Sequence[Start], now_us: int) -> ErrorCode:
        assignment = self._assignment
        error = ErrorCode.NONE
        if method == "unassign":
            assignment.clear()
        elif method == "assign":
            if assignment.clear():
                assignment.serve(now_us)
            error, self.last_error_text = assignment.add(partitions)
        elif method == "incremental-assign":
            error, self.last_error_text = assignment.add(partitions)
        else:
            error, self.last_error_text = assignment.subtract([tp for tp, *_ in partitions])
        return error

    def assignment_lost(self) -> bool:
        return self._membership.lost

    @property
    def member_id(self) -> str:
        return self._membership.member_id

    @property
    def generation_id(self) -> int:
        return self._membership.generation_id

    @property
    def group_instance_id(self) -> str | None:
        return self._membership.group_instance_id

    @property
    def rebalance_protocol(self) -> str:
        """ "NONE", "EAGER" or "COOPERATIVE"."""
        return self._membership.protocol

    # --- Polling ---------------------------------------------------------------------------------------------------

    def take(self, max_messages: int, now_us: int) -> list[AppItem]:
        """What the application's queue holds next. Counts as a poll."""
        self._last_poll_us = now_us
        if self._membership.max_poll_exceeded:
            self._membership.on_poll(now_us)
        return self._queue.take(max_messages)

    def has_items(self) -> bool:
        return self._queue.has_items()

    def begin_poll(self, now_us: int) -> None:
        """The application waits inside poll() from now on: max.poll.interval.ms does not run."""
        self._is_polling = True
        self._last_poll_us = now_us
        if self._membership.max_poll_exceeded:
            self._membership.on_poll(now_us)

    def end_poll(self, now_us: int) -> None:
        self._is_polling = False
        self._last_poll_us = now_us

    def poll_exceeded_us(self, now_us: int) -> int:
        """By how much max.poll.interval.ms is exceeded, in whole ms; 0 if it is not."""
        if self._is_polling or self._last_poll_us < 0:
            return 0
        return max(0, now_us - self._last_poll_us - self._max_poll_us) // 1000 * 1000

    def watch_polls(self, now_us: int) -> None:
        """Look every half second, from now on, whether the application still polls; only the look that may find something is made."""
        self._poll_watch_us = now_us
        if self._poll_timer is not None:
            self._poll_timer.cancel()
        self._watch_again(now_us)

    def _watch_again(self, now_us: int) -> None:
        last_us = now_us if self._is_polling else max(self._last_poll_us, 0)
        earliest_us = last_us + self._max_poll_us + 1000
        ticks = max(1, -(-(earliest_us - self._poll_watch_us) // _POLL_CHECK_US))
        at_us = self._poll_watch_us + ticks * _POLL_CHECK_US
        self._poll_timer = self.call_at(max(at_us, now_us + 1), self._check_polls)

    def _check_polls(self, now_us: int) -> None:
        if self._membership.subscription is None or self._membership.terminating:
            return
        exceeded_us = self.poll_exceeded_us(now_us)
        if exceeded_us > 0:
            self._membership.on_max_poll_exceeded(exceeded_us // 1000, now_us)
        else:
            self._watch_again(now_us)

    # --- Positions -------------------------------------------------------------------------------------------------

    def position(self, tp: TopicPartition) -> int:
        return self._partitions.of(tp).position

    def position_epoch(self, tp: TopicPartition) -> int:
        """Leader epoch of the record before the position; NO_EPOCH unknown."""
        return self._partitions.of(tp).position_epoch

    def seek(self, tp: TopicPartition, offset: int, leader_epoch: int, now_us: int) -> ErrorCode:
        """Go on at ``offset``; the leader epoch of the record before it is compared first (NO_EPOCH: unknown)."""
        partition = self._partitions.find(tp)
        if partition is None:
            return ErrorCode._UNKNOWN_PARTITION
        return self._fetcher.seek(partition, offset, leader_epoch, now_us)

    def pause(self, tps: list[TopicPartition]) -> list[tuple[TopicPartition, ErrorCode]]:
        results = []
        for tp in tps:
            partition = self._partitions.find(tp)
            if partition is not None:
                self._fetcher.pause(partition)
            results.append((tp, ErrorCode._UNKNOWN_PARTITION if partition is None else ErrorCode.NONE))
        return results

    def resume(self, tps: list[TopicPartition], now_us: int) -> list[tuple[TopicPartition, ErrorCode]]:
        results = []
        for tp in tps:
            partition = self._partitions.find(tp)
            if partition is not None:
                self._fetcher.resume(partition, now_us)
            results.append((tp, ErrorCode._UNKNOWN_PARTITION if partition is None else ErrorCode.NONE))
        return results

    def cached_watermark_offsets(self, tp: TopicPartition) -> tuple[int, int]:
        partition = self._partitions.of(tp)
        return partition.log_start, partition.high_watermark

    def query_watermark_offsets(self, tp: TopicPartition, timeout_us: int, now_us: int) -> Operation:
        """Ask the leader for both ends of the log; result (low, high)."""
        self.start(now_us)
        operation = Operation(on_done=self._operation_done)
        ends: dict[int, PartitionOffset] = {}

        def on_end(timestamp_ms: int, answer: PartitionOffset) -> None:
            ends[timestamp_ms] = answer
            if len(ends) < 2:
                return
            error = ends[EARLIEST_TIMESTAMP].error or ends[LATEST_TIMESTAMP].error
            if error != ErrorCode.NONE:
                operation.fail(ErrorCode(error))
            else:
                operation.succeed((ends[EARLIEST_TIMESTAMP].offset, ends[LATEST_TIMESTAMP].offset))

        self._query_end(tp, EARLIEST_TIMESTAMP, timeout_us, now_us, on_end)
        self._query_end(tp, LATEST_TIMESTAMP, timeout_us, now_us, on_end)
        return operation

    def _query_end(self, tp: TopicPartition, timestamp_ms: int, timeout_us: int, now_us: int, on_end: Any) -> None:
        OffsetQuery(
            self,
            [(tp, timestamp_ms)],
            self._isolation_level,
            now_us + timeout_us,
            lambda answers, at_us: on_end(timestamp_ms, answers[tp]),
        ).start(now_us)

    def offsets_for_times(self, times: list[tuple[TopicPartition, int]], timeout_us: int, now_us: int) -> Operation:
        """The first offset at or after each time, -1 (the end) where there is none; result [PartitionOffset]."""
        self.start(now_us)
        operation = Operation(on_done=self._operation_done)

        def on_end(answers: dict[TopicPartition, PartitionOffset], at_us: int) -> None:
            result = [answers[tp] for tp, _ in times]
            failed = [answer.error for answer in result if answer.error != ErrorCode.NONE]
            if failed and len(failed) == len(result):
                operation.fail(failed[0], result=result)
            else:
                operation.succeed(result)

        OffsetQuery(self, times, self._isolation_level, now_us + timeout_us, on_end).start(now_us)
        return operation

    # --- Offsets ---------------------------------------------------------------------------------------------------

    @property
    def reports_commits(self) -> bool:
        """Automatic commits are told as ``CommitDone`` items too; a facade with an ``on_commit`` callback sets this."""
        return self._offsets.reports_commits

    @reports_commits.setter
    def reports_commits(self, value: bool) -> None:
        self._offsets.reports_commits = value

    def commit(
        self,
        offsets: list[tuple[TopicPartition, OffsetAndMetadata]] | None,
        now_us: int,
        wants_report: bool = False,
    ) -> Operation:
        """Commit ``offsets``, or what is stored; result [(tp, OffsetAndMetadata, ErrorCode)] also on an error."""
        self.start(now_us)
        operation = Operation(on_done=self._operation_done)
        refused = ErrorCode.NONE
        if offsets is None:
            if self._assignment.partitions and self.assignment_lost():
                refused, offsets = ErrorCode._ASSIGNMENT_LOST, []
            else:
                offsets = self._stored_offsets()
        self._offsets.commit(offsets, now_us, operation=operation, wants_report=wants_report, refused=refused)
        return operation

    def _stored_offsets(self) -> list[tuple[TopicPartition, OffsetAndMetadata]]:
        of, stored_of = self._partitions.of, self._offsets.stored_of
        return [(tp, stored_of(of(tp))) for tp in self._assignment.partitions]

    def store_offsets(
        self, offsets: list[tuple[TopicPartition, int, int, str]]
    ) -> list[tuple[TopicPartition, ErrorCode]]:
        """Have the next commit without offsets take these. ``_INVALID_ARG`` for all with enable.auto.offset.store."""
        if self.config.flag("enable.auto.offset.store"):
            return [(tp, ErrorCode._INVALID_ARG) for tp, _, _, _ in offsets]
        return [(tp, self._offsets.store(tp, offset, epoch, text)) for tp, offset, epoch, text in offsets]

    def committed(self, tps: list[TopicPartition], timeout_us: int, now_us: int) -> Operation:
        """What the group has committed; result [(tp, OffsetAndMetadata, ErrorCode)], offset -1001 where nothing is."""
        self.start(now_us)
        return self._offsets.committed(tps, timeout_us, now_us)

    def _auto_commit(self, now_us: int) -> None:
        membership = self._membership
        if membership.subscription is not None and membership.state != STEADY:
            return  # The generation is about to change.
        if membership.terminating or membership.lost:
            return
        offsets = self._stored_offsets()
        if any(value.offset >= 0 for _, value in offsets):
            self._offsets.commit(offsets, now_us, is_silent=True)

    # --- Close -----------------------------------------------------------------------------------------------------

    def close_begin(self, now_us: int) -> Operation:
        """Give everything back, commit, leave. Rebalance items still come and still want their answers."""
        if self._closing is None:
            self._closing = Operation(on_done=self._operation_done)
            self._membership.terminate(now_us)
            self.try_terminate(now_us)
        return self._closing

    def try_terminate(self, now_us: int) -> None:
        membership = self._membership
        if self._closing is None or self._closing.done or membership.waits_for_answer:
            return
        if self._assignment.in_progress or self._assignment.partitions or membership.waiting_to_leave:
            return
        self._closing.succeed()
        self.close(now_us)

    # --- What membership and assignment ask of us --------------------------------------------------------------------

    def suspend(self) -> None:
        self._fetcher.suspend()

    def release(self, now_us: int) -> None:
        self._fetcher.release(now_us)

    def unassign_all(self, now_us: int) -> None:
        self._assignment.clear()
        self._membership.on_answer("unassign", now_us)

    def serve_assignment(self, now_us: int) -> None:
        self._assignment.serve(now_us)

    # --- Hooks -----------------------------------------------------------------------------------------------------

    def on_start(self, now_us: int) -> None:
        self._coordinator.start(now_us)
        interval_us = self.config.ms("auto.commit.interval.ms") * 1000
        if self.config.flag("enable.auto.commit") and interval_us > 0:
            self._every(interval_us, self._auto_commit, now_us)

    def on_metadata(self, changed: list[str], is_full: bool, now_us: int) -> None:
        if changed:
            self._fetcher.on_metadata(changed, now_us)
        self._membership.on_metadata(is_full, now_us)

    def on_connection(self, node: NodeId, channel: int, is_up: bool, now_us: int) -> None:
        if channel == COORDINATOR_CHANNEL:
            if not is_up and node == self._coordinator.node and not self.closed:
                self._coordinator.on_dead(now_us)
        elif channel == MAIN_CHANNEL:
            self._fetcher.on_connection(node, is_up, now_us)

    def tell_fatal(self) -> None:
        """A consumer is told by poll() alone, not by its error callback."""
        text = f"Fatal error: {error_text(self.fatal_error)}: {self.fatal_text}"
        self._queue.put_error(ConsumerError(ErrorCode._FATAL, text))
        self.wake = True

    def _on_coordinator(self, now_us: int) -> None:
        self._offsets.on_coordinator(now_us)
        self._membership.on_coordinator(now_us)
        self._assignment.serve(now_us)

    def _on_coordinator_error(self, error: ErrorCode) -> None:
        text = f"FindCoordinator response error: {error_text(error)}"
        self._queue.put_error(ConsumerError(error, text))
        self.wake = True

    def stats(self, now_us: int) -> dict[str, Any]:
        membership = self._membership
        topics: dict[str, Any] = {}
        for tp in self._assignment.partitions:
            figures = {"partition": tp.partition, "broker": self.metadata.leader(tp)}
            figures["leader"] = figures["broker"]
            figures.update(self._partitions.of(tp).stats())
            topic = topics.setdefault(tp.topic, {"topic": tp.topic, "partitions": {}})
            topic["partitions"][str(tp.partition)] = figures
        rebalance_age_us = now_us - membership.rebalance_us if membership.rebalance_count else 0
        return {
            "rx_msg_cnt_queued": self._queue.message_count,
            "topics": topics,
            "cgrp": {
                "state": "up" if self._coordinator.is_up else "query-coord",
                "join_state": membership.state,
                "rebalance_age": rebalance_age_us // 1000,
                "rebalance_cnt": membership.rebalance_count,
                "assignment_size": len(self._assignment.partitions),
            },
        }
