"""Committing offsets, automatically and on demand, and reading committed ones.

Mirrors:  the OffsetCommit half of rdkafka_cgrp.c, rd_kafka_offset_store0, rd_kafka_committed.
Inputs:   commit, store, committed, on_coordinator.      Effects: Send (OffsetCommit, OffsetFetch to the coordinator).
Rule 1:   a commit without offsets takes what is stored beyond what is committed, of the whole assignment.
Rule 2:   a commit that finds no coordinator waits for one, once, for ``session.timeout.ms``.
Rule 3:   ``outstanding`` counts commits under way: committed offsets are not read back before it is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kafkasim.core.client.coordinator import COORDINATOR_MOVED, Coordinator
from kafkasim.core.client.core import ClientCore
from kafkasim.core.client.items import AppQueue, CommitDone
from kafkasim.core.client.operation import Operation
from kafkasim.core.client.subscription import OFFSET_INVALID, Partition, Partitions
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    OffsetAndMetadata,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.message import fresh, slotted

_RETRIED = frozenset(
    {
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode._TIMED_OUT,
        ErrorCode._TIMED_OUT_QUEUE,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)
_MAX_RETRIES = 2
_STALE_RETRY_US = 1_000

CommitResult: TypeAlias = "list[tuple[TopicPartition, OffsetAndMetadata, ErrorCode]]"


@slotted
class Commit:
    """One commit on its way. ``is_silent``: nobody wants to hear that there was nothing to commit."""

    offsets: list[tuple[TopicPartition, OffsetAndMetadata]]
    operation: Operation | None
    is_silent: bool
    wants_report: bool
    deferred_until_us: int = 0
    attempts: int = 0
    errors: dict[TopicPartition, ErrorCode] = fresh(factory=dict)


class Offsets:
    """``identity`` gives (generation id, member id) of the moment."""

    def __init__(
        self,
        core: ClientCore,
        queue: AppQueue,
        partitions: Partitions,
        coordinator: Coordinator,
        identity: Callable[[], tuple[int, str]],
        on_error: Callable[[ErrorCode, int], None],
        on_idle: Callable[[int], None],
    ) -> None:
        self._core = core
        self._queue = queue
        self._partitions = partitions
        self._coordinator = coordinator
        self._identity = identity
        self._on_error = on_error
        self._on_idle = on_idle
        self._group_id = core.config.text("group.id")
        self._instance_id = core.config.text("group.instance.id") or None
        self._defer_us = core.config.ms("session.timeout.ms") * 1000
        self._is_read_committed = core.config["isolation.level"] == "read_committed"
        self._waiting: list[Commit] = []
        self.outstanding = 0
        #: The application has an ``on_commit`` callback, which also hears of automatic commits.
        self.reports_commits = False
        #: Told of the end of every commit, automatic ones too: ``on_end([(tp, value, code)], now_us)``.
        self.on_end: Callable[[CommitResult, int], None] | None = None

    # --- Stored offsets --------------------------------------------------------------------------------------------

    def store(self, tp: TopicPartition, offset: int, epoch: int, metadata: str) -> ErrorCode:
        partition = self._partitions.find(tp)
        if partition is None:
            return ErrorCode._UNKNOWN_PARTITION
        if offset >= 0 and not partition.assigned:
            return ErrorCode._STATE
        partition.stored, partition.stored_epoch, partition.stored_metadata = offset, epoch, metadata
        return ErrorCode.NONE

    def stored_of(self, partition: Partition) -> OffsetAndMetadata:
        """What a commit without offsets takes of ``partition``; OFFSET_INVALID where nothing is new."""
        stored = (partition.stored_epoch, partition.stored)
        if partition.stored >= 0 and stored > (partition.committed_epoch, partition.committed):
            return OffsetAndMetadata(partition.stored, partition.stored_epoch, partition.stored_metadata)
        return OffsetAndMetadata(OFFSET_INVALID)

    # --- Commit ----------------------------------------------------------------------------------------------------

    def commit(
        self,
        offsets: list[tuple[TopicPartition, OffsetAndMetadata]],
        now_us: int,
        *,
        operation: Operation | None = None,
        is_silent: bool = False,
        wants_report: bool = False,
        refused: ErrorCode = ErrorCode.NONE,
    ) -> None:
        """Commit those of ``offsets`` that are real; ``refused``: end at once with this error."""
        commit = Commit(offsets, operation, is_silent, wants_report)
        self.outstanding += 1
        error = refused
        if error == ErrorCode.NONE and self._core.fatal_error != ErrorCode.NONE:
            error = ErrorCode._FATAL
        if error == ErrorCode.NONE and not any(value.offset >= 0 for _, value in offsets):
            error = ErrorCode._NO_OFFSET
        if error != ErrorCode.NONE:
            # Ended from the event loop, so that the caller's own work is done first.
            self._core.call_at(now_us, lambda at_us: self._end(commit, error, at_us))
        else:
            self._send(commit, now_us)

    def _send(self, commit: Commit, now_us: int) -> None:
        if not self._coordinator.is_up:
            self._defer(commit, ErrorCode._WAIT_COORD, now_us)
            return
        generation_id, member_id = self._identity()
        valid = tuple((tp, value) for tp, value in commit.offsets if value.offset >= 0)
        request = OffsetCommitRequest(self._group_id, generation_id, member_id, self._instance_id, valid)
        self._coordinator.send(request, lambda r, e, at_us: self._on_committed(commit, r, e, at_us), now_us)

    def _defer(self, commit: Commit, error: ErrorCode, now_us: int) -> None:
        """Wait for a coordinator, unless that was done before."""
        if commit.deferred_until_us:
            self._core.call_at(now_us, lambda at_us: self._end(commit, error, at_us))
            return
        commit.deferred_until_us = now_us + self._defer_us
        self._waiting.append(commit)
        self._core.call_at(commit.deferred_until_us, lambda at_us: self._expire(commit, at_us))

    def _expire(self, commit: Commit, now_us: int) -> None:
        if commit in self._waiting:
            self._waiting.remove(commit)
            self._end(commit, ErrorCode._WAIT_COORD, now_us)

    def on_coordinator(self, now_us: int) -> None:
        """A coordinator is there: send what has waited for it."""
        waiting, self._waiting = self._waiting, []
        for commit in waiting:
            self._send(commit, now_us)

    def _on_committed(
        self, commit: Commit, response: OffsetCommitResponse | None, error: ErrorCode, now_us: int
    ) -> None:
        if response is not None:
            commit.errors = dict(response.partitions)
            for partition_error in commit.errors.values():
                if partition_error != ErrorCode.NONE:
                    error = partition_error
        if error in COORDINATOR_MOVED:
            self._coordinator.on_dead(now_us)
            if not commit.deferred_until_us:
                self._defer(commit, error, now_us)
                return
        elif error in _RETRIED and commit.attempts < _MAX_RETRIES:
            commit.attempts += 1
            delay_us = self._core.retry_backoff_us(commit.attempts)
            self._core.call_at(now_us + delay_us, lambda at_us: self._send(commit, at_us))
            return
        elif error != ErrorCode.NONE:
            self._on_error(error, now_us)
            if error == ErrorCode.STALE_MEMBER_EPOCH and commit.operation is None and self._retry_stale(commit, now_us):
                return
        self._end(commit, error, now_us)

    def _retry_stale(self, commit: Commit, now_us: int) -> bool:
        """An automatic commit whose epoch has passed goes out again with the next one, for ``session.timeout.ms``."""
        if not commit.deferred_until_us:
            commit.deferred_until_us = now_us + self._defer_us
        if now_us >= commit.deferred_until_us:
            return False
        commit.errors.clear()
        self._core.call_at(now_us + _STALE_RETRY_US, lambda at_us: self._send(commit, at_us))
        return True

    def _end(self, commit: Commit, error: ErrorCode, now_us: int) -> None:
        self.outstanding -= 1
        result: CommitResult = []
        for tp, value in commit.offsets:
            code = ErrorCode.NONE
            if value.offset >= 0:
                code = commit.errors.get(tp, error)
                if code == ErrorCode.NONE:
                    partition = self._partitions.find(tp)
                    if partition is not None:
                        partition.committed, partition.committed_epoch = value.offset, value.leader_epoch
            result.append((tp, value, code))
        if self.on_end is not None:
            self.on_end(result, now_us)
        is_empty = error == ErrorCode._NO_OFFSET and commit.is_silent
        if not is_empty and (commit.wants_report or (commit.operation is None and self.reports_commits)):
            self._queue.put_report(CommitDone(error, [(tp, value.offset, code) for tp, value, code in result]))
        if commit.operation is not None:
            if error == ErrorCode.NONE:
                commit.operation.succeed(result)
            else:
                commit.operation.fail(error, result=result)
        self._core.wake = True
        if self.outstanding == 0:
            self._on_idle(now_us)

    # --- Committed offsets -----------------------------------------------------------------------------------------

    def fetch_committed(
        self,
        tps: tuple[TopicPartition, ...],
        handler: Callable[[OffsetFetchResponse | None, ErrorCode, int], None],
        now_us: int,
        timeout_us: int | None = None,
    ) -> None:
        """Ask the coordinator once; remembers what is committed."""

        def on_end(response: OffsetFetchResponse | None, error: ErrorCode, at_us: int) -> None:
            if response is not None:
                error = response.error
                for tp, value, code in response.partitions:
                    partition = self._partitions.find(tp)
                    if partition is not None and code == ErrorCode.NONE:
                        partition.committed = value.offset if value.offset >= 0 else OFFSET_INVALID
                        partition.committed_epoch = value.leader_epoch
            if error in COORDINATOR_MOVED:
                self._coordinator.on_dead(at_us)
            handler(response, error, at_us)

        request = OffsetFetchRequest(self._group_id, tps, self._is_read_committed)
        self._coordinator.send(request, on_end, now_us, timeout_us)

    def committed(self, tps: list[TopicPartition], timeout_us: int, now_us: int) -> Operation:
        """Keep asking until an answer or the end of the time; result [(tp, OffsetAndMetadata, ErrorCode)]."""
        operation = Operation(on_done=self._wake)
        until_us = now_us + timeout_us

        def expire(at_us: int) -> None:
            if not operation.done:
                operation.fail(ErrorCode._TIMED_OUT)

        def on_end(response: OffsetFetchResponse | None, error: ErrorCode, at_us: int) -> None:
            if operation.done:
                return
            unstable = response is not None and any(
                code == ErrorCode.UNSTABLE_OFFSET_COMMIT for _, _, code in response.partitions
            )
            if unstable or error in COORDINATOR_MOVED or error in _RETRIED:
                self._core.call_at(min(at_us + self._core.retry_backoff_us(1), until_us), ask)
            elif response is None or error != ErrorCode.NONE:
                operation.fail(error)
            else:
                found = {tp: (value, code) for tp, value, code in response.partitions}
                missing = (OffsetAndMetadata(OFFSET_INVALID), ErrorCode.NONE)
                operation.succeed([(tp, *_as_librdkafka(*found.get(tp, missing))) for tp in tps])

        def ask(at_us: int) -> None:
            if not operation.done and at_us < until_us:
                self.fetch_committed(tuple(tps), on_end, at_us, until_us - at_us)

        self._core.call_at(until_us, expire)
        ask(now_us)
        return operation

    def _wake(self, operation: Operation) -> None:
        self._core.wake = True


def _as_librdkafka(value: OffsetAndMetadata, code: ErrorCode) -> tuple[OffsetAndMetadata, ErrorCode]:
    return (value if value.offset >= 0 else OffsetAndMetadata(OFFSET_INVALID)), code
