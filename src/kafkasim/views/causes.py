"""What a change of a partition followed from: the occasion on which the controller wrote it, and what lies behind that.

Inputs:   one ``Change`` of a timeline at a time.
Rule 1:   the occasion is recorded with the batch (the class of a request, or Kafka's name of a task), never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.controller.image import PartitionState
from kafkasim.core.model.admin_messages import PREFERRED_ELECTION, TOPIC_RESOURCE
from kafkasim.core.model.ids import NO_LEADER, NodeId
from kafkasim.core.model.metadata import (
    RECOVERING,
    BrokerRegistrationChangeRecord,
    ClearElrRecord,
    RegisterBrokerRecord,
)
from kafkasim.views.chain import Chain, Link
from kafkasim.views.facts import ENDS, Committed, Fact, Facts, Written
from kafkasim.views.roots import Roots
from kafkasim.views.timeline import BrokerChange, Change, ConfigChange, Timeline

_UNCLEAN = "unclean.leader.election.enable"


class Causes:
    """Adds changes and their causes to ``chain``."""

    def __init__(self, facts: Facts, timeline: Timeline, chain: Chain, roots: Roots) -> None:
        self._facts = facts
        self._timeline = timeline
        self._chain = chain
        self._roots = roots
        self._rules: dict[str, Callable[[Change, Written], list[Link]]] = {
            "maybeFenceStaleBroker": lambda change, written: [self._fenced(written.cause[0], change.at_us)],
            "BrokerHeartbeatRequest": self._heartbeat,
            "BrokerRegistrationRequest": self._registration,
            "AlterPartitionRequest": self._alter_partition,
            "ElectLeadersRequest": self._elect_leaders,
            "maybeBalancePartitionLeaders": self._balance,
            "maybeElectUncleanLeaders": self._unclean,
        }

    def find(self, change: Change) -> Link | None:
        """The link of a change that has been explained."""
        return self._chain.find("change", change)

    def change(self, change: Change) -> Link:
        """What the controller wrote, and why."""
        found = self.find(change)
        if found is not None:
            return found
        because = self._occasion(change)
        if change.before is not None and change.after is not None and change.before.leader != change.after.leader:
            because += self._missing(change)
            if _elected_how(change) in ("unclean", "the last known leader"):
                because += self._config_links(_UNCLEAN)
        return self._chain.add(
            change.at_us, "change", change, describe(change, self._timeline), because, **_fields(change)
        )

    def config(self, config: ConfigChange) -> Link:
        where = "the topic" if config.resource_type == TOPIC_RESOURCE else "the brokers"
        text = (
            f"{config.key} of {where} set to {config.value}"
            if config.value is not None
            else f"{config.key} of {where} removed"
        )
        because = self._asked(config.committed)
        return self._chain.add(config.at_us, "config", config, text, because, key=config.key, value=config.value)

    # --- occasions -------------------------------------------------------------------------------------------------

    def _occasion(self, change: Change) -> list[Link]:
        written = change.committed.written
        if written is None:
            return []
        rule = self._rules.get(written.event)
        if rule is not None:
            return rule(change, written)
        if isinstance(change.record, ClearElrRecord):
            configs = [config for config in self._timeline.configs if config.committed is change.committed]
            if configs:
                return [self.config(config) for config in configs]
        return self._asked(change.committed)

    def _asked(self, committed: Committed) -> list[Link]:
        written = committed.written
        if written is None:
            return []
        name = written.event.removesuffix("Request")
        kind, text = (
            ("request", f"{name} was requested") if name != written.event else ("task", f"the controller ran {name}")
        )
        return [self._chain.add(written.at_us, kind, committed.batch.base_offset, text, event=name)]

    def _fenced(self, broker: NodeId, at_us: int) -> Link:
        """The session of ``broker`` was over."""
        controller = leader_of(self._facts, self._roots, at_us)
        peers = [] if controller is None else [controller]
        timeout_s = self._timeline.image.broker_int("broker.session.timeout.ms") / 1000
        because = self._roots.silence_of(broker, at_us, peers)
        text = f"broker {broker} fenced: no heartbeat for {timeout_s:g} s (broker.session.timeout.ms)"
        return self._chain.add(at_us, "fenced", (broker, at_us), text, because, broker=broker)

    def _heartbeat(self, change: Change, written: Written) -> list[Link]:
        broker: NodeId = written.cause.broker_id
        if written.cause.want_shut_down:
            because = self._roots.shutdown_of(broker, change.at_us)
            text = f"broker {broker} asked for a controlled shutdown"
            key = (broker, because[0].at_us if because else written.at_us)
            return [self._chain.add(written.at_us, "controlled-shutdown", key, text, because, broker=broker)]
        records = change.committed.batch.records
        if any(isinstance(record, BrokerRegistrationChangeRecord) and record.fenced < 0 for record in records):
            return [self._unfenced(broker, change.at_us)]
        text = f"broker {broker} asked to be fenced"
        return [self._chain.add(written.at_us, "fenced", (broker, change.at_us), text, broker=broker)]

    def _unfenced(self, broker: NodeId, at_us: int) -> Link:
        because = self._roots.return_of(broker, at_us)
        return self._chain.add(at_us, "unfenced", (broker, at_us), f"broker {broker} unfenced", because, broker=broker)

    def _registration(self, change: Change, written: Written) -> list[Link]:
        """A new process: what its predecessor may have lost is taken from it."""
        broker: NodeId = written.cause.broker_id
        at_us = change.at_us
        ends = [fact for fact in self._facts.processes if fact.subject == broker and fact.kind in ENDS]
        before = [fact for fact in ends if fact.at_us <= at_us]
        because = [self._roots.link(before[-1])] if before else []
        because += self._roots.return_of(broker, at_us)
        clean = written.cause.previous_broker_epoch >= 0
        text = f"broker {broker} registered a new process" + (
            "" if clean else ", its last one having ended without a clean shutdown: it may have lost records"
        )
        return [self._chain.add(at_us, "registered", (broker, at_us), text, because, broker=broker, clean=clean)]

    def _alter_partition(self, change: Change, written: Written) -> list[Link]:
        leader: NodeId = written.cause.broker_id
        before, after = change.before, change.after
        assert before is not None
        assert after is not None
        proposed = self._proposal(leader, change)
        gone = [node for node in before.isr if node not in after.isr]
        new = [node for node in after.isr if node not in before.isr]
        links = [self._fell_behind(leader, node, change, proposed) for node in gone]
        return links + [self._caught_up(leader, node, change, proposed) for node in new]

    def _proposal(self, leader: NodeId, change: Change) -> Fact | None:
        """The leader's note of what it asked for."""
        facts = self._facts.of_partition.get(self._timeline.tp, [])
        own = [f for f in facts if f.kind == "isr proposed" and f.node == leader and f.at_us <= change.at_us]
        return own[-1] if own else None

    def _fell_behind(self, leader: NodeId, node: NodeId, change: Change, proposed: Fact | None) -> Link:
        lag_s = self._timeline.image.broker_int("replica.lag.time.max.ms") / 1000
        at_us = change.at_us if proposed is None else proposed.at_us
        text = f"leader {leader}: broker {node} has not caught up for more than {lag_s:g} s (replica.lag.time.max.ms)"
        if proposed is not None:
            for _, log_end, caught_up_us in [entry for entry in proposed.fields["behind"] if entry[0] == node]:
                last = f"caught up last at {caught_up_us / 1e6:.3f} s" if caught_up_us else "never caught up"
                where = (
                    f"log end {log_end} of {proposed.fields['log_end']}" if log_end >= 0 else "no fetch in this epoch"
                )
                text += f": {where}, {last}"
        because = self._roots.slowness_of(node, at_us, [leader])
        return self._chain.add(at_us, "fell-behind", (node, at_us), text, because, leader=leader, broker=node)

    def _caught_up(self, leader: NodeId, node: NodeId, change: Change, proposed: Fact | None) -> Link:
        at_us = change.at_us if proposed is None else proposed.at_us
        registrations = [c for c in self._timeline.brokers if c.broker == node and c.at_us <= at_us and _unfences(c)]
        returned = self._roots.return_of(node, at_us)
        because = returned
        if (
            registrations
            and (not returned or registrations[-1].at_us >= returned[-1].at_us)
            and self._was_fenced(node, at_us)
        ):
            because = [self._unfenced(node, registrations[-1].at_us)]
        text = f"leader {leader}: broker {node} has caught up"
        return self._chain.add(at_us, "caught-up", (node, at_us), text, because, leader=leader, broker=node)

    def _was_fenced(self, node: NodeId, at_us: int) -> bool:
        """Did it come back from something, after its first start?"""
        return any(fact.subject == node and fact.at_us <= at_us for fact in self._facts.processes) or bool(
            self._facts.network
        )

    # --- elections -------------------------------------------------------------------------------------------------

    def _elect_leaders(self, change: Change, written: Written) -> list[Link]:
        kind = "preferred" if written.cause.election_type == PREFERRED_ELECTION else "unclean"
        text = f"ElectLeaders was requested: {'a preferred' if kind == 'preferred' else 'an unclean'} election"
        return [
            self._chain.add(written.at_us, "request", change.committed.batch.base_offset, text, event="ElectLeaders")
        ]

    def _balance(self, change: Change, written: Written) -> list[Link]:
        assert change.after is not None
        first = change.after.replicas[0]
        text = f"automatic balance (auto.leader.rebalance.enable): broker {first} is the preferred replica"
        return [self._chain.add(written.at_us, "balance", change.committed.batch.base_offset, text, broker=first)]

    def _unclean(self, change: Change, written: Written) -> list[Link]:
        text = f"{_UNCLEAN} is true and the partition has no leader"
        because = self._config_links(_UNCLEAN)
        return [self._chain.add(written.at_us, "unclean", change.committed.batch.base_offset, text, because)]

    def _config_links(self, key: str) -> list[Link]:
        found = [config for config in self._timeline.configs if config.key == key]
        return [self.config(found[-1])] if found else []

    def _missing(self, change: Change) -> list[Link]:
        """Why those were not to be had who stand before the new leader (or, without one, everybody)."""
        before, after = change.before, change.after
        assert before is not None
        assert after is not None
        links = []
        if before.leader == NO_LEADER:
            lost = self._earlier(change, _lost_leader)[-1:]
            links += [self.change(earlier) for earlier in lost]
            if _elected_how(change) in ("unclean", "the last known leader"):
                shrinks = [
                    earlier for earlier in self._earlier(change, _left_elr) if not lost or earlier.at_us > lost[0].at_us
                ]
                links += [self.change(earlier) for earlier in shrinks]
        for node in after.replicas:
            if node == after.leader:
                break
            if node not in before.isr:
                links += [self.change(gone) for gone in self._earlier(change, _left_isr(node))[-1:]]
        return links

    def _earlier(self, change: Change, fits: Callable[[PartitionState, PartitionState], bool]) -> list[Change]:
        changes = self._timeline.changes
        found = []
        for earlier in changes[: changes.index(change)]:
            before, after = earlier.before, earlier.after
            if before is not None and after is not None and fits(before, after):
                found.append(earlier)
        return found


