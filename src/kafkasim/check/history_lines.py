"""A history as lines of JSON: written from either backend, read back for the oracles.

Inputs:   history events; or lines.      Effects: lines; or history events. Nothing here opens a file.
Rule 1:   the first line names the format; records are written once, where a batch is first met, and later lines refer to them.
Rule 2:   what is read back gives the same verdict: batches that shared their columns share them again.
Rule 3:   lines are data. What is not understood is refused with its line number.
Differs:  what a server noted (``Happened``) comes back as plain JSON values, not as the objects it was made of.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import attrs

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    Acked,
    Assigned,
    Closed,
    Committed,
    Delivered,
    Effected,
    EndTold,
    Happened,
    HistoryEvent,
    Inserted,
    OffsetsFetched,
    Repositioned,
    Revoked,
    ShareAcknowledged,
    ShareDelivered,
    Sought,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import Columns, RecordBatch
from kafkasim.errors import ConfigurationError

FORMAT = "kafkasim-history"
VERSION = 1
_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Acked,
        Assigned,
        Closed,
        Committed,
        Delivered,
        Effected,
        EndTold,
        Happened,
        Inserted,
        OffsetsFetched,
        Repositioned,
        Revoked,
        ShareAcknowledged,
        ShareDelivered,
        Sought,
    )
}
#: What of a batch an oracle looks at, beside its columns.
_BATCH_FIELDS = (
    "count",
    "size_bytes",
    "max_timestamp_ms",
    "base_offset",
    "leader_epoch",
    "producer_id",
    "producer_epoch",
)
_BATCH_MORE = ("base_sequence", "timestamp_type", "is_transactional", "is_control", "offsets")


def history_lines(events: Iterable[HistoryEvent]) -> Iterator[str]:
    """Each event as one line, the records that it is first to name on a line before it."""
    yield json.dumps({"format": FORMAT, "version": VERSION})
    numbers: dict[int, int] = {}
    kept: list[Columns] = []  # A number stands for an object: none may go while its number is in use.
    for event in events:
        batch = getattr(event, "batch", None)
        if batch is not None and id(batch.columns) not in numbers:
            columns = batch.columns
            numbers[id(columns)] = len(kept)
            kept.append(columns)
            records = {"keys": list(map(_text, columns.keys)), "values": list(map(_text, columns.values))}
            yield json.dumps({"records": numbers[id(columns)], **records, "timestamps_ms": columns.timestamps_ms})
        yield json.dumps({"event": type(event).__name__, **_event_values(event, numbers)})


def read_history_lines(lines: Iterable[str]) -> list[HistoryEvent]:
    """The events of a history that was written by ``history_lines``. Raises ConfigurationError with the line's number."""
    events: list[HistoryEvent] = []
    met = _Met()
    is_known = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not is_known:
                _check_head(values)
                is_known = True
            elif "records" in values:
                keys, texts = list(map(_bytes, values["keys"])), list(map(_bytes, values["values"]))
                met.columns[values["records"]] = Columns(keys, texts, list(values["timestamps_ms"]))
            else:
                events.append(_event(values, met))
        except ConfigurationError as problem:
            raise ConfigurationError(f"line {number} of a history: {problem}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise ConfigurationError(
                f"line {number} of a history cannot be read: {type(problem).__name__} {problem}"
            ) from None
    if not is_known:
        raise ConfigurationError("an empty history: not even its first line is there")
    return events


def _check_head(values: Any) -> None:
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise ConfigurationError(
            f"no history: its first line would say {json.dumps({'format': FORMAT, 'version': VERSION})}"
        )
    if values.get("version") != VERSION:
        raise ConfigurationError(
            f"a history of version {values.get('version')!r}; this kafkasim reads version {VERSION}"
        )


# --- one event -------------------------------------------------------------------------------------------------------


def _event_values(event: HistoryEvent, numbers: Mapping[int, int]) -> dict[str, Any]:
    return {
        field.name: _plain(getattr(event, field.name), numbers)
        for field in attrs.fields(cast("type[Any]", type(event)))
    }


def _plain(value: Any, numbers: Mapping[int, int]) -> Any:
    if isinstance(value, RecordBatch):
        fields = {name: getattr(value, name) for name in (*_BATCH_FIELDS, *_BATCH_MORE)}
        return {"records": numbers[id(value.columns)], **fields}
    if isinstance(value, TopicPartition):
        return {"topic": value.topic, "partition": value.partition}
    if isinstance(value, ErrorCode):
        return {"error": value.name}
    if isinstance(value, bytes):
        return {"bytes": _text(value)}
    if isinstance(value, tuple | list):
        return [_plain(item, numbers) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


@attrs.define(slots=True, eq=False)
class _Met:
    """What lines name again and again: one object each, which costs less memory, and is what oracles compare fastest."""

    columns: dict[int, Columns] = attrs.field(factory=dict)
    places: dict[TopicPartition, TopicPartition] = attrs.field(factory=dict)


def _event(values: Mapping[str, Any], met: _Met) -> HistoryEvent:
    kind = _KINDS.get(values.get("event", ""))
    if kind is None:
        raise ConfigurationError(f"no event {values.get('event')!r}; known: {', '.join(_KINDS)}")
    fields = {
        field.name: _object(values[field.name], met)
        for field in attrs.fields(kind)
        if field.name in values or field.default is attrs.NOTHING  # What came later has a default: older files lack it.
    }
    event: HistoryEvent = kind(**fields)
    return event


def _object(value: Any, met: _Met) -> Any:
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, Mapping):
        if "records" in value:
            return RecordBatch(
                met.columns[value["records"]], **{name: value[name] for name in (*_BATCH_FIELDS, *_BATCH_MORE)}
            )
        if "topic" in value:
            place = TopicPartition(value["topic"], value["partition"])
            return met.places.setdefault(place, place)
        if "bytes" in value:
            return _bytes(value["bytes"])
        return ErrorCode[value["error"]]
    if isinstance(value, list):
        return tuple(_object(item, met) for item in value)
    return value


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
