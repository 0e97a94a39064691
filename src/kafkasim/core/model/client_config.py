"""Configuration of a client: given values checked and completed as librdkafka does, read in Python's types.

Mirrors:  rd_kafka_conf_set, rd_kafka_conf_finalize, rd_kafka_topic_conf_finalize of librdkafka; common_conf_setup of confluent_kafka.
Rule 1:   properties are taken in the order given; the first bad one ends it with librdkafka's own words.
Rule 2:   an alias and its property are one setting under the property's name; the last given wins.
Rule 3:   a known property that no machine here reads is accepted and listed in ``unmodelled``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from kafkasim.core.model.client_config_table import CLIENT_CONFIG_KEYS, ClientConfigKey
from kafkasim.core.model.errors import ErrorCode

ClientConfigValue: TypeAlias = "str | int | float | bool | tuple[str, ...] | None"

#: Properties that change what a simulated client does.
MODELLED: frozenset[str] = frozenset(
    {
        "metadata.broker.list",
        "client.id",
        "client.rack",
        "max.poll.records",
        "share.acknowledgement.mode",
        "message.max.bytes",
        "max.in.flight.requests.per.connection",
        "topic.metadata.refresh.interval.ms",
        "topic.metadata.refresh.fast.interval.ms",
        "topic.metadata.refresh.sparse",
        "topic.metadata.propagation.max.ms",
        "socket.timeout.ms",
        "socket.connection.setup.timeout.ms",
        "reconnect.backoff.ms",
        "reconnect.backoff.max.ms",
        "retry.backoff.ms",
        "retry.backoff.max.ms",
        "statistics.interval.ms",
        "allow.auto.create.topics",
        "security.protocol",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "group.remote.assignor",
        "group.protocol.type",
        "partition.assignment.strategy",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "coordinator.query.interval.ms",
        "max.poll.interval.ms",
        "enable.auto.commit",
        "auto.commit.interval.ms",
        "enable.auto.offset.store",
        "queued.min.messages",
        "queued.max.messages.kbytes",
        "fetch.wait.max.ms",
        "fetch.queue.backoff.ms",
        "fetch.message.max.bytes",
        "fetch.max.bytes",
        "fetch.min.bytes",
        "fetch.error.backoff.ms",
        "isolation.level",
        "enable.partition.eof",
        "auto.offset.reset",
        "check.crcs",
        "transactional.id",
        "transaction.timeout.ms",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "queue.buffering.max.messages",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.ms",
        "message.send.max.retries",
        "compression.codec",
        "batch.num.messages",
        "batch.size",
        "delivery.report.only.error",
        "sticky.partitioning.linger.ms",
        "request.required.acks",
        "request.timeout.ms",
        "message.timeout.ms",
        "partitioner",
        # These have no effect to model: names for the broker, logging, and what fits any transport.
        "client.software.name",
        "client.software.version",
        "log_level",
        "log.queue",
        "log.connection.close",
        "debug",
        "socket.keepalive.enable",
        "socket.nagle.disable",
        "api.version.request",
        "broker.address.family",
    }
)

_NAMES_OF = {"smallest": "earliest", "beginning": "earliest", "largest": "latest", "end": "latest"}
_PARTITIONERS = (
    "random",
    "consistent",
    "consistent_random",
    "murmur2",
    "murmur2_random",
    "fnv1a",
    "fnv1a_random",
)
_ASSIGNORS = ("range", "roundrobin", "cooperative-sticky")
#: The kind of client that ``ShareConsumer`` is.
SHARE_CONSUMER = "share consumer"
_CONSUMERS = ("consumer", SHARE_CONSUMER)

#: In the order in which librdkafka looks at them.
_NOT_FOR_SHARE_CONSUMERS = (
    "enable.auto.commit",
    "group.protocol",
    "socket.max.fails",
    "partition.assignment.strategy",
    "group.instance.id",
    "isolation.level",
    "group.remote.assignor",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "fetch.queue.backoff.ms",
    "fetch.error.backoff.ms",
    "enable.partition.eof",
    "message.copy.max.bytes",
    "topic.blacklist",
    "allow.auto.create.topics",
    "auto.offset.reset",
)

_INTEGER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|\d+)")
_FLOAT = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_MAX_IDEMPOTENT_IN_FLIGHT = 5
_INT32_MAX = 2_147_483_647


class ConfigError(Exception):
    """A configuration that librdkafka refuses; ``text`` in its words."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode._INVALID_ARG) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class ClientConfig:
    """Typed values by property name or alias: ``config["linger.ms"]``."""

    __slots__ = ("_given", "_values", "kind", "unmodelled", "warnings")

    def __init__(self, kind: str, values: dict[str, ClientConfigValue], given: tuple[str, ...]) -> None:
        self.kind = kind
        self._values = values
        self._given = frozenset(given)
        #: Given properties that are known but change nothing here, in the order given.
        self.unmodelled = tuple(name for name in given if name not in MODELLED)
        #: What librdkafka logs about properties that do not apply or are deprecated.
        self.warnings = tuple(_warnings(kind, given))

    @classmethod
    def parse(cls, kind: str, given: Mapping[str, object]) -> ClientConfig:
        """Check ``given`` for a "producer", "consumer", "share consumer" or "admin" client; raises ``ConfigError``."""
        values = dict(_DEFAULTS)
        names: dict[str, None] = {}
        for name, value in _flatten(given).items():
            key = _find(name)
            values[key.name] = _parse_value(key, None if value is None else str(value))
            names[key.name] = None
        config = cls(kind, values, tuple(names))
        if kind in _CONSUMERS and not values["group.id"]:
            raise ConfigError("Failed to create consumer: group.id must be set")  # The facade makes it a ValueError.
        problem = config._finalize_share_consumer() if kind == SHARE_CONSUMER else None
        problem = problem or (config._finalize_consumer() if kind in _CONSUMERS else config._finalize_producer())
        problem = problem or config._finalize_common()
        if problem:
            what = "admin client" if kind == "admin" else kind
            raise ConfigError(f"Failed to create {what}: {problem}")
        return config

    def __getitem__(self, name: str) -> ClientConfigValue:
        return self._values[_find(name).name]

    def is_given(self, name: str) -> bool:
        return _find(name).name in self._given

    def integer(self, name: str) -> int:
        value = self[name]
        assert isinstance(value, int), name
        return value

    def ms(self, name: str) -> int:
        """A time in whole milliseconds."""
        value = self[name]
        assert isinstance(value, (int, float)), name
        return int(value)

    def us(self, name: str) -> int:
        """A time in microseconds (``linger.ms`` may have fractions)."""
        value = self[name]
        assert isinstance(value, (int, float)), name
        return int(value * 1000)

    def text(self, name: str) -> str:
        """A string; "" if unset."""
        value = self[name]
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        return bool(self[name])

    # --- What librdkafka adjusts and refuses when the client is made -------------------------------------------------

    def _adjust(self, name: str, value: ClientConfigValue) -> None:
        """Set ``name`` unless the application did."""
        key = _find(name)
        if key.name not in self._given:
            self._values[key.name] = value

    def _finalize_consumer(self) -> str | None:
        if not 1 <= self.integer("fetch.min.bytes") <= 100_000_000:
            return 'Configuration property "fetch.min.bytes" value is outside allowed range 1..100000000'
        if self["group.protocol"] == "classic":
            if self.integer("max.poll.interval.ms") < self.integer("session.timeout.ms"):
                return "`max.poll.interval.ms`must be >= `session.timeout.ms`"
        else:
            problem = self._finalize_consumer_protocol()
            if problem:
                return problem
        problem = self._check_assignors()
        if problem:
            return problem
        largest = self.integer("message.max.bytes")
        if self.is_given("fetch.max.bytes"):
            if self.integer("fetch.max.bytes") < largest:
                return "`fetch.max.bytes` must be >= `message.max.bytes`"
        else:
            queued = self.integer("queued.max.messages.kbytes") * 1024
            self._adjust("fetch.max.bytes", max(min(self.integer("fetch.max.bytes"), queued), largest))
        needed = self.integer("fetch.max.bytes") + 512
        if self.is_given("receive.message.max.bytes"):
            if needed > self.integer("receive.message.max.bytes"):
                return "`receive.message.max.bytes` must be >= `fetch.max.bytes` + 512"
        else:
            self._adjust("receive.message.max.bytes", max(self.integer("receive.message.max.bytes"), needed))
        self._values["enable.idempotence"] = False
        return None

    def _finalize_share_consumer(self) -> str | None:
        """What a share consumer has no use for is refused; the rest of its group's settings is the broker's."""
        for name in _NOT_FOR_SHARE_CONSUMERS:
            if self.is_given(name):
                if name == "socket.max.fails":
                    return "`socket.max.fails` must be 1 for share consumer; changing it is not allowed"
                if name == "allow.auto.create.topics":
                    return (
                        "allow.auto.create.topics is currently not supported for share consumer and will be enabled in the "
                        "General Availability (GA) release"
                    )
                return f"`{name}` is not applicable for share consumer"
        self._values["group.protocol"] = "consumer"
        return None

    def _check_assignors(self) -> str | None:
        given = self.text("partition.assignment.strategy")
        names = [name.strip() for name in given.split(",") if name.strip()]
        for name in names:
            if name not in _ASSIGNORS:
                return f"Unsupported partition.assignment.strategy: {name}"
        if len({name == "cooperative-sticky" for name in names}) > 1:
            return (
                f"All partition.assignment.strategy ({given}) assignors must have the same protocol type, "
                "online migration between assignors with different protocol types is not supported"
            )
        return None

    def _finalize_consumer_protocol(self) -> str | None:
        """KIP-848 takes these from the broker."""
        broker_side = "is not supported for `group.protocol=consumer`"
        if self.is_given("session.timeout.ms"):
            return f"`session.timeout.ms` {broker_side} or share consumer. It is defined broker side"
        if self.is_given("partition.assignment.strategy"):
            return f"`partition.assignment.strategy` {broker_side}. Use `group.remote.assignor` instead"
        if self.is_given("group.protocol.type"):
            return f"`group.protocol.type` {broker_side} or share consumer"
        if self.is_given("heartbeat.interval.ms"):
            return f"`heartbeat.interval.ms` {broker_side} or share consumer. It is defined broker side"
        return None

    def _finalize_producer(self) -> str | None:
        if self["transactional.id"]:
            problem = self._finalize_transactional()
            if problem:
                return problem
        if self["enable.idempotence"]:
            problem = self._finalize_idempotent()
            if problem:
                return problem
        elif self["enable.gapless.guarantee"] and self.is_given("enable.gapless.guarantee"):
            return "`enable.gapless.guarantee` requires `enable.idempotence` to be enabled"
        self._adjust("sticky.partitioning.linger.ms", min(900_000, 2 * self.ms("linger.ms")))
        return None

    def _finalize_transactional(self) -> str | None:
        if not self["enable.idempotence"]:
            if self.is_given("enable.idempotence"):
                return "`transactional.id` requires `enable.idempotence=true`"
            self._adjust("enable.idempotence", True)
        transaction_ms = self.integer("transaction.timeout.ms")
        self._adjust("socket.timeout.ms", max(transaction_ms - 100, 900))
        if self.is_given("socket.timeout.ms") and transaction_ms + 100 < self.integer("socket.timeout.ms"):
            return "`socket.timeout.ms` must be set <= `transaction.timeout.ms` + 100"
        return None

    def _finalize_idempotent(self) -> str | None:
        self._adjust("max.in.flight", min(self.integer("max.in.flight"), _MAX_IDEMPOTENT_IN_FLIGHT))
        if self.integer("max.in.flight") > _MAX_IDEMPOTENT_IN_FLIGHT:
            return f"`max.in.flight` must be set <= {_MAX_IDEMPOTENT_IN_FLIGHT} when `enable.idempotence` is true"
        self._adjust("retries", _INT32_MAX)
        if self.integer("retries") < 1:
            return "`retries` must be set >= 1 when `enable.idempotence` is true"
        threshold = "queue.buffering.backpressure.threshold"
        if self.is_given(threshold) and self.integer(threshold) > 1:
            return f"`{threshold}` must be set to 1 when `enable.idempotence` is true"
        self._values[threshold] = 1
        return None

    def _finalize_common(self) -> str | None:
        refresh_ms = self.integer("topic.metadata.refresh.interval.ms")
        if refresh_ms > 0:
            self._adjust("metadata.max.age.ms", refresh_ms * 3)
        if self.integer("reconnect.backoff.max.ms") < self.integer("reconnect.backoff.ms"):
            return "`reconnect.backoff.max.ms` must be >= `reconnect.backoff.ms`"
        self._adjust("topic.metadata.refresh.fast.interval.ms", self.integer("retry.backoff.ms"))
        self._adjust("allow.auto.create.topics", self.kind not in _CONSUMERS)
        problem = self._finalize_topic() if self.kind not in _CONSUMERS else None
        if problem is None and self.text("security.protocol").startswith("sasl_"):
            problem = self._check_sasl()
        return problem

    def _check_sasl(self) -> str | None:
        """What the wheels' build of librdkafka, which has no Kerberos, asks of a mechanism's settings."""
        mechanism = self.text("sasl.mechanisms")
        if mechanism == "GSSAPI":
            return (
                "No provider for SASL mechanism GSSAPI: recompile librdkafka with libsasl2 or openssl support. "
                "Current build options: PLAIN SASL_SCRAM OAUTHBEARER"
            )
        if mechanism == "PLAIN" or mechanism.startswith("SCRAM-SHA-"):
            if not (self["sasl.username"] and self["sasl.password"]):
                return "sasl.username and sasl.password must be set"
        elif mechanism != "OAUTHBEARER":
            return f"Unsupported SASL mechanism: {mechanism}"
        return None

    def _finalize_topic(self) -> str | None:
        linger_ms = self["linger.ms"]
        assert isinstance(linger_ms, (int, float))
        message_ms = self.integer("message.timeout.ms")
        if message_ms != 0 and message_ms <= linger_ms:
            if self.is_given("linger.ms"):
                return "`message.timeout.ms` must be greater than `linger.ms`"
            self._adjust("linger.ms", message_ms - 0.1)
        if not self["enable.idempotence"]:
            return None
        self._adjust("acks", -1)
        if self["acks"] != -1:
            return "`acks` must be set to `all` when `enable.idempotence` is true"
        if self["queuing.strategy"] != "fifo":
            return "`queuing.strategy` must be set to `fifo` when `enable.idempotence` is true"
        if self["transactional.id"]:
            transaction_ms = self.integer("transaction.timeout.ms")
            self._adjust("message.timeout.ms", transaction_ms)
            if self.integer("message.timeout.ms") > transaction_ms:
                return "`message.timeout.ms` must be set <= `transaction.timeout.ms`"
        return None


