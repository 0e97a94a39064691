"""The replication oracle: each promise of it has a run that breaks it, and the report names that promise."""

from __future__ import annotations

import pytest

import kafkasim
from kafkasim.check.replication_oracle import ReplicationOracle
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

KEY = ("id", 0)


class Run:
    """Three brokers and one partition, led by broker 1 in epoch 0; everything by hand."""

    def __init__(self) -> None:
        self.oracle = ReplicationOracle()
        self.offset = 0
        self.write(*(RegisterBrokerRecord(node, f"i{node}", node, "h", 1, None, fenced=False) for node in (1, 2, 3)))
        self.write(TopicRecord("t", "id"), PartitionRecord("id", 0, (1, 2, 3), (1, 2, 3), 1))
        for node in (1, 2, 3):
            self.oracle.on_new_log(node, KEY)
        self.oracle.on_leader(1, KEY, 0)

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
        for node in nodes:
            self.oracle.on_append(node, KEY, batch)
        return batch

    def mark(self, node: int, high_watermark: int, end: int, epoch: int = 0, is_leader: bool = True) -> None:
        self.oracle.on_high_watermark(node, KEY, epoch, is_leader, high_watermark, 0, end)

    @property
    def broken(self) -> list[str]:
        return list(dict.fromkeys(finding.invariant for finding in self.oracle.report.findings))


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_good_run(run: Run) -> None:
    """Written, copied, committed, acknowledged, led by another."""
    batch = run.append(run.batch(0), 1, 2, 3)
    run.mark(1, 1, 1)
    run.mark(2, 1, 1, is_leader=False)
    run.oracle.on_acked(KEY, batch, 0)
    run.change(leader=2, isr=(2, 3))
    run.oracle.on_leader(2, KEY, 1)
    run.append(run.batch(1, 1), 2, 3)
    run.mark(2, 2, 2, 1)
    assert run.broken == []
    assert run.oracle.report.looked_at["elections"] == 2


def test_a_leader_that_misses_a_record(run: Run) -> None:
    """B3 when the controller commits to it, B1 when it begins."""
    run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1, 1)
    run.change(leader=3, isr=(3,))
    assert run.broken == ["candidate-completeness"]
    run.oracle.on_leader(3, KEY, 1)
    assert run.broken == ["candidate-completeness", "leader-completeness"]


def test_an_unclean_election_may_lose(run: Run) -> None:
    """The same is allowed, and told, where the election said that it would."""
    batch = run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1, 1)
    run.change(leader=3, isr=(3,), leader_recovery_state=RECOVERING)
    run.oracle.on_leader(3, KEY, 1)
    run.append(run.batch(0, 1), 3)
    run.mark(3, 1, 1, 1)
    run.mark(1, 1, 1, 0)  # the old leader goes on in its own world
    run.oracle.on_acked(KEY, batch, 0)
    assert run.broken == []
    assert {finding.invariant for finding in run.oracle.report.allowed} == {"acked-loss"}


def test_logs_that_disagree_below_the_mark(run: Run) -> None:
    """B2, at a follower and at a leader."""
    run.append(run.batch(0), 1, 2)
    run.append(run.batch(0), 3)
    run.change(isr=(1, 2))
    run.mark(1, 1, 1)
    run.mark(3, 1, 1, is_leader=False)
    assert "log-matching" in run.broken


def test_a_candidate_that_misses_a_record(run: Run) -> None:
    """B3: an ISR member without what was committed; not one whose disk is known to be gone."""
    run.append(run.batch(0), 1, 2)
    run.oracle.on_power_loss(3)
    run.mark(1, 1, 1)
    assert run.broken == []
    run.write(RegisterBrokerRecord(3, "i3b", 30, "h", 1, None, fenced=False))
    run.append(run.batch(1), 1, 2)
    run.mark(1, 2, 2)
    assert run.broken == ["candidate-completeness"]


def test_two_writers_in_an_epoch(run: Run) -> None:
    """B6."""
    run.append(run.batch(0), 1)
    run.append(run.batch(0), 2)
    assert run.broken == ["one-writer-per-epoch"]


