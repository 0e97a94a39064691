"""Brokers that die, stop, stand still and come back: what clients notice, and what is never lost.

These tests need brokers that may be harmed, so a cluster that someone else runs skips them. On real brokers a crash is
noticed after broker.session.timeout.ms (9 s); a controlled shutdown at once.
"""

from __future__ import annotations

import pytest
from tests.conformance.groups import CONSUMER, Journal, epoch, member, settled


def _partition(kit, topic, partition=0):
    return kit.cluster.describe_topic(topic)[partition]


def _wait_for_leader_other_than(kit, topic, old, *consumers):
    kit.wait(lambda: _partition(kit, topic).leader not in (old, -1), *consumers, timeout=60)
    return _partition(kit, topic).leader


def _wait_for_isr(kit, topic, size=3):
    """... on every broker: any of them may have answered, and the leader itself may hear of it a moment later."""
    kit.wait(lambda: len(_partition(kit, topic).isr) == size, timeout=60)
    kit.cluster.run_for(1)


def _produce(kit, producer, topic, first, last, reports):
    for index in range(first, last):
        producer.produce(
            topic,
            b"%d" % index,
            on_delivery=lambda error, message: reports.append((message.value(), error, message.offset())),
        )
        producer.poll(0)


def test_a_crashed_leader_loses_nothing_under_acks_all(kit):
    """Records acknowledged with acks=all before, during and after the crash of their leader are all in the log, once."""
    topic = kit.topic(min_insync_replicas=2)
    producer = kit.producer(acks="all", enable_idempotence=True, linger_ms=1)
    reports = []
    _produce(kit, producer, topic, 0, 50, reports)
    assert producer.flush(30) == 0
    leader = _partition(kit, topic).leader
    kit.cluster.broker(leader).crash()
    _produce(kit, producer, topic, 50, 100, reports)
    assert producer.flush(60) == 0
    assert _wait_for_leader_other_than(kit, topic, leader) != leader
    _produce(kit, producer, topic, 100, 120, reports)
    assert producer.flush(30) == 0
    assert [error for _, error, _ in reports] == [None] * 120
    wanted = [b"%d" % index for index in range(120)]
    assert [record.value for record in kit.cluster.records(topic)] == wanted
    kit.cluster.broker(leader).start()
    _wait_for_isr(kit, topic)
    assert [record.value for record in kit.cluster.records(topic)] == wanted
    assert _partition(kit, topic).high_watermark == 120


def test_a_crash_bumps_the_leader_epoch_and_shrinks_the_isr(kit):
    """A new leader has the next epoch; the old one is out of the ISR until it has caught up again as a follower."""
    topic = kit.topic()
    before = _partition(kit, topic)
    kit.cluster.broker(before.leader).crash()
    leader = _wait_for_leader_other_than(kit, topic, before.leader)
    after = _partition(kit, topic)
    assert after.leader_epoch == before.leader_epoch + 1
    assert after.replicas == before.replicas
    assert before.leader not in after.isr
    assert leader in before.isr
    kit.cluster.broker(before.leader).start()
    _wait_for_isr(kit, topic)
    healed = _partition(kit, topic)
    assert (healed.leader, healed.leader_epoch) == (leader, after.leader_epoch)


def test_a_controlled_shutdown_hands_leadership_over(kit):
    """SIGTERM: another replica leads before the broker is gone, and no record is refused."""
    topic = kit.topic(min_insync_replicas=2)
    before = _partition(kit, topic)
    producer = kit.producer(acks="all")
    reports = []
    _produce(kit, producer, topic, 0, 10, reports)
    assert producer.flush(30) == 0
    started = kit.cluster.now
    kit.cluster.broker(before.leader).shutdown()
    _wait_for_leader_other_than(kit, topic, before.leader)
    assert kit.cluster.now - started < 8
    _produce(kit, producer, topic, 10, 20, reports)
    assert producer.flush(30) == 0
    assert [error for _, error, _ in reports] == [None] * 20
    kit.wait(lambda: kit.cluster.broker(before.leader).state == "stopped", timeout=60)
    kit.cluster.broker(before.leader).start()
    _wait_for_isr(kit, topic)
    assert [record.value for record in kit.cluster.records(topic)] == [b"%d" % index for index in range(20)]


