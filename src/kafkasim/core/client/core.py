"""What every client engine stands on: the metadata of one librdkafka instance and how they are kept fresh.

Mirrors:  rd_kafka_t and its main thread (1 s scan, refresh timer, fast leader query), rdkafka_metadata.c.
Inputs:   those of ``ClientBase``, want_topic, cluster_metadata.      Effects: Send (Metadata).
Rule 1:   a topic is asked for when it is first wanted, when a leader refused us, and while any of it is unavailable.
Rule 2:   while all is well nothing runs but the refresh of metadata and statistics: the scan of topics stops itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kafkasim.core.client.base import ClientBase, Timer
from kafkasim.core.client.metadata import EXISTS, MetadataCache
from kafkasim.core.client.operation import STATS_EVENT, ClientEvent, Operation
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.effects import MAIN_CHANNEL
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_LEADER, Draw, NodeId, TopicPartition
from kafkasim.core.model.messages import BrokerEndpoint, MetadataRequest, MetadataResponse, TopicMetadata

__all__ = ["ClientCore", "Timer"]

_SCAN_INTERVAL_US = 1_000_000


class ClientCore(ClientBase):
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
        super().__init__(node_id, config, bootstrap, draw, wall_offset_us)
        self.metadata = MetadataCache(config.ms("topic.metadata.propagation.max.ms") * 1000)
        self.wanted_topics: dict[str, None] = {}
        #: An engine sets this (a pattern subscription) to have every refresh list all topics.
        self.wants_all_topics = False
        self._topics_in_flight: dict[str, int] = {}  # When each was asked for.
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

    def on_position_moved(self, tp: TopicPartition, error: ErrorCode, now_us: int) -> None:
        """A consumer goes on elsewhere than where it was: auto.offset.reset, or a truncated log. A recorder wants to know."""

    def stats(self, now_us: int) -> dict[str, Any]:
        """What the engine adds to the statistics."""
        return {}

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

    def _after_up(self, now_us: int) -> None:
        self._pump_metadata(now_us)

    def _after_down(self, now_us: int) -> None:
        self._start_scan(now_us)

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

    def connect(self, to: NodeId, now_us: int) -> None:
        """Bring the connection to ``to`` up, if nobody does yet; ``on_connection`` tells when it is."""
        connection = self._connections.get((to, MAIN_CHANNEL))
        if connection is None or not (connection.is_open or connection.waiting or connection.ready_us > now_us):
            self._send_metadata(to, (), (), now_us)

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

    def learn_brokers(self, endpoints: Iterable[BrokerEndpoint]) -> None:
        """A broker that refused us tells where the leaders are that it names (KIP-951)."""
        for broker in endpoints:
            self.metadata.brokers[broker.node_id] = broker
            self._broker_names[broker.node_id] = f"{broker.host}:{broker.port}/{broker.node_id}"

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
        names = [name for name in self.wanted_topics if self._needs_query(name, now_us)]
        if names:
            self.refresh_topics(names, now_us)
        no_broker_up = not any(self.is_up(node) for node in self._broker_names)
        if no_broker_up:
            self._pending_brokers = True
            self._pump_metadata(now_us)
        if names or no_broker_up:
            self._start_scan(now_us)

    def _needs_query(self, name: str, now_us: int) -> bool:
        """Has a partition no leader, or one that is down while somebody waits for a connection to it?"""
        topic = self.metadata.topics[name]
        if topic.state != EXISTS or topic.leader_unavailable:
            return True
        connections = self._connections
        for part in topic.partitions:
            if part.leader == NO_LEADER:
                return True
            connection = connections.get((part.leader, MAIN_CHANNEL))
            if connection is None or connection.is_up:
                continue
            if connection.down_reported or connection.is_tried(now_us):
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
        # One asked for by an unknown id has no name; one asked for by the empty name has it.
        topics = [answer for answer in response.topics if answer.error != ErrorCode.UNKNOWN_TOPIC_ID]
        changed = [answer.name for answer in topics if metadata.on_topic(answer, now_us)]
        if is_full:
            changed += self._forget_unlisted(response.topics, now_us)
        for answer in topics:
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
                        str(part.partition): {
                            "partition": part.partition,
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
