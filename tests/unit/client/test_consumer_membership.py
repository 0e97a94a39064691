"""Members of the consumer protocol (KIP-848) against a coordinator that answers as the test wishes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.unit.client.fake_group import App, Cluster, Wish, run_apps

from kafkasim.core.client.items import CommitDone, ConsumerError, Rebalance
from kafkasim.core.model.client_config import ClientConfig, ConfigError
from kafkasim.core.model.consumer_group_messages import ConsumerGroupHeartbeatRequest, TopicPartitions
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import OffsetCommitRequest
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import MetadataRequest

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def _member(cluster: Cluster, **config: object) -> App:
    return App(cluster, cluster.consumer(group_protocol="consumer", **config))


def _by_id(**topics: tuple[int, ...]) -> tuple[TopicPartitions, ...]:
    return tuple(TopicPartitions(f"id-{name}", partitions) for name, partitions in topics.items() if partitions)


def _joined(cluster: Cluster, *partitions: int, **config: object) -> App:
    """A member of epoch 2 that owns these partitions of ``t`` and whose heartbeats are 5 s apart."""
    app = _member(cluster, **config)
    cluster.wishes[app.engine.member_id] = Wish(2, _by_id(t=partitions))
    app.engine.subscribe(["t"], cluster.now_us)
    run_apps(cluster, [app], 1)
    return app


def _wish(cluster: Cluster, app: App, epoch: int, *partitions: int, topic: str = "t") -> None:
    wish = cluster.wishes[app.engine.member_id]
    wish.epoch, wish.assignment = epoch, _by_id(**{topic: partitions})


def test_a_member_joins_and_acknowledges_at_once() -> None:
    """The first heartbeat says everything, the second owns what was assigned, and the third comes an interval later."""
    cluster = Cluster(t=2)
    app = _joined(cluster, 0, 1, client_rack="r")
    first, second = cluster.heartbeats()
    assert len(first.member_id) == 22
    assert (first.member_epoch, first.subscribed_topic_names, first.subscribed_topic_regex) == (0, ("t",), "")
    assert (first.rack_id, first.rebalance_timeout_ms, first.topic_partitions) == ("r", 300_000, ())
    assert (second.member_epoch, second.subscribed_topic_names, second.rebalance_timeout_ms) == (2, None, -1)
    assert second.topic_partitions == _by_id(t=(0, 1))
    assert app.rebalances == [("assign", 2)]
    assert app.engine.rebalance_protocol == "COOPERATIVE"
    run_apps(cluster, [app], 5)
    assert len(cluster.heartbeats()) == 3
    assert cluster.heartbeats()[2].topic_partitions is None
    assert (app.engine.generation_id, app.engine.assignment()) == (2, [T0, T1])


def test_the_member_id_is_the_clients_own() -> None:
    """It is there before the first heartbeat, and stays when the member has left."""
    cluster = Cluster(t=1)
    app = _member(cluster)
    member_id = app.engine.member_id
    assert len(member_id) == 22
    cluster.wishes[member_id] = Wish(2, _by_id(t=(0,)))
    app.engine.subscribe(["t"], 0)
    run_apps(cluster, [app], 1)
    app.engine.unsubscribe(cluster.now_us)
    run_apps(cluster, [app], 1)
    assert app.engine.member_id == member_id
    assert app.engine.generation_id == 0


def test_a_topic_known_by_id_only_is_asked_for() -> None:
    """The assignment waits for the metadata of its topics, which are asked for by id."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0)
    asked = [request for _, request in cluster.requests if isinstance(request, MetadataRequest) and request.topic_ids]
    assert [request.topic_ids for request in asked] == [("id-t",)]
    assert app.rebalances == [("assign", 1)]


def test_what_has_no_name_yet_comes_with_a_later_heartbeat() -> None:
    """A topic that the brokers do not know yet is left out, and looked for again with the next heartbeat."""
    cluster = Cluster(t=1)
    app = _member(cluster)
    cluster.wishes[app.engine.member_id] = Wish(2, _by_id(t=(0,), u=(0,)))
    app.engine.subscribe(["t", "u"], 0)
    run_apps(cluster, [app], 2)
    assert app.engine.assignment() == [T0]
    cluster.add_topic("u", 1)
    run_apps(cluster, [app], 6)
    assert app.engine.assignment() == [T0, TopicPartition("u", 0)]
    assert app.rebalances == [("assign", 1), ("assign", 1)]
    assert cluster.heartbeats()[-1].topic_partitions == _by_id(t=(0,), u=(0,))


