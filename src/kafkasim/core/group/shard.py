"""All groups of one ``__consumer_offsets`` partition: their requests, their timers, their records.

Mirrors:  org.apache.kafka.coordinator.group.GroupCoordinatorShard (classic half).
Inputs:   on_request(request, client_host, token), on_deadline, load, on_topics_deleted, unload.     Effects: Answer, Persist.
Rule 1:   what must survive a fail-over is written first and taken in when it is committed (``replay``).
Rule 2:   replaying the log of the partition gives the same offsets and the same stable groups as the live shard has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from kafkasim.core.group.classic import ClassicGroup
from kafkasim.core.group.effects import Answer, GroupEffect, Persist, Token, append_error
from kafkasim.core.group.members import COMPLETING_REBALANCE, DEAD, EMPTY, STABLE, GroupLimits, TimerKey
from kafkasim.core.group.offsets import CommittedOffset, OffsetStore
from kafkasim.core.group.records import (
    GroupMetadataKey,
    OffsetCommitKey,
    decode_group_value,
    decode_key,
    decode_offset_value,
    encode_group_key,
    encode_offset_key,
    encode_offset_value,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    UNCOMMITTED,
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
    OffsetAndMetadata,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.model.timers import Timers

#: The shard's own timer, beside those of its groups.
_EXPIRE_OFFSETS: TimerKey = ("expire-offsets", "", "")


@attrs.define(slots=True, eq=False)
class GroupSettings:
    """The broker's group and offset settings, in Kafka's units."""

    limits: GroupLimits = attrs.field(factory=GroupLimits)
    min_session_timeout_ms: int = 6000
    max_session_timeout_ms: int = 1_800_000
    offset_metadata_max_bytes: int = 4096
    offsets_retention_ms: int = 7 * 24 * 3600 * 1000
    offsets_retention_check_interval_ms: int = 600_000
    wall_offset_us: int = 0


class GroupShard:
    """``effects`` is drained by the broker after every input. ``new_id(prefix)`` makes member ids."""

    def __init__(
        self, settings: GroupSettings, new_id: Callable[[str], str], partition_exists: Callable[[TopicPartition], bool]
    ) -> None:
        self.effects: list[GroupEffect] = []
        self.groups: dict[str, ClassicGroup] = {}
        self.offsets = OffsetStore()
        self._settings = settings
        self._new_id = new_id
        self._partition_exists = partition_exists
        self._timers: Timers[TimerKey] = Timers()
        self._handlers: dict[type[Any], Callable[[Any, str, Token, int], None]] = {
            JoinGroupRequest: self._on_join,
            SyncGroupRequest: self._on_sync,
            HeartbeatRequest: self._on_heartbeat,
            LeaveGroupRequest: self._on_leave,
            OffsetCommitRequest: self._on_commit,
            OffsetFetchRequest: self._on_fetch,
            OffsetDeleteRequest: self._on_offset_delete,
            DescribeGroupsRequest: self._on_describe,
            DeleteGroupsRequest: self._on_delete,
        }

    @property
    def deadline_us(self) -> int:
        return self._timers.deadline_us

    def on_deadline(self, now_us: int) -> None:
        for key in self._timers.due(now_us):
            if key == _EXPIRE_OFFSETS:
                self._expire_offsets(now_us)
                continue
            group = self.groups.get(key[1])
            if group is not None:
                group.on_timer(key, now_us)

    def on_request(self, request: Any, client_host: str, token: Token, now_us: int) -> None:
        self._handlers[type(request)](request, client_host, token, now_us)

    def _wall_ms(self, at_us: int) -> int:
        return (at_us + self._settings.wall_offset_us) // 1000

    def _answer(self, token: Token, response: Any) -> None:
        self.effects.append(Answer(token, response))

    # --- membership ------------------------------------------------------------------------------------------------

    def _new_group(self, group_id: str, now_us: int) -> ClassicGroup:
        group = ClassicGroup(group_id, self.effects, self._timers, self._settings.limits, now_us)
        self.groups[group_id] = group
        return group

    def _on_join(self, request: JoinGroupRequest, client_host: str, token: Token, now_us: int) -> None:
        settings = self._settings
        group = self.groups.get(request.group_id)
        error = ErrorCode.NONE
        if not request.group_id:
            error = ErrorCode.INVALID_GROUP_ID
        elif not settings.min_session_timeout_ms <= request.session_timeout_ms <= settings.max_session_timeout_ms:
            error = ErrorCode.INVALID_SESSION_TIMEOUT
        elif group is None and request.member_id:
            error = ErrorCode.UNKNOWN_MEMBER_ID
        if error is not ErrorCode.NONE:
            self._answer(token, JoinGroupResponse(error, member_id=request.member_id))
            return
        if group is None:
            group = self._new_group(request.group_id, now_us)
        group.on_join(request, client_host, token, self._new_id, now_us)

    def _on_sync(self, request: SyncGroupRequest, client_host: str, token: Token, now_us: int) -> None:
        group = self.groups.get(request.group_id)
        if group is None:
            self._answer(token, SyncGroupResponse(ErrorCode.UNKNOWN_MEMBER_ID))
        else:
            group.on_sync(request, token, now_us)

    def _on_heartbeat(self, request: HeartbeatRequest, client_host: str, token: Token, now_us: int) -> None:
        group = self.groups.get(request.group_id)
        if group is None:
            self._answer(token, HeartbeatResponse(ErrorCode.UNKNOWN_MEMBER_ID))
        else:
            group.on_heartbeat(request, token, now_us)

    def _on_leave(self, request: LeaveGroupRequest, client_host: str, token: Token, now_us: int) -> None:
        group = self.groups.get(request.group_id)
        if group is None:
            results = tuple((identity, ErrorCode.UNKNOWN_MEMBER_ID) for identity in request.members)
            self._answer(token, LeaveGroupResponse(ErrorCode.NONE, results))
        else:
            group.on_leave(request, token, now_us)

    # --- offsets ---------------------------------------------------------------------------------------------------

    def _on_commit(self, request: OffsetCommitRequest, client_host: str, token: Token, now_us: int) -> None:
        error = self._commit_problem(request, now_us)
        if error is not ErrorCode.NONE:
            self._answer(token, OffsetCommitResponse(tuple((tp, error) for tp, _ in request.offsets)))
            return
        verdicts = {tp: self._offset_problem(tp, value) for tp, value in request.offsets}
        accepted = [(tp, value) for tp, value in request.offsets if verdicts[tp] is ErrorCode.NONE]

        def done(error: ErrorCode, now_us: int) -> None:
            for tp, value in accepted:
                if error is ErrorCode.NONE:
                    self.offsets.replay(request.group_id, tp, CommittedOffset(value, stamp_ms))
                else:
                    verdicts[tp] = _commit_error(error)
            self._answer(token, OffsetCommitResponse(tuple(verdicts.items())))

        stamp_ms = self._wall_ms(now_us)
        if not accepted:
            done(ErrorCode.NONE, now_us)
            return
        records: list[tuple[bytes, bytes | None]] = [
            (encode_offset_key(request.group_id, tp), encode_offset_value(value, stamp_ms)) for tp, value in accepted
        ]
        self.effects.append(Persist(records, done))
        self._arm_expiry(now_us)

    def _commit_problem(self, request: OffsetCommitRequest, now_us: int) -> ErrorCode:
        """Who may commit: a member of the current generation, or anybody while the group has no members."""
        if not request.group_id:
            return ErrorCode.INVALID_GROUP_ID
        group = self.groups.get(request.group_id)
        if group is None:
            if request.generation_id >= 0:
                return ErrorCode.ILLEGAL_GENERATION
            self._new_group(request.group_id, now_us)
            return ErrorCode.NONE
        if request.generation_id < 0 and group.state == EMPTY:
            return ErrorCode.NONE
        if request.generation_id < 0 and not request.member_id and request.group_instance_id is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        member, error = group.member_for(request.member_id, request.group_instance_id)
        if member is None:
            return error
        if request.generation_id != group.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        if group.state == COMPLETING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        group.refresh(request.member_id, now_us)
        return ErrorCode.NONE

    def _offset_problem(self, tp: TopicPartition, value: OffsetAndMetadata) -> ErrorCode:
        if not self._partition_exists(tp):
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if len(value.metadata.encode()) > self._settings.offset_metadata_max_bytes:
            return ErrorCode.OFFSET_METADATA_TOO_LARGE
        return ErrorCode.NONE

    def _on_fetch(self, request: OffsetFetchRequest, client_host: str, token: Token, now_us: int) -> None:
        if request.partitions is None:
            wanted = list(self.offsets.of_group(request.group_id))
        else:
            wanted = list(request.partitions)
        found = tuple((tp, self.offsets.get(request.group_id, tp) or UNCOMMITTED, ErrorCode.NONE) for tp in wanted)
        self._answer(token, OffsetFetchResponse(ErrorCode.NONE, found))

    def _on_offset_delete(self, request: OffsetDeleteRequest, client_host: str, token: Token, now_us: int) -> None:
        group = self.groups.get(request.group_id)
        if group is None:
            self._answer(token, OffsetDeleteResponse(ErrorCode.GROUP_ID_NOT_FOUND))
            return
        subscribed = group.subscribed_topics() if group.members else frozenset()
        if subscribed is None:
            self._answer(token, OffsetDeleteResponse(ErrorCode.NON_EMPTY_GROUP))
            return
        verdicts = {
            tp: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if tp.topic in subscribed else ErrorCode.NONE
            for tp in request.partitions
        }
        doomed = [
            tp
            for tp, verdict in verdicts.items()
            if verdict is ErrorCode.NONE and self.offsets.get(request.group_id, tp) is not None
        ]

        def done(error: ErrorCode, now_us: int) -> None:
            code = append_error(error)
            self._answer(token, OffsetDeleteResponse(code, tuple(verdicts.items()) if code is ErrorCode.NONE else ()))

        self._delete_offsets([(request.group_id, tp) for tp in doomed], done, now_us)

    def _delete_offsets(
        self, doomed: list[tuple[str, TopicPartition]], done: Callable[[ErrorCode, int], None], now_us: int
    ) -> None:
        def deleted(error: ErrorCode, now_us: int) -> None:
            if error is ErrorCode.NONE:
                for group_id, tp in doomed:
                    self.offsets.replay(group_id, tp, None)
            done(error, now_us)

        if doomed:
            records: list[tuple[bytes, bytes | None]] = [
                (encode_offset_key(group_id, tp), None) for group_id, tp in doomed
            ]
            self.effects.append(Persist(records, deleted))
        else:
            deleted(ErrorCode.NONE, now_us)

    def on_topics_deleted(self, topics: Iterable[str], now_us: int) -> None:
        """Offsets of a deleted topic are tombstoned."""
        self._delete_offsets(self.offsets.of_topics(topics), lambda error, now_us: None, now_us)

    def _arm_expiry(self, now_us: int) -> None:
        if _EXPIRE_OFFSETS not in self._timers:
            self._timers.arm(_EXPIRE_OFFSETS, now_us + self._settings.offsets_retention_check_interval_ms * 1000)

    def _expire_offsets(self, now_us: int) -> None:
        now_ms, retention_ms = self._wall_ms(now_us), self._settings.offsets_retention_ms
        for group_id in [*self.groups, *(name for name in self.offsets.groups() if name not in self.groups)]:
            group = self.groups.get(group_id)
            if group is not None and group.state not in (EMPTY, STABLE):
                continue
            empty_since_ms = None
            if group is not None and group.state == EMPTY and not group.is_simple():
                empty_since_ms = self._wall_ms(group.state_since_us)
            subscribed = (group.subscribed_topics() if group is not None else None) or frozenset()
            if group is not None and group.state == STABLE and group.subscribed_topics() is None:
                continue
            doomed = self.offsets.expired(group_id, now_ms, retention_ms, empty_since_ms, subscribed)
            everything = len(doomed) == len(self.offsets.of_group(group_id))
            if doomed:
                self._delete_offsets([(group_id, tp) for tp in doomed], lambda error, now_us: None, now_us)
            if group is not None and group.state == EMPTY and everything and (doomed or group.generation_id > 0):
                self._remove_group(group_id, now_us)
        if self.offsets or self.groups:
            self._arm_expiry(now_us)

    # --- describing and deleting -----------------------------------------------------------------------------------

    def listed(self) -> list[ListedGroup]:
        """Every group of this shard, for ListGroups."""
        return [
            ListedGroup(group.group_id, group.protocol_type or "", group.state, "classic")
            for group in self.groups.values()
        ]

    def _on_describe(self, request: DescribeGroupsRequest, client_host: str, token: Token, now_us: int) -> None:
        described = tuple(
            self.groups[name].describe() if name in self.groups else DescribedGroup(ErrorCode.NONE, name, DEAD)
            for name in request.groups
        )
        self._answer(token, DescribeGroupsResponse(described))

    def _on_delete(self, request: DeleteGroupsRequest, client_host: str, token: Token, now_us: int) -> None:
        results: list[tuple[str, ErrorCode]] = []
        for group_id in request.groups:
            group = self.groups.get(group_id)
            if not group_id:
                results.append((group_id, ErrorCode.INVALID_GROUP_ID))
            elif group is None:
                results.append((group_id, ErrorCode.GROUP_ID_NOT_FOUND))
            elif group.state != EMPTY:
                results.append((group_id, ErrorCode.NON_EMPTY_GROUP))
            else:
                doomed = [(group_id, tp) for tp in self.offsets.of_group(group_id)]
                self._delete_offsets(doomed, lambda error, now_us: None, now_us)
                self._remove_group(group_id, now_us)
                results.append((group_id, ErrorCode.NONE))
        self._answer(token, DeleteGroupsResponse(tuple(results)))

    def _remove_group(self, group_id: str, now_us: int) -> None:
        self.groups.pop(group_id).drop(ErrorCode.COORDINATOR_NOT_AVAILABLE, now_us)
        self.effects.append(Persist([(encode_group_key(group_id), None)], lambda error, now_us: None))

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

    def unload(self, now_us: int) -> None:
        """The partition is led elsewhere now: whatever is parked hears NOT_COORDINATOR."""
        for group in self.groups.values():
            group.drop(ErrorCode.NOT_COORDINATOR, now_us)
        self.groups.clear()

    def check(self) -> None:
        for group in self.groups.values():
            group.check()


def _commit_error(error: ErrorCode) -> ErrorCode:
    if error is ErrorCode.MESSAGE_TOO_LARGE:
        return ErrorCode.INVALID_COMMIT_OFFSET_SIZE
    return append_error(error)
