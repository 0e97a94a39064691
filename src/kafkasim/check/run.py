"""Run every oracle over one history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafkasim.check.branches import check_branches, check_copies
from kafkasim.check.budget import Budget
from kafkasim.check.commits import check_commits
from kafkasim.check.compaction import check_compaction
from kafkasim.check.completeness import check_completeness
from kafkasim.check.consumer_oracles import check_consistency, check_deliveries
from kafkasim.check.disruptions import measure_disruptions
from kafkasim.check.effects import check_effects
from kafkasim.check.ends import check_ends
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.identity import BY_COLUMNS, Identity
from kafkasim.check.log_oracles import LogView, budget_of, check_acked, check_duplicates
from kafkasim.check.lost_writes import check_lost_writes
from kafkasim.check.ownership import check_assignments, check_owners
from kafkasim.check.positions import check_positions, measure_reading
from kafkasim.check.producer_order import check_producers
from kafkasim.check.report import Report
from kafkasim.check.share import check_share, share_groups
from kafkasim.check.unseen import check_names
from kafkasim.check.work import read_work
from kafkasim.core.model.history import HistoryEvent
from kafkasim.core.model.ids import TopicPartition


def check_history(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    identity: Identity = BY_COLUMNS,
    guarantees: Sequence[Guarantee] = (),
    budget: Budget | None = None,
    now_us: int | None = None,
) -> Report:
    """Judge a finished run: its events, each partition's log as it is now, and what was promised besides.

    ``BY_CONTENT`` is for histories of real clients. ``budget``: what the faults of the run excuse, if somebody knows it already.
    ``now_us``: when the logs were looked at.
    """
    report = Report()
    no_loss = frozenset(topic for guarantee in guarantees if guarantee.no_loss for topic in guarantee.topics)
    work = read_work(events, guarantees)
    # What clients and servers did; user code's effects, of which there may be one a record, are in ``work``.
    rest = work.rest
    budget = budget or budget_of(rest, logs)
    check_acked(rest, logs, report, identity, no_loss, budget)
    check_duplicates(rest, logs, report, identity)
    check_compaction(rest, logs, report, budget, now_us)
    check_deliveries(rest, logs, report, budget)
    check_ends(rest, report, budget)
    check_consistency(rest, logs, report, identity, budget)
    check_producers(rest, logs, report, identity, budget, guarantees)
    check_positions(rest, logs, report, identity)
    known = frozenset(tp for tp, view in logs.items() if not view.is_observed)
    compacted = frozenset(tp.topic for tp, view in logs.items() if view.is_compacted)
    check_lost_writes(rest, known, report, identity, compacted)
    measure_reading(rest, report)
    measure_disruptions(rest, report)
    check_owners(rest, report)
    check_assignments(rest, report, budget)
    check_completeness(rest, report, now_us)
    check_commits(rest, report, budget)
    check_effects(events, logs, guarantees, report, work)
    check_branches(events, logs, guarantees, report, work)
    check_copies(rest, logs, guarantees, report)
    if share_groups(rest):
        check_share(events, guarantees, report, identity)
    report.sort()
    check_names(events, rest, logs, guarantees, report)
    return report
