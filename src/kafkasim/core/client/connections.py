"""A client's connections: which are up, when the next attempt is due, and what is said when one fails.

Mirrors:  rd_kafka_broker_t of librdkafka (states, rd_kafka_broker_set_error, reconnect backoff, "brokers are down").
Rule 1:   after a failed attempt none is made before ``ready_us``: reconnect.backoff.ms, doubled up to
          reconnect.backoff.max.ms, with -25 % to +50 % of jitter.
Rule 2:   an identical error is told again only after 30 s, with the number of those kept back.
"""

from __future__ import annotations

from typing import Any

from kafkasim.core.client.requests import Handler
from kafkasim.core.model.effects import MAIN_CHANNEL
from kafkasim.core.model.ids import Draw, NodeId
from kafkasim.core.model.message import fresh, slotted

_SUPPRESS_US = 30_000_000


@slotted
class Waiting:
    """A request that waits for its connection to be tried again."""

    request: Any
    handler: Handler
    expires_us: int


@slotted
class Connection:
    """One connection. ``is_open``: an attempt was made and has not failed; ``is_up``: the peer has answered."""

    node: NodeId
    channel: int
    is_open: bool = False
    is_up: bool = False
    state_us: int = 0
    ready_us: int = 0
    attempt_us: int = -1
    backoff_ms: int = 0
    down_reported: bool = False
    waiting: list[Waiting] = fresh(factory=list)
    _last_error: str = ""
    _suppress_until_us: int = 0
    _suppressed: int = 0

    def begin_attempt(self, base_ms: int, max_ms: int, draw: Draw, now_us: int) -> None:
        if self.backoff_ms == 0 or self.ready_us + max_ms * 1000 < now_us:
            self.backoff_ms = base_ms  # The last attempt was long ago.
        jitter_percent = 75 + draw("reconnect.backoff", 76)
        self.ready_us = now_us + min(self.backoff_ms * jitter_percent // 100, max_ms) * 1000
        self.backoff_ms = min(self.backoff_ms * 2, max_ms)
        self.is_open, self.is_up = True, False
        self.attempt_us = self.state_us = now_us

    def error_text(self, name: str, reason: str, state: str, now_us: int) -> str | None:
        """What the application hears of a failure; None if it is kept back as a repetition."""
        identical = reason == self._last_error
        self._last_error = reason
        if identical and now_us < self._suppress_until_us:
            self._suppressed += 1
            return None
        extra = f"after {(now_us - self.state_us) // 1000}ms in state {state}"
        if identical:
            self._suppress_until_us = now_us + _SUPPRESS_US
            if self._suppressed:
                extra += f", {self._suppressed} identical error(s) suppressed"
        self._suppressed = 0
        return f"{name}: {reason} ({extra})"

    def is_tried(self, now_us: int) -> bool:
        """Is it being made, or will it be when the pause between two attempts is over? Where nobody needs it, no attempt follows."""
        return self.attempt_us >= 0 and not self.is_up and now_us <= self.ready_us

    @property
    def counts(self) -> bool:
        """Logical connections (to a coordinator) do not count among the brokers that are down."""
        return self.channel == MAIN_CHANNEL
