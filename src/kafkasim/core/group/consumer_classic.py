"""Members of a consumer group that still speak the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

Mirrors:  GroupMetadataManager.classicGroup*ToConsumerGroup.
Inputs:   on_join, on_sync, on_heartbeat, on_leave.      Effects: Answer, Persist.
Rule 1:   the server assigns; the generation is the member epoch, and no member leads.
Rule 2:   a member learns by REBALANCE_IN_PROGRESS that it must rejoin: its target moved, it has to give up, or what it waits for is
          free. It must rejoin, and then sync, within its rebalance timeout.
"""

from __future__ import annotations

import attrs

from kafkasim.core.group.consumer import ConsumerGroups, known_static
from kafkasim.core.group.consumer_records import ClassicMemberMetadata
from kafkasim.core.group.consumer_regex import RegexStatus
from kafkasim.core.group.consumer_state import (
    NO_PARTITION_EPOCH,
    UNRELEASED_PARTITIONS,
    UNREVOKED_PARTITIONS,
    ConsumerGroupState,
    ConsumerMember,
    Refused,
    without_epochs,
)
from kafkasim.core.group.effects import Token, append_error
from kafkasim.core.group.java_order import string_set_order, uuid_text
from kafkasim.core.group.members import TimerKey
from kafkasim.core.group.migration import Migration
from kafkasim.core.group.runtime import Plan, Runtime
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    SyncGroupRequest,
    SyncGroupResponse,
)

_PROTOCOL_TYPE = "consumer"


