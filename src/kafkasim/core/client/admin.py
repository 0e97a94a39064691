"""Requests of administration: to the controller, a broker, a coordinator or all leaders, each until its timeout.

Mirrors:  rd_kafka_admin_worker, rd_kafka_coord_req and rd_kafka_topic_partition_list_query_leaders_async of librdkafka 2.16.
Inputs:   call, and those of every client node.      Effects: Send.
Rule 1:   an operation ends with a response, or at its deadline with ``_TIMED_OUT`` and what it was waiting for.
Rule 2:   a broker that is not, or not yet, the coordinator is asked for another one; a lost connection is tried again.
Differs:  controller requests go to any broker, which forwards them, as KRaft brokers do; librdkafka reports a lost connection to
          the application where this tries again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from kafkasim.core.client.core import ClientCore
from kafkasim.core.client.operation import Operation
from kafkasim.core.model.consumer_group_messages import ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse
from kafkasim.core.model.effects import MAIN_CHANNEL
from kafkasim.core.model.errors import STALE_METADATA_CODES, ErrorCode
from kafkasim.core.model.group_messages import (
    DescribeGroupsRequest,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from kafkasim.core.model.ids import NO_LEADER, NO_NODE, NodeId, TopicPartition
from kafkasim.core.model.message import slotted
from kafkasim.core.model.messages import (
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    MetadataResponse,
    PartitionOffset,
    PartitionRecordsDeleted,
)

#: "controller", "any", ("broker", id), ("coordinator", group id), ("leaders",).
Target: TypeAlias = "str | tuple[Any, ...]"

_MOVED = frozenset(
    {
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    }
)
#: Answers of a coordinator to which the group is no consumer group: perhaps it is a classic one.
_NOT_A_CONSUMER_GROUP = (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION)
_LOOK_AGAIN_US = 1_000_000
_TIMED_OUT_TEXT = "Local: Timed out"


@slotted
class AdminCall:
    """One request on its way. ``phase`` says what it waits for, in librdkafka's words."""

    request: Any
    target: Target
    operation: Operation
    deadline_us: int
    phase: str
    attempts: int = 0
    is_sent: bool = False
    #: When its coordinator was last looked up.
    asked_us: int = -_LOOK_AGAIN_US


