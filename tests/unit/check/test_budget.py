"""The budget of a run: what more harm than must survive excuses, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

import kafkasim
from kafkasim import faults
from kafkasim.check.budget import Budget
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.check.run import check_history
from kafkasim.core.model.admin_messages import TOPIC_RESOURCE, ElectLeadersRequest
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Happened, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import (
    RECOVERING,
    ClearElrRecord,
    ConfigRecord,
    MetadataBatch,
    MetadataRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
)
from kafkasim.core.model.records import batch_of
from kafkasim.testing.audit import audit

TP = TopicPartition("orders", 0)
_MIN_ISR = "min.insync.replicas"


class Run:
    """A history that a test writes, a second an event."""

    def __init__(self, *, isr: tuple[int, ...] = (1, 2, 3), min_insync: int = 2, unclean: bool = False) -> None:
        self.events: list[HistoryEvent] = []
        self.second = 0
        self._offset = 0
        self._epoch = 0
        self._unclean = ("orders",) if unclean else ()
        self.topic("one", (1, 2, 3), isr, min_insync)

    def topic(self, topic_id: str, replicas: tuple[int, ...], isr: tuple[int, ...], min_insync: int) -> None:
        self.metadata(
            TopicRecord("orders", topic_id),
            ConfigRecord(TOPIC_RESOURCE, "orders", _MIN_ISR, str(min_insync)),
            PartitionRecord(topic_id, 0, replicas, isr, isr[0]),
        )
        self.leads(isr[0], 0, 0)
        self._epoch = 0

    def note(self, kind: str, node: int, subject: object = None, **fields: object) -> None:
        self.second += 1
        self.events.append(Happened(self.second * 1_000_000, node, kind, subject, tuple(fields.items())))

    def harm(self, node: int, *whole: int, how: str = "lost power") -> None:
        """A server loses what it had; ``whole`` still hold everything."""
        self.note("data lost", node, how=how, partitions=((TP, 0, whole),))

    def metadata(self, *records: MetadataRecord, epoch: int = 1, at: int | None = None) -> None:
        offset = self._offset if at is None else at
        self.note("metadata-committed", 1, batches=(MetadataBatch(offset, epoch, records),))
        self._offset = max(self._offset, offset + len(records))

    def asked(self, cause: Any) -> None:
        """The next batch is written for a request."""
        self.note("metadata-written", 1, offset=self._offset, epoch=1, event="electLeaders", cause=cause)

    def change(self, **fields: Any) -> None:
        self.metadata(PartitionChangeRecord("one", 0, **fields))

    def elect(self, leader: int, log_end: int, **fields: Any) -> None:
        self._epoch += 1
        self.change(leader=leader, **fields)
        self.leads(leader, self._epoch, log_end)

    def leads(self, node: int, epoch: int, log_end: int) -> None:
        self.note("became leader", node, TP, leader_epoch=epoch, log_end=log_end, isr=())

    @property
    def budget(self) -> Budget:
        return Budget(self.events, {"orders": 2}, self._unclean)

    def excuse(self, offset: int = 50, at_s: float | None = None) -> str | None:
        """For a record that was acknowledged in the first second, or ``at_s``."""
        return self.budget.excuse(TP, offset, round((1 if at_s is None else at_s) * 1_000_000))


def test_losing_every_copy_that_had_to_hold_it_is_excused() -> None:
    """Two of two in-sync replicas lose power; one of them is elected with less than was acknowledged."""
    run = Run(isr=(1, 2))
    run.harm(1)
    run.harm(2)
    run.change(leader=-1, isr=(), elr=())
    run.change(leader=2, isr=(2,), leader_recovery_state=RECOVERING)
    run.leads(2, 2, 40)
    assert run.excuse() == "brokers 1, 2 lost power within 1 s: no copy that had to hold it was left"
    assert run.excuse(offset=39) is None, "what the new leader has is owed"
    [overrun] = run.budget.overruns
    assert (overrun.tp, overrun.at_us) == (TP, 4_000_000)


@pytest.mark.parametrize("harm", ["crash", "pause"])
def test_what_loses_no_data_excuses_nothing(harm: str) -> None:
    """A killed process keeps its page cache."""
    run = Run(isr=(1, 2))
    run.note(harm, 1)
    run.note(harm, 2)
    run.elect(2, 40, isr=(2,))
    assert run.excuse() is None
    assert run.budget.overruns == []


def test_less_than_min_insync_replicas_excuse_nothing() -> None:
    """The last of a shrunk ISR loses power: with one harmed, Kafka still promises the record."""
    run = Run(isr=(1, 2, 3))
    run.change(isr=(1,))
    run.harm(1)
    run.elect(1, 40)
    assert run.excuse() is None


def test_a_copy_that_is_left_has_to_be_used() -> None:
    """Two lost power, the third has everything: to elect another one is a bug."""
    run = Run(isr=(1, 2, 3))
    run.harm(1)
    run.harm(2)
    run.elect(2, 40)
    assert run.excuse() is None


def test_a_replica_that_came_back_into_the_isr_is_whole() -> None:
    """One after the other, healed in between: that must survive."""
    run = Run(isr=(1, 2))
    run.harm(1)
    run.change(isr=(2,), leader=2)
    run.note("start", 1)
    run.change(isr=(2, 1))
    run.harm(2)
    run.elect(1, 40, isr=(1,))
    run.leads(1, 2, 40)
    assert run.excuse() is None


def test_a_replica_that_is_elected_from_the_elr_has_not_caught_up() -> None:
    """It was harmed and still is: the other one, killed and struck, was the last that held everything."""
    run = Run(isr=(1, 2))
    run.harm(2, 1)
    run.change(leader=-1, isr=(), elr=(1, 2), last_known_elr=(1,))
    run.elect(2, 0, isr=(2,), elr=(1,))
    run.metadata(RegisterBrokerRecord(1, "i1", 9, "h", 1, None, fenced=True), PartitionChangeRecord("one", 0, elr=()))
    assert [overrun.tp for overrun in run.budget.overruns] == [TP]
    run.change(isr=(2, 3))
    run.harm(3, 2)
    assert len(run.budget.overruns) == 1, "another has joined: what the leader has is the truth"


def test_who_is_out_of_sync_does_not_count() -> None:
    """A lagging follower without power takes nothing from what the others hold; in the ELR it would."""
    for elr, is_excused in (((), False), ((2,), True)):
        run = Run(isr=(1,))
        run.change(elr=elr)
        run.harm(2)
        run.harm(1)
        run.elect(1, 40)
        assert (run.excuse() is not None) is is_excused


def test_a_killed_replica_is_harmed_once_the_controller_strikes_it() -> None:
    """It holds everything, but nobody can know: with the power of the last one gone, Kafka elects that one with less."""
    for loses_power in (True, False):
        run = Run(isr=(1, 2))
        run.note("crash", 2)
        run.change(isr=(1,), elr=(2,))
        if loses_power:
            run.harm(1, 2)
        again = RegisterBrokerRecord(2, "again", 9, "broker-2", 9092, None)
        assert run.budget.overruns == []
        run.metadata(
            PartitionChangeRecord("one", 0, leader=1, isr=(1,), elr=(), leader_recovery_state=RECOVERING), again
        )
        run.leads(1, 1, 40)
        reason = "broker 1 lost power and broker 2 came back from an unclean stop within 1 s"
        assert str(run.excuse()).startswith(reason if loses_power else "None")


def test_what_the_leader_holds_above_the_high_watermark_is_not_lost() -> None:
    """Acknowledged, and the new leader has not heard yet that others have it."""
    batch = batch_of([b"v"]).placed(0, 0)
    told = Acked(1_000_000, "p", TP, batch, 0, 1, ErrorCode.NONE, 0, -1, True)
    settings: dict[str, Any] = {"min_insync_replicas": 2, "replication_factor": 3}
    assert check_history([told], {TP: LogView([], uncommitted=[batch], **settings)}).ok
    assert not check_history([told], {TP: LogView([], **settings)}).ok


def test_who_is_seen_to_hold_everything_is_whole() -> None:
    """It came back, fetched everything, and never left the ISR: the next loss finds it whole, once it has registered."""
    for has_registered in (True, False):
        run = Run(isr=(1, 2))
        run.harm(1, 2)
        if has_registered:
            run.metadata(RegisterBrokerRecord(1, "again", 9, "broker-1", 9092, None))
        run.harm(2, 1)
        run.elect(1, 40)
        assert (run.excuse() is None) is has_registered


def test_what_was_lost_above_the_high_watermark_is_no_harm() -> None:
    """Everything that was acknowledged is on its disk."""
    run = Run(isr=(1,), min_insync=1)
    run.harm(1, 1)
    run.elect(1, 40)
    assert run.excuse() is None


def test_a_later_loss_is_not_excused_by_an_earlier_one() -> None:
    """A record that was acknowledged after the excused loss, and lost in a clean election, is owed."""
    run = Run(isr=(1, 2))
    run.harm(1)
    run.harm(2)
    run.elect(2, 40, isr=(2,))
    excused_at = run.second
    run.change(isr=(2, 1))
    run.elect(1, 45)
    assert run.excuse(50, excused_at + 1) is None
    assert run.excuse(50, excused_at - 1) is not None
    assert run.excuse(42, excused_at + 1) is not None, "told late, and lost when the excused leader began"


@pytest.mark.parametrize("how", ["setting", "static", "asked", "nobody"])
def test_an_unclean_election_needs_somebody_who_allows_it(how: str) -> None:
    """A topic's setting, a broker's, or an operator's request; else it is a bug."""
    run = Run(isr=(1, 2), unclean=how == "static")
    if how == "setting":
        run.metadata(ConfigRecord(TOPIC_RESOURCE, "orders", "unclean.leader.election.enable", "true"))
    if how == "asked":
        run.asked(ElectLeadersRequest(1, (TP,), 1000))
    run.elect(3, 40, isr=(3,), leader_recovery_state=RECOVERING)
    reason = run.excuse()
    assert (reason is None) is (how == "nobody")
    assert reason is None or "unclean election of broker 3" in reason


