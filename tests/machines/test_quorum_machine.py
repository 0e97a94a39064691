"""Rule machine: quorums of three and five voters under any mix of crashes, cuts, losses, delays and appends.

The network audits after every event that epochs never fall, an epoch has one leader, committed batches never change and
a majority holds them; at the end everything is healed and a leader, and agreement, must come back.
"""

from __future__ import annotations

import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.unit.quorum.network import QuorumNetwork

from kafkasim.core.model.ids import Draw
from kafkasim.core.model.metadata import MetadataRecord
from kafkasim.core.quorum.log import MetadataLog
from kafkasim.core.quorum.raft import RaftReplica


def _records_before(log: MetadataLog, offset: int) -> list[MetadataRecord]:
    """Snapshots of this log are not compacted: they hold every record."""
    records = [] if log.base is None else list(log.base.records)
    return records + [record for batch in log.read_between(log.log_start, offset) for record in batch.records]


class QuorumMachine(RuleBasedStateMachine):
    """Node 9 is an observer; every node draws from its own stream."""

    voters: tuple[int, ...] = (1, 2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.network = QuorumNetwork(self.voters, start=False)

    @initialize(seed=st.integers(0, 2**16), benign=st.booleans())
    def begin(self, seed: int, benign: bool) -> None:
        def draw_from(node_id: int) -> Draw:
            stream = random.Random(seed * 100 + node_id)
            return lambda _label, bound: 0 if benign else stream.randrange(bound)

        self.network = QuorumNetwork(self.voters, (9,), draw_from=draw_from, seed=seed)

    @rule(ms=st.sampled_from([1, 3, 20, 200, 1000, 2500, 6000]))
    def let_time_pass(self, ms: int) -> None:
        self.network.run_for(ms)

    @rule()
    def wait_for_a_leader(self) -> None:
        """Under faults it may not come; time passes all the same."""
        for _ in range(30):
            if self.network.leader() is not None:
                return
            self.network.run_for(100)

    @precondition(lambda self: self.network.leader() is not None)
    @rule(count=st.integers(1, 3))
    def append(self, count: int) -> None:
        self.network.append(count)

    @precondition(lambda self: sum(replica.is_leader for replica in self.network.alive()) > 1)
    @rule()
    def append_to_a_leader_of_the_past(self) -> None:
        oldest = min((r for r in self.network.alive() if r.is_leader), key=lambda replica: replica.epoch)
        self.network.append_at(oldest.node_id)

    @rule(position=st.integers(0, 5), restart=st.booleans())
    def crash(self, position: int, restart: bool) -> None:
        nodes = list(self.network.nodes)
        node = nodes[position % len(nodes)]
        if self.network.nodes[node].replica is not None:
            self.network.crash(node)
        if restart:
            self.network.start(node)

    @precondition(lambda self: self.network.leader() is not None)
    @rule()
    def crash_the_leader(self) -> None:
        leader = self.network.leader()
        assert leader is not None
        self.network.crash(leader.node_id)

    @rule()
    def start_one(self) -> None:
        for node in self.network.nodes.values():
            if node.replica is None:
                self.network.start(node.node_id)
                return

    @rule(position=st.integers(0, 4))
    def isolate(self, position: int) -> None:
        self.network.isolate(self.voters[position % len(self.voters)])

    @rule(first=st.integers(0, 4), second=st.integers(0, 4))
    def cut_one_way(self, first: int, second: int) -> None:
        count = len(self.voters)
        self.network.blocked.add((self.voters[first % count], self.voters[second % count]))

    @rule(loss_percent=st.sampled_from([0, 5, 40]), slowest_ms=st.sampled_from([1, 50, 700]))
    def disturb(self, loss_percent: int, slowest_ms: int) -> None:
        self.network.loss_percent = loss_percent
        self.network.latency_us = (200, slowest_ms * 1000)

    @rule()
    def heal(self) -> None:
        self.network.heal()

    @rule(position=st.integers(0, 5), trims=st.booleans())
    def take_snapshot(self, position: int, trims: bool) -> None:
        """Of what is committed; with two of them the log may begin where the second ended."""
        nodes = list(self.network.nodes.values())
        node = nodes[position % len(nodes)]
        if node.replica is None or node.replica.high_watermark <= node.log.latest_snapshot_end:
            return
        node.log.take_snapshot(node.replica.high_watermark, self.network.now_us // 1000)
        if trims:
            node.log.clean(0, -1, 0)

    @precondition(lambda self: self.network.leader() is not None)
    @rule()
    def resign(self) -> None:
        leader = self.network.leader()
        assert leader is not None
        self.network.input(leader.node_id, lambda replica, now_us: replica.resign(now_us))

    def teardown(self) -> None:
        """After healing: one leader whom all follow, appends commit, and all logs agree."""
        network = self.network
        if not network.alive() and network.now_us == 0:
            return
        network.heal()
        for node in network.nodes.values():
            if node.replica is None:
                network.start(node.node_id)
        leader = self._leader_that_commits()
        # What a snapshot took the place of is compared with it, record by record.
        start = max(replica.log.log_start for replica in network.alive())
        log = leader.log.read(start, 10_000)
        head = _records_before(leader.log, start)
        for replica in network.alive():
            assert replica.log.read(start, 10_000) == log, "the logs differ after healing"
            assert _records_before(replica.log, start) == head, "a snapshot differs from the log after healing"
            assert network.nodes[replica.node_id].taken_end == leader.high_watermark

    def _leader_that_commits(self) -> RaftReplica:
        """Fetches that were lost before the healing may still cost a leader its office, and what it had not committed goes with it."""
        network = self.network
        for _ in range(3):
            network.run_until(self._is_settled, within_ms=40_000)
            leader = network.leader()
            assert leader is not None
            epoch, end = leader.epoch, network.append() + 1
            network.run_until(
                lambda epoch=epoch, end=end: all(r.epoch > epoch or r.high_watermark >= end for r in network.alive()),
                within_ms=20_000,
            )
            if self._is_settled() and leader.is_leader and leader.epoch == epoch:
                return leader
        raise AssertionError("leader follows leader, though everything has healed")

    def _is_settled(self) -> bool:
        leader = self.network.leader()
        return leader is not None and all(
            replica.leader_id == leader.node_id and replica.epoch == leader.epoch for replica in self.network.alive()
        )


class FiveVoterMachine(QuorumMachine):
    """The same with five voters, two of which may be gone at any time."""

    voters = (1, 2, 3, 4, 5)


_SETTINGS = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

TestThreeVoters = QuorumMachine.TestCase
TestThreeVoters.settings = _SETTINGS
TestFiveVoters = FiveVoterMachine.TestCase
TestFiveVoters.settings = _SETTINGS
