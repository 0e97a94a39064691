"""What group tests share: the protocols, a cluster with quick timers, and a journal of rebalance callbacks.

Rule 1:   a claim that holds for each protocol is one test with `every_protocol`; what differs stands in a table in the test.
Rule 2:   members' timers are those of the cluster below, which both backends are given: heartbeats every 0.3 s, sessions of 3 s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

#: One broker is enough for a group; it starts in half the time. All limits that keep timers long are lowered.
QUICK = {
    "brokers": 1,
    "config": {
        "group.min.session.timeout.ms": 1000,
        "group.initial.rebalance.delay.ms": 0,
        "group.consumer.min.session.timeout.ms": 1000,
        "group.consumer.session.timeout.ms": 3000,
        "group.consumer.min.heartbeat.interval.ms": 100,
        "group.consumer.heartbeat.interval.ms": 300,
        "group.consumer.assignment.interval.ms": 0,
    },
}

RANGE, ROUNDROBIN, COOPERATIVE, CONSUMER = "range", "roundrobin", "cooperative-sticky", "consumer"
EAGER = (RANGE, ROUNDROBIN)
INCREMENTAL = (COOPERATIVE, CONSUMER)

every_protocol = pytest.mark.parametrize("protocol", [RANGE, ROUNDROBIN, COOPERATIVE, CONSUMER])
each_kind = pytest.mark.parametrize("protocol", [RANGE, COOPERATIVE, CONSUMER])
incremental = pytest.mark.parametrize("protocol", [COOPERATIVE, CONSUMER])

CLASSIC_TIMERS = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 300}


def member_config(protocol: str) -> dict[str, Any]:
    """What makes a consumer a member by this protocol."""
    if protocol == CONSUMER:
        return {"group.protocol": "consumer"}
    return {"group.protocol": "classic", "partition.assignment.strategy": protocol, **CLASSIC_TIMERS}


class Journal:
    """Writes down the rebalance callbacks of one consumer."""

    def __init__(self, **answers: Callable[[Any, list[Any]], Any]) -> None:
        self.events: list[tuple[str, list[int]]] = []
        self._answers = answers

    def callbacks(self) -> dict[str, Callable[[Any, list[Any]], None]]:
        """The keywords of subscribe()."""
        return {f"on_{kind}": self._note(kind) for kind in ("assign", "revoke", "lost")}

    def _note(self, kind: str) -> Callable[[Any, list[Any]], None]:
        def callback(consumer: Any, partitions: list[Any]) -> None:
            self.events.append((kind, sorted(each.partition for each in partitions)))
            if kind in self._answers:
                self._answers[kind](consumer, partitions)

        return callback

    def subscribe(self, consumer: Any, *topics: str) -> None:
        """Subscribe with all three callbacks."""
        consumer.subscribe(list(topics), **self.callbacks())

    def owned(self) -> list[int]:
        """What the callbacks, added up, leave with the member: incremental protocols only."""
        held: dict[int, None] = {}
        for kind, partitions in self.events:
            for partition in partitions:
                if kind == "assign":
                    held[partition] = None
                else:
                    held.pop(partition, None)
        return sorted(held)


def member(kit: Any, protocol: str, group: str, *topics: str, journal: Journal | None = None, **config: Any) -> Any:
    """A consumer of this protocol that has subscribed, with the journal's callbacks if there is one."""
    given = kit.config({"group.id": group, **member_config(protocol)}, **config)
    short = {"fetch.wait.max.ms": 100, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = kit.keep(kit.ck.Consumer({**short, **given}))
    if topics:
        consumer.subscribe(list(topics), **({} if journal is None else journal.callbacks()))
    return consumer


def settled(*members_and_counts: Any) -> Callable[[], bool]:
    """Do these members have that many partitions each? ``settled(first, 2, second, 2)``"""
    pairs = list(zip(members_and_counts[::2], members_and_counts[1::2], strict=True))
    return lambda: all(len(consumer.assignment()) == count for consumer, count in pairs)


def joined(kit: Any, protocol: str, group: str, topic: str, *, count: int, **config: Any) -> Any:
    """A lone member that has its ``count`` partitions."""
    consumer = member(kit, protocol, group, topic, **config)
    kit.wait(settled(consumer, count), consumer)
    return consumer


def pair(kit: Any, protocol: str, group: str, topic: str, *, count: int, **config: Any) -> tuple[Any, Any]:
    """Two members that have shared ``count`` partitions, the second one later."""
    first = joined(kit, protocol, group, topic, count=count, **config)
    second = member(kit, protocol, group, topic, **config)
    kit.wait(settled(first, count // 2, second, count // 2), first, second)
    return first, second


def describe(kit: Any, group: str) -> Any:
    """The group as the admin client describes it."""
    return kit.result(kit.admin().describe_consumer_groups([group]))


def state(kit: Any, group: str) -> str:
    """The group's state, in the client's words: "STABLE", "EMPTY", …"""
    return str(describe(kit, group).state.name)


def epoch(consumer: Any) -> int:
    """Generation or member epoch, as consumer_group_metadata() has it."""
    return int.from_bytes(consumer.consumer_group_metadata()[7:11], "little", signed=True)


def offsets(kit: Any, group: str) -> dict[tuple[str, int], int]:
    """What the group has committed."""
    found = kit.result(kit.admin().list_consumer_group_offsets([kit.ck.ConsumerGroupTopicPartitions(group)]))
    return {(each.topic, each.partition): each.offset for each in found.topic_partitions}
