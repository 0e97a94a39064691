"""The fabric between the nodes: connections as TCP makes them, with latency, bandwidth and faults.

Inputs:   send, reply, close, disconnect of the nodes; partition, hold, reset, slow, pause and the like of a fault plan.
Effects:  calls of the nodes' endpoints, each in an event of the kernel.
Rule 1:   a connection is first in, first out in each direction, whatever latencies are drawn.
Rule 2:   a server handles one request of a connection at a time, as Kafka mutes a channel; others wait in the inbox.
Rule 3:   what a cut link or a machine without power loses is sent again (``kafkasim.sim.retransmission``): dials after
          1, 3, 7 s, data and farewells after 0.2, 0.6, 1.4 s. Resets are not.
Rule 4:   without rules no message pays for rules: one flag is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from kafkasim.core.model.ids import FIRST_CLIENT_NODE
from kafkasim.sim.choices import Choices
from kafkasim.sim.connections import Connection, Node, Stream
from kafkasim.sim.endpoint import Channel, Endpoint
from kafkasim.sim.kernel import Kernel
from kafkasim.sim.links import Link, Links, Nodes, pairs
from kafkasim.sim.retransmission import Retransmission
from kafkasim.sim.rules import Verdict
from kafkasim.sim.trace import Trace

CONNECT_TIMEOUT_US = 30_000_000
RETRY_US = 1_000_000
"""A lost dial is sent again after this, then after twice as long, and so on."""


class Network(Links, Retransmission):
    """Carries requests and responses between the nodes."""

    def __init__(
        self,
        kernel: Kernel,
        choices: Choices,
        trace: Trace,
        *,
        link: Link | None = None,
        connect_timeout_us: int = CONNECT_TIMEOUT_US,
    ) -> None:
        self.connect_timeout_us = connect_timeout_us
        self.messages = 0
        self.bytes = 0
        self.dials = 0
        self._draw = choices.draw
        self._mix = trace.mix
        self._nodes: dict[int, Node] = {}
        self._connections: dict[tuple[int, int, Channel], Connection] = {}  # as requesters see them
        self._accepted: dict[int, Connection] = {}  # as servers see them
        self._next_id = 1
        #: When rules or links changed last.
        self.changed_us = 0
        #: Asked about every message where it is met: (stage, requester, server, request). True: whoever would pass it on dies first.
        self.watch: Callable[[str, int, int, Any], bool] = _nobody_watches
        #: The stages at which it is asked.
        self.watched: frozenset[str] = frozenset()
        Links.__init__(self, link)
        Retransmission.__init__(self, kernel)

    # -- nodes --------------------------------------------------------------------------------

    def attach(self, node: int, endpoint: Endpoint) -> None:
        """A node's process is there, and listens."""
        state = self._node(node)
        assert state.endpoint is None, f"node {node} is attached already"
        state.endpoint = endpoint
        state.silent = False
        state.paused = False
        state.backlog = None

    def detach(self, node: int, *, silent: bool = False) -> None:
        """A node's process is gone: its connections are reset, what waits in its inboxes is lost.

        Silent: the whole machine is gone (power loss), so that nobody is left to send a reset or to refuse a dial.
        """
        state = self._node(node)
        state.endpoint = None
        state.silent = silent
        state.paused = False
        state.backlog = None
        for connection in list(state.dialled.values()):
            self._forget_client(connection)
            if silent:
                self._end_recovery(connection.forth)
            elif connection.accepted:
                self._send_in_order(connection, connection.forth, self._fin_at_server, (connection,))
        for connection in self._all() if node < FIRST_CLIENT_NODE else ():
            if connection.server == node and connection.server_open:
                if connection.client_open and not silent:
                    self._post(connection.back, self._rst_at_client, (connection, "reset"))
                self._forget_server(connection)
                self._end_recovery(connection.back)

    @property
    def is_clear(self) -> bool:
        """Nothing harms it: no rule is in force, and no link is slower than it was made."""
        harmed = self._ruled or self._lost_responses or self._slowed or self._delays or self._api_delays
        return not harmed and not self._links and not self._node_links and self._default_link == Link()

    def attached(self, node: int) -> bool:
        """Is the node's process there?"""
        return self._node(node).endpoint is not None

    def pause(self, node: int) -> None:
        """The node's process stands still: what arrives is kept in order."""
        state = self._node(node)
        state.paused = True
        if state.backlog is None:
            state.backlog = deque()

    def resume(self, node: int) -> None:
        """The node's process goes on, with what has arrived meanwhile."""
        state = self._node(node)
        if state.paused:
            state.paused = False
            self._kernel.post_after(0, self._drain_backlog, (state,))

    # -- traffic ------------------------------------------------------------------------------

    def send(
        self,
        src: int,
        dst: int,
        channel: Channel,
        correlation_id: int,
        request: Any,
        size_bytes: int = 0,
    ) -> None:
        """Send a request; the first on a channel opens the connection, and waits until it is open."""
        connection = self._connections.get((src, dst, channel))
        if connection is None:
            connection = self._dial(src, dst, channel)
        if connection.established:
            self._send_request(connection, correlation_id, request, size_bytes)
        else:
            connection.queue.append((correlation_id, request, size_bytes))

    def reply(self, connection_id: int, correlation_id: int, response: Any, size_bytes: int = 0) -> None:
        """Answer the request in process, and unmute the connection; None sends nothing (acks=0).

        Ignored when the connection is gone: a server learns that late.
        """
        connection = self._accepted.get(connection_id)
        if connection is None or not connection.busy:
            return
        assert connection.correlation_id == correlation_id, (
            f"connection {connection_id} has {connection.correlation_id} in process, not {correlation_id}"
        )
        request = connection.request
        connection.busy = False
        connection.request = None
        if "answered" in self.watched and self.watch("answered", connection.client, connection.server, request):
            return
        if response is not None and not (self._lost_responses and self._loses_response(connection, request, response)):
            self._send_response(connection, correlation_id, request, response, size_bytes)
        if connection.inbox:
            args = (connection.server, self._take_next, (connection,))
            self._kernel.post_after(0, self._hand, args)

    def close(self, src: int, dst: int, channel: Channel) -> None:
        """The requester closes its connection; requests that were sent are still handled."""
        connection = self._connections.get((src, dst, channel))
        if connection is not None:
            self._forget_client(connection)
            if connection.accepted:
                self._send_in_order(connection, connection.forth, self._fin_at_server, (connection,))

    def disconnect(self, connection_id: int) -> None:
        """The server closes a connection: the requester gets ``on_disconnect`` with the reason "closed"."""
        connection = self._accepted.get(connection_id)
        if connection is not None:
            self._forget_server(connection)
            self._send_in_order(connection, connection.back, self._fin_at_client, (connection,))

    # -- faults -------------------------------------------------------------------------------

    def reset(self, a: Nodes, b: Nodes) -> None:
        """Reset every connection between two sides: both ends are told after one latency."""
        sides = dict.fromkeys(pairs(a, b, one_way=False))
        for connection in list(self._connections.values()):
            if (connection.client, connection.server) in sides:
                self._reset(connection)

    # -- dialing ------------------------------------------------------------------------------

    def _dial(self, src: int, dst: int, channel: Channel) -> Connection:
        assert self.attached(src), f"node {src} sends, but is not attached"
        connection = Connection(
            self._next_id,
            channel,
            Stream(src, dst, self.link(src, dst)),
            Stream(dst, src, self.link(dst, src)),
        )
        self._next_id += 1
        self._connections[(src, dst, channel)] = self._node(src).dialled[connection.id] = connection
        self.dials += 1
        connection.dial_timer = self._kernel.call_after(self.connect_timeout_us, self._dial_times_out, connection)
        self._send_dial(connection, 0)
        return connection

    def _send_dial(self, connection: Connection, attempt: int) -> None:
        if connection.client_open and not connection.established:
            self._post(connection.forth, self._dial_arrives, (connection, attempt))

    def _dial_again(self, connection: Connection, attempt: int) -> None:
        self.dropped += 1
        self._kernel.post_after(RETRY_US << attempt, self._send_dial, (connection, attempt + 1))

    def _dial_arrives(self, connection: Connection, attempt: int) -> None:
        stream = connection.forth
        verdict = self._judge(stream, self._dial_arrives, (connection, attempt))
        if verdict is Verdict.HOLD or not connection.client_open:
            return
        node = self._node(connection.server)
        if verdict is Verdict.DROP or node.without_power:
            self._dial_again(connection, attempt)
        elif node.endpoint is None:
            self._post(connection.back, self._rst_at_client, (connection, "refused"))
        elif node.backlog is None:
            self._accept(connection, attempt)
        else:
            node.backlog.append((self._accept, (connection, attempt)))

    def _accept(self, connection: Connection, attempt: int) -> None:
        endpoint = self._nodes[connection.server].endpoint
        assert endpoint is not None, "a backlog goes with its process"
        if not connection.accepted:
            connection.accepted = connection.server_open = True
            self._accepted[connection.id] = connection
            endpoint.on_connection(connection.id, connection.client)
        self._post(connection.back, self._dial_answered, (connection, attempt))

    def _dial_answered(self, connection: Connection, attempt: int) -> None:
        verdict = self._judge(connection.back, self._dial_answered, (connection, attempt))
        if verdict is Verdict.HOLD or not connection.client_open or connection.established:
            return
        if verdict is Verdict.DROP:
            self._dial_again(connection, attempt)
            return
        connection.established = True
        if connection.dial_timer is not None:
            connection.dial_timer.cancel()
            connection.dial_timer = None
        queue, connection.queue = connection.queue, []
        for correlation_id, request, size_bytes in queue:
            self._send_request(connection, correlation_id, request, size_bytes)

    def _dial_times_out(self, connection: Connection) -> None:
        if connection.client_open and not connection.established:
            if connection.accepted:
                self._send_in_order(connection, connection.forth, self._fin_at_server, (connection,))
            self._hand(connection.client, self._disconnected, (connection, "timeout"))

    # -- requests and responses ---------------------------------------------------------------

    def _send_request(self, connection: Connection, correlation_id: int, request: Any, size_bytes: int) -> None:
        if "sent" in self.watched and self.watch("sent", connection.client, connection.server, request):
            return
        self.messages += 1
        self.bytes += size_bytes
        self._mix(self._kernel.now_us, connection.id, correlation_id, size_bytes << 3 | 1)
        stream = connection.forth
        extra_us = self._delay_us(stream.src, stream.dst, request) if self._delays else 0
        args = (connection, correlation_id, request)
        if self._ruled:
            self._send_in_order(connection, stream, self._request_arrives, args, size_bytes, extra_us)
        else:
            self._post(stream, self._request_arrives, args, size_bytes, extra_us)

    def _send_response(
        self, connection: Connection, correlation_id: int, request: Any, response: Any, size_bytes: int
    ) -> None:
        self.messages += 1
        self.bytes += size_bytes
        self._mix(self._kernel.now_us, connection.id, correlation_id, size_bytes << 3 | 2)
        args = (connection, correlation_id, request, response)
        if self._ruled:
            self._send_in_order(connection, connection.back, self._response_arrives, args, size_bytes)
        else:
            self._post(connection.back, self._response_arrives, args, size_bytes)

    def _send_in_order(
        self,
        connection: Connection,
        stream: Stream,
        fn: Callable[..., None],
        args: tuple[Any, ...],
        size_bytes: int = 0,
        extra_us: int = 0,
    ) -> None:
        """Send data, or the end of data: what is lost of them is sent again."""
        if self._ruled and self._is_kept(stream):
            # Lost where it is sent: the cut may have healed by the time when it would arrive.
            self._post(stream, self._lost, (connection, stream, fn, args), size_bytes, extra_us)
        else:
            self._post(stream, fn, args, size_bytes, extra_us)

    def _post(
        self,
        stream: Stream,
        fn: Callable[..., None],
        args: tuple[Any, ...],
        size_bytes: int = 0,
        extra_us: int = 0,
    ) -> None:
        """One message, one event: at its latency, but not before what was sent ahead of it."""
        link = stream.link
        arrival_us = self._kernel.now_us + link.latency_us + extra_us
        if link.jitter_us:
            arrival_us += self._draw("net.latency", link.jitter_us + 1)
        if arrival_us < stream.arrival_us:
            arrival_us = stream.arrival_us
        if size_bytes:
            arrival_us += size_bytes * 1_000_000 // link.bandwidth_bytes_per_s
        stream.arrival_us = arrival_us
        self._kernel.post_at(arrival_us, fn, args)

    def _request_arrives(self, connection: Connection, correlation_id: int, request: Any) -> None:
        stream = connection.forth
        if (self._ruled or stream.held) and not self._passes(
            stream, self._request_arrives, (connection, correlation_id, request)
        ):
            return
        node = self._nodes[connection.server]
        if node.backlog is None:
            self._take_request(connection, correlation_id, request)
        else:
            node.backlog.append((self._take_request, (connection, correlation_id, request)))

    def _take_request(self, connection: Connection, correlation_id: int, request: Any) -> None:
        if connection.broken or not connection.server_open:
            self.dropped += 1
            if not connection.broken:
                self._not_taken(connection, connection.forth, self._request_arrives, (correlation_id, request))
            return
        if connection.busy or connection.inbox:
            connection.inbox.append((correlation_id, request))
        else:
            self._process(connection, correlation_id, request)

    def _process(self, connection: Connection, correlation_id: int, request: Any) -> None:
        if "received" in self.watched and self.watch("received", connection.client, connection.server, request):
            return
        connection.busy = True
        connection.correlation_id = correlation_id
        connection.request = request
        endpoint = self._nodes[connection.server].endpoint
        assert endpoint is not None, "a connection goes with its process"
        endpoint.on_request(connection.id, correlation_id, request)

    def _take_next(self, connection: Connection) -> None:
        """The connection was unmuted with requests in its inbox."""
        if connection.busy or not connection.inbox or not connection.server_open:
            return
        entry = connection.inbox.popleft()
        if entry is None:
            self._closed(connection)
        else:
            self._process(connection, *entry)

    def _response_arrives(self, connection: Connection, correlation_id: int, request: Any, response: Any) -> None:
        stream = connection.back
        if (self._ruled or stream.held) and not self._passes(
            stream, self._response_arrives, (connection, correlation_id, request, response)
        ):
            return
        node = self._nodes[connection.client]
        if node.backlog is None:
            self._take_response(connection, correlation_id, request, response)
        else:
            node.backlog.append((self._take_response, (connection, correlation_id, request, response)))

    def _take_response(self, connection: Connection, correlation_id: int, request: Any, response: Any) -> None:
        if connection.broken or not connection.client_open:
            self.dropped += 1
            if not connection.broken and connection.server_open:
                args = (correlation_id, request, response)
                self._not_taken(connection, connection.back, self._response_arrives, args)
            return
        if "arrived" in self.watched and self.watch("arrived", connection.client, connection.server, request):
            return
        endpoint = self._nodes[connection.client].endpoint
        assert endpoint is not None, "a connection goes with its process"
        endpoint.on_response(connection.server, connection.channel, correlation_id, response)

    # -- the end of a connection --------------------------------------------------------------

    def _not_taken(
        self, connection: Connection, stream: Stream, fn: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        """Data for an end that is not there: its machine resets the connection, or has no power."""
        if self._without_power(stream.dst):
            self._miss(stream, fn, (connection, *args))
        else:
            self._answers_with_reset(connection, stream)

    def _without_power(self, number: int) -> bool:
        return self._nodes[number].without_power

    def _answers_with_reset(self, connection: Connection, stream: Stream) -> bool:
        if stream is connection.forth:
            if connection.server_open:
                return False
            self._post(connection.back, self._rst_at_client, (connection, "reset"))
        else:
            if connection.client_open:
                return False
            self._post(connection.forth, self._rst_at_server, (connection,))
        return True

    def _gives_up(self, connection: Connection, stream: Stream) -> None:
        if stream is connection.forth:
            self._hand(connection.client, self._disconnected, (connection, "timeout"))
        else:
            self._hand(connection.server, self._closed, (connection,))

    def _reset(self, connection: Connection) -> None:
        connection.broken = True
        self._kernel.post_after(connection.back.link.latency_us, self._rst_at_client, (connection, "reset"))
        self._kernel.post_after(connection.forth.link.latency_us, self._rst_at_server, (connection,))

    def _rst_at_client(self, connection: Connection, reason: str) -> None:
        if self._judge(connection.back, self._rst_at_client, (connection, reason)) is Verdict.PASS:
            self._hand(connection.client, self._disconnected, (connection, reason))

    def _rst_at_server(self, connection: Connection) -> None:
        if self._judge(connection.forth, self._rst_at_server, (connection,)) is Verdict.PASS:
            self._hand(connection.server, self._closed, (connection,))

    def _fin_at_server(self, connection: Connection) -> None:
        """The requester's farewell; a muted server does not read it before it has answered."""
        stream = connection.forth
        if not (self._ruled or stream.held) or self._passes(stream, self._fin_at_server, (connection,)):
            self._hand(connection.server, self._end_of_stream, (connection,))

    def _fin_at_client(self, connection: Connection) -> None:
        stream = connection.back
        if not (self._ruled or stream.held) or self._passes(stream, self._fin_at_client, (connection,)):
            self._hand(connection.client, self._disconnected, (connection, "closed"))

    def _end_of_stream(self, connection: Connection) -> None:
        if connection.busy or connection.inbox:
            connection.inbox.append(None)
        else:
            self._closed(connection)

    def _disconnected(self, connection: Connection, reason: str) -> None:
        self._end_recovery(connection.forth)
        if not connection.client_open:
            return
        self._forget_client(connection)
        endpoint = self._nodes[connection.client].endpoint
        assert endpoint is not None, "a connection goes with its process"
        self._mix(self._kernel.now_us, connection.id, -1, 3)
        endpoint.on_disconnect(connection.server, connection.channel, reason)

    def _closed(self, connection: Connection) -> None:
        self._end_recovery(connection.back)
        if not connection.server_open:
            return
        self._forget_server(connection)
        endpoint = self._nodes[connection.server].endpoint
        assert endpoint is not None, "a connection goes with its process"
        self._mix(self._kernel.now_us, connection.id, -1, 4)
        endpoint.on_closed(connection.id)

    def _forget_client(self, connection: Connection) -> None:
        connection.client_open = False
        connection.queue.clear()
        if connection.dial_timer is not None:
            connection.dial_timer.cancel()
            connection.dial_timer = None
        key = (connection.client, connection.server, connection.channel)
        if self._connections.get(key) is connection:
            del self._connections[key]
        self._node(connection.client).dialled.pop(connection.id, None)

    def _forget_server(self, connection: Connection) -> None:
        connection.server_open = False
        connection.busy = False
        connection.request = None
        connection.inbox.clear()
        self._accepted.pop(connection.id, None)

    def _loses_response(self, connection: Connection, request: Any, response: Any) -> bool:
        for rule in self._lost_responses:
            if rule.predicate(connection.client, connection.server, request, response):
                rule.left -= 1
                if rule.left == 0:
                    self._lost_responses.remove(rule)
                    self.dropped += 1
                    # In line, so that responses sent before it arrive: this one alone is lost.
                    self._post(connection.back, self._rst_at_client, (connection, "reset"))
                    self._post(connection.forth, self._rst_at_server, (connection,))
                    return True
        return False

    # -- what was kept ------------------------------------------------------------------------

    def _hand(self, number: int, fn: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Let a node handle something now, or when its process goes on."""
        node = self._nodes[number]
        if node.backlog is None:
            fn(*args)
        else:
            node.backlog.append((fn, args))

    def _drain_backlog(self, node: Node) -> None:
        backlog = node.backlog
        while backlog and not node.paused and node.backlog is backlog:
            fn, args = backlog.popleft()
            fn(*args)
        if not backlog and not node.paused and node.backlog is backlog:
            node.backlog = None

    def _drain_streams(self) -> None:
        """Deliver what was held and is held no more, in an event; until then later arrivals queue behind it."""
        for connection in self._all():
            for stream in (connection.forth, connection.back):
                if stream.held:
                    self._kernel.post_after(0, self._drain_stream, (stream,))

    def _drain_stream(self, stream: Stream) -> None:
        held, stream.held = stream.held, deque()
        for fn, args in held:
            fn(*args)  # Asks the rules again: what a new rule holds is held again, in order.

    # -- links and nodes ----------------------------------------------------------------------

    def _relink(self) -> None:
        for connection in self._all():
            for stream in (connection.forth, connection.back):
                stream.link = self.link(stream.src, stream.dst)
        self.changed_us = self._kernel.now_us

    def _note_rules(self) -> None:
        super()._note_rules()
        self.changed_us = self._kernel.now_us

    def _all(self) -> list[Connection]:
        seen = {connection.id: connection for connection in self._connections.values()}
        return list((seen | self._accepted).values())

    def _node(self, number: int) -> Node:
        node = self._nodes.get(number)
        if node is None:
            node = self._nodes[number] = Node(number)
        return node


def _nobody_watches(stage: str, requester: int, server: int, request: Any) -> bool:
    return False
