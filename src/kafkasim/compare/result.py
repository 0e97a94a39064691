"""The outcome of a comparison as values, as a table and as JSON.

Rule 1:   times are seconds; a pause that nothing but the pace of the records explains is not counted as one.
Rule 2:   figures of a window belong to the event that opens it; a run's own figures cover all of it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from kafkasim.compare.observe import (
    Observed,
    Span,
    changes,
    duplicates,
    lag_curve,
    longest,
    member_times,
    owners_at,
    partition_times,
    pauses,
)
from kafkasim.compare.scenario import Event, Scenario

#: A lag is drawn and judged by its peak in each span of so many seconds.
_LAG_STEP_S = 0.5
#: A partition counts as stopped where the next record comes later than this many intervals of the stream.
STOPPED_INTERVALS = 3.0


@attrs.define(slots=True)
class Moment:
    """What one event cost, until the next event or the end.

    ``member_pause_s``: the longest time without records of a healthy member that was there all the time (None: nobody was).
    ``partition_pause_s``: the longest time between two records of a partition, whoever read it.
    ``stopped_partitions``: how many stopped at all. ``moved``: how many have another owner at the end than before.
    ``settled_after_s``: from the event to the last change of ownership. ``caught_up_after_s``: until the lag was back where it had been;
    None: not in this window.
    """

    event: Event
    member_pause_s: float | None
    partition_pause_s: float
    stopped_partitions: int
    moved: int
    settled_after_s: float
    duplicates: int
    peak_lag: int
    caught_up_after_s: float | None


@attrs.define(slots=True)
class Run:
    """One protocol. ``stopped_s``: seconds that each partition stood still, on average; ``first_records_s``: from the start of all
    members to the first record of the last of them (None: one never got any); ``rebalances``: generations or group epochs that members
    saw. ``observed`` is what the pictures are made of.
    """

    protocol: str
    properties: dict[str, object]
    first_records_s: float | None
    stopped_s: float
    member_pause_s: float | None
    partition_pause_s: float
    moved: int
    rebalances: int
    duplicates: int
    peak_lag: int
    moments: list[Moment]
    observed: Observed = attrs.field(repr=False)
    lag: list[tuple[float, int]] = attrs.field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Without the history that it was read from."""
        kept = {
            name: value for name, value in attrs.asdict(self, recurse=False).items() if name not in ("observed", "lag")
        }
        kept["moments"] = [{**attrs.asdict(moment), "event": str(moment.event)} for moment in self.moments]
        return kept


