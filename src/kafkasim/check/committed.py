"""What a partition is known to have committed, and the logs that hold it: what the replication oracle judges by.

Rule 1:   batches travel by reference, so a log holds a batch if that very object stands where it belongs.
Rule 2:   the logs are the replicas' own, not copies of them: what an oracle remembers of each is how far it was seen to agree.
Rule 3:   what is below the start of the log is forgotten.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from kafkasim.check.metadata_oracle import PartitionView
from kafkasim.core.model.ids import NodeId
from kafkasim.core.model.records import RecordBatch

#: A partition of one incarnation of a topic: (topic id, number).
Key = tuple[str, int]
#: So many batches below the start of a log are kept before they are forgotten.
_TRIMMED_AT = 64


class ReplicaLog(Protocol):
    """One replica's log. Below ``verified`` it is known to agree with what is committed; at ``due`` somebody should look again."""

    node: NodeId
    partition: int
    topic_id: str
    truth: Truth | None
    verified: int
    due: int
    start: int
    end: int

    def holds(self, batch: RecordBatch) -> bool: ...

    def read(self, offset: int, max_bytes: int, upper: int, at_least_one: bool = True) -> tuple[RecordBatch, ...]: ...


class ReplicaView(Protocol):
    """A replica of a broker. What a leader has besides is ``isr``, ``pending_isr`` and ``followers``."""

    log: Any
    high_watermark: int
    leader_epoch: int

    @property
    def is_leader(self) -> bool: ...


class CommittedLog:
    """Batches in offset order from ``start`` to ``end``, each with the time at which the high watermark passed it."""

    __slots__ = ("bases", "batches", "end", "start", "times_us")

    def __init__(self) -> None:
        self.start = self.end = 0
        self.bases: list[int] = []
        self.batches: list[RecordBatch] = []
        self.times_us: list[int] = []

    def append(self, batch: RecordBatch, at_us: int) -> None:
        self.bases.append(batch.base_offset)
        self.batches.append(batch)
        self.times_us.append(at_us)
        self.end = batch.base_offset + batch.count

    def cut(self, end: int) -> list[RecordBatch]:
        """Give up what begins at ``end`` or later: returned."""
        keep = bisect_left(self.bases, end)
        gone = self.batches[keep:]
        del self.bases[keep:], self.batches[keep:], self.times_us[keep:]
        self.end = end
        return gone

    def trim(self, start: int) -> None:
        """Forget the batches that end at or before ``start``, once they are many."""
        gone = bisect_right(self.bases, start) - 1
        if gone > _TRIMMED_AT:
            del self.bases[:gone], self.batches[:gone], self.times_us[:gone]
            self.start = self.bases[0]

    def between(self, start: int, end: int) -> Sequence[RecordBatch]:
        """The batches that begin in ``[start, end)``."""
        return self.batches[bisect_left(self.bases, start) : bisect_left(self.bases, end)]

    def index_at(self, offset: int) -> int:
        """Which batch holds ``offset``; -1: none."""
        index = bisect_right(self.bases, offset) - 1
        return index if index >= 0 and self.batches[index].next_offset > offset else -1

    def index_of(self, batch: RecordBatch) -> int:
        """Where this very batch is; -1: nowhere."""
        index = bisect_left(self.bases, batch.base_offset)
        return index if index < len(self.bases) and self.batches[index] is batch else -1


@attrs.define(slots=True, eq=False)
class Truth:
    """One partition: what is committed, who holds it, who wrote and led."""

    key: Key
    committed: CommittedLog = attrs.field(factory=CommittedLog)
    #: The logs that brokers have of it; one of a replica that is none any more may be among them.
    copies: dict[NodeId, ReplicaLog] = attrs.field(factory=dict)
    view: PartitionView | None = None
    #: Leader epoch -> who wrote in it.
    writers: dict[int, NodeId] = attrs.field(factory=dict)
    #: Nothing is said of it any more: a cleaned batch is another object than the one that was committed; and where an ELR that
    #: outlived a reassignment has elected a leader that lacks records, one that has them may be elected again.
    is_unjudged: bool = False
    #: Followers whose log ends the leader remembers from an epoch before, though they have cut them since.
    misjudged: dict[NodeId, int] = attrs.field(factory=dict)
    #: The newest epoch that a leader began, and the newest one that began with an unclean election.
    leader_epoch: int = -1
    lineage_epoch: int = -1
    #: What was committed once and was given up, by identity.
    given_up: dict[int, RecordBatch] = attrs.field(factory=dict)
    #: (from which offset on, how many replicas held it when it was committed, how many replicas there were).
    copied: list[tuple[int, int, int]] = attrs.field(factory=list)
    held: int = -1
    #: What the leader counted, and the controller knew, when the two were last compared.
    compared: tuple[object, ...] = (None, None, None, None, -1)
    #: What is committed at or above this offset is known to be on no replica.
    survived: int = 1 << 62

    def copies_at(self, offset: int) -> tuple[int, int] | None:
        """(replicas that held it when it was committed, replicas that there were); None: not known."""
        index = bisect_right(self.copied, (offset, 1 << 30, 0)) - 1
        return self.copied[index][1:] if index >= 0 else None
