"""Futures that wait in virtual time, by themselves and through the standard library's functions."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest

from kafkasim.confluent_kafka import futures


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """What happens, step by step, while somebody waits."""
    steps: list[Callable[[], Any]] = []

    def wait(predicate: Callable[[], Any], timeout_us: int | None) -> bool:
        while not predicate():
            if not steps:
                return False
            steps.pop(0)()
        return True

    monkeypatch.setattr(futures, "wait_in_virtual_time", wait)
    return steps


def test_result_and_exception_wait(plan: list[Callable[[], Any]]) -> None:
    """The simulation runs until the future is done."""
    one: futures.Future[int] = futures.Future()
    two: futures.Future[int] = futures.Future()
    plan += [lambda: one.set_result(1), lambda: two.set_exception(ValueError("bad"))]
    assert one.result() == 1
    assert str(two.exception(1.0)) == "bad"
    with pytest.raises(ValueError, match="bad"):
        two.result()


def test_time_out(plan: list[Callable[[], Any]]) -> None:
    """If it is not done in time the standard TimeoutError is raised."""
    future: futures.Future[int] = futures.Future()
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.5)


def test_standard_wait_and_as_completed(plan: list[Callable[[], Any]]) -> None:
    """concurrent.futures' own functions work on these futures without a thread."""
    made: list[futures.Future[int]] = [futures.Future() for _ in range(3)]
    plan += [lambda: made[1].set_result(1), lambda: made[0].set_result(0), lambda: made[2].set_result(2)]
    done, rest = concurrent.futures.wait(made, return_when=concurrent.futures.FIRST_COMPLETED)
    assert (done, rest) == ({made[1]}, {made[0], made[2]})
    assert [future.result() for future in concurrent.futures.as_completed(made)] == [1, 0, 2]


def test_executor_works_in_the_calling_task() -> None:
    """What is submitted is over when submit() returns."""
    with futures.ThreadPoolExecutor(max_workers=2) as executor:
        assert executor.submit(sum, [1, 2]).result() == 3
        assert isinstance(executor.submit(int, "x").exception(), ValueError)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(int)
