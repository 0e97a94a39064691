"""A classic group becomes a consumer group and the other way round, with its members in it.

Mirrors:  GroupMetadataManager.convertToConsumerGroup, convertToClassicGroup; ConsumerGroup.fromClassicGroup,
          ClassicGroup.fromConsumerGroup (``group.consumer.migration.policy``).
Rule 1:   the first member that speaks the consumer protocol upgrades the group: classic members keep what they have, in an epoch
          that is their generation. Parked requests of the classic group hear REBALANCE_IN_PROGRESS.
Rule 2:   when the last such member goes, the group is classic again, its generation the group epoch, and rebalances.
Rule 3:   an assignment with user data cannot be taken over: librdkafka's cooperative-sticky writes some, so its groups stay classic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kafkasim.core.group.classic import ClassicGroup
from kafkasim.core.group.consumer_records import (
    ClassicMemberMetadata,
    ConsumerGroupRecord,
    CurrentAssignmentRecord,
    GroupEpochRecord,
    MemberRecord,
    RegexRecord,
    SubscriptionMetadataRecord,
    TargetEpochRecord,
    TargetMemberRecord,
)
from kafkasim.core.group.consumer_state import ConsumerGroupState, ConsumerMember, Refused, with_epoch
from kafkasim.core.group.java_order import string_set_order
from kafkasim.core.group.members import EMPTY, ClassicMember
from kafkasim.core.group.records import encode_group_key
from kafkasim.core.group.runtime import Plan, Runtime
from kafkasim.core.group.server_assignors import Share
from kafkasim.core.group.target import Subscriptions
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import Assignment
from kafkasim.core.model.ids import TopicPartition


class Migration:
    """``new_classic(group id, now_us)`` makes an empty classic group that is not yet in ``groups``."""

    def __init__(
        self,
        runtime: Runtime,
        groups: dict[str, ClassicGroup | ConsumerGroupState],
        new_classic: Callable[[str, int], ClassicGroup],
        classic_max_size: int,
    ) -> None:
        self._runtime = runtime
        self._groups = groups
        self._new_classic = new_classic
        self._classic_max_size = classic_max_size

    # --- upgrade ---------------------------------------------------------------------------------------------------

    def upgraded(self, classic: ClassicGroup, plan: Plan) -> ConsumerGroupState:
        """The consumer group that ``classic`` turns into when ``plan`` is carried out."""
        group = ConsumerGroupState(classic.group_id)
        if classic.state != EMPTY:
            self._refuse_upgrade(classic)
            classic.interrupt(ErrorCode.REBALANCE_IN_PROGRESS)
            for record in self._upgrade_records(classic):
                group.replay(record)
                plan.records.append(record)
        plan.before.append((encode_group_key(classic.group_id), None))
        sessions_ms = {member.member_id: member.session_timeout_ms for member in classic.members.values()}

        def drop(now_us: int) -> None:
            del self._groups[classic.group_id]
            classic.drop(ErrorCode.REBALANCE_IN_PROGRESS, now_us)

        def watch(now_us: int) -> None:
            for member_id, session_ms in sessions_ms.items():
                self._runtime.timers.arm(("session", classic.group_id, member_id), now_us + session_ms * 1000)

        plan.unless_refused.append(drop)
        plan.then.append(watch)
        return group

    def _refuse_upgrade(self, classic: ClassicGroup) -> None:
        why = None
        if not self._runtime.settings.allows("upgrade"):
            why = "because online upgrade is disabled"
        elif classic.protocol_type != "consumer":
            why = "because the group does not use the consumer embedded protocol"
        elif len(classic.members) > self._runtime.settings.max_size:
            why = "because the group size exceeds the consumer group maximum size"
        if why is not None:
            text = f"Cannot upgrade classic group {classic.group_id} to consumer group {why}."
            raise Refused(ErrorCode.GROUP_ID_NOT_FOUND, text)

    def _upgrade_records(self, classic: ClassicGroup) -> list[ConsumerGroupRecord]:
        if any(member.assignment.user_data for member in classic.members.values()):
            raise Refused(
                ErrorCode.GROUP_ID_NOT_FOUND,
                f"Cannot upgrade classic group {classic.group_id} to consumer group because an unsupported custom "
                "assignor is in use. Please refer to the documentation or switch to a default assignor before "
                "re-attempting the upgrade.",
            )
        group_id, epoch = classic.group_id, classic.generation_id
        shares = {member.member_id: self._share(member.assignment) for member in classic.members.values()}
        members = [self._converted(classic, member, shares[member.member_id]) for member in classic.members.values()]
        names = {name: 1 for member in members for name in member.topic_names}
        metadata_hash = Subscriptions(names, {}, {}).metadata_hash(self._runtime.topics)
        return [
            *(member.subscription_record(group_id) for member in members),
            GroupEpochRecord(group_id, epoch, metadata_hash),
            *(TargetMemberRecord(group_id, member_id, share) for member_id, share in shares.items()),
            TargetEpochRecord(group_id, epoch, 0),
            *(member.assignment_record(group_id) for member in members),
        ]

    def _converted(self, classic: ClassicGroup, member: ClassicMember, share: Share) -> ConsumerMember:
        chosen = dict(member.protocols).get(classic.protocol_name or "", member.protocols[0][1])
        epoch = classic.generation_id
        return ConsumerMember(
            member.member_id,
            epoch,
            epoch,
            instance_id=member.group_instance_id,
            rack_id=chosen.rack_id or None,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            client_id=member.client_id,
            client_host=member.client_host,
            topic_names=tuple(string_set_order(list(dict.fromkeys(chosen.topics)))),
            assigned=with_epoch(share, epoch),
            classic=ClassicMemberMetadata(member.session_timeout_ms, member.protocols),
        )

    def _share(self, assignment: Assignment) -> dict[str, tuple[int, ...]]:
        return self.by_id(assignment.partitions)

    def by_id(self, partitions: Iterable[TopicPartition]) -> dict[str, tuple[int, ...]]:
        """Partitions by topic id; topics that do not exist are left out."""
        found: dict[str, list[int]] = {}
        for tp in partitions:
            topic = self._runtime.topics.named(tp.topic)
            if topic is not None:
                found.setdefault(topic.topic_id, []).append(tp.partition)
        return {topic_id: tuple(numbers) for topic_id, numbers in found.items()}

    def assignment(self, share: Share) -> Assignment:
        """What a classic member is told of its share."""
        partitions: list[TopicPartition] = []
        for topic_id, numbers in share.items():
            topic = self._runtime.topics.identified(topic_id)
            if topic is not None:
                partitions += [TopicPartition(topic.name, number) for number in numbers]
        return Assignment(tuple(partitions))

    # --- downgrade -------------------------------------------------------------------------------------------------

    def downgrades(self, group: ConsumerGroupState, leaving: list[ConsumerMember]) -> bool:
        """Without ``leaving`` there are only classic members, some, and no more than a classic group may have."""
        stay = len(group.members) - len(leaving)
        classic = group.classic_members - sum(member.classic is not None for member in leaving)
        return (
            classic == stay
            and stay > 0
            and self._runtime.settings.allows("downgrade")
            and stay <= self._classic_max_size
        )

    def downgrades_by(self, group: ConsumerGroupState, replaced: ConsumerMember) -> bool:
        """A classic process takes the place of the last static member that spoke the consumer protocol."""
        return (
            replaced.classic is None
            and group.classic_members == len(group.members) - 1
            and self._runtime.settings.allows("downgrade")
            and len(group.members) <= self._classic_max_size
        )

    def downgrade(
        self,
        group: ConsumerGroupState,
        leaving: list[ConsumerMember],
        joining: ConsumerMember | None,
        plan: Plan,
        now_us: int,
        *,
        rebalance: bool,
    ) -> None:
        """``joining`` replaces the static member of its instance id."""
        replaced = None if joining is None else group.static_member(joining.instance_id)
        ids = [
            joining.member_id if joining is not None and member is replaced else member_id
            for member_id, member in group.members.items()
        ]
        plan.records += deletion_records(group, ids)
        stays = [member for member in group.members.values() if member not in leaving and member is not replaced]
        shares = {member.member_id: group.targets.get(member.member_id, {}) for member in stays}
        if joining is not None and replaced is not None:
            stays.append(joining)
            shares[joining.member_id] = group.targets.get(replaced.member_id, {})
        members = [self._classic_member(member, self.assignment(shares[member.member_id])) for member in stays]
        classic = self._new_classic(group.group_id, now_us)
        classic.take_over(group.group_epoch, members, now_us)
        plan.after.append(classic.metadata_record(now_us))
        known = list(group.members)

        def forget(now_us: int) -> None:
            for member_id in known:
                for kind in ("session", "rebalance", "consumer-join", "consumer-sync"):
                    self._runtime.timers.disarm((kind, group.group_id, member_id))

        def install(now_us: int) -> None:
            self._groups[group.group_id] = classic
            classic.resume(now_us, rebalance=rebalance)

        plan.unless_refused.append(forget)
        plan.then.append(install)

    def _classic_member(self, member: ConsumerMember, assignment: Assignment) -> ClassicMember:
        assert member.classic is not None, member
        return ClassicMember(
            member.member_id,
            member.instance_id,
            member.client_id,
            member.client_host,
            member.rebalance_timeout_ms,
            member.classic.session_timeout_ms,
            member.classic.protocols,
            assignment,
        )


def deletion_records(group: ConsumerGroupState, member_ids: Iterable[str] | None = None) -> list[ConsumerGroupRecord]:
    """Everything that the log keeps of a group, deleted in the order that a reader can follow."""
    group_id = group.group_id
    ids = list(group.members if member_ids is None else member_ids)
    return [
        *(CurrentAssignmentRecord(group_id, member_id, is_tombstone=True) for member_id in ids),
        *(TargetMemberRecord(group_id, member_id, is_tombstone=True) for member_id in ids),
        TargetEpochRecord(group_id, is_tombstone=True),
        *(MemberRecord(group_id, member_id, is_tombstone=True) for member_id in ids),
        *(RegexRecord(group_id, regex, is_tombstone=True) for regex in group.resolved),
        SubscriptionMetadataRecord(group_id),
        GroupEpochRecord(group_id, is_tombstone=True),
    ]
