"""Commits that should not have been accepted, and offsets that a coordinator forgot.

G2 zombie-commit: a commit was accepted of a member that the group had left behind.
G8 offset-amnesia: a client was told less than what had been committed, or nothing.

Inputs:   what coordinators noted; the budget of the run.      Effects: findings.
Rule 1:   a coordinator that is none any more may answer with what it last knew; what counts is what the newest leader of the
          group's partition of ``__consumer_offsets`` says. What a former one accepted before it stood still, and tells of when it
          goes on, came before everything that its successor has told.
Rule 2:   offsets that expired, or were deleted with their topic, their group or by somebody, are forgotten with leave.
Rule 3:   constant work for each offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from kafkasim.check.budget import Budget
from kafkasim.check.report import Report
from kafkasim.core.model.history import (
    GROUP_ASSIGNED,
    GROUP_COMMITTED,
    GROUP_FETCHED,
    GROUP_FORGOTTEN,
    GROUP_GONE,
    Happened,
    HistoryEvent,
)
from kafkasim.core.model.ids import CONSUMER_OFFSETS_TOPIC, NodeId, TopicPartition

_ANY_OFFSET = 1 << 62


@attrs.define(slots=True, eq=False)
class _Group:
    generation: int = -1
    is_classic: bool = True
    #: Who told members of assignments last.
    coordinator: NodeId | None = None
    gone: dict[str, None] = attrs.field(factory=dict)
    #: Of the consumer protocol: what each member was told last, and whose each partition is by that.
    told: dict[str, tuple[TopicPartition, ...]] = attrs.field(factory=dict)
    owners: dict[TopicPartition, str] = attrs.field(factory=dict)
    #: Partition -> (offset, when, by which coordinator) that was committed last.
    committed: dict[TopicPartition, tuple[int, int, NodeId]] = attrs.field(factory=dict)


def check_commits(events: Iterable[HistoryEvent], report: Report, budget: Budget | None = None) -> None:
    """G2 and G8."""
    budget = budget or Budget(())
    groups: dict[str, _Group] = {}
    leaders: dict[object, NodeId] = {}
    for event in events:
        if type(event) is not Happened:
            continue
        if event.kind == "became leader":
            leaders[event.subject] = event.node
            continue
        if not event.kind.startswith("group "):
            continue
        name = str(event.subject)
        group = groups.setdefault(name, _Group())
        fields: Mapping[str, Any] = dict(event.fields)
        if event.kind == GROUP_COMMITTED:
            _take_commit(name, group, event, fields, report)
        elif event.kind == GROUP_FETCHED:
            _take_fetch(name, group, event, fields, leaders, report, budget)
        elif event.kind == GROUP_ASSIGNED:
            group.coordinator = event.node
            _take_assignment(group, fields)
        elif event.kind == GROUP_GONE:
            group.gone[fields["member"]] = None
            group.told.pop(fields["member"], None)
        elif event.kind == GROUP_FORGOTTEN:
            for tp in fields["partitions"]:
                group.committed.pop(tp, None)


def _take_assignment(group: _Group, fields: Mapping[str, Any]) -> None:
    group.is_classic = fields["protocol"] == "classic"
    group.generation = max(group.generation, fields["epoch"])
    if not group.is_classic and fields["partitions"] is not None:
        group.told[fields["member"]] = fields["partitions"]
        group.owners.update(dict.fromkeys(fields["partitions"], fields["member"]))


def _take_commit(name: str, group: _Group, event: Happened, fields: Mapping[str, Any], report: Report) -> None:
    if group.coordinator not in (None, event.node):
        return
    member, epoch = fields["member"], fields["epoch"]
    why = None
    if epoch < 0:
        pass  # From outside the group, which is accepted while it has no members.
    elif group.is_classic and epoch < group.generation:
        why = f"generation {epoch}, and the group is at {group.generation}"
    elif member in group.gone:
        why = "it is no member any more"
    for tp, offset in fields["offsets"]:
        reason = why
        if reason is None and epoch >= 0 and not group.is_classic:
            owner = group.owners.get(tp, member)
            if owner != member and tp in group.told.get(owner, ()) and tp not in group.told.get(member, ()):
                reason = f"it belongs to {owner}"
        if reason is not None:
            text = f"group {name}: a commit of {tp} at {offset} by {member} was accepted: {reason}"
            report.add(
                "zombie-commit", text, at_us=event.at_us, tp=tp, cause="a commit of somebody else's was accepted"
            )
        group.committed[tp] = (offset, event.at_us, event.node)


def _take_fetch(
    name: str,
    group: _Group,
    event: Happened,
    fields: Mapping[str, Any],
    leaders: Mapping[object, NodeId],
    report: Report,
    budget: Budget,
) -> None:
    home = TopicPartition(CONSUMER_OFFSETS_TOPIC, fields["partition"])
    if leaders.get(home, event.node) != event.node:
        return
    for tp, offset in fields["offsets"]:
        known = group.committed.get(tp)
        if known is None or offset >= known[0]:
            continue
        said = "that nothing was" if offset < 0 else f"{offset}"
        text = f"group {name}: {known[0]} was committed for {tp} at {known[1] / 1e6:.6f} s, a client was told {said}"
        excuse = budget.excuse(home, _ANY_OFFSET, known[1])
        cause = "committed offsets were lost" if offset < 0 else "committed offsets went back"
        report.tell("offset-amnesia", text, excuse, at_us=event.at_us, tp=tp, cause=cause)
