"""A model network for quorum replicas: virtual time, delays, losses, refused connections, crashes and restarts.

It keeps Kafka's rules of a connection (in order, one request in hand at a time) and, after every event, audits what
must hold in any run: epochs never fall, an epoch has one leader, committed batches never change, a majority holds them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import attrs

from kafkasim.core.client.requests import Requests
from kafkasim.core.model.effects import QUORUM_CHANNEL, Close, Effect, Reply, Send
from kafkasim.core.model.ids import Draw
from kafkasim.core.model.metadata import MetadataBatch, NoOpRecord
from kafkasim.core.quorum.log import MetadataLog, QuorumStateFile
from kafkasim.core.quorum.raft import RaftReplica

MS = 1000


@attrs.define
class Call:
    """A request in a server's hand."""

    connection_id: int
    correlation_id: int
    peer: int
    request: Any


@attrs.define
class Connection:
    """One connection; ``waiting`` are requests that arrived while another one was in hand."""

    connection_id: int
    requester: int
    server: int
    in_hand: bool = False
    waiting: deque[Call] = attrs.field(factory=deque)
    #: When the last message of each direction arrives, so that none overtakes another.
    arrives_us: dict[bool, int] = attrs.field(factory=dict)


class Node:
    """The disk of one node, and its process while it runs."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.log = MetadataLog()
        self.state = QuorumStateFile()
        self.replica: RaftReplica | None = None
        self.requests: Requests | None = None
        self.outbox: list[Effect] = []
        self.taken_end = 0
        self.highest_epoch = 0

    @property
    def deadline_us(self) -> int:
        assert self.replica is not None
        assert self.requests is not None
        return min(self.replica.deadline_us, self.requests.deadline_us)


class QuorumNetwork:
    """``voters`` and ``observers`` by id; ``draw_from(node_id)`` gives a node its draws, by default the most benign."""

    def __init__(
        self,
        voters: tuple[int, ...],
        observers: tuple[int, ...] = (),
        *,
        draw_from: Callable[[int], Draw] | None = None,
        seed: int = 0,
        latency_us: tuple[int, int] = (200, 600),
        start: bool = True,
    ) -> None:
        self.voters = voters
        self.now_us = 0
        self.random = random.Random(seed)
        self.latency_us = latency_us
        self.draw_from = draw_from or (lambda _node: lambda _label, _bound: 0)
        self.nodes = {node: Node(node) for node in (*voters, *observers)}
        self.blocked: set[tuple[int, int]] = set()
        self.loss_percent = 0
        self.leader_of_epoch: dict[int, int] = {}
        self.committed: list[MetadataBatch] = []
        self.sent: list[tuple[int, int, int, Any]] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._connections: dict[tuple[int, int], Connection] = {}
        self._by_id: dict[int, Connection] = {}
        if start:
            for node in self.nodes:
                self.start(node)

    # --- Faults and looks ----------------------------------------------------------------------------------------

    def start(self, node_id: int) -> None:
        node = self.nodes[node_id]
        assert node.replica is None
        node.outbox = []
        node.requests = Requests(node.outbox)
        node.taken_end = 0
        node.replica = RaftReplica(
            node_id,
            self.voters,
            node.log,
            node.state,
            outbox=node.outbox,
            requests=node.requests,
            draw=self.draw_from(node_id),
            now_us=self.now_us,
        )
        self._after_input(node)

    def crash(self, node_id: int) -> None:
        self.nodes[node_id].replica = None
        for connection in list(self._connections.values()):
            if node_id in (connection.requester, connection.server):
                self._cut(connection)

    def isolate(self, node_id: int) -> None:
        for other in self.nodes:
            if other != node_id:
                self.blocked |= {(node_id, other), (other, node_id)}

    def heal(self) -> None:
        self.blocked.clear()
        self.loss_percent = 0
        self.latency_us = (200, 600)

    def replica(self, node_id: int) -> RaftReplica:
        replica = self.nodes[node_id].replica
        assert replica is not None
        return replica

    def alive(self) -> list[RaftReplica]:
        return [node.replica for node in self.nodes.values() if node.replica is not None]

    def leader(self) -> RaftReplica | None:
        """The leader of the highest epoch, if it lives."""
        leaders = [replica for replica in self.alive() if replica.is_leader]
        return max(leaders, key=lambda replica: replica.epoch, default=None)

    def input(self, node_id: int, action: Callable[[RaftReplica, int], Any]) -> Any:
        """Let ``action(replica, now_us)`` happen at a node."""
        result = action(self.replica(node_id), self.now_us)
        self._after_input(self.nodes[node_id])
        return result

    def append(self, count: int = 1) -> int:
        leader = self.leader()
        assert leader is not None
        return self.append_at(leader.node_id, count)

    def append_at(self, node_id: int, count: int = 1) -> int:
        records = tuple(NoOpRecord() for _ in range(count))
        return int(self.input(node_id, lambda replica, now_us: replica.append(records, now_us)))

    # --- Time ----------------------------------------------------------------------------------------------------

    def run_for(self, ms: int) -> None:
        self._run_until_us(self.now_us + ms * MS, lambda: False)

    def run_until(self, condition: Callable[[], bool], within_ms: int = 20_000) -> None:
        self._run_until_us(self.now_us + within_ms * MS, condition)
        assert condition(), "the awaited state did not come"

    def _run_until_us(self, end_us: int, condition: Callable[[], bool]) -> None:
        while not condition():
            due = [node for node in self.nodes.values() if node.replica is not None]
            first = min(due, key=lambda node: node.deadline_us, default=None)
            deadline_us = first.deadline_us if first is not None else end_us + 1
            queued_us = self._queue[0][0] if self._queue else end_us + 1
            at_us = max(min(deadline_us, queued_us), self.now_us)
            if at_us > end_us:
                self.now_us = end_us
                return
            self.now_us = at_us
            if queued_us <= deadline_us:
                heappop(self._queue)[2]()
            else:
                assert first is not None
                assert first.replica is not None
                assert first.requests is not None
                first.requests.on_deadline(at_us)
                first.replica.on_deadline(at_us)
                self._after_input(first)

    def _later(self, at_us: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heappush(self._queue, (at_us, self._sequence, action))

    def _latency(self) -> int:
        return self.random.randint(*self.latency_us)

    # --- Messages ------------------------------------------------------------------------------------------------

    def _after_input(self, node: Node) -> None:
        effects = list(node.outbox)
        node.outbox.clear()
        for effect in effects:
            if isinstance(effect, Send):
                self._send(node.node_id, effect)
            elif isinstance(effect, Reply):
                self._reply(effect)
            elif isinstance(effect, Close):
                connection = self._connections.get((node.node_id, effect.to))
                if connection is not None:
                    self._cut(connection)
        self.audit(node)

    def _send(self, requester: int, send: Send) -> None:
        assert send.channel == QUORUM_CHANNEL
        self.sent.append((self.now_us, requester, send.to, send.request))
        connection = self._connections.get((requester, send.to))
        if connection is None:
            self._sequence += 1
            connection = Connection(self._sequence, requester, send.to)
            self._connections[requester, send.to] = connection
            self._by_id[connection.connection_id] = connection
        call = Call(connection.connection_id, send.correlation_id, requester, send.request)
        opened = connection

        def arrive() -> None:
            if self._by_id.get(opened.connection_id) is not opened:
                return
            if self.nodes[opened.server].replica is None:
                self._cut(opened)
            elif opened.in_hand:
                opened.waiting.append(call)
            else:
                self._hand_in(opened, call)

        self._deliver(connection, requester, send.to, arrive)

    def _hand_in(self, connection: Connection, call: Call) -> None:
        connection.in_hand = True
        self.input(connection.server, lambda replica, now_us: replica.on_request(call, now_us))

    def _reply(self, reply: Reply) -> None:
        connection = self._by_id.get(reply.connection_id)
        if connection is None:
            return
        assert connection.in_hand, "an answer to nothing"
        connection.in_hand = False

        def arrive() -> None:
            node = self.nodes[connection.requester]
            if self._by_id.get(connection.connection_id) is connection and node.requests is not None:
                node.requests.on_response(reply.correlation_id, reply.response, self.now_us)
                self._after_input(node)

        self._deliver(connection, connection.server, connection.requester, arrive)
        if connection.waiting:
            call = connection.waiting.popleft()
            self._later(
                self.now_us,
                lambda: (
                    self._hand_in(connection, call) if self._by_id.get(connection.connection_id) is connection else None
                ),
            )

    def _deliver(self, connection: Connection, source: int, target: int, arrive: Callable[[], None]) -> None:
        if (source, target) in self.blocked or self.random.randrange(100) < self.loss_percent:
            return
        forward = source == connection.requester
        at_us = max(self.now_us + self._latency(), connection.arrives_us.get(forward, 0))
        connection.arrives_us[forward] = at_us
        self._later(at_us, arrive)

    def _cut(self, connection: Connection) -> None:
        """The connection is gone; each end that lives hears of it, unless the network between them is silent."""
        if self._connections.get((connection.requester, connection.server)) is connection:
            del self._connections[connection.requester, connection.server]
        self._by_id.pop(connection.connection_id, None)
        requester, server = self.nodes[connection.requester], self.nodes[connection.server]

        def tell_requester() -> None:
            if requester.replica is not None and requester.requests is not None:
                requester.requests.on_disconnect(connection.server, QUORUM_CHANNEL, self.now_us)
                self._after_input(requester)

        def tell_server() -> None:
            if server.replica is not None:
                server.replica.on_closed(connection.connection_id, self.now_us)
                self._after_input(server)

        if (connection.server, connection.requester) not in self.blocked:
            self._later(self.now_us + self._latency(), tell_requester)
        if (connection.requester, connection.server) not in self.blocked:
            self._later(self.now_us + self._latency(), tell_server)

    # --- What must always hold -----------------------------------------------------------------------------------

    def audit(self, node: Node) -> None:
        replica = node.replica
        if replica is None:
            return
        assert replica.epoch >= node.highest_epoch, "an epoch fell"
        assert replica.epoch == node.state.epoch, "an epoch that is not on disk"
        node.highest_epoch = replica.epoch
        if replica.is_leader:
            holder = self.leader_of_epoch.setdefault(replica.epoch, replica.node_id)
            assert holder == replica.node_id, f"two leaders in epoch {replica.epoch}"
        assert replica.high_watermark <= node.log.log_end
        if replica.snapshot_before(node.taken_end) is not None:
            node.taken_end = node.log.log_start
        for batch in replica.take_committed():
            assert batch.base_offset == node.taken_end, "a committed batch was left out or given twice"
            node.taken_end = batch.next_offset
            self._audit_committed(batch)

    @staticmethod
    def _holds(log: MetadataLog, batch: MetadataBatch) -> bool:
        return batch.next_offset <= log.log_start or log.read(batch.base_offset, 1) == (batch,)

    def _audit_committed(self, batch: MetadataBatch) -> None:
        end = self.committed[-1].next_offset if self.committed else 0
        if batch.base_offset >= end:
            self.committed.append(batch)
            holders = [v for v in self.voters if self._holds(self.nodes[v].log, batch)]
            assert len(holders) > len(self.voters) // 2, "committed without a majority"
        else:
            known = next(b for b in self.committed if b.base_offset == batch.base_offset)
            assert known is batch, "a committed batch changed"
