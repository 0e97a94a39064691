"""What a real cluster's logs hold, read back by a consumer: for people as records, for oracles as views.

Inputs:   a client's config and topics.      Effects: a consumer that joins no group, closed at the end.
Rule 1:   only what lies below the high watermark is read, and all of it: the end of each partition is waited for.
Rule 2:   a batch of one record stands for a record, as in the history beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from kafkasim.check.log_oracles import LogView
from kafkasim.core.model import ids
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.model.views import PartitionDescription, StoredRecord
from kafkasim.real.recorded import as_bytes, batch_of_one


def read_records(
    config: Mapping[str, Any], topic: str, partitions: Iterable[int] | None = None, timeout: float = 30.0
) -> list[StoredRecord]:
    """The records of a topic in order, of all its partitions or of some."""
    reader = Consumer(
        {
            **config,
            # A name is required; no group comes to be, for partitions are taken by hand and nothing is committed.
            "group.id": "kafkasim-records",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted",
            "fetch.wait.max.ms": 100,
        }
    )
    try:
        return sorted(_read_to_end(reader, topic, partitions, timeout), key=lambda r: (r.partition, r.offset))
    finally:
        reader.close()


def _read_to_end(
    reader: Consumer, topic: str, partitions: Iterable[int] | None, timeout: float
) -> Iterator[StoredRecord]:
    known = reader.list_topics(topic, timeout=timeout).topics[topic]
    if known.error is not None:
        raise KafkaException(known.error)
    unread = set(known.partitions if partitions is None else partitions)
    reader.assign([TopicPartition(topic, partition, 0) for partition in sorted(unread)])
    deadline = time.monotonic() + timeout
    while unread:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic} was not read to its end in {timeout} s: {sorted(unread)}")
        for message in reader.consume(1000, timeout=0.05):
            error = message.error()
            if error is None:
                yield _stored(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(int(message.partition() or 0))
            elif not error.retriable():
                raise KafkaException(error)


def log_views(
    config: Mapping[str, Any], admin: AdminClient, topics: Mapping[str, Sequence[PartitionDescription]]
) -> dict[ids.TopicPartition, LogView]:
    """The views that oracles judge by: what each partition holds now, and what its settings promise."""
    views: dict[ids.TopicPartition, LogView] = {}
    for topic, described in topics.items():
        settings = _topic_settings(admin, topic)
        led = [each.partition for each in described if each.leader >= 0]
        batches: dict[int, list[RecordBatch]] = {}
        for record in read_records(config, topic, led) if led else ():
            batch = batch_of_one(record.key, record.value, record.timestamp, record.timestamp_type, record.offset)
            batches.setdefault(record.partition, []).append(batch)
        for each in described:
            views[ids.TopicPartition(topic, each.partition)] = LogView(
                batches.get(each.partition, []),
                each.log_start_offset or 0,
                int(settings["min.insync.replicas"]),
                len(each.replicas),
                "compact" in settings["cleanup.policy"],
                each.leader >= 0,
            )
    return views


def _topic_settings(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result()
    return {name: str(entry.value) for name, entry in found.items()}


def _stored(message: Message) -> StoredRecord:
    timestamp_type, timestamp = message.timestamp()
    return StoredRecord(
        topic=message.topic() or "",
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=as_bytes(message.key()),
        value=as_bytes(message.value()),
        timestamp=timestamp,
        timestamp_type=timestamp_type,
        headers=cast("list[tuple[str, bytes | None]]", list(message.headers() or [])),
    )
