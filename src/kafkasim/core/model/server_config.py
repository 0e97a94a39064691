"""Topic and broker configs that the model reads: names, types, defaults, ranges, and which broker key a topic key falls back to.

Mirrors:  TopicConfig, ServerConfigs, LogConfig, ReplicationConfigs, GroupCoordinatorConfig, KRaftConfigs (4.3 defaults).
Rule 1:   a value is kept as the string the user gave; ``parse`` turns it into bool, int, str or a list once, where it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kafkasim.core.model.message import aside, message
from kafkasim.core.model.share_offset_reset import share_offset_reset_problem

ConfigScalar: TypeAlias = "bool | int | str | tuple[str, ...] | None"

INT_MAX = 2_147_483_647
LONG_MAX = 9_223_372_036_854_775_807


@message
class ServerConfigKey:
    """``kind``: bool, int, long, double, string, list; ``synonym``: the broker key that a topic key defaults to."""

    name: str
    kind: str
    default: str | None
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    synonym: str | None = None
    read_only: bool = False
    #: What is wrong with a text, in Kafka's words; None if nothing is.
    check: Callable[[str], str | None] | None = None
    #: The default's typed value in a tuple, once somebody has asked for it: every server of every cluster asks for most.
    parsed_default: tuple[ConfigScalar] | None = aside(init=False)

    def default_value(self) -> ConfigScalar:
        """The typed value of the default."""
        if self.parsed_default is None:
            object.__setattr__(self, "parsed_default", (self.parse(self.default),))
        assert self.parsed_default is not None
        return self.parsed_default[0]

    def parse(self, text: str | None) -> ConfigScalar:
        """The typed value of ``text``; ValueError with Kafka's words if it is none."""
        if text is None:
            return None
        if self.kind == "bool":
            return self._parse_bool(text)
        if self.kind in ("int", "long"):
            return self._parse_int(text)
        if self.kind == "list":
            items = tuple(item.strip() for item in text.split(",") if item.strip())
            for item in items:
                self._check_choice(item)
            return items
        self._check_choice(text)
        problem = self.check(text) if self.check is not None else None
        if problem is not None:
            raise ValueError(f"Invalid value {text} for configuration {self.name}: {problem}")
        return text

    def _parse_bool(self, text: str) -> bool:
        lowered = text.strip().lower()
        if lowered not in ("true", "false"):
            raise ValueError(
                f"Invalid value {text} for configuration {self.name}: Expected value to be either true or false"
            )
        return lowered == "true"

    def _parse_int(self, text: str) -> int:
        try:
            number = int(text.strip())
        except ValueError:
            raise ValueError(
                f"Invalid value {text} for configuration {self.name}: Not a number of type {self.kind.upper()}"
            ) from None
        if self.low is not None and number < self.low:
            raise ValueError(f"Invalid value {number} for configuration {self.name}: Value must be at least {self.low}")
        if self.high is not None and number > self.high:
            raise ValueError(
                f"Invalid value {number} for configuration {self.name}: Value must be no more than {self.high}"
            )
        return number

    def _check_choice(self, text: str) -> None:
        if self.choices and text not in self.choices:
            listed = ", ".join(self.choices)
            raise ValueError(f"Invalid value {text} for configuration {self.name}: String must be one of: {listed}")


def _table(*keys: ServerConfigKey) -> dict[str, ServerConfigKey]:
    return {key.name: key for key in keys}


_K = ServerConfigKey

_COMPRESSION = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")

