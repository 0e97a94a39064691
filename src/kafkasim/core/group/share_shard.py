"""The share groups of one ``__consumer_offsets`` partition: heartbeats, assignments, sessions, offsets that admins change.

Mirrors:  GroupMetadataManager.shareGroupHeartbeat and its kin, GroupCoordinatorService (the share half of both; KIP-932).
Inputs:   on_heartbeat, on_describe, on_initialized, on_deadline, load, unload.    Effects: Answer, Persist, InitializeState.
Rule 1:   a handler makes records, takes them in at once, and answers when they are committed.
Rule 2:   no barrier: a member goes straight to the newest epoch; the assignment is made anew at most once an interval.
Rule 3:   partitions are assigned once the share coordinator has initialised their state, so a first member gets its
          partitions with its second heartbeat.
Differs:  a record that could not be committed is not taken back; its partition of the log is led elsewhere by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import attrs

from kafkasim.core.group.effects import Answer, Persist, Token, append_error
from kafkasim.core.group.java_order import string_map_order
from kafkasim.core.group.share_group import ShareGroup, ShareMember
from kafkasim.core.group.share_records import (
    CURRENT_MEMBER,
    GROUP_EPOCH,
    MEMBER,
    STATE_PARTITIONS,
    TARGET_EPOCH,
    TARGET_MEMBER,
    Assigned,
    ShareRecord,
    decode,
    encode,
)
from kafkasim.core.group.simple_assignor import assign
from kafkasim.core.model.consumer_group_messages import TopicPartitions
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import slotted
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.model.share_messages import (
    ShareGroupDescribed,
    ShareGroupDescribedMember,
    ShareGroupDescribeRequest,
    ShareGroupDescribeResponse,
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
    TopicIdPartition,
)
from kafkasim.core.model.timers import Timers

ASSIGNOR_NAME = "simple"
LEAVE_EPOCH = -1


@slotted
class ShareGroupSettings:
    """What holds for one group now: its own configs over the broker's."""

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5_000
    assignment_interval_ms: int = 1_000
    max_size: int = 200
    initialize_retry_interval_ms: int = 30_000


@slotted
class InitializeState:
    """Have the share coordinator make state for these partitions, then call ``on_initialized``."""

    group_id: str
    state_epoch: int
    partitions: tuple[TopicIdPartition, ...]


ShareGroupEffect: TypeAlias = "Answer | Persist | InitializeState"

#: topic name -> (topic id, number of partitions), or None
TopicLookup: TypeAlias = "Callable[[str], tuple[str, int] | None]"


