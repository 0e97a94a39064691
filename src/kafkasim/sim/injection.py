"""A fault plan at work on a cluster: it waits for each fault's moment, does it, and undoes it in time.

Inputs:   every message on the wire, every note of a server, the clock.      Effects: the faults of the cluster's own handle.
Rule 1:   a fault happens in an event of its own, right after the moment that triggers it; a process that dies of it has not passed on the
          message at which it dies.
Rule 2:   each fault fires once. What never fired is kept, to be told.
Rule 3:   a fault that waits for the one before it is armed in the event in which that one happens.
Rule 4:   without a plan nothing watches, and a plan of times alone does not watch either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from kafkasim.core.model.ids import NO_NODE, TopicPartition
from kafkasim.errors import ConfigurationError
from kafkasim.sim.kernel import Timer
from kafkasim.sim.plan import Condition, Fault, Plan
from kafkasim.sim.wire_events import api_name

if TYPE_CHECKING:
    from kafkasim.sim.cluster import Brokers, SimulatedCluster

#: Faults after which a server passes nothing on.
_DEADLY = ("crash", "power_loss")
_STARTS_AGAIN = ("crash", "power_loss", "shutdown")
_OF_DISKS = ("disk_slow", "disk_full", "disk_fail")


@attrs.frozen
class Fired:
    """A fault that happened: when, and to which nodes or clients."""

    fault: Fault
    at_s: float
    hit: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.at_s:.6f} s: {self.fault} hit {', '.join(self.hit) or 'nobody'}"


@attrs.define(slots=True, eq=False)
class _Armed:
    fault: Fault
    left: int
    condition: Condition | None


class Injection:
    """What became of a plan. ``fired`` in order of time; ``unfired`` in the plan's order."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan) -> None:
        self.plan = plan
        self.fired: list[Fired] = []
        self._cluster = cluster
        self._waiting: list[_Armed] = []
        self._timers: list[Timer] = []
        self._done: set[int] = set()
        self._undo: list[Callable[[], None]] = []
        self._is_healed = False
        for index, fault in enumerate(plan):
            if index == 0 or not fault.then:
                self._arm(fault)

    @property
    def unfired(self) -> list[Fault]:
        """Planned, and its moment has not come (yet)."""
        return [fault for index, fault in enumerate(self.plan) if index not in self._done]

    def require_fired(self) -> None:
        """Raise AssertionError that names what has not happened: a test of a fault that never comes tests nothing."""
        if self.unfired:
            raise AssertionError("planned faults never happened:\n" + "\n".join(f"  {fault}" for fault in self.unfired))

    def heal(self) -> None:
        """Let nothing more happen, undo what is still broken: processes run, the network is whole."""
        self._is_healed = True
        self._waiting.clear()
        for timer in self._timers:
            timer.cancel()
        while self._undo:
            self._undo.pop()()

    def __str__(self) -> str:
        lines = [str(fired) for fired in self.fired]
        return "\n".join([*lines, *(f"never: {fault}" for fault in self.unfired)]) or "no faults"

    # --- triggers --------------------------------------------------------------------------------------------------

    def _arm(self, fault: Fault) -> None:
        if fault.at_s is not None:
            delay_us = round(fault.at_s * 1_000_000)
            self._timers.append(self._cluster.kernel.call_after(delay_us, self._fire, fault, NO_NODE, NO_NODE, None))
            return
        condition = None if fault.when is None else Condition.parse(fault.when)
        self._waiting.append(_Armed(fault, fault.nth, condition))

    @property
    def is_watching(self) -> bool:
        return bool(self._waiting)

    @property
    def will_watch(self) -> bool:
        """Is there anything in the plan but times?"""
        return any(fault.at_s is None for fault in self.plan)

    def on_message(self, stage: str, requester: int, server: int, request: Any) -> bool:
        """True: the process that would pass this message on dies first."""
        event = f"{api_name(request)}.{stage}"
        is_lost = False
        for armed in list(self._waiting):
            fault = armed.fault
            if armed.condition is not None:
                if self._holds(armed.condition):
                    self._trigger(armed, requester, server, request)
            elif fault.on == event:
                armed.left -= 1
                if armed.left == 0:
                    is_lost |= self._trigger(armed, requester, server, request, stage)
        return is_lost

    def on_note(self, node_id: int, kind: str) -> None:
        for armed in list(self._waiting):
            if armed.fault.on == f"note:{kind}":
                armed.left -= 1
                if armed.left == 0:
                    self._trigger(armed, NO_NODE, node_id, None)

    def _trigger(self, armed: _Armed, requester: int, server: int, request: Any, stage: str = "") -> bool:
        self._waiting.remove(armed)
        fault = armed.fault
        if fault.what == "lose_response":
            self._cluster.fabric.lose_response(lambda src, dst, asked, response: asked is request)
            self._note(fault, (f"node {server}",))
            return False
        self._cluster.kernel.call_after(0, self._fire, fault, requester, server, request)
        if fault.what in _DEADLY and stage in ("received", "answered"):
            return server in self._targets(fault, requester, server)
        if fault.what in _DEADLY or fault.what == "kill":
            return stage in ("sent", "arrived") and requester in self._targets(fault, requester, server)
        return False

    def _holds(self, condition: Condition) -> bool:
        value = self._value(condition)
        return value is not None and condition.holds(value)

    def _value(self, condition: Condition) -> int | None:
        if condition.subject == "live":
            return len(live_brokers(self._cluster))
        state, replica = look_at(self._cluster, partition_of(condition.place))
        if state is None:
            return None
        if condition.subject == "isr":
            return len(state.isr)
        if condition.subject == "elr":
            return len(state.elr)
        if replica is None:
            return None
        return int(replica.log_end if condition.subject == "end" else replica.log_end - replica.high_watermark)

    # --- targets ---------------------------------------------------------------------------------------------------

    def _targets(self, fault: Fault, requester: int, server: int) -> list[int]:
        """Node numbers that the fault's target means now."""
        return self._nodes(fault.target, requester, server)

    def _nodes(self, target: str, requester: int, server: int) -> list[int]:
        cluster = self._cluster
        role, _, place = target.partition(":")
        if role == "broker":
            cluster.broker(int(place))
            return [int(place)]
        if role == "zone":
            return list(cluster.zone(place).ids)
        if role == "server":
            return [server]
        if role == "client":
            return [requester] if not place else self._client_nodes(place)
        if role == "controller":
            return _known(active_controller(cluster))
        if role == "coordinator":
            return _known(cluster.coordinator_of(place))
        if role == "any":
            live = live_brokers(cluster)
            return [live[cluster.choices.draw("fault.any", len(live))]] if live else []
        assert role in ("leader", "follower"), target
        state, _replica = look_at(cluster, partition_of(place))
        if state is None:
            return []
        if role == "leader":
            return _known(state.leader)
        return [node for node in state.isr if node != state.leader][:1]

    def _client_nodes(self, name: str) -> list[int]:
        cluster = self._cluster
        return [
            shell.node.node_id
            for shell in cluster.clients
            if shell.name == name or (shell.host is not None and shell.host.name == name)
        ]

    # --- faults ----------------------------------------------------------------------------------------------------

    def _fire(self, fault: Fault, requester: int, server: int, request: Any) -> None:
        if fault.what in ("kill", "stop"):
            hit = self._end_clients(fault, requester)
        else:
            nodes = self._targets(fault, requester, server)
            servers = [node for node in nodes if node in server_ids(self._cluster)]
            hit = tuple(f"node {node}" for node in nodes)
            if fault.what in ("crash", "power_loss", "shutdown", "pause"):
                hit = tuple(f"broker {node}" for node in servers)
                self._harm(fault, servers)
            elif fault.what in _OF_DISKS:
                hit = tuple(f"broker {node}" for node in servers)
                self._harm_disks(fault, servers)
            elif nodes:
                self._disturb(fault, nodes, requester, server)
        self._note(fault, hit)

    def _note(self, fault: Fault, hit: tuple[str, ...]) -> None:
        index = next(i for i, planned in enumerate(self.plan) if planned is fault and i not in self._done)
        self._done.add(index)
        self.fired.append(Fired(fault, self._cluster.now, hit))
        following = self.plan.faults[index + 1 : index + 2]
        if following and following[0].then and not self._is_healed:
            self._arm(following[0])

    def _harm(self, fault: Fault, servers: list[int]) -> None:
        for node in servers:
            handle = self._cluster.broker(node)
            getattr(handle, fault.what)()
            back = handle.start if fault.what in _STARTS_AGAIN else handle.resume
            self._later(fault, back)

    def _harm_disks(self, fault: Fault, servers: list[int]) -> None:
        for node in servers:
            handle = self._cluster.broker(node)
            if fault.what == "disk_slow":
                handle.disk.slow(fault.extra_s)
                self._later(fault, handle.disk.heal)
                continue
            harm = handle.disk.fill if fault.what == "disk_full" else handle.disk.fail
            harm()
            self._later(fault, partial(_heal_disk_and_start, handle))

    def _disturb(self, fault: Fault, nodes: list[int], requester: int, server: int) -> None:
        network = self._cluster.network
        others = [node for node in self._cluster.node_ids() if node not in nodes]
        if fault.what == "reset":
            network.reset(nodes, others)
            return
        if fault.what == "isolate":
            network.partition(nodes, others)
            self._later(fault, lambda: network.heal(nodes, others))
            return
        if fault.against == "others":
            against = [node for node in server_ids(self._cluster) if node not in nodes]
        else:
            against = [node for node in self._nodes(fault.against, requester, server) if node not in nodes]
        if fault.what == "partition":
            network.partition(nodes, against, one_way=fault.one_way)
            self._later(fault, lambda: network.heal(nodes, against, one_way=fault.one_way))
        elif fault.what == "hold":
            network.hold(nodes, against, one_way=fault.one_way)
            self._later(fault, lambda: network.release(nodes, against, one_way=fault.one_way))
        else:
            network.slow(nodes, against, fault.factor, fault.extra_s * 1000)
            self._later(fault, lambda: network.slow(nodes, against))

    def _end_clients(self, fault: Fault, requester: int) -> tuple[str, ...]:
        _, _, name = fault.target.partition(":")
        hosts = {}
        for shell in self._cluster.clients:
            host = shell.host
            if host is not None and (name in (host.name, shell.name) if name else shell.node.node_id == requester):
                hosts[id(host)] = host
        for host in hosts.values():
            if fault.what == "kill":
                host.kill()
            else:
                host.stop()
        return tuple(f"client {host.name}" for host in hosts.values())

    def _later(self, fault: Fault, undo: Callable[[], None]) -> None:
        """Undo it after its time; ``heal`` does so at once."""
        self._undo.append(undo)
        if fault.for_s is not None:

            def due() -> None:
                if undo in self._undo:
                    self._undo.remove(undo)
                    undo()

            self._cluster.kernel.call_after(round(fault.for_s * 1_000_000), due)


