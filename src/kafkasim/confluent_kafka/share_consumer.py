"""ShareConsumer: the constructor and the methods, which say that share groups come later.

Mirrors:  cimpl.ShareConsumer (ShareConsumer.c; KIP-932).
Differs:  share groups are not simulated yet: the constructor checks its arguments and then raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kafkasim.confluent_kafka._arguments import c_arguments
from kafkasim.confluent_kafka._config import CONSUMER, settings_from
from kafkasim.confluent_kafka.errors import IllegalStateException, throw
from kafkasim.core.model.client_config import ClientConfig, ConfigError
from kafkasim.core.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafkasim.confluent_kafka.errors import KafkaException
    from kafkasim.confluent_kafka.message import Message
    from kafkasim.confluent_kafka.values import TopicPartition

Self = TypeVar("Self", bound="ShareConsumer")

SHARE_CONSUMER_CLOSED = "Share consumer closed"
_NOT_YET = "kafkasim does not simulate share groups yet, see docs/fidelity.md"


class ShareConsumer:
    """Consumer of a share group."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = {**(args[0] if args and isinstance(args[0], dict) else {}), **kwargs}
        if "on_commit" in given:
            raise ValueError("on_commit is not supported on ShareConsumer")
        settings = settings_from(CONSUMER, args, kwargs)
        try:
            ClientConfig.parse(CONSUMER, settings.properties)
        except ConfigError as problem:
            throw(problem.code, problem.text)
        throw(ErrorCode._NOT_IMPLEMENTED, _NOT_YET)

    def _refuse(self) -> Any:
        raise IllegalStateException(SHARE_CONSUMER_CLOSED)

    @c_arguments("O")
    def subscribe(self, topics: list[str]) -> None:
        """Not simulated yet."""
        self._refuse()

    def unsubscribe(self) -> None:
        """Not simulated yet."""
        self._refuse()

    def subscription(self) -> list[str]:
        """Not simulated yet."""
        subscribed: list[str] = self._refuse()
        return subscribed

    @c_arguments("|d")
    def poll(self, timeout: float = -1.0) -> Any:
        """Not simulated yet."""
        return self._refuse()

    @c_arguments("O|O")
    def acknowledge(self, message: Message, ack_type: Any = None) -> None:
        """Not simulated yet."""
        self._refuse()

    @c_arguments("siL|O")
    def acknowledge_offset(self, topic: str, partition: int, offset: int, ack_type: Any = None) -> None:
        """Not simulated yet."""
        self._refuse()

    @c_arguments("|d")
    def commit_sync(self, timeout: float = 60.0) -> dict[TopicPartition, KafkaException | None]:
        """Not simulated yet."""
        committed: dict[TopicPartition, KafkaException | None] = self._refuse()
        return committed

    def commit_async(self) -> None:
        """Not simulated yet."""
        self._refuse()

    @c_arguments("O")
    def set_acknowledgement_commit_callback(self, callback: Callable[..., Any] | None) -> None:
        """Not simulated yet."""
        self._refuse()

    @c_arguments("ss")
    def set_sasl_credentials(self, username: str, password: str) -> None:
        """Not simulated yet."""
        self._refuse()

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        if len(exc) != 3:
            raise TypeError(f"__exit__ expected 3 arguments, got {len(exc)}")


ShareConsumer.__module__ = "cimpl"