@attrs.define(slots=True)
class Comparison:
    """The runs in the order asked for. ``comparison["eager"]`` is one; printing gives a table; ``seed`` is None for a real cluster."""

    scenario: Scenario
    runs: list[Run]
    seed: int | None
    backend: str

    def __getitem__(self, protocol: str) -> Run:
        for run in self.runs:
            if run.protocol == protocol:
                return run
        raise KeyError(f"no run of protocol {protocol!r}: this comparison has {[run.protocol for run in self.runs]}")

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    # --- as text ---------------------------------------------------------------------------------------------------

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Heads and rows of the table: one for each protocol, then one for each event of each."""
        heads = [
            "",
            "stopped s/partition",
            "longest pause, member",
            "longest pause, partition",
            "partitions stopped",
            "moved",
            "rebalances",
            "duplicates",
            "peak lag",
            "settled after",
            "caught up after",
        ]
        rows = []
        for run in self.runs:
            rows.append(
                [
                    run.protocol,
                    f"{run.stopped_s:.2f}",
                    _pause(run.member_pause_s),
                    _seconds(run.partition_pause_s),
                    "",
                    str(run.moved),
                    str(run.rebalances),
                    f"{run.duplicates:,}",
                    f"{run.peak_lag:,}",
                    "",
                    "",
                ]
            )
            rows.extend(_moment_row(moment) for moment in run.moments)
        return heads, rows

    def __str__(self) -> str:
        heads, rows = self.rows()
        widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
        lines = [
            _line(heads, widths),
            "  ".join("-" * width for width in widths),
            *(_line(row, widths) for row in rows),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heads, rows = self.rows()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def as_json(self) -> dict[str, Any]:
        """Everything but the curves, for machines."""
        return {
            "backend": self.backend,
            "seed": self.seed,
            "scenario": {
                **attrs.asdict(self.scenario),
                "events": [str(event) for event in self.scenario.events],
            },
            "runs": [run.as_json() for run in self.runs],
        }

    def to_json(self, path: str | Path) -> None:
        """Write ``as_json`` to a file, whole or not at all."""
        from kafkasim.sim.files import write_whole

        write_whole(Path(path), json.dumps(self.as_json(), indent=2))

    # --- as a picture ----------------------------------------------------------------------------------------------

    def figure(self) -> Any:
        """A Plotly figure: who owns each partition over time and the lag, a column for each protocol. Needs the extra ``viz``."""
        from kafkasim.plot.ownership import Panel, ownership_figure

        return ownership_figure(
            [
                Panel(
                    run.protocol,
                    [(span.partition, span.member, span.from_s, span.to_s) for span in run.observed.ownerships],
                    run.lag,
                )
                for run in self.runs
            ],
            [(event.at_s, str(event.what)) for event in self.scenario.events],
            self.scenario.duration_s,
        )

    def to_html(self, path: str | Path) -> None:
        """Write the picture as one page that needs no network."""
        from kafkasim.plot.files import write_html

        write_html(self.figure(), Path(path))

    def to_png(self, path: str | Path) -> None:
        """Write the picture as PNG; needs kaleido besides."""
        from kafkasim.plot.files import write_png

        write_png(self.figure(), Path(path))


def run_of(
    protocol: str,
    properties: dict[str, object],
    scenario: Scenario,
    observed: Observed,
    began_s: float,
    rebalances: int,
    old_members: Sequence[str],
    slow_members: Iterable[str],
) -> Run:
    """Measure one run; ``old_members`` were there from the start to the end."""
    ends = [*(event.at_s for event in scenario.events[1:]), scenario.duration_s]
    lag = _peaks(lag_curve(observed))
    healthy = [name for name in old_members if name not in set(slow_members)]
    moments = [
        _moment(event, (event.at_s, to_s), scenario, observed, lag, healthy)
        for event, to_s in zip(scenario.events, ends, strict=False)
    ]
    whole = (0.0, scenario.duration_s)
    times = member_times(observed)
    first = [times[name][0] for name in (f"m{number}" for number in range(scenario.members)) if name in times]
    return Run(
        protocol=protocol,
        properties=properties,
        first_records_s=max(first) - began_s if len(first) == scenario.members else None,
        stopped_s=_stopped_s(scenario, observed, whole),
        member_pause_s=_member_pause_s(times, healthy, whole),
        partition_pause_s=max(
            (longest(_partition_pauses(observed, p, whole)) for p in observed.partitions), default=0.0
        ),
        moved=sum(moment.moved for moment in moments),
        rebalances=rebalances,
        duplicates=sum(count for at_s, count in duplicates(observed) if at_s >= 0),
        peak_lag=max((value for _, value in lag), default=0),
        moments=moments,
        observed=observed,
        lag=lag,
    )


def _moment(
    event: Event, within: Span, scenario: Scenario, observed: Observed, lag: list[tuple[float, int]], healthy: list[str]
) -> Moment:
    from_s, to_s = within
    times = member_times(observed)
    gaps = {partition: longest(_partition_pauses(observed, partition, within)) for partition in observed.partitions}
    allowed_s = STOPPED_INTERVALS / scenario.records_per_second
    before, after = owners_at(observed, from_s - 0.001), owners_at(observed, to_s - 0.001)
    moves = changes(observed, within)
    return Moment(
        event=event,
        member_pause_s=_member_pause_s(times, healthy, within),
        partition_pause_s=max(gaps.values(), default=0.0),
        stopped_partitions=sum(1 for gap in gaps.values() if gap > allowed_s),
        moved=sum(1 for partition, owners in after.items() if partition in before and before[partition] != owners),
        settled_after_s=moves[-1] - from_s if moves else 0.0,
        duplicates=sum(count for at_s, count in duplicates(observed) if from_s <= at_s < to_s),
        peak_lag=max((value for at_s, value in lag if from_s <= at_s < to_s), default=0),
        caught_up_after_s=_caught_up_after_s(lag, within, scenario.partitions),
    )


def _member_pause_s(times: Mapping[str, Sequence[float]], members: Sequence[str], within: Span) -> float | None:
    return max((longest(pauses(times.get(name, []), within)) for name in members), default=None)


def _partition_pauses(observed: Observed, partition: int, within: Span) -> list[Span]:
    """A partition that did not exist yet does not stand still: its pauses begin with its first record."""
    times = partition_times(observed, partition)
    from_s, to_s = within
    begin_s = max(from_s, times[0]) if times else to_s
    return pauses(times, (begin_s, to_s)) if begin_s < to_s else []


def _stopped_s(scenario: Scenario, observed: Observed, within: Span) -> float:
    interval_s = 1.0 / scenario.records_per_second
    stopped = 0.0
    for partition in observed.partitions:
        for from_s, to_s in _partition_pauses(observed, partition, within):
            if to_s - from_s > STOPPED_INTERVALS * interval_s:
                stopped += to_s - from_s - interval_s
    return stopped / max(1, len(observed.partitions))


def _peaks(curve: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The highest lag of each step of time, from 0 on; a stream that comes in beats would otherwise be all that is seen."""
    peaks: dict[int, int] = {}
    for at_s, value in curve:
        if at_s >= 0:
            step = int(at_s / _LAG_STEP_S)
            peaks[step] = max(peaks.get(step, 0), value)
    return [(step * _LAG_STEP_S, value) for step, value in peaks.items()]


def _caught_up_after_s(lag: list[tuple[float, int]], within: Span, beat: int) -> float | None:
    """After the event, when the lag was last above what it had been before it; one beat of the stream more is not above."""
    from_s, to_s = within
    usual = max((value for at_s, value in lag if from_s - 10.0 <= at_s < from_s), default=0) + beat
    inside = [(at_s, value) for at_s, value in lag if from_s <= at_s < to_s]
    above = [index for index, (_, value) in enumerate(inside) if value > usual]
    if not above:
        return 0.0
    if above[-1] + 1 >= len(inside):
        return None
    return inside[above[-1] + 1][0] - from_s


def _moment_row(moment: Moment) -> list[str]:
    return [
        f"  {moment.event}",
        "",
        _pause(moment.member_pause_s),
        _seconds(moment.partition_pause_s),
        str(moment.stopped_partitions),
        str(moment.moved),
        "",
        f"{moment.duplicates:,}",
        f"{moment.peak_lag:,}",
        _seconds(moment.settled_after_s),
        _seconds(moment.caught_up_after_s),
    ]


def _seconds(value: float | None) -> str:
    return "not in time" if value is None else f"{value:.2f} s"


def _pause(value: float | None) -> str:
    return "" if value is None else _seconds(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([first, *others]).rstrip()
