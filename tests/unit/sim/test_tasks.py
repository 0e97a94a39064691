"""Tasks: blocking user code in virtual time, and the ways in which it ends."""

from __future__ import annotations

import gc

import pytest

from kafkasim.sim.hosts import Host
from kafkasim.sim.kernel import Kernel
from kafkasim.sim.outcomes import Deadlock, TaskKilled
from kafkasim.sim.tasks import Scheduler
from kafkasim.sim.watchdog import ClockStuck, TaskStuck


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def scheduler(kernel: Kernel) -> Scheduler:
    return Scheduler(kernel, seed=7, watchdog_seconds=0)


def test_tasks_sleep_side_by_side(kernel: Kernel, scheduler: Scheduler) -> None:
    """Two sleeping tasks cost the time of the longer one, and run in the order of their times."""
    order: list[tuple[str, int]] = []

    def body(name: str, step_us: int) -> str:
        for _ in range(2):
            scheduler.sleep_us(step_us)
            order.append((name, kernel.now_us))
        return name

    slow = scheduler.spawn(body, "slow", step_us=300, name="slow")
    fast = scheduler.spawn(body, "fast", step_us=200, name="fast")
    assert slow.result() == "slow"
    assert order == [("fast", 200), ("slow", 300), ("fast", 400), ("slow", 600)]
    assert fast.done
    assert fast.result() == "fast"
    assert scheduler.tasks == []


def test_wait_times_out_or_is_woken(kernel: Kernel, scheduler: Scheduler) -> None:
    """A wait tells a wake from a timeout, and a wake that comes first is kept for the next wait."""
    waiter = scheduler.waiter("news")
    kernel.call_after(500, waiter.wake)
    seen: list[tuple[bool, int]] = []

    def body() -> None:
        seen.append((waiter.wait(100), kernel.now_us))
        seen.append((waiter.wait(10_000), kernel.now_us))
        waiter.wake()
        seen.append((waiter.wait(100), kernel.now_us))
        seen.append((waiter.wait(0), kernel.now_us))

    scheduler.spawn(body).result()
    assert seen == [(False, 100), (True, 500), (True, 500), (False, 500)]


def test_wait_outside_drives_the_kernel(kernel: Kernel, scheduler: Scheduler) -> None:
    """The same wait in a plain function runs the kernel until it is woken."""
    waiter = scheduler.waiter()
    kernel.call_after(500, waiter.wake)
    kernel.call_after(900, lambda: None)
    assert waiter.wait(None)
    assert kernel.now_us == 500
    assert not waiter.wait(100)
    assert kernel.now_us == 600


def test_deadlock_names_who_waits_for_what(kernel: Kernel, scheduler: Scheduler) -> None:
    """A wait that nothing can end is an error that lists every task."""
    scheduler.spawn(lambda: scheduler.waiter("a message").wait(None), name="billing")
    with pytest.raises(Deadlock, match=r"(?s)waiting for a report.*'billing'.*waits for a message"):
        scheduler.waiter("a report").wait(None)
    assert kernel.now_us == 0
    scheduler.close()


def test_a_wait_that_time_does_not_end_gives_up(kernel: Kernel, scheduler: Scheduler) -> None:
    """Heartbeats for ever are no progress: a wait without a timeout runs out of patience."""

    def beat() -> None:
        kernel.post_after(3_600_000_000, beat, ())

    beat()
    with pytest.raises(Deadlock, match="nothing that helps"):
        scheduler.waiter("a report").wait(None)


def test_kill_runs_nothing_more_not_even_finally(kernel: Kernel, scheduler: Scheduler) -> None:
    """A killed task's finally blocks never run, whoever collects the garbage."""
    seen: list[str] = []
    host = Host("billing")
    host.on_kill.append(lambda: seen.append("sockets closed"))

    def body() -> None:
        try:
            seen.append("started")
            scheduler.sleep_us(1_000)
            seen.append("never")
        finally:
            seen.append("finally")

    task = scheduler.spawn(body, host=host)
    kernel.run_until_us(10)
    host.kill()
    host.kill()
    assert task.done
    assert task.killed
    assert not host.alive
    del body
    with pytest.raises(TaskKilled):
        task.result()
    del task
    gc.collect()
    kernel.run_until_us(10_000)
    assert seen == ["started", "sockets closed"]
    with pytest.raises(RuntimeError, match="was killed"):
        scheduler.spawn(print, host=host)


def test_a_task_can_kill_its_own_host(kernel: Kernel, scheduler: Scheduler) -> None:
    """A kill from inside does not return."""
    seen: list[str] = []
    host = Host("suicidal")

    def body() -> None:
        try:
            host.kill()
            seen.append("returned")
        finally:
            seen.append("finally")

    task = scheduler.spawn(body, host=host)
    kernel.run_until_us(10)
    assert task.killed
    assert seen == []
    assert scheduler.current() is None


