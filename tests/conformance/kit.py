"""What most conformance tests do, in short words: make a topic, send, read, wait, expect an error.

Rule 1:   time is spent only in polls with a timeout and in `cluster.run_for`, so that it may be virtual.
Rule 2:   the client module is an argument: nothing here imports it.
Rule 3:   timers are short where that hides nothing: heartbeats every 0.5 s, sessions of 6 s, fetches parked for 0.1 s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

SHORT_TIMERS = {
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
    "fetch.wait.max.ms": 100,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
}
# Nobody listens there, on either backend.
UNREACHABLE = "127.0.0.1:1"


class Kit:
    """One test's helpers; `close` closes the consumers that the test left open."""

    def __init__(self, ck: Any, cluster: Any, name: Callable[[str], str]) -> None:
        self.ck = ck
        self.cluster = cluster
        self.name = name
        self._consumers: list[Any] = []
        self._admin: Any = None

    def close(self) -> None:
        """Leave the groups, so that the next test does not wait for a session to expire."""
        for consumer in self._consumers:
            consumer.close()

    # --- things ---------------------------------------------------------------------------------

    def topic(self, partitions: int = 1, label: str = "topic", **config: object) -> str:
        """Make a topic of this test; config keywords as in `client_config`: ``retention_ms=1``."""
        name = self.name(label)
        texts = {key.replace("_", "."): str(value) for key, value in config.items()}
        self.cluster.create_topic(name, partitions=partitions, config=texts)
        return name

    def group(self, label: str = "group") -> str:
        """A group id of this test."""
        return self.name(label)

    def config(self, config: Mapping[str, Any] | None = None, **keywords: Any) -> dict[str, Any]:
        """A client's config with the cluster's address."""
        dotted = {
            key if key.endswith("_cb") or key in ("on_delivery", "on_commit") else key.replace("_", "."): value
            for key, value in keywords.items()
        }
        return {"bootstrap.servers": self.cluster.bootstrap_servers, **dict(config or {}), **dotted}

    def producer(self, **config: Any) -> Any:
        """A producer with defaults."""
        return self.ck.Producer(self.config(**config))

    def consumer(self, group: str | None = None, topics: Iterable[str] = (), **config: Any) -> Any:
        """A consumer with short timers that reads from the earliest record and commits by hand."""
        consumer = self.keep(
            self.ck.Consumer({**SHORT_TIMERS, **self.config({"group.id": group or self.group("solo")}, **config)})
        )
        if topics:
            consumer.subscribe(list(topics))
        return consumer

    def keep(self, consumer: Any) -> Any:
        """Close this consumer at the test's end."""
        self._consumers.append(consumer)
        return consumer

    def assigned(self, topic: str, partition: int = 0, offset: int | None = None, **config: Any) -> Any:
        """A consumer that was given one partition by hand."""
        consumer = self.consumer(**config)
        consumer.assign([self.at(topic, partition, offset)])
        return consumer

    def admin(self) -> Any:
        """The test's admin client: one that is dropped fails the calls it has not answered."""
        if self._admin is None:
            self._admin = self.ck.admin.AdminClient(self.config())
        return self._admin

    def at(self, topic: str, partition: int = 0, offset: int | None = None) -> Any:
        """A TopicPartition, with an offset where one is given."""
        if offset is None:
            return self.ck.TopicPartition(topic, partition)
        return self.ck.TopicPartition(topic, partition, offset)

    # --- doing ----------------------------------------------------------------------------------

    def send(self, topic: str, value: Any = b"value", producer: Any = None, **arguments: Any) -> tuple[Any, Any]:
        """Produce one record, wait for its report, and return the report's two arguments."""
        reports: list[tuple[Any, Any]] = []
        producer = producer or self.producer()
        producer.produce(topic, value, on_delivery=lambda error, message: reports.append((error, message)), **arguments)
        assert producer.flush(20) == 0
        assert len(reports) == 1
        return reports[0]

    def fill(self, topic: str, count: int, partition: int = 0, start: int = 0) -> None:
        """Write v0, v1, … into a partition."""
        producer = self.producer()
        for index in range(start, start + count):
            producer.produce(topic, f"v{index}", partition=partition)
        assert producer.flush(20) == 0

    def read(self, consumer: Any, count: int, timeout: float = 20.0) -> list[Any]:
        """Poll until that many records came; an error event fails the test."""
        messages: list[Any] = []
        deadline = self.cluster.now + timeout
        while len(messages) < count:
            assert self.cluster.now < deadline, f"only {len(messages)} of {count} records came"
            message = consumer.poll(0.1)
            if message is not None:
                assert message.error() is None, message.error()
                messages.append(message)
        return messages

    def event(self, consumer: Any, timeout: float = 20.0) -> Any:
        """Poll until anything comes, a record or an error."""
        deadline = self.cluster.now + timeout
        while self.cluster.now < deadline:
            message = consumer.poll(0.1)
            if message is not None:
                return message
        raise AssertionError(f"nothing came in {timeout} s")

    def wait(self, predicate: Callable[[], Any], *consumers: Any, timeout: float = 30.0) -> list[Any]:
        """Poll the consumers in turn until the predicate is true; returns the records that came meanwhile."""
        messages: list[Any] = []
        deadline = self.cluster.now + timeout
        while not predicate():
            assert self.cluster.now < deadline, f"the awaited condition did not come true in {timeout} s"
            if not consumers:
                self.cluster.run_for(0.05)
            for consumer in consumers:
                message = consumer.poll(0.05)
                if message is not None:
                    assert message.error() is None, message.error()
                    messages.append(message)
        return messages

    def poll_for(self, seconds: float, *consumers: Any) -> list[Any]:
        """Poll the consumers in turn for a while and return all that came, errors included."""
        messages: list[Any] = []
        deadline = self.cluster.now + seconds
        while self.cluster.now < deadline:
            for consumer in consumers:
                message = consumer.poll(0.05)
                if message is not None:
                    messages.append(message)
        return messages

    def killable(self, function: Callable[..., Any], *args: Any) -> Any:
        """Spawn a task that can be killed and paused: on real Kafka that takes a process of its own."""
        options = {"process": True} if "process" in inspect.signature(self.cluster.spawn).parameters else {}
        return self.cluster.spawn(function, *args, **options)

    # --- looking --------------------------------------------------------------------------------

    @contextmanager
    def fails(self, code: str, text: str = "") -> Iterator[None]:
        """Expect a KafkaException whose error has this name and, in it, this text."""
        with pytest.raises(self.ck.KafkaException) as caught:
            yield
        self.is_error(caught.value.args[0], code, text)

    def is_error(self, error: Any, code: str, text: str = "") -> None:
        """Check a KafkaError's name, its number's agreement with the module's constant, and its text."""
        assert isinstance(error, self.ck.KafkaError)
        assert error.name() == code
        assert error.code() == getattr(self.ck.KafkaError, code)
        assert text in error.str()

    def values(self, messages: Iterable[Any]) -> list[bytes]:
        """The records' values."""
        return [message.value() for message in messages]

    def partitions(self, consumer: Any) -> list[int]:
        """The numbers of the consumer's assigned partitions, in order."""
        return sorted(each.partition for each in consumer.assignment())

    def result(self, futures: Mapping[Any, Any]) -> Any:
        """The result of an admin call that was made for one thing."""
        (future,) = futures.values()
        return future.result(20)
