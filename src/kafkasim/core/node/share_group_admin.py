"""What admins ask about share groups and change of them: offsets described, altered, deleted; groups deleted.

Mirrors:  GroupCoordinatorService.describeShareGroupOffsets, alterShareGroupOffsets, deleteShareGroupOffsets, deleteShareGroups.
Inputs:   the three offset requests, DeleteGroups of share groups.     Effects: asks of the share persister, ListOffsets.
Rule 1:   a group with members is not changed; who alters makes the group if there is none, and gives the state the group's
          epoch, which fences the leaders that ran before its last member went.
Rule 2:   the lag is the end of the partition less its start offset less what was completed behind it; unknown before a write.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from kafkasim.core.controller.image import leader_of
from kafkasim.core.group.share_group import ShareGroup
from kafkasim.core.model.effects import SHARE_STATE_CHANNEL
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import DeleteGroupsResponse
from kafkasim.core.model.ids import LATEST_TIMESTAMP, NO_EPOCH, TopicPartition
from kafkasim.core.model.messages import ListOffsetsRequest, ListOffsetsResponse, PartitionListOffsets
from kafkasim.core.model.share_messages import (
    UNINITIALIZED_START_OFFSET,
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
    DeleteShareGroupStateRequest,
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsResponse,
    InitializeShareGroupStateRequest,
    PartitionState,
    PartitionStateInit,
    PartitionStateRead,
    ReadShareGroupStateSummaryRequest,
    ShareGroupOffsetsDescribed,
    ShareGroupPartitionOffset,
    TopicIdPartition,
)
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.share_persister import SharePersister

if TYPE_CHECKING:
    from kafkasim.core.node.share_group_coordinator import ShareGroupCoordinator

_TIMEOUT_US = 30_000_000


class ShareGroupAdmin:
    API_KEYS: tuple[int, ...] = (
        DescribeShareGroupOffsetsRequest.API_KEY,
        AlterShareGroupOffsetsRequest.API_KEY,
        DeleteShareGroupOffsetsRequest.API_KEY,
    )

    def __init__(self, ctx: BrokerContext, persister: SharePersister, coordinator: ShareGroupCoordinator) -> None:
        self._ctx = ctx
        self._persister = persister
        self._coordinator = coordinator

    def on_request(self, call: Call, now_us: int) -> None:
        request = call.request
        if isinstance(request, DescribeShareGroupOffsetsRequest):
            self._describe(call, request, now_us)
        elif isinstance(request, AlterShareGroupOffsetsRequest):
            self._alter(call, request, now_us)
        else:
            self._delete_offsets(call, request, now_us)

    # --- describe ------------------------------------------------------------------------------------------------------

    def _describe(self, call: Call, request: DescribeShareGroupOffsetsRequest, now_us: int) -> None:
        """One group after the other; the answer goes when the last partition is known."""
        described: list[ShareGroupOffsetsDescribed] = []
        left = list(request.groups)

        def next_group(now_us: int) -> None:
            if not left:
                self._ctx.reply(call, DescribeShareGroupOffsetsResponse(tuple(described)))
                return
            asked = left.pop(0)
            _, shard = self._coordinator.shard_of(asked.group_id)
            group = shard.groups.get(asked.group_id) if shard is not None else None
            if group is None:
                error = ErrorCode.GROUP_ID_NOT_FOUND if shard is not None else ErrorCode.NOT_COORDINATOR
                text = f"Group {asked.group_id} not found."
                described.append(ShareGroupOffsetsDescribed(asked.group_id, error, (), text))
                next_group(now_us)
                return
            names = None if asked.topics is None else [name for name, _ in asked.topics]
            self._describe_group(group, names, described, next_group, now_us)

        next_group(now_us)

    def _describe_group(
        self,
        group: ShareGroup,
        names: list[str] | None,
        described: list[ShareGroupOffsetsDescribed],
        then: Callable[[int], None],
        now_us: int,
    ) -> None:
        wanted = [
            (name, TopicIdPartition(topic_id, number))
            for topic_id, (name, parts, _) in group.initialized.items()
            if names is None or name in names
            for number in parts
        ]
        found: dict[TopicIdPartition, ShareGroupPartitionOffset] = {}

        def one(name: str, state: PartitionState, end: int, now_us: int) -> None:
            start, lag = state.start_offset, -1
            if start != UNINITIALIZED_START_OFFSET and end >= 0 and state.delivery_complete_count >= 0:
                lag = end - start - state.delivery_complete_count
            found[state.tip] = ShareGroupPartitionOffset(
                name, state.tip.topic_id, state.tip.partition, state.error, start, state.leader_epoch, lag
            )
            finish(now_us)

        def finish(now_us: int) -> None:
            if len(found) == len(wanted):
                parts = tuple(found[tip] for _, tip in wanted)
                described.append(ShareGroupOffsetsDescribed(group.group_id, ErrorCode.NONE, parts))
                then(now_us)

        if not wanted:
            finish(now_us)
        for name, tip in wanted:
            self._persister.ask(
                ReadShareGroupStateSummaryRequest,
                group.group_id,
                tip,
                PartitionStateRead(tip, NO_EPOCH),
                partial(self._end_of, name, one),
                now_us,
            )

    def _end_of(
        self, name: str, one: Callable[[str, PartitionState, int, int], None], state: PartitionState, now_us: int
    ) -> None:
        """Ask the leader for the end of the partition."""
        tp = TopicPartition(name, state.tip.partition)
        leader = leader_of(self._ctx.image, tp)
        replica = self._coordinator.replica(tp)
        if leader == self._ctx.node_id and replica is not None:
            one(name, state, replica.high_watermark, now_us)
        elif leader < 0:
            one(name, state, -1, now_us)
        else:

            def answered(response: ListOffsetsResponse | None, error: ErrorCode, now_us: int) -> None:
                end = -1 if response is None else response.partitions[0].offset
                one(name, state, end, now_us)

            request = ListOffsetsRequest([PartitionListOffsets(tp, LATEST_TIMESTAMP)])
            self._ctx.requests.send(
                leader, request, answered, timeout_us=_TIMEOUT_US, now_us=now_us, channel=SHARE_STATE_CHANNEL
            )

    # --- change --------------------------------------------------------------------------------------------------------

    def _alter(self, call: Call, request: AlterShareGroupOffsetsRequest, now_us: int) -> None:
        number, shard = self._coordinator.shard_of(request.group_id)
        if shard is None:
            self._ctx.reply(call, AlterShareGroupOffsetsResponse(ErrorCode.NOT_COORDINATOR))
            return
        group, error, text = shard.emptied(request.group_id, makes=True)
        if group is None:
            self._ctx.reply(call, AlterShareGroupOffsetsResponse(error, text))
            return
        outcomes: dict[tuple[str, int], ErrorCode] = {}
        inits: list[tuple[str, PartitionStateInit]] = []
        for name, partition, offset in request.offsets:
            topic = self._ctx.image.topics.get(name)
            if topic is None or not 0 <= partition < len(topic.partitions):
                outcomes[(name, partition)] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                inits.append((name, PartitionStateInit(TopicIdPartition(topic.topic_id, partition), 0, offset)))
        epoch = shard.alter(group, [(name, init.tip) for name, init in inits], now_us) if inits else 0
        self._coordinator.carry_out(number, shard, now_us)

        made: list[TopicIdPartition] = []
        failed: list[TopicIdPartition] = []

        def done(name: str, state: PartitionState, now_us: int) -> None:
            (made if state.error is ErrorCode.NONE else failed).append(state.tip)
            outcomes[(name, state.tip.partition)] = state.error
            if len(outcomes) == len(request.offsets):
                shard.on_initialized(request.group_id, made, failed, now_us)
                self._coordinator.carry_out(number, shard, now_us)
                parts = tuple((topic, partition, code) for (topic, partition), code in outcomes.items())
                self._ctx.reply(call, AlterShareGroupOffsetsResponse(ErrorCode.NONE, None, parts))

        for name, init in inits:
            self._persister.ask(
                InitializeShareGroupStateRequest,
                request.group_id,
                init.tip,
                PartitionStateInit(init.tip, epoch, init.start_offset),
                partial(done, name),
                now_us,
            )
        if not inits:
            parts = tuple((topic, partition, code) for (topic, partition), code in outcomes.items())
            self._ctx.reply(call, AlterShareGroupOffsetsResponse(ErrorCode.NONE, None, parts))

    def _delete_offsets(self, call: Call, request: DeleteShareGroupOffsetsRequest, now_us: int) -> None:
        number, shard = self._coordinator.shard_of(request.group_id)
        if shard is None:
            self._ctx.reply(call, DeleteShareGroupOffsetsResponse(ErrorCode.NOT_COORDINATOR))
            return
        group, error, text = shard.emptied(request.group_id)
        if group is None:
            self._ctx.reply(call, DeleteShareGroupOffsetsResponse(error, text))
            return
        ids = {name: topic_id for topic_id, (name, _, _) in group.initialized.items()}
        tips = [
            TopicIdPartition(ids[name], partition)
            for name in request.topics
            if name in ids
            for partition in group.initialized[ids[name]][1]
        ]

        def done(now_us: int) -> None:
            shard.forget_topics(group, [ids[name] for name in request.topics if name in ids])
            self._coordinator.carry_out(number, shard, now_us)
            topics = tuple(
                (name, ErrorCode.NONE if name in ids else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                for name in request.topics
            )
            self._ctx.reply(call, DeleteShareGroupOffsetsResponse(ErrorCode.NONE, None, topics))

        self._delete_state(request.group_id, tips, done, now_us)

    def _delete_state(
        self, group_id: str, tips: list[TopicIdPartition], done: Callable[[int], None], now_us: int
    ) -> None:
        open_tips = dict.fromkeys(tips)
        if not open_tips:
            done(now_us)

        def deleted(state: PartitionState, now_us: int) -> None:
            del open_tips[state.tip]
            if not open_tips:
                done(now_us)

        for tip in tips:
            self._persister.ask(DeleteShareGroupStateRequest, group_id, tip, tip, deleted, now_us)

    def delete_groups(self, call: Call, group_ids: tuple[str, ...], now_us: int) -> None:
        outcomes: dict[str, ErrorCode] = {}
        for group_id in group_ids:
            number, shard = self._coordinator.shard_of(group_id)
            if shard is None:
                outcomes[group_id] = ErrorCode.NOT_COORDINATOR
                continue
            group, error, _ = shard.emptied(group_id)
            outcomes[group_id] = error
            if group is not None:
                known = (*group.initialized.items(), *group.initializing.items())
                tips = [TopicIdPartition(topic, number) for topic, (_, parts, _) in known for number in parts]
                self._delete_state(group_id, list(dict.fromkeys(tips)), lambda now_us: None, now_us)
                shard.delete(group)
                self._coordinator.carry_out(number, shard, now_us)
        self._ctx.reply(call, DeleteGroupsResponse(tuple(outcomes.items())))
