"""What all clients have in common: construction, events, metadata, being closed.

Mirrors:  Handle of confluent_kafka.h; list_topics and cluster_id of Metadata.c.
Rule 1:   callbacks run in the call that the application makes (poll, flush, consume, close), never from the kernel.
Rule 2:   an exception in a callback ends the call that ran it, once that call has done what it must.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from kafkasim.confluent_kafka._arguments import c_arguments, timeout_ms
from kafkasim.confluent_kafka._config import ClientSettings, settings_from, warn_of_unmodelled
from kafkasim.confluent_kafka._shell import open_shell
from kafkasim.confluent_kafka.errors import KafkaError, error_text, throw
from kafkasim.core.client.operation import ClientEvent
from kafkasim.core.model.client_config import ClientConfig, ConfigError
from kafkasim.core.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafkasim.core.client.operation import Operation
    from kafkasim.sim.drive import ClientShell

HANDLE_CLOSED = "Handle has been closed"

#: Long enough to be for ever, short enough to add to.
FOREVER_US = 1 << 50

#: What the binding cuts a wait of that much or more into, to look for signals in between.
POLL_CHUNK_US = 200_000

#: logging.WARNING, which is what librdkafka's syslog level 4 becomes.
_WARNING = 30


def timeout_us(seconds: float) -> int:
    """A timeout for an engine: whole milliseconds, as the C code passes them, in microseconds."""
    milliseconds = timeout_ms(seconds)
    return FOREVER_US if milliseconds < 0 else milliseconds * 1000


class Handle:
    """What every client is underneath."""

    __slots__ = ("_engine", "_events", "_settings", "_shell")

    _engine: Any
    _shell: ClientShell | None
    _settings: ClientSettings
    _events: deque[ClientEvent]

    def _open(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        settings = settings_from(kind, args, kwargs)
        try:
            config = ClientConfig.parse(kind, settings.properties)
        except ConfigError as problem:
            throw(problem.code, problem.text)
        warn_of_unmodelled(config.unmodelled)
        self._settings = settings
        self._events = deque()
        shell = open_shell(kind, config)
        self._shell = shell
        self._engine = shell.engine
        self._events.extend(ClientEvent("log", text=text) for text in config.warnings if settings.logger)

    def _require_open(self, message: str = HANDLE_CLOSED) -> ClientShell:
        shell = self._shell
        if shell is None:
            raise RuntimeError(message)
        return shell

    # --- Events ----------------------------------------------------------------------------------------------------

    def _gather_events(self) -> bool:
        """Take the engine's events; True if there are any to serve. Runs no user code."""
        if self._engine.event_count:
            self._events.extend(self._engine.take_events())
        return bool(self._events)

    def _serve_event(self, event: ClientEvent) -> bool:
        """Tell the application about one event; False if nobody wanted to know."""
        return _EVENT_SERVERS[event.kind](self, event)

    def _serve_error(self, event: ClientEvent) -> bool:
        if event.fatal:
            throw(event.code, event.text, fatal=1)
        callback = self._settings.error_cb
        if callback is not None:
            callback(KafkaError(int(event.code), event.text or error_text(event.code)))
        return True

    def _serve_stats(self, event: ClientEvent) -> bool:
        if self._settings.stats_cb is None:
            return False
        self._settings.stats_cb(event.text)
        return True

    def _serve_throttle(self, event: ClientEvent) -> bool:
        callback = self._settings.throttle_cb
        if callback is None:
            return False
        from kafkasim.confluent_kafka import ThrottleEvent

        name, node_id, throttle_ms = getattr(event, "throttle", ("", -1, 0))
        callback(ThrottleEvent(name, node_id, throttle_ms / 1000))
        return True

    def _serve_log(self, event: ClientEvent) -> bool:
        logger = self._settings.logger
        if logger is None:
            return False
        logger.log(_WARNING, "%s [%s] %s", "CONFWARN", self._require_open().name, f"[thrd:app]: {event.text}")
        return True

    # --- Waiting ---------------------------------------------------------------------------------------------------

    def _wait_for(self, operation: Operation) -> Operation:
        """Block until ``operation`` is over; it has a deadline of its own."""
        if not operation.done:
            self._require_open().wait(lambda: operation.done, None)
        return operation

    def _finished(self, operation: Operation, prefix: str) -> Any:
        """The result of an operation, or its KafkaException with librdkafka's text behind ``prefix``."""
        self._wait_for(operation)
        if operation.error:
            throw(operation.error, prefix + error_text(operation.error))
        return operation.result

    # --- What every client offers ----------------------------------------------------------------------------------

    @c_arguments("ss")
    def set_sasl_credentials(self, username: str, password: str) -> None:
        """Accepted and forgotten: simulated brokers ask for no credentials."""
        self._require_open()


class ClientHandle(Handle):
    """Base of the client classes that can ask for metadata."""

    __slots__ = ()

    @c_arguments("|zd")
    def list_topics(self, topic: str | None = None, timeout: float = -1.0) -> Any:
        """Ask the cluster for its brokers and topics (or one topic): a ClusterMetadata."""
        from kafkasim.confluent_kafka._metadata import cluster_metadata

        shell = self._require_open()
        operation = shell.call(self._engine.cluster_metadata, topic, timeout_us(timeout))
        return cluster_metadata(self._finished(operation, "Failed to get metadata: "))

    @c_arguments("|d")
    def cluster_id(self, timeout: float = -1.0) -> str:
        """Id of the cluster, as metadata told it."""
        shell = self._require_open()
        metadata = self._engine.metadata
        if not metadata.cluster_id and not shell.wait(lambda: metadata.cluster_id, timeout_us(timeout)):
            throw(
                ErrorCode._TIMED_OUT,
                f"Failed to retrieve cluster id: {error_text(ErrorCode._TIMED_OUT)}. The broker must support "
                "KIP-78 (>= 0.10.1) for the cluster id to be available.",
            )
        return str(metadata.cluster_id)


_EVENT_SERVERS: dict[str, Callable[[Handle, ClientEvent], bool]] = {
    "error": Handle._serve_error,
    "stats": Handle._serve_stats,
    "throttle": Handle._serve_throttle,
    "log": Handle._serve_log,
}
