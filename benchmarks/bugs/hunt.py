"""Search for a row's bug under one policy, and listen whether its sound twins stay silent.

Rule 1:   seeds are independent, so every seed is a try of its own: hits over seeds tried estimate the chance of one try, and the
          seeds after the last hit count as tried in vain (censored).
"""

from __future__ import annotations

import math
import time

import attrs

from benchmarks.bugs.policies import Policy
from benchmarks.bugs.row import Row
from kafkasim.explore.trial import Scenario, run_trial


@attrs.frozen
class Hunt:
    """What a search found: ``first`` is the number of seeds that the first find took, None for none."""

    seeds: int
    hits: int
    first: int | None
    first_s: float | None
    seconds: float
    found: tuple[str, ...]
    alarms: tuple[str, ...]

    @property
    def rate(self) -> float:
        return self.hits / self.seeds if self.seeds else 0.0

    @property
    def median(self) -> float | None:
        """Seeds that half of all searches need; None where nothing was found."""
        return _median(self.rate)

    @property
    def interval(self) -> tuple[float, float | None]:
        """95 % of ``median``; no upper end where nothing was found."""
        low, high = poisson_interval(self.hits)
        return _median(min(1.0, high / self.seeds)) or 1.0, _median(low / self.seeds)


def _median(rate: float) -> float | None:
    if rate <= 0:
        return None
    return 1.0 if rate >= 0.5 else math.log(0.5) / math.log1p(-rate)


def poisson_interval(hits: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a Poisson mean of which ``hits`` were seen."""
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _solve(lambda mean: 1 - _poisson_below(hits - 1, mean) - tail, hits)
    return low, _solve(lambda mean: tail - _poisson_below(hits, mean), hits)


def _poisson_below(count: int, mean: float) -> float:
    """P(X <= count)."""
    term = total = math.exp(-mean)
    for index in range(1, count + 1):
        term *= mean / index
        total += term
    return total


def _solve(rising: object, hits: int) -> float:
    low, high = 0.0, 10.0 + 3.0 * hits
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:  # type: ignore[operator]
            low = middle
        else:
            high = middle
    return (low + high) / 2


def hunt(row: Row, policy: Policy, *, seeds: int, seconds: float = math.inf, hits: int | None = None) -> Hunt:
    """Try seed after seed on the unprotected scenario; ends after so many seeds, wall seconds or hits."""
    scenario = row.scenario(False)
    started = time.perf_counter()
    number = tried = 0
    first: int | None = None
    first_s: float | None = None
    names: dict[str, None] = {}
    alarms: list[str] = []
    for seed in range(seeds):
        trial = run_trial(scenario, seed, policy(scenario, seed, row.faults))
        tried += 1
        alarms.extend(f"seed {seed}: {alarm}" for alarm in row.alarms(trial))
        spent = time.perf_counter() - started
        if row.is_found(trial):
            number += 1
            names.update(dict.fromkeys(row.found(trial)))
            if first is None:
                first, first_s = tried, spent
        if spent > seconds or (hits is not None and number >= hits):
            break
    return Hunt(tried, number, first, first_s, time.perf_counter() - started, tuple(names), tuple(alarms))


@attrs.frozen
class Alarm:
    """A report about a sound scenario: the line to look into it with."""

    scenario: str
    policy: str
    seed: int
    text: str


def listen(
    row: Row, scenario: Scenario, name: str, policy: Policy, seeds: range, seconds: float = math.inf
) -> tuple[int, list[Alarm]]:
    """Run a sound scenario under a policy; how many seeds, and everything that was reported."""
    alarms = []
    started = time.perf_counter()
    tried = 0
    for seed in seeds:
        trial = run_trial(scenario, seed, policy(scenario, seed, row.borne))
        tried += 1
        reports = row.false_reports(trial)
        if reports:
            alarms.append(Alarm(scenario.name, name, seed, "; ".join(reports)))
        if time.perf_counter() - started > seconds:
            break
    return tried, alarms
