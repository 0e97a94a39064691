"""Share groups between members: locks, delivery limits, offsets to begin at, members that come, go and die."""

from __future__ import annotations

import pytest
from tests.conformance.shares import QUICK_SHARES, Shares, counts, outcomes

pytestmark = pytest.mark.kafka(brokers=3, config=QUICK_SHARES)


@pytest.fixture
def shares(kit):
    return Shares(kit)


def test_a_lock_that_runs_out(kit, shares):
    """The records go to another member with one delivery more, and the late acknowledgement is refused."""
    topic, group = kit.topic(), shares.group(record_lock_duration_ms=3000)
    kit.fill(topic, 2)
    first = shares.consumer(group, topic)
    messages = shares.poll(first)
    begin = kit.cluster.now
    second = shares.consumer(group, topic)
    again = shares.poll(second)
    assert counts(again) == {0: 2, 1: 2}
    assert 2.0 < kit.cluster.now - begin < 4.5
    shares.acknowledge(first, messages, kit.ck.AcknowledgeType.ACCEPT)
    assert outcomes(first.commit_sync()) == [(0, "INVALID_RECORD_STATE")]
    shares.acknowledge(second, again, kit.ck.AcknowledgeType.ACCEPT)
    assert outcomes(second.commit_sync()) == [(0, None)]


def test_a_failed_acknowledgement_is_told_to_the_callback(kit, shares):
    """With the offsets that were meant, and the exception."""
    topic, group = kit.topic(), shares.group(record_lock_duration_ms=1500)
    kit.fill(topic, 1)
    first = shares.consumer(group, topic)
    told = []
    first.set_acknowledgement_commit_callback(lambda offsets, error: told.append((offsets, error)))
    messages = shares.poll(first)
    second = shares.consumer(group, topic)
    again = shares.poll(second)
    shares.acknowledge(first, messages, kit.ck.AcknowledgeType.ACCEPT)
    first.commit_sync()
    ((offsets, error),) = told
    assert list(offsets.values()) == [{0}]
    assert error.args[0].name() == "INVALID_RECORD_STATE"
    shares.acknowledge(second, again, kit.ck.AcknowledgeType.ACCEPT)


def test_delivery_limit(kit, shares):
    """With a limit of 3 a batch comes twice whole, then each record alone, then never again."""
    topic, group = kit.topic(), shares.group(delivery_count_limit=3)
    kit.fill(topic, 3)
    consumer = shares.consumer(group, topic)
    seen = []
    while messages := shares.poll(consumer, 4.0):
        seen.append(counts(messages))
        shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.RELEASE)
        consumer.commit_sync()
    assert seen == [{0: 1, 1: 1, 2: 1}, {0: 2, 1: 2, 2: 2}, {0: 3}, {1: 3}, {2: 3}]


def test_poison_batches_are_halved(kit, shares):
    """The default limit of 5: three whole deliveries, halves at the fourth, alone at the fifth."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 4)
    consumer = shares.consumer(group, topic)
    sizes = []
    while messages := shares.poll(consumer, 4.0):
        sizes.append(len(messages))
        shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.RELEASE)
        consumer.commit_sync()
    assert sizes == [4, 4, 4, 2, 1, 1, 2, 1, 1]


def test_a_partition_is_shared(kit, shares):
    """Two members read one partition at the same time, each its own records."""
    topic, group = kit.topic(), shares.group()
    first = shares.consumer(group, topic, max_poll_records=1)
    second = shares.consumer(group, topic, max_poll_records=1)
    for consumer in (first, second):
        shares.nothing(consumer, 2.5)
    for index in range(4):
        kit.fill(topic, 1, start=index)
    one, two = shares.poll(first), shares.poll(second)
    assert len(one) == len(two) == 1
    assert counts(one).keys() != counts(two).keys()
    for consumer, messages in ((first, one), (second, two)):
        shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
        assert outcomes(consumer.commit_sync()) == [(0, None)]


def test_all_partitions_are_read(kit, shares):
    """One member, three partitions on three brokers: everything comes."""
    topic, group = kit.topic(partitions=3), shares.group()
    for partition in range(3):
        kit.fill(topic, 2, partition=partition)
    consumer = shares.consumer(group, topic)
    found = {(message.partition(), message.offset()) for message in shares.read(consumer, 6)}
    assert found == {(partition, offset) for partition in range(3) for offset in range(2)}


def test_a_new_group_begins_at_the_end(kit, shares):
    """share.auto.offset.reset is latest: what is there already is not delivered."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 2)
    consumer = shares.consumer(group, topic)
    shares.nothing(consumer, 4.0)
    kit.fill(topic, 1, start=2)
    messages = shares.poll(consumer)
    assert counts(messages) == {2: 1}
    shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)


