"""A cluster of two brokers for consumer tests: topics, logs, one group coordinator; time in a heap, 1 ms a hop."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from kafkasim.core.client.consumer import ConsumerEngine
from kafkasim.core.client.items import AppItem, Rebalance, Slice
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.consumer_group_messages import ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse
from kafkasim.core.model.effects import Close, Send
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    UNCOMMITTED,
    Assignment,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupMember,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    OffsetAndMetadata,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from kafkasim.core.model.ids import FIRST_CLIENT_NODE, TopicPartition
from kafkasim.core.model.messages import (
    BrokerEndpoint,
    EpochEnd,
    FetchRequest,
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    MetadataResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    PartitionEpochEnd,
    PartitionFetched,
    PartitionMetadata,
    PartitionOffset,
    TopicMetadata,
)
from kafkasim.core.model.records import RecordBatch, batch_of

HOP_US = 1_000
SECOND_US = 1_000_000


class Log:
    """One partition's batches."""

    def __init__(self) -> None:
        self.batches: list[RecordBatch] = []
        self.start = 0
        self.leader = 1
        self.epoch = 0
        self.epoch_ends: dict[int, int] = {}

    @property
    def end(self) -> int:
        return self.batches[-1].next_offset if self.batches else self.start

    def append(self, values: list[bytes]) -> None:
        self.batches.append(batch_of(values).placed(self.end, self.epoch))


