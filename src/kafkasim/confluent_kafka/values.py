"""Value types of the client: TopicPartition, Uuid, NewTopic, NewPartitions.

Mirrors:  the types of the same names in cimpl (confluent_kafka.c, AdminTypes.c).
Rule 1:   identity is topic and number: offset, metadata, leader epoch and error take no part in comparison or hash.
Rule 2:   comparing one with anything else raises NotImplementedError, as the C types do.
"""

from __future__ import annotations

import base64
import operator
import struct
from typing import Any

from kafkasim.confluent_kafka._arguments import c_arguments
from kafkasim.confluent_kafka._constants import OFFSET_INVALID
from kafkasim.confluent_kafka.errors import KafkaError

PARTITION_UNASSIGNED = -1

#: Stands for a config that was not given; one that is None is refused.
_NO_CONFIG: dict[str, str] = {}


class _Ordered:
    """Comparison by topic and number, with the like only."""

    __slots__ = ()

    def _key(self) -> tuple[str, int]:
        raise NotImplementedError

    def _other(self, other: object) -> tuple[str, int]:
        if type(other) is not type(self):
            raise NotImplementedError
        assert isinstance(other, _Ordered)
        return other._key()

    def __eq__(self, other: object) -> bool:
        return self._key() == self._other(other)

    def __ne__(self, other: object) -> bool:
        return self._key() != self._other(other)

    def __lt__(self, other: object) -> bool:
        return self._key() < self._other(other)

    def __le__(self, other: object) -> bool:
        return self._key() <= self._other(other)

    def __gt__(self, other: object) -> bool:
        return self._key() > self._other(other)

    def __ge__(self, other: object) -> bool:
        return self._key() >= self._other(other)

    def __hash__(self) -> int:
        raise NotImplementedError


class TopicPartition(_Ordered):
    """A partition of a topic with what is known or wanted about it: an offset, metadata, an error."""

    __slots__ = ("_error", "_leader_epoch", "_metadata", "_offset", "_partition", "_topic")

    @c_arguments("s|iLsi")
    def __init__(
        self,
        topic: str,
        partition: int = PARTITION_UNASSIGNED,
        offset: int = OFFSET_INVALID,
        metadata: str | None = None,
        leader_epoch: int = -1,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._metadata = metadata
        self._leader_epoch = max(leader_epoch, -1)
        self._error: KafkaError | None = None

    @classmethod
    def _made(
        cls,
        topic: str,
        partition: int,
        offset: int = OFFSET_INVALID,
        error: KafkaError | None = None,
        metadata: str | None = None,
        leader_epoch: int = -1,
    ) -> TopicPartition:
        """What the client itself hands out: no parsing, and with an error where there is one; metadata as they came."""
        made = cls.__new__(cls)
        made._topic = topic
        made._partition = partition
        made._offset = offset
        made._metadata = metadata.partition("\0")[0] if metadata else None
        made._leader_epoch = leader_epoch
        made._error = error
        return made

    @property
    def _metadata_to_send(self) -> str:
        """The client sends metadata with the NUL behind them, as C has it: one byte more counts against the broker's limit."""
        return "" if self._metadata is None else f"{self._metadata}\0"

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._topic

    @property
    def partition(self) -> int:
        """Number of the partition."""
        return self._partition

    @partition.setter
    def partition(self, value: int) -> None:
        self._partition = operator.index(value)

    @property
    def offset(self) -> int:
        """An offset, or one of the logical OFFSET_ constants."""
        return self._offset

    @offset.setter
    def offset(self, value: int) -> None:
        self._offset = operator.index(value)

    @property
    def metadata(self) -> str | None:
        """What the application committed along with the offset."""
        return self._metadata

    @property
    def leader_epoch(self) -> int | None:
        """Leader epoch of the offset, if known."""
        return self._leader_epoch if self._leader_epoch >= 0 else None

    @property
    def error(self) -> KafkaError | None:
        """What failed for this partition, if anything."""
        return self._error

    def _key(self) -> tuple[str, int]:
        return self._topic, self._partition

    def __hash__(self) -> int:
        return hash(self._topic) ^ self._partition

    def __repr__(self) -> str:
        return (
            f"TopicPartition{{topic={self._topic},partition={self._partition},offset={self._offset},"
            f"leader_epoch={self.leader_epoch},error={self._error}}}"
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle 'cimpl.TopicPartition' object")


class Uuid:
    """A 128-bit id, as of a topic; it prints as Kafka prints it: base64 without padding."""

    __slots__ = ("_least", "_most")

    @c_arguments("LL")
    def __init__(self, most_significant_bits: int, least_significant_bits: int) -> None:
        self._most = most_significant_bits
        self._least = least_significant_bits

    def get_most_significant_bits(self) -> int:
        """The upper 64 bits, signed."""
        return self._most

    def get_least_significant_bits(self) -> int:
        """The lower 64 bits, signed."""
        return self._least

    def __hash__(self) -> int:
        return self._most ^ self._least

    def __repr__(self) -> str:
        return base64.b64encode(struct.pack(">qq", self._most, self._least)).decode().rstrip("=")


class NewTopic(_Ordered):
    """A topic to create, for ``AdminClient.create_topics``."""

    __slots__ = ("_topic", "config", "num_partitions", "replica_assignment", "replication_factor")

    @c_arguments("s|iiOO")
    def __init__(
        self,
        topic: str,
        num_partitions: int = -1,
        replication_factor: int = -1,
        replica_assignment: list[list[int]] | None = None,
        config: dict[str, str] | None = _NO_CONFIG,
    ) -> None:
        if not isinstance(config, dict):
            raise TypeError("config must be a dict of strings")
        self._topic = topic
        self.num_partitions = num_partitions
        self.replication_factor = replication_factor
        self.replica_assignment = replica_assignment
        self.config: dict[str, str] | None = None if config is _NO_CONFIG else config

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._topic

    def _key(self) -> tuple[str, int]:
        return self._topic, self.num_partitions

    def __hash__(self) -> int:
        return hash(self._topic) ^ (0 if self.num_partitions == -1 else self.num_partitions)

    def __repr__(self) -> str:
        if self.num_partitions == -1:
            return f"NewTopic(topic={self._topic})"
        return f"NewTopic(topic={self._topic},num_partitions={self.num_partitions})"


class NewPartitions(_Ordered):
    """A topic's new partition count, for ``AdminClient.create_partitions``."""

    __slots__ = ("_topic", "new_total_count", "replica_assignment")

    @c_arguments("si|O")
    def __init__(self, topic: str, new_total_count: int, replica_assignment: list[list[int]] | None = None) -> None:
        self._topic = topic
        self.new_total_count = new_total_count
        self.replica_assignment = replica_assignment

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._topic

    def _key(self) -> tuple[str, int]:
        return self._topic, self.new_total_count

    def __hash__(self) -> int:
        return hash(self._topic) ^ self.new_total_count

    def __repr__(self) -> str:
        return f"NewPartitions(topic={self._topic},new_total_count={self.new_total_count})"


for _type in (TopicPartition, Uuid, NewTopic, NewPartitions):
    _type.__module__ = "cimpl"
