"""How long until a first record can be written: import, a new 3-broker cluster with one topic, the first acknowledged record.

Imports are timed in fresh processes. The cluster is new each time; its topic has three replicas. librdkafka's mock cluster, which
replicates nothing, does the same work in the same run.

    python -m benchmarks.startup [--repeat 20] [--profile]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType

from benchmarks.measure import (
    MockCluster,
    fresh_environment,
    in_fresh_process,
    left_out,
    machine,
    median_seconds,
    real_client,
)

TOPIC = "call.completed"
PARTITIONS = 4
_IMPORTS = {
    "kafkasim": "import kafkasim",
    "Cluster": "import kafkasim; kafkasim.Cluster",
    "confluent_kafka": "import confluent_kafka",
}


def import_seconds(statement: str, repeat: int) -> float:
    """The quickest import in fresh processes: bytecode is written by the first, and a busy machine only adds."""
    program = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    done = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=fresh_environment()
        )
        for _ in range(repeat + 1)
    ]
    return min(float(run.stdout) for run in done)


def new_cluster(first_record: bool) -> Callable[[], None]:
    import kafkasim

    cluster = kafkasim.Cluster(brokers=3, seed=1)
    cluster.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
    if first_record:
        cluster.produce(TOPIC, [b"first"])
    return cluster.close


def new_mock_cluster(client: ModuleType, first_record: bool) -> Callable[[], None]:
    mock = MockCluster(client, TOPIC)
    if first_record:
        producer = client.Producer({"bootstrap.servers": mock.bootstrap_servers, "acks": "all", "log_level": 0})
        producer.produce(TOPIC, b"first")
        assert producer.flush(10) == 0
    return lambda: None


def profile() -> None:
    import cProfile
    import pstats

    for _ in range(3):
        new_cluster(False)()
    profiler = cProfile.Profile()
    for _ in range(20):
        profiler.enable()
        close = new_cluster(False)
        profiler.disable()
        close()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--imports", type=int, default=5, help="fresh processes for each import")
    parser.add_argument("--profile", action="store_true", help="say instead where the time of a new cluster goes")
    parser.add_argument("--clusters-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.profile:
        profile()
        return
    client = real_client()
    if options.clusters_only:
        figures = {}
        new_cluster(True)()  # what is imported or filled at first use is not start-up of a cluster
        for first_record in (False, True):
            key = "record" if first_record else "topic"
            figures[f"sim {key}"] = median_seconds(partial(new_cluster, first_record), options.repeat)
            if client is not None:
                figures[f"mock {key}"] = median_seconds(partial(new_mock_cluster, client, first_record), options.repeat)
        print(json.dumps(figures))
        return
    started = time.perf_counter()
    print(f"start-up, {machine()}, median of {options.repeat} (imports: quickest of {options.imports})")
    for name, statement in _IMPORTS.items():
        if name == "confluent_kafka" and client is None:
            left_out("  import confluent_kafka")
            continue
        seconds = import_seconds(statement, options.imports)
        label = "kafkasim.Cluster, with all that it needs" if name == "Cluster" else f"import {name}"
        print(f"  {label:52} {seconds * 1e3:7.1f} ms")
    figures = in_fresh_process("benchmarks.startup", "--clusters-only", "--repeat", options.repeat)
    for key, what in (
        ("topic", "3 brokers and a topic, ready to produce"),
        ("record", "the same, until a record is acknowledged"),
    ):
        ours = figures[f"sim {key}"]
        line = f"  {what:52} {ours * 1e3:7.1f} ms"
        if client is not None:
            theirs = figures[f"mock {key}"]
            line += f"   mock {theirs * 1e3:7.1f} ms   ratio mock / simulator {theirs / ours:5.2f}"
        print(line)
    if client is None:
        left_out("  the mock cluster")
    print(f"  (measured in {time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    main()
