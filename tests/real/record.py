"""Run scenarios on a real Kafka cluster of this machine and store what happened, in the formats that the replayer reads.

    python -m tests.real.record --list
    python -m tests.real.record NAME... [--into FOLDER]
    python -m tests.real.record --again TRACE.json [--into FOLDER]

A scenario is a JSON file under tests/real/scenarios/KIND; ``--again`` takes the steps of a trace that was recorded before. A trace is
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

from tests.real import record_replication

Fields = dict[str, Any]

SCENARIOS = Path(__file__).parent / "scenarios"
RECORDERS: dict[str, Callable[[Fields], Fields]] = {"replication": record_replication.record}


class UnknownScenario(Exception):
    """No such name, or a file that is no scenario."""


def available() -> dict[str, Path]:
    """Every scenario's file by its name."""
    return {path.stem: path for kind in RECORDERS for path in sorted((SCENARIOS / kind).glob("*.json"))}


def load(name: str) -> tuple[str, Fields]:
    """A scenario's kind and content; steps in their long form."""
    known = available()
    path = known.get(name) or Path(name)
    if not path.is_file():
        raise UnknownScenario(f"no scenario {name!r}; known are {', '.join(known)}")
    scenario = json.loads(path.read_text())
    return path.parent.name if name in known else _kind_of(scenario), _with_steps(path.stem, scenario)


def from_trace(path: Path) -> tuple[str, Fields]:
    """The scenario behind a recorded trace: its actions, and what it waited for."""
    trace = json.loads(path.read_text())
    steps = []
    for step in trace["steps"]:
        until = {"until": None} if "broker" in step["action"] and "condition_met_ms" not in step else {}
        waited = {"seconds": step["took_ms"] / 1000} if until else {}
        pause = {"until": "fenced"} if step["action"]["op"] == "pause" and not until else {}
        steps.append({"action": step["action"], **until, **waited, **pause})
    return "replication", {
        "name": trace["name"],
        "doc": trace.get("doc", ""),
        "props": trace["cluster"]["props"],
        "steps": steps,
    }


def _kind_of(scenario: Fields) -> str:
    return str(scenario.get("kind", "replication"))


def _with_steps(name: str, scenario: Fields) -> Fields:
    """A step may be the action alone."""
    steps = [step if "action" in step else {"action": step} for step in scenario["steps"]]
    return {"name": name, **scenario, "steps": steps}


def write(trace: Fields, into: Path) -> Path:
    """The file appears when it is complete."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{trace['name']}.json"
    unfinished = path.with_suffix(".json.unfinished")
    unfinished.write_text(json.dumps(trace, indent=1) + "\n")
    os.replace(unfinished, path)
    return path


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real.record", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a scenario's name, or a file that holds one")
    parser.add_argument("--list", action="store_true", help="say what scenarios there are")
    parser.add_argument("--again", type=Path, metavar="TRACE", help="record a trace anew")
    parser.add_argument("--into", type=Path, default=Path("."), metavar="FOLDER", help="where traces go (here)")
    given = parser.parse_args(arguments)
    if given.list:
        for name, path in available().items():
            print(f"{path.parent.name}: {name}: {json.loads(path.read_text()).get('doc', '')}")
        return 0
    if not given.names and given.again is None:
        parser.error("name a scenario, or ask for --list")
    try:
        wanted = [load(name) for name in given.names]
        if given.again is not None:
            wanted.append(from_trace(given.again))
    except UnknownScenario as problem:
        parser.error(str(problem))
    for kind, scenario in wanted:
        print(f"{kind} {scenario['name']}", flush=True)
        print(f"wrote {write(RECORDERS[kind](scenario), given.into)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
