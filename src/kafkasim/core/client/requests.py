"""Requests in flight of one node: who asked what, when it times out, and whom to tell.

Mirrors:  the in-flight queue of librdkafka's broker thread (rd_kafka_broker_t.rkb_waitresps) and Kafka's NetworkClient.
Inputs:   send, on_response, on_disconnect, on_deadline.      Effects: Send, Close.
Rule 1:   every handler is called exactly once: with a response and NONE, or with None and ``_TRANSPORT`` or ``_TIMED_OUT``.
Rule 2:   a request that times out closes its connection (``socket.max.fails`` is 1), so all others on it fail with ``_TRANSPORT``.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeAlias

from kafkasim.core.model.effects import MAIN_CHANNEL, NEVER_US, Close, Effect, Send
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NodeId

#: ``handler(response, error, now_us)``.
Handler: TypeAlias = Callable[[Any, ErrorCode, int], None]


class Requests:
    """Appends ``Send`` and ``Close`` effects to the node's ``outbox``."""

    __slots__ = ("_deadlines", "_in_flight", "_next_correlation_id", "_outbox")

    def __init__(self, outbox: list[Effect]) -> None:
        self._outbox = outbox
        self._in_flight: dict[int, tuple[NodeId, int, Handler]] = {}
        self._deadlines: list[tuple[int, int]] = []
        self._next_correlation_id = 1

    @property
    def deadline_us(self) -> int:
        deadlines = self._deadlines
        while deadlines and deadlines[0][1] not in self._in_flight:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else NEVER_US

    def send(
        self,
        to: NodeId,
        request: Any,
        handler: Handler,
        *,
        timeout_us: int,
        now_us: int,
        channel: int = MAIN_CHANNEL,
    ) -> int:
        """Send ``request``; ``handler`` hears of its end. Returns the correlation id (for ``forget``)."""
        correlation_id = self._next_correlation_id
        self._next_correlation_id = correlation_id + 1
        self._in_flight[correlation_id] = (to, channel, handler)
        heappush(self._deadlines, (now_us + timeout_us, correlation_id))
        self._outbox.append(Send(to, channel, correlation_id, request))
        return correlation_id

    def send_unanswered(self, to: NodeId, request: Any, *, channel: int = MAIN_CHANNEL) -> None:
        """Send a request that is never answered (Produce with acks=0)."""
        self._outbox.append(Send(to, channel, 0, request))

    def forget(self, correlation_id: int) -> None:
        """Ignore whatever comes for this request; its handler is not called."""
        self._in_flight.pop(correlation_id, None)

    def in_flight_to(self, to: NodeId, channel: int = MAIN_CHANNEL) -> int:
        return sum(1 for node, chan, _ in self._in_flight.values() if node == to and chan == channel)

    def on_response(self, correlation_id: int, response: Any, now_us: int) -> None:
        entry = self._in_flight.pop(correlation_id, None)
        if entry is not None:
            entry[2](response, ErrorCode.NONE, now_us)

    def on_disconnect(self, to: NodeId, channel: int, now_us: int) -> None:
        """The connection is gone: everything in flight on it fails, oldest first."""
        lost = [key for key, entry in self._in_flight.items() if entry[0] == to and entry[1] == channel]
        handlers = [self._in_flight.pop(key)[2] for key in lost]
        for handler in handlers:
            handler(None, ErrorCode._TRANSPORT, now_us)

    def on_deadline(self, now_us: int) -> None:
        while self.deadline_us <= now_us:
            _, correlation_id = heappop(self._deadlines)
            to, channel, handler = self._in_flight.pop(correlation_id)
            self._outbox.append(Close(to, channel))
            handler(None, ErrorCode._TIMED_OUT, now_us)
            self.on_disconnect(to, channel, now_us)
