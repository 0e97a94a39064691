"""One example of Hypothesis, judged: a plan let loose, healed, held against its promises, and told so that it can be read and run again.

Inputs:   a cluster, a plan, the work of the example.      Effects: Hypothesis hears of events and targets; a failure leaves a replay file.
Rule 1:   each broken invariant raises an exception of a class of its own, so that Hypothesis keeps different bugs apart.
Rule 2:   what is written down is read back by the strategies under ``--kafkasim-replay``: the same test, one example, the recorded one.

    @given(plan=fault_plans(["orders-0"]), work=workloads(), seed=seeds())
    def test_nothing_is_lost(plan, work, seed):
        with kafkasim.Cluster(seed=seed) as cluster:
            cluster.create_topic("orders", config={"min.insync.replicas": 2})
            with judged(cluster, plan, work):
                work.produce(cluster, "orders")
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import currently_in_test_context, event, note, target

from kafkasim.check.report import Report
from kafkasim.core.model.history import Delivered, Happened
from kafkasim.explore.screen import screen
from kafkasim.explore.trial import Trial
from kafkasim.sim.aim import look_at
from kafkasim.sim.files import write_whole
from kafkasim.sim.injection import Injection
from kafkasim.sim.plan import Fault, Plan
from kafkasim.sim.plan_text import fault_to_values

if TYPE_CHECKING:
    from kafkasim.testing.strategies import Workload

_FOLDER = Path(".kafkasim") / "failures"


class BrokenPromise(AssertionError):
    """A promise was broken in an example; its subclasses are named after invariants."""


_CLASSES: dict[str, type[BrokenPromise]] = {}


@contextlib.contextmanager
def judged(
    cluster: Any, plan: Plan | Fault | None = None, work: Workload | None = None, *, settle: float = 30.0
) -> Iterator[Injection]:
    """Let ``plan`` loose for the body; then heal it, give the cluster ``settle`` seconds, and check its history.

    Raises a `BrokenPromise` where a promise is broken, in a plain test as well. In an example of Hypothesis any failure is noted with
    the faults that fired, swim lanes, the chain of causes and the line that runs it again.
    """
    __tracebackhide__ = True
    injection: Injection = cluster.inject(Plan.of(plan or Plan()))
    sight = Sight(cluster)
    injection.before = sight.look
    report: Report | None = None
    try:
        yield injection
        injection.heal()
        cluster.run_for(settle)
        report = cluster.check()
        tell(cluster, report, sight)
        if not report.ok:
            raise broken(report)
    except Exception as problem:
        show(cluster, injection, report, None if isinstance(problem, BrokenPromise) else problem)
        if currently_in_test_context():
            note(_keep(cluster, injection.plan, work))
        raise


def broken(report: Report) -> BrokenPromise:
    """The exception for a report's first finding: always the same class for one invariant."""
    name = report.findings[0].invariant
    kind = _CLASSES.get(name)
    if kind is None:
        kind = _CLASSES[name] = type(
            "".join(word.title() for word in name.split("-")), (BrokenPromise,), {"__doc__": name}
        )
    return kind(f"{report.findings[0].text}\n{report}")


class Sight:
    """What an example is steered towards: leaders lost with records that only they have."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.gap = 0

    def look(self, *_: object) -> None:
        """Just before something goes wrong."""
        image = self._cluster._controller_image()
        for topic in image.topics.values() if image is not None else ():
            for state in topic.partitions if not topic.name.startswith("__") else ():
                _state, replica = look_at(self._cluster, state.tp)
                if replica is not None:
                    self.gap = max(self.gap, replica.log_end - replica.high_watermark)


def tell(cluster: Any, report: Report, sight: Sight) -> None:
    """Hypothesis hears what was reached, and what to reach more of; nobody does where no example is run."""
    if not currently_in_test_context():
        return
    for name in dict.fromkeys(finding.invariant for finding in report.findings):
        event(f"broken: {name}")
    for name in dict.fromkeys(finding.invariant for finding in report.allowed):
        event(f"allowed: {name}")
    begun = sum(1 for happened in cluster.history.of(Happened) if happened.kind == "became leader")
    event(f"leaders began: {begun if begun < 10 else 'ten or more'}")
    target(float(sight.gap), label="records above the high watermark when something went wrong")
    target(float(_redelivered(cluster)), label="records given again")


def _redelivered(cluster: Any) -> int:
    given = 0
    different: dict[tuple[str, Any, int], None] = {}
    for delivered in cluster.history.of(Delivered):
        for index in range(delivered.start, delivered.stop):
            given += 1
            different[delivered.group, delivered.tp, delivered.batch.offset_at(index)] = None
    return given - len(different)


def show(
    cluster: Any,
    injection: Injection | None = None,
    report: Report | None = None,
    problem: BaseException | None = None,
) -> None:
    """Note what an example that failed was: the promise and its breach, the faults, the lanes, the chain of causes."""
    if not currently_in_test_context():
        return
    injection = injection or cluster.inject(Plan())
    trial = Trial.of("example", cluster, injection, report or Report(), problem)
    note("\n".join(screen(cluster, injection, trial)))


def _keep(cluster: Any, plan: Plan, work: Workload | None) -> str:
    """Write the example down, over the one that was kept before it: the last one is the smallest."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "hypothesis").rpartition(" (")[0] or "hypothesis"
    name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in test.rpartition("::")[2])
    kept: dict[str, Any] = {"seed": cluster.seed, "plan": {"faults": [fault_to_values(fault) for fault in plan]}}
    if work is not None:
        kept["records"] = [[_text(key), _text(value)] for key, value in work.records]
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / f"{name}-example.json"
    write_whole(file, json.dumps({**kept, "test": test}, indent=2))
    return f"replay: pytest '{test}' --kafkasim-replay {file}"


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("latin-1")
