"""Threads and processes of the real handle."""

from __future__ import annotations

import os
import time

import pytest

import kafkasim
from kafkasim.real.cluster import RealCluster, client_config
from kafkasim.real.tasks import ProcessTask, TaskKilled, ThreadTask


def _wait(predicate, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _spin():
    while True:
        time.sleep(0.01)


def _fail():
    raise KeyError("inside")


@pytest.mark.parametrize("kind", [ThreadTask, ProcessTask])
def test_a_result_comes_back(kind) -> None:
    """result() is what the function returned."""
    task = kind(lambda a, b: a + b, (1, 2), "add")
    assert task.result(10) == 3
    assert task.done


@pytest.mark.parametrize("kind", [ThreadTask, ProcessTask])
def test_an_exception_comes_back(kind) -> None:
    """result() raises what the function raised."""
    with pytest.raises(KeyError, match="inside"):
        kind(_fail, (), "fail").result(10)


@pytest.mark.parametrize("kind", [ThreadTask, ProcessTask])
def test_result_has_a_timeout(kind) -> None:
    """A task that runs on raises TimeoutError, and goes on."""
    task = kind(_spin, (), "spin")
    with pytest.raises(TimeoutError, match="spin"):
        task.result(0.1)
    assert not task.done
    task.stop()


@pytest.mark.parametrize("kind", [ThreadTask, ProcessTask])
def test_stop_runs_finally(kind, tmp_path) -> None:
    """stop() raises SystemExit in the task, so that its finally blocks run; the result is None."""
    started, ended = tmp_path / "started", tmp_path / "ended"

    def work():
        try:
            started.touch()
            _spin()
        finally:
            ended.touch()

    task = kind(work, (), "work")
    _wait(started.exists)
    task.stop()
    assert task.result(10) is None
    assert ended.exists()


def test_kill_runs_nothing_more(tmp_path) -> None:
    """kill() of a process: no finally, and no result."""
    started, ended = tmp_path / "started", tmp_path / "ended"

    def work():
        try:
            started.touch()
            _spin()
        finally:
            ended.touch()

    task = ProcessTask(work, (), "work")
    _wait(started.exists)
    task.kill()
    assert task.done
    assert not ended.exists()
    with pytest.raises(TaskKilled):
        task.result()


def test_pause_and_resume_a_process(tmp_path) -> None:
    """A paused process does nothing until it is resumed."""
    beats = tmp_path / "beats"

    def work():
        while True:
            with beats.open("a") as file:
                file.write("x")
            time.sleep(0.01)

    task = ProcessTask(work, (), "beat")
    _wait(lambda: beats.exists() and beats.stat().st_size > 2)
    task.pause()
    time.sleep(0.1)
    size = beats.stat().st_size
    time.sleep(0.2)
    assert beats.stat().st_size == size
    task.resume()
    _wait(lambda: beats.stat().st_size > size)
    task.kill()


@pytest.mark.parametrize("verb", ["kill", "pause", "resume"])
def test_threads_cannot_be_harmed(verb: str) -> None:
    """They raise Unsupported and name the way out."""
    task = ThreadTask(lambda: time.sleep(0.05), (), "short")
    with pytest.raises(kafkasim.Unsupported, match="process=True"):
        getattr(task, verb)()
    task.result(10)


def test_a_process_ends_with_its_handle() -> None:
    """close() of the handle kills the tasks that still run."""
    with RealCluster("127.0.0.1:1") as cluster:
        task = cluster.spawn(_spin, process=True)
        assert not task.done
    assert task.done


def test_time_is_real() -> None:
    """now counts seconds from 0, run_for sleeps, at() calls once its time has come, and passes exceptions on."""
    with RealCluster("127.0.0.1:1") as cluster:
        assert cluster.now < 0.5
        called = []
        cluster.at(0.1, called.append, os.getpid())
        cluster.run_for(0.3)
        assert called == [os.getpid()]
        assert cluster.now >= 0.3
        cluster.at(cluster.now, _fail)
        with pytest.raises(KeyError, match="inside"):
            cluster.run_for(0.3)
        with pytest.raises(TimeoutError):
            cluster.run_until(lambda: False, timeout=0.05)


def test_config_keywords() -> None:
    """Underscores become dots, except in names that hold underscores and in names with dots."""
    assert client_config(
        {"linger_ms": 5, "batch.num_x": 1, "error_cb": print, "on_delivery": print, "acks": "all"}
    ) == {
        "linger.ms": 5,
        "batch.num_x": 1,
        "error_cb": print,
        "on_delivery": print,
        "acks": "all",
    }
