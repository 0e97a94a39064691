"""Disks: slow, full, failing, replaced; what a loss of power takes, and how long recovery lasts."""

from __future__ import annotations

from typing import Any

import pytest

import kafkasim

FAST = {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500, "replica.lag.time.max.ms": 4000}


def _cluster(**options: Any) -> kafkasim.Cluster:
    cluster = kafkasim.Cluster(brokers=3, config=FAST, **options)
    cluster.create_topic("t", config={"min.insync.replicas": 2})
    return cluster


def _leader(cluster: kafkasim.Cluster) -> int:
    return cluster.describe_topic("t")[0].leader


def _followers(cluster: kafkasim.Cluster) -> list[int]:
    partition = cluster.describe_topic("t")[0]
    return [node for node in partition.replicas if node != partition.leader]


def _in_sync(cluster: kafkasim.Cluster) -> int:
    return len(cluster.describe_topic("t")[0].isr)


def test_a_slow_disk_delays_each_write_in_turn() -> None:
    """A produce request waits for the writes before it; nothing else does, and a healed disk is as fast as before."""
    with _cluster() as cluster:
        cluster.produce("t", [b"warm"])
        cluster.broker(_leader(cluster)).disk.slow(0.5)
        before = cluster.now
        cluster.produce("t", [b"a"])
        assert 0.5 <= cluster.now - before < 0.7
        before = cluster.now
        producers = [cluster.producer(), cluster.producer()]
        for producer in producers:
            producer.produce("t", b"x")
        assert [producer.flush() for producer in producers] == [0, 0]
        assert 1.0 <= cluster.now - before < 1.3
        assert cluster.broker(_leader(cluster)).disk.state == "slow"
        cluster.broker(_leader(cluster)).disk.heal()
        before = cluster.now
        cluster.produce("t", [b"b"])
        assert cluster.now - before < 0.1
        assert cluster.check().ok


def test_a_follower_with_a_slow_disk_holds_acks_all_up_until_it_leaves_the_isr() -> None:
    """Its appends are late, so the high watermark is; it is out after replica.lag.time.max.ms, and back when the disk is well."""
    with _cluster() as cluster:
        cluster.produce("t", [b"warm"])
        cluster.run_for(1)
        slow = _followers(cluster)[0]
        cluster.broker(slow).disk.slow(20.0)
        before = cluster.now
        cluster.produce("t", [b"a"])
        assert 3.9 <= cluster.now - before < 6.5
        assert slow not in cluster.describe_topic("t")[0].isr
        cluster.broker(slow).disk.heal()
        cluster.run_for(40)
        assert _in_sync(cluster) == 3


@pytest.mark.parametrize("fault", ["fill", "fail"])
def test_a_write_that_fails_ends_the_process(fault: str) -> None:
    """One log directory, offline: Kafka halts. The others elect, nothing acknowledged is lost, and the healed broker returns."""
    with _cluster(seed=5) as cluster:
        cluster.produce("t", [b"a", b"b"])
        leader = _leader(cluster)
        broker = cluster.broker(leader)
        getattr(broker.disk, fault)()
        assert broker.state == "running"
        cluster.produce("t", [b"c"])
        assert broker.state == "crashed"
        assert _leader(cluster) != leader
        broker.start()
        cluster.run_for(1)
        assert broker.state == "crashed"
        broker.disk.heal()
        broker.start()
        cluster.run_until(lambda: _in_sync(cluster) == 3)
        assert [record.value for record in cluster.records("t")] == [b"a", b"b", b"c"]
        assert cluster.check().ok


def test_an_idle_broker_notices_a_failing_disk_too() -> None:
    """Half a second, when Kafka's metadata log would have got its next record."""
    with _cluster() as cluster:
        broker = cluster.broker(2)
        broker.disk.fail()
        cluster.run_for(0.4)
        assert broker.state == "running"
        cluster.run_for(0.2)
        assert broker.state == "crashed"


def test_a_replaced_disk_is_filled_by_the_others() -> None:
    """The logs are empty, the broker registers as after an unclean stop, and copies everything again (KIP-903)."""
    with _cluster() as cluster:
        cluster.produce("t", [b"%d" % number for number in range(20)])
        gone = _followers(cluster)[0]
        broker = cluster.broker(gone)
        with pytest.raises(kafkasim.ConfigurationError, match="cannot be replaced while its process is running"):
            broker.disk.replace()
        broker.crash()
        broker.disk.replace()
        assert not cluster._servers[gone].storage.broker.logs
        broker.start()
        cluster.run_until(lambda: gone in cluster.describe_topic("t")[0].isr)
        others = [node for node in (1, 2, 3) if node != gone]
        cluster.broker(others[0]).crash()
        cluster.run_until(lambda: _leader(cluster) in (gone, others[1]))
        assert [record.value for record in cluster.records("t")] == [b"%d" % number for number in range(20)]
        assert cluster.check().ok


def test_recovery_takes_the_time_that_the_disk_needs() -> None:
    """After a crash the broker may serve when its logs are read again; after an orderly stop at once."""
    with _cluster() as cluster:
        cluster.produce("t", [bytes(1000)] * 100)
        cluster.run_for(1)
        node = _followers(cluster)[0]
        broker = cluster.broker(node)
        broker.disk.recover_at(20_000)

        def back_after() -> float:
            cluster.run_for(5)
            before = cluster.now
            broker.start()
            cluster.run_until(lambda: node in cluster.describe_topic("t")[0].isr, timeout=120)
            return cluster.now - before

        broker.crash()
        assert 4.9 < back_after() < 8
        broker.shutdown()
        assert back_after() < 2.5


def test_a_paused_broker_takes_in_what_its_disk_wrote_meanwhile() -> None:
    """Writes go on while the process stands still; it hears of them, in order, when it goes on."""
    with _cluster() as cluster:
        cluster.produce("t", [b"warm"])
        leader = cluster.broker(_leader(cluster))
        leader.disk.slow(0.2)
        producer = cluster.producer()
        producer.produce("t", b"a")
        producer.poll(0.1)
        leader.pause()
        cluster.run_for(1)
        leader.resume()
        assert producer.flush(10) == 0
        assert [record.value for record in cluster.records("t")] == [b"warm", b"a"]


def test_impossible_speeds_are_refused() -> None:
    """The error names the value and the way out."""
    with _cluster() as cluster:
        with pytest.raises(kafkasim.ConfigurationError, match=r"more than 0 seconds for a write; heal\(\)"):
            cluster.broker(1).disk.slow(0)
        with pytest.raises(kafkasim.ConfigurationError, match=r"recover_at\(-1\)"):
            cluster.broker(1).disk.recover_at(-1)
