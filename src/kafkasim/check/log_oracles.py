"""What became of records that were acknowledged: still there, there once, lost with or without leave.

Rule 1:   a batch is looked up by its ``Identity``, never compared with every other.
Rule 2:   a loss counts as a breach only where the settings promise the record: acks=all, and min.insync.replicas of two or more
          where there are several replicas, and where the run's faults stayed within its budget. Elsewhere it is told as allowed.

P1 acked-loss: acknowledged, not in the log although at or above its start.       P3 log-duplicate: one record at two offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from kafkasim.check.budget import Budget
from kafkasim.check.identity import BY_COLUMNS, Identity
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import LOG_APPEND_TIME, RecordBatch

ACKS_ALL = -1


@attrs.define(slots=True, eq=False)
class LogView:
    """A partition as it is at the end: the batches below the high watermark, where it starts, and what it promises."""

    batches: Sequence[RecordBatch]
    start_offset: int = 0
    min_insync_replicas: int = 1
    replication_factor: int = 1
    is_compacted: bool = False
    has_leader: bool = True
    allows_unclean: bool = False
    #: What the leader holds at or above the high watermark: there, and not to be seen yet.
    uncommitted: Sequence[RecordBatch] = ()
    #: Not a log, but what consumers were given of one: what is missing proves nothing.
    is_observed: bool = False
    #: Of a compacted topic: how long a tombstone stays at least.
    delete_retention_ms: int = 86_400_000

    @property
    def promises_acked(self) -> bool:
        return self.replication_factor > 1 and self.min_insync_replicas >= 2

    @property
    def end_offset(self) -> int | None:
        """Where the log ends; None where nobody can tell."""
        if not self.has_leader:
            return None
        return self.batches[-1].next_offset if self.batches else self.start_offset


def budget_of(events: Iterable[HistoryEvent], logs: Mapping[TopicPartition, LogView]) -> Budget:
    """The budget of a run, with the settings of its topics."""
    return Budget(
        events,
        {tp.topic: view.min_insync_replicas for tp, view in logs.items()},
        frozenset(tp.topic for tp, view in logs.items() if view.allows_unclean),
    )


def check_acked(
    events: Iterable[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
    identity: Identity = BY_COLUMNS,
    no_loss: frozenset[str] = frozenset(),
    budget: Budget | None = None,
) -> None:
    """P1 over every delivery report without an error. ``no_loss``: topics that promise it whatever their settings. O(events + batches)."""
    budget = budget or Budget(())
    at_offset = {
        tp: {batch.base_offset: batch for batches in (view.batches, view.uncommitted) for batch in batches}
        for tp, view in logs.items()
        if not view.is_compacted
    }
    for event in events:
        if not isinstance(event, Acked) or event.error is not ErrorCode.NONE or event.base_offset < 0:
            continue
        report.count("acknowledged records", event.stop - event.start)
        view = logs.get(event.tp)
        if view is None or view.is_compacted or not view.has_leader:
            continue
        if event.base_offset + event.stop <= view.start_offset:
            continue
        found = at_offset[event.tp].get(event.base_offset)
        if found is None or identity.of(found) != identity.of(event.batch):
            _tell_loss(event, view, report, budget, is_promised=event.tp.topic in no_loss)


def _tell_loss(event: Acked, view: LogView, report: Report, budget: Budget, *, is_promised: bool) -> None:
    first, last = event.base_offset + event.start, event.base_offset + event.stop - 1
    place = f"{event.tp} offset {first}" if first == last else f"{event.tp} offsets {first}..{last}"
    text = f"{place}, acknowledged to {event.client} at {event.at_us / 1e6:.6f} s, are not in the log"
    if is_promised:
        report.add("acked-loss", f"{text} (no_loss was promised)")
        return
    excuse = excuse_of(event, view, budget)
    cause = "acknowledged, and not in the log"
    report.tell("acked-loss", text, excuse, at_us=event.at_us, tp=event.tp, cause=cause)


def excuse_of(event: Acked, view: LogView, budget: Budget) -> str | None:
    """Why what was acknowledged need not be there: by the settings, or by what happened in the run; None: it is owed."""
    if event.acks != ACKS_ALL:
        return f"acks={event.acks} does not wait for replicas"
    min_insync = budget.min_insync(event.tp.topic, event.at_us, view.min_insync_replicas)
    if view.replication_factor < 2 or min_insync < 2:
        settings = f"replication factor {view.replication_factor}, min.insync.replicas {min_insync}"
        return f"{settings}: one copy was promised"
    return budget.excuse(event.tp, event.base_offset, event.at_us)


def check_duplicates(
    events: Iterable[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
    identity: Identity = BY_COLUMNS,
) -> None:
    """P3 over the logs. O(batches), and O(events) where records have to be told apart by how often they were sent."""
    if identity.is_unique:
        _check_copies(logs, report, identity)
    else:
        _check_counts(events, logs, report, identity)


def _check_copies(logs: Mapping[TopicPartition, LogView], report: Report, identity: Identity) -> None:
    """One identity at two offsets; whether idempotence was on, and in which session, is read from the batches' producer id and epoch."""
    for tp, view in logs.items():
        first_at: dict[object, RecordBatch] = {}
        for batch in view.batches:
            report.count("log batches")
            earlier = first_at.setdefault(identity.of(batch), batch)
            if earlier is not batch:
                is_one_session = (earlier.producer_id, earlier.producer_epoch) == (
                    batch.producer_id,
                    batch.producer_epoch,
                )
                _tell_duplicate(
                    tp,
                    earlier,
                    batch,
                    report,
                    is_idempotent=batch.producer_id >= 0,
                    is_one_session=is_one_session,
                )


