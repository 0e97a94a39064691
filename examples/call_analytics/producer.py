#!/usr/bin/env python3
"""Tell of finished calls: one event each, keyed by the call's id, with CloudEvents headers.

producer.py --bootstrap-server localhost:9092 --topic call.completed --count 1000 --rate 200
"""

import argparse
import json
import random
import sys
import time
import uuid

from confluent_kafka import Producer


def make_call(number, source):
    """A finished call, as the telephony system tells of it."""
    return {
        "call_id": f"call-{number:08d}",
        "pbx": source,
        "agent": f"agent-{random.randrange(400)}",
        "seconds": max(1, int(random.expovariate(1 / 240))),
        "transcript": "lorem ipsum " * random.randrange(20, 80),
    }


class Deliveries:
    """Counts what became of the events."""

    def __init__(self):
        self.delivered = 0
        self.failed = 0

    def on_delivery(self, error, message):
        if error is None:
            self.delivered += 1
        else:
            self.failed += 1
            print(f"{message.key().decode()} was not delivered: {error}", file=sys.stderr)


def produce(producer, topic, call, malformed, deliveries):
    """Hand one event to the producer; wait for room where its queue is full."""
    value = json.dumps(call).encode()
    headers = {
        "ce_type": "call.completed",
        "ce_id": str(uuid.uuid4()),
        "ce_source": f"/telephony/{call['pbx']}",
    }
    while True:
        try:
            producer.produce(
                topic,
                key=call["call_id"],
                value=value[: len(value) // 2] if malformed else value,
                headers=headers,
                on_delivery=deliveries.on_delivery,
            )
        except BufferError:
            producer.poll(0.5)
        else:
            producer.poll(0)
            return


def main():
    parser = argparse.ArgumentParser(description="Produce call.completed events.")
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--topic", default="call.completed")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--rate", type=float, default=0.0, help="events a second; 0: as fast as possible")
    parser.add_argument("--source", default="pbx-1")
    parser.add_argument("--malformed-every", type=int, default=0, help="cut every n-th event off in the middle")
    arguments = parser.parse_args()

    producer = Producer(
        {
            "bootstrap.servers": arguments.bootstrap_server,
            "client.id": f"calls-{arguments.source}",
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 50,
        }
    )
    deliveries = Deliveries()
    every = arguments.malformed_every
    try:
        for number in range(arguments.first, arguments.first + arguments.count):
            call = make_call(number, arguments.source)
            produce(producer, arguments.topic, call, every and (number + 1) % every == 0, deliveries)
            if arguments.rate:
                time.sleep(1 / arguments.rate)
    except KeyboardInterrupt:
        pass
    left = producer.flush(30)
    print(f"delivered {deliveries.delivered}, failed {deliveries.failed}, without an answer {left}")
    return 0 if deliveries.failed == 0 and left == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
