"""Classic groups: who gets what, which callbacks run in which order, and what a member's end means to the others."""

from __future__ import annotations

import pytest
from tests.conformance.groups import Journal


def _both_have(kit, first, second, count):
    return lambda: len(first.assignment()) == count and len(second.assignment()) == count


def test_a_lone_member_gets_everything(kit):
    """One member: all partitions of the topic."""
    topic = kit.topic(partitions=4)
    consumer = kit.consumer(topics=[topic])
    kit.wait(lambda: consumer.assignment(), consumer)
    assert kit.partitions(consumer) == [0, 1, 2, 3]


def test_an_assignment_of_the_group_shows_stored_offsets(kit):
    """assignment() of a group's member has OFFSET_STORED for each partition: start at the committed offset."""
    consumer = kit.consumer(topics=[kit.topic()])
    kit.wait(lambda: consumer.assignment(), consumer)
    assert [each.offset for each in consumer.assignment()] == [kit.ck.OFFSET_STORED]


def test_two_members_split_four_partitions(kit):
    """Range: two and two, in order; together everything, and nothing twice."""
    topic, group = kit.topic(partitions=4), kit.group()
    first = kit.consumer(group, [topic])
    kit.wait(lambda: len(first.assignment()) == 4, first)
    second = kit.consumer(group, [topic])
    kit.wait(_both_have(kit, first, second, 2), first, second)
    assert sorted([kit.partitions(first), kit.partitions(second)]) == [[0, 1], [2, 3]]


def test_each_record_reaches_one_member(kit):
    """Twenty records over four partitions: each is delivered once to the group."""
    topic, group = kit.topic(partitions=4), kit.group()
    first, second = kit.consumer(group, [topic]), kit.consumer(group, [topic])
    kit.wait(_both_have(kit, first, second, 2), first, second)
    for partition in range(4):
        kit.fill(topic, 5, partition=partition)
    seen = []
    deadline = kit.cluster.now + 20
    while len(seen) < 20 and kit.cluster.now < deadline:
        for consumer in (first, second):
            message = consumer.poll(0.05)
            if message is not None:
                assert message.error() is None
                assert message.partition() in kit.partitions(consumer)
                seen.append((message.partition(), message.offset()))
    assert sorted(seen) == [(p, o) for p in range(4) for o in range(5)]


def test_two_groups_get_everything_each(kit):
    """Groups are independent."""
    topic = kit.topic()
    kit.fill(topic, 3)
    for label in ("one", "two"):
        assert len(kit.read(kit.consumer(kit.group(label), [topic]), 3)) == 3


def test_more_members_than_partitions(kit):
    """A member may get nothing; it stays in the group."""
    topic, group = kit.topic(), kit.group()
    first, second = kit.consumer(group, [topic]), kit.consumer(group, [topic])
    kit.wait(lambda: len(kit.cluster.describe_group(group).members) == 2, first, second)
    kit.wait(lambda: kit.cluster.describe_group(group).state == "Stable", first, second)
    kit.wait(lambda: len(first.assignment()) + len(second.assignment()) == 1, first, second)


@pytest.mark.parametrize(
    ("strategy", "split"),
    [("range", [[0, 1], [2]]), ("roundrobin", [[0, 2], [1]])],
)
def test_assignors(kit, strategy, split):
    """Range gives runs, roundrobin every other one."""
    topic, group = kit.topic(partitions=3), kit.group()
    config = {"partition_assignment_strategy": strategy}
    first, second = kit.consumer(group, [topic], **config), kit.consumer(group, [topic], **config)
    kit.wait(lambda: sorted(map(len, (first.assignment(), second.assignment()))) == [1, 2], first, second)
    assert sorted([kit.partitions(first), kit.partitions(second)]) == sorted(split)
    assert kit.cluster.describe_group(group).partition_assignor == strategy


def test_two_topics_in_one_subscription(kit):
    """A member is given partitions of every topic that it named."""
    first, second = kit.topic(label="first"), kit.topic(label="second")
    consumer = kit.consumer(topics=[first, second])
    kit.wait(lambda: len(consumer.assignment()) == 2, consumer)
    assert {each.topic for each in consumer.assignment()} == {first, second}


