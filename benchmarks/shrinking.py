"""How small failing runs of the bug benchmark become, how long it takes, and whether the protection that was off is named.

python -m benchmarks.shrinking              # all rows
python -m benchmarks.shrinking --only 13    # rows by number or name
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import attrs

from benchmarks.bugs.policies import AIMED, POLICIES
from benchmarks.bugs.row import Row
from benchmarks.bugs.rows import chosen
from benchmarks.measure import machine
from kafkasim.explore.causes import causes_of
from kafkasim.explore.recipe import Recipe
from kafkasim.explore.shrink import Shrinker, Shrunk
from kafkasim.explore.trial import Scenario, run_trial

_BUDGET_S = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shrinking", description=Path(__file__).stem)
    parser.add_argument("--only", metavar="NAME", help="rows whose name contains this, or with this number")
    parser.add_argument("--seeds", type=int, default=400, help="at most so many seeds to find a row")
    options = parser.parse_args()
    results: list[Shrunk] = []
    print(f"{'row':<34} {'faults':>9} {'records':>9} {'runs':>5} {'s':>6}  named", flush=True)
    for row in chosen(options.only):
        shrunk = shrink_row(row, options.seeds)
        if shrunk is None:
            print(
                f"{row.number + ' ' + row.name:<34} not found in {options.seeds} seeds (or its settings allow it)",
                flush=True,
            )
            continue
        results.append(shrunk)
        print(line(row, shrunk), flush=True)
    if results:
        print(
            f"median of {len(results)} rows: {statistics.median(len(one.recipe.plan) for one in results):g} faults, "
            f"{_median_records(results)}, "
            f"{statistics.median(one.wall_s for one in results):.1f} s (most {max(one.wall_s for one in results):.1f}); the protection "
            f"that was off is named in {sum(is_named(one) for one in results)} of {len(results)}; {machine()}"
        )
    return 0


def shrink_row(row: Row, seeds: int) -> Shrunk | None:
    """The first failing seed of the benchmark's aimed policy, shrunk; None where nothing is reported as broken."""
    scenario = _with_alternative(row)
    for seed in range(seeds):
        plan = POLICIES[AIMED](scenario, seed, row.faults)
        trial = run_trial(scenario, seed, plan)
        for cause in causes_of(trial.findings):
            # What the sound program does too is no run of this bug (its settings may let it lose something).
            if cause.invariant in row.expected and run_trial(row.scenario(True), seed, plan).ok:
                return Shrinker(scenario, Recipe(seed, plan), cause, _BUDGET_S).shrink()
    return None


def _with_alternative(row: Row) -> Scenario:
    """Rows whose protection is no feature of the cluster have it in the sound scenario."""
    scenario = row.scenario(False)
    if any(not is_on for is_on in (scenario.options.get("features") or {}).values()):
        return scenario
    return attrs.evolve(scenario, alternatives={"its protection": row.scenario(True)})


def records(shrunk: Shrunk) -> int | None:
    """None where the scenario has no such size."""
    return {**shrunk.sizes_before, **shrunk.recipe.sizes}.get("records")


def _median_records(results: list[Shrunk]) -> str:
    sized = [count for one in results if (count := records(one)) is not None]
    return f"{statistics.median(sized):g} records in the {len(sized)} that have them as a size" if sized else "no sizes"


def is_named(shrunk: Shrunk) -> bool:
    return any(one.passes for one in shrunk.counterfactuals if one.change.startswith("with "))


def line(row: Row, shrunk: Shrunk) -> str:
    faults = f"{len(shrunk.before.plan)}->{len(shrunk.recipe.plan)}"
    size = "-" if records(shrunk) is None else f"{shrunk.sizes_before['records']}->{records(shrunk)}"
    end = "" if shrunk.is_minimal else " (time was up)"
    return (
        f"{row.number + ' ' + row.name:<34} {faults:>9} {size:>9} {shrunk.runs:>5} {shrunk.wall_s:>6.1f}  "
        f"{'yes' if is_named(shrunk) else 'no'}{end}"
    )


if __name__ == "__main__":
    sys.exit(main())
