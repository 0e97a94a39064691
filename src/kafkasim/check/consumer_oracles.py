"""What consumers were given: in order, without holes, and the same record at the same offset for everybody.

R1 poll-back: within one assignment, an offset at or below one already given.     R2 poll-skip: visible records jumped over.
P6 inconsistent-offset: one offset that held two different records.

Rule 1:   where a loss is excused by the run's budget, readers go back to where the log ends: told as allowed, like the loss. What was
          read before the loss is what it excuses, however much later the reader goes back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from kafkasim.check.budget import Budget
from kafkasim.check.identity import BY_COLUMNS, Identity
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.core.model.history import Assigned, Delivered, HistoryEvent, Revoked, ShareDelivered, Sought
from kafkasim.core.model.ids import TopicPartition


def check_deliveries(
    events: Iterable[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
    budget: Budget | None = None,
) -> None:
    """R1 and R2, per consumer and partition, from one ``Assigned`` (or ``Sought``) to the next. O(events)."""
    budget = budget or Budget(())
    next_offset: dict[tuple[str, TopicPartition], tuple[int, int]] = {}
    visible = {tp: [batch.base_offset for batch in view.batches if not batch.is_control] for tp, view in logs.items()}
    for event in events:
        if isinstance(event, Delivered):
            _check_delivery(event, next_offset, logs, visible, report, budget)
        elif isinstance(event, Assigned | Revoked):
            for tp in event.partitions:
                next_offset.pop((event.client, tp), None)
        elif isinstance(event, Sought):
            next_offset.pop((event.client, event.tp), None)


def _check_delivery(
    event: Delivered,
    next_offset: dict[tuple[str, TopicPartition], tuple[int, int]],
    logs: Mapping[TopicPartition, LogView],
    visible: Mapping[TopicPartition, list[int]],
    report: Report,
    budget: Budget,
) -> None:
    batch = event.batch
    first, last = batch.offset_at(event.start), batch.offset_at(event.stop - 1)
    report.count("deliveries", event.stop - event.start)
    expected, read_us = next_offset.get((event.client, event.tp), (None, 0))
    if expected is not None and first < expected:
        text = f"{event.client} was given {event.tp} offset {first} after {expected - 1}"
        excuse = budget.excuse(event.tp, expected - 1, read_us)
        if excuse is None:
            report.add("poll-back", text)
        else:
            report.allow("poll-back", f"{text} ({excuse})")
    elif expected is not None and first > expected:
        view = logs.get(event.tp)
        if view is not None and not view.is_compacted and _has_visible(visible[event.tp], view, expected, first):
            report.add("poll-skip", f"{event.client} was given {event.tp} offset {first} right after {expected - 1}")
    next_offset[event.client, event.tp] = last + 1, event.at_us


def _has_visible(bases: list[int], view: LogView, start: int, end: int) -> bool:
    """Is there a record that a reader should have seen in ``[start, end)`` of the log as it is now?"""
    start = max(start, view.start_offset)
    if start >= end:
        return False
    index = bisect_left(bases, start)
    return index < len(bases) and bases[index] < end


def check_consistency(
    events: Iterable[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
    identity: Identity = BY_COLUMNS,
    budget: Budget | None = None,
) -> None:
    """P6: two consumers, or a consumer and the log, hold different records at one offset. O(events)."""
    seen: dict[tuple[TopicPartition, int], tuple[object, int]] = {}
    told: set[tuple[TopicPartition, int]] = set()
    budget = budget or Budget(())
    for event in events:
        if not isinstance(event, Delivered | ShareDelivered):
            continue
        key = (event.tp, event.batch.base_offset)
        found = identity.of(event.batch)
        earlier, read_us = seen.setdefault(key, (found, event.at_us))
        view = logs.get(event.tp)
        if earlier != found and key not in told and view is not None and not view.is_compacted:
            told.add(key)
            text = f"{event.tp} offset {event.batch.base_offset} held different records at different times"
            excuse = budget.excuse(event.tp, event.batch.base_offset, read_us)
            if not view.promises_acked:
                report.allow("inconsistent-offset", f"{text} (replicas may diverge with these settings)")
            elif excuse is not None:
                report.allow("inconsistent-offset", f"{text} ({excuse})")
            else:
                report.add("inconsistent-offset", text)
