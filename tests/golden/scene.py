"""Where a recorded group scenario is driven: one broker, its topics, the members by name, and what admin clients are told."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Self

from tests.golden.members import NO_OFFSET, Member, by_topic, client_config, outcome, places

import kafkasim

Fields = dict[str, Any]

BROKER_CONFIG = {
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 3000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 500,
}
# Seconds after which a group with these timers has settled; and those of a usual gap between two members' joins.
SETTLED_S = 3.0
USUAL_GAP_S = 1.5
# The paces tried one after the other: the phase of one client's refreshes against another's is left to chance.
PACES_S = (0.0, 0.25, 0.5, 0.75, 0.125, 0.625)


class Scene:
    """One try of one scenario."""

    def __init__(self, trace: Fields, protocol: str, variant: int, cluster: Any = None) -> None:
        self.protocol = protocol
        self.trace = trace
        self.steps: list[Fields] = trace["steps"]
        self.pace = PACES_S[variant]
        self.cluster: Any = cluster or kafkasim.Cluster(1, seed=variant + 1, config=BROKER_CONFIG)
        #: The client library: the simulator's, or the real one.
        self.ck: Any = import_module("confluent_kafka" if cluster else "kafkasim.confluent_kafka")
        self.ck_admin: Any = import_module(f"{self.ck.__name__}.admin")
        self._chooses_ids = cluster is None
        # One for the whole scene: what a client was asked is never answered once nothing refers to the client.
        self.admin: Any = self.cluster.admin()
        self.members: dict[str, Member] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.close()

    # --- who is there ------------------------------------------------------------------------------------------------

    def topic(self, label: str, partitions: int) -> str:
        """A topic named as the recorder named it."""
        name = f"{label}-{self.protocol}"
        self.cluster.create_topic(name, partitions=partitions)
        self.group = f"g-{name}"
        return name

    def join(
        self, name: str, *topics: str, protocol: str | None = None, group: str | None = None, **config: Any
    ) -> Member:
        """A member, subscribed; ``enable_auto_commit=False`` is a property."""
        spoken = protocol or self.protocol
        dotted = {key.replace("_", "."): value for key, value in config.items()}
        member_id = self._recorded_id(name) if self._chooses_ids and spoken.startswith("consumer") else None
        given = {"group.id": group or self.group, **client_config(spoken), **dotted}
        member = self.members[name] = Member(self.cluster, name, given, member_id)
        return member.subscribe(*topics) if topics else member

    def two(self, *topics: str, **config: Any) -> tuple[Member, Member]:
        """Two members, the second one as much later as in the recording."""
        first = self.join("m0", *topics, **config)
        self.settle(self.gap("m0", "m1"))
        second = self.join("m1", *topics, **config)
        self.settle()
        return first, second

    def _recorded_id(self, name: str) -> str | None:
        """Members of the consumer protocol choose their ids, and the brokers' assignors look at them."""
        for step in self.steps:
            members = step.get("members") if isinstance(step, dict) else None
            if isinstance(members, dict) and members.get(name, {}).get("member_id"):
                return str(members[name]["member_id"])
        return None

    def gap(self, early: str, late: str) -> float:
        """Seconds between two joins: the early member was told of the late one when that one joined."""
        members = self.steps[0].get("members", {}) if self.steps else {}
        before = members.get(early, {}).get("events", [])
        after = members.get(late, {}).get("events", [])
        if len(before) < 2 or not after:
            return USUAL_GAP_S
        # Whoever had everything at first had it before the other joined.
        return max(float(before[0]["t"]) + 250, float(before[1]["t"] - after[0]["t"])) / 1000

    def settle(self, seconds: float = SETTLED_S) -> None:
        """Let time pass."""
        self.cluster.run_for(seconds)

    def snapshots(self, *names: str) -> Fields:
        """What these members have and were told since."""
        return {name: self.members[name].snapshot() for name in names}

    def events(self, *names: str) -> Fields:
        return {name: self.members[name].fresh() for name in names}

    def close(self, *names: str, pause: float = 0.04) -> None:
        """One after the other."""
        for name in names:
            self.members[name].close()
            self.settle(pause)

    # --- records and offsets -----------------------------------------------------------------------------------------

    def fill(self, topic: str, counts: dict[int, int]) -> None:
        """So many records on each partition."""
        producer = self.cluster.producer({"linger.ms": 0})
        for partition, count in counts.items():
            for number in range(count):
                producer.produce(topic, f"v{number}".encode(), partition=partition)
        producer.flush()

    def tp(self, topic: str, partition: int, offset: int = NO_OFFSET, **more: Any) -> Any:
        """A place as the client library names it."""
        return self.ck.TopicPartition(topic, partition, offset, **more)

    def simple(self, **config: Any) -> Any:
        """A consumer of the group that never joins it."""
        return self.cluster.consumer(self.group, (), {"enable.auto.commit": False}, **config)

    def committed(self, topic: str, partitions: int) -> list[list[Any]]:
        """The group's offsets, by a consumer from outside."""
        consumer = self.simple()
        found = places(consumer.committed([self.ck.TopicPartition(topic, number) for number in range(partitions)]))
        consumer.close()
        return found

    # --- admin -------------------------------------------------------------------------------------------------------

    def describe(self, group: str | None = None) -> Fields:
        """The group, as an admin client is told."""
        found = self._result(self.admin.describe_consumer_groups([group or self.group]))
        return {
            "state": found.state.name,
            "type": found.type.name,
            "assignor": found.partition_assignor,
            "simple": found.is_simple_consumer_group,
            "members": [self._described(each) for each in found.members],
        }

    def _described(self, member: Any) -> Fields:
        target = member.target_assignment
        return {
            "member_id": member.member_id,
            "client_id": member.client_id,
            "group_instance_id": member.group_instance_id,
            "assignment": by_topic(member.assignment.topic_partitions),
            "target": None if target is None else by_topic(target.topic_partitions),
        }

    def admin_outcomes(self, topic: str) -> Fields:
        """Offsets altered and listed, the group deleted, the groups listed."""
        admin, group = self.admin, self.group
        altered = self.ck.ConsumerGroupTopicPartitions(group, [self.ck.TopicPartition(topic, 0, 1)])
        asked = self.ck.ConsumerGroupTopicPartitions(group)

        def offsets(call: Callable[[], Any]) -> list[Any]:
            return outcome(lambda: self._result(call()), lambda value: [places(value.topic_partitions)])

        def listed(value: Any) -> list[Any]:
            return [
                [each.group_id, each.state.name, each.type.name, each.is_simple_consumer_group] for each in value.valid
            ]

        stable = {self.ck.ConsumerGroupState.STABLE}
        return {
            "alter_offsets_active": offsets(lambda: admin.alter_consumer_group_offsets([altered])),
            "list_offsets_active": offsets(lambda: admin.list_consumer_group_offsets([asked])),
            "delete_active": self.delete(group),
            "list_groups": outcome(lambda: admin.list_consumer_groups().result(), listed),
            "list_state_filter": outcome(
                lambda: admin.list_consumer_groups(states=stable).result(),
                lambda value: [each.group_id for each in value.valid],
            ),
        }

    def delete(self, group: str) -> list[Any]:
        return outcome(lambda: self._result(self.admin.delete_consumer_groups([group])))

    def groups(self) -> list[Any]:
        """Every group there is."""
        found = self.admin.list_consumer_groups().result().valid
        return [[each.group_id, each.state.name, each.type.name, each.is_simple_consumer_group] for each in found]

    @staticmethod
    def _result(futures: Any) -> Any:
        (future,) = futures.values()
        return future.result()
