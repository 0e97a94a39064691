"""What a fetcher makes of a reset policy, and of the errors that a broker answers a fetch with.

Mirrors:  rd_kafka_fetch_reply_handle_partition_error, the values of auto.offset.reset.
"""

from __future__ import annotations

from kafkasim.core.client.subscription import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID
from kafkasim.core.model.errors import ErrorCode

RESETS = {
    "smallest": OFFSET_BEGINNING,
    "earliest": OFFSET_BEGINNING,
    "beginning": OFFSET_BEGINNING,
    "largest": OFFSET_END,
    "latest": OFFSET_END,
    "end": OFFSET_END,
    "error": OFFSET_INVALID,
}

#: Fetch errors that fresh metadata may cure; the application hears nothing of them.
LEADER_CODES = frozenset(
    {
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.BROKER_NOT_AVAILABLE,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_ID,
    }
)
RETRIABLE_CODES = LEADER_CODES | {
    ErrorCode._TRANSPORT,
    ErrorCode._TIMED_OUT,
    ErrorCode._TIMED_OUT_QUEUE,
    ErrorCode.REQUEST_TIMED_OUT,
}