def _lost_leader(before: PartitionState, after: PartitionState) -> bool:
    return after.leader == NO_LEADER != before.leader


def _left_elr(before: PartitionState, after: PartitionState) -> bool:
    return any(node not in after.elr and node not in after.isr for node in before.elr)


def _left_isr(node: NodeId) -> Callable[[PartitionState, PartitionState], bool]:
    return lambda before, after: node in before.isr and node not in after.isr


def leader_of(facts: Facts, roots: Roots, at_us: int) -> NodeId | None:
    """The controller that was active at that time and could work; None if there was none."""
    active: NodeId | None = None
    for fact in facts.controllers:
        if fact.at_us > at_us:
            break
        if fact.kind == "controller-active":
            active = fact.node
        elif fact.node == active:
            active = None
    if active is not None and roots.process_fault(active, at_us) is not None:
        return None
    return active


# --- words ----------------------------------------------------------------------------------------------------------


def describe(change: Change, timeline: Timeline) -> str:
    before, after = change.before, change.after
    if after is None:
        return "deleted"
    if before is None:
        return f"created: replicas {list(after.replicas)}, leader {after.leader}, ISR {list(after.isr)}"
    parts = []
    if before.leader != after.leader:
        parts.append(_leader_text(change, before, after))
    elif before.leader_epoch != after.leader_epoch:
        parts.append(f"leader {after.leader} in a new epoch {after.leader_epoch}")
    if set(before.isr) != set(after.isr):
        below = f", below min.insync.replicas ({change.min_isr})" if len(after.isr) < change.min_isr else ""
        parts.append(f"ISR {sorted(before.isr)} → {sorted(after.isr)}{below}")
    if before.elr != after.elr:
        parts.append(f"ELR {list(before.elr)} → {list(after.elr)}")
    if before.last_known_elr != after.last_known_elr and after.last_known_elr:
        parts.append(f"last known leader {after.last_known_elr[0]}")
    parts += _reassignment_texts(before, after)
    if before.leader_recovery_state != after.leader_recovery_state:
        parts.append("log may have lost records" if after.leader_recovery_state == RECOVERING else "log recovered")
    return "; ".join(parts) or "rewritten without a difference"


