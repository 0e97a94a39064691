"""Replication traces: the same broker failures, produces and admin requests on a whole simulated cluster, step by step.

Brokers 1, 2, 3 and 5 carry the topics, 4 is broker and only voter. Each step's action is done, as much virtual time passes as
the recording took, and then the controller's view, each replica's own and the step's answer are compared. Times, metadata
offsets, broker epochs and topic ids vary from run to run and are left out; so does the high watermark of a replica that
restarted and has no leader: it is what was checkpointed (every 5 s) when the process died. The metadata records are held one
by one by ``tests/unit/controller/test_golden.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.golden.verdict import Verdict

import kafkasim
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
from kafkasim.core.model.effects import NEVER_US, Effect, Send
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import (
    DeleteRecordsRequest,
    FetchRequest,
    PartitionDeleteRecords,
    PartitionFetch,
    PartitionProduce,
    ProduceRequest,
)
from kafkasim.core.model.records import batch_of
from kafkasim.sim.drive import NodeShell

LEFT_OUT = "times, metadata offsets and records, broker epochs, topic ids, high watermarks without a leader"
Fields = dict[str, Any]


class Prober:
    """A client that asks one broker one thing, whoever leads."""

    def __init__(self, cluster: kafkasim.Cluster, node_id: int) -> None:
        self.node_id = node_id
        self.outbox: list[Effect] = []
        self.deadline_us = NEVER_US
        self.response: Any = None
        self._cluster = cluster
        self._shell = NodeShell(self, cluster.kernel, cluster.fabric, lambda node, note: None)
        self._shell.start()

    def ask(self, broker: int, request: Any, timeout: float) -> Any:
        """Its answer, or None if none came in time."""
        self.outbox.append(Send(broker, 0, 1, request))
        self._shell.settle()
        self._cluster.wait(lambda: self.response is not None, round(timeout * 1e6))
        return self.response

    def on_response(self, peer: int, channel: int, correlation_id: int, response: Any, now_us: int) -> None:
        self.response = response

    def on_disconnect(self, peer: int, channel: int, now_us: int) -> None:
        """No answer will come."""

    def on_deadline(self, now_us: int) -> None:
        """It has none."""


class Replay:
    """One trace on one cluster."""

    def __init__(self, trace: Fields) -> None:
        props = trace["cluster"]["props"]
        brokers = len(trace["cluster"]["brokers"])
        self.cluster = kafkasim.Cluster(
            brokers,
            controllers=trace["cluster"]["controllers"],
            seed=1,
            config={**props, "default.replication.factor": 1},
        )
        self._probes = 2_000_000
        self._steps = trace["steps"]

    def run(self) -> Verdict:
        for step in self._steps:
            action = dict(step["action"])
            op = action.pop("op")
            does: Callable[..., Fields | None] | None = getattr(self, f"_{op}", None)
            if does is None:
                return Verdict.not_comparable(f"step {step['step']}: no such action as {op!r} here")
            started = self.cluster.now
            result = does(**action)
            left = step["took_ms"] / 1000 - (self.cluster.now - started)
            if left > 0:
                self.cluster.run_for(left)
            for difference in self._differences(step, result):
                return Verdict.different(f"step {step['step']} ({op}): {difference}", LEFT_OUT)
        return Verdict.equal(f"{len(self._steps)} steps", LEFT_OUT)

    # --- actions -----------------------------------------------------------------------------------------------------

    def _probe(self, broker: int, request: Any, timeout: float = 12.0) -> Any:
        self._probes += 1
        return Prober(self.cluster, self._probes).ask(broker, request, timeout)

    def _create_topic(self, topic: str, assignment: list[list[int]], configs: Fields) -> Fields:
        spec = NewTopicSpec(
            topic,
            assignments=tuple((number, tuple(replicas)) for number, replicas in enumerate(assignment)),
            configs=tuple((key, _text(value)) for key, value in configs.items()),
        )
        return {"error": self.cluster.ask(CreateTopicsRequest((spec,)), "controller").topics[0].error.name}

    def _produce(self, topic: str, partition: int, count: int, acks: int, to_broker: int, timeout_ms: int) -> Fields:
        values: list[bytes | None] = [b"x"] * count
        batch = batch_of(values, timestamp_ms=1_767_225_600_000)
        request = ProduceRequest(acks, timeout_ms, [PartitionProduce(TopicPartition(topic, partition), batch)])
        response = self._probe(to_broker, request, 0.3 if acks == 0 else timeout_ms / 1000 + 2)
        if acks == 0:
            return {"error": None}
        part = response.partitions[0]
        return {"error": part.error.name, "baseOffset": part.base_offset}

    def _fetch(self, topic: str, partition: int, from_broker: int, offset: int, currentLeaderEpoch: int = -1) -> Fields:
        wanted = PartitionFetch(TopicPartition(topic, partition), offset, current_leader_epoch=currentLeaderEpoch)
        part = self._probe(from_broker, FetchRequest(-1, 0, 0, 1 << 20, [wanted])).partitions[0]
        batches = [[batch.base_offset, batch.leader_epoch, batch.count] for batch in part.batches]
        return {
            "error": part.error.name,
            "hw": part.high_watermark,
            "logStart": part.log_start_offset,
            "batches": batches,
        }

    def _delete_records(self, topic: str, partition: int, offset: int, to_broker: int) -> Fields:
        request = DeleteRecordsRequest([PartitionDeleteRecords(TopicPartition(topic, partition), offset)])
        part = self._probe(to_broker, request).partitions[0]
        return {"error": part.error.name, "lowWatermark": part.low_watermark}

    def _elect(self, topic: str, partition: int, kind: str) -> Fields:
        election = PREFERRED_ELECTION if kind == "preferred" else UNCLEAN_ELECTION
        response = self.cluster.ask(ElectLeadersRequest(election, (TopicPartition(topic, partition),)), "controller")
        return {"error": response.partitions[0].error.name if response.partitions else response.error.name}

    def _alter_config(
        self, topic: str | None, key: str, value: object, resource: str | None = None, name: str | None = None
    ) -> Fields:
        where = ConfigResource(TOPIC_RESOURCE, topic) if topic else ConfigResource(BROKER_RESOURCE, name or "")
        operation = DELETE_OPERATION if value is None else SET_OPERATION
        change = (key, operation, None if value is None else _text(value))
        request = IncrementalAlterConfigsRequest((ConfigAlteration(where, (change,)),))
        answer = self.cluster.ask(request, "controller").results[0]
        return {"error": answer.error.name, "message": answer.error_message}

    def _create_partitions(self, topic: str, count: int, assignments: list[list[int]] | None) -> Fields:
        given = None if assignments is None else tuple(map(tuple, assignments))
        request = CreatePartitionsRequest((NewPartitionsSpec(topic, count, given),))
        return {"error": self.cluster.ask(request, "controller").topics[0].error.name}

    def _delete_topic(self, topic: str) -> Fields:
        return {"error": self.cluster.ask(DeleteTopicsRequest((topic,)), "controller").topics[0].error.name}

    def _reassign(self, topic: str, partition: int, replicas: list[int] | None) -> Fields:
        wanted = Reassignment(TopicPartition(topic, partition), None if replicas is None else tuple(replicas))
        response = self.cluster.ask(AlterPartitionReassignmentsRequest((wanted,)), "controller")
        return {"error": response.partitions[0].error.name}

    def _list_reassignments(self) -> None:
        """The partitions' own fields say the same."""

    def _kill9(self, broker: int) -> None:
        self.cluster.broker(broker).crash()

    def _controlled_shutdown(self, broker: int) -> None:
        self.cluster.broker(broker).shutdown()

    def _start(self, broker: int) -> None:
        self.cluster.broker(broker).start()

    def _pause(self, broker: int) -> None:
        self.cluster.broker(broker).pause()

    def _resume(self, broker: int) -> None:
        self.cluster.broker(broker).resume()

    def _wait_auto_preferred(self, seconds: float) -> None:
        """Time passes anyway."""

    # --- comparing ---------------------------------------------------------------------------------------------------

    def _differences(self, step: Fields, result: Fields | None) -> list[str]:
        found = []
        recorded = step.get("produce_result", step.get("result"))
        if isinstance(recorded, dict) and result is not None:
            found += [
                f"answer {name}: {recorded[name]!r}, got {value!r}"
                for name, value in result.items()
                if name in recorded and recorded[name] != value
            ]
        image = self.cluster._controller_image()
        for broker, state in step["after"]["brokers"].items():
            registered = image.brokers[int(broker)]
            own = "fenced" if registered.fenced else "active"
            if state in ("active", "fenced") and state != own:
                found.append(f"broker {broker}: {state}, got {own}")
        for part in step["after"].get("partitions", []):
            found += self._partition_differences(image, part)
        return found

    def _partition_differences(self, image: Any, part: Fields) -> list[str]:
        if "partition" not in part:  # the topic as a whole: deleted
            return [f"{part['topic']}: still there"] if part["topic"] in image.topics else []
        tp = TopicPartition(part["topic"], part["partition"])
        state = image.partition(tp)
        if state is None:
            return [] if part.get("error") in ("UNKNOWN_TOPIC_OR_PARTITION", None) else [f"{tp}: not there"]
        own = {
            "leader": state.leader,
            "leaderEpoch": state.leader_epoch,
            "partitionEpoch": state.partition_epoch,
            "replicas": list(state.replicas),
            "isr": sorted(state.isr),
            "elr": sorted(state.elr),
            "lastKnownElr": sorted(state.last_known_elr),
        }
        recorded = {**part, "isr": sorted(part.get("isr", [])), "elr": sorted(part.get("elr") or [])}
        found = [
            f"{tp} {name}: {recorded[name]!r}, got {value!r}"
            for name, value in own.items()
            if name in recorded and recorded[name] is not None and recorded[name] != value
        ]
        for broker, view in (part.get("replicas_view") or {}).items():
            found += self._replica_differences(int(broker), tp, view, has_leader=state.leader >= 0)
        return found

    def _replica_differences(self, broker: int, tp: TopicPartition, view: Fields, *, has_leader: bool) -> list[str]:
        node = self.cluster._servers[broker].node
        if "leo" not in view or node is None or node.broker is None:
            return []
        replica = node.broker.data_plane.replica(tp)
        if replica is None:
            return [f"{tp} on broker {broker}: {view}, got no replica"]
        own = {"leo": replica.log_end, "logStart": replica.log_start}
        if has_leader:
            own["hw"] = replica.high_watermark
        return [
            f"{tp} on broker {broker} {name}: {view[name]}, got {value}"
            for name, value in own.items()
            if view.get(name) is not None and view[name] != value
        ]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def replay(trace: Fields) -> Verdict:
    """Compare a replication trace with the simulator, up to its first difference."""
    if trace["cluster"].get("features"):
        return Verdict.not_comparable("switched features are not modelled yet")
    run = Replay(trace)
    with run.cluster:
        return run.run()
