#!/usr/bin/env python3
"""Producer, consumer and admin client in ``with`` statements: flushed and closed at their ends.

context_managers.py <bootstrap-servers>
"""

import sys

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

TOPIC = "managed"


def main(servers):
    with AdminClient({"bootstrap.servers": servers}) as admin:
        for name, future in admin.create_topics([NewTopic(TOPIC, num_partitions=2)]).items():
            future.result()
            print(f"created {name}")

    with Producer({"bootstrap.servers": servers}) as producer:
        for number in range(5):
            producer.produce(TOPIC, key=f"key-{number}", value=f"value-{number}")
        print("waiting:", len(producer) > 0)

    with Consumer({"bootstrap.servers": servers, "group.id": "managers", "auto.offset.reset": "earliest"}) as consumer:
        consumer.subscribe([TOPIC])
        values = []
        while len(values) < 5:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                values.append(message.value().decode())
        print("consumed:", ", ".join(sorted(values)))

    try:
        consumer.poll(0)
    except RuntimeError as problem:
        print("after the end:", problem)


if __name__ == "__main__":
    main(sys.argv[1])