class ShareGroupShard:
    """``settings_of(group_id)``; ``is_taken(group_id)``: a group of another type has the name."""

    def __init__(
        self,
        settings_of: Callable[[str], ShareGroupSettings],
        topic: TopicLookup,
        is_taken: Callable[[str], bool],
        wall_offset_us: int,
    ) -> None:
        self.effects: list[ShareGroupEffect] = []
        self.groups: dict[str, ShareGroup] = {}
        self._settings_of = settings_of
        self._topic = topic
        self._is_taken = is_taken
        self.wall_offset_us = wall_offset_us
        self._timers: Timers[tuple[str, str]] = Timers()

    @property
    def deadline_us(self) -> int:
        return self._timers.deadline_us

    def on_deadline(self, now_us: int) -> None:
        for group_id, member_id in self._timers.due(now_us):
            group = self.groups.get(group_id)
            if group is not None and member_id in group.members:
                self._write(self._removal(group, member_id), lambda error, now_us: None)

    def _ms(self, now_us: int) -> int:
        return (now_us + self.wall_offset_us) // 1000

    def _write(self, records: list[ShareRecord], done: Callable[[ErrorCode, int], None]) -> None:
        for record in records:
            self.replay(record)
        self.effects.append(Persist([encode(record) for record in records], done))

    # --- heartbeats ------------------------------------------------------------------------------------------------

    def on_heartbeat(self, request: ShareGroupHeartbeatRequest, client_host: str, token: Token, now_us: int) -> None:
        error, text = self._problem(request)
        if error is ErrorCode.NONE and request.member_epoch == LEAVE_EPOCH:
            self._leave(request, token)
            return
        if error is not ErrorCode.NONE:
            self.effects.append(Answer(token, ShareGroupHeartbeatResponse(error, text)))
            return
        group = self.groups.get(request.group_id) or ShareGroup(request.group_id)
        _Heartbeat(self, group, request, client_host, now_us).answer(token)

    def _problem(self, request: ShareGroupHeartbeatRequest) -> tuple[ErrorCode, str | None]:
        """Is this a request that makes sense, and from somebody who belongs here?"""
        invalid = _invalid(request)
        if invalid is not None:
            return ErrorCode.INVALID_REQUEST, invalid
        group = self.groups.get(request.group_id)
        if group is None and (request.member_epoch != 0 or self._is_taken(request.group_id)):
            return ErrorCode.GROUP_ID_NOT_FOUND, self._missing(request.group_id)
        member = group.members.get(request.member_id) if group is not None else None
        if member is None:
            if request.member_epoch != 0:
                return ErrorCode.UNKNOWN_MEMBER_ID, f"Member {request.member_id} is not a member of the group."
            most = self._settings_of(request.group_id).max_size
            if group is not None and len(group.members) >= most:
                text = f"The share group has reached its maximum capacity of {most} members."
                return ErrorCode.GROUP_MAX_SIZE_REACHED, text
        elif request.member_epoch > 0 and request.member_epoch not in (member.epoch, member.previous_epoch):
            return ErrorCode.FENCED_MEMBER_EPOCH, (
                f"The share group member has another member epoch ({request.member_epoch}) than the one known by the "
                f"group coordinator ({member.epoch}). The member must abandon all its partitions and rejoin."
            )
        return ErrorCode.NONE, None

    def _missing(self, group_id: str) -> str:
        """Why there is no share group of this name."""
        return f"Group {group_id} is not a share group." if self._is_taken(group_id) else f"Group {group_id} not found."

    def _leave(self, request: ShareGroupHeartbeatRequest, token: Token) -> None:
        group = self.groups[request.group_id]
        response = ShareGroupHeartbeatResponse(ErrorCode.NONE, None, request.member_id, request.member_epoch)

        def done(error: ErrorCode, now_us: int) -> None:
            answer = response if error is ErrorCode.NONE else ShareGroupHeartbeatResponse(append_error(error))
            self.effects.append(Answer(token, answer))

        self._timers.disarm((group.group_id, request.member_id))
        self._write(self._removal(group, request.member_id), done)

    def _removal(self, group: ShareGroup, member_id: str) -> list[ShareRecord]:
        epoch = {"epoch": group.epoch + 1, "hash": self.metadata_hash(group.subscribed_with(member_id, ()))}
        return [
            ShareRecord(CURRENT_MEMBER, group.group_id, member_id, None),
            ShareRecord(TARGET_MEMBER, group.group_id, member_id, None),
            ShareRecord(MEMBER, group.group_id, member_id, None),
            ShareRecord(GROUP_EPOCH, group.group_id, "", epoch),
        ]

    def metadata_hash(self, names: Iterable[str]) -> str:
        """Stands for what the group's assignment depends on: the subscribed topics, their ids and sizes."""
        found = [(name, self._topic(name)) for name in names]
        return ";".join(f"{name}={topic[0]}/{topic[1]}" for name, topic in found if topic is not None)

    def topic(self, name: str) -> tuple[str, int] | None:
        return self._topic(name)

    def settings_of(self, group_id: str) -> ShareGroupSettings:
        return self._settings_of(group_id)

    def keep_session(self, group_id: str, member_id: str, now_us: int) -> None:
        timeout_us = self._settings_of(group_id).session_timeout_ms * 1000
        self._timers.arm((group_id, member_id), now_us + timeout_us)

    # --- share state -----------------------------------------------------------------------------------------------

    def state_to_initialize(
        self, group: ShareGroup, names: Iterable[str], now_ms: int
    ) -> dict[str, tuple[str, list[int]]]:
        """Partitions of the named topics whose state was neither made nor asked for lately: topic id -> (name, partitions)."""
        retry_ms = self._settings_of(group.group_id).initialize_retry_interval_ms
        wanted: dict[str, tuple[str, list[int]]] = {}
        for name in names:
            found = self._topic(name)
            if found is None:
                continue
            topic_id, count = found
            known = list(group.initialized.get(topic_id, ("", [], 0))[1])
            asked = group.initializing.get(topic_id)
            if asked is not None and now_ms - asked[2] < retry_ms:
                known += asked[1]
            missing = [number for number in range(count) if number not in known]
            if missing:
                wanted[topic_id] = (name, missing)
        return wanted

    def on_initialized(
        self, group_id: str, made: Iterable[TopicIdPartition], failed: Iterable[TopicIdPartition], now_us: int
    ) -> None:
        """The share coordinator has answered: what it made may be assigned, what failed may be asked for again."""
        group = self.groups.get(group_id)
        if group is None:
            return
        initializing = {topic_id: (name, list(parts), at) for topic_id, (name, parts, at) in group.initializing.items()}
        initialized = {topic_id: (name, list(parts), at) for topic_id, (name, parts, at) in group.initialized.items()}
        now_ms = self._ms(now_us)
        for tip, is_made in [*((tip, True) for tip in made), *((tip, False) for tip in failed)]:
            entry = initializing.get(tip.topic_id)
            if entry is None:
                continue
            if tip.partition in entry[1]:
                entry[1].remove(tip.partition)
            if not entry[1]:
                del initializing[tip.topic_id]
            if is_made:
                parts = initialized.get(tip.topic_id, (entry[0], [], now_ms))[1]
                initialized[tip.topic_id] = (entry[0], sorted({*parts, tip.partition}), now_ms)
        value = {"initializing": initializing, "initialized": initialized}
        self._write([ShareRecord(STATE_PARTITIONS, group_id, "", value)], lambda error, now_us: None)

    # --- what admins change ------------------------------------------------------------------------------------------

    def emptied(self, group_id: str, *, makes: bool = False) -> tuple[ShareGroup | None, ErrorCode, str]:
        """The group, if it may be changed: there must be one, or ``makes`` one, and nobody in it."""
        group = self.groups.get(group_id)
        if group is None and makes and not self._is_taken(group_id):
            return ShareGroup(group_id), ErrorCode.NONE, ""
        if group is None:
            return None, ErrorCode.GROUP_ID_NOT_FOUND, self._missing(group_id)
        if group.members:
            return None, ErrorCode.NON_EMPTY_GROUP, f"Share group {group_id} is not empty."
        return group, ErrorCode.NONE, ""

    def alter(self, group: ShareGroup, parts: Iterable[tuple[str, TopicIdPartition]], now_us: int) -> int:
        """State of these partitions (topic name, partition) is to be made anew, in the state epoch that is returned.

        The epoch is the group's, which moved when its last member went: writes of before are fenced by it.
        """
        now_ms = self._ms(now_us)
        initializing = dict(group.initializing)
        for name, tip in parts:
            known = initializing.get(tip.topic_id, (name, [], 0))[1]
            initializing[tip.topic_id] = (name, sorted({*known, tip.partition}), now_ms)
        value = {"initializing": initializing, "initialized": dict(group.initialized)}
        self._write([ShareRecord(STATE_PARTITIONS, group.group_id, "", value)], lambda error, now_us: None)
        return group.epoch

    def forget_topics(self, group: ShareGroup, topic_ids: Iterable[str]) -> None:
        """State of these topics was deleted: the next member has it made anew."""
        gone = list(topic_ids)
        value = {
            "initializing": {key: entry for key, entry in group.initializing.items() if key not in gone},
            "initialized": {key: entry for key, entry in group.initialized.items() if key not in gone},
        }
        self._write([ShareRecord(STATE_PARTITIONS, group.group_id, "", value)], lambda error, now_us: None)

    def delete(self, group: ShareGroup) -> None:
        kinds = (TARGET_EPOCH, STATE_PARTITIONS, GROUP_EPOCH)
        self._write([ShareRecord(kind, group.group_id, "", None) for kind in kinds], lambda error, now_us: None)

    # --- descriptions ------------------------------------------------------------------------------------------------

    def on_describe(self, request: ShareGroupDescribeRequest, token: Token) -> None:
        described = tuple(self._describe(group_id) for group_id in request.group_ids)
        self.effects.append(Answer(token, ShareGroupDescribeResponse(described)))

    def _describe(self, group_id: str) -> ShareGroupDescribed:
        group = self.groups.get(group_id)
        if group is None:
            return ShareGroupDescribed(ErrorCode.GROUP_ID_NOT_FOUND, group_id, self._missing(group_id), "Dead")
        members = tuple(
            ShareGroupDescribedMember(
                member.member_id,
                member.epoch,
                member.client_id,
                member.client_host,
                member.rack_id,
                member.subscribed,
                self._told(group, member.assigned),
            )
            for member in group.members.values()
        )
        return ShareGroupDescribed(
            ErrorCode.NONE, group_id, None, group.state, group.epoch, group.assignment_epoch, ASSIGNOR_NAME, members
        )

    def _told(self, group: ShareGroup, parts: Assigned) -> tuple[TopicPartitions, ...]:
        names = {topic_id: name for topic_id, (name, _, _) in group.initialized.items()}
        return tuple(TopicPartitions(topic, tuple(numbers), names.get(topic, "")) for topic, numbers in parts.items())

    # --- replay and fail-over ------------------------------------------------------------------------------------------

    def replay(self, record: ShareRecord) -> None:
        if record.kind == GROUP_EPOCH and record.value is None:
            self.groups.pop(record.group_id, None)
            return
        group = self.groups.get(record.group_id)
        if group is None:
            if record.value is None:
                return
            group = self.groups[record.group_id] = ShareGroup(record.group_id)
        group.replay(record)

    def load(self, batches: Iterable[RecordBatch], now_us: int) -> None:
        """Rebuild the groups from the partition's log; every member has a full session from now."""
        for batch in batches:
            if batch.is_control:
                continue
            for key, value in zip(batch.columns.keys, batch.columns.values, strict=True):
                record = decode(key, value) if key is not None else None
                if record is not None:
                    self.replay(record)
        for group_id, group in self.groups.items():
            for member_id in group.members:
                self.keep_session(group_id, member_id, now_us)

    def check(self) -> None:
        for group in self.groups.values():
            group.check()
            assert group.assignment_epoch <= group.epoch
            for member in group.members.values():
                assert member.epoch <= group.assignment_epoch


