"""When a server takes a snapshot of the metadata log, and when what lies before it goes.

Mirrors:  SnapshotGenerator, KafkaRaftLog.maybeClean (KIP-630).
Inputs:   ``settle`` after anything that may have moved the high watermark.
Rule 1:   a snapshot ends at the high watermark; it is due after so many bytes, or so long, since the last, and only if
          something has been committed since.
Rule 2:   no deadline of its own: a log that does not grow needs no snapshot.
"""

from __future__ import annotations

from kafkasim.core.controller.image import MetadataImage
from kafkasim.core.model.metadata import METADATA_RECORD_BYTES
from kafkasim.core.quorum.log import MetadataLog


class SnapshotGenerator:
    """One a server process, controller or broker or both."""

    __slots__ = ("_interval_us", "_last_us", "_log", "_max_bytes", "_max_records", "_retention_ms")

    def __init__(self, log: MetadataLog, static_config: dict[str, str], now_us: int) -> None:
        number = MetadataImage(static_config).broker_int
        self._log = log
        self._last_us = now_us
        self._max_records = -(-number("metadata.log.max.record.bytes.between.snapshots") // METADATA_RECORD_BYTES)
        #: 0: never for its age.
        self._interval_us = number("metadata.log.max.snapshot.interval.ms") * 1000
        self._max_bytes = number("metadata.max.retention.bytes")
        self._retention_ms = number("metadata.max.retention.ms")

    def settle(self, high_watermark: int, now_us: int) -> None:
        fresh = high_watermark - self._log.latest_snapshot_end
        if fresh <= 0:
            return
        if fresh >= self._max_records or 0 < self._interval_us <= now_us - self._last_us:
            self._last_us = now_us
            self._log.take_snapshot(high_watermark, now_us // 1000)
            self._log.clean(self._max_bytes, self._retention_ms, now_us // 1000)
