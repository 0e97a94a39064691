#!/usr/bin/env python3
"""Pass well-formed calls on, and malformed ones to a dead-letter topic with the place they came from.

A dead letter has been acknowledged before the offset behind it is committed, so none is lost; after a crash one may come twice.

    dead_letter_router.py --bootstrap-server localhost:9092 --group compliance --dead-letters call.completed.dlq
"""

import argparse
import json
import signal
import sys

from confluent_kafka import Consumer, KafkaException, Producer


class DeadLetters:
    """Sends malformed messages away and waits until they have arrived."""

    def __init__(self, bootstrap_server, topic):
        self._topic = topic
        self._failures = []
        self._producer = Producer({"bootstrap.servers": bootstrap_server, "enable.idempotence": True})
        self.sent = 0

    def send(self, message, problem):
        origin = f"{message.topic()}/{message.partition()}/{message.offset()}"
        headers = [*(message.headers() or []), ("dlq_origin", origin.encode()), ("dlq_error", str(problem).encode())]
        self._producer.produce(
            self._topic, key=message.key(), value=message.value(), headers=headers, on_delivery=self._on_delivery
        )
        self.sent += 1

    def flush(self):
        self._producer.flush()
        if self._failures:
            raise KafkaException(self._failures[0])

    def _on_delivery(self, error, message):
        if error is not None:
            self._failures.append(error)


def main():
    parser = argparse.ArgumentParser(description="Route malformed call.completed events to a dead-letter topic.")
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--group", default="compliance")
    parser.add_argument("--topic", default="call.completed")
    parser.add_argument("--dead-letters", default="call.completed.dlq")
    parser.add_argument("--idle", type=float, default=0.0, help="end after so many seconds without a message; 0: never")
    arguments = parser.parse_args()

    running = True

    def stop(number, frame):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    letters = DeadLetters(arguments.bootstrap_server, arguments.dead_letters)
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.bootstrap_server,
            "group.id": arguments.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([arguments.topic])
    good = 0
    idle = 0.0
    try:
        while running and (arguments.idle == 0 or idle < arguments.idle):
            messages = consumer.consume(200, timeout=1.0)
            if not messages:
                idle += 1.0
                continue
            idle = 0.0
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                try:
                    json.loads(message.value())
                    good += 1
                except ValueError as problem:
                    letters.send(message, problem)
            letters.flush()
            consumer.commit(asynchronous=False)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
    print(f"{arguments.group}: {good} good, {letters.sent} dead letters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
