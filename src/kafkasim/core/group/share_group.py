"""One share group: members, epochs, the target assignment, and which partitions have their state at the share coordinator.

Mirrors:  ShareGroup, ShareGroupMember, ModernGroup (KIP-932).
Inputs:   replay(record) is the only way in; everything else reads.
Rule 1:   the epoch begins at 1 and moves with the first member, to 2, and again when there are partitions to assign.
Rule 2:   a group is Empty or Stable; nobody waits for anybody, so there is no rebalancing state.
"""

from __future__ import annotations

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

    @property
    def state(self) -> str:
        return "Stable" if self.members else "Empty"

    @property
    def subscribed(self) -> list[str]:
        """Every topic that some member wants, by name."""
        return sorted({name for member in self.members.values() for name in member.subscribed})

    def initialized_partitions(self) -> dict[str, list[int]]:
        return {topic_id: partitions for topic_id, (_, partitions, _) in self.initialized.items()}

    def is_assignment_pending(self) -> bool:
        """Partitions of subscribed topics were initialised that the target assignment does not know yet."""
        wanted = self.subscribed
        assigned: dict[str, dict[int, None]] = {}
        for parts in self.target.values():
            for topic_id, numbers in parts.items():
                assigned.setdefault(topic_id, {}).update(dict.fromkeys(numbers))
        return any(
            name in wanted and sorted(assigned.get(topic_id, ())) != partitions
            for topic_id, (name, partitions, _) in self.initialized.items()
        )

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
            if value is None:
                self.target.pop(record.member_id, None)
            else:
                self.target[record.member_id] = value["parts"]
        elif record.kind == CURRENT_MEMBER:
            self._replay_current(record.member_id, value)
        else:
            assert record.kind == STATE_PARTITIONS, record
            self.initializing = _topics(value, "initializing")
            self.initialized = _topics(value, "initialized")

    def _replay_member(self, member_id: str, value: dict[str, Any] | None) -> None:
        if value is None:
            self.members.pop(member_id, None)
            self.target.pop(member_id, None)
            return
        member = self.members.get(member_id)
        if member is None:
            member = self.members[member_id] = ShareMember(member_id)
        member.client_id = value["client"]
        member.client_host = value["host"]
        member.rack_id = value["rack"]
        member.subscribed = tuple(value["topics"])

    def _replay_current(self, member_id: str, value: dict[str, Any] | None) -> None:
        member = self.members.get(member_id)
        if member is None:
            return
        if value is None:
            member.epoch, member.previous_epoch, member.assigned = 0, -1, {}
        else:
            member.epoch, member.previous_epoch = value["epoch"], value["previous"]
            member.assigned = value["parts"]


def _topics(value: dict[str, Any] | None, name: str) -> Topics:
    if value is None:
        return {}
    return {topic_id: (topic, list(parts), at_ms) for topic_id, (topic, parts, at_ms) in value[name].items()}
