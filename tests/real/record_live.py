"""Record lives of a group: members join one by one, close and are killed, and after each of these it is written down who has what.

Each member is a process (`live_member`). A step is over when nothing the members and the admin client tell has changed for a while.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import TopicCollection
from tests.golden.members import CLIENTS, client_config
from tests.golden.scene import BROKER_CONFIG, Scene

from kafkasim.real.cluster import RealCluster
from kafkasim.real.local_kafka import LocalKafka

Fields = dict[str, Any]

TOPOLOGIES = Path(__file__).parent / "scenarios" / "live"
# Longer than a heartbeat and the pause between two assignments; a killed member is missed after its session's 3 s.
QUIET_S, KILLED_S, PATIENCE_S = 2.5, 6.0, 30.0


class _Process:
    """A member from outside."""

    def __init__(self, name: str, config: Fields, topics: list[str]) -> None:
        self.name = name
        self.topics = topics
        self.events: list[Fields] = []
        given = json.dumps({"config": {"client.id": name, **config}, "topics": topics})
        command = [sys.executable, "-m", "tests.real.live_member", given]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str) -> Fields:
        """Its answer; the events in it are kept until they are taken."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"member {self.name} ended without an answer to {command!r}")
        answer: Fields = json.loads(line)
        self.events += answer.pop("events")
        return answer

    def take(self) -> list[Fields]:
        taken, self.events = self.events, []
        return taken


class LifeRecorder:
    """One protocol, one topology, one real broker."""

    def __init__(self, cluster: RealCluster, protocol: str, topology: str) -> None:
        self._cluster = cluster
        self._plan: Fields = json.loads((TOPOLOGIES / f"{topology}.json").read_text())
        self._protocol, self._topology = protocol, topology
        self._prefix = f"{protocol}-{topology}--"
        self._scene = Scene({"steps": []}, protocol, 0, cluster)
        self._scene.group = f"g-{self._prefix}"
        self._members: dict[str, _Process] = {}

    def run(self) -> Fields:
        """One entry of a trace's ``scenarios``; no process is left behind."""
        for topic, partitions in self._plan["topics"].items():
            self._cluster.create_topic(self._prefix + topic, partitions=partitions)
        try:
            steps = [self._step(*event) for event in self._plan["events"]]
        finally:
            for member in self._members.values():
                member.process.kill()
        return {
            "topology": self._topology,
            "protocol": self._protocol,
            "client": CLIENTS[self._protocol],
            "topics": self._plan["topics"],
            "steps": steps,
        }

    def topic_ids(self) -> dict[str, str]:
        names = [self._prefix + topic for topic in self._plan["topics"]]
        found = self._scene.admin.describe_topics(TopicCollection(names))
        return {name: str(future.result().topic_id) for name, future in found.items()}

    def _step(self, event: str, *topics: str) -> Fields:
        print(f"  {self._prefix[:-2]}: {event}", flush=True)
        what, name = event.rsplit(" ", 1)
        if name == "all":
            members = {each: self._close(each) for each in list(self._members)}
            return {"event": event, "members": members, "describe": self._scene.describe()}
        if what == "join":
            config = {
                "bootstrap.servers": self._cluster.bootstrap_servers,
                "group.id": self._scene.group,
                **client_config(self._protocol),
            }
            self._members[name] = _Process(name, config, [self._prefix + topic for topic in topics])
        elif what == "close":
            self._close(name)
        else:
            self._members.pop(name).process.kill()
            time.sleep(KILLED_S)
        settled = self._settle()
        members = {each: self._snapshot(member) for each, member in self._members.items()}
        return {"event": event, "settled": settled, "members": members, "describe": self._scene.describe()}

    def _close(self, name: str) -> list[Fields]:
        member = self._members.pop(name)
        member.ask("close")
        member.process.wait(30)
        return member.take()

    def _snapshot(self, member: _Process) -> Fields:
        subscribed = [topic.removeprefix(self._prefix) for topic in member.topics]
        return {**member.ask("snapshot"), "subscribed": subscribed, "events": member.take()}

    def _settle(self) -> bool:
        seen: Any = None
        since = time.monotonic()
        deadline = since + PATIENCE_S
        while time.monotonic() - since < QUIET_S:
            if time.monotonic() > deadline:
                return False
            now = [self._scene.describe(), *(member.ask("snapshot") for member in self._members.values())]
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.2)
        return True


def record(protocol: str) -> Fields:
    """Every topology there is, under one protocol."""
    scenarios, topic_ids = [], {}
    with LocalKafka(1, config=BROKER_CONFIG) as kafka:
        with RealCluster(kafka.bootstrap_servers, local=kafka) as cluster:
            cluster.wait_for_coordinators()
        for path in sorted(TOPOLOGIES.glob("*.json")):
            with RealCluster(kafka.bootstrap_servers, local=kafka) as cluster:
                life = LifeRecorder(cluster, protocol, path.stem)
                scenarios.append(life.run())
                topic_ids.update(life.topic_ids())
    return {"scenarios": scenarios, "topic_ids": topic_ids}
