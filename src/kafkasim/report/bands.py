"""One partition over time: what each of its replicas was to it, and why that changed.

Inputs:   the facts of a run.      Effects: values.
Rule 1:   a replica is the leader, in the ISR, in the ELR, or out, as the controller's log has it.
Rule 2:   every change carries the chain of causes that ``cluster.why`` gives for its moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import PartitionRecord, TopicRecord
from kafkasim.errors import ConfigurationError
from kafkasim.views.causes import describe
from kafkasim.views.facts import Facts
from kafkasim.views.timeline import Timeline

if TYPE_CHECKING:
    from kafkasim.core.controller.image import PartitionState
    from kafkasim.handle import Cluster

_MOST_EXPLAINED = 200


@attrs.frozen
class ReplicaSpan:
    """``role``: "leader", "in sync", "eligible" (ELR) or "out"."""

    replica: int
    role: str
    from_s: float
    to_s: float


@attrs.frozen
class PartitionChange:
    """A change of the partition in the metadata, with its chain of causes."""

    at_s: float
    text: str
    why: str


@attrs.define(slots=True)
class PartitionStory:
    """``name`` as ``orders-0``; ``spans`` without those in which a replica was out."""

    name: str
    replicas: list[int]
    spans: list[ReplicaSpan]
    changes: list[PartitionChange]


def partition_stories(
    cluster: Cluster, facts: Facts, wanted: Sequence[str], most: int, left_out: list[str]
) -> list[PartitionStory]:
    """Those that are wanted; else the ones with most changes, ``most`` of them. Raises ConfigurationError for an unknown one."""
    known = _partitions_of(facts)
    timelines = {
        str(tp): Timeline(tp, facts.committed, cluster.static_config) for tp in known if not wanted or str(tp) in wanted
    }
    unknown = [name for name in wanted if name not in timelines]
    if unknown:
        raise ConfigurationError(
            f"no partition {', '.join(unknown)} to report on: this cluster had {', '.join(map(str, known)) or 'none'}"
        )
    names = list(wanted) or sorted(timelines, key=lambda name: -len(timelines[name].changes))
    if not wanted and len(names) > most:
        left_out.append(f"{len(names) - most} partitions to which less happened")
        names = names[:most]
    return [_story(cluster, name, timelines[name]) for name in names]


def _partitions_of(facts: Facts) -> list[TopicPartition]:
    """Every partition that there ever was, Kafka's own topics excepted."""
    names: dict[str, str] = {}
    found: dict[TopicPartition, None] = {}
    for committed in facts.committed:
        for record in committed.batch.records:
            if isinstance(record, TopicRecord):
                names[record.topic_id] = record.name
            elif isinstance(record, PartitionRecord) and not names[record.topic_id].startswith("__"):
                found[TopicPartition(names[record.topic_id], record.partition)] = None
    return list(found)


def _story(cluster: Cluster, name: str, timeline: Timeline) -> PartitionStory:
    end_s = cluster.now
    spans: list[ReplicaSpan] = []
    replicas: dict[int, None] = {}
    changes: list[PartitionChange] = []
    moments = [*timeline.changes, None]
    for change, later in zip(timeline.changes, moments[1:], strict=True):
        at_s = change.at_us / 1e6
        until_s = end_s if later is None else later.at_us / 1e6
        if change.after is not None:
            for replica in change.after.replicas:
                replicas[replica] = None
                role = _role(change.after, replica)
                if role != "out":
                    spans.append(ReplicaSpan(replica, role, at_s, until_s))
        why = ""
        if change.after is not None and len(changes) < _MOST_EXPLAINED:
            why = str(cluster.why(timeline.tp.topic, timeline.tp.partition, at_s))
        changes.append(PartitionChange(at_s, describe(change, timeline), why))
    return PartitionStory(name, list(replicas), _joined(spans), changes)


def _role(state: PartitionState, replica: int) -> str:
    if replica == state.leader:
        return "leader"
    if replica in state.isr:
        return "in sync"
    return "eligible" if replica in state.elr else "out"


def _joined(spans: Sequence[ReplicaSpan]) -> list[ReplicaSpan]:
    """Spans of one replica and role that touch are one."""
    last: dict[int, ReplicaSpan] = {}
    joined: list[ReplicaSpan] = []
    for span in spans:
        before = last.get(span.replica)
        if before is not None and before.role == span.role and before.to_s == span.from_s:
            joined.remove(before)
            span = attrs.evolve(span, from_s=before.from_s)
        last[span.replica] = span
        joined.append(span)
    return joined
