"""What admins of share groups change, through ``kafkasim.extras``: offsets of new groups, of used ones, of the wrong kind."""

from __future__ import annotations

import pytest

import kafkasim
from kafkasim.confluent_kafka import Consumer, KafkaException, ShareConsumer
from kafkasim.core.model.errors import ErrorCode
from kafkasim.extras import ShareGroups


@pytest.fixture
def cluster():
    with kafkasim.Cluster(brokers=3, seed=1) as cluster:
        cluster.create_topic("t", partitions=1)
        cluster.produce("t", [b"v0", b"v1", b"v2", b"v3"])
        yield cluster


@pytest.fixture
def admin(cluster):
    return ShareGroups(cluster.bootstrap_servers)


def _read(cluster, group):
    """The records of the first poll that brings any, accepted."""
    settings = {"bootstrap.servers": cluster.bootstrap_servers, "group.id": group}
    consumer = ShareConsumer(settings)
    consumer.subscribe(["t"])
    found = []
    while not found:
        found = [message.value() for message in consumer.poll(1.0)]
    consumer.commit_sync()
    consumer.close()
    return found


def test_offsets_make_a_group(admin, cluster):
    """A group that does not exist begins where it was told to, in the first epoch of a group."""
    assert admin.alter_offsets("new", {("t", 0): 2, ("t", 7): 0, ("none", 0): 0}) == {
        ("t", 0): ErrorCode.NONE,
        ("t", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("none", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    described = admin.describe("new")
    assert (described.group_state, described.group_epoch, described.assignment_epoch) == ("Empty", 1, 0)
    assert [(part.partition, part.start_offset) for part in admin.offsets("new")] == [(0, 2)]
    assert _read(cluster, "new") == [b"v2", b"v3"]


def test_a_group_goes_back(admin, cluster):
    """Offsets of an empty group are changed in its epoch, which its last member moved on by going."""
    admin.alter_offsets("again", {("t", 0): 0})
    assert len(_read(cluster, "again")) == 4
    epoch = admin.describe("again").group_epoch
    assert admin.alter_offsets("again", {("t", 0): 3}) == {("t", 0): ErrorCode.NONE}
    assert admin.describe("again").group_epoch == epoch
    assert _read(cluster, "again") == [b"v3"]


def test_a_group_of_another_kind(admin, cluster):
    """It is not described, altered or made anew by who administers share groups."""
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "classic"})
    consumer.subscribe(["t"])
    consumer.poll(10.0)
    for ask in (
        lambda: admin.describe("classic"),
        lambda: admin.alter_offsets("classic", {("t", 0): 0}),
        lambda: admin.delete_offsets("classic", ["t"]),
    ):
        with pytest.raises(KafkaException) as caught:
            ask()
        error = caught.value.args[0]
        assert (error.name(), error.str()) == ("GROUP_ID_NOT_FOUND", "Group classic is not a share group.")
    consumer.close()
