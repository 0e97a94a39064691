"""What a group shard asks of its broker.

Rule 1:   ``Persist`` is the only way to the log; its ``done`` runs when the records are committed, or could not be.
Rule 2:   ``appended`` runs once the records are in the leader's log, before the shard's next input; not at all if they are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import slotted

#: Names a parked request; the broker made it and gets it back.
Token: TypeAlias = Any


def nothing(now_us: int) -> None:
    """What happens at an append that nobody waits for."""


@slotted
class Answer:
    token: Token
    response: Any


@slotted
class Persist:
    """Append ``records`` (key, value) to the shard's partition, call ``appended(now_us)``, later ``done(error, now_us)``."""

    records: list[tuple[bytes, bytes | None]]
    done: Callable[[ErrorCode, int], None]
    appended: Callable[[int], None] = nothing


GroupEffect: TypeAlias = "Answer | Persist"

#: What a failed append is to the client (groups.ErrorCode mapping of the coordinator runtime).
_APPEND_ERRORS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


def append_error(error: ErrorCode) -> ErrorCode:
    return _APPEND_ERRORS.get(error, error)
