"""User code beside the test, in real time: a thread, or a process where it has to be killable.

Inputs:   a function and its arguments.      Effects: a daemon thread, or a forked process in a group of its own.
Rule 1:   a thread can be stopped but not killed, paused or resumed: those raise Unsupported and say what to do.
Rule 2:   a task's exception belongs to `result`; it never ends the test by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from kafkasim.errors import Unsupported
from kafkasim.real import processes


class TaskKilled(Exception):
    """The task was killed before it returned, so it has no result."""


class Task(Protocol):
    """What `spawn` returns, on either backend."""

    name: str
    looked_at: bool

    @property
    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""

    @property
    def exception(self) -> BaseException | None:
        """What the function raised, where it has ended so."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end; return the function's value or raise what it raised."""

    def kill(self) -> None:
        """End it now; nothing more of it runs."""

    def stop(self) -> None:
        """Ask it to end, as SIGTERM does: SystemExit is raised in it."""

    def pause(self) -> None:
        """Stop it in place, as SIGSTOP does."""

    def resume(self) -> None:
        """Let it go on after `pause`."""


class ThreadTask:
    """A function in a daemon thread."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        self.name = name
        self.looked_at = False  # Somebody asked for the result: a failure is known then.
        self._value: Any = None
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, args=(function, args), name=name, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the function has returned or raised."""
        return not self._thread.is_alive()

    @property
    def exception(self) -> BaseException | None:
        """What the function raised; None while it runs."""
        return self._error

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the function and return its value, or raise its exception."""
        self.looked_at = True
        self._thread.join(timeout)
        if not self.done:
            raise TimeoutError(f"task {self.name!r} was still running after {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value

    def kill(self) -> None:
        """Not possible for a thread."""
        raise Unsupported(self._not_for_threads("kill"))

    def stop(self) -> None:
        """Raise SystemExit in the thread; it takes effect when the thread runs Python again."""
        if self._thread.ident is not None and not self.done:
            self._stopped = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(SystemExit))

    def pause(self) -> None:
        """Not possible for a thread."""
        raise Unsupported(self._not_for_threads("pause"))

    def resume(self) -> None:
        """Not possible for a thread."""
        raise Unsupported(self._not_for_threads("resume"))

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self._value = function(*args)
        except SystemExit as stopped:
            if not self._stopped:
                self._error = stopped
        except BaseException as error:
            self._error = error

    def _not_for_threads(self, verb: str) -> str:
        return (
            f"{verb} of task {self.name!r}: a thread of this process cannot be harmed from outside; "
            "use spawn(..., process=True)"
        )


class ProcessTask:
    """A function in a forked process: what it does to its own memory stays there, its result comes back pickled."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        self.name = name
        self.looked_at = False  # Somebody asked for the result: a failure is known then.
        context = multiprocessing.get_context("fork")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run_in_child, args=(sender, function, args), name=name, daemon=True)
        self._outcome: tuple[str, Any] | None = None
        collects = gc.isenabled()
        gc.disable()  # until the child has frozen what it inherits
        try:
            self._process.start()
        finally:
            if collects:
                gc.enable()
        sender.close()
        assert self._process.pid is not None
        self._pid = self._process.pid
        processes.keep(self._pid)

    @property
    def done(self) -> bool:
        """Whether the process has ended."""
        self._collect(0.0)
        if self._process.is_alive():
            return False
        processes.release(self._pid)
        return True

    @property
    def exception(self) -> BaseException | None:
        """What the function raised; None while it runs, and where it was killed."""
        self._collect(0.0)
        verdict, value = self._outcome or ("", None)
        return value if verdict == "raised" else None

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the process and return what its function returned, or raise what it raised."""
        self.looked_at = True
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.done:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"task {self.name!r} was still running after {timeout} s")
            self._collect(0.05)
        self._collect(0.0)
        if self._outcome is None:
            raise TaskKilled(f"task {self.name!r} ended with status {self._process.exitcode}")
        verdict, value = self._outcome
        if verdict == "raised":
            raise value
        return value

    def kill(self) -> None:
        """SIGKILL; no `finally` runs, its sockets die."""
        self._signal(signal.SIGKILL)
        self._process.join()

    def stop(self) -> None:
        """SIGTERM, which the child turns into SystemExit."""
        self._signal(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _collect(self, wait_s: float) -> None:
        with contextlib.suppress(EOFError, OSError):
            if self._outcome is None and self._receiver.poll(wait_s):
                self._outcome = self._receiver.recv()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.is_alive():
            os.kill(self._pid, number)


def _run_in_child(sender: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    # Clients of the parent that are garbage must not be collected here: the threads that would end them do not exist, and the
    # client library aborts the process.
    gc.freeze()
    gc.enable()
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _raise_system_exit)
    try:
        outcome = ("returned", function(*args))
    except SystemExit:
        outcome = ("returned", None)
    except BaseException as error:
        outcome = ("raised", error)
    try:
        sender.send(outcome)
    except Exception as error:
        sender.send(("raised", RuntimeError(f"the outcome {outcome!r} cannot be sent: {error}")))
    # The parent's other threads (a client library's among them) do not exist here: run none of its exit handlers.
    os._exit(0)


def _raise_system_exit(*_: object) -> None:
    raise SystemExit(143)
