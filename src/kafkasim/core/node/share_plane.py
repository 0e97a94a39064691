"""Share fetches and acknowledgements as a broker serves them.

Mirrors:  KafkaApis.handleShareFetchRequest and handleShareAcknowledgeRequest, SharePartitionManager, DelayedShareFetch (KIP-932).
Inputs:   ShareFetch, ShareAcknowledge; a session's connection closing; what becomes visible in a log; on_image, on_deadline.
Rule 1:   the acknowledgements of a fetch are taken in first; the fetch goes on whatever came of them.
Rule 2:   a fetch waits for records that may be acquired, at most ``max_wait_ms``; the answer waits for the acknowledgements too.
Rule 3:   the partitions of a request are turned by the session epoch, and share its bytes and records in that order.
Rule 4:   a session that ends, also by its connection, gives back at once what its member holds on the session's partitions.
Differs:  committed reads stop at the high watermark: there are no transactions yet; the remainder of bytes that does not divide
          among partitions goes to the first instead of a random one.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.controller.image import ImageDelta
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.message import fresh, slotted
from kafkasim.core.model.share_messages import (
    ACK_RENEW,
    FINAL_SESSION_EPOCH,
    AcknowledgementBatch,
    PartitionShareAcknowledged,
    PartitionShareFetch,
    PartitionShareFetched,
    ShareAcknowledgeRequest,
    ShareAcknowledgeResponse,
    ShareFetchRequest,
    ShareFetchResponse,
    TopicIdPartition,
)
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.data_plane import DataPlane
from kafkasim.core.node.share_configs import ShareConfigs
from kafkasim.core.node.share_partitions import Key, SharePartitions
from kafkasim.core.node.share_persister import SharePersister
from kafkasim.core.replica.purgatory import Purgatory
from kafkasim.core.share.acknowledge import acknowledge, release_acquired
from kafkasim.core.share.acquire import Wanted, acquire
from kafkasim.core.share.partition import ACTIVE, SharePartition
from kafkasim.core.share.sessions import ShareSession, ShareSessions

_NONE = ErrorCode.NONE


@slotted
class Exchange:
    """One request in hand. ``open_acks``: acknowledgements that are being persisted; ``fetching``: records are waited for."""

    call: Call
    open_acks: int = 0
    fetching: bool = False
    acks: dict[TopicIdPartition, ErrorCode] = fresh(factory=dict)
    fetched: dict[TopicIdPartition, PartitionShareFetched] = fresh(factory=dict)
    #: Partitions in the order in which they are read.
    wanted: list[TopicIdPartition] = fresh(factory=list)
    error: ErrorCode = _NONE
    #: The session ends with this request, once its acknowledgements are taken in.
    ends_session: bool = False
    parked: ParkedShareFetch | None = None


class ParkedShareFetch:
    """A share fetch that waits for records, or a refused one that waits before it is answered."""

    __slots__ = ("done", "exchange")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.done = False


class SharePlane:
    """A component of the broker node."""

    API_KEYS: tuple[int, ...] = (ShareFetchRequest.API_KEY, ShareAcknowledgeRequest.API_KEY)

    def __init__(self, ctx: BrokerContext, data_plane: DataPlane, persister: SharePersister) -> None:
        self._ctx = ctx
        self._data_plane = data_plane
        self._persister = persister
        self._configs = ShareConfigs(ctx.image, ctx.protections)
        watched = data_plane.tell_visible(self._on_visible)
        self.partitions = SharePartitions(ctx, data_plane, persister, self._configs, self._wake, watched)
        self.sessions = ShareSessions(ctx.image.broker_int("group.share.max.share.sessions"))
        self._parked: Purgatory[ParkedShareFetch] = Purgatory()
        self._by_connection: dict[int, Exchange] = {}
        self._waiting: dict[Key, dict[int, Exchange]] = {}
        self._woken: dict[Key, None] = {}

    # --- inputs ----------------------------------------------------------------------------------------------------

    @property
    def deadline_us(self) -> int:
        if self._woken:
            return 0
        earliest_us = self._persister.deadline_us
        for timers in (self._parked, self.partitions):
            other_us = timers.deadline_us
            if other_us < earliest_us:
                earliest_us = other_us
        return earliest_us

    def on_request(self, call: Call, now_us: int) -> None:
        if isinstance(call.request, ShareFetchRequest):
            self._on_fetch(call, call.request, now_us)
        else:
            self._on_acknowledge(call, call.request, now_us)
        self._settle(now_us)

    def on_deadline(self, now_us: int) -> None:
        if self._persister.deadline_us <= now_us:
            self._persister.on_deadline(now_us)
        self.partitions.on_deadline(now_us, self._settle)
        for parked in self._parked.take_expired(now_us):
            self._complete(parked.exchange, now_us)
        self._settle(now_us)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        """The member is gone, or only its connection is: what it holds comes back at once."""
        parked = self._by_connection.get(connection_id)
        if parked is not None:
            self._unpark(parked)
        for session in self.sessions.of_connection(connection_id):
            self._end_session(session, now_us)
        for group_id in self.sessions.close_connection(connection_id):
            if not self.sessions.member_count(group_id):
                self.partitions.drop_group(group_id, now_us)
        self._settle(now_us)

    def on_image(self, delta: ImageDelta, now_us: int) -> None:
        self.partitions.on_image(delta, now_us)

    def begin_shutdown(self) -> None:
        """Leaderships are about to move away."""
        self.partitions.is_leaving = True

    def give_back(self, now_us: int) -> None:
        """The connections are about to close, and with them the sessions: what was acquired is given back, and persisted."""
        for session in self.sessions.everybody():
            self._end_session(session, now_us)

    def shutdown(self, now_us: int) -> None:
        """Nothing of a share partition is only here."""

    def _on_visible(self, tp: TopicPartition) -> None:
        for key in self.partitions.by_tp.get(tp, ()):
            if key in self._waiting:
                self._woken[key] = None

    # --- acknowledgements ------------------------------------------------------------------------------------------

    def _take_acknowledgements(
        self, exchange: Exchange, member_id: str, parts: Iterable[PartitionShareFetch], *, renews: bool, now_us: int
    ) -> None:
        group_id = exchange.call.request.group_id
        for part in parts:
            if not part.acknowledgements:
                continue
            tip = part.tip
            partition = self.partitions.known((group_id, tip))
            if not _well_formed(part.acknowledgements, renews=renews):
                exchange.acks[tip] = ErrorCode.INVALID_REQUEST
            elif self.partitions.tp_of(tip) is None:
                exchange.acks[tip] = ErrorCode.UNKNOWN_TOPIC_ID
            elif partition is None or partition.status != ACTIVE:
                exchange.acks[tip] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION  # Also where it was led from here until now.
            else:
                self._acknowledge(exchange, member_id, partition, part.acknowledgements, now_us)

    def _acknowledge(
        self,
        exchange: Exchange,
        member_id: str,
        partition: SharePartition,
        batches: tuple[AcknowledgementBatch, ...],
        now_us: int,
    ) -> None:
        tip = partition.tip
        key = (partition.group_id, tip)

        def done(error: ErrorCode, now_us: int) -> None:
            exchange.open_acks -= 1
            exchange.acks[tip] = error
            self._maybe_answer(exchange, now_us)

        exchange.open_acks += 1
        acknowledge(partition, member_id, batches, done, now_us)
        self.partitions.touched(key, partition, now_us)
        self._wake(key, now_us)

    def _on_acknowledge(self, call: Call, request: ShareAcknowledgeRequest, now_us: int) -> None:
        exchange = Exchange(call, open_acks=1)
        session, error = self.sessions.on_acknowledge(request.group_id, request.member_id, request.session_epoch)
        if session is None:
            self._ctx.reply(call, ShareAcknowledgeResponse(error))
            return
        exchange.ends_session = request.session_epoch == FINAL_SESSION_EPOCH
        member_id, renews = request.member_id, request.is_renew_ack
        self._take_acknowledgements(exchange, member_id, request.partitions, renews=renews, now_us=now_us)
        exchange.open_acks -= 1
        self._maybe_answer(exchange, now_us)

    def _end_session(self, session: ShareSession, now_us: int, exchange: Exchange | None = None) -> None:
        """Give back what the member holds; the exchange that asked for it is answered when that is persisted."""
        self.sessions.remove(session.group_id, session.member_id)

        def done(error: ErrorCode, now_us: int) -> None:
            if exchange is not None:
                exchange.open_acks -= 1
                self._maybe_answer(exchange, now_us)

        if exchange is not None:
            exchange.open_acks += 1
        for tip in session.partitions:
            key = (session.group_id, tip)
            partition = self.partitions.known(key)
            if partition is not None and partition.status == ACTIVE:
                if exchange is not None:
                    exchange.open_acks += 1
                release_acquired(partition, session.member_id, done, now_us)
                self.partitions.touched(key, partition, now_us)
                self._wake(key, now_us)
        done(_NONE, now_us)

    # --- fetches -----------------------------------------------------------------------------------------------------

    def _on_fetch(self, call: Call, request: ShareFetchRequest, now_us: int) -> None:
        fetches_nothing = not (request.max_wait_ms or request.min_bytes or request.max_bytes or request.max_records)
        acknowledges = any(part.acknowledgements for part in request.partitions)
        session, error = None, ErrorCode.INVALID_REQUEST
        if not request.is_renew_ack or fetches_nothing:
            session, error = self.sessions.on_fetch(
                request.group_id,
                request.member_id,
                request.session_epoch,
                call.connection_id,
                [part.tip for part in request.partitions],
                request.forgotten,
                acknowledges=acknowledges,
            )
        exchange = Exchange(call, open_acks=1, error=error)
        if session is None:
            self._refuse(exchange, request, now_us)
            return
        renews = request.is_renew_ack
        self._take_acknowledgements(exchange, request.member_id, request.partitions, renews=renews, now_us=now_us)
        exchange.ends_session = request.session_epoch == FINAL_SESSION_EPOCH
        exchange.open_acks -= 1
        if not exchange.ends_session and not renews and request.max_records > 0 and request.max_bytes > 0:
            exchange.wanted = _turned(list(session.partitions), request.session_epoch)
        self._begin_fetch(exchange, request, now_us)

    def _refuse(self, exchange: Exchange, request: ShareFetchRequest, now_us: int) -> None:
        if exchange.error is ErrorCode.SHARE_SESSION_LIMIT_REACHED and request.max_wait_ms > 0:
            # The client must not come back at once.
            exchange.open_acks = 0
            exchange.fetching = True
            self._park(exchange, request, now_us)
            return
        self._ctx.reply(exchange.call, ShareFetchResponse(exchange.error))

    def _begin_fetch(self, exchange: Exchange, request: ShareFetchRequest, now_us: int) -> None:
        for tip in exchange.wanted:
            partition, error = self.partitions.get((request.group_id, tip), now_us)
            if partition is None:
                exchange.fetched[tip] = self._failed(tip, error)
        exchange.wanted = [tip for tip in exchange.wanted if tip not in exchange.fetched]
        if not exchange.wanted:
            self._maybe_answer(exchange, now_us)
            return
        exchange.fetching = True
        if self._try_complete(exchange, now_us):
            return
        for tip in exchange.wanted:
            self._waiting.setdefault((request.group_id, tip), {})[exchange.call.connection_id] = exchange
        self._park(exchange, request, now_us)

    def _park(self, exchange: Exchange, request: ShareFetchRequest, now_us: int) -> None:
        exchange.parked = ParkedShareFetch(exchange)
        self._by_connection[exchange.call.connection_id] = exchange
        self._parked.park(exchange.parked, request.max_wait_ms * 1000, now_us)

    def _failed(self, tip: TopicIdPartition, error: ErrorCode) -> PartitionShareFetched:
        tp = self.partitions.tp_of(tip)
        state = None if tp is None else self._ctx.image.partition(tp)
        if error is ErrorCode.NOT_LEADER_OR_FOLLOWER and state is not None:
            return PartitionShareFetched(
                tip, error, current_leader=state.leader, current_leader_epoch=state.leader_epoch
            )
        return PartitionShareFetched(tip, error)

    def _acquirable(self, exchange: Exchange) -> list[SharePartition]:
        """The share partitions of the fetch from which something may be acquired now."""
        group_id = exchange.call.request.group_id
        found = []
        for tip in exchange.wanted:
            partition = self.partitions.known((group_id, tip))
            if partition is not None and partition.status == ACTIVE and partition.can_acquire:
                found.append(partition)
        return found

    def _try_complete(self, exchange: Exchange, now_us: int) -> bool:
        """Answer the fetch if there is enough to read, or something is wrong with a partition."""
        request: ShareFetchRequest = exchange.call.request
        found_bytes = 0
        for tip in exchange.wanted:
            key = (request.group_id, tip)
            if key in self.partitions.failures or self.partitions.known(key) is None:
                self._complete(exchange, now_us)
                return True
        for partition in self._acquirable(exchange):
            leader, _ = self.partitions.leader(partition.tip)
            if leader is None:
                continue
            offset = partition.next_fetch_offset()
            log = leader.log
            if not log.start <= offset <= log.end:
                self._complete(exchange, now_us)
                return True
            found_bytes += log.bytes_between(offset, leader.high_watermark, max(1, request.min_bytes))
            if found_bytes and found_bytes >= request.min_bytes:
                self._complete(exchange, now_us)
                return True
        return False

    def _complete(self, exchange: Exchange, now_us: int) -> None:
        """Acquire what there is; the fetch is over."""
        request: ShareFetchRequest = exchange.call.request
        self._unpark(exchange)
        for tip in exchange.wanted:
            key = (request.group_id, tip)
            if key in self.partitions.failures:
                exchange.fetched[tip] = self._failed(tip, self.partitions.failures[key])
            elif self.partitions.known(key) is None:
                _, error = self.partitions.leader(tip)
                if error is _NONE:
                    error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                exchange.fetched[tip] = self._failed(tip, error)
        partitions = self._acquirable(exchange)
        left = request.max_records
        for index, partition in enumerate(partitions):
            max_bytes = request.max_bytes // len(partitions)
            if index == 0:
                max_bytes += request.max_bytes % len(partitions)
            left -= self._acquire(exchange, partition, max_bytes, left, now_us)
        exchange.fetching = False
        self._maybe_answer(exchange, now_us)

    def _acquire(
        self, exchange: Exchange, partition: SharePartition, max_bytes: int, max_records: int, now_us: int
    ) -> int:
        request: ShareFetchRequest = exchange.call.request
        leader, error = self.partitions.leader(partition.tip)
        key = (partition.group_id, partition.tip)
        if leader is None:
            exchange.fetched[partition.tip] = self._failed(partition.tip, error)
            return 0
        offset = partition.next_fetch_offset()
        if not leader.log.start <= offset <= leader.log.end:
            before = partition.start_offset
            partition.update_log_start(leader.log.start)
            self.partitions.notes.moved(leader.tp, partition, before)
            self._wake(key, now_us)
            return 0
        notes = self.partitions.notes
        batches = leader.log.read(offset, max_bytes, leader.high_watermark, True)
        acquired, count = acquire(
            partition,
            Wanted(request.member_id, batches, offset, max_records, request.batch_size, request.acquire_mode, now_us),
        )
        self.partitions.touched(key, partition, now_us)
        if batches and offset < batches[0].base_offset:
            notes.skipped(leader.tp, partition, offset, batches[0].base_offset - 1)
        if acquired:
            notes.acquired(leader.tp, partition, request.member_id, acquired)
            first, last = acquired[0].first_offset, acquired[-1].last_offset
            sent = tuple(batch for batch in batches if batch.last_offset >= first and batch.base_offset <= last)
            exchange.fetched[partition.tip] = PartitionShareFetched(
                partition.tip, batches=sent, acquired=tuple(acquired)
            )
            self._wake(key, now_us)
        return count

    # --- answers -----------------------------------------------------------------------------------------------------

    def _maybe_answer(self, exchange: Exchange, now_us: int) -> None:
        if exchange.open_acks or exchange.fetching:
            return
        request = exchange.call.request
        if exchange.ends_session:
            exchange.ends_session = False
            session = self.sessions.get(request.group_id, request.member_id)
            if session is not None:
                self._end_session(session, now_us, exchange)
                return
        timeout_ms = self._configs.number(request.group_id, "record.lock.duration.ms")
        if isinstance(request, ShareAcknowledgeRequest):
            parts = tuple(self._acknowledged(tip, error) for tip, error in exchange.acks.items())
            self._ctx.reply(exchange.call, ShareAcknowledgeResponse(_NONE, parts, timeout_ms))
            return
        fetched = exchange.fetched
        for tip, error in exchange.acks.items():
            part = fetched.get(tip) or PartitionShareFetched(tip)
            fetched[tip] = PartitionShareFetched(
                tip, part.error, error, part.batches, part.acquired, part.current_leader, part.current_leader_epoch
            )
        self._ctx.reply(exchange.call, ShareFetchResponse(exchange.error, tuple(fetched.values()), timeout_ms))

    def _acknowledged(self, tip: TopicIdPartition, error: ErrorCode) -> PartitionShareAcknowledged:
        failed = self._failed(tip, error)
        return PartitionShareAcknowledged(tip, error, failed.current_leader, failed.current_leader_epoch)

    # --- waiting -----------------------------------------------------------------------------------------------------

    def _wake(self, key: Key, now_us: int) -> None:
        if key in self._waiting:
            self._woken[key] = None

    def _unpark(self, exchange: Exchange) -> None:
        if exchange.parked is None:
            return
        exchange.parked.done = True
        exchange.parked = None
        group_id, connection_id = exchange.call.request.group_id, exchange.call.connection_id
        del self._by_connection[connection_id]
        for tip in exchange.wanted:
            waiting = self._waiting[(group_id, tip)]
            del waiting[connection_id]
            if not waiting:
                del self._waiting[(group_id, tip)]

    def _settle(self, now_us: int) -> None:
        """Let everybody look who waits for a share partition on which something has changed."""
        while self._woken:
            key = next(iter(self._woken))
            del self._woken[key]
            for exchange in list(self._waiting.get(key, {}).values()):
                if exchange.parked is not None:
                    self._try_complete(exchange, now_us)


def _turned(tips: list[TopicIdPartition], epoch: int) -> list[TopicIdPartition]:
    """Another partition first in each request of a session."""
    if len(tips) < 2 or epoch < 1:
        return tips
    at = epoch % len(tips)
    return tips[at:] + tips[:at]


def _well_formed(batches: tuple[AcknowledgementBatch, ...], *, renews: bool) -> bool:
    previous_last = -1
    for batch in batches:
        types = batch.types
        if batch.first_offset > batch.last_offset or batch.first_offset < previous_last or not types:
            return False
        if len(types) > 1 and len(types) != batch.last_offset - batch.first_offset + 1:
            return False
        if any(not 0 <= kind <= ACK_RENEW or (kind == ACK_RENEW and not renews) for kind in types):
            return False
        previous_last = batch.last_offset
    return True
