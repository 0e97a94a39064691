"""Hypothesis searches three data planes for a lost acknowledged record, a duplicate, or logs that disagree."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.node.plane_cluster import PlaneCluster, produce_request

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import PartitionChangeRecord
from kafkasim.core.model.records import RecordBatch

NODES = st.sampled_from([1, 2, 3])


class DataPlaneMachine(RuleBasedStateMachine):
    """RF 3, min ISR 2, clean elections; process crashes, broken connections, late metadata, an idempotent producer at acks=all.

    Beside it a careless producer writes at acks=1; its records may be lost, but never make logs disagree.
    """

    @initialize()
    def begin(self) -> None:
        self.cluster = PlaneCluster(3, {"replica.lag.time.max.ms": "3000"})
        self.tp: TopicPartition = self.cluster.topic(min_insync_replicas="2")
        self.cluster.settle()
        self.cluster.auto_publish = False
        self.sequence = 0
        self.pending: RecordBatch | None = None
        self.asked: dict[int, RecordBatch] = {}
        self.acked: dict[int, bytes] = {}
        self.careless = 0
        self.marks: dict[tuple[int, int], int] = {}

    @property
    def state(self) -> Any:
        return self.cluster.state(self.tp)

    # --- clients ---------------------------------------------------------------------------------------------------

    @rule(node=NODES)
    def produce(self, node: int) -> None:
        """The producer sends its next batch, or the last one again while nobody acknowledged it."""
        if node not in self.cluster.brokers:
            return
        if self.pending is None:
            value = b"record %d" % self.sequence
            self.pending = self.cluster.batch(value, producer_id=7, producer_epoch=0, base_sequence=self.sequence)
            self.sequence += 1
        number = self.cluster.ask(node, produce_request(self.tp, self.pending))
        self.asked[number] = self.pending
        self.take_answers()

    @rule()
    def produce_to_leader(self) -> None:
        """The same, at the broker that the controller says leads."""
        if self.state.leader > 0:
            self.produce(self.state.leader)

    @rule(node=NODES)
    def produce_carelessly(self, node: int) -> None:
        """acks=1 to whoever thinks that it leads, a zombie included."""
        if node in self.cluster.brokers:
            self.careless += 1
            self.cluster.ask(node, produce_request(self.tp, self.cluster.batch(b"careless %d" % self.careless), 1))

    def take_answers(self) -> None:
        for number, response in list(self.cluster.answers.items()):
            del self.cluster.answers[number]
            batch = self.asked.pop(number, None)
            if batch is not None and response.partitions[0].error is ErrorCode.NONE:
                value = batch.columns.values[0]
                assert value is not None
                self.acked[response.partitions[0].base_offset] = value
                if batch is self.pending:
                    self.pending = None

    # --- the network and time --------------------------------------------------------------------------------------

    @precondition(lambda self: self.cluster.wire)
    @rule(pick=st.integers(0, 5), count=st.integers(1, 6))
    def deliver(self, pick: int, count: int) -> None:
        """Hand over messages of one direction of one pair, in order; other pairs wait."""
        wire = self.cluster.wire
        pairs = list(dict.fromkeys(message[:3] for message in wire))
        pair = pairs[pick % len(pairs)]
        for _ in range(count):
            index = next((i for i, message in enumerate(wire) if message[:3] == pair), None)
            if index is None:
                break
            message = wire[index]
            del wire[index]
            wire.appendleft(message)
            self.cluster.deliver()
        self.take_answers()

    @rule()
    def settle(self) -> None:
        """Everything under way arrives."""
        self.cluster.settle()
        self.take_answers()

    @precondition(lambda self: self.cluster.wire)
    @rule(pick=st.integers(0, 5))
    def lose(self, pick: int) -> None:
        """A connection breaks with what was on it."""
        wire = self.cluster.wire
        message = wire[pick % len(wire)]
        if message[0] == "alter":
            return
        pair = {message[1], message[2]}
        lost = [m for m in wire if m[0] != "alter" and {m[1], m[2]} == pair]
        kept = [m for m in wire if m[0] == "alter" or {m[1], m[2]} != pair]
        wire.clear()
        wire.extend(kept)
        for other in lost:
            self.cluster._break(other[1] if other[0] == "request" else other[2], other)

    @rule(milliseconds=st.sampled_from([1, 100, 600, 2_000, 5_000]))
    def pass_time(self, milliseconds: int) -> None:
        """Deadlines come; what they send stays under way."""
        cluster = self.cluster
        cluster.now_us += milliseconds * 1000
        for node, broker in list(cluster.brokers.items()):
            broker.requests.on_deadline(cluster.now_us)
            broker.plane.on_deadline(cluster.now_us)
            cluster.drain(node)
        self.take_answers()

    # --- processes and metadata ------------------------------------------------------------------------------------

    @rule(node=NODES)
    def publish(self, node: int) -> None:
        """One broker learns the news."""
        self.cluster.publish(node)
        self.take_answers()

    @rule(node=NODES)
    def crash(self, node: int) -> None:
        if node in self.cluster.brokers:
            self.cluster.crash(node)
            self.take_answers()

    @rule(node=NODES)
    def restart(self, node: int) -> None:
        if node not in self.cluster.brokers:
            self.cluster.start(node)

    @rule(node=NODES)
    def elect(self, node: int) -> None:
        """A clean election: somebody who lives and is in the ISR; the dead leave the ISR if somebody stays."""
        state = self.state
        if node in self.cluster.brokers and node in state.isr:
            isr = tuple(member for member in state.isr if member in self.cluster.brokers)
            self.cluster.change(PartitionChangeRecord(state.topic_id, 0, leader=node, isr=isr))

    @rule()
    def heal(self) -> None:
        """Everybody lives, learns everything, and time goes on: the partition must be writable again."""
        cluster = self.cluster
        for node in (1, 2, 3):
            self.restart(node)
        if self.state.leader not in self.state.isr:
            self.elect(self.state.isr[0])
        cluster.auto_publish = True
        cluster.publish()
        cluster.run_for(8)
        cluster.auto_publish = False
        self.take_answers()
        assert self.state.isr == (1, 2, 3)
        if self.pending is not None:
            self.produce(self.state.leader)
            cluster.settle()
            self.take_answers()
            assert self.pending is None
        cluster.run_for(1)
        ends = [cluster.replica(node, self.tp).log_end for node in (1, 2, 3)]
        assert ends[0] == ends[1] == ends[2]

    # --- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def acknowledged_records_are_in_the_leader(self) -> None:
        """At the offset that was told; nowhere else."""
        if not hasattr(self, "cluster"):
            return
        leader = self.cluster.brokers.get(self.state.leader)
        replica = leader and leader.plane.replica(self.tp)
        if not replica or not replica.is_leader or replica.leader_epoch != self.state.leader_epoch:
            return
        assert leader is not None
        held = {batch.base_offset: batch.columns.values[0] for batch in leader.plane.read_log(self.tp)}
        for offset, value in self.acked.items():
            assert held.get(offset) == value
        values = list(held.values())
        assert len(values) == len(dict.fromkeys(values)), "a retry was appended twice"

    @invariant()
    def logs_agree_below_their_high_watermarks(self) -> None:
        """Two replicas never hold different batches at an offset that both take for committed."""
        if not hasattr(self, "cluster"):
            return
        replicas = [broker.plane.replica(self.tp) for broker in self.cluster.brokers.values()]
        live = [replica for replica in replicas if replica is not None]
        for one in live:
            assert one.log_start <= one.high_watermark <= one.log_end
            for other in live:
                common = min(one.high_watermark, other.high_watermark)
                assert one.log.read(0, 1 << 40, common) == other.log.read(0, 1 << 40, common)

    @invariant()
    def a_leader_never_lowers_its_high_watermark(self) -> None:
        if not hasattr(self, "cluster"):
            return
        for node, broker in self.cluster.brokers.items():
            replica = broker.plane.replica(self.tp)
            if replica is not None and replica.is_leader:
                # A restarted process begins with the checkpoint, so it counts by itself.
                key = (broker.ctx.broker_epoch * 10 + node, replica.leader_epoch)
                assert replica.high_watermark >= self.marks.get(key, 0)
                self.marks[key] = replica.high_watermark


DataPlaneMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestDataPlane = DataPlaneMachine.TestCase
