"""Keys and values of ``__consumer_offsets``, byte for byte as Kafka writes them.

Mirrors:  OffsetCommitKey/Value (1/4), GroupMetadataKey/Value (2/3); ConsumerProtocolSubscription (3) and -Assignment (0) as librdkafka
          writes them: a broker keeps what its clients wrote.
Rule 1:   every encoder has its decoder beside it; a round trip loses nothing, neither of these bytes nor of a real broker's.
Differs:  when a group goes back to the classic protocol, Kafka writes its assignments in the version of each member's subscription.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache

from kafkasim.core.group.java_order import uuid_bits, uuid_text
from kafkasim.core.model.group_messages import Assignment, OffsetAndMetadata, Subscription
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.message import message

OFFSET_COMMIT_KEY = 1
GROUP_METADATA_KEY = 2
_OFFSET_VERSION = 4
_GROUP_VERSION = 3
_SUBSCRIPTION_VERSION = 3
_ASSIGNMENT_VERSION = 0


@message
class OffsetCommitKey:
    group_id: str
    tp: TopicPartition


@message
class OffsetCommitValue:
    """``topic_id`` is empty where the topic was not known."""

    committed: OffsetAndMetadata
    commit_timestamp_ms: int
    topic_id: str = ""


@message
class GroupMetadataKey:
    group_id: str


@message
class MemberMetadata:
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: Subscription
    assignment: Assignment


@message
class GroupMetadataValue:
    protocol_type: str
    generation_id: int
    protocol: str | None
    leader: str | None
    state_timestamp_ms: int
    members: tuple[MemberMetadata, ...]


class _Writer:
    """Kafka's primitive types, big-endian, appended to one buffer."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def int16(self, value: int) -> None:
        self.buffer += struct.pack(">h", value)

    def int32(self, value: int) -> None:
        self.buffer += struct.pack(">i", value)

    def int64(self, value: int) -> None:
        self.buffer += struct.pack(">q", value)

    def string(self, value: str | None) -> None:
        if value is None:
            self.int16(-1)
            return
        encoded = value.encode()
        self.int16(len(encoded))
        self.buffer += encoded

    def bytes(self, value: bytes | bytearray) -> None:
        self.int32(len(value))
        self.buffer += value

    def partitions(self, partitions: Iterable[TopicPartition]) -> None:
        by_topic: dict[str, list[int]] = {}
        for tp in partitions:
            by_topic.setdefault(tp.topic, []).append(tp.partition)
        self.int32(len(by_topic))
        for topic, numbers in by_topic.items():
            self.string(topic)
            self.int32(len(numbers))
            for number in numbers:
                self.int32(number)


class _Reader:
    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._at = 0

    def _take(self, layout: str, size: int) -> int:
        (value,) = struct.unpack_from(layout, self._buffer, self._at)
        self._at += size
        return int(value)

    def int16(self) -> int:
        return self._take(">h", 2)

    def int32(self) -> int:
        return self._take(">i", 4)

    def int64(self) -> int:
        return self._take(">q", 8)

    def raw(self, size: int) -> bytes:
        self._at += size
        return self._buffer[self._at - size : self._at]

    def string(self) -> str | None:
        size = self.int16()
        return None if size < 0 else self.raw(size).decode()

    def text(self) -> str:
        return self.string() or ""

    def bytes(self) -> bytes:
        size = self.int32()
        return b"" if size < 0 else self.raw(size)

    def partitions(self) -> tuple[TopicPartition, ...]:
        found = []
        for _ in range(self.int32()):
            topic = self.text()
            found += [TopicPartition(topic, self.int32()) for _ in range(self.int32())]
        return tuple(found)


def encode_offset_key(group_id: str, tp: TopicPartition) -> bytes:
    group, topic = group_id.encode(), tp.topic.encode()
    layout = f">hh{len(group)}sh{len(topic)}si"  # struct keeps compiled layouts: the commit of a group costs little
    return struct.pack(layout, OFFSET_COMMIT_KEY, len(group), group, len(topic), topic, tp.partition)


def encode_offset_value(committed: OffsetAndMetadata, commit_timestamp_ms: int, topic_id: str = "") -> bytes:
    text = committed.metadata.encode()
    length = encode_varint(len(text) + 1)
    layout = f">hqi{len(length)}s{len(text)}sq"
    head = struct.pack(
        layout, _OFFSET_VERSION, committed.offset, committed.leader_epoch, length, text, commit_timestamp_ms
    )
    return head + _topic_tag(topic_id)


