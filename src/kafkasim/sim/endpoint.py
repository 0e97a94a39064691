"""What the network calls: the two ends of a connection, as a node's shell implements them."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

Channel: TypeAlias = int | str


class Endpoint(Protocol):
    """What a node does with what the network brings; every call comes in an event of its own."""

    def on_connection(self, connection_id: int, peer: int) -> None:
        """Server side: a peer has connected."""

    def on_request(self, connection_id: int, correlation_id: int, request: Any) -> None:
        """Server side: the next request; the connection is muted until ``reply``."""

    def on_closed(self, connection_id: int) -> None:
        """Server side: the connection is gone."""

    def on_response(self, peer: int, channel: Channel, correlation_id: int, response: Any) -> None:
        """Requester side: a response."""

    def on_disconnect(self, peer: int, channel: Channel, reason: str) -> None:
        """Requester side: the connection is gone, with every request that has no response.

        The reason is "refused", "timeout" (of a dial, or of data that were sent again in vain), "reset" or "closed".
        """
