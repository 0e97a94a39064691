"""The records of a real Kafka 4.3.0 controller, step by step (``golden.json``), against those that this one writes.

A trace holds what was done (kill -9, restart, controlled shutdown, admin requests), the metadata records that followed
and the partitions as they then were. Fence records that a left-over session wrote a second time are not in it.
Changes that partition leaders ask for (AlterPartition) are asked for here in their name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from tests.unit.controller.plane import SECOND_US, Plane

from kafkasim.core.model.admin_messages import (
    BROKER_RESOURCE,
    DELETE_OPERATION,
    PREFERRED_ELECTION,
    SET_OPERATION,
    TOPIC_RESOURCE,
    UNCLEAN_ELECTION,
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
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import BrokerRegistrationChangeRecord, MetadataRecord, PartitionChangeRecord

TRACES = json.loads((Path(__file__).parent / "golden.json").read_text())
SESSION_US = 3 * SECOND_US

Fields = dict[str, Any]


def written(record: MetadataRecord) -> tuple[str, Fields]:
    """The record in the form of a trace: only fields that say something, lists for tuples."""
    fields = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in attrs.asdict(cast(attrs.AttrsInstance, record), recurse=False).items()
        if name != "replayed"
    }
    return type(record).__name__, fields


def says(record: MetadataRecord, kind: str, wanted: Fields) -> bool:
    name, fields = written(record)
    if isinstance(record, PartitionChangeRecord):
        unset = {"leader": -2}
        said = {key: value for key, value in fields.items() if value is not None and value != unset.get(key)}
        said.pop("topic_id")
        return name == kind and said == wanted
    return name == kind and all(fields[key] == value for key, value in wanted.items())


class Player:
    """Does to a plane what was done to the real cluster."""

    def __init__(self, trace: dict[str, Any]) -> None:
        config = {"broker.session.timeout.ms": str(SESSION_US // 1000)}
        self.plane = Plane(tuple(trace["brokers"]), config=config)
        self.clean: set[int] = set()

    def do(self, action: dict[str, Any], step: dict[str, Any]) -> tuple[str, str | None] | None:
        """(error, message) of an admin request, None for all else."""
        plane, op = self.plane, action["op"]
        broker = action.get("broker")
        tp = TopicPartition(action.get("topic") or "", action.get("partition") or 0)
        if op == "kill9" or (op == "pause" and step["records"]):
            plane.kill(action["broker"])
            self.clean.discard(action["broker"])
        elif op == "controlled_shutdown":
            plane.stop(action["broker"])
            self.clean.add(action["broker"])
        elif op == "start":
            plane.advance(SESSION_US + SECOND_US, self.alive())
            plane.fresh()
            plane.start(action["broker"], clean=broker in self.clean)
        elif op == "resume":
            plane.beat(action["broker"])
        elif op == "wait_auto_preferred":
            plane.advance(300 * SECOND_US, self.alive())
        elif op == "create_topic":
            assignments = tuple((index, tuple(replicas)) for index, replicas in enumerate(action["assignment"]))
            configs = tuple((key, str(value)) for key, value in action["configs"].items())
            spec = NewTopicSpec(action["topic"], assignments=assignments, configs=configs)
            created = plane.ask(CreateTopicsRequest((spec,))).topics[0]
            return created.error.name, created.error_message
        elif op == "delete_topic":
            deleted = plane.ask(DeleteTopicsRequest((action["topic"],))).topics[0]
            return deleted.error.name, deleted.error_message
        elif op == "create_partitions":
            replicas = tuple(tuple(nodes) for nodes in action["assignments"])
            grown = plane.ask(CreatePartitionsRequest((NewPartitionsSpec(tp.topic, action["count"], replicas),)))
            return grown.topics[0].error.name, grown.topics[0].error_message
        elif op == "elect":
            election = PREFERRED_ELECTION if action["kind"] == "preferred" else UNCLEAN_ELECTION
            elected = plane.ask(ElectLeadersRequest(election, (tp,))).partitions[0]
            return elected.error.name, elected.error_message
        elif op == "alter_config":
            kind = TOPIC_RESOURCE if action["resource"] == "topic" else BROKER_RESOURCE
            value = action["value"]
            change = (
                (action["key"], SET_OPERATION, str(value))
                if value is not None
                else (action["key"], DELETE_OPERATION, None)
            )
            alteration = ConfigAlteration(ConfigResource(kind, action["name"]), (change,))
            altered = plane.ask(IncrementalAlterConfigsRequest((alteration,))).results[0]
            return altered.error.name, altered.error_message
        elif op == "reassign":
            target = None if action["replicas"] is None else tuple(action["replicas"])
            moved = plane.ask(AlterPartitionReassignmentsRequest((Reassignment(tp, target),))).partitions[0]
            return moved.error.name, None
        return None

    def alive(self) -> tuple[int, ...]:
        return tuple(node for node, broker in self.plane.image.brokers.items() if not broker.fenced)

    def ask_as_leader(self, wanted: Fields) -> None:
        """The leader proposes the recorded ISR, and with it those that a reassignment then lets go."""
        state = self.plane.partition("t", wanted["partition"])
        isr = {*wanted["isr"], state.leader}
        if "removing_replicas" in wanted:
            isr |= set(state.isr)
        self.plane.alter_isr(tuple(sorted(isr)), "t", wanted["partition"])


def repeats(record: MetadataRecord) -> bool:
    """A fence record that a left-over session may have written again."""
    return isinstance(record, BrokerRegistrationChangeRecord) and record.fenced == 1


@pytest.mark.parametrize("trace", TRACES, ids=[trace["name"] for trace in TRACES])
def test_trace(trace: dict[str, Any]) -> None:
    """The same records in the same order, the same answers, the same partitions as the real controller's."""
    player = Player(trace)
    for step in trace["steps"]:
        outcome = player.do(step["do"], step)
        if outcome is not None and "error" in step:
            assert outcome[0] == step["error"], step
            assert step.get("message") in (None, outcome[1]), step
        records = player.plane.fresh()
        for kind, wanted in step["records"]:
            while records and repeats(records[0]) and not says(records[0], kind, wanted):
                records.pop(0)
            if not records and "isr" in wanted:
                player.ask_as_leader(wanted)
                records = player.plane.fresh()
            assert records, (step["do"], kind, wanted)
            assert says(records[0], kind, wanted), (step["do"], kind, wanted, records[0])
            records.pop(0)
        assert all(repeats(record) for record in records), (step["do"], records)
        for name, expected in step["after"].items():
            topic, _, partition = name.rpartition("-")
            state = player.plane.partition(topic, int(partition))
            found = [
                state.leader,
                state.leader_epoch,
                list(state.replicas),
                sorted(state.isr),
                list(state.elr),
                list(state.last_known_elr),
                state.partition_epoch,
            ]
            assert found == expected, step["do"]
    player.plane.check_replay()
