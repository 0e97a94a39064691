#!/usr/bin/env python3
"""Read a partition from an offset on, without a group's help, to its end; then from a time on.

assign_offsets.py <bootstrap-servers> <topic> <partition> <offset|beginning|end>
"""

import sys

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

NAMED = {"beginning": OFFSET_BEGINNING, "end": OFFSET_END}


def read_to_end(consumer):
    while True:
        message = consumer.poll(10.0)
        if message is None:
            raise SystemExit("nothing came for ten seconds")
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                print(f"end of {message.topic()} [{message.partition()}] at {message.offset()}")
                return
            raise KafkaException(message.error())
        print(f"{message.offset()}: {message.value().decode()}")


if __name__ == "__main__":
    servers, topic, partition, offset = sys.argv[1:5]
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "assign-offsets",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    start = TopicPartition(topic, int(partition), NAMED[offset] if offset in NAMED else int(offset))
    consumer.assign([start])
    print("assignment:", [(one.topic, one.partition) for one in consumer.assignment()])
    read_to_end(consumer)
    print("position:", consumer.position([start])[0].offset)

    consumer.seek(TopicPartition(topic, int(partition), 1))
    read_to_end(consumer)

    [found] = consumer.offsets_for_times([TopicPartition(topic, int(partition), 1)])
    print("first offset since 1970:", found.offset)
    consumer.close()
