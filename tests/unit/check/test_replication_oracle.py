"""The replication oracle: each promise of it has a run that breaks it, and the report names that promise."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

import kafkasim
from kafkasim.check.replication_oracle import ReplicationOracle
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.metadata import (
    RECOVERING,
    BrokerRegistrationChangeRecord,
    ClearElrRecord,
    MetadataBatch,
    MetadataRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    TopicRecord,
)
from kafkasim.core.model.records import RecordBatch, batch_of
from kafkasim.testing.audit import audit
from kafkasim.watch import WatchedLog

KEY = ("id", 0)


@attrs.define(eq=False)
class Follower:
    node_id: int
    in_maximal_isr: bool = True


@attrs.define(eq=False)
class Replica:
    """What the oracle looks at of a replica of a broker."""

    log: Any
    high_watermark: int
    leader_epoch: int
    is_leader: bool
    isr: tuple[int, ...] = (1, 2, 3)
    pending_isr: tuple[int, ...] | None = None
    followers: tuple[Follower, ...] = ()


class Run:
    """Three brokers and one partition, led by broker 1 in epoch 0; everything by hand."""

    def __init__(self) -> None:
        self.oracle = ReplicationOracle()
        self.now_us = 0
        self.oracle._now_us = lambda: self.now_us
        self.oracle.logs_of = lambda key: self.logs.values()
        self.offset = 0
        self.write(*(RegisterBrokerRecord(node, f"i{node}", node, "h", 1, None, fenced=False) for node in (1, 2, 3)))
        self.write(TopicRecord("t", "id"), PartitionRecord("id", 0, (1, 2, 3), (1, 2, 3), 1))
        self.logs = {node: self.new_log(node) for node in (1, 2, 3)}
        self.oracle.on_leader(1, KEY, 0)

    def new_log(self, node: int) -> WatchedLog:
        return WatchedLog(self.oracle, node, 0, "id", LogSettings())

    def write(self, *records: MetadataRecord, epoch: int = 1) -> MetadataBatch:
        batch = MetadataBatch(self.offset, epoch, records)
        self.offset = batch.next_offset
        self.oracle.on_metadata([batch])
        return batch

    def change(self, **fields: object) -> None:
        self.write(PartitionChangeRecord("id", 0, **fields))  # type: ignore[arg-type]

    def batch(self, offset: int, epoch: int = 0) -> RecordBatch:
        return batch_of([b"%d" % offset]).placed(offset, epoch)

    def append(self, batch: RecordBatch, *nodes: int) -> RecordBatch:
        """The first one writes it, the others copy it."""
        self.logs[nodes[0]].append_as_leader(batch)
        for node in nodes[1:]:
            self.logs[node].append(batch)
        return batch

    def mark(self, node: int, high_watermark: int, epoch: int = 0, is_leader: bool = True, **more: Any) -> None:
        """By default the leader waits for everybody."""
        more.setdefault("followers", tuple(Follower(other) for other in (1, 2, 3) if other != node))
        self.oracle.on_high_watermark(Replica(self.logs[node], high_watermark, epoch, is_leader, **more))

    @property
    def broken(self) -> list[str]:
        return list(dict.fromkeys(finding.invariant for finding in self.oracle.report.findings))


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_good_run(run: Run) -> None:
    """Written, copied, committed, acknowledged, led by another."""
    batch = run.append(run.batch(0), 1, 2, 3)
    run.mark(1, 1)
    run.mark(2, 1, is_leader=False)
    run.oracle.on_acked(KEY, batch, 0)
    run.change(leader=2, isr=(2, 3))
    run.oracle.on_leader(2, KEY, 1)
    run.append(run.batch(1, 1), 2, 3)
    run.mark(2, 2, 1)
    assert run.broken == []
    assert run.oracle.report.looked_at["elections"] == 2


def test_a_leader_that_misses_a_record(run: Run) -> None:
    """B3 when the controller commits to it, B1 when it begins."""
    run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1)
    run.change(leader=3, isr=(3,))
    assert run.broken == ["candidate-completeness"]
    run.oracle.on_leader(3, KEY, 1)
    assert run.broken == ["candidate-completeness", "leader-completeness"]


def test_an_unclean_election_may_lose(run: Run) -> None:
    """The same is allowed, and told, where the election said that it would."""
    batch = run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1)
    run.change(leader=3, isr=(3,), leader_recovery_state=RECOVERING)
    run.oracle.on_leader(3, KEY, 1)
    run.append(run.batch(0, 1), 3)
    run.mark(3, 1, 1)
    run.mark(1, 1)  # the old leader goes on in its own world
    run.oracle.on_acked(KEY, batch, 0)
    assert run.broken == []
    assert {finding.invariant for finding in run.oracle.report.allowed} == {"acked-loss"}


def test_logs_that_disagree_below_the_mark(run: Run) -> None:
    """B2, at a follower and at a leader."""
    run.append(run.batch(0), 1, 2)
    run.append(run.batch(0), 3)
    run.change(isr=(1, 2))
    run.mark(1, 1)
    run.mark(3, 1, is_leader=False)
    assert "log-matching" in run.broken


def test_a_candidate_that_misses_a_record(run: Run) -> None:
    """B3: an ISR member without what was committed; not one whose disk is known to be gone."""
    run.append(run.batch(0), 1, 2)
    run.oracle.on_data_lost(3, is_all=False)
    run.mark(1, 1)
    assert run.broken == []
    run.write(RegisterBrokerRecord(3, "i3b", 30, "h", 1, None, fenced=False))
    run.append(run.batch(1), 1, 2)
    run.mark(1, 2)
    assert run.broken == ["candidate-completeness"]


def test_two_writers_in_an_epoch(run: Run) -> None:
    """B6."""
    run.append(run.batch(0), 1)
    run.append(run.batch(0), 2)
    assert run.broken == ["one-writer-per-epoch"]


def test_marks_that_make_no_sense(run: Run) -> None:
    """B8: beyond the log end; beyond what is committed."""
    run.append(run.batch(0), 1, 2, 3)
    run.mark(2, 1, is_leader=False)
    assert run.broken == ["watermark-sanity"]
    run.mark(1, 2)
    assert "high watermark 2 outside [0, 1]" in str(run.oracle.report)


def test_a_fenced_broker_in_an_isr(run: Run) -> None:
    """B9."""
    run.write(BrokerRegistrationChangeRecord(3, 3, fenced=1))
    assert run.broken == ["fenced-not-in-isr"]


def test_a_partition_without_leader_remembers_one(run: Run) -> None:
    """B10, and its exception: ClearElrRecord forgets it."""
    run.change(leader=-1, isr=(), elr=(2, 3), last_known_elr=(1,))
    run.write(ClearElrRecord("t"))
    assert run.broken == []
    run.change(leader=1, isr=(1,))
    run.change(leader=-1, isr=())
    assert run.broken == ["recovery-quorum"]


def test_a_cancelled_reassignment_may_lose(run: Run) -> None:
    """Kafka puts the first replica into an empty ISR, fenced or not; its election is not held to be clean."""
    run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1)
    run.write(BrokerRegistrationChangeRecord(3, 3, fenced=1))
    run.change(leader=-1, isr=(), elr=(1, 2), last_known_elr=(1,), replicas=(3, 1, 2), removing_replicas=(1,))
    run.change(isr=(3,), removing_replicas=())
    assert run.broken == []
    run.write(BrokerRegistrationChangeRecord(3, 3, fenced=-1))
    run.change(leader=3, last_known_elr=())
    run.oracle.on_leader(3, KEY, 2)
    assert run.broken == []
    assert [finding.invariant for finding in run.oracle.report.allowed] == ["acked-loss"]
    run.change(isr=(3, 2), elr=())
    run.write(BrokerRegistrationChangeRecord(3, 3, fenced=1))
    assert run.broken == ["fenced-not-in-isr"]


def test_an_elr_that_outlived_a_reassignment_may_lose(run: Run) -> None:
    """Kafka 4.3 leaves who was removed in the ELR; made a replica again it may be elected though it has nothing."""
    run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1)
    run.change(isr=(2,), elr=(1,), replicas=(2, 3), leader=2)
    run.change(replicas=(2, 3, 1))
    run.logs[1] = run.new_log(1)
    run.change(leader=1, isr=(1,), elr=(2,))
    assert run.broken == []
    run.oracle.on_leader(1, KEY, 2)
    assert run.broken == []
    assert [finding.invariant for finding in run.oracle.report.allowed] == ["leader-completeness"]


def test_a_reassignment_that_did_not_wait_excuses_nothing(run: Run) -> None:
    """Who was dropped for a replica that is not in sync is in the ELR by mistake of the controller's, not by Kafka's own rules."""
    run.change(replicas=(1, 2), isr=(1, 2))
    run.append(run.batch(0), 1, 2)
    run.mark(1, 1)
    run.change(isr=(2,), elr=(1,), replicas=(2, 3), leader=2)
    run.logs[1] = run.new_log(1)
    run.change(replicas=(2, 3, 1))
    assert run.broken == ["candidate-completeness"]


def test_a_leader_that_skipped_epochs_may_believe_too_much(run: Run) -> None:
    """Kafka keeps what it heard of followers: they have cut their logs since, and it commits what they lack."""
    run.append(run.batch(0), 1, 2)
    run.oracle.on_leader(2, KEY, 1)
    run.logs[2].truncate_to(0)
    run.change(leader=2)
    run.change(leader=1, isr=(1, 2))
    run.oracle.on_leader(1, KEY, 2, {2: 1})
    run.mark(1, 1, 2)
    assert run.broken == []
    assert [finding.invariant for finding in run.oracle.report.allowed] == ["candidate-completeness"]
    other = Run()
    other.append(other.batch(0), 1)
    other.change(isr=(1, 2))
    other.oracle.on_leader(1, KEY, 1, {})
    other.mark(1, 1, 1)
    assert other.broken == ["candidate-completeness"], "who has heard nothing has no excuse"


def test_who_catches_up_is_no_stranger_any_more(run: Run) -> None:
    """The mark of an ELR that outlived a reassignment goes as soon as the ISR takes the replica in."""
    run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1)
    run.change(isr=(2,), elr=(1,), replicas=(2, 3), leader=2)
    run.change(replicas=(2, 3, 1))
    run.logs[1] = run.new_log(1)
    run.change(isr=(1, 2), elr=())
    assert run.broken == ["candidate-completeness"]


def test_metadata_that_change(run: Run) -> None:
    """K7, and epochs that fall."""
    first = run.write(BrokerRegistrationChangeRecord(3, 3, fenced=-1))
    run.oracle.on_metadata([first])
    assert run.broken == []
    run.oracle.on_metadata([MetadataBatch(first.base_offset, 2, (ClearElrRecord("t"),))])
    assert run.broken == ["metadata-match"]
    run.write(ClearElrRecord("t"), epoch=0)
    assert run.broken == ["metadata-match"], "nothing is said of what follows a contradiction"
    another = Run()
    another.write(ClearElrRecord("t"), epoch=0)
    another.oracle.on_controller(4, 5)
    another.oracle.on_controller(5, 5)
    assert another.broken == ["epoch-monotony", "controller-epoch"]


def test_an_ack_of_nothing(run: Run) -> None:
    """P11."""
    batch = run.append(run.batch(0), 1)
    run.oracle.on_acked(KEY, batch, 0)
    assert run.broken == ["weak-ack"]


def test_what_never_came_to_rest(run: Run) -> None:
    """B11."""
    run.append(run.batch(0), 1, 2)
    run.oracle.check_converged([(KEY, {1: 1, 2: 1, 3: 0})])
    assert run.broken == ["convergence"]
    assert "broker 3 ends at 0, leader 1 at 1" in str(run.oracle.report)


def test_a_cluster_is_watched() -> None:
    """Fail-over under load: everything is looked at, nothing is broken, and ``check`` says so; without a history nobody looks."""
    with kafkasim.Cluster(brokers=3, seed=3) as cluster:
        oracle = audit(cluster)
        cluster.create_topic("t", partitions=2, config={"min.insync.replicas": 2})
        cluster.produce("t", [b"x"] * 20)
        cluster.broker(1).power_loss()
        cluster.run_for(12)
        cluster.produce("t", [b"y"] * 20)
        cluster.broker(1).start()
        cluster.run_for(12)
        report = cluster.check()
        assert report.ok, report
        assert oracle.metadata.has_elr
        assert report.looked_at["committed batches"] >= 3
        assert report.looked_at["elections"] >= 2
        assert report.looked_at["commits"] >= 3
        assert report.looked_at["metadata batches"] > 10
    with (
        kafkasim.Cluster(seed=1, history=False) as cluster,
        pytest.raises(kafkasim.ConfigurationError, match="history=False"),
    ):
        audit(cluster)


def test_what_is_below_the_log_start_is_forgotten(run: Run) -> None:
    """Retention lets the oracle forget, and what it keeps is still held together."""
    for offset in range(300):
        run.append(run.batch(offset), 1, 2, 3)
        run.logs[1].raise_log_start(max(0, offset - 10))
        run.mark(1, offset + 1)
    partition = run.oracle.truths[KEY]
    assert len(partition.committed.batches) < 100
    run.change(leader=2, isr=(2, 3))
    run.oracle.on_leader(2, KEY, 1)
    assert run.broken == []
    run.logs[3].truncate_to(299)
    run.change(leader=3, isr=(3,))
    run.oracle.on_leader(3, KEY, 2)
    assert run.broken == ["candidate-completeness", "leader-completeness"]


def test_a_cleaned_log_is_left_alone(run: Run) -> None:
    """What a cleaner rewrote is another object: nothing is said of such a partition."""
    run.append(run.batch(0), 1, 2)
    run.logs[1].replace_batches([run.batch(0)])
    run.mark(1, 1)
    run.change(leader=3, isr=(3,))
    run.oracle.on_leader(3, KEY, 1)
    assert run.broken == []


def test_a_leader_that_does_not_wait_for_its_isr(run: Run) -> None:
    """B4: a member of the controller's ISR does not count for the leader; a leader that was deposed is left alone."""
    run.change(isr=(1, 2))
    run.append(run.batch(0), 1, 2, 3)
    run.mark(1, 1, isr=(1, 2), followers=(Follower(2), Follower(3, False)))
    assert run.broken == []
    run.change(isr=(1, 2, 3))
    run.append(run.batch(1), 1, 2, 3)
    run.mark(1, 2, isr=(1, 2), followers=(Follower(2), Follower(3, False)))
    assert run.broken == ["quorum-superset"]
    assert "without asking [3]" in str(run.oracle.report)
    other = Run()
    other.append(other.batch(0), 1, 2, 3)
    other.change(leader=2, isr=(2, 3))
    other.mark(1, 1, isr=(1,), followers=(Follower(2, False), Follower(3, False)))
    assert other.broken == []


