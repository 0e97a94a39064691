"""Who owned which partition: one member at a time, as the coordinator said, and soon after each change.

G1 double-owner: two members that the group knows believe at once that they own a partition.
G6 legal-assignment: a coordinator gave a partition to two members, or took a member's epoch back.       G7 rebalance-bound, a metric.

Inputs:   the history; of a simulated cluster, what its coordinators noted; the budget.      Effects: findings, metrics.
Rule 1:   a member that was fenced may believe what it likes until it hears of it: it is not an owner, but a zombie. Who was fenced is
          read from the coordinator's notes. Without them (real clusters) two owners at once are told as allowed, unless the older
          one commits the partition while the other has it: that shows that nobody had fenced it.
Rule 2:   a group whose records are lost, because more was harmed than must survive, begins anew: what it says then is allowed.
Rule 3:   work is done per change of an assignment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from kafkasim.check.budget import Budget
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    GROUP_ASSIGNED,
    GROUP_FETCHED,
    GROUP_GONE,
    GROUP_STATE,
    Assigned,
    Closed,
    Committed,
    Happened,
    HistoryEvent,
    Revoked,
)
from kafkasim.core.model.ids import CONSUMER_OFFSETS_TOPIC, TopicPartition

_MOST_TOLD = 5
_ANY_OFFSET = 1 << 62
_STABLE, _EMPTY = "Stable", "Empty"

_Place: TypeAlias = "tuple[str, TopicPartition]"


@attrs.define(slots=True, eq=False)
class Overlap:
    """``second`` took over what ``first`` still had. The two are numbered in the history: ``at`` is the later assignment's place."""

    place: _Place
    first: Assigned
    second: Assigned
    at: int
    #: The older owner was told, while both had it, that its commit was accepted.
    is_committed: bool = False


def overlaps(events: Iterable[HistoryEvent]) -> list[Overlap]:
    """All pairs of owners at once, in the order in which they came about. O(changes of assignments), and the overlaps themselves."""
    owners: dict[_Place, dict[str, Assigned]] = {}
    owned: dict[str, dict[_Place, None]] = {}
    found: list[Overlap] = []
    open_ones: dict[_Place, list[Overlap]] = {}
    for at, event in enumerate(events):
        if type(event) is Assigned:
            for tp in event.partitions:
                place = (event.group, tp)
                holders = owners.setdefault(place, {})
                for client, first in holders.items():
                    if client != event.client:
                        found.append(Overlap(place, first, event, at))
                        open_ones.setdefault(place, []).append(found[-1])
                holders[event.client] = event
                owned.setdefault(event.client, {})[place] = None
        elif type(event) is Revoked:
            for tp in event.partitions:
                _leave((event.group, tp), event.client, owners, open_ones)
        elif type(event) is Closed:
            for place in owned.pop(event.client, {}):
                _leave(place, event.client, owners, open_ones)
        elif type(event) is Committed and open_ones:
            for tp, _offset, error in event.offsets:
                for overlap in open_ones.get((event.group, tp), ()):
                    overlap.is_committed |= error is ErrorCode.NONE and overlap.first.client == event.client
    return found


def _leave(
    place: _Place, client: str, owners: dict[_Place, dict[str, Assigned]], open_ones: dict[_Place, list[Overlap]]
) -> None:
    owners.get(place, {}).pop(client, None)
    if place in open_ones:
        open_ones[place] = [o for o in open_ones[place] if client not in (o.first.client, o.second.client)]
        if not open_ones[place]:
            del open_ones[place]


@attrs.define(slots=True, eq=False)
class _Group:
    """What a coordinator noted: who was told which epoch, and where in the history members went."""

    told: dict[tuple[str, int], str | None] = attrs.field(factory=dict)
    gone: dict[str, int] = attrs.field(factory=dict)
    is_classic: bool = True


def check_owners(events: Sequence[HistoryEvent], report: Report) -> None:
    """G1."""
    found = overlaps(events)
    if not found:
        return
    groups: dict[str, _Group] = {}
    for at, event in enumerate(events):
        if type(event) is Happened and event.kind in (GROUP_ASSIGNED, GROUP_GONE):
            fields: Mapping[str, Any] = dict(event.fields)
            group = groups.setdefault(str(event.subject), _Group())
            if event.kind == GROUP_GONE:
                group.gone.setdefault(fields["member"], at)
            else:
                group.told[fields["member"], fields["epoch"]] = fields["instance"]
                group.is_classic = fields["protocol"] == "classic"
    told = 0
    for overlap in found:
        excuse = _excuse(overlap, groups.get(overlap.place[0]))
        first, second = overlap.first, overlap.second
        if excuse == "":
            continue
        told += 1
        if told <= _MOST_TOLD:
            text = (
                f"group {overlap.place[0]}: {second.client} took {overlap.place[1]} over at {second.at_us / 1e6:.6f} s, while "
                f"{first.client} had it since {first.at_us / 1e6:.6f} s"
            )
            cause = "two owners that nobody fenced"
            report.tell("double-owner", text, excuse, at_us=second.at_us, tp=overlap.place[1], cause=cause)


