"""A consumer group under everything that may happen to it, in any order; members of both protocols.

Members join, beat, lose answers, get stuck, leave, die, come back and change what they subscribe to; topics grow; time passes; the
coordinator fails over. After every step: no partition has two owners that the group still counts as members, epochs only grow, no
commit is accepted but from a member whose epoch covers it, and a new coordinator knows what the old one knew. In the end, left alone,
every partition has exactly one owner.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.group.consumer_member import Member
from tests.unit.group.shard_driver import ShardDriver

from kafkasim.core.group.consumer_state import ConsumerGroupState
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import Assignment
from kafkasim.core.model.ids import TopicPartition

SLOTS = st.integers(0, 3)
CLASSIC_SLOTS = st.integers(0, 1)
TOPICS = st.sampled_from([("calls",), ("other",), ("calls", "other")])
#: Slots 2 and 3 are static members.
INSTANCES = (None, None, "i2", "i3")
NONE = ErrorCode.NONE


class ClassicClient:
    """A client of the classic protocol that goes where the coordinator sends it. ``phase``: out, joining, syncing, steady."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.member_id = ""
        self.generation = -1
        self.phase = "out"
        self.owned: tuple[TopicPartition, ...] = ()


class ConsumerGroupMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.driver = ShardDriver()
        self.driver.wait(20)
        self.names = 0
        self.members: list[Member | None] = [None] * 4
        self.classic = [ClassicClient(f"c{number}") for number in range(2)]
        self.epochs: dict[str, int] = {}
        self.group: ConsumerGroupState | None = None
        self.group_epoch = 0

    # --- members of the consumer protocol ----------------------------------------------------------------------------

    @rule(slot=SLOTS, topics=TOPICS)
    def join(self, slot: int, topics: tuple[str, ...]) -> None:
        if self.members[slot] is None:
            self.names += 1
            member = Member(
                self.driver, f"m{self.names}", topics, instance_id=INSTANCES[slot], rebalance_timeout_ms=60_000
            )
            error = member.beat()
            assert error in (NONE, ErrorCode.UNRELEASED_INSTANCE_ID), error
            self.members[slot] = member if error is NONE else None

    @rule(slot=SLOTS)
    def beat(self, slot: int) -> None:
        member = self.members[slot]
        if member is not None:
            self._beat(slot, member)

    def _beat(self, slot: int, member: Member) -> None:
        error = member.beat()
        if error is ErrorCode.GROUP_ID_NOT_FOUND:  # the group was deleted, or is classic now: fatal to a client
            self.members[slot] = None
        elif error is ErrorCode.UNRELEASED_INSTANCE_ID:
            assert member.instance_id is not None
            self.members[slot] = None
        else:
            assert error in (NONE, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH), error

    @rule(slot=SLOTS)
    def beat_in_vain(self, slot: int) -> None:
        """The answer is lost; the next heartbeat says everything anew."""
        member = self.members[slot]
        if member is not None and member.epoch > 0:
            member.ask()
            member.ask(full=True)

    @rule(slot=SLOTS)
    def get_stuck(self, slot: int) -> None:
        member = self.members[slot]
        if member is not None:
            member.stuck = True

    @rule(slot=SLOTS)
    def come_round(self, slot: int) -> None:
        member = self.members[slot]
        if member is not None and member.stuck:
            member.stuck = False
            self._beat(slot, member)
            if member.epoch > 0:
                member.reconcile()

    @rule(slot=SLOTS)
    def leave(self, slot: int) -> None:
        member = self.members[slot]
        if member is not None:
            member.leave(-1 if member.instance_id is None else -2)
            self.members[slot] = None

    @rule(slot=SLOTS)
    def die(self, slot: int) -> None:
        """Nothing more is heard of it."""
        self.members[slot] = None

    @rule(slot=SLOTS, topics=TOPICS)
    def subscribe(self, slot: int, topics: tuple[str, ...]) -> None:
        member = self.members[slot]
        if member is not None and member.epoch > 0 and not member.stuck:
            member.subscribe(*topics)

    @rule(slot=SLOTS, lie=st.integers(-2, 1), partition=st.integers(0, 7))
    def commit(self, slot: int, lie: int, partition: int) -> None:
        member = self.members[slot]
        if member is None:
            return
        epoch = member.epoch + lie
        before = self._counted(member)
        error = self.driver.commit_offset(member.member_id, epoch, 5, TopicPartition("calls", partition))
        if error is NONE and epoch >= 0:
            assert before is not None
            topic = self.driver.topics.named("calls")
            assert topic is not None
            since = before.assignment_epoch(topic.topic_id, partition)
            assert epoch == before.member_epoch or (since is not None and since <= epoch < before.member_epoch)

    def _counted(self, member: Member) -> object:
        group = self.driver.shard.groups.get("g")
        return group.members.get(member.member_id) if isinstance(group, ConsumerGroupState) else None

    # --- members of the classic protocol -----------------------------------------------------------------------------

    @rule(slot=CLASSIC_SLOTS)
    def classic_joins(self, slot: int) -> None:
        client = self.classic[slot]
        if client.phase in ("out", "steady"):
            self._join_classic(client)

    def _join_classic(self, client: ClassicClient) -> None:
        client.phase, client.owned = "joining", ()
        self.driver.join(client.member_id, client.name)
        self._collect()

    @rule(slot=CLASSIC_SLOTS)
    def classic_beats(self, slot: int) -> None:
        client = self.classic[slot]
        if client.phase != "steady":
            return
        error = self.driver.heartbeat(client.member_id, client.generation)
        if error is ErrorCode.REBALANCE_IN_PROGRESS:
            self._join_classic(client)
        elif error is not NONE:
            self._drop(client, error)

    @rule(slot=CLASSIC_SLOTS)
    def classic_leaves(self, slot: int) -> None:
        client = self.classic[slot]
        if client.phase == "steady":
            self.driver.leave(client.member_id)
            self.classic[slot] = ClassicClient(client.name)

    def _collect(self) -> None:
        for _ in range(100):
            waiting = [client for client in self.classic if client.name in self.driver.answers]
            if not waiting:
                return
            for client in waiting:
                self._take(client, self.driver.answers.pop(client.name))
        raise AssertionError("answers without end")

    def _take(self, client: ClassicClient, response: object) -> None:
        error: ErrorCode = response.error  # type: ignore[attr-defined]
        if client.phase == "joining" and error is ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = response.member_id  # type: ignore[attr-defined]
            self.driver.join(client.member_id, client.name)
        elif client.phase == "joining" and error is NONE:
            client.phase, client.generation = "syncing", response.generation_id  # type: ignore[attr-defined]
            members = [member.member_id for member in response.members]  # type: ignore[attr-defined]
            every = self._all_partitions()
            given = {name: Assignment(tuple(every[place :: len(members)])) for place, name in enumerate(members)}
            self.driver.sync(client.member_id, client.generation, client.name, given)
        elif client.phase == "syncing" and error is NONE:
            client.phase, client.owned = "steady", response.assignment.partitions  # type: ignore[attr-defined]
        else:
            self._drop(client, error)

    def _drop(self, client: ClassicClient, error: ErrorCode) -> None:
        client.phase, client.owned = "out", ()
        if error is ErrorCode.UNKNOWN_MEMBER_ID:
            client.member_id = ""

    def _all_partitions(self) -> list[TopicPartition]:
        topic = self.driver.topics.named("calls")
        assert topic is not None
        return [TopicPartition("calls", number) for number in range(topic.partition_count)]

    # --- what happens to the group -----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.2, 1.5, 5.0, 50.0]))
    def pass_time(self, seconds: float) -> None:
        self.driver.wait(seconds)
        self._collect()

    @rule(topic=st.sampled_from(["calls", "other"]))
    def grow(self, topic: str) -> None:
        known = self.driver.topics.named(topic)
        assert known is not None
        if known.partition_count < 12:
            self.driver.topics.put(topic, known.partition_count + 1)
            self.driver.shard.on_topics_changed([topic])

    @precondition(lambda self: isinstance(self.driver.shard.groups.get("g"), ConsumerGroupState))
    @rule()
    def fail_over(self) -> None:
        before = self._kept()
        self.driver.fail_over()
        assert self._kept() == before
        self.group = None
        self._collect()

    def _kept(self) -> dict[str, object]:
        group = self.driver.shard.groups["g"]
        assert isinstance(group, ConsumerGroupState)
        return {name: value for name, value in vars(group).items() if not name.startswith("refresh_")}

    # --- what must always hold ---------------------------------------------------------------------------------------

    @invariant()
    def one_owner(self) -> None:
        """Of those that the group counts in; who was fenced may still believe in what it had.

        So may a classic member that has not rejoined since the group was classic in between: its generation is another.
        """
        group = self.driver.shard.groups.get("g")
        if not isinstance(group, ConsumerGroupState):
            return
        owned: list[TopicPartition] = []
        for member in self.members:
            if member is not None and member.epoch > 0 and member.member_id in group.members:
                owned += member.partitions
        for client in self.classic:
            counted = group.members.get(client.member_id)
            if client.phase == "steady" and counted is not None and counted.member_epoch == client.generation:
                owned += client.owned
        assert len(owned) == len(set(owned)), owned

    @invariant()
    def epochs_only_grow(self) -> None:
        group = self.driver.shard.groups.get("g")
        if not isinstance(group, ConsumerGroupState):
            self.group, self.group_epoch = None, 0
            return
        if self.group is not None and self.group is not group:
            self.group_epoch, self.epochs = 0, {}
        self.group = group
        assert group.group_epoch >= self.group_epoch
        self.group_epoch = group.group_epoch
        for member_id, counted in group.members.items():
            if counted.member_epoch > 0:
                assert counted.member_epoch >= self.epochs.get(member_id, 0)
                self.epochs[member_id] = counted.member_epoch
        self.epochs = {member_id: epoch for member_id, epoch in self.epochs.items() if member_id in group.members}

    def teardown(self) -> None:
        """Left alone for as long as any timeout takes, the group is stable and every subscribed partition has one owner."""
        if not hasattr(self, "driver"):
            return
        for member in self.members:
            if member is not None and member.stuck:
                member.stuck = False
        for _ in range(60):
            self.driver.wait(2.5)
            for slot, member in enumerate(self.members):
                if member is not None:
                    self._beat(slot, member)
            for slot in range(2):
                self.classic_beats(slot) if self.classic[slot].phase == "steady" else self.classic_joins(slot)
            self._collect()
        alive = [member for member in self.members if member is not None]
        if not alive:
            return
        group = self.driver.shard.groups["g"]
        assert isinstance(group, ConsumerGroupState)
        assert group.state == "Stable", group.state
        assert [client.phase for client in self.classic] == ["steady"] * 2
        subscribed = {"calls", *(topic for member in alive for topic in member.topics or ())}
        expected = [
            TopicPartition(topic.name, number)
            for name in sorted(subscribed)
            if (topic := self.driver.topics.named(name)) is not None
            for number in range(topic.partition_count)
        ]
        owned = [tp for member in alive for tp in member.partitions]
        owned += [tp for client in self.classic for tp in client.owned]
        assert sorted(owned) == expected


TestConsumerGroup = ConsumerGroupMachine.TestCase
TestConsumerGroup.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
