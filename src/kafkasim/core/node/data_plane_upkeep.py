"""What a broker does from time to time: checkpoints, ISR expiration, retention, compaction, flushes.

Mirrors:  the scheduled tasks of ReplicaManager (highwatermark-checkpoint, isr-expiration), LogManager (cleanupLogs,
          flushDirtyLogs, checkpointLogStartOffsets), LogCleaner.
Inputs:   on_watch, on_deadline.
Rule 1:   a task is armed only while its list is not empty, at the next multiple of its period since the process began, so an
          idle broker does nothing at all.
"""

from __future__ import annotations

from kafkasim.core.log.compaction import clean, is_dirty_enough
from kafkasim.core.log.retention import NEVER_MS, delete_old_segments, next_due_ms
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.server_config import LONG_MAX
from kafkasim.core.node.data_plane_isr import IsrChanges
from kafkasim.core.node.data_plane_partitions import (
    WATCH_CHECKPOINT,
    WATCH_LAG,
    WATCH_RETENTION,
    Partitions,
    Replica,
)
from kafkasim.core.replica.leader import LeaderReplica

#: log.initial.task.delay.ms
_RETENTION_DELAY_US = 30_000_000


class Upkeep:
    __slots__ = (
        "_checkpoint_due_us",
        "_checkpoint_period_us",
        "_cleaner_backoff_us",
        "_cleaning_due_us",
        "_flush_due_us",
        "_flush_period_us",
        "_flushed_us",
        "_isr_changes",
        "_lag_due_us",
        "_lag_period_us",
        "_partitions",
        "_retention_due_us",
        "_retention_period_us",
        "_start_checkpoint_period_us",
        "_started_us",
        "_starts_due_us",
        "deadline_us",
    )

    def __init__(self, partitions: Partitions, isr_changes: IsrChanges, now_us: int) -> None:
        self._partitions = partitions
        self._isr_changes = isr_changes
        self._started_us = now_us
        number = partitions.ctx.image.broker_int
        self._checkpoint_period_us = number("replica.high.watermark.checkpoint.interval.ms") * 1000
        self._lag_period_us = max(1, partitions.lag_us // 2)
        self._retention_period_us = number("log.retention.check.interval.ms") * 1000
        self._cleaner_backoff_us = max(1, number("log.cleaner.backoff.ms")) * 1000
        self._flush_period_us = number("log.flush.scheduler.interval.ms") * 1000
        #: When each log was last looked after by the flusher.
        self._flushed_us: dict[Replica, int] = {}
        self._checkpoint_due_us = self._lag_due_us = self._retention_due_us = self._cleaning_due_us = NEVER_US
        self._start_checkpoint_period_us = number("log.flush.start.offset.checkpoint.interval.ms") * 1000
        self._flush_due_us = self._starts_due_us = NEVER_US
        self.deadline_us = NEVER_US
        partitions.on_watch = self.on_watch

    def _next(self, period_us: int, after_us: int, delay_us: int = 0) -> int:
        """The first tick of a task after ``after_us``."""
        first_us = self._started_us + (delay_us or period_us)
        if after_us < first_us:
            return first_us
        return first_us + ((after_us - first_us) // period_us + 1) * period_us

    def on_watch(self, bit: int, replica: Replica, now_us: int) -> None:
        """``replica`` got on a list."""
        if bit == WATCH_CHECKPOINT:
            if self._checkpoint_due_us == NEVER_US:
                self._checkpoint_due_us = self._next(self._checkpoint_period_us, now_us)
        elif bit == WATCH_LAG:
            if self._lag_due_us == NEVER_US:
                self._lag_due_us = self._next(self._lag_period_us, now_us)
        else:
            self._arm_retention(replica, now_us)
            self._arm_cleaning(replica, now_us)
            if self._starts_due_us == NEVER_US and replica.log.start > replica.log.checkpointed_start:
                self._starts_due_us = self._next(self._start_checkpoint_period_us, now_us, _RETENTION_DELAY_US)
            if self._flush_due_us == NEVER_US and self._flush_period_us < NEVER_US:
                self._flush_due_us = self._next(self._flush_period_us, now_us, _RETENTION_DELAY_US)
        self._find_deadline()

    def _arm_cleaning(self, replica: Replica, now_us: int) -> None:
        """A compacted log with a closed segment that was not cleaned yet is worth a look."""
        log = replica.log
        if not log.settings.compact or self._cleaning_due_us != NEVER_US or not log.segments:
            return
        if log.segments[-1].base_offset > max(log.cleaned_end, log.start):
            self._cleaning_due_us = self._next(self._cleaner_backoff_us, now_us)

    def _arm_retention(self, replica: Replica, now_us: int) -> None:
        due_ms = next_due_ms(replica.log)
        if due_ms >= NEVER_MS:
            return
        # A segment's time may come long before it is known to be full: the first tick at or after it.
        due_us = max(now_us, due_ms * 1000 - self._partitions.ctx.wall_offset_us - 1)
        tick_us = self._next(self._retention_period_us, due_us, _RETENTION_DELAY_US)
        if tick_us < self._retention_due_us:
            self._retention_due_us = tick_us

    def rearm_retention(self, now_us: int) -> None:
        """Configs changed: what never expired may expire now."""
        self._retention_due_us = NEVER_US
        for replica in self._partitions.retention_watch:
            self._arm_retention(replica, now_us)
            self._arm_cleaning(replica, now_us)
        self._find_deadline()

    def _find_deadline(self) -> None:
        self.deadline_us = min(
            self._checkpoint_due_us,
            self._lag_due_us,
            self._retention_due_us,
            self._cleaning_due_us,
            self._flush_due_us,
            self._starts_due_us,
        )

    def on_deadline(self, now_us: int) -> None:
        if now_us >= self._checkpoint_due_us:
            self.checkpoint_high_watermarks()
        if now_us >= self._lag_due_us:
            self._expire_isr(now_us)
        if now_us >= self._retention_due_us:
            self._apply_retention(now_us)
        if now_us >= self._cleaning_due_us:
            self._clean(now_us)
        if now_us >= self._flush_due_us:
            self._flush(now_us)
        if now_us >= self._starts_due_us:
            self._starts_due_us = NEVER_US
            for replica in self._partitions.replicas.values():
                replica.log.checkpointed_start = replica.log.start
        self._find_deadline()

    def checkpoint_high_watermarks(self) -> None:
        partitions = self._partitions
        for replica in partitions.checkpoint_watch:
            replica.watch &= ~WATCH_CHECKPOINT
            if partitions.replicas.get(replica.tp) is replica:
                replica.log.checkpointed_high_watermark = replica.high_watermark
        partitions.checkpoint_watch.clear()
        self._checkpoint_due_us = NEVER_US

    def _expire_isr(self, now_us: int) -> None:
        partitions = self._partitions
        kept: list[LeaderReplica] = []
        for replica in partitions.lag_watch:
            if partitions.replicas.get(replica.tp) is replica:
                self._isr_changes.maybe_shrink(replica, now_us)
                if replica.has_lagging_follower():
                    kept.append(replica)
                    continue
            replica.watch &= ~WATCH_LAG
        partitions.lag_watch = kept
        self._lag_due_us = self._next(self._lag_period_us, now_us) if kept else NEVER_US

    def _apply_retention(self, now_us: int) -> None:
        partitions = self._partitions
        wall_ms = partitions.ctx.wall_ms(now_us)
        kept: list[Replica] = []
        self._retention_due_us = NEVER_US
        for replica in partitions.retention_watch:
            if partitions.replicas.get(replica.tp) is replica:
                if delete_old_segments(replica.log, replica.high_watermark, wall_ms):
                    replica.idle_answer = None
                    if isinstance(replica, LeaderReplica):
                        replica.log_start_raised()
                    elif replica.fetcher is not None:
                        replica.fetcher.list_again(replica)
                    partitions.ctx.note("segments deleted", replica.tp, log_start=replica.log.start)
                if replica.log.producers is not None:
                    settings = replica.log.settings
                    replica.log.producers.expire(wall_ms - settings.producer_id_expiration_ms)
                if replica.log.size_bytes:
                    kept.append(replica)
                    self._arm_retention(replica, now_us)
                    continue
            replica.watch &= ~WATCH_RETENTION
        partitions.retention_watch = kept

    def _flush(self, now_us: int) -> None:
        """The flusher, which by default never comes: every log that it has not flushed for ``flush.ms`` is flushed."""
        flushed_us, self._flushed_us = self._flushed_us, {}
        for replica in self._partitions.retention_watch:
            since_us = flushed_us.get(replica, self._started_us)
            flush_ms = replica.log.settings.flush_ms
            # Unset, it is the flusher's own period, which has passed.
            if flush_ms == LONG_MAX or now_us - since_us >= flush_ms * 1000:
                replica.log.flush()
                since_us = now_us
            self._flushed_us[replica] = since_us
        self._flush_due_us = self._next(self._flush_period_us, now_us) if self._flushed_us else NEVER_US

    def _clean(self, now_us: int) -> None:
        """Compact every log that is dirty enough; Kafka takes them one after the other, the dirtiest first."""
        partitions = self._partitions
        wall_ms = partitions.ctx.wall_ms(now_us)
        self._cleaning_due_us = NEVER_US
        for replica in partitions.retention_watch:
            log = replica.log
            if log.settings.compact and partitions.replicas.get(replica.tp) is replica:
                if is_dirty_enough(log, replica.high_watermark, wall_ms):
                    clean(log, replica.high_watermark, wall_ms)
                self._arm_cleaning(replica, now_us)
