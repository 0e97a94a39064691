"""What the handle answers with: descriptions of topics, groups and stored records.

Rule 1:   field names are Kafka's; None means that this cluster does not tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PartitionDescription:
    """One partition as the controller and its leader see it."""

    partition: int
    leader: int
    leader_epoch: int | None
    replicas: list[int]
    isr: list[int]
    elr: list[int] | None
    last_known_elr: list[int] | None
    high_watermark: int | None
    log_start_offset: int | None
    log_end_offset: int | None


@dataclass(frozen=True)
class MemberDescription:
    """One member of a group, with the partitions it holds in order."""

    member_id: str
    client_id: str
    group_instance_id: str | None
    assignment: list[tuple[str, int]]


@dataclass(frozen=True)
class GroupDescription:
    """A consumer group as its coordinator describes it."""

    group_id: str
    state: str
    type: str
    partition_assignor: str
    coordinator: int
    members: list[MemberDescription] = field(default_factory=list)


@dataclass(frozen=True)
class StoredRecord:
    """One record that the log holds below the high watermark."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    timestamp_type: int
    headers: list[tuple[str, bytes | None]]
