"""Reading from a replica in one's own rack (KIP-392): who serves, and what happens when that one dies.

Which broker answered is told by the end-of-partition event: its text names it.
"""

from __future__ import annotations

import re

import pytest

RACKS = ["a", "b", "c"]

pytestmark = pytest.mark.kafka(
    brokers=3,
    racks=RACKS,
    config={"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"},
)


def _leader_and_follower(kit, topic):
    partition = kit.cluster.describe_topic(topic)[0]
    return partition.leader, next(node for node in partition.isr if node != partition.leader)


def _rack_of(node):
    return RACKS[node - 1]


def _ends(kit, consumer, values, offset):
    """Poll until the end of the partition at ``offset``, collecting values on the way; the broker that told it."""
    while True:
        message = kit.event(consumer, timeout=60)
        if message.error() is None:
            values.append(message.value())
        elif message.error().name() == "_PARTITION_EOF":
            if message.offset() == offset:
                return int(re.search(r"Fetch from broker (\d+)", message.error().str()).group(1))
        else:
            raise AssertionError(message.error())


def test_a_consumer_reads_from_the_replica_in_its_rack(kit):
    """The leader sends it there, and everything committed comes."""
    topic = kit.topic()
    kit.fill(topic, 5)
    _, follower = _leader_and_follower(kit, topic)
    values = []
    consumer = kit.assigned(topic, client_rack=_rack_of(follower), enable_partition_eof=True)
    assert _ends(kit, consumer, values, 5) == follower
    assert values == [b"v0", b"v1", b"v2", b"v3", b"v4"]
    kit.fill(topic, 3, start=5)
    assert _ends(kit, consumer, values, 8) == follower
    assert values == [b"v%d" % index for index in range(8)]


@pytest.mark.parametrize("where", ["the leader's rack", "a rack without brokers", "no rack"])
def test_the_leader_serves_its_own_rack_and_who_has_none(kit, where):
    """Only a replica in the consumer's rack is preferred to the leader."""
    topic = kit.topic()
    kit.fill(topic, 2)
    leader, _ = _leader_and_follower(kit, topic)
    rack = {"the leader's rack": _rack_of(leader), "a rack without brokers": "nowhere"}.get(where)
    config = {} if rack is None else {"client_rack": rack}
    values = []
    consumer = kit.assigned(topic, enable_partition_eof=True, **config)
    assert _ends(kit, consumer, values, 2) == leader


def test_the_leader_serves_when_the_preferred_replica_dies(kit):
    """Nothing is left out and nothing comes twice; when the replica is back and in sync, a new consumer reads there again."""
    topic = kit.topic()
    kit.fill(topic, 3)
    leader, follower = _leader_and_follower(kit, topic)
    values = []
    consumer = kit.assigned(topic, client_rack=_rack_of(follower), enable_partition_eof=True)
    assert _ends(kit, consumer, values, 3) == follower
    kit.cluster.broker(follower).crash()
    kit.fill(topic, 3, start=3)
    assert _ends(kit, consumer, values, 6) == leader
    assert values == [b"v%d" % index for index in range(6)]
    kit.cluster.broker(follower).start()
    kit.wait(lambda: len(kit.cluster.describe_topic(topic)[0].isr) == 3, timeout=60)
    kit.cluster.run_for(2)
    again = []
    newcomer = kit.assigned(topic, client_rack=_rack_of(follower), enable_partition_eof=True)
    assert _ends(kit, newcomer, again, 6) == follower
    assert again == values
