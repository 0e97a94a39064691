"""Why a partition is as it is: from its leader, ISR and ELR back to the faults and requests that made them so.

Mirrors:  what an operator puts together from controller and broker logs ("Shrinking ISR", "Fencing broker", ...).
Inputs:   the facts of a run, a partition, a time.
Rule 1:   what is explained is the state: the last change of the leader, of each replica that is missing from the ISR, of the ELR and
          of a reassignment; earlier episodes that are over stay out.
Rule 2:   a change follows from what the controller had in hand when it wrote it, and that from the fault behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kafkasim.core.controller.image import PartitionState
from kafkasim.core.model.ids import NO_LEADER, NodeId, TopicPartition
from kafkasim.core.model.metadata import TopicRecord
from kafkasim.views.causes import Causes, leader_of
from kafkasim.views.chain import Chain, Explanation
from kafkasim.views.facts import Fact, Facts
from kafkasim.views.roots import Roots
from kafkasim.views.timeline import Change, Timeline


def explain_partition(
    facts: Facts, static_config: dict[str, str], tp: TopicPartition, at_us: int, voters: Iterable[NodeId]
) -> Explanation:
    """The chain of ``tp`` as the metadata had it at ``at_us``. KeyError, ValueError: there was no such partition then."""
    committed = [batch for batch in facts.committed if batch.at_us <= at_us]
    timeline = Timeline(tp, committed, static_config)
    if not timeline.changes:
        _refuse(facts, static_config, tp, at_us, timeline)
    return _Why(facts, timeline, at_us, tuple(voters)).explain()


def _refuse(facts: Facts, static_config: dict[str, str], tp: TopicPartition, at_us: int, then: Timeline) -> None:
    ever = Timeline(tp, facts.committed, static_config)
    if ever.changes:
        made = ever.changes[0].at_us / 1e6
        raise ValueError(f"why({tp.topic!r}, {tp.partition}, at={at_us / 1e6:.6f}): made only at {made:.6f} s")
    if ever.partition_count or then.partition_count:
        count = ever.partition_count
        raise KeyError(f"no partition {tp.partition} of {tp.topic!r}: it has {count}, numbered from 0")
    records = [record for batch in facts.committed for record in batch.batch.records]
    names = sorted({record.name for record in records if isinstance(record, TopicRecord)})
    raise KeyError(f"no topic {tp.topic!r}: this cluster had {names or 'none'} so far")


class _Why:
    def __init__(self, facts: Facts, timeline: Timeline, at_us: int, voters: tuple[NodeId, ...]) -> None:
        self._facts = facts
        self._timeline = timeline
        self._at_us = at_us
        self._voters = voters
        self._chain = Chain()
        self._roots = Roots(facts, self._chain)
        self._causes = Causes(facts, timeline, self._chain, self._roots)

    def explain(self) -> Explanation:
        timeline = self._timeline
        state = timeline.state
        for change in self._relevant(state):
            self._causes.change(change)
        if state is not None:
            self._explain_minimum(state)
            if state.leader == NO_LEADER:
                self._explain_waiting(state)
            self._explain_produces(state)
            self._explain_silent(state)
            self._explain_controller()
        return Explanation(
            str(timeline.tp),
            self._at_us / 1e6,
            self._summary(state),
            _data(state, timeline.min_isr),
            self._chain.steps(),
        )

    # --- the state as metadata have it ---------------------------------------------------------------------------------

    def _relevant(self, state: PartitionState | None) -> list[Change]:
        """The last changes of whatever is special about the state, oldest first; and the last change of all."""
        changes = self._timeline.changes
        chosen = [changes[-1]]
        if state is not None:
            chosen.append(self._last(lambda before, after: before.leader != after.leader))
            chosen += [self._last(_left_isr(node)) for node in state.replicas if node not in state.isr]
            chosen += [self._last(_joined_elr(node)) for node in state.elr]
            if state.adding_replicas or state.removing_replicas:
                chosen.append(self._last(_started_reassignment))
        return [change for change in changes if change in chosen]

    def _last(self, is_it: Callable[[PartitionState, PartitionState], bool]) -> Change:
        """The last change that fits; the creation if none does."""
        for change in reversed(self._timeline.changes):
            if change.before is None or change.after is None or is_it(change.before, change.after):
                return change
        return self._timeline.changes[0]

    def _summary(self, state: PartitionState | None) -> str:
        if state is None:
            return "deleted"
        in_sync, min_isr = f"ISR {list(state.isr)}", self._timeline.min_isr
        if state.leader == NO_LEADER:
            text = f"offline: no leader, {in_sync}"
        else:
            text = f"leader {state.leader} (epoch {state.leader_epoch}), {in_sync} of replicas {list(state.replicas)}"
        if state.elr:
            text += f", ELR {list(state.elr)}"
        if state.last_known_elr:
            text += f", last known leader {state.last_known_elr[0]}"
        if state.adding_replicas or state.removing_replicas:
            text += f", reassignment in progress (adding {list(state.adding_replicas)}, removing {list(state.removing_replicas)})"
        if state.leader != NO_LEADER and len(state.isr) < min_isr:
            text += f"; below min.insync.replicas ({min_isr}): produce with acks=all is refused"
        return text

    # --- what it means -------------------------------------------------------------------------------------------------

    def _explain_minimum(self, state: PartitionState) -> None:
        """A minimum that was raised since the topic was made."""
        for config in self._timeline.configs:
            if config.key == "min.insync.replicas" and len(state.isr) < self._timeline.min_isr:
                self._causes.config(config)

    def _explain_waiting(self, state: PartitionState) -> None:
        """Offline: who may lead, and where they are."""
        timeline, chain = self._timeline, self._chain
        because = [link for link in (self._causes.find(change) for change in timeline.changes) if link is not None][-1:]
        if state.elr:
            waiting, rule = state.elr, "only a member of the ELR may lead"
        elif len(state.last_known_elr) == 1:
            waiting, rule = state.last_known_elr, "ISR and ELR are empty, so only the last known leader may lead"
        else:
            waiting, rule = (), "ISR and ELR are empty and no last known leader is recorded"
        where = []
        for node in waiting:
            links = self._roots.silence_of(node, self._at_us, self._voters)
            because += links
            silent = links[0].text.partition(" ")[2].partition(" ")[2] if links else ""
            where.append(f"broker {node} ({silent or timeline.broker_state(node)})")
        text = f"offline: {rule}" + (f"; waits for {' or '.join(where)}" if where else "")
        if timeline.unclean:
            text += "; unclean.leader.election.enable is true, so any live replica will do"
        else:
            text += "; unclean.leader.election.enable is false"
        chain.add(self._at_us, "waiting", "", text, because, waiting_for=tuple(waiting), unclean=timeline.unclean)

    def _explain_produces(self, state: PartitionState) -> None:
        """Produces that failed since the last change."""
        since_us = self._timeline.changes[-1].at_us
        because = [
            link for link in (self._causes.find(change) for change in self._timeline.changes) if link is not None
        ]
        because += [
            link for link in (self._chain.find("config", c) for c in self._timeline.configs) if link is not None
        ]
        for fact in self._partition_facts("produce failed"):
            if fact.at_us >= since_us and fact.node == state.leader:
                error, isr = fact.fields["error"], list(fact.fields["isr"])
                self._chain.add(
                    fact.at_us,
                    "produce-failed",
                    (fact.at_us, error),
                    f"produce to leader {fact.node} failed: {error.name} (ISR {isr}, min.insync.replicas {fact.fields['min_isr']})",
                    because[-1:],
                    broker=fact.node,
                    error=error.name,
                )

    def _explain_silent(self, state: PartitionState) -> None:
        """Replicas that are down or cut off and that the controller still counts on."""
        active = leader_of(self._facts, self._roots, self._at_us)
        timeout_s = self._timeline.image.broker_int("broker.session.timeout.ms") / 1000
        for node in state.isr:
            if self._timeline.broker_state(node) != "active":
                continue
            what = "leader" if node == state.leader else "member of the ISR"
            hearing = [node] if active is None else [active]
            links = self._roots.silence_of(node, self._at_us, hearing)
            text = (
                f"broker {node}, {what}, is still unfenced: its session lasts {timeout_s:g} s after its last heartbeat"
            )
            if not links and node != state.leader:
                links = self._roots.silence_of(node, self._at_us, [state.leader])
                text = f"broker {node}, {what}, is out of the leader's reach; the controller hears its heartbeats"
            if links:
                self._chain.add(self._at_us, "not-fenced-yet", node, text, links, broker=node)

    def _explain_controller(self) -> None:
        """Nothing changes while no controller is active."""
        active = leader_of(self._facts, self._roots, self._at_us)
        if active is None:
            because = [
                link for node in self._voters for link in self._roots.silence_of(node, self._at_us, self._voters)
            ]
            text = "no controller is active: leaders and ISRs stay as they are, brokers go on serving"
            self._chain.add(self._at_us, "no-controller", "", text, because)

    def _partition_facts(self, kind: str) -> list[Fact]:
        of_partition = self._facts.of_partition.get(self._timeline.tp, [])
        return [fact for fact in of_partition if fact.kind == kind and fact.at_us <= self._at_us]


def _left_isr(node: NodeId) -> Callable[[PartitionState, PartitionState], bool]:
    return lambda before, after: node in before.isr and node not in after.isr


def _joined_elr(node: NodeId) -> Callable[[PartitionState, PartitionState], bool]:
    return lambda before, after: node in after.elr and node not in before.elr


def _started_reassignment(before: PartitionState, after: PartitionState) -> bool:
    return (before.adding_replicas, before.removing_replicas) != (after.adding_replicas, after.removing_replicas)


def _data(state: PartitionState | None, min_isr: int) -> dict[str, Any]:
    if state is None:
        return {}
    return {
        "leader": state.leader,
        "leader_epoch": state.leader_epoch,
        "replicas": list(state.replicas),
        "isr": list(state.isr),
        "elr": list(state.elr),
        "last_known_elr": list(state.last_known_elr),
        "adding_replicas": list(state.adding_replicas),
        "removing_replicas": list(state.removing_replicas),
        "min_isr": min_isr,
    }
