"""What there is to see in a run, as plain values: who ran, who led, who owned, who was behind, what was done to them.

Inputs:   a cluster at the end of its run, with its history; its report where it was checked.
Effects:  a `Story`. Nothing of the cluster is kept in it.
Rule 1:   a story is read from the history alone, so that it costs nothing until somebody asks.
Rule 2:   what is left out for want of room is counted in ``left_out``, never dropped in silence.
Rule 3:   times are virtual seconds since the cluster was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from kafkasim.check.report import Report
from kafkasim.core.model.history import DISK_FAULTS, NETWORK_FAULTS
from kafkasim.core.model.ids import TopicPartition
from kafkasim.report.bands import PartitionStory, partition_stories
from kafkasim.report.groups import GroupStory, group_stories
from kafkasim.report.sightings import Sighting, sightings
from kafkasim.sim.aim import server_ids
from kafkasim.sim.exchanges import Exchanges
from kafkasim.sim.injection import Fired
from kafkasim.views.facts import ENDS, Fact, Facts

if TYPE_CHECKING:
    from kafkasim.handle import Cluster

_MOST_PARTITIONS = 6
_RUNNING = "running"
#: A server's state after a note of its process.
_STATE_AFTER = {
    "start": _RUNNING,
    "resume": _RUNNING,
    "pause": "paused",
    "crash": "crashed",
    "power_loss": "no power",
    "stopped": "stopped",
    "shutdown": "stopping",
}
_HARM = (
    *("crash", "power_loss", "shutdown", "pause"),
    *(
        kind
        for kind in (*NETWORK_FAULTS, *DISK_FAULTS)
        if kind not in ("network heal", "network release", "disk healed")
    ),
)


@attrs.frozen
class Span:
    """A state from one time to another."""

    state: str
    from_s: float
    to_s: float


@attrs.frozen
class Mark:
    """Something at one moment; ``why`` is the text that a click shows."""

    at_s: float
    text: str
    why: str = ""


@attrs.define(slots=True)
class Story:
    """One run. ``broken`` and ``allowed`` are the findings of its checks, as text; empty where it was not checked."""

    title: str
    seed: int
    end_s: float
    fingerprint: str
    servers: dict[int, list[Span]]
    controllers: list[tuple[int, float, float]]
    faults: list[Mark]
    partitions: list[PartitionStory]
    groups: list[GroupStory]
    #: What was seen of the records of one partition, by whom and when.
    order_of: str
    order: list[Sighting]
    verdict: str = ""
    broken: list[str] = attrs.field(factory=list)
    allowed: list[str] = attrs.field(factory=list)
    replay: str = ""
    exchanges: Exchanges | None = None
    left_out: list[str] = attrs.field(factory=list)


def story_of(
    cluster: Cluster,
    *,
    title: str = "a run of kafkasim",
    report: Report | None = None,
    partitions: Sequence[str] = (),
    replay: str = "",
    fired: Sequence[Fired] = (),
    exchanges: Exchanges | None = None,
) -> Story:
    """The story of a run so far.

    Args:
        report: what ``cluster.check()`` gave; None: the verdict is left out.
        partitions: which to show (``"orders-0"``), the first of them with every record; none named: those to which most happened.
        replay: the line that runs this again.
        fired: what became of a fault plan (``injection.fired``): faults of clients and messages, which no server notes, are in it alone.
        exchanges: the requests of the run, where somebody watched them from its start.

    Raises ConfigurationError for a cluster made with history=False, or for a partition that it does not have.
    """
    facts = cluster.facts("a report")
    end_s = cluster.now
    left_out: list[str] = []
    shown = partition_stories(cluster, facts, partitions, _MOST_PARTITIONS, left_out)
    order_of = _most_concerned(shown, report)
    story = Story(
        title=title,
        seed=cluster.seed,
        end_s=end_s,
        fingerprint=cluster.fingerprint(),
        servers={node: _states(facts.processes, node, end_s) for node in server_ids(cluster)},
        controllers=_controllers(facts, end_s),
        faults=_faults(facts, fired),
        partitions=shown,
        groups=group_stories(cluster, left_out),
        order_of=order_of,
        order=sightings(cluster.history, _partition(order_of), left_out) if order_of else [],
        replay=replay,
        exchanges=exchanges,
        left_out=left_out,
    )
    if report is not None:
        story.verdict = "every promise was kept" if report.ok else f"{len(report.findings)} broken"
        story.broken = [str(finding) for finding in report.findings]
        story.allowed = [str(finding) for finding in report.allowed]
    if exchanges is not None and exchanges.left_out:
        left_out.append(f"{exchanges.left_out:,} requests after the first {len(exchanges.all):,}")
    return story


def _most_concerned(shown: Sequence[PartitionStory], report: Report | None) -> str:
    """The partition that the findings name most often; else the first."""
    texts = [] if report is None else [f" {finding.text} " for finding in report.findings]
    counted = {
        partition.name: sum(f" {partition.name} " in text.replace(":", " ").replace(",", " ") for text in texts)
        for partition in shown
    }
    return max(counted, key=lambda name: counted[name], default="")


def _partition(name: str) -> TopicPartition:
    topic, _, number = name.rpartition("-")
    return TopicPartition(topic, int(number))


def _states(processes: Sequence[Fact], node: int, end_s: float) -> list[Span]:
    spans: list[Span] = []
    state, since_s = _RUNNING, 0.0
    for fact in processes:
        if fact.subject != node or fact.kind not in _STATE_AFTER:
            continue
        after = _STATE_AFTER[fact.kind]
        at_s = fact.at_us / 1e6
        if after == state or (fact.kind in ENDS and state in ("crashed", "no power", "stopped")):
            continue
        spans.append(Span(state, since_s, at_s))
        state, since_s = after, at_s
    spans.append(Span(state, since_s, end_s))
    return spans


def _controllers(facts: Facts, end_s: float) -> list[tuple[int, float, float]]:
    """(server, from, to) of each active controller; a dead one is active until the next is."""
    spans: list[tuple[int, float, float]] = []
    active: int | None = None
    since_s = 0.0
    for fact in facts.controllers:
        at_s = fact.at_us / 1e6
        if active is not None and (fact.kind == "controller-active" or fact.node == active):
            spans.append((active, since_s, at_s))
            active = None
        if fact.kind == "controller-active":
            active, since_s = fact.node, at_s
    if active is not None:
        spans.append((active, since_s, end_s))
    return spans


def _faults(facts: Facts, fired: Sequence[Fired]) -> list[Mark]:
    """In order of time; a planned fault that servers or the network noted too stands there once, as planned."""
    noted = [fact for fact in (*facts.processes, *facts.network, *facts.disks) if fact.kind in _HARM]
    planned = {round(one.at_s * 1e6) for one in fired}
    marks = [Mark(fact.at_us / 1e6, _fault_text(fact)) for fact in noted if fact.at_us not in planned]
    marks += [Mark(one.at_s, f"{one.fault}: hit {', '.join(one.hit) or 'nobody'}") for one in fired]
    return sorted(marks, key=lambda mark: mark.at_s)


def _fault_text(fact: Fact) -> str:
    fields = " ".join(f"{name}={value}" for name, value in fact.fields.items() if value not in (None, False, 0.0, 1.0))
    subject: Any = fact.subject
    where = f"{list(subject[0])}, {list(subject[1])}" if isinstance(subject, tuple) else f"node {subject}"
    return f"{fact.kind} {where} {fields}".strip()
