"""A row of the benchmark: one known bug, the run in which it can show, and what has to be said of it.

Rule 1:   ``scenario(True)`` is the sound program and ``scenario(False)`` the same without one protection, and nothing else differs.
Rule 2:   a scenario is small and sparse (tens of records in a minute): what is measured is how soon a fault plan hits.
Rule 3:   a row says nothing of where its faults have to fall: policies know brokers, partitions, clients and events alone.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kafkasim.explore.trial import Scenario, Trial


@attrs.frozen
class Row:
    """One known bug.

    Args:
        number: in the catalogue of known bugs; a text, as some have variants ("7a").
        name: short, unique, for ``--only``.
        source: the KIP or issue that mended it, or where it was described.
        scenario: of whether the protection is there.
        expected: names of invariants, one of which must be found broken without the protection.
        forbidden: names that must not be found broken even then.
        tolerated: the settings in use permit what is expected, so that it is told as allowed: that counts as found.
        faults: how many a plan has: the same for every policy, and no more than the shortest known story of the bug needs; 0: it shows
            without any, so that there is nothing to aim.
        stress: how many the sound scenarios have to bear instead, where that is another number.
        rare: takes too many seeds for ``--quick``, which only listens to its sound scenarios.
        twins: further scenarios that are sound by another design, by name; nothing may be reported of them either.
    """

    number: str
    name: str
    source: str
    scenario: Callable[[bool], Scenario]
    expected: tuple[str, ...]
    forbidden: tuple[str, ...] = ()
    tolerated: bool = False
    faults: int = 4
    stress: int | None = None
    rare: bool = False
    twins: tuple[tuple[str, Callable[[], Scenario]], ...] = ()

    def is_found(self, trial: Trial) -> bool:
        return bool(self.found(trial))

    def found(self, trial: Trial) -> tuple[str, ...]:
        """The expected names under which it was found."""
        told = [*trial.findings, *(trial.report.allowed if self.tolerated else ())]
        return tuple(dict.fromkeys(finding.invariant for finding in told if finding.invariant in self.expected))

    def false_reports(self, trial: Trial) -> tuple[str, ...]:
        """What the trial of a sound scenario should not have reported."""
        told = [finding for finding in trial.report.allowed if self.tolerated and finding.invariant in self.expected]
        return tuple(map(str, (*trial.findings, *told)))

    def alarms(self, trial: Trial) -> tuple[str, ...]:
        """What the trial of the unprotected scenario should not have reported."""
        return tuple(str(finding) for finding in trial.findings if finding.invariant in self.forbidden)

    @property
    def borne(self) -> int:
        """How many faults a plan for a sound scenario has."""
        return self.faults if self.stress is None else self.stress

    def sound(self) -> list[tuple[str, Scenario]]:
        """Every scenario that must stay silent."""
        return [("protected", self.scenario(True)), *((name, make()) for name, make in self.twins)]
