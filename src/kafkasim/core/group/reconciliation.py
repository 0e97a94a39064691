"""How a member comes from what it has to what it is to have: revoke first, take over what is free.

Mirrors:  org.apache.kafka.coordinator.group.modern.consumer.CurrentAssignmentBuilder.
Rule 1:   keep what is both owned and in the target. As long as something else is owned, the member stays in its epoch and must give
          that up; it goes on when a heartbeat reports partitions without it.
Rule 2:   then it moves to the target epoch and gets what is free; what others still own keeps it UNRELEASED_PARTITIONS.
Rule 3:   a topic that it no longer subscribes to is taken from it at once, whatever the target says.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kafkasim.core.group.consumer_records import Epochs
from kafkasim.core.group.consumer_state import (
    MEMBER_STABLE,
    NO_PARTITION_EPOCH,
    UNRELEASED_PARTITIONS,
    UNREVOKED_PARTITIONS,
    ConsumerMember,
)
from kafkasim.core.group.server_assignors import Share
from kafkasim.core.model.message import slotted

#: What a member says that it owns; None where the heartbeat says nothing of it.
Owned = Share | None


@slotted
class Goal:
    """``is_subscribed(topic id)`` of this member; ``partition_epoch(topic id, partition)`` of whoever owns it."""

    epoch: int
    target: Share
    subscription_changed: bool
    is_subscribed: Callable[[str], bool]
    partition_epoch: Callable[[str, int], int]


def reconcile(member: ConsumerMember, goal: Goal, owned: Owned) -> ConsumerMember:
    """The member one step further, or the very same one where it cannot move."""
    if member.state == MEMBER_STABLE and member.member_epoch == goal.epoch:
        return _drop_unsubscribed(member, goal, owned) if goal.subscription_changed else member
    if member.state == UNREVOKED_PARTITIONS and _owns_any(owned, member.pending_revocation):
        return _drop_unsubscribed(member, goal, owned) if goal.subscription_changed else member
    return _next_assignment(member, goal, owned)


def _owns_any(owned: Owned, revoked: Epochs) -> bool:
    if owned is None:
        return True
    return any(
        partition in revoked.get(topic_id, ()) for topic_id, partitions in owned.items() for partition in partitions
    )


def _drop_unsubscribed(member: ConsumerMember, goal: Goal, owned: Owned) -> ConsumerMember:
    dropped = [topic_id for topic_id in member.assigned if not goal.is_subscribed(topic_id)]
    if not dropped:
        return member
    assigned = {topic_id: epochs for topic_id, epochs in member.assigned.items() if topic_id not in dropped}
    pending = dict(member.pending_revocation)
    for topic_id in dropped:
        pending[topic_id] = {**pending.get(topic_id, {}), **member.assigned[topic_id]}
    if _owns_any(owned, pending):
        return attrs.evolve(
            member,
            state=UNREVOKED_PARTITIONS,
            previous_epoch=member.member_epoch,
            assigned=assigned,
            pending_revocation=pending,
        )
    return attrs.evolve(member, previous_epoch=member.member_epoch, assigned=assigned)


def _next_assignment(member: ConsumerMember, goal: Goal, owned: Owned) -> ConsumerMember:
    assigned: dict[str, dict[int, int]] = {}
    revoked: dict[str, dict[int, int]] = {}
    added: dict[str, list[int]] = {}
    waits = False
    for topic_id in {**goal.target, **member.assigned}:
        target = goal.target.get(topic_id, ()) if goal.is_subscribed(topic_id) else ()
        current = member.assigned.get(topic_id, {})
        wanted = dict.fromkeys(target)
        kept = {partition: epoch for partition, epoch in current.items() if partition in wanted}
        if kept:
            assigned[topic_id] = kept
        if len(kept) < len(current):
            revoked[topic_id] = {partition: epoch for partition, epoch in current.items() if partition not in wanted}
        own = member.pending_revocation.get(topic_id, {})
        for partition in target:
            if partition in kept:
                continue
            if goal.partition_epoch(topic_id, partition) == NO_PARTITION_EPOCH or partition in own:
                added.setdefault(topic_id, []).append(partition)
            else:
                waits = True
    if revoked and _owns_any(owned, revoked):
        return attrs.evolve(
            member,
            state=UNREVOKED_PARTITIONS,
            previous_epoch=member.member_epoch,
            assigned=assigned,
            pending_revocation=revoked,
        )
    for topic_id, partitions in added.items():
        assigned.setdefault(topic_id, {}).update(dict.fromkeys(partitions, goal.epoch))
    return attrs.evolve(
        member,
        state=UNRELEASED_PARTITIONS if waits else MEMBER_STABLE,
        member_epoch=goal.epoch,
        previous_epoch=member.member_epoch,
        assigned=assigned,
        pending_revocation={},
    )
