"""Replay recorded traces of Kafka 4.3.0 on the simulator and show the first difference of each.

    python -m tests.golden.replay FILE...

A file's kind is read from its content. Each file gets one line: ``equal``, ``different`` (with the first difference), or
``not comparable`` (with what is missing here). Exit status 1 if any differs, 2 if none could be compared, else 0.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden import (
    replay_groups,
    replay_replication,
    replay_scenarios,
    replay_share,
    replay_tables,
    replay_transactions,
)
from tests.golden.verdict import Verdict

from kafkasim.errors import ConfigurationError, Unsupported

HERE = Path(__file__).parent


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
        return replay_scenarios.replay
    steps = trace.get("steps")
    if isinstance(steps, list) and steps and isinstance(steps[0], dict) and "after" in steps[0]:
        return replay_replication.replay
    if str(trace.get("name", "")).startswith("share"):
        return replay_share.replay
    if "steps" in trace:
        return replay_transactions.replay
    return _later("of no known form")


def replay_file(path: Path) -> Verdict:
    """Replay one file; one that is no JSON, or not of the form it seems to have, is not comparable."""
    try:
        trace = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        return Verdict.not_comparable(str(problem))
    return replay(trace)


def replay(trace: Any) -> Verdict:
    """Replay what a file held. What goes wrong while a trace is read is the trace's; what goes wrong in the simulator is a difference."""
    try:
        return replayer_of(trace)(trace)
    except (ConfigurationError, Unsupported) as refusal:
        return Verdict.not_comparable(str(refusal))
    except Exception as problem:
        frames = traceback.extract_tb(problem.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).parent == HERE]
        where = f"{Path(own[-1].filename).stem}, line {own[-1].lineno}" if own else "outside"
        told = f"{type(problem).__name__}: {problem} ({where})"
        if frames[-1] is own[-1] if own else False:
            return Verdict.not_comparable(f"the trace is not of the form it seems to have: {told}")
        return Verdict.different(f"the replay ended with {told}")


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
