"""Faults of plans at work, one by one: starved processes, planes, single requests, disks, clocks, clients, operators."""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kafkasim
from kafkasim import faults
from kafkasim.confluent_kafka import KafkaException
from kafkasim.confluent_kafka import TopicPartition as Place
from kafkasim.core.model.history import Happened
from kafkasim.core.model.ids import TopicPartition
from kafkasim.errors import ConfigurationError
from kafkasim.faults import Fault, Plan
from kafkasim.sim.aim import active_controller

TP = TopicPartition("orders", 0)
_PLAIN = {"acks": "all", "linger.ms": 0, "enable.idempotence": False, "request.timeout.ms": 1000}

EXAMPLES = (
    faults.starve("broker:1", factor=10, at=1, lasting=5),
    faults.power_loss("brokers", at=1, within=0.5, partial=True, down=3),
    faults.disk_replace("some:2", at=1, down=2),
    faults.partition("leader:orders-0", plane="control", at=1, lasting=9),
    faults.hold("clients", "controllers", api="Produce", one_way=True, when="isr:orders-0 <= 1"),
    faults.slow("minority", "brokers", extra=0.25, api="ReplicaFetch", tail=True, at=3),
    faults.late("Produce.sent", nth=4, by=2.5),
    faults.clock_jump("client:billing", by=-3600, at=1, lasting=1e-3),
    faults.clock_drift("majority", factor=0.5, at=1),
    faults.kill("client:billing", at=2, down=4),
    faults.configure("topic:orders", {"min.insync.replicas": 1, "retention.ms": "10"}, at=1, lasting=2),
    faults.configure("brokers", {"unclean.leader.election.enable": True}, at=1),
    faults.add_partitions("topic:orders", 3, at=1),
    faults.delete_topic("topic:a b", on="Produce.received", gone=1, then=True),
)


@pytest.mark.parametrize("fault", EXAMPLES, ids=str)
def test_every_setting_survives_toml_and_json(fault: Fault) -> None:
    """Written and read again it is the same value."""
    assert faults.plan_from_toml(faults.plan_to_toml(Plan((fault,)))) == Plan((fault,))
    assert faults.plan_from_json(faults.plan_to_json(Plan((fault,)))) == Plan((fault,))


