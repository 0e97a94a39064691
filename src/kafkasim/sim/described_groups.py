"""Groups as the handle shows them, whatever protocol they speak.

Rule 1:   states are Kafka's own words, also those that librdkafka has no name for (Assigning, Reconciling).
"""

from __future__ import annotations

from kafkasim.core.model.consumer_group_messages import ConsumerGroupDescribedGroup
from kafkasim.core.model.group_messages import DescribedGroup
from kafkasim.core.model.views import GroupDescription, MemberDescription


def described(group: DescribedGroup | ConsumerGroupDescribedGroup, coordinator: int) -> GroupDescription:
    """What a coordinator said of a group, as the handle's value."""
    if isinstance(group, ConsumerGroupDescribedGroup):
        members = [
            MemberDescription(
                member.member_id,
                member.client_id,
                member.instance_id,
                sorted((topic.topic_name, number) for topic in member.assignment for number in topic.partitions),
            )
            for member in group.members
        ]
        return GroupDescription(
            group.group_id, group.group_state, "Consumer", group.assignor_name, coordinator, members
        )
    members = [
        MemberDescription(
            member.member_id,
            member.client_id,
            member.group_instance_id,
            sorted((tp.topic, tp.partition) for tp in (member.assignment.partitions if member.assignment else ())),
        )
        for member in group.members
    ]
    return GroupDescription(group.group_id, group.group_state, "Classic", group.protocol_data, coordinator, members)
