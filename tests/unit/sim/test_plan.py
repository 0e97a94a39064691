"""Fault plans: what they may say, what they do, and what they tell afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kafkasim
from kafkasim import faults
from kafkasim.errors import ConfigurationError
from kafkasim.faults import Fault, Plan


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"what": "crush", "at_s": 1.0}, "did you mean 'crash'"),
        ({"what": "crash"}, "one trigger"),
        ({"what": "crash", "at_s": 1.0, "on": "Produce.sent"}, "at and on"),
        ({"what": "crash", "target": "leeder:orders-0", "at_s": 1.0}, "did you mean 'leader"),
        ({"what": "crash", "target": "leader:orders", "at_s": 1.0}, "no partition"),
        ({"what": "crash", "target": "leader", "at_s": 1.0}, "no target"),
        ({"what": "crash", "target": "broker:two", "at_s": 1.0}, "a number"),
        ({"what": "crash", "target": "server", "at_s": 1.0}, "needs an event"),
        ({"what": "crash", "on": "Produce.eaten"}, "no event"),
        ({"what": "crash", "on": "Produse.sent"}, "did you mean 'Produce'"),
        ({"what": "crash", "on": "Produce.sent", "nth": 0}, "nth"),
        ({"what": "crash", "at_s": 1.0, "for_s": 0.0}, "more than 0"),
        ({"what": "crash", "when": "isr orders-0 below 2"}, "condition"),
        ({"what": "crash", "when": "live:x < 2"}, "condition"),
        ({"what": "kill", "target": "broker:1", "at_s": 1.0}, "for clients"),
        ({"what": "reset", "at_s": 1.0, "for_s": 2.0}, "over at once"),
        ({"what": "slow", "target": "broker:1", "at_s": 1.0}, "factor or extra"),
        ({"what": "disk_slow", "target": "broker:1", "at_s": 1.0}, "how long a write takes"),
        ({"what": "lose_response", "target": "client", "on": "Produce.sent"}, "Api.answered"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_name(values: dict[str, object], message: str) -> None:
    """When the value is made, before anything runs."""
    with pytest.raises(ConfigurationError, match=message):
        Fault(**values)  # type: ignore[arg-type]


def test_a_plan_prints_a_line_for_each_fault() -> None:
    """What somebody reads in a failing test."""
    plan = faults.plan(
        faults.crash("leader:orders-0", on="Produce.answered", nth=69, down=0.001),
        faults.partition("broker:1", "controller", one_way=True, at=3),
        faults.slow("broker:2", factor=10, when="isr:orders-0 <= 1", lasting=5),
    )
    assert str(plan).splitlines() == [
        "crash leader:orders-0 on Produce.answered #69 for 0.001s",
        "partition broker:1 to controller at 3s",
        "slow broker:2 from others x10 +0s when isr:orders-0 <= 1 for 5s",
    ]
    assert str(Plan()) == "no faults"
    assert plan.without(1) == Plan.of(plan.faults[0], plan.faults[2])


TRIGGERS = st.one_of(
    st.builds(lambda at: {"at_s": at}, st.floats(0, 1e6)),
    st.builds(lambda nth: {"on": "ReplicaFetch.received", "nth": nth}, st.integers(1, 10**6)),
    st.builds(lambda number: {"when": f"behind:a-b-{number} > {number}"}, st.integers(0, 99)),
)
FAULTS = st.builds(
    lambda what, target, trigger, for_s, one_way, then: Fault(
        what, target, for_s=for_s, one_way=one_way and what in ("partition", "hold"), then=then, **trigger
    ),
    st.sampled_from(["crash", "power_loss", "shutdown", "pause", "isolate", "partition", "hold"]),
    st.sampled_from(["any", "broker:3", "zone:a b", "leader:orders-0", "controller", "coordinator:billing"]),
    TRIGGERS,
    st.none() | st.floats(1e-6, 1e5),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(FAULTS, max_size=4).map(lambda listed: Plan(tuple(listed))))
def test_a_plan_is_the_same_after_toml_and_json(plan: Plan) -> None:
    """To the last digit."""
    assert faults.plan_from_toml(faults.plan_to_toml(plan)) == plan
    assert faults.plan_from_json(faults.plan_to_json(plan)) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("faults = 3", "list of faults"),
        ("[[faults]]\nwhat = 'crash'\nat = 'soon'", "soon"),
        ("[[faults]]\nwhat = 'crash'\nat = 1\nwhy = 'x'", "why"),
        ("[[faults]]\nat = 1", "`what` is missing"),
        ("[[faults]]\nwhat = 'crash'\non = 'Produce.sent'\nnth = true", "whole number"),
        ("other = 1\n[[faults]]\nwhat = 'crash'\nat = 1", "other"),
        ("[[faults", "no TOML"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_by_name(text: str, message: str) -> None:
    """A clear error, never a traceback from inside."""
    with pytest.raises(ConfigurationError, match=message):
        faults.plan_from_toml(text)


# --- at work ---------------------------------------------------------------------------------------------------------


def test_the_leader_dies_before_its_answer_leaves() -> None:
    """The third acknowledgement is never given; the record is in the log, and is there once thanks to idempotence."""
    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        injection = cluster.inject(faults.crash("server", on="Produce.answered", nth=3, down=20.0))
        producer = cluster.producer({"acks": "all", "enable.idempotence": True, "linger.ms": 0})
        for number in range(5):
            producer.produce("orders", str(number).encode())
            producer.flush()
        injection.require_fired()
        assert [record.value for record in cluster.records("orders")] == [b"0", b"1", b"2", b"3", b"4"]
        assert cluster.check().ok


def test_a_lost_response_without_idempotence_makes_a_duplicate() -> None:
    """The request was done, and its sender does it again."""
    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("orders")
        injection = cluster.inject(faults.lose_response("Produce.answered", nth=2))
        producer = cluster.producer({"acks": "all", "linger.ms": 0})
        for number in range(3):
            producer.produce("orders", str(number).encode())
            producer.flush()
        injection.require_fired()
        assert [record.value for record in cluster.records("orders")] == [b"0", b"1", b"1", b"2"]


def test_a_fault_is_undone_after_its_time() -> None:
    """Crash at one second, back five seconds later; the plan tells whom it hit."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        injection = cluster.inject(faults.crash("broker:2", at=1.0, down=5.0))
        cluster.run_for(2.0)
        assert cluster.broker(2).state == "crashed"
        cluster.run_for(30.0)
        assert cluster.broker(2).state == "running"
        assert [fired.hit for fired in injection.fired] == [("broker 2",)]
        assert str(injection).endswith("crash broker:2 at 1s for 5s hit broker 2")


