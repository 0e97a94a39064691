"""The facade's door to the simulation: the shell around one client engine, and waiting in virtual time.

The facade knows engines only through a shell, and shells only through `kafkasim.sim.runtime`, which it asks for the cluster
that ``bootstrap.servers`` reaches.

Rule 1:   whatever blocks here blocks in virtual time: the calling task, or the kernel where there is no task.
Rule 2:   a predicate given to ``wait`` may be looked at from the kernel: it runs no user code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafkasim.core.model.client_config import ClientConfig


class ClientShell(Protocol):
    """What the runtime wraps around an engine."""

    engine: Any
    name: str

    @property
    def now_us(self) -> int:
        """Virtual time."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run ``function(*args, now_us)`` of the engine and carry its effects out."""

    def wait(self, predicate: Callable[[], Any], timeout_us: int | None) -> bool:
        """Block until ``predicate`` holds (True) or the time is up (False)."""

    def fruitless(self) -> None:
        """Charge a call that found nothing to do, so that a busy loop makes progress."""

    def close(self) -> None:
        """The client is gone: its connections close, its node is forgotten."""


def open_shell(kind: str, config: ClientConfig) -> ClientShell:
    """A new client on the cluster that its ``bootstrap.servers`` reach."""
    from kafkasim.sim import runtime

    shell: ClientShell = runtime.current(config.text("bootstrap.servers")).open_client(kind, config)
    return shell


def wait_in_virtual_time(predicate: Callable[[], Any], timeout_us: int | None) -> bool:
    """Block outside any particular client, as a future does."""
    from kafkasim.sim import runtime

    return bool(runtime.wait(predicate, timeout_us))
