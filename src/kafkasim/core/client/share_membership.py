"""Membership in a share group: heartbeats that join, tell the subscription, bring the assignment, leave.

Mirrors:  rdkafka_cgrp.c of a share consumer (rd_kafka_cgrp_handle_ShareGroupHeartbeat, rd_kafka_cgrp_share_consumer_leave).
Inputs:   subscribe, unsubscribe, on_coordinator, leave, rejoin.      Effects: Send (ShareGroupHeartbeat).
Rule 1:   an assignment is taken at once; nothing is revoked first and nothing is acknowledged.
Rule 2:   a member that was fenced or forgotten joins again with its own id; what is fatal for the group is fatal for the client.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.core.client.coordinator import COORDINATOR_MOVED, Coordinator
from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.error_text import error_text
from kafkasim.core.model.consumer_group_messages import TopicPartitions
from kafkasim.core.model.effects import COORDINATOR_CHANNEL
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NodeId
from kafkasim.core.model.share_messages import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse

_FENCED = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH)
_FATAL = (
    ErrorCode.INVALID_REQUEST,
    ErrorCode.GROUP_MAX_SIZE_REACHED,
    ErrorCode.UNSUPPORTED_VERSION,
    ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ErrorCode.GROUP_ID_NOT_FOUND,
)
_RETRY_US = 100_000
_FIRST_TIMEOUT_US = 45_000_000
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class ShareMembership:
    """``on_assignment(parts, now_us)`` hears of every new assignment, () when there is none any more."""

    def __init__(self, core: ClientCore, on_assignment: Callable[[tuple[TopicPartitions, ...], int], None]) -> None:
        self._core = core
        self._on_assignment = on_assignment
        self._group_id = core.config.text("group.id")
        self._coordinator = Coordinator(core, self._group_id, self._on_up, self._on_error)
        self.member_id = "".join(_DIGITS[core.draw("share.member_id", 64)] for _ in range(22))
        self.member_epoch = 0
        self.topics: tuple[str, ...] = ()
        self._has_news = False
        self._in_flight = False
        self._interval_us = 0
        self._timer: Timer | None = None

    @property
    def is_member(self) -> bool:
        return self.member_epoch > 0

    def subscribe(self, topics: tuple[str, ...], now_us: int) -> None:
        self.topics = topics
        self._has_news = True
        self._coordinator.start(now_us)
        self._beat_at(now_us, now_us)

    def unsubscribe(self, now_us: int) -> None:
        self.topics = ()
        self.leave(lambda at_us: None, now_us)

    def leave(self, on_left: Callable[[int], None], now_us: int) -> None:
        """Tell the coordinator that we go; ``on_left`` is called when it knows, or nobody can tell it."""
        was_member, self.member_epoch = self.is_member, 0
        if self._timer is not None:
            self._timer.cancel()
        self._on_assignment((), now_us)
        if not was_member or not self._coordinator.is_up:
            on_left(now_us)
            return
        request = ShareGroupHeartbeatRequest(self._group_id, self.member_id, -1, client_id=self._client_id)
        self._coordinator.send(request, lambda response, error, at_us: on_left(at_us), now_us)

    def rejoin(self, now_us: int) -> None:
        """Join again after having left by itself."""
        if self.topics and not self.is_member and not self._in_flight:
            self._has_news = True
            self._beat_at(now_us, now_us)

    @property
    def _client_id(self) -> str:
        return self._core.config.text("client.id")

    # --- heartbeats ------------------------------------------------------------------------------------------------

    def _on_up(self, now_us: int) -> None:
        self._beat_at(now_us, now_us)

    def _on_error(self, error: ErrorCode) -> None:
        self._core.emit_error(error, "")

    def on_connection_lost(self, node: NodeId, channel: int, now_us: int) -> None:
        if channel == COORDINATOR_CHANNEL and node == self._coordinator.node:
            self._coordinator.on_dead(now_us)

    def _beat_at(self, at_us: int, now_us: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if at_us <= now_us:
            self._beat(now_us)
        else:
            self._timer = self._core.call_at(at_us, self._beat)

    def _beat(self, now_us: int) -> None:
        if self._in_flight or not self.topics or not self._coordinator.is_up or self._core.closed:
            return
        if self._core.fatal_error is not ErrorCode.NONE:
            return
        self._in_flight = True
        joins = self.member_epoch == 0
        names = self.topics if joins or self._has_news else None
        self._has_news = False
        rack_id = (self._core.config.text("client.rack") or None) if joins else None
        request = ShareGroupHeartbeatRequest(
            self._group_id, self.member_id, self.member_epoch, rack_id, names, self._client_id
        )
        epoch = self.member_epoch

        def answered(response: ShareGroupHeartbeatResponse | None, error: ErrorCode, at_us: int) -> None:
            self._in_flight = False
            if self.topics and epoch == self.member_epoch:
                self._on_answer(response, error, at_us)
            elif self.topics:
                self._beat_at(at_us, at_us)

        self._coordinator.send(request, answered, now_us, self._interval_us or _FIRST_TIMEOUT_US)

    def _on_answer(self, response: ShareGroupHeartbeatResponse | None, error: ErrorCode, now_us: int) -> None:
        code = error if response is None else response.error
        if response is not None and code is ErrorCode.NONE:
            self.member_epoch = response.member_epoch
            self._interval_us = response.heartbeat_interval_ms * 1000
            self._beat_at(now_us if self._has_news else now_us + self._interval_us, now_us)
            if response.assignment is not None:
                self._on_assignment(response.assignment, now_us)
            return
        if code in _FATAL:
            self._core.become_fatal(code, f"ShareGroupHeartbeat fatal error: {error_text(code)}")
            self._on_assignment((), now_us)
            return
        self._has_news = True
        if code in _FENCED:
            self.member_epoch = 0
            self._on_assignment((), now_us)
            self._beat_at(now_us, now_us)
            return
        if code in COORDINATOR_MOVED:
            self._coordinator.on_dead(now_us)
        self._beat_at(now_us + _RETRY_US, now_us)
