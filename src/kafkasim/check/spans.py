"""Values by offset, kept as spans of neighbours that have the same: what oracles of share groups remember.

Rule 1:   a span costs as much as a record: an oracle that is told of spans works in the number of spans.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Spans(Generic[T]):
    """Disjoint spans in order, each with one value; offsets in no span have none."""

    __slots__ = ("_firsts", "_lasts", "_values")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._values: list[T] = []

    def __iter__(self) -> Iterator[tuple[int, int, T]]:
        return zip(self._firsts, self._lasts, self._values, strict=True)

    def __len__(self) -> int:
        return len(self._firsts)

    def at(self, offset: int) -> T | None:
        index = bisect_right(self._firsts, offset) - 1
        return self._values[index] if index >= 0 and self._lasts[index] >= offset else None

    def reaching(self, offset: int) -> tuple[int, int, T] | None:
        """The span that ``offset`` is in, or else the next one."""
        index = bisect_left(self._lasts, offset)
        return None if index == len(self._lasts) else (self._firsts[index], self._lasts[index], self._values[index])

    def overlapping(self, first: int, last: int) -> list[tuple[int, int, T]]:
        """What is known between the two offsets, both included, and cut to them."""
        low, high = self._touched(first, last)
        return [
            (max(first, self._firsts[index]), min(last, self._lasts[index]), self._values[index])
            for index in range(low, high)
        ]

    def pieces(self, first: int, last: int) -> list[tuple[int, int, T | None]]:
        """The same, and the holes between."""
        found: list[tuple[int, int, T | None]] = []
        at = first
        for begin, end, value in self.overlapping(first, last):
            if begin > at:
                found.append((at, begin - 1, None))
            found.append((begin, end, value))
            at = end + 1
        if at <= last:
            found.append((at, last, None))
        return found

    def put(self, first: int, last: int, value: T) -> None:
        """From now on these offsets have ``value``."""
        firsts, lasts, values = self._firsts, self._lasts, self._values
        if not lasts or first > lasts[-1]:
            firsts.append(first)
            lasts.append(last)
            values.append(value)
            return
        self.remove(first, last)
        index = bisect_left(firsts, first)
        firsts.insert(index, first)
        lasts.insert(index, last)
        values.insert(index, value)

    def remove(self, first: int, last: int) -> None:
        """Forget these offsets."""
        low, high = self._touched(first, last)
        if low == high:
            return
        firsts, lasts, values = self._firsts, self._lasts, self._values
        kept: list[tuple[int, int, T]] = []
        if firsts[low] < first:
            kept.append((firsts[low], first - 1, values[low]))
        if lasts[high - 1] > last:
            kept.append((last + 1, lasts[high - 1], values[high - 1]))
        firsts[low:high] = [span[0] for span in kept]
        lasts[low:high] = [span[1] for span in kept]
        values[low:high] = [span[2] for span in kept]

    def take_below(self, offset: int) -> list[tuple[int, int, T]]:
        """Forget everything before ``offset``, and say what it was."""
        if not self._firsts or self._firsts[0] >= offset:
            return []
        gone = self.overlapping(self._firsts[0], offset - 1)
        self.remove(self._firsts[0], offset - 1)
        return gone

    def _touched(self, first: int, last: int) -> tuple[int, int]:
        """Which spans have an offset between the two: from index, to index."""
        return bisect_left(self._lasts, first), bisect_right(self._firsts, last)


def some(offsets: list[int], most: int = 5) -> str:
    """Offsets for people: the first few."""
    return ", ".join(map(str, offsets[:most])) + (" …" if len(offsets) > most else "")


def span_text(first: int, last: int) -> str:
    return f"offset {first}" if first == last else f"offsets {first}..{last}"
