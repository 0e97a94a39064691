"""Share groups: what was accepted stays accepted, what was archived unread is told, and how far deliveries were out of order.

Q1 accept-then-redeliver: given out again after its acceptance was confirmed.     Q4 archived-unprocessed: archived without work.
Q2b effect-overlap: two members worked on a record at once, as happens when a lock runs out (allowed, told).
Q6: pairs of deliveries out of order, as a number: no order is promised.    E1 at-least-once, accept-ahead: of a share group.

Inputs:   the history of either backend; where brokers' notes are in it they are what Q1 and Q4 go by.
Rule 1:   a record that a client had fetched before somebody else accepted it may be polled afterwards: that is no redelivery. Notes
          tell when it was acquired; without them only a higher delivery count than the accepted one counts.
Rule 2:   archiving at the delivery limit, or because the log was deleted, is what a share group is for; it breaks a promise only
          where ``no_archived`` was made. What was rejected was dealt with.
Rule 3:   each check takes one pass; slices and spans are handled whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.identity import BY_COLUMNS, Identity
from kafkasim.check.inversions import inversions
from kafkasim.check.report import Report
from kafkasim.check.share_states import check_share_states
from kafkasim.check.spans import Spans, some, span_text
from kafkasim.check.work import acknowledged
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    ACCEPT,
    DONE,
    REJECT,
    SHARE_ACQUIRED,
    SHARE_ARCHIVED,
    SHARE_INITIALIZED,
    SHARE_LOADED,
    SHARE_MOVED,
    SKIPPED,
    STARTED,
    UNKNOWN,
    Effected,
    Happened,
    HistoryEvent,
    ShareAcknowledged,
    ShareDelivered,
)
from kafkasim.core.model.ids import NodeId, TopicPartition

_MOST_TOLD = 5
_OVER = (DONE, UNKNOWN, SKIPPED)

#: A group and a partition.
Place: TypeAlias = "tuple[str, TopicPartition]"


def check_share(
    events: Sequence[HistoryEvent],
    guarantees: Sequence[Guarantee],
    report: Report,
    identity: Identity = BY_COLUMNS,
) -> None:
    """Everything about share groups; one pass to see that there are none."""
    groups = share_groups(events)
    if not groups:
        return
    report.count("share deliveries", sum(e.stop - e.start for e in events if type(e) is ShareDelivered))
    check_accepted(events, report, identity)
    check_share_states(events, guarantees, report)
    check_archived(events, guarantees, report)
    noted = {dict(event.fields)["group"] for event in events if type(event) is Happened and event.kind == SHARE_LOADED}
    for guarantee in guarantees:
        if guarantee.no_archived and guarantee.group in groups and guarantee.group not in noted:
            text = f"{guarantee.whom}: no_archived was promised; this history cannot tell, brokers made no notes in it"
            report.allow("archived-unprocessed", text)
    check_overlaps(events, groups, report)
    check_order(events, report)
    for guarantee in guarantees:
        if guarantee.group in groups and (guarantee.at_least_once or guarantee.effectively_once):
            check_worked_on(events, guarantee, report)


def share_groups(events: Iterable[HistoryEvent]) -> frozenset[str]:
    """Those of which a consumer was given anything."""
    return frozenset({event.group for event in events if type(event) is ShareDelivered})


# --- Q1 --------------------------------------------------------------------------------------------------------------


class _Accepted:
    """What one group has accepted of one partition: its spans, each with the delivery count and the columns that were accepted."""

    __slots__ = ("given", "newest", "sees_broker", "spans")

    def __init__(self, *, sees_broker: bool) -> None:
        self.sees_broker = sees_broker
        self.spans: Spans[tuple[int, object]] = Spans()
        #: What each client was given last.
        self.given: dict[str, Spans[tuple[int, object]]] = {}
        #: Who loaded the share partition last: an older leader that does not know of it may give out what it likes.
        self.newest: NodeId | None = None


def check_accepted(events: Iterable[HistoryEvent], report: Report, identity: Identity = BY_COLUMNS) -> None:
    """Q1: a record is not given out again after a consumer was told that its acceptance stands."""
    noted = {
        (dict(event.fields)["group"], event.subject)
        for event in events
        if type(event) is Happened and event.kind == SHARE_LOADED
    }
    accepted: dict[Place, _Accepted] = {}
    told = _Told(report, "accept-then-redeliver")
    for event in events:
        if type(event) is ShareDelivered:
            place = (event.group, event.tp)
            known = accepted.setdefault(place, _Accepted(sees_broker=place in noted))
            _on_delivered(known, event, identity, told)
        elif type(event) is ShareAcknowledged:
            place = (event.group, event.tp)
            known = accepted.setdefault(place, _Accepted(sees_broker=place in noted))
            if event.error is ErrorCode.NONE:
                _on_acknowledged(known, event)
        elif type(event) is Happened and event.kind.startswith("share "):
            fields: Mapping[str, Any] = dict(event.fields)
            place = (fields["group"], cast("TopicPartition", event.subject))
            if event.kind == SHARE_INITIALIZED:
                accepted.pop(place, None)
                continue
            known = accepted.setdefault(place, _Accepted(sees_broker=place in noted))
            if event.kind == SHARE_LOADED:
                known.newest = event.node
            elif event.kind == SHARE_ACQUIRED:
                _on_acquired(known, event, fields, told)
    told.end()


def _on_delivered(known: _Accepted, event: ShareDelivered, identity: Identity, told: _Told) -> None:
    if known.sees_broker:
        return
    found = identity.of(event.batch)
    for first, last in _runs(event):
        for begin, end, (count, columns) in known.spans.overlapping(first, last):
            if columns != found:
                continue
            text = f"group {event.group}: {event.tp} {span_text(begin, end)} came to {event.client} at {event.at_us / 1e6:.6f} s"
            if event.delivery_count > count:
                told.add(f"{text} (delivery {event.delivery_count}) after it was accepted (delivery {count})")
            else:
                told.allow(f"{text}, fetched before it was accepted, or after the group's offsets were set back")
        known.given.setdefault(event.client, Spans()).put(first, last, (event.delivery_count, found))


def _on_acknowledged(known: _Accepted, event: ShareAcknowledged) -> None:
    for first, last, kind in event.acks:
        if kind != ACCEPT:
            continue
        if known.sees_broker:
            known.spans.put(first, last, (0, None))
            continue
        given = known.given.get(event.client)
        for begin, end, value in given.overlapping(first, last) if given is not None else ():
            known.spans.put(begin, end, value)


def _on_acquired(known: _Accepted, event: Happened, fields: Mapping[str, Any], told: _Told) -> None:
    for first, last, count in fields["runs"]:
        for begin, end, _ in known.spans.overlapping(first, last):
            text = (
                f"group {fields['group']}: {event.subject} {span_text(begin, end)} was acquired by {fields['member']}"
            )
            text = f"{text} at {event.at_us / 1e6:.6f} s (delivery {count}) after it was accepted"
            if event.node == known.newest:
                told.add(text)
            else:
                told.allow(f"{text}, from broker {event.node}, which did not know that it had been replaced")


# --- Q4 --------------------------------------------------------------------------------------------------------------


def check_archived(events: Sequence[HistoryEvent], guarantees: Iterable[Guarantee], report: Report) -> None:
    """Q4: records that the group will not see again, and on which nobody has worked."""
    worked: dict[Place, set[int]] = {}
    archived: dict[Place, dict[int, str]] = {}
    deleted: dict[Place, list[tuple[int, int]]] = {}
    for event in events:
        if type(event) is Effected and event.phase in _OVER:
            worked.setdefault((event.group, event.tp), set()).add(event.offset)
        elif type(event) is Happened and event.kind in (SHARE_ARCHIVED, SHARE_MOVED):
            fields: Mapping[str, Any] = dict(event.fields)
            place: Place = (fields["group"], cast("TopicPartition", event.subject))
            if event.kind == SHARE_MOVED:
                deleted.setdefault(place, []).append((fields["start_offset"], fields["to"] - 1))
            elif fields["why"] in _REASONS:
                first, last = fields["offsets"]
                kept = archived.setdefault(place, {})
                for offset in range(first, last + 1):
                    kept.setdefault(offset, fields["why"])
    for place, gone in _deleted(events, deleted).items():
        archived[place] = {**dict.fromkeys(gone, "start offset"), **archived.get(place, {})}
    promised = [guarantee for guarantee in guarantees if guarantee.no_archived]
    for (group, tp), offsets in archived.items():
        done = worked.get((group, tp), set())
        for why, text in _REASONS.items():
            left = sorted(offset for offset, reason in offsets.items() if reason == why and offset not in done)
            if not left:
                continue
            said = f"group {group}: {len(left)} records of {tp} were archived {text} (offsets {some(left)})"
            if any(one.group == group and one.is_about(tp.topic) for one in promised):
                report.add("archived-unprocessed", f"{said}, and no_archived was promised")
            else:
                report.allow("archived-unprocessed", said)


def _deleted(
    events: Iterable[HistoryEvent], ranges: Mapping[Place, Sequence[tuple[int, int]]]
) -> dict[Place, list[int]]:
    """What the log lost beneath a share partition: records that producers were told of, and no member accepted or rejected."""
    if not ranges:
        return {}
    written = acknowledged(events)
    dealt: dict[Place, set[int]] = {}
    for event in events:
        if type(event) is ShareAcknowledged and event.error is ErrorCode.NONE and (event.group, event.tp) in ranges:
            for first, last, kind in event.acks:
                if kind in (ACCEPT, REJECT):
                    dealt.setdefault((event.group, event.tp), set()).update(range(first, last + 1))
    return {
        place: [
            offset
            for first, last in spans
            for start, stop in written.get(place[1], ())
            for offset in range(max(first, start), min(last + 1, stop))
            if offset not in dealt.get(place, ())
        ]
        for place, spans in ranges.items()
    }


_REASONS = {
    "limit": "at their delivery limit, without having been worked on",
    "start offset": "because the log was deleted beneath them",
}


# --- Q2b -------------------------------------------------------------------------------------------------------------


def check_overlaps(events: Iterable[HistoryEvent], groups: frozenset[str], report: Report) -> None:
    """Q2b: work on a record begins while another client's work on it is not over."""
    under_way: dict[tuple[str, str, TopicPartition, int], dict[str, None]] = {}
    overlapping: dict[tuple[str, str, TopicPartition], dict[int, None]] = {}
    for event in events:
        if type(event) is not Effected or event.group not in groups:
            continue
        key = (event.group, event.sink, event.tp, event.offset)
        if event.phase == STARTED:
            working = under_way.setdefault(key, {})
            if any(client != event.client for client in working):
                overlapping.setdefault(key[:3], {})[event.offset] = None
            working[event.client] = None
        elif key in under_way:
            under_way[key].pop(event.client, None)
            if not under_way[key]:
                del under_way[key]
    for (group, sink, tp), offsets in overlapping.items():
        text = f"group {group} (sink {sink}): {len(offsets)} records of {tp} were worked on by two members at once"
        report.allow(
            "effect-overlap", f"{text} (offsets {some(sorted(offsets))}): a lock ran out before its work was over"
        )


