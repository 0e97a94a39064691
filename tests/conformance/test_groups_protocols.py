"""What a group promises, in each of its protocols: who gets what, callbacks, and what a member's end means to the others."""

from __future__ import annotations

import pytest
from tests.conformance.groups import (
    CLASSIC_TIMERS,
    CONSUMER,
    COOPERATIVE,
    EAGER,
    QUICK,
    RANGE,
    ROUNDROBIN,
    Journal,
    describe,
    each_kind,
    epoch,
    every_protocol,
    incremental,
    joined,
    member,
    pair,
    settled,
    state,
)

pytestmark = pytest.mark.kafka(**QUICK)

EVERYTHING = [0, 1, 2, 3]


@every_protocol
def test_members_share_all_partitions(kit, protocol):
    """Two and two of four, nothing twice, nothing left."""
    topic, group = kit.topic(partitions=4), kit.group()
    first, second = pair(kit, protocol, group, topic, count=4)
    assert sorted(kit.partitions(first) + kit.partitions(second)) == EVERYTHING


@every_protocol
def test_a_leave_gives_the_rest_everything_at_once(kit, protocol):
    """close() tells the coordinator: nobody waits for a session to expire."""
    topic, group = kit.topic(partitions=4), kit.group()
    first, second = pair(kit, protocol, group, topic, count=4)
    before = kit.cluster.now
    second.close()
    kit.wait(settled(first, 4), first)
    assert kit.cluster.now - before < 2.5


@every_protocol
def test_callbacks_of_a_join_and_a_leave(kit, protocol):
    """Eager members give up everything each time; the others only what moves; after a revocation an assign always follows."""
    topic, group, journal = kit.topic(partitions=4), kit.group(), Journal()
    first = member(kit, protocol, group, topic, journal=journal)
    kit.wait(settled(first, 4), first)
    second = member(kit, protocol, group, topic)
    kit.wait(settled(first, 2, second, 2), first, second)
    kit.wait(lambda: state(kit, group) == "STABLE", first, second)
    kit.poll_for(0.5, first, second)
    kept, moved = kit.partitions(first), kit.partitions(second)
    second.close()
    kit.wait(settled(first, 4), first)
    if protocol in EAGER:
        expected = [("revoke", EVERYTHING), ("assign", kept), ("revoke", kept), ("assign", EVERYTHING)]
    elif protocol == COOPERATIVE:
        expected = [("revoke", moved), ("assign", []), ("assign", []), ("assign", moved)]
    else:
        expected = [("revoke", moved), ("assign", []), ("assign", moved)]
    assert journal.events == [("assign", EVERYTHING), *expected]


@every_protocol
def test_callbacks_of_an_idle_member(kit, protocol):
    """A member for whom nothing is left: an empty assign in the classic protocol, not a word in the newer one."""
    topic, group, owner, idler = kit.topic(), kit.group(), Journal(), Journal()
    first = member(kit, protocol, group, topic, journal=owner)
    kit.wait(settled(first, 1), first)
    second = member(kit, protocol, group, topic, journal=idler)
    kit.wait(lambda: len(describe(kit, group).members) == 2 and state(kit, group) == "STABLE", first, second)
    kit.poll_for(1.0, first, second)
    assert len(first.assignment()) + len(second.assignment()) == 1
    if protocol in EAGER:
        # Who of the two is first by member id gets the partition.
        assert owner.events[:2] == [("assign", [0]), ("revoke", [0])]
        assert sorted([owner.events[2], *idler.events]) == [("assign", []), ("assign", [0])]
    elif protocol == COOPERATIVE:
        assert owner.events == [("assign", [0]), ("assign", [])]
        assert idler.events == [("assign", [])]
    else:
        assert (owner.events, idler.events) == ([("assign", [0])], [])


@every_protocol
def test_the_assignment_inside_callbacks(kit, protocol):
    """In on_assign it is the old one, in on_revoke still the whole one."""
    topic, group, seen = kit.topic(partitions=2), kit.group(), []

    def look(consumer, partitions):
        seen.append(sorted(each.partition for each in consumer.assignment()))

    consumer = member(kit, protocol, group, topic, journal=Journal(assign=look, revoke=look))
    kit.wait(settled(consumer, 2), consumer)
    consumer.close()
    assert seen == [[], [0, 1]]


