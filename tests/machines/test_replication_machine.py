"""Rule machine: a whole cluster under any order of faults, produces, config changes and reassignments, watched by the oracles.

Brokers crash, lose power, pause, restart and shut down; so does the controller. Disks are slow, full and replaced.
Everything that a log, a high watermark, a leader or the metadata log does goes past ``kafkasim.check.replication_oracle``;
at the end all is healed and must converge.
200 examples by default; ``KAFKASIM_EXAMPLES=10000`` for a night.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import kafkasim
from kafkasim.core.model.admin_messages import (
    PREFERRED_ELECTION,
    SET_OPERATION,
    TOPIC_RESOURCE,
    UNCLEAN_ELECTION,
    AlterPartitionReassignmentsRequest,
    ConfigAlteration,
    ConfigResource,
    CreatePartitionsRequest,
    ElectLeadersRequest,
    IncrementalAlterConfigsRequest,
    NewPartitionsSpec,
    Reassignment,
)
from kafkasim.core.model.effects import NEVER_US, Effect, Send
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_LEADER, TopicPartition
from kafkasim.core.model.messages import PartitionProduce, ProduceRequest, ProduceResponse
from kafkasim.core.model.records import batch_of
from kafkasim.sim.drive import NodeShell
from kafkasim.testing.audit import audit

EXAMPLES = int(os.environ.get("KAFKASIM_EXAMPLES", "200"))
BROKERS = (1, 2, 3, 4)
TOPIC = "t"
#: Short timers, so that a step of a few virtual seconds sees sessions end and ISRs shrink; long polls, so that it is cheap.
CONFIG = {
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 1000,
    "replica.lag.time.max.ms": 4000,
    "replica.fetch.wait.max.ms": 2000,
    "unclean.leader.election.interval.ms": 4000,
    "leader.imbalance.check.interval.seconds": 10,
}

nodes = st.integers(1, 5)
brokers = st.sampled_from(BROKERS)
partitions = st.integers(0, 2)


class Request:
    """A client that asks one thing and does not wait: what comes back comes back."""

    made = 2_000_000

    def __init__(self, cluster: kafkasim.Cluster, node: int, request: Any, on_answer: Callable[[Any], None]) -> None:
        Request.made += 1
        self.node_id = Request.made
        self.outbox: list[Effect] = [Send(node, 0, 1, request)]
        self.deadline_us = NEVER_US
        self._on_answer = on_answer
        shell = NodeShell(self, cluster.kernel, cluster.fabric, lambda node, note: None)
        shell.start()
        shell.settle()

    def on_response(self, peer: int, channel: int, correlation_id: int, response: Any, now_us: int) -> None:
        self._on_answer(response)

    def on_disconnect(self, peer: int, channel: int, now_us: int) -> None:
        """What was under way may or may not have been done."""

    def on_deadline(self, now_us: int) -> None:
        """It has none."""


class ReplicationMachine(RuleBasedStateMachine):
    cluster: kafkasim.Cluster | None = None

    @initialize(seed=st.integers(0, 1 << 16), combined=st.booleans(), min_isr=st.integers(1, 3))
    def begin(self, seed: int, combined: bool, min_isr: int) -> None:
        """Node 5 is the controller, or brokers 1 to 3 vote."""
        controllers: Any = [1, 2, 3] if combined else 1
        self.cluster = cluster = kafkasim.Cluster(4, controllers=controllers, seed=seed, config=CONFIG)
        self.oracle = audit(cluster)
        cluster.create_topic(TOPIC, partitions=2, replication_factor=3, config={"min.insync.replicas": min_isr})
        self.topic_id = self.image.topics[TOPIC].topic_id

    @property
    def image(self) -> Any:
        assert self.cluster is not None
        return self.cluster._controller_image()

    def send_batch(self, node: int, tp: TopicPartition, acks: int, count: int) -> None:
        assert self.cluster is not None
        batch = batch_of([b"%d" % index for index in range(count)], timestamp_ms=1_767_225_600_000)

        def take(response: ProduceResponse) -> None:
            if acks == -1 and response.partitions[0].error is ErrorCode.NONE:
                self.oracle.on_acked((self.topic_id, tp.partition), batch, response.partitions[0].base_offset)

        Request(self.cluster, node, ProduceRequest(acks, 10_000, [PartitionProduce(tp, batch)]), take)

    def broker(self, node: int) -> Any:
        """Node 5 is broker 1 where there is no controller of its own."""
        assert self.cluster is not None
        return self.cluster.broker(node if node in self.cluster._servers else 1)

    def pass_time(self, seconds: float) -> None:
        assert self.cluster is not None
        self.cluster.run_for(seconds)

    def ask_controller(self, request: Any) -> None:
        """An admin request to the active controller, if there is one; its answer is not waited for."""
        assert self.cluster is not None
        for node in self.cluster._live_nodes():
            if node.controller is not None and node.controller.active:
                Request(self.cluster, node.node_id, request, lambda response: None)
                self.pass_time(0.02)
                return

    # --- faults ------------------------------------------------------------------------------------------------------

    @rule(node=nodes)
    def crash(self, node: int) -> None:
        self.broker(node).crash()

    @rule(node=nodes)
    def lose_power(self, node: int) -> None:
        self.broker(node).power_loss()

    @rule(node=nodes)
    def shut_down(self, node: int) -> None:
        self.broker(node).shutdown()

    @rule(node=nodes)
    def pause(self, node: int) -> None:
        self.broker(node).pause()

    @rule(node=nodes)
    def bring_back(self, node: int) -> None:
        self.broker(node).resume()
        self.broker(node).start()

    @rule()
    def bring_all_back(self) -> None:
        assert self.cluster is not None
        for node in self.cluster._servers:
            self.bring_back(node)

    @rule(one=brokers, other=nodes, one_way=st.booleans())
    def cut(self, one: int, other: int, one_way: bool) -> None:
        assert self.cluster is not None
        if one != other:
            self.cluster.network.partition(one, self.broker(other), one_way=one_way)

    @rule()
    def heal(self) -> None:
        assert self.cluster is not None
        self.cluster.network.heal()

    @rule(node=brokers, what=st.sampled_from(["slow", "fill", "heal", "replace"]))
    def harm_disk(self, node: int, what: str) -> None:
        """A voter's disk is not replaced: it would forget what it voted for."""
        assert self.cluster is not None
        disk, server = self.cluster.broker(node).disk, self.cluster.process(node)
        if what == "slow":
            disk.slow(0.2)
        elif what != "replace":
            getattr(disk, what)()
        elif server.node is None and node not in server.identity.voters:
            disk.replace()

    # --- clients and administrators ----------------------------------------------------------------------------------

    @rule(partition=partitions, acks=st.sampled_from([-1, -1, 1]), count=st.integers(1, 3), wait=st.booleans())
    def produce(self, partition: int, acks: int, count: int, wait: bool) -> None:
        """To the leader that the controller names."""
        image = self.image
        state = None if image is None else image.partition(TopicPartition(TOPIC, partition))
        if state is not None and state.leader != NO_LEADER:
            self.send_batch(state.leader, state.tp, acks, count)
            self.pass_time(0.05 if wait else 0.0005)

    @rule(node=brokers, partition=partitions, acks=st.sampled_from([-1, 1]))
    def produce_to(self, node: int, partition: int, acks: int) -> None:
        """To a broker that may once have led."""
        self.send_batch(node, TopicPartition(TOPIC, partition), acks, 1)
        self.pass_time(0.0005)

    @rule(key=st.sampled_from(["min.insync.replicas", "unclean.leader.election.enable"]), value=st.integers(1, 3))
    def configure(self, key: str, value: int) -> None:
        text = str(value) if key == "min.insync.replicas" else str(value == 3).lower()
        change = ConfigAlteration(ConfigResource(TOPIC_RESOURCE, TOPIC), ((key, SET_OPERATION, text),))
        self.ask_controller(IncrementalAlterConfigsRequest((change,)))

    @rule(partition=partitions, replicas=st.permutations(BROKERS), count=st.integers(1, 3), cancel=st.booleans())
    def reassign(self, partition: int, replicas: list[int], count: int, cancel: bool) -> None:
        wanted = Reassignment(TopicPartition(TOPIC, partition), None if cancel else tuple(replicas[:count]))
        self.ask_controller(AlterPartitionReassignmentsRequest((wanted,)))

    @rule()
    def add_a_partition(self) -> None:
        self.ask_controller(CreatePartitionsRequest((NewPartitionsSpec(TOPIC, 3),)))

    @rule(partition=partitions, election=st.sampled_from([PREFERRED_ELECTION, UNCLEAN_ELECTION]))
    def elect(self, partition: int, election: int) -> None:
        self.ask_controller(ElectLeadersRequest(election, (TopicPartition(TOPIC, partition),)))

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0, 4.0, 9.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.pass_time(seconds)

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_broken(self) -> None:
        if self.cluster is not None:
            assert self.oracle.report.ok, self.oracle.report

    def teardown(self) -> None:
        """Everything is healed, and must come to rest: B11."""
        if self.cluster is None:
            return
        try:
            self.converge(self.cluster)
            self.nothing_is_broken()
        finally:
            self.cluster.close()
            self.cluster = None

    def converge(self, cluster: kafkasim.Cluster) -> None:
        self.heal()
        for node in BROKERS:
            cluster.broker(node).disk.heal()
        self.bring_all_back()
        # A shutdown that was asked for goes on; who has gone is started again.
        cluster.wait(lambda: all(server.state != "stopping" for server in cluster._servers.values()), 400_000_000)
        self.bring_all_back()
        if not self.comes_to_rest(cluster):
            self.cancel_stuck_reassignments()
            # A partition that lost its ISR and ELR, and whose last known leader is not recorded, waits for an administrator.
            self.configure("unclean.leader.election.enable", 3)
            self.comes_to_rest(cluster)
        self.oracle.check_converged(self.log_ends(cluster))

    def cancel_stuck_reassignments(self) -> None:
        """Kafka 4.3 keeps ``adding`` where a second reassignment drops what the first one added, and waits for it forever."""
        for state in self.image.topics[TOPIC].partitions:
            if set(state.adding_replicas) & set(state.removing_replicas):
                self.reassign(state.tp.partition, list(BROKERS), 3, True)

    def comes_to_rest(self, cluster: kafkasim.Cluster) -> bool:
        """Not only for a moment: who was paused acts on what it missed."""
        for _ in range(6):
            cluster.wait(lambda: self.at_rest(cluster), 20_000_000)
            self.pass_time(1.0)
            if self.at_rest(cluster):
                return True
        return False

    def at_rest(self, cluster: kafkasim.Cluster) -> bool:
        image = self.image
        for node in BROKERS:
            server, registered = cluster.process(node).node, None if image is None else image.brokers.get(node)
            if server is None or server.broker is None or registered is None or not registered.active:
                return False
            if server.broker.ctx.broker_epoch != registered.broker_epoch:
                return False
        for state in image.topics[TOPIC].partitions:
            if len(state.isr) < len(state.replicas) or state.adding_replicas or state.removing_replicas:
                return False
            ends = [self.replica(cluster, node, state.tp) for node in state.replicas]
            if any(end is None or end != ends[0] for end in ends):
                return False
        return True

    def replica(self, cluster: kafkasim.Cluster, node: int, tp: TopicPartition) -> tuple[int, int] | None:
        """(log end, high watermark) of a replica."""
        server = cluster.process(node).node
        replica = None if server is None or server.broker is None else server.broker.data_plane.replica(tp)
        return None if replica is None else (replica.log_end, replica.high_watermark)

    def log_ends(self, cluster: kafkasim.Cluster) -> list[tuple[tuple[str, int], dict[int, int]]]:
        found = []
        for state in self.image.topics[TOPIC].partitions:
            ends = {node: (self.replica(cluster, node, state.tp) or (-1, -1))[0] for node in state.replicas}
            found.append(((self.topic_id, state.tp.partition), ends))
        return found


TestReplication = ReplicationMachine.TestCase
TestReplication.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
