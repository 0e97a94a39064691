"""Hosts: the machines and processes that tasks belong to and fail with.

Rule 1:   what happens to a host happens to all its tasks, and (by the hooks) to what else lives on it: a client's sockets.
Rule 2:   a process that was stopped, or raised, is gone with its last task, threads aside; one that returned leaves its clients to
          others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafkasim.sim.tasks import Task


class Actor:
    """Who is charged for calls: a task, or the plain code outside every task."""

    __slots__ = ("clock_reads", "cost_us", "fruitless_us")

    def __init__(self) -> None:
        self.fruitless_us = 1
        self.clock_reads = 0
        self.cost_us = 1


class Host:
    """A machine or process that tasks belong to, and fail with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.slow_factor: float = 1.0
        self.tasks: list[Task] = []
        self.owner: Task | None = None
        """The task that is this host's process: killing, pausing or resuming it does so to the host."""
        self.respawn: Callable[[], None] | None = None
        """Begins what ran here anew, on a host of the same name; None where nobody knows how."""
        self.clock_offset_us = 0
        """How far the wall clock here is from the right time."""
        self.on_kill: list[Callable[[], None]] = []
        """Run once when the host is killed: sockets are closed here."""
        self.on_pause: list[Callable[[], None]] = []
        self.on_resume: list[Callable[[], None]] = []
        """Run when the host stands still and goes on: what runs beside its tasks (a client's own threads) does too."""

    def __repr__(self) -> str:
        return f"<Host {self.name!r}>"

    def kill(self) -> None:
        """SIGKILL: nothing more of the host's tasks runs. Does not return if called by one of them."""
        if not self.alive:
            return
        self.alive = False
        own: Task | None = None
        for task in list(self.tasks):
            if task.running:
                own = task
            else:
                task.kill()
        for hook in list(self.on_kill):
            hook()
        if own is not None:
            own.kill()

    def stop(self) -> None:
        """SIGTERM: every task gets TaskStopped where it blocks; threads do not, as signals go to a process's main thread."""
        for task in list(self.tasks):
            if not task.is_thread:
                task.stop()

    def note_done(self) -> None:
        """A process that was stopped, or died of an exception, is gone with its last task: so are the clients that it did not close."""
        owner = self.owner
        is_over = owner is not None and owner.done and (owner.stopped or owner.exception is not None)
        if is_over and all(task.is_thread for task in self.tasks):
            self.kill()

    def pause(self) -> None:
        """SIGSTOP, or a long garbage collection: wake-ups are held until the host resumes."""
        self.paused = True
        for hook in list(self.on_pause):
            hook()
        for task in self.tasks:
            task.note_pause()

    def resume(self) -> None:
        """SIGCONT: what was held runs now, in the order of the tasks."""
        self.paused = False
        for hook in list(self.on_resume):
            hook()
        for task in list(self.tasks):
            task.release()

    def slow(self, factor: float) -> None:
        """Make calls cost ``factor`` times as much, and wake-ups late; 1 undoes it."""
        assert factor >= 1, "a host can be slowed, not sped up"
        self.slow_factor = factor
        for task in self.tasks:
            task.cost_us = int(factor)