def test_an_elr_that_outlives_a_reassignment_excuses_its_election() -> None:
    """Kafka 4.3 leaves who was removed in the ELR; it comes back as a replica, and is elected with an empty log."""
    run = Run(isr=(1, 2))
    run.change(isr=(1,), elr=(3,), replicas=(1, 2))
    run.change(replicas=(1, 2, 3))
    assert run.excuse(0) is None
    run.elect(3, 0, isr=(3,), elr=(1,))
    assert "broker 3 was elected from an ELR in which a reassignment had left it" in str(run.excuse(0))
    assert run.budget.overruns == []
    again = Run(isr=(1, 2))
    again.change(isr=(1,), elr=(2,))
    again.elect(2, 0, isr=(2,), elr=(1,))
    assert again.excuse(0) is None, "a replica that never was away is trusted with reason"


def test_a_cleared_elr_leaves_the_isr_alone_to_hold_everything() -> None:
    """Changing min.insync.replicas empties the ELR; then the last replica's power is all there is."""
    run = Run(isr=(1,))
    run.change(elr=(2,))
    run.metadata(ClearElrRecord("orders"))
    run.harm(1)
    run.elect(1, 40)
    assert "emptied the ELR" in str(run.excuse())


def test_a_topic_that_was_deleted_owes_nothing() -> None:
    """The same name again is another log."""
    run = Run()
    run.metadata(RemoveTopicRecord("one"))
    run.topic("two", (1, 2, 3), (1, 2, 3), 2)
    assert "deleted" in str(run.excuse())


