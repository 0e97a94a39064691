"""A controller process: one voter of the metadata quorum, and the controller that it is while it leads.

Mirrors:  QuorumController, ControllerApis, ActivationRecordsGenerator, OffsetControlManager (KIP-500, KIP-631).
Inputs:   requests of brokers and administrators (direct, or in an Envelope), requests of the quorum, deadlines, ``settle``.
Effects:  Reply, Note (and, through the quorum replica, Send).
Rule 1:   a handler computes records and a response; the records are replayed as soon as they are appended, the response
          leaves when everything appended before it is committed.
Rule 2:   a controller that loses the leadership answers NOT_CONTROLLER to all who wait and forgets what was not committed.
Rule 3:   nothing runs idle: one deadline for all sessions; the balancing and unclean tasks only while they have something to do.
Differs:  no NoOpRecord every ``metadata.max.idle.interval.ms`` (it would cost events and changes nothing that is modelled).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from kafkasim.core.controller import brokers, configs, features, partitions, topics
from kafkasim.core.controller.image import ImageDelta
from kafkasim.core.controller.rules import rules_of
from kafkasim.core.controller.state import ControllerImage
from kafkasim.core.model.admin_messages import (
    AlterConfigsRequest,
    AlterPartitionReassignmentsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    IncrementalAlterConfigsRequest,
    UnregisterBrokerRequest,
    UpdateFeaturesRequest,
)
from kafkasim.core.model.cluster_messages import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
    AlterPartitionRequest,
    AlterPartitionResponse,
    BeginQuorumEpochRequest,
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
    DescribeQuorumRequest,
    EndQuorumEpochRequest,
    Envelope,
    EnvelopeResponse,
    FetchSnapshotRequest,
    QuorumFetchRequest,
    VoteRequest,
)
from kafkasim.core.model.effects import NEVER_US, Effect, Note, Reply
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, Draw, NodeId
from kafkasim.core.model.message import slotted
from kafkasim.core.model.metadata import (
    BrokerRegistrationChangeRecord,
    MetadataBatch,
    MetadataRecord,
    RegisterBrokerRecord,
    UnregisterBrokerRecord,
)
from kafkasim.core.model.protections import ALL_PROTECTIONS, Protections
from kafkasim.core.node.context import Call
from kafkasim.core.node.metadata_api import refusal
from kafkasim.core.quorum.raft import RaftReplica

Records: TypeAlias = "Sequence[MetadataRecord]"
Result: TypeAlias = "tuple[Records, Any]"

_NOT_CONTROLLER_ANSWERS: dict[type[Any], Any] = {
    BrokerRegistrationRequest: BrokerRegistrationResponse(ErrorCode.NOT_CONTROLLER),
    BrokerHeartbeatRequest: BrokerHeartbeatResponse(ErrorCode.NOT_CONTROLLER),
    AlterPartitionRequest: AlterPartitionResponse(ErrorCode.NOT_CONTROLLER),
    AllocateProducerIdsRequest: AllocateProducerIdsResponse(ErrorCode.NOT_CONTROLLER),
}


@slotted
class _Waiting:
    """A response that leaves once the log is committed up to ``end_offset``."""

    end_offset: int
    call: Call
    response: Any


class ControllerNode:
    """``image`` is what the log says, with this controller's own uncommitted records while it is ``active``."""

    API_KEYS: tuple[int, ...] = (
        BrokerRegistrationRequest.API_KEY,
        BrokerHeartbeatRequest.API_KEY,
        AlterPartitionRequest.API_KEY,
        AllocateProducerIdsRequest.API_KEY,
        Envelope.API_KEY,
        QuorumFetchRequest.API_KEY,
        FetchSnapshotRequest.API_KEY,
        VoteRequest.API_KEY,
        BeginQuorumEpochRequest.API_KEY,
        EndQuorumEpochRequest.API_KEY,
        DescribeQuorumRequest.API_KEY,
        CreateTopicsRequest.API_KEY,
        DeleteTopicsRequest.API_KEY,
        CreatePartitionsRequest.API_KEY,
        IncrementalAlterConfigsRequest.API_KEY,
        AlterConfigsRequest.API_KEY,
        ElectLeadersRequest.API_KEY,
        AlterPartitionReassignmentsRequest.API_KEY,
        UnregisterBrokerRequest.API_KEY,
        UpdateFeaturesRequest.API_KEY,
    )

    #: Classes of the requests that ``on_request`` answers (a Fetch of the data plane shares its key with the quorum's).
    REQUESTS: tuple[type[Any], ...] = (
        BrokerRegistrationRequest,
        BrokerHeartbeatRequest,
        AlterPartitionRequest,
        AllocateProducerIdsRequest,
        Envelope,
        *RaftReplica.REQUESTS,
    )

    def __init__(
        self,
        node_id: NodeId,
        raft: RaftReplica,
        outbox: list[Effect],
        draw: Draw,
        static_config: dict[str, str] | None = None,
        *,
        feature_levels: tuple[tuple[str, int], ...] | None = None,
        protections: Protections = ALL_PROTECTIONS,
    ) -> None:
        """``raft``: this node's voter, which nobody else drives; ``feature_levels``: the levels that a new log starts with."""
        self.node_id = node_id
        self.raft = raft
        self.image = ControllerImage(static_config, node_id, raft.voters)
        self.sessions = brokers.Sessions(self.image.broker_int("broker.session.timeout.ms") * 1000)
        self._outbox = outbox
        self._draw = draw
        self.protections = protections
        self._rules = rules_of(protections)
        self._feature_levels = features.levels(self._rules.elr_level) if feature_levels is None else feature_levels
        self._active_epoch = NO_EPOCH
        self._activated_us = 0
        self._waiting: deque[_Waiting] = deque()
        self._balance_us = NEVER_US
        self._unclean_us = NEVER_US
        self._balance_period_us = self.image.broker_int("leader.imbalance.check.interval.seconds") * 1_000_000
        self._unclean_period_us = self.image.broker_int("unclean.leader.election.interval.ms") * 1000
        self._balances = self.image.broker_config("auto.leader.rebalance.enable") is True
        self._handlers: dict[type[Any], Callable[[Any, int], Result]] = {
            BrokerRegistrationRequest: self._register,
            BrokerHeartbeatRequest: self._heartbeat,
            AlterPartitionRequest: lambda request, _: partitions.alter_partition(self.image, request, self._rules),
            AllocateProducerIdsRequest: lambda request, _: brokers.allocate_producer_ids(self.image, request),
            CreateTopicsRequest: lambda request, _: topics.create_topics(self.image, request, self._draw),
            DeleteTopicsRequest: lambda request, _: topics.delete_topics(self.image, request),
            CreatePartitionsRequest: lambda request, _: topics.create_partitions(self.image, request, self._draw),
            IncrementalAlterConfigsRequest: lambda request, _: configs.incremental_alter_configs(self.image, request),
            AlterConfigsRequest: lambda request, _: configs.alter_configs(self.image, request),
            ElectLeadersRequest: lambda request, _: partitions.elect_leaders(self.image, request),
            AlterPartitionReassignmentsRequest: lambda request, _: partitions.alter_partition_reassignments(
                self.image, request, self._rules
            ),
            UnregisterBrokerRequest: lambda request, _: brokers.unregister_broker(self.image, request),
            UpdateFeaturesRequest: lambda request, _: features.update_features(self.image, request),
        }

    # --- what others see -------------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """It leads the quorum and has replayed all that earlier leaders committed."""
        return self._active_epoch != NO_EPOCH

    @property
    def is_shut_down(self) -> bool:
        return self.raft.is_shut_down

    @property
    def deadline_us(self) -> int:
        earliest_us = self.raft.deadline_us
        for other_us in (self.sessions.deadline_us, self._balance_us, self._unclean_us):
            if other_us < earliest_us:
                earliest_us = other_us
        return earliest_us

    # --- inputs ----------------------------------------------------------------------------------------------------

    def on_request(self, call: Call, now_us: int) -> None:
        if isinstance(call.request, RaftReplica.REQUESTS):
            self.raft.on_request(call, now_us)
            self.settle(now_us)
            return
        self.settle(now_us)
        if not self.active:
            self._refuse(call)
            return
        request = call.request
        inner = request.request if isinstance(request, Envelope) else request
        handler = self._handlers.get(type(inner))
        if handler is None:
            # Not for a controller: a forwarded request is told so, a client's own is left unanswered.
            unsupported = EnvelopeResponse(ErrorCode.UNSUPPORTED_VERSION) if inner is not request else None
            self._outbox.append(Reply(call.connection_id, call.correlation_id, unsupported))
            return
        records, response = handler(inner, now_us)
        self._append(records, now_us, type(inner).__name__, inner)
        if isinstance(inner, BrokerHeartbeatRequest):
            self._after_heartbeat(inner, response, now_us)
        self._waiting.append(_Waiting(self.image.next_offset, call, response))
        self.settle(now_us)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        self.raft.on_closed(connection_id, now_us)
        if any(waiting.call.connection_id == connection_id for waiting in self._waiting):
            self._waiting = deque(w for w in self._waiting if w.call.connection_id != connection_id)

    def on_deadline(self, now_us: int) -> None:
        if self.raft.deadline_us <= now_us:
            self.raft.on_deadline(now_us)
        self.settle(now_us)
        if not self.active:
            return
        if self.sessions.deadline_us <= now_us:
            self._fence_stale_brokers(now_us)
        if self._balance_us <= now_us:
            self._balance_leaders(now_us)
        if self._unclean_us <= now_us:
            self._elect_unclean(now_us)
        self.settle(now_us)

    def shutdown(self, now_us: int) -> None:
        """Orderly stop: hand the leadership over; see ``is_shut_down``."""
        self.raft.shutdown(now_us)
        self.settle(now_us)

    def settle(self, now_us: int) -> None:
        """Take in what the quorum replica has learned. To be called after any input that may have reached it."""
        raft = self.raft
        if raft.take_role_changes() and self.active and not (raft.is_leader and raft.epoch == self._active_epoch):
            self._renounce(now_us)
        if raft.snapshot_before(self.image.next_offset) is not None:
            self.image = self._committed_image()
            self._outbox.append(Note("metadata-snapshot-loaded", self.node_id, (("is_leader", raft.is_leader),)))
        batches = raft.take_committed()
        if batches and raft.is_leader:
            self._outbox.append(Note("metadata-committed", self.node_id, (("batches", batches),)))
        for batch in batches:
            if batch.base_offset >= self.image.next_offset:
                self.image.replay_batch(batch, ImageDelta())
        if not self.active and raft.is_leader and raft.high_watermark > raft.epoch_start_offset:
            self._activate(now_us)
        waiting, committed = self._waiting, raft.high_watermark
        while waiting and waiting[0].end_offset <= committed:
            done = waiting.popleft()
            self._answer(done.call, done.response)

    # --- leadership ------------------------------------------------------------------------------------------------

    def _activate(self, now_us: int) -> None:
        assert self.image.next_offset == self.raft.log.log_end, "a new controller knows the whole log"
        self._active_epoch = self.raft.epoch
        self._activated_us = now_us
        self._outbox.append(Note("controller-active", self.node_id, (("epoch", self.raft.epoch),)))
        self.sessions.activate(self.image, now_us)
        if not self.image.features:
            self._append(features.bootstrap_records(self.image, self._feature_levels), now_us, "completeActivation")
        self._plan_tasks(now_us)

    def _renounce(self, now_us: int) -> None:
        """Another controller may be active already: nothing uncommitted counts any more."""
        self._outbox.append(Note("controller-renounced", self.node_id, (("epoch", self._active_epoch),)))
        self._active_epoch = NO_EPOCH
        self.sessions.deactivate()
        self._balance_us = self._unclean_us = NEVER_US
        waiting, self._waiting = self._waiting, deque()
        for left in waiting:
            if left.end_offset <= self.raft.high_watermark:
                self._answer(left.call, left.response)
            else:
                self._refuse(left.call)
        if self.image.next_offset > self.raft.high_watermark:
            self.image = self._committed_image()

    def _committed_image(self) -> ControllerImage:
        """What the log says, from its snapshot or its beginning on."""
        image = ControllerImage(self.image.static_config(), self.node_id, self.raft.voters)
        snapshot = self.raft.snapshot_before(0)
        if snapshot is not None:
            image.load_snapshot(snapshot, ImageDelta())
        for batch in self.raft.read_committed(image.next_offset):
            image.replay_batch(batch, ImageDelta())
        return image

    # --- writing ---------------------------------------------------------------------------------------------------

    def _append(self, records: Records, now_us: int, event: str, cause: Any = None) -> None:
        """Into the log and into the image at once; what comes next sees it, committed or not.

        ``event``: the class of the request in hand, or Kafka's name of the controller's own task; ``cause``: the request itself.
        """
        if not records:
            return
        image = self.image
        batch = MetadataBatch(image.next_offset, self.raft.epoch, tuple(records), now_us // 1000)
        base_offset = self.raft.append(batch.records, now_us)
        assert base_offset == batch.base_offset, "the image has fallen behind its own log"
        fields = (("offset", base_offset), ("epoch", batch.epoch), ("event", event), ("cause", cause))
        self._outbox.append(Note("metadata-written", self.node_id, fields))
        image.replay_batch(batch, ImageDelta())
        for record in records:
            if isinstance(record, RegisterBrokerRecord):
                self.sessions.note_registration(record.broker_id)
                self._note_broker("broker-registered", record.broker_id, record.broker_epoch)
            elif isinstance(record, UnregisterBrokerRecord):
                self.sessions.note_registration(record.broker_id)
            elif isinstance(record, BrokerRegistrationChangeRecord) and record.fenced:
                kind = "broker-fenced" if record.fenced > 0 else "broker-unfenced"
                self._note_broker(kind, record.broker_id, record.broker_epoch)
        self._plan_tasks(now_us)

    def _note_broker(self, kind: str, broker_id: NodeId, broker_epoch: int) -> None:
        self._outbox.append(Note(kind, broker_id, (("broker_epoch", broker_epoch),)))

    def _answer(self, call: Call, response: Any) -> None:
        if isinstance(call.request, Envelope):
            response = EnvelopeResponse(ErrorCode.NONE, response)
        self._outbox.append(Reply(call.connection_id, call.correlation_id, response))

    def _refuse(self, call: Call) -> None:
        """NOT_CONTROLLER, in the form that the request's answer has."""
        request = call.request
        response: Any
        if isinstance(request, Envelope):
            response = EnvelopeResponse(ErrorCode.NOT_CONTROLLER)
        elif type(request) in _NOT_CONTROLLER_ANSWERS:
            response = _NOT_CONTROLLER_ANSWERS[type(request)]
        elif type(request) not in self._handlers:
            response = None
        else:
            response = refusal(request, ErrorCode.NOT_CONTROLLER)
        self._outbox.append(Reply(call.connection_id, call.correlation_id, response))

    # --- brokers ---------------------------------------------------------------------------------------------------

    def _register(self, request: BrokerRegistrationRequest, now_us: int) -> Result:
        return brokers.register_broker(self.image, self.sessions, request, now_us, self._rules)

    def _heartbeat(self, request: BrokerHeartbeatRequest, now_us: int) -> Result:
        records, response, _ = brokers.heartbeat(self.image, self.sessions, request)
        return records, response

    def _after_heartbeat(self, request: BrokerHeartbeatRequest, response: BrokerHeartbeatResponse, now_us: int) -> None:
        if response.error is not ErrorCode.NONE:
            return
        broker_id, sessions = request.broker_id, self.sessions
        sessions.touch(broker_id, request.broker_epoch, now_us)
        sessions.note_heartbeat(broker_id, request.current_metadata_offset, response.is_fenced)
        if not response.is_fenced and (request.want_shut_down or sessions.shutting_down(broker_id)):
            # Whoever still sends requests to this broker must have seen that it leads no more.
            sessions.note_shutdown_offset(broker_id, self.image.next_offset - 1)

    def _fence_stale_brokers(self, now_us: int) -> None:
        """One broker a run, and another run at once as long as one was found."""
        while (expired := self.sessions.take_expired(now_us)) is not None:
            self._append(brokers.fence_expired(self.image, *expired), now_us, "maybeFenceStaleBroker", expired)

    # --- periodic tasks --------------------------------------------------------------------------------------------

    def _plan_tasks(self, now_us: int) -> None:
        """A task without work has no deadline; with work it runs at its next turn since activation."""
        if not self.active:
            return
        if self._balance_us == NEVER_US and self._balances and self.image.index.imbalanced:
            self._balance_us = self._next_turn_us(self._balance_period_us, now_us)
        if self._unclean_us == NEVER_US and self.image.index.leaderless:
            self._unclean_us = self._next_turn_us(self._unclean_period_us, now_us)

    def _next_turn_us(self, period_us: int, now_us: int) -> int:
        return self._activated_us + ((now_us - self._activated_us) // period_us + 1) * period_us

    def _balance_leaders(self, now_us: int) -> None:
        self._balance_us = NEVER_US
        records = partitions.balance_leaders(self.image)
        self._append(records, now_us, "maybeBalancePartitionLeaders")
        self._plan_tasks(now_us)
        if len(records) == partitions.MAX_ELECTIONS_PER_RUN:
            self._balance_us = now_us

    def _elect_unclean(self, now_us: int) -> None:
        self._unclean_us = NEVER_US
        records = partitions.elect_unclean_leaders(self.image)
        self._append(records, now_us, "maybeElectUncleanLeaders")
        self._plan_tasks(now_us)
        if len(records) == partitions.MAX_ELECTIONS_PER_RUN:
            self._unclean_us = now_us
