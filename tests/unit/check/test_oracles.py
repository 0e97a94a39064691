"""Each oracle finds what is planted, under its own name, and says nothing of a clean history."""

from __future__ import annotations

from kafkasim.check.budget import Budget
from kafkasim.check.consumer_oracles import check_consistency, check_deliveries
from kafkasim.check.log_oracles import LogView
from kafkasim.check.report import Report
from kafkasim.check.run import check_history
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Assigned, Delivered, HistoryEvent, Sought
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch, batch_of

T0 = TopicPartition("calls", 0)


def placed(base_offset: int, count: int = 2, producer_id: int = -1) -> RecordBatch:
    batch = batch_of([b"v%d" % (base_offset + index) for index in range(count)])
    batch.producer_id = producer_id
    return batch.placed(base_offset, 0)


def acked(batch: RecordBatch, acks: int = -1, error: ErrorCode = ErrorCode.NONE) -> Acked:
    return Acked(1_000_000, "p", T0, batch, 0, batch.count, error, batch.base_offset, acks, False)


def delivered(batch: RecordBatch, client: str = "c") -> Delivered:
    return Delivered(2_000_000, client, "g", T0, batch, 0, batch.count)


def judged(events: list[HistoryEvent], batches: list[RecordBatch], **view: int) -> Report:
    settings = {"min_insync_replicas": 2, "replication_factor": 3, **view}
    return check_history(events, {T0: LogView(batches, **settings)})  # type: ignore[arg-type]


def names(report: Report) -> list[str]:
    return [finding.invariant for finding in report.findings]


def test_a_clean_history_is_clean() -> None:
    """Acknowledged, in the log, delivered once and in order."""
    first, second = placed(0), placed(2)
    report = judged([acked(first), acked(second), delivered(first), delivered(second)], [first, second])
    assert report.ok
    assert report.looked_at == {"acknowledged records": 4, "log batches": 2, "deliveries": 4}


def test_a_lost_record_is_a_breach_under_strict_settings() -> None:
    """acks=all and two copies: the loss is reported with partition, offsets and client."""
    first, second = placed(0), placed(2)
    report = judged([acked(first), acked(second)], [first])
    assert names(report) == ["acked-loss"]
    assert "calls-0 offsets 2..3, acknowledged to p" in report.findings[0].text


def test_a_loss_that_the_settings_allow_is_told_as_such() -> None:
    """acks=1, or one copy: no breach."""
    batch = placed(0)
    for report in (judged([acked(batch, acks=1)], []), judged([acked(batch)], [], min_insync_replicas=1)):
        assert report.ok
        assert [finding.invariant for finding in report.allowed] == ["acked-loss"]


def test_a_replaced_record_is_a_loss_too() -> None:
    """The offset is there, but it holds something else."""
    report = judged([acked(placed(0))], [placed(0)])
    assert names(report) == ["acked-loss"]


def test_failed_and_deleted_records_are_no_losses() -> None:
    """An error promises nothing; below the log start nothing is owed."""
    assert judged([acked(placed(0), error=ErrorCode._MSG_TIMED_OUT)], []).ok
    assert judged([acked(placed(0))], [], start_offset=2).ok


def test_a_partition_without_leader_is_not_judged() -> None:
    """What cannot be read is not known to be lost."""
    view = LogView([], min_insync_replicas=2, replication_factor=3, has_leader=False)
    assert check_history([acked(placed(0))], {T0: view}).ok


def test_a_doubled_batch() -> None:
    """With a producer id it is a breach, without one the settings allowed it."""
    for producer_id, breach in ((7, True), (-1, False)):
        batch = placed(0, producer_id=producer_id)
        again = batch.placed(2, 0)
        report = judged([], [batch, again])
        assert report.ok is not breach
        found = report.findings if breach else report.allowed
        assert [finding.invariant for finding in found] == ["log-duplicate"]


class _AskedBudget(Budget):
    """Excuses everything, and remembers of when it was asked."""

    def __init__(self) -> None:
        super().__init__(())
        self.asked: list[tuple[int, int]] = []

    def excuse(self, tp: TopicPartition, offset: int, at_us: int) -> str:
        self.asked.append((offset, at_us))
        return "too much was harmed"


def test_what_was_read_before_a_loss_is_what_the_loss_excuses() -> None:
    """However much later the reader goes back: the time of the first reading counts."""
    first, other = placed(0), placed(0, count=3)
    events = [Delivered(at_us, "c", "g", T0, batch, 0, 1) for at_us, batch in ((3, first), (9, other))]
    logs = {T0: LogView([other], replication_factor=3, min_insync_replicas=2)}
    for check in (check_deliveries, check_consistency):
        budget, report = _AskedBudget(), Report()
        check(events, logs, report, budget=budget)
        assert report.ok
        assert [at_us for _, at_us in budget.asked] == [3]


def test_poll_back_and_poll_skip() -> None:
    """Within one assignment offsets only go on, and leave nothing visible out."""
    first, second, third = placed(0), placed(2), placed(4)
    log = [first, second, third]
    assert names(judged([delivered(second), delivered(first)], log)) == ["poll-back"]
    assert names(judged([delivered(first), delivered(third)], log)) == ["poll-skip"]
    assert judged([delivered(first), delivered(third, "other")], log).ok


def test_a_seek_or_a_new_assignment_starts_anew() -> None:
    """What the application or a rebalance moved is no anomaly."""
    first, second = placed(0), placed(2)
    for between in (Sought(1, "c", "g", T0, 0), Assigned(1, "c", "g", (T0,))):
        assert judged([delivered(second), between, delivered(first)], [first, second]).ok


def test_a_gap_without_visible_records_is_no_skip() -> None:
    """Offsets that compaction or markers took are nobody's loss."""
    first, third = placed(0), placed(4)
    assert judged([delivered(first), delivered(third)], [first, third]).ok


def test_one_offset_two_records() -> None:
    """Two readers saw different records at one offset."""
    report = judged([delivered(placed(0), "a"), delivered(placed(0), "b")], [])
    assert names(report) == ["inconsistent-offset"]


def test_the_report_reads_as_a_verdict() -> None:
    """First what was looked at, then what broke."""
    text = str(judged([acked(placed(0))], []))
    assert text.splitlines()[0] == "checked 2 acknowledged records: 1 broken"
    assert text.splitlines()[1].startswith("BROKEN  acked-loss: calls-0 offsets 0..1")


def test_a_copy_in_a_new_producer_epoch_is_allowed() -> None:
    """A producer whose message timed out begins a new epoch, and sends again what may have been written: idempotence ends there."""
    first = placed(0, producer_id=7)
    for epoch, is_ok in ((0, False), (1, True)):
        again = first.placed(2, 1)
        first.producer_epoch, again.producer_epoch = 0, epoch
        report = judged([], [first, again])
        assert report.ok is is_ok
        assert [finding.invariant for finding in report.allowed] == (["log-duplicate"] if is_ok else [])
