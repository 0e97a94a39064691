"""Ctrl-C while something long runs: noted first, so that it can end where its result still counts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """A list that is filled by Ctrl-C, for work that looks at it between two steps; a second one ends the process as usual."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # Not in the main thread: nobody sends us signals.
        yield noted
        return
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
