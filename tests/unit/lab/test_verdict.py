"""Losses by what became of the records, recovery times, and promises."""

from kafkasim.core.client.accumulator import DeliveryReport
from kafkasim.core.client.items import Slice
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch, batch_of
from kafkasim.lab.design import Promises
from kafkasim.lab.measure import GroupMeasure, quantile
from kafkasim.lab.members import lognormal_of
from kafkasim.lab.result import FaultResult, GroupResult, LossResult
from kafkasim.lab.verdict import LogAtEnd, back_us, judge, losses, not_in_log, recovery_us

TP = TopicPartition("calls", 0)
SECOND = 1_000_000


def batch_at(offset: int, count: int = 10) -> RecordBatch:
    return batch_of([b"v"] * count).placed(offset, 0)


def report_of(batch: RecordBatch) -> DeliveryReport:
    return DeliveryReport(TP, batch, ErrorCode.NONE, batch.base_offset, 2, [], 0, batch.count)


def test_losses_by_their_kind() -> None:
    """Skipped, pending, gone and deleted records are told apart; what was worked on is none of them."""
    done, half, ahead, gone, deleted = batch_at(10), batch_at(20), batch_at(30), batch_at(40), batch_at(0)
    measure = GroupMeasure("g")
    measure.on_done([Slice(TP, done, 0, 10), Slice(TP, half, 0, 4)], 0)
    log = LogAtEnd([done, half, ahead], 10, True)
    reports = [report_of(batch) for batch in (done, half, ahead, gone, deleted)]
    loss = losses(measure, ["calls"], {TP: log}, not_in_log(reports, {TP: log}), {TP: 30}, {})
    assert loss == LossResult(lost_by_cluster=10, deleted=10, skipped=6, unavailable=0, pending=10)
    assert loss.lost == 26


def test_work_in_hand_is_not_skipped() -> None:
    """A commit before the work does not lose what a living member still works on."""
    batch = batch_at(0)
    log = LogAtEnd([batch], 0, True)
    loss = losses(GroupMeasure("g"), ["calls"], {TP: log}, [], {TP: 10}, {TP: 4})
    assert (loss.skipped, loss.pending) == (4, 6)


def test_a_partition_without_a_leader_is_unknown() -> None:
    """Nobody can tell whether its records are lost."""
    batch = batch_at(0)
    loss = losses(GroupMeasure("g"), ["calls"], {TP: LogAtEnd([], 0, False)}, [report_of(batch)], {}, {})
    assert (loss.unavailable, loss.lost) == (10, 0)


def test_deliveries_are_counted_by_ranges() -> None:
    """A record that comes again, also at another offset, is a duplicate; the rest of its batch is not."""
    batch = batch_at(5)
    measure = GroupMeasure("g")
    measure.on_done([Slice(TP, batch, 0, 6)], 0)
    measure.on_done([Slice(TP, batch.placed(100, 1), 4, 10)], 0)
    assert (measure.delivered, measure.duplicated) == (12, 2)
    assert measure.ends == {TP: 110}


def test_recovery_is_back_at_the_old_lag_for_five_seconds() -> None:
    """A short dip does not count, a lag that never rose took no time, one that stays never ends."""
    calm = [(at * SECOND, 100) for at in range(10)]
    lags = [*calm, (10 * SECOND, 900), (11 * SECOND, 100), (12 * SECOND, 900)]
    lags += [(at * SECOND, 120) for at in range(13, 30)]
    assert recovery_us(lags, 10 * SECOND, 30 * SECOND, 0) == 3 * SECOND
    assert recovery_us(calm, 5 * SECOND, 30 * SECOND, 0) == 0
    assert recovery_us([*calm, *[(at * SECOND, 900) for at in range(10, 30)]], 10 * SECOND, 30 * SECOND, 0) is None


def test_when_a_count_is_zero_again() -> None:
    """The time from a fault to the first zero after it; None if there was none."""
    changes = [(0, 0), (12, 9), (15, 3), (21, 0)]
    assert back_us(changes, 10, 100) == 11
    assert back_us([(0, 0)], 10, 100) == 0
    assert back_us([(0, 0), (12, 9)], 10, 100) is None


def test_promises_have_reasons() -> None:
    """Each promise says why it was kept or broken."""
    loss = LossResult(lost_by_cluster=3, pending=5)
    group = GroupResult("g", 1, 10, 2, loss, 0, 50, 5, 10, 900, 1.0, 2.0, 1, 0, 1, {}, "none")
    promises = Promises(
        at_least_once=True,
        no_loss=True,
        no_duplicates=True,
        max_lag=50,
        final_lag=0,
        latency_p99_us=1000,
        recovery_us=SECOND,
    )
    faults = [
        FaultResult(1.0, "crash", "broker 1", 0, 0, {"g": 4.0}),
        FaultResult(2.0, "restart", "broker 1", 0, 0, {}),
    ]
    results = {
        result.promise.split()[0]: result for result in judge(group, promises, faults, "the settings allow it: acks=1")
    }
    assert [name for name, result in results.items() if result.kept] == ["max_lag"]
    assert "in no log any more (the settings allow it: acks=1)" in results["at_least_once"].reason
    assert "5 are in the log and not worked on yet (not lost)" in results["at_least_once"].reason
    assert "the crash of broker 1" in results["recovery"].reason


def test_quantiles_and_lognormal() -> None:
    """Quantiles of counts; a lognormal with a wanted mean and 99th percentile."""
    assert quantile({1: 50, 2: 49, 9: 1}, 0.5) == 1
    assert quantile({1: 50, 2: 49, 9: 1}, 0.99) == 2
    assert quantile({}, 0.5) is None
    from math import exp, isclose

    mu, sigma = lognormal_of(800.0, 4000.0)
    assert isclose(exp(mu + sigma**2 / 2), 800.0)
    assert isclose(exp(mu + 2.3263478740408408 * sigma), 4000.0, rel_tol=1e-6)
