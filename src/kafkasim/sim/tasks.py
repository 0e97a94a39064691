"""Tasks run user code unmodified: blocking code in a greenlet, blocking in virtual time.

Inputs:   spawn, wake, kill, stop, pause, resume, tick.
Effects:  events of the kernel that switch into a greenlet, and back when it blocks.
Rule 1:   one task runs at a time, and only from an event of the kernel; nothing here runs user code in a thread.
Rule 2:   a blocked task has exactly one resumption scheduled or none: whoever disarms its waiter schedules it.
Rule 3:   a killed task runs nothing more, not even ``finally``; a stopped one gets an exception where it blocks.

The same blocking call made outside every task, in a plain test function, drives the kernel until it has its result.

Why killed greenlets are kept: a greenlet that is garbage collected is resumed once more, with ``GreenletExit``, so its
``finally`` blocks would run. Every greenlet is therefore held by this module until its function has returned; a killed
one is held for ever, with what its frames refer to. That is the price of a faithful SIGKILL: a few kilobytes each,
plus the objects of the dead program.
"""

from __future__ import annotations

import itertools
from _thread import get_ident  # ``threading.get_ident`` names the task
from collections.abc import Callable
from typing import Any, NoReturn

from kafkasim.sim import event_loops
from kafkasim.sim.greenlets import Greenlet, greenlet_module
from kafkasim.sim.hosts import Actor, Host
from kafkasim.sim.kernel import Kernel, Timer
from kafkasim.sim.outcomes import Deadlock, TaskAbandoned, TaskKilled, TaskStopped
from kafkasim.sim.watchdog import Watchdog

FRUITLESS_LIMIT_US = 1_000
"""What a fruitless call costs at most."""

BURST_US = 1_000
"""How much virtual time a task may spend on ticks before it must let others run."""

CLOCK_READS_FREE = 32
"""So many readings of the clock in a row cost one microsecond each before they count as a busy wait."""

SLOW_WAKE_UP_US = 50
"""A host slowed by a factor f wakes a task up (f - 1) times this late."""

PATIENCE_US = 24 * 3_600 * 1_000_000
"""A wait without a timeout, outside every task, gives up after so much virtual time."""

_UNWIND_TRIES = 8


_unfinished: dict[int, Greenlet] = {}
"""Every greenlet whose function has not returned, the killed ones for ever: see the module's header."""

_serial = itertools.count(1)


