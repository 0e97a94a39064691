"""Many deadlines behind one: keys are armed, re-armed and disarmed in O(1); only the earliest is ever looked at.

Rule 1:   moving a deadline later costs one dict write (a session refreshed by a heartbeat); the queue is corrected lazily.
Rule 2:   due keys come in the order of their deadlines, ties in the order in which they were first queued.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

from kafkasim.core.model.effects import NEVER_US

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """``deadline_us`` may be early (a key was re-armed later since), never late."""

    __slots__ = ("_deadlines", "_heap", "_queued", "_sequence")

    def __init__(self) -> None:
        self._deadlines: dict[K, int] = {}
        self._queued: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._sequence = 0

    def __contains__(self, key: K) -> bool:
        return key in self._deadlines

    @property
    def deadline_us(self) -> int:
        return self._heap[0][0] if self._heap else NEVER_US

    def arm(self, key: K, deadline_us: int) -> None:
        self._deadlines[key] = deadline_us
        queued = self._queued.get(key)
        if queued is None or deadline_us < queued:
            self._queued[key] = deadline_us
            self._sequence += 1
            heappush(self._heap, (deadline_us, self._sequence, key))

    def disarm(self, key: K) -> None:
        self._deadlines.pop(key, None)

    def due(self, now_us: int) -> Iterator[K]:
        """Keys whose time has come, each disarmed as it is yielded."""
        heap = self._heap
        while heap and heap[0][0] <= now_us:
            queued_us, _, key = heappop(heap)
            if self._queued.get(key) != queued_us:
                continue
            del self._queued[key]
            deadline_us = self._deadlines.get(key)
            if deadline_us is None:
                continue
            if deadline_us > now_us:
                self.arm(key, deadline_us)
                continue
            del self._deadlines[key]
            yield key
