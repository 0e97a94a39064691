"""Sets of indexes of a batch as ranges: (start, stop, start, stop, ...), disjoint and ascending."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Ranges: TypeAlias = "tuple[int, ...]"


def pairs(ranges: Ranges) -> Iterator[tuple[int, int]]:
    return zip(ranges[::2], ranges[1::2])


def size(ranges: Ranges) -> int:
    return sum(ranges[1::2]) - sum(ranges[::2])


def added(ranges: Ranges, start: int, stop: int) -> tuple[Ranges, int]:
    """``ranges`` and ``[start, stop)`` together, and how many of its indexes were there already."""
    known = sum(max(0, min(high, stop) - max(low, start)) for low, high in pairs(ranges))
    before: list[int] = []
    after: list[int] = []
    for low, high in pairs(ranges):
        if high < start:
            before += (low, high)
        elif low > stop:
            after += (low, high)
        else:
            start, stop = min(start, low), max(stop, high)
    return (*before, start, stop, *after), known


def missing(ranges: Ranges, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The parts of ``[start, stop)`` that are not in ``ranges``."""
    for low, high in pairs(ranges):
        if high <= start:
            continue
        if low >= stop:
            break
        if low > start:
            yield start, low
        start = max(start, high)
    if start < stop:
        yield start, stop
