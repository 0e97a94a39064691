"""The metadata log and the quorum-state file."""

from __future__ import annotations

import pytest

from kafkasim.core.model.ids import NO_NODE
from kafkasim.core.model.messages import EpochEnd
from kafkasim.core.model.metadata import MetadataBatch, NoOpRecord
from kafkasim.core.quorum.log import MetadataLog, QuorumStateFile


def filled(*epochs_and_counts: tuple[int, int]) -> MetadataLog:
    """A log of one batch for each (epoch, record count)."""
    log = MetadataLog()
    for epoch, count in epochs_and_counts:
        log.append(MetadataBatch(log.log_end, epoch, (NoOpRecord(),) * count))
    return log


def test_reads_begin_at_an_offset_and_stop_after_so_many_batches() -> None:
    """A read gives whole batches in order, at most as many as asked for, and nothing at the end."""
    log = filled((1, 1), (1, 3), (2, 2))
    assert [b.base_offset for b in log.read(0, 10)] == [0, 1, 4]
    assert [b.base_offset for b in log.read(1, 1)] == [1]
    assert log.read(6, 10) == ()
    assert [b.base_offset for b in log.read_between(1, 6)] == [1, 4]
    assert log.read_between(4, 4) == []


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (5, EpochEnd(4, 6)),  # beyond the last: the end of the log
        (4, EpochEnd(4, 6)),
        (3, EpochEnd(2, 4)),  # never written: the largest below it
        (2, EpochEnd(2, 4)),
        (1, EpochEnd(1, 0)),  # older than everything here
    ],
)
def test_the_end_of_an_epoch(epoch: int, expected: EpochEnd) -> None:
    """An epoch ends where the next one begins."""
    assert filled((2, 4), (4, 2)).end_offset_for_epoch(epoch) == expected


@pytest.mark.parametrize(
    ("fetch_offset", "last_fetched_epoch", "expected"),
    [
        (0, 0, None),  # an empty log is a prefix of any
        (4, 2, None),
        (2, 2, None),
        (6, 4, None),
        (7, 4, EpochEnd(4, 6)),  # longer than we are in our own epoch
        (5, 2, EpochEnd(2, 4)),  # epoch 2 ended earlier here
        (5, 3, EpochEnd(2, 4)),  # we never saw epoch 3
        (3, 1, EpochEnd(1, 0)),
    ],
)
def test_divergence_is_found(fetch_offset: int, last_fetched_epoch: int, expected: EpochEnd | None) -> None:
    """A leader tells a follower where to cut unless the follower's log is a prefix of its own."""
    assert filled((2, 4), (4, 2)).diverging_end(fetch_offset, last_fetched_epoch) == expected


@pytest.mark.parametrize(
    ("diverging", "expected"),
    [
        (EpochEnd(2, 3), 3),  # both know the epoch: the shorter one counts
        (EpochEnd(2, 9), 4),
        (EpochEnd(3, 9), 4),  # unknown here: the end of the largest smaller epoch
        (EpochEnd(0, 2), 2),
        (EpochEnd(1, 0), 0),
    ],
)
def test_how_far_a_follower_truncates(diverging: EpochEnd, expected: int) -> None:
    """A follower keeps what both logs can have in common."""
    assert filled((2, 3), (2, 1), (4, 2)).truncation_offset(diverging) == expected


def test_truncation_forgets_epochs_that_begin_above_it() -> None:
    """After a truncation the epoch cache ends with the last batch that is left, and appends go on from there."""
    log = filled((1, 2), (3, 2), (5, 1))
    log.truncate_to(2)
    assert (log.log_end, log.last_epoch) == (2, 1)
    log.append(MetadataBatch(2, 4, (NoOpRecord(),)))
    assert log.end_offset_for_epoch(1) == EpochEnd(1, 2)
    log.truncate_to(9)
    assert log.log_end == 3
    log.truncate_to(0)
    assert (log.log_end, log.last_epoch) == (0, 0)


def test_a_gap_in_the_log_is_our_own_bug() -> None:
    """A batch that does not continue the log is refused loudly."""
    with pytest.raises(AssertionError, match="continue the log"):
        filled((1, 1)).append(MetadataBatch(5, 1, (NoOpRecord(),)))


def test_the_quorum_state_starts_empty_and_its_epoch_never_falls() -> None:
    """A fresh file knows no epoch, leader or vote; writing an older epoch is our own bug."""
    state = QuorumStateFile()
    assert (state.epoch, state.leader_id, state.voted_id) == (0, NO_NODE, NO_NODE)
    state.write(3, 1, 2)
    assert (state.epoch, state.leader_id, state.voted_id) == (3, 1, 2)
    with pytest.raises(AssertionError, match="never falls"):
        state.write(2, 1, 2)


def test_the_head_of_the_log_goes_once_there_are_two_snapshots() -> None:
    """It then begins where the second one ended, and still knows in which epoch that was."""
    log = filled((2, 4), (4, 2), (4, 1), (5, 1))
    log.take_snapshot(4, 10)
    log.clean(0, 0, 20)
    assert (log.log_start, log.base) == (0, None)
    log.take_snapshot(6, 20)
    log.clean(10**9, -1, 20)
    assert log.log_start == 0
    log.clean(-1, 5, 20)
    assert log.base is not None
    assert (log.log_start, log.base.end_offset, log.base.epoch, len(log.base.records)) == (6, 6, 4, 6)
    assert [batch.base_offset for batch in log.read(6, 10)] == [6, 7]
    assert (log.last_epoch, log.latest_snapshot_end) == (5, 6)
    assert log.diverging_end(6, 4) is None
    log.truncate_to(6)
    assert (log.log_end, log.last_epoch) == (6, 4)


@pytest.mark.parametrize(
    ("fetch_offset", "last_fetched_epoch", "instead"),
    [
        (0, 0, True),  # a new replica takes the shortest way
        (3, 2, True),  # not here any more
        (6, 3, True),  # another log ended there
        (7, 3, True),  # epochs before the snapshot's are not told apart
        (6, 4, False),
        (7, 4, False),
    ],
)
def test_who_needs_a_snapshot(fetch_offset: int, last_fetched_epoch: int, instead: bool) -> None:
    """Whoever asks for what the log does not hold is given the latest one."""
    log = filled((2, 4), (4, 2), (4, 1))
    log.take_snapshot(4, 0)
    log.take_snapshot(6, 0)
    log.clean(0, -1, 0)
    found = log.snapshot_instead(fetch_offset, last_fetched_epoch)
    assert found == (EpochEnd(4, 6) if instead else None)


def test_an_installed_snapshot_is_the_whole_log() -> None:
    """Whatever was there is gone; the log goes on behind it, and gives the snapshot to others."""
    leader, follower = filled((1, 2), (3, 2)), filled((1, 1), (2, 5))
    leader.take_snapshot(4, 0)
    snapshot = leader.read_snapshot(EpochEnd(3, 4))
    assert snapshot is not None
    assert leader.read_snapshot(EpochEnd(2, 4)) is None
    follower.install_snapshot(snapshot, 0)
    assert (follower.log_start, follower.log_end, follower.last_epoch) == (4, 4, 3)
    follower.append(MetadataBatch(4, 3, (NoOpRecord(),)))
    assert follower.read_snapshot(EpochEnd(3, 4)) is snapshot
    assert follower.snapshot_instead(0, 0) == EpochEnd(3, 4)
