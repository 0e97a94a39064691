"""The same verdicts on both sides: a sound consumer keeps its promise, one that commits before its work and dies breaks it."""

from __future__ import annotations

from typing import Any

import pytest

import kafkasim
from kafkasim.check.foreign import check_foreign
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.history_lines import history_lines, read_history_lines
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Happened, OffsetsFetched
from kafkasim.core.model.ids import TopicPartition

COUNT = 10


@pytest.mark.parametrize("dies", [False, True], ids=["sound", "broken"])
def test_a_service_that_writes_a_row_and_a_message(kit, kafka_cluster, dies):
    """Row and message are compared with what the topic holds: one that was never sent is missed by name."""
    topic = kit.topic(partitions=2)
    table = kafkasim.sinks.Table(kafka_cluster, topic)
    kafka_cluster.guarantee(topics=topic, mirrors=topic)
    producer = kit.producer()
    for number in range(COUNT):
        table.insert(f"order {number}")
        if not (dies and number == COUNT - 1):
            producer.produce(topic, f"order {number}")
    assert producer.flush(20) == 0
    findings = kafka_cluster.check().findings
    assert [finding.id for finding in findings] == (["E5"] if dies else [])
    assert all("b'order 9' was written into" in finding.text for finding in findings)
    # Without the log, from what was acknowledged alone, a row without its message proves nothing.
    lines = list(history_lines(kafka_cluster.history))
    assert check_foreign(read_history_lines(lines), [Guarantee.of(None, topic, {"mirrors": topic})]).ok


@pytest.mark.parametrize("by", ["a client that is seen", "another program"])
def test_a_committed_offset_that_is_gone_is_missed(kit, kafka_cluster, by):
    """What committed() says is held against what was acknowledged; who deletes a group is believed, if the history knows of it."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, 3)
    consumer = kit.consumer(group, [topic], enable_auto_commit=False, auto_offset_reset="earliest")
    kit.read(consumer, 3)
    consumer.commit(asynchronous=False)
    reader = kit.consumer(group)
    assert reader.committed([kit.at(topic)], timeout=20)[0].offset == 3
    consumer.close()
    told = [event for event in kafka_cluster.history.of(OffsetsFetched) if event.group == group]
    assert [event.offsets for event in told] == [((TopicPartition(topic, 0), 3, ErrorCode.NONE),)]
    assert all(event.asked_us <= event.at_us for event in told)
    admin = kafka_cluster.admin()
    assert kit.result(admin.delete_consumer_groups([group])) is None
    assert reader.committed([kit.at(topic)], timeout=20)[0].offset == -1001
    seen = [event for event in kafka_cluster.history if by == "a client that is seen" or type(event) is not Happened]
    is_missed = by == "another program"
    assert [finding.id for finding in check_foreign(seen).findings] == (["G8"] if is_missed else [])


def work(kit: Any, sink: Any, topic: str, group: str, commits_first: bool, dies_at: int) -> None:
    """Take records one by one until the last; ``dies_at``: between the two steps of that one, without a word."""
    consumer = kit.consumer(group, [topic], enable_auto_commit=False, auto_offset_reset="earliest")
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error() is not None:
            continue
        if commits_first:
            consumer.commit(message, asynchronous=False)
        if message.offset() != dies_at:
            sink(message)
            if not commits_first:
                consumer.commit(message, asynchronous=False)
        if message.offset() in (dies_at, COUNT - 1):
            consumer.close()
            return


@pytest.mark.parametrize("commits_first", [False, True], ids=["sound", "broken"])
def test_a_consumer_that_dies_between_its_two_steps(kit, kafka_cluster, commits_first):
    """Work before commit: the record comes again. Commit before work: it is lost, and commit-ahead is named as the cause."""
    topic, group = kit.topic(), kit.group()
    kit.fill(topic, COUNT)
    sink = kafkasim.sinks.Sink(kafka_cluster, "table", group=group)
    promise = {"topics": topic, "at_least_once": True}
    kafka_cluster.guarantee(group, **promise)
    work(kit, sink, topic, group, commits_first, dies_at=4)
    work(kit, sink, topic, group, commits_first, dies_at=-1)
    report = kafka_cluster.check()
    broken = list(dict.fromkeys(finding.id for finding in report.findings))
    assert broken == (["G3", "E1"] if commits_first else []), report
    lines = list(history_lines(kafka_cluster.history))
    again = check_foreign(read_history_lines(lines), [Guarantee.of(group, topic, {"at_least_once": True})])
    assert list(dict.fromkeys(finding.id for finding in again.findings)) == broken, again
