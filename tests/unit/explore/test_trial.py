"""A trial: a scenario, a seed and a plan, run to its verdict."""

from __future__ import annotations

from kafkasim import faults
from kafkasim.explore.trial import RAISED, Scenario, run_trial
from kafkasim.handle import Cluster


def _prepare(cluster: Cluster) -> None:
    cluster.create_topic("orders", partitions=1, replication_factor=3, config={"min.insync.replicas": 2})


def _body(cluster: Cluster) -> None:
    producer = cluster.producer(acks="1", linger_ms=0)
    for number in range(5):
        producer.produce("orders", str(number))
        producer.flush(5.0)


_SCENARIO = Scenario("five records", _body, _prepare, partitions=("orders-0",))


def test_a_sound_run_breaks_nothing_and_is_the_same_again() -> None:
    """Same scenario, seed and plan: same fingerprint, same verdict."""
    plan = faults.crash("leader:orders-0", on="Produce.answered", nth=2, down=5.0)
    first, second = run_trial(_SCENARIO, 7, plan), run_trial(_SCENARIO, 7, plan)
    assert first.ok
    assert [fired.fault for fired in first.fired] == [plan]
    assert first.fingerprint == second.fingerprint
    assert run_trial(_SCENARIO, 8, plan).fingerprint != first.fingerprint


def test_events_are_counted_from_the_end_of_the_preparation() -> None:
    """A fault of the first CreateTopics does not see those of `prepare`."""
    trial = run_trial(_SCENARIO, 1, faults.crash("any", on="CreateTopics.received"))
    assert trial.fired == ()
    assert len(trial.unfired) == 1


def test_code_that_raises_is_a_finding_and_not_a_crash() -> None:
    """What the body raises is kept in the trial, before any other finding."""

    def broken(cluster: Cluster) -> None:
        raise RuntimeError("no room for order 7")

    trial = run_trial(Scenario("broken", broken), 1)
    assert not trial.ok
    assert trial.broken == (RAISED,)
    assert "no room for order 7" in str(trial.findings[0])


def test_protections_are_switched_without_touching_the_rest() -> None:
    """`with_features` adds to what the scenario already takes away."""
    scenario = Scenario("x", _body, options={"brokers": 3, "features": {"elr": False}})
    assert scenario.with_features({"epoch_truncation": False}).options == {
        "brokers": 3,
        "features": {"elr": False, "epoch_truncation": False},
    }
