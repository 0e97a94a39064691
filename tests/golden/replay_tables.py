"""Traces that are tables: partitioners, coordinators of groups, assignors."""

from __future__ import annotations

from typing import Any

from tests.golden.verdict import Verdict

from kafkasim.core.client.assignors import AssignorTopic, GroupMember, run_assignor
from kafkasim.core.client.partitioners import Partitioner
from kafkasim.core.group.partitioning import coordinator_partition as partition_of
from kafkasim.core.model.ids import TopicPartition


def partitioner(trace: dict[str, Any]) -> Verdict:
    """Every key lands where librdkafka put it."""
    for row in trace["rows"]:
        key = None if row["key"] is None else bytes.fromhex(row["key"])
        found = Partitioner(row["partitioner"]).of_key(key, row["partitions"])
        if found != row["partition"]:
            return Verdict.different(f"{row}: got {found}")
    return Verdict.equal(f"{len(trace['rows'])} rows")


def coordinator_partition(trace: dict[str, Any]) -> Verdict:
    """Every group lives on the recorded partition, of 10 and of 50."""
    for group_id, row in trace["observed"].items():
        for name, expected in row.items():
            found = partition_of(group_id, int(name[1:]))
            if found != expected:
                return Verdict.different(f"group {group_id!r} of {name[1:]}: {expected}, got {found}")
    return Verdict.equal(f"{len(trace['observed'])} groups")


def assignors(trace: dict[str, Any]) -> Verdict:
    """The assignors of the client; steps on which librdkafka itself used freed memory are passed over."""
    own = [case for case in trace["cases"] if case["impl"] == "librdkafka"]
    left_out = (
        f"{len(trace['cases']) - len(own)} cases of other implementations" if len(own) < len(trace["cases"]) else ""
    )
    if not own:
        return Verdict.not_comparable("assignors of the Java client and of the broker are not modelled yet")
    steps = 0
    for case in own:
        for step in case["steps"]:
            if step.get("librdkafka_use_after_free"):
                continue
            steps += 1
            found = _assigned(case["assignor"], step)
            expected = {member: _sets(topics) for member, topics in step["assignment"].items()}
            if found != expected:
                return Verdict.different(f"case {case['id']}, {step['event']}: {expected}, got {found}", left_out)
    return Verdict.equal(f"{steps} rebalances of {len(own)} cases", left_out)


def _assigned(assignor: str, step: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
    members = [
        GroupMember(
            member["id"],
            tuple(member["subs"]),
            member.get("instance"),
            tuple(TopicPartition(topic, p) for topic, ps in member.get("owned", {}).items() for p in ps),
            member.get("generation", -1),
            member.get("rack"),
        )
        for member in step["members"]
    ]
    topics = [
        AssignorTopic(
            topic["name"],
            topic["partitions"],
            tuple(tuple(racks) for racks in topic["racks"]) if "racks" in topic else None,
        )
        for topic in step["topics"]
    ]
    found: dict[str, dict[str, list[int]]] = {}
    for member_id, partitions in run_assignor(assignor, members, topics).items():
        by_topic = found.setdefault(member_id, {})
        for tp in sorted(partitions):
            by_topic.setdefault(tp.topic, []).append(tp.partition)
    return found


def _sets(topics: dict[str, list[int]]) -> dict[str, list[int]]:
    return {topic: sorted(partitions) for topic, partitions in topics.items() if partitions}
