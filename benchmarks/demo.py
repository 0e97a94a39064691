"""The reference fan-out, as ``make demo`` runs it: wall time, virtual time, their ratio, and the machine's cores.

python -m benchmarks.demo [DESIGN.toml] [--repeat 1]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, fresh_environment, machine

DESIGN = ROOT / "examples" / "call_analytics" / "design.toml"
WALL_SECONDS_MAX = 10.0
_COMMAND = "from kafkasim.cli import main; main()"


def run(design: Path, arguments: list[str]) -> tuple[float, float, int, dict[str, Any]]:
    """Wall and processor seconds of the whole command, interpreter and imports included; its exit status; what it printed."""
    command = [sys.executable, "-c", _COMMAND, "run", str(design), "--json", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=fresh_environment())
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    try:
        verdict = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stderr or done.stdout}") from None
    return seconds, processor, done.returncode, verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("design", nargs="?", type=Path, default=DESIGN)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--for", dest="duration", help="another duration than the design's")
    options = parser.parse_args()
    arguments = ["--for", options.duration] if options.duration else []
    seconds: list[float] = []
    processor: list[float] = []
    statuses: set[int] = set()
    verdict: dict[str, Any] = {}
    for _ in range(options.repeat):
        wall, used, status, verdict = run(options.design, arguments)
        seconds.append(wall)
        processor.append(used)
        statuses.add(status)
    wall = statistics.median(seconds)
    virtual = float(verdict["virtual_seconds"])
    print(f"{options.design.name}, {machine()}, median of {options.repeat}; exit status {sorted(statuses)}")
    print(
        f"  virtual {virtual:9.1f} s\n  wall    {wall:9.2f} s (goal for ten virtual minutes: {WALL_SECONDS_MAX:.0f} s)"
    )
    print(f"  ratio   {virtual / wall:9.1f}\n  processor {statistics.median(processor):7.2f} s, of one core")
    arrived = sum(workload["arrived"] for workload in verdict["workloads"])
    delivered = sum(group["delivered"] for group in (*verdict["groups"], *verdict["share_groups"]))
    print(f"  {arrived:,} records, {delivered:,} deliveries: {delivered / wall:,.0f} a second of wall time")


if __name__ == "__main__":
    main()
