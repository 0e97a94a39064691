"""Replication traces: the same broker failures, produces and admin requests on a whole simulated cluster, step by step.

Brokers 1, 2, 3 and 5 carry the topics, 4 is broker and only voter. Each step's action is done, as much virtual time passes as
the recording took, and then the controller's view, each replica's own, the step's answer and the metadata records written
meanwhile are compared. Times, metadata offsets, broker epochs and topic ids vary from run to run and are left out; so does the
high watermark of a replica that restarted and has no leader: it is what was checkpointed (every 5 s) when the process died.
A recording is one of the ways a thing can go: how long the cluster had been up, and so where its brokers are between two
checkpoints of their high watermarks, it does not tell. The simulator may find the same under any of a few seeds and ages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.golden.metadata_records import differences, own_entries, recorded_entries
from tests.golden.verdict import Verdict

import kafkasim
from kafkasim.core.controller.state import ELR_FEATURE
from kafkasim.core.model.admin_messages import (
    APPEND_OPERATION,
    BROKER_RESOURCE,
    DELETE_OPERATION,
    PREFERRED_ELECTION,
    SET_OPERATION,
    SUBTRACT_OPERATION,
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
    UnregisterBrokerRequest,
)
from kafkasim.core.model.effects import NEVER_US, Effect, Send
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import (
    DeleteRecordsRequest,
    FetchRequest,
    OffsetForLeaderEpochRequest,
    PartitionDeleteRecords,
    PartitionEpochQuery,
    PartitionFetch,
    PartitionProduce,
    ProduceRequest,
)
from kafkasim.core.model.records import batch_of
from kafkasim.sim.drive import NodeShell

LEFT_OUT = "times, metadata offsets, broker epochs, topic ids, high watermarks without a leader"
SEEDS = tuple(range(1, 9))
#: By so much a cluster of the next seed is older when the trace begins; together they span a checkpoint interval.
AGE_S = 0.65
#: What a real process takes before it registers; and, once it could serve, until the controller has written so.
PROCESS_START_S = 0.9
UNFENCING_S = 0.03
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

    def __init__(self, trace: Fields, seed: int) -> None:
        recorded = trace["cluster"]
        count = len(recorded["brokers"])
        racks = recorded.get("racks") or {}
        switched = recorded.get("features") or {}
        self.cluster = kafkasim.Cluster(
            count,
            controllers=recorded["controllers"],
            seed=seed,
            racks=[racks.get(str(broker), f"zone{broker}") for broker in range(1, count + 1)],
            config={**recorded["props"], "default.replication.factor": 1},
            features={"eligible_leader_replicas": False} if switched.get(ELR_FEATURE) == 0 else None,
        )
        self._probes = 2_000_000
        self._steps = trace["steps"]
        self._observer = recorded.get("observer", recorded["controllers"][0])
        self._controller = self.cluster._servers[recorded["controllers"][0]]
        self._topics = {"", *(step["action"].get("topic") or "" for step in self._steps)}
        self._names: dict[str, str] = {}
        self._fenced: set[str] = set()
        self._process_start_s = PROCESS_START_S
        self.cluster.run_for((seed - SEEDS[0]) * AGE_S)

    def run(self) -> Verdict:
        for step in self._steps:
            action = dict(step["action"])
            op = action.pop("op")
            does = self._doer(op)
            if does is None:
                return Verdict.not_comparable(f"step {step['step']}: no such action as {op!r} here")
            self._process_start_s = self._start_up(step)
            started, offset = self.cluster.now, self._controller.storage.metadata_log.log_end
            try:
                result = does(**action)
            except (KeyError, TypeError) as problem:
                return Verdict.not_comparable(f"step {step['step']} ({op}): {problem}")
            left = step["took_ms"] / 1000 - (self.cluster.now - started)
            if left > 0:
                self.cluster.run_for(left)
            for difference in self._differences(step, result, offset):
                return Verdict.different(f"step {step['step']} ({op}): {difference}", LEFT_OUT)
        return Verdict.equal(f"{len(self._steps)} steps", LEFT_OUT)

    def _start_up(self, step: Fields) -> float:
        """How long the recorded machine took to start a broker, where no session of the process before hid it."""
        broker = step["action"].get("broker")
        for record in step["records"]:
            data = record.get("data", {})
            if data.get("brokerId") == broker and data.get("fenced") == -1 and f"broker {broker}" in self._fenced:
                return max(0.0, float(record["dt_ms"]) / 1000 - UNFENCING_S)
        return PROCESS_START_S

    def _doer(self, op: str) -> Callable[..., Fields | None] | None:
        """What does ``op``; one that only looks or waits does nothing, for all is looked at and time passes anyway."""
        if op.startswith(("wait", "sleep", "list", "describe", "observe", "noop")):
            return lambda **_: None
        if "epoch" in op:
            return self._epoch_end
        return getattr(self, f"_{op}", None)

    # --- actions -----------------------------------------------------------------------------------------------------

    def _probe(self, broker: int, request: Any, timeout: float = 12.0) -> Any:
        self._probes += 1
        return Prober(self.cluster, self._probes).ask(broker, request, timeout)

    def _ask(self, request: Any) -> Any:
        """An administrator's request, sent where the recorder sent all of them."""
        return self.cluster.ask(request, ("broker", self._observer))

    def _create_topic(
        self,
        topic: str,
        assignment: list[list[int]] | None = None,
        configs: Fields | None = None,
        partitions: int = -1,
        replication_factor: int = -1,
    ) -> Fields:
        spec = NewTopicSpec(
            topic,
            partitions,
            replication_factor,
            assignments=tuple((number, tuple(replicas)) for number, replicas in enumerate(assignment or ())),
            configs=tuple((key, _text(value)) for key, value in (configs or {}).items()),
        )
        return _told(self._ask(CreateTopicsRequest((spec,))).topics[0])

    def _produce(self, topic: str, partition: int, count: int, acks: int, to_broker: int, timeout_ms: int) -> Fields:
        values: list[bytes | None] = [b"x"] * count
        batch = batch_of(values, timestamp_ms=1_767_225_600_000)
        request = ProduceRequest(acks, timeout_ms, [PartitionProduce(TopicPartition(topic, partition), batch)])
        response = self._probe(to_broker, request, 0.3 if acks == 0 else timeout_ms / 1000 + 2)
        if acks == 0:
            return {"error": None}
        if response is None:
            return {"error": "TIMEOUT"}
        part = response.partitions[0]
        leader = {"leaderId": part.current_leader, "leaderEpoch": part.current_leader_epoch}
        return {"error": part.error.name, "baseOffset": part.base_offset, "currentLeader": leader}

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

    def _epoch_end(
        self,
        topic: str,
        partition: int,
        from_broker: int = -1,
        to_broker: int = -1,
        broker: int = -1,
        epoch: int = -1,
        leaderEpoch: int = -1,
        currentLeaderEpoch: int = -1,
    ) -> Fields:
        wanted = PartitionEpochQuery(TopicPartition(topic, partition), max(epoch, leaderEpoch), currentLeaderEpoch)
        request = OffsetForLeaderEpochRequest([wanted])
        part = self._probe(max(from_broker, to_broker, broker), request).partitions[0]
        found = {"leaderEpoch": part.leader_epoch, "epoch": part.leader_epoch, "endOffset": part.end_offset}
        return {"error": part.error.name, **found}

    def _elect(self, kind: str, topic: str | None = None, partition: int | None = None) -> Fields:
        election = PREFERRED_ELECTION if kind == "preferred" else UNCLEAN_ELECTION
        wanted = None if topic is None or partition is None else (TopicPartition(topic, partition),)
        response = self._ask(ElectLeadersRequest(election, wanted))
        if wanted is None or not response.partitions:
            return {"error": response.error.name}
        return _told(response.partitions[0])

    def _alter_config(
        self,
        key: str,
        value: object = None,
        topic: str | None = None,
        resource: str | None = None,
        name: str | None = None,
        operation: str | None = None,
    ) -> Fields:
        of_topic = topic is not None and resource in (None, "topic")
        kind = TOPIC_RESOURCE if of_topic else _RESOURCES[resource or "broker"]
        where = ConfigResource(kind, topic or "" if of_topic else name or "")
        does = _OPERATIONS[(operation or ("delete" if value is None else "set")).lower()]
        change = (key, does, None if value is None else _text(value))
        return _told(self._ask(IncrementalAlterConfigsRequest((ConfigAlteration(where, (change,)),))).results[0])

    def _delete_config(self, key: str, **where: Any) -> Fields:
        return self._alter_config(key, **where)

    def _create_partitions(self, topic: str, count: int, assignments: list[list[int]] | None = None) -> Fields:
        given = None if assignments is None else tuple(map(tuple, assignments))
        request = CreatePartitionsRequest((NewPartitionsSpec(topic, count, given),))
        return _told(self._ask(request).topics[0])

    def _delete_topic(self, topic: str) -> Fields:
        return _told(self._ask(DeleteTopicsRequest((topic,))).topics[0])

    def _reassign(self, topic: str, partition: int, replicas: list[int] | None) -> Fields:
        wanted = Reassignment(TopicPartition(topic, partition), None if replicas is None else tuple(replicas))
        return _told(self._ask(AlterPartitionReassignmentsRequest((wanted,))).partitions[0])

    def _cancel_reassignment(self, topic: str, partition: int) -> Fields:
        return self._reassign(topic, partition, None)

    def _unregister_broker(self, broker: int) -> Fields:
        return _told(self._ask(UnregisterBrokerRequest(broker)))

    def _kill9(self, broker: int) -> None:
        self.cluster.broker(broker).crash()

    def _controlled_shutdown(self, broker: int) -> None:
        self.cluster.broker(broker).shutdown()

    def _start(self, broker: int) -> None:
        self.cluster.run_for(self._process_start_s)
        self.cluster.broker(broker).start()

    def _bounce(self, broker: int) -> None:
        self._kill9(broker)
        self._start(broker)

    def _pause(self, broker: int) -> None:
        self.cluster.broker(broker).pause()

    def _resume(self, broker: int) -> None:
        self.cluster.broker(broker).resume()

    # --- comparing ---------------------------------------------------------------------------------------------------

    def _differences(self, step: Fields, result: Fields | None, offset: int) -> list[str]:
        found = []
        recorded = step.get("produce_result", step.get("result"))
        if isinstance(recorded, dict) and result is not None:
            found += [
                f"answer {name}: {recorded[name]!r}, got {value!r}"
                for name, value in result.items()
                if name in recorded and recorded[name] != value
            ]
        image = self.cluster._controller_image()
        states = step["after"]["brokers"]
        for broker, state in states.items():
            registered = image.brokers.get(int(broker))
            own = "fenced" if registered is None or registered.fenced else "active"
            if state in ("active", "fenced") and state != own:
                found.append(f"broker {broker}: {state}, got {own}")
        for part in step["after"].get("partitions", []):
            found += self._partition_differences(image, part)
        log = self._controller.storage.metadata_log
        own_records = own_entries(log.read_between(offset, log.log_end), self._names)
        found += differences(recorded_entries(step["records"]), own_records, self._topics, self._fenced)
        self._fenced = {f"broker {broker}" for broker, state in states.items() if state == "fenced"}
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
            "offline": [node for node in state.replicas if node not in image.brokers or image.brokers[node].fenced],
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


_RESOURCES = {"topic": TOPIC_RESOURCE, "broker": BROKER_RESOURCE, "cluster": BROKER_RESOURCE}
_OPERATIONS = {
    "set": SET_OPERATION,
    "delete": DELETE_OPERATION,
    "append": APPEND_OPERATION,
    "subtract": SUBTRACT_OPERATION,
}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _told(answer: Any) -> Fields:
    """Error and message; where the protocol carries no message, a recorder notes the error's own text."""
    return {"error": answer.error.name, "message": answer.error_message}


def replay(trace: Fields) -> Verdict:
    """Compare a replication trace with the simulator, up to its first difference."""
    verdicts = []
    for seed in SEEDS:
        run = Replay(trace, seed)
        with run.cluster:
            verdict = run.run()
        if verdict.kind != "different":
            return verdict
        verdicts.append(verdict)
    return verdicts[0]