@every_protocol
def test_the_wrong_way_to_answer(kit, protocol):
    """Eager groups want assign(), the others incremental_assign(): anything else is _STATE, and the binding answers itself."""
    topic, group, errors = kit.topic(), kit.group(), []

    def answer(consumer, partitions):
        wrong = consumer.incremental_assign if protocol in EAGER else consumer.assign
        try:
            wrong(partitions)
        except kit.ck.KafkaException as raised:
            errors.append(raised.args[0])
            right = consumer.assign if protocol in EAGER else consumer.incremental_assign
            right(partitions)

    consumer = member(kit, protocol, group, topic, journal=Journal(assign=answer))
    kit.wait(settled(consumer, 1), consumer)
    wanted = "must be made using assign()" if protocol in EAGER else "Failed to set assignment: Local: Erroneous state"
    kit.is_error(errors[0], "_STATE", wanted)


@every_protocol
def test_on_assign_may_choose_where_to_start(kit, protocol):
    """Offsets on the partitions that are answered with win over committed ones."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 5)

    def start_late(consumer, partitions):
        for each in partitions:
            each.offset = 3
        (consumer.assign if protocol in EAGER else consumer.incremental_assign)(partitions)

    consumer = member(kit, protocol, group, topic, journal=Journal(assign=start_late))
    assert kit.read(consumer, 1)[0].offset() == 3


@incremental
def test_increments_have_to_fit(kit, protocol):
    """What is assigned cannot be added, what is not cannot be taken away."""
    topic, group = kit.topic(partitions=2), kit.group()
    consumer = joined(kit, protocol, group, topic, count=2)
    with kit.fails("_CONFLICT", f"{topic} [1] is already part of the current assignment"):
        consumer.incremental_assign([kit.at(topic, 1)])
    with kit.fails("_INVALID_ARG", f"{topic} [7] can't be unassigned since it is not in the current assignment"):
        consumer.incremental_unassign([kit.at(topic, 7)])
    assert kit.partitions(consumer) == [0, 1]


@incremental
def test_on_revoke_may_give_up_by_itself(kit, protocol):
    """incremental_unassign() inside on_revoke is what the binding would have done."""
    topic, group, journal = kit.topic(partitions=4), kit.group(), Journal()
    journal = Journal(revoke=lambda consumer, partitions: consumer.incremental_unassign(partitions))
    first = member(kit, protocol, group, topic, journal=journal)
    kit.wait(settled(first, 4), first)
    second = member(kit, protocol, group, topic)
    kit.wait(settled(first, 2, second, 2), first, second)
    assert journal.owned() == kit.partitions(first)


@each_kind
def test_an_exception_in_on_assign_leaves_poll(kit, protocol):
    """It comes out of poll(); the partitions are assigned all the same."""
    topic, group = kit.topic(), kit.group()

    def fail(consumer, partitions):
        raise ValueError("from the callback")

    consumer = member(kit, protocol, group, topic, journal=Journal(assign=fail))
    with pytest.raises(ValueError, match="from the callback"):
        kit.wait(lambda: False, consumer, timeout=10)
    assert kit.partitions(consumer) == [0]


@every_protocol
def test_close_revokes(kit, protocol):
    """close() calls on_revoke with everything, never on_lost, and leaves the group empty."""
    topic, group, journal = kit.topic(partitions=2), kit.group(), Journal()
    consumer = member(kit, protocol, group, topic, journal=journal)
    kit.wait(settled(consumer, 2), consumer)
    consumer.close()
    assert journal.events == [("assign", [0, 1]), ("revoke", [0, 1])]
    assert state(kit, group) == "EMPTY"


@every_protocol
def test_unsubscribe_leaves_and_subscribe_comes_back(kit, protocol):
    """unsubscribe() gives everything back in the next poll and leaves; a later subscribe() joins again."""
    topic, group, journal = kit.topic(partitions=2), kit.group(), Journal()
    consumer = member(kit, protocol, group, topic, journal=journal)
    kit.wait(settled(consumer, 2), consumer)
    consumer.unsubscribe()
    kit.wait(lambda: journal.events[-1] == ("revoke", [0, 1]), consumer)
    kit.wait(lambda: state(kit, group) == "EMPTY", consumer)
    assert consumer.assignment() == []
    consumer.subscribe([topic], **journal.callbacks())
    kit.wait(settled(consumer, 2), consumer)
    assert journal.events == [("assign", [0, 1]), ("revoke", [0, 1]), ("assign", [0, 1])]


@every_protocol
def test_another_subscription_replaces_the_first(kit, protocol):
    """subscribe() again: an eager member gives everything up, the others what is not wanted any more."""
    left, stays, group, journal = kit.topic(2, "left"), kit.topic(label="stays"), kit.group(), Journal()
    consumer = member(kit, protocol, group, left, stays, journal=journal)
    kit.wait(settled(consumer, 3), consumer)
    consumer.subscribe([stays], **journal.callbacks())
    kit.wait(settled(consumer, 1), consumer)
    assert {each.topic for each in consumer.assignment()} == {stays}
    revoked = [0, 0, 1] if protocol in EAGER else [0, 1]
    assigned = [0] if protocol in EAGER else []
    kit.wait(lambda: journal.events[1:] == [("revoke", revoked), ("assign", assigned)], consumer)


@every_protocol
def test_a_topic_more_is_added(kit, protocol):
    """A second topic in a later subscription comes beside the first."""
    first, second, group, journal = kit.topic(2, "first"), kit.topic(label="second"), kit.group(), Journal()
    consumer = member(kit, protocol, group, first, journal=journal)
    kit.wait(settled(consumer, 2), consumer)
    consumer.subscribe([first, second], **journal.callbacks())
    kit.wait(settled(consumer, 3), consumer)
    expected = [("revoke", [0, 1]), ("assign", [0, 0, 1])] if protocol in EAGER else [("assign", [0])]
    assert journal.events[1:] == expected


@every_protocol
def test_members_may_name_different_topics(kit, protocol):
    """Each gets only what it subscribed."""
    first, second, group = kit.topic(label="first"), kit.topic(label="second"), kit.group()
    one, other = member(kit, protocol, group, first), member(kit, protocol, group, second)
    kit.wait(settled(one, 1, other, 1), one, other)
    assert ([one.assignment()[0].topic], [other.assignment()[0].topic]) == ([first], [second])


@every_protocol
def test_new_partitions_reach_the_group(kit, protocol):
    """After create_partitions: at the members' metadata refresh, or, in the newer protocol, by the broker's own doing."""
    topic, group = kit.topic(partitions=2), kit.group()
    refresh = {} if protocol == CONSUMER else {"topic_metadata_refresh_interval_ms": 300}
    first, second = pair(kit, protocol, group, topic, count=2, **refresh)
    kit.result(kit.admin().create_partitions([kit.ck.admin.NewPartitions(topic, 6)]))
    kit.wait(settled(first, 3, second, 3), first, second)
    assert sorted(kit.partitions(first) + kit.partitions(second)) == list(range(6))


@every_protocol
def test_a_pause_survives_a_rebalance(kit, protocol):
    """A paused partition that the member keeps, or gets back, stays paused."""
    topic, group = kit.topic(partitions=2), kit.group()
    first = joined(kit, protocol, group, topic, count=2)
    first.pause([kit.at(topic, 0), kit.at(topic, 1)])
    second = member(kit, protocol, group, topic)
    kit.wait(settled(first, 1, second, 1), first, second)
    (kept,) = kit.partitions(first)
    kit.fill(topic, 1, partition=kept)
    assert kit.poll_for(1.0, first) == []
    first.resume([kit.at(topic, kept)])
    assert kit.read(first, 1)[0].partition() == kept


@every_protocol
def test_each_record_is_delivered_once_over_a_join(kit, protocol):
    """With a commit in each on_revoke the next owner goes on where the last one stopped."""
    topic, group = kit.topic(partitions=4), kit.group()

    def commit(consumer, partitions):
        try:
            consumer.commit(asynchronous=False)
        except kit.ck.KafkaException as raised:
            kit.is_error(raised.args[0], "_NO_OFFSET")

    journal = Journal(revoke=commit)
    first = member(kit, protocol, group, topic, journal=journal)
    kit.wait(settled(first, 4), first)
    for partition in EVERYTHING:
        kit.fill(topic, 10, partition=partition)
    messages = kit.read(first, 10)
    second = member(kit, protocol, group, topic)
    messages += kit.wait(settled(first, 2, second, 2), first, second)
    deadline = kit.cluster.now + 20
    while len(messages) < 40 and kit.cluster.now < deadline:
        messages += kit.poll_for(0.2, first, second)
    assert sorted((m.partition(), m.offset()) for m in messages) == [(p, o) for p in EVERYTHING for o in range(10)]


@every_protocol
def test_generations_and_epochs(kit, protocol):
    """A group begins with generation 1, in the newer protocol with epoch 2, and goes up by one for each change that settles at once."""
    topic, group = kit.topic(partitions=2), kit.group()
    first = member(kit, protocol, group)
    assert epoch(first) == -1
    first.subscribe([topic])
    kit.wait(settled(first, 2), first)
    begin = 2 if protocol == CONSUMER else 1
    assert epoch(first) == begin
    second = member(kit, protocol, group, topic)
    kit.wait(settled(first, 1, second, 1), first, second)
    # Cooperative members need a generation more: one gives up, the other is given.
    grown = begin + (2 if protocol == COOPERATIVE else 1)
    kit.wait(lambda: epoch(first) == epoch(second) == grown, first, second)
    metadata = first.consumer_group_metadata()
    assert metadata.startswith(b"CGMDv2:")
    assert group.encode() + b"\0" + first.memberid().encode() in metadata


@every_protocol
def test_member_ids(kit, protocol):
    """Classic members are named by the broker when they join; members of the newer protocol name themselves, for good."""
    topic, group = kit.topic(), kit.group()
    consumer = member(kit, protocol, group, client_id="desk")
    before = consumer.memberid()
    consumer.subscribe([topic])
    kit.wait(settled(consumer, 1), consumer)
    if protocol == CONSUMER:
        assert before == consumer.memberid()
        assert len(before) == 22
    else:
        assert not before
        assert consumer.memberid().startswith("desk-")
    (described,) = describe(kit, group).members
    assert (described.member_id, described.client_id) == (consumer.memberid(), "desk")


@each_kind
def test_two_groups_get_everything_each(kit, protocol):
    """Groups are independent of one another, whatever protocol the other speaks."""
    topic, one, other = kit.topic(partitions=2), kit.group("one"), kit.group("other")
    kit.fill(topic, 3)
    mine, theirs = member(kit, protocol, one, topic), member(kit, RANGE, other, topic)
    kit.wait(settled(mine, 2, theirs, 2), mine, theirs)
    assert [m.offset() for m in kit.read(member(kit, protocol, kit.group("third"), topic), 3)] == [0, 1, 2]


def _read_forever(bootstrap, group, topic, config):
    """A member in a task of its own, to be killed."""
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", **config}
    )
    consumer.subscribe([topic])
    while True:
        consumer.poll(0.2)


CONFIGS = {
    RANGE: {"partition.assignment.strategy": RANGE, **CLASSIC_TIMERS},
    COOPERATIVE: {"partition.assignment.strategy": COOPERATIVE, **CLASSIC_TIMERS},
    CONSUMER: {"group.protocol": "consumer"},
}


@each_kind
def test_a_killed_members_partitions_move_when_its_session_expires(kit, protocol):
    """A crash sends no leave: the coordinator waits for the session's end, then the rest gets everything."""
    topic, group = kit.topic(partitions=2), kit.group()
    survivor = joined(kit, protocol, group, topic, count=2)
    victim = kit.killable(_read_forever, kit.cluster.bootstrap_servers, group, topic, CONFIGS[protocol])
    kit.wait(settled(survivor, 1), survivor)
    kit.wait(lambda: state(kit, group) == "STABLE", survivor)
    before = kit.cluster.now
    victim.kill()
    kit.wait(settled(survivor, 2), survivor)
    assert 2.0 < kit.cluster.now - before < 6.5


