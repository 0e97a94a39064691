"""The share coordinator of one broker: a shard for every ``__share_group_state`` partition that it leads.

Mirrors:  org.apache.kafka.coordinator.share.ShareCoordinatorService and its CoordinatorRuntime (KIP-932).
Inputs:   the five requests about share group state, from brokers; leadership of ``__share_group_state`` by ``on_image``.
Rule 1:   records are appended with acks=all; a request is answered when its records are committed.
Rule 2:   a shard whose records are refused by the log is loaded anew.
Differs:  a shard loads in no virtual time; cold partitions get no snapshot by time, and the state topic is never pruned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.controller.image import ImageDelta
from kafkasim.core.group.effects import append_error
from kafkasim.core.group.partitioning import coordinator_partition
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import batch_of
from kafkasim.core.model.share_messages import (
    SHARE_GROUP_STATE_TOPIC,
    DeleteShareGroupStateRequest,
    InitializeShareGroupStateRequest,
    PartitionState,
    ShareGroupStateResponse,
    TopicIdPartition,
)
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.data_plane import DataPlane
from kafkasim.core.node.share_notes import ShareNotes
from kafkasim.core.share.coordinator import (
    STATE_REQUESTS,
    Records,
    ShareCoordinatorShard,
    StateRequest,
    coordinator_key,
)


class ShareCoordinator:
    """A component of the broker node; the broker's own persister asks it without a network between (``handle``)."""

    API_KEYS: tuple[int, ...] = tuple(request.API_KEY for request in STATE_REQUESTS)
    deadline_us = NEVER_US

    def __init__(self, ctx: BrokerContext, data_plane: DataPlane) -> None:
        self._ctx = ctx
        self._data_plane = data_plane
        self._shards: dict[int, ShareCoordinatorShard] = {}
        self._epochs: dict[int, int] = {}
        self._notes = ShareNotes(ctx)

    def on_request(self, call: Call, now_us: int) -> None:
        self.handle(call.request, lambda response, now_us: self._ctx.reply(call, response), now_us)

    def handle(
        self, request: StateRequest, answer: Callable[[ShareGroupStateResponse, int], None], now_us: int
    ) -> None:
        """All partitions of a request are of one shard: whoever asks sends one request for each."""
        tips = [_tip_of(part) for part in request.partitions]
        topic = self._ctx.image.topics.get(SHARE_GROUP_STATE_TOPIC)
        count = 0 if topic is None else len(topic.partitions)
        number = coordinator_partition(coordinator_key(request.group_id, tips[0]), count) if count else -1
        shard = self._shards.get(number)
        if shard is None:
            answer(_refused(tips, ErrorCode.NOT_COORDINATOR), now_us)
            return
        records, response = shard.handle(request, self._ctx.wall_ms(now_us))
        if not records:
            answer(response, now_us)
            return

        def committed(error: ErrorCode, base_offset: int, now_us: int) -> None:
            if error is ErrorCode.NONE:
                self._tell(request, response)
            answer(response if error is ErrorCode.NONE else _refused(tips, append_error(error)), now_us)

        self._append(number, records, committed, now_us)

    def _tell(self, request: StateRequest, response: ShareGroupStateResponse) -> None:
        """The history knows where a group begins anew."""
        if not isinstance(request, InitializeShareGroupStateRequest | DeleteShareGroupStateRequest):
            return
        for part, answer in zip(request.partitions, response.partitions, strict=True):
            if answer.error is ErrorCode.NONE:
                topic = self._ctx.image.topics_by_id.get(_tip_of(part).topic_id)
                tp = None if topic is None else TopicPartition(topic.name, _tip_of(part).partition)
                self._notes.initialized(tp, request.group_id, getattr(part, "start_offset", -1))

    def _append(
        self, number: int, records: Records, committed: Callable[[ErrorCode, int, int], None], now_us: int
    ) -> None:
        batch = batch_of([value for _, value in records], [key for key, _ in records], self._ctx.wall_ms(now_us))
        tp = TopicPartition(SHARE_GROUP_STATE_TOPIC, number)
        timeout_us = self._ctx.image.broker_int("share.coordinator.write.timeout.ms") * 1000
        error = self._data_plane.append(tp, batch, now_us, committed, timeout_us)
        if error is not ErrorCode.NONE:
            self._load(number)
            committed(error, -1, now_us)

    # --- leadership ------------------------------------------------------------------------------------------------

    def on_image(self, delta: ImageDelta, now_us: int) -> None:
        for tp in delta.partitions:
            if tp.topic == SHARE_GROUP_STATE_TOPIC:
                self._follow_leadership(tp)
        gone = [topic.topic_id for topic in delta.deleted_topics]
        if gone:
            for number, shard in list(self._shards.items()):
                records = shard.forget_topics(gone)
                if records:
                    self._append(number, records, lambda error, base_offset, now_us: None, now_us)

    def _follow_leadership(self, tp: TopicPartition) -> None:
        state = self._ctx.image.partition(tp)
        if state is None or state.leader != self._ctx.node_id:
            self._shards.pop(tp.partition, None)
            self._epochs.pop(tp.partition, None)
        elif self._epochs.get(tp.partition) != state.leader_epoch:
            self._epochs[tp.partition] = state.leader_epoch
            self._load(tp.partition)

    def _load(self, number: int) -> None:
        updates = self._ctx.image.broker_int("share.coordinator.snapshot.update.records.per.snapshot")
        shard = ShareCoordinatorShard(updates, self._partition_exists)
        shard.load(self._data_plane.read_log(TopicPartition(SHARE_GROUP_STATE_TOPIC, number)))
        self._shards[number] = shard

    def _partition_exists(self, tip: TopicIdPartition) -> bool:
        topic = self._ctx.image.topics_by_id.get(tip.topic_id)
        return topic is not None and 0 <= tip.partition < len(topic.partitions)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        """Whoever asked asks again."""

    def on_deadline(self, now_us: int) -> None:
        """Nothing waits here."""

    def shutdown(self, now_us: int) -> None:
        self._shards.clear()


def _tip_of(part: Any) -> TopicIdPartition:
    return part if isinstance(part, TopicIdPartition) else part.tip


def _refused(tips: list[TopicIdPartition], error: ErrorCode) -> ShareGroupStateResponse:
    return ShareGroupStateResponse(tuple(PartitionState(tip, error) for tip in tips))
