"""What only the newer group protocol (KIP-848) has: assignors and patterns of the broker, group configs, groups of both kinds."""

from __future__ import annotations

import pytest
from tests.conformance.groups import (
    CONSUMER,
    COOPERATIVE,
    QUICK,
    RANGE,
    Journal,
    describe,
    each_kind,
    epoch,
    joined,
    member,
    offsets,
    pair,
    settled,
    state,
)

pytestmark = pytest.mark.kafka(**QUICK)


def _until_error(kit, consumer, *others):
    """Poll all until the first one has an error."""
    deadline = kit.cluster.now + 20
    while kit.cluster.now < deadline:
        for other in others:
            other.poll(0.05)
        event = consumer.poll(0.05)
        if event is not None and event.error() is not None:
            return event.error()
    raise AssertionError("no error came")


def test_a_consumer_group_is_described(kit):
    """Type, assignor, and of each member the assignment and the one that it is to have."""
    topic, group = kit.topic(partitions=2), kit.group()
    consumer = joined(kit, CONSUMER, group, topic, count=2, client_id="reader", group_instance_id="desk")
    kit.wait(lambda: state(kit, group) == "STABLE", consumer)
    described = describe(kit, group)
    assert described.type == kit.ck.ConsumerGroupType.CONSUMER
    assert described.partition_assignor == "uniform"
    assert not described.is_simple_consumer_group
    (shown,) = described.members
    assert (shown.member_id, shown.client_id, shown.group_instance_id) == (consumer.memberid(), "reader", "desk")
    assert shown.host.startswith("/")
    everything = [(topic, 0), (topic, 1)]
    assert sorted((p.topic, p.partition) for p in shown.assignment.topic_partitions) == everything
    assert sorted((p.topic, p.partition) for p in shown.target_assignment.topic_partitions) == everything


def test_a_left_consumer_group_keeps_its_kind(kit):
    """Empty, of type CONSUMER, with its assignor; and its epoch goes on from there."""
    topic, group = kit.topic(), kit.group()
    first = joined(kit, CONSUMER, group, topic, count=1)
    before = epoch(first)
    first.close()
    described = describe(kit, group)
    assert (described.state.name, described.type.name) == ("EMPTY", "CONSUMER")
    assert (described.partition_assignor, described.members) == ("uniform", [])
    assert epoch(joined(kit, CONSUMER, group, topic, count=1)) > before


@pytest.mark.parametrize(
    ("keyword", "names", "shown"),
    [
        ("states", ["STABLE"], True),
        ("states", ["EMPTY"], False),
        ("types", ["CONSUMER"], True),
        ("types", ["CLASSIC"], False),
        ("types", ["CLASSIC", "CONSUMER"], True),
    ],
)
def test_listed_consumer_groups_are_filtered(kit, keyword, names, shown):
    """By states and by types."""
    topic, group = kit.topic(), kit.group()
    consumer = joined(kit, CONSUMER, group, topic, count=1)
    kit.wait(lambda: state(kit, group) == "STABLE", consumer)
    enum = kit.ck.ConsumerGroupState if keyword == "states" else kit.ck.ConsumerGroupType
    result = kit.admin().list_consumer_groups(**{keyword: {enum[name] for name in names}}).result(20)
    found = [each for each in result.valid if each.group_id == group]
    assert bool(found) is shown
    assert [each.type.name for each in found] == ["CONSUMER"] * shown


