"""From a history to what a rebalance cost: pauses, ownership, lag, duplicates.

Inputs:   the history of one run, the names of its members, the times that matter.      Effects: none; values only.
Rule 1:   only what clients saw is used, so that a real cluster's history gives the same figures.
Rule 2:   a pause is the time between two deliveries in a row: of a partition by anybody, or to one member.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import attrs

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Assigned, Delivered, HistoryEvent, Revoked

#: (from seconds, to seconds).
Span: TypeAlias = "tuple[float, float]"


@attrs.frozen
class Ownership:
    """A member owned a partition from one time to another, as its application knew it."""

    partition: int
    member: str
    from_s: float
    to_s: float


@attrs.define(slots=True, eq=False)
class Observed:
    """One run, in seconds since the group had settled; what came before has negative times."""

    ownerships: list[Ownership]
    #: By partition: (time, member, first offset, offset after the last).
    deliveries: dict[int, list[tuple[float, str, int, int]]]
    #: (time, records acknowledged so far).
    produced: list[tuple[float, int]]
    end_s: float

    @property
    def partitions(self) -> list[int]:
        return sorted(self.deliveries)


def observe(
    history: Iterable[HistoryEvent], topic: str, group: str, origin_s: float, end_s: float, killed_s: dict[str, float]
) -> Observed:
    """Read a history. ``killed_s``: when members were killed, whose ownership nobody revoked; times of the handle."""
    deliveries: dict[int, list[tuple[float, str, int, int]]] = {}
    ownerships: list[Ownership] = []
    owned: dict[tuple[int, str], float] = {}
    produced: list[tuple[float, int]] = []
    total = 0
    for event in history:
        at_s = event.at_us / 1_000_000 - origin_s
        if isinstance(event, Delivered) and event.group == group:
            batch = event.batch
            first, last = batch.offset_at(event.start), batch.offset_at(event.stop - 1)
            deliveries.setdefault(event.tp.partition, []).append((at_s, member_of(event.client), first, last + 1))
        elif isinstance(event, Acked) and event.tp.topic == topic and event.error is ErrorCode.NONE:
            total += event.stop - event.start
            produced.append((at_s, total))
        elif isinstance(event, Assigned) and event.group == group:
            for tp in event.partitions:
                owned[tp.partition, member_of(event.client)] = at_s
        elif isinstance(event, Revoked) and event.group == group:
            member = member_of(event.client)
            for tp in event.partitions:
                from_s = owned.pop((tp.partition, member), None)
                if from_s is not None:
                    ownerships.append(Ownership(tp.partition, member, from_s, at_s))
    for (partition, member), from_s in owned.items():
        to_s = killed_s.get(member, end_s) - origin_s
        ownerships.append(Ownership(partition, member, from_s, max(from_s, to_s)))
    ownerships.sort(key=lambda item: (item.partition, item.from_s, item.member))
    return Observed(ownerships, deliveries, produced, end_s - origin_s)


def member_of(client: str) -> str:
    """A history names a client ``<client.id>#consumer-<n>``; the members' client ids are their names."""
    return client.partition("#")[0]


def pauses(times: Sequence[float], within: Span) -> list[Span]:
    """The spans between two deliveries in a row that overlap ``within``, cut to it."""
    from_s, to_s = within
    last, found = from_s, []
    for at_s in times:
        if at_s > from_s:
            found.append((last, min(at_s, to_s)))
            last = at_s
        if at_s >= to_s:
            return found
    found.append((last, to_s))
    return found


def longest(spans: Iterable[Span]) -> float:
    return max((to_s - from_s for from_s, to_s in spans), default=0.0)


def partition_times(observed: Observed, partition: int) -> list[float]:
    return [at_s for at_s, *_ in observed.deliveries.get(partition, ())]


def member_times(observed: Observed) -> dict[str, list[float]]:
    """When each member was given records."""
    times: dict[str, list[float]] = {}
    for listed in observed.deliveries.values():
        for at_s, member, *_ in listed:
            times.setdefault(member, []).append(at_s)
    for listed_times in times.values():
        listed_times.sort()
    return times


def owners_at(observed: Observed, at_s: float) -> dict[int, tuple[str, ...]]:
    """Who owned each partition at a time."""
    owners: dict[int, tuple[str, ...]] = {}
    for span in observed.ownerships:
        if span.from_s <= at_s < span.to_s or (at_s == span.to_s == observed.end_s):
            owners[span.partition] = (*owners.get(span.partition, ()), span.member)
    return owners


def changes(observed: Observed, within: Span) -> list[float]:
    """The times at which a member gained or lost a partition."""
    from_s, to_s = within
    times = {at_s for span in observed.ownerships for at_s in (span.from_s, span.to_s)}
    return sorted(at_s for at_s in times if from_s <= at_s < to_s and at_s < observed.end_s)


def duplicates(observed: Observed) -> list[tuple[float, int]]:
    """(time, how many) of deliveries of records that somebody of the group had been given before."""
    found = []
    for listed in observed.deliveries.values():
        reached = 0
        for at_s, _, first, after in listed:
            if first < reached:
                found.append((at_s, min(after, reached) - first))
            reached = max(reached, after)
    found.sort()
    return found


def lag_curve(observed: Observed) -> list[tuple[float, int]]:
    """(time, records acknowledged and not yet delivered), at every change."""
    moves: list[tuple[float, int]] = []
    before = 0
    for at_s, total in observed.produced:
        moves.append((at_s, total - before))
        before = total
    for listed in observed.deliveries.values():
        reached: int | None = None
        for at_s, _, first, after in listed:
            fresh = after - max(first, reached if reached is not None else first)
            if fresh > 0:
                moves.append((at_s, -fresh))
            reached = max(after, reached or 0)
    moves.sort(key=lambda move: move[0])
    curve: list[tuple[float, int]] = []
    lag = 0
    for at_s, change in moves:
        lag += change
        if curve and curve[-1][0] == at_s:
            curve[-1] = (at_s, max(lag, 0))
        else:
            curve.append((at_s, max(lag, 0)))
    return curve
