"""A simulated cluster: its server processes on a network in virtual time, and the hands that harm and heal them.

Rule 1:   a process is made from its storage alone; crash, power loss and orderly shutdown differ in what they leave there.
Rule 2:   what the handle tells of partitions and replicas is white-box truth; what it does to topics and groups goes through an
          admin client, as anybody's does.
Beside:   ``kafkasim.handle`` adds the client facade, ``install`` and ``check`` to this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kafkasim.core.group.partitioning import coordinator_partition
from kafkasim.core.model.admin_messages import CreateTopicsRequest, CreateTopicsResponse, NewTopicSpec
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.effects import Note
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import CONSUMER_OFFSETS_TOPIC, NO_LEADER, NO_NODE, NodeId, TopicPartition
from kafkasim.core.model.meters import BrokerTopicMeters
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.node.server import NodeStorage, ServerIdentity, ServerNode
from kafkasim.errors import ConfigurationError
from kafkasim.sim import runtime
from kafkasim.sim.choices import Choices
from kafkasim.sim.clock import EPOCH_US
from kafkasim.sim.disk import Disk, Disks
from kafkasim.sim.drive import ClientShell, ServerShell
from kafkasim.sim.hosts import Host
from kafkasim.sim.links import Link
from kafkasim.sim.losses import note_losses, remember_marks
from kafkasim.sim.network_faults import NetworkFaults
from kafkasim.sim.server_arguments import config_text, identities, protections_of, static_config
from kafkasim.sim.world import World

if TYPE_CHECKING:
    from kafkasim.core.model.views import GroupDescription, PartitionDescription
    from kafkasim.sim.injection import Injection, Injections
    from kafkasim.sim.plan import Fault, Plan

_START_TIMEOUT_US = 120_000_000
_ASK_TIMEOUT_US = 60_000_000

_clusters_made = 0


class ServerProcess:
    """One server: what survives on its disk, and the process that runs on it, if one does.

    ``state``: "running", "paused", "stopping", "stopped", "crashed" or "off" (no power).
    """

    def __init__(self, cluster: SimulatedCluster, identity: ServerIdentity) -> None:
        self.identity = identity
        self.storage = NodeStorage()
        self.state = "stopped"
        #: Counts go on when a new process starts; None where nothing is recorded.
        self.meters = BrokerTopicMeters() if cluster.records_history else None
        self._cluster = cluster
        #: High watermarks that processes knew when they ended, beyond what their checkpoints say.
        self.last_marks: dict[tuple[str, int], int] = {}
        self._shell: ServerShell | None = None
        self.disk = Disk(cluster, self)

        #: How far its wall clock is from the right time.
        self.clock_offset_us = 0

    @property
    def id(self) -> NodeId:
        return self.identity.node_id

    @property
    def node(self) -> ServerNode | None:
        """The live node, for white-box views; None while no process runs."""
        return None if self._shell is None else self._shell.node  # type: ignore[return-value]

    def start(self) -> None:
        if self._shell is not None:
            return
        cluster = self._cluster
        if not self.disk.lets_start():
            self.state = "crashed"
            cluster._on_note(self.id, Note("stopped", self.id, (("reason", "no log directory can be read"),)))
            return
        node = ServerNode(
            self.identity,
            self.storage,
            cluster.choices.draw,
            wall_offset_us=EPOCH_US + self.clock_offset_us,
            now_us=cluster.now_us,
            meters=self.meters,
        )

        def halt(reason: str) -> None:
            if self._shell is shell:  # else the process that asked for it has died another way meanwhile
                self._on_halt(reason)

        shell = self._shell = ServerShell(node, cluster.kernel, cluster.fabric, cluster._on_note, halt)
        self.state = "running"
        self.disk.attached(shell)
        shell.start()

    def crash(self) -> None:
        """SIGKILL: the process is gone, the page cache stays."""
        self._end("crashed")

    def power_loss(self) -> None:
        """The machine is gone: what was not flushed is lost, and nobody is left to reset its connections.

        Of a process that died before, the page cache goes now; one that stopped in order had flushed everything.
        """
        note_losses(self._cluster, self, "lost power", self._lose_power)

    def _lose_power(self) -> None:
        if self._shell is not None:
            self._end("off", silent=True)
        elif self.state == "crashed":
            self.state = "off"
        self.storage.power_loss()

    def shutdown(self) -> None:
        """SIGTERM: a controlled shutdown; the process ends when the controller lets it go."""
        if self._shell is not None and self.state in ("running", "paused"):
            self.resume()
            self.state = "stopping"
            self._shell.node.begin_shutdown(self._cluster.now_us)  # type: ignore[attr-defined]
            self._shell.settle()

    def pause(self) -> None:
        """SIGSTOP."""
        if self._shell is not None and self.state == "running":
            self.state = "paused"
            self._shell.pause()

    def resume(self) -> None:
        """SIGCONT."""
        if self._shell is not None and self.state == "paused":
            self.state = "running"
            self._shell.resume()
            self.disk.resumed()

    def move_clock(self, by_us: int) -> None:
        """The machine's wall clock jumps; timers, which count from the start of the process, do not."""
        self.clock_offset_us += by_us
        if self._shell is not None:
            self._shell.node.set_clock(EPOCH_US + self.clock_offset_us, self._cluster.now_us)  # type: ignore[attr-defined]
            self._shell.settle()

    def scrap(self) -> None:
        """The cluster is closed: the process ends, and nothing is kept of its disk."""
        self.crash()
        self.storage = NodeStorage()
        self.disk.scrap()

    def _on_halt(self, reason: str) -> None:
        self._cluster._on_note(self.id, Note("stopped", self.id, (("reason", reason),)))
        self._end("stopped")

    def halt(self, reason: str) -> None:
        """The process ends by itself, without good-bye."""
        self._cluster._on_note(self.id, Note("stopped", self.id, (("reason", reason),)))
        self._end("crashed")

    def _end(self, state: str, *, silent: bool = False) -> None:
        if self._shell is not None:
            remember_marks(self)
            shell, self._shell = self._shell, None
            shell.stop(silent=silent)
            self.state = state