def test_a_consumer_group_with_members_is_not_deleted(kit):
    """NON_EMPTY_GROUP; when the last member has left it goes, with its offsets."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 1)
    consumer = member(kit, CONSUMER, group, topic)
    kit.read(consumer, 1)
    consumer.commit(asynchronous=False)
    with kit.fails("NON_EMPTY_GROUP", "Broker: The group is not empty"):
        kit.result(kit.admin().delete_consumer_groups([group]))
    consumer.close()
    assert kit.result(kit.admin().delete_consumer_groups([group])) is None
    assert state(kit, group) == "DEAD"
    assert offsets(kit, group) == {}


def test_offsets_of_a_live_consumer_group_are_not_altered(kit):
    """Each partition answers UNKNOWN_MEMBER_ID; without members it is done."""
    topic, group = kit.topic(), kit.group()
    consumer = joined(kit, CONSUMER, group, topic, count=1)
    request = kit.ck.ConsumerGroupTopicPartitions(group, [kit.at(topic, 0, 5)])
    (answer,) = kit.result(kit.admin().alter_consumer_group_offsets([request])).topic_partitions
    kit.is_error(answer.error, "UNKNOWN_MEMBER_ID", "Broker: Unknown member")
    consumer.close()
    kit.result(kit.admin().alter_consumer_group_offsets([request]))
    assert offsets(kit, group) == {(topic, 0): 5}


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_the_assignor_of_the_members_choice(kit, assignor):
    """group.remote.assignor: range deals in runs by member id, uniform leaves what may stay."""
    topic, group = kit.topic(partitions=4), kit.group()
    first, second = pair(kit, CONSUMER, group, topic, count=4, group_remote_assignor=assignor)
    split = sorted([kit.partitions(first), kit.partitions(second)])
    assert split == [[0, 1], [2, 3]] if assignor == "range" else [len(each) for each in split] == [2, 2]
    assert describe(kit, group).partition_assignor == assignor


def test_an_unknown_assignor_is_fatal(kit):
    """The broker refuses the first heartbeat."""
    consumer = member(kit, CONSUMER, kit.group(), kit.topic(), group_remote_assignor="fair")
    error = _until_error(kit, consumer)
    kit.is_error(
        error,
        "_FATAL",
        "ConsumerGroupHeartbeat fatal error: Broker: The assignor or its version range is not supported",
    )


def test_a_missing_topic_is_no_error(kit):
    """Nothing is told of a subscribed topic that does not exist; when it appears, its partitions come."""
    name, group, journal = kit.name("later"), kit.group(), Journal()
    consumer = member(kit, CONSUMER, group, name, journal=journal)
    assert kit.poll_for(1.0, consumer) == []
    kit.cluster.create_topic(name, partitions=2)
    kit.wait(settled(consumer, 2), consumer)
    assert journal.events == [("assign", [0, 1])]


def test_a_deleted_topic_is_revoked(kit):
    """The broker takes its partitions away."""
    stays, goes, group, journal = kit.topic(label="stays"), kit.topic(label="goes"), kit.group(), Journal()
    consumer = member(kit, CONSUMER, group, stays, goes, journal=journal)
    kit.wait(settled(consumer, 2), consumer)
    kit.result(kit.admin().delete_topics([goes]))
    deadline = kit.cluster.now + 20
    while len(journal.events) < 3 and kit.cluster.now < deadline:
        kit.poll_for(0.1, consumer)  # An error about the topic that went may come, too.
    assert [each.topic for each in consumer.assignment()] == [stays]
    assert journal.events == [("assign", [0, 0]), ("revoke", [0]), ("assign", [])]


def test_patterns_match_whole_names(kit):
    """The broker resolves them, and wants the whole name to match; several are one subscription, beside names."""
    first, second, named = (kit.topic(label=label) for label in ("rx-a", "ry-b", "plain"))
    suffix = first.removeprefix("rx-a")
    group = kit.group()
    consumer = member(kit, CONSUMER, group, f"^rx-.{suffix}", f"^ry-[bc]{suffix}", named, "^rx")
    kit.wait(settled(consumer, 3), consumer)
    assert sorted(each.topic for each in consumer.assignment()) == sorted([first, second, named])


def test_a_pattern_finds_new_topics(kit):
    """The broker resolves a pattern again when topics are new, not more often than every ten seconds."""
    first, group = kit.topic(label="rn-a"), kit.group()
    suffix = first.removeprefix("rn-a")
    consumer = member(kit, CONSUMER, group, f"^rn-.{suffix}")
    kit.wait(settled(consumer, 1), consumer)
    kit.topic(label="rn-b")
    before = kit.cluster.now
    kit.wait(settled(consumer, 2), consumer)
    assert kit.cluster.now - before < 11.5


def test_a_pattern_that_the_broker_does_not_know(kit):
    """What POSIX takes and RE2 does not is fatal: INVALID_REGULAR_EXPRESSION."""
    consumer = member(kit, CONSUMER, kit.group(), "^a**")
    error = _until_error(kit, consumer)
    kit.is_error(error, "_FATAL", "ConsumerGroupHeartbeat fatal error")


def test_an_assigned_consumer_of_the_newer_protocol(kit):
    """assign() needs no group: it reads and commits as any other, and the group is a simple one."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 2)
    consumer = member(kit, CONSUMER, group)
    consumer.assign([kit.at(topic)])
    kit.read(consumer, 2)
    consumer.commit(asynchronous=False)
    assert describe(kit, group).is_simple_consumer_group
    assert offsets(kit, group) == {(topic, 0): 2}


