"""Producer: thin over the producer engine.

Mirrors:  cimpl.Producer (Producer.c).
Rule 1:   produce() is one of the three places where work is done per record: it converts as little as it can.
Rule 2:   a delivery report stands for a slice of a batch; its messages are made only where somebody asked for a callback.
Rule 3:   after an exception in a callback the rest of the reports wait for the next poll() or flush(); close() drops them, and
          what is not delivered yet.
Differs:  transactions come with a later version and raise until then.
"""

from __future__ import annotations

import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from kafkasim.confluent_kafka._arguments import c_arguments, c_positional, payload, real, timeout_ms
from kafkasim.confluent_kafka._config import PRODUCER
from kafkasim.confluent_kafka._handle import POLL_CHUNK_US, ClientHandle, timeout_us
from kafkasim.confluent_kafka._headers import headers_of
from kafkasim.confluent_kafka.errors import KafkaError, error_or_none, error_text, throw
from kafkasim.confluent_kafka.message import BatchSource, DeliveredMessage
from kafkasim.core.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafkasim.core.client.accumulator import DeliveryReport

    DeliveryCallback = Callable[[KafkaError | None, Any], Any]

Self = TypeVar("Self", bound="Producer")

PRODUCER_CLOSED = "Producer has been closed"
_NO_TRANSACTIONS = "The Transactional API requires transactional.id to be configured"
_ALL = 1 << 30
_MISSING: Any = object()


