"""What happened in a run, sorted for those who ask: metadata with times and causes, faults, and each partition's own events.

Inputs:   a history; ``refresh`` takes in what came since the last call.
Rule 1:   nothing is recorded for this: the history is read when somebody asks, and each event of it once.
Rule 2:   a batch of the metadata log counts from when the active controller committed it; one that never was committed does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import attrs

from kafkasim.core.model.history import DISK_FAULTS, NETWORK_FAULTS, PROCESS_FAULTS, Happened, HistoryEvent
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.metadata import MetadataBatch

#: Notes after which no process runs.
ENDS = ("crash", "power_loss", "stopped")


@attrs.define(slots=True, frozen=True)
class Written:
    """Who wrote a batch of the metadata log, when, and on what occasion (``event``, ``cause``)."""

    at_us: int
    node: NodeId
    event: str
    cause: Any


@attrs.define(slots=True, frozen=True)
class Committed:
    """A committed batch; ``written`` is None for what the quorum wrote itself."""

    at_us: int
    node: NodeId
    batch: MetadataBatch
    written: Written | None


@attrs.define(slots=True, frozen=True)
class Fact:
    """A note of the history with its fields by name."""

    at_us: int
    node: NodeId
    kind: str
    subject: Any
    fields: dict[str, Any]


class Facts:
    """``committed`` is the metadata log with times; the rest is what its names say, each list in order of time."""

    def __init__(self, events: Sequence[HistoryEvent]) -> None:
        self.committed: list[Committed] = []
        #: By broker: when its image had reached which offset.
        self.published: dict[NodeId, list[tuple[int, int]]] = {}
        self.processes: list[Fact] = []
        self.network: list[Fact] = []
        self.disks: list[Fact] = []
        #: controller-active and controller-renounced.
        self.controllers: list[Fact] = []
        self.of_partition: dict[TopicPartition, list[Fact]] = {}
        self._events = events
        self._read = 0
        self._committed_end = 0
        self._written: dict[tuple[int, int], Written] = {}
        self._handlers: dict[str, Callable[[Happened], None]] = {
            "metadata-written": self._take_written,
            "metadata-committed": self._take_committed,
            "metadata-published": self._take_published,
            "controller-active": lambda event: self.controllers.append(_fact(event)),
            "controller-renounced": lambda event: self.controllers.append(_fact(event)),
            **dict.fromkeys(PROCESS_FAULTS, lambda event: self.processes.append(_fact(event))),
            **dict.fromkeys(NETWORK_FAULTS, lambda event: self.network.append(_fact(event))),
            **dict.fromkeys(DISK_FAULTS, lambda event: self.disks.append(_fact(event))),
        }

    def refresh(self) -> None:
        """Take in the events since the last call."""
        handlers = self._handlers
        total = len(self._events)
        for event in islice(self._events, self._read, total):
            if type(event) is Happened:
                handler = handlers.get(event.kind)
                if handler is not None:
                    handler(event)
                elif isinstance(event.subject, TopicPartition):
                    self.of_partition.setdefault(event.subject, []).append(_fact(event))
        self._read = total

    def _take_written(self, event: Happened) -> None:
        fields = dict(event.fields)
        key = (int(str(fields["offset"])), int(str(fields["epoch"])))
        self._written[key] = Written(event.at_us, event.node, str(fields["event"]), fields["cause"])

    def _take_committed(self, event: Happened) -> None:
        """A new leader may commit again what its predecessor had."""
        batches: Any = dict(event.fields)["batches"]
        for batch in batches:
            if batch.base_offset >= self._committed_end:
                written = self._written.pop((batch.base_offset, batch.epoch), None)
                self.committed.append(Committed(event.at_us, event.node, batch, written))
                self._committed_end = batch.next_offset

    def _take_published(self, event: Happened) -> None:
        offset: Any = dict(event.fields)["offset"]
        self.published.setdefault(event.node, []).append((event.at_us, offset))


def _fact(event: Happened) -> Fact:
    return Fact(event.at_us, event.node, event.kind, event.subject, dict(event.fields))
