"""How a member takes over and gives up partitions: whole assignments (eager) or increments (cooperative, KIP-848).

Mirrors:  rd_kafka_cgrp_rebalance, rd_kafka_cgrp_rebalance_incr, rd_kafka_cgrp_revoke_all_rejoin (KIP-429).
Rule 1:   the application is asked, and nothing is fetched until it has answered; after a fatal error it is not asked any more.
Rule 2:   partitions that were lost are given up without a word to the group: others may own them already.
"""

from __future__ import annotations

from kafkasim.core.client.assignors import COOPERATIVE, EAGER
from kafkasim.core.client.core import ClientCore
from kafkasim.core.client.items import ASSIGN, LOST, REVOKE, AppQueue, Rebalance
from kafkasim.core.client.join_states import (
    WAIT_ASSIGN_CALL,
    WAIT_INCR_UNASSIGN_TO_COMPLETE,
    WAIT_UNASSIGN_CALL,
    WAIT_UNASSIGN_TO_COMPLETE,
    Host,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition


class Rebalancing:
    """Base of ``ClassicMembership`` and ``ConsumerMembership``, which own the state and the timer."""

    state: str
    lost: bool
    terminating: bool
    max_poll_exceeded: bool
    group_assignment: list[TopicPartition] | None
    rebalance_count: int
    rebalance_us: int
    _core: ClientCore
    _queue: AppQueue
    _host: Host
    _rejoin_after: bool
    _next_assignment: list[TopicPartition] | None

    @property
    def protocol(self) -> str:
        raise NotImplementedError

    @property
    def waits_for_answer(self) -> bool:
        raise NotImplementedError

    @property
    def is_rebalancing(self) -> bool:
        raise NotImplementedError

    def _arm(self, now_us: int) -> None:
        raise NotImplementedError

    def _rejoin(self, now_us: int) -> None:
        raise NotImplementedError

    def _rejoin_at_once(self, now_us: int) -> None:
        raise NotImplementedError

    def _waits_for_poll(self, now_us: int) -> bool:
        """Expelled by max.poll.interval.ms: nothing is joined before the application polls, which brings us back (``on_poll``)."""
        return self.max_poll_exceeded and self._host.poll_exceeded_us(now_us) > 0

    def _rebalance(self, kind: str, partitions: list[TopicPartition], now_us: int) -> None:
        """Eager: the whole assignment comes or goes."""
        self._count_rebalance(now_us)
        if self._delegate(kind, partitions, now_us):
            self.group_assignment = sorted(partitions) if kind == ASSIGN else None
        else:
            self.group_assignment = None

    def _rebalance_incrementally(
        self, kind: str, partitions: list[TopicPartition], *, rejoin: bool, now_us: int
    ) -> None:
        self._count_rebalance(now_us)
        self._rejoin_after = rejoin
        if not self._delegate(kind, partitions, now_us):
            self.group_assignment = None
            return
        owned = self.group_assignment or []
        if kind == ASSIGN:
            self.group_assignment = sorted([*owned, *partitions])
        else:
            given_up = set(partitions)
            left = [tp for tp in owned if tp not in given_up]
            self.group_assignment = left or None

    def _count_rebalance(self, now_us: int) -> None:
        self.rebalance_count += 1
        self.rebalance_us = now_us

    def _delegate(self, kind: str, partitions: list[TopicPartition], now_us: int) -> bool:
        """Leave it to the application; False: it may not be asked any more, all is unassigned."""
        if self._core.fatal_error != ErrorCode.NONE:
            self.state = WAIT_UNASSIGN_TO_COMPLETE
            self._rejoin_after, self._next_assignment = False, None
            self._host.unassign_all(now_us)
            self._host.serve_assignment(now_us)
            return False
        self.state = WAIT_ASSIGN_CALL if kind == ASSIGN else WAIT_UNASSIGN_CALL
        self._host.suspend()
        told = LOST if kind == REVOKE and self.lost else kind
        protocol = EAGER if self.protocol == "NONE" else self.protocol
        self._queue.put_rebalance(Rebalance(told, list(partitions), protocol))
        self._core.wake = True
        self._arm(now_us)
        return True

    def _found_again(self, method: str) -> None:
        if method in ("assign", "incremental-assign"):
            self.lost = False

    def _given_up(self) -> None:
        """Lost partitions are lost until they are gone: their offsets are not committed on the way."""
        if self.state in (WAIT_UNASSIGN_TO_COMPLETE, WAIT_INCR_UNASSIGN_TO_COMPLETE):
            self.lost = False

    def _lose(self, now_us: int) -> None:
        """Our partitions may belong to others already: revoke and join again, unless a rebalance is under way."""
        if not self.is_rebalancing:
            self._revoke_all_rejoin(lost=True, now_us=now_us)

    def _revoke_all_rejoin(self, *, lost: bool, now_us: int) -> None:
        if self.protocol != COOPERATIVE:
            if lost and self.group_assignment is not None:
                self.lost = True
            if self.group_assignment is not None and not self.waits_for_answer:
                self._rebalance(REVOKE, self.group_assignment, now_us)
            else:
                self._rejoin_at_once(now_us)
        elif self.group_assignment:
            if lost:
                self.lost = True
            rejoin = not self.terminating
            self._rebalance_incrementally(REVOKE, self.group_assignment, rejoin=rejoin, now_us=now_us)
        elif not self.terminating:
            self._rejoin(now_us)
