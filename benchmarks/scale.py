"""How time and memory grow: idle partitions, consumer groups, members of one group or share group, each point in a fresh process.

The exponent is the slope on logarithmic axes: 1 is linear. What a cluster costs anyway flattens the small points, so the slope of
the last step stands beside that of all. Memory is what the process holds more than before the work; its exponent is that of the
total. Virtual time is what the cluster's own timers need.

    python -m benchmarks.scale [--large] [--only partitions|groups|members|consumers|shares] [--profile]

``--large`` adds 10^6 partitions, 10^3 groups and 10^3 members (minutes, and gigabytes for the partitions).
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.measure import exponent, in_fresh_process, machine, resident_bytes

IDLE_SECONDS = 10.0
IDLE_PARTITION_SECONDS = 60.0
RECORDS = 1_000
SHARED_PARTITIONS = 24
SHARED_RECORDS = 24_000
SHARED_BATCH = 10
POINTS = {
    "partitions": (1_000, 10_000, 100_000),
    "groups": (1, 10, 100),
    "members": (10, 30, 100),
    "consumers": (100, 1_000, 10_000),
    "shares": (10, 100, 1_000),
}
LARGE = {"partitions": (1_000_000,), "groups": (1_000,), "members": (1_000,)}
TINY = {"partitions": (100, 300), "groups": (1, 4), "members": (2, 6), "consumers": (2, 6), "shares": (2, 30)}
_TOPIC = "call.completed"

Figures = dict[str, float]


def idle_partitions(count: int) -> Figures:
    """Topics of up to 1,000 partitions, three replicas of each on six brokers; a minute in which nothing happens; then a broker dies.

    ``fail over s`` is processor time from the crash until every partition that it led has another leader, as all brokers know.
    """
    import kafkasim

    with kafkasim.Cluster(brokers=6, seed=1) as cluster:
        gc.collect()
        before = resident_bytes()
        started = time.process_time()
        names = []
        for first in range(0, count, 1_000):  # Kafka refuses more than 10,000 metadata records in one request
            names.append(f"topic-{first}")
            cluster.create_topic(names[-1], partitions=min(1_000, count - first), replication_factor=3)
        made = time.process_time()
        held = (resident_bytes() - before) / (3 * count)
        events = cluster.kernel.events
        cluster.run_for(IDLE_PARTITION_SECONDS)
        idle = time.process_time()
        idle_events = cluster.kernel.events - events
        cluster.broker(2).crash()
        while _led_by(cluster, names[-1], 2) or _led_by(cluster, names[0], 2):
            cluster.run_for(0.5)
        failed_over = time.process_time()
        return {
            "create s": made - started,
            "idle s": idle - made,
            "idle events": idle_events,
            "fail over s": failed_over - idle,
            "bytes a replica": held,
        }


def _led_by(cluster: Any, topic: str, broker: int) -> bool:
    return any(partition.leader == broker for partition in cluster.describe_topic(topic))


def groups(count: int) -> Figures:
    """So many groups of one consumer each, on one topic of four partitions; each reads all of 1,000 records."""
    import kafkasim

    with kafkasim.Cluster(brokers=3, seed=1) as cluster:
        cluster.create_topic(_TOPIC, partitions=4, replication_factor=3)
        gc.collect()
        before = resident_bytes()
        started = time.perf_counter()
        consumers = [
            cluster.consumer(f"group-{index}", [_TOPIC], auto_offset_reset="earliest") for index in range(count)
        ]
        _join(cluster, consumers)
        joined = time.perf_counter()
        cluster.produce(_TOPIC, [b"x" * 200] * RECORDS)
        for consumer in consumers:
            got = 0
            while got < RECORDS:
                got += len(consumer.consume(RECORDS, 1.0))
        read = time.perf_counter()
        return {
            "join s": joined - started,
            "read s": read - joined,
            "events": cluster.kernel.events,
            "bytes a group": (resident_bytes() - before) / count,
        }


def members(count: int) -> Figures:
    """One group with so many members and as many partitions joins at once, then heartbeats for ten virtual seconds."""
    import kafkasim

    with kafkasim.Cluster(brokers=3, seed=1) as cluster:
        cluster.create_topic(_TOPIC, partitions=count, replication_factor=3)
        gc.collect()
        before = resident_bytes()
        started = time.perf_counter()
        consumers = [cluster.consumer("billing", [_TOPIC], auto_offset_reset="earliest") for _ in range(count)]
        _join(cluster, consumers)
        joined = time.perf_counter()
        virtual = cluster.now
        events = cluster.kernel.events
        cluster.run_for(IDLE_SECONDS)
        return {
            "join s": joined - started,
            "join virtual s": virtual,
            "idle s": time.perf_counter() - joined,
            "idle events": cluster.kernel.events - events,
            "bytes a member": (resident_bytes() - before) / count,
        }


def consumers(count: int) -> Figures:
    """One group of the consumer protocol (KIP-848) with so many members and as many partitions: all join at once, until each has one."""
    import kafkasim

    with kafkasim.Cluster(brokers=3, seed=1) as cluster:
        cluster.create_topic(_TOPIC, partitions=count, replication_factor=3)
        gc.collect()
        before = resident_bytes()
        started = time.perf_counter()
        config = {"group.protocol": "consumer", "auto.offset.reset": "earliest"}
        members = [cluster.consumer("billing", [_TOPIC], config) for _ in range(count)]
        waiting = members
        while waiting:
            cluster.run_for(0.5)
            for consumer in waiting:
                consumer.poll(0)
            waiting = [consumer for consumer in waiting if len(consumer.assignment()) != 1]
        assert cluster.describe_group("billing").state == "Stable"
        return {
            "join s": time.perf_counter() - started,
            "join virtual s": cluster.now,
            "bytes a member": (resident_bytes() - before) / count,
        }


def shares(count: int) -> Figures:
    """One share group with so many members on 24 partitions: all join, then 24,000 records are delivered and acknowledged.

    Records come in batches of ten, which is what a member gets at a time; partitions have up to 42 members each.
    Seconds are processor time.
    """
    import kafkasim
    from kafkasim.confluent_kafka import ShareConsumer
    from kafkasim.extras import ShareGroups

    with kafkasim.Cluster(brokers=3, seed=1, config={"group.share.max.size": 1_000}) as cluster:
        cluster.create_topic(_TOPIC, partitions=SHARED_PARTITIONS, replication_factor=3)
        gc.collect()
        before = resident_bytes()
        started = time.process_time()
        settings = {
            "bootstrap.servers": cluster.bootstrap_servers,
            "group.id": "ml-training",
            "max.poll.records": SHARED_BATCH,
        }
        consumers = [ShareConsumer(settings) for _ in range(count)]
        for consumer in consumers:
            consumer.subscribe([_TOPIC])
        admin = ShareGroups(cluster.bootstrap_servers)
        _share(cluster, admin, consumers)
        joined = time.process_time()
        virtual, events = cluster.now, cluster.kernel.events
        producer = cluster.producer(batch_num_messages=SHARED_BATCH)
        for index in range(SHARED_RECORDS):
            producer.produce(_TOPIC, b"x" * 200, partition=index // SHARED_BATCH % SHARED_PARTITIONS)
            producer.poll(0)
        producer.flush()
        got = 0
        while got < SHARED_RECORDS:
            got += sum(len(consumer.poll(0)) for consumer in consumers)
            cluster.run_for(0.05)
        for consumer in consumers:
            consumer.commit_sync()
        assert got == SHARED_RECORDS, got
        assert sum(part.lag for part in admin.offsets("ml-training")) == 0
        return {
            "join s": joined - started,
            "join virtual s": virtual,
            "deliver s": time.process_time() - joined,
            "deliver virtual s": cluster.now - virtual,
            "events": cluster.kernel.events - events,
            "bytes a member": (resident_bytes() - before) / count,
        }


def _share(cluster: Any, admin: Any, consumers: list[Any]) -> None:
    """Poll until each member has partitions, and has asked each of their leaders once."""
    assigned = 0
    while assigned < len(consumers):
        cluster.run_for(0.5)
        for consumer in consumers:
            consumer.poll(0)
        assigned = sum(1 for member in admin.describe("ml-training").members if member.assignment)
    cluster.run_for(10.0)


def _join(cluster: Any, consumers: list[Any]) -> None:
    """Poll until each has partitions; the waiting in between is the cluster's, or a thousand polls would take it in turns."""
    waiting = list(consumers)
    while waiting:
        cluster.run_for(0.5)
        for consumer in waiting:
            consumer.poll(0)
        waiting = [consumer for consumer in waiting if not consumer.assignment()]