def _flatten(given: Mapping[str, object]) -> dict[str, object]:
    """``default.topic.config`` is an old place for topic properties: they overlay the others."""
    flat = dict(given)
    topic_config = flat.pop("default.topic.config", None)
    if isinstance(topic_config, Mapping):
        flat.update(topic_config)
    return flat


def _find(name: str) -> ClientConfigKey:
    key = CLIENT_CONFIG_KEYS.get(name)
    if key is not None and key.alias_of is not None:
        key = CLIENT_CONFIG_KEYS[key.alias_of]
    if key is None:
        raise ConfigError(f'No such configuration property: "{name}"')
    return key


def _parse_value(key: ClientConfigKey, text: str | None) -> ClientConfigValue:
    """The typed value of ``text``; an empty text means none, as in librdkafka."""
    text = text or None
    if key.kind == "string":
        return _parse_string(key, text)
    if key.kind == "bool":
        return _parse_bool(key, text)
    if key.kind in ("int", "float"):
        return _parse_number(key, text)
    if key.kind in ("enum", "flags"):
        return _parse_choices(key, text)
    if key.kind == "patterns":
        return text
    if key.kind == "invalid":
        raise ConfigError(key.advice)
    raise ConfigError(f'Property "{key.name}" must be set through dedicated .._set_..() function')


