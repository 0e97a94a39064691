"""Marks by offset: what is asked of many offsets at once is what each offset says."""

from __future__ import annotations

import itertools
import random

from tests.unit.check.histories import draws

from kafkasim.check.marks import CLEAR, PAGE, WORKED_ON, Marks


def some_marks(draw: random.Random, base: int) -> tuple[Marks, dict[int, int]]:
    """Some offsets around the edges of pages, and the same as a dict."""
    marks, known = Marks(), {}
    for _ in range(draw.randrange(30)):
        offset = base + draw.choice([0, PAGE, PAGE * 3]) + draw.randrange(-6, 6)
        mark = draw.randrange(1, WORKED_ON + 1)
        assert marks.raise_to(offset, mark) == known.get(offset, CLEAR)
        known[offset] = max(mark, known.get(offset, CLEAR))
    return marks, known


def test_holes_and_counts_are_what_each_offset_says() -> None:
    """Over spans within a page, across pages and in pages of which nothing was told."""
    for draw in draws("marks"):
        base = draw.choice([0, 1_000, 5_000_000_000])
        marks, known = some_marks(draw, base)
        start = base + draw.choice([0, PAGE, 2 * PAGE]) + draw.randrange(-8, 8)
        stop = start + draw.choice([0, 1, 5, 30, PAGE, 2 * PAGE])
        clear = [offset for offset in range(start, stop) if offset not in known]
        runs = marks.holes(start, stop)
        assert [offset for first, end in runs for offset in range(first, end)] == clear
        assert all(left[1] < right[0] for left, right in itertools.pairwise(runs))
        assert marks.first_hole(start, stop) == (clear[0] if clear else None)
        for mark in range(1, WORKED_ON + 1):
            assert marks.count(mark, start, stop) == sum(known.get(offset) == mark for offset in range(start, stop))
        assert [marks.at(offset) for offset in range(start, stop)] == [known.get(o, CLEAR) for o in range(start, stop)]


def test_what_one_lacks_is_what_the_others_have_besides() -> None:
    """Whichever marks they are."""
    for draw in draws("marks of others"):
        pairs = [some_marks(draw, 0) for _ in range(3)]
        (own, known), *_ = pairs
        besides = sorted({offset for _, other in pairs for offset in other} - known.keys())
        assert own.lacks([marks for marks, _ in pairs]) == besides
