"""The verdict over a run: what was looked at, what broke a promise, and what the settings allowed."""

from __future__ import annotations

import attrs


@attrs.define(slots=True)
class Finding:
    """``invariant`` is the catalogue's name ("acked-loss"); ``text`` names partition, offsets and clients."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@attrs.define(slots=True)
class Report:
    """``allowed`` holds losses and duplicates that the settings in use permit: they are told, and break nothing."""

    looked_at: dict[str, int] = attrs.field(factory=dict)
    findings: list[Finding] = attrs.field(factory=list)
    allowed: list[Finding] = attrs.field(factory=list)

    @property
    def ok(self) -> bool:
        """Nothing that was looked at broke its promise."""
        return not self.findings

    def count(self, what: str, number: int = 1) -> None:
        self.looked_at[what] = self.looked_at.get(what, 0) + number

    def add(self, invariant: str, text: str) -> None:
        self.findings.append(Finding(invariant, text))

    def allow(self, invariant: str, text: str) -> None:
        self.allowed.append(Finding(invariant, text))

    def take(self, other: Report) -> None:
        """Add what another report looked at and found."""
        for what, number in other.looked_at.items():
            self.count(what, number)
        self.findings.extend(other.findings)
        self.allowed.extend(other.allowed)

    def of(self, invariant: str) -> list[Finding]:
        """The breaches of one invariant."""
        return [finding for finding in self.findings if finding.invariant == invariant]

    def __str__(self) -> str:
        looked = ", ".join(f"{number:,} {what}" for what, number in self.looked_at.items()) or "nothing"
        lines = [f"checked {looked}: {'ok' if self.ok else f'{len(self.findings)} broken'}"]
        lines += [f"BROKEN  {finding}" for finding in self.findings]
        lines += [f"allowed {finding}" for finding in self.allowed]
        return "\n".join(lines)