class AdminEngine(ClientCore):
    """An instance of the producer kind that produces nothing."""

    KIND = "producer"

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._calls: dict[AdminCall, None] = {}
        self._coordinators: dict[str, NodeId] = {}

    def call(self, request: Any, target: Target, timeout_us: int, now_us: int) -> Operation:
        """Send ``request`` where ``target`` says; the operation's result is the response (merged, for leaders)."""
        operation = Operation(on_done=self._operation_done)
        if self.closed:
            operation.fail(ErrorCode._DESTROY)
            return operation
        self.start(now_us)
        if target == ("leaders",):
            _LeadersCall(self, request, operation, now_us + timeout_us).begin(now_us)
            return operation
        phase = "waiting for controller" if target == "controller" else "waiting for broker"
        call = AdminCall(request, target, operation, now_us + timeout_us, phase)
        self._calls[call] = None
        self.call_at(call.deadline_us, lambda at_us: self._expire(call))
        self._try(call, now_us)
        return operation

    def describe_group(self, group_id: str, timeout_us: int, now_us: int) -> Operation:
        """Ask for a consumer group, and where there is none for a classic one; result as the one or the other is described."""
        operation = Operation(on_done=self._operation_done)
        target, deadline_us = ("coordinator", group_id), now_us + timeout_us

        def on_described(done: Operation) -> None:
            self.wake = True
            if done.error != ErrorCode.NONE:
                operation.fail(done.error, done.error_text)
            elif (
                isinstance(done.result, ConsumerGroupDescribeResponse)
                and done.result.groups[0].error in _NOT_A_CONSUMER_GROUP
            ):
                # Asked from the event loop: we are in the middle of an answer.
                self.call_at(0, lambda at_us: ask(DescribeGroupsRequest((group_id,)), at_us))
            else:
                operation.succeed(done.result.groups[0])

        def ask(request: Any, at_us: int) -> None:
            asked = self.call(request, target, max(deadline_us - at_us, 1), at_us)
            asked.on_done = on_described
            if asked.done:
                on_described(asked)

        ask(ConsumerGroupDescribeRequest((group_id,)), now_us)
        return operation

    def coordinator_of(self, group_id: str) -> NodeId:
        """The coordinator that was last found for a group; NO_NODE if none was."""
        return self._coordinators.get(group_id, NO_NODE)

    def close(self, now_us: int) -> None:
        calls, self._calls = self._calls, {}
        for call in calls:
            if not call.operation.done:
                call.operation.fail(ErrorCode._DESTROY, f"Handle is terminating: Failed while {call.phase}")
        super().close(now_us)

    def on_connection(self, node: NodeId, channel: int, is_up: bool, now_us: int) -> None:
        if is_up:
            for call in list(self._calls):
                if not call.is_sent:
                    self.call_at(now_us, lambda at_us, call=call: self._try(call, at_us))  # type: ignore[misc]

    # --- One attempt -------------------------------------------------------------------------------------------------

    def _try(self, call: AdminCall, now_us: int) -> None:
        """Send the request, if whom it is for is known and up; else be called again."""
        if call.operation.done or call.is_sent or self.closed:
            return
        node = self._destination(call, now_us)
        if node == NO_NODE:
            self._try_again_at(call, now_us + _LOOK_AGAIN_US)
            return
        call.is_sent = True
        call.phase = "waiting for response from broker"

        def on_end(response: Any, error: ErrorCode, at_us: int) -> None:
            self._on_end(call, response, error, at_us)

        self.send(node, call.request, on_end, now_us=now_us, timeout_us=max(call.deadline_us - now_us, 1))

    def _destination(self, call: AdminCall, now_us: int) -> NodeId:
        """The node to send to; NO_NODE, with something under way to change that, if none can be sent to."""
        target = call.target
        if isinstance(target, str):
            return self._any_connected(now_us)
        if target[0] == "broker":
            return self._usable(int(target[1]), now_us)
        assert target[0] == "coordinator", target
        group_id = str(target[1])
        if group_id in self._coordinators:
            node = self._usable(self._coordinators[group_id], now_us)
            if node != NO_NODE or now_us - call.asked_us < _LOOK_AGAIN_US:
                return node
            # It has been down for a while: another broker may have taken over.
        self._find_coordinator(call, group_id, now_us)
        return NO_NODE

    def _any_connected(self, now_us: int) -> NodeId:
        """Some broker that is up; NO_NODE, with a connection on its way, if none is.

        The one that we began with may be none that the cluster lists: it has just come back and is fenced.
        """
        node = self.any_broker(now_us)
        if node is None:
            return NO_NODE
        if not self.is_up(node):
            self.connect(node, now_us)
            return NO_NODE
        return node

    def _usable(self, node: NodeId, now_us: int) -> NodeId:
        if node not in self.metadata.brokers:
            self.refresh_brokers(now_us)
            return NO_NODE
        if not self.is_up(node, MAIN_CHANNEL):
            self.connect(node, now_us)
            return NO_NODE
        return node

    def _find_coordinator(self, call: AdminCall, group_id: str, now_us: int) -> None:
        def on_found(response: FindCoordinatorResponse | None, error: ErrorCode, at_us: int) -> None:
            call.is_sent = False
            if call.operation.done:
                return
            if response is not None and response.error == ErrorCode.NONE:
                self._coordinators[group_id] = response.node_id
                self._try(call, at_us)
            else:
                self._retry(call, at_us)

        node = self._any_connected(now_us)
        if node != NO_NODE:
            call.is_sent = True
            call.asked_us = now_us
            timeout_us = max(call.deadline_us - now_us, 1)
            self.send(node, FindCoordinatorRequest(group_id), on_found, now_us=now_us, timeout_us=timeout_us)

    def _on_end(self, call: AdminCall, response: Any, error: ErrorCode, now_us: int) -> None:
        if call.operation.done:
            return
        call.is_sent = False
        if response is None or any(code in _MOVED for code in _errors_of(response)):
            if not isinstance(call.target, str) and call.target[0] == "coordinator":
                self._coordinators.pop(str(call.target[1]), None)
            if response is None or now_us < call.deadline_us:
                self._retry(call, now_us)
                return
        self._calls.pop(call, None)
        if isinstance(response, MetadataResponse):
            self.take_metadata(response, call.request.topics is None, now_us)
        call.operation.succeed(response)

    def _retry(self, call: AdminCall, now_us: int) -> None:
        call.attempts += 1
        self._try_again_at(call, now_us + self.retry_backoff_us(call.attempts))

    def _try_again_at(self, call: AdminCall, at_us: int) -> None:
        if at_us < call.deadline_us:
            self.call_at(at_us, lambda now_us: self._try(call, now_us))

    def _expire(self, call: AdminCall) -> None:
        self._calls.pop(call, None)
        if not call.operation.done:
            call.operation.fail(ErrorCode._TIMED_OUT, f"Failed while {call.phase}: {_TIMED_OUT_TEXT}")


