"""Share consumers while brokers die, stop, stand still and hand over: what an acknowledgement hears, what comes again, and when.

These tests need brokers that may be harmed. Clients reconnect within a second here, where librdkafka's default is up to ten.
"""

from __future__ import annotations

import pytest
from tests.conformance.shares import QUICK_SHARES, Shares, counts, outcomes

pytestmark = pytest.mark.kafka(brokers=3, config=QUICK_SHARES)


@pytest.fixture
def shares(kit):
    return Shares(kit)


def _leader(kit, topic, partition=0):
    return kit.cluster.describe_topic(topic)[partition].leader


def _hold(kit, shares, replicas, **config):
    """(topic, number of its leader, a consumer that holds two records and has accepted them, but not yet said so)."""
    topic, group = kit.name("held"), shares.group()
    kit.cluster.create_topic(topic, partitions=1, replication_factor=replicas)
    kit.fill(topic, 2)
    consumer = shares.consumer(group, topic, reconnect_backoff_max_ms=1000, **config)
    messages = shares.poll(consumer)
    assert counts(messages) == {0: 1, 1: 1}
    shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
    return topic, _leader(kit, topic), consumer


def _comes_again(kit, shares, consumer, delivery_count):
    messages = shares.poll(consumer, 40.0)
    assert counts(messages) == {0: delivery_count, 1: delivery_count}
    shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
    assert outcomes(consumer.commit_sync()) == [(0, None)]


def _start(kit, number, topic, replicas):
    """Start it, and wait until every broker knows that it is back."""
    kit.cluster.broker(number).start()
    if replicas == 1:  # Epoch 1 had no leader.
        kit.wait(lambda: kit.cluster.describe_topic(topic)[0].leader_epoch == 2, timeout=60)
    else:
        kit.wait(lambda: len(kit.cluster.describe_topic(topic)[0].isr) == replicas, timeout=60)
    kit.cluster.run_for(2)


def test_acknowledging_to_a_leader_that_is_down(kit, shares):
    """There is no connection, so it fails at once; its locks were lost with the broker, and nothing of them was persisted."""
    topic, leader, consumer = _hold(kit, shares, 1)
    kit.cluster.broker(leader).crash()
    kit.cluster.run_for(1)
    begin = kit.cluster.now
    assert outcomes(consumer.commit_sync()) == [(0, "_TRANSPORT")]
    assert kit.cluster.now - begin < 1.0
    _start(kit, leader, topic, 1)
    _comes_again(kit, shares, consumer, 1)


def test_acknowledging_to_a_leader_that_is_back(kit, shares):
    """The client's share session ended as metadata came that had no such broker, so it fails before anything is sent.

    Without such metadata it would ask the broker, which knows no session: which of the two is a matter of the client's last refresh.
    """
    topic, leader, consumer = _hold(kit, shares, 1, topic_metadata_refresh_interval_ms=500)
    kit.cluster.broker(leader).crash()
    kit.wait(lambda: _leader(kit, topic) == -1, timeout=60)
    kit.cluster.run_for(3)
    _start(kit, leader, topic, 1)
    kit.cluster.run_for(3)
    assert outcomes(consumer.commit_sync()) == [(0, "INVALID_SHARE_SESSION_EPOCH")]
    _comes_again(kit, shares, consumer, 1)


def test_acknowledging_when_another_broker_leads(kit, shares):
    """After a crash, the client knows who leads now, and does not ask there: the acknowledgement belongs to another session."""
    topic, leader, consumer = _hold(kit, shares, 3)
    kit.cluster.broker(leader).crash()
    kit.wait(lambda: _leader(kit, topic) not in (-1, leader), timeout=60)
    kit.cluster.run_for(4)
    assert outcomes(consumer.commit_sync()) == [(0, "NOT_LEADER_FOR_PARTITION")]
    _comes_again(kit, shares, consumer, 1)
    _start(kit, leader, topic, 3)


def test_a_leader_that_is_shut_down_gives_back_what_it_lent(kit, shares):
    """It closes its connections at the end, which releases what they hold: the delivery counts, on whoever leads now."""
    topic, leader, consumer = _hold(kit, shares, 3)
    kit.cluster.broker(leader).shutdown()
    kit.wait(lambda: kit.cluster.broker(leader).state == "stopped", timeout=60)
    kit.cluster.run_for(3)
    assert outcomes(consumer.commit_sync()) == [(0, "NOT_LEADER_FOR_PARTITION")]
    _comes_again(kit, shares, consumer, 2)
    _start(kit, leader, topic, 3)


def test_a_leader_that_hands_over_forgets_what_it_lent(kit, shares):
    """It lives on and the client does not know of it: it says that it has no such partition, and the delivery does not count."""
    topic, group = kit.name("moved"), shares.group()
    kit.cluster.create_topic(topic, partitions=1, replication_factor=3)
    preferred = _leader(kit, topic)
    kit.cluster.broker(preferred).shutdown()
    kit.wait(lambda: kit.cluster.broker(preferred).state == "stopped", timeout=60)
    _start(kit, preferred, topic, 3)
    kit.fill(topic, 2)
    consumer = shares.consumer(group, topic)
    messages = shares.poll(consumer)
    shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
    kit.admin().elect_leaders(kit.ck.ElectionType.PREFERRED, [kit.at(topic)]).result(20)
    kit.wait(lambda: _leader(kit, topic) == preferred, timeout=20)
    kit.cluster.run_for(1)
    assert outcomes(consumer.commit_sync()) == [(0, "UNKNOWN_TOPIC_OR_PART")]
    _comes_again(kit, shares, consumer, 1)


@pytest.mark.parametrize("harm", ["crash", "pause"])
def test_the_others_deliver_while_one_leader_is_away(kit, shares, harm):
    """Whatever waits for it, a fetch or an acknowledgement whose state it keeps, is given up after the request timeout.

    3 s of socket.timeout.ms, half a second of fetch.wait.max.ms, and up to a second until librdkafka looks.
    """
    topic, group = kit.name("three"), shares.group()
    kit.cluster.create_topic(topic, partitions=3, replication_factor=1)
    producer = kit.producer(linger_ms=0)

    def put(partition):
        producer.produce(topic, b"v", partition=partition)
        assert producer.flush(20) == 0

    for partition in range(3):
        put(partition)
    consumer = shares.consumer(group, topic, socket_timeout_ms=3000, reconnect_backoff_max_ms=1000)
    shares.read(consumer, 3)
    shares.nothing(consumer, 2.0)
    number = _leader(kit, topic)
    victim = kit.cluster.broker(number)
    victim.crash() if harm == "crash" else victim.pause()
    kit.cluster.run_for(0.1)
    found, waits, begin = [], [], kit.cluster.now
    while kit.cluster.now < begin + 14:
        for partition in (1, 2):
            put(partition)
            asked = kit.cluster.now
            messages = shares.poll(consumer)
            waits.append(kit.cluster.now - asked)
            found += [(message.partition(), message.offset(), message.delivery_count()) for message in messages]
            shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
        kit.cluster.run_for(0.5)
    consumer.commit_sync()
    rounds = len(waits) // 2
    assert sorted(found) == [(partition, 1 + index, 1) for partition in (1, 2) for index in range(rounds)]
    assert 2.5 < max(waits) < 6.0
    assert max(waits[-2:]) < 1.5
    if harm == "crash":
        _start(kit, number, topic, 1)
    else:
        victim.resume()
        kit.wait(lambda: _leader(kit, topic) != -1, timeout=60)
        kit.cluster.run_for(2)
    put(0)
    assert counts(shares.poll(consumer, 40.0)) == {1: 1}
