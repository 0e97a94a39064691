"""The share coordinator of one ``__share_group_state`` partition: what it keeps of share partitions, and who may change it.

Mirrors:  org.apache.kafka.coordinator.share.ShareCoordinatorShard (KIP-932).
Inputs:   handle(request) gives records, each replayed as it is made, and the answer; load replays a log.
Rule 1:   a write by an older leader epoch or an older state epoch is fenced; a read by a newer leader raises the leader epoch.
Rule 2:   state that nobody initialised is neither read nor written; a summary says that there is none.
Rule 3:   only ``replay`` changes state; a shard whose records could not be appended is thrown away and loaded anew.
Rule 4:   after so many updates of one share partition the next write is a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.model.share_messages import (
    UNINITIALIZED_DELIVERY_COMPLETE_COUNT,
    UNINITIALIZED_START_OFFSET,
    DeleteShareGroupStateRequest,
    InitializeShareGroupStateRequest,
    PartitionState,
    PartitionStateInit,
    PartitionStateRead,
    PartitionStateWrite,
    ReadShareGroupStateRequest,
    ReadShareGroupStateSummaryRequest,
    ShareGroupStateResponse,
    StateBatch,
    TopicIdPartition,
    WriteShareGroupStateRequest,
)
from kafkasim.core.share.state_records import (
    SNAPSHOT,
    UPDATE,
    ShareState,
    combine,
    decode_key,
    decode_value,
    encode_key,
    encode_value,
)

Key: TypeAlias = "tuple[str, TopicIdPartition]"
Records: TypeAlias = "list[tuple[bytes, bytes | None]]"
StateRequest: TypeAlias = (
    "InitializeShareGroupStateRequest | ReadShareGroupStateRequest | WriteShareGroupStateRequest"
    " | DeleteShareGroupStateRequest | ReadShareGroupStateSummaryRequest"
)
STATE_REQUESTS = (
    InitializeShareGroupStateRequest,
    ReadShareGroupStateRequest,
    WriteShareGroupStateRequest,
    DeleteShareGroupStateRequest,
    ReadShareGroupStateSummaryRequest,
)


def coordinator_key(group_id: str, tip: TopicIdPartition) -> str:
    """What the partition of ``__share_group_state`` is found by."""
    return f"{group_id}:{tip.topic_id}:{tip.partition}"


class ShareCoordinatorShard:
    """``partition_exists(tip)`` asks the broker's metadata."""

    def __init__(self, updates_per_snapshot: int, partition_exists: Callable[[TopicIdPartition], bool]) -> None:
        self.states: dict[Key, ShareState] = {}
        self._leader_epochs: dict[Key, int] = {}
        self._state_epochs: dict[Key, int] = {}
        self._update_counts: dict[Key, int] = {}
        self._updates_per_snapshot = updates_per_snapshot
        self._partition_exists = partition_exists

    # --- requests --------------------------------------------------------------------------------------------------

    def handle(self, request: StateRequest, now_ms: int) -> tuple[Records, ShareGroupStateResponse]:
        """Records to append, and the answer to give when they are committed."""
        records: Records = []
        answers: list[PartitionState] = []
        group_id = request.group_id
        if isinstance(request, WriteShareGroupStateRequest):
            answers = [self._write(group_id, part, records, now_ms) for part in request.partitions]
        elif isinstance(request, ReadShareGroupStateRequest):
            answers = [self._read(group_id, part, records, now_ms) for part in request.partitions]
        elif isinstance(request, InitializeShareGroupStateRequest):
            answers = [self._initialize(group_id, part, records, now_ms) for part in request.partitions]
        elif isinstance(request, DeleteShareGroupStateRequest):
            answers = [self._delete(group_id, tip, records) for tip in request.partitions]
        else:
            assert isinstance(request, ReadShareGroupStateSummaryRequest), request
            answers = [self._summary(group_id, part.tip) for part in request.partitions]
        return records, ShareGroupStateResponse(tuple(answers))

    def _write(self, group_id: str, part: PartitionStateWrite, records: Records, now_ms: int) -> PartitionState:
        key = (group_id, part.tip)
        error = ErrorCode.NONE
        if part.tip.partition < 0 or key not in self.states:
            error = ErrorCode.INVALID_REQUEST
        elif part.leader_epoch != NO_EPOCH and self._leader_epochs.get(key, -1) > part.leader_epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        elif part.state_epoch != NO_EPOCH and self._state_epochs.get(key, -1) > part.state_epoch:
            error = ErrorCode.FENCED_STATE_EPOCH
        elif not self._partition_exists(part.tip):
            error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if error is ErrorCode.NONE:
            leader_epoch = self.states[key].leader_epoch
            self._append(
                key, part.start_offset, part.delivery_complete_count, part.batches, leader_epoch, records, now_ms
            )
        return PartitionState(part.tip, error)

    def _append(
        self,
        key: Key,
        start_offset: int,
        complete_count: int,
        batches: tuple[StateBatch, ...],
        leader_epoch: int,
        records: Records,
        now_ms: int,
    ) -> None:
        state = self.states[key]
        if self._update_counts.get(key, 0) >= self._updates_per_snapshot:
            start = state.start_offset if start_offset == UNINITIALIZED_START_OFFSET else start_offset
            snapshot = ShareState(
                state.snapshot_epoch + 1,
                state.state_epoch,
                leader_epoch,
                start,
                complete_count,
                combine(state.batches, batches, start),
                now_ms,
                now_ms,
            )
            self._emit(SNAPSHOT, key, snapshot, records)
        else:
            update = ShareState(
                state.snapshot_epoch,
                NO_EPOCH,
                leader_epoch,
                start_offset,
                complete_count,
                combine((), batches, start_offset),
            )
            self._emit(UPDATE, key, update, records)

    def _emit(self, kind: int, key: Key, state: ShareState, records: Records) -> None:
        """Later entries of the same request see what this one did: it is replayed on the way."""
        record = (encode_key(kind, *key), encode_value(state))
        records.append(record)
        self.replay(*record)

    def _read(self, group_id: str, part: PartitionStateRead, records: Records, now_ms: int) -> PartitionState:
        key = (group_id, part.tip)
        state = self.states.get(key)
        if part.tip.partition < 0 or state is None:
            return PartitionState(part.tip, ErrorCode.INVALID_REQUEST)
        if self._leader_epochs.get(key, -1) > part.leader_epoch:
            return PartitionState(part.tip, ErrorCode.FENCED_LEADER_EPOCH)
        if not self._partition_exists(part.tip):
            return PartitionState(part.tip, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        answer = _answer(part.tip, state, state.batches)
        if part.leader_epoch != NO_EPOCH and self._leader_epochs.get(key) != part.leader_epoch:
            complete_count = state.delivery_complete_count
            self._append(key, state.start_offset, complete_count, (), part.leader_epoch, records, now_ms)
        return answer

    def _summary(self, group_id: str, tip: TopicIdPartition) -> PartitionState:
        if not self._partition_exists(tip):
            return PartitionState(tip, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return _answer(tip, self.states.get((group_id, tip), ShareState()), ())

    def _initialize(self, group_id: str, part: PartitionStateInit, records: Records, now_ms: int) -> PartitionState:
        key = (group_id, part.tip)
        if part.state_epoch != NO_EPOCH and self._state_epochs.get(key, -1) > part.state_epoch:
            return PartitionState(part.tip, ErrorCode.FENCED_STATE_EPOCH)
        if not self._partition_exists(part.tip):
            return PartitionState(part.tip, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        known = self.states.get(key)
        epoch = known.snapshot_epoch + 1 if known is not None else 0
        complete = 0 if part.start_offset != UNINITIALIZED_START_OFFSET else UNINITIALIZED_DELIVERY_COMPLETE_COUNT
        state = ShareState(epoch, part.state_epoch, NO_EPOCH, part.start_offset, complete, (), now_ms, now_ms)
        self._emit(SNAPSHOT, key, state, records)
        return PartitionState(part.tip, ErrorCode.NONE)

    def _delete(self, group_id: str, tip: TopicIdPartition, records: Records) -> PartitionState:
        if not self._partition_exists(tip):
            return PartitionState(tip, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        if (group_id, tip) in self.states:
            self._tombstone((group_id, tip), records)
        return PartitionState(tip, ErrorCode.NONE)

    def _tombstone(self, key: Key, records: Records) -> None:
        record = (encode_key(SNAPSHOT, *key), None)
        records.append(record)
        self.replay(*record)

    def forget_topics(self, topic_ids: Iterable[str]) -> Records:
        """Topics are gone: their state gets a tombstone."""
        gone = list(topic_ids)
        records: Records = []
        for key in [key for key in self.states if key[1].topic_id in gone]:
            self._tombstone(key, records)
        return records

    # --- replay ----------------------------------------------------------------------------------------------------

    def replay(self, key: bytes, value: bytes | None) -> None:
        kind, group_id, tip = decode_key(key)
        at = (group_id, tip)
        if value is None:
            self.states.pop(at, None)
            self._leader_epochs.pop(at, None)
            self._state_epochs.pop(at, None)
            self._update_counts.pop(at, None)
            return
        state = decode_value(value)
        self._leader_epochs[at] = max(self._leader_epochs.get(at, state.leader_epoch), state.leader_epoch)
        if kind == SNAPSHOT:
            self._state_epochs[at] = max(self._state_epochs.get(at, state.state_epoch), state.state_epoch)
            self.states[at] = state
            if self._update_counts.get(at, 0) >= self._updates_per_snapshot:
                self._update_counts[at] = 0
            return
        known = self.states.get(at)
        self.states[at] = state if known is None else _merged(known, state)
        self._update_counts[at] = self._update_counts.get(at, 0) + 1

    def load(self, batches: Iterable[RecordBatch]) -> None:
        """Rebuild everything from the partition's log, oldest record first."""
        for batch in batches:
            if batch.is_control:
                continue
            for key, value in zip(batch.columns.keys, batch.columns.values, strict=True):
                assert key is not None
                self.replay(key, value)


def _merged(known: ShareState, update: ShareState) -> ShareState:
    """What an update makes of the state before it."""
    start = known.start_offset if update.start_offset == UNINITIALIZED_START_OFFSET else update.start_offset
    return ShareState(
        known.snapshot_epoch,
        known.state_epoch,
        known.leader_epoch if update.leader_epoch == NO_EPOCH else update.leader_epoch,
        start,
        update.delivery_complete_count,
        combine(known.batches, update.batches, start),
        known.create_ms,
        known.write_ms,
    )


def _answer(tip: TopicIdPartition, state: ShareState, batches: tuple[StateBatch, ...]) -> PartitionState:
    return PartitionState(
        tip,
        ErrorCode.NONE,
        state.state_epoch,
        state.leader_epoch,
        state.start_offset,
        state.delivery_complete_count,
        batches,
    )
