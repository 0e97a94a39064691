"""50,000 records to ten groups through the client API: the simulator against librdkafka's own mock cluster, in one run.

The same function drives both: one producer with delivery callbacks, ten consumers that call ``consume(1000)``. The mock cluster has no
replication at all; here every record is replicated to three brokers. Prints wall times and the ratios mock / simulator.

    python -m benchmarks.fanout [--records 50000] [--groups 10] [--repeat 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from types import ModuleType
from typing import Any

TOPIC = "call.completed"
PARTITIONS = 4  # what the mock cluster gives a topic; it cannot be had otherwise from Python


class Timing:
    """Wall seconds: ``joins`` until every consumer has its assignment, ``flow`` from the first produce to the last record."""

    def __init__(self, joins: float, flow: float) -> None:
        self.joins = joins
        self.flow = flow

    @property
    def total(self) -> float:
        return self.joins + self.flow


def fan_out(ck: ModuleType, bootstrap: str, records: int, groups: int) -> Timing:
    """Join ``groups`` consumers, produce ``records`` records, and read until every group has them all."""
    started = time.perf_counter()
    consumers = [
        ck.Consumer({"bootstrap.servers": bootstrap, "group.id": f"group-{index}", "auto.offset.reset": "earliest"})
        for index in range(groups)
    ]
    for consumer in consumers:
        consumer.subscribe([TOPIC])
    waiting = list(consumers)
    while waiting:
        for consumer in waiting:
            consumer.consume(1, 0.01)
        waiting = [consumer for consumer in waiting if len(consumer.assignment()) < PARTITIONS]
    joined = time.perf_counter()
    producer = ck.Producer({"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 200_000})
    acknowledged = [0]

    def on_delivery(error: Any, message: Any) -> None:
        assert error is None, error
        acknowledged[0] += 1

    payload = b"x" * 200
    for number in range(records):
        producer.produce(TOPIC, payload, b"call-%d" % number, on_delivery=on_delivery)
        if number % 100 == 0:
            producer.poll(0)
    producer.flush()
    assert acknowledged[0] == records, acknowledged
    counts = dict.fromkeys(range(groups), 0)
    open_groups = list(range(groups))
    while open_groups:
        for index in open_groups:
            for message in consumers[index].consume(1000, 0.05):
                assert message.error() is None, message.error()
                message.value()
                counts[index] += 1
        open_groups = [index for index in open_groups if counts[index] < records]
    flow = time.perf_counter() - joined
    assert set(counts.values()) == {records}, counts
    for consumer in consumers:
        consumer.close()
    return Timing(joined - started, flow)


def on_simulator(records: int, groups: int) -> Timing:
    from kafkasim import Cluster
    from kafkasim import confluent_kafka as ck

    started = time.perf_counter()
    with Cluster(brokers=3, seed=1) as cluster:
        cluster.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
        made = time.perf_counter() - started
        timing = fan_out(ck, cluster.bootstrap_servers, records, groups)
    return Timing(timing.joins + made, timing.flow)


def on_mock(records: int, groups: int) -> Timing:
    import confluent_kafka as ck

    started = time.perf_counter()
    home = ck.Producer({"test.mock.num.brokers": 3, "topic.metadata.refresh.interval.ms": -1})
    brokers = home.list_topics(timeout=10).brokers.values()
    bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    home.list_topics(TOPIC, timeout=10)  # the mock cluster makes a topic when it is asked about
    made = time.perf_counter() - started
    timing = fan_out(ck, bootstrap, records, groups)
    return Timing(timing.joins + made, timing.flow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--groups", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    sims, mocks = [], []
    for _ in range(options.repeat):
        sims.append(on_simulator(options.records, options.groups))
        mocks.append(on_mock(options.records, options.groups))
    sim_total = statistics.median(timing.total for timing in sims)
    mock_total = statistics.median(timing.total for timing in mocks)
    sim_flow = statistics.median(timing.flow for timing in sims)
    mock_flow = statistics.median(timing.flow for timing in mocks)
    print(f"{options.records:,} records x {options.groups} groups, {os.cpu_count()} cores, median of {options.repeat}")
    print(
        f"  joins included: simulator {sim_total:7.2f} s   mock {mock_total:7.2f} s   ratio {mock_total / sim_total:5.1f}"
    )
    print(
        f"  joins excluded: simulator {sim_flow:7.2f} s   mock {mock_flow:7.2f} s   ratio {mock_flow / sim_flow:5.1f}"
    )


if __name__ == "__main__":
    main()