def test_a_revocation_is_followed_by_an_empty_assign_and_acknowledged_at_once() -> None:
    """What went is revoked; an assign of nothing follows; then the coordinator hears of it without an interval's wait."""
    cluster = Cluster(t=2)
    app = _joined(cluster, 0, 1)
    _wish(cluster, app, 3, 0)
    run_apps(cluster, [app], 6)
    assert app.rebalances == [("assign", 2), ("revoke", 1), ("assign", 0)]
    (told_us, _), (acknowledged_us, last) = [
        (at, request) for at, request in cluster.requests if isinstance(request, ConsumerGroupHeartbeatRequest)
    ][-2:]
    assert last.topic_partitions == _by_id(t=(0,))
    assert acknowledged_us - told_us < 300_000
    assert app.engine.assignment() == [T0]


def test_a_member_without_partitions_hears_nothing_and_tells_all_each_time() -> None:
    """No callback; it stays in INIT, so each heartbeat is a full one."""
    cluster = Cluster(t=1)
    app = _joined(cluster)
    run_apps(cluster, [app], 11)
    assert app.rebalances == []
    assert [request.rebalance_timeout_ms for request in cluster.heartbeats()] == [300_000] * 3
    _wish(cluster, app, 3, 0)
    run_apps(cluster, [app], 6)
    assert app.rebalances == [("assign", 1)]


def test_an_assignment_waits_until_the_one_before_is_acknowledged() -> None:
    """A slow application is told of one change at a time, and of the newest next."""
    cluster = Cluster(t=3)
    app = _joined(cluster, 0)
    _wish(cluster, app, 3, 0, 1)
    cluster.run(6)  # The heartbeat has brought it; the application has not polled.
    _wish(cluster, app, 4, 2)
    cluster.run(6)
    assert cluster.heartbeats()[-1].topic_partitions is None
    run_apps(cluster, [app], 1)
    assert app.rebalances == [("assign", 1), ("assign", 1), ("revoke", 2), ("assign", 1)]
    owned = [request.topic_partitions for request in cluster.heartbeats() if request.topic_partitions]
    assert owned[-2:] == [_by_id(t=(0, 1)), _by_id(t=(2,))]


def test_heartbeats_go_on_while_the_application_is_away() -> None:
    """Until max.poll.interval.ms is over, an unanswered callback does not stop them."""
    cluster = Cluster(t=2)
    app = _joined(cluster, 0, 1)
    before = len(cluster.heartbeats())
    _wish(cluster, app, 3, 0)
    cluster.run(21)
    assert len(cluster.heartbeats()) - before == 4
    assert app.rebalances == [("assign", 2)]


