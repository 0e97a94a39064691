"""Records of share groups in ``__consumer_offsets``.

Mirrors:  ShareGroupMemberMetadata (10), ShareGroupMetadata (11), ShareGroupTargetAssignmentMetadata (12) and -Member (13),
          ShareGroupCurrentMemberAssignment (14), ShareGroupStatePartitionMetadata (15) keys and values.
Rule 1:   a record with ``value`` None is a tombstone; replaying records in order rebuilds the groups.
Differs:  values are JSON; Kafka writes its compact binary format.
"""

from __future__ import annotations

import json
import struct
from typing import Any, TypeAlias

import attrs

MEMBER = 10
GROUP_EPOCH = 11
TARGET_EPOCH = 12
TARGET_MEMBER = 13
CURRENT_MEMBER = 14
STATE_PARTITIONS = 15

KINDS = frozenset((MEMBER, GROUP_EPOCH, TARGET_EPOCH, TARGET_MEMBER, CURRENT_MEMBER, STATE_PARTITIONS))

#: topic id -> partitions, as a value that can be compared and written.
Assigned: TypeAlias = "dict[str, list[int]]"

_KEY = struct.Struct(">hHH")


@attrs.define(slots=True, eq=True)
class ShareRecord:
    """``member_id`` "" where the record is the group's."""

    kind: int
    group_id: str
    member_id: str
    value: dict[str, Any] | None


def encode(record: ShareRecord) -> tuple[bytes, bytes | None]:
    group, member = record.group_id.encode(), record.member_id.encode()
    key = _KEY.pack(record.kind, len(group), len(member)) + group + member
    value = None if record.value is None else json.dumps(record.value, separators=(",", ":")).encode()
    return key, value


def decode(key: bytes, value: bytes | None) -> ShareRecord | None:
    """None: a record of another kind of group."""
    (kind,) = struct.unpack_from(">h", key)
    if kind not in KINDS:
        return None
    _, group_size, member_size = _KEY.unpack_from(key)
    at = _KEY.size
    group = key[at : at + group_size].decode()
    member = key[at + group_size : at + group_size + member_size].decode()
    return ShareRecord(kind, group, member, None if value is None else json.loads(value))
