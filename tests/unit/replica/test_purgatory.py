"""Parked operations: the next deadline, and who has run out of time."""

from __future__ import annotations

from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.replica.purgatory import Purgatory


class Operation:
    def __init__(self) -> None:
        self.done = False


def test_the_deadline_is_never_late() -> None:
    """It is that of the first that was parked and may still wait; looking for who expired makes it exact."""
    purgatory: Purgatory[Operation] = Purgatory()
    short, long = Operation(), Operation()
    purgatory.park(long, 500, 0)
    purgatory.park(short, 100, 50)
    assert purgatory.deadline_us == 150
    short.done = True
    assert purgatory.take_expired(150) == []
    assert purgatory.deadline_us == 500
    assert list(purgatory) == [long]
    long.done = True
    assert purgatory.take_expired(500) == []
    assert purgatory.deadline_us == NEVER_US


def test_expired_operations_come_once_and_are_done() -> None:
    """What was completed before its time does not expire."""
    purgatory: Purgatory[Operation] = Purgatory()
    first, second, third = Operation(), Operation(), Operation()
    for delay_us, operation in ((100, first), (100, second), (300, third)):
        purgatory.park(operation, delay_us, 0)
    second.done = True
    assert purgatory.take_expired(200) == [first]
    assert first.done
    assert purgatory.take_expired(200) == []
    assert purgatory.deadline_us == 300
