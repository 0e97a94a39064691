"""Records in flight of one share partition: their state, their delivery count, who holds them and until when.

Mirrors:  org.apache.kafka.server.share.fetch.InFlightState, InFlightBatch, RecordState.
Rule 1:   ACKNOWLEDGED and ARCHIVED are terminal; AVAILABLE leads only to ACQUIRED, or to ARCHIVED from outside (``archive``).
Rule 2:   a change that must be persisted first is marked (``begin``) and ends with ``finish``: kept, or rolled back.
Rule 3:   a batch has one state until a part of it changes by itself; then every offset has its own.
Rule 4:   a lock is a time in the state, not a timer; a state without a holder has none.
"""

from __future__ import annotations

from typing import TypeAlias

from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.message import slotted

AVAILABLE = 0
ACQUIRED = 1
ACKNOWLEDGED = 2
ARCHIVED = 4

STATE_NAMES = {AVAILABLE: "AVAILABLE", ACQUIRED: "ACQUIRED", ACKNOWLEDGED: "ACKNOWLEDGED", ARCHIVED: "ARCHIVED"}

#: Nobody holds the record.
NO_MEMBER = ""

#: (state, member id) to go back to, and the delivery count limit at the time; NO_LIMIT: that is not looked at any more.
Rollback: TypeAlias = "tuple[int, str, int]"
NO_LIMIT = NEVER_US


@slotted
class InFlightState:
    """The state of one record, or of all records of a batch."""

    state: int
    delivery_count: int
    member_id: str = NO_MEMBER
    lock_until_us: int = NEVER_US
    rollback: Rollback | None = None
    #: Archived while a change was on its way: that change must not be rolled back.
    archived_for_good: bool = False

    @property
    def is_terminal(self) -> bool:
        return self.state >= ACKNOWLEDGED

    @property
    def is_acquirable(self) -> bool:
        return self.state == AVAILABLE and self.rollback is None

    def acquire(self, member_id: str, lock_until_us: int) -> None:
        """One more delivery begins."""
        assert self.is_acquirable
        self.state = ACQUIRED
        self.delivery_count += 1
        self.member_id = member_id
        self.lock_until_us = lock_until_us

    def give_up(self, state: int, delivery_count_limit: int) -> None:
        """The holder loses the record, for good (terminal ``state``) or to be delivered again if the limit allows."""
        assert self.state == ACQUIRED
        assert self.rollback is None
        if state == AVAILABLE and self.delivery_count >= delivery_count_limit:
            state = ARCHIVED
        self.state = state
        self.member_id = NO_MEMBER

    def begin(self, state: int, delivery_count_limit: int, *, counts_after_failure: bool = True) -> None:
        """As ``give_up``, to be persisted: ``finish`` follows. The lock goes on meanwhile."""
        before = (self.state, self.member_id, delivery_count_limit if counts_after_failure else NO_LIMIT)
        self.give_up(state, delivery_count_limit)
        self.rollback = before

    def finish(self, *, kept: bool, now_us: int) -> None:
        """The change was persisted, or could not be."""
        if self.rollback is None:
            return
        state, member_id, limit = self.rollback
        self.rollback = None
        if kept or self.archived_for_good:
            self.lock_until_us = NEVER_US
        elif self.lock_until_us <= now_us:
            # The lock ran out while the change was on its way: the holder does not get the record back.
            self.state = ARCHIVED if self.delivery_count >= limit else AVAILABLE
            self.member_id = NO_MEMBER
            self.lock_until_us = NEVER_US
        else:
            self.state = state
            self.member_id = member_id

    def release_lock(self) -> None:
        self.lock_until_us = NEVER_US

    def archive(self) -> None:
        """The record is gone: deleted from the log, compacted away, or aborted."""
        self.archived_for_good = True
        self.state = ARCHIVED
        self.member_id = NO_MEMBER
        self.lock_until_us = NEVER_US


class InFlightBatch:
    """Offsets ``first_offset`` to ``last_offset``; ``whole`` is their common state, or None when ``offsets`` has one for each."""

    __slots__ = ("first_offset", "last_offset", "offsets", "whole")

    def __init__(self, first_offset: int, last_offset: int, whole: InFlightState) -> None:
        self.first_offset = first_offset
        self.last_offset = last_offset
        self.whole: InFlightState | None = whole
        #: In the order of the offsets, the first being ``first_offset``.
        self.offsets: list[InFlightState] | None = None

    @property
    def count(self) -> int:
        return self.last_offset - self.first_offset + 1

    def split(self) -> list[InFlightState]:
        """From now on every offset has a state of its own; a change on its way ends at the state that was common, unseen."""
        if self.offsets is None:
            whole = self.whole
            assert whole is not None
            self.offsets = [
                InFlightState(whole.state, whole.delivery_count, whole.member_id, whole.lock_until_us)
                for _ in range(self.count)
            ]
            self.whole = None
        return self.offsets

    def state_at(self, offset: int) -> InFlightState:
        if self.whole is not None:
            return self.whole
        assert self.offsets is not None
        return self.offsets[offset - self.first_offset]

    def between(self, first_offset: int, last_offset: int) -> list[tuple[int, InFlightState]]:
        """The states of a split batch from ``first_offset`` to ``last_offset``, as far as they are in it."""
        assert self.offsets is not None
        first_offset = max(first_offset, self.first_offset)
        states = self.offsets[first_offset - self.first_offset : max(0, last_offset - self.first_offset + 1)]
        return list(enumerate(states, first_offset))

    def runs(self) -> list[tuple[int, int, InFlightState]]:
        """(first, last, state) of everything in the batch, offset by offset once it was split."""
        if self.whole is not None:
            return [(self.first_offset, self.last_offset, self.whole)]
        assert self.offsets is not None
        return [(offset, offset, state) for offset, state in enumerate(self.offsets, self.first_offset)]
