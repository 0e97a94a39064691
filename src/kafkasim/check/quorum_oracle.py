"""The metadata quorum held to KRaft's own invariants, whenever a leader of it says what is committed, or a controller loads a snapshot.

K2 majority: a majority of the voters holds it.       K4 quorum-watermark: high watermarks rise, and none is beyond what a leader committed.
K5 snapshot-at-start: a log that does not begin at 0 has a snapshot that ends where it begins.
K6 leader-snapshot: whoever leads has no need of a snapshot: it knows its log.

Inputs:   what was committed, and the voters as they are then; ``kafkasim.watch`` feeds it.      Effects: findings.
Rule 1:   a few comparisons for each voter and commit of metadata.
Rule 2:   KRaft needs the disks of its voters: once one was replaced, nothing is said any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import attrs

from kafkasim.check.report import Report
from kafkasim.core.model.ids import NodeId
from kafkasim.core.model.metadata import MetadataBatch

_MOST_TOLD = 5

_CAUSES = {
    "majority": "metadata were committed that no majority holds",
    "quorum-watermark": "a voter's high watermark is wrong",
    "snapshot-at-start": "a metadata log lacks its beginning",
    "leader-snapshot": "a leader of the quorum did not know its own log",
}


class VoterLog(Protocol):
    log_start: int
    log_end: int
    base: Any

    def read(self, from_offset: int, max_batches: int) -> tuple[MetadataBatch, ...]: ...


@attrs.frozen
class Voter:
    """``raft`` is its replica of the quorum in the process that runs now (None: none does)."""

    node: NodeId
    log: VoterLog
    raft: Any = None


class QuorumOracle:
    def __init__(self, report: Report, now_us: Callable[[], int] = lambda: 0) -> None:
        #: A voter lost its disk.
        self.is_silent = False
        self._report = report
        self._now_us = now_us
        self._told: dict[str, int] = {}
        #: The largest offset that a leader committed.
        self._end = 0
        #: Of each voter's process: how far its high watermark was.
        self._marks: dict[NodeId, tuple[object, int]] = {}

    def take(self, batches: Sequence[MetadataBatch]) -> None:
        """A leader committed these, at whatever time."""
        if batches:
            self._end = max(self._end, batches[-1].next_offset)

    def on_committed(self, node: NodeId, batches: Sequence[MetadataBatch], voters: Iterable[Voter]) -> None:
        """``node`` leads, and says just now that these are committed."""
        if self.is_silent or not batches:
            return
        last = batches[-1]
        self.take(batches)
        voters = tuple(voters)
        holders = [voter.node for voter in voters if _holds(voter.log, last)]
        if 2 * len(holders) <= len(voters):
            nodes = [voter.node for voter in voters]
            self._tell("majority", f"leader {node} committed {last.next_offset}, {holders} of {nodes} hold that")
        for voter in voters:
            self._look_at(voter)

    def on_snapshot_loaded(self, node: NodeId, is_leader: bool) -> None:
        """The controller of ``node`` began its image anew with a snapshot."""
        if is_leader and not self.is_silent:
            self._tell("leader-snapshot", f"{node} loaded a snapshot while it was the leader")

    def _look_at(self, voter: Voter) -> None:
        log, raft = voter.log, voter.raft
        if log.log_start and (log.base is None or log.base.end_offset != log.log_start):
            held = None if log.base is None else log.base.end_offset
            self._tell(
                "snapshot-at-start", f"the log of {voter.node} begins at {log.log_start}, its snapshot ends at {held}"
            )
        if raft is None:
            return
        mark = raft.high_watermark
        before = self._marks.get(voter.node)
        if before is not None and before[0] is raft and mark < before[1]:
            self._tell("quorum-watermark", f"the high watermark of {voter.node} is {mark}, and was {before[1]}")
        if mark > self._end:
            self._tell("quorum-watermark", f"the high watermark of {voter.node} is {mark}, {self._end} is committed")
        self._marks[voter.node] = (raft, mark)

    def _tell(self, invariant: str, text: str) -> None:
        count = self._told[invariant] = self._told.get(invariant, 0) + 1
        if count <= _MOST_TOLD:
            self._report.add(invariant, text, at_us=self._now_us(), cause=_CAUSES[invariant])


def _holds(log: VoterLog, batch: MetadataBatch) -> bool:
    if log.log_end < batch.next_offset:
        return False
    if log.log_start > batch.base_offset:
        return True  # In its snapshot.
    found = log.read(batch.base_offset, 1)
    return bool(found) and (found[0] is batch or found[0] == batch)
