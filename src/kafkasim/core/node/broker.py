"""A broker: its components behind one door.

Mirrors:  kafka.server.BrokerServer, KafkaApis, BrokerMetadataPublisher.
Inputs:   on_request, on_closed, on_deadline, begin_shutdown; ``publish`` when metadata were replayed.
Rule 1:   a request goes to the component that names its API key, and to no other.
Rule 2:   no request is processed before the controller has unfenced the broker (SocketServer.enableRequestProcessing): a process
          that lost records may still be named a leader by the metadata from before its registration, and must not be read.
Rule 3:   metadata reach the data plane first, then the coordinators that stand on it, then whoever only answers from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kafkasim.core.controller.image import ImageDelta
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.data_plane import DataPlane
from kafkasim.core.node.group_coordinator import GroupCoordinator
from kafkasim.core.node.life_cycle import LifeCycle
from kafkasim.core.node.metadata_api import MetadataApi
from kafkasim.core.node.share_coordinator import ShareCoordinator
from kafkasim.core.node.share_group_coordinator import ShareGroupCoordinator
from kafkasim.core.node.share_persister import SharePersister
from kafkasim.core.node.share_plane import SharePlane
from kafkasim.core.quorum.raft import RaftReplica


class Component(Protocol):
    """A part of a broker (docs/contract.md, "A server process")."""

    API_KEYS: tuple[int, ...]

    @property
    def deadline_us(self) -> int: ...

    def on_request(self, call: Call, now_us: int) -> None: ...

    def on_image(self, delta: ImageDelta, now_us: int) -> None: ...

    def on_closed(self, connection_id: int, now_us: int) -> None: ...

    def on_deadline(self, now_us: int) -> None: ...

    def shutdown(self, now_us: int) -> None: ...


class BrokerNode:
    """``ctx.image`` is this broker's replayed metadata."""

    def __init__(
        self,
        ctx: BrokerContext,
        raft: RaftReplica,
        *,
        cluster_id: str,
        host: str,
        port: int,
        drives_raft: bool,
        on_stopped: Callable[[int], None],
        now_us: int,
    ) -> None:
        """``drives_raft``: ``raft`` is this broker's own observer, not a controller's voter.

        ``on_stopped(now_us)`` is called when a controlled shutdown is over.
        """
        self.ctx = ctx
        self._on_stopped = on_stopped
        self.metadata_api = MetadataApi(ctx, cluster_id)
        self.data_plane = DataPlane(ctx, now_us)
        self.groups = GroupCoordinator(ctx, self.data_plane, self.metadata_api.create_topic)
        share_coordinator = ShareCoordinator(ctx, self.data_plane)
        self._persister = persister = SharePersister(ctx, share_coordinator, self.metadata_api.create_topic)
        self.share_plane = SharePlane(ctx, self.data_plane, persister)
        self.share_groups = ShareGroupCoordinator(ctx, self.data_plane, persister, self.groups.has_group)
        self.groups.list_share_groups = self.share_groups.listed
        self.groups.is_share_group = self.share_groups.has_group
        self.groups.delete_share_group = self.share_groups.take_deletion
        self.life_cycle = LifeCycle(
            ctx,
            raft,
            self.publish,
            host=host,
            port=port,
            drives_raft=drives_raft,
            on_running=self._enable_request_processing,
            on_stopped=self._stop,
        )
        self.life_cycle.on_allowed = self._give_back
        #: Requests that arrived before the broker was unfenced; None once they are processed.
        self._early: list[Call] | None = []
        self._components: tuple[Component, ...] = (
            self.data_plane,
            self.groups,
            share_coordinator,
            self.share_groups,
            self.share_plane,
            self.metadata_api,
        )
        self._by_api_key = {key: component for component in self._components for key in component.API_KEYS}

    @property
    def deadline_us(self) -> int:
        earliest_us = self.life_cycle.deadline_us
        for component in self._components:
            deadline_us = component.deadline_us
            if deadline_us < earliest_us:
                earliest_us = deadline_us
        return earliest_us

    def on_request(self, call: Call, now_us: int) -> int:
        """Returns the earliest deadline of the components that a request of this kind can touch."""
        if self._early is not None:
            self._early.append(call)
            return NEVER_US
        component = self._by_api_key[call.request.API_KEY]
        component.on_request(call, now_us)
        return self.replicas_deadline_us() if component is self.data_plane else self.deadline_us

    def replicas_deadline_us(self) -> int:
        """The earliest deadline after an input of the data plane: others have theirs still, unless it has told them something.

        It may be looking for the controller, too.
        """
        data_plane = self.data_plane
        if data_plane.take_told_neighbours():
            return self.deadline_us
        return min(data_plane.deadline_us, self.life_cycle.search_us)

    def clock_set(self, now_us: int) -> None:
        """The wall clock of the machine is another one now (``ctx.wall_offset_us``)."""
        self.data_plane.clock_set(now_us)
        self.groups.clock_set()
        self.share_groups.clock_set()

    def _enable_request_processing(self, now_us: int) -> None:
        early, self._early = self._early, None
        for call in early or ():
            self._by_api_key[call.request.API_KEY].on_request(call, now_us)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        if self._early:
            self._early = [call for call in self._early if call.connection_id != connection_id]
        for component in self._components:
            component.on_closed(connection_id, now_us)

    def on_deadline(self, now_us: int) -> None:
        if self.life_cycle.deadline_us <= now_us:
            self.life_cycle.on_deadline(now_us)
        for component in self._components:
            if component.deadline_us <= now_us:
                component.on_deadline(now_us)

    def publish(self, delta: ImageDelta, now_us: int) -> None:
        """Metadata were replayed into ``ctx.image``: every component follows."""
        for component in self._components:
            component.on_image(delta, now_us)

    def begin_shutdown(self, now_us: int) -> None:
        """Ask the controller to move leaderships away; the process ends when it allows."""
        self.share_plane.begin_shutdown()
        self.life_cycle.shutdown(now_us)

    def _give_back(self, now_us: int) -> bool:
        """The controller lets the broker go: what share consumers hold is released first. True if that is done."""
        self._persister.on_idle = self.life_cycle.finish
        self.share_plane.give_back(now_us)
        return self._persister.is_idle

    def _stop(self, now_us: int) -> None:
        for component in reversed(self._components):
            component.shutdown(now_us)
        self._on_stopped(now_us)
