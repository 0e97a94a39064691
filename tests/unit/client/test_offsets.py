"""Commits that fail, wait, or are refused."""

from __future__ import annotations

from tests.unit.client.fake_group import App, Cluster, run_apps

from kafkasim.core.client.items import CommitDone
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    FindCoordinatorRequest,
    OffsetAndMetadata,
    OffsetCommitRequest,
    OffsetFetchRequest,
)
from kafkasim.core.model.ids import TopicPartition

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def _commits(cluster: Cluster) -> list[OffsetCommitRequest]:
    return [request for _, request in cluster.requests if isinstance(request, OffsetCommitRequest)]


def test_load_in_progress_is_retried() -> None:
    """COORDINATOR_LOAD_IN_PROGRESS: twice again after the retry backoff, then the error is the result."""
    cluster = Cluster(t=1)
    engine = cluster.consumer()
    cluster.run(1)
    cluster.failing[OffsetCommitRequest] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 2
    operation = engine.commit([(T0, OffsetAndMetadata(3))], cluster.now_us)
    cluster.run(2)
    assert operation.error == ErrorCode.NONE
    cluster.failing[OffsetCommitRequest] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 9
    operation = engine.commit([(T0, OffsetAndMetadata(4))], cluster.now_us)
    cluster.run(3)
    assert operation.error == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert len(_commits(cluster)) == 6


def test_commit_without_any_coordinator_times_out() -> None:
    """A commit waits session.timeout.ms for a coordinator, then fails with _WAIT_COORD."""
    cluster = Cluster(t=1)
    cluster.failing[FindCoordinatorRequest] = [ErrorCode.COORDINATOR_NOT_AVAILABLE] * 100
    engine = cluster.consumer(session_timeout_ms=6_000)
    operation = engine.commit([(T0, OffsetAndMetadata(3))], 0)
    cluster.run(5.9)
    assert not operation.done
    cluster.run(0.2)
    assert operation.error == ErrorCode._WAIT_COORD
    assert [code for _, _, code in operation.result] == [ErrorCode._WAIT_COORD]


def test_committed_without_any_coordinator_times_out() -> None:
    """Asking what is committed ends with its own time, and says so."""
    cluster = Cluster(t=1)
    cluster.failing[FindCoordinatorRequest] = [ErrorCode.COORDINATOR_NOT_AVAILABLE] * 100
    operation = cluster.consumer().committed([T0], 1_000_000, 0)
    cluster.run(1.1)
    assert operation.error == ErrorCode._TIMED_OUT


def test_stale_member_loses_its_partitions() -> None:
    """UNKNOWN_MEMBER_ID on a commit: lost, and the group is joined anew."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    cluster.failing[OffsetCommitRequest] = [ErrorCode.UNKNOWN_MEMBER_ID]
    operation = app.engine.commit([(T0, OffsetAndMetadata(1))], cluster.now_us)
    cluster.run(0.1)
    assert operation.error == ErrorCode.UNKNOWN_MEMBER_ID
    assert app.engine.assignment_lost()
    refused = app.engine.commit(None, cluster.now_us)
    cluster.run(0.01)
    assert refused.error == ErrorCode._ASSIGNMENT_LOST
    app.poll()
    assert app.rebalances == [("assign", 1), ("lost", 1)]
    assert not app.engine.assignment_lost()


def test_an_old_generation_loses_its_partitions() -> None:
    """ILLEGAL_GENERATION on a commit: lost, and joined anew with the same member id."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    member_id = app.engine.member_id
    cluster.failing[OffsetCommitRequest] = [ErrorCode.ILLEGAL_GENERATION]
    operation = app.engine.commit([(T0, OffsetAndMetadata(1))], cluster.now_us)
    run_apps(cluster, [app], 2)
    assert operation.error == ErrorCode.ILLEGAL_GENERATION
    assert app.rebalances == [("assign", 1), ("lost", 1), ("assign", 1)]
    assert app.engine.member_id == member_id


