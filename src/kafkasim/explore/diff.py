"""One plan run twice, with one thing changed: the first event at which the two runs part, and how each ended.

Inputs:   a scenario, a seed, a plan; what is changed: protections, broker configs, or another scenario altogether.
Effects:  a `Difference`, which prints.
Rule 1:   both runs have the same seed and plan, so that until the change matters they are the same, event by event.
Rule 2:   what is compared is the history: what clients were told and what servers noted, with its times.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

import attrs

from kafkasim.check.report import Finding
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Delivered, HistoryEvent
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.telling import event_key, event_text
from kafkasim.explore.trial import Scenario, Trial
from kafkasim.handle import Cluster
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan import Fault, Plan

_CONTEXT = 3


@attrs.define(slots=True)
class Side:
    """One of the two runs: how it ended, and its history."""

    label: str
    trial: Trial
    acked: int
    failed: int
    delivered: int
    events: list[HistoryEvent]
    cluster_name: str

    def event_text(self, number: int) -> str:
        return event_text(self.events[number]) if number < len(self.events) else "(the run is over)"

    @property
    def verdict(self) -> str:
        return "every promise was kept" if self.trial.ok else "broken: " + ", ".join(self.trial.broken)


@attrs.define(slots=True)
class Difference:
    """``first`` is the number of the first event that differs; None: the runs are the same to the end."""

    left: Side
    right: Side
    first: int | None

    @property
    def changes_verdict(self) -> bool:
        """Does what was changed decide whether a promise is kept?"""
        return self.left.trial.ok != self.right.trial.ok

    def __str__(self) -> str:
        left, right = self.left, self.right
        lines = [f"seed {left.trial.seed}, plan: {str(left.trial.plan).replace(chr(10), '; ')}"]
        if self.first is None:
            lines.append(f"{left.label} and {right.label} are the same in all {len(left.events)} events")
        else:
            lines.append(f"the same for {self.first} events, then")
            before = left.events[max(0, self.first - _CONTEXT) : self.first]
            lines += [f"  both:  {event_text(event)}" for event in before]
            lines += [f"  {side.label}:  {side.event_text(self.first)}" for side in (left, right)]
        lines += ["", *self._table()]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        rows = [
            ("", self.left.label, self.right.label),
            ("verdict", self.left.verdict, self.right.verdict),
            ("acknowledged", str(self.left.acked), str(self.right.acked)),
            ("not acknowledged", str(self.left.failed), str(self.right.failed)),
            ("delivered", str(self.left.delivered), str(self.right.delivered)),
            ("virtual seconds", f"{self.left.trial.virtual_s:.3f}", f"{self.right.trial.virtual_s:.3f}"),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return table + [f"{side.label}: {finding}" for side in (self.left, self.right) for finding in _worst(side)]


def diff(
    scenario: Scenario,
    run: Recipe | int,
    plan: Plan | Fault | None = None,
    *,
    features: Mapping[str, bool] | None = None,
    config: Mapping[str, object] | None = None,
    other: Scenario | None = None,
    labels: tuple[str, str] | None = None,
) -> Difference:
    """Run ``scenario`` as it is, and with the change.

    Args:
        run, plan: a recipe; or a seed, and the plan that goes with it.
        features: protections switched, as ``{"elr": False}``.
        config: broker configs changed, by Kafka's names.
        other: another scenario in its place (another protocol, other client settings); features and config are applied to it too.
        labels: how the two are called; by default after the change.
    """
    changed = _changed(other or scenario, features or {}, config or {})
    named = labels or ("as it is", _label(scenario, features or {}, config or {}, other))
    recipe = run if isinstance(run, Recipe) else Recipe(run, Plan.of(plan or Plan()))
    changed_recipe = attrs.evolve(recipe, features={**recipe.features, **(features or {})})
    left, right = _side(named[0], scenario, recipe), _side(named[1], changed, changed_recipe)
    return Difference(left, right, first_difference(left, right))


def first_difference(left: Side, right: Side) -> int | None:
    """The number of the first event in which two histories differ."""
    for number, (one, another) in enumerate(zip_longest(left.events, right.events)):
        if one is None or another is None:
            return number
        if event_key(one, left.cluster_name) != event_key(another, right.cluster_name):
            return number
    return None


def _changed(scenario: Scenario, features: Mapping[str, bool], config: Mapping[str, object]) -> Scenario:
    changed = scenario.with_features(features) if features else scenario
    if not config:
        return changed
    merged = {**(changed.options.get("config") or {}), **config}
    return attrs.evolve(changed, options={**changed.options, "config": merged})


def _label(
    scenario: Scenario, features: Mapping[str, bool], config: Mapping[str, object], other: Scenario | None
) -> str:
    parts = [f"{'with' if is_on else 'without'} {name}" for name, is_on in features.items()]
    parts += [f"{name}={value}" for name, value in config.items()]
    if other is not None and other is not scenario:
        parts.insert(0, other.name)
    return ", ".join(parts) or "again"


def _side(label: str, scenario: Scenario, recipe: Recipe) -> Side:
    events: list[HistoryEvent] = []
    names: list[str] = []

    def keep(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        events.extend(cluster.history)
        names.append(cluster.cluster_name)

    trial = cook(scenario, recipe, on_end=keep)
    acked = [event for event in events if isinstance(event, Acked)]
    return Side(
        label,
        trial,
        sum(event.stop - event.start for event in acked if event.error is ErrorCode.NONE),
        sum(event.stop - event.start for event in acked if event.error is not ErrorCode.NONE),
        sum(event.stop - event.start for event in events if isinstance(event, Delivered)),
        events,
        names[0],
    )


def _worst(side: Side) -> list[Finding]:
    return side.trial.findings[:2]
