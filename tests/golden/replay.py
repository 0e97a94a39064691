"""Replay recorded traces of Kafka 4.3.0 on the simulator and show the first difference of each.

    python -m tests.golden.replay FILE...

A file's kind is read from its content. Each file gets one line: ``equal``, ``different`` (with the first difference), or
``not comparable`` (with what is missing here). Exit status 1 if any differs, 2 if none could be compared, else 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden import replay_groups, replay_replication, replay_tables
from tests.golden.verdict import Verdict


def _later(reason: str) -> Callable[[dict[str, Any]], Verdict]:
    return lambda trace: Verdict.not_comparable(reason)


def replayer_of(trace: Any) -> Callable[[Any], Verdict]:
    """What replays a trace of this form."""
    if not isinstance(trace, dict):
        return _later("a trace is a JSON object")
    if "rows" in trace:
        return replay_tables.partitioner
    if "cases" in trace:
        return replay_tables.assignors
    if "observed" in trace:
        return replay_tables.coordinator_partition
    if "scenarios" in trace:
        return replay_groups.replay_live
    if "scenario" in trace:
        return _later("group scenarios are not driven from their traces yet")
    steps = trace.get("steps") or [{}]
    if "after" in steps[0]:
        return replay_replication.replay
    if str(trace.get("name", "")).startswith("share"):
        return _later("share groups are not modelled yet")
    if "steps" in trace:
        return _later("transactions are not modelled yet, and producer scenarios are not driven from their traces")
    return _later("of no known form")


def replay_file(path: Path) -> Verdict:
    """Replay one file; one that is no JSON is not comparable."""
    try:
        trace = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        return Verdict.not_comparable(str(problem))
    return replayer_of(trace)(trace)


def main(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write(__doc__ or "")
        return 2
    verdicts = []
    for name in arguments:
        verdict = replay_file(Path(name))
        verdicts.append(verdict)
        print(f"{name}: {verdict}")
    if any(verdict.kind == "different" for verdict in verdicts):
        return 1
    return 0 if any(verdict.kind == "equal" for verdict in verdicts) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