@pytest.mark.parametrize("error", [ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH])
def test_a_fenced_member_loses_everything_and_joins_again_with_its_id(error: ErrorCode) -> None:
    """on_lost, no commit of what is lost, and a full heartbeat of epoch 0."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0, auto_commit_interval_ms=60_000)
    cluster.logs[T0].append([b"v"])
    cluster.failing[ConsumerGroupHeartbeatRequest] = [error]
    before = len(cluster.heartbeats())
    run_apps(cluster, [app], 6)
    assert app.rebalances == [("assign", 1), ("lost", 1), ("assign", 1)]
    refused, again = cluster.heartbeats()[before : before + 2]
    assert (refused.member_epoch, again.member_epoch) == (2, 0)
    assert (again.member_id, again.subscribed_topic_names) == (refused.member_id, ("t",))
    assert not [request for _, request in cluster.requests if isinstance(request, OffsetCommitRequest)]


def test_a_fenced_member_without_partitions_joins_again_without_a_word() -> None:
    """There is nothing to lose."""
    cluster = Cluster(t=1)
    app = _joined(cluster)
    cluster.failing[ConsumerGroupHeartbeatRequest] = [ErrorCode.UNKNOWN_MEMBER_ID]
    run_apps(cluster, [app], 6)
    assert app.rebalances == []
    assert cluster.heartbeats()[-1].member_epoch == 0


@pytest.mark.parametrize(
    "error",
    [
        ErrorCode.GROUP_ID_NOT_FOUND,
        ErrorCode.UNRELEASED_INSTANCE_ID,
        ErrorCode.UNSUPPORTED_ASSIGNOR,
        ErrorCode.GROUP_MAX_SIZE_REACHED,
        ErrorCode.INVALID_REGULAR_EXPRESSION,
        ErrorCode.UNKNOWN_SERVER_ERROR,
    ],
)
def test_fatal_answers(error: ErrorCode) -> None:
    """The application is told once; the assignment goes without a callback, and nothing is sent any more."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0)
    cluster.failing[ConsumerGroupHeartbeatRequest] = [error]
    run_apps(cluster, [app], 6)
    (told,) = [item for item in app.others if isinstance(item, ConsumerError)]
    assert told.code == ErrorCode._FATAL
    assert "ConsumerGroupHeartbeat fatal error: " in told.text
    assert app.engine.fatal_error == error
    assert (app.rebalances, app.engine.assignment()) == ([("assign", 1)], [])
    sent = len(cluster.heartbeats())
    closing = app.engine.close_begin(cluster.now_us)
    run_apps(cluster, [app], 6)
    assert closing.done
    assert len(cluster.heartbeats()) == sent


@pytest.mark.parametrize(("instance", "epoch"), [(None, -1), ("i", -2)])
def test_close_revokes_commits_and_leaves(instance: str | None, epoch: int) -> None:
    """The application gives back, the stored offset is committed in the member's epoch, and only then it leaves."""
    cluster = Cluster(t=1)
    config = {} if instance is None else {"group_instance_id": instance}
    app = _joined(cluster, 0, **config)
    cluster.logs[T0].append([b"v"])
    run_apps(cluster, [app], 1)
    closing = app.engine.close_begin(cluster.now_us)
    run_apps(cluster, [app], 1)
    assert closing.done
    assert app.rebalances == [("assign", 1), ("revoke", 1)]
    commit, leave = [
        request
        for _, request in cluster.requests
        if isinstance(request, (OffsetCommitRequest, ConsumerGroupHeartbeatRequest))
    ][-2:]
    assert isinstance(commit, OffsetCommitRequest)
    assert (commit.generation_id, commit.member_id) == (2, app.engine.member_id)
    assert isinstance(leave, ConsumerGroupHeartbeatRequest)
    assert (leave.member_epoch, leave.instance_id) == (epoch, instance)


def test_close_of_a_member_without_partitions_leaves_at_once() -> None:
    """No callback stands in between."""
    cluster = Cluster(t=1)
    app = _joined(cluster)
    closing = app.engine.close_begin(cluster.now_us)
    cluster.run(0.1)
    assert closing.done
    assert cluster.heartbeats()[-1].member_epoch == -1


def test_close_before_joining_sends_nothing() -> None:
    """Who is no member has nothing to leave."""
    cluster = Cluster(t=1)
    app = _member(cluster)
    closing = app.engine.close_begin(cluster.now_us)
    cluster.run(0.1)
    assert closing.done
    assert cluster.heartbeats() == []


def test_unsubscribe_leaves_and_a_new_subscription_waits_for_it() -> None:
    """The revocation is the application's turn; the next subscription joins when the coordinator has answered."""
    cluster = Cluster(t=1, u=1)
    app = _joined(cluster, 0)
    app.engine.unsubscribe(cluster.now_us)
    _wish(cluster, app, 5, 0, topic="u")
    app.engine.subscribe(["u"], cluster.now_us)
    assert app.engine.subscription() == ["u"]
    run_apps(cluster, [app], 1)
    assert app.rebalances == [("assign", 1), ("revoke", 1), ("assign", 1)]
    leave, join = [request for request in cluster.heartbeats() if request.member_epoch <= 0][-2:]
    assert (leave.member_epoch, join.member_epoch, join.subscribed_topic_names) == (-1, 0, ("u",))
    assert app.engine.assignment() == [TopicPartition("u", 0)]