def test_an_old_generation_during_a_rebalance_is_only_an_error() -> None:
    """ILLEGAL_GENERATION while the application owes an answer: the commit fails, the rebalance goes on."""
    cluster = Cluster(t=2)
    first = App(cluster, cluster.consumer(heartbeat_interval_ms=500))
    first.engine.subscribe(["t"], 0)
    run_apps(cluster, [first], 2)
    second = App(cluster, cluster.consumer(heartbeat_interval_ms=500))
    second.engine.subscribe(["t"], cluster.now_us)
    cluster.run(1.5)
    assert first.engine._membership.waits_for_answer
    cluster.failing[OffsetCommitRequest] = [ErrorCode.ILLEGAL_GENERATION]
    operation = first.engine.commit([(T0, OffsetAndMetadata(1))], cluster.now_us)
    cluster.run(0.1)
    assert operation.error == ErrorCode.ILLEGAL_GENERATION
    run_apps(cluster, [first, second], 3)
    assert [kind for kind, _ in first.rebalances] == ["assign", "revoke", "assign"]


def test_automatic_commits_are_reported_where_wanted() -> None:
    """With an on_commit callback every automatic commit gives a report, and nothing new gives none."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"a"])
    app = App(cluster, cluster.consumer())
    app.engine.reports_commits = True
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 16)
    reports = [item for item in app.others if isinstance(item, CommitDone)]
    assert [report.offsets for report in reports] == [[(T0, 1, ErrorCode.NONE)]]


def test_explicit_store_decides_what_is_committed() -> None:
    """enable.auto.offset.store=false: only what was stored is committed, with its metadata."""
    cluster = Cluster(t=2)
    cluster.logs[T0].append([b"a", b"b", b"c"])
    app = App(cluster, cluster.consumer(enable_auto_offset_store=False))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 7)
    assert _commits(cluster) == []
    app.engine.store_offsets([(T0, 2, -1, "note")])
    run_apps(cluster, [app], 6)
    assert cluster.group.offsets == {T0: OffsetAndMetadata(2, -1, "note")}


def test_committed_keeps_asking() -> None:
    """committed() outlasts errors that pass, and ends with its time."""
    cluster = Cluster(t=1)
    engine = cluster.consumer()
    cluster.run(1)
    cluster.failing[OffsetFetchRequest] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR]
    operation = engine.committed([T0], 5_000_000, cluster.now_us)
    cluster.run(3)
    assert operation.done
    assert operation.error == ErrorCode.NONE
    cluster.failing[OffsetFetchRequest] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 99
    operation = engine.committed([T0], 1_000_000, cluster.now_us)
    cluster.run(2)
    assert operation.error == ErrorCode._TIMED_OUT


def test_assigned_partition_that_does_not_exist() -> None:
    """An assigned partition that the topic has not is told as an event of the client, once."""
    cluster = Cluster(t=1)
    engine = cluster.consumer()
    engine.assign([(T1, 0)], 0)
    cluster.run(3)
    (event,) = [event for event in engine.take_events() if event.kind == "error"]
    assert event.code == ErrorCode._UNKNOWN_PARTITION
    assert event.text == "t [1]: desired partition is not available (Local: Unknown partition)"


def test_refused_commit_without_membership_loses_nothing() -> None:
    """UNKNOWN_MEMBER_ID for partitions assigned by hand (the group has members) is an error of the commit alone."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"a"])
    engine = cluster.consumer(enable_auto_commit=False)
    engine.assign([(T0, 0)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 1)
    cluster.failing[OffsetCommitRequest] = [ErrorCode.UNKNOWN_MEMBER_ID]
    refused = engine.commit(None, cluster.now_us)
    cluster.run(0.1)
    assert refused.error == ErrorCode.UNKNOWN_MEMBER_ID
    assert not engine.assignment_lost()
    accepted = engine.commit(None, cluster.now_us)
    cluster.run(0.1)
    assert accepted.error == ErrorCode.NONE
    assert engine.assignment() == [T0]
