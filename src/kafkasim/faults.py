"""Faults and plans of them: ``kafkasim.faults.crash("leader:orders-0", on="Produce.answered", nth=3, down=5.0)``.

A fault is a plain value with one trigger: ``at`` (virtual seconds from injection), ``on`` with ``nth`` (an event), or ``when`` (a
condition). ``cluster.inject(plan)`` lets them loose and says afterwards what fired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafkasim.errors import ConfigurationError
from kafkasim.sim.injection import Fired, Injection
from kafkasim.sim.plan import Fault, Plan
from kafkasim.sim.plan_text import plan_from_json, plan_from_toml, plan_to_json, plan_to_toml
from kafkasim.sim.plan_words import KINDS, PLANES, STAGES, TARGETS

__all__ = [
    "KINDS",
    "PLANES",
    "STAGES",
    "TARGETS",
    "Fault",
    "Fired",
    "Injection",
    "Plan",
    "add_partitions",
    "clock_drift",
    "clock_jump",
    "configure",
    "crash",
    "delete_records",
    "delete_topic",
    "disk_fail",
    "disk_full",
    "disk_replace",
    "disk_slow",
    "elect_preferred",
    "hold",
    "isolate",
    "kill",
    "late",
    "lose_response",
    "partition",
    "pause",
    "plan",
    "plan_from_json",
    "plan_from_toml",
    "plan_to_json",
    "plan_to_toml",
    "power_loss",
    "reassign",
    "reset",
    "shutdown",
    "slow",
    "starve",
    "stop",
]


def plan(*parts: Fault | Plan) -> Plan:
    """Several faults, or plans, as one plan."""
    return Plan.of(*parts)


# --- servers ---------------------------------------------------------------------------------------------------------


def crash(target: str = "any", *, down: float | None = None, within: float = 0.0, **trigger: Any) -> Fault:
    """Kill a broker's process; start it again after ``down`` seconds. ``within``: several are hit one by one, within so many seconds."""
    return _fault("crash", target, down, trigger, spread_s=within)


def power_loss(
    target: str = "any", *, down: float | None = None, partial: bool = False, within: float = 0.0, **trigger: Any
) -> Fault:
    """Cut a broker's power: what it had not flushed is gone (``partial``: some of it); start it again after ``down`` seconds."""
    return _fault("power_loss", target, down, trigger, partial=partial, spread_s=within)


def shutdown(target: str = "any", *, down: float | None = None, within: float = 0.0, **trigger: Any) -> Fault:
    """Stop a broker in good order; start it again after ``down`` seconds."""
    return _fault("shutdown", target, down, trigger, spread_s=within)


def pause(target: str = "any", *, lasting: float | None = None, **trigger: Any) -> Fault:
    """Freeze the process of a broker, or of a client (``"client:billing-1"``), for so many seconds."""
    return _fault("pause", target, lasting, trigger)


def starve(target: str = "any", *, factor: float, lasting: float | None = None, **trigger: Any) -> Fault:
    """Give a process one part in ``factor`` of the CPU: it stands still for most of each tenth of a second."""
    return _fault("starve", target, lasting, trigger, factor=factor)


def disk_slow(target: str = "any", *, extra: float, lasting: float | None = None, **trigger: Any) -> Fault:
    """Let each write to a broker's disk take ``extra`` seconds."""
    return _fault("disk_slow", target, lasting, trigger, extra_s=extra)


def disk_full(target: str = "any", *, down: float | None = None, **trigger: Any) -> Fault:
    """Leave no space on a broker's disk, which ends its process; after ``down`` seconds there is some, and it is started again."""
    return _fault("disk_full", target, down, trigger)


def disk_fail(target: str = "any", *, down: float | None = None, **trigger: Any) -> Fault:
    """Let a broker's disk fail, which ends its process; after ``down`` seconds it is healed, and the broker started again."""
    return _fault("disk_fail", target, down, trigger)


def disk_replace(target: str = "any", *, down: float | None = None, within: float = 0.0, **trigger: Any) -> Fault:
    """Kill a broker's process and give it an empty disk; start it again after ``down`` seconds."""
    return _fault("disk_replace", target, down, trigger, spread_s=within)


def clock_jump(target: str = "any", *, by: float, lasting: float | None = None, **trigger: Any) -> Fault:
    """Move the wall clock of a broker or a client by so many seconds, back if negative; set it right again after ``lasting``."""
    return _fault("clock_jump", target, lasting, trigger, extra_s=by)


def clock_drift(target: str = "any", *, factor: float, lasting: float | None = None, **trigger: Any) -> Fault:
    """Let the wall clock of a broker or a client run ``factor`` times as fast; set it right again after ``lasting``."""
    return _fault("clock_drift", target, lasting, trigger, factor=factor)


# --- between nodes ---------------------------------------------------------------------------------------------------


def isolate(target: str = "any", *, lasting: float | None = None, **trigger: Any) -> Fault:
    """Cut a node off from every other."""
    return _fault("isolate", target, lasting, trigger)


