"""Why a partition is as it is: the chain from its state back to the faults and requests behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kafkasim
from kafkasim.core.model.admin_messages import (
    PREFERRED_ELECTION,
    SET_OPERATION,
    TOPIC_RESOURCE,
    AlterPartitionReassignmentsRequest,
    ConfigAlteration,
    ConfigResource,
    CreatePartitionsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    IncrementalAlterConfigsRequest,
    NewPartitionsSpec,
    Reassignment,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.views.chain import Chain, Explanation

FAST = {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}
TP = TopicPartition("t", 0)


@pytest.fixture
def cluster() -> Iterator[kafkasim.Cluster]:
    """Three brokers and a controller of its own; partition 0 of "t" is led by 2, then 3, then 1."""
    with kafkasim.Cluster(brokers=3, controllers=1, seed=1, config=FAST) as made:
        made.create_topic("t", config={"min.insync.replicas": 2})
        assert made.describe_topic("t")[0].replicas == [2, 3, 1]
        yield made


def set_config(cluster: kafkasim.Cluster, key: str, value: str) -> None:
    change = ConfigAlteration(ConfigResource(TOPIC_RESOURCE, "t"), ((key, SET_OPERATION, value),))
    cluster.ask(IncrementalAlterConfigsRequest((change,)), "controller")


def causes(explanation: Explanation, kind: str) -> list[str]:
    """Kinds of what the last step of this kind follows from."""
    last = explanation.of(kind)[-1]
    return [explanation.steps[number - 1].kind for number in last.because]


def test_the_whole_way_from_a_crash_to_a_refused_produce(cluster: kafkasim.Cluster) -> None:
    """Two brokers down, fenced, out of the ISR, below the minimum, refused: each step names what it follows from."""
    for node in (3, 1):
        cluster.broker(node).crash()
        cluster.run_for(5)
    producer = cluster.producer(acks="all", message_timeout_ms=1500)
    producer.produce("t", b"x")
    producer.flush()
    why = cluster.why("t", 0)
    assert why.kinds == ["request", "change", *["crash", "fenced", "change"] * 2, "produce-failed"]
    assert causes(why, "produce-failed") == ["change"]
    assert causes(why, "change") == ["fenced"]
    assert causes(why, "fenced") == ["crash"]
    assert why.of("produce-failed")[0].data["error"] == "NOT_ENOUGH_REPLICAS"
    assert why.state["isr"] == [2]
    assert why.state["min_isr"] == 2
    assert "below min.insync.replicas (2): produce with acks=all is refused" in why.summary
    assert {step.kind for step in why.roots} == {"crash", "request"}
    lines = str(why).splitlines()
    assert lines[0].startswith("t-0 at ")
    assert any("broker 3 fenced: no heartbeat for 3 s (broker.session.timeout.ms)   ← " in line for line in lines)
    assert repr(why) == str(why)


def test_at_a_time(cluster: kafkasim.Cluster) -> None:
    """The state and its chain as they were then: before the crash, before the fencing, after."""
    made = cluster.now
    cluster.run_for(0.1)
    cluster.broker(2).crash()
    cluster.run_for(10)
    assert cluster.why("t", 0, at=made).kinds == ["request", "change"]
    early = cluster.why("t", 0, at=made + 1)
    assert early.state["leader"] == 2
    assert early.kinds == ["request", "change", "crash", "not-fenced-yet"]
    assert "leader, is still unfenced" in early.steps[-1].text
    late = cluster.why("t", 0, at=made + 9)
    assert late.state["leader"] == 3
    assert late.kinds == ["crash", "fenced", "change"]
    assert late.of("change")[0].data["elected_from"] == "the ISR"


def test_offline_says_who_is_waited_for(cluster: kafkasim.Cluster) -> None:
    """ISR empty: a member of the ELR may lead; then only the last known leader."""
    for node in (3, 1):
        cluster.broker(node).crash()
        cluster.run_for(5)
    cluster.broker(2).pause()
    cluster.run_for(5)
    why = cluster.why("t", 0)
    assert why.state["leader"] == -1
    waiting = why.of("waiting")[0]
    assert set(waiting.data["waiting_for"]) == set(why.state["elr"]) == {1, 2}
    assert "unclean.leader.election.enable is false" in waiting.text
    assert "broker 1 (crashed)" in waiting.text
    assert "broker 2 (was paused)" in waiting.text
    cluster.broker(2).crash()
    for node in (1, 2):
        cluster.broker(node).start()
        cluster.run_for(5)
    why = cluster.why("t", 0)
    assert why.state["leader"] == 2
    assert why.of("change")[-2].data["elected_from"] == "the last known leader"
    assert why.of("registered")
    assert "without a clean shutdown" in str(why)


def test_elected_from_the_elr(cluster: kafkasim.Cluster) -> None:
    """Who was paused held everything, and says so."""
    for node in (3, 1):
        cluster.broker(node).crash()
        cluster.run_for(5)
    cluster.broker(2).pause()
    cluster.run_for(5)
    cluster.broker(2).resume()
    cluster.run_for(2)
    why = cluster.why("t", 0)
    elected = why.of("change")[-1]
    assert elected.data["elected_from"] == "the ELR"
    assert "resume" in why.kinds
    assert "pause" in why.kinds


def test_an_unclean_election_names_its_config(cluster: kafkasim.Cluster) -> None:
    """The flip of the config is among the causes."""
    for node in (3, 1, 2):
        cluster.broker(node).crash()
        cluster.run_for(5)
    cluster.broker(3).start()
    cluster.run_for(5)
    assert cluster.why("t", 0).state["leader"] == -1
    set_config(cluster, "unclean.leader.election.enable", "true")
    cluster.run_for(301)
    why = cluster.why("t", 0)
    assert why.state["leader"] == 3
    unclean = next(step for step in why.of("change") if step.data.get("elected_from") == "unclean")
    assert "committed records may be lost" in unclean.text
    assert "config" in why.kinds


def test_shutdown_and_preferred_election(cluster: kafkasim.Cluster) -> None:
    """A controlled shutdown moved the leader away; an admin's election, or the automatic balance, moved it back."""
    cluster.broker(2).shutdown()
    cluster.run_for(5)
    why = cluster.why("t", 0)
    assert why.kinds == ["shutdown", "controlled-shutdown", "change"]
    assert why.state["leader"] == 3
    cluster.broker(2).start()
    cluster.run_for(5)
    why = cluster.why("t", 0)
    assert why.kinds[-4:] == ["start", "unfenced", "caught-up", "change"]
    cluster.ask(ElectLeadersRequest(PREFERRED_ELECTION, (TP,)), "controller")
    cluster.run_for(1)
    why = cluster.why("t", 0)
    assert why.state["leader"] == 2
    assert why.of("request")[-1].text == "ElectLeaders was requested: a preferred election"
    cluster.broker(2).shutdown()
    cluster.run_for(5)
    cluster.broker(2).start()
    cluster.run_for(301)
    assert "balance" in cluster.why("t", 0).kinds