class ClassicProtocolMembers:
    def __init__(self, runtime: Runtime, consumers: ConsumerGroups, migration: Migration) -> None:
        self._runtime = runtime
        self._consumers = consumers
        self._migration = migration

    # --- JoinGroup -------------------------------------------------------------------------------------------------

    def on_join(
        self, group: ConsumerGroupState, request: JoinGroupRequest, client_host: str, token: Token, now_us: int
    ) -> None:
        runtime = self._runtime
        unknown = request.member_id == ""
        member_id = request.member_id or uuid_text(int(runtime.new_id("").replace("-", ""), 16))
        try:
            self._consumers.refuse_if_full(group, member_id)
            if not _supports(group, request):
                text = f"Member {member_id}'s protocols are not supported."
                raise Refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, text)
            if unknown and request.group_instance_id is None:
                runtime.answer(token, JoinGroupResponse(ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id))
                return
            plan = self._join(group, request, member_id, client_host, now_us)
        except Refused as problem:
            runtime.answer(token, JoinGroupResponse(problem.error, member_id=request.member_id))
            return

        def done(error: ErrorCode, now_us: int) -> None:
            failed = JoinGroupResponse(append_error(error), member_id=member_id)
            runtime.answer(token, plan.response if error is ErrorCode.NONE else failed)

        runtime.carry_out(plan, done, now_us)

    def _join(
        self, group: ConsumerGroupState, request: JoinGroupRequest, member_id: str, client_host: str, now_us: int
    ) -> Plan:
        plan, consumers = Plan(), self._consumers
        member = self._joining_member(group, request, member_id, plan)
        replaced = group.static_member(request.group_instance_id)
        downgrades = replaced is not None and self._migration.downgrades_by(group, replaced)
        updated = _updated(member, request, client_host)
        names_changed = consumers.write_member(group, member, updated, plan)
        regex = consumers.regexes.on_heartbeat(group, member, updated, plan, now_us)
        bumps = names_changed or regex is not RegexStatus.NO_CHANGE
        epoch, homogeneous = consumers.refresh_subscriptions(group, member, updated, bumps, plan, now_us)
        owned = self._migration.by_id(request.protocols[0][1].owned_partitions)
        if not downgrades:
            target = consumers.update_target(group, epoch, member, updated, homogeneous, plan, now_us)
            updated = consumers.reconcile_member(group, updated, target, bumps, owned, plan, now_us)
            plan.committed.append(lambda now_us: self._joined(group.group_id, request, member_id, now_us))
        else:
            rebalance = group.assignment_epoch < epoch
            if not rebalance:
                kept = consumers.current_target(group, updated)
                updated = consumers.reconcile_member(group, updated, kept, bumps, owned, plan, now_us)
            self._migration.downgrade(group, [], updated, plan, now_us, rebalance=rebalance)
        plan.response = JoinGroupResponse(
            ErrorCode.NONE, updated.member_epoch, _PROTOCOL_TYPE, request.protocols[0][0], member_id=member_id
        )
        return plan

    def _joining_member(
        self, group: ConsumerGroupState, request: JoinGroupRequest, member_id: str, plan: Plan
    ) -> ConsumerMember:
        known = group.members.get(member_id) or ConsumerMember(member_id)
        if request.group_instance_id is None:
            return known
        existing = group.static_member(request.group_instance_id)
        if request.member_id != "":
            return known_static(existing, request.group_instance_id, member_id)
        return known if existing is None else self._consumers.replace_static(group, existing, member_id, plan)

    def _joined(self, group_id: str, request: JoinGroupRequest, member_id: str, now_us: int) -> None:
        timers = self._runtime.timers
        timers.disarm(("consumer-join", group_id, member_id))
        timers.arm(("session", group_id, member_id), now_us + request.session_timeout_ms * 1000)
        timers.arm(("consumer-sync", group_id, member_id), now_us + request.rebalance_timeout_ms * 1000)

    # --- SyncGroup -------------------------------------------------------------------------------------------------

    def on_sync(self, group: ConsumerGroupState, request: SyncGroupRequest, token: Token, now_us: int) -> None:
        runtime = self._runtime
        try:
            member = self._classic_member(group, request.member_id, request.group_instance_id)
            _refuse_other_generation(member, request.generation_id)
            self._refuse_other_protocol(member, request)
            if group.assignment_epoch > member.member_epoch and member.state != UNREVOKED_PARTITIONS:
                self._await_join(group, member, now_us)
                text = f"A new rebalance is triggered in group {group.group_id}."
                raise Refused(ErrorCode.REBALANCE_IN_PROGRESS, text)
        except Refused as problem:
            runtime.answer(token, SyncGroupResponse(problem.error))
            return
        assignment = self._migration.assignment(without_epochs(member.assigned))
        assert member.classic is not None
        session_us = member.classic.session_timeout_ms * 1000

        def done(error: ErrorCode, now_us: int) -> None:
            if error is not ErrorCode.NONE:
                runtime.answer(token, SyncGroupResponse(append_error(error)))
                return
            runtime.timers.disarm(("consumer-sync", group.group_id, member.member_id))
            runtime.timers.arm(("session", group.group_id, member.member_id), now_us + session_us)
            response = SyncGroupResponse(ErrorCode.NONE, assignment, request.protocol_type, request.protocol_name)
            runtime.answer(token, response)

        runtime.carry_out(Plan(), done, now_us)

    def _refuse_other_protocol(self, member: ConsumerMember, request: SyncGroupRequest) -> None:
        assert member.classic is not None
        if request.protocol_type not in (None, _PROTOCOL_TYPE) or request.protocol_name not in (
            None,
            member.classic.protocols[0][0],
        ):
            text = f"Member {member.member_id} syncs with another protocol than it joined with."
            raise Refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, text)

    # --- Heartbeat -------------------------------------------------------------------------------------------------

    def on_heartbeat(self, group: ConsumerGroupState, request: HeartbeatRequest, token: Token, now_us: int) -> None:
        runtime = self._runtime
        try:
            member = self._classic_member(group, request.member_id, request.group_instance_id)
            _refuse_other_generation(member, request.generation_id)
        except Refused as problem:
            runtime.answer(token, HeartbeatResponse(problem.error))
            return
        assert member.classic is not None
        session_us = member.classic.session_timeout_ms * 1000
        runtime.timers.arm(("session", group.group_id, member.member_id), now_us + session_us)
        answer = ErrorCode.NONE
        if (
            member.member_epoch < group.assignment_epoch
            or member.state == UNREVOKED_PARTITIONS
            or (member.state == UNRELEASED_PARTITIONS and not _waits(group, member))
        ):
            answer = ErrorCode.REBALANCE_IN_PROGRESS
            self._await_join(group, member, now_us)

        def done(error: ErrorCode, now_us: int) -> None:
            runtime.answer(token, HeartbeatResponse(answer if error is ErrorCode.NONE else append_error(error)))

        runtime.carry_out(Plan(), done, now_us)

    def _await_join(self, group: ConsumerGroupState, member: ConsumerMember, now_us: int) -> None:
        key: TimerKey = ("consumer-join", group.group_id, member.member_id)
        if key not in self._runtime.timers:
            self._runtime.timers.arm(key, now_us + member.rebalance_timeout_ms * 1000)

    # --- LeaveGroup ------------------------------------------------------------------------------------------------

    def on_leave(self, group: ConsumerGroupState, request: LeaveGroupRequest, token: Token, now_us: int) -> None:
        leaving: dict[str, ConsumerMember] = {}
        results: list[tuple[MemberIdentity, ErrorCode]] = []
        for identity in request.members:
            try:
                member = _leaving(group, identity)
                leaving[member.member_id] = member
                results.append((identity, ErrorCode.NONE))
            except Refused as problem:
                results.append((identity, problem.error))
        plan = self._consumers.fence(group, list(leaving.values()), now_us)

        def done(error: ErrorCode, now_us: int) -> None:
            code = append_error(error)
            self._runtime.answer(token, LeaveGroupResponse(code, tuple(results) if code is ErrorCode.NONE else ()))

        self._runtime.carry_out(plan, done, now_us)

    def _classic_member(self, group: ConsumerGroupState, member_id: str, instance_id: str | None) -> ConsumerMember:
        if instance_id is None:
            member = group.member(member_id)
        else:
            member = known_static(group.static_member(instance_id), instance_id, member_id)
        if member.classic is None:
            text = f"Member {member_id} does not use the classic protocol."
            raise Refused(ErrorCode.UNKNOWN_MEMBER_ID, text)
        return member


