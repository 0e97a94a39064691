"""A whole consumer against a small cluster."""

from __future__ import annotations

import json

import pytest
from tests.unit.client.fake_group import App, Cluster, run_apps

from kafkasim.core.client.items import CommitDone, ConsumerError, Rebalance, Slice
from kafkasim.core.client.subscription import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    OffsetAndMetadata,
    OffsetCommitRequest,
)
from kafkasim.core.model.ids import NO_EPOCH, TopicPartition
from kafkasim.core.model.messages import FetchRequest

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def test_subscribed_consumer_reads_all_and_commits() -> None:
    """Records of all partitions arrive once, in order; positions are committed by themselves after 5 s."""
    cluster = Cluster(t=2)
    for tp in (T0, T1):
        for number in range(3):
            cluster.logs[tp].append([f"{tp.partition}-{number}-{i}".encode() for i in range(4)])
    app = App(cluster, cluster.consumer())
    assert app.engine.subscribe(["t"], 0) == ErrorCode.NONE
    run_apps(cluster, [app], 7)
    assert app.rebalances == [("assign", 2)]
    assert sorted(app.values) == sorted(f"{p}-{n}-{i}".encode() for p in (0, 1) for n in range(3) for i in range(4))
    assert app.engine.position(T0) == 12
    assert {tp: value.offset for tp, value in cluster.group.offsets.items()} == {T0: 12, T1: 12}
    assert app.engine.generation_id == 1


