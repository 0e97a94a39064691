"""The groups of a run: who owned which partition, and how far each group was behind.

Inputs:   the history.      Effects: values.
Rule 1:   ownership is what applications were told; that of a client that was killed ends when its process did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from kafkasim.core.model.history import Assigned, Committed, Delivered, HistoryEvent, Revoked
from kafkasim.core.model.ids import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kafkasim.handle import Cluster
    from kafkasim.sim.world import ClientLife

_MOST_GROUPS = 12
_MOST_POINTS = 2_000


@attrs.frozen
class OwnerSpan:
    """A member had a partition from one time to another."""

    partition: str
    member: str
    from_s: float
    to_s: float


@attrs.define(slots=True)
class GroupStory:
    """``lag``: (seconds, records) at each change, thinned where there are very many."""

    name: str
    owners: list[OwnerSpan]
    lag: list[tuple[float, int]]


def group_stories(cluster: Cluster, left_out: list[str]) -> list[GroupStory]:
    """Every group whose members are in the history, in order of their names."""
    names = sorted(
        {event.group for event in cluster.history if isinstance(event, Assigned | Delivered | Committed)} - {""}
    )
    if len(names) > _MOST_GROUPS:
        left_out.append(f"{len(names) - _MOST_GROUPS} groups")
        names = names[:_MOST_GROUPS]
    owners = owner_spans(cluster.history, cluster.client_lives, cluster.now)
    return [GroupStory(name, owners.get(name, []), _lag(cluster, name)) for name in names]


def owner_spans(
    history: Iterable[HistoryEvent], lives: Mapping[str, ClientLife], end_s: float
) -> dict[str, list[OwnerSpan]]:
    """By group, in order of partition and time."""
    end = _Ends(lives, end_s)
    spans: dict[str, list[OwnerSpan]] = {}
    since: dict[tuple[str, TopicPartition, str], float] = {}
    for event in history:
        if isinstance(event, Assigned):
            for tp in event.partitions:
                since[event.group, tp, event.client] = event.at_us / 1e6
        elif isinstance(event, Revoked):
            for tp in event.partitions:
                from_s = since.pop((event.group, tp, event.client), None)
                if from_s is not None:
                    span = OwnerSpan(str(tp), end.member(event.client), from_s, event.at_us / 1e6)
                    spans.setdefault(event.group, []).append(span)
    for (group, tp, client), from_s in since.items():
        spans.setdefault(group, []).append(OwnerSpan(str(tp), end.member(client), from_s, end.of(client)))
    for found in spans.values():
        found.sort(key=lambda span: (*_natural(span.partition), span.from_s))
    return spans


class _Ends:
    """How clients are called on the page, and when they ended."""

    def __init__(self, lives: Mapping[str, ClientLife], end_s: float) -> None:
        self._lives = lives
        self._end_s = end_s

    def of(self, client: str) -> float:
        life = self._lives.get(client)
        return self._end_s if life is None or life.ended_us is None else life.ended_us / 1e6

    def member(self, client: str) -> str:
        """By its client.id; else by the task it belongs to; else by its number."""
        name, _, number = client.partition("#")
        if name not in ("", "rdkafka"):
            return name
        life = self._lives.get(client)
        return number if life is None or life.host is None else f"{life.host} ({number})"


def _natural(partition: str) -> tuple[str, int]:
    topic, _, number = partition.rpartition("-")
    return topic, int(number)


def _lag(cluster: Cluster, group: str) -> list[tuple[float, int]]:
    series = cluster.lag(group).total
    if not len(series):
        series = cluster.lag(group, committed=False).total
    points = [(time, int(value or 0)) for time, value in series]
    if points:
        points.append((cluster.now, points[-1][1]))
    step = max(1, len(points) // _MOST_POINTS)
    return [*points[::step], *points[-1:]]
