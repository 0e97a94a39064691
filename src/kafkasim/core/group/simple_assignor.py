"""The assignor of share groups: every partition to as many members as there are too many of, every member about as many.

Mirrors:  SimpleAssignor, SimpleHomogeneousAssignmentBuilder, SimpleHeterogeneousAssignmentBuilder (KIP-932).
Rule 1:   S = ceil(members / partitions) members share a partition; member i wants ceil(q (i + 1)) - ceil(q i) partitions, q = S P / M.
Rule 2:   sticky: only what is too much is taken away, then the members that want more are walked in turn, partition by partition.
Rule 3:   members come in the order of Kafka's hash map; the caller gives them so.
Rule 4:   members with different subscriptions: the same for each topic by itself, over its subscribers.
Rule 5:   a member gives up partitions, and partitions are filled up, in the order of the hash tables that hold them.
Differs:  of members with different subscriptions Kafka walks the topics in hash order too; here it is the order of the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from kafkasim.core.group.java_order import grown, spread, uuid_hash

#: (topic id, partition)
Part: TypeAlias = "tuple[str, int]"
#: Member -> what it has, as an ordered set.
Owned: TypeAlias = "dict[str, dict[Part, None]]"


def assign(
    subscriptions: Mapping[str, Sequence[str]],
    partitions: Mapping[str, Sequence[int]],
    current: Mapping[str, Iterable[Part]],
) -> dict[str, list[Part]]:
    """``subscriptions``: member -> topic ids; ``partitions``: topic id -> assignable partitions; ``current``: who has what now."""
    owned: Owned = {member: dict.fromkeys(current.get(member, ())) for member in subscriptions}
    for member, topics in subscriptions.items():
        owned[member] = {part: None for part in owned[member] if part[0] in topics}
    wanted = {tuple(sorted(topics)) for topics in subscriptions.values()}
    topics = [topic for topic in partitions if any(topic in names for names in subscriptions.values())]
    groups = [topics] if len(wanted) == 1 else [[topic] for topic in topics]
    for group in groups:
        members = [member for member, names in subscriptions.items() if all(topic in names for topic in group)]
        _balance(members, [(topic, number) for topic in group for number in partitions[topic]], owned)
    return {member: sorted(parts) for member, parts in owned.items()}


def _balance(members: list[str], parts: list[Part], owned: Owned) -> None:
    """Spread ``parts`` over ``members``; what these have of other topics is not looked at."""
    if not members or not parts:
        for member in members:
            owned[member] = {part: None for part in owned[member] if part in parts}
        return
    sharing = -(-len(members) // len(parts))
    total = sharing * len(parts)
    count = len(members)
    desired = {
        member: -(-total * (index + 1) // count) + (-total * index // count) for index, member in enumerate(members)
    }
    topics = {topic: None for topic, _ in parts}
    mine = {member: [part for part in owned[member] if part[0] in topics] for member in members}
    holders: dict[Part, dict[str, None]] = {part: {} for part in parts}
    for member in members:
        for part in mine[member]:
            if part in holders:
                holders[part][member] = None
            else:
                del owned[member][part]
        mine[member] = _set_order(part for part in mine[member] if part in holders)
        while len(mine[member]) > desired[member]:
            _take(member, mine[member].pop(0), owned, holders)
    for part, having in holders.items():
        for member in list(having)[: max(0, len(having) - sharing)]:
            mine[member].remove(part)
            _take(member, part, owned, holders)
    ordered = {part: holders[part] for part in _map_order(list(holders))}
    _fill(members, desired, sharing, ordered, owned, {member: len(mine[member]) for member in members})


def _hash(part: Part) -> int:
    """TopicIdPartition.hashCode."""
    return 31 * uuid_hash(part[0]) + part[1]


def _set_order(parts: Iterable[Part]) -> list[Part]:
    """Elements of a HashSet that grew as it took them in."""
    ordered = sorted(parts)
    mask = grown(len(ordered)) - 1
    return sorted(ordered, key=lambda part: spread(_hash(part)) & mask)


def _map_order(parts: list[Part]) -> list[Part]:
    """Keys of a HashMap made for as many."""
    mask = (1 << ((len(parts) + 1) * 4 // 3).bit_length()) - 1
    return sorted(parts, key=lambda part: spread(_hash(part)) & mask)


def _take(member: str, part: Part, owned: Owned, holders: dict[Part, dict[str, None]]) -> None:
    del owned[member][part]
    del holders[part][member]


def _fill(
    members: list[str],
    desired: dict[str, int],
    sharing: int,
    holders: dict[Part, dict[str, None]],
    owned: Owned,
    counts: dict[str, int],
) -> None:
    """Walk the members that want more in turn; a whole round in vain leaves a partition with fewer than ``sharing``."""
    unfilled = [member for member in members if counts[member] < desired[member]]
    at = 0
    gave = False
    for part, having in holders.items():
        missing = sharing - len(having)
        while missing > 0 and unfilled:
            if at >= len(unfilled):
                if not gave:
                    break
                at, gave = 0, False
            member = unfilled[at]
            at += 1
            if member in having:
                continue
            having[member] = None
            owned[member][part] = None
            counts[member] += 1
            missing -= 1
            gave = True
            if counts[member] >= desired[member]:
                at -= 1
                del unfilled[at]
        if not unfilled:
            return