# --- Q6 --------------------------------------------------------------------------------------------------------------


def check_order(events: Iterable[HistoryEvent], report: Report) -> None:
    """Q6: how many pairs of deliveries of a partition came in the wrong order. A number, never a finding."""
    given: dict[Place, list[tuple[int, int]]] = {}
    for event in events:
        if type(event) is ShareDelivered:
            given.setdefault((event.group, event.tp), []).extend(_runs(event))
    count = sum(inversions(spans) for spans in given.values())
    if count:
        report.measure("reorder: pairs of share deliveries out of order", count)


# --- E1 of a share group -----------------------------------------------------------------------------------------------


def check_worked_on(events: Iterable[HistoryEvent], guarantee: Guarantee, report: Report) -> None:
    """E1: accepted, and never worked on. Its cause: accepted before the work was over."""
    done: dict[TopicPartition, set[int]] = {}
    accepted: dict[TopicPartition, set[int]] = {}
    ahead: dict[TopicPartition, dict[int, int]] = {}
    for event in events:
        if type(event) is Effected and event.group == guarantee.group and guarantee.sink in (None, event.sink):
            if event.phase in _OVER:
                done.setdefault(event.tp, set()).add(event.offset)
        elif type(event) is ShareAcknowledged and event.group == guarantee.group and event.error is ErrorCode.NONE:
            if not guarantee.is_about(event.tp.topic):
                continue
            finished = done.setdefault(event.tp, set())
            for first, last, kind in event.acks:
                if kind == ACCEPT:
                    offsets = set(range(first, last + 1))
                    accepted.setdefault(event.tp, set()).update(offsets)
                    for offset in offsets - finished:
                        ahead.setdefault(event.tp, {}).setdefault(offset, event.at_us)
                elif kind == REJECT:
                    accepted.get(event.tp, set()).difference_update(range(first, last + 1))
    for tp, offsets in accepted.items():
        lost = sorted(offsets - done.get(tp, set()))
        for offset in lost[:_MOST_TOLD]:
            report.add("at-least-once", f"{guarantee.whom} never worked on {tp} offset {offset}: it was accepted")
        if len(lost) > _MOST_TOLD:
            report.add("at-least-once", f"{guarantee.whom}: {len(lost) - _MOST_TOLD} more records of {tp} like these")
    for tp, early in ahead.items():
        first = min(early, key=lambda offset: (early[offset], offset))
        text = f"{guarantee.whom} accepted {tp} offset {first} at {early[first] / 1e6:.6f} s, before it was worked on"
        report.add("accept-ahead", text + (f" ({len(early)} records like this)" if len(early) > 1 else ""))


