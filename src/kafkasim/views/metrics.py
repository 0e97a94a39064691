"""Kafka's JMX metrics of a simulated cluster as time series, under Kafka's names.

Mirrors:  kafka.server ReplicaManager and BrokerTopicMetrics; kafka.controller KafkaController and ControllerStats.
Rule 1:   nothing is sampled and nothing runs idle: a series is put together from the run's history when somebody asks.
Rule 2:   a broker's gauges follow its own metadata image, as far as it had come at the time; the controller's follow the commits.
Differs:  the metrics that the page docs/views.md lists exist, the others not. A meter shows its Count, kept to the second and going
          on when a broker starts anew, and rates over any window instead of one, five and fifteen minutes. A paused broker goes on
          reporting what it last knew. OfflineReplicaCount stays 0: a broker has one log directory and ends with it.
"""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from kafkasim.core.model.ids import NodeId
from kafkasim.core.model.meters import BrokerTopicMeters, Meter
from kafkasim.views.facts import ENDS, Facts
from kafkasim.views.ledger import BROKER_GAUGES, Ledger
from kafkasim.views.series import Point, Series, changes_only, total_of

_REPLICA_MANAGER = "kafka.server:type=ReplicaManager,name="
_BROKER_TOPICS = "kafka.server:type=BrokerTopicMetrics,name="
_CONTROLLER = "kafka.controller:type=KafkaController,name="
_CONTROLLER_STATS = "kafka.controller:type=ControllerStats,name="

#: Meters of the leader's ISR changes, by the note that marks them.
_ISR_METERS = {
    "IsrShrinksPerSec": "isr shrunk",
    "IsrExpandsPerSec": "isr expanded",
    "FailedIsrUpdatesPerSec": "isr update failed",
}
_TOPIC_METERS = {
    "MessagesInPerSec": "messages_in",
    "BytesInPerSec": "bytes_in",
    "BytesOutPerSec": "bytes_out",
    "ReplicationBytesInPerSec": "replication_bytes_in",
    "FailedProduceRequestsPerSec": "failed_produce_requests",
}
_COMMITTED = (
    "OfflinePartitionsCount",
    "GlobalPartitionCount",
    "GlobalTopicCount",
    "PreferredReplicaImbalanceCount",
    "FencedBrokerCount",
    "ActiveBrokerCount",
    "ControlledShutdownBrokerCount",
    "LastCommittedRecordOffset",
    "TimedOutBrokerHeartbeatCount",
)
_ELECTIONS = ("UncleanLeaderElectionsPerSec", "ElectionFromEligibleLeaderReplicasPerSec")

#: Name -> MBean, in the order in which they are shown.
MBEANS: dict[str, str] = {
    **{name: _REPLICA_MANAGER + name for name in (*BROKER_GAUGES, "OfflineReplicaCount", *_ISR_METERS)},
    **{name: _BROKER_TOPICS + name for name in _TOPIC_METERS},
    **{name: _CONTROLLER + name for name in ("ActiveControllerCount", "NewActiveControllersCount", *_COMMITTED)},
    **{name: _CONTROLLER_STATS + name for name in _ELECTIONS},
}
_GONE = {
    "LeaderElectionRateAndTimeMs": "it went with ZooKeeper, and a KRaft controller of Kafka 4.3 has none; elections show in "
    "cluster.why(), and ControllerStats has UncleanLeaderElectionsPerSec",
}


