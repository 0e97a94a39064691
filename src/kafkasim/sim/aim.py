"""Who a fault hits: roles and names of a plan, resolved on a cluster at the moment when the fault happens.

Inputs:   a target of a plan, the message that triggered the fault, the cluster as it is.      Effects: none; node numbers and hosts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafkasim.core.model.cluster_messages import AlterPartitionRequest
from kafkasim.core.model.effects import Note
from kafkasim.core.model.ids import NO_NODE, TopicPartition
from kafkasim.errors import ConfigurationError
from kafkasim.sim.hosts import Host

if TYPE_CHECKING:
    from kafkasim.sim.cluster import SimulatedCluster
    from kafkasim.sim.plan import Plan


class Aim:
    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        #: Node -> when what a plan did to it is undone.
        self.hurt_until_us: dict[int, float] = {}

    def nodes(self, target: str, requester: int, server: int) -> list[int]:
        """Node numbers that a target means now; a topic means none."""
        cluster = self._cluster
        role, _, place = target.partition(":")
        if role == "broker":
            cluster.broker(int(place))
            return [int(place)]
        if role == "zone":
            return list(cluster.zone(place).ids)
        if role in ("server", "subject"):
            return _known(server)
        if role == "client":
            return [requester] if not place else self._client_nodes(place)
        if role == "coordinator":
            return _known(cluster.coordinator_of(place))
        if role in ("leader", "follower", "lagging"):
            return self._of_partition(role, partition_of(place))
        if role in ("controller", "controllers", "minority", "majority"):
            return self._voters(role)
        if role in ("any", "some"):
            return self._by_chance(int(place or 1))
        if role == "brokers":
            return cluster.broker_ids()
        if role == "clients":
            return [shell.node.node_id for shell in cluster.clients]
        assert role == "topic", target
        return []

    def hosts(self, target: str, requester: int) -> list[Host]:
        """The processes of the clients that a target means: by the name of the task or of the client, or by the message."""
        _, _, name = target.partition(":")
        hosts = {}
        for shell in self._cluster.clients:
            host = shell.host
            if host is not None and (name in (host.name, shell.name) if name else shell.node.node_id == requester):
                hosts[id(host)] = host
        return list(hosts.values())

    def runs_in_task(self, node: int) -> bool:
        """Is this a client that can be ended: not the handle's own, nor one of plain code outside every task?"""
        return any(
            shell.node.node_id == node and shell.host is not None and bool(shell.host.tasks)
            for shell in self._cluster.clients
        )

    def _of_partition(self, role: str, tp: TopicPartition) -> list[int]:
        state, _replica = look_at(self._cluster, tp)
        if state is None:
            return []
        if role == "leader":
            return _known(state.leader)
        if role == "lagging":
            running = [node for node in state.replicas if self._cluster.process(node).node is not None]
            return [node for node in running if node not in state.isr][:1]
        followers = [node for node in state.isr if node != state.leader]
        return sorted(followers, key=self._is_hurt)[:1]

    def _is_hurt(self, node: int) -> bool:
        return self.hurt_until_us.get(node, 0) > self._cluster.now_us

    def _voters(self, role: str) -> list[int]:
        active = active_controller(self._cluster)
        if role == "controller":
            return _known(active)
        voters = list(self._cluster.voters())
        if role == "controllers":
            return voters
        ordered = sorted(voters, key=lambda node: node != active)
        return ordered[: (len(voters) - 1) // 2 if role == "minority" else len(voters) // 2 + len(voters) % 2]

    def _by_chance(self, count: int) -> list[int]:
        cluster = self._cluster
        live = live_brokers(cluster)
        chosen: list[int] = []
        while live and len(chosen) < count:
            chosen.append(live.pop(cluster.choices.draw("fault.any", len(live))))
        return chosen

    def _client_nodes(self, name: str) -> list[int]:
        return [
            shell.node.node_id
            for shell in self._cluster.clients
            if shell.name == name or (shell.host is not None and shell.host.name == name)
        ]


def partition_of(place: str) -> TopicPartition:
    """``orders-0``, as plans write it."""
    topic, _, number = place.rpartition("-")
    return TopicPartition(topic, int(number))


def _known(node: int) -> list[int]:
    return [] if node < 0 else [node]


# --- what a cluster is like at a moment -----------------------------------------------------------------------------


def look_at(cluster: SimulatedCluster, tp: TopicPartition) -> tuple[Any, Any]:
    """A partition's state at the controller, and its leader's replica; None for what is not there."""
    image = cluster._controller_image()
    state = None if image is None else image.partition(tp)
    return state, None if state is None else cluster._leader_replica(state)


def subject_of(cluster: SimulatedCluster, cause: Any, requester: int, server: int) -> int:
    """The replica that an event is about. ``cause``: the request that is met, or a note of ``server``."""
    if isinstance(cause, AlterPartitionRequest):
        change = cause.partitions[0]
        return _entering_or_leaving(cluster, change.tp, [broker for broker, _ in change.new_isr])
    if isinstance(cause, Note):
        if isinstance(cause.subject, int):
            return cause.subject
        proposed = dict(cause.fields).get("isr")
        return server if proposed is None else _entering_or_leaving(cluster, cause.subject, list(proposed))
    return requester if requester in server_ids(cluster) else server


def _entering_or_leaving(cluster: SimulatedCluster, tp: TopicPartition, isr: list[int]) -> int:
    """Of a change that is done already: the last of the ISR, who joined it last."""
    state, _ = look_at(cluster, tp)
    known = [] if state is None else list(state.isr)
    changed = [node for node in isr if node not in known] or [node for node in known if node not in isr]
    return int((changed or isr or [NO_NODE])[-1])


def is_of_internal_topic(note: Note) -> bool:
    """Fifty partitions of committed offsets change their leader with every broker that goes."""
    return isinstance(note.subject, TopicPartition) and note.subject.topic.startswith("__")


def live_brokers(cluster: SimulatedCluster) -> list[int]:
    """Brokers that are registered and not fenced."""
    image = cluster._controller_image()
    return [] if image is None else [broker for broker, state in image.brokers.items() if not state.fenced]


def server_ids(cluster: SimulatedCluster) -> list[int]:
    """Brokers and controllers, running or not."""
    return list(cluster._servers)


def active_controller(cluster: SimulatedCluster) -> int:
    """The server whose controller is active; NO_NODE between two."""
    for node in cluster._live_nodes():
        if node.controller is not None and node.controller.active:
            return int(node.node_id)
    return NO_NODE


def check_places(cluster: SimulatedCluster, plan: Plan) -> None:
    """Raises ConfigurationError for brokers and racks that the cluster does not have."""
    for fault in plan:
        for target in (fault.target, fault.against):
            role, _, place = target.partition(":")
            try:
                if role == "broker":
                    cluster.broker(int(place))
                elif role == "zone":
                    cluster.zone(place)
            except KeyError as problem:
                raise ConfigurationError(f"fault {fault}: {problem.args[0]}") from None
