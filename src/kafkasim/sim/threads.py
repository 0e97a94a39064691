"""Threads and event loops of user code, in virtual time: a thread is a task of its own, a lock is waited for in the simulation.

Mirrors:  threading, queue, concurrent.futures and asyncio of CPython 3.11 and later, of which the lowest calls are replaced: those
          that start a thread, make a lock, name the calling thread and wait for a selector. Everything above is the real library.
Inputs:   which scheduler the caller lives under, if any.      Effects: tasks on the caller's host, waits.
Rule 1:   what is made in virtual time is virtual: threads, locks and what is built of them; what was made before stays real, but
          conditions, queues, events and semaphores work all the same, as each wait of theirs makes a lock.
Rule 2:   threads die with their host, and with the simulation: then nothing of them runs, as of daemon threads.
Differs:  a plain Lock or RLock that was made outside (at the import of a module, say) is the operating system's: a task that waits
          for one which another task holds stands still for good; a thread switches only where it blocks.
"""

from __future__ import annotations

import _thread
import _threading_local
import concurrent.futures.thread as pool_module
import math
import queue as queue_module
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from kafkasim.sim import event_loops
from kafkasim.sim.outcomes import Deadlock

if TYPE_CHECKING:
    from kafkasim.sim.tasks import Scheduler, Task, Waiter

_real_lock = _thread.allocate_lock
_real_ident = _thread.get_ident
_LOOK_US = 100_000
"""How often a waiting event loop looks at files of the operating system."""
_LOOPS = "asyncio.selector_events"
_add: Callable[[list[tuple[Any, str, Any]]], None] | None = None
#: Idents of virtual threads are above those that an operating system gives.
_FIRST_IDENT = 1 << 52


def _nobody() -> Scheduler | None:
    return None


_scheduler: Callable[[], Scheduler | None] = _nobody
"""The scheduler that the calling code lives under; None in real time."""


# -- locks --------------------------------------------------------------------------------------


class VirtualLock:
    """``threading.Lock``, waited for in virtual time; in real time, and from threads of the operating system, a real one."""

    __slots__ = ("__weakref__", "_lock", "_waiters")

    def __init__(self) -> None:
        self._lock = _real_lock()
        self._waiters: list[Waiter] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As that of a lock."""
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        scheduler = _scheduler()
        if scheduler is None:
            return self._acquire_in_real_time(blocking, timeout)
        scheduler.tick_lock()
        if self._lock.acquire(False):
            return True
        return blocking and self._wait(scheduler, None if timeout == -1 else math.ceil(timeout * 1e6))

    def _acquire_in_real_time(self, blocking: bool, timeout: float) -> bool:
        return self._lock.acquire(blocking, timeout)

    def _wait(self, scheduler: Scheduler, timeout_us: int | None) -> bool:
        waiter = scheduler.waiter("a lock")
        until_us = None if timeout_us is None else scheduler.kernel.now_us + timeout_us
        while True:
            self._waiters.append(waiter)
            try:
                waiter.wait(None if until_us is None else max(until_us - scheduler.kernel.now_us, 0))
            finally:
                self._waiters.remove(waiter)
            if self._lock.acquire(False):
                return True
            if until_us is not None and scheduler.kernel.now_us >= until_us:
                return False

    def release(self) -> None:
        """As that of a lock; all that wait for it try again, in the order in which they came."""
        self._lock.release()
        for waiter in tuple(self._waiters):
            waiter.wake()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self._lock = _real_lock()
        self._waiters = []


class _EndOfThread(VirtualLock):
    """Held while a thread runs. At the end of the process nobody waits for one: the simulation that it lived in is over."""

    __slots__ = ()

    def _acquire_in_real_time(self, blocking: bool, timeout: float) -> bool:
        self._lock.acquire(False)
        return True


class _Lent:
    """Stands for a class or function of the library: gives what is virtual in virtual time, and is the real one in all else."""

    def __init__(self, real: Any, make: Callable[..., Any]) -> None:
        self._real = real
        self._make = make
        self.__name__ = getattr(real, "__name__", "lent")
        self.__doc__ = getattr(real, "__doc__", None)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return (self._real if _scheduler() is None else self._make)(*args, **keywords)

    def __mro_entries__(self, bases: object) -> tuple[Any, ...]:
        return (self._real,)

    def __instancecheck__(self, instance: object) -> bool:
        virtual = self._make if isinstance(self._make, type) else ()
        real = self._real if isinstance(self._real, type) else ()
        return isinstance(instance, (virtual, real) if virtual and real else (virtual or real or ()))

    def __getitem__(self, item: object) -> Any:
        return self._real[item]

    def __or__(self, other: Any) -> Any:
        return self._real | other

    def __ror__(self, other: Any) -> Any:
        return other | self._real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _rlock(*args: Any, **keywords: Any) -> Any:
    return cast(Any, threading)._PyRLock(*args, **keywords)


# -- threads ------------------------------------------------------------------------------------


def _get_ident() -> int:
    """The calling thread's; a task that no thread was made for is the main thread of its process."""
    if _add is not None and _LOOPS in sys.modules:
        _replace_event_loops()  # A loop asks for its thread before its first turn.
    scheduler = _scheduler()
    task = None if scheduler is None else scheduler.current()
    if task is None:
        return _real_ident()
    if not task.ident:
        task.ident = _FIRST_IDENT + task.serial
        cast(Any, threading)._active[task.ident] = threading.main_thread()
        task.on_done = _forget
    return task.ident


