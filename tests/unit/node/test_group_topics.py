"""The topics of the cluster as consumer groups look at them."""

from __future__ import annotations

from kafkasim.core.controller.image import ImageDelta, MetadataImage
from kafkasim.core.model.metadata import (
    MetadataBatch,
    MetadataRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
)
from kafkasim.core.node.group_topics import GroupTopics

A, B = "AAAAAAAAAAAAAAAAAAAAAQ", "AAAAAAAAAAAAAAAAAAAAAg"


class Cluster:
    def __init__(self) -> None:
        self.image = MetadataImage()
        self.topics = GroupTopics(self.image)
        self.offset = 0
        for node, rack in ((1, "a"), (2, "b")):
            self.write(RegisterBrokerRecord(node, f"i{node}", node, "host", 9092, rack, fenced=False))
        self.write(TopicRecord("calls", A), PartitionRecord(A, 0, (1,), (1,), 1))

    def write(self, *records: MetadataRecord) -> list[str]:
        """The names that changed."""
        delta = ImageDelta()
        self.image.replay_batch(MetadataBatch(self.offset, 1, records), delta)
        self.offset += len(records)
        return list(self.topics.on_image(delta))


def hash_of(cluster: Cluster) -> int:
    topic = cluster.topics.named("calls")
    assert topic is not None
    return topic.hash


def test_topics_by_name_and_by_id() -> None:
    """Both lead to the same; what is not there is None."""
    cluster = Cluster()
    topic = cluster.topics.named("calls")
    assert topic is not None
    assert (topic.name, topic.topic_id, topic.partition_count) == ("calls", A, 1)
    assert cluster.topics.identified(A) is topic
    assert cluster.topics.named("none") is None
    assert cluster.topics.identified(B) is None
    assert cluster.topics.names() == ["calls"]


def test_the_hash_tells_of_change() -> None:
    """Growth, and replicas in other racks; a new leader is none of a group's business."""
    cluster = Cluster()
    first = hash_of(cluster)
    assert cluster.write(PartitionChangeRecord(A, 0, leader=-1)) == ["calls"]
    assert hash_of(cluster) == first
    cluster.write(PartitionRecord(A, 1, (1,), (1,), 1))
    grown = hash_of(cluster)
    assert grown != first
    cluster.write(PartitionChangeRecord(A, 1, replicas=(2,)))
    moved = hash_of(cluster)
    assert moved != grown
    cluster.write(RegisterBrokerRecord(2, "again", 9, "host", 9092, "c", fenced=False))
    assert hash_of(cluster) != moved


def test_new_topics_move_the_newest_version() -> None:
    """Growth and deletion do not: regular expressions are not resolved for them."""
    cluster = Cluster()
    newest = cluster.topics.newest
    cluster.write(PartitionRecord(A, 1, (1,), (1,), 1))
    assert cluster.topics.newest == newest
    assert cluster.write(TopicRecord("other", B), PartitionRecord(B, 0, (1,), (1,), 1)) == ["other"]
    assert cluster.topics.newest == cluster.topics.version > newest
    newest = cluster.topics.newest
    assert cluster.write(RemoveTopicRecord(B)) == ["other"]
    assert (cluster.topics.newest, cluster.topics.named("other")) == (newest, None)
