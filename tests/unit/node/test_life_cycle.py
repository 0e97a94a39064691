"""A broker's life: registration, heartbeats, metadata, shutdown, and the way to a controller that moves."""

from __future__ import annotations

from typing import Any

from tests.unit.controller.plane import CONTROLLER, SECOND_US, Plane, seeded

from kafkasim.core.client.requests import Requests
from kafkasim.core.controller.image import ImageDelta, MetadataImage
from kafkasim.core.model.admin_messages import CreateTopicsRequest, NewTopicSpec
from kafkasim.core.model.cluster_messages import (
    AllocateProducerIdsRequest,
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    BrokerRegistrationRequest,
    Envelope,
)
from kafkasim.core.model.effects import Close, Effect, Halt, Send
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE
from kafkasim.core.node.context import BrokerContext
from kafkasim.core.node.life_cycle import LifeCycle
from kafkasim.core.node.storage import BrokerStorage
from kafkasim.core.quorum.log import MetadataLog, QuorumStateFile
from kafkasim.core.quorum.raft import RaftReplica


class Broker:
    """One broker process beside a plane; requests arrive at once unless the controller is ``cut`` off."""

    def __init__(self, plane: Plane, node_id: int = 1, storage: BrokerStorage | None = None, **config: str) -> None:
        self.plane = plane
        self.outbox: list[Effect] = []
        self.requests = Requests(self.outbox)
        self.storage = storage or BrokerStorage()
        static = {key.replace("_", "."): value for key, value in config.items()}
        image = MetadataImage(static)
        self.ctx = BrokerContext(node_id, self.outbox, self.requests, image, self.storage, seeded(node_id))
        self.deltas: list[ImageDelta] = []
        self.cut = False
        self.sent: list[tuple[int, Any]] = []
        self.halts: list[str] = []
        self.closed = 0
        self.life = LifeCycle(
            self.ctx, plane.raft, self.publish, host=f"broker-{node_id}", port=9092, drives_raft=False
        )

    def publish(self, delta: ImageDelta, now_us: int) -> None:
        self.deltas.append(delta)

    @property
    def now_us(self) -> int:
        return self.plane.now_us

    def start(self) -> Broker:
        self.life.start(self.now_us)
        self.exchange()
        return self

    def exchange(self) -> None:
        """Carry every request over and its answer back."""
        while self.outbox:
            effect = self.outbox.pop(0)
            if isinstance(effect, Halt):
                self.halts.append(effect.reason)
            elif isinstance(effect, Close):
                self.closed += 1
            elif isinstance(effect, Send):
                self.sent.append((self.now_us, effect.request))
                if not self.cut:
                    answer = self.plane.ask(effect.request, self.ctx.node_id)
                    self.requests.on_response(effect.correlation_id, answer, self.now_us)
                    self.life.settle(self.now_us)

    def run_for(self, duration_us: int) -> None:
        end_us = self.now_us + duration_us
        while True:
            broker_us = min(self.life.deadline_us, self.requests.deadline_us)
            next_us = min(broker_us, self.plane.node.deadline_us, end_us)
            self.plane.now_us = max(self.now_us, next_us)
            if self.plane.node.deadline_us <= self.now_us:
                self.plane.node.on_deadline(self.now_us)
            if self.requests.deadline_us <= self.now_us:
                self.requests.on_deadline(self.now_us)
            if self.life.deadline_us <= self.now_us:
                self.life.on_deadline(self.now_us)
            self.exchange()
            self.life.settle(self.now_us)
            if self.now_us >= end_us and min(self.life.deadline_us, self.requests.deadline_us) > end_us:
                return

    def heartbeats(self) -> list[int]:
        return [at_us for at_us, request in self.sent if isinstance(request, BrokerHeartbeatRequest)]


def test_a_broker_registers_catches_up_and_serves() -> None:
    """Registration, then heartbeats ten milliseconds apart until it has caught up, and one that unfences it."""
    broker = Broker(Plane()).start()
    assert broker.life.state == "starting"
    broker.run_for(10_000)
    assert broker.life.state == "recovery"
    broker.run_for(10_000)
    assert broker.life.state == "running"
    assert not broker.life.fenced
    assert broker.plane.image.broker_active(1)
    assert broker.ctx.broker_epoch == broker.plane.image.brokers[1].broker_epoch


