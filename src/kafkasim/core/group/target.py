"""The target assignment of a consumer group: which assignor, over which members, and the records that say what changed.

Mirrors:  org.apache.kafka.coordinator.group.modern.TargetAssignmentBuilder, ModernGroup.computeMetadataHash,
          ConsumerGroup.subscriptionType.
Rule 1:   the group as it will be: the member that just beat counts as it is now, the static member that it replaces not at all.
Rule 2:   only members whose share changed get a record; a new member gets one even if its share is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kafkasim.core.group.consumer_records import ConsumerGroupRecord, TargetEpochRecord, TargetMemberRecord
from kafkasim.core.group.consumer_state import ConsumerGroupState, ConsumerMember, TopicInfo, counted
from kafkasim.core.group.java_order import string_map_order
from kafkasim.core.group.server_assignors import (
    NO_SHARE,
    GroupSpec,
    MemberSpec,
    Share,
    TopicIds,
    assign_range,
    assign_uniform_homogeneous,
)
from kafkasim.core.group.uniform_assignor import assign_uniform_heterogeneous
from kafkasim.core.model.message import slotted

_LONG = 1 << 64


def assign_uniform(spec: GroupSpec) -> dict[str, Share]:
    return assign_uniform_homogeneous(spec) if spec.homogeneous else assign_uniform_heterogeneous(spec)


#: The assignors a broker has, by the names that ``group.consumer.assignors`` and members use.
ASSIGNORS: Mapping[str, Callable[[GroupSpec], dict[str, Share]]] = {"uniform": assign_uniform, "range": assign_range}


class Topics(Protocol):
    """What a group may know of the cluster. ``version`` counts images; ``newest`` is the last one with a new topic."""

    @property
    def version(self) -> int: ...

    @property
    def newest(self) -> int: ...

    def named(self, name: str) -> TopicInfo | None: ...

    def identified(self, topic_id: str) -> TopicInfo | None: ...

    def names(self) -> list[str]: ...


@slotted
class Subscriptions:
    """What the members of a group subscribe to, all together, as of one change of one member (or of some that leave)."""

    by_name: dict[str, int]
    by_regex: dict[str, int]
    regexes: dict[str, int]

    @classmethod
    def after(cls, group: ConsumerGroupState, old: list[ConsumerMember], new: ConsumerMember | None) -> Subscriptions:
        """``old`` (once each) are taken out and ``new`` is put in."""
        found = cls(dict(group.by_name), dict(group.by_regex), dict(group.regexes))
        for member in old:
            for topic in member.topic_names:
                counted(found.by_name, topic, -1)
            if member.topic_regex:
                counted(found.regexes, member.topic_regex, -1)
        if new is not None:
            for topic in new.topic_names:
                counted(found.by_name, topic, 1)
            if new.topic_regex:
                counted(found.regexes, new.topic_regex, 1)
        for regex in group.resolved:
            if regex in group.regexes and regex not in found.regexes:
                for topic in group.resolved[regex].topics:
                    counted(found.by_regex, topic, -1)
        return found

    def metadata_hash(self, topics: Topics) -> int:
        """Changes when a subscribed topic appears, goes, grows or moves to other racks."""
        total = 0
        for name in {**self.by_name, **self.by_regex}:
            topic = topics.named(name)
            total += 0 if topic is None else topic.hash
        total %= _LONG
        return total - _LONG if total >= _LONG >> 1 else total

    def homogeneous(self, members: int) -> bool:
        if not self.regexes:
            return all(count == members for count in self.by_name.values())
        if next(iter(self.regexes.values())) != members:
            return False
        return not self.by_name and all(count == 1 for count in self.by_regex.values())


def target_records(
    group: ConsumerGroupState,
    group_epoch: int,
    assignor: str,
    topics: Topics,
    updated: ConsumerMember,
    homogeneous: bool,
    now_ms: int,
) -> tuple[list[ConsumerGroupRecord], Share]:
    """The records of a new target, and what ``updated`` is to have by it."""
    members = _members_in_order(group, updated)
    spec = GroupSpec(
        _specs(group, members, topics, updated),
        homogeneous,
        group.target_owners,
        lambda topic_id: _partition_count(topics, topic_id),
    )
    shares = ASSIGNORS[assignor](spec)
    records: list[ConsumerGroupRecord] = []
    for member_id in members:
        old, new = group.targets.get(member_id), shares.get(member_id, NO_SHARE)
        if old is None or not _same_share(old, new):
            records.append(TargetMemberRecord(group.group_id, member_id, new))
    records.append(TargetEpochRecord(group.group_id, group_epoch, now_ms))
    return records, shares.get(updated.member_id, NO_SHARE)


def _partition_count(topics: Topics, topic_id: str) -> int:
    topic = topics.identified(topic_id)
    assert topic is not None, topic_id
    return topic.partition_count


def _members_in_order(group: ConsumerGroupState, updated: ConsumerMember) -> dict[str, ConsumerMember]:
    """As the broker's table of members is walked, with the one that beats put in and the one it replaces taken out."""
    members = {member.member_id: member for member in group.walked()}
    changes: dict[str, ConsumerMember | None] = {updated.member_id: updated}
    former = group.static_members.get(updated.instance_id or "")
    if former is not None and former != updated.member_id:
        changes[former] = None
    most = len(members)
    for member_id in string_map_order(changes):
        change = changes[member_id]
        if change is None:
            members.pop(member_id, None)
        else:
            members[member_id] = change
        most = max(most, len(members))
    return {member_id: members[member_id] for member_id in string_map_order(members, most)}


def _specs(
    group: ConsumerGroupState, members: dict[str, ConsumerMember], topics: Topics, updated: ConsumerMember
) -> dict[str, MemberSpec]:
    subscriptions: dict[tuple[tuple[str, ...], str], TopicIds] = {}
    specs = {}
    for member_id, member in members.items():
        key = member.topic_names, member.topic_regex
        subscription = subscriptions.get(key)
        if subscription is None:
            subscription = subscriptions[key] = _topic_ids(group, member, topics)
        target = group.target_of(member) if member is updated else group.targets.get(member_id, NO_SHARE)
        specs[member_id] = MemberSpec(member.instance_id, subscription, target)
    return specs


def _topic_ids(group: ConsumerGroupState, member: ConsumerMember, topics: Topics) -> TopicIds:
    named, matched = group.names_of(member)
    names = dict.fromkeys((*named, *matched))
    found = (topics.named(name) for name in names)
    return TopicIds(tuple(topic.topic_id for topic in found if topic is not None), len(names))


def _same_share(old: Share, new: Share) -> bool:
    if old is new:
        return True
    if old.keys() != new.keys():
        return False
    return all(
        partitions == new[topic_id] or sorted(partitions) == sorted(new[topic_id])
        for topic_id, partitions in old.items()
    )