def test_marks_that_make_no_sense(run: Run) -> None:
    """B8: beyond the log end; beyond what is committed."""
    run.append(run.batch(0), 1, 2, 3)
    run.mark(2, 1, 1, is_leader=False)
    assert run.broken == ["watermark-sanity"]
    run.mark(1, 2, 1)
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
    run.mark(1, 1, 1)
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
    run.mark(1, 1, 1)
    run.change(isr=(2,), elr=(1,), replicas=(2, 3), leader=2)
    run.change(replicas=(2, 3, 1))
    run.oracle.on_new_log(1, KEY)
    run.change(leader=1, isr=(1,), elr=(2,))
    assert run.broken == []
    run.oracle.on_leader(1, KEY, 2)
    assert run.broken == []
    assert [finding.invariant for finding in run.oracle.report.allowed] == ["leader-completeness"]


def test_a_reassignment_that_did_not_wait_excuses_nothing(run: Run) -> None:
    """Who was dropped for a replica that is not in sync is in the ELR by mistake of the controller's, not by Kafka's own rules."""
    run.change(replicas=(1, 2), isr=(1, 2))
    run.append(run.batch(0), 1, 2)
    run.mark(1, 1, 1)
    run.change(isr=(2,), elr=(1,), replicas=(2, 3), leader=2)
    run.oracle.on_new_log(1, KEY)
    run.change(replicas=(2, 3, 1))
    assert run.broken == ["candidate-completeness"]


def test_a_leader_that_skipped_epochs_may_believe_too_much(run: Run) -> None:
    """Kafka keeps what it heard of followers: they have cut their logs since, and it commits what they lack."""
    run.append(run.batch(0), 1, 2)
    run.oracle.on_leader(2, KEY, 1)
    run.oracle.on_cut(2, KEY, 0, 0)
    run.change(leader=2)
    run.change(leader=1, isr=(1, 2))
    run.oracle.on_leader(1, KEY, 2, {2: 1})
    run.mark(1, 1, 1, epoch=2)
    assert run.broken == []
    assert [finding.invariant for finding in run.oracle.report.allowed] == ["candidate-completeness"]
    other = Run()
    other.append(other.batch(0), 1)
    other.change(isr=(1, 2))
    other.oracle.on_leader(1, KEY, 1, {})
    other.mark(1, 1, 1, epoch=1)
    assert other.broken == ["candidate-completeness"], "who has heard nothing has no excuse"


def test_who_catches_up_is_no_stranger_any_more(run: Run) -> None:
    """The mark of an ELR that outlived a reassignment goes as soon as the ISR takes the replica in."""
    run.append(run.batch(0), 1, 2)
    run.change(isr=(1, 2))
    run.mark(1, 1, 1)
    run.change(isr=(2,), elr=(1,), replicas=(2, 3), leader=2)
    run.change(replicas=(2, 3, 1))
    run.oracle.on_new_log(1, KEY)
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
        assert report.looked_at["appends"] >= 10
        assert report.looked_at["elections"] >= 2
        assert report.looked_at["high watermarks"] >= 5
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
        run.oracle.on_high_watermark(1, KEY, 0, True, offset + 1, max(0, offset - 10), offset + 1)
    partition = run.oracle._partitions[KEY]
    assert len(partition.committed.batches) < 100
    assert not partition.seen
    run.change(leader=2, isr=(2, 3))
    run.oracle.on_leader(2, KEY, 1)
    assert run.broken == []
    run.oracle.on_cut(3, KEY, 289, 299)
    run.change(leader=3, isr=(3,))
    run.oracle.on_leader(3, KEY, 2)
    assert run.broken == ["candidate-completeness", "leader-completeness"]


def test_a_cleaned_log_is_left_alone(run: Run) -> None:
    """What a cleaner rewrote is another object: nothing is said of such a partition."""
    run.append(run.batch(0), 1, 2)
    run.append(run.batch(5), 1)
    run.mark(1, 1, 6)
    run.change(leader=3, isr=(3,))
    run.oracle.on_leader(3, KEY, 1)
    assert run.broken == []