def test_unsubscribe_empties_the_assignment(kit):
    """After the revocation nothing is left."""
    topic = kit.topic()
    consumer = member(kit, CONSUMER, kit.group(), topic)
    kit.wait(settled(consumer, 1), consumer)
    consumer.unsubscribe()
    kit.wait(settled(consumer, 0), consumer)


@pytest.mark.parametrize("where", ["before the callback", "in the callback", "in the callback, and subscribe"])
def test_unsubscribe_during_a_revocation_makes_the_next_subscription_fatal(kit, where):
    """Surprise: the member leaves in mid-rebalance, and then joins with less than a join must say."""
    topic, group, called = kit.topic(partitions=4), kit.group(), []

    def on_revoke(consumer, _partitions):
        if where != "before the callback" and not called:
            called.append(consumer.unsubscribe())
            if where != "in the callback":
                journal.subscribe(consumer, topic)

    journal = Journal(revoke=on_revoke)
    first = member(kit, CONSUMER, group, topic, journal=journal)
    kit.wait(settled(first, 4), first)
    second = member(kit, CONSUMER, group, topic)
    if where == "before the callback":
        kit.poll_for(2, second)  # The revocation waits for a poll of the first.
        first.unsubscribe()
    revoked = [("assign", [0, 1, 2, 3]), ("revoke", [2, 3]), ("revoke", [0, 1]), ("assign", [])]
    seen = kit.wait(lambda: journal.events == revoked, first, second)
    seen += kit.wait(settled(second, 4), first, second)
    assert seen + kit.poll_for(2, first, second) == []  # Nor does a subscription made in the callback do anything.
    journal.subscribe(first, topic)
    (event,) = kit.poll_for(3, first, second)
    kit.is_error(event.error(), "_FATAL", "ConsumerGroupHeartbeat fatal error: Broker: Invalid request")
    assert (journal.events, kit.partitions(first), kit.partitions(second)) == (revoked, [], [0, 1, 2, 3])


@pytest.mark.parametrize("where", ["before the callback", "in the callback"])
def test_unsubscribe_during_an_assignment_harms_nothing(kit, where):
    """What was assigned is revoked, and the next subscription brings it back."""
    topic, called = kit.topic(partitions=4), []

    def on_assign(consumer, _partitions):
        if where == "in the callback" and not called:
            called.append(consumer.unsubscribe())

    journal = Journal(assign=on_assign)
    consumer = member(kit, CONSUMER, kit.group(), topic, journal=journal)
    if where == "before the callback":
        kit.cluster.run_for(2)
        consumer.unsubscribe()
    taken_back = [("assign", [0, 1, 2, 3]), ("revoke", [0, 1, 2, 3])]
    kit.wait(lambda: journal.events == taken_back, consumer)
    assert kit.poll_for(1, consumer) == []
    journal.subscribe(consumer, topic)
    kit.wait(settled(consumer, 4), consumer)
    assert journal.events == [*taken_back, ("assign", [0, 1, 2, 3])]


