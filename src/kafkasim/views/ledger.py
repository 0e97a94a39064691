"""The metadata log as numbers: what each broker's and the controller's gauges are at each offset.

Mirrors:  the gauges of ReplicaManager (as Partition computes them) and ControllerMetricsChanges.
Inputs:   ``take`` each committed batch once, in order.
Rule 1:   work per changed partition, never per partition that exists.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.controller.image import ImageDelta, MetadataImage, PartitionState
from kafkasim.core.model.admin_messages import BROKER_RESOURCE, TOPIC_RESOURCE
from kafkasim.core.model.ids import NO_LEADER, NodeId, TopicPartition
from kafkasim.core.model.metadata import (
    RECOVERING,
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    MetadataRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    UnregisterBrokerRecord,
)
from kafkasim.views.facts import Committed

#: Gauges that follow from a broker's image.
BROKER_GAUGES = (
    "PartitionCount",
    "LeaderCount",
    "UnderReplicatedPartitions",
    "UnderMinIsrPartitionCount",
    "AtMinIsrPartitionCount",
    "ReassigningPartitions",
)
_MIN_ISR = "min.insync.replicas"

#: (metric, broker), or (metric, 0) for the controller's.
Key = tuple[str, NodeId]
CONTROLLER = 0


class Ledger:
    """``by_offset[(gauge, broker)]``: (end offset of a batch, value); ``by_time[metric]``: (commit time, value)."""

    def __init__(self, static_config: dict[str, str]) -> None:
        self.by_offset: dict[Key, list[tuple[int, int]]] = {}
        self.by_time: dict[str, list[tuple[int, int]]] = {}
        #: How many batches are in here.
        self.taken = 0
        self._image = MetadataImage(static_config)
        self._values: dict[Key, int] = {}
        self._touched: dict[Key, None] = {}

    def take(self, committed: Committed) -> None:
        self.taken += 1
        for record in committed.batch.records:
            self._count_elections(record)
            concerned = self._concerned(record)
            for tp in concerned:
                self._add(tp, -1)
            self._image.replay(record, ImageDelta())
            if isinstance(record, PartitionRecord):
                concerned = [TopicPartition(self._image.topics_by_id[record.topic_id].name, record.partition)]
            for tp in concerned:
                self._add(tp, 1)
            self._count_topics_and_brokers(record)
        self._set("LastCommittedRecordOffset", committed.batch.next_offset - 1)
        if committed.written is not None and committed.written.event == "maybeFenceStaleBroker":
            self._change(("TimedOutBrokerHeartbeatCount", CONTROLLER), 1)
        self._close(committed)

    # --- partitions ------------------------------------------------------------------------------------------------

    def _concerned(self, record: MetadataRecord) -> Iterable[TopicPartition]:
        """The partitions that exist and may count differently after ``record``."""
        image = self._image
        if isinstance(record, PartitionChangeRecord):
            return [image.topics_by_id[record.topic_id].partitions[record.partition].tp]
        if isinstance(record, RemoveTopicRecord):
            return [state.tp for state in image.topics_by_id[record.topic_id].partitions]
        if isinstance(record, ConfigRecord) and record.name == _MIN_ISR:
            if record.resource_type == TOPIC_RESOURCE:
                topic = image.topics.get(record.resource_name)
                return [] if topic is None else [state.tp for state in topic.partitions]
            if record.resource_type == BROKER_RESOURCE:
                return [state.tp for topic in image.topics.values() for state in topic.partitions]
        return ()

    def _add(self, tp: TopicPartition, sign: int) -> None:
        """Count a partition as it is now in (1) or out (-1)."""
        state = self._image.partition(tp)
        if state is None:
            return
        for node in state.replicas:
            self._change(("PartitionCount", node), sign)
        self._change(("GlobalPartitionCount", CONTROLLER), sign)
        leader = state.leader
        if leader != state.replicas[0]:
            self._change(("PreferredReplicaImbalanceCount", CONTROLLER), sign)
        if leader == NO_LEADER:
            self._change(("OfflinePartitionsCount", CONTROLLER), sign)
            return
        for gauge in self._gauges_of_leader(state):
            self._change((gauge, leader), sign)

    def _gauges_of_leader(self, state: PartitionState) -> list[str]:
        """The gauges of its leader that this partition counts in."""
        gauges = ["LeaderCount"]
        in_sync, min_isr = len(state.isr), self._image.effective_min_isr(state)
        # During a reassignment the factor is still that of the old replicas (OngoingReassignmentState).
        if in_sync < len([node for node in state.replicas if node not in state.adding_replicas]):
            gauges.append("UnderReplicatedPartitions")
        if in_sync < min_isr:
            gauges.append("UnderMinIsrPartitionCount")
        elif in_sync == min_isr:
            gauges.append("AtMinIsrPartitionCount")
        if state.adding_replicas or state.removing_replicas:
            gauges.append("ReassigningPartitions")
        return gauges

    # --- the controller's own --------------------------------------------------------------------------------------

    def _count_elections(self, record: MetadataRecord) -> None:
        if isinstance(record, PartitionChangeRecord):
            if record.leader_recovery_state == RECOVERING:
                self._change(("UncleanLeaderElectionsPerSec", CONTROLLER), 1)
            if record.leader in self._image.topics_by_id[record.topic_id].partitions[record.partition].elr:
                self._change(("ElectionFromEligibleLeaderReplicasPerSec", CONTROLLER), 1)

    def _count_topics_and_brokers(self, record: MetadataRecord) -> None:
        image = self._image
        self._set("GlobalTopicCount", len(image.topics))
        if isinstance(record, RegisterBrokerRecord | UnregisterBrokerRecord | BrokerRegistrationChangeRecord):
            brokers = image.brokers.values()
            self._set("FencedBrokerCount", sum(broker.fenced for broker in brokers))
            self._set("ActiveBrokerCount", sum(not broker.fenced for broker in brokers))
            self._set("ControlledShutdownBrokerCount", sum(broker.in_controlled_shutdown for broker in brokers))

    # --- writing down ----------------------------------------------------------------------------------------------

    def _change(self, key: Key, delta: int) -> None:
        self._values[key] = self._values.get(key, 0) + delta
        self._touched[key] = None

    def _set(self, metric: str, value: int) -> None:
        key = (metric, CONTROLLER)
        if self._values.get(key) != value:
            self._values[key] = value
            self._touched[key] = None

    def _close(self, committed: Committed) -> None:
        end_offset = committed.batch.next_offset
        for key in self._touched:
            metric, node = key
            if node == CONTROLLER:
                self.by_time.setdefault(metric, []).append((committed.at_us, self._values[key]))
            else:
                self.by_offset.setdefault(key, []).append((end_offset, self._values[key]))
        self._touched = {}
