"""The metadata image: topics, partitions, brokers and configs as replayed from the metadata log.

Mirrors:  org.apache.kafka.image.MetadataImage and MetadataDelta; PartitionRegistration.merge.
Rule 1:   only ``replay`` changes an image; the controller's and every broker's image follow from the log alone.
Rule 2:   ``replay_batch`` tells what changed (``ImageDelta``) so that nobody scans the whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from kafkasim.core.model.admin_messages import BROKER_RESOURCE, TOPIC_RESOURCE
from kafkasim.core.model.ids import NO_LEADER, NO_NODE, NodeId, TopicPartition
from kafkasim.core.model.message import fresh, slotted
from kafkasim.core.model.metadata import (
    NO_LEADER_CHANGE,
    RECOVERED,
    BrokerRegistrationChangeRecord,
    ClearElrRecord,
    ConfigRecord,
    FeatureLevelRecord,
    LeaderChangeRecord,
    MetadataBatch,
    MetadataRecord,
    MetadataSnapshot,
    NoOpRecord,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
    UnregisterBrokerRecord,
)
from kafkasim.core.model.server_config import BROKER_CONFIGS, TOPIC_CONFIGS, ConfigScalar

#: Keys in milliseconds that may be given in minutes or hours instead; the finer one wins.
_COARSER_KEYS = {
    "log.retention.ms": (("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)),
    "log.roll.ms": (("log.roll.hours", 3_600_000),),
}


@attrs.define(slots=True, eq=False)
class PartitionState:
    """One partition as the controller knows it (PartitionRegistration). Never changed: all images of a process share it."""

    tp: TopicPartition
    topic_id: str
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    leader: NodeId
    leader_epoch: int = 0
    partition_epoch: int = 0
    removing_replicas: tuple[NodeId, ...] = ()
    adding_replicas: tuple[NodeId, ...] = ()
    leader_recovery_state: int = RECOVERED
    elr: tuple[NodeId, ...] = ()
    last_known_elr: tuple[NodeId, ...] = ()


@slotted
class TopicImage:
    """``partitions[i]`` is partition i."""

    name: str
    topic_id: str
    partitions: list[PartitionState] = fresh(factory=list)


@slotted
class BrokerState:
    broker_id: NodeId
    broker_epoch: int
    incarnation_id: str
    host: str
    port: int
    rack: str | None
    fenced: bool = True
    in_controlled_shutdown: bool = False

    @property
    def active(self) -> bool:
        return not self.fenced and not self.in_controlled_shutdown


@slotted
class ImageDelta:
    """What one or more batches changed, in log order, without repeats. Dicts serve as ordered sets."""

    partitions: dict[TopicPartition, None] = fresh(factory=dict)
    deleted_topics: list[TopicImage] = fresh(factory=list)
    created_topics: dict[str, None] = fresh(factory=dict)
    brokers: dict[NodeId, None] = fresh(factory=dict)
    configs: dict[tuple[int, str], None] = fresh(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.partitions or self.deleted_topics or self.created_topics or self.brokers or self.configs)


class MetadataImage:
    """``next_offset`` is the first offset of the metadata log that is not in here yet."""

    __slots__ = (
        "_config_cache",
        "_static",
        "brokers",
        "configs",
        "epoch",
        "features",
        "next_offset",
        "next_producer_id",
        "node_id",
        "topics",
        "topics_by_id",
    )

    def __init__(self, static_config: dict[str, str] | None = None, node_id: NodeId = NO_NODE) -> None:
        """``static_config``: the server properties of the node that holds this image; ``node_id``: that node."""
        self.topics: dict[str, TopicImage] = {}
        self.topics_by_id: dict[str, TopicImage] = {}
        self.brokers: dict[NodeId, BrokerState] = {}
        self.configs: dict[tuple[int, str], dict[str, str]] = {}
        self.features: dict[str, int] = {}
        self.next_offset = 0
        self.epoch = 0
        self.next_producer_id = 0
        self.node_id = node_id
        self._static = dict(static_config or {})
        self._config_cache: dict[tuple[str, str], ConfigScalar] = {}

    # --- reading ---------------------------------------------------------------------------------------------------

    def partition(self, tp: TopicPartition) -> PartitionState | None:
        topic = self.topics.get(tp.topic)
        if topic is None or not 0 <= tp.partition < len(topic.partitions):
            return None
        return topic.partitions[tp.partition]

    def broker_active(self, node: NodeId) -> bool:
        broker = self.brokers.get(node)
        return broker is not None and broker.active

    def topic_config(self, topic: str, key: str) -> ConfigScalar:
        """The value in force for a topic on this node: the topic's own, else what the broker key it falls back to has."""
        cached = self._config_cache.get((topic, key), self)
        if cached is not self:
            return cached  # type: ignore[return-value]
        spec = TOPIC_CONFIGS[key]
        text = self.configs.get((TOPIC_RESOURCE, topic), {}).get(key)
        if text is None and spec.synonym is not None:
            text = self._broker_text(spec.synonym)
        value = spec.default_value() if text is None else spec.parse(text)
        self._config_cache[(topic, key)] = value
        return value

    def topic_int(self, topic: str, key: str) -> int:
        value = self.topic_config(topic, key)
        assert isinstance(value, int), key
        return value

    def topic_bool(self, topic: str, key: str) -> bool:
        return self.topic_config(topic, key) is True

    def broker_config(self, key: str) -> ConfigScalar:
        """The value in force on this node: its own dynamic one, the cluster-wide dynamic one, the static one, the default."""
        text = self._broker_text(key)
        spec = BROKER_CONFIGS[key]
        return spec.default_value() if text is None else spec.parse(text)

    def broker_int(self, key: str) -> int:
        value = self.broker_config(key)
        assert isinstance(value, int), key
        return value

    def static_config(self) -> dict[str, str]:
        return self._static

    def effective_min_isr(self, partition: PartitionState) -> int:
        """``min.insync.replicas``, but never more than there are replicas (KIP-966)."""
        return min(self.topic_int(partition.tp.topic, "min.insync.replicas"), len(partition.replicas))

    def _broker_text(self, key: str) -> str | None:
        text = None
        if self.configs:  # Somebody has set one at run time.
            text = self.configs.get((BROKER_RESOURCE, str(self.node_id)), {}).get(key)
            if text is None:
                text = self.configs.get((BROKER_RESOURCE, ""), {}).get(key)
        if text is None:
            text = self._static.get(key)
        if text is None:
            for coarser, unit_ms in _COARSER_KEYS.get(key, ()):
                if coarser in self._static:
                    return str(int(self._static[coarser]) * unit_ms)
        return text

    # --- replay ----------------------------------------------------------------------------------------------------

    def replay_batch(self, batch: MetadataBatch, delta: ImageDelta) -> None:
        """Take in one committed batch and add what it changed to ``delta``."""
        assert batch.base_offset == self.next_offset, (batch.base_offset, self.next_offset)
        for record in batch.records:
            self.replay(record, delta)
        self.next_offset = batch.next_offset
        self.epoch = batch.epoch

    def load_snapshot(self, snapshot: MetadataSnapshot, delta: ImageDelta) -> None:
        """Say what the snapshot says and nothing else; ``delta`` names all of it, and what is gone."""
        topics, brokers, configs = self.topics, self.brokers, self.configs
        self.topics, self.topics_by_id, self.brokers, self.configs, self.features = {}, {}, {}, {}, {}
        for record in snapshot.records:
            self.replay(record, delta)
        for topic in topics.values():
            if topic.topic_id not in self.topics_by_id:
                delta.deleted_topics.append(topic)
        delta.brokers.update(dict.fromkeys(node for node in brokers if node not in self.brokers))
        delta.configs.update(dict.fromkeys(key for key in configs if key not in self.configs))
        self._config_cache.clear()
        self.next_offset = snapshot.end_offset
        self.epoch = snapshot.epoch

    def replay(self, record: MetadataRecord, delta: ImageDelta) -> None:
        _REPLAY[type(record)](self, record, delta)

    def replay_topic(self, record: TopicRecord, delta: ImageDelta) -> None:
        topic = TopicImage(record.name, record.topic_id)
        self.topics[record.name] = topic
        self.topics_by_id[record.topic_id] = topic
        delta.created_topics[record.name] = None

    def replay_remove_topic(self, record: RemoveTopicRecord, delta: ImageDelta) -> None:
        topic = self.topics_by_id.pop(record.topic_id)
        if self.topics.get(topic.name) is topic:
            del self.topics[topic.name]
        self.configs.pop((TOPIC_RESOURCE, topic.name), None)
        self._config_cache.clear()
        delta.deleted_topics.append(topic)
        for partition in topic.partitions:
            delta.partitions.pop(partition.tp, None)
        delta.created_topics.pop(topic.name, None)

    def replay_partition(self, record: PartitionRecord, delta: ImageDelta) -> None:
        topic = self.topics_by_id[record.topic_id]
        assert record.partition == len(topic.partitions), record
        state = record.replayed
        if state is None or state.tp.topic != topic.name:
            state = _state_of(record, topic.name)
            object.__setattr__(record, "replayed", state)
        topic.partitions.append(state)
        delta.partitions[state.tp] = None

    def replay_partition_change(self, record: PartitionChangeRecord, delta: ImageDelta) -> None:
        partitions = self.topics_by_id[record.topic_id].partitions
        before = partitions[record.partition]
        known = record.replayed
        if known is None or known[0] is not before:
            known = (before, _changed(before, record))
            object.__setattr__(record, "replayed", known)
        partitions[record.partition] = known[1]
        delta.partitions[before.tp] = None

    def replay_clear_elr(self, record: ClearElrRecord, delta: ImageDelta) -> None:
        topics = [self.topics[record.topic_name]] if record.topic_name else list(self.topics.values())
        for topic in topics:
            for number, state in enumerate(topic.partitions):
                if state.elr or state.last_known_elr:
                    epoch = state.partition_epoch + 1
                    topic.partitions[number] = attrs.evolve(state, elr=(), last_known_elr=(), partition_epoch=epoch)
                    delta.partitions[state.tp] = None

    def replay_register_broker(self, record: RegisterBrokerRecord, delta: ImageDelta) -> None:
        self.brokers[record.broker_id] = BrokerState(
            record.broker_id,
            record.broker_epoch,
            record.incarnation_id,
            record.host,
            record.port,
            record.rack,
            record.fenced,
            record.in_controlled_shutdown,
        )
        delta.brokers[record.broker_id] = None

    def replay_unregister_broker(self, record: UnregisterBrokerRecord, delta: ImageDelta) -> None:
        self.brokers.pop(record.broker_id, None)
        delta.brokers[record.broker_id] = None

    def replay_broker_change(self, record: BrokerRegistrationChangeRecord, delta: ImageDelta) -> None:
        broker = self.brokers[record.broker_id]
        if record.fenced:
            broker.fenced = record.fenced > 0
        if record.in_controlled_shutdown:
            broker.in_controlled_shutdown = True
        delta.brokers[record.broker_id] = None

    def replay_config(self, record: ConfigRecord, delta: ImageDelta) -> None:
        key = (record.resource_type, record.resource_name)
        values = self.configs.setdefault(key, {})
        if record.value is None:
            values.pop(record.name, None)
        else:
            values[record.name] = record.value
        self._config_cache.clear()
        delta.configs[key] = None

    def replay_producer_ids(self, record: ProducerIdsRecord, delta: ImageDelta) -> None:
        self.next_producer_id = record.next_producer_id

    def replay_feature_level(self, record: FeatureLevelRecord, delta: ImageDelta) -> None:
        self.features[record.name] = record.feature_level

    def replay_nothing(self, record: MetadataRecord, delta: ImageDelta) -> None:
        """NoOpRecord and the quorum's own control records leave no trace."""