def test_heartbeats_come_at_their_interval() -> None:
    """One every two seconds, and nothing else."""
    broker = Broker(Plane()).start()
    broker.run_for(SECOND_US)
    before = len(broker.heartbeats())
    broker.run_for(20 * SECOND_US)
    assert len(broker.heartbeats()) == before + 10
    assert broker.plane.image.broker_active(1)


def test_metadata_is_published_as_it_is_committed() -> None:
    """One delta per advance; the image says what the controller's says."""
    broker = Broker(Plane()).start()
    broker.run_for(20_000)
    assert broker.plane.create("t", (1,)).error is ErrorCode.NONE
    broker.deltas.clear()
    broker.life.settle(broker.now_us)
    broker.life.settle(broker.now_us)
    assert [list(delta.created_topics) for delta in broker.deltas] == [["t"]]
    assert broker.ctx.image.next_offset == broker.plane.image.next_offset


def test_an_orderly_stop_leaves_its_mark_and_a_crash_does_not() -> None:
    """The next process tells the controller which epoch stopped in order, once."""
    broker = Broker(Plane()).start()
    broker.run_for(20_000)
    broker.life.shutdown(broker.now_us)
    broker.exchange()
    assert broker.halts == ["shutdown"]
    assert broker.storage.clean_shutdown_epoch == broker.ctx.broker_epoch
    broker.deltas.clear()
    broker.life.settle(broker.now_us)
    assert broker.deltas == [], "nobody hears of metadata any more"
    second = Broker(broker.plane, storage=broker.storage)
    second.start()
    registration = second.sent[0][1]
    assert isinstance(registration, BrokerRegistrationRequest)
    assert registration.previous_broker_epoch == broker.ctx.broker_epoch
    assert broker.storage.clean_shutdown_epoch == -1


def test_controlled_shutdown_hurries_its_second_heartbeat() -> None:
    """50 ms after the first answer, then at the usual interval, until all others have seen the hand-over."""
    plane = Plane((2,))
    broker = Broker(plane).start()
    broker.run_for(20_000)
    plane.create("t", (1, 2))
    begun_us = broker.now_us
    broker.life.shutdown(begun_us)
    broker.exchange()
    broker.run_for(3 * SECOND_US)
    assert [at_us - begun_us for at_us in broker.heartbeats()[-3:]] == [0, 50_000, 2_050_000]
    assert plane.partition().leader == 2
    assert not broker.halts
    plane.beat(2)
    broker.run_for(2 * SECOND_US)
    assert broker.halts == ["shutdown"]


def test_a_shutdown_without_controller_ends_after_five_minutes() -> None:
    """The broker stops anyway, in order."""
    broker = Broker(Plane()).start()
    broker.run_for(20_000)
    broker.cut = True
    broker.life.shutdown(broker.now_us)
    broker.run_for(301 * SECOND_US)
    assert broker.halts == ["shutdown"]
    assert broker.storage.clean_shutdown_epoch == broker.ctx.broker_epoch


def test_a_broker_that_does_not_serve_yet_stops_at_once() -> None:
    """There is nothing to hand over."""
    broker = Broker(Plane())
    broker.cut = True
    broker.start()
    broker.life.shutdown(broker.now_us)
    broker.exchange()
    assert broker.halts == ["shutdown"]


def test_a_broker_that_never_registers_gives_up() -> None:
    """initial.broker.registration.timeout.ms."""
    broker = Broker(Plane(), initial_broker_registration_timeout_ms="20000")
    broker.cut = True
    broker.start()
    broker.run_for(21 * SECOND_US)
    assert len(broker.halts) == 1
    assert broker.storage.clean_shutdown_epoch == -1


