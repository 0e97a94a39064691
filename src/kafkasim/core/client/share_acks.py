"""What a share consumer's application has in its hands, and how it acknowledges it.

Mirrors:  rdkafka_share_acknowledgement.c (rkshare_inflight_acks, rd_kafka_share_build_ack_details).
Rule 1:   every offset that was acquired for the application is here until its acknowledgement is taken out to be sent.
Rule 2:   an acknowledgement may be changed until it is taken; what was taken is gone, whatever comes of it.
Rule 3:   acknowledgements go to the broker from which the records came, or fail here if it leads no more.
"""

from __future__ import annotations

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.message import slotted
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.model.share_messages import (
    ACK_ACCEPT,
    ACK_GAP,
    ACK_REJECT,
    ACK_RENEW,
    AcknowledgementBatch,
    TopicIdPartition,
)

#: Given to the application, not acknowledged yet.
HELD = -1


@slotted
class ShareRun:
    """Records ``[start, stop)`` of the columns of ``batch``, all delivered as often."""

    tp: TopicPartition
    batch: RecordBatch
    start: int
    stop: int
    delivery_count: int


@slotted
class Delivered:
    """The part of one fetch that is about one partition; ``gaps`` are acquired offsets without a record."""

    tp: TopicPartition
    tip: TopicIdPartition
    leader: NodeId
    runs: list[ShareRun]
    gaps: list[int]


@slotted
class AckBatch:
    """Acknowledgements of one partition on their way."""

    tp: TopicPartition
    tip: TopicIdPartition
    leader: NodeId
    types: dict[int, int]

    def runs(self) -> tuple[AcknowledgementBatch, ...]:
        """Neighbouring offsets with the same type as one batch."""
        offsets, types = sorted(self.types), self.types
        if offsets and offsets[-1] - offsets[0] + 1 == len(offsets) == list(types.values()).count(types[offsets[0]]):
            return (AcknowledgementBatch(offsets[0], offsets[-1], (types[offsets[0]],)),)
        batches: list[AcknowledgementBatch] = []
        first = last = kind = -2
        for offset in offsets:
            if offset == last + 1 and self.types[offset] == kind:
                last = offset
                continue
            if kind != -2:
                batches.append(AcknowledgementBatch(first, last, (kind,)))
            first, last, kind = offset, offset, self.types[offset]
        if kind != -2:
            batches.append(AcknowledgementBatch(first, last, (kind,)))
        return tuple(batches)

    @property
    def offsets(self) -> list[int]:
        """What the application acknowledged."""
        return sorted(offset for offset, kind in self.types.items() if kind != ACK_GAP)

    def merge(self, other: AckBatch) -> None:
        self.types.update(other.types)


class InFlight:
    """``held_count``: records that the application has not acknowledged."""

    def __init__(self) -> None:
        self._by_tp: dict[TopicPartition, AckBatch] = {}
        self.held_count = 0

    def add(self, delivered: Delivered) -> None:
        """The application gets these records now."""
        known = self._by_tp.get(delivered.tp)
        if known is None or known.tip != delivered.tip or known.leader != delivered.leader:
            known = self._by_tp[delivered.tp] = AckBatch(delivered.tp, delivered.tip, delivered.leader, {})
        types = known.types
        for run in delivered.runs:
            batch = run.batch
            if batch.offsets is None:
                types.update(dict.fromkeys(range(batch.offset_at(run.start), batch.offset_at(run.stop)), HELD))
            else:
                types.update(dict.fromkeys(batch.offsets[run.start : run.stop], HELD))
            self.held_count += run.stop - run.start
        types.update(dict.fromkeys(delivered.gaps, ACK_GAP))

    def acknowledge(self, tp: TopicPartition, offset: int, kind: int, *, renews: bool = False) -> ErrorCode:
        if not ACK_ACCEPT <= kind <= (ACK_RENEW if renews else ACK_REJECT):
            return ErrorCode._INVALID_ARG
        batch = self._by_tp.get(tp)
        before = None if batch is None else batch.types.get(offset)
        if batch is None or before is None or before == ACK_GAP:
            return ErrorCode._STATE
        if before == HELD:
            self.held_count -= 1
        batch.types[offset] = kind
        return ErrorCode.NONE

    def hold(self, renewed: AckBatch) -> None:
        """The application has these again, after a renewal."""
        known = self._by_tp.get(renewed.tp)
        if known is None:
            self._by_tp[renewed.tp] = renewed
        else:
            known.merge(renewed)
        self.held_count += len(renewed.types)

    def accept_all(self) -> None:
        """Implicit mode: whatever is held was fine."""
        for batch in self._by_tp.values():
            batch.types = {offset: ACK_ACCEPT if kind == HELD else kind for offset, kind in batch.types.items()}
        self.held_count = 0

    def take(self) -> list[AckBatch]:
        """Everything that is acknowledged, to be sent now; what is held stays."""
        taken: list[AckBatch] = []
        for tp, batch in list(self._by_tp.items()):
            types = {offset: kind for offset, kind in batch.types.items() if kind != HELD}
            if not types:
                continue
            taken.append(AckBatch(tp, batch.tip, batch.leader, types))
            if len(types) == len(batch.types):
                del self._by_tp[tp]
            else:
                batch.types = {offset: kind for offset, kind in batch.types.items() if kind == HELD}
        return taken

    def clear(self) -> None:
        self._by_tp.clear()
        self.held_count = 0
