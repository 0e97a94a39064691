"""Acknowledged records that readers have passed without anybody having read them: losses, seen from outside.

P1b lost-write, as Jepsen tells it, for partitions of which no log is known.

Inputs:   the history.      Effects: findings.
Rule 1:   a reader passes an offset when it is given one before and, right after, one behind it: one assignment, no seek, no reset.
          It passes a record too when it is given another one at its offset.
Rule 2:   only what was acknowledged before it was passed is owed; whoever read it, ever, has it.
Rule 3:   work is done per batch as long as nothing is passed.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TypeAlias

import attrs

from kafkasim.check.identity import BY_COLUMNS, Identity
from kafkasim.check.log_oracles import ACKS_ALL
from kafkasim.check.report import Report
from kafkasim.check.spans import Spans
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    Acked,
    Assigned,
    Delivered,
    HistoryEvent,
    Repositioned,
    Revoked,
    Sought,
)
from kafkasim.core.model.ids import TopicPartition

_MOST_TOLD = 5

#: (first offset, end, when, by whom)
_Passed: TypeAlias = "tuple[int, int, int, str]"


@attrs.define(slots=True, eq=False)
class _Part:
    #: base offset -> record's name -> which of its records were read: (start, stop) of the columns.
    read: dict[int, dict[object, list[tuple[int, int]]]] = attrs.field(factory=dict)
    #: What readers were given, or went past, in the order in which it happened.
    passed: list[_Passed] = attrs.field(factory=list)
    acked: list[Acked] = attrs.field(factory=list)


def check_lost_writes(
    events: Sequence[HistoryEvent],
    known: Container[TopicPartition],
    report: Report,
    identity: Identity = BY_COLUMNS,
    compacted: Container[str] = (),
) -> None:
    """P1b for partitions that are not ``known`` from their logs, and not of ``compacted`` topics. O(batches) where nothing is passed."""
    parts: dict[TopicPartition, _Part] = {}
    next_offset: dict[tuple[str, TopicPartition], int] = {}
    for event in events:
        kind = type(event)
        if kind is Acked or kind is Delivered:
            assert isinstance(event, Acked | Delivered)
            if event.tp in known or event.tp.topic in compacted:
                continue
            part = parts.get(event.tp)
            if part is None:
                part = parts[event.tp] = _Part()
            if isinstance(event, Delivered):
                _take_delivery(part, event, next_offset, identity)
            elif event.error is ErrorCode.NONE and event.base_offset >= 0:
                part.acked.append(event)
        elif isinstance(event, Assigned | Revoked):
            for tp in event.partitions:
                next_offset.pop((event.client, tp), None)
        elif isinstance(event, Sought | Repositioned):
            next_offset.pop((event.client, event.tp), None)
    for tp, part in parts.items():
        lost = list(_lost_of(part, identity))
        for acked, offset, passed in lost[:_MOST_TOLD]:
            text = (
                f"{tp} offset {offset}, acknowledged to {acked.client} at {acked.at_us / 1e6:.6f} s, was read by nobody; "
                f"{passed[3]} had passed it by {passed[2] / 1e6:.6f} s"
            )
            excuse = None if acked.acks == ACKS_ALL else f"acks={acked.acks} does not wait for replicas"
            report.tell("lost-write", text, excuse, at_us=acked.at_us, tp=tp, cause="readers passed it")
        if len(lost) > _MOST_TOLD:
            excuse = None if any(acked.acks == ACKS_ALL for acked, _, _ in lost[_MOST_TOLD:]) else "acks below all"
            text = f"{tp}: {len(lost) - _MOST_TOLD} more records like these"
            report.tell("lost-write", text, excuse, tp=tp, cause="readers passed it")


def _take_delivery(
    part: _Part, event: Delivered, next_offset: dict[tuple[str, TopicPartition], int], identity: Identity
) -> None:
    batch, reader = event.batch, (event.client, event.tp)
    first, stop = batch.offset_at(event.start), batch.offset_at(event.stop - 1) + 1
    expected = next_offset.get(reader)
    passed = part.passed
    since = first if expected is None else min(first, expected)
    if passed and passed[-1][1] == since and passed[-1][2] == event.at_us and passed[-1][3] == event.client:
        passed[-1] = (passed[-1][0], stop, event.at_us, event.client)
    else:
        passed.append((since, stop, event.at_us, event.client))
    next_offset[reader] = stop
    names = part.read.get(batch.base_offset)
    if names is None:
        names = part.read[batch.base_offset] = {}
    name = identity.of(batch)
    spans = names.get(name)
    if spans is None:
        names[name] = [(event.start, event.stop)]
    elif spans[-1][1] == event.start:
        spans[-1] = (spans[-1][0], event.stop)
    else:
        spans.append((event.start, event.stop))


def _lost_of(part: _Part, identity: Identity) -> Iterator[tuple[Acked, int, _Passed]]:
    """Record by record, of the batches that were not read whole and that somebody has passed."""
    bound = max((stop for _, stop, _, _ in part.passed), default=0)
    latest: Spans[tuple[int, str]] | None = None
    for event in part.acked:
        if event.base_offset + event.start >= bound:
            continue
        spans = part.read.get(event.base_offset, {}).get(identity.of(event.batch), ())
        if any(start <= event.start and event.stop <= stop for start, stop in spans):
            continue
        if latest is None:
            latest = Spans()
            for first, stop, at_us, client in part.passed:
                latest.put(first, stop - 1, (at_us, client))
        for index in range(event.start, event.stop):
            offset = event.base_offset + index
            passed = latest.at(offset)
            if passed is not None and passed[0] >= event.at_us and not any(a <= index < b for a, b in spans):
                yield event, offset, (offset, offset + 1, *passed)