@given(st.floats(-1e7, 1e7), st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_numbers_and_texts_survive_to_the_last_digit(by: float, settings: dict[str, str]) -> None:
    """Quotes, dots and signs included."""
    plan = Plan((faults.configure("topic:orders", settings, at=1),))
    if by:
        plan += faults.clock_jump("broker:1", by=by, at=1)
    assert faults.plan_from_toml(faults.plan_to_toml(plan)) == plan


def test_new_faults_print_as_one_reads_them() -> None:
    """The words of a failing test."""
    assert [str(fault) for fault in EXAMPLES[:2]] == [
        "starve broker:1 x10 at 1s for 5s",
        "power_loss brokers in part within 0.5s at 1s for 3s",
    ]
    assert str(EXAMPLES[3]) == "partition leader:orders-0 from others (control only) at 1s for 9s"
    assert str(EXAMPLES[6]) == "late client +2.5s on Produce.sent #4"
    assert str(EXAMPLES[10]) == "configure topic:orders min.insync.replicas=1 retention.ms=10 at 1s for 2s"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"what": "crash", "factor": 2.0}, "'crash' has no factor; that is for slow, starve, clock_drift"),
        ({"what": "crash", "settings": (("a", "b"),)}, "has no settings; that is for configure"),
        ({"what": "partition", "plane": "controll"}, "did you mean 'control'"),
        ({"what": "hold", "api": "Produse"}, "did you mean 'Produce'"),
        ({"what": "slow", "api": "Produce", "factor": 2.0}, "a factor is for the whole link"),
        ({"what": "starve", "factor": 0.5}, "expected more than 1"),
        ({"what": "clock_drift"}, "needs a factor"),
        ({"what": "clock_jump"}, "how far"),
        ({"what": "slow", "extra_s": -1.0}, "only a clock jumps back"),
        ({"what": "late", "target": "client", "extra_s": 1.0}, "needs an event"),
        ({"what": "delete_topic", "target": "broker:1"}, "to topic:NAME, not to 'broker:1'"),
        ({"what": "configure", "target": "zone:a", "settings": (("a", "b"),)}, "topic:NAME, broker:ID or brokers"),
        ({"what": "configure", "target": "topic:orders"}, "needs settings"),
        ({"what": "crash", "target": "topic:orders"}, "cannot happen to a topic"),
        ({"what": "crash", "target": "client:billing"}, "cannot happen to a client"),
        ({"what": "crash", "target": "some:none"}, "how many"),
        ({"what": "add_partitions", "target": "topic:a", "count": 0}, "count 0"),
        ({"what": "elect_preferred", "target": "topic:a", "for_s": 1.0}, "nothing to undo"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    """With the word that is wrong, and the way out."""
    with pytest.raises(ConfigurationError, match=message):
        Fault(**{"at_s": 1.0, **values})


# --- processes and disks ---------------------------------------------------------------------------------------------


def _written(cluster: kafkasim.Cluster, count: int = 20, **config: Any) -> list[Any]:
    """Errors of so many records, one every tenth of a second."""
    errors: list[Any] = []
    producer = cluster.producer({**_PLAIN, **config})
    for number in range(count):
        producer.produce("orders", str(number), on_delivery=lambda error, _message: errors.append(error))
        producer.poll(0.1)
    producer.flush(60.0)
    return errors


def test_a_starved_leader_answers_late() -> None:
    """One part in fifty of the CPU: what took a millisecond takes up to a tenth of a second; afterwards all is as before."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        cluster.produce("orders", ["warm"])

        def seconds_of(values: list[str]) -> float:
            before = cluster.now
            for value in values:
                cluster.produce("orders", [value])
            return cluster.now - before

        healthy = seconds_of(["a", "b", "c"])
        injection = cluster.inject(faults.starve("leader:orders-0", factor=50, at=0.0, lasting=60.0))
        cluster.run_for(1.0)
        assert seconds_of(["d", "e", "f"]) > 10 * healthy
        injection.heal()
        cluster.run_for(1.0)
        assert seconds_of(["g", "h", "i"]) < 2 * healthy
        assert cluster.check().ok


def test_one_by_one_within_a_window() -> None:
    """Three brokers in two seconds, each at its own moment."""
    with kafkasim.Cluster(seed=1) as cluster:
        begin = cluster.now
        cluster.inject(faults.crash("brokers", at=1.0, within=2.0, down=1.0))
        cluster.run_for(10.0)
        crashes = [e.at_us / 1e6 - begin for e in cluster.history.of(Happened) if e.kind == "crash"]
        assert len(crashes) == len(set(crashes)) == 3
        assert all(1.0 <= at_s <= 3.0 for at_s in crashes)
        assert {cluster.broker(n).state for n in (1, 2, 3)} == {"running"}


def test_a_part_of_what_was_not_flushed_may_survive() -> None:
    """Over some seeds a power loss leaves nothing, something, and everything."""
    kept = set()
    for seed in range(6):
        with kafkasim.Cluster(brokers=1, seed=seed) as cluster:
            cluster.create_topic("orders", replication_factor=1)
            for number in range(4):
                cluster.produce("orders", [str(number)])
            cluster.inject(faults.power_loss("broker:1", at=0.0, partial=True, down=1.0))
            cluster.run_for(30.0)
            kept.add(len(cluster.records("orders")))
    assert len(kept) > 2
    assert kept <= {0, 1, 2, 3, 4}


def test_a_replaced_disk_is_filled_again_by_the_others() -> None:
    """The broker comes back with nothing, and catches up."""
    with kafkasim.Cluster(seed=2, controllers=1) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        cluster.produce("orders", ["a", "b"])
        injection = cluster.inject(faults.disk_replace("follower:orders-0", at=0.0, down=2.0))
        cluster.run_for(0.1)
        [hit] = injection.fired[0].hit
        storage = cluster.process(int(hit.split()[1])).storage.broker
        assert TP not in storage.logs
        cluster.run_for(40.0)
        assert storage.logs[TP].end == 2
        assert len(cluster.describe_topic("orders")[0].isr) == 3
        assert cluster.check().ok


def test_quorums_are_lost_by_halves() -> None:
    """A minority of voters leaves a controller, a majority leaves none until they are back."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.inject(faults.crash("minority", at=0.0, down=20.0))
        cluster.run_for(10.0)
        assert active_controller(cluster) >= 0
        cluster.run_for(40.0)
        cluster.inject(faults.crash("majority", at=0.0, down=20.0))
        cluster.run_for(10.0)
        assert active_controller(cluster) < 0
        cluster.run_for(40.0)
        assert active_controller(cluster) >= 0


# --- traffic ---------------------------------------------------------------------------------------------------------


def test_a_leader_without_the_control_plane_serves_until_it_is_fenced() -> None:
    """Cut off from the controller alone it still replicates and acknowledges; then somebody else leads."""
    with kafkasim.Cluster(seed=1, controllers=1) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        leader = cluster.describe_topic("orders")[0].leader
        injection = cluster.inject(faults.partition(f"broker:{leader}", plane="control", at=0.0))
        cluster.run_for(1.0)
        assert cluster.produce("orders", ["still here"]) == [(0, 0)]
        cluster.run_for(30.0)
        assert cluster.describe_topic("orders")[0].leader != leader
        injection.heal()
        cluster.run_for(40.0)
        assert len(cluster.describe_topic("orders")[0].isr) == 3
        assert cluster.check().ok


def test_without_the_replication_plane_the_isr_shrinks() -> None:
    """Heartbeats go on, so nobody is fenced; followers just do not follow."""
    with kafkasim.Cluster(seed=1, controllers=1) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 1})
        cluster.inject(faults.partition("brokers", "brokers", plane="replication", at=0.0))
        cluster.run_for(0.1)
        assert _written(cluster, 3, acks="1") == [None] * 3
        cluster.run_for(60.0)
        assert len(cluster.describe_topic("orders")[0].isr) == 1
        assert all(not broker.fenced for broker in cluster._controller_image().brokers.values())


