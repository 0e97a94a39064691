"""Reduction: the smallest part of a list, and the smallest number, for which something still holds.

Inputs:   items or a number, and a predicate (which runs a trial: each call is dear).      Effects: none of its own.
Rule 1:   what is returned holds; the predicate was true of it, or it is what came in.
Rule 2:   the predicate decides when there is no time left: it may raise, and the best so far is with the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def smallest_part(items: Sequence[T], holds: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """Zeller's ddmin: no single item of the result can be left out."""
    current = tuple(items)
    pieces = 2
    while len(current) >= 2:
        size = -(-len(current) // pieces)
        chunks = [current[start : start + size] for start in range(0, len(current), size)]
        smaller = _one_that_holds(current, chunks, holds)
        if smaller is not None:
            pieces = max(2, min(pieces - 1, len(smaller))) if len(smaller) > size else 2
            current = smaller
        elif size == 1:
            return current
        else:
            pieces = min(len(current), 2 * pieces)
    if len(current) == 1 and holds(()):
        return ()
    return current


def _one_that_holds(
    current: tuple[T, ...], chunks: list[tuple[T, ...]], holds: Callable[[tuple[T, ...]], bool]
) -> tuple[T, ...] | None:
    if len(chunks) > 1:
        for chunk in chunks:
            if len(chunk) < len(current) and holds(chunk):
                return chunk
    start = 0
    for chunk in chunks:
        rest = current[:start] + current[start + len(chunk) :]
        start += len(chunk)
        # With two chunks each rest is the other chunk, which was tried.
        if rest and len(chunks) > 2 and holds(rest):
            return rest
    return None


def smallest_number(value: int, low: int, holds: Callable[[int], bool]) -> int:
    """A number for which it holds and that is small: the least where what holds holds for everything above, too."""
    for candidate in _from_below(low, value):
        if holds(candidate):
            return candidate
    below = value // 2
    while below >= low and below > low:
        if holds(below):
            value, below = below, below // 2
        else:
            break
    while value - 1 >= low and holds(value - 1):
        value -= 1
    return value


def _from_below(low: int, value: int) -> Iterator[int]:
    return iter([candidate for candidate in (low, low + 1, low + 2) if candidate < value])