#: Configs of a topic.
TOPIC_CONFIGS: dict[str, ServerConfigKey] = _table(
    _K("cleanup.policy", "list", "delete", choices=("compact", "delete"), synonym="log.cleanup.policy"),
    _K("compression.type", "string", "producer", choices=_COMPRESSION, synonym="compression.type"),
    _K("compression.gzip.level", "int", "-1", synonym="compression.gzip.level"),
    _K("compression.lz4.level", "int", "9", 1, 17, synonym="compression.lz4.level"),
    _K("compression.zstd.level", "int", "3", -131072, 22, synonym="compression.zstd.level"),
    _K("delete.retention.ms", "long", "86400000", 0, synonym="log.cleaner.delete.retention.ms"),
    _K("file.delete.delay.ms", "long", "60000", 0, synonym="log.segment.delete.delay.ms"),
    _K("flush.messages", "long", str(LONG_MAX), 1, synonym="log.flush.interval.messages"),
    _K("flush.ms", "long", str(LONG_MAX), 0, synonym="log.flush.interval.ms"),
    _K("follower.replication.throttled.replicas", "list", ""),
    _K("index.interval.bytes", "int", "4096", 0, synonym="log.index.interval.bytes"),
    _K("leader.replication.throttled.replicas", "list", ""),
    _K("local.retention.bytes", "long", "-2", -2, synonym="log.local.retention.bytes"),
    _K("local.retention.ms", "long", "-2", -2, synonym="log.local.retention.ms"),
    _K("max.compaction.lag.ms", "long", str(LONG_MAX), 1, synonym="log.cleaner.max.compaction.lag.ms"),
    _K("max.message.bytes", "int", "1048588", 0, synonym="message.max.bytes"),
    _K("message.timestamp.after.max.ms", "long", "3600000", 0, synonym="log.message.timestamp.after.max.ms"),
    _K("message.timestamp.before.max.ms", "long", str(LONG_MAX), 0, synonym="log.message.timestamp.before.max.ms"),
    _K(
        "message.timestamp.type",
        "string",
        "CreateTime",
        choices=("CreateTime", "LogAppendTime"),
        synonym="log.message.timestamp.type",
    ),
    _K("min.cleanable.dirty.ratio", "double", "0.5", synonym="log.cleaner.min.cleanable.ratio"),
    _K("min.compaction.lag.ms", "long", "0", 0, synonym="log.cleaner.min.compaction.lag.ms"),
    _K("min.insync.replicas", "int", "1", 1, synonym="min.insync.replicas"),
    _K("preallocate", "bool", "false", synonym="log.preallocate"),
    _K("remote.log.copy.disable", "bool", "false"),
    _K("remote.log.delete.on.disable", "bool", "false"),
    _K("remote.storage.enable", "bool", "false"),
    _K("retention.bytes", "long", "-1", synonym="log.retention.bytes"),
    _K("retention.ms", "long", "604800000", -1, synonym="log.retention.ms"),
    _K("segment.bytes", "int", "1073741824", 1048576, synonym="log.segment.bytes"),
    _K("segment.index.bytes", "int", "10485760", 4, synonym="log.index.size.max.bytes"),
    _K("segment.jitter.ms", "long", "0", 0, synonym="log.roll.jitter.ms"),
    _K("segment.ms", "long", "604800000", 1, synonym="log.roll.ms"),
    _K("unclean.leader.election.enable", "bool", "false", synonym="unclean.leader.election.enable"),
)

