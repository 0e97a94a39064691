"""One replica of the metadata log: it votes, leads or follows, and tells which batches are committed.

Mirrors:  KafkaRaftClient (KIP-595; pre-vote of KIP-996; fetches that carry the high watermark, KIP-1166).
Inputs:   append, resign, shutdown, on_request, on_closed, on_deadline; responses through the node's requests.
Effects:  Send (by the requests), Reply, Note.
Rule 1:   answers to requests of an earlier role or epoch are ignored; whatever they said will be said again.
Rule 2:   a dead leader is noticed by the fetch timeout only; a refused connection merely delays the next try.
Differs:  no append linger (Kafka waits up to 25 ms to fill a batch); static voters; a snapshot comes in one piece; a
          resigned leader hints at no leader instead of at itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from kafkasim.core.model.cluster_messages import (
    BeginQuorumEpochRequest,
    BeginQuorumEpochResponse,
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    EndQuorumEpochRequest,
    EndQuorumEpochResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    QuorumFetchRequest,
    QuorumFetchResponse,
    VoteRequest,
    VoteResponse,
)
from kafkasim.core.model.effects import NEVER_US, QUORUM_CHANNEL, Effect
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, NO_OFFSET, Draw, NodeId
from kafkasim.core.model.metadata import MetadataBatch, MetadataRecord, MetadataSnapshot
from kafkasim.core.quorum.config import FETCH_MAX_BATCHES, FETCH_MAX_WAIT_MS
from kafkasim.core.quorum.election import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    PROSPECTIVE,
    RESIGNED,
    UNATTACHED,
    VOTED,
    Election,
    can_grant_vote,
    successor_backoff_ms,
)
from kafkasim.core.quorum.leader import HeldFetch, LeaderState, QuorumCall
from kafkasim.core.quorum.log import MetadataLog, QuorumStateFile
from kafkasim.core.quorum.peers import RequestSender
from kafkasim.core.quorum.roles import ReplicaRoles


class RaftReplica(ReplicaRoles):
    """A voter if ``node_id`` is among ``voters``, else an observer, which fetches and never votes."""

    #: Classes of the requests that ``on_request`` answers.
    REQUESTS = (
        QuorumFetchRequest,
        FetchSnapshotRequest,
        VoteRequest,
        BeginQuorumEpochRequest,
        EndQuorumEpochRequest,
        DescribeQuorumRequest,
    )

    __slots__ = ("_handlers", "_requests", "_retry_us", "_taken_offset")

    def __init__(
        self,
        node_id: NodeId,
        voters: tuple[NodeId, ...],
        log: MetadataLog,
        state: QuorumStateFile,
        *,
        outbox: list[Effect],
        requests: RequestSender,
        draw: Draw,
        static_config: dict[str, str] | None = None,
        now_us: int,
        votes_in_advance: bool = True,
    ) -> None:
        super().__init__(node_id, voters, log, state, outbox, draw, static_config, votes_in_advance)
        self._requests = requests
        self._retry_us = NEVER_US
        self._taken_offset = log.log_start
        self._handlers: dict[type, Callable[[Any, int], None]] = {
            QuorumFetchRequest: self._on_fetch,
            FetchSnapshotRequest: self._on_fetch_snapshot,
            VoteRequest: self._on_vote,
            BeginQuorumEpochRequest: self._on_begin_quorum_epoch,
            EndQuorumEpochRequest: self._on_end_quorum_epoch,
            DescribeQuorumRequest: self._on_describe_quorum,
        }
        self._restore(now_us)
        self._poll(now_us)

    # --- What others see -----------------------------------------------------------------------------------------

    @property
    def deadline_us(self) -> int:
        leader = self._leader
        if leader is not None:
            return leader.deadline_us
        return min(self._retry_us, self._timer_us)

    @property
    def is_leader(self) -> bool:
        return self.role == LEADER

    @property
    def epoch_start_offset(self) -> int:
        """Offset of this epoch's LeaderChangeRecord on a leader, else NO_OFFSET.

        A leader whose ``high_watermark`` is beyond it knows every record that earlier leaders committed.
        """
        return NO_OFFSET if self._leader is None else self._leader.epoch_start_offset

    @property
    def is_shut_down(self) -> bool:
        """After ``shutdown``: nothing keeps the process; a leader waits until another epoch has begun."""
        return self._closing and (self.role != RESIGNED or not self._peers.others)

    def take_committed(self) -> list[MetadataBatch]:
        """Committed batches not yet taken, in order; a new process takes all from the start of the log.

        Where the log has moved on meanwhile, ``snapshot_before`` has what is missing.
        """
        if self._taken_offset >= self.high_watermark:
            return []
        batches = self.read_committed(max(self._taken_offset, self.log.log_start))
        if batches:
            self._taken_offset = batches[-1].next_offset
        return batches

    def read_committed(self, from_offset: int) -> list[MetadataBatch]:
        """The same for a reader that keeps its own place (the broker half of a combined node)."""
        return self.log.read_between(from_offset, self.high_watermark)

    def snapshot_before(self, from_offset: int) -> MetadataSnapshot | None:
        """What a reader that is at ``from_offset`` must load first, because the log does not go back so far."""
        return self.log.base if from_offset < self.log.log_start else None

    def take_role_changes(self) -> list[tuple[str, int]]:
        """(role, epoch) of every change since the last call, in order."""
        changes = self._role_changes
        if changes:
            self._role_changes = []
        return changes

    def describe_quorum(self, now_us: int) -> DescribeQuorumResponse:
        leader = self._leader
        if leader is None:
            return DescribeQuorumResponse(ErrorCode.NOT_LEADER_OR_FOLLOWER, self.leader_id, self.epoch)
        return DescribeQuorumResponse(
            ErrorCode.NONE,
            self.node_id,
            self.epoch,
            self.high_watermark,
            leader.describe_voters(self.log.log_end),
            leader.describe_observers(now_us),
        )

    # --- Inputs --------------------------------------------------------------------------------------------------

    def append(self, records: tuple[MetadataRecord, ...], now_us: int) -> int:
        """Leader only: write ``records`` as one atomic batch; returns its base offset."""
        leader = self._leader
        assert leader is not None, "only the leader appends"
        base_offset = self._write(records, now_us)
        self._advance_high_watermark(leader)
        self._answer_held(leader.take_held())
        return base_offset

    def resign(self, now_us: int) -> None:
        """A leader steps down and names its successors; it may stand again after an election timeout."""
        if self._leader is not None:
            self._become_resigned(now_us)
            self._poll(now_us)

    def shutdown(self, now_us: int) -> None:
        """The process is about to stop: start no election any more, and hand over if leading. See ``is_shut_down``."""
        self._closing = True
        if self._leader is not None:
            self._become_resigned(now_us)
        self._poll(now_us)

    def on_request(self, call: QuorumCall, now_us: int) -> None:
        self._handlers[type(call.request)](call, now_us)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        """A connection that a peer had opened is gone."""
        if self._leader is not None:
            self._leader.drop_held(connection_id)

    def on_deadline(self, now_us: int) -> None:
        leader = self._leader
        if leader is not None:
            self._answer_held(leader.take_expired(now_us))
            if leader.check_quorum_deadline_us <= now_us:
                # A majority may already follow somebody else: stop answering as if we led.
                self._become_resigned(now_us)
            elif leader.begin_quorum_deadline_us > now_us:
                return
        elif self._timer_us <= now_us:
            self._on_timer(now_us)
        self._poll(now_us)

    # --- Asking --------------------------------------------------------------------------------------------------

    def _poll(self, now_us: int) -> None:
        """Send whatever the role wants to send now, and remember when to look again."""
        self._retry_us = NEVER_US
        role = self.role
        if role in (FOLLOWER, UNATTACHED, VOTED):
            self._poll_fetch(now_us)
        elif role in (PROSPECTIVE, CANDIDATE):
            self._poll_votes(now_us)
        elif role == RESIGNED:
            self._poll_end_quorum_epoch(now_us)
        elif self._leader is not None and self._leader.begin_quorum_deadline_us <= now_us:
            self._poll_begin_quorum_epoch(self._leader, now_us)

    def _poll_fetch(self, now_us: int) -> None:
        """Fetch from the leader; while it cannot be reached, or none is known, ask the other voters who it is."""
        peers = self._peers
        if peers.any_in_flight or not peers.others:
            return
        target = self.leader_id
        if target == NO_NODE or not peers.is_ready(target, now_us):
            target = peers.next_ready(now_us)
        if target == NO_NODE:
            self._retry_us = peers.earliest_ready_us()
            return
        if self._fetching_snapshot is not None and target == self.leader_id:
            wanted = FetchSnapshotRequest(self.node_id, self.epoch, self._fetching_snapshot)
            self._send(target, wanted, self._on_fetch_snapshot_response, now_us)
            return
        request = QuorumFetchRequest(
            self.node_id,
            self.epoch,
            self.log.log_end,
            self.log.last_epoch,
            FETCH_MAX_WAIT_MS,
            self.high_watermark,
        )
        self._send(target, request, self._on_fetch_response, now_us)

    def _poll_votes(self, now_us: int) -> None:
        election = self._election
        assert election is not None
        if election.is_lost:
            return
        request = VoteRequest(self.node_id, self.epoch, self.log.last_epoch, self.log.log_end, self.role == PROSPECTIVE)
        self._send_to_each(election.waiting, request, self._on_vote_response, now_us)

    def _poll_end_quorum_epoch(self, now_us: int) -> None:
        request = EndQuorumEpochRequest(self.node_id, self.epoch, self._successors)
        self._send_to_each(self._unacked, request, self._on_end_quorum_epoch_response, now_us)

    def _poll_begin_quorum_epoch(self, leader: LeaderState, now_us: int) -> None:
        request = BeginQuorumEpochRequest(self.node_id, self.epoch)
        for voter in leader.voters_to_remind(now_us):
            # Whoever cannot be asked now is asked when the timer comes round again.
            if self._peers.is_ready(voter, now_us):
                self._send(voter, request, self._on_begin_quorum_epoch_response, now_us)

    def _send_to_each(
        self,
        targets: list[NodeId],
        request: object,
        on_answer: Callable[[NodeId, Any, int], bool],
        now_us: int,
    ) -> None:
        peers = self._peers
        for peer in targets:
            if peers.is_ready(peer, now_us):
                self._send(peer, request, on_answer, now_us)
            elif not peers.is_in_flight(peer):
                self._retry_us = min(self._retry_us, peers.ready_at_us(peer))

    def _send(
        self,
        peer: NodeId,
        request: object,
        on_answer: Callable[[NodeId, Any, int], bool],
        now_us: int,
    ) -> None:
        """``on_answer(peer, response, now_us)`` is False if the answer did not help, so that the peer gets a pause."""
        generation = self._generation
        self._peers.sent(peer)

        def on_end(response: Any, error: ErrorCode, now_us: int) -> None:
            if generation != self._generation:
                return
            helped = error == ErrorCode.NONE and on_answer(peer, response, now_us)
            if generation != self._generation:
                # The answer moved this replica into another role, where every peer starts afresh.
                pass
            elif helped:
                self._peers.answered(peer)
            else:
                self._peers.failed(peer, now_us)
            self._poll(now_us)

        self._requests.send(
            peer,
            request,
            on_end,
            timeout_us=self._config.request_timeout_us,
            now_us=now_us,
            channel=QUORUM_CHANNEL,
        )

    # --- Answers -------------------------------------------------------------------------------------------------

    def _learn(self, error: ErrorCode, leader_id: NodeId, leader_epoch: int, now_us: int) -> bool:
        """Take what an answer says about epochs and leaders; True if nothing else in it counts."""
        if leader_epoch < self.epoch or error == ErrorCode.UNKNOWN_LEADER_EPOCH:
            return True
        if leader_epoch > self.epoch or error in (
            ErrorCode.FENCED_LEADER_EPOCH,
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ):
            self._maybe_transition(leader_id, leader_epoch, now_us)
            return True
        if leader_id not in (NO_NODE, self.node_id) and self.leader_id == NO_NODE:
            self._maybe_transition(leader_id, leader_epoch, now_us)
            return error != ErrorCode.NONE
        return False

    def _maybe_transition(self, leader_id: NodeId, epoch: int, now_us: int) -> None:
        """A request or an answer speaks of ``leader_id`` (perhaps nobody) leading ``epoch``."""
        knows_leader = leader_id not in (NO_NODE, self.node_id)
        if epoch > self.epoch:
            if knows_leader:
                self._become_follower(epoch, leader_id, now_us)
            else:
                self._become_unattached(epoch, now_us)
        elif epoch == self.epoch and knows_leader and self.leader_id == NO_NODE:
            self._become_follower(epoch, leader_id, now_us)

    def _on_fetch_response(self, peer: NodeId, response: QuorumFetchResponse, now_us: int) -> bool:
        generation = self._generation
        if self._learn(response.error, response.leader_id, response.leader_epoch, now_us):
            return False
        if generation != self._generation or self.role != FOLLOWER or response.error != ErrorCode.NONE:
            return False
        log = self.log
        if response.snapshot_id is not None:
            self._fetching_snapshot = response.snapshot_id
        elif response.diverging is not None:
            offset = log.truncation_offset(response.diverging)
            assert offset >= self.high_watermark, "a committed batch would be truncated"
            log.truncate_to(offset)
        else:
            for batch in response.batches:
                log.append(batch)
            committed = min(response.high_watermark, log.log_end)
            if committed > self.high_watermark:
                self.high_watermark = committed
                self.has_news = True
        self._fetched_from_leader(now_us)
        return True

    def _fetched_from_leader(self, now_us: int) -> None:
        self._has_fetched_from_leader = True
        self._has_woken = False
        if self.is_voter and not self._closing:
            self._timer_us = now_us + self._config.fetch_timeout_us

    def _on_fetch_snapshot_response(self, peer: NodeId, response: FetchSnapshotResponse, now_us: int) -> bool:
        generation = self._generation
        if self._learn(response.error, response.leader_id, response.leader_epoch, now_us):
            return False
        if generation != self._generation or self.role != FOLLOWER:
            return False
        # A snapshot that is gone has been replaced by a newer one: the next fetch will tell.
        self._fetching_snapshot = None
        snapshot = response.snapshot
        if snapshot is not None and snapshot.end_offset > self.high_watermark:
            self.log.install_snapshot(snapshot, now_us // 1000)
            self.high_watermark = snapshot.end_offset
            self.has_news = True
        self._fetched_from_leader(now_us)
        return True

    def _on_vote_response(self, peer: NodeId, response: VoteResponse, now_us: int) -> bool:
        generation = self._generation
        if self._learn(response.error, response.leader_id, response.leader_epoch, now_us):
            return False
        election = self._election
        if generation != self._generation or election is None or response.error != ErrorCode.NONE:
            return False
        election.record(peer, response.vote_granted)
        if election.is_won:
            if self.role == PROSPECTIVE:
                self._become_candidate(now_us)
            else:
                self._become_leader(now_us)
        elif election.is_lost and self.role == PROSPECTIVE:
            self._after_lost_pre_vote(now_us)
        # A candidate that lost waits for its timer, so that another one may win meanwhile.
        return True

    def _on_begin_quorum_epoch_response(self, peer: NodeId, response: BeginQuorumEpochResponse, now_us: int) -> bool:
        self._learn(response.error, response.leader_id, response.leader_epoch, now_us)
        return response.error == ErrorCode.NONE

    def _on_end_quorum_epoch_response(self, peer: NodeId, response: EndQuorumEpochResponse, now_us: int) -> bool:
        self._learn(response.error, response.leader_id, response.leader_epoch, now_us)
        if response.error == ErrorCode.NONE and peer in self._unacked:
            self._unacked.remove(peer)
        return response.error == ErrorCode.NONE

    # --- Being asked ---------------------------------------------------------------------------------------------

    def _on_vote(self, call: QuorumCall, now_us: int) -> None:
        request = cast("VoteRequest", call.request)
        if request.candidate_epoch < self.epoch or not self.is_voter:
            self._reply(call, VoteResponse(ErrorCode.FENCED_LEADER_EPOCH, self.leader_id, self.epoch))
            return
        if request.candidate_epoch > self.epoch:
            self._become_unattached(request.candidate_epoch, now_us)
        granted = can_grant_vote(
            self.role,
            candidate_id=request.candidate_id,
            pre_vote=request.pre_vote,
            log_is_up_to_date=(request.last_epoch, request.last_epoch_end_offset)
            >= (self.log.last_epoch, self.log.log_end),
            has_leader=self.leader_id != NO_NODE,
            has_fetched_from_leader=self._has_fetched_from_leader,
            voted_id=self.voted_id,
        )
        if granted and not request.pre_vote and self.voted_id == NO_NODE:
            self._give_vote(request.candidate_id, now_us)
        self._reply(call, VoteResponse(ErrorCode.NONE, self.leader_id, self.epoch, granted))
        self._poll(now_us)

    def _give_vote(self, candidate_id: NodeId, now_us: int) -> None:
        """The vote restarts the timer: whoever has just helped a candidate gives it time to win."""
        timer_us = now_us + self._election_timeout_us()
        self.voted_id = candidate_id
        if self.role == PROSPECTIVE:
            self._enter(PROSPECTIVE, self.epoch, NO_NODE, timer_us)
            self._election = Election(self.voters, self.node_id)
        else:
            self._enter(VOTED, self.epoch, NO_NODE, timer_us)
        self._persist()

    def _on_begin_quorum_epoch(self, call: QuorumCall, now_us: int) -> None:
        request = cast("BeginQuorumEpochRequest", call.request)
        error = ErrorCode.NONE
        if request.leader_epoch < self.epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        else:
            self._maybe_transition(request.leader_id, request.leader_epoch, now_us)
        self._reply(call, BeginQuorumEpochResponse(error, self.leader_id, self.epoch))
        self._poll(now_us)

    def _on_end_quorum_epoch(self, call: QuorumCall, now_us: int) -> None:
        request = cast("EndQuorumEpochRequest", call.request)
        error = ErrorCode.NONE
        if request.leader_epoch < self.epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        else:
            self._maybe_transition(request.leader_id, request.leader_epoch, now_us)
            if self.role == FOLLOWER and self.leader_id == request.leader_id and self.is_voter:
                backoff_ms = successor_backoff_ms(
                    self.node_id, request.preferred_successors, self._config.election_backoff_max_ms
                )
                self._timer_us = now_us + backoff_ms * 1000
        self._reply(call, EndQuorumEpochResponse(error, self.leader_id, self.epoch))
        self._poll(now_us)

    def _on_describe_quorum(self, call: QuorumCall, now_us: int) -> None:
        self._reply(call, self.describe_quorum(now_us))

    def _on_fetch(self, call: HeldFetch, now_us: int) -> None:
        """A replica asks for more: answer with data, with where it diverges, or hold the fetch until there is news."""
        request = call.request
        leader = self._leader
        if request.current_leader_epoch != self.epoch:
            behind = request.current_leader_epoch < self.epoch
            error = ErrorCode.FENCED_LEADER_EPOCH if behind else ErrorCode.UNKNOWN_LEADER_EPOCH
            self._reply(call, self._fetch_error(error))
            return
        if leader is None:
            self._reply(call, self._fetch_error(ErrorCode.NOT_LEADER_OR_FOLLOWER))
            return
        snapshot_id = self.log.snapshot_instead(request.fetch_offset, request.last_fetched_epoch)
        if snapshot_id is not None:
            answer = QuorumFetchResponse(
                ErrorCode.NONE, self.leader_id, self.epoch, self.high_watermark, snapshot_id=snapshot_id
            )
            self._reply(call, answer)
            return
        diverging = self.log.diverging_end(request.fetch_offset, request.last_fetched_epoch)
        if diverging is not None:
            response = QuorumFetchResponse(
                ErrorCode.NONE, self.leader_id, self.epoch, self.high_watermark, diverging=diverging
            )
            self._reply(call, response)
            return
        leader.on_fetch(request.replica_id, request.fetch_offset, now_us)
        if self._advance_high_watermark(leader):
            self._answer_held(leader.take_held())
        if (
            request.fetch_offset < self.log.log_end
            or request.high_watermark < self.high_watermark
            or request.max_wait_ms == 0
        ):
            self._reply(call, self._fetch_answer(request))
        else:
            leader.hold(call, now_us)

    def _on_fetch_snapshot(self, call: QuorumCall, now_us: int) -> None:
        request = cast("FetchSnapshotRequest", call.request)
        leader = self._leader
        error, snapshot = ErrorCode.NONE, None
        if request.current_leader_epoch != self.epoch:
            behind = request.current_leader_epoch < self.epoch
            error = ErrorCode.FENCED_LEADER_EPOCH if behind else ErrorCode.UNKNOWN_LEADER_EPOCH
        elif leader is None:
            error = ErrorCode.NOT_LEADER_OR_FOLLOWER
        else:
            snapshot = self.log.read_snapshot(request.snapshot_id)
            if snapshot is None:
                error = ErrorCode.SNAPSHOT_NOT_FOUND
            else:
                leader.on_contact(request.replica_id, now_us)
        self._reply(call, FetchSnapshotResponse(error, self.leader_id, self.epoch, snapshot))

    def _answer_held(self, calls: list[HeldFetch]) -> None:
        for call in calls:
            self._reply(call, self._fetch_answer(call.request))

    def _fetch_answer(self, request: QuorumFetchRequest) -> QuorumFetchResponse:
        batches = self.log.read(request.fetch_offset, FETCH_MAX_BATCHES)
        return QuorumFetchResponse(ErrorCode.NONE, self.leader_id, self.epoch, self.high_watermark, batches)

    def _fetch_error(self, error: ErrorCode) -> QuorumFetchResponse:
        return QuorumFetchResponse(error, self.leader_id, self.epoch)
