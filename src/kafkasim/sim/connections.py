"""Connections and their ends: what the network knows of each.

Nodes are integers; a connection is opened by its first request, and belongs to (requester, server, channel).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from kafkasim.sim.endpoint import Channel, Endpoint
from kafkasim.sim.kernel import Timer
from kafkasim.sim.links import Link

Deferred: TypeAlias = tuple[Callable[..., None], tuple[Any, ...]]


class Node:
    """A node that was attached at some time."""

    __slots__ = ("backlog", "dialled", "endpoint", "number", "paused", "silent")

    def __init__(self, number: int) -> None:
        self.number = number
        self.dialled: dict[int, Connection] = {}  # Those it opened, by id: clients come and go.
        self.endpoint: Endpoint | None = None
        self.silent = False
        self.paused = False
        self.backlog: deque[Deferred] | None = None

    @property
    def without_power(self) -> bool:
        """Nobody is there, not even a machine that would refuse."""
        return self.endpoint is None and self.silent


class Recovery:
    """One direction of a connection from its first loss on, until all of it is acknowledged."""

    __slots__ = ("delivering", "entries", "probed", "timeout_us", "timer", "tries", "unacknowledged")

    def __init__(self, timeout_us: int) -> None:
        self.entries: deque[tuple[int, Callable[..., None], tuple[Any, ...]]] = deque()
        """What was lost, and what waits behind it, in order; first when it was lost, or -1: it waits at the receiver."""
        self.unacknowledged = 0  # So many messages the receiver has, and the sender does not know it.
        self.delivering = False
        self.timeout_us = timeout_us
        self.probed = False
        self.tries = 0
        self.timer: Timer | None = None


class Stream:
    """One direction of a connection."""

    __slots__ = ("arrival_us", "dst", "held", "link", "recovery", "src")

    def __init__(self, src: int, dst: int, link: Link) -> None:
        self.src = src
        self.dst = dst
        self.link = link
        self.arrival_us = 0
        self.recovery: Recovery | None = None
        self.held: deque[Deferred] = deque()


class Connection:
    """A connection, as both ends see it: they learn of its end at different times."""

    __slots__ = (
        "accepted",
        "back",
        "broken",
        "busy",
        "channel",
        "client",
        "client_open",
        "correlation_id",
        "dial_timer",
        "established",
        "forth",
        "id",
        "inbox",
        "queue",
        "request",
        "server",
        "server_open",
    )

    def __init__(self, id_: int, channel: Channel, forth: Stream, back: Stream) -> None:
        self.id = id_
        self.channel = channel
        self.client = forth.src
        self.server = forth.dst
        self.forth = forth
        self.back = back
        self.established = False  # The requester's dial was answered.
        self.accepted = False  # The server has heard of it.
        self.client_open = True
        self.server_open = False
        self.broken = False  # Reset: what is on its way never arrives.
        self.busy = False  # Muted: a request is in process.
        self.correlation_id = -1
        self.request: Any = None
        self.queue: list[tuple[int, Any, int]] = []
        self.inbox: deque[tuple[int, Any] | None] = deque()  # None: the end of the stream.
        self.dial_timer: Timer | None = None
