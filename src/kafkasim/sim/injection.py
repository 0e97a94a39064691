"""A fault plan at work on a cluster: it waits for each fault's moment, does it, and undoes it in time.

Inputs:   every message on the wire, every note of a server, the clock.      Effects: the faults of the cluster's own handle.
Rule 1:   a fault happens in an event of its own, right after the moment that triggers it; a process that dies of it has not passed on the
          message at which it dies.
Rule 2:   each fault fires once. What never fired is kept, to be told.
Rule 3:   a fault that waits for the one before it is armed in the event in which that one happens.
Rule 4:   without a plan nothing watches, a plan of times alone does not watch either, and one whose faults have all come watches no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from kafkasim.core.model.effects import Note
from kafkasim.core.model.ids import NO_NODE
from kafkasim.sim.aim import (
    Aim,
    check_places,
    is_of_internal_topic,
    live_brokers,
    look_at,
    partition_of,
    server_ids,
    subject_of,
)
from kafkasim.sim.conditions import Condition
from kafkasim.sim.harm import Harm
from kafkasim.sim.kernel import Timer
from kafkasim.sim.operator import Operator
from kafkasim.sim.plan import Fault, Plan
from kafkasim.sim.plan_words import ADMIN, BETWEEN, FAMILIES, OF_ANYBODY, OF_CLIENTS, OF_MESSAGES, STAGES
from kafkasim.sim.wire_events import api_name

if TYPE_CHECKING:
    from kafkasim.sim.cluster import SimulatedCluster

#: Faults after which a process passes nothing on.
_DEADLY = ("crash", "power_loss", "disk_replace", "kill")
_OF_TRAFFIC = (*BETWEEN, "isolate", "reset")


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
    events: tuple[str, ...]


class Injection:
    """What became of a plan. ``fired`` in order of time; ``unfired`` in the plan's order."""

    def __init__(self, cluster: SimulatedCluster, plan: Plan) -> None:
        self.plan = plan
        self.fired: list[Fired] = []
        self._cluster = cluster
        self._waiting: list[_Armed] = []
        #: What ``_waiting`` looks at: the events of these names, or (a condition is among them) every message.
        self._events: set[str] = set()
        self._asks_always = False
        self._timers: list[Timer] = []
        self._done: set[int] = set()
        self._undo: list[Callable[[], None]] = []
        self._is_healed = False
        #: Called just before each fault happens.
        self.before: Callable[[Fault], None] | None = None
        self._aim = Aim(cluster)
        self._harm = Harm(cluster, self._aim, self._later)
        for index, fault in enumerate(plan):
            if index == 0 or not fault.then:
                self._arm(fault)

    @property
    def unfired(self) -> list[Fault]:
        """Planned, and its moment has not come (yet)."""
        return [fault for index, fault in enumerate(self.plan) if index not in self._done]

    def require_fired(self) -> None:
        """Raise AssertionError that names what has not happened, or hit nobody: a test of a fault that never comes tests nothing."""
        if self.unfired:
            raise AssertionError("planned faults never happened:\n" + "\n".join(f"  {fault}" for fault in self.unfired))
        missed = [fired for fired in self.fired if not fired.hit]
        if missed:
            raise AssertionError("planned faults found nobody to hit:\n" + "\n".join(f"  {fired}" for fired in missed))

    def heal(self) -> None:
        """Let nothing more happen, undo what is still broken: processes run, the network is whole."""
        self._is_healed = True
        if self._waiting:
            self._waiting.clear()
            self._waiting_changed()
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
            self._timers.append(self._cluster.kernel.call_after(delay_us, self._fire, fault, NO_NODE, NO_NODE))
            return
        condition = None if fault.when is None else Condition.parse(fault.when)
        events = FAMILIES.get(fault.on or "", () if fault.on is None else (fault.on,))
        self._waiting.append(_Armed(fault, fault.nth, condition, events))
        self._waiting_changed()

    def _waiting_changed(self) -> None:
        self._events = {event for armed in self._waiting for event in armed.events}
        self._asks_always = any(armed.condition is not None for armed in self._waiting)
        self._cluster.injections.watch()

    @property
    def is_watching(self) -> bool:
        return bool(self._waiting)

    @property
    def stages(self) -> frozenset[str]:
        """Where on its way a message may matter."""
        if self._asks_always:
            return frozenset(STAGES)
        return frozenset(event.rpartition(".")[2] for event in self._events)

    def on_message(self, stage: str, requester: int, server: int, request: Any) -> bool:
        """True: the process that would pass this message on dies first."""
        event = f"{api_name(request)}.{stage}"
        if not self._asks_always and event not in self._events:
            return False
        is_lost = False
        for armed in list(self._waiting):
            fault = armed.fault
            if armed.condition is not None:
                if self._holds(armed.condition):
                    self._trigger(armed, requester, server, request)
            elif event in armed.events:
                if fault.target == "client" and fault.what in OF_CLIENTS and not self._aim.runs_in_task(requester):
                    continue
                armed.left -= 1
                if armed.left == 0:
                    is_lost |= self._trigger(armed, requester, server, request, stage)
        return is_lost

    def on_note(self, node_id: int, note: Note) -> None:
        event = f"note:{note.kind}"
        for armed in list(self._waiting):
            if event == armed.fault.on or (event in armed.events and not is_of_internal_topic(note)):
                armed.left -= 1
                if armed.left == 0:
                    self._trigger(armed, NO_NODE, node_id, note)

    def _trigger(self, armed: _Armed, requester: int, server: int, cause: Any, stage: str = "") -> bool:
        """``cause``: the request or the note."""
        self._waiting.remove(armed)
        self._waiting_changed()
        fault = armed.fault
        if fault.what in OF_MESSAGES:
            if fault.what == "lose_response":
                self._cluster.fabric.lose_response(lambda src, dst, asked, response: asked is cause)
            else:
                self._cluster.fabric.delay_once(cause, round(fault.extra_s * 1_000_000))
            self._note(fault, (f"node {server}",))
            return False
        dies = server if stage in ("received", "answered") else requester
        if fault.target == "subject":
            server = subject_of(self._cluster, cause, requester, server)
        self._cluster.kernel.call_after(0, self._fire, fault, requester, server)
        if fault.what not in _DEADLY or fault.spread_s:
            return False
        return bool(stage) and dies in self._aim.nodes(fault.target, requester, server)

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

    # --- faults ----------------------------------------------------------------------------------------------------

    def _fire(self, fault: Fault, requester: int, server: int) -> None:
        if self.before is not None:
            self.before(fault)
        undo: Callable[[], None] | None = None
        if fault.what in ADMIN:
            hit, undo = self._cluster.injections.operator.act(fault)
        elif fault.target.startswith("client") and fault.what in (*OF_CLIENTS, *OF_ANYBODY):
            hit = self._fire_at_clients(fault, requester)
        else:
            hit = self._fire_at_nodes(fault, requester, server)
        if undo is not None:
            self._later(fault, undo)
        self._note(fault, hit)

    def _fire_at_clients(self, fault: Fault, requester: int) -> tuple[str, ...]:
        hosts = self._aim.hosts(fault.target, requester)
        self._harm.clients(fault, hosts)
        return tuple(f"client {host.name}" for host in hosts)

    def _fire_at_nodes(self, fault: Fault, requester: int, server: int) -> tuple[str, ...]:
        nodes = self._aim.nodes(fault.target, requester, server)
        lasting_us = float("inf") if fault.for_s is None else fault.for_s * 1_000_000
        self._aim.hurt_until_us.update(dict.fromkeys(nodes, self._cluster.now_us + lasting_us))
        if fault.what in _OF_TRAFFIC:
            if nodes:
                self._harm.traffic(fault, nodes, requester, server)
            return tuple(f"node {node}" for node in nodes)
        servers = [node for node in nodes if node in server_ids(self._cluster)]
        if fault.spread_s:
            self._harm.each(fault, servers, self._after)
        else:
            self._harm.servers(fault, servers)
        return tuple(f"broker {node}" for node in servers)

    def _after(self, delay_us: int, function: Callable[[], None]) -> None:
        self._timers.append(self._cluster.kernel.call_after(delay_us, function))

    def _note(self, fault: Fault, hit: tuple[str, ...]) -> None:
        index = next(i for i, planned in enumerate(self.plan) if planned is fault and i not in self._done)
        self._done.add(index)
        self.fired.append(Fired(fault, self._cluster.now, hit))
        following = self.plan.faults[index + 1 : index + 2]
        if following and following[0].then and not self._is_healed:
            self._arm(following[0])

    def _later(self, fault: Fault, undo: Callable[[], None]) -> None:
        """Undo it after its time; ``heal`` does so at once."""
        self._undo.append(undo)
        if fault.for_s is not None:

            def due() -> None:
                if undo in self._undo:
                    self._undo.remove(undo)
                    undo()

            self._cluster.kernel.call_after(round(fault.for_s * 1_000_000), due)


