"""Fetch as this broker serves it: long polls of consumers, sessions of follower brokers.

Mirrors:  KafkaApis.handleFetchRequest, ReplicaManager.fetchMessages, DelayedFetch, FetchManager (KIP-227, KIP-392).
Inputs:   on_fetch, answer_woken, on_closed, expire.      Effects: Reply.
Rule 1:   a consumer reads below the high watermark of the replica that it asks, a follower up to the leader's log end.
Rule 2:   a parked fetch counts the bytes that become visible; its partitions are read when these may be enough, and at its end.
Rule 3:   a follower's fetch moves the leader's marks before it is answered or parked, in the same input.
Differs:  consumers get no sessions (Kafka answers session id 0 too when its cache is full).
"""

from __future__ import annotations

from typing import Any

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NodeId
from kafkasim.core.model.messages import FetchRequest, FetchResponse, PartitionFetch, PartitionFetched
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.node.context import Call
from kafkasim.core.node.data_plane_isr import IsrChanges
from kafkasim.core.node.data_plane_partitions import Partitions, Replica
from kafkasim.core.replica.leader import LeaderReplica
from kafkasim.core.replica.purgatory import Purgatory
from kafkasim.core.replica.session import FollowerSession, ParkedSessionFetch

_NONE = ErrorCode.NONE
_SESSION_IDS = 0x7FFFFFFF


class ParkedFetch:
    """A consumer's fetch that waits for ``min_bytes``; ``missing_bytes`` of them were not there when it was last looked at."""

    __slots__ = ("call", "done", "missing_bytes")

    def __init__(self, call: Call, missing_bytes: int) -> None:
        self.call = call
        self.done = False
        self.missing_bytes = missing_bytes