def _forget(task: Task) -> None:
    cast(Any, threading)._active.pop(task.ident, None)


def _start(scheduler: Scheduler, function: Callable[..., Any], args: Any, keywords: Any) -> Task:
    if scheduler.closing:
        raise RuntimeError("can't start new thread: the simulation is over")
    task = scheduler.spawn(function, *args, name="thread", **keywords)
    task.is_thread = True
    task.ident = _FIRST_IDENT + task.serial
    task.on_done = _forget
    return task


def _start_new_thread(function: Callable[..., Any], args: Any, kwargs: Any = None, /) -> int:
    scheduler = _scheduler()
    if scheduler is None:
        return _thread.start_new_thread(function, args, kwargs or {})
    return _start(scheduler, function, args, kwargs or {}).ident


def _set_sentinel() -> Any:
    """Until CPython 3.12: a lock that is free again when the calling thread is gone."""
    scheduler = _scheduler()
    task = None if scheduler is None else scheduler.current()
    if task is None:
        return cast(Any, _thread)._set_sentinel()
    end = _EndOfThread()

    def over(task: Task) -> None:
        _forget(task)
        if end.locked():
            end.release()

    task.on_done = over
    return end


class VirtualHandle:
    """From CPython 3.13 on: what a ``threading.Thread`` holds of its thread."""

    def __init__(self) -> None:
        self.ident: int | None = None
        self._is_done = False
        self._end = _EndOfThread()

    def start(self, scheduler: Scheduler, function: Callable[..., Any]) -> None:
        self._end.acquire()
        task = _start(scheduler, function, (), {})
        task.on_done = self._over
        self.ident = task.ident

    def _over(self, task: Task) -> None:
        _forget(task)
        self._set_done()

    def _set_done(self) -> None:
        self._is_done = True
        if self._end.locked():
            self._end.release()

    def is_done(self) -> bool:
        return self._is_done

    def join(self, timeout: float | None = None) -> None:
        if not self._is_done and self._end.acquire(True, -1 if timeout is None else max(timeout, 0.0)):
            self._end.release()


def _start_joinable_thread(function: Callable[..., Any], handle: Any = None, daemon: bool = True) -> Any:
    scheduler = _scheduler()
    if scheduler is None or not (handle is None or isinstance(handle, VirtualHandle)):
        return cast(Any, _thread).start_joinable_thread(function, handle=handle, daemon=daemon)
    handle = handle or VirtualHandle()
    handle.start(scheduler, function)
    return handle


# -- event loops --------------------------------------------------------------------------------


