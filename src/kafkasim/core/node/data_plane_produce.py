"""Produce: appends of clients and of this broker's own coordinators.

Mirrors:  KafkaApis.handleProduceRequest, ReplicaManager.appendRecords, DelayedProduce.
Inputs:   on_produce, append.      Effects: Reply.
Rule 1:   acks=1 and acks=0 are answered (or not) after the local append; acks=all when the high watermark covers the batches.
Rule 2:   a retry of one of a producer's last five batches is answered with the offset that it has, and appends nothing.
Differs:  an error at acks=0 does not close the connection; batches are never recompressed.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import CONSUMER_OFFSETS_TOPIC, TopicPartition
from kafkasim.core.model.messages import PartitionProduce, PartitionProduced, ProduceRequest, ProduceResponse
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.node.context import Call
from kafkasim.core.node.data_plane_partitions import ParkedAppend, ParkedProduce, Partitions
from kafkasim.core.replica.leader import LeaderReplica

_NONE = ErrorCode.NONE
_DUPLICATE = ErrorCode.DUPLICATE_SEQUENCE_NUMBER

#: Topics that only coordinators write to.
_INTERNAL_TOPICS = frozenset({CONSUMER_OFFSETS_TOPIC, "__transaction_state", "__share_group_state"})


class Produces:
    """Stateless but for what it parks in ``partitions``."""

    __slots__ = ("_partitions",)

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions

    def on_produce(self, call: Call, now_us: int) -> None:
        request: ProduceRequest = call.request
        partitions = self._partitions
        acks = request.acks
        if acks not in (-1, 0, 1):
            refused = [PartitionProduced(p.tp, ErrorCode.INVALID_REQUIRED_ACKS) for p in request.partitions]
            partitions.ctx.reply(call, ProduceResponse(refused))
            return
        replicas = partitions.replicas
        wall_ms = partitions.ctx.wall_ms(now_us)
        answers: list[PartitionProduced] = []
        meters = partitions.ctx.meters
        written: list[tuple[LeaderReplica, int]] = []
        waiting: list[tuple[int, LeaderReplica, int]] = []
        for part in request.partitions:
            tp = part.tp
            replica = replicas.get(tp)
            if replica is None or not isinstance(replica, LeaderReplica) or tp.topic in _INTERNAL_TOPICS:
                answers.append(self._refuse(part))
                continue
            batch = part.batch
            error, offset = replica.check(batch, acks, wall_ms)
            log = replica.log
            if error is _NONE:
                placed = replica.append(batch, wall_ms)
                offset = placed.base_offset
                written.append((replica, placed.size_bytes))
                if meters is not None:
                    meters.appended(tp.topic, batch.count, placed.size_bytes, now_us)
            elif error is not _DUPLICATE:
                partitions.refused(replica, error, now_us)
                answers.append(PartitionProduced(tp, error, -1, -1, log.start))
                continue
            append_time_ms = wall_ms if log.settings.log_append_time else -1
            waiting.append((len(answers), replica, offset + batch.count))
            answers.append(PartitionProduced(tp, _NONE, offset, append_time_ms, log.start))
        if acks == -1:
            self._answer_when_committed(call, request, answers, waiting, written, now_us)
            return
        for leader, size_bytes in written:
            partitions.appended(leader, size_bytes, now_us)
        endpoints = partitions.take_endpoints() if partitions.hinted else ()
        partitions.ctx.reply(call, ProduceResponse(answers, endpoints) if acks else None)

    def _answer_when_committed(
        self,
        call: Call,
        request: ProduceRequest,
        answers: list[PartitionProduced],
        waiting: list[tuple[int, LeaderReplica, int]],
        written: list[tuple[LeaderReplica, int]],
        now_us: int,
    ) -> None:
        """Park first, then move the marks: a partition without followers commits at once."""
        partitions = self._partitions
        unmet = [entry for entry in waiting if entry[1].high_watermark < entry[2]]
        operation: ParkedProduce | None = None
        if unmet:
            operation = ParkedProduce(call, answers, [index for index, _, _ in unmet])
            for index, replica, required_end in unmet:
                partitions.wait(replica, required_end, operation, index)
        for replica, size_bytes in written:
            partitions.appended(replica, size_bytes, now_us)
        endpoints = partitions.take_endpoints() if partitions.hinted else ()
        if operation is None:
            partitions.ctx.reply(call, ProduceResponse(answers, endpoints))
        elif not operation.done:
            partitions.produces.park(operation, request.timeout_ms * 1000, now_us)

    def _refuse(self, part: PartitionProduce) -> PartitionProduced:
        tp = part.tp
        if tp.topic in _INTERNAL_TOPICS:
            return PartitionProduced(tp, ErrorCode.INVALID_TOPIC_EXCEPTION)
        state = self._partitions.ctx.image.partition(tp)
        if state is None:
            return PartitionProduced(tp, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        self._partitions.hinted.append(state.leader)
        return PartitionProduced(
            tp,
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            current_leader=state.leader,
            current_leader_epoch=self._partitions.ctx.told_epoch(state.leader_epoch),
        )

    def append(
        self,
        tp: TopicPartition,
        batch: RecordBatch,
        now_us: int,
        on_done: Callable[[ErrorCode, int, int], None],
        timeout_us: int,
    ) -> ErrorCode:
        partitions = self._partitions
        replica = partitions.replicas.get(tp)
        if not isinstance(replica, LeaderReplica):
            return partitions.missing(tp)
        wall_ms = partitions.ctx.wall_ms(now_us)
        error, _ = replica.check(batch, -1, wall_ms)
        if error is not _NONE:
            return error
        placed = replica.append(batch, wall_ms)
        if partitions.ctx.meters is not None:
            partitions.ctx.meters.appended(tp.topic, batch.count, placed.size_bytes, now_us)
        operation = ParkedAppend(placed.base_offset, on_done)
        partitions.wait(replica, placed.next_offset, operation, 0)
        partitions.appended(replica, placed.size_bytes, now_us)
        if not operation.done:
            partitions.produces.park(operation, timeout_us, now_us)
        return _NONE
