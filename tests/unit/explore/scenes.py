"""Scenarios that tests explore, by names that worker processes can import."""

from __future__ import annotations

import os

import kafkasim
from kafkasim.explore.trial import Scenario

#: A member that died is missed soon, so that short runs see who takes over.
_CONFIG = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 1000,
}


def _bill(cluster, write, commits_first):
    consumer = cluster.consumer("billing", ["calls"], _CONFIG)
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error() is not None:
            continue
        if commits_first:
            _commit(consumer, message)
        cluster.run_for(0.05)
        write(message)
        kafkasim.sometimes("a call was billed")
        if not commits_first:
            _commit(consumer, message)


def _commit(consumer, message):
    """A commit that fails comes with the next message again."""
    from kafkasim.confluent_kafka import KafkaException

    try:
        consumer.commit(message, asynchronous=False)
    except KafkaException:
        kafkasim.sometimes("a commit was refused")


def _run(cluster, calls, commits_first):
    invoices = kafkasim.sinks.Sink(cluster, "invoices", group="billing")
    cluster.guarantee("billing", topics="calls", at_least_once=True)
    cluster.spawn(_bill, cluster, invoices, commits_first, name="billing-1")
    cluster.produce("calls", [f"call-{number}" for number in range(calls)])
    cluster.run_for(20.0 + calls / 10)
    kafkasim.sometimes("the moon is full", False)


def prepare(cluster):
    cluster.create_topic("calls", config={"min.insync.replicas": 2})


def commits_first(cluster, calls=12):
    """Loses a call when it dies between commit and work."""
    prepare(cluster)
    _run(cluster, calls, True)


def works_first():
    """Loses nothing."""
    return Scenario("works first", _works_first, prepare, sizes={"calls": 12})


def _works_first(cluster, calls):
    _run(cluster, calls, False)


sound = works_first()


def raises(cluster):
    raise RuntimeError("the printer is out of paper")


def takes_its_process_down(cluster):
    """Once in a worker, whatever the seed: a bug in native code, say."""
    if "KAFKASIM_TEST_PARENT" in os.environ and os.environ["KAFKASIM_TEST_PARENT"] != str(os.getpid()):
        os._exit(3)


def needs_more(cluster, records):
    """Not a scenario: what is `records`?"""


not_callable = 3