class _LeadersCall:
    """Splits a request by the leaders of its partitions, and merges what they say."""

    def __init__(self, engine: AdminEngine, request: Any, operation: Operation, deadline_us: int) -> None:
        assert isinstance(request, (ListOffsetsRequest, DeleteRecordsRequest))
        self._engine = engine
        self._request = request
        self._operation = operation
        self._deadline_us = deadline_us
        self._parts: dict[TopicPartition, Any] = {part.tp: part for part in request.partitions}
        self._results: dict[TopicPartition, Any] = {}
        self._running = 0
        self._attempts = 0

    def begin(self, now_us: int) -> None:
        self._engine.call_at(self._deadline_us, self._expire)
        self._find_leaders(now_us)

    def _open_partitions(self) -> list[TopicPartition]:
        return [tp for tp in self._parts if tp not in self._results]

    def _find_leaders(self, now_us: int) -> None:
        if self._operation.done:
            return
        topics = tuple(dict.fromkeys(tp.topic for tp in self._open_partitions()))
        request = MetadataRequest(topics, allow_auto_topic_creation=False)
        asked = self._engine.call(request, "any", max(self._deadline_us - now_us, 1), now_us)

        def on_asked(done: Operation) -> None:
            self._engine.wake = True
            if done.error == ErrorCode.NONE and not self._operation.done:
                self._engine.call_at(0, lambda at_us: self._split(done.result, at_us))

        asked.on_done = on_asked

    def _split(self, metadata: MetadataResponse, now_us: int) -> None:
        """Ask each leader for its partitions; those that do not exist fail, those without leader are looked up again."""
        leaders = {
            TopicPartition(topic.name, part.partition): part.leader
            for topic in metadata.topics
            for part in topic.partitions
        }
        by_leader: dict[NodeId, list[TopicPartition]] = {}
        for tp in self._open_partitions():
            leader = leaders.get(tp)
            if leader is None:
                self._results[tp] = self._failed(tp, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            elif leader != NO_LEADER:
                by_leader.setdefault(leader, []).append(tp)
        if not leaders.keys() & self._parts.keys():
            self._end(ErrorCode._NOENT, "Failed to query partition leaders: No leaders found")
            return
        for leader, tps in by_leader.items():
            self._ask(leader, tps, now_us)
        self._check_done(now_us)

    def _ask(self, leader: NodeId, tps: list[TopicPartition], now_us: int) -> None:
        request = self._request_for(tps)
        asked = self._engine.call(request, ("broker", leader), max(self._deadline_us - now_us, 1), now_us)
        self._running += 1

        def on_answered(done: Operation) -> None:
            self._engine.wake = True
            self._running -= 1
            if self._operation.done:
                return
            if done.error == ErrorCode.NONE:
                for part in done.result.partitions:
                    if part.error not in STALE_METADATA_CODES:
                        self._results[part.tp] = part
            self._engine.call_at(0, self._check_done)

        asked.on_done = on_answered

    def _request_for(self, tps: list[TopicPartition]) -> Any:
        parts = [self._parts[tp] for tp in tps]
        request = self._request
        if isinstance(request, ListOffsetsRequest):
            return ListOffsetsRequest(parts, request.replica_id, request.isolation_level)
        return DeleteRecordsRequest(parts, request.timeout_ms)

    def _check_done(self, now_us: int) -> None:
        if self._operation.done or self._running:
            return
        if not self._open_partitions():
            self._end(ErrorCode.NONE, "")
            return
        self._attempts += 1
        self._engine.call_at(now_us + self._engine.retry_backoff_us(self._attempts), self._find_leaders)

    def _expire(self, now_us: int) -> None:
        if not self._operation.done:
            self._end(ErrorCode._TIMED_OUT, f"Failed while waiting for response from broker: {_TIMED_OUT_TEXT}")

    def _end(self, error: ErrorCode, text: str) -> None:
        if error != ErrorCode.NONE:
            self._operation.fail(error, text)
            return
        results = [self._results[tp] for tp in self._parts]
        if isinstance(self._request, ListOffsetsRequest):
            self._operation.succeed(ListOffsetsResponse(results))
        else:
            self._operation.succeed(DeleteRecordsResponse(results))

    def _failed(self, tp: TopicPartition, error: ErrorCode) -> Any:
        if isinstance(self._request, ListOffsetsRequest):
            return PartitionOffset(tp, error)
        return PartitionRecordsDeleted(tp, error)


def _errors_of(response: Any) -> Iterator[ErrorCode]:
    """Every error code of a response: its own, and those of its items."""
    own = getattr(response, "error", None)
    if own is not None:
        yield own
    for name in ("topics", "results", "groups", "partitions", "members"):
        for item in getattr(response, name, None) or ():
            if isinstance(item, tuple) and not hasattr(item, "error"):
                yield from (part for part in item if isinstance(part, ErrorCode))
            else:
                error = getattr(item, "error", None)
                if error is not None:
                    yield error
