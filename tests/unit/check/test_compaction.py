"""Compacted logs (B12): the check against its definition on random logs, and a cleaner that goes wrong in a cluster."""

from __future__ import annotations

import random

from tests.unit.check.histories import TP, acked, draws

import kafkasim
from kafkasim.check.compaction import check_compaction
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.core.model.history import Happened, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import ConfigRecord, MetadataBatch
from kafkasim.core.model.records import RecordBatch, batch_of

NOW_US, KEPT_MS = 10_000, 4
VALUES = (b"a", b"b", None)


def run(draw: random.Random) -> tuple[list[HistoryEvent], LogView]:
    """A history of single records with two keys, most of them acknowledged, and a log from which some are missing or changed."""
    events: list[HistoryEvent] = []
    log: list[RecordBatch] = []
    for offset in range(draw.randrange(1, 7)):
        placed = batch_of([draw.choice(VALUES)], [draw.choice([b"x", b"y"])]).placed(offset, 0)
        if draw.random() < 0.8:
            events.append(acked(draw.randrange(NOW_US), placed, acks=draw.choice([-1, -1, -1, 1])))
        fate = draw.random()
        if fate < 0.6:
            log.append(placed)
        elif fate < 0.65:
            log.append(batch_of([b"z"], placed.columns.keys).placed(offset, 0))
    return events, LogView(log, draw.choice([0, 0, 0, 2]), 2, 3, is_compacted=True, delete_retention_ms=KEPT_MS)


def definition(events: list[HistoryEvent], view: LogView) -> int:
    """For each key: is its last acknowledged record there, or a later one? May it be gone by now?"""
    broken = 0
    for key in (b"x", b"y"):
        mine = [e for e in events if e.batch.columns.keys == [key]]  # type: ignore[union-attr]
        there = [each for each in view.batches if each.columns.keys == [key]]
        if not mine:
            continue
        last = max(mine, key=lambda e: e.base_offset)  # type: ignore[union-attr]
        offset, value = last.base_offset, last.batch.columns.values  # type: ignore[union-attr]
        if offset < view.start_offset or last.acks != -1:  # type: ignore[union-attr]
            continue
        if not there:
            broken += NOW_US - last.at_us < KEPT_MS * 1000
        else:
            end = there[-1]
            broken += end.base_offset < offset or (end.base_offset == offset and end.columns.values != value)
    return broken


def test_compaction_truth_is_its_definition() -> None:
    """B12 on random logs; a weak acknowledgement is told as allowed."""
    broken = 0
    for draw in draws("compaction"):
        events, view = run(draw)
        report = Report()
        check_compaction(events, {TP: view}, report, now_us=NOW_US)
        expected = definition(events, view)
        broken += bool(expected)
        assert len(report.of("B12")) == expected
    assert broken


def test_a_shorter_retention_than_today_s_counts() -> None:
    """Tombstones that went while delete.retention.ms was shorter are nobody's fault; nothing is said where nobody knows the time."""
    event = acked(0, batch_of([None], [b"x"]).placed(0, 0))
    view = LogView([], 0, 2, 3, is_compacted=True, delete_retention_ms=86_400_000)
    config = ConfigRecord(2, TP.topic, "delete.retention.ms", "1")
    changed = Happened(0, 1, "metadata-committed", 1, (("batches", (MetadataBatch(0, 1, (config,)),)),))
    report = Report()
    check_compaction([event], {TP: view}, report)
    check_compaction([event, changed], {TP: view}, report, now_us=2_000)
    assert report.ok
    check_compaction([event], {TP: view}, report, now_us=2_000)
    assert [finding.cause for finding in report.findings] == ["the newest record of a key is gone"]


def compacting() -> kafkasim.Cluster:
    cluster = kafkasim.Cluster(brokers=3, seed=5, config={"log.cleaner.backoff.ms": 500})
    settings = {
        "cleanup.policy": "compact",
        "min.insync.replicas": 2,
        "segment.ms": 1000,
        "min.cleanable.dirty.ratio": 0.01,
        "delete.retention.ms": 2000,
    }
    cluster.create_topic("t", config=settings)
    for number in range(6):
        cluster.produce("t", [b"%d" % number, None if number == 3 else b"x"], [b"a", b"b"])
        cluster.run_for(3.0)
    return cluster


def test_a_cleaner_that_keeps_the_wrong_record() -> None:
    """A compacted topic is as it should be, and is not when its last value of a key is put back to an older one."""
    with compacting() as cluster:
        report = cluster.check()
        assert report.ok, report
        assert report.looked_at["keys of compacted topics"] == 2
        leader = cluster.describe_topic("t")[0].leader
        log = cluster.process(leader).storage.broker.logs[TopicPartition("t", 0)]
        assert len(log.batches or ()) < 6, "something was cleaned"
        log.replace_batches((log.batches or [])[:-1])
        report = cluster.check()
        assert [finding.id for finding in report.findings] == ["B12", "B12"], report
