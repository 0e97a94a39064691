"""The replicas that a broker holds, and what happens when one of them moves: parked requests end, sessions wake.

Mirrors:  ReplicaManager (the partition map, appendRecords, tryCompleteActions), LogManager.
Rule 1:   a machine that moves a log or a high watermark calls ``appended`` or ``advance``; nobody else ends parked requests.
Rule 2:   readers are answered at the end of the input that woke them (``answer_woken``), so that an input which writes to many
          partitions wakes a reader of several of them once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from kafkasim.core.controller.rules import rules_of as controller_rules_of
from kafkasim.core.log.log import Log
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_OFFSET, NO_TIMESTAMP, NodeId, TopicPartition
from kafkasim.core.model.messages import BrokerEndpoint, PartitionProduced, ProduceResponse
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.replica.follower import FollowerReplica
from kafkasim.core.replica.leader import LeaderReplica
from kafkasim.core.replica.purgatory import Purgatory
from kafkasim.core.replica.rules import rules_of
from kafkasim.core.replica.session import FollowerSession

Replica: TypeAlias = "LeaderReplica | FollowerReplica"

_NONE = ErrorCode.NONE

#: Not counted as failed produce requests: the producer's fault, or a leader that moved.
_EXPECTED_FAILURES = frozenset(
    {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.CORRUPT_MESSAGE}
)

#: Bits of ``watch``: which periodic check has the partition on its list.
WATCH_CHECKPOINT = 1
WATCH_LAG = 2
WATCH_RETENTION = 4
WATCH_LEADER = WATCH_LAG | WATCH_RETENTION


class ParkedProduce:
    """A produce request at acks=all that waits for the high watermark of some of its partitions."""

    __slots__ = ("answers", "call", "done", "open")

    def __init__(self, call: Call, answers: list[PartitionProduced], waiting: list[int]) -> None:
        self.call = call
        #: What to answer if all goes well; replaced where it does not.
        self.answers = answers
        self.open = waiting
        self.done = False

    def on_end(self, index: int, error: ErrorCode, partitions: Partitions, now_us: int) -> None:
        """The wait for one partition is over."""
        if self.done:
            return
        self.open.remove(index)
        if error is not _NONE:
            self.fail(index, error)
        if not self.open:
            self.done = True
            partitions.ctx.reply(self.call, ProduceResponse(self.answers))

    def fail(self, index: int, error: ErrorCode) -> None:
        answer = self.answers[index]
        # A timed-out write keeps its offset in the answer: it may yet become visible there.
        offset = answer.base_offset if error is ErrorCode.REQUEST_TIMED_OUT else NO_OFFSET
        self.answers[index] = PartitionProduced(answer.tp, error, offset, NO_TIMESTAMP, answer.log_start_offset)

    def on_expired(self, partitions: Partitions, now_us: int) -> None:
        for index in self.open:
            partitions.note_failure(self.answers[index].tp, ErrorCode.REQUEST_TIMED_OUT)
            self.fail(index, ErrorCode.REQUEST_TIMED_OUT)
        partitions.ctx.reply(self.call, ProduceResponse(self.answers))


class ParkedAppend:
    """A coordinator's append that waits to be committed."""

    __slots__ = ("base_offset", "done", "on_done")

    def __init__(self, base_offset: int, on_done: Callable[[ErrorCode, int, int], None]) -> None:
        self.base_offset = base_offset
        self.on_done = on_done
        self.done = False

    def on_end(self, index: int, error: ErrorCode, partitions: Partitions, now_us: int) -> None:
        if not self.done:
            self.done = True
            partitions.ended_appends.append((self, error))

    def on_expired(self, partitions: Partitions, now_us: int) -> None:
        partitions.ended_appends.append((self, ErrorCode.REQUEST_TIMED_OUT))


