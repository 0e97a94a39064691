"""Records of consumer groups in ``__consumer_offsets``, byte for byte as Kafka writes them.

Mirrors:  ConsumerGroupMetadata (3), PartitionMetadata (4), MemberMetadata (5), TargetAssignmentMetadata (6), TargetAssignmentMember (7),
          CurrentMemberAssignment (8), RegularExpression (16): keys and values of org.apache.kafka.coordinator.group.generated.
Rule 1:   a record is one object: the live group replays the object, a new coordinator the object that it reads from the log.
Rule 2:   ``is_tombstone`` records delete what their key names.
Differs:  the metadata hash is another 64-bit hash than Kafka's xxh3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

from kafkasim.core.group.java_order import uuid_bits, uuid_text
from kafkasim.core.group.records import decode_subscription, decode_varint, encode_subscription, encode_varint
from kafkasim.core.model.group_messages import Subscription
from kafkasim.core.model.message import message

#: topic id -> partition -> the epoch in which the member got it.
Epochs: TypeAlias = Mapping[str, Mapping[int, int]]

NO_EPOCHS: Epochs = {}

#: (key, value) of one record; value None is a tombstone.
KeyValue: TypeAlias = tuple[bytes, bytes | None]


@message
class ClassicMemberMetadata:
    """What a group keeps of a member that speaks the classic protocol."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, Subscription], ...]


@message
class GroupEpochRecord:
    KEY: ClassVar[int] = 3

    group_id: str
    epoch: int = -1
    metadata_hash: int = 0
    is_tombstone: bool = False


@message
class SubscriptionMetadataRecord:
    """Written before 4.1; since then only deleted, together with its group."""

    KEY: ClassVar[int] = 4

    group_id: str
    is_tombstone: bool = True


@message
class MemberRecord:
    KEY: ClassVar[int] = 5

    group_id: str
    member_id: str
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topic_names: tuple[str, ...] = ()
    topic_regex: str | None = None
    rebalance_timeout_ms: int = -1
    server_assignor: str | None = None
    classic: ClassicMemberMetadata | None = None
    is_tombstone: bool = False


@message
class TargetEpochRecord:
    KEY: ClassVar[int] = 6

    group_id: str
    assignment_epoch: int = -1
    timestamp_ms: int = 0
    is_tombstone: bool = False


@message
class TargetMemberRecord:
    KEY: ClassVar[int] = 7

    group_id: str
    member_id: str
    share: Mapping[str, tuple[int, ...]] = {}
    is_tombstone: bool = False


@message
class CurrentAssignmentRecord:
    KEY: ClassVar[int] = 8

    group_id: str
    member_id: str
    member_epoch: int = -1
    previous_epoch: int = -1
    state: int = 0
    assigned: Epochs = NO_EPOCHS
    pending_revocation: Epochs = NO_EPOCHS
    is_tombstone: bool = False


@message
class RegexRecord:
    KEY: ClassVar[int] = 16

    group_id: str
    regex: str
    topics: tuple[str, ...] = ()
    version: int = 0
    timestamp_ms: int = 0
    is_tombstone: bool = False


ConsumerGroupRecord: TypeAlias = (
    "GroupEpochRecord | SubscriptionMetadataRecord | MemberRecord | TargetEpochRecord | TargetMemberRecord"
    " | CurrentAssignmentRecord | RegexRecord"
)


class _Writer:
    """Kafka's flexible types: lengths are unsigned varints, one more than they count; 0 is null."""

    def __init__(self) -> None:
        self.buffer = bytearray(b"\x00\x00")  # the version of every value here is 0

    def varint(self, value: int) -> None:
        self.buffer += encode_varint(value)

    def int32(self, value: int) -> None:
        self.buffer += struct.pack(">i", value)

    def int64(self, value: int) -> None:
        self.buffer += struct.pack(">q", value)

    def string(self, value: str | None) -> None:
        if value is None:
            self.buffer.append(0)
        else:
            self.blob(value.encode())

    def blob(self, value: bytes) -> None:
        self.varint(len(value) + 1)
        self.buffer += value

    def int32s(self, values: tuple[int, ...]) -> None:
        self.varint(len(values) + 1)
        self.buffer += struct.pack(f">{len(values)}i", *values)

    def uuid(self, value: str) -> None:
        self.buffer += uuid_bits(value).to_bytes(16, "big")

    def tags(self, fields: tuple[bytes, ...] = ()) -> None:
        """Tagged fields 0, 1, ... in order."""
        self.varint(len(fields))
        for tag, field in enumerate(fields):
            self.varint(tag)
            self.varint(len(field))
            self.buffer += field


