"""One member of a live group in a process of its own, so that it can be killed; commands by standard input, answers by standard output.

    python -m tests.real.live_member '{"config": {...}, "topics": [...]}'

``snapshot`` is answered with who it is, what it has and what it was told since; ``close`` with what it was told until it was gone.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from typing import Any

from confluent_kafka import Consumer
from tests.golden.members import by_topic, generation, poll_error


class LiveMember:
    """The consumer and what its callbacks said since the last answer."""

    def __init__(self, config: dict[str, Any], topics: list[str]) -> None:
        self._made = time.monotonic()
        self._events: list[dict[str, Any]] = []
        self._consumer = Consumer(config)
        callbacks = {f"on_{kind}": self._note(kind) for kind in ("assign", "revoke", "lost")}
        self._consumer.subscribe(topics, **callbacks)

    def run(self, commands: queue.Queue[str]) -> None:
        """Poll, and answer between two polls."""
        while True:
            message = self._consumer.poll(0.05)
            if message is not None and message.error() is not None:
                self._tell(poll_error(message))
            if commands.empty():
                continue
            if commands.get() != "snapshot":
                break
            self._answer(
                {
                    "member_id": self._consumer.memberid(),
                    "generation_or_epoch": generation(self._consumer),
                    "assignment": by_topic(self._consumer.assignment()),
                }
            )
        self._tell({"type": "close_called"})
        self._consumer.close()
        self._tell({"type": "closed"})
        self._answer({})

    def _answer(self, fields: dict[str, Any]) -> None:
        print(json.dumps({**fields, "events": self._events}), flush=True)
        self._events = []

    def _note(self, kind: str) -> Any:
        return lambda _, parts: self._tell({"type": kind, "partitions": by_topic(parts)})

    def _tell(self, event: dict[str, Any]) -> None:
        self._events.append({"t": round((time.monotonic() - self._made) * 1000), **event})


def main() -> None:
    given = json.loads(sys.argv[1])
    commands: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            commands.put(line.strip())
        commands.put("close")  # Whoever gave the commands is gone.

    threading.Thread(target=listen, daemon=True).start()
    LiveMember(given["config"], given["topics"]).run(commands)


if __name__ == "__main__":
    main()
