"""Producer over an engine that a test controls."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.confluent_kafka.fakes import FakeProducerEngine, FakeShell

from kafkasim.confluent_kafka.cimpl import KafkaError, KafkaException, Producer
from kafkasim.core.client.operation import ClientEvent
from kafkasim.core.model.errors import ErrorCode


@pytest.fixture
def producer(shells: list[FakeShell]) -> Producer:
    return Producer({"bootstrap.servers": "x"})


def engine_of(producer: Producer) -> FakeProducerEngine:
    engine: FakeProducerEngine = producer._engine
    return engine


def shell_of(producer: Producer) -> FakeShell:
    shell: Any = producer._shell
    assert isinstance(shell, FakeShell)
    return shell


def test_produce_passes_everything_on(producer: Producer) -> None:
    """Text becomes bytes, headers become pairs, the callback travels with the message."""
    producer.produce("t", "value", "key", 3, print, timestamp=7, headers={"a": "b"})
    producer.produce("t", b"v", headers=[("a", None), (5, b"x")])
    producer.produce(topic="t", on_delivery=len)
    assert engine_of(producer).produced == [
        ("t", b"value", b"key", 3, 7, (("a", b"b"),), print),
        ("t", b"v", None, -1, 0, (("a", None), ("5", b"x")), None),
        ("t", None, None, -1, 0, None, len),
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((), TypeError, "function missing required argument 'topic' (pos 1)"),
        ((5,), TypeError, "argument 1 must be str, not int"),
        ((None, "v"), TypeError, "argument 1 must be str, not None"),
        (("a\0b", b"v"), ValueError, "embedded null character"),
        (("t", 5), TypeError, "a bytes-like object is required, not 'int'"),
        (("t", bytearray(b"x")), TypeError, "argument 2 must be read-only bytes-like object, not bytearray"),
        (("t", b"v", 5), TypeError, "a bytes-like object is required, not 'int'"),
        (("t", b"v", None, "x"), TypeError, "'str' object cannot be interpreted as an integer"),
        (("t", b"v", None, -1, None, None, "x"), TypeError, "'str' object cannot be interpreted as an integer"),
        (
            ("t", b"v", None, -1, None, None, 0, 5),
            TypeError,
            "expected headers to be dict or list of (key, value) tuples, not int",
        ),
        (
            ("t", b"v", None, -1, None, None, 0, [1]),
            TypeError,
            "Headers are expected to be a list of (key, value) tuples",
        ),
        (
            ("t", b"v", None, -1, None, None, 0, [("a", 5)]),
            TypeError,
            "expected header value to be None, binary, or unicode string, not int",
        ),
    ],
)
def test_produce_refuses_wrong_arguments(
    producer: Producer, arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    """The C function's exceptions and words."""
    with pytest.raises(error) as caught:
        producer.produce(*arguments)
    assert str(caught.value) == text


def test_unknown_keyword_is_named(producer: Producer) -> None:
    """A C function names the keyword that it does not know."""
    with pytest.raises(TypeError, match="'foo' is an invalid keyword argument for this function"):
        producer.produce("t", foo=1)


def test_full_queue_is_a_buffer_error(producer: Producer) -> None:
    """The one refusal that has a class of its own."""
    engine_of(producer).answer = ErrorCode._QUEUE_FULL
    with pytest.raises(BufferError, match="Local: Queue full"):
        producer.produce("t", b"v")


def test_other_refusals_are_kafka_exceptions(producer: Producer) -> None:
    """Code and text of the refusal are in the exception's KafkaError."""
    engine_of(producer).answer = ErrorCode.MESSAGE_TOO_LARGE
    with pytest.raises(KafkaException) as caught:
        producer.produce("t", b"v")
    error = caught.value.args[0]
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert error.str() == "Unable to produce message: Broker: Message size too large"


def test_poll_serves_reports(producer: Producer) -> None:
    """A callback gets (error, message) for its own record; poll() counts reports, not records."""
    told: list[Any] = []
    for value in (b"a", b"b", b"c"):
        callback = None if value == b"b" else (lambda error, message: told.append((error, message)))
        producer.produce("t", value, callback=callback)
    assert len(producer) == 3
    engine_of(producer).deliver()
    assert len(producer) == 4  # Three messages and one report that waits.
    assert producer.poll(0) == 1
    assert [(error, message.value(), message.offset()) for error, message in told] == [
        (None, b"a", 100),
        (None, b"c", 102),
    ]
    assert len(producer) == 0
    assert producer.poll(0) == 0


