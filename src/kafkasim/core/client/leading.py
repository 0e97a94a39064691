"""What the leader of a classic group does: every member's partitions from their subscriptions and fresh metadata.

Mirrors:  rd_kafka_cgrp_assignor_run and the leader's half of rd_kafka_cgrp_handle_JoinGroup.
Rule 1:   topics are taken in the order of their names.
Rule 2:   a member's user data travel back to it with its assignment, as librdkafka sends them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.client.assignors import AssignorTopic, GroupMember, run_assignor
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import Assignment, JoinGroupMember
from kafkasim.core.model.messages import MetadataResponse


def lead(
    strategy: str, members: Sequence[JoinGroupMember], response: MetadataResponse
) -> tuple[tuple[str, Assignment], ...]:
    """The ``assignments`` of the leader's SyncGroup."""
    assignments = run_assignor(strategy, [_as_member(member) for member in members], _assignor_topics(response))
    user_data = {member.member_id: member.subscription.user_data for member in members}
    return tuple(
        (member_id, Assignment(tuple(partitions), user_data[member_id]))
        for member_id, partitions in assignments.items()
    )


def _as_member(member: JoinGroupMember) -> GroupMember:
    subscription = member.subscription
    return GroupMember(
        member.member_id,
        subscription.topics,
        member.group_instance_id,
        subscription.owned_partitions,
        subscription.generation_id,
        subscription.rack_id,
    )


def _assignor_topics(response: MetadataResponse) -> list[AssignorTopic]:
    """Topics by name, with the racks of their replicas where brokers have any."""
    rack_of = {broker.node_id: broker.rack for broker in response.brokers if broker.rack is not None}
    topics = []
    for topic in sorted(response.topics, key=lambda each: each.name):
        if topic.error != ErrorCode.NONE or not topic.partitions:
            continue
        racks = None
        if rack_of:
            racks = tuple(
                tuple(sorted({rack_of[node] for node in partition.replicas if node in rack_of}))
                for partition in sorted(topic.partitions, key=lambda each: each.partition)
            )
        topics.append(AssignorTopic(topic.name, len(topic.partitions), racks))
    return topics
