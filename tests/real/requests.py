"""Requests that change a real cluster, or that read one replica's own state, to one broker of choice over a plain socket.

A client library retries, and picks the broker itself; a recording needs the first answer of the broker that was asked.
Each function returns what the broker answered, in the words of the replication traces.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from kafkasim.core.model.errors import ErrorCode
from kafkasim.real.wire import Address, Reader, ask, string, varint

Fields = dict[str, Any]

_TIMEOUT_MS = 20_000
_ANSWER_S = 25.0
_TOPIC, _BROKER = 2, 4
_SET, _DELETE = 0, 1


def error_name(code: int) -> str:
    """Kafka's name of a protocol error."""
    return ErrorCode(code).name


# --- encoding --------------------------------------------------------------------------------------------------------


def _int32s(values: Sequence[int]) -> bytes:
    return struct.pack(f">i{len(values)}i", len(values), *values)


def _nullable(text: str | None) -> bytes:
    return b"\xff\xff" if text is None else string(text)


def _compact(text: str) -> bytes:
    encoded = text.encode()
    return varint(len(encoded) + 1) + encoded


def _compact_int32s(values: Sequence[int] | None) -> bytes:
    return b"\0" if values is None else varint(len(values) + 1) + struct.pack(f">{len(values)}i", *values)


def _signed_varint(value: int) -> bytes:
    return varint((value << 1) ^ (value >> 63))


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _crc32c_table()


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def record_batch(values: Sequence[bytes], timestamp_ms: int) -> bytes:
    """An uncompressed batch of records without keys, of no producer id."""
    records = b""
    for delta, value in enumerate(values):
        body = b"\0" + _signed_varint(0) + _signed_varint(delta) + _signed_varint(-1)
        body += _signed_varint(len(value)) + value + _signed_varint(0)
        records += _signed_varint(len(body)) + body
    count = len(values)
    head = struct.pack(">hiqqqhii", 0, count - 1, timestamp_ms, timestamp_ms, -1, -1, -1, count)
    checked = head + records
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, _crc32c(checked)) + checked


# --- topics and configs ----------------------------------------------------------------------------------------------


def create_topic(to: Address, topic: str, assignment: Sequence[Sequence[int]], configs: Fields) -> Fields:
    """A topic whose replicas are given."""
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">ihi", -1, -1, len(assignment))
    for partition, replicas in enumerate(assignment):
        body += struct.pack(">i", partition) + _int32s(replicas)
    body += struct.pack(">i", len(configs))
    body += b"".join(string(key) + _nullable(_text(value)) for key, value in configs.items())
    answer = ask(to, 19, 4, body + struct.pack(">ib", _TIMEOUT_MS, 0), _ANSWER_S)
    answer.int32()
    return {"error": _first(answer, _named_error)["error"]}


def delete_topic(to: Address, topic: str) -> Fields:
    """The topic goes, its replicas with it."""
    answer = ask(to, 20, 1, struct.pack(">i", 1) + string(topic) + struct.pack(">i", _TIMEOUT_MS), _ANSWER_S)
    answer.int32()
    return _first(answer, lambda part: (part.string(), {"error": error_name(part.int16())})[1])


def create_partitions(to: Address, topic: str, count: int, assignments: Sequence[Sequence[int]] | None) -> Fields:
    """More partitions, on brokers of choice or of the controller's."""
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">i", count)
    if assignments is None:
        body += struct.pack(">i", -1)
    else:
        body += struct.pack(">i", len(assignments)) + b"".join(map(_int32s, assignments))
    answer = ask(to, 37, 0, body + struct.pack(">ib", _TIMEOUT_MS, 0), _ANSWER_S)
    answer.int32()
    return _first(answer, _named_error)


def alter_config(to: Address, resource: str, name: str, key: str, value: object) -> Fields:
    """One key of a topic, of a broker, or (a broker without a name) of the whole cluster; None takes it away."""
    kind = {"topic": _TOPIC, "broker": _BROKER}[resource]
    body = struct.pack(">ib", 1, kind) + string(name) + struct.pack(">i", 1)
    body += string(key) + struct.pack(">b", _DELETE if value is None else _SET) + _nullable(_text(value)) + b"\0"
    answer = ask(to, 44, 0, body, _ANSWER_S)
    answer.int32()
    return _first(answer, lambda part: {"error": error_name(part.int16()), "message": part.string()})


def delete_records(to: Address, topic: str, partition: int, offset: int) -> Fields:
    """Everything below an offset; -1 is the high watermark."""
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">iiqi", 1, partition, offset, _TIMEOUT_MS)
    answer = ask(to, 21, 1, body, _ANSWER_S)
    answer.int32()
    answer.int32()
    answer.string()

    def read(part: Reader) -> Fields:
        part.int32()
        low = part.int64()
        return {"error": error_name(part.int16()), "lowWatermark": low}

    return _first(answer, read)


# --- leaders and replicas --------------------------------------------------------------------------------------------


