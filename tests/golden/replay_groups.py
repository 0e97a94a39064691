"""Live groups: members join one by one, close and die; who owns what, in which generation or epoch, after which callbacks.

Rule 1:   assignors look at ids. Classic member ids begin with the client id: the members of a replay bear the recorded client ids.
          Members of the consumer protocol choose their ids, and topics have some: those of a replay are the recorded ones.
Rule 2:   a recording was cut off when the group had settled, sometimes before the last callback of a member was written down: the recorded
          callbacks must come in their order, and nothing but such a last one may come beside them.
Rule 3:   a member of the consumer protocol is given what others release as they release it, which is a matter of when each of them happens
          to send its heartbeat: assigns that follow one another count as one.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from tests.golden.verdict import Verdict

import kafkasim
from kafkasim.core.controller import topics as controller_topics

LEFT_OUT = "times, the random part of member ids, callbacks while all close at once"
LEFT_OUT_CONSUMER = "times, into how many assigns a gain was split, callbacks while all close at once"
Fields = dict[str, Any]

SETTLE_SECONDS = 12.0
CLASSIC_TIMERS = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
BROKER_CONFIG = {
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 3000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 500,
}


class Member:
    """One member as a task of its own, with what its callbacks said; ``member_id`` where it chooses one itself."""

    def __init__(self, name: str, topics: list[str], config: Fields, member_id: str | None) -> None:
        self.name = name
        self._member_id = member_id
        self.events: list[tuple[str, dict[str, list[int]]]] = []
        self.wants_to_close = False
        self.consumer: Any = None
        self._topics = topics
        self._config = config

    def __call__(self) -> None:
        from confluent_kafka import Consumer

        timers = CLASSIC_TIMERS if self._member_id is None else {}
        given = {"bootstrap.servers": "any:9092", "client.id": self.name, "auto.offset.reset": "earliest"}
        self.consumer = Consumer({**given, **timers, **self._config})
        if self._member_id is not None:
            self.consumer._engine._membership.member_id = self._member_id
        self.consumer.subscribe(
            self._topics,
            on_assign=lambda _, parts: self.events.append(("assign", _by_topic(parts))),
            on_revoke=lambda _, parts: self.events.append(("revoke", _by_topic(parts))),
            on_lost=lambda _, parts: self.events.append(("lost", _by_topic(parts))),
        )
        while not self.wants_to_close:
            self.consumer.poll(0.1)
        self.consumer.close()


def _by_topic(partitions: Any) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for part in sorted(partitions, key=lambda part: (part.topic, part.partition)):
        found.setdefault(part.topic, []).append(part.partition)
    return found


def replay_live(trace: Fields) -> Verdict:
    """Every scenario of one live trace, each on a cluster of its own."""
    steps, left_out = 0, LEFT_OUT
    for scenario in trace["scenarios"]:
        protocol = str(scenario.get("protocol", ""))
        if not protocol.startswith(("eager", "coop", "consumer")):
            return Verdict.not_comparable(f"no such protocol as {protocol!r} here")
        if _is_consumer(scenario):
            left_out = LEFT_OUT_CONSUMER
        difference = _replay_scenario(scenario, trace.get("topic_ids", {}))
        if difference:
            return Verdict.different(f"{scenario['topology']}: {difference}", left_out)
        steps += len(scenario["steps"])
    return Verdict.equal(f"{steps} steps of {len(trace['scenarios'])} topologies", left_out)


def _is_consumer(scenario: Fields) -> bool:
    return str(scenario["client"].get("group.protocol", "classic")) == "consumer"


def _create_topic(cluster: Any, name: str, partitions: int, topic_id: str | None) -> None:
    """With the recorded id, if there is one; Kafka itself spells ids with the letters of URLs."""
    if topic_id is None:
        cluster.create_topic(name, partitions=partitions)
        return
    spelled = topic_id.replace("+", "-").replace("/", "_")
    with mock.patch.object(controller_topics, "draw_topic_id", return_value=spelled):
        cluster.create_topic(name, partitions=partitions)


def _replay_scenario(scenario: Fields, topic_ids: dict[str, str]) -> str:
    prefix = f"{scenario['protocol']}-{scenario['topology']}--"
    is_consumer = _is_consumer(scenario)
    with kafkasim.Cluster(1, seed=1, config=BROKER_CONFIG) as cluster:
        for topic, partitions in scenario["topics"].items():
            topic_id = topic_ids.get(prefix + topic) if is_consumer else None
            _create_topic(cluster, prefix + topic, partitions, topic_id)
        members: dict[str, Member] = {}
        tasks: dict[str, Any] = {}
        for step in scenario["steps"]:
            what, name = step["event"].rsplit(" ", 1)
            if what == "join":
                recorded = step["members"][name]
                topics = [prefix + topic for topic in recorded["subscribed"]]
                member_id = recorded["member_id"] if is_consumer else None
                members[name] = Member(name, topics, {"group.id": "g", **scenario["client"]}, member_id)
                tasks[name] = cluster.spawn(members[name], name=name)
            elif what == "close":
                for member in members.values() if name == "all" else [members[name]]:
                    member.wants_to_close = True
            elif what == "kill -9":
                tasks[name].kill()
            else:
                return f"no such event as {step['event']!r} here"
            seen = {member: len(each.events) for member, each in members.items()}
            cluster.run_for(SETTLE_SECONDS)
            difference = _group_difference(cluster, step)
            if not difference and name != "all":
                difference = _difference(step, members, seen, is_consumer)
            if difference:
                return f"after {step['event']}: {difference}"
    return ""


def _group_difference(cluster: Any, step: Fields) -> str:
    """What an admin client is told of the group as a whole, and of its members' targets."""
    recorded = step["describe"]
    (future,) = cluster.admin().describe_consumer_groups(["g"]).values()
    group = future.result()
    told = {"state": group.state.name, "type": group.type.name, "assignor": group.partition_assignor}
    for field, value in told.items():
        if recorded.get(field) not in (None, value):
            return f"the group's {field} is {recorded[field]!r}, got {value!r}"
    if recorded.get("type") != "CONSUMER":
        return ""
    targets = {each.member_id: _by_topic(each.target_assignment.topic_partitions) for each in group.members}
    expected = {
        each["member_id"]: {topic: sorted(parts) for topic, parts in each["target"].items() if parts}
        for each in recorded["members"]
    }
    return "" if targets == expected else f"the targets are {expected}, got {targets}"


