"""The rules of a share partition, one by one."""

from __future__ import annotations

import pytest
from tests.unit.share.partition_driver import SECOND_US, Driver

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.share_messages import (
    ACK_ACCEPT,
    ACK_GAP,
    ACK_REJECT,
    ACK_RELEASE,
    ACK_RENEW,
    RECORD_LIMIT,
    StateBatch,
)
from kafkasim.core.share.acquire import throttle_from, without_aborted
from kafkasim.core.share.in_flight import ACKNOWLEDGED, AVAILABLE

OK = [ErrorCode.NONE]
INVALID = [ErrorCode.INVALID_RECORD_STATE]


def test_mixed_acknowledgements() -> None:
    """Accepted and rejected records are over, released ones come again with one delivery more."""
    share = Driver(6)
    assert share.offsets() == dict.fromkeys(range(6), 1)
    kinds = (ACK_ACCEPT, ACK_RELEASE, ACK_REJECT, ACK_RELEASE, ACK_GAP, ACK_ACCEPT)
    assert share.ack(0, 5, *kinds) == OK
    assert share.partition.start_offset == 1
    assert share.offsets() == {1: 2, 3: 2}
    assert share.ack(1) == OK
    assert share.ack(3) == OK
    assert share.partition.start_offset == share.partition.end_offset == 6
    assert share.offsets() == {}


def test_batches_round_up_and_record_limit_does_not() -> None:
    """Four wanted records of batches of ten are ten, unless exactly four are asked for."""
    share = Driver(10, 10)
    assert list(share.offsets(most=4)) == list(range(10))
    assert list(share.offsets(most=4)) == list(range(10, 20))
    exact = Driver(10, 10)
    assert list(exact.offsets(most=4, mode=RECORD_LIMIT)) == [0, 1, 2, 3]
    exact.ack(0, 3)
    assert list(exact.offsets(most=4, mode=RECORD_LIMIT)) == [4, 5, 6, 7]
    exact.ack(4, 7, ACK_ACCEPT, ACK_RELEASE, ACK_ACCEPT, ACK_RELEASE)
    assert exact.offsets(most=4, mode=RECORD_LIMIT) == {5: 2, 7: 2, 8: 1, 9: 1}


def test_acquired_records_are_cut_by_batch_size() -> None:
    """One run of acquired records is about as long as the asked batch size, and ends where a log batch ends."""
    runs = Driver(3, 3, 3, 3).fetch(batch_size=5)
    assert [(run.first_offset, run.last_offset) for run in runs] == [(0, 5), (6, 11)]


def test_window_of_record_locks() -> None:
    """New records stop at the limit of locks; what is in the window comes again all the same."""
    share = Driver(*[1] * 300, max_record_locks=100)
    assert len(share.offsets()) == 100
    assert share.fetch() == []
    share.ack(0, 9)
    assert list(share.offsets()) == list(range(100, 110))
    share.ack(50, None, ACK_RELEASE)
    assert share.offsets() == {50: 2}


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        (5, [8, 8, 8, 4, 1, 1, 1, 1, 4, 1, 1, 1, 1]),
        (3, [8, 8, 1, 1, 1, 1, 1, 1, 1, 1]),
        (2, [8, 8]),
    ],
)
def test_poison_batches_are_halved(limit: int, sizes: list[int]) -> None:
    """A batch released again and again comes in halves, and each record's last attempt alone."""
    share = Driver(8, delivery_count_limit=limit)
    seen = []
    while taken := share.offsets():
        seen.append(len(taken))
        share.ack(min(taken), max(taken), ACK_RELEASE)
    assert seen == sizes
    assert share.partition.start_offset == 8


def test_throttling_begins_at_half_of_the_limit() -> None:
    """T = max(2, ceil(limit / 2))."""
    assert [throttle_from(limit) for limit in range(2, 11)] == [2, 2, 2, 3, 3, 4, 4, 5, 5]


def test_lock_runs_out_once() -> None:
    """At the lock's end the records come again, and the late holder is refused."""
    share = Driver(3)
    share.fetch()
    assert share.wait(29) == 0
    assert share.wait(1) == 1
    assert share.offsets("m2") == {0: 2, 1: 2, 2: 2}
    assert share.ack(0, 2) == INVALID
    assert share.ack(0, 2, member="m2") == OK
    assert share.ack(0, 2) == OK, "what is before the start is nobody's business any more"