@each_kind
def test_a_paused_member_loses_its_partitions_and_comes_back(kit, protocol):
    """A process that stands still longer than its session is put out; when it goes on, it joins again."""
    topic, group = kit.topic(partitions=2), kit.group()
    survivor = joined(kit, protocol, group, topic, count=2)
    sleeper = kit.killable(_read_forever, kit.cluster.bootstrap_servers, group, topic, CONFIGS[protocol])
    kit.wait(settled(survivor, 1), survivor)
    sleeper.pause()
    kit.wait(settled(survivor, 2), survivor)
    sleeper.resume()
    kit.wait(settled(survivor, 1), survivor)
    sleeper.kill()


@every_protocol
def test_the_split_of_each_assignor(kit, protocol):
    """Range in runs, roundrobin every other one, sticky and uniform leave with the first what it may keep."""
    topic, group = kit.topic(partitions=4), kit.group()
    first, second = pair(kit, protocol, group, topic, count=4)
    split = sorted([kit.partitions(first), kit.partitions(second)])
    if protocol == RANGE:
        assert split == [[0, 1], [2, 3]]
    elif protocol == ROUNDROBIN:
        assert split == [[0, 2], [1, 3]]
    else:
        assert len(split[0]) == len(split[1]) == 2
    assert describe(kit, group).partition_assignor == ("uniform" if protocol == CONSUMER else protocol)


@each_kind
def test_a_busy_member_stays_a_member(kit, protocol):
    """Heartbeats do not need polls: work that takes longer than the session costs nothing, up to max.poll.interval.ms."""
    topic, group, journal = kit.topic(partitions=2), kit.group(), Journal()
    busy = member(kit, protocol, group, topic, journal=journal)
    kit.wait(settled(busy, 2), busy)
    before = epoch(busy)
    kit.cluster.run_for(3.5)
    kit.poll_for(0.3, busy)
    assert (journal.events, epoch(busy)) == ([("assign", [0, 1])], before)
    assert state(kit, group) == "STABLE"