class Injections:
    """The plans at work on one cluster: whoever watches the wire for all of them."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._all: list[Injection] = []
        #: Does what operators do, for all plans.
        self.operator = Operator(cluster)
        self._listeners: list[Callable[[str, int, int, Any], None]] = []

    def listen(self, listener: Callable[[str, int, int, Any], None]) -> None:
        """Tell ``listener`` of every message at each stage: (stage, requester, server, request)."""
        self._listeners.append(listener)
        self.watch()

    def __iter__(self) -> Iterator[Injection]:
        return iter(self._all)

    def add(self, plan: Plan) -> Injection:
        """Let a plan loose."""
        check_places(self._cluster, plan)
        injection = Injection(self._cluster, plan)
        self._all.append(injection)
        self.watch()
        return injection

    def watch(self) -> None:
        """Look at messages and notes as long as somebody waits for one."""
        watching = [injection for injection in self._all if injection.is_watching]
        fabric = self._cluster.fabric
        fabric.watch = watching[0].on_message if len(watching) == 1 and not self._listeners else self._on_message
        fabric.watched = frozenset(STAGES) if self._listeners else frozenset().union(*[i.stages for i in watching])
        self._cluster.on_note = self._on_note if watching else None

    def _on_message(self, stage: str, requester: int, server: int, request: Any) -> bool:
        is_lost = False
        for listener in self._listeners:
            listener(stage, requester, server, request)
        for injection in self._all:
            if injection.is_watching:
                is_lost |= injection.on_message(stage, requester, server, request)
        return is_lost

    def _on_note(self, node_id: int, note: Note) -> None:
        for injection in self._all:
            if injection.is_watching:
                injection.on_note(node_id, note)
