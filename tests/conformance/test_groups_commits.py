"""Committing as a member of a group: in callbacks, automatically, after a loss; and what static members keep."""

from __future__ import annotations

import pytest
from tests.conformance.groups import (
    CONSUMER,
    EAGER,
    QUICK,
    RANGE,
    Journal,
    describe,
    each_kind,
    epoch,
    every_protocol,
    joined,
    member,
    offsets,
    pair,
    settled,
    state,
)

pytestmark = pytest.mark.kafka(**QUICK)


@every_protocol
def test_a_commit_in_on_revoke_counts_at_close(kit, protocol):
    """A synchronous commit inside on_revoke is accepted, and the next member goes on there."""
    topic, group, results = kit.topic(), kit.group(), []
    kit.fill(topic, 6)
    journal = Journal(revoke=lambda consumer, partitions: results.append(consumer.commit(asynchronous=False)))
    first = member(kit, protocol, group, topic, journal=journal)
    kit.read(first, 4)
    first.close()
    ((committed,),) = results
    assert (committed.offset, committed.error) == (4, None)
    assert kit.read(member(kit, protocol, group, topic), 1)[0].offset() == 4


@every_protocol
def test_a_commit_in_on_revoke_counts_during_a_rebalance(kit, protocol):
    """The group takes it although its next generation or epoch is under way."""
    topic, group, results = kit.topic(partitions=2), kit.group(), []

    def commit(consumer, partitions):
        if not results:
            results.append(consumer.commit(asynchronous=False))

    first = member(kit, protocol, group, topic, journal=Journal(revoke=commit))
    kit.wait(settled(first, 2), first)
    for partition in (0, 1):
        kit.fill(topic, 2, partition=partition)
    kit.read(first, 4)
    second = member(kit, protocol, group, topic)
    kit.wait(settled(first, 1, second, 1), first, second)
    assert [each.error for each in results[0]] == [None, None]
    assert offsets(kit, group) == {(topic, 0): 2, (topic, 1): 2}


@each_kind
def test_automatic_commit_when_partitions_are_revoked(kit, protocol):
    """What was delivered of a partition that goes is committed before it goes, whatever the interval."""
    topic, group = kit.topic(partitions=2), kit.group()
    config = {"enable_auto_commit": True, "auto_commit_interval_ms": 60_000}
    first = joined(kit, protocol, group, topic, count=2, **config)
    for partition in (0, 1):
        kit.fill(topic, 3, partition=partition)
    kit.read(first, 6)
    second = member(kit, protocol, group, topic, **config)
    messages = kit.wait(settled(first, 1, second, 1), first, second)
    (moved,) = kit.partitions(second)
    kit.wait(lambda: offsets(kit, group).get((topic, moved)) == 3)
    assert messages == []


@every_protocol
def test_automatic_commit_at_close(kit, protocol):
    """close() commits what was delivered, then leaves."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 3)
    consumer = member(kit, protocol, group, topic, enable_auto_commit=True)
    kit.read(consumer, 3)
    consumer.close()
    assert offsets(kit, group) == {(topic, 0): 3}


@each_kind
def test_automatic_commit_by_interval(kit, protocol):
    """Every auto.commit.interval.ms what was delivered since."""
    topic, group, told = kit.topic(), kit.group(), []
    kit.fill(topic, 2)
    config = {"enable_auto_commit": True, "auto_commit_interval_ms": 200}
    consumer = member(
        kit, protocol, group, topic, on_commit=lambda error, parts: told.append((error, parts[0].offset)), **config
    )
    kit.read(consumer, 2)
    kit.wait(lambda: (None, 2) in told, consumer)
    assert offsets(kit, group) == {(topic, 0): 2}


@every_protocol
def test_a_member_goes_on_where_its_group_committed(kit, protocol):
    """Offsets outlive the members."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 6)
    first = member(kit, protocol, group, topic)
    kit.read(first, 4)
    first.commit(asynchronous=False)
    first.close()
    assert [m.offset() for m in kit.read(member(kit, protocol, group, topic), 2)] == [4, 5]


@each_kind
def test_a_member_may_commit_what_it_does_not_own(kit, protocol):
    """The coordinator checks who commits, not for what."""
    topic, group = kit.topic(partitions=2), kit.group()
    first, second = pair(kit, protocol, group, topic, count=2)
    (theirs,) = kit.partitions(second)
    first.commit(offsets=[kit.at(topic, theirs, 7)], asynchronous=False)
    assert offsets(kit, group) == {(topic, theirs): 7}


