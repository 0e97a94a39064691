"""ShareConsumer: thin over the engine of a share consumer.

Mirrors:  cimpl.ShareConsumer (ShareConsumer.c; KIP-932).
Rule 1:   the acknowledgement commit callback runs in poll(), commit_sync(), commit_async() and close() of the calling task, at
          the beginning and at the end of each; inside it no other method may be called.
Rule 2:   poll() returns all records of one fetch, or nothing; it looks after callbacks every 0.2 s, as the binding does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kafkasim.confluent_kafka._arguments import c_arguments
from kafkasim.confluent_kafka._config import CONSUMER, settings_from, warn_of_unmodelled
from kafkasim.confluent_kafka._handle import POLL_CHUNK_US, Handle, timeout_us
from kafkasim.confluent_kafka._shell import open_shell
from kafkasim.confluent_kafka.errors import (
    IllegalStateException,
    KafkaError,
    KafkaException,
    error_text,
    throw,
)
from kafkasim.confluent_kafka.message import BatchSource, Message, SharedMessage
from kafkasim.confluent_kafka.values import TopicPartition
from kafkasim.core.client.items import ConsumerError
from kafkasim.core.client.operation import ClientEvent
from kafkasim.core.model.client_config import SHARE_CONSUMER, ClientConfig, ConfigError
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition as Partition

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from kafkasim.core.client.share_acks import ShareRun
    from kafkasim.sim.drive import ClientShell

Self = TypeVar("Self", bound="ShareConsumer")

SHARE_CONSUMER_CLOSED = "Share consumer closed"
_IN_CALLBACK = "Share consumer methods are not accessible from user-defined acknowledgement commit callback"
_ACCEPT = 1


class ShareConsumer(Handle):
    """Consumer of a share group."""

    __slots__ = ("_callback", "_in_callback")

    _events: deque[ClientEvent]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if getattr(self, "_shell", None) is not None:
            raise RuntimeError("ShareConsumer already initialized")
        self._shell = None
        self._callback: Callable[..., Any] | None = None
        self._in_callback = False
        given = {**(args[0] if args and isinstance(args[0], dict) else {}), **kwargs}
        if "on_commit" in given:
            raise ValueError("on_commit is not supported on ShareConsumer")
        self._open(SHARE_CONSUMER, args, kwargs)

    def _open(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        settings = settings_from(CONSUMER, args, kwargs)
        try:
            config = ClientConfig.parse(kind, settings.properties)
        except ConfigError as problem:
            if problem.text.startswith("Failed to create share consumer"):
                raise ValueError(problem.text) from None
            throw(problem.code, problem.text)
        warn_of_unmodelled(config.unmodelled)
        self._settings = settings
        shell = open_shell(kind, config)
        self._shell = shell
        self._engine = shell.engine
        from collections import deque

        self._events = deque(ClientEvent("log", text=text) for text in config.warnings if settings.logger)

    def _open_shell(self) -> ClientShell:
        if self._shell is None:
            raise IllegalStateException(SHARE_CONSUMER_CLOSED)
        return self._shell

    def _require_open(self, message: str = SHARE_CONSUMER_CLOSED) -> ClientShell:
        return self._open_shell()

    def _require_outside_callback(self) -> None:
        if self._in_callback:
            raise IllegalStateException(_IN_CALLBACK)

    def _refuse(self, error: ErrorCode, text: str) -> None:
        """Raise what the binding makes of a librdkafka error."""
        if error is ErrorCode._STATE:
            raise IllegalStateException(text)
        if error is ErrorCode._INVALID_ARG:
            raise ValueError(text)
        if error is not ErrorCode.NONE:
            throw(error, text)

    # --- Subscription ------------------------------------------------------------------------------------------------

    @c_arguments("O")
    def subscribe(self, topics: list[str]) -> None:
        """Join the share group with exactly these topics; an empty list leaves it."""
        shell = self._open_shell()
        if not isinstance(topics, list):
            raise TypeError("expected list of topic unicode strings")
        names = [str(topic) for topic in topics]
        error = ErrorCode._STATE if self._in_callback else shell.call(self._engine.subscribe, names)
        self._refuse(error, f"Failed to subscribe: {error_text(error)}")

    def unsubscribe(self) -> None:
        """Leave the group; what was acquired stays acquired."""
        shell = self._open_shell()
        if self._in_callback:
            self._refuse(ErrorCode._STATE, f"Failed to unsubscribe: {error_text(ErrorCode._STATE)}")
        shell.call(self._engine.unsubscribe)

    def subscription(self) -> list[str]:
        """The topics that were subscribed to."""
        self._open_shell()
        names: list[str] = self._engine.subscription()
        return names

    # --- Records -----------------------------------------------------------------------------------------------------

    @c_arguments("|d")
    def poll(self, timeout: float = -1.0) -> Any:
        """The records of one fetch, within ``timeout`` seconds; none if there are none. Sends what was acknowledged."""
        shell = self._open_shell()
        self._require_outside_callback()
        deadline_us = shell.now_us + timeout_us(timeout)
        found: list[Message] = []
        while not found:
            self._serve_callbacks()
            error, text = shell.call(self._engine.poll)
            self._refuse(error, text)
            remaining_us = deadline_us - shell.now_us
            if not self._engine.has_items() and remaining_us > 0:
                shell.wait(self._engine.has_items, min(remaining_us, POLL_CHUNK_US))
            found = self._taken(shell.call(self._engine.take))
            self._serve_callbacks()
            if deadline_us <= shell.now_us or self._shell is None:
                break
        if not found:
            shell.fruitless()
        return _messages(found)

    def _taken(self, taken: list[ShareRun] | ConsumerError) -> list[Message]:
        if isinstance(taken, ConsumerError):
            throw(taken.code, taken.text, retriable=1)
        messages: list[Message] = []
        for run in taken:
            source = BatchSource(run.tp[0], run.tp[1], run.batch, delivery_count=run.delivery_count)
            messages += [SharedMessage(source, index) for index in range(run.start, run.stop)]
        return messages

    def _serve_callbacks(self) -> None:
        while self._gather_events():
            self._serve_event(self._events.popleft())
        engine = self._engine
        while engine.commits and self._callback is not None:
            tp, offsets, error = engine.commits.pop(0)
            exception = None if error is ErrorCode.NONE else KafkaException(KafkaError(int(error)))
            self._in_callback = True
            try:
                self._callback({TopicPartition._made(tp[0], tp[1]): set(offsets)}, exception)
            finally:
                self._in_callback = False

    # --- Acknowledgements --------------------------------------------------------------------------------------------

    @c_arguments("O|i", names=("message", "ack_type"))
    def acknowledge(self, message: Message, ack_type: int = _ACCEPT) -> None:
        """Say what became of a record of the last poll; explicit mode only."""
        shell = self._open_shell()
        if not isinstance(message, Message):
            name = "None" if message is None else type(message).__name__
            raise TypeError(f"argument 1 must be confluent_kafka.cimpl.Message, not {name}")
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        error = ErrorCode._INVALID_ARG
        if topic is not None:
            error = self._acknowledge(shell, topic, _number(partition), _number(offset), ack_type)
        self._refuse(error, f"Failed to acknowledge message: {error_text(error)}")

    @c_arguments("siL|i")
    def acknowledge_offset(self, topic: str, partition: int, offset: int, ack_type: int = _ACCEPT) -> None:
        """The same by topic, partition and offset."""
        shell = self._open_shell()
        error = self._acknowledge(shell, topic, partition, offset, ack_type)
        self._refuse(error, f"Failed to acknowledge offset: {error_text(error)}")

    def _acknowledge(self, shell: ClientShell, topic: str, partition: int, offset: int, kind: int) -> ErrorCode:
        if self._in_callback:
            return ErrorCode._STATE
        error: ErrorCode = self._engine.acknowledge(Partition(topic, partition), offset, kind)
        return error

    @c_arguments("|d")
    def commit_sync(self, timeout: float = 60.0) -> dict[TopicPartition, KafkaException | None]:
        """Send what was acknowledged, and wait: the outcome of each partition."""
        shell = self._open_shell()
        self._require_outside_callback()
        self._serve_callbacks()
        operation = self._wait_for(shell.call(self._engine.commit_sync, timeout_us(timeout)))
        self._serve_callbacks()
        outcomes: dict[TopicPartition, KafkaException | None] = {}
        for tp, error in operation.result:
            failure = None if error is ErrorCode.NONE else KafkaException(KafkaError(int(error)))
            outcomes[TopicPartition._made(tp[0], tp[1], 0, error=None if failure is None else failure.args[0])] = (
                failure
            )
        return outcomes

    def commit_async(self) -> None:
        """Send what was acknowledged; the callback hears of the outcome in a later call."""
        shell = self._open_shell()
        self._require_outside_callback()
        self._serve_callbacks()
        shell.call(self._engine.commit_async)

    @c_arguments("O")
    def set_acknowledgement_commit_callback(self, callback: Callable[..., Any] | None) -> None:
        """``callback(offsets by partition, exception or None)`` for every partition whose acknowledgements were answered."""
        self._open_shell()
        if callback is not None and not callable(callback):
            raise TypeError("callback must be callable or None")
        self._require_outside_callback()
        self._callback = callback
        self._engine.tells_commits = callback is not None

    # --- The end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what was acknowledged, give the rest back, leave the group."""
        shell = self._shell
        if shell is None:
            return
        self._require_outside_callback()
        self._wait_for(shell.call(self._engine.close_begin))
        self._serve_callbacks()
        shell.call(self._engine.close)
        shell.close()
        self._shell = None

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        if len(exc) != 3:
            raise TypeError(f"__exit__ expected 3 arguments, got {len(exc)}")
        self.close()


def _number(value: int | None) -> int:
    return -1 if value is None else value


def _messages(found: list[Message]) -> Any:
    """The list class of the client's Python layer; a plain list where that is not installed."""
    try:
        from kafkasim.confluent_kafka import Messages
    except ImportError:
        return found
    messages: Any = Messages
    return messages._from_list(found)


ShareConsumer.__module__ = "cimpl"
