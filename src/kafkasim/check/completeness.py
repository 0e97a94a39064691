"""Whether every partition that a group subscribes to is somebody's, once the group has come to rest.

G6 legal-assignment, the other half of ``check.ownership``: a partition that nobody was given, though the group is stable.

Inputs:   what coordinators noted, the metadata log, faults of servers and of the network; the time of the verdict.     Effects: findings.
Rule 1:   a group is judged when nothing of it has changed for so long that whoever had to give something up has done so or is no
          member any more: the longest rebalance time-out, and a minute. Neither has a fault begun or ended meanwhile, nor is one in force.
Rule 2:   a cooperative assignor leaves out what somebody has to give up first, and gives it out in the next generation. Assignors that
          are not Kafka's own may leave out what they like.
Rule 3:   members learn of new partitions when their metadata are refreshed: what is younger than that, and was made when the group was
          there already, is not asked for.
Rule 4:   work is done per change of a group or of the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from kafkasim.check.report import Report
from kafkasim.core.model.history import GROUP_ASSIGNED, GROUP_GONE, GROUP_STATE, STANDSTILLS, Happened, HistoryEvent
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.metadata import MetadataBatch, PartitionRecord, RemoveTopicRecord, TopicRecord

_STABLE, _CONSUMER = "Stable", "consumer"
#: Assignors that give every partition to somebody who subscribes to it, at once or in a second rebalance.
_COMPLETE = ("range", "roundrobin", "sticky", "cooperative-sticky", _CONSUMER)
_A_MINUTE_US = 60_000_000
#: topic.metadata.refresh.interval.ms, and the wait of metadata.max.age.ms, are five minutes.
_REFRESHED_US = 310_000_000

_UP = ("start", "resume")
_CUT = ("network partition", "network hold")
_MENDED = ("network heal", "network release")
_ALL = ((), ())
_ELECTED = ("became leader", "data lost", "controller-active")


@attrs.define(slots=True, eq=False)
class _Group:
    began_us: int
    changed_us: int = 0
    state: str = ""
    epoch: int = -1
    topics: tuple[str, ...] = ()
    assignor: str = ""
    timeout_us: int = 0
    members: dict[str, tuple[int, tuple[TopicPartition, ...]]] = attrs.field(factory=dict)
    is_told: bool = False


class _Servers:
    """What exists, and whether all is well."""

    def __init__(self) -> None:
        self.unrest_us = 0
        self.down: dict[NodeId, None] = {}
        self.cuts: dict[object, None] = {}
        self._names: dict[str, str] = {}
        #: Topic -> when each of its partitions was made.
        self.made_us: dict[str, dict[int, int]] = {}

    def take(self, event: Happened) -> None:
        kind = event.kind
        if kind == "metadata-committed":
            batches: Any = dict(event.fields)["batches"]
            for batch in batches:
                self._replay(batch, event.at_us)
            return
        if kind in STANDSTILLS:
            self.down[event.node] = None
        elif kind in _UP:
            self.down.pop(event.node, None)
        elif kind in _CUT:
            self.cuts[event.subject] = None
        elif kind in _MENDED:
            self.cuts.pop(event.subject, None)
            if event.subject == _ALL:
                self.cuts.clear()
        elif not kind.startswith(("disk ", "network ")) and kind not in _ELECTED:
            return
        self.unrest_us = event.at_us

    def _replay(self, batch: object, at_us: int) -> None:
        for record in batch.records if isinstance(batch, MetadataBatch) else ():
            if isinstance(record, TopicRecord):
                self._names[record.topic_id] = record.name
                self.made_us[record.name] = {}
            elif isinstance(record, PartitionRecord) and record.topic_id in self._names:
                self.made_us.setdefault(self._names[record.topic_id], {}).setdefault(record.partition, at_us)
            elif isinstance(record, RemoveTopicRecord):
                self.made_us.pop(self._names.get(record.topic_id, ""), None)


def check_completeness(events: Iterable[HistoryEvent], report: Report, now_us: int | None = None) -> None:
    """G6, its second half."""
    groups: dict[str, _Group] = {}
    servers = _Servers()
    for event in events:
        if type(event) is not Happened:
            continue
        if event.kind in (GROUP_STATE, GROUP_ASSIGNED, GROUP_GONE):
            name = str(event.subject)
            group = groups.get(name)
            if group is None:
                group = groups[name] = _Group(event.at_us)
            _judge(name, group, event.at_us, servers, report)
            _take(group, event)
        else:
            servers.take(event)
    for name, group in groups.items():
        _judge(name, group, now_us or 0, servers, report)


def _take(group: _Group, event: Happened) -> None:
    fields: Mapping[str, Any] = dict(event.fields)
    group.changed_us = event.at_us
    if event.kind == GROUP_STATE:
        group.state, group.epoch = fields["state"], fields["epoch"]
        group.topics, group.assignor = tuple(fields.get("topics", ())), fields.get("assignor", "")
        # A new coordinator is not told again how long members may take.
        group.timeout_us = max(group.timeout_us, 1000 * fields.get("rebalance_timeout_ms", 0))
    elif event.kind == GROUP_GONE:
        group.members.pop(fields["member"], None)
    else:
        known = group.members.get(fields["member"])
        partitions = fields["partitions"]
        if partitions is None:
            partitions = () if known is None else known[1]
        group.members[fields["member"]] = (fields["epoch"], tuple(partitions))


def _judge(name: str, group: _Group, at_us: int, servers: _Servers, report: Report) -> None:
    since_us = max(group.changed_us, servers.unrest_us)
    if at_us - since_us < _A_MINUTE_US + group.timeout_us or group.is_told or servers.down or servers.cuts:
        return
    if group.state not in (_STABLE, _CONSUMER) or group.assignor not in _COMPLETE or not group.members:
        return
    report.count("stable groups")
    owned = {
        tp
        for epoch, partitions in group.members.values()
        if group.state == _CONSUMER or epoch == group.epoch
        for tp in partitions
    }
    youngest_us = group.changed_us - _REFRESHED_US
    missing = [
        TopicPartition(topic, number)
        for topic in group.topics
        for number, made_us in sorted(servers.made_us.get(topic, {}).items())
        if (made_us < group.began_us or made_us < youngest_us) and TopicPartition(topic, number) not in owned
    ]
    if missing:
        group.is_told = True
        listed = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        text = f"group {name}: {listed} belong to nobody, though nothing has changed for {(at_us - since_us) // 1_000_000} s"
        cause = "a partition of a stable group is nobody's"
        report.add("legal-assignment", text, at_us=at_us, tp=missing[0], cause=cause)
