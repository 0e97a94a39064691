"""The verdict over a run: what was looked at, what broke a promise, and what the settings allowed.

Rule 1:   findings are told with the cause above its symptom: what a server did wrong first, then what clients saw of it.
Rule 2:   two findings of one run, or of two runs, are about the same where their signatures are: the invariant and its cause. A cause
          says how the invariant broke ("committed before its work"), and names no offset, time, client or partition.
"""

from __future__ import annotations

import attrs

from kafkasim.check.invariants import BY_NAME, LAST
from kafkasim.core.model.ids import TopicPartition

_AT_THE_END = 1 << 62
_MOST_ALIKE = 8
"""So many findings of one signature are printed; the others are one bug more often than not, and are counted."""


@attrs.define(slots=True)
class Finding:
    """``invariant`` is the catalogue's name ("acked-loss"); ``text`` names partition, offsets and clients.

    Where they are known: ``at_us``, when it happened; ``tp``; ``cause``, how it came about, in words that many runs share.
    """

    invariant: str
    text: str
    at_us: int | None = None
    tp: TopicPartition | None = None
    cause: str = ""

    @property
    def id(self) -> str:
        """The catalogue's short name ("P1"); empty for what is no invariant of it."""
        known = BY_NAME.get(self.invariant)
        return "" if known is None else known.id

    @property
    def signature(self) -> tuple[str, str]:
        """What this finding has in common with others that are the same bug: (invariant, cause)."""
        return self.invariant, self.cause

    @property
    def rank(self) -> tuple[int, int]:
        """Where it stands among others: causes first, then by time, as far as that is known."""
        known = BY_NAME.get(self.invariant)
        return LAST if known is None else known.rank, _AT_THE_END if self.at_us is None else self.at_us

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@attrs.define(slots=True)
class Report:
    """``allowed`` holds losses and duplicates that the settings in use permit: they are told, and break nothing.

    ``metrics`` are numbers that promise nothing: how stale, how often again, how long.
    """

    looked_at: dict[str, int] = attrs.field(factory=dict)
    findings: list[Finding] = attrs.field(factory=list)
    allowed: list[Finding] = attrs.field(factory=list)
    metrics: dict[str, int | float] = attrs.field(factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing that was looked at broke its promise."""
        return not self.findings

    def count(self, what: str, number: int = 1) -> None:
        self.looked_at[what] = self.looked_at.get(what, 0) + number

    def measure(self, what: str, value: int | float) -> None:
        self.metrics[what] = value

    def add(
        self, invariant: str, text: str, *, at_us: int | None = None, tp: TopicPartition | None = None, cause: str = ""
    ) -> None:
        self.findings.append(Finding(invariant, text, at_us, tp, cause))

    def allow(
        self, invariant: str, text: str, *, at_us: int | None = None, tp: TopicPartition | None = None, cause: str = ""
    ) -> None:
        self.allowed.append(Finding(invariant, text, at_us, tp, cause))

    def tell(
        self,
        invariant: str,
        text: str,
        excuse: str | None,
        *,
        at_us: int | None = None,
        tp: TopicPartition | None = None,
        cause: str = "",
    ) -> None:
        """A finding, or with an ``excuse`` something that is allowed."""
        if excuse is None:
            self.add(invariant, text, at_us=at_us, tp=tp, cause=cause)
        else:
            self.allow(invariant, f"{text} ({excuse})", at_us=at_us, tp=tp, cause=cause)

    def take(self, other: Report) -> None:
        """Add what another report looked at and found."""
        for what, number in other.looked_at.items():
            self.count(what, number)
        self.findings.extend(other.findings)
        self.allowed.extend(other.allowed)
        self.metrics.update(other.metrics)

    def sort(self) -> None:
        """The cause above its symptom, and what came first above what came later."""
        self.findings.sort(key=lambda finding: finding.rank)
        self.allowed.sort(key=lambda finding: finding.rank)

    def of(self, invariant: str) -> list[Finding]:
        """The breaches of one invariant, by its name or its id."""
        return [finding for finding in self.findings if invariant in (finding.invariant, finding.id)]

    def __str__(self) -> str:
        looked = ", ".join(f"{number:,} {what}" for what, number in self.looked_at.items()) or "nothing"
        lines = [f"checked {looked}: {'ok' if self.ok else f'{len(self.findings)} broken'}"]
        lines += [f"BROKEN  {told}" for told in _few(self.findings)]
        lines += [f"allowed {told}" for told in _few(self.allowed)]
        lines += [f"metric  {what}: {value:,}" for what, value in self.metrics.items()]
        return "\n".join(lines)


def _few(findings: list[Finding]) -> list[str]:
    """The first of each kind; `Report.findings` has them all."""
    lines: list[str] = []
    counts: dict[tuple[str, str], int] = {}
    for finding in findings:
        count = counts[finding.signature] = counts.get(finding.signature, 0) + 1
        if count <= _MOST_ALIKE:
            lines.append(str(finding))
    more = [(name, count - _MOST_ALIKE) for (name, _), count in counts.items() if count > _MOST_ALIKE]
    return lines + [f"{name}: and {left:,} more like these" for name, left in more]
