"""Tables that topics mirror, and topics that hold the same: against their definitions on random histories, and on a service."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.unit.check.histories import acked, draws, failed

import kafkasim
from kafkasim.check.branches import check_copies
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import HistoryEvent, Inserted
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import batch_of
from kafkasim.errors import ConfigurationError

TOPICS = ("billing", "crm")


def scene(draw: random.Random) -> tuple[list[HistoryEvent], dict[TopicPartition, LogView]]:
    """A few values, each perhaps in the table, perhaps in each topic, perhaps only told to have been written there."""
    events: list[HistoryEvent] = []
    logs: dict[TopicPartition, LogView] = {}
    for topic in TOPICS:
        for partition in range(2):
            batches, end = [], 0
            for _ in range(draw.randrange(3)):
                values = [b"%d" % draw.randrange(8) for _ in range(draw.randrange(1, 3))]
                batches.append(batch_of(values).placed(end, 0))
                end += len(values)
            kinds: list[dict[str, Any]] = [{}] * 5 + [
                {"is_observed": True},
                {"is_compacted": True},
                {"start_offset": 1},
            ]
            kinds.append({"has_leader": False})
            logs[TopicPartition(topic, partition)] = LogView(batches, **draw.choice(kinds))
    for at_us in range(draw.randrange(6)):
        value, tp = b"%d" % draw.randrange(8), TopicPartition(draw.choice(TOPICS), 0)
        sent = batch_of([value])
        events.append(
            draw.choice(
                [
                    Inserted(at_us, "shop", draw.choice(["rows", "rows", "others"]), value),
                    acked(at_us, sent.placed(100 + at_us, 0), tp=tp),
                    failed(at_us, sent, ErrorCode._MSG_TIMED_OUT, -1, tp=tp),
                ]
            )
        )
    return events, logs


def held(events: list[HistoryEvent], logs: dict[TopicPartition, LogView], topic: str) -> set[bytes | None]:
    """What is in the logs of a topic, or was when its producer was told."""
    stored = {
        value for tp, view in logs.items() if tp.topic == topic for b in view.batches for value in b.columns.values
    }
    told = {
        event.batch.columns.values[0]
        for event in events
        if not isinstance(event, Inserted) and event.error is ErrorCode.NONE and event.tp.topic == topic  # type: ignore[union-attr]
    }
    return stored | told


def is_whole(logs: dict[TopicPartition, LogView], topic: str) -> bool:
    views = [view for tp, view in logs.items() if tp.topic == topic]
    return not any(v.is_observed or v.is_compacted or v.start_offset or not v.has_leader for v in views)


def found(events: list[HistoryEvent], logs: dict[TopicPartition, LogView], promise: Guarantee) -> list[str]:
    report = Report()
    check_copies(events, logs, [promise], report)
    return [finding.text for finding in report.findings]


def test_a_mirror_is_its_definition() -> None:
    """E5: each row in a topic, where all of it is known, and each value of the topics among the rows."""
    broken = 0
    for draw in draws("mirrors"):
        events, logs = scene(draw)
        rows = {event.value for event in events if isinstance(event, Inserted) and event.table == "rows"}
        topics = draw.choice([TOPICS, TOPICS[:1]])
        values = set().union(*(held(events, logs, topic) for topic in topics))
        lost = rows - values if all(is_whole(logs, topic) for topic in topics) else set()
        told = found(events, logs, Guarantee(topics=topics, mirrors="rows"))
        expected = len(lost) + len(values - rows)
        assert len(told) == min(expected, 6), (events, logs)
        assert sum("nothing of it is in" in text for text in told) <= len(lost)
        broken += bool(expected)
    assert broken


def test_topics_with_the_same_records_are_their_definition() -> None:
    """E6: what is in one is in each other of which all is known."""
    broken = 0
    for draw in draws("same records"):
        events, logs = scene(draw)
        values = {topic: held(events, logs, topic) for topic in TOPICS}
        lacking = [value for value in values["billing"] - values["crm"] if is_whole(logs, "crm")]
        lacking += [value for value in values["crm"] - values["billing"] if is_whole(logs, "billing")]
        told = found(events, logs, Guarantee(topics=TOPICS, same_records=True))
        assert len(told) == min(len(lacking), 6), (events, logs)
        broken += bool(lacking)
    assert broken


@pytest.mark.parametrize(
    ("promise", "message"),
    [
        ({"group": "g", "mirrors": "rows", "topics": "a"}, "mirrors is promised by topics"),
        ({"same_records": True, "topics": "a"}, "same_records is promised by several topics, not by"),
        ({"mirrors": "rows"}, "with topics="),
    ],
)
def test_a_promise_of_copies_that_cannot_be_is_refused(promise: dict[str, Any], message: str) -> None:
    """By its name."""
    with kafkasim.Cluster() as cluster, pytest.raises(ConfigurationError, match=message):
        cluster.guarantee(**promise)


@pytest.mark.parametrize("dies", [False, True])
def test_a_service_that_writes_twice(dies: bool) -> None:
    """It is well as long as it lives; killed between its two writes it leaves a row that nobody is told of."""
    with kafkasim.Cluster(seed=1) as cluster:
        for topic in TOPICS:
            cluster.create_topic(topic)
        table = kafkasim.sinks.Table(cluster, "rows")
        cluster.guarantee(topics="billing", mirrors="rows")
        cluster.guarantee(topics=TOPICS, same_records=True)

        def serve() -> None:
            producer = cluster.producer(linger_ms=0)
            for number in range(5):
                table.insert(f"row {number}")
                for topic in TOPICS:
                    cluster.run_for(0.1)
                    producer.produce(topic, f"row {number}")
                    producer.flush(5)

        service = cluster.spawn(serve)
        if dies:
            cluster.run_until(lambda: len(table.rows) == 3)
            cluster.run_for(0.15)
            service.kill()
        cluster.run_for(5.0)
        report = cluster.check()
        expected = ["b'row 2' is in billing, and not in crm"] if dies else []
        assert [finding.text for finding in report.of("E6")] == expected
        assert report.ok != dies
        assert report.of("E5") == []
        table.insert("row 9")
        (finding,) = cluster.check().of("E5")
        assert finding.signature == ("conservation", "in a table, and in no topic")
