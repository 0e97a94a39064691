"""The assignor ``uniform`` for members of different subscriptions.

Mirrors:  org.apache.kafka.coordinator.group.assignor.UniformHeterogeneousAssignmentBuilder.
Rule 1:   members are indices in the order of the group spec; every tie goes to the lower index.
Rule 2:   a topic's loose partitions go to its least loaded subscribers, level by level; then topics are balanced in turn, at most
          sixteen times, by moving a last partition from a most loaded to a least loaded subscriber.
"""

from __future__ import annotations

from kafkasim.core.group.java_order import uuid_order
from kafkasim.core.group.server_assignors import GroupSpec, Share, walked

_MAX_ROUNDS = 16
_NOBODY = -1


class _Balancer:
    """Two ranges over one topic's subscribers, sorted by load: the least loaded grow to the right, the most loaded to the left.

    ``at_least`` and ``at_most`` are the loads of the ranges before they are given to, or taken from, once more.
    """

    __slots__ = (
        "_least_end",
        "_loads",
        "_members",
        "_most_end",
        "_most_start",
        "_next_least",
        "_next_most",
        "at_least",
        "at_most",
    )

    def __init__(self, loads: list[int], subscribers: list[int]) -> None:
        self._loads = loads
        self._members = sorted(subscribers, key=lambda member: (loads[member], member))
        self._least_end = 0
        self._next_least = 0
        self._most_start = self._most_end = len(subscribers)
        self._next_most = len(subscribers) - 1
        self.at_least = loads[self._members[0]] - 1
        self.at_most = loads[self._members[-1]] + 1

    @property
    def imbalance(self) -> int:
        return self._loads[self._members[-1]] - self._loads[self._members[0]]

    def is_balanced(self) -> bool:
        return self.at_most - self.at_least <= 1

    def next_least_loaded(self) -> int:
        """Who gets the next partition."""
        if self._next_least >= self._least_end:
            self.at_least += 1
            members, loads = self._members, self._loads
            while self._least_end < len(members) and loads[members[self._least_end]] == self.at_least:
                self._least_end += 1
            self._next_least = 0
        self._next_least += 1
        return self._members[self._next_least - 1]

    def next_most_loaded(self) -> int:
        """Who gives the next partition, or -1 when nobody is left to give."""
        if self._next_most < self._most_start:
            members, loads = self._members, self._loads
            if self._most_end <= self._most_start and self._most_start > 0:
                self.at_most = loads[members[self._most_start - 1]]
            else:
                self.at_most -= 1
            while self._most_start > 0 and loads[members[self._most_start - 1]] == self.at_most:
                self._most_start -= 1
            self._next_most = self._most_end - 1
        if self._next_most < 0:
            return _NOBODY
        self._next_most -= 1
        return self._members[self._next_most + 1]

    def exclude_most_loaded(self) -> None:
        """The member named last has nothing of this topic to give."""
        members, here, last = self._members, self._next_most + 1, self._most_end - 1
        members[here], members[last] = members[last], members[here]
        self._most_end -= 1