def test_too_few_in_sync_replicas_refuse_acks_all(kit):
    """min.insync.replicas=3 of 3, one broker gone: acks=all is refused, acks=1 is not; both work when it is back."""
    topic = kit.topic(min_insync_replicas=3)
    follower = _partition(kit, topic).replicas[2]
    kit.cluster.broker(follower).shutdown()
    _wait_for_isr(kit, topic, 2)
    error, _ = kit.send(topic, b"strict", producer=kit.producer(acks="all", retries=0))
    kit.is_error(error, "NOT_ENOUGH_REPLICAS", "Broker: Not enough in-sync replicas")
    error, _ = kit.send(topic, b"loose", producer=kit.producer(acks=1))
    assert error is None
    error, _ = kit.send(topic, b"patient", producer=kit.producer(acks="all", message_timeout_ms=1500))
    kit.is_error(error, "_MSG_TIMED_OUT", "Local: Message timed out")
    kit.cluster.broker(follower).start()
    _wait_for_isr(kit, topic)
    error, _ = kit.send(topic, b"strict", producer=kit.producer(acks="all", retries=0))
    assert error is None
    assert [record.value for record in kit.cluster.records(topic)] == [b"loose", b"strict"]


def test_a_consumer_reads_on_over_a_crash(kit):
    """A consumer needs no help when the leader of its partition dies: it goes on with the new one, without gap or repeat."""
    topic = kit.topic(min_insync_replicas=2)
    kit.fill(topic, 10)
    consumer = kit.assigned(topic, 0, 0)
    seen = [message.offset() for message in kit.read(consumer, 10)]
    leader = _partition(kit, topic).leader
    kit.cluster.broker(leader).crash()
    _wait_for_leader_other_than(kit, topic, leader, consumer)
    kit.fill(topic, 10, start=10)
    seen += [message.offset() for message in kit.read(consumer, 10, timeout=60)]
    assert seen == list(range(20))


