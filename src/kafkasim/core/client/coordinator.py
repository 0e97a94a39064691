"""Finding a group's coordinator and talking to it.

Mirrors:  the coordinator half of rdkafka_cgrp.c (INIT, QUERY_COORD, WAIT_COORD, UP).
Inputs:   start, on_dead, on_connection.      Effects: Send (FindCoordinator on the main channel, the rest on COORDINATOR_CHANNEL).
Rule 1:   while no coordinator is known it is asked for every 500 ms, and every ``coordinator.query.interval.ms`` otherwise.
Rule 2:   a request fails with ``_WAIT_COORD`` at once where no coordinator is known; who sent it waits for ``on_up``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.requests import Handler
from kafkasim.core.model.effects import COORDINATOR_CHANNEL
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import FindCoordinatorRequest, FindCoordinatorResponse
from kafkasim.core.model.ids import NO_NODE, NodeId

_QUERY_US = 500_000

#: Errors by which a broker says that it is not, or not yet, the coordinator.
COORDINATOR_MOVED = frozenset(
    {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode._TRANSPORT, ErrorCode._WAIT_COORD}
)
_TEMPORARY = frozenset(
    {
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode._TRANSPORT,
        ErrorCode._TIMED_OUT,
        ErrorCode._TIMED_OUT_QUEUE,
        ErrorCode.REQUEST_TIMED_OUT,
    }
)


class Coordinator:
    """``node`` is NO_NODE until one is found."""

    def __init__(
        self,
        core: ClientCore,
        group_id: str,
        on_up: Callable[[int], None],
        on_error: Callable[[ErrorCode], None],
    ) -> None:
        self._core = core
        self._group_id = group_id
        self._on_up = on_up
        self._on_error = on_error
        self.node: NodeId = NO_NODE
        self._asking = False
        self._timer: Timer | None = None
        self._last_error = ErrorCode.NONE
        self._idle_us = core.config.ms("coordinator.query.interval.ms") * 1000

    @property
    def is_up(self) -> bool:
        return self.node != NO_NODE

    def start(self, now_us: int) -> None:
        """Look for the coordinator, unless that is under way."""
        if self._timer is None or self._timer.callback is None:
            self._query(now_us)

    def on_dead(self, now_us: int) -> None:
        """The coordinator has moved, or does not answer: look for it anew."""
        if self.is_up:
            self.node = NO_NODE
            if self._timer is not None:
                self._timer.cancel()
            self._query(now_us)

    def send(self, request: Any, handler: Handler, now_us: int, timeout_us: int | None = None) -> None:
        if not self.is_up:
            self._core.call_at(now_us, lambda at_us: handler(None, ErrorCode._WAIT_COORD, at_us))
            return
        self._core.send(self.node, request, handler, now_us=now_us, timeout_us=timeout_us, channel=COORDINATOR_CHANNEL)

    def _query(self, now_us: int) -> None:
        if not self._asking:
            sent = self._core.send_to_any(
                FindCoordinatorRequest(self._group_id), self._on_found, now_us=now_us, timeout_us=None
            )
            self._asking = sent
            if not sent:
                at_us = max(self._core.any_broker_at_us(), now_us + 1)
                self._timer = self._core.call_at(min(at_us, now_us + _QUERY_US), self._query)
                return
        self._timer = self._core.call_at(now_us + (self._idle_us if self.is_up else _QUERY_US), self._query)

    def _on_found(self, response: FindCoordinatorResponse | None, error: ErrorCode, now_us: int) -> None:
        self._asking = False
        if response is not None:
            error = response.error
        if response is None or error != ErrorCode.NONE:
            if error not in _TEMPORARY and error != self._last_error:
                self._last_error = error
                self._on_error(error)
            if error == ErrorCode.COORDINATOR_NOT_AVAILABLE:
                self.node = NO_NODE
            return
        moved = response.node_id != self.node
        self.node = response.node_id
        self._last_error = ErrorCode.NONE
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._core.call_at(now_us + self._idle_us, self._query)
        if moved:
            self._on_up(now_us)
