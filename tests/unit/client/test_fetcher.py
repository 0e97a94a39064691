"""What the fetcher shows, drops and holds back."""

from __future__ import annotations

import itertools

import pytest
from tests.unit.client.fake_group import App, Cluster, run_apps

from kafkasim.core.client.fetched import visible_batches
from kafkasim.core.client.items import ConsumerError
from kafkasim.core.client.subscription import Partition
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, TopicPartition
from kafkasim.core.model.messages import AbortedTransaction, FetchRequest, ListOffsetsRequest
from kafkasim.core.model.records import RecordBatch, batch_of

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def _batch(offset: int, producer_id: int = -1, *, is_control: bool = False) -> RecordBatch:
    batch = batch_of([b"v"]).placed(offset, 0)
    batch.producer_id, batch.is_transactional, batch.is_control = producer_id, producer_id >= 0, is_control
    return batch


def test_aborted_transactions_are_left_out() -> None:
    """Batches of an aborted transaction and all markers are hidden; a later transaction of the same producer is not."""
    batches = [
        _batch(0),
        _batch(1, 7),
        _batch(2, 8),
        _batch(3, 7, is_control=True),
        _batch(4, 7),
        _batch(5, 7, is_control=True),
    ]
    visible, size_bytes = visible_batches(batches, [AbortedTransaction(7, 1)])
    assert [batch.base_offset for batch in visible] == [0, 2, 4]
    assert size_bytes == sum(batch.size_bytes for batch in batches)
    assert [batch.base_offset for batch in visible_batches(batches, ())[0]] == [0, 1, 2, 4]


def test_control_batches_move_the_position() -> None:
    """A log that ends in a marker: nothing of it is shown, but the position and the stored offset pass it."""
    cluster = Cluster(t=1)
    cluster.logs[T0].batches += [_batch(0), _batch(1, 7, is_control=True)]
    engine = cluster.consumer()
    engine.assign([(T0, 0)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 1)
    assert len(app.values) == 1
    assert engine.position(T0) == 2


def test_one_fetch_at_a_time_with_all_partitions() -> None:
    """Both partitions of a leader travel in one request, and the next leaves only after the answer."""
    cluster = Cluster(t=2)
    engine = cluster.consumer()
    engine.assign([(T0, 0), (T1, 0)], 0)
    cluster.run(2)
    fetches = [(at, request) for at, request in cluster.requests if isinstance(request, FetchRequest)]
    assert all(len(request.partitions) == 2 for _, request in fetches)
    assert all(later - earlier >= 500_000 for (earlier, _), (later, _) in itertools.pairwise(fetches))


def test_full_queue_holds_fetching_off() -> None:
    """With queued.min.messages reached nothing is fetched before fetch.queue.backoff.ms."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"v"] * 50)
    engine = cluster.consumer(queued_min_messages=10)
    engine.assign([(T0, 0)], 0)
    cluster.run(1)
    cluster.logs[T0].append([b"w"] * 50)
    cluster.run(3)
    assert sum(isinstance(request, FetchRequest) for _, request in cluster.requests) == 1
    app = App(cluster, engine)
    run_apps(cluster, [app], 2)
    assert len(app.values) == 100


def test_leader_that_moved_is_asked_after_fresh_metadata() -> None:
    """NOT_LEADER_OR_FOLLOWER is not told to the application; the new leader is fetched from."""
    cluster = Cluster(t=1)
    log = cluster.logs[T0]
    log.append([b"a"])
    engine = cluster.consumer()
    engine.assign([(T0, 0)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 1)
    log.leader, log.epoch = 2, 1
    log.append([b"b"])
    run_apps(cluster, [app], 3)
    assert app.values == [b"a", b"b"]
    assert app.others == []


def test_an_offset_that_comes_with_its_epoch_is_compared_first() -> None:
    """The leader's log ended that epoch earlier: reading begins there; without the epoch nobody asks."""
    for epochs, values in (([0], [b"b", b"c"]), ([], [b"c"])):
        cluster = Cluster(t=1)
        log = cluster.logs[T0]
        log.append([b"a"])
        log.epoch = 1
        log.epoch_ends[0] = 1
        log.append([b"b"])
        log.append([b"c"])
        engine = cluster.consumer()
        engine.assign([(T0, 2, *epochs)], 0)
        app = App(cluster, engine)
        run_apps(cluster, [app], 2)
        assert app.values == values


@pytest.mark.parametrize(("epoch", "again"), [(0, [b"b", b"c"]), (NO_EPOCH, [b"c"])])
def test_an_offset_that_is_sought_with_its_epoch_is_compared_first(epoch: int, again: list[bytes]) -> None:
    """As with an assignment: reading goes on where the leader's log ended that epoch."""
    cluster = Cluster(t=1)
    log = cluster.logs[T0]
    log.append([b"a"])
    log.epoch = 1
    log.epoch_ends[0] = 1
    log.append([b"b"])
    log.append([b"c"])
    engine = cluster.consumer()
    engine.assign([(T0, 0)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 2)
    assert engine.seek(T0, 2, epoch, cluster.now_us) == ErrorCode.NONE
    run_apps(cluster, [app], 2)
    assert app.values == [b"a", b"b", b"c", *again]


def test_offset_lookup_is_repeated_after_an_error_that_passes() -> None:
    """LEADER_NOT_AVAILABLE on ListOffsets: asked again half a second later."""
    cluster = Cluster(t=1)
    cluster.logs[T0].append([b"a"])
    cluster.failing[ListOffsetsRequest] = [ErrorCode.LEADER_NOT_AVAILABLE]
    engine = cluster.consumer()
    engine.assign([(T0, -2)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 2)
    first, second = [at for at, request in cluster.requests if isinstance(request, ListOffsetsRequest)]
    assert 500_000 <= second - first < 510_000
    assert app.values == [b"a"]


def test_offset_lookup_that_is_refused_is_told() -> None:
    """A permanent error on ListOffsets reaches the application with the offset that was asked for."""
    cluster = Cluster(t=1)
    cluster.failing[ListOffsetsRequest] = [ErrorCode.TOPIC_AUTHORIZATION_FAILED]
    engine = cluster.consumer(auto_offset_reset="error")
    engine.assign([(T0, -2)], 0)
    app = App(cluster, engine)
    run_apps(cluster, [app], 2)
    errors = [item for item in app.others if isinstance(item, ConsumerError)]
    assert [error.code for error in errors] == [
        ErrorCode._AUTO_OFFSET_RESET,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ]
    assert errors[1].text.startswith("Failed to query logical offset BEGINNING: ")


def test_leases_of_another_replica_are_not_renewed_in_a_hurry() -> None:
    """A leader that sends us away twice within a minute may know less than we do; after that it is believed again."""
    partition = Partition(T0)
    assert partition.lease(0)
    assert not partition.lease(59_000_000)
    assert partition.lease(61_000_000)
    assert partition.lease_until_us == 361_000_000