def test_one_api_is_slow_and_the_others_are_not() -> None:
    """Commits take a second each; what is produced meanwhile does not."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        cluster.produce("orders", ["a"])
        consumer = cluster.consumer("billing", ["orders"], {"auto.offset.reset": "earliest"})
        assert consumer.poll(20.0) is not None
        cluster.inject(faults.slow("clients", "brokers", extra=1.0, api="OffsetCommit", at=0.0))
        cluster.run_for(0.1)
        before = cluster.now
        cluster.produce("orders", ["b"])
        assert cluster.now - before < 0.5
        before = cluster.now
        consumer.commit(asynchronous=False)
        assert 1.0 < cluster.now - before < 1.5


def test_a_long_tail_hits_few() -> None:
    """Of 300 requests some take the extra time, a few ten times as much, most none."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        producer = cluster.producer(acks="1", linger_ms=0)
        producer.produce("orders", "warm")
        producer.flush()
        cluster.inject(faults.slow("clients", "brokers", extra=1.0, tail=True, at=0.0))
        cluster.run_for(0.1)
        took = []
        for number in range(300):
            before = cluster.now
            producer.produce("orders", str(number))
            producer.flush()
            took.append(cluster.now - before)
        assert sum(seconds < 0.1 for seconds in took) > 200
        assert 5 < sum(1.0 < seconds < 9.0 for seconds in took) < 80
        assert 0 < sum(seconds > 9.0 for seconds in took) < 15


def test_requests_of_one_api_are_held_and_let_go() -> None:
    """A held AlterPartition keeps a dead follower in the ISR; released, it leaves."""
    with kafkasim.Cluster(
        seed=1, controllers=1, config={"broker.session.timeout.ms": 60000, "replica.lag.time.max.ms": 5000}
    ) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 1})
        cluster.produce("orders", ["a"])
        injection = cluster.inject(faults.hold("brokers", "controllers", api="AlterPartition", at=0.0))
        cluster.inject(faults.crash("follower:orders-0", at=0.1))
        cluster.run_for(1.0)
        assert _written(cluster, 1, acks="1") == [None]
        cluster.run_for(20.0)
        assert len(cluster.describe_topic("orders")[0].isr) == 3
        injection.heal()
        cluster.run_for(1.0)
        assert len(cluster.describe_topic("orders")[0].isr) == 2


