"""The controller's rules that Kafka once did not have: each the one of today, and what held before its KIP.

Mirrors:  ReplicationControlManager.ineligibleReplicasForIsr, validateAlterPartitionData and handleBrokerShutdown,
          PartitionReassignmentReplicas.maybeCompleteReassignment; their ancestors.
Inputs:   ``rules_of(protections)`` when a process starts; registration, AlterPartition, reassignments and the leader's own check ask
          the result.
Rule 1:   today's rules are the default everywhere; an older one is chosen as a whole, and nothing else looks at a protection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from kafkasim.core.controller.image import BrokerState, PartitionState
from kafkasim.core.model.cluster_messages import PartitionIsrChange
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NodeId
from kafkasim.core.model.message import message
from kafkasim.core.model.protections import ALL_PROTECTIONS, Protections

# --- who may be in an ISR ----------------------------------------------------------------------------------------------
# ``epoch`` is the broker epoch that the member had when it caught up; NO_EPOCH where nobody knows.


def same_active_process(broker: BrokerState | None, epoch: int) -> bool:
    """It serves, and it is the very process that caught up (KIP-841, KIP-903)."""
    return broker is not None and broker.active and epoch in (NO_EPOCH, broker.broker_epoch)


def any_active_process(broker: BrokerState | None, epoch: int) -> bool:
    """Before KIP-903: it may have been restarted since, perhaps with an empty disk."""
    return broker is not None and broker.active


def same_process(broker: BrokerState | None, epoch: int) -> bool:
    """Before KIP-841: it may be fenced, or about to leave."""
    return broker is not None and epoch in (NO_EPOCH, broker.broker_epoch)


def any_process(broker: BrokerState | None, epoch: int) -> bool:
    """Before both."""
    return broker is not None


_MEMBERS = {
    (True, True): same_active_process,
    (True, False): any_active_process,
    (False, True): same_process,
    (False, False): any_process,
}


# --- which state of the partition a change must be made from -----------------------------------------------------------


def current_state_only(partition: PartitionState, change: PartitionIsrChange) -> ErrorCode:
    """The leader must have seen every change so far (KIP-497)."""
    if change.partition_epoch > partition.partition_epoch:
        return ErrorCode.NOT_CONTROLLER  # The leader knows more than this controller: a newer one must exist.
    if change.partition_epoch < partition.partition_epoch:
        return ErrorCode.INVALID_UPDATE_VERSION
    return ErrorCode.NONE


def any_state(partition: PartitionState, change: PartitionIsrChange) -> ErrorCode:
    """Before KIP-497: the last to write wins."""
    return ErrorCode.NONE


# --- what a process that registers may have lost -----------------------------------------------------------------------


def clean_shutdown_file(stored_epoch: int, previous_epoch: int) -> bool:
    """Clean only if the process registered last left its epoch behind when it stopped in order (KIP-966)."""
    return stored_epoch == previous_epoch


def always_trusted(stored_epoch: int, previous_epoch: int) -> bool:
    """Nobody asks how the process before ended."""
    return True


# --- when a reassignment lets the replicas go that it replaces ----------------------------------------------------------


@message
class Replacement:
    """A reassignment under way: ``isr`` and ``replicas`` are without those that leave."""

    isr: Collection[NodeId]
    replicas: Collection[NodeId]
    adding: Collection[NodeId]
    removing: Collection[NodeId]


def replacements_in_sync(change: Replacement) -> bool:
    """Those that join have caught up; where fewer join than leave, those that stay have, too (KIP-455)."""
    needed = change.replicas if len(change.adding) < len(change.removing) else change.adding
    return set(needed) <= set(change.isr)


def at_once(change: Replacement) -> bool:
    """Nobody waits for those that join: they copy what there is from those that are left."""
    return True


@message
class ControllerRules:
    """``elr_level``: the feature level that a new log starts with."""

    may_be_in_isr: Callable[[BrokerState | None, int], bool] = same_active_process
    state_error: Callable[[PartitionState, PartitionIsrChange], ErrorCode] = current_state_only
    stopped_cleanly: Callable[[int, int], bool] = clean_shutdown_file
    elr_level: int = 1
    may_let_go: Callable[[Replacement], bool] = replacements_in_sync


def rules_of(protections: Protections = ALL_PROTECTIONS) -> ControllerRules:
    return ControllerRules(
        _MEMBERS[protections.fenced_broker_check, protections.broker_epoch_check],
        current_state_only if protections.partition_epoch_check else any_state,
        clean_shutdown_file if protections.unclean_shutdown_detection else always_trusted,
        1 if protections.eligible_leader_replicas else 0,
        replacements_in_sync if protections.adding_replicas_check else at_once,
    )


#: Kafka 4.3.
RULES = rules_of()
