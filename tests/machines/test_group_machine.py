"""Classic groups under everything that may happen to them, in any order.

Members join, sync, beat, commit, leave, get stuck, die and come back, and change what they subscribe to; the topic grows; time passes;
the coordinator fails over. After every step: no two members of
one generation own a partition, no commit of a stranger is accepted, what a new coordinator reads from the log is what the old one knew.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.group.shard_driver import ShardDriver

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import Assignment
from kafkasim.core.model.ids import TopicPartition

PARTITIONS = [TopicPartition("calls", number) for number in range(8)]
CLIENTS = st.integers(0, 3)


class Client:
    """A classic client, as little of it as the protocol needs. ``phase``: out, joining, syncing, steady, dead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.member_id = ""
        self.generation = -1
        self.phase = "out"
        self.assignment: tuple[TopicPartition, ...] = ()
        self.topics: tuple[str, ...] = ("calls",)
        self.stuck = False


class GroupMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.driver = ShardDriver()
        self.clients = [Client(f"c{number}") for number in range(4)]
        self.committed: dict[TopicPartition, int] = {}
        self.offset = 0
        self.led = 0
        self.count = 4

    # --- what a client does ------------------------------------------------------------------------------------------

    @rule(index=CLIENTS)
    def join(self, index: int) -> None:
        client = self.clients[index]
        if client.phase in ("out", "steady"):
            self._join(client)

    def _join(self, client: Client) -> None:
        client.phase, client.assignment = "joining", ()
        self.driver.join(client.member_id, client.name, topics=client.topics)
        self._collect()

    @rule(index=CLIENTS)
    def subscribe(self, index: int) -> None:
        """To one topic more, or to one less."""
        client = self.clients[index]
        client.topics = ("calls",) if len(client.topics) > 1 else ("calls", "other")
        if client.phase == "steady" and not client.stuck:
            self._join(client)

    @rule(index=CLIENTS)
    def get_stuck_or_come_round(self, index: int) -> None:
        """An application that does not poll: it beats, but neither joins nor syncs."""
        self.clients[index].stuck = not self.clients[index].stuck

    @rule(index=CLIENTS)
    def grow(self, index: int) -> None:
        """One member hears of it first."""
        self.count = min(self.count + 1, len(PARTITIONS))
        client = self.clients[index]
        if client.phase == "steady" and not client.stuck:
            self._join(client)

    @rule(index=CLIENTS)
    def beat(self, index: int) -> None:
        client = self.clients[index]
        if client.phase == "steady":
            error = self.driver.heartbeat(client.member_id, client.generation)
            if error is ErrorCode.REBALANCE_IN_PROGRESS and not client.stuck:
                self._join(client)
            elif error not in (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS):
                self._drop(client, error)
        self._collect()

    @rule(index=CLIENTS)
    def leave(self, index: int) -> None:
        client = self.clients[index]
        if client.phase == "steady":
            self.driver.leave(client.member_id)
            client.__init__(client.name)  # type: ignore[misc]
            self._collect()

    @rule(index=CLIENTS)
    def die(self, index: int) -> None:
        """Nothing more is heard of it; a new process takes its place under the same name."""
        client = self.clients[index]
        self.driver.answers.pop(client.name, None)
        self.clients[index] = Client(client.name + "'")

    @rule(index=CLIENTS, partition=st.sampled_from(PARTITIONS), lie=st.integers(-1, 1))
    def commit(self, index: int, partition: TopicPartition, lie: int) -> None:
        """With the generation it has, or with a wrong one."""
        client = self.clients[index]
        if client.phase != "steady":
            return
        self.offset += 1
        group = self.driver.shard.groups.get("g")
        error = self.driver.commit_offset(client.member_id, client.generation + lie, self.offset, partition)
        if error is ErrorCode.NONE:
            assert group is not None
            assert client.generation + lie == group.generation_id
            assert client.member_id in group.members
            self.committed[partition] = self.offset
        elif lie == 0:
            assert error in (
                ErrorCode.UNKNOWN_MEMBER_ID,
                ErrorCode.ILLEGAL_GENERATION,
                ErrorCode.REBALANCE_IN_PROGRESS,
            )

    # --- what happens to the group -----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 3.5, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.driver.wait(seconds)
        self._collect()

    @precondition(lambda self: self.driver.shard.groups)
    @rule()
    def fail_over(self) -> None:
        """The log alone decides what the new coordinator knows."""
        old = self.driver.shard
        stable = {
            name: (group.generation_id, {key: member.assignment for key, member in group.members.items()})
            for name, group in old.groups.items()
            if group.state == "Stable"
        }
        offsets = {tp: old.offsets.get("g", tp) for tp in PARTITIONS}
        self.driver.fail_over()
        new = self.driver.shard
        for name, (generation, assignments) in stable.items():
            group = new.groups[name]
            assert group.generation_id == generation
            assert {key: member.assignment for key, member in group.members.items()} == assignments
        assert {tp: new.offsets.get("g", tp) for tp in PARTITIONS} == offsets
        self._collect()

    # --- clients react to answers ------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Every answer that has come is taken, until nobody has one."""
        for _ in range(100):
            waiting = [client for client in self.clients if client.name in self.driver.answers]
            if not waiting:
                return
            for client in waiting:
                self._take(client, self.driver.answers.pop(client.name))
        raise AssertionError("answers without end")

    def _take(self, client: Client, response: object) -> None:
        error: ErrorCode = response.error  # type: ignore[attr-defined]
        if client.phase == "joining" and error is ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = response.member_id  # type: ignore[attr-defined]
            self.driver.join(client.member_id, client.name, topics=client.topics)
        elif client.phase == "joining" and error is ErrorCode.NONE:
            self._sync(client, response)
        elif client.phase == "syncing" and error is ErrorCode.NONE:
            client.phase, client.assignment = "steady", response.assignment.partitions  # type: ignore[attr-defined]
        else:
            self._drop(client, error)

    def _sync(self, client: Client, response: object) -> None:
        client.phase = "syncing"
        client.generation = response.generation_id  # type: ignore[attr-defined]
        members = [member.member_id for member in response.members]  # type: ignore[attr-defined]
        if members and client.member_id in members:
            assert client.generation > self.led, "a generation is led once, and each is later than the one before"
            self.led = client.generation
        given = {
            member_id: Assignment(tuple(PARTITIONS[: self.count][place :: len(members)]))
            for place, member_id in enumerate(members)
        }
        self.driver.sync(client.member_id, client.generation, client.name, given)

    def _drop(self, client: Client, error: ErrorCode) -> None:
        """As a client does: an unknown member starts afresh, everybody else asks again with its id."""
        member_id = "" if error is ErrorCode.UNKNOWN_MEMBER_ID else client.member_id
        client.__init__(client.name)  # type: ignore[misc]
        client.member_id = member_id

    # --- what must always hold ---------------------------------------------------------------------------------------

    @invariant()
    def one_owner_in_a_generation(self) -> None:
        group = self.driver.shard.groups.get("g")
        if group is None or group.state != "Stable":
            return
        owned = [tp for member in group.members.values() for tp in member.assignment.partitions]
        assert len(owned) == len(set(owned))

    @invariant()
    def accepted_commits_are_kept(self) -> None:
        for tp, offset in self.committed.items():
            value = self.driver.shard.offsets.get("g", tp)
            assert value is not None
            assert value.offset == offset

    def teardown(self) -> None:
        """Left alone, whoever still runs ends up in a stable group with every partition owned once."""
        if not hasattr(self, "driver"):
            return
        for client in self.clients:
            client.stuck = False
        self.clients[0].topics = (*self.clients[0].topics, "last")  # so that somebody rejoins with the last count
        if self.clients[0].phase == "steady":
            self._join(self.clients[0])
        for _ in range(60):
            for client in self.clients:
                if client.phase == "out":
                    self._join(client)
                elif client.phase == "steady":
                    self.beat(self.clients.index(client))
            self.driver.wait(3.0)
            self._collect()
        group = self.driver.shard.groups["g"]
        assert group.state == "Stable", group.state
        assert [client.phase for client in self.clients] == ["steady"] * 4
        owned = sorted(tp for client in self.clients for tp in client.assignment)
        assert owned == PARTITIONS[: self.count]


TestGroup = GroupMachine.TestCase
TestGroup.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