def _excuse(overlap: Overlap, group: _Group | None) -> str | None:
    """None: it is a breach. Empty: a zombie, which is nothing to tell of."""
    first, second = overlap.first, overlap.second
    if group is None:
        return None if overlap.is_committed else "one of them may have been fenced, which only its coordinator knows"
    if not first.member or not second.member:
        return ""  # Assigned by hand: the group has no part in it.
    if any(group.gone.get(each.member, overlap.at) < overlap.at for each in (first, second)):
        return ""
    if not group.is_classic:
        return None
    old, new = (first, second) if first.epoch <= second.epoch else (second, first)
    if old.epoch == new.epoch:
        instance = group.told.get((old.member, old.epoch))
        return "" if instance is not None and instance == group.told.get((new.member, new.epoch)) else None
    return None if (old.member, new.epoch) in group.told else ""


# --- what the coordinator said -----------------------------------------------------------------------------------------


@attrs.define(slots=True, eq=False)
class _Said:
    #: Partition -> (member, its instance, epoch) that was told last.
    owners: dict[TopicPartition, tuple[str, str | None, int]] = attrs.field(factory=dict)
    members: dict[str, tuple[int, tuple[TopicPartition, ...]]] = attrs.field(factory=dict)
    #: When each of them was told, and where the group's records are kept.
    told_us: dict[str, int] = attrs.field(factory=dict)
    home: TopicPartition | None = None
    #: Since when the group is not what it is to be; the epoch of that.
    since_us: int | None = None
    epoch: int = -1
    worst_us: int = 0


def check_assignments(events: Iterable[HistoryEvent], report: Report, budget: Budget | None = None) -> None:
    """G6, and G7 as a metric, from the notes of coordinators. O(partitions of each change)."""
    budget = budget or Budget(())
    groups: dict[str, _Said] = {}
    for event in events:
        if type(event) is not Happened or not event.kind.startswith("group "):
            continue
        fields: Mapping[str, Any] = dict(event.fields)
        said = groups.setdefault(str(event.subject), _Said())
        if event.kind == GROUP_ASSIGNED:
            _take_assignment(str(event.subject), said, event.at_us, fields, report, budget)
        elif event.kind == GROUP_FETCHED:
            said.home = TopicPartition(CONSUMER_OFFSETS_TOPIC, fields["partition"])
        elif event.kind == GROUP_GONE:
            said.members.pop(fields["member"], None)
        elif event.kind == GROUP_STATE:
            _take_state(said, event.at_us, fields)
    for group, said in groups.items():
        if said.worst_us:
            report.measure(
                f"rebalance-bound: group {group} took to its new assignment, ms at most", said.worst_us // 1000
            )


def _take_assignment(
    group: str, said: _Said, at_us: int, fields: Mapping[str, Any], report: Report, budget: Budget
) -> None:
    member, epoch, instance = fields["member"], fields["epoch"], fields["instance"]
    before = said.members.get(member)
    partitions = fields["partitions"]
    if partitions is None:
        partitions = () if before is None else before[1]
    if before is not None and epoch < before[0]:
        text = f"group {group}: member {member} was told epoch {epoch} after {before[0]}"
        excuse = _lost_group(said, member, budget)
        report.tell("legal-assignment", text, excuse, at_us=at_us, cause="an epoch went back")
    for tp in partitions:
        other = said.owners.get(tp)
        if other is not None and other[0] != member and (instance is None or other[1] != instance):
            theirs = said.members.get(other[0])
            is_current = theirs is not None and tp in theirs[1]
            if is_current and (fields["protocol"] != "classic" or other[2] == epoch):
                text = f"group {group}: {tp} was given to {member} in epoch {epoch}, and {other[0]} has it since epoch {other[2]}"
                cause = "a partition was given to two members"
                excuse = _lost_group(said, other[0], budget)
                report.tell("legal-assignment", text, excuse, at_us=at_us, tp=tp, cause=cause)
        said.owners[tp] = (member, instance, epoch)
    said.members[member] = (epoch, partitions)
    said.told_us[member] = at_us
    if fields["protocol"] != "classic" and epoch == said.epoch and said.since_us is not None:
        said.worst_us = max(said.worst_us, at_us - said.since_us)


def _lost_group(said: _Said, member: str, budget: Budget) -> str | None:
    """Why the coordinator need not know what ``member`` was told; None: it must."""
    return None if said.home is None else budget.excuse(said.home, _ANY_OFFSET, said.told_us[member])


def _take_state(said: _Said, at_us: int, fields: Mapping[str, Any]) -> None:
    state = fields["state"]
    if state in (_STABLE, _EMPTY):
        if said.since_us is not None and state == _STABLE:
            said.worst_us = max(said.worst_us, at_us - said.since_us)
        said.since_us = None
    elif state == "consumer" or said.since_us is None:
        said.since_us = at_us
    said.epoch = fields["epoch"]
