"""Consumer groups (KIP-848): heartbeats that join, report, reconcile and leave; sessions; fencing.

Mirrors:  org.apache.kafka.coordinator.group.GroupMetadataManager.consumerGroup*, GroupCoordinatorService.consumerGroupHeartbeat.
Inputs:   on_heartbeat, on_timer, on_loaded, on_topics_changed.      Effects: Answer, Persist.
Rule 1:   a heartbeat is computed from the group as the log has it: member, then target, then what the member has. Nothing is
          changed before the records are written.
Rule 2:   the target is computed by whoever beats first after the group epoch moved, at most once per assignment interval.
Rule 3:   a leave or a fence only moves the group epoch; what becomes free is handed out in the heartbeats of the others.
Beside:   ``consumer_regex`` (expressions), ``consumer_classic`` (members of the classic protocol), ``migration`` (both directions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from kafkasim.core.group.classic import ClassicGroup
from kafkasim.core.group.consumer_records import (
    CurrentAssignmentRecord,
    GroupEpochRecord,
    MemberRecord,
    RegexRecord,
    TargetMemberRecord,
)
from kafkasim.core.group.consumer_regex import RegexStatus, RegularExpressions
from kafkasim.core.group.consumer_state import (
    UNREVOKED_PARTITIONS,
    ConsumerGroupState,
    ConsumerMember,
    Refused,
    without_epochs,
)
from kafkasim.core.group.effects import Token, append_error
from kafkasim.core.group.java_order import string_set_order
from kafkasim.core.group.members import TimerKey
from kafkasim.core.group.migration import Migration
from kafkasim.core.group.reconciliation import Goal, Owned, reconcile
from kafkasim.core.group.runtime import Plan, Runtime
from kafkasim.core.group.server_assignors import Share
from kafkasim.core.group.target import Subscriptions, target_records
from kafkasim.core.model.consumer_group_messages import (
    CLASSIC_MEMBER,
    CONSUMER_MEMBER,
    JOIN_GROUP_MEMBER_EPOCH,
    LEAVE_GROUP_STATIC_MEMBER_EPOCH,
    ConsumerGroupDescribedGroup,
    ConsumerGroupDescribedMember,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import slotted

#: How long the topics are not looked at again unless somebody says that they changed (Integer.MAX_VALUE).
_METADATA_REFRESH_INTERVAL_MS = 2_147_483_647


@slotted
class Target:
    epoch: int
    share: Share


class ConsumerGroups:
    """The consumer groups of one shard. ``groups`` is the shard's, classic ones included."""

    def __init__(
        self,
        runtime: Runtime,
        groups: dict[str, ClassicGroup | ConsumerGroupState],
        migration: Migration,
        is_share: Callable[[str], bool],
    ) -> None:
        self._runtime = runtime
        self._groups = groups
        self._migration = migration
        self._is_share = is_share
        self.regexes = RegularExpressions(runtime, groups)
        #: In which epoch a member was told to give partitions up, as long as its rebalance timeout runs.
        self._revoking: dict[tuple[str, str], int] = {}

    # --- heartbeats ------------------------------------------------------------------------------------------------

    def on_heartbeat(self, request: ConsumerGroupHeartbeatRequest, client_host: str, token: Token, now_us: int) -> None:
        runtime = self._runtime
        try:
            self._validate(request)
            if request.member_epoch < JOIN_GROUP_MEMBER_EPOCH:
                plan = self._leave(request, now_us)
            else:
                plan = self._beat(request, client_host, now_us)
        except Refused as problem:
            runtime.answer(token, ConsumerGroupHeartbeatResponse(problem.error, problem.text))
            return

        def done(error: ErrorCode, now_us: int) -> None:
            if error is ErrorCode.NONE:
                runtime.answer(token, plan.response)
            else:
                runtime.answer(token, ConsumerGroupHeartbeatResponse(append_error(error)))

        runtime.carry_out(plan, done, now_us)

    def _validate(self, request: ConsumerGroupHeartbeatRequest) -> None:
        for value, name in (
            (request.member_id, "MemberId"),
            (request.group_id, "GroupId"),
            (request.instance_id, "InstanceId"),
            (request.rack_id, "RackId"),
        ):
            if value is not None and not value.strip():
                raise Refused(ErrorCode.INVALID_REQUEST, f"{name} can't be empty.")
        if request.member_epoch == JOIN_GROUP_MEMBER_EPOCH:
            if request.rebalance_timeout_ms == -1:
                raise Refused(ErrorCode.INVALID_REQUEST, "RebalanceTimeoutMs must be provided in first request.")
            if request.topic_partitions is None or request.topic_partitions:
                raise Refused(ErrorCode.INVALID_REQUEST, "TopicPartitions must be empty when (re-)joining.")
            if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
                text = "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
                raise Refused(ErrorCode.INVALID_REQUEST, text)
        elif request.member_epoch == LEAVE_GROUP_STATIC_MEMBER_EPOCH and request.instance_id is None:
            raise Refused(ErrorCode.INVALID_REQUEST, "InstanceId can't be null.")
        elif request.member_epoch < LEAVE_GROUP_STATIC_MEMBER_EPOCH:
            raise Refused(ErrorCode.INVALID_REQUEST, "MemberEpoch is invalid.")
        assignors = self._runtime.settings.assignors
        if request.server_assignor is not None and request.server_assignor not in assignors:
            raise Refused(
                ErrorCode.UNSUPPORTED_ASSIGNOR,
                f"ServerAssignor {request.server_assignor} is not supported. "
                f"Supported assignors: {', '.join(assignors)}.",
            )

    def _beat(self, request: ConsumerGroupHeartbeatRequest, client_host: str, now_us: int) -> Plan:
        plan = Plan()
        joins = request.member_epoch == JOIN_GROUP_MEMBER_EPOCH
        owned = _owned(request.topic_partitions)
        group = self._group_for(request.group_id, joins, plan)
        self.refuse_if_full(group, request.member_id)
        if request.instance_id is None:
            member = group.members.get(request.member_id) or ConsumerMember(request.member_id)
            if not joins:
                member = group.member(request.member_id)
                _refuse_wrong_epoch(member, request.member_epoch, owned)
        else:
            member = self._static_member(group, request, owned, joins, plan)
        updated = _updated(member, request, client_host)
        names_changed = self.write_member(group, member, updated, plan)
        regex = self.regexes.on_heartbeat(group, member, updated, plan, now_us)
        bumps = names_changed or regex is RegexStatus.UPDATED_AND_RESOLVED
        group_epoch, homogeneous = self.refresh_subscriptions(group, member, updated, bumps, plan, now_us)
        target = self.update_target(group, group_epoch, member, updated, homogeneous, plan, now_us)
        changed = names_changed or regex is not RegexStatus.NO_CHANGE
        updated = self.reconcile_member(group, updated, target, changed, owned, plan, now_us)
        session_us = self._runtime.settings.session_timeout_of(group.group_id) * 1000
        self._runtime.timers.arm(("session", group.group_id, updated.member_id), now_us + session_us)
        is_full = (
            request.rebalance_timeout_ms != -1
            and (request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None)
            and owned is not None
        )
        tells = joins or is_full or member.assigned != updated.assigned
        plan.response = ConsumerGroupHeartbeatResponse(
            ErrorCode.NONE,
            None,
            updated.member_id,
            updated.member_epoch,
            self._runtime.settings.heartbeat_interval_of(group.group_id),
            _topic_partitions(without_epochs(updated.assigned)) if tells else None,
        )
        return plan

    def _group_for(self, group_id: str, joins: bool, plan: Plan) -> ConsumerGroupState:
        """The group; for one that joins a new one, or what a classic group turns into."""
        group = self._groups.get(group_id)
        if isinstance(group, ConsumerGroupState):
            return group
        if group is not None and joins:
            return self._migration.upgraded(group, plan)
        if group is not None or self._is_share(group_id):
            raise Refused(ErrorCode.GROUP_ID_NOT_FOUND, self._missing(group_id))
        if not joins:
            raise Refused(ErrorCode.GROUP_ID_NOT_FOUND, f"Consumer group {group_id} not found.")
        return ConsumerGroupState(group_id)

    def _missing(self, group_id: str) -> str:
        """Why there is no consumer group of this name."""
        has_name = group_id in self._groups or self._is_share(group_id)
        return f"Group {group_id} is not a consumer group." if has_name else f"Group {group_id} not found."

    def refuse_if_full(self, group: ConsumerGroupState, member_id: str) -> None:
        most = self._runtime.settings.max_size
        if len(group.members) >= most and member_id not in group.members:
            text = f"The consumer group has reached its maximum capacity of {most} members."
            raise Refused(ErrorCode.GROUP_MAX_SIZE_REACHED, text)

    def _static_member(
        self,
        group: ConsumerGroupState,
        request: ConsumerGroupHeartbeatRequest,
        owned: Owned,
        joins: bool,
        plan: Plan,
    ) -> ConsumerMember:
        assert request.instance_id is not None
        existing = group.static_member(request.instance_id)
        if not joins:
            existing = known_static(existing, request.instance_id, request.member_id)
            _refuse_wrong_epoch(existing, request.member_epoch, owned)
            return existing
        if existing is None:
            return group.members.get(request.member_id) or ConsumerMember(request.member_id)
        if existing.classic is None and existing.member_epoch != LEAVE_GROUP_STATIC_MEMBER_EPOCH:
            raise Refused(
                ErrorCode.UNRELEASED_INSTANCE_ID,
                f"Static member {request.member_id} with instance id {request.instance_id} cannot join the group "
                f"because the instance id is owned by {existing.member_id} member.",
            )
        return self.replace_static(group, existing, request.member_id, plan)

    def replace_static(
        self, group: ConsumerGroupState, existing: ConsumerMember, member_id: str, plan: Plan
    ) -> ConsumerMember:
        """A new process of a static member: it takes over what its former self had and was to have."""
        member = attrs.evolve(existing, member_id=member_id, member_epoch=0, previous_epoch=0)
        group_id = group.group_id
        self._remove_member(plan, group_id, existing.member_id)
        plan.records += (
            member.subscription_record(group_id),
            TargetMemberRecord(group_id, member_id, group.targets.get(existing.member_id, {})),
            member.assignment_record(group_id),
        )
        return member

    def write_member(
        self, group: ConsumerGroupState, member: ConsumerMember, updated: ConsumerMember, plan: Plan
    ) -> bool:
        """The member's record if it changed. Returns whether the names of topics did."""
        if updated == member:
            return False
        plan.records.append(updated.subscription_record(group.group_id))
        return updated.topic_names != member.topic_names

    def refresh_subscriptions(
        self,
        group: ConsumerGroupState,
        member: ConsumerMember,
        updated: ConsumerMember,
        bumps: bool,
        plan: Plan,
        now_us: int,
    ) -> tuple[int, bool]:
        """A new group epoch if subscriptions or their topics changed. Returns it and whether all subscribe to the same."""
        now_ms = self._runtime.wall_ms(now_us)
        is_due = bumps or group.metadata_expired(now_ms)
        if not is_due and group.assignment_epoch >= group.group_epoch:
            return group.group_epoch, True  # nobody asks: there is no target to compute
        subscriptions = Subscriptions.after(group, [member], updated)
        count = len(group.members)
        if updated.member_id not in group.members and (updated.instance_id or "") not in group.static_members:
            count += 1
        homogeneous = subscriptions.homogeneous(count)
        epoch = group.group_epoch
        if is_due:
            metadata_hash = subscriptions.metadata_hash(self._runtime.topics)
            if bumps or metadata_hash != group.metadata_hash:
                epoch += 1
                plan.records.append(GroupEpochRecord(group.group_id, epoch, metadata_hash))
            plan.then.append(lambda now_us: self._refreshed(group.group_id, now_ms, epoch))
        return epoch, homogeneous

    def _refreshed(self, group_id: str, now_ms: int, epoch: int) -> None:
        group = self._groups.get(group_id)
        if isinstance(group, ConsumerGroupState):
            group.refresh_deadline_ms = now_ms + _METADATA_REFRESH_INTERVAL_MS
            group.refresh_epoch = epoch

    def update_target(
        self,
        group: ConsumerGroupState,
        group_epoch: int,
        member: ConsumerMember,
        updated: ConsumerMember,
        homogeneous: bool,
        plan: Plan,
        now_us: int,
    ) -> Target:
        runtime = self._runtime
        now_ms = runtime.wall_ms(now_us)
        interval_ms = runtime.settings.assignment_interval_of(group.group_id)
        computed_ms = group.assignment_timestamp_ms
        too_early = computed_ms != 0 and interval_ms != 0 and now_ms < computed_ms + interval_ms
        if group.assignment_epoch >= group_epoch or too_early:
            return self.current_target(group, updated)
        assignor = group.preferred_assignor(member, updated) or runtime.settings.assignors[0]
        records, share = target_records(group, group_epoch, assignor, runtime.topics, updated, homogeneous, now_ms)
        plan.records += records
        return Target(group_epoch, share)

    def current_target(self, group: ConsumerGroupState, member: ConsumerMember) -> Target:
        return Target(group.assignment_epoch, group.target_of(member))

    def reconcile_member(
        self,
        group: ConsumerGroupState,
        member: ConsumerMember,
        target: Target,
        subscription_changed: bool,
        owned: Owned,
        plan: Plan,
        now_us: int,
    ) -> ConsumerMember:
        if not subscription_changed and member.is_reconciled_to(target.epoch):
            return member

        def is_subscribed(topic_id: str) -> bool:
            topic = self._runtime.topics.identified(topic_id)
            return topic is not None and any(topic.name in names for names in group.names_of(member))

        goal = Goal(target.epoch, target.share, subscription_changed, is_subscribed, group.partition_epoch)
        updated = reconcile(member, goal, owned)
        if updated == member:
            return member
        plan.records.append(updated.assignment_record(group.group_id))
        if updated.classic is None:
            if updated.state == UNREVOKED_PARTITIONS:
                self._arm_rebalance(group.group_id, updated, now_us)
            else:
                self._revoking.pop((group.group_id, updated.member_id), None)
                self._runtime.timers.disarm(("rebalance", group.group_id, updated.member_id))
        return updated

    def _arm_rebalance(self, group_id: str, member: ConsumerMember, now_us: int) -> None:
        self._revoking[group_id, member.member_id] = member.member_epoch
        deadline_us = now_us + member.rebalance_timeout_ms * 1000
        self._runtime.timers.arm(("rebalance", group_id, member.member_id), deadline_us)

    # --- leaving and fencing ---------------------------------------------------------------------------------------

    def _leave(self, request: ConsumerGroupHeartbeatRequest, now_us: int) -> Plan:
        group = self._groups.get(request.group_id)
        if not isinstance(group, ConsumerGroupState):
            raise Refused(ErrorCode.GROUP_ID_NOT_FOUND, self._missing(request.group_id))
        response = ConsumerGroupHeartbeatResponse(
            ErrorCode.NONE, member_id=request.member_id, member_epoch=request.member_epoch
        )
        if request.instance_id is None:
            member = group.member(request.member_id)
        else:
            member = known_static(group.static_member(request.instance_id), request.instance_id, request.member_id)
            if request.member_epoch == LEAVE_GROUP_STATIC_MEMBER_EPOCH:
                return Plan([_gone_for_a_while(member).assignment_record(group.group_id)], response)
        plan = self.fence(group, [member], now_us)
        plan.response = response
        return plan

    def fence(self, group: ConsumerGroupState, members: list[ConsumerMember], now_us: int) -> Plan:
        """Take members out of the group; if only classic members stay, the group is classic again."""
        plan = Plan()
        if not members:
            return plan
        if self._migration.downgrades(group, members):
            self._migration.downgrade(group, members, None, plan, now_us, rebalance=True)
            return plan
        group_id = group.group_id
        for member in members:
            self._remove_member(plan, group_id, member.member_id)
        subscriptions = Subscriptions.after(group, members, None)
        plan.records += [
            RegexRecord(group_id, regex, is_tombstone=True)
            for regex in group.regexes
            if regex not in subscriptions.regexes
        ]
        metadata_hash = subscriptions.metadata_hash(self._runtime.topics)
        plan.records.append(GroupEpochRecord(group_id, group.group_epoch + 1, metadata_hash))
        for member in members:
            self.disarm(group_id, member.member_id)
        return plan

    def _remove_member(self, plan: Plan, group_id: str, member_id: str) -> None:
        plan.records += (
            CurrentAssignmentRecord(group_id, member_id, is_tombstone=True),
            TargetMemberRecord(group_id, member_id, is_tombstone=True),
            MemberRecord(group_id, member_id, is_tombstone=True),
        )

    def disarm(self, group_id: str, member_id: str) -> None:
        """Nothing of a member runs any longer."""
        self._revoking.pop((group_id, member_id), None)
        for kind in ("session", "rebalance", "consumer-join", "consumer-sync"):
            self._runtime.timers.disarm((kind, group_id, member_id))

    def on_timer(self, key: TimerKey, now_us: int) -> None:
        kind, group_id, member_id = key
        group = self._groups.get(group_id)
        if kind == "regex":
            self.regexes.on_resolved(group_id, now_us)
            return
        member = group.members.get(member_id) if isinstance(group, ConsumerGroupState) else None
        if member is None:
            return
        assert isinstance(group, ConsumerGroupState)
        if kind == "rebalance" and self._revoking.pop((group_id, member_id), None) != member.member_epoch:
            return
        plan = self.fence(group, [member], now_us)
        self._runtime.carry_out(plan, lambda error, now_us: None, now_us)

    # --- fail-over and metadata ------------------------------------------------------------------------------------

    def on_loaded(self, group: ConsumerGroupState, now_us: int) -> None:
        """A new coordinator: members keep what they have and get their whole session again."""
        group_id = group.group_id
        session_us = self._runtime.settings.session_timeout_of(group_id) * 1000
        for member in group.members.values():
            self._runtime.timers.arm(("session", group_id, member.member_id), now_us + session_us)
            if member.state == UNREVOKED_PARTITIONS:
                self._arm_rebalance(group_id, member, now_us)

    def on_topics_changed(self, names: Iterable[str]) -> None:
        """Groups that subscribe to one of the topics look at it in their next heartbeat."""
        changed = list(names)
        for group in self._groups.values():
            if isinstance(group, ConsumerGroupState) and any(map(group.is_subscribed_to, changed)):
                group.refresh_deadline_ms = group.refresh_epoch = 0

    # --- describing ------------------------------------------------------------------------------------------------

    def describe(self, group_id: str) -> ConsumerGroupDescribedGroup:
        group = self._groups.get(group_id)
        if not isinstance(group, ConsumerGroupState):
            return ConsumerGroupDescribedGroup(ErrorCode.GROUP_ID_NOT_FOUND, group_id, self._missing(group_id))
        return ConsumerGroupDescribedGroup(
            ErrorCode.NONE,
            group_id,
            None,
            group.state,
            group.group_epoch,
            group.assignment_epoch,
            group.preferred_assignor() or self._runtime.settings.assignors[0],
            tuple(self._described_member(group, member) for member in group.walked()),
        )

    def _described_member(self, group: ConsumerGroupState, member: ConsumerMember) -> ConsumerGroupDescribedMember:
        held: dict[str, list[int]] = {}
        for epochs in (member.assigned, member.pending_revocation):
            for topic_id, partitions in epochs.items():
                held.setdefault(topic_id, []).extend(partitions)
        return ConsumerGroupDescribedMember(
            member.member_id,
            member.instance_id,
            member.rack_id,
            member.member_epoch,
            member.client_id,
            member.client_host,
            member.topic_names,
            member.topic_regex,
            self._named(held),
            self._named(group.targets.get(member.member_id, {})),
            CONSUMER_MEMBER if member.classic is None else CLASSIC_MEMBER,
        )

    def _named(self, share: Share | dict[str, list[int]]) -> tuple[TopicPartitions, ...]:
        found = []
        for topic_id, partitions in share.items():
            topic = self._runtime.topics.identified(topic_id)
            if topic is not None:
                found.append(TopicPartitions(topic_id, tuple(sorted(partitions)), topic.name))
        return tuple(found)


