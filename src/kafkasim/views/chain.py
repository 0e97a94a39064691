"""A causal chain: steps with virtual times, each with the steps that it follows from.

Rule 1:   this module knows nothing of partitions: whatever is explained adds its steps here, causes first.
Rule 2:   a step that several others follow from stands there once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import attrs


@attrs.define(slots=True, frozen=True)
class Step:
    """``because``: numbers of the steps that this one follows from; ``data``: what ``text`` says, as values."""

    number: int
    at: float
    kind: str
    text: str
    because: tuple[int, ...] = ()
    data: dict[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        causes = f"   ← {', '.join(map(str, self.because))}" if self.because else ""
        return f"{self.number:3}. {self.at:10.3f} s  {self.text}{causes}"


@attrs.define(slots=True, frozen=True, repr=False)
class Explanation:
    """Print it for the chain; ``steps`` is the same as data, oldest first, ``state`` what is explained."""

    subject: str
    at: float
    summary: str
    state: dict[str, Any]
    steps: list[Step]

    def __str__(self) -> str:
        head = f"{self.subject} at {self.at:.3f} s: {self.summary}"
        return "\n".join([head, *map(str, self.steps)])

    __repr__ = __str__

    @property
    def kinds(self) -> list[str]:
        """The kinds of the steps, in order."""
        return [step.kind for step in self.steps]

    @property
    def roots(self) -> list[Step]:
        """The steps that follow from no other: where it began."""
        return [step for step in self.steps if not step.because]

    def of(self, kind: str) -> list[Step]:
        """The steps of one kind."""
        return [step for step in self.steps if step.kind == kind]


@attrs.define(slots=True, eq=False)
class Link:
    """A step before it has a number."""

    at_us: int
    kind: str
    text: str
    because: list[Link]
    data: dict[str, Any]


class Chain:
    """Links in the order in which they were added, which puts causes before what follows from them."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, Hashable], Link] = {}

    def find(self, kind: str, key: Hashable) -> Link | None:
        return self._links.get((kind, key))

    def add(
        self, at_us: int, kind: str, key: Hashable, text: str, because: Iterable[Link] = (), /, **data: Any
    ) -> Link:
        """The link of this kind and key; made now unless it is there."""
        link = self._links.get((kind, key))
        if link is None:
            link = self._links[(kind, key)] = Link(at_us, kind, text, list(dict.fromkeys(because)), data)
        return link

    def steps(self) -> list[Step]:
        ordered = sorted(
            self._links.values(), key=lambda link: link.at_us
        )  # stable: a cause at the same time stays first
        numbers = {link: index + 1 for index, link in enumerate(ordered)}
        return [
            Step(
                numbers[link],
                link.at_us / 1e6,
                link.kind,
                link.text,
                tuple(sorted(numbers[cause] for cause in link.because)),
                link.data,
            )
            for link in ordered
        ]
