"""The budget of a run: which losses its faults excuse, because more was harmed at once than must survive.

Mirrors:  KIP-966: whoever is in ISR or ELR holds every committed record; up to min.insync.replicas - 1 of them may lose data at once.
Inputs:   a history: what power losses and replaced disks took, the committed metadata log, who began to lead with which log end.
Rule 1:   a partition is over its budget when nobody in ISR and ELR is left whole, and at least min.insync.replicas of them were harmed
          before they were healed, one of them by a loss of data. A replica is healed when it catches up and joins the ISR again (to
          be elected from the ELR is not to catch up), when another joins the ISR that it leads, or when it is seen to hold
          everything at the next loss and its broker has registered since: until then the controller may have to strike it.
          A killed process loses nothing; but the controller cannot know, and strikes its replicas from ISR and ELR when it comes back:
          that is harm too.
Rule 2:   a loss happens when a leader begins with a log end at or below the record. It is excused if the partition was over its budget
          then, if the election was an unclean one that a setting or an operator allows, if it was one from an ELR that outlived a
          reassignment (as Kafka 4.3 has it), or if the topic was deleted.
Rule 3:   everything is read from the history when somebody first asks: a run that lost nothing pays nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import attrs

from kafkasim.check.metadata_oracle import has_waited
from kafkasim.core.model.admin_messages import BROKER_RESOURCE, TOPIC_RESOURCE
from kafkasim.core.model.history import Happened, HistoryEvent
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.metadata import (
    NO_LEADER_CHANGE,
    RECOVERING,
    ClearElrRecord,
    ConfigRecord,
    MetadataBatch,
    MetadataRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
)

_MIN_ISR = "min.insync.replicas"
_UNCLEAN = "unclean.leader.election.enable"
#: A setting that was in force so long before an acknowledgement may be the one under which the record was taken.
_SETTLED_US = 5_000_000
_UNCLEAN_ELECTION = 1
_FOR_EVER = 1 << 62
_STRUCK = "came back from an unclean stop"


@attrs.frozen
class Overrun:
    """From ``at_us`` on, until its replicas are healed, nothing acknowledged before is owed of ``tp``."""

    tp: TopicPartition
    at_us: int
    reason: str

    def __str__(self) -> str:
        return f"{self.at_us / 1e6:.6f} s: {self.tp}: {self.reason}"


@attrs.frozen
class _Start:
    """A leader began. ``reason`` excuses what was at or above ``log_end``; None: nothing does."""

    at_us: int
    log_end: int
    reason: str | None


@attrs.define(slots=True, eq=False)
class _Part:
    tp: TopicPartition
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    elr: tuple[NodeId, ...]
    leader_epoch: int
    #: Who lost data while it had to hold everything -> when, and how; who of them has left the ISR since.
    harmed: dict[NodeId, tuple[int, str]] = attrs.field(factory=dict)
    away: dict[NodeId, None] = attrs.field(factory=dict)
    #: The ELR was emptied by a change of settings: the ISR alone has to hold everything.
    is_cleared: bool = False
    #: Members of the ELR that were no replicas for a while: Kafka 4.3 leaves them there.
    strangers: dict[NodeId, None] = attrs.field(factory=dict)
    adding: tuple[NodeId, ...] = ()
    #: Nothing has ended the recovery from an unclean election: the next one changes no state, and its record says nothing of it.
    is_recovering: bool = False
    is_over: bool = False
    #: Leader epoch -> what excuses its beginning; the newest one that a broker has noted.
    excuses: dict[int, str] = attrs.field(factory=dict)
    noted_epoch: int = -1

    def members(self) -> list[NodeId]:
        return list(dict.fromkeys((*self.isr, *self.elr)))


class Budget:
    """What the faults of a history excuse.

    Args:
        events: the history.
        min_insync: min.insync.replicas of topics that have no setting of their own in the metadata log.
        unclean: topics with unclean.leader.election.enable, where the metadata log does not say so.
    """

    def __init__(
        self,
        events: Iterable[HistoryEvent],
        min_insync: Mapping[str, int] | None = None,
        unclean: Container[str] = (),
    ) -> None:
        self._events: Iterable[HistoryEvent] | None = events
        self._default_min_insync = min_insync or {}
        self._default_unclean = unclean
        self._overruns: list[Overrun] = []
        self._parts: dict[tuple[str, int], _Part] = {}
        self._by_tp: dict[TopicPartition, _Part] = {}
        self._starts: dict[TopicPartition, list[_Start]] = {}
        #: From when until when partitions were over their budget.
        self._spans: dict[TopicPartition, list[tuple[int, int]]] = {}
        self._names: dict[str, str] = {}
        self._known_names: dict[str, None] = {}
        #: (resource, setting) -> (from when, value); the empty resource is the default of all brokers.
        self._settings: dict[tuple[str, str], list[tuple[int, str | None]]] = {}
        self._unclean_requests: dict[tuple[int, int], None] = {}
        self._epochs: dict[int, int] = {}
        self._next_offset = 0
        self._replaced: dict[NodeId, None] = {}
        #: Brokers that lost data and have not registered since.
        self._unregistered: dict[NodeId, None] = {}
        #: Those that register with the batch in hand.
        self._registering: list[NodeId] = []
        self._quorum_lost: tuple[int, str] | None = None

    @property
    def overruns(self) -> list[Overrun]:
        """When, and why, partitions went over their budget: in order of time, once for each time."""
        self._read()
        return self._overruns

    def excuse(self, tp: TopicPartition, offset: int, at_us: int) -> str | None:
        """Why what was acknowledged at ``offset``, and told at ``at_us``, need not be there; None: it is owed."""
        self._read()
        if self._quorum_lost is not None:
            return self._quorum_lost[1]
        is_owed_since = False
        for start in reversed(self._starts.get(tp, ())):
            if start.log_end > offset:
                continue
            if start.reason is None:
                is_owed_since = True
            elif at_us <= start.at_us or not is_owed_since:
                return start.reason
        return None

    def is_over(self, tp: TopicPartition, at_us: int) -> bool:
        """Nothing is owed of ``tp`` just then, or of nobody any more."""
        self._read()
        return self._quorum_lost is not None or any(start <= at_us <= end for start, end in self._spans.get(tp, ()))

    def min_insync(self, topic: str, at_us: int, now: int) -> int:
        """The smallest min.insync.replicas under which a record acknowledged at ``at_us`` can have been taken; ``now`` is today's."""
        self._read()
        listed = self._settings.get((topic, _MIN_ISR))
        if listed is None or len(listed) < 2:
            return now
        in_force = (
            int(value or self._default_min_insync.get(topic, now))
            for index, (since_us, value) in enumerate(listed)
            if since_us <= at_us and (index + 1 == len(listed) or listed[index + 1][0] > at_us - _SETTLED_US)
        )
        return min(in_force, default=now)

    def least_min_insync(self, topic: str, until_us: int) -> int:
        """The smallest min.insync.replicas that was ever in force until then: who leads may hear late of another."""
        self._read()
        listed = [value for since_us, value in self._settings.get((topic, _MIN_ISR), ()) if since_us <= until_us]
        has_own = bool(listed) and None not in listed
        if not has_own and (len(listed) > 1 or ("", _MIN_ISR) in self._settings):
            return 1  # What the default was then is not known.
        values = [int(value) for value in listed if value is not None]
        return min(values, default=self._default_min_insync.get(topic, 1))

    # --- reading the history -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        events, self._events = self._events, None
        for event in events or ():
            if type(event) is Happened:
                self._take(event)

    def _take(self, event: Happened) -> None:
        kind, node = event.kind, event.node
        if kind == "metadata-committed":
            self._take_committed(event)
        elif kind == "became leader":
            self._take_leader(event)
        elif kind == "metadata-written":
            self._take_written(event)
        elif kind == "disk replaced":
            self._replaced[node] = None
        elif kind == "data lost":
            fields: Any = dict(event.fields)
            self._unregistered[node] = None
            for tp, _log_end, whole in fields["partitions"]:
                if tp in self._by_tp:
                    self._harm(self._by_tp[tp], node, (event.at_us, str(fields["how"])), whole)

    def _harm(self, part: _Part, node: NodeId, what: tuple[int, str], whole: Sequence[NodeId]) -> None:
        if node not in whole and node in part.members():
            part.harmed[node] = what
            part.away.pop(node, None)
        members = part.members()
        trusted = [other for other in members if other in whole and other not in self._unregistered]
        for healed in [other for other in trusted if other in part.harmed]:
            del part.harmed[healed]
            part.away.pop(healed, None)
        self._look(part, what[0])

    def _look(self, part: _Part, at_us: int) -> None:
        """Is it over its budget now?"""
        reason = self._over(part)
        if reason is not None and not part.is_over:
            self._overruns.append(Overrun(part.tp, at_us, reason))
            self._spans.setdefault(part.tp, []).append((at_us, _FOR_EVER))
        elif reason is None and part.is_over:
            self._spans[part.tp][-1] = (self._spans[part.tp][-1][0], at_us)
        part.is_over = reason is not None

    def _over(self, part: _Part) -> str | None:
        if not part.harmed or any(node not in part.harmed for node in part.members()):
            return None
        copies = min(self._min_insync_now(part.tp.topic), len(part.replicas))
        if len(part.harmed) < (1 if part.is_cleared else copies):
            return None
        by_way: dict[str, list[NodeId]] = {}
        for node, (_at_us, how) in part.harmed.items():
            by_way.setdefault(how, []).append(node)
        if list(by_way) == [_STRUCK]:
            return None
        who = " and ".join(
            f"broker{'s' if len(nodes) > 1 else ''} {', '.join(map(str, sorted(nodes)))} {how}"
            for how, nodes in sorted(by_way.items(), key=lambda item: item[0] == _STRUCK)
        )
        times = [at_us for at_us, _how in part.harmed.values()]
        within = f" within {(max(times) - min(times)) / 1e6:g} s" if len(times) > 1 else ""
        cleared = ", after a change of settings had emptied the ELR" if part.is_cleared else ""
        return f"{who}{within}: no copy that had to hold it was left{cleared}"

    def _min_insync_now(self, topic: str) -> int:
        return int(self._setting(topic, _MIN_ISR) or self._default_min_insync.get(topic, 1))

    def _setting(self, topic: str, name: str) -> str | None:
        for resource in (topic, ""):
            listed = self._settings.get((resource, name))
            if listed and listed[-1][1] is not None:
                return listed[-1][1]
        return None

    # --- leaders -------------------------------------------------------------------------------------------------------

    def _take_leader(self, event: Happened) -> None:
        fields: Any = dict(event.fields)
        tp: Any = event.subject
        part = self._by_tp.get(tp)
        if part is None:
            return
        epoch = int(fields["leader_epoch"])
        told = [part.excuses[e] for e in range(part.noted_epoch + 1, epoch + 1) if e in part.excuses]
        reason = told[-1] if told else self._over(part)
        part.noted_epoch = max(part.noted_epoch, epoch)
        self._starts.setdefault(tp, []).append(_Start(event.at_us, int(fields["log_end"]), reason))

    # --- metadata ------------------------------------------------------------------------------------------------------

    def _take_written(self, event: Happened) -> None:
        fields: Any = dict(event.fields)
        if getattr(fields["cause"], "election_type", None) == _UNCLEAN_ELECTION:
            self._unclean_requests[int(fields["offset"]), int(fields["epoch"])] = None

    def _take_committed(self, event: Happened) -> None:
        """A new leader may commit again what its predecessor had; something else in its place is a loss of the quorum's."""
        batches: Any = dict(event.fields)["batches"]
        for batch in batches:
            if not isinstance(batch, MetadataBatch):
                return  # Read from a file: metadata come back as texts.
            if batch.base_offset < self._next_offset:
                if self._epochs.get(batch.base_offset) != batch.epoch and self._replaced:
                    self._lose_quorum(event.at_us)
                continue
            self._epochs[batch.base_offset] = batch.epoch
            self._next_offset = batch.next_offset
            is_asked = (batch.base_offset, batch.epoch) in self._unclean_requests
            self._registering = [r.broker_id for r in batch.records if isinstance(r, RegisterBrokerRecord)]
            for record in batch.records:
                self._replay(record, event.at_us, is_asked)

    def _lose_quorum(self, at_us: int) -> None:
        if self._quorum_lost is None:
            who = ", ".join(map(str, sorted(self._replaced)))
            reason = f"the quorum lost what it had committed, after {who} got an empty disk"
            self._quorum_lost = (at_us, reason)
            self._overruns += [Overrun(tp, at_us, reason) for tp in self._by_tp]

    def _replay(self, record: MetadataRecord, at_us: int, is_asked: bool) -> None:
        if isinstance(record, TopicRecord):
            self._names[record.topic_id] = record.name
            self._set(record.name, _MIN_ISR, at_us, None)
        elif isinstance(record, PartitionRecord):
            self._begin(record)
        elif isinstance(record, PartitionChangeRecord):
            part = self._parts.get((record.topic_id, record.partition))
            if part is not None:
                self._change(part, record, at_us, is_asked)
        elif isinstance(record, RemoveTopicRecord):
            name = self._names.get(record.topic_id, "")
            self._known_names[name] = None
            for part in [part for (topic_id, _number), part in self._parts.items() if topic_id == record.topic_id]:
                del self._parts[record.topic_id, part.tp.partition]
                del self._by_tp[part.tp]
        elif isinstance(record, ConfigRecord) and record.name in (_MIN_ISR, _UNCLEAN):
            if record.resource_type == TOPIC_RESOURCE or (
                record.resource_type == BROKER_RESOURCE and not record.resource_name
            ):
                self._set(record.resource_name, record.name, at_us, record.value)
        elif isinstance(record, RegisterBrokerRecord):
            self._unregistered.pop(record.broker_id, None)
        elif isinstance(record, ClearElrRecord):
            for part in self._by_tp.values():
                if record.topic_name in ("", part.tp.topic):
                    part.is_cleared |= bool(part.elr)
                    part.elr = ()
                    self._look(part, at_us)

    def _set(self, resource: str, name: str, at_us: int, value: str | None) -> None:
        """What is set together with a topic's creation is all that was ever in force then."""
        listed = self._settings.setdefault((resource, name), [])
        if listed and listed[-1][0] == at_us:
            value = listed.pop()[1] if value is None else value
        listed.append((at_us, value))

    def _begin(self, record: PartitionRecord) -> None:
        name = self._names.get(record.topic_id, "")
        tp = TopicPartition(name, record.partition)
        part = _Part(tp, record.replicas, record.isr, record.elr, record.leader_epoch, adding=record.adding_replicas)
        if name in self._known_names:
            part.excuses[record.leader_epoch] = "its topic was deleted, and made again under the same name"
        self._parts[record.topic_id, record.partition] = self._by_tp[tp] = part

    def _change(self, part: _Part, record: PartitionChangeRecord, at_us: int, is_asked: bool) -> None:
        kept = (
            *(part.isr if record.isr is None else record.isr),
            *(part.elr if record.elr is None else record.elr),
        )
        for node in [node for node in self._registering if node in part.members() and node not in kept]:
            part.harmed.setdefault(node, (at_us, _STRUCK))
            part.away[node] = None
        if record.leader != NO_LEADER_CHANGE:
            part.leader_epoch += 1
            reason = self._over(part) or self._unclean(part, record, is_asked) or _from_stale_elr(part, record)
            if reason is not None:
                part.excuses[part.leader_epoch] = reason
        if record.leader_recovery_state is not None:
            part.is_recovering = record.leader_recovery_state == RECOVERING
        adding = part.adding if record.adding_replicas is None else record.adding_replicas
        replicas = part.replicas if record.replicas is None else record.replicas
        leaving = [node for node in part.replicas if node not in replicas]
        if not has_waited(part.replicas, part.adding, replicas, adding, record.isr or part.isr):
            leaving = []
        part.replicas, part.adding = replicas, adding
        if record.elr is not None:
            part.elr = record.elr
        if record.isr is not None:
            joined = [node for node in record.isr if node not in part.isr and node != record.leader]
            part.isr = record.isr
            for node in [node for node in part.harmed if node not in part.isr]:
                part.away[node] = None
            for node in [node for node in part.isr if joined and node in part.away]:
                del part.away[node], part.harmed[node]
            part.is_cleared &= len(part.isr) < self._min_insync_now(part.tp.topic)
        part.strangers = dict.fromkeys(node for node in (*part.strangers, *leaving) if node in part.elr)
        self._look(part, at_us)

    def _unclean(self, part: _Part, record: PartitionChangeRecord, is_asked: bool) -> str | None:
        """An election that gives up what the new leader lacks, where somebody has allowed that."""
        is_again = part.is_recovering and record.leader not in part.members()
        if record.leader < 0 or not (record.leader_recovery_state == RECOVERING or is_again):
            return None
        if is_asked:
            return f"an unclean election of broker {record.leader} was asked for"
        setting = self._setting(part.tp.topic, _UNCLEAN)
        if part.tp.topic in self._default_unclean if setting is None else setting.lower() == "true":
            return f"an unclean election of broker {record.leader}, as {_UNCLEAN} allows"
        return None


def _from_stale_elr(part: _Part, record: PartitionChangeRecord) -> str | None:
    if record.leader not in part.strangers:
        return None
    return f"broker {record.leader} was elected from an ELR in which a reassignment had left it, as Kafka 4.3 does"
