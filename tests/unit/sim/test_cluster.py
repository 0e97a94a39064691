"""The cluster handle: what it refuses, and what its hands do to processes and links."""

from __future__ import annotations

from typing import Any

import pytest

import kafkasim

FAST = {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"brokers": 0}, "brokers=0: a cluster has at least one"),
        ({"racks": ["a"]}, "racks names 1 racks for 3 brokers"),
        ({"controllers": 0}, "controllers=0: a quorum has at least one voter"),
        ({"controllers": [7]}, "expected distinct broker ids out of [1, 2, 3]"),
        ({"config": {"num.partition": 3}}, "did you mean 'num.partitions'"),
        ({"config": {"num.partitions": "many"}}, "Invalid value many for configuration num.partitions"),
        ({"features": {"elr": False}}, "unknown protection 'elr'; known are epoch_truncation"),
        ({"features": {"maximal_irs": False}}, "did you mean 'maximal_isr'?"),
    ],
)
def test_impossible_clusters_are_refused(options: dict[str, Any], text: str) -> None:
    """The error names the thing, the value and the way out."""
    with pytest.raises(kafkasim.ConfigurationError) as caught:
        kafkasim.Cluster(**options)
    assert text in str(caught.value)


def test_a_topic_that_cannot_be_names_why() -> None:
    """Kafka's code and Kafka's text."""
    with kafkasim.Cluster(brokers=1) as cluster:
        with pytest.raises(kafkasim.ConfigurationError, match="INVALID_REPLICATION_FACTOR"):
            cluster.create_topic("t", replication_factor=3)
        with pytest.raises(kafkasim.ConfigurationError, match="INVALID_TOPIC_EXCEPTION"):
            cluster.create_topic("a b")
        with pytest.raises(KeyError, match="no topic 'nowhere'"):
            cluster.describe_topic("nowhere")
        with pytest.raises(KeyError, match="no broker 9"):
            cluster.broker(9)
        with pytest.raises(KeyError, match="no broker in rack 'z'"):
            cluster.zone("z")


def test_dedicated_controllers_survive_the_loss_of_one() -> None:
    """Three controllers behind two brokers: the active one dies, topics can still be made."""
    with kafkasim.Cluster(brokers=2, controllers=3, seed=3) as cluster:
        active = [node.node_id for node in cluster._live_nodes() if node.controller and node.controller.active]
        assert active
        assert active[0] > 2
        cluster.broker(active[0]).crash()
        cluster.create_topic("after", partitions=2)
        assert len(cluster.describe_topic("after")) == 2


def test_a_list_of_controllers_names_brokers() -> None:
    """Only broker 2 votes; its loss stops elections, not the data."""
    with kafkasim.Cluster(brokers=3, controllers=[2], seed=1) as cluster:
        cluster.create_topic("t", partitions=3)
        cluster.broker(2).crash()
        cluster.run_for(1.0)
        led = [part.partition for part in cluster.describe_topic("t") if part.leader != 2]
        assert led
        producer = cluster.producer(acks="1")
        producer.produce("t", b"still served", partition=led[0])
        assert producer.flush(10) == 0


def test_shutdown_moves_leaders_without_a_gap() -> None:
    """SIGTERM hands leadership over within milliseconds; the process ends by itself."""
    with kafkasim.Cluster(brokers=3, seed=4) as cluster:
        cluster.create_topic("t", partitions=6)
        cluster.broker(1).shutdown()
        assert cluster.broker(1).state == "stopping"
        cluster.run_for(0.5)
        assert all(part.leader != 1 for part in cluster.describe_topic("t"))
        cluster.run_until(lambda: cluster.broker(1).state == "stopped", timeout=20)
        cluster.broker(1).start()
        cluster.run_until(lambda: all(len(part.isr) == 3 for part in cluster.describe_topic("t")), timeout=30)


def test_power_loss_drops_what_was_not_flushed() -> None:
    """One replica, nothing flushed: what was acknowledged is gone, and the report says that one copy was promised."""
    with kafkasim.Cluster(brokers=1, seed=1) as cluster:
        cluster.create_topic("t")
        cluster.produce("t", [b"a", b"b"])
        cluster.broker(1).power_loss()
        assert cluster.broker(1).state == "off"
        cluster.broker(1).start()
        cluster.run_until(lambda: cluster.describe_topic("t")[0].leader == 1, timeout=60)
        assert cluster.records("t") == []
        cluster.run_for(15)
        report = cluster.check()
        assert report.ok
        assert [finding.invariant for finding in report.allowed] == ["acked-loss"]