def test_a_late_request_is_overtaken_on_other_connections() -> None:
    """What another producer sends afterwards is in the log before it; what its own sends stays behind it."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        cluster.produce("orders", ["warm"])
        first, second = cluster.producer(linger_ms=0), cluster.producer(linger_ms=0)
        for producer in (first, second):
            producer.produce("orders", "warm")
            producer.flush()
        cluster.inject(faults.late("Produce.sent", nth=1, by=2.0))
        first.produce("orders", "a")
        first.poll(0.1)
        first.produce("orders", "b")
        first.poll(0.1)
        second.produce("orders", "c")
        second.flush()
        first.flush()
        assert [record.value for record in cluster.records("orders")][-3:] == [b"c", b"a", b"b"]
        assert cluster.check().ok


def test_a_late_commit_overtakes_the_one_after_it() -> None:
    """Its sender gives up and commits again on a new connection; the old one still brings the first, and the group goes back."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        cluster.produce("orders", ["a", "b"])
        config = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "socket.timeout.ms": 2000}
        consumer = cluster.consumer("billing", ["orders"], {**config, "session.timeout.ms": 60000})
        place = TopicPartition("orders", 0)
        assert len(consumer.consume(2, 20.0)) == 2
        injection = cluster.inject(faults.late("OffsetCommit.sent", by=9.0))
        for offset in (1, 2):
            with contextlib.suppress(KafkaException):
                consumer.commit(offsets=[Place(*place, offset)], asynchronous=False)
        assert cluster.now < 9.0
        [committed] = consumer.committed([Place(*place)], 10)
        assert committed.offset == 2
        cluster.run_for(10.0)
        injection.require_fired()
        [committed] = consumer.committed([Place(*place)], 10)
        assert committed.offset == 1


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_ahead_deletes_what_is_young() -> None:
    """Retention goes by the broker's own wall clock; the log start of the leader is everybody's."""
    config = {"retention.ms": 600_000, "segment.bytes": 1048576}
    with kafkasim.Cluster(seed=1, config={"log.retention.check.interval.ms": 1000}) as cluster:
        cluster.create_topic("orders", config=config)
        cluster.produce("orders", ["a", "b"])
        cluster.run_for(60.0)
        assert len(cluster.records("orders")) == 2
        cluster.inject(faults.clock_jump("leader:orders-0", by=3600, at=0.0))
        cluster.run_for(60.0)
        assert cluster.records("orders") == []
        assert cluster.check().ok


def test_a_clock_that_jumps_ahead_expires_the_offsets_of_an_empty_group() -> None:
    """Seven days later by the coordinator's clock."""
    with kafkasim.Cluster(seed=1, config={"offsets.retention.check.interval.ms": 1000}) as cluster:
        cluster.create_topic("orders")
        cluster.produce("orders", ["a"])
        config = {"auto.offset.reset": "earliest"}
        consumer = cluster.consumer("billing", ["orders"], config)
        assert consumer.poll(20.0) is not None
        consumer.commit(asynchronous=False)
        consumer.close()

        def committed() -> int:
            reader = cluster.consumer("billing", [], config)
            [place] = reader.committed([Place("orders", 0)], 10)
            reader.close()
            return int(place.offset)

        assert committed() == 1
        cluster.inject(faults.clock_jump("coordinator:billing", by=8 * 24 * 3600, at=0.0))
        cluster.run_for(10.0)
        assert committed() == -1001


def test_a_client_lives_in_the_time_of_its_clock() -> None:
    """Timestamps of records and `time.time()` go with it; it is right again afterwards."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders", config={"message.timestamp.after.max.ms": 10**15})
        stamps: list[tuple[float, int]] = []

        def billing() -> None:
            producer = cluster.producer(linger_ms=0)
            for _ in range(3):
                producer.produce("orders", "x", on_delivery=lambda e, m: stamps.append((time.time(), m.timestamp()[1])))
                producer.flush()
                time.sleep(10.0)

        cluster.spawn(billing)
        cluster.inject(faults.clock_jump("client:billing", by=7200, at=5.0, lasting=10.0))
        cluster.run_for(60.0)
        seconds = [round(stamp_ms / 1000 - stamps[0][1] / 1000) for _read, stamp_ms in stamps]
        assert seconds == [0, 7210, 20]
        assert all(abs(read - stamp_ms / 1000) < 1 for read, stamp_ms in stamps)


def test_a_clock_may_drift() -> None:
    """Twice as fast for ten seconds is ten seconds ahead, then right again."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.inject(faults.clock_drift("broker:1", factor=2.0, at=0.0, lasting=10.0))
        cluster.run_for(9.95)
        assert cluster.process(1).clock_offset_us == pytest.approx(10_000_000, abs=100_000)
        cluster.run_for(1.0)
        assert cluster.process(1).clock_offset_us == 0


# --- clients ---------------------------------------------------------------------------------------------------------