class Brokers:
    """One broker, or all of a rack: every fault of a process, done to each."""

    def __init__(self, cluster: SimulatedCluster, processes: Sequence[ServerProcess]) -> None:
        self._cluster = cluster
        self.processes = tuple(processes)

    def __repr__(self) -> str:
        return f"<broker {', '.join(str(process.id) for process in self.processes)}: {self.state}>"

    @property
    def ids(self) -> tuple[NodeId, ...]:
        return tuple(process.id for process in self.processes)

    @property
    def state(self) -> str:
        """The state of the process, or of each, comma-separated, where they differ."""
        return ", ".join(dict.fromkeys(process.state for process in self.processes))

    @property
    def disk(self) -> Disks:
        """The disk: ``slow``, ``fill``, ``fail``, ``heal``, ``replace``."""
        return Disks(self._cluster, self.processes)

    def crash(self) -> None:
        """Kill the process (SIGKILL). Its log keeps what was written, flushed or not."""
        self._each("crash")

    def power_loss(self) -> None:
        """Cut the power: only what was flushed is left."""
        self._each("power_loss")

    def shutdown(self) -> None:
        """Stop in order (SIGTERM): leaderships move first."""
        self._each("shutdown")

    def start(self) -> None:
        """Start a new process on what the old one left; nothing if one runs."""
        self._each("start")

    def pause(self) -> None:
        """Freeze the process (SIGSTOP); its connections stay open."""
        self._each("pause")

    def resume(self) -> None:
        self._each("resume")

    def _each(self, method: str) -> None:
        for process in self.processes:
            self._cluster.note_fault(process.id, method)
            getattr(process, method)()


