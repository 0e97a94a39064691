"""The assignors that a broker runs for consumer groups: ``range``, and ``uniform`` for members of one subscription.

Mirrors:  org.apache.kafka.coordinator.group.assignor.RangeAssignor, UniformAssignor, UniformHomogeneousAssignmentBuilder.
Inputs:   ``GroupSpec``: the members in the order in which the broker walks them, and what each is to have so far.
Rule 1:   a member whose share stays keeps the very same object, so that nobody compares ten thousand shares to find the changed.
Rule 2:   the outcome depends on the orders of Java's hash tables; ``java_order`` knows them.
Beside:   ``uniform_assignor`` for members of different subscriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from kafkasim.core.group.java_order import integer_set_order, uuid_map_order, uuid_set_order
from kafkasim.core.model.message import slotted

#: topic id -> partitions, in the order in which the broker walks the set.
Share: TypeAlias = Mapping[str, tuple[int, ...]]

NO_SHARE: Share = {}


@slotted
class TopicIds:
    """The topics of one subscription that exist, in the order of the names; ``announced`` counts those that do not, too."""

    topic_ids: tuple[str, ...]
    announced: int


@slotted
class MemberSpec:
    """One member to an assignor: what it subscribes to and what its target is so far."""

    instance_id: str | None
    subscription: TopicIds
    target: Share


@slotted
class GroupSpec:
    """``members`` in the order of the broker's HashMap; ``owners``: topic id -> partition -> member, of the target so far."""

    members: dict[str, MemberSpec]
    homogeneous: bool
    owners: Mapping[str, Mapping[int, str]]
    partition_counts: Callable[[str], int]


# --- range ----------------------------------------------------------------------------------------------------------


@slotted
class _RangeTopic:
    partitions: int
    members: int = 0
    next_range: int = 0
    extra: int = -1

    def take(self) -> tuple[int, ...]:
        """The next range: the first members get one partition more where the count does not divide."""
        if self.extra < 0:
            self.extra = self.partitions % self.members
        quota = self.partitions // self.members
        if self.extra > 0:
            quota += 1
            self.extra -= 1
        start = self.next_range
        self.next_range = min(start + quota, self.partitions)
        return tuple(range(start, self.next_range))


def assign_range(spec: GroupSpec) -> dict[str, Share]:
    """Contiguous ranges per topic, static members first by instance id, then the others by member id. Nothing sticks."""
    topics: dict[str, _RangeTopic] = {}
    for member in spec.members.values():
        for topic_id in member.subscription.topic_ids:
            if topic_id not in topics:
                topics[topic_id] = _RangeTopic(spec.partition_counts(topic_id))
            topics[topic_id].members += 1
    shares: dict[str, Share] = {}
    for member_id in sorted(spec.members, key=lambda member_id: _range_key(spec, member_id)):
        member = spec.members[member_id]
        share = {topic_id: topics[topic_id].take() for topic_id in member.subscription.topic_ids}
        shares[member_id] = {topic_id: partitions for topic_id, partitions in share.items() if partitions}
    return shares


def _range_key(spec: GroupSpec, member_id: str) -> tuple[bool, bytes]:
    instance_id = spec.members[member_id].instance_id
    # UTF-16, as Java compares strings.
    return instance_id is None, (member_id if instance_id is None else instance_id).encode("utf-16-be")


# --- uniform, one subscription --------------------------------------------------------------------------------------


def assign_uniform_homogeneous(spec: GroupSpec) -> dict[str, Share]:
    """Equal counts first, few moves second. What nobody has goes to members below their quota, one member after the other."""
    subscription = next(iter(spec.members.values())).subscription
    topics = uuid_set_order(subscription.topic_ids, subscription.announced)
    if not topics:
        return {}
    unassigned: list[tuple[str, int]] = []
    total = 0
    for topic_id in topics:
        owners = spec.owners.get(topic_id, {})
        count = spec.partition_counts(topic_id)
        unassigned += [(topic_id, partition) for partition in range(count) if partition not in owners]
        total += count
    shares: dict[str, Share] = {}
    unfilled = _take_surplus(spec, total, frozenset(topics), unassigned, shares)
    return _hand_out(unfilled, unassigned, shares)


def _take_surplus(
    spec: GroupSpec,
    total: int,
    topics: frozenset[str],
    unassigned: list[tuple[str, int]],
    shares: dict[str, Share],
) -> list[tuple[str, int]]:
    """Every member keeps at most its quota. Returns who is below it, and by how much."""
    minimum, extra = divmod(total, len(spec.members))
    remaining = len(spec.members)
    unfilled: list[tuple[str, int]] = []
    for member_id, member in spec.members.items():
        has_extra = extra > 0
        quota = minimum + has_extra
        shares[member_id], quota = _within_quota(member.target, quota, topics, unassigned)
        if quota > 0 and has_extra and remaining > extra:
            quota -= 1  # another member may have use for it
            has_extra = False
        if quota > 0:
            unfilled.append((member_id, quota))
        extra -= has_extra
        remaining -= 1
    return unfilled


def _within_quota(
    target: Share, quota: int, topics: frozenset[str], unassigned: list[tuple[str, int]]
) -> tuple[Share, int]:
    """What a member keeps of its target and how much of its quota is left."""
    kept: dict[str, tuple[int, ...]] | None = None
    for topic_id in uuid_map_order(target):
        partitions = target[topic_id]
        if topic_id in topics and len(partitions) <= quota:
            quota -= len(partitions)
            continue
        if kept is None:
            kept = dict(target)
        if topic_id not in topics:
            del kept[topic_id]
            continue
        unassigned += [(topic_id, partition) for partition in partitions[quota:]]
        if quota:
            kept[topic_id] = integer_set_order(partitions[:quota])
        else:
            del kept[topic_id]
        quota = 0
    return (target if kept is None else kept), quota


def _hand_out(
    unfilled: list[tuple[str, int]], unassigned: list[tuple[str, int]], shares: dict[str, Share]
) -> dict[str, Share]:
    index = 0
    for member_id, quota in unfilled:
        added: dict[str, list[int]] = {}
        for topic_id, partition in unassigned[index : index + quota]:
            added.setdefault(topic_id, []).append(partition)
        index += quota
        if added:
            share = dict(shares[member_id])
            for topic_id, partitions in added.items():
                before = share.get(topic_id, ())
                share[topic_id] = walked((*before, *partitions), len(before))
            shares[member_id] = share
    assert index >= len(unassigned), "partitions were left unassigned"
    return shares


def walked(partitions: tuple[int, ...], copied_from: int) -> tuple[int, ...]:
    """The order in which a share is walked after its record was written and read."""
    return integer_set_order(integer_set_order(partitions, copied_from))