class Task(Actor):
    """User code that runs in virtual time."""

    __slots__ = (
        "_fn",
        "_greenlet",
        "_held",
        "_hub",
        "_loop",
        "_pending",
        "_scheduler",
        "_sleeper",
        "_unwinds",
        "_value",
        "_waiter",
        "_watchers",
        "done",
        "ended_us",
        "exception",
        "host",
        "ident",
        "is_thread",
        "killed",
        "name",
        "on_done",
        "paused",
        "serial",
        "stopped",
    )

    def __init__(self, scheduler: Scheduler, fn: Callable[[], Any], name: str, host: Host) -> None:
        super().__init__()
        self.name = name
        self.host = host
        self.done = self.killed = self.stopped = self.paused = False
        self.is_thread = False
        """Is this a thread that another task of the host has started?"""
        self.ident = 0
        """As ``threading.get_ident`` tells it; 0 until somebody asks."""
        self.on_done: Callable[[Task], None] | None = None
        self.exception: BaseException | None = None
        self.ended_us = -1
        self.serial = next(_serial)
        self.cost_us = int(host.slow_factor)
        self._scheduler = scheduler
        self._fn = fn
        self._value: Any = None
        self._greenlet: Greenlet | None = None
        self._hub: Greenlet | None = None
        self._held = False
        self._loop: Any = None
        self._pending: BaseException | None = None
        self._sleeper = Waiter(scheduler, "sleep")
        self._unwinds = 0
        self._waiter: Waiter | None = None
        self._watchers: list[Waiter] = []

    def __repr__(self) -> str:
        return f"<Task {self.name!r} on {self.host.name!r}: {self.state}>"

    @property
    def running(self) -> bool:
        """Is this the task that runs right now?"""
        return self._scheduler.current() is self

    @property
    def state(self) -> str:
        """One line for people: what the task does."""
        if self.killed:
            return "killed"
        if self.done:
            return "done" if self.exception is None else f"failed with {self.exception!r}"
        if self.running:
            return "running"
        if self._waiter is not None:
            return f"waits for {self._waiter.what}"
        return "paused" if self._held else "ready"

    def result(self, timeout: float | None = None) -> Any:
        """What the task returned; waits for it, re-raises what it raised. Timeout in virtual seconds."""
        if not self.done:
            waiter = Waiter(self._scheduler, f"the result of task {self.name!r}")
            self._watchers.append(waiter)
            if not waiter.wait(None if timeout is None else round(timeout * 1e6)):
                raise TimeoutError(f"task {self.name!r} was not done within {timeout} s")
        self._scheduler.forgive(self)
        if self.killed:
            raise TaskKilled(f"task {self.name!r} was killed")
        if self.exception is not None:
            raise self.exception
        return self._value

    def kill(self) -> None:
        """Nothing more of the task runs, not even ``finally``. Does not return if the task kills itself."""
        if self.done:
            return
        if self.host.owner is self and self.host.alive:
            self.host.kill()
            return
        running = self.running
        self.killed = True
        self._disarm()
        self._finish()
        if running:
            self._switch_out_for_ever()

    def stop(self) -> None:
        """Raise TaskStopped in the task where it blocks (now, if it is blocked)."""
        if self.done:
            return
        self.stopped = True
        if self._greenlet is None:
            self._finish()  # It never began: there is nothing to unwind.
            return
        self._pending = TaskStopped()
        self._interrupt()

    def interrupt(self, exception: BaseException) -> None:
        """Raise ``exception`` in the task where it blocks, as a signal's handler would: KeyboardInterrupt, say."""
        if self.done:
            return
        if self._greenlet is None:
            self._finish()  # It never began: there is nobody to tell.
            return
        self._pending = exception
        self._interrupt()

    def pause(self) -> None:
        """Hold the task's wake-ups until it resumes."""
        self.paused = True
        if self.host.owner is self:
            self.host.pause()
        self.note_pause()

    def resume(self) -> None:
        """Let the task run again; a wake-up that was held happens now."""
        self.paused = False
        if self.host.owner is self:
            self.host.resume()
        self.release()

    def note_pause(self) -> None:
        """A running task is paused at its next call: take its burst away."""
        if self.running:
            self._scheduler.end_burst()

    def release(self) -> None:
        """Schedule the resumption that a pause has held, if nothing holds it any more."""
        if self._held and not self.paused and not self.host.paused:
            self._held = False
            self._scheduler.schedule(self)

    # -- what the scheduler does with a task ---------------------------------------------------

    def enter(self) -> None:
        """Switch into the task; returns when it blocks or ends. Only from an event of the kernel."""
        if self._greenlet is None:
            module = greenlet_module()
            self._hub = module.getcurrent()
            self._greenlet = _unfinished[self.serial] = module.greenlet(self._main)
        self._loop = event_loops.switch(self._greenlet, self._loop)

    def leave(self) -> None:
        """Switch out of the task, to the kernel; raises what was sent to the task meanwhile."""
        assert self._hub is not None
        self._hub.switch()
        if self._pending is not None:
            exception, self._pending = self._pending, None
            raise exception

    def wait_on(self, waiter: Waiter, timeout_us: int | None) -> bool:
        """Block until the waiter is woken (True) or the time is over (False)."""
        scheduler = self._scheduler
        if scheduler.closing:
            self._unwind_again()
        if self._pending is not None:
            exception, self._pending = self._pending, None
            raise exception
        timer: Timer | None = None
        if timeout_us is not None:
            timer = scheduler.kernel.call_after(timeout_us, waiter.expire)
        waiter.task = self
        self._waiter = waiter
        try:
            self.leave()
        finally:
            waiter.task = None
            self._waiter = None
            if timer is not None:
                timer.cancel()
        woken = waiter.woken
        waiter.woken = False
        return woken

    def sleep(self, duration_us: int) -> None:
        """Block for a time; 0 lets everything run that is due now."""
        self.wait_on(self._sleeper, duration_us)

    def abandon(self) -> None:
        """The simulation is over: unwind the task, or bury it if it will not."""
        if self.done:
            return
        if self._greenlet is None or self.is_thread:
            self.kill()
            return
        self._pending = TaskAbandoned()
        self._disarm()
        self.paused = self.host.paused = False
        self._scheduler.run_task(self)
        if not self.done:
            self.kill()

    def _main(self) -> None:
        """The greenlet's function: run the user's, keep its outcome."""
        try:
            self._value = self._fn()
        except TaskStopped as exit_:
            if not self.stopped:
                self.exception = exit_
        except SystemExit as exit_:
            if exit_.code not in (None, 0):
                self.exception = exit_
        except TaskAbandoned:
            self.killed = True
        except KeyboardInterrupt as interrupt:
            self.exception = interrupt
            raise  # The person at the keyboard means the whole run: it goes on in the kernel's caller.
        except BaseException as exception:
            self.exception = exception
        finally:
            _unfinished.pop(self.serial, None)
            self._finish()

    def _finish(self) -> None:
        self.done = True
        self.ended_us = self._scheduler.kernel.now_us
        self._fn = _nothing
        watchers, self._watchers = self._watchers, []
        for waiter in watchers:
            waiter.wake()
        self._scheduler.note_done(self)

    def _interrupt(self) -> None:
        """Wake a blocked task because something was sent to it."""
        if self._disarm():
            self._scheduler.schedule(self)

    def _disarm(self) -> bool:
        """Take the task off its waiter; True if whoever asks must now schedule the resumption."""
        waiter = self._waiter
        if waiter is None or waiter.task is not self:
            return False
        waiter.task = None
        return True

    def _unwind_again(self) -> None:
        self._unwinds += 1
        if self._unwinds > _UNWIND_TRIES:
            self.kill()
        raise TaskAbandoned

    def _switch_out_for_ever(self) -> NoReturn:
        assert self._hub is not None
        while True:
            self._hub.switch()


