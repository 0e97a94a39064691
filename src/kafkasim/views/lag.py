"""How far a group is behind, over time and for each partition, from the history of its clients.

Mirrors:  LAG of kafka-consumer-groups.sh: the end of the log less the committed offset; records-lag of the consumer: less its position.
Inputs:   the history of either backend.      Effects: none; series.
Rule 1:   the end of a log is what producers were told of: records that nobody was told of yet are nobody's lag.
Rule 2:   a partition counts from the first time that the group committed to it (or was given a record of it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Committed, Delivered, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.views.series import Point, Series

_NAME = "records-lag"
_MBEAN = "kafka.consumer:type=consumer-fetch-manager-metrics"


class GroupLag:
    """``total`` is the group's lag over time; ``lag["orders", 0]`` that of one partition; iterate over the partitions.

    ``what`` is "lag", or another number of records that a group has: "acquired", "archived".
    """

    def __init__(self, group: str, partitions: dict[TopicPartition, Series], total: Series, what: str = "lag") -> None:
        self.group = group
        self.total = total
        self.what = what
        self._partitions = partitions

    def __getitem__(self, place: tuple[str, int]) -> Series:
        tp = TopicPartition(*place)
        if tp not in self._partitions:
            raise KeyError(
                f"group {self.group!r} has no {self.what} of {tp}: it has {[str(known) for known in self._partitions]}"
            )
        return self._partitions[tp]

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(self._partitions)

    def __len__(self) -> int:
        return len(self._partitions)

    def __repr__(self) -> str:
        return f"<{self.what} of group {self.group!r} in {len(self)} partitions: {self.total!r}>"

    def rows(self) -> list[dict[str, object]]:
        """One dict for each change: time, topic, partition, lag (or what else it is)."""
        return [
            {"time": time, "topic": tp.topic, "partition": tp.partition, self.what: value}
            for tp, series in self._partitions.items()
            for time, value in series
        ]


class Counts:
    """A number for each partition over time, and their sum."""

    def __init__(self) -> None:
        self._points: dict[TopicPartition, list[Point]] = {}
        self._sums: list[Point] = []
        self._total = 0

    def put(self, tp: TopicPartition, at_s: float, value: int) -> None:
        listed = self._points.setdefault(tp, [])
        self._total += value - int(listed[-1][1] or 0 if listed else 0)
        _put(listed, at_s, value)
        _put(self._sums, at_s, self._total)

    def of_group(self, group: str, now: float, name: str = _NAME, mbean: str = _MBEAN, what: str = "lag") -> GroupLag:
        series = {tp: Series(name, mbean, self._points[tp], now) for tp in sorted(self._points)}
        return GroupLag(group, series, Series(name, mbean, self._sums, now), what)


def group_lag(events: Iterable[HistoryEvent], group: str, now: float, *, committed: bool = True) -> GroupLag:
    """``committed``: behind what the group has committed; otherwise behind what it was given."""
    ends: dict[TopicPartition, int] = {}
    reached: dict[TopicPartition, int] = {}
    counts = Counts()

    def move(tp: TopicPartition, at_s: float) -> None:
        if tp in reached:
            counts.put(tp, at_s, max(0, ends.get(tp, 0) - reached[tp]))

    for event in events:
        at_s = event.at_us / 1_000_000
        if isinstance(event, Acked):
            if event.error is ErrorCode.NONE and event.base_offset >= 0:
                ends[event.tp] = max(ends.get(event.tp, 0), event.base_offset + event.stop)
                move(event.tp, at_s)
        elif isinstance(event, Committed) and committed and event.group == group:
            for tp, offset, error in event.offsets:
                if error is ErrorCode.NONE:
                    reached[tp] = offset
                    move(tp, at_s)
        elif isinstance(event, Delivered) and not committed and event.group == group:
            reached[event.tp] = event.batch.offset_at(event.stop - 1) + 1
            move(event.tp, at_s)
    return counts.of_group(group, now)


def _put(points: list[Point], at_s: float, value: int) -> None:
    """A value of a time; where two come at one time the later stays, and what does not change is not told again."""
    if points and points[-1][0] == at_s:
        points.pop()
    if not points or points[-1][1] != value:
        points.append((at_s, value))
