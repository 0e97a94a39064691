"""How far a sequence of offset spans is from being in order: the number of pairs of offsets, the larger of which came first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def inversions(spans: Sequence[tuple[int, int]]) -> int:
    """Pairs (earlier, later) with earlier > later, over all offsets of the (first, last) spans. O(pieces log pieces).

    Offsets are cut where some span begins or ends; between two cuts all were given equally often, so a piece is one number in a
    Fenwick tree.
    """
    cuts = sorted({first for first, _ in spans} | {last + 1 for _, last in spans})
    given = [0] * len(cuts)  # How often the offsets of each piece came.
    tree = [0] * (len(cuts) + 1)
    total = found = 0
    for first, last in spans:
        low, high = bisect_left(cuts, first), bisect_left(cuts, last + 1)
        length = last - first + 1
        # Everything that came before and lies above the whole span.
        found += (total - _sum(tree, high)) * length
        above = 0
        for piece in range(high - 1, low - 1, -1):
            size = cuts[piece + 1] - cuts[piece]
            found += above * size + given[piece] * (size * (size - 1) // 2)
            above += given[piece] * size
            given[piece] += 1
        for piece in range(low, high):
            _add(tree, piece, cuts[piece + 1] - cuts[piece])
        total += length
    return found


def _add(tree: list[int], index: int, value: int) -> None:
    index += 1
    while index < len(tree):
        tree[index] += value
        index += index & -index


def _sum(tree: list[int], count: int) -> int:
    """Of the first ``count`` pieces."""
    result = 0
    while count > 0:
        result += tree[count]
        count -= count & -count
    return result
