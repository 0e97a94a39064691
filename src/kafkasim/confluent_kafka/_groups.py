"""Groups as the old `list_groups` shows them, built into the classes of the client's Python layer.

Mirrors:  c_groups_to_py of Metadata.c.
Differs:  what a member sent and was assigned travels as values here, so ``metadata`` and ``assignment`` are their text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafkasim.confluent_kafka._metadata import broker_metadata
from kafkasim.confluent_kafka.errors import error_or_none
from kafkasim.confluent_kafka.layer import layer_module

if TYPE_CHECKING:
    from kafkasim.core.model.group_messages import DescribedGroup, DescribedMember
    from kafkasim.core.model.messages import BrokerEndpoint


def group_metadata(group: DescribedGroup, coordinator: BrokerEndpoint | None) -> Any:
    """A GroupMetadata."""
    admin = layer_module("admin")
    made = admin.GroupMetadata()
    made.id = group.group_id
    made.error = error_or_none(group.error)
    made.state = group.group_state
    made.protocol_type = group.protocol_type
    made.protocol = group.protocol_data
    made.broker = None if coordinator is None else broker_metadata(admin, coordinator)
    made.members = [_member(admin, member) for member in group.members]
    return made


def _member(admin: Any, member: DescribedMember) -> Any:
    made = admin.GroupMember()
    made.id, made.client_id, made.client_host = member.member_id, member.client_id, member.client_host
    topics = member.subscription.topics if member.subscription is not None else ()
    partitions = member.assignment.partitions if member.assignment is not None else ()
    made.metadata = ",".join(topics).encode()
    made.assignment = ",".join([f"{tp[0]}-{tp[1]}" for tp in partitions]).encode()
    return made
