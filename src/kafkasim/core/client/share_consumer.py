"""The engine of a share consumer: membership, one fetch at a time, records in hand, acknowledgements on their way.

Mirrors:  rd_kafka_share_t (rd_kafka_share_poll, rd_kafka_share_commit_sync and _async, rd_kafka_share_consumer_close).
Inputs:   subscribe, unsubscribe, poll, take, acknowledge, commit_sync, commit_async, close_begin; contract.md, "Client engines".
Rule 1:   a poll that finds nothing asks one broker for records; one that brought none hands on to the next, without end, until
          records are there: the application need not poll for that.
Rule 2:   acknowledgements are never sent twice; one that failed is told and forgotten.
Rule 3:   who does not poll for ``max.poll.interval.ms`` leaves the group, and keeps its session and its locks.
Rule 4:   only a broker whose connection is up is asked for records; the others are connected to again and again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.items import ConsumerError
from kafkasim.core.client.operation import Operation
from kafkasim.core.client.share_acks import HELD, AckBatch, Delivered, InFlight, ShareRun
from kafkasim.core.client.share_brokers import ShareBroker
from kafkasim.core.client.share_membership import ShareMembership
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.consumer_group_messages import TopicPartitions
from kafkasim.core.model.effects import MAIN_CHANNEL, NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import Draw, NodeId, TopicPartition
from kafkasim.core.model.message import slotted
from kafkasim.core.model.share_messages import (
    ACK_GAP,
    ACK_RENEW,
    BATCH_OPTIMIZED,
    PartitionShareFetched,
    ShareFetchResponse,
    TopicIdPartition,
)

_NONE = ErrorCode.NONE
_RETRY_US = 100_000
#: What librdkafka keeps to itself, and what the application hears instead.
_TRANSLATED = {
    ErrorCode._TIMED_OUT: ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode._TIMED_OUT_QUEUE: ErrorCode.REQUEST_TIMED_OUT,
}
#: After these the next broker is asked at once: the session begins anew, or the connection is down.
_AT_ONCE = frozenset(
    {
        ErrorCode.SHARE_SESSION_NOT_FOUND,
        ErrorCode.INVALID_SHARE_SESSION_EPOCH,
        ErrorCode._TRANSPORT,
        ErrorCode._TIMED_OUT,
    }
)
_STALE = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
    }
)

#: (partition, acknowledged offsets, error): what the acknowledgement commit callback hears.
Committed: TypeAlias = "tuple[TopicPartition, list[int], ErrorCode]"


@slotted
class Commit:
    """A synchronous commit: partition -> outcome; ``open`` batches are still on their way."""

    operation: Operation
    outcomes: dict[TopicPartition, ErrorCode]
    open: int


class ShareConsumerEngine(ClientCore):
    """``acquire_mode`` and ``allows_renew`` are what librdkafka lacks and brokers have (``kafkasim.extras``)."""

    KIND = "consumer"

    def __init__(
        self, node_id: NodeId, config: ClientConfig, bootstrap: tuple[NodeId, ...], draw: Draw, wall_offset_us: int
    ) -> None:
        super().__init__(node_id, config, bootstrap, draw, wall_offset_us)
        self.group_id = config.text("group.id")
        self.is_explicit = config.text("share.acknowledgement.mode") == "explicit"
        self.acquire_mode = BATCH_OPTIMIZED
        self.allows_renew = False
        self.tells_commits = False
        self.commits: list[Committed] = []
        #: Told of the outcome of every batch of acknowledgements, by whoever keeps a history.
        self.on_outcome: Callable[[AckBatch, ErrorCode, int], None] | None = None
        #: What the last answer of a broker said of its locks (acquisitionLockTimeoutMs).
        self.lock_timeout_ms = 0
        self._renewed: list[AckBatch] = []
        self._max_poll_us = config.ms("max.poll.interval.ms") * 1000
        self._membership = ShareMembership(self, self._on_assignment)
        self._assignment: tuple[TopicPartitions, ...] = ()
        self._assigned: dict[TopicIdPartition, TopicPartition] = {}
        self._brokers: dict[NodeId, ShareBroker] = {}
        self._queue: deque[list[Delivered] | ConsumerError] = deque()
        self._in_flight = InFlight()
        self._wants_records = False
        self._fetching = 0
        self._picked = -1
        self._poll_timer: Timer | None = None
        self._retry_timer: Timer | None = None
        self._connect_timer: Timer | None = None
        self._closing: Operation | None = None
        self._left_group = False

    @property
    def member_id(self) -> str:
        return self._membership.member_id

    # --- subscription ------------------------------------------------------------------------------------------------

    def subscribe(self, topics: list[str], now_us: int) -> ErrorCode:
        if any(not topic for topic in topics) or len(set(topics)) != len(topics):
            return ErrorCode._INVALID_ARG
        self.start(now_us)
        if not topics:
            self.unsubscribe(now_us)
            return _NONE
        for topic in topics:
            self.want_topic(topic, now_us)
        self._membership.subscribe(tuple(topics), now_us)
        self._arm_poll_timer(now_us)
        return _NONE

    def unsubscribe(self, now_us: int) -> None:
        if self._membership.topics:
            self._membership.unsubscribe(now_us)

    def subscription(self) -> list[str]:
        return list(self._membership.topics)

    def _on_assignment(self, parts: tuple[TopicPartitions, ...], now_us: int) -> None:
        self._assignment = parts
        self._resolve(now_us)

    def _resolve(self, now_us: int) -> None:
        """Find the leaders of what is assigned; a broker fetches what it leads."""
        self._assigned = {}
        for part in self._assignment:
            name = self.metadata.name_of(part.topic_id)
            if name is None:
                self.refresh_topics(self._membership.topics, now_us)
                continue
            for number in part.partitions:
                self._assigned[TopicIdPartition(part.topic_id, number)] = TopicPartition(name, number)
        for broker in self._brokers.values():
            broker.wanted = {}
        for tip, tp in self._assigned.items():
            leader = self.metadata.leader(tp)
            if leader >= 0:
                self._broker(leader).wanted[tip] = tp
        self._keep_connected(now_us)
        self.maybe_fetch(now_us)

    def _broker(self, node: NodeId) -> ShareBroker:
        broker = self._brokers.get(node)
        if broker is None:
            broker = self._brokers[node] = ShareBroker(self, node)
        return broker

    def on_metadata(self, changed: list[str], is_full: bool, now_us: int) -> None:
        for node, broker in self._brokers.items():
            if node not in self.metadata.brokers:
                broker.on_gone()
        if changed:
            self._resolve(now_us)

    def on_connection(self, node: NodeId, channel: int, is_up: bool, now_us: int) -> None:
        if not is_up:
            self._membership.on_connection_lost(node, channel, now_us)
        elif channel == MAIN_CHANNEL:
            self.call_at(now_us, self.maybe_fetch)
        self._keep_connected(now_us)

    def _keep_connected(self, now_us: int) -> None:
        """Bring up the connections to all brokers that lead something of the assignment."""
        if self.closed or self._closing is not None:
            return
        again_us = NEVER_US
        for node, broker in self._brokers.items():
            if broker.wanted and not self.is_up(node):
                self.connect(node, now_us)
                ready_us = self.ready_us(node)
                if now_us < ready_us < again_us:
                    again_us = ready_us
        if self._connect_timer is not None:
            self._connect_timer.cancel()
            self._connect_timer = None
        if again_us < NEVER_US:
            self._connect_timer = self.call_at(again_us, self._keep_connected)

    # --- polling -----------------------------------------------------------------------------------------------------

    def poll(self, now_us: int) -> tuple[ErrorCode, str]:
        """The application asks for records: send what it acknowledged, see to it that some are fetched."""
        self.start(now_us)
        if not self.is_explicit:
            self._in_flight.accept_all()
        held = self._in_flight.held_count
        if self.is_explicit and held:
            return ErrorCode._STATE, f"{held} records from previous poll have not been acknowledged"
        if not self._membership.topics:
            return ErrorCode._STATE, "Consumer is not subscribed to any topics"
        self._arm_poll_timer(now_us)
        self._membership.rejoin(now_us)
        if not self._queue:
            self._wants_records = True
        self._distribute(self._in_flight.take(), now_us, and_fetch=True)
        return _NONE, ""

    def take(self, now_us: int) -> list[ShareRun] | ConsumerError:
        """What a poll returns: all records of one fetch, an error, or nothing yet."""
        if not self._queue:
            return []
        item = self._queue.popleft()
        if isinstance(item, ConsumerError):
            return item
        for delivered in item:
            self._in_flight.add(delivered)
        self._arm_poll_timer(now_us)
        return [run for delivered in item for run in delivered.runs]

    def has_items(self) -> bool:
        return bool(self._queue)

    def _arm_poll_timer(self, now_us: int) -> None:
        if self._poll_timer is not None:
            self._poll_timer.cancel()
        self._poll_timer = self.call_at(now_us + self._max_poll_us + 1000, self._poll_exceeded)

    def _poll_exceeded(self, now_us: int) -> None:
        if not self._membership.is_member or self._closing is not None:
            return
        interval_ms = self._max_poll_us // 1000
        text = f"Application maximum poll interval ({interval_ms}ms) exceeded by 1ms"
        self._queue.append(ConsumerError(ErrorCode._MAX_POLL_EXCEEDED, text))
        self._membership.leave(lambda at_us: None, now_us)
        self.wake = True

    # --- acknowledging -----------------------------------------------------------------------------------------------

    def acknowledge(self, tp: TopicPartition, offset: int, kind: int) -> ErrorCode:
        if tp.partition < 0 or offset < 0:
            return ErrorCode._INVALID_ARG
        if not self.is_explicit:
            return ErrorCode._STATE
        return self._in_flight.acknowledge(tp, offset, kind, renews=self.allows_renew)

    def accept_rest(self) -> None:
        """Accept every record in hand of which nothing was said: as many calls of ``acknowledge``, in one."""
        self._in_flight.accept_all()

    def _take_acks(self) -> list[AckBatch]:
        if not self.is_explicit:
            self._in_flight.accept_all()
        return self._in_flight.take()

    def commit_async(self, now_us: int) -> None:
        self._distribute(self._take_acks(), now_us, and_fetch=False)

    def commit_sync(self, timeout_us: int, now_us: int) -> Operation:
        """The result is a list of (partition, error), empty if there was nothing to acknowledge."""
        operation = Operation(on_done=self._operation_done)
        batches = self._take_acks()
        commit = Commit(operation, {batch.tp: _NONE for batch in batches}, len(batches))
        if not batches:
            operation.succeed([])
            return operation
        by_broker: dict[NodeId, list[AckBatch]] = {}
        for batch in batches:
            if self.metadata.leader(batch.tp) != batch.leader:
                outcome = {batch.tip: ErrorCode.NOT_LEADER_OR_FOLLOWER}
                self.on_acknowledged([batch], outcome, commit, now_us, tells=False)
            else:
                by_broker.setdefault(batch.leader, []).append(batch)

        def expire(at_us: int) -> None:
            if not operation.done:
                operation.succeed([(tp, error or ErrorCode.REQUEST_TIMED_OUT) for tp, error in commit.outcomes.items()])

        if not operation.done:
            self.call_at(now_us + max(timeout_us, 1), expire)
        for node, mine in by_broker.items():
            self._broker(node).commit(commit, mine, now_us)
        return operation

    def _distribute(self, batches: list[AckBatch], now_us: int, *, and_fetch: bool) -> None:
        """Give acknowledgements to the brokers from which the records came; a fetch carries those of its broker."""
        for batch in batches:
            if self.metadata.leader(batch.tp) != batch.leader:
                self.on_acknowledged([batch], {batch.tip: ErrorCode.NOT_LEADER_OR_FOLLOWER}, None, now_us)
            else:
                self._broker(batch.leader).add_acks(batch)
        if and_fetch:
            self.maybe_fetch(now_us)
        for broker in self._brokers.values():
            broker.work(now_us)

    def on_acknowledged(
        self,
        acks: list[AckBatch],
        outcomes: dict[TopicIdPartition, ErrorCode],
        commit: object | None,
        now_us: int,
        *,
        tells: bool = True,
    ) -> None:
        """The broker has answered, or will not."""
        for batch in acks:
            # A partition that was asked about and not answered about.
            error = outcomes.get(batch.tip, ErrorCode.INVALID_RECORD_STATE)
            error = _TRANSLATED.get(error, error)
            if self.on_outcome is not None:
                self.on_outcome(batch, error, now_us)
            if self.tells_commits and tells and batch.offsets:
                self.commits.append((batch.tp, batch.offsets, error))
                self.wake = True
            if error is _NONE:
                self._bring_back_renewed(batch)
            if isinstance(commit, Commit):
                commit.outcomes[batch.tp] = error
                commit.open -= 1
                if not commit.open and not commit.operation.done:
                    commit.operation.succeed(list(commit.outcomes.items()))

    def _bring_back_renewed(self, batch: AckBatch) -> None:
        """What was renewed is the application's again."""
        renewed = {offset: HELD for offset, kind in batch.types.items() if kind == ACK_RENEW}
        if renewed:
            self._renewed.append(AckBatch(batch.tp, batch.tip, batch.leader, renewed))

    def take_renewed(self, now_us: int) -> list[tuple[TopicPartition, int]]:
        """Records whose renewal was granted: held again, to be given to the application again (``kafkasim.extras``)."""
        renewed, self._renewed = self._renewed, []
        for batch in renewed:
            self._in_flight.hold(batch)
        return [(batch.tp, offset) for batch in renewed for offset in batch.types]

    # --- fetching ----------------------------------------------------------------------------------------------------

    def maybe_fetch(self, now_us: int) -> None:
        """Ask the next broker for records if the application wants some and nobody is being asked."""
        if not self._wants_records or self._fetching or self._closing is not None or self.closed:
            return
        tips = list(self._assigned)
        for _ in tips:
            self._picked = (self._picked + 1) % len(tips)
            leader = self.metadata.leader(self._assigned[tips[self._picked]])
            broker = self._brokers.get(leader)
            if broker is not None and not broker.is_busy and self.is_up(leader):
                self._fetching += 1
                broker.fetch(now_us)
                return

    def on_fetched(
        self,
        broker: ShareBroker,
        response: ShareFetchResponse | None,
        error: ErrorCode,
        partitions: dict[TopicIdPartition, TopicPartition],
        now_us: int,
    ) -> None:
        self._fetching -= 1
        delivered: list[Delivered] = []
        if response is not None:
            self.lock_timeout_ms = response.acquisition_lock_timeout_ms
            self.on_hints(response.partitions, now_us)
            for part in response.partitions:
                tp = partitions.get(part.tip)
                if tp is not None and part.acquired:
                    delivered.append(_delivered(tp, broker.node, part))
        gaps_only = [one for one in delivered if not one.runs]
        for one in gaps_only:
            broker.add_acks(AckBatch(one.tp, one.tip, one.leader, dict.fromkeys(one.gaps, ACK_GAP)))
        delivered = [one for one in delivered if one.runs]
        if delivered:
            self._wants_records = False
            self._queue.append(delivered)
            self.wake = True
        elif response is None and error not in _AT_ONCE:
            self._retry_later(now_us)

    def on_hints(self, parts: Iterable[Any], now_us: int) -> None:
        """A broker that does not lead a partition any more says who does."""
        for part in parts:
            tp = self._assigned.get(part.tip)
            if part.error in _STALE and tp is not None:
                if part.current_leader < 0 or not self.leader_hint(
                    tp, part.current_leader, part.current_leader_epoch, now_us
                ):
                    self.leader_lost(tp.topic, now_us)
                self._retry_later(now_us)
            elif part.error is not _NONE:
                self._retry_later(now_us)

    def _retry_later(self, now_us: int) -> None:
        """Do not ask again at once after a failure."""
        if self._retry_timer is None:
            self._fetching += 1

            def again(at_us: int) -> None:
                self._retry_timer = None
                self._fetching -= 1
                self._resolve(at_us)

            self._retry_timer = self.call_at(now_us + _RETRY_US, again)

    # --- the end -----------------------------------------------------------------------------------------------------

    def close_begin(self, now_us: int) -> Operation:
        """Send what is acknowledged, give the rest back, leave the group."""
        operation = self._closing = Operation(on_done=self._operation_done)
        for batch in self._in_flight.take():
            self._broker(batch.leader).add_acks(batch)
        self._in_flight.clear()
        self._queue.clear()

        def left(at_us: int) -> None:
            self._left_group = True
            self.on_left(at_us)

        for broker in list(self._brokers.values()):
            broker.leave(now_us)
        self._membership.topics = ()
        self._membership.leave(left, now_us)
        return operation

    def on_left(self, now_us: int) -> None:
        """A broker knows that we go, or the coordinator does."""
        operation = self._closing
        if operation is None or operation.done or not self._left_group:
            return
        if all(broker.left for broker in self._brokers.values()):
            operation.succeed()


def _delivered(tp: TopicPartition, leader: NodeId, part: PartitionShareFetched) -> Delivered:
    """Which records of the batches were acquired; acquired offsets without a record are gaps."""
    runs: list[ShareRun] = []
    gaps: list[int] = []
    for acquired in part.acquired:
        expected = acquired.first_offset
        for batch in part.batches:
            if batch.last_offset < acquired.first_offset or batch.base_offset > acquired.last_offset:
                continue
            if batch.is_control:
                continue
            start = batch.index_from(acquired.first_offset)
            stop = batch.index_from(acquired.last_offset + 1)
            if stop <= start:
                continue
            if batch.offsets is None:
                gaps += range(expected, batch.offset_at(start))
            else:
                present = set(batch.offsets[start:stop])
                gaps += [offset for offset in range(expected, batch.offset_at(stop - 1)) if offset not in present]
            expected = batch.offset_at(stop - 1) + 1
            runs.append(ShareRun(tp, batch, start, stop, acquired.delivery_count))
        gaps += range(expected, acquired.last_offset + 1)
    return Delivered(tp, part.tip, leader, runs, gaps)
