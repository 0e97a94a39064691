"""Wrong use of clients: which exception, which code, which words."""

from __future__ import annotations

import pytest
from tests.conformance.kit import UNREACHABLE


@pytest.mark.parametrize(
    "name", ["a b", "", "..", ".", "a" * 250, "snow☃"], ids=["space", "empty", "dots", "dot", "long", "unicode"]
)
def test_produce_to_an_invalid_topic_name(kit, name):
    """produce() takes any text; the broker refuses, and the report says TOPIC_EXCEPTION at once."""
    error, message = kit.send(name)
    kit.is_error(error, "TOPIC_EXCEPTION", "Broker: Invalid topic")
    assert (message.topic(), message.offset()) == (name, None)
    assert not error.retriable()
    assert message.timestamp() == (kit.ck.TIMESTAMP_NOT_AVAILABLE, -1)


@pytest.mark.parametrize("partition", [1, 7, -2])
def test_produce_to_an_unknown_partition(kit, partition):
    """Known topic, unknown partition: reported by the client itself."""
    error, message = kit.send(kit.topic(), partition=partition)
    kit.is_error(error, "_UNKNOWN_PARTITION", "Local: Unknown partition")
    assert (message.partition(), message.offset()) == (partition, None)


@pytest.mark.parametrize("size", [1_000_000, 1_000_001, 5_000_000])
def test_an_oversize_message_is_refused_at_once(kit, size):
    """message.max.bytes (1,000,000) counts the record's overhead too, so a value of that size is too large."""
    producer = kit.producer()
    with kit.fails("MSG_SIZE_TOO_LARGE", "Unable to produce message: Broker: Message size too large"):
        producer.produce(kit.name("never"), b"x" * size)
    assert len(producer) == 0


def test_a_key_counts_for_the_size(kit):
    """Key and value are measured together."""
    producer = kit.producer(message_max_bytes=1000)
    with kit.fails("MSG_SIZE_TOO_LARGE"):
        producer.produce(kit.name("never"), b"x" * 600, key=b"k" * 600)


def test_a_message_just_below_the_limit_is_taken(kit):
    """A record whose size with overhead stays below the limit is written."""
    error, _ = kit.send(kit.topic(), b"x" * 999_000)
    assert error is None


def test_the_brokers_limit_is_reported(kit):
    """A client that allows more than the broker's message.max.bytes gets the refusal as a report."""
    error, message = kit.send(kit.topic(), b"x" * 1_100_000, producer=kit.producer(message_max_bytes=2_000_000))
    kit.is_error(error, "MSG_SIZE_TOO_LARGE", "Broker: Message size too large")
    assert message.offset() is None


def test_a_topics_limit_is_reported(kit):
    """max.message.bytes of a topic refuses smaller records."""
    topic = kit.topic(max_message_bytes=2000)
    error, _ = kit.send(topic, b"x" * 5000)
    kit.is_error(error, "MSG_SIZE_TOO_LARGE", "Broker: Message size too large")
    error, _ = kit.send(topic, b"x" * 500)
    assert error is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("t", 5), "a bytes-like object is required, not 'int'"),
        (("t", b"v", 5), "a bytes-like object is required, not 'int'"),
        (("t", {"a": 1}), "a bytes-like object is required, not 'dict'"),
        (("t", bytearray(b"x")), "read-only bytes-like object, not bytearray"),
        ((None, b"v"), "argument 1 must be str, not None"),
        ((b"t", b"v"), "argument 1 must be str, not bytes"),
        ((), "function missing required argument 'topic' (pos 1)"),
        (("t", b"v", b"k", "0"), "'str' object cannot be interpreted as an integer"),
    ],
    ids=["int-value", "int-key", "dict-value", "bytearray", "no-topic", "bytes-topic", "nothing", "text-partition"],
)
def test_wrong_arguments_of_produce(kit, arguments, text):
    """Wrong types raise TypeError in produce()."""
    producer = kit.producer()
    with pytest.raises(TypeError) as caught:
        producer.produce(*arguments)
    assert text in str(caught.value)
    assert len(producer) == 0


