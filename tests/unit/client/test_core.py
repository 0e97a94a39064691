"""The core of a client: connections and their backoff, what is told of failures, metadata kept fresh."""

from __future__ import annotations

import json
from itertools import pairwise

from tests.unit.client.fake_cluster import SECOND_US, FakeCluster

from kafkasim.core.client.core import ClientCore
from kafkasim.core.client.metadata import EXISTS, NOT_EXISTS, UNKNOWN, MetadataCache
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, TopicPartition
from kafkasim.core.model.messages import BrokerEndpoint, MetadataRequest, PartitionMetadata, TopicMetadata

T0 = TopicPartition("t", 0)


def make(**given: object) -> tuple[FakeCluster, ClientCore]:
    cluster = FakeCluster(3)
    cluster.add_topic("t", 2)
    return cluster, cluster.client(ClientCore, "producer", **given)


def topic(epoch: int, leader: int, error: ErrorCode = ErrorCode.NONE, topic_id: str = "id") -> TopicMetadata:
    partitions = () if error else (PartitionMetadata(ErrorCode.NONE, 0, leader, epoch, (1, 2), (1, 2)),)
    return TopicMetadata(error, "t", topic_id, False, partitions)


def test_a_client_learns_the_brokers_by_itself() -> None:
    """The first input connects to a bootstrap server and learns all brokers."""
    cluster, core = make()
    cluster.run(1)
    assert sorted(core.metadata.brokers) == [1, 2, 3]
    assert core.broker_name(3) == "b3:9092/3"
    assert core.is_up(1)


def test_reconnects_back_off() -> None:
    """Attempts to a dead broker grow from reconnect.backoff.ms to its maximum."""
    cluster, core = make(**{"reconnect.backoff.max.ms": 2000})
    cluster.run(1)
    for node in cluster.brokers:
        cluster.stop(node)
    attempts: list[int] = []
    begin = core._open

    def note(connection: object, now_us: int) -> None:
        attempts.append(now_us)
        begin(connection, now_us)  # type: ignore[arg-type]

    core._open = note  # type: ignore[method-assign]
    cluster.run(30)
    assert 15 <= len(attempts) <= 90
    gaps = [later - earlier for earlier, later in pairwise(attempts[-9:])]
    assert sum(gaps) > 2 * SECOND_US


def test_errors_are_told_and_repetitions_are_not() -> None:
    """A refused connection is told twice at most in 30 s, all brokers down once."""
    cluster, core = make()
    for node in cluster.brokers:
        cluster.stop(node)
    cluster.run(20)
    events = core.take_events()
    down = [event for event in events if event.code == ErrorCode._ALL_BROKERS_DOWN]
    refused = [event.text for event in events if event.text.startswith("b1:9092/bootstrap")]
    assert [event.text for event in down] == ["2/2 brokers are down"]
    assert len(refused) == 2
    assert refused[0].startswith("b1:9092/bootstrap: Connect to ipv4#b1:9092 failed: Connection refused (after ")
    assert refused[0].endswith("ms in state CONNECT)")
    cluster.run(20)
    assert any("identical error(s) suppressed" in event.text for event in core.take_events())


def test_an_address_that_leads_nowhere_refuses() -> None:
    """A bootstrap server that no node answers to behaves as a closed port."""
    config = ClientConfig.parse("producer", {"bootstrap.servers": "nowhere:1"})
    core = ClientCore(7, config, (NO_NODE,), lambda _label, _bound: 0, 0)
    core.on_deadline(0)
    core.on_deadline(0)
    assert core.outbox == []
    assert [event.code for event in core.take_events()] == [ErrorCode._TRANSPORT, ErrorCode._ALL_BROKERS_DOWN]
    assert core.deadline_us > 0


def test_listing_without_a_broker_fails_at_its_timeout() -> None:
    """cluster_metadata ends with _TRANSPORT when nothing could be reached."""
    cluster, core = make()
    for node in cluster.brokers:
        cluster.stop(node)
    operation = core.cluster_metadata(None, 2 * SECOND_US, cluster.now_us)
    cluster.run(3)
    assert (operation.done, operation.error) == (True, ErrorCode._TRANSPORT)


