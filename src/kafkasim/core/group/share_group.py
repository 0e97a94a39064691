"""One share group: members, epochs, the target assignment, and which partitions have their state at the share coordinator.

Mirrors:  ShareGroup, ShareGroupMember, ModernGroup (KIP-932).
Inputs:   replay(record) is the only way in; everything else reads.
Rule 1:   the epoch begins at 1 and moves with the first member, to 2, and again when there are partitions to assign.
Rule 2:   how many members want a topic and are to have a partition is counted, so that a heartbeat need not look at all members.
Rule 3:   a group is Empty or Stable; nobody waits for anybody, so there is no rebalancing state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from kafkasim.core.group.share_records import (
    CURRENT_MEMBER,
    GROUP_EPOCH,
    MEMBER,
    STATE_PARTITIONS,
    TARGET_EPOCH,
    TARGET_MEMBER,
    Assigned,
    ShareRecord,
)

#: topic id -> (topic name, partitions, when it was asked for in ms)
Topics = dict[str, tuple[str, list[int], int]]


@attrs.define(slots=True, eq=True)
class ShareMember:
    member_id: str
    client_id: str = ""
    client_host: str = ""
    rack_id: str | None = None
    subscribed: tuple[str, ...] = ()
    epoch: int = 0
    previous_epoch: int = -1
    assigned: Assigned = attrs.field(factory=dict)


class ShareGroup:
    """``initializing`` and ``initialized``: partitions whose share state is being, or has been, made."""

    __slots__ = (
        "_holders",
        "_subscribers",
        "assignment_epoch",
        "assignment_ms",
        "epoch",
        "group_id",
        "initialized",
        "initializing",
        "members",
        "metadata_hash",
        "target",
    )

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = 1
        self.metadata_hash = ""
        self.assignment_epoch = 0
        self.assignment_ms = -1
        self.members: dict[str, ShareMember] = {}
        self.target: dict[str, Assigned] = {}
        self.initializing: Topics = {}
        self.initialized: Topics = {}
        #: Topic name -> members that want it.
        self._subscribers: dict[str, int] = {}
        #: Topic id -> partition -> members that are to have it.
        self._holders: dict[str, dict[int, int]] = {}

    @property
    def state(self) -> str:
        return "Stable" if self.members else "Empty"

    @property
    def subscribed(self) -> list[str]:
        """Every topic that some member wants, by name."""
        return sorted(self._subscribers)

    def subscribed_with(self, member_id: str, names: Iterable[str]) -> list[str]:
        """The same if this member, known or new, wanted ``names``."""
        known = self.members.get(member_id)
        mine = known.subscribed if known is not None else ()
        others = [name for name, count in self._subscribers.items() if count > (name in mine)]
        return sorted({*others, *names})

    def initialized_partitions(self) -> dict[str, list[int]]:
        return {topic_id: partitions for topic_id, (_, partitions, _) in self.initialized.items()}

    def is_assignment_pending(self) -> bool:
        """Partitions of subscribed topics were initialised that the target assignment does not know yet."""
        return any(
            name in self._subscribers and sorted(self._holders.get(topic_id, ())) != partitions
            for topic_id, (name, partitions, _) in self.initialized.items()
        )

    def check(self) -> None:
        assert self._subscribers == _counts(name for member in self.members.values() for name in member.subscribed)
        for topic_id, holders in self._holders.items():
            assert holders == _counts(part for parts in self.target.values() for part in parts.get(topic_id, ()))

    # --- replay ----------------------------------------------------------------------------------------------------

    def replay(self, record: ShareRecord) -> None:
        value = record.value
        if record.kind == MEMBER:
            self._replay_member(record.member_id, value)
        elif record.kind == GROUP_EPOCH:
            assert value is not None, "the group itself is removed by whoever holds it"
            self.epoch, self.metadata_hash = value["epoch"], value["hash"]
        elif record.kind == TARGET_EPOCH:
            self.assignment_epoch, self.assignment_ms = (value["epoch"], value["at_ms"]) if value else (-1, -1)
        elif record.kind == TARGET_MEMBER:
            self._replay_target(record.member_id, None if value is None else value["parts"])
        elif record.kind == CURRENT_MEMBER:
            self._replay_current(record.member_id, value)
        else:
            assert record.kind == STATE_PARTITIONS, record
            self.initializing = _topics(value, "initializing")
            self.initialized = _topics(value, "initialized")

    def _replay_member(self, member_id: str, value: dict[str, Any] | None) -> None:
        known = self.members.get(member_id)
        before = known.subscribed if known is not None else ()
        after = () if value is None else tuple(value["topics"])
        if before != after:
            _recount(self._subscribers, before, after)
        if value is None:
            self.members.pop(member_id, None)
            self._replay_target(member_id, None)
            return
        member = self.members.get(member_id)
        if member is None:
            member = self.members[member_id] = ShareMember(member_id)
        member.client_id = value["client"]
        member.client_host = value["host"]
        member.rack_id = value["rack"]
        member.subscribed = after

    def _replay_target(self, member_id: str, parts: Assigned | None) -> None:
        before, after = self.target.get(member_id, {}), parts or {}
        for topic_id in dict.fromkeys((*before, *after)):
            holders = self._holders.setdefault(topic_id, {})
            _recount(holders, before.get(topic_id, ()), after.get(topic_id, ()))
            if not holders:
                del self._holders[topic_id]
        if parts is None:
            self.target.pop(member_id, None)
        else:
            self.target[member_id] = parts

    def _replay_current(self, member_id: str, value: dict[str, Any] | None) -> None:
        member = self.members.get(member_id)
        if member is None:
            return
        if value is None:
            member.epoch, member.previous_epoch, member.assigned = 0, -1, {}
        else:
            member.epoch, member.previous_epoch = value["epoch"], value["previous"]
            member.assigned = value["parts"]


def _recount(counts: dict[Any, int], before: Iterable[Any], after: Iterable[Any]) -> None:
    for key in after:
        counts[key] = counts.get(key, 0) + 1
    for key in before:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]


def _counts(keys: Iterable[Any]) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    _recount(counts, (), keys)
    return counts


def _topics(value: dict[str, Any] | None, name: str) -> Topics:
    if value is None:
        return {}
    return {topic_id: (topic, list(parts), at_ms) for topic_id, (topic, parts, at_ms) in value[name].items()}
