"""What an assignor is given: members with their subscriptions, topics with the racks of their partitions.

Mirrors:  rd_kafka_group_member_t, rd_kafka_assignor_topic_t.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.message import slotted


@slotted
class GroupMember:
    member_id: str
    topics: tuple[str, ...]
    instance_id: str | None = None
    owned: tuple[TopicPartition, ...] = ()
    generation_id: int = -1
    rack_id: str | None = None


@slotted
class AssignorTopic:
    """``racks``: for each partition the racks of its replicas, or None where no broker has one."""

    name: str
    partition_count: int
    racks: tuple[tuple[str, ...], ...] | None = None


def use_racks(topics: Sequence[AssignorTopic], members: Sequence[GroupMember]) -> bool:
    """Racks matter if a member shares one with some replica, and some partition is not in every rack."""
    member_racks = {
        member.rack_id for member in members if member.rack_id and any(topic.name in member.topics for topic in topics)
    }
    partitions = [racks for topic in topics for racks in topic.racks or ()]
    all_racks = {rack for racks in partitions for rack in racks}
    if not member_racks or member_racks.isdisjoint(all_racks):
        return False
    return any(len(set(racks)) != len(all_racks) for racks in partitions)
