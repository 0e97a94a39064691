"""Which segments of a log are due for deletion, and when the next one may be.

Mirrors:  UnifiedLog.deleteOldSegments.
Rule 1:   oldest first, stop at the first segment that stays, and only what is wholly below the high watermark.
Rule 2:   a segment is as old as its youngest record, so one record from the future pins it.
"""

from __future__ import annotations

from collections.abc import Callable

from kafkasim.core.log.log import Log, Segment

#: ``next_due_ms`` of a log in which nothing will ever expire by itself.
NEVER_MS = 1 << 60


def delete_old_segments(log: Log, high_watermark: int, wall_ms: int) -> int:
    """Apply the three rules; the number of segments deleted."""
    settings = log.settings
    deleted = _delete_where(log, high_watermark, lambda segment, segment_end: segment_end <= log.start)
    if not settings.delete:
        return deleted
    if settings.retention_bytes >= 0 and log.size_bytes > settings.retention_bytes:
        over_bytes = log.size_bytes - settings.retention_bytes

        def breaches_size(segment: Segment, segment_end: int) -> bool:
            nonlocal over_bytes
            if over_bytes < segment.size_bytes:
                return False
            over_bytes -= segment.size_bytes
            return True

        deleted += _delete_where(log, high_watermark, breaches_size)
    if settings.retention_ms >= 0:
        deleted += _delete_where(
            log,
            high_watermark,
            lambda segment, segment_end: wall_ms - segment.max_timestamp_ms > settings.retention_ms,
        )
    return deleted


def _delete_where(log: Log, high_watermark: int, deletable: Callable[[Segment, int], bool]) -> int:
    segments = log.segments or []
    count = 0
    for index, segment in enumerate(segments):
        is_last = index + 1 == len(segments)
        segment_end = log.end if is_last else segments[index + 1].base_offset
        if high_watermark < segment_end or (is_last and segment.size_bytes == 0):
            break
        if not deletable(segment, segment_end):
            break
        count += 1
    if count:
        log.delete_segments(count)
    return count


def next_due_ms(log: Log) -> int:
    """The wall time before which no check can find anything (0: the very next check may), NEVER_MS if none ever will."""
    segments = log.segments
    if not segments or not log.size_bytes:
        return NEVER_MS
    second = segments[1].base_offset if len(segments) > 1 else log.end
    if second <= log.start:
        return 0
    settings = log.settings
    if not settings.delete:
        return NEVER_MS
    if settings.retention_bytes >= 0 and log.size_bytes - settings.retention_bytes >= segments[0].size_bytes:
        return 0
    if settings.retention_ms < 0:
        return NEVER_MS
    return segments[0].max_timestamp_ms + settings.retention_ms + 1
