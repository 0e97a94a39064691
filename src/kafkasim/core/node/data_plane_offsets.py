"""Questions about a log's offsets, and DeleteRecords.

Mirrors:  ReplicaManager.fetchOffset, lastOffsetForLeaderEpoch, deleteRecords, DelayedDeleteRecords, Partition.
Inputs:   on_list_offsets, on_offset_for_leader_epoch, on_delete_records, check_deletes, expire.      Effects: Reply.
Rule 1:   the epoch is checked first (fenced, unknown), then leadership, then what was asked.
Rule 2:   a fresh leader does not tell its end to clients until the high watermark has reached where its epoch began.
"""

from __future__ import annotations

from typing import Any

from kafkasim.core.log.epochs import epoch_at
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, MAX_TIMESTAMP, TopicPartition
from kafkasim.core.model.messages import (
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    PartitionDeleteRecords,
    PartitionEpochEnd,
    PartitionEpochQuery,
    PartitionListOffsets,
    PartitionOffset,
    PartitionRecordsDeleted,
)
from kafkasim.core.node.context import Call
from kafkasim.core.node.data_plane_partitions import Partitions
from kafkasim.core.replica.leader import LeaderReplica
from kafkasim.core.replica.purgatory import Purgatory

_NONE = ErrorCode.NONE
_INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


class ParkedDelete:
    """A DeleteRecords that waits until every live replica has raised its log start."""

    __slots__ = ("answers", "call", "done", "open")

    def __init__(self, call: Call, answers: list[PartitionRecordsDeleted]) -> None:
        self.call = call
        self.answers = answers
        #: Index in the answers -> offset that every log start must reach.
        self.open: dict[int, int] = {}
        self.done = False


