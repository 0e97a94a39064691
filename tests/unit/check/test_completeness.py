"""Stable groups have given out every partition (G6): the check against its definition, and groups of a cluster."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.unit.check.histories import draws

import kafkasim
from kafkasim.check.completeness import check_completeness
from kafkasim.check.report import Report
from kafkasim.core.model.history import GROUP_ASSIGNED, GROUP_GONE, GROUP_STATE, Happened
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import MetadataBatch, PartitionRecord, TopicRecord

MINUTE = 60_000_000
TIMEOUT_MS = 60_000
PARTITIONS = tuple(TopicPartition("t", number) for number in range(2))


def topic(at_us: int = 0) -> Happened:
    first, second = (PartitionRecord("id", number, (1,), (1,), 1) for number in range(2))
    batch = MetadataBatch(0, 1, (TopicRecord("t", "id"), first, second))
    return Happened(at_us, 1, "metadata-committed", 1, (("batches", (batch,)),))


def state(at_us: int, name: str, epoch: int, assignor: str = "range") -> Happened:
    more = (("topics", ("t",)), ("assignor", assignor), ("rebalance_timeout_ms", TIMEOUT_MS))
    return Happened(at_us, 1, GROUP_STATE, "g", (("state", name), ("epoch", epoch), *more))


def told(at_us: int, member: str, epoch: int, partitions: tuple[TopicPartition, ...] | None) -> Happened:
    more = (("partitions", partitions), ("protocol", "classic"), ("instance", None))
    return Happened(at_us, 1, GROUP_ASSIGNED, "g", (("member", member), ("epoch", epoch), *more))


def gone(at_us: int, member: str) -> Happened:
    return Happened(at_us, 1, GROUP_GONE, "g", (("member", member),))


def judged(*events: Happened, now_us: int) -> list[str]:
    report = Report()
    check_completeness(events, report, now_us)
    return [finding.text for finding in report.findings]


def run(draw: random.Random) -> tuple[list[Happened], int]:
    """A group of two members that changes now and then, and a server that is away now and then."""
    events, at_us = [topic()], MINUTE
    for _ in range(draw.randrange(1, 7)):
        at_us += draw.choice([1, MINUTE, 3 * MINUTE])
        kind = draw.randrange(8)
        if kind < 2:
            events.append(state(at_us, draw.choice(["Stable", "Stable", "PreparingRebalance"]), draw.randrange(2)))
        elif kind < 5:
            events.append(
                told(at_us, draw.choice("ab"), draw.randrange(2), draw.choice([(), PARTITIONS[:1], PARTITIONS[1:]]))
            )
        elif kind == 5:
            events.append(gone(at_us, draw.choice("ab")))
        else:
            events.append(Happened(at_us, 1, draw.choice(["crash", "start", "became leader"]), 1))
    return events, at_us + draw.choice([1, 3 * MINUTE])


def definition(events: list[Happened], now_us: int) -> bool:
    """At some moment when the group changed, or at the end: nothing had happened for two minutes, and somebody lacked somebody."""
    moments = [(at, e.at_us) for at, e in enumerate(events) if e.kind.startswith("group ")] + [(len(events), now_us)]
    for at, at_us in moments:
        before = [event for event in events[:at] if event.kind != "metadata-committed"]
        states = [dict(event.fields) for event in before if event.kind == GROUP_STATE]
        if not states or states[-1]["state"] != "Stable" or at_us - max(e.at_us for e in before) < 2 * MINUTE:
            continue
        faults = [event.kind for event in before if event.kind in ("crash", "start")]
        if faults and faults[-1] == "crash":
            continue
        members: dict[Any, Any] = {}
        for event in before:
            fields = dict(event.fields)
            if event.kind == GROUP_ASSIGNED:
                members[fields["member"]] = fields
            elif event.kind == GROUP_GONE:
                members.pop(fields["member"], None)
        owned = {tp for each in members.values() if each["epoch"] == states[-1]["epoch"] for tp in each["partitions"]}
        if members and not owned >= set(PARTITIONS):
            return True
    return False


def test_a_group_that_leaves_out_a_partition_is_its_definition() -> None:
    """G6 on random lives of a group."""
    broken = 0
    for draw in draws("completeness"):
        events, now_us = run(draw)
        expected = definition(events, now_us)
        broken += expected
        assert bool(judged(*events, now_us=now_us)) == expected
    assert broken


def test_what_is_not_asked_for() -> None:
    """Topics that are younger than the group, assignors of somebody's own, members that keep what they had."""
    left_out = [state(MINUTE, "Stable", 1), told(MINUTE, "a", 1, PARTITIONS[:1])]
    assert judged(topic(), *left_out, now_us=9 * MINUTE) == [
        "group g: t-1 belong to nobody, though nothing has changed for 480 s"
    ]
    assert judged(topic(2 * MINUTE), *left_out, now_us=9 * MINUTE) == []
    own = state(MINUTE, "Stable", 1, "mine")
    assert judged(topic(), own, left_out[1], now_us=9 * MINUTE) == []
    kept = [state(MINUTE, "consumer", 1, "consumer"), told(MINUTE, "a", 1, PARTITIONS), told(MINUTE, "a", 2, None)]
    assert judged(topic(), *kept, now_us=9 * MINUTE) == []
    cut = Happened(MINUTE, 0, "network partition", ((1,), (2,)))
    assert judged(topic(), *left_out, cut, now_us=9 * MINUTE) == []
    assert judged(topic(), *left_out, cut, Happened(MINUTE, 0, "network heal", ((1,), (2,))), now_us=9 * MINUTE)


@pytest.mark.parametrize("protocol", ["range", "cooperative-sticky", "consumer"])
def test_groups_of_a_cluster_are_complete(protocol: str) -> None:
    """Members come and go under each protocol: nothing is left out; and it is seen if the coordinator forgets one."""
    config: dict[str, Any] = {"max.poll.interval.ms": 20_000, "session.timeout.ms": 10_000}
    config = {**config, "partition.assignment.strategy": protocol}
    if protocol == "consumer":
        config = {"group.protocol": "consumer", "max.poll.interval.ms": 20_000}
    with kafkasim.Cluster(brokers=3, seed=4) as cluster:
        cluster.create_topic("t", partitions=4)

        def member() -> None:
            consumer = cluster.consumer("g", ["t"], config)
            while True:
                consumer.poll(1.0)

        first, second = cluster.spawn(member, name="first"), cluster.spawn(member, name="second")
        cluster.run_for(20.0)
        cluster.spawn(member, name="third")
        cluster.run_for(20.0)
        first.kill()
        cluster.run_for(200.0)
        report = cluster.check()
        assert report.ok, report
        assert report.looked_at["stable groups"] >= 1
        del second
        for index in reversed(range(len(cluster.history.events))):
            event = cluster.history[index]
            if isinstance(event, Happened) and event.kind == GROUP_ASSIGNED and dict(event.fields)["partitions"]:
                fields = {**dict(event.fields), "partitions": ()}
                cluster.history.events[index] = Happened(
                    event.at_us, event.node, event.kind, event.subject, tuple(fields.items())
                )
                break
        assert cluster.check().of("G6")
