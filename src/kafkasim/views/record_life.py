"""What became of one record: sent, acknowledged, kept or lost, given to a group, worked on, committed past.

Inputs:   the history, the logs as they are now, how long clients lived, the metadata with its causes.
Effects:  an explanation whose summary says which of "never acknowledged", "lost", "deleted", "not consumed yet", "passed over", "given
          and not worked on" and "worked on" it is.
Rule 1:   a record is found by its value, by its key where no value is like it, or by its place (topic, partition, offset).
Rule 2:   lost means: acknowledged, and not in the log any more although nothing deleted it; what changed the leader since is its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import DONE, STARTED, Acked, Committed, Delivered, Effected, HistoryEvent
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import RecordBatch
from kafkasim.views.causes import Causes
from kafkasim.views.chain import Chain, Explanation, Link
from kafkasim.views.clients import Clients
from kafkasim.views.facts import Facts
from kafkasim.views.roots import Roots
from kafkasim.views.timeline import Timeline

#: A value or key, or (topic, partition, offset).
Wanted: TypeAlias = "bytes | tuple[str, int, int]"


@attrs.frozen
class LogNow:
    """A partition's log at the end of the run; ``is_known`` is False where nobody leads it."""

    batches: Sequence[RecordBatch]
    start: int
    is_known: bool


@attrs.frozen
class _Found:
    """Where the record is, as its producer or a reader was told; ``acked`` is None where no report names it."""

    tp: TopicPartition
    offset: int
    value: bytes | None
    acked: Acked | None


def explain_record(
    events: Sequence[HistoryEvent],
    facts: Facts,
    static_config: dict[str, str],
    wanted: Wanted,
    group: str | None,
    log_of: Callable[[TopicPartition], LogNow],
    clients: Clients,
    now_us: int,
) -> Explanation:
    """Raises KeyError where no such record was ever sent or read."""
    places = _find(events, wanted)
    name = _name(wanted)
    if not places:
        raise KeyError(f"no record {name}: nobody was told of one with this value, key or place")
    life = _Life(events, facts, static_config, places[0], clients, now_us)
    summary = life.explain(group, log_of(places[0].tp))
    others = [f"{found.tp} offset {found.offset}" for found in places[1:4]]
    if others:
        summary += f"; there are {len(places) - 1} more like it ({', '.join(others)})"
    subject = f"record {name}" if group is None else f"record {name} and group {group}"
    return Explanation(subject, now_us / 1e6, summary, life.state, life.chain.steps())


def _name(wanted: Wanted) -> str:
    if isinstance(wanted, bytes):
        return repr(wanted.decode(errors="replace"))
    return f"{wanted[0]}-{wanted[1]} offset {wanted[2]}"


def _find(events: Sequence[HistoryEvent], wanted: Wanted) -> list[_Found]:
    """Places in the order in which somebody was told of them, each once; a failed report has offset -1."""
    found: dict[tuple[TopicPartition, int], _Found] = {}
    by_key: dict[tuple[TopicPartition, int], _Found] = {}
    for event in events:
        if not isinstance(event, Acked | Delivered):
            continue
        acked = event if isinstance(event, Acked) else None
        columns = event.batch.columns
        for index in range(event.start, event.stop):
            offset = _offset(event, index)
            place = (event.tp, offset)
            if isinstance(wanted, tuple):
                matches, by = wanted == (event.tp.topic, event.tp.partition, offset), found
            elif columns.values[index] == wanted:
                matches, by = True, found
            else:
                matches, by = columns.keys[index] == wanted, by_key
            if matches:
                known = by.get(place)
                if known is None or known.acked is None:
                    by[place] = _Found(event.tp, offset, columns.values[index], acked)
    return list((found or by_key).values())


def _offset(event: Acked | Delivered, index: int) -> int:
    if isinstance(event, Delivered):
        return event.batch.offset_at(index)
    return event.base_offset + index if event.base_offset >= 0 and event.error is ErrorCode.NONE else -1