def test_a_leader_that_asks_before_it_is_allowed(run: Run) -> None:
    """B4 again: who was proposed counts already, and a member of the ELR has to."""
    run.change(isr=(1,), elr=(2,))
    run.append(run.batch(0), 1, 2, 3)
    run.mark(1, 1, isr=(1,), pending_isr=(1, 2), followers=(Follower(2), Follower(3, False)))
    assert run.broken == []
    run.append(run.batch(1), 1, 2, 3)
    run.mark(1, 2, isr=(1,), followers=(Follower(2, False), Follower(3, False)))
    assert run.broken == ["quorum-superset"]


def test_committed_records_that_are_nowhere(run: Run) -> None:
    """B7: the last copy goes; while there is one, on whatever disk, nothing is said."""
    run.change(isr=(1, 2))
    run.append(run.batch(0), 1, 2)
    run.append(run.batch(1), 1, 2)
    run.mark(1, 2)
    run.logs[1].truncate_to(1)
    del run.logs[1]
    run.oracle.on_data_lost(1, is_all=True)
    assert run.oracle.losses == []
    run.logs[2].truncate_to(1)
    run.logs[2].truncate_to(0)
    assert [f"{finding}" for finding in run.oracle.losses] == [
        "global-survival: t-0: offsets 1 to 1, which were committed, are on no replica any more",
        "global-survival: t-0: offsets 0 to 0, which were committed, are on no replica any more",
    ]