def known_static(existing: ConsumerMember | None, instance_id: str, member_id: str) -> ConsumerMember:
    if existing is None:
        raise Refused(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if existing.member_id != member_id:
        raise Refused(
            ErrorCode.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member {existing.member_id}.",
        )
    return existing


def _refuse_wrong_epoch(member: ConsumerMember, received: int, owned: Owned) -> None:
    """An older epoch passes if it is the one before and what the member owns was its: the answer may have been lost."""
    if received == member.member_epoch:
        return
    if received < member.member_epoch and received == member.previous_epoch and _owns_no_more(member, owned):
        return
    relation = "greater" if received > member.member_epoch else "smaller"
    raise Refused(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {relation} member epoch ({received}) than the one known by the group "
        f"coordinator ({member.member_epoch}). The member must abandon all its partitions and rejoin.",
    )


def _owns_no_more(member: ConsumerMember, owned: Owned) -> bool:
    return owned is not None and all(
        partition in member.assigned.get(topic_id, ())
        for topic_id, partitions in owned.items()
        for partition in partitions
    )


def _updated(member: ConsumerMember, request: ConsumerGroupHeartbeatRequest, client_host: str) -> ConsumerMember:
    """The member as its heartbeat describes it; what is None has not changed."""
    names = member.topic_names
    if request.subscribed_topic_names is not None and set(request.subscribed_topic_names) != set(names):
        names = tuple(string_set_order(list(dict.fromkeys(request.subscribed_topic_names))))
    regex = request.subscribed_topic_regex
    return attrs.evolve(
        member,
        instance_id=member.instance_id if request.instance_id is None else request.instance_id,
        rack_id=member.rack_id if request.rack_id is None else request.rack_id,
        rebalance_timeout_ms=(
            member.rebalance_timeout_ms if request.rebalance_timeout_ms == -1 else request.rebalance_timeout_ms
        ),
        server_assignor=member.server_assignor if request.server_assignor is None else request.server_assignor,
        topic_names=names,
        topic_regex=member.topic_regex if regex is None else regex,
        client_id=request.client_id,
        client_host=client_host,
        classic=None,
    )


def _gone_for_a_while(member: ConsumerMember) -> ConsumerMember:
    """A static member that said it comes back: what it has stays reserved until its session ends."""
    return attrs.evolve(
        member,
        member_epoch=LEAVE_GROUP_STATIC_MEMBER_EPOCH,
        assigned={topic_id: dict.fromkeys(epochs, 0) for topic_id, epochs in member.assigned.items()},
        pending_revocation={},
    )


def _owned(partitions: tuple[TopicPartitions, ...] | None) -> Owned:
    return None if partitions is None else {each.topic_id: each.partitions for each in partitions}


def _topic_partitions(share: Share) -> tuple[TopicPartitions, ...]:
    return tuple(TopicPartitions(topic_id, partitions) for topic_id, partitions in share.items())
