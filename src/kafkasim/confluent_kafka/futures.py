"""Futures that wait in virtual time: `concurrent.futures` as the client's Python layer gets it.

Mirrors:  concurrent.futures.
Rule 1:   ``result`` and ``exception`` of a future of a simulated client drive the simulation instead of a lock.
Rule 2:   an executor runs what it is given at once, in the calling task: there are no threads in virtual time.
Differs:  work given to an executor is over when ``submit`` returns, so an asyncio loop stands still meanwhile.
"""

from __future__ import annotations

import concurrent.futures as _standard
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    InvalidStateError,
    TimeoutError,
    as_completed,
    wait,
)
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kafkasim.confluent_kafka._shell import wait_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "ThreadPoolExecutor",
    "TimeoutError",
    "as_completed",
    "wait",
]


class _VirtualEvent:
    """A threading.Event that is waited for in virtual time."""

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        return wait_in_virtual_time(self.is_set, None if timeout is None else max(0, int(timeout * 1_000_000)))


class _Waiters(list[Any]):
    """Who waits for a future by ``concurrent.futures.wait`` or ``as_completed``: their event becomes a virtual one."""

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, _VirtualEvent):
            waiter.event = _VirtualEvent()
        super().append(waiter)


class Future(_standard.Future[T], Generic[T]):
    """A future whose owner works in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        # The standard library's wait() and as_completed() hook themselves in here.
        self._waiters: list[Any] = _Waiters()

    def result(self, timeout: float | None = None) -> T:
        """The result, waited for in virtual time."""
        return super().result(self._waited(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception, waited for in virtual time."""
        return super().exception(self._waited(timeout))

    def _waited(self, timeout: float | None) -> float:
        if not self.done():
            wait_in_virtual_time(self.done, None if timeout is None else max(0, int(timeout * 1_000_000)))
        return 0


class ThreadPoolExecutor(Executor):
    """Runs its work in the calling task."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do the work and return its finished future."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exception:
            future.set_exception(exception)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work."""
        self._is_shut_down = True