def test_take_cuts_batches() -> None:
    """A batch larger than what is asked for comes in pieces, and the position follows."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"%d" % i for i in range(10)])
    engine = cluster.consumer()
    engine.assign([(T0, 2)], 0)
    cluster.run(1)
    (first,) = engine.take(3, cluster.now_us)
    assert isinstance(first, Slice)
    assert (first.start, first.stop, engine.position(T0)) == (2, 5, 5)
    (second,) = engine.take(100, cluster.now_us)
    assert isinstance(second, Slice)
    assert (second.start, second.stop, engine.position(T0)) == (5, 10, 10)


@pytest.mark.parametrize(("offset", "expected"), [(OFFSET_BEGINNING, 5), (OFFSET_END, 0), (3, 2), (99, 5)])
def test_start_offsets(offset: int, expected: int) -> None:
    """Logical and absolute start offsets, and one out of range (reset to the earliest)."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"x"] * 5)
    engine = cluster.consumer()
    engine.assign([(T0, offset)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 2)
    assert len(app.values) == expected


def test_reset_error_stops_the_partition() -> None:
    """auto.offset.reset=error: one message in librdkafka's words, then silence."""
    cluster = Cluster(t=1)
    engine = cluster.consumer(auto_offset_reset="error")
    engine.assign([(T0, OFFSET_INVALID)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 2)
    (error,) = app.others
    assert isinstance(error, ConsumerError)
    assert error.code == ErrorCode._AUTO_OFFSET_RESET
    assert error.text == "no previously committed offset available: Local: No offset stored"


def test_partition_eof_comes_once_per_reaching_the_end() -> None:
    """enable.partition.eof: one item at the end, and another after more records."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"a"])
    engine = cluster.consumer(enable_partition_eof=True)
    engine.assign([(T0, 0)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 3)
    cluster.logs[T0].append([b"b"])
    run_apps(cluster, [app], 3)
    assert [(item.code, item.offset) for item in app.others if isinstance(item, ConsumerError)] == [
        (ErrorCode._PARTITION_EOF, 1),
        (ErrorCode._PARTITION_EOF, 2),
    ]


def test_seek_and_pause_drop_what_is_queued() -> None:
    """Records fetched before a seek or a pause are not handed out; after resume the application goes on where it was."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"%d" % i for i in range(6)])
    engine = cluster.consumer()
    engine.assign([(T0, 0)], 0)
    cluster.run(1)
    assert engine.has_items()
    assert engine.seek(T0, 4, NO_EPOCH, cluster.now_us) == ErrorCode.NONE
    assert not engine.has_items()
    app = App(cluster, engine)
    run_apps(cluster, [app], 1.5)
    assert app.values == [b"4", b"5"]
    engine.pause([T0])
    cluster.logs[T0].append([b"6"])
    run_apps(cluster, [app], 2)
    assert app.values == [b"4", b"5"]
    engine.resume([T0], cluster.now_us)
    run_apps(cluster, [app], 2)
    assert app.values == [b"4", b"5", b"6"]
    assert engine.seek(T1, 0, NO_EPOCH, cluster.now_us) == ErrorCode._STATE


def test_a_client_knows_the_partitions_of_topics_it_has_dealt_with() -> None:
    """A topic that was never used is unknown; once any of its partitions was looked at, another is merely unassigned."""
    engine = Cluster(t=1).consumer(enable_auto_offset_store=False)
    assert engine.seek(T0, 0, NO_EPOCH, 0) == ErrorCode._UNKNOWN_PARTITION
    assert engine.store_offsets([(T0, 1, -1, "")]) == [(T0, ErrorCode._UNKNOWN_PARTITION)]
    assert engine.pause([T0]) == [(T0, ErrorCode._UNKNOWN_PARTITION)]
    assert engine.position(T1) == -1001
    assert engine.seek(T0, 0, NO_EPOCH, 0) == ErrorCode._STATE
    assert engine.store_offsets([(T0, 1, -1, "")]) == [(T0, ErrorCode._STATE)]
    assert engine.pause([T0]) == [(T0, ErrorCode.NONE)]


def test_a_broken_pattern_is_refused() -> None:
    """A subscription with a pattern that is none changes nothing."""
    engine = Cluster(t=1).consumer()
    assert engine.subscribe(["t", "^(a"], 0) == ErrorCode._INVALID_ARG
    assert engine.subscription() == []


def test_eager_rebalance_when_a_member_joins_and_leaves() -> None:
    """The old member revokes all and gets its share; when the other closes it gets everything back."""
    cluster = Cluster(t=4)
    one, two = App(cluster, cluster.consumer()), App(cluster, cluster.consumer())
    one.engine.subscribe(["t"], 0)
    run_apps(cluster, [one], 2)
    two.engine.subscribe(["t"], cluster.now_us)
    run_apps(cluster, [one, two], 6)
    assert one.rebalances == [("assign", 4), ("revoke", 4), ("assign", 2)]
    assert two.rebalances == [("assign", 2)]
    closing = two.engine.close_begin(cluster.now_us)
    run_apps(cluster, [one, two], 6)
    assert closing.done
    assert two.rebalances[-1] == ("revoke", 2)
    assert one.rebalances[-2:] == [("revoke", 2), ("assign", 4)]


def test_cooperative_rebalance_moves_only_what_must_move() -> None:
    """A joiner costs two generations; the old member loses half and keeps reading the rest."""
    cluster = Cluster(t=4)
    settings = {"partition_assignment_strategy": "cooperative-sticky"}
    one, two = App(cluster, cluster.consumer(**settings)), App(cluster, cluster.consumer(**settings))
    one.engine.subscribe(["t"], 0)
    run_apps(cluster, [one], 2)
    two.engine.subscribe(["t"], cluster.now_us)
    run_apps(cluster, [one, two], 12)
    assert one.rebalances == [("assign", 4), ("revoke", 2), ("assign", 0), ("assign", 0)]
    assert two.rebalances == [("assign", 0), ("assign", 2)]
    assert sorted(one.engine.assignment() + two.engine.assignment()) == sorted(cluster.logs)
    closing = two.engine.close_begin(cluster.now_us)
    run_apps(cluster, [one, two], 8)
    assert closing.done
    assert len(one.engine.assignment()) == 4


def test_close_commits_and_leaves() -> None:
    """close(): revoke, a last commit, then LeaveGroup, in that order."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"a", b"b"])
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    closing = app.engine.close_begin(cluster.now_us)
    run_apps(cluster, [app], 0.5)
    assert closing.done
    assert cluster.group.offsets[T0].offset == 2
    kinds = [type(request) for _, request in cluster.requests]
    assert kinds.index(LeaveGroupRequest) > kinds.index(OffsetCommitRequest)
    assert app.rebalances == [("assign", 1), ("revoke", 1)]


def test_static_member_does_not_leave() -> None:
    """With group.instance.id close() sends no LeaveGroup."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer(group_instance_id="i"))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    closing = app.engine.close_begin(cluster.now_us)
    run_apps(cluster, [app], 0.5)
    assert closing.done
    assert not any(isinstance(request, LeaveGroupRequest) for _, request in cluster.requests)


def test_max_poll_interval_exceeded() -> None:
    """An application that does not poll is out of the group; its next poll tells it so, takes everything away, and rejoins."""
    cluster = Cluster(t=2)
    app = App(cluster, cluster.consumer(max_poll_interval_ms=10_000, session_timeout_ms=6_000))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    cluster.run(13)
    assert any(isinstance(request, LeaveGroupRequest) for _, request in cluster.requests)
    assert app.engine.member_id == ""
    assert len(app.engine.assignment()) == 2
    joins = sum(isinstance(request, JoinGroupRequest) for _, request in cluster.requests)
    run_apps(cluster, [app], 3)
    error, lost = app.others[1:3]
    assert isinstance(error, ConsumerError)
    assert error.code == ErrorCode._MAX_POLL_EXCEEDED
    assert error.text.startswith("Application maximum poll interval (10000ms) exceeded by ")
    assert isinstance(lost, Rebalance)
    assert lost.kind == "lost"
    assert sum(isinstance(request, JoinGroupRequest) for _, request in cluster.requests) == joins + 2
    assert app.rebalances[-1] == ("assign", 2)


@pytest.mark.parametrize("error", [ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION])
def test_heartbeat_that_disowns_the_member(error: ErrorCode) -> None:
    """The partitions are lost and the group is joined again, with the old member id only where it is still good."""
    cluster = Cluster(t=2)
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    member_id = app.engine.member_id
    cluster.failing[HeartbeatRequest] = [error]
    run_apps(cluster, [app], 8)
    assert app.rebalances == [("assign", 2), ("lost", 2), ("assign", 2)] or app.rebalances[1] == ("lost", 2)
    assert (app.engine.member_id == member_id) == (error == ErrorCode.ILLEGAL_GENERATION)


def test_fenced_instance_is_fatal() -> None:
    """FENCED_INSTANCE_ID: one _FATAL message, the assignment goes without a callback, commits are refused."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer(group_instance_id="i"))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    cluster.failing[HeartbeatRequest] = [ErrorCode.FENCED_INSTANCE_ID]
    run_apps(cluster, [app], 5)
    (fatal,) = [item for item in app.others if isinstance(item, ConsumerError)]
    assert fatal.code == ErrorCode._FATAL
    assert app.engine.fatal_error == ErrorCode.FENCED_INSTANCE_ID
    assert app.rebalances == [("assign", 1)]
    assert app.engine.assignment() == []
    closing = app.engine.close_begin(cluster.now_us)
    run_apps(cluster, [app], 1)
    assert closing.done


def test_session_expires_without_answers() -> None:
    """No heartbeat is answered for session.timeout.ms: the member gives its partitions up by itself."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer(session_timeout_ms=6_000))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    cluster.silent.add(app.engine.node_id)
    run_apps(cluster, [app], 9)
    assert app.rebalances == [("assign", 1), ("lost", 1)]


def test_missing_topic_is_told_once() -> None:
    """A subscribed topic that does not exist gives one error; it is found with the next regular refresh."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer(topic_metadata_refresh_interval_ms=10_000))
    app.engine.subscribe(["nope"], 0)
    run_apps(cluster, [app], 5)
    (error,) = app.others
    assert isinstance(error, ConsumerError)
    assert (error.code, error.topic) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "nope")
    assert error.text == "Subscribed topic not available: nope: Broker: Unknown topic or partition"
    cluster.add_topic("nope", 2)
    run_apps(cluster, [app], 8)
    assert app.rebalances == [("assign", 2)]


def test_pattern_finds_new_topics_and_partitions() -> None:
    """A pattern is matched against all topics at every refresh; more partitions mean a rejoin."""
    cluster = Cluster(ta=1, other=1)
    app = App(cluster, cluster.consumer(topic_metadata_refresh_interval_ms=5_000))
    app.engine.subscribe(["^t.*"], 0)
    run_apps(cluster, [app], 3)
    assert app.rebalances == [("assign", 1)]
    cluster.add_topic("tb", 1)
    run_apps(cluster, [app], 7)
    assert app.rebalances == [("assign", 1), ("revoke", 1), ("assign", 2)]
    cluster.add_topic("tb", 3)
    run_apps(cluster, [app], 7)
    assert app.rebalances[-1] == ("assign", 4)


def test_unsubscribe_revokes_and_leaves() -> None:
    """unsubscribe(): the revoke comes with the next poll, then the group is left."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    app.engine.unsubscribe(cluster.now_us)
    run_apps(cluster, [app], 2)
    assert app.rebalances == [("assign", 1), ("revoke", 1)]
    assert cluster.group.members == {}
    assert app.engine.subscription() == []


def test_manual_commit_results() -> None:
    """Nothing stored: _NO_OFFSET; stored offsets go with generation -1 when partitions were assigned by hand."""
    cluster = Cluster(t=2)
    cluster.logs[T0].append([b"a"])
    engine = cluster.consumer(enable_auto_commit=False)
    engine.assign([(T0, 0), (T1, 0)], 0)
    cluster.run(1)
    nothing = engine.commit(None, cluster.now_us)
    cluster.run(0.1)
    assert nothing.done
    assert nothing.error == ErrorCode._NO_OFFSET
    engine.take(10, cluster.now_us)
    stored = engine.commit(None, cluster.now_us, wants_report=True)
    cluster.run(0.1)
    assert stored.error == ErrorCode.NONE
    assert [(tp, value.offset, code) for tp, value, code in stored.result] == [
        (T0, 1, ErrorCode.NONE),
        (T1, OFFSET_INVALID, ErrorCode.NONE),
    ]
    (report,) = engine.take(10, cluster.now_us)
    assert isinstance(report, CommitDone)
    assert report.offsets == [(T0, 1, ErrorCode.NONE), (T1, OFFSET_INVALID, ErrorCode.NONE)]
    (request,) = [request for _, request in cluster.requests if isinstance(request, OffsetCommitRequest)]
    assert (request.generation_id, request.member_id) == (-1, "")


def test_commit_waits_for_a_coordinator() -> None:
    """NOT_COORDINATOR: the coordinator is looked up anew, and the commit goes to it."""
    cluster = Cluster(t=1)
    engine = cluster.consumer()
    cluster.run(1)
    cluster.failing[OffsetCommitRequest] = [ErrorCode.NOT_COORDINATOR]
    operation = engine.commit([(T0, OffsetAndMetadata(7))], cluster.now_us)
    cluster.coordinator = 2
    cluster.run(2)
    assert operation.done
    assert operation.error == ErrorCode.NONE
    committed = engine.committed([T0, T1], 1_000_000, cluster.now_us)
    cluster.run(1)
    assert [(tp, value.offset) for tp, value, _ in committed.result] == [(T0, 7), (T1, OFFSET_INVALID)]


def test_store_offsets_rules() -> None:
    """Explicit storing needs enable.auto.offset.store=false and an assigned partition."""
    cluster = Cluster(t=1)
    automatic = cluster.consumer()
    assert automatic.store_offsets([(T0, 1, -1, "")]) == [(T0, ErrorCode._INVALID_ARG)]
    engine = cluster.consumer(enable_auto_offset_store=False)
    assert engine.store_offsets([(T0, 1, -1, "")]) == [(T0, ErrorCode._UNKNOWN_PARTITION)]
    engine.assign([(T0, 0)], 0)
    assert engine.store_offsets([(T0, 1, -1, "m")]) == [(T0, ErrorCode.NONE)]
    engine.unassign(0)
    cluster.run(1)
    assert engine.store_offsets([(T0, 1, -1, "")]) == [(T0, ErrorCode._STATE)]


def test_leader_change_is_followed_and_truncation_noticed() -> None:
    """The new leader's log ends before our position: reading goes on at its end (KIP-320)."""
    cluster = Cluster(t=1)
    log = cluster.logs[T0]
    log.append([b"a", b"b", b"c"])
    engine = cluster.consumer()
    engine.assign([(T0, 0)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 1)
    log.leader, log.epoch, log.epoch_ends = 2, 1, {0: 1}
    log.batches.clear()
    log.start = 1
    log.append([b"B"])
    log.start = 0
    run_apps(cluster, [app], 3)
    assert app.values == [b"a", b"b", b"c", b"B"]
    assert engine.position(T0) == 2


def test_queries() -> None:
    """Watermarks and offsets by time are asked of the leaders, wherever they are."""
    cluster = Cluster(t=2)
    cluster.logs[T0].append([b"a", b"b"])
    cluster.logs[T1].leader = 2
    engine = cluster.consumer()
    marks = engine.query_watermark_offsets(T0, 1_000_000, 0)
    times = engine.offsets_for_times([(T0, 5), (T1, 5)], 1_000_000, 0)
    missing = engine.query_watermark_offsets(TopicPartition("t", 9), 1_000_000, 0)
    cluster.run(1.5)
    assert marks.result == (0, 2)
    assert [(each.tp, each.offset) for each in times.result] == [(T0, 2), (T1, 0)]
    assert missing.error == ErrorCode._UNKNOWN_PARTITION


def test_idle_consumer_costs_its_long_polls_and_heartbeats() -> None:
    """Ten idle seconds: two fetches a second to one broker, a heartbeat every three."""
    cluster = Cluster(t=4)
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 5)
    before = len(cluster.requests)
    cluster.run(9)
    kinds = [type(request) for _, request in cluster.requests[before:]]
    assert 17 <= kinds.count(FetchRequest) <= 18
    assert kinds.count(HeartbeatRequest) == 3
    assert len(kinds) - kinds.count(FetchRequest) - kinds.count(HeartbeatRequest) <= 1


def test_statistics_show_lag_and_group() -> None:
    """Statistics carry the state of the group and each partition's lag."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"a"] * 3)
    app = App(cluster, cluster.consumer(statistics_interval_ms=1_000))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 8)
    figures = json.loads([event for event in app.engine.take_events() if event.kind == "stats"][-1].text)
    assert figures["cgrp"]["join_state"] == "steady"
    assert figures["topics"]["t"]["partitions"]["0"]["consumer_lag"] == 0
