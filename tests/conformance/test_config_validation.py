"""What a client's constructor accepts and refuses: names, types, ranges and conflicts, with the client's own words."""

from __future__ import annotations

import pytest

PRODUCER_REFUSALS = [
    # A name that does not exist.
    ({"no.such.property": 1}, 'No such configuration property: "no.such.property"'),
    ({"bootstrap.server": "x"}, 'No such configuration property: "bootstrap.server"'),
    ({1: 2}, 'No such configuration property: "1"'),
    # A value of the wrong kind; aliases are reported under the name they stand for.
    ({"linger.ms": "soon"}, 'Invalid value for configuration property "queue.buffering.max.ms"'),
    ({"linger.ms": [1]}, 'Invalid value for configuration property "queue.buffering.max.ms"'),
    ({"linger.ms": b"5"}, 'Invalid value for configuration property "queue.buffering.max.ms"'),
    ({"acks": "most"}, 'Invalid value for configuration property "request.required.acks"'),
    ({"partitioner": "fair"}, 'Invalid value for configuration property "partitioner": fair'),
    ({"enable.idempotence": "maybe"}, 'Expected bool value for "enable.idempotence": true or false'),
    ({"compression.type": "lz5"}, 'Invalid value "lz5" for configuration property "compression.codec"'),
    ({"security.protocol": "smoke"}, 'Invalid value "smoke" for configuration property "security.protocol"'),
    ({"debug": "nope"}, 'Invalid value "nope" for configuration property "debug"'),
    # No value at all.
    ({"linger.ms": None}, 'Float configuration property "queue.buffering.max.ms" cannot be set to empty value'),
    ({"acks": ""}, 'Integer configuration property "request.required.acks" cannot be set to empty value'),
    ({"acks": None}, 'Integer configuration property "request.required.acks" cannot be set to empty value'),
    # A value outside its range.
    ({"linger.ms": -1}, '"queue.buffering.max.ms" value -1 is outside allowed range 0..900000'),
    ({"linger.ms": 900_001}, '"queue.buffering.max.ms" value 900001 is outside allowed range 0..900000'),
    ({"acks": 1001}, '"request.required.acks" value 1001 is outside allowed range -1..1000'),
    ({"acks": -2}, '"request.required.acks" value -2 is outside allowed range -1..1000'),
    ({"batch.size": 0}, '"batch.size" value 0 is outside allowed range 1..2147483647'),
    ({"batch.num.messages": 0}, '"batch.num.messages" value 0 is outside allowed range 1..1000000'),
    ({"message.max.bytes": 1}, '"message.max.bytes" value 1 is outside allowed range 1000..1000000000'),
    ({"message.timeout.ms": -1}, '"message.timeout.ms" value -1 is outside allowed range 0..2147483647'),
    ({"delivery.timeout.ms": -1}, '"message.timeout.ms" value -1 is outside allowed range 0..2147483647'),
    ({"request.timeout.ms": 0}, '"request.timeout.ms" value 0 is outside allowed range 1..900000'),
    ({"retries": -1}, '"message.send.max.retries" value -1 is outside allowed range 0..2147483647'),
    ({"retry.backoff.ms": 0}, '"retry.backoff.ms" value 0 is outside allowed range 1..300000'),
    ({"max.in.flight": 0}, '"max.in.flight.requests.per.connection" value 0 is outside allowed range 1..1000000'),
    (
        {"queue.buffering.max.messages": -1},
        '"queue.buffering.max.messages" value -1 is outside allowed range 0..2147483647',
    ),
    ({"queue.buffering.max.kbytes": 0}, '"queue.buffering.max.kbytes" value 0 is outside allowed range 1..2147483647'),
    ({"socket.timeout.ms": 1}, '"socket.timeout.ms" value 1 is outside allowed range 10..300000'),
    (
        {"sticky.partitioning.linger.ms": -1},
        '"sticky.partitioning.linger.ms" value -1 is outside allowed range 0..900000',
    ),
    ({"statistics.interval.ms": -1}, '"statistics.interval.ms" value -1 is outside allowed range 0..86400000'),
    ({"compression.level": 13}, '"compression.level" value 13 is outside allowed range -1..12'),
    # Values that do not go together.
    (
        {"enable.idempotence": True, "acks": 1},
        "Failed to create producer: `acks` must be set to `all` when `enable.idempotence` is true",
    ),
    (
        {"enable.idempotence": True, "max.in.flight": 6},
        "`max.in.flight` must be set <= 5 when `enable.idempotence` is true",
    ),
    ({"enable.idempotence": True, "retries": 0}, "`retries` must be set >= 1 when `enable.idempotence` is true"),
    ({"transactional.id": "t", "acks": 1}, "`acks` must be set to `all` when `enable.idempotence` is true"),
    ({"transactional.id": "t", "enable.idempotence": False}, "`transactional.id` requires `enable.idempotence=true`"),
    (
        {"transactional.id": "t", "transaction.timeout.ms": 1000, "message.timeout.ms": 5000},
        "`message.timeout.ms` must be set <= `transaction.timeout.ms`",
    ),
    ({"message.timeout.ms": 5, "linger.ms": 10}, "`message.timeout.ms` must be greater than `linger.ms`"),
    ({"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"}, "sasl.username and sasl.password must be set"),
    ({"on_delivery": 1}, "on_delivery requires a callable object"),
]

