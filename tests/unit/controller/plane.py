"""A control plane on one table: a controller over a one-voter quorum (or a fake one), and brokers that are only names."""

from __future__ import annotations

import random
from typing import Any, cast

from kafkasim.core.client.requests import Requests
from kafkasim.core.controller.image import ImageDelta, MetadataImage, PartitionState
from kafkasim.core.controller.state import ControllerImage
from kafkasim.core.model.admin_messages import CreateTopicsRequest, NewTopicSpec, TopicCreated
from kafkasim.core.model.cluster_messages import (
    AlterPartitionRequest,
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
    PartitionIsrChange,
    PartitionIsrResult,
)
from kafkasim.core.model.effects import Effect, Reply
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import Draw, NodeId, TopicPartition
from kafkasim.core.model.metadata import MetadataRecord
from kafkasim.core.node.context import Call
from kafkasim.core.node.controller import ControllerNode
from kafkasim.core.quorum.log import MetadataLog, QuorumStateFile
from kafkasim.core.quorum.raft import RaftReplica

CONTROLLER = 100
SECOND_US = 1_000_000


def seeded(seed: int) -> Draw:
    stream = random.Random(seed)
    return lambda _label, bound: stream.randrange(bound)


def zero(_label: str, _bound: int) -> int:
    return 0


def dump(image: MetadataImage) -> dict[str, Any]:
    """Everything an image says, for comparison."""
    dumped: dict[str, Any] = {
        "topics": {
            name: (topic.topic_id, [describe(state) for state in topic.partitions])
            for name, topic in image.topics.items()
        },
        "ids": sorted(image.topics_by_id),
        "brokers": {
            node: (broker.broker_epoch, broker.incarnation_id, broker.fenced, broker.in_controlled_shutdown)
            for node, broker in image.brokers.items()
        },
        "configs": {key: dict(values) for key, values in image.configs.items() if values},
        "features": dict(image.features),
        "next": (image.next_offset, image.next_producer_id),
    }
    if isinstance(image, ControllerImage):
        dumped["in_isr"] = {node: set(tps) for node, tps in image.index.in_isr.items() if tps}
        dumped["in_elr"] = {node: set(tps) for node, tps in image.index.in_elr.items() if tps}
        dumped["led"] = {node: count for node, count in image.index.led_counts.items() if count}
        dumped["leaderless"] = set(image.index.leaderless)
        dumped["imbalanced"] = set(image.index.imbalanced)
        dumped["collisions"] = {name: set(names) for name, names in image.collisions.items()}
        dumped["register_offsets"] = dict(image.register_offsets)
    return dumped


def describe(state: PartitionState) -> tuple[Any, ...]:
    return (
        state.replicas,
        state.isr,
        state.leader,
        state.leader_epoch,
        state.partition_epoch,
        state.removing_replicas,
        state.adding_replicas,
        state.leader_recovery_state,
        state.elr,
        state.last_known_elr,
    )


