"""Fetch as consumers see it: long polls, ranges, epochs, other replicas."""

from __future__ import annotations

from tests.unit.node.plane_cluster import PlaneCluster, fetch_request, produce_request

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import FetchRequest, PartitionFetch

NONE = ErrorCode.NONE


def one_broker() -> tuple[PlaneCluster, TopicPartition]:
    cluster = PlaneCluster(1)
    return cluster, cluster.topic(replicas=(1,))


def test_a_consumer_reads_below_the_high_watermark() -> None:
    """What is not replicated is not visible."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    cluster.cut.update({2: None, 3: None})
    cluster.produce(1, tp, b"b", acks=1)
    answer = cluster.fetch(1, tp, 0)
    assert (answer.high_watermark, [b.base_offset for b in answer.batches]) == (1, [0])
    beyond = cluster.fetch(1, tp, 2)
    assert (beyond.error, beyond.batches) == (NONE, ())


def test_a_long_poll_ends_when_something_is_committed() -> None:
    """The parked fetch is answered in the input that moves the high watermark, or empty at its end."""
    cluster, tp = one_broker()
    number = cluster.ask(1, fetch_request(tp, 0, max_wait_ms=500))
    assert number not in cluster.answers
    cluster.produce(1, tp, b"a")
    assert cluster.answers[number].partitions[0].batches[0].count == 1
    number = cluster.ask(1, fetch_request(tp, 1, max_wait_ms=500))
    cluster.run_for(0.4)
    assert number not in cluster.answers
    cluster.run_for(0.2)
    assert cluster.answers[number].partitions[0].batches == ()


def test_min_bytes_are_waited_for() -> None:
    """Small batches add up until they are worth an answer."""
    cluster, tp = one_broker()
    number = cluster.ask(1, fetch_request(tp, 0, max_wait_ms=500, min_bytes=150))
    cluster.produce(1, tp, b"a")
    cluster.produce(1, tp, b"b")
    assert number not in cluster.answers
    cluster.produce(1, tp, b"c")
    assert len(cluster.answers[number].partitions[0].batches) == 3


def test_max_bytes_bound_the_answer_but_one_batch_always_comes() -> None:
    """The first partition with data gives at least one batch, the others only what fits."""
    cluster = PlaneCluster(1)
    cluster.topic(replicas=(1,), partitions=2)
    tps = [TopicPartition("t", n) for n in range(2)]
    for tp in tps:
        for _ in range(2):
            cluster.produce(1, tp, b"a")
    request = FetchRequest(-1, 0, 1, 10, [PartitionFetch(tp, 0) for tp in tps])
    assert [len(part.batches) for part in cluster.call(1, request).partitions] == [1, 0]
    request = FetchRequest(-1, 0, 1, 10_000, [PartitionFetch(tp, 0, 10) for tp in tps])
    assert [len(part.batches) for part in cluster.call(1, request).partitions] == [1, 0]


def test_offsets_out_of_range() -> None:
    """Before the log start or behind the log end; errors tell no high watermark."""
    cluster, tp = one_broker()
    cluster.produce(1, tp, b"a")
    answer = cluster.fetch(1, tp, 2)
    assert (answer.error, answer.high_watermark) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)


def test_epochs_and_ids_are_checked_first() -> None:
    """Older epochs are fenced, newer ones unknown; a topic id of another life of the topic is unknown."""
    cluster = PlaneCluster()
    tp = cluster.topic(replicas=(1, 2))
    cluster.elect(tp, 1)
    fenced = cluster.fetch(1, tp, 0, current_leader_epoch=0)
    assert (fenced.error, fenced.current_leader_epoch) == (ErrorCode.FENCED_LEADER_EPOCH, 1)
    assert cluster.fetch(1, tp, 0, current_leader_epoch=2).error is ErrorCode.UNKNOWN_LEADER_EPOCH
    assert cluster.fetch(1, tp, 0, topic_id="other").error is ErrorCode.UNKNOWN_TOPIC_ID
    assert cluster.fetch(3, tp, 0).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert cluster.fetch(3, TopicPartition("no", 0), 0).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_a_follower_serves_consumers_up_to_its_own_high_watermark() -> None:
    """It learns the high watermark one fetch later than the leader, and wakes its own parked readers then."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.settle()
    number = cluster.ask(2, fetch_request(tp, 0, max_wait_ms=5_000))
    cluster.produce(1, tp, b"a")
    assert number not in cluster.answers
    cluster.run_for(0.6)
    assert cluster.answers[number].partitions[0].batches[0].base_offset == 0