WORK: dict[str, Callable[[int], Figures]] = {
    "partitions": idle_partitions,
    "groups": groups,
    "members": members,
    "consumers": consumers,
    "shares": shares,
}


def grow(what: str, sizes: tuple[int, ...]) -> None:
    rows = [(size, in_fresh_process("benchmarks.scale", "--only", what, "--point", size)) for size in sizes]
    names = list(rows[0][1])
    print(f"  {what:>12}  " + "  ".join(f"{name:>16}" for name in names))
    for size, figures in rows:
        print(f"  {size:12,}  " + "  ".join(f"{_text(figures[name]):>16}" for name in names))
    for label, chosen in (("exponent", rows), ("last step", rows[-2:])):
        exponents = [_growth(name, chosen) for name in names]
        print(f"  {label:>12}  " + "  ".join(f"{value:16.2f}" for value in exponents))
    print()


def _growth(name: str, rows: list[tuple[int, Figures]]) -> float:
    totals = [figures[name] * (size if name.startswith("bytes") else 1) for size, figures in rows]
    return exponent([size for size, _ in rows], totals)


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3f}"


def profile(what: str, size: int) -> None:
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    profiler.runcall(WORK[what], size)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(WORK))
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="only prove that it works")
    parser.add_argument("--profile", action="store_true", help="profile the middle point instead (with --only)")
    parser.add_argument("--point", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        print(json.dumps(WORK[options.only](options.point)))
        return
    chosen = [options.only] if options.only else list(WORK)
    points = TINY if options.tiny else POINTS
    if options.profile:
        for what in chosen:
            profile(what, points[what][1])
        return
    print(f"growth, {machine()}; one fresh process a line")
    for what in chosen:
        grow(what, points[what] + (LARGE[what] if options.large else ()))


if __name__ == "__main__":
    main()