def test_stop_unwinds_at_the_blocking_point(kernel: Kernel, scheduler: Scheduler) -> None:
    """A stopped task runs its finally blocks, may still block in them, and counts as no failure."""
    seen: list[int] = []

    def body() -> None:
        try:
            scheduler.waiter("nothing").wait(None)
        finally:
            scheduler.sleep_us(50)
            seen.append(kernel.now_us)

    task = scheduler.spawn(body)
    kernel.run_until_us(100)
    task.stop()
    assert task.result() is None
    assert seen == [150]
    assert scheduler.failed == []


@pytest.mark.parametrize("how", ["stopped", "raises", "returns"])
def test_a_process_that_is_stopped_or_raises_takes_its_clients_along(
    kernel: Kernel, scheduler: Scheduler, how: str
) -> None:
    """Its host dies with its last task, after ``finally`` has run; one that returns leaves to others what it made."""
    seen: list[str] = []
    host = Host("shop")
    host.on_kill.append(lambda: seen.append("sockets"))

    def body() -> None:
        try:
            scheduler.sleep_us(100)
            if how == "raises":
                raise ValueError
        finally:
            scheduler.sleep_us(10)
            seen.append("closed")

    host.owner = scheduler.spawn(body, host=host)
    kernel.run_until_us(50)
    if how == "stopped":
        host.stop()
    kernel.run_until_us(200)
    assert seen == (["closed"] if how == "returns" else ["closed", "sockets"])
    assert host.alive == (how == "returns")


def test_stop_before_the_first_step(kernel: Kernel, scheduler: Scheduler) -> None:
    """A task that is stopped before it began never begins."""
    task = scheduler.spawn(pytest.fail, "began")
    task.stop()
    kernel.run_until_us(10)
    assert task.done
    assert task.exception is None


def test_paused_host_holds_wake_ups(kernel: Kernel, scheduler: Scheduler) -> None:
    """A paused host's tasks run nothing until it resumes, and then at once."""
    seen: list[int] = []
    host = Host("paused")

    def body() -> None:
        for _ in range(3):
            scheduler.sleep_us(100)
            seen.append(kernel.now_us)

    task = scheduler.spawn(body, host=host)
    kernel.run_until_us(150)
    host.pause()
    kernel.run_until_us(1_000)
    assert seen == [100]
    task.pause()
    host.resume()
    kernel.run_until_us(1_500)
    assert seen == [100]
    task.resume()
    task.result()
    assert seen == [100, 1_500, 1_600]


def test_failure_is_kept_until_somebody_asks(kernel: Kernel, scheduler: Scheduler) -> None:
    """An exception of a task does not vanish, and result() raises it."""

    def body() -> None:
        raise ValueError("poison")

    task = scheduler.spawn(body, name="billing")
    kernel.run_until_us(1)
    assert scheduler.failed == [task]
    assert isinstance(task.exception, ValueError)
    with pytest.raises(ValueError, match="poison"):
        task.result()
    assert scheduler.failed == []


def test_result_times_out(scheduler: Scheduler) -> None:
    """result(timeout) counts virtual seconds."""
    task = scheduler.spawn(scheduler.sleep_us, 2_000_000, name="sleeper")
    with pytest.raises(TimeoutError, match="'sleeper'"):
        task.result(1.5)
    assert scheduler.kernel.now_us == 1_500_000
    assert task.result(1) is None


def test_spawn_inside_a_task_shares_its_host(scheduler: Scheduler) -> None:
    """A task's children belong to its host, and a task can wait for another."""

    def child() -> int:
        scheduler.sleep_us(10)
        return 5

    def parent() -> tuple[int, bool]:
        task = scheduler.spawn(child)
        current = scheduler.current()
        assert current is not None
        return task.result(), task.host is current.host

    assert scheduler.spawn(parent).result() == (5, True)


def test_busy_loops_make_time_pass(kernel: Kernel, scheduler: Scheduler) -> None:
    """Fruitless calls double their price up to a millisecond; others' events run in between, on time."""
    ran: list[int] = []
    for at_us in (5, 50_000):
        kernel.call_at(at_us, lambda: ran.append(kernel.now_us))
    calls = 0

    def body() -> None:
        nonlocal calls
        while kernel.now_us < 100_000:
            scheduler.tick(fruitless=True)
            calls += 1
        scheduler.tick()
        before_us = kernel.now_us
        scheduler.tick(fruitless=True)
        assert kernel.now_us == before_us + 1

    scheduler.spawn(body).result()
    assert ran == [5, 50_000]
    assert calls == 109


