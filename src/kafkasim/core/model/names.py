"""Which names Kafka allows for topics.

Mirrors:  org.apache.kafka.common.internals.Topic.
"""

from __future__ import annotations

import re

_MAX_LENGTH = 249
_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


def topic_name_problem(name: str) -> str | None:
    """What is wrong with a topic name, in Kafka's words; None if nothing is."""
    if name == "":
        return "Topic name is invalid: the empty string is not allowed"
    if name in (".", ".."):
        return f"Topic name is invalid: '{name}' is not allowed"
    if len(name) > _MAX_LENGTH:
        return f"Topic name is invalid: the length of '{name}' is longer than the max allowed length {_MAX_LENGTH}"
    if _LEGAL.fullmatch(name) is None:
        return (
            f"Topic name is invalid: '{name}' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'"
        )
    return None


def names_collide(left: str, right: str) -> bool:
    """Metric names turn '.' into '_', so two topics may not differ in that alone."""
    return left.replace(".", "_") == right.replace(".", "_")