class Waiter:
    """One place to wait at, and to be woken: what every blocking call is made of.

    A wake that comes first is remembered, and ends the next wait at once.
    """

    __slots__ = ("scheduler", "task", "what", "woken")

    def __init__(self, scheduler: Scheduler, what: str = "something") -> None:
        self.scheduler = scheduler
        self.what = what
        self.woken = False
        self.task: Task | None = None

    def wait(self, timeout_us: int | None = None) -> bool:
        """True when woken, False after the timeout; drives the kernel when called outside every task."""
        if self.woken:
            self.woken = False
            return True
        task = self.scheduler.current()
        if task is None:
            return self.scheduler.drive(self, timeout_us)
        if timeout_us is not None and timeout_us <= 0:
            return False
        task.clock_reads = 0
        return task.wait_on(self, timeout_us)

    def wake(self) -> None:
        """End the wait, or the next one; the waiting task runs in an event of its own, at this time."""
        if self.woken:
            return
        self.woken = True
        task = self.task
        if task is not None:
            self.task = None
            self.scheduler.schedule(task)

    def expire(self) -> None:
        """The timeout has passed; this is already an event, so the task runs in it."""
        task = self.task
        if task is not None:
            self.task = None
            self.scheduler.run_task(task)


class Scheduler:
    """Runs tasks on the kernel, and charges virtual time for busy loops."""

    def __init__(self, kernel: Kernel, *, seed: int = 0, watchdog_seconds: float = 10.0) -> None:
        self.kernel = kernel
        self.seed = seed
        self.watchdog_seconds = watchdog_seconds
        self.patience_us = PATIENCE_US
        self.tasks: list[Task] = []
        """The tasks that are not done."""
        self.failed: list[Task] = []
        """Tasks that ended with an exception which nobody has asked for yet."""
        self.on_first_task: list[Callable[[], None]] = []
        """Run when there is a task and there was none: patches are installed here."""
        self.on_last_task: list[Callable[[], None]] = []
        """Run when the last task is done."""
        self.closing = False
        self.switches = 0
        self.thread_id = get_ident()
        self._outside = Actor()
        self._actor: Actor = self._outside
        self._task: Task | None = None
        self._burst_end_us = 0
        self._watchdog: Watchdog | None = None

    # -- tasks --------------------------------------------------------------------------------

    def spawn(
        self,
        fn: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        host: Host | None = None,
        **kwargs: Any,
    ) -> Task:
        """Start ``fn(*args, **kwargs)`` as a task, by an event at the current time.

        Without a host the task shares the spawning task's, or gets one of its own outside every task.
        """
        if name is None:
            name = getattr(fn, "__name__", "task")
        if host is None:
            host = self._task.host if self._task is not None else Host(name)
        if not host.alive:
            raise RuntimeError(f"host {host.name!r} was killed: it runs no more tasks")
        greenlet_module()  # An import error belongs here, not into an event.
        task = Task(self, lambda: fn(*args, **kwargs), name, host)
        host.tasks.append(task)
        self.tasks.append(task)
        if len(self.tasks) == 1:
            self.thread_id = get_ident()
            for hook in self.on_first_task:
                hook()
        if self._watchdog is None and self.watchdog_seconds > 0:
            self._watchdog = Watchdog(self, self.watchdog_seconds)
        self.schedule(task)
        return task

    def current(self) -> Task | None:
        """The task that runs now, or None outside every task."""
        return self._task

    def waiter(self, what: str = "something") -> Waiter:
        """A new place to wait at; ``what`` names it in a Deadlock."""
        return Waiter(self, what)

    def block(self, waiter: Waiter) -> None:
        """Wait without a timeout."""
        waiter.wait(None)

    def sleep_us(self, duration_us: int) -> None:
        """Let virtual time pass: block the task, or drive the kernel outside every task."""
        self._actor.clock_reads = 0
        if self._task is not None:
            self._task.sleep(duration_us)
        else:
            self.kernel.run_until_us(self.kernel.now_us + duration_us)

    def run_until(self, predicate: Callable[[], object], timeout_us: int | None = None) -> bool:
        """Let virtual time pass until the predicate holds; works inside tasks and outside."""
        kernel = self.kernel
        deadline_us = None if timeout_us is None else kernel.now_us + timeout_us
        if self._task is None:
            return kernel.run_until(predicate, deadline_us)
        while not predicate():
            next_us = kernel.peek_us()
            if deadline_us is not None:
                if kernel.now_us >= deadline_us:
                    return False
                next_us = deadline_us if next_us is None else min(next_us, deadline_us)
            if next_us is None:
                return False
            # Sleep to the next event's time: its own order of insertion puts this after the event itself.
            self._task.sleep(next_us - kernel.now_us)
        return True

    def drive(self, waiter: Waiter, timeout_us: int | None) -> bool:
        """A wait outside every task: run the kernel until the waiter is woken or the time is over."""
        kernel = self.kernel
        self._outside.clock_reads = 0
        if timeout_us is not None:
            kernel.run_until(lambda: waiter.woken, kernel.now_us + max(timeout_us, 0))
        else:
            # No deadline for the kernel: when nothing is left, the clock must not jump to it.
            limit_us = kernel.now_us + self.patience_us
            kernel.run_until(lambda: waiter.woken or kernel.now_us > limit_us)
        woken = waiter.woken
        waiter.woken = False
        if not woken and timeout_us is None:
            raise Deadlock(self._describe_deadlock(waiter))
        return woken

    def forgive(self, task: Task) -> None:
        """Somebody looks at the task's outcome: it no longer counts as a failure that nobody saw."""
        if task in self.failed:
            self.failed.remove(task)

    def close(self, *, unwind: bool = True) -> None:
        """The simulation is over: unwind the tasks that are left (or bury them), and stop the watchdog.

        A task that merely still runs when a test ends is unwound, ``finally`` blocks included, with every blocking
        call in it raising TaskAbandoned: so nothing of it is kept. Killed tasks stay buried.
        """
        assert self._task is None, "a task cannot close its own scheduler"
        self.closing = True
        for task in list(self.tasks):
            if unwind:
                task.abandon()
            else:
                task.kill()
        self.on_first_task.clear()
        self.on_last_task.clear()
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None

    # -- what tasks and waiters call ----------------------------------------------------------

    def schedule(self, task: Task) -> None:
        """Resume a task by an event at the current time (later, if its host is slow)."""
        factor = task.host.slow_factor
        delay_us = 0 if factor == 1.0 else int((factor - 1) * SLOW_WAKE_UP_US)
        self.kernel.post_after(delay_us, self.run_task, (task,))

    def run_task(self, task: Task) -> None:
        """Switch into a task from an event of the kernel."""
        if task.done:
            return
        if task.paused or task.host.paused:
            task._held = True
            return
        if self._task is not None:
            raise RuntimeError(f"task {self._task.name!r} drives the kernel itself: inside a task, sleep or wait")
        self._actor = self._task = task
        self._burst_end_us = self.kernel.now_us + BURST_US
        self.switches += 1
        try:
            task.enter()
        finally:
            self._actor = self._outside
            self._task = None

    def note_done(self, task: Task) -> None:
        """A task has ended in whatever way."""
        self.tasks.remove(task)
        task.host.tasks.remove(task)
        task.host.note_done()
        if task.on_done is not None:
            task.on_done(task)
        if task.exception is not None:
            self.failed.append(task)
        if not self.tasks:
            for hook in self.on_last_task:
                hook()

    # -- the price of busy loops --------------------------------------------------------------

    def tick(self, fruitless: bool = False) -> None:
        """Charge the caller for one call: a microsecond, or more for every fruitless repeat, up to a millisecond."""
        actor = self._actor
        cost_us = actor.cost_us
        if fruitless:
            fruitless_us = actor.fruitless_us
            cost_us *= fruitless_us
            if fruitless_us < FRUITLESS_LIMIT_US:
                actor.fruitless_us = min(fruitless_us * 2, FRUITLESS_LIMIT_US)
        else:
            actor.fruitless_us = 1
            actor.clock_reads = 0
        self._charge(cost_us)

    def tick_clock(self) -> None:
        """Charge the caller for reading the clock: again and again with nothing done, it is a fruitless call."""
        actor = self._actor
        actor.clock_reads += 1
        if actor.clock_reads > CLOCK_READS_FREE:
            self.tick(True)
        else:
            self._charge(actor.cost_us)

    def tick_lock(self) -> None:
        """Charge a task for taking a lock: where it does nothing else again and again, time passes all the same."""
        if self._task is not None:
            self._charge(self._actor.cost_us)

    def end_burst(self) -> None:
        """The running task must yield at its next call."""
        self._burst_end_us = 0

    def _charge(self, cost_us: int) -> None:
        kernel = self.kernel
        until_us = kernel.now_us + cost_us
        task = self._task
        if task is not None:
            # The clock may just move if nobody else is due by then; a task that burns time without blocking must
            # still come up for air, or a caller's predicate would never be asked.
            if until_us > self._burst_end_us or not kernel.advance_to(until_us):
                task.sleep(cost_us)
        elif not kernel.advance_to(until_us) and kernel.depth == 0:
            kernel.run_until_us(until_us)
        # Else an event's own callback reads the clock: it must not run other events, and goes uncharged.

    def _describe_deadlock(self, waiter: Waiter) -> str:
        left = "nothing is scheduled" if not self.kernel.pending() else "nothing that helps happened"
        lines = [f"waiting for {waiter.what} at {self.kernel.now_us / 1e6:.6f} s, but {left}"]
        lines += [f"  task {task.name!r} on {task.host.name!r}: {task.state}" for task in self.tasks]
        lines += [f"  task {task.name!r}: failed with {task.exception!r}" for task in self.failed]
        return "\n".join(lines)


def _nothing() -> None:
    """What a task that is done would run: its function, and all that it holds, may go."""
