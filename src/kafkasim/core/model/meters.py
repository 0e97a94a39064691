"""What a broker counts as it serves: records and bytes in and out, by topic, as JMX shows them.

Mirrors:  org.apache.kafka.storage.log.metrics.BrokerTopicMetrics, com.yammer.metrics.core.Meter (its Count).
Rule 1:   one ``mark`` a batch, never one a record.
Rule 2:   a meter keeps one point for each second in which it was marked, so that a long run costs seconds, not batches.
"""

from __future__ import annotations

_SECOND_US = 1_000_000


class Meter:
    """``counts[i]`` is the total after the last mark of its second, which was at ``times_us[i]``."""

    __slots__ = ("counts", "times_us", "total")

    def __init__(self) -> None:
        self.total = 0
        self.times_us: list[int] = []
        self.counts: list[int] = []

    def mark(self, amount: int, now_us: int) -> None:
        self.total += amount
        times_us = self.times_us
        if times_us and times_us[-1] // _SECOND_US == now_us // _SECOND_US:
            times_us[-1] = now_us
            self.counts[-1] = self.total
        else:
            times_us.append(now_us)
            self.counts.append(self.total)


class TopicMeters:
    """The meters of one topic on one broker, under Kafka's names in small letters."""

    __slots__ = ("bytes_in", "bytes_out", "failed_produce_requests", "messages_in", "replication_bytes_in")

    def __init__(self) -> None:
        self.messages_in = Meter()
        self.bytes_in = Meter()
        self.bytes_out = Meter()
        self.replication_bytes_in = Meter()
        self.failed_produce_requests = Meter()


class BrokerTopicMeters:
    """All topics of one broker."""

    __slots__ = ("topics",)

    def __init__(self) -> None:
        self.topics: dict[str, TopicMeters] = {}

    def of(self, topic: str) -> TopicMeters:
        meters = self.topics.get(topic)
        if meters is None:
            meters = self.topics[topic] = TopicMeters()
        return meters

    def appended(self, topic: str, records: int, size_bytes: int, now_us: int) -> None:
        """A leader's append, by a producer or a coordinator."""
        meters = self.of(topic)
        meters.messages_in.mark(records, now_us)
        meters.bytes_in.mark(size_bytes, now_us)
