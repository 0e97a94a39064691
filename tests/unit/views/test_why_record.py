"""What became of a record, and what keeps a group from getting on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import kafkasim
from kafkasim import faults, sinks
from kafkasim.handle import Cluster

FAST = {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}
MANUAL = {"enable.auto.commit": False, "auto.offset.reset": "earliest"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three brokers and a controller of its own; calls-0."""
    with kafkasim.Cluster(brokers=3, controllers=1, seed=1, config=FAST) as made:
        made.create_topic("calls", config={"min.insync.replicas": 2})
        yield made


def member(cluster: Cluster, work: Callable[[object], object], *, commits_first: bool, seconds: float = 0.1) -> None:
    """A consumer of billing that commits each record, before its work or after it."""
    consumer = cluster.consumer("billing", ["calls"], MANUAL)
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error() is not None:
            continue
        if commits_first:
            consumer.commit(message, asynchronous=False)
        cluster.run_for(seconds)
        work(message)
        if not commits_first:
            consumer.commit(message, asynchronous=False)


def test_a_record_that_was_worked_on(cluster: Cluster) -> None:
    """Acknowledged, given, worked on, committed past: in this order, each from the one before."""
    sink = sinks.Sink(cluster, "invoices", group="billing")
    cluster.spawn(member, cluster, sink, commits_first=False, name="billing-1")
    cluster.produce("calls", ["call-1", "call-2"])
    cluster.run_for(20)
    why = cluster.why(record="call-2", group="billing")
    assert why.summary == "worked on"
    assert why.kinds == ["acknowledged", "delivered", "work-started", "work-done", "committed"]
    assert why.state == {
        "topic": "calls",
        "partition": 0,
        "offset": 1,
        "deliveries": 1,
        "committed": 2,
        "worked_on": True,
    }
    assert "billing-1 (rdkafka#consumer-" in why.steps[1].text


def test_a_record_that_was_committed_before_its_work(cluster: Cluster) -> None:
    """Its worker dies after the commit: lost for the group, with the death and the commit in the chain."""
    sink = sinks.Sink(cluster, "invoices", group="billing")
    cluster.spawn(member, cluster, sink, commits_first=True, seconds=1.0, name="billing-1")
    cluster.produce("calls", ["call-1", "call-2"])
    injection = cluster.inject(faults.kill("client:billing-1", on="OffsetCommit.arrived", nth=1))
    cluster.run_for(10)
    injection.require_fired()
    cluster.spawn(member, cluster, sink, commits_first=True, name="billing-2")
    cluster.run_for(90)
    why = cluster.why(record="call-1", group="billing")
    assert why.summary.startswith("lost for billing: given to it, committed past")
    assert why.kinds == ["acknowledged", "delivered", "client-ended", "resumed-past"]
    assert cluster.why(record="call-2", group="billing").summary == "worked on"


def test_a_record_that_waits(cluster: Cluster) -> None:
    """Nobody reads: not consumed yet; without a group it is just in the log, by key or by place too."""
    cluster.produce("calls", ["call-1"], keys=["customer-9"])
    with cluster.install():
        consumer = cluster.consumer("billing", ["calls"], MANUAL)
        consumer.close()
    assert cluster.why(record="call-1", group="billing").summary == "not consumed yet: billing has committed nothing"
    for wanted in ("call-1", b"customer-9", ("calls", 0, 0)):
        assert cluster.why(record=wanted).summary == "in the log at calls-0 offset 0"


def test_a_record_that_was_never_acknowledged(cluster: Cluster) -> None:
    """Two brokers down: the report says why it was not written."""
    cluster.broker(2).crash()
    cluster.broker(3).crash()
    cluster.run_for(10)
    producer = cluster.producer(acks="all", message_timeout_ms=1500)
    producer.produce("calls", b"call-1")
    producer.flush()
    why = cluster.why(record="call-1")
    assert why.summary.startswith("never acknowledged: ")
    assert why.kinds == ["produce-failed"]


