"""ShareConsumer as an application meets it: records, acknowledgements, commits, callbacks, misuse."""

from __future__ import annotations

import pytest
from tests.conformance.shares import QUICK_SHARES, Shares, counts, outcomes

pytestmark = pytest.mark.kafka(brokers=3, config=QUICK_SHARES)


@pytest.fixture
def shares(kit):
    return Shares(kit)


def test_accepted_records_do_not_come_again(kit, shares):
    """Explicit mode: accepted and committed records are done with; the result names the partition."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 3)
    consumer = shares.consumer(group, topic)
    messages = shares.poll(consumer)
    assert counts(messages) == {0: 1, 1: 1, 2: 1}
    assert kit.values(messages) == [b"v0", b"v1", b"v2"]
    shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
    result = consumer.commit_sync()
    assert outcomes(result) == [(0, None)]
    (partition,) = result
    assert (partition.topic, partition.offset) == (topic, 0)
    shares.nothing(consumer)
    assert consumer.commit_sync() == {}


def test_released_records_come_again_and_rejected_do_not(kit, shares):
    """One delivery more for what was released, none for what was rejected."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 4)
    consumer = shares.consumer(group, topic)
    kinds = kit.ck.AcknowledgeType
    for message, kind in zip(
        shares.poll(consumer), [kinds.ACCEPT, kinds.RELEASE, kinds.REJECT, kinds.RELEASE], strict=True
    ):
        consumer.acknowledge(message, kind)
    assert outcomes(consumer.commit_sync()) == [(0, None)]
    again = shares.poll(consumer)
    assert counts(again) == {1: 2, 3: 2}
    shares.acknowledge(consumer, again, kinds.ACCEPT)
    consumer.commit_sync()
    shares.nothing(consumer)


def test_unacknowledged_records_forbid_the_next_poll(kit, shares):
    """Explicit mode counts what is missing."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 3)
    consumer = shares.consumer(group, topic)
    messages = shares.poll(consumer)
    consumer.acknowledge(messages[0])
    with pytest.raises(kit.ck.IllegalStateException, match="2 records from previous poll have not been acknowledged"):
        consumer.poll(0.1)
    shares.acknowledge(consumer, messages[1:], kit.ck.AcknowledgeType.ACCEPT)
    assert list(consumer.poll(0.5)) == []


def test_the_last_word_counts(kit, shares):
    """An acknowledgement may be changed until it is sent, and not afterwards."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 1)
    consumer = shares.consumer(group, topic)
    (message,) = shares.poll(consumer)
    for kind in (kit.ck.AcknowledgeType.REJECT, kit.ck.AcknowledgeType.RELEASE):
        consumer.acknowledge(message, kind)
    consumer.commit_sync()
    with pytest.raises(kit.ck.IllegalStateException, match="Erroneous state"):
        consumer.acknowledge(message)
    again = shares.poll(consumer)
    assert counts(again) == {0: 2}
    shares.acknowledge(consumer, again, kit.ck.AcknowledgeType.ACCEPT)


def test_implicit_mode_accepts_at_the_next_poll(kit, shares):
    """What a poll returned is accepted by the next one; acknowledging by hand is refused."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 2)
    consumer = shares.consumer(group, topic, mode="implicit")
    messages = shares.poll(consumer)
    with pytest.raises(kit.ck.IllegalStateException, match="Failed to acknowledge message: Local: Erroneous state"):
        consumer.acknowledge(messages[0])
    with pytest.raises(kit.ck.IllegalStateException, match="Failed to acknowledge offset: Local: Erroneous state"):
        consumer.acknowledge_offset(topic, 0, 0)
    shares.nothing(consumer, 1.0)
    consumer.close()
    other = shares.consumer(group, topic)
    shares.nothing(other, 3.0)


def test_implicit_mode_commits(kit, shares):
    """commit_sync accepts what the last poll returned."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 2)
    consumer = shares.consumer(group, topic, mode="implicit")
    assert len(shares.poll(consumer)) == 2
    assert outcomes(consumer.commit_sync()) == [(0, None)]
    assert consumer.commit_sync() == {}


def test_implicit_close_gives_the_last_poll_back(kit, shares):
    """close() does not accept: the records come to the next member, once more delivered."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 2)
    first = shares.consumer(group, topic, mode="implicit")
    assert counts(shares.poll(first)) == {0: 1, 1: 1}
    first.close()
    second = shares.consumer(group, topic)
    again = shares.poll(second)
    assert counts(again) == {0: 2, 1: 2}
    shares.acknowledge(second, again, kit.ck.AcknowledgeType.ACCEPT)


def test_explicit_close_sends_what_was_acknowledged(kit, shares):
    """Accepted stays accepted; released and untouched records come to the next member."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 4)
    first = shares.consumer(group, topic)
    messages = shares.poll(first)
    first.acknowledge(messages[0])
    first.acknowledge(messages[1], kit.ck.AcknowledgeType.RELEASE)
    first.close()
    second = shares.consumer(group, topic)
    again = shares.poll(second)
    assert counts(again) == {1: 2, 2: 2, 3: 2}
    shares.acknowledge(second, again, kit.ck.AcknowledgeType.ACCEPT)


