"""History events in words, and as values that can be compared between runs.

Inputs:   one event of a history.      Effects: text; a key.
Rule 1:   two events of two runs have one key if a reader of both histories could not tell them apart.
"""

from __future__ import annotations

from typing import Any, cast

import attrs

from kafkasim.core.model.history import (
    Acked,
    Assigned,
    Committed,
    Delivered,
    Effected,
    EndTold,
    Happened,
    HistoryEvent,
    Inserted,
    OffsetsFetched,
    Revoked,
    Sought,
)
from kafkasim.core.model.records import RecordBatch

_MOST_CHARACTERS = 160


def event_key(event: HistoryEvent, cluster_name: str = "") -> tuple[object, ...]:
    """The event's class and fields; a batch counts by where its records are and what they hold.

    ``cluster_name`` is taken out of addresses: it is another for every cluster of a process.
    """
    kind = type(event)
    fields = attrs.fields(cast("type[Any]", kind))
    return kind.__name__, *(_key(getattr(event, field.name), cluster_name) for field in fields)


def _key(value: object, cluster_name: str) -> object:
    if isinstance(value, RecordBatch):
        return value.base_offset, value.count, value.leader_epoch, tuple(value.columns.values)
    if isinstance(value, tuple | list):
        return tuple(_key(item, cluster_name) for item in value)
    if isinstance(value, int | str | bytes | None):
        return value
    return str(value).replace(cluster_name, "") if cluster_name else str(value)


def event_text(event: HistoryEvent) -> str:
    """One line: when, who, what."""
    text = f"{event.at_us / 1e6:.6f} s  {_words(event)}"
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def _offsets(event: Committed | OffsetsFetched) -> str:
    return ", ".join(f"{tp} at {offset} ({error.name})" for tp, offset, error in event.offsets)


def _words(event: HistoryEvent) -> str:
    if isinstance(event, Acked):
        count = event.stop - event.start
        if event.base_offset < 0:
            return f"{event.client}: {count} records of {event.tp} not written: {event.error.name}"
        return f"{event.client}: {count} records acknowledged from {event.tp} offset {event.base_offset + event.start}"
    if isinstance(event, Delivered):
        first, last = event.batch.offset_at(event.start), event.batch.offset_at(event.stop - 1)
        return f"{event.client} of {event.group}: given {event.tp} offsets {first} to {last}"
    if isinstance(event, Assigned):
        return f"{event.client} of {event.group}: assigned {_list(event.partitions)}"
    if isinstance(event, Revoked):
        return f"{event.client} of {event.group}: {'lost' if event.lost else 'gave up'} {_list(event.partitions)}"
    if isinstance(event, Committed):
        return f"{event.client} of {event.group}: committed {_offsets(event)}"
    if isinstance(event, OffsetsFetched):
        return f"{event.client} of {event.group}: was told that committed is {_offsets(event)}"
    if isinstance(event, Inserted):
        return f"{event.client}: wrote {event.value!r} into {event.table}"
    if isinstance(event, Sought):
        return f"{event.client} of {event.group}: moved {event.tp} to {event.offset}"
    if isinstance(event, EndTold):
        return f"{event.client}: told that {event.tp} ends at {event.offset}"
    if isinstance(event, Effected):
        return f"sink {event.sink} of {event.group}: {event.tp} offset {event.offset} {event.phase}"
    if isinstance(event, Happened):
        fields = " ".join(f"{name}={_short(value)}" for name, value in event.fields)
        subject = "" if event.subject == event.node else f" {event.subject}"
        return f"node {event.node}: {event.kind}{subject} {fields}".rstrip()
    return type(event).__name__


def _list(partitions: tuple[object, ...]) -> str:
    return ", ".join(map(str, partitions))


def _short(value: object) -> str:
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple | list) else str(value)
