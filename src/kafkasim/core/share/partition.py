"""One share partition at the leader of its topic partition: where it starts and ends, and what is in flight between.

Mirrors:  kafka.server.share.SharePartition (offsets, cache, gap window, persister reads and writes; KIP-932).
Inputs:   load, on_written, update_log_start; ``acquire`` and ``acknowledge`` of the modules of those names.
Effects:  ``writes``, drained by the broker and answered with ``on_written``.
Rule 1:   the start offset never moves back, and moves past a record only when that record's terminal state was persisted.
Rule 2:   an acquisition is never persisted: a new leader starts from what was acknowledged, released or timed out.
Rule 3:   a write carries the start offset as it is before its own changes count, so persisted offsets lag by one write.
Differs:  when the log start moves into records in flight, nothing below it is looked for again: what a failed write brings back
          there is archived, a gap begins at it, new records are acquired from it on, and the start offset passes what is terminal
          at once; Kafka may go on asking for offsets that the log has lost, or wait for the next write. Where the log start has
          passed everything in flight, Kafka sets the start offset back for a moment when the last change of it is persisted; nothing
          in Kafka 4.3.0 writes a dead-letter queue: archiving is silent there, and a note in the history here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import TypeAlias

from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import slotted
from kafkasim.core.model.share_messages import PartitionState, StateBatch, TopicIdPartition
from kafkasim.core.share.in_flight import AVAILABLE, InFlightBatch, InFlightState

#: States of the share partition itself.
EMPTY = "EMPTY"
INITIALIZING = "INITIALIZING"
ACTIVE = "ACTIVE"
FAILED = "FAILED"
FENCED = "FENCED"

#: ``done(error, now_us)``.
Done: TypeAlias = Callable[[ErrorCode, int], None]
#: A record state that a write persists, what it persists of it, and why: an acknowledge type, or one of the two below.
Update: TypeAlias = "tuple[InFlightState, StateBatch, int]"
SESSION_ENDED = -1
LOCK_TIMED_OUT = -2


@slotted
class ShareSettings:
    """What the group's configs say now, in the units of the machine."""

    delivery_count_limit: int = 5
    max_record_locks: int = 2000
    lock_duration_us: int = 30_000_000
    renew_enabled: bool = True
    #: The limit counts, too, when a state could not be written and its lock has run out meanwhile (KAFKA-19476).
    counts_after_failure: bool = True


@slotted
class StateWrite:
    """What is to be persisted. ``held`` are states whose change waits for it; of a lock timeout there are none.

    ``member_id``: by whom, and ``reasons`` why, for each of ``batches``.
    """

    batches: tuple[StateBatch, ...]
    start_offset: int
    delivery_complete_count: int
    held: list[Update]
    done: Done | None
    member_id: str = ""
    reasons: tuple[int, ...] = ()


@slotted
class GapWindow:
    """Offsets from ``start`` to ``end`` may hold records that no persisted batch speaks of."""

    start: int
    end: int


