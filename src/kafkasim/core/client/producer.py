"""The producer of one client: takes records, hands them to the sender by partition, and gives reports back.

Mirrors:  rd_kafka_producev, rd_kafka_msg_partitioner, rd_kafka_flush, rd_kafka_purge of librdkafka 2.16.
Inputs:   produce, take_reports, begin_flush, end_flush, purge, and those of every client node.      Effects: Send.
Rule 1:   ``produce`` is the only code that runs per record; it makes no object, but appends to lists.
Rule 2:   records of a topic whose partitions are unknown wait unassigned and are partitioned when metadata come.
Differs:  transactions are not modelled yet; message timeouts are looked for once a second, as in librdkafka.
"""

from __future__ import annotations

from typing import Any

from kafkasim.core.client.accumulator import (
    OFFSET_INVALID,
    DeliveryReport,
    PartitionQueue,
    ProducerBatch,
    TopicQueues,
    UnassignedRecord,
)
from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.metadata import ERROR, EXISTS, NOT_EXISTS, KnownTopic
from kafkasim.core.client.partitioners import Partitioner, draw_partition
from kafkasim.core.client.sender import Sender
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_LEADER, Draw, NodeId, TopicPartition
from kafkasim.core.model.messages import PartitionProduced
from kafkasim.core.model.records import BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Headers

UNASSIGNED_PARTITION = -1

_SCAN_US = 1_000_000
#: librdkafka counts this much for the framing of a record when it holds it against ``message.max.bytes``.
_MAX_RECORD_OVERHEAD_BYTES = 36
_HEADER_OVERHEAD_BYTES = 10
#: The least time after which a batch that cannot leave is cut.
_MIN_CUT_US = 250_000


