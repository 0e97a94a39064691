"""Histories of clusters that are not at hand: read from a file, or recorded around real clients, without their logs.

Inputs:   the events, and what is known of the settings.      Effects: a report.
Rule 1:   what consumers were given stands for the logs, as far as it goes: nothing is concluded from what it lacks.
Rule 2:   acknowledged records are looked for where readers went past them (P1b), as no log can be asked.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.identity import BY_COLUMNS, BY_CONTENT, Identity
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.check.run import check_history
from kafkasim.core.model.history import Acked, Delivered, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch


def check_foreign(
    events: Sequence[HistoryEvent],
    guarantees: Sequence[Guarantee] = (),
    *,
    replication_factor: int = 3,
    min_insync_replicas: int = 2,
    compacted: Container[str] = (),
) -> Report:
    """Judge a history by itself. The settings are those of its topics: with fewer copies less is promised."""
    views = {
        tp: LogView(
            batches,
            0,
            min_insync_replicas,
            replication_factor,
            is_compacted=tp.topic in compacted,
            has_leader=False,
            is_observed=True,
        )
        for tp, batches in _observed(events).items()
    }
    return check_history(events, views, _identity(events), guarantees)


def _observed(events: Sequence[HistoryEvent]) -> dict[TopicPartition, list[RecordBatch]]:
    """What consumers were given of each partition, by offset; where they disagree, what came first."""
    seen: dict[TopicPartition, dict[int, RecordBatch]] = {}
    for event in events:
        if type(event) is Acked or type(event) is Delivered:
            batches = seen.get(event.tp)
            if batches is None:
                batches = seen[event.tp] = {}
            if type(event) is Delivered:
                batches.setdefault(event.batch.base_offset, event.batch)
    return {tp: [batches[base] for base in sorted(batches)] for tp, batches in seen.items()}


def _identity(events: Sequence[HistoryEvent]) -> Identity:
    """Batches of one record each, none of which two events share, were recorded around a real client."""
    acked: dict[int, None] = {}
    is_shared = False
    for event in events:
        if type(event) is Acked or type(event) is Delivered:
            if event.batch.count > 1:
                return BY_COLUMNS
            if type(event) is Acked:
                acked[id(event.batch.columns)] = None
            else:
                is_shared |= id(event.batch.columns) in acked
    return BY_COLUMNS if is_shared else BY_CONTENT