def _invalid(request: ShareGroupHeartbeatRequest) -> str | None:
    if not request.group_id.strip():
        return "GroupId can't be empty."
    if not request.member_id.strip():
        return "MemberId can't be empty."
    if request.rack_id is not None and not request.rack_id.strip():
        return "RackId can't be empty."
    if request.member_epoch < LEAVE_EPOCH:
        return f"MemberEpoch is {request.member_epoch}, but must be greater than or equal to -1."
    if request.member_epoch == 0 and not request.subscribed_topic_names:
        return "SubscribedTopicNames must be set in first request."
    return None


class _Heartbeat:
    """One heartbeat of a member that is known or may join."""

    __slots__ = ("client_host", "group", "now_us", "records", "request", "shard")

    def __init__(
        self,
        shard: ShareGroupShard,
        group: ShareGroup,
        request: ShareGroupHeartbeatRequest,
        client_host: str,
        now_us: int,
    ) -> None:
        self.shard = shard
        self.group = group
        self.request = request
        self.client_host = client_host
        self.now_us = now_us
        self.records: list[ShareRecord] = []

    def answer(self, token: Token) -> None:
        shard, group, request = self.shard, self.group, self.request
        before = group.members.get(request.member_id) or ShareMember(request.member_id)
        member = self._updated(before)
        names = self._subscribed(member)
        changed = member.subscribed != before.subscribed
        epoch = self._group_epoch(names, changed)
        target, target_epoch = self._target(member, epoch)
        after = self._reconciled(member, target, target_epoch, changed)
        shard.keep_session(group.group_id, member.member_id, self.now_us)
        told: tuple[TopicPartitions, ...] | None = None
        if request.member_epoch == 0 or request.subscribed_topic_names is not None or after.assigned != before.assigned:
            told = tuple(TopicPartitions(topic, tuple(parts)) for topic, parts in after.assigned.items())
        interval_ms = shard.settings_of(group.group_id).heartbeat_interval_ms
        response = ShareGroupHeartbeatResponse(ErrorCode.NONE, None, member.member_id, after.epoch, interval_ms, told)
        initialize = self._initialize(names, epoch)

        def done(error: ErrorCode, now_us: int) -> None:
            if error is not ErrorCode.NONE:
                shard.effects.append(Answer(token, ShareGroupHeartbeatResponse(append_error(error))))
                return
            shard.effects.append(Answer(token, response))
            if initialize is not None:
                shard.effects.append(initialize)

        if self.records:
            shard._write(self.records, done)
        else:
            done(ErrorCode.NONE, self.now_us)

    def _emit(self, kind: int, member_id: str, value: dict[str, Any]) -> None:
        self.records.append(ShareRecord(kind, self.group.group_id, member_id, value))

    def _updated(self, before: ShareMember) -> ShareMember:
        request = self.request
        names = request.subscribed_topic_names
        member = attrs.evolve(
            before,
            client_id=request.client_id,
            client_host=self.client_host,
            rack_id=before.rack_id if request.rack_id is None else request.rack_id,
            subscribed=before.subscribed if names is None else tuple(sorted(set(names))),
        )
        if member != before or before.member_id not in self.group.members:
            value = {
                "client": member.client_id,
                "host": member.client_host,
                "rack": member.rack_id,
                "topics": list(member.subscribed),
            }
            self._emit(MEMBER, member.member_id, value)
        return member

    def _subscribed(self, member: ShareMember) -> list[str]:
        return self.group.subscribed_with(member.member_id, member.subscribed)

    def _group_epoch(self, names: list[str], changed: bool) -> int:
        group = self.group
        metadata_hash = self.shard.metadata_hash(names)
        bump = changed or metadata_hash != group.metadata_hash
        if not bump and group.assignment_epoch >= group.epoch:
            bump = bool(group.members) and group.is_assignment_pending()
        if not bump:
            return group.epoch
        self._emit(GROUP_EPOCH, "", {"epoch": group.epoch + 1, "hash": metadata_hash})
        return group.epoch + 1

    def _target(self, member: ShareMember, epoch: int) -> tuple[Assigned, int]:
        """The member's part of the target assignment, made anew if the group has moved on and the interval is over."""
        group = self.group
        now_ms = self.shard._ms(self.now_us)
        interval_ms = self.shard.settings_of(group.group_id).assignment_interval_ms
        waits = group.assignment_ms >= 0 and now_ms < group.assignment_ms + interval_ms
        if group.assignment_epoch >= epoch or waits:
            return group.target.get(member.member_id, {}), group.assignment_epoch
        known = {**group.members, member.member_id: member}
        subscriptions = {}
        for key in string_map_order(known):
            found = [self.shard.topic(name) for name in known[key].subscribed]
            subscriptions[key] = [topic[0] for topic in found if topic is not None]
        current = {
            key: [(topic, number) for topic, numbers in parts.items() for number in numbers]
            for key, parts in group.target.items()
        }
        made: dict[str, Assigned] = {}
        for key, parts in assign(subscriptions, group.initialized_partitions(), current).items():
            mine = made[key] = {}
            for topic, number in parts:
                mine.setdefault(topic, []).append(number)
            if mine != group.target.get(key):
                self._emit(TARGET_MEMBER, key, {"parts": mine})
        self._emit(TARGET_EPOCH, "", {"epoch": epoch, "at_ms": now_ms})
        return made[member.member_id], epoch

    def _reconciled(self, member: ShareMember, target: Assigned, target_epoch: int, changed: bool) -> ShareMember:
        if target_epoch == member.epoch and not changed:
            return member
        wanted = [topic[0] for topic in map(self.shard.topic, member.subscribed) if topic is not None]
        assigned = {topic: list(parts) for topic, parts in target.items() if topic in wanted}
        previous = member.epoch if target_epoch != member.epoch else member.previous_epoch
        after = attrs.evolve(member, epoch=target_epoch, previous_epoch=previous, assigned=assigned)
        if after != member:
            self._emit(
                CURRENT_MEMBER, member.member_id, {"epoch": after.epoch, "previous": previous, "parts": assigned}
            )
        return after

    def _initialize(self, names: list[str], epoch: int) -> InitializeState | None:
        group = self.group
        now_ms = self.shard._ms(self.now_us)
        wanted = self.shard.state_to_initialize(group, names, now_ms)
        if not wanted:
            return None
        initializing = dict(group.initializing)
        for topic_id, (name, parts) in wanted.items():
            asked = initializing.get(topic_id, (name, [], 0))[1]
            initializing[topic_id] = (name, sorted({*asked, *parts}), now_ms)
        self._emit(STATE_PARTITIONS, "", {"initializing": initializing, "initialized": dict(group.initialized)})
        tips = tuple(TopicIdPartition(topic, number) for topic, (_, parts) in wanted.items() for number in parts)
        return InitializeState(group.group_id, epoch, tips)
