"""Who belongs to a classic group, and the record that keeps it: everything of a group but its rebalances.

Mirrors:  org.apache.kafka.coordinator.group.classic.ClassicGroup, ClassicGroupMember; GroupMetadataValue.
Rule 1:   ``_become`` is the only place where the state changes.
Rule 2:   replaying the last record gives the members, the generation and the assignments as they were; each member gets its whole
          session again.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.core.group.effects import Answer, GroupEffect, Persist, Token
from kafkasim.core.group.records import (
    GroupMetadataValue,
    MemberMetadata,
    encode_group_key,
    encode_group_value,
    encode_subscription,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    Assignment,
    DescribedGroup,
    DescribedMember,
    JoinGroupResponse,
    Subscription,
    SyncGroupResponse,
)
from kafkasim.core.model.message import slotted
from kafkasim.core.model.timers import Timers

EMPTY = "Empty"
PREPARING_REBALANCE = "PreparingRebalance"
COMPLETING_REBALANCE = "CompletingRebalance"
STABLE = "Stable"
DEAD = "Dead"

#: A new member's parked join is given up after this, whatever its session timeout (CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS).
NEW_MEMBER_JOIN_TIMEOUT_US = 5 * 60 * 1_000_000

#: (kind, group, member or "").
TimerKey = tuple[str, str, str]

_NO_SUBSCRIPTION = Subscription(())
NO_ASSIGNMENT = Assignment()


@slotted
class ClassicMember:
    """``join`` and ``sync`` are the parked requests, None when nothing is parked."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocols: tuple[tuple[str, Subscription], ...]
    assignment: Assignment = NO_ASSIGNMENT
    join: Token | None = None
    sync: Token | None = None
    is_new: bool = False

    def subscription(self, protocol: str | None) -> Subscription:
        for name, subscription in self.protocols:
            if name == protocol:
                return subscription
        return _NO_SUBSCRIPTION

    def same_protocols(self, protocols: tuple[tuple[str, Subscription], ...]) -> bool:
        return [(name, encode_subscription(sub)) for name, sub in self.protocols] == [
            (name, encode_subscription(sub)) for name, sub in protocols
        ]


@slotted
class GroupLimits:
    """The broker's settings for classic groups."""

    initial_rebalance_delay_ms: int = 3000
    max_size: int = 2_147_483_647
    wall_offset_us: int = 0


