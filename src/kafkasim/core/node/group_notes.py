"""What a group coordinator tells the history: who was given what, what was committed, fetched and forgotten, who is gone.

Effects:  Note, of the kinds that ``core.model.history`` lists.
Rule 1:   notes are made only where somebody keeps a history; one a commit, a fetch or a new assignment, none for a mere heartbeat.
Rule 2:   told is what members were told, when they were: an answer that never left changed nothing for anybody.
Rule 3:   the state of a group is looked at when it answers somebody; a consumer group's is its epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafkasim.core.group.classic import ClassicGroup
from kafkasim.core.group.consumer_records import MemberRecord, decode
from kafkasim.core.group.consumer_state import ConsumerGroupState
from kafkasim.core.group.members import STABLE
from kafkasim.core.group.records import OFFSET_COMMIT_KEY, OffsetCommitKey, decode_key
from kafkasim.core.model.consumer_group_messages import ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse
from kafkasim.core.model.effects import Note
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from kafkasim.core.model.history import (
    GROUP_ASSIGNED,
    GROUP_COMMITTED,
    GROUP_FETCHED,
    GROUP_FORGOTTEN,
    GROUP_GONE,
    GROUP_STATE,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.node.context import BrokerContext

_CLASSIC, _CONSUMER = "classic", "consumer"
_OF_CLASSIC_MEMBERS = (JoinGroupRequest, SyncGroupRequest, HeartbeatRequest, LeaveGroupRequest)


class GroupNotes:
    """``is_on``: somebody keeps a history."""

    def __init__(self, ctx: BrokerContext) -> None:
        self._ctx = ctx
        self.is_on = ctx.meters is not None
        #: (group, member) -> the epoch and the partitions that were told it last.
        self._told: dict[tuple[str, str], tuple[int, tuple[TopicPartition, ...] | None]] = {}
        self._states: dict[str, tuple[str, int]] = {}
        #: Of groups of the consumer protocol: the longest rebalance time-out that a member came with.
        self._timeouts_ms: dict[str, int] = {}

    def _note(self, kind: str, group_id: str, **fields: Any) -> None:
        self._ctx.outbox.append(Note(kind, group_id, tuple(fields.items()), is_traced=False))

    def answered(
        self, partition: int, request: Any, response: Any, group: ClassicGroup | ConsumerGroupState | None
    ) -> None:
        """An answer goes out to a client; ``partition``: of ``__consumer_offsets``, which keeps the group."""
        kind = type(request)
        if kind is ConsumerGroupHeartbeatRequest:
            self._on_heartbeat(request, response)
        elif kind is OffsetCommitRequest:
            self._on_commit(request, response)
        elif kind is OffsetFetchRequest:
            self._on_fetch(partition, request, response)
        elif kind is SyncGroupRequest and response.error is ErrorCode.NONE:
            self._on_sync(request, response, group)
        if isinstance(group, ClassicGroup):
            if kind in _OF_CLASSIC_MEMBERS:
                self._look_at_classic(group)
        elif group is not None and kind is ConsumerGroupHeartbeatRequest:
            self._look_at_consumer(group, request)

    def _look_at_classic(self, group: ClassicGroup) -> None:
        seen = group.state, group.generation_id
        if self._states.get(group.group_id) == seen:
            return
        self._states[group.group_id] = seen
        topics: tuple[str, ...] = ()
        timeout_ms = 0
        if group.state == STABLE:
            topics = tuple(sorted(group.subscribed_topics() or ()))
            timeout_ms = max((member.rebalance_timeout_ms for member in group.members.values()), default=0)
        self._state(group.group_id, *seen, topics, group.protocol_name or "", timeout_ms)

    def _look_at_consumer(self, group: ConsumerGroupState, request: ConsumerGroupHeartbeatRequest) -> None:
        known_ms = self._timeouts_ms.get(group.group_id, 0)
        if request.rebalance_timeout_ms > known_ms:
            known_ms = self._timeouts_ms[group.group_id] = request.rebalance_timeout_ms
        seen = _CONSUMER, group.group_epoch
        if self._states.get(group.group_id) != seen:
            self._states[group.group_id] = seen
            topics = tuple(sorted({**group.by_name, **group.by_regex}))
            self._state(group.group_id, *seen, topics, _CONSUMER, known_ms)

    def _state(
        self, group_id: str, state: str, epoch: int, topics: tuple[str, ...], assignor: str, timeout_ms: int
    ) -> None:
        fields = {"topics": topics, "assignor": assignor, "rebalance_timeout_ms": timeout_ms}
        self._note(GROUP_STATE, group_id, state=state, epoch=epoch, **fields)

    def _on_commit(self, request: OffsetCommitRequest, response: OffsetCommitResponse) -> None:
        accepted = {tp: None for tp, error in response.partitions if error is ErrorCode.NONE}
        offsets = tuple((tp, value.offset) for tp, value in request.offsets if tp in accepted)
        if offsets:
            self._note(
                GROUP_COMMITTED,
                request.group_id,
                member=request.member_id,
                epoch=request.generation_id,
                offsets=offsets,
            )

    def _on_fetch(self, partition: int, request: OffsetFetchRequest, response: OffsetFetchResponse) -> None:
        if response.error is ErrorCode.NONE and response.partitions:
            offsets = tuple((tp, value.offset) for tp, value, error in response.partitions if error is ErrorCode.NONE)
            self._note(GROUP_FETCHED, request.group_id, member=request.member_id, offsets=offsets, partition=partition)

    def _on_sync(
        self,
        request: SyncGroupRequest,
        response: SyncGroupResponse,
        group: ClassicGroup | ConsumerGroupState | None,
    ) -> None:
        """A member of the classic protocol; its group may be a consumer group that is being migrated."""
        protocol = _CLASSIC if isinstance(group, ClassicGroup) else _CONSUMER
        partitions = response.assignment.partitions
        member = request.member_id
        instance = request.group_instance_id
        self._told[request.group_id, member] = (request.generation_id, partitions)
        self._assigned(request.group_id, member, request.generation_id, partitions, protocol, instance)

    def _on_heartbeat(self, request: ConsumerGroupHeartbeatRequest, response: ConsumerGroupHeartbeatResponse) -> None:
        if response.error is not ErrorCode.NONE or request.member_epoch < 0:
            return
        member = response.member_id or request.member_id
        known = self._told.get((request.group_id, member))
        partitions: tuple[TopicPartition, ...] | None
        if response.assignment is not None:
            partitions = tuple(
                TopicPartition(topic.name, number)
                for each in response.assignment
                if (topic := self._ctx.image.topics_by_id.get(each.topic_id)) is not None
                for number in each.partitions
            )
        elif known is None or known[0] != response.member_epoch:
            partitions = None if known is None else known[1]
        else:
            return
        self._told[request.group_id, member] = (response.member_epoch, partitions)
        self._assigned(request.group_id, member, response.member_epoch, partitions, _CONSUMER, request.instance_id)

    def _assigned(
        self,
        group_id: str,
        member: str,
        epoch: int,
        partitions: tuple[TopicPartition, ...] | None,
        protocol: str,
        instance: str | None,
    ) -> None:
        self._note(
            GROUP_ASSIGNED,
            group_id,
            member=member,
            epoch=epoch,
            partitions=partitions,
            protocol=protocol,
            instance=instance,
        )

    def written(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Records of the coordinator count from now on: those that take something away are told."""
        forgotten: dict[str, list[TopicPartition]] = {}
        for key, value in records:
            if value is not None:
                continue
            if key[:2] in (b"\x00\x00", OFFSET_COMMIT_KEY.to_bytes(2, "big")):
                found = decode_key(key)
                if isinstance(found, OffsetCommitKey):
                    forgotten.setdefault(found.group_id, []).append(found.tp)
            elif key[:2] == MemberRecord.KEY.to_bytes(2, "big"):
                gone = decode(key, value)
                if isinstance(gone, MemberRecord):
                    self._told.pop((gone.group_id, gone.member_id), None)
                    self._note(GROUP_GONE, gone.group_id, member=gone.member_id)
        for group_id, partitions in forgotten.items():
            self._note(GROUP_FORGOTTEN, group_id, partitions=tuple(partitions))