@attrs.define(slots=True)
class _Sent:
    times: int = 0
    is_idempotent: bool = True


def _check_counts(
    events: Iterable[HistoryEvent], logs: Mapping[TopicPartition, LogView], report: Report, identity: Identity
) -> None:
    """More copies in the log than the history knows reports for; records that it knows nothing of are somebody else's."""
    sent: dict[object, _Sent] = {}
    for event in events:
        if isinstance(event, Acked):
            entry = sent.setdefault(_sent_key(event.tp, event.batch, identity), _Sent())
            entry.times += 1
            entry.is_idempotent &= event.idempotent
    for tp, view in logs.items():
        stored: dict[object, list[RecordBatch]] = {}
        for batch in view.batches:
            report.count("log batches")
            key = _sent_key(tp, batch, identity)
            known = sent.get(key)
            if known is None:
                continue
            copies = stored.setdefault(key, [])
            copies.append(batch)
            if len(copies) > known.times:
                _tell_duplicate(tp, copies[0], batch, report, is_idempotent=known.is_idempotent)


def _sent_key(tp: TopicPartition, batch: RecordBatch, identity: Identity) -> object:
    """A retry keeps the producer's timestamp, which tells apart most records that are otherwise equal."""
    stamp = None if batch.timestamp_type == LOG_APPEND_TIME else batch.max_timestamp_ms
    return tp, identity.of(batch), stamp


def _tell_duplicate(
    tp: TopicPartition,
    earlier: RecordBatch,
    batch: RecordBatch,
    report: Report,
    *,
    is_idempotent: bool,
    is_one_session: bool = True,
) -> None:
    """Idempotence holds within one epoch: after a time-out the producer begins a new one, and sends again what may be there."""
    text = f"{tp}: the {len(batch.columns)} record(s) at offset {earlier.base_offset} are at {batch.base_offset} again"
    if is_idempotent and is_one_session:
        report.add("log-duplicate", text)
    elif is_idempotent:
        report.allow("log-duplicate", f"{text} (in a new epoch of its producer, after a time-out)")
    else:
        report.allow("log-duplicate", f"{text} (a retry without enable.idempotence)")
