"""The client's assignors against what librdkafka's own gave for the same groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kafkasim.core.client.assignors import AssignorTopic, GroupMember, run_assignor
from kafkasim.core.model.ids import TopicPartition

GOLDEN = Path(__file__).parents[2] / "golden" / "assignors.json"
CASES = [case for case in json.loads(GOLDEN.read_text())["cases"] if case["impl"] == "librdkafka"]


def _members(step: dict[str, Any]) -> list[GroupMember]:
    return [
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


def _topics(step: dict[str, Any]) -> list[AssignorTopic]:
    return [
        AssignorTopic(
            topic["name"],
            topic["partitions"],
            tuple(tuple(racks) for racks in topic["racks"]) if "racks" in topic else None,
        )
        for topic in step["topics"]
    ]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_assignor_gives_what_librdkafka_gives(case: dict[str, Any]) -> None:
    """Every step of the case yields the recorded partitions of every member, in the recorded order."""
    for step in case["steps"]:
        if step.get("librdkafka_use_after_free"):
            continue
        assignments = run_assignor(case["assignor"], _members(step), _topics(step))
        by_topic: dict[str, dict[str, list[int]]] = {}
        for member_id, partitions in assignments.items():
            listed = by_topic.setdefault(member_id, {})
            for tp in partitions:
                listed.setdefault(tp.topic, []).append(tp.partition)
        assert by_topic == step["assignment"], step["event"]


def test_members_outside_the_metadata_get_nothing() -> None:
    """A member whose topics are all unknown appears with an empty list."""
    members = [GroupMember("a", ("t",)), GroupMember("b", ("missing",))]
    assignments = run_assignor("range", members, [AssignorTopic("t", 2), AssignorTopic("other", 1)])
    assert assignments == {"a": [TopicPartition("t", 0), TopicPartition("t", 1)], "b": []}
