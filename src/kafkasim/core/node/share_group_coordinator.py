"""The share half of a broker's group coordinator: a shard of share groups for every ``__consumer_offsets`` partition it leads.

Mirrors:  GroupCoordinatorService (shareGroupHeartbeat, shareGroupDescribe, persisterInitialize; KIP-932).
Inputs:   ShareGroupHeartbeat, ShareGroupDescribe; leadership of ``__consumer_offsets`` by ``on_image``.
Rule 1:   share groups have shards of their own over the same partitions as all other groups; a group id has one type.
Rule 2:   after a heartbeat that brought new partitions the share coordinator is asked to make their state, besides the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.controller.image import ImageDelta
from kafkasim.core.group.effects import Answer, Persist
from kafkasim.core.group.partitioning import coordinator_partition
from kafkasim.core.group.share_shard import InitializeState, ShareGroupShard
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import DeleteGroupsRequest, ListedGroup
from kafkasim.core.model.ids import CONSUMER_OFFSETS_TOPIC, TopicPartition
from kafkasim.core.model.records import batch_of
from kafkasim.core.model.share_messages import (
    InitializeShareGroupStateRequest,
    PartitionState,
    PartitionStateInit,
    ShareGroupDescribed,
    ShareGroupDescribeRequest,
    ShareGroupDescribeResponse,
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
    TopicIdPartition,
)
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.data_plane import DataPlane
from kafkasim.core.node.data_plane_partitions import Replica
from kafkasim.core.node.share_configs import ShareConfigs
from kafkasim.core.node.share_group_admin import ShareGroupAdmin
from kafkasim.core.node.share_persister import SharePersister

_WRITE_TIMEOUT_US = 5_000_000


class ShareGroupCoordinator:
    """A component of the broker node. ``is_taken(group_id)``: a group of another type has the name."""

    API_KEYS: tuple[int, ...] = (
        ShareGroupHeartbeatRequest.API_KEY,
        ShareGroupDescribeRequest.API_KEY,
        *ShareGroupAdmin.API_KEYS,
    )

    def __init__(
        self,
        ctx: BrokerContext,
        data_plane: DataPlane,
        persister: SharePersister,
        is_taken: Callable[[str], bool],
    ) -> None:
        self._ctx = ctx
        self._data_plane = data_plane
        self._persister = persister
        self._is_taken = is_taken
        self._configs = ShareConfigs(ctx.image)
        self._admin = ShareGroupAdmin(ctx, persister, self)
        self.shards: dict[int, ShareGroupShard] = {}
        self._epochs: dict[int, int] = {}
        self.deadline_us = NEVER_US

    def on_deadline(self, now_us: int) -> None:
        for number, shard in list(self.shards.items()):
            if shard.deadline_us <= now_us:
                shard.on_deadline(now_us)
                self.carry_out(number, shard, now_us)
        self.deadline_us = min((shard.deadline_us for shard in self.shards.values()), default=NEVER_US)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        """A member whose connection died stays until its session ends."""

    def shutdown(self, now_us: int) -> None:
        self.shards.clear()

    def listed(self) -> list[ListedGroup]:
        """The share groups of this broker, as ListGroups tells them."""
        return [
            ListedGroup(group_id, "share", group.state, "share")
            for shard in self.shards.values()
            for group_id, group in shard.groups.items()
        ]

    # --- requests --------------------------------------------------------------------------------------------------

    def shard_of(self, group_id: str) -> tuple[int, ShareGroupShard | None]:
        topic = self._ctx.image.topics.get(CONSUMER_OFFSETS_TOPIC)
        if topic is None:
            return -1, None
        number = coordinator_partition(group_id, len(topic.partitions))
        return number, self.shards.get(number)

    def on_request(self, call: Call, now_us: int) -> None:
        request = call.request
        if request.API_KEY in ShareGroupAdmin.API_KEYS:
            self._admin.on_request(call, now_us)
            return
        group_id = request.group_ids[0] if isinstance(request, ShareGroupDescribeRequest) else request.group_id
        number, shard = self.shard_of(group_id)
        if shard is None:
            self._ctx.reply(call, _refusal(request))
        elif isinstance(request, ShareGroupDescribeRequest):
            shard.on_describe(request, call)
            self.carry_out(number, shard, now_us)
        else:
            shard.on_heartbeat(request, f"/{call.peer}", call, now_us)
            self.carry_out(number, shard, now_us)

    def take_deletion(self, call: Call, now_us: int) -> bool:
        """A DeleteGroups of a share group is dealt with here; False: it is of another kind."""
        request = call.request
        if not isinstance(request, DeleteGroupsRequest) or not any(map(self.has_group, request.groups)):
            return False
        self._admin.delete_groups(call, request.groups, now_us)
        return True

    def replica(self, tp: TopicPartition) -> Replica | None:
        return self._data_plane.replica(tp)

    def has_group(self, group_id: str) -> bool:
        """Is there a share group of this name on this broker?"""
        _, shard = self.shard_of(group_id)
        return shard is not None and group_id in shard.groups

    # --- effects of a shard ----------------------------------------------------------------------------------------

    def carry_out(self, number: int, shard: ShareGroupShard, now_us: int) -> None:
        """Do what the shard wants done, in order."""
        while shard.effects:
            effects, shard.effects[:] = list(shard.effects), []
            for effect in effects:
                if isinstance(effect, Answer):
                    self._ctx.reply(effect.token, effect.response)
                elif isinstance(effect, Persist):
                    self._persist(number, shard, effect, now_us)
                else:
                    self._initialize(number, shard, effect, now_us)
        self.deadline_us = min(self.deadline_us, shard.deadline_us)

    def _persist(self, number: int, shard: ShareGroupShard, effect: Persist, now_us: int) -> None:
        values, keys = [value for _, value in effect.records], [key for key, _ in effect.records]
        batch = batch_of(values, keys, self._ctx.wall_ms(now_us))

        def committed(error: ErrorCode, base_offset: int, now_us: int) -> None:
            effect.done(error, now_us)
            self.carry_out(number, shard, now_us)

        tp = TopicPartition(CONSUMER_OFFSETS_TOPIC, number)
        error = self._data_plane.append(tp, batch, now_us, committed, _WRITE_TIMEOUT_US)
        if error is not ErrorCode.NONE:
            effect.done(error, now_us)

    def _initialize(self, number: int, shard: ShareGroupShard, effect: InitializeState, now_us: int) -> None:
        made: list[TopicIdPartition] = []
        failed: list[TopicIdPartition] = []

        def done(state: PartitionState, now_us: int) -> None:
            (made if state.error is ErrorCode.NONE else failed).append(state.tip)
            if len(made) + len(failed) == len(effect.partitions) and self.shards.get(number) is shard:
                shard.on_initialized(effect.group_id, made, failed, now_us)
                self.carry_out(number, shard, now_us)

        for tip in effect.partitions:
            part = PartitionStateInit(tip, effect.state_epoch)
            self._persister.ask(InitializeShareGroupStateRequest, effect.group_id, tip, part, done, now_us)

    # --- leadership ------------------------------------------------------------------------------------------------

    def on_image(self, delta: ImageDelta, now_us: int) -> None:
        for tp in delta.partitions:
            if tp.topic == CONSUMER_OFFSETS_TOPIC:
                self._follow_leadership(tp, now_us)

    def clock_set(self) -> None:
        for shard in self.shards.values():
            shard.wall_offset_us = self._ctx.wall_offset_us

    def _follow_leadership(self, tp: TopicPartition, now_us: int) -> None:
        state = self._ctx.image.partition(tp)
        if state is None or state.leader != self._ctx.node_id:
            self.shards.pop(tp.partition, None)
            self._epochs.pop(tp.partition, None)
        elif self._epochs.get(tp.partition) != state.leader_epoch:
            self._epochs[tp.partition] = state.leader_epoch
            shard = ShareGroupShard(self._configs.of_group, self._topic, self._is_taken, self._ctx.wall_offset_us)
            shard.load(self._data_plane.read_log(tp), now_us)
            self.shards[tp.partition] = shard
            self.carry_out(tp.partition, shard, now_us)

    def _topic(self, name: str) -> tuple[str, int] | None:
        topic = self._ctx.image.topics.get(name)
        return None if topic is None else (topic.topic_id, len(topic.partitions))


def _refusal(request: Any) -> Any:
    """The answer to a request about a group that this broker does not coordinate."""
    error = ErrorCode.NOT_COORDINATOR
    if isinstance(request, ShareGroupDescribeRequest):
        return ShareGroupDescribeResponse(tuple(ShareGroupDescribed(error, name) for name in request.group_ids))
    assert isinstance(request, ShareGroupHeartbeatRequest), request
    return ShareGroupHeartbeatResponse(error)