def test_delivery_limit_by_lock_timeouts() -> None:
    """The last lock that runs out archives."""
    share = Driver(1, delivery_count_limit=2)
    assert share.offsets() == {0: 1}
    share.wait(30)
    assert share.offsets() == {0: 2}
    share.wait(30)
    assert share.offsets() == {}
    assert share.partition.start_offset == 1


def test_acknowledgements_stand_or_fall_together() -> None:
    """One bad offset of a batch takes the good ones back."""
    share = Driver(4)
    share.fetch("m1", 4)
    share.ack(2)
    assert share.ack(0, 3) == INVALID
    assert share.ack(0, 1) == OK
    assert share.partition.start_offset == 3
    assert share.partition.delivery_complete_count == 0


def test_ranges_that_nobody_acquired() -> None:
    """Beyond what was acquired is an invalid request, an unknown type as well."""
    share = Driver(2)
    share.fetch()
    assert share.ack(5, 6) == [ErrorCode.INVALID_REQUEST]
    assert share.ack(0, 7) == [ErrorCode.INVALID_REQUEST]
    assert share.ack(0, 1, 9) == [ErrorCode.INVALID_REQUEST]
    assert Driver(2).ack(0) == INVALID


def test_renewed_locks_start_again() -> None:
    """RENEW keeps the record with its holder for another full time, and persists nothing."""
    share = Driver(2)
    share.fetch()
    share.wait(20)
    assert share.ack(0, None, ACK_RENEW) == OK
    assert share.written == []
    assert share.wait(10) == 1
    assert share.offsets("m2") == {1: 2}
    assert share.wait(20) == 1
    assert share.offsets("m2") == {0: 2}
    refused = Driver(1, renew_enabled=False)
    refused.fetch()
    assert refused.ack(0, None, ACK_RENEW) == INVALID


def test_released_session_keeps_delivery_counts() -> None:
    """A session that ends gives its records back with their counts, at the limit it archives them."""
    share = Driver(2, delivery_count_limit=2)
    share.fetch()
    share.release()
    assert share.offsets("m2") == {0: 2, 1: 2}
    share.release("m2")
    assert share.offsets() == {}
    assert share.partition.start_offset == 2


def test_a_failed_write_rolls_back() -> None:
    """What could not be persisted is with its holder again, unless the lock ran out meanwhile."""
    share = Driver(2)
    share.fetch()
    share.holding = True
    outcome = share.ack(0, 1)
    assert outcome == []
    assert share.ack(0, 1) == INVALID, "a change is on its way"
    share.confirm(ErrorCode.COORDINATOR_NOT_AVAILABLE, force=True)
    assert outcome == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
    assert share.partition.delivery_complete_count == 0
    share.ack(0, 1)
    share.wait(30)
    share.confirm(ErrorCode.COORDINATOR_NOT_AVAILABLE, force=True)
    share.holding = False
    assert share.offsets("m2") == {0: 2, 1: 2}


@pytest.mark.parametrize("protected", [True, False])
def test_the_limit_counts_after_a_lost_write(protected: bool) -> None:
    """KAFKA-19476: the last lock runs out while the write is on its way; without the check the record comes once more."""
    share = Driver(1, delivery_count_limit=2, counts_after_failure=protected)
    share.fetch()
    share.ack(0, None, ACK_RELEASE)
    assert share.offsets() == {0: 2}
    share.holding = True
    share.ack(0)
    share.wait(30)
    share.confirm(ErrorCode.COORDINATOR_NOT_AVAILABLE, force=True)
    share.holding = False
    assert share.offsets() == ({} if protected else {0: 3})


def test_persisted_start_lags_by_one_write() -> None:
    """A write carries the start offset from before its own acknowledgements."""
    share = Driver(2)
    share.fetch()
    share.holding = True
    share.ack(0, 1)
    (write,) = share.partition.writes
    assert (write.start_offset, write.delivery_complete_count) == (0, 2)
    assert write.batches == (StateBatch(0, 1, ACKNOWLEDGED, 1),)


def test_log_start_moves_past_records() -> None:
    """Available records before the log start are archived; acquired ones are forgotten when their holder is done."""
    share = Driver(1, 1, 1, 1, 1, 1)
    share.fetch()
    share.ack(1, None, ACK_RELEASE)
    share.partition.update_log_start(4)
    assert share.partition.start_offset == 4
    assert share.ack(0, 5) == OK
    assert share.partition.start_offset == 4, (
        "as in Kafka: locks from before the start hold the cache until they run out"
    )
    share.wait(30)
    assert share.partition.start_offset == 6