def test_members_of_one_group_may_name_different_topics(kit):
    """Each gets only what it subscribed."""
    first, second, group = kit.topic(label="first"), kit.topic(label="second"), kit.group()
    one, other = kit.consumer(group, [first]), kit.consumer(group, [second])
    kit.wait(_both_have(kit, one, other, 1), one, other)
    assert ([one.assignment()[0].topic], [other.assignment()[0].topic]) == ([first], [second])


def test_on_assign_runs_inside_poll_before_the_first_record(kit):
    """The callback gets consumer and partitions; at that moment the assignment is not yet in place."""
    topic = kit.topic(partitions=2)
    kit.fill(topic, 1)
    seen = []
    consumer = kit.consumer()
    consumer.subscribe(
        [topic],
        on_assign=lambda given, partitions: seen.append(
            (given is consumer, [p.partition for p in partitions], given.assignment())
        ),
    )
    kit.cluster.run_for(0.5)
    assert seen == []
    message = kit.read(consumer, 1)[0]
    assert seen == [(True, [0, 1], [])]
    assert message.offset() == 0


def test_callbacks_of_a_join_and_a_leave(kit):
    """Eager: everything is revoked before it is dealt out anew, at a join and at a leave."""
    topic, group = kit.topic(partitions=4), kit.group()
    first, journal = kit.consumer(group), Journal()
    journal.subscribe(first, topic)
    kit.wait(lambda: len(first.assignment()) == 4, first)
    second = kit.consumer(group, [topic])
    kit.wait(_both_have(kit, first, second, 2), first, second)
    mine = kit.partitions(first)
    second.close()
    kit.wait(lambda: len(first.assignment()) == 4, first)
    everything = [0, 1, 2, 3]
    assert journal.events == [
        ("assign", everything),
        ("revoke", everything),
        ("assign", mine),
        ("revoke", mine),
        ("assign", everything),
    ]


def test_close_revokes(kit):
    """close() calls on_revoke with what was held, before it leaves."""
    topic = kit.topic(partitions=2)
    consumer, journal = kit.consumer(), Journal()
    journal.subscribe(consumer, topic)
    kit.wait(lambda: consumer.assignment(), consumer)
    consumer.close()
    assert journal.events == [("assign", [0, 1]), ("revoke", [0, 1])]


def test_unsubscribe_revokes(kit):
    """unsubscribe() gives everything back, through on_revoke; the group is empty then."""
    topic, group = kit.topic(), kit.group()
    consumer, journal = kit.consumer(group), Journal()
    journal.subscribe(consumer, topic)
    kit.wait(lambda: consumer.assignment(), consumer)
    consumer.unsubscribe()
    kit.wait(lambda: journal.events[-1] == ("revoke", [0]), consumer)
    assert consumer.assignment() == []
    kit.wait(lambda: kit.cluster.describe_group(group).state == "Empty", consumer)


def test_offsets_may_be_committed_while_revoking(kit):
    """A synchronous commit inside on_revoke still counts, so the next owner goes on there."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 6)
    first = kit.consumer(group)
    first.subscribe([topic], on_revoke=lambda consumer, partitions: consumer.commit(asynchronous=False))
    kit.read(first, 4)
    first.close()
    assert kit.read(kit.consumer(group, [topic]), 1)[0].offset() == 4


def test_on_assign_may_choose_where_to_start(kit):
    """assign() inside on_assign with own offsets replaces what the group stored."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 5)
    consumer = kit.consumer(group)

    def start_late(given, partitions):
        for each in partitions:
            each.offset = 3
        given.assign(partitions)

    consumer.subscribe([topic], on_assign=start_late)
    assert kit.read(consumer, 1)[0].offset() == 3


def test_an_exception_in_a_rebalance_callback_leaves_poll(kit):
    """What on_assign raises comes out of the poll() that ran it."""
    topic = kit.topic()
    consumer = kit.consumer()

    def fail(given, partitions):
        raise ValueError("from the callback")

    consumer.subscribe([topic], on_assign=fail)
    with pytest.raises(ValueError, match="from the callback"):
        kit.wait(lambda: False, consumer, timeout=20)


