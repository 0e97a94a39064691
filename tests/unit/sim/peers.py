"""Three peers and a calm network between them, for what the fabric does."""

from __future__ import annotations

from typing import Any

from kafkasim.sim.choices import Choices
from kafkasim.sim.kernel import Kernel
from kafkasim.sim.network import Link, Network
from kafkasim.sim.trace import Trace

CALM = Link(latency_us=100, jitter_us=0, bandwidth_bytes_per_s=1_000_000)


class Request:
    """A request that names its API."""

    def __init__(self, name: str, api_key: int = 0) -> None:
        self.name = name
        self.API_KEY = api_key


class Peer:
    """An endpoint that writes down what it is told, and answers at once or when asked to."""

    def __init__(self, world: World, node: int, *, answers: bool = True) -> None:
        self.world = world
        self.node = node
        self.answers = answers
        self.log: list[tuple[Any, ...]] = []
        self.in_process: list[tuple[int, int, str]] = []
        world.network.attach(node, self)

    def note(self, *what: Any) -> None:
        self.log.append((self.world.kernel.now_us, *what))

    def names(self) -> list[Any]:
        """What was told, without the times."""
        return [entry[1:] for entry in self.log]

    def on_connection(self, connection_id: int, peer: int) -> None:
        self.note("connection", peer)

    def on_request(self, connection_id: int, correlation_id: int, request: Any) -> None:
        name = request.name if isinstance(request, Request) else request
        self.note("request", name)
        self.in_process.append((connection_id, correlation_id, name))
        if self.answers:
            self.answer()

    def answer(self, *, silent: bool = False) -> None:
        connection_id, correlation_id, name = self.in_process.pop(0)
        response = None if silent else f"re: {name}"
        self.world.network.reply(connection_id, correlation_id, response)

    def on_closed(self, connection_id: int) -> None:
        self.note("closed")

    def on_response(self, peer: int, channel: Any, correlation_id: int, response: Any) -> None:
        self.note("response", response)

    def on_disconnect(self, peer: int, channel: Any, reason: str) -> None:
        self.note("disconnect", peer, reason)

    def ask(self, dst: int, name: str, *, size_bytes: int = 0, api_key: int = 0) -> None:
        self.world.correlation_id += 1
        self.world.network.send(self.node, dst, 0, self.world.correlation_id, Request(name, api_key), size_bytes)


class World:
    """Three peers and their network."""

    def __init__(self, link: Link = CALM, seed: int = 1) -> None:
        self.kernel = Kernel()
        self.trace = Trace()
        self.network = Network(self.kernel, Choices(seed), self.trace, link=link)
        self.correlation_id = 0
        self.a, self.b, self.c = Peer(self, 1), Peer(self, 2), Peer(self, 3)

    def run(self, duration_us: int = 10_000) -> None:
        self.kernel.run_until_us(self.kernel.now_us + duration_us)

    def connected(self) -> World:
        """Open the connection from a to b, and forget how."""
        self.a.ask(2, "hello")
        self.run()
        self.a.log.clear()
        self.b.log.clear()
        return self
