"""A metric over virtual time: a value that stays until it changes.

Rule 1:   points are changes, not samples; the value between two points is that of the first.
Rule 2:   None means that nobody reports: the broker's process does not run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "int | float | None"
Point: TypeAlias = "tuple[float, Value]"

_BARS = " ▁▂▃▄▅▆▇█"


class Series:
    """``points`` are (virtual seconds, value); iterate over them, or ask ``at``, ``last``, ``max``.

    A meter (a name in ``PerSec``) holds its Count; ``rate()`` makes a rate of it.
    """

    def __init__(
        self,
        name: str,
        mbean: str,
        points: Sequence[Point],
        now: float,
        *,
        brokers: Mapping[int, Series] | None = None,
        topics: Mapping[str, Series] | None = None,
        no_brokers: str = "",
    ) -> None:
        self.name = name
        self.mbean = mbean
        self.points = list(points)
        self.now = now
        self.brokers = dict(brokers or {})
        self.topics = dict(topics or {})
        self._no_brokers = no_brokers

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Point:
        return self.points[index]

    def __repr__(self) -> str:
        top = self.max()
        first = next((time for time, value in self.points if value == top), 0.0)
        most = "" if top is None else f", at most {_text(top)} (first at {first:.3f} s)"
        return f"<{self.name}: {_text(self.last)} at {self.now:.3f} s{most}, {max(len(self.points) - 1, 0)} changes>"

    # --- asking ----------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Value:
        """The value now."""
        return self.points[-1][1] if self.points else None

    def at(self, time: float) -> Value:
        """The value at a virtual time; None before the first report."""
        if not 0 <= time <= self.now:
            raise ValueError(f"{self.name}.at({time}): the run goes from 0 to {self.now:.6f} virtual seconds")
        index = bisect_right(self.points, time, key=lambda point: point[0])
        return self.points[index - 1][1] if index else None

    def max(self) -> Value:
        """The largest value of the run; None if there was never one."""
        return max((value for _, value in self.points if value is not None), default=None)

    def min(self) -> Value:
        """The smallest value of the run; None if there was never one."""
        return min((value for _, value in self.points if value is not None), default=None)

    def seconds_above(self, threshold: float = 0) -> float:
        """For how many virtual seconds the value was larger than ``threshold``: how long an alert would have stood."""
        total = 0.0
        for (time, value), (until, _) in zip(self.points, [*self.points[1:], (self.now, None)], strict=True):
            if value is not None and value > threshold:
                total += until - time
        return round(total, 6)

    def between(self, start: float, end: float) -> Series:
        """This series from ``start`` to ``end``, beginning with the value that it had then."""
        inside = [(time, value) for time, value in self.points if start < time <= end]
        before = [(start, self.at(start))]
        parts = {broker: part.between(start, end) for broker, part in self.brokers.items()}
        topics = {topic: part.between(start, end) for topic, part in self.topics.items()}
        return Series(
            self.name,
            self.mbean,
            before + inside,
            min(end, self.now),
            brokers=parts,
            topics=topics,
            no_brokers=self._no_brokers,
        )

    def broker(self, broker_id: int) -> Series:
        """What this broker (or controller) alone reports."""
        if broker_id not in self.brokers:
            reason = self._no_brokers or f"reported by {sorted(self.brokers)}"
            raise KeyError(f"{self.name} has no series of broker {broker_id}: {reason}")
        return self.brokers[broker_id]

    def topic(self, name: str) -> Series:
        """The same of one topic."""
        if name not in self.topics:
            known = f"it has {sorted(self.topics)}" if self.topics else "it is not kept by topic, or had no traffic"
            raise KeyError(f"{self.name} has no series of topic {name!r}: {known}")
        return self.topics[name]

    def rate(self, window: float = 60.0) -> Series:
        """Of a meter: how much came in the last ``window`` seconds, per second, at each change and when it fell out again."""
        if not self.name.endswith("PerSec"):
            raise ValueError(f"{self.name} is a gauge: only a meter (PerSec) has a rate")
        if window <= 0:
            raise ValueError(f"{self.name}.rate({window}): the window must be longer than 0 seconds")
        ends = [round(time + window, 6) for time, _ in self.points]  # to the microsecond, where the clock ticks
        times = sorted({time for time in (*(time for time, _ in self.points), *ends) if time <= self.now})
        points: list[Point] = []
        for time in times:
            start = round(time - window, 6)
            before = (self.at(start) or 0) if start >= 0 else 0
            points.append((time, ((self.at(time) or 0) - before) / window))
        parts = {broker: part.rate(window) for broker, part in self.brokers.items()}
        topics = {topic: part.rate(window) for topic, part in self.topics.items()}
        return Series(self.name, self.mbean, points, self.now, brokers=parts, topics=topics)

    # --- handing on ------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, object]]:
        """One dict a change, of the cluster (``broker`` None) and of each broker: for pandas, plotly or csv."""
        found = [(None, self), *self.brokers.items()]
        return [
            {"time": time, "metric": self.name, "broker": broker, "value": value}
            for broker, series in found
            for time, value in series.points
        ]

    def plot(self, width: int = 60) -> str:
        """A line of bars: the largest value of each of ``width`` equal times."""
        top = self.max() or 0
        step = self.now / width if self.now else 1.0
        columns = []
        for column in range(width):
            part = self.between(min(column * step, self.now), min((column + 1) * step, self.now)).max()
            columns.append(_BARS[0 if not part or not top else max(1, round(part / top * (len(_BARS) - 1)))])
        return f"{self.name} 0..{_text(top)} |{''.join(columns)}| {self.now:.1f} s"


def total_of(parts: Sequence[Sequence[Point]]) -> list[Point]:
    """The sum of several series, over those that report; it begins at time 0 with 0."""
    changes = sorted(
        ((time, index, value) for index, points in enumerate(parts) for time, value in points),
        key=lambda change: (change[0], change[1]),
    )
    current: list[Value] = [None] * len(parts)
    total: int | float = 0
    points: list[Point] = [(0.0, 0)]
    for time, index, value in changes:
        total += (value or 0) - (current[index] or 0)
        current[index] = value
        _put(points, time, total)
    return points


def changes_only(points: Sequence[Point]) -> list[Point]:
    """Without points that repeat the value before them; of several at one time the last."""
    kept: list[Point] = []
    for time, value in points:
        _put(kept, time, value)
    return kept


def _put(points: list[Point], time: float, value: Value) -> None:
    if points and points[-1][0] == time:
        points.pop()
    if not points or points[-1][1] != value:
        points.append((time, value))


def _text(value: Value) -> str:
    if value is None:
        return "no report"
    return f"{value:g}" if isinstance(value, float) else str(value)