CONSUMER_REFUSALS = [
    ({"no.such.property": 1}, 'No such configuration property: "no.such.property"'),
    ({"auto.offset.reset": "sometimes"}, 'Invalid value "sometimes" for configuration property "auto.offset.reset"'),
    ({"isolation.level": "none"}, 'Invalid value "none" for configuration property "isolation.level"'),
    ({"enable.auto.commit": "perhaps"}, 'Expected bool value for "enable.auto.commit": true or false'),
    ({"enable.auto.offset.store": "x"}, 'Expected bool value for "enable.auto.offset.store": true or false'),
    ({"enable.partition.eof": "x"}, 'Expected bool value for "enable.partition.eof": true or false'),
    ({"allow.auto.create.topics": "x"}, 'Expected bool value for "allow.auto.create.topics": true or false'),
    ({"session.timeout.ms": 0}, '"session.timeout.ms" value 0 is outside allowed range 1..3600000'),
    ({"heartbeat.interval.ms": 0}, '"heartbeat.interval.ms" value 0 is outside allowed range 1..3600000'),
    ({"max.poll.interval.ms": 0}, '"max.poll.interval.ms" value 0 is outside allowed range 1..86400000'),
    ({"auto.commit.interval.ms": -1}, '"auto.commit.interval.ms" value -1 is outside allowed range 0..86400000'),
    ({"queued.min.messages": 0}, '"queued.min.messages" value 0 is outside allowed range 1..10000000'),
    ({"queued.max.messages.kbytes": 0}, '"queued.max.messages.kbytes" value 0 is outside allowed range 1..2097151'),
    ({"fetch.wait.max.ms": -1}, '"fetch.wait.max.ms" value -1 is outside allowed range 0..300000'),
    ({"fetch.queue.backoff.ms": -1}, '"fetch.queue.backoff.ms" value -1 is outside allowed range 0..300000'),
    ({"max.partition.fetch.bytes": 0}, '"fetch.message.max.bytes" value 0 is outside allowed range 1..1000000000'),
    # This one is checked at another place, with other words.
    ({"fetch.min.bytes": 0}, 'Configuration property "fetch.min.bytes" value is outside allowed range 1..100000000'),
    (
        {"session.timeout.ms": 6000, "max.poll.interval.ms": 1000},
        "`max.poll.interval.ms`must be >= `session.timeout.ms`",
    ),
    ({"fetch.max.bytes": 10}, "`fetch.max.bytes` must be >= `message.max.bytes`"),
    ({"receive.message.max.bytes": 1000}, "`receive.message.max.bytes` must be >= `fetch.max.bytes` + 512"),
    ({"partition.assignment.strategy": "fair"}, "Unsupported partition.assignment.strategy: fair"),
    (
        {"partition.assignment.strategy": "range,cooperative-sticky"},
        "All partition.assignment.strategy (range,cooperative-sticky) assignors must have the same protocol type",
    ),
    ({"group.protocol": "modern"}, 'Invalid value "modern" for configuration property "group.protocol"'),
    (
        {"group.protocol": "consumer", "session.timeout.ms": 6000},
        "`session.timeout.ms` is not supported for `group.protocol=consumer`",
    ),
    (
        {"group.protocol": "consumer", "heartbeat.interval.ms": 600},
        "`heartbeat.interval.ms` is not supported for `group.protocol=consumer`",
    ),
    (
        {"group.protocol": "consumer", "partition.assignment.strategy": "range"},
        "`partition.assignment.strategy` is not supported for `group.protocol=consumer`. Use `group.remote.assignor` instead",
    ),
    ({"on_commit": 1}, "on_commit requires a callable object"),
]

ACCEPTED_BY_PRODUCERS = [
    {"linger.ms": 5},
    {"linger.ms": "5"},
    {"linger.ms": 5.5},
    {"linger.ms": "5.5"},
    {"message.timeout.ms": "1000"},
    {"enable.idempotence": True},
    {"enable.idempotence": 1},
    {"enable.idempotence": "true"},
    {"enable.idempotence": "t"},
    {"acks": "ALL"},
    {"acks": "-1"},
    {"compression.type": "ZSTD"},
    {"client.id": ""},
    {"queue.buffering.max.messages": 0},
    {"default.topic.config": {"acks": 1}},
    # A consumer's property: a warning in the log, no more.
    {"group.id": "g", "auto.offset.reset": "earliest"},
]