def test_classic_and_newer_members_share_a_group(kit):
    """A member of the newer protocol takes a range group over; everybody keeps reading, and the group is of the newer kind."""
    topic, group, journal = kit.topic(partitions=2), kit.group(), Journal()
    classic = member(kit, RANGE, group, topic, journal=journal)
    kit.wait(settled(classic, 2), classic)
    newer = member(kit, CONSUMER, group, topic)
    kit.wait(settled(classic, 1, newer, 1), classic, newer)
    assert describe(kit, group).type.name == "CONSUMER"
    kit.poll_for(0.5, classic, newer)
    assert journal.events[:2] == [("assign", [0, 1]), ("revoke", [0, 1])]
    assert journal.events[-1] == ("assign", kit.partitions(classic))


def test_a_classic_member_joins_a_newer_group(kit):
    """It is a member like the others, under an id without its client id."""
    topic, group = kit.topic(partitions=2), kit.group()
    newer = joined(kit, CONSUMER, group, topic, count=2)
    classic = member(kit, RANGE, group, topic, client_id="desk")
    kit.wait(settled(classic, 1, newer, 1), classic, newer)
    assert not classic.memberid().startswith("desk")
    assert describe(kit, group).type.name == "CONSUMER"


def test_a_cooperative_group_cannot_be_taken_over(kit):
    """librdkafka's sticky members keep data in their assignments that would be lost: the newer member's error is fatal."""
    topic, group = kit.topic(partitions=2), kit.group()
    first, second = pair(kit, COOPERATIVE, group, topic, count=2)
    kit.wait(lambda: state(kit, group) == "STABLE", first, second)
    newer = member(kit, CONSUMER, group, topic)
    error = _until_error(kit, newer, first, second)
    kit.is_error(error, "_FATAL", "ConsumerGroupHeartbeat fatal error: Broker: The group id does not exist")
    assert sorted(kit.partitions(first) + kit.partitions(second)) == [0, 1]


@each_kind
def test_an_empty_group_changes_its_kind(kit, protocol):
    """The next member's protocol decides, and finds the offsets of the last."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 3)
    other = RANGE if protocol == CONSUMER else CONSUMER
    first = member(kit, other, group, topic)
    kit.read(first, 2)
    first.commit(asynchronous=False)
    first.close()
    second = member(kit, protocol, group, topic)
    assert kit.read(second, 1)[0].offset() == 2
    assert describe(kit, group).type.name == ("CONSUMER" if protocol == CONSUMER else "CLASSIC")


def _group_resource(kit, group, **configs):
    admin = kit.ck.admin
    entries = [
        admin.ConfigEntry(name.replace("_", "."), str(value), incremental_operation=admin.AlterConfigOpType.SET)
        for name, value in configs.items()
    ]
    return admin.ConfigResource(admin.ResourceType.GROUP, group, incremental_configs=entries)


def test_group_configs_have_defaults(kit):
    """A GROUP resource is described even of a group that does not exist: the broker's settings."""
    resource = kit.ck.admin.ConfigResource(kit.ck.admin.ResourceType.GROUP, kit.group())
    found = kit.result(kit.admin().describe_configs([resource]))
    assert found["consumer.session.timeout.ms"].value == "3000"
    assert found["consumer.heartbeat.interval.ms"].value == "300"


def test_group_configs_are_set(kit):
    """incremental_alter_configs of a GROUP: members hear of a new heartbeat interval with their next heartbeat."""
    topic, group = kit.topic(), kit.group()
    assert (
        kit.result(
            kit.admin().incremental_alter_configs([_group_resource(kit, group, consumer_session_timeout_ms=2000)])
        )
        is None
    )
    resource = kit.ck.admin.ConfigResource(kit.ck.admin.ResourceType.GROUP, group)
    found = kit.result(kit.admin().describe_configs([resource]))
    assert found["consumer.session.timeout.ms"].value == "2000"
    joined(kit, CONSUMER, group, topic, count=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("consumer_session_timeout_ms", 5), ("consumer_heartbeat_interval_ms", 5), ("consumer_nonsense", 5)],
)
def test_wrong_group_configs(kit, name, value):
    """Below the broker's limits, or unknown: INVALID_CONFIG, and nothing changes."""
    with kit.fails("INVALID_CONFIG"):
        kit.result(kit.admin().incremental_alter_configs([_group_resource(kit, kit.group(), **{name: value})]))
