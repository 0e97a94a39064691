"""What an engine hands to the application: operations that end later, and events of the client as a whole.

Mirrors:  rd_kafka_event_t and the reply queues of librdkafka.
Rule 1:   an operation ends exactly once, by ``succeed`` or ``fail``; whoever waits looks at ``done``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import message, slotted

ERROR_EVENT = "error"
STATS_EVENT = "stats"
THROTTLE_EVENT = "throttle"
LOG_EVENT = "log"


@slotted
class Operation:
    """Something asked for that takes time. ``error_text`` is empty where the code's own text says it all."""

    done: bool = False
    error: ErrorCode = ErrorCode.NONE
    error_text: str = ""
    result: Any = None
    on_done: Callable[[Operation], None] | None = None

    def succeed(self, result: Any = None) -> None:
        self._end(ErrorCode.NONE, "", result)

    def fail(self, error: ErrorCode, text: str = "", result: Any = None) -> None:
        self._end(error, text, result)

    def _end(self, error: ErrorCode, text: str, result: Any) -> None:
        assert not self.done, "an operation ends once"
        self.done, self.error, self.error_text, self.result = True, error, text, result
        if self.on_done is not None:
            self.on_done(self)


@message
class ClientEvent:
    """``kind`` "error" (code, text, fatal), "stats" (text is JSON), "throttle" or "log" (text)."""

    kind: str
    code: ErrorCode = ErrorCode.NONE
    text: str = ""
    fatal: bool = False
