"""Every benchmark with tiny sizes: proves that they work, says nothing about speed.

python -m benchmarks.smoke
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.demo import DESIGN
from benchmarks.measure import ROOT, fresh_environment, left_out, real_client

_NEEDS_CLIENT: tuple[tuple[str, ...], ...] = (
    ("benchmarks.fanout", "--records", "500", "--groups", "2", "--repeat", "1"),
)
_RUNS: tuple[tuple[str, ...], ...] = (
    ("benchmarks.startup", "--repeat", "2", "--imports", "1"),
    ("benchmarks.scale", "--tiny"),
    ("benchmarks.kernel", "--events", "3000"),
    ("benchmarks.checkers", "--records", "20000"),
    ("benchmarks.bugs", "--quick"),
    ("benchmarks.seeds", "--seeds", "2", "--examples", "5"),
    ("benchmarks.truth_table", "--only", "kafkasim"),
)
_SECONDS_MAX = 300.0
"""For one benchmark; all together take a fraction of it on an idle machine."""


def run(module: str, *arguments: str) -> None:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=fresh_environment(),
        timeout=_SECONDS_MAX,
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} {' '.join(arguments)} failed\n{done.stdout}\n{done.stderr}")
    print(f"{module} works ({time.perf_counter() - started:.1f} s)")


def main() -> None:
    for arguments in _RUNS:
        run(*arguments)
    for arguments in _NEEDS_CLIENT:
        if real_client() is None:
            left_out(arguments[0])
        else:
            run(*arguments)
    if DESIGN.exists():
        run("benchmarks.demo", "--for", "10s")
    else:
        print(f"benchmarks.demo: left out, there is no {DESIGN.relative_to(ROOT)} yet")


if __name__ == "__main__":
    main()