class SimulatedCluster(World):
    """Brokers and controllers in virtual time. See ``kafkasim.Cluster`` for the parameters."""

    def __init__(
        self,
        brokers: int = 3,
        *,
        controllers: int | Sequence[int] | None = None,
        seed: int = 0,
        racks: Sequence[str | None] | None = None,
        config: Mapping[str, object] | None = None,
        features: Mapping[str, object] | None = None,
        link: Link | None = None,
        history: bool = True,
        keep_trace: int = 0,
        tape: Any = None,
        record: bool = False,
        choices: Choices | None = None,
    ) -> None:
        super().__init__(
            seed=seed, tape=tape, record=record, link=link, history=history, keep_trace=keep_trace, choices=choices
        )
        global _clusters_made
        _clusters_made += 1
        self.cluster_name = f"kafkasim-{_clusters_made}"
        static = static_config(brokers, config)
        protections = protections_of(features)
        self._processes = identities(brokers, controllers, racks, static, self.cluster_name, protections)
        self._servers = {identity.node_id: ServerProcess(self, identity) for identity in self._processes}
        self._broker_count = len(self.broker_ids())
        self._admin_shell: ClientShell | None = None
        self.network = NetworkFaults(self)
        self._injections: Injections | None = None
        self._closed = False
        runtime.opened(self)
        for server in self._servers.values():
            server.start()
        self._wait(self._all_brokers_unfenced, "the brokers to register")

    # --- addresses -------------------------------------------------------------------------------------------------

    @property
    def bootstrap_servers(self) -> str:
        """Comma-separated addresses of all brokers; they reach this cluster from anywhere in the process."""
        return ",".join(f"{identity.host}:{identity.port}" for identity in self._processes if identity.is_broker)

    def resolve(self, bootstrap_servers: str) -> tuple[int, ...]:
        own = {f"{identity.host}:{identity.port}": identity.node_id for identity in self._processes}
        names = [address.strip().rsplit("://", 1)[-1] for address in bootstrap_servers.split(",") if address.strip()]
        return tuple(own.get(name, NO_NODE) for name in names)

    def any_bootstrap(self) -> int:
        return next(identity.node_id for identity in self._processes if identity.is_broker)

    def broker_ids(self) -> list[int]:
        return [identity.node_id for identity in self._processes if identity.is_broker]

    def voters(self) -> tuple[int, ...]:
        """The servers that vote in the controller quorum."""
        return self._processes[0].voters

    def node_ids(self) -> list[int]:
        """Every server, and every client that exists now."""
        return [*self._servers, *(shell.node.node_id for shell in self.clients)]

    def is_own_client(self, node: int) -> bool:
        """Is this the admin client by which the handle itself creates topics and asks for groups?"""
        return self._admin_shell is not None and self._admin_shell.node.node_id == node

    def client_nodes(self, host: Host) -> list[int]:
        """The clients that live on ``host`` now."""
        return [shell.node.node_id for shell in self.clients if shell.host is host]

    # --- processes -------------------------------------------------------------------------------------------------

    def broker(self, broker_id: int) -> Brokers:
        """The server with this id (a controller-only one too)."""
        if broker_id not in self._servers:
            raise KeyError(f"no broker {broker_id}: this cluster has {list(self._servers)}")
        return Brokers(self, [self._servers[broker_id]])

    def process(self, node_id: int) -> ServerProcess:
        """The server process itself, for white-box views."""
        return self._servers[node_id]

    def zone(self, rack: str) -> Brokers:
        """All brokers of a rack."""
        chosen = [server for server in self._servers.values() if server.identity.rack == rack]
        if not chosen:
            racks = sorted({str(identity.rack) for identity in self._processes if identity.rack})
            raise KeyError(f"no broker in rack {rack!r}: this cluster has {racks or 'no racks'}")
        return Brokers(self, chosen)

    def note_fault(self, node_id: NodeId, what: str) -> None:
        """Write a fault into the trace and the history."""
        self._on_note(node_id, Note(what, node_id))

    # --- time ------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the cluster was made."""
        return self.kernel.now_us / 1_000_000

    def run_for(self, seconds: float) -> None:
        """Let that many virtual seconds pass."""
        self.scheduler.sleep_us(round(seconds * 1_000_000))

    def run_until(self, predicate: Callable[[], Any], timeout: float = 60.0) -> None:
        """Let virtual time pass until ``predicate()`` is true; TimeoutError after ``timeout`` virtual seconds."""
        if not self.wait(predicate, round(timeout * 1_000_000)):
            raise TimeoutError(
                f"the awaited condition did not come true in {timeout} virtual seconds (now {self.now:.3f} s, seed {self.seed})"
            )

    def inject(self, plan: Plan | Fault) -> Injection:
        """Let a fault plan loose (``kafkasim.faults``); what is returned tells what fired and what never did.

        Raises ConfigurationError for a broker or rack that is not there.
        """
        from kafkasim.sim.plan import Plan

        return self.injections.add(Plan.of(plan))

    @property
    def injections(self) -> Injections:
        """The plans at work."""
        if self._injections is None:
            from kafkasim.sim.injection import Injections

            self._injections = Injections(self)
        return self._injections

    def at(self, when: float, function: Callable[..., Any], *args: Any) -> None:
        """Call ``function`` at the virtual time ``when`` (at once if that is past)."""
        self.kernel.call_at(max(round(when * 1_000_000), self.kernel.now_us), function, *args)

    # --- topics and groups -----------------------------------------------------------------------------------------

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication_factor: int | None = None,
        config: Mapping[str, object] | None = None,
    ) -> None:
        """Create a topic and wait until every live broker knows its leaders; by default three replicas, or one a broker."""
        factor = replication_factor or min(3, len(self.broker_ids()))
        configs = tuple((key, config_text(value)) for key, value in (config or {}).items())
        request = CreateTopicsRequest((NewTopicSpec(name, partitions, factor, configs=configs),))
        was_there = name in self.topics()
        response: CreateTopicsResponse = self.ask(request, "controller")
        created = response.topics[0]
        # Asked again after a fault had swallowed the answer, the controller says that it is there: it is this call's.
        is_ours = created.error is ErrorCode.TOPIC_ALREADY_EXISTS and not was_there
        if created.error is not ErrorCode.NONE and not is_ours:
            raise ConfigurationError(
                f"topic {name!r} was not created: {created.error.name}"
                + (f": {created.error_message}" if created.error_message else "")
            )
        self._wait(lambda: self._known_everywhere(name), f"topic {name} to be known everywhere")

    def ask(self, request: Any, target: Any = "any", timeout: float = 60.0) -> Any:
        """Send an admin request as a client of the cluster and return its response."""
        shell = self._admin()
        operation = shell.call(shell.engine.call, request, target, round(timeout * 1_000_000))
        self._wait(lambda: operation.done, f"an answer to {type(request).__name__}", None)
        if operation.error is not ErrorCode.NONE:
            raise TimeoutError(f"{type(request).__name__}: {operation.error.name} {operation.error_text}".strip())
        return operation.result

    def describe_topic(self, name: str) -> list[PartitionDescription]:
        """The topic's partitions in order, as the active controller and each leader know them."""
        image = self._controller_image()
        topic = image.topics.get(name) if image is not None else None
        if topic is None:
            raise KeyError(f"no topic {name!r}: this cluster has {self.topics()}")
        return [self._describe_partition(state) for state in topic.partitions]

    def topics(self) -> list[str]:
        """Names of all topics, internal ones too."""
        image = self._controller_image()
        return [] if image is None else list(image.topics)

    def _describe_partition(self, state: Any) -> PartitionDescription:
        replica = self._leader_replica(state)
        from kafkasim.core.model.views import PartitionDescription

        return PartitionDescription(
            partition=state.tp.partition,
            leader=state.leader,
            leader_epoch=state.leader_epoch,
            replicas=list(state.replicas),
            isr=list(state.isr),
            elr=list(state.elr),
            last_known_elr=list(state.last_known_elr),
            high_watermark=None if replica is None else replica.high_watermark,
            log_start_offset=None if replica is None else replica.log_start,
            log_end_offset=None if replica is None else replica.log_end,
        )

    def _leader_replica(self, state: Any) -> Any:
        """The replica on the broker that the controller names as leader; None if that is not there, or not leading yet."""
        server = self._servers.get(state.leader)
        if server is None or server.node is None or server.node.broker is None:
            return None
        replica = server.node.broker.data_plane.replica(state.tp)
        return replica if replica is not None and replica.is_leader else None

    def _serves(self, broker: NodeId) -> bool:
        """Is its process registered? One that began anew serves nobody before: the controller takes it for the process before."""
        node = self._servers[broker].node if broker in self._servers else None
        return node is not None and node.broker is not None and node.broker.life_cycle.registered

    def describe_group(self, group_id: str) -> GroupDescription:
        """The group as its coordinator describes it."""
        from kafkasim.sim.described_groups import described

        shell = self._admin()
        operation = shell.call(shell.engine.describe_group, group_id, _ASK_TIMEOUT_US)
        self._wait(lambda: operation.done, f"a description of group {group_id!r}", None)
        if operation.error is not ErrorCode.NONE:
            raise TimeoutError(f"group {group_id!r}: {operation.error.name} {operation.error_text}".strip())
        return described(operation.result, self.coordinator_of(group_id))

    def coordinator_of(self, group_id: str) -> int:
        """The broker that coordinates a group now; -1 if there is none."""
        image = self._controller_image()
        topic = None if image is None else image.topics.get(CONSUMER_OFFSETS_TOPIC)
        if topic is None:
            return NO_NODE
        return int(topic.partitions[coordinator_partition(group_id, len(topic.partitions))].leader)

    def wait_for_assignment(self, group_id: str, members: int, timeout: float = 30.0) -> None:
        """Wait until the group is stable with that many members and its partitions are given out."""

        def is_assigned() -> bool:
            group = self.describe_group(group_id)
            return (
                group.state == "Stable"
                and len(group.members) == members
                and (members == 0 or any(member.assignment for member in group.members))
            )

        deadline = self.now + timeout
        while not is_assigned():
            if self.now >= deadline:
                raise TimeoutError(
                    f"group {group_id!r} is {self.describe_group(group_id)} after {timeout} virtual seconds, "
                    f"not stable with {members} members"
                )
            self.run_for(0.05)

    def log(self, tp: TopicPartition, committed: bool = True) -> list[RecordBatch]:
        """The leader's batches below the high watermark, or those above it; empty where no live broker leads."""
        image = self._controller_image()
        state = None if image is None else image.partition(tp)
        replica = None if state is None else self._leader_replica(state)
        if state is None or replica is None:
            return []
        node = self._servers[state.leader].node
        assert node is not None
        assert node.broker is not None
        end, batches = replica.high_watermark, node.broker.data_plane.read_log(tp)
        return [batch for batch in batches if (batch.base_offset < end) is committed]

    # --- ending ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every task, client and process; the cluster's addresses reach nothing any more."""
        if self._closed:
            return
        self._closed = True
        runtime.closed(self)
        self.close_world()
        for server in self._servers.values():
            server.scrap()
        self.kernel.clear()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _admin(self) -> ClientShell:
        if self._admin_shell is None:
            config = ClientConfig.parse(
                "admin", {"bootstrap.servers": self.bootstrap_servers, "client.id": "kafkasim-handle"}
            )
            self._admin_shell = self.open_client("admin", config, host=Host("kafkasim-handle"))
        return self._admin_shell

    def _wait(self, predicate: Callable[[], Any], what: str, timeout_us: int | None = _START_TIMEOUT_US) -> None:
        if not self.wait(predicate, timeout_us):
            raise TimeoutError(f"waited for {what} in vain (now {self.now:.3f} s, seed {self.seed})")

    def _live_nodes(self) -> list[ServerNode]:
        return [server.node for server in self._servers.values() if server.node is not None]

    def _controller_image(self) -> Any:
        """The active controller's image, or (none being active) the most advanced broker's."""
        for node in self._live_nodes():
            if node.controller is not None and node.controller.active:
                return node.controller.image
        images = [node.broker.ctx.image for node in self._live_nodes() if node.broker is not None]
        return max(images, key=lambda image: image.next_offset, default=None)

    def _all_brokers_unfenced(self) -> bool:
        """Every live broker knows every broker as unfenced. Asked after each event of the start, so it gives up early."""
        count = self._broker_count
        for server in self._servers.values():
            node = server.node
            if node is not None and node.broker is not None:
                brokers = node.broker.ctx.image.brokers
                if len(brokers) < count:
                    return False
                for state in brokers.values():
                    if state.fenced:
                        return False
        return True

    def _known_everywhere(self, name: str) -> bool:
        for node in self._live_nodes():
            if node.broker is None:
                continue
            topic = node.broker.ctx.image.topics.get(name)
            if topic is None or not topic.partitions or any(p.leader == NO_LEADER for p in topic.partitions):
                return False
        return True
