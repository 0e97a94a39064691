"""A world: one kernel, one source of choice, one network, and the clients that live in it. A cluster adds the servers.

Rule 1:   everything that happens in a world is decided by its seed and by what user code does.
Rule 2:   a client node gets its number in order of creation; numbers are never used again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.client.admin import AdminEngine
from kafkasim.core.client.consumer import ConsumerEngine
from kafkasim.core.client.producer import ProducerEngine
from kafkasim.core.client.share_consumer import ShareConsumerEngine
from kafkasim.core.model.client_config import SHARE_CONSUMER, ClientConfig
from kafkasim.core.model.effects import Note
from kafkasim.core.model.history import Closed
from kafkasim.core.model.ids import FIRST_CLIENT_NODE, NO_NODE
from kafkasim.core.model.message import slotted
from kafkasim.sim.choices import Choices, Tape
from kafkasim.sim.clock import EPOCH_US, VirtualClock
from kafkasim.sim.drive import ClientShell
from kafkasim.sim.hosts import Host
from kafkasim.sim.kernel import Kernel
from kafkasim.sim.links import Link
from kafkasim.sim.network import Network
from kafkasim.sim.recorder import History, RecordedAdmin, RecordedConsumer, RecordedProducer, RecordedShareConsumer
from kafkasim.sim.tasks import Scheduler
from kafkasim.sim.trace import Trace


@slotted
class ClientLife:
    """``host`` is the name of the task or process that a client belongs to; ``ended_us`` is None while it lives."""

    host: str | None
    ended_us: int | None = None


class World:
    """Virtual time, chance and a network, without any broker."""

    def __init__(
        self,
        *,
        seed: int = 0,
        tape: Tape | None = None,
        record: bool = False,
        link: Link | None = None,
        history: bool = True,
        keep_trace: int = 0,
        choices: Choices | None = None,
    ) -> None:
        self.seed = seed
        self.kernel = Kernel()
        #: ``choices`` goes before ``tape`` and ``record``: a replay, say.
        self.choices = Choices(seed, tape, record=record) if choices is None else choices
        self.trace = Trace(keep=keep_trace)
        self.fabric = Network(self.kernel, self.choices, self.trace, link=link)
        self.scheduler = Scheduler(self.kernel, seed=seed)
        self.clock = VirtualClock(self.scheduler, self.choices)
        self.history = History()
        self.clients: list[ClientShell] = []
        #: Every client there ever was, by its name: whose it was, and when it was closed or killed.
        self.client_lives: dict[str, ClientLife] = {}
        #: Told of every note, with the node that made it. Fault plans that wait for one put themselves here.
        self.on_note: Callable[[int, Note], None] | None = None
        self.records_history = history
        self._next_client = FIRST_CLIENT_NODE
        self._client_counts: dict[str, int] = {}

    @property
    def now_us(self) -> int:
        return self.kernel.now_us

    def resolve(self, bootstrap_servers: str) -> tuple[int, ...]:
        """The nodes that ``bootstrap.servers`` reaches, NO_NODE for each address that reaches nothing."""
        return tuple(NO_NODE for address in bootstrap_servers.split(",") if address.strip())

    def any_bootstrap(self) -> int:
        """A node that foreign addresses lead to while this world is installed."""
        return NO_NODE

    def open_client(
        self,
        kind: str,
        config: ClientConfig,
        *,
        name: str | None = None,
        host: Host | None = None,
        bootstrap: tuple[int, ...] | None = None,
    ) -> ClientShell:
        """A new client: ``kind`` "producer", "consumer" or "admin". It belongs to ``host``, by default the running task's."""
        node_id = self._next_client
        self._next_client += 1
        if bootstrap is None:
            bootstrap = self.resolve(config.text("bootstrap.servers"))
        task = self.scheduler.current()
        if host is None and task is not None:
            host = task.host
        if name is None:
            name = self._client_name(kind, config, host)
        offset_us = 0 if host is None else host.clock_offset_us
        engine = self._engine(kind, name, (node_id, config, bootstrap, self.choices.draw, EPOCH_US + offset_us))
        shell = ClientShell(
            engine, name, self.kernel, self.fabric, self.scheduler, self._on_note, host, self._on_client_closed
        )
        self.clients.append(shell)
        self.client_lives[name] = ClientLife(None if host is None else host.name)
        shell.start()
        return shell

    def _client_name(self, kind: str, config: ClientConfig, host: Host | None) -> str:
        """``<client.id>#<kind>-<n>`` as librdkafka names its instances; a share consumer is a consumer to it."""
        if kind == SHARE_CONSUMER:
            kind = "consumer"
        count = self._client_counts.get(kind, 0) + 1
        self._client_counts[kind] = count
        return f"{config.text('client.id')}#{kind}-{count}"

    def _engine(self, kind: str, name: str, arguments: tuple[Any, ...]) -> Any:
        if not self.records_history:
            plain = {"producer": ProducerEngine, "admin": AdminEngine, SHARE_CONSUMER: ShareConsumerEngine}
            return plain.get(kind, ConsumerEngine)(*arguments)
        recorded = {"producer": RecordedProducer, "admin": RecordedAdmin, SHARE_CONSUMER: RecordedShareConsumer}
        engine: Any = recorded.get(kind, RecordedConsumer)(*arguments)
        engine.clock = lambda: self.kernel.now_us
        engine.history = self.history
        engine.client = name
        return engine

    def _on_client_closed(self, shell: ClientShell) -> None:
        if shell in self.clients:
            self.clients.remove(shell)
            self.client_lives[shell.name].ended_us = self.kernel.now_us
            if self.records_history:
                self.history.record(Closed(self.kernel.now_us, shell.name))

    def _on_note(self, node_id: int, note: Note) -> None:
        if note.is_traced:
            self.trace.mix(self.kernel.now_us, node_id, len(note.kind), len(note.fields))
        if self.records_history:
            self.history.note(self.kernel.now_us, node_id, note)
        if self.on_note is not None:
            self.on_note(node_id, note)

    def wait(self, predicate: Callable[[], Any], timeout_us: int | None) -> bool:
        """Let virtual time pass until ``predicate`` holds; in a task that blocks it, outside every task it drives the kernel."""
        return bool(self.scheduler.run_until(predicate, timeout_us))

    def fingerprint(self) -> str:
        """16 hex digits over every message and event so far, in order: equal for equal runs, in any process."""
        return self.trace.fingerprint()

    def close_world(self) -> None:
        """End every task and client and forget the queue; patches of the clock are undone."""
        self.scheduler.close()
        for shell in list(self.clients):
            shell.kill()
