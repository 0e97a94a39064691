"""A server process: a broker, a controller, or both in one (combined roles).

Mirrors:  kafka.server.KafkaRaftServer, SharedServer.
Inputs:   those of every node (docs/contract.md), and ``begin_shutdown``.     Effects: all.
Rule 1:   one quorum replica serves both halves: the controller drives it, the broker reads its committed batches; a broker that
          is no voter has one of its own, which only observes.
Rule 2:   after any input that may have reached the quorum, the controller half settles and the broker half catches up, if the quorum
          replica has news: most of what replicas say only confirms.
Rule 3:   deadlines are lower bounds: an input lowers them by what it touched, and one that comes too early only looks again. What passes
          between quorum replicas touches no component of the broker unless metadata were published.
"""

from __future__ import annotations

from typing import Any

from kafkasim.core.client.requests import Requests
from kafkasim.core.controller.image import MetadataImage
from kafkasim.core.controller.snapshot import compact
from kafkasim.core.model.cluster_messages import QuorumFetchResponse
from kafkasim.core.model.effects import NEVER_US, REPLICATION_CHANNEL, Effect, Halt
from kafkasim.core.model.ids import Draw, NodeId
from kafkasim.core.model.message import message
from kafkasim.core.model.meters import BrokerTopicMeters
from kafkasim.core.model.protections import ALL_PROTECTIONS, Protections
from kafkasim.core.node.broker import BrokerNode
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.controller import ControllerNode
from kafkasim.core.node.snapshots import SnapshotGenerator
from kafkasim.core.node.storage import BrokerStorage
from kafkasim.core.quorum.log import MetadataLog, QuorumStateFile
from kafkasim.core.quorum.raft import RaftReplica


@message
class ServerIdentity:
    """What a server's properties file says of it."""

    node_id: NodeId
    host: str
    port: int
    rack: str | None
    is_broker: bool
    voters: tuple[NodeId, ...]
    cluster_id: str
    static_config: dict[str, str]
    protections: Protections = ALL_PROTECTIONS


class NodeStorage:
    """The disks of one server. The metadata log is flushed before it counts, so a loss of power takes nothing from it."""

    def __init__(self) -> None:
        self.broker = BrokerStorage()
        self.metadata_log = MetadataLog(compact)
        self.quorum_state = QuorumStateFile()

    def power_loss(self) -> None:
        self.broker.power_loss()

    def replace(self) -> None:
        """New, empty disks."""
        self.broker.replace()
        self.metadata_log = MetadataLog()
        self.quorum_state = QuorumStateFile()


