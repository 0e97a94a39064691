"""Leader epochs of one log: where each began, and so where each ended.

Mirrors:  org.apache.kafka.storage.internals.epoch.LeaderEpochFileCache (KIP-101, KIP-279).
Rule 1:   entries are (epoch, start offset), both strictly rising; the value is immutable, so idle logs share it.
"""

from __future__ import annotations

from typing import TypeAlias

from kafkasim.core.model.ids import NO_EPOCH, NO_OFFSET

Epochs: TypeAlias = "tuple[tuple[int, int], ...]"

NO_EPOCHS: Epochs = ()

#: What an empty log knows after its first elections; shared, because most partitions of a big cluster are empty.
_EMPTY_LOG_EPOCHS: tuple[Epochs, ...] = tuple(((epoch, 0),) for epoch in range(64))


def assign(epochs: Epochs, epoch: int, start_offset: int) -> Epochs:
    """With ``epoch`` beginning at ``start_offset``; an earlier epoch that wrote nothing disappears."""
    if epochs and epochs[-1][0] >= epoch:
        return epochs
    if start_offset == 0 and 0 <= epoch < len(_EMPTY_LOG_EPOCHS):
        return _EMPTY_LOG_EPOCHS[epoch]
    kept = len(epochs)
    while kept and epochs[kept - 1][1] >= start_offset:
        kept -= 1
    return (*epochs[:kept], (epoch, start_offset))


def end_of(epochs: Epochs, epoch: int, log_end: int) -> tuple[int, int]:
    """The largest known epoch at most ``epoch`` and its exclusive end; (-1, -1) for an epoch that is not known yet."""
    if not epochs or epoch < 0 or epoch > epochs[-1][0]:
        return NO_EPOCH, NO_OFFSET
    if epoch == epochs[-1][0]:
        return epoch, log_end
    floor = epoch
    for known, start_offset in epochs:
        if known > epoch:
            return floor, start_offset
        floor = known
    raise AssertionError("the last epoch is larger")


def truncate_end(epochs: Epochs, end_offset: int) -> Epochs:
    """Without the epochs that begin at or after ``end_offset``."""
    if not epochs or epochs[-1][1] < end_offset:
        return epochs
    return tuple(entry for entry in epochs if entry[1] < end_offset)


def truncate_start(epochs: Epochs, start_offset: int) -> Epochs:
    """Without what ended before ``start_offset``; the epoch that holds it begins there now."""
    if not epochs or epochs[0][1] >= start_offset:
        return epochs
    first = 0
    while first + 1 < len(epochs) and epochs[first + 1][1] <= start_offset:
        first += 1
    return ((epochs[first][0], start_offset), *epochs[first + 1 :])


def epoch_at(epochs: Epochs, offset: int) -> int:
    """The epoch that wrote ``offset``, NO_EPOCH if it is before all that is known."""
    found = NO_EPOCH
    for epoch, start_offset in epochs:
        if start_offset > offset:
            break
        found = epoch
    return found
