"""Causes: when two failing runs have failed in the same way.

Inputs:   findings.      Effects: a `Cause` for each, most telling first.
Rule 1:   a cause is an invariant and how it came about: the finding's own cause, or its words without what differs between runs
          (numbers, names of clients, times).
Rule 2:   what an oracle inside the cluster saw goes before what a client saw of it: the first is why, the second is how it showed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import attrs

from kafkasim.check.report import Finding
from kafkasim.core.model.ids import TopicPartition

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
    """By the finding's own word for how it came about; by its text where it has none."""
    return Cause(finding.invariant, finding.cause or _words(finding.text))


def _words(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    words = _QUOTED.sub("'…'", first).replace(" offsets ", " offset ").replace(" are not in ", " is not in ")
    return _LIST.sub("#", _NUMBER.sub("#", words))[:_MOST_LETTERS]


def causes_of(findings: Iterable[Finding]) -> list[Cause]:
    """Each once, most telling first; what code raised comes last."""
    told = sorted(findings, key=lambda finding: finding.rank[0])
    return list(dict.fromkeys(cause_of(finding) for finding in told))


def finding_to_values(finding: Finding) -> list[Any]:
    """Plain values: invariant, text, microseconds, partition, cause."""
    place = None if finding.tp is None else [finding.tp.topic, finding.tp.partition]
    return [finding.invariant, finding.text, finding.at_us, place, finding.cause]


def finding_from_values(values: Any) -> Finding:
    """Raises ValueError or TypeError for anything else."""
    invariant, text, at_us, place, cause = values
    if at_us is not None and (not isinstance(at_us, int) or isinstance(at_us, bool)):
        raise TypeError(f"{at_us!r:.20} is no time")
    tp = None
    if place is not None:
        topic, partition = place
        tp = TopicPartition(str(topic), int(partition))
    return Finding(str(invariant), str(text), at_us, tp, str(cause))
