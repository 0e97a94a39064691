"""A few read-only Kafka requests over a plain socket: what the client library does not show.

Mirrors:  Metadata v1, DescribeTopicPartitions v0 (KIP-966: ELR), ListOffsets v1.
Inputs:   a broker's address.      Effects: one connection a call, closed at its end.
Rule 1:   only reads; no topic is created by asking for it.
Rule 2:   plain text only: a cluster with TLS or SASL is asked through the client library instead.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LATEST_TIMESTAMP = -1
EARLIEST_TIMESTAMP = -2
CONSUMER_REPLICA_ID = -1
# A broker answers a request with this replica id from its own log, up to the log end, leader or not.
DEBUGGING_REPLICA_ID = -2

Address = tuple[str, int]


@dataclass(frozen=True)
class WirePartition:
    """One partition as the brokers' metadata shows it."""

    partition: int
    error_code: int
    leader: int
    leader_epoch: int
    replicas: list[int]
    isr: list[int]
    elr: list[int]
    last_known_elr: list[int]
    offline: list[int]


class Reader:
    """An answer's bytes, taken from the front."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def int8(self) -> int:
        return self._number("b")

    def int16(self) -> int:
        return self._number("h")

    def int32(self) -> int:
        return self._number("i")

    def int64(self) -> int:
        return self._number("q")

    def string(self) -> str | None:
        length = self.int16()
        return None if length < 0 else self._take(length).decode()

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def compact_string(self) -> str | None:
        length = self.varint() - 1
        return None if length < 0 else self._take(length).decode()

    def compact_int32s(self) -> list[int]:
        return [self.int32() for _ in range(max(0, self.varint() - 1))]

    def block(self) -> bytes:
        length = self.int32()
        return self._take(max(0, length))

    def uuid(self) -> bytes:
        return self._take(16)

    def tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self._take(self.varint())

    def _number(self, code: str) -> int:
        (value,) = struct.unpack(">" + code, self._take(struct.calcsize(">" + code)))
        assert isinstance(value, int)
        return value

    def _take(self, count: int) -> bytes:
        taken = self._payload[self._at : self._at + count]
        if len(taken) < count:
            raise ConnectionError("a broker's answer ended too early")
        self._at += count
        return taken


def broker_ids(address: Address, timeout: float = 5.0) -> list[int]:
    """Ids of the brokers that this broker's metadata holds as unfenced."""
    return sorted(brokers(address, timeout))


def brokers(address: Address, timeout: float = 5.0) -> dict[int, Address]:
    """Ids and addresses of the unfenced brokers, in the view of the one asked."""
    answer = ask(address, 3, 1, struct.pack(">i", 0), timeout)
    found: dict[int, Address] = {}
    for _ in range(answer.int32()):
        node_id, host, port = answer.int32(), answer.string(), answer.int32()
        answer.string()  # rack
        found[node_id] = (host or "", port)
    return found


def describe_topic(address: Address, topic: str, timeout: float = 5.0) -> list[WirePartition]:
    """The topic's partitions in order, or an empty list where the broker does not know the topic (yet)."""
    name = topic.encode()
    body = varint(2) + varint(len(name) + 1) + name + b"\0" + struct.pack(">ib", 2000, -1) + b"\0"
    answer = ask(address, 75, 0, body, timeout, flexible=True)
    answer.int32()  # throttle time
    partitions: list[WirePartition] = []
    for _ in range(answer.varint() - 1):
        answer.int16()
        answer.compact_string()
        answer.uuid()
        answer.int8()
        partitions.extend(_read_partition(answer) for _ in range(max(0, answer.varint() - 1)))
        answer.int32()
        answer.tags()
    return sorted(partitions, key=lambda each: each.partition)


def list_offsets(
    address: Address,
    topic: str,
    partitions: Sequence[int],
    timestamp: int,
    replica_id: int = CONSUMER_REPLICA_ID,
    timeout: float = 5.0,
) -> Mapping[int, int | None]:
    """The offset of each partition for a timestamp or a special one; None where the broker answers an error."""
    body = struct.pack(">ii", replica_id, 1) + string(topic) + struct.pack(">i", len(partitions))
    body += b"".join(struct.pack(">iq", partition, timestamp) for partition in partitions)
    answer = ask(address, 2, 1, body, timeout)
    found: dict[int, int | None] = {}
    for _ in range(answer.int32()):
        answer.string()
        for _ in range(answer.int32()):
            partition, error_code = answer.int32(), answer.int16()
            answer.int64()
            offset = answer.int64()
            found[partition] = offset if error_code == 0 else None
    return found


def _read_partition(answer: Reader) -> WirePartition:
    error_code, partition = answer.int16(), answer.int32()
    leader, leader_epoch = answer.int32(), answer.int32()
    replicas, isr = answer.compact_int32s(), answer.compact_int32s()
    elr, last_known_elr = answer.compact_int32s(), answer.compact_int32s()
    offline = answer.compact_int32s()
    answer.tags()
    return WirePartition(partition, error_code, leader, leader_epoch, replicas, isr, elr, last_known_elr, offline)


def ask(
    address: Address,
    api_key: int,
    version: int,
    body: bytes,
    timeout: float,
    flexible: bool = False,
) -> Reader:
    """One request on a connection of its own; the reader stands behind the response's header."""
    header = struct.pack(">hhi", api_key, version, 1) + string("kafkasim") + b"\0" * flexible
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        (length,) = struct.unpack(">i", _receive(connection, 4))
        answer = Reader(_receive(connection, length))
    answer.int32()  # correlation id
    if flexible:
        answer.tags()
    return answer


def _receive(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        if not chunk:
            raise ConnectionError("a broker closed the connection before it answered")
        received += chunk
    return bytes(received)


def string(text: str) -> bytes:
    """A string as versions before the flexible ones write it."""
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def varint(value: int) -> bytes:
    """An unsigned number as flexible versions write lengths."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
