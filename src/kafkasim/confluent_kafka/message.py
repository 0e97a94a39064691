"""Message: what a consumer gets and what a delivery callback is told about.

A message that comes out of a batch is lazy: it holds the batch (wrapped with its topic and partition) and an index, and looks
its fields up when asked. The first ``set_...`` on it turns it into an ordinary message. Making one costs about 0.1 us.

Mirrors:  cimpl.Message (constructible by hand since 2.13, for tests).
Rule 1:   both forms have the same slots, so that a lazy message can become an ordinary one in place.
Rule 2:   equality ignores latency and delivery count; a message is unhashable.
Differs:  ``type(message)`` of a lazy message is a subclass of Message; its ``__class__`` says Message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from kafkasim.confluent_kafka._arguments import c_arguments
from kafkasim.confluent_kafka._constants import (
    OFFSET_INVALID,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
)
from kafkasim.confluent_kafka.errors import KafkaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafkasim.core.model.records import RecordBatch

HeaderList: TypeAlias = "list[tuple[str, bytes | None]]"

_MICROSECONDS = 1_000_000.0

#: The way to change an object's class past the property that hides it.
_CLASS: Any = object.__dict__["__class__"]


class Message:
    """One record, consumed or produced; or an error or event, if ``error()`` is not None."""

    __slots__ = (
        "_delivery_count",
        "_error",
        "_headers",
        "_key",
        "_latency",
        "_leader_epoch",
        "_offset",
        "_partition",
        "_timestamp",
        "_topic",
        "_value",
    )

    @c_arguments("|OiLOOOOOdii")
    def __init__(
        self,
        topic: Any = None,
        partition: int = -1,
        offset: int = OFFSET_INVALID,
        key: Any = None,
        value: Any = None,
        headers: Any = None,
        error: KafkaError | None = None,
        timestamp: tuple[int, int] | None = None,
        latency: float = -1.0,
        leader_epoch: int = -1,
        delivery_count: int = -1,
    ) -> None:
        if timestamp is None:
            timestamp = (TIMESTAMP_NOT_AVAILABLE, 0)
        elif not isinstance(timestamp, tuple) or len(timestamp) != 2:
            raise TypeError("timestamp must be a tuple of (int, int)")
        self._topic = topic
        self._partition = max(partition, -1)
        self._offset = offset if offset >= 0 else OFFSET_INVALID
        self._key = key
        self._value = value
        self._headers = headers
        self._error: Any = error
        self._timestamp = timestamp
        self._latency = -1.0 if latency < 0 else int(latency * _MICROSECONDS) / _MICROSECONDS
        self._leader_epoch = max(leader_epoch, -1)
        self._delivery_count = delivery_count if delivery_count > 0 else -1

    def error(self) -> KafkaError | None:
        """None for a proper message, else the error or event that this object stands for."""
        error: KafkaError | None = self._error
        return error

    def topic(self) -> str | None:
        """Topic name."""
        topic: str | None = self._topic
        return topic

    def partition(self) -> int | None:
        """Partition number."""
        return self._partition if self._partition >= 0 else None

    def offset(self) -> int | None:
        """Offset in the partition."""
        return self._offset if self._offset >= 0 else None

    def key(self) -> Any:
        """Key, bytes unless it was set to something else."""
        return self._key

    def value(self) -> Any:
        """Value, bytes unless it was set to something else."""
        return self._value

    def deserialized_key(self) -> Any:
        """The key, typed as what a DeserializingConsumer put there."""
        return self.key()

    def deserialized_value(self) -> Any:
        """The value, typed as what a DeserializingConsumer put there."""
        return self.value()

    def headers(self) -> Any:
        """List of (name, bytes or None), or None."""
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        """(type of timestamp, milliseconds since the epoch)."""
        return self._timestamp

    def latency(self) -> float | None:
        """Seconds from produce() to the acknowledgement, for a delivered message."""
        return self._latency if self._latency >= 0 else None

    def leader_epoch(self) -> int | None:
        """Leader epoch of the offset."""
        return self._leader_epoch if self._leader_epoch >= 0 else None

    def delivery_count(self) -> int | None:
        """How often a share group has been given this record."""
        return self._delivery_count if self._delivery_count > 0 else None

    def set_headers(self, headers: Any) -> None:
        """Replace the headers."""
        self._headers = headers

    def set_value(self, value: Any) -> None:
        """Replace the value."""
        self._value = value

    def set_key(self, key: Any) -> None:
        """Replace the key."""
        self._key = key

    def set_topic(self, topic: Any) -> None:
        """Replace the topic."""
        self._topic = topic

    def set_error(self, error: Any) -> None:
        """Replace the error."""
        self._error = error

    def __len__(self) -> int:
        value = self.value()
        return 0 if value is None else len(value)

    def _compared(self) -> tuple[Any, ...]:
        return (
            self.topic(),
            self.value(),
            self.key(),
            self.headers(),
            self.error(),
            self.partition(),
            self.offset(),
            self.leader_epoch(),
            self.timestamp()[1],
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Message) and self._compared() == other._compared()

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Message], tuple[Any, ...]]:
        partition, offset, leader_epoch = self.partition(), self.offset(), self.leader_epoch()
        latency, delivery_count = self.latency(), self.delivery_count()
        return Message, (
            self.topic(),
            -1 if partition is None else partition,
            OFFSET_INVALID if offset is None else offset,
            self.key(),
            self.value(),
            self.headers(),
            self.error(),
            self.timestamp(),
            -1.0 if latency is None else latency,
            -1 if leader_epoch is None else leader_epoch,
            -1 if delivery_count is None else delivery_count,
        )


class BatchSource:
    """A batch with what its records do not know: the partition it was read from, or how its delivery went.

    ``reported_ms`` is when the broker acknowledged it, ``append_time_ms`` the broker's own time if it stamps records.
    """

    __slots__ = (
        "append_time_ms",
        "base_offset",
        "batch",
        "delivery_count",
        "error",
        "partition",
        "reported_ms",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        batch: RecordBatch,
        *,
        base_offset: int | None = None,
        error: KafkaError | None = None,
        reported_ms: float = -1.0,
        append_time_ms: int = -1,
        delivery_count: int = -1,
    ) -> None:
        self.delivery_count = delivery_count
        self.topic = topic
        self.partition = partition
        self.batch = batch
        self.base_offset = batch.base_offset if base_offset is None else base_offset
        self.error = error
        self.reported_ms = reported_ms
        self.append_time_ms = append_time_ms


class BatchMessage(Message):
    """A message still in its batch: ``_key`` holds the BatchSource and ``_offset`` the index."""

    __slots__ = ()

    _key: BatchSource
    _offset: int

    def __init__(self, source: BatchSource, index: int) -> None:
        self._key = source
        self._offset = index

    @property  # type: ignore[misc]
    def __class__(self) -> type[Message]:  # type: ignore[override]
        return Message

    def error(self) -> KafkaError | None:
        return self._key.error

    def topic(self) -> str | None:
        return self._key.topic

    def partition(self) -> int | None:
        partition = self._key.partition
        return None if partition == -1 else partition

    def offset(self) -> int | None:
        source = self._key
        if source.batch.offsets is not None:
            return source.batch.offsets[self._offset]
        return source.base_offset + self._offset if source.base_offset >= 0 else None

    def key(self) -> Any:
        return self._key.batch.columns.keys[self._offset]

    def value(self) -> Any:
        return self._key.batch.columns.values[self._offset]

    def headers(self) -> Any:
        columns = self._key.batch.columns
        headers = None if columns.headers is None else columns.headers[self._offset]
        return None if headers is None else list(headers)

    def timestamp(self) -> tuple[int, int]:
        # The client counts its timestamp types from "not available"; the record format from CreateTime.
        batch = self._key.batch
        return batch.timestamp_type + 1, batch.timestamp_ms_at(self._offset)

    def latency(self) -> float | None:
        return None

    def leader_epoch(self) -> int | None:
        epoch = self._key.batch.leader_epoch
        return epoch if epoch >= 0 else None

    def delivery_count(self) -> int | None:
        return None

    def set_headers(self, headers: Any) -> None:
        _settled(self)._headers = headers

    def set_value(self, value: Any) -> None:
        _settled(self)._value = value

    def set_key(self, key: Any) -> None:
        _settled(self)._key = key

    def set_topic(self, topic: Any) -> None:
        _settled(self)._topic = topic

    def set_error(self, error: Any) -> None:
        _settled(self)._error = error


class SharedMessage(BatchMessage):
    """What a share consumer gets: it knows how often the record was delivered."""

    __slots__ = ()

    def delivery_count(self) -> int | None:
        return self._key.delivery_count


class DeliveredMessage(BatchMessage):
    """What a delivery callback gets: the client keeps no headers for it, and no epoch."""

    __slots__ = ()

    def headers(self) -> Any:
        return None

    def leader_epoch(self) -> int | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        source = self._key
        if source.error is not None:
            return TIMESTAMP_NOT_AVAILABLE, -1
        if source.append_time_ms >= 0:
            return TIMESTAMP_LOG_APPEND_TIME, source.append_time_ms
        return super().timestamp()

    def latency(self) -> float | None:
        """From the record's timestamp on, so to the millisecond; one that the application set makes no sense of it."""
        source = self._key
        if source.error is not None or source.reported_ms < 0:
            return None
        latency_ms = source.reported_ms - source.batch.columns.timestamps_ms[self._offset]
        return max(0.0, latency_ms / 1000)


def _settled(message: BatchMessage) -> Message:
    """Take the fields out of the batch and make ``message`` an ordinary one."""
    _, fields = message.__reduce__()
    _CLASS.__set__(message, Message)
    message.__init__(*fields)  # type: ignore[misc]
    return message


def messages_of(source: BatchSource, indexes: Iterable[int]) -> list[Message]:
    """Lazy messages for some records of a batch."""
    return [BatchMessage(source, index) for index in indexes]


for _type in (BatchMessage, SharedMessage, DeliveredMessage):
    _type.__name__ = _type.__qualname__ = "Message"
