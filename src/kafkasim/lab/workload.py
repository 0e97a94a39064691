"""Records that arrive at a topic as a design says, and the producers that send them.

Rule 1:   work is done a tick at a time: what arrived in a tick is produced at its end, stamped with its own arrival time.
Rule 2:   a full queue makes the application wait, as one that polls and tries again: what does not fit is kept and counted.
Rule 3:   values come from a small pool, so that ten minutes of records weigh what their keys weigh.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Any

from kafkasim.core.client.accumulator import DeliveryReport
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.records import Headers
from kafkasim.lab.design import WorkloadDesign
from kafkasim.sim.clock import EPOCH_US
from kafkasim.sim.drive import ClientShell
from kafkasim.sim.hosts import Host

POOL_SIZE = 64
_SHORTEST_TICK_US = 5_000
_LONGEST_TICK_US = 25_000
_FEW = 60.0

_Record = tuple[bytes, "bytes | None", int, "Headers | None"]


def surge_factor(points: tuple[tuple[int, float], ...], at_us: int) -> float:
    """The factor at a time: straight lines between the points, constant outside them."""
    before = points[0]
    for point in points:
        if point[0] > at_us:
            if point[0] == before[0] or at_us <= before[0]:
                return before[1]
            share = (at_us - before[0]) / (point[0] - before[0])
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1]


class Arrivals:
    """How many records have arrived by a time. Ask for later and later times."""

    def __init__(self, design: WorkloadDesign, rng: Random) -> None:
        self._design = design
        self._rng = rng
        self._until_us = 0
        self._expected = 0.0
        self._next = 0

    def until(self, at_us: int) -> list[int]:
        """Arrival times (microseconds) after the last time asked for, up to ``at_us``."""
        if self._design.arrival_times_us is not None:
            return self._listed(self._design.arrival_times_us, at_us)
        start_us = self._until_us
        length_us = at_us - start_us
        self._until_us = at_us
        surge = self._design.surge
        factor = (surge_factor(surge, start_us) + surge_factor(surge, at_us)) / 2
        mean = self._design.rate_per_second * factor * length_us / 1e6
        if self._design.arrivals == "poisson":
            return sorted(start_us + int(self._rng.random() * length_us) for _ in range(poisson(self._rng, mean)))
        before = int(self._expected)
        self._expected += mean
        count = int(self._expected) - before
        return [start_us + (index + 1) * length_us // count for index in range(count)]

    def _listed(self, times: tuple[int, ...], at_us: int) -> list[int]:
        first = self._next
        while self._next < len(times) and times[self._next] <= at_us:
            self._next += 1
        return list(times[first : self._next])


def poisson(rng: Random, mean: float) -> int:
    """How many arrivals, where ``mean`` are expected."""
    if mean > _FEW:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def value_pool(rng: Random, low: int, high: int) -> list[bytes]:
    """JSON documents of sizes from ``low`` to ``high`` bytes."""
    sizes = [low + (high - low) * index // max(1, POOL_SIZE - 1) for index in range(POOL_SIZE)]
    pool = []
    for index, size in enumerate(sizes):
        document = json.dumps({"sequence": index, "text": ""}).encode()
        padding = size - len(document)
        if padding < 0:
            pool.append(b"0" * size)
        else:
            text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=padding))
            pool.append(json.dumps({"sequence": index, "text": text}).encode())
    return pool


def malformed_pool(pool: list[bytes]) -> list[bytes]:
    """Documents cut off in the middle."""
    return [b"{" + value[1 : max(2, len(value) // 2)] for value in pool[:8]]


class _Keys:
    """The key of each record."""

    def __init__(self, design: WorkloadDesign, rng: Random) -> None:
        key = design.key
        self._rng = rng
        self._prefix = key.prefix.encode()
        self.pick: Callable[[int, int], list[bytes | None]] = {
            "none": self._none,
            "unique": self._unique,
            "pool": self._from_pool,
        }[key.kind]
        if key.kind == "pool":
            self._pool = [b"%s%d" % (self._prefix, index) for index in range(key.count)]
            self._weights = list(accumulate(1.0 / (index + 1) ** key.skew for index in range(key.count)))

    def _none(self, first: int, count: int) -> list[bytes | None]:
        return [None] * count

    def _unique(self, first: int, count: int) -> list[bytes | None]:
        prefix = self._prefix
        return [b"%s%08d" % (prefix, number) for number in range(first, first + count)]

    def _from_pool(self, first: int, count: int) -> list[bytes | None]:
        return list(self._rng.choices(self._pool, cum_weights=self._weights, k=count))


class _HeaderMaker:
    """The headers of records, from texts in which {id}, {key} and {producer} stand for something."""

    def __init__(self, design: WorkloadDesign, producer: int) -> None:
        self._texts = design.headers
        self._producer = producer
        #: What is the same for every record; None where it is not.
        self._fixed = [
            None if "{id" in text or "{key" in text else (name, text.format(producer=producer).encode())
            for name, text in design.headers
        ]
        self._varying = [index for index, pair in enumerate(self._fixed) if pair is None]

    def make(self, numbers: range, keys: list[bytes | None]) -> list[Headers | None]:
        """One value a record; where only one header varies and is the id alone, as with CloudEvents, the fast way."""
        if not self._varying:
            return [tuple(pair for pair in self._fixed if pair is not None) or None] * len(numbers)
        first = self._varying[0]
        if len(self._varying) == 1 and self._texts[first][1] == "{id}":
            name = self._texts[first][0]
            before = tuple(pair for pair in self._fixed[:first] if pair is not None)
            after = tuple(pair for pair in self._fixed[first + 1 :] if pair is not None)
            return [(*before, (name, b"%d" % number), *after) for number in numbers]
        return [self._one(number, key) for number, key in zip(numbers, keys)]

    def _one(self, number: int, key: bytes | None) -> Headers:
        shown_key = (key or b"").decode()
        return tuple(
            pair or (name, text.format(id=number, key=shown_key, producer=self._producer).encode())
            for pair, (name, text) in zip(self._fixed, self._texts)
        )


class _Producer:
    """One producer of a workload: its client, and what waits for room in its queue."""

    def __init__(self, shell: ClientShell, headers: _HeaderMaker) -> None:
        self.shell = shell
        self.headers = headers
        self.waiting: deque[_Record] = deque()


class Workload:
    """The records of one ``[[workloads]]``, from ``begin`` to ``end``."""

    def __init__(self, cluster: Any, design: WorkloadDesign) -> None:
        self.design = design
        self.arrived = 0
        self.acked = 0
        self.failed = 0
        self.failures: dict[str, int] = {}
        self.waited = 0
        #: Records that had to wait because the producer's queue was full.
        self.reports: list[DeliveryReport] = []
        self.ack_latency_ms: dict[int, int] = {}
        self._cluster = cluster
        self._rng: Random = cluster.choices.random_for(f"lab.workload.{design.name}")
        self._arrivals = Arrivals(design, self._rng)
        self._keys = _Keys(design, self._rng)
        self._pool = value_pool(self._rng, *design.value_bytes)
        self.malformed = malformed_pool(self._pool) if design.malformed_share else []
        self._next_malformed = self._gap() if design.malformed_share else -1
        self._start_us = 0
        self._end_us = 0
        self._producers = [self._open(number) for number in range(1, design.producers + 1)]
        config: ClientConfig = self._producers[0].shell.engine.config
        linger_us = config.us("linger.ms")
        longest_us = max(_LONGEST_TICK_US, linger_us // 50)  # Who waits for seconds does not mind a tenth of one.
        self.tick_us = max(_SHORTEST_TICK_US, min(longest_us, linger_us // 8))

    def _open(self, number: int) -> _Producer:
        name = f"{self.design.name}-producer-{number}"
        given = {"bootstrap.servers": self._cluster.bootstrap_servers, "client.id": name, **self.design.producer_config}
        config = ClientConfig.parse("producer", given)
        shell = self._cluster.open_client("producer", config, name=name, host=Host(name))
        return _Producer(shell, _HeaderMaker(self.design, number))

    @property
    def unfinished(self) -> int:
        """Records that have arrived and whose outcome is not known yet."""
        return self.arrived - self.acked - self.failed

    @property
    def config(self) -> ClientConfig:
        config: ClientConfig = self._producers[0].shell.engine.config
        return config

    def begin(self, duration_us: int) -> None:
        """Records arrive from now on, for so long."""
        self._start_us = self._cluster.now_us
        self._end_us = self._start_us + duration_us
        self._cluster.kernel.call_after(self.tick_us, self._tick)

    def _tick(self) -> None:
        now_us = self._cluster.now_us
        if now_us <= self._end_us:
            times = self._arrivals.until(now_us - self._start_us)
            if times:
                self._arrive(times, now_us)
        for producer in self._producers:
            self._send_waiting(producer, now_us)
            producer.shell.settle()
            self._take_reports(producer)
        if now_us < self._end_us:
            self._cluster.kernel.call_after(min(self.tick_us, self._end_us - now_us), self._tick)
        elif self.unfinished:
            self._cluster.kernel.call_after(self.tick_us, self._tick)

    def _arrive(self, times_us: list[int], now_us: int) -> None:
        count, first = len(times_us), self.arrived
        self.arrived += count
        keys = self._keys.pick(first, count)
        values = self._rng.choices(self._pool, k=count)
        while first <= self._next_malformed < first + count:
            values[self._next_malformed - first] = self._rng.choice(self.malformed)
            self._next_malformed += 1 + self._gap()
        wall_us = EPOCH_US + self._start_us
        stamps_ms = [(wall_us + time_us) // 1000 for time_us in times_us]
        if len(self._producers) == 1:
            self._produce(self._producers[0], first, 1, values, keys, stamps_ms, now_us)
            return
        step = len(self._producers)
        for offset, producer in enumerate(self._producers):
            self._produce(
                producer,
                first + offset,
                step,
                values[offset::step],
                keys[offset::step],
                stamps_ms[offset::step],
                now_us,
            )

    def _produce(
        self,
        producer: _Producer,
        first: int,
        step: int,
        values: list[bytes],
        keys: list[bytes | None],
        stamps_ms: list[int],
        now_us: int,
    ) -> None:
        """The loop that runs per record."""
        produce, topic = producer.shell.engine.produce, self.design.topic
        made = producer.headers.make(range(first, first + step * len(keys), step), keys)
        for value, key, stamp_ms, headers in zip(values, keys, stamps_ms, made):
            error = _QUEUE_FULL if producer.waiting else produce(topic, value, key, -1, stamp_ms, headers, None, now_us)
            if error:
                self._on_refused(producer, (value, key, stamp_ms, headers), error)

    def _on_refused(self, producer: _Producer, record: _Record, error: ErrorCode) -> None:
        if error == _QUEUE_FULL:
            producer.waiting.append(record)
            self.waited += 1
        else:
            self._fail(1, error)

    def _send_waiting(self, producer: _Producer, now_us: int) -> None:
        waiting, produce = producer.waiting, producer.shell.engine.produce
        while waiting:
            value, key, stamp_ms, headers = waiting[0]
            error = produce(self.design.topic, value, key, -1, stamp_ms, headers, None, now_us)
            if error == _QUEUE_FULL:
                return
            waiting.popleft()
            if error:
                self._fail(1, error)

    def _take_reports(self, producer: _Producer) -> None:
        engine = producer.shell.engine
        latencies = self.ack_latency_ms
        for report in engine.take_reports(0):
            count = report.stop - report.start
            if report.error is ErrorCode.NONE:
                self.acked += count
                self.reports.append(report)
                latency_ms = report.latency_us // 1000
                latencies[latency_ms] = latencies.get(latency_ms, 0) + count
            else:
                self._fail(count, report.error)
        engine.take_events()

    def _fail(self, count: int, error: ErrorCode) -> None:
        self.failed += count
        self.failures[error.name] = self.failures.get(error.name, 0) + count

    def _gap(self) -> int:
        """How many good records come before the next malformed one."""
        share = self.design.malformed_share
        if share >= 1.0:
            return 0
        return int(math.log(1.0 - self._rng.random()) / math.log(1.0 - share))


_QUEUE_FULL = ErrorCode._QUEUE_FULL