def test_unsubscribing_amid_a_revocation_leaves_after_both() -> None:
    """The rest is revoked too, the assign that follows a revocation comes all the same, and then the member leaves."""
    cluster = Cluster(t=2)
    app = _joined(cluster, 0, 1)
    _wish(cluster, app, 3, 0)
    cluster.run(5)
    (revoke,) = app.engine.take(10, cluster.now_us)
    app.engine.unsubscribe(cluster.now_us)
    assert isinstance(revoke, Rebalance)
    app.answer(revoke)
    run_apps(cluster, [app], 1)
    assert app.rebalances == [("assign", 2), ("revoke", 1), ("assign", 0)]
    assert (cluster.heartbeats()[-1].member_epoch, app.engine.assignment()) == (-1, [])


def test_another_subscription_is_told_at_once() -> None:
    """Only the subscription, not the rest, and without giving anything up first."""
    cluster = Cluster(t=1, u=1)
    app = _joined(cluster, 0)
    app.engine.subscribe(["t", "u"], cluster.now_us)
    run_apps(cluster, [app], 0.1)
    last = cluster.heartbeats()[-1]
    assert (last.member_epoch, last.subscribed_topic_names, last.rebalance_timeout_ms) == (2, ("t", "u"), -1)
    assert app.rebalances == [("assign", 1)]


def test_patterns_go_to_the_coordinator_in_one() -> None:
    """Each in parentheses; a subscription without any clears it."""
    cluster = Cluster(t=1)
    app = _member(cluster)
    app.engine.subscribe(["t", "^a.*", "^b"], 0)
    run_apps(cluster, [app], 0.5)
    first = cluster.heartbeats()[0]
    assert (first.subscribed_topic_names, first.subscribed_topic_regex) == (("t",), "(^a.*)|(^b)")


def test_a_subscription_during_a_rebalance_waits() -> None:
    """It is told when the application has answered."""
    cluster = Cluster(t=2, u=1)
    app = _joined(cluster, 0, 1)
    _wish(cluster, app, 3, 0)
    cluster.run(5)
    app.engine.subscribe(["t", "u"], cluster.now_us)
    cluster.run(6)
    assert cluster.heartbeats()[-1].subscribed_topic_names is None
    run_apps(cluster, [app], 1)
    assert [r.subscribed_topic_names for r in cluster.heartbeats() if r.subscribed_topic_names][-1] == ("t", "u")


def test_max_poll_exceeded() -> None:
    """Heartbeats stop; the next poll has the error, then on_lost; then the member leaves and joins again."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0, max_poll_interval_ms=10_000)
    cluster.run(50)
    sent = len(cluster.heartbeats())
    cluster.run(20)
    assert len(cluster.heartbeats()) == sent
    assert (app.engine.assignment(), app.engine.generation_id) == ([T0], 2)
    app.poll()
    told = [type(item).__name__ for item in app.others[-2:]]
    assert told == ["ConsumerError", "Rebalance"]
    run_apps(cluster, [app], 1)
    assert app.rebalances == [("assign", 1), ("lost", 1), ("assign", 1)]
    leave, join = [request.member_epoch for request in cluster.heartbeats()[sent : sent + 2]]
    assert (leave, join) == (-1, 0)


def test_a_new_coordinator_is_told_everything() -> None:
    """NOT_COORDINATOR: the assignment stays; the first heartbeat to the next coordinator is a full one."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0)
    cluster.failing[ConsumerGroupHeartbeatRequest] = [ErrorCode.NOT_COORDINATOR]
    cluster.coordinator = 2
    run_apps(cluster, [app], 6)
    refused, full = cluster.heartbeats()[2:4]
    assert (refused.rebalance_timeout_ms, full.rebalance_timeout_ms) == (-1, 300_000)
    assert (full.member_epoch, full.topic_partitions) == (2, _by_id(t=(0,)))
    assert app.rebalances == [("assign", 1)]


