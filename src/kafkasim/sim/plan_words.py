"""The words of fault plans: what may go wrong, to whom, at which stage of a message, on which plane.

Inputs:   words that somebody wrote.      Effects: what is not known is refused, with the nearest word that is.
Rule 1:   a kind names the settings that it reads (`USES`); any other setting is refused, so that none is given in vain.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from kafkasim.errors import ConfigurationError
from kafkasim.sim.wire_events import API_NAMES

#: Makes the exception for a problem.
Refuse: TypeAlias = Callable[[str], ConfigurationError]

#: What may go wrong, and what it means. ``for`` undoes it.
KINDS: Mapping[str, str] = {
    "crash": "kill the process; `for`: start it again after so long",
    "power_loss": "cut the power: what was not flushed (`partial`: some of it) is gone; `for`: start it again",
    "shutdown": "stop in good order; `for`: start it again",
    "pause": "freeze the process of a server or a client; `for`: let it go on",
    "starve": "give a process one part in `factor` of the CPU: it stands still for most of each tenth of a second; `for`: all of it again",
    "isolate": "cut it off from every other server and client; `for`: heal",
    "partition": "cut it off from `against`, on one `plane` or all; `for`: heal",
    "hold": "keep back, without losing any, all messages between it and `against`, of one `plane` or one `api`; `for`: release",
    "slow": "multiply the latency between it and `against` by `factor`, or add `extra` (to requests of one `api`; "
    "with `tail` to one in ten, and ten times as much to one in a hundred); `for`: as before",
    "late": "hold the request that triggers it (`on` = Api.sent) back for `extra`, and what its connection sends behind it; "
    "other connections overtake it",
    "reset": "reset all its connections",
    "lose_response": "lose the response that triggers it (`on` = Api.answered): the work is done, its sender does not know",
    "disk_slow": "let each write to its disk take `extra` seconds; `for`: heal the disk",
    "disk_full": "leave no space on its disk: it halts at its next write; `for`: heal the disk and start it again",
    "disk_fail": "let every operation of its disk fail: it halts; `for`: heal the disk and start it again",
    "disk_replace": "kill the process and give it an empty disk; `for`: start it again",
    "clock_jump": "move the wall clock of a server or client by `extra` seconds, back if negative; `for`: set it right again",
    "clock_drift": "let its wall clock run `factor` times as fast; `for`: set it right again",
    "kill": "kill a client's task: nothing more of it runs; `for`: begin it anew after so long",
    "stop": "ask a client's task to end, as SIGTERM does; `for`: begin it anew after so long",
    "configure": "change `settings` of a topic, a broker or all brokers; `for`: as before",
    "add_partitions": "give a topic `count` more partitions",
    "delete_topic": "delete a topic; `for`: create it again under its name",
    "delete_records": "delete the records of a topic that are below the high watermark",
    "elect_preferred": "let the preferred replicas of a topic lead, where they are in sync",
    "reassign": "give each partition of a topic other replicas, by chance",
}
ADMIN = ("configure", "add_partitions", "delete_topic", "delete_records", "elect_preferred", "reassign")
OF_CLIENTS = ("kill", "stop")
OF_ANYBODY = ("pause", "starve", "clock_jump", "clock_drift")
OF_DISKS = ("disk_slow", "disk_full", "disk_fail", "disk_replace")
BETWEEN = ("partition", "hold", "slow")
#: What happens to a message as it is met.
OF_MESSAGES: Mapping[str, str] = {"lose_response": "answered", "late": "sent"}
#: What is over in a moment, so that nothing can be undone.
MOMENTARY = (
    "reset",
    "lose_response",
    "late",
    "add_partitions",
    "delete_records",
    "elect_preferred",
    "reassign",
)
#: Done to each server by itself, so that several can be hit one after the other.
SPREADS = ("crash", "power_loss", "shutdown", "pause", "disk_replace")

#: Setting (a field of `Fault`) -> the kinds that read it.
USES: Mapping[str, tuple[str, ...]] = {
    "against": BETWEEN,
    "one_way": BETWEEN,
    "plane": ("partition", "hold"),
    "api": ("hold", "slow"),
    "factor": ("slow", "starve", "clock_drift"),
    "extra_s": ("slow", "late", "disk_slow", "clock_jump"),
    "tail": ("slow",),
    "partial": ("power_loss",),
    "spread_s": SPREADS,
    "settings": ("configure",),
    "count": ("add_partitions",),
}

#: Roles and names that a fault can hit.
TARGETS: Mapping[str, str] = {
    "broker:ID": "a broker by its id",
    "zone:RACK": "all brokers of a rack",
    "leader:TOPIC-PARTITION": "the partition's leader at that moment",
    "follower:TOPIC-PARTITION": "the first in-sync follower at that moment, of those to which the plan is doing nothing if there are any",
    "lagging:TOPIC-PARTITION": "the first running replica that is not in sync then",
    "controller": "the active controller",
    "coordinator:GROUP": "the group's coordinator",
    "server": "the server at which the triggering event happens",
    "subject": "the replica that the triggering event is about: that comes back, leads, cut its log, enters or leaves the ISR",
    "client": "the client whose request or response the triggering event is",
    "client:NAME": "a task or client by its name",
    "any": "a live broker, by chance",
    "some:NUMBER": "so many live brokers, by chance",
    "brokers": "every broker",
    "controllers": "every voter of the controller quorum",
    "minority": "as many voters as a quorum can lose, the active controller among them",
    "majority": "as many voters as a quorum cannot lose, the active controller among them",
    "clients": "every client",
    "topic:NAME": "a topic, for an operator's faults",
    "others": "every server that is not the target (for `against`)",
}
#: Where on its way a message is met.
STAGES: Mapping[str, str] = {
    "sent": "a request leaves its sender",
    "received": "a server is about to handle it",
    "answered": "the response is about to leave the server: the work is done, nobody knows",
    "arrived": "the response is about to reach the sender of the request",
}
#: Events that are waited for as one: whichever of them comes counts.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "change": (
        "ElectLeaders.received",
        "note:start",
        "note:broker-unfenced",
        "note:became leader",
        "note:truncated",
        "note:isr proposed",
        "note:isr expanded",
        "note:isr shrunk",
    ),
}
#: Parts of the traffic, for faults that leave the rest alone; the same node may take part in each.
PLANES: Mapping[str, str] = {
    "replication": "fetches of followers",
    "control": "between servers, all but replication: registrations, heartbeats, AlterPartition, the quorum, forwarded requests",
    "clients": "between clients and brokers",
}


def is_number(text: str) -> bool:
    """A whole number as plans write it: plain digits, and no more of them than a counter has."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def check_target(target: str, refuse: Refuse) -> None:
    """Raises what ``refuse(problem)`` makes."""
    role, colon, place = target.partition(":")
    known = [name.partition(":")[0] for name in TARGETS]
    with_place = [name.partition(":")[0] for name in TARGETS if ":" in name]
    bare = [name for name in TARGETS if ":" not in name]
    if role not in known or (colon and (role not in with_place or not place)) or (not colon and role not in bare):
        raise refuse(f"no target {target!r}{close(role, known)}; known: {', '.join(TARGETS)}")
    if role in ("leader", "follower", "lagging"):
        check_partition(place, refuse)
    if role == "broker" and not is_number(place):
        raise refuse(f"target {target!r}: a broker's id is a number")
    if role == "some" and not (is_number(place) and int(place) > 0):
        raise refuse(f"target {target!r}: expected how many, as in some:2")


def check_partition(place: str, refuse: Refuse) -> None:
    topic, dash, number = place.rpartition("-")
    if not dash or not topic or not is_number(number):
        raise refuse(f"{place!r} is no partition: expected TOPIC-NUMBER, as in orders-0")


def check_event(event: str, refuse: Refuse) -> None:
    """``note:KIND``, a request's name and a stage, or a family of events."""
    if event in FAMILIES:
        return
    if event.startswith("note:") and len(event) > len("note:"):
        return
    api, dot, stage = event.partition(".")
    if not dot or stage not in STAGES:
        raise refuse(
            f"no event {event!r}: expected Api.stage with a stage of {', '.join(STAGES)}, note:KIND, or {', '.join(FAMILIES)}"
        )
    check_api(api, refuse, f" in event {event!r}")


def check_api(api: str, refuse: Refuse, where: str = "") -> None:
    if api not in API_NAMES:
        raise refuse(f"no request {api!r}{close(api, API_NAMES)}{where}; known: {', '.join(API_NAMES)}")


def close(word: str, known: Iterable[str]) -> str:
    """``(did you mean ...?)``, where something is near."""
    matches = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
