"""The facade's door to the simulation: the shell around one client engine, and waiting in virtual time.

The facade knows engines only through a shell, and shells only through `kafkasim.sim.runtime`, which it asks for the cluster
that ``bootstrap.servers`` reaches.

Rule 1:   whatever blocks here blocks in virtual time: the calling task, or the kernel where there is no task.
Rule 2:   a predicate given to ``wait`` may be looked at from the kernel: it runs no user code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafkasim.core.model.client_config import ClientConfig
    from kafkasim.sim.drive import ClientShell


def open_shell(kind: str, config: ClientConfig) -> ClientShell:
    """A new client on the cluster that its ``bootstrap.servers`` reach."""
    from kafkasim.sim import runtime

    return runtime.current(config.text("bootstrap.servers")).open_client(kind, config)


def wait_in_virtual_time(predicate: Callable[[], Any], timeout_us: int | None) -> bool:
    """Block outside any particular client, as a future does."""
    from kafkasim.sim import runtime

    return bool(runtime.wait(predicate, timeout_us))