class ProducerEngine(ClientCore):
    """``message_count``: records queued, in flight, or in reports not taken yet."""

    KIND = "producer"

    def __init__(
        self, node_id: NodeId, config: ClientConfig, bootstrap: tuple[NodeId, ...], draw: Draw, wall_offset_us: int
    ) -> None:
        super().__init__(node_id, config, bootstrap, draw, wall_offset_us)
        self.message_count = 0
        self._queued_bytes = 0
        self._topics: dict[str, TopicQueues] = {}
        self._reports: list[DeliveryReport] = []
        self._opened = 0
        self._sender = Sender(self, self._report_batch)
        self._partitioner = Partitioner(config.text("partitioner"))
        self._key_hash = self._partitioner.key_hash
        self._sticky_us = config.ms("sticky.partitioning.linger.ms") * 1000
        self._max_messages = config.integer("queue.buffering.max.messages")
        self._max_queued_bytes = config.integer("queue.buffering.max.kbytes") * 1024
        if self._max_messages == 0:
            self._max_messages = 1 << 62
        self._max_record_bytes = config.integer("message.max.bytes") - _MAX_RECORD_OVERHEAD_BYTES
        self._batch_records = config.integer("batch.num.messages")
        self._batch_bytes = min(config.integer("batch.size"), config.integer("message.max.bytes"))
        self._cut_us = max(self._sender.linger_us, _MIN_CUT_US)
        self._compression = config.text("compression.type")
        self._only_errors = config.flag("delivery.report.only.error")
        self._scan_messages_timer: Timer | None = None

    # --- Taking records --------------------------------------------------------------------------------------------

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        timestamp_ms: int,
        headers: Headers | None,
        opaque: Any,
        now_us: int,
    ) -> ErrorCode:
        """Queue one record; ``partition`` -1 leaves it to the partitioner, ``timestamp_ms`` 0 means now."""
        size = len(value) if value else 0
        if key:
            size += len(key)
        if headers:
            for name, content in headers:
                size += len(name) + _HEADER_OVERHEAD_BYTES
                if content:
                    size += len(content)
        if size > self._max_record_bytes:
            return ErrorCode.MESSAGE_TOO_LARGE
        if self.message_count >= self._max_messages or self._queued_bytes + size > self._max_queued_bytes:
            return ErrorCode._QUEUE_FULL

        queues = self._topics.get(topic)
        if queues is None or queues.count == 0 or self.fatal_error:
            return self._produce_unassigned(topic, value, key, partition, timestamp_ms, headers, opaque, size, now_us)
        if partition < 0:
            if partition != UNASSIGNED_PARTITION:
                return self._produce_nowhere(queues, value, key, partition, timestamp_ms, headers, opaque, size, now_us)
            if key and self._key_hash is not None:
                partition = self._key_hash(key) % queues.count
            else:
                partition = self._choose_partition(queues, key, now_us)
        elif partition >= queues.count:
            return self._produce_nowhere(queues, value, key, partition, timestamp_ms, headers, opaque, size, now_us)

        queue = queues.queues[partition]
        batch = queue.open
        size += RECORD_OVERHEAD_BYTES
        if batch is None or batch.size_bytes + size > self._batch_bytes or now_us - batch.first_us > self._cut_us:
            batch = self._open_batch(queue, now_us)
        batch.values.append(value)
        batch.keys.append(key)
        batch.timestamps_ms.append(timestamp_ms or (now_us + self.wall_offset_us) // 1000)
        batch.opaques.append(opaque)
        if headers or batch.headers is not None:
            _add_headers(batch, headers)
        batch.size_bytes += size
        batch.last_us = now_us
        self.message_count += 1
        self._queued_bytes += size
        if len(batch.values) >= self._batch_records:
            queue.close_open()
            self._sender.wake_at(now_us)
        return ErrorCode.NONE

    def _open_batch(self, queue: PartitionQueue, now_us: int) -> ProducerBatch:
        sender = self._sender
        if queue.open is not None:
            sender.wake_at(now_us)  # What was open is full.
        batch = queue.open_batch(now_us)
        self._opened += 1
        batch.number = self._opened
        sender.add(queue)
        sender.wake_at(now_us if sender.flushing else now_us + sender.linger_us)
        if self._scan_messages_timer is None:
            self._start_scan_messages(now_us)
        return batch

    def _choose_partition(self, queues: TopicQueues, key: bytes | None, now_us: int) -> int:
        """No key, or one that does not decide: the sticky partition of the moment, or a random one."""
        partition = self._partitioner.of_key(key, queues.count)
        if partition >= 0:
            return partition
        is_sticky = self._sticky_us > 0 and (key is None or self._partitioner.key_hash is not None)
        if not is_sticky:
            return self._draw_partition(queues)
        if now_us > queues.sticky_until_us or queues.queues[queues.sticky_partition].leader == NO_LEADER:
            queues.sticky_partition = self._draw_partition(queues)
            queues.sticky_until_us = now_us + self._sticky_us
        return queues.sticky_partition

    def _draw_partition(self, queues: TopicQueues) -> int:
        all_queues = queues.queues
        return draw_partition(self.draw, queues.count, lambda partition: all_queues[partition].leader != NO_LEADER)

    def _produce_unassigned(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        timestamp_ms: int,
        headers: Headers | None,
        opaque: Any,
        size: int,
        now_us: int,
    ) -> ErrorCode:
        """The topic's partitions are unknown: keep the record until they are, unless the topic is known not to exist."""
        if self.fatal_error != ErrorCode.NONE:
            return ErrorCode._FATAL
        if self.closed:
            return ErrorCode._DESTROY
        queues = self._topics.get(topic)
        if queues is None:
            queues = self._topics[topic] = TopicQueues(topic)
            self.want_topic(topic, now_us)
            self._adopt_metadata(self.metadata.want(topic, now_us), now_us)
            if queues.count > 0:  # Metadata were there already, by list_topics.
                return self.produce(topic, value, key, partition, timestamp_ms, headers, opaque, now_us)
        if queues.error != ErrorCode.NONE:
            return queues.error
        stamp_ms = timestamp_ms or self.wall_ms(now_us)
        queues.unassigned.append(UnassignedRecord(value, key, partition, stamp_ms, headers, opaque, now_us))
        self.message_count += 1
        self._queued_bytes += size + RECORD_OVERHEAD_BYTES
        if self._scan_messages_timer is None:
            self._start_scan_messages(now_us)
        return ErrorCode.NONE

    def _produce_nowhere(
        self,
        queues: TopicQueues,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        timestamp_ms: int,
        headers: Headers | None,
        opaque: Any,
        size: int,
        now_us: int,
    ) -> ErrorCode:
        """The partition does not exist: taken, and reported as failed."""
        stamp_ms = timestamp_ms or self.wall_ms(now_us)
        record = UnassignedRecord(value, key, partition, stamp_ms, headers, opaque, now_us)
        self.message_count += 1
        self._queued_bytes += size + RECORD_OVERHEAD_BYTES
        self._fail_unassigned(queues.name, [record], ErrorCode._UNKNOWN_PARTITION, now_us)
        return ErrorCode.NONE

    # --- Metadata and connections ------------------------------------------------------------------------------------

    def on_start(self, now_us: int) -> None:
        self._sender.identity.start(now_us)

    def on_metadata(self, changed: list[str], is_full: bool, now_us: int) -> None:
        for name in changed:
            if name in self._topics:
                self._adopt_metadata(self.metadata.want(name, now_us), now_us)

    def on_connection(self, node: NodeId, channel: int, is_up: bool, now_us: int) -> None:
        if is_up:
            self._sender.identity.on_connection_up(now_us)
            self._sender.wake_at(now_us)
        elif self._sender.has_waiting:
            self._sender.wake_at(now_us)

    def _adopt_metadata(self, known: KnownTopic, now_us: int) -> None:
        queues = self._topics[known.name]
        if known.state in (NOT_EXISTS, ERROR):
            queues.error = known.error if known.state == ERROR else ErrorCode._UNKNOWN_TOPIC
            self._drop_topic(queues, known.error, now_us)
            return
        if known.state != EXISTS:
            return
        queues.error = ErrorCode.NONE
        is_new = not queues.queues
        for part in known.partitions:
            if part.partition >= len(queues.queues):
                queues.queues.append(PartitionQueue(TopicPartition(known.name, part.partition), part.leader))
            else:
                self._sender.on_leader(queues.queues[part.partition], part.leader, now_us)
        queues.count = len(known.partitions)
        self._assign(queues, is_new, now_us)

    def _assign(self, queues: TopicQueues, is_new: bool, now_us: int) -> None:
        """Partition what was produced before the partitions were known."""
        records, queues.unassigned = queues.unassigned, []
        failed = []
        for record in records:
            size = _payload_bytes(record)
            self.message_count -= 1
            self._queued_bytes -= size + RECORD_OVERHEAD_BYTES
            if not UNASSIGNED_PARTITION <= record.partition < queues.count:
                self.message_count += 1
                self._queued_bytes += size + RECORD_OVERHEAD_BYTES
                failed.append(record)
                continue
            if is_new:
                # No broker has taken the partitions over yet, so none can be stuck to: each record without key is drawn anew.
                queues.sticky_until_us = -1
            error = self.produce(
                queues.name,
                record.value,
                record.key,
                record.partition,
                record.timestamp_ms,
                record.headers,
                record.opaque,
                now_us,
            )
            assert error == ErrorCode.NONE
        for queue in queues.queues if records else ():
            for batch in queue.batches:  # Linger and timeout count from produce().
                batch.first_us, batch.last_us = records[0].queued_us, records[-1].queued_us
        self._sender.wake_at(now_us)
        if failed:
            self._fail_unassigned(queues.name, failed, ErrorCode._UNKNOWN_PARTITION, now_us)

    def _drop_topic(self, queues: TopicQueues, error: ErrorCode, now_us: int) -> None:
        queues.count = 0
        for queue in queues.queues:
            self._sender.purge_queue(queue, error, now_us)
            self._sender.on_leader(queue, NO_LEADER, now_us)
        queues.queues = []
        records, queues.unassigned = queues.unassigned, []
        if records:
            self._fail_unassigned(queues.name, records, error, now_us)

    # --- Reports -----------------------------------------------------------------------------------------------------

    @property
    def has_reports(self) -> bool:
        return bool(self._reports)

    def take_reports(self, max_messages: int) -> list[DeliveryReport]:
        """Reports of at most ``max_messages`` records (0: all), oldest first; a large one is split."""
        if not self._reports:
            return []
        taken: list[DeliveryReport] = []
        room = max_messages if max_messages > 0 else self.message_count
        pending = self._reports
        index = 0
        while index < len(pending) and room > 0:
            report = pending[index]
            if report.count > room:
                taken.append(_split(report, room))
                room = 0
            else:
                taken.append(report)
                room -= report.count
                index += 1
        self._reports = pending[index:]
        for report in taken:
            self.message_count -= report.count
            self._queued_bytes -= report.queued_bytes
        return taken

    @property
    def outq_len(self) -> int:
        """What librdkafka's rd_kafka_outq_len counts: records, and what waits to be polled."""
        return self.message_count + len(self._reports) + self.event_count

    def _report_batch(
        self,
        queue: PartitionQueue,
        batch: ProducerBatch,
        error: ErrorCode,
        base_offset: int,
        answer: PartitionProduced | None,
        now_us: int,
    ) -> None:
        sealed = batch.record_batch or batch.seal(self._compression)
        if self._only_errors and error == ErrorCode.NONE:
            self.message_count -= sealed.count
            self._queued_bytes -= batch.size_bytes - BATCH_OVERHEAD_BYTES
            self.wake = True
            return
        report = DeliveryReport(
            queue.tp,
            sealed,
            error,
            base_offset,
            batch.status,
            batch.opaques,
            0,
            sealed.count,
            answer.log_append_time_ms if answer is not None else -1,
            answer.error_message if answer is not None else None,
            now_us - batch.first_us,
            batch.size_bytes - BATCH_OVERHEAD_BYTES,
            batch.number,
            batch.last_us,
            now_us,
        )
        self._reports.append(report)
        self.wake = True

    def _fail_unassigned(self, topic: str, records: list[UnassignedRecord], error: ErrorCode, now_us: int) -> None:
        """Report records that never reached a partition's queue."""
        by_partition: dict[int, ProducerBatch] = {}
        for record in records:
            batch = by_partition.get(record.partition)
            if batch is None:
                batch = by_partition[record.partition] = ProducerBatch(0, record.queued_us)
            batch.values.append(record.value)
            batch.keys.append(record.key)
            batch.timestamps_ms.append(record.timestamp_ms)
            batch.opaques.append(record.opaque)
            if record.headers or batch.headers is not None:
                _add_headers(batch, record.headers)
            batch.size_bytes += _payload_bytes(record) + RECORD_OVERHEAD_BYTES
        for partition, batch in by_partition.items():
            queue = PartitionQueue(TopicPartition(topic, partition))
            self._report_batch(queue, batch, error, OFFSET_INVALID, None, now_us)

    # --- Flushing, purging, closing ------------------------------------------------------------------------------------

    def begin_flush(self, now_us: int) -> None:
        """Ignore ``linger.ms`` from now on."""
        self._sender.flushing += 1
        self._sender.wake_at(now_us)

    def end_flush(self) -> None:
        self._sender.flushing -= 1
        assert self._sender.flushing >= 0

    def purge(self, in_queue: bool, in_flight: bool, now_us: int) -> None:
        """Report what waits, what is in flight, or both, as failed."""
        if in_flight:
            self._sender.purge_in_flight(now_us)
        if not in_queue:
            return
        for queues in self._topics.values():
            for queue in queues.queues:
                if queue.batches:
                    self._sender.purge_queue(queue, ErrorCode._PURGE_QUEUE, now_us)
            records, queues.unassigned = queues.unassigned, []
            if records:
                self._fail_unassigned(queues.name, records, ErrorCode._PURGE_QUEUE, now_us)

    def _start_scan_messages(self, now_us: int) -> None:
        if self._sender.message_timeout_us > 0:
            self._scan_messages_timer = self.call_at(now_us + _SCAN_US, self._scan_messages)

    def _scan_messages(self, now_us: int) -> None:
        """Report what has waited too long; runs while anything waits."""
        self._scan_messages_timer = None
        self._sender.expire(now_us)
        oldest_us = now_us - self._sender.message_timeout_us
        has_unassigned = False
        for queues in self._topics.values():
            records = queues.unassigned
            if records and records[0].queued_us <= oldest_us:
                late = [record for record in records if record.queued_us <= oldest_us]
                queues.unassigned = [record for record in records if record.queued_us > oldest_us]
                self._fail_unassigned(queues.name, late, ErrorCode._MSG_TIMED_OUT, now_us)
            has_unassigned = has_unassigned or bool(queues.unassigned)
        if has_unassigned or self._sender.has_waiting:
            self._start_scan_messages(now_us)

    def stats(self, now_us: int) -> dict[str, Any]:
        sender = self._sender
        return {
            "msg_cnt": self.message_count,
            "msg_size": self._queued_bytes,
            "msg_max": self._max_messages,
            "msg_size_max": self._max_queued_bytes,
            "tx": sender.requests,
            "txmsgs": sender.sent_records,
            "txmsg_bytes": sender.sent_bytes,
        }


def _add_headers(batch: ProducerBatch, headers: Headers | None) -> None:
    if batch.headers is None:
        batch.headers = [None] * (len(batch.values) - 1)
    batch.headers.append(headers or None)


def _payload_bytes(record: UnassignedRecord) -> int:
    size = len(record.value or b"") + len(record.key or b"")
    for name, content in record.headers or ():
        size += len(name) + len(content or b"") + _HEADER_OVERHEAD_BYTES
    return size


def _split(report: DeliveryReport, count: int) -> DeliveryReport:
    """Cut the first ``count`` records off ``report``."""
    first = DeliveryReport(
        report.tp,
        report.batch,
        report.error,
        report.base_offset,
        report.persisted,
        report.opaques,
        report.start,
        report.start + count,
        report.append_time_ms,
        report.error_message,
        report.latency_us,
        0,
        report.number,
        report.sent_us,
        report.resolved_us,
    )
    first.queued_bytes = _queued_bytes(first)
    report.queued_bytes -= first.queued_bytes
    report.start += count
    return first


def _queued_bytes(report: DeliveryReport) -> int:
    """What the records of ``report`` count against ``queue.buffering.max.kbytes``."""
    columns = report.batch.columns
    start, stop = report.start, report.stop
    size = RECORD_OVERHEAD_BYTES * (stop - start)
    size += sum(map(len, filter(None, columns.values[start:stop])))
    size += sum(map(len, filter(None, columns.keys[start:stop])))
    for headers in columns.headers[start:stop] if columns.headers is not None else ():
        for name, content in headers or ():
            size += len(name) + len(content or b"") + _HEADER_OVERHEAD_BYTES
    return size
