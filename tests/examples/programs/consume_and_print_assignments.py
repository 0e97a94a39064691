#!/usr/bin/env python3
"""Print what a member of a group is assigned, and every message; offsets are stored by hand and committed automatically.

consume_and_print_assignments.py [-n messages] <bootstrap-servers> <group> <topic>...
"""

import getopt
import json
import logging
import sys

from confluent_kafka import Consumer, KafkaException

if __name__ == "__main__":
    options, arguments = getopt.getopt(sys.argv[1:], "n:")
    if len(arguments) < 3:
        sys.exit("usage: consume_and_print_assignments.py [-n messages] <bootstrap-servers> <group> <topic>...")
    servers, group, *topics = arguments
    wanted = int(dict(options).get("-n", 0))

    logger = logging.getLogger("consumer")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logging.StreamHandler())

    def on_statistics(text):
        assert json.loads(text)["type"] == "consumer"

    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "session.timeout.ms": 6000,
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
            "statistics.interval.ms": 1000,
            "stats_cb": on_statistics,
        },
        logger=logger,
    )

    def print_assignment(consumer, partitions):
        print("assigned:", ", ".join(f"{one.topic}[{one.partition}]" for one in partitions))

    def print_revocation(consumer, partitions):
        print("revoked:", ", ".join(f"{one.topic}[{one.partition}]" for one in partitions))

    consumer.subscribe(topics, on_assign=print_assignment, on_revoke=print_revocation)
    seen = 0
    try:
        while not wanted or seen < wanted:
            message = consumer.poll(timeout=1.0)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            sys.stderr.write(
                f"% {message.topic()} [{message.partition()}] at offset {message.offset()} with key {message.key()}:\n"
            )
            print(message.value())
            consumer.store_offsets(message)
            seen += 1
    except KeyboardInterrupt:
        sys.stderr.write("% aborted\n")
    finally:
        consumer.close()