class Plane:
    """``ask`` sends a request and gives the answer; ``fresh()`` the records written since it was last called."""

    def __init__(
        self,
        brokers: tuple[NodeId, ...] = (),
        *,
        config: dict[str, str] | None = None,
        draw: Draw = zero,
        **kwargs: Any,
    ) -> None:
        self.outbox: list[Effect] = []
        self.now_us = 0
        self.log = MetadataLog()
        self.raft = self.make_raft(config)
        self.node = ControllerNode(CONTROLLER, self.raft, self.outbox, draw, config, **kwargs)
        self.node.settle(0)
        self._seen = 0
        self._correlation_id = 0
        self.epochs: dict[NodeId, int] = {}
        self.racks: dict[NodeId, str] = {}
        self.starts = 0
        for node in brokers:
            self.start(node)
        self.fresh()

    def make_raft(self, config: dict[str, str] | None) -> RaftReplica:
        return RaftReplica(
            CONTROLLER,
            (CONTROLLER,),
            self.log,
            QuorumStateFile(),
            outbox=self.outbox,
            requests=Requests(self.outbox),
            draw=zero,
            static_config=config,
            now_us=0,
        )

    @property
    def image(self) -> ControllerImage:
        return self.node.image

    def send(self, request: Any, peer: NodeId = 1) -> int:
        """Hand in a request; its correlation id."""
        self._correlation_id += 1
        self.node.on_request(Call(peer, self._correlation_id, peer, request), self.now_us)
        return self._correlation_id

    def answer(self, correlation_id: int) -> Any:
        """The answer, or None if there is none yet."""
        for effect in reversed(self.outbox):
            if isinstance(effect, Reply) and effect.correlation_id == correlation_id:
                return effect.response
        return None

    def ask(self, request: Any, peer: NodeId = 1) -> Any:
        answer = self.answer(self.send(request, peer))
        assert answer is not None, request
        return answer

    def fresh(self) -> list[MetadataRecord]:
        records = [record for batch in self.log.read_between(self._seen, self.log.log_end) for record in batch.records]
        self._seen = self.log.log_end
        return records

    # --- brokers ---------------------------------------------------------------------------------------------------

    def register(self, node: NodeId, previous_broker_epoch: int = -1, incarnation: str | None = None) -> ErrorCode:
        self.starts += 1
        request = BrokerRegistrationRequest(
            node,
            incarnation or f"process-{self.starts}",
            f"broker-{node}",
            9092,
            self.racks.get(node),
            previous_broker_epoch,
        )
        response = cast("BrokerRegistrationResponse", self.ask(request, node))
        if response.error is ErrorCode.NONE:
            self.epochs[node] = response.broker_epoch
        return response.error

    def beat(
        self, node: NodeId, *, want_fence: bool = False, want_shut_down: bool = False, offset: int | None = None
    ) -> BrokerHeartbeatResponse:
        seen = self.image.next_offset - 1 if offset is None else offset
        request = BrokerHeartbeatRequest(node, self.epochs[node], seen, want_fence, want_shut_down)
        return cast("BrokerHeartbeatResponse", self.ask(request, node))

    def start(self, node: NodeId, *, clean: bool = False) -> None:
        """Register and be unfenced."""
        assert self.register(node, self.epochs.get(node, -1) if clean else -1) is ErrorCode.NONE
        assert not self.beat(node).is_fenced

    def advance(self, duration_us: int, alive: tuple[NodeId, ...] = (), every_us: int = SECOND_US) -> None:
        """Time passes; ``alive`` brokers heartbeat."""
        end_us = self.now_us + duration_us
        beat_us = self.now_us + every_us
        while True:
            next_us = min(self.node.deadline_us, beat_us, end_us)
            self.now_us = max(self.now_us, next_us)
            if self.node.deadline_us <= self.now_us:
                self.node.on_deadline(self.now_us)
            if self.now_us >= beat_us:
                for node in alive:
                    self.beat(node)
                beat_us += every_us
            if self.now_us >= end_us:
                return

    def kill(self, node: NodeId) -> None:
        """The broker is silent until it is fenced; all others stay."""
        others = tuple(n for n, broker in self.image.brokers.items() if n != node and not broker.fenced)
        while not self.image.brokers[node].fenced:
            self.advance(SECOND_US, others)

    def stop(self, node: NodeId) -> None:
        """Controlled shutdown until it is granted."""
        others = [n for n, broker in self.image.brokers.items() if n != node and not broker.fenced]
        for _ in range(3):
            if self.beat(node, want_shut_down=True).should_shut_down:
                return
            for other in others:
                self.beat(other)
        raise AssertionError("the shutdown was never granted")

    # --- topics ----------------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        *assignment: tuple[NodeId, ...],
        partitions: int = -1,
        factor: int = -1,
        **settings: str,
    ) -> TopicCreated:
        spec = NewTopicSpec(
            name,
            partitions,
            factor,
            tuple(enumerate(assignment)),
            tuple((key.replace("_", "."), value) for key, value in settings.items()),
        )
        return cast("TopicCreated", self.ask(CreateTopicsRequest((spec,))).topics[0])

    def partition(self, topic: str = "t", partition: int = 0) -> PartitionState:
        state = self.image.partition(TopicPartition(topic, partition))
        assert state is not None
        return state

    def alter_isr(
        self, isr: tuple[NodeId, ...], topic: str = "t", partition: int = 0, **changes: Any
    ) -> PartitionIsrResult:
        """What the leader of the partition would ask for; ``changes`` spoil the request."""
        state = self.partition(topic, partition)
        epochs = {**self.epochs, **changes.pop("broker_epochs", {})}
        sender = changes.pop("sender", state.leader)
        change = PartitionIsrChange(
            state.tp,
            changes.get("topic_id", state.topic_id),
            changes.get("leader_epoch", state.leader_epoch),
            changes.get("partition_epoch", state.partition_epoch),
            tuple((node, changes.get("broker_epoch", epochs.get(node, -1))) for node in isr),
            changes.get("recovery", 0),
        )
        epoch = changes.get("sender_epoch", self.epochs.get(sender, -1))
        response = self.ask(AlterPartitionRequest(sender, epoch, (change,)), sender)
        if response.error is not ErrorCode.NONE:
            return PartitionIsrResult(state.tp, response.error)
        return cast("PartitionIsrResult", response.partitions[0])

    def check_replay(self) -> None:
        """The log alone tells what the live image tells."""
        again = ControllerImage(self.image.static_config())
        for batch in self.log.read_between(0, self.log.log_end):
            again.replay_batch(batch, ImageDelta())
        assert dump(again) == dump(self.image)