def test_a_group_goes_on_where_it_was(kit, shares):
    """Another member of the group gets only what is new."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 3)
    first = shares.consumer(group, topic)
    shares.read(first, 3)
    first.close()
    kit.fill(topic, 1, start=3)
    second = shares.consumer(group, topic)
    assert counts(shares.read(second, 1)) == {3: 1}


def test_groups_are_independent(kit, shares):
    """Each group gets everything."""
    topic = kit.topic()
    kit.fill(topic, 2)
    for number in range(2):
        group = kit.name(f"independent-{number}")
        shares.configure(group, auto_offset_reset="earliest")
        assert counts(shares.read(shares.consumer(group, topic), 2)) == {0: 1, 1: 1}


def test_begin_by_duration(kit, shares):
    """by_duration:PT1H begins with records of the last hour."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 2)
    shares.configure(group, auto_offset_reset="by_duration:PT1H")
    assert counts(shares.read(shares.consumer(group, topic), 2)) == {0: 1, 1: 1}


@pytest.mark.parametrize("value", ["none", "EARLIEST", "by_duration:xx"])
def test_group_configs_are_checked(kit, shares, value):
    """Only latest, earliest and durations, in lower case."""
    with kit.fails("INVALID_CONFIG", f"Invalid value `{value}` for configuration share.auto.offset.reset"):
        shares.configure(kit.group(), auto_offset_reset=value)


def test_group_configs_have_bounds(kit, shares):
    """Below the broker's minimum a lock duration is refused."""
    with kit.fails("INVALID_CONFIG", "share.record.lock.duration.ms"):
        shares.configure(kit.group(), record_lock_duration_ms=10)
    with kit.fails("INVALID_CONFIG", "share.delivery.count.limit"):
        shares.configure(kit.group(), delivery_count_limit=99)


def test_deleted_records_are_passed_over(kit, shares):
    """The log begins later than the group would: it goes on with what is there."""
    topic, group = kit.topic(), shares.group()
    for index in range(4):
        kit.fill(topic, 1, start=index)
    kit.admin().delete_records([kit.at(topic, 0, 2)])[kit.at(topic, 0)].result()
    assert counts(shares.read(shares.consumer(group, topic), 2)) == {2: 1, 3: 1}


def test_max_poll_interval(kit, shares):
    """Who does not poll leaves the group, hears of it at the next poll, and may still acknowledge what it holds."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 1)
    consumer = shares.consumer(group, topic, max_poll_interval_ms=2000)
    messages = shares.poll(consumer)
    kit.cluster.run_for(4.0)
    shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
    assert outcomes(consumer.commit_sync()) == [(0, None)]
    with kit.fails("_MAX_POLL_EXCEEDED", "Application maximum poll interval (2000ms) exceeded by"):
        consumer.poll(1.0)
    assert list(consumer.poll(0.5)) == []


def test_an_unknown_topic_is_waited_for(kit, shares):
    """Nothing comes, and nothing fails; once the topic is there it is read."""
    name, group = kit.name("later"), shares.group()
    consumer = shares.consumer(group, name)
    shares.nothing(consumer, 2.0)
    kit.cluster.create_topic(name, partitions=1)
    kit.fill(name, 1)
    assert len(shares.read(consumer, 1)) == 1


def _hold(bootstrap, group, topic):
    """Acquire what there is, and hold it until killed."""
    import time

    import confluent_kafka

    settings = {"bootstrap.servers": bootstrap, "group.id": group, "share.acknowledgement.mode": "explicit"}
    consumer = confluent_kafka.ShareConsumer(settings)
    consumer.subscribe([topic])
    while not list(consumer.poll(0.5)):
        pass
    time.sleep(600)


def test_a_killed_member_loses_its_records_at_once(kit, shares):
    """Its connection closes the share session: nobody waits for the lock of 30 s."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 2)
    victim = kit.killable(_hold, kit.cluster.bootstrap_servers, group, topic)
    other = shares.consumer(group)
    kit.cluster.run_for(6.0)
    other.subscribe([topic])
    shares.nothing(other, 2.0)
    victim.kill()
    begin = kit.cluster.now
    again = shares.poll(other)
    assert counts(again) == {0: 2, 1: 2}
    assert kit.cluster.now - begin < 5.0
    shares.acknowledge(other, again, kit.ck.AcknowledgeType.ACCEPT)


def test_the_leader_dies(kit, shares):
    """Locks die with it: what was acquired comes again, as often delivered as was last persisted; accepted stays accepted."""
    topic, group = kit.topic(), shares.group()
    for index in range(3):
        kit.fill(topic, 1, start=index)
    consumer = shares.consumer(group, topic)
    messages = shares.poll(consumer)
    assert counts(messages) == {0: 1, 1: 1, 2: 1}
    consumer.acknowledge(messages[0])
    consumer.commit_sync()
    leader = kit.cluster.describe_topic(topic)[0].leader
    kit.cluster.broker(leader).crash()
    shares.acknowledge(consumer, messages[1:], kit.ck.AcknowledgeType.ACCEPT)
    consumer.commit_async()
    found = {}
    deadline = kit.cluster.now + 40
    while len(found) < 2 and kit.cluster.now < deadline:
        for message in consumer.poll(0.5):
            found[message.offset()] = message.delivery_count()
            consumer.acknowledge(message)
    assert found == {1: 1, 2: 1}
    assert set(outcomes(consumer.commit_sync())) == {(0, None)}
    kit.cluster.broker(leader).start()
