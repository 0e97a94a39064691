"""Parked operations and the times at which they give up waiting.

Mirrors:  DelayedOperationPurgatory, DelayedProduce, DelayedFetch.
Rule 1:   an operation ends once: completed by an event, or expired here; ``done`` tells which came first.
Rule 2:   operations with one delay expire in the order in which they were parked, so there is a queue per delay and no heap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from kafkasim.core.model.effects import NEVER_US


class Parked(Protocol):
    """What a purgatory holds."""

    done: bool


P = TypeVar("P", bound=Parked)


class Purgatory(Generic[P]):
    """``park``, then either somebody sets ``done``, or ``take_expired`` hands the operation out."""

    __slots__ = ("_queues", "deadline_us")

    def __init__(self) -> None:
        self._queues: dict[int, deque[tuple[int, P]]] = {}
        #: When the first may expire: exact after ``take_expired``, early (never late) once operations have ended otherwise.
        self.deadline_us = NEVER_US

    def __iter__(self) -> Iterator[P]:
        """Everything that still waits."""
        for queue in self._queues.values():
            for _, operation in queue:
                if not operation.done:
                    yield operation

    def park(self, operation: P, delay_us: int, now_us: int) -> None:
        queue = self._queues.get(delay_us)
        if queue is None:
            queue = self._queues[delay_us] = deque()
        while queue and queue[0][1].done:
            queue.popleft()
        at_us = now_us + delay_us
        queue.append((at_us, operation))
        if at_us < self.deadline_us:
            self.deadline_us = at_us

    def take_expired(self, now_us: int) -> list[P]:
        """Operations whose time is over, each marked done."""
        expired: list[P] = []
        if now_us < self.deadline_us:
            return expired
        earliest_us = NEVER_US
        for delay_us in list(self._queues):
            queue = self._queues[delay_us]
            while queue and (queue[0][1].done or queue[0][0] <= now_us):
                operation = queue.popleft()[1]
                if not operation.done:
                    operation.done = True
                    expired.append(operation)
            if not queue:
                del self._queues[delay_us]
            elif queue[0][0] < earliest_us:
                earliest_us = queue[0][0]
        self.deadline_us = earliest_us
        return expired
