"""The shell around one node: carries its effects out and calls it when its deadline comes.

Inputs:   the network's calls (``Endpoint``), timers, and for clients the application's calls.
Effects:  Send, Reply, Close -> the network; Note -> the recorder; Halt -> the process's owner.
Rule 1:   one kernel timer a node, for its earliest deadline; a heartbeat that moves a deadline later costs nothing.
Rule 2:   after every input the outbox is empty again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kafkasim.core.model.effects import NEVER_US, Close, Effect, Halt, Note, Reply, Send
from kafkasim.core.model.messages import SMALL_MESSAGE_BYTES
from kafkasim.sim.endpoint import Channel
from kafkasim.sim.hosts import Host
from kafkasim.sim.kernel import Kernel, Timer
from kafkasim.sim.network import Network
from kafkasim.sim.tasks import Scheduler, Waiter


class Node(Protocol):
    """What servers and client engines have in common (docs/contract.md, "Nodes")."""

    node_id: int
    outbox: list[Effect]

    @property
    def deadline_us(self) -> int: ...

    def on_response(self, peer: int, channel: int, correlation_id: int, response: Any, now_us: int) -> None: ...

    def on_disconnect(self, peer: int, channel: int, now_us: int) -> None: ...

    def on_deadline(self, now_us: int) -> None: ...


class Server(Node, Protocol):
    """A node that others connect to."""

    def on_request(self, connection_id: int, correlation_id: int, peer: int, request: Any, now_us: int) -> None: ...

    def on_closed(self, connection_id: int, now_us: int) -> None: ...


class NodeShell:
    """Attach it to the network to start the node, ``stop`` it to end the process."""

    def __init__(
        self,
        node: Node,
        kernel: Kernel,
        network: Network,
        on_note: Callable[[int, Note], None],
        on_halt: Callable[[str], None] | None = None,
    ) -> None:
        self.node = node
        self._kernel = kernel
        self._network = network
        self._on_note = on_note
        self._on_halt = on_halt
        self._timer: Timer | None = None
        self._armed_us = NEVER_US
        self._paused = False
        self._stopped = False

    @property
    def now_us(self) -> int:
        return self._kernel.now_us

    @property
    def is_paused(self) -> bool:
        return self._paused

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def start(self) -> None:
        """The process runs and listens."""
        self._network.attach(self.node.node_id, self)
        self.settle()

    def stop(self, *, silent: bool = False) -> None:
        """The process is gone, from one instant to the next; ``silent``: so is its machine."""
        if self._stopped:
            return
        self._stopped = True
        self._disarm()
        self._network.detach(self.node.node_id, silent=silent)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._network.pause(self.node.node_id)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._network.resume(self.node.node_id)
            self._disarm()
            self.settle()

    # --- inputs ----------------------------------------------------------------------------------------------------

    def on_connection(self, connection_id: int, peer: int) -> None:
        """A client takes no connections; a server's shell remembers who calls."""

    def on_request(self, connection_id: int, correlation_id: int, request: Any) -> None:
        raise AssertionError(f"node {self.node.node_id} is a client: nobody connects to it")

    def on_closed(self, connection_id: int) -> None:
        """As for ``on_connection``."""

    def on_response(self, peer: int, channel: Channel, correlation_id: int, response: Any) -> None:
        assert isinstance(channel, int)
        self.node.on_response(peer, channel, correlation_id, response, self._kernel.now_us)
        self.settle()

    def on_disconnect(self, peer: int, channel: Channel, reason: str) -> None:
        assert isinstance(channel, int)
        self.node.on_disconnect(peer, channel, self._kernel.now_us)
        self.settle()

    def _on_timer(self) -> None:
        self._armed_us = NEVER_US
        self._timer = None
        if self._paused or self._stopped:
            return  # ``resume`` looks at the deadline again
        node = self.node
        now_us = self._kernel.now_us
        if node.deadline_us <= now_us:
            node.on_deadline(now_us)
        self.settle()

    # --- effects ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Carry out what the last input asked for, and arm the timer for the next deadline."""
        node = self.node
        outbox = node.outbox
        if outbox:
            self._carry_out(outbox)
        deadline_us = node.deadline_us
        if deadline_us < self._armed_us and not self._stopped:
            self._arm(deadline_us)

    def _arm(self, deadline_us: int) -> None:
        self._disarm()
        self._armed_us = deadline_us
        self._timer = self._kernel.call_at(max(deadline_us, self._kernel.now_us), self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_us = NEVER_US

    def _carry_out(self, outbox: list[Effect]) -> None:
        network, node_id = self._network, self.node.node_id
        for effect in outbox:
            kind = type(effect)
            if kind is Send:
                request = effect.request  # type: ignore[union-attr]
                size_bytes = getattr(request, "size_bytes", SMALL_MESSAGE_BYTES)
                network.send(node_id, effect.to, effect.channel, effect.correlation_id, request, size_bytes)  # type: ignore[union-attr]
            elif kind is Reply:
                response = effect.response  # type: ignore[union-attr]
                size_bytes = getattr(response, "size_bytes", SMALL_MESSAGE_BYTES)
                network.reply(effect.connection_id, effect.correlation_id, response, size_bytes)  # type: ignore[union-attr]
            elif isinstance(effect, Close):
                network.close(node_id, effect.to, effect.channel)
            elif isinstance(effect, Note):
                self._on_note(node_id, effect)
            elif isinstance(effect, Halt):
                self._halt(effect.reason)
        outbox.clear()

    def _halt(self, reason: str) -> None:
        if self._on_halt is not None:
            self._kernel.call_after(0, self._on_halt, reason)


class ServerShell(NodeShell):
    """The shell of a broker or controller process."""

    node: Server

    def __init__(
        self,
        node: Server,
        kernel: Kernel,
        network: Network,
        on_note: Callable[[int, Note], None],
        on_halt: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(node, kernel, network, on_note, on_halt)
        self._peers: dict[int, int] = {}

    def is_connected(self, connection_id: int) -> bool:
        return connection_id in self._peers

    def on_connection(self, connection_id: int, peer: int) -> None:
        self._peers[connection_id] = peer

    def on_request(self, connection_id: int, correlation_id: int, request: Any) -> None:
        self.node.on_request(connection_id, correlation_id, self._peers[connection_id], request, self._kernel.now_us)
        self.settle()

    def on_closed(self, connection_id: int) -> None:
        self._peers.pop(connection_id, None)
        self.node.on_closed(connection_id, self._kernel.now_us)
        self.settle()


class ClientShell(NodeShell):
    """The shell of a client engine, with the application on its other side.

    ``call`` and ``wait`` belong to the application: they run in its task, or outside every task and then drive the kernel.
    """

    def __init__(
        self,
        engine: Any,
        name: str,
        kernel: Kernel,
        network: Network,
        scheduler: Scheduler,
        on_note: Callable[[int, Note], None],
        host: Host | None,
        on_close: Callable[[ClientShell], None],
    ) -> None:
        super().__init__(engine, kernel, network, on_note)
        self.engine = engine
        self.name = name
        self._scheduler = scheduler
        self._on_close = on_close
        self._waiters: list[Waiter] = []
        self.host = host
        if host is not None:
            host.on_kill.append(self.kill)
            host.on_pause.append(self.pause)
            host.on_resume.append(self.resume)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run ``function(*args, now_us)`` of the engine, carry its effects out, return its result."""
        self._scheduler.tick()
        result = function(*args, self._kernel.now_us)
        self.settle()
        return result

    def fruitless(self) -> None:
        """The application's last call found nothing to do; repeated, that costs more and more virtual time."""
        self._scheduler.tick(fruitless=True)

    def wait(self, predicate: Callable[[], Any], timeout_us: int | None) -> bool:
        """Block until ``predicate`` holds (True) or the time is up (False)."""
        if predicate():
            return True
        deadline_us = None if timeout_us is None else self._kernel.now_us + timeout_us
        waiter = self._scheduler.waiter(f"{self.name}")
        self._waiters.append(waiter)
        try:
            while True:
                remaining_us = None if deadline_us is None else deadline_us - self._kernel.now_us
                if remaining_us is not None and remaining_us <= 0:
                    return False
                waiter.wait(remaining_us)
                if predicate():
                    return True
        finally:
            self._waiters.remove(waiter)

    def settle(self) -> None:
        super().settle()
        engine = self.engine
        if engine.wake:
            engine.wake = False
            for waiter in self._waiters:
                waiter.wake()

    def close(self) -> None:
        """The client ended in order."""
        self._forget()
        if not self._stopped:
            self._stopped = True
            self._disarm()
            # What the engine sent last (a LeaveGroup, a commit) must still arrive, so its connections close, not reset.
            self._network.detach(self.node.node_id)

    def kill(self) -> None:
        """The process died: its sockets are reset by the machine it ran on."""
        self._forget()
        self.stop()

    def _forget(self) -> None:
        if self.host is not None:
            for hooks, hook in (
                (self.host.on_kill, self.kill),
                (self.host.on_pause, self.pause),
                (self.host.on_resume, self.resume),
            ):
                if hook in hooks:
                    hooks.remove(hook)
            self.host = None
        self._on_close(self)
