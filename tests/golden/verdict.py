"""What became of one trace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """``kind``: "equal", "different" or "not comparable"; ``left_out``: what of the trace was not compared."""

    kind: str
    text: str = ""
    left_out: str = ""

    @classmethod
    def equal(cls, what: str, left_out: str = "") -> Verdict:
        return cls("equal", what, left_out)

    @classmethod
    def different(cls, what: str, left_out: str = "") -> Verdict:
        return cls("different", what, left_out)

    @classmethod
    def not_comparable(cls, why: str) -> Verdict:
        return cls("not comparable", why)

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" + (f" (not compared: {self.left_out})" if self.left_out else "")