@pytest.mark.parametrize(("timestamp", "kind"), [(1.5, "float"), ("1", "str")])
def test_a_timestamp_is_an_integer(kit, timestamp, kind):
    """Milliseconds, whole."""
    with pytest.raises(TypeError, match=f"'{kind}' object cannot be interpreted as an integer"):
        kit.producer().produce("t", b"v", timestamp=timestamp)


def test_an_unknown_keyword_of_produce(kit):
    """A keyword that does not exist is named."""
    with pytest.raises(TypeError, match="'foo' is an invalid keyword argument for this function"):
        kit.producer().produce("t", b"v", foo=1)


def test_produce_batch_names_the_wrong_item(kit):
    """A wrong value in a batch is named by its index."""
    with pytest.raises(TypeError, match="Message value at index 1 must be bytes or str"):
        kit.producer().produce_batch("t", [{"value": b"a"}, {"value": 5}])


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.produce("t", b"x"),
        lambda p: p.poll(0),
        lambda p: p.flush(),
        lambda p: p.purge(),
        lambda p: p.init_transactions(1),
        lambda p: p.begin_transaction(),
    ],
    ids=["produce", "poll", "flush", "purge", "init_transactions", "begin_transaction"],
)
def test_a_closed_producer(kit, call):
    """Every call but close() and len() raises RuntimeError."""
    producer = kit.producer()
    producer.close()
    with pytest.raises(RuntimeError, match="Producer has been closed"):
        call(producer)


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_list_topics_of_a_closed_client(kit, kind):
    """list_topics is common to all clients and says it in other words."""
    client = getattr(kit, kind)()
    client.close()
    with pytest.raises(RuntimeError, match="Handle has been closed"):
        client.list_topics(timeout=5)


@pytest.mark.parametrize(
    "call",
    [
        lambda c, at: c.poll(0),
        lambda c, at: c.consume(1, 0),
        lambda c, at: c.subscribe(["t"]),
        lambda c, at: c.unsubscribe(),
        lambda c, at: c.assign([at("t")]),
        lambda c, at: c.unassign(),
        lambda c, at: c.incremental_assign([at("t")]),
        lambda c, at: c.assignment(),
        lambda c, at: c.commit(),
        lambda c, at: c.committed([at("t")]),
        lambda c, at: c.position([at("t")]),
        lambda c, at: c.seek(at("t", 0, 0)),
        lambda c, at: c.pause([]),
        lambda c, at: c.resume([]),
        lambda c, at: c.store_offsets(offsets=[]),
        lambda c, at: c.get_watermark_offsets(at("t")),
        lambda c, at: c.offsets_for_times([]),
        lambda c, at: c.memberid(),
        lambda c, at: c.consumer_group_metadata(),
    ],
    ids=[
        "poll", "consume", "subscribe", "unsubscribe", "assign", "unassign", "incremental_assign", "assignment", "commit",
        "committed", "position", "seek", "pause", "resume", "store_offsets", "get_watermark_offsets", "offsets_for_times",
        "memberid", "consumer_group_metadata",
    ],
)  # fmt: skip
def test_a_closed_consumer(kit, call):
    """Every call but close() raises RuntimeError."""
    consumer = kit.consumer()
    consumer.close()
    with pytest.raises(RuntimeError, match="Consumer closed"):
        call(consumer, kit.at)


def test_a_consumer_may_be_closed_twice(kit):
    """close() of a closed consumer does nothing."""
    consumer = kit.consumer()
    assert consumer.close() is None
    assert consumer.close() is None


@pytest.mark.parametrize(
    ("argument", "text"),
    [("topic", "expected list of topic unicode strings"), (None, "expected list of topic unicode strings")],
)
def test_subscribe_takes_a_list(kit, argument, text):
    """A single name is not a list of names."""
    with pytest.raises(TypeError, match=text):
        kit.consumer().subscribe(argument)


@pytest.mark.parametrize("topics", [[], [""], ["^(a"]], ids=["none", "empty", "bad-pattern"])
def test_a_subscription_that_names_nothing(kit, topics):
    """An empty list, an empty name and a broken regular expression are refused alike."""
    with kit.fails("_INVALID_ARG", "Failed to set subscription: Local: Invalid argument or configuration"):
        kit.consumer().subscribe(topics)


