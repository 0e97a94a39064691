"""Promises about effects: against their definitions on random histories, and on consumers that break them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import kafkasim
from kafkasim.check.effects import check_effects
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    DONE,
    FAILED,
    SKIPPED,
    STARTED,
    UNKNOWN,
    Acked,
    Committed,
    Delivered,
    Effected,
    HistoryEvent,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import batch_of
from kafkasim.errors import ConfigurationError

TP = TopicPartition("orders", 0)
HISTORIES = 20_000


# --- against the definitions ---------------------------------------------------------------------------------------


def acked(at_us: int, offset: int, count: int, error: ErrorCode = ErrorCode.NONE) -> Acked:
    batch = batch_of([b"v"] * count).placed(offset, 0)
    return Acked(at_us, "p", TP, batch, 0, count, error, offset, -1, True)


def given(at_us: int, offset: int, count: int, group: str = "g") -> Delivered:
    return Delivered(at_us, "c", group, TP, batch_of([b"v"] * count).placed(offset, 0), 0, count)


def effect(at_us: int, offset: int, phase: str = DONE, key: bytes | None = None, sink: str = "s") -> Effected:
    return Effected(at_us, "c", "g", sink, TP, offset, key, phase)


def committed(at_us: int, offset: int, error: ErrorCode = ErrorCode.NONE) -> Committed:
    return Committed(at_us, "c", "g", ((TP, offset, error),))


def random_history(draw: random.Random) -> list[HistoryEvent]:
    """A few records that are acknowledged, given, worked on and committed in some order, not always a sensible one."""
    events: list[HistoryEvent] = []
    for at_us in range(draw.randrange(2, 14)):
        kind = draw.randrange(6)
        offset = draw.randrange(8)
        if kind == 0:
            events.append(
                acked(at_us, offset, draw.randrange(1, 4), draw.choice([ErrorCode.NONE, ErrorCode._MSG_TIMED_OUT]))
            )
        elif kind <= 2:
            events.append(given(at_us, offset, draw.randrange(1, 4), draw.choice("gggh")))
        elif kind <= 4:
            phase = draw.choice([DONE, DONE, DONE, STARTED, FAILED, UNKNOWN, SKIPPED])
            events.append(effect(at_us, offset, phase, draw.choice([b"a", b"b", None]), draw.choice("sst")))
        else:
            events.append(committed(at_us, offset, draw.choice([ErrorCode.NONE] * 3 + [ErrorCode.UNKNOWN_MEMBER_ID])))
    return events


def found(events: Sequence[HistoryEvent], guarantee: Guarantee, start_offset: int = 0) -> Report:
    report = Report()
    check_effects(events, {TP: LogView([], start_offset, has_leader=False)}, [guarantee], report)
    return report


def offsets_acked(events: Sequence[HistoryEvent]) -> list[int]:
    return [
        offset
        for offset in range(20)
        if any(
            isinstance(e, Acked) and e.error is ErrorCode.NONE and e.base_offset <= offset < e.base_offset + e.stop
            for e in events
        )
    ]


def worked(
    events: Sequence[HistoryEvent], offset: int, phases: tuple[str, ...] = (DONE, UNKNOWN, SKIPPED)
) -> list[Effected]:
    return [e for e in events if isinstance(e, Effected) and e.offset == offset and e.phase in phases]


def commits(events: Sequence[HistoryEvent]) -> list[tuple[int, int]]:
    return [
        (i, e.offsets[0][1])
        for i, e in enumerate(events)
        if isinstance(e, Committed) and e.offsets[0][2] is ErrorCode.NONE
    ]


def is_given_before(events: Sequence[HistoryEvent], index: int, offset: int) -> bool:
    return any(
        isinstance(e, Delivered) and e.group == "g" and e.batch.base_offset <= offset < e.batch.base_offset + e.stop
        for e in events[:index]
    )


def lost_by_definition(events: Sequence[HistoryEvent], start: int) -> set[int]:
    """E1: acknowledged, without an effect, and below the last commit or below the start of the log."""
    made = commits(events)
    last = made[-1][1] if made else -1
    return {o for o in offsets_acked(events) if not worked(events, o) and (o < last or o < start)}


def ahead_by_definition(events: Sequence[HistoryEvent]) -> bool:
    """G3: some commit passes a record that had been given before it and was not worked on before it."""
    return any(
        is_given_in_order(events, index, offset) and not worked(events[:index], offset)
        for index, commit in commits(events)
        for offset in range(commit)
    )


def is_given_in_order(events: Sequence[HistoryEvent], index: int, offset: int) -> bool:
    """Given before the commit, and not only after something later had been given: that is a group that was set back."""
    highest = -1
    for event in events[:index]:
        if isinstance(event, Delivered) and event.group == "g":
            for each in range(event.batch.base_offset, event.batch.base_offset + event.stop):
                if each == offset and each > highest:
                    return True
                highest = max(highest, each)
    return False


def test_at_least_once_is_what_its_definition_says() -> None:
    """The same records, on 20,000 random histories."""
    draw = random.Random(1)
    broken = 0
    for _ in range(HISTORIES):
        events, start = random_history(draw), draw.choice([0, 0, 2])
        report = found(events, Guarantee("g", ("orders",), at_least_once=True), start)
        lost = lost_by_definition(events, start)
        told = report.of("at-least-once")
        assert bool(told) == bool(lost), events
        assert {int(t.text.split(" offset ")[1].split(":")[0]) for t in told if " offset " in t.text} <= lost
        assert bool(report.of("commit-ahead")) == ahead_by_definition(events), events
        broken += bool(lost)
    assert HISTORIES // 20 < broken < HISTORIES // 1.2


def test_at_most_once_is_what_its_definition_says() -> None:
    """An offset whose effect is done twice."""
    draw = random.Random(2)
    for _ in range(HISTORIES):
        events = random_history(draw)
        doubled = {o for o in range(20) if len(worked(events, o, (DONE,))) > 1}
        told = found(events, Guarantee("g", at_most_once=True)).of("at-most-once")
        assert {int(t.text.split(" offset ")[1].split(" ")[0]) for t in told if " offset " in t.text} == doubled, events


def test_order_by_key_is_what_its_definition_says() -> None:
    """An effect below an earlier one of the same sink and key; the first of its record, or one that came again."""
    draw = random.Random(3)
    for _ in range(HISTORIES):
        events = random_history(draw)
        done = [e for e in events if isinstance(e, Effected) and e.phase == DONE and e.key is not None]
        expected = []
        for index, event in enumerate(done):
            before = [e for e in done[:index] if (e.sink, e.key) == (event.sink, event.key)]
            if any(e.offset > event.offset for e in before):
                is_again = any(e.offset == event.offset for e in before)
                expected.append("stale-overwrite" if is_again else "key-order")
        report = found(events, Guarantee("g", ordered_by_key=True))
        assert [finding.invariant for finding in report.findings] == expected, events


def test_drained_is_what_its_definition_says() -> None:
    """Acknowledged, in the log, never given."""
    draw = random.Random(4)
    for _ in range(HISTORIES):
        events, start = random_history(draw), draw.choice([0, 2])
        unseen = [o for o in offsets_acked(events) if o >= start and not is_given_before(events, len(events), o)]
        told = found(events, Guarantee("g", ("orders",), drained=True), start).of("unseen")
        assert bool(told) == bool(unseen), events
        assert not told or f"never given {len(unseen)} records of orders-0 (offsets {unseen[0]}" in told[0].text


def test_lag_and_standstill_are_told_with_their_times() -> None:
    """Ten records wait for eight seconds."""
    events = [acked(0, 0, 10), acked(1_000_000, 10, 5), given(8_000_000, 0, 15)]
    report = found(events, Guarantee("g", ("orders",), max_lag=12, recovery_s=5.0))
    assert [finding.invariant for finding in report.findings] == ["lag", "recovery"]
    assert "15 records behind at 1.000 s" in report.findings[0].text
    assert "nothing for 8.000 s" in report.findings[1].text
    assert found(events, Guarantee("g", ("orders",), max_lag=15, recovery_s=8.0)).ok


def test_many_promises_are_held_as_each_by_itself() -> None:
    """One reading of a history serves them all, whatever groups, topics and sinks they name."""
    draw = random.Random(5)
    kinds = ("at_least_once", "at_most_once", "effectively_once", "ordered_by_key", "drained")
    for _ in range(HISTORIES // 10):
        events = random_history(draw)
        promises = [
            Guarantee(
                draw.choice("gh"),
                draw.choice([(), ("orders",), ("other",)]),
                draw.choice([None, "s", "t", "u"]),
                **{draw.choice(kinds): True, "recovery_s": 1e-6},
            )
            for _ in range(draw.randrange(2, 5))
        ]
        together = Report()
        check_effects(events, {TP: LogView([], 0, has_leader=False)}, promises, together)
        alone = [finding.text for promise in promises for finding in found(events, promise).findings]
        assert [finding.text for finding in together.findings] == alone, events


def test_nothing_behind_at_all_can_be_promised() -> None:
    """A bound of zero is a promise, and one record is more."""
    assert Guarantee("g", max_lag=0).max_lag == 0
    assert [f.invariant for f in found([acked(0, 0, 1)], Guarantee("g", ("orders",), max_lag=0)).findings] == ["lag"]


def test_a_commit_that_goes_back_is_a_remark() -> None:
    """Kafka takes it; records come again."""
    report = found(
        [given(0, 0, 3), effect(1, 0), effect(2, 1), committed(3, 2), committed(4, 1)],
        Guarantee("g", at_least_once=True),
    )
    assert report.ok
    assert [finding.invariant for finding in report.allowed] == ["commit-regress"]


@pytest.mark.parametrize(
    ("promise", "message"),
    [
        ({}, "no_loss=True with topics="),
        ({"at_least_once": True}, "say group="),
        ({"group": "billing"}, "nothing is promised"),
        ({"group": "billing", "exactly_once": True}, "known: sink, at_least_once"),
        ({"no_loss": True}, "topics="),
        ({"group": "billing", "max_lag": -1}, "max_lag is -1"),
    ],
)
def test_a_promise_that_cannot_be_is_refused(promise: dict[str, Any], message: str) -> None:
    """By its name."""
    with kafkasim.Cluster() as cluster, pytest.raises(ConfigurationError, match=message):
        cluster.guarantee(**promise)


# --- consumers that break them -------------------------------------------------------------------------------------


def run(consume: Callable[..., None], *, crash: bool, seed: int = 1, promises: dict[str, Any] | None = None) -> Report:
    """Forty records; a consumer that may be killed while it works, and another that takes over."""
    with kafkasim.Cluster(seed=seed) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        sink = kafkasim.sinks.Sink(cluster, "ledger", group="billing")
        cluster.guarantee("billing", topics="orders", drained=True, **(promises or {"at_least_once": True}))
        cluster.produce(
            "orders", [str(number) for number in range(40)], keys=[f"k{number % 3}" for number in range(40)]
        )
        first = cluster.spawn(consume, cluster, sink)
        cluster.run_for(9.0)
        if crash:
            first.kill()
            cluster.spawn(consume, cluster, sink)
            cluster.run_for(80.0)
        cluster.run_for(20.0)
        return cluster.check()


def consumer(cluster: Any, **config: Any) -> Any:
    settings = {"auto.offset.reset": "earliest", "session.timeout.ms": 6000, "enable.auto.commit": False, **config}
    return cluster.consumer("billing", ["orders"], settings)


def sound(cluster: Any, sink: Any) -> None:
    """Work, then commit."""
    taken = consumer(cluster)
    while True:
        message = taken.poll(1.0)
        if message is not None and message.error() is None:
            cluster.run_for(0.3)
            sink(message)
            taken.commit(message, asynchronous=False)


def commit_first(cluster: Any, sink: Any) -> None:
    taken = consumer(cluster)
    while True:
        message = taken.poll(1.0)
        if message is not None and message.error() is None:
            taken.commit(message, asynchronous=False)
            cluster.run_for(0.3)
            sink(message)


def automatic(cluster: Any, sink: Any, **config: Any) -> None:
    """librdkafka's automatic commit stores an offset when it hands the message over."""
    taken = consumer(cluster, **{"enable.auto.commit": True, "auto.commit.interval.ms": 500, **config})
    while True:
        message = taken.poll(1.0)
        if message is not None and message.error() is None:
            cluster.run_for(1.7)
            sink(message)
            if config:
                taken.store_offsets(message)


