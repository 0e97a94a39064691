"""What producers sent: each checker against its definition on random histories, and by hand where it matters."""

from __future__ import annotations

import random
from itertools import pairwise

from tests.unit.check.histories import ELSEWHERE, TP, acked, batch, draws, failed, given

from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.producer_order import TERMINATION_SLACK_US, check_producers, check_sequences
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch

SOUND = {"min_insync_replicas": 2, "replication_factor": 3}


def view(*batches: RecordBatch) -> LogView:
    return LogView(sorted(batches, key=lambda each: each.base_offset), **SOUND)


def found(events: list[HistoryEvent], logs: dict[TopicPartition, LogView], *promises: Guarantee) -> Report:
    report = Report()
    check_producers(events, logs, report, guarantees=promises)
    return report


def orders(draw: random.Random) -> tuple[list[HistoryEvent], LogView]:
    """Two producers whose batches get offsets, times and numbers in any order; some of them are lost."""
    places = list(range(draw.randrange(2, 7)))
    draw.shuffle(places) if draw.random() < 0.5 else None
    numbers = {"p": 0, "q": 0}
    events: list[HistoryEvent] = []
    kept = []
    clock = 0
    for place in places:
        client = draw.choice("ppq")
        numbers[client] += 1
        placed = batch(draw.randrange(1, 3), place * 10)
        sent_us = clock + draw.randrange(4)
        told_us = sent_us + draw.randrange(1, 12)
        clock += draw.randrange(5)
        settings = {"number": numbers[client], "sent_us": sent_us, "in_flight": 5}
        if placed.count > 1 and draw.random() < 0.3:
            events.append(acked(told_us, placed, client, start=0, stop=1, **settings))
            events.append(acked(told_us + 1, placed, client, start=1, stop=2, **settings))
        else:
            events.append(acked(told_us, placed, client, **settings))
        if draw.random() < 0.9:
            kept.append(placed)
    events.sort(key=lambda event: event.at_us)
    return events, view(*kept)


def records(events: list[HistoryEvent], log: LogView) -> list[tuple[Acked, int, int]]:
    """(report, offset, index) of every acknowledged record that is in the log."""
    there = {each.base_offset for each in log.batches}
    return [
        (event, event.base_offset + index, index)
        for event in events
        if isinstance(event, Acked) and event.base_offset in there
        for index in range(event.start, event.stop)
    ]


def test_send_reorder_is_its_definition() -> None:
    """P4: of one producer, two records in the log whose offsets are not in the order in which they were produced."""
    broken = 0
    for draw in draws("send-reorder"):
        events, log = orders(draw)
        sent = records(events, log)
        expected = any(
            a.client == b.client and (a.number, i) < (b.number, j) and off_a > off_b
            for a, off_a, i in sent
            for b, off_b, j in sent
        )
        broken += expected
        assert bool(found(events, {TP: log}).of("P4")) == expected
    assert broken


def test_realtime_order_is_its_definition() -> None:
    """P7: a record was acknowledged before another one was produced, and comes after it."""
    broken = 0
    for draw in draws("realtime-order"):
        events, log = orders(draw)
        sent = records(events, log)
        expected = any(a.at_us < b.sent_us and off_a > off_b for a, off_a, _ in sent for b, off_b, _ in sent)
        broken += expected
        assert bool(found(events, {TP: log}).of("P7")) == expected
    assert broken


def test_failed_visible_and_unknown_fate_are_their_definitions() -> None:
    """P2: something that failed for sure is in a log or was given to somebody. P8: how many of the others are."""
    broken = 0
    for draw in draws("failed-visible"):
        sent = [batch(draw.randrange(1, 3)) for _ in range(draw.randrange(1, 5))]
        log, events = [], []
        expected_breach, fates = False, {"in the log": 0, "not in the log": 0}
        for number, each in enumerate(sent):
            error = draw.choice([ErrorCode._MSG_TIMED_OUT, ErrorCode._PURGE_QUEUE, ErrorCode._UNKNOWN_PARTITION])
            persisted = 0 if error is not ErrorCode._MSG_TIMED_OUT else draw.randrange(2)
            events.append(failed(number, each, error, persisted))
            is_stored, is_given = draw.random() < 0.3, draw.random() < 0.2
            if is_stored:
                log.append(each.placed(number * 10, 0))
            if is_given:
                events.append(given(number, each.placed(number * 10, 0)))
            if persisted == 0 and error is not ErrorCode._MSG_TIMED_OUT:
                expected_breach |= is_stored or is_given
            else:
                fates["in the log" if is_stored or is_given else "not in the log"] += each.count
        report = found(events, {TP: view(*log)})
        broken += expected_breach
        assert bool(report.of("P2")) == expected_breach
        for where, number in fates.items():
            assert report.metrics.get(f"unknown-fate: records that timed out and are {where}", 0) == number
    assert broken