@pytest.mark.parametrize(
    "pattern",
    [
        "^(?!x)a",
        "^(?:a)",
        "^a(?P<x>b)",
        "^a{",
        "^a{2",
        "^a{2,1}",
        "^a{32768}",
        "^*",
        "^{1}",
        "^a|*",
        "^\\1",
        "^[[:foo:]]",
        "^\\",
    ],
)
def test_a_pattern_that_only_python_knows_is_refused(kit, pattern):
    """Patterns are POSIX extended regular expressions."""
    with kit.fails("_INVALID_ARG", "Failed to set subscription: Local: Invalid argument or configuration"):
        kit.consumer().subscribe([pattern])


@pytest.mark.parametrize(
    "pattern", ["^a)", "^a**", "^a+?", "^a|", "^()", "^a{,3}", "^(a)\\1", "^[[:alpha:]]", "^[\\d]", "^\\d"]
)
def test_a_pattern_of_posix_is_taken(kit, pattern):
    """Among them some that Python refuses or reads in another way."""
    assert kit.consumer().subscribe([pattern]) is None


def test_a_backslash_d_in_a_pattern_is_a_d(kit):
    """POSIX knows no \\d: it is the letter."""
    digit, letter = kit.topic(label="p-1"), kit.topic(label="p-d")
    prefix = digit[: digit.index("1")]
    assert letter.startswith(f"{prefix}d")
    consumer = kit.consumer(topics=[rf"^{prefix}\d"])
    kit.wait(lambda: consumer.assignment(), consumer)
    assert [each.topic for each in consumer.assignment()] == [letter]
    consumer.subscribe([f"^{prefix}[0-9]"])
    kit.wait(lambda: [each.topic for each in consumer.assignment()] == [digit], consumer)


@pytest.mark.parametrize("name", ["on_assign", "on_revoke", "on_lost"])
def test_rebalance_callbacks_have_to_be_callable(kit, name):
    """subscribe() checks its callbacks."""
    with pytest.raises(TypeError, match=f"{name} expects a callable"):
        kit.consumer().subscribe(["t"], **{name: 5})


@pytest.mark.parametrize("name", ["plain", "a b"])
def test_a_subscription_to_an_unknown_topic(kit, name):
    """One event names the topic, whether it could exist or not; then the consumer waits for it."""
    topic = kit.name("absent") if name == "plain" else name
    consumer = kit.consumer(topics=[topic])
    event = kit.event(consumer)
    kit.is_error(
        event.error(),
        "UNKNOWN_TOPIC_OR_PART",
        f"Subscribed topic not available: {topic}: Broker: Unknown topic or partition",
    )
    assert (event.topic(), event.partition(), event.offset()) == (topic, 0, None)
    assert consumer.assignment() == []


def test_a_subscribed_topic_that_appears_is_consumed(kit):
    """Once the unknown topic is made, the group picks it up at the next metadata refresh."""
    topic = kit.name("later")
    consumer = kit.consumer(topics=[topic], topic_metadata_refresh_interval_ms=500)
    kit.is_error(kit.event(consumer).error(), "UNKNOWN_TOPIC_OR_PART")
    kit.topic(label="later")
    kit.fill(topic, 1)
    assert kit.values(kit.read(consumer, 1)) == [b"v0"]


@pytest.mark.parametrize(
    ("argument", "text"), [(["t"], "expected cimpl.TopicPartition"), ("t", "requires list of TopicPartition")]
)
def test_assign_takes_topic_partitions(kit, argument, text):
    """Names are not partitions."""
    with pytest.raises(TypeError, match=text):
        kit.consumer().assign(argument)


@pytest.mark.parametrize("client", ["producer", "consumer"])
def test_poll_takes_seconds(kit, client):
    """A timeout is a number."""
    with pytest.raises(TypeError, match="must be real number, not str"):
        getattr(kit, client)().poll("1")


def test_metadata_of_an_unreachable_cluster(kit):
    """list_topics gives up after its timeout with _TRANSPORT."""
    producer = kit.ck.Producer({"bootstrap.servers": UNREACHABLE})
    with kit.fails("_TRANSPORT", "Failed to get metadata: Local: Broker transport failure"):
        producer.list_topics(timeout=0.5)


