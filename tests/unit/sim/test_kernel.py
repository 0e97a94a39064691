"""The kernel: order, time, cancelling, and SimPy's processes beside bare callbacks."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from kafkasim.sim.kernel import Call, Kernel


def test_order_is_time_then_insertion() -> None:
    """Events of one time run as they were inserted, whatever their kind."""
    kernel = Kernel()
    seen: list[str] = []
    kernel.post_after(20, seen.append, ("late",))
    kernel.call_after(10, seen.append, "first")
    kernel.post_after(10, seen.append, ("second",))
    kernel.environment.schedule(Call(seen.append, ("third",)), delay=10)  # type: ignore[arg-type]
    kernel.post_at(10, seen.append, ("fourth",))
    kernel.run_until_us(15)
    assert seen == ["first", "second", "third", "fourth"]
    assert (kernel.now_us, kernel.events, kernel.peek_us()) == (15, 4, 20)
    assert kernel.step()
    assert not kernel.step()
    assert seen[-1] == "late"
    assert kernel.now_us == 20


def test_cancelled_timers_leave_no_trace() -> None:
    """A cancelled timer neither runs, nor counts, nor moves the clock."""
    kernel = Kernel()
    timer = kernel.call_after(100, pytest.fail, "ran")
    timer.cancel()
    timer.cancel()
    assert not kernel.pending()
    assert kernel.peek_us() is None
    assert not kernel.run_until(lambda: False)
    assert (kernel.now_us, kernel.events) == (0, 0)


def test_many_cancelled_timers_are_swept() -> None:
    """Timeouts that were taken back do not fill the queue, and the order of the rest is kept."""
    kernel = Kernel()
    seen: list[int] = []
    for number in range(1_000):
        timer = kernel.call_after(30_000_000 + number, pytest.fail, "ran")
        if number % 100 == 0:
            kernel.call_after(1_000 - number, seen.append, number)
        timer.cancel()
    assert len(kernel._queue) < 200
    kernel.run_until_us(40_000_000)
    assert seen == list(range(900, -1, -100))


def test_run_until_asks_after_each_event() -> None:
    """run_until stops at the very event that makes its predicate true, or at its deadline."""
    kernel = Kernel()
    seen: list[int] = []
    for number in range(5):
        kernel.call_after(10, seen.append, number)
    assert kernel.run_until(lambda: len(seen) == 3, 100)
    assert kernel.now_us == 10
    assert seen == [0, 1, 2]
    assert not kernel.run_until(lambda: False, 50)
    assert kernel.now_us == 50
    assert len(seen) == 5


def test_clock_is_not_moved_past_events_or_the_horizon() -> None:
    """advance_to refuses to jump over an event that is due, or past the end of the run."""
    kernel = Kernel()
    seen: list[bool] = []
    kernel.call_at(20, lambda: seen.append(kernel.advance_to(29)))
    kernel.call_at(30, lambda: seen.append(kernel.advance_to(51)))
    assert kernel.advance_to(19)
    assert not kernel.advance_to(20)
    kernel.run_until_us(50)
    assert seen == [True, False]


def test_errors_of_callbacks_reach_the_caller() -> None:
    """A bug in a callback is not swallowed, and the kernel can go on."""
    kernel = Kernel()
    kernel.call_after(1, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        kernel.run_until_us(10)
    assert kernel.depth == 0
    kernel.run_until_us(10)
    assert kernel.now_us == 10


def test_simpy_processes_share_the_queue() -> None:
    """A generator process of SimPy runs beside bare callbacks, under SimPy's own step too."""
    kernel = Kernel()
    seen: list[tuple[str, float]] = []

    def process() -> Generator[Any, Any, None]:
        for _ in range(2):
            yield kernel.environment.timeout(10)
            seen.append(("process", kernel.environment.now))

    kernel.process(process())
    kernel.call_after(15, lambda: seen.append(("callback", kernel.now_us)))
    kernel.call_after(25, lambda: seen.append(("callback", kernel.now_us)))
    kernel.run_until_us(20)
    kernel.environment.run()
    assert seen == [("process", 10), ("callback", 15), ("process", 20), ("callback", 25)]


def test_failed_simpy_process_raises() -> None:
    """A process that fails with nobody waiting for it raises out of the run."""
    kernel = Kernel()

    def process() -> Generator[Any, Any, None]:
        yield kernel.environment.timeout(1)
        raise ValueError("bug")

    kernel.process(process())
    with pytest.raises(ValueError, match="bug"):
        kernel.run_until_us(10)


def test_runs_nest() -> None:
    """A callback may drive the kernel itself: time goes on, and the outer run ends where the inner one got to."""
    kernel = Kernel()
    seen: list[int] = []
    kernel.call_at(10, lambda: kernel.run_until_us(100))
    kernel.call_at(50, lambda: seen.append(kernel.now_us))
    kernel.run_until_us(20)
    assert seen == [50]
    assert kernel.now_us == 100
