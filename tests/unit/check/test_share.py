"""Promises about share groups: against their definitions on random histories, and on histories that break them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from tests.unit.sim.test_share_history import run

import kafkasim
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.inversions import inversions
from kafkasim.check.report import Report
from kafkasim.check.share import check_accepted, check_archived, check_overlaps, check_share, check_worked_on
from kafkasim.check.spans import Spans
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    ACCEPT,
    DONE,
    FAILED,
    REJECT,
    RELEASE,
    SHARE_ACQUIRED,
    SHARE_ARCHIVED,
    SHARE_INITIALIZED,
    SHARE_LOADED,
    SHARE_MOVED,
    SKIPPED,
    STARTED,
    UNKNOWN,
    Acked,
    Effected,
    Happened,
    HistoryEvent,
    ShareAcknowledged,
    ShareDelivered,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch, batch_of

TP = TopicPartition("jobs", 0)
HISTORIES = 20_000
END = 8
#: One log: the same records wherever they are given.
LOG = batch_of([b"v"] * END).placed(0, 0)


def given(
    at_us: int, first: int, last: int, count: int = 1, client: str = "c", batch: RecordBatch = LOG
) -> ShareDelivered:
    return ShareDelivered(at_us, client, "g", TP, batch, first, last + 1, count)


def acknowledged(
    at_us: int, first: int, last: int, kind: str = ACCEPT, client: str = "c", error: ErrorCode = ErrorCode.NONE
) -> ShareAcknowledged:
    return ShareAcknowledged(at_us, client, "g", TP, ((first, last, kind),), error)


def effect(at_us: int, offset: int, phase: str = DONE, client: str = "c", group: str = "g") -> Effected:
    return Effected(at_us, client, group, "s", TP, offset, None, phase)


def note(at_us: int, kind: str, node: int = 1, **fields: object) -> Happened:
    return Happened(at_us, node, kind, TP, (("group", "g"), *fields.items()))


def loaded(at_us: int, node: int = 1) -> Happened:
    return note(at_us, SHARE_LOADED, node, leader_epoch=0, start_offset=0, batches=())


def acquired(at_us: int, first: int, last: int, count: int = 1, node: int = 1) -> Happened:
    return note(at_us, SHARE_ACQUIRED, node, member="m", runs=((first, last, count),), limit=5, start_offset=0)


def span(draw: random.Random) -> tuple[int, int]:
    first = draw.randrange(END)
    return first, draw.randrange(first, min(END, first + 3))


def covers(event: ShareDelivered, offset: int) -> bool:
    return event.start <= offset < event.stop


def accepts(event: HistoryEvent, offset: int) -> bool:
    return (
        isinstance(event, ShareAcknowledged)
        and event.error is ErrorCode.NONE
        and any(kind == ACCEPT and first <= offset <= last for first, last, kind in event.acks)
    )


# --- Q1 --------------------------------------------------------------------------------------------------------------


def clients_history(draw: random.Random) -> list[HistoryEvent]:
    events: list[HistoryEvent] = []
    for at_us in range(draw.randrange(4, 16)):
        first, last = span(draw)
        client = draw.choice("ab")
        if draw.random() < 0.5:
            events.append(given(at_us, first, last, draw.randrange(1, 4), client))
        else:
            error = draw.choice([ErrorCode.NONE, ErrorCode.NONE, ErrorCode.INVALID_RECORD_STATE])
            events.append(
                acknowledged(at_us, first, last, draw.choice([ACCEPT, ACCEPT, RELEASE, REJECT]), client, error)
            )
    return events


def given_again_by_definition(events: Sequence[HistoryEvent]) -> tuple[bool, bool]:
    """A delivery after an acceptance that stands, with a higher count than the accepted one; and one without."""
    higher = other = False
    for index, event in enumerate(events):
        if not isinstance(event, ShareDelivered):
            continue
        for offset in range(event.start, event.stop):
            counts: list[int] = []
            for at, earlier in enumerate(events[:index]):
                if accepts(earlier, offset):
                    held = [
                        e.delivery_count
                        for e in events[:at]
                        if isinstance(e, ShareDelivered) and e.client == earlier.client and covers(e, offset)
                    ]
                    counts += held[-1:]
            if counts:
                higher |= event.delivery_count > counts[-1]
                other |= event.delivery_count <= counts[-1]
    return higher, other


def test_accept_then_redeliver_is_what_its_definition_says() -> None:
    """From clients alone: a higher count is a breach, anything else may have been fetched before."""
    draw = random.Random(1)
    broken = 0
    for _ in range(HISTORIES):
        events, report = clients_history(draw), Report()
        check_accepted(events, report)
        assert (bool(report.findings), bool(report.allowed)) == given_again_by_definition(events), events
        broken += not report.ok
    assert HISTORIES // 50 < broken < HISTORIES // 2


def test_with_notes_the_acquisition_counts_and_not_the_poll() -> None:
    """After the acceptance, by the newest leader, of a group whose state did not begin anew."""
    draw = random.Random(2)
    broken = 0
    for _ in range(HISTORIES):
        events: list[HistoryEvent] = [loaded(0)]
        for at_us in range(1, draw.randrange(3, 10)):
            first, last = span(draw)
            kind = draw.randrange(8)
            if kind <= 2:
                events.append(acquired(at_us, first, last, node=draw.choice([1, 1, 2])))
            elif kind <= 5:
                events.append(
                    acknowledged(at_us, first, last, error=draw.choice([ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT]))
                )
            elif kind == 6:
                events.append(given(at_us, first, last, 4))
            else:
                events.append(draw.choice([loaded(at_us, 2), note(at_us, SHARE_INITIALIZED, 3, start_offset=-1)]))
        breach = allowed = False
        for index, event in enumerate(events):
            if isinstance(event, Happened) and event.kind == SHARE_ACQUIRED:
                begun = max(
                    (i for i, e in enumerate(events[:index]) if getattr(e, "kind", "") == SHARE_INITIALIZED), default=0
                )
                (first, last, _) = dict(event.fields)["runs"][0]  # type: ignore[index]
                again = any(accepts(e, offset) for e in events[begun:index] for offset in range(first, last + 1))
                leaders = [e.node for e in events[begun:index] if isinstance(e, Happened) and e.kind == SHARE_LOADED]
                breach |= again and leaders[-1:] == [event.node]
                allowed |= again and leaders[-1:] != [event.node]
        report = Report()
        check_accepted(events, report)
        assert (bool(report.findings), bool(report.allowed)) == (breach, allowed), events
        broken += breach
    assert HISTORIES // 20 < broken < HISTORIES // 1.5


def test_another_record_at_the_same_offset_is_no_redelivery() -> None:
    """A topic that was deleted and made again, on a cluster whose notes nobody has."""
    other = batch_of([b"w"] * END).placed(0, 0)
    report = Report()
    check_accepted([given(0, 0, 3), acknowledged(1, 0, 3), given(2, 0, 3, 2, batch=other)], report)
    assert report.ok
    assert not report.allowed
    check_accepted([given(0, 0, 3), acknowledged(1, 0, 3), given(2, 0, 3, 2)], report)
    assert "jobs-0 offsets 0..3 came to c at 0.000002 s (delivery 2) after it was accepted" in report.findings[0].text


# --- Q4 --------------------------------------------------------------------------------------------------------------


def test_archived_unprocessed_is_what_its_definition_says() -> None:
    """At the limit, or deleted beneath the group; not worked on, not rejected, not accepted before."""
    draw = random.Random(4)
    broken = 0
    for _ in range(HISTORIES):
        events: list[HistoryEvent] = [Acked(0, "p", TP, LOG, 0, 6, ErrorCode.NONE, 0, -1, True)]
        for at_us in range(1, draw.randrange(2, 9)):
            first, last = span(draw)
            kind = draw.randrange(5)
            if kind <= 1:
                why = draw.choice(["limit", "limit", "reject", "gap", "start offset"])
                events.append(note(at_us, SHARE_ARCHIVED, offsets=(first, last), delivery_count=5, why=why))
            elif kind == 2:
                events.append(note(at_us, SHARE_MOVED, start_offset=first, to=last + 1))
            elif kind == 3:
                events.append(effect(at_us, first, draw.choice([DONE, FAILED, STARTED, SKIPPED, UNKNOWN])))
            else:
                error = draw.choice([ErrorCode.NONE, ErrorCode.INVALID_RECORD_STATE])
                events.append(acknowledged(at_us, first, last, draw.choice([ACCEPT, REJECT, RELEASE]), error=error))
        lost = {offset for offset in range(END) if is_lost(events, offset)}
        report = Report()
        check_archived(events, [Guarantee("g", no_archived=True)], report)
        told = {finding.text.rpartition("offsets ")[2].rpartition(")")[0] for finding in report.findings}
        assert {int(o) for text in told for o in text.replace(" …", "").split(", ") if o} <= lost, events
        assert sum(int(f.text.split(": ")[1].split(" ")[0]) for f in report.findings) == len(lost), events
        silent = Report()
        check_archived(events, [Guarantee("other", no_archived=True)], silent)
        assert (silent.ok, len(silent.allowed)) == (True, len(report.findings))
        broken += bool(lost)
    assert HISTORIES // 20 < broken < HISTORIES // 1.2


def is_lost(events: Sequence[HistoryEvent], offset: int) -> bool:
    if any(isinstance(e, Effected) and e.offset == offset and e.phase in (DONE, SKIPPED, UNKNOWN) for e in events):
        return False
    dealt = any(
        isinstance(e, ShareAcknowledged)
        and e.error is ErrorCode.NONE
        and any(kind in (ACCEPT, REJECT) and first <= offset <= last for first, last, kind in e.acks)
        for e in events
    )
    for event in events:
        if not isinstance(event, Happened):
            continue
        fields = dict(event.fields)
        if event.kind == SHARE_ARCHIVED and fields["why"] in ("limit", "start offset"):
            first, last = fields["offsets"]  # type: ignore[misc]
        elif event.kind == SHARE_MOVED and not dealt and offset < 6:
            first, last = fields["start_offset"], fields["to"] - 1  # type: ignore[operator]
        else:
            continue
        if first <= offset <= last:
            return True
    return False


def test_a_run_with_a_poison_record_tells_what_was_archived_and_breaks_only_what_was_promised() -> None:
    """The same run, with the promise and without."""
    for promises in ({}, {"no_archived": True}):
        cluster, _ = run()
        if promises:
            cluster.guarantee("workers", topics="jobs", **promises)
        report = Report()
        check_share(cluster.history.events, cluster._guarantees, report)
        found = report.findings if promises else report.allowed
        assert [finding.invariant for finding in found] == ["archived-unprocessed"]
        assert "1 records of jobs-0 were archived at their delivery limit" in found[0].text
        assert report.ok == (not promises)


def test_a_promise_that_a_history_cannot_tell_of_is_named() -> None:
    """A real cluster's brokers make no notes: nothing is found, and that is said."""
    cluster, _ = run()
    clients = [event for event in cluster.history if not isinstance(event, Happened)]
    report = Report()
    check_share(clients, [Guarantee("workers", no_archived=True)], report)
    assert report.ok
    assert "this history cannot tell" in report.allowed[0].text


