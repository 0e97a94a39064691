"""What happens to a group while its rebalance protocol is watched.

Inputs:   events as text, ``what@seconds`` or ``what@seconds:argument``, or as `Event` values; times count from the settled group.
Rule 1:   what cannot be is refused when the scenario is made, with the event's own text in the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from kafkasim.errors import ConfigurationError

JOIN, LEAVE, CRASH, ROLL, GROW = "join", "leave", "crash", "roll", "grow"

#: What may happen, with the meaning of the number after the colon.
KINDS = {
    JOIN: "one more member starts",
    LEAVE: "a member closes; `leave@40:2` names it, otherwise the newest",
    CRASH: "a member is killed; `crash@40:2` names it, otherwise the newest",
    ROLL: "every member is closed and started again 3 s later, one after the other; `roll@60:15` does one every 15 s (default 10)",
    GROW: "the topic gets more partitions; `grow@80:48` to 48",
}
_DEFAULT_ROLL_S = 10.0
#: How long a member is away in a roll.
RESTART_S = 3.0
#: How long a run goes on after its last event.
AFTERMATH_S = 60.0


@attrs.frozen
class Event:
    """``argument``: a member's number, the partitions to grow to, or the seconds between two restarts of a roll."""

    what: str
    at_s: float
    argument: float | None = None

    @classmethod
    def parse(cls, text: str) -> Event:
        """Read ``join@30``, ``crash@40:2``, ``grow@80:48``."""
        what, at, rest = text.partition("@")
        seconds, colon, argument = rest.partition(":")
        try:
            event = cls(what.strip(), float(seconds), float(argument) if colon else None)
        except ValueError:
            raise ConfigurationError(
                f"event {text!r}: expected what@seconds, as in {JOIN}@30 or {CRASH}@40:2"
            ) from None
        if not at or event.what not in KINDS:
            known = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
            raise ConfigurationError(f"event {text!r}: nothing called {event.what!r} can happen. {known}")
        return event

    def __str__(self) -> str:
        rest = "" if self.argument is None else f":{self.argument:g}"
        return f"{self.what}@{self.at_s:g}{rest}"


@attrs.frozen
class SlowMember:
    """An application that is busy elsewhere: of every ``every_s`` seconds it polls in the first ``polls_s`` only."""

    member: int
    polls_s: float
    every_s: float

    @classmethod
    def parse(cls, text: str) -> SlowMember:
        """Read ``0:0.3/4.3``: member 0 polls 0.3 s of every 4.3 s."""
        member, _, times = text.partition(":")
        polls, _, every = times.partition("/")
        try:
            return cls(int(member), float(polls), float(every))
        except ValueError:
            raise ConfigurationError(
                f"slow member {text!r}: expected member:polls/every, as in 0:0.3/4.3 (member 0 polls 0.3 s of every 4.3 s)"
            ) from None


@attrs.frozen
class Scenario:
    """A group of ``members`` on a topic of ``partitions``, a steady stream of records, and what happens to them.

    ``records_per_second`` is for each partition. ``duration_s`` counts from the settled group.
    """

    members: int = 6
    partitions: int = 24
    records_per_second: float = 10.0
    events: tuple[Event, ...] = ()
    slow: tuple[SlowMember, ...] = ()
    duration_s: float = AFTERMATH_S

    def __attrs_post_init__(self) -> None:
        for name in ("members", "partitions", "records_per_second", "duration_s"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; expected more than 0")
        for slow in self.slow:
            if not 0 <= slow.member < self.members:
                raise ConfigurationError(
                    f"slow member {slow.member}: the group starts with members 0 to {self.members - 1}"
                )
            if not 0 < slow.polls_s <= slow.every_s:
                raise ConfigurationError(
                    f"slow member {slow.member} polls {slow.polls_s:g} s of every {slow.every_s:g} s: "
                    "the first must be more than 0 and not exceed the second"
                )
        self._check_events()

    @classmethod
    def of(
        cls,
        *,
        members: int,
        partitions: int,
        records_per_second: float,
        events: Iterable[str | Event],
        slow: Iterable[str | SlowMember],
        duration: float | None,
    ) -> Scenario:
        """From what a caller types; the events come in the order of their times."""
        parsed = [Event.parse(event) if isinstance(event, str) else event for event in events]
        parsed.sort(key=lambda event: event.at_s)
        slow_members = tuple(SlowMember.parse(item) if isinstance(item, str) else item for item in slow)
        last_s = max((event.at_s for event in parsed), default=0.0)
        return cls(
            members,
            partitions,
            records_per_second,
            tuple(parsed),
            slow_members,
            last_s + AFTERMATH_S if duration is None else duration,
        )

    def _check_events(self) -> None:
        """Follow who is there, so that nobody leaves twice."""
        present = dict.fromkeys(range(self.members))
        made, partitions = self.members, self.partitions
        for event in self.events:
            if not 0 <= event.at_s < self.duration_s:
                raise ConfigurationError(f"event {event}: the run goes from 0 to {self.duration_s:g} s")
            if event.what == JOIN:
                present[made] = None
                made += 1
            elif event.what in (LEAVE, CRASH):
                member = newest(present) if event.argument is None else int(event.argument)
                if member not in present:
                    raise ConfigurationError(f"event {event}: there is no member {member} then, only {list(present)}")
                del present[member]
                if not present:
                    raise ConfigurationError(f"event {event}: it would leave no member")
            elif event.what == ROLL:
                if roll_pause_s(event) < RESTART_S:
                    raise ConfigurationError(
                        f"event {event}: a restart takes {RESTART_S:g} s, so one every so many or more"
                    )
            elif event.what == GROW:
                if event.argument is None or event.argument <= partitions:
                    raise ConfigurationError(
                        f"event {event}: the topic has {partitions} partitions then and can only grow"
                    )
                partitions = int(event.argument)


def newest(present: Mapping[int, object] | Sequence[int]) -> int:
    """The member that started last."""
    return max(present, default=-1)


def roll_pause_s(event: Event) -> float:
    return _DEFAULT_ROLL_S if event.argument is None else event.argument
