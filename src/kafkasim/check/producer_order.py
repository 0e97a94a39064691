"""What became of what producers sent: the order in the log, what failed and is there, what nobody knows, what never ended.

P2 failed-visible: definitely failed, and yet in the log, or given to somebody.
P4 send-reorder: i sent before j, and after it in the log.       P5 seq-gap: sequence numbers that do not follow one another.
P7 realtime-order: produced after something was acknowledged, and before it in the log.
P8 unknown-fate, a metric.       P9 key-split.       P10 send-termination.

Inputs:   the history, the logs.      Effects: findings.
Rule 1:   work is done per batch: the records of a batch share their producer, their partition and their neighbours.
Rule 2:   a time-out tells nothing: such a record breaks none of these promises, whether it is in the log or not.
Rule 3:   an order is judged between records that are both in the log; what was lost is told elsewhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

from kafkasim.check.budget import Budget
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.identity import BY_COLUMNS, Identity
from kafkasim.check.log_oracles import ACKS_ALL, LogView
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Delivered, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch

_MOST_TOLD = 5
#: A client looks for timed-out records once a second, and a report waits for the poll of its application.
TERMINATION_SLACK_US = 5_000_000
#: Whatever status the client gives with them: librdkafka takes NOT_LEADER_OR_FOLLOWER for proof that nothing was written, but a
#: request that waited for its followers when leadership moved is answered so as well, and the new leader may have the records.
_TELLS_NOTHING = frozenset({ErrorCode.NONE, ErrorCode._MSG_TIMED_OUT, ErrorCode.NOT_LEADER_OR_FOLLOWER})
#: Refused before anything was sent, or by the only attempt that could have written: such records are in no log.
_NEVER_SENT = frozenset(
    {
        ErrorCode._UNKNOWN_PARTITION,
        ErrorCode._UNKNOWN_TOPIC,
        ErrorCode._PURGE_QUEUE,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.INVALID_RECORD,
    }
)

#: One producer and one partition.
_Line: TypeAlias = "tuple[str, TopicPartition]"


def check_producers(
    events: Sequence[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
    identity: Identity = BY_COLUMNS,
    budget: Budget | None = None,
    guarantees: Iterable[Guarantee] = (),
) -> None:
    """P2, P4, P5, P7, P8, P9 and P10: one pass over the delivery reports, and a closer look at what it finds. O(batches)."""
    budget = budget or Budget(())
    sent = _Sent()
    for event in events:
        if type(event) is Acked:
            sent.take(event)
    present = _Present(logs, identity)
    _check_order(sent, present, report, budget)
    _check_realtime(sent, present, report, budget)
    if sent.failed:
        _check_failed(sent, events, logs, report, identity)
    _check_ends(sent, report)
    check_sequences(logs, report, budget)
    _check_keys(sent, guarantees, report)


@attrs.define(slots=True, eq=False)
class _Sent:
    """What was told of each partition, and who has to be looked at closely."""

    placed: dict[TopicPartition, list[Acked]] = attrs.field(factory=dict)
    failed: list[Acked] = attrs.field(factory=list)
    #: Per producer and partition: the last number and offset; and those lines whose batches were not told in order.
    last: dict[_Line, tuple[int, int]] = attrs.field(factory=dict)
    unordered: dict[_Line, None] = attrs.field(factory=dict)
    #: Partitions in which something was produced after an acknowledgement of something with a larger offset.
    overtaken: dict[TopicPartition, None] = attrs.field(factory=dict)
    newest: dict[TopicPartition, tuple[int, int]] = attrs.field(factory=dict)
    #: Per producer whose every end is told: the highest number, and how many of them were seen; who is late.
    seen: dict[str, _Numbers] = attrs.field(factory=dict)

    def take(self, event: Acked) -> None:
        if event.timeout_us > 0 and event.number > 0:
            numbers = self.seen.get(event.client)
            if numbers is None:
                numbers = self.seen[event.client] = _Numbers(event.timeout_us)
            numbers.take(event)
        if event.error is not ErrorCode.NONE or event.base_offset < 0:
            if event.error is not ErrorCode.NONE:
                self.failed.append(event)
            return
        tp, offset = event.tp, event.base_offset
        batches = self.placed.get(tp)
        if batches is None:
            batches = self.placed[tp] = []
        batches.append(event)
        line = (event.client, tp)
        number, at = event.number, offset + event.start
        before = self.last.get(line)
        if before is not None and (number < before[0] or at < before[1]):
            self.unordered[line] = None
        self.last[line] = (number, at)
        # Offsets that rise as they are told cannot have been overtaken.
        highest = self.newest.get(tp)
        if highest is not None and at < highest[0]:
            self.overtaken[tp] = None
        else:
            self.newest[tp] = (at, event.at_us)


@attrs.define(slots=True, eq=False)
class _Numbers:
    """Which batches of a producer have an end. In order they come, so gaps are kept, not numbers."""

    timeout_us: int
    next: int = 1
    ahead: dict[int, Acked] = attrs.field(factory=dict)
    late: list[Acked] = attrs.field(factory=list)
    #: When ends were known, each not before the one in front; and when the last batch so far was produced.
    resolved: list[int] = attrs.field(factory=list)

    def take(self, event: Acked) -> None:
        if event.number == self.next:
            self.next += 1
            while self.ahead and self.next in self.ahead:
                del self.ahead[self.next]
                self.next += 1
        elif event.number > self.next:
            self.ahead[event.number] = event
        if event.resolved_us >= 0:
            if not self.resolved or event.resolved_us > self.resolved[-1]:
                self.resolved.append(event.resolved_us)
            if event.sent_us >= 0 and event.resolved_us - event.sent_us > self.timeout_us + TERMINATION_SLACK_US:
                self.late.append(event)


class _Present:
    """Is an acknowledged batch in the log? Where no log is known, or it was compacted, nobody says that it is not."""

    def __init__(self, logs: Mapping[TopicPartition, LogView], identity: Identity) -> None:
        self._logs = logs
        self._identity = identity
        self._at: dict[TopicPartition, dict[int, object]] = {}

    def __contains__(self, event: object) -> bool:
        assert isinstance(event, Acked)
        view = self._logs.get(event.tp)
        if view is None or view.is_compacted or event.base_offset < view.start_offset or not view.has_leader:
            return True
        found = self._at.get(event.tp)
        if found is None:
            found = self._at[event.tp] = {batch.base_offset: self._identity.of(batch) for batch in view.batches}
        return found.get(event.base_offset) == self._identity.of(event.batch)

    def promises(self, tp: TopicPartition) -> bool:
        view = self._logs.get(tp)
        return view is None or view.promises_acked


# --- order -----------------------------------------------------------------------------------------------------------


def _check_order(sent: _Sent, present: _Present, report: Report, budget: Budget) -> None:
    """P4, in the lines that the first look found out of order."""
    for client, tp in sent.unordered:
        batches = [event for event in sent.placed[tp] if event.client == client and event.number >= 0]
        batches.sort(key=lambda event: (event.number, event.start))
        highest: Acked | None = None
        told = 0
        for event in batches:
            if event not in present:
                continue
            if highest is None or event.base_offset + event.start > highest.base_offset + highest.start:
                highest = event
                continue
            told += 1
            if told <= _MOST_TOLD:
                _tell_order(event, highest, report, budget)


def _tell_order(event: Acked, earlier: Acked, report: Report, budget: Budget) -> None:
    at, before = event.base_offset + event.start, earlier.base_offset + earlier.start
    if at == before:
        return  # Two acknowledgements of one offset: P6, or P1.
    text = f"{event.tp}: what {event.client} produced at offset {before} comes after what it produced later, at {at}"
    excuse = None
    if not event.idempotent and event.in_flight != 1:
        excuse = "a retry may overtake: neither enable.idempotence nor one request in flight"
    excuse = excuse or budget.excuse(event.tp, at, event.at_us)
    cause = "a retried batch was overtaken" if not event.idempotent else "idempotent batches out of order"
    report.tell("send-reorder", text, excuse, at_us=event.at_us, tp=event.tp, cause=cause)


def _check_realtime(sent: _Sent, present: _Present, report: Report, budget: Budget) -> None:
    """P7, where something was told with a smaller offset than something before: by offset, what was invoked last before."""
    for tp in sent.overtaken:
        batches = [event for event in sent.placed[tp] if event in present]
        batches.sort(key=lambda event: (event.base_offset, event.start))
        latest: Acked | None = None
        told = 0
        for event in batches:
            if latest is not None and event.at_us < latest.sent_us and event.base_offset > latest.base_offset:
                told += 1
                if told <= _MOST_TOLD:
                    _tell_realtime(event, latest, present, report, budget)
            if event.sent_us >= 0 and (latest is None or event.sent_us > latest.sent_us):
                latest = event


def _tell_realtime(event: Acked, later: Acked, present: _Present, report: Report, budget: Budget) -> None:
    text = (
        f"{event.tp}: offset {later.base_offset} was produced by {later.client} at {later.sent_us / 1e6:.6f} s, after offset "
        f"{event.base_offset} had been acknowledged to {event.client} at {event.at_us / 1e6:.6f} s"
    )
    excuse = budget.excuse(event.tp, later.base_offset, event.at_us)
    if event.acks != ACKS_ALL or later.acks != ACKS_ALL or not present.promises(event.tp):
        excuse = excuse or "one copy was promised"
    cause = "the log went back behind an acknowledgement"
    report.tell("realtime-order", text, excuse, at_us=later.at_us, tp=event.tp, cause=cause)


# --- failures and unknown fates ----------------------------------------------------------------------------------------


def is_definite(event: Acked) -> bool:
    """Did the record fail for sure?"""
    if event.error in _NEVER_SENT:
        return True
    return event.error not in _TELLS_NOTHING and event.persisted == 0


def _check_failed(
    sent: _Sent,
    events: Iterable[HistoryEvent],
    logs: Mapping[TopicPartition, LogView],
    report: Report,
    identity: Identity,
) -> None:
    """P2 and P8: look for what failed in the logs, and in what consumers were given."""
    wanted = {_name(event.batch, identity) for event in sent.failed}
    places: dict[object, dict[tuple[TopicPartition, int], None]] = {}
    for tp, view in logs.items():
        for batch in view.batches:
            name = _name(batch, identity)
            if name in wanted:
                places.setdefault(name, {})[tp, batch.base_offset] = None
    for event in events:
        if type(event) is Delivered:
            batch = event.batch
            name = _name(batch, identity)
            if name in wanted:
                places.setdefault(name, {})[event.tp, batch.base_offset] = None
    others: dict[object, int] = {}
    if not identity.is_unique:
        for batches in sent.placed.values():
            for event in batches:
                name = _name(event.batch, identity)
                others[name] = others.get(name, 0) + (name in wanted)
        for event in sent.failed:
            others[_name(event.batch, identity)] = others.get(_name(event.batch, identity), 0) + (
                not is_definite(event)
            )
    fates = {"in the log": 0, "not in the log": 0}
    for event in sent.failed:
        name = _name(event.batch, identity)
        found = list(places.get(name, ()))
        if not is_definite(event):
            fates["in the log" if found else "not in the log"] += event.stop - event.start
        elif len(found) > others.get(name, 0):
            tp, offset = found[0]
            text = f"{tp} offset {offset}: {event.client} was told that it failed ({event.error.name})"
            cause = f"written although {event.error.name}"
            report.add("failed-visible", text, at_us=event.at_us, tp=tp, cause=cause)
    for where, number in fates.items():
        if number:
            report.measure(f"unknown-fate: records that timed out and are {where}", number)


def _name(batch: RecordBatch, identity: Identity) -> object:
    return identity.of(batch), None if identity.is_unique else batch.max_timestamp_ms


# --- ends ------------------------------------------------------------------------------------------------------------


def _check_ends(sent: _Sent, report: Report) -> None:
    """P10: late, while the producer learned of other ends; or never, although others that are due later have ended."""
    for client, numbers in sent.seen.items():
        bound_us = numbers.timeout_us + TERMINATION_SLACK_US
        for event in numbers.late[:_MOST_TOLD]:
            due_us = event.sent_us + bound_us
            index = bisect_right(numbers.resolved, due_us)
            if index < len(numbers.resolved) and numbers.resolved[index] < event.resolved_us - TERMINATION_SLACK_US:
                text = f"{client} knew the end of {event.tp} batch {event.number} {_seconds(event.resolved_us - event.sent_us)} after"
                _tell_end(text, numbers, report, event.tp)
        if numbers.ahead and numbers.resolved:
            first = min(numbers.ahead)
            produced_us = numbers.ahead[first].sent_us
            if produced_us >= 0 and numbers.resolved[-1] > produced_us + bound_us:
                missing = (
                    f"batches {numbers.next}..{first - 1}" if first - 1 > numbers.next else f"batch {numbers.next}"
                )
                text = f"{client} never knew the end of {missing}"
                _tell_end(f"{text} {_seconds(numbers.resolved[-1] - produced_us)} after", numbers, report, None)


def _tell_end(text: str, numbers: _Numbers, report: Report, tp: TopicPartition | None) -> None:
    said = f"{text} it was produced; delivery.timeout.ms is {numbers.timeout_us // 1000}"
    report.add("send-termination", said, tp=tp, cause="no end within delivery.timeout.ms")


def _seconds(us: int) -> str:
    return f"{us / 1e6:.3f} s"


# --- sequences and keys --------------------------------------------------------------------------------------------------


def check_sequences(logs: Mapping[TopicPartition, LogView], report: Report, budget: Budget | None = None) -> None:
    """P5: within one producer epoch, a batch begins where the last one ended, modulo 2^31. O(batches)."""
    budget = budget or Budget(())
    for tp, view in logs.items():
        if view.is_compacted or view.is_observed:
            continue
        expected: dict[tuple[int, int], int] = {}
        for batch in view.batches:
            if batch.base_sequence < 0:
                continue
            writer = (batch.producer_id, batch.producer_epoch)
            sequence = batch.base_sequence
            after = expected.get(writer)
            if after is not None and after != sequence:
                text = f"{tp} offset {batch.base_offset}: sequence {sequence} of producer {writer[0]}, epoch {writer[1]}, after {after - 1}"
                excuse = budget.excuse(tp, batch.base_offset, 0)
                if not view.promises_acked:
                    excuse = excuse or "one copy was promised"
                cause = "a sequence is missing" if (sequence - after) & 0x7FFFFFFF < 1 << 30 else "a sequence came back"
                report.tell("seq-gap", text, excuse, tp=tp, cause=cause)
            expected[writer] = (sequence + batch.count) & 0x7FFFFFFF


def _check_keys(sent: _Sent, guarantees: Iterable[Guarantee], report: Report) -> None:
    """P9, for the topics of groups that promise an order by key: it holds within a partition only. O(records) of those."""
    promised = {topic: guarantee for guarantee in guarantees if guarantee.ordered_by_key for topic in guarantee.topics}
    homes: dict[str, dict[bytes, int]] = {}
    split: dict[str, dict[bytes, tuple[TopicPartition, int, int]]] = {}
    for tp, batches in sent.placed.items() if promised else ():
        if tp.topic not in promised:
            continue
        own = homes.setdefault(tp.topic, {})
        known: set[bytes | None] = {None}
        for event in batches:
            keys = event.batch.columns.keys[event.start : event.stop]
            if known.issuperset(keys):
                continue
            known.update(keys)
            for key in dict.fromkeys(keys):
                if key is not None and own.setdefault(key, tp.partition) != tp.partition:
                    split.setdefault(tp.topic, {}).setdefault(key, (tp, own[key], event.at_us))
    for topic, found in split.items():
        whom = promised[topic].whom
        for key, (tp, home, at_us) in list(found.items())[:_MOST_TOLD]:
            text = f"{topic}: records of key {key!r} are in partitions {home} and {tp.partition}; {whom} promised an order by key"
            report.add("key-split", text, at_us=at_us, tp=tp, cause="a key in two partitions")
        if len(found) > _MOST_TOLD:
            text = f"{topic}: {len(found) - _MOST_TOLD} more keys like these"
            report.add("key-split", text, cause="a key in two partitions")
