"""Where clients were told that partitions end: it never goes back.

B13 list-offsets-monotone: a client asks for the end of a partition, after it has been told one, and is told an earlier one.

Inputs:   the history, the budget of the run.      Effects: findings.
Rule 1:   a question counts against answers that the client had before it asked: several may be under way at once.
Rule 2:   who answers with an older leader epoch than somebody before was deposed and does not know it: Kafka has no promise of it.
          Where no epoch is known (real clusters), it may be one, so that a breach is told as allowed.
Rule 3:   what an unclean election or losses beyond the budget took is owed to nobody.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeAlias

import attrs

from kafkasim.check.budget import Budget
from kafkasim.check.report import Report
from kafkasim.core.model.history import EndTold, HistoryEvent
from kafkasim.core.model.ids import TopicPartition

_MOST_TOLD = 5
_DEPOSED = "whoever answered may have been deposed without knowing it"

_Asker: TypeAlias = "tuple[str, TopicPartition]"


@attrs.define(slots=True, eq=False)
class _Answers:
    """What one client was told of one partition, in order: when, and the largest epoch, and the largest end with its time, so far."""

    times_us: list[int] = attrs.field(factory=list)
    epochs: list[int] = attrs.field(factory=list)
    ends: list[tuple[int, int]] = attrs.field(factory=list)
    told: int = 0


def check_ends(events: Iterable[HistoryEvent], report: Report, budget: Budget | None = None) -> None:
    """B13. O(answers * log answers)."""
    budget = budget or Budget(())
    askers: dict[_Asker, _Answers] = {}
    for event in events:
        if type(event) is EndTold:
            answers = askers.get((event.client, event.tp))
            if answers is None:
                answers = askers[event.client, event.tp] = _Answers()
            _take(event, answers, report, budget)


def _take(event: EndTold, answers: _Answers, report: Report, budget: Budget) -> None:
    before = bisect_right(answers.times_us, event.started_us) - 1
    if before >= 0 and (event.leader_epoch < 0 or event.leader_epoch >= answers.epochs[before]):
        end, at_us = answers.ends[before]
        if event.offset < end:
            _tell(event, end, at_us, answers, report, budget)
    answers.times_us.append(event.at_us)
    answers.epochs.append(max(event.leader_epoch, answers.epochs[-1] if answers.epochs else -1))
    largest = answers.ends[-1] if answers.ends else (-1, 0)
    answers.ends.append((event.offset, event.at_us) if event.offset > largest[0] else largest)


def _tell(event: EndTold, end: int, at_us: int, answers: _Answers, report: Report, budget: Budget) -> None:
    answers.told += 1
    if answers.told > _MOST_TOLD:
        return
    text = (
        f"{event.client} was told at {event.at_us / 1e6:.6f} s that {event.tp} ends at {event.offset}, "
        f"and at {at_us / 1e6:.6f} s that it ended at {end}"
    )
    excuse = budget.excuse(event.tp, end - 1, at_us) or (_DEPOSED if event.leader_epoch < 0 else None)
    cause = "a new leader told an end that was behind"
    report.tell("list-offsets-monotone", text, excuse, at_us=event.at_us, tp=event.tp, cause=cause)