def test_a_rejoining_member_goes_on_where_it_committed(kit):
    """Offsets survive close() and a new member of the same group starts there."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 6)
    first = kit.consumer(group, [topic])
    kit.read(first, 4)
    first.commit(asynchronous=False)
    first.close()
    second = kit.consumer(group, [topic])
    assert [m.offset() for m in kit.read(second, 2)] == [4, 5]


def test_without_a_commit_a_member_starts_again(kit):
    """What was read and not committed is read again: at least once."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 3)
    first = kit.consumer(group, [topic])
    kit.read(first, 3)
    first.close()
    assert [m.offset() for m in kit.read(kit.consumer(group, [topic]), 3)] == [0, 1, 2]


def test_a_leaving_members_partitions_move_at_once(kit):
    """close() tells the coordinator: the rest does not wait for a session to expire."""
    topic, group = kit.topic(partitions=2), kit.group()
    first, second = kit.consumer(group, [topic]), kit.consumer(group, [topic])
    kit.wait(_both_have(kit, first, second, 1), first, second)
    before = kit.cluster.now
    second.close()
    kit.wait(lambda: len(first.assignment()) == 2, first)
    assert kit.cluster.now - before < 5.5


def test_a_static_member_keeps_its_partitions_over_a_restart(kit):
    """group.instance.id: close() is no leave, so the restarted member gets its partitions back without a rebalance."""
    topic, group = kit.topic(partitions=2), kit.group()
    stays, journal = kit.consumer(group, group_instance_id="a"), Journal()
    journal.subscribe(stays, topic)
    restarted = kit.consumer(group, [topic], group_instance_id="b")
    kit.wait(_both_have(kit, stays, restarted, 1), stays, restarted)
    mine, events = kit.partitions(restarted), list(journal.events)
    restarted.close()
    again = kit.consumer(group, [topic], group_instance_id="b")
    kit.wait(lambda: again.assignment(), stays, again)
    assert kit.partitions(again) == mine
    assert journal.events == events


def test_max_poll_interval_puts_a_member_out(kit):
    """A member that does not poll for max.poll.interval.ms is told so, and leaves the group until it polls again."""
    topic, group = kit.topic(), kit.group()
    consumer, journal = kit.consumer(group, max_poll_interval_ms=6000), Journal()
    journal.subscribe(consumer, topic)
    kit.wait(lambda: consumer.assignment(), consumer)
    kit.cluster.run_for(7.5)
    event = kit.event(consumer)
    kit.is_error(event.error(), "_MAX_POLL_EXCEEDED", "Application maximum poll interval (6000ms) exceeded by")
    kit.wait(lambda: journal.events.count(("assign", [0])) == 2, consumer)
    assert journal.events == [("assign", [0]), ("lost", [0]), ("assign", [0])]


def test_regular_expressions_match_topics(kit):
    """A subscription that begins with ^ takes every topic that matches."""
    matching = [kit.topic(label=label) for label in ("rx-a", "rx-b")]
    other = kit.topic(label="other")
    suffix = matching[0].removeprefix("rx-a")
    consumer = kit.consumer(topics=[f"^rx-[ab]{suffix}$"])
    kit.wait(lambda: len(consumer.assignment()) == 2, consumer)
    assert sorted(each.topic for each in consumer.assignment()) == matching
    assert other not in {each.topic for each in consumer.assignment()}


def test_regular_expressions_find_new_topics(kit):
    """A topic that appears later joins the subscription at a metadata refresh."""
    first = kit.topic(label="rx-a")
    suffix = first.removeprefix("rx-a")
    consumer = kit.consumer(topics=[f"^rx-[ab]{suffix}$"], topic_metadata_refresh_interval_ms=500)
    kit.wait(lambda: len(consumer.assignment()) == 1, consumer)
    kit.topic(label="rx-b")
    kit.wait(lambda: len(consumer.assignment()) == 2, consumer)