ACCEPTED_BY_CONSUMERS = [
    # The broker would refuse a heartbeat longer than the session; the client does not look.
    {"session.timeout.ms": 1000, "heartbeat.interval.ms": 2000},
    {"group.protocol": "consumer", "group.remote.assignor": "uniform"},
    {"group.protocol": "classic", "group.remote.assignor": "uniform"},
    {"partition.assignment.strategy": "range,roundrobin"},
    {"partition.assignment.strategy": "cooperative-sticky"},
    {"group.instance.id": ""},
    {"isolation.level": "READ_UNCOMMITTED"},
    {"enable.auto.commit": False},
    {"linger.ms": 5},
]


def _ids(cases):
    return ["+".join(f"{name}={value!r}" for name, value in config.items()) for config in cases]


@pytest.mark.parametrize(("config", "text"), PRODUCER_REFUSALS, ids=_ids(c for c, _ in PRODUCER_REFUSALS))
def test_a_producer_refuses(kit, config, text):
    """KafkaException with _INVALID_ARG, neither retriable nor fatal, and a text that names the property."""
    with kit.fails("_INVALID_ARG", text):
        kit.ck.Producer({"bootstrap.servers": "127.0.0.1:1", **config})


@pytest.mark.parametrize(("config", "text"), CONSUMER_REFUSALS, ids=_ids(c for c, _ in CONSUMER_REFUSALS))
def test_a_consumer_refuses(kit, config, text):
    """The same for consumers."""
    with kit.fails("_INVALID_ARG", text):
        kit.ck.Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", **config})


@pytest.mark.parametrize("config", ACCEPTED_BY_PRODUCERS, ids=_ids(ACCEPTED_BY_PRODUCERS))
def test_a_producer_accepts(kit, config):
    """Numbers may be text, booleans may be 1 or 't', enum values in any case."""
    assert kit.ck.Producer({"bootstrap.servers": "127.0.0.1:1", **config})


@pytest.mark.parametrize("config", ACCEPTED_BY_CONSUMERS, ids=_ids(ACCEPTED_BY_CONSUMERS))
def test_a_consumer_accepts(kit, config):
    """What looks wrong and yet is not checked by the client."""
    kit.ck.Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", **config}).close()


def test_an_invalid_value_is_neither_retriable_nor_fatal(kit):
    """The error of a refusal carries no flags."""
    with pytest.raises(kit.ck.KafkaException) as caught:
        kit.ck.Producer({"no.such": 1})
    error = caught.value.args[0]
    assert not error.retriable()
    assert not error.fatal()
    assert not error.txn_requires_abort()
    assert str(caught.value) == str(error)


def test_a_consumer_needs_a_group(kit):
    """Without group.id: a ValueError, not a KafkaException."""
    with pytest.raises(ValueError, match=r"Failed to create consumer: group\.id must be set"):
        kit.ck.Consumer({"bootstrap.servers": "127.0.0.1:1"})


@pytest.mark.parametrize("arguments", [(), ("x",), (None,), (["a"],)])
@pytest.mark.parametrize("kind", ["Producer", "Consumer"])
def test_a_client_needs_a_dict(kit, kind, arguments):
    """Anything but a dict is a TypeError."""
    with pytest.raises(TypeError, match="expected configuration dict"):
        getattr(kit.ck, kind)(*arguments)


def test_a_config_may_be_keywords(kit):
    """Keywords work alone and beside a dict, and are checked alike."""
    assert kit.ck.Producer(**{"bootstrap.servers": "127.0.0.1:1"})
    with kit.fails("_INVALID_ARG", 'Invalid value for configuration property "queue.buffering.max.ms"'):
        kit.ck.Producer({"bootstrap.servers": "127.0.0.1:1"}, **{"linger.ms": "z"})


def test_a_client_without_bootstrap_servers_is_made(kit):
    """It can never connect, but its constructor does not mind."""
    assert len(kit.ck.Producer({})) == 0


@pytest.mark.parametrize(
    ("name", "kind"), [("error_cb", TypeError), ("stats_cb", TypeError), ("throttle_cb", ValueError)]
)
def test_callbacks_have_to_be_callable(kit, name, kind):
    """Surprise: two raise TypeError, one ValueError, and on_delivery raises KafkaException."""
    with pytest.raises(kind, match=f"expected {name} property as a callable function"):
        kit.ck.Producer({"bootstrap.servers": "127.0.0.1:1", name: 1})


def test_the_config_is_not_changed(kit):
    """The caller's dict is copied."""
    config = {"bootstrap.servers": "127.0.0.1:1", "linger.ms": 5, "on_delivery": print}
    kit.ck.Producer(config)
    assert config == {"bootstrap.servers": "127.0.0.1:1", "linger.ms": 5, "on_delivery": print}


def test_an_admin_client_refuses_too(kit):
    """An admin client's config is checked like a producer's."""
    with kit.fails("_INVALID_ARG", 'No such configuration property: "no.such"'):
        kit.ck.admin.AdminClient({"no.such": "x"})


def test_the_handle_wants_the_group_by_name(kit):
    """Properties where the group's name belongs would make a group of a strange name."""
    with pytest.raises(TypeError, match="the group's name"):
        kit.cluster.consumer({"group.id": "g"})
