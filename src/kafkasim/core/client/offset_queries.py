"""Asking leaders for offsets on the application's behalf: watermarks, and offsets by time.

Mirrors:  rd_kafka_query_watermark_offsets, rd_kafka_offsets_for_times.
Rule 1:   a query waits for leaders and retries what may pass, until its time is over.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.core.client.core import ClientCore
from kafkasim.core.model.errors import STALE_METADATA_CODES, ErrorCode
from kafkasim.core.model.ids import NO_LEADER, NO_NODE, NodeId, TopicPartition
from kafkasim.core.model.messages import (
    ListOffsetsRequest,
    ListOffsetsResponse,
    PartitionListOffsets,
    PartitionOffset,
)

_RETRIED = STALE_METADATA_CODES | {
    ErrorCode._TRANSPORT,
    ErrorCode._TIMED_OUT,
    ErrorCode._TIMED_OUT_QUEUE,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.OFFSET_NOT_AVAILABLE,
}


class OffsetQuery:
    """One round over all leaders concerned; ``on_end(answers, now_us)`` is called once, with an answer for every partition."""

    def __init__(
        self,
        core: ClientCore,
        wanted: list[tuple[TopicPartition, int]],
        isolation_level: int,
        until_us: int,
        on_end: Callable[[dict[TopicPartition, PartitionOffset], int], None],
    ) -> None:
        self._core = core
        self._timestamps = dict(wanted)
        self._isolation_level = isolation_level
        self._until_us = until_us
        self._on_end = on_end
        self._answers: dict[TopicPartition, PartitionOffset] = {}
        self._in_flight: dict[TopicPartition, None] = {}
        self._ended = False
        self._attempt = 0

    def start(self, now_us: int) -> None:
        for topic in dict.fromkeys(tp.topic for tp in self._timestamps):
            self._core.metadata.want(topic, now_us)
        self._core.call_at(self._until_us, self._expire)
        self._ask(now_us)

    def _ask(self, now_us: int) -> None:
        if self._ended:
            return
        metadata = self._core.metadata
        by_leader: dict[NodeId, list[PartitionListOffsets]] = {}
        unknown: dict[str, None] = {}
        for tp, timestamp_ms in self._timestamps.items():
            if tp in self._answers or tp in self._in_flight:
                continue
            topic = metadata.topic(tp.topic)
            if topic is not None and topic.partitions and tp.partition >= len(topic.partitions):
                self._answers[tp] = PartitionOffset(tp, ErrorCode._UNKNOWN_PARTITION)
            elif metadata.leader(tp) == NO_LEADER:
                unknown[tp.topic] = None
            else:
                self._in_flight[tp] = None
                by_leader.setdefault(metadata.leader(tp), []).append(PartitionListOffsets(tp, timestamp_ms))
        for node, partitions in by_leader.items():
            self._send(node, partitions, now_us)
        if unknown:
            self._core.refresh_topics(unknown, now_us)
            self._again(now_us)
        self._maybe_end(now_us)

    def _send(self, node: NodeId, partitions: list[PartitionListOffsets], now_us: int) -> None:
        def on_end(response: ListOffsetsResponse | None, error: ErrorCode, at_us: int) -> None:
            answers = {} if response is None else {answer.tp: answer for answer in response.partitions}
            failed: dict[str, None] = {}
            for part in partitions:
                self._in_flight.pop(part.tp, None)
                answer = answers.get(part.tp) or PartitionOffset(part.tp, error or ErrorCode._UNKNOWN_PARTITION)
                if answer.error in _RETRIED:
                    failed[part.tp.topic] = None
                else:
                    self._answers[part.tp] = answer
            if failed and not self._ended:
                self._core.refresh_topics(failed, at_us)
                self._again(at_us)
            self._maybe_end(at_us)

        request = ListOffsetsRequest(partitions, NO_NODE, self._isolation_level)
        self._core.send(node, request, on_end, now_us=now_us, timeout_us=max(1, self._until_us - now_us))

    def _again(self, now_us: int) -> None:
        self._attempt += 1
        self._core.call_at(min(now_us + self._core.retry_backoff_us(self._attempt), self._until_us), self._ask)

    def _maybe_end(self, now_us: int) -> None:
        if not self._ended and len(self._answers) == len(self._timestamps):
            self._ended = True
            self._on_end(self._answers, now_us)

    def _expire(self, now_us: int) -> None:
        for tp in self._timestamps:
            self._answers.setdefault(tp, PartitionOffset(tp, ErrorCode._TIMED_OUT))
        self._maybe_end(now_us)
