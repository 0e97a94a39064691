"""Commits that should not have been accepted, and offsets that a coordinator forgot.

G2 zombie-commit: a commit was accepted of a member that the group had left behind.
G8 offset-amnesia: a client was told less than what had been committed, or nothing.

Inputs:   what coordinators noted; of groups whose coordinators note nothing, what clients committed and were told; the budget of the run.
Effects:  findings.
Rule 1:   a coordinator that is none any more may answer with what it last knew; what counts is what the newest leader of the
          group's partition of ``__consumer_offsets`` says. What a former one accepted before it stood still, and tells of when it
          goes on, came before everything that its successor has told.
Rule 2:   offsets that expired, or were deleted with their topic, their group or by somebody, are forgotten with leave.
Rule 3:   constant work for each offset, and for each client that committed it.
Rule 4:   by what clients saw, a commit counts as overwritten where one began after its end: its own client's next one, or that of a
          member that was assigned the partition since. What a client was told must be the value of one that may not be overwritten; a
          commit that failed may have been applied, and whenever it likes.
Rule 5:   nobody sees offsets expire from outside, or a topic's go with it; of groups whose offsets were set or deleted by hand
          nothing is concluded any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from kafkasim.check.budget import Budget
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    GROUP_ASSIGNED,
    GROUP_COMMITTED,
    GROUP_FETCHED,
    GROUP_FORGOTTEN,
    GROUP_GONE,
    GROUP_RESET,
    Assigned,
    Committed,
    Happened,
    HistoryEvent,
    OffsetsFetched,
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
    seen = _Seen()
    leaders: dict[object, NodeId] = {}
    for event in events:
        if type(event) is not Happened:
            seen.take(event)
            continue
        if event.kind == "became leader":
            leaders[event.subject] = event.node
            continue
        if not event.kind.startswith("group "):
            continue
        name = str(event.subject)
        if event.kind == GROUP_RESET:
            seen.is_reset[name] = None
            continue
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
    for fetched, told in seen.told:
        if fetched.group not in groups and fetched.group not in seen.is_reset:
            _tell_amnesia(fetched, told, report)


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


# --- by what clients saw ---------------------------------------------------------------------------------------------


@attrs.define(slots=True, eq=False)
class _Made:
    """A commit: of which offset, by whom, not begun before, told to have ended; in the order of their ends."""

    offset: int
    client: str
    since_us: int
    end_us: int
    is_acked: bool


_Told = tuple[TopicPartition, int, _Made]


@attrs.define(slots=True, eq=False)
class _Seen:
    """Commits and answers as clients were told of them."""

    #: Of each group and partition, what may be committed now, and what failed, which may be applied at any time.
    commits: dict[tuple[str, TopicPartition], list[_Made]] = attrs.field(factory=dict)
    #: Since when each client has a partition: an earlier commit of somebody else's was over by then.
    assigned: dict[tuple[str, TopicPartition], int] = attrs.field(factory=dict)
    is_reset: dict[str, None] = attrs.field(factory=dict)
    #: Answers that no commit explains, with the commit that should have been told.
    told: list[tuple[OffsetsFetched, list[_Told]]] = attrs.field(factory=list)

    def take(self, event: HistoryEvent) -> None:
        if type(event) is Committed:
            for tp, offset, error in event.offsets:
                self._on_committed(event, tp, offset, is_acked=error is ErrorCode.NONE)
        elif type(event) is Assigned:
            for tp in event.partitions:
                self.assigned[event.client, tp] = event.at_us
        elif type(event) is OffsetsFetched:
            found = [
                (tp, offset, lost)
                for tp, offset, error in event.offsets
                if error is ErrorCode.NONE and (lost := self._lost(event, tp, offset)) is not None
            ]
            if found:
                self.told.append((event, found))

    def _on_committed(self, event: Committed, tp: TopicPartition, offset: int, *, is_acked: bool) -> None:
        since_us = self.assigned.get((event.client, tp), -1)
        made = _Made(offset, event.client, since_us, event.at_us, is_acked)
        known = self.commits.setdefault((event.group, tp), [])
        if is_acked:
            known[:] = [each for each in known if not _is_over(each, made)]
        known.append(made)

    def _lost(self, event: OffsetsFetched, tp: TopicPartition, offset: int) -> _Made | None:
        """The last commit that was acknowledged before the question, where the answer is below it, and nobody else's either."""
        known = self.commits.get((event.group, tp), ())
        if any(each.offset == offset for each in known):
            return None
        settled = [each for each in known if each.is_acked]
        # What was committed while it asked may have overwritten, a moment later, what it was told.
        if not settled or offset >= min(each.offset for each in settled) or settled[-1].end_us > event.asked_us:
            return None
        return settled[-1]


def _is_over(earlier: _Made, later: _Made) -> bool:
    """Was ``earlier`` overwritten for sure when ``later`` was acknowledged?"""
    return earlier.is_acked and (earlier.client == later.client or earlier.end_us <= later.since_us)


def _tell_amnesia(event: OffsetsFetched, told: list[_Told], report: Report) -> None:
    for tp, offset, made in told:
        said = "that nothing was" if offset < 0 else f"{offset}"
        text = f"group {event.group}: {made.offset} was committed for {tp} at {made.end_us / 1e6:.6f} s, {event.client} was told {said}"
        cause = "committed offsets were lost" if offset < 0 else "committed offsets went back"
        report.add("offset-amnesia", text, at_us=event.at_us, tp=tp, cause=cause)
