"""What the components of one broker share: its outbox, its replayed metadata, its storage, its ways to answer and to ask.

Effects:  Reply, Note (and, through ``requests``, Send and Close).
Rule 1:   a broker process makes one context and throws it away when it dies; only ``storage`` lives on.
Rule 2:   a component never talks to the controller by itself: ``send_to_controller`` is the one way, because who the active
          controller is, and what to do while there is none, is known in one place only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from kafkasim.core.client.requests import Handler, Requests
from kafkasim.core.controller.image import MetadataImage
from kafkasim.core.model.effects import Effect, Note, Reply
from kafkasim.core.model.ids import NO_EPOCH, Draw, NodeId
from kafkasim.core.model.message import slotted
from kafkasim.core.model.meters import BrokerTopicMeters
from kafkasim.core.model.protections import ALL_PROTECTIONS, Protections
from kafkasim.core.node.storage import BrokerStorage

#: ``send(request, handler, now_us)``; ``handler(response | None, error, now_us)`` is called exactly once.
ControllerSender: TypeAlias = Callable[[Any, Handler, int], None]


@slotted
class Call:
    """One request in hand, and how to answer it."""

    connection_id: int
    correlation_id: int
    peer: NodeId
    request: Any


class BrokerContext:
    """``wall_offset_us`` turns the node's clock into wall time: milliseconds since 1970 are ``wall_ms(now_us)``."""

    __slots__ = (
        "broker_epoch",
        "controller_sender",
        "draw",
        "image",
        "meters",
        "node_id",
        "outbox",
        "protections",
        "rack",
        "requests",
        "storage",
        "wall_offset_us",
    )

    def __init__(
        self,
        node_id: NodeId,
        outbox: list[Effect],
        requests: Requests,
        image: MetadataImage,
        storage: BrokerStorage,
        draw: Draw,
        *,
        rack: str | None = None,
        wall_offset_us: int = 0,
        controller_sender: ControllerSender | None = None,
        meters: BrokerTopicMeters | None = None,
        protections: Protections = ALL_PROTECTIONS,
    ) -> None:
        self.node_id = node_id
        self.outbox = outbox
        self.requests = requests
        self.image = image
        self.storage = storage
        self.draw = draw
        self.rack = rack
        self.wall_offset_us = wall_offset_us
        self.protections = protections
        #: None: nobody wants to know how much goes in and out.
        self.meters = meters
        #: Given by whoever knows the active controller, before the first input arrives.
        self.controller_sender = controller_sender
        #: The epoch of this process's registration; NO_EPOCH until the controller gave one.
        self.broker_epoch = NO_EPOCH

    def wall_ms(self, now_us: int) -> int:
        return (now_us + self.wall_offset_us) // 1000

    def reply(self, call: Call, response: Any) -> None:
        """Answer ``call``; ``response`` None ends the exchange without an answer."""
        self.outbox.append(Reply(call.connection_id, call.correlation_id, response))

    def told_epoch(self, leader_epoch: int) -> int:
        """A leader epoch as clients hear of it (KIP-320)."""
        return leader_epoch if self.protections.leader_epoch_in_metadata else NO_EPOCH

    def note(self, kind: str, subject: Any, **fields: Any) -> None:
        self.outbox.append(Note(kind, subject, tuple(fields.items())))

    def send_to_controller(self, request: Any, handler: Handler, now_us: int) -> None:
        assert self.controller_sender is not None, "no way to the controller was given"
        self.controller_sender(request, handler, now_us)
