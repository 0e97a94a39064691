"""Client-side partition assignors: range, roundrobin and, in ``sticky``, cooperative-sticky.

Mirrors:  rdkafka_assignor.c, rdkafka_range_assignor.c, rdkafka_roundrobin_assignor.c, the cooperative adjustment of
          rdkafka_cgrp.c (KIP-429), rack awareness (KIP-881).
Rule 1:   an assignor is a pure function of members (in the order of the JoinGroup response) and topics (in the order of the
          leader's metadata); lists come out in the order in which librdkafka hands partitions out.
Rule 2:   strings compare bytewise, as in C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from kafkasim.core.client.sticky import assign_sticky
from kafkasim.core.client.sticky_input import AssignorTopic, GroupMember, use_racks
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.message import slotted

__all__ = [
    "ASSIGNORS",
    "COOPERATIVE",
    "EAGER",
    "AssignorTopic",
    "GroupMember",
    "assign_range",
    "assign_roundrobin",
    "assign_sticky",
    "run_assignor",
]

#: Partitions per member id, in order of assignment.
Assignments: TypeAlias = "dict[str, list[TopicPartition]]"

EAGER = "EAGER"
COOPERATIVE = "COOPERATIVE"

_Item = TypeVar("_Item")


def run_assignor(name: str, members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> Assignments:
    """What the leader of a group sends with its SyncGroup: every member's partitions."""
    eligible = [topic for topic in topics if any(topic.name in member.topics for member in members)]
    protocol, assign = ASSIGNORS[name]
    assignments = assign(members, eligible)
    if protocol == COOPERATIVE:
        assignments = _adjust_cooperative(members, assignments)
    return assignments


def compare_members(a: GroupMember, b: GroupMember) -> int:
    """By instance id where both have one, else by member id: not a strict order in a mixed group, and neither is librdkafka's."""
    if a.instance_id is not None and b.instance_id is not None:
        left, right = a.instance_id, b.instance_id
    else:
        left, right = a.member_id, b.member_id
    return (left > right) - (left < right)


def _merge_sorted(items: list[_Item], compare: Callable[[_Item, _Item], int]) -> list[_Item]:
    """The order that glibc's qsort leaves, which shows where ``compare`` is not a strict order."""
    if len(items) <= 1:
        return items
    half = len(items) // 2
    left, right = _merge_sorted(items[:half], compare), _merge_sorted(items[half:], compare)
    merged: list[_Item] = []
    at_left = at_right = 0
    while at_left < len(left) and at_right < len(right):
        if compare(left[at_left], right[at_right]) <= 0:
            merged.append(left[at_left])
            at_left += 1
        else:
            merged.append(right[at_right])
            at_right += 1
    return merged + left[at_left:] + right[at_right:]


# --- range ---------------------------------------------------------------------------------------------------------


@slotted
class _RangeTopic:
    """One topic while it is dealt out: what is left, and what each of its members has got of it."""

    topic: AssignorTopic
    members: list[GroupMember]
    unassigned: list[bool]
    taken: dict[str, int]
    quota: int
    extras: int

    @property
    def bucket_key(self) -> tuple[tuple[str, ...], int, int]:
        ids = tuple(member.member_id for member in self.members)
        return ids, len(ids), self.topic.partition_count

    def capacity_of(self, member: GroupMember) -> int:
        return self.quota + (self.extras > 0) - self.taken[member.member_id]

    def rack_matches(self, member: GroupMember, partition: int) -> bool:
        racks = self.topic.racks
        return racks is not None and member.rack_id in racks[partition]

    def give(self, member: GroupMember, partition: int, assignments: Assignments) -> None:
        assert self.unassigned[partition], "a partition is given once"
        self.unassigned[partition] = False
        self.taken[member.member_id] += 1
        if self.taken[member.member_id] > self.quota:
            self.extras -= 1
        assignments[member.member_id].append(TopicPartition(self.topic.name, partition))