def test_a_fault_waits_for_the_one_before_it() -> None:
    """Its seconds and occurrences count from there; without the first nothing comes of the second."""
    plan = faults.plan(
        faults.crash("broker:2", at=2.0, down=1.0),
        faults.pause("broker:3", at=0.5, then=True, lasting=1.0),
        faults.lose_response("Produce.answered", nth=1),
        faults.crash("broker:1", on="Produce.answered", nth=2, then=True),
    )
    assert str(plan).splitlines()[1] == "then pause broker:3 after 0.5s for 1s"
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        injection = cluster.inject(plan)
        cluster.run_for(4.0)
        assert [(fired.at_s, fired.hit) for fired in injection.fired] == [
            (pytest.approx(cluster.now - 2.0), ("broker 2",)),
            (pytest.approx(cluster.now - 1.5), ("broker 3",)),
        ]
        cluster.run_for(10.0)
        cluster.produce("orders", [b"0"])
        assert len(injection.fired) == 3, "the response that was lost, and the first answer after it"
        injection.heal()
        cluster.produce("orders", [b"1", b"2"])
        assert [fault.target for fault in injection.unfired] == ["broker:1"]


def test_disks_are_harmed_and_healed_by_plan() -> None:
    """A full disk ends its broker, which is started when there is space again; a slow one is well after its time."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        plan = faults.plan(
            faults.disk_full("broker:2", at=1.0, down=5.0), faults.disk_slow("broker:3", at=1.0, extra=0.1, lasting=3.0)
        )
        assert str(plan).splitlines()[1] == "disk_slow broker:3 +0.1s at 1s for 3s"
        injection = cluster.inject(plan)
        cluster.run_for(2.0)
        assert (cluster.broker(2).state, cluster.broker(3).disk.state) == ("crashed", "slow")
        cluster.run_for(30.0)
        assert (cluster.broker(2).state, cluster.broker(2).disk.state) == ("running", "healthy")
        assert cluster.broker(3).disk.state == "healthy"
        assert [fired.hit for fired in injection.fired] == [("broker 2",), ("broker 3",)]


def test_a_condition_triggers_when_it_comes_true() -> None:
    """When one replica is out of sync, the controller goes too."""
    with kafkasim.Cluster(seed=1, brokers=3, controllers=3) as cluster:
        cluster.create_topic("orders")
        injection = cluster.inject(
            faults.plan(
                faults.crash("follower:orders-0", at=1.0),
                faults.pause("controller", when="isr:orders-0 <= 2", lasting=3.0),
            )
        )
        cluster.run_for(60.0)
        injection.require_fired()
        assert injection.fired[1].at_s > injection.fired[0].at_s


def test_a_lagging_replica_is_one_that_runs_and_is_not_in_sync() -> None:
    """Nobody while all are in sync; who was paused for too long, afterwards."""
    config = {"replica.lag.time.max.ms": 1000, "broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}
    with kafkasim.Cluster(seed=1, controllers=1, config=config) as cluster:
        cluster.create_topic("orders")
        last = cluster.describe_topic("orders")[0].replicas[-1]
        plan = faults.plan(
            faults.reset("lagging:orders-0", at=0.5),
            faults.pause(f"broker:{last}", at=1.0, lasting=10.0),
            faults.power_loss("lagging:orders-0", when="isr:orders-0 <= 2", then=True),
        )
        injection = cluster.inject(plan)
        for number in range(20):
            cluster.produce("orders", [str(number)])
            cluster.run_for(0.2)
        assert [fired.hit for fired in injection.fired] == [(), (f"broker {last}",), (f"broker {last}",)]
        assert cluster.broker(last).state == "off"


def test_what_never_fires_is_told() -> None:
    """A test of a fault that never comes would test nothing."""
    with kafkasim.Cluster(seed=1) as cluster:
        injection = cluster.inject(faults.crash(on="AlterPartition.sent", nth=99))
        cluster.run_for(5.0)
        assert [fault.nth for fault in injection.unfired] == [99]
        assert "never: crash any on AlterPartition.sent #99" in str(injection)
        with pytest.raises(AssertionError, match="AlterPartition"):
            injection.require_fired()


def test_nobody_watches_once_all_has_come() -> None:
    """The wire is watched while a fault waits for something on it, whether it came alone or waited for the one before it."""
    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("orders")
        plan = Plan((faults.lose_response("Produce.answered"), faults.lose_response("Produce.answered", then=True)))
        injection = cluster.inject(plan)
        producer = cluster.producer({"linger.ms": 0})
        assert cluster.fabric.watched == {"answered"}
        producer.produce("orders", b"x")
        producer.flush()
        injection.require_fired()
        assert not cluster.fabric.watched
        seen: list[str] = []
        cluster.injections.listen(lambda stage, requester, server, request: seen.append(stage))
        producer.produce("orders", b"x")
        producer.flush()
        assert {"sent", "received", "answered", "arrived"} <= set(seen)


def test_a_client_is_killed_at_its_own_message() -> None:
    """The consumer that sends the second commit dies of it; its host goes with it."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        cluster.produce("orders", [b"a", b"b", b"c"])

        def work() -> None:
            consumer = cluster.consumer("billing", ["orders"], {"auto.offset.reset": "earliest"})
            while True:
                message = consumer.poll(1.0)
                if message is not None and message.error() is None:
                    consumer.commit(message, asynchronous=False)

        injection = cluster.inject(faults.kill("client", on="OffsetCommit.sent", nth=2))
        task = cluster.spawn(work, name="billing-1")
        cluster.run_for(30.0)
        assert task.done
        assert injection.fired[0].hit == ("client billing-1",)