def partition(
    target: str,
    against: str = "others",
    *,
    one_way: bool = False,
    plane: str = "",
    lasting: float | None = None,
    **trigger: Any,
) -> Fault:
    """Lose every message between two sides (``one_way``: from the target to ``against``), on one of `PLANES` or all.

    Nobody is told: what is lost is sent again, as TCP does, and arrives some time after the cut has healed.
    """
    return _fault("partition", target, lasting, trigger, against=against, one_way=one_way, plane=plane)


def hold(
    target: str,
    against: str = "others",
    *,
    one_way: bool = False,
    plane: str = "",
    api: str = "",
    lasting: float | None = None,
    **trigger: Any,
) -> Fault:
    """Keep back all messages between two sides, of one plane, or of one api; they arrive afterwards."""
    return _fault("hold", target, lasting, trigger, against=against, one_way=one_way, plane=plane, api=api)


def slow(
    target: str,
    against: str = "others",
    *,
    factor: float = 1.0,
    extra: float = 0.0,
    api: str = "",
    tail: bool = False,
    one_way: bool = False,
    lasting: float | None = None,
    **trigger: Any,
) -> Fault:
    """Multiply the latency between two sides, or add ``extra`` seconds: to all, to requests of one ``api``, to the ``tail``."""
    more = {"factor": factor, "extra_s": extra, "api": api, "tail": tail, "one_way": one_way}
    return _fault("slow", target, lasting, trigger, against=against, **more)


def reset(target: str = "any", **trigger: Any) -> Fault:
    """Reset all connections of a node."""
    return _fault("reset", target, None, trigger)


def late(on: str, *, by: float, nth: int = 1, **trigger: Any) -> Fault:
    """Hold back the n-th request of a kind, ``"Produce.sent"`` say, while other connections, and its own retry, overtake it."""
    return _fault("late", "client", None, {"on": on, "nth": nth, **trigger}, extra_s=by)


def lose_response(on: str, *, nth: int = 1, **trigger: Any) -> Fault:
    """Lose the n-th response of a kind, ``"Produce.answered"`` say, with its connection."""
    return _fault("lose_response", "client", None, {"on": on, "nth": nth, **trigger})


# --- clients ---------------------------------------------------------------------------------------------------------


def kill(target: str = "client", *, down: float | None = None, **trigger: Any) -> Fault:
    """Kill a client's task: ``"client:billing-1"``, or ``"client"`` for the one of the event; begin it anew after ``down``."""
    return _fault("kill", target, down, trigger)


def stop(target: str = "client", *, down: float | None = None, **trigger: Any) -> Fault:
    """Ask a client's task to end; begin it anew after ``down`` seconds."""
    return _fault("stop", target, down, trigger)


# --- operators -------------------------------------------------------------------------------------------------------


def configure(target: str, settings: Mapping[str, Any], *, lasting: float | None = None, **trigger: Any) -> Fault:
    """Change settings of ``"topic:orders"``, ``"broker:2"`` or ``"brokers"``, as an operator does; as before after ``lasting``."""
    if not isinstance(settings, Mapping):
        raise ConfigurationError(
            f"configure {target}: settings are {settings!r}, expected a mapping, as in {{'min.insync.replicas': 1}}"
        )
    texts = tuple(
        (key, str(value).lower() if isinstance(value, bool) else str(value)) for key, value in settings.items()
    )
    return _fault("configure", target, lasting, trigger, settings=texts)


def add_partitions(target: str, count: int = 1, **trigger: Any) -> Fault:
    """Give ``"topic:orders"`` more partitions."""
    return _fault("add_partitions", target, None, trigger, count=count)


def delete_topic(target: str, *, gone: float | None = None, **trigger: Any) -> Fault:
    """Delete ``"topic:orders"``; create it again under its name after ``gone`` seconds."""
    return _fault("delete_topic", target, gone, trigger)


def delete_records(target: str, **trigger: Any) -> Fault:
    """Delete the records of ``"topic:orders"`` that are below the high watermark."""
    return _fault("delete_records", target, None, trigger)


def elect_preferred(target: str, **trigger: Any) -> Fault:
    """Let the preferred replicas of ``"topic:orders"`` lead."""
    return _fault("elect_preferred", target, None, trigger)


def reassign(target: str, **trigger: Any) -> Fault:
    """Give each partition of ``"topic:orders"`` other replicas, by chance."""
    return _fault("reassign", target, None, trigger)


def _fault(what: str, target: str, for_s: float | None, trigger: dict[str, Any], **more: Any) -> Fault:
    unknown = [name for name in trigger if name not in ("at", "on", "nth", "when", "then")]
    if unknown:
        raise TypeError(
            f"{what}() has no argument {unknown[0]!r}; triggers are at=, on= with nth=, and when=, each with then=True to "
            "count from the fault before it"
        )
    if "at" in trigger:
        trigger["at_s"] = trigger.pop("at")
    return Fault(what, target, for_s=for_s, **trigger, **more)