# --- Q2b -------------------------------------------------------------------------------------------------------------


def test_effect_overlap_is_what_its_definition_says() -> None:
    """Work that begins while another client's on the same record is not over: told, never a breach."""
    draw = random.Random(5)
    broken = 0
    for _ in range(HISTORIES):
        events = [
            effect(
                at,
                draw.randrange(2),
                draw.choice([STARTED, STARTED, DONE, FAILED]),
                draw.choice("ab"),
                draw.choice("ggh"),
            )
            for at in range(draw.randrange(1, 8))
        ]
        overlapping = set()
        for i, j in combinations(range(len(events)), 2):
            one, other = events[i], events[j]
            if (one.group, one.phase, other.group, other.phase) != ("g", STARTED, "g", STARTED):
                continue
            if one.client != other.client and one.offset == other.offset:
                between = events[i + 1 : j]
                if not any(
                    e.client == one.client and e.offset == one.offset and e.group == "g" and e.phase != STARTED
                    for e in between
                ):
                    overlapping.add(one.offset)
        report = Report()
        check_overlaps(events, frozenset({"g"}), report)
        assert report.ok
        assert sum(int(f.text.split(": ")[1].split(" ")[0]) for f in report.allowed) == len(overlapping), events
        broken += bool(overlapping)
    assert HISTORIES // 20 < broken < HISTORIES // 1.2


