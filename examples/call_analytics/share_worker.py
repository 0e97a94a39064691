#!/usr/bin/env python3
"""Work on calls in a share group: as many workers as you like, each record acknowledged by itself, poison records set aside.

A record that cannot be worked on is released, so that another worker may try; at its last attempt it goes to a dead-letter topic and is
rejected. Left alone it would be archived without a word when the group's delivery limit (5 by default) is reached.

    share_worker.py --bootstrap-server localhost:9092 --group ml-training --dead-letters call.completed.dlq
"""

import argparse
import json
import signal
import sys

from confluent_kafka import AcknowledgeType, KafkaException, Producer, ShareConsumer


def main():
    parser = argparse.ArgumentParser(description="Work on call.completed events in a share group.")
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--group", default="ml-training")
    parser.add_argument("--topic", default="call.completed")
    parser.add_argument("--dead-letters", default="call.completed.dlq")
    parser.add_argument("--attempts", type=int, default=3, help="give up on a record at this attempt")
    parser.add_argument("--idle", type=float, default=0.0, help="end after so many seconds without a message; 0: never")
    arguments = parser.parse_args()

    running = True

    def stop(number, frame):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    letters = Producer({"bootstrap.servers": arguments.bootstrap_server, "enable.idempotence": True})
    consumer = ShareConsumer(
        {
            "bootstrap.servers": arguments.bootstrap_server,
            "group.id": arguments.group,
            "share.acknowledgement.mode": "explicit",
        }
    )
    consumer.subscribe([arguments.topic])
    done = released = dead = 0
    idle = 0.0
    try:
        while running and (arguments.idle == 0 or idle < arguments.idle):
            messages = consumer.poll(1.0)
            if not messages:
                idle += 1.0
                continue
            idle = 0.0
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                try:
                    json.loads(message.value())
                except ValueError as problem:
                    if message.delivery_count() < arguments.attempts:
                        consumer.acknowledge(message, AcknowledgeType.RELEASE)
                        released += 1
                        continue
                    letters.produce(
                        arguments.dead_letters, message.value(), message.key(), headers={"error": str(problem)}
                    )
                    letters.flush()
                    consumer.acknowledge(message, AcknowledgeType.REJECT)
                    dead += 1
                else:
                    consumer.acknowledge(message, AcknowledgeType.ACCEPT)
                    done += 1
            consumer.commit_sync()
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
    print(f"{arguments.group}: {done} done, {released} released, {dead} dead letters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