def test_the_setting_of_the_time_of_the_acknowledgement_counts() -> None:
    """min.insync.replicas=1 for a while promises one copy of what was acknowledged then."""
    run = Run()
    run.second = 100
    run.metadata(ConfigRecord(TOPIC_RESOURCE, "orders", _MIN_ISR, "1"))
    run.second = 200
    run.metadata(ConfigRecord(TOPIC_RESOURCE, "orders", _MIN_ISR, "2"))
    found = [run.budget.min_insync("orders", at_s * 1_000_000, 2) for at_s in (50, 150, 203, 250)]
    assert found == [2, 1, 1, 2]
    assert run.budget.min_insync("others", 0, 3) == 3


def test_a_quorum_that_lost_its_disks_excuses_everything() -> None:
    """Other records at an offset that had been committed: with a replaced disk among the voters, no topic can be judged."""
    run = Run()
    run.note("disk replaced", 2)
    assert run.excuse() is None
    run.metadata(ConfigRecord(TOPIC_RESOURCE, "orders", _MIN_ISR, "1"), epoch=7, at=0)
    assert "the quorum lost what it had committed, after 2" in str(run.excuse())


# --- on clusters -----------------------------------------------------------------------------------------------------


def _records_written(cluster: kafkasim.Cluster, plan: faults.Plan, seconds: float) -> Report:
    cluster.create_topic("orders", partitions=1, replication_factor=3, config={_MIN_ISR: 2})
    cluster.produce("orders", [str(number) for number in range(20)])
    injection = cluster.inject(plan)
    cluster.run_for(seconds)
    injection.heal()
    cluster.run_for(40.0)
    return cluster.check()