def test_listing_all_topics() -> None:
    """cluster_metadata hands out the broker's answer, and wakes the application."""
    cluster, core = make()
    operation = core.cluster_metadata(None, 2 * SECOND_US, cluster.now_us)
    cluster.run(1)
    assert [each.name for each in operation.result.topics] == ["t"]
    assert core.wake


def test_a_wanted_topic_is_looked_for_until_it_exists() -> None:
    """Once a second while unknown, then no more."""
    cluster, core = make()
    core.want_topic("later", cluster.now_us)
    cluster.run(5)
    asked = [request for request in cluster.sent(MetadataRequest) if request.topics == ("later",)]
    assert 4 <= len(asked) <= 6
    cluster.add_topic("later", 1)
    cluster.run(2)
    assert core.metadata.partition_count("later") == 1
    before = len(cluster.requests)
    cluster.run(60)
    assert len(cluster.requests) == before


def test_a_lost_leader_is_looked_for_fast() -> None:
    """After leader_lost the topic is asked for at once and at growing intervals until a leader of a newer epoch shows."""
    cluster, core = make()
    core.want_topic("t", cluster.now_us)
    cluster.run(1)
    cluster.leaders[T0] = (-1, 1)
    core.leader_lost("t", cluster.now_us)
    cluster.run(1)
    fast = [at_us for at_us, _, request in cluster.requests if request.topics == ("t",) and at_us > SECOND_US]
    assert 3 <= len(fast) <= 8
    cluster.leaders[T0] = (2, 2)
    cluster.run(3)
    assert core.metadata.leader(T0) == 2


def test_a_frozen_broker_does_not_blind_a_client() -> None:
    """A broker that owes an answer is passed over by the next request for metadata."""
    cluster, core = make()
    cluster.run(1)
    core.connect(2, cluster.now_us)
    cluster.run(1)
    cluster.freeze(1)
    core.want_topic("t", cluster.now_us)
    cluster.run(3)
    assert core.metadata.partition_count("t") == 2


def test_statistics() -> None:
    """Every statistics.interval.ms one JSON text with librdkafka's names."""
    cluster, core = make(**{"statistics.interval.ms": 1000})
    core.want_topic("t", cluster.now_us)
    cluster.run(2.5)
    figures = [json.loads(event.text) for event in core.take_events() if event.kind == "stats"]
    assert len(figures) == 2
    assert figures[1]["brokers"]["b1:9092/1"]["state"] == "UP"
    assert figures[1]["topics"]["t"]["partitions"]["1"]["leader"] == 2


def test_epochs_never_go_back() -> None:
    """A stale answer leaves the newer leader alone; a hint is taken only if newer and of a known broker."""
    cache = MetadataCache(SECOND_US)
    cache.brokers = {node: BrokerEndpoint(node, "b", 1) for node in (1, 2)}
    assert cache.on_topic(topic(5, 1), 0)
    assert not cache.on_topic(topic(4, 2), 1)
    assert cache.leader(T0) == 1
    assert not cache.on_leader_hint(T0, 2, 5)
    assert not cache.on_leader_hint(T0, 9, 6)
    assert cache.on_leader_hint(T0, 2, 6)
    assert (cache.leader(T0), cache.leader_epoch(T0)) == (2, 6)


def test_a_recreated_topic_starts_over() -> None:
    """Another topic id makes old epochs void."""
    cache = MetadataCache(SECOND_US)
    cache.on_topic(topic(5, 1), 0)
    assert cache.on_topic(topic(0, 2, topic_id="other"), 1)
    assert (cache.leader(T0), cache.leader_epoch(T0)) == (2, 0)


def test_a_missing_topic_gets_time_to_propagate() -> None:
    """An unknown topic becomes nonexistent only after the propagation time, an existing one as well."""
    cache = MetadataCache(SECOND_US)
    missing = topic(0, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    cache.on_topic(missing, 0)
    assert cache.topics["t"].state == UNKNOWN
    cache.on_topic(missing, SECOND_US)
    assert cache.topics["t"].state == NOT_EXISTS
    cache.on_topic(topic(0, 1), SECOND_US)
    assert cache.topics["t"].state == EXISTS
