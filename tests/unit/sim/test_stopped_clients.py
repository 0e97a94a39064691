"""What becomes of a client whose process is asked to end, and whose work it was."""

from __future__ import annotations

import pytest

import kafkasim
from kafkasim import faults, sinks
from kafkasim.core.model.history import Effected


@pytest.mark.parametrize("on", ["Produce.sent", "Produce.answered"])
def test_a_flush_that_is_stopped_ends_in_order(on: str) -> None:
    """The signal may come as a flush begins, or while it waits: the task ends, and nothing fails."""
    with kafkasim.Cluster(brokers=1, seed=1) as cluster:
        cluster.create_topic("calls")

        def shop() -> None:
            producer = cluster.producer(linger_ms=0)
            while True:
                producer.produce("calls", b"order")
                producer.flush(5)

        task = cluster.spawn(shop)
        injection = cluster.inject(faults.stop(on=on, nth=3))
        cluster.run_for(5.0)
        injection.require_fired()
        assert task.done
        assert cluster.scheduler.failed == []


def test_effects_tell_whose_work_they_were() -> None:
    """Two workers that share a sink are told apart; outside every task it is the sink's own."""
    with kafkasim.Cluster(brokers=1, seed=1) as cluster:
        cluster.create_topic("calls")
        cluster.produce("calls", [b"a"])
        sink = sinks.Sink(cluster, "invoices", group="billing")
        consumer = cluster.consumer("billing", ["calls"], auto_offset_reset="earliest")
        message = consumer.poll(30.0)
        assert message is not None
        for name in ("one", "two"):
            cluster.spawn(sink, message, name=name).result()
        sink(message)
        done = [event.client for event in cluster.history if isinstance(event, Effected) and event.phase == "done"]
        assert done == ["one", "two", "invoices"]