def test_an_unreachable_cluster_tells_error_cb(kit):
    """error_cb hears of the broker (_TRANSPORT) and of all brokers (_ALL_BROKERS_DOWN)."""
    errors = []
    producer = kit.ck.Producer({"bootstrap.servers": UNREACHABLE, "error_cb": errors.append})

    def heard_of_both():
        producer.poll(0.05)
        return len(errors) >= 2

    kit.wait(heard_of_both, timeout=10)
    assert {error.name() for error in errors} == {"_TRANSPORT", "_ALL_BROKERS_DOWN"}
    (down,) = [error for error in errors if error.name() == "_ALL_BROKERS_DOWN"]
    assert down.str() == "1/1 brokers are down"


def test_committed_of_an_unreachable_cluster(kit):
    """committed() times out in the coordinator's absence."""
    consumer = kit.ck.Consumer({"bootstrap.servers": UNREACHABLE, "group.id": "g"})
    try:
        with kit.fails("_TIMED_OUT"):
            consumer.committed([kit.at("t")], timeout=0.5)
    finally:
        consumer.close()


def test_transactions_need_their_id(kit):
    """Without transactional.id the transactional API is not there."""
    with kit.fails("_NOT_CONFIGURED", "The Transactional API requires transactional.id to be configured"):
        kit.producer().begin_transaction()


def test_a_transaction_needs_its_init(kit):
    """begin_transaction before init_transactions is a wrong state."""
    with kit.fails("_STATE", "Operation not valid in state Init"):
        kit.producer(transactional_id=kit.name("txn")).begin_transaction()


@pytest.mark.parametrize(
    ("code", "name", "text"),
    [
        (3, "UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic or partition"),
        (5, "LEADER_NOT_AVAILABLE", "Broker: Leader not available"),
        (10, "MSG_SIZE_TOO_LARGE", "Broker: Message size too large"),
        (19, "NOT_ENOUGH_REPLICAS", "Broker: Not enough in-sync replicas"),
        (22, "ILLEGAL_GENERATION", "Broker: Specified group generation id is not valid"),
        (25, "UNKNOWN_MEMBER_ID", "Broker: Unknown member"),
        (27, "REBALANCE_IN_PROGRESS", "Broker: Group rebalance in progress"),
        (-185, "_TIMED_OUT", "Local: Timed out"),
        (-191, "_PARTITION_EOF", "Broker: No more messages"),
        (12345, "ERR_12345?", "Err-12345?"),
    ],
)
def test_errors_have_names_and_texts(kit, code, name, text):
    """A KafkaError made from a number knows its name and text; an unknown number says so."""
    error = kit.ck.KafkaError(code)
    assert (error.code(), error.name(), error.str()) == (code, name, text)
    assert str(error) == f'KafkaError{{code={name},val={code},str="{text}"}}'


def test_errors_compare_by_code(kit):
    """Equal to another error with its code, and to the number itself; the text does not count."""
    error = kit.ck.KafkaError(3, "mine")
    assert error.str() == "mine"
    assert error == 3
    assert error == kit.ck.KafkaError(3)
    assert error != kit.ck.KafkaError(4)
    assert hash(error) == hash(kit.ck.KafkaError(3))


def test_a_kafka_exception_holds_its_error(kit):
    """KafkaException is an Exception whose first argument is the KafkaError."""
    with pytest.raises(kit.ck.KafkaException) as caught:
        kit.ck.Producer({"x": 1})
    assert isinstance(caught.value, Exception)
    assert isinstance(caught.value.args[0], kit.ck.KafkaError)
    assert len(caught.value.args) == 1


def test_topic_partitions_compare_by_place(kit):
    """Equality, order and hash look at topic and partition, not at the offset."""
    at = kit.at
    assert at("a", 1, 5) == at("a", 1, 9)
    assert at("a", 1) < at("a", 2) < at("b", 0)
    assert hash(at("a", 1, 5)) == hash(at("a", 1))
    place = kit.ck.TopicPartition("a")
    assert (place.topic, place.partition, place.offset, place.metadata, place.error) == ("a", -1, -1001, None, None)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "missing required argument 'topic'"),
        (("a", "b"), "cannot be interpreted as an integer"),
        ((None, 0), "must be str, not None"),
    ],
)
def test_wrong_topic_partitions(kit, arguments, text):
    """A place needs a text and an integer."""
    with pytest.raises(TypeError, match=text):
        kit.ck.TopicPartition(*arguments)
