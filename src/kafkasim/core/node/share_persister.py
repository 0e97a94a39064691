"""How a broker reads and writes share group state: it asks the share coordinator of each share partition, and asks again.

Mirrors:  org.apache.kafka.server.share.persister.DefaultStatePersister, PersisterStateManager (KIP-932).
Inputs:   ask, on_deadline.     Effects: Send (channel SHARE_STATE).
Rule 1:   requests of one kind to one shard of the coordinator go one at a time to the broker that leads it; what came meanwhile
          goes together, in order. One that is never answered holds up nobody once another broker leads.
Rule 2:   a coordinator that moved, is not there or does not answer is tried again with a growing pause, five times in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from kafkasim.core.controller.image import leader_of
from kafkasim.core.group.partitioning import coordinator_partition
from kafkasim.core.model.effects import NEVER_US, SHARE_STATE_CHANNEL
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.message import slotted
from kafkasim.core.model.share_messages import (
    SHARE_GROUP_STATE_TOPIC,
    PartitionState,
    ShareGroupStateResponse,
    TopicIdPartition,
)
from kafkasim.core.node.context import BrokerContext
from kafkasim.core.node.share_coordinator import ShareCoordinator
from kafkasim.core.share.coordinator import coordinator_key

_BACKOFF_US = 1_000_000
_MAX_BACKOFF_US = 30_000_000
_MAX_ATTEMPTS = 5
_REQUEST_TIMEOUT_US = 30_000_000
_RETRIED = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode._TRANSPORT,
        ErrorCode._TIMED_OUT,
    }
)

#: ``done(state, now_us)``.
StateDone: TypeAlias = Callable[[PartitionState, int], None]
#: (shard, its leader, kind of request)
Line: TypeAlias = "tuple[int, NodeId, Callable[..., Any]]"


@slotted
class Ask:
    """One share partition's part of a request; ``kind`` makes the request from the group id and several parts."""

    kind: Callable[..., Any]
    group_id: str
    tip: TopicIdPartition
    part: Any
    done: StateDone
    attempts: int = 0


class SharePersister:
    """``create_topic`` asks for the state topic when it does not exist yet."""

    def __init__(
        self, ctx: BrokerContext, coordinator: ShareCoordinator, create_topic: Callable[[str, int], None]
    ) -> None:
        self._ctx = ctx
        self._coordinator = coordinator
        self._create_topic = create_topic
        #: What waits for the request in flight to be answered; where none is, there is no entry.
        self._waiting: dict[Line, list[Ask]] = {}
        self._later: list[tuple[int, Ask]] = []
        self.deadline_us = NEVER_US
        #: Called when nothing waits for an answer any more.
        self.on_idle: Callable[[int], None] | None = None

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._later

    def ask(
        self, kind: Callable[..., Any], group_id: str, tip: TopicIdPartition, part: Any, done: StateDone, now_us: int
    ) -> None:
        """``done`` hears of the outcome; COORDINATOR_NOT_AVAILABLE when all attempts were in vain."""
        self._dispatch(Ask(kind, group_id, tip, part, done), now_us)

    def on_deadline(self, now_us: int) -> None:
        due = [ask for at_us, ask in self._later if at_us <= now_us]
        self._later = [entry for entry in self._later if entry[0] > now_us]
        self.deadline_us = min((at_us for at_us, _ in self._later), default=NEVER_US)
        for ask in due:
            self._dispatch(ask, now_us)

    def _dispatch(self, ask: Ask, now_us: int) -> None:
        topic = self._ctx.image.topics.get(SHARE_GROUP_STATE_TOPIC)
        if topic is None:
            self._create_topic(SHARE_GROUP_STATE_TOPIC, now_us)
            self._retry(ask, ErrorCode.COORDINATOR_NOT_AVAILABLE, now_us)
            return
        number = coordinator_partition(coordinator_key(ask.group_id, ask.tip), len(topic.partitions))
        leader = leader_of(self._ctx.image, TopicPartition(SHARE_GROUP_STATE_TOPIC, number))
        line = (number, leader, ask.kind)
        waiting = self._waiting.get(line)
        if leader < 0:
            self._retry(ask, ErrorCode.COORDINATOR_NOT_AVAILABLE, now_us)
        elif waiting is None:
            self._send(line, [ask], now_us)
        else:
            waiting.append(ask)

    def _retry(self, ask: Ask, error: ErrorCode, now_us: int) -> None:
        ask.attempts += 1
        if ask.attempts >= _MAX_ATTEMPTS:
            ask.done(PartitionState(ask.tip, ErrorCode.COORDINATOR_NOT_AVAILABLE), now_us)
            return
        at_us = now_us + min(_BACKOFF_US << (ask.attempts - 1), _MAX_BACKOFF_US)
        self._later.append((at_us, ask))
        self.deadline_us = min(self.deadline_us, at_us)

    def _send(self, line: Line, asks: list[Ask], now_us: int) -> None:
        """Send as many of ``asks`` as go into one request; the rest waits."""
        group_id = asks[0].group_id
        together = [ask for ask in asks if ask.group_id == group_id]
        self._waiting[line] = [ask for ask in asks if ask.group_id != group_id]
        _, leader, kind = line
        request = kind(group_id, tuple(ask.part for ask in together))

        def answered(response: ShareGroupStateResponse | None, error: ErrorCode, now_us: int) -> None:
            waiting = self._waiting.pop(line)
            if waiting:
                self._send(line, waiting, now_us)
            for index, ask in enumerate(together):
                state = PartitionState(ask.tip, error) if response is None else response.partitions[index]
                if state.error in _RETRIED:
                    self._retry(ask, state.error, now_us)
                else:
                    ask.done(state, now_us)
            if self.on_idle is not None and self.is_idle:
                self.on_idle(now_us)

        if leader == self._ctx.node_id:
            self._coordinator.handle(request, lambda response, at_us: answered(response, ErrorCode.NONE, at_us), now_us)
        else:
            self._ctx.requests.send(
                leader, request, answered, timeout_us=_REQUEST_TIMEOUT_US, now_us=now_us, channel=SHARE_STATE_CHANNEL
            )
