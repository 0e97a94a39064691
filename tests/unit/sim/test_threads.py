"""Threads, locks, pools and event loops of user code, in virtual time."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Lock

import pytest

import kafkasim

OUTSIDE: queue.Queue[str] = queue.Queue()
"""Made at import, before there was any virtual time."""


@pytest.fixture
def cluster() -> Iterator[kafkasim.Cluster]:
    with kafkasim.Cluster(brokers=1) as cluster:
        yield cluster


def test_a_thread_is_a_task_of_its_host(cluster: kafkasim.Cluster) -> None:
    """It sleeps, waits and is joined in virtual time, and knows its name."""
    told: list[object] = []

    def work() -> None:
        time.sleep(10.0)
        told.append((threading.current_thread().name, time.monotonic() - began))

    def main() -> None:
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join(5.0)
        told.append(thread.is_alive())
        thread.join()
        told.append((thread.is_alive(), threading.current_thread() is threading.main_thread()))

    with cluster.install():
        began = time.monotonic()
        cluster.spawn(main).result(60.0)
    name, elapsed = told[1]  # type: ignore[misc]
    assert told == [True, (name, elapsed), (False, True)]
    assert name == "worker"
    assert 10.0 <= elapsed < 10.1  # type: ignore[has-type]


def test_a_thread_dies_with_its_host(cluster: kafkasim.Cluster) -> None:
    """A killed process takes its threads along, and no name of theirs stays behind."""
    seen: list[int] = []

    def work() -> None:
        while True:
            seen.append(len(seen))
            time.sleep(1.0)

    def main() -> None:
        threading.Thread(target=work).start()
        time.sleep(1000.0)

    before = threading.enumerate()
    task = cluster.spawn(main)
    cluster.run_for(5.5)
    assert len(seen) == 6
    task.kill()
    cluster.run_for(5.0)
    assert len(seen) == 6
    assert threading.enumerate() == before


def test_queues_conditions_and_timeouts(cluster: kafkasim.Cluster) -> None:
    """A queue made at import and one made in the task, an event, a condition, a timer: all wait in virtual time."""
    told: list[object] = []

    def main() -> None:
        inner: queue.Queue[str] = queue.Queue(maxsize=1)
        with pytest.raises(queue.Empty):
            inner.get(timeout=30.0)
        with pytest.raises(queue.Empty):
            OUTSIDE.get(timeout=30.0)
        event = threading.Event()
        assert not event.wait(30.0)
        condition = threading.Condition()
        with condition:
            assert not condition.wait_for(lambda: False, timeout=30.0)
        threading.Timer(7.0, event.set).start()
        assert event.wait()
        pool = threading.Thread(target=lambda: [inner.put(str(n)) for n in range(5)], daemon=True)
        pool.start()
        told.extend(inner.get() for _ in range(5))

    start = cluster.now
    cluster.spawn(main).result(1000.0)
    assert told == ["0", "1", "2", "3", "4"]
    assert 127.0 <= cluster.now - start < 128.0


def test_pools_of_two_tasks_at_once(cluster: kafkasim.Cluster) -> None:
    """Each starts its threads while the other does; results come as they are done."""

    def handle(number: int) -> int:
        time.sleep(float(10 - number))
        return number

    def main() -> list[int]:
        with ThreadPoolExecutor(max_workers=4) as pool:
            return [future.result() for future in as_completed([pool.submit(handle, number) for number in range(4)])]

    tasks = [cluster.spawn(main, name=f"main-{number}") for number in range(2)]
    assert [task.result(60.0) for task in tasks] == [[3, 2, 1, 0], [3, 2, 1, 0]]


def test_a_lock_excludes_tasks_while_they_block(cluster: kafkasim.Cluster) -> None:
    """A plain lock and a reentrant one, imported by name, made in a test's own code and shared by tasks."""
    order: list[str] = []

    def main(name: str, lock: object) -> None:
        with lock:  # type: ignore[attr-defined]
            order.append(f"{name} in")
            time.sleep(1.0)
            order.append(f"{name} out")

    with cluster.install():
        for lock in (Lock(), threading.RLock()):
            tasks = [cluster.spawn(main, name, lock) for name in "ab"]
            for task in tasks:
                task.result(10.0)
            assert order == ["a in", "a out", "b in", "b out"]
            order.clear()


