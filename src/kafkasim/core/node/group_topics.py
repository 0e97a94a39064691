"""The topics of the cluster as consumer groups look at them: by name, by id, and with a hash that tells of change.

Mirrors:  org.apache.kafka.coordinator.common.runtime.KRaftCoordinatorMetadataImage; Utils.computeTopicHash of the group coordinator.
Inputs:   on_image.
Rule 1:   a topic is looked up once and kept until the image changes it.
Differs:  the hash is not Kafka's xxh3; it changes when Kafka's does: id, name, number of partitions, racks of the replicas.
"""

from __future__ import annotations

from hashlib import blake2b

from kafkasim.core.controller.image import ImageDelta, MetadataImage, TopicImage
from kafkasim.core.group.consumer_state import TopicInfo


class GroupTopics:
    """``version`` is the image's; ``newest`` that of the last image that brought a new topic."""

    def __init__(self, image: MetadataImage) -> None:
        self._image = image
        self._found: dict[str, TopicInfo] = {}
        self.newest = -1

    @property
    def version(self) -> int:
        return self._image.next_offset

    def on_image(self, delta: ImageDelta) -> dict[str, None]:
        """Returns the names of the topics that changed in any way, as an ordered set."""
        if self.newest < 0 or delta.created_topics:
            self.newest = self.version
        changed = dict.fromkeys(tp.topic for tp in delta.partitions)
        changed.update(delta.created_topics)
        changed.update(dict.fromkeys(topic.name for topic in delta.deleted_topics))
        if delta.brokers:
            self._found.clear()  # a broker may have come back in another rack
        else:
            for name in changed:
                self._found.pop(name, None)
        return changed

    def named(self, name: str) -> TopicInfo | None:
        found = self._found.get(name)
        if found is None:
            topic = self._image.topics.get(name)
            if topic is None:
                return None
            found = TopicInfo(name, topic.topic_id, len(topic.partitions), self._hash(topic))
            self._found[name] = found
        return found

    def identified(self, topic_id: str) -> TopicInfo | None:
        topic = self._image.topics_by_id.get(topic_id)
        return None if topic is None else self.named(topic.name)

    def names(self) -> list[str]:
        return list(self._image.topics)

    def _hash(self, topic: TopicImage) -> int:
        brokers = self._image.brokers
        racks = [
            sorted(
                broker.rack
                for node in state.replicas
                if (broker := brokers.get(node)) is not None and broker.rack is not None
            )
            for state in topic.partitions
        ]
        text = repr((topic.topic_id, topic.name, len(topic.partitions), racks if any(racks) else None))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