def test_failed_delivery_is_told_with_its_error(producer: Producer) -> None:
    """The error is the callback's first argument and the message's own."""
    told: list[Any] = []
    producer.produce("t", b"v", on_delivery=lambda error, message: told.append((error, message)))
    engine_of(producer).deliver(ErrorCode._MSG_TIMED_OUT)
    producer.poll(0)
    error, message = told[0]
    assert error.code() == KafkaError._MSG_TIMED_OUT
    assert (message.error() is error, message.offset(), message.partition()) == (True, None, 0)
    assert message.timestamp() == (0, -1)


def test_configured_callback_and_errors_only(shells: list[FakeShell]) -> None:
    """on_delivery of the configuration is used where produce() has none; delivery.report.only.error hides successes."""
    told: list[Any] = []
    producer = Producer({"on_delivery": lambda error, message: told.append(error), "delivery.report.only.error": True})
    producer.produce("t", b"v")
    engine_of(producer).deliver()
    assert (producer.poll(0), told) == (1, [])
    producer.produce("t", b"v")
    engine_of(producer).deliver(ErrorCode._MSG_TIMED_OUT)
    producer.poll(0)
    assert told == [KafkaError._MSG_TIMED_OUT]


def test_poll_waits_for_the_first_event(producer: Producer) -> None:
    """poll() returns when something was served, or when its time is up."""
    producer.produce("t", b"v")
    shell_of(producer).at(0.5, engine_of(producer).deliver)
    assert producer.poll(2) == 1
    assert shell_of(producer).now_us == 500_000
    assert producer.poll(1.0) == 0
    assert (shell_of(producer).now_us, shell_of(producer).fruitless_calls) == (1_500_000, 1)


def test_exception_in_callback_leaves_the_rest_for_the_next_poll(producer: Producer) -> None:
    """poll() raises what the callback raised; no record's callback is lost or repeated."""
    told: list[bytes] = []

    def callback(error: Any, message: Any) -> None:
        told.append(message.value())
        if message.value() == b"1":
            raise ValueError("boom")

    for value in (b"0", b"1", b"2", b"3"):
        producer.produce("t", value, callback=callback)
    engine_of(producer).deliver()
    with pytest.raises(ValueError, match="boom"):
        producer.poll(0)
    assert told == [b"0", b"1"]
    assert len(producer) == 3  # Two messages and the report.
    assert producer.poll(0) == 1
    assert told == [b"0", b"1", b"2", b"3"]


def test_callback_may_poll_and_produce(producer: Producer) -> None:
    """A nested poll() serves what is behind, and the outer one goes on where it was."""
    told: list[bytes] = []

    def callback(error: Any, message: Any) -> None:
        told.append(message.value())
        if message.value() == b"0":
            producer.produce("t", b"later", callback=callback)
            engine_of(producer).deliver()
            producer.poll(0)

    producer.produce("t", b"0", callback=callback)
    producer.produce("t", b"1", callback=callback)
    engine_of(producer).deliver()
    producer.poll(0)
    assert told == [b"0", b"later", b"1"]


def test_flush_waits_for_everything_and_raises_last(producer: Producer) -> None:
    """flush() goes on after an exception in a callback and raises it at the end."""
    told: list[bytes] = []

    def callback(error: Any, message: Any) -> None:
        told.append(message.value())
        if message.value() == b"0":
            raise ValueError("boom")

    for value in (b"0", b"1"):
        producer.produce("t", value, callback=callback)
    shell_of(producer).at(1, engine_of(producer).deliver)
    with pytest.raises(ValueError, match="boom"):
        producer.flush()
    assert told == [b"0", b"1"]
    assert engine_of(producer).flushing == 0
    assert producer.flush() == 0


def test_flush_returns_what_is_left(producer: Producer) -> None:
    """When the time is up flush() says how many messages are outstanding."""
    producer.produce("t", b"v")
    assert producer.flush(0.5) == 1
    assert shell_of(producer).now_us == 500_000


