"""Controllers that lost their place though nothing had happened to them.

K9 disruption: a metric. With pre-vote (KIP-996) a voter that was cut off comes back without deposing anybody.

Inputs:   the history: which controllers began, and faults of servers and links.      Effects: a metric.
Rule 1:   a controller is disturbed once it was the subject of a fault, or one side of it; from then on it may be deposed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafkasim.check.report import Report
from kafkasim.core.model.history import STANDSTILLS, Happened, HistoryEvent
from kafkasim.core.model.ids import NodeId

_LINK_FAULTS = ("network partition", "network hold", "network slow")


def disruptions(events: Iterable[HistoryEvent]) -> list[tuple[int, NodeId, NodeId]]:
    """(when, who lost its place, who has it now: perhaps the same), where nothing had happened to the former."""
    found: list[tuple[int, NodeId, NodeId]] = []
    active: NodeId | None = None
    disturbed: dict[NodeId, None] = {}
    for event in events:
        if type(event) is not Happened:
            continue
        if event.kind in STANDSTILLS or event.kind.startswith("disk "):
            disturbed[event.node] = None
        elif event.kind in _LINK_FAULTS:
            sides: Any = event.subject
            disturbed.update(dict.fromkeys(sides[0]))
        elif event.kind == "controller-active":
            if active is not None and active not in disturbed:
                found.append((event.at_us, active, event.node))
            active = event.node
    return found


def measure_disruptions(events: Iterable[HistoryEvent], report: Report) -> None:
    """K9."""
    count = len(disruptions(events))
    if count:
        report.measure("disruption: controllers that were deposed though nothing had happened to them", count)