def test_heal_undoes_what_is_still_broken() -> None:
    """A partition without an end, and a paused broker."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders", config={"min.insync.replicas": 2})
        plan = faults.plan(faults.isolate("broker:1", at=0.5), faults.pause("broker:2", at=0.5))
        injection = cluster.inject(plan)
        cluster.run_for(20.0)
        injection.heal()
        cluster.run_for(30.0)
        assert cluster.broker(2).state == "running"
        assert len(cluster.describe_topic("orders")[0].isr) == 3


def test_a_broker_that_is_not_there_is_refused() -> None:
    """Before anything is armed."""
    with kafkasim.Cluster(seed=1) as cluster, pytest.raises(ConfigurationError, match="no broker 9"):
        cluster.inject(faults.crash("broker:9", at=1.0))


def test_the_same_seed_and_plan_give_the_same_run() -> None:
    """Down to the fingerprint."""

    def run() -> str:
        with kafkasim.Cluster(seed=5) as cluster:
            cluster.create_topic("orders")
            cluster.inject(
                faults.plan(
                    faults.crash(on="ReplicaFetch.received", nth=20, down=3.0), faults.pause(at=2.0, lasting=9.0)
                )
            )
            cluster.produce("orders", [b"x"] * 20)
            cluster.run_for(40.0)
            return cluster.fingerprint()

    assert run() == run()


def test_a_killed_client_runs_again_after_its_time() -> None:
    """On a host of its own, with the arguments that it was spawned with; without a time it stays dead, also after a heal."""
    lives: list[tuple[str, float]] = []

    def loop(cluster: kafkasim.Cluster, who: str) -> None:
        lives.append((who, cluster.now))
        consumer = cluster.consumer(who, ["orders"])
        while True:
            consumer.poll(1.0)

    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("orders")
        begin = cluster.now
        cluster.spawn(loop, cluster, "a", name="a-1")
        cluster.spawn(loop, cluster, "b", name="b-1")
        killed = cluster.inject(faults.kill("client:a-1", at=2.0, down=3.0))
        gone = cluster.inject(faults.kill("client:b-1", at=2.0))
        cluster.run_for(10.0)
        killed.heal()
        gone.heal()
        cluster.run_for(1.0)
        assert [(who, round(at - begin, 3)) for who, at in lives] == [("a", 0.0), ("b", 0.0), ("a", 5.0)]


def test_an_orderly_stop_that_takes_longer_than_its_fault_ends_with_a_running_process() -> None:
    """It is started when it has ended; a heal does not wait for it."""
    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("orders")
        injection = cluster.inject(
            faults.plan(*(faults.shutdown(f"broker:{broker}", at=1.0, down=0.001) for broker in (1, 2, 3)))
        )
        cluster.run_for(1.1)
        assert any(cluster.broker(broker).state == "stopping" for broker in (1, 2, 3))
        cluster.run_for(60.0)
        injection.heal()
        cluster.run_for(1.0)
        assert [cluster.broker(broker).state for broker in (1, 2, 3)] == ["running"] * 3


def test_only_clients_in_tasks_are_counted_where_one_is_to_be_killed() -> None:
    """Neither the handle's own client nor one of plain code can die."""
    with kafkasim.Cluster(seed=3) as cluster:
        injection = cluster.inject(
            faults.plan(faults.kill("client", on="CreateTopics.sent"), faults.kill("client", on="Produce.arrived"))
        )
        cluster.create_topic("orders")
        cluster.produce("orders", ["1"])
        assert len(injection.unfired) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: faults.crash("broker:1", at="5s"), "`at` is '5s', expected a number"),
        (lambda: faults.crash("broker:1", at=float("nan")), "`at` is nan, expected a number"),
        (lambda: faults.crash("broker:1", at=1, down="5s"), "`for` is '5s', expected a number"),
        (lambda: faults.crash("broker:1", on="Produce.answered", nth=1.5), "`nth` is 1.5, expected a whole number"),
        (lambda: faults.crash(1, at=1), "a broker is 'broker:1'"),
        (lambda: faults.configure("topic:t", "min.insync.replicas=1", at=1), "expected a mapping"),
        (lambda: faults.plan("crash"), "'crash' is no fault and no plan"),
        (lambda: faults.plan(["crash"]), "'crash' is no fault"),
        (lambda: faults.plan(None), "None is no fault and no plan"),
    ],
)
def test_values_of_other_types_are_refused_by_name(make: Callable[[], object], message: str) -> None:
    """With the field, the value and what was expected; not from deep inside."""
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_two_faults_add_up() -> None:
    """As plans do."""
    first, second = faults.crash("broker:1", at=1), faults.pause("broker:2", at=2)
    assert first + second == faults.plan(first, second)


def test_a_fault_that_hit_nobody_is_told() -> None:
    """Its moment came, and its target was not there: a test of it tests nothing, either."""
    with kafkasim.Cluster() as cluster:
        injection = cluster.inject(faults.kill("client:biling-1", at=1.0))
        cluster.run_for(2.0)
        assert injection.unfired == []
        with pytest.raises(AssertionError, match=r"found nobody to hit:\n.*kill client:biling-1 at 1s"):
            injection.require_fired()
