"""The benchmark's figures as tables, and as values for machines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from rich.table import Table

from benchmarks.bugs.hunt import Alarm, Hunt
from benchmarks.bugs.row import Row

Hunts = Mapping[str, Mapping[str, Hunt]]


@attrs.frozen
class Gain:
    """How much more often a seed of one policy finds than one of another: geometric mean over ``rows`` rows, and 95 % of it."""

    factor: float
    low: float
    high: float
    rows: int

    def __str__(self) -> str:
        return f"{self.factor:.1f} times ({self.low:.1f} to {self.high:.1f}; geometric mean over {self.rows} rows)"


def gain(hunts: Hunts, policy: str, over: str) -> Gain | None:
    """Over the rows that either finds.

    Where one of the two found nothing, one hit is put in its place: the figure errs towards 1. The interval is that of counts of hits.
    """
    logs, variance = [], 0.0
    for per_policy in hunts.values():
        one, other = per_policy.get(policy), per_policy.get(over)
        if one is None or other is None or not (one.hits or other.hits):
            continue
        found, found_other = max(one.hits, 1), max(other.hits, 1)
        logs.append(math.log(found / one.seeds) - math.log(found_other / other.seeds))
        variance += 1 / found + 1 / found_other
    if not logs:
        return None
    mean, spread = sum(logs) / len(logs), 1.96 * math.sqrt(variance) / len(logs)
    return Gain(math.exp(mean), math.exp(mean - spread), math.exp(mean + spread), len(logs))


def best(per_policy: Mapping[str, Hunt]) -> str | None:
    """The policy that finds most often; None where none finds."""
    name = max(per_policy, key=lambda name: per_policy[name].rate)
    return name if per_policy[name].hits else None


def table(rows: Sequence[Row], hunts: Hunts, listened: Mapping[str, tuple[int, list[Alarm]]]) -> Table:
    policies = list(dict.fromkeys(name for per_policy in hunts.values() for name in per_policy))
    drawn = Table("#", "bug", "source", title="Seeds to find, median (95 %)")
    for name in policies:
        drawn.add_column(name, justify="right")
    drawn.add_column("found as")
    drawn.add_column("reports about sound", justify="right")
    for row in rows:
        found = dict.fromkeys(name for hunt in hunts.get(row.name, {}).values() for name in hunt.found)
        seeds, alarms = listened.get(row.name, (0, []))
        drawn.add_row(
            row.number,
            row.name,
            row.source,
            *(_cell(hunts.get(row.name, {}).get(name)) for name in policies),
            ", ".join(found),
            f"{len(alarms)} in {seeds:,}" if seeds else "",
        )
    return drawn


def _cell(hunt: Hunt | None) -> str:
    if hunt is None:
        return ""
    low, high = hunt.interval
    if hunt.median is None or high is None:
        return f"none in {hunt.seeds:,} ({hunt.seconds:.0f} s)"
    return f"{hunt.median:,.0f} ({low:,.0f} to {high:,.0f})"


def as_values(rows: Sequence[Row], hunts: Hunts, listened: Mapping[str, tuple[int, list[Alarm]]]) -> dict[str, Any]:
    values: dict[str, Any] = {"rows": []}
    for row in rows:
        seeds, alarms = listened.get(row.name, (0, []))
        values["rows"].append(
            {
                "number": row.number,
                "name": row.name,
                "source": row.source,
                "policies": {name: _hunt_values(hunt) for name, hunt in hunts.get(row.name, {}).items()},
                "sound_seeds": seeds,
                "sound_reports": [
                    f"{alarm.scenario}, {alarm.policy}, seed {alarm.seed}: {alarm.text}" for alarm in alarms
                ],
            }
        )
    return values


def _hunt_values(hunt: Hunt) -> dict[str, Any]:
    return {
        "seeds": hunt.seeds,
        "hits": hunt.hits,
        "first": hunt.first,
        "first_s": hunt.first_s,
        "median": hunt.median,
        "interval": hunt.interval,
        "seconds": hunt.seconds,
        "found_as": hunt.found,
        "forbidden": hunt.alarms,
    }
