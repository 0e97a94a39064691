"""Replication held to its promises while it runs: white-box, a constant amount of work an event.

Inputs:   what every replica's log does (``on_append``, ``on_cut``, ...), where high watermarks go, who leads, what was committed
          to the metadata log. ``kafkasim.watch`` feeds it from a simulated cluster.
Rule 1:   the truth is ``_Committed``: what a leader's high watermark has passed. It only grows, unless an unclean election
          (leader recovery state RECOVERING) gives up a part of it: that is allowed, and told.
Rule 2:   batches travel by reference, so two logs agree at an offset if the same object stands there.
Rule 3:   leaders of epochs before the last unclean election say nothing about the truth any more. Nor is anything said of a
          partition whose log was compacted, or of a cluster whose metadata log contradicts itself; nor after Kafka's own mistakes
          (docs/fidelity.md): an ELR that outlived a reassignment elected an incomplete leader, or a leader skipped epochs in which
          others led and went on with the log ends that it had known of its followers.
Rule 4:   a partition without records costs nothing, and what is below the start of the log is forgotten.
Rule 5:   an incomplete leader is told once: what it has is the truth from then on, as it is for its followers.
Differs:  LastKnownElr holds the last leader only, as Kafka 4.3 writes it; KIP-966 plans as many as min.insync.replicas.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping

import attrs

from kafkasim.check.metadata_oracle import MetadataOracle
from kafkasim.check.report import Report
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.metadata import MetadataBatch
from kafkasim.core.model.records import RecordBatch

#: A partition of one incarnation of a topic: (topic id, number).
Key = tuple[str, int]
_MOST_TOLD = 20
#: Where not every move of a high watermark is looked at closely, so many offsets at most are taken on trust for a while.
_LOOKED_AT = 64
#: So many batches below the start of a log are kept before they are forgotten.
_TRIMMED_AT = 64

#: How each promise is broken, in words that many runs share.
_CAUSES = {
    "one-writer-per-epoch": "two brokers wrote in one leader epoch",
    "leader-completeness": "elected without everything that was committed",
    "watermark-sanity": "a high watermark beyond what is committed",
    "log-matching": "replicas differ below the high watermark",
    "candidate-completeness": "in ISR or ELR without everything that was committed",
    "weak-ack": "acknowledged before it was committed",
    "convergence": "replicas differ after all was healed",
}


_MISJUDGED = "its leader skipped epochs in which others led, and believed what it had heard before, as Kafka 4.3 does"


class _Batches:
    """Batches in offset order from ``start`` to ``end``."""

    __slots__ = ("bases", "batches", "end", "start")

    def __init__(self, start: int = 0) -> None:
        self.start = self.end = start
        self.bases: list[int] = []
        self.batches: list[RecordBatch] = []

    def append(self, batch: RecordBatch) -> None:
        self.bases.append(batch.base_offset)
        self.batches.append(batch)
        self.end = batch.base_offset + batch.count

    def cut(self, end: int) -> None:
        keep = bisect_left(self.bases, end)
        del self.bases[keep:], self.batches[keep:]
        self.end = end

    def trim(self, start: int) -> None:
        """Forget the batches that end at or before ``start``, once they are many."""
        gone = bisect_right(self.bases, start) - 1
        if gone > _TRIMMED_AT:
            del self.bases[:gone], self.batches[:gone]
            self.start = self.bases[0]

    def between(self, start: int, end: int) -> list[RecordBatch]:
        """The batches that begin in ``[start, end)``."""
        return self.batches[bisect_left(self.bases, start) : bisect_left(self.bases, end)]

    def holds(self, batch: RecordBatch) -> bool:
        """Is it in here, where it belongs? Most often it is the last one."""
        bases, base = self.bases, batch.base_offset
        if bases and bases[-1] == base:
            return self.batches[-1] is batch
        index = bisect_left(bases, base)
        return index < len(bases) and self.batches[index] is batch

    def at(self, offset: int) -> RecordBatch | None:
        """The batch that holds ``offset``."""
        index = bisect_right(self.bases, offset) - 1
        found = self.batches[index] if index >= 0 else None
        return found if found is not None and found.next_offset > offset else None


@attrs.define(slots=True, eq=False)
class _Copy:
    """One replica's log; below ``verified`` it is known to agree with the truth."""

    log: _Batches = attrs.field(factory=_Batches)
    verified: int = 0


