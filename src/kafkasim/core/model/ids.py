"""Names of things: partitions, nodes, and the sentinels of Kafka's protocol.

Rule 1:   a node is an int everywhere: brokers and controllers by their Kafka id (from 1), clients from ``FIRST_CLIENT_NODE``.
Rule 2:   a partition is ``TopicPartition(topic, partition)``, a tuple, so that it is cheap to hash and orders by name and number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

NodeId: TypeAlias = int

#: A labelled, bounded draw handed in by the shell: ``draw(label, bound)`` is in ``[0, bound)``; 0 is the most benign value.
Draw: TypeAlias = Callable[[str, int], int]

FIRST_CLIENT_NODE = 1_000_000
NO_NODE = -1
NO_LEADER = -1
NO_EPOCH = -1
NO_OFFSET = -1
NO_PRODUCER_ID = -1
NO_SEQUENCE = -1
NO_TIMESTAMP = -1

#: Special timestamps of ListOffsets.
LATEST_TIMESTAMP = -1
EARLIEST_TIMESTAMP = -2
MAX_TIMESTAMP = -3

CONSUMER_OFFSETS_TOPIC = "__consumer_offsets"
CLUSTER_METADATA_TOPIC = "__cluster_metadata"


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


METADATA_PARTITION = TopicPartition(CLUSTER_METADATA_TOPIC, 0)
