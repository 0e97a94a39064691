"""Rule machines over a cluster: sound ones pass, planted bugs are found and shrunk, what users add takes part."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

import kafkasim
from kafkasim.check.report import Report
from kafkasim.testing.examples import BrokenPromise
from kafkasim.testing.machines import ClusterMachine

pytest_plugins = ["pytester"]


def few(examples: int, steps: int = 20) -> settings:
    """The same search every time."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def found(machine: type[ClusterMachine], examples: int, steps: int = 20) -> Any:
    with pytest.raises(BrokenPromise) as raised:
        run_state_machine_as_test(machine, settings=few(examples, steps))
    return raised.value


class Sound(ClusterMachine):
    """A group that works before it commits."""

    group = "billing"

    topics = {"orders": {"partitions": 2, "config": {"min.insync.replicas": 2}}}  # noqa: RUF012

    def prepare(self) -> None:
        self.cluster.guarantee("billing", topics="orders", at_least_once=True)
        self.sink = kafkasim.sinks.Sink(self.cluster, "ledger", group="billing")

    def take(self, messages: Any) -> None:
        for message in messages:
            self.sink(message)


def test_a_sound_cluster_keeps_its_promises_under_all_rules() -> None:
    """Crashes, losses of power, cuts, pauses in any order."""
    run_state_machine_as_test(Sound, settings=few(15))


class OneCopy(ClusterMachine):
    """Promises what one replica cannot keep."""

    brokers = 1
    group = None
    harms = ("power_loss",)
    topics = {"orders": {}}  # noqa: RUF012

    def prepare(self) -> None:
        self.cluster.guarantee(topics="orders", no_loss=True)


def test_a_planted_loss_is_found_under_its_name() -> None:
    """One write, one loss of power."""
    problem = found(OneCopy, 100)
    assert type(problem).__name__ == "AckedLoss"
    assert "no_loss was promised" in str(problem)


class Deaf(ClusterMachine):
    """Its group commits what it never works on."""

    def prepare(self) -> None:
        self.cluster.guarantee("machine", topics="orders", at_least_once=True)
        self.sink_calls = 0

    def take(self, messages: Any) -> None:
        self.sink_calls += len(messages)


def test_a_group_that_commits_without_work_is_found() -> None:
    """Reading, then committing, is all that it takes."""
    assert type(found(Deaf, 100)).__name__ == "CommitAhead"


class Counting(ClusterMachine):
    """A rule and an invariant that a user adds; a judge of its own."""

    seen: list[str] = []  # noqa: RUF012

    @rule(number=st.integers(1, 3))
    def count(self, number: int) -> None:
        self.seen.append("rule")
        assert self.cluster.now >= 0

    @invariant()
    def brokers_are_three(self) -> None:
        self.seen.append("invariant")
        assert len(self.cluster.broker_ids()) == 3

    def judge(self) -> Report:
        self.seen.append("judge")
        return super().judge()


def test_rules_invariants_and_judges_of_users_take_part() -> None:
    """Beside those of the base class."""
    Counting.seen.clear()
    run_state_machine_as_test(Counting, settings=few(5))
    assert set(Counting.seen) == {"rule", "invariant", "judge"}
    assert Counting.seen.count("judge") >= 5


class Raising(Counting):
    """A rule that fails."""

    @rule()
    def fail(self) -> None:
        raise RuntimeError("order 7 is missing")


def test_what_a_rule_raises_stands() -> None:
    """The example is not judged on top of it."""
    with pytest.raises(RuntimeError, match="order 7 is missing"):
        run_state_machine_as_test(Raising, settings=few(20))


MACHINE = """
from hypothesis import Phase, reproduce_failure, settings
from kafkasim.testing.machines import ClusterMachine

class OneCopy(ClusterMachine):
    brokers = 1
    group = None
    harms = ("power_loss",)
    topics = {"orders": {}}

    def prepare(self):
        self.cluster.guarantee(topics="orders", no_loss=True)

BLOB
class TestOrders(OneCopy.TestCase):
    settings = settings(
        max_examples=100, stateful_step_count=20, deadline=None, print_blob=True, derandomize=True, database=None,
        phases=[Phase.explicit, Phase.generate],
    )
"""


def test_a_machines_failure_is_reproduced(pytester: pytest.Pytester) -> None:
    """By the decorator that Hypothesis prints; the notes are the rules, the faults and the lanes."""
    pytester.makepyfile(test_it=MACHINE.replace("BLOB", ""))
    screen = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    screen.assert_outcomes(failed=1)
    text = screen.stdout.str()
    assert "state.harm(how='power_loss'" in text
    assert "became leader orders-0" in text
    blob = re.search(r"@reproduce_failure\([^)]*\)", text)
    assert blob is not None
    pytester.makepyfile(test_it=MACHINE.replace("BLOB", blob[0]))
    again = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    again.assert_outcomes(failed=1)
    assert "AckedLoss" in again.stdout.str()
