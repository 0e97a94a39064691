"""What a partition's next record is, once its ISR, its replicas or the brokers that may lead have changed.

Mirrors:  PartitionChangeBuilder, PartitionReassignmentReplicas.maybeCompleteReassignment (KIP-455, KIP-704, KIP-966).
Rule 1:   a builder reads one ``PartitionState`` and gives one ``PartitionChangeRecord``, or None if nothing changes.
Rule 2:   elections go by the order of the replicas; the ISR is a set that happens to be kept in a tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from kafkasim.core.controller.image import PartitionState
from kafkasim.core.controller.rules import Replacement, replacements_in_sync
from kafkasim.core.model.ids import NO_LEADER, NodeId
from kafkasim.core.model.metadata import NO_LEADER_CHANGE, RECOVERING, PartitionChangeRecord

#: Keep a valid leader, else the first valid replica.
ONLINE = 0
#: The first replica if it may lead.
PREFERRED = 1
#: As ONLINE, but rather a leader that misses records than none.
UNCLEAN = 2


class PartitionChangeBuilder:
    """Set what shall be (``target_*``), then ``build()``."""

    __slots__ = (
        "_acceptable",
        "_elr_enabled",
        "_may_let_go",
        "_min_isr",
        "_partition",
        "_target_elr",
        "election",
        "target_adding",
        "target_isr",
        "target_recovery_state",
        "target_removing",
        "target_replicas",
        "unclean_shutdown",
    )

    def __init__(
        self,
        partition: PartitionState,
        acceptable: Callable[[NodeId], bool],
        min_isr: int,
        *,
        elr_enabled: bool = True,
        election: int = ONLINE,
        may_let_go: Callable[[Replacement], bool] = replacements_in_sync,
    ) -> None:
        """``acceptable``: may this broker lead at all; ``min_isr``: the effective ``min.insync.replicas``."""
        self._partition = partition
        self._acceptable = acceptable
        self._min_isr = min_isr
        self._elr_enabled = elr_enabled
        self._target_elr = partition.elr
        self._may_let_go = may_let_go
        self.election = election
        self.target_isr = partition.isr
        self.target_replicas = partition.replicas
        self.target_removing = partition.removing_replicas
        self.target_adding = partition.adding_replicas
        self.target_recovery_state = partition.leader_recovery_state
        #: Brokers that came back without an orderly stop: what they acknowledged may be gone.
        self.unclean_shutdown: Collection[NodeId] = ()

    def build(self) -> PartitionChangeRecord | None:
        partition = self._partition
        self._complete_reassignment()
        self._populate_elr()
        leader, unclean = self._elect()
        isr: tuple[NodeId, ...] | None = None
        recovery_state = self.target_recovery_state
        if leader == partition.leader:
            leader = NO_LEADER_CHANGE
        elif unclean:
            # Whatever the others hold beyond this one's log is given up, so nobody else is in sync.
            isr = (leader,)
            recovery_state = RECOVERING
            self._target_elr = ()
        elif leader in self._target_elr:
            self.target_isr = (leader,)
            self._target_elr = tuple(node for node in self._target_elr if node != leader)
        if leader == NO_LEADER_CHANGE and not set(partition.replicas) <= set(self.target_replicas):
            leader = partition.leader  # A dropped replica must hear of a newer epoch than the one it knows.
        if not self._elr_enabled:
            self._target_elr = ()
        if isr is None and self.target_isr != partition.isr and (self.target_isr or self._elr_enabled):
            isr = self.target_isr
        return self._record(leader, isr, recovery_state)

    def _record(
        self, leader: NodeId, isr: tuple[NodeId, ...] | None, recovery_state: int
    ) -> PartitionChangeRecord | None:
        """The fields that differ from the partition as it is."""
        partition = self._partition
        replicas = None if self.target_replicas == partition.replicas else self.target_replicas
        removing = None if self.target_removing == partition.removing_replicas else self.target_removing
        adding = None if self.target_adding == partition.adding_replicas else self.target_adding
        state = None if recovery_state == partition.leader_recovery_state else recovery_state
        elr = None if self._target_elr == partition.elr else self._target_elr
        last_known = self._last_known_leader(leader)
        if leader == NO_LEADER_CHANGE:
            changes = (isr, replicas, removing, adding, state, elr, last_known)
            if all(change is None for change in changes):
                return None
        return PartitionChangeRecord(
            partition.topic_id,
            partition.tp.partition,
            leader,
            isr,
            replicas,
            removing,
            adding,
            state,
            elr,
            last_known,
        )

    def _complete_reassignment(self) -> None:
        """Let the removed replicas go as soon as those that stay are enough."""
        removing, adding = self.target_removing, self.target_adding
        if not removing and not adding:
            return
        isr = tuple(node for node in self.target_isr if node not in removing)
        replicas = tuple(node for node in self.target_replicas if node not in removing)
        if removing and (not isr or not replicas):
            return
        if not self._may_let_go(Replacement(isr, replicas, adding, removing)):
            return
        self.target_isr = isr
        self.target_replicas = replicas
        self.target_removing = ()
        self.target_adding = ()

    def _populate_elr(self) -> None:
        """Who left the ISR below its minimum holds every committed record still, and may lead once the ISR is empty."""
        if not self._elr_enabled:
            return
        if len(self.target_isr) >= self._min_isr:
            self._target_elr = ()
            return
        candidates = {*self._target_elr, *self._partition.isr}
        candidates.difference_update(self.target_isr)
        candidates.difference_update(self.unclean_shutdown)
        self._target_elr = tuple(sorted(candidates))

    # --- election --------------------------------------------------------------------------------------------------

    def _elect(self) -> tuple[NodeId, bool]:
        """(leader, unclean)."""
        partition, replicas = self._partition, self.target_replicas
        if self.election == PREFERRED and self._valid(replicas[0]):
            return replicas[0], False
        if self._valid(partition.leader):
            return partition.leader, False
        for node in replicas:
            if self._valid(node):
                return node, False
        if self._may_elect_last_known_leader():
            return partition.last_known_elr[0], True
        if self.election == UNCLEAN:
            for node in replicas:
                if self._acceptable(node):
                    return node, True
        return NO_LEADER, False

    def _valid(self, node: NodeId) -> bool:
        in_sync = node in self.target_isr or (not self.target_isr and node in self._target_elr)
        return in_sync and self._acceptable(node)

    def _may_elect_last_known_leader(self) -> bool:
        last_known = self._partition.last_known_elr
        return (
            self._elr_enabled
            and not self._target_elr
            and not self.target_isr
            and len(last_known) == 1
            and self._acceptable(last_known[0])
        )

    def _last_known_leader(self, leader: NodeId) -> tuple[NodeId, ...] | None:
        """LastKnownElr holds who led when the partition lost its leader, until there is one again."""
        last_known = self._partition.last_known_elr
        if not self._elr_enabled:
            return None
        if leader == NO_LEADER and not last_known:
            return (self._partition.leader,)
        if leader >= 0 and last_known:
            return ()
        return None
