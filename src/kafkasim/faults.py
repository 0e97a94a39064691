"""Faults and plans of them: ``kafkasim.faults.crash("leader:orders-0", on="Produce.answered", nth=3, down=5.0)``.

A fault is a plain value with one trigger: ``at`` (virtual seconds from injection), ``on`` with ``nth`` (an event), or ``when`` (a
condition). ``cluster.inject(plan)`` lets them loose and says afterwards what fired.
"""

from __future__ import annotations

from typing import Any

from kafkasim.sim.injection import Fired, Injection
from kafkasim.sim.plan import KINDS, STAGES, TARGETS, Fault, Plan
from kafkasim.sim.plan_text import plan_from_json, plan_from_toml, plan_to_json, plan_to_toml

__all__ = [
    "KINDS",
    "STAGES",
    "TARGETS",
    "Fault",
    "Fired",
    "Injection",
    "Plan",
    "crash",
    "disk_fail",
    "disk_full",
    "disk_slow",
    "hold",
    "isolate",
    "kill",
    "lose_response",
    "partition",
    "pause",
    "plan",
    "plan_from_json",
    "plan_from_toml",
    "plan_to_json",
    "plan_to_toml",
    "power_loss",
    "reset",
    "shutdown",
    "slow",
    "stop",
]


def plan(*parts: Fault | Plan) -> Plan:
    """Several faults, or plans, as one plan."""
    return Plan.of(*parts)


def crash(target: str = "any", *, down: float | None = None, **trigger: Any) -> Fault:
    """Kill a broker's process; start it again after ``down`` seconds."""
    return _fault("crash", target, down, trigger)


def power_loss(target: str = "any", *, down: float | None = None, **trigger: Any) -> Fault:
    """Cut a broker's power: what it had not flushed is gone; start it again after ``down`` seconds."""
    return _fault("power_loss", target, down, trigger)


def shutdown(target: str = "any", *, down: float | None = None, **trigger: Any) -> Fault:
    """Stop a broker in good order; start it again after ``down`` seconds."""
    return _fault("shutdown", target, down, trigger)


def pause(target: str = "any", *, lasting: float | None = None, **trigger: Any) -> Fault:
    """Freeze a broker's process for so many seconds."""
    return _fault("pause", target, lasting, trigger)


def disk_slow(target: str = "any", *, extra: float, lasting: float | None = None, **trigger: Any) -> Fault:
    """Let each write to a broker's disk take ``extra`` seconds."""
    return _fault("disk_slow", target, lasting, trigger, extra_s=extra)


def disk_full(target: str = "any", *, down: float | None = None, **trigger: Any) -> Fault:
    """Leave no space on a broker's disk, which ends its process; after ``down`` seconds there is some, and it is started again."""
    return _fault("disk_full", target, down, trigger)


def disk_fail(target: str = "any", *, down: float | None = None, **trigger: Any) -> Fault:
    """Let a broker's disk fail, which ends its process; after ``down`` seconds it is healed, and the broker started again."""
    return _fault("disk_fail", target, down, trigger)


def isolate(target: str = "any", *, lasting: float | None = None, **trigger: Any) -> Fault:
    """Cut a node off from every other."""
    return _fault("isolate", target, lasting, trigger)


def partition(
    target: str, against: str = "others", *, one_way: bool = False, lasting: float | None = None, **trigger: Any
) -> Fault:
    """Lose every message between two sides (``one_way``: from the target to ``against``)."""
    return _fault("partition", target, lasting, trigger, against=against, one_way=one_way)


def hold(target: str, against: str = "others", *, lasting: float | None = None, **trigger: Any) -> Fault:
    """Keep back all messages between two sides; they arrive afterwards."""
    return _fault("hold", target, lasting, trigger, against=against)


def slow(
    target: str,
    against: str = "others",
    *,
    factor: float = 1.0,
    extra: float = 0.0,
    lasting: float | None = None,
    **trigger: Any,
) -> Fault:
    """Multiply the latency between two sides, or add ``extra`` seconds."""
    return _fault("slow", target, lasting, trigger, against=against, factor=factor, extra_s=extra)


def reset(target: str = "any", **trigger: Any) -> Fault:
    """Reset all connections of a node."""
    return _fault("reset", target, None, trigger)


def lose_response(on: str, *, nth: int = 1) -> Fault:
    """Lose the n-th response of a kind, ``"Produce.answered"`` say, with its connection."""
    return Fault("lose_response", "client", on=on, nth=nth)


def kill(target: str = "client", **trigger: Any) -> Fault:
    """Kill a client's task: ``"client:billing-1"``, or ``"client"`` for the one at which the event happens."""
    return _fault("kill", target, None, trigger)


def stop(target: str = "client", **trigger: Any) -> Fault:
    """Ask a client's task to end."""
    return _fault("stop", target, None, trigger)


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