def _leaving(group: ConsumerGroupState, identity: MemberIdentity) -> ConsumerMember:
    instance_id = identity.group_instance_id
    if instance_id is None:
        return group.member(identity.member_id)
    existing = group.static_member(instance_id)
    if existing is not None and identity.member_id == "":  # an administrator names the instance alone
        return existing
    return known_static(existing, instance_id, identity.member_id)


def _supports(group: ConsumerGroupState, request: JoinGroupRequest) -> bool:
    """Some protocol of the newcomer is one that all classic members have."""
    if request.protocol_type != _PROTOCOL_TYPE:
        return False
    return any(group.classic_protocols.get(name, 0) == group.classic_members for name, _ in request.protocols)


def _refuse_other_generation(member: ConsumerMember, generation_id: int) -> None:
    if generation_id != member.member_epoch:
        text = f"The request generation id {generation_id} is not equal to the member epoch {member.member_epoch}."
        raise Refused(ErrorCode.ILLEGAL_GENERATION, text)


def _waits(group: ConsumerGroupState, member: ConsumerMember) -> bool:
    """Somebody else still has a partition of the member's target."""
    return any(
        partition not in member.assigned.get(topic_id, ())
        and group.partition_epoch(topic_id, partition) != NO_PARTITION_EPOCH
        for topic_id, partitions in group.targets.get(member.member_id, {}).items()
        for partition in partitions
    )


def _updated(member: ConsumerMember, request: JoinGroupRequest, client_host: str) -> ConsumerMember:
    subscription = request.protocols[0][1]
    names = member.topic_names
    if set(subscription.topics) != set(names):
        names = tuple(string_set_order(list(dict.fromkeys(subscription.topics))))
    return attrs.evolve(
        member,
        instance_id=member.instance_id if request.group_instance_id is None else request.group_instance_id,
        rack_id=subscription.rack_id or member.rack_id,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        topic_names=names,
        topic_regex="",
        client_id=request.client_id,
        client_host=client_host,
        classic=ClassicMemberMetadata(request.session_timeout_ms, request.protocols),
    )