@each_kind
def test_who_is_no_member_cannot_commit(kit, protocol):
    """While the group has members a commit from outside is refused."""
    topic, group = kit.topic(), kit.group()
    joined(kit, protocol, group, topic, count=1)
    outsider = member(kit, RANGE, group)
    with kit.fails("UNKNOWN_MEMBER_ID", "Broker: Unknown member"):
        outsider.commit(offsets=[kit.at(topic, 0, 1)], asynchronous=False)


@each_kind
def test_not_polling_costs_the_membership(kit, protocol):
    """max.poll.interval.ms: the error, then on_lost, then a new join. A commit meanwhile is refused; the group's offsets stand."""
    topic, group, journal = kit.topic(), kit.group(), Journal()
    kit.fill(topic, 4)
    consumer = member(kit, protocol, group, topic, journal=journal, max_poll_interval_ms=3000)
    messages = kit.read(consumer, 2)
    consumer.commit(asynchronous=False)
    joined_as = consumer.memberid()
    # A classic member leaves when its time is over; one of the newer protocol falls silent, and its session ends later.
    kit.cluster.run_for(7.5 if protocol == CONSUMER else 4.2)
    assert kit.partitions(consumer) == [0]
    with kit.fails("UNKNOWN_MEMBER_ID", "Broker: Unknown member"):
        consumer.commit(message=messages[-1], asynchronous=False)
    assert consumer.memberid() == (joined_as if protocol == CONSUMER else None)
    event = kit.event(consumer)
    kit.is_error(event.error(), "_MAX_POLL_EXCEEDED", "Application maximum poll interval (3000ms) exceeded by")
    messages = kit.wait(lambda: journal.events.count(("assign", [0])) == 2, consumer)
    assert journal.events == [("assign", [0]), ("lost", [0]), ("assign", [0])]
    messages += kit.read(consumer, 2 - len(messages))
    assert [each.offset() for each in messages] == [2, 3]
    consumer.commit(asynchronous=False)
    assert offsets(kit, group) == {(topic, 0): 4}


@pytest.mark.parametrize("protocol", [RANGE, CONSUMER])
def test_what_is_lost_is_not_committed(kit, protocol):
    """Not even by a static member, whose place is kept; and without a callback for losses on_revoke is called."""
    topic, group, journal, told = kit.topic(), kit.group(), Journal(), []
    kit.fill(topic, 2)
    config = {"enable_auto_commit": True, "auto_commit_interval_ms": 60_000, "group_instance_id": "desk"}
    consumer = member(
        kit, protocol, group, max_poll_interval_ms=3000, on_commit=lambda *given: told.append(given), **config
    )
    callbacks = journal.callbacks()
    del callbacks["on_lost"]
    consumer.subscribe([topic], **callbacks)
    kit.read(consumer, 2)
    kit.cluster.run_for(4.2)
    kit.is_error(kit.event(consumer).error(), "_MAX_POLL_EXCEEDED")
    assert [message.offset() for message in kit.read(consumer, 2)] == [0, 1]
    assert journal.events == [("assign", [0]), ("revoke", [0]), ("assign", [0])]
    assert told == []


@each_kind
def test_a_static_member_that_restarts_in_time_moves_nothing(kit, protocol):
    """close() keeps its place: the restarted member is given the same, the others hear nothing, and no number goes up."""
    topic, group, journal = kit.topic(partitions=2), kit.group(), Journal()
    stays = member(kit, protocol, group, topic, journal=journal, group_instance_id="a")
    kit.wait(settled(stays, 2), stays)
    restarted = member(kit, protocol, group, topic, group_instance_id="b")
    kit.wait(settled(stays, 1, restarted, 1), stays, restarted)
    kit.poll_for(1.0, stays, restarted)
    mine, events, before, identity = kit.partitions(restarted), list(journal.events), epoch(stays), restarted.memberid()
    restarted.close()
    kit.poll_for(0.5, stays)
    told = Journal()
    again = member(kit, protocol, group, topic, journal=told, group_instance_id="b")
    kit.wait(settled(again, 1), stays, again)
    kit.poll_for(0.7, stays, again)
    assert (kit.partitions(again), told.events) == (mine, [("assign", mine)])
    assert (journal.events, epoch(stays)) == (events, before)
    assert again.memberid() != identity
    instances = {each.group_instance_id for each in describe(kit, group).members}
    assert instances == {"a", "b"}


