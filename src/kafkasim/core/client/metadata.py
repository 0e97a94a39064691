"""What a client knows of the cluster: its brokers, and the partitions and leaders of the topics it cares for.

Mirrors:  rd_kafka_metadata_cache_t, rd_kafka_topic_t and the leader part of rd_kafka_toppar_t; KIP-320 and KIP-951.
Inputs:   on_topic, on_leader_hint (both by ``ClientCore``).      Effects: none; they return what changed.
Rule 1:   a partition never goes back to an older leader epoch.
Rule 2:   what a broker said of a topic's partitions is kept as it came, one value for all clients: thousands of members of a group
          on a topic of thousands of partitions would not fit otherwise. Only what differs from it is a client's own.
Rule 3:   a topic that the cluster does not know stays UNKNOWN for ``topic.metadata.propagation.max.ms`` since it was first wanted,
          and only then becomes NOT_EXISTS; an invalid name becomes so at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_LEADER, NodeId, TopicPartition
from kafkasim.core.model.message import slotted
from kafkasim.core.model.messages import BrokerEndpoint, PartitionMetadata, TopicMetadata

UNKNOWN = "unknown"
EXISTS = "exists"
NOT_EXISTS = "notexists"
ERROR = "error"


@slotted
class KnownTopic:
    """A topic that the engine wants, or has heard of; ``since_us`` is when ``state`` last changed.

    ``partitions`` are in order of their numbers, without a gap.
    """

    name: str
    since_us: int
    state: str = UNKNOWN
    error: ErrorCode = ErrorCode.NONE
    topic_id: str = ""
    partitions: Sequence[PartitionMetadata] = ()
    refreshed_us: int = -1
    leader_unavailable: bool = False

    def become(self, state: str, error: ErrorCode, now_us: int) -> bool:
        """Enter ``state``; True if that is a change."""
        self.error = error
        if self.state == state:
            return False
        self.state, self.since_us = state, now_us
        return True

    @property
    def lacks_leader(self) -> bool:
        return self.leader_unavailable or any(part.leader == NO_LEADER for part in self.partitions)


class MetadataCache:
    """Topics by name (only wanted ones, and all that a full refresh named), brokers by id."""

    __slots__ = ("_names", "_propagation_us", "brokers", "cluster_id", "controller_id", "topics")

    def __init__(self, propagation_us: int) -> None:
        self._propagation_us = propagation_us
        self.brokers: dict[NodeId, BrokerEndpoint] = {}
        self.topics: dict[str, KnownTopic] = {}
        self._names: dict[str, str] = {}
        self.cluster_id = ""
        self.controller_id: NodeId = NO_LEADER

    # --- Reading ---------------------------------------------------------------------------------------------------

    def topic(self, name: str) -> KnownTopic | None:
        return self.topics.get(name)

    def name_of(self, topic_id: str) -> str | None:
        """The name of an existing topic by its id; None if it is not known."""
        name = self._names.get(topic_id)
        topic = None if name is None else self.topics.get(name)
        return name if topic is not None and topic.topic_id == topic_id else None

    def partition(self, tp: TopicPartition) -> PartitionMetadata | None:
        topic = self.topics.get(tp[0])
        if topic is None or not 0 <= tp[1] < len(topic.partitions):
            return None
        return topic.partitions[tp[1]]

    def leader(self, tp: TopicPartition) -> NodeId:
        """The leader as far as is known; NO_LEADER if none is."""
        part = self.partition(tp)
        return NO_LEADER if part is None else part.leader

    def leader_epoch(self, tp: TopicPartition) -> int:
        part = self.partition(tp)
        return NO_EPOCH if part is None else part.leader_epoch

    def partition_count(self, name: str) -> int:
        """Number of partitions; 0 while unknown."""
        topic = self.topics.get(name)
        return 0 if topic is None else len(topic.partitions)

    # --- Changing --------------------------------------------------------------------------------------------------

    def want(self, name: str, now_us: int) -> KnownTopic:
        """The entry of ``name``, made on the first call."""
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = KnownTopic(name, now_us)
        return topic

    def on_topic(self, answer: TopicMetadata, now_us: int) -> bool:
        """Take in what a broker says of one topic; True if an engine has to look at it again."""
        topic = self.want(answer.name, now_us)
        topic.refreshed_us = now_us
        if answer.error == ErrorCode.NONE and answer.partitions:
            return self._on_topic_exists(topic, answer, now_us)
        if answer.error in (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID):
            if topic.state != NOT_EXISTS and now_us - topic.since_us < self._propagation_us:
                return False  # The topic may have been created on another broker a moment ago.
            return self._on_topic_gone(topic, NOT_EXISTS, answer.error, now_us)
        if answer.error == ErrorCode.INVALID_TOPIC_EXCEPTION:
            return self._on_topic_gone(topic, NOT_EXISTS, answer.error, now_us)
        if answer.error == ErrorCode.TOPIC_AUTHORIZATION_FAILED:
            return self._on_topic_gone(topic, ERROR, answer.error, now_us)
        return False  # Errors that pass, such as LEADER_NOT_AVAILABLE, leave what is known alone.

    def _on_topic_exists(self, topic: KnownTopic, answer: TopicMetadata, now_us: int) -> bool:
        changed = topic.become(EXISTS, ErrorCode.NONE, now_us)
        recreated = topic.topic_id not in ("", answer.topic_id)
        if recreated:
            topic.partitions = ()  # Epochs of another topic say nothing.
        if topic.topic_id != answer.topic_id:
            self._names.pop(topic.topic_id, None)
            self._names[answer.topic_id] = topic.name
        topic.topic_id = answer.topic_id
        stale = False
        if answer.partitions is not topic.partitions:
            topic.partitions, is_news, stale = _merged(topic.partitions, answer.partitions)
            changed = changed or is_news
        if topic.leader_unavailable and not stale and all(part.leader != NO_LEADER for part in topic.partitions):
            topic.leader_unavailable = False
        return changed or recreated

    def _on_topic_gone(self, topic: KnownTopic, state: str, error: ErrorCode, now_us: int) -> bool:
        topic.leader_unavailable = False
        topic.partitions = ()
        self._names.pop(topic.topic_id, None)
        topic.topic_id = ""
        topic.become(state, error, now_us)
        return True

    def on_leader_hint(self, tp: TopicPartition, leader: NodeId, leader_epoch: int) -> bool:
        """A broker that refused us named the leader it knows (KIP-951); True if that is news."""
        known = self.partition(tp)
        if known is None or leader < 0 or leader not in self.brokers or leader_epoch <= known.leader_epoch:
            return False
        topic = self.topics[tp[0]]
        own = topic.partitions if isinstance(topic.partitions, list) else list(topic.partitions)
        own[tp[1]] = PartitionMetadata(ErrorCode.NONE, tp[1], leader, leader_epoch, known.replicas, known.isr)
        topic.partitions = own
        return True


def _merged(
    known: Sequence[PartitionMetadata], told: tuple[PartitionMetadata, ...]
) -> tuple[Sequence[PartitionMetadata], bool, bool]:
    """What is known after an answer; whether an engine has to look at it; whether some of the answer is older than what is known."""
    is_news, own = len(told) > len(known), None
    for index, (before, part) in enumerate(zip(known, told, strict=False)):
        if part.leader_epoch < before.leader_epoch and part.leader_epoch != NO_EPOCH:
            own = list(told) if own is None else own
            own[index] = before
        elif part.leader != before.leader or part.leader_epoch != before.leader_epoch:
            is_news = True
    is_stale = own is not None
    if len(known) > len(told):
        own = [*(told if own is None else own), *known[len(told) :]]
    return told if own is None else own, is_news, is_stale
