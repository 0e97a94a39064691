"""Which peers may be asked now: one request at a time to each, and a growing pause after failures.

Mirrors:  RequestManager.
Rule 1:   a peer that failed is tried again after ``controller.quorum.retry.backoff.ms``, doubled with each failure.
Differs:  Kafka's pause stays at 20 ms; here it doubles up to a second, so that a dead peer costs few events. Voters
          are tried in turn where Kafka picks at random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, NodeId
from kafkasim.core.quorum.config import RETRY_BACKOFF_MAX_US


class RequestSender(Protocol):
    """What a replica needs of the node's requests in flight; ``core.client.requests.Requests`` is one."""

    def send(
        self,
        to: NodeId,
        request: Any,
        handler: Callable[[Any, ErrorCode, int], None],
        *,
        timeout_us: int,
        now_us: int,
        channel: int,
    ) -> int: ...


class Peers:
    """``others``: the voters beside the local node, in order."""

    __slots__ = ("_backoff_us", "_failures", "_in_flight", "_next", "_ready_at_us", "others")

    def __init__(self, others: tuple[NodeId, ...], backoff_us: int) -> None:
        self.others = others
        self._backoff_us = backoff_us
        self._next = 0
        self._in_flight: dict[NodeId, bool] = {}
        self._failures: dict[NodeId, int] = {}
        self._ready_at_us: dict[NodeId, int] = {}

    def reset(self) -> None:
        """Forget requests and failures: the replica is in a new role or epoch and has new questions."""
        self._in_flight.clear()
        self._failures.clear()
        self._ready_at_us.clear()

    @property
    def any_in_flight(self) -> bool:
        return bool(self._in_flight)

    def is_in_flight(self, peer: NodeId) -> bool:
        return peer in self._in_flight

    def ready_at_us(self, peer: NodeId) -> int:
        return self._ready_at_us.get(peer, 0)

    def is_ready(self, peer: NodeId, now_us: int) -> bool:
        return peer not in self._in_flight and self.ready_at_us(peer) <= now_us

    def next_ready(self, now_us: int) -> NodeId:
        """The next voter in turn that can be asked, or NO_NODE."""
        count = len(self.others)
        for step in range(count):
            position = (self._next + step) % count
            if self.is_ready(self.others[position], now_us):
                self._next = (position + 1) % count
                return self.others[position]
        return NO_NODE

    def earliest_ready_us(self) -> int:
        return min(self.ready_at_us(peer) for peer in self.others)

    def sent(self, peer: NodeId) -> None:
        self._in_flight[peer] = True

    def answered(self, peer: NodeId) -> None:
        self._in_flight.pop(peer, None)
        if self._failures:
            self._failures.pop(peer, None)
            self._ready_at_us.pop(peer, None)

    def failed(self, peer: NodeId, now_us: int) -> None:
        self._in_flight.pop(peer, None)
        failures = self._failures.get(peer, 0)
        self._failures[peer] = failures + 1
        # Six doublings of 20 ms pass a second; the shift is bounded so that a long outage makes no huge integers.
        self._ready_at_us[peer] = now_us + min(self._backoff_us << min(failures, 16), RETRY_BACKOFF_MAX_US)