def test_locals_belong_to_threads(cluster: kafkasim.Cluster) -> None:
    """What one thread keeps another does not see."""
    seen: list[bool] = []

    def main() -> None:
        local = threading.local()
        local.connection = 1
        thread = threading.Thread(target=lambda: seen.append(hasattr(local, "connection")))
        thread.start()
        thread.join()
        seen.append(hasattr(local, "connection"))

    cluster.spawn(main).result(10.0)
    assert seen == [False, True]


def test_a_plain_test_starts_threads(cluster: kafkasim.Cluster) -> None:
    """Where the clock is installed, a thread of plain code is a task, too."""
    done: list[float] = []
    with cluster.install():
        thread = threading.Thread(target=lambda: (time.sleep(50.0), done.append(time.monotonic())))
        thread.start()
        began = time.monotonic()
        thread.join()
        assert done[0] - began >= 50.0 - 0.01


def test_event_loops_of_tasks_side_by_side(cluster: kafkasim.Cluster) -> None:
    """Timers, time-outs, executors and calls from other threads; each task has a running loop of its own."""
    told: list[object] = []

    async def work(number: int) -> int:
        await asyncio.sleep(10.0 + number)
        return number

    async def main(name: str) -> None:
        told.append(await asyncio.gather(work(1), work(2)))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 100.0)
        loop = asyncio.get_running_loop()
        told.append(await loop.run_in_executor(None, lambda: (time.sleep(5.0), name)[1]))
        event = asyncio.Event()
        threading.Timer(3.0, lambda: loop.call_soon_threadsafe(event.set)).start()
        await event.wait()

    start = cluster.now
    tasks = [cluster.spawn(lambda name=name: asyncio.run(main(name)), name=name) for name in "ab"]  # type: ignore[misc]
    for task in tasks:
        task.result(500.0)
    assert told == [[1, 2], [1, 2], "a", "b"]
    assert 120.0 <= cluster.now - start < 121.0


def test_asyncio_may_come_late() -> None:
    """It is slow to load, so nothing loads it for those who do without; who imports it in a task has it in virtual time."""
    program = """
import sys, time, kafkasim
with kafkasim.Cluster(brokers=1) as cluster:
    cluster.run_for(1.0)
    print("asyncio" in sys.modules)
    def main():
        import asyncio
        asyncio.run(asyncio.sleep(500.0))
        return time.monotonic()
    began = cluster.now
    cluster.spawn(main).result()
    print(cluster.now - began >= 500.0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("False\nTrue\n", "")


def test_coroutines_of_a_plain_test(cluster: kafkasim.Cluster) -> None:
    """``asyncio.run`` outside every task drives the simulation, tasks with loops of their own included."""

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)

    with cluster.install():
        task = cluster.spawn(lambda: asyncio.run(wait(5.0)))
        start = cluster.now
        asyncio.run(wait(1000.0))
        assert cluster.now - start >= 1000.0
        assert task.done
        assert task.exception is None


def test_afterwards_everything_is_real(cluster: kafkasim.Cluster) -> None:
    """Names are what they were; what was made in virtual time works in real time."""
    names = [(threading, "Lock"), (threading, "RLock"), (threading, "get_ident"), (queue, "SimpleQueue")]
    before = [getattr(module, name) for module, name in names]
    run_once = asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]
    with cluster.install():
        made = threading.Event(), queue.Queue[int](), threading.RLock()
        assert threading.Lock is not before[0]
    assert [getattr(module, name) for module, name in names] == before
    assert asyncio.BaseEventLoop._run_once is run_once  # type: ignore[attr-defined]
    event, numbers, lock = made
    thread = threading.Thread(target=lambda: (lock.acquire(), numbers.put(1), event.set(), lock.release()))
    thread.start()
    assert event.wait(10.0)
    assert numbers.get(timeout=10.0) == 1
    thread.join(10.0)
    with lock:
        assert not thread.is_alive()


def test_a_process_ends_though_threads_of_a_simulation_were_left() -> None:
    """Neither a cluster that nobody closed nor a killed worker keeps the interpreter."""
    program = """
import threading, time, concurrent.futures, kafkasim
cluster = kafkasim.Cluster(brokers=1)
def main():
    pool = concurrent.futures.ThreadPoolExecutor(2)
    pool.submit(time.sleep, 1000)
    threading.Thread(target=time.sleep, args=(1000,)).start()
    time.sleep(1000)
first, second = cluster.spawn(main), cluster.spawn(main)
cluster.run_for(1.0)
first.kill()
print("over")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
