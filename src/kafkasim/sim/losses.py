"""What a loss of power or of a disk takes from a server's logs, and who holds it still.

Inputs:   a server process, and what is done to its storage.      Effects: a note ``data lost`` where logs are shorter afterwards.
Rule 1:   white-box truth, for those who judge: a replica is whole if its log, on disk or in a page cache, reaches the high watermark.
Rule 2:   what a process knew to be committed is remembered when it ends: it may have been the only one that did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kafkasim.core.model.effects import Note
from kafkasim.core.model.ids import NodeId, TopicPartition

if TYPE_CHECKING:
    from kafkasim.sim.cluster import ServerProcess, SimulatedCluster


def note_losses(cluster: SimulatedCluster, process: ServerProcess, how: str, harm: Callable[[], None]) -> None:
    """Do ``harm`` to the storage of a process; ``how`` says what happened, as reports do."""
    logs = dict(process.storage.broker.logs)
    before = {
        tp: (log.end, _high_watermark(cluster, tp, log.topic_id)) for tp, log in logs.items() if log.end > log.start
    }
    harm()
    after = process.storage.broker.logs
    lost = []
    for tp, (end, high_watermark) in before.items():
        kept = after[tp].end if tp in after else 0
        if kept < end:
            lost.append((tp, kept, _whole(cluster, tp, logs[tp].topic_id, high_watermark)))
    if lost:
        cluster._on_note(process.id, Note("data lost", process.id, (("how", how), ("partitions", tuple(lost)))))


def remember_marks(process: ServerProcess) -> None:
    """Keep the high watermarks that an ending process knows and its checkpoint does not."""
    node = process.node
    if node is None or node.broker is None:
        return
    for tp, log in process.storage.broker.logs.items():
        replica = node.broker.data_plane.replica(tp) if log.end else None
        if replica is not None and replica.high_watermark > log.checkpointed_high_watermark:
            key = (log.topic_id, tp.partition)
            process.last_marks[key] = max(process.last_marks.get(key, 0), replica.high_watermark)


def write_back_some(cluster: SimulatedCluster, process: ServerProcess) -> None:
    """Of each log, the kernel has written a part of what was not flushed to disk, by chance: the disk holds whole batches."""
    for log in process.storage.broker.logs.values():
        left = log.unflushed()
        if left:
            log.wrote_back(left[-1 - cluster.choices.draw("disk.written_back", len(left))])


def _high_watermark(cluster: SimulatedCluster, tp: TopicPartition, topic_id: str) -> int:
    """The highest that anybody knows: after a loss it may be too high, and then nobody counts as whole."""
    known = [log.checkpointed_high_watermark for log in _logs(cluster, tp).values()]
    key = (topic_id, tp.partition)
    known += [cluster.process(node).last_marks.get(key, 0) for node in cluster.broker_ids()]
    for node in cluster._live_nodes():
        replica = None if node.broker is None else node.broker.data_plane.replica(tp)
        if replica is not None:
            known.append(replica.high_watermark)
    return max(known, default=0)


def _whole(cluster: SimulatedCluster, tp: TopicPartition, topic_id: str, high_watermark: int) -> tuple[NodeId, ...]:
    copies = _logs(cluster, tp)
    return tuple(node for node, log in copies.items() if log.topic_id == topic_id and log.end >= high_watermark)


def _logs(cluster: SimulatedCluster, tp: TopicPartition) -> dict[NodeId, Any]:
    logs = {node: cluster.process(node).storage.broker.logs.get(tp) for node in cluster.broker_ids()}
    return {node: log for node, log in logs.items() if log is not None}
