"""The life of a group's member: a process of its own, which works on batches and may die over one.

Rule 1:   each member has a host that can be killed, stopped, paused, and started anew.
Rule 2:   a killed member has done what it had finished by then, record by record; the rest of its batch it has not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from kafkasim.core.client.items import Slice
from kafkasim.sim.drive import ClientShell
from kafkasim.sim.hosts import Host
from kafkasim.sim.tasks import Task


class Process(ABC):
    """One member, across restarts. ``group`` has its cluster, its design and what it measures."""

    def __init__(self, group: Any, name: str) -> None:
        self.group = group
        self.name = name
        self.host = Host(name)
        self.task: Task | None = None
        self._shell: ClientShell | None = None
        self._in_hand: tuple[list[Slice], Sequence[int] | int] | None = None

    @abstractmethod
    def body(self) -> Callable[[], None]:
        """What the process runs."""

    @property
    def in_hand(self) -> list[Slice]:
        """What a living member works on."""
        return self._in_hand[0] if self._in_hand is not None and self.host.alive else []

    def start(self) -> None:
        """A new process, unless one runs."""
        if self.task is not None and not self.task.done:
            return
        self.host = Host(self.name)
        self.host.on_kill.append(self._on_killed)
        self._in_hand = None
        self.task = self.group.cluster.scheduler.spawn(self.body(), name=self.name, host=self.host)

    def crash(self) -> None:
        self.host.kill()

    def shutdown(self) -> None:
        """SIGTERM: it finishes nothing, closes its consumer, and leaves the group."""
        self.host.stop()

    def pause(self) -> None:
        self.host.pause()

    def resume(self) -> None:
        self.host.resume()

    def _on_killed(self) -> None:
        if self._in_hand is not None:
            slices, done_us = self._in_hand
            self._count_until(slices, done_us, self.group.cluster.now_us)
            self._in_hand = None

    def _count_until(self, slices: list[Slice], done_us: Sequence[int] | int, now_us: int) -> None:
        """Count those records of a batch that were done by now."""
        total = sum(part.stop - part.start for part in slices)
        if isinstance(done_us, int):
            finished = total if done_us <= now_us else 0
        else:
            finished = sum(at_us <= now_us for at_us in done_us)
        done: list[Slice] = []
        for part in slices:
            room = finished - sum(one.stop - one.start for one in done)
            if room <= 0:
                break
            done.append(Slice(part.tp, part.batch, part.start, min(part.stop, part.start + room)))
        if done:
            self.group.measure.on_done(done, now_us)
            self.group.measure.on_latencies(
                stamps_of(done), done_us if isinstance(done_us, int) else done_us[:finished]
            )

    def _spend(self, shell: ClientShell, slices: list[Slice], done_us: Sequence[int] | int) -> Sequence[int] | int:
        """Work until the last of these is done; when each was, where the host stood still in between."""
        last_us = done_us if isinstance(done_us, int) else done_us[-1]
        if last_us > shell.now_us:
            self._in_hand = (slices, done_us)
            self.group.cluster.scheduler.sleep_us(last_us - shell.now_us)
            self._in_hand = None
        late_us = shell.now_us - last_us
        if late_us <= 0:
            return done_us
        return done_us + late_us if isinstance(done_us, int) else [at_us + late_us for at_us in done_us]


def stamps_of(slices: list[Slice]) -> list[int]:
    """Timestamps of all records, in order."""
    stamps: list[int] = []
    for part in slices:
        batch = part.batch
        if batch.timestamp_type:
            stamps += [batch.max_timestamp_ms] * (part.stop - part.start)
        elif part.start == 0 and part.stop == len(batch.columns.values):
            stamps += batch.columns.timestamps_ms
        else:
            stamps += batch.columns.timestamps_ms[part.start : part.stop]
    return stamps
