"""Brokers for producer and admin tests: logs with Kafka's sequence check, connections that freeze, stop and refuse; 1 ms a hop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from kafkasim.core.client.core import ClientCore
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.effects import Close, Send
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import FIRST_CLIENT_NODE, TopicPartition
from kafkasim.core.model.messages import (
    BrokerEndpoint,
    InitProducerIdRequest,
    InitProducerIdResponse,
    MetadataRequest,
    MetadataResponse,
    PartitionMetadata,
    PartitionProduce,
    PartitionProduced,
    ProduceRequest,
    ProduceResponse,
    TopicMetadata,
)
from kafkasim.core.model.names import topic_name_problem
from kafkasim.core.model.records import RecordBatch

HOP_US = 1_000
SECOND_US = 1_000_000


class FakeBroker:
    """Serves one request of a connection at a time."""

    def __init__(self) -> None:
        self.is_up = True
        self.is_frozen = False
        self.inbox: deque[tuple[ClientCore, Send, int]] = deque()


class FakeCluster:
    """Any number of clients; ``handlers`` by request type may be added or replaced by a test."""

    def __init__(self, brokers: int = 3) -> None:
        self.now_us = 0
        self.brokers = {node: FakeBroker() for node in range(1, brokers + 1)}
        self.topics: dict[str, int] = {}
        self.leaders: dict[TopicPartition, tuple[int, int]] = {}
        self.logs: dict[TopicPartition, list[RecordBatch]] = {}
        self.requests: list[tuple[int, int, Any]] = []
        self.produce_errors: list[ErrorCode] = []
        self.drop_produce_answers = 0
        self.handlers: dict[type, Callable[[int, Any], Any]] = {
            MetadataRequest: self._on_metadata,
            ProduceRequest: self._on_produce,
            InitProducerIdRequest: self._on_init_producer_id,
        }
        self._clients: list[ClientCore] = []
        #: (client, broker) -> number of the present connection; an answer on an older one is lost.
        self._connections: dict[tuple[int, int], int] = {}
        self._muted: set[tuple[int, int, int]] = set()
        self._next_producer_id = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    # --- Set-up and time ---------------------------------------------------------------------------------------------

    def add_topic(self, name: str, partitions: int) -> None:
        self.topics[name] = partitions
        for partition in range(partitions):
            tp = TopicPartition(name, partition)
            self.leaders[tp] = (1 + partition % len(self.brokers), 0)
            self.logs[tp] = []

    def move_leader(self, tp: TopicPartition, leader: int) -> None:
        self.leaders[tp] = (leader, self.leaders[tp][1] + 1)

    def client(self, engine: type[Any], kind: str, draw: Any = None, **given: object) -> Any:
        """An engine of a client whose bootstrap servers are brokers 1 and 2."""
        config = ClientConfig.parse(kind, {"bootstrap.servers": "b1:9092,b2:9092", **given})
        bootstrap = tuple(self.brokers)[:2]
        made = engine(FIRST_CLIENT_NODE + len(self._clients), config, bootstrap, draw or (lambda _label, _bound: 0), 0)
        self._clients.append(made)
        return made

    def at(self, delay_us: int, action: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._heap, (self.now_us + delay_us, self._count, action))

    def run(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        until_us = self.now_us + int(seconds * SECOND_US)
        self.drain()
        while True:
            deadline_us = min(client.deadline_us for client in self._clients)
            event_us = self._heap[0][0] if self._heap else until_us + 1
            next_us = min(deadline_us, event_us)
            if next_us > until_us:
                break
            self.now_us = max(self.now_us, next_us)
            if event_us <= deadline_us:
                heappop(self._heap)[2]()
            else:
                for client in self._clients:
                    if client.deadline_us <= self.now_us:
                        client.on_deadline(self.now_us)
            self.drain()
        self.now_us = until_us

    def drain(self) -> None:
        for client in self._clients:
            effects = list(client.outbox)
            client.outbox.clear()
            for effect in effects:
                if isinstance(effect, Send):
                    self.at(HOP_US, lambda client=client, send=effect: self._deliver(client, send))  # type: ignore[misc]
                elif isinstance(effect, Close):
                    self._reset(client, effect.to)

    def _reset(self, client: ClientCore, node: int) -> None:
        key = (client.node_id, node)
        self._connections[key] = self._connections.get(key, 0) + 1

    # --- Brokers -----------------------------------------------------------------------------------------------------

    def freeze(self, node: int) -> None:
        self.brokers[node].is_frozen = True

    def thaw(self, node: int) -> None:
        broker = self.brokers[node]
        broker.is_frozen = False
        inbox, broker.inbox = broker.inbox, deque()
        for client, send, connection in inbox:
            self._serve(client, send, connection)

    def stop(self, node: int) -> None:
        self.brokers[node].is_up = False
        for client in self._clients:
            self._disconnect(client, node)

    def start(self, node: int) -> None:
        self.brokers[node].is_up = True

    def _disconnect(self, client: ClientCore, node: int) -> None:
        self._reset(client, node)
        self.at(HOP_US, lambda: client.on_disconnect(node, 0, self.now_us))

    def _deliver(self, client: ClientCore, send: Send) -> None:
        broker = self.brokers[send.to]
        connection = self._connections.get((client.node_id, send.to), 0)
        if not broker.is_up:
            self._disconnect(client, send.to)
        elif broker.is_frozen:
            broker.inbox.append((client, send, connection))
        else:
            self._serve(client, send, connection)

    def _serve(self, client: ClientCore, send: Send, connection: int) -> None:
        """What has arrived is done even if its connection is gone; only the answer is lost then."""
        self.requests.append((self.now_us, send.to, send.request))
        response = self.handlers[type(send.request)](send.to, send.request)
        key = (client.node_id, send.to)
        if self.drop_produce_answers and isinstance(send.request, ProduceRequest):
            self.drop_produce_answers -= 1
            self._muted.add((*key, connection))  # TCP loses no answer but those that would follow, too.

        def answer() -> None:
            if self._connections.get(key, 0) == connection and (*key, connection) not in self._muted:
                client.on_response(send.to, send.channel, send.correlation_id, response, self.now_us)

        if response is not None and send.correlation_id:
            self.at(HOP_US, answer)

    # --- Answers -----------------------------------------------------------------------------------------------------

    def _on_metadata(self, node: int, request: MetadataRequest) -> MetadataResponse:
        names = tuple(self.topics) if request.topics is None else request.topics
        brokers = tuple(BrokerEndpoint(each, f"b{each}", 9092) for each, broker in self.brokers.items() if broker.is_up)
        return MetadataResponse(brokers, "cluster", 1, tuple(self._describe(name) for name in names))

    def _describe(self, name: str) -> TopicMetadata:
        if topic_name_problem(name):
            return TopicMetadata(ErrorCode.INVALID_TOPIC_EXCEPTION, name, "", False, ())
        if name not in self.topics:
            return TopicMetadata(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name, "", False, ())
        partitions = tuple(
            PartitionMetadata(ErrorCode.NONE, partition, *self.leaders[TopicPartition(name, partition)], (1,), (1,))
            for partition in range(self.topics[name])
        )
        return TopicMetadata(ErrorCode.NONE, name, f"id-{name}", False, partitions)

    def _on_init_producer_id(self, node: int, request: InitProducerIdRequest) -> InitProducerIdResponse:
        self._next_producer_id += 1
        return InitProducerIdResponse(ErrorCode.NONE, self._next_producer_id - 1, 0)

    def _on_produce(self, node: int, request: ProduceRequest) -> ProduceResponse:
        return ProduceResponse([self._append(node, part) for part in request.partitions])

    def _append(self, node: int, part: PartitionProduce) -> PartitionProduced:
        if self.produce_errors:
            error = self.produce_errors.pop(0)
            if error == ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND:
                self._append(node, part)
            if error != ErrorCode.NONE:
                return PartitionProduced(part.tp, error)
        leader, epoch = self.leaders[part.tp]
        if leader != node:
            return PartitionProduced(
                part.tp, ErrorCode.NOT_LEADER_OR_FOLLOWER, current_leader=leader, current_leader_epoch=epoch
            )
        log, batch = self.logs[part.tp], part.batch
        if batch.producer_id >= 0:
            own = [each for each in log if each.producer_id == batch.producer_id]
            for each in own[-5:]:
                if (each.producer_epoch, each.base_sequence, each.count) == (
                    batch.producer_epoch,
                    batch.base_sequence,
                    batch.count,
                ):
                    return PartitionProduced(part.tp, ErrorCode.NONE, each.base_offset)
            is_new_epoch = not own or own[-1].producer_epoch != batch.producer_epoch
            expected = 0 if is_new_epoch else own[-1].last_sequence + 1
            if batch.base_sequence != expected and own:
                return PartitionProduced(part.tp, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
        base_offset = log[-1].next_offset if log else 0
        log.append(batch.placed(base_offset, epoch))
        return PartitionProduced(part.tp, ErrorCode.NONE, base_offset)

    # --- What tests look at --------------------------------------------------------------------------------------------

    def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        return [value for batch in self.logs[TopicPartition(topic, partition)] for value in batch.columns.values]

    def sent(self, kind: type) -> list[Any]:
        return [request for _, _, request in self.requests if isinstance(request, kind)]
