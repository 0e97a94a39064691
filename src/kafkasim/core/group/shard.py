"""All groups of one ``__consumer_offsets`` partition: their requests, their timers, their records.

Mirrors:  org.apache.kafka.coordinator.group.GroupCoordinatorShard, GroupMetadataManager.
Inputs:   on_request(request, client_host, token), on_deadline, load, on_topics_changed, on_topics_deleted, unload.
Effects:  Answer, Persist.
Rule 1:   what must survive a fail-over is written first: a consumer group takes it in when it is in the log, offsets and classic
          groups when it is committed.
Rule 2:   replaying the log of the partition gives the same offsets, consumer groups and stable classic groups as the live shard has.
Rule 3:   a group id has one type: what has the id of a share group (``share_shard``) is no group here, and none is made of that name.
Differs:  groups are described and listed as they stand, not as they stood at the last committed record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kafkasim.core.group.classic import ClassicGroup
from kafkasim.core.group.consumer import ConsumerGroups
from kafkasim.core.group.consumer_classic import ClassicProtocolMembers
from kafkasim.core.group.consumer_records import ConsumerGroupRecord, GroupEpochRecord, decode, encode
from kafkasim.core.group.consumer_state import ConsumerGroupState
from kafkasim.core.group.effects import Answer, GroupEffect, Persist, Token, append_error
from kafkasim.core.group.group_offsets import GroupOffsets, nobody_waits
from kafkasim.core.group.members import DEAD, EMPTY, GroupLimits, TimerKey, empty_group_record
from kafkasim.core.group.migration import Migration, deletion_records
from kafkasim.core.group.offsets import CommittedOffset, OffsetStore
from kafkasim.core.group.records import (
    GroupMetadataKey,
    OffsetCommitKey,
    decode_group_value,
    decode_key,
    decode_offset_value,
    encode_group_key,
)
from kafkasim.core.group.runtime import ConsumerGroupSettings, Done, Plan, Runtime
from kafkasim.core.group.target import Topics
from kafkasim.core.model.consumer_group_messages import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    ConsumerGroupHeartbeatRequest,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    ListedGroup,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    SyncGroupRequest,
    SyncGroupResponse,
)
from kafkasim.core.model.message import fresh, slotted
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.model.timers import Timers

#: The shard's own timer, beside those of its groups.
_EXPIRE_OFFSETS: TimerKey = ("expire-offsets", "", "")


@slotted
class GroupSettings:
    """The broker's group and offset settings, in Kafka's units."""

    limits: GroupLimits = fresh(factory=GroupLimits)
    min_session_timeout_ms: int = 6000
    max_session_timeout_ms: int = 1_800_000
    offset_metadata_max_bytes: int = 4096
    offsets_retention_ms: int = 7 * 24 * 3600 * 1000
    offsets_retention_check_interval_ms: int = 600_000
    wall_offset_us: int = 0
    consumer: ConsumerGroupSettings = fresh(factory=ConsumerGroupSettings)


class GroupShard:
    """``effects`` is drained by the broker after every input. ``new_id(prefix)`` makes member ids.

    ``is_share(group_id)``: a share group has the name.
    """

    def __init__(
        self, settings: GroupSettings, new_id: Callable[[str], str], topics: Topics, is_share: Callable[[str], bool]
    ) -> None:
        self.effects: list[GroupEffect] = []
        self.groups: dict[str, ClassicGroup | ConsumerGroupState] = {}
        self.settings = settings
        self._new_id = new_id
        self._is_share = is_share
        self._timers: Timers[TimerKey] = Timers()
        self._offsets = GroupOffsets(
            self.effects,
            self.groups,
            topics,
            settings.offset_metadata_max_bytes,
            self._wall_ms,
            self._new_group,
            self._arm_expiry,
            is_share,
        )
        self._runtime = Runtime(
            self.effects, self._timers, settings.consumer, topics, new_id, settings.wall_offset_us, self._replay
        )
        migration = Migration(self._runtime, self.groups, self._classic_group, settings.limits.max_size)
        self._consumers = ConsumerGroups(self._runtime, self.groups, migration, is_share)
        self._classic_members = ClassicProtocolMembers(self._runtime, self._consumers, migration)
        self._handlers: dict[type[Any], Callable[[Any, str, Token, int], None]] = {
            JoinGroupRequest: self._on_join,
            SyncGroupRequest: self._on_sync,
            HeartbeatRequest: self._on_heartbeat,
            LeaveGroupRequest: self._on_leave,
            ConsumerGroupHeartbeatRequest: self._on_consumer_heartbeat,
            ConsumerGroupDescribeRequest: self._on_consumer_describe,
            OffsetCommitRequest: self._offsets.on_commit,
            OffsetFetchRequest: self._offsets.on_fetch,
            OffsetDeleteRequest: self._offsets.on_delete,
            DescribeGroupsRequest: self._on_describe,
            DeleteGroupsRequest: self._on_delete,
        }

    @property
    def deadline_us(self) -> int:
        return self._timers.deadline_us

    @property
    def offsets(self) -> OffsetStore:
        return self._offsets.store

    def on_deadline(self, now_us: int) -> None:
        """What is due, but no more than one write of a consumer group: the next is computed from what that one makes of it."""
        for key in self._timers.due(now_us):
            if key == _EXPIRE_OFFSETS:
                self._expire_offsets(now_us)
                continue
            group = self.groups.get(key[1])
            if isinstance(group, ClassicGroup):
                group.on_timer(key, now_us)
            else:
                self._consumers.on_timer(key, now_us)
                if self.effects:
                    return

    def on_request(self, request: Any, client_host: str, token: Token, now_us: int) -> None:
        self._handlers[type(request)](request, client_host, token, now_us)

    def clock_set(self, wall_offset_us: int) -> None:
        """The broker's wall clock was set: what is stamped, and what expires, goes by the new one.

        Since when a group is empty was read from the old one.
        """
        moved_us = wall_offset_us - self.settings.wall_offset_us
        for group in self.groups.values():
            if isinstance(group, ClassicGroup):
                group.state_since_us -= moved_us
        self.settings.wall_offset_us = self.settings.limits.wall_offset_us = wall_offset_us
        self._runtime.wall_offset_us = wall_offset_us

    def _wall_ms(self, at_us: int) -> int:
        return (at_us + self.settings.wall_offset_us) // 1000

    def _answer(self, token: Token, response: Any) -> None:
        self.effects.append(Answer(token, response))

    # --- membership of the classic protocol ------------------------------------------------------------------------

    def _classic_group(self, group_id: str, now_us: int) -> ClassicGroup:
        return ClassicGroup(group_id, self.effects, self._timers, self.settings.limits, now_us)

    def _new_group(self, group_id: str, now_us: int) -> ClassicGroup:
        group = self._classic_group(group_id, now_us)
        self.groups[group_id] = group
        return group

    def _on_join(self, request: JoinGroupRequest, client_host: str, token: Token, now_us: int) -> None:
        settings = self.settings
        group = self.groups.get(request.group_id)
        if isinstance(group, ConsumerGroupState) and not group.members:
            group = None
        error = ErrorCode.NONE
        if not request.group_id:
            error = ErrorCode.INVALID_GROUP_ID
        elif not settings.min_session_timeout_ms <= request.session_timeout_ms <= settings.max_session_timeout_ms:
            error = ErrorCode.INVALID_SESSION_TIMEOUT
        elif group is None and self._is_share(request.group_id):
            self._answer(token, JoinGroupResponse(ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
            return
        elif group is None and request.member_id:
            error = ErrorCode.UNKNOWN_MEMBER_ID
        if error is not ErrorCode.NONE:
            self._answer(token, JoinGroupResponse(error, member_id=request.member_id))
        elif isinstance(group, ConsumerGroupState):
            self._classic_members.on_join(group, request, client_host, token, now_us)
        else:
            if group is None:
                self._delete_empty_consumer_group(request.group_id, now_us)
                group = self._new_group(request.group_id, now_us)
                group.on_join(request, client_host, token, self._new_id, now_us)
                self._keep_new_group(group, now_us)
            else:
                group.on_join(request, client_host, token, self._new_id, now_us)

    def _keep_new_group(self, group: ClassicGroup, now_us: int) -> None:
        """A group that a join brings about is in the log from the start, empty; if it cannot be, it is not at all."""

        def done(error: ErrorCode, now_us: int) -> None:
            if error is not ErrorCode.NONE and self.groups.get(group.group_id) is group:
                del self.groups[group.group_id]
                group.drop(append_error(error), now_us)

        self.effects.append(Persist([empty_group_record(group.group_id, self._wall_ms(now_us))], done))

    def _delete_empty_consumer_group(self, group_id: str, now_us: int) -> None:
        """A classic member may have the name of a consumer group that is empty."""
        group = self.groups.get(group_id)
        if isinstance(group, ConsumerGroupState):
            del self.groups[group_id]
            self.effects.append(Persist(list(map(encode, deletion_records(group))), nobody_waits))

    def _on_sync(self, request: SyncGroupRequest, client_host: str, token: Token, now_us: int) -> None:
        group = self.groups.get(request.group_id)
        if group is None or (isinstance(group, ConsumerGroupState) and not group.members):
            self._answer(token, SyncGroupResponse(ErrorCode.UNKNOWN_MEMBER_ID))
        elif isinstance(group, ConsumerGroupState):
            self._classic_members.on_sync(group, request, token, now_us)
        else:
            group.on_sync(request, token, now_us)

    def _on_heartbeat(self, request: HeartbeatRequest, client_host: str, token: Token, now_us: int) -> None:
        group = self.groups.get(request.group_id)
        if group is None:
            self._answer(token, HeartbeatResponse(ErrorCode.UNKNOWN_MEMBER_ID))
        elif isinstance(group, ConsumerGroupState):
            self._classic_members.on_heartbeat(group, request, token, now_us)
        else:
            group.on_heartbeat(request, token, now_us)

    def _on_leave(self, request: LeaveGroupRequest, client_host: str, token: Token, now_us: int) -> None:
        group = self.groups.get(request.group_id)
        if group is None:
            results = tuple((identity, ErrorCode.UNKNOWN_MEMBER_ID) for identity in request.members)
            self._answer(token, LeaveGroupResponse(ErrorCode.NONE, results))
        elif isinstance(group, ConsumerGroupState):
            self._classic_members.on_leave(group, request, token, now_us)
        else:
            group.on_leave(request, token, now_us)

    # --- consumer groups -------------------------------------------------------------------------------------------

    def _on_consumer_heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, client_host: str, token: Token, now_us: int
    ) -> None:
        self._consumers.on_heartbeat(request, client_host, token, now_us)

    def _on_consumer_describe(
        self, request: ConsumerGroupDescribeRequest, client_host: str, token: Token, now_us: int
    ) -> None:
        groups = tuple(map(self._consumers.describe, request.group_ids))
        self._answer(token, ConsumerGroupDescribeResponse(groups))

    def _replay(self, record: ConsumerGroupRecord) -> None:
        """Take in one record of a consumer group; a tombstone of what is not there means nothing."""
        group = self.groups.get(record.group_id)
        if not isinstance(group, ConsumerGroupState):
            if record.is_tombstone:
                return
            group = self.groups[record.group_id] = ConsumerGroupState(record.group_id)
        if isinstance(record, GroupEpochRecord) and record.is_tombstone:
            del self.groups[record.group_id]
        else:
            group.replay(record)

    def on_topics_changed(self, names: Iterable[str]) -> None:
        """Topics were created, have grown, were deleted or moved."""
        self._consumers.on_topics_changed(names)

    def on_topics_deleted(self, topics: Iterable[str], now_us: int) -> None:
        self._offsets.on_topics_deleted(topics, now_us)

    # --- expiry ----------------------------------------------------------------------------------------------------

    def _arm_expiry(self, now_us: int) -> None:
        if _EXPIRE_OFFSETS not in self._timers:
            self._timers.arm(_EXPIRE_OFFSETS, now_us + self.settings.offsets_retention_check_interval_ms * 1000)

    def _expire_offsets(self, now_us: int) -> None:
        for group_id in [*self.groups, *(name for name in self.offsets.groups() if name not in self.groups)]:
            had_offsets = group_id in self.offsets
            everything = self._offsets.expire(group_id, self.settings.offsets_retention_ms, now_us)
            group = self.groups.get(group_id)
            if group is None or group.state != EMPTY or not everything:
                continue
            if isinstance(group, ConsumerGroupState) or had_offsets or group.generation_id > 0:
                self._remove_group(group_id, nobody_waits, now_us)
        if self.offsets or self.groups:
            self._arm_expiry(now_us)

    # --- describing and deleting -----------------------------------------------------------------------------------

    def listed(self) -> list[ListedGroup]:
        """Every group of this shard, for ListGroups."""
        return [
            ListedGroup(group.group_id, "consumer", group.state, "consumer")
            if isinstance(group, ConsumerGroupState)
            else ListedGroup(group.group_id, group.protocol_type or "", group.state, "classic")
            for group in self.groups.values()
        ]

    def _on_describe(self, request: DescribeGroupsRequest, client_host: str, token: Token, now_us: int) -> None:
        described = []
        for name in request.groups:
            group = self.groups.get(name)
            if isinstance(group, ClassicGroup):
                described.append(group.describe())
            else:
                described.append(DescribedGroup(ErrorCode.NONE, name, DEAD))
        self._answer(token, DescribeGroupsResponse(tuple(described)))

    def _on_delete(self, request: DeleteGroupsRequest, client_host: str, token: Token, now_us: int) -> None:
        """Answered once it is committed: whoever hears of it and asks for an offset is told that there is none."""
        results: dict[str, ErrorCode] = {}
        doomed: list[str] = []
        for group_id in request.groups:
            group = self.groups.get(group_id)
            if not group_id:
                results[group_id] = ErrorCode.INVALID_GROUP_ID
            elif group is None:
                results.setdefault(group_id, ErrorCode.GROUP_ID_NOT_FOUND)
            elif group.state != EMPTY:
                results[group_id] = ErrorCode.NON_EMPTY_GROUP
            elif group_id not in doomed:
                results[group_id] = ErrorCode.NONE
                doomed.append(group_id)
        left = len(doomed)

        def removing(group_id: str) -> Done:
            def removed(error: ErrorCode, now_us: int) -> None:
                nonlocal left
                left -= 1
                results[group_id] = append_error(error)
                if not left:
                    self._answer(token, DeleteGroupsResponse(tuple(results.items())))

            return removed

        for group_id in doomed:
            self._offsets.delete_of(group_id, now_us)
            self._remove_group(group_id, removing(group_id), now_us)
        if not doomed:
            self._answer(token, DeleteGroupsResponse(tuple(results.items())))

    def _remove_group(self, group_id: str, done: Done, now_us: int) -> None:
        group = self.groups[group_id]
        if isinstance(group, ConsumerGroupState):
            self._runtime.carry_out(Plan(deletion_records(group)), done, now_us)
            return
        del self.groups[group_id]
        group.drop(ErrorCode.COORDINATOR_NOT_AVAILABLE, now_us)
        self.effects.append(Persist([(encode_group_key(group_id), None)], done))

    # --- fail-over -------------------------------------------------------------------------------------------------

    def load(self, batches: Iterable[RecordBatch], now_us: int) -> None:
        """Rebuild everything from the partition's log, oldest record first."""
        latest: dict[str, bytes] = {}
        for batch in batches:
            if batch.is_control:
                continue
            for key, value in zip(batch.columns.keys, batch.columns.values, strict=True):
                self._load_record(key, value, latest)
        for group_id, buffer in latest.items():
            self._new_group(group_id, now_us).replay(decode_group_value(buffer), now_us)
        for group_id in self.offsets.groups():
            if group_id not in self.groups:
                self._new_group(group_id, now_us)
        for group in self.groups.values():
            if isinstance(group, ConsumerGroupState):
                self._consumers.on_loaded(group, now_us)
        if self.groups:
            self._arm_expiry(now_us)

    def _load_record(self, key: bytes | None, value: bytes | None, latest: dict[str, bytes]) -> None:
        decoded = decode_key(key) if key is not None else None
        if isinstance(decoded, OffsetCommitKey):
            committed = None
            if value is not None:
                found = decode_offset_value(value)
                committed = CommittedOffset(found.committed, found.commit_timestamp_ms)
            self.offsets.replay(decoded.group_id, decoded.tp, committed)
        elif isinstance(decoded, GroupMetadataKey):
            latest.pop(decoded.group_id, None)
            if value is not None:
                latest[decoded.group_id] = value
        elif key is not None:
            record = decode(key, value)
            if record is not None:
                self._replay(record)

    def unload(self, now_us: int) -> None:
        """The partition is led elsewhere now: whatever is parked hears NOT_COORDINATOR."""
        for group in self.groups.values():
            if isinstance(group, ClassicGroup):
                group.drop(ErrorCode.NOT_COORDINATOR, now_us)
        self.groups.clear()

    def check(self) -> None:
        for group in self.groups.values():
            group.check()
