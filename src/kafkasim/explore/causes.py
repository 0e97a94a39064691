"""Causes: when two failing runs have failed in the same way.

Inputs:   findings.      Effects: a `Cause` for each, most telling first.
Rule 1:   a cause is an invariant and the words of its finding without what differs between runs: numbers, names of clients, times.
Rule 2:   what an oracle inside the cluster saw goes before what a client saw of it: the first is why, the second is how it showed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from kafkasim.check.report import Finding

#: Most telling first; what is not listed comes between ``INSIDE`` and ``OUTSIDE``.
INSIDE = (
    "metadata-match",
    "epoch-monotony",
    "leader-completeness",
    "log-matching",
    "candidate-completeness",
    "quorum-superset",
    "one-writer-per-epoch",
    "watermark-sanity",
    "leader-in-isr",
    "isr-and-elr",
    "recovery-quorum",
    "commit-ahead",
    "weak-ack",
)
OUTSIDE = ("convergence", "unseen", "lag", "recovery", "task-failed", "raised")

_NUMBER = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{12,}\b|\d+(?:[.,:]\d+)*")
_LIST = re.compile(r"#(?:(?:, | and | to |-|\.\.)#)+")
_QUOTED = re.compile(r"b?'[^']*'")
_MOST_LETTERS = 160


@attrs.frozen
class Cause:
    """Two runs with an equal cause are the same failure to a campaign."""

    invariant: str
    signature: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.signature}"


def cause_of(finding: Finding) -> Cause:
    first = finding.text.splitlines()[0] if finding.text else ""
    words = _QUOTED.sub("'…'", first).replace(" offsets ", " offset ").replace(" are not in ", " is not in ")
    words = _LIST.sub("#", _NUMBER.sub("#", words))
    return Cause(finding.invariant, words[:_MOST_LETTERS])


def causes_of(findings: Iterable[Finding]) -> list[Cause]:
    """Each once, most telling first."""
    causes = list(dict.fromkeys(cause_of(finding) for finding in findings))
    return sorted(causes, key=lambda cause: _rank(cause.invariant))


def _rank(invariant: str) -> int:
    if invariant in INSIDE:
        return INSIDE.index(invariant)
    if invariant in OUTSIDE:
        return len(INSIDE) + 1 + OUTSIDE.index(invariant)
    return len(INSIDE)
