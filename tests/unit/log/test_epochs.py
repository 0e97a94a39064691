"""Leader epochs: where each began and ended."""

from __future__ import annotations

from kafkasim.core.log.epochs import assign, end_of, epoch_at, truncate_end, truncate_start

EPOCHS = ((0, 0), (2, 10), (5, 30))


def test_assign_replaces_epochs_that_wrote_nothing() -> None:
    """Two elections without a write leave one entry."""
    assert assign(((0, 0),), 1, 0) == ((1, 0),)
    assert assign(EPOCHS, 6, 30) == ((0, 0), (2, 10), (6, 30))
    assert assign(EPOCHS, 5, 40) == EPOCHS


def test_end_of_an_epoch() -> None:
    """The largest known epoch at most the asked one, and where the next began."""
    assert end_of(EPOCHS, 5, 44) == (5, 44)
    assert end_of(EPOCHS, 4, 44) == (2, 30)
    assert end_of(EPOCHS, 0, 44) == (0, 10)
    assert end_of(EPOCHS, 6, 44) == (-1, -1)
    assert end_of((), 0, 0) == (-1, -1)
    assert end_of(((3, 7),), 1, 9) == (1, 7)


def test_truncation_at_both_ends() -> None:
    """What is cut off disappears; the epoch at the new start begins there."""
    assert truncate_end(EPOCHS, 30) == ((0, 0), (2, 10))
    assert truncate_start(EPOCHS, 15) == ((2, 15), (5, 30))
    assert truncate_start(EPOCHS, 10) == ((2, 10), (5, 30))
    assert epoch_at(EPOCHS, 29) == 2
