"""Records that wait to be sent: one open batch per partition, filled column by column.

Mirrors:  rd_kafka_msgq_t of rd_kafka_toppar_t (the queue, its message ids), rd_kafka_topic_t's unassigned partition.
Rule 1:   nothing here runs per record but ``ProducerEngine.produce``, which appends to the open batch's lists itself.
Rule 2:   batches of a partition are queued by message id; a retried batch goes back to its place, unchanged.
Rule 3:   columns become a ``RecordBatch`` when first sent or reported; every retry shares them.
Differs:  librdkafka cuts batches when it sends and may cut a retry differently; here a batch stays what it was. Records that wait
          longer than ``linger.ms`` (no leader, say) are cut every 250 ms, so that a batch can time out as a whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from operator import attrgetter
from typing import Any

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_LEADER, NO_PRODUCER_ID, NodeId, TopicPartition
from kafkasim.core.model.message import fresh, slotted
from kafkasim.core.model.records import BATCH_OVERHEAD_BYTES, Columns, Headers, RecordBatch

#: What a batch weighs after compression, in percent: a model, since columns stay plain.
COMPRESSION_PERCENT = {"none": 100, "gzip": 35, "snappy": 50, "lz4": 50, "zstd": 35}

OFFSET_INVALID = -1001

#: Whether the records of a failed batch may be in the log (rd_kafka_msg_status_t).
NOT_PERSISTED = 0
POSSIBLY_PERSISTED = 1
PERSISTED = 2

_FIRST_MSGID = attrgetter("first_msgid")


@slotted
class ProducerBatch:
    """Consecutive records of one partition; ``first_msgid`` counts records of the partition from 1."""

    first_msgid: int
    first_us: int
    keys: list[bytes | None] = fresh(factory=list)
    values: list[bytes | None] = fresh(factory=list)
    timestamps_ms: list[int] = fresh(factory=list)
    opaques: list[Any] = fresh(factory=list)
    headers: list[Headers | None] | None = None
    size_bytes: int = BATCH_OVERHEAD_BYTES
    last_us: int = 0
    is_closed: bool = False
    retries: int = 0
    backoff_until_us: int = 0
    status: int = NOT_PERSISTED
    record_batch: RecordBatch | None = None
    #: How many batches its producer had opened then, itself included; 0: it never was in a partition's queue.
    number: int = 0

    @property
    def last_msgid(self) -> int:
        return self.first_msgid + len(self.values) - 1

    def seal(
        self, compression: str, producer_id: int = NO_PRODUCER_ID, producer_epoch: int = -1, base_sequence: int = -1
    ) -> RecordBatch:
        """The batch as it is sent; the same object again as long as the producer id and sequence are the same."""
        sealed = self.record_batch
        if sealed is None:
            size_bytes = self.size_bytes
            if compression != "none":
                payload_bytes = size_bytes - BATCH_OVERHEAD_BYTES
                size_bytes = BATCH_OVERHEAD_BYTES + payload_bytes * COMPRESSION_PERCENT[compression] // 100
            sealed = self.record_batch = RecordBatch(
                Columns(self.keys, self.values, self.timestamps_ms, self.headers),
                len(self.values),
                size_bytes,
                max(self.timestamps_ms),
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                base_sequence=base_sequence,
                compression=compression,
            )
        elif (sealed.producer_id, sealed.producer_epoch, sealed.base_sequence) != (
            producer_id,
            producer_epoch,
            base_sequence,
        ):
            sealed = self.record_batch = RecordBatch(
                sealed.columns,
                sealed.count,
                sealed.size_bytes,
                sealed.max_timestamp_ms,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                base_sequence=base_sequence,
                compression=compression,
            )
        return sealed


@slotted
class PartitionQueue:
    """What is queued and in flight for one partition, and where its idempotent numbering stands."""

    tp: TopicPartition
    leader: NodeId = NO_LEADER
    batches: deque[ProducerBatch] = fresh(factory=deque)
    #: The last of ``batches`` while it may still grow.
    open: ProducerBatch | None = None
    next_msgid: int = 1
    in_flight_records: int = 0

    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = -1
    base_msgid: int = 1
    next_ack_sequence: int = 0
    next_error_sequence: int = 0
    acked_msgid: int = 0
    wait_drain: bool = False

    def close_open(self) -> None:
        """No more records join the open batch."""
        batch = self.open
        if batch is not None:
            batch.is_closed = True
            self.next_msgid += len(batch.values)
            self.open = None

    def open_batch(self, now_us: int) -> ProducerBatch:
        self.close_open()
        batch = self.open = ProducerBatch(self.next_msgid, now_us)
        self.batches.append(batch)
        return batch

    def put_back(self, batch: ProducerBatch) -> None:
        """Queue a batch that has to be sent again at its place among the others."""
        self.batches.insert(bisect_left(self.batches, batch.first_msgid, key=_FIRST_MSGID), batch)

    def sequence_of(self, batch: ProducerBatch) -> int:
        return (batch.first_msgid - self.base_msgid) & 0x7FFFFFFF

    def take_all(self) -> list[ProducerBatch]:
        """Everything queued, and nothing stays."""
        self.close_open()
        taken = list(self.batches)
        self.batches.clear()
        return taken


@slotted
class UnassignedRecord:
    """A record of a topic whose partitions are not known yet."""

    value: bytes | None
    key: bytes | None
    partition: int
    timestamp_ms: int
    headers: Headers | None
    opaque: Any
    queued_us: int


@slotted
class TopicQueues:
    """A topic that is produced to. ``count`` is 0 until its partitions are known."""

    name: str
    count: int = 0
    queues: list[PartitionQueue] = fresh(factory=list)
    unassigned: list[UnassignedRecord] = fresh(factory=list)
    #: Not NONE: produce() is refused with this.
    error: ErrorCode = ErrorCode.NONE
    sticky_partition: int = 0
    sticky_until_us: int = -1


@slotted
class DeliveryReport:
    """The end of records ``[start, stop)`` of a batch; all share ``error`` (or ``base_offset`` + index).

    ``base_offset`` is OFFSET_INVALID when unknown (failed, acks=0). ``persisted``: 0 not, 1 possibly, 2 certainly in the log.
    ``tp.partition`` is -1 for a record that never got one. ``append_time_ms`` is the broker's time, -1 unless it stamps records.
    """

    tp: TopicPartition
    batch: RecordBatch
    error: ErrorCode
    base_offset: int
    persisted: int
    opaques: list[Any]
    start: int
    stop: int
    append_time_ms: int = -1
    error_message: str | None = None
    latency_us: int = 0
    queued_bytes: int = 0
    number: int = 0
    #: When the last record of the batch was produced, and when its end was known.
    sent_us: int = -1
    resolved_us: int = -1

    @property
    def count(self) -> int:
        return self.stop - self.start
