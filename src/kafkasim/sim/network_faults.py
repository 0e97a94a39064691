"""Faults between nodes, as the handle offers them: partitions, held and slow links, resets, lost responses.

Inputs:   partition, isolate, hold, slow and what undoes them; reset, lose_response.
Effects:  rules of the network; each one is noted in the history, under the nodes of both sides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kafkasim.core.model.effects import Note
from kafkasim.core.model.ids import NO_NODE
from kafkasim.sim.drive import ClientShell
from kafkasim.sim.hosts import Host
from kafkasim.sim.tasks import Task

if TYPE_CHECKING:
    from kafkasim.sim.cluster import SimulatedCluster


class NetworkFaults:
    """Faults between nodes. A side is a broker id, a broker or zone handle, a task, or several of these."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster

    def partition(self, a: Any, b: Any, one_way: bool = False) -> None:
        """Lose every message between two sides (``one_way``: from ``a`` to ``b``) until ``heal``.

        Nobody is told: what is lost is sent again, as TCP does, and arrives some time after ``heal``.
        """
        ours, theirs = self._nodes(a), self._nodes(b)
        self._note("network partition", ours, theirs, one_way=one_way)
        self._cluster.fabric.partition(ours, theirs, one_way=one_way)

    def heal(self, a: Any = None, b: Any = None, one_way: bool = False) -> None:
        """Undo one ``partition`` of these sides; without sides, all of them."""
        if a is None:
            self._note("network heal", [], [])
            self._cluster.fabric.heal_all()
        else:
            ours, theirs = self._nodes(a), self._nodes(b)
            self._note("network heal", ours, theirs, one_way=one_way)
            self._cluster.fabric.heal(ours, theirs, one_way=one_way)

    def isolate(self, side: Any) -> None:
        """Cut one side off from every server and client that exists now."""
        own = self._nodes(side)
        others = [node for node in self._cluster.node_ids() if node not in own]
        self._note("network partition", own, others, one_way=False)
        self._cluster.fabric.partition(own, others)

    def hold(self, a: Any, b: Any, one_way: bool = False) -> None:
        """Keep every message between two sides until ``release``; nothing is lost."""
        ours, theirs = self._nodes(a), self._nodes(b)
        self._note("network hold", ours, theirs, one_way=one_way)
        self._cluster.fabric.hold(ours, theirs, one_way=one_way)

    def release(self, a: Any, b: Any, one_way: bool = False) -> None:
        ours, theirs = self._nodes(a), self._nodes(b)
        self._note("network release", ours, theirs, one_way=one_way)
        self._cluster.fabric.release(ours, theirs, one_way=one_way)

    def slow(self, a: Any, b: Any, factor: float = 1.0, extra_ms: float = 0.0) -> None:
        """Multiply the latency between two sides, or add to it; called without either it undoes that."""
        ours, theirs = self._nodes(a), self._nodes(b)
        self._note("network slow", ours, theirs, factor=factor, extra_ms=extra_ms)
        self._cluster.fabric.slow(ours, theirs, factor, round(extra_ms * 1000))

    def reset(self, a: Any, b: Any) -> None:
        """Reset every connection between two sides."""
        self._cluster.fabric.reset(self._nodes(a), self._nodes(b))

    def lose_response(self, client: Any = None, broker: Any = None, api_key: int | None = None, nth: int = 1) -> None:
        """Lose the n-th response that matches, with its connection: the request was done, and its sender does not know."""
        clients = None if client is None else frozenset(self._nodes(client))
        brokers = None if broker is None else frozenset(self._nodes(broker))

        def matches(src: int, dst: int, request: Any, response: Any) -> bool:
            return (
                (clients is None or src in clients)
                and (brokers is None or dst in brokers)
                and (api_key is None or getattr(request, "API_KEY", None) == api_key)
            )

        self._cluster.fabric.lose_response(matches, nth)

    def _note(self, kind: str, ours: list[int], theirs: list[int], **fields: Any) -> None:
        self._cluster._on_note(NO_NODE, Note(kind, (tuple(ours), tuple(theirs)), tuple(fields.items())))

    def _nodes(self, side: Any) -> list[int]:
        if isinstance(side, int):
            return [side]
        ids = getattr(side, "ids", None)  # of a broker or zone handle
        if isinstance(ids, tuple):
            return list(ids)
        if isinstance(side, Task | Host):
            host = side.host if isinstance(side, Task) else side
            return self._cluster.client_nodes(host)
        shell = getattr(side, "_shell", None)
        if isinstance(shell, ClientShell):
            return [shell.node.node_id]
        if isinstance(side, Iterable):
            return [node for item in side for node in self._nodes(item)]
        raise TypeError(
            f"{side!r} is no side of a network fault: expected a broker id, a broker, a zone, a task or a client"
        )
