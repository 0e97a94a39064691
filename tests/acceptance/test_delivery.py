"""What users come for: groups share work, offsets survive, and settings decide what a crash may lose or double."""

from __future__ import annotations

from typing import Any

import kafkasim

FAST = {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}
PRODUCE = 0


def read(consumer: Any, count: int, polls: int = 200) -> list[Any]:
    messages: list[Any] = []
    for _ in range(polls):
        message = consumer.poll(0.5)
        if message is not None:
            assert message.error() is None, message.error()
            messages.append(message)
        if len(messages) >= count:
            break
    return messages


def test_two_members_split_four_partitions() -> None:
    """2 + 2, each record to one of them, and the callbacks fire."""
    with kafkasim.Cluster(brokers=3, seed=5) as cluster:
        cluster.create_topic("calls", partitions=4)
        calls: list[tuple[str, str, list[int]]] = []
        got: dict[str, list[bytes]] = {"a": [], "b": []}

        def member(name: str) -> None:
            from confluent_kafka import Consumer

            def noted(kind: str) -> Any:
                return lambda _, parts: calls.append((name, kind, sorted(p.partition for p in parts)))

            consumer = Consumer({"bootstrap.servers": "kafka:9092", "group.id": "g", "auto.offset.reset": "earliest"})
            consumer.subscribe(["calls"], on_assign=noted("assign"), on_revoke=noted("revoke"))
            while sum(map(len, got.values())) < 40:
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    got[name].append(message.value())
            consumer.close()

        tasks = [cluster.spawn(member, name, name=name) for name in ("a", "b")]
        cluster.wait_for_assignment("g", 2)
        split = [member.assignment for member in cluster.describe_group("g").members]
        assert [len(partitions) for partitions in split] == [2, 2]
        cluster.produce("calls", [f"v{n}" for n in range(40)], [f"k{n}" for n in range(40)])
        cluster.run_until(lambda: all(task.done for task in tasks))
        assert sorted(got["a"] + got["b"]) == sorted(f"v{n}".encode() for n in range(40))
        assert got["a"]
        assert got["b"]
        assert [kind for name, kind, _ in calls if name == "a"].count("assign") >= 1
        assert calls[-1][1] == "revoke"
        assert cluster.check().ok


def test_offsets_survive_close_and_rejoin() -> None:
    """A member that comes back goes on where the group had committed, also after its coordinator crashed."""
    with kafkasim.Cluster(brokers=3, seed=1, config=FAST) as cluster:
        cluster.create_topic("calls", partitions=2)
        cluster.produce("calls", [f"v{n}" for n in range(10)], [f"k{n}" for n in range(10)])
        first = cluster.consumer("g", ["calls"], auto_offset_reset="earliest")
        assert len(read(first, 10)) == 10
        first.close()
        cluster.broker(cluster.coordinator_of("g")).crash()
        cluster.run_for(5.0)
        cluster.produce("calls", [b"later"])
        second = cluster.consumer("g", ["calls"], auto_offset_reset="earliest")
        assert [message.value() for message in read(second, 1)] == [b"later"]
        second.close()


def crash_the_leader(seed: int, acks: str) -> tuple[int, int, Any]:
    """Acknowledged records, of which are left, and the report, after a leader died right after it acknowledged."""
    with kafkasim.Cluster(brokers=3, seed=seed, config=FAST) as cluster:
        cluster.create_topic("calls", config={"min.insync.replicas": 2})
        leader = cluster.describe_topic("calls")[0].leader
        followers = [broker for broker in (1, 2, 3) if broker != leader]
        # Followers that are slow to fetch are what makes the seed unlucky.
        cluster.network.slow(leader, followers, extra_ms=20)
        producer = cluster.producer(acks=acks, linger_ms=0)
        acknowledged: list[bytes] = []

        def on_delivery(error: Any, message: Any) -> None:
            if error is None:
                acknowledged.append(message.value())
            if len(acknowledged) == 20:
                cluster.broker(leader).crash()

        for number in range(20):
            producer.produce("calls", b"v%d" % number, on_delivery=on_delivery)
            producer.poll(0.002)
        producer.flush(30)
        cluster.run_for(10.0)
        cluster.broker(leader).start()
        cluster.run_for(15.0)
        kept = {record.value for record in cluster.records("calls")}
        return len(acknowledged), len([value for value in acknowledged if value in kept]), cluster.check()


def test_acks_all_loses_nothing_when_the_leader_crashes() -> None:
    """What acks=all acknowledged is there after the fail-over."""
    for seed in range(5):
        acknowledged, kept, report = crash_the_leader(seed, "all")
        assert acknowledged == kept == 20
        assert report.ok, report


def test_acks_1_may_lose_what_it_acknowledged() -> None:
    """Records that no follower had fetched are gone, as in Kafka; the report says that the settings allowed it."""
    acknowledged, kept, report = crash_the_leader(0, "1")
    assert acknowledged == 20
    assert kept < 20
    assert report.ok, report
    assert [finding.invariant for finding in report.allowed][:1] == ["acked-loss"]


def lose_a_response(idempotent: bool) -> tuple[list[bytes], Any]:
    with kafkasim.Cluster(brokers=3, seed=2) as cluster:
        cluster.create_topic("calls")
        producer = cluster.producer(enable_idempotence=idempotent)
        producer.produce("calls", b"warm")
        producer.flush()
        cluster.network.lose_response(client=producer, api_key=PRODUCE)
        producer.produce("calls", b"once")
        assert producer.flush(60) == 0
        return [record.value or b"" for record in cluster.records("calls")], cluster.check()


def test_a_lost_response_doubles_without_idempotence() -> None:
    """The batch was written; its producer cannot know and sends it again."""
    values, report = lose_a_response(idempotent=False)
    assert values == [b"warm", b"once", b"once"]
    assert report.ok
    assert [finding.invariant for finding in report.allowed] == ["log-duplicate"]


def test_a_lost_response_does_no_harm_with_idempotence() -> None:
    """The leader recognises the sequence numbers and answers with the offset it has."""
    values, report = lose_a_response(idempotent=True)
    assert values == [b"warm", b"once"]
    assert report.ok
    assert not report.allowed