class VirtualSelector:
    """An event loop's selector: it waits for calls from other threads, and for the loop's timers, in virtual time.

    Files and sockets of the operating system are looked at before each wait and ten times a virtual second.
    """

    def __init__(self, real: Any) -> None:
        self._real = real
        self._waiter: Waiter | None = None

    def wake(self) -> None:
        """Somebody has called the loop from elsewhere."""
        if self._waiter is not None:
            self._waiter.wake()

    def select(self, timeout: float | None = None) -> list[Any]:
        """What is ready; after the timeout, nothing."""
        scheduler = _scheduler()
        if scheduler is None:
            return cast("list[Any]", self._real.select(timeout))
        kernel = scheduler.kernel
        is_patient = timeout is None and scheduler.current() is not None
        until_us = kernel.now_us + (scheduler.patience_us if timeout is None else math.ceil(timeout * 1e6))
        waiter = self._waiter = scheduler.waiter("an event loop")
        try:
            while True:
                ready: list[Any] = self._real.select(0)
                left_us = until_us - kernel.now_us
                if ready or (left_us <= 0 and not is_patient):
                    break
                waiter.wait(_LOOK_US if is_patient else min(left_us, _LOOK_US))
        finally:
            self._waiter = None
        if not ready and timeout is None:
            raise Deadlock(f"an event loop waited for {scheduler.patience_us / 3.6e9:g} virtual hours, for nothing")
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _event_loops() -> list[tuple[Any, str, Any]]:
    """What is replaced of asyncio, which is loaded."""
    asyncio = sys.modules["asyncio"]
    selecting = sys.modules[_LOOPS].BaseSelectorEventLoop
    real_run_once, real_write_to_self = asyncio.BaseEventLoop._run_once, selecting._write_to_self

    def run_once(loop: Any) -> None:
        """One turn, which waits in virtual time from the first turn on that the loop makes there."""
        if _scheduler() is not None and hasattr(loop, "_selector") and not isinstance(loop._selector, VirtualSelector):
            event_loops.keep_apart(asyncio.events._get_running_loop, asyncio.events._set_running_loop)
            loop._selector = VirtualSelector(loop._selector)
        real_run_once(loop)

    def write_to_self(loop: Any) -> None:
        real_write_to_self(loop)
        if isinstance(loop._selector, VirtualSelector):
            loop._selector.wake()

    return [(asyncio.BaseEventLoop, "_run_once", run_once), (selecting, "_write_to_self", write_to_self)]


def _replace_event_loops() -> None:
    global _add
    if _add is not None:
        add, _add = _add, None
        add(_event_loops())


# -- what is replaced ---------------------------------------------------------------------------


def replacements(
    scheduler: Callable[[], Scheduler | None],
    monotonic: Callable[[], float],
    add: Callable[[list[tuple[Any, str, Any]]], None],
) -> list[tuple[ModuleType, str, Any]]:
    """Where each lives, its name, and by what it is replaced.

    ``monotonic`` is the clock that waits with a timeout look at; ``add`` replaces more, once asyncio is there: it is slow to load.
    """
    global _scheduler, _add
    _scheduler, _add = scheduler, add
    lock = _Lent(threading.Lock, VirtualLock)
    found: list[tuple[Any, str, Any]] = [
        (threading, "Lock", lock),
        (threading, "_allocate_lock", lock),
        (threading, "RLock", _Lent(threading.RLock, _rlock)),
        (threading, "get_ident", _get_ident),
        (threading, "local", _Lent(threading.local, _threading_local.local)),
        (threading, "_time", monotonic),
        (queue_module, "time", monotonic),
        (queue_module, "SimpleQueue", _Lent(queue_module.SimpleQueue, cast(Any, queue_module)._PySimpleQueue)),
        # Held while a pool starts a thread, which blocks: nobody else may stand still with it.
        (pool_module, "_global_shutdown_lock", VirtualLock()),
    ]
    if _LOOPS in sys.modules:
        _add = None
        found += _event_loops()
    if hasattr(threading, "_start_joinable_thread"):
        found.append((threading, "_start_joinable_thread", _start_joinable_thread))
        real_handle = cast(Any, threading)._ThreadHandle
        found.append((threading, "_ThreadHandle", _Lent(real_handle, VirtualHandle)))
    else:
        found.append((threading, "_start_new_thread", _start_new_thread))
        found.append((threading, "_set_sentinel", _set_sentinel))
    return found
