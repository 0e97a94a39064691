"""The heartbeats of a KIP-848 member: what they say, and when the next one is due.

Mirrors:  rd_kafka_cgrp_consumer_group_heartbeat, rd_kafka_cgrp_consumer_expedite_next_heartbeat, rd_kafka_cgrp_consumer_leave.
Inputs:   send, leave, expedite, answered.      Effects: Send (ConsumerGroupHeartbeat to the coordinator).
Rule 1:   the interval is the broker's; before its first answer the next heartbeat is always due.
Rule 2:   one heartbeat is out at a time; one that is expedited meanwhile follows the answer.
Rule 3:   a heartbeat that is expedited again before any succeeded backs off: 1 ms, 2 ms, 4 ms up to retry.backoff.max.ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kafkasim.core.client.coordinator import Coordinator
from kafkasim.core.client.core import ClientCore
from kafkasim.core.client.reconciliation import ById
from kafkasim.core.model.consumer_group_messages import (
    LEAVE_GROUP_MEMBER_EPOCH,
    LEAVE_GROUP_STATIC_MEMBER_EPOCH,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from kafkasim.core.model.errors import ErrorCode

_Handler: TypeAlias = Callable[["ConsumerGroupHeartbeatResponse | None", ErrorCode, int], None]


class ConsumerHeartbeats:
    """``in_flight``: a heartbeat is out (the one that leaves does not count)."""

    def __init__(self, core: ClientCore, coordinator: Coordinator) -> None:
        config = core.config
        self._core = core
        self._coordinator = coordinator
        self._group_id = config.text("group.id")
        self.instance_id = config.text("group.instance.id") or None
        self._client_id = config.text("client.id")
        self._rack_id = config.text("client.rack") or None
        self._assignor = config.text("group.remote.assignor") or None
        self.max_poll_ms = config.ms("max.poll.interval.ms")
        self._first_timeout_us = config.ms("session.timeout.ms") * 1000
        self._backoff_max_us = config.ms("retry.backoff.max.ms") * 1000
        self.interval_us = 0
        self.in_flight = False
        self._last_us = 0
        self._backoff_us = 0
        self._unanswered = 0

    @property
    def due_us(self) -> int:
        """When the next heartbeat is due."""
        return self._last_us + self.interval_us + self._backoff_us

    def expedite(self, now_us: int) -> None:
        """Beat as soon as may be."""
        self._last_us, self._backoff_us = now_us - self.interval_us, 0
        if self._unanswered:
            backoff_ms = 1 << min(self._unanswered - 1, 20)
            jitter_percent = 80 + self._core.draw("heartbeat.backoff", 41)
            self._backoff_us = min(backoff_ms * jitter_percent * 10, self._backoff_max_us)

    def postpone(self, at_us: int) -> None:
        """Beat at ``at_us``."""
        self._last_us, self._backoff_us = at_us - self.interval_us, 0

    def answered(self, interval_ms: int) -> None:
        """A heartbeat succeeded."""
        self._unanswered = 0
        if interval_ms > 0:
            self.interval_us = interval_ms * 1000

    def send(
        self,
        member_id: str,
        epoch: int,
        *,
        is_full: bool,
        subscription: tuple[tuple[str, ...], str] | None,
        owned: ById | None,
        handler: _Handler,
        now_us: int,
    ) -> None:
        """Beat; ``is_full``: say all there is to say of this member. ``subscription``: topics and pattern, where they are news."""
        self.in_flight = True
        self._last_us, self._backoff_us = now_us, 0
        self._unanswered += 1
        names, regex = (None, None) if subscription is None else subscription
        request = ConsumerGroupHeartbeatRequest(
            group_id=self._group_id,
            member_id=member_id,
            member_epoch=max(epoch, 0),
            instance_id=self.instance_id if is_full else None,
            rack_id=self._rack_id if is_full else None,
            rebalance_timeout_ms=self.max_poll_ms if is_full else -1,
            subscribed_topic_names=names,
            subscribed_topic_regex=regex,
            server_assignor=self._assignor if is_full else None,
            topic_partitions=owned,
            client_id=self._client_id,
        )
        self._coordinator.send(request, handler, now_us, self.interval_us or self._first_timeout_us)

    def leave(self, member_id: str, handler: _Handler, now_us: int) -> None:
        """Tell the coordinator that we go; a static member means to come back."""
        is_static = self.instance_id is not None
        epoch = LEAVE_GROUP_STATIC_MEMBER_EPOCH if is_static else LEAVE_GROUP_MEMBER_EPOCH
        request = ConsumerGroupHeartbeatRequest(
            group_id=self._group_id,
            member_id=member_id,
            member_epoch=epoch,
            instance_id=self.instance_id,
            client_id=self._client_id,
        )
        self._coordinator.send(request, handler, now_us, self.interval_us or self._first_timeout_us)
