"""What a leader knows for one epoch: how far each voter is, whether a majority still fetches, the fetches it holds.

Mirrors:  LeaderState, and the fetch purgatory of KafkaRaftClient (KIP-595, KIP-1166).
Rule 1:   the high watermark is what a majority of voters holds, and only once that passes this epoch's first record:
          an older epoch's records commit by being covered, never by being counted.
Rule 2:   a held fetch has all that the log holds and knows the high watermark; the next change of either frees all.
"""

from __future__ import annotations

from typing import Protocol

from kafkasim.core.model.cluster_messages import QuorumFetchRequest, ReplicaState
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.ids import NO_OFFSET, NodeId
from kafkasim.core.model.timers import Timers
from kafkasim.core.quorum.config import QuorumConfig

#: An observer that has not fetched for so long is no longer described.
OBSERVER_SESSION_TIMEOUT_US = 300_000_000


class QuorumCall(Protocol):
    """A request in hand; ``core.node.context.Call`` is one."""

    @property
    def connection_id(self) -> int: ...
    @property
    def correlation_id(self) -> int: ...
    @property
    def peer(self) -> NodeId: ...
    @property
    def request(self) -> object: ...


class HeldFetch(Protocol):
    """A ``QuorumCall`` whose request is a fetch."""

    @property
    def connection_id(self) -> int: ...
    @property
    def correlation_id(self) -> int: ...
    @property
    def request(self) -> QuorumFetchRequest: ...


class LeaderState:
    """``epoch_start_offset`` is where this epoch's LeaderChangeRecord sits."""

    __slots__ = (
        "_config",
        "_fetched_voters",
        "_held",
        "_held_deadlines",
        "_last_fetch_us",
        "_local_id",
        "_observers",
        "_voter_ends",
        "begin_quorum_deadline_us",
        "check_quorum_deadline_us",
        "epoch_start_offset",
    )

    def __init__(
        self,
        local_id: NodeId,
        voters: tuple[NodeId, ...],
        epoch_start_offset: int,
        config: QuorumConfig,
        now_us: int,
    ) -> None:
        self._local_id = local_id
        self._config = config
        self.epoch_start_offset = epoch_start_offset
        self._voter_ends: dict[NodeId, int] = dict.fromkeys(voters, NO_OFFSET)
        # A voter that never fetched is as one that fetched too long ago.
        self._last_fetch_us: dict[NodeId, int] = {voter: -NEVER_US for voter in voters if voter != local_id}
        self._observers: dict[NodeId, tuple[int, int]] = {}
        self._fetched_voters: list[NodeId] = []
        self._held: dict[int, HeldFetch] = {}
        self._held_deadlines: Timers[int] = Timers()
        alone = len(voters) == 1
        self.check_quorum_deadline_us = NEVER_US if alone else now_us + config.check_quorum_timeout_us
        self.begin_quorum_deadline_us = NEVER_US if alone else now_us

    @property
    def deadline_us(self) -> int:
        return min(
            self.check_quorum_deadline_us,
            self.begin_quorum_deadline_us,
            self._held_deadlines.deadline_us,
        )

    # --- Progress of the others ----------------------------------------------------------------------------------

    def on_fetch(self, replica_id: NodeId, fetch_offset: int, now_us: int) -> None:
        """A replica asked for what follows ``fetch_offset``, so it holds everything below."""
        if replica_id not in self._last_fetch_us:
            if replica_id != self._local_id:
                self._observers[replica_id] = (fetch_offset, now_us)
            return
        self._voter_ends[replica_id] = fetch_offset
        self.on_contact(replica_id, now_us)

    def on_contact(self, replica_id: NodeId, now_us: int) -> None:
        """A voter follows, though it may not have come further: it fetches batches or a snapshot."""
        if replica_id not in self._last_fetch_us:
            return
        self._last_fetch_us[replica_id] = now_us
        if replica_id not in self._fetched_voters:
            self._fetched_voters.append(replica_id)
        if len(self._fetched_voters) >= len(self._voter_ends) // 2:
            # With the leader itself that is a majority.
            self._fetched_voters.clear()
            self.check_quorum_deadline_us = now_us + self._config.check_quorum_timeout_us

    def majority_end(self, log_end: int) -> int:
        """The offset that a majority of voters reached, NO_OFFSET as long as it may not count as committed."""
        self._voter_ends[self._local_id] = log_end
        ends = sorted(self._voter_ends.values(), reverse=True)
        end = ends[len(ends) // 2]
        return end if end > self.epoch_start_offset else NO_OFFSET

    def voters_to_remind(self, now_us: int) -> list[NodeId]:
        """Voters that have not fetched lately and may not know who leads; arms the next look."""
        timeout_us = self._config.begin_quorum_epoch_timeout_us
        self.begin_quorum_deadline_us = now_us + timeout_us
        return [voter for voter, last_us in self._last_fetch_us.items() if now_us - last_us >= timeout_us]

    def preferred_successors(self) -> tuple[NodeId, ...]:
        """The other voters, the furthest first."""
        others = [voter for voter in self._voter_ends if voter != self._local_id]
        return tuple(sorted(others, key=lambda voter: (-self._voter_ends[voter], voter)))

    def describe_voters(self, log_end: int) -> tuple[ReplicaState, ...]:
        self._voter_ends[self._local_id] = log_end
        return tuple(ReplicaState(voter, end) for voter, end in self._voter_ends.items())

    def describe_observers(self, now_us: int) -> tuple[ReplicaState, ...]:
        return tuple(
            ReplicaState(observer, end)
            for observer, (end, last_us) in sorted(self._observers.items())
            if now_us - last_us < OBSERVER_SESSION_TIMEOUT_US
        )

    # --- Held fetches --------------------------------------------------------------------------------------------

    def hold(self, call: HeldFetch, now_us: int) -> None:
        self._held[call.connection_id] = call
        self._held_deadlines.arm(call.connection_id, now_us + call.request.max_wait_ms * 1000)

    def drop_held(self, connection_id: int) -> None:
        """The connection is gone; nobody waits for the answer."""
        if self._held.pop(connection_id, None) is not None:
            self._held_deadlines.disarm(connection_id)

    def take_expired(self, now_us: int) -> list[HeldFetch]:
        return [self._held.pop(connection_id) for connection_id in self._held_deadlines.due(now_us)]

    def take_held(self) -> list[HeldFetch]:
        calls = list(self._held.values())
        for connection_id in self._held:
            self._held_deadlines.disarm(connection_id)
        self._held.clear()
        return calls
