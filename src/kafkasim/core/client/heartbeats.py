"""Heartbeats of a classic member, and its own view of its session.

Mirrors:  rd_kafka_cgrp_heartbeat, rd_kafka_cgrp_handle_Heartbeat, rd_kafka_cgrp_session_timeout_check.
Inputs:   send, synced.      Effects: Send (Heartbeat to the coordinator).
Rule 1:   the interval runs on through a rebalance: a heartbeat that fell due meanwhile goes out when the member may beat again.
Rule 2:   a session that has expired stays so until the next SyncGroup.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.core.client.coordinator import Coordinator
from kafkasim.core.client.core import ClientCore
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import HeartbeatRequest, HeartbeatResponse

_ALIVE = (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS)


class Heartbeats:
    """``on_error(error, now_us)`` hears of every answer but the good one."""

    def __init__(self, core: ClientCore, coordinator: Coordinator, on_error: Callable[[ErrorCode, int], None]) -> None:
        self._coordinator = coordinator
        self._on_error = on_error
        self._interval_us = core.config.ms("heartbeat.interval.ms") * 1000
        self._session_us = core.config.ms("session.timeout.ms") * 1000
        self._due_us = NEVER_US
        self._in_flight = False
        self.session_until_us = NEVER_US

    def due_us(self, now_us: int) -> int:
        """When the next heartbeat is due; the first one an interval after the first call."""
        if self._due_us == NEVER_US:
            self._due_us = now_us + self._interval_us
        return self._due_us

    def synced(self, now_us: int) -> None:
        """A new generation: the session begins anew."""
        self.session_until_us = now_us + self._session_us

    def expire(self) -> None:
        self.session_until_us = NEVER_US

    def send(self, request: HeartbeatRequest | None, now_us: int) -> None:
        """Beat, unless a heartbeat is out, there is nobody to send it to, or ``request`` is None."""
        self._due_us = now_us + self._interval_us
        if request is not None and not self._in_flight and self._coordinator.is_up:
            self._in_flight = True
            self._coordinator.send(request, self._on_answer, now_us, self._session_us)

    def _on_answer(self, response: HeartbeatResponse | None, error: ErrorCode, now_us: int) -> None:
        self._in_flight = False
        if response is not None:
            error = response.error
        if error in _ALIVE and self.session_until_us != NEVER_US:
            self.session_until_us = now_us + self._session_us
        if error != ErrorCode.NONE:
            self._on_error(error, now_us)
