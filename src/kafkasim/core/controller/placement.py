"""Where new partitions go: striped over the racks, round-robin within a rack.

Mirrors:  StripedReplicaPlacer, its RackList and BrokerList.
Inputs:   the registered brokers and ``draw`` for the offsets to start from; a new placer for every topic.
Rule 1:   the leader is never a fenced broker; fenced ones follow only where a rack has no other left; one that is about
          to shut down gets nothing.
Differs:  Kafka's random calls come in the order of a hash map; here the racks come by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from kafkasim.core.controller.image import BrokerState
from kafkasim.core.model.ids import NO_NODE, Draw, NodeId

T = TypeVar("T")


class PlacementError(Exception):
    """The wanted number of replicas cannot be placed; the text is Kafka's. Caught in this room."""


class _BrokerList:
    """Brokers of one rack in turn; each placement starts one further on."""

    __slots__ = ("_epoch", "_index", "_offset", "brokers")

    def __init__(self, brokers: list[NodeId], draw: Draw) -> None:
        self.brokers = brokers
        self._epoch = 0
        self._index = 0
        self._offset = draw("controller.placement.broker", len(brokers)) if len(brokers) > 1 else 0

    def following(self, epoch: int) -> NodeId:
        """The next broker of this placement, NO_NODE once all have been given."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._index = 0
            self._offset = (self._offset + 1) % max(1, len(self.brokers))
        if self._index >= len(self.brokers):
            return NO_NODE
        node = self.brokers[(self._index + self._offset) % len(self.brokers)]
        self._index += 1
        return node


class _Rack:
    __slots__ = ("fenced", "unfenced")

    def __init__(self, fenced: list[NodeId], unfenced: list[NodeId], draw: Draw) -> None:
        self.fenced = _BrokerList(fenced, draw)
        self.unfenced = _BrokerList(unfenced, draw)

    def following(self, epoch: int) -> NodeId:
        node = self.unfenced.following(epoch)
        return node if node != NO_NODE else self.fenced.following(epoch)


class StripedReplicaPlacer:
    """Places the partitions of one topic, one after the other."""

    def __init__(self, brokers: Iterable[BrokerState], draw: Draw) -> None:
        self._draw = draw
        by_rack: dict[str, tuple[list[NodeId], list[NodeId]]] = {}
        for broker in sorted(brokers, key=lambda broker: broker.broker_id):
            if broker.in_controlled_shutdown and not broker.fenced:
                continue
            # Brokers without a rack share one of their own, which sorts before every name.
            lists = by_rack.setdefault("" if broker.rack is None else "r" + broker.rack, ([], []))
            lists[0 if broker.fenced else 1].append(broker.broker_id)
        self._racks = [_Rack(*by_rack[name], draw) for name in sorted(by_rack)]
        self._broker_count = sum(len(fenced) + len(unfenced) for fenced, unfenced in by_rack.values())
        self._unfenced_count = sum(len(unfenced) for _, unfenced in by_rack.values())
        self._rack_offset = draw("controller.placement.rack", len(self._racks)) if len(self._racks) > 1 else 0
        self._epoch = 0

    def place(self, partition_count: int, replication_factor: int) -> list[tuple[NodeId, ...]]:
        if replication_factor < 1:
            raise PlacementError(
                f"Invalid replication factor {replication_factor}: the replication factor must be positive."
            )
        if self._unfenced_count == 0:
            raise PlacementError("All brokers are currently fenced, or have all their log directories cordoned.")
        if replication_factor > self._broker_count:
            raise PlacementError(
                f"The target replication factor of {replication_factor} cannot be reached because only "
                f"{self._broker_count} broker(s) are registered or some brokers have all their log directories cordoned."
            )
        return [self._place_partition(replication_factor) for _ in range(partition_count)]

    def _place_partition(self, replication_factor: int) -> tuple[NodeId, ...]:
        if self._epoch == self._unfenced_count and self._unfenced_count > 1:
            self._shuffle()
            self._epoch = 0
        if self._rack_offset == len(self._racks):
            self._rack_offset = 0
        racks, offset = self._racks, self._rack_offset
        leader_rack = -1
        replicas: list[NodeId] = []
        for step in range(len(racks)):
            leader = racks[(offset + step) % len(racks)].unfenced.following(self._epoch)
            if leader != NO_NODE:
                leader_rack = (offset + step) % len(racks)
                replicas.append(leader)
                break
        assert leader_rack >= 0, "no unfenced broker although there are some"
        skip_leader_rack = True
        position = offset
        while len(replicas) < replication_factor:
            if position == leader_rack and skip_leader_rack:
                skip_leader_rack = False
            else:
                node = racks[position].following(self._epoch)
                if node != NO_NODE:
                    replicas.append(node)
            position = (position + 1) % len(racks)
        self._epoch += 1
        self._rack_offset += 1
        return tuple(replicas)

    def _shuffle(self) -> None:
        """After as many partitions as there are brokers: mix, so that the same replicas do not always meet."""
        self._racks = self._shuffled(self._racks, "controller.placement.shuffle_racks")
        for rack in self._racks:
            for brokers in (rack.fenced, rack.unfenced):
                brokers.brokers = self._shuffled(brokers.brokers, "controller.placement.shuffle_brokers")

    def _shuffled(self, items: Sequence[T], label: str) -> list[T]:
        """Fisher and Yates; a draw of 0 leaves an item where it is."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = last - self._draw(label, last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed
