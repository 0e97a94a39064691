"""What a run is judged by: which records each group has worked on, when, and how the cluster fared meanwhile.

Rule 1:   a record is its place in the columns that its producer sealed, whatever batch or offset it is read at; so counting
          deliveries, losses and duplicates is arithmetic on index ranges, once a slice and never once a record.
Rule 2:   a record counts for a group when its work is done, not when it was fetched.
Rule 3:   lag and replication are sampled; the period stands in the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from kafkasim.core.client.items import Slice
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import Columns
from kafkasim.lab.ranges import Ranges, added
from kafkasim.sim.clock import EPOCH_US

SAMPLE_US = 500_000
LATENCY_SAMPLES = 32
_EPOCH_MS = EPOCH_US // 1000


@attrs.define(slots=True, eq=False)
class GroupMeasure:
    """What the members of one group did, all together."""

    name: str
    delivered: int = 0
    duplicated: int = 0
    dead_lettered: int = 0
    commits: int = 0
    failed_commits: int = 0
    rebalances: int = 0
    #: Which records were worked on, per sealed batch.
    seen: dict[Columns, Ranges] = attrs.field(factory=dict)
    #: Offset after the last record worked on.
    ends: dict[TopicPartition, int] = attrs.field(factory=dict)
    latency_ms: Counter[int] = attrs.field(factory=Counter)
    longest_stall_us: int = 0
    stalled_at_us: int = 0
    progress_us: int = 0
    #: (virtual microseconds, records behind the high watermarks).
    lags: list[tuple[int, int]] = attrs.field(factory=list)
    errors: dict[str, int] = attrs.field(factory=dict)

    def on_done(self, slices: Iterable[Slice], now_us: int) -> None:
        """The work on these records is done."""
        seen, ends = self.seen, self.ends
        for part in slices:
            batch, start, stop = part.batch, part.start, part.stop
            columns = batch.columns
            self.delivered += stop - start
            earlier = seen.get(columns)
            if earlier is None:
                seen[columns] = (start, stop)
            else:
                seen[columns], known = added(earlier, start, stop)
                self.duplicated += known
            ends[part.tp] = batch.base_offset + stop if batch.offsets is None else batch.offset_at(stop - 1) + 1
        self.on_progress(now_us)

    def on_progress(self, now_us: int) -> None:
        stall_us = now_us - self.progress_us
        if stall_us > self.longest_stall_us:
            self.longest_stall_us, self.stalled_at_us = stall_us, self.progress_us
        self.progress_us = now_us

    def on_latencies(self, stamps_ms: Sequence[int], done_us: int | Sequence[int]) -> None:
        """End-to-end latencies of one batch: from the records' timestamps to when each was done.

        Of a large batch every n-th record stands for n: the figure is a quantile over all batches, not a sum.
        """
        step = 1 + len(stamps_ms) // LATENCY_SAMPLES
        counts = self.latency_ms
        sampled = stamps_ms[::step]
        if isinstance(done_us, int):
            done_ms = _EPOCH_MS + done_us // 1000
            for stamp_ms in sampled:
                counts[done_ms - stamp_ms] += step
        else:
            # The division comes first: virtual times are small integers, times since 1970 are not, and those divide slowly.
            for at_us, stamp_ms in zip(done_us[::step], sampled):
                counts[at_us // 1000 + _EPOCH_MS - stamp_ms] += step

    def on_error(self, what: str) -> None:
        self.errors[what] = self.errors.get(what, 0) + 1

    def look(self) -> None:
        """Called before the lag is taken: a share group asks how far it is."""

    @property
    def max_lag(self) -> int:
        return max((lag for _, lag in self.lags), default=0)


def quantile(counts: dict[int, int], share: float) -> int | None:
    """The smallest value that at least ``share`` of all counted do not exceed; None if nothing was counted."""
    total = sum(counts.values())
    wanted = share * total
    so_far = 0
    for value in sorted(counts):
        so_far += counts[value]
        if so_far >= wanted:
            return value
    return None


@attrs.define(slots=True)
class PartitionMeasure:
    """How long a partition had too few replicas in sync, or no leader."""

    under_replicated_us: int = 0
    offline_us: int = 0


class Sampler:
    """Looks at the cluster twice a virtual second."""

    def __init__(
        self, cluster: Any, topics: Sequence[str], groups: dict[str, GroupMeasure], reads: dict[str, list[str]]
    ) -> None:
        self.partitions: dict[TopicPartition, PartitionMeasure] = {}
        self.high_watermarks: dict[TopicPartition, int] = {}
        #: (virtual microseconds, under-replicated partitions, partitions without a leader), when one of them changed.
        self.replication: list[tuple[int, int, int]] = []
        self._cluster = cluster
        self._topics = topics
        self._groups = groups
        self._reads = reads
        self._is_running = False

    def begin(self) -> None:
        self._is_running = True
        for group in self._groups.values():
            group.progress_us = self._cluster.now_us
        self._sample()

    def end(self) -> None:
        """A last look, and no more."""
        if self._is_running:
            self._is_running = False
            self._look(0)

    def _sample(self) -> None:
        if self._is_running:
            self._look(SAMPLE_US)
            self._cluster.kernel.call_after(SAMPLE_US, self._sample)

    def _look(self, period_us: int) -> None:
        now_us = self._cluster.now_us
        under, offline = 0, 0
        for topic in self._topics:
            for number, state in enumerate(self._cluster.describe_topic(topic)):
                tp = TopicPartition(topic, number)
                measure = self.partitions.setdefault(tp, PartitionMeasure())
                if len(state.isr) < len(state.replicas):
                    under += 1
                    measure.under_replicated_us += period_us
                if state.high_watermark is None:
                    offline += 1
                    measure.offline_us += period_us
                else:
                    self.high_watermarks[tp] = state.high_watermark
        if not self.replication or self.replication[-1][1:] != (under, offline):
            self.replication.append((now_us, under, offline))
        for group in self._groups.values():
            lag = self.lag_of(group)
            group.lags.append((now_us, lag))
            if lag == 0:
                group.progress_us = now_us
            else:
                waited_us = now_us - group.progress_us
                if waited_us > group.longest_stall_us:
                    group.longest_stall_us, group.stalled_at_us = waited_us, group.progress_us

    def lag_of(self, group: GroupMeasure) -> int:
        """Records below the high watermarks (as last seen) that are behind where the group is."""
        group.look()
        topics, ends = self._reads[group.name], group.ends
        return sum(max(0, end - ends.get(tp, 0)) for tp, end in self.high_watermarks.items() if tp.topic in topics)
