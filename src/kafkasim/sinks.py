"""Sinks: where the work on records shows, with what became of each written into the history.

    sink = kafkasim.sinks.Sink(cluster, "invoices", write_invoice, group="billing")
    ...
    sink(message)           # in the consumer, instead of write_invoice(message)

    orders = kafkasim.sinks.Table(cluster, "orders")
    ...
    orders.insert(row)      # in a service that writes a row and produces a message of it

Inputs:   a message and a function that applies it; faults that a test plans.      Effects: the function's own; events of the history.
Rule 1:   what the application sees does not change: the function's result is returned, what it raises is raised.
Rule 2:   an effect is told before its caller hears of it, so that a crash in between is seen as what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from kafkasim.core.model.history import DONE, FAILED, SKIPPED, STARTED, UNKNOWN, Effected, Inserted
from kafkasim.core.model.ids import TopicPartition


class SinkTimeout(Exception):
    """The sink did not answer in time. Whether the effect was applied, its caller cannot know."""


@attrs.define(slots=True)
class _Fault:
    left: int
    is_applied: bool
    seconds: float


class Sink:
    """Apply messages and remember them.

    Args:
        cluster: whose history is written; simulated or real.
        name: of the sink, as promises and findings call it.
        apply: called with each message; None: the values are only kept in ``values``.
        group: the consumer group whose work it is.
    """

    def __init__(self, cluster: Any, name: str, apply: Callable[[Any], Any] | None = None, *, group: str) -> None:
        self.name = name
        self.group = group
        #: Values in the order in which they took effect.
        self.values: list[bytes | None] = []
        self._cluster = cluster
        self._apply = apply
        self._faults: list[_Fault] = []
        #: Each partition as one object: there are two events a record, and they keep what they name.
        self._places: dict[TopicPartition, TopicPartition] = {}

    def __call__(self, message: Any) -> Any:
        """Work on one message. Raises what the function raises, and SinkTimeout where a fault says so."""
        self._tell(message, STARTED)
        fault = self._next_fault()
        if fault is not None and fault.seconds:
            self._cluster.run_for(fault.seconds)
        if fault is not None and not fault.is_applied:
            self._tell(message, FAILED)
            raise SinkTimeout(f"sink {self.name!r} did not answer (nothing was applied)")
        try:
            result = None if self._apply is None else self._apply(message)
        except BaseException:
            self._tell(message, FAILED)
            raise
        self.values.append(message.value())
        self._tell(message, SKIPPED if result is ALREADY_APPLIED else DONE)
        if fault is not None:
            raise SinkTimeout(f"sink {self.name!r} did not answer (its caller cannot know that the effect was applied)")
        return result

    def skip(self, message: Any) -> None:
        """The message is dealt with, without an effect here: filtered, or sent elsewhere."""
        self._tell(message, SKIPPED)

    def give_up(self, message: Any) -> None:
        """Nobody can tell whether the message took effect."""
        self._tell(message, UNKNOWN)

    def fail(self, *, nth: int = 1, applied: bool = False, seconds: float = 0.0) -> None:
        """Let the n-th call from now time out, after so many seconds: with its effect applied, or without."""
        self._faults.append(_Fault(nth, applied, seconds))

    def _next_fault(self) -> _Fault | None:
        due = None
        for fault in self._faults:
            fault.left -= 1
            if fault.left == 0:
                due = fault
        self._faults = [fault for fault in self._faults if fault.left > 0]
        return due

    def _tell(self, message: Any, phase: str) -> None:
        cluster = self._cluster
        key = message.key()
        place = TopicPartition(message.topic(), message.partition())
        at_us = round(cluster.now * 1_000_000)
        cluster.history.record(
            Effected(
                at_us,
                _who(cluster) or self.name,
                self.group,
                self.name,
                self._places.setdefault(place, place),
                message.offset(),
                key.encode() if isinstance(key, str) else key,
                phase,
            )
        )


class Table:
    """Rows of a service that writes twice: here, and into Kafka. What is in the table is there for good.

    Args:
        cluster: whose history is written; simulated or real.
        name: of the table, as promises and findings call it: ``cluster.guarantee(topics="orders", mirrors=name)``.
    """

    def __init__(self, cluster: Any, name: str) -> None:
        self.name = name
        #: In the order in which they were written.
        self.rows: list[bytes] = []
        self._cluster = cluster

    def insert(self, value: bytes | str) -> None:
        """Write a row: whoever reads the topics that mirror the table should hear of it."""
        row = value.encode() if isinstance(value, str) else value
        self.rows.append(row)
        at_us = round(self._cluster.now * 1_000_000)
        self._cluster.history.record(Inserted(at_us, _who(self._cluster) or self.name, self.name, row))


def _who(cluster: Any) -> str | None:
    """The task that works, where tasks are the cluster's own: two that share a sink are told apart."""
    scheduler = getattr(cluster, "scheduler", None)
    task = None if scheduler is None else scheduler.current()
    return None if task is None else str(task.host.name)


#: What ``apply`` returns where the sink found that this record had taken effect before.
ALREADY_APPLIED = object()


def upsert(
    cluster: Any, name: str, connection: Any, table: str, *, group: str, versioned: bool = True, marker: str = "?"
) -> Sink:
    """A sink that keeps the latest value of each key in a table of a DB-API connection (sqlite3; psycopg with ``marker="%s"``).

    The table is made if it is not there. ``versioned``: a row remembers partition and offset, so that an older record overwrites
    nothing and a record counts once. Raises ValueError for a table whose name is not a plain word.
    """
    if not table.isidentifier():
        raise ValueError(f"table {table!r}: expected a plain word")
    cursor = connection.cursor()
    cursor.execute(
        f"CREATE TABLE IF NOT EXISTS {table} "
        "(key TEXT NOT NULL, place TEXT NOT NULL, record_offset BIGINT NOT NULL, value TEXT, PRIMARY KEY (key, place))"
    )
    connection.commit()
    guard = f" WHERE {table}.record_offset < excluded.record_offset" if versioned else ""
    statement = (
        f"INSERT INTO {table} (key, place, record_offset, value) VALUES ({marker}, {marker}, {marker}, {marker}) "
        f"ON CONFLICT (key, place) DO UPDATE SET record_offset = excluded.record_offset, value = excluded.value{guard}"
    )

    def apply(message: Any) -> Any:
        row = (
            _text(message.key()) or "",
            f"{message.topic()}-{message.partition()}",
            message.offset(),
            _text(message.value()),
        )
        cursor = connection.cursor()
        cursor.execute(statement, row)
        connection.commit()
        return ALREADY_APPLIED if cursor.rowcount == 0 else None

    return Sink(cluster, name, apply, group=group)


def _text(data: bytes | str | None) -> str | None:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data
