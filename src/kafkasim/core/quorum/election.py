"""Elections by themselves: the roles, who may get a vote, counting votes, and how successors space themselves out.

Mirrors:  canGrantVote of the EpochState classes, EpochElection, endEpochElectionBackoff (KIP-595, KIP-996).
Rule 1:   nothing here knows time or the network.
Differs:  an unattached replica that gave its vote away is called ``voted``; Kafka 4.3 keeps one state for both.
"""

from __future__ import annotations

from kafkasim.core.model.ids import NO_NODE, NodeId

UNATTACHED = "unattached"
VOTED = "voted"
FOLLOWER = "follower"
PROSPECTIVE = "prospective"
CANDIDATE = "candidate"
LEADER = "leader"
RESIGNED = "resigned"


def can_grant_vote(
    role: str,
    *,
    candidate_id: NodeId,
    pre_vote: bool,
    log_is_up_to_date: bool,
    has_leader: bool,
    has_fetched_from_leader: bool,
    voted_id: NodeId,
) -> bool:
    """Whether a replica in ``role`` gives its (pre-)vote, the request's epoch being its own."""
    if role == LEADER:
        return False
    if pre_vote:
        # A follower that has heard from its leader protects it: that is why one asks before the epoch moves.
        return log_is_up_to_date and not (role == FOLLOWER and has_fetched_from_leader)
    if role in (FOLLOWER, CANDIDATE, RESIGNED):
        return False
    if voted_id != NO_NODE:
        return voted_id == candidate_id
    return log_is_up_to_date and not has_leader


class Election:
    """One round of votes; ``waiting`` lists, in order, the voters that have not answered."""

    __slots__ = ("_granted_count", "_majority", "_rejected_count", "_voter_count", "waiting")

    def __init__(self, voters: tuple[NodeId, ...], local_id: NodeId) -> None:
        self._voter_count = len(voters)
        self._majority = len(voters) // 2 + 1
        self._granted_count = 1
        self._rejected_count = 0
        self.waiting = [voter for voter in voters if voter != local_id]

    def record(self, voter: NodeId, granted: bool) -> None:
        if voter not in self.waiting:
            return
        self.waiting.remove(voter)
        if granted:
            self._granted_count += 1
        else:
            self._rejected_count += 1

    @property
    def is_won(self) -> bool:
        return self._granted_count >= self._majority

    @property
    def is_lost(self) -> bool:
        return self._voter_count - self._rejected_count < self._majority


def successor_backoff_ms(local_id: NodeId, successors: tuple[NodeId, ...], backoff_max_ms: int) -> int:
    """How long a replica waits after its leader resigned, so that the best-placed successor goes first."""
    position = successors.index(local_id) if local_id in successors else 0
    if position == 0:
        return 0
    base_ms = backoff_max_ms >> (len(successors) - 1)
    return min(backoff_max_ms, base_ms << (position - 1))
