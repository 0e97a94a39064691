"""Faults done: to processes, disks, clocks, clients and the traffic between nodes, each with what undoes it.

Inputs:   a fault of a plan and the nodes or hosts that it hits.      Effects: the faults of the cluster's own handle.
Rule 1:   what is done to several servers is done to each by itself, and undone for each by itself.
Rule 2:   an undo may come at any time, also where what was done is over: then it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kafkasim.core.model.effects import REPLICATION_CHANNEL
from kafkasim.core.model.ids import FIRST_CLIENT_NODE
from kafkasim.sim.aim import Aim, server_ids
from kafkasim.sim.hosts import Host
from kafkasim.sim.losses import write_back_some
from kafkasim.sim.plan import Fault
from kafkasim.sim.plan_words import OF_DISKS, SPREADS
from kafkasim.sim.rules import Filter, Verdict
from kafkasim.sim.wire_events import api_name

if TYPE_CHECKING:
    from kafkasim.sim.cluster import Brokers, SimulatedCluster

#: A starved process runs for one part of each of these, as a CPU quota has it.
_QUOTA_US = 100_000
#: How often a drifting clock is moved.
_DRIFT_US = 100_000
#: How long an orderly stop may go on, as a supervisor sees it, and how often it looks.
_STOP_PATIENCE_US = 10_000_000
_LOOK_US = 100_000
_STARTS_AGAIN = ("crash", "power_loss", "shutdown", "disk_replace")
_ONE_IN = 100

Undo = Callable[[], None]


class Harm:
    """``later(fault, undo)`` keeps what undoes a fault until its time has come."""

    def __init__(self, cluster: SimulatedCluster, aim: Aim, later: Callable[[Fault, Undo], None]) -> None:
        self._cluster = cluster
        self._aim = aim
        self._later = later

    # --- servers -----------------------------------------------------------------------------------------------------

    def servers(self, fault: Fault, nodes: list[int]) -> None:
        for node in nodes:
            self._server(fault, self._cluster.broker(node))

    def each(self, fault: Fault, nodes: list[int], schedule: Callable[[int, Undo], None]) -> None:
        """One by one, each at a time of its own."""
        spread_us = round(fault.spread_s * 1_000_000)
        for node in nodes:
            after_us = self._cluster.choices.draw("fault.spread", spread_us + 1)
            schedule(after_us, partial(self._server, fault, self._cluster.broker(node)))

    def _server(self, fault: Fault, handle: Brokers) -> None:
        if fault.what in OF_DISKS:
            self._disk(fault, handle)
        elif fault.what in SPREADS:
            if fault.partial:
                write_back_some(self._cluster, handle.processes[0])
            getattr(handle, fault.what)()
            self._later(fault, partial(self._start, handle) if fault.what in _STARTS_AGAIN else handle.resume)
        elif fault.what == "starve":
            process = handle.processes[0]
            self._starve(fault, process.pause, process.resume, lambda: process.state == "running")
        else:
            self._clock(fault, handle.processes[0].move_clock)

    def _start(self, handle: Brokers, waited_us: int = 0) -> None:
        """Start it as soon as it has ended: an orderly stop takes its time, and is killed when a supervisor loses patience."""
        if handle.state == "stopping":
            if waited_us < _STOP_PATIENCE_US:
                self._cluster.kernel.call_after(_LOOK_US, self._start, handle, waited_us + _LOOK_US)
                return
            handle.crash()
        handle.start()

    def _disk(self, fault: Fault, handle: Brokers) -> None:
        if fault.what == "disk_slow":
            handle.disk.slow(fault.extra_s)
            self._later(fault, handle.disk.heal)
        elif fault.what == "disk_replace":
            handle.crash()
            handle.disk.replace()
            self._later(fault, handle.start)
        else:
            (handle.disk.fill if fault.what == "disk_full" else handle.disk.fail)()
            self._later(fault, partial(_heal_disk_and_start, handle))

    # --- clients -----------------------------------------------------------------------------------------------------

    def clients(self, fault: Fault, hosts: list[Host]) -> None:
        for host in hosts:
            if fault.what in ("kill", "stop"):
                (host.kill if fault.what == "kill" else host.stop)()
                if fault.for_s is not None and host.respawn is not None:
                    self._later(fault, host.respawn)
            elif fault.what == "pause":
                host.pause()
                self._later(fault, host.resume)
            elif fault.what == "starve":
                self._starve(fault, host.pause, host.resume, partial(_may_pause, host))
            else:
                self._clock(fault, partial(self._move_clients_clock, host))

    def _move_clients_clock(self, host: Host, by_us: int) -> None:
        host.clock_offset_us += by_us
        for shell in self._cluster.clients:
            if shell.host is host:
                shell.engine.wall_offset_us += by_us

    # --- both --------------------------------------------------------------------------------------------------------

    def _starve(self, fault: Fault, pause: Undo, resume: Undo, may_pause: Callable[[], bool]) -> None:
        runs_us = max(1, round(_QUOTA_US / fault.factor))
        call_after, is_over = self._cluster.kernel.call_after, False

        def stand_still() -> None:
            if is_over:
                return
            if may_pause():
                pause()
                call_after(_QUOTA_US - runs_us, go_on)
            else:
                call_after(_QUOTA_US - runs_us, lambda: call_after(runs_us, stand_still))

        def go_on() -> None:
            resume()
            call_after(runs_us, stand_still)

        def end() -> None:
            nonlocal is_over
            is_over = True

        stand_still()
        self._later(fault, end)

    def _clock(self, fault: Fault, move: Callable[[int], None]) -> None:
        if fault.what == "clock_jump":
            by_us = round(fault.extra_s * 1_000_000)
            move(by_us)
            self._later(fault, lambda: move(-by_us))
            return
        drifted_us, is_over, step_us = 0, False, round(_DRIFT_US * (fault.factor - 1))

        def drift() -> None:
            nonlocal drifted_us
            if not is_over:
                move(step_us)
                drifted_us += step_us
                self._cluster.kernel.call_after(_DRIFT_US, drift)

        def end() -> None:
            nonlocal is_over
            is_over = True
            move(-drifted_us)

        drift()
        self._later(fault, end)

    # --- between nodes -----------------------------------------------------------------------------------------------

    def traffic(self, fault: Fault, nodes: list[int], requester: int, server: int) -> None:
        cluster, network = self._cluster, self._cluster.network
        others = [node for node in cluster.node_ids() if node not in nodes]
        if fault.what == "reset":
            network.reset(nodes, others)
            return
        if fault.what == "isolate":
            network.partition(nodes, others)
            self._later(fault, lambda: network.heal(nodes, others))
            return
        if fault.against == "others":
            # A plane is cut by what the messages are, so clients that come later are meant too.
            every = others if fault.plane == "clients" else server_ids(cluster)
            against = [node for node in every if node not in nodes]
        else:
            meant = self._aim.nodes(fault.against, requester, server)
            # Brokers against brokers: each from every other.
            against = [node for node in meant if node not in nodes] or meant
        one_way = fault.one_way
        if fault.plane or (fault.api and fault.what == "hold"):
            self._filter(fault, nodes, against)
        elif fault.api or fault.tail:
            self._delay(fault, nodes, against)
        elif fault.what == "partition":
            network.partition(nodes, against, one_way=one_way)
            self._later(fault, lambda: network.heal(nodes, against, one_way=one_way))
        elif fault.what == "hold":
            network.hold(nodes, against, one_way=one_way)
            self._later(fault, lambda: network.release(nodes, against, one_way=one_way))
        else:
            network.slow(nodes, against, fault.factor, fault.extra_s * 1000)
            self._later(fault, lambda: network.slow(nodes, against))

    def _filter(self, fault: Fault, nodes: list[int], against: list[int]) -> None:
        pairs = _pairs(nodes, against, fault.one_way)
        verdict = Verdict.DROP if fault.what == "partition" else Verdict.HOLD
        plane, api = fault.plane, fault.api

        def judge(src: int, dst: int, channel: Any, request: Any) -> Verdict | None:
            if (src, dst) not in pairs or (plane and plane_of(src, dst, channel) != plane):
                return None
            return verdict if not api or (request is not None and api_name(request) == api) else None

        filters: Filter = judge
        self._cluster.fabric.add_filter(filters)
        self._later(fault, lambda: self._cluster.fabric.remove_filter(filters))

    def _delay(self, fault: Fault, nodes: list[int], against: list[int]) -> None:
        pairs = _pairs(nodes, against, fault.one_way)
        extra_us, draw = round(fault.extra_s * 1_000_000), self._cluster.choices.draw
        api, tail = fault.api, fault.tail

        def delay(src: int, dst: int, request: Any) -> int:
            if (src, dst) not in pairs or (api and api_name(request) != api):
                return 0
            if not tail:
                return extra_us
            rank = draw("net.tail", _ONE_IN)
            return 0 if rank < _ONE_IN * 89 // 100 else extra_us if rank < _ONE_IN - 1 else 10 * extra_us

        self._cluster.fabric.add_delay(delay)
        self._later(fault, lambda: self._cluster.fabric.remove_delay(delay))


def plane_of(src: int, dst: int, channel: Any) -> str:
    """The part of the traffic that a message between two nodes belongs to."""
    if src >= FIRST_CLIENT_NODE or dst >= FIRST_CLIENT_NODE:
        return "clients"
    return "replication" if channel == REPLICATION_CHANNEL else "control"


def _pairs(nodes: list[int], against: list[int], one_way: bool) -> dict[tuple[int, int], None]:
    pairs = [(src, dst) for src in nodes for dst in against if src != dst]
    if not one_way:
        pairs += [(dst, src) for src, dst in pairs]
    return dict.fromkeys(pairs)


def _may_pause(host: Host) -> bool:
    return host.alive and not host.paused


def _heal_disk_and_start(handle: Brokers) -> None:
    handle.disk.heal()
    handle.start()