def _difference(step: Fields, members: dict[str, Member], seen: dict[str, int], is_consumer: bool) -> str:
    for name, recorded in step["members"].items():
        member = members[name]
        owned = _by_topic(member.consumer.assignment())
        expected = {topic: sorted(parts) for topic, parts in recorded["assignment"].items() if parts}
        if owned != expected:
            return f"{name} owns {expected}, got {owned}"
        generation = int.from_bytes(_generation_of(member.consumer), "little", signed=True)
        if recorded.get("generation_or_epoch") not in (None, generation):
            return f"{name} is in generation {recorded['generation_or_epoch']}, got {generation}"
        wanted = [
            (event["type"], {topic: sorted(parts) for topic, parts in event["partitions"].items() if parts})
            for event in recorded["events"]
            if event["type"] in ("assign", "revoke", "lost")
        ]
        came = member.events[seen.get(name, 0) :]
        if is_consumer:
            came, wanted = _merged(came), _merged(wanted)
        if came != wanted and came[:-1] != wanted:
            return f"{name} was told {wanted}, got {came}"
    return ""


def _merged(events: list[tuple[str, dict[str, list[int]]]]) -> list[tuple[str, dict[str, list[int]]]]:
    """Assigns that follow one another as one."""
    merged: list[tuple[str, dict[str, list[int]]]] = []
    for kind, partitions in events:
        if kind == "assign" and merged and merged[-1][0] == "assign":
            held = merged[-1][1]
            merged[-1] = (
                kind,
                {
                    topic: sorted(held.get(topic, []) + partitions.get(topic, []))
                    for topic in sorted({*held, *partitions})
                },
            )
        else:
            merged.append((kind, partitions))
    return merged


def _generation_of(consumer: Any) -> bytes:
    """The four bytes behind the magic of ``consumer_group_metadata()``."""
    written: bytes = consumer.consumer_group_metadata()
    return written[7:11]