def test_acknowledge_offset(kit, shares):
    """By numbers instead of by message; what was not delivered cannot be acknowledged."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 2)
    consumer = shares.consumer(group, topic)
    shares.poll(consumer)
    for arguments in ((topic, 0, 7), (topic, 3, 0), ("other", 0, 0)):
        with pytest.raises(kit.ck.IllegalStateException, match="Failed to acknowledge offset: Local: Erroneous state"):
            consumer.acknowledge_offset(*arguments)
    consumer.acknowledge_offset(topic, 0, 0)
    consumer.acknowledge_offset(topic, 0, 1, kit.ck.AcknowledgeType.REJECT)
    assert outcomes(consumer.commit_sync()) == [(0, None)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("topic", -1, 0), ValueError),
        (("topic", 0, -1), ValueError),
        (("topic", 0, 0, 4), ValueError),
        (("topic", 0, 0, 0), ValueError),
        (("topic", 0, 0, "x"), TypeError),
        ((None, 0, 0), TypeError),
    ],
)
def test_acknowledge_offset_refuses_nonsense(kit, shares, arguments, error):
    """Negative numbers and unknown types are invalid arguments, other Python types are type errors."""
    consumer = shares.consumer(kit.group())
    with pytest.raises(error) as caught:
        consumer.acknowledge_offset(*arguments)
    if error is ValueError:
        assert str(caught.value) == "Failed to acknowledge offset: Local: Invalid argument or configuration"


def test_acknowledge_wants_a_message(kit, shares):
    """Anything else is a type error that names both types."""
    consumer = shares.consumer(kit.group())
    with pytest.raises(TypeError, match=r"argument 1 must be confluent_kafka\.cimpl\.Message, not str"):
        consumer.acknowledge("not a message")


def test_commit_callback(kit, shares):
    """It gets offsets by partition and no exception, in a later call than commit_async."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 3)
    consumer = shares.consumer(group, topic)
    told = []
    consumer.set_acknowledgement_commit_callback(lambda offsets, error: told.append((offsets, error)))
    messages = shares.poll(consumer)
    shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
    assert consumer.commit_async() is None
    assert told == []
    deadline = kit.cluster.now + 10
    while not told and kit.cluster.now < deadline:
        consumer.poll(0.3)
    ((offsets, error),) = told
    assert error is None
    ((partition, acknowledged),) = offsets.items()
    assert (partition.topic, partition.partition, acknowledged) == (topic, 0, {0, 1, 2})


def test_the_callback_may_not_call_back(kit, shares):
    """Every method is closed to it."""
    topic, group = kit.topic(), shares.group()
    kit.fill(topic, 1)
    consumer = shares.consumer(group, topic, mode="implicit")
    caught = []

    def callback(offsets, error):
        for call in (lambda: consumer.poll(0), consumer.commit_async, lambda: consumer.commit_sync(1)):
            try:
                call()
            except Exception as refused:
                caught.append((type(refused).__name__, str(refused)))

    consumer.set_acknowledgement_commit_callback(callback)
    shares.poll(consumer)
    consumer.commit_sync()
    text = "Share consumer methods are not accessible from user-defined acknowledgement commit callback"
    assert caught == [("IllegalStateException", text)] * 3


def test_callback_must_be_callable(kit, shares):
    """None takes it away again."""
    consumer = shares.consumer(kit.group())
    with pytest.raises(TypeError, match="callback must be callable or None"):
        consumer.set_acknowledgement_commit_callback(3)
    consumer.set_acknowledgement_commit_callback(None)


def test_a_closed_consumer_refuses_everything(kit, shares):
    """In one sentence; closing twice is fine."""
    consumer = shares.consumer(kit.group())
    consumer.close()
    consumer.close()
    calls = (
        lambda: consumer.poll(0),
        consumer.commit_sync,
        consumer.commit_async,
        consumer.subscription,
        consumer.unsubscribe,
        lambda: consumer.subscribe(["x"]),
        lambda: consumer.acknowledge_offset("x", 0, 0),
    )
    for call in calls:
        with pytest.raises(kit.ck.IllegalStateException, match="Share consumer closed"):
            call()


