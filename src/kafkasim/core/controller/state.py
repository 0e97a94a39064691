"""The controller's own image: the replayed metadata, with an index from each broker to the partitions that it concerns.

Mirrors:  BrokersToIsrs, BrokersToElrs, imbalancedPartitions and topicsWithCollisionChars of ReplicationControlManager.
Rule 1:   the index follows from what was replayed, as the image does; nothing else writes it.
Rule 2:   fencing a broker costs as much as it has partitions, never as much as the cluster has.
Differs:  Kafka 4.3 forgets to update its ELR index on ClearElrRecord and can later stumble over it; this one does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.controller.image import ImageDelta, MetadataImage, PartitionState, TopicImage
from kafkasim.core.model.ids import NO_LEADER, NO_NODE, NodeId, TopicPartition
from kafkasim.core.model.metadata import (
    ClearElrRecord,
    MetadataBatch,
    MetadataRecord,
    MetadataSnapshot,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
    UnregisterBrokerRecord,
)

ELR_FEATURE = "eligible.leader.replicas.version"


class Index:
    """Which partitions concern a broker. Dicts without values serve as ordered sets."""

    __slots__ = ("imbalanced", "in_elr", "in_isr", "leaderless", "led_counts")

    def __init__(self, topics: Iterable[TopicImage]) -> None:
        self.in_isr: dict[NodeId, dict[TopicPartition, None]] = {}
        self.in_elr: dict[NodeId, dict[TopicPartition, None]] = {}
        self.led_counts: dict[NodeId, int] = {}
        self.leaderless: dict[TopicPartition, None] = {}
        #: Partitions that are not led by their first replica.
        self.imbalanced: dict[TopicPartition, None] = {}
        for topic in topics:
            for state in topic.partitions:
                self.learn(state)

    def learn(self, state: PartitionState) -> None:
        tp = state.tp
        for node in state.isr:
            members = self.in_isr.get(node)
            if members is None:
                members = self.in_isr[node] = {}
            members[tp] = None
        for node in state.elr:
            self.in_elr.setdefault(node, {})[tp] = None
        leader = state.leader
        if leader == NO_LEADER:
            self.leaderless[tp] = None
        else:
            self.led_counts[leader] = self.led_counts.get(leader, 0) + 1
        if leader != state.replicas[0]:
            self.imbalanced[tp] = None

    def forget(self, state: PartitionState) -> None:
        tp = state.tp
        for node in state.isr:
            del self.in_isr[node][tp]
        for node in state.elr:
            del self.in_elr[node][tp]
        if state.leader == NO_LEADER:
            del self.leaderless[tp]
        else:
            self.led_counts[state.leader] -= 1
        if state.leader != state.replicas[0]:
            del self.imbalanced[tp]

    def forget_elr(self, states: Iterable[PartitionState]) -> None:
        for state in states:
            for node in state.elr:
                del self.in_elr[node][state.tp]


class ControllerImage(MetadataImage):
    """The index is made when it is first asked for: a controller that is not active does not pay for it."""

    __slots__ = ("_index", "collisions", "register_offsets", "voters")

    def __init__(
        self, static_config: dict[str, str] | None = None, node_id: NodeId = NO_NODE, voters: tuple[NodeId, ...] = ()
    ) -> None:
        super().__init__(static_config, node_id)
        self.voters = voters
        self._index: Index | None = None
        #: Topic names by what they are once '.' and '_' count as one.
        self.collisions: dict[str, dict[str, None]] = {}
        #: Where in the log a broker's last RegisterBrokerRecord stands.
        self.register_offsets: dict[NodeId, int] = {}

    @property
    def index(self) -> Index:
        """Follows from what was replayed, and keeps up from then on."""
        if self._index is None:
            self._index = Index(self.topics.values())
        return self._index

    # --- reading ---------------------------------------------------------------------------------------------------

    @property
    def elr_enabled(self) -> bool:
        return self.features.get(ELR_FEATURE, 0) >= 1

    def topic_min_isr(self, topic: TopicImage) -> int:
        """``min.insync.replicas`` as elections count it: bounded by the replicas of partition 0."""
        return min(self.topic_int(topic.name, "min.insync.replicas"), len(topic.partitions[0].replicas))

    def topic_unclean(self, topic: str) -> bool:
        return self.topic_bool(topic, "unclean.leader.election.enable")

    def partitions_in_isr(self, node: NodeId) -> list[PartitionState]:
        return self._states(self.index.in_isr.get(node, {}))

    def partitions_in_elr(self, node: NodeId) -> list[PartitionState]:
        return self._states(self.index.in_elr.get(node, {}))

    def partitions_without_leader(self) -> list[PartitionState]:
        return self._states(self.index.leaderless)

    def partitions_not_preferred(self) -> list[PartitionState]:
        return self._states(self.index.imbalanced)

    def leads_any(self, node: NodeId) -> bool:
        return self.index.led_counts.get(node, 0) > 0

    def _states(self, tps: Iterable[TopicPartition]) -> list[PartitionState]:
        topics = self.topics
        return [topics[tp.topic].partitions[tp.partition] for tp in tps]

    # --- replay ----------------------------------------------------------------------------------------------------

    def replay_batch(self, batch: MetadataBatch, delta: ImageDelta) -> None:
        for index, record in enumerate(batch.records):
            if type(record) is RegisterBrokerRecord:
                self.register_offsets[record.broker_id] = batch.base_offset + index
        super().replay_batch(batch, delta)

    def load_snapshot(self, snapshot: MetadataSnapshot, delta: ImageDelta) -> None:
        assert self.next_offset == 0, "only a new image knows of nothing that its indices would still hold"
        super().load_snapshot(snapshot, delta)
        self.register_offsets.update(dict.fromkeys(self.brokers, snapshot.end_offset - 1))

    def replay(self, record: MetadataRecord, delta: ImageDelta) -> None:
        kind = type(record)
        if kind is PartitionChangeRecord:
            assert isinstance(record, PartitionChangeRecord)
            partitions = self.topics_by_id[record.topic_id].partitions
            before = partitions[record.partition]
            super().replay(record, delta)
            if self._index is not None:
                self._index.forget(before)
                self._index.learn(partitions[record.partition])
        elif kind is PartitionRecord:
            assert isinstance(record, PartitionRecord)
            super().replay(record, delta)
            if self._index is not None:
                self._index.learn(self.topics_by_id[record.topic_id].partitions[record.partition])
        elif kind is RemoveTopicRecord:
            assert isinstance(record, RemoveTopicRecord)
            self._forget_topic(self.topics_by_id[record.topic_id])
            super().replay(record, delta)
        elif kind is ClearElrRecord:
            assert isinstance(record, ClearElrRecord)
            self._forget_elr(record.topic_name)
            super().replay(record, delta)
        else:
            super().replay(record, delta)
            if isinstance(record, TopicRecord) and has_collision_characters(record.name):
                self.collisions.setdefault(unified_name(record.name), {})[record.name] = None
            elif isinstance(record, UnregisterBrokerRecord):
                self.register_offsets.pop(record.broker_id, None)

    def _forget_topic(self, topic: TopicImage) -> None:
        if self._index is not None:
            for state in topic.partitions:
                self._index.forget(state)
        unified = unified_name(topic.name)
        names = self.collisions.get(unified, {})
        if topic.name in names:
            del names[topic.name]
            if not names:
                del self.collisions[unified]

    def _forget_elr(self, topic_name: str) -> None:
        if self._index is None:
            return
        if topic_name:
            self._index.forget_elr(self.topics[topic_name].partitions)
        else:
            self._index.in_elr.clear()


def has_collision_characters(name: str) -> bool:
    return "." in name or "_" in name


def unified_name(name: str) -> str:
    """Names that become the same metric name collide."""
    return name.replace(".", "_")
