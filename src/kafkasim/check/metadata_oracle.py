"""The committed metadata log held to its promises: what was committed stays, epochs rise, ISR and ELR are what KIP-966 says.

Inputs:   ``take`` each batch when a leader of the quorum commits it; a new leader may commit again what its predecessor had.
Rule 1:   an own replay of the records, apart from the image's: an oracle must not share the code that it judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from kafkasim.check.report import Report
from kafkasim.core.model.ids import NodeId
from kafkasim.core.model.metadata import (
    NO_LEADER_CHANGE,
    RECOVERING,
    BrokerRegistrationChangeRecord,
    ClearElrRecord,
    FeatureLevelRecord,
    MetadataBatch,
    MetadataRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
)

_ELR_FEATURE = "eligible.leader.replicas.version"


@attrs.define(slots=True, eq=False)
class PartitionView:
    """A partition as the committed records have it."""

    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    leader: NodeId
    leader_epoch: int = 0
    elr: tuple[NodeId, ...] = ()
    last_known_elr: tuple[NodeId, ...] = ()
    adding: tuple[NodeId, ...] = ()
    removing: tuple[NodeId, ...] = ()
    #: ELR and LastKnownElr were emptied by ClearElrRecord since the partition lost its leader.
    cleared: bool = False
    #: Nothing has ended the recovery from an unclean election yet: the next one changes no state, and a record says nothing of it.
    is_recovering: bool = False
    #: Leader epochs that began with an unclean election.
    unclean_epochs: tuple[int, ...] = ()
    #: Members of the ELR that were no replicas for a while: Kafka 4.3 keeps them there (docs/fidelity.md), and may elect them.
    stale_elr: tuple[NodeId, ...] = ()
    #: Who got into the ISR because a reassignment was cancelled that left nobody else in it: alive or not, complete or not.
    reverted: tuple[NodeId, ...] = ()

    def candidates(self) -> list[NodeId]:
        """Who may be elected cleanly."""
        nodes = dict.fromkeys((*self.isr, *self.elr))
        return [node for node in nodes if node in self.replicas and node not in (*self.stale_elr, *self.reverted)]


def has_waited(
    replicas_before: Sequence[NodeId],
    adding_before: Sequence[NodeId],
    replicas: Sequence[NodeId],
    adding: Sequence[NodeId],
    isr: Sequence[NodeId],
) -> bool:
    """Whoever is a full replica now was one before, or is in the ISR: a reassignment has waited for those that it added."""
    full_before = [node for node in replicas_before if node not in adding_before]
    return all(node in isr for node in replicas if node not in adding and node not in full_before)


class MetadataOracle:
    def __init__(self, report: Report) -> None:
        #: Brokers whose disks may have lost what they acknowledged, until they register anew.
        self.unsound: dict[NodeId, None] = {}
        #: Something else was committed than before: what is known of partitions means nothing any more.
        self.is_contradictory = False
        #: KIP-966 is in force: the feature eligible.leader.replicas.version.
        self.has_elr = True
        self._report = report
        self._log: list[MetadataBatch] = []
        self._names: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._partitions: dict[str, list[PartitionView]] = {}
        self._inactive: dict[NodeId, None] = {}
        self._broker_epochs: dict[NodeId, int] = {}
        self._in_isr: dict[NodeId, int] = {}

    def view(self, key: tuple[str, int]) -> PartitionView | None:
        partitions = self._partitions.get(key[0], [])
        return partitions[key[1]] if key[1] < len(partitions) else None

    def partitions(self) -> Iterator[tuple[tuple[str, int], PartitionView]]:
        for topic_id, views in self._partitions.items():
            for number, view in enumerate(views):
                yield (topic_id, number), view

    def is_inactive(self, node: NodeId) -> bool:
        """Fenced, about to stop, or never registered."""
        return node in self._inactive or node not in self._broker_epochs

    def topic_id(self, name: str) -> str | None:
        return self._ids.get(name)

    def topic_name(self, topic_id: str) -> str:
        return self._names.get(topic_id, topic_id)

    def take(self, batch: MetadataBatch) -> list[tuple[str, int]]:
        """Returns the partitions that changed."""
        if self.is_contradictory:
            return []
        end = self._log[-1].next_offset if self._log else 0
        if batch.base_offset < end:
            self._compare(batch)
            return []
        if batch.base_offset != end:
            self._contradict(f"a batch at {batch.base_offset} is committed, the log ends at {end}")
            return []
        if self._log and batch.epoch < self._log[-1].epoch:
            self._report.add("epoch-monotony", f"epoch {batch.epoch} at {end} after {self._log[-1].epoch}")
        self._log.append(batch)
        self._report.count("metadata batches")
        changed = [view for view in map(self._replay, batch.records) if view is not None]
        for view in changed:
            self._check(view)
        # (Without ELR the last member of an ISR stays in it, fenced or not.)
        for node in self._inactive if self.has_elr else ():
            if self._in_isr.get(node, 0):
                self._report.add(
                    "fenced-not-in-isr", f"broker {node} is fenced and in {self._in_isr[node]} ISRs at {end}"
                )
        return [(r.topic_id, r.partition) for r in batch.records if isinstance(r, PartitionChangeRecord)]

    def _compare(self, batch: MetadataBatch) -> None:
        """K7: what was committed never changes."""
        low, high = 0, len(self._log)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._log[middle].base_offset < batch.base_offset else (low, middle)
        known = self._log[low] if low < len(self._log) else None
        if known is None or known.base_offset != batch.base_offset or known.records != batch.records:
            self._contradict(f"other records at {batch.base_offset} than were committed before")

    def _contradict(self, text: str) -> None:
        self.is_contradictory = True
        self._report.add("metadata-match", text, cause="committed metadata changed")

    # --- replay --------------------------------------------------------------------------------------------------------

    def _replay(self, record: MetadataRecord) -> PartitionView | None:
        if isinstance(record, PartitionRecord):
            view = PartitionView(
                record.replicas,
                (),
                record.leader,
                record.leader_epoch,
                adding=record.adding_replicas,
                removing=record.removing_replicas,
            )
            self._set_isr(view, record.isr)
            self._partitions[record.topic_id].append(view)
            return view
        if isinstance(record, PartitionChangeRecord):
            view = self._partitions[record.topic_id][record.partition]
            self._change(view, record)
            return view
        if isinstance(record, TopicRecord):
            self._partitions[record.topic_id] = []
            self._names[record.topic_id] = record.name
            self._ids[record.name] = record.topic_id
        elif isinstance(record, RemoveTopicRecord):
            for view in self._partitions.pop(record.topic_id):
                self._set_isr(view, ())
        elif isinstance(record, ClearElrRecord):
            chosen = [self._ids[record.topic_name]] if record.topic_name else list(self._partitions)
            for view in [view for topic_id in chosen for view in self._partitions.get(topic_id, [])]:
                view.elr = view.last_known_elr = ()
                view.cleared = view.leader < 0
                view.stale_elr = ()
        elif isinstance(record, FeatureLevelRecord):
            if record.name == _ELR_FEATURE:
                self.has_elr = record.feature_level > 0
        elif isinstance(record, RegisterBrokerRecord):
            self._register(record)
        elif isinstance(record, BrokerRegistrationChangeRecord):
            if record.fenced > 0 or record.in_controlled_shutdown > 0:
                self._inactive[record.broker_id] = None
            elif record.fenced < 0:
                self._inactive.pop(record.broker_id, None)
        return None

    def _register(self, record: RegisterBrokerRecord) -> None:
        if record.broker_epoch < self._broker_epochs.get(record.broker_id, -1):
            self._report.add(
                "epoch-monotony", f"broker {record.broker_id} got epoch {record.broker_epoch}, smaller than before"
            )
        self._broker_epochs[record.broker_id] = record.broker_epoch
        self.unsound.pop(record.broker_id, None)
        if record.fenced or record.in_controlled_shutdown:
            self._inactive[record.broker_id] = None
        else:
            self._inactive.pop(record.broker_id, None)

    def _change(self, view: PartitionView, record: PartitionChangeRecord) -> None:
        before = attrs.evolve(view)
        known_before = (*view.isr, *view.elr)
        if record.replicas is not None:
            view.replicas = record.replicas
        reverted = self._is_unclean_revert(view, record)
        if record.adding_replicas is not None:
            view.adding = record.adding_replicas
        if record.removing_replicas is not None:
            view.removing = record.removing_replicas
        if record.isr is not None:
            self._set_isr(view, record.isr, record.isr if reverted else ())
        if record.elr is not None:
            view.elr = record.elr
        if record.last_known_elr is not None:
            view.last_known_elr = record.last_known_elr
        if record.leader != NO_LEADER_CHANGE:
            view.leader_epoch += 1
            view.leader = record.leader
            view.cleared = False
            is_again = view.is_recovering and record.leader >= 0 and record.leader not in known_before
            if (
                record.leader_recovery_state == RECOVERING
                or is_again
                or (record.leader >= 0 and record.leader in view.reverted)
            ):
                view.unclean_epochs = (*view.unclean_epochs, view.leader_epoch)
        if record.leader_recovery_state is not None:
            view.is_recovering = record.leader_recovery_state == RECOVERING
        self._remember_stale(view, record, before)

    def _remember_stale(self, view: PartitionView, record: PartitionChangeRecord, before: PartitionView) -> None:
        """Whoever is elected from the ELR brings into the ISR what it is; whoever joins the ISR otherwise has caught up."""
        elected = [node for node in view.stale_elr if node in view.isr and node in (*before.isr, record.leader)]
        known = [node for node in view.stale_elr if node in view.elr]
        gone = [node for node in view.elr if node in before.replicas and node not in (*view.replicas, *known)]
        if not has_waited(before.replicas, before.adding, view.replicas, view.adding, view.isr):
            gone = []
        view.stale_elr = tuple(dict.fromkeys([*known, *elected, *gone])) if known or elected or gone else ()

    def _is_unclean_revert(self, view: PartitionView, record: PartitionChangeRecord) -> bool:
        """Cancelled with nobody left in the ISR, which Kafka does where unclean elections are allowed: the first replica is put in."""
        emptied = (
            (view.adding or view.removing)
            and record.adding_replicas in (None, ())
            and record.removing_replicas in (None, ())
        )
        if not emptied or record.isr is None or record.isr != view.replicas[:1] or record.isr[0] in view.isr:
            return False
        return record.isr[0] not in view.elr or record.leader < 0

    def _set_isr(self, view: PartitionView, isr: tuple[NodeId, ...], reverted: tuple[NodeId, ...] = ()) -> None:
        """``reverted`` are in the ISR without having to be alive, so they are not counted."""
        for node in view.isr:
            self._in_isr[node] -= node not in view.reverted
        for node in isr:
            self._in_isr[node] = self._in_isr.get(node, 0) + (node not in reverted)
        view.isr = isr
        view.reverted = reverted

    # --- promises ------------------------------------------------------------------------------------------------------

    def _check(self, view: PartitionView) -> None:
        """B10, and what ISR, ELR and leader are to one another."""
        if view.leader >= 0 and view.leader not in view.isr:
            self._report.add("leader-in-isr", f"{view}")
        if not set(view.isr) <= set(view.replicas) or set(view.isr) & set(view.elr):
            self._report.add("isr-and-elr", f"{view}")
        if view.leader >= 0 and view.last_known_elr:
            self._report.add("recovery-quorum", f"a leader and a last known leader: {view}")
        if not self.has_elr:
            return
        if view.leader < 0 and (view.isr != view.reverted or (len(view.last_known_elr) != 1 and not view.cleared)):
            self._report.add("recovery-quorum", f"no leader, and not exactly one last known leader: {view}")
