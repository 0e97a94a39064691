"""One screen about user code that raised: when, who, what, and which line of it."""

from __future__ import annotations

import pytest

from kafkasim.confluent_kafka import KafkaException
from kafkasim.explore.causes import cause_of
from kafkasim.explore.screen import screen
from kafkasim.explore.trial import Scenario, Trial, run_trial
from kafkasim.handle import Cluster
from kafkasim.sim.injection import Injection


def _charge(amount: str) -> int:
    return int(amount)  # the line that somebody can change


def _asks_too_late(cluster: Cluster) -> None:
    consumer = cluster.consumer("billing")
    consumer.close()
    consumer.poll(1.0)


def _screen_of(body: object) -> tuple[Trial, list[str]]:
    lines: list[str] = []

    def tell(cluster: Cluster, injection: Injection, trial: Trial) -> None:
        lines.extend(screen(cluster, injection, trial))

    trial = run_trial(Scenario("s", body, settle_s=0.0), 1, on_end=tell)  # type: ignore[arg-type]
    return trial, lines


def test_a_task_that_raised_is_told_with_its_line() -> None:
    """The breach is the exception, in virtual time, at the innermost line that is not a library's."""

    def body(cluster: Cluster) -> None:
        def work() -> None:
            cluster.run_for(0.25)
            _charge("seven")

        cluster.spawn(work, name="worker-1")
        cluster.run_for(2.0)

    trial, lines = _screen_of(body)
    (finding,) = trial.findings
    assert finding.at_us is not None
    assert finding.text.startswith("task 'worker-1' ended with ValueError(")
    assert ", raised at test_screen.py:" in finding.text
    assert finding.text.endswith(" in _charge")
    at = next(number for number, line in enumerate(lines) if line.startswith("promise broken"))
    expected = f"promise broken  {finding.at_us / 1e6:.6f} s  task 'worker-1': ValueError: invalid literal for int()"
    assert lines[at].startswith(expected)
    assert lines[at + 1].startswith("                at test_screen.py:")
    assert lines[at + 1].endswith(" in _charge: return int(amount)  # the line that somebody can change")
    assert "_charge" in str(cause_of(finding))


def test_the_call_of_a_client_that_raised_is_the_users_line() -> None:
    """Nothing of the library is shown, though it was raised there."""
    trial, lines = _screen_of(_asks_too_late)
    assert isinstance(trial.error, RuntimeError | KafkaException)
    assert any(line.endswith(" in _asks_too_late: consumer.poll(1.0)") for line in lines), lines
    assert any(line.startswith("promise broken") and "the scenario's own code: RuntimeError" in line for line in lines)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_task_that_was_asked_for_its_result_is_not_told_twice(seed: int) -> None:
    """Its exception went to whoever asked, here the scenario itself."""

    def body(cluster: Cluster) -> None:
        task = cluster.spawn(_charge, "seven", name="worker-1")
        cluster.run_for(0.5)
        task.result()

    trial = run_trial(Scenario("s", body, settle_s=0.0), seed)
    assert [finding.invariant for finding in trial.findings] == ["raised"]