def test_compacted_offsets_are_archived() -> None:
    """Available offsets that the log has no more do not hold the start back."""
    share = Driver(2, 2, 2)
    share.fetch()
    share.ack(0, 5, ACK_RELEASE)
    del share.log[0]
    assert list(share.offsets()) == [2, 3, 4, 5]
    share.ack(2, 5)
    assert share.partition.start_offset == 6


def test_recovery_reads_the_gap_again() -> None:
    """A new leader reads what no persisted batch speaks of, and keeps the rest as it was left."""
    kept = (StateBatch(2, 3, ACKNOWLEDGED, 1), StateBatch(6, 6, AVAILABLE, 2))
    share = Driver(8, kept=kept)
    assert share.partition.next_fetch_offset() == 0
    assert share.offsets() == {0: 1, 1: 1, 4: 1, 5: 1, 6: 3, 7: 1}
    share.ack(0, 1)
    assert share.partition.start_offset == 4


def test_nonsense_state_fails() -> None:
    """State that begins before the start offset does not load."""
    assert not Driver(1, start=5, kept=(StateBatch(2, 3, AVAILABLE, 1),)).loaded


def test_aborted_batches_are_archived_on_the_way() -> None:
    """read_committed: an aborted batch is not handed out and does not hold the start back."""
    share = Driver(2, 2, 2)
    acquired = without_aborted(share.partition, share.fetch(), [share.log[1]])
    assert [(run.first_offset, run.last_offset) for run in acquired] == [(0, 1), (4, 5)]
    share.ack(0, 1)
    assert share.partition.start_offset == 4


def test_deadline_is_the_first_lock() -> None:
    """One deadline for all locks, and none when nothing is in flight."""
    share = Driver(1, 1)
    share.fetch(most=1)
    share.now_us += SECOND_US
    share.fetch(most=1)
    assert share.partition.deadline_us == 30 * SECOND_US
    share.ack(0)
    assert share.partition.deadline_us == 31 * SECOND_US
    share.ack(1)
    assert share.partition.deadline_us > 1 << 60


# --- the log start moves into records in flight ---------------------------------------------------------------------


def test_what_a_failed_write_brings_back_below_the_log_start_is_archived() -> None:
    """An acceptance that was never persisted, its lock over, its record deleted meanwhile: nobody looks for it again."""
    share = Driver(3, 2)
    share.fetch(most=3)
    share.holding = True
    share.ack(0, 0)
    share.wait(40)
    share.partition.update_log_start(1)
    share.confirm(ErrorCode.COORDINATOR_NOT_AVAILABLE, force=True)
    share.holding = False
    assert share.partition.next_fetch_offset() == 1
    share.wait(40)
    assert list(share.offsets()) == [1, 2, 3, 4]
    share.ack(1, 4)
    assert share.partition.start_offset == 5


def test_a_full_window_of_terminal_records_is_left_behind() -> None:
    """Everything above the deleted record was accepted: nothing in flight is left that could move the start, and it moves."""
    share = Driver(4, 2, max_record_locks=3)
    share.fetch(most=3)
    share.ack(1, 3)
    share.wait(40)
    share.partition.update_log_start(1)
    assert share.partition.start_offset == 4
    assert list(share.offsets()) == [4, 5]


def test_a_gap_below_the_log_start_is_not_read() -> None:
    """A new leader knows of a gap that was deleted meanwhile: it reads on from the log start."""
    share = Driver(3, kept=(StateBatch(1, 1, ACKNOWLEDGED, 1),))
    assert share.partition.next_fetch_offset() == 0
    share.partition.update_log_start(1)
    assert share.partition.next_fetch_offset() >= 1
    assert list(share.offsets()) == [2]
    share.ack(2)
    assert share.partition.start_offset == 3


def test_new_records_are_acquired_from_the_log_start_on() -> None:
    """The log's batch begins below its start, and so does a batch in flight that is over: neither draws the start back."""
    share = Driver(1, 3)
    share.fetch(most=1)
    share.partition.update_log_start(3)
    assert list(share.offsets(most=1, mode=RECORD_LIMIT)) == [3]
    share.ack(3)
    share.wait(40)
    assert share.partition.start_offset == 4
