"""Lives of consumer groups (KIP-848) on the coordinator alone, under the recorded member ids and topic ids.

It drives a shard: members beat, report what they own, and give up at once what is taken from them. Held to the recording are epochs,
both assignments of every member, what was given and taken, and the order in which the broker lists the members.
"""

from __future__ import annotations

from typing import Any

from tests.golden.verdict import Verdict
from tests.unit.group.consumer_member import Member, group_of
from tests.unit.group.shard_driver import SECOND, ShardDriver

from kafkasim.core.group.runtime import ConsumerGroupSettings
from kafkasim.core.group.shard import GroupSettings
from kafkasim.core.model.consumer_group_messages import ConsumerGroupDescribeRequest, TopicPartitions

Fields = dict[str, Any]

#: As the traces were recorded; far more rounds than a step needs.
HEARTBEAT_SECONDS = 0.5
ROUNDS = 24


class RecordedMember(Member):
    """Keeps what a consumer would be told: (assign or revoke, partitions by topic)."""

    def __init__(self, driver: ShardDriver, name: str, member_id: str, topics: list[str], assignor: str | None) -> None:
        super().__init__(driver, member_id, tuple(topics), assignor=assignor)
        self.name = name
        self.client_id = name
        self.events: list[tuple[str, dict[str, list[int]]]] = []

    def reconcile(self) -> None:
        before = dict.fromkeys(self.partitions)
        gone = [tp for tp in before if not self._is_assigned(tp)]
        if gone:
            self._tell("revoke", gone)
            self._tell("assign", [])
        held = set(before) - set(gone)
        if not gone:
            new = [tp for tp in _named(self, self.assigned) if tp not in held]
            if new:
                self._tell("assign", new)
        super().reconcile()

    def _is_assigned(self, tp: Any) -> bool:
        return tp in _named(self, self.assigned)

    def _tell(self, kind: str, partitions: list[Any]) -> None:
        by_topic: dict[str, list[int]] = {}
        for topic, number in sorted(partitions):
            by_topic.setdefault(topic, []).append(number)
        self.events.append((kind, by_topic))


def _named(member: Member, share: dict[str, tuple[int, ...]]) -> list[Any]:
    found = []
    for topic_id, numbers in share.items():
        topic = member.driver.topics.identified(topic_id)
        assert topic is not None
        found += [(topic.name, number) for number in numbers]
    return found


def replay(scenario: Fields, topic_ids: dict[str, str]) -> str:
    """The first difference, or nothing."""
    consumer = ConsumerGroupSettings(session_timeout_ms=3000, heartbeat_interval_ms=500)
    driver = ShardDriver(GroupSettings(consumer=consumer))
    driver.wait(100)
    prefix = f"{scenario['protocol']}-{scenario['topology']}--"
    for topic, partitions in scenario["topics"].items():
        topic_id = topic_ids[prefix + topic].replace("+", "-").replace("/", "_")
        driver.topics.put(prefix + topic, partitions, topic_id)
    members: dict[str, RecordedMember] = {}
    for step in scenario["steps"]:
        what, name = step["event"].rsplit(" ", 1)
        if what == "join":
            recorded = step["members"][name]
            topics = [prefix + topic for topic in recorded["subscribed"]]
            assignor = scenario["client"].get("group.remote.assignor")
            members[name] = RecordedMember(driver, name, recorded["member_id"], topics, assignor)
            members[name].beat()
        elif what == "close":
            for leaving in list(members) if name == "all" else [name]:
                members.pop(leaving).leave()
        elif what == "kill -9":
            del members[name]
        else:
            return f"no such event as {step['event']!r} here"
        _live(driver, members)
        difference = _difference(step, driver, members)
        if difference:
            return f"after {step['event']}: {difference}"
    return ""


def _live(driver: ShardDriver, members: dict[str, RecordedMember]) -> None:
    for _ in range(ROUNDS):
        for member in members.values():
            driver.wait(HEARTBEAT_SECONDS / max(len(members), 1))
            member.beat()
    driver.wait(0 if members else 4)


def _difference(step: Fields, driver: ShardDriver, members: dict[str, RecordedMember]) -> str:
    described = driver.ask(ConsumerGroupDescribeRequest(("g",)), "describe").groups[0]
    expected = step["describe"]
    if (described.group_state.upper(), described.assignor_name) != (expected["state"], expected["assignor"]):
        return f"the group is {expected['state']}, got {described.group_state}"
    listed = [
        (member.member_id, _by_topic(member.assignment), _by_topic(member.target_assignment))
        for member in described.members
    ]
    wanted = [(each["member_id"], _clean(each["assignment"]), _clean(each["target"])) for each in expected["members"]]
    if listed != wanted:
        return f"described as {wanted}, got {listed}"
    for name, member in members.items():
        recorded = step["members"][name]
        if recorded["generation_or_epoch"] != member.epoch:
            return f"{name} is in epoch {recorded['generation_or_epoch']}, got {member.epoch}"
        told = [
            (event["type"], _clean(event["partitions"]))
            for event in recorded["events"]
            if event["type"] in ("assign", "revoke", "lost")
        ]
        if _by_kind(member.events) != _by_kind(told):
            return f"{name} was told {told}, got {member.events}"
        member.events.clear()
    return "" if driver.now_us > SECOND and group_of(driver) else "nothing happened"


def _by_kind(events: list[tuple[str, dict[str, list[int]]]]) -> dict[str, dict[str, list[int]]]:
    """All that was given and all that was taken: a gain may come in one piece or in several, as its owners let go."""
    sums: dict[str, dict[str, list[int]]] = {}
    for kind, partitions in events:
        for topic, numbers in partitions.items():
            held = sums.setdefault(kind, {}).setdefault(topic, [])
            held.extend(numbers)
            held.sort()
    return sums


def _clean(partitions: dict[str, list[int]]) -> dict[str, list[int]]:
    return {topic: sorted(numbers) for topic, numbers in partitions.items() if numbers}


def _by_topic(partitions: tuple[TopicPartitions, ...]) -> dict[str, list[int]]:
    return {each.topic_name: list(each.partitions) for each in partitions}


def replay_live(trace: Fields) -> Verdict:
    """The whole file of one assignor: joins, closes and kills of eight topologies."""
    steps = 0
    for scenario in trace["scenarios"]:
        difference = replay(scenario, trace["topic_ids"])
        if difference:
            return Verdict.different(f"{scenario['topology']}: {difference}")
        steps += len(scenario["steps"])
    return Verdict.equal(f"{steps} steps of {len(trace['scenarios'])} topologies, on the coordinator alone")
