"""Fetching: where each partition starts, what is asked of which broker, and what becomes of the answers.

Mirrors:  rdkafka_fetcher.c, the fetch states of rdkafka_partition.c, rdkafka_offset.c (reset, epoch validation); KIP-320, KIP-392.
Inputs:   start, stop, seek, pause, resume, suspend, release, on_metadata, on_connection.      Effects: Send (through ``ClientCore``).
Rule 1:   one Fetch at a time is in flight to a broker, with all its partitions that want records; no fetch sessions.
Rule 2:   an answer for a partition whose version has changed since is ignored.
Rule 3:   work is per partition of an answer, not per batch or record.
Differs:  lookups of start offsets that become due together travel in one ListOffsets per leader.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.error_text import error_text, offset_text
from kafkasim.core.client.fetch_codes import LEADER_CODES, RESETS, RETRIABLE_CODES
from kafkasim.core.client.fetched import visible_batches
from kafkasim.core.client.items import AppQueue, ConsumerError, Run
from kafkasim.core.client.metadata import NOT_EXISTS
from kafkasim.core.client.subscription import (
    ACTIVE,
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    OFFSET_QUERY,
    OFFSET_STORED,
    OFFSET_TAIL_BASE,
    STOPPED,
    VALIDATE,
    Partition,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    NO_EPOCH,
    NO_LEADER,
    NO_NODE,
    NodeId,
    TopicPartition,
)
from kafkasim.core.model.message import fresh, slotted
from kafkasim.core.model.messages import (
    READ_COMMITTED,
    READ_UNCOMMITTED,
    FetchRequest,
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    PartitionEpochQuery,
    PartitionFetch,
    PartitionFetched,
    PartitionListOffsets,
    PartitionOffset,
)

_RETRY_US = 500_000
_RESET_RETRY_US = 100_000


@slotted
class _Source:
    """A broker that partitions are fetched from."""

    node: NodeId
    partitions: dict[TopicPartition, Partition] = fresh(factory=dict)
    in_flight: bool = False
    backoff_until_us: int = 0
    turn: int = 0
    timer: Timer | None = None


class Fetcher:
    """Puts runs of batches and errors into the application's queue."""

    def __init__(self, core: ClientCore, queue: AppQueue) -> None:
        config = core.config
        self._core = core
        self._queue = queue
        self._sources: dict[NodeId, _Source] = {}
        self._started: dict[TopicPartition, Partition] = {}
        self._unresolved: dict[TopicPartition, Partition] = {}
        self._resolve_timer: Timer | None = None
        self._suspended = False
        self._reset_offset = RESETS[str(config["auto.offset.reset"])]
        self._is_read_committed = str(config["isolation.level"]) == "read_committed"
        self._isolation_level = READ_COMMITTED if self._is_read_committed else READ_UNCOMMITTED
        self._wait_ms = config.ms("fetch.wait.max.ms")
        self._timeout_us = (config.ms("socket.timeout.ms") + self._wait_ms) * 1000
        self._min_bytes = config.integer("fetch.min.bytes")
        self._max_bytes = config.integer("fetch.max.bytes")
        self._partition_bytes = config.integer("max.partition.fetch.bytes")
        self._queued_messages = config.integer("queued.min.messages")
        self._queued_bytes = config.integer("queued.max.messages.kbytes") * 1024
        self._error_backoff_us = config.ms("fetch.error.backoff.ms") * 1000
        self._queue_backoff_us = config.ms("fetch.queue.backoff.ms") * 1000
        self._wants_eof = bool(config["enable.partition.eof"])
        self._rack_id = str(config["client.rack"] or "")

    # --- What the consumer asks for --------------------------------------------------------------------------------

    def start(self, partition: Partition, offset: int, epoch: int, now_us: int) -> None:
        """Begin at ``offset``; OFFSET_INVALID: nothing is committed, so auto.offset.reset decides."""
        self._core.want_topic(partition.tp.topic, now_us)
        partition.version += 1
        partition.clear_position()
        partition.eof_offset = OFFSET_INVALID
        partition.last_error = ErrorCode.NONE
        partition.backoff_until_us = 0
        self._started[partition.tp] = partition
        self._update_leader(partition, now_us)
        if offset == OFFSET_INVALID:
            partition.state = ACTIVE
            self._reset(
                partition, offset, ErrorCode._NO_OFFSET, "no previously committed offset available", NO_NODE, now_us
            )
        else:
            self._begin_at(partition, offset, epoch, now_us)

    def stop(self, partition: Partition) -> None:
        """The partition is not assigned any more."""
        partition.version += 1
        partition.state = STOPPED
        partition.asking = False
        partition.fetch_offset = OFFSET_INVALID
        partition.clear_position()
        self._queue.purge(partition)
        self._started.pop(partition.tp, None)
        self._unresolved.pop(partition.tp, None)
        source = self._sources.get(partition.broker)
        if source is not None:
            source.partitions.pop(partition.tp, None)
        partition.broker = partition.leader = NO_LEADER

    def seek(self, partition: Partition, offset: int, epoch: int, now_us: int) -> ErrorCode:
        if not partition.started:
            return ErrorCode._STATE
        if offset == OFFSET_STORED:
            return ErrorCode._INVALID_ARG
        self._bump(partition)
        partition.clear_position()
        if offset <= 0 or epoch == NO_EPOCH:
            self._begin_at(partition, offset, epoch, now_us)
        else:
            partition.fetch_offset, partition.fetch_epoch = offset, epoch
            partition.start_offset, partition.start_epoch = offset, epoch
            self._validate(partition, now_us)
        return ErrorCode.NONE

    def pause(self, partition: Partition) -> None:
        partition.app_paused = True
        self._rewind(partition)
        self._queue.purge(partition)

    def resume(self, partition: Partition, now_us: int) -> None:
        if partition.app_paused:
            partition.app_paused = False
            partition.version += 1
            if partition.started:
                self._fetch_soon(partition, now_us)

    def suspend(self) -> None:
        """A rebalance waits for the application: nothing is handed out or fetched, what was fetched is dropped."""
        self._suspended = True
        for partition in self._started.values():
            self._rewind(partition)
        self._queue.purge_partitions()

    def release(self, now_us: int) -> None:
        """The application has answered: everything that is (still) assigned goes on."""
        if self._suspended:
            self._suspended = False
            self._fetch_all(now_us)

    def on_metadata(self, topics: Iterable[str], now_us: int) -> None:
        """Partitions of ``topics`` may have other leaders."""
        changed = set(topics)
        for partition in list(self._started.values()):
            if partition.tp.topic in changed:
                self._update_leader(partition, now_us)
        self._resolve(now_us)

    def on_connection(self, node: NodeId, is_up: bool, now_us: int) -> None:
        source = self._sources.get(node)
        if source is None:
            return
        if not is_up:
            self._back_to_leaders(source, now_us)
        elif not source.in_flight:
            self._fetch(source, now_us)

    # --- Positions -------------------------------------------------------------------------------------------------

    def _bump(self, partition: Partition) -> None:
        partition.version += 1
        partition.asking = False
        partition.eof_offset = OFFSET_INVALID
        self._queue.purge(partition)

    def _rewind(self, partition: Partition) -> None:
        """What is queued or on its way is dropped; fetching goes on where the application is."""
        partition.version += 1
        partition.eof_offset = OFFSET_INVALID
        if partition.position != OFFSET_INVALID:
            partition.fetch_offset, partition.fetch_epoch = partition.position, partition.position_epoch
        elif partition.state == ACTIVE:
            partition.fetch_offset, partition.fetch_epoch = partition.start_offset, partition.start_epoch

    def _begin_at(self, partition: Partition, offset: int, epoch: int, now_us: int) -> None:
        partition.query_offset = OFFSET_INVALID
        if offset < 0:
            partition.query_offset = offset
            partition.fetch_offset = OFFSET_INVALID
            self._query(partition, 0, now_us)
            return
        partition.state = ACTIVE
        partition.fetch_offset, partition.fetch_epoch = offset, epoch
        partition.start_offset, partition.start_epoch = offset, epoch
        self._unresolved.pop(partition.tp, None)
        self._fetch_soon(partition, now_us)

    def _reset(self, partition: Partition, at: int, error: ErrorCode, reason: str, node: NodeId, now_us: int) -> None:
        """auto.offset.reset: go to an end of the log, or tell the application and stop."""
        if error != ErrorCode._NO_OFFSET and self._reset_offset != OFFSET_INVALID:
            self._core.on_position_moved(partition.tp, error, now_us)
        if self._reset_offset == OFFSET_INVALID:
            partition.state = STOPPED
            self._unresolved.pop(partition.tp, None)
            suffix = "" if node == NO_NODE else f" (broker {node})"
            text = f"{reason}: {error_text(error)}{suffix}"
            self._queue.put_error(ConsumerError(ErrorCode._AUTO_OFFSET_RESET, text, partition.tp, at), partition)
            self._core.wake = True
        elif self._reset_offset == OFFSET_BEGINNING and partition.log_start >= 0:
            self._begin_at(partition, partition.log_start, NO_EPOCH, now_us)
        else:
            partition.query_offset = self._reset_offset
            self._query(partition, _RESET_RETRY_US, now_us)

    def _query(self, partition: Partition, delay_us: int, now_us: int) -> None:
        partition.state = OFFSET_QUERY
        partition.retry_us = now_us + delay_us
        self._unresolved[partition.tp] = partition
        self._resolve_at(partition.retry_us)

    def _validate(self, partition: Partition, now_us: int) -> None:
        """Ask the leader whether its log still holds the epoch of the record before our position (KIP-320)."""
        if partition.fetch_epoch == NO_EPOCH:
            partition.state = ACTIVE
            self._fetch_soon(partition, now_us)
            return
        if partition.state == VALIDATE and partition.asking:
            return
        partition.state = VALIDATE
        partition.retry_us = now_us
        self._unresolved[partition.tp] = partition
        self._resolve_at(now_us)

    def _resolve_at(self, at_us: int) -> None:
        timer = self._resolve_timer
        if timer is not None and timer.callback is not None:
            if timer.at_us <= at_us:
                return
            timer.cancel()
        self._resolve_timer = self._core.call_at(at_us, self._resolve)

    def _resolve(self, now_us: int) -> None:
        """Send the lookups that are due: one ListOffsets and one OffsetForLeaderEpoch per leader."""
        queries: dict[NodeId, list[Partition]] = {}
        validations: dict[NodeId, list[Partition]] = {}
        later_us: int | None = None
        for partition in self._unresolved.values():
            if partition.asking or partition.leader == NO_LEADER:
                continue  # Metadata bring us back when there is a leader.
            if partition.retry_us > now_us:
                later_us = partition.retry_us if later_us is None else min(later_us, partition.retry_us)
                continue
            by_leader = queries if partition.state == OFFSET_QUERY else validations
            by_leader.setdefault(partition.leader, []).append(partition)
        for node, partitions in queries.items():
            self._send_list_offsets(node, partitions, now_us)
        for node, partitions in validations.items():
            self._send_epoch_queries(node, partitions, now_us)
        if later_us is not None:
            self._resolve_at(later_us)

    def _send_list_offsets(self, node: NodeId, partitions: list[Partition], now_us: int) -> None:
        asked: dict[TopicPartition, tuple[Partition, int]] = {}
        wanted: list[PartitionListOffsets] = []
        for partition in partitions:
            partition.asking = True
            asked[partition.tp] = (partition, partition.version)
            is_beginning = partition.query_offset == OFFSET_BEGINNING
            timestamp_ms = EARLIEST_TIMESTAMP if is_beginning else LATEST_TIMESTAMP
            wanted.append(PartitionListOffsets(partition.tp, timestamp_ms, partition.leader_epoch))

        def on_end(response: ListOffsetsResponse | None, error: ErrorCode, at_us: int) -> None:
            answers = {} if response is None else {answer.tp: answer for answer in response.partitions}
            for tp, (partition, version) in asked.items():
                if partition.version == version and partition.state == OFFSET_QUERY:
                    partition.asking = False
                    self._on_offset(partition, answers.get(tp), error, node, at_us)
                elif partition.state == OFFSET_QUERY and partition.asking:
                    partition.asking = False
                    self._query(partition, _RETRY_US, at_us)

        request = ListOffsetsRequest(wanted, NO_NODE, self._isolation_level)
        self._core.send(node, request, on_end, now_us=now_us)

    def _on_offset(
        self, partition: Partition, answer: PartitionOffset | None, error: ErrorCode, node: NodeId, now_us: int
    ) -> None:
        if answer is not None:
            error = answer.error
        elif error == ErrorCode.NONE:
            error = ErrorCode._UNKNOWN_PARTITION
        if error in RETRIABLE_CODES:
            if error not in (ErrorCode._TRANSPORT, ErrorCode._TIMED_OUT, ErrorCode._TIMED_OUT_QUEUE):
                self._core.leader_lost(partition.tp.topic, now_us)
            self._query(partition, _RETRY_US, now_us)
        elif answer is None or error != ErrorCode.NONE:
            asked = partition.query_offset
            self._reset(partition, asked, error, "failed to query logical offset", node, now_us)
            text = f"Failed to query logical offset {offset_text(asked)}: {error_text(error)}"
            self._queue.put_error(ConsumerError(error, text, partition.tp, asked), partition)
            self._core.wake = True
        else:
            offset = answer.offset
            if partition.query_offset <= OFFSET_TAIL_BASE:
                offset = max(0, offset - (OFFSET_TAIL_BASE - partition.query_offset))
            self._begin_at(partition, max(0, offset), answer.leader_epoch, now_us)

    def _send_epoch_queries(self, node: NodeId, partitions: list[Partition], now_us: int) -> None:
        asked: dict[TopicPartition, tuple[Partition, int]] = {}
        queries: list[PartitionEpochQuery] = []
        for partition in partitions:
            partition.asking = True
            asked[partition.tp] = (partition, partition.version)
            queries.append(PartitionEpochQuery(partition.tp, partition.fetch_epoch, partition.leader_epoch))

        def on_end(response: OffsetForLeaderEpochResponse | None, error: ErrorCode, at_us: int) -> None:
            ends = {} if response is None else {end.tp: end for end in response.partitions}
            for tp, (partition, version) in asked.items():
                if partition.state != VALIDATE:
                    continue
                partition.asking = False
                end = ends.get(tp) if partition.version == version else None
                if end is None or end.error != ErrorCode.NONE:
                    if partition.version == version:
                        self._core.leader_lost(tp.topic, at_us)
                    partition.retry_us = at_us + _RETRY_US
                    self._resolve_at(partition.retry_us)
                else:
                    self._on_epoch_end(partition, end.leader_epoch, end.end_offset, node, at_us)

        self._core.send(node, OffsetForLeaderEpochRequest(queries), on_end, now_us=now_us)

    def _on_epoch_end(self, partition: Partition, epoch: int, end_offset: int, node: NodeId, now_us: int) -> None:
        self._unresolved.pop(partition.tp, None)
        at = f"offset {partition.fetch_offset} (leader epoch {partition.fetch_epoch})"
        if end_offset < 0 or epoch < 0:
            reason = (
                f"No epoch found less or equal to {at}: broker end offset is {end_offset} "
                f"(offset leader epoch {epoch}). Reset using configured policy."
            )
            self._reset(partition, partition.fetch_offset, ErrorCode._LOG_TRUNCATION, reason, node, now_us)
        elif end_offset >= partition.fetch_offset:
            partition.state = ACTIVE
            self._fetch_soon(partition, now_us)
        elif self._reset_offset == OFFSET_INVALID:
            reason = (
                f"Partition log truncation detected at {at}: broker end offset is {end_offset} "
                f"(offset leader epoch {epoch}). Reset to INVALID."
            )
            self._reset(partition, OFFSET_INVALID, ErrorCode._LOG_TRUNCATION, reason, node, now_us)
        else:
            self._core.on_position_moved(partition.tp, ErrorCode._LOG_TRUNCATION, now_us)
            self._bump(partition)
            partition.clear_position()
            self._begin_at(partition, end_offset, epoch, now_us)

    # --- Leaders ---------------------------------------------------------------------------------------------------

    def _update_leader(self, partition: Partition, now_us: int) -> None:
        known = self._core.metadata.partition(partition.tp)
        leader = NO_LEADER if known is None else known.leader
        epoch = NO_EPOCH if known is None else known.leader_epoch
        is_newer = epoch > partition.leader_epoch
        if known is None:
            self._tell_missing(partition)
        if leader != partition.leader or partition.broker == NO_LEADER:
            partition.leader = leader
            self._fetch_from(partition, leader, now_us)
        partition.leader_epoch = epoch
        if partition.state in (ACTIVE, VALIDATE) and (is_newer or partition.state == VALIDATE):
            self._validate(partition, now_us)

    def _tell_missing(self, partition: Partition) -> None:
        """The cluster says that there is no such partition: an event of the client, told once."""
        topic = self._core.metadata.topic(partition.tp.topic)
        if topic is None or not (topic.partitions or topic.state == NOT_EXISTS):
            return
        code, reason = ErrorCode._UNKNOWN_PARTITION, "desired partition is not available"
        if topic.state == NOT_EXISTS:
            code, reason = topic.error, "topic does not exist"
        if partition.last_error != code:
            partition.last_error = code
            text = f"{partition.tp.topic} [{partition.tp.partition}]: {reason} ({error_text(code)})"
            self._core.emit_error(code, text)

    def _fetch_from(self, partition: Partition, node: NodeId, now_us: int) -> None:
        """Move ``partition`` among the brokers; NO_LEADER: it waits for metadata."""
        source = self._sources.get(partition.broker)
        if source is not None:
            source.partitions.pop(partition.tp, None)
        partition.broker = node
        if node != NO_LEADER:
            source = self._sources.get(node)
            if source is None:
                source = self._sources[node] = _Source(node)
            source.partitions[partition.tp] = partition
            self._fetch_soon(partition, now_us)

    # --- Fetching --------------------------------------------------------------------------------------------------

    def _fetch_soon(self, partition: Partition, now_us: int) -> None:
        """Fetch when the present input is over, so that partitions which become ready together travel together."""
        source = self._sources.get(partition.broker)
        if source is not None and not source.in_flight and not self._suspended:
            self._fetch_at(source, now_us)

    def _fetch_all(self, now_us: int) -> None:
        for source in self._sources.values():
            if not source.in_flight:
                self._fetch_at(source, now_us)

    def _fetch_at(self, source: _Source, at_us: int) -> None:
        timer = source.timer
        if timer is not None and timer.callback is not None:
            if timer.at_us <= at_us:
                return
            timer.cancel()
        source.timer = self._core.call_at(at_us, lambda now_us: self._fetch(source, now_us))

    def _fetch(self, source: _Source, now_us: int) -> None:
        if source.in_flight or self._suspended or not source.partitions:
            return
        if source.backoff_until_us > now_us:
            self._fetch_at(source, source.backoff_until_us)
            return
        queue = self._queue
        if queue.message_count >= self._queued_messages or queue.size_bytes >= self._queued_bytes:
            source.backoff_until_us = now_us + self._queue_backoff_us
            self._fetch_at(source, source.backoff_until_us)
            return
        wanted: list[PartitionFetch] = []
        asked: list[tuple[Partition, int]] = []
        later_us: int | None = None
        for partition in self._in_turn(source):
            if partition.state != ACTIVE or partition.app_paused:
                continue
            if partition.backoff_until_us > now_us:
                at_us = partition.backoff_until_us
                later_us = at_us if later_us is None else min(later_us, at_us)
                continue
            asked.append((partition, partition.version))
            wanted.append(
                PartitionFetch(partition.tp, partition.fetch_offset, self._partition_bytes, partition.leader_epoch)
            )
        if later_us is not None:
            self._fetch_at(source, later_us)
        if wanted:
            self._send_fetch(source, wanted, asked, now_us)

    def _in_turn(self, source: _Source) -> list[Partition]:
        """Another partition comes first in every request, so that a size limit starves none."""
        partitions = list(source.partitions.values())
        source.turn = turn = (source.turn + 1) % len(partitions)
        return partitions[turn:] + partitions[:turn] if turn else partitions

    def _send_fetch(
        self, source: _Source, wanted: list[PartitionFetch], asked: list[tuple[Partition, int]], now_us: int
    ) -> None:
        source.in_flight = True
        request = FetchRequest(
            NO_NODE,
            self._wait_ms,
            self._min_bytes,
            self._max_bytes,
            wanted,
            self._isolation_level,
            rack_id=self._rack_id,
        )

        def on_end(response: FetchResponse | None, error: ErrorCode, at_us: int) -> None:
            source.in_flight = False
            if response is None or response.error != ErrorCode.NONE:
                source.backoff_until_us = at_us + self._error_backoff_us
                self._back_to_leaders(source, at_us)
                self._fetch(source, at_us)
                return
            if response.node_endpoints:
                self._core.learn_brokers(response.node_endpoints)
            by_tp = {entry[0].tp: entry for entry in asked}
            for answer in response.partitions:
                entry = by_tp.get(answer.tp)
                if entry is not None and entry[0].version == entry[1] and entry[0].state == ACTIVE:
                    self._on_fetched(entry[0], answer, source, at_us)
            self._fetch(source, at_us)

        self._core.send(source.node, request, on_end, now_us=now_us, timeout_us=self._timeout_us)

    def _on_fetched(self, partition: Partition, answer: PartitionFetched, source: _Source, now_us: int) -> None:
        if answer.preferred_read_replica not in (NO_NODE, source.node):
            self._lease(partition, answer.preferred_read_replica, now_us)
            return
        if partition.broker != source.node:
            return  # It moved to another broker meanwhile.
        if partition.broker != partition.leader and now_us >= partition.lease_until_us:
            self._fetch_from(partition, partition.leader, now_us)
        if answer.error != ErrorCode.NONE:
            self._on_fetch_error(partition, answer, source, now_us)
            return
        end_offset = answer.high_watermark
        if self._is_read_committed and answer.last_stable_offset >= 0:
            end_offset = answer.last_stable_offset
        partition.high_watermark, partition.end_offset = answer.high_watermark, end_offset
        if answer.log_start_offset >= 0:
            partition.log_start = answer.log_start_offset
        partition.last_error = ErrorCode.NONE
        batches = answer.batches
        if batches:
            self._take_batches(partition, answer)
        elif partition.fetch_offset == end_offset and partition.eof_offset != end_offset:
            partition.eof_offset = end_offset
            if self._wants_eof:
                text = (
                    f"Fetch from broker {source.node} reached end of partition at offset {end_offset} "
                    f"(HighwaterMark {answer.high_watermark})"
                )
                self._queue.put_error(
                    ConsumerError(ErrorCode._PARTITION_EOF, text, partition.tp, end_offset), partition
                )
                self._core.wake = True

    def _lease(self, partition: Partition, replica: NodeId, now_us: int) -> None:
        """The leader sends us to another replica; if it does so again soon, that one may be gone: no hurry (KIP-392)."""
        is_known = replica in self._core.metadata.brokers
        if not partition.lease(now_us) or not is_known:
            partition.backoff_until_us = now_us + self._error_backoff_us
        if is_known:
            self._fetch_from(partition, replica, now_us)
        else:
            self._core.refresh_brokers(now_us)

    def _back_to_leaders(self, source: _Source, now_us: int) -> None:
        """The connection is gone: what was only read there by preference is read from its leader."""
        for partition in list(source.partitions.values()):
            if partition.leader != source.node:
                self._fetch_from(partition, partition.leader, now_us)

    def _take_batches(self, partition: Partition, answer: PartitionFetched) -> None:
        last = answer.batches[-1]
        next_offset = partition.fetch_offset
        if last.next_offset <= next_offset:
            return
        aborted = answer.aborted_transactions if self._is_read_committed else ()
        visible, size_bytes = visible_batches(answer.batches, aborted)
        partition.fetch_offset, partition.fetch_epoch = last.next_offset, last.leader_epoch
        self._queue.put_run(Run(partition, visible, next_offset, last.next_offset, last.leader_epoch, size_bytes))
        self._core.wake = True

    def _on_fetch_error(self, partition: Partition, answer: PartitionFetched, source: _Source, now_us: int) -> None:
        error = answer.error
        offset = partition.fetch_offset
        if error in LEADER_CODES:
            if partition.broker != partition.leader:
                self._fetch_from(partition, partition.leader, now_us)
            if not self._core.leader_hint(partition.tp, answer.current_leader, answer.current_leader_epoch, now_us):
                self._core.leader_lost(partition.tp.topic, now_us)
        elif error == ErrorCode.OFFSET_OUT_OF_RANGE:
            if partition.broker != partition.leader and offset > answer.high_watermark:
                self._fetch_from(partition, partition.leader, now_us)
            else:
                partition.log_start = OFFSET_INVALID if answer.log_start_offset < 0 else answer.log_start_offset
                reason = "fetch failed due to requested offset not available on the broker"
                self._reset(partition, offset, error, reason, source.node, now_us)
        elif error != ErrorCode.TOPIC_AUTHORIZATION_FAILED or partition.last_error != error:
            text = f"Fetch from broker {source.node} failed at offset {offset}: {error_text(error)}"
            if error == ErrorCode.TOPIC_AUTHORIZATION_FAILED:
                text = f"Fetch from broker {source.node} failed: {error_text(error)}"
            partition.last_error = error
            self._queue.put_error(ConsumerError(error, text, partition.tp, offset), partition)
            self._core.wake = True
        backoff_us = self._error_backoff_us
        if error == ErrorCode.TOPIC_AUTHORIZATION_FAILED:
            backoff_us = max(1_000_000, backoff_us * 10)
        partition.backoff_until_us = now_us + backoff_us