def test_a_record_that_the_new_leader_never_had(cluster: Cluster) -> None:
    """acks=1 and a leader that dies: lost, with the election and the power loss behind it."""
    leader = cluster.describe_topic("calls")[0].leader
    others = [broker for broker in (1, 2, 3) if broker != leader]
    cluster.produce("calls", ["call-0"])
    cluster.network.partition(leader, others)
    producer = cluster.producer(acks="1", linger_ms=0)
    producer.produce("calls", b"call-1")
    producer.flush()
    cluster.broker(leader).power_loss()
    cluster.network.heal()
    cluster.run_for(20)
    cluster.broker(leader).start()
    cluster.run_for(20)
    why = cluster.why(record="call-1")
    assert why.summary == "lost: acknowledged, and not in the log any more"
    assert {"acknowledged", "power_loss", "fenced", "change", "lost"} <= set(why.kinds)
    assert any("is not there: the log ends at 1" in step.text for step in why.of("lost"))


def test_a_record_that_was_deleted(cluster: Cluster) -> None:
    """DeleteRecords moved the start of the log past it."""
    cluster.produce("calls", ["call-0", "call-1", "call-2"])
    with cluster.install():
        from confluent_kafka import TopicPartition

        cluster.admin().delete_records([TopicPartition("calls", 0, 2)])[TopicPartition("calls", 0, 2)].result()
    assert cluster.why(record="call-1").summary == "deleted since"


def test_what_cannot_be_asked_is_refused(cluster: Cluster) -> None:
    """Each error names what there is to ask."""
    cluster.produce("calls", ["call-0"])
    with pytest.raises(KeyError, match="no record 'call-9'"):
        cluster.why(record="call-9")
    with pytest.raises(KeyError, match="no group 'billing'"):
        cluster.why(group="billing")
    with pytest.raises(TypeError, match=r"why\(record="):
        cluster.why("calls")
    with pytest.raises(ValueError, match="goes from 0 to"):
        cluster.why(group="billing", at=1e6)


def test_a_group_without_a_member(cluster: Cluster) -> None:
    """Its only member was killed: what is behind, and since when nobody is there."""
    sink = sinks.Sink(cluster, "invoices", group="billing")
    task = cluster.spawn(member, cluster, sink, commits_first=False, name="billing-1")
    cluster.run_for(10)
    task.kill()
    cluster.produce("calls", ["a", "b"])
    cluster.run_for(30)
    why = cluster.why(group="billing")
    assert why.summary == "2 records behind: no member left (1 partition)"
    assert why.kinds == ["client-ended", "no-member"]
    assert why.state["lag"] == 2


def test_a_group_whose_owner_is_at_work(cluster: Cluster) -> None:
    """The poison record that takes minutes is named with its offset."""
    sink = sinks.Sink(cluster, "invoices", lambda message: cluster.run_for(200), group="billing")
    cluster.spawn(member, cluster, sink, commits_first=False, name="billing-1")
    cluster.produce("calls", ["a", "b"])
    cluster.run_for(30)
    why = cluster.why(group="billing")
    assert why.summary == "1 records behind: its owner is still at work (1 partition)"
    assert "has worked on offset 0 since" in why.steps[-1].text


def test_a_group_behind_a_lost_leader(cluster: Cluster) -> None:
    """Two brokers of three gone, and the leader with them: the partition's own chain follows."""
    sink = sinks.Sink(cluster, "invoices", group="billing")
    cluster.spawn(member, cluster, sink, commits_first=False, name="billing-1")
    cluster.run_for(10)
    leader = cluster.describe_topic("calls")[0].leader
    for broker in (1, 2, 3):
        if broker != leader:
            cluster.broker(broker).crash()
            cluster.run_for(8)
    producer = cluster.producer(acks="1")
    producer.produce("calls", b"a")
    producer.flush()
    cluster.run_for(8)
    assert cluster.why(group="billing").summary == "1 records behind: its owner is given nothing (1 partition)"
    cluster.broker(leader).crash()
    cluster.run_for(8)
    why = cluster.why(group="billing")
    assert why.summary == "1 records behind: no leader (1 partition)"
    assert why.kinds.count("crash") >= 1
    assert why.steps[-1].because


def test_a_group_that_gets_on(cluster: Cluster) -> None:
    """Nothing to explain: not behind."""
    sink = sinks.Sink(cluster, "invoices", group="billing")
    cluster.spawn(member, cluster, sink, commits_first=False, name="billing-1")
    cluster.produce("calls", ["a"])
    cluster.run_for(30)
    assert cluster.why(group="billing").summary == "it is not behind"
