"""Who a replica is at the moment: its role, epoch, leader and vote, and every way from one role into another.

Mirrors:  QuorumState and the EpochState classes (KIP-595, KIP-996).
Effects:  Reply (to fetches that a leader held when it stops leading), Note.
Rule 1:   role, epoch, leader and vote change in ``_enter`` alone; ``_persist`` writes what must outlive the process.
Rule 2:   ``_generation`` counts roles: an answer to a question of an earlier role finds another number and is ignored.
Rule 3:   a follower's thread sees that its timer has run out a moment later, each one another moment: they all heard of the leader
          at the same time, and would all stand at the same time.
"""

from __future__ import annotations

from kafkasim.core.model.cluster_messages import QuorumFetchResponse
from kafkasim.core.model.effects import NEVER_US, Effect, Note, Reply
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, Draw, NodeId
from kafkasim.core.model.messages import EpochEnd
from kafkasim.core.model.metadata import LeaderChangeRecord, MetadataBatch, MetadataRecord
from kafkasim.core.quorum.config import WAKEUP_MS, quorum_config
from kafkasim.core.quorum.election import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    PROSPECTIVE,
    RESIGNED,
    UNATTACHED,
    VOTED,
    Election,
)
from kafkasim.core.quorum.leader import HeldFetch, LeaderState, QuorumCall
from kafkasim.core.quorum.log import MetadataLog, QuorumStateFile
from kafkasim.core.quorum.peers import Peers


class ReplicaRoles:
    """The part of a replica that knows no requests; ``RaftReplica`` adds asking and being asked."""

    __slots__ = (
        "_closing",
        "_config",
        "_draw",
        "_election",
        "_fetching_snapshot",
        "_generation",
        "_has_fetched_from_leader",
        "_has_woken",
        "_leader",
        "_outbox",
        "_peers",
        "_role_changes",
        "_state",
        "_successors",
        "_timer_us",
        "_unacked",
        "epoch",
        "has_news",
        "high_watermark",
        "is_voter",
        "leader_id",
        "log",
        "node_id",
        "role",
        "voted_id",
        "voters",
        "votes_in_advance",
    )

    def __init__(
        self,
        node_id: NodeId,
        voters: tuple[NodeId, ...],
        log: MetadataLog,
        state: QuorumStateFile,
        outbox: list[Effect],
        draw: Draw,
        static_config: dict[str, str] | None,
        votes_in_advance: bool = True,
    ) -> None:
        """``votes_in_advance``: an election begins with a vote that moves no epoch (KIP-996)."""
        self.votes_in_advance = votes_in_advance
        self.node_id = node_id
        self.voters = voters
        self.is_voter = node_id in voters
        self.log = log
        self._state = state
        self._outbox = outbox
        self._draw = draw
        self._config = quorum_config(static_config or {})
        self._peers = Peers(tuple(v for v in voters if v != node_id), self._config.retry_backoff_us)
        self.role = UNATTACHED
        self.epoch = state.epoch
        self.leader_id: NodeId = NO_NODE
        self.voted_id: NodeId = NO_NODE
        #: Committed below this offset, as far as this replica knows; a restarted one learns it again.
        self.high_watermark = log.log_start
        #: A role was entered or more is committed: there is something to take in. Whoever takes it in resets it.
        self.has_news = True
        self._role_changes: list[tuple[str, int]] = []
        self._leader: LeaderState | None = None
        self._election: Election | None = None
        self._has_fetched_from_leader = False
        self._has_woken = False
        #: The snapshot that this follower must have before it can go on fetching.
        self._fetching_snapshot: EpochEnd | None = None
        self._successors: tuple[NodeId, ...] = ()
        self._unacked: list[NodeId] = []
        self._closing = False
        self._generation = 0
        self._timer_us = NEVER_US

    def _restore(self, now_us: int) -> None:
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
        self._has_woken = False
        self._fetching_snapshot = None
        self._unacked = []
        self._generation += 1
        self.has_news = True
        self._peers.reset()
        self._role_changes.append((role, epoch))
        self._outbox.append(
            Note("quorum-role", self.node_id, (("role", role), ("epoch", epoch), ("leader_id", leader_id)))
        )
        if leader is not None:
            response = QuorumFetchResponse(ErrorCode.NOT_LEADER_OR_FOLLOWER, leader_id, epoch)
            for call in leader.take_held():
                self._reply(call, response)

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
        self._write((LeaderChangeRecord(self.node_id, self.voters),), now_us)
        self._advance_high_watermark(self._leader)

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
        elif self.role == FOLLOWER and not self._has_woken:
            self._has_woken = True
            self._timer_us = now_us + self._shifted_draw("quorum.wakeup_ms", WAKEUP_MS) * 1000
        elif self.votes_in_advance:
            self._become_prospective(now_us)
        else:
            self._become_candidate(now_us)

    def _after_lost_pre_vote(self, now_us: int) -> None:
        if self.leader_id != NO_NODE:
            self._become_follower(self.epoch, self.leader_id, now_us)
        else:
            self._become_unattached(self.epoch, now_us)

    def _election_timeout_us(self) -> int:
        """Uniform over [t, 2t)."""
        bound_ms = self._config.election_timeout_ms
        return (bound_ms + self._shifted_draw("quorum.election_timeout_ms", bound_ms)) * 1000

    def _shifted_draw(self, label: str, bound: int) -> int:
        """Voters shift their draws apart, so that even equal draws do not always split votes."""
        shift = self.voters.index(self.node_id) * bound // len(self.voters) if self.is_voter else 0
        return (self._draw(label, bound) + shift) % bound

    def _write(self, records: tuple[MetadataRecord, ...], now_us: int) -> int:
        base_offset = self.log.log_end
        self.log.append(MetadataBatch(base_offset, self.epoch, records, now_us // 1000))
        return base_offset

    def _advance_high_watermark(self, leader: LeaderState) -> bool:
        end = leader.majority_end(self.log.log_end)
        if end <= self.high_watermark:
            return False
        assert end <= self.log.log_end
        self.high_watermark = end
        self.has_news = True
        return True

    def _reply(self, call: QuorumCall | HeldFetch, response: object) -> None:
        self._outbox.append(Reply(call.connection_id, call.correlation_id, response))
