"""librdkafka's words for the errors that a consumer puts into longer texts.

Mirrors:  rd_kafka_err2str, rd_kafka_offset2str.
"""

from __future__ import annotations

from kafkasim.core.model.errors import ErrorCode

_TEXTS = {
    ErrorCode.OFFSET_OUT_OF_RANGE: "Broker: Offset out of range",
    ErrorCode.CORRUPT_MESSAGE: "Broker: Invalid message",
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "Broker: Unknown topic or partition",
    ErrorCode.LEADER_NOT_AVAILABLE: "Broker: Leader not available",
    ErrorCode.NOT_LEADER_OR_FOLLOWER: "Broker: Not leader for partition",
    ErrorCode.REQUEST_TIMED_OUT: "Broker: Request timed out",
    ErrorCode.BROKER_NOT_AVAILABLE: "Broker: Broker not available",
    ErrorCode.REPLICA_NOT_AVAILABLE: "Broker: Replica not available",
    ErrorCode.MESSAGE_TOO_LARGE: "Broker: Message size too large",
    ErrorCode.OFFSET_METADATA_TOO_LARGE: "Broker: Offset metadata string too large",
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: "Broker: Coordinator load in progress",
    ErrorCode.COORDINATOR_NOT_AVAILABLE: "Broker: Coordinator not available",
    ErrorCode.NOT_COORDINATOR: "Broker: Not coordinator",
    ErrorCode.INVALID_TOPIC_EXCEPTION: "Broker: Invalid topic",
    ErrorCode.ILLEGAL_GENERATION: "Broker: Specified group generation id is not valid",
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL: "Broker: Inconsistent group protocol",
    ErrorCode.INVALID_GROUP_ID: "Broker: Invalid group.id",
    ErrorCode.UNKNOWN_MEMBER_ID: "Broker: Unknown member",
    ErrorCode.INVALID_SESSION_TIMEOUT: "Broker: Invalid session timeout",
    ErrorCode.REBALANCE_IN_PROGRESS: "Broker: Group rebalance in progress",
    ErrorCode.INVALID_COMMIT_OFFSET_SIZE: "Broker: Commit offset data size is not valid",
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "Broker: Topic authorization failed",
    ErrorCode.GROUP_AUTHORIZATION_FAILED: "Broker: Group authorization failed",
    ErrorCode.UNSUPPORTED_VERSION: "Broker: API version not supported",
    ErrorCode.INVALID_REQUEST: "Broker: Invalid request",
    ErrorCode.KAFKA_STORAGE_ERROR: "Broker: Disk error when trying to access log file on disk",
    ErrorCode.FENCED_LEADER_EPOCH: "Broker: Leader epoch is older than broker epoch",
    ErrorCode.UNKNOWN_LEADER_EPOCH: "Broker: Leader epoch is newer than broker epoch",
    ErrorCode.OFFSET_NOT_AVAILABLE: "Broker: Leader high watermark is not caught up",
    ErrorCode.GROUP_MAX_SIZE_REACHED: "Broker: Consumer group has reached maximum size",
    ErrorCode.FENCED_INSTANCE_ID: "Broker: Static consumer fenced by other consumer with same group.instance.id",
    ErrorCode.UNSTABLE_OFFSET_COMMIT: "Broker: There are unstable offsets that need to be cleared",
    ErrorCode.UNKNOWN_TOPIC_ID: "Broker: Unknown topic id",
    ErrorCode.GROUP_ID_NOT_FOUND: "Broker: The group id does not exist",
    ErrorCode.FENCED_MEMBER_EPOCH: "Broker: The member epoch is fenced by the group coordinator",
    ErrorCode.UNRELEASED_INSTANCE_ID: "Broker: The instance ID is still used by another member in the consumer group",
    ErrorCode.UNSUPPORTED_ASSIGNOR: (
        "Broker: The assignor or its version range is not supported by the consumer group"
    ),
    ErrorCode.STALE_MEMBER_EPOCH: "Broker: The member epoch is stale",
    ErrorCode.INVALID_REGULAR_EXPRESSION: "Broker: The regular expression is not valid",
    ErrorCode.UNKNOWN_SERVER_ERROR: "Unknown broker error",
    ErrorCode.NONE: "Success",
    ErrorCode._TRANSPORT: "Local: Broker transport failure",
    ErrorCode._TIMED_OUT: "Local: Timed out",
    ErrorCode._TIMED_OUT_QUEUE: "Local: Timed out in queue",
    ErrorCode._NO_OFFSET: "Local: No offset stored",
    ErrorCode._LOG_TRUNCATION: "Local: Partition log truncation detected",
    ErrorCode._UNKNOWN_PARTITION: "Local: Unknown partition",
    ErrorCode._UNKNOWN_TOPIC: "Local: Unknown topic",
    ErrorCode._WAIT_COORD: "Local: Waiting for coordinator",
    ErrorCode._ASSIGNMENT_LOST: "Local: Group partition assignment lost",
    ErrorCode._UNKNOWN_PROTOCOL: "Local: Unknown protocol",
    ErrorCode._FATAL: "Local: Fatal error",
    ErrorCode._STATE: "Local: Erroneous state",
    ErrorCode._ALL_BROKERS_DOWN: "Local: All broker connections are down",
    ErrorCode._DESTROY: "Local: Broker handle destroyed for termination",
}

_OFFSETS = {-1: "END", -2: "BEGINNING", -1000: "STORED", -1001: "INVALID"}


def error_text(code: ErrorCode) -> str:
    """The text of ``code``; its name where a consumer never has it in a text."""
    return _TEXTS.get(code, code.name)


def offset_text(offset: int) -> str:
    if offset >= 0:
        return str(offset)
    if offset <= -2000:
        return f"TAIL({-2000 - offset})"
    return _OFFSETS.get(offset, f"{offset}?")