@attrs.define(slots=True, eq=False)
class _Partition:
    committed: _Batches = attrs.field(factory=_Batches)
    copies: dict[NodeId, _Copy] = attrs.field(factory=dict)
    #: Leader epoch -> who wrote in it.
    writers: dict[int, NodeId] = attrs.field(factory=dict)
    #: Batches that were appended and not committed yet, by identity.
    seen: dict[int, RecordBatch] = attrs.field(factory=dict)
    #: Nothing is said of it any more: a cleaned batch is another object than the one that was committed; and where an ELR that
    #: outlived a reassignment has elected a leader that lacks records, one that has them may be elected again.
    is_unjudged: bool = False
    #: Followers whose log ends the leader remembers from an epoch before, though they have cut them since.
    misjudged: dict[NodeId, int] = attrs.field(factory=dict)
    #: The newest epoch that a leader began, and the newest one that began with an unclean election.
    leader_epoch: int = -1
    lineage_epoch: int = -1


def _holds_all(copy: _Copy, leader: _Copy, end: int) -> bool:
    """Whether a log is its leader's, up to ``end``."""
    return copy.log.end >= end and all(
        copy.log.holds(batch) for batch in leader.log.between(max(copy.log.start, leader.log.start), end)
    )


class ReplicationOracle:
    """``report`` holds what was broken; ``report.allowed`` what unclean elections gave up."""

    def __init__(self, now_us: Callable[[], int] = lambda: 0) -> None:
        self.report = Report()
        #: How many appends and moves of high watermarks were looked at.
        self.appends = self.marks = 0
        #: Compare logs at every move of a high watermark; else at elections, changes of ISR and ELR, and now and then.
        self.is_exact = True
        self._now_us = now_us
        self._told: dict[str, int] = {}
        self.metadata = MetadataOracle(self.report)
        self._partitions: dict[Key, _Partition] = {}
        self._controller_epoch = -1

    # --- logs --------------------------------------------------------------------------------------------------------

    def on_new_log(self, node: NodeId, key: Key) -> None:
        partition = self._partitions.get(key)
        if partition is not None:
            partition.copies[node] = _Copy()

    def on_append(self, node: NodeId, key: Key, batch: RecordBatch) -> None:
        """B6: the first to append a batch is the leader that made it; one broker writes in one leader epoch."""
        self.appends += 1
        partition = self._partitions.get(key) or self._begin(key, batch.leader_epoch)
        copy = partition.copies.get(node)
        if copy is None:
            copy = partition.copies[node] = _Copy(_Batches(batch.base_offset), batch.base_offset)
        log = copy.log
        if batch.offsets is not None or (batch.base_offset != log.end and log.bases):
            partition.is_unjudged = True
        if id(batch) not in partition.seen and (
            batch.base_offset >= partition.committed.end or not partition.committed.holds(batch)
        ):
            partition.seen[id(batch)] = batch  # kept, so that nothing else gets its id
            writer = partition.writers.setdefault(batch.leader_epoch, node)
            if writer != node and not partition.is_unjudged:
                self._add(
                    "one-writer-per-epoch", key, f"brokers {writer} and {node} both wrote in epoch {batch.leader_epoch}"
                )
        log.append(batch)

    def on_cut(self, node: NodeId, key: Key, start: int, end: int) -> None:
        """The log was truncated, or emptied to go on at ``start``."""
        copy = self._of(key).copies.setdefault(node, _Copy())
        if start == end and start != copy.log.start and copy.log.end != end:
            copy.log = _Batches(start)
            copy.verified = start
        copy.log.cut(end)
        copy.verified = min(copy.verified, end)

    # --- leaders and marks -------------------------------------------------------------------------------------------

    def on_leader(self, node: NodeId, key: Key, epoch: int, heard: Mapping[NodeId, int] | None = None) -> None:
        """B1: who is elected cleanly holds everything that was committed. ``heard``: log ends that it knows from an epoch before."""
        self.report.count("elections")
        partition = self._partitions.get(key)
        if partition is None or partition.is_unjudged or self.metadata.is_contradictory:
            return
        view = self.metadata.view(key)
        is_over = epoch <= partition.leader_epoch or (view is not None and epoch < view.leader_epoch)
        if is_over or node in self.metadata.unsound:
            # It learned late of an epoch that is over; or its process has not registered yet, and serves nobody before.
            return
        unclean = view is not None and any(partition.leader_epoch < e <= epoch for e in view.unclean_epochs)
        partition.leader_epoch = epoch
        copy = partition.copies.setdefault(node, _Copy())
        partition.misjudged = {
            follower: end
            for follower, end in (heard or {}).items()
            if not _holds_all(partition.copies.get(follower) or _Copy(), copy, end)
        }
        disagreement = self._disagreement(partition, copy, partition.committed.end)
        if unclean:
            self._give_up(key, partition, copy, epoch)
        elif disagreement is not None:
            text = f"broker {node} leads epoch {epoch}: {disagreement}"
            if view is not None and node in view.stale_elr:
                self.report.allow(
                    "leader-completeness",
                    f"{self._name(key)}: {text} (elected from an ELR that outlived a reassignment)",
                )
                partition.is_unjudged = True
            else:
                self._add("leader-completeness", key, text)
                self._give_up(key, partition, copy, epoch, is_told=True)

    def _give_up(self, key: Key, partition: _Partition, leader: _Copy, epoch: int, *, is_told: bool = False) -> None:
        """What the new leader has is the truth from now on."""
        committed = partition.committed
        agreed = committed.end
        for batch in committed.batches:
            if batch.base_offset >= leader.log.start and not leader.log.holds(batch):
                agreed = batch.base_offset
                break
        agreed = min(agreed, max(leader.log.end, committed.start))
        if agreed < committed.end and not is_told:
            self.report.allow(
                "acked-loss", f"{self._name(key)}: offsets {agreed} to {committed.end - 1} in an unclean election"
            )
        committed.cut(agreed)
        for copy in partition.copies.values():
            copy.verified = min(copy.verified, agreed)
        partition.lineage_epoch = epoch

    def on_high_watermark(
        self, node: NodeId, key: Key, epoch: int, is_leader: bool, high_watermark: int, start: int, end: int
    ) -> None:
        """B8, B2 and (at a leader that moves the truth) B3."""
        if not start <= high_watermark <= end:
            self._add(
                "watermark-sanity", key, f"broker {node}: high watermark {high_watermark} outside [{start}, {end}]"
            )
        self.marks += 1
        partition = self._partitions.get(key)
        if partition is None or partition.is_unjudged or self.metadata.is_contradictory:
            return
        copy = partition.copies.get(node)
        if copy is None or epoch < partition.lineage_epoch:
            return
        committed = partition.committed
        if start > copy.log.start:
            copy.log.trim(start)
            if is_leader:
                committed.trim(start)
        if is_leader and high_watermark > committed.end:
            disagreement = self._disagreement(partition, copy, committed.end)
            if disagreement is not None:
                self._add(
                    "log-matching", key, f"leader {node} of epoch {epoch} commits {high_watermark}: {disagreement}"
                )
                return
            for batch in copy.log.between(committed.end, high_watermark):
                committed.append(batch)
                partition.seen.pop(id(batch), None)
            committed.end = max(committed.end, high_watermark)
            copy.verified = committed.end
            self._check_candidates(key, partition, is_exact=self.is_exact)
            return
        if high_watermark > committed.end:
            self._add(
                "watermark-sanity",
                key,
                f"follower {node}: high watermark {high_watermark}, committed is {committed.end}",
            )
        end = min(high_watermark, committed.end)
        if not self.is_exact and copy.log.end >= end < copy.verified + _LOOKED_AT:
            return
        disagreement = self._disagreement(partition, copy, end)
        if disagreement is not None:
            self._add("log-matching", key, f"broker {node} (epoch {epoch}): {disagreement}")

    def _check_candidates(self, key: Key, partition: _Partition, *, is_exact: bool = True) -> None:
        """B3: whoever may be elected cleanly holds everything that is committed. Asked when either changes."""
        view = self.metadata.view(key)
        if view is None or (view.unclean_epochs and view.unclean_epochs[-1] > partition.leader_epoch):
            return  # (An unclean election gives up a part of the truth as soon as its leader begins.)
        end = partition.committed.end
        for node in view.isr if not view.elr and not view.reverted else view.candidates():
            copy = partition.copies.get(node)
            if copy is None:
                copy = _Copy()
            if copy.verified >= end or node in self.metadata.unsound:
                continue
            if not is_exact and copy.log.end >= end < copy.verified + _LOOKED_AT:
                continue
            disagreement = self._disagreement(partition, copy, end)
            if disagreement is not None and node in partition.misjudged:
                text = f"broker {node}: {disagreement}"
                self.report.allow("candidate-completeness", f"{self._name(key)}: {text} ({_MISJUDGED})")
                partition.is_unjudged = True
                return
            if disagreement is not None:
                self._add(
                    "candidate-completeness", key, f"broker {node} of ISR {view.isr} or ELR {view.elr}: {disagreement}"
                )

    def _disagreement(self, partition: _Partition, copy: _Copy, end: int) -> str | None:
        """Where ``copy`` differs from the truth below ``end``; None if nowhere."""
        if copy.verified >= end:
            return None
        if copy.log.end < end:
            return f"its log ends at {copy.log.end}, {end} is committed"
        for batch in partition.committed.between(copy.verified, end):
            if batch.base_offset >= copy.log.start and not copy.log.holds(batch):
                return (
                    f"another batch than the committed one at offset {batch.base_offset} (epoch {batch.leader_epoch})"
                )
        copy.verified = end
        return None

    # --- clients -----------------------------------------------------------------------------------------------------

    def on_acked(self, key: Key, batch: RecordBatch, base_offset: int) -> None:
        """P11: what a leader acknowledged at acks=all is committed, and is what was sent."""
        partition = self._of(key)
        if partition.is_unjudged or self.metadata.is_contradictory or base_offset < partition.committed.start:
            return
        found = partition.committed.at(base_offset)
        if found is None or found.columns is not batch.columns:
            what = "nothing" if found is None else "another batch"
            text = f"offset {base_offset} was acknowledged, {what} is committed there (to {partition.committed.end})"
            if partition.lineage_epoch >= 0:
                self.report.allow("acked-loss", f"{self._name(key)}: {text}, after an unclean election")
            else:
                self._add("weak-ack", key, text)

    # --- metadata ----------------------------------------------------------------------------------------------------

    def on_metadata(self, batches: Iterable[MetadataBatch]) -> None:
        """A quorum leader committed these."""
        for batch in batches:
            for key in self.metadata.take(batch):
                partition = self._partitions.get(key)
                if partition is not None and not partition.is_unjudged:
                    self._check_candidates(key, partition)

    def on_controller(self, node: NodeId, epoch: int) -> None:
        """K1, K3: controller epochs rise, and each has one leader."""
        if epoch <= self._controller_epoch:
            text = f"controller {node} is active in epoch {epoch} after {self._controller_epoch}"
            self.report.add("controller-epoch", text, at_us=self._now_us(), cause="two controllers in one epoch")
        self._controller_epoch = max(self._controller_epoch, epoch)

    def on_power_loss(self, node: NodeId) -> None:
        self.metadata.unsound[node] = None

    # --- the end -----------------------------------------------------------------------------------------------------

    def check_converged(self, views: Iterable[tuple[Key, dict[NodeId, int]]]) -> None:
        """B11: once all is healed, every replica's log is the leader's; ``views``: log ends by broker."""
        for key, ends in views:
            view = self.metadata.view(key)
            partition = self._of(key)
            if view is None or view.leader < 0:
                self._add("convergence", key, "no leader")
                continue
            if set(view.isr) != set(view.replicas) or view.adding or view.removing:
                self._add(
                    "convergence",
                    key,
                    f"ISR {view.isr} of replicas {view.replicas}, adding {view.adding}, removing {view.removing}",
                )
            leader = (partition.copies.get(view.leader) or _Copy()).log
            for node in view.replicas:
                own = (partition.copies.get(node) or _Copy()).log
                start = max(leader.start, own.start)
                same = own.end == leader.end and all(
                    one is other
                    for one, other in zip(own.between(start, own.end), leader.between(start, leader.end), strict=False)
                )
                if not same or ends.get(node) != leader.end:
                    self._add(
                        "convergence",
                        key,
                        f"broker {node} ends at {ends.get(node)}, leader {view.leader} at {leader.end}",
                    )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _of(self, key: Key) -> _Partition:
        partition = self._partitions.get(key)
        if partition is None:
            partition = self._partitions[key] = _Partition()
        return partition

    def _begin(self, key: Key, leader_epoch: int) -> _Partition:
        """The first batch of a partition: what its leaders were before makes no difference any more."""
        partition = self._of(key)
        partition.leader_epoch = leader_epoch
        return partition

    def _tp(self, key: Key) -> TopicPartition:
        return TopicPartition(self.metadata.topic_name(key[0]), key[1])

    def _name(self, key: Key) -> str:
        return str(self._tp(key))

    def _add(self, invariant: str, key: Key, text: str) -> None:
        """The first ones are told: a machine that is wrong is wrong all the time."""
        count = self._told[invariant] = self._told.get(invariant, 0) + 1
        if count <= _MOST_TOLD:
            at_us = self._now_us()
            self.report.add(
                invariant, f"{self._name(key)}: {text}", at_us=at_us, tp=self._tp(key), cause=_CAUSES[invariant]
            )
