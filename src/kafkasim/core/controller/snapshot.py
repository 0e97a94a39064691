"""Snapshots of the metadata image: the records that make it anew, in as few words as it takes.

Mirrors:  MetadataImage.write, the image writers of org.apache.kafka.image, SnapshotGenerator.
Rule 1:   an image that replayed a log, and one that replayed its snapshot, say the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.controller.image import BrokerState, ImageDelta, MetadataImage, PartitionState
from kafkasim.core.model.ids import NO_EPOCH, NO_NODE
from kafkasim.core.model.metadata import (
    ConfigRecord,
    FeatureLevelRecord,
    MetadataRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    TopicRecord,
)


def compact(records: Iterable[MetadataRecord]) -> tuple[MetadataRecord, ...]:
    """What is left of ``records`` once each has been overtaken by those that follow it."""
    image, delta = MetadataImage(), ImageDelta()
    for record in records:
        image.replay(record, delta)
    return snapshot_records(image)


def snapshot_records(image: MetadataImage) -> tuple[MetadataRecord, ...]:
    records: list[MetadataRecord] = [FeatureLevelRecord(name, level) for name, level in image.features.items()]
    records += map(_broker_record, image.brokers.values())
    for topic in image.topics.values():
        records.append(TopicRecord(topic.name, topic.topic_id))
        records += map(_partition_record, topic.partitions)
    for (resource_type, resource_name), values in image.configs.items():
        records += [ConfigRecord(resource_type, resource_name, name, value) for name, value in values.items()]
    if image.next_producer_id:
        records.append(ProducerIdsRecord(NO_NODE, NO_EPOCH, image.next_producer_id))
    return tuple(records)


def _broker_record(broker: BrokerState) -> RegisterBrokerRecord:
    return RegisterBrokerRecord(
        broker.broker_id,
        broker.incarnation_id,
        broker.broker_epoch,
        broker.host,
        broker.port,
        broker.rack,
        broker.fenced,
        broker.in_controlled_shutdown,
    )


def _partition_record(state: PartitionState) -> PartitionRecord:
    return PartitionRecord(
        state.topic_id,
        state.tp.partition,
        state.replicas,
        state.isr,
        state.leader,
        state.leader_epoch,
        state.partition_epoch,
        state.removing_replicas,
        state.adding_replicas,
        state.leader_recovery_state,
        state.elr,
        state.last_known_elr,
    )
