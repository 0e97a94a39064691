"""How a record leaves its holder: acknowledged, released with the session, or by a lock that ran out.

Mirrors:  SharePartition.acknowledge, releaseAcquiredRecords, releaseAcquisitionLockOnTimeout (KIP-932, KIP-1222).
Rule 1:   the acknowledgements of one call stand or fall together: the first bad one takes all others back.
Rule 2:   offsets before the start are somebody's past: acknowledging them is silently right.
Rule 3:   a renewed lock starts again at its full time; nothing is persisted.
Rule 4:   a lock that ran out releases at once, persisted or not; one unit (a batch, or a record of a split batch) at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.share_messages import (
    ACK_ACCEPT,
    ACK_GAP,
    ACK_REJECT,
    ACK_RELEASE,
    ACK_RENEW,
    AcknowledgementBatch,
    StateBatch,
)
from kafkasim.core.share.in_flight import ACKNOWLEDGED, ACQUIRED, ARCHIVED, AVAILABLE, InFlightBatch, InFlightState
from kafkasim.core.share.partition import LOCK_TIMED_OUT, SESSION_ENDED, Done, SharePartition, Update

_STATE_AFTER = {ACK_ACCEPT: ACKNOWLEDGED, ACK_RELEASE: AVAILABLE, ACK_REJECT: ARCHIVED, ACK_GAP: ARCHIVED}

_NONE = ErrorCode.NONE
_INVALID_STATE = ErrorCode.INVALID_RECORD_STATE


def acknowledge(
    partition: SharePartition, member_id: str, batches: Sequence[AcknowledgementBatch], done: Done, now_us: int
) -> None:
    """Take in ``batches`` of the member; ``done`` is called at once on an error, else when the outcome is persisted."""
    updates: list[Update] = []
    error = _NONE
    for batch in batches:
        error = _acknowledge_batch(partition, member_id, batch, updates, now_us)
        if error is not _NONE:
            break
    _end(partition, member_id, updates, error, done, now_us)


def _end(
    partition: SharePartition, member_id: str, updates: list[Update], error: ErrorCode, done: Done, now_us: int
) -> None:
    if error is not _NONE:
        partition.settle(updates, kept=False, now_us=now_us)
        done(error, now_us)
    elif not updates:
        done(_NONE, now_us)
    else:
        partition.persist(updates, done, held=True, member_id=member_id)


def _acknowledge_batch(
    partition: SharePartition, member_id: str, asked: AcknowledgementBatch, updates: list[Update], now_us: int
) -> ErrorCode:
    if any(kind not in _STATE_AFTER and kind != ACK_RENEW for kind in asked.types):
        return ErrorCode.INVALID_REQUEST
    if asked.last_offset < partition.start_offset:
        return _NONE
    below = partition.floor(asked.first_offset)
    if below is None:
        if not asked.first_offset < partition.start_offset <= asked.last_offset:
            return _INVALID_STATE
        below = partition.floor(partition.start_offset)
        if below is None:
            return _INVALID_STATE
    found = partition.beginning_in(below.first_offset, asked.last_offset)
    last_known = found[-1].last_offset
    if last_known < asked.first_offset or asked.last_offset > last_known:
        return ErrorCode.INVALID_REQUEST
    for batch in found:
        if batch.last_offset < partition.start_offset:
            continue
        error = _acknowledge_in_flight(partition, member_id, asked, batch, updates, now_us)
        if error is not _NONE:
            return error
    return _NONE


def _acknowledge_in_flight(
    partition: SharePartition,
    member_id: str,
    asked: AcknowledgementBatch,
    batch: InFlightBatch,
    updates: list[Update],
    now_us: int,
) -> ErrorCode:
    whole = batch.whole
    if whole is not None:
        if whole.state != ACQUIRED or whole.member_id != member_id or whole.rollback is not None:
            return _INVALID_STATE
        fits = asked.first_offset <= batch.first_offset and batch.last_offset <= asked.last_offset
        if fits and len(asked.types) == 1 and not partition.straddles_start(batch):
            return _apply(partition, whole, (batch.first_offset, batch.last_offset), asked.types[0], updates, now_us)
        batch.split()
    first_offset = max(asked.first_offset, partition.start_offset)
    for offset, state in batch.between(first_offset, asked.last_offset):
        if state.state != ACQUIRED or state.rollback is not None or state.member_id != member_id:
            return _INVALID_STATE
        kind = asked.types[offset - asked.first_offset] if len(asked.types) > 1 else asked.types[0]
        error = _apply(partition, state, (offset, offset), kind, updates, now_us)
        if error is not _NONE:
            return error
    return _NONE


def _apply(
    partition: SharePartition,
    state: InFlightState,
    bounds: tuple[int, int],
    kind: int,
    updates: list[Update],
    now_us: int,
) -> ErrorCode:
    """One acknowledge type for the record or the batch that ``state`` is of."""
    if kind == ACK_RENEW:
        if not partition.settings.renew_enabled:
            return _INVALID_STATE
        state.lock_until_us = partition.lock(bounds[0], bounds[1], now_us)
        return _NONE
    settings = partition.settings
    state.begin(_STATE_AFTER[kind], settings.delivery_count_limit, counts_after_failure=settings.counts_after_failure)
    _count(partition, state, bounds, kind, updates)
    return _NONE


def _count(
    partition: SharePartition, state: InFlightState, bounds: tuple[int, int], reason: int, updates: list[Update]
) -> None:
    updates.append((state, StateBatch(bounds[0], bounds[1], state.state, state.delivery_count), reason))
    if state.is_terminal:
        partition.delivery_complete_count += partition.counted(*bounds)


# --- the session ends ----------------------------------------------------------------------------------------------


def release_acquired(partition: SharePartition, member_id: str, done: Done, now_us: int) -> None:
    """Everything that the member holds becomes available, or is archived at the limit; the delivery counts stay."""
    limit, counts = partition.settings.delivery_count_limit, partition.settings.counts_after_failure
    updates: list[Update] = []
    for first in list(partition.firsts):
        batch = partition.batches[first]
        whole = batch.whole
        if whole is not None and not (whole.state == ACQUIRED and whole.member_id == member_id):
            continue
        if whole is not None and partition.straddles_start(batch):
            batch.split()
        for run_first, run_last, state in batch.runs():
            if state.state == ACQUIRED and state.member_id == member_id:
                to = ARCHIVED if run_last < partition.start_offset else AVAILABLE
                state.begin(to, limit, counts_after_failure=counts)
                _count(partition, state, (run_first, run_last), SESSION_ENDED, updates)
    _end(partition, member_id, updates, _NONE, done, now_us)


# --- a lock runs out -------------------------------------------------------------------------------------------------


def expire_one(partition: SharePartition, now_us: int) -> bool:
    """Release the first unit whose lock has run out. False: there is none left; else those who wait should look now."""
    while (due := partition.take_due(now_us)) is not None:
        first_offset, last_offset = due
        for batch in partition.batches_touching(first_offset, last_offset):
            if batch.whole is not None and partition.straddles_start(batch):
                batch.split()
            for run_first, run_last, state in batch.runs():
                if run_last < first_offset or run_first > last_offset:
                    continue
                if state.state == ACQUIRED and state.rollback is None and state.lock_until_us <= now_us:
                    if run_last < last_offset:
                        partition.look_again(run_last + 1, last_offset, now_us)
                    _expire(partition, state, (run_first, run_last))
                    return True
    return False


def _expire(partition: SharePartition, state: InFlightState, bounds: tuple[int, int]) -> None:
    to = ARCHIVED if bounds[1] < partition.start_offset else AVAILABLE
    state.give_up(to, partition.settings.delivery_count_limit)
    state.release_lock()
    if state.state != ARCHIVED:
        partition.find_next = True
    updates: list[Update] = []
    _count(partition, state, bounds, LOCK_TIMED_OUT, updates)
    partition.persist(updates, None, held=False)
