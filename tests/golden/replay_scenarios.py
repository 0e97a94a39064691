"""Group scenarios: recorded programs of consumers and admin clients, driven again step by step, whatever protocol the group speaks.

Each scenario's program is known by its name (`scenario_membership`, `scenario_offsets`); the trace says what every step came to. Inputs
that the recorder left to chance are taken from the trace: how records lay on partitions, how long after one another members joined.

Rule 1:   times, member ids, the order of what brokers and clients keep in hash tables are not compared.
Rule 2:   with the consumer protocol a member is given what others release as they release it: assigns that follow one another count as one.
Rule 3:   a recording is one of the ways a thing can go: whose metadata was refreshed first, which heartbeat came first. The simulator
          may find it under any of a few seeds and paces; one of them must agree in every step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.golden import scenario_membership, scenario_offsets
from tests.golden.members import CLIENTS, plain_text
from tests.golden.scene import Scene
from tests.golden.verdict import Verdict

Fields = dict[str, Any]
Steps = Iterator[tuple[str | None, Fields]]

LEFT_OUT = "times, member ids, the order within sets, whether the recorder found the group settled"
PROGRAMS: dict[str, Callable[[Scene], Steps]] = {
    "static": scenario_membership.static,
    "partinc": scenario_membership.partinc,
    "regex": scenario_membership.regex,
    "migrate": scenario_membership.migrate,
    "sigstop": scenario_membership.sigstop,
    "fenced": scenario_offsets.fenced,
    "reset": scenario_offsets.reset,
    "commitsem": scenario_offsets.commitsem,
    "cbcommit": scenario_offsets.cbcommit,
    "manual": scenario_offsets.manual,
}
VARIANTS = 6
_NOT_COMPARED = ("t", "member_id", "seconds", "settled")
#: Fields that say whether there is a member id, and which.
_IDENTITIES = ("memberid", "m0_identity_before")


def replay(trace: Fields) -> Verdict:
    """One scenario, on a cluster of its own for each way it is tried."""
    name, protocol = trace["scenario"], trace.get("protocol", "")
    if name == "misc":
        return _replay_misc(trace)
    program = PROGRAMS.get(name)
    if program is None:
        return Verdict.not_comparable(f"no such scenario as {name!r} here")
    if protocol not in CLIENTS:
        return Verdict.not_comparable(f"no such protocol as {protocol!r} here")
    first: Verdict | None = None
    for variant in range(VARIANTS):
        with Scene(trace, protocol, variant) as scene:
            verdict = _run(trace["steps"], program(scene), protocol)
        if verdict.kind != "different":
            return verdict
        first = first or verdict
    assert first is not None
    return first


def _run(recorded: list[Fields], program: Steps, protocol: str) -> Verdict:
    for number, wanted in enumerate(recorded):
        try:
            event, own = next(program)
        except StopIteration:
            return Verdict.not_comparable(f"step {number}: the scenario has no such step here")
        if event is not None and wanted.get("event") != event:
            return Verdict.not_comparable(f"step {number}: {wanted.get('event')!r}, expected {event!r}")
        difference = first_difference(wanted, own, protocol)
        if difference:
            return Verdict.different(f"step {number} ({event or _label(wanted)}): {difference}", LEFT_OUT)
    return Verdict.equal(f"{len(recorded)} steps", LEFT_OUT)


def _label(step: Fields) -> str:
    return ", ".join(str(value) for value in step.values() if isinstance(value, str)) or ", ".join(step)


def _replay_misc(trace: Fields) -> Verdict:
    own: Fields = {}
    for key, wanted in trace["steps"].items():
        protocol = key.removeprefix("pause_")
        if key.startswith("pause_") and protocol not in CLIENTS:
            return Verdict.not_comparable(f"{key}: no such protocol as {protocol!r} here")
        program = scenario_offsets.MISC.get(key)
        if program is None and not key.startswith("pause_"):
            return Verdict.not_comparable(f"{key}: the scenario has no such step here")
        with Scene({"scenario": "misc", "steps": [wanted]}, protocol if program is None else "eager-range", 0) as scene:
            own[key] = scenario_offsets.pause(scene) if program is None else program(scene)
    difference = first_difference(trace["steps"], own, "")
    if difference:
        return Verdict.different(difference, LEFT_OUT)
    return Verdict.equal(f"{len(own)} steps", LEFT_OUT)


# --- comparing -------------------------------------------------------------------------------------------------------


def first_difference(recorded: Fields, own: Fields, protocol: str) -> str:
    """The first field of a recorded step that is otherwise here, or nothing."""
    for field, wanted in recorded.items():
        if field in ("event", *_NOT_COMPARED) or (field in ("policy", "log", "scenario") and field not in own):
            continue
        if field not in own:
            return f"{field}: not known here"
        here, there = _plain(own[field], protocol, field), _plain(wanted, protocol, field)
        if here != there:
            return f"{field}: {_narrowed(there, here)}"
    return ""


def _narrowed(wanted: Any, got: Any) -> str:
    """The smallest part that differs."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in [*wanted, *(key for key in got if key not in wanted)]:
            if wanted.get(key) != got.get(key):
                return f"{key}: {_narrowed(wanted.get(key), got.get(key))}"
    return f"{json.dumps(wanted)}, got {json.dumps(got)}"


def _plain(value: Any, protocol: str, field: str = "") -> Any:
    """Without what varies."""
    if isinstance(value, dict):
        return {
            key: _plain(each, protocol, key) for key, each in value.items() if key not in _NOT_COMPARED and each != []
        }
    if isinstance(value, list | tuple):
        if field in _IDENTITIES and value[:1] == ["ok"]:
            return _anonymous(value[1])
        listed = [_plain(each, protocol) for each in value]
        if listed[:1] == ["KafkaException"]:
            listed = listed[1:]
        if _are_events(listed):
            return _merged(listed) if protocol.startswith("consumer") else listed
        if field == "members" or _are_places(listed):
            return sorted(listed, key=json.dumps)
        return listed
    return plain_text(value) if isinstance(value, str) else value


def _anonymous(value: Any) -> Any:
    if isinstance(value, list):
        return [_anonymous(each) for each in value]
    return "some id" if isinstance(value, str) else value


def _are_places(listed: list[Any]) -> bool:
    """Partitions with offsets: brokers and clients keep them in tables of no order."""
    return all(isinstance(each, list) and len(each) == 4 and isinstance(each[1], int) for each in listed)


def _are_events(listed: list[Any]) -> bool:
    return bool(listed) and all(
        isinstance(each, dict) and "type" in each and "client_id" not in each for each in listed
    )


def _merged(events: list[Fields]) -> list[Fields]:
    merged: list[Fields] = []
    for event in events:
        if event["type"] == "assign" and merged and merged[-1]["type"] == "assign":
            held, more = merged[-1]["partitions"], event["partitions"]
            both = {topic: sorted(held.get(topic, []) + more.get(topic, [])) for topic in sorted({*held, *more})}
            merged[-1] = {"type": "assign", "partitions": both}
        else:
            merged.append(event)
    return merged