class Offsets:
    __slots__ = ("_partitions", "deletes")

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self.deletes: Purgatory[Any] = Purgatory()

    def _leader(self, tp: TopicPartition, epoch: int) -> tuple[LeaderReplica | None, ErrorCode]:
        replica = self._partitions.replicas.get(tp)
        if replica is None:
            return None, self._partitions.missing(tp)
        if epoch >= 0 and epoch != replica.leader_epoch:
            fenced = epoch < replica.leader_epoch
            return None, ErrorCode.FENCED_LEADER_EPOCH if fenced else ErrorCode.UNKNOWN_LEADER_EPOCH
        if not isinstance(replica, LeaderReplica):
            return None, ErrorCode.NOT_LEADER_OR_FOLLOWER
        return replica, _NONE

    # --- ListOffsets -----------------------------------------------------------------------------------------------

    def on_list_offsets(self, call: Call, now_us: int) -> None:
        request: ListOffsetsRequest = call.request
        answers = [self._list_offset(part, request.replica_id >= 0) for part in request.partitions]
        self._partitions.ctx.reply(call, ListOffsetsResponse(answers))

    def _list_offset(self, part: PartitionListOffsets, is_follower: bool) -> PartitionOffset:
        tp = part.tp
        replica, error = self._leader(tp, part.current_leader_epoch)
        if replica is None:
            return PartitionOffset(tp, error)
        log = replica.log
        if part.timestamp_ms == EARLIEST_TIMESTAMP:
            first_epoch = log.epochs[0][0] if log.epochs and log.epochs[0][1] <= log.start else -1
            return PartitionOffset(tp, _NONE, log.start, -1, first_epoch)
        upper = log.end if is_follower else replica.high_watermark
        hides = self._partitions.rules.hides_unsettled_end and not is_follower
        unsettled = hides and replica.high_watermark < replica.epoch_start
        if part.timestamp_ms == LATEST_TIMESTAMP:
            if unsettled:
                return PartitionOffset(tp, ErrorCode.OFFSET_NOT_AVAILABLE)
            return PartitionOffset(tp, _NONE, upper, -1, log.latest_epoch)
        if part.timestamp_ms == MAX_TIMESTAMP:
            found = log.offset_of_max_timestamp(upper)
        else:
            found = log.offset_for_timestamp(part.timestamp_ms, upper)
        if found is None:
            return PartitionOffset(tp, ErrorCode.OFFSET_NOT_AVAILABLE if unsettled else _NONE)
        offset, timestamp_ms, _ = found
        return PartitionOffset(tp, _NONE, offset, timestamp_ms, epoch_at(log.epochs, offset))

    # --- OffsetForLeaderEpoch --------------------------------------------------------------------------------------

    def on_offset_for_leader_epoch(self, call: Call, now_us: int) -> None:
        request: OffsetForLeaderEpochRequest = call.request
        answers = [self._epoch_end(part) for part in request.partitions]
        self._partitions.ctx.reply(call, OffsetForLeaderEpochResponse(answers))

    def _epoch_end(self, part: PartitionEpochQuery) -> PartitionEpochEnd:
        replica, error = self._leader(part.tp, part.current_leader_epoch)
        if replica is None:
            return PartitionEpochEnd(part.tp, error)
        epoch, end_offset = self._partitions.rules.epoch_end(replica.log, part.leader_epoch)
        return PartitionEpochEnd(part.tp, _NONE, epoch, end_offset)

    # --- DeleteRecords ---------------------------------------------------------------------------------------------

    def on_delete_records(self, call: Call, now_us: int) -> None:
        request: DeleteRecordsRequest = call.request
        operation = ParkedDelete(call, [])
        for index, part in enumerate(request.partitions):
            operation.answers.append(self._delete(part, operation, index, now_us))
        if not operation.open:
            self._partitions.ctx.reply(call, DeleteRecordsResponse(operation.answers))
        else:
            self.deletes.park(operation, request.timeout_ms * 1000, now_us)

    def _delete(
        self, part: PartitionDeleteRecords, operation: ParkedDelete, index: int, now_us: int
    ) -> PartitionRecordsDeleted:
        tp = part.tp
        if tp.topic in _INTERNAL_TOPICS:
            return PartitionRecordsDeleted(tp, ErrorCode.INVALID_TOPIC_EXCEPTION)
        replica, error = self._leader(tp, -1)
        if replica is None:
            return PartitionRecordsDeleted(tp, error)
        if not replica.log.settings.delete:
            return PartitionRecordsDeleted(tp, ErrorCode.POLICY_VIOLATION)
        offset = replica.high_watermark if part.offset == -1 else part.offset
        if not 0 <= offset <= replica.high_watermark:
            return PartitionRecordsDeleted(tp, ErrorCode.OFFSET_OUT_OF_RANGE)
        if offset > replica.log.start:
            replica.log.raise_log_start(offset)
            replica.log_start_raised()
            # Whole segments below the new start go with the next retention check.
            self._partitions.watch_retention(replica, now_us)
        low_watermark = replica.low_watermark(self._partitions.alive)
        if low_watermark < offset:
            operation.open[index] = offset
            if replica.waiting_deletes is None:
                replica.waiting_deletes = []
            replica.waiting_deletes.append((offset, operation, index))
        return PartitionRecordsDeleted(tp, _NONE, low_watermark)

    def check_deletes(self) -> None:
        """Followers told a new log start: some deletes may be through."""
        partitions = self._partitions
        replicas, partitions.woken_deletes = partitions.woken_deletes, []
        for replica in replicas:
            waiting = replica.waiting_deletes or []
            low_watermark = replica.low_watermark(partitions.alive)
            kept = []
            for offset, operation, index in waiting:
                if operation.done:
                    continue
                if low_watermark < offset:
                    kept.append((offset, operation, index))
                else:
                    self._end(operation, index, PartitionRecordsDeleted(replica.tp, _NONE, low_watermark))
            replica.waiting_deletes = kept or None

    def lost_leadership(self, replica: LeaderReplica) -> None:
        for _, operation, index in replica.waiting_deletes or ():
            if not operation.done:
                self._end(operation, index, PartitionRecordsDeleted(replica.tp, ErrorCode.NOT_LEADER_OR_FOLLOWER))
        replica.waiting_deletes = None

    def _end(self, operation: ParkedDelete, index: int, answer: PartitionRecordsDeleted) -> None:
        operation.answers[index] = answer
        del operation.open[index]
        if not operation.open:
            operation.done = True
            self._partitions.ctx.reply(operation.call, DeleteRecordsResponse(operation.answers))

    def expire(self, now_us: int) -> None:
        for operation in self.deletes.take_expired(now_us):
            for index in operation.open:
                tp = operation.answers[index].tp
                operation.answers[index] = PartitionRecordsDeleted(tp, ErrorCode.REQUEST_TIMED_OUT)
            self._partitions.ctx.reply(operation.call, DeleteRecordsResponse(operation.answers))
