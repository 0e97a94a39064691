"""Which world a client belongs to: the one place that knows the open clusters of this process.

Rule 1:   inside a task every address reaches the task's own cluster; inside ``install()`` every address (or those it names)
          reaches the installed one, but for addresses of another open cluster; elsewhere an address reaches the cluster that it
          belongs to, and no other.
Rule 2:   a client with an address that reaches nothing lives in a world of its own, where it waits for brokers in vain, as a real
          client would.
Rule 3:   this is process-wide state, because user code makes its clients without being handed a cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.ids import NO_NODE
from kafkasim.sim.drive import ClientShell
from kafkasim.sim.world import World


class _Home(Protocol):
    def open_client(self, kind: str, config: ClientConfig) -> ClientShell: ...


class Installed:
    """One ``install()`` in force: a world, and the addresses that reach it (None: all)."""

    def __init__(self, world: World, addresses: frozenset[str] | None) -> None:
        self.world = world
        self.addresses = addresses


_open: list[World] = []
_installed: list[Installed] = []
_nowhere: World | None = None


def opened(world: World) -> None:
    """A cluster exists from now on."""
    _open.append(world)


def closed(world: World) -> None:
    if world in _open:
        _open.remove(world)


def installed(entry: Installed) -> None:
    _installed.append(entry)


def uninstalled(entry: Installed) -> None:
    _installed.remove(entry)


def running() -> World | None:
    """The world whose task runs now."""
    for world in _open:
        if world.scheduler.current() is not None:
            return world
    return None


def current(bootstrap_servers: str) -> _Home:
    """Where a client with these ``bootstrap.servers`` lives."""
    addresses = [address.strip() for address in bootstrap_servers.split(",") if address.strip()]
    world = running()
    if world is not None:
        return _Reached(world, None)
    owner = next(
        (world for world in reversed(_open) if any(node != NO_NODE for node in world.resolve(bootstrap_servers))), None
    )
    for entry in reversed(_installed):
        takes_all = entry.addresses is None and owner in (None, entry.world)
        if takes_all or any(address in (entry.addresses or ()) for address in addresses):
            return _Reached(entry.world, entry.addresses)
    if owner is not None:
        return owner
    return _Reached(_open[-1], frozenset()) if _open else _nowhere_world()


def wait(predicate: Callable[[], Any], timeout_us: int | None) -> bool:
    """Wait in the world that is meant where no client is at hand (a future's result)."""
    world = running()
    if world is None and _installed:
        world = _installed[-1].world
    if world is None:
        world = _open[-1] if _open else _nowhere_world()
    return world.wait(predicate, timeout_us)


def _nowhere_world() -> World:
    global _nowhere
    if _nowhere is None:
        _nowhere = World(history=False)
    return _nowhere


class _Reached:
    """A world seen through addresses that are not its own: every one of ``addresses`` (None: all) leads to its brokers."""

    def __init__(self, world: World, addresses: frozenset[str] | None) -> None:
        self._world = world
        self._addresses = addresses

    def open_client(self, kind: str, config: ClientConfig) -> ClientShell:
        named = [item.strip() for item in config.text("bootstrap.servers").split(",") if item.strip()]
        own = self._world.resolve(config.text("bootstrap.servers"))
        anywhere = self._world.any_bootstrap()
        nodes = tuple(
            node if node != NO_NODE or (self._addresses is not None and address not in self._addresses) else anywhere
            for address, node in zip(named, own, strict=True)
        )
        return self._world.open_client(kind, config, bootstrap=nodes)