def _state_of(record: PartitionRecord, topic: str) -> PartitionState:
    return PartitionState(
        TopicPartition(topic, record.partition),
        record.topic_id,
        record.replicas,
        record.isr,
        record.leader,
        record.leader_epoch,
        record.partition_epoch,
        record.removing_replicas,
        record.adding_replicas,
        record.leader_recovery_state,
        record.elr,
        record.last_known_elr,
    )


def _changed(before: PartitionState, record: PartitionChangeRecord) -> PartitionState:
    has_new_leader = record.leader != NO_LEADER_CHANGE
    recovery = record.leader_recovery_state
    return PartitionState(
        before.tp,
        before.topic_id,
        before.replicas if record.replicas is None else record.replicas,
        before.isr if record.isr is None else record.isr,
        record.leader if has_new_leader else before.leader,
        before.leader_epoch + 1 if has_new_leader else before.leader_epoch,
        before.partition_epoch + 1,
        before.removing_replicas if record.removing_replicas is None else record.removing_replicas,
        before.adding_replicas if record.adding_replicas is None else record.adding_replicas,
        before.leader_recovery_state if recovery is None else recovery,
        before.elr if record.elr is None else record.elr,
        before.last_known_elr if record.last_known_elr is None else record.last_known_elr,
    )


def leader_of(image: MetadataImage, tp: TopicPartition) -> NodeId:
    """The leader of a partition, ``NO_LEADER`` if it has none or does not exist."""
    state = image.partition(tp)
    return NO_LEADER if state is None else state.leader


_REPLAY: dict[type, Callable[[MetadataImage, Any, ImageDelta], None]] = {
    TopicRecord: MetadataImage.replay_topic,
    RemoveTopicRecord: MetadataImage.replay_remove_topic,
    PartitionRecord: MetadataImage.replay_partition,
    PartitionChangeRecord: MetadataImage.replay_partition_change,
    ClearElrRecord: MetadataImage.replay_clear_elr,
    RegisterBrokerRecord: MetadataImage.replay_register_broker,
    UnregisterBrokerRecord: MetadataImage.replay_unregister_broker,
    BrokerRegistrationChangeRecord: MetadataImage.replay_broker_change,
    ConfigRecord: MetadataImage.replay_config,
    ProducerIdsRecord: MetadataImage.replay_producer_ids,
    FeatureLevelRecord: MetadataImage.replay_feature_level,
    NoOpRecord: MetadataImage.replay_nothing,
    LeaderChangeRecord: MetadataImage.replay_nothing,
}