def elect(to: Address, topic: str, partition: int, kind: str) -> Fields:
    """A preferred or an unclean election of one partition."""
    body = struct.pack(">b", {"preferred": 0, "unclean": 1}[kind]) + struct.pack(">i", 1) + string(topic)
    answer = ask(to, 43, 1, body + _int32s([partition]) + struct.pack(">i", _TIMEOUT_MS), _ANSWER_S)
    answer.int32()
    whole = error_name(answer.int16())
    if answer.int32() == 0:
        return {"error": whole, "message": None}
    answer.string()

    def read(part: Reader) -> Fields:
        part.int32()
        return {"error": error_name(part.int16()), "message": part.string()}

    return _first(answer, read)


def reassign(to: Address, topic: str, partition: int, replicas: Sequence[int] | None) -> Fields:
    """New replicas for a partition; None takes back a reassignment that is under way."""
    body = struct.pack(">i", _TIMEOUT_MS) + varint(2) + _compact(topic) + varint(2) + struct.pack(">i", partition)
    answer = ask(to, 45, 0, body + _compact_int32s(replicas) + b"\0\0\0", _ANSWER_S, flexible=True)
    answer.int32()
    whole = {"error": error_name(answer.int16()), "message": answer.compact_string()}
    if answer.varint() <= 1:
        return whole
    answer.compact_string()
    answer.varint()
    answer.int32()
    return {"error": error_name(answer.int16()), "message": answer.compact_string()}


def list_reassignments(to: Address) -> list[Fields]:
    """All that are under way."""
    answer = ask(to, 46, 0, struct.pack(">i", _TIMEOUT_MS) + b"\0\0", _ANSWER_S, flexible=True)
    answer.int32()
    answer.int16()
    answer.compact_string()
    found = []
    for _ in range(answer.varint() - 1):
        topic = answer.compact_string()
        for _ in range(answer.varint() - 1):
            found.append(
                {
                    "topic": topic,
                    "partitionIndex": answer.int32(),
                    "replicas": answer.compact_int32s(),
                    "addingReplicas": answer.compact_int32s(),
                    "removingReplicas": answer.compact_int32s(),
                }
            )
            answer.tags()
        answer.tags()
    return found


def unregister_broker(to: Address, broker: int) -> Fields:
    """A broker that shall not come back under its registration."""
    answer = ask(to, 64, 0, struct.pack(">i", broker) + b"\0", _ANSWER_S, flexible=True)
    answer.int32()
    return {"error": error_name(answer.int16()), "message": answer.compact_string()}


# --- records ---------------------------------------------------------------------------------------------------------


def produce(
    to: Address, topic: str, partition: int, values: Sequence[bytes], acks: int, timeout_ms: int, timestamp_ms: int
) -> Fields:
    """One batch; with ``acks=0`` no answer comes, so none is awaited."""
    batch = record_batch(values, timestamp_ms)
    body = _nullable(None) + struct.pack(">hii", acks, timeout_ms, 1) + string(topic)
    body += struct.pack(">iii", 1, partition, len(batch)) + batch
    if acks == 0:
        _send_only(lambda: ask(to, 0, 7, body, timeout=0.3))
        return {"error": None}
    answer = ask(to, 0, 7, body, timeout_ms / 1000 + 5)
    answer.int32()
    answer.string()

    def read(part: Reader) -> Fields:
        part.int32()
        error, base_offset = error_name(part.int16()), part.int64()
        part.int64()
        return {"error": error, "baseOffset": base_offset, "logStart": part.int64()}

    return _first(answer, read)


def fetch(
    to: Address, topic: str, partition: int, offset: int, leader_epoch: int = -1, max_bytes: int = 1 << 20
) -> Fields:
    """What a consumer is given there, from followers too; batches as (base offset, leader epoch, count)."""
    body = struct.pack(">iiiibiii", -1, 0, 0, max_bytes, 0, 0, -1, 1) + string(topic)
    body += (
        struct.pack(">iiiqqi", 1, partition, leader_epoch, offset, -1, max_bytes) + struct.pack(">i", 0) + string("")
    )
    answer = ask(to, 1, 11, body, _ANSWER_S)
    answer.int32()
    answer.int16()
    answer.int32()
    answer.int32()
    answer.string()

    def read(part: Reader) -> Fields:
        part.int32()
        error, high_watermark = error_name(part.int16()), part.int64()
        part.int64()
        log_start = part.int64()
        for _ in range(part.int32()):
            part.int64()
            part.int64()
        preferred = part.int32()
        batches = _batches(part.block())
        return {
            "error": error,
            "hw": high_watermark,
            "logStart": log_start,
            "batches": batches,
            "preferredReadReplica": preferred,
        }

    return _first(answer, read)


def _batches(data: bytes) -> list[list[int]]:
    found = []
    at = 0
    while at + 61 <= len(data):
        base_offset, length, leader_epoch = struct.unpack_from(">qii", data, at)
        (count,) = struct.unpack_from(">i", data, at + 57)
        found.append([base_offset, leader_epoch, count])
        at += 12 + length
    return found


def _first(answer: Reader, read: Callable[[Reader], Fields]) -> Fields:
    count = answer.int32()
    assert count == 1, f"one answer was asked for, {count} came"
    return read(answer)


def _named_error(part: Reader) -> Fields:
    part.string()
    return {"error": error_name(part.int16()), "message": part.string()}


def _send_only(send: Callable[[], Reader]) -> None:
    try:
        send()
    except OSError:
        return


def _text(value: object) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
