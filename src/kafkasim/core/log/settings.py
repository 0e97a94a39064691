"""The configs of a topic that its logs and replicas read, parsed once and shared by all partitions of the topic.

Mirrors:  org.apache.kafka.storage.internals.log.LogConfig.
"""

from __future__ import annotations

from kafkasim.core.model.message import slotted
from kafkasim.core.model.server_config import LONG_MAX


@slotted
class LogSettings:
    """One object per topic; its fields are overwritten in place when a config changes."""

    max_message_bytes: int = 1_048_588
    log_append_time: bool = False
    timestamp_before_max_ms: int = LONG_MAX
    timestamp_after_max_ms: int = 3_600_000
    min_insync_replicas: int = 1
    compact: bool = False
    delete: bool = True
    segment_bytes: int = 1 << 30
    segment_ms: int = 604_800_000
    retention_bytes: int = -1
    retention_ms: int = 604_800_000
    delete_retention_ms: int = 86_400_000
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = LONG_MAX
    #: A thousandth part, because the core knows no floats.
    min_cleanable_dirty_permille: int = 500
    flush_messages: int = LONG_MAX
    flush_ms: int = LONG_MAX
    producer_id_expiration_ms: int = 86_400_000
