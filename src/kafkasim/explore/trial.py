"""One trial: a scenario under one seed and one fault plan, run to its verdict.

Inputs:   a scenario (what is set up, what runs, what faults may aim at), a seed, a plan.
Effects:  a `Trial`: the report of all checks, what fired, the fingerprint. Nothing is raised for what the scenario's code does.
Rule 1:   the plan is let loose after ``prepare``; after ``body`` all is healed and the cluster gets ``settle_s`` before it is judged.
Rule 2:   the same scenario, seed and plan give the same trial, in any process.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from kafkasim.check.report import Finding, Report
from kafkasim.handle import Cluster
from kafkasim.sim.choices import Choices
from kafkasim.sim.injection import Fired, Injection
from kafkasim.sim.plan import Fault, Plan
from kafkasim.sim.watchdog import ClockStuck

#: The first finding of a trial whose own code raised: the invariant's name.
RAISED = "raised"


@attrs.frozen
class Scenario:
    """What is tried.

    Args:
        name: how reports call it.
        body: runs the clients; takes the cluster (and sizes, by their names), returns when its work is over.
        prepare: creates topics and what else must stand before any fault; it is not disturbed.
        options: keyword arguments of ``kafkasim.Cluster``, the seed excepted.
        partitions: what faults aim at, as ``"orders-0"``.
        clients: tasks that faults may end, by name.
        settled: ends the time between the end of the body and the verdict as soon as it is true.
        settle_s: virtual seconds between the end of the body, with all faults healed, and the verdict.
        span_s: virtual seconds over which faults that come at a time are spread: about as long as the body runs.
        sizes: how much of what: ``{"records": 40, "partitions": 3}``. ``prepare`` and ``body`` get those that they have parameters for;
            ``brokers`` goes to the cluster, too. Shrinking makes them smaller.
        faults: a plan of the scenario's own for each seed, if it has some.
        judge: gives the verdict instead of ``cluster.check``.
        alternatives: the same scenario with one thing done otherwise, by what that is: ``{"acks=all": ...}``; shrinking tries each once.
        sometimes: what should happen at least once in a campaign (`kafkasim.sometimes`).
    """

    name: str
    body: Callable[..., Any]
    prepare: Callable[..., Any] | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    partitions: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    settle_s: float = 30.0
    span_s: float = 60.0
    settled: Callable[[Cluster], bool] | None = None
    sizes: Mapping[str, int] = attrs.field(factory=dict)
    faults: Callable[[int], Plan | Fault] | None = None
    judge: Callable[[Cluster], Report] | None = None
    alternatives: Mapping[str, Scenario] = attrs.field(factory=dict)
    sometimes: tuple[str, ...] = ()

    def with_features(self, features: Mapping[str, bool]) -> Scenario:
        """The same with protections switched: ``{"epoch_truncation": False}``."""
        merged = {**self.options.get("features", {}), **features}
        return attrs.evolve(self, options={**self.options, "features": merged})

    def with_sizes(self, sizes: Mapping[str, int]) -> Scenario:
        """The same with other sizes: ``{"records": 3}``."""
        options = {**self.options, "brokers": sizes["brokers"]} if "brokers" in sizes else self.options
        return attrs.evolve(self, sizes={**self.sizes, **sizes}, options=options)

    def call(self, function: Callable[..., Any], cluster: Cluster) -> Any:
        """Call ``prepare`` or ``body`` with the sizes that it asks for."""
        __tracebackhide__ = True
        if not self.sizes:
            return function(cluster)
        wanted = inspect.signature(function).parameters
        return function(cluster, **{name: size for name, size in self.sizes.items() if name in wanted})


@attrs.frozen
class Trial:
    """How one run ended. ``error`` is what the scenario's own code raised."""

    scenario: str
    seed: int
    plan: Plan
    report: Report
    fired: tuple[Fired, ...]
    unfired: tuple[Fault, ...]
    fingerprint: str
    virtual_s: float
    error: BaseException | None = None

    @classmethod
    def of(
        cls, scenario: str, cluster: Cluster, injection: Injection, report: Report, error: BaseException | None
    ) -> Trial:
        """The run of a cluster, as it stands."""
        return cls(
            scenario,
            cluster.seed,
            injection.plan,
            report,
            tuple(injection.fired),
            tuple(injection.unfired),
            str(cluster.fingerprint()),
            cluster.now,
            error,
        )

    @property
    def ok(self) -> bool:
        return self.report.ok and self.error is None

    @property
    def findings(self) -> list[Finding]:
        """What broke; for code that raised before a verdict, that."""
        if self.error is None:
            return self.report.findings
        text = f"{type(self.error).__name__}: {self.error}"
        return [Finding(RAISED, text, at_us=round(self.virtual_s * 1e6)), *self.report.findings]

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the broken invariants, each once, in the order in which they were found."""
        return tuple(dict.fromkeys(finding.invariant for finding in self.findings))


def run_trial(
    scenario: Scenario,
    seed: int,
    plan: Plan | Fault | None = None,
    *,
    choices: Choices | None = None,
    on_start: Callable[[Cluster, Injection], None] | None = None,
    on_end: Callable[[Cluster, Injection, Trial], None] | None = None,
) -> Trial:
    """Run it.

    ``choices`` come from elsewhere than the seed (a tape, say). ``on_start`` sees the cluster when the plan is let loose, ``on_end``
    before it is closed: for histories, pictures, files. In the scenario's own code ``confluent_kafka``, the clock and ``random`` are the
    cluster's, as they are in tasks.
    """
    __tracebackhide__ = True  # A failing test shows its own lines.
    with Cluster(**{**scenario.options, "seed": seed, "choices": choices}) as cluster:
        error: BaseException | None = None
        report = Report()
        injection = Injection(cluster, Plan())
        try:
            with cluster.install():
                if scenario.prepare is not None:
                    scenario.call(scenario.prepare, cluster)
                injection = cluster.inject(Plan.of(plan or Plan()))
                if on_start is not None:
                    on_start(cluster, injection)
                scenario.call(scenario.body, cluster)
            injection.heal()
            _settle(scenario, cluster)
            report = cluster.check() if scenario.judge is None else scenario.judge(cluster)
        except (Exception, ClockStuck) as raised:
            error = raised
        trial = Trial.of(scenario.name, cluster, injection, report, error)
        if on_end is not None:
            on_end(cluster, injection, trial)
    cluster.forget()
    return trial


def _settle(scenario: Scenario, cluster: Cluster) -> None:
    settled = scenario.settled
    if settled is None:
        cluster.run_for(scenario.settle_s)
    else:
        cluster.wait(lambda: settled(cluster), round(scenario.settle_s * 1_000_000))