def assign_range(members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> Assignments:
    """Contiguous ranges topic by topic; co-partitioned topics and racks first where racks are known."""
    assignments: Assignments = {member.member_id: [] for member in members}
    states = sorted((_range_topic(topic, members) for topic in topics), key=lambda state: state.bucket_key)
    start = 0
    while start < len(states):
        stop = start + 1
        while stop < len(states) and states[stop].bucket_key == states[start].bucket_key:
            stop += 1
        if stop - start > 1:
            _range_co_partitioned(states[start:stop], assignments)
        elif use_racks([states[start].topic], states[start].members):
            _range_of_topic(states[start], assignments, by_rack=True)
        start = stop
    for state in states:
        _range_of_topic(state, assignments, by_rack=False)
    return assignments


def _range_topic(topic: AssignorTopic, members: Sequence[GroupMember]) -> _RangeTopic:
    subscribed = _merge_sorted([member for member in members if topic.name in member.topics], compare_members)
    quota, extras = divmod(topic.partition_count, len(subscribed))
    taken = {member.member_id: 0 for member in subscribed}
    return _RangeTopic(topic, subscribed, [True] * topic.partition_count, taken, quota, extras)


def _range_co_partitioned(bucket: list[_RangeTopic], assignments: Assignments) -> None:
    """The same partition of all topics of a bucket to the first member whose rack serves all of them."""
    for partition in range(bucket[0].topic.partition_count):
        for member in bucket[0].members:
            if not member.rack_id:
                continue
            if all(state.rack_matches(member, partition) and state.capacity_of(member) > 0 for state in bucket):
                for state in bucket:
                    state.give(member, partition, assignments)
                break


def _range_of_topic(state: _RangeTopic, assignments: Assignments, *, by_rack: bool) -> None:
    for member in state.members:
        capacity = state.capacity_of(member)
        chosen: list[int] = []
        for partition in range(state.topic.partition_count):
            if len(chosen) >= capacity:
                break
            if not state.unassigned[partition]:
                continue
            if by_rack and member.rack_id and not state.rack_matches(member, partition):
                continue
            chosen.append(partition)
        for partition in chosen:
            state.give(member, partition, assignments)


# --- roundrobin ----------------------------------------------------------------------------------------------------


def assign_roundrobin(members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> Assignments:
    """One cursor over the sorted members, across all topics; it passes members that are not subscribed."""
    ordered = _merge_sorted(list(members), compare_members)
    assignments: Assignments = {member.member_id: [] for member in members}
    cursor = -1
    for topic in sorted(topics, key=lambda topic: topic.name):
        for partition in range(topic.partition_count):
            cursor = (cursor + 1) % len(ordered)
            while topic.name not in ordered[cursor].topics:
                cursor = (cursor + 1) % len(ordered)
            assignments[ordered[cursor].member_id].append(TopicPartition(topic.name, partition))
    return assignments


# --- cooperative adjustment ----------------------------------------------------------------------------------------


def _adjust_cooperative(members: Sequence[GroupMember], assignments: Assignments) -> Assignments:
    """A partition whose owner changes is withheld from everybody, until its owner has let it go (KIP-429)."""
    by_id = {member.member_id: member for member in members}
    assigned = {tp: member for member in members for tp in assignments[member.member_id]}
    owned = {tp: member for member in members for tp in member.owned}
    adjusted: Assignments = {member_id: [] for member_id in by_id}
    for tp, member in assigned.items():
        owner = owned.get(tp)
        if owner is not None and compare_members(member, owner) == 0:
            adjusted[owner.member_id].append(tp)
    for tp, member in assigned.items():
        if tp not in owned:
            adjusted[member.member_id].append(tp)
    for tp, owner in owned.items():
        if tp not in assigned:
            adjusted[owner.member_id].append(tp)
    return adjusted


_Assign: TypeAlias = "Callable[[Sequence[GroupMember], Sequence[AssignorTopic]], Assignments]"

#: By the names of ``partition.assignment.strategy``: rebalance protocol and function.
ASSIGNORS: dict[str, tuple[str, _Assign]] = {
    "range": (EAGER, assign_range),
    "roundrobin": (EAGER, assign_roundrobin),
    "cooperative-sticky": (COOPERATIVE, assign_sticky),
}
