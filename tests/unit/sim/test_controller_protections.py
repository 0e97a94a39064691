"""What the controller's protections are worth on a whole cluster: acknowledged records, through deaths in a bad order."""

from __future__ import annotations

import pytest

import kafkasim
from kafkasim import faults
from kafkasim.confluent_kafka import KafkaException, TopicPartition
from kafkasim.core.model.history import Happened


def after_power_loss(**features: bool) -> kafkasim.Cluster:
    """Three replicas hold three acknowledged records; two lose their power, then the third dies, and one of the two is back."""
    cluster = kafkasim.Cluster(3, controllers=1, seed=3, features=features or None)
    cluster.create_topic("t", 1, 3, {"min.insync.replicas": 3})
    cluster.produce("t", ["a", "b", "c"])
    (partition,) = cluster.describe_topic("t")
    first, *others = [cluster.broker(node) for node in partition.replicas]
    for broker in others:
        broker.power_loss()
    cluster.run_until(lambda: len(cluster.describe_topic("t")[0].isr) == 1, 30)
    first.crash()
    cluster.run_until(lambda: cluster.describe_topic("t")[0].leader == -1, 30)
    others[-1].start()
    cluster.run_for(5)
    return cluster


def test_protected_records_wait_for_who_has_them() -> None:
    """The replica that came back without its unflushed records leads nothing; the one that had them does."""
    with after_power_loss() as cluster:
        (partition,) = cluster.describe_topic("t")
        assert partition.leader == -1
        cluster.broker(partition.last_known_elr[0]).start()
        for node in partition.replicas:
            cluster.broker(node).start()
        cluster.run_until(lambda: len(cluster.describe_topic("t")[0].isr) == 3, 30)
        assert cluster.describe_topic("t")[0].leader == partition.last_known_elr[0]
        cluster.run_for(1)
        assert [record.value for record in cluster.records("t")] == [b"a", b"b", b"c"]


def test_unprotected_records_are_gone() -> None:
    """An eligible replica whose death nobody looked into leads with an empty log."""
    with after_power_loss(unclean_shutdown_detection=False) as cluster:
        (partition,) = cluster.describe_topic("t")
        assert partition.leader >= 0
        assert cluster.records("t") == []


def test_without_elr_the_last_replica_is_trusted() -> None:
    """The last one in the ISR loses its power and leads again with an empty log, though others hold what it lost."""
    with kafkasim.Cluster(3, controllers=1, seed=3, features={"eligible_leader_replicas": False}) as cluster:
        cluster.create_topic("t", 1, 3, {"min.insync.replicas": 2})
        cluster.produce("t", ["a", "b", "c"])
        (partition,) = cluster.describe_topic("t")
        first, *others = [cluster.broker(node) for node in partition.replicas]
        for broker in others:
            broker.crash()
        cluster.run_until(lambda: len(cluster.describe_topic("t")[0].isr) == 1, 30)
        first.power_loss()
        cluster.run_until(lambda: cluster.describe_topic("t")[0].leader == -1, 30)
        assert len(cluster.describe_topic("t")[0].isr) == 1
        for broker in others:
            broker.start()
        cluster.run_for(5)
        assert cluster.describe_topic("t")[0].leader == -1
        first.start()
        cluster.run_until(lambda: cluster.describe_topic("t")[0].leader >= 0, 30)
        assert cluster.records("t") == []


def _activations(cluster: kafkasim.Cluster) -> list[int]:
    return [event.node for event in cluster.history if type(event) is Happened and event.kind == "controller-active"]


def test_a_voter_that_was_away_unseats_nobody() -> None:
    """KIP-996: it asks before it begins an epoch, and those who hear the controller refuse."""
    for asks_first in (True, False):
        with kafkasim.Cluster(3, seed=1, features={"pre_vote": asks_first}) as cluster:
            cluster.run_for(5.0)
            before = _activations(cluster)
            other = next(node for node in (1, 2, 3) if node != before[-1])
            cluster.network.partition(other, [node for node in (1, 2, 3) if node != other])
            cluster.run_for(10.0)
            cluster.network.heal()
            cluster.run_for(10.0)
            assert (_activations(cluster) == before) is asks_first


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_new_leader_does_not_tell_an_end_before_it_knows_it(is_settled: bool) -> None:
    """KIP-207: its high watermark lags by a fetch; without the protection it tells an end below what was committed."""
    config = {"broker.session.timeout.ms": 1000, "broker.heartbeat.interval.ms": 300}
    features = {"settled_end_offset": is_settled}
    with kafkasim.Cluster(3, controllers=1, seed=1, config=config, features=features) as cluster:
        cluster.create_topic("t", 1, 3, {"min.insync.replicas": 2})
        first, second, third = cluster.describe_topic("t")[0].replicas
        cluster.inject(faults.crash(f"broker:{first}", on="Produce.answered"))
        producer = cluster.producer()
        producer.produce("t", b"a")
        cluster.run_until(lambda: cluster.broker(first).state == "crashed")
        cluster.broker(third).pause()  # so that nobody moves the new leader's high watermark
        cluster.run_until(lambda: cluster.describe_topic("t")[0].leader == second)
        cluster.run_for(0.1)
        consumer = cluster.consumer("g")
        if is_settled:
            with pytest.raises(KafkaException):
                consumer.get_watermark_offsets(TopicPartition("t", 0), timeout=0.5)
        else:
            assert consumer.get_watermark_offsets(TopicPartition("t", 0), timeout=0.5) == (0, 0)
        cluster.broker(third).resume()
        cluster.run_for(5.0)
        assert consumer.get_watermark_offsets(TopicPartition("t", 0))[1] >= 1


@pytest.mark.parametrize("is_told", [True, False])
def test_clients_hear_of_leader_epochs(is_told: bool) -> None:
    """KIP-320: without them a consumer goes on at its position in a log that an unclean election cut and others filled again."""
    config = {
        "broker.session.timeout.ms": 1000,
        "broker.heartbeat.interval.ms": 300,
        "unclean.leader.election.interval.ms": 500,
    }
    features = {"leader_epoch_in_metadata": is_told}
    with kafkasim.Cluster(2, controllers=1, seed=1, config=config, features=features) as cluster:
        cluster.create_topic("t", 1, 2, {"min.insync.replicas": 1, "unclean.leader.election.enable": True})
        cluster.run_for(1.0)
        first, second = cluster.describe_topic("t")[0].replicas
        cluster.broker(second).crash()
        cluster.run_until(lambda: cluster.describe_topic("t")[0].isr == [first])
        cluster.produce("t", ["a", "b"])
        consumer = cluster.consumer("g", [], {"auto.offset.reset": "earliest", "enable.auto.commit": False})
        consumer.assign([TopicPartition("t", 0, 0)])
        assert [message.value() for message in consumer.consume(2, 5.0)] == [b"a", b"b"]
        consumer.pause([TopicPartition("t", 0)])
        cluster.broker(first).crash()
        cluster.broker(second).start()
        cluster.run_until(lambda: cluster.describe_topic("t")[0].leader == second)
        cluster.produce("t", ["c", "d", "e"])
        consumer.resume([TopicPartition("t", 0)])
        given = [message.value() for message in consumer.consume(3, 10.0)]
        assert given == ([b"c", b"d", b"e"] if is_told else [b"e"])