class Producer(ClientHandle):
    """Asynchronous producer: ``produce`` queues, ``poll`` and ``flush`` serve delivery reports."""

    __slots__ = ("_on_delivery", "_only_errors", "_produce", "_reports", "_serving")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if getattr(self, "_shell", None) is not None:
            raise RuntimeError("Producer already __init__:ialized")
        self._shell = None
        #: Reports taken from the engine and not served yet: each with the index of its first record not served and
        #: the time (ms) when it came.
        self._reports: deque[tuple[DeliveryReport, int, float]] = deque()
        self._serving = 0
        self._open(PRODUCER, args, kwargs)
        self._on_delivery = self._settings.on_delivery
        self._only_errors = self._settings.only_error_reports
        self._produce = self._engine.produce

    # --- Producing -------------------------------------------------------------------------------------------------

    def produce(
        self,
        topic: str = _MISSING,
        value: str | bytes | None = None,
        key: str | bytes | None = None,
        partition: int = -1,
        callback: DeliveryCallback | None = None,
        on_delivery: DeliveryCallback | None = None,
        timestamp: int = 0,
        headers: Any = None,
        **unknown: Any,
    ) -> None:
        """Queue a message; ``on_delivery(err, msg)`` is called from poll() or flush() once its fate is known."""
        if (
            type(value) is not bytes
            or type(topic) is not str
            or "\0" in topic
            or (key is not None and type(key) is not bytes)
        ):
            topic, value, key = _checked(topic, value, key)
        if unknown:
            raise TypeError(f"'{next(iter(unknown))}' is an invalid keyword argument for this function")
        if type(partition) is not int or type(timestamp) is not int:
            partition, timestamp = _checked_numbers(partition, timestamp)
        if headers is not None:
            headers = headers_of(headers)
        shell = self._shell
        if shell is None:
            raise RuntimeError(PRODUCER_CLOSED)
        error = shell.call(
            self._produce,
            topic,
            value,
            key,
            partition,
            timestamp,
            headers,
            callback or on_delivery or self._on_delivery,
        )
        if error:
            if error == ErrorCode._QUEUE_FULL:
                raise BufferError(error_text(error))
            throw(error, "Unable to produce message: " + error_text(error))

    @c_arguments("sO|iOO")
    def produce_batch(
        self,
        topic: str,
        messages: list[dict[str, Any]],
        partition: int = -1,
        callback: DeliveryCallback | None = None,
        on_delivery: DeliveryCallback | None = None,
    ) -> int:
        """Queue many messages, given as dicts; returns how many were accepted and marks the others with ``_error``."""
        if not isinstance(messages, list):
            raise TypeError("messages must be a list")
        if not messages:
            return 0
        shell = self._require_open(PRODUCER_CLOSED)
        report_to = callback or on_delivery or self._on_delivery
        parsed = [_batch_entry(entry, index, partition, report_to) for index, entry in enumerate(messages)]
        accepted = 0
        for entry, (value, key, to_partition, entry_callback) in zip(messages, parsed, strict=True):
            error = shell.call(self._produce, topic, value, key, to_partition, 0, None, entry_callback)
            if error:
                entry["_error"] = KafkaError(int(error), f"Message failed: {error_text(error)}")
            else:
                accepted += 1
        return accepted

    # --- Serving ---------------------------------------------------------------------------------------------------

    def poll(self, timeout: float = -1.0) -> int:
        """Serve what has happened, waiting up to ``timeout`` seconds for the first of it; returns the number of events."""
        if type(timeout) is not float:
            timeout = real(timeout)
        shell = self._shell
        if shell is None:
            raise RuntimeError(PRODUCER_CLOSED)
        if self._gather():
            return self._serve()
        if 0 <= timeout < 0.001 or not shell.wait(self._gather, timeout_us(timeout)):
            shell.fruitless()
            return 0
        return self._serve()

    @c_arguments("|d")
    def flush(self, timeout: float = -1.0) -> int:
        """Send what is queued at once and serve reports until none is outstanding; returns what is left after ``timeout``."""
        shell = self._require_open(PRODUCER_CLOSED)
        failure = self._flush(shell, timeout_ms(timeout))
        if failure is not None:
            raise failure
        return len(self)

    def _flush(self, shell: Any, milliseconds: int, *, is_chunked: bool = True) -> BaseException | None:
        """Serve until nothing is outstanding or the time is up; the last exception of a callback.

        The binding flushes in chunks of 0.2 s. A callback that raises ends its chunk, and the time left of it is lost; a
        flush of less than one chunk, or one without chunks, is over.
        """
        failure: BaseException | None = None
        chunk_us = shell.now_us
        deadline_us = None if milliseconds < 0 else chunk_us + milliseconds * 1000
        if 0 <= milliseconds * 1000 < POLL_CHUNK_US:
            is_chunked = False
        has_begun = False

        def begin(now_us: int) -> None:
            nonlocal has_begun
            has_begun = True  # Here, as the call may be ended by a signal before it gets as far.
            self._engine.begin_flush(now_us)

        try:
            while True:
                if self._gather():
                    try:
                        self._serve()
                    except Exception as exception:
                        failure = exception
                        if not is_chunked:
                            return failure
                        if deadline_us is not None:
                            deadline_us -= POLL_CHUNK_US - (shell.now_us - chunk_us) % POLL_CHUNK_US
                            chunk_us = shell.now_us
                            if deadline_us <= chunk_us:
                                return failure
                    continue
                if not len(self):
                    return failure
                if not has_begun:
                    # What was reported before is served before the client's threads hear of the flush.
                    shell.call(begin)
                    continue
                remaining_us = None if deadline_us is None else deadline_us - shell.now_us
                if (remaining_us is not None and remaining_us <= 0) or not shell.wait(self._gather, remaining_us):
                    return failure
        finally:
            if has_begun:
                self._engine.end_flush()

    def _gather(self) -> bool:
        """Take reports and events from the engine; True if there are any to serve. Runs no user code."""
        engine = self._engine
        if engine.has_reports:
            reports = engine.take_reports(_ALL)
            wall_ms = (self._require_open().now_us + self._engine.wall_offset_us) / 1000
            self._reports.extend([(report, report.start, wall_ms) for report in reports])
        return self._gather_events() or bool(self._reports)

    def _serve(self) -> int:
        """Serve everything that was gathered; one report or event counts one."""
        served = 0
        while self._events:
            served += self._serve_event(self._events.popleft())
        reports = self._reports
        while reports:
            # Taken off first: a callback may poll.
            self._serve_report(*reports.popleft())
            served += 1
        return served

    def _serve_report(self, report: DeliveryReport, start: int, wall_ms: float) -> None:
        """Call back for each record of a report from ``start`` on."""
        opaques = report.opaques
        if not any(opaques) or (self._only_errors and not report.error):
            return
        stop = report.stop
        error = error_or_none(report.error)
        source = BatchSource(
            report.tp[0],
            report.tp[1],
            report.batch,
            base_offset=report.base_offset,
            error=error,
            reported_ms=wall_ms,
            append_time_ms=report.append_time_ms,
        )
        index = start
        try:
            for index in range(start, stop):
                callback = opaques[index]
                if callback is not None:
                    self._serving = stop - index
                    callback(error, DeliveredMessage(source, index))
        except BaseException:
            if index + 1 < stop:
                self._reports.appendleft((report, index + 1, wall_ms))
            raise
        finally:
            self._serving = 0

    def __len__(self) -> int:
        """Messages and events that wait for delivery or to be served."""
        if self._shell is None:
            return 0
        waiting = sum([report.stop - start + 1 for report, start, _ in self._reports])
        outstanding: int = self._engine.outq_len + waiting + self._serving + len(self._events)
        return outstanding

    def __bool__(self) -> bool:
        return True

    # --- Ending ----------------------------------------------------------------------------------------------------

    @c_arguments("|ppp")
    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        """Give up what is queued or in flight; the reports say so."""
        shell = self._require_open(PRODUCER_CLOSED)
        shell.call(self._engine.purge, in_queue, in_flight)

    def close(self, *_ignored: Any) -> bool:
        """Deliver what is outstanding, however long it takes, and end; a callback that raises ends it at once."""
        shell = self._shell
        if shell is None:
            return True
        failure = self._flush(shell, -1, is_chunked=False)
        left = len(self)
        self._shell = None
        shell.call(self._engine.close)
        shell.close()
        if failure is not None:
            raise failure
        if left:
            text = error_text(ErrorCode._TIMED_OUT)
            warnings.warn(f"Producer flush failed during close: {text}", RuntimeWarning, stacklevel=2)
        return True

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        if len(exc) != 3:
            raise TypeError(f"__exit__ expected 3 arguments, got {len(exc)}")
        try:
            self.close()
        except Exception as failure:
            # The binding forgets to look whether close() failed, and the interpreter notices.
            text = "<built-in method __exit__ of Producer object> returned a result with an exception set"
            raise SystemError(text) from failure

    # --- Transactions ----------------------------------------------------------------------------------------------

    @c_positional("|d")
    def init_transactions(self, timeout: float = -1.0) -> None:
        """Transactions are not simulated yet; this says so, and the others never get beyond it."""
        self._refuse_transaction(is_init=True)

    @c_positional("")
    def begin_transaction(self) -> None:
        """Transactions are not simulated yet."""
        self._refuse_transaction()

    @c_positional("OO|d")
    def send_offsets_to_transaction(self, positions: Any, group_metadata: Any, timeout: float = -1.0) -> None:
        """Transactions are not simulated yet."""
        self._refuse_transaction()

    @c_positional("|d")
    def commit_transaction(self, timeout: float = -1.0) -> None:
        """Transactions are not simulated yet."""
        self._refuse_transaction()

    @c_positional("|d")
    def abort_transaction(self, timeout: float = -1.0) -> None:
        """Transactions are not simulated yet."""
        self._refuse_transaction()

    def _refuse_transaction(self, *, is_init: bool = False) -> None:
        self._require_open(PRODUCER_CLOSED)
        if not self._engine.config["transactional.id"]:
            throw(ErrorCode._NOT_CONFIGURED, _NO_TRANSACTIONS)
        if not is_init:
            throw(ErrorCode._STATE, "Operation not valid in state Init")
        throw(
            ErrorCode._NOT_IMPLEMENTED,
            "kafkasim does not simulate transactions yet, see docs/fidelity.md",
        )


