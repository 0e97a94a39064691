"""Why a group does not get on: for each partition in which it is behind, what stands in its way.

Inputs:   the history, how long clients lived, the metadata with its causes.      Effects: an explanation.
Rule 1:   looked for in the order in which an operator would: no leader, no member, no owner, an owner at work, an owner
          that is given nothing.
Rule 2:   a partition whose lag fell within the last ``MOVING_S`` is not stalled.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    DONE,
    STARTED,
    Acked,
    Assigned,
    Committed,
    Delivered,
    Effected,
    HistoryEvent,
    Revoked,
)
from kafkasim.core.model.ids import CONSUMER_OFFSETS_TOPIC, NO_LEADER, TopicPartition
from kafkasim.views.causes import Causes
from kafkasim.views.chain import Chain, Explanation, Link
from kafkasim.views.clients import Clients
from kafkasim.views.facts import Facts
from kafkasim.views.roots import Roots
from kafkasim.views.timeline import Timeline

MOVING_S = 1.0
_MOST_TOLD = 6


@attrs.define(slots=True, eq=False)
class _Part:
    """What is known of one partition of the group."""

    end: int = 0
    position: int = 0
    committed: int = 0
    moved_us: int = 0
    owner: str | None = None
    last_given: Delivered | None = None
    #: Work that began and has not ended: (offset, since).
    open_work: dict[int, int] = attrs.field(factory=dict)

    @property
    def behind(self) -> int:
        return max(0, self.end - max(self.position, self.committed))


def explain_group(
    events: Sequence[HistoryEvent],
    facts: Facts,
    static_config: dict[str, str],
    group: str,
    coordinator: TopicPartition,
    clients: Clients,
    at_us: int,
) -> Explanation:
    """Raises KeyError for a group that nobody was ever a member of. ``coordinator``: its partition of __consumer_offsets."""
    view = _View(events, group, at_us, clients)
    if not view.clients:
        raise KeyError(f"no group {group!r}: no consumer of it was ever given anything; known: {view.groups or 'none'}")
    stall = _Stall(facts, static_config, view, at_us)
    stall.explain(coordinator)
    behind = {str(tp): part.behind for tp, part in view.parts.items() if part.behind}
    state = {"lag": sum(behind.values()), "behind": behind, "members": view.alive}
    return Explanation(f"group {group}", at_us / 1e6, stall.summary(), state, stall.chain.steps())


class _View:
    """The group as its clients knew it at a time."""

    def __init__(self, events: Sequence[HistoryEvent], group: str, at_us: int, clients: Clients) -> None:
        self.parts: dict[TopicPartition, _Part] = {}
        self.clients: dict[str, None] = {}
        self.last_seen_us: dict[str, int] = {}
        found: dict[str, None] = {}
        ends: dict[TopicPartition, int] = {}
        for event in events:
            if event.at_us > at_us:
                break
            if isinstance(event, Acked):
                if event.error is ErrorCode.NONE and event.base_offset >= 0:
                    ends[event.tp] = max(ends.get(event.tp, 0), event.base_offset + event.stop)
            elif isinstance(event, Delivered | Assigned | Revoked | Committed | Effected):
                found[event.group] = None
                if event.group == group:
                    if not isinstance(event, Effected):  # an effect is told by its sink
                        self.clients[event.client] = None
                        self.last_seen_us[event.client] = event.at_us
                    self._take(event)
        self.groups = sorted(name for name in found if name)
        topics = {tp.topic for tp in self.parts}
        for tp, end in ends.items():
            if tp.topic in topics:
                self.parts.setdefault(tp, _Part()).end = end
        self.label = clients.label
        gone = {client: ended_us for client, ended_us in clients.ends_us.items() if ended_us <= at_us}
        self.ended = {client: gone[client] for client in self.clients if client in gone}
        self.alive = [client for client in self.clients if client not in gone]
        for part in self.parts.values():
            if part.owner in self.ended:
                part.owner = None

    def _take(self, event: Delivered | Assigned | Revoked | Committed | Effected) -> None:
        if isinstance(event, Assigned | Revoked):
            for tp in event.partitions:
                part = self.parts.setdefault(tp, _Part())
                if isinstance(event, Assigned):
                    part.owner = event.client
                elif part.owner == event.client:
                    part.owner = None
        elif isinstance(event, Delivered):
            part = self.parts.setdefault(event.tp, _Part())
            part.position = event.batch.offset_at(event.stop - 1) + 1
            part.moved_us, part.last_given = event.at_us, event
        elif isinstance(event, Committed):
            for tp, offset, error in event.offsets:
                if error is ErrorCode.NONE:
                    self.parts.setdefault(tp, _Part()).committed = offset
        else:
            part = self.parts.setdefault(event.tp, _Part())
            if event.phase == STARTED:
                part.open_work[event.offset] = event.at_us
            else:
                part.open_work.pop(event.offset, None)
            if event.phase == DONE:
                part.moved_us = event.at_us


class _Stall:
    def __init__(self, facts: Facts, static_config: dict[str, str], view: _View, at_us: int) -> None:
        self.chain = Chain()
        self._facts = facts
        self._static_config = static_config
        self._view = view
        self._at_us = at_us
        self._roots = Roots(facts, self.chain)
        self._reasons: dict[str, int] = {}

    def explain(self, coordinator: TopicPartition) -> None:
        """Each partition that is behind and does not move."""
        stuck = {tp: part for tp, part in self._view.parts.items() if part.behind and not self._is_moving(part)}
        coordinator_lost = self._leaderless(coordinator) if stuck else []
        for told, (tp, part) in enumerate(sorted(stuck.items())):
            reason, because, text = self._reason(tp, part, coordinator_lost)
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
            if told < _MOST_TOLD:
                text = f"{tp}: {part.behind} records behind; {text}"
                self.chain.add(self._at_us, reason, tp, text, because, partition=str(tp), behind=part.behind)

    def summary(self) -> str:
        lag = sum(part.behind for part in self._view.parts.values())
        if not lag:
            return "it is not behind"
        if not self._reasons:
            return f"{lag} records behind, and moving"
        told = ", ".join(
            f"{_SUMMARIES[reason]} ({count} partition{'s' if count > 1 else ''})"
            for reason, count in self._reasons.items()
        )
        return f"{lag} records behind: {told}"

    def _is_moving(self, part: _Part) -> bool:
        return part.moved_us > 0 and self._at_us - part.moved_us < MOVING_S * 1e6

    def _reason(self, tp: TopicPartition, part: _Part, coordinator_lost: list[Link]) -> tuple[str, list[Link], str]:
        lost = self._leaderless(tp)
        if lost:
            return "no-leader", lost, "its partition has no leader that can be reached"
        if not self._view.alive:
            ended = [self._ended(client) for client in self._view.ended]
            return "no-member", ended, "the group has no member left"
        if part.owner is None:
            links = coordinator_lost or [self._ended(client) for client in self._view.ended][-1:]
            where = (
                "its coordinator has no leader, so nothing is assigned" if coordinator_lost else "no member owns it now"
            )
            return "no-owner", links, where
        if part.open_work:
            offset, since_us = min(part.open_work.items(), key=lambda work: work[1])
            text = f"{self._view.label(part.owner)} has worked on offset {offset} since {since_us / 1e6:.3f} s"
            return "slow-work", [self._work(part.owner, offset, since_us)], text
        seen_us = self._view.last_seen_us[part.owner]
        return (
            "idle-owner",
            [],
            f"{self._view.label(part.owner)} owns it, and the last that is known of it is of {seen_us / 1e6:.3f} s",
        )

    def _ended(self, client: str) -> Link:
        at_us = self._view.ended[client]
        return self.chain.add(
            at_us, "client-ended", client, f"{self._view.label(client)} ended (closed or killed)", client=client
        )

    def _work(self, client: str, offset: int, since_us: int) -> Link:
        return self.chain.add(
            since_us, "work-started", (client, offset), f"{self._view.label(client)} began to work on offset {offset}"
        )

    def _leaderless(self, tp: TopicPartition) -> list[Link]:
        """The links that say why nobody leads the partition, or why its leader is silent; empty where one does."""
        committed = [batch for batch in self._facts.committed if batch.at_us <= self._at_us]
        timeline = Timeline(tp, committed, self._static_config)
        state = timeline.state
        if state is None:
            return []
        if state.leader != NO_LEADER:
            return self._roots.silence_of(state.leader, self._at_us)
        causes = Causes(self._facts, timeline, self.chain, self._roots)
        return [causes.change(timeline.changes[-1])]


_SUMMARIES = {
    "no-leader": "no leader",
    "no-member": "no member left",
    "no-owner": "nobody owns it",
    "slow-work": "its owner is still at work",
    "idle-owner": "its owner is given nothing",
}


def coordinator_place(partition: int) -> TopicPartition:
    """The partition of __consumer_offsets with this number."""
    return TopicPartition(CONSUMER_OFFSETS_TOPIC, partition)
