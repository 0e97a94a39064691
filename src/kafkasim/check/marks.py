"""What became of records, a byte for each offset: what checkers of effects remember, in pages that exist where something was told.

Rule 1:   setting a mark costs the same wherever its offset lies, and a page of marks as much memory as a dozen events; what is asked
          of many offsets at once is answered page by page, not offset by offset.
Rule 2:   a larger mark says more: that is what is kept where a record was told of more than once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: 0: nothing was told.
CLEAR, LEFT_OUT, DOUBTFUL, WORKED_ON = range(4)

PAGE_SHIFT = 10
PAGE = 1 << PAGE_SHIFT
_INDEX = PAGE - 1
_EMPTY = bytes(PAGE)
_HOLE = re.compile(rb"\x00+")
_IS_SET = bytes(min(value, 1) for value in range(256))


class Marks:
    """One mark for each offset of a partition."""

    __slots__ = ("pages",)

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}

    def page_of(self, offset: int) -> bytearray:
        """The page of this offset, to write to: ``offset & (PAGE - 1)`` is the place in it."""
        number = offset >> PAGE_SHIFT
        page = self.pages.get(number)
        if page is None:
            page = self.pages[number] = bytearray(PAGE)
        return page

    def at(self, offset: int) -> int:
        page = self.pages.get(offset >> PAGE_SHIFT)
        return CLEAR if page is None else page[offset & _INDEX]

    def raise_to(self, offset: int, mark: int) -> int:
        """Keep the larger mark, and give back what was there before."""
        page, index = self.page_of(offset), offset & _INDEX
        before = page[index]
        if mark > before:
            page[index] = mark
        return before

    def first_hole(self, start: int, stop: int) -> int | None:
        """The first offset in ``[start, stop)`` without a mark."""
        while start < stop:
            number = start >> PAGE_SHIFT
            base = number << PAGE_SHIFT
            page = self.pages.get(number)
            if page is None:
                return start
            found = page.find(CLEAR, start - base, min(stop - base, PAGE))
            if found >= 0:
                return base + found
            start = base + PAGE
        return None

    def holes(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The runs of offsets in ``[start, stop)`` without a mark, as (first, end)."""
        runs: list[tuple[int, int]] = []
        while start < stop:
            number = start >> PAGE_SHIFT
            base = number << PAGE_SHIFT
            low, high = start - base, min(stop - base, PAGE)
            page = self.pages.get(number)
            spans = [(low, high)] if page is None else [found.span() for found in _HOLE.finditer(page, low, high)]
            for first, end in spans:
                if runs and runs[-1][1] == base + first:
                    runs[-1] = (runs[-1][0], base + end)
                else:
                    runs.append((base + first, base + end))
            start = base + PAGE
        return runs

    def count(self, mark: int, start: int, stop: int) -> int:
        """How many offsets in ``[start, stop)`` have this mark, which is not ``CLEAR``."""
        found = 0
        while start < stop:
            number = start >> PAGE_SHIFT
            base = number << PAGE_SHIFT
            page = self.pages.get(number)
            if page is not None:
                found += page.count(mark, start - base, min(stop - base, PAGE))
            start = base + PAGE
        return found

    def lacks(self, others: Iterable[Marks]) -> list[int]:
        """The offsets that have a mark in one of ``others`` and none here, in order."""
        others = list(others)
        missing: list[int] = []
        for number in sorted({number for other in others for number in other.pages}):
            theirs = 0
            for other in others:
                theirs |= _set_bytes(other, number)
            lacking = theirs & ~_set_bytes(self, number)
            if lacking:
                base = number << PAGE_SHIFT
                page = lacking.to_bytes(PAGE, "little")
                missing += [base + index for index, is_set in enumerate(page) if is_set]
        return missing


def _set_bytes(marks: Marks, number: int) -> int:
    """A page as one number: a byte of 1 for each offset that has a mark."""
    return int.from_bytes(marks.pages.get(number, _EMPTY).translate(_IS_SET), "little")
