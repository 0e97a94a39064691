"""One replica of the metadata log: it votes, leads or follows, and tells which batches are committed.

Mirrors:  KafkaRaftClient and the EpochState classes (KIP-595; pre-vote of KIP-996; fetches that carry the high watermark, KIP-1166).
Inputs:   append, resign, shutdown, on_request, on_closed, on_deadline; responses through the node's ``Requests``.
Effects:  Send (by ``Requests``), Reply, Note.
Rule 1:   role, epoch, leader and vote change in ``_enter`` alone; what must outlive the process is written there.
Rule 2:   answers to requests of an earlier role or epoch are ignored; whatever they said will be said again.
Rule 3:   a dead leader is noticed by the fetch timeout only; a refused connection merely delays the next try.
Differs:  no append linger (Kafka waits up to 25 ms to fill a batch); static voters; no snapshots; a leader that resigned
          hints at no leader instead of at itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from kafkasim.core.client.requests import Requests
from kafkasim.core.model.cluster_messages import (
    BeginQuorumEpochRequest,
    BeginQuorumEpochResponse,
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    EndQuorumEpochRequest,
    EndQuorumEpochResponse,
    QuorumFetchRequest,
    QuorumFetchResponse,
    VoteRequest,
    VoteResponse,
)
from kafkasim.core.model.effects import NEVER_US, QUORUM_CHANNEL, Effect, Note, Reply
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, NO_OFFSET, Draw, NodeId
from kafkasim.core.model.metadata import LeaderChangeRecord, MetadataBatch, MetadataRecord
from kafkasim.core.quorum.config import FETCH_MAX_BATCHES, FETCH_MAX_WAIT_MS, quorum_config
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
from kafkasim.core.quorum.peers import Peers


class RaftReplica:
    """A voter if ``node_id`` is among ``voters``, else an observer, which fetches and never votes."""

    #: Classes of the requests that ``on_request`` answers.
    REQUESTS = (
        QuorumFetchRequest,
        VoteRequest,
        BeginQuorumEpochRequest,
        EndQuorumEpochRequest,
        DescribeQuorumRequest,
    )

    __slots__ = (
        "_closing",
        "_config",
        "_draw",
        "_election",
        "_generation",
        "_handlers",
        "_has_fetched_from_leader",
        "_leader",
        "_outbox",
        "_peers",
        "_requests",
        "_retry_us",
        "_role_changes",
        "_state",
        "_successors",
        "_taken_offset",
        "_timer_us",
        "_unacked",
        "epoch",
        "high_watermark",
        "is_voter",
        "leader_id",
        "log",
        "node_id",
        "role",
        "voted_id",
        "voters",
    )

    def __init__(
        self,
        node_id: NodeId,
        voters: tuple[NodeId, ...],
        log: MetadataLog,
        state: QuorumStateFile,
        *,
        outbox: list[Effect],
        requests: Requests,
        draw: Draw,
        static_config: dict[str, str] | None = None,
        now_us: int,
    ) -> None:
        self.node_id = node_id
        self.voters = voters
        self.is_voter = node_id in voters
        self.log = log
        self._state = state
        self._outbox = outbox
        self._requests = requests
        self._draw = draw
        self._config = quorum_config(static_config or {})
        self._peers = Peers(tuple(v for v in voters if v != node_id), self._config.retry_backoff_us)
        self._handlers: dict[type, Callable[[Any, int], None]] = {
            QuorumFetchRequest: self._on_fetch,
            VoteRequest: self._on_vote,
            BeginQuorumEpochRequest: self._on_begin_quorum_epoch,
            EndQuorumEpochRequest: self._on_end_quorum_epoch,
            DescribeQuorumRequest: self._on_describe_quorum,
        }
        self.role = UNATTACHED
        self.epoch = state.epoch
        self.leader_id: NodeId = NO_NODE
        self.voted_id: NodeId = NO_NODE
        #: Committed below this offset, as far as this replica knows; a restarted one learns it again.
        self.high_watermark = log.log_start
        self._taken_offset = log.log_start
        self._role_changes: list[tuple[str, int]] = []
        self._leader: LeaderState | None = None
        self._election: Election | None = None
        self._has_fetched_from_leader = False
        self._successors: tuple[NodeId, ...] = ()
        self._unacked: list[NodeId] = []
        self._closing = False
        self._generation = 0
        self._timer_us = NEVER_US
        self._retry_us = NEVER_US
        self._begin(now_us)

    # --- What others see -----------------------------------------------------------------------------------------

    @property
    def deadline_us(self) -> int:
        leader = self._leader
        if leader is not None:
            return leader.deadline_us
        return min(self._timer_us, self._retry_us)

    @property
    def is_leader(self) -> bool:
        return self.role == LEADER

    @property
    def epoch_start_offset(self) -> int:
        """Offset of this epoch's LeaderChangeRecord on a leader, else NO_OFFSET. A leader whose ``high_watermark`` is beyond it
        knows every record that earlier leaders committed."""
        return NO_OFFSET if self._leader is None else self._leader.epoch_start_offset

    @property
    def is_shut_down(self) -> bool:
        """After ``shutdown``: nothing keeps the process; a leader waits until another epoch has begun."""
        return self._closing and (self.role != RESIGNED or not self._peers.others)

    def take_committed(self) -> list[MetadataBatch]:
        """Committed batches not yet taken, in order; a new process takes all from the start of the log."""
        if self._taken_offset >= self.high_watermark:
            return []
        batches = self.read_committed(self._taken_offset)
        if batches:
            self._taken_offset = batches[-1].next_offset
        return batches

    def read_committed(self, from_offset: int) -> list[MetadataBatch]:
        """The same for a reader that keeps its own place (the broker half of a combined node)."""
        return self.log.read_between(from_offset, self.high_watermark)

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
        base_offset = self.log.log_end
        self.log.append(MetadataBatch(base_offset, self.epoch, records, now_us // 1000))
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

    # --- Roles ---------------------------------------------------------------------------------------------------

    def _begin(self, now_us: int) -> None:
        """Take up the role that the quorum-state file left."""
        state = self._state
        if state.epoch < self.log.last_epoch:
            state.write(self.log.last_epoch, NO_NODE, NO_NODE)
        self.epoch = state.epoch
        self.voted_id = state.voted_id
        if not self.is_voter:
            self._become_unattached(self.epoch, now_us)
        elif state.leader_id == self.node_id:
            # It must not write into its old epoch again, nor vote for another leader of it.
            self._enter(RESIGNED, self.epoch, NO_NODE, now_us + self._election_timeout_us())
        elif state.leader_id != NO_NODE:
            self._become_follower(self.epoch, state.leader_id, now_us)
        elif state.voted_id == self.node_id:
            self._enter(CANDIDATE, self.epoch, NO_NODE, now_us + self._election_timeout_us())
            self._election = Election(self.voters, self.node_id)
        else:
            self._become_unattached(self.epoch, now_us)
        if self.voters == (self.node_id,):
            self._become_candidate(now_us)
        self._poll(now_us)

    def _enter(self, role: str, epoch: int, leader_id: NodeId, timer_us: int) -> None:
        """The one way into a role. The vote is kept within an epoch."""
        assert epoch >= self.epoch, "the epoch of a replica never falls"
        leader, self._leader = self._leader, None
        if epoch > self.epoch:
            self.voted_id = NO_NODE
        self.role = role
        self.epoch = epoch
        self.leader_id = leader_id
        self._timer_us = timer_us
        self._election = None
        self._has_fetched_from_leader = False
        self._unacked = []
        self._generation += 1
        self._peers.reset()
        self._role_changes.append((role, epoch))
        self._outbox.append(
            Note("quorum-role", self.node_id, (("role", role), ("epoch", epoch), ("leader_id", leader_id)))
        )
        if leader is not None:
            for call in leader.take_held():
                self._reply(call, self._fetch_error(ErrorCode.NOT_LEADER_OR_FOLLOWER))

    def _persist(self) -> None:
        state = self._state
        if (state.epoch, state.leader_id, state.voted_id) != (self.epoch, self.leader_id, self.voted_id):
            state.write(self.epoch, self.leader_id, self.voted_id)

    def _become_unattached(self, epoch: int, now_us: int) -> None:
        """Wait for news of a leader; a voter stands for election when the timer in force runs out."""
        keeps_timer = self.role in (CANDIDATE, UNATTACHED, VOTED, RESIGNED) or (
            self.role == PROSPECTIVE and self._election is not None and not self._election.is_lost
        )
        if not self.is_voter:
            timer_us = NEVER_US
        elif keeps_timer and self._timer_us != NEVER_US:
            timer_us = self._timer_us
        else:
            timer_us = now_us + self._election_timeout_us()
        has_vote = epoch == self.epoch and self.voted_id != NO_NODE
        self._enter(VOTED if has_vote else UNATTACHED, epoch, NO_NODE, timer_us)
        self._persist()

    def _become_follower(self, epoch: int, leader_id: NodeId, now_us: int) -> None:
        assert leader_id != self.node_id, "nobody follows itself"
        timer_us = now_us + self._config.fetch_timeout_us if self.is_voter else NEVER_US
        self._enter(FOLLOWER, epoch, leader_id, timer_us)
        self._persist()

    def _become_prospective(self, now_us: int) -> None:
        """Ask whether an election would be won before disturbing anybody with a new epoch. Not written to disk."""
        self._enter(PROSPECTIVE, self.epoch, self.leader_id, now_us + self._election_timeout_us())
        self._election = Election(self.voters, self.node_id)
        if self._election.is_won:
            self._become_candidate(now_us)

    def _become_candidate(self, now_us: int) -> None:
        self._enter(CANDIDATE, self.epoch + 1, NO_NODE, now_us + self._election_timeout_us())
        self.voted_id = self.node_id
        self._persist()
        self._election = Election(self.voters, self.node_id)
        if self._election.is_won:
            self._become_leader(now_us)

    def _become_leader(self, now_us: int) -> None:
        self._enter(LEADER, self.epoch, self.node_id, NEVER_US)
        self._persist()
        self._leader = LeaderState(self.node_id, self.voters, self.log.log_end, self._config, now_us)
        self.append((LeaderChangeRecord(self.node_id, self.voters),), now_us)

    def _become_resigned(self, now_us: int) -> None:
        """Step down within the epoch. Not written to disk: a restart finds the old leader and resigns again."""
        assert self._leader is not None
        self._successors = self._leader.preferred_successors()
        timer_us = NEVER_US if self._closing else now_us + self._election_timeout_us()
        self._enter(RESIGNED, self.epoch, NO_NODE, timer_us)
        self._unacked = list(self._peers.others)

    def _on_timer(self, now_us: int) -> None:
        if self.role == RESIGNED:
            self._become_unattached(self.epoch + 1, now_us)
        elif self._closing:
            self._timer_us = NEVER_US
        elif self.role == PROSPECTIVE:
            self._after_lost_pre_vote(now_us)
        else:
            self._become_prospective(now_us)

    def _after_lost_pre_vote(self, now_us: int) -> None:
        if self.leader_id != NO_NODE:
            self._become_follower(self.epoch, self.leader_id, now_us)
        else:
            self._become_unattached(self.epoch, now_us)

    def _election_timeout_us(self) -> int:
        """Uniform over [t, 2t). Voters shift their draws apart, so that even equal draws do not split votes for ever."""
        bound_ms = self._config.election_timeout_ms
        shift_ms = self.voters.index(self.node_id) * bound_ms // len(self.voters) if self.is_voter else 0
        drawn_ms = self._draw("quorum.election_timeout_ms", bound_ms)
        return (bound_ms + (drawn_ms + shift_ms) % bound_ms) * 1000

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
        """``on_answer(peer, response, now_us)`` returns False if the answer did not help, so that the peer gets a pause."""
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
        if response.diverging is not None:
            offset = log.truncation_offset(response.diverging)
            assert offset >= self.high_watermark, "a committed batch would be truncated"
            log.truncate_to(offset)
        else:
            for batch in response.batches:
                log.append(batch)
            self.high_watermark = max(self.high_watermark, min(response.high_watermark, log.log_end))
        self._has_fetched_from_leader = True
        if self.is_voter and not self._closing:
            self._timer_us = now_us + self._config.fetch_timeout_us
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

    def _reply(self, call: QuorumCall | HeldFetch, response: object) -> None:
        self._outbox.append(Reply(call.connection_id, call.correlation_id, response))

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

    def _answer_held(self, calls: list[HeldFetch]) -> None:
        for call in calls:
            self._reply(call, self._fetch_answer(call.request))

    def _fetch_answer(self, request: QuorumFetchRequest) -> QuorumFetchResponse:
        batches = self.log.read(request.fetch_offset, FETCH_MAX_BATCHES)
        return QuorumFetchResponse(ErrorCode.NONE, self.leader_id, self.epoch, self.high_watermark, batches)

    def _fetch_error(self, error: ErrorCode) -> QuorumFetchResponse:
        return QuorumFetchResponse(error, self.leader_id, self.epoch)

    def _advance_high_watermark(self, leader: LeaderState) -> bool:
        end = leader.majority_end(self.log.log_end)
        if end <= self.high_watermark:
            return False
        assert end <= self.log.log_end
        self.high_watermark = end
        return True
