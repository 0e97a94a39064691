"""KRaft's own invariants (K2, K4, K5, K6): each has a quorum that breaks it, and a sound one that breaks none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import kafkasim
from kafkasim.check.quorum_oracle import QuorumOracle, Voter
from kafkasim.check.report import Report
from kafkasim.core.model.metadata import LeaderChangeRecord, MetadataBatch, MetadataSnapshot
from kafkasim.core.quorum.log import MetadataLog

LOADED = "metadata-snapshot-loaded"


class Quorum:
    """Three voters, the first of which leads."""

    def __init__(self) -> None:
        self.report = Report()
        self.oracle = QuorumOracle(self.report)
        self.logs = {node: MetadataLog() for node in (1, 2, 3)}
        self.rafts: dict[int, Any] = {
            node: SimpleNamespace(high_watermark=0, is_leader=node == 1, epoch=1) for node in (1, 2, 3)
        }

    def write(self, *nodes: int) -> MetadataBatch:
        """One batch, in the logs of these voters."""
        batch = MetadataBatch(self.logs[nodes[0]].log_end, 1, (LeaderChangeRecord(1, (1, 2, 3)),))
        for node in nodes:
            self.logs[node].append(batch)
        return batch

    def commit(self, batch: MetadataBatch) -> list[str]:
        self.rafts[1].high_watermark = batch.next_offset
        self.oracle.on_committed(1, [batch], [Voter(node, log, self.rafts[node]) for node, log in self.logs.items()])
        return [finding.id for finding in self.report.findings]


@pytest.fixture
def quorum() -> Quorum:
    return Quorum()


def test_a_majority_that_is_none(quorum: Quorum) -> None:
    """K2: two of three are enough, whoever they are; one is not; other records do not count."""
    assert quorum.commit(quorum.write(1, 3)) == []
    batch = quorum.write(1)
    other = MetadataBatch(1, 1, (LeaderChangeRecord(3, (1, 2, 3)),))
    quorum.logs[3].append(other)
    assert quorum.commit(batch) == ["K2"]
    assert "[1] of [1, 2, 3] hold that" in str(quorum.report)


def test_high_watermarks_that_go_astray(quorum: Quorum) -> None:
    """K4: beyond what was committed; back within a process. A new process begins anew."""
    batch = quorum.write(1, 2, 3)
    quorum.rafts[2].high_watermark = 1
    assert quorum.commit(batch) == []
    quorum.rafts[2] = SimpleNamespace(high_watermark=0, is_leader=False, epoch=1)
    assert quorum.commit(quorum.write(1, 2, 3)) == []
    quorum.rafts[3].high_watermark = 5
    assert quorum.commit(quorum.write(1, 2, 3)) == ["K4"]
    quorum.rafts[3].high_watermark = 1
    assert quorum.commit(quorum.write(1, 2, 3)) == ["K4", "K4"]


def test_logs_without_their_beginning(quorum: Quorum) -> None:
    """K5: a snapshot is where a log begins."""
    quorum.commit(quorum.write(1, 2, 3))
    quorum.logs[2].install_snapshot(MetadataSnapshot(1, 1, ()), 0)
    batch = quorum.write(1, 2, 3)
    assert quorum.commit(batch) == []
    quorum.logs[2].base = None
    assert quorum.commit(batch) == ["K5"]


def test_a_leader_that_loads_a_snapshot(quorum: Quorum) -> None:
    """K6: followers may, as often as they like."""
    quorum.oracle.on_snapshot_loaded(2, False)
    assert quorum.commit(quorum.write(1, 2, 3)) == []
    quorum.oracle.on_snapshot_loaded(1, True)
    assert quorum.commit(quorum.write(1, 2, 3)) == ["K6"]


def test_a_voter_without_its_disk_ends_it(quorum: Quorum) -> None:
    """KRaft does not promise anything then."""
    quorum.oracle.is_silent = True
    quorum.oracle.on_snapshot_loaded(1, True)
    assert quorum.commit(quorum.write(1)) == []


def test_a_quorum_that_fails_over_is_sound() -> None:
    """Elections, snapshots, a voter that was away for long: nothing is said."""
    config = {"metadata.log.max.record.bytes.between.snapshots": 2000, "metadata.max.retention.bytes": 2000}
    with kafkasim.Cluster(brokers=3, controllers=3, seed=2, config=config) as cluster:
        cluster.process(4).crash()
        for number in range(30):
            cluster.create_topic(f"t{number}", partitions=3)
            if number % 10 == 9:
                cluster.process(5).crash()
                cluster.process(4).start()
                cluster.run_for(5.0)
                cluster.process(5).start()
                cluster.process(4).crash()
        cluster.process(4).start()
        cluster.run_for(20.0)
        assert cluster.process(4).storage.metadata_log.log_start > 0
        loaded = [dict(event.fields) for event in cluster.history if getattr(event, "kind", "") == LOADED]
        assert {fields["is_leader"] for fields in loaded} == {False}
        report = cluster.check()
        assert report.ok, report
