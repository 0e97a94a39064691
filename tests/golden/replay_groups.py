"""Live groups: members of the classic protocol join one by one, close and die; who owns what, in which generation, after which callbacks.

Rule 1:   member ids begin with the client id, and assignors sort by them: the members of a replay bear the recorded client ids.
Rule 2:   a recording was cut off when the group had settled, sometimes before the last callback of a member was written down: the recorded
          callbacks must come in their order, and nothing but such a last one may come beside them.
"""

from __future__ import annotations

from typing import Any

from tests.golden.verdict import Verdict

import kafkasim

LEFT_OUT = "times, the random part of member ids, callbacks while all close at once"
Fields = dict[str, Any]

SETTLE_SECONDS = 12.0
TIMERS = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500, "auto.offset.reset": "earliest"}


class Member:
    """One member as a task of its own, with what its callbacks said."""

    def __init__(self, name: str, topics: list[str], config: Fields) -> None:
        self.name = name
        self.events: list[tuple[str, dict[str, list[int]]]] = []
        self.wants_to_close = False
        self.consumer: Any = None
        self._topics = topics
        self._config = config

    def __call__(self) -> None:
        from confluent_kafka import Consumer

        self.consumer = Consumer({"bootstrap.servers": "any:9092", "client.id": self.name, **TIMERS, **self._config})
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
    steps = 0
    for scenario in trace["scenarios"]:
        if not str(scenario.get("protocol", "")).startswith(("eager", "coop")):
            return Verdict.not_comparable("the consumer group protocol (KIP-848) is not modelled yet")
        difference = _replay_scenario(scenario)
        if difference:
            return Verdict.different(f"{scenario['topology']}: {difference}", LEFT_OUT)
        steps += len(scenario["steps"])
    return Verdict.equal(f"{steps} steps of {len(trace['scenarios'])} topologies", LEFT_OUT)


def _replay_scenario(scenario: Fields) -> str:
    config = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 1000}
    prefix = f"{scenario['protocol']}-{scenario['topology']}--"
    with kafkasim.Cluster(1, seed=1, config=config) as cluster:
        for topic, partitions in scenario["topics"].items():
            cluster.create_topic(prefix + topic, partitions=partitions)
        members: dict[str, Member] = {}
        tasks: dict[str, Any] = {}
        for step in scenario["steps"]:
            what, name = step["event"].rsplit(" ", 1)
            if what == "join":
                topics = [prefix + topic for topic in step["members"][name]["subscribed"]]
                members[name] = Member(name, topics, {"group.id": "g", **scenario["client"]})
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
            state = cluster.describe_group("g").state.upper()
            if state != step["describe"]["state"]:
                return f"after {step['event']}: the group is {step['describe']['state']}, got {state}"
            difference = "" if name == "all" else _difference(step, members, seen)
            if difference:
                return f"after {step['event']}: {difference}"
    return ""


def _difference(step: Fields, members: dict[str, Member], seen: dict[str, int]) -> str:
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
        if came != wanted and came[:-1] != wanted:
            return f"{name} was told {wanted}, got {came}"
    return ""


def _generation_of(consumer: Any) -> bytes:
    """The four bytes behind the magic of ``consumer_group_metadata()``."""
    written: bytes = consumer.consumer_group_metadata()
    return written[7:11]