class Metrics(Mapping[str, Series]):
    """``cluster.metrics["UnderReplicatedPartitions"]``; iterate over the names; print it for the values of now."""

    def __init__(
        self,
        facts: Facts,
        ledger: Ledger,
        meters: Mapping[NodeId, BrokerTopicMeters],
        controllers: Sequence[NodeId],
        now: float,
    ) -> None:
        """``meters``: of every broker; ``controllers``: the voters of the quorum."""
        self._facts = facts
        self._ledger = ledger
        self._meters = meters
        self._broker_ids = list(meters)
        self._controllers = controllers
        self._now = now

    def __getitem__(self, name: str) -> Series:
        known = name.rpartition("name=")[2] if name in MBEANS.values() else name
        if known in BROKER_GAUGES or known == "OfflineReplicaCount":
            return self._summed(known, {node: self._gauge(known, node) for node in self._broker_ids})
        if known in _ISR_METERS:
            return self._isr_meter(known)
        if known in _TOPIC_METERS:
            return self._topic_meter(known)
        if known in _COMMITTED or known in _ELECTIONS:
            points = [(0.0, 0), *((at_us / 1e6, value) for at_us, value in self._ledger.by_time.get(known, ()))]
            return Series(known, MBEANS[known], changes_only(points), self._now, no_brokers=_OF_CONTROLLER)
        if known == "ActiveControllerCount":
            return self._active_controllers()
        if known == "NewActiveControllersCount":
            return self._new_controllers()
        raise UnknownMetric(name)

    def __iter__(self) -> Iterator[str]:
        return iter(MBEANS)

    def __len__(self) -> int:
        return len(MBEANS)

    def __repr__(self) -> str:
        """A table of the values of now: the cluster's and each broker's."""
        lines = [["metric", "cluster", *(f"broker {node}" for node in self._broker_ids)]]
        for name in self:
            series = self[name]
            parts = [series.brokers[node].last if node in series.brokers else "" for node in self._broker_ids]
            lines.append([name, str(series.last), *("-" if part is None else str(part) for part in parts)])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        return f"metrics at {self._now:.3f} s\n" + "\n".join(line.rstrip() for line in text)

    def rows(self) -> list[dict[str, object]]:
        """Every change of every metric: time, metric, broker (None: the cluster), value."""
        return [row for name in self for row in self[name].rows()]

    # --- brokers ---------------------------------------------------------------------------------------------------

    def _gauge(self, name: str, node: NodeId) -> list[Point]:
        """The value at each offset that the broker reached, None from the end of a process to the first image of the next."""
        values = self._ledger.by_offset.get((name, node), [])
        changes: list[tuple[int, int | None]] = list(self._facts.published.get(node, []))
        changes += [(fact.at_us, None) for fact in self._facts.processes if fact.subject == node and fact.kind in ENDS]
        changes.sort(key=lambda change: change[0])
        points: list[Point] = []
        for at_us, offset in changes:
            value: int | None = None
            if offset is not None:
                index = bisect_right(values, offset, key=lambda entry: entry[0])
                value = values[index - 1][1] if index else 0
            points.append((at_us / 1e6, value))
        return changes_only(points)

    def _isr_meter(self, name: str) -> Series:
        kind = _ISR_METERS[name]
        marks: dict[NodeId, list[int]] = {node: [] for node in self._broker_ids}
        for facts in self._facts.of_partition.values():
            for fact in facts:
                if fact.kind == kind:
                    marks[fact.node].append(fact.at_us)
        return self._summed(name, {node: _counted(times) for node, times in marks.items()})

    def _topic_meter(self, name: str) -> Series:
        attribute = _TOPIC_METERS[name]
        by_broker: dict[NodeId, list[Point]] = {}
        by_topic: dict[str, dict[NodeId, list[Point]]] = {}
        for node, meters in self._meters.items():
            parts = []
            for topic, of_topic in meters.topics.items():
                meter: Meter = getattr(of_topic, attribute)
                points: list[Point] = [(0.0, 0)]
                points += [(at_us / 1e6, count) for at_us, count in zip(meter.times_us, meter.counts, strict=True)]
                parts.append(points)
                if meter.total:
                    by_topic.setdefault(topic, {})[node] = points
            by_broker[node] = total_of(parts)
        topics = {topic: self._summed(name, parts) for topic, parts in by_topic.items()}
        return self._summed(name, by_broker, topics)

    def _summed(
        self, name: str, by_broker: Mapping[NodeId, list[Point]], topics: Mapping[str, Series] | None = None
    ) -> Series:
        mbean, now = MBEANS[name], self._now
        parts = {node: Series(name, mbean, points, now) for node, points in by_broker.items()}
        return Series(name, mbean, total_of(list(by_broker.values())), now, brokers=parts, topics=topics)

    # --- controllers -----------------------------------------------------------------------------------------------

    def _active_controllers(self) -> Series:
        changes = [(fact.at_us, fact.node, int(fact.kind == "controller-active")) for fact in self._facts.controllers]
        changes += [(fact.at_us, fact.subject, 0) for fact in self._facts.processes if fact.kind in ENDS]
        changes.sort(key=lambda change: change[0])
        by_node: dict[NodeId, list[Point]] = {node: [(0.0, 0)] for node in self._controllers}
        for at_us, node, value in changes:
            if node in by_node:
                by_node[node].append((at_us / 1e6, value))
        return self._summed("ActiveControllerCount", {node: changes_only(points) for node, points in by_node.items()})

    def _new_controllers(self) -> Series:
        times = [fact.at_us for fact in self._facts.controllers if fact.kind == "controller-active"]
        name = "NewActiveControllersCount"
        return Series(name, MBEANS[name], _counted(times), self._now, no_brokers=_OF_CONTROLLER)


_OF_CONTROLLER = "it is the controller's, one series for the cluster"


class UnknownMetric(KeyError):
    """Names the metric and those that it may have meant."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        close = difflib.get_close_matches(name, MBEANS, 3, 0.5)
        if name in _GONE:
            self._text = f"no metric {name!r}: {_GONE[name]}"
        elif close:
            self._text = f"no metric {name!r}; did you mean {' or '.join(map(repr, close))}?"
        else:
            self._text = f"no metric {name!r}; there are {', '.join(MBEANS)}"

    def __str__(self) -> str:
        return self._text


def _counted(times_us: list[int]) -> list[Point]:
    """1, 2, 3, ... at these times."""
    return changes_only([(0.0, 0), *((at_us / 1e6, index + 1) for index, at_us in enumerate(sorted(times_us)))])