def test_subscription(kit, shares):
    """It replaces; an empty list and unsubscribe() take it away; nonsense is refused and changes nothing."""
    topic = kit.topic()
    consumer = shares.consumer(kit.group())
    with pytest.raises(kit.ck.IllegalStateException, match="Consumer is not subscribed to any topics"):
        consumer.poll(0.1)
    consumer.subscribe([topic])
    for wrong, error in (([topic, topic], ValueError), ([""], ValueError), ("abc", TypeError)):
        with pytest.raises(error):
            consumer.subscribe(wrong)
    assert consumer.subscription() == [topic]
    consumer.subscribe([])
    assert consumer.subscription() == []
    consumer.subscribe([topic])
    consumer.unsubscribe()
    with pytest.raises(kit.ck.IllegalStateException, match="Consumer is not subscribed to any topics"):
        consumer.poll(0.1)


def test_another_subscription_keeps_what_is_held(kit, shares):
    """Records of a topic that is not subscribed to any more can still be acknowledged."""
    one, two, group = kit.topic(), kit.topic(label="two"), shares.group()
    kit.fill(one, 1)
    kit.fill(two, 1)
    consumer = shares.consumer(group, one)
    messages = shares.poll(consumer)
    consumer.subscribe([two])
    shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
    assert outcomes(consumer.commit_sync()) == [(0, None)]
    assert [message.topic() for message in shares.read(consumer, 1)] == [two]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable.auto.commit", True),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
        ("group.protocol", "consumer"),
        ("group.instance.id", "i"),
        ("partition.assignment.strategy", "range"),
        ("enable.partition.eof", True),
        ("queued.min.messages", 10),
        ("group.remote.assignor", "uniform"),
    ],
)
def test_configs_that_do_not_apply(kit, name, value):
    """A consumer's properties that a share group has no use for are refused."""
    with pytest.raises(ValueError, match="Failed to create share consumer") as caught:
        kit.ck.ShareConsumer(kit.config({"group.id": "g", name: value}))
    assert str(caught.value) == f"Failed to create share consumer: `{name}` is not applicable for share consumer"


def test_configs_of_the_broker(kit):
    """Session and heartbeat are the group's, a group id is needed, on_commit is no callback of it."""
    for name in ("session.timeout.ms", "heartbeat.interval.ms"):
        with pytest.raises(ValueError, match="It is defined broker side"):
            kit.ck.ShareConsumer(kit.config({"group.id": "g", name: 6000}))
    with pytest.raises(ValueError, match=r"group.id must be set"):
        kit.ck.ShareConsumer(kit.config())
    with pytest.raises(ValueError, match="on_commit is not supported on ShareConsumer"):
        kit.ck.ShareConsumer(kit.config({"group.id": "g", "on_commit": print}))
    with kit.fails("_INVALID_ARG", "outside allowed range"):
        kit.ck.ShareConsumer(kit.config({"group.id": "g", "max.poll.records": 0}))


def test_messages_of_a_plain_consumer_have_no_delivery_count(kit):
    """Only a share group counts deliveries."""
    topic = kit.topic()
    kit.fill(topic, 1)
    (message,) = kit.read(kit.assigned(topic, offset=0), 1)
    assert message.delivery_count() is None


def test_deserializing_share_consumer(kit, shares):
    """Keys and values come as objects; a record that cannot be read is there with its error."""
    topic, group = kit.topic(), shares.group()
    for value in (b"1", b"x", b"3"):
        kit.send(topic, value)

    def number(data, context):
        return int(data)

    settings = kit.config({"group.id": group, "share.acknowledgement.mode": "explicit", "value.deserializer": number})
    consumer = kit.keep(kit.ck.DeserializingShareConsumer(settings))
    consumer.subscribe([topic])
    values, errors = [], []
    deadline = kit.cluster.now + 15
    while len(values) < 3 and kit.cluster.now < deadline:
        for message in consumer.poll(0.5):
            values.append(message.value())
            errors.append(None if message.error() is None else message.error().name())
            consumer.acknowledge(message)
    assert values == [1, b"x", 3]
    assert errors == [None, "_VALUE_DESERIALIZATION", None]
    assert outcomes(consumer.commit_sync()) == [(0, None)]


def test_max_poll_records_rounds_up_to_batches(kit, shares):
    """Four wanted, batches of five: a poll brings five."""
    topic, group = kit.topic(), shares.group()
    for start in (0, 5):
        kit.fill(topic, 5, start=start)
    consumer = shares.consumer(group, topic, max_poll_records=4)
    sizes = []
    for _ in range(2):
        messages = shares.poll(consumer)
        sizes.append(len(messages))
        shares.acknowledge(consumer, messages, kit.ck.AcknowledgeType.ACCEPT)
    assert sizes == [5, 5]
