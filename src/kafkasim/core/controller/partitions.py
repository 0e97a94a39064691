"""Changes of partitions that exist: ISRs by their leaders, elections and reassignments by administrators and by time.

Mirrors:  ReplicationControlManager.alterPartition, electLeaders, alterPartitionReassignments, maybeBalancePartitionLeaders,
          maybeElectUncleanLeaders (KIP-455, KIP-497, KIP-841).
Rule 1:   a leader may change an ISR only from the very state it knows: leader epoch, partition epoch, broker epochs.
"""

from __future__ import annotations

from kafkasim.core.controller.brokers import check_broker_epoch
from kafkasim.core.controller.election import ONLINE, PREFERRED, UNCLEAN, PartitionChangeBuilder
from kafkasim.core.controller.image import PartitionState
from kafkasim.core.controller.rules import RULES, ControllerRules
from kafkasim.core.controller.state import ControllerImage
from kafkasim.core.controller.topics import TopicError, check_manual_assignment
from kafkasim.core.model.admin_messages import (
    PREFERRED_ELECTION,
    UNCLEAN_ELECTION,
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    Reassignment,
)
from kafkasim.core.model.cluster_messages import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    PartitionIsrChange,
    PartitionIsrResult,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_LEADER, NodeId, TopicPartition
from kafkasim.core.model.metadata import (
    NO_LEADER_CHANGE,
    RECOVERED,
    RECOVERING,
    MetadataRecord,
    PartitionChangeRecord,
)

MAX_ELECTIONS_PER_RUN = 1000

_TEXTS = {
    ErrorCode.ELECTION_NOT_NEEDED: "Leader election not needed for topic partition.",
    ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE: "The preferred leader was not available.",
    ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE: "Eligible topic partition leaders are not available.",
}

Records = list[MetadataRecord]


def _builder(
    image: ControllerImage, partition: PartitionState, election: int, rules: ControllerRules = RULES
) -> PartitionChangeBuilder:
    topic = image.topics[partition.tp.topic]
    return PartitionChangeBuilder(
        partition,
        image.broker_active,
        image.topic_min_isr(topic),
        elr_enabled=image.elr_enabled,
        election=election,
        may_let_go=rules.may_let_go,
    )


def _election_of(image: ControllerImage, partition: PartitionState) -> int:
    """What the topic's ``unclean.leader.election.enable`` allows."""
    return UNCLEAN if image.topic_unclean(partition.tp.topic) else ONLINE


# --- AlterPartition -------------------------------------------------------------------------------------------------


def alter_partition(
    image: ControllerImage, request: AlterPartitionRequest, rules: ControllerRules = RULES
) -> tuple[Records, AlterPartitionResponse]:
    error = check_broker_epoch(image, request.broker_id, request.broker_epoch)
    if error is not ErrorCode.NONE:
        return [], AlterPartitionResponse(error)
    records: Records = []
    results = []
    for change in request.partitions:
        result, record = _alter_one(image, rules, request.broker_id, change)
        results.append(result)
        if record is not None:
            records.append(record)
    return records, AlterPartitionResponse(ErrorCode.NONE, tuple(results))


def _alter_one(
    image: ControllerImage, rules: ControllerRules, sender: NodeId, change: PartitionIsrChange
) -> tuple[PartitionIsrResult, PartitionChangeRecord | None]:
    tp = change.tp
    topic = image.topics_by_id.get(change.topic_id)
    if topic is None:
        return PartitionIsrResult(tp, ErrorCode.UNKNOWN_TOPIC_ID), None
    if not 0 <= tp.partition < len(topic.partitions):
        return PartitionIsrResult(tp, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), None
    partition = topic.partitions[tp.partition]
    error = _check_isr_change(image, rules, sender, partition, change)
    if error is not ErrorCode.NONE:
        return PartitionIsrResult(tp, error), None
    builder = _builder(image, partition, _election_of(image, partition), rules)
    isr = tuple(sorted(node for node, _ in change.new_isr))
    if set(isr) != set(partition.isr):
        builder.target_isr = isr
    builder.target_recovery_state = change.leader_recovery_state
    record = builder.build()
    result = _isr_result(partition, record)
    return result, record


