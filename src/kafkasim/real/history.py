"""The history of a real run: several threads write to it, and forked tasks that may be killed at any moment.

Effects:  a nameless temporary file for each forked task, which goes with the last process that has it open.
Rule 1:   events are stamped with the handle's time, which is one clock for all processes of the machine; `collect` merges by it.
Rule 2:   a task's file holds whole events only as far as it is read: what SIGKILL cut off is its last one.
"""

from __future__ import annotations

import itertools
import os
import pickle
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, cast

from kafkasim.core.model.history import HistoryEvent
from kafkasim.sim.recorder import History

_LENGTH = struct.Struct(">I")


class RealHistory(History):
    """Iterate, index, or append through ``record``; ``collect`` first, where tasks were forked."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        super().__init__()
        self.now_us = now_us
        self.record = self._record
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._spools: list[_Spool] = []
        self._counts: dict[str, itertools.count[int]] = {}

    def client_name(self, kind: str, client_id: str) -> str:
        """``<client.id>#<kind>-<n>``, as on the simulator; a forked task, which counts alone, adds its process id."""
        number = next(self._counts.setdefault(kind, itertools.count(1)))
        where = "" if os.getpid() == self._owner else f"-{os.getpid()}"
        return f"{client_id}#{kind}{where}-{number}"

    def before_fork(self) -> None:
        """Open the file of the task that is forked next."""
        self._spools.append(_Spool())

    def collect(self) -> RealHistory:
        """Take in what forked tasks have written by now, in the order of time."""
        if os.getpid() == self._owner:
            with self._lock:
                fresh = [event for spool in self._spools for event in spool.take()]
                if fresh:
                    self.events.extend(fresh)
                    self.events.sort(key=lambda event: event.at_us)
        return self

    def close(self) -> None:
        """Take in what is left and let the files go; events can still be read."""
        self.collect()
        for spool in self._spools:
            spool.close()
        self._spools.clear()

    def _record(self, event: HistoryEvent) -> None:
        if os.getpid() == self._owner:
            with self._lock:
                self.events.append(event)
        elif self._spools:
            # No lock: another thread of the parent may have held it when this process was forked.
            self._spools[-1].put(event)


class _Spool:
    """A pipe that is never full and outlives its writer: one process puts events, its parent takes them."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the history is
        self._taken = 0

    def put(self, event: HistoryEvent) -> None:
        payload = pickle.dumps(event)
        self._file.write(_LENGTH.pack(len(payload)) + payload)

    def take(self) -> Iterator[HistoryEvent]:
        descriptor = self._file.fileno()
        written = os.pread(descriptor, os.fstat(descriptor).st_size - self._taken, self._taken)
        at = 0
        while at + _LENGTH.size <= len(written):
            (length,) = _LENGTH.unpack_from(written, at)
            end = at + _LENGTH.size + length
            if end > len(written):
                break
            yield cast("HistoryEvent", pickle.loads(written[at + _LENGTH.size : end]))
            at = end
        self._taken += at

    def close(self) -> None:
        self._file.close()