class Cluster:
    """Brokers 1 and 2; broker 1 coordinates every group."""

    def __init__(self, **topics: int) -> None:
        self.now_us = 0
        self.logs: dict[TopicPartition, Log] = {}
        for name, count in topics.items():
            self.add_topic(name, count)
        self.group = Group()
        self.wishes: dict[str, Wish] = {}
        self.coordinator = 1
        self.engines: dict[int, ConsumerEngine] = {}
        self.requests: list[tuple[int, Any]] = []
        self.failing: dict[type, list[ErrorCode]] = {}
        self.silent: set[int] = set()
        self._heap: list[tuple[int, int, Any]] = []
        self._count = 0
        self._parked: list[tuple[int, int, Send]] = []

    def add_topic(self, name: str, count: int) -> None:
        for number in range(count):
            self.logs.setdefault(TopicPartition(name, number), Log())

    def consumer(self, **given: object) -> ConsumerEngine:
        config: dict[str, object] = {"bootstrap.servers": "b1:9092", "group.id": "g", "auto.offset.reset": "earliest"}
        config.update({name.replace("_", "."): value for name, value in given.items()})
        node_id = FIRST_CLIENT_NODE + len(self.engines)
        engine = ConsumerEngine(
            node_id, ClientConfig.parse("consumer", config), (1,), lambda label, bound: bound // 2, 0
        )
        self.engines[node_id] = engine
        engine.start(self.now_us)
        return engine

    # --- Time ------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        until_us = self.now_us + int(seconds * SECOND_US)
        while True:
            self._drain()
            next_us = min([e.deadline_us for e in self.engines.values()] + [until_us])
            if self._heap and self._heap[0][0] <= next_us:
                self.now_us, _, action = heappop(self._heap)
                action()
            elif next_us < until_us or any(e.deadline_us <= self.now_us for e in self.engines.values()):
                self.now_us = max(self.now_us, next_us)
                for engine in self.engines.values():
                    if engine.deadline_us <= self.now_us:
                        engine.on_deadline(self.now_us)
            else:
                self.now_us = until_us
                self._drain()
                return

    def at(self, delay_us: int, action: Any) -> None:
        self._count += 1
        heappush(self._heap, (self.now_us + delay_us, self._count, action))

    def _drain(self) -> None:
        for node_id, engine in self.engines.items():
            effects, engine.outbox[:] = list(engine.outbox), []
            for effect in effects:
                if isinstance(effect, Send):
                    self.requests.append((self.now_us, effect.request))
                    self.at(HOP_US, lambda n=node_id, e=effect: self._serve(n, e))
                else:
                    assert isinstance(effect, Close)

    def _reply(self, node_id: int, send: Send, response: Any) -> None:
        if node_id in self.silent:
            return
        engine = self.engines[node_id]
        self.at(
            HOP_US,
            lambda: engine.on_response(send.to, send.channel, send.correlation_id, response, self.now_us),
        )

    # --- Requests --------------------------------------------------------------------------------------------------

    def _serve(self, node_id: int, send: Send) -> None:
        request = send.request
        name = type(request).__name__.removesuffix("Request")
        response = getattr(self, f"_on_{name}")(node_id, send, request)
        if response is not None:
            self._reply(node_id, send, response)

    def _error(self, request: Any) -> ErrorCode:
        errors = self.failing.get(type(request))
        return errors.pop(0) if errors else ErrorCode.NONE

    def _on_Metadata(self, node_id: int, send: Send, request: MetadataRequest) -> MetadataResponse:
        existing = list(dict.fromkeys(tp.topic for tp in self.logs))
        topics = []
        named = (*(request.topics or ()), *(topic_id.removeprefix("id-") for topic_id in request.topic_ids))
        for name in existing if request.topics is None else named:
            parts = tuple(
                PartitionMetadata(ErrorCode.NONE, tp.partition, log.leader, log.epoch, (1, 2), (1, 2))
                for tp, log in self.logs.items()
                if tp.topic == name
            )
            error = ErrorCode.NONE if parts else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            topics.append(TopicMetadata(error, name, f"id-{name}" if parts else "", False, parts))
        brokers = tuple(BrokerEndpoint(node, f"b{node}", 9092) for node in (1, 2))
        return MetadataResponse(brokers, "cluster", 1, tuple(topics))

    def _on_FindCoordinator(self, node_id: int, send: Send, request: FindCoordinatorRequest) -> Any:
        error = self._error(request)
        return FindCoordinatorResponse(error, self.coordinator, "b1", 9092)

    def _on_Fetch(self, node_id: int, send: Send, request: FetchRequest) -> FetchResponse | None:
        answer = self._fetch(send.to, request)
        if any(part.batches or part.error for part in answer.partitions):
            return answer

        def expire() -> None:
            self._reply(node_id, send, self._fetch(send.to, request))

        self.at(request.max_wait_ms * 1000, expire)
        return None

    def _fetch(self, broker: int, request: FetchRequest) -> FetchResponse:
        answers = []
        for part in request.partitions:
            log = self.logs[part.tp]
            error = ErrorCode.NONE
            batches: tuple[RecordBatch, ...] = ()
            if log.leader != broker:
                error = ErrorCode.NOT_LEADER_OR_FOLLOWER
            elif not log.start <= part.fetch_offset <= log.end:
                error = ErrorCode.OFFSET_OUT_OF_RANGE
            else:
                batches = tuple(batch for batch in log.batches if batch.next_offset > part.fetch_offset)
            answers.append(PartitionFetched(part.tp, error, log.end, log.end, log.start, batches))
        return FetchResponse(answers)

    def _on_ListOffsets(self, node_id: int, send: Send, request: ListOffsetsRequest) -> ListOffsetsResponse:
        error = self._error(request)
        answers = []
        for part in request.partitions:
            log = self.logs[part.tp]
            offset = log.start if part.timestamp_ms == -2 else log.end
            answers.append(PartitionOffset(part.tp, error, offset, -1, log.epoch))
        return ListOffsetsResponse(answers)

    def _on_OffsetForLeaderEpoch(self, node_id: int, send: Send, request: OffsetForLeaderEpochRequest) -> Any:
        answers = []
        for part in request.partitions:
            log = self.logs[part.tp]
            end = EpochEnd(part.leader_epoch, log.epoch_ends.get(part.leader_epoch, log.end))
            answers.append(PartitionEpochEnd(part.tp, ErrorCode.NONE, end.epoch, end.end_offset))
        return OffsetForLeaderEpochResponse(answers)

    def _on_OffsetCommit(self, node_id: int, send: Send, request: OffsetCommitRequest) -> OffsetCommitResponse:
        error = self._error(request)
        if error == ErrorCode.NONE and request.generation_id >= 0 and not self.wishes:
            error = self.group.check(request.member_id, request.generation_id)
        if error == ErrorCode.NONE:
            self.group.offsets.update(dict(request.offsets))
        return OffsetCommitResponse(tuple((tp, error) for tp, _ in request.offsets))

    def _on_OffsetFetch(self, node_id: int, send: Send, request: OffsetFetchRequest) -> OffsetFetchResponse:
        offsets = self.group.offsets
        found = tuple((tp, offsets.get(tp, UNCOMMITTED), ErrorCode.NONE) for tp in request.partitions or ())
        return OffsetFetchResponse(self._error(request), found)

    def _on_JoinGroup(self, node_id: int, send: Send, request: JoinGroupRequest) -> JoinGroupResponse | None:
        group = self.group
        if request.member_id == "" and request.group_instance_id is None:
            group.serial += 1
            return JoinGroupResponse(ErrorCode.MEMBER_ID_REQUIRED, member_id=f"{request.client_id}-{group.serial}")
        member_id = request.member_id or f"{request.group_instance_id}-1"
        group.members[member_id] = request
        group.joining[member_id] = (node_id, send)
        group.syncing.clear()
        if group.state != "preparing":
            group.state = "preparing"
            self.at(100_000, self._complete_join)
        elif group.members.keys() == group.joining.keys():
            self._complete_join()
        return None

    def _complete_join(self) -> None:
        group = self.group
        if group.state != "preparing" or group.members.keys() != group.joining.keys():
            return
        if not group.members:
            group.state = "empty"
            return
        group.generation += 1
        group.state = "completing"
        leader = next(iter(group.members))
        protocol = next(iter(group.members.values())).protocols[0][0]
        everybody = tuple(
            JoinGroupMember(member_id, join.group_instance_id, dict(join.protocols)[protocol])
            for member_id, join in group.members.items()
        )
        for member_id, (node_id, send) in group.joining.items():
            members = everybody if member_id == leader else ()
            response = JoinGroupResponse(
                ErrorCode.NONE, group.generation, "consumer", protocol, leader, member_id, members
            )
            self._reply(node_id, send, response)
        group.joining.clear()

    def _on_SyncGroup(self, node_id: int, send: Send, request: SyncGroupRequest) -> SyncGroupResponse | None:
        group = self.group
        error = group.check(request.member_id, request.generation_id)
        if error or group.state == "preparing":
            return SyncGroupResponse(error or ErrorCode.REBALANCE_IN_PROGRESS)
        if request.assignments:
            group.assignments = dict(request.assignments)
            group.state = "stable"
        group.syncing[request.member_id] = (node_id, send)
        if group.state == "stable":
            for member_id, (node, parked) in group.syncing.items():
                self._reply(
                    node, parked, SyncGroupResponse(ErrorCode.NONE, group.assignments.get(member_id, Assignment()))
                )
            group.syncing.clear()
        return None

    def _on_Heartbeat(self, node_id: int, send: Send, request: HeartbeatRequest) -> HeartbeatResponse:
        error = self._error(request) or self.group.check(request.member_id, request.generation_id)
        if error == ErrorCode.NONE and self.group.state == "preparing":
            error = ErrorCode.REBALANCE_IN_PROGRESS
        return HeartbeatResponse(ErrorCode(error))

    def _on_ConsumerGroupHeartbeat(
        self, node_id: int, send: Send, request: ConsumerGroupHeartbeatRequest
    ) -> ConsumerGroupHeartbeatResponse:
        """What the test wishes for a member: told when it joins, when it tells all, and when it changes."""
        error = self._error(request)
        if error or request.member_epoch < 0:
            return ConsumerGroupHeartbeatResponse(error, None, request.member_id, request.member_epoch)
        wish = self.wishes.setdefault(request.member_id, Wish(1, ()))
        is_told = wish.told != wish.assignment or request.rebalance_timeout_ms >= 0
        wish.told = wish.assignment
        return ConsumerGroupHeartbeatResponse(
            error, None, request.member_id, wish.epoch, 5000, wish.assignment if is_told else None
        )

    def heartbeats(self) -> list[ConsumerGroupHeartbeatRequest]:
        """All that were sent."""
        return [request for _, request in self.requests if isinstance(request, ConsumerGroupHeartbeatRequest)]

    def _on_LeaveGroup(self, node_id: int, send: Send, request: LeaveGroupRequest) -> LeaveGroupResponse:
        group = self.group
        for member in request.members:
            if group.members.pop(member.member_id, None) is not None and group.members:
                group.state = "preparing"
                self.at(0, self._complete_join)
        return LeaveGroupResponse(ErrorCode.NONE)


