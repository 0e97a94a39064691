"""A running fingerprint of everything that happened, and optionally the events themselves.

Inputs:   mix(a, b, c, d), four integers an event.
Rule 1:   the fingerprint depends on the values and their order alone: not on addresses, hashing or the process.
Rule 2:   what is kept is chosen at set-up, by installing a function; the default keeps nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

Event: TypeAlias = tuple[int, int, int, int]
Mix: TypeAlias = Callable[[int, int, int, int], None]

_MASK = (1 << 64) - 1
_START = 0x9E3779B97F4A7C15


class Trace:
    """Mixes events into 64 bits; ``keep`` is 0 (none), a ring's length, or -1 for all of them."""

    __slots__ = ("_kept", "_state", "count", "mix")

    def __init__(self, keep: int = 0) -> None:
        self._state = _START
        self.count = 0
        self._kept: list[Event] | deque[Event] = [] if keep <= 0 else deque(maxlen=keep)
        self.mix: Mix = self._mix if keep == 0 else self._mix_and_keep
        """Mix one event in."""

    def fingerprint(self) -> str:
        """Sixteen hex digits: equal if and (nearly) only if the same events came in the same order."""
        return f"{self._state ^ (self.count * _START & _MASK):016x}"

    def events(self) -> Iterable[Event]:
        """The kept events, oldest first."""
        return tuple(self._kept)

    def _mix(self, a: int, b: int, c: int, d: int) -> None:
        # Odd constants keep the four places apart; the folded multiplication makes the order matter. The sum is
        # masked once: Python's integers are as exact, and faster, than masking at each step.
        state = (
            self._state
            + a * 0xC2B2AE3D27D4EB4F
            + b * 0x165667B19E3779F9
            + c * 0x27D4EB2F165667C5
            + d * 0x85EBCA77C2B2AE63
        ) & _MASK
        self._state = (state ^ (state >> 29)) * 0xBF58476D1CE4E5B9 & _MASK
        self.count += 1

    def _mix_and_keep(self, a: int, b: int, c: int, d: int) -> None:
        self._mix(a, b, c, d)
        self._kept.append((a, b, c, d))