#: Configs of a broker (and of the cluster as a whole, by the empty broker name).
BROKER_CONFIGS: dict[str, ServerConfigKey] = _table(
    _K("auto.create.topics.enable", "bool", "true", read_only=True),
    _K("auto.leader.rebalance.enable", "bool", "true", read_only=True),
    _K("background.threads", "int", "10", 1),
    _K("broker.heartbeat.interval.ms", "int", "2000", read_only=True),
    _K("broker.id", "int", "-1", read_only=True),
    _K("broker.rack", "string", None, read_only=True),
    _K("broker.session.timeout.ms", "int", "9000", read_only=True),
    _K("compression.gzip.level", "int", "-1"),
    _K("compression.lz4.level", "int", "9", 1, 17),
    _K("compression.type", "string", "producer", choices=_COMPRESSION),
    _K("compression.zstd.level", "int", "3", -131072, 22),
    _K("controlled.shutdown.enable", "bool", "true", read_only=True),
    _K("controller.quorum.append.linger.ms", "int", "25", 0, read_only=True),
    _K("controller.quorum.election.backoff.max.ms", "int", "1000", read_only=True),
    _K("controller.quorum.election.timeout.ms", "int", "1000", read_only=True),
    _K("controller.quorum.fetch.timeout.ms", "int", "2000", read_only=True),
    _K("controller.quorum.request.timeout.ms", "int", "2000", read_only=True),
    _K("controller.quorum.retry.backoff.ms", "int", "20", read_only=True),
    _K("default.replication.factor", "int", "1", 1, read_only=True),
    _K("delete.topic.enable", "bool", "true", read_only=True),
    _K("fetch.max.bytes", "int", "57671680", 1024, read_only=True),
    _K("group.consumer.assignment.interval.ms", "int", "1000", 0),
    _K("group.consumer.assignors", "list", "uniform,range", choices=("uniform", "range"), read_only=True),
    _K("group.consumer.heartbeat.interval.ms", "int", "5000", 1, read_only=True),
    _K("group.consumer.max.assignment.interval.ms", "int", "15000", 0, read_only=True),
    _K("group.consumer.max.heartbeat.interval.ms", "int", "15000", 1, read_only=True),
    _K("group.consumer.max.session.timeout.ms", "int", "60000", 1, read_only=True),
    _K("group.consumer.max.size", "int", str(INT_MAX), 1, read_only=True),
    _K(
        "group.consumer.migration.policy",
        "string",
        "bidirectional",
        choices=("disabled", "downgrade", "upgrade", "bidirectional"),
        read_only=True,
    ),
    _K("group.consumer.min.assignment.interval.ms", "int", "0", 0, read_only=True),
    _K("group.consumer.min.heartbeat.interval.ms", "int", "5000", 1, read_only=True),
    _K("group.consumer.min.session.timeout.ms", "int", "45000", 1, read_only=True),
    _K("group.consumer.regex.refresh.interval.ms", "int", "600000", 10000, read_only=True),
    _K("group.consumer.session.timeout.ms", "int", "45000", 1, read_only=True),
    _K("group.initial.rebalance.delay.ms", "int", "3000", 0, read_only=True),
    _K("group.max.session.timeout.ms", "int", "1800000", read_only=True),
    _K("group.max.size", "int", str(INT_MAX), 1, read_only=True),
    _K("group.min.session.timeout.ms", "int", "6000", read_only=True),
    _K("group.share.assignment.interval.ms", "int", "1000", 0),
    _K("group.share.delivery.count.limit", "int", "5", 2, 10),
    _K("group.share.heartbeat.interval.ms", "int", "5000", 1, read_only=True),
    _K("group.share.initialize.retry.interval.ms", "int", "30000", 1, read_only=True),
    _K("group.share.max.assignment.interval.ms", "int", "15000", 0, read_only=True),
    _K("group.share.max.delivery.count.limit", "int", "10", 5, 25, read_only=True),
    _K("group.share.max.heartbeat.interval.ms", "int", "15000", 1, read_only=True),
    _K("group.share.max.partition.max.record.locks", "int", "4000", 2000, 10000, read_only=True),
    _K("group.share.max.record.lock.duration.ms", "int", "60000", 30000, 3600000, read_only=True),
    _K("group.share.max.session.timeout.ms", "int", "60000", 1, read_only=True),
    _K("group.share.max.share.sessions", "int", "2000", 1, read_only=True),
    _K("group.share.max.size", "int", "200", 1, 1000, read_only=True),
    _K("group.share.min.assignment.interval.ms", "int", "0", 0, read_only=True),
    _K("group.share.min.delivery.count.limit", "int", "2", 2, 5, read_only=True),
    _K("group.share.min.heartbeat.interval.ms", "int", "5000", 1, read_only=True),
    _K("group.share.min.partition.max.record.locks", "int", "100", 100, 2000, read_only=True),
    _K("group.share.min.record.lock.duration.ms", "int", "15000", 1000, 30000, read_only=True),
    _K("group.share.min.session.timeout.ms", "int", "45000", 1, read_only=True),
    _K("group.share.partition.max.record.locks", "int", "2000", 100, 10000, read_only=True),
    _K("group.share.record.lock.duration.ms", "int", "30000", 1000, 3600000, read_only=True),
    _K("group.share.session.timeout.ms", "int", "45000", 1, read_only=True),
    _K("initial.broker.registration.timeout.ms", "int", "60000", read_only=True),
    _K("leader.imbalance.check.interval.seconds", "int", "300", 1, read_only=True),
    _K("log.cleaner.backoff.ms", "long", "15000", 0),
    _K("log.cleaner.delete.retention.ms", "long", "86400000", 0),
    _K("log.cleaner.enable", "bool", "true", read_only=True),
    _K("log.cleaner.max.compaction.lag.ms", "long", str(LONG_MAX), 1),
    _K("log.cleaner.min.cleanable.ratio", "double", "0.5"),
    _K("log.cleaner.min.compaction.lag.ms", "long", "0", 0),
    _K("log.cleanup.policy", "list", "delete", choices=("compact", "delete")),
    _K("log.flush.interval.messages", "long", str(LONG_MAX), 1),
    _K("log.flush.interval.ms", "long", None, 0),
    _K("log.flush.start.offset.checkpoint.interval.ms", "int", "60000", 0, read_only=True),
    _K("log.flush.scheduler.interval.ms", "long", str(LONG_MAX), read_only=True),
    _K("log.index.interval.bytes", "int", "4096", 0),
    _K("log.index.size.max.bytes", "int", "10485760", 4),
    _K("log.local.retention.bytes", "long", "-2", -2),
    _K("log.local.retention.ms", "long", "-2", -2),
    _K("log.message.timestamp.after.max.ms", "long", "3600000", 0),
    _K("log.message.timestamp.before.max.ms", "long", str(LONG_MAX), 0),
    _K("log.message.timestamp.type", "string", "CreateTime", choices=("CreateTime", "LogAppendTime")),
    _K("log.preallocate", "bool", "false"),
    _K("log.retention.bytes", "long", "-1"),
    _K("log.retention.check.interval.ms", "long", "300000", 1, read_only=True),
    _K("log.retention.hours", "int", "168", read_only=True),
    _K("log.retention.minutes", "int", None, read_only=True),
    _K("log.retention.ms", "long", None, -1),
    _K("log.roll.jitter.ms", "long", "0", 0),
    _K("log.roll.hours", "int", "168", 1, read_only=True),
    _K("log.roll.ms", "long", None, 1),
    _K("log.segment.bytes", "int", "1073741824", 1048576),
    _K("log.segment.delete.delay.ms", "long", "60000", 0),
    _K("message.max.bytes", "int", "1048588", 0),
    _K("metadata.log.max.record.bytes.between.snapshots", "long", "20971520", 1, read_only=True),
    _K("metadata.log.max.snapshot.interval.ms", "long", "3600000", 0, read_only=True),
    _K("metadata.max.idle.interval.ms", "int", "500", 0, read_only=True),
    _K("metadata.max.retention.bytes", "long", "104857600", read_only=True),
    _K("metadata.max.retention.ms", "long", "604800000", read_only=True),
    _K("min.insync.replicas", "int", "1", 1),
    _K("node.id", "int", None, 0, read_only=True),
    _K("num.partitions", "int", "1", 1, read_only=True),
    _K("num.replica.fetchers", "int", "1"),
    _K("offset.metadata.max.bytes", "int", "4096", read_only=True),
    _K("offsets.commit.timeout.ms", "int", "5000", 1, read_only=True),
    _K("offsets.retention.check.interval.ms", "int", "600000", 1, read_only=True),
    _K("offsets.retention.minutes", "int", "10080", 1, read_only=True),
    _K("offsets.topic.num.partitions", "int", "50", 1, read_only=True),
    _K("offsets.topic.replication.factor", "int", "3", 1, read_only=True),
    _K("offsets.topic.segment.bytes", "int", "104857600", 1, read_only=True),
    _K("producer.id.expiration.ms", "int", "86400000", 1),
    _K("replica.fetch.backoff.ms", "int", "1000", 0, read_only=True),
    _K("replica.fetch.max.bytes", "int", "1048576", 0, read_only=True),
    _K("replica.fetch.min.bytes", "int", "1", read_only=True),
    _K("replica.fetch.response.max.bytes", "int", "10485760", 0, read_only=True),
    _K("replica.fetch.wait.max.ms", "int", "500", read_only=True),
    _K("replica.high.watermark.checkpoint.interval.ms", "int", "5000", read_only=True),
    _K("replica.lag.time.max.ms", "int", "30000", read_only=True),
    _K("replica.selector.class", "string", None, read_only=True),
    _K("share.coordinator.snapshot.update.records.per.snapshot", "int", "500", 0, 500, read_only=True),
    _K("share.coordinator.state.topic.min.isr", "int", "2", 1, read_only=True),
    _K("share.coordinator.state.topic.num.partitions", "int", "50", 1, read_only=True),
    _K("share.coordinator.state.topic.replication.factor", "int", "3", 1, read_only=True),
    _K("share.coordinator.state.topic.segment.bytes", "int", "104857600", 1, read_only=True),
    _K("share.coordinator.write.timeout.ms", "int", "5000", 1, read_only=True),
    _K("unclean.leader.election.enable", "bool", "false"),
    _K("unclean.leader.election.interval.ms", "int", "300000", read_only=True),
)