def test_a_follower_that_falls_behind(cluster: kafkasim.Cluster) -> None:
    """Cut off from its leader alone: the leader drops it, and takes it back when it has caught up."""
    cluster.produce("t", [b"x"])
    cluster.network.partition(1, 2)
    producer = cluster.producer(acks=1)
    producer.produce("t", b"x")
    producer.flush()
    cluster.run_for(8)
    assert "out of the leader's reach" in cluster.why("t", 0).steps[-1].text
    cluster.run_for(50)  # replica.lag.time.max.ms
    why = cluster.why("t", 0)
    assert why.state["isr"] == [2, 3]
    assert why.kinds[-3:] == ["network partition", "fell-behind", "change"]
    assert "log end 1 of 2, caught up last at" in why.of("fell-behind")[0].text
    assert why.of("network partition")[0].text == "network partition between [1] and [2]"
    cluster.network.heal(2, 1)
    cluster.run_for(40)
    why = cluster.why("t", 0)
    assert why.state["isr"] == [1, 2, 3]
    assert why.kinds[-3:] == ["network heal", "caught-up", "change"]


def test_alive_but_cut_off_from_the_controller(cluster: kafkasim.Cluster) -> None:
    """Fenced though its process runs: the root is the network."""
    cluster.network.partition(2, 4)
    cluster.run_for(8)
    why = cluster.why("t", 0)
    assert why.kinds == ["network partition", "fenced", "change"]
    assert why.state["leader"] == 3


def test_without_a_controller(cluster: kafkasim.Cluster) -> None:
    """Nothing moves, and the chain says why."""
    cluster.broker(4).crash()
    cluster.broker(2).crash()
    cluster.run_for(10)
    why = cluster.why("t", 0)
    assert why.state["leader"] == 2
    assert causes(why, "no-controller") == ["crash"]
    assert causes(why, "not-fenced-yet") == ["crash"]


