"""Record a replication scenario: brokers of a real cluster are harmed and asked, step by step, and what then holds is written down.

The cluster: brokers 1, 2, 3 and 5 carry the topics, 4 is broker and the only controller and is never harmed. A step's action is done;
where it has a condition (a killed broker is fenced, a started one is not) that is awaited; then the recorder waits until
nothing it can see has changed for a while. The metadata records come from the controller's log, read when all is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.real import metadata_log, requests

from kafkasim.real import wire
from kafkasim.real.local_kafka import LocalBroker, LocalKafka

Fields = dict[str, Any]

NODES = 5
CONTROLLER = 4
# Short enough to wait for; Kafka's own defaults are 9 s, 2 s and 30 s.
PROPS: Fields = {
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    "replica.lag.time.max.ms": 30_000,
}
# Seconds without a visible change after which a step is over. A follower hears of a new high watermark within half a second;
# a broker that was started catches up before it enters the ISR.
QUIET = {"produce": 0.8, "fetch": 0.0, "list_reassignments": 0.0, "start": 2.0, "resume": 2.0}
USUAL_QUIET = 1.5
CONDITIONS = {"kill9": "fenced", "controlled_shutdown": "fenced", "start": "active", "resume": "active"}
CONDITION_SECONDS = 60.0
TIMED_OUT = "TIMEOUT"
VALUE = b"x"


class Recording:
    """One scenario on one running cluster."""

    def __init__(self, kafka: LocalKafka) -> None:
        self._kafka = kafka
        self._topics: dict[str, None] = {}
        self._own: dict[str, Callable[..., Any]] = {
            "kill9": lambda broker: self._node(broker).crash(),
            "controlled_shutdown": self._shut_down,
            "start": lambda broker: self._node(broker).start(),
            "pause": lambda broker: self._node(broker).pause(),
            "resume": lambda broker: self._node(broker).resume(),
            "wait": lambda seconds: time.sleep(seconds),
            "wait_auto_preferred": lambda seconds: time.sleep(seconds),
            "create_topic": self._create_topic,
            "delete_topic": lambda topic: requests.delete_topic(self._controller, topic),
            "create_partitions": lambda **given: requests.create_partitions(self._controller, **given),
            "alter_config": self._alter_config,
            "delete_records": lambda to_broker, **given: requests.delete_records(self._address(to_broker), **given),
            "elect": lambda **given: requests.elect(self._controller, **given),
            "reassign": lambda **given: requests.reassign(self._controller, **given),
            "unregister_broker": lambda broker: requests.unregister_broker(self._controller, broker),
            "list_reassignments": lambda: requests.list_reassignments(self._controller),
            "produce": self._produce,
            "fetch": self._fetch,
        }

    def run(self, scenario: Fields) -> Fields:
        """The whole trace."""
        began = _now_ms()
        steps = []
        for number, described in enumerate(scenario["steps"]):
            steps.append(self._step(number, described, began))
            print(f"  step {number}: {described['action']['op']} took {steps[-1]['took_ms']} ms", flush=True)
        controller = self._node(CONTROLLER)
        records = metadata_log.dump(self._kafka.java_command, controller.folder / "data")
        _add_records(steps, records, began)
        return {
            "name": scenario["name"],
            "doc": scenario.get("doc", ""),
            "kafka": "4.3.0",
            "cluster": {
                "brokers": list(self._kafka.brokers),
                "controllers": list(self._kafka.controllers),
                "rack": "zone<id>",
                "props": {**PROPS, **scenario.get("props", {})},
                "metadataVersion": "4.3-IV0",
                "observer": CONTROLLER,
            },
            "topics": {
                step["action"]["topic"]: step["action"]["assignment"]
                for step in steps
                if step["action"]["op"] == "create_topic"
            },
            "steps": steps,
        }

    def _step(self, number: int, described: Fields, began: int) -> Fields:
        action = described["action"]
        given = {name: value for name, value in action.items() if name != "op"}
        started = _now_ms()
        step: Fields = {"step": number, "action": action, "t_ms": started - began}
        answer = self._own[action["op"]](**given)
        if answer is not None:
            step["produce_result" if action["op"] == "produce" else "result"] = answer
        condition = described.get("until", CONDITIONS.get(action["op"]))
        if condition:
            step["condition_met_ms"] = self._await(action["broker"], condition, started)
        if "seconds" in described:
            time.sleep(described["seconds"])
        step["after"] = self._settled(described.get("quiet", QUIET.get(action["op"], USUAL_QUIET)))
        step["took_ms"] = _now_ms() - started
        return step

    # --- actions -----------------------------------------------------------------------------------------------------

    def _node(self, node_id: int) -> LocalBroker:
        return self._kafka.brokers[node_id]

    def _address(self, node_id: int) -> wire.Address:
        return ("127.0.0.1", self._node(node_id).port)

    @property
    def _controller(self) -> wire.Address:
        return self._address(CONTROLLER)

    def _shut_down(self, broker: int) -> None:
        self._node(broker).shutdown()
        self._node(broker).wait_until_gone(60.0)

    def _create_topic(self, topic: str, assignment: list[list[int]], configs: Fields) -> Fields:
        self._topics[topic] = None
        return requests.create_topic(self._controller, topic, assignment, configs)

    def _alter_config(
        self, topic: str | None, key: str, value: object, resource: str = "topic", name: str | None = None
    ) -> Fields:
        return requests.alter_config(self._controller, resource, topic if name is None else name, key, value)

    def _produce(self, topic: str, partition: int, count: int, acks: int, to_broker: int, timeout_ms: int) -> Fields:
        started = time.monotonic()
        values = [VALUE] * count
        answer = requests.produce(self._address(to_broker), topic, partition, values, acks, timeout_ms, _now_ms())
        result = {"broker": to_broker, "acks": acks, "count": count, **answer}
        return result if acks == 0 else {**result, "elapsed_ms": round((time.monotonic() - started) * 1000)}

    def _fetch(self, topic: str, partition: int, from_broker: int, offset: int, currentLeaderEpoch: int = -1) -> Fields:
        return requests.fetch(self._address(from_broker), topic, partition, offset, currentLeaderEpoch)

    # --- what then holds ---------------------------------------------------------------------------------------------

    def _await(self, broker: int, condition: str, started: int) -> int | str:
        deadline = time.monotonic() + CONDITION_SECONDS
        while time.monotonic() < deadline:
            if (broker in self._listed()) == (condition == "active"):
                return _now_ms() - started
            time.sleep(0.1)
        return TIMED_OUT

    def _listed(self) -> list[int]:
        return wire.broker_ids(self._controller)

    def _settled(self, quiet: float) -> Fields:
        """The state once it has not changed for so many seconds."""
        seen = self._observe()
        since = time.monotonic()
        deadline = since + CONDITION_SECONDS
        while time.monotonic() - since < quiet and time.monotonic() < deadline:
            time.sleep(0.1)
            now = self._observe()
            if now != seen:
                seen, since = now, time.monotonic()
        return seen

    def _observe(self) -> Fields:
        listed = self._listed()
        states = {str(node_id): "active" if node_id in listed else "fenced" for node_id in self._kafka.brokers}
        partitions = []
        for topic in self._topics:
            described = wire.describe_topic(self._controller, topic)
            if not described:
                partitions.append({"topic": topic, "error": "UNKNOWN_TOPIC_OR_PARTITION"})
            partitions += [self._partition(topic, each) for each in described]
        return {"brokers": states, "partitions": partitions}

    def _partition(self, topic: str, described: wire.WirePartition) -> Fields:
        views = {str(replica): self._replica(replica, topic, described.partition) for replica in described.replicas}
        own = views.get(str(described.leader), {})
        return {
            "topic": topic,
            "partition": described.partition,
            "error": requests.error_name(described.error_code),
            "leader": described.leader,
            "leaderEpoch": described.leader_epoch,
            "replicas": described.replicas,
            "isr": described.isr,
            "elr": described.elr,
            "lastKnownElr": described.last_known_elr,
            "offline": described.offline,
            "replicas_view": views,
            "hw": own.get("hw"),
            "leo": own.get("leo"),
            "logStart": own.get("logStart"),
        }

    def _replica(self, node_id: int, topic: str, partition: int) -> Fields:
        """A replica's own offsets: its broker answers for its log, leader or not."""
        node, address = self._node(node_id), self._address(node_id)
        if not node.alive or node.stopping:
            return {"down": "stopped"}
        if node.paused:
            return {"down": "paused"}
        try:
            ends = [
                wire.list_offsets(address, topic, [partition], which, wire.DEBUGGING_REPLICA_ID)[partition]
                for which in (wire.LATEST_TIMESTAMP, wire.EARLIEST_TIMESTAMP)
            ]
            if None in ends:
                return {"down": "no replica"}
            fetched = requests.fetch(address, topic, partition, ends[1] or 0, max_bytes=1)
        except OSError as problem:
            return {"down": type(problem).__name__}
        return {"leo": ends[0], "hw": fetched["hw"], "logStart": ends[1]}


def _add_records(steps: list[Fields], records: list[metadata_log.Record], began: int) -> None:
    """Each step's own records, and the partition epochs as they were at its end."""
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        start = began + step["t_ms"]
        # Appends are stamped a little before the answer; between two steps there is a quiet time.
        until = began + following["t_ms"] - 50 if following else start + step["took_ms"]
        own = [record for record in records if start - 50 <= record.timestamp_ms < until]
        step["records"] = [
            {"offset": each.offset, "dt_ms": each.timestamp_ms - start, "type": each.type, "data": each.data}
            for each in own
        ]
        before = [record for record in records if record.timestamp_ms < until]
        epochs = before[-1].partition_epochs if before else {}
        for part in step["after"]["partitions"]:
            if "partition" in part:
                part["partitionEpoch"] = epochs.get((part["topic"], part["partition"]))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def record(scenario: Fields, log_folder: Path | None = None) -> Fields:
    """Start a cluster for the scenario, run it, and take the cluster down."""
    kafka = LocalKafka(
        NODES,
        controllers=[CONTROLLER],
        racks=[f"zone{node_id}" for node_id in range(1, NODES + 1)],
        config={**PROPS, **scenario.get("props", {})},
    )
    with kafka:
        return Recording(kafka).run(scenario)
