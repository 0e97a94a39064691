"""Consumer: thin over the consumer engine.

Mirrors:  cimpl.Consumer (Consumer.c).
Rule 1:   rebalance and commit callbacks run in poll(), consume(), close() of the calling task, in the order of the queue.
Rule 2:   a rebalance that the application's callback did not answer is answered here, in the way of the group's protocol.
Rule 3:   a poll() of less than 0.2 s raises what a callback raised at once; a longer one, and consume(), first goes on until
          its number or its time is reached, and then raises and drops what it had, as the real client does.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from kafkasim.confluent_kafka._arguments import c_arguments, real
from kafkasim.confluent_kafka._config import CONSUMER
from kafkasim.confluent_kafka._constants import OFFSET_INVALID, OFFSET_STORED
from kafkasim.confluent_kafka._handle import POLL_CHUNK_US, ClientHandle, timeout_us
from kafkasim.confluent_kafka.errors import KafkaError, error_or_none, error_text, throw
from kafkasim.confluent_kafka.message import BatchMessage, BatchSource, Message, messages_of
from kafkasim.confluent_kafka.values import TopicPartition
from kafkasim.core.client.items import CommitDone, ConsumerError, Rebalance, Slice
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import OffsetAndMetadata
from kafkasim.core.model.ids import TopicPartition as Partition

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafkasim.core.client.items import AppItem
    from kafkasim.sim.drive import ClientShell

    RebalanceCallback = Callable[["Consumer", list[TopicPartition]], Any]

Self = TypeVar("Self", bound="Consumer")

CONSUMER_CLOSED = "Consumer closed"
_MOST_MESSAGES = 1_000_000


class _NoCallback:
    """Stands for a callback that was not given; None in its place is refused, as by the real client."""

    def __repr__(self) -> str:
        return "None"

    def __call__(self, *args: Any) -> None:
        raise AssertionError


_NO_CALLBACK: Any = _NoCallback()


class Consumer(ClientHandle):
    """High-level consumer, alone (``assign``) or as a member of a group (``subscribe``)."""

    __slots__ = ("_is_answered", "_kept", "_on_assign", "_on_lost", "_on_revoke", "_source", "_starts", "_take")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if getattr(self, "_shell", None) is not None:
            raise RuntimeError("Consumer already initialized")
        self._shell = None
        self._on_assign: RebalanceCallback | None = None
        self._on_revoke: RebalanceCallback | None = None
        self._on_lost: RebalanceCallback | None = None
        self._is_answered = False
        self._source: BatchSource | None = None
        #: What was taken behind an item whose callback raised.
        self._kept: list[AppItem] = []
        #: Where the application, or the group, wanted each assigned partition to start, and in which epoch.
        self._starts: dict[Partition, tuple[int, int]] = {}
        self._open(CONSUMER, args, kwargs)
        self._take = self._engine.take
        self._engine.reports_commits = self._settings.on_commit is not None

    def _open_shell(self) -> ClientShell:
        return self._require_open(CONSUMER_CLOSED)

    def _require(self, error: ErrorCode, what: str) -> None:
        if error:
            throw(error, f"{what}: {error_text(error)}")

    # --- Subscription and assignment ---------------------------------------------------------------------------------

    @c_arguments("O|OOO")
    def subscribe(
        self,
        topics: list[str],
        on_assign: RebalanceCallback | None = _NO_CALLBACK,
        on_revoke: RebalanceCallback | None = _NO_CALLBACK,
        on_lost: RebalanceCallback | None = _NO_CALLBACK,
    ) -> None:
        """Join the group with these topics; a name that starts with ``^`` is a regular expression."""
        shell = self._open_shell()
        if not isinstance(topics, list):
            raise TypeError("expected list of topic unicode strings")
        for name, callback in (("on_assign", on_assign), ("on_revoke", on_revoke), ("on_lost", on_lost)):
            if not callable(callback):
                raise TypeError(f"{name} expects a callable")
        names = [str(topic) for topic in topics]
        self._require(shell.call(self._engine.subscribe, names), "Failed to set subscription")
        self._on_assign, self._on_revoke, self._on_lost = (
            None if callback is _NO_CALLBACK else callback for callback in (on_assign, on_revoke, on_lost)
        )

    def unsubscribe(self) -> None:
        """Leave the group."""
        shell = self._open_shell()
        self._require(shell.call(self._engine.unsubscribe) or ErrorCode.NONE, "Failed to remove subscription")

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Consume exactly these partitions, from the offsets that they name."""
        shell = self._open_shell()
        wanted = _starts(partitions)
        self._is_answered = True
        self._require(shell.call(self._engine.assign, wanted), "Failed to set assignment")
        self._starts = {_partition(value): (value._offset, value._leader_epoch) for value in partitions}

    def unassign(self) -> None:
        """Consume nothing any more."""
        shell = self._open_shell()
        self._is_answered = True
        self._require(shell.call(self._engine.unassign), "Failed to remove assignment")
        self._starts = {}

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Consume these partitions too."""
        shell = self._open_shell()
        wanted = _starts(partitions)
        self._is_answered = True
        self._require_increment(shell.call(self._engine.incremental_assign, wanted))
        self._starts.update({_partition(value): (value._offset, value._leader_epoch) for value in partitions})

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """Consume these partitions no more."""
        shell = self._open_shell()
        unwanted = _partitions(partitions)
        self._is_answered = True
        self._require_increment(shell.call(self._engine.incremental_unassign, unwanted))

    def _require_increment(self, error: ErrorCode) -> None:
        if error:
            throw(error, self._engine.last_error_text or error_text(error))

    def assignment(self, *_ignored: Any, **_ignored_too: Any) -> list[TopicPartition]:
        """What is consumed now, with the offsets where it was to start."""
        self._open_shell()
        assigned = []
        for tp in self._engine.assignment():
            offset, epoch = self._starts.get(tp, (OFFSET_INVALID, -1))
            offset = OFFSET_STORED if offset == OFFSET_INVALID else offset
            assigned.append(TopicPartition._made(tp[0], tp[1], offset, leader_epoch=epoch))
        return assigned

    # --- Consuming -------------------------------------------------------------------------------------------------

    def poll(self, timeout: float = -1.0) -> Message | None:
        """The next message or error, waiting up to ``timeout`` seconds; callbacks are served on the way."""
        if type(timeout) is not float:
            timeout = real(timeout)
        shell = self._shell
        if shell is None:
            raise RuntimeError(CONSUMER_CLOSED)
        if self._kept:
            items, self._kept = self._kept, []
        else:
            items = shell.call(self._take, 1)
            if items and type(items[0]) is Slice:
                item = items[0]
                source = self._source
                if source is None or source.batch is not item.batch:
                    source = self._source = BatchSource(item.tp[0], item.tp[1], item.batch)
                return BatchMessage(source, item.start)
        return self._poll(shell, deque(items), timeout_us(timeout))

    def _poll(self, shell: ClientShell, items: deque[AppItem], limit_us: int) -> Message | None:
        """Serve what was taken, and then what comes, until a message or the end of the time.

        The binding polls in chunks of 0.2 s. A callback that raises ends its chunk, and the time left of it is lost. Then a
        poll of less than one chunk is over; a longer one goes on, and drops the message that it finds.
        """
        chunk_us = shell.now_us
        deadline_us = chunk_us + limit_us
        failure: BaseException | None = None
        while True:
            raised = None
            if items:
                item = items.popleft()
                if type(item) is Slice or type(item) is ConsumerError:
                    if failure is not None:
                        break
                    return self._message(item)
                try:
                    raised = self._attempt(self._serve_item, item)
                except BaseException:
                    self._kept = list(items)
                    raise
            else:
                if self._gather_events():
                    raised = self._attempt(self._serve_event, self._events.popleft())
                elif self._shell is None:
                    break  # A callback has closed us.
                elif not self._engine.has_items():
                    remaining_us = deadline_us - shell.now_us
                    if remaining_us <= 0 or not self._wait_for_work(shell, remaining_us):
                        break
                if raised is None:
                    items.extend(shell.call(self._take, 1))
            if raised is not None:
                failure = raised
                deadline_us -= POLL_CHUNK_US - (shell.now_us - chunk_us) % POLL_CHUNK_US
                chunk_us = shell.now_us
                if limit_us < POLL_CHUNK_US or deadline_us <= chunk_us:
                    self._kept = list(items)
                    break
        if failure is not None:
            raise failure
        shell.fruitless()
        return None

    def _message(self, item: Slice | ConsumerError) -> Message:
        if type(item) is ConsumerError:
            return _error_message(item)
        assert isinstance(item, Slice)
        self._source = BatchSource(item.tp[0], item.tp[1], item.batch)
        return BatchMessage(self._source, item.start)

    @c_arguments("|Id")
    def consume(self, num_messages: int = 1, timeout: float = -1.0) -> list[Message]:
        """Up to ``num_messages`` messages and errors, all that come within ``timeout`` seconds."""
        shell = self._open_shell()
        if num_messages > _MOST_MESSAGES:
            raise ValueError("num_messages must be between 0 and 1000000 (1M)")
        messages: list[Message] = []
        failure: BaseException | None = None
        deadline_us = shell.now_us + timeout_us(timeout)
        while len(messages) < num_messages and self._shell is not None:
            if self._kept:
                items, self._kept = self._kept, []
            else:
                items = shell.call(self._take, num_messages - len(messages))
            for item in items:
                if type(item) is Slice:
                    source = BatchSource(item.tp[0], item.tp[1], item.batch)
                    messages += messages_of(source, range(item.start, item.stop))
                elif type(item) is ConsumerError:
                    messages.append(_error_message(item))
                else:
                    failure = self._attempt(self._serve_item, item) or failure
            while self._gather_events():
                failure = self._attempt(self._serve_event, self._events.popleft()) or failure
            if len(messages) >= num_messages or self._engine.has_items():
                continue
            remaining_us = deadline_us - shell.now_us
            if remaining_us <= 0 or not self._wait_for_work(shell, remaining_us):
                break
        if failure is not None:
            raise failure
        if not messages:
            shell.fruitless()
        return messages

    def _attempt(self, serve: Callable[[Any], Any], item: Any) -> BaseException | None:
        """Run callbacks; what one of them raised."""
        try:
            serve(item)
        except Exception as exception:
            return exception
        return None

    def _wait_for_work(self, shell: ClientShell, limit_us: int) -> bool:
        """Wait inside poll(), which the engine is told of: max.poll.interval.ms stands still meanwhile."""
        shell.call(self._engine.begin_poll)
        try:
            return shell.wait(self._has_work, limit_us)
        finally:
            shell.call(self._engine.end_poll)

    def _has_work(self) -> bool:
        return bool(self._engine.has_items()) or self._gather_events()

    # --- Callbacks -------------------------------------------------------------------------------------------------

    def _serve_item(self, item: AppItem) -> None:
        if type(item) is CommitDone:
            callback = self._settings.on_commit
            if callback is not None:
                callback(error_or_none(item.error), [_committed(*entry) for entry in item.offsets])
        else:
            assert isinstance(item, Rebalance)
            self._serve_rebalance(item)

    def _serve_rebalance(self, item: Rebalance) -> None:
        if item.kind == "assign":
            callback = self._on_assign
        elif item.kind == "lost" and self._on_lost is not None:
            callback = self._on_lost
        else:
            callback = self._on_revoke
        self._is_answered = False
        try:
            if callback is not None:
                callback(self, [TopicPartition._made(tp[0], tp[1]) for tp in item.partitions])
        finally:
            # After a close() in the callback there is nothing left to answer.
            if not self._is_answered and self._shell is not None:
                self._answer(item)

    def _answer(self, item: Rebalance) -> None:
        """What the binding does for an application that left it to the binding."""
        call = self._open_shell().call
        starts = [(Partition(*tp), OFFSET_INVALID) for tp in item.partitions]
        if item.protocol.upper() == "COOPERATIVE":
            if item.kind == "assign":
                call(self._engine.incremental_assign, starts)
            else:
                call(self._engine.incremental_unassign, [tp for tp, _ in starts])
        elif item.kind == "assign":
            call(self._engine.assign, starts)
        else:
            call(self._engine.unassign)

    # --- Offsets ---------------------------------------------------------------------------------------------------

    @c_arguments("|OOOO", names=("message", "offsets", "async", "asynchronous"))
    def commit(
        self,
        message: Message | None = None,
        offsets: list[TopicPartition] | None = None,
        async_: Any = True,
        asynchronous: Any = None,
    ) -> list[TopicPartition] | None:
        """Commit a message's offset + 1, given offsets, or what was stored; waits for the outcome if not asynchronous."""
        shell = self._open_shell()
        wanted = _offsets_to_commit(message, offsets, "commit")
        if async_ if asynchronous is None else asynchronous:
            wants_report = self._settings.on_commit is not None
            shell.call(lambda now_us: self._engine.commit(wanted, now_us, wants_report))
            return None
        operation = shell.call(lambda now_us: self._engine.commit(wanted, now_us, False))
        return [_committed(*entry) for entry in self._finished(operation, "Commit failed: ")]

    @c_arguments("|OO")
    def store_offsets(self, message: Message | None = None, offsets: list[TopicPartition] | None = None) -> None:
        """Note offsets for the next automatic or argumentless commit."""
        shell = self._open_shell()
        wanted = _offsets_to_commit(message, offsets, "store")
        if wanted is None:
            raise ValueError("expected either message or offsets")
        entries = [(tp, to.offset, to.leader_epoch, to.metadata) for tp, to in wanted]
        results = shell.call(_without_time(self._engine.store_offsets), entries)
        errors = [error for _, error in results]
        if errors and all(errors):
            throw(errors[0], f"StoreOffsets failed: {error_text(errors[0])}")

    @c_arguments("O|d")
    def committed(self, partitions: list[TopicPartition], timeout: float = -1.0) -> list[TopicPartition]:
        """What the group has committed for these partitions."""
        shell = self._open_shell()
        wanted = _partitions(partitions)
        operation = shell.call(self._engine.committed, wanted, timeout_us(timeout))
        found = self._finished(operation, "Failed to get committed offsets: ")
        return [_committed(*entry) for entry in found]

    @c_arguments("O")
    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Offset after the last message that the application was given, of each partition, and that message's epoch."""
        self._open_shell()
        engine = self._engine
        return [
            TopicPartition._made(tp[0], tp[1], engine.position(tp), leader_epoch=engine.position_epoch(tp))
            for tp in _partitions(partitions)
        ]

    @c_arguments("O")
    def seek(self, partition: TopicPartition) -> None:
        """Go on from another offset of an assigned partition."""
        shell = self._open_shell()
        _require_partition(partition)
        error = shell.call(self._engine.seek, _partition(partition), partition._offset, partition._leader_epoch)
        self._require(error, f"Failed to seek to offset {partition.offset}")

    @c_arguments("O")
    def pause(self, partitions: list[TopicPartition]) -> None:
        """Deliver nothing of these partitions until they are resumed."""
        shell = self._open_shell()
        shell.call(_without_time(self._engine.pause), _partitions(partitions))

    @c_arguments("O")
    def resume(self, partitions: list[TopicPartition]) -> None:
        """Go on with paused partitions."""
        shell = self._open_shell()
        shell.call(self._engine.resume, _partitions(partitions))

    @c_arguments("O|db")
    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = -1.0, cached: bool = False
    ) -> tuple[int, int]:
        """(low, high) offset of a partition, asked of its leader or as last seen."""
        shell = self._open_shell()
        _require_partition(partition)
        tp = _partition(partition)
        if cached:
            low, high = self._engine.cached_watermark_offsets(tp)
            return low, high
        operation = shell.call(self._engine.query_watermark_offsets, tp, timeout_us(timeout))
        low, high = self._finished(operation, "Failed to get watermark offsets: ")
        return low, high

    @c_arguments("O|d")
    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float = -1.0) -> list[TopicPartition]:
        """For each partition the first offset at or after the time (ms) in its ``offset`` field."""
        shell = self._open_shell()
        asked = [(tp, timestamp_ms) for tp, timestamp_ms, _ in _starts(partitions)]
        if not asked:
            throw(ErrorCode._INVALID_ARG, f"Failed to get offsets: {error_text(ErrorCode._INVALID_ARG)}")
        operation = shell.call(self._engine.offsets_for_times, asked, timeout_us(timeout))
        found = self._finished(operation, "Failed to get offsets: ")
        return [
            TopicPartition._made(
                each.tp.topic, each.tp.partition, each.offset, error_or_none(each.error), leader_epoch=each.leader_epoch
            )
            for each in found
        ]

    # --- The group -------------------------------------------------------------------------------------------------

    def memberid(self) -> str | None:
        """This member's id in the group, once it has one."""
        self._open_shell()
        return self._engine.member_id or None

    def consumer_group_metadata(self) -> bytes:
        """This member's place in the group, opaque, for a transactional producer."""
        self._open_shell()
        engine = self._engine
        group_id = str(engine.config["group.id"]).encode()
        member_id = (engine.member_id or "").encode()
        written = b"CGMDv2:" + struct.pack("<i", engine.generation_id) + group_id + b"\0" + member_id + b"\0"
        if engine.group_instance_id:
            return written + b"\0" + str(engine.group_instance_id).encode() + b"\0"
        return written + b"\1"

    # --- Ending ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Revoke, commit, leave the group and end."""
        shell = self._shell
        if shell is None:
            return
        failure: BaseException | None = None
        operation = shell.call(self._engine.close_begin)
        while True:
            is_over = operation.done
            for item in shell.call(self._take, _MOST_MESSAGES):
                if type(item) in (Rebalance, CommitDone):
                    failure = self._attempt(self._serve_item, item) or failure
            while self._gather_events():
                failure = self._attempt(self._serve_event, self._events.popleft()) or failure
            if is_over:
                break
            shell.wait(lambda: operation.done or self._has_work(), None)
        self._shell = None
        shell.call(self._engine.close)
        shell.close()
        if failure is not None:
            raise failure

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        if len(exc) != 3:
            raise TypeError(f"__exit__ expected 3 arguments, got {len(exc)}")
        self.close()


