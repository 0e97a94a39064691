"""What every client engine stands on: requests, connections, metadata, timers and events of one librdkafka instance.

Mirrors:  rd_kafka_t and its main thread, rd_kafka_broker_t (any, connect_any, 1 s scan), rdkafka_metadata.c.
Inputs:   on_response, on_disconnect, on_deadline, cluster_metadata, close.      Effects: Send, Close, Note.
Rule 1:   ``deadline_us`` is a lower bound that ``schedule`` lowers and ``on_deadline`` makes exact: inputs pay one comparison.
Rule 2:   a request to a broker that is backing off waits; one to a broker that refuses us fails with ``_TRANSPORT``.
Rule 3:   while all is well nothing runs but the refresh of metadata and statistics: the scan of topics stops itself.
Differs:  a connection is up when the first answer came (there is no ApiVersions exchange); idle ones are never closed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

import attrs

from kafkasim.core.client.connections import Connection, Waiting
from kafkasim.core.client.metadata import EXISTS, MetadataCache
from kafkasim.core.client.operation import ERROR_EVENT, STATS_EVENT, ClientEvent, Operation
from kafkasim.core.client.requests import Handler, Requests
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.effects import MAIN_CHANNEL, NEVER_US, Close, Effect
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_LEADER, NO_NODE, Draw, NodeId, TopicPartition
from kafkasim.core.model.messages import MetadataRequest, MetadataResponse, TopicMetadata

_SCAN_INTERVAL_US = 1_000_000
#: Bootstrap addresses that reach nothing get node ids of their own from here downwards.
_NOWHERE = -2


@attrs.define(slots=True, eq=False)
class Timer:
    """A callback that is due at ``at_us``; ``cancel`` by setting ``callback`` to None."""

    at_us: int
    callback: Callable[[int], None] | None

    def cancel(self) -> None:
        self.callback = None


class _ClientRequests(Requests):
    """``Requests`` that tell the core when they give up a connection, before anybody sends on it again."""

    __slots__ = ("_core",)

    def __init__(self, outbox: list[Effect], core: ClientCore) -> None:
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


class ClientCore:
    """Base of the engines, which override the hooks ``on_start``, ``on_metadata``, ``on_connection`` and ``stats``."""

    #: What statistics call this client.
    KIND = "producer"

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
        self.metadata = MetadataCache(config.ms("topic.metadata.propagation.max.ms") * 1000)
        self.wanted_topics: dict[str, None] = {}
        #: An engine sets this (a pattern subscription) to have every refresh list all topics.
        self.wants_all_topics = False
        self.fatal_error: ErrorCode = ErrorCode.NONE
        self.fatal_text = ""

        self._started = False
        self._timers: list[tuple[int, int, Timer]] = []
        self._timer_count = 0
        self._events: list[ClientEvent] = []
        self._connections: dict[tuple[NodeId, int], Connection] = {}
        self._bootstrap = _bootstrap_names(config, bootstrap)
        self._broker_names: dict[NodeId, str] = dict(self._bootstrap)
        self._socket_timeout_us = config.ms("socket.timeout.ms") * 1000
        self._retry_base_us = config.ms("retry.backoff.ms") * 1000
        self._retry_max_us = config.ms("retry.backoff.max.ms") * 1000

        self._topics_in_flight: dict[str, int] = {}  # When each was asked for.
        self._metadata_asked: dict[NodeId, int] = {}
        self._pending_topics: dict[str, None] = {}
        self._pending_brokers = False
        self._pending_all = False
        self._all_in_flight = False
        self._refresh_attempt = 0
        self._refresh_timer: Timer | None = None
        self._fast_timer: Timer | None = None
        self._fast_attempt = 0
        self._scan_timer: Timer | None = None

    # --- Hooks of an engine ----------------------------------------------------------------------------------------

    def on_start(self, now_us: int) -> None:
        """The client runs: called once, before anything else."""

    def on_metadata(self, changed: list[str], is_full: bool, now_us: int) -> None:
        """An answer came; metadata of ``changed`` topics differ now. ``is_full``: it listed all topics."""

    def on_connection(self, node: NodeId, channel: int, is_up: bool, now_us: int) -> None:
        """A connection came up (its first answer is about to be handled) or is gone."""

    def stats(self, now_us: int) -> dict[str, Any]:
        """What the engine adds to the statistics."""
        return {}

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

    def start(self, now_us: int) -> None:
        """Connect to the cluster. Every input does this first; a second call does nothing."""
        if self._started:
            return
        self._started = True
        self.on_start(now_us)
        self._pending_brokers = True
        self._pump_metadata(now_us)
        interval_us = self.config.ms("topic.metadata.refresh.interval.ms") * 1000
        if interval_us > 0:
            self._every(interval_us, self._refresh_known, now_us)
        interval_us = self.config.ms("statistics.interval.ms") * 1000
        if interval_us > 0:
            self._every(interval_us, self._emit_stats, now_us)

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
            self.emit_error(code, text, fatal=True)

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

    def connect(self, to: NodeId, now_us: int) -> None:
        """Bring the connection to ``to`` up, if nobody does yet; ``on_connection`` tells when it is."""
        connection = self._connections.get((to, MAIN_CHANNEL))
        if connection is None or not (connection.is_open or connection.waiting or connection.ready_us > now_us):
            self._send_metadata(to, (), (), now_us)

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
        if self._pending_topics or self._pending_brokers or self._pending_all:
            self._pump_metadata(now_us)

    def _connection_lost(self, node: NodeId, channel: int, now_us: int, reason: str | None) -> None:
        connection = self._connections.get((node, channel))
        if connection is None or not connection.is_open:
            return
        was_up = connection.is_up
        connection.is_open = connection.is_up = False
        self._tell_lost(connection, was_up, reason, now_us)
        connection.state_us = now_us
        if was_up and connection.counts:
            self._start_scan(now_us)
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

    # --- Metadata --------------------------------------------------------------------------------------------------

    def want_topic(self, name: str, now_us: int) -> None:
        """Keep the metadata of ``name`` fresh from now on."""
        self.start(now_us)
        topic = self.metadata.want(name, now_us)
        if name not in self.wanted_topics:
            self.wanted_topics[name] = None
            if topic.state != EXISTS:
                self.refresh_topics((name,), now_us)
                self._start_scan(now_us)

    def forget_topic(self, name: str) -> None:
        self.wanted_topics.pop(name, None)

    def refresh_topics(self, names: Iterable[str], now_us: int) -> None:
        """Ask for these topics, unless such a request left less than a second ago."""
        for name in names:
            asked_us = self._topics_in_flight.get(name)
            if asked_us is None or now_us - asked_us >= _SCAN_INTERVAL_US:
                self._pending_topics[name] = None
        self._pump_metadata(now_us)

    def refresh_all(self, now_us: int) -> None:
        """Ask for all topics of the cluster."""
        self.start(now_us)
        self._pending_all = not self._all_in_flight
        self._pump_metadata(now_us)

    def refresh_brokers(self, now_us: int) -> None:
        """Ask for the brokers of the cluster."""
        self._pending_brokers = True
        self._pump_metadata(now_us)

    def leader_lost(self, topic: str, now_us: int) -> None:
        """A leader refused us: ask now, and again at growing intervals until every partition has a leader."""
        known = self.metadata.want(topic, now_us)
        known.leader_unavailable = True
        if self._fast_timer is None:
            self._fast_attempt = 0
            self._fast_timer = self.call_at(now_us, self._query_leaders)
        elif self._fast_timer.at_us > now_us + self.config.ms("topic.metadata.refresh.fast.interval.ms") * 1000:
            self._fast_timer.cancel()
            self._fast_attempt = 0
            self._fast_timer = self.call_at(now_us, self._query_leaders)

    def leader_hint(self, tp: TopicPartition, leader: NodeId, leader_epoch: int, now_us: int) -> bool:
        """Use the leader that a refusing broker named (KIP-951); True if it was news."""
        if not self.metadata.on_leader_hint(tp, leader, leader_epoch):
            return False
        self.on_metadata([tp[0]], False, now_us)
        return True

    def _query_leaders(self, now_us: int) -> None:
        self._fast_timer = None
        names = [
            name
            for name in self.wanted_topics
            if (topic := self.metadata.topics[name]).state != "notexists"
            and (not topic.partitions or topic.lacks_leader)
        ]
        if names:
            self.refresh_topics(names, now_us)
            self._fast_attempt += 1
            delay_us = self.retry_backoff_us(self._fast_attempt)
            self._fast_timer = self.call_at(now_us + delay_us, self._query_leaders)

    def _start_scan(self, now_us: int) -> None:
        if self._scan_timer is None:
            self._scan_timer = self.call_at(now_us + _SCAN_INTERVAL_US, self._scan)

    def _scan(self, now_us: int) -> None:
        """Once a second, as long as something is unavailable: ask for the topics concerned, keep one connection open."""
        self._scan_timer = None
        names = [name for name in self.wanted_topics if self._needs_query(name)]
        if names:
            self.refresh_topics(names, now_us)
        no_broker_up = not any(self.is_up(node) for node in self._broker_names)
        if no_broker_up:
            self._pending_brokers = True
            self._pump_metadata(now_us)
        if names or no_broker_up:
            self._start_scan(now_us)

    def _needs_query(self, name: str) -> bool:
        topic = self.metadata.topics[name]
        if topic.state != EXISTS or topic.leader_unavailable:
            return True
        connections = self._connections
        for part in topic.partitions:
            if part.leader == NO_LEADER:
                return True
            connection = connections.get((part.leader, MAIN_CHANNEL))
            if connection is not None and not connection.is_up and connection.down_reported:
                return True
        return False

    def _refresh_known(self, now_us: int) -> None:
        if self.wants_all_topics:
            self.refresh_all(now_us)
        elif self.wanted_topics:
            self.refresh_topics(tuple(self.wanted_topics), now_us)
        else:
            self._pending_brokers = True
            self._pump_metadata(now_us)

    def _pump_metadata(self, now_us: int) -> None:
        """Send what is pending, if some broker can be asked; else try again when one may."""
        if self.closed or not (self._pending_topics or self._pending_brokers or self._pending_all):
            return
        self.start(now_us)
        if self._refresh_timer is not None and self._refresh_attempt > 0:
            return  # Backing off after a failed refresh.
        to = self.any_broker(now_us)
        if to is None:
            self._retry_metadata_at(max(self.any_broker_at_us(), now_us + 1))
            return
        topics = tuple(self._pending_topics)
        if self._pending_all:
            self._all_in_flight, self._pending_all = True, False
            self._send_metadata(to, None, (), now_us)
        if topics or self._pending_brokers:
            self._pending_topics.clear()
            self._pending_brokers = False
            for name in topics:
                self._topics_in_flight[name] = now_us
            self._send_metadata(to, topics, topics, now_us)

    def _retry_metadata_at(self, at_us: int) -> None:
        if self._refresh_timer is not None:
            self._refresh_timer.cancel()
        self._refresh_timer = self.call_at(at_us, self._retry_metadata)

    def _retry_metadata(self, now_us: int) -> None:
        self._refresh_timer = None
        self._pump_metadata(now_us)

    def _send_metadata(self, to: NodeId, topics: tuple[str, ...] | None, asked: tuple[str, ...], now_us: int) -> None:
        def on_end(response: MetadataResponse | None, error: ErrorCode, at_us: int) -> None:
            self._metadata_asked[to] -= 1
            self._metadata_done(topics, asked, response, error, at_us)

        self._metadata_asked[to] = self._metadata_asked.get(to, 0) + 1
        allow_creation = topics is not None and bool(self.config["allow.auto.create.topics"])
        self.send(to, MetadataRequest(topics, allow_creation), on_end, now_us=now_us)

    def _metadata_done(
        self,
        topics: tuple[str, ...] | None,
        asked: tuple[str, ...],
        response: MetadataResponse | None,
        error: ErrorCode,
        now_us: int,
    ) -> None:
        for name in asked:
            self._topics_in_flight.pop(name, None)
        if topics is None:
            self._all_in_flight = False
        if response is not None and response.error == ErrorCode.NONE:
            self._refresh_attempt = 0
            self.take_metadata(response, topics is None, now_us)
            return
        for name in asked:
            self._pending_topics[name] = None
        self._pending_all = self._pending_all or topics is None
        self._pending_brokers = self._pending_brokers or topics == ()
        self._refresh_attempt += 1
        self._retry_metadata_at(now_us + self.retry_backoff_us(self._refresh_attempt))

    def take_metadata(self, response: MetadataResponse, is_full: bool, now_us: int) -> None:
        """Learn from any Metadata response; the engine hears of it."""
        metadata = self.metadata
        if response.brokers:
            metadata.brokers = {broker.node_id: broker for broker in response.brokers}
            self._broker_names = {
                broker.node_id: f"{broker.host}:{broker.port}/{broker.node_id}" for broker in response.brokers
            }
        metadata.cluster_id, metadata.controller_id = response.cluster_id, response.controller_id
        changed = [answer.name for answer in response.topics if metadata.on_topic(answer, now_us)]
        if is_full:
            changed += self._forget_unlisted(response.topics, now_us)
        for answer in response.topics:
            topic = metadata.topics[answer.name]
            if answer.name not in self.wanted_topics or topic.state == "notexists":
                continue
            if topic.partitions and topic.lacks_leader and self._fast_timer is None:
                self.leader_lost(answer.name, now_us)
            if topic.state != EXISTS:
                self._start_scan(now_us)
        self.on_metadata(changed, is_full, now_us)
        self.wake = True

    def _forget_unlisted(self, listed: tuple[TopicMetadata, ...], now_us: int) -> list[str]:
        names = {answer.name for answer in listed}
        unlisted = [name for name in self.metadata.topics if name not in names]
        changed = []
        for name in unlisted:
            if name not in self.wanted_topics:
                del self.metadata.topics[name]
                changed.append(name)
            elif self.metadata.on_topic(
                TopicMetadata(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name, "", False, ()), now_us
            ):
                changed.append(name)
        return changed

    def cluster_metadata(self, topic: str | None, timeout_us: int, now_us: int) -> Operation:
        """Ask a broker for everything, or for one topic: the result is its MetadataResponse."""
        self.start(now_us)
        operation = Operation(on_done=self._operation_done)
        deadline_us = now_us + timeout_us
        request = MetadataRequest(
            None if topic is None else (topic,),
            topic is not None and bool(self.config["allow.auto.create.topics"]),
        )

        def on_end(response: MetadataResponse | None, error: ErrorCode, at_us: int) -> None:
            if operation.done:
                return
            if response is not None:
                self.take_metadata(response, topic is None, at_us)
                operation.succeed(response)
            elif at_us < deadline_us:
                self.call_at(min(at_us + self.retry_backoff_us(1), deadline_us), attempt)
            else:
                expire(at_us)

        def attempt(at_us: int) -> None:
            if not operation.done and not self.send_to_any(
                request, on_end, now_us=at_us, timeout_us=max(deadline_us - at_us, 1)
            ):
                self.call_at(min(max(self.any_broker_at_us(), at_us + 1), deadline_us), attempt)

        def expire(at_us: int) -> None:
            if not operation.done:
                has_broker = any(self.is_up(node) for node in self._broker_names)
                operation.fail(ErrorCode._TIMED_OUT if has_broker else ErrorCode._TRANSPORT)

        self.call_at(deadline_us, expire)
        attempt(now_us)
        return operation

    def _operation_done(self, operation: Operation) -> None:
        self.wake = True

    # --- Statistics ------------------------------------------------------------------------------------------------

    def _emit_stats(self, now_us: int) -> None:
        client_id = str(self.config["client.id"])
        figures: dict[str, Any] = {
            "name": f"{client_id}#{self.KIND}-{self.node_id}",
            "client_id": client_id,
            "type": self.KIND,
            "ts": now_us,
            "time": self.wall_ms(now_us) // 1000,
            "age": now_us,
            "replyq": self.event_count,
            "msg_cnt": 0,
            "metadata_cache_cnt": len(self.metadata.topics),
            "brokers": {name: self._broker_stats(node, name, now_us) for node, name in self._broker_names.items()},
            "topics": {
                name: {
                    "topic": name,
                    "metadata_age": (now_us - topic.refreshed_us) // 1000 if topic.refreshed_us >= 0 else 0,
                    "partitions": {
                        str(part.tp.partition): {
                            "partition": part.tp.partition,
                            "broker": part.leader,
                            "leader": part.leader,
                        }
                        for part in topic.partitions
                    },
                }
                for name in self.wanted_topics
                if (topic := self.metadata.topics[name])
            },
        }
        figures.update(self.stats(now_us))
        self.emit(ClientEvent(STATS_EVENT, text=json.dumps(figures)))

    def _broker_stats(self, node: NodeId, name: str, now_us: int) -> dict[str, Any]:
        connection = self._connections.get((node, MAIN_CHANNEL))
        state = "INIT"
        if connection is not None:
            state = "UP" if connection.is_up else ("CONNECT" if connection.is_open else "DOWN")
        return {
            "name": name,
            "nodeid": node,
            "nodename": name.rsplit("/", 1)[0],
            "source": "configured" if name.endswith("/bootstrap") else "learned",
            "state": state,
            "stateage": now_us - connection.state_us if connection is not None else 0,
            "waitresp_cnt": self.requests.in_flight_to(node),
        }


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
