"""The shape of a scenario: what there is to hit, and how often each event happens, seen in one run without faults.

Inputs:   a scenario and a seed.      Effects: a `Shape`.
Rule 1:   the same scenario and seed give the same shape, in any process.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import attrs

from kafkasim.core.model.effects import Note
from kafkasim.explore.coverage import Coverage, cover
from kafkasim.explore.recipe import Recipe, cook
from kafkasim.explore.sometimes import listening
from kafkasim.explore.trial import Scenario, Trial
from kafkasim.handle import Cluster
from kafkasim.sim.aim import is_of_internal_topic
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan_words import FAMILIES
from kafkasim.sim.wire_events import API_NAMES, api_name

#: Events of machinery that goes on whether anybody works or not: counted, and no place to aim at.
_DULL = ("BrokerHeartbeat.", "QuorumFetch.", "ApiVersions.", "Metadata.")
_CHANGES = FAMILIES["change"]
_HANDLE, _TASK, _OTHER = "handle", "task", "other"


@attrs.frozen
class Shape:
    """Args:
    brokers, partitions, groups, tasks: what faults can aim at, by their names in plans.
    events: how often each ``Api.stage`` happened between the end of the preparation and the verdict.
    task_events: those of clients that run in tasks, which can be killed.
    begin_s, end_s: virtual seconds at which the body began and ended.
    changes: how often a role changed (the family of events "change").
    replicas: how many each partition had at the end.
    """

    brokers: tuple[int, ...] = ()
    partitions: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    events: Mapping[str, int] = attrs.field(factory=dict)
    task_events: Mapping[str, int] = attrs.field(factory=dict)
    begin_s: float = 0.0
    end_s: float = 60.0
    changes: int = 0
    replicas: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def span_s(self) -> float:
        return max(0.001, self.end_s - self.begin_s)

    @property
    def promises(self) -> int:
        """How often producers were told that records are kept."""
        return self.events.get("Produce.answered", 0)


def events_at(counts: Mapping[str, int], *stages: str) -> list[str]:
    """Events at these stages that a fault may wait for, by name."""
    return [event for event in sorted(counts) if event.rpartition(".")[2] in stages and not event.startswith(_DULL)]


class Watcher:
    """Counts what passes by in a trial without event faults; ``shape`` at its end is what was seen."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._events: dict[str, int] = {}
        self._tasks: dict[str, None] = {}
        self._task_events: dict[str, int] = {}
        self._changes = 0
        self._kinds: dict[int, str] = {}
        self._begin_s = 0.0
        self.shape = Shape()

    def on_start(self, cluster: Cluster, injection: Injection) -> None:
        self._begin_s = cluster.now
        cluster.injections.listen(self._watch)
        cluster.on_note = self._on_note
        self._cluster = cluster

    def _on_note(self, node: int, note: Note) -> None:
        self._changes += f"note:{note.kind}" in _CHANGES and not is_of_internal_topic(note)

    def _watch(self, stage: str, requester: int, server: int, request: Any) -> None:
        self._changes += f"{api_name(request)}.{stage}" in _CHANGES
        kind = self._kinds.get(requester)
        if kind is None:
            kind = self._kinds[requester] = self._kind(requester)
        if kind != _HANDLE:
            event = f"{api_name(request)}.{stage}"
            self._events[event] = self._events.get(event, 0) + 1
            if kind == _TASK:
                self._task_events[event] = self._task_events.get(event, 0) + 1

    def _kind(self, requester: int) -> str:
        cluster = self._cluster
        if cluster.is_own_client(requester):
            return _HANDLE
        for shell in cluster.clients:
            if shell.node.node_id == requester and shell.host is not None and shell.host.respawn is not None:
                self._tasks[shell.host.name] = None
                return _TASK
        return _OTHER

    def on_end(self, cluster: Cluster, injection: Injection, trial: Trial) -> None:
        replicas = {
            f"{name}-{number}": len(partition.replicas)
            for name in cluster.topics()
            for number, partition in enumerate(cluster.describe_topic(name))
        }
        self.shape = Shape(
            brokers=tuple(cluster.broker_ids()),
            partitions=self._scenario.partitions or tuple(name for name in replicas if not name.startswith("__")),
            groups=tuple(dict.fromkeys(event.group for event in cluster.history if hasattr(event, "group"))),
            tasks=tuple(self._tasks),
            events=_known(self._events),
            task_events=_known(self._task_events),
            changes=self._changes,
            replicas=replicas,
            begin_s=self._begin_s,
            end_s=max(self._begin_s, trial.virtual_s - self._scenario.settle_s),
        )


def _known(counts: Mapping[str, int]) -> dict[str, int]:
    """Those that a plan can name."""
    return {event: counts[event] for event in sorted(counts) if event.partition(".")[0] in API_NAMES}


@attrs.frozen
class First:
    """The trial without faults that showed a shape."""

    trial: Trial
    coverage: Coverage
    wall_s: float


def shape_of(scenario: Scenario, seed: int) -> tuple[Shape, First]:
    """The shape, and the trial without faults that showed it. What the scenario prints is dropped."""
    watcher = Watcher(scenario)
    began = perf_counter()
    seen: list[Coverage] = []

    def on_end(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        watcher.on_end(cluster, injection, trial)
        seen.append(cover(cluster.history, trial.fired, reached.reached, reached.passed))

    with listening() as reached, contextlib.redirect_stdout(io.StringIO()):
        trial = cook(scenario, Recipe(seed), on_start=watcher.on_start, on_end=on_end)
    return watcher.shape, First(trial, seen[0], perf_counter() - began)
