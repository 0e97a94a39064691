"""Random histories for checkers, small enough to be judged by definition, and how many of them.

``KAFKASIM_HISTORIES=20000`` makes a night of it; a few hundred are seen on every run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Delivered
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch, batch_of

HISTORIES = int(os.environ.get("KAFKASIM_HISTORIES", "1500"))
TP = TopicPartition("orders", 0)
ELSEWHERE = TopicPartition("orders", 1)


def draws(label: str) -> Iterator[random.Random]:
    """One source of chance for each history."""
    for number in range(HISTORIES):
        yield random.Random(f"{label} {number}")


def batch(count: int = 1, base_offset: int = -1, epoch: int = 0, keys: list[bytes | None] | None = None) -> RecordBatch:
    return batch_of([b"v"] * count, keys).placed(base_offset, epoch)


def acked(
    at_us: int,
    placed: RecordBatch,
    client: str = "p",
    tp: TopicPartition = TP,
    *,
    start: int = 0,
    stop: int = 0,
    **more: int,
) -> Acked:
    """A delivery report of the whole batch, or of ``[start, stop)``; without an error."""
    stop = stop or placed.count
    fields = {"acks": -1, "idempotent": True, **more}
    return Acked(at_us, client, tp, placed, start, stop, ErrorCode.NONE, placed.base_offset, **fields)  # type: ignore[arg-type]


def failed(
    at_us: int, sent: RecordBatch, error: ErrorCode, persisted: int, client: str = "p", tp: TopicPartition = TP
) -> Acked:
    return Acked(at_us, client, tp, sent, 0, sent.count, error, -1001, -1, True, persisted=persisted)


def given(
    at_us: int,
    placed: RecordBatch,
    client: str = "c",
    group: str = "g",
    tp: TopicPartition = TP,
    *,
    start: int = 0,
    stop: int = 0,
) -> Delivered:
    return Delivered(at_us, client, group, tp, placed, start, stop or placed.count)
