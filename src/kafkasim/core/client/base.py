"""The lower half of every client: its timers, its events, its connections and what waits for them.

Mirrors:  rd_kafka_broker_t's thread, rd_kafka_timers_t and the event queue of librdkafka.
Inputs:   on_response, on_disconnect, on_deadline.      Effects: Send, Close.
Rule 1:   ``deadline_us`` is a lower bound that ``schedule`` lowers and ``on_deadline`` makes exact: inputs pay one comparison.
Rule 2:   a request to a broker that is backing off waits; one to a broker that refuses us fails with ``_TRANSPORT``.
Differs:  a connection is up when the first answer came (there is no ApiVersions exchange); idle ones are never closed.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from kafkasim.core.client.connections import Connection, Waiting
from kafkasim.core.client.operation import ERROR_EVENT, ClientEvent
from kafkasim.core.client.requests import Handler, Requests
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.effects import MAIN_CHANNEL, NEVER_US, Close, Effect
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, Draw, NodeId
from kafkasim.core.model.message import slotted

#: Bootstrap addresses that reach nothing get node ids of their own from here downwards.
_NOWHERE = -2


@slotted
class Timer:
    """A callback that is due at ``at_us``; ``cancel`` by setting ``callback`` to None."""

    at_us: int
    callback: Callable[[int], None] | None

    def cancel(self) -> None:
        self.callback = None


class _ClientRequests(Requests):
    """``Requests`` that tell the core when they give up a connection, before anybody sends on it again."""

    __slots__ = ("_core",)

    def __init__(self, outbox: list[Effect], core: ClientBase) -> None:
        super().__init__(outbox)
        self._core = core

    def on_deadline(self, now_us: int) -> None:
        while self.deadline_us <= now_us:
            _, correlation_id = heappop(self._deadlines)
            to, channel, handler = self._in_flight.pop(correlation_id)
            self._outbox.append(Close(to, channel))
            self._core._connection_lost(to, channel, now_us, "1 request(s) timed out: disconnect")
            lost = [key for key, entry in self._in_flight.items() if entry[0] == to and entry[1] == channel]
            handlers = [self._in_flight.pop(key)[2] for key in lost]
            handler(None, ErrorCode._TIMED_OUT, now_us)
            for other in handlers:
                other(None, ErrorCode._TRANSPORT, now_us)


class ClientBase:
    """Base of ``ClientCore``, which overrides ``start`` and the hooks at the end."""

    def __init__(
        self,
        node_id: NodeId,
        config: ClientConfig,
        bootstrap: tuple[NodeId, ...],
        draw: Draw,
        wall_offset_us: int,
    ) -> None:
        self.node_id = node_id
        self.config = config
        self.draw = draw
        self.wall_offset_us = wall_offset_us
        self.outbox: list[Effect] = []
        self.deadline_us = 0  # The shell calls on_deadline at once, which starts the client.
        self.wake = False
        self.closed = False
        self.requests: Requests = _ClientRequests(self.outbox, self)
        self.fatal_error: ErrorCode = ErrorCode.NONE
        self.fatal_text = ""

        self._started = False
        self._timers: list[tuple[int, int, Timer]] = []
        self._timer_count = 0
        self._events: list[ClientEvent] = []
        self._connections: dict[tuple[NodeId, int], Connection] = {}
        self._bootstrap = _bootstrap_names(config, bootstrap)
        self._broker_names: dict[NodeId, str] = dict(self._bootstrap)
        self._metadata_asked: dict[NodeId, int] = {}
        self._socket_timeout_us = config.ms("socket.timeout.ms") * 1000
        self._retry_base_us = config.ms("retry.backoff.ms") * 1000
        self._retry_max_us = config.ms("retry.backoff.max.ms") * 1000

    # --- Inputs ----------------------------------------------------------------------------------------------------

    def on_response(self, peer: NodeId, channel: int, correlation_id: int, response: Any, now_us: int) -> None:
        connection = self._connections.get((peer, channel))
        if connection is not None and not connection.is_up:
            self._connection_up(connection, now_us)
        self.requests.on_response(correlation_id, response, now_us)

    def on_disconnect(self, peer: NodeId, channel: int, now_us: int) -> None:
        self._connection_lost(peer, channel, now_us, None)
        self.requests.on_disconnect(peer, channel, now_us)

    def on_deadline(self, now_us: int) -> None:
        if not self._started:
            self.start(now_us)
        self.requests.on_deadline(now_us)
        timers = self._timers
        while timers and timers[0][0] <= now_us:
            timer = heappop(timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback(now_us)
        while timers and timers[0][2].callback is None:
            heappop(timers)
        next_timer_us = timers[0][0] if timers else NEVER_US
        self.deadline_us = min(next_timer_us, self.requests.deadline_us)

    def close(self, now_us: int) -> None:
        """Forget everything; nothing is sent any more. An engine ends its own business first."""
        self.closed = True
        self._timers.clear()
        for connection in self._connections.values():
            if connection.is_open:
                self.outbox.append(Close(connection.node, connection.channel))
            connection.is_open = connection.is_up = False
            connection.waiting.clear()
        self.requests = _ClientRequests(self.outbox, self)
        self.deadline_us = NEVER_US
        self.wake = True

    # --- Timers ----------------------------------------------------------------------------------------------------

    def schedule(self, at_us: int) -> None:
        """Have ``on_deadline`` called at ``at_us`` at the latest."""
        if at_us < self.deadline_us:
            self.deadline_us = at_us

    def call_at(self, at_us: int, callback: Callable[[int], None]) -> Timer:
        """Call ``callback(now_us)`` at ``at_us``, unless the timer is cancelled."""
        timer = Timer(at_us, callback)
        self._timer_count += 1
        heappush(self._timers, (at_us, self._timer_count, timer))
        if at_us < self.deadline_us:
            self.deadline_us = at_us
        return timer

    def _every(self, interval_us: int, callback: Callable[[int], None], now_us: int) -> None:
        def again(at_us: int) -> None:
            self.call_at(at_us + interval_us, again)
            callback(at_us)

        self.call_at(now_us + interval_us, again)

    def retry_backoff_us(self, attempt: int) -> int:
        """Wait before retry ``attempt`` (from 1): retry.backoff.ms doubled up to its maximum, 20 % of jitter either way."""
        backoff_us = min(self._retry_base_us << min(max(attempt - 1, 0), 20), self._retry_max_us)
        return min(backoff_us * (80 + self.draw("retry.backoff", 41)) // 100, self._retry_max_us)

    def wall_ms(self, now_us: int) -> int:
        """The wall clock, in ms since 1970."""
        return (now_us + self.wall_offset_us) // 1000

    # --- Events ----------------------------------------------------------------------------------------------------

    def take_events(self) -> list[ClientEvent]:
        events, self._events = self._events, []
        return events

    @property
    def event_count(self) -> int:
        return len(self._events)

    def emit(self, event: ClientEvent) -> None:
        self._events.append(event)
        self.wake = True

    def emit_error(self, code: ErrorCode, text: str, fatal: bool = False) -> None:
        self.emit(ClientEvent(ERROR_EVENT, code, text, fatal))

    def become_fatal(self, code: ErrorCode, text: str) -> None:
        """The first fatal error stays; it is told as ``_FATAL``'s cause."""
        if self.fatal_error == ErrorCode.NONE:
            self.fatal_error, self.fatal_text = code, text
            self.tell_fatal()

    def tell_fatal(self) -> None:
        """Tell the application of ``fatal_error``."""
        self.emit_error(self.fatal_error, self.fatal_text, fatal=True)

    # --- Sending ---------------------------------------------------------------------------------------------------

    def send(
        self,
        to: NodeId,
        request: Any,
        handler: Handler,
        *,
        now_us: int,
        timeout_us: int | None = None,
        channel: int = MAIN_CHANNEL,
    ) -> int:
        """Send ``request``, or keep it until the connection may be tried again.

        ``handler(response, error, now_us)`` is called once, never from here. Returns the correlation id for
        ``requests.forget``; 0 if the request has to wait.
        """
        expires_us = now_us + (self._socket_timeout_us if timeout_us is None else timeout_us)
        connection = self._connections.get((to, channel))
        if connection is None:
            connection = self._connections[(to, channel)] = Connection(to, channel)
        if not connection.is_open:
            if connection.ready_us > now_us:
                self._wait(connection, Waiting(request, handler, expires_us))
                return 0
            self._open(connection, now_us)
        if to < 0:
            self._wait(connection, Waiting(request, handler, expires_us))
            self.call_at(now_us, lambda at_us: self._fail_nowhere(connection, at_us))
            return 0
        if expires_us < self.deadline_us:
            self.deadline_us = expires_us
        return self.requests.send(to, request, handler, timeout_us=expires_us - now_us, now_us=now_us, channel=channel)

    def send_unanswered(self, to: NodeId, request: Any) -> None:
        """Send what is never answered, over a connection that is up."""
        assert self.is_up(to)
        self.requests.send_unanswered(to, request)

    def send_to_any(self, request: Any, handler: Handler, *, now_us: int, timeout_us: int | None = None) -> bool:
        """Send to some broker that is up or may be tried; False (and nothing sent) if there is none at the moment."""
        to = self.any_broker(now_us)
        if to is None:
            return False
        self.send(to, request, handler, now_us=now_us, timeout_us=timeout_us)
        return True

    def any_broker(self, now_us: int) -> NodeId | None:
        """A broker whose connection is up; else one that may be tried now, the one tried longest ago first."""
        up = [node for node in self._broker_names if self.is_up(node)]
        if up:
            up = [
                node for node in up if not self._metadata_asked.get(node)
            ] or up  # One that owes an answer may be stuck.
            return up[self.draw("broker.any", len(up))] if len(up) > 1 else up[0]
        best: NodeId | None = None
        best_attempt_us = 0
        for node in self._broker_names:
            connection = self._connections.get((node, MAIN_CHANNEL))
            if connection is None:
                return node
            may_try = connection.is_open or connection.ready_us <= now_us
            if may_try and (best is None or connection.attempt_us < best_attempt_us):
                best, best_attempt_us = node, connection.attempt_us
        return best

    def any_broker_at_us(self) -> int:
        """When ``any_broker`` finds one at the latest."""
        ready = [self._connections[(node, MAIN_CHANNEL)].ready_us for node in self._broker_names]
        return min(ready, default=NEVER_US)

    def is_up(self, node: NodeId, channel: int = MAIN_CHANNEL) -> bool:
        connection = self._connections.get((node, channel))
        return connection is not None and connection.is_up

    def ready_us(self, node: NodeId, channel: int = MAIN_CHANNEL) -> int:
        """0 if a request to ``node`` would leave at once, else when its connection may be tried again."""
        connection = self._connections.get((node, channel))
        return 0 if connection is None or connection.is_open else connection.ready_us

    def broker_name(self, node: NodeId) -> str:
        return self._broker_names.get(node, f"{node}")

    def _wait(self, connection: Connection, waiting: Waiting) -> None:
        connection.waiting.append(waiting)
        at_us = min(connection.ready_us, waiting.expires_us)
        self.call_at(at_us, lambda now_us: self._send_waiting(connection, now_us))

    def _send_waiting(self, connection: Connection, now_us: int) -> None:
        waiting, connection.waiting = connection.waiting, []
        for each in waiting:
            if each.expires_us <= now_us:
                each.handler(None, ErrorCode._TIMED_OUT_QUEUE, now_us)
            else:
                self.send(
                    connection.node,
                    each.request,
                    each.handler,
                    now_us=now_us,
                    timeout_us=each.expires_us - now_us,
                    channel=connection.channel,
                )

    def _open(self, connection: Connection, now_us: int) -> None:
        config = self.config
        connection.begin_attempt(
            config.ms("reconnect.backoff.ms"), config.ms("reconnect.backoff.max.ms"), self.draw, now_us
        )
        setup_us = config.ms("socket.connection.setup.timeout.ms") * 1000
        if setup_us > 0 and connection.node >= 0:
            attempt_us = connection.attempt_us
            self.call_at(now_us + setup_us, lambda at_us: self._setup_timed_out(connection, attempt_us, at_us))

    def _setup_timed_out(self, connection: Connection, attempt_us: int, now_us: int) -> None:
        if connection.is_open and not connection.is_up and connection.attempt_us == attempt_us:
            self.outbox.append(Close(connection.node, connection.channel))
            self._connection_lost(
                connection.node, connection.channel, now_us, "Connection setup timed out in state CONNECT"
            )
            self.requests.on_disconnect(connection.node, connection.channel, now_us)

    def _fail_nowhere(self, connection: Connection, now_us: int) -> None:
        """The address leads nowhere: refuse as a host without a listener does."""
        waiting, connection.waiting = connection.waiting, []
        if connection.is_open:
            self._connection_lost(connection.node, connection.channel, now_us, None)
        for each in waiting:
            each.handler(None, ErrorCode._TRANSPORT, now_us)

    # --- Connections that come and go ------------------------------------------------------------------------------

    def _connection_up(self, connection: Connection, now_us: int) -> None:
        connection.is_up, connection.state_us = True, now_us
        if connection.counts:
            for other in self._connections.values():
                other.down_reported = False
        self.on_connection(connection.node, connection.channel, True, now_us)
        self._after_up(now_us)

    def _connection_lost(self, node: NodeId, channel: int, now_us: int, reason: str | None) -> None:
        connection = self._connections.get((node, channel))
        if connection is None or not connection.is_open:
            return
        was_up = connection.is_up
        connection.is_open = connection.is_up = False
        self._tell_lost(connection, was_up, reason, now_us)
        connection.state_us = now_us
        if connection.counts:
            self._after_down(now_us)
        self.on_connection(node, channel, False, now_us)

    def _tell_lost(self, connection: Connection, was_up: bool, reason: str | None, now_us: int) -> None:
        """A broken connection is only logged; a failed attempt and a timeout are told to the application."""
        if self.closed:
            return
        name = self._broker_names.get(connection.node, str(connection.node))
        address = name.rsplit("/", 1)[0]
        if connection.channel != MAIN_CHANNEL:
            name = f"GroupCoordinator: {address}"
        if not was_up and reason is None:
            reason = f"Connect to ipv4#{address} failed: Connection refused"
        if reason is not None:
            text = connection.error_text(name, reason, "UP" if was_up else "CONNECT", now_us)
            if text is not None:
                code = ErrorCode._TIMED_OUT if was_up else ErrorCode._TRANSPORT
                self.emit_error(code, text)
        if connection.counts and not connection.down_reported:
            connection.down_reported = True
            self._check_all_down()

    def _check_all_down(self) -> None:
        count = len(self._broker_names)
        for node in self._broker_names:
            connection = self._connections.get((node, MAIN_CHANNEL))
            if connection is None or not connection.down_reported:
                return
        self.emit_error(ErrorCode._ALL_BROKERS_DOWN, f"{count}/{count} brokers are down")
        for node, name in self._bootstrap.items():  # Start over from the bootstrap servers (KIP-899).
            self._broker_names.setdefault(node, name)

    # --- What the core adds ------------------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        """Connect to the cluster."""
        raise NotImplementedError

    def on_connection(self, node: NodeId, channel: int, is_up: bool, now_us: int) -> None:
        """A connection came up (its first answer is about to be handled) or is gone."""

    def _after_up(self, now_us: int) -> None:
        """A connection is up."""

    def _after_down(self, now_us: int) -> None:
        """A connection to a broker broke, or could not be made."""


def _bootstrap_names(config: ClientConfig, bootstrap: tuple[NodeId, ...]) -> dict[NodeId, str]:
    """Node of every bootstrap address and what it is called until metadata tell its id."""
    given = config["bootstrap.servers"] or ""
    addresses = [address.strip() for address in str(given).split(",") if address.strip()]
    names: dict[NodeId, str] = {}
    for index, node in enumerate(bootstrap):
        address = addresses[index] if index < len(addresses) else "localhost:9092"
        address = address.rsplit("://", 1)[-1]
        if ":" not in address:
            address += ":9092"
        names[_NOWHERE - index if node == NO_NODE else node] = f"{address}/bootstrap"
    return names
