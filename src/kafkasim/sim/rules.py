"""Rules of a network: who is cut off, what is held back, which response is lost.

Rule 1:   how often a pair is cut or held is counted, so that overlapping faults heal one by one.
Rule 2:   without rules no message pays for rules: ``_ruled`` is one flag. Losses that are not made good yet count as rules.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeAlias

from kafkasim.sim.links import Nodes, Pair, pairs


class Verdict(IntEnum):
    """What a guard says about a message; None leaves it to the next one."""

    PASS = 0
    DROP = 1
    HOLD = 2


Guard: TypeAlias = Callable[[int, int], Verdict | None]
Filter: TypeAlias = Callable[[int, int, Any, Any], Verdict | None]
"""As a guard, of source, destination, channel and the request that is carried or answered (None: the connection itself)."""
ResponseMatch: TypeAlias = tuple[int | None, int | None, int | None]
"""Requester, server and API key; None matches all."""


class LostResponse:
    """A one-shot rule: the n-th response that matches is lost."""

    __slots__ = ("left", "predicate")

    def __init__(self, predicate: Callable[[int, int, Any, Any], bool], nth: int) -> None:
        self.predicate = predicate
        self.left = nth


class Rules:
    """Partitions, holds, guards and lost responses."""

    def __init__(self) -> None:
        self._cut: dict[Pair, int] = {}
        self._holding: dict[Pair, int] = {}
        self._guards: list[Guard] = []
        self._filters: list[Filter] = []
        self._recovering = 0  # Directions of connections in which something was lost.
        self._ruled = False
        self._lost_responses: list[LostResponse] = []

    def _drain_streams(self) -> None:
        """Something is held no more: what was kept of it arrives now."""
        raise NotImplementedError

    def partition(self, a: Nodes, b: Nodes, *, one_way: bool = False) -> None:
        """Lose everything between two sides (one way: what goes from ``a`` to ``b``), also what is on its way.

        Nobody is told: connections stay, and send again what is lost (``kafkasim.sim.retransmission``).
        """
        for pair in pairs(a, b, one_way):
            self._cut[pair] = self._cut.get(pair, 0) + 1
        self._note_rules()

    def heal(self, a: Nodes, b: Nodes, *, one_way: bool = False) -> None:
        """Undo one ``partition`` of these nodes."""
        for pair in pairs(a, b, one_way):
            _take_one(self._cut, pair)
        self._note_rules()

    def heal_all(self) -> None:
        """Undo all partitions, holds, guards and filters; links stay slow."""
        self._cut.clear()
        self._guards.clear()
        self._filters.clear()
        self._holding.clear()
        self._note_rules()
        self._drain_streams()

    def hold(self, a: Nodes, b: Nodes, *, one_way: bool = False) -> None:
        """Keep everything between two sides until ``release``: a clogged network that loses nothing."""
        for pair in pairs(a, b, one_way):
            self._holding[pair] = self._holding.get(pair, 0) + 1
        self._note_rules()

    def release(self, a: Nodes, b: Nodes, *, one_way: bool = False) -> None:
        """Undo one ``hold`` of these nodes: what was kept arrives now, in order."""
        for pair in pairs(a, b, one_way):
            _take_one(self._holding, pair)
        self._note_rules()
        self._drain_streams()

    def add_guard(self, guard: Guard) -> None:
        """Ask a function about every message (source, destination); the first verdict of all guards wins."""
        self._guards.append(guard)
        self._note_rules()

    def remove_guard(self, guard: Guard) -> None:
        """Ask it no more; what it held arrives now."""
        self._guards.remove(guard)
        self._note_rules()
        self._drain_streams()

    def add_filter(self, judge: Filter) -> None:
        """Ask a function about every message and what it carries, after the guards."""
        self._filters.append(judge)
        self._note_rules()

    def remove_filter(self, judge: Filter) -> None:
        """Ask it no more (it may be gone already); what it held arrives now."""
        if judge in self._filters:
            self._filters.remove(judge)
            self._note_rules()
            self._drain_streams()

    def lose_response(self, match: ResponseMatch | Callable[[int, int, Any, Any], bool], nth: int = 1) -> None:
        """Lose the n-th response that matches, and reset its connection; once.

        Matches by (requester, server, API key), or by a function of (requester, server, request, response).
        """
        predicate = match if callable(match) else _response_predicate(match)
        self._lost_responses.append(LostResponse(predicate, nth))

    def _note_rules(self) -> None:
        self._ruled = bool(self._cut or self._holding or self._guards or self._filters or self._recovering)

    def _verdict(self, src: int, dst: int, args: tuple[Any, ...]) -> Verdict:
        """``args`` are what will be done: the connection first, a request in the third place if one is carried or answered."""
        if src == dst:
            return Verdict.PASS
        pair = (src, dst)
        if pair in self._cut:
            return Verdict.DROP
        if pair in self._holding:
            return Verdict.HOLD
        for guard in self._guards:
            verdict = guard(src, dst)
            if verdict is not None:
                return verdict
        for judge in self._filters:
            verdict = judge(src, dst, args[0].channel, args[2] if len(args) > 2 else None)
            if verdict is not None:
                return verdict
        return Verdict.PASS


def _take_one(counts: dict[Pair, int], pair: Pair) -> None:
    count = counts.get(pair, 0) - 1
    if count > 0:
        counts[pair] = count
    else:
        counts.pop(pair, None)


def _response_predicate(match: ResponseMatch) -> Callable[[int, int, Any, Any], bool]:
    requester, server, api_key = match

    def predicate(src: int, dst: int, request: Any, _response: Any) -> bool:
        return (
            (requester is None or requester == src)
            and (server is None or server == dst)
            and (api_key is None or api_key == getattr(request, "API_KEY", None))
        )

    return predicate