def test_a_rack_aware_leader_sends_the_consumer_to_its_rack() -> None:
    """PreferredReadReplica with an empty answer, at once."""
    selector = {"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}
    cluster = PlaneCluster(3, selector, {1: "a", 2: "b", 3: "c"})
    tp = cluster.topic()
    cluster.produce(1, tp, b"a")
    answer = cluster.fetch(1, tp, 0, rack_id="c", max_wait_ms=500)
    assert (answer.preferred_read_replica, answer.batches) == (3, ())
    assert len(cluster.fetch(1, tp, 0, rack_id="a").batches) == 1
    assert len(cluster.fetch(1, tp, 0, rack_id="z").batches) == 1


def test_a_closed_connection_drops_its_parked_fetch() -> None:
    """Nobody is answered, and nothing remembers the fetch."""
    cluster, tp = one_broker()
    number = cluster.ask(1, fetch_request(tp, 0, max_wait_ms=500))
    cluster.brokers[1].plane.on_closed(number, cluster.now_us)
    cluster.produce(1, tp, b"a")
    cluster.run_for(1)
    assert number not in cluster.answers
    assert cluster.replica(1, tp).waiting_fetches == {}


def test_a_fetch_that_waits_hears_of_lost_leadership_and_deletion() -> None:
    """With an epoch it is fenced at once; without the topic it hears that too."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    number = cluster.ask(1, fetch_request(tp, 0, max_wait_ms=5_000, current_leader_epoch=0))
    cluster.elect(tp, 2)
    assert cluster.answers[number].partitions[0].error is ErrorCode.FENCED_LEADER_EPOCH
    number = cluster.ask(1, fetch_request(tp, 0, max_wait_ms=5_000))
    cluster.delete("t")
    assert cluster.answers[number].partitions[0].error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_an_idle_broker_has_no_deadline_of_its_own() -> None:
    """One broker with an idle topic: nothing is armed; followers only keep their long poll."""
    cluster, tp = one_broker()
    assert cluster.brokers[1].plane.deadline_us == 1 << 62
    cluster.call(1, produce_request(tp, cluster.batch(b"a")))
    cluster.run_for(10)
    assert cluster.brokers[1].plane.deadline_us > cluster.now_us + 6 * 86_400_000_000


def test_the_most_caught_up_replica_of_the_rack_is_preferred() -> None:
    """By log end, then by when it was last caught up, then by its id; one that is not in sync is not offered."""
    selector = {"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}
    cluster = PlaneCluster(4, selector, {1: "a", 2: "b", 3: "b", 4: "b"})
    tp = cluster.topic(replicas=(1, 2, 3, 4))
    cluster.produce(1, tp, b"a")
    cluster.run_for(1)
    cluster.cut[3] = None
    cluster.produce(1, tp, b"b", acks=1)
    cluster.run_for(0.4)
    leader = cluster.replica(1, tp)
    leader.follower(2).session = leader.follower(4).session = None
    leader.follower(2).last_caught_up_us, leader.follower(4).last_caught_up_us = 5, 4
    assert cluster.fetch(1, tp, 0, rack_id="b").preferred_read_replica == 2
    leader.follower(4).last_caught_up_us = 5
    assert cluster.fetch(1, tp, 0, rack_id="b").preferred_read_replica == 4
    cluster.fence(4, True)
    assert cluster.fetch(1, tp, 0, rack_id="b").preferred_read_replica == 2


def test_a_refusal_tells_where_the_leader_is() -> None:
    """KIP-951: leader, epoch and endpoint come with the error, for produce and fetch."""
    cluster = PlaneCluster()
    tp = cluster.topic()
    cluster.elect(tp, 2)
    refused = cluster.call(1, produce_request(tp, cluster.batch(b"a")))
    assert refused.partitions[0].error is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert refused.partitions[0].current_leader == 2
    assert [(endpoint.node_id, endpoint.host) for endpoint in refused.node_endpoints] == [(2, "h")]
    fenced = cluster.call(2, fetch_request(tp, 0, current_leader_epoch=0))
    assert fenced.partitions[0].error is ErrorCode.FENCED_LEADER_EPOCH
    assert [endpoint.node_id for endpoint in fenced.node_endpoints] == [2]
    assert cluster.call(2, fetch_request(tp, 0)).node_endpoints == ()