def stored_after_work(cluster: Any, sink: Any) -> None:
    automatic(cluster, sink, **{"enable.auto.offset.store": False})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("consume", [sound, stored_after_work])
def test_work_before_commit_keeps_the_promise(consume: Callable[..., None], seed: int) -> None:
    """With a crash in the middle and without."""
    assert run(consume, crash=True, seed=seed).ok
    assert run(consume, crash=False, seed=seed).of("commit-ahead") == []


def test_commit_before_work_is_named_with_and_without_a_crash() -> None:
    """The cause always; the loss when somebody dies in between."""
    assert {finding.invariant for finding in run(commit_first, crash=False).findings} == {"commit-ahead"}
    assert {finding.invariant for finding in run(commit_first, crash=True).findings} == {
        "commit-ahead",
        "at-least-once",
    }


def test_automatic_commits_while_the_record_is_worked_on_are_named() -> None:
    """librdkafka's own trap: the offset is stored before the work is done."""
    report = run(automatic, crash=True)
    assert {finding.invariant for finding in report.findings} >= {"commit-ahead", "at-least-once"}


def test_a_crash_between_work_and_commit_does_it_twice() -> None:
    """At least once is kept, at most once is not."""
    report = run(sound_until_commit, crash=True, promises={"at_most_once": True})
    assert {finding.invariant for finding in report.findings} == {"at-most-once"}
    assert run(sound_until_commit, crash=True).ok


