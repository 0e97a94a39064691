"""Some DataPlanes wired by hand: a FIFO network without delay, a controller that grants every sound ISR change, one clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from kafkasim.core.client.requests import Requests
from kafkasim.core.controller.image import ImageDelta, MetadataImage
from kafkasim.core.model.admin_messages import TOPIC_RESOURCE
from kafkasim.core.model.cluster_messages import AlterPartitionRequest, AlterPartitionResponse, PartitionIsrResult
from kafkasim.core.model.effects import Close, Note, Reply, Send
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import FetchRequest, PartitionFetch, PartitionProduce, ProduceRequest
from kafkasim.core.model.metadata import (
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
)
from kafkasim.core.model.protections import Protections
from kafkasim.core.model.records import RecordBatch, batch_of
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.data_plane import DataPlane
from kafkasim.core.node.storage import BrokerStorage

WALL_OFFSET_US = 1_700_000_000_000_000


class Broker:
    """One process: dies with everything but its storage."""

    def __init__(self, cluster: PlaneCluster, node_id: int, storage: BrokerStorage) -> None:
        self.outbox: list[Any] = []
        self.requests = Requests(self.outbox)
        self.image = MetadataImage(cluster.static)
        self.ctx = BrokerContext(
            node_id,
            self.outbox,
            self.requests,
            self.image,
            storage,
            lambda label, bound: cluster.draw(bound),
            rack=cluster.racks.get(node_id),
            wall_offset_us=WALL_OFFSET_US,
            protections=cluster.protections,
            controller_sender=lambda request, handler, now_us: cluster.alter(node_id, request, handler),
        )
        self.plane = DataPlane(self.ctx, cluster.now_us)
        self.seen = 0

    @property
    def deadline_us(self) -> int:
        return min(self.plane.deadline_us, self.requests.deadline_us)


class PlaneCluster:
    """``wire`` holds what is under way: ("request" | "response", from, to, ...) in order."""

    def __init__(
        self,
        brokers: int = 3,
        static: dict[str, str] | None = None,
        racks: dict[int, str] | None = None,
        features: dict[str, object] | None = None,
    ) -> None:
        self.protections = Protections.of(features)
        self.static = static or {}
        self.racks = racks or {}
        self.now_us = 1_000_000
        self.records: list[Any] = []
        self.controller = MetadataImage(self.static)
        self.storages = {node: BrokerStorage() for node in range(1, brokers + 1)}
        self.brokers: dict[int, Broker] = {}
        self.wire: deque[tuple[Any, ...]] = deque()
        self.answers: dict[int, Any] = {}
        self.cut: dict[int, None] = {}
        #: Off: a broker learns of metadata only by ``publish``.
        self.auto_publish = True
        self.refuse_isr_changes: ErrorCode | None = None
        #: Requests for ISR changes are never answered.
        self.lose_isr_changes = False
        self._draws = 0
        self._calls = 1_000
        self._epochs = 10
        for node in self.storages:
            self.start(node)

    def draw(self, bound: int) -> int:
        self._draws += 1
        return self._draws % bound

    # --- processes -------------------------------------------------------------------------------------------------

    def start(self, node: int) -> None:
        broker = self.brokers[node] = Broker(self, node, self.storages[node])
        self._epochs += 1
        broker.ctx.broker_epoch = self._epochs
        self.change(
            RegisterBrokerRecord(node, f"i{self._epochs}", self._epochs, "h", 9092, self.racks.get(node), fenced=False)
        )

    def crash(self, node: int, *, power: bool = False) -> None:
        del self.brokers[node]
        if power:
            self.storages[node].power_loss()
        kept = [message for message in self.wire if node not in message[1:3]]
        self.wire = deque(kept)
        for other in list(self.brokers.values()):
            for channel in range(6):
                other.requests.on_disconnect(node, channel, self.now_us)
            other.plane.on_closed(node * 100 + other.ctx.node_id, self.now_us)
            self.drain(other.ctx.node_id)

    # --- metadata --------------------------------------------------------------------------------------------------

    def change(self, *records: Any, publish: bool = True) -> None:
        delta = ImageDelta()
        for record in records:
            self.controller.replay(record, delta)
            self.records.append(record)
        if publish and self.auto_publish:
            self.publish()

    def publish(self, *nodes: int, up_to: int | None = None) -> None:
        """``up_to``: so many of the records; None: all."""
        end = len(self.records) if up_to is None else up_to
        for node in nodes or list(self.brokers):
            broker = self.brokers.get(node)
            if broker is None or broker.seen >= end:
                continue
            delta = ImageDelta()
            for record in self.records[broker.seen : end]:
                broker.image.replay(record, delta)
            broker.seen = end
            broker.plane.on_image(delta, self.now_us)
            self.drain(node)

    def topic(
        self, name: str = "t", replicas: tuple[int, ...] = (1, 2, 3), partitions: int = 1, **configs: str
    ) -> TopicPartition:
        topic_id = f"{name}-id-{len(self.records)}"
        values = [ConfigRecord(TOPIC_RESOURCE, name, key.replace("_", "."), value) for key, value in configs.items()]
        parts = [PartitionRecord(topic_id, p, replicas, replicas, replicas[0]) for p in range(partitions)]
        self.change(TopicRecord(name, topic_id), *values, *parts)
        return TopicPartition(name, 0)

    def state(self, tp: TopicPartition) -> Any:
        return self.controller.partition(tp)

    def elect(self, tp: TopicPartition, leader: int, isr: tuple[int, ...] | None = None, publish: bool = True) -> None:
        state = self.state(tp)
        self.change(PartitionChangeRecord(state.topic_id, tp.partition, leader=leader, isr=isr), publish=publish)

    def delete(self, name: str) -> None:
        self.change(RemoveTopicRecord(self.controller.topics[name].topic_id))

    def fence(self, node: int, fenced: bool) -> None:
        epoch = self.controller.brokers[node].broker_epoch
        self.change(BrokerRegistrationChangeRecord(node, epoch, fenced=1 if fenced else -1))

    def alter(self, node: int, request: AlterPartitionRequest, handler: Any) -> None:
        if not self.lose_isr_changes:
            self.wire.append(("alter", node, 0, request, handler))

    def _on_alter(self, node: int, request: AlterPartitionRequest, handler: Any) -> None:
        results = []
        for change in request.partitions:
            state = self.state(change.tp)
            if self.refuse_isr_changes is not None:
                results.append(PartitionIsrResult(change.tp, self.refuse_isr_changes))
            elif state is None or state.topic_id != change.topic_id:
                results.append(PartitionIsrResult(change.tp, ErrorCode.UNKNOWN_TOPIC_ID))
            elif change.leader_epoch < state.leader_epoch:
                results.append(PartitionIsrResult(change.tp, ErrorCode.FENCED_LEADER_EPOCH))
            elif change.partition_epoch < state.partition_epoch:
                results.append(PartitionIsrResult(change.tp, ErrorCode.INVALID_UPDATE_VERSION))
            elif any(self.controller.brokers[n].broker_epoch != e or n not in self.brokers for n, e in change.new_isr):
                results.append(PartitionIsrResult(change.tp, ErrorCode.INELIGIBLE_REPLICA))
            else:
                isr = tuple(sorted(n for n, _ in change.new_isr))
                self.change(PartitionChangeRecord(state.topic_id, change.tp.partition, isr=isr), publish=False)
                results.append(
                    PartitionIsrResult(
                        change.tp, ErrorCode.NONE, state.leader, state.leader_epoch, isr, state.partition_epoch
                    )
                )
        handler(AlterPartitionResponse(ErrorCode.NONE, tuple(results)), ErrorCode.NONE, self.now_us)
        self.drain(node)
        if self.auto_publish:
            self.publish()

    # --- network ---------------------------------------------------------------------------------------------------

    def drain(self, node: int) -> None:
        broker = self.brokers[node]
        effects = list(broker.outbox)
        broker.outbox.clear()
        for effect in effects:
            if isinstance(effect, Send):
                self.wire.append(("request", node, effect.to, effect))
            elif isinstance(effect, Reply):
                if effect.connection_id >= 1_000:
                    assert effect.connection_id not in self.answers, "answered twice"
                    self.answers[effect.connection_id] = effect.response
                else:
                    self.wire.append(("response", node, effect.connection_id // 100, effect))
            elif isinstance(effect, Close):
                broker.requests.on_disconnect(effect.to, effect.channel, self.now_us)
            else:
                assert isinstance(effect, Note)

    def deliver(self) -> None:
        """Hand over the oldest message."""
        message = self.wire.popleft()
        kind, source, target = message[:3]
        if kind == "alter":
            if source in self.brokers:
                self._on_alter(source, message[3], message[4])
            return
        if source in self.cut or target in self.cut or target not in self.brokers:
            self._break(source if kind == "request" else target, message)
            return
        effect = message[3]
        broker = self.brokers[target]
        if kind == "request":
            call = Call(source * 100 + target, effect.correlation_id, source, effect.request)
            broker.plane.on_request(call, self.now_us)
        else:
            broker.requests.on_response(effect.correlation_id, effect.response, self.now_us)
        self.drain(target)

    def _break(self, requester: int, message: tuple[Any, ...]) -> None:
        """The connection breaks: the requester hears of it."""
        server = message[2] if message[0] == "request" else message[1]
        broker = self.brokers.get(requester)
        if broker is not None:
            for channel in range(6):
                broker.requests.on_disconnect(server, channel, self.now_us)
            self.drain(requester)
        if server in self.brokers:
            self.brokers[server].plane.on_closed(requester * 100 + server, self.now_us)

    def settle(self, limit: int = 10_000) -> None:
        """Deliver until nothing is under way."""
        while self.wire:
            self.deliver()
            limit -= 1
            assert limit, "the cluster never comes to rest"

    def run_for(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        end_us = self.now_us + round(seconds * 1_000_000)
        self.settle()
        while self._reach_deadline(end_us):
            self.settle()
        self.now_us = end_us

    def _reach_deadline(self, end_us: int) -> bool:
        """Go to the next deadline and let it happen; False if there is none until ``end_us``."""
        due_us, node = min((broker.deadline_us, node) for node, broker in self.brokers.items())
        if due_us > end_us:
            return False
        self.now_us = max(self.now_us, due_us)
        broker = self.brokers[node]
        broker.requests.on_deadline(self.now_us)
        if broker.plane.deadline_us <= self.now_us:
            broker.plane.on_deadline(self.now_us)
        self.drain(node)
        return True

    def step_until(self, predicate: Callable[[], bool], seconds: float = 10.0) -> None:
        """One message or deadline after the other, until ``predicate()`` holds."""
        end_us = self.now_us + round(seconds * 1_000_000)
        while not predicate():
            if self.wire:
                self.deliver()
            else:
                assert self._reach_deadline(end_us), "the awaited condition did not come true"

    # --- clients ---------------------------------------------------------------------------------------------------

    def ask(self, node: int, request: Any) -> int:
        """Send as a client; the answer will be in ``answers`` under the number returned."""
        self._calls += 1
        call = Call(self._calls, 1, 1_000_000, request)
        self.brokers[node].plane.on_request(call, self.now_us)
        self.drain(node)
        return self._calls

    def call(self, node: int, request: Any) -> Any:
        """Send as a client and let the cluster come to rest."""
        number = self.ask(node, request)
        self.settle()
        return self.answers.get(number)

    def produce(self, node: int, tp: TopicPartition, *values: bytes, acks: int = -1, **changes: Any) -> Any:
        response = self.call(node, produce_request(tp, self.batch(*values, **changes), acks))
        return None if response is None else response.partitions[0]

    def batch(self, *values: bytes, **changes: Any) -> RecordBatch:
        timestamp_ms = changes.pop("timestamp_ms", (self.now_us + WALL_OFFSET_US) // 1000)
        batch = batch_of(values, changes.pop("keys", None), timestamp_ms)
        for name, value in changes.items():
            object.__setattr__(batch, name, value)
        return batch

    def fetch(self, node: int, tp: TopicPartition, offset: int, **changes: Any) -> Any:
        response = self.call(node, fetch_request(tp, offset, **changes))
        return None if response is None else response.partitions[0]

    def replica(self, node: int, tp: TopicPartition) -> Any:
        return self.brokers[node].plane.replica(tp)

    def values(self, node: int, tp: TopicPartition) -> list[bytes]:
        return [value for batch in self.brokers[node].plane.read_log(tp) for value in batch.columns.values]


def produce_request(tp: TopicPartition, batch: RecordBatch, acks: int = -1, timeout_ms: int = 30_000) -> ProduceRequest:
    return ProduceRequest(acks, timeout_ms, [PartitionProduce(tp, batch)])


def fetch_request(tp: TopicPartition, offset: int, **changes: Any) -> FetchRequest:
    max_wait_ms = changes.pop("max_wait_ms", 0)
    min_bytes = changes.pop("min_bytes", 1)
    rack_id = changes.pop("rack_id", "")
    return FetchRequest(
        -1, max_wait_ms, min_bytes, 50_000_000, [PartitionFetch(tp, offset, **changes)], rack_id=rack_id
    )