@each_kind
def test_a_static_member_that_stays_away_is_removed(kit, protocol):
    """Its partitions move when its session is over."""
    topic, group = kit.topic(partitions=2), kit.group()
    stays = joined(kit, protocol, group, topic, count=2, group_instance_id="a")
    gone = member(kit, protocol, group, topic, group_instance_id="b")
    kit.wait(settled(stays, 1, gone, 1), stays, gone)
    kit.wait(lambda: state(kit, group) == "STABLE", stays, gone)
    before = kit.cluster.now
    gone.close()
    kit.wait(settled(stays, 2), stays)
    assert 2.0 < kit.cluster.now - before < 6.5


@each_kind
def test_two_members_of_one_instance(kit, protocol):
    """Classic: the newcomer fences the old one. The newer protocol: the place is taken, the newcomer fails."""
    topic, group, journal, told = kit.topic(), kit.group(), Journal(), []
    config = {"group_instance_id": "desk", "error_cb": told.append}
    first = member(kit, protocol, group, topic, journal=journal, **config)
    kit.wait(settled(first, 1), first)
    second = member(kit, protocol, group, topic, **config)
    failing, text = first, "Static consumer fenced by other consumer"
    if protocol == CONSUMER:
        failing, text = second, "The instance ID is still used by another member"
    surviving = second if failing is first else first
    event, deadline = None, kit.cluster.now + 20
    while event is None and kit.cluster.now < deadline:
        surviving.poll(0.05)
        event = failing.poll(0.05)
    kit.is_error(event.error(), "_FATAL", text)
    kit.wait(settled(surviving, 1), surviving)
    assert failing.assignment() == []
    assert journal.events == [("assign", [0])]
    assert told == []


@each_kind
def test_a_fatal_member_stays_dead(kit, protocol):
    """After a fatal error subscribe() and commit() fail, poll() gives nothing, and close() is silent."""
    topic, group, journal = kit.topic(), kit.group(), Journal()
    first = joined(kit, protocol, group, topic, count=1, group_instance_id="desk")
    second = member(kit, protocol, group, topic, journal=journal, group_instance_id="desk")
    dead, alive = (second, first) if protocol == CONSUMER else (first, second)
    event, deadline = None, kit.cluster.now + 20
    while event is None and kit.cluster.now < deadline:
        alive.poll(0.05)
        event = dead.poll(0.05)
    kit.is_error(event.error(), "_FATAL")
    assert dead.poll(0.3) is None
    with kit.fails("_FATAL"):
        dead.commit(offsets=[kit.at(topic, 0, 1)], asynchronous=False)
    with kit.fails("_FATAL"):
        dead.subscribe([topic])
    dead.close()


@each_kind
def test_seek_inside_on_assign_comes_too_early(kit, protocol):
    """Nothing is fetched yet: _STATE."""
    topic, group, errors = kit.topic(), kit.group(), []

    def look(consumer, partitions):
        try:
            consumer.seek(kit.at(topic, 0, 1))
        except kit.ck.KafkaException as raised:
            errors.append(raised.args[0].name())

    consumer = member(kit, protocol, group, topic, journal=Journal(assign=look))
    kit.wait(settled(consumer, 1), consumer)
    assert errors in (["_STATE"], ["_UNKNOWN_PARTITION"])


@each_kind
def test_committed_and_position_inside_on_assign(kit, protocol):
    """The group's offsets can be asked for; nobody has read yet."""
    topic, group, seen = kit.topic(), kit.group(), []
    kit.fill(topic, 3)
    first = member(kit, protocol, group, topic)
    kit.read(first, 2)
    first.commit(asynchronous=False)
    first.close()

    def look(consumer, partitions):
        (committed,) = consumer.committed(partitions, timeout=10)
        (position,) = consumer.position(partitions)
        seen.append((committed.offset, position.offset))

    consumer = member(kit, protocol, group, topic, journal=Journal(assign=look))
    assert kit.read(consumer, 1)[0].offset() == 2
    assert seen == [(2, kit.ck.OFFSET_INVALID)]


@every_protocol
def test_pause_inside_on_assign(kit, protocol):
    """Partitions that the application assigns itself may be paused in the same callback."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 1)

    def hold(consumer, partitions):
        (consumer.assign if protocol in EAGER else consumer.incremental_assign)(partitions)
        consumer.pause(partitions)

    consumer = member(kit, protocol, group, topic, journal=Journal(assign=hold))
    kit.wait(settled(consumer, 1), consumer)
    assert kit.poll_for(0.5, consumer) == []
    consumer.resume([kit.at(topic)])
    assert kit.read(consumer, 1)[0].offset() == 0