# --- shared ------------------------------------------------------------------------------------------------------------


class _Told:
    """Findings of one invariant: the first few, and how many more."""

    def __init__(self, report: Report, invariant: str) -> None:
        self._report = report
        self._invariant = invariant
        self._counts = {True: 0, False: 0}

    def add(self, text: str) -> None:
        self._tell(True, text)

    def allow(self, text: str) -> None:
        self._tell(False, text)

    def _tell(self, is_breach: bool, text: str) -> None:
        self._counts[is_breach] += 1
        if self._counts[is_breach] <= _MOST_TOLD:
            (self._report.add if is_breach else self._report.allow)(self._invariant, text)

    def end(self) -> None:
        for is_breach, count in self._counts.items():
            if count > _MOST_TOLD:
                tell = self._report.add if is_breach else self._report.allow
                tell(self._invariant, f"{count - _MOST_TOLD} more like these")


def _runs(event: ShareDelivered) -> list[tuple[int, int]]:
    """The offsets of a slice, as spans without holes."""
    batch = event.batch
    if batch.offsets is None:
        return [(batch.offset_at(event.start), batch.offset_at(event.stop - 1))]
    runs: list[tuple[int, int]] = []
    for offset in batch.offsets[event.start : event.stop]:
        if runs and runs[-1][1] + 1 == offset:
            runs[-1] = (runs[-1][0], offset)
        else:
            runs.append((offset, offset))
    return runs
