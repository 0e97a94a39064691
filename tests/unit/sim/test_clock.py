"""User code sees virtual time and seeded chance, and afterwards nothing is left of it."""

from __future__ import annotations

import copy
import datetime as datetime_module
import pickle
import random
import subprocess
import sys
import threading
import time
import types
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from time import monotonic, sleep
from typing import Any

import pytest

from kafkasim.sim.choices import Choices
from kafkasim.sim.clock import VirtualClock
from kafkasim.sim.kernel import Kernel
from kafkasim.sim.tasks import Scheduler

PATCHED: list[tuple[Any, tuple[str, ...]]] = [
    (time, ("sleep", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter")),
    (time, ("perf_counter_ns", "localtime", "gmtime", "ctime", "asctime", "strftime")),
    (datetime_module, ("datetime", "date")),
    (uuid, ("uuid1", "uuid4")),
    (random, ("random", "choice", "randint", "shuffle", "seed", "getrandbits")),
    (random.Random, ("seed",)),
    (sys.modules[__name__], ("sleep", "monotonic", "datetime", "date")),
]


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(Kernel(), watchdog_seconds=0)
    yield scheduler
    scheduler.close()


@pytest.fixture
def clock(scheduler: Scheduler) -> VirtualClock:
    return VirtualClock(scheduler, Choices(7))


def snapshot() -> list[Any]:
    """Every object that a patched name stands for."""
    return [vars(owner)[name] for owner, names in PATCHED for name in names]


def test_a_task_lives_in_virtual_time(scheduler: Scheduler, clock: VirtualClock) -> None:
    """Inside a task the usual functions show and pass virtual time, imported by name or not."""

    def body() -> tuple[Any, ...]:
        started, uptime = time.time(), monotonic()
        sleep(3600)
        time.sleep(1)
        later = datetime.now(datetime_module.UTC)
        return started, time.time() - started, monotonic() - uptime, later

    wall = time.monotonic()
    started, passed, uptime, later = scheduler.spawn(body).result()
    assert time.monotonic() - wall < 10
    assert started == pytest.approx(1_767_225_600, abs=0.001)
    assert passed == pytest.approx(3601, abs=0.001)
    assert uptime == pytest.approx(3601, abs=0.001)
    assert later.replace(microsecond=0) == datetime(2026, 1, 1, 1, 0, 1, tzinfo=datetime_module.UTC)


def test_all_clocks_agree(scheduler: Scheduler, clock: VirtualClock) -> None:
    """Every way to ask for the time gives the same one."""

    def body() -> None:
        now = time.time()
        assert time.time_ns() / 1e9 == pytest.approx(now, abs=0.01)
        assert datetime.now().timestamp() == pytest.approx(now, abs=0.01)
        assert datetime.utcnow().replace(tzinfo=datetime_module.UTC).timestamp() == pytest.approx(now, abs=0.01)
        assert datetime.today().date() == date.today() == datetime.fromtimestamp(now).date()
        assert time.gmtime()[:3] == (2026, 1, 1)
        assert time.strftime("%Y") in ("2025", "2026")
        assert time.strftime("%Y", time.gmtime(0)) == "1970"
        assert time.ctime().split()[-1] == time.asctime().split()[-1] == time.strftime("%Y")
        assert time.localtime(0) == time.localtime(0.0)
        assert time.perf_counter_ns() / 1e9 == pytest.approx(time.perf_counter(), abs=0.01)
        assert time.monotonic_ns() / 1e9 == pytest.approx(time.monotonic(), abs=0.01)

    scheduler.spawn(body).result()


def test_nothing_is_left(scheduler: Scheduler, clock: VirtualClock) -> None:
    """After the last task and the last installation every name is the very object that it was."""
    before = snapshot()
    imported = types.ModuleType("imported_meanwhile")

    def body() -> None:
        assert all(real is not lent for real, lent in zip(before, snapshot(), strict=True))
        exec("from time import sleep\nfrom datetime import datetime", vars(imported))
        sys.modules["imported_meanwhile"] = imported
        time.sleep(1)

    scheduler.spawn(body)
    with clock.install():
        scheduler.kernel.run_until_us(10_000_000)
        assert scheduler.tasks == []
        assert scheduler.failed == []
        assert time.sleep is not before[0]
    try:
        assert all(real is now for real, now in zip(before, snapshot(), strict=True))
        assert vars(imported)["sleep"] is time.sleep
        assert vars(imported)["datetime"] is datetime
    finally:
        del sys.modules["imported_meanwhile"]
    with clock:
        assert time.sleep is not before[0]
        assert sleep is time.sleep
    assert all(real is now for real, now in zip(before, snapshot(), strict=True))
    assert type(datetime.now()) is datetime


def test_outside_is_real(scheduler: Scheduler, clock: VirtualClock) -> None:
    """While a task sleeps, plain code and threads of before have the real time; an installation makes it virtual."""
    scheduler.spawn(lambda: time.sleep(5))
    scheduler.kernel.run_until_us(1_000_000)
    assert abs(time.time() - clock.epoch_us / 1e6) > 86_400
    elsewhere: list[float] = []
    go = threading.Event()
    thread = threading.Thread(target=lambda: (go.wait(), elsewhere.append(time.time())))
    thread.start()
    with clock:
        assert time.time() == pytest.approx(clock.epoch_us / 1e6 + 1, abs=0.001)
        time.sleep(10)
        assert scheduler.kernel.now_us == pytest.approx(11_000_000, abs=1_000)
        go.set()
        while not elsewhere:
            pass
    thread.join()
    assert abs(elsewhere[0] - clock.epoch_us / 1e6) > 86_400
    assert scheduler.tasks == []


def test_two_simulations(scheduler: Scheduler, clock: VirtualClock) -> None:
    """The innermost installed clock counts outside tasks; a task has its own scheduler's."""
    other = VirtualClock(Scheduler(Kernel(), watchdog_seconds=0), Choices(8), epoch_us=0)
    with clock, other:
        assert time.time() < 1
        assert scheduler.spawn(time.time).result() > 1_000_000_000
    assert time.time() > 1


def test_datetime_goes_on_working(clock: VirtualClock) -> None:
    """Construction, checks, subclasses, copies and pickles work while patched, and their results outlive it."""
    earlier = datetime(2020, 1, 1)
    with clock:
        moment = datetime.now()
        made = datetime(2020, 1, 1, 12, fold=1)
        assert made - earlier == timedelta(hours=12)
        for value in (earlier, made, moment, datetime.fromisoformat("2020-01-01")):
            assert isinstance(value, datetime)
            assert isinstance(value, date)
        assert isinstance(date(2020, 1, 1), date)
        assert not isinstance(date(2020, 1, 1), datetime)
        assert issubclass(datetime, date)
        assert not issubclass(date, datetime)
        assert pickle.loads(pickle.dumps([earlier, moment])) == [earlier, moment]
        assert pickle.loads(pickle.dumps(date.today())) == date.today()
        assert copy.deepcopy(moment) == copy.copy(moment) == moment

        class Stamp(datetime):
            pass

        stamp = Stamp.now()
        assert type(stamp) is Stamp
        assert not isinstance(moment, Stamp)
        assert type(Stamp.utcnow()) is Stamp
        assert stamp - moment < timedelta(seconds=1)
        stream = pickle.dumps(moment)
    assert pickle.loads(stream) == moment
    assert type(pickle.loads(stream)) is datetime
    assert b"kafkasim" not in stream
    assert type(moment) is type(made) is datetime


def test_chance_is_seeded(clock: VirtualClock) -> None:
    """The random module's functions, generators without a seed and UUIDs follow the simulation's seed."""

    def draw(seed: int) -> tuple[Any, ...]:
        clock = VirtualClock(Scheduler(Kernel(), watchdog_seconds=0), Choices(seed))
        with clock:
            return (
                random.random(),
                random.choice("abcdef"),
                random.Random().random(),
                random.Random(1).random(),
                uuid.uuid4(),
                uuid.uuid1(),
            )

    state = random.getstate()
    first, again, other = draw(1), draw(1), draw(2)
    assert first == again
    assert first[3] == other[3]
    assert all(first[place] != other[place] for place in (0, 2, 4, 5))
    assert first[4].version == 4
    assert first[5].version == 1
    assert random.getstate() == state
    assert random.Random().random() != random.Random().random()


def test_busy_wait_on_the_clock_ends(scheduler: Scheduler, clock: VirtualClock) -> None:
    """A loop that only reads the clock makes it go: a few readings are cheap, a busy wait is not."""
    readings = 0

    def body() -> None:
        nonlocal readings
        until = time.monotonic() + 1
        while time.monotonic() < until:
            readings += 1

    scheduler.spawn(body).result()
    assert 1_000 < readings < 1_100


def test_sleep_checks_its_argument(scheduler: Scheduler, clock: VirtualClock) -> None:
    """A negative sleep is an error as it really is, and sleep(0) lets others run."""
    with clock, pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)
    seen: list[str] = []

    def body() -> None:
        time.sleep(0)
        seen.append("first")

    scheduler.spawn(body)
    scheduler.spawn(seen.append, "second")
    scheduler.run_until(lambda: len(seen) == 2)
    assert seen == ["second", "first"]


PROGRAM = """
import random, time, uuid
from kafkasim.sim.choices import Choices
from kafkasim.sim.clock import VirtualClock
from kafkasim.sim.kernel import Kernel
from kafkasim.sim.network import Network
from kafkasim.sim.hosts import Host
from kafkasim.sim.tasks import Scheduler
from kafkasim.sim.trace import Trace

kernel, choices, trace = Kernel(), Choices(11), Trace()
scheduler = Scheduler(kernel, watchdog_seconds=0)
clock = VirtualClock(scheduler, choices)
network = Network(kernel, choices, trace)

class Server:
    def on_connection(self, connection_id, peer): pass
    def on_closed(self, connection_id): pass
    def on_request(self, connection_id, correlation_id, request):
        network.reply(connection_id, correlation_id, request, 100)

class Client:
    def __init__(self, number):
        self.number, self.waiter = number, scheduler.waiter("a response")
        network.attach(number, self)
    def on_response(self, peer, channel, correlation_id, response): self.waiter.wake()
    def on_disconnect(self, peer, channel, reason): self.waiter.wake()
    def run(self):
        for number in range(20):
            time.sleep(random.random() / 100)
            network.send(self.number, 1, str(uuid.uuid4()) if number == 9 else "c", number, b"", 100)
            self.waiter.wait(1_000_000)
            trace.mix(self.number, number, time.time_ns(), 0)

network.attach(1, Server())
hosts = {name: Host(name) for name in ("x", "y", "z")}
tasks = [scheduler.spawn(Client(n).run, host=h, name=h.name) for n, h in enumerate(hosts.values(), 2)]
kernel.call_at(30_000, network.reset, 1, 2)
kernel.call_at(50_000, hosts["z"].kill)
kernel.call_at(20_000, hosts["y"].pause)
kernel.call_at(70_000, hosts["y"].resume)
scheduler.run_until(lambda: not scheduler.tasks)
print(trace.fingerprint(), kernel.events, kernel.now_us, scheduler.failed)
"""


def test_same_run_in_every_process() -> None:
    """One seed gives one trace, whatever the process hashes strings with."""

    def run(hash_seed: str) -> str:
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    outputs = {run(hash_seed) for hash_seed in ("0", "1", "4242")}
    assert len(outputs) == 1
    assert "[]" in outputs.pop()
