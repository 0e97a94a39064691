"""Groups whose members come and go while records keep arriving."""

from __future__ import annotations

import itertools
import time
from random import Random

import pytest
from tests.unit.client.fake_group import App, Cluster, run_apps

import kafkasim
from kafkasim.core.model.effects import COORDINATOR_CHANNEL, MAIN_CHANNEL
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    FindCoordinatorRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    OffsetFetchRequest,
    SyncGroupRequest,
)
from kafkasim.core.model.ids import TopicPartition

T0 = TopicPartition("t", 0)


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
@pytest.mark.parametrize("seed", range(3))
def test_every_record_is_read_once_through_rebalances(strategy: str, seed: int) -> None:
    """Members join and close at random; commits on revoke make every record arrive exactly once."""
    random = Random(seed)
    cluster = Cluster(t=6)
    apps: list[App] = []
    closed: list[App] = []
    sent = 0
    for step in range(25):
        if not apps or (random.random() < 0.3 and len(apps) < 4):
            app = App(cluster, cluster.consumer(partition_assignment_strategy=strategy, heartbeat_interval_ms=500))
            app.engine.subscribe(["t"], cluster.now_us)
            apps.append(app)
        elif random.random() < 0.2 and len(apps) > 1:
            app = apps.pop(random.randrange(len(apps)))
            app.engine.close_begin(cluster.now_us)
            closed.append(app)
        for tp in sorted(cluster.logs):
            cluster.logs[tp].append([f"{step}-{tp.partition}-{i}".encode() for i in range(3)])
            sent += 3
        run_apps(cluster, apps + closed, random.uniform(0.2, 1.5))
    run_apps(cluster, apps + closed, 10)
    assert all(app.engine.close_begin(cluster.now_us).done for app in closed)
    owned = [tp for app in apps for tp in app.engine.assignment()]
    assert sorted(owned) == sorted(cluster.logs)
    values = [value for app in apps + closed for value in app.values]
    assert len(values) == len(set(values)) == sent


def test_member_id_is_asked_for_first() -> None:
    """A dynamic member joins twice: the second time with the id that it was given, at once."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 1)
    (first_us, first), (second_us, second) = [
        (at, request) for at, request in cluster.requests if isinstance(request, JoinGroupRequest)
    ]
    assert (first.member_id, second.member_id) == ("", "rdkafka-1")
    assert second_us - first_us < 10_000
    assert [name for name, _ in second.protocols] == ["range", "roundrobin"]


def test_coordinator_that_is_not_there_yet() -> None:
    """COORDINATOR_NOT_AVAILABLE: asked every half second, then everything follows by itself."""
    cluster = Cluster(t=1)
    cluster.failing[FindCoordinatorRequest] = [ErrorCode.COORDINATOR_NOT_AVAILABLE] * 3
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 4)
    asked = [at for at, request in cluster.requests if isinstance(request, FindCoordinatorRequest)]
    assert len(asked) == 4
    assert all(499_000 <= later - earlier <= 501_000 for earlier, later in itertools.pairwise(asked))
    assert app.rebalances == [("assign", 1)]


def test_resubscribing_changes_the_topics() -> None:
    """subscribe() again: eager members revoke everything and join with the new topics."""
    cluster = Cluster(t=1, u=2)
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    app.engine.subscribe(["u"], cluster.now_us)
    run_apps(cluster, [app], 4)
    assert app.rebalances == [("assign", 1), ("revoke", 1), ("assign", 2)]
    assert app.engine.subscription() == ["u"]


def test_cooperative_resubscribing_revokes_only_what_went() -> None:
    """A cooperative member keeps the topics that it still wants."""
    cluster = Cluster(t=1, u=2)
    app = App(cluster, cluster.consumer(partition_assignment_strategy="cooperative-sticky"))
    app.engine.subscribe(["t", "u"], 0)
    run_apps(cluster, [app], 2)
    app.engine.subscribe(["u"], cluster.now_us)
    run_apps(cluster, [app], 4)
    assert app.rebalances == [("assign", 3), ("revoke", 1), ("assign", 0)]


def test_wrong_way_to_answer_is_refused() -> None:
    """assign() belongs to eager groups, incremental_assign() to cooperative ones."""
    cluster = Cluster(t=1)
    eager = App(cluster, cluster.consumer())
    eager.engine.subscribe(["t"], 0)
    run_apps(cluster, [eager], 2)
    assert eager.engine.incremental_assign([(T0, 0)], cluster.now_us) == ErrorCode._STATE
    assert "must be made using assign()" in eager.engine.last_error_text
    other = Cluster(t=1)
    cooperative = App(other, other.consumer(partition_assignment_strategy="cooperative-sticky"))
    cooperative.engine.subscribe(["t"], 0)
    run_apps(other, [cooperative], 2)
    assert cooperative.engine.assign([(T0, 0)], other.now_us) == ErrorCode._STATE
    assert cooperative.engine.incremental_assign([(T0, 0)], other.now_us) == ErrorCode._CONFLICT
    missing = TopicPartition("t", 9)
    assert cooperative.engine.incremental_unassign([missing], other.now_us) == ErrorCode._INVALID_ARG


def test_sync_that_meets_another_rebalance() -> None:
    """SyncGroup and OffsetFetch errors that pass are tried again until the partitions are read."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"a"])
    cluster.failing[OffsetFetchRequest] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS]
    app = App(cluster, cluster.consumer())
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 3)
    assert app.values == [b"a"]
    assert sum(isinstance(request, SyncGroupRequest) for _, request in cluster.requests) == 1


