"""What the benchmarks share: medians, memory of this process, growth exponents, the mock cluster of librdkafka."""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def real_client() -> ModuleType | None:
    """The installed confluent_kafka with its C extension, or None; the simulator never loads it."""
    if importlib.util.find_spec("confluent_kafka") is None:
        return None
    import confluent_kafka

    return confluent_kafka


def left_out(what: str) -> None:
    print(f"{what}: left out, confluent-kafka is not installed")


def machine() -> str:
    return f"Python {sys.version.split()[0]}, {os.cpu_count()} cores"


def median_seconds(work: Callable[[], Callable[[], object] | None], repeat: int) -> float:
    """Median wall time of ``work()``; what it returns is called afterwards, outside the measured time."""
    seconds = []
    for _ in range(repeat):
        gc.collect()
        started = time.perf_counter()
        clean_up = work()
        seconds.append(time.perf_counter() - started)
        if clean_up is not None:
            clean_up()
    return statistics.median(seconds)


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not tell, its peak so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of cost over size on logarithmic axes (least squares): 1 is linear growth."""
    points = [(math.log(size), math.log(cost)) for size, cost in zip(sizes, costs, strict=True) if cost > 0]
    if len(points) < 2:
        return math.nan
    mean_x = statistics.fmean(x for x, _ in points)
    mean_y = statistics.fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else math.nan


def fresh_environment() -> dict[str, str]:
    """The environment of a user's process: bytecode is kept, messages are not frozen."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "KAFKASIM_FREEZE")
    return {key: value for key, value in os.environ.items() if key not in unwanted}


def in_fresh_process(module: str, *arguments: object) -> Any:
    """Run ``python -m module arguments`` by itself, and read the JSON of its last line: one point does not warm up another."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=fresh_environment())
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


class MockCluster:
    """librdkafka's mock cluster: it lives as long as the client that was made with ``test.mock.num.brokers``."""

    def __init__(self, client: ModuleType, topic: str, brokers: int = 3) -> None:
        self._home = client.Producer({"test.mock.num.brokers": brokers, "log_level": 0})
        # The mock cluster makes a topic when it is asked about one.
        metadata = self._home.list_topics(topic, timeout=10)
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())