def test_a_quick_restart_waits_for_the_old_session() -> None:
    """DUPLICATE_BROKER_REGISTRATION until the session of the first process has ended."""
    first = Broker(Plane()).start()
    first.run_for(20_000)
    second = Broker(first.plane, storage=first.storage).start()
    second.run_for(8 * SECOND_US)
    assert not second.life.registered
    second.run_for(8 * SECOND_US)
    assert second.life.state == "running"
    assert second.ctx.broker_epoch > first.ctx.broker_epoch


def test_a_broker_paused_beyond_its_session_is_unfenced_by_its_next_heartbeat() -> None:
    """The epoch stays the same: nobody registers twice."""
    broker = Broker(Plane()).start()
    broker.run_for(20_000)
    epoch = broker.ctx.broker_epoch
    broker.plane.advance(15 * SECOND_US)
    assert not broker.plane.image.broker_active(1)
    broker.life.settle(broker.now_us)
    broker.run_for(100_000)
    assert broker.plane.image.broker_active(1)
    assert broker.ctx.broker_epoch == epoch


def test_requests_wait_for_a_controller() -> None:
    """They look as if every 50 ms, and cost nothing until there is a leader; their owner hears at the deadline at the latest."""
    broker = Broker(Plane()).start()
    broker.run_for(20_000)
    heard: list[tuple[Any, ErrorCode, int]] = []
    broker.plane.raft.leader_id = NO_NODE
    begun_us = broker.now_us
    request = AllocateProducerIdsRequest(1, broker.ctx.broker_epoch)
    broker.ctx.send_to_controller(request, lambda *answer: heard.append(answer), begun_us)
    broker.run_for(120_000)
    assert not heard
    broker.plane.raft.leader_id = CONTROLLER
    broker.life.settle(broker.now_us)
    broker.run_for(50_000)
    assert [answer[1] for answer in heard] == [ErrorCode.NONE]
    assert heard[0][2] - begun_us == 150_000
    broker.plane.raft.leader_id = NO_NODE
    broker.life.send_to_controller(request, lambda *answer: heard.append(answer), broker.now_us, 200_000)
    broker.run_for(SECOND_US)
    assert heard[1][:2] == (None, ErrorCode._TIMED_OUT)


def test_a_controller_that_is_none_any_more_is_asked_again() -> None:
    """NOT_CONTROLLER never reaches the owner of a request."""
    broker = Broker(Plane()).start()
    broker.run_for(20_000)
    plane, heard = broker.plane, []
    real_ask = plane.ask
    refusals = [BrokerHeartbeatResponse(ErrorCode.NOT_CONTROLLER)] * 2

    def ask(request: Any, peer: int = 1) -> Any:
        return refusals.pop() if refusals else real_ask(request, peer)

    plane.ask = ask  # type: ignore[method-assign]
    create = Envelope(CreateTopicsRequest((NewTopicSpec("t", 1, 1),)))
    broker.ctx.send_to_controller(create, lambda response, *_: heard.append(response), broker.now_us)
    broker.exchange()
    broker.run_for(200_000)
    assert [response.response.topics[0].error for response in heard] == [ErrorCode.NONE]


def test_an_observer_is_driven_by_the_life_cycle() -> None:
    """A broker that is no voter passes deadlines to its own replica of the log."""
    outbox: list[Effect] = []
    requests = Requests(outbox)
    observer = RaftReplica(
        1, (CONTROLLER,), MetadataLog(), QuorumStateFile(), outbox=outbox, requests=requests, draw=seeded(1), now_us=0
    )
    ctx = BrokerContext(1, outbox, requests, MetadataImage(), BrokerStorage(), seeded(1))
    life = LifeCycle(ctx, observer, lambda *_: None, host="h", port=1, drives_raft=True)
    life.start(0)
    assert any(isinstance(effect, Send) and effect.to == CONTROLLER for effect in outbox), "it fetches"
    (fetch,) = [effect for effect in outbox if isinstance(effect, Send)]
    outbox.clear()
    requests.on_disconnect(CONTROLLER, fetch.channel, 1_000)
    assert life.deadline_us == observer.deadline_us < 2_000_000, "it waits a little before it asks again"
    life.on_deadline(life.deadline_us)
    assert any(isinstance(effect, Send) and effect.to == CONTROLLER for effect in outbox), "it fetches again"
