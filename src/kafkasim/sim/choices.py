"""The one source of choice: labelled, bounded draws from streams that are derived from the seed.

Inputs:   draw(label, bound) and what is made of it.
Rule 1:   this is the only module that imports random.
Rule 2:   0 is the most benign value of every draw, so that a tape shrinks towards zeros.
Rule 3:   a label has a stream of its own: one more draw under one label moves no other label's values.
Rule 4:   streams are derived by hashlib, never by hash(): equal in every process.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

ENTROPY_BITS = 63
_FLOAT_EXACT = 1 << 32
"""Below this bound one 53-bit float is fine-grained enough; above it the integers are drawn exactly."""


class Choice(NamedTuple):
    """One entry of a tape: the n-th use of a label, its bound and the value that was drawn."""

    label: str
    use: int
    bound: int
    value: int


Draw: TypeAlias = Callable[[str, int], int]
Tape: TypeAlias = list[Choice]


class ChoiceDiverged(Exception):
    """A replay asked for something else than the tape holds: the program is not the one that was recorded."""

    def __init__(self, label: str, use: int, expected: str, found: str) -> None:
        super().__init__(f"the run left its tape at use {use} of {label!r}: expected {expected}, found {found}")
        self.label = label
        self.use = use
        self.expected = expected
        self.found = found


class _Streams(dict[str, random.Random]):
    """One generator a label, made at the label's first use."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __missing__(self, label: str) -> random.Random:
        digest = hashlib.blake2b(f"{self._seed}/{label}".encode(), digest_size=16).digest()
        stream = self[label] = random.Random(int.from_bytes(digest, "big"))
        return stream


class _Floats(dict[str, Callable[[], float]]):
    """The bound ``random`` method of each label's stream: saves the hot path an attribute."""

    def __init__(self, streams: _Streams) -> None:
        super().__init__()
        self._streams = streams

    def __missing__(self, label: str) -> Callable[[], float]:
        method = self[label] = self._streams[label].random
        return method


class Choices:
    """Draws from the seed's streams; records a tape if asked to, or replays one."""

    __slots__ = ("_floats", "_randoms", "_source", "_streams", "_strict", "_uses", "draw", "seed", "tape")

    def __init__(
        self, seed: int = 0, tape: Tape | None = None, *, record: bool = False, calm: Iterable[str] = ()
    ) -> None:
        self.seed = seed
        self.tape: Tape | None = [] if record and tape is None else tape
        """What was drawn, if recorded (a tape that was handed in is appended to)."""
        self._streams = _Streams(seed)
        self._floats = _Floats(self._streams)
        self._uses: dict[str, int] = {}
        self._randoms: dict[str, random.Random] = {}
        self._strict: _StrictTape | None = None
        benign = frozenset(calm)
        self._source: Draw = self._draw
        if benign:
            self._source = lambda label, bound: 0 if label in benign else self._draw(label, bound)
        self.draw: Draw = self._source if self.tape is None else self._draw_and_record
        """``draw(label, bound)``: an integer in [0, bound), 0 being the most benign."""

    @classmethod
    def replaying(cls, tape: Iterable[Choice], strict: bool = True, *, seed: int = 0, record: bool = False) -> Choices:
        """Choices that come from a tape.

        Strict: the first request that differs from the tape raises ChoiceDiverged. Otherwise a value is looked up by
        label and use, cut to its bound, and 0 where the tape has none: what a shrinker wants.
        """
        choices = cls(seed, record=record)
        entries = [Choice(*entry) for entry in tape]
        if strict:
            choices._strict = _StrictTape(entries)
            choices._source = choices._strict.draw
        else:
            choices._source = _LooseTape(entries).draw
        choices.draw = choices._draw_and_record if record else choices._source
        return choices

    def reseed(self, seed: int) -> None:
        """From now on the streams are another seed's; what was drawn so far stays. A tape that is replayed takes no notice."""
        self._streams = _Streams(seed)
        self._floats = _Floats(self._streams)

    def exhausted(self) -> bool:
        """Has a strict replay consumed its whole tape? (True when nothing is replayed.)"""
        return self._strict is None or self._strict.exhausted()

    @property
    def diverged(self) -> ChoiceDiverged | None:
        """Where a strict replay left its tape first, also where the program swallowed what was raised then."""
        return None if self._strict is None else self._strict.diverged

    @property
    def next_on_tape(self) -> Choice | None:
        """What a strict replay would draw next."""
        return None if self._strict is None else self._strict.next()

    def draw_between(self, label: str, low: int, high: int) -> int:
        """An integer in [low, high]; low is the benign one."""
        assert low <= high, f"{label}: [{low}, {high}] is empty"
        return low + self.draw(label, high - low + 1)

    def entropy(self, label: str) -> int:
        """63 bits, for a machine that takes its randomness as an argument."""
        return self.draw(label, 1 << ENTROPY_BITS)

    def bytes(self, label: str, n: int) -> bytes:
        """``n`` bytes."""
        return self.draw(label, 1 << (8 * n)).to_bytes(n, "big")

    def random_for(self, label: str) -> random.Random:
        """A generator for user code, seeded by one draw; the same object for the same label."""
        generator = self._randoms.get(label)
        if generator is None:
            generator = self._randoms[label] = random.Random(self.entropy(label))
        return generator

    def _draw(self, label: str, bound: int) -> int:
        if bound <= _FLOAT_EXACT:
            assert bound > 0, f"{label}: a draw needs a positive bound"
            return int(self._floats[label]() * bound)
        return self._streams[label].randrange(bound)

    def _draw_and_record(self, label: str, bound: int) -> int:
        value = self._source(label, bound)
        use = self._uses[label] = self._uses.get(label, 0) + 1
        assert self.tape is not None
        self.tape.append(Choice(label, use, bound, value))
        return value


class _StrictTape:
    """Gives a tape back in its own order, and notices the first departure."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._next = 0
        self._uses: dict[str, int] = {}
        self.diverged: ChoiceDiverged | None = None

    def exhausted(self) -> bool:
        return self._next == len(self._tape)

    def next(self) -> Choice | None:
        return self._tape[self._next] if self._next < len(self._tape) else None

    def draw(self, label: str, bound: int) -> int:
        use = self._uses[label] = self._uses.get(label, 0) + 1
        expected = self.next()
        if expected is not None and expected[:3] == (label, use, bound) and self.diverged is None:
            self._next += 1
            return expected.value
        wanted = "the end of the tape"
        if expected is not None:
            wanted = f"use {expected.use} of {expected.label!r} with bound {expected.bound}"
        problem = ChoiceDiverged(label, use, wanted, f"use {use} of {label!r} with bound {bound}")
        if self.diverged is None:
            self.diverged = problem
        raise self.diverged


class _LooseTape:
    """Gives a tape back by label and use; what it does not hold is benign."""

    def __init__(self, tape: Tape) -> None:
        self._values = {(entry.label, entry.use): entry.value for entry in tape}
        self._uses: dict[str, int] = {}

    def draw(self, label: str, bound: int) -> int:
        use = self._uses[label] = self._uses.get(label, 0) + 1
        return min(self._values.get((label, use), 0), bound - 1)
