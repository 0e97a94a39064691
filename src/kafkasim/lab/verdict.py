"""From measurements to a result: what was lost and why, how long recovery took, which promises were kept.

Rule 1:   only acknowledged records can be lost; a record that waits in the log is pending, however long it waits.
Rule 2:   a group has recovered from a fault when its lag is back to one and a half times what it was in the ten seconds before (or to
          two seconds' worth of arrivals), and stays there for five seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from kafkasim.core.client.accumulator import DeliveryReport
from kafkasim.core.model.history import REJECT
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import Columns, RecordBatch
from kafkasim.lab.design import Processing, Promises
from kafkasim.lab.measure import GroupMeasure
from kafkasim.lab.ranges import missing
from kafkasim.lab.result import FaultResult, GroupResult, LossResult, PromiseResult

_BEFORE_US = 10_000_000
_NOTICED_WITHIN_US = 30_000_000
_STAYS_US = 5_000_000
_MARGIN = 1.5

_Add: TypeAlias = "Callable[[str, bool, str], None]"

HARMFUL = ("crash", "power_loss", "shutdown", "pause", "partition", "slow", "disk_slow", "disk_full", "disk_fail")


class LogAtEnd:
    """One partition as the run left it."""

    def __init__(self, batches: Sequence[RecordBatch], start_offset: int, has_leader: bool) -> None:
        self.batches = batches
        self.start_offset = start_offset
        self.has_leader = has_leader
        self.columns: dict[Columns, None] = dict.fromkeys(batch.columns for batch in batches)


def not_in_log(reports: Iterable[DeliveryReport], logs: Mapping[TopicPartition, LogAtEnd]) -> list[DeliveryReport]:
    """What was acknowledged and is not in the log now; the same for every group."""
    return [report for report in reports if report.tp in logs and report.batch.columns not in logs[report.tp].columns]


def losses(
    measure: GroupMeasure,
    topics: Sequence[str],
    logs: Mapping[TopicPartition, LogAtEnd],
    gone: Iterable[DeliveryReport],
    committed: Mapping[TopicPartition, int],
    in_hand: Mapping[TopicPartition, int],
) -> LossResult:
    """``gone``: as ``not_in_log`` says. ``committed``: the group's offsets. ``in_hand``: where a living member's unfinished work
    begins, which no commit skips.
    """
    result = LossResult()
    for tp, log in logs.items():
        if tp.topic in topics:
            resumes_at = min(committed.get(tp, 0), in_hand.get(tp, committed.get(tp, 0)))
            _count_unread(measure, log, resumes_at, result)
    for report in gone:
        if report.tp.topic not in topics:
            continue
        log = logs[report.tp]
        seen = measure.seen.get(report.batch.columns, ())
        count = sum(stop - start for start, stop in missing(seen, report.start, report.stop))
        if not log.has_leader:
            result.unavailable += count
        elif 0 <= report.base_offset + report.stop <= log.start_offset:
            result.deleted += count
        else:
            result.lost_by_cluster += count
    return result


def _count_unread(measure: GroupMeasure, log: LogAtEnd, resumes_at: int, result: LossResult) -> None:
    """What the log holds and the group has not worked on: behind its committed offset, or still ahead of it."""
    seen = measure.seen
    for batch in log.batches:
        columns = batch.columns
        known = seen.get(columns, ())
        count = len(columns.values)
        if known == (0, count) or batch.is_control:
            continue
        for start, stop in missing(known, 0, count):
            behind = max(0, min(stop, batch.index_from(resumes_at)) - start)
            result.skipped += behind
            result.pending += stop - start - behind


def share_losses(
    measure: GroupMeasure,
    topics: Sequence[str],
    logs: Mapping[TopicPartition, LogAtEnd],
    gone: Iterable[DeliveryReport],
    over: Mapping[TopicPartition, Mapping[int, str]],
    starts: Mapping[TopicPartition, int],
) -> LossResult:
    """Of a share group. ``over``: offsets that were archived, and why; ``starts``: before which everything is over."""
    result = losses(measure, topics, logs, gone, starts, {})
    for tp, archived in over.items():
        log = logs.get(tp)
        for batch in log.batches if log is not None and tp.topic in topics else ():
            known = measure.seen.get(batch.columns, ())
            count = len(batch.columns.values)
            if known == (0, count) or batch.is_control:
                continue
            for start, stop in missing(known, 0, count):
                for offset in map(batch.offset_at, range(start, stop)):
                    why = archived.get(offset)
                    if why is None:
                        continue
                    if offset < starts.get(tp, 0):
                        result.skipped -= 1
                    else:
                        result.pending -= 1
                    if why == REJECT:
                        result.rejected += 1
                    else:
                        result.archived += 1
    return result


# --- Recovery ----------------------------------------------------------------------------------------------------------


def recovery_us(lags: Sequence[tuple[int, int]], fault_us: int, until_us: int, floor: int) -> int | None:
    """How long after ``fault_us`` the lag was back to normal for good; 0: it never left it; None: not before ``until_us``."""
    before = [lag for at_us, lag in lags if fault_us - _BEFORE_US <= at_us < fault_us]
    limit = max(floor, int(_MARGIN * max(before, default=0)))
    window = [(at_us, lag) for at_us, lag in lags if fault_us <= at_us < until_us]
    noticed = next((at_us for at_us, lag in window if lag > limit and at_us <= fault_us + _NOTICED_WITHIN_US), None)
    if noticed is None:
        return 0
    calm_since: int | None = None
    for at_us, lag in window:
        if at_us < noticed or lag > limit:
            calm_since = None
        elif calm_since is None:
            calm_since = at_us
        if calm_since is not None and at_us - calm_since >= _STAYS_US:
            break
    return None if calm_since is None else calm_since - fault_us


def back_us(changes: Sequence[tuple[int, int]], fault_us: int, end_us: int) -> int | None:
    """When a count that changed at these times was first 0 again after ``fault_us``; 0 if it was not above 0 within 30 s of it."""
    value, raised = 0, False
    for at_us, count in changes:
        if at_us <= fault_us:
            value = count
        elif not raised and count > 0 and at_us <= fault_us + _NOTICED_WITHIN_US:
            raised = True
        elif count == 0 and (raised or value > 0):
            return at_us - fault_us
    return None if raised or value > 0 else 0


# --- Promises ------------------------------------------------------------------------------------------------------------


def judge(
    group: GroupResult, promises: Promises, faults: Sequence[FaultResult], allowed_losses: str
) -> list[PromiseResult]:
    """Each promise of a group: kept or broken, and why."""
    results = []

    def add(promise: str, kept: bool, reason: str) -> None:
        results.append(PromiseResult(group.name, promise, kept, reason))

    loss = group.loss
    if promises.at_least_once:
        add("at_least_once", loss.lost == 0 and loss.unavailable == 0, loss_reason(loss, allowed_losses))
    if promises.no_loss:
        gone = loss.lost_by_cluster + loss.deleted + loss.unavailable
        add(
            "no_loss",
            gone == 0,
            loss_reason(LossResult(loss.lost_by_cluster, loss.deleted, 0, loss.unavailable), allowed_losses),
        )
    if promises.no_archived and group.share is not None:
        reason = f"{loss.archived:,} were" if loss.archived else "none was"
        add("no_archived", loss.archived == 0, f"{reason} archived without having been worked on")
    if promises.no_duplicates:
        reason = (
            f"{group.duplicated:,} records were worked on again" if group.duplicated else "nothing was worked on twice"
        )
        add("no_duplicates", group.duplicated == 0, reason)
    for name, limit, found in (
        ("max_lag", promises.max_lag, group.max_lag),
        ("final_lag", promises.final_lag, group.final_lag),
    ):
        if limit is not None:
            add(f"{name} <= {limit:,}", found <= limit, f"it was {found:,} records")
    if promises.latency_p99_us is not None:
        limit_ms = promises.latency_p99_us / 1000
        p99 = group.latency_p99_ms
        add(f"latency_p99 <= {limit_ms:g} ms", p99 is not None and p99 <= limit_ms, f"it was {p99} ms")
    if promises.max_stall_us is not None:
        limit_s = promises.max_stall_us / 1e6
        reason = f"the longest was {group.longest_stall_s:.1f} s, at {group.stalled_at_s:.1f} s"
        add(f"max_stall <= {limit_s:g} s", group.longest_stall_s <= limit_s, reason)
    if promises.recovery_us is not None:
        _judge_recovery(group, promises.recovery_us / 1e6, faults, add)
    return results


def _judge_recovery(group: GroupResult, limit_s: float, faults: Sequence[FaultResult], add: _Add) -> None:
    worst, worst_fault, is_kept = 0.0, None, True
    for fault in faults:
        if fault.what not in HARMFUL:
            continue
        took_s = fault.groups.get(group.name)
        if took_s is None:
            add(
                f"recovery <= {limit_s:g} s",
                False,
                f"never after the {fault.what} of {fault.target} at {fault.at_s:g} s",
            )
            return
        if took_s >= worst:
            worst, worst_fault = took_s, fault
        is_kept = is_kept and took_s <= limit_s
    reason = "no harm was done"
    if worst_fault is not None:
        reason = f"the slowest took {worst:.1f} s, after the {worst_fault.what} of {worst_fault.target}"
    add(f"recovery <= {limit_s:g} s", is_kept, reason)


def loss_reason(loss: LossResult, allowed_losses: str) -> str:
    """What became of the records, for people."""
    parts = []
    if loss.lost_by_cluster:
        why = f" ({allowed_losses})" if allowed_losses else ""
        parts.append(f"{loss.lost_by_cluster:,} were acknowledged and are in no log any more{why}")
    if loss.deleted:
        parts.append(f"{loss.deleted:,} were deleted by retention before they were read")
    if loss.skipped:
        parts.append(f"{loss.skipped:,} are in the log, behind the committed offset, and were never worked on")
    if loss.unavailable:
        parts.append(f"{loss.unavailable:,} are in partitions without a live leader")
    if loss.archived:
        parts.append(f"{loss.archived:,} were archived by the share group (not lost, given up)")
    if loss.rejected:
        parts.append(f"{loss.rejected:,} were rejected by its members")
    if loss.pending:
        parts.append(f"{loss.pending:,} are in the log and not worked on yet (not lost)")
    return "; ".join(parts) or "every acknowledged record was worked on"


def processing_text(processing: Processing, handler: str | None) -> str:
    """What the work costs, for people."""
    parts = [f"handler {handler}"] if handler else []
    if processing.per_batch_us:
        parts.append(f"{processing.per_batch_us / 1000:g} ms a batch")
    if processing.per_record_us:
        kind = "" if processing.distribution == "constant" else f" {processing.distribution}"
        tail = f", p99 {processing.p99_us / 1000:g} ms" if processing.p99_us else ""
        parts.append(f"{processing.per_record_us / 1000:g} ms a record{kind}{tail}")
    return " + ".join(parts) or "none"