def test_a_killed_client_begins_anew() -> None:
    """Its function runs again from the start, after the down-time, under the same name."""
    with kafkasim.Cluster(seed=1) as cluster:
        begun: list[float] = []

        def worker(step: float) -> None:
            begun.append(round(cluster.now, 3))
            cluster.producer().flush()
            time.sleep(step)

        cluster.spawn(worker, 1000.0, name="worker-1")
        start = cluster.now
        cluster.run_for(1.0)
        injection = cluster.inject(
            faults.plan(faults.kill("client:worker-1", at=1.0, down=4.0), faults.stop("client:worker-1", at=10.0))
        )
        cluster.producer().flush()
        cluster.run_for(20.0)
        assert [str(fired.hit) for fired in injection.fired] == ["('client worker-1',)"] * 2
        assert [round(at - start) for at in begun] == [0, 6]


def test_a_paused_client_stands_still() -> None:
    """Nothing is written for five seconds."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        sent: list[float] = []

        def writer() -> None:
            producer = cluster.producer(linger_ms=0)
            for _ in range(20):
                producer.produce("orders", "x")
                producer.flush()
                sent.append(cluster.now)
                time.sleep(0.5)

        cluster.spawn(writer)
        cluster.inject(faults.pause("client:writer", at=2.0, lasting=5.0))
        cluster.run_for(30.0)
        gaps = [after - before for before, after in itertools.pairwise(sent)]
        assert len(sent) == 20
        assert 4.5 < max(gaps) < 6.0


# --- operators -------------------------------------------------------------------------------------------------------


def _setting(cluster: kafkasim.Cluster, name: str) -> object:
    return cluster._controller_image().topic_config("orders", name)


def test_an_operator_changes_a_setting_and_takes_it_back() -> None:
    """To what it was, or to none of its own."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        settings = {"min.insync.replicas": 1, "retention.ms": 1000}
        cluster.inject(faults.configure("topic:orders", settings, at=1.0, lasting=5.0))
        cluster.run_for(3.0)
        assert (_setting(cluster, "min.insync.replicas"), _setting(cluster, "retention.ms")) == (1, 1000)
        cluster.run_for(10.0)
        assert (_setting(cluster, "min.insync.replicas"), _setting(cluster, "retention.ms")) == (2, 604_800_000)
        told = [dict(e.fields) for e in cluster.history.of(Happened) if e.kind == "operator"]
        assert [fields["error"] for fields in told] == ["NONE", "NONE"]
        cluster.inject(faults.configure("brokers", {"unclean.leader.election.enable": True}, at=0.0))
        cluster.run_for(3.0)
        assert _setting(cluster, "unclean.leader.election.enable") is True


def test_an_operator_moves_partitions_about() -> None:
    """More partitions, other replicas, preferred leaders."""
    with kafkasim.Cluster(brokers=4, seed=1) as cluster:
        cluster.create_topic("orders", 2, replication_factor=2)
        before = [part.replicas for part in cluster.describe_topic("orders")]
        cluster.inject(
            faults.plan(
                faults.add_partitions("topic:orders", 2, at=0.0),
                faults.reassign("topic:orders", at=5.0),
                faults.elect_preferred("topic:orders", at=40.0),
            )
        )
        cluster.run_for(60.0)
        described = cluster.describe_topic("orders")
        assert len(described) == 4
        assert [part.replicas for part in described[:2]] != before
        assert [part.leader for part in described] == [part.replicas[0] for part in described]


def test_an_operator_deletes_records_and_topics() -> None:
    """What was deleted is not lost: a topic of the same name owes nothing of the old one."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders", 2, config={"min.insync.replicas": 2})
        cluster.produce("orders", ["a", "b", "c", "d"])
        cluster.inject(faults.delete_records("topic:orders", at=1.0))
        cluster.run_for(5.0)
        assert cluster.records("orders") == []
        cluster.produce("orders", ["e"])
        injection = cluster.inject(faults.delete_topic("topic:orders", at=1.0, gone=0.001))
        cluster.run_for(10.0)
        injection.require_fired()
        assert [part.log_end_offset for part in cluster.describe_topic("orders")] == [0, 0]
        assert _setting(cluster, "min.insync.replicas") == 2
        cluster.produce("orders", ["f"])
        report = cluster.check()
        assert report.ok, report
        missing = cluster.inject(faults.delete_topic("topic:nowhere", at=0.0))
        cluster.run_for(1.0)
        assert "hit nobody" in str(missing)


def test_the_page_of_faults_names_every_kind() -> None:
    """And every target that is more than a name."""
    page = (Path(__file__).parents[3] / "docs" / "faults.md").read_text()
    assert [kind for kind in faults.KINDS if f"`{kind}`" not in page] == []
