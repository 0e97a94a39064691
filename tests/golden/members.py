"""Members of a recorded scenario: consumers in tasks of their own that do what the driver asks between two polls.

They write down what they are told, in the words of the traces: an outcome is ``["ok", value]`` or the error's type, name and text;
partitions are sorted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

Fields = dict[str, Any]

CLIENTS: dict[str, Fields] = {
    "eager-range": {"partition.assignment.strategy": "range"},
    "eager-roundrobin": {"partition.assignment.strategy": "roundrobin"},
    "coop": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer-uniform": {"group.protocol": "consumer", "group.remote.assignor": "uniform"},
    "consumer-range": {"group.protocol": "consumer", "group.remote.assignor": "range"},
}
CLASSIC_TIMERS = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
NO_OFFSET = -1001


def client_config(protocol: str) -> Fields:
    """What makes a consumer speak this protocol, with the recordings' timers."""
    timers = {} if protocol.startswith("consumer") else CLASSIC_TIMERS
    return {**CLIENTS[protocol], **timers, "auto.offset.reset": "earliest"}


def is_eager(protocol: str) -> bool:
    return protocol.startswith("eager")


def by_topic(partitions: Iterable[Any]) -> dict[str, list[int]]:
    """Partition numbers by topic, in order."""
    found: dict[str, list[int]] = {}
    for part in sorted(partitions, key=lambda part: (part.topic, part.partition)):
        found.setdefault(part.topic, []).append(part.partition)
    return found


def places(partitions: Iterable[Any]) -> list[list[Any]]:
    """Partitions with offset and error, as the traces write them."""
    return [
        [part.topic, part.partition, part.offset, None if part.error is None else error_name(part.error)]
        for part in sorted(partitions, key=lambda part: (part.topic, part.partition))
    ]


def error_name(error: Any) -> str:
    return str(error.name())


def outcome(call: Callable[[], Any], form: Callable[[Any], Any] = lambda value: value) -> list[Any]:
    """What a call came to."""
    try:
        return ["ok", form(call())]
    except Exception as problem:  # recorded programs wrote down whatever was raised
        kind = type(problem).__name__
        if kind == "KafkaException":
            return [kind, error_name(problem.args[0]), problem.args[0].str()]
        return [kind, str(problem)]


def generation(consumer: Any) -> int:
    """Generation or member epoch: the four bytes behind the magic of ``consumer_group_metadata()``."""
    return int.from_bytes(consumer.consumer_group_metadata()[7:11], "little", signed=True)


class Member:
    """One consumer; ``polling`` is switched off and on by the driver, calls are done between two polls."""

    def __init__(self, cluster: Any, name: str, config: Fields, member_id: str | None = None) -> None:
        self.name = name
        self.events: list[Fields] = []
        self.got: list[tuple[int, int]] = []
        self.polling = True
        self.closed = False
        self.consumer: Any = None
        self._cluster = cluster
        self._config = {"bootstrap.servers": cluster.bootstrap_servers, "client.id": name, **config}
        self._made = cluster.now
        self._member_id = member_id
        self._calls: list[tuple[Callable[[Any], Any], list[Any]]] = []
        self._seen = 0
        self.callbacks: Fields = {
            kind: self._note(kind.removeprefix("on_")) for kind in ("on_assign", "on_revoke", "on_lost")
        }
        self.task = cluster.spawn(self._run, name=name)

    def subscribe(self, *topics: str) -> Member:
        """Join the group."""
        self.call(lambda consumer: consumer.subscribe(list(topics), **self.callbacks))
        return self

    def call(self, function: Callable[[Any], Any]) -> Any:
        """Do something with the consumer, in the member's own task; an error is the member's."""
        answer: list[Any] = []
        self._calls.append((function, answer))
        self._cluster.run_until(lambda: answer)
        return answer[0]

    def tell(self, function: Callable[[Any], Any], form: Callable[[Any], Any] = lambda value: value) -> list[Any]:
        """The outcome of a call."""
        told: list[Any] = self.call(lambda consumer: outcome(lambda: function(consumer), form))
        return told

    def close(self) -> None:
        """Leave and end; what was told meanwhile is among the events."""

        def leave(consumer: Any) -> None:
            self._tell({"type": "close_called"})
            consumer.close()
            self._tell({"type": "closed"})
            self.closed = True

        self.call(leave)

    def fresh(self) -> list[Fields]:
        """The events since this was asked last."""
        came = self.events[self._seen :]
        self._seen = len(self.events)
        return came

    def snapshot(self) -> Fields:
        """Who it is, what it has and what it was told since."""
        return {
            "member_id": self.call(lambda consumer: consumer.memberid()),
            "gen": self.call(generation),
            "assignment": self.call(lambda consumer: by_topic(consumer.assignment())),
            "events": self.fresh(),
        }

    # --- its own task ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        import time

        from confluent_kafka import Consumer

        self.consumer = Consumer(self._config)
        if self._member_id is not None:
            self.consumer._engine._membership.member_id = self._member_id
        while not self.closed:
            while self._calls:
                function, answer = self._calls.pop(0)
                answer.append(function(self.consumer))
            if self.polling and not self.closed:
                self._take(self.consumer.poll(0.05))
            else:
                time.sleep(0.05)

    def _take(self, message: Any) -> None:
        if message is None:
            return
        if message.error() is None:
            self.got.append((message.partition(), message.offset()))
        else:
            self._tell(poll_error(message))

    def _note(self, kind: str) -> Callable[[Any, Any], None]:
        return lambda _, parts: self._tell({"type": kind, "partitions": by_topic(parts)})

    def _tell(self, event: Fields) -> None:
        self.events.append({"t": round((self._cluster.now - self._made) * 1000), **event})


def poll_error(message: Any) -> Fields:
    """An error that poll() gave."""
    error = message.error()
    return {
        "type": "poll_error",
        "code": error_name(error),
        "msg": error.str(),
        "fatal": error.fatal(),
        "retriable": error.retriable(),
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
    }


_EXCEEDED = re.compile(r"exceeded by \d+ms")


def plain_text(text: str) -> str:
    """Without what a clock decided."""
    return _EXCEEDED.sub("exceeded by _ms", text)