def _check_isr_change(
    image: ControllerImage,
    rules: ControllerRules,
    sender: NodeId,
    partition: PartitionState,
    change: PartitionIsrChange,
) -> ErrorCode:
    """The checks in Kafka's order, for the first that fails decides what the leader does next."""
    state_error = rules.state_error(partition, change)
    if change.leader_epoch > partition.leader_epoch or state_error is ErrorCode.NOT_CONTROLLER:
        return ErrorCode.NOT_CONTROLLER
    if change.leader_epoch < partition.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if partition.leader != sender:
        return ErrorCode.INVALID_REQUEST
    if state_error is not ErrorCode.NONE:
        return state_error
    isr = [node for node, _ in change.new_isr]
    if not isr or len(set(isr)) != len(isr) or not set(isr) <= set(partition.replicas) or sender not in isr:
        return ErrorCode.INVALID_REQUEST
    if change.leader_recovery_state == RECOVERING and len(isr) > 1:
        return ErrorCode.INVALID_REQUEST
    if partition.leader_recovery_state == RECOVERED and change.leader_recovery_state == RECOVERING:
        return ErrorCode.INVALID_REQUEST
    for node, broker_epoch in change.new_isr:
        if not rules.may_be_in_isr(image.brokers.get(node), broker_epoch):
            return ErrorCode.INELIGIBLE_REPLICA
    return ErrorCode.NONE


def _isr_result(partition: PartitionState, record: PartitionChangeRecord | None) -> PartitionIsrResult:
    """The partition as it will be once ``record`` is replayed."""
    tp = partition.tp
    if record is None:
        return PartitionIsrResult(
            tp,
            ErrorCode.NONE,
            partition.leader,
            partition.leader_epoch,
            partition.isr,
            partition.partition_epoch,
            partition.leader_recovery_state,
        )
    if record.leader not in (NO_LEADER_CHANGE, partition.leader):
        # The change completed a reassignment that takes the sender away; it is written, but the sender leads no more.
        return PartitionIsrResult(tp, ErrorCode.NEW_LEADER_ELECTED)
    recovery = partition.leader_recovery_state if record.leader_recovery_state is None else record.leader_recovery_state
    return PartitionIsrResult(
        tp,
        ErrorCode.NONE,
        partition.leader,
        partition.leader_epoch + (record.leader != NO_LEADER_CHANGE),
        partition.isr if record.isr is None else record.isr,
        partition.partition_epoch + 1,
        recovery,
    )


# --- elections ------------------------------------------------------------------------------------------------------


def elect_leaders(image: ControllerImage, request: ElectLeadersRequest) -> tuple[Records, ElectLeadersResponse]:
    if request.election_type not in (PREFERRED_ELECTION, UNCLEAN_ELECTION):
        return [], ElectLeadersResponse(ErrorCode.INVALID_REQUEST)
    records: Records = []
    results = []
    if request.partitions is None:
        for topic in image.topics.values():
            for partition in topic.partitions:
                result = _elect_one(image, partition.tp, request.election_type, records)
                if result.error is not ErrorCode.ELECTION_NOT_NEEDED:
                    results.append(result)
    else:
        wanted = dict.fromkeys(request.partitions)
        results = [_elect_one(image, tp, request.election_type, records) for tp in wanted]
    return records, ElectLeadersResponse(ErrorCode.NONE, tuple(results))


