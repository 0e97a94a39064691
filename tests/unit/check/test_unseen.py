"""Promises to names that the run never saw: told, not passed and not blamed on the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import kafkasim
from kafkasim.check.guarantees import Guarantee
from kafkasim.check.run import check_history
from kafkasim.core.model.history import DONE, Effected
from kafkasim.core.model.ids import TopicPartition
from kafkasim.errors import ConfigurationError


def run(promise: Callable[[kafkasim.Cluster], Any], *, sink_group: str | None = "billing") -> kafkasim.Cluster:
    """A group that works first and commits afterwards, for half a virtual minute."""
    cluster = kafkasim.Cluster(brokers=1, seed=1)
    cluster.create_topic("orders")
    promise(cluster)
    sink = None if sink_group is None else kafkasim.sinks.Sink(cluster, "ledger", group=sink_group)

    def billing() -> None:
        consumer = cluster.consumer(
            "billing", ["orders"], {"auto.offset.reset": "earliest", "enable.auto.commit": False}
        )
        while True:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                if sink is not None:
                    sink(message)
                consumer.commit(message, asynchronous=False)

    cluster.spawn(billing)
    cluster.produce("orders", ["a", "b"])
    cluster.run_for(30.0)
    return cluster


@pytest.mark.parametrize(
    ("promise", "message"),
    [
        ({"group": "biling"}, "no group 'biling': did you mean 'billing'"),
        ({"group": "billing", "topics": "ordrs"}, "no topic 'ordrs': did you mean 'orders'"),
    ],
)
def test_a_name_that_is_nearly_another_is_refused(promise: dict[str, Any], message: str) -> None:
    """Nothing can break a promise that nobody keeps: it would be ok for ever."""
    cluster = run(lambda cluster: cluster.guarantee(at_least_once=True, **promise))
    with cluster, pytest.raises(ConfigurationError, match=message):
        cluster.check()


def test_what_never_came_up_is_counted() -> None:
    """A group may die before it joins: that breaks nothing, and is no secret."""
    with run(lambda cluster: cluster.guarantee("ml-training", topics="features", at_least_once=True)) as cluster:
        report = cluster.check()
        assert report.ok, report
        assert report.looked_at["promises of groups that were never seen"] == 1
        assert report.looked_at["promises about topics that were never seen"] == 1


@pytest.mark.parametrize(
    ("sink_group", "seen"), [(None, "sinks seen: none at all"), ("biling", "sinks seen: ledger of group biling")]
)
def test_where_no_sink_tells_of_work_the_finding_says_so(sink_group: str | None, seen: str) -> None:
    """A sound program whose test forgot the sink, or gave it another group, is not accused without a word about it."""
    promise = {"at_least_once": True, "topics": "orders"}
    with run(lambda cluster: cluster.guarantee("billing", **promise), sink_group=sink_group) as cluster:
        report = cluster.check()
        assert not report.ok
        assert "no sink of it told of any work" in report.findings[0].text
        assert seen in report.findings[0].text
        assert "no sink" not in report.findings[1].text


def test_a_sink_that_tells_is_not_mentioned() -> None:
    """The sound program is silent."""
    with run(lambda cluster: cluster.guarantee("billing", topics="orders", at_least_once=True)) as cluster:
        report = cluster.check()
        assert report.ok, report
        assert not any("never seen" in what for what in report.looked_at)


def test_a_promise_is_true_or_false() -> None:
    """A word in its place would always be true; names of other tools are told from ours."""
    with pytest.raises(ConfigurationError, match="at_least_once is 'no', expected True or False"):
        Guarantee.of("billing", (), {"at_least_once": "no"})
    with pytest.raises(ConfigurationError, match="effectively_once=True"):
        Guarantee.of("billing", (), {"exactly_once": True})


def test_work_of_clients_that_nobody_recorded_is_no_verdict() -> None:
    """On a real cluster a consumer that was made behind the history's back would pass whatever it did."""
    effect = Effected(1_000, "member", "billing", "ledger", TopicPartition("orders", 0), 0, b"k", DONE)
    with pytest.raises(ConfigurationError, match="its sinks told of work, and the history has nothing of its clients"):
        check_history([effect], {}, guarantees=[Guarantee("billing", ("orders",), at_least_once=True)])
