"""How many seeds a second: a whole run of a small cluster under faults, with its history, its oracles and its verdict.

Three brokers and a controller, one partition with three replicas, 200 records, four faults at protocol events, healed and settled.
"one by one": a record every 5 ms, each its own batch; "in a loop": as fast as produce() takes them. The yardstick of the same run is
a bare heap of callbacks: how many of its events one seed costs.

    python -m benchmarks.seeds [--seeds 40] [--examples 100] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from typing import Any

import attrs

from benchmarks.bugs.replication import replicated
from benchmarks.kernel import bare_loop
from benchmarks.measure import machine
from kafkasim.explore.trial import Scenario, Trial, run_trial
from kafkasim.sim.nemeses import event_indexed

RECORDS = 200
_HEAP_EVENTS = 300_000


@attrs.frozen
class Measured:
    """``virtual_ratio``: virtual seconds a second of the processor."""

    seeds_per_s: float
    heap_events: float
    virtual_ratio: float
    broken: int


def scenarios() -> dict[str, Scenario]:
    return {
        "one by one": replicated("one by one", records=RECORDS, gap_s=0.005),
        "in a loop": replicated("in a loop", producer={"linger.ms": 5}, records=RECORDS, gap_s=0.0),
    }


def measure(scenario: Scenario, seeds: int, unit: float) -> Measured:
    """Processor time of ``seeds`` trials; ``unit``: events a second of the bare heap."""
    run_one(scenario, 0)
    virtual_s = 0.0
    broken = 0
    started = time.process_time()
    for seed in range(seeds):
        trial = run_one(scenario, seed)
        virtual_s += trial.virtual_s
        broken += not trial.ok
    spent = time.process_time() - started
    return Measured(seeds / spent, spent / seeds * unit, virtual_s / spent, broken)


def run_one(scenario: Scenario, seed: int) -> Trial:
    return run_trial(scenario, seed, event_indexed(scenario.partitions, seed=seed))


def hypothesis_seconds(examples: int) -> float:
    """A test as users write it: a drawn plan and workload, a cluster, its check; processor time of all its examples."""
    from hypothesis import HealthCheck, given, settings

    from kafkasim.handle import Cluster
    from kafkasim.testing import strategies

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(plan=strategies.fault_plans(["orders-0"]), work=strategies.workloads())
    def nothing_is_lost(plan: Any, work: Any) -> None:
        with Cluster() as cluster:
            cluster.create_topic("orders", config={"min.insync.replicas": 2})
            injection = cluster.inject(plan)
            work.produce(cluster, "orders", **{"enable.idempotence": True})
            injection.heal()
            cluster.run_for(10.0)
            assert cluster.check().ok

    started = time.process_time()
    nothing_is_lost()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true", help="profile the first scenario instead")
    arguments = parser.parse_args()
    if arguments.profile:
        profile = cProfile.Profile()
        profile.runcall(measure, scenarios()["one by one"], arguments.seeds, 1.0)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    events, spent = bare_loop(_HEAP_EVENTS)
    unit = events / spent
    measured = {name: measure(scenario, arguments.seeds, unit) for name, scenario in scenarios().items()}
    test_s = hypothesis_seconds(arguments.examples)
    if arguments.json:
        print(
            json.dumps({"seeds": {name: attrs.asdict(row) for name, row in measured.items()}, "hypothesis_s": test_s})
        )
        return
    print(f"{machine()}; a bare heap: {unit / 1e6:.2f} M events/s")
    for name, row in measured.items():
        print(
            f"{RECORDS} records {name}: {row.seeds_per_s:.1f} seeds/s, a seed as {row.heap_events:,.0f} heap events, "
            f"{row.virtual_ratio:,.0f} x real time, {row.broken} broken"
        )
    print(f"a Hypothesis test of {arguments.examples} examples: {test_s:.1f} s")


if __name__ == "__main__":
    main()
