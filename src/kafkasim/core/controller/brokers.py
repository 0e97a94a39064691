"""Brokers as the controller sees them: registration, heartbeats, sessions, fencing and controlled shutdown.

Mirrors:  ClusterControlManager.registerBroker, BrokerHeartbeatManager, BrokerHeartbeatTracker and the broker half of
          ReplicationControlManager (KIP-631, KIP-841, KIP-966).
Rule 1:   a handler computes ``(records, response)`` and changes nothing; ``Sessions`` is touched by the caller afterwards.
Rule 2:   sessions are soft: they are not in the log, and a new active controller gives every unfenced broker a fresh one.
Rule 3:   one deadline for all sessions: the first check (every session/8 since activation) that can find one expired.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum

from kafkasim.core.controller.election import ONLINE, UNCLEAN, PartitionChangeBuilder
from kafkasim.core.controller.image import PartitionState
from kafkasim.core.controller.rules import RULES, ControllerRules
from kafkasim.core.controller.state import ControllerImage
from kafkasim.core.model.admin_messages import UnregisterBrokerRequest, UnregisterBrokerResponse
from kafkasim.core.model.cluster_messages import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
)
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, NO_OFFSET, NodeId
from kafkasim.core.model.metadata import (
    BrokerRegistrationChangeRecord,
    MetadataRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    UnregisterBrokerRecord,
)

PRODUCER_ID_BLOCK = 1000

#: No clean-shutdown file holds this epoch.
_NEVER_REGISTERED = -2

Records = list[MetadataRecord]


class BrokerControlState(Enum):
    """Where a broker stands with the controller (BrokerControlState)."""

    FENCED = "fenced"
    UNFENCED = "unfenced"
    CONTROLLED_SHUTDOWN = "controlled shutdown"
    SHUTDOWN_NOW = "shutdown now"


class Sessions:
    """When each registered process was last heard of, and how far it has followed the metadata log.

    A session belongs to (broker id, broker epoch): one that outlived its registration expires by itself, without effect
    if the broker has registered anew, with a second fence record if it has not.
    """

    def __init__(self, session_timeout_us: int) -> None:
        self._timeout_us = session_timeout_us
        self._period_us = max(1, session_timeout_us // 8)
        self._activated_us = 0
        #: Oldest contact first.
        self._contacts: OrderedDict[tuple[NodeId, int], int] = OrderedDict()
        self._metadata_offsets: dict[NodeId, int] = {}
        self._shutdown_offsets: dict[NodeId, int] = {}
        self.deadline_us = NEVER_US

    def activate(self, image: ControllerImage, now_us: int) -> None:
        """Start afresh as the active controller: every unfenced broker has just been heard of."""
        self.deactivate()
        self._activated_us = now_us
        for broker in image.brokers.values():
            if not broker.fenced:
                self._contacts[(broker.broker_id, broker.broker_epoch)] = now_us
        self._plan_check(now_us)

    def deactivate(self) -> None:
        self._contacts.clear()
        self._metadata_offsets.clear()
        self._shutdown_offsets.clear()
        self.deadline_us = NEVER_US

    def touch(self, broker_id: NodeId, broker_epoch: int, now_us: int) -> None:
        """The process that registered with ``broker_epoch`` has been heard of."""
        key = (broker_id, broker_epoch)
        self._contacts[key] = now_us
        self._contacts.move_to_end(key)
        if self.deadline_us == NEVER_US:
            self._plan_check(now_us)

    def note_heartbeat(self, broker_id: NodeId, metadata_offset: int, fenced: bool) -> None:
        self._metadata_offsets[broker_id] = metadata_offset
        if fenced:
            self._shutdown_offsets.pop(broker_id, None)

    def note_registration(self, broker_id: NodeId) -> None:
        """A new process starts from nothing."""
        self._metadata_offsets.pop(broker_id, None)
        self._shutdown_offsets.pop(broker_id, None)

    def note_shutdown_offset(self, broker_id: NodeId, offset: int) -> None:
        """The broker may go once all others have seen the log up to ``offset``; what it was first told holds."""
        self._shutdown_offsets.setdefault(broker_id, offset)

    def has_valid(self, broker_id: NodeId, broker_epoch: int, now_us: int) -> bool:
        contact_us = self._contacts.get((broker_id, broker_epoch))
        return contact_us is not None and contact_us + self._timeout_us >= now_us

    def take_expired(self, now_us: int) -> tuple[NodeId, int] | None:
        """One (broker id, broker epoch) whose session is over, which it then is no longer known to have had.

        To be called at ``deadline_us``, again and again until it gives None.
        """
        if self._contacts:
            key, contact_us = next(iter(self._contacts.items()))
            if contact_us + self._timeout_us < now_us:
                del self._contacts[key]
                return key
        self._plan_check(now_us)
        return None

    def shutting_down(self, broker_id: NodeId) -> bool:
        return broker_id in self._shutdown_offsets

    def shutdown_offset(self, broker_id: NodeId) -> int:
        return self._shutdown_offsets.get(broker_id, NO_OFFSET)

    def lowest_active_offset(self, image: ControllerImage) -> int:
        """How far the slowest of the brokers that serve has followed the log."""
        offsets = [
            self._metadata_offsets.get(broker.broker_id, NO_OFFSET)
            for broker in image.brokers.values()
            if not broker.fenced and broker.broker_id not in self._shutdown_offsets
        ]
        return min(offsets, default=NEVER_US)

    def _plan_check(self, now_us: int) -> None:
        """The first check after ``now_us`` at which the oldest contact will be older than the session."""
        if not self._contacts:
            self.deadline_us = NEVER_US
            return
        oldest_us = next(iter(self._contacts.values()))
        due_us = max(oldest_us + self._timeout_us, now_us) + 1
        checks = -(-(due_us - self._activated_us) // self._period_us)
        self.deadline_us = self._activated_us + checks * self._period_us


# --- registration ---------------------------------------------------------------------------------------------------


def register_broker(
    image: ControllerImage,
    sessions: Sessions,
    request: BrokerRegistrationRequest,
    now_us: int,
    rules: ControllerRules = RULES,
) -> tuple[Records, BrokerRegistrationResponse]:
    """A new process gets the next offset as its epoch, fenced; what its predecessor may have lost is taken from it first."""
    broker_id = request.broker_id
    existing = image.brokers.get(broker_id)
    same_process = existing is not None and existing.incarnation_id == request.incarnation_id
    if existing is not None and not same_process and sessions.has_valid(broker_id, existing.broker_epoch, now_us):
        return [], BrokerRegistrationResponse(ErrorCode.DUPLICATE_BROKER_REGISTRATION)
    records: Records = []
    if existing is not None and same_process:
        epoch, fenced, stopping = existing.broker_epoch, existing.fenced, existing.in_controlled_shutdown
    else:
        epoch, fenced, stopping = image.next_offset, True, False
        # One that was unregistered may be in an ELR still; nobody knows how it ended.
        stored_epoch = _NEVER_REGISTERED if existing is None else existing.broker_epoch
        clean = rules.stopped_cleanly(stored_epoch, request.previous_broker_epoch)
        records += records_for_shutdown(image, broker_id, clean)
    records.append(
        RegisterBrokerRecord(
            broker_id, request.incarnation_id, epoch, request.host, request.port, request.rack, fenced, stopping
        )
    )
    return records, BrokerRegistrationResponse(ErrorCode.NONE, epoch)


def records_for_shutdown(image: ControllerImage, broker_id: NodeId, clean: bool) -> Records:
    """The process that was registered before is gone: in order, or with the tail of its log perhaps unwritten."""
    if clean or not image.elr_enabled:
        return leader_and_isr_changes(image, image.partitions_in_isr(broker_id), removed=broker_id)
    partitions = image.partitions_in_isr(broker_id) + image.partitions_in_elr(broker_id)
    return leader_and_isr_changes(image, partitions, unclean=broker_id)


# --- heartbeats -----------------------------------------------------------------------------------------------------


def next_control_state(
    image: ControllerImage, sessions: Sessions, request: BrokerHeartbeatRequest
) -> tuple[BrokerControlState, BrokerControlState]:
    """(current, next) state of a broker that says what it wants."""
    broker_id = request.broker_id
    states = BrokerControlState
    if image.brokers[broker_id].fenced:
        if request.want_shut_down:
            return states.FENCED, states.SHUTDOWN_NOW
        caught_up = request.current_metadata_offset >= image.register_offsets[broker_id]
        return states.FENCED, states.UNFENCED if caught_up and not request.want_fence else states.FENCED
    if sessions.shutting_down(broker_id):
        moved = not image.leads_any(broker_id)
        seen = sessions.shutdown_offset(broker_id) <= sessions.lowest_active_offset(image)
        return states.CONTROLLED_SHUTDOWN, states.SHUTDOWN_NOW if moved and seen else states.CONTROLLED_SHUTDOWN
    if request.want_fence:
        return states.UNFENCED, states.SHUTDOWN_NOW if request.want_shut_down else states.FENCED
    if request.want_shut_down:
        leads = image.leads_any(broker_id)
        return states.UNFENCED, states.CONTROLLED_SHUTDOWN if leads else states.SHUTDOWN_NOW
    return states.UNFENCED, states.UNFENCED


def heartbeat(
    image: ControllerImage, sessions: Sessions, request: BrokerHeartbeatRequest
) -> tuple[Records, BrokerHeartbeatResponse, BrokerControlState | None]:
    """Records, response and the state that the broker is in from now on (None: refused)."""
    error = check_broker_epoch(image, request.broker_id, request.broker_epoch)
    if error is not ErrorCode.NONE:
        return [], BrokerHeartbeatResponse(error), None
    current, following = next_control_state(image, sessions, request)
    records: Records = []
    if following is not current:
        records = _STATE_RECORDS[following](image, request.broker_id)
    fenced = following in (BrokerControlState.FENCED, BrokerControlState.SHUTDOWN_NOW)
    response = BrokerHeartbeatResponse(
        ErrorCode.NONE,
        is_caught_up=request.current_metadata_offset >= image.register_offsets[request.broker_id],
        is_fenced=fenced,
        should_shut_down=following is BrokerControlState.SHUTDOWN_NOW,
    )
    return records, response, following


def check_broker_epoch(image: ControllerImage, broker_id: NodeId, broker_epoch: int) -> ErrorCode:
    """A request of a process that has been replaced must not count."""
    broker = image.brokers.get(broker_id)
    if broker is None or broker.broker_epoch != broker_epoch:
        return ErrorCode.STALE_BROKER_EPOCH
    return ErrorCode.NONE


def fence(image: ControllerImage, broker_id: NodeId) -> Records:
    """Out of every ISR first, then fenced: a fenced broker is in no ISR at any offset of the log."""
    records = leader_and_isr_changes(image, image.partitions_in_isr(broker_id), removed=broker_id)
    records.append(BrokerRegistrationChangeRecord(broker_id, image.brokers[broker_id].broker_epoch, fenced=1))
    return records


def unfence(image: ControllerImage, broker_id: NodeId) -> Records:
    """The broker serves again, and may lead what nobody leads."""
    change = BrokerRegistrationChangeRecord(broker_id, image.brokers[broker_id].broker_epoch, fenced=-1)
    return [change, *leader_and_isr_changes(image, image.partitions_without_leader(), added=broker_id)]


def enter_controlled_shutdown(image: ControllerImage, broker_id: NodeId) -> Records:
    """The broker still answers, but neither leads nor counts any more."""
    broker = image.brokers[broker_id]
    records: Records = []
    if not broker.in_controlled_shutdown:
        records.append(BrokerRegistrationChangeRecord(broker_id, broker.broker_epoch, in_controlled_shutdown=1))
    return records + leader_and_isr_changes(image, image.partitions_in_isr(broker_id), removed=broker_id)


_STATE_RECORDS: dict[BrokerControlState, Callable[[ControllerImage, NodeId], Records]] = {
    BrokerControlState.FENCED: fence,
    BrokerControlState.SHUTDOWN_NOW: fence,
    BrokerControlState.UNFENCED: unfence,
    BrokerControlState.CONTROLLED_SHUTDOWN: enter_controlled_shutdown,
}


def fence_expired(image: ControllerImage, broker_id: NodeId, broker_epoch: int) -> Records:
    """The session of (id, epoch) is over: fence, unless a newer process has registered since."""
    broker = image.brokers.get(broker_id)
    if broker is None or broker.broker_epoch != broker_epoch:
        return []
    return fence(image, broker_id)


def unregister_broker(
    image: ControllerImage, request: UnregisterBrokerRequest
) -> tuple[Records, UnregisterBrokerResponse]:
    """The broker is gone for good: out of every ISR and ELR, then forgotten. Replica lists still name it."""
    broker_id = request.broker_id
    broker = image.brokers.get(broker_id)
    if broker is None:
        text = f"Broker ID {broker_id} is not currently registered"
        return [], UnregisterBrokerResponse(ErrorCode.BROKER_ID_NOT_REGISTERED, text)
    records = leader_and_isr_changes(image, image.partitions_in_isr(broker_id), removed=broker_id)
    records += leader_and_isr_changes(image, image.partitions_in_elr(broker_id), removed=broker_id)
    records.append(UnregisterBrokerRecord(broker_id, broker.broker_epoch))
    return records, UnregisterBrokerResponse(ErrorCode.NONE)


def leader_and_isr_changes(
    image: ControllerImage,
    partitions: Iterable[PartitionState],
    *,
    removed: NodeId = NO_NODE,
    added: NodeId = NO_NODE,
    unclean: NodeId = NO_NODE,
) -> Records:
    """Take ``removed`` and ``unclean`` out of the ISRs and elect; ``added`` counts as active although it is not yet."""
    gone = {removed, unclean}
    active = {node for node, broker in image.brokers.items() if broker.active}
    if added != NO_NODE:
        active.add(added)
    active -= gone
    records: Records = []
    for partition in partitions:
        topic = image.topics[partition.tp.topic]
        builder = PartitionChangeBuilder(
            partition,
            active.__contains__,
            image.topic_min_isr(topic),
            elr_enabled=image.elr_enabled,
            election=UNCLEAN if image.topic_unclean(topic.name) else ONLINE,
        )
        builder.target_isr = tuple(node for node in partition.isr if node not in gone)
        if unclean != NO_NODE:
            builder.unclean_shutdown = (unclean,)
        record = builder.build()
        if record is not None:
            records.append(record)
    return records


# --- producer ids ---------------------------------------------------------------------------------------------------


def allocate_producer_ids(
    image: ControllerImage, request: AllocateProducerIdsRequest
) -> tuple[Records, AllocateProducerIdsResponse]:
    """A block of producer ids that no other broker gets."""
    error = check_broker_epoch(image, request.broker_id, request.broker_epoch)
    if error is not ErrorCode.NONE:
        return [], AllocateProducerIdsResponse(error)
    start = image.next_producer_id
    record = ProducerIdsRecord(request.broker_id, request.broker_epoch, start + PRODUCER_ID_BLOCK)
    return [record], AllocateProducerIdsResponse(ErrorCode.NONE, start, PRODUCER_ID_BLOCK)
