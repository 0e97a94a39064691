"""A row of the benchmark: one known bug, the run in which it can show, and what has to be said of it.

Rule 1:   ``scenario(True)`` is the sound program and ``scenario(False)`` the same without one protection, and nothing else differs.
Rule 2:   a scenario is small (tens of records, seconds of virtual time): what is measured is how soon a fault plan hits.
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
        faults: how many a plan may have: the same for every policy.
        twins: further scenarios that are sound by another design, by name; nothing may be reported of them either.
    """

    number: str
    name: str
    source: str
    scenario: Callable[[bool], Scenario]
    expected: tuple[str, ...]
    forbidden: tuple[str, ...] = ()
    faults: int = 3
    twins: tuple[tuple[str, Callable[[], Scenario]], ...] = ()

    def is_found(self, trial: Trial) -> bool:
        return any(name in self.expected for name in trial.broken)

    def alarms(self, trial: Trial) -> tuple[str, ...]:
        """What the trial of the unprotected scenario should not have reported."""
        return tuple(str(finding) for finding in trial.findings if finding.invariant in self.forbidden)

    def sound(self) -> list[tuple[str, Scenario]]:
        """Every scenario that must stay silent."""
        return [("protected", self.scenario(True)), *((name, make()) for name, make in self.twins)]
