"""The disk of a server: slow, full, failing, replaced.

Mirrors:  LogDirFailureChannel, LogManager.handleLogDirFailure, LogLoader.recoverLog.
Inputs:   slow, fill, fail, heal, replace, recover_at.      Effects: writes that wait for their turn; the end of a process.
Rule 1:   a healthy disk costs nothing: a gate stands before the shell of its server only while something is wrong.
Rule 2:   a slow disk does one write after the other. A write is what a produce request appends, or what one answer brings to a
          follower; what was written lately is read from the page cache, at once.
Rule 3:   a write that fails takes the log directory offline. A broker has one, and Kafka halts when its last one is gone:
          the process ends, the page cache stays, and the broker does not start until the disk is healed or replaced.
Differs:  appends of coordinators and of the metadata log do not wait for a slow disk; an idle broker notices a full or failing
          one after half a second, when Kafka's controller would have written a NoOpRecord.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kafkasim.core.model.effects import REPLICATION_CHANNEL
from kafkasim.core.model.messages import FetchResponse, ProduceRequest
from kafkasim.errors import ConfigurationError
from kafkasim.sim.drive import ServerShell
from kafkasim.sim.endpoint import Channel
from kafkasim.sim.losses import note_losses

if TYPE_CHECKING:
    from kafkasim.sim.cluster import ServerProcess, SimulatedCluster

_IDLE_WRITE_US = 500_000


class Disk:
    """One server's. ``state``: "healthy", "slow", "full" or "failed"."""

    def __init__(self, cluster: SimulatedCluster, process: ServerProcess) -> None:
        self._cluster = cluster
        self._process = process
        self._shell: ServerShell | None = None
        self._write_us = 0
        self._free_us = 0
        self._waiting: list[Callable[[], None]] = []
        self.state = "healthy"

    # --- what may go wrong -----------------------------------------------------------------------------------------

    def become(self, state: str, write_us: int = 0) -> None:
        self.state, self._write_us = state, write_us
        self._gate()

    def replace(self) -> None:
        if self._process.node is not None:
            raise ConfigurationError(
                f"the disk of broker {self._process.id} cannot be replaced while its process is {self._process.state}: "
                "crash it or shut it down first"
            )
        note_losses(self._cluster, self._process, "got an empty disk", self._process.storage.replace)
        self.become("healthy")

    def recover_at(self, bytes_per_second: int) -> None:
        self._process.storage.broker.recovery_bytes_per_s = bytes_per_second

    # --- the process that writes here ------------------------------------------------------------------------------

    def lets_start(self) -> bool:
        """A log directory that cannot even be read ends a process as it begins."""
        return self.state != "failed"

    def attached(self, shell: ServerShell) -> None:
        """A new process runs."""
        self._shell = shell
        self._waiting.clear()
        self._free_us = 0
        if self.state != "healthy":
            self._gate()

    def scrap(self) -> None:
        """Nobody writes here any more."""
        self._shell = None
        self._waiting.clear()

    def resumed(self) -> None:
        """The process goes on; what the disk has done for it meanwhile is done."""
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            write()

    def _gate(self) -> None:
        """Stand before the shell, or step aside."""
        shell = self._shell
        if shell is None or shell.is_stopped:
            return
        if self.state == "healthy":
            vars(shell).pop("on_request", None)
            vars(shell).pop("on_response", None)
            return
        shell.on_request = self._on_request  # type: ignore[method-assign]
        shell.on_response = self._on_response  # type: ignore[method-assign]
        if self.state != "slow":
            self._cluster.kernel.call_after(_IDLE_WRITE_US, self._write, shell, _nothing)

    def _on_request(self, connection_id: int, correlation_id: int, request: Any) -> None:
        shell = self._shell
        assert shell is not None
        if type(request) is not ProduceRequest:
            ServerShell.on_request(shell, connection_id, correlation_id, request)
            return

        def append() -> None:
            if shell.is_connected(connection_id):
                ServerShell.on_request(shell, connection_id, correlation_id, request)

        self._write(shell, append)

    def _on_response(self, peer: int, channel: Channel, correlation_id: int, response: Any) -> None:
        shell = self._shell
        assert shell is not None
        is_data = channel == REPLICATION_CHANNEL and isinstance(response, FetchResponse)
        if not is_data or not any(part.batches for part in response.partitions):
            ServerShell.on_response(shell, peer, channel, correlation_id, response)
            return
        self._write(shell, lambda: ServerShell.on_response(shell, peer, channel, correlation_id, response))

    def _write(self, shell: ServerShell, write: Callable[[], None]) -> None:
        """Do it when the disk has come to it; a full or failing disk ends the process instead."""
        if shell.is_stopped:
            return
        if self.state in ("full", "failed"):
            self._process.halt(f"the log directory is offline: its disk is {self.state}")
            return
        now_us = self._cluster.kernel.now_us
        self._free_us = max(self._free_us, now_us) + self._write_us

        def written() -> None:
            if shell.is_paused:
                self._waiting.append(write)
            elif not shell.is_stopped:
                write()

        self._cluster.kernel.call_at(self._free_us, written)


class Disks:
    """The disk of a broker, or of each broker of a rack: ``cluster.broker(2).disk``."""

    def __init__(self, cluster: SimulatedCluster, processes: Sequence[ServerProcess]) -> None:
        self._cluster = cluster
        self._processes = tuple(processes)

    def __repr__(self) -> str:
        return f"<disk of broker {', '.join(str(process.id) for process in self._processes)}: {self.state}>"

    @property
    def state(self) -> str:
        """ "healthy", "slow", "full" or "failed"; of each, comma-separated, where they differ."""
        return ", ".join(dict.fromkeys(process.disk.state for process in self._processes))

    def slow(self, seconds: float) -> None:
        """Let each write take so many virtual seconds, one after the other, until ``heal``."""
        if seconds <= 0:
            raise ConfigurationError(
                f"a slow disk takes more than {seconds!r} seconds for a write; heal() makes it well"
            )
        self._each("slow", lambda disk: disk.become("slow", round(seconds * 1_000_000)))

    def fill(self) -> None:
        """No space is left: the next write fails, and that ends the process, as in Kafka."""
        self._each("full", lambda disk: disk.become("full"))

    def fail(self) -> None:
        """Every operation fails: the process ends at its next write and does not start again before ``heal`` or ``replace``."""
        self._each("failing", lambda disk: disk.become("failed"))

    def heal(self) -> None:
        """As it was before, with all that is on it. Brokers that ended are to be started."""
        self._each("healed", lambda disk: disk.become("healthy"))

    def replace(self) -> None:
        """A new, empty disk for a broker that does not run: its logs are gone, and so is what it knew of the cluster."""
        self._each("replaced", Disk.replace)

    def recover_at(self, bytes_per_second: int) -> None:
        """How fast logs are recovered after an unclean stop, before the broker may serve; 0, as by default: in no time."""
        if bytes_per_second < 0:
            raise ConfigurationError(
                f"recover_at({bytes_per_second!r}): expected bytes per second, or 0 for no time at all"
            )
        for process in self._processes:
            process.disk.recover_at(bytes_per_second)

    def _each(self, what: str, change: Callable[[Disk], None]) -> None:
        for process in self._processes:
            change(process.disk)
            self._cluster.note_fault(process.id, f"disk {what}")


def _nothing() -> None:
    """The write of a broker that has nothing to write."""
