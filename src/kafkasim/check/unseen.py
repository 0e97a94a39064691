"""Promises about what the run never saw: a group, a topic or a sink by another name, told instead of passed or blamed.

Inputs:   what was promised, the history, the report.      Effects: ConfigurationError for a name that is nearly one that was seen; a
          word in the findings where no sink told of any work.
Rule 1:   a promise to nobody cannot be broken: a misspelt name would pass for ever.
Rule 2:   what merely did not happen in this run is counted and breaks nothing: a group may die before it joins.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.core.model.history import Acked, Assigned, Committed, Delivered, Effected, HistoryEvent, ShareDelivered
from kafkasim.core.model.ids import TopicPartition
from kafkasim.errors import ConfigurationError

_ABOUT_WORK = ("commit-ahead", "accept-ahead", "at-least-once", "effectively-once", "key-order")


def check_names(
    events: Sequence[HistoryEvent],
    rest: Iterable[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    guarantees: Sequence[Guarantee],
    report: Report,
) -> None:
    """``rest`` is the history without effects. Called last, as it adds to findings."""
    if not guarantees:
        return
    groups: dict[str, None] = {}
    topics = dict.fromkeys(tp.topic for tp in logs)
    for event in rest:
        if isinstance(event, Delivered | Assigned | Committed | ShareDelivered):
            groups[event.group] = None
        elif isinstance(event, Acked):
            topics[event.tp.topic] = None
    promised = {guarantee.group for guarantee in guarantees}
    others = [group for group in groups if group not in promised]
    for guarantee in guarantees:
        if guarantee.group is not None and guarantee.group not in groups:
            if any(isinstance(event, Effected) and event.group == guarantee.group for event in events):
                raise ConfigurationError(
                    f"{guarantee.whom}: its sinks told of work, and the history has nothing of its clients. On a real cluster make them "
                    "inside cluster.install(), by cluster.consumer(), or from cluster.recorded_client()"
                )
            _refuse(guarantee, "group", guarantee.group, others)
            report.count("promises of groups that were never seen")
        for topic in guarantee.topics:
            if topic not in topics:
                _refuse(guarantee, "topic", topic, [other for other in topics if other not in guarantee.topics])
                report.count("promises about topics that were never seen")
        _tell_of_sinks(guarantee, events, report)


def _refuse(guarantee: Guarantee, what: str, name: str, seen: Collection[str]) -> None:
    near = difflib.get_close_matches(name, seen, 1, 0.8)
    if near:
        raise ConfigurationError(
            f"{guarantee.whom} was promised something, and there is no {what} {name!r}: did you mean {near[0]!r}? "
            f"A promise to nobody cannot be broken"
        )


def _tell_of_sinks(guarantee: Guarantee, events: Sequence[HistoryEvent], report: Report) -> None:
    """Where no sink of the group told of any work, it may be that nobody asked one to."""
    head = f"{guarantee.whom} "
    blamed = next((one for one in report.findings if one.invariant in _ABOUT_WORK and one.text.startswith(head)), None)
    if blamed is None:
        return
    sinks: dict[tuple[str, str], None] = {}
    for event in events:
        if isinstance(event, Effected):
            sinks[event.group, event.sink] = None
    if not any(group == guarantee.group and guarantee.sink in (None, sink) for group, sink in sinks):
        told = ", ".join(f"{sink} of group {group}" for group, sink in sinks) or "none at all"
        blamed.text += (
            "; no sink of it told of any work: work counts where a kafkasim.sinks.Sink tells of it, with this group= "
            f"(sinks seen: {told})"
        )
