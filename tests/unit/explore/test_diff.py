"""One plan run twice with one thing changed."""

from __future__ import annotations

from kafkasim import faults
from kafkasim.core.model.history import Happened
from kafkasim.explore.diff import diff
from kafkasim.explore.telling import event_text
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster


def _prepare(cluster: Cluster) -> None:
    cluster.create_topic("orders", replication_factor=3, config={"min.insync.replicas": 2})


def _body(acks: str) -> Scenario:
    def body(cluster: Cluster) -> None:
        producer = cluster.producer(acks=acks, linger_ms=0, message_timeout_ms=60_000)
        for number in range(6):
            producer.produce("orders", str(number))
            producer.flush(10.0)

    return Scenario(f"acks={acks}", body, _prepare, partitions=("orders-0",))


def test_the_same_run_twice_is_the_same() -> None:
    """Nothing changed: no event differs, and the text says so."""
    difference = diff(_body("all"), 3, faults.crash("leader:orders-0", on="Produce.answered", nth=2, down=5.0))
    assert difference.first is None
    assert not difference.changes_verdict
    assert "the same in all" in str(difference)


def test_runs_part_where_the_change_matters() -> None:
    """Another session timeout: the same until the crashed broker is fenced, earlier on one side."""
    plan = faults.crash("leader:orders-0", on="Produce.answered", nth=2, down=60.0)
    difference = diff(_body("all"), 3, plan, config={"broker.session.timeout.ms": 4000})
    assert difference.first is not None
    before = difference.left.events[: difference.first]
    assert any(isinstance(event, Happened) and event.kind == "crash" for event in before)
    text = str(difference)
    assert "broker.session.timeout.ms=4000:  " in text
    assert "verdict" in text


def test_a_change_that_decides_the_verdict() -> None:
    """acks=1 loses what acks=all keeps: both outcomes stand side by side."""

    def promised(scenario: Scenario) -> Scenario:
        def prepare(cluster: Cluster) -> None:
            _prepare(cluster)
            cluster.guarantee(topics="orders", no_loss=True)

        return Scenario(scenario.name, scenario.body, prepare, partitions=scenario.partitions)

    plan = faults.plan(
        faults.hold("leader:orders-0", on="Produce.received", nth=3, lasting=30.0),
        faults.power_loss("leader:orders-0", on="Produce.arrived", nth=3, down=60.0),
    )
    difference = diff(promised(_body("all")), 3, plan, other=promised(_body("1")))
    assert difference.left.trial.ok
    assert not difference.right.trial.ok
    assert difference.changes_verdict
    assert "acked-loss" in str(difference)


def test_an_event_is_one_line() -> None:
    """Long ones are cut, so that a screen holds them."""
    event = Happened(1_500_000, 2, "metadata-committed", 2, (("batches", tuple(range(200))),))
    text = event_text(event)
    assert text.startswith("1.500000 s  node 2: metadata-committed batches=[0,1,")
    assert len(text) <= 160
