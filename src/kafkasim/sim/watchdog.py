"""The watchdog: a thread that notices a task which runs on and on without blocking, and a clock that stands still.

Rule 1:   this is one of three modules that may know the wall clock and threads; it decides nothing in a run that goes well.
"""

from __future__ import annotations

import _thread  # ``threading`` may be replaced where the watchdog is made
import sys
import traceback
import weakref
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafkasim.sim.tasks import Scheduler, Task


class TaskStuck(BaseException):
    """A task ran for too long without blocking. Not an Exception: a retry loop must not swallow it."""

    def __init__(self) -> None:
        super().__init__("the task ran without blocking for longer than the watchdog allows")


class ClockStuck(BaseException):
    """Event after event without any virtual time passing: the simulator's own mistake, told instead of a hang."""

    def __init__(self) -> None:
        super().__init__("virtual time stands still while events go on and on: please report this with its seed")


_EVENTS_AT_ONE_TIME = 500_000
"""So many at the same microsecond, for as long as the watchdog waits, mean nothing but one another."""


class Watchdog:
    """A daemon thread that notices a task which does not come back."""

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        self._scheduler = weakref.ref(scheduler)
        self._seconds = seconds
        self._open = _thread.allocate_lock()
        self._open.acquire()
        _thread.start_new_thread(self._watch, ())

    def close(self) -> None:
        if self._open.locked():
            self._open.release()

    def _watch(self) -> None:
        last = -1
        since = monotonic()
        stood_us, events, stood_since = -1, 0, since
        while not self._open.acquire(True, min(1.0, self._seconds / 4)):
            scheduler = self._scheduler()
            if scheduler is None:
                return
            task, switches = scheduler.current(), scheduler.switches
            if task is None or switches != last:
                last, since = switches, monotonic()
            elif monotonic() - since >= self._seconds:
                self._report(scheduler, task, monotonic() - since)
                since = monotonic()
            kernel = scheduler.kernel
            if kernel.now_us != stood_us:
                stood_us, events, stood_since = kernel.now_us, kernel.events, monotonic()
            elif kernel.events - events > _EVENTS_AT_ONE_TIME and monotonic() - stood_since >= self._seconds:
                self._report_clock(scheduler, kernel.events - events)
                stood_us = -1
            del scheduler, task, kernel  # Hold nothing while asleep.

    def _report(self, scheduler: Scheduler, task: Task, seconds: float) -> None:
        said = (
            f"task {task.name!r} has not blocked for {seconds:.1f} s of wall time, "
            f"at {scheduler.kernel.now_us / 1e6:.6f} virtual seconds"
        )
        # Asked again at the last moment: the exception must hit the task, not the kernel.
        if _tell(scheduler, said) and scheduler.current() is task:
            _raise_in(scheduler.thread_id, TaskStuck)

    def _report_clock(self, scheduler: Scheduler, events: int) -> None:
        said = f"{events:,} events happened at {scheduler.kernel.now_us / 1e6:.6f} virtual seconds and none later"
        if _tell(scheduler, said):
            _raise_in(scheduler.thread_id, ClockStuck)


def _tell(scheduler: Scheduler, said: str) -> bool:
    """Write it with the seed and where the code is; False: nobody is there, or somebody looks at it in a debugger."""
    frame = sys._current_frames().get(scheduler.thread_id)
    if frame is None or _is_debugged(frame):
        return False
    stack = "".join(traceback.format_stack(frame))
    sys.stderr.write(f"kafkasim: {said}, seed {scheduler.seed}\n{stack}")
    return True


def _raise_in(thread_id: int, exception: type[BaseException]) -> None:
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(exception))


def _is_debugged(frame: FrameType | None) -> bool:
    """Is somebody looking at the code in a debugger?"""
    while frame is not None:
        if frame.f_code.co_filename.endswith(("bdb.py", "pdb.py", "pydevd.py")):
            return True
        frame = frame.f_back
    return False
