"""Groups and their offsets through the admin client."""

from __future__ import annotations

import pytest


def _describe(kit, group):
    return kit.result(kit.admin().describe_consumer_groups([group]))


def _member(kit, topic, group, **config):
    consumer = kit.consumer(group, [topic], **config)
    kit.wait(lambda: consumer.assignment(), consumer)
    return consumer


def _commit(kit, group, topic, offset, partition=0):
    consumer = kit.consumer(group)
    consumer.commit(offsets=[kit.at(topic, partition, offset)], asynchronous=False)
    consumer.close()


def _offsets(kit, group, partitions=None):
    request = kit.ck.ConsumerGroupTopicPartitions(group, partitions)
    found = kit.result(kit.admin().list_consumer_group_offsets([request]))
    assert found.group_id == group
    return [(each.topic, each.partition, each.offset, each.error) for each in found.topic_partitions]


def _alter(kit, group, *places):
    request = kit.ck.ConsumerGroupTopicPartitions(group, list(places))
    found = kit.result(kit.admin().alter_consumer_group_offsets([request]))
    return [(each.topic, each.partition, each.offset, each.error) for each in found.topic_partitions]


def test_an_unknown_group_is_dead(kit):
    """Describing what does not exist is no error: state DEAD, no members."""
    described = _describe(kit, kit.group())
    assert described.state == kit.ck.ConsumerGroupState.DEAD
    assert described.members == []
    assert described.is_simple_consumer_group
    assert described.coordinator.id in kit.admin().list_topics(timeout=20).brokers


def test_a_group_with_offsets_only_is_empty(kit):
    """A commit by a hand-assigned consumer makes a simple, empty group."""
    topic, group = kit.topic(), kit.group()
    _commit(kit, group, topic, 1)
    described = _describe(kit, group)
    assert described.state == kit.ck.ConsumerGroupState.EMPTY
    assert described.is_simple_consumer_group


def test_a_group_with_a_member_is_stable(kit):
    """State, assignor, and of each member id, client id, host and partitions."""
    topic, group = kit.topic(partitions=2), kit.group()
    consumer = _member(kit, topic, group, client_id="reader")
    described = _describe(kit, group)
    assert described.group_id == group
    assert described.state == kit.ck.ConsumerGroupState.STABLE
    assert described.type == kit.ck.ConsumerGroupType.CLASSIC
    assert described.partition_assignor == "range"
    assert not described.is_simple_consumer_group
    (member,) = described.members
    assert member.member_id == consumer.memberid()
    assert member.member_id.startswith("reader-")
    assert member.client_id == "reader"
    assert member.host.startswith("/")
    assert member.group_instance_id is None
    assert sorted((p.topic, p.partition) for p in member.assignment.topic_partitions) == [(topic, 0), (topic, 1)]


def test_a_static_member_shows_its_instance(kit):
    """group.instance.id is in the description and begins the member id."""
    topic, group = kit.topic(), kit.group()
    _member(kit, topic, group, group_instance_id="desk-1")
    (member,) = _describe(kit, group).members
    assert member.group_instance_id == "desk-1"
    assert member.member_id.startswith("desk-1-")


def test_a_left_group_is_empty(kit):
    """After the last member's close() the group stays, without members."""
    topic, group = kit.topic(), kit.group()
    _member(kit, topic, group).close()
    described = _describe(kit, group)
    assert described.state == kit.ck.ConsumerGroupState.EMPTY
    assert described.members == []
    assert not described.is_simple_consumer_group


def test_groups_are_listed(kit):
    """list_consumer_groups names each group with state and type."""
    topic, group = kit.topic(), kit.group()
    _member(kit, topic, group)
    result = kit.admin().list_consumer_groups().result(20)
    (listed,) = [each for each in result.valid if each.group_id == group]
    assert result.errors == []
    assert listed.state == kit.ck.ConsumerGroupState.STABLE
    assert listed.type == kit.ck.ConsumerGroupType.CLASSIC
    assert not listed.is_simple_consumer_group


@pytest.mark.parametrize(
    ("keyword", "names", "shown"),
    [
        ("states", ["STABLE"], True),
        ("states", ["EMPTY"], False),
        ("states", ["EMPTY", "STABLE"], True),
        ("types", ["CLASSIC"], True),
        ("types", ["CONSUMER"], False),
    ],
)
def test_listed_groups_are_filtered(kit, keyword, names, shown):
    """By states and by types."""
    topic, group = kit.topic(), kit.group()
    _member(kit, topic, group)
    enum = kit.ck.ConsumerGroupState if keyword == "states" else kit.ck.ConsumerGroupType
    result = kit.admin().list_consumer_groups(**{keyword: {enum[name] for name in names}}).result(20)
    assert (group in [each.group_id for each in result.valid]) is shown


def test_filters_are_sets(kit):
    """Anything else is a TypeError."""
    with pytest.raises(TypeError, match="'states' must be a set"):
        kit.admin().list_consumer_groups(states="STABLE")


def test_offsets_of_a_group(kit):
    """Without a list of partitions: all that the group committed."""
    topic, group = kit.topic(partitions=2), kit.group()
    _commit(kit, group, topic, 3, partition=1)
    assert _offsets(kit, group) == [(topic, 1, 3, None)]


