"""An audit of a simulated cluster: every log, high watermark, leader and metadata batch goes past the replication oracle.

Inputs:   a cluster without topics.      Effects: a ``ReplicationOracle`` that is told of everything from then on.
Rule 1:   what is told is installed once; a cluster without an audit pays nothing.
Rule 2:   ``cluster.check()`` tells what the oracle found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.check.replication_oracle import ReplicationOracle
from kafkasim.core.log.log import Log
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.effects import Note
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import Acked, Happened, HistoryEvent
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.records import RecordBatch
from kafkasim.errors import ConfigurationError
from kafkasim.handle import Cluster
from kafkasim.sim.cluster import SimulatedCluster


class AuditedLog(Log):
    """Tells the oracle what is done to it."""

    __slots__ = ("_key", "_node", "_oracle")

    def __init__(
        self, oracle: ReplicationOracle, node: NodeId, key: tuple[str, int], topic_id: str, settings: LogSettings
    ) -> None:
        super().__init__(topic_id, settings)
        self._oracle = oracle
        self._node = node
        self._key = key
        oracle.on_new_log(node, key)

    def append(self, batch: RecordBatch) -> None:
        super().append(batch)
        self._oracle.on_append(self._node, self._key, batch)

    def truncate_to(self, offset: int) -> None:
        old_end = self.end
        super().truncate_to(offset)
        if self.end != old_end:
            self._oracle.on_cut(self._node, self._key, self.start, self.end)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        super().truncate_fully_and_start_at(offset)
        self._oracle.on_cut(self._node, self._key, self.start, self.end)


def audit(cluster: SimulatedCluster) -> ReplicationOracle:
    """Hold ``cluster`` to the promises of replication from now on; breaches are in the oracle's ``report``."""
    if cluster.topics():
        raise ConfigurationError(f"audit: the cluster has topics already ({cluster.topics()}); begin before the first")
    oracle = ReplicationOracle()
    for node in cluster.broker_ids():
        storage = cluster.process(node).storage.broker
        storage.new_log = _log_maker(oracle, node)
        storage.on_high_watermark = _mark_teller(cluster, oracle, node)
    for event in cluster.history:
        _take(cluster, oracle, event)
    record = cluster.history.record

    def record_and_take(event: HistoryEvent) -> None:
        record(event)
        _take(cluster, oracle, event)

    cluster.history.record = record_and_take
    if isinstance(cluster, Cluster):
        cluster.watched.append(oracle.report)
    return oracle


def _log_maker(oracle: ReplicationOracle, node: NodeId) -> Callable[[TopicPartition, str, LogSettings], Log]:
    return lambda tp, topic_id, settings: AuditedLog(oracle, node, (topic_id, tp.partition), topic_id, settings)


def _mark_teller(cluster: SimulatedCluster, oracle: ReplicationOracle, node: NodeId) -> Callable[[Any], None]:
    def tell(replica: Any) -> None:
        # What the input in hand has noted so far is still in the node's outbox; it came before this.
        for effect in _outbox(cluster, node):
            if isinstance(effect, Note) and effect.kind in ("metadata-committed", "became leader"):
                _take(cluster, oracle, Happened(0, node, effect.kind, effect.subject, effect.fields))
        log = replica.log
        key = (log.topic_id, replica.tp.partition)
        oracle.on_high_watermark(
            node, key, replica.leader_epoch, replica.is_leader, replica.high_watermark, log.start, log.end
        )

    return tell


def _outbox(cluster: SimulatedCluster, node: NodeId) -> list[Any]:
    server = cluster.process(node).node
    return [] if server is None else list(server.outbox)


def _take(cluster: SimulatedCluster, oracle: ReplicationOracle, event: HistoryEvent) -> None:
    if type(event) is Acked:
        _take_acked(oracle, event)
    if type(event) is not Happened:
        return
    kind = event.kind
    if kind == "metadata-committed":
        oracle.on_metadata(dict(event.fields)["batches"])  # type: ignore[arg-type]
    elif kind == "became leader":
        node = cluster.process(event.node).node
        replica = None if node is None or node.broker is None else node.broker.data_plane.replica(event.subject)  # type: ignore[arg-type]
        if replica is not None:
            epoch: Any = dict(event.fields)["leader_epoch"]
            oracle.on_leader(event.node, (replica.log.topic_id, replica.tp.partition), epoch)
    elif kind == "controller-active":
        active_epoch: Any = dict(event.fields)["epoch"]
        oracle.on_controller(event.node, active_epoch)
    elif kind == "disk replaced" or (kind == "power_loss" and cluster.process(event.node).state != "stopped"):
        oracle.on_power_loss(event.node)


def _take_acked(oracle: ReplicationOracle, event: Acked) -> None:
    topic_id = oracle.metadata.topic_id(event.tp.topic)
    if topic_id is not None and event.acks == -1 and event.error is ErrorCode.NONE and event.base_offset >= 0:
        oracle.on_acked((topic_id, event.tp.partition), event.batch, event.base_offset)
