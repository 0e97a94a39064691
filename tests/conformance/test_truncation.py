"""What a consumer notices when committed records are lost in an unclean election (KIP-320)."""

from __future__ import annotations

import pytest


def _topic(kit):
    """Two replicas: the third broker keeps the controllers' quorum while both are down."""
    name = kit.name("topic")
    config = {"min.insync.replicas": 1, "unclean.leader.election.enable": "true"}
    kit.cluster.create_topic(name, partitions=1, replication_factor=2, config=config)
    return name


def _leader(kit, topic):
    """None while the broker that is asked has not caught up with the topics yet."""
    try:
        return kit.cluster.describe_topic(topic)[0].leader
    except kit.ck.KafkaException:
        return None


def _lose_the_tail(kit, topic, kept, lost, consumer):
    """``kept`` records on both replicas, ``lost`` more on one that dies; the other leads then. Returns what was read."""
    kit.fill(topic, kept)
    messages = kit.read(consumer, kept)
    partition = kit.cluster.describe_topic(topic)[0]
    leader = partition.leader
    other = next(node for node in partition.replicas if node != leader)
    kit.cluster.run_for(1)
    kit.cluster.broker(other).crash()
    kit.wait(lambda: kit.cluster.describe_topic(topic)[0].isr == [leader], timeout=60)
    kit.fill(topic, lost, start=kept)
    messages += kit.read(consumer, lost)
    kit.cluster.broker(leader).crash()
    kit.cluster.broker(other).start()
    kit.wait(lambda: _leader(kit, topic) == other, timeout=120)
    kit.cluster.run_for(1)
    return messages


@pytest.mark.parametrize("policy", ["earliest", "latest"])
def test_a_consumer_goes_back_to_where_the_logs_part(kit, policy):
    """The new leader's log ends earlier: reading goes on there, whatever the policy, and sees what was written since."""
    topic = _topic(kit)
    consumer = kit.assigned(topic, offset=0, auto_offset_reset=policy)
    messages = _lose_the_tail(kit, topic, 3, 4, consumer)
    assert kit.values(messages) == [b"v%d" % index for index in range(7)]
    kit.fill(topic, 2, start=100)
    after = kit.read(consumer, 2, timeout=60)
    assert [(message.offset(), message.value()) for message in after] == [(3, b"v100"), (4, b"v101")]
    assert after[0].leader_epoch() > messages[-1].leader_epoch()


def test_with_the_policy_error_the_application_is_told(kit):
    """_AUTO_OFFSET_RESET, with where the logs part; nothing is read over the gap."""
    topic = _topic(kit)
    consumer = kit.assigned(topic, offset=0, auto_offset_reset="error")
    messages = _lose_the_tail(kit, topic, 3, 4, consumer)
    epoch = messages[-1].leader_epoch()
    told = kit.event(consumer, timeout=60)
    assert told.error().name() == "_AUTO_OFFSET_RESET"
    assert (
        told.error()
        .str()
        .startswith(
            f"Partition log truncation detected at offset 7 (leader epoch {epoch}): broker end offset is 3 (offset leader epoch {epoch}). "
            "Reset to INVALID.: Local: Partition log truncation detected (broker "
        )
    )
    kit.fill(topic, 2, start=100)
    assert kit.poll_for(3, consumer) == []


def test_a_position_is_committed_with_its_epoch(kit):
    """The epoch of the record before it; another consumer of the group gets both, though the record is lost by then."""
    topic = _topic(kit)
    group = kit.group()
    consumer = kit.consumer(group)
    consumer.assign([kit.at(topic, offset=0)])
    messages = _lose_the_tail(kit, topic, 3, 4, consumer)
    epoch = messages[-1].leader_epoch()
    (committed,) = consumer.commit(messages[-1], asynchronous=False)
    assert (committed.offset, committed.leader_epoch) == (7, epoch)
    successor = kit.consumer(group)
    (position,) = successor.committed([kit.at(topic)], timeout=20)
    assert (position.offset, position.leader_epoch) == (7, epoch)
