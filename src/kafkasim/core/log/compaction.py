"""One pass of the log cleaner: of every key only the last record stays.

Mirrors:  org.apache.kafka.storage.internals.log.Cleaner, LogCleanerManager.
Rule 1:   offsets never change; a cleaned batch has gaps (``RecordBatch.offsets``) and is a new object, the old one is shared.
Rule 2:   cleaned is what lies below the active segment, the high watermark and ``min.compaction.lag.ms``; the map of last
          offsets is built from the dirty part only, because the clean part holds each key once.
Rule 3:   a tombstone stays for ``delete.retention.ms`` after the first cleaning that met it, so that readers can see it.
Differs:  segments are not merged; no transaction markers.
"""

from __future__ import annotations

from kafkasim.core.log.log import Log
from kafkasim.core.model.records import BATCH_OVERHEAD_BYTES, Columns, RecordBatch


def cleanable_end(log: Log, high_watermark: int, wall_ms: int) -> int:
    """Where cleaning must stop."""
    segments = log.segments
    if not segments:
        return log.start
    end = min(segments[-1].base_offset, high_watermark)
    if log.settings.min_compaction_lag_ms > 0:
        newest_ms = wall_ms - log.settings.min_compaction_lag_ms
        for segment in segments:
            if segment.base_offset >= log.cleaned_end and segment.max_timestamp_ms > newest_ms:
                return min(end, segment.base_offset)
    return end


def is_dirty_enough(log: Log, high_watermark: int, wall_ms: int) -> bool:
    """More dirty than ``min.cleanable.dirty.ratio`` allows, or dirty for longer than ``max.compaction.lag.ms``."""
    end = cleanable_end(log, high_watermark, wall_ms)
    first_dirty = max(log.cleaned_end, log.start)
    if first_dirty >= end or not log.batches:
        return False
    clean_bytes = dirty_bytes = 0
    oldest_dirty_ms = wall_ms
    for batch in log.batches:
        if batch.base_offset >= end:
            break
        if batch.base_offset < first_dirty:
            clean_bytes += batch.size_bytes
        else:
            dirty_bytes += batch.size_bytes
            oldest_dirty_ms = min(oldest_dirty_ms, batch.max_timestamp_ms)
    if wall_ms - oldest_dirty_ms > log.settings.max_compaction_lag_ms:
        return True
    return dirty_bytes * 1000 > (clean_bytes + dirty_bytes) * log.settings.min_cleanable_dirty_permille


def clean(log: Log, high_watermark: int, wall_ms: int) -> int:
    """Compact up to ``cleanable_end``; the number of records removed."""
    end = cleanable_end(log, high_watermark, wall_ms)
    batches = log.batches or []
    last_offsets = _last_offsets(log, batches, end)
    horizons = log.delete_horizons or {}
    new_horizons: dict[int, int] = {}
    kept: list[RecordBatch] = []
    removed = 0
    for batch in batches:
        if batch.base_offset >= end:
            kept.append(batch)
            continue
        horizon_ms = horizons.get(batch.base_offset)
        cleaned, has_tombstones = _cleaned(batch, last_offsets, horizon_ms is not None and wall_ms >= horizon_ms)
        removed += len(batch.columns) - len(cleaned.columns)
        if not len(cleaned.columns) and not _is_last_of_producer(log, batch):
            continue
        if has_tombstones:
            new_horizons[batch.base_offset] = (
                wall_ms + log.settings.delete_retention_ms if horizon_ms is None else horizon_ms
            )
        kept.append(cleaned)
    log.replace_batches(kept)
    log.cleaned_end = max(log.cleaned_end, end)
    log.delete_horizons = new_horizons or None
    return removed


def _last_offsets(log: Log, batches: list[RecordBatch], end: int) -> dict[bytes, int]:
    last_offsets: dict[bytes, int] = {}
    for batch in batches:
        if log.cleaned_end <= batch.base_offset < end and not batch.is_control:
            for index, key in enumerate(batch.columns.keys):
                if key is not None:
                    last_offsets[key] = batch.offset_at(index)
    return last_offsets


def _cleaned(batch: RecordBatch, last_offsets: dict[bytes, int], drop_tombstones: bool) -> tuple[RecordBatch, bool]:
    """The batch without obsolete records (itself if nothing goes), and whether tombstones stay in it."""
    if batch.is_control:
        return batch, False
    columns = batch.columns
    stay: list[int] = []
    has_tombstones = False
    for index, key in enumerate(columns.keys):
        is_tombstone = columns.values[index] is None
        if key is None or last_offsets.get(key, -1) > batch.offset_at(index) or (is_tombstone and drop_tombstones):
            continue
        has_tombstones = has_tombstones or is_tombstone
        stay.append(index)
    if len(stay) == len(columns):
        return batch, has_tombstones
    headers = columns.headers
    tags = columns.tags
    kept = Columns(
        [columns.keys[index] for index in stay],
        [columns.values[index] for index in stay],
        [columns.timestamps_ms[index] for index in stay],
        None if headers is None else [headers[index] for index in stay],
        [tags[index] for index in stay] if isinstance(tags, list) and len(tags) == len(columns) else tags,
    )
    payload_bytes = max(0, batch.size_bytes - BATCH_OVERHEAD_BYTES) * len(stay) // max(1, len(columns))
    cleaned = batch.placed(batch.base_offset, batch.leader_epoch)
    return (
        RecordBatch(
            kept,
            cleaned.count,
            BATCH_OVERHEAD_BYTES + payload_bytes,
            cleaned.max_timestamp_ms,
            cleaned.base_offset,
            cleaned.leader_epoch,
            cleaned.producer_id,
            cleaned.producer_epoch,
            cleaned.base_sequence,
            cleaned.timestamp_type,
            cleaned.is_transactional,
            cleaned.is_control,
            cleaned.compression,
            [batch.offset_at(index) for index in stay],
        ),
        has_tombstones,
    )


def _is_last_of_producer(log: Log, batch: RecordBatch) -> bool:
    """An empty batch stays while it is the last that its producer wrote: it carries the sequence."""
    if batch.producer_id < 0 or log.producers is None:
        return False
    entry = log.producers.get(batch.producer_id)
    return entry is not None and entry.batches[-1][2] == batch.base_offset
