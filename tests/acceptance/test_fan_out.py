"""The reference fan-out with something planted in it: each bug under its name, in its place; the sound design in peace."""

from __future__ import annotations

import pytest
from benchmarks.bugs.consumers import stores_by_itself, stores_when_done
from benchmarks.bugs.fan_out import FAN_OUT, fan_out

from kafkasim import faults
from kafkasim.explore.trial import run_trial


@pytest.mark.parametrize(
    ("number", "group"), [("31f", "billing"), ("34f", "fraud")], ids=["commit before work", "asynchronous work"]
)
def test_a_planted_consumer_is_reported_and_nobody_else(number: str, group: str) -> None:
    """What it commits before its work is named, with the group that does it; the nine others are not."""
    row = next(row for row in FAN_OUT if row.number == number)
    trial = run_trial(
        row.scenario(False), 1, faults.kill(f"client:{group}", on="OffsetCommit.arrived", nth=40, down=2.0)
    )
    assert "commit-ahead" in trial.broken
    assert all(f"group {group} " in finding.text for finding in trial.findings)


def test_a_producer_with_acks_1_loses_what_it_was_told_of() -> None:
    """A broker that is cut off from its like before it fails: the topic's promise is broken, no group's."""
    row = next(row for row in FAN_OUT if row.number == "16f")
    trial = run_trial(row.scenario(False), 1)
    assert set(trial.broken) == {"acked-loss"}
    assert "no_loss was promised" in str(trial.findings[0])


def test_the_sound_design_is_left_in_peace() -> None:
    """The same broker failure, the same killed consumer."""
    trial = run_trial(fan_out("sound"), 1, faults.kill("client:billing", on="OffsetCommit.arrived", nth=40, down=2.0))
    assert trial.ok, trial.findings
    assert trial.fired


def test_automatic_offset_stores_lose_what_a_crash_interrupts() -> None:
    """librdkafka stores the offset at hand-over; with enable.auto.offset.store=false and a store after the work nothing is lost."""
    plan = faults.kill("client", on="OffsetCommit.arrived", nth=12, down=1.0)
    broken = run_trial(fan_out("auto store", planted={"crm": stores_by_itself}), 2, plan)
    assert "commit-ahead" in broken.broken
    assert all("group crm " in finding.text for finding in broken.findings)
    assert run_trial(fan_out("stored when done", planted={"crm": stores_when_done}), 2, plan).ok
