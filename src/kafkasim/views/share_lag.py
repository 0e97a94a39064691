"""Where the records of a share group are, over time: how many it has not dealt with, how many are in hand, how many were archived.

Mirrors:  LAG of kafka-share-groups.sh: the end of the log less the start offset, less what is over behind it.
Inputs:   the history; what brokers noted of share partitions, where it has that.      Effects: none; series.
Rule 1:   the end of a log is what producers were told of, as for every lag.
Rule 2:   brokers' notes count where there are any. Without them (a real cluster keeps them to itself) clients' words do: what they
          were given is acquired until its acknowledgement has an outcome, and of what is archived only rejections are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    ACCEPT,
    REJECT,
    SHARE_ACQUIRED,
    SHARE_ARCHIVED,
    SHARE_CHANGED,
    SHARE_LOADED,
    SHARE_MOVED,
    Acked,
    Happened,
    HistoryEvent,
    ShareAcknowledged,
    ShareDelivered,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.views.lag import Counts, GroupLag

_ACQUIRED = "ACQUIRED"


@attrs.define(slots=True, eq=False)
class ShareLag:
    """Three numbers over time, each by partition and in all: ``lag.total``, ``acquired["jobs", 0]``, ``archived.total.last``."""

    group: str
    lag: GroupLag
    acquired: GroupLag
    archived: GroupLag

    def __repr__(self) -> str:
        return f"<share group {self.group!r}: {self.lag!r}, {self.acquired!r}, {self.archived!r}>"

    def rows(self) -> list[dict[str, object]]:
        """One dict for each change of each: time, topic, partition, what, records."""
        return [
            {**{key: row[key] for key in ("time", "topic", "partition")}, "what": part.what, "records": row[part.what]}
            for part in (self.lag, self.acquired, self.archived)
            for row in part.rows()
        ]


@attrs.define(slots=True, eq=False)
class _Place:
    """One partition as the group has it. ``over``: offsets before this, less ``complete`` behind it, are not the group's any more."""

    start: int
    complete: int = 0
    acquired: int = 0
    archived: int = 0
    #: Without notes: what clients hold.
    held: set[tuple[str, int]] = attrs.field(factory=set)


def share_lag(events: Iterable[HistoryEvent], group: str, now: float) -> ShareLag:
    """The numbers of one share group."""
    listed = list(events)
    noted = {
        event.subject
        for event in listed
        if type(event) is Happened and event.kind == SHARE_LOADED and dict(event.fields)["group"] == group
    }
    ends: dict[TopicPartition, int] = {}
    places: dict[TopicPartition, _Place] = {}
    lag, acquired, archived = Counts(), Counts(), Counts()
    for event in listed:
        tp = _take(event, group, noted, places, ends)
        place = None if tp is None else places.get(tp)
        if tp is not None and place is not None:
            at_s = event.at_us / 1_000_000
            lag.put(tp, at_s, max(0, ends.get(tp, 0) - place.start - place.complete))
            acquired.put(tp, at_s, place.acquired)
            archived.put(tp, at_s, place.archived)
    return ShareLag(
        group,
        lag.of_group(group, now, "share-lag", ""),
        acquired.of_group(group, now, "share-acquired", "", "acquired"),
        archived.of_group(group, now, "share-archived", "", "archived"),
    )


def _take(
    event: HistoryEvent,
    group: str,
    noted: set[Any],
    places: dict[TopicPartition, _Place],
    ends: dict[TopicPartition, int],
) -> TopicPartition | None:
    """Take one event in; the partition about which it says something."""
    if isinstance(event, Acked):
        if event.error is ErrorCode.NONE and event.base_offset >= 0:
            ends[event.tp] = max(ends.get(event.tp, 0), event.base_offset + event.stop)
            return event.tp
    elif isinstance(event, Happened):
        if event.kind.startswith("share ") and event.subject in noted:
            tp: Any = event.subject
            fields = dict(event.fields)
            if fields["group"] == group:
                _on_note(event.kind, fields, places, tp)
                return TopicPartition(*tp)
    elif isinstance(event, ShareDelivered | ShareAcknowledged) and event.group == group and event.tp not in noted:
        _on_client(event, places)
        return event.tp
    return None


def _on_note(kind: str, fields: Mapping[str, Any], places: dict[TopicPartition, _Place], tp: TopicPartition) -> None:
    if kind == SHARE_LOADED:
        before = places.get(tp)
        archived = 0 if before is None else before.archived
        places[tp] = _Place(fields["start_offset"], fields["delivery_complete_count"], archived=archived)
        return
    place = places.get(tp)
    if place is None:
        return
    if kind == SHARE_ACQUIRED:
        place.acquired += sum(last - first + 1 for first, last, _ in fields["runs"])
        if not place.complete:
            place.start = max(place.start, fields["start_offset"])
    elif kind == SHARE_CHANGED:
        place.acquired -= sum(last - first + 1 for first, last, state, _, _ in fields["changes"] if state != _ACQUIRED)
        place.start, place.complete = fields["start_offset"], fields["delivery_complete_count"]
    elif kind == SHARE_MOVED:
        place.start, place.complete = fields["to"], fields["delivery_complete_count"]
    elif kind == SHARE_ARCHIVED:
        first, last = fields["offsets"]
        place.archived += last - first + 1


def _on_client(event: ShareDelivered | ShareAcknowledged, places: dict[TopicPartition, _Place]) -> None:
    if isinstance(event, ShareDelivered):
        offsets = range(event.batch.offset_at(event.start), event.batch.offset_at(event.stop - 1) + 1)
        place = places.setdefault(event.tp, _Place(offsets[0]))
        place.held.update((event.client, offset) for offset in offsets)
    else:
        place = places.setdefault(event.tp, _Place(event.acks[0][0]))
        for first, last, kind in event.acks:
            place.held.difference_update((event.client, offset) for offset in range(first, last + 1))
            if event.error is ErrorCode.NONE and kind in (ACCEPT, REJECT):
                place.complete += last - first + 1
                place.archived += last - first + 1 if kind == REJECT else 0
    place.acquired = len(place.held)