def _heal_disk_and_start(handle: Brokers) -> None:
    handle.disk.heal()
    handle.start()


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


class Injections:
    """The plans at work on one cluster: whoever watches the wire for all of them."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._all: list[Injection] = []
        self._listeners: list[Callable[[str, int, int, Any], None]] = []

    def listen(self, listener: Callable[[str, int, int, Any], None]) -> None:
        """Tell ``listener`` of every message at each stage: (stage, requester, server, request)."""
        self._listeners.append(listener)
        self._cluster.fabric.watch = self._on_message

    def __iter__(self) -> Iterator[Injection]:
        return iter(self._all)

    def add(self, plan: Plan) -> Injection:
        """Let a plan loose."""
        check_places(self._cluster, plan)
        injection = Injection(self._cluster, plan)
        self._all.append(injection)
        if injection.will_watch:
            self._cluster.fabric.watch = self._on_message
            self._cluster.on_note = self._on_note
        return injection

    def _on_message(self, stage: str, requester: int, server: int, request: Any) -> bool:
        is_lost = False
        for listener in self._listeners:
            listener(stage, requester, server, request)
        for injection in self._all:
            if injection.is_watching:
                is_lost |= injection.on_message(stage, requester, server, request)
        return is_lost

    def _on_note(self, node_id: int, kind: str) -> None:
        for injection in self._all:
            injection.on_note(node_id, kind)
