"""Where consumers read on: in what replaced their records, behind the end of the log; how late, and how often again.

R3 position-jump: a record that a consumer was given is not in the log any more, and it went on after it all the same.
G9 truncation-silence: a consumer waits behind the end of a log that was cut, and was told nothing.
R5 staleness and G5 redelivery: metrics.

Inputs:   the history, the logs.      Effects: findings, metrics.
Rule 1:   a position is moved by an assignment, a seek, a reset or a truncation that the client noticed; all of them are events.
Rule 2:   what a later record of the log follows is settled: a consumer that has it read on in that log, whenever that was.
Rule 3:   work is done per slice of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

from kafkasim.check.identity import BY_COLUMNS, Identity
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    Acked,
    Assigned,
    Closed,
    Delivered,
    Happened,
    HistoryEvent,
    Repositioned,
    Revoked,
    Sought,
)
from kafkasim.core.model.ids import TopicPartition

_MOST_TOLD = 5
#: So long after a new leader began, a consumer may not have heard of it: the longest wait of its fetches and of its metadata.
_NOTICED_US = 30_000_000

_Reader: TypeAlias = "tuple[str, TopicPartition]"


def check_positions(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
    identity: Identity = BY_COLUMNS,
) -> None:
    """R3, G9 and R5: one pass. O(events)."""
    logs = {tp: view for tp, view in logs.items() if not view.is_compacted and view.has_leader}
    held = {
        tp: {batch.base_offset: identity.of(batch) for batch in (*view.batches, *view.uncommitted)}
        for tp, view in logs.items()
    }
    reading: dict[_Reader, Delivered] = {}
    jumps: dict[TopicPartition, int] = {}
    for event in events:
        if type(event) is Delivered:
            reader = (event.client, event.tp)
            last = reading.get(reader)
            if (
                last is not None
                and last.batch is not event.batch
                and event.tp in held
                and _has_jumped(last, event, held[event.tp], logs[event.tp], identity)
            ):
                jumps[event.tp] = jumps.get(event.tp, 0) + 1
                if jumps[event.tp] <= _MOST_TOLD:
                    _tell_jump(last, event, report)
            reading[reader] = event
        elif type(event) is Assigned or type(event) is Revoked:
            for tp in event.partitions:
                reading.pop((event.client, tp), None)
        elif type(event) is Sought or type(event) is Repositioned:
            reading.pop((event.client, event.tp), None)
        elif type(event) is Closed:
            for reader in [reader for reader in reading if reader[0] == event.client]:
                del reading[reader]
    _check_silence(events, reading, logs, report)


def _has_jumped(
    last: Delivered, event: Delivered, held: Mapping[int, object], view: LogView, identity: Identity
) -> bool:
    """Is what comes now in the log, and what came last is not, although it is at an earlier offset that the log still covers?"""
    before, batch = last.batch, event.batch
    if batch.base_offset < before.next_offset or before.base_offset < view.start_offset:
        return False
    return held.get(batch.base_offset) == identity.of(batch) and held.get(before.base_offset) != identity.of(before)


def _tell_jump(last: Delivered, event: Delivered, report: Report) -> None:
    before, batch = last.batch, event.batch
    text = (
        f"{event.client} went on at {event.tp} offset {batch.offset_at(event.start)} (epoch {batch.leader_epoch}) after offset "
        f"{before.offset_at(last.stop - 1)} (epoch {before.leader_epoch}), which the log had replaced: what is there was passed over"
    )
    cause = "read on across a truncation"
    report.add("position-jump", text, at_us=event.at_us, tp=event.tp, cause=cause)


def _check_silence(
    events: Iterable[HistoryEvent],
    reading: Mapping[_Reader, Delivered],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
) -> None:
    """G9, for who still reads at the end."""
    behind = []
    for (client, tp), last in reading.items():
        view = logs.get(tp)
        if view is None:
            continue
        end = (
            (view.uncommitted or view.batches)[-1].next_offset
            if view.uncommitted or view.batches
            else view.start_offset
        )
        if last.batch.base_offset >= end:
            behind.append((client, tp, last, end))
    if not behind:
        return
    now_us, led_us = 0, dict.fromkeys((tp for _, tp, _, _ in behind), 0)
    for event in events:
        now_us = event.at_us
        if type(event) is Happened and event.kind == "became leader" and event.subject in led_us:
            led_us[event.subject] = event.at_us
    for client, tp, last, end in behind:
        if now_us - max(led_us[tp], last.at_us) > _NOTICED_US:
            position = last.batch.offset_at(last.stop - 1) + 1
            text = f"{client} waits at {tp} offset {position}, the log ends at {end}, and nothing told it so"
            report.add("truncation-silence", text, at_us=now_us, tp=tp, cause="a truncation that nobody noticed")


# --- metrics -----------------------------------------------------------------------------------------------------------


@attrs.define(slots=True, eq=False)
class _Waiting:
    """The acknowledged records of a partition: from which offset on, until where, since when; ascending."""

    spans: list[tuple[int, int, int]] = attrs.field(factory=list)


@attrs.define(slots=True, eq=False)
class _Reading:
    """How far a group is in a partition: which acknowledgement comes next, the longest wait, what was given."""

    next: int = 0
    worst_us: int = 0
    end: int = 0
    given: list[tuple[int, int]] = attrs.field(factory=list)
    records: int = 0


def measure_reading(events: Sequence[HistoryEvent], report: Report) -> None:
    """R5: from the acknowledgement of a record to its first delivery to a group. G5: how many deliveries were not the first."""
    waiting: dict[TopicPartition, _Waiting] = {}
    readings: dict[str, dict[TopicPartition, _Reading]] = {}
    for event in events:
        if type(event) is Acked:
            if event.error is ErrorCode.NONE and event.base_offset >= 0:
                spans = waiting.setdefault(event.tp, _Waiting()).spans
                first, stop = event.base_offset + event.start, event.base_offset + event.stop
                if not spans or first >= spans[-1][1]:
                    spans.append((first, stop, event.at_us))
        elif type(event) is Delivered:
            of_group = readings.setdefault(event.group, {})
            reading = of_group.get(event.tp)
            if reading is None:
                reading = of_group[event.tp] = _Reading()
            _take_delivery(event, reading, waiting.get(event.tp))
    for group, parts in readings.items():
        worst_us = max(reading.worst_us for reading in parts.values())
        report.measure(f"staleness: group {group} waited for acknowledged records, ms at most", worst_us // 1000)
        again = sum(reading.records - _distinct(reading.given) for reading in parts.values())
        if again:
            report.measure(f"redelivery: records that group {group} was given again", again)


def _take_delivery(event: Delivered, reading: _Reading, waiting: _Waiting | None) -> None:
    batch = event.batch
    first, stop = batch.offset_at(event.start), batch.offset_at(event.stop - 1) + 1
    reading.records += event.stop - event.start
    given = reading.given
    if batch.offsets is not None:
        given.extend((offset, offset + 1) for offset in batch.offsets[event.start : event.stop])
    elif given and given[-1][1] == first:
        given[-1] = (given[-1][0], stop)
    else:
        given.append((first, stop))
    if stop <= reading.end or waiting is None:
        return
    reading.end = stop
    spans, at = waiting.spans, reading.next
    while at < len(spans) and spans[at][0] < stop:
        if spans[at][1] > first and event.at_us - spans[at][2] > reading.worst_us:
            reading.worst_us = event.at_us - spans[at][2]
        if spans[at][1] > stop:
            break
        at += 1
    reading.next = at


def _distinct(spans: list[tuple[int, int]]) -> int:
    """How many offsets the spans cover."""
    if len(spans) == 1:
        return spans[0][1] - spans[0][0]
    total = end = 0
    for start, stop in sorted(spans):
        start = max(start, end)
        if stop > start:
            total += stop - start
            end = stop
    return total
