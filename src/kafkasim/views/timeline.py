"""One partition's life in the metadata log: each change with the state before and after it, and what was in force around it.

Inputs:   committed batches up to a time.
Rule 1:   records of other topics are passed over, so that one partition of a large cluster is cheap to ask for.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kafkasim.core.controller.image import ImageDelta, MetadataImage, PartitionState
from kafkasim.core.model.admin_messages import BROKER_RESOURCE, TOPIC_RESOURCE
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.metadata import (
    BrokerRegistrationChangeRecord,
    ClearElrRecord,
    ConfigRecord,
    MetadataRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
    UnregisterBrokerRecord,
)
from kafkasim.views.facts import Committed

_BROKER_RECORDS = (RegisterBrokerRecord, UnregisterBrokerRecord, BrokerRegistrationChangeRecord)


@attrs.define(slots=True, frozen=True, eq=False)
class Change:
    """``before`` is None at the creation, ``after`` at the deletion; ``min_isr`` is the effective minimum at the time."""

    committed: Committed
    record: MetadataRecord
    before: PartitionState | None
    after: PartitionState | None
    min_isr: int

    @property
    def at_us(self) -> int:
        return self.committed.at_us


@attrs.define(slots=True, frozen=True, eq=False)
class ConfigChange:
    """``key`` of the topic or of all brokers became ``value`` (None: back to the default) after the topic was made."""

    committed: Committed
    resource_type: int
    key: str
    value: str | None

    @property
    def at_us(self) -> int:
        return self.committed.at_us


@attrs.define(slots=True, frozen=True, eq=False)
class BrokerChange:
    """A registration, fencing or unfencing of one broker."""

    committed: Committed
    record: MetadataRecord
    broker: NodeId

    @property
    def at_us(self) -> int:
        return self.committed.at_us


class Timeline:
    """``image`` holds brokers, configs and this topic as they are at the end."""

    def __init__(self, tp: TopicPartition, committed: Iterable[Committed], static_config: dict[str, str]) -> None:
        self.tp = tp
        self.image = MetadataImage(static_config)
        self.changes: list[Change] = []
        self.configs: list[ConfigChange] = []
        self.brokers: list[BrokerChange] = []
        self.partition_count = 0
        self._topic_id: str | None = None
        for batch in committed:
            for record in batch.batch.records:
                self._take(batch, record)

    @property
    def state(self) -> PartitionState | None:
        return self.changes[-1].after if self.changes else None

    @property
    def min_isr(self) -> int:
        state = self.state
        return 0 if state is None else self.image.effective_min_isr(state)

    @property
    def unclean(self) -> bool:
        return self.image.topic_bool(self.tp.topic, "unclean.leader.election.enable")

    def broker_state(self, node: NodeId) -> str:
        broker = self.image.brokers.get(node)
        if broker is None:
            return "not registered"
        if broker.fenced:
            return "fenced"
        return "in controlled shutdown" if broker.in_controlled_shutdown else "active"

    # --- replay ----------------------------------------------------------------------------------------------------

    def _take(self, batch: Committed, record: MetadataRecord) -> None:
        if isinstance(record, TopicRecord):
            if record.name == self.tp.topic:
                self._topic_id = record.topic_id
                self.changes = []
                self.configs = []
                self.partition_count = 0
                self.image.replay(record, ImageDelta())
        elif isinstance(record, PartitionRecord | PartitionChangeRecord | RemoveTopicRecord):
            if record.topic_id == self._topic_id:
                self._change(batch, record)
        elif isinstance(record, ClearElrRecord):
            if record.topic_name in ("", self.tp.topic) and self.image.topics:
                self._change(batch, ClearElrRecord(self.tp.topic))
        else:
            self.image.replay(record, ImageDelta())
            if isinstance(record, _BROKER_RECORDS):
                self.brokers.append(BrokerChange(batch, record, record.broker_id))
            elif isinstance(record, ConfigRecord):
                self._config(batch, record)

    def _change(self, batch: Committed, record: MetadataRecord) -> None:
        before = self._copy()
        if isinstance(record, RemoveTopicRecord):
            self._topic_id = None
        min_isr = 0 if before is None else self.image.effective_min_isr(before)
        self.image.replay(record, ImageDelta())
        after = self._copy()
        self.partition_count += isinstance(record, PartitionRecord)
        if after is not None:
            min_isr = self.image.effective_min_isr(after)
        epochs = [state.partition_epoch for state in (before, after) if state is not None]
        if len(epochs) == 1 or (len(epochs) == 2 and epochs[0] != epochs[1]):
            self.changes.append(Change(batch, record, before, after, min_isr))

    def _config(self, batch: Committed, record: ConfigRecord) -> None:
        of_topic = record.resource_type == TOPIC_RESOURCE and record.resource_name == self.tp.topic
        of_brokers = record.resource_type == BROKER_RESOURCE and record.resource_name == ""
        if self.changes and (of_topic or of_brokers):
            self.configs.append(ConfigChange(batch, record.resource_type, record.name, record.value))

    def _copy(self) -> PartitionState | None:
        state = self.image.partition(self.tp)
        return None if state is None else attrs.evolve(state)
