"""Rule machine: a control plane under any order of crashes, restarts, shutdowns, admin requests and lost leaderships.

After every step the invariants of Kafka's metadata hold, and the log replayed from its start gives the live image.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.controller.plane import CONTROLLER, SECOND_US, Plane, seeded
from tests.unit.node.quorum_double import QuorumDouble

from kafkasim.core.controller.image import PartitionState
from kafkasim.core.model.admin_messages import (
    BROKER_RESOURCE,
    PREFERRED_ELECTION,
    SET_OPERATION,
    TOPIC_RESOURCE,
    UNCLEAN_ELECTION,
    AlterPartitionReassignmentsRequest,
    ConfigAlteration,
    ConfigResource,
    CreatePartitionsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    IncrementalAlterConfigsRequest,
    NewPartitionsSpec,
    Reassignment,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_LEADER

NODES = (1, 2, 3, 4)
TOPICS = ("a", "b", "c.d", "c_d")

nodes = st.sampled_from(NODES)
picks = st.integers(0, 99)


class DoublePlane(Plane):
    quorum: QuorumDouble

    def make_raft(self, config: dict[str, str] | None) -> Any:
        self.quorum = QuorumDouble(CONTROLLER, self.log)
        return self.quorum


class ControllerMachine(RuleBasedStateMachine):
    """``up``: brokers whose processes live, the others are silent; ``leaving``: those of them that want to shut down."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = DoublePlane()
        self.up: dict[int, bool] = {}
        self.leaving: dict[int, bool] = {}
        self.marks: dict[int, int] = {}
        self.epochs: dict[tuple[str, int], tuple[int, int]] = {}

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.plane = DoublePlane(draw=seeded(seed))
        self.plane.racks = {1: "x", 2: "y", 3: "x", 4: "y"}
        self.plane.quorum.become_leader()
        self.plane.node.settle(0)
        for node in NODES[:3]:
            self.plane.start(node)
            self.up[node] = True

    # --- brokers -----------------------------------------------------------------------------------------------------

    @rule(node=nodes)
    def start(self, node: int) -> None:
        if not self.up.get(node):
            error = self.plane.register(node, self.marks.pop(node, -1))
            assert error in (ErrorCode.NONE, ErrorCode.DUPLICATE_BROKER_REGISTRATION)
            if error is ErrorCode.NONE:
                self.up[node] = True
                self.leaving.pop(node, None)

    @rule(node=nodes, fence=st.booleans())
    def beat(self, node: int, fence: bool) -> None:
        if self.up.get(node) and node not in self.leaving:
            assert self.plane.beat(node, want_fence=fence).error is ErrorCode.NONE

    @rule(node=nodes)
    def crash(self, node: int) -> None:
        self.up[node] = False

    @rule(node=nodes)
    def shut_down(self, node: int) -> None:
        if self.up.get(node):
            self.leaving[node] = True
            if self.plane.beat(node, want_shut_down=True).should_shut_down:
                self.up[node] = False
                self.marks[node] = self.plane.epochs[node]

    @rule(seconds=st.sampled_from([1, 5, 12, 301]))
    def let_time_pass(self, seconds: int) -> None:
        alive = tuple(node for node in NODES if self.up.get(node) and node not in self.leaving)
        self.plane.advance(seconds * SECOND_US, alive, every_us=6 * SECOND_US)

    # --- partitions --------------------------------------------------------------------------------------------------

    def some_partition(self, pick: int) -> PartitionState | None:
        states = [state for topic in self.plane.image.topics.values() for state in topic.partitions]
        return states[pick % len(states)] if states else None

    @rule(name=st.sampled_from(TOPICS), count=st.integers(1, 3), factor=st.integers(1, 3), min_isr=st.integers(1, 3))
    def create(self, name: str, count: int, factor: int, min_isr: int) -> None:
        self.plane.create(name, partitions=count, factor=factor, min_insync_replicas=str(min_isr))

    @rule(name=st.sampled_from(TOPICS))
    def delete(self, name: str) -> None:
        self.plane.ask(DeleteTopicsRequest((name,)))

    @rule(name=st.sampled_from(TOPICS))
    def grow(self, name: str) -> None:
        topic = self.plane.image.topics.get(name)
        if topic is not None and len(topic.partitions) < 5:
            self.plane.ask(CreatePartitionsRequest((NewPartitionsSpec(name, len(topic.partitions) + 1),)))

    @rule(pick=picks, members=st.sets(nodes), recovered=st.booleans())
    def alter_isr(self, pick: int, members: set[int], recovered: bool) -> None:
        state = self.some_partition(pick)
        if state is not None and state.leader != NO_LEADER:
            isr = tuple(node for node in state.replicas if node in members or node == state.leader)
            recovery = 0 if recovered else state.leader_recovery_state
            self.plane.alter_isr(isr, state.tp.topic, state.tp.partition, recovery=recovery)

    @rule(pick=picks, election=st.sampled_from([PREFERRED_ELECTION, UNCLEAN_ELECTION]))
    def elect(self, pick: int, election: int) -> None:
        state = self.some_partition(pick)
        if state is not None:
            self.plane.ask(ElectLeadersRequest(election, (state.tp,)))

    @rule(pick=picks, wanted=st.lists(nodes, min_size=1, max_size=3, unique=True), cancel=st.booleans())
    def reassign(self, pick: int, wanted: list[int], cancel: bool) -> None:
        state = self.some_partition(pick)
        if state is not None:
            reassignment = Reassignment(state.tp, None if cancel else tuple(wanted))
            self.plane.ask(AlterPartitionReassignmentsRequest((reassignment,)))

    @rule(pick=picks, min_isr=st.integers(1, 3), cluster=st.booleans())
    def set_min_isr(self, pick: int, min_isr: int, cluster: bool) -> None:
        state = self.some_partition(pick)
        if state is not None:
            resource = (
                ConfigResource(BROKER_RESOURCE, "") if cluster else ConfigResource(TOPIC_RESOURCE, state.tp.topic)
            )
            self.alter(resource, "min.insync.replicas", str(min_isr))

    @rule(pick=picks, unclean=st.booleans())
    def set_unclean(self, pick: int, unclean: bool) -> None:
        state = self.some_partition(pick)
        if state is not None:
            resource = ConfigResource(TOPIC_RESOURCE, state.tp.topic)
            self.alter(resource, "unclean.leader.election.enable", str(unclean).lower())

    def alter(self, resource: ConfigResource, key: str, value: str) -> None:
        alteration = ConfigAlteration(resource, ((key, SET_OPERATION, value),))
        response = self.plane.ask(IncrementalAlterConfigsRequest((alteration,)))
        assert response.results[0].error is ErrorCode.NONE

    # --- leadership --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.plane.image.topics)
    @rule(name=st.sampled_from(TOPICS))
    def lose_the_quorum(self, name: str) -> None:
        """Something was written and never committed; then this controller leads again."""
        plane = self.plane
        plane.quorum.commits = False
        lost = plane.send(DeleteTopicsRequest((name,)))
        existed = plane.answer(lost) is None
        plane.quorum.lose_leadership()
        plane.node.settle(plane.now_us)
        if existed:
            assert plane.answer(lost).topics[0].error is ErrorCode.NOT_CONTROLLER
            assert name in plane.image.topics
        plane.quorum.commits = True
        plane.quorum.become_leader()
        plane.node.settle(plane.now_us)
        assert plane.node.active

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def metadata_is_sound(self) -> None:
        image = self.plane.image
        fenced = {node for node, broker in image.brokers.items() if not broker.active}
        for topic in image.topics.values():
            for state in topic.partitions:
                assert not fenced & set(state.isr), (state, fenced)
                assert set(state.isr) <= set(state.replicas), state
                assert not set(state.isr) & set(state.elr), state
                if state.leader == NO_LEADER:
                    assert state.isr == (), state
                    assert len(state.last_known_elr) <= 1, state
                else:
                    assert state.leader in state.isr, state
                    assert state.last_known_elr == (), state
                key = (topic.topic_id, state.tp.partition)
                before = self.epochs.get(key, (0, 0))
                now = (state.leader_epoch, state.partition_epoch)
                assert now[0] >= before[0], state
                assert now[1] >= before[1], state
                self.epochs[key] = now

    @invariant()
    def no_live_eligible_replica_is_left_waiting(self) -> None:
        """A partition without a leader has nobody active that could lead it clean."""
        image = self.plane.image
        for state in image.partitions_without_leader():
            if not state.elr and len(state.last_known_elr) == 1:
                continue  # The last known leader is taken at the next event that touches the partition.
            assert not any(image.broker_active(node) and node in state.replicas for node in state.elr), state

    @invariant()
    def the_log_tells_all(self) -> None:
        self.plane.check_replay()


TestController = ControllerMachine.TestCase
TestController.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