#: Configs of a group (ConfigResource.Type.GROUP).
GROUP_CONFIGS: dict[str, ServerConfigKey] = _table(
    _K("consumer.assignment.interval.ms", "int", "1000", 0, synonym="group.consumer.assignment.interval.ms"),
    _K("consumer.heartbeat.interval.ms", "int", "5000", 1, synonym="group.consumer.heartbeat.interval.ms"),
    _K("consumer.session.timeout.ms", "int", "45000", 1, synonym="group.consumer.session.timeout.ms"),
    _K("share.assignment.interval.ms", "int", "1000", 0, synonym="group.share.assignment.interval.ms"),
    _K("share.auto.offset.reset", "string", "latest", check=share_offset_reset_problem),
    _K("share.delivery.count.limit", "int", "5", 2, synonym="group.share.delivery.count.limit"),
    _K("share.heartbeat.interval.ms", "int", "5000", 1, synonym="group.share.heartbeat.interval.ms"),
    _K(
        "share.isolation.level",
        "string",
        "read_uncommitted",
        choices=("read_committed", "read_uncommitted"),
    ),
    _K("share.partition.max.record.locks", "int", "2000", 100, synonym="group.share.partition.max.record.locks"),
    _K("share.record.lock.duration.ms", "int", "30000", 1000, synonym="group.share.record.lock.duration.ms"),
    _K("share.renew.acknowledge.enable", "bool", "true"),
    _K("share.session.timeout.ms", "int", "45000", 1, synonym="group.share.session.timeout.ms"),
    _K("streams.assignment.interval.ms", "int", "1000", 0, synonym="group.streams.assignment.interval.ms"),
    _K("streams.heartbeat.interval.ms", "int", "5000", 1, synonym="group.streams.heartbeat.interval.ms"),
    _K("streams.initial.rebalance.delay.ms", "int", "3000", 0, synonym="group.streams.initial.rebalance.delay.ms"),
    _K("streams.num.standby.replicas", "int", "0", 0, synonym="group.streams.num.standby.replicas"),
    _K("streams.session.timeout.ms", "int", "45000", 1, synonym="group.streams.session.timeout.ms"),
)