def test_seq_gap_is_its_definition() -> None:
    """P5: of one producer epoch, two batches that follow one another in the log and not in sequence, modulo 2^31."""
    broken = 0
    for draw in draws("seq-gap"):
        log, at = [], 0
        following = {(1, 0): draw.choice([0, (1 << 31) - 3]), (1, 1): 0, (2, 0): 0}
        for _ in range(draw.randrange(1, 8)):
            writer = draw.choice(list(following))
            placed = batch(draw.randrange(1, 4), at)
            placed.producer_id, placed.producer_epoch = writer
            placed.base_sequence = (following[writer] + draw.choice([0, 0, 0, 0, 1, -1])) & 0x7FFFFFFF
            following[writer] = (placed.base_sequence + placed.count) % (1 << 31)
            at += placed.count
            log.append(placed)
        expected = any(
            (first.base_sequence + first.count) % (1 << 31) != second.base_sequence
            for writer in following
            for first, second in pairwise([e for e in log if (e.producer_id, e.producer_epoch) == writer])
        )
        report = Report()
        check_sequences({TP: view(*log)}, report)
        broken += expected
        assert bool(report.findings) == expected
    assert broken


def test_key_split_is_its_definition() -> None:
    """P9: a key with acknowledged records in two partitions, where somebody promised an order by key."""
    broken = 0
    promise = Guarantee("g", ("orders",), ordered_by_key=True)
    for draw in draws("key-split"):
        events: list[HistoryEvent] = []
        for at_us in range(draw.randrange(1, 6)):
            keys = [draw.choice([b"a", b"b", b"c", None]) for _ in range(draw.randrange(1, 3))]
            tp = draw.choice([TP, TP, ELSEWHERE])
            events.append(acked(at_us, batch(len(keys), at_us * 10, keys=keys), tp=tp))
        homes = {(key, e.tp) for e in events if isinstance(e, Acked) for key in e.batch.columns.keys if key is not None}
        expected = len(homes) > len({key for key, _ in homes})
        broken += expected
        assert bool(found(events, {}, promise).of("P9")) == expected
        assert found(events, {}).ok
    assert broken


def test_send_termination_is_its_definition() -> None:
    """P10: an end is late, or never comes, while the producer learns of other ends that were due later than it."""
    timeout_us, slack_us = 10_000_000, TERMINATION_SLACK_US
    broken = 0
    for draw in draws("send-termination"):
        sends = []
        sent_us = 0
        for number in range(1, draw.randrange(2, 6)):
            sent_us += draw.randrange(9_000_000)
            ends = draw.choice([0, 0, 0, 14_000_000, 30_000_000, None])
            sends.append((number, sent_us, None if ends is None else sent_us + ends))
        events: list[HistoryEvent] = [
            acked(end, batch(1, number), number=number, sent_us=sent, resolved_us=end, timeout_us=timeout_us)
            for number, sent, end in sorted(sends, key=lambda send: send[2] or 0)
            if end is not None
        ]
        ends = [end for _, _, end in sends if end is not None]
        late = any(
            end is not None
            and end - sent > timeout_us + slack_us
            and any(sent + timeout_us + slack_us < other < end - slack_us for other in ends)
            for _, sent, end in sends
        )
        told = [number for number, _, end in sends if end is not None]
        missing = [number for number, _, end in sends if end is None and told and number < max(told)]
        next_told = min((number for number in told if missing and number > missing[0]), default=0)
        # When the missing one was produced nobody knows; not after the next one that is known.
        first_missing = min((n for n in range(1, max(told, default=0)) if n not in told), default=None)
        after = [(number, sent) for number, sent, end in sends if end is not None and number > (first_missing or 0)]
        never = bool(missing) and max(ends) > min(after)[1] + timeout_us + slack_us
        assert not missing or min(after)[0] == next_told
        broken += late or never
        assert bool(found(events, {}).of("P10")) == (late or never), sends
    assert broken


def test_without_promises_an_order_that_broke_is_allowed() -> None:
    """A retry may overtake where neither idempotence nor one request in flight was asked for."""
    events: list[HistoryEvent] = [
        acked(1, batch(1, 5), number=1, idempotent=False, in_flight=5),
        acked(2, batch(1, 4), number=2, idempotent=False, in_flight=5),
    ]
    report = found(events, {})
    assert report.ok
    assert [finding.invariant for finding in report.allowed] == ["send-reorder"]
    in_order = found([acked(1, batch(1, 5), number=1, idempotent=False, in_flight=1), *events[1:]], {})
    assert in_order.allowed
