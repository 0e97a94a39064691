"""Links: how long a message takes between two nodes, and what makes it take longer.

Rule 1:   a pair's own link goes before a node's, which goes before the default; slowing multiplies whatever is in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

Nodes: TypeAlias = int | Iterable[int]
Pair: TypeAlias = tuple[int, int]
Delay: TypeAlias = Callable[[int, int, Any], int]
"""Of source, destination and request: microseconds."""


@dataclass(frozen=True, slots=True)
class Link:
    """How long one direction between two nodes takes."""

    latency_us: int = 200
    jitter_us: int = 300
    """Up to so much is added, by a draw labelled ``net.latency``."""
    bandwidth_bytes_per_s: int = 1_000_000_000

    def slowed(self, factor: float, extra_us: int) -> Link:
        return Link(
            int(self.latency_us * factor) + extra_us,
            int(self.jitter_us * factor),
            max(1, int(self.bandwidth_bytes_per_s / factor)),
        )


LOOPBACK = Link(latency_us=20, jitter_us=0, bandwidth_bytes_per_s=10_000_000_000)


class Links:
    """The links of a network, by pair of nodes."""

    def __init__(self, default: Link | None) -> None:
        self._default_link = default if default is not None else Link()
        self._links: dict[Pair, Link] = {}
        self._node_links: dict[int, Link] = {}
        self._slowed: dict[Pair, tuple[float, int]] = {}
        self._api_delays: dict[int, int] = {}
        self._delays: list[Delay] = []

    def _relink(self) -> None:
        """Links have changed: connections that are open take over theirs."""
        raise NotImplementedError

    def set_link(self, a: Nodes, b: Nodes, link: Link, *, one_way: bool = False) -> None:
        """The link between nodes; goes before a node's link, which goes before the default."""
        for pair in pairs(a, b, one_way):
            self._links[pair] = link
        self._relink()

    def set_node_link(self, node: int, link: Link) -> None:
        """The link of everything from and to a node (the sender's goes first)."""
        self._node_links[node] = link
        self._relink()

    def set_default_link(self, link: Link) -> None:
        """The link between nodes that have no other."""
        self._default_link = link
        self._relink()

    def slow(self, a: Nodes, b: Nodes, factor: float = 1.0, extra_us: int = 0, *, one_way: bool = False) -> None:
        """Make links slower, by a factor, by an addition, or both; called without either it undoes that."""
        for pair in pairs(a, b, one_way):
            if factor == 1.0 and extra_us == 0:
                self._slowed.pop(pair, None)
            else:
                self._slowed[pair] = (factor, extra_us)
        self._relink()

    def delay_api(self, api_key: int, extra_us: int) -> None:
        """Requests with this ``API_KEY`` take longer; 0 undoes it. What is sent behind one waits, as in TCP."""
        self.remove_delay(self._api_delay)
        if extra_us:
            self._api_delays[api_key] = extra_us
        else:
            self._api_delays.pop(api_key, None)
        if self._api_delays:
            self.add_delay(self._api_delay)

    def _api_delay(self, src: int, dst: int, request: Any) -> int:
        return self._api_delays.get(getattr(request, "API_KEY", -1), 0)

    def add_delay(self, delay: Delay) -> None:
        """Ask a function how much later each request arrives; all answers add up. What is sent behind one waits, as in TCP."""
        self._delays.append(delay)

    def remove_delay(self, delay: Delay) -> None:
        """Ask it no more; it may be gone already."""
        if delay in self._delays:
            self._delays.remove(delay)

    def delay_once(self, request: Any, extra_us: int) -> None:
        """Let this one request arrive later, when it is sent."""

        def delay(src: int, dst: int, sent: Any) -> int:
            if sent is not request:
                return 0
            self.remove_delay(delay)
            return extra_us

        self.add_delay(delay)

    def _delay_us(self, src: int, dst: int, request: Any) -> int:
        return sum([delay(src, dst, request) for delay in list(self._delays)])

    def link(self, src: int, dst: int) -> Link:
        """The link in force in one direction."""
        if src == dst:
            return LOOPBACK
        link = self._links.get((src, dst))
        if link is None:
            link = self._node_links.get(src) or self._node_links.get(dst) or self._default_link
        slowed = self._slowed.get((src, dst))
        return link if slowed is None else link.slowed(*slowed)


def pairs(a: Nodes, b: Nodes, one_way: bool) -> list[Pair]:
    """Every directed pair between two sides; a node is never cut off from itself."""
    left = [a] if isinstance(a, int) else list(dict.fromkeys(a))
    right = [b] if isinstance(b, int) else list(dict.fromkeys(b))
    pairs = [(x, y) for x in left for y in right if x != y]
    if not one_way:
        pairs += [(y, x) for x, y in pairs]
    return list(dict.fromkeys(pairs))