class _Heterogeneous:
    def __init__(self, spec: GroupSpec) -> None:
        self._spec = spec
        self._member_ids = list(spec.members)
        self._loads = [0] * len(self._member_ids)
        self._subscribers: dict[str, list[int]] = {}
        for index, member in enumerate(spec.members.values()):
            for topic_id in member.subscription.topic_ids:
                self._subscribers.setdefault(topic_id, []).append(index)
        self._owners = {topic_id: [_NOBODY] * spec.partition_counts(topic_id) for topic_id in self._subscribers}
        self._shares: dict[str, Share] = {}
        #: Shares that changed: member -> topic id -> partitions, in order of arrival (a dict serves as an ordered set).
        self._changed: dict[int, dict[str, dict[int, None]]] = {}

    def assign(self) -> dict[str, Share]:
        if not self._subscribers:
            return {}
        self._drop_unsubscribed()
        self._assign_loose()
        self._balance()
        for index, topics in self._changed.items():
            member_id = self._member_ids[index]
            before = self._shares[member_id]
            self._shares[member_id] = {
                topic_id: walked(tuple(partitions), len(before.get(topic_id, ())))
                for topic_id, partitions in topics.items()
                if partitions
            }
        return self._shares

    def _drop_unsubscribed(self) -> None:
        for index, (member_id, member) in enumerate(self._spec.members.items()):
            subscribed = member.subscription.topic_ids
            share = member.target
            if any(topic_id not in subscribed for topic_id in share):
                share = {topic_id: partitions for topic_id, partitions in share.items() if topic_id in subscribed}
            self._shares[member_id] = share
            for topic_id, partitions in share.items():
                self._loads[index] += len(partitions)
                for partition in partitions:
                    self._owners[topic_id][partition] = index

    def _sorted_topics(self, topic_ids: list[str]) -> list[str]:
        """Most partitions per subscriber first, then fewest subscribers, then by id."""

        def key(topic_id: str) -> tuple[float, int, tuple[int, int]]:
            count = len(self._subscribers[topic_id])
            return -(len(self._owners[topic_id]) / count), count, uuid_order(topic_id)

        return sorted(topic_ids, key=key)

    def _assign_loose(self) -> None:
        loose = {
            topic_id: [partition for partition, owner in enumerate(owners) if owner == _NOBODY]
            for topic_id, owners in self._owners.items()
        }
        for topic_id in self._sorted_topics([topic_id for topic_id, partitions in loose.items() if partitions]):
            balancer = _Balancer(self._loads, self._subscribers[topic_id])
            for partition in loose[topic_id]:
                self._move(topic_id, partition, balancer.next_least_loaded())

    def _balance(self) -> None:
        """Until a whole round over the topics moved nothing."""
        topics = self._sorted_topics([topic_id for topic_id, members in self._subscribers.items() if len(members) >= 2])
        last_changed = -1
        for _ in range(_MAX_ROUNDS):
            for index, topic_id in enumerate(topics):
                if index == last_changed:
                    return
                if self._balance_topic(topic_id) or last_changed == -1:
                    last_changed = index

    def _balance_topic(self, topic_id: str) -> bool:
        balancer = _Balancer(self._loads, self._subscribers[topic_id])
        if balancer.imbalance <= 1:
            return False
        moved = False
        owned: dict[int, list[int]] = {}
        for partition, owner in enumerate(self._owners[topic_id]):
            owned.setdefault(owner, []).append(partition)
        while not balancer.is_balanced():
            giver = balancer.next_most_loaded()
            while giver != _NOBODY and not owned.get(giver):
                balancer.exclude_most_loaded()
                giver = balancer.next_most_loaded()
            if giver == _NOBODY:
                break
            partition = owned[giver].pop()
            taker = balancer.next_least_loaded()
            if balancer.is_balanced():
                break
            self._move(topic_id, partition, taker)
            moved = True
        return moved

    def _move(self, topic_id: str, partition: int, taker: int) -> None:
        giver = self._owners[topic_id][partition]
        if giver != _NOBODY:
            del self._changing(giver)[topic_id][partition]
            self._loads[giver] -= 1
        self._changing(taker).setdefault(topic_id, {})[partition] = None
        self._owners[topic_id][partition] = taker
        self._loads[taker] += 1

    def _changing(self, index: int) -> dict[str, dict[int, None]]:
        topics = self._changed.get(index)
        if topics is None:
            share = self._shares[self._member_ids[index]]
            topics = {topic_id: dict.fromkeys(partitions) for topic_id, partitions in share.items()}
            self._changed[index] = topics
        return topics


def assign_uniform_heterogeneous(spec: GroupSpec) -> dict[str, Share]:
    return _Heterogeneous(spec).assign()