def test_a_crash_keeps_the_page_cache() -> None:
    """The same with a killed process: everything is there."""
    with kafkasim.Cluster(brokers=1, seed=1) as cluster:
        cluster.create_topic("t")
        cluster.produce("t", [b"a", b"b"])
        cluster.broker(1).crash()
        cluster.broker(1).start()
        cluster.run_until(lambda: cluster.describe_topic("t")[0].leader == 1, timeout=60)
        cluster.run_for(1.0)
        assert [record.value for record in cluster.records("t")] == [b"a", b"b"]


def test_a_paused_broker_is_fenced_and_comes_back() -> None:
    """SIGSTOP longer than the session: leaders move; SIGCONT: it rejoins the ISR."""
    with kafkasim.Cluster(brokers=3, seed=2, config=FAST) as cluster:
        cluster.create_topic("t", partitions=3)
        cluster.broker(2).pause()
        cluster.run_for(5.0)
        assert all(2 not in part.isr for part in cluster.describe_topic("t"))
        cluster.broker(2).resume()
        cluster.run_until(lambda: all(len(part.isr) == 3 for part in cluster.describe_topic("t")), timeout=30)


def test_a_zone_fails_as_one() -> None:
    """Replicas are spread over racks, so the loss of one leaves two of each."""
    with kafkasim.Cluster(brokers=6, racks=["a", "a", "b", "b", "c", "c"], seed=5, config=FAST) as cluster:
        cluster.create_topic("t", partitions=6, config={"min.insync.replicas": 2})
        assert cluster.zone("a").ids == (1, 2)
        cluster.zone("a").crash()
        cluster.run_for(6.0)
        assert all(len(part.isr) == 2 and part.leader in (3, 4, 5, 6) for part in cluster.describe_topic("t"))
        cluster.produce("t", [b"x"] * 6)


def test_a_partitioned_leader_cannot_commit() -> None:
    """Cut off from all others, a leader's acks=all writes wait until they time out; afterwards everything heals."""
    with kafkasim.Cluster(brokers=3, seed=6, config=FAST) as cluster:
        cluster.create_topic("t", config={"min.insync.replicas": 2})
        leader = cluster.describe_topic("t")[0].leader
        others = [broker for broker in (1, 2, 3) if broker != leader]
        producer = cluster.producer(message_timeout_ms=3000)
        producer.produce("t", b"before")
        producer.flush()
        cluster.network.partition(leader, others)
        reports: list[Any] = []
        producer.produce("t", b"lost?", on_delivery=lambda error, _: reports.append(error and error.name()))
        producer.flush(10)
        assert reports == ["_MSG_TIMED_OUT"]
        cluster.network.heal()
        cluster.run_until(lambda: len(cluster.describe_topic("t")[0].isr) == 3, timeout=60)
        cluster.produce("t", [b"after"])
        assert cluster.check().ok


def test_a_short_cut_is_a_short_delay() -> None:
    """A fetch's answer that a cut of 50 ms lost comes again after a fifth of a second: no request time-out is waited for."""
    with kafkasim.Cluster(brokers=1, seed=3, config=FAST) as cluster:
        cluster.create_topic("t")
        consumer = cluster.consumer("g", ["t"])
        while not consumer.assignment():
            consumer.poll(1.0)
        consumer.poll(1.0)
        cluster.network.partition(consumer, 1)
        cluster.produce("t", [b"x"])
        cluster.run_for(0.05)
        cluster.network.heal(consumer, 1)
        before = cluster.now
        message = consumer.poll(30.0)
        assert message is not None
        assert 0.1 < cluster.now - before < 0.3


@pytest.mark.parametrize(("idempotent", "copies"), [(True, 1), (False, 2)])
def test_a_request_that_was_given_up_is_done_after_the_cut(idempotent: bool, copies: int) -> None:
    """Its bytes are still on their way when the next connection carries the retry: without idempotence it is a duplicate."""
    with kafkasim.Cluster(brokers=1, seed=3, config=FAST) as cluster:
        cluster.create_topic("t")
        producer = cluster.producer(enable_idempotence=idempotent, socket_timeout_ms=1000, acks="all")
        producer.produce("t", b"before")
        producer.flush()
        cluster.network.partition(producer, 1)
        producer.produce("t", b"x")
        cluster.run_for(5.0)
        cluster.network.heal()
        assert producer.flush(30.0) == 0
        cluster.run_for(10.0)
        assert [record.value for record in cluster.records("t")] == [b"before"] + [b"x"] * copies


def test_waiting_in_vain_says_what_and_when() -> None:
    """A time-out names the virtual time and the seed."""
    with kafkasim.Cluster(seed=11) as cluster, pytest.raises(TimeoutError, match=r"2.0 virtual seconds .* seed 11"):
        cluster.run_until(lambda: False, timeout=2.0)