def _parse_string(key: ClientConfigKey, text: str | None) -> str | None:
    if key.name == "partitioner" and text not in _PARTITIONERS:
        raise ConfigError(f'Invalid value for configuration property "partitioner": {text or "(null)"}')
    return text.lstrip() if text is not None else None


def _parse_bool(key: ClientConfigKey, text: str | None) -> bool:
    if text is None:
        raise ConfigError(f'Bool configuration property "{key.name}" cannot be set to empty value')
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise ConfigError(f'Expected bool value for "{key.name}": true or false')


def _parse_number(key: ClientConfigKey, text: str | None) -> int | float:
    kind = "Integer" if key.kind == "int" else "Float"
    if text is None:
        raise ConfigError(f'{kind} configuration property "{key.name}" cannot be set to empty value')
    number: int | float
    if key.kind == "int":
        number = _parse_integer(key, text)
        shown = f"value {number} is outside allowed range {key.low}..{key.high}\n"
    else:
        match = _FLOAT.match(text)
        if match is None:
            raise ConfigError(f'Invalid value for configuration property "{key.name}"')
        number = float(match.group())
        shown = f"value {number:g} is outside allowed range {key.low:g}..{key.high:g}\n"
    if key.low is not None and key.high is not None and not key.low <= number <= key.high:
        raise ConfigError(f'Configuration property "{key.name}" {shown}')
    return number