class Fetches:
    __slots__ = (
        "_epoch_end",
        "_hides_uncommitted",
        "_isr_changes",
        "_max_bytes",
        "_parked",
        "_partitions",
        "_rack_aware",
        "_refuses_epoch",
        "_sessions",
        "fetches",
    )

    def __init__(self, partitions: Partitions, isr_changes: IsrChanges) -> None:
        self._partitions = partitions
        self._isr_changes = isr_changes
        self._refuses_epoch = partitions.rules.refuses_epoch
        self._epoch_end = partitions.rules.epoch_end
        self._hides_uncommitted = partitions.rules.hides_uncommitted
        self.fetches: Purgatory[Any] = Purgatory()
        self._sessions: dict[NodeId, FollowerSession] = {}
        self._parked: dict[int, ParkedFetch] = {}
        image = partitions.ctx.image
        self._max_bytes = image.broker_int("fetch.max.bytes")
        self._rack_aware = "RackAware" in str(image.broker_config("replica.selector.class"))

    def on_fetch(self, call: Call, now_us: int) -> None:
        if call.request.replica_id >= 0:
            self._on_follower_fetch(call, now_us)
        else:
            self._on_consumer_fetch(call, now_us)

    # --- consumers -------------------------------------------------------------------------------------------------

    def _on_consumer_fetch(self, call: Call, now_us: int) -> None:
        request: FetchRequest = call.request
        answers, missing_bytes = self._read(request)
        if missing_bytes <= 0 or request.max_wait_ms <= 0 or not answers:
            self._answer(call, answers, now_us)
            return
        fetch = ParkedFetch(call, missing_bytes)
        connection_id = call.connection_id
        replicas = self._partitions.replicas
        for part in request.partitions:
            replica = replicas[part.tp]
            waiting = replica.waiting_fetches
            if waiting is None:
                waiting = replica.waiting_fetches = {}
            waiting[connection_id] = fetch
        self._parked[connection_id] = fetch
        self.fetches.park(fetch, request.max_wait_ms * 1000, now_us)

    def _answer(self, call: Call, answers: list[PartitionFetched], now_us: int) -> None:
        ctx = self._partitions.ctx
        if ctx.meters is not None:
            for answer in answers:
                if answer.batches:
                    size_bytes = sum(batch.size_bytes for batch in answer.batches)
                    ctx.meters.of(answer.tp.topic).bytes_out.mark(size_bytes, now_us)
        endpoints = self._partitions.take_endpoints() if self._partitions.hinted else ()
        ctx.reply(call, FetchResponse(answers, node_endpoints=endpoints))

    def _read(self, request: FetchRequest) -> tuple[list[PartitionFetched], int]:
        """The answers as they are now, and how many bytes are missing before they are worth sending (0 if nothing is)."""
        replicas = self._partitions.replicas
        refuses_epoch, hides = self._refuses_epoch, self._hides_uncommitted
        answers: list[PartitionFetched] = []
        left_bytes = min(request.max_bytes, self._max_bytes)
        found_bytes = 0
        urgent = False
        for part in request.partitions:
            replica = replicas.get(part.tp)
            if (
                replica is None
                or refuses_epoch(part.current_leader_epoch, replica.leader_epoch)
                or (part.topic_id is not None and part.topic_id != replica.log.topic_id)
            ):
                answers.append(self._refuse(part, replica))
                urgent = True
                continue
            offset = part.fetch_offset
            if request.rack_id and self._rack_aware and isinstance(replica, LeaderReplica):
                preferred = self._preferred_replica(replica, request.rack_id, offset)
                if preferred != replica.leader_id:
                    answers.append(_redirected(replica, preferred))
                    urgent = True
                    continue
            batches: tuple[RecordBatch, ...] = ()
            high_watermark = replica.high_watermark if hides or replica.is_leader else replica.log.end
            if offset != high_watermark:
                log = replica.log
                if not log.start <= offset <= log.end:
                    answers.append(PartitionFetched(part.tp, ErrorCode.OFFSET_OUT_OF_RANGE))
                    urgent = True
                    continue
                if offset < high_watermark and (left_bytes > 0 or not found_bytes):
                    batches = log.read(offset, min(part.max_bytes, left_bytes), high_watermark, not found_bytes)
            if batches:
                for batch in batches:
                    found_bytes += batch.size_bytes
                    left_bytes -= batch.size_bytes
                answers.append(replica.fetched(batches))
                continue
            idle = replica.idle_answer
            if idle is None or idle.log_start_offset != replica.log.start:
                idle = replica.idle_answer = replica.fetched(())
            answers.append(idle)
        return answers, 0 if urgent else max(0, request.min_bytes - found_bytes)

    def _refuse(self, part: PartitionFetch, replica: Replica | None) -> PartitionFetched:
        """Why this partition cannot be read, and who leads it as far as this broker knows."""
        partitions = self._partitions
        if replica is None:
            error = partitions.missing(part.tp, part.topic_id)
        elif part.topic_id is not None and part.topic_id != replica.log.topic_id:
            error = ErrorCode.UNKNOWN_TOPIC_ID
        elif part.current_leader_epoch < replica.leader_epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        else:
            error = ErrorCode.UNKNOWN_LEADER_EPOCH
        answer = PartitionFetched(part.tp, error)
        if error in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH):
            state = partitions.ctx.image.partition(part.tp)
            if state is not None:
                partitions.hinted.append(state.leader)
                epoch = partitions.ctx.told_epoch(state.leader_epoch)
                answer = PartitionFetched(part.tp, error, current_leader=state.leader, current_leader_epoch=epoch)
        return answer

    def _preferred_replica(self, replica: LeaderReplica, rack_id: str, offset: int) -> NodeId:
        """RackAwareReplicaSelector: the leader if it is in the rack, else the most caught-up of that rack, else the leader."""
        brokers = self._partitions.ctx.image.brokers
        may_be_read = self._partitions.rules.may_be_read
        if self._partitions.ctx.rack == rack_id:
            return replica.leader_id
        best, best_rank = replica.leader_id, (-1, 0, 0)
        for follower in replica.followers:
            broker = brokers.get(follower.node_id)
            if (
                broker is None
                or broker.fenced
                or broker.rack != rack_id
                or not may_be_read(follower.node_id, replica.isr)
            ):
                continue
            rank = (follower.log_end, follower.caught_up_us(), follower.node_id)
            if max(follower.log_start, 0) <= offset <= follower.log_end and rank > best_rank:
                best, best_rank = follower.node_id, rank
        return best

    def _unpark(self, fetch: ParkedFetch) -> None:
        fetch.done = True
        connection_id = fetch.call.connection_id
        replicas = self._partitions.replicas
        if self._parked.get(connection_id) is fetch:
            del self._parked[connection_id]
        for part in fetch.call.request.partitions:
            replica = replicas.get(part.tp)
            if replica is not None and replica.waiting_fetches is not None:
                replica.waiting_fetches.pop(connection_id, None)

    # --- followers -------------------------------------------------------------------------------------------------

    def _on_follower_fetch(self, call: Call, now_us: int) -> None:
        request: FetchRequest = call.request
        session = self._session_for(call, request, now_us)
        if session is None:
            return
        partitions = self._partitions
        session.last_fetch_us = now_us
        session.min_bytes = request.min_bytes
        session.max_bytes = request.max_bytes
        for tp in request.forgotten:
            replica = partitions.replicas.get(tp)
            if isinstance(replica, LeaderReplica):
                follower = replica.follower(request.replica_id)
                if follower is not None and follower.session is session:
                    session.drop(follower, None)
            session.urgent.pop(tp, None)
        for part in request.partitions:
            self._count_follower_fetch(session, request, part, now_us)
        if session.outside_isr:
            for follower in list(session.outside_isr):
                follower.broker_epoch = request.replica_epoch
                self._isr_changes.maybe_expand(follower, now_us)
        readable_bytes = session.readable_bytes()
        if session.urgent or readable_bytes >= session.min_bytes or request.max_wait_ms <= 0:
            partitions.ctx.reply(call, session.answer())
        else:
            session.available_bytes = readable_bytes
            parked = session.parked = ParkedSessionFetch(call, call.connection_id, session)
            self.fetches.park(parked, request.max_wait_ms * 1000, now_us)

    def _session_for(self, call: Call, request: FetchRequest, now_us: int) -> FollowerSession | None:
        """The session that this request belongs to; None if it was refused."""
        follower_id = request.replica_id
        session = self._sessions.get(follower_id)
        if request.session_id == 0:
            if session is not None:
                self._close(session)
            session_id = 0
            if request.session_epoch == 0:
                session_id = 1 + self._partitions.ctx.draw("fetch session id", _SESSION_IDS)
            session = self._sessions[follower_id] = FollowerSession(follower_id, session_id, now_us)
            return session
        error = _NONE
        if session is None or session.session_id != request.session_id:
            error = ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        elif session.next_epoch != request.session_epoch:
            error = ErrorCode.INVALID_FETCH_SESSION_EPOCH
        if error is not _NONE:
            self._partitions.ctx.reply(call, FetchResponse([], error))
            return None
        assert session is not None
        session.next_epoch += 1
        self._drop_parked(session)
        return session

    def _count_follower_fetch(
        self, session: FollowerSession, request: FetchRequest, part: PartitionFetch, now_us: int
    ) -> None:
        """One listed partition: who asks, from where, and what that does to the marks."""
        partitions = self._partitions
        tp = part.tp
        session.partition_max_bytes = part.max_bytes
        session.urgent.pop(tp, None)
        replica = partitions.replicas.get(tp)
        if replica is None or self._refuses_epoch(part.current_leader_epoch, replica.leader_epoch):
            session.urgent[tp] = self._refuse(part, replica)
            return
        if not isinstance(replica, LeaderReplica):
            session.urgent[tp] = PartitionFetched(tp, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            return
        follower = replica.follower(request.replica_id)
        if follower is None:
            session.urgent[tp] = PartitionFetched(tp, ErrorCode.UNKNOWN_LEADER_EPOCH)
            return
        if -1 < request.replica_epoch < follower.broker_epoch:
            session.urgent[tp] = PartitionFetched(tp, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            return
        answer = replica.on_follower_fetch(follower, part, self._epoch_end, now_us)
        if answer is not None:
            session.drop(follower, answer)
            return
        follower.broker_epoch = request.replica_epoch
        if follower.session is not session:
            follower.session = session
            follower.dirty = False
            follower.sent_high_watermark = follower.sent_log_start = -1
        if not follower.dirty:
            follower.dirty = True
            session.dirty.append(follower)
        if replica.high_watermark < replica.log.end:
            partitions.advance(replica, now_us)
        if not follower.in_maximal_isr or follower.node_id not in replica.isr:
            session.outside_isr[follower] = None
        if replica.waiting_deletes:
            partitions.woken_deletes.append(replica)

    def _drop_parked(self, session: FollowerSession) -> None:
        """An earlier fetch of this session is still parked: its connection is gone, nobody waits for it."""
        if session.parked is not None:
            session.parked.done = True
            session.parked = None

    def _close(self, session: FollowerSession) -> None:
        session.closed = True
        self._drop_parked(session)
        if self._sessions.get(session.follower_id) is session:
            del self._sessions[session.follower_id]

    def epoch_began(self, replica: LeaderReplica, leader_epoch: int) -> None:
        """The same leader in another epoch: fetches of the one before may be out of place now."""
        if self._refuses_epoch(replica.leader_epoch, leader_epoch):
            self.lost_leadership(replica, ErrorCode.FENCED_LEADER_EPOCH)

    def lost_leadership(self, replica: LeaderReplica, error: ErrorCode) -> None:
        """This broker leads the partition no more (or in another epoch): its followers hear of it at once."""
        for follower in replica.followers:
            session = follower.session
            if session is not None:
                session.drop(follower, PartitionFetched(replica.tp, error))
                if session.parked is not None:
                    self._partitions.woken_sessions.append(session)

    # --- waking ----------------------------------------------------------------------------------------------------

    def answer_woken(self, now_us: int) -> None:
        """Answer the parked fetches that have something to read now."""
        partitions = self._partitions
        ctx = partitions.ctx
        if partitions.woken_sessions:
            sessions, partitions.woken_sessions = partitions.woken_sessions, []
            for session in sessions:
                parked = session.parked
                if parked is not None:
                    session.parked = None
                    parked.done = True
                    ctx.reply(parked.call, session.answer())
        if partitions.woken_fetches:
            fetches, partitions.woken_fetches = partitions.woken_fetches, []
            for fetch in fetches:
                if fetch.done:
                    continue
                answers, fetch.missing_bytes = self._read(fetch.call.request)
                if fetch.missing_bytes <= 0:
                    self._unpark(fetch)
                    self._answer(fetch.call, answers, now_us)

    def expire(self, now_us: int) -> None:
        """Long polls whose time is over are answered with what there is."""
        ctx = self._partitions.ctx
        for parked in self.fetches.take_expired(now_us):
            if isinstance(parked, ParkedFetch):
                self._unpark(parked)
                self._answer(parked.call, self._read(parked.call.request)[0], now_us)
            else:
                parked.session.parked = None
                ctx.reply(parked.call, parked.session.answer())

    def on_closed(self, connection_id: int) -> None:
        fetch = self._parked.get(connection_id)
        if fetch is not None:
            self._unpark(fetch)
        for session in self._sessions.values():
            if session.parked is not None and session.parked.connection_id == connection_id:
                self._drop_parked(session)


def _redirected(replica: LeaderReplica, preferred: NodeId) -> PartitionFetched:
    high_watermark = replica.high_watermark
    return PartitionFetched(
        replica.tp,
        _NONE,
        high_watermark,
        high_watermark,
        replica.log.start,
        preferred_read_replica=preferred,
    )