def test_produce_batch(producer: Producer) -> None:
    """Dicts become messages; wrong ones raise; refused ones are marked."""
    entries: list[dict[str, Any]] = [{"value": "a", "key": b"k"}, {"value": b"b", "partition": 2, "callback": print}]
    assert producer.produce_batch("t", entries, callback=len) == 2
    assert engine_of(producer).produced == [
        ("t", b"a", b"k", -1, 0, None, len),
        ("t", b"b", None, 2, 0, None, print),
    ]
    for wrong, error, text in (
        (5, TypeError, "messages must be a list"),
        ([5], TypeError, "Message at index 0 must be a dict"),
        ([{"value": 5}], TypeError, "Message value at index 0 must be bytes or str"),
        ([{"key": 5}], TypeError, "Message key at index 0 must be bytes or str"),
        ([{"partition": "a"}], TypeError, "Message partition at index 0 must be int"),
        ([{"timestamp": 5}], NotImplementedError, "Message timestamps are not currently supported in batch mode"),
        ([{"headers": 5}], ValueError, "Invalid headers at index 0"),
    ):
        with pytest.raises(error) as caught:
            producer.produce_batch("t", wrong)  # type: ignore[arg-type]
        assert str(caught.value) == text
    engine_of(producer).answer = ErrorCode._QUEUE_FULL
    refused: list[dict[str, Any]] = [{"value": b"v"}]
    assert producer.produce_batch("t", refused) == 0
    assert refused[0]["_error"].str() == "Message failed: Local: Queue full"
    assert producer.produce_batch("t", []) == 0


def test_events_reach_their_callbacks(shells: list[FakeShell]) -> None:
    """error_cb and stats_cb run in poll(); an exception in one ends that poll; a fatal error is raised."""
    told: list[Any] = []
    producer = Producer({"error_cb": told.append, "stats_cb": told.append, "statistics.interval.ms": 5})
    engine_of(producer).events = [
        ClientEvent("error", ErrorCode._ALL_BROKERS_DOWN, "1/1 brokers are down"),
        ClientEvent("stats", text="{}"),
    ]
    assert producer.poll(0) == 2
    assert told[0].str() == "1/1 brokers are down"
    assert told[1] == "{}"
    engine_of(producer).events = [ClientEvent("error", ErrorCode._FENCED, "over", fatal=True)]
    with pytest.raises(KafkaException) as caught:
        producer.poll(0)
    assert (caught.value.args[0].fatal(), caught.value.args[0].code()) == (True, KafkaError._FENCED)


def test_purge_reports_what_it_dropped(producer: Producer) -> None:
    """purge() makes the engine give up; the next poll says which error."""
    told: list[Any] = []
    producer.produce("t", b"v", callback=lambda error, message: told.append(error.code()))
    producer.purge(in_flight=False)
    assert engine_of(producer).calls == [("purge", True, False)]
    producer.poll(0)
    assert told == [KafkaError._PURGE_QUEUE]


def test_closed_producer_refuses(producer: Producer) -> None:
    """Every call on a closed producer has the real client's RuntimeError, len is 0, close again is fine."""
    assert producer.close() is True
    for call in (
        lambda: producer.produce("t"),
        producer.poll,
        producer.flush,
        producer.purge,
        lambda: producer.produce_batch("t", [{}]),
        producer.begin_transaction,
    ):
        with pytest.raises(RuntimeError, match=r"^Producer has been closed$"):
            call()
    for call in (producer.list_topics, producer.cluster_id, lambda: producer.set_sasl_credentials("a", "b")):
        with pytest.raises(RuntimeError, match=r"^Handle has been closed$"):
            call()
    assert (producer.close(), len(producer), bool(producer)) == (True, 0, True)


def test_context_manager_delivers_and_closes(shells: list[FakeShell]) -> None:
    """Leaving the block flushes, then closes."""
    told: list[Any] = []
    with Producer({}) as producer:
        producer.produce("t", b"v", callback=lambda error, message: told.append(message.value()))
        shells[0].at(1, engine_of(producer).deliver)
    assert told == [b"v"]
    assert shells[0].is_closed
    with pytest.raises(TypeError, match="__exit__ expected 3 arguments, got 2"):
        Producer({"client.id": "x"}).__exit__(1, 2)


def test_transactions_say_that_they_are_not_there(shells: list[FakeShell]) -> None:
    """Without transactional.id as the real client; with one, a clear refusal that names the document."""
    plain = Producer({"client.id": "x"})
    with pytest.raises(KafkaException) as caught:
        plain.init_transactions()
    assert caught.value.args[0].code() == KafkaError._NOT_CONFIGURED
    transactional = Producer({"transactional.id": "x"})
    with pytest.raises(KafkaException, match=r"docs/fidelity\.md") as caught:
        transactional.init_transactions(1.0)
    assert caught.value.args[0].code() == KafkaError._NOT_IMPLEMENTED
    with pytest.raises(KafkaException, match="Operation not valid in state Init"):
        transactional.begin_transaction()


def test_second_init_is_refused(producer: Producer) -> None:
    """A client is initialised once."""
    with pytest.raises(RuntimeError, match="Producer already __init__:ialized"):
        producer.__init__({})  # type: ignore[misc]
