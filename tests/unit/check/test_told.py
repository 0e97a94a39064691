"""What clients were told, against what was committed: reads (B5) and acknowledgements (P11), and their definitions."""

from __future__ import annotations

import random

from tests.unit.check.histories import TP, acked, batch, draws, given

from kafkasim.check.budget import Budget
from kafkasim.check.committed import Truth
from kafkasim.check.replication_oracle import ReplicationOracle
from kafkasim.check.report import Report
from kafkasim.check.told import check_told
from kafkasim.core.model.history import Acked, Delivered, HistoryEvent
from kafkasim.core.model.records import RecordBatch

PLACES = 4


def oracle_of(truth: Truth) -> ReplicationOracle:
    """One that knows a single partition; its name is its id."""
    oracle = ReplicationOracle()
    oracle.truths[truth.key] = truth
    return oracle


def judged(truth: Truth, events: list[HistoryEvent], min_insync: int = 2) -> Report:
    report = Report()
    check_told(events, oracle_of(truth), report, Budget((), {TP.topic: min_insync}))
    return report


def run(draw: random.Random) -> tuple[list[HistoryEvent], Truth, list[list[RecordBatch]]]:
    """Batches of two records in two versions: one of each place may be committed at some time, by one to three replicas."""
    versions = [[batch(2, place * 2, version) for place in range(PLACES)] for version in (1, 2)]
    truth = Truth((TP.topic, TP.partition))
    at_us = 0
    for place in range(draw.randrange(PLACES + 1)):
        at_us += draw.randrange(3)
        truth.committed.append(draw.choice(versions)[place], at_us)
        truth.copied.append((place * 2, draw.randrange(1, 4), 3))
    truth.committed.start = draw.choice([0, 0, 0, 2])
    events: list[HistoryEvent] = []
    for moment in range(draw.randrange(1, 10)):
        placed = draw.choice(draw.choice(versions))
        if draw.random() < 0.5:
            events.append(acked(moment, placed))
        else:
            start = draw.choice([0, 1])
            events.append(given(moment, placed, start=start, stop=draw.randrange(start, 2) + 1))
    return events, truth, versions


def test_reads_and_acknowledgements_are_their_definitions() -> None:
    """B5: the very batch was committed by then. P11: the same records were, and two replicas held them."""
    reads = weak = 0
    for draw in draws("told"):
        events, truth, _ = run(draw)
        committed = truth.committed
        there = list(zip(committed.batches, committed.times_us, truth.copied, strict=True))
        read = sum(
            isinstance(event, Delivered)
            and event.batch.base_offset >= committed.start
            and not any(found is event.batch and at_us <= event.at_us for found, at_us, _ in there)
            for event in events
        )
        early = sum(
            isinstance(event, Acked)
            and event.base_offset >= committed.start
            and not any(
                found.columns is event.batch.columns and at_us <= event.at_us and copies >= 2
                for found, at_us, (_, copies, _) in there
            )
            for event in events
        )
        report = judged(truth, events)
        reads, weak = reads + bool(read), weak + bool(early)
        assert (len(report.of("B5")), len(report.of("P11"))) == (read, early)
    assert reads
    assert weak


def test_what_was_given_up_was_committed_once() -> None:
    """An unclean election: who read or wrote before it was told the truth; deposed leaders are not judged."""
    lost, kept = batch(1, 0, 1), batch(1, 0, 2)
    truth = Truth(("t", 0), leader_epoch=1, lineage_epoch=1)
    truth.committed.append(kept, 5)
    truth.given_up[id(lost)] = lost
    zombie = batch(1, 1, 3)
    report = judged(truth, [given(1, lost), acked(1, lost), given(9, zombie), acked(9, zombie), given(9, kept)])
    assert report.findings == []


def test_few_copies_are_enough_where_nobody_asks_for_more() -> None:
    """P11 by the settings: one copy where min.insync.replicas is 1, or where there is one replica; the text says how many."""
    placed = batch(1, 0, 1)
    truth = Truth((TP.topic, TP.partition))
    truth.committed.append(placed, 0)
    truth.copied.append((0, 1, 3))
    assert judged(truth, [acked(1, placed)], min_insync=1).ok
    assert [finding.text for finding in judged(truth, [acked(1, placed)]).of("weak-ack")] == [
        f"{TP} offset 0, acknowledged to p at 0.000001 s: 1 of 3 replicas held it, min.insync.replicas is 2"
    ]
    truth.copied[0] = (0, 1, 1)
    assert judged(truth, [acked(1, placed)]).ok


def test_a_report_prints_a_few_of_each_kind() -> None:
    """A screen, where a thousand records were lost for one reason; the findings are all there."""
    report = Report()
    for number in range(1_000):
        report.add("acked-loss", f"orders-0 offset {number}", cause="died")
        report.allow("redelivery", f"orders-0 offset {number}")
    report.add("poll-back", "orders-0")
    lines = str(report).splitlines()
    assert len(lines) == 1 + 8 + 1 + 1 + 8 + 1
    assert "BROKEN  acked-loss: and 992 more like these" in lines
    assert "allowed redelivery: and 992 more like these" in lines
    assert "BROKEN  poll-back: orders-0" in lines
    assert len(report.findings) == 1_001