class _Life:
    def __init__(
        self,
        events: Sequence[HistoryEvent],
        facts: Facts,
        static_config: dict[str, str],
        found: _Found,
        clients: Clients,
        now_us: int,
    ) -> None:
        self.chain = Chain()
        self.state: dict[str, object] = {
            "topic": found.tp.topic,
            "partition": found.tp.partition,
            "offset": found.offset,
        }
        self._events = events
        self._facts = facts
        self._found = found
        self._clients = clients
        self._now_us = now_us
        self._roots = Roots(facts, self.chain)
        self._timeline = Timeline(found.tp, facts.committed, static_config)
        self._causes = Causes(facts, self._timeline, self.chain, self._roots)

    def explain(self, group: str | None, log: LogNow) -> str:
        """The summary; the steps are in the chain."""
        found = self._found
        acked = self._explain_produce()
        if found.offset < 0:
            assert found.acked is not None
            return f"never acknowledged: {found.acked.error.name}"
        fate = self._explain_log(log, acked)
        if group is not None:
            summary = self._explain_group(group, [] if acked is None else [acked])
            return summary if fate is None else f"{fate}; {summary}"
        return fate or f"in the log at {found.tp} offset {found.offset}"

    # --- the log -------------------------------------------------------------------------------------------------

    def _explain_produce(self) -> Link | None:
        acked = self._found.acked
        if acked is None:
            return None
        setting = "all" if acked.acks == -1 else str(acked.acks)
        if self._found.offset < 0:
            text = f"{acked.client} was told that it was not written: {acked.error.name}"
            return self.chain.add(acked.at_us, "produce-failed", 0, text, error=acked.error.name)
        text = f"{acked.client} was told that it is at {acked.tp} offset {self._found.offset} (acks={setting})"
        return self.chain.add(acked.at_us, "acknowledged", 0, text, acks=acked.acks)

    def _explain_log(self, log: LogNow, acked: Link | None) -> str | None:
        """None: it is there."""
        found = self._found
        if not log.is_known:
            self._leader_changes(0)
            return "its partition has no leader now, so nobody can say whether it is still there"
        if found.offset < log.start:
            text = f"the log of {found.tp} begins at {log.start} now: older records were deleted (retention, or DeleteRecords)"
            self.chain.add(self._now_us, "deleted", 0, text, [] if acked is None else [acked], log_start=log.start)
            return "deleted since"
        if self._is_in(log):
            return None
        since_us = found.acked.at_us if found.acked is not None else 0
        because = self._leader_changes(since_us)
        for fact in self._facts.of_partition.get(found.tp, []):
            if fact.kind == "truncated" and fact.at_us >= since_us and fact.fields["log_end"] <= found.offset:
                text = f"broker {fact.node} truncated {found.tp} to {fact.fields['log_end']}, where its new leader's log left off"
                because = [self.chain.add(fact.at_us, "truncated", fact.at_us, text, because, broker=fact.node)]
        text = f"{found.tp} offset {found.offset} " + self._instead(log)
        self.chain.add(self._now_us, "lost", 0, text, because)
        return (
            "lost: acknowledged, and not in the log any more" if found.acked is not None else "not in the log any more"
        )

    def _is_in(self, log: LogNow) -> bool:
        return any(value == self._found.value for value in self._stored(log))

    def _stored(self, log: LogNow) -> list[bytes | None]:
        """What stands at the record's offset now: one value or none."""
        offset = self._found.offset
        for batch in log.batches:
            if batch.base_offset <= offset <= batch.last_offset and not batch.is_control:
                index = batch.index_from(offset)
                if index < len(batch.columns) and batch.offset_at(index) == offset:
                    return [batch.columns.values[index]]
        return []

    def _instead(self, log: LogNow) -> str:
        stored = self._stored(log)
        if stored:
            return f"holds another record now: {stored[0]!r}"
        end = log.batches[-1].next_offset if log.batches else log.start
        return f"is not there: the log ends at {end}" if self._found.offset >= end else "is not there: compacted away"

    def _leader_changes(self, since_us: int) -> list[Link]:
        """Every change of the leader since then, each with its causes; the power losses that took unflushed records."""
        links = [
            self._causes.change(change)
            for change in self._timeline.changes
            if change.at_us >= since_us
            and change.before is not None
            and change.after is not None
            and change.before.leader != change.after.leader
        ]
        losses = [
            self._roots.link(fact)
            for fact in self._facts.processes
            if fact.kind == "power_loss" and fact.at_us >= since_us
        ]
        return [*losses, *links]

    # --- the group -----------------------------------------------------------------------------------------------

    def _explain_group(self, group: str, because: list[Link]) -> str:
        tp, offset = self._found.tp, self._found.offset
        given: list[Link] = []
        worked: list[Link] = []
        passed: Link | None = None
        committed = -1
        was_done = False
        for event in self._events:
            if isinstance(event, Delivered) and event.group == group and event.tp == tp:
                first = event.batch.offset_at(event.start)
                if first <= offset <= event.batch.offset_at(event.stop - 1):
                    given.append(self._given(event, because))
                elif given and passed is None and first > offset and event.client != given[-1].data["client"]:
                    passed = self._resumed(event, first, given[-1])
            elif isinstance(event, Effected) and event.group == group and (event.tp, event.offset) == (tp, offset):
                worked.append(self._worked(event, given))
                was_done |= event.phase == DONE
            elif isinstance(event, Committed) and event.group == group:
                for where, value, error in event.offsets:
                    if where == tp and error is ErrorCode.NONE:
                        committed = value
                        if value > offset and passed is None:
                            passed = self._passed(event, value, worked or given or because)
        self.state |= {"deliveries": len(given), "committed": committed, "worked_on": was_done}
        if was_done:
            return "worked on"
        for link in given:
            self._end_of(str(link.data["client"]), link, passed)
        return self._undone(group, given, passed, committed)

    def _given(self, event: Delivered, because: list[Link]) -> Link:
        text = f"{self._clients.label(event.client)} was given it"
        return self.chain.add(event.at_us, "delivered", event.at_us, text, because, client=event.client)

    def _worked(self, event: Effected, given: list[Link]) -> Link:
        words = {STARTED: "began to work on it", DONE: "was done with it"}
        text = f"sink {event.sink} {words.get(event.phase, f'was worked on with it: {event.phase}')}"
        return self.chain.add(event.at_us, f"work-{event.phase}", event.at_us, text, given[-1:], sink=event.sink)

    def _resumed(self, event: Delivered, first: int, given: Link) -> Link:
        """Another member begins behind it, though nobody was told of a commit: one was accepted and its answer never arrived."""
        text = (
            f"{self._clients.label(event.client)} begins {self._found.tp} at {first}: a commit past it had been accepted, "
            f"though no member was told so"
        )
        because = [link for link in (self._end_of(str(given.data["client"]), given), given) if link is not None][:1]
        return self.chain.add(event.at_us, "resumed-past", event.at_us, text, because, offset=first)

    def _passed(self, event: Committed, value: int, because: list[Link]) -> Link:
        text = f"{self._clients.label(event.client)} committed {self._found.tp} at {value}, past it: the group will not come back"
        return self.chain.add(event.at_us, "committed", event.at_us, text, because[-1:], offset=value)

    def _end_of(self, client: str, given: Link, passed: Link | None = None) -> Link | None:
        ended_us = self._clients.ended_us(client)
        if ended_us is None:
            return None
        because = [given] if passed is None or passed.at_us > ended_us else [given, passed]
        return self.chain.add(
            ended_us,
            "client-ended",
            client,
            f"{self._clients.label(client)} ended (closed or killed)",
            because,
            client=client,
        )

    def _undone(self, group: str, given: list[Link], passed: Link | None, committed: int) -> str:
        if passed is not None and given:
            return f"lost for {group}: given to it, committed past at {passed.at_us / 1e6:.6f} s, and never worked on"
        if passed is not None:
            return f"passed over by {group}: committed past at {passed.at_us / 1e6:.6f} s without being given"
        if given:
            return f"given to {group} and not worked on: its committed offset is {committed}, so it will be given again"
        return f"not consumed yet: {group} has committed {'nothing' if committed < 0 else committed}"
