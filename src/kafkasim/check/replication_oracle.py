"""Replication held to its promises while it runs: white-box, a constant amount of work for each batch that is committed.

Inputs:   the first append of a leader in an epoch (``on_leader_append``), cuts of logs, moves of high watermarks, who leads, what was
          committed to the metadata log. ``kafkasim.watch`` feeds it from a simulated cluster.
Rule 1:   the truth is ``Truth.committed``: what a leader's high watermark has passed. It only grows, unless an unclean election
          (leader recovery state RECOVERING) gives up a part of it: that is allowed, and told.
Rule 2:   the logs are the replicas' own (``check.committed``): what a follower copies is looked at when something is committed.
Rule 3:   leaders of epochs before the last unclean election say nothing about the truth any more. Nor is anything said of a
          partition whose log was compacted, or of a cluster whose metadata log contradicts itself; nor after Kafka's own mistakes
          (docs/fidelity.md): an ELR that outlived a reassignment elected an incomplete leader, or a leader skipped epochs in which
          others led and went on with the log ends that it had known of its followers.
Rule 4:   a partition without records costs nothing.
Rule 5:   an incomplete leader is told once: what it has is the truth from then on, as it is for its followers.
Differs:  LastKnownElr holds the last leader only, as Kafka 4.3 writes it; KIP-966 plans as many as min.insync.replicas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kafkasim.check.committed import Key, ReplicaLog, ReplicaView, Truth
from kafkasim.check.metadata_oracle import MetadataOracle, PartitionView
from kafkasim.check.report import Finding, Report
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.metadata import MetadataBatch
from kafkasim.core.model.records import RecordBatch

_MOST_TOLD = 20
#: Where not every move of a high watermark is looked at closely, so many offsets at most are taken on trust for a while.
_LOOKED_AT = 64
_EVERYTHING = 1 << 62
#: So long after a broker lost data, a fetch from before may still count for it.
_STILL_COUNTED_US = 30_000_000

#: How each promise is broken, in words that many runs share.
_CAUSES = {
    "one-writer-per-epoch": "two brokers wrote in one leader epoch",
    "leader-completeness": "elected without everything that was committed",
    "watermark-sanity": "a high watermark beyond what is committed",
    "log-matching": "replicas differ below the high watermark",
    "candidate-completeness": "in ISR or ELR without everything that was committed",
    "quorum-superset": "committed without waiting for a member of the ISR",
    "global-survival": "committed records are on no replica any more",
    "weak-ack": "acknowledged before it was committed",
    "convergence": "replicas differ after all was healed",
}
_MISJUDGED = "its leader skipped epochs in which others led, and believed what it had heard before, as Kafka 4.3 does"


class ReplicationOracle:
    """``report`` holds what was broken; ``report.allowed`` what unclean elections gave up."""

    def __init__(self, now_us: Callable[[], int] = lambda: 0) -> None:
        self.report = Report()
        #: B7: whether it is a breach only the budget of the run can tell.
        self.losses: list[Finding] = []
        #: How many batches were committed, and how many moves of leaders' high watermarks committed them.
        self.batches = self.marks = 0
        #: Compare logs at every move of a high watermark; else at elections, changes of ISR and ELR, and now and then.
        self.is_exact = True
        #: The logs that brokers have of a partition now.
        self.logs_of: Callable[[Key], Iterable[ReplicaLog]] = lambda _key: ()
        #: Asks for what a server has noted and nobody was told of yet.
        self.take_pending: Callable[[NodeId], None] = lambda _node: None
        self._now_us = now_us
        self._told: dict[str, int] = {}
        self.metadata = MetadataOracle(self.report)
        self.truths: dict[Key, Truth] = {}
        self._controller_epoch = -1
        self._lost_us: dict[NodeId, int] = {}

    def be_exact(self) -> None:
        self.is_exact = True
        for truth in self.truths.values():
            for log in truth.copies.values():
                self._set_verified(log, log.verified)

    # --- logs --------------------------------------------------------------------------------------------------------

    def on_new_log(self, log: ReplicaLog) -> None:
        truth = self.truths.get((log.topic_id, log.partition))
        if truth is not None:
            self._attach(truth, log)

    def on_leader_append(self, log: ReplicaLog, epoch: int, is_compacted: bool = False) -> None:
        """B6: one broker writes in one leader epoch. Told of the first batch that a leader appends in each."""
        truth = log.truth
        if truth is None:
            truth = self._begin((log.topic_id, log.partition), epoch)
        truth.is_unjudged |= is_compacted
        if log.truth is None:
            self._attach(truth, log)
        writer = truth.writers.setdefault(epoch, log.node)
        if writer != log.node and not truth.is_unjudged:
            self._add("one-writer-per-epoch", truth.key, f"brokers {writer} and {log.node} both wrote in epoch {epoch}")

    def on_cut(self, log: ReplicaLog) -> None:
        """The log was truncated, or emptied to go on somewhere else. B7: what is committed is somewhere."""
        truth = log.truth
        if truth is None:
            return
        if log.end < log.verified:
            self._set_verified(log, log.end)
        if log.end < truth.committed.end:
            self._check_survival(truth)

    def on_cleaned(self, log: ReplicaLog) -> None:
        if log.truth is not None:
            log.truth.is_unjudged = True

    def on_data_lost(self, node: NodeId, *, is_all: bool) -> None:
        """A loss of power, or (``is_all``) of the disk."""
        self.metadata.unsound[node] = None
        self._lost_us[node] = self._now_us()
        if is_all:
            for truth in self.truths.values():
                if truth.copies.pop(node, None) is not None:
                    self._check_survival(truth)

    def _check_survival(self, truth: Truth) -> None:
        """B7: every committed record is on a replica, on its disk or in its page cache."""
        end = min(truth.committed.end, truth.survived)
        view = self.metadata.view(truth.key)
        if self._is_silent(truth) or end <= truth.committed.start or view is None or _is_giving_up(truth, view):
            return
        best = 0
        for log in self.logs_of(truth.key):
            if log.truth is truth:
                best = max(best, self._agreed(truth, log, end))
            if best >= end:
                return
        truth.survived = best
        start = max(best, truth.committed.start)
        text = (
            f"{self._name(truth.key)}: offsets {start} to {end - 1}, which were committed, are on no replica any more"
        )
        tp, cause = self.tp(truth.key), _CAUSES["global-survival"]
        self.losses.append(Finding("global-survival", text, self._now_us(), tp, cause))

    def _agreed(self, truth: Truth, log: ReplicaLog, end: int) -> int:
        """How far ``log`` holds what is committed below ``end``."""
        reach = min(log.end, end)
        for batch in truth.committed.between(log.verified, reach):
            if batch.base_offset >= log.start and not log.holds(batch):
                return batch.base_offset
        if reach > log.verified:
            self._set_verified(log, reach)
        return reach

    # --- leaders and marks -------------------------------------------------------------------------------------------

    def on_leader(self, node: NodeId, key: Key, epoch: int, heard: Mapping[NodeId, int] | None = None) -> None:
        """B1: who is elected cleanly holds everything that was committed. ``heard``: log ends that it knows from an epoch before."""
        self.report.count("elections")
        truth = self.truths.get(key)
        if truth is None or truth.is_unjudged or self.metadata.is_contradictory:
            return
        view = self.metadata.view(key)
        is_over = epoch <= truth.leader_epoch or (view is not None and epoch < view.leader_epoch)
        log = truth.copies.get(node)
        if is_over or node in self.metadata.unsound or log is None:
            # It learned late of an epoch that is over; or its process has not registered yet, and serves nobody before.
            return
        unclean = view is not None and any(truth.leader_epoch < e <= epoch for e in view.unclean_epochs)
        truth.leader_epoch = epoch
        truth.misjudged = {
            follower: end
            for follower, end in (heard or {}).items()
            if not _holds_all(truth.copies.get(follower), log, end)
        }
        disagreement = self._disagreement(truth, log, truth.committed.end)
        if unclean:
            self._give_up(truth, log, epoch)
        elif disagreement is not None:
            text = f"broker {node} leads epoch {epoch}: {disagreement}"
            if view is not None and node in view.stale_elr:
                self.report.allow(
                    "leader-completeness",
                    f"{self._name(key)}: {text} (elected from an ELR that outlived a reassignment)",
                )
                truth.is_unjudged = True
            else:
                self._add("leader-completeness", key, text)
                self._give_up(truth, log, epoch, is_told=True)

    def _give_up(self, truth: Truth, leader: ReplicaLog, epoch: int, *, is_told: bool = False) -> None:
        """What the new leader has is the truth from now on."""
        committed = truth.committed
        agreed = committed.end
        for batch in committed.between(min(leader.verified, leader.end), committed.end):
            if batch.base_offset >= leader.start and not leader.holds(batch):
                agreed = batch.base_offset
                break
        agreed = min(agreed, max(leader.end, committed.start))
        if agreed < committed.end and not is_told:
            self.report.allow(
                "acked-loss", f"{self._name(truth.key)}: offsets {agreed} to {committed.end - 1} in an unclean election"
            )
        truth.given_up.update((id(batch), batch) for batch in committed.cut(agreed))
        truth.copied = [entry for entry in truth.copied if entry[0] < agreed]
        for copy in truth.copies.values():
            if copy.verified > agreed:
                self._set_verified(copy, agreed)
        truth.lineage_epoch = epoch

    def on_high_watermark(self, replica: ReplicaView) -> None:
        """B8 and B2 of a replica whose high watermark moved; at a leader that moves the truth more than that."""
        log: ReplicaLog = replica.log
        mark = replica.high_watermark
        truth = log.truth
        if truth is not None and log.start <= mark <= log.end:
            if mark <= truth.committed.end:
                if mark >= log.due:
                    self._match(truth, replica, mark)
                return
            if replica.is_leader:
                self._commit(truth, replica, mark)
                return
        self._look_at_mark(truth, replica)

    def _match(self, truth: Truth, replica: ReplicaView, end: int) -> None:
        """B2, up to ``end``."""
        if self._is_silent(truth) or replica.leader_epoch < truth.lineage_epoch:
            return
        log: ReplicaLog = replica.log
        disagreement = self._disagreement(truth, log, end)
        if disagreement is not None:
            text = f"broker {log.node} (epoch {replica.leader_epoch}): {disagreement}"
            self._add("log-matching", truth.key, text)

    def _look_at_mark(self, truth: Truth | None, replica: ReplicaView) -> None:
        """B8: it is outside its own log, or a follower's is beyond what is committed."""
        log: ReplicaLog = replica.log
        mark, key = replica.high_watermark, (log.topic_id, log.partition)
        if not log.start <= mark <= log.end:
            text = f"broker {log.node}: high watermark {mark} outside [{log.start}, {log.end}]"
            self._add("watermark-sanity", key, text)
        if truth is None or self._is_silent(truth) or replica.leader_epoch < truth.lineage_epoch:
            return
        if mark > truth.committed.end:
            if replica.is_leader:
                self._commit(truth, replica, mark)
                return
            text = f"follower {log.node}: high watermark {mark}, committed is {truth.committed.end}"
            self._add("watermark-sanity", key, text)
        self._match(truth, replica, min(mark, truth.committed.end))

    def _commit(self, truth: Truth, replica: Any, mark: int) -> None:
        """A leader moves the truth: B2 at itself, B3 at whoever may follow it, B4; and how many hold it."""
        self.marks += 1
        log: ReplicaLog = replica.log
        if replica.leader_epoch != truth.leader_epoch:
            self.take_pending(log.node)
        if self._is_silent(truth) or replica.leader_epoch < truth.lineage_epoch:
            return
        committed = truth.committed
        first = committed.end
        disagreement = None if log.verified >= first else self._disagreement(truth, log, first)
        if disagreement is not None:
            text = f"leader {log.node} of epoch {replica.leader_epoch} commits {mark}: {disagreement}"
            self._add("log-matching", truth.key, text)
            return
        at_us = self._now_us()
        batches = log.read(first, _EVERYTHING, mark)
        for batch in batches:
            committed.append(batch, at_us)
        self.batches += len(batches)
        if committed.end < mark:
            committed.end = mark
        self._set_verified(log, mark)
        if log.start > committed.start:
            committed.trim(log.start)
        view = truth.view
        if view is None:
            view = truth.view = self.metadata.view(truth.key)
            if view is None:
                return
        held = len(view.replicas)
        for node in view.replicas:
            copy = truth.copies.get(node)
            if (
                copy is None
                or copy.end < mark
                or (mark >= copy.due and self._disagreement(truth, copy, mark) is not None)
            ):
                held -= 1
        if held < len(view.replicas):
            self._check_candidates(truth, is_exact=self.is_exact, asks=log.node)
        if held != truth.held:
            self._count_copies(truth, replica, view, first, held)
        compared = truth.compared
        if (
            replica.isr is not compared[0]
            or replica.pending_isr is not compared[1]
            or view.isr is not compared[2]
            or view.elr is not compared[3]
            or view.leader_epoch != compared[4]
        ):
            self._check_quorum(truth, replica, view)

    def _count_copies(self, truth: Truth, leader: Any, view: PartitionView, first: int, held: int) -> None:
        """For P11: who lost data a moment ago may have been counted with leave."""
        truth.held = held
        lost_us = self._now_us() - _STILL_COUNTED_US
        recent = [n for n in view.replicas if n in self.metadata.unsound or self._lost_us.get(n, lost_us) > lost_us]
        total = min(len(view.replicas), len(leader.followers) + 1)
        truth.copied.append((first, min(held + len(recent), total), total))

    def _check_quorum(self, truth: Truth, leader: Any, view: PartitionView) -> None:
        """B4: a leader that is not deposed waits for all of ISR and ELR, however late it hears of who is in them."""
        self.take_pending(leader.log.node)
        truth.compared = (leader.isr, leader.pending_isr, view.isr, view.elr, view.leader_epoch)
        if leader.leader_epoch != view.leader_epoch:
            return
        required = view.candidates()
        ignored = [f.node_id for f in leader.followers if not f.in_maximal_isr and f.node_id in required]
        if ignored:
            text = (
                f"leader {leader.log.node} of epoch {leader.leader_epoch} commits {leader.high_watermark} without asking {ignored}: "
                f"its ISR is {leader.isr}, the controller has ISR {view.isr} and ELR {view.elr}"
            )
            self._add("quorum-superset", truth.key, text)

    def _check_candidates(self, truth: Truth, *, is_exact: bool = True, asks: NodeId | None = None) -> None:
        """B3: whoever may be elected cleanly holds everything that is committed. Asked when either changes.

        ``asks``: whose notes may not have been taken yet.
        """
        view = self.metadata.view(truth.key)
        if view is None or _is_giving_up(truth, view):
            return
        end = truth.committed.end
        for node in view.isr if not view.elr and not view.reverted else view.candidates():
            log = truth.copies.get(node)
            if node in self.metadata.unsound or (log is not None and log.verified >= end):
                continue
            if not is_exact and log is not None and log.end >= end < log.due:
                continue
            disagreement = "it has no log" if log is None else self._disagreement(truth, log, end)
            if disagreement is None:
                continue
            if asks is not None:
                self.take_pending(asks)
                self._check_candidates(truth, is_exact=is_exact)
                return
            if node in truth.misjudged:
                text = f"broker {node}: {disagreement}"
                self.report.allow("candidate-completeness", f"{self._name(truth.key)}: {text} ({_MISJUDGED})")
                truth.is_unjudged = True
                return
            text = f"broker {node} of ISR {view.isr} or ELR {view.elr}: {disagreement}"
            self._add("candidate-completeness", truth.key, text)

    def _disagreement(self, truth: Truth, log: ReplicaLog, end: int) -> str | None:
        """Where ``log`` differs from the truth below ``end``; None if nowhere."""
        if log.verified >= end:
            return None
        if log.end < end:
            return f"its log ends at {log.end}, {end} is committed"
        for batch in truth.committed.between(log.verified, end):
            if batch.base_offset >= log.start and not log.holds(batch):
                return (
                    f"another batch than the committed one at offset {batch.base_offset} (epoch {batch.leader_epoch})"
                )
        self._set_verified(log, end)
        return None

    # --- clients -----------------------------------------------------------------------------------------------------

    def on_acked(self, key: Key, batch: RecordBatch, base_offset: int) -> None:
        """P11, at once: what a leader acknowledged at acks=all is committed, and is what was sent. (``check.told`` asks later.)"""
        truth = self.truths.get(key) or self._begin(key, -1)
        committed = truth.committed
        if self._is_silent(truth) or base_offset < committed.start:
            return
        index = committed.index_at(base_offset)
        if index < 0 or committed.batches[index].columns is not batch.columns:
            what = "nothing" if index < 0 else "another batch"
            text = f"offset {base_offset} was acknowledged, {what} is committed there (to {committed.end})"
            if truth.lineage_epoch >= 0:
                self.report.allow("acked-loss", f"{self._name(key)}: {text}, after an unclean election")
            else:
                self._add("weak-ack", key, text)

    # --- metadata ----------------------------------------------------------------------------------------------------

    def on_metadata(self, batches: Iterable[MetadataBatch]) -> None:
        """A quorum leader committed these."""
        for batch in batches:
            for key in self.metadata.take(batch):
                truth = self.truths.get(key)
                if truth is not None and not truth.is_unjudged:
                    self._check_candidates(truth)

    def on_controller(self, node: NodeId, epoch: int) -> None:
        """K1, K3: controller epochs rise, and each has one leader."""
        if epoch <= self._controller_epoch:
            text = f"controller {node} is active in epoch {epoch} after {self._controller_epoch}"
            self.report.add("controller-epoch", text, at_us=self._now_us(), cause="two controllers in one epoch")
        self._controller_epoch = max(self._controller_epoch, epoch)

    # --- the end -----------------------------------------------------------------------------------------------------

    def check_converged(self, views: Iterable[tuple[Key, dict[NodeId, int]]]) -> None:
        """B11: once all is healed, every replica's log is the leader's; ``views``: log ends by broker."""
        for key, ends in views:
            view = self.metadata.view(key)
            if view is None or view.leader < 0:
                self._add("convergence", key, "no leader")
                continue
            if set(view.isr) != set(view.replicas) or view.adding or view.removing:
                self._add(
                    "convergence",
                    key,
                    f"ISR {view.isr} of replicas {view.replicas}, adding {view.adding}, removing {view.removing}",
                )
            truth = self.truths.get(key)
            if truth is not None:
                self._check_equal(truth, view, ends)

    def _check_equal(self, truth: Truth, view: PartitionView, ends: dict[NodeId, int]) -> None:
        leader = truth.copies.get(view.leader)
        for node in view.replicas if leader is not None else ():
            assert leader is not None
            own = truth.copies.get(node)
            same = (
                own is not None
                and own.end == leader.end == ends.get(node)
                and all(map(own.holds, leader.read(max(leader.start, own.start), _EVERYTHING, leader.end)))
            )
            if not same:
                text = f"broker {node} ends at {ends.get(node)}, leader {view.leader} at {leader.end}"
                self._add("convergence", truth.key, text)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, key: Key, leader_epoch: int) -> Truth:
        """The first batch of a partition: what its leaders were before makes no difference any more."""
        truth = self.truths[key] = Truth(key, leader_epoch=leader_epoch)
        for log in self.logs_of(key):
            self._attach(truth, log)
        return truth

    def _attach(self, truth: Truth, log: ReplicaLog) -> None:
        truth.copies[log.node] = log
        log.truth = truth
        self._set_verified(log, 0)

    def _set_verified(self, log: ReplicaLog, end: int) -> None:
        log.verified = end
        log.due = end + (1 if self.is_exact else _LOOKED_AT)

    def _is_silent(self, truth: Truth) -> bool:
        return truth.is_unjudged or self.metadata.is_contradictory

    def tp(self, key: Key) -> TopicPartition:
        return TopicPartition(self.metadata.topic_name(key[0]), key[1])

    def _name(self, key: Key) -> str:
        return str(self.tp(key))

    def _add(self, invariant: str, key: Key, text: str) -> None:
        """The first ones are told: a machine that is wrong is wrong all the time."""
        count = self._told[invariant] = self._told.get(invariant, 0) + 1
        if count <= _MOST_TOLD:
            at_us = self._now_us()
            self.report.add(
                invariant, f"{self._name(key)}: {text}", at_us=at_us, tp=self.tp(key), cause=_CAUSES[invariant]
            )


def _is_giving_up(truth: Truth, view: PartitionView) -> bool:
    """An unclean election gives up a part of the truth as soon as its leader begins."""
    return bool(view.unclean_epochs) and view.unclean_epochs[-1] > truth.leader_epoch


def _holds_all(log: ReplicaLog | None, leader: ReplicaLog, end: int) -> bool:
    """Whether a log is its leader's, up to ``end``."""
    if log is None or log.end < end:
        return False
    return all(map(log.holds, leader.read(max(log.start, leader.start), _EVERYTHING, end)))