def test_at_calls_at_its_time() -> None:
    """Times are those of ``cluster.now``; a past one means at once."""
    with kafkasim.Cluster() as cluster:
        seen: list[float] = []
        start = cluster.now
        cluster.at(start + 2.0, lambda: seen.append(cluster.now))
        cluster.at(0.0, lambda: seen.append(cluster.now))
        cluster.run_for(3.0)
        assert seen == [pytest.approx(start), pytest.approx(start + 2.0)]


def test_a_halt_ends_the_process_that_asked_for_it() -> None:
    """Stopped, killed and started again at one instant: the new process is not the one that wanted to end."""
    with kafkasim.Cluster(brokers=1, controllers=1, seed=1) as cluster:
        controller = cluster.broker(2)
        controller.shutdown()
        controller.crash()
        controller.start()
        cluster.run_for(5)
        assert controller.state == "running"


def test_a_broker_that_lost_its_log_is_read_by_nobody_before_it_is_unfenced() -> None:
    """Named leader by metadata from before its registration, it must not make its followers forget what is committed."""
    with kafkasim.Cluster(brokers=3, controllers=1, seed=1, config=FAST) as cluster:
        cluster.create_topic("t", config={"min.insync.replicas": 2})
        leader, second, _ = cluster.describe_topic("t")[0].replicas
        cluster.produce("t", [b"1", b"2"])
        cluster.run_for(1)
        cluster.broker(second).power_loss()
        cluster.broker(leader).shutdown()  # hands its leadership to whom the controller believes to be alive
        cluster.run_for(0.05)
        assert cluster.describe_topic("t")[0].leader == second
        cluster.broker(second).start()
        cluster.run_for(10)
        assert [record.value for record in cluster.records("t")] == [b"1", b"2"]


def test_a_follower_does_not_wait_for_a_connection_to_an_earlier_leader() -> None:
    """A machine that lost its power resets nothing; when it leads again, followers come to it anew, at once."""
    config = {"broker.session.timeout.ms": 1000, "broker.heartbeat.interval.ms": 300}
    with kafkasim.Cluster(seed=2, controllers=1, config=config) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        cluster.run_for(1.0)
        first, second, _third = cluster.describe_topic("orders")[0].replicas
        cluster.broker(first).power_loss()
        cluster.broker(first).start()
        cluster.run_until(lambda: cluster.describe_topic("orders")[0].leader == second)
        cluster.run_until(lambda: len(cluster.describe_topic("orders")[0].isr) == 3)
        cluster.broker(second).pause()
        cluster.run_until(lambda: cluster.describe_topic("orders")[0].leader == first)
        began = cluster.now
        cluster.produce("orders", [b"0"])
        assert cluster.now - began < 2.0


def test_who_is_whole_is_judged_by_what_the_dead_knew() -> None:
    """A leader that dies as it acknowledges is the only one to know that the record is committed."""
    with kafkasim.Cluster(seed=2, controllers=1) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        first, second, third = cluster.describe_topic("orders")[0].replicas
        cluster.inject(kafkasim.faults.crash("server", on="Produce.answered"))
        cluster.producer({"acks": "all"}).produce("orders", b"0")
        cluster.run_until(lambda: cluster.broker(first).state == "crashed")
        cluster.broker(second).power_loss()
        (lost,) = [event for event in cluster.history if getattr(event, "kind", "") == "data lost"]
        ((_tp, kept, whole),) = dict(lost.fields)["partitions"]
        assert (kept, sorted(whole)) == (0, sorted([first, third]))


def test_a_process_that_is_not_registered_yet_is_not_judged_as_a_leader() -> None:
    """Back in a blink with an empty log, while the controller takes it for the process before: nothing is lost, as it serves nobody."""
    with kafkasim.Cluster(seed=1, controllers=1) as cluster:
        cluster.create_topic("orders", replication_factor=3, config={"min.insync.replicas": 2})
        cluster.produce("orders", [b"a", b"b"])
        leader = cluster.describe_topic("orders")[0].leader
        cluster.broker(leader).power_loss()
        cluster.broker(leader).start()
        cluster.run_for(2)
        named = cluster.describe_topic("orders")[0]
        assert (named.leader, named.log_end_offset) == (leader, 0)
        assert cluster.check().ok
        cluster.run_for(20)
        healed = cluster.describe_topic("orders")[0]
        assert healed.leader != leader
        assert [record.value for record in cluster.records("orders")] == [b"a", b"b"]
        assert cluster.check().ok
