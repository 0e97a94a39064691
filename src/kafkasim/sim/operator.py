"""Faults that an operator makes: settings, partitions, elections, topics that come and go, by an admin client of its own.

Inputs:   a fault of a plan.      Effects: admin requests, whose answers nobody waits for; a note ``operator`` with how each ended.
Rule 1:   what is asked for goes over the network like anybody's request, so that other faults can hit it too.
Rule 2:   what is undone goes back to what the topic had of its own before: to nothing, where it had nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kafkasim.core.client.operation import Operation
from kafkasim.core.model.admin_messages import (
    BROKER_RESOURCE,
    DELETE_OPERATION,
    SET_OPERATION,
    TOPIC_RESOURCE,
    AlterPartitionReassignmentsRequest,
    ConfigAlteration,
    ConfigResource,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    IncrementalAlterConfigsRequest,
    NewPartitionsSpec,
    NewTopicSpec,
    Reassignment,
)
from kafkasim.core.model.client_config import ClientConfig
from kafkasim.core.model.effects import Note
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE
from kafkasim.core.model.messages import DeleteRecordsRequest, PartitionDeleteRecords
from kafkasim.sim.aim import live_brokers
from kafkasim.sim.drive import ClientShell
from kafkasim.sim.hosts import Host

if TYPE_CHECKING:
    from kafkasim.sim.cluster import SimulatedCluster
    from kafkasim.sim.plan import Fault

_TIMEOUT_US = 60_000_000
#: A topic that is still being deleted cannot be created: again after this, and no more often than that.
_AGAIN_US = 200_000
_MOST_TRIES = 100
_PREFERRED = 0

Undo = Callable[[], None]


class Operator:
    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._client: ClientShell | None = None

    def act(self, fault: Fault) -> tuple[tuple[str, ...], Undo | None]:
        """Do it; who was hit, and what would undo it."""
        role, _, name = fault.target.partition(":")
        if fault.what == "configure":
            return self._configure(fault, role, name)
        topic = self._topic(name)
        if topic is None:
            return (), None
        undo: Undo | None = None
        tps = [state.tp for state in topic.partitions]
        if fault.what == "add_partitions":
            self._ask(CreatePartitionsRequest((NewPartitionsSpec(name, len(tps) + fault.count),)))
        elif fault.what == "elect_preferred":
            self._ask(ElectLeadersRequest(_PREFERRED, tuple(tps)))
        elif fault.what == "delete_records":
            self._ask(DeleteRecordsRequest([PartitionDeleteRecords(tp, -1) for tp in tps]), ("leaders",))
        elif fault.what == "reassign":
            self._reassign(topic)
        else:
            assert fault.what == "delete_topic", fault
            again = CreateTopicsRequest((self._as_it_is(topic),))
            self._ask(DeleteTopicsRequest((name,)))

            def undo() -> None:
                self._create(again, _MOST_TRIES)

        return (fault.target.replace(":", " "),), undo

    # --- settings ----------------------------------------------------------------------------------------------------

    def _configure(self, fault: Fault, role: str, name: str) -> tuple[tuple[str, ...], Undo | None]:
        if role == "topic" and self._topic(name) is None:
            return (), None
        resource = ConfigResource(TOPIC_RESOURCE if role == "topic" else BROKER_RESOURCE, name)
        own = self._cluster._controller_image().configs.get((resource.resource_type, name), {})
        before = tuple(
            (key, DELETE_OPERATION if own.get(key) is None else SET_OPERATION, own.get(key))
            for key, _value in fault.settings
        )
        changes = tuple((key, SET_OPERATION, value) for key, value in fault.settings)
        target: Any = ("broker", int(name)) if role == "broker" else "controller"

        def alter(these: tuple[tuple[str, int, str | None], ...]) -> None:
            self._ask(IncrementalAlterConfigsRequest((ConfigAlteration(resource, these),)), target)

        alter(changes)
        return (fault.target.replace(":", " "),), lambda: alter(before)

    # --- topics ------------------------------------------------------------------------------------------------------

    def _topic(self, name: str) -> Any:
        image = self._cluster._controller_image()
        return None if image is None else image.topics.get(name)

    def _as_it_is(self, topic: Any) -> NewTopicSpec:
        own = self._cluster._controller_image().configs.get((TOPIC_RESOURCE, topic.name), {})
        factor = len(topic.partitions[0].replicas)
        return NewTopicSpec(topic.name, len(topic.partitions), factor, configs=tuple(own.items()))

    def _create(self, request: CreateTopicsRequest, tries: int) -> None:
        def created(operation: Operation) -> None:
            is_there = operation.error is ErrorCode.NONE and any(
                result.error is ErrorCode.TOPIC_ALREADY_EXISTS for result in operation.result.topics
            )
            if tries > 1 and (is_there or operation.error is not ErrorCode.NONE):
                self._cluster.kernel.call_after(_AGAIN_US, self._create, request, tries - 1)

        self._ask(request, on_done=created)

    def _reassign(self, topic: Any) -> None:
        """Other brokers where there are any; else the same in another order, so that another one is preferred."""
        moves = []
        for state in topic.partitions:
            brokers = sorted({*live_brokers(self._cluster), *state.replicas})
            step = 1 + self._cluster.choices.draw("operator.reassign", max(1, len(brokers) - 1))
            start = brokers.index(state.replicas[0]) + step
            replicas = [brokers[(start + turn) % len(brokers)] for turn in range(len(state.replicas))]
            moves.append(Reassignment(state.tp, tuple(replicas)))
        self._ask(AlterPartitionReassignmentsRequest(tuple(moves)))

    # --- the client --------------------------------------------------------------------------------------------------

    def _ask(
        self, request: Any, target: Any = "controller", on_done: Callable[[Operation], None] | None = None
    ) -> None:
        cluster = self._cluster
        if self._client is None:
            config = ClientConfig.parse(
                "admin", {"bootstrap.servers": cluster.bootstrap_servers, "client.id": "kafkasim-operator"}
            )
            self._client = cluster.open_client("admin", config, host=Host("kafkasim-operator"))
        operation = self._client.call(self._client.engine.call, request, target, _TIMEOUT_US)
        told = operation.on_done

        def done(ended: Operation) -> None:
            what = (("request", type(request).__name__), ("error", ended.error.name))
            cluster._on_note(NO_NODE, Note("operator", NO_NODE, what))
            if told is not None:
                told(ended)
            if on_done is not None:
                on_done(ended)

        operation.on_done = done