def _elect_one(image: ControllerImage, tp: TopicPartition, election_type: int, records: Records) -> PartitionResult:
    if tp.topic not in image.topics:
        return PartitionResult(tp, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {tp.topic}")
    partition = image.partition(tp)
    if partition is None:
        return PartitionResult(tp, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {tp}")
    preferred = election_type == PREFERRED_ELECTION
    if partition.leader == partition.replicas[0] if preferred else partition.leader != NO_LEADER:
        return _failed(tp, ErrorCode.ELECTION_NOT_NEEDED)
    record = _builder(image, partition, PREFERRED if preferred else UNCLEAN).build()
    if record is None:
        if preferred:
            return _failed(tp, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE)
        return _failed(tp, ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE)
    records.append(record)
    return PartitionResult(tp, ErrorCode.NONE)


def _failed(tp: TopicPartition, error: ErrorCode) -> PartitionResult:
    return PartitionResult(tp, error, _TEXTS[error])


def balance_leaders(image: ControllerImage) -> Records:
    """Give imbalanced partitions back to their preferred replicas, so many a run."""
    records: Records = []
    for partition in image.partitions_not_preferred():
        record = _builder(image, partition, PREFERRED).build()
        if record is not None:
            records.append(record)
            if len(records) == MAX_ELECTIONS_PER_RUN:
                break
    return records


def elect_unclean_leaders(image: ControllerImage) -> Records:
    """Partitions without a leader whose topics would rather lose records than wait."""
    records: Records = []
    for partition in image.partitions_without_leader():
        if image.topic_unclean(partition.tp.topic):
            record = _builder(image, partition, UNCLEAN).build()
            if record is not None:
                records.append(record)
                if len(records) == MAX_ELECTIONS_PER_RUN:
                    break
    return records


# --- reassignment ---------------------------------------------------------------------------------------------------


def alter_partition_reassignments(
    image: ControllerImage, request: AlterPartitionReassignmentsRequest, rules: ControllerRules = RULES
) -> tuple[Records, AlterPartitionReassignmentsResponse]:
    records: Records = []
    results = []
    for reassignment in request.reassignments:
        try:
            record = _reassign(image, reassignment, request.allow_replication_factor_change, rules)
            if record is not None:
                records.append(record)
            results.append(PartitionResult(reassignment.tp, ErrorCode.NONE))
        except TopicError as problem:
            results.append(PartitionResult(reassignment.tp, problem.error, problem.text))
    return records, AlterPartitionReassignmentsResponse(ErrorCode.NONE, tuple(results))


def _reassign(
    image: ControllerImage, reassignment: Reassignment, allow_factor_change: bool, rules: ControllerRules
) -> PartitionChangeRecord | None:
    tp = reassignment.tp
    if tp.topic not in image.topics:
        raise TopicError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {tp.topic}.")
    partition = image.partition(tp)
    if partition is None:
        raise TopicError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {tp.topic}:{tp.partition}.")
    if reassignment.replicas is None:
        return _cancel(image, partition)
    check_manual_assignment(image, reassignment.replicas, None)
    if not allow_factor_change:
        # A change that runs already counts as if it were complete.
        current = len({*partition.replicas} - {*partition.removing_replicas})
        if current != len(reassignment.replicas):
            raise TopicError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"The replication factor is changed from {current} to {len(reassignment.replicas)}",
            )
    return _change(image, partition, reassignment.replicas, rules)


def _change(
    image: ControllerImage, partition: PartitionState, target: tuple[NodeId, ...], rules: ControllerRules
) -> PartitionChangeRecord | None:
    """From now on the target and what it replaces are replicas both; the change completes itself when it can.

    It elects cleanly or not at all, whatever the topic allows elsewhere.
    """
    removing = tuple(sorted(node for node in partition.replicas if node not in target))
    adding = tuple(sorted(node for node in target if node not in partition.replicas))
    builder = _builder(image, partition, ONLINE, rules)
    builder.target_replicas = target + removing
    if removing:
        builder.target_removing = removing
    if adding:
        builder.target_adding = adding
    return builder.build()


def _cancel(image: ControllerImage, partition: PartitionState) -> PartitionChangeRecord | None:
    """Back to the replicas as they were before."""
    if not partition.adding_replicas and not partition.removing_replicas:
        raise TopicError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
    replicas = tuple(node for node in partition.replicas if node not in partition.adding_replicas)
    isr = tuple(node for node in partition.isr if node not in partition.adding_replicas)
    unclean = not isr
    if unclean and not image.topic_unclean(partition.tp.topic):
        raise TopicError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Unable to revert partition assignment for {partition.tp.topic}:{partition.tp.partition} "
            "because it would require an unclean leader election.",
        )
    builder = _builder(image, partition, _election_of(image, partition))
    builder.target_isr = isr or (replicas[0],)
    builder.target_replicas = replicas
    builder.target_removing = ()
    builder.target_adding = ()
    return builder.build()
