"""What a group, a topic or a sink promises, as values: the promises that a history is held against.

Rule 1:   nothing is promised unless somebody says so; what is promised is checked from the history alone, on either backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from kafkasim.errors import ConfigurationError

#: Promises that are no flags.
_OF_VALUES = ("sink", "mirrors", "max_lag", "recovery_s")
#: What others call them.
_MEANT = {
    "exactly_once": " (of what users can see, effectively_once=True)",
    "ordered": " (by key: ordered_by_key=True)",
    "topic": " (topics=)",
    "no_duplicates": " (at_most_once=True)",
}


@attrs.frozen
class Guarantee:
    """Promises of one group (about its effects), or of one topic (about its records).

    Args:
        group: whose effects; None for a promise about topics.
        topics: which records; empty: all that the group was given.
        sink: which effects of the group; None: any of its sinks.
        at_least_once: every acknowledged record of the topics is worked on, and nothing is committed before its work is done.
        at_most_once: no record is worked on twice.
        effectively_once: every acknowledged record takes effect exactly once (after what the sink itself filters out).
        ordered_by_key: the first effects of one key come in the order of its records, and nothing older overwrites something newer.
        drained: by now the group has been given every acknowledged record.
        no_archived: of a share group: no record is archived without having been worked on (rejecting one is work).
        no_loss: every acknowledged record is in the log, whatever the settings allow.
        mirrors: the table (`kafkasim.sinks.Table`) whose rows are, by now, the records of the topics, and the other way round.
        same_records: by now the topics hold the same records.
        max_lag: records that the group is behind at most.
        recovery_s: the group never stands still for longer while there are records for it.
    """

    group: str | None = None
    topics: tuple[str, ...] = ()
    sink: str | None = None
    at_least_once: bool = False
    at_most_once: bool = False
    effectively_once: bool = False
    ordered_by_key: bool = False
    drained: bool = False
    no_archived: bool = False
    no_loss: bool = False
    mirrors: str | None = None
    same_records: bool = False
    max_lag: int | None = None
    recovery_s: float | None = None

    def __attrs_post_init__(self) -> None:
        of_groups = [
            name
            for name in (
                "at_least_once",
                "at_most_once",
                "effectively_once",
                "ordered_by_key",
                "drained",
                "no_archived",
                "max_lag",
                "recovery_s",
            )
            if getattr(self, name) is not False and getattr(self, name) is not None
        ]
        if self.group is None and of_groups:
            raise ConfigurationError(f"{of_groups[0]} is promised by a group: say group=")
        of_topics = [name for name in ("no_loss", "mirrors", "same_records") if getattr(self, name)]
        if self.group is None and not (self.topics and of_topics):
            raise ConfigurationError(
                "a promise of a topic is no_loss=True with topics=, or mirrors=, or same_records=True"
            )
        if self.group is not None and of_topics and of_topics != ["no_loss"]:
            raise ConfigurationError(f"{of_topics[-1]} is promised by topics: leave the group out")
        if self.same_records and len(dict.fromkeys(self.topics)) < 2:
            raise ConfigurationError(f"same_records is promised by several topics, not by {list(self.topics)}")
        if self.group is not None and not of_groups and not self.no_loss:
            raise ConfigurationError(f"group {self.group!r}: nothing is promised; at_least_once=True, for example")
        if self.no_loss and not self.topics:
            raise ConfigurationError("no_loss is promised for topics: say topics=")
        for name in ("max_lag", "recovery_s"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigurationError(f"{name} is {value!r}, expected 0 or more")

    @classmethod
    def of(cls, group: str | None, topics: str | Iterable[str], promises: Mapping[str, Any]) -> Guarantee:
        """From what somebody typed. Raises ConfigurationError, for a promise of an unknown name too."""
        known = [field.name for field in attrs.fields(cls)][2:]
        for name in promises:
            if name not in known:
                hint = _MEANT.get(name, "")
                raise ConfigurationError(f"nothing called {name!r} can be promised{hint}; known: {', '.join(known)}")
            if name not in _OF_VALUES and not isinstance(promises[name], bool):
                raise ConfigurationError(f"{name} is {promises[name]!r}, expected True or False")
        return cls(group, (topics,) if isinstance(topics, str) else tuple(topics), **promises)

    @property
    def whom(self) -> str:
        """Who promises, as findings say it."""
        sink = "" if self.sink is None else f" (sink {self.sink})"
        return f"group {self.group}{sink}" if self.group is not None else f"topic {', '.join(self.topics)}"

    def is_about(self, topic: str) -> bool:
        return not self.topics or topic in self.topics