def test_a_whole_cluster_without_power_loses_with_leave() -> None:
    """Three of three within a moment: told as allowed, and why."""
    with kafkasim.Cluster(seed=3) as cluster:
        plan = faults.plan(*(faults.power_loss(f"broker:{n}", at=1.0 + n / 10, down=5.0) for n in (1, 2, 3)))
        report = _records_written(cluster, plan, 20.0)
        assert report.ok, report
        assert [finding.invariant for finding in report.allowed] == ["acked-loss"] * len(report.allowed)
        assert "lost power within 0.2 s" in str(report.allowed[0])
        assert [overrun.tp for overrun in cluster.budget().overruns if overrun.tp == TP] == [TP]


def test_power_losses_one_after_the_other_are_survived() -> None:
    """Each broker in its turn, with time to catch up: nothing is lost and nothing is excused."""
    with kafkasim.Cluster(seed=3) as cluster:
        plan = faults.plan(*(faults.power_loss(f"broker:{n}", at=25.0 * n, down=2.0) for n in (1, 2, 3)))
        report = _records_written(cluster, plan, seconds=100.0)
        assert report.ok, report
        assert report.allowed == []
        assert cluster.budget().overruns == []


def test_power_losses_before_a_broker_has_registered_again_add_up() -> None:
    """Six seconds apart: the old registrations are still valid, so nobody has been struck from the ISR, and Kafka may elect anyone."""
    with kafkasim.Cluster(seed=3) as cluster:
        plan = faults.plan(*(faults.power_loss(f"broker:{n}", at=6.0 * n, down=2.0) for n in (1, 2, 3)))
        report = _records_written(cluster, plan, 20.0)
        assert report.ok, report
        assert [finding.invariant for finding in report.allowed] == ["acked-loss"]


def test_a_bug_within_the_budget_stays_a_finding() -> None:
    """Without ELR the last replica is trusted after its power loss: one loss of power is within the budget, so this is a bug."""
    with kafkasim.Cluster(seed=3, controllers=1, features={"eligible_leader_replicas": False}) as cluster:
        cluster.create_topic("orders", partitions=1, replication_factor=3, config={_MIN_ISR: 2})
        leader = cluster.describe_topic("orders")[0].leader
        followers = [node for node in (1, 2, 3) if node != leader]
        cluster.produce("orders", [str(number) for number in range(20)])
        for node in followers:
            cluster.broker(node).crash()
        cluster.run_until(lambda: cluster.describe_topic("orders")[0].isr == [leader])
        cluster.broker(leader).power_loss()
        cluster.run_for(1.0)
        for node in (leader, *followers):
            cluster.broker(node).start()
        cluster.run_for(60.0)
        report = cluster.check()
        broken = list(dict.fromkeys(finding.invariant for finding in report.findings))
        assert broken == ["candidate-completeness", "leader-completeness", "acked-loss"]


def test_a_second_unclean_election_says_nothing_of_its_own() -> None:
    """A lone replica stays in recovery, so the next unclean election changes no state: it is one all the same."""
    run = Run(isr=(1,), unclean=True)
    run.elect(1, 40, isr=(1,), leader_recovery_state=RECOVERING)
    run.change(leader=-1, isr=(), elr=())
    run.change(leader=1, isr=(1,))
    run.leads(1, 3, 20)
    assert "unclean election of broker 1" in str(run.excuse(30, run.second - 1))


def test_a_lone_replica_that_loses_power_twice_breaks_no_oracle() -> None:
    """Each time it is elected with less than was committed: the settings allow that, and replication's own oracle knows."""
    with kafkasim.Cluster(brokers=1, seed=6435108) as cluster:
        oracle = audit(cluster)
        cluster.create_topic("orders")
        for _ in range(2):
            cluster.produce("orders", ["a"])
            cluster.broker(1).power_loss()
            cluster.broker(1).start()
            cluster.run_for(30.0)
        assert oracle.report.ok, oracle.report
        assert cluster.check().ok