def test_committed_offsets_survive_their_coordinator(kit):
    """The coordinator of a group dies: another broker has its offsets, and the members go on."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 6)
    consumer = kit.consumer(group, [topic], session_timeout_ms=30_000)
    kit.read(consumer, 4)
    consumer.commit(asynchronous=False)
    coordinator = kit.cluster.describe_group(group).coordinator
    kit.cluster.broker(coordinator).crash()
    kit.wait(lambda: _coordinator(kit, group) not in (coordinator, None), timeout=60)
    (committed,) = kit.consumer(group).committed([kit.at(topic)], timeout=60)
    assert committed.offset == 4
    assert [message.offset() for message in kit.read(consumer, 2, timeout=60)] == [4, 5]
    consumer.commit(asynchronous=False)
    assert consumer.committed([kit.at(topic)], timeout=60)[0].offset == 6


def test_a_newer_group_outlives_its_coordinator(kit):
    """KIP-848: members keep their partitions without a callback, and commit in their epoch to the next coordinator."""
    topic, group, journal = kit.topic(partitions=2), kit.group(), Journal()
    consumer = member(kit, CONSUMER, group, topic, journal=journal)
    kit.wait(settled(consumer, 2), consumer)
    kit.fill(topic, 2)
    kit.read(consumer, 2)
    before, coordinator = epoch(consumer), kit.cluster.describe_group(group).coordinator
    kit.cluster.broker(coordinator).crash()
    kit.wait(lambda: _coordinator(kit, group) not in (coordinator, None), timeout=60)
    kit.wait(lambda: _partition(kit, topic).leader not in (coordinator, -1), timeout=60)
    kit.fill(topic, 2, start=2)
    assert len(kit.read(consumer, 2, timeout=60)) == 2
    consumer.commit(asynchronous=False)
    assert consumer.committed([kit.at(topic)], timeout=60)[0].offset == 4
    kit.poll_for(6.0, consumer)  # One heartbeat interval: the new coordinator knows the member.
    assert (journal.events, epoch(consumer)) == ([("assign", [0, 1])], before)


def _coordinator(kit, group):
    try:
        return kit.cluster.describe_group(group).coordinator
    except kit.ck.KafkaException:
        return None


def test_a_single_replica_is_away_while_its_broker_is(kit):
    """One replica, its broker shut down: no leader, an empty ISR, writes time out; and then every record is still there.

    The shut-down broker waits in the ELR, from where it leads again (KIP-966).
    """
    topic = kit.name("single")
    kit.cluster.create_topic(topic, partitions=1, replication_factor=1)
    kit.fill(topic, 5)
    leader = _partition(kit, topic).leader
    kit.cluster.broker(leader).shutdown()
    kit.wait(lambda: _partition(kit, topic).leader == -1, timeout=60)
    assert (_partition(kit, topic).isr, _partition(kit, topic).elr) == ([], [leader])
    error, _ = kit.send(topic, b"lost", producer=kit.producer(message_timeout_ms=1500))
    kit.is_error(error, "_MSG_TIMED_OUT")
    kit.wait(lambda: kit.cluster.broker(leader).state == "stopped", timeout=60)
    kit.cluster.broker(leader).start()
    kit.wait(lambda: _partition(kit, topic).leader == leader, timeout=60)
    assert _partition(kit, topic).leader_epoch > 0
    error, message = kit.send(topic, b"v5")
    assert (error, message.offset()) == (None, 5)
    assert [record.value for record in kit.cluster.records(topic)] == [b"v%d" % index for index in range(6)]


def test_a_broker_that_leaves_too_small_an_isr_enters_the_elr(kit):
    """Two replicas, min.insync.replicas=2: the crashed one is eligible to lead although out of the ISR (KIP-966)."""
    topic = kit.name("pair")
    kit.cluster.create_topic(topic, partitions=1, replication_factor=2, config={"min.insync.replicas": "2"})
    kit.fill(topic, 3)
    leader, follower = _partition(kit, topic).replicas
    kit.cluster.broker(follower).crash()
    kit.wait(lambda: _partition(kit, topic).isr == [leader], timeout=60)
    assert _partition(kit, topic).elr == [follower]
    kit.cluster.broker(follower).start()
    _wait_for_isr(kit, topic, 2)
    assert _partition(kit, topic).elr == []


def test_a_paused_leader_is_replaced_and_follows_afterwards(kit):
    """SIGSTOP: its session expires, another leads; resumed, it follows and has what it missed."""
    topic = kit.topic(min_insync_replicas=2)
    kit.fill(topic, 3)
    leader = _partition(kit, topic).leader
    kit.cluster.broker(leader).pause()
    assert kit.cluster.broker(leader).state == "paused"
    _wait_for_leader_other_than(kit, topic, leader)
    producer = kit.producer(acks="all")
    error, message = kit.send(topic, b"v3", producer=producer)
    assert (error, message.offset()) == (None, 3)
    kit.cluster.broker(leader).resume()
    # Just resumed, it still says what it knew before: that it leads, with everybody in sync.
    _wait_for_leader_other_than(kit, topic, leader)
    _wait_for_isr(kit, topic)
    assert _partition(kit, topic).leader != leader
    assert [record.value for record in kit.cluster.records(topic)] == [b"v0", b"v1", b"v2", b"v3"]


def test_a_broker_can_be_harmed_at_a_time(kit):
    """at(t, …) does it while the test waits for something else."""
    topic = kit.topic()
    leader = _partition(kit, topic).leader
    kit.cluster.at(kit.cluster.now + 0.5, kit.cluster.broker(leader).shutdown)
    kit.cluster.run_until(lambda: _partition(kit, topic).leader != leader, timeout=60)
    kit.cluster.run_until(lambda: kit.cluster.broker(leader).state == "stopped", timeout=60)
    kit.cluster.broker(leader).start()
    kit.cluster.run_until(lambda: kit.cluster.broker(leader).state == "running", timeout=60)


def test_a_preferred_leader_is_elected_on_demand(kit):
    """After a restart the first replica does not lead until elect_leaders says so."""
    topic = kit.topic()
    preferred = _partition(kit, topic).leader
    kit.cluster.broker(preferred).shutdown()
    _wait_for_leader_other_than(kit, topic, preferred)
    kit.wait(lambda: kit.cluster.broker(preferred).state == "stopped", timeout=60)
    kit.cluster.broker(preferred).start()
    _wait_for_isr(kit, topic)
    assert _partition(kit, topic).leader != preferred
    elected = kit.admin().elect_leaders(kit.ck.ElectionType.PREFERRED, [kit.at(topic)]).result(20)
    assert list(elected.values()) == [None]
    kit.wait(lambda: _partition(kit, topic).leader == preferred)


@pytest.mark.parametrize("election", ["PREFERRED", "UNCLEAN"])
def test_a_healthy_partition_needs_no_election(kit, election):
    """ELECTION_NOT_NEEDED for the partition; the call itself succeeds."""
    topic = kit.topic()
    kind = getattr(kit.ck.ElectionType, election)
    (error,) = kit.admin().elect_leaders(kind, [kit.at(topic)]).result(20).values()
    kit.is_error(error, "ELECTION_NOT_NEEDED", "Leader election not needed for topic partition.")