def test_a_task_that_ticks_for_ever_lets_its_driver_look(scheduler: Scheduler) -> None:
    """A task that never blocks but ticks cannot lock a driver's timeout out."""

    def body() -> None:
        while True:
            scheduler.tick()

    scheduler.spawn(body)
    assert not scheduler.run_until(lambda: False, 5_000)
    assert scheduler.kernel.now_us == 5_000
    scheduler.close()


def test_tick_outside_runs_what_is_due(kernel: Kernel, scheduler: Scheduler) -> None:
    """Outside every task a tick drives the kernel; in an event's callback it runs no other event."""
    ran: list[str] = []
    kernel.call_at(1, ran.append, "due")
    scheduler.tick()
    assert ran == ["due"]
    assert kernel.now_us == 1
    kernel.call_at(5, scheduler.tick)
    kernel.call_at(6, ran.append, "later")
    kernel.run_until_us(5)
    assert ran == ["due"]
    assert kernel.now_us == 5


def test_run_until_inside_a_task(kernel: Kernel, scheduler: Scheduler) -> None:
    """run_until blocks a task as it drives the kernel outside."""
    flags: list[int] = []
    kernel.call_at(700, flags.append, 1)

    def body() -> tuple[bool, int, bool]:
        found = scheduler.run_until(lambda: flags)
        return found, kernel.now_us, scheduler.run_until(lambda: False, 100)

    assert scheduler.spawn(body).result() == (True, 700, False)
    assert kernel.now_us == 800


def test_driving_the_kernel_inside_a_task_is_refused(kernel: Kernel, scheduler: Scheduler) -> None:
    """A task that runs the kernel itself would resume others inside itself."""
    scheduler.spawn(lambda: kernel.run_until_us(1_000), name="driver")
    scheduler.spawn(lambda: None)
    with pytest.raises(RuntimeError, match="drives the kernel"):
        scheduler.tasks[0].result()


def test_close_unwinds_what_is_left(kernel: Kernel, scheduler: Scheduler) -> None:
    """At the end of a simulation tasks unwind, blocking calls fail at once, and stubborn ones are buried."""
    seen: list[str] = []

    def polite() -> None:
        try:
            scheduler.sleep_us(1_000)
        finally:
            seen.append("finally")
            scheduler.sleep_us(1_000)
            seen.append("never")

    def stubborn() -> None:
        while True:
            try:
                scheduler.sleep_us(1_000)
            except BaseException:
                seen.append("again")

    tasks = [scheduler.spawn(polite), scheduler.spawn(stubborn)]
    kernel.run_until_us(10)
    unborn = scheduler.spawn(pytest.fail, "began")
    scheduler.close()
    assert all(task.done for task in (*tasks, unborn))
    assert seen.count("again") < 20
    assert seen[0] == "finally"
    assert "never" not in seen
    assert kernel.now_us == 10


def test_watchdog_stops_a_task_that_never_blocks(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that spins in wall time is told where it is, with the seed, and stopped."""
    scheduler = Scheduler(kernel, seed=4711, watchdog_seconds=0.05)

    def spin_without_end() -> None:
        while True:
            pass

    task = scheduler.spawn(spin_without_end)
    with pytest.raises(TaskStuck):
        task.result()
    scheduler.close()
    printed = capsys.readouterr().err
    assert "seed 4711" in printed
    assert "in spin_without_end" in printed


def test_watchdog_tells_of_a_clock_that_stands_still(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    """Events that beget events at the same time end in an error with the time and the seed, not in a hang."""
    scheduler = Scheduler(kernel, seed=4711, watchdog_seconds=0.05)
    scheduler.spawn(lambda: scheduler.sleep_us(10), name="starts the watchdog")

    def again() -> None:
        kernel.post_after(0, again, ())

    kernel.call_after(5, again)
    with pytest.raises(ClockStuck):
        kernel.run_until_us(100)
    told = capsys.readouterr().err
    assert "at 0.000005 virtual seconds" in told
    assert "seed 4711" in told
    kernel.clear()
    scheduler.close()


def test_slow_host_wakes_late(kernel: Kernel, scheduler: Scheduler) -> None:
    """A slowed host pays more for calls, and its wake-ups come late."""
    host = Host("slow")
    waiter = scheduler.waiter()
    host.slow(3)

    def body() -> tuple[int, int]:
        waiter.wait(None)
        woken_us = kernel.now_us
        scheduler.tick()
        return woken_us, kernel.now_us

    task = scheduler.spawn(body, host=host)
    kernel.call_at(1_000, waiter.wake)
    assert task.result() == (1_100, 1_103)
    host.slow(1)
