"""list_topics and describe: what clients learn of topics and brokers."""

from __future__ import annotations

import pytest


def test_cluster_metadata(kit):
    """Brokers by id with host and port, the cluster's id, and who answered: -1 for a bootstrap connection that is still unnamed."""
    metadata = kit.admin().list_topics(timeout=20)
    assert len(metadata.brokers) >= 1
    for node_id, broker in metadata.brokers.items():
        assert broker.id == node_id
        assert f"{broker.host}:{broker.port}" in kit.cluster.bootstrap_servers
    assert metadata.cluster_id
    assert metadata.orig_broker_id in (-1, *metadata.brokers)
    assert metadata.controller_id in metadata.brokers


def test_topic_metadata(kit):
    """Partitions by number, each with leader, replicas and in-sync replicas."""
    topic = kit.topic(partitions=3)
    found = kit.admin().list_topics(topic, timeout=20).topics
    assert list(found) == [topic]
    assert found[topic].error is None
    assert sorted(found[topic].partitions) == [0, 1, 2]
    for number, partition in found[topic].partitions.items():
        assert partition.id == number
        assert partition.leader == partition.replicas[0]
        assert sorted(partition.replicas) == sorted(partition.isrs)
        assert len(partition.replicas) == min(3, len(kit.admin().list_topics(timeout=20).brokers))
        assert partition.error is None


def test_leaders_are_spread(kit):
    """Of as many consecutive partitions as there are brokers, each broker leads one; the next round is shifted."""
    topic = kit.topic(partitions=6)
    leaders = [p.leader for p in kit.cluster.describe_topic(topic)]
    brokers = len(kit.admin().list_topics(timeout=20).brokers)
    assert len(set(leaders[:brokers])) == brokers
    assert all(leaders.count(leader) >= 6 // brokers for leader in leaders)


def test_all_topics_are_listed(kit):
    """Without a name every topic is listed, the internal ones too where they exist."""
    first, second = kit.topic(label="first"), kit.topic(label="second")
    listed = kit.consumer().list_topics(timeout=20).topics
    assert {first, second} <= set(listed)


@pytest.mark.parametrize("client", ["producer", "admin"])
def test_asking_for_an_unknown_topic_makes_it(kit, client):
    """Surprise: list_topics(name) of a producer or admin client creates the topic; mostly its first answer is an error yet."""
    topic = kit.name(f"asked-{client}")
    asking = getattr(kit, client)()
    first = asking.list_topics(topic, timeout=20).topics[topic].error
    assert first is None or first.name() == "UNKNOWN_TOPIC_OR_PART"
    kit.wait(lambda: asking.list_topics(topic, timeout=20).topics[topic].error is None)
    assert list(asking.list_topics(topic, timeout=20).topics[topic].partitions) == [0]


def test_a_consumer_asking_makes_nothing(kit):
    """allow.auto.create.topics is false for consumers: asking stays asking."""
    topic = kit.name("asked")
    consumer = kit.consumer()
    for _ in range(2):
        kit.is_error(consumer.list_topics(topic, timeout=20).topics[topic].error, "UNKNOWN_TOPIC_OR_PART")
        kit.cluster.run_for(0.3)


def test_an_invalid_name_is_an_error_of_the_topic(kit):
    """The call succeeds; the topic in the answer carries TOPIC_EXCEPTION."""
    kit.is_error(
        kit.admin().list_topics("a b", timeout=20).topics["a b"].error, "TOPIC_EXCEPTION", "Broker: Invalid topic"
    )


def test_describe_topics(kit):
    """describe_topics: name, id, internal or not, and brokers as nodes."""
    topic = kit.topic(partitions=2)
    described = kit.result(kit.admin().describe_topics(kit.ck.TopicCollection([topic])))
    assert described.name == topic
    assert described.is_internal is False
    assert described.topic_id is not None
    assert [p.id for p in described.partitions] == [0, 1]
    for partition in described.partitions:
        assert partition.leader.id == partition.replicas[0].id
        assert [node.id for node in partition.isr] == [node.id for node in partition.replicas]


@pytest.mark.parametrize(("name", "code"), [(None, "UNKNOWN_TOPIC_OR_PART"), ("a b", "TOPIC_EXCEPTION")])
def test_describe_topics_that_cannot_be(kit, name, code):
    """An unknown or an invalid name fails its future; describing creates nothing."""
    name = name or kit.name("absent")
    for _ in range(2):
        with kit.fails(code):
            kit.result(kit.admin().describe_topics(kit.ck.TopicCollection([name])))


def test_describe_no_topics(kit):
    """An empty collection is an empty answer."""
    assert kit.admin().describe_topics(kit.ck.TopicCollection([])) == {}


def test_describe_cluster(kit):
    """Id, controller and nodes; authorized operations only where asked for."""
    described = kit.admin().describe_cluster().result(20)
    metadata = kit.admin().list_topics(timeout=20)
    assert described.cluster_id == metadata.cluster_id
    assert [node.id for node in described.nodes] == sorted(metadata.brokers)
    assert described.controller.id in metadata.brokers
    assert described.authorized_operations is None


def test_the_cluster_id_of_every_client_is_the_same(kit):
    """Producer, consumer and admin client agree."""
    ids = {client.list_topics(timeout=20).cluster_id for client in (kit.producer(), kit.consumer(), kit.admin())}
    assert len(ids) == 1


def test_the_handle_describes_a_healthy_topic(kit):
    """describe_topic: first replica leads in epoch 0, all are in sync, nobody is in the ELR."""
    for partition in kit.cluster.describe_topic(kit.topic(partitions=2)):
        assert partition.leader == partition.replicas[0]
        assert partition.leader_epoch == 0
        assert partition.isr == partition.replicas
        assert partition.elr == []
        assert partition.last_known_elr == []
