"""Faults as roots of a chain: what was in force on a broker at a time, and what brought it back.

Inputs:   the process and network notes of a run.
Rule 1:   a fault explains a broker's silence only while it is in force: not after ``start``, ``resume`` or ``heal``.
"""

from __future__ import annotations

from collections.abc import Iterable

from kafkasim.core.model.history import DISK_FAULTS
from kafkasim.core.model.ids import FIRST_CLIENT_NODE, NodeId
from kafkasim.views.chain import Chain, Link
from kafkasim.views.facts import Fact, Facts

#: A broker under one of these does not answer.
_SILENT = ("crash", "power_loss", "pause", "stopped")
_UNDONE_BY = {"network heal": "network partition", "network release": "network hold"}


class Roots:
    """Looks up faults and adds them to ``chain``."""

    def __init__(self, facts: Facts, chain: Chain) -> None:
        self._facts = facts
        self._chain = chain

    def silence_of(self, node: NodeId, at_us: int, peers: Iterable[NodeId] = ()) -> list[Link]:
        """Why ``node`` could not be heard (by ``peers``, if any are named) at that time; empty if nothing was done to it."""
        fact = self.process_fault(node, at_us)
        if fact is not None:
            return [self.link(fact)]
        wanted = [peer for peer in peers if peer != node]
        return [self.link(fact) for fact in self.network_faults(at_us) if _parts(fact, node, wanted)]

    def slowness_of(self, node: NodeId, at_us: int, peers: Iterable[NodeId] = ()) -> list[Link]:
        """Why ``node`` could not keep up: it could not be heard, or its disk is slow."""
        return self.silence_of(node, at_us, peers) or self._disk_fault(node, at_us)

    def _disk_fault(self, node: NodeId, at_us: int) -> list[Link]:
        facts = [fact for fact in self._facts.disks if fact.subject == node and fact.at_us <= at_us]
        is_well = not facts or facts[-1].kind in ("disk healed", "disk replaced")
        return [] if is_well else [self.link(facts[-1])]

    def process_fault(self, node: NodeId, at_us: int) -> Fact | None:
        """What keeps ``node`` silent at that time."""
        last: Fact | None = None
        for fact in self._facts.processes:
            if fact.at_us > at_us:
                break
            if fact.subject != node:
                continue
            if fact.kind in _SILENT:
                # Only the first fault of several does something; a crash also ends a pause.
                if last is None or last.kind == "pause":
                    last = fact
            elif fact.kind == "start" or (fact.kind == "resume" and last is not None and last.kind == "pause"):
                last = None
        return last

    def network_faults(self, at_us: int) -> list[Fact]:
        """Partitions, held and slow links in force at that time."""
        active: list[Fact] = []
        for fact in self._facts.network:
            if fact.at_us > at_us:
                break
            undone = _UNDONE_BY.get(fact.kind)
            if undone is None:
                active = [other for other in active if not (fact.kind == "network slow" and _same(other, fact))]
                if fact.fields.get("factor", 0) != 1.0 or fact.fields.get("extra_ms"):
                    active.append(fact)
            elif fact.subject == ((), ()):
                active = [other for other in active if other.kind != undone]
            else:
                match = next((other for other in active if other.kind == undone and _same(other, fact)), None)
                if match is not None:
                    active.remove(match)
        return active

    def shutdown_of(self, node: NodeId, at_us: int) -> list[Link]:
        """The orderly stop that was asked of ``node``."""
        return self._last(node, at_us, ("shutdown",))

    def return_of(self, node: NodeId, at_us: int) -> list[Link]:
        """What brought ``node`` back: the last start, resume or heal that concerned it."""
        links = self._last(node, at_us, ("start", "resume"))
        heals = [
            fact
            for fact in self._facts.network
            if fact.kind in _UNDONE_BY and fact.at_us <= at_us and (fact.subject == ((), ()) or _parts(fact, node, ()))
        ]
        if heals and (not links or heals[-1].at_us > links[-1].at_us):
            return [self.link(heals[-1])]
        return links

    def link(self, fact: Fact) -> Link:
        because = []
        if fact.kind == "stopped":
            asked = fact.fields.get("reason") == "shutdown"
            because = (self.shutdown_of if asked else self._disk_fault)(fact.subject, fact.at_us)
        key = (fact.at_us, str(fact.subject))
        return self._chain.add(fact.at_us, fact.kind, key, _text(fact), because, broker=_broker(fact), **fact.fields)

    def _last(self, node: NodeId, at_us: int, kinds: tuple[str, ...]) -> list[Link]:
        found = [
            fact
            for fact in self._facts.processes
            if fact.subject == node and fact.kind in kinds and fact.at_us <= at_us
        ]
        return [self.link(found[-1])] if found else []


def _broker(fact: Fact) -> NodeId | None:
    return fact.subject if isinstance(fact.subject, int) else None


def _same(one: Fact, other: Fact) -> bool:
    return set(map(frozenset, one.subject)) == set(map(frozenset, other.subject))


def _parts(fact: Fact, node: NodeId, peers: Iterable[NodeId]) -> bool:
    """Does the fault stand between ``node`` and one of ``peers`` (or, if none are named, anybody)?"""
    ours, theirs = fact.subject
    far = theirs if node in ours else ours if node in theirs else ()
    wanted = list(peers)
    return any(peer in far for peer in wanted) if wanted else bool(far)


def _text(fact: Fact) -> str:
    if fact.kind in _DONE_TO_PROCESS:
        reason = fact.fields.get("reason", "shutdown")
        return f"broker {fact.subject} {_DONE_TO_PROCESS[fact.kind]}" + ("" if reason == "shutdown" else f": {reason}")
    if fact.kind in DISK_FAULTS:
        return f"the disk of broker {fact.subject} {_DONE_TO_DISK[fact.kind]}"
    ours, theirs = fact.subject
    if not ours and not theirs:
        return f"{fact.kind}: all of them"
    if fact.fields.get("one_way"):
        return f"{fact.kind} from {_side(ours)} to {_side(theirs)}"
    return f"{fact.kind} between {_side(ours)} and {_side(theirs)}"


def _side(nodes: tuple[NodeId, ...]) -> str:
    servers = [node for node in nodes if node < FIRST_CLIENT_NODE]
    clients = len(nodes) - len(servers)
    parts = [str(servers)] if servers else []
    if clients:
        parts.append(f"{clients} client{'s' if clients > 1 else ''}")
    return " and ".join(parts)


_DONE_TO_DISK = {
    "disk slow": "became slow",
    "disk full": "became full",
    "disk failing": "failed",
    "disk healed": "was healed",
    "disk replaced": "was replaced by an empty one",
}
_DONE_TO_PROCESS = {
    "crash": "crashed",
    "power_loss": "lost its power",
    "pause": "was paused",
    "stopped": "stopped",
    "shutdown": "was told to shut down",
    "start": "was started",
    "resume": "was resumed",
}
