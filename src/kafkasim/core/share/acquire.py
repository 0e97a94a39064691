"""Acquisition: which records of a read a member gets, and how much of what was delivered before it gets at a time.

Mirrors:  SharePartition.acquire, acquireNewBatchRecords, acquireSubsetBatchRecords (KIP-932, KIP-1206, poison throttling of 4.3).
Rule 1:   batch_optimized rounds up to the end of the log batch that holds the last wanted record; record_limit never does.
Rule 2:   new records only while end - start + 1 is below the limit of record locks; what is in the window may always come again.
Rule 3:   a batch with a record delivered T = max(2, ceil(limit / 2)) times or more is halved at each further delivery, and ends
          the acquisition; a record before its last attempt comes alone (limits above 2).
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.model.message import slotted
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.model.share_messages import RECORD_LIMIT, AcquiredRecords
from kafkasim.core.share.in_flight import ACQUIRED, AVAILABLE, InFlightBatch, InFlightState
from kafkasim.core.share.partition import ACTIVE, SharePartition

_LEAST_THROTTLE = 2


def throttle_from(delivery_count_limit: int) -> int:
    """From this delivery count on a batch comes in parts."""
    return max(_LEAST_THROTTLE, (delivery_count_limit + 1) // 2)


@slotted
class Wanted:
    """Who acquires how much of what was read from ``fetch_offset`` on."""

    member_id: str
    batches: Sequence[RecordBatch]
    fetch_offset: int
    max_records: int
    batch_size: int
    acquire_mode: int
    now_us: int

    @property
    def by_record(self) -> bool:
        return self.acquire_mode == RECORD_LIMIT


def acquire(partition: SharePartition, wanted: Wanted) -> tuple[list[AcquiredRecords], int]:
    """What the member has acquired, and how many records these are."""
    if partition.status != ACTIVE or wanted.max_records <= 0 or not wanted.batches:
        return [], 0
    last_offset = wanted.batches[-1].last_offset
    if last_offset < partition.start_offset:
        return [], 0
    last_offset, room = _room(partition, wanted, last_offset)
    if room <= 0:
        return [], 0
    base_offset = wanted.batches[0].base_offset
    _archive_stale(partition, wanted.fetch_offset, base_offset)
    below = partition.floor(base_offset)
    if below is not None and below.last_offset >= base_offset:
        first_offset = below.first_offset
    else:
        first_offset = max(base_offset, partition.start_offset)
    known = partition.beginning_in(min(base_offset, first_offset), last_offset)
    if not known:
        return _Acquisition(partition, wanted, room, last_offset).new(first_offset, last_offset, room)
    return _Acquisition(partition, wanted, room, last_offset).known_and_new(known, first_offset)


def _room(partition: SharePartition, wanted: Wanted, last_offset: int) -> tuple[int, int]:
    """Up to which offset, and how many."""
    room = min(wanted.max_records, partition.settings.max_record_locks - partition.in_flight_count)
    if room <= 0 and wanted.fetch_offset <= partition.end_offset:
        # The window is full: only what is in it may come again.
        room = min(wanted.max_records, partition.end_offset - wanted.fetch_offset + 1)
        last_offset = min(last_offset, partition.end_offset)
    return last_offset, room


def _archive_stale(partition: SharePartition, fetch_offset: int, base_offset: int) -> None:
    """The log has nothing between what was asked for and what came: it was compacted away."""
    if (
        partition.batches
        and fetch_offset < base_offset
        and partition.archive_between(fetch_offset, base_offset - 1, AVAILABLE, counting=True)
    ):
        partition.find_next = True


class _Acquisition:
    """One call of ``acquire``."""

    __slots__ = ("count", "last_offset", "partition", "result", "room", "wanted")

    def __init__(self, partition: SharePartition, wanted: Wanted, room: int, last_offset: int) -> None:
        self.partition = partition
        self.wanted = wanted
        self.room = room
        self.last_offset = last_offset
        self.result: list[AcquiredRecords] = []
        self.count = 0

    # --- known records -----------------------------------------------------------------------------------------------

    def known_and_new(self, known: list[InFlightBatch], first_offset: int) -> tuple[list[AcquiredRecords], int]:
        """Walk the batches in flight, fill gaps between them, then go on behind them."""
        partition = self.partition
        unread = first_offset
        for batch in known:
            if self.count >= self.room:
                break
            if partition.gap_is_open:
                if unread < batch.first_offset:
                    self._add_new(unread, batch.first_offset - 1)
                unread = batch.last_offset + 1
                if self.count >= self.room:
                    break
            if self._take_known(batch):
                self.room = 0
                break
        if self.count < self.room and known[-1].last_offset < self.last_offset:
            self._add_new(known[-1].last_offset + 1, self.last_offset)
        if self.result:
            partition.move_gap(self.result[-1].last_offset + 1)
        return self.result, self.count

    def _add_new(self, first_offset: int, last_offset: int) -> None:
        acquired, count = self.new(first_offset, last_offset, self.room - self.count)
        self.result += acquired
        self.count += count

    def _take_known(self, batch: InFlightBatch) -> bool:
        """Take of ``batch`` what is available. True: nothing may follow it."""
        base_offset = self.wanted.batches[0].base_offset
        throttled = self._is_throttled(batch, base_offset)
        if throttled and self.count:
            return True
        fits = batch.first_offset >= base_offset and batch.last_offset <= self.last_offset
        too_long = self.wanted.by_record and batch.count > self.room - self.count
        whole = batch.whole
        if whole is not None and not whole.is_acquirable:
            return False
        if whole is not None and fits and not too_long and not throttled:
            partition = self.partition
            whole.acquire(
                self.wanted.member_id, partition.lock(batch.first_offset, batch.last_offset, self.wanted.now_us)
            )
            self.result.append(AcquiredRecords(batch.first_offset, batch.last_offset, whole.delivery_count))
            self.count += batch.count
            return False
        batch.split()
        taken = self._take_part(batch, base_offset)
        return throttled and taken > 0

    def _is_throttled(self, batch: InFlightBatch, base_offset: int) -> bool:
        threshold = throttle_from(self.partition.settings.delivery_count_limit)
        if batch.whole is not None:
            return batch.whole.is_acquirable and batch.whole.delivery_count >= threshold
        return any(
            state.is_acquirable and state.delivery_count >= threshold
            for _, state in batch.between(base_offset, self.last_offset)
        )

    def _take_part(self, batch: InFlightBatch, base_offset: int) -> int:
        """Single records of a split batch, no more at a time than their delivery counts allow."""
        limit = self.partition.settings.delivery_count_limit
        threshold = throttle_from(limit)
        most = self.room - self.count if self.wanted.by_record else batch.count
        throttled_most: int | None = None
        taken: list[tuple[int, InFlightState]] = []
        for offset, state in batch.between(base_offset, self.last_offset):
            if not state.is_acquirable:
                continue
            before = state.delivery_count
            if limit > _LEAST_THROTTLE and before == limit - 1 and taken:
                break
            if before >= threshold and throttled_most is None:
                throttled_most = max(1, batch.count >> (before - threshold + 1))
            state.acquire(self.wanted.member_id, 0)
            taken.append((offset, state))
            if limit > _LEAST_THROTTLE and state.delivery_count == limit:
                break
            if len(taken) == most or len(taken) == throttled_most:
                break
        if taken:
            until_us = self.partition.lock(taken[0][0], taken[-1][0], self.wanted.now_us)
            for _, state in taken:
                state.lock_until_us = until_us
            self.result += _joined(taken)
            self.count += len(taken)
        return len(taken)

    # --- new records -------------------------------------------------------------------------------------------------

    def new(self, first_offset: int, last_offset: int, room: int) -> tuple[list[AcquiredRecords], int]:
        """Records that are not in flight yet."""
        partition = self.partition
        wanted = self.wanted
        if not partition.batches and partition.end_offset > first_offset:
            first_offset = partition.end_offset
        last_acquired = last_offset
        if room < last_offset - first_offset + 1:
            last_acquired = _batch_end(wanted.batches, first_offset + room - 1)
            if partition.gap_is_open and last_acquired > last_offset:
                last_acquired = last_offset
        count = last_acquired - first_offset + 1
        if count <= 0:
            return [], 0
        if wanted.by_record:
            acquired = [self._new_by_record(first_offset, last_acquired, room)]
        else:
            acquired = self._new_batches(first_offset, last_acquired)
        if partition.firsts[0] == first_offset:
            partition.start_offset = first_offset
        partition.end_offset = max(partition.end_offset, last_acquired)
        last_acquired = acquired[-1].last_offset
        partition.move_gap(last_acquired + 1)
        return acquired, last_acquired - first_offset + 1

    def _new_batches(self, first_offset: int, last_offset: int) -> list[AcquiredRecords]:
        """One batch in flight for some ``batch_size`` records, cut where the log's batches begin."""
        wanted = self.wanted
        bounds: list[tuple[int, int]] = []
        current = first_offset
        if last_offset - first_offset + 1 > wanted.batch_size:
            for batch in wanted.batches:
                if batch.base_offset > last_offset:
                    break
                if batch.base_offset - current >= wanted.batch_size:
                    bounds.append((current, batch.base_offset - 1))
                    current = batch.base_offset
        bounds.append((current, last_offset))
        for first, last in bounds:
            until_us = self.partition.lock(first, last, wanted.now_us)
            self.partition.add(InFlightBatch(first, last, InFlightState(ACQUIRED, 1, wanted.member_id, until_us)))
        return [AcquiredRecords(first, last, 1) for first, last in bounds]

    def _new_by_record(self, first_offset: int, last_offset: int, room: int) -> AcquiredRecords:
        """Not a record more than asked for: the rest of the batch is in flight too, but available."""
        wanted = self.wanted
        last_acquired = min(last_offset, first_offset + room - 1)
        until_us = self.partition.lock(first_offset, last_acquired, wanted.now_us)
        batch = InFlightBatch(first_offset, last_offset, InFlightState(ACQUIRED, 1, wanted.member_id, until_us))
        if last_acquired < last_offset:
            batch.split()
            for _, state in batch.between(last_acquired + 1, last_offset):
                state.state, state.delivery_count, state.member_id = AVAILABLE, 0, ""
                state.release_lock()
            self.partition.find_next = True
        self.partition.add(batch)
        return AcquiredRecords(first_offset, last_acquired, 1)