class _Reader:
    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._at = 2

    def varint(self) -> int:
        value, self._at = decode_varint(self._buffer, self._at)
        return value

    def number(self, layout: str) -> int:
        (value,) = struct.unpack_from(layout, self._buffer, self._at)
        self._at += struct.calcsize(layout)
        return int(value)

    def raw(self, size: int) -> bytes:
        self._at += size
        return self._buffer[self._at - size : self._at]

    def string(self) -> str | None:
        size = self.varint()
        return None if size == 0 else self.raw(size - 1).decode()

    def text(self) -> str:
        return self.string() or ""

    def int32s(self) -> tuple[int, ...]:
        count = self.varint() - 1
        return struct.unpack(f">{count}i", self.raw(4 * count))

    def uuid(self) -> str:
        return uuid_text(int.from_bytes(self.raw(16), "big"))

    def tags(self) -> dict[int, _Reader]:
        fields = {}
        for _ in range(self.varint()):
            tag = self.varint()
            fields[tag] = _Reader(b"\x00\x00" + self.raw(self.varint()))
        return fields


# --- values ---------------------------------------------------------------------------------------------------------


def _tagged_int64(value: int) -> tuple[bytes, ...]:
    return (struct.pack(">q", value),) if value else ()


def _write_group(record: GroupEpochRecord, writer: _Writer) -> None:
    writer.int32(record.epoch)
    writer.tags(_tagged_int64(record.metadata_hash))


def _read_group(group_id: str, reader: _Reader) -> GroupEpochRecord:
    epoch, tags = reader.number(">i"), reader.tags()
    return GroupEpochRecord(group_id, epoch, tags[0].number(">q") if 0 in tags else 0)


def _read_nothing(group_id: str, reader: _Reader) -> SubscriptionMetadataRecord:
    return SubscriptionMetadataRecord(group_id)


def _write_member(record: MemberRecord, writer: _Writer) -> None:
    writer.string(record.instance_id)
    writer.string(record.rack_id)
    writer.string(record.client_id)
    writer.string(record.client_host)
    writer.varint(len(record.topic_names) + 1)
    for name in record.topic_names:
        writer.string(name)
    writer.string(record.topic_regex)
    writer.int32(record.rebalance_timeout_ms)
    writer.string(record.server_assignor)
    inner = _Writer()
    inner.buffer.clear()
    if record.classic is None:
        inner.varint(0)
    else:
        inner.varint(1)
        inner.int32(record.classic.session_timeout_ms)
        inner.varint(len(record.classic.protocols) + 1)
        for name, subscription in record.classic.protocols:
            inner.string(name)
            inner.blob(encode_subscription(subscription))
            inner.tags()
        inner.tags()
    writer.tags((bytes(inner.buffer),))


def _read_member(group_id: str, member_id: str, reader: _Reader) -> MemberRecord:
    head = (reader.string(), reader.string(), reader.text(), reader.text())
    names = tuple(reader.text() for _ in range(reader.varint() - 1))
    regex, timeout_ms, assignor = reader.string(), reader.number(">i"), reader.string()
    inner = reader.tags()[0]
    classic = None
    if inner.varint():
        session_timeout_ms = inner.number(">i")
        protocols = []
        for _ in range(inner.varint() - 1):
            name = inner.text()
            protocols.append((name, decode_subscription(inner.raw(inner.varint() - 1))))
            inner.tags()
        classic = ClassicMemberMetadata(session_timeout_ms, tuple(protocols))
    return MemberRecord(group_id, member_id, *head, names, regex, timeout_ms, assignor, classic)


def _write_target_epoch(record: TargetEpochRecord, writer: _Writer) -> None:
    writer.int32(record.assignment_epoch)
    writer.tags(_tagged_int64(record.timestamp_ms))


def _read_target_epoch(group_id: str, reader: _Reader) -> TargetEpochRecord:
    epoch, tags = reader.number(">i"), reader.tags()
    return TargetEpochRecord(group_id, epoch, tags[0].number(">q") if 0 in tags else 0)


def _write_target(record: TargetMemberRecord, writer: _Writer) -> None:
    writer.varint(len(record.share) + 1)
    for topic_id, partitions in record.share.items():
        writer.uuid(topic_id)
        writer.int32s(partitions)
        writer.tags()
    writer.tags()