def test_a_new_subscription_replaces_the_old_one(kit):
    """subscribe() again: the old topic's partitions are revoked, the new topic's assigned."""
    first, second = kit.topic(label="first"), kit.topic(label="second")
    consumer = kit.consumer(topics=[first])
    kit.wait(lambda: consumer.assignment(), consumer)
    consumer.subscribe([second])
    kit.wait(lambda: [each.topic for each in consumer.assignment()] == [second], consumer)


def test_new_partitions_reach_the_group(kit):
    """After create_partitions the members rebalance at a metadata refresh."""
    topic = kit.topic()
    consumer = kit.consumer(topics=[topic], topic_metadata_refresh_interval_ms=500)
    kit.wait(lambda: len(consumer.assignment()) == 1, consumer)
    kit.result(kit.admin().create_partitions([kit.ck.admin.NewPartitions(topic, 3)]))
    kit.wait(lambda: len(consumer.assignment()) == 3, consumer)


def test_cooperative_members_keep_what_they_keep(kit):
    """cooperative-sticky: at a join only what moves is revoked, and callbacks name only the change."""
    topic, group = kit.topic(partitions=4), kit.group()
    config = {"partition_assignment_strategy": "cooperative-sticky"}
    first, journal = kit.consumer(group, **config), Journal()
    journal.subscribe(first, topic)
    kit.wait(lambda: len(first.assignment()) == 4, first)
    second = kit.consumer(group, [topic], **config)
    kit.wait(_both_have(kit, first, second, 2), first, second)
    kept = kit.partitions(first)
    moved = [p for p in range(4) if p not in kept]
    assert journal.events[:2] == [("assign", [0, 1, 2, 3]), ("revoke", moved)]
    assert all(event == ("assign", []) for event in journal.events[2:])
    assert kit.partitions(second) == moved


def test_incompatible_assignors_cannot_meet(kit):
    """A member whose assignors the group does not share is refused: INCONSISTENT_GROUP_PROTOCOL."""
    topic, group = kit.topic(), kit.group()
    first = kit.consumer(group, [topic], partition_assignment_strategy="range")
    kit.wait(lambda: first.assignment(), first)
    second = kit.consumer(group, [topic], partition_assignment_strategy="roundrobin")
    event = None
    deadline = kit.cluster.now + 20
    while event is None and kit.cluster.now < deadline:
        first.poll(0.05)
        event = second.poll(0.05)
    kit.is_error(event.error(), "INCONSISTENT_GROUP_PROTOCOL")


def test_member_ids(kit):
    """memberid() is unknown before the join, and then begins with the client's id."""
    consumer = kit.consumer(client_id="desk")
    assert not consumer.memberid()
    consumer.subscribe([kit.topic()])
    kit.wait(lambda: consumer.assignment(), consumer)
    assert consumer.memberid().startswith("desk-")


def _read_forever(bootstrap, group, topic):
    """A member in a task of its own, to be killed."""
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    while True:
        consumer.poll(0.5)


def test_a_killed_members_partitions_move_when_its_session_expires(kit):
    """A crash sends no leave: the coordinator waits for session.timeout.ms, then the rest gets everything."""
    topic, group = kit.topic(partitions=2), kit.group()
    survivor = kit.consumer(group, [topic])
    victim = kit.killable(_read_forever, kit.cluster.bootstrap_servers, group, topic)
    kit.wait(lambda: len(survivor.assignment()) == 1, survivor)
    kit.poll_for(1.0, survivor)
    before = kit.cluster.now
    victim.kill()
    kit.wait(lambda: len(survivor.assignment()) == 2, survivor)
    assert 4.5 < kit.cluster.now - before < 12


def test_a_paused_member_is_put_out_and_comes_back(kit):
    """A process that stands still longer than its session loses its partitions, and rejoins when it goes on."""
    topic, group = kit.topic(partitions=2), kit.group()
    survivor = kit.consumer(group, [topic])
    sleeper = kit.killable(_read_forever, kit.cluster.bootstrap_servers, group, topic)
    kit.wait(lambda: len(survivor.assignment()) == 1, survivor)
    sleeper.pause()
    kit.wait(lambda: len(survivor.assignment()) == 2, survivor)
    sleeper.resume()
    kit.wait(lambda: len(survivor.assignment()) == 1, survivor)
    sleeper.kill()