class Partitions:
    """Everything that the parts of the data plane share."""

    __slots__ = (
        "_joiners",
        "_may_be_in_isr",
        "_refusals",
        "_settings",
        "checkpoint_watch",
        "ctx",
        "ended_appends",
        "hinted",
        "lag_us",
        "lag_watch",
        "on_visible",
        "on_watch",
        "produces",
        "replicas",
        "retention_watch",
        "rules",
        "settle",
        "told_neighbours",
        "watched",
        "woken_deletes",
        "woken_fetches",
        "woken_sessions",
    )

    def __init__(self, ctx: BrokerContext) -> None:
        self.ctx = ctx
        self.rules = rules_of(ctx.protections)
        self._may_be_in_isr = controller_rules_of(ctx.protections).may_be_in_isr
        #: Who holds a high watermark back though it is in no ISR: whoever may join one.
        self._joiners = self.eligible if self.rules.waits_for_joiners else _nobody_joins
        self.replicas: dict[TopicPartition, Replica] = {}
        self._settings: dict[str, LogSettings] = {}
        #: What was last noted of produces that failed: (error, partition epoch).
        self._refusals: dict[TopicPartition, tuple[ErrorCode, int]] = {}
        self.lag_us = ctx.image.broker_int("replica.lag.time.max.ms") * 1000
        self.produces: Purgatory[Any] = Purgatory()
        self.woken_fetches: list[Any] = []
        self.woken_deletes: list[LeaderReplica] = []
        self.woken_sessions: list[FollowerSession] = []
        self.ended_appends: list[tuple[ParkedAppend, ErrorCode]] = []
        #: Leaders that the answer in the making names; their endpoints go along.
        self.hinted: list[NodeId] = []
        self.checkpoint_watch: list[Replica] = []
        self.lag_watch: list[LeaderReplica] = []
        self.retention_watch: list[Replica] = []
        #: Told when a watch list got its first entry, so that the periodic check is armed.
        self.on_watch: Callable[[int, Replica, int], None] = _nobody_watches
        #: Called at the end of inputs that do not come through the data plane itself: answers to its own requests.
        self.settle: Callable[[int], None] = _nobody_settles
        #: Partitions of which a neighbour in the broker wants to know when more becomes visible, and whom to tell.
        self.watched: dict[TopicPartition, None] = {}
        self.on_visible: Callable[[TopicPartition], None] = _nobody_looks
        #: A neighbour was told something, and so may have another deadline; whoever has looked resets it.
        self.told_neighbours = False

    # --- lookups ---------------------------------------------------------------------------------------------------

    def settings(self, topic: str) -> LogSettings:
        """The parsed configs of a topic, one object for all its partitions."""
        settings = self._settings.get(topic)
        if settings is None:
            settings = self._settings[topic] = LogSettings()
            self._read_settings(topic, settings)
        return settings

    def reread_settings(self, topic: str | None) -> None:
        """Configs changed: of one topic, or (None) of all that fall back to the broker's."""
        for name, settings in self._settings.items():
            if topic is None or name == topic:
                self._read_settings(name, settings)

    def forget_settings(self, topic: str) -> None:
        self._settings.pop(topic, None)

    def _read_settings(self, topic: str, settings: LogSettings) -> None:
        image = self.ctx.image
        number = image.topic_int
        policies = image.topic_config(topic, "cleanup.policy")
        assert isinstance(policies, tuple)
        settings.max_message_bytes = number(topic, "max.message.bytes")
        settings.log_append_time = image.topic_config(topic, "message.timestamp.type") == "LogAppendTime"
        settings.timestamp_before_max_ms = number(topic, "message.timestamp.before.max.ms")
        settings.timestamp_after_max_ms = number(topic, "message.timestamp.after.max.ms")
        settings.min_insync_replicas = number(topic, "min.insync.replicas")
        settings.compact = "compact" in policies
        settings.delete = "delete" in policies
        settings.segment_bytes = number(topic, "segment.bytes")
        settings.retention_bytes = number(topic, "retention.bytes")
        settings.retention_ms = number(topic, "retention.ms")
        settings.delete_retention_ms = number(topic, "delete.retention.ms")
        settings.min_compaction_lag_ms = number(topic, "min.compaction.lag.ms")
        settings.max_compaction_lag_ms = number(topic, "max.compaction.lag.ms")
        settings.segment_ms = number(topic, "segment.ms")
        if settings.compact and settings.max_compaction_lag_ms > 0:
            # What is to be compacted in time must leave the active segment in time.
            settings.segment_ms = min(settings.segment_ms, settings.max_compaction_lag_ms)
        settings.min_cleanable_dirty_permille = _permille(image.topic_config(topic, "min.cleanable.dirty.ratio"))
        settings.flush_messages = number(topic, "flush.messages")
        settings.flush_ms = number(topic, "flush.ms")
        settings.producer_id_expiration_ms = image.broker_int("producer.id.expiration.ms")

    def missing(self, tp: TopicPartition, topic_id: str | None = None) -> ErrorCode:
        """Why this broker holds no replica of ``tp``."""
        image = self.ctx.image
        if topic_id is not None and topic_id not in image.topics_by_id:
            return ErrorCode.UNKNOWN_TOPIC_ID
        known = image.partition(tp) is not None
        return ErrorCode.NOT_LEADER_OR_FOLLOWER if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def take_endpoints(self) -> tuple[BrokerEndpoint, ...]:
        """Where the leaders are that were hinted at since the last call."""
        hinted, self.hinted = dict.fromkeys(self.hinted), []
        brokers = self.ctx.image.brokers
        known = [(node, brokers[node]) for node in hinted if node in brokers and not brokers[node].fenced]
        return tuple(BrokerEndpoint(node, broker.host, broker.port, broker.rack) for node, broker in known)

    def eligible(self, node_id: NodeId, broker_epoch: int) -> bool:
        """May this replica join an ISR, as far as the metadata tells?"""
        return self._may_be_in_isr(self.ctx.image.brokers.get(node_id), broker_epoch)

    def alive(self, node_id: NodeId) -> bool:
        broker = self.ctx.image.brokers.get(node_id)
        return broker is not None and not broker.fenced

    def log_of(self, tp: TopicPartition, topic_id: str) -> Log:
        """The log in storage; one of an earlier topic of the same name is thrown away."""
        logs = self.ctx.storage.logs
        log = logs.get(tp)
        settings = self.settings(tp.topic)
        if log is None or log.topic_id != topic_id:
            log = logs[tp] = self.ctx.storage.new_log(tp, topic_id, settings)
        log.settings = settings
        return log

    # --- movements -------------------------------------------------------------------------------------------------

    def appended(self, replica: LeaderReplica, size_bytes: int, now_us: int) -> None:
        """``replica`` got a batch: its followers may read, its high watermark may move."""
        for follower in replica.followers:
            session = follower.session
            if session is not None and session.parked is not None:
                session.available_bytes += size_bytes
                if session.available_bytes >= session.min_bytes:
                    self.woken_sessions.append(session)
        if replica.watch & WATCH_LEADER != WATCH_LEADER or replica.log.rolled:
            self._watch_append(replica, now_us)
        self.advance(replica, now_us)

    def advance(self, replica: LeaderReplica, now_us: int) -> None:
        """Raise the high watermark if it may rise, and end who waited for that."""
        old_high_watermark = replica.high_watermark
        if not replica.advance_high_watermark(now_us, self.lag_us, self._joiners):
            return
        high_watermark = replica.high_watermark
        waiting = replica.waiting_produces
        if waiting:
            # Raised min.insync.replicas, or an ISR that shrank between the append and now.
            enough = replica.maximal_isr_size() >= replica.min_isr
            error = _NONE if enough else ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
            if not enough:
                self.note_failure(replica.tp, error)
            while waiting and waiting[0][0] <= high_watermark:
                _, operation, index = waiting.popleft()
                operation.on_end(index, error, self, now_us)
        self.high_watermark_moved(replica, old_high_watermark, now_us)

    def high_watermark_moved(self, replica: Replica, old_high_watermark: int, now_us: int) -> None:
        """Readers of this replica may have enough to read now, and its checkpoint is out of date.

        A parked fetch only counts the bytes that became visible; its partitions are read when these may be enough.
        """
        watcher = self.ctx.storage.on_high_watermark
        if watcher is not None:
            watcher(replica)
        if self.watched and replica.tp in self.watched:
            self.told_neighbours = True
            self.on_visible(replica.tp)
        fetches = replica.waiting_fetches
        if fetches:
            visible_bytes = replica.log.bytes_between(old_high_watermark, replica.high_watermark, 1 << 62)
            woken = self.woken_fetches
            for fetch in fetches.values():
                fetch.missing_bytes -= visible_bytes
                if fetch.missing_bytes <= 0:
                    woken.append(fetch)
        if not replica.watch & WATCH_CHECKPOINT:
            replica.watch |= WATCH_CHECKPOINT
            self.checkpoint_watch.append(replica)
            self.on_watch(WATCH_CHECKPOINT, replica, now_us)

    def _watch_append(self, replica: LeaderReplica, now_us: int) -> None:
        self.watch_lag(replica, now_us)
        self.watch_retention(replica, now_us)

    def watch_lag(self, replica: LeaderReplica, now_us: int) -> None:
        """Some follower may be behind now."""
        if replica.followers and not replica.watch & WATCH_LAG:
            self.lag_watch.append(replica)
            self.on_watch(WATCH_LAG, replica, now_us)
        replica.watch |= WATCH_LAG

    def watch_retention(self, replica: Replica, now_us: int) -> None:
        """The log has something that may expire one day, or sooner than was thought."""
        replica.log.rolled = False
        if not replica.watch & WATCH_RETENTION:
            replica.watch |= WATCH_RETENTION
            self.retention_watch.append(replica)
        self.on_watch(WATCH_RETENTION, replica, now_us)

    def wait(self, replica: LeaderReplica, required_end: int, operation: Any, index: int) -> None:
        """``operation`` ends when the high watermark reaches ``required_end``."""
        if replica.waiting_produces is None:
            replica.waiting_produces = deque()
        replica.waiting_produces.append((required_end, operation, index))

    def refused(self, replica: LeaderReplica, error: ErrorCode, now_us: int) -> None:
        """A batch was not appended."""
        meters = self.ctx.meters
        if meters is not None and error not in _EXPECTED_FAILURES:
            meters.of(replica.tp.topic).failed_produce_requests.mark(1, now_us)
        if error is ErrorCode.NOT_ENOUGH_REPLICAS:
            self.note_failure(replica.tp, error)

    def note_failure(self, tp: TopicPartition, error: ErrorCode) -> None:
        """Producers try again and again: one note for each error in each state of the partition."""
        replica = self.replicas.get(tp)
        if not isinstance(replica, LeaderReplica):
            return
        seen = (error, replica.partition_epoch)
        if self._refusals.get(tp) != seen:
            self._refusals[tp] = seen
            self.ctx.note(
                "produce failed",
                tp,
                error=error,
                isr=replica.isr,
                min_isr=replica.min_isr,
                high_watermark=replica.high_watermark,
            )

    def wake_readers(self, replica: Replica) -> None:
        """The role or the epoch changed: parked consumer fetches look again."""
        if replica.waiting_fetches:
            self.woken_fetches.extend(replica.waiting_fetches.values())

    def end_waiting_produces(self, replica: LeaderReplica, error: ErrorCode, now_us: int) -> None:
        waiting = replica.waiting_produces
        while waiting:
            _, operation, index = waiting.popleft()
            operation.on_end(index, error, self, now_us)


def _nobody_watches(bit: int, replica: Replica, now_us: int) -> None:
    raise AssertionError("upkeep was not wired")


def _nobody_joins(node_id: NodeId, broker_epoch: int) -> bool:
    return False


def _nobody_looks(tp: TopicPartition) -> None:
    raise AssertionError("a partition is watched for nobody")


def _nobody_settles(now_us: int) -> None:
    raise AssertionError("the data plane was not wired")


def _permille(text: Any) -> int:
    """``0.5`` as 500, without a float."""
    whole, _, fraction = str(text).partition(".")
    return int(whole or "0") * 1000 + int((fraction + "000")[:3])
