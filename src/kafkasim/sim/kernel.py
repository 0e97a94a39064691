"""The event queue and the clock: SimPy's environment, counted in integer microseconds.

Inputs:   call_after, call_at, post_after, post_at, process.
Effects:  the callback of an event, run at its time.
Rule 1:   this is the only module that imports simpy.
Rule 2:   ties are ordered by time, then priority, then insertion: nothing else decides an order.
Rule 3:   ``now_us`` never moves back, and never past an event that has not run.

A message is one slotted event that satisfies what SimPy asks of an event, so bare callbacks and SimPy's generator
processes share one queue. SimPy's own step looks up callback lists, failure flags and properties; the loops below
do only what a callback needs, and hand everything else to the slow path.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from heapq import heapify, heappop, heappush
from typing import Any, ClassVar

import simpy
from simpy.events import NORMAL

FOREVER_US = 1 << 62
"""Later than everything: the horizon of a run without a deadline."""

_COMPACT_ABOVE = 64


class Call:
    """One scheduled callback: the event of the hot path."""

    __slots__ = ("args", "fn")

    _ok: ClassVar[bool] = True
    _value: ClassVar[None] = None

    def __init__(self, fn: Callable[..., object] | None, args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.args = args

    @property
    def callbacks(self) -> list[Callable[[Call], None]]:
        """What SimPy's own ``step`` would run; the kernel's loops do not come here."""
        return [Call.run]

    @callbacks.setter
    def callbacks(self, _value: object) -> None:
        """SimPy marks an event as processed by this; a call has nothing to mark."""

    def run(self) -> None:
        """Run the callback, unless it was cancelled."""
        if self.fn is not None:
            self.fn(*self.args)


class Timer(Call):
    """A callback that can be taken back; it is dropped lazily, when its turn comes."""

    __slots__ = ("at_us", "kernel")

    def __init__(self, kernel: Kernel, at_us: int, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.args = args
        self.at_us = at_us
        self.kernel = kernel

    def cancel(self) -> None:
        """Take the callback back; cancelling twice, or after it ran, does nothing."""
        if self.fn is not None:
            self.fn = None
            self.args = ()
            self.kernel.note_cancelled()


class _Environment(simpy.Environment):
    """SimPy's environment, with the kernel's counter as its clock: one truth about the time."""

    kernel: Kernel

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        super().__init__(0)

    @property
    def _now(self) -> int:
        return self.kernel.now_us

    @_now.setter
    def _now(self, value: float) -> None:
        self.kernel.now_us = int(value)


class Kernel:
    """Virtual time: runs callbacks in the order of their times."""

    __slots__ = (
        "_cancelled",
        "_environment",
        "_next_id",
        "_queue",
        "depth",
        "events",
        "horizon_us",
        "now_us",
    )

    def __init__(self) -> None:
        self.now_us: int = 0
        """Virtual microseconds since the start; read it freely, write it never."""
        self.events: int = 0
        """How many events have run."""
        self.horizon_us: int = FOREVER_US
        """Until when the innermost running loop goes: nobody may move the clock past it."""
        self.depth: int = 0
        """How many loops are running inside one another; 0 outside every event."""
        self._environment = _Environment(self)
        self._queue: list[tuple[int, int, int, Any]] = self._environment._queue  # type: ignore[assignment]
        self._next_id: Callable[[], int] = self._environment._eid.__next__
        self._cancelled = 0

    @property
    def environment(self) -> simpy.Environment:
        """SimPy's environment, for generator processes; its time counts microseconds."""
        return self._environment

    def process(self, generator: Generator[Any, Any, Any]) -> simpy.Process:
        """Start a SimPy generator process: for scenario scripts and slow paths."""
        return self._environment.process(generator)

    # -- scheduling ---------------------------------------------------------------------------

    def post_after(self, delay_us: int, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Schedule ``fn(*args)`` without a handle: the hot path of every message."""
        heappush(self._queue, (self.now_us + delay_us, NORMAL, self._next_id(), Call(fn, args)))

    def post_at(self, at_us: int, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Schedule ``fn(*args)`` at a time that is not in the past, without a handle."""
        heappush(self._queue, (at_us, NORMAL, self._next_id(), Call(fn, args)))

    def call_after(self, delay_us: int, fn: Callable[..., object], *args: Any) -> Timer:
        """Schedule ``fn(*args)`` after a delay."""
        return self.call_at(self.now_us + delay_us, fn, *args)

    def call_at(self, at_us: int, fn: Callable[..., object], *args: Any) -> Timer:
        """Schedule ``fn(*args)`` at a time."""
        assert at_us >= self.now_us, f"{at_us} us is in the past of {self.now_us} us"
        timer = Timer(self, at_us, fn, args)
        heappush(self._queue, (at_us, NORMAL, self._next_id(), timer))
        return timer

    def note_cancelled(self) -> None:
        """A timer was cancelled; sweep the queue once most of it is dead.

        A client cancels a request's timeout at every response: without the sweep the queue would hold them all
        until their times come. The order is total, so a rebuilt heap pops as the old one would have.
        """
        self._cancelled += 1
        if self._cancelled > _COMPACT_ABOVE and self._cancelled * 2 > len(self._queue):
            self._queue[:] = [entry for entry in self._queue if not (type(entry[3]) is Timer and entry[3].fn is None)]
            heapify(self._queue)
            self._cancelled = 0

    def clear(self) -> None:
        """Forget everything that is scheduled: the simulation is over."""
        self._queue.clear()
        self._cancelled = 0

    # -- looking ------------------------------------------------------------------------------

    def peek_us(self) -> int | None:
        """The time of the next event, or None."""
        self._drop_cancelled_head()
        return self._queue[0][0] if self._queue else None

    def pending(self) -> bool:
        """Is there an event left?"""
        return self.peek_us() is not None

    def _drop_cancelled_head(self) -> None:
        queue = self._queue
        while queue and type(queue[0][3]) is Timer and queue[0][3].fn is None:
            heappop(queue)
            self._cancelled -= 1

    # -- running ------------------------------------------------------------------------------

    def advance_to(self, at_us: int) -> bool:
        """Move the clock without running anything; refused if an event is due by then, or the run ends before."""
        queue = self._queue
        if at_us > self.horizon_us or (queue and queue[0][0] <= at_us):
            return False
        if at_us > self.now_us:
            self.now_us = at_us
        return True

    def step(self) -> bool:
        """Run the next event; False if there is none."""
        self._drop_cancelled_head()
        if not self._queue:
            return False
        at_us, _, _, event = heappop(self._queue)
        self.now_us = at_us
        self.depth += 1
        try:
            self._run_event(event)
        finally:
            self.depth -= 1
        return True

    def run_until_us(self, until_us: int) -> None:
        """Run every event due by a time, and set the clock to it."""
        queue = self._queue
        outer_horizon_us = self.horizon_us
        self.horizon_us = until_us
        self.depth += 1
        try:
            while queue and queue[0][0] <= until_us:
                at_us, _, _, event = heappop(queue)
                try:
                    fn = event.fn
                except AttributeError:
                    self.now_us = at_us
                    self._run_event(event)
                    continue
                if fn is None:
                    self._cancelled -= 1
                    continue
                self.now_us = at_us
                self.events += 1
                fn(*event.args)
        finally:
            self.depth -= 1
            self.horizon_us = outer_horizon_us
        if until_us > self.now_us:
            self.now_us = until_us

    def run_until(self, predicate: Callable[[], object], deadline_us: int | None = None) -> bool:
        """Run events until the predicate holds (asked after each one); False at the deadline or if none is left."""
        if predicate():
            return True
        until_us = FOREVER_US if deadline_us is None else deadline_us
        queue = self._queue
        outer_horizon_us = self.horizon_us
        self.horizon_us = until_us
        self.depth += 1
        try:
            while queue and queue[0][0] <= until_us:
                at_us, _, _, event = heappop(queue)
                try:
                    fn = event.fn
                except AttributeError:
                    self.now_us = at_us
                    self._run_event(event)
                else:
                    if fn is None:
                        self._cancelled -= 1
                        continue
                    self.now_us = at_us
                    self.events += 1
                    fn(*event.args)
                if predicate():
                    return True
        finally:
            self.depth -= 1
            self.horizon_us = outer_horizon_us
        if deadline_us is not None and deadline_us > self.now_us:
            self.now_us = deadline_us
        return False

    def _run_event(self, event: Any) -> None:
        """Run one event of any kind; SimPy's own have callback lists, and may fail."""
        self.events += 1
        if isinstance(event, Call):
            event.run()
            return
        callbacks, event.callbacks = event.callbacks, None
        for callback in callbacks:
            callback(event)
        if not event._ok and not hasattr(event, "_defused"):
            raise event._value
