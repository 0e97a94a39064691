"""Cluster metadata as the application sees them, built into the classes of the client's own Python layer.

Mirrors:  c_metadata_to_py and c_groups_to_py of Metadata.c.
Rule 1:   the classes are the layer's; here are only values put into them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafkasim.confluent_kafka.errors import error_or_none
from kafkasim.confluent_kafka.layer import layer_module

if TYPE_CHECKING:
    from kafkasim.core.model.messages import (
        BrokerEndpoint,
        MetadataResponse,
        PartitionMetadata,
        TopicMetadata,
    )


def cluster_metadata(response: MetadataResponse) -> Any:
    """A ClusterMetadata."""
    admin = layer_module("admin")
    cluster = admin.ClusterMetadata()
    cluster.cluster_id = response.cluster_id
    cluster.controller_id = response.controller_id
    brokers = sorted(response.brokers, key=lambda broker: broker.node_id)
    cluster.brokers = {broker.node_id: broker_metadata(admin, broker) for broker in brokers}
    cluster.topics = {topic.name: _topic(admin, topic) for topic in response.topics}
    if response.brokers:
        origin = response.brokers[0]
        cluster.orig_broker_id = origin.node_id
        cluster.orig_broker_name = f"{origin.host}:{origin.port}/{origin.node_id}"
    return cluster


def broker_metadata(admin: Any, broker: BrokerEndpoint) -> Any:
    """A BrokerMetadata."""
    made = admin.BrokerMetadata()
    made.id, made.host, made.port = broker.node_id, broker.host, broker.port
    return made


def _topic(admin: Any, topic: TopicMetadata) -> Any:
    made = admin.TopicMetadata()
    made.topic = topic.name
    made.error = error_or_none(topic.error)
    made.partitions = {part.partition: _partition(admin, part) for part in topic.partitions}
    return made


def _partition(admin: Any, partition: PartitionMetadata) -> Any:
    made = admin.PartitionMetadata()
    made.id = partition.partition
    made.leader = partition.leader
    made.error = error_or_none(partition.error)
    made.replicas = list(partition.replicas)
    made.isrs = list(partition.isr)
    return made
