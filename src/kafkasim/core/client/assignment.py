"""The partitions that a consumer reads: from being assigned, over finding where to start, to being taken away.

Mirrors:  rdkafka_assignment.c.
Inputs:   add, subtract, serve.      Effects: through Fetcher and Offsets.
Rule 1:   a partition without a start offset is looked up at the coordinator, and not while a commit is under way.
Rule 2:   with enable.auto.commit the stored offset of a partition that is taken away is committed.
Rule 3:   ``on_done`` is called whenever nothing of an assignment is under way, more often than needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kafkasim.core.client.coordinator import COORDINATOR_MOVED, Coordinator
from kafkasim.core.client.core import ClientCore
from kafkasim.core.client.error_text import error_text
from kafkasim.core.client.fetcher import Fetcher
from kafkasim.core.client.items import AppQueue, ConsumerError
from kafkasim.core.client.offsets import Offsets
from kafkasim.core.client.subscription import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    OFFSET_STORED,
    OFFSET_TAIL_BASE,
    Partitions,
    Start,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import OffsetAndMetadata, OffsetFetchResponse
from kafkasim.core.model.ids import NO_EPOCH, TopicPartition

_RETRIED = COORDINATOR_MOVED | {
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.UNSTABLE_OFFSET_COMMIT,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode._TIMED_OUT,
    ErrorCode._TIMED_OUT_QUEUE,
}
_LOGICAL = (OFFSET_BEGINNING, OFFSET_END, OFFSET_STORED, OFFSET_INVALID)


class Assignment:
    """``partitions`` is the whole assignment, in order."""

    def __init__(
        self,
        core: ClientCore,
        queue: AppQueue,
        known: Partitions,
        fetcher: Fetcher,
        coordinator: Coordinator,
        offsets: Offsets,
        is_lost: Callable[[], bool],
        on_done: Callable[[int], None],
    ) -> None:
        self._core = core
        self._queue = queue
        self._known = known
        self._fetcher = fetcher
        self._coordinator = coordinator
        self._offsets = offsets
        self._is_lost = is_lost
        self._on_done = on_done
        self._group_id = core.config.text("group.id")
        self._auto_commit = core.config.flag("enable.auto.commit")
        self.partitions: dict[TopicPartition, None] = {}
        #: Where to begin (offset, leader epoch of the record before it).
        self._pending: dict[TopicPartition, tuple[int, int]] = {}
        self._queried: dict[TopicPartition, None] = {}
        self._removed: dict[TopicPartition, None] = {}
        self._attempts = 0
        self._query = 0

    @property
    def in_progress(self) -> bool:
        return bool(self._pending or self._queried or self._removed or self._offsets.outstanding)

    def add(self, wanted: Sequence[Start]) -> tuple[ErrorCode, str]:
        """Put partitions on the way to being read; nothing changes on an error."""
        wanted = sorted(wanted)
        previous: TopicPartition | None = None
        for tp, offset, *_ in wanted:
            if offset < 0 and offset not in _LOGICAL and offset > OFFSET_TAIL_BASE:
                text = f"{tp.topic} [{tp.partition}] has invalid start offset {offset}"
                return ErrorCode._INVALID_ARG, text
            if tp == previous:
                return ErrorCode._INVALID_ARG, f"Duplicate {tp.topic} [{tp.partition}] in input list"
            if tp in self.partitions:
                text = f"{tp.topic} [{tp.partition}] is already part of the current assignment"
                return ErrorCode._CONFLICT, text
            previous = tp
        for tp, offset, *epoch in wanted:
            partition = self._known.of(tp)
            partition.assigned = True
            partition.clear_stored()
            self.partitions[tp] = None
            offset = OFFSET_STORED if offset == OFFSET_INVALID else offset
            self._pending[tp] = (offset, epoch[0] if epoch else NO_EPOCH)
        self.partitions = dict.fromkeys(sorted(self.partitions))
        return ErrorCode.NONE, ""

    def subtract(self, tps: list[TopicPartition]) -> tuple[ErrorCode, str]:
        """Take partitions away; nothing changes on an error."""
        if len(set(tps)) != len(tps):
            return ErrorCode._INVALID_ARG, "Duplicate partition in input list"
        for tp in tps:
            if tp not in self.partitions:
                text = f"{tp.topic} [{tp.partition}] can't be unassigned since it is not in the current assignment"
                return ErrorCode._INVALID_ARG, text
        for tp in tps:
            del self.partitions[tp]
            self._pending.pop(tp, None)
            self._queried.pop(tp, None)
            self._removed[tp] = None
        return ErrorCode.NONE, ""

    def clear(self) -> bool:
        """Take everything away; True if there was anything."""
        had_any = bool(self.partitions)
        self.subtract(list(self.partitions))
        return had_any

    def serve(self, now_us: int) -> None:
        """Go on with whatever can go on."""
        if self._removed:
            self._serve_removed(now_us)
        if self._pending and self._offsets.outstanding == 0:
            self._serve_pending(now_us)
        if not self.in_progress:
            self._on_done(now_us)

    def _serve_removed(self, now_us: int) -> None:
        removed, self._removed = self._removed, {}
        last: list[tuple[TopicPartition, OffsetAndMetadata]] = []
        for tp in removed:
            partition = self._known.of(tp)
            last.append((tp, OffsetAndMetadata(partition.stored, partition.stored_epoch, partition.stored_metadata)))
            self._fetcher.stop(partition)
            partition.assigned = False
            partition.clear_stored()
        if self._auto_commit and not self._is_lost() and any(value.offset >= 0 for _, value in last):
            self._offsets.commit(last, now_us, is_silent=True)

    def _serve_pending(self, now_us: int) -> None:
        can_query = self._coordinator.is_up and not self._queried
        ready: list[tuple[TopicPartition, int, int]] = []
        for tp, (offset, epoch) in self._pending.items():
            if offset != OFFSET_STORED:
                ready.append((tp, offset, epoch))
            elif can_query:
                self._queried[tp] = None
        for tp, offset, epoch in ready:
            del self._pending[tp]
            self._fetcher.start(self._known.of(tp), offset, epoch, now_us)
        if can_query and self._queried:
            for tp in self._queried:
                del self._pending[tp]
            self._query = query = self._query + 1
            self._offsets.fetch_committed(
                tuple(self._queried), lambda r, e, at_us: self._on_committed(query, r, e, at_us), now_us
            )

    def _on_committed(self, query: int, response: OffsetFetchResponse | None, error: ErrorCode, now_us: int) -> None:
        if query != self._query:
            return  # Everything that was asked for was taken away since.
        queried, self._queried = self._queried, {}
        failed_later: list[TopicPartition] = []
        if response is None or error != ErrorCode.NONE:
            if error in _RETRIED:
                failed_later = list(queried)
            elif queried:
                text = (
                    f"Failed to fetch committed offsets for {len(queried)} partition(s) in group "
                    f'"{self._group_id}": {error_text(error)}'
                )
                self._tell(ConsumerError(error, text))
        else:
            for tp, value, code in response.partitions:
                if tp not in queried:
                    continue  # Taken away, or assigned anew, since.
                if code == ErrorCode.NONE:
                    offset = value.offset if value.offset >= 0 else OFFSET_INVALID
                    self._fetcher.start(self._known.of(tp), offset, value.leader_epoch, now_us)
                elif code in _RETRIED:
                    failed_later.append(tp)
                else:
                    text = (
                        f'Failed to fetch committed offset for group "{self._group_id}" topic {tp.topic} '
                        f"[{tp.partition}]: {error_text(code)}"
                    )
                    self._tell(ConsumerError(code, text, tp))
        if failed_later:
            for tp in failed_later:
                self._pending[tp] = (OFFSET_STORED, NO_EPOCH)
            self._attempts += 1
            self._core.call_at(now_us + self._core.retry_backoff_us(self._attempts), self.serve)
            return
        self._attempts = 0
        self.serve(now_us)

    def _tell(self, error: ConsumerError) -> None:
        self._queue.put_error(error)
        self._core.wake = True
