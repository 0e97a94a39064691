"""What a broker tells the history of its share partitions: who acquired what, how it left its holder, what was archived and why.

Effects:  Note, of the kinds that ``core.model.history`` lists.
Rule 1:   notes are made only where somebody keeps a history, one for each acquisition and each change, never one a record.
Rule 2:   a change is told when it is over: persisted, or taken back; a lock that ran out has changed its records at once.
Rule 3:   Kafka 4.3 archives without a word and without a dead-letter queue; here each archiving is told with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafkasim.core.model.effects import Note
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    ACKNOWLEDGE_TYPES,
    GAP,
    LOCK_TIMED_OUT,
    REJECT,
    SESSION_ENDED,
    SHARE_ACQUIRED,
    SHARE_ARCHIVED,
    SHARE_CHANGED,
    SHARE_INITIALIZED,
    SHARE_LOADED,
    SHARE_MOVED,
    SHARE_SKIPPED,
    WRITE_FAILED,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.share_messages import AcquiredRecords, PartitionState
from kafkasim.core.node.context import BrokerContext
from kafkasim.core.share import partition as machine
from kafkasim.core.share.in_flight import ARCHIVED, STATE_NAMES
from kafkasim.core.share.partition import SharePartition, StateWrite

_REASONS = {**ACKNOWLEDGE_TYPES, machine.SESSION_ENDED: SESSION_ENDED, machine.LOCK_TIMED_OUT: LOCK_TIMED_OUT}

#: (first offset, last offset, state, delivery count, why)
_Change = tuple[int, int, str, int, str]


class ShareNotes:
    """``is_on``: somebody keeps a history."""

    def __init__(self, ctx: BrokerContext) -> None:
        self._ctx = ctx
        self.is_on = ctx.meters is not None

    def _note(self, kind: str, tp: TopicPartition | None, group_id: str, **fields: Any) -> None:
        self._ctx.outbox.append(Note(kind, tp, (("group", group_id), *fields.items()), is_traced=False))

    def initialized(self, tp: TopicPartition | None, group_id: str, start_offset: int) -> None:
        if self.is_on:
            self._note(SHARE_INITIALIZED, tp, group_id, start_offset=start_offset)

    def loaded(self, tp: TopicPartition | None, partition: SharePartition, read: PartitionState) -> None:
        """A share partition begins with what was kept of it."""
        if self.is_on:
            kept = (
                (each.first_offset, each.last_offset, STATE_NAMES[each.delivery_state], each.delivery_count)
                for each in read.batches
            )
            self._note(
                SHARE_LOADED,
                tp,
                partition.group_id,
                leader_epoch=partition.leader_epoch,
                start_offset=partition.start_offset,
                delivery_complete_count=partition.delivery_complete_count,
                batches=tuple(kept),
            )

    def acquired(
        self, tp: TopicPartition, partition: SharePartition, member_id: str, acquired: Iterable[AcquiredRecords]
    ) -> None:
        if self.is_on:
            runs = tuple((run.first_offset, run.last_offset, run.delivery_count) for run in acquired)
            self._note(
                SHARE_ACQUIRED,
                tp,
                partition.group_id,
                member=member_id,
                runs=runs,
                limit=partition.settings.delivery_count_limit,
                start_offset=partition.start_offset,
            )

    def skipped(self, tp: TopicPartition, partition: SharePartition, first_offset: int, last_offset: int) -> None:
        """A read from ``first_offset`` on brought nothing up to ``last_offset``: compacted away."""
        if self.is_on:
            self._note(SHARE_SKIPPED, tp, partition.group_id, offsets=(first_offset, last_offset))

    def moved(self, tp: TopicPartition, partition: SharePartition, before: int) -> None:
        """The log starts later now than the share partition did: what was available in between is gone, unseen."""
        if self.is_on and before != partition.start_offset:
            self._note(
                SHARE_MOVED,
                tp,
                partition.group_id,
                start_offset=before,
                to=partition.start_offset,
                delivery_complete_count=partition.delivery_complete_count,
            )

    def changed(
        self, tp: TopicPartition | None, partition: SharePartition, write: StateWrite, error: ErrorCode
    ) -> None:
        """The changes of a write: of a lock that ran out when it is sent, others with their outcome."""
        if not self.is_on:
            return
        changes = _changes(write, error)
        group_id = partition.group_id
        self._note(
            SHARE_CHANGED,
            tp,
            group_id,
            member=write.member_id,
            changes=changes,
            start_offset=partition.start_offset,
            delivery_complete_count=partition.delivery_complete_count,
        )
        for first, last, state, count, why in changes:
            if state == STATE_NAMES[ARCHIVED]:
                reason = why if why in (REJECT, GAP) else _reason(partition, write, last, count)
                offsets = (first, last)
                self._note(SHARE_ARCHIVED, tp, group_id, offsets=offsets, delivery_count=count, why=reason)


def _changes(write: StateWrite, error: ErrorCode) -> tuple[_Change, ...]:
    """What the records of a write are now; neighbours that changed alike are told as one."""
    if error is ErrorCode.NONE or not write.held:
        found = [
            (each.first_offset, each.last_offset, STATE_NAMES[each.delivery_state], each.delivery_count, _REASONS[why])
            for each, why in zip(write.batches, write.reasons, strict=True)
        ]
    else:
        found = [
            (each.first_offset, each.last_offset, STATE_NAMES[state.state], state.delivery_count, WRITE_FAILED)
            for state, each, _ in write.held
        ]
    joined: list[_Change] = []
    for change in found:
        if joined and joined[-1][1] + 1 == change[0] and joined[-1][2:] == change[2:]:
            joined[-1] = (joined[-1][0], *change[1:])
        else:
            joined.append(change)
    return tuple(joined)


def _reason(partition: SharePartition, write: StateWrite, last_offset: int, delivery_count: int) -> str:
    """Why something was archived that its holder gave back, or lost."""
    if delivery_count >= partition.settings.delivery_count_limit:
        return "limit"
    return "start offset" if last_offset < write.start_offset else "limit"
