#!/usr/bin/env python3
"""For each partition of some topics: what a group has committed, and its lag.

watermarks.py <bootstrap-servers> <group> <topic>...
"""

import sys

import confluent_kafka

if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(f"usage: {sys.argv[0]} <bootstrap-servers> <group> <topic>...")
    servers, group = sys.argv[1:3]
    consumer = confluent_kafka.Consumer({"bootstrap.servers": servers, "group.id": group})
    print(f"{'Topic [Partition]':30} {'Committed':>9} {'Lag':>9}")
    print("=" * 50)
    for topic in sys.argv[3:]:
        metadata = consumer.list_topics(topic, timeout=10)
        if metadata.topics[topic].error is not None:
            raise confluent_kafka.KafkaException(metadata.topics[topic].error)
        partitions = [confluent_kafka.TopicPartition(topic, number) for number in metadata.topics[topic].partitions]
        for partition in consumer.committed(partitions, timeout=10):
            low, high = consumer.get_watermark_offsets(partition, timeout=10, cached=False)
            if partition.offset == confluent_kafka.OFFSET_INVALID:
                offset = "-"
            else:
                offset = str(partition.offset)
            if high < 0:
                lag = "no hwmark"
            elif partition.offset < 0:
                lag = str(high - low)
            else:
                lag = str(high - partition.offset)
            print(f"{partition.topic + ' [' + str(partition.partition) + ']':30} {offset:>9} {lag:>9}")
    consumer.close()
