"""White-box oracles over a simulated cluster, while it runs: every log, high watermark, leader and metadata batch goes past them.

Inputs:   a cluster without topics.      Effects: findings, which ``cluster.check()`` tells.
Rule 1:   a cluster that keeps a history is watched; one made with ``history=False`` pays nothing.
Rule 2:   an oracle changes nothing: the run and its fingerprint are what they are without it.
Rule 3:   what the faults of the run excuse is told as allowed, when the report is made: while it happens nobody knows yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from kafkasim.check.committed import ReplicaLog, Truth
from kafkasim.check.quorum_oracle import QuorumOracle, Voter
from kafkasim.check.replication_oracle import ReplicationOracle
from kafkasim.check.report import Report
from kafkasim.check.rest import UNREST, check_rest, longest_wait_us
from kafkasim.check.told import check_told
from kafkasim.core.log.log import Log
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.effects import Note
from kafkasim.core.model.history import Happened
from kafkasim.core.model.ids import NO_EPOCH, NodeId, TopicPartition
from kafkasim.core.model.records import RecordBatch
from kafkasim.sim.cluster import SimulatedCluster

if TYPE_CHECKING:
    from kafkasim.check.budget import Budget

_NOWHERE = TopicPartition("", 0)
_ANY_OFFSET = 1 << 62
_TAKEN = ("metadata-committed", "became leader", "controller-active", "disk replaced", "power_loss")


class WatchedLog(Log):
    """Tells the oracle what is done to it, but for what followers append: that is looked at when it is committed."""

    __slots__ = ("_oracle", "_writes_in", "due", "node", "partition", "truth", "verified")

    def __init__(
        self, oracle: ReplicationOracle, node: NodeId, partition: int, topic_id: str, settings: LogSettings
    ) -> None:
        super().__init__(topic_id, settings)
        self._oracle = oracle
        self._writes_in = NO_EPOCH
        self.node = node
        self.partition = partition
        self.truth: Truth | None = None
        self.verified = self.due = 0
        oracle.on_new_log(self)

    def append_as_leader(self, batch: RecordBatch) -> None:
        Log.append(self, batch)
        if batch.leader_epoch != self._writes_in:
            self._writes_in = batch.leader_epoch
            self._oracle.on_leader_append(self, batch.leader_epoch, self.settings.compact)

    def truncate_to(self, offset: int) -> None:
        old_end = self.end
        super().truncate_to(offset)
        if self.end != old_end:
            self._oracle.on_cut(self)

    def truncate_fully_and_start_at(self, offset: int) -> None:
        super().truncate_fully_and_start_at(offset)
        self._oracle.on_cut(self)

    def replace_batches(self, batches: list[RecordBatch]) -> None:
        """Cleaned batches are other objects than those that were committed."""
        super().replace_batches(batches)
        self._oracle.on_cleaned(self)


class Watch:
    """``oracle`` is told of everything from now on, and of what the history has already."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self.oracle = ReplicationOracle(lambda: cluster.kernel.now_us)
        self.oracle.is_exact = False
        self.quorum = QuorumOracle(self.oracle.report, lambda: cluster.kernel.now_us)
        self.oracle.metadata.has_elr = False  # until the metadata log says so
        self.oracle.logs_of = self._logs_of
        self.oracle.take_pending = self._take_pending
        for node in cluster.broker_ids():
            storage = cluster.process(node).storage.broker
            storage.new_log = self._log_maker(node)
            storage.on_high_watermark = self.oracle.on_high_watermark
        for event in cluster.history:
            if type(event) is Happened:
                self._take(event)
        history = cluster.history
        note = history.note

        def note_and_take(at_us: int, node: int, noted: Note) -> None:
            note(at_us, node, noted)
            if noted.kind in _TAKEN:
                self._take(Happened(at_us, node, noted.kind, noted.subject, noted.fields))
                if noted.kind == "metadata-committed":
                    self.quorum.on_committed(node, dict(noted.fields)["batches"], self._voters())
            elif noted.kind == "metadata-snapshot-loaded":
                self.quorum.on_snapshot_loaded(node, dict(noted.fields)["is_leader"])

        history.note = note_and_take  # type: ignore[assignment, method-assign]

    def be_exact(self) -> None:
        """From now on compare logs at every move of a high watermark."""
        self.oracle.be_exact()

    def report(self, budget: Budget) -> Report:
        """What was broken; what the budget excuses is allowed."""
        told = Report()
        told.take(self.oracle.report)
        self._check_rest(told)
        check_told(self._cluster.history, self.oracle, told, budget)
        looked = {**told.looked_at, "committed batches": self.oracle.batches, "commits": self.oracle.marks}
        # What unclean elections gave up is told, with more to it, where acknowledged records are looked for.
        report = Report(looked, [], [finding for finding in told.allowed if finding.invariant != "acked-loss"])
        for finding in told.findings:
            excuse = budget.excuse(finding.tp or _NOWHERE, _ANY_OFFSET, finding.at_us or 0)
            if excuse is None:
                report.findings.append(finding)
            else:
                report.allowed.append(attrs.evolve(finding, text=f"{finding.text} ({excuse})"))
        # Of what is excused more is told where acknowledged records are looked for.
        report.findings += [
            loss for loss in self.oracle.losses if not budget.is_over(loss.tp or _NOWHERE, loss.at_us or 0)
        ]
        return report

    def _log_maker(self, node: NodeId) -> Callable[[TopicPartition, str, LogSettings], Log]:
        oracle = self.oracle

        def make(tp: TopicPartition, topic_id: str, settings: LogSettings) -> Log:
            return WatchedLog(oracle, node, tp.partition, topic_id, settings)

        return make

    def _logs_of(self, key: tuple[str, int]) -> list[ReplicaLog]:
        tp = self.oracle.tp(key)
        logs: list[Any] = [self._cluster.process(n).storage.broker.logs.get(tp) for n in self._cluster.broker_ids()]
        return [log for log in logs if log is not None and log.topic_id == key[0]]

    def _take_pending(self, node: NodeId) -> None:
        """What the input in hand has noted so far is still in the node's outbox; it came before whatever is looked at now."""
        server = self._cluster.process(node).node
        for effect in () if server is None else server.outbox:
            if type(effect) is Note and effect.kind in ("metadata-committed", "became leader"):
                self._take(Happened(0, node, effect.kind, effect.subject, effect.fields))

    def _take(self, event: Happened) -> None:
        kind = event.kind
        if kind == "metadata-committed":
            batches: Any = dict(event.fields)["batches"]
            self.oracle.on_metadata(batches)
            self.quorum.take(batches)
        elif kind == "became leader":
            node = self._cluster.process(event.node).node
            replica = None if node is None or node.broker is None else node.broker.data_plane.replica(event.subject)  # type: ignore[arg-type]
            if replica is not None:
                epoch: Any = dict(event.fields)["leader_epoch"]
                followers = getattr(replica, "followers", ())
                heard = {follower.node_id: follower.log_end for follower in followers if follower.log_end >= 0}
                self.oracle.on_leader(event.node, (replica.log.topic_id, replica.tp.partition), epoch, heard)
        elif kind == "controller-active":
            active_epoch: Any = dict(event.fields)["epoch"]
            self.oracle.on_controller(event.node, active_epoch)
        elif kind == "disk replaced" or (kind == "power_loss" and self._cluster.process(event.node).state != "stopped"):
            self.oracle.on_data_lost(event.node, is_all=kind == "disk replaced")
            self.quorum.is_silent |= kind == "disk replaced"

    def _voters(self) -> list[Voter]:
        voters = []
        for process in map(self._cluster.process, self._cluster.voters()):
            controller = None if process.node is None else process.node.controller
            voters.append(Voter(process.id, process.storage.metadata_log, controller and controller.raft))
        return voters

    def _check_rest(self, report: Report) -> None:
        """B11 and K8, if everything runs and nothing has happened for long."""
        cluster = self._cluster
        processes = list(cluster._servers.values())
        is_sound = all(process.state == "running" and process.disk.state == "healthy" for process in processes)
        if not is_sound or not cluster.fabric.is_clear or self.quorum.is_silent:
            return
        since_us = cluster.now_us - longest_wait_us(cluster._processes[0].static_config)
        if cluster.fabric.changed_us > since_us or since_us < 0:
            return
        for event in reversed(cluster.history.events):
            if event.at_us < since_us:
                break
            if type(event) is Happened and event.kind in UNREST:
                return
        nodes = [process.node for process in processes if process.node is not None]
        has_controller = any(node.controller is not None and node.controller.active for node in nodes)
        check_rest(self.oracle, has_controller, cluster.now_us, report)
