"""One small run with everything in it: two members, a crash, a restart, a slow link; used to compare fingerprints.

python tests/acceptance/scenario.py FIRST_SEED COUNT      prints "seed fingerprint", a line each
"""

from __future__ import annotations

import sys

import kafkasim


def produce(count: int) -> None:
    import random
    import time
    import uuid

    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": "anywhere:9092", "enable.idempotence": True, "linger.ms": 5})
    for number in range(count):
        producer.produce("calls", str(uuid.uuid4()), str(number), headers={"n": str(number)})
        producer.poll(0)
        time.sleep(random.uniform(0.0, 0.2))
    producer.flush()


def consume(seen: set[bytes], count: int) -> None:
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": "anywhere:9092",
            "group.id": "billing",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
        }
    )
    consumer.subscribe(["calls"])
    while len(seen) < count:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            seen.add(message.value())
    consumer.close()


def run(seed: int, count: int = 30) -> str:
    """The fingerprint of the run; every record is seen, and the check finds nothing."""
    config = {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}
    with kafkasim.Cluster(brokers=3, seed=seed, config=config) as cluster:
        cluster.create_topic("calls", partitions=3, config={"min.insync.replicas": 2})
        seen: set[bytes] = set()
        tasks = [
            cluster.spawn(produce, count, name="producer"),
            cluster.spawn(consume, seen, count, name="billing-1"),
            cluster.spawn(consume, seen, count, name="billing-2"),
        ]
        cluster.network.slow(1, 3, factor=5)
        cluster.at(cluster.now + 1.0, cluster.broker(1 + seed % 3).crash)
        cluster.at(cluster.now + 6.0, cluster.broker(1 + seed % 3).start)
        cluster.run_until(lambda: all(task.done for task in tasks), timeout=120)
        report = cluster.check()
        assert report.ok, report
        assert len(seen) == count
        return cluster.fingerprint()


if __name__ == "__main__":
    first, number = int(sys.argv[1]), int(sys.argv[2])
    for each in range(first, first + number):
        print(each, run(each))