class ServerNode:
    """One incarnation of a server, made from its storage."""

    def __init__(
        self,
        identity: ServerIdentity,
        storage: NodeStorage,
        draw: Draw,
        *,
        wall_offset_us: int,
        now_us: int,
        meters: BrokerTopicMeters | None = None,
    ) -> None:
        """``meters``: where the broker half counts what goes in and out; None if nobody wants to know."""
        self.node_id = identity.node_id
        self.outbox: list[Effect] = []
        self._requests = Requests(self.outbox)
        self.raft = RaftReplica(
            identity.node_id,
            identity.voters,
            storage.metadata_log,
            storage.quorum_state,
            outbox=self.outbox,
            requests=self._requests,
            draw=draw,
            static_config=identity.static_config,
            now_us=now_us,
            votes_in_advance=identity.protections.pre_vote,
        )
        self._snapshots = SnapshotGenerator(storage.metadata_log, identity.static_config, now_us)
        self.controller: ControllerNode | None = None
        self.broker: BrokerNode | None = None
        if identity.node_id in identity.voters:
            self.controller = ControllerNode(
                identity.node_id,
                self.raft,
                self.outbox,
                draw,
                identity.static_config,
                protections=identity.protections,
            )
        if identity.is_broker:
            ctx = BrokerContext(
                identity.node_id,
                self.outbox,
                self._requests,
                MetadataImage(identity.static_config, identity.node_id),
                storage.broker,
                draw,
                rack=identity.rack,
                wall_offset_us=wall_offset_us,
                meters=meters,
                protections=identity.protections,
            )
            self.broker = self._new_broker(identity, ctx, now_us)
            self.broker.life_cycle.start(now_us)
        self._give_up_us = NEVER_US
        #: Lower bounds (rule 3): of all there is, and of the broker half alone.
        self.deadline_us = 0
        self._broker_us = 0
        self._settle(now_us)

    def _new_broker(self, identity: ServerIdentity, ctx: BrokerContext, now_us: int) -> BrokerNode:
        return BrokerNode(
            ctx,
            self.raft,
            cluster_id=identity.cluster_id,
            host=identity.host,
            port=identity.port,
            drives_raft=self.controller is None,
            on_stopped=self._stop_controller,
            now_us=now_us,
        )

    def set_clock(self, wall_offset_us: int, now_us: int) -> None:
        """The machine's wall clock was set. Timers count from the start of the process, so they do not move."""
        if self.broker is not None:
            self.broker.ctx.wall_offset_us = wall_offset_us
            self.broker.clock_set(now_us)
            self._broker_us = self.broker.deadline_us
            self.deadline_us = self._earliest_deadline_us()

    def _lower_deadline(self, broker_us: int) -> None:
        """The broker half alone was touched: ``broker_us`` is the earliest of what it may have now."""
        if broker_us < self._broker_us:
            self._broker_us = broker_us
        requests_us = self._requests.deadline_us
        earliest_us = min(broker_us, requests_us)
        if earliest_us < self.deadline_us:
            self.deadline_us = earliest_us

    def _earliest_deadline_us(self) -> int:
        earliest_us = self._broker_us
        other_us = self._requests.deadline_us
        if other_us < earliest_us:
            earliest_us = other_us
        if self.controller is not None:
            other_us = self.controller.deadline_us
            if other_us < earliest_us:
                earliest_us = other_us
        return min(self._give_up_us, earliest_us)

    # --- inputs ----------------------------------------------------------------------------------------------------

    def on_request(self, connection_id: int, correlation_id: int, peer: NodeId, request: Any, now_us: int) -> None:
        call = Call(connection_id, correlation_id, peer, request)
        broker = self.broker
        if broker is not None and type(request) not in _CLUSTER_REQUESTS:
            self._lower_deadline(broker.on_request(call, now_us))
        elif type(request) in _QUORUM_REQUESTS:
            self.raft.on_request(call, now_us)
            self._settle_quorum(now_us)
        else:
            assert self.controller is not None, request
            self.controller.on_request(call, now_us)
            self._settle_quorum(now_us)

    def on_response(self, peer: NodeId, channel: int, correlation_id: int, response: Any, now_us: int) -> None:
        self._requests.on_response(correlation_id, response, now_us)
        if type(response) is QuorumFetchResponse:
            self._settle_quorum(now_us)
        elif channel == REPLICATION_CHANNEL and self.broker is not None:  # It cannot have reached the quorum.
            self._lower_deadline(self.broker.replicas_deadline_us())
        else:
            self._settle(now_us)

    def on_disconnect(self, peer: NodeId, channel: int, now_us: int) -> None:
        self._requests.on_disconnect(peer, channel, now_us)
        self._settle(now_us)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        if self.controller is not None:
            self.controller.on_closed(connection_id, now_us)
        else:
            self.raft.on_closed(connection_id, now_us)
        if self.broker is not None:
            self.broker.on_closed(connection_id, now_us)

    def on_deadline(self, now_us: int) -> None:
        self._requests.on_deadline(now_us)
        if self.controller is not None and self.controller.deadline_us <= now_us:
            self.controller.on_deadline(now_us)
        if self.broker is not None:
            self.broker.on_deadline(now_us)
        if self._give_up_us <= now_us:
            self._halt()
        self._settle(now_us)

    def begin_shutdown(self, now_us: int) -> None:
        """SIGTERM. The broker half stops first, then the controller half hands over; ``Halt`` ends the process."""
        if self.broker is not None:
            self.broker.begin_shutdown(now_us)
        else:
            self._stop_controller(now_us)
        self._settle(now_us)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _stop_controller(self, now_us: int) -> None:
        """The broker half has gone; the controller half hands its leadership over and is waited for."""
        self._give_up_us = now_us
        if self.controller is not None:
            self.controller.shutdown(now_us)
            self._give_up_us = now_us + _RESIGNATION_TIMEOUT_US

    def _settle(self, now_us: int) -> None:
        """Any component may have another deadline now."""
        self._take_in_news(now_us)
        self._broker_us = NEVER_US if self.broker is None else self.broker.deadline_us
        self.deadline_us = self._earliest_deadline_us()

    def _settle_quorum(self, now_us: int) -> None:
        """The quorum or the controller was reached; components of the broker only if metadata were published."""
        published = self._take_in_news(now_us)
        broker = self.broker
        if broker is not None:
            deadline_us = broker.deadline_us if published else broker.life_cycle.deadline_us
            if published or deadline_us < self._broker_us:
                self._broker_us = deadline_us
        self.deadline_us = self._earliest_deadline_us()

    def _take_in_news(self, now_us: int) -> bool:
        """Pass on what the quorum replica has learned, to the controller half first. True if metadata were published to the broker."""
        raft, controller, broker = self.raft, self.controller, self.broker
        has_news = raft.has_news
        # Before it is taken in: a controller that becomes active writes, which may be committed at once.
        raft.has_news = False
        if has_news and controller is not None:
            controller.settle(now_us)
        if self._give_up_us != NEVER_US and controller is not None and controller.is_shut_down:
            self._halt()
        published = has_news and broker is not None and broker.life_cycle.settle(now_us)
        self._snapshots.settle(raft.high_watermark, now_us)
        return published

    def _halt(self) -> None:
        self._give_up_us = NEVER_US
        self.outbox.append(Halt("shutdown"))


_CLUSTER_REQUESTS = frozenset(ControllerNode.REQUESTS)
_QUORUM_REQUESTS = frozenset(RaftReplica.REQUESTS)
#: How long a resigned leader waits for a successor before it goes anyway.
_RESIGNATION_TIMEOUT_US = 5_000_000
