"""What a node asks of the world: the closed union that every shell interprets.

Inputs of a node (``on_request``, ``on_response``, ``on_disconnect``, ``on_deadline`` and a client's own calls) append effects
to the node's ``outbox``; the shell drains it after each input. Nothing else leaves the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from kafkasim.core.model.message import message

if TYPE_CHECKING:
    from kafkasim.core.model.ids import NodeId

#: Channels: one connection per (requester, server, channel), as clients and brokers keep separate sockets.
MAIN_CHANNEL = 0
COORDINATOR_CHANNEL = 1
CONTROLLER_CHANNEL = 2
REPLICATION_CHANNEL = 3
QUORUM_CHANNEL = 4
ALTER_PARTITION_CHANNEL = 5
SHARE_STATE_CHANNEL = 6

#: A deadline that never comes.
NEVER_US = 1 << 62


@message
class Send:
    """Send ``request`` to node ``to``; the answer comes as ``on_response(to, channel, correlation_id, response)``."""

    to: NodeId
    channel: int
    correlation_id: int
    request: Any


@message
class Reply:
    """Answer the request ``(connection_id, correlation_id)``; ``response`` None closes the exchange without an answer (acks=0)."""

    connection_id: int
    correlation_id: int
    response: Any


@message
class Close:
    """Close this node's connection to ``to`` on ``channel`` (after a request timed out, say); requests on it are forgotten."""

    to: NodeId
    channel: int


@message
class Note:
    """A fact for the recorder: ``kind`` in Kafka's words, ``subject`` (a partition, a group, a broker) and plain fields.

    ``is_traced`` False: made only where a history is kept, so that the fingerprint of a run does not depend on it.
    """

    kind: str
    subject: Any
    fields: tuple[tuple[str, Any], ...] = ()
    is_traced: bool = True


@message
class Halt:
    """The process exits by itself (a controlled shutdown is granted, a fatal storage error)."""

    reason: str


Effect: TypeAlias = "Send | Reply | Close | Note | Halt"
