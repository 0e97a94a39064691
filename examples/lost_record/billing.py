"""A consumer that looks right, and the scenario that shows it is not (docs/explore.md).

kafkasim explore examples/lost_record/billing.py:commits_first --seeds 20
"""

import kafkasim
from kafkasim.confluent_kafka import KafkaException


def billing(cluster, write_invoice, commits_first):
    """The program under test: it takes calls, writes an invoice for each, and commits by hand."""
    consumer = cluster.consumer("billing", ["calls"], {"enable.auto.commit": False, "auto.offset.reset": "earliest"})
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error() is not None:
            continue
        if commits_first:
            commit(consumer, message)
        cluster.run_for(0.2)  # the invoice service takes its time
        write_invoice(message)
        kafkasim.sometimes("an invoice was written")
        if not commits_first:
            commit(consumer, message)


def commit(consumer, message):
    """Synchronously; a commit that is refused is made up for by the next one."""
    try:
        consumer.commit(message, asynchronous=False)
    except KafkaException:
        kafkasim.sometimes("a commit was refused")


def commits_first(cluster, calls=40):
    """What is in the world, what runs in it, what was promised. ``calls`` is a size: shrinking makes it smaller."""
    run(cluster, calls, commits_first=True)


def works_first(cluster, calls=40):
    """The repair: work first, commit afterwards."""
    run(cluster, calls, commits_first=False)


def run(cluster, calls, commits_first):
    cluster.create_topic("calls", config={"min.insync.replicas": 2})
    invoices = kafkasim.sinks.Sink(cluster, "invoices", group="billing")
    cluster.guarantee("billing", topics="calls", at_least_once=True)
    cluster.spawn(billing, cluster, invoices, commits_first, name="billing-1")
    producer = cluster.producer({"acks": "all", "enable.idempotence": True})
    for number in range(calls):
        producer.produce("calls", f"call-{number}")
    producer.flush()
    cluster.run_for(60.0 + calls / 4)
