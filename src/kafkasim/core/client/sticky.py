"""The cooperative-sticky assignor: keep what members own, move as little as balance needs.

Mirrors:  rdkafka_sticky_assignor.c (KIP-54, KIP-341, KIP-881), always the general algorithm.
Rule 1:   librdkafka's maps iterate newest key first; where the result depends on it, ``reversed`` says so.
Differs:  where librdkafka reads a freed list element while it undoes a movement, the element is copied first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from kafkasim.core.client.sticky_input import AssignorTopic, GroupMember, use_racks
from kafkasim.core.model.ids import TopicPartition


def assign_sticky(members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> dict[str, list[TopicPartition]]:
    """The balanced assignment before the cooperative adjustment."""
    return _Sticky(members, topics).run()


class _Movements:
    """Which partitions have moved from whom to whom, so that a later move can undo an earlier one of the same topic."""

    __slots__ = ("_by_partition", "_by_topic")

    def __init__(self) -> None:
        self._by_partition: dict[TopicPartition, tuple[str, str]] = {}
        self._by_topic: dict[str, dict[tuple[str, str], list[TopicPartition]]] = {}

    def partition_to_move(self, tp: TopicPartition, source: str, target: str) -> TopicPartition:
        """``tp``, or the partition of its topic that once moved from ``target`` to ``source``."""
        pairs = self._by_topic.get(tp.topic)
        if pairs is None:
            return tp
        moved = pairs.get((target, source))
        return moved[0] if moved else tp

    def move(self, tp: TopicPartition, source: str, target: str) -> None:
        earlier = self._by_partition.get(tp)
        if earlier is None:
            self._add(tp, (source, target))
            return
        self._remove(tp, earlier)
        assert earlier[1] == source, "a partition moves on from where it had moved to"
        if earlier[0] != target:
            self._add(tp, (earlier[0], target))

    def _add(self, tp: TopicPartition, pair: tuple[str, str]) -> None:
        self._by_partition[tp] = pair
        self._by_topic.setdefault(tp.topic, {}).setdefault(pair, []).append(tp)

    def _remove(self, tp: TopicPartition, pair: tuple[str, str]) -> None:
        # The record by partition stays, as in librdkafka, until the partition moves again.
        pairs = self._by_topic[tp.topic]
        if tp in pairs.get(pair, ()):
            pairs[pair].remove(tp)
        if not pairs.get(pair):
            pairs.pop(pair, None)
        if not pairs:
            del self._by_topic[tp.topic]


class _Sticky:
    """One run; the attributes are the tables that its steps share."""

    def __init__(self, members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> None:
        self.members = members
        self.topics = topics
        self.current: dict[str, list[TopicPartition]] = {member.member_id: [] for member in members}
        self.previous: dict[TopicPartition, str] = {}
        self.owner: dict[TopicPartition, str] = {}
        self.partitions_of: dict[str, dict[TopicPartition, None]] = {member.member_id: {} for member in members}
        self.consumers_of: dict[TopicPartition, list[str]] = {}
        self.movements = _Movements()
        self.by_load: list[str] = []
        self.member_racks: dict[str, str | None] = {}
        self.partition_racks: dict[TopicPartition, tuple[str, ...]] = {}
        self.racks_used = False

    def run(self) -> dict[str, list[TopicPartition]]:
        self._read_owned()
        self._read_potential()
        self._read_racks()
        ordered = self._ordered_partitions()
        unassigned, revocation_required = self._keep_valid(ordered)
        self.by_load = list(self.current)
        self._sort_by_load()
        self._balance(ordered, unassigned, revocation_required)
        return self.current

    # --- Tables ----------------------------------------------------------------------------------------------------

    def _read_owned(self) -> None:
        """The claim of the highest generation holds; two of one generation cancel each other."""
        claims: dict[TopicPartition, list[tuple[int, str]]] = {}
        for member in self.members:
            for tp in member.owned:
                claims.setdefault(tp, []).append((member.generation_id, member.member_id))
                self.owner[tp] = member.member_id
        for tp in reversed(claims):
            claimed = sorted(claims[tp], key=lambda claim: claim[0])
            generations = [generation for generation, _ in claimed]
            if any(a == b for a, b in pairwise(generations)):
                del self.owner[tp]
                continue
            self.current[claimed[-1][1]].append(tp)
            if len(claimed) >= 2:
                self.previous[tp] = claimed[-2][1]

    def _read_potential(self) -> None:
        for topic in self.topics:
            partitions = [TopicPartition(topic.name, number) for number in range(topic.partition_count)]
            for member in self.members:
                if topic.name in member.topics:
                    self.partitions_of[member.member_id].update(dict.fromkeys(partitions))
                    for tp in partitions:
                        self.consumers_of.setdefault(tp, []).append(member.member_id)

    def _read_racks(self) -> None:
        self.racks_used = use_racks(self.topics, self.members)
        if self.racks_used:
            self.member_racks = {member.member_id: member.rack_id for member in self.members}
            for topic in self.topics:
                for number, racks in enumerate(topic.racks or ()):
                    self.partition_racks[TopicPartition(topic.name, number)] = racks

    def _rack_mismatch(self, consumer: str, tp: TopicPartition) -> bool:
        rack = self.member_racks.get(consumer)
        return rack is not None and rack not in self.partition_racks.get(tp, ())

    # --- Order -----------------------------------------------------------------------------------------------------

    def _ordered_partitions(self) -> list[TopicPartition]:
        if not self._subscriptions_identical():
            return sorted(self.consumers_of, key=lambda tp: (len(self.consumers_of[tp]), tp))
        remaining: dict[str, list[TopicPartition]] = {}
        for consumer, partitions in self.current.items():
            partitions.sort()
            valid = [tp for tp in partitions if tp in self.consumers_of]
            if valid:
                remaining[consumer] = valid
        if not remaining:
            return sorted(self.consumers_of)
        ordered = self._round_robin_from_most_loaded(remaining)
        listed = dict.fromkeys(ordered)
        ordered.extend(tp for tp in reversed(self.consumers_of) if tp not in listed)
        return ordered

    def _subscriptions_identical(self) -> bool:
        potential = list(self.consumers_of.values())
        if any(consumers != potential[0] for consumers in potential):
            return False
        lists = list(self.partitions_of.values())
        return all(partitions.keys() == lists[0].keys() for partitions in lists)

    def _round_robin_from_most_loaded(self, remaining: dict[str, list[TopicPartition]]) -> list[TopicPartition]:
        """Again and again one partition of whoever has most left, first such as had another owner before."""
        ordered: list[TopicPartition] = []
        while remaining:
            consumer = max(remaining, key=lambda name: (len(remaining[name]), name))
            partitions = remaining[consumer]
            chosen = next((tp for tp in partitions if tp in self.previous), partitions[0])
            partitions.remove(chosen)
            ordered.append(chosen)
            if not partitions:
                del remaining[consumer]
        return ordered

    def _keep_valid(self, ordered: list[TopicPartition]) -> tuple[list[TopicPartition], bool]:
        """Drop what a member may not keep; what nobody keeps is unassigned."""
        topics_of = {member.member_id: member.topics for member in self.members}
        kept: dict[TopicPartition, None] = {}
        revocation_required = False
        for consumer, partitions in self.current.items():
            valid = []
            for tp in partitions:
                if tp not in self.consumers_of:
                    self.owner.pop(tp, None)
                elif tp.topic not in topics_of[consumer] or (self.racks_used and self._rack_mismatch(consumer, tp)):
                    revocation_required = True
                else:
                    kept[tp] = None
                    valid.append(tp)
            partitions[:] = valid
        return [tp for tp in ordered if tp not in kept], revocation_required

    # --- Balance ---------------------------------------------------------------------------------------------------

    def _sort_by_load(self) -> None:
        current = self.current
        self.by_load.sort(key=lambda consumer: (len(current[consumer]), consumer))

    def _balance(
        self, ordered: list[TopicPartition], unassigned: list[TopicPartition], revocation_required: bool
    ) -> None:
        initializing = not self.current[self.by_load[-1]]
        leftover = unassigned
        if self.racks_used:
            leftover = [tp for tp in unassigned if not self._assign(tp, by_rack=True)]
        for tp in leftover:
            self._assign(tp, by_rack=False)
        movable = [tp for tp in ordered if len(self.consumers_of[tp]) >= 2]
        movable_unassigned = [tp for tp in unassigned if len(self.consumers_of[tp]) >= 2]
        fixed = self._set_fixed_aside()
        before = {consumer: list(partitions) for consumer, partitions in self.current.items()}
        if not revocation_required and movable_unassigned:
            self._reassign_all(movable_unassigned)
        moved = self._reassign_all(movable)
        if not initializing and moved and _balance_score(self.current) >= _balance_score(before):
            self.current.update(before)
        self.current.update(fixed)

    def _assign(self, tp: TopicPartition, *, by_rack: bool) -> bool:
        for consumer in self.by_load:
            if tp not in self.partitions_of[consumer] or (by_rack and self._rack_mismatch(consumer, tp)):
                continue
            self.current[consumer].append(tp)
            self.owner[tp] = consumer
            self._sort_by_load()
            return True
        return False

    def _set_fixed_aside(self) -> dict[str, list[TopicPartition]]:
        """Members who own all they can get, of which nothing can go to anybody else, are out of the game."""
        fixed: dict[str, list[TopicPartition]] = {}
        for consumer in self.by_load:
            partitions = self.current[consumer]
            if len(partitions) < len(self.partitions_of[consumer]):
                continue
            if not any(len(self.consumers_of.get(tp, ())) >= 2 for tp in partitions):
                fixed[consumer] = partitions
        for consumer in fixed:
            del self.current[consumer]
        self.by_load = [consumer for consumer in self.by_load if consumer not in fixed]
        return fixed

    def _is_balanced(self) -> bool:
        current = self.current
        if len(current[self.by_load[0]]) >= len(current[self.by_load[-1]]) - 1:
            return True
        owners = {tp: consumer for consumer, partitions in current.items() for tp in partitions}
        for consumer in self.by_load:
            count = len(current[consumer])
            if count == len(self.partitions_of[consumer]):
                continue
            for tp in self.partitions_of[consumer]:
                owner = owners[tp]
                if owner != consumer and count < len(current[owner]):
                    return False
        return True

    def _reassign_all(self, partitions: list[TopicPartition]) -> bool:
        """Pass over ``partitions`` until a pass moves nothing."""
        performed = False
        modified = True
        while modified:
            modified = False
            for tp in partitions:
                if self._is_balanced():
                    break
                if self._reassign(tp):
                    performed = modified = True
        return performed

    def _reassign(self, tp: TopicPartition) -> bool:
        consumer = self.owner[tp]
        count = len(self.current[consumer])
        previous = self.previous.get(tp)
        if previous in self.current and count > len(self.current[previous]) + 1:
            self._move_to(tp, previous)
            return True
        candidates = self.consumers_of[tp]
        if self.racks_used and self.member_racks.get(consumer) in self.partition_racks.get(tp, ()):
            near = [other for other in candidates if self.member_racks.get(other) in self.partition_racks[tp]]
            if any(count > len(self.current[other]) + 1 for other in near):
                self._move_to_first_eligible(tp)
                return True
        if any(other != consumer and count > len(self.current[other]) + 1 for other in candidates):
            self._move_to_first_eligible(tp)
            return True
        return False

    def _move_to_first_eligible(self, tp: TopicPartition) -> None:
        self._move_to(tp, next(consumer for consumer in self.by_load if tp in self.partitions_of[consumer]))

    def _move_to(self, tp: TopicPartition, target: str) -> None:
        actual = self.movements.partition_to_move(tp, self.owner[tp], target)
        source = self.owner[actual]
        self.movements.move(actual, source, target)
        self.current[target].append(actual)
        self.current[source].remove(actual)
        self.owner[actual] = target
        self._sort_by_load()


def _balance_score(assignment: dict[str, list[TopicPartition]]) -> int:
    """Sum of the differences of all pairs: lower is more balanced."""
    sizes = sorted(len(partitions) for partitions in assignment.values())
    return sum(size * (2 * index - len(sizes) + 1) for index, size in enumerate(sizes))