class SharePartition:
    """``settings`` may be replaced at any time; locks that run keep their time."""

    __slots__ = (
        "_locks",
        "_sequence",
        "batches",
        "delivery_complete_count",
        "end_offset",
        "find_next",
        "firsts",
        "gap",
        "group_id",
        "leader_epoch",
        "settings",
        "start_offset",
        "state_epoch",
        "status",
        "tip",
        "writes",
    )

    def __init__(self, group_id: str, tip: TopicIdPartition, leader_epoch: int, settings: ShareSettings) -> None:
        self.group_id = group_id
        self.tip = tip
        self.leader_epoch = leader_epoch
        self.settings = settings
        self.status = EMPTY
        self.state_epoch = 0
        self.start_offset = 0
        self.end_offset = 0
        #: Terminal records between start and end offset.
        self.delivery_complete_count = 0
        #: First offset -> batch, and the first offsets in order.
        self.batches: dict[int, InFlightBatch] = {}
        self.firsts: list[int] = []
        #: Something in the cache may be available again.
        self.find_next = False
        self.gap: GapWindow | None = None
        self.writes: list[StateWrite] = []
        self._locks: list[tuple[int, int, int, int]] = []
        self._sequence = 0

    # --- the cache -------------------------------------------------------------------------------------------------

    def add(self, batch: InFlightBatch) -> None:
        first_offset = batch.first_offset
        if first_offset not in self.batches:
            if not self.firsts or first_offset > self.firsts[-1]:
                self.firsts.append(first_offset)
            else:
                insort(self.firsts, first_offset)
        self.batches[first_offset] = batch

    def floor(self, offset: int) -> InFlightBatch | None:
        """The batch that begins at ``offset`` or last before it."""
        index = bisect_right(self.firsts, offset)
        return self.batches[self.firsts[index - 1]] if index else None

    def beginning_in(self, first_offset: int, last_offset: int) -> list[InFlightBatch]:
        """The batches that begin between the two offsets, both included."""
        firsts = self.firsts
        low = bisect_left(firsts, first_offset)
        high = bisect_right(firsts, last_offset)
        return [self.batches[first] for first in firsts[low:high]]

    def last(self) -> InFlightBatch:
        return self.batches[self.firsts[-1]]

    @property
    def in_flight_count(self) -> int:
        """Offsets between start and end, whatever they hold."""
        return self.end_offset - self.start_offset + 1 if self.batches else 0

    def straddles_start(self, batch: InFlightBatch) -> bool:
        return batch.first_offset < self.start_offset <= batch.last_offset

    # --- locks -----------------------------------------------------------------------------------------------------

    @property
    def deadline_us(self) -> int:
        """When the first lock may run out; may be early, never late."""
        return self._locks[0][0] if self._locks else NEVER_US

    def lock(self, first_offset: int, last_offset: int, now_us: int) -> int:
        """Until when offsets acquired or renewed now are locked; the machine looks at them then."""
        until_us = now_us + self.settings.lock_duration_us
        self._sequence += 1
        heappush(self._locks, (until_us, self._sequence, first_offset, last_offset))
        return until_us

    def take_due(self, now_us: int) -> tuple[int, int] | None:
        """A range of offsets in which a lock may have run out."""
        if self._locks and self._locks[0][0] <= now_us:
            _, _, first_offset, last_offset = heappop(self._locks)
            return first_offset, last_offset
        return None

    def look_again(self, first_offset: int, last_offset: int, now_us: int) -> None:
        self._sequence += 1
        heappush(self._locks, (now_us, self._sequence, first_offset, last_offset))

    def _forget_locks(self) -> None:
        locks = self._locks
        if not self.batches:
            locks.clear()
        while locks and locks[0][3] < self.firsts[0]:
            heappop(locks)

    # --- loading ---------------------------------------------------------------------------------------------------

    def load(self, read: PartitionState, start_offset: int) -> bool:
        """Take in what the share coordinator keeps. False: the state makes no sense."""
        self.start_offset = start_offset
        self.state_epoch = read.state_epoch
        gap_start = -1
        previous_last = start_offset - 1
        for kept in read.batches:
            if kept.first_offset < start_offset or kept.last_offset < kept.first_offset:
                self.status = FAILED
                return False
            if gap_start == -1 and kept.first_offset > previous_last + 1:
                gap_start = previous_last + 1
            previous_last = kept.last_offset
            state = InFlightState(kept.delivery_state, kept.delivery_count)
            self.add(InFlightBatch(kept.first_offset, kept.last_offset, state))
            if state.is_terminal:
                self.delivery_complete_count += kept.last_offset - kept.first_offset + 1
        if self.batches:
            self.find_next = True
            self.end_offset = self.last().last_offset
            if gap_start != -1:
                self.gap = GapWindow(gap_start, self.end_offset)
            self.advance()
        else:
            self.end_offset = start_offset
        self.status = ACTIVE
        return True

    @property
    def gap_is_open(self) -> bool:
        return self.gap is not None and self.gap.end == self.end_offset

    def move_gap(self, offset: int) -> None:
        """Everything before ``offset`` was read."""
        if self.gap is None:
            return
        if self.gap.end == self.end_offset and offset <= self.gap.end:
            self.gap.start = offset
        else:
            self.gap = None

    # --- reading ---------------------------------------------------------------------------------------------------

    def next_fetch_offset(self) -> int:
        """Where the next fetch is to read: the first available record in flight, else behind the end."""
        if not self.firsts or self.start_offset > self.last().last_offset:
            self.find_next = False
            return self.end_offset
        if not self.find_next:
            return self.end_offset + 1
        found = self._first_available()
        if found is None:
            self.find_next = False
            return self.end_offset + 1
        return found

    def _first_available(self) -> int | None:
        gap_start = self.gap.start if self.gap is not None and self.gap_is_open else -1
        for first in self.firsts:
            batch = self.batches[first]
            if gap_start >= 0:
                if first > gap_start:
                    return gap_start
                gap_start = max(batch.last_offset + 1, gap_start)
            if batch.whole is not None:
                if batch.whole.is_acquirable:
                    return first
                continue
            for offset, _, state in batch.runs():
                if state.is_acquirable:
                    return offset
        return None

    @property
    def can_acquire(self) -> bool:
        """Redelivery is always possible; new records only while the window has room."""
        if self.next_fetch_offset() != self.end_offset + 1:
            return True
        return self.in_flight_count < self.settings.max_record_locks

    # --- writing ---------------------------------------------------------------------------------------------------

    def persist(self, updates: list[Update], done: Done | None, *, held: bool, member_id: str = "") -> None:
        """Ask for a write of ``updates``; ``held`` changes are kept or rolled back when its outcome is known."""
        self.writes.append(
            StateWrite(
                tuple(batch for _, batch, _ in updates),
                self.start_offset,
                self.delivery_complete_count,
                updates if held else [],
                done,
                member_id,
                tuple(reason for _, _, reason in updates),
            )
        )

    def on_written(self, write: StateWrite, error: ErrorCode, now_us: int) -> bool:
        """The outcome of a write. True: somebody who waits may acquire something now."""
        kept = error is ErrorCode.NONE
        self.settle(write.held, kept=kept, now_us=now_us)
        moved = False
        if kept or not write.held:
            moved = self.advance()
        if write.done is not None:
            write.done(error, now_us)
        return moved or not kept

    def settle(self, updates: Iterable[Update], *, kept: bool, now_us: int) -> None:
        """End the changes that were marked."""
        for state, persisted, _ in updates:
            state.finish(kept=kept, now_us=now_us)
            if state.state == AVAILABLE:
                self.find_next = True
                if persisted.first_offset < self.start_offset:
                    # It came back where the log has nothing any more: a read from there would be out of range for ever.
                    self.archive_between(persisted.first_offset, self.start_offset - 1, AVAILABLE, counting=False)
            if not kept and persisted.delivery_state > AVAILABLE and not state.is_terminal:
                self.delivery_complete_count -= self.counted(persisted.first_offset, persisted.last_offset)

    def counted(self, first_offset: int, last_offset: int) -> int:
        """How many of these offsets are not before the start."""
        return max(0, last_offset - max(self.start_offset, first_offset) + 1)

    # --- the start offset ------------------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Move the start offset past everything terminal; True if it moved or something left the cache."""
        if not self._start_is_terminal():
            return False
        last_terminal, terminal_count = self._last_terminal()
        if last_terminal == -1:
            return False
        last_cached = self.last().last_offset
        if last_terminal == last_cached:
            self.start_offset = self.end_offset = max(self.start_offset, last_cached + 1)
            self.batches.clear()
            self.firsts.clear()
            self.delivery_complete_count = 0
            self._forget_locks()
            return True
        index = bisect_right(self.firsts, last_terminal) - 1
        if self.batches[self.firsts[index]].last_offset == last_terminal:
            start = self.firsts[index + 1]
            if self.gap is not None and self.gap_is_open:
                start = min(start, self.gap.start)
            gone = index + 1
        else:
            start = last_terminal + 1
            gone = index
        self.start_offset = max(self.start_offset, start)
        self.delivery_complete_count -= terminal_count
        for first in self.firsts[:gone]:
            del self.batches[first]
        del self.firsts[:gone]
        self._forget_locks()
        return True

    def _start_is_terminal(self) -> bool:
        batch = self.floor(self.start_offset)
        if batch is None or batch.last_offset < self.start_offset:
            return batch is not None and self._batch_is_over(batch)
        state = batch.state_at(self.start_offset)
        return state.rollback is None and state.is_terminal

    def _batch_is_over(self, batch: InFlightBatch) -> bool:
        return all(state.rollback is None and state.is_terminal for _, _, state in batch.runs())

    def _last_terminal(self) -> tuple[int, int]:
        """The last offset up to which everything is terminal, and how many of these count; (-1, 0) if there is none."""
        last, count = -1, 0
        for first in self.firsts:
            batch = self.batches[first]
            if self.gap is not None and self.gap_is_open and batch.last_offset >= self.gap.start:
                break
            for run_first, run_last, state in batch.runs():
                if state.rollback is not None or not state.is_terminal:
                    return last, count
                last = run_last
                count += self.counted(run_first, run_last)
        return last, count

    def update_log_start(self, log_start: int) -> None:
        """The log begins later than this partition: what was available before it is archived."""
        if log_start <= self.start_offset:
            return
        if not self.batches:
            self.start_offset = self.end_offset = log_start
            self.delivery_complete_count = 0
            return
        terminal = self._terminal_before(log_start)
        if self.archive_between(self.start_offset, log_start - 1, AVAILABLE, counting=False):
            self.find_next = True
        if self.gap is not None:
            self.gap.start = max(self.gap.start, log_start)
        self.start_offset = log_start
        self.delivery_complete_count -= terminal
        self.end_offset = max(self.end_offset, log_start)
        self.advance()

    def _terminal_before(self, log_start: int) -> int:
        count = 0
        for batch in self.beginning_in(0, log_start - 1):
            for first, last, state in batch.runs():
                if state.is_terminal:
                    count += self.counted(first, min(last, log_start - 1))
        return count

    def archive_between(self, first_offset: int, last_offset: int, state: int, *, counting: bool) -> bool:
        """Archive, at once and for good, what is in ``state`` between the two offsets; True if anything was."""
        archived = False
        for batch in self.batches_touching(first_offset, last_offset):
            whole = batch.whole
            if whole is not None and whole.state != state:
                continue
            if whole is not None and first_offset <= batch.first_offset and batch.last_offset <= last_offset:
                whole.archive()
                archived = True
                self.delivery_complete_count += batch.count if counting else 0
                continue
            batch.split()
            for _, own in batch.between(first_offset, last_offset):
                if own.state == state:
                    own.archive()
                    archived = True
                    self.delivery_complete_count += 1 if counting else 0
        return archived

    def batches_touching(self, first_offset: int, last_offset: int) -> list[InFlightBatch]:
        below = self.floor(first_offset)
        if below is not None and below.last_offset >= first_offset:
            first_offset = below.first_offset
        return self.beginning_in(first_offset, last_offset)

    # --- audit -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Every batch in order, nothing in flight without a holder, nobody beyond the limit."""
        assert self.firsts == sorted(self.batches)
        previous_last = -1
        for first in self.firsts:
            batch = self.batches[first]
            assert previous_last < batch.first_offset <= batch.last_offset
            previous_last = batch.last_offset
            for _, last, state in batch.runs():
                if state.rollback is None and last >= self.start_offset:
                    assert (state.member_id != "") == (state.state == 1), (first, state)
        if self.firsts:
            assert self.end_offset >= self.start_offset - 1
        assert self.delivery_complete_count >= 0
