"""Asks the installed confluent-kafka, in a process of its own, what it is and what it does.

Run as a script it reads a JSON list of expressions from stdin, evaluates each with the names of `confluent_kafka.cimpl`, and
prints what came of it, along with its whole surface. Nothing native is ever loaded into the process of the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

#: Bound to names while expressions are evaluated, on both sides.
PRELUDE = """
TP = TopicPartition
M = Message
KE = KafkaError
"""


def outcome(expression: str, names: dict[str, Any]) -> str:
    """What an expression gives: its repr, or its exception's class and text."""
    try:
        return repr(eval(expression, names))
    except Exception as exception:
        return f"{type(exception).__name__}: {exception}"


def names_of(module: Any) -> dict[str, Any]:
    """The namespace in which expressions are evaluated."""
    names = {name: getattr(module, name) for name in dir(module) if not name.startswith("__")}
    exec(PRELUDE, names)
    return names


def surface(module: Any) -> dict[str, Any]:
    """Constants, and the members of every class."""
    found: dict[str, Any] = {}
    for name in dir(module):
        value = getattr(module, name)
        if name.startswith("__") or type(value).__name__ == "module":
            continue
        if isinstance(value, type):
            found[name] = sorted(member for member in dir(value) if not member.startswith("_") or member in _PROTOCOL)
        else:
            found[name] = value if isinstance(value, int | str) else None
    return found


_PROTOCOL = {"__len__", "__enter__", "__exit__", "__bool__"}


def ask_real_client(expressions: list[str]) -> Mapping[str, Any]:
    """``{"surface": ..., "outcomes": [...]}`` of the installed client."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(expressions),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer: Mapping[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Answer one question on stdin."""
    import confluent_kafka
    from confluent_kafka import cimpl

    names = names_of(cimpl)
    answer = {
        "surface": surface(cimpl),
        "package": sorted(name for name in dir(confluent_kafka) if not name.startswith("__")),
        "all": sorted(confluent_kafka.__all__),
        "outcomes": [outcome(expression, names) for expression in json.load(sys.stdin)],
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