def _batch_end(batches: Sequence[RecordBatch], offset: int) -> int:
    """The end of the log batch that ``offset`` is in; ``offset`` itself if it is in none."""
    holder = None
    for batch in batches:
        if batch.base_offset > offset:
            break
        holder = batch
    if holder is not None and offset <= holder.last_offset:
        return holder.last_offset
    return offset


def _joined(taken: list[tuple[int, InFlightState]]) -> list[AcquiredRecords]:
    """Neighbours with the same delivery count are told as one."""
    joined: list[AcquiredRecords] = []
    first, last, count = taken[0][0], taken[0][0], taken[0][1].delivery_count
    for offset, state in taken[1:]:
        if offset == last + 1 and state.delivery_count == count:
            last = offset
            continue
        joined.append(AcquiredRecords(first, last, count))
        first, last, count = offset, offset, state.delivery_count
    joined.append(AcquiredRecords(first, last, count))
    return joined


def without_aborted(
    partition: SharePartition, acquired: list[AcquiredRecords], aborted: Sequence[RecordBatch]
) -> list[AcquiredRecords]:
    """read_committed: batches of aborted transactions are archived as soon as they were acquired, and not handed out."""
    for batch in aborted:
        partition.archive_between(batch.base_offset, batch.last_offset, ACQUIRED, counting=True)
        pieces: list[AcquiredRecords] = []
        for run in acquired:
            if run.last_offset < batch.base_offset or run.first_offset > batch.last_offset:
                pieces.append(run)
                continue
            if run.first_offset < batch.base_offset:
                pieces.append(AcquiredRecords(run.first_offset, batch.base_offset - 1, run.delivery_count))
            if run.last_offset > batch.last_offset:
                pieces.append(AcquiredRecords(batch.last_offset + 1, run.last_offset, run.delivery_count))
        acquired = pieces
    return acquired
