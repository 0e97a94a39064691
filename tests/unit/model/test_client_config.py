"""Client configuration against what librdkafka 2.16.0 was seen to accept, adjust and refuse."""

from __future__ import annotations

import pytest

from kafkasim.core.model.client_config import MODELLED, ClientConfig, ConfigError
from kafkasim.core.model.client_config_table import CLIENT_CONFIG_KEYS

_IDEMPOTENT = {"enable.idempotence": True}
_CREATE = "Failed to create producer: "

#: Refusals as recorded with confluent-kafka 2.16.1.
_REFUSED = [
    ({**_IDEMPOTENT, "acks": 1}, _CREATE + "`acks` must be set to `all` when `enable.idempotence` is true"),
    (
        {**_IDEMPOTENT, "max.in.flight.requests.per.connection": 6},
        _CREATE + "`max.in.flight` must be set <= 5 when `enable.idempotence` is true",
    ),
    ({**_IDEMPOTENT, "retries": 0}, _CREATE + "`retries` must be set >= 1 when `enable.idempotence` is true"),
    (
        {**_IDEMPOTENT, "queuing.strategy": "lifo"},
        _CREATE + "`queuing.strategy` must be set to `fifo` when `enable.idempotence` is true",
    ),
    (
        {"enable.gapless.guarantee": True},
        _CREATE + "`enable.gapless.guarantee` requires `enable.idempotence` to be enabled",
    ),
    (
        {"transactional.id": "x", "enable.idempotence": False},
        _CREATE + "`transactional.id` requires `enable.idempotence=true`",
    ),
    (
        {"transactional.id": "x", "message.timeout.ms": 70000, "transaction.timeout.ms": 60000},
        _CREATE + "`message.timeout.ms` must be set <= `transaction.timeout.ms`",
    ),
    (
        {"linger.ms": 1000000},
        'Configuration property "queue.buffering.max.ms" value 1e+06 is outside allowed range 0..900000\n',
    ),
    (
        {"delivery.timeout.ms": 5000, "linger.ms": 6000},
        _CREATE + "`message.timeout.ms` must be greater than `linger.ms`",
    ),
    (
        {"request.timeout.ms": 0},
        'Configuration property "request.timeout.ms" value 0 is outside allowed range 1..900000\n',
    ),
    ({"no.such": 1}, 'No such configuration property: "no.such"'),
    ({"acks": "abc"}, 'Invalid value for configuration property "request.required.acks"'),
    ({"compression.type": "rar"}, 'Invalid value "rar" for configuration property "compression.codec"'),
    ({"enable.idempotence": "maybe"}, 'Expected bool value for "enable.idempotence": true or false'),
    ({"linger.ms": None}, 'Float configuration property "queue.buffering.max.ms" cannot be set to empty value'),
]

_ACCEPTED = [
    {"enable.idempotence": True, "max.in.flight": 5},
    {"transactional.id": ""},
    {"acks": "all"},
    {"enable.idempotence": True, "message.timeout.ms": 0},
    {"message.timeout.ms": 5000, "delivery.timeout.ms": 6000},
    {"retries": 3, "acks": 2},
    {"compression.type": "zstd"},
]


@pytest.mark.parametrize(("given", "text"), _REFUSED, ids=range(len(_REFUSED)))
def test_refusals_have_librdkafkas_words(given: dict[str, object], text: str) -> None:
    """Every recorded conflict is refused with the recorded text."""
    with pytest.raises(ConfigError) as caught:
        ClientConfig.parse("producer", given)
    assert caught.value.text == text


@pytest.mark.parametrize("given", _ACCEPTED, ids=range(len(_ACCEPTED)))
def test_accepted(given: dict[str, object]) -> None:
    """What librdkafka accepted is accepted."""
    ClientConfig.parse("producer", given)


def test_defaults_of_a_producer() -> None:
    """Defaults are librdkafka's, not Java's."""
    config = ClientConfig.parse("producer", {"bootstrap.servers": "a:1"})
    names = ("acks", "retries", "linger.ms", "batch.size", "partitioner", "enable.idempotence", "max.in.flight")
    assert [config[name] for name in names] == [-1, 2147483647, 5.0, 1000000, "consistent_random", False, 1000000]
    assert config["metadata.broker.list"] == "a:1"
    assert config["sticky.partitioning.linger.ms"] == 10


def test_values_come_as_anything_that_prints_well() -> None:
    """Numbers, booleans and texts mean the same; C's number parsing ignores what follows the digits."""
    config = ClientConfig.parse("producer", {"linger.ms": "0.5", "acks": "1x", "enable.idempotence": "False"})
    assert (config.us("linger.ms"), config["acks"], config["enable.idempotence"]) == (500, 1, False)


def test_idempotence_adjusts_what_was_not_given() -> None:
    """A transactional id switches idempotence on and caps the timeouts."""
    config = ClientConfig.parse("producer", {"transactional.id": "x", "transaction.timeout.ms": 20000})
    assert config["enable.idempotence"] is True
    assert (config["max.in.flight"], config["message.timeout.ms"], config["socket.timeout.ms"]) == (5, 20000, 19900)


def test_the_consumer_protocol_refuses_what_the_broker_decides() -> None:
    """KIP-848 leaves sessions to the broker."""
    with pytest.raises(ConfigError, match="It is defined broker side"):
        ClientConfig.parse("consumer", {"group.id": "g", "group.protocol": "consumer", "session.timeout.ms": 6000})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "No provider for SASL mechanism GSSAPI"),
        ({"sasl.mechanism": "PLAIN", "sasl.username": "u"}, "sasl.username and sasl.password must be set"),
        ({"sasl.mechanism": "SCRAM-SHA-512"}, "sasl.username and sasl.password must be set"),
        ({"sasl.mechanism": "plain"}, "Unsupported SASL mechanism: plain"),
    ],
)
def test_sasl_wants_its_settings(settings: dict[str, str], text: str) -> None:
    """Nothing here authenticates, and yet settings that the real client refuses are refused."""
    with pytest.raises(ConfigError, match=text):
        ClientConfig.parse("producer", {"security.protocol": "SASL_PLAINTEXT", **settings})
    ClientConfig.parse("producer", {"security.protocol": "plaintext", **settings})


def test_a_consumer_needs_a_group() -> None:
    """confluent_kafka refuses a consumer without group.id."""
    with pytest.raises(ConfigError, match=r"group\.id must be set"):
        ClientConfig.parse("consumer", {"bootstrap.servers": "a:1"})


def test_a_property_of_the_other_kind_only_warns() -> None:
    """Consumer properties on a producer are ignored, with librdkafka's log line."""
    config = ClientConfig.parse("producer", {"group.id": "g"})
    assert config.warnings == (
        "Configuration property group.id is a consumer property and will be ignored by this producer instance",
    )


def test_unmodelled_properties_are_listed() -> None:
    """A known property that changes nothing here is accepted and named, so that the facade can say so."""
    config = ClientConfig.parse("producer", {"ssl.ca.location": "/x", "linger.ms": 1})
    assert config.unmodelled == ("ssl.ca.location",)


def test_modelled_properties_exist() -> None:
    """MODELLED names properties, not aliases."""
    assert all(CLIENT_CONFIG_KEYS[name].alias_of is None for name in MODELLED)