# --- Conversions ---------------------------------------------------------------------------------------------------


def _require_partition(value: Any) -> None:
    if type(value) is not TopicPartition:
        raise TypeError("expected cimpl.TopicPartition")


def _partition(value: TopicPartition) -> Partition:
    return Partition(value._topic, value._partition)


def _require_list(partitions: Any) -> None:
    if not isinstance(partitions, list):
        raise TypeError("requires list of TopicPartition")
    for value in partitions:
        _require_partition(value)


def _partitions(partitions: Any) -> list[Partition]:
    _require_list(partitions)
    return [Partition(value._topic, value._partition) for value in partitions]


def _starts(partitions: Any) -> list[tuple[Partition, int, int]]:
    _require_list(partitions)
    return [(Partition(value._topic, value._partition), value._offset, value._leader_epoch) for value in partitions]


def _offsets_to_commit(message: Any, offsets: Any, verb: str) -> list[tuple[Partition, OffsetAndMetadata]] | None:
    """What commit() and store_offsets() were asked for; None if for nothing in particular."""
    if message is not None and offsets is not None:
        raise ValueError("message and offsets are mutually exclusive")
    if offsets is not None:
        _require_list(offsets)
        return [
            (_partition(value), OffsetAndMetadata(value._offset, value._leader_epoch, value._metadata_to_send))
            for value in offsets
        ]
    if message is None:
        return None
    if not isinstance(message, Message):
        raise TypeError("expected confluent_kafka.cimpl.Message")
    error = message.error()
    if error is not None:
        throw(ErrorCode._INVALID_ARG, f"Cannot {verb} offsets for message with error: '{error.str()}'")
    topic, partition, offset, epoch = (
        message.topic(),
        message.partition(),
        message.offset(),
        message.leader_epoch(),
    )
    if topic is None or partition is None or offset is None:
        throw(ErrorCode._INVALID_ARG, f"Cannot {verb} offsets for a message without topic and offset")
    return [(Partition(topic, partition), OffsetAndMetadata(offset + 1, -1 if epoch is None else epoch))]


def _committed(tp: Partition, offset: OffsetAndMetadata | int, error: ErrorCode) -> TopicPartition:
    """One partition of a commit's outcome, or of what is committed: no offset is -1001 here, -1 on the wire."""
    if isinstance(offset, int):
        return TopicPartition._made(tp[0], tp[1], OFFSET_INVALID if offset < 0 else offset, error_or_none(error))
    return TopicPartition._made(
        tp[0],
        tp[1],
        OFFSET_INVALID if offset.offset < 0 else offset.offset,
        error_or_none(error),
        offset.metadata,
        offset.leader_epoch,
    )


def _error_message(item: ConsumerError) -> Message:
    """An error or event in the place of a message; its value is the error's text. One of no partition says it is of partition 0."""
    text = item.text or error_text(item.code)
    return Message(
        item.topic if item.tp is None else item.tp[0],
        0 if item.tp is None else item.tp[1],
        item.offset,
        value=text.encode(),
        error=KafkaError(int(item.code), text),
        timestamp=(0, -1),
    )


def _without_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """An engine's call that takes no time, for a shell that passes it to all."""
    return lambda *args: function(*args[:-1])


Consumer.__module__ = "cimpl"
