#!/usr/bin/env python3
"""List brokers, topics, groups and the configuration of a topic; create and delete a topic on the way.

list_cluster.py <bootstrap-servers> <topic>
"""

import sys

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic


def outcome(futures):
    for name, future in futures.items():
        try:
            future.result()
            print(f"{name}: done")
        except KafkaException as problem:
            print(f"{name}: {problem.args[0].name()}")


def list_metadata(admin):
    metadata = admin.list_topics(timeout=10)
    print(f"{len(metadata.brokers)} brokers, controller {metadata.controller_id}")
    for broker in sorted(metadata.brokers.values(), key=lambda one: one.id):
        print(f"  broker {broker.id}")
    for topic in sorted(metadata.topics.values(), key=lambda one: one.topic):
        if topic.topic.startswith("__"):
            continue
        print(f'  topic "{topic.topic}" with {len(topic.partitions)} partition(s)')
        for partition in topic.partitions.values():
            print(f"    partition {partition.id}: {len(partition.replicas)} replicas, {len(partition.isrs)} in sync")


def describe_config(admin, topic):
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    for future in admin.describe_configs([resource]).values():
        entries = future.result()
        for name in ("cleanup.policy", "min.insync.replicas"):
            print(f"  {name} = {entries[name].value}")


if __name__ == "__main__":
    servers, topic = sys.argv[1:3]
    admin = AdminClient({"bootstrap.servers": servers})
    outcome(admin.create_topics([NewTopic("scratch", num_partitions=1, replication_factor=1)]))
    outcome(admin.create_topics([NewTopic("scratch", num_partitions=1, replication_factor=1)]))
    outcome(admin.create_partitions([NewPartitions("scratch", 2)]))
    list_metadata(admin)
    describe_config(admin, topic)
    groups = admin.list_consumer_groups(request_timeout=10).result()
    print(f"{len(groups.valid)} groups, {len(groups.errors)} errors")
    for group in groups.valid:
        print(f"  group {group.group_id}")
    outcome(admin.delete_topics(["scratch"], operation_timeout=30))
