"""What compacted logs still say: for each key what was acknowledged last, or something later.

B12 compaction-truth: the newest acknowledged value of a key is gone, or an older one stands in its place; a tombstone that is gone
before ``delete.retention.ms`` is over.

Inputs:   the history, the logs of topics with ``cleanup.policy=compact``.      Effects: findings.
Rule 1:   whoever reads such a log from its start builds a table of it: what stands last of each key is what the table says.
Rule 2:   a tombstone that nobody reported may have removed a key, and be gone itself after ``delete.retention.ms``: that a key is missing
          is a breach before that time only. That an older value came back always is.
Rule 3:   as for every loss: only what the settings promise, and the budget does not excuse (`excuse_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from kafkasim.check.budget import Budget
from kafkasim.check.log_oracles import LogView, excuse_of
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Happened, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import ConfigRecord
from kafkasim.core.model.records import RecordBatch

_MOST_TOLD = 5
_RETENTION = "delete.retention.ms"

#: Key -> (offset, value, the report that told of it).
_Newest: TypeAlias = "dict[bytes | None, tuple[int, bytes | None, Acked]]"


def check_compaction(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
    budget: Budget | None = None,
    now_us: int | None = None,
) -> None:
    """B12. O(records of compacted topics). ``now_us``: when the logs were looked at; None: nothing is said of missing keys."""
    compacted = {
        tp: view for tp, view in logs.items() if view.is_compacted and view.has_leader and not view.is_observed
    }
    if not compacted:
        return
    acknowledged = _acknowledged(events, compacted)
    shortest_ms = _shortest_retention(events) if acknowledged else {}
    for tp, newest in acknowledged.items():
        view = compacted[tp]
        kept_us = 1000 * min(view.delete_retention_ms, shortest_ms.get(tp.topic, view.delete_retention_ms))
        _check_partition(tp, newest, view, kept_us, report, budget or Budget(()), now_us)


def _acknowledged(
    events: Iterable[HistoryEvent], logs: Mapping[TopicPartition, LogView]
) -> dict[TopicPartition, _Newest]:
    found: dict[TopicPartition, _Newest] = {}
    for event in events:
        if (
            type(event) is not Acked
            or event.error is not ErrorCode.NONE
            or event.base_offset < 0
            or event.tp not in logs
        ):
            continue
        newest = found.setdefault(event.tp, {})
        columns = event.batch.columns
        for index in range(event.start, event.stop):
            key, offset = columns.keys[index], event.base_offset + index
            if key not in newest or newest[key][0] < offset:
                newest[key] = (offset, columns.values[index], event)
    return found


def _shortest_retention(events: Iterable[HistoryEvent]) -> dict[str, int]:
    """delete.retention.ms may have been changed since: the shortest that a topic ever had, where it had one of its own."""
    shortest: dict[str, int] = {}
    for event in events:
        if type(event) is not Happened or event.kind != "metadata-committed":
            continue
        batches: Any = dict(event.fields)["batches"]
        for record in [record for batch in batches for record in getattr(batch, "records", ())]:
            if isinstance(record, ConfigRecord) and record.name == _RETENTION and record.value is not None:
                value = int(record.value)
                shortest[record.resource_name] = min(value, shortest.get(record.resource_name, value))
    return shortest


def _check_partition(
    tp: TopicPartition,
    newest: _Newest,
    view: LogView,
    kept_us: int,
    report: Report,
    budget: Budget,
    now_us: int | None,
) -> None:
    table = _table((*view.batches, *view.uncommitted))
    report.count("keys of compacted topics", len(newest))
    told = 0
    for key, (offset, value, event) in newest.items():
        found = table.get(key)
        if offset < view.start_offset or (found is not None and found[0] > offset) or found == (offset, value):
            continue
        if found is None and (now_us is None or now_us - event.at_us >= kept_us):
            continue
        told += 1
        if told <= _MOST_TOLD:
            what = "a tombstone" if value is None else "a value"
            if found is None:
                there, cause = "the key is not in the log", "the newest record of a key is gone"
            elif found[0] < offset:
                there, cause = f"the log ends with its offset {found[0]}", "an older value of a key came back"
            else:
                there, cause = "another value is there", "another value than was acknowledged"
            text = f"{tp} key {key!r}: {what} was acknowledged to {event.client} at offset {offset}, {there}"
            excuse = excuse_of(event, view, budget)
            report.tell("compaction-truth", text, excuse, at_us=event.at_us, tp=tp, cause=cause)


def _table(batches: Iterable[RecordBatch]) -> dict[bytes | None, tuple[int, bytes | None]]:
    """What a reader makes of the log: (offset, value) of each key's last record."""
    table: dict[bytes | None, tuple[int, bytes | None]] = {}
    for batch in batches:
        if not batch.is_control:
            columns = batch.columns
            for index, key in enumerate(columns.keys):
                table[key] = (batch.offset_at(index), columns.values[index])
    return table