def sound_until_commit(cluster: Any, sink: Any) -> None:
    """Commits every tenth record only."""
    taken = consumer(cluster)
    while True:
        message = taken.poll(1.0)
        if message is not None and message.error() is None:
            cluster.run_for(0.3)
            sink(message)
            if message.offset() % 10 == 9:
                taken.commit(message, asynchronous=False)


def test_an_upsert_takes_effect_once_however_often_it_is_done() -> None:
    """A row that knows its offset filters what comes again; one that does not is overwritten by older values."""
    for versioned in (True, False):
        with kafkasim.Cluster(seed=1) as cluster, sqlite3.connect(":memory:", check_same_thread=False) as connection:
            cluster.create_topic("orders")
            sink = kafkasim.sinks.upsert(cluster, "table", connection, "orders", group="billing", versioned=versioned)
            cluster.guarantee("billing", topics="orders", ordered_by_key=True, effectively_once=True)
            cluster.produce(
                "orders", [str(number) for number in range(40)], keys=[f"k{number % 3}" for number in range(40)]
            )
            first = cluster.spawn(sound_until_commit, cluster, sink)
            cluster.run_for(9.0)
            first.kill()
            cluster.spawn(sound_until_commit, cluster, sink)
            cluster.run_for(90.0)
            report = cluster.check()
            assert report.ok == versioned, report
            assert connection.execute("select count(*), max(record_offset) from orders").fetchone() == (3, 39)
            if not versioned:
                assert {finding.invariant for finding in report.findings} == {"effectively-once", "stale-overwrite"}


def test_a_sink_that_times_out_has_or_has_not_applied() -> None:
    """Its caller gets the same error either way; the history knows."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        cluster.produce("orders", [b"a", b"b", b"c"])
        sink = kafkasim.sinks.Sink(cluster, "remote", group="billing")
        sink.fail(nth=1, applied=True, seconds=2.0)
        sink.fail(nth=2)
        taken = consumer(cluster)
        outcomes = []
        while len(outcomes) < 3:
            message = taken.poll(1.0)
            if message is not None and message.error() is None:
                try:
                    sink(message)
                    outcomes.append("done")
                except kafkasim.sinks.SinkTimeout:
                    outcomes.append("timeout")
        assert outcomes == ["timeout", "timeout", "done"]
        assert sink.values == [b"a", b"c"]
        phases = [event.phase for event in cluster.history.of(Effected)]
        assert phases == [STARTED, DONE, STARTED, FAILED, STARTED, DONE]
