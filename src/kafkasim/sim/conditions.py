"""Conditions that a fault can wait for, as text: ``isr:orders-0 <= 1``."""

from __future__ import annotations

import attrs

from kafkasim.errors import ConfigurationError
from kafkasim.sim.plan_words import check_partition, is_number


@attrs.frozen
class Condition:
    """``subject:place comparison number``: ``isr:orders-0 <= 1``."""

    subject: str
    place: str
    comparison: str
    number: int

    #: What can be asked, and what it counts.
    SUBJECTS = {  # noqa: RUF012
        "isr": "in-sync replicas of a partition, as the controller knows them",
        "elr": "eligible leader replicas of a partition",
        "behind": "records of the leader's log above the high watermark",
        "end": "the leader's log end offset",
        "live": "brokers that are not fenced (no place)",
    }
    COMPARISONS = ("<=", ">=", "<", ">", "==")

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Raises ConfigurationError."""
        words = text.split()
        subject, _, place = (words or [""])[0].partition(":")
        usable = (
            len(words) == 3
            and subject in cls.SUBJECTS
            and words[1] in cls.COMPARISONS
            and is_number(words[2])
            and (subject == "live") == (not place)
        )
        if not usable:
            raise ConfigurationError(
                f"condition {text!r}: expected subject:topic-partition, a comparison and a number, as in 'isr:orders-0 <= 1'; "
                f"subjects: {', '.join(f'{name} ({meaning})' for name, meaning in cls.SUBJECTS.items())}"
            )
        if place:
            check_partition(place, lambda problem: ConfigurationError(f"condition {text!r}: {problem}"))
        return cls(subject, place, words[1], int(words[2]))

    def holds(self, value: int) -> bool:
        comparison = self.comparison
        if comparison == "<=":
            return value <= self.number
        if comparison == ">=":
            return value >= self.number
        if comparison == "<":
            return value < self.number
        if comparison == ">":
            return value > self.number
        return value == self.number
