"""Metrics as time series: Kafka's names, change-driven values, and what they say when brokers come and go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kafkasim
from kafkasim.core.model.admin_messages import (
    PREFERRED_ELECTION,
    AlterPartitionReassignmentsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    Reassignment,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.views.series import Series

FAST = {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}


@pytest.fixture
def cluster() -> Iterator[kafkasim.Cluster]:
    with kafkasim.Cluster(brokers=3, controllers=1, seed=4, config=FAST) as made:
        made.create_topic("t", partitions=3, config={"min.insync.replicas": 2})
        yield made


def test_counts_of_a_quiet_cluster(cluster: kafkasim.Cluster) -> None:
    """Nine replicas, three leaders, one controller, nothing wrong."""
    metrics = cluster.metrics
    assert metrics["PartitionCount"].last == 9
    assert [metrics["LeaderCount"].broker(node).last for node in (1, 2, 3)] == [1, 1, 1]
    assert metrics["GlobalPartitionCount"].last == 3
    assert metrics["GlobalTopicCount"].last == 1
    assert metrics["ActiveBrokerCount"].last == 3
    assert metrics["ActiveControllerCount"].last == 1
    assert metrics["ActiveControllerCount"].broker(4).last == 1
    for alarm in ("UnderReplicatedPartitions", "UnderMinIsrPartitionCount", "OfflinePartitionsCount"):
        assert metrics[alarm].max() == 0


def test_a_crash_shows_when_the_session_is_over(cluster: kafkasim.Cluster) -> None:
    """Under-replicated from the fencing until the last follower is back in its ISR; the dead broker reports nothing."""
    crashed_at = cluster.now
    cluster.broker(2).crash()
    cluster.run_for(10)
    under = cluster.metrics["UnderReplicatedPartitions"]
    assert under.last == under.max() == 3
    assert under.broker(2).last is None
    began = next(time for time, value in under if value)
    assert 3.0 <= began - crashed_at <= 4.0
    assert under.at(crashed_at + 1) == 0
    assert cluster.metrics["AtMinIsrPartitionCount"].last == 3
    assert cluster.metrics["FencedBrokerCount"].last == 1
    assert cluster.metrics["TimedOutBrokerHeartbeatCount"].last == 1
    cluster.broker(2).start()
    cluster.run_for(5)
    under = cluster.metrics["UnderReplicatedPartitions"]
    assert under.last == 0
    assert under.broker(2).last == 0
    assert 6.0 < under.seconds_above(0) < 9.0
    assert cluster.metrics["IsrExpandsPerSec"].last == 3
    assert cluster.metrics["PreferredReplicaImbalanceCount"].last == 1


def test_elections_and_offline_partitions_are_counted(cluster: kafkasim.Cluster) -> None:
    """All die one after the other: below the minimum, then offline, until the last leader is taken for want of a better one."""
    for node in (1, 2):
        cluster.broker(node).crash()
        cluster.run_for(5)
    assert cluster.metrics["UnderMinIsrPartitionCount"].last == 3
    cluster.broker(3).crash()
    cluster.run_for(5)
    assert cluster.metrics["OfflinePartitionsCount"].last == 3
    assert cluster.metrics["PartitionCount"].last == 0  # nobody reports
    cluster.broker(3).start()
    cluster.run_for(5)
    assert (
        cluster.metrics["OfflinePartitionsCount"].last == 3
    )  # 3 came back uncleanly, out of the ELR; 2 is still in it
    cluster.broker(2).start()
    cluster.run_for(5)
    assert cluster.metrics["OfflinePartitionsCount"].last == 0
    # The ELR is empty now: the last known leader leads, and that counts as unclean.
    assert cluster.metrics["UncleanLeaderElectionsPerSec"].last == 3
    assert cluster.metrics["ElectionFromEligibleLeaderReplicasPerSec"].last == 0


def test_an_election_from_the_elr_is_counted(cluster: kafkasim.Cluster) -> None:
    """A broker that was only unreachable leads again from the ELR."""
    cluster.broker(1).crash()
    cluster.broker(2).crash()
    cluster.run_for(5)
    cluster.broker(3).pause()
    cluster.run_for(5)
    assert cluster.metrics["OfflinePartitionsCount"].last == 3
    cluster.broker(3).resume()
    cluster.run_for(5)
    assert cluster.metrics["ElectionFromEligibleLeaderReplicasPerSec"].last == 3
    assert cluster.metrics["UncleanLeaderElectionsPerSec"].last == 0


def test_a_slow_follower_is_a_shrunk_isr(cluster: kafkasim.Cluster) -> None:
    """Cut off from the other brokers but not from the controller: the leaders shrink, the meters count it."""
    cluster.network.partition(3, [1, 2])
    leaders = {part.partition: part.leader for part in cluster.describe_topic("t")}
    producer = cluster.producer(acks=1)
    for partition in leaders:
        producer.produce("t", b"x", partition=partition)
    cluster.run_for(50)  # replica.lag.time.max.ms is 30 s, looked at every 15 s
    shrinks = cluster.metrics["IsrShrinksPerSec"]
    assert shrinks.last == 3  # each leader drops whom it does not hear of: two drop 3, and 3 drops both others at once
    assert sum(value or 0 for _, value in (part[-1] for part in shrinks.brokers.values())) == 3
    assert shrinks.rate(60).max() == pytest.approx(3 / 60)
    cluster.network.heal()
    cluster.run_for(35)  # what was lost is asked again after replica.socket.timeout.ms
    assert cluster.metrics["UnderReplicatedPartitions"].last == 0


def test_traffic_by_broker_and_topic(cluster: kafkasim.Cluster) -> None:
    """Records and bytes at leaders, bytes to consumers, bytes to followers, refused produces."""
    cluster.produce("t", [b"12345"] * 9)
    with cluster.consumer("g", ["t"], auto_offset_reset="earliest") as consumer:
        seen = 0
        while seen < 9:
            seen += len(consumer.consume(9, 1.0))
    metrics = cluster.metrics
    messages = metrics["MessagesInPerSec"]
    assert messages.topic("t").last == 9
    assert messages.last == sum(topic.last or 0 for topic in messages.topics.values())
    incoming = metrics["BytesInPerSec"].topic("t")
    assert incoming.last == sum(incoming.broker(node).last or 0 for node in (1, 2, 3))
    assert metrics["BytesOutPerSec"].topic("t").last == incoming.last
    assert metrics["ReplicationBytesInPerSec"].topic("t").last == 2 * (incoming.last or 0)
    assert metrics["FailedProduceRequestsPerSec"].last == 0
    for node in (1, 2):
        cluster.broker(node).crash()
    cluster.run_for(8)
    producer = cluster.producer(acks="all", message_timeout_ms=1000)
    producer.produce("t", b"refused", partition=0)
    producer.flush()
    assert (cluster.metrics["FailedProduceRequestsPerSec"].last or 0) >= 1


def test_reassignment_election_and_deletion(cluster: kafkasim.Cluster) -> None:
    """Partitions that move, preferred leaders that come back, topics that go."""
    cluster.broker(1).shutdown()
    cluster.run_for(5)
    assert cluster.metrics["PreferredReplicaImbalanceCount"].last == 1
    cluster.broker(1).start()
    cluster.run_for(5)
    cluster.ask(ElectLeadersRequest(PREFERRED_ELECTION, None), "controller")
    assert cluster.metrics["PreferredReplicaImbalanceCount"].last == 0
    moved = Reassignment(TopicPartition("t", 0), (1,))
    request = AlterPartitionReassignmentsRequest((moved,), allow_replication_factor_change=True)
    cluster.ask(request, "controller")
    cluster.run_for(5)
    assert cluster.metrics["PartitionCount"].last == 7
    assert cluster.metrics["ReassigningPartitions"].last == 0
    cluster.ask(DeleteTopicsRequest(("t",)), "controller")
    cluster.run_for(1)
    assert cluster.metrics["PartitionCount"].last == 0
    assert cluster.metrics["GlobalPartitionCount"].last == 0
    assert cluster.metrics["LeaderCount"].last == 0


def test_a_new_active_controller() -> None:
    """While nobody leads the quorum, nobody is active."""
    with kafkasim.Cluster(brokers=3, seed=4) as cluster:
        first = next(node for node in (1, 2, 3) if cluster.metrics["ActiveControllerCount"].broker(node).last)
        cluster.broker(first).crash()
        cluster.run_for(10)
        active = cluster.metrics["ActiveControllerCount"]
        assert active.min() == 0
        assert active.last == 1
        assert active.broker(first).last == 0
        assert cluster.metrics["NewActiveControllersCount"].last == 2


def test_names_and_mbeans(cluster: kafkasim.Cluster) -> None:
    """A metric is found by its name or its MBean; a wrong name meets those that are near."""
    metrics = cluster.metrics
    assert metrics["kafka.server:type=ReplicaManager,name=LeaderCount"].name == "LeaderCount"
    assert (
        metrics["OfflinePartitionsCount"].mbean == "kafka.controller:type=KafkaController,name=OfflinePartitionsCount"
    )
    assert len(list(metrics)) == len(metrics)
    for name in metrics:
        assert metrics[name].name == name
    with pytest.raises(KeyError, match="did you mean 'UnderReplicatedPartitions'"):
        metrics["UnderReplicated"]
    with pytest.raises(KeyError, match="it went with ZooKeeper"):
        metrics["LeaderElectionRateAndTimeMs"]
    with pytest.raises(KeyError, match="there are PartitionCount"):
        metrics["zzz"]


def test_what_a_series_refuses(cluster: kafkasim.Cluster) -> None:
    """The error names the metric, the value and what there is."""
    metrics = cluster.metrics
    with pytest.raises(ValueError, match=r"LeaderCount.at\(99\): the run goes from 0 to"):
        metrics["LeaderCount"].at(99)
    with pytest.raises(KeyError, match="no series of broker 9: reported by"):
        metrics["LeaderCount"].broker(9)
    with pytest.raises(KeyError, match="it is the controller's"):
        metrics["OfflinePartitionsCount"].broker(1)
    with pytest.raises(KeyError, match="not kept by topic"):
        metrics["LeaderCount"].topic("t")
    with pytest.raises(ValueError, match="only a meter"):
        metrics["LeaderCount"].rate()
    with pytest.raises(ValueError, match="longer than 0"):
        metrics["BytesInPerSec"].rate(0)


def test_without_history_there_are_none() -> None:
    """The way out is named."""
    with (
        kafkasim.Cluster(brokers=1, history=False) as cluster,
        pytest.raises(kafkasim.ConfigurationError, match="history=False"),
    ):
        _ = cluster.metrics


def test_rows_table_and_plot(cluster: kafkasim.Cluster) -> None:
    """For data frames, for eyes."""
    cluster.broker(2).crash()
    cluster.run_for(10)
    metrics = cluster.metrics
    rows = metrics["LeaderCount"].rows()
    assert {row["broker"] for row in rows} == {None, 1, 2, 3}
    assert set(rows[0]) == {"time", "metric", "broker", "value"}
    assert len(metrics.rows()) > len(rows)
    lines = str(metrics).splitlines()
    assert lines[1].split() == ["metric", "cluster", "broker", "1", "broker", "2", "broker", "3"]
    assert next(line for line in lines if line.startswith("LeaderCount")).split()[1:] == ["3", "1", "-", "2"]
    assert "█" in metrics["UnderReplicatedPartitions"].plot(20)
    assert repr(metrics["FencedBrokerCount"]).startswith("<FencedBrokerCount: 1 at")


def test_rates_rise_and_fall() -> None:
    """A mark counts for as long as the window is, to the microsecond."""
    meter = Series("BytesInPerSec", "", [(0.0, 0), (1.1, 50), (3.0, 150)], 30.0)
    rate = meter.rate(10)
    assert rate.points == [(0.0, 0.0), (1.1, 5.0), (3.0, 15.0), (10.0, 15.0), (11.1, 10.0), (13.0, 0.0)]
    assert meter.between(2.0, 5.0).points == [(2.0, 50), (3.0, 150)]
    assert meter.seconds_above(60) == 27.0


def test_asking_changes_nothing() -> None:
    """A run that is watched is the run that is not."""
    prints = []
    for watched in (False, True):
        with kafkasim.Cluster(brokers=3, seed=9) as cluster:
            cluster.create_topic("t")
            if watched:
                str(cluster.metrics)
            cluster.broker(1).crash()
            cluster.run_for(12)
            prints.append(cluster.fingerprint())
            if watched:
                assert cluster.metrics["ActiveBrokerCount"].last == 2  # taken in where the last look ended
    assert prints[0] == prints[1]
