"""What clients were told, held to what was committed when they were told: reads, and acknowledgements at acks=all.

B5 repeatable-read: what a consumer was given had been committed, and is what stays there.
P11 weak-ack: what was acknowledged had been committed, by as many replicas as min.insync.replicas asks for.

Inputs:   the history of a simulated cluster, and its replication oracle.      Effects: findings.
Rule 1:   asked at the end, of each slice of a batch once: the oracle has kept when a batch was committed, and by how many.
Rule 2:   what an unclean election gave up was committed once: whoever saw it then was told nothing wrong. Leaders from before such an
          election go on in their own world: nothing is said of it.
Rule 3:   a replica that lost its data while it was waited for, within the budget of the run, was waited for all the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.check.budget import Budget
from kafkasim.check.committed import Truth
from kafkasim.check.replication_oracle import ReplicationOracle
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Delivered, HistoryEvent, ShareDelivered
from kafkasim.core.model.ids import TopicPartition

_MOST_TOLD = 20
_ACKS_ALL = -1


def check_told(events: Iterable[HistoryEvent], oracle: ReplicationOracle, report: Report, budget: Budget) -> None:
    """B5 and P11. O(events * log batches)."""
    if oracle.metadata.is_contradictory:
        return
    told = _Told(oracle, report, budget)
    for event in events:
        if type(event) is Delivered or type(event) is ShareDelivered:
            told.on_delivered(event)
        elif (
            type(event) is Acked
            and event.acks == _ACKS_ALL
            and event.error is ErrorCode.NONE
            and event.base_offset >= 0
        ):
            told.on_acked(event)


class _Told:
    def __init__(self, oracle: ReplicationOracle, report: Report, budget: Budget) -> None:
        self._report = report
        self._budget = budget
        self._count: dict[str, int] = {}
        #: Partitions by name; one that was made again has several.
        self._truths: dict[TopicPartition, list[Truth]] = {}
        for key, truth in oracle.truths.items():
            self._truths.setdefault(oracle.tp(key), []).append(truth)

    def on_delivered(self, event: Delivered | ShareDelivered) -> None:
        truths = self._truths.get(event.tp)
        batch = event.batch
        if truths is None:
            return
        why = ""
        for truth in truths:
            committed = truth.committed
            if truth.is_unjudged or batch.base_offset < committed.start:
                return
            index = committed.index_of(batch)
            if index >= 0:
                committed_us = committed.times_us[index]
                if committed_us <= event.at_us:
                    return
                why = f"it was committed at {committed_us / 1e6:.6f} s"
            elif id(batch) in truth.given_up or batch.leader_epoch < truth.lineage_epoch:
                return
        offset = batch.offset_at(event.start)
        why = why or "it was never committed"
        text = f"{event.client} was given {event.tp} offset {offset} (epoch {batch.leader_epoch}): {why}"
        self._tell("repeatable-read", text, event.at_us, event.tp, "a read of what was not committed")

    def on_acked(self, event: Acked) -> None:
        truths = self._truths.get(event.tp)
        if truths is None:
            return
        first = event.base_offset + event.start
        told_us = event.resolved_us if event.resolved_us >= 0 else event.at_us
        why, cause = "nothing is committed there", "acknowledged before it was committed"
        for truth in truths:
            committed = truth.committed
            if truth.is_unjudged or first < committed.start:
                return
            index = committed.index_at(event.base_offset)
            if index < 0 or committed.batches[index].columns is not event.batch.columns:
                if truth.lineage_epoch >= 0:
                    return  # Given up with leave, or acknowledged by who had been deposed without knowing it.
                why = why if index < 0 else "another batch is committed there"
                continue
            if committed.times_us[index] > told_us:
                why = f"it was committed at {committed.times_us[index] / 1e6:.6f} s"
                continue
            lacking = self._lacking(truth, event, told_us)
            if lacking is None:
                return
            why, cause = lacking, "acknowledged with too few copies"
        text = f"{event.tp} offset {first}, acknowledged to {event.client} at {told_us / 1e6:.6f} s: {why}"
        self._tell("weak-ack", text, event.at_us, event.tp, cause)

    def _lacking(self, truth: Truth, event: Acked, told_us: int) -> str | None:
        """Too few held it when it was committed: how few; None if they were enough."""
        counted = truth.copies_at(event.base_offset)
        if counted is None or counted[0] == counted[1]:
            return None
        copies, replicas = counted
        wanted = min(self._budget.least_min_insync(event.tp.topic, told_us), replicas)
        return None if copies >= wanted else f"{copies} of {replicas} replicas held it, min.insync.replicas is {wanted}"

    def _tell(self, invariant: str, text: str, at_us: int, tp: TopicPartition, cause: str) -> None:
        count = self._count[invariant] = self._count.get(invariant, 0) + 1
        if count <= _MOST_TOLD:
            self._report.add(invariant, text, at_us=at_us, tp=tp, cause=cause)
