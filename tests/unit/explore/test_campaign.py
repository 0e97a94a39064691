"""Campaigns: the same result wherever trials run, and whatever happens to those who run them."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.unit.explore import scenes

from kafkasim.errors import ConfigurationError
from kafkasim.explore import campaign
from kafkasim.explore.campaign import Campaign, Result, explore
from kafkasim.explore.jobs import Outcome
from kafkasim.explore.pools import Processes

SCENES = "tests.unit.explore.scenes"
BUG = f"{SCENES}:commits_first"


def _told(result: Result) -> dict[str, Any]:
    values = result.as_json()
    del values["wall_seconds"]
    return values


def test_a_bug_is_found_counted_and_told_with_its_plan() -> None:
    """Records that are committed before they are worked on: seen without any fault, and as a loss once the consumer dies."""
    result = explore(BUG, seed=3, seeds=24)
    assert not result.ok
    found = {failure.cause.invariant: failure for failure in result.failures}
    assert found["commit-ahead"].witness.number == 0
    assert found["commit-ahead"].trials > 12
    loss = found["at-least-once"]
    assert loss.witness.number < 10
    assert "it was committed past" in loss.text
    assert any(fault.what in ("kill", "stop") for fault in loss.witness.recipe.plan)
    assert result.trials == 24
    assert sum(result.policies.values()) == 24


def test_a_sound_scenario_breaks_nothing_and_what_was_never_seen_is_named() -> None:
    """No "all green" alone: names that were never reached, and the chance of something new."""
    result = explore(f"{SCENES}:works_first", seed=1, seeds=24)
    assert result.ok, result.failures
    assert 0 < result.unseen < 1
    assert "the moon is full" in result.never
    assert "a call was billed" not in result.never
    assert result.tally.reached["a call was billed"] > 15


def test_the_same_seeds_give_the_same_result_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, in two others, on threads of somebody's executor; and from the file of an earlier campaign."""
    monkeypatch.setattr(campaign, "ROUND", 6)  # So that mutations have parents.
    file = str(tmp_path / "here.jsonl")
    here = explore(BUG, seed=5, seeds=24, results=file)
    assert here.policies["mutate"] >= 2
    assert _told(explore(BUG, seed=5, seeds=24, jobs=2)) == _told(here)
    with ThreadPoolExecutor(3) as threads:
        assert _told(explore(BUG, seed=5, seeds=24, executor=threads)) == _told(here)
    recalled: list[int] = []
    again = explore(
        BUG, seed=5, seeds=24, results=file, on_progress=lambda campaign: recalled.append(campaign.recalled)
    )
    assert _told(again) == _told(here)
    assert recalled[-1] == 24


def test_a_campaign_goes_on_where_its_file_ends(tmp_path: Path) -> None:
    """A line that was cut off is run again; the result is that of an uninterrupted campaign."""
    path = tmp_path / "campaign.jsonl"
    explore(BUG, seed=5, seeds=10, results=str(path))
    path.write_bytes(path.read_bytes()[:-100])
    longer = explore(BUG, seed=5, seeds=20, results=str(path))
    assert _told(longer) == _told(explore(BUG, seed=5, seeds=20))
    lines = path.read_text().splitlines()
    whole = []
    for line in lines[1:]:
        try:
            whole.append(Outcome.from_values(json.loads(line)).number)
        except ValueError:
            continue
    assert sorted(whole) == list(range(20))


def test_a_file_of_another_campaign_is_refused(tmp_path: Path) -> None:
    """By the name of what differs."""
    path = tmp_path / "campaign.jsonl"
    explore(BUG, seed=5, seeds=2, results=str(path))
    with pytest.raises(ConfigurationError, match="with seed 5, this one has 6"):
        explore(BUG, seed=6, seeds=2, results=str(path))
    path.write_text("call,invoice\n")
    with pytest.raises(ConfigurationError, match="line 1: no JSON"):
        explore(BUG, seed=6, seeds=2, results=str(path))


def test_a_worker_that_is_killed_loses_no_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In mid-campaign, twice: the same result."""
    pools: list[Processes] = []
    original = Processes.__init__

    def remember(self: Processes, jobs: int) -> None:
        original(self, jobs)
        pools.append(self)

    monkeypatch.setattr(Processes, "__init__", remember)
    killed: list[int] = []

    def kill(campaign: Campaign) -> None:
        if len(killed) < 2 and campaign.taken >= 4 * (len(killed) + 1):
            victim = pools[0].pids[0]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    result = explore(BUG, seed=5, seeds=16, jobs=2, on_progress=kill)
    assert len(killed) == 2
    assert _told(result) == _told(explore(BUG, seed=5, seeds=16))


def test_a_trial_that_takes_its_process_down_is_told_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run by itself in the end, and known by that."""
    monkeypatch.setenv("KAFKASIM_TEST_PARENT", str(os.getpid()))
    result = explore(f"{SCENES}:takes_its_process_down", seeds=4, jobs=2)
    assert result.trials == 4
    assert [failure.trials for failure in result.failures] == [3]
    assert "died, again and again" in result.failures[0].text


class _Breaking(ThreadPoolExecutor):
    """An executor that is lost after a few trials."""

    def __init__(self) -> None:
        super().__init__(1)
        self.left = 5
        self.lock = threading.Lock()

    def submit(self, function: Any, /, *args: Any, **keywords: Any) -> Future[Any]:
        with self.lock:
            self.left -= 1
            if self.left < 0:
                raise BrokenExecutor("the machine was returned")
            if self.left < 2:
                future: Future[Any] = Future()
                future.set_exception(BrokenExecutor("the machine was returned"))
                return future
        return super().submit(function, *args, **keywords)


def test_an_executor_that_breaks_loses_no_seed() -> None:
    """What is left runs in this process."""
    with _Breaking() as executor:
        assert _told(explore(BUG, seeds=12, executor=executor)) == _told(explore(BUG, seeds=12))


def test_budgets() -> None:
    """Failures and time end a campaign; so does whoever asks it to."""
    assert explore(BUG, failures=1).stopped_by == "failures"
    timed = explore(f"{SCENES}:works_first", time=0.3)
    assert timed.stopped_by == "time"
    assert timed.trials >= 1
    stopped = explore(BUG, seeds=50, should_stop=lambda: True)
    assert (stopped.stopped_by, stopped.trials) == ("interrupt", 1)
    with pytest.raises(ConfigurationError, match="seeds=0"):
        explore(BUG, seeds=0)


def test_functions_and_scenarios_are_targets_too() -> None:
    """For those who explore from Python."""
    by_name = explore(BUG, seeds=3)
    by_function = explore(scenes.commits_first, seeds=3)
    assert by_function.as_json()["coverage"] == by_name.as_json()["coverage"]
    assert explore(scenes.works_first, seeds=3).ok
    assert explore(scenes.sound, seeds=3).ok


def test_code_that_raises_is_a_failure_of_every_trial() -> None:
    """And the campaign goes on."""
    result = explore(f"{SCENES}:raises", seeds=5)
    assert [(failure.cause.invariant, failure.trials) for failure in result.failures] == [("raised", 5)]
    assert "out of paper" in result.failures[0].text