class GroupMembers:
    """Pushes effects to ``effects`` and deadlines to ``timers``, both owned by the shard."""

    def __init__(
        self, group_id: str, effects: list[GroupEffect], timers: Timers[TimerKey], limits: GroupLimits, now_us: int
    ) -> None:
        self.group_id = group_id
        self.state = EMPTY
        self.state_since_us = now_us
        self.generation_id = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.leader_id: str | None = None
        self.members: dict[str, ClassicMember] = {}
        #: Protocol -> how many members support it; who joins is measured against this, not against every member.
        self._supported: dict[str, int] = {}
        #: How many members have a parked join.
        self._joined = 0
        self._static: dict[str, str] = {}
        self._pending: dict[str, int] = {}
        self._effects = effects
        self._timers = timers
        self._limits = limits
        self._new_member_added = False
        self._initial_remaining_us = 0
        self._synced: dict[str, None] = {}

    # --- reading ---------------------------------------------------------------------------------------------------

    def is_simple(self) -> bool:
        """Only commits, never a member."""
        return self.protocol_type is None and not self.members

    def subscribed_topics(self) -> frozenset[str] | None:
        """Topics of all members; None where they cannot be known (no consumer protocol)."""
        if self.protocol_type != "consumer":
            return None
        if self.protocol_name is None and self.members:
            return None
        return frozenset(
            topic for member in self.members.values() for topic in member.subscription(self.protocol_name).topics
        )

    def is_pending(self, member_id: str) -> bool:
        return member_id in self._pending

    def member_for(self, member_id: str, instance_id: str | None) -> tuple[ClassicMember | None, ErrorCode]:
        """The member that a request speaks for, or why it may not (UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID)."""
        if instance_id is not None:
            current = self._static.get(instance_id)
            if current is None:
                return None, ErrorCode.UNKNOWN_MEMBER_ID
            if current != member_id:
                return None, ErrorCode.FENCED_INSTANCE_ID
        member = self.members.get(member_id)
        return member, ErrorCode.NONE if member is not None else ErrorCode.UNKNOWN_MEMBER_ID

    def describe(self) -> DescribedGroup:
        stable = self.state == STABLE
        members = tuple(
            DescribedMember(
                member.member_id,
                member.group_instance_id,
                member.client_id,
                member.client_host,
                member.subscription(self.protocol_name) if stable else None,
                member.assignment if stable else None,
            )
            for member in self.members.values()
        )
        protocol = (self.protocol_name or "") if stable else ""
        return DescribedGroup(
            ErrorCode.NONE,
            self.group_id,
            self.state,
            self.protocol_type or "",
            protocol,
            members,
            self.generation_id,
        )

    # --- members ---------------------------------------------------------------------------------------------------

    def _refuse_join(self, token: Token, member_id: str, error: ErrorCode) -> None:
        self._effects.append(Answer(token, JoinGroupResponse(error, member_id=member_id)))

    def _become(self, state: str, now_us: int) -> None:
        self.state = state
        self.state_since_us = now_us

    def _refresh_session(self, member: ClassicMember, now_us: int) -> None:
        self._timers.arm(("session", self.group_id, member.member_id), now_us + member.session_timeout_ms * 1000)

    def _enter(self, member: ClassicMember) -> None:
        self.members[member.member_id] = member
        if member.group_instance_id is not None:
            self._static[member.group_instance_id] = member.member_id
        self._count_protocols(member, 1)

    def _count_protocols(self, member: ClassicMember, step: int) -> None:
        supported = self._supported
        for name in dict(member.protocols):
            supported[name] = supported.get(name, 0) + step

    def _take_protocols(self, member: ClassicMember, protocols: tuple[tuple[str, Subscription], ...]) -> None:
        self._count_protocols(member, -1)
        member.protocols = protocols
        self._count_protocols(member, 1)

    def _forget(self, member: ClassicMember) -> None:
        self._answer_parked(member, ErrorCode.UNKNOWN_MEMBER_ID)
        del self.members[member.member_id]
        self._count_protocols(member, -1)
        self._timers.disarm(("session", self.group_id, member.member_id))
        if member.group_instance_id is not None:
            self._static.pop(member.group_instance_id, None)
        if self.leader_id == member.member_id:
            self.leader_id = next(iter(self.members), None)

    def _answer_parked(self, member: ClassicMember, error: ErrorCode) -> None:
        if member.join is not None:
            self._refuse_join(member.join, member.member_id, error)
            member.join = None
            self._joined -= 1
        if member.sync is not None:
            self._effects.append(Answer(member.sync, SyncGroupResponse(error)))
            member.sync = None

    # --- the log ---------------------------------------------------------------------------------------------------

    def _assignments(self) -> dict[str, Assignment]:
        return {member.member_id: member.assignment for member in self.members.values()}

    def _persist_metadata(
        self, assignments: dict[str, Assignment], now_us: int, done: Callable[[ErrorCode, int], None]
    ) -> None:
        self._effects.append(Persist([self._metadata_record(assignments, now_us)], done))

    def metadata_record(self, now_us: int) -> tuple[bytes, bytes]:
        """The group's record as it stands."""
        return self._metadata_record(self._assignments(), now_us)

    def _metadata_record(self, assignments: dict[str, Assignment], now_us: int) -> tuple[bytes, bytes]:
        members = tuple(
            MemberMetadata(
                member.member_id,
                member.group_instance_id,
                member.client_id,
                member.client_host,
                member.rebalance_timeout_ms,
                member.session_timeout_ms,
                member.subscription(self.protocol_name),
                assignments.get(member.member_id, NO_ASSIGNMENT),
            )
            for member in self.members.values()
        )
        stamp_ms = (now_us + self._limits.wall_offset_us) // 1000
        value = GroupMetadataValue(
            self.protocol_type or "", self.generation_id, self.protocol_name, self.leader_id, stamp_ms, members
        )
        return encode_group_key(self.group_id), encode_group_value(value)

    def replay(self, value: GroupMetadataValue, now_us: int) -> None:
        """Take the group as its last record left it; every member gets its whole session timeout again."""
        self.generation_id = value.generation_id
        self.protocol_type = value.protocol_type or None
        self.protocol_name = value.protocol
        self.leader_id = value.leader
        for kept in value.members:
            protocols = ((value.protocol or "", kept.subscription),)
            member = ClassicMember(
                kept.member_id,
                kept.group_instance_id,
                kept.client_id,
                kept.client_host,
                kept.rebalance_timeout_ms,
                kept.session_timeout_ms,
                protocols,
                kept.assignment,
            )
            self._enter(member)
            self._refresh_session(member, now_us)
        self._become(STABLE if value.members else EMPTY, now_us)

    def interrupt(self, error: ErrorCode) -> None:
        """Answer whatever is parked; the members stay."""
        for member in self.members.values():
            self._answer_parked(member, error)

    def drop(self, error: ErrorCode, now_us: int) -> None:
        """The group moves to another coordinator or dies: answer whatever is parked."""
        for member in self.members.values():
            self._answer_parked(member, error)
            self._timers.disarm(("session", self.group_id, member.member_id))
        for member_id in self._pending:
            self._timers.disarm(("session", self.group_id, member_id))
        for kind in ("join", "initial", "sync"):
            self._timers.disarm((kind, self.group_id, ""))
        self._become(DEAD, now_us)

    def check(self) -> None:
        """Audit the invariants, in O(members)."""
        assert (self.state == EMPTY) <= (not self.members), self.state
        assert set(self._static.values()) <= set(self.members)
        assert self._joined == sum(member.join is not None for member in self.members.values())
        named = [name for member in self.members.values() for name in dict(member.protocols)]
        assert all(count == named.count(name) for name, count in self._supported.items()), self._supported
        if self.state in (COMPLETING_REBALANCE, STABLE):
            assert self.leader_id in self.members
            assert all(member.join is None for member in self.members.values())
        if self.state == STABLE:
            owned = [tp for member in self.members.values() for tp in member.assignment.partitions]
            assert len(owned) == len(set(owned)) or self.protocol_type != "consumer"


def empty_group_record(group_id: str, stamp_ms: int) -> tuple[bytes, bytes]:
    """What is written of a group before anybody is in it."""
    return encode_group_key(group_id), encode_group_value(GroupMetadataValue("", 0, None, None, stamp_ms, ()))
