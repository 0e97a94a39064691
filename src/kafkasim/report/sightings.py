"""Who saw which offsets of one partition, and when: the order view.

Inputs:   the history.      Effects: values.
Rule 1:   a sighting is a run of offsets at one moment: acknowledged, given to a group's member, worked on, committed.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import DONE, Acked, Committed, Delivered, Effected, HistoryEvent
from kafkasim.core.model.ids import TopicPartition

_MOST = 20_000


@attrs.frozen
class Sighting:
    """``last`` is the last offset seen; for a commit both are the committed offset."""

    observer: str
    at_s: float
    first: int
    last: int
    text: str


def sightings(history: Iterable[HistoryEvent], tp: TopicPartition, left_out: list[str]) -> list[Sighting]:
    """In order of time, at most some thousands."""
    found: list[Sighting] = []
    missed = 0
    for event in history:
        sighting = _sighting(event, tp)
        if sighting is None:
            continue
        if len(found) < _MOST:
            found.append(sighting)
        else:
            missed += 1
    if missed:
        left_out.append(f"{missed:,} later sightings of {tp}")
    return found


def _sighting(event: HistoryEvent, tp: TopicPartition) -> Sighting | None:
    if isinstance(event, Acked) and event.tp == tp and event.error is ErrorCode.NONE and event.base_offset >= 0:
        first, last = event.base_offset + event.start, event.base_offset + event.stop - 1
        return Sighting(
            "acknowledged", event.at_us / 1e6, first, last, f"{event.client}: offsets {first} to {last} acknowledged"
        )
    if isinstance(event, Delivered) and event.tp == tp:
        first, last = event.batch.offset_at(event.start), event.batch.offset_at(event.stop - 1)
        text = f"{event.client} of {event.group or 'no group'} was given offsets {first} to {last}"
        return Sighting(f"{event.group or event.client}: given", event.at_us / 1e6, first, last, text)
    if isinstance(event, Effected) and event.tp == tp and event.phase == DONE:
        text = f"{event.client}: work on offset {event.offset} done ({event.sink})"
        return Sighting(f"{event.group}: done", event.at_us / 1e6, event.offset, event.offset, text)
    if isinstance(event, Committed):
        for where, offset, error in event.offsets:
            if where == tp and error is ErrorCode.NONE:
                text = f"{event.client} committed {offset}"
                return Sighting(f"{event.group}: committed", event.at_us / 1e6, offset, offset, text)
    return None
