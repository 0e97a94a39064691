"""Which known bugs are found, how soon, under which fault policy; and whether sound programs are left in peace.

python -m benchmarks.bugs              # all rows under all policies
python -m benchmarks.bugs --quick      # each row that is not rare until it is found once; within a minute; fails if one is not
python -m benchmarks.bugs --sound N    # N seeds over all sound scenarios; fails at the first report
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time

from rich.console import Console
from rich.progress import Progress

from benchmarks.bugs.hunt import Alarm, Hunt, hunt, listen
from benchmarks.bugs.policies import AIMED, POLICIES, UNIFORM
from benchmarks.bugs.row import Row
from benchmarks.bugs.rows import chosen
from benchmarks.bugs.table import as_values, best, gain, table

_QUICK_SEEDS = 400
_QUICK_SOUND_SEEDS = 2


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bugs", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument(
        "--quick", action="store_true", help="find each row once, and listen to each sound twin for a few seeds"
    )
    parser.add_argument("--only", metavar="NAME", help="rows whose name contains this, or with this number")
    parser.add_argument("--policy", action="append", choices=sorted(POLICIES), help="this policy, and others so named")
    parser.add_argument(
        "--seeds", type=int, default=2000, metavar="N", help="at most so many seeds a row and policy (2000)"
    )
    parser.add_argument(
        "--hits", type=int, default=20, metavar="N", help="a row and policy ends after so many finds (20)"
    )
    parser.add_argument(
        "--sound", type=int, metavar="N", help="only the sound scenarios: N seeds over all of them together"
    )
    parser.add_argument("--json", action="store_true", help="values instead of a table")
    options = parser.parse_args()
    rows = chosen(options.only)
    if options.sound is not None:
        return _sound(rows, options.sound, as_json=options.json)
    return _quick(rows, as_json=options.json) if options.quick else _measure(rows, options)


def _measure(rows: list[Row], options: argparse.Namespace) -> int:
    policies = {name: POLICIES[name] for name in options.policy or POLICIES}
    hunts: dict[str, dict[str, Hunt]] = {row.name: {} for row in rows}
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        task = progress.add_task("", total=len(rows) * len(policies))
        for row in rows:
            for name, policy in policies.items():
                progress.update(task, description=f"{row.name}, {name}")
                known = next(iter(hunts[row.name].values()), None)
                if known is None or row.faults:  # without faults there is nothing that policies could do otherwise
                    known = hunt(row, policy, seeds=options.seeds, hits=options.hits)
                hunts[row.name][name] = known
                progress.advance(task)
    if options.json:
        print(json.dumps(as_values(rows, hunts, {}), indent=2))
    else:
        out = Console(width=None if sys.stdout.isatty() else 200)
        out.print(table(rows, hunts, {}))
        aimed_at = {row.name: hunts[row.name] for row in rows if row.faults}
        for name in policies:
            factor = gain(aimed_at, name, UNIFORM) if name != UNIFORM and UNIFORM in policies else None
            if factor is not None:
                out.print(f"{name}: as often as {UNIFORM} {factor}")
    return 0 if all(best(per_policy) for per_policy in hunts.values()) else 1


def _quick(rows: list[Row], *, as_json: bool) -> int:
    hunts: dict[str, dict[str, Hunt]] = {row.name: {} for row in rows if not row.rare}
    listened: dict[str, tuple[int, list[Alarm]]] = {}
    started = time.perf_counter()
    for row in rows:
        if not row.rare:
            hunts[row.name] = {AIMED: hunt(row, POLICIES[AIMED], seeds=_QUICK_SEEDS, hits=1)}
        tried, alarms = 0, []
        for _, scenario in row.sound():
            number, found = listen(row, scenario, AIMED, POLICIES[AIMED], range(_QUICK_SOUND_SEEDS))
            tried += number
            alarms += found
        listened[row.name] = (tried, alarms)
    if as_json:
        print(json.dumps(as_values(rows, hunts, listened), indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(table(rows, hunts, listened))
    missed = [name for name, per_policy in hunts.items() if not per_policy[AIMED].hits]
    reports = [str(alarm) for _, alarms in listened.values() for alarm in alarms]
    reports += [alarm for per_policy in hunts.values() for found in per_policy.values() for alarm in found.alarms]
    for name in missed:
        print(f"not found: {name}", file=sys.stderr)
    for report in reports:
        print(f"reported, though sound: {report}", file=sys.stderr)
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    return 1 if missed or reports else 0


def _sound(rows: list[Row], seeds: int, *, as_json: bool) -> int:
    """Equal shares for every sound scenario and policy."""
    work = [(row, scenario, name) for row in rows for _, scenario in row.sound() for name in POLICIES]
    share = math.ceil(seeds / len(work))
    listened: dict[str, tuple[int, list[Alarm]]] = {row.name: (0, []) for row in rows}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(work))
        for row, scenario, name in work:
            progress.update(task, description=f"{row.name}, {scenario.name}, {name}")
            tried, alarms = listen(row, scenario, name, POLICIES[name], range(share))
            listened[row.name] = (listened[row.name][0] + tried, listened[row.name][1] + alarms)
            progress.advance(task)
    total = sum(tried for tried, _ in listened.values())
    alarms = [alarm for _, found in listened.values() for alarm in found]
    if as_json:
        print(json.dumps({"seeds": total, "reports": [str(alarm) for alarm in alarms]}, indent=2))
    else:
        for alarm in alarms:
            print(f"{alarm.scenario}, {alarm.policy}, seed {alarm.seed}: {alarm.text}")
        print(f"{len(alarms)} reports in {total:,} seeds")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
