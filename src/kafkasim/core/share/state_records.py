"""Records of ``__share_group_state``: snapshots, updates and tombstones of the state of share partitions.

Mirrors:  ShareSnapshotKey/Value (0), ShareUpdateKey/Value (1), PersisterStateBatchCombiner.
Rule 1:   every encoder has its decoder beside it; a round trip loses nothing.
Rule 2:   where two batches speak of one offset, the greater delivery count wins, then the greater state.
Differs:  fields are laid out in a fixed order with 32- and 64-bit numbers; Kafka writes them in its compact format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

import attrs

from kafkasim.core.model.ids import NO_EPOCH
from kafkasim.core.model.share_messages import (
    UNINITIALIZED_DELIVERY_COMPLETE_COUNT,
    UNINITIALIZED_START_OFFSET,
    StateBatch,
    TopicIdPartition,
)

SNAPSHOT = 0
UPDATE = 1

_KEY = struct.Struct(">hHHi")
_VALUE = struct.Struct(">iiiqiqqi")
_BATCH = struct.Struct(">qqbh")


@attrs.define(slots=True, eq=True)
class ShareState:
    """What the share coordinator keeps of one share partition. An update has no state epoch of its own (-1)."""

    snapshot_epoch: int = 0
    state_epoch: int = 0
    leader_epoch: int = NO_EPOCH
    start_offset: int = UNINITIALIZED_START_OFFSET
    delivery_complete_count: int = UNINITIALIZED_DELIVERY_COMPLETE_COUNT
    batches: tuple[StateBatch, ...] = ()
    create_ms: int = 0
    write_ms: int = 0


def encode_key(kind: int, group_id: str, tip: TopicIdPartition) -> bytes:
    group, topic = group_id.encode(), tip.topic_id.encode()
    return _KEY.pack(kind, len(group), len(topic), tip.partition) + group + topic


def decode_key(buffer: bytes) -> tuple[int, str, TopicIdPartition]:
    kind, group_size, topic_size, partition = _KEY.unpack_from(buffer)
    at = _KEY.size
    group = buffer[at : at + group_size].decode()
    topic = buffer[at + group_size : at + group_size + topic_size].decode()
    return kind, group, TopicIdPartition(topic, partition)


def encode_value(state: ShareState) -> bytes:
    parts = [
        _VALUE.pack(
            state.snapshot_epoch,
            state.state_epoch,
            state.leader_epoch,
            state.start_offset,
            state.delivery_complete_count,
            state.create_ms,
            state.write_ms,
            len(state.batches),
        )
    ]
    parts += [
        _BATCH.pack(item.first_offset, item.last_offset, item.delivery_state, item.delivery_count)
        for item in state.batches
    ]
    return b"".join(parts)


def decode_value(buffer: bytes) -> ShareState:
    snapshot_epoch, state_epoch, leader_epoch, start, complete, create_ms, write_ms, count = _VALUE.unpack_from(buffer)
    batches = tuple(
        StateBatch(*_BATCH.unpack_from(buffer, _VALUE.size + index * _BATCH.size)) for index in range(count)
    )
    return ShareState(snapshot_epoch, state_epoch, leader_epoch, start, complete, batches, create_ms, write_ms)


def combine(
    batches: Iterable[StateBatch], newer: Iterable[StateBatch], start_offset: int = UNINITIALIZED_START_OFFSET
) -> tuple[StateBatch, ...]:
    """Both lists as one without overlaps, nothing before ``start_offset``, equal neighbours joined."""
    kept: list[tuple[int, int, tuple[int, int]]] = []
    for batch in (*batches, *newer):
        if batch.last_offset >= start_offset:
            first = max(batch.first_offset, start_offset)
            kept.append((first, batch.last_offset, (batch.delivery_count, batch.delivery_state)))
    kept.sort()
    if all(kept[index][1] < kept[index + 1][0] for index in range(len(kept) - 1)):
        pieces = kept
    else:
        pieces = _flattened(kept)
    joined: list[list[int]] = []
    for first, last, (count, state) in pieces:
        if joined and joined[-1][1] + 1 == first and joined[-1][2:] == [state, count]:
            joined[-1][1] = last
        else:
            joined.append([first, last, state, count])
    return tuple(StateBatch(*values) for values in joined)


def _flattened(kept: list[tuple[int, int, tuple[int, int]]]) -> list[tuple[int, int, tuple[int, int]]]:
    """Overlapping runs cut at each other's bounds; the greatest value wins each piece."""
    bounds = sorted({bound for first, last, _ in kept for bound in (first, last + 1)})
    pieces: list[tuple[int, int, tuple[int, int]]] = []
    open_runs: list[tuple[int, int, tuple[int, int]]] = []
    index = 0
    for at, end in pairwise(bounds):
        while index < len(kept) and kept[index][0] <= at:
            open_runs.append(kept[index])
            index += 1
        open_runs = [run for run in open_runs if run[1] >= at]
        if open_runs:
            pieces.append((at, end - 1, max(run[2] for run in open_runs)))
    return pieces
