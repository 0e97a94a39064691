"""A running fingerprint of everything that happened, and optionally the events themselves.

Inputs:   mix(a, b, c, d), four integers an event.
Rule 1:   the fingerprint depends on the values and their order alone: not on addresses, hashing or the process.
Rule 2:   what is kept is chosen at set-up, by installing a function; the default keeps nothing.

Events are buffered and folded into one BLAKE2 state a thousand at a time: cheaper than arithmetic on 64-bit values,
which Python does in its long integers, and it mixes better.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

Event: TypeAlias = tuple[int, int, int, int]
Mix: TypeAlias = Callable[[int, int, int, int], None]

_FOLD_AT = 4096
_MASK = (1 << 64) - 1
_SIGN = 1 << 63


class Trace:
    """Mixes events into a fingerprint; ``keep`` is 0 (none), the length of a ring, or -1 for all of them."""

    __slots__ = ("_buffer", "_extend", "_kept", "_state", "checkpoints", "mix")

    def __init__(self, keep: int = 0) -> None:
        self._state = hashlib.blake2b(digest_size=8)
        self._buffer: list[int] = []
        self._extend = self._buffer.extend
        self._kept: deque[Event] = deque(maxlen=None if keep < 0 else keep)
        self.checkpoints: list[tuple[int, str]] = []
        """The first integer of every 1024th event (the time, as everybody mixes it first) and the fingerprint after it."""
        self.mix: Mix = self._mix if keep == 0 else self._mix_and_keep
        """Mix one event of four integers (taken modulo 2**64) in."""

    def fingerprint(self) -> str:
        """Sixteen hex digits: the same if and (all but surely) only if the same events came in the same order."""
        self._fold()
        return self._state.hexdigest()

    def events(self) -> tuple[Event, ...]:
        """The kept events, oldest first."""
        return tuple(self._kept)

    def _mix(self, a: int, b: int, c: int, d: int) -> None:
        self._extend((a, b, c, d))
        if len(self._buffer) >= _FOLD_AT:
            self._fold()
            self.checkpoints.append((a, self._state.hexdigest()[:8]))

    def _mix_and_keep(self, a: int, b: int, c: int, d: int) -> None:
        self._mix(a, b, c, d)
        self._kept.append((a, b, c, d))

    def _fold(self) -> None:
        buffer = self._buffer
        try:
            packed = struct.pack(f"<{len(buffer)}q", *buffer)
        except struct.error:
            # Something does not fit into 64 bits: wrap it as a C integer would.
            wrapped = [((value & _MASK) ^ _SIGN) - _SIGN for value in buffer]
            packed = struct.pack(f"<{len(wrapped)}q", *wrapped)
        self._state.update(packed)
        buffer.clear()