@lru_cache(maxsize=1 << 14)
def _topic_tag(topic_id: str) -> bytes:
    """The tagged fields: one of number 0 and 16 bytes, or none."""
    return b"\x01\x00\x10" + uuid_bits(topic_id).to_bytes(16, "big") if topic_id else b"\x00"


def decode_offset_value(buffer: bytes) -> OffsetCommitValue:
    version, offset, leader_epoch = struct.unpack_from(">hqi", buffer)
    assert version == _OFFSET_VERSION, f"an offset of version {version}"
    size, at = decode_varint(buffer, 14)
    text = buffer[at : at + size - 1].decode()
    (commit_timestamp_ms,) = struct.unpack_from(">q", buffer, at + size - 1)
    tag = buffer[at + size + 7 :]
    topic_id = uuid_text(int.from_bytes(tag[3:19], "big")) if tag[0] else ""
    return OffsetCommitValue(OffsetAndMetadata(offset, leader_epoch, text), commit_timestamp_ms, topic_id)


def encode_varint(value: int) -> bytes:
    """Kafka's unsigned varint: seven bits a byte, the lowest first."""
    buffer = bytearray()
    while value > 0x7F:
        buffer.append(value & 0x7F | 0x80)
        value >>= 7
    buffer.append(value)
    return bytes(buffer)


def decode_varint(buffer: bytes, at: int) -> tuple[int, int]:
    """The number there, and where it ends."""
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def encode_group_key(group_id: str) -> bytes:
    writer = _Writer()
    writer.int16(GROUP_METADATA_KEY)
    writer.string(group_id)
    return bytes(writer.buffer)


def encode_group_value(value: GroupMetadataValue) -> bytes:
    writer = _Writer()
    writer.int16(_GROUP_VERSION)
    writer.string(value.protocol_type)
    writer.int32(value.generation_id)
    writer.string(value.protocol)
    writer.string(value.leader)
    writer.int64(value.state_timestamp_ms)
    writer.int32(len(value.members))
    for member in value.members:
        writer.string(member.member_id)
        writer.string(member.group_instance_id)
        writer.string(member.client_id)
        writer.string(member.client_host)
        writer.int32(member.rebalance_timeout_ms)
        writer.int32(member.session_timeout_ms)
        writer.bytes(encode_subscription(member.subscription))
        writer.bytes(encode_assignment(member.assignment))
    return bytes(writer.buffer)


def decode_group_value(buffer: bytes) -> GroupMetadataValue:
    reader = _Reader(buffer)
    assert reader.int16() == _GROUP_VERSION
    head = (reader.text(), reader.int32(), reader.string(), reader.string(), reader.int64())
    members = tuple(
        MemberMetadata(
            reader.text(),
            reader.string(),
            reader.text(),
            reader.text(),
            reader.int32(),
            reader.int32(),
            decode_subscription(reader.bytes()),
            decode_assignment(reader.bytes()),
        )
        for _ in range(reader.int32())
    )
    return GroupMetadataValue(*head, members)


def encode_subscription(subscription: Subscription) -> bytes:
    writer = _Writer()
    writer.int16(_SUBSCRIPTION_VERSION)
    writer.int32(len(subscription.topics))
    for topic in subscription.topics:
        writer.string(topic)
    writer.bytes(subscription.user_data)
    writer.partitions(subscription.owned_partitions)
    writer.int32(subscription.generation_id)
    writer.string(subscription.rack_id)
    return bytes(writer.buffer)


def decode_subscription(buffer: bytes) -> Subscription:
    reader = _Reader(buffer)
    assert reader.int16() == _SUBSCRIPTION_VERSION
    topics = tuple(reader.text() for _ in range(reader.int32()))
    user_data = reader.bytes()
    return Subscription(topics, reader.partitions(), reader.int32(), reader.string(), user_data)


def encode_assignment(assignment: Assignment) -> bytes:
    writer = _Writer()
    writer.int16(_ASSIGNMENT_VERSION)
    writer.partitions(assignment.partitions)
    writer.bytes(assignment.user_data)
    return bytes(writer.buffer)


def decode_assignment(buffer: bytes) -> Assignment:
    reader = _Reader(buffer)
    assert reader.int16() == _ASSIGNMENT_VERSION
    return Assignment(reader.partitions(), reader.bytes())


def decode_key(buffer: bytes) -> OffsetCommitKey | GroupMetadataKey | None:
    """The key of one record; None for a kind that this reader does not know."""
    reader = _Reader(buffer)
    version = reader.int16()
    if version in (0, OFFSET_COMMIT_KEY):
        return OffsetCommitKey(reader.text(), TopicPartition(reader.text(), reader.int32()))
    if version == GROUP_METADATA_KEY:
        return GroupMetadataKey(reader.text())
    return None