def test_a_coordinator_that_loads_is_asked_again() -> None:
    """COORDINATOR_LOAD_IN_PROGRESS: with a growing wait, and nobody is told."""
    cluster = Cluster(t=1)
    cluster.failing[ConsumerGroupHeartbeatRequest] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 4
    app = _joined(cluster, 0)
    run_apps(cluster, [app], 3)
    assert app.rebalances == [("assign", 1)]
    assert app.others == [item for item in app.others if not isinstance(item, ConsumerError)]
    times = [at for at, request in cluster.requests if isinstance(request, ConsumerGroupHeartbeatRequest)]
    waits = [later - earlier for earlier, later in pairwise(times[:5])]
    assert waits == sorted(waits)
    assert waits[0] >= 80_000


def test_a_stale_epoch_fails_a_commit_of_the_application() -> None:
    """It is told; the next heartbeat comes at once."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0, enable_auto_commit=False)
    cluster.logs[T0].append([b"v"])
    run_apps(cluster, [app], 1)
    cluster.failing[OffsetCommitRequest] = [ErrorCode.STALE_MEMBER_EPOCH]
    sent = len(cluster.heartbeats())
    operation = app.engine.commit(None, cluster.now_us)
    cluster.run(0.05)
    assert (operation.done, operation.error) == (True, ErrorCode.STALE_MEMBER_EPOCH)
    assert len(cluster.heartbeats()) == sent + 1


def test_a_stale_epoch_puts_an_automatic_commit_off() -> None:
    """It is sent again, in the epoch of that moment, until it succeeds."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0)
    app.engine.reports_commits = True
    cluster.logs[T0].append([b"v"])
    cluster.failing[OffsetCommitRequest] = [ErrorCode.STALE_MEMBER_EPOCH] * 3
    cluster.wishes[app.engine.member_id].epoch = 4
    run_apps(cluster, [app], 6)
    sent = [request for _, request in cluster.requests if isinstance(request, OffsetCommitRequest)]
    assert len(sent) == 4
    assert sent[-1].generation_id == 4
    (done,) = [item for item in app.others if isinstance(item, CommitDone)]
    assert (done.error, done.offsets) == (ErrorCode.NONE, [(T0, 1, ErrorCode.NONE)])


def test_an_unknown_member_learns_it_by_the_next_heartbeat() -> None:
    """UNKNOWN_MEMBER_ID on a commit loses nothing by itself: it only brings the heartbeat forward."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0, enable_auto_commit=False)
    cluster.failing[OffsetCommitRequest] = [ErrorCode.UNKNOWN_MEMBER_ID]
    cluster.logs[T0].append([b"v"])
    run_apps(cluster, [app], 1)
    sent = len(cluster.heartbeats())
    operation = app.engine.commit(None, cluster.now_us)
    run_apps(cluster, [app], 0.2)
    assert operation.error == ErrorCode.UNKNOWN_MEMBER_ID
    assert len(cluster.heartbeats()) == sent + 1
    assert app.rebalances == [("assign", 1)]


def test_topic_that_was_made_anew_is_another_one() -> None:
    """The id differs: an empty assign, as the partitions' names are the same, and the new id is acknowledged."""
    cluster = Cluster(t=1)
    app = _joined(cluster, 0)
    wish = cluster.wishes[app.engine.member_id]
    app.engine.metadata._names["id-t2"] = "t"
    app.engine.metadata.topics["t"].topic_id = "id-t2"
    wish.assignment = _by_id(t2=(0,))
    run_apps(cluster, [app], 5.5)
    assert app.rebalances == [("assign", 1), ("assign", 0)]
    assert cluster.heartbeats()[-1].topic_partitions == _by_id(t2=(0,))


def test_settings_that_the_broker_makes_are_refused() -> None:
    """Session, heartbeat and strategy are the broker's in this protocol."""
    for name, value in (
        ("session.timeout.ms", 6000),
        ("heartbeat.interval.ms", 500),
        ("partition.assignment.strategy", "range"),
        ("group.protocol.type", "consumer"),
    ):
        with pytest.raises(ConfigError, match=f"`{name}` is not supported for `group.protocol=consumer`"):
            ClientConfig.parse("consumer", {"group.id": "g", "group.protocol": "consumer", name: value})
