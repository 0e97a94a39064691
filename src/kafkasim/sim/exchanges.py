"""Every request of a run with its answer, for those who want to see them: kept only where somebody asks before the run.

Inputs:   the network's messages, each at four stages of its way (``kafkasim.sim.plan_words.STAGES``).
Effects:  a list of exchanges, and samples of the watched partitions' log end and high watermark.
Rule 1:   a run that nobody watches pays nothing; watching changes nothing of the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from kafkasim.core.model.ids import TopicPartition
from kafkasim.sim.aim import look_at, partition_of
from kafkasim.sim.wire_events import api_name

if TYPE_CHECKING:
    from kafkasim.sim.cluster import SimulatedCluster


@attrs.define(slots=True, eq=False)
class Exchange:
    """A request and what became of it; -1: that stage was never reached."""

    api: str
    requester: int
    server: int
    sent_us: int
    received_us: int = -1
    answered_us: int = -1
    arrived_us: int = -1

    @property
    def is_whole(self) -> bool:
        return self.arrived_us >= 0


@attrs.define(slots=True, eq=False)
class Watermarks:
    """One partition: (microseconds, leader, log end offset, high watermark), at each change that a message showed."""

    tp: TopicPartition
    samples: list[tuple[int, int, int, int]] = attrs.field(factory=list)


class Exchanges:
    """``Exchanges(cluster, ["orders-0"])`` begins to watch; ``most`` bounds what is kept; ``left_out`` counts the rest."""

    def __init__(self, cluster: SimulatedCluster, partitions: tuple[str, ...] = (), *, most: int = 200_000) -> None:
        self.all: list[Exchange] = []
        self.left_out = 0
        self.watermarks = [Watermarks(partition_of(place)) for place in partitions]
        self._cluster = cluster
        self._most = most
        #: By the request's identity, which is its own while it is on its way; the request is held so that it stays so.
        self._open: dict[int, tuple[Any, Exchange]] = {}
        cluster.injections.listen(self._on_message)

    def _on_message(self, stage: str, requester: int, server: int, request: Any) -> None:
        now_us = self._cluster.now_us
        if stage == "sent":
            self._begin(now_us, requester, server, request)
        else:
            found = self._open.get(id(request))
            if found is not None:
                exchange = found[1]
                if stage == "received":
                    exchange.received_us = now_us
                elif stage == "answered":
                    exchange.answered_us = now_us
                else:
                    exchange.arrived_us = now_us
                    del self._open[id(request)]
        for watched in self.watermarks:
            self._sample(watched, now_us)

    def _begin(self, now_us: int, requester: int, server: int, request: Any) -> None:
        if len(self.all) >= self._most:
            self.left_out += 1
            return
        exchange = Exchange(api_name(request), requester, server, now_us)
        self.all.append(exchange)
        self._open[id(request)] = (request, exchange)

    def _sample(self, watched: Watermarks, now_us: int) -> None:
        state, replica = look_at(self._cluster, watched.tp)
        if state is None or replica is None:
            return
        sample = (now_us, int(state.leader), int(replica.log_end), int(replica.high_watermark))
        if not watched.samples or watched.samples[-1][1:] != sample[1:]:
            watched.samples.append(sample)
