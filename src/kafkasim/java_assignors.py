"""The assignors of the Java client: what a group gets that is led by a Java member.

No client here is a Java client, and the facade offers librdkafka's assignors only; these say what such a leader would decide, and hold
us to recorded decisions of the real one.

Mirrors:  RangeAssignor, RoundRobinAssignor, StickyAssignor, CooperativeStickyAssignor, AbstractStickyAssignor
          (KIP-54, KIP-341, KIP-429, KIP-881).
Rule 1:   an assignor is a function of members (in the order in which the leader put them into its map) and topics.
Rule 2:   members with equal subscriptions take the constrained way: quotas, no searching. Others take the general one.
Rule 3:   where Java walks a hash table, so does this, bucket by bucket.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from kafkasim.core.client.sticky_input import AssignorTopic, GroupMember
from kafkasim.core.group.java_order import grown, spread, string_hash, string_map_order
from kafkasim.core.model.ids import TopicPartition

Assignments = dict[str, list[TopicPartition]]
_NO_GENERATION = -1
_Racks = Mapping[TopicPartition, frozenset[str]]


def assign(name: str, members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> Assignments:
    """Partitions for each member id. Raises KeyError for an assignor that the Java client does not have."""
    assignor = JAVA_ASSIGNORS[name]
    by_id = {member.member_id: member for member in members}
    ordered = [by_id[member_id] for member_id in string_map_order(by_id)]
    known = [topic for topic in topics if any(topic.name in member.topics for member in members)]
    return assignor(ordered, known)


def _static_first(member: GroupMember) -> tuple[bool, str]:
    return (member.instance_id is None, member.member_id if member.instance_id is None else member.instance_id)


def _racks_of(topics: Iterable[AssignorTopic]) -> dict[TopicPartition, frozenset[str]]:
    return {
        TopicPartition(topic.name, number): frozenset(topic.racks[number])
        for topic in topics
        if topic.racks is not None
        for number in range(topic.partition_count)
    }


def _is_rack_aware(member_racks: Iterable[str], racks: _Racks) -> bool:
    """Some member is near some replica, and it makes a difference where: not every partition is in every rack."""
    everywhere = frozenset(itertools.chain.from_iterable(racks.values()))
    near = frozenset(member_racks) & everywhere
    return bool(near) and any(each != everywhere for each in racks.values())


# --- range -----------------------------------------------------------------------------------------------------------


class _TopicRange:
    """What is left of one topic, and how much each of its members may have."""

    def __init__(self, topic: AssignorTopic, members: Sequence[GroupMember]) -> None:
        self.topic = topic
        self.members = sorted((member for member in members if topic.name in member.topics), key=_static_first)
        self.racks = _racks_of([topic])
        self.left = {TopicPartition(topic.name, number): None for number in range(topic.partition_count)}
        self.counts = {member.member_id: 0 for member in self.members}
        self.each, self.extra = divmod(topic.partition_count, len(self.members)) if self.members else (0, 0)
        self.is_rack_aware = _is_rack_aware([member.rack_id for member in self.members if member.rack_id], self.racks)

    def room(self, member: GroupMember) -> int:
        return max(0, self.each + (1 if self.extra > 0 else 0) - self.counts[member.member_id])

    def is_near(self, member: GroupMember, tp: TopicPartition) -> bool:
        return not member.rack_id or member.rack_id in self.racks.get(tp, frozenset())

    def give(self, member: GroupMember, tps: Sequence[TopicPartition], found: Assignments) -> None:
        found[member.member_id].extend(tps)
        self.counts[member.member_id] += len(tps)
        if self.counts[member.member_id] > self.each:
            self.extra -= 1
        for tp in tps:
            del self.left[tp]

    def give_ranges(self, found: Assignments, may_have: Callable[[GroupMember, TopicPartition], bool]) -> None:
        for member in self.members:
            tps = [tp for tp in self.left if may_have(member, tp)][: self.room(member)]
            if tps:
                self.give(member, tps, found)


def _range(members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> Assignments:
    found: Assignments = {member.member_id: [] for member in members}
    states = [_TopicRange(topic, members) for topic in topics if topic.partition_count]
    if any(state.is_rack_aware for state in states):
        _give_near(states, found)
    for state in states:
        state.give_ranges(found, lambda member, tp: True)
    return found


def _give_near(states: Sequence[_TopicRange], found: Assignments) -> None:
    """Topics of equal members and sizes go together, so that what belongs together stays with one member."""
    together: dict[tuple[tuple[str, ...], int], list[_TopicRange]] = {}
    for state in states:
        together.setdefault((tuple(state.counts), len(state.racks)), []).append(state)
    for (_, count), group in together.items():
        if len(group) == 1:
            if group[0].is_rack_aware:
                group[0].give_ranges(found, group[0].is_near)
        else:
            _give_together(group, count, found)


def _give_together(group: Sequence[_TopicRange], count: int, found: Assignments) -> None:
    remaining = list(group[0].members)
    for number in range(count):
        member = next((m for m in remaining if all(_fits(state, m, number) for state in group)), None)
        if member is None:
            continue
        for state in group:
            state.give(member, [TopicPartition(state.topic.name, number)], found)
        if not any(state.room(member) for state in group):
            remaining.remove(member)
            if not remaining:
                return


def _fits(state: _TopicRange, member: GroupMember, number: int) -> bool:
    return state.room(member) > 0 and state.is_near(member, TopicPartition(state.topic.name, number))


# --- roundrobin ------------------------------------------------------------------------------------------------------


def _roundrobin(members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> Assignments:
    found: Assignments = {member.member_id: [] for member in members}
    ordered = sorted(members, key=_static_first)
    turn = 0
    for topic in sorted(topics, key=lambda topic: topic.name):
        for number in range(topic.partition_count):
            while topic.name not in ordered[turn % len(ordered)].topics:
                turn += 1
            found[ordered[turn % len(ordered)].member_id].append(TopicPartition(topic.name, number))
            turn += 1
    return found


# --- sticky: what members had ----------------------------------------------------------------------------------------


@attrs.define(slots=True, eq=False)
class _Had:
    """What members say they owned: each partition with whoever says so in the latest generation."""

    owned: Assignments
    #: Claimed by two in one generation.
    doubly_claimed: dict[TopicPartition, None]
    latest_generation: int
    are_equal: bool


def _had(members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> _Had:
    known = {topic.name for topic in topics}
    generations = {member.member_id: member.generation_id for member in members}
    had = _Had({member.member_id: [] for member in members}, {}, _NO_GENERATION, True)
    first: frozenset[str] = frozenset()
    owner: dict[TopicPartition, str] = {}
    for member in members:
        if not first:
            first = frozenset(member.topics)
        elif frozenset(member.topics) != first:
            had.are_equal = False
        had.latest_generation = max(had.latest_generation, member.generation_id)
        for tp in member.owned:
            if tp.topic in known:
                _claim(had, owner, generations, tp, member)
    return had


def _claim(
    had: _Had, owner: dict[TopicPartition, str], generations: Mapping[str, int], tp: TopicPartition, member: GroupMember
) -> None:
    other = owner.get(tp)
    if other is None:
        had.owned[member.member_id].append(tp)
    elif member.generation_id == generations[other]:
        had.doubly_claimed[tp] = None
        if tp in had.owned[other]:
            had.owned[other].remove(tp)
    elif member.generation_id > generations[other]:
        had.owned[member.member_id].append(tp)
        if tp in had.owned[other]:
            had.owned[other].remove(tp)
    else:
        return
    owner[tp] = member.member_id


class _Nearness:
    """Who is near what; of no effect where racks make no difference."""

    def __init__(self, members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> None:
        racks = _racks_of(topics)
        self.is_used = _is_rack_aware([member.rack_id for member in members if member.rack_id], racks)
        self.member_racks = {m.member_id: m.rack_id for m in members if m.rack_id} if self.is_used else {}
        self.racks: _Racks = racks if self.is_used else {}
        in_rack: dict[str, int] = {}
        for member in members:
            if member.rack_id:
                in_rack[member.rack_id] = in_rack.get(member.rack_id, 0) + 1
        self.near_counts = (
            {tp: sum(in_rack.get(rack, 0) for rack in each) for tp, each in racks.items()} if in_rack else {}
        )

    def mismatch(self, member_id: str, tp: TopicPartition) -> bool:
        rack = self.member_racks.get(member_id)
        return rack is not None and rack not in self.racks.get(tp, frozenset())

    def rarest_first(self, tps: list[TopicPartition]) -> list[TopicPartition]:
        return sorted(tps, key=lambda tp: self.near_counts.get(tp, 0)) if self.near_counts else tps

    def next_near(self, tp: TopicPartition, member_ids: Sequence[str], first: int) -> int:
        racks = self.racks.get(tp)
        for step in range(len(member_ids)) if racks else ():
            index = (first + step) % len(member_ids)
            rack = self.member_racks.get(member_ids[index])
            if rack is not None and racks and rack in racks:
                return index
        return -1


# --- sticky with equal subscriptions ---------------------------------------------------------------------------------


class _Constrained:
    """Everybody keeps what it had up to its quota; the rest is dealt to who has least."""

    def __init__(self, members: Sequence[GroupMember], topics: Sequence[AssignorTopic], had: _Had) -> None:
        self._topics = topics
        self._had = had
        self._near = _Nearness(members, topics)
        total = sum(topic.partition_count for topic in topics)
        self._least, self._with_more = divmod(total, len(members))
        self._most = self._least + (1 if self._with_more else 0)
        self._have_more = 0
        self._below: list[str] = []
        self._at_least: list[str] = []
        self._maybe_revoked: dict[TopicPartition, str] = {}
        self.found: Assignments = {member.member_id: [] for member in members}
        #: Partition → its new owner, where somebody else has to let go first.
        self.transferred: dict[TopicPartition, str] = {}

    def run(self) -> Assignments:
        self._keep()
        kept = frozenset(itertools.chain.from_iterable(self.found.values()))
        unassigned = [
            tp
            for topic in sorted(self._topics, key=lambda topic: topic.name)
            for tp in (TopicPartition(topic.name, number) for number in range(topic.partition_count))
            if tp not in kept
        ]
        self._below.sort()
        self._at_least.sort()
        unassigned = self._near.rarest_first(unassigned)
        if self._near.is_used:
            unassigned = self._deal_near(unassigned)
        self._deal(unassigned)
        return self.found

    def _keep(self) -> None:
        for member_id in string_map_order(self.found):
            owned = []
            for tp in self._had.owned[member_id]:
                if self._near.mismatch(member_id, tp):
                    self._maybe_revoked[tp] = member_id
                elif tp not in self._had.doubly_claimed:
                    owned.append(tp)
            owned.sort(key=lambda tp: (tp.partition, tp.topic))
            if len(owned) < self._least:
                self.found[member_id].extend(owned)
                self._below.append(member_id)
                continue
            quota = self._least
            if len(owned) >= self._most and self._have_more < self._with_more:
                quota = self._most
                self._have_more += 1
                if self._have_more == self._with_more:
                    self._at_least.clear()
            elif self._have_more < self._with_more:
                self._at_least.append(member_id)
            self.found[member_id].extend(owned[:quota])
            self._maybe_revoked.update(dict.fromkeys(owned[quota:], member_id))

    def _deal_near(self, unassigned: list[TopicPartition]) -> list[TopicPartition]:
        left = []
        turn = 0
        for tp in unassigned:
            index = self._near.next_near(tp, self._below, turn)
            if index >= 0:
                member_id = self._below[index]
                count = len(self.found[member_id]) + 1
                if count >= self._least:
                    self._below.pop(index)
                    if count < self._most and self._have_more < self._with_more:
                        self._at_least.append(member_id)
                else:
                    index += 1
                turn = index % len(self._below) if self._below else 0
                self._give(tp, member_id)
            elif not self._give_near_above(tp):
                left.append(tp)
        return left

    def _give_near_above(self, tp: TopicPartition) -> bool:
        index = self._near.next_near(tp, self._at_least, 0)
        if index < 0:
            return False
        member_id = self._at_least[index]
        if len(self.found[member_id]) + 1 == self._most:
            self._at_least.pop(index)
            self._have_more += 1
            if self._have_more == self._with_more:
                self._at_least.clear()
        self._give(tp, member_id)
        return True

    def _deal(self, unassigned: Iterable[TopicPartition]) -> None:
        turn = 0
        for tp in unassigned:
            if turn >= len(self._below):
                turn = 0
            if not self._below:
                member_id = self._at_least.pop(0)
                self._give(tp, member_id)
                continue
            member_id = self._below[turn]
            if self._give(tp, member_id) == self._least:
                self._below.pop(turn)
                self._at_least.append(member_id)
            else:
                turn += 1

    def _give(self, tp: TopicPartition, member_id: str) -> int:
        self.found[member_id].append(tp)
        if self._maybe_revoked.get(tp, member_id) != member_id or tp in self._had.doubly_claimed:
            self.transferred[tp] = member_id
        return len(self.found[member_id])


# --- sticky in general -----------------------------------------------------------------------------------------------


class _Movements:
    """Which partitions of a topic went from whom to whom, so that a move back is taken instead of one more."""

    def __init__(self) -> None:
        self._of: dict[TopicPartition, tuple[str, str]] = {}
        self._by_topic: dict[str, dict[tuple[str, str], dict[TopicPartition, None]]] = {}

    def move(self, tp: TopicPartition, old: str, new: str) -> None:
        before = self._of.pop(tp, None)
        if before is None:
            self._add(tp, (old, new))
            return
        pairs = self._by_topic[tp.topic]
        del pairs[before][tp]
        if not pairs[before]:
            del pairs[before]
        if not pairs:
            del self._by_topic[tp.topic]
        if before[0] != new:
            self._add(tp, (before[0], new))

    def instead_of(self, tp: TopicPartition, old: str, new: str) -> TopicPartition:
        if tp.topic not in self._by_topic:
            return tp
        if tp in self._of:
            old = self._of[tp][0]
        back = self._by_topic[tp.topic].get((new, old))
        return _first_of_set(back) if back else tp

    def _add(self, tp: TopicPartition, pair: tuple[str, str]) -> None:
        self._of[tp] = pair
        self._by_topic.setdefault(tp.topic, {}).setdefault(pair, {})[tp] = None


def _first_of_set(tps: Iterable[TopicPartition]) -> TopicPartition:
    """The first element of a HashSet that took these in one by one."""
    listed = list(tps)
    mask = grown(len(listed)) - 1

    def bucket(tp: TopicPartition) -> int:
        return spread(31 * (31 + tp.partition) + string_hash(tp.topic)) & mask

    return min(listed, key=bucket)


class _General:
    """Keep what may be kept, give the rest to who has least, then move what makes it fairer."""

    def __init__(self, members: Sequence[GroupMember], topics: Sequence[AssignorTopic], had: _Had) -> None:
        self._sizes = {topic.name: topic.partition_count for topic in topics}
        self._members = members
        self._near = _Nearness(members, topics)
        self._latest = had.latest_generation
        self.found = had.owned
        self._topics_of = {m.member_id: [name for name in m.topics if name in self._sizes] for m in members}
        self._could_have = {name: [m.member_id for m in members if name in m.topics] for name in self._sizes}
        self._owner = {tp: member_id for member_id, tps in self.found.items() for tp in tps}
        by_need = sorted(self._sizes, key=lambda name: (len(self._could_have[name]), name))
        self._all = [TopicPartition(name, number) for name in by_need for number in range(self._sizes[name])]
        self._playing: dict[str, None] = {}
        self._has_revoked = False
        self._movements = _Movements()
        self._before: dict[TopicPartition, tuple[str, int]] = {}

    def run(self) -> Assignments:
        self._remember()
        kept = self._keep()
        unassigned = [tp for tp in self._all if tp not in kept]
        self._playing = dict.fromkeys(self.found)
        self._balance(unassigned)
        return self.found

    def _remember(self) -> None:
        """What members had in generations before the latest: where a partition would rather go back to."""
        for member in self._members:
            if member.generation_id >= self._latest:
                continue
            for tp in member.owned:
                if tp not in self._before or member.generation_id > self._before[tp][1]:
                    self._before[tp] = (member.member_id, member.generation_id)

    def _keep(self) -> dict[TopicPartition, None]:
        kept: dict[TopicPartition, None] = {}
        for member_id, tps in self.found.items():
            for tp in list(tps):
                if tp.topic not in self._could_have:
                    tps.remove(tp)
                    del self._owner[tp]
                elif tp.topic not in self._topics_of[member_id] or self._near.mismatch(member_id, tp):
                    tps.remove(tp)
                    self._has_revoked = True
                else:
                    kept[tp] = None
        return kept

    def _by_load(self) -> list[str]:
        return sorted(self._playing, key=lambda member_id: (len(self.found[member_id]), member_id))

    def _balance(self, unassigned: list[TopicPartition]) -> None:
        is_new = not self.found[self._by_load()[-1]]
        rest = unassigned
        if self._near.is_used:
            rest = [tp for tp in unassigned if not self._give(tp, must_be_near=True)]
        for tp in rest:
            self._give(tp, must_be_near=False)
        movable = [tp for tp in self._all if len(self._could_have[tp.topic]) >= 2]
        movable_first = [tp for tp in unassigned if len(self._could_have[tp.topic]) >= 2]
        set_aside = {m: self.found.pop(m) for m in list(self._topics_of) if not self._can_change(m)}
        for member_id in set_aside:
            del self._playing[member_id]
        saved, saved_owner = {m: list(tps) for m, tps in self.found.items()}, dict(self._owner)
        if not self._has_revoked:
            self._reassign(movable_first)
        has_moved = self._reassign(movable)
        if not is_new and has_moved and _unfairness(self.found) >= _unfairness(saved):
            self.found, self._owner = saved, saved_owner
        self.found.update(set_aside)

    def _give(self, tp: TopicPartition, *, must_be_near: bool) -> bool:
        for member_id in self._by_load():
            if tp.topic in self._topics_of[member_id] and not (must_be_near and self._near.mismatch(member_id, tp)):
                self.found[member_id].append(tp)
                self._owner[tp] = member_id
                return True
        return False

    def _most_for(self, member_id: str) -> int:
        return sum(self._sizes[name] for name in self._topics_of[member_id])

    def _can_change(self, member_id: str) -> bool:
        tps = self.found[member_id]
        return len(tps) < self._most_for(member_id) or any(len(self._could_have[tp.topic]) >= 2 for tp in tps)

    def _is_balanced(self) -> bool:
        order = self._by_load()
        found = self.found
        if not order or len(found[order[0]]) >= len(found[order[-1]]) - 1:
            return True
        owner = {tp: member_id for member_id, tps in found.items() for tp in tps}
        for member_id in order:
            count = len(found[member_id])
            if count == self._most_for(member_id):
                continue
            for name in self._topics_of[member_id]:
                for number in range(self._sizes[name]):
                    other = owner.get(TopicPartition(name, number))
                    if other is not None and other != member_id and count + 1 < len(found[other]):
                        return False
        return True

    def _reassign(self, tps: Sequence[TopicPartition]) -> bool:
        has_moved = False
        while True:
            is_changed = False
            for tp in tps:
                if self._is_balanced():
                    break
                if self._improve(tp):
                    has_moved = is_changed = True
            if not is_changed:
                return has_moved

    def _improve(self, tp: TopicPartition) -> bool:
        member_id, found = self._owner[tp], self.found
        before = self._before.get(tp)
        if before is not None and len(found[member_id]) > len(found[before[0]]) + 1:
            self._move(tp, before[0])
            return True
        others = self._could_have[tp.topic]
        if any(len(found[member_id]) > len(found[other]) + 1 for other in others if other in found):
            new = next(each for each in self._by_load() if tp.topic in self._topics_of[each])
            self._move(tp, new)
            return True
        return False

    def _move(self, tp: TopicPartition, new: str) -> None:
        tp = self._movements.instead_of(tp, self._owner[tp], new)
        old = self._owner[tp]
        self._movements.move(tp, old, new)
        self.found[old].remove(tp)
        self.found[new].append(tp)
        self._owner[tp] = new


def _unfairness(found: Assignments) -> int:
    counts = [len(tps) for tps in found.values()]
    return sum(abs(a - b) for a, b in itertools.combinations(counts, 2))


def _sticky(members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> Assignments:
    had = _had(members, topics)
    return (_Constrained if had.are_equal else _General)(members, topics, had).run()


def _cooperative_sticky(members: Sequence[GroupMember], topics: Sequence[AssignorTopic]) -> Assignments:
    """As sticky, but what somebody else still has is left out until it has let go."""
    had = _had(members, topics)
    if had.are_equal:
        constrained = _Constrained(members, topics, had)
        found, transferred = constrained.run(), constrained.transferred
    else:
        found = _General(members, topics, had).run()
        owned = {member.member_id: frozenset(member.owned) for member in members}
        added = {tp: member_id for member_id, tps in found.items() for tp in tps if tp not in owned[member_id]}
        given_up = {tp for member_id, tps in owned.items() for tp in tps if tp not in found[member_id]}
        transferred = {tp: member_id for tp, member_id in added.items() if tp in given_up}
    for tp, member_id in transferred.items():
        found[member_id].remove(tp)
    return found


JAVA_ASSIGNORS: Mapping[str, Callable[[Sequence[GroupMember], Sequence[AssignorTopic]], Assignments]] = {
    "range": _range,
    "roundrobin": _roundrobin,
    "sticky": _sticky,
    "cooperative-sticky": _cooperative_sticky,
}