def _parse_integer(key: ClientConfigKey, text: str) -> int:
    """As C's strtol with base 0: whatever follows the digits is ignored."""
    match = _INTEGER.match(text)
    if match is None:
        if key.name == "request.required.acks" and text.lower() == "all":
            return -1
        raise ConfigError(f'Invalid value for configuration property "{key.name}"')
    sign, digits = match.groups()
    if digits[:2] in ("0x", "0X"):
        magnitude = int(digits, 16)
    elif digits[0] == "0" and digits.isdigit() and all(digit < "8" for digit in digits):
        magnitude = int(digits, 8)
    else:
        magnitude = int(digits)
    return -magnitude if sign == "-" else magnitude


def _parse_choices(key: ClientConfigKey, text: str | None) -> ClientConfigValue:
    if text is None:
        raise ConfigError(f'Configuration property "{key.name}" cannot be set to empty value')
    by_lower = {choice.lower(): choice for choice in key.choices}
    if key.kind == "enum":
        choice = by_lower.get(text.strip().lower())
        if choice is None:
            raise ConfigError(f'Invalid value "{text.strip()}" for configuration property "{key.name}"')
        return _NAMES_OF.get(choice, choice)
    flags = []
    for item in text.split(","):
        flag = item.strip()
        if flag and flag.lstrip("+-").lower() not in by_lower and by_lower:
            raise ConfigError(f'Invalid value "{flag}" for configuration property "{key.name}"')
        if flag:
            flags.append(flag)
    return tuple(flags)


def _warnings(kind: str, given: tuple[str, ...]) -> list[str]:
    ours, theirs, theirs_name = ("C", "P", "producer") if kind in _CONSUMERS else ("P", "C", "consumer")
    me = "consumer" if ours == "C" else "producer"
    found = []
    for name in given:
        key = CLIENT_CONFIG_KEYS[name]
        if key.applies_to == theirs:
            found.append(
                f"Configuration property {name} is a {theirs_name} property and will be ignored by this {me} instance"
            )
        elif key.is_deprecated:
            found.append(f"Configuration property {name} is deprecated")
    return found


def _defaults() -> dict[str, ClientConfigValue]:
    values: dict[str, ClientConfigValue] = {}
    for key in CLIENT_CONFIG_KEYS.values():
        if key.alias_of is not None:
            continue
        if key.default is None or key.kind in ("api", "invalid"):
            values[key.name] = None
        elif key.kind == "flags":
            values[key.name] = tuple(flag.strip() for flag in key.default.split(","))
        else:
            values[key.name] = _parse_value(key, key.default)
    return values


_DEFAULTS = _defaults()