# --- Q6 --------------------------------------------------------------------------------------------------------------


def test_inversions_are_what_their_definition_says() -> None:
    """Pairs of offsets, the larger of which came first, over spans that may overlap and come again."""
    draw = random.Random(6)
    for _ in range(HISTORIES):
        spans = [span(draw) for _ in range(draw.randrange(7))]
        offsets = [offset for first, last in spans for offset in range(first, last + 1)]
        assert inversions(spans) == sum(a > b for a, b in combinations(offsets, 2)), spans


def test_inversions_of_many_spans_are_counted_soon() -> None:
    """A hundred thousand spans in the worst order."""
    spans = [(10 * number, 10 * number + 9) for number in range(20_000)]
    assert inversions(spans) == 0
    assert inversions(spans[::-1]) == 100 * (20_000 * 19_999 // 2)


# --- E1 --------------------------------------------------------------------------------------------------------------


def test_at_least_once_of_a_share_group_is_what_its_definition_says() -> None:
    """Accepted for good, and never worked on; accepted before the work was over is its cause."""
    draw = random.Random(7)
    broken = 0
    for _ in range(HISTORIES):
        events: list[HistoryEvent] = []
        for at_us in range(draw.randrange(1, 8)):
            first, last = span(draw)
            if draw.random() < 0.4:
                error = draw.choice([ErrorCode.NONE, ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT])
                events.append(acknowledged(at_us, first, last, draw.choice([ACCEPT, ACCEPT, RELEASE]), error=error))
            else:
                events.append(
                    effect(at_us, first, draw.choice([DONE, DONE, STARTED, UNKNOWN]), group=draw.choice("gggh"))
                )
        over = [
            [
                at
                for at, e in enumerate(events)
                if isinstance(e, Effected) and e.group == "g" and e.offset == o and e.phase != STARTED
            ]
            for o in range(END)
        ]
        taken = [[at for at, e in enumerate(events) if accepts(e, o)] for o in range(END)]
        lost = [o for o in range(END) if taken[o] and not over[o]]
        ahead = [o for o in range(END) if taken[o] and not (over[o] and over[o][0] < taken[o][0])]
        report = Report()
        check_worked_on(events, Guarantee("g", at_least_once=True), report)
        assert (bool(report.of("at-least-once")), bool(report.of("accept-ahead"))) == (bool(lost), bool(ahead)), events
        broken += bool(lost)
    assert HISTORIES // 20 < broken < HISTORIES // 1.2


# --- spans -----------------------------------------------------------------------------------------------------------


def test_spans_are_a_dictionary_of_offsets() -> None:
    """Whatever is put, removed and asked for, in whatever order."""
    draw = random.Random(8)
    for _ in range(2_000):
        spans: Spans[int] = Spans()
        plain: dict[int, int] = {}
        for value in range(draw.randrange(12)):
            first, last = span(draw)
            kind = draw.randrange(5)
            if kind <= 2:
                spans.put(first, last, value)
                plain.update(dict.fromkeys(range(first, last + 1), value))
            elif kind == 3:
                spans.remove(first, last)
                for offset in range(first, last + 1):
                    plain.pop(offset, None)
            else:
                gone = {o: v for begin, end, v in spans.take_below(first) for o in range(begin, end + 1)}
                assert gone == {o: plain.pop(o) for o in list(plain) if o < first}
            assert {o: v for begin, end, v in spans for o in range(begin, end + 1)} == plain
            later = [span for span in spans if span[1] >= first]
            assert spans.reaching(first) == (later[0] if later else None)
            assert [spans.at(o) for o in range(END)] == [plain.get(o) for o in range(END)]
            pieces = spans.pieces(first, last)
            assert [(o, v) for begin, end, v in pieces for o in range(begin, end + 1)] == [
                (o, plain.get(o)) for o in range(first, last + 1)
            ]


# --- whole runs ------------------------------------------------------------------------------------------------------


def test_a_share_group_that_works_keeps_its_promises() -> None:
    """Through a lock that runs out, a member that dies and a leader that dies."""
    from tests.unit.sim.shares import earliest

    from kafkasim.confluent_kafka import ShareConsumer

    def work(cluster: kafkasim.Cluster, sink: kafkasim.sinks.Sink, slow: bool) -> None:
        taken = ShareConsumer(
            {
                "bootstrap.servers": cluster.bootstrap_servers,
                "group.id": "g",
                "share.acknowledgement.mode": "explicit",
                "max.poll.records": 5,
            }
        )
        taken.subscribe(["jobs"])
        while True:
            for message in taken.poll(1.0):
                if slow and message.offset() == 7:
                    cluster.run_for(20.0)
                sink(message)
                taken.acknowledge(message)
            taken.commit_sync()

    with kafkasim.Cluster(seed=5) as cluster:
        cluster.create_topic("jobs", partitions=2, config={"min.insync.replicas": 2})
        earliest(cluster, "g", record_lock_duration_ms=15000)
        sink = kafkasim.sinks.Sink(cluster, "s", group="g")
        cluster.guarantee("g", topics="jobs", at_least_once=True, drained=True, no_archived=True, recovery_s=60.0)
        workers = [cluster.spawn(work, cluster, sink, number == 0) for number in range(3)]
        for _ in range(10):
            cluster.produce("jobs", [b"v"] * 10, keys=[str(n) for n in range(10)])
            cluster.run_for(1.0)
        workers[1].kill()
        cluster.broker(2).crash()
        cluster.run_for(20.0)
        cluster.broker(2).start()
        cluster.run_for(60.0)
        report = cluster.check()
        assert report.ok, report
        assert report.looked_at["share deliveries"] >= 100


def test_a_share_consumer_sees_the_same_record_at_an_offset_as_everybody() -> None:
    """What the log holds there."""
    from kafkasim.check.consumer_oracles import check_consistency
    from kafkasim.check.log_oracles import LogView

    other = batch_of([b"w"] * END).placed(0, 0)
    view = LogView([LOG], min_insync_replicas=2, replication_factor=3)
    for batch, expected in ((LOG, []), (other, ["inconsistent-offset"])):
        report = Report()
        check_consistency([given(0, 0, 3), given(1, 0, 3, 2, batch=batch)], {TP: view}, report)
        assert [finding.invariant for finding in report.findings] == expected


def test_a_broker_that_forgets_acceptances_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what its members are told and given, and by its own notes; without the notes by the delivery count."""
    from kafkasim.core.share import acknowledge
    from kafkasim.core.share.in_flight import AVAILABLE

    monkeypatch.setitem(acknowledge._STATE_AFTER, 1, AVAILABLE)
    cluster, _ = run()
    events = cluster.history.events
    report = Report()
    check_share(events, [], report)
    assert {finding.invariant for finding in report.findings} == {"accept-then-redeliver", "legal-state"}
    clients = [event for event in events if not isinstance(event, Happened)]
    report = Report()
    check_share(clients, [], report)
    assert {finding.invariant for finding in report.findings} == {"accept-then-redeliver"}
    assert not report.allowed


def test_a_broker_that_gives_out_what_somebody_holds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two members, one record, one lock."""
    from tests.unit.sim.shares import earliest

    from kafkasim.confluent_kafka import ShareConsumer
    from kafkasim.core.share import partition
    from kafkasim.core.share.in_flight import InFlightState

    monkeypatch.setattr(InFlightState, "is_acquirable", property(lambda state: state.state in (0, 1)))
    monkeypatch.setattr(InFlightState, "acquire", _take)
    monkeypatch.setattr(partition.SharePartition, "next_fetch_offset", lambda self: self.start_offset)
    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("jobs")
        earliest(cluster, "g")
        cluster.produce("jobs", [b"a", b"b"])
        for _ in range(2):
            config = {"bootstrap.servers": cluster.bootstrap_servers, "group.id": "g"}
            consumer = ShareConsumer({**config, "share.acknowledgement.mode": "explicit"})
            consumer.subscribe(["jobs"])
            while not consumer.poll(1.0):
                pass
        report = cluster.check()
        assert {finding.invariant for finding in report.findings} == {"lock-overlap"}
        assert "while" in report.findings[0].text


def _take(state: Any, member_id: str, lock_until_us: int) -> None:
    state.state = 1
    state.delivery_count += 1
    state.member_id = member_id
    state.lock_until_us = lock_until_us
