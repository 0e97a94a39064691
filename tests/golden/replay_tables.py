"""Traces that are tables: partitioners, coordinators of groups, assignors."""

from __future__ import annotations

from typing import Any

from tests.golden.verdict import Verdict

from kafkasim import java_assignors
from kafkasim.core.client.assignors import AssignorTopic, GroupMember, run_assignor
from kafkasim.core.client.partitioners import Partitioner
from kafkasim.core.group.java_order import string_set_order
from kafkasim.core.group.partitioning import coordinator_partition as partition_of
from kafkasim.core.group.server_assignors import GroupSpec, MemberSpec, TopicIds
from kafkasim.core.group.target import ASSIGNORS
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
    """The assignors of the client and of the broker; steps on which librdkafka itself used freed memory are passed over."""
    known = ("java_client", "librdkafka", "server")
    own = [case for case in trace["cases"] if case["impl"] in known]
    left_out = (
        f"{len(trace['cases']) - len(own)} cases of other implementations" if len(own) < len(trace["cases"]) else ""
    )
    if not own:
        return Verdict.not_comparable(f"cases of none of {', '.join(known)}")
    steps = 0
    for case in own:
        server = ServerAssignor(case["assignor"]) if case["impl"] == "server" else None
        for step in case["steps"]:
            if step.get("librdkafka_use_after_free"):
                continue
            steps += 1
            run = java_assignors.assign if case["impl"] == "java_client" else run_assignor
            found = _assigned(run, case["assignor"], step) if server is None else server.assigned(step)
            expected = {member: _sets(topics) for member, topics in step["assignment"].items()}
            if found != expected:
                return Verdict.different(f"case {case['id']}, {step['event']}: {expected}, got {found}", left_out)
    return Verdict.equal(f"{steps} rebalances of {len(own)} cases", left_out)


def _assigned(run: Any, assignor: str, step: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
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
    for member_id, partitions in run(assignor, members, topics).items():
        by_topic = found.setdefault(member_id, {})
        for tp in sorted(partitions):
            by_topic.setdefault(tp.topic, []).append(tp.partition)
    return found


class ServerAssignor:
    """A group on a broker: its members arrive and leave, and every step assigns to those who are there."""

    def __init__(self, assignor: str) -> None:
        self._assignor = assignor

    def assigned(self, step: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
        """One rebalance, from the recorded target before it and in the recorded order of members."""
        ids = {topic["name"]: topic["id"] for topic in step["topics"]}
        names = {topic["id"]: topic["name"] for topic in step["topics"]}
        counts = {topic["id"]: topic["partitions"] for topic in step["topics"]}
        members = {member["id"]: member for member in step["members"]}
        targets: dict[str, dict[str, tuple[int, ...]]] = {
            member_id: {ids[name]: tuple(partitions) for name, partitions in topics.items() if name in ids}
            for member_id, topics in step["previous_target"].items()
        }
        owners: dict[str, dict[int, str]] = {}
        for member_id, topics in targets.items():
            for topic_id, partitions in topics.items():
                owners.setdefault(topic_id, {}).update(dict.fromkeys(partitions, member_id))
        specs = {}
        for member_id in step["member_iteration_order"]:
            subscribed = string_set_order(members[member_id]["subs"])
            topic_ids = tuple(ids[name] for name in subscribed if name in ids)
            specs[member_id] = MemberSpec(
                members[member_id].get("instance"), TopicIds(topic_ids, len(subscribed)), targets.get(member_id, {})
            )
        spec = GroupSpec(specs, step["subscription_type"] == "Homogeneous", owners, counts.__getitem__)
        shares = ASSIGNORS[self._assignor](spec)
        return {
            member_id: {
                names[topic_id]: sorted(partitions) for topic_id, partitions in shares.get(member_id, {}).items()
            }
            for member_id in specs
        }


def _sets(topics: dict[str, list[int]]) -> dict[str, list[int]]:
    return {topic: sorted(partitions) for topic, partitions in topics.items() if partitions}