def _read_target(group_id: str, member_id: str, reader: _Reader) -> TargetMemberRecord:
    share = {}
    for _ in range(reader.varint() - 1):
        topic_id = reader.uuid()
        share[topic_id] = reader.int32s()
        reader.tags()
    return TargetMemberRecord(group_id, member_id, share)


def _write_current(record: CurrentAssignmentRecord, writer: _Writer) -> None:
    writer.int32(record.member_epoch)
    writer.int32(record.previous_epoch)
    writer.buffer.append(record.state)
    for epochs in (record.assigned, record.pending_revocation):
        writer.varint(len(epochs) + 1)
        for topic_id, partitions in epochs.items():
            writer.uuid(topic_id)
            writer.int32s(tuple(partitions))
            inner = _Writer()
            inner.buffer.clear()
            inner.int32s(tuple(partitions.values()))
            writer.tags((bytes(inner.buffer),))
    writer.tags()


def _read_current(group_id: str, member_id: str, reader: _Reader) -> CurrentAssignmentRecord:
    head = (reader.number(">i"), reader.number(">i"), reader.number(">b"))
    return CurrentAssignmentRecord(group_id, member_id, *head, _read_epochs(reader), _read_epochs(reader))


def _read_epochs(reader: _Reader) -> dict[str, dict[int, int]]:
    found = {}
    for _ in range(reader.varint() - 1):
        topic_id, partitions = reader.uuid(), reader.int32s()
        found[topic_id] = dict(zip(partitions, reader.tags()[0].int32s(), strict=True))
    return found


def _write_regex(record: RegexRecord, writer: _Writer) -> None:
    writer.varint(len(record.topics) + 1)
    for name in record.topics:
        writer.string(name)
    writer.int64(record.version)
    writer.int64(record.timestamp_ms)
    writer.tags()


def _read_regex(group_id: str, regex: str, reader: _Reader) -> RegexRecord:
    topics = tuple(reader.text() for _ in range(reader.varint() - 1))
    return RegexRecord(group_id, regex, topics, reader.number(">q"), reader.number(">q"))


# --- keys -----------------------------------------------------------------------------------------------------------

_WRITERS: dict[type[Any], Callable[[Any, _Writer], None]] = {
    GroupEpochRecord: _write_group,
    MemberRecord: _write_member,
    TargetEpochRecord: _write_target_epoch,
    TargetMemberRecord: _write_target,
    CurrentAssignmentRecord: _write_current,
    RegexRecord: _write_regex,
}
#: Key version -> (class, name of the key's second field, reader of the value).
_KINDS: dict[int, tuple[Any, str | None, Callable[..., ConsumerGroupRecord]]] = {
    3: (GroupEpochRecord, None, _read_group),
    4: (SubscriptionMetadataRecord, None, _read_nothing),
    5: (MemberRecord, "member_id", _read_member),
    6: (TargetEpochRecord, None, _read_target_epoch),
    7: (TargetMemberRecord, "member_id", _read_target),
    8: (CurrentAssignmentRecord, "member_id", _read_current),
    16: (RegexRecord, "regex", _read_regex),
}


def encode(record: ConsumerGroupRecord) -> KeyValue:
    kind = type(record)
    field = _KINDS[kind.KEY][1]
    group = record.group_id.encode()
    key = struct.pack(f">hh{len(group)}s", kind.KEY, len(group), group)
    if field is not None:
        named = getattr(record, field).encode()
        key += struct.pack(f">h{len(named)}s", len(named), named)
    if record.is_tombstone:
        return key, None
    writer = _Writer()
    _WRITERS[kind](record, writer)
    return key, bytes(writer.buffer)


def decode(key: bytes, value: bytes | None) -> ConsumerGroupRecord | None:
    """The record of a key and value; None for a kind that is no consumer group's."""
    (version,) = struct.unpack_from(">h", key)
    if version not in _KINDS:
        return None
    kind, field, read = _KINDS[version]
    names = []
    at = 2
    for _ in range(1 if field is None else 2):
        (size,) = struct.unpack_from(">h", key, at)
        names.append(key[at + 2 : at + 2 + size].decode())
        at += 2 + size
    if value is None:
        tombstone: ConsumerGroupRecord = kind(*names, is_tombstone=True)
        return tombstone
    return read(*names, _Reader(value))