def _reassignment_texts(before: PartitionState, after: PartitionState) -> list[str]:
    texts = []
    if before.replicas != after.replicas:
        texts.append(f"replicas {list(before.replicas)} → {list(after.replicas)}")
    was, now = (s.adding_replicas or s.removing_replicas for s in (before, after))
    if now and not was:
        texts.append(
            f"reassignment begun (adding {list(after.adding_replicas)}, removing {list(after.removing_replicas)})"
        )
    elif was and not now:
        kept = set(before.adding_replicas) <= set(after.replicas)
        texts.append("reassignment complete" if kept else "reassignment cancelled")
    return texts


def _leader_text(change: Change, before: PartitionState, after: PartitionState) -> str:
    old = "none" if before.leader == NO_LEADER else str(before.leader)
    if after.leader == NO_LEADER:
        return f"leader {old} → none: nobody of ISR and ELR is there"
    return f"leader {old} → {after.leader} (epoch {after.leader_epoch}), {_ELECTED[_elected_how(change)]}"


def _elected_how(change: Change) -> str:
    before, after = change.before, change.after
    if before is None or after is None or after.leader in (NO_LEADER, before.leader):
        return ""
    if getattr(change.record, "leader_recovery_state", None) == RECOVERING:
        return "the last known leader" if after.leader in before.last_known_elr else "unclean"
    return "the ELR" if after.leader in before.elr and after.leader not in before.isr else "the ISR"


_ELECTED = {
    "the ISR": "elected from the ISR",
    "the ELR": "elected from the ELR: it holds every committed record",
    "the last known leader": "elected as the last known leader: an unclean election",
    "unclean": "an unclean election: committed records may be lost",
}


def _fields(change: Change) -> dict[str, Any]:
    after = change.after
    if after is None:
        return {}
    return {
        "leader": after.leader,
        "leader_epoch": after.leader_epoch,
        "isr": list(after.isr),
        "elr": list(after.elr),
        "elected_from": _elected_how(change),
        "offset": change.committed.batch.base_offset,
    }


def _unfences(change: BrokerChange) -> bool:
    record = change.record
    if isinstance(record, BrokerRegistrationChangeRecord):
        return record.fenced < 0
    return isinstance(record, RegisterBrokerRecord) and not record.fenced
