"""The group coordinator of one broker: a shard for every ``__consumer_offsets`` partition that it leads.

Mirrors:  org.apache.kafka.coordinator.group.GroupCoordinatorService and its CoordinatorRuntime.
Inputs:   FindCoordinator and all group and offset requests; leadership of ``__consumer_offsets`` by ``on_image``.
Rule 1:   a shard's records are appended with acks=all; what depends on them is answered when they are committed.
Differs:  a shard loads in no virtual time, so COORDINATOR_LOAD_IN_PROGRESS is never seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.controller.image import ImageDelta, leader_of
from kafkasim.core.group.effects import Answer, Persist
from kafkasim.core.group.members import GroupLimits
from kafkasim.core.group.partitioning import coordinator_partition
from kafkasim.core.group.runtime import ConsumerGroupSettings
from kafkasim.core.group.shard import GroupSettings, GroupShard
from kafkasim.core.model.admin_messages import GROUP_RESOURCE
from kafkasim.core.model.consumer_group_messages import (
    ConsumerGroupDescribedGroup,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    GROUP_COORDINATOR,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    ListedGroup,
    ListGroupsRequest,
    ListGroupsResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from kafkasim.core.model.ids import CONSUMER_OFFSETS_TOPIC, NO_LEADER, TopicPartition
from kafkasim.core.model.records import batch_of
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.data_plane import DataPlane
from kafkasim.core.node.group_notes import GroupNotes
from kafkasim.core.node.group_topics import GroupTopics

_GROUP_REQUESTS = (
    JoinGroupRequest,
    SyncGroupRequest,
    HeartbeatRequest,
    LeaveGroupRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    OffsetDeleteRequest,
    DescribeGroupsRequest,
    DeleteGroupsRequest,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupDescribeRequest,
)


class GroupCoordinator:
    """A component of the broker node. ``create_topic`` asks for an internal topic that does not exist yet."""

    API_KEYS: tuple[int, ...] = (
        FindCoordinatorRequest.API_KEY,
        ListGroupsRequest.API_KEY,
        *(request.API_KEY for request in _GROUP_REQUESTS),
    )

    def __init__(self, ctx: BrokerContext, data_plane: DataPlane, create_topic: Callable[[str, int], None]) -> None:
        self._ctx = ctx
        self._data_plane = data_plane
        self._create_topic = create_topic
        self._shards: dict[int, GroupShard] = {}
        self._epochs: dict[int, int] = {}
        self._topics = GroupTopics(ctx.image)
        self._notes = GroupNotes(ctx)
        #: The share groups of this broker, which have shards of their own: those that there are, and whether one has a name.
        self.list_share_groups: Callable[[], list[ListedGroup]] = list
        self.is_share_group: Callable[[str], bool] = lambda group_id: False
        #: Takes a DeleteGroups of share groups.
        self.delete_share_group: Callable[[Call, int], bool] = lambda call, now_us: False
        #: The earliest deadline of any shard; lowered whenever a shard was touched, raised only in ``on_deadline``.
        self.deadline_us = NEVER_US

    def on_deadline(self, now_us: int) -> None:
        for partition, shard in list(self._shards.items()):
            if shard.deadline_us <= now_us:
                shard.on_deadline(now_us)
                self._carry_out(partition, shard, now_us)
        self.deadline_us = min((shard.deadline_us for shard in self._shards.values()), default=NEVER_US)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        """A member whose connection died stays until its session ends."""

    def shutdown(self, now_us: int) -> None:
        for shard in self._shards.values():
            shard.unload(now_us)

    # --- requests --------------------------------------------------------------------------------------------------

    def on_request(self, call: Call, now_us: int) -> None:
        request = call.request
        if isinstance(request, FindCoordinatorRequest):
            self._find_coordinator(call, request, now_us)
        elif isinstance(request, ListGroupsRequest):
            self._list_groups(call, request)
        else:
            self._to_shard(call, now_us)

    def _partition_count(self) -> int:
        topic = self._ctx.image.topics.get(CONSUMER_OFFSETS_TOPIC)
        return 0 if topic is None else len(topic.partitions)

    def _find_coordinator(self, call: Call, request: FindCoordinatorRequest, now_us: int) -> None:
        response = FindCoordinatorResponse(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        count = self._partition_count()
        if request.key_type != GROUP_COORDINATOR:
            response = FindCoordinatorResponse(ErrorCode.INVALID_REQUEST)
        elif count == 0:
            self._create_topic(CONSUMER_OFFSETS_TOPIC, now_us)
        else:
            tp = TopicPartition(CONSUMER_OFFSETS_TOPIC, coordinator_partition(request.key, count))
            leader = leader_of(self._ctx.image, tp)
            broker = self._ctx.image.brokers.get(leader)
            if leader != NO_LEADER and broker is not None and not broker.fenced:
                response = FindCoordinatorResponse(ErrorCode.NONE, leader, broker.host, broker.port)
        self._ctx.reply(call, response)

    def _list_groups(self, call: Call, request: ListGroupsRequest) -> None:
        states = [state.lower() for state in request.states]
        types = [kind.lower() for kind in request.types]
        known = [listed for shard in self._shards.values() for listed in shard.listed()]
        groups = [
            listed
            for listed in (*known, *self.list_share_groups())
            if (not states or listed.group_state.lower() in states) and (not types or listed.group_type in types)
        ]
        self._ctx.reply(call, ListGroupsResponse(ErrorCode.NONE, tuple(groups)))

    def has_group(self, group_id: str) -> bool:
        """Is there a classic or a consumer group of this name on this broker?"""
        count = self._partition_count()
        shard = self._shards.get(coordinator_partition(group_id, count)) if count else None
        return shard is not None and group_id in shard.groups

    def _to_shard(self, call: Call, now_us: int) -> None:
        request = call.request
        if self.delete_share_group(call, now_us):
            return
        names: tuple[str, ...]
        if isinstance(request, DescribeGroupsRequest | DeleteGroupsRequest):
            names = request.groups
        elif isinstance(request, ConsumerGroupDescribeRequest):
            names = request.group_ids
        else:
            names = (request.group_id,)
        count = self._partition_count()
        partition = coordinator_partition(names[0], count) if count and names else -1
        shard = self._shards.get(partition)
        if shard is None:
            self._ctx.reply(call, _refusal(request, ErrorCode.NOT_COORDINATOR))
            return
        shard.on_request(request, f"/{call.peer}", call, now_us)
        self._carry_out(partition, shard, now_us)

    # --- effects of a shard ----------------------------------------------------------------------------------------

    def _carry_out(self, partition: int, shard: GroupShard, now_us: int) -> None:
        """Answer, and append; a failed or committed append may bring further effects, in the same order."""
        while shard.effects:
            effects, shard.effects[:] = list(shard.effects), []
            for effect in effects:
                if isinstance(effect, Answer):
                    self._ctx.reply(effect.token, effect.response)
                    if self._notes.is_on:
                        request = effect.token.request
                        group = shard.groups.get(getattr(request, "group_id", ""))
                        self._notes.answered(partition, request, effect.response, group)
                else:
                    self._persist(partition, shard, effect, now_us)
        self.deadline_us = min(self.deadline_us, shard.deadline_us)

    def _persist(self, partition: int, shard: GroupShard, effect: Persist, now_us: int) -> None:
        records = effect.records
        batch = batch_of([value for _, value in records], [key for key, _ in records], self._ctx.wall_ms(now_us))

        def committed(error: ErrorCode, base_offset: int, now_us: int) -> None:
            if error is ErrorCode.NONE and self._notes.is_on:
                self._notes.written(records)
            effect.done(error, now_us)
            self._carry_out(partition, shard, now_us)

        tp = TopicPartition(CONSUMER_OFFSETS_TOPIC, partition)
        timeout_us = self._ctx.image.broker_int("offsets.commit.timeout.ms") * 1000
        error = self._data_plane.append(tp, batch, now_us, committed, timeout_us)
        if error is ErrorCode.NONE:
            effect.appended(now_us)
        else:
            effect.done(error, now_us)

    # --- leadership ------------------------------------------------------------------------------------------------

    def on_image(self, delta: ImageDelta, now_us: int) -> None:
        changed = self._topics.on_image(delta)
        if changed:
            for shard in self._shards.values():
                shard.on_topics_changed(changed)
        if delta.configs:
            self._reread_configs()
        for tp in delta.partitions:
            if tp.topic == CONSUMER_OFFSETS_TOPIC:
                self._follow_leadership(tp, now_us)
        names = [topic.name for topic in delta.deleted_topics]
        if CONSUMER_OFFSETS_TOPIC in names:
            for partition in list(self._shards):
                self._unload(partition, now_us)
        elif names:
            for partition, shard in self._shards.items():
                shard.on_topics_deleted(names, now_us)
                self._carry_out(partition, shard, now_us)

    def clock_set(self) -> None:
        for shard in self._shards.values():
            shard.clock_set(self._ctx.wall_offset_us)

    def _reread_configs(self) -> None:
        """The assignment interval is the one setting of groups that a running broker takes over."""
        for shard in self._shards.values():
            shard.settings.consumer.assignment_interval_ms = self._assignment_interval_ms()

    def _assignment_interval_ms(self) -> int:
        value = self._ctx.image.broker_config("group.consumer.assignment.interval.ms")
        assert isinstance(value, int), value
        return value

    def _follow_leadership(self, tp: TopicPartition, now_us: int) -> None:
        state = self._ctx.image.partition(tp)
        assert state is not None
        if state.leader != self._ctx.node_id:
            self._unload(tp.partition, now_us)
        elif self._epochs.get(tp.partition) != state.leader_epoch:
            self._unload(tp.partition, now_us)
            self._epochs[tp.partition] = state.leader_epoch
            shard = GroupShard(self._settings(), self._new_id, self._topics, self.is_share_group)
            shard.load(self._data_plane.read_log(tp), now_us)
            self._shards[tp.partition] = shard
            self._carry_out(tp.partition, shard, now_us)

    def _unload(self, partition: int, now_us: int) -> None:
        shard = self._shards.pop(partition, None)
        self._epochs.pop(partition, None)
        if shard is not None:
            shard.unload(now_us)
            self._carry_out(partition, shard, now_us)

    def _settings(self) -> GroupSettings:
        number = self._ctx.image.broker_int
        return GroupSettings(
            GroupLimits(number("group.initial.rebalance.delay.ms"), number("group.max.size"), self._ctx.wall_offset_us),
            number("group.min.session.timeout.ms"),
            number("group.max.session.timeout.ms"),
            number("offset.metadata.max.bytes"),
            number("offsets.retention.minutes") * 60_000,
            number("offsets.retention.check.interval.ms"),
            self._ctx.wall_offset_us,
            self._consumer_settings(),
        )

    def _consumer_settings(self) -> ConsumerGroupSettings:
        image = self._ctx.image
        assignors = image.broker_config("group.consumer.assignors")
        policy = image.broker_config("group.consumer.migration.policy")
        assert isinstance(assignors, tuple)
        assert isinstance(policy, str)
        return ConsumerGroupSettings(
            image.broker_int("group.consumer.session.timeout.ms"),
            image.broker_int("group.consumer.heartbeat.interval.ms"),
            self._assignment_interval_ms(),
            image.broker_int("group.consumer.regex.refresh.interval.ms"),
            image.broker_int("group.consumer.max.size"),
            assignors,
            policy,
            lambda group_id: image.configs.get((GROUP_RESOURCE, group_id), {}),
        )

    def _new_id(self, prefix: str) -> str:
        """``<prefix>-<uuid4>``, as the broker names members."""
        digits = f"{self._ctx.draw('group.member_id', 1 << 62):016x}{self._ctx.draw('group.member_id', 1 << 62):016x}"
        uuid = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"
        return f"{prefix}-{uuid}"


def _refusal(request: Any, error: ErrorCode) -> Any:
    """The answer to a group request that this broker does not coordinate."""
    if isinstance(request, JoinGroupRequest):
        return JoinGroupResponse(error, member_id=request.member_id)
    if isinstance(request, SyncGroupRequest):
        return SyncGroupResponse(error)
    if isinstance(request, HeartbeatRequest):
        return HeartbeatResponse(error)
    if isinstance(request, LeaveGroupRequest):
        return LeaveGroupResponse(error)
    if isinstance(request, OffsetCommitRequest):
        return OffsetCommitResponse(tuple((tp, error) for tp, _ in request.offsets))
    if isinstance(request, OffsetFetchRequest):
        return OffsetFetchResponse(error)
    if isinstance(request, OffsetDeleteRequest):
        return OffsetDeleteResponse(error)
    if isinstance(request, DescribeGroupsRequest):
        return DescribeGroupsResponse(tuple(DescribedGroup(error, name, "Dead") for name in request.groups))
    if isinstance(request, ConsumerGroupHeartbeatRequest):
        return ConsumerGroupHeartbeatResponse(error)
    if isinstance(request, ConsumerGroupDescribeRequest):
        return ConsumerGroupDescribeResponse(
            tuple(ConsumerGroupDescribedGroup(error, group_id) for group_id in request.group_ids)
        )
    assert isinstance(request, DeleteGroupsRequest), request
    return DeleteGroupsResponse(tuple((name, error) for name in request.groups))