class Wish:
    """What a member of the consumer protocol shall be told."""

    def __init__(self, epoch: int, assignment: Any, told: Any = None) -> None:
        self.epoch = epoch
        self.assignment = assignment
        self.told = told


class Group:
    """A classic group that never expires anybody."""

    def __init__(self) -> None:
        self.serial = 0
        self.generation = 0
        self.state = "empty"
        self.members: dict[str, JoinGroupRequest] = {}
        self.joining: dict[str, tuple[int, Send]] = {}
        self.syncing: dict[str, tuple[int, Send]] = {}
        self.assignments: dict[str, Assignment] = {}
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}

    def check(self, member_id: str, generation_id: int) -> ErrorCode:
        if member_id not in self.members:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if generation_id != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        return ErrorCode.NONE


class App:
    """An application that polls every 100 ms and answers rebalances as the Python binding does."""

    def __init__(self, cluster: Cluster, engine: ConsumerEngine) -> None:
        self.cluster = cluster
        self.engine = engine
        self.values: list[bytes | None] = []
        self.others: list[AppItem] = []

    def poll(self, max_messages: int = 1000) -> None:
        while items := self.engine.take(max_messages, self.cluster.now_us):
            for item in items:
                if isinstance(item, Slice):
                    self.values += item.batch.columns.values[item.start : item.stop]
                    continue
                self.others.append(item)
                if isinstance(item, Rebalance):
                    self.answer(item)

    def answer(self, item: Rebalance) -> None:
        engine, now_us = self.engine, self.cluster.now_us
        wanted = [(tp, -1001) for tp in item.partitions]
        if item.protocol == "COOPERATIVE":
            if item.kind == "assign":
                error = engine.incremental_assign(wanted, now_us)
            else:
                error = engine.incremental_unassign(item.partitions, now_us)
        elif item.kind == "assign":
            error = engine.assign(wanted, now_us)
        else:
            error = engine.unassign(now_us)
        assert error == ErrorCode.NONE, engine.last_error_text

    @property
    def rebalances(self) -> list[tuple[str, int]]:
        return [(item.kind, len(item.partitions)) for item in self.others if isinstance(item, Rebalance)]


def run_apps(cluster: Cluster, apps: list[App], seconds: float, step: float = 0.1) -> None:
    for _ in range(round(seconds / step)):
        cluster.run(step)
        for app in apps:
            app.poll()
