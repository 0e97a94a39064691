"""A group id has one type: who speaks another protocol than the group that has the name is refused, on both sides."""

from __future__ import annotations

import pytest
from tests.conformance.shares import QUICK_SHARES, Shares

pytestmark = pytest.mark.kafka(brokers=3, config=QUICK_SHARES)


@pytest.fixture
def shares(kit):
    return Shares(kit)


@pytest.fixture(params=["stable", "empty"])
def taken(request, kit, shares):
    """(topic, id of a share group with a member or without)."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 1)
    consumer = shares.consumer(group, topic)
    shares.read(consumer, 1)
    if request.param == "empty":
        consumer.close()
    return topic, group


def _consumer_protocol(kit, group, topic):
    consumer = kit.keep(kit.ck.Consumer(kit.config({"group.id": group}, group_protocol="consumer")))
    consumer.subscribe([topic])
    return consumer


def _offsets_of(kit, group, *parts):
    asked = kit.ck.ConsumerGroupTopicPartitions(group, list(parts) or None)
    return kit.admin().list_consumer_group_offsets([asked])[group].result().topic_partitions


# --- the name belongs to a share group ---------------------------------------------------------------------------------


def test_a_classic_member_is_refused(kit, taken):
    """It hears of it again and again: the error is not fatal, and it goes on trying."""
    topic, group = taken
    consumer = kit.consumer(group, [topic])
    for _ in range(2):
        error = kit.event(consumer).error()
        assert error.name() == "INCONSISTENT_GROUP_PROTOCOL"
        assert error.str() == "JoinGroup failed: Broker: Inconsistent group protocol"
        assert not error.fatal()


def test_a_member_of_the_consumer_protocol_is_refused(kit, taken):
    """For it the group is not there, which is fatal."""
    topic, group = taken
    error = kit.event(_consumer_protocol(kit, group, topic)).error()
    assert error.name() == "_FATAL"
    text = "Broker: The group id does not exist"
    assert error.str() == f"Fatal error: {text}: ConsumerGroupHeartbeat fatal error: {text}"


def test_offsets_are_not_committed(kit, taken):
    """Neither by a consumer that assigns itself, nor by an admin; and there are none."""
    topic, group = taken
    consumer = kit.assigned(topic, 0, 0, group=group)
    with kit.fails("GROUP_ID_NOT_FOUND"):
        consumer.commit(offsets=[kit.at(topic, 0, 1)], asynchronous=False)
    altered = kit.ck.ConsumerGroupTopicPartitions(group, [kit.at(topic, 0, 1)])
    (part,) = kit.admin().alter_consumer_group_offsets([altered])[group].result().topic_partitions
    assert part.error.name() == "GROUP_ID_NOT_FOUND"
    assert [part.offset for part in consumer.committed([kit.at(topic)], timeout=10)] == [kit.ck.OFFSET_INVALID]
    assert [(part.offset, part.error) for part in _offsets_of(kit, group, kit.at(topic))] == [
        (kit.ck.OFFSET_INVALID, None)
    ]
    assert _offsets_of(kit, group) == []


def test_it_is_no_consumer_group(kit, taken):
    """It is not listed, and described as one that is dead."""
    _, group = taken
    admin = kit.admin()
    for types in (None, {kit.ck.ConsumerGroupType.CLASSIC}, {kit.ck.ConsumerGroupType.CONSUMER}):
        keywords = {} if types is None else {"types": types}
        assert group not in [one.group_id for one in admin.list_consumer_groups(**keywords).result().valid]
    described = admin.describe_consumer_groups([group])[group].result()
    assert described.state == kit.ck.ConsumerGroupState.DEAD
    assert described.members == []


def test_the_name_is_free_once_the_group_is_deleted(kit, shares):
    """With a member in it, it is not; without, it is, and then the name belongs to whom takes it next."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 1)
    consumer = shares.consumer(group, topic)
    shares.read(consumer, 1)
    with kit.fails("NON_EMPTY_GROUP"):
        kit.admin().delete_consumer_groups([group])[group].result()
    consumer.close()
    kit.admin().delete_consumer_groups([group])[group].result()
    classic = kit.consumer(group, [topic])
    assert [message.value() for message in kit.read(classic, 1)] == [b"v0"]
    with kit.fails("GROUP_ID_NOT_FOUND"):
        shares.poll(shares.consumer(group, topic))


# --- the name belongs to another kind of group --------------------------------------------------------------------------


def _classic(kit, group, topic):
    consumer = kit.consumer(group, [topic])
    kit.read(consumer, 1)
    return consumer


def _consumer(kit, group, topic):
    consumer = _consumer_protocol(kit, group, topic)
    kit.wait(consumer.assignment, consumer)
    return consumer


def _simple(kit, group, topic):
    consumer = kit.assigned(topic, 0, 0, group=group)
    consumer.commit(offsets=[kit.at(topic, 0, 1)], asynchronous=False)
    return consumer


@pytest.mark.parametrize("is_empty", [False, True], ids=["with-members", "without"])
@pytest.mark.parametrize("make", [_classic, _consumer, _simple], ids=["classic", "consumer", "simple"])
def test_a_share_consumer_is_refused(kit, shares, make, is_empty):
    """For it the group is not there, which is fatal: the poll says so once, then there is nothing; it closes as ever."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 1)
    other = make(kit, group, topic)
    if is_empty:
        other.close()
    consumer = shares.consumer(group, topic)
    with pytest.raises(kit.ck.KafkaException) as caught:
        shares.poll(consumer)
    error = caught.value.args[0]
    assert (error.name(), error.fatal()) == ("GROUP_ID_NOT_FOUND", True)
    assert error.str() == "ShareGroupHeartbeat fatal error: Broker: The group id does not exist"
    shares.nothing(consumer)
    consumer.close()
