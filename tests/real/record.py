"""Run scenarios on a real Kafka cluster of this machine and store what happened, in the formats that the replayer reads.

    python -m tests.real.record --list
    python -m tests.real.record NAME... [--into FOLDER]
    python -m tests.real.record --again TRACE.json [--into FOLDER]

A replication scenario is a JSON file under tests/real/scenarios/replication; ``--again`` takes the steps of a trace that was recorded
before. ``live_PROTOCOL`` is the life of groups of that protocol, ``scenario_NAME-PROTOCOL`` a program of the replayer. A trace is
written whole or not at all. It needs Java and Kafka's jars, as the conformance suite does (``KAFKASIM_KAFKA_LIBS``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.golden.members import CLIENTS
from tests.real import record_groups, record_live, record_replication

Fields = dict[str, Any]

SCENARIOS = Path(__file__).parent / "scenarios" / "replication"


class UnknownScenario(Exception):
    """No such name."""


def available() -> dict[str, str]:
    """Every scenario by its name, with what it shows."""
    stored = {path.stem: json.loads(path.read_text()).get("doc", "") for path in sorted(SCENARIOS.glob("*.json"))}
    lives = {f"live_{protocol}": "members join, close and are killed" for protocol in CLIENTS}
    programs = {f"scenario_{name}": "a program of the replayer" for name in record_groups.names()}
    return {**stored, **lives, **programs}


def recorder_of(name: str) -> Callable[[], Fields]:
    """What records this scenario."""
    if name not in available():
        raise UnknownScenario(f"no scenario {name!r}; known are {', '.join(available())}")
    if name.startswith("live_"):
        return lambda: record_live.record(name.removeprefix("live_"))
    if name.startswith("scenario_"):
        return lambda: record_groups.record(name.removeprefix("scenario_"))
    return lambda: record_replication.record(load(name))


def load(name: str) -> Fields:
    """A stored replication scenario; steps in their long form."""
    scenario = json.loads((SCENARIOS / f"{name}.json").read_text())
    steps = [step if "action" in step else {"action": step} for step in scenario["steps"]]
    return {"name": name, **scenario, "steps": steps}


def from_trace(path: Path) -> Fields:
    """The scenario behind a recorded trace: its actions, and what it waited for."""
    trace = json.loads(path.read_text())
    steps = []
    for step in trace["steps"]:
        until = {"until": None} if "broker" in step["action"] and "condition_met_ms" not in step else {}
        waited = {"seconds": step["took_ms"] / 1000} if until else {}
        pause = {"until": "fenced"} if step["action"]["op"] == "pause" and not until else {}
        steps.append({"action": step["action"], **until, **waited, **pause})
    return {
        "name": trace["name"],
        "doc": trace.get("doc", ""),
        "props": trace["cluster"]["props"],
        "steps": steps,
    }


def write(name: str, trace: Fields, into: Path) -> Path:
    """The file appears when it is complete."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{name}.json"
    unfinished = path.with_suffix(".json.unfinished")
    unfinished.write_text(json.dumps(trace, indent=1) + "\n")
    os.replace(unfinished, path)
    return path


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real.record", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a scenario's name")
    parser.add_argument("--list", action="store_true", help="say what scenarios there are")
    parser.add_argument("--again", type=Path, metavar="TRACE", help="record a trace anew")
    parser.add_argument("--into", type=Path, default=Path("."), metavar="FOLDER", help="where traces go (here)")
    given = parser.parse_args(arguments)
    if given.list:
        for name, doc in available().items():
            print(f"{name}: {doc}")
        return 0
    if not given.names and given.again is None:
        parser.error("name a scenario, or ask for --list")
    try:
        wanted = {name: recorder_of(name) for name in given.names}
    except UnknownScenario as problem:
        parser.error(str(problem))
    if given.again is not None:
        scenario = from_trace(given.again)
        wanted[scenario["name"]] = lambda: record_replication.record(scenario)
    for name, record in wanted.items():
        print(name, flush=True)
        print(f"wrote {write(name, record(), given.into)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