def test_offsets_of_chosen_partitions(kit):
    """Asked for by name, a partition without a commit answers OFFSET_INVALID; even one that does not exist."""
    topic, group = kit.topic(partitions=2), kit.group()
    _commit(kit, group, topic, 3)
    absent = kit.name("absent")
    found = _offsets(kit, group, [kit.at(topic, 0), kit.at(topic, 1), kit.at(absent, 0)])
    assert sorted(found) == sorted([(topic, 0, 3, None), (topic, 1, -1001, None), (absent, 0, -1001, None)])


def test_offsets_of_an_unknown_group(kit):
    """An empty list, no error."""
    assert _offsets(kit, kit.group()) == []


@pytest.mark.parametrize(
    ("partitions", "text"),
    [
        ([], "'topic_partitions' cannot be empty"),
        ([("t", 0, 5)], "Element of 'topic_partitions' must not have 'offset' value"),
    ],
    ids=["empty", "with-offset"],
)
def test_wrong_requests_for_offsets(kit, partitions, text):
    """ValueError by the client."""
    request = kit.ck.ConsumerGroupTopicPartitions("g", [kit.at(*each) for each in partitions])
    with pytest.raises(ValueError, match=text):
        kit.admin().list_consumer_group_offsets([request])


def test_offsets_are_asked_one_group_at_a_time(kit):
    """The client refuses two groups in one call."""
    requests = [kit.ck.ConsumerGroupTopicPartitions(name) for name in "ab"]
    with pytest.raises(ValueError, match="Currently we support listing offsets for a single consumer group only"):
        kit.admin().list_consumer_group_offsets(requests)


def test_offsets_are_altered(kit):
    """alter_consumer_group_offsets sets an empty group's offsets; a consumer resumes there."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 5)
    _commit(kit, group, topic, 5)
    assert _alter(kit, group, kit.at(topic, 0, 2)) == [(topic, 0, 2, None)]
    consumer = kit.consumer(group, [topic])
    assert kit.read(consumer, 1)[0].offset() == 2


def test_altering_makes_a_group(kit):
    """A group that does not exist comes into being, and the offset may lie beyond the log."""
    topic, group = kit.topic(), kit.group()
    assert _alter(kit, group, kit.at(topic, 0, 1000)) == [(topic, 0, 1000, None)]
    assert _offsets(kit, group) == [(topic, 0, 1000, None)]


def test_altering_an_unknown_topic(kit):
    """The partition in the result carries the error; the future itself succeeds."""
    ((_, _, _, error),) = _alter(kit, kit.group(), kit.at(kit.name("absent"), 0, 1))
    kit.is_error(error, "UNKNOWN_TOPIC_OR_PART")


def test_altering_an_active_group(kit):
    """While a group has members its partitions answer UNKNOWN_MEMBER_ID."""
    topic, group = kit.topic(), kit.group()
    _member(kit, topic, group)
    ((_, _, _, error),) = _alter(kit, group, kit.at(topic, 0, 1))
    kit.is_error(error, "UNKNOWN_MEMBER_ID", "Broker: Unknown member")


def test_altering_to_a_negative_offset(kit):
    """ValueError by the client."""
    request = kit.ck.ConsumerGroupTopicPartitions("g", [kit.at("t", 0, -5)])
    with pytest.raises(ValueError, match="must not have negative value for 'offset' field"):
        kit.admin().alter_consumer_group_offsets([request])


def test_a_group_is_deleted(kit):
    """An empty group goes with its offsets; then it is dead, and unknown to a second delete."""
    topic, group = kit.topic(), kit.group()
    _commit(kit, group, topic, 1)
    assert kit.result(kit.admin().delete_consumer_groups([group])) is None
    assert _describe(kit, group).state == kit.ck.ConsumerGroupState.DEAD
    assert _offsets(kit, group) == []
    with kit.fails("GROUP_ID_NOT_FOUND", "Broker: The group id does not exist"):
        kit.result(kit.admin().delete_consumer_groups([group]))


def test_an_active_group_is_not_deleted(kit):
    """NON_EMPTY_GROUP while it has members."""
    topic, group = kit.topic(), kit.group()
    _member(kit, topic, group)
    with kit.fails("NON_EMPTY_GROUP", "Broker: The group is not empty"):
        kit.result(kit.admin().delete_consumer_groups([group]))


@pytest.mark.parametrize(
    ("method", "argument", "kind", "text"),
    [
        ("delete_consumer_groups", [], ValueError, "Expected at least one group to be deleted"),
        ("delete_consumer_groups", "g", TypeError, "Expected input to be list of group ids to be deleted"),
        ("describe_consumer_groups", [], ValueError, "Expected at least one group to be described"),
    ],
)
def test_empty_requests_about_groups(kit, method, argument, kind, text):
    """The client refuses before it sends."""
    with pytest.raises(kind, match=text):
        getattr(kit.admin(), method)(argument)


def test_offsets_go_with_their_topic(kit):
    """Deleting a topic forgets what groups committed for it."""
    topic, group = kit.topic(), kit.group()
    _commit(kit, group, topic, 3)
    kit.result(kit.admin().delete_topics([topic]))
    kit.wait(lambda: _offsets(kit, group) == [])


def test_the_handle_describes_a_group(kit):
    """describe_group: state, assignor and the partitions of each member."""
    topic, group = kit.topic(partitions=2), kit.group()
    consumer = _member(kit, topic, group)
    described = kit.cluster.describe_group(group)
    assert (described.group_id, described.state, described.partition_assignor) == (group, "Stable", "range")
    (member,) = described.members
    assert member.member_id == consumer.memberid()
    assert member.assignment == [(topic, 0), (topic, 1)]