def test_what_an_unclean_election_gave_up_may_be_nowhere(run: Run) -> None:
    """B7 is about what is owed: not what a leader of an unclean election lacks, nor what was never committed."""
    run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1)
    run.append(run.batch(1), 1, 2)
    run.change(leader=3, isr=(3,), leader_recovery_state=RECOVERING)
    run.logs[1].truncate_to(0)
    run.logs[2].truncate_to(0)
    run.oracle.on_leader(3, KEY, 1)
    assert run.broken == []
    assert run.oracle.losses == []


def test_how_many_copies_there_were(run: Run) -> None:
    """For P11: counted when a batch is committed; who has just lost data may have been counted."""
    run.append(run.batch(0), 1, 2, 3)
    run.mark(1, 1)
    run.change(isr=(1, 2))
    run.append(run.batch(1), 1, 2)
    run.mark(1, 2)
    run.change(isr=(1,))
    run.append(run.batch(2), 1)
    run.mark(1, 3)
    truth = run.oracle.truths[KEY]
    assert [truth.copies_at(offset) for offset in range(3)] == [(3, 3), (2, 3), (1, 3)]
    run.oracle.on_data_lost(2, is_all=False)
    run.logs[3].append(run.logs[1].batches[1])  # type: ignore[index]
    run.append(run.batch(3), 1)
    truth.held = -1
    run.mark(1, 4)
    assert truth.copies_at(3) == (2, 3)