def test_heartbeats_go_on_while_the_application_works() -> None:
    """Without a poll the member stays one until max.poll.interval.ms is over."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer(max_poll_interval_ms=20_000, session_timeout_ms=6_000))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    before = sum(isinstance(request, HeartbeatRequest) for _, request in cluster.requests)
    cluster.run(15)
    assert sum(isinstance(request, HeartbeatRequest) for _, request in cluster.requests) - before == 5
    app.poll()
    assert app.rebalances == [("assign", 1)]


def test_poll_in_progress_stops_the_poll_clock() -> None:
    """An application that waits inside poll() for longer than max.poll.interval.ms keeps its membership."""
    cluster = Cluster(t=1)
    app = App(cluster, cluster.consumer(max_poll_interval_ms=10_000, session_timeout_ms=6_000))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 2)
    app.engine.begin_poll(cluster.now_us)
    cluster.run(30)
    app.engine.end_poll(cluster.now_us)
    app.poll()
    assert app.rebalances == [("assign", 1)]
    assert app.engine.member_id != ""


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
@pytest.mark.parametrize("seed", range(3))
def test_broken_connections_lose_no_record(strategy: str, seed: int) -> None:
    """Connections to broker and coordinator break at random; every record still arrives, and the group settles."""
    random = Random(seed)
    cluster = Cluster(t=4)
    apps = []
    for _ in range(2):
        app = App(cluster, cluster.consumer(partition_assignment_strategy=strategy, heartbeat_interval_ms=500))
        app.engine.subscribe(["t"], 0)
        apps.append(app)
    sent = 0
    for step in range(20):
        for tp in sorted(cluster.logs):
            cluster.logs[tp].append([f"{step}-{tp.partition}".encode()])
            sent += 1
        run_apps(cluster, apps, random.uniform(0.2, 1.0))
        broken = random.choice(apps)
        broken.engine.on_disconnect(1, random.choice([MAIN_CHANNEL, COORDINATOR_CHANNEL]), cluster.now_us)
    run_apps(cluster, apps, 15)
    assert sorted(tp for app in apps for tp in app.engine.assignment()) == sorted(cluster.logs)
    assert len({value for app in apps for value in app.values}) == sent
    closings = [app.engine.close_begin(cluster.now_us) for app in apps]
    run_apps(cluster, apps, 5)
    assert all(closing.done for closing in closings)


def test_expelled_while_a_join_is_under_way() -> None:
    """Expelled by max.poll.interval.ms with a JoinGroup unanswered: the answer starts no join, the next poll does, and time goes on."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("t", partitions=3)
        errors = []

        def member(max_poll_ms: int, until: float, asleep: float) -> None:
            consumer = cluster.consumer(
                "g",
                [],
                {"max.poll.interval.ms": max_poll_ms, "session.timeout.ms": 6000, "auto.offset.reset": "earliest"},
            )
            consumer.subscribe(["t"])
            while cluster.now < until:
                consumer.poll(0.2)
            time.sleep(asleep)
            while True:
                message = consumer.poll(0.2)
                if message is not None:
                    errors.append((message.error().name(), cluster.now))

        cluster.spawn(member, 6_000, 16, 20, name="expelled")
        cluster.spawn(member, 60_000, 12, 40, name="keeps the others waiting")
        cluster.run_for(12)
        cluster.spawn(member, 60_000, 12, 0, name="new")
        cluster.run_for(70)
        assert [name for name, _ in errors] == ["_MAX_POLL_EXCEEDED"]
        assert errors[0][1] == pytest.approx(36, abs=0.5)
        members = cluster.describe_group("g").members
        assert sorted(len(member.assignment) for member in members) == [1, 1, 1]
