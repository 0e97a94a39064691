"""The Java client's assignors, where their recorded decisions would not say why: see tests/golden for those."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkasim import java_assignors
from kafkasim.core.client.sticky_input import AssignorTopic, GroupMember
from kafkasim.core.model.ids import TopicPartition

NAMES = st.sampled_from(["a", "b", "c"])
TOPICS = st.lists(st.builds(AssignorTopic, NAMES, st.integers(1, 6)), min_size=1, unique_by=lambda topic: topic.name)
MEMBERS = st.lists(
    st.builds(
        GroupMember,
        st.sampled_from([f"m{number}" for number in range(6)]),
        st.lists(NAMES, min_size=1, unique=True).map(tuple),
    ),
    min_size=1,
    unique_by=lambda member: member.member_id,
)


@given(st.sampled_from(list(java_assignors.JAVA_ASSIGNORS)), MEMBERS, TOPICS)
def test_every_partition_goes_to_one_member_that_wants_it(
    name: str, members: list[GroupMember], topics: list[AssignorTopic]
) -> None:
    """Whatever the assignor: nothing twice, nothing left, nobody surprised."""
    found = java_assignors.assign(name, members, topics)
    wanted = {member.member_id: member.topics for member in members}
    given_out = [tp for tps in found.values() for tp in tps]
    assert sorted(given_out) == sorted(
        TopicPartition(topic.name, number)
        for topic in topics
        if any(topic.name in member.topics for member in members)
        for number in range(topic.partition_count)
    )
    assert all(tp.topic in wanted[member_id] for member_id, tps in found.items() for tp in tps)


@given(st.sampled_from(["sticky", "cooperative-sticky"]), MEMBERS, TOPICS)
def test_nothing_moves_when_nothing_has_changed(
    name: str, members: list[GroupMember], topics: list[AssignorTopic]
) -> None:
    """What stickiness is for."""
    first = java_assignors.assign(name, members, topics)
    again = [
        GroupMember(member.member_id, member.topics, owned=tuple(first[member.member_id]), generation_id=1)
        for member in members
    ]
    second = java_assignors.assign(name, again, topics)
    assert {m: sorted(tps) for m, tps in second.items()} == {m: sorted(tps) for m, tps in first.items()}


def test_a_partition_that_somebody_still_has_waits() -> None:
    """Cooperative: the newcomer gets it in the next rebalance."""
    topics = [AssignorTopic("a", 2)]
    members = [
        GroupMember("m0", ("a",), owned=(TopicPartition("a", 0), TopicPartition("a", 1)), generation_id=1),
        GroupMember("m1", ("a",)),
    ]
    assert java_assignors.assign("cooperative-sticky", members, topics) == {"m0": [TopicPartition("a", 0)], "m1": []}
    assert java_assignors.assign("sticky", members, topics)["m1"] == [TopicPartition("a", 1)]


def test_an_assignor_that_java_has_not_is_refused() -> None:
    """The server's ``uniform``, say."""
    with pytest.raises(KeyError, match="uniform"):
        java_assignors.assign("uniform", [], [])
