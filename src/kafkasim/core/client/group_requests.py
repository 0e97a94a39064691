"""The requests of a classic member, filled in from its configuration.

Mirrors:  rd_kafka_JoinGroupRequest, rd_kafka_SyncGroupRequest, rd_kafka_HeartbeatRequest, rd_kafka_LeaveGroupRequest and their timeouts.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.client.assignors import ASSIGNORS, COOPERATIVE
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.group_messages import (
    Assignment,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    MemberIdentity,
    Subscription,
    SyncGroupRequest,
)
from kafkasim.core.model.ids import TopicPartition

_GRACE_MS = 3_000


class GroupRequests:
    """``strategies``: the assignors of ``partition.assignment.strategy``, in order of preference."""

    leave_timeout_us = 5_000_000

    def __init__(self, config: ClientConfig) -> None:
        self._group_id = config.text("group.id")
        self.instance_id = config.text("group.instance.id") or None
        self._client_id = config.text("client.id")
        self._rack_id = config.text("client.rack")  # As librdkafka: empty, not null, where there is none.
        names = [name.strip() for name in config.text("partition.assignment.strategy").split(",")]
        self.strategies = [name for name in dict.fromkeys(names) if name]
        self._session_ms = config.ms("session.timeout.ms")
        self.max_poll_ms = config.ms("max.poll.interval.ms")
        self.join_timeout_us = (self.max_poll_ms + _GRACE_MS) * 1000
        self.sync_timeout_us = (self._session_ms + _GRACE_MS) * 1000

    def join(
        self, member_id: str, topics: Sequence[str], owned: Sequence[TopicPartition], sticky_generation: int
    ) -> JoinGroupRequest:
        """``sticky_generation``: the generation that ``owned`` comes from, told by sticky assignors only."""
        protocols = []
        for name in self.strategies:
            generation_id = sticky_generation if ASSIGNORS[name][0] == COOPERATIVE else -1
            user_data = b"" if generation_id < 0 else generation_id.to_bytes(4, "big")
            subscription = Subscription(tuple(topics), tuple(owned), generation_id, self._rack_id, user_data)
            protocols.append((name, subscription))
        return JoinGroupRequest(
            self._group_id,
            self._session_ms,
            self.max_poll_ms,
            member_id,
            self.instance_id,
            "consumer",
            tuple(protocols),
            self._client_id,
        )

    def sync(
        self, generation_id: int, member_id: str, assignments: tuple[tuple[str, Assignment], ...], strategy: str | None
    ) -> SyncGroupRequest:
        return SyncGroupRequest(
            self._group_id, generation_id, member_id, self.instance_id, assignments, "consumer", strategy
        )

    def heartbeat(self, generation_id: int, member_id: str) -> HeartbeatRequest:
        return HeartbeatRequest(self._group_id, generation_id, member_id, self.instance_id)

    def leave(self, member_id: str) -> LeaveGroupRequest:
        return LeaveGroupRequest(self._group_id, (MemberIdentity(member_id, None),))