def test_reassignment(cluster: kafkasim.Cluster) -> None:
    """In progress while the new replica is down; cancelled; complete."""
    cluster.broker(1).crash()
    cluster.run_for(5)

    def reassign(replicas: tuple[int, ...] | None) -> None:
        moved = Reassignment(TopicPartition("s", 0), replicas)
        cluster.ask(AlterPartitionReassignmentsRequest((moved,)), "controller")

    cluster.create_topic("s", replication_factor=2)
    first, second = cluster.describe_topic("s")[0].replicas
    reassign((first, 1))
    cluster.run_for(2)
    why = cluster.why("s", 0)
    assert f"reassignment in progress (adding [1], removing [{second}])" in why.summary
    assert "AlterPartitionReassignments was requested" in str(why)
    reassign(None)
    assert "reassignment cancelled" in cluster.why("s", 0).steps[-1].text
    cluster.broker(1).start()
    cluster.run_for(5)
    reassign((first, 1))
    cluster.run_for(5)
    why = cluster.why("s", 0)
    assert why.state["replicas"] == [first, 1]
    assert "reassignment complete" in str(why)


def test_a_raised_minimum(cluster: kafkasim.Cluster) -> None:
    """The config is a cause of its own."""
    cluster.broker(1).crash()
    cluster.run_for(5)
    set_config(cluster, "min.insync.replicas", "3")
    producer = cluster.producer(acks="all", message_timeout_ms=1000)
    producer.produce("t", b"x")
    producer.flush()
    why = cluster.why("t", 0)
    assert why.of("config")[0].text == "min.insync.replicas of the topic set to 3"
    assert "below min.insync.replicas (3)" in why.summary
    assert "config" in causes(why, "produce-failed")


def test_life_and_death_of_a_topic(cluster: kafkasim.Cluster) -> None:
    """Partitions that were added, a topic that was deleted, one that was made again."""
    cluster.ask(CreatePartitionsRequest((NewPartitionsSpec("t", 2),)), "controller")
    assert cluster.why("t", 1).steps[0].text == "CreatePartitions was requested"
    cluster.ask(DeleteTopicsRequest(("t",)), "controller")
    why = cluster.why("t", 0)
    assert why.summary == "deleted"
    assert [step.text for step in why.steps] == ["DeleteTopics was requested", "deleted"]
    assert why.state == {}
    cluster.create_topic("t")
    assert cluster.why("t", 0).kinds == ["request", "change"]


def test_what_is_refused(cluster: kafkasim.Cluster) -> None:
    """The error names the topic, the partition or the time, and what there is."""
    with pytest.raises(KeyError, match=r"no topic 'u': this cluster had \['t'\] so far"):
        cluster.why("u", 0)
    with pytest.raises(KeyError, match="no partition 7 of 't': it has 1, numbered from 0"):
        cluster.why("t", 7)
    with pytest.raises(ValueError, match="the run goes from 0 to"):
        cluster.why("t", 0, at=1e6)
    with pytest.raises(ValueError, match="made only at"):
        cluster.why("t", 0, at=0.001)
    with (
        kafkasim.Cluster(brokers=1, history=False) as blind,
        pytest.raises(kafkasim.ConfigurationError, match="history=False"),
    ):
        blind.why("t", 0)


def test_a_chain_puts_causes_first() -> None:
    """Steps of one time keep the order in which they were added; a step that two follow from stands there once."""
    chain = Chain()
    root = chain.add(5, "root", 1, "it began")
    chain.add(5, "late", 1, "then this", [chain.add(5, "middle", 1, "and", [root]), root])
    chain.add(1, "early", 1, "long before")
    assert chain.add(9, "root", 1, "not again") is root
    assert [(step.kind, step.because) for step in chain.steps()] == [
        ("early", ()),
        ("root", ()),
        ("middle", (2,)),
        ("late", (2, 3)),
    ]


def test_a_disk_as_the_root(cluster: kafkasim.Cluster) -> None:
    """A slow disk puts its broker out of the ISR; a full one ends it."""
    cluster.broker(3).disk.slow(60.0)
    producer = cluster.producer(acks=1)
    producer.produce("t", b"x")
    producer.flush()
    cluster.run_for(50)
    why = cluster.why("t", 0)
    assert causes(why, "fell-behind") == ["disk slow"]
    assert why.of("disk slow")[0].text == "the disk of broker 3 became slow"
    cluster.broker(2).disk.fill()
    producer.produce("t", b"y")
    producer.poll(1)
    cluster.run_for(10)
    why = cluster.why("t", 0)
    assert causes(why, "stopped") == ["disk full"]
    assert "broker 2 stopped: the log directory is offline" in str(why)
    assert why.state["leader"] == 1
