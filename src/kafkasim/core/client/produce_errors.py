"""What librdkafka does about each error of a Produce request.

Mirrors:  rd_kafka_err_action and the table of rd_kafka_handle_Produce_error.
Rule 1:   a code that is not listed is permanent and means that nothing was written.
"""

from __future__ import annotations

from kafkasim.core.client.accumulator import NOT_PERSISTED, POSSIBLY_PERSISTED
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.message import message


@message
class ProduceAction:
    """``retries``: try again; ``refreshes``: ask for the leader first; ``counts``: the retry counts against ``retries``."""

    retries: bool
    refreshes: bool
    counts: bool
    status: int


_REFRESH = ProduceAction(True, True, False, NOT_PERSISTED)
_RETRY = ProduceAction(True, False, True, NOT_PERSISTED)
_RETRY_WRITTEN = ProduceAction(True, False, True, POSSIBLY_PERSISTED)
_PERMANENT = ProduceAction(False, False, False, NOT_PERSISTED)
_PERMANENT_WRITTEN = ProduceAction(False, False, False, POSSIBLY_PERSISTED)

_ACTIONS: dict[ErrorCode, ProduceAction] = {
    ErrorCode._TRANSPORT: ProduceAction(True, True, True, POSSIBLY_PERSISTED),
    ErrorCode.KAFKA_STORAGE_ERROR: ProduceAction(True, True, True, NOT_PERSISTED),
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: _REFRESH,
    ErrorCode.LEADER_NOT_AVAILABLE: _REFRESH,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: _REFRESH,
    ErrorCode.BROKER_NOT_AVAILABLE: _REFRESH,
    ErrorCode.REPLICA_NOT_AVAILABLE: _REFRESH,
    ErrorCode.NOT_ENOUGH_REPLICAS: _RETRY,
    ErrorCode.CORRUPT_MESSAGE: _RETRY,
    ErrorCode._TIMED_OUT_QUEUE: ProduceAction(True, False, False, NOT_PERSISTED),
    ErrorCode._TIMED_OUT: _RETRY_WRITTEN,
    ErrorCode.REQUEST_TIMED_OUT: _RETRY_WRITTEN,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: _RETRY_WRITTEN,
    ErrorCode._RETRY: _RETRY,
    ErrorCode._MSG_TIMED_OUT: _PERMANENT_WRITTEN,
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER: _PERMANENT_WRITTEN,
    ErrorCode.DUPLICATE_SEQUENCE_NUMBER: _PERMANENT_WRITTEN,
    ErrorCode._PURGE_INFLIGHT: _PERMANENT_WRITTEN,
}


def action_of(error: ErrorCode) -> ProduceAction:
    return _ACTIONS.get(error, _PERMANENT)


def as_message_error(error: ErrorCode) -> ErrorCode:
    """A request that timed out makes its records' error a message timeout."""
    if error in (ErrorCode._TIMED_OUT, ErrorCode._TIMED_OUT_QUEUE):
        return ErrorCode._MSG_TIMED_OUT
    return error


#: Retry of the same batch as long as nothing else went wrong: no backoff is counted and nothing may have been written.
RETRY_FREELY = ProduceAction(True, False, False, NOT_PERSISTED)
PERMANENT_WRITTEN = _PERMANENT_WRITTEN