def _checked(topic: Any, value: Any, key: Any) -> tuple[str, bytes | None, bytes | None]:
    """The arguments of produce() that need a closer look, as C code takes them."""
    if topic is _MISSING:
        raise TypeError("function missing required argument 'topic' (pos 1)")
    if not isinstance(topic, str):
        name = "None" if topic is None else type(topic).__name__
        raise TypeError(f"argument 1 must be str, not {name}")
    if "\0" in topic:
        raise ValueError("embedded null character")
    return str(topic), payload(value, 2), payload(key, 3)


def _checked_numbers(partition: Any, timestamp: Any) -> tuple[int, int]:
    for number in (partition, timestamp):
        if not hasattr(number, "__index__"):
            raise TypeError(f"'{type(number).__name__}' object cannot be interpreted as an integer")
    return partition.__index__(), timestamp.__index__()


def _batch_entry(
    entry: Any, index: int, partition: int, callback: DeliveryCallback | None
) -> tuple[bytes | None, bytes | None, int, DeliveryCallback | None]:
    """One dict of produce_batch(): value, key, partition, callback."""
    if not isinstance(entry, dict):
        raise TypeError(f"Message at index {index} must be a dict")
    value, key = entry.get("value"), entry.get("key")
    for name, content in (("value", value), ("key", key)):
        if not isinstance(content, bytes | str | None):
            raise TypeError(f"Message {name} at index {index} must be bytes or str")
    if entry.get("partition") is not None:
        partition = entry["partition"]
        if not isinstance(partition, int):
            raise TypeError(f"Message partition at index {index} must be int")
    if entry.get("timestamp") is not None:
        raise NotImplementedError("Message timestamps are not currently supported in batch mode")
    if entry.get("headers") is not None:
        try:
            headers_of(entry["headers"])  # Checked and then not sent, as the real client does.
        except TypeError:
            raise ValueError(f"Invalid headers at index {index}") from None
    own_callback = entry.get("callback")
    return payload(value, 0), payload(key, 0), partition, callback if own_callback is None else own_callback


Producer.__module__ = "cimpl"
