"""The state of a consumer group: its members, what each has and is to have, and what follows from that.

Mirrors:  org.apache.kafka.coordinator.group.modern.ModernGroup, consumer.ConsumerGroup, consumer.ConsumerGroupMember.
States:   Empty, Assigning (the target is behind the group epoch), Reconciling (some member is not yet at its target), Stable, Dead.
Rule 1:   only ``replay`` changes what the log keeps; whoever handles a request computes records and looks at the group.
Rule 2:   a partition has the epoch of the member that owns it, also while it is pending revocation; -1 is free.
Rule 3:   no replay costs more than what its record names: counts are kept, never recounted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from kafkasim.core.group.consumer_records import (
    NO_EPOCHS,
    ClassicMemberMetadata,
    ConsumerGroupRecord,
    CurrentAssignmentRecord,
    Epochs,
    GroupEpochRecord,
    MemberRecord,
    RegexRecord,
    SubscriptionMetadataRecord,
    TargetEpochRecord,
    TargetMemberRecord,
)
from kafkasim.core.group.java_order import string_map_order, timeline_order
from kafkasim.core.group.server_assignors import NO_SHARE, Share
from kafkasim.core.model.consumer_group_messages import LEAVE_GROUP_MEMBER_EPOCH
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import message, slotted

#: MemberState: at its target; must give partitions up; waits for partitions that others still have.
MEMBER_STABLE = 0
UNREVOKED_PARTITIONS = 1
UNRELEASED_PARTITIONS = 2

EMPTY = "Empty"
ASSIGNING = "Assigning"
RECONCILING = "Reconciling"
STABLE = "Stable"

NO_PARTITION_EPOCH = -1


class Refused(Exception):
    """A request that a group refuses; the text is Kafka's. Caught in this room."""

    def __init__(self, error: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text


@slotted
class TopicInfo:
    """A topic as groups see it; ``hash`` changes with its id, its number of partitions and the racks of their replicas."""

    name: str
    topic_id: str
    partition_count: int
    hash: int = 0


@attrs.define(slots=True)
class ConsumerMember:
    """A member is replaced, never changed. ``topic_names`` in the order of Java's HashSet; ``classic`` for classic members."""

    member_id: str
    member_epoch: int = 0
    previous_epoch: int = -1
    state: int = MEMBER_STABLE
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    client_id: str = ""
    client_host: str = ""
    topic_names: tuple[str, ...] = ()
    topic_regex: str = ""
    server_assignor: str | None = None
    assigned: Epochs = NO_EPOCHS
    pending_revocation: Epochs = NO_EPOCHS
    classic: ClassicMemberMetadata | None = None

    def is_reconciled_to(self, target_epoch: int) -> bool:
        return self.state == MEMBER_STABLE and self.member_epoch == target_epoch

    def assignment_epoch(self, topic_id: str, partition: int) -> int | None:
        """In which epoch the member got a partition that it still has, or has yet to give up."""
        epoch = self.assigned.get(topic_id, {}).get(partition)
        return self.pending_revocation.get(topic_id, {}).get(partition) if epoch is None else epoch

    def counts_as(self, other: ConsumerMember) -> bool:
        """Neither what it subscribes to nor how it joined differs: the group's counts stay."""
        return (
            self.topic_names == other.topic_names
            and self.topic_regex == other.topic_regex
            and self.server_assignor == other.server_assignor
            and self.classic == other.classic
        )

    def subscription_record(self, group_id: str) -> MemberRecord:
        return MemberRecord(
            group_id,
            self.member_id,
            self.instance_id,
            self.rack_id,
            self.client_id,
            self.client_host,
            self.topic_names,
            self.topic_regex,
            self.rebalance_timeout_ms,
            self.server_assignor,
            self.classic,
        )

    def assignment_record(self, group_id: str) -> CurrentAssignmentRecord:
        return CurrentAssignmentRecord(
            group_id,
            self.member_id,
            self.member_epoch,
            self.previous_epoch,
            self.state,
            self.assigned,
            self.pending_revocation,
        )


@message
class ResolvedRegex:
    """Which topics a regular expression matched, in which image and when."""

    topics: tuple[str, ...]
    version: int
    timestamp_ms: int


def counted(counts: dict[str, int], key: str, step: int) -> None:
    """Count up or down; what nobody has is not kept."""
    count = counts.get(key, 0) + step
    if count > 0:
        counts[key] = count
    else:
        counts.pop(key, None)


class ConsumerGroupState:
    """``members`` in order of arrival. ``refresh_deadline_ms`` and ``refresh_epoch`` are soft: when to look at the topics again."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.group_epoch = 1
        self.metadata_hash = 0
        self.assignment_epoch = 0
        self.assignment_timestamp_ms = 0
        self.members: dict[str, ConsumerMember] = {}
        #: Slots of the broker's table of members: it doubles when one more would overload it, and never shrinks.
        self.table_size = 2
        self.static_members: dict[str, str] = {}
        self.targets: dict[str, Share] = {}
        self.target_owners: dict[str, dict[int, str]] = {}
        self.partition_epochs: dict[str, dict[int, int]] = {}
        #: Topic name -> members that subscribe to it by name; resolved expressions that match it.
        self.by_name: dict[str, int] = {}
        self.by_regex: dict[str, int] = {}
        self.regexes: dict[str, int] = {}
        self.resolved: dict[str, ResolvedRegex] = {}
        self.assignors: dict[str, int] = {}
        self.classic_members = 0
        self.classic_protocols: dict[str, int] = {}
        self.refresh_deadline_ms = 0
        self.refresh_epoch = 0

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        if not self.members:
            return EMPTY
        if self.group_epoch > self.assignment_epoch:
            return ASSIGNING
        epoch = self.assignment_epoch
        if all(member.is_reconciled_to(epoch) for member in self.members.values()):
            return STABLE
        return RECONCILING

    def member(self, member_id: str) -> ConsumerMember:
        found = self.members.get(member_id)
        if found is None:
            raise Refused(ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {self.group_id}.")
        return found

    def walked(self) -> list[ConsumerMember]:
        """The members in the order in which the broker walks its table of them."""
        return [self.members[member_id] for member_id in timeline_order(list(self.members), self.table_size)]

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        member_id = None if instance_id is None else self.static_members.get(instance_id)
        return None if member_id is None else self.members.get(member_id)

    def target_of(self, member: ConsumerMember) -> Share:
        """What a member is to have; a static member that came back has what its former self was to have."""
        if member.instance_id is None:
            return self.targets.get(member.member_id, NO_SHARE)
        former = self.static_members.get(member.instance_id)
        return NO_SHARE if former is None else self.targets.get(former, NO_SHARE)

    def partition_epoch(self, topic_id: str, partition: int) -> int:
        return self.partition_epochs.get(topic_id, {}).get(partition, NO_PARTITION_EPOCH)

    def is_subscribed_to(self, topic: str) -> bool:
        return topic in self.by_name or topic in self.by_regex

    def names_of(self, member: ConsumerMember) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The topics a member subscribes to by name, and those its regular expression is known to match."""
        resolved = self.resolved.get(member.topic_regex) if member.topic_regex else None
        return member.topic_names, (() if resolved is None else resolved.topics)

    def metadata_expired(self, now_ms: int) -> bool:
        return now_ms >= self.refresh_deadline_ms or self.group_epoch < self.refresh_epoch

    def preferred_assignor(self, old: ConsumerMember | None = None, new: ConsumerMember | None = None) -> str | None:
        """What most members ask for; of equals the first in the order of the broker's table."""
        counts = dict(self.assignors)
        if old is not None and old.server_assignor is not None:
            counted(counts, old.server_assignor, -1)
        if new is not None and new.server_assignor is not None:
            counted(counts, new.server_assignor, 1)
        order = string_map_order(counts)
        return max(order, key=lambda name: counts[name]) if order else None

    # --- replay ----------------------------------------------------------------------------------------------------

    def replay(self, record: ConsumerGroupRecord) -> None:
        _REPLAY[type(record)](self, record)

    def replay_epoch(self, record: GroupEpochRecord) -> None:
        self.group_epoch = record.epoch
        self.metadata_hash = record.metadata_hash

    def replay_nothing(self, record: SubscriptionMetadataRecord) -> None:
        """Nobody reads it any longer."""

    def replay_member(self, record: MemberRecord) -> None:
        old = self.members.get(record.member_id)
        if record.is_tombstone:
            if old is not None:
                self._remove(old)
            return
        self._put(
            attrs.evolve(
                old or ConsumerMember(record.member_id),
                instance_id=record.instance_id,
                rack_id=record.rack_id,
                client_id=record.client_id,
                client_host=record.client_host,
                topic_names=record.topic_names,
                topic_regex=record.topic_regex or "",
                rebalance_timeout_ms=record.rebalance_timeout_ms,
                server_assignor=record.server_assignor,
                classic=record.classic,
            )
        )

    def replay_current(self, record: CurrentAssignmentRecord) -> None:
        old = self.members.get(record.member_id)
        if record.is_tombstone:
            if old is not None:
                gone = LEAVE_GROUP_MEMBER_EPOCH
                self._put(
                    attrs.evolve(
                        old, member_epoch=gone, previous_epoch=gone, assigned=NO_EPOCHS, pending_revocation=NO_EPOCHS
                    )
                )
            return
        self._put(
            attrs.evolve(
                old or ConsumerMember(record.member_id),
                member_epoch=record.member_epoch,
                previous_epoch=record.previous_epoch,
                state=record.state,
                assigned=record.assigned,
                pending_revocation=record.pending_revocation,
            )
        )

    def replay_target_epoch(self, record: TargetEpochRecord) -> None:
        self.assignment_epoch = record.assignment_epoch
        self.assignment_timestamp_ms = record.timestamp_ms

    def replay_target(self, record: TargetMemberRecord) -> None:
        old = self.targets.pop(record.member_id, NO_SHARE)
        new = NO_SHARE if record.is_tombstone else record.share
        self._own(record.member_id, old, new)
        if not record.is_tombstone:
            self.targets[record.member_id] = new

    def replay_regex(self, record: RegexRecord) -> None:
        old = self.resolved.pop(record.regex, None)
        if old is not None:
            for topic in old.topics:
                counted(self.by_regex, topic, -1)
        if not record.is_tombstone:
            self.resolved[record.regex] = ResolvedRegex(record.topics, record.version, record.timestamp_ms)
            for topic in record.topics:
                counted(self.by_regex, topic, 1)

    def _own(self, member_id: str, old: Share, new: Share) -> None:
        """Who is to have which partition. What another member was given meanwhile is not taken from it."""
        for topic_id in {**old, **new}:
            owners = self.target_owners.setdefault(topic_id, {})
            after = dict.fromkeys(new.get(topic_id, ()), member_id)
            for partition in old.get(topic_id, ()):
                if partition not in after and owners.get(partition) == member_id:
                    del owners[partition]
            owners.update(after)
            if not owners:
                del self.target_owners[topic_id]

    def _put(self, member: ConsumerMember) -> None:
        old = self.members.get(member.member_id)
        if (len(self.members) + 1) * 3 > self.table_size * 4:  # asked before it is known whether the member is new
            self.table_size *= 2
        self.members[member.member_id] = member
        if old is None or not old.counts_as(member):
            self._count(old, -1)
            self._count(member, 1)
        if old is not None:
            self._free(old.assigned, old.member_epoch)
            self._free(old.pending_revocation, old.member_epoch)
        self._occupy(member.assigned, member.member_epoch)
        self._occupy(member.pending_revocation, member.member_epoch)
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id

    def _remove(self, old: ConsumerMember) -> None:
        del self.members[old.member_id]
        self._count(old, -1)
        self._free(old.assigned, old.member_epoch)
        self._free(old.pending_revocation, old.member_epoch)
        if old.instance_id is not None:
            self.static_members.pop(old.instance_id, None)

    def _count(self, member: ConsumerMember | None, step: int) -> None:
        if member is None:
            return
        for topic in member.topic_names:
            counted(self.by_name, topic, step)
        if member.topic_regex:
            counted(self.regexes, member.topic_regex, step)
        if member.server_assignor is not None:
            counted(self.assignors, member.server_assignor, step)
        if member.classic is not None:
            self.classic_members += step
            for name, _ in member.classic.protocols:
                counted(self.classic_protocols, name, step)

    def _free(self, epochs: Epochs, expected: int) -> None:
        for topic_id, partitions in epochs.items():
            current = self.partition_epochs.get(topic_id)
            if current is None:
                continue
            for partition in partitions:
                if current.get(partition) == expected:
                    del current[partition]
            if not current:
                del self.partition_epochs[topic_id]

    def _occupy(self, epochs: Epochs, epoch: int) -> None:
        for topic_id, partitions in epochs.items():
            self.partition_epochs.setdefault(topic_id, {}).update(dict.fromkeys(partitions, epoch))

    def check(self) -> None:
        """Audit what is kept against what it is made from, in O(members + partitions)."""
        owned: dict[tuple[str, int], int] = {}
        for member in self.members.values():
            for epochs in (member.assigned, member.pending_revocation):
                for topic_id, partitions in epochs.items():
                    for partition in partitions:
                        assert (topic_id, partition) not in owned, f"{topic_id}-{partition} has two owners"
                        owned[topic_id, partition] = member.member_epoch
        kept = {(topic, part): epoch for topic, parts in self.partition_epochs.items() for part, epoch in parts.items()}
        assert owned == kept, (owned, kept)
        assert all(self.members[member_id].instance_id == name for name, member_id in self.static_members.items())
        assert self.classic_members == sum(member.classic is not None for member in self.members.values())
        assert self.assignment_epoch <= self.group_epoch
        for member in self.members.values():
            assert member.member_epoch <= self.assignment_epoch, member


_REPLAY: Mapping[type[Any], Callable[[ConsumerGroupState, Any], None]] = {
    GroupEpochRecord: ConsumerGroupState.replay_epoch,
    SubscriptionMetadataRecord: ConsumerGroupState.replay_nothing,
    MemberRecord: ConsumerGroupState.replay_member,
    TargetEpochRecord: ConsumerGroupState.replay_target_epoch,
    TargetMemberRecord: ConsumerGroupState.replay_target,
    CurrentAssignmentRecord: ConsumerGroupState.replay_current,
    RegexRecord: ConsumerGroupState.replay_regex,
}


def without_epochs(epochs: Epochs) -> dict[str, tuple[int, ...]]:
    return {topic_id: tuple(sorted(partitions)) for topic_id, partitions in epochs.items()}


def with_epoch(share: Mapping[str, Iterable[int]], epoch: int) -> dict[str, dict[int, int]]:
    return {topic_id: dict.fromkeys(sorted(partitions), epoch) for topic_id, partitions in share.items() if partitions}
