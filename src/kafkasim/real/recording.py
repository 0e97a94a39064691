"""The recorder around the real client: the same history as on the simulator, written down where the application is told.

Mirrors:  kafkasim.sim.recorder, event for event; a batch of one record stands for each record.
Inputs:   calls and callbacks of the installed confluent_kafka.      Effects: events in a `RealHistory`.
Rule 1:   what the application sees does not change: arguments, results, exceptions and the order of callbacks pass through.
Rule 2:   an event is written before the application's own callback runs; ownership, which changes after it, is written after it.
Rule 3:   a recorder holds no client: a dropped client goes at once, as without it.
Rule 4:   of serializing clients the bytes are recorded, on the wire's side of the serializers.
Rule 5:   a share consumer's acknowledgements are told when their outcome is, by a callback of the recorder's own or by a synchronous
          commit; the types are what the application said, as the client tells offsets alone.
Differs:  clients of other programs are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import confluent_kafka
from confluent_kafka import (
    Consumer,
    DeserializingConsumer,
    DeserializingShareConsumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    SerializingProducer,
    ShareConsumer,
)

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import (
    ACCEPT,
    ACKNOWLEDGE_TYPES,
    Acked,
    Assigned,
    Closed,
    Committed,
    Delivered,
    Revoked,
    ShareAcknowledged,
    ShareDelivered,
    Sought,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import Columns, RecordBatch
from kafkasim.real.history import RealHistory

_ACKS_ALL = -1
_UNPLACED = -1
_OFFSET_INVALID = -1001


class RecordedClient(ModuleType):
    """The installed confluent_kafka, with producers, consumers and share consumers that write to one history."""

    def __init__(self, history: RealHistory) -> None:
        super().__init__("confluent_kafka", confluent_kafka.__doc__)
        self.Producer = type("Producer", (RecordingProducer,), {"history": history})
        self.Consumer = type("Consumer", (RecordingConsumer,), {"history": history})
        serializing = (SerializingProducer, RecordingProducer)
        self.SerializingProducer = type("SerializingProducer", serializing, {"history": history})
        deserializing = (DeserializingConsumer, RecordingConsumer)
        self.DeserializingConsumer = type("DeserializingConsumer", deserializing, {"history": history})
        self.ShareConsumer = type("ShareConsumer", (RecordingShareConsumer,), {"history": history})
        sharing = (DeserializingShareConsumer, RecordingShareConsumer)
        self.DeserializingShareConsumer = type("DeserializingShareConsumer", sharing, {"history": history})

    def __getattr__(self, name: str) -> Any:
        return getattr(confluent_kafka, name)

    def __dir__(self) -> list[str]:
        return sorted(dir(confluent_kafka))


# --- producers ----------------------------------------------------------------------------------


class RecordingProducer(Producer):
    """A producer whose delivery reports go into the history as the application takes them."""

    history: RealHistory

    def __init__(self, *args: Any, **keywords: Any) -> None:
        config = _merged_config(args, keywords)
        self._recorder = _ProducerRecorder(self.history, config)
        args = _with_callback(args, keywords, "on_delivery", self._recorder.wrap)
        # The client tells no keywords from an empty dict of them.
        super().__init__(*args, **keywords) if keywords else super().__init__(*args)

    def produce(self, *args: Any, **keywords: Any) -> None:
        """As the client's own; a report callback of this record is heard through the recorder."""
        wrap = self._recorder.wrap
        if len(args) > 4 and callable(args[4]):  # topic, value, key, partition, callback
            args = (*args[:4], wrap(args[4]), *args[5:])
        for name in ("callback", "on_delivery"):
            if callable(keywords.get(name)):
                keywords[name] = wrap(keywords[name])
        super().produce(*args, **keywords)

    def produce_batch(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own, which writes errors into the given dicts: so those are lent callbacks, and get their own back."""
        wrap = self._recorder.wrap
        if len(args) > 3 and callable(args[3]):  # topic, messages, partition, callback
            args = (*args[:3], wrap(args[3]), *args[4:])
        for name in ("callback", "on_delivery"):
            if callable(keywords.get(name)):
                keywords[name] = wrap(keywords[name])
        messages = args[1] if len(args) > 1 else keywords.get("messages")
        lent: list[tuple[dict[str, Any], Any]] = []
        for each in messages if isinstance(messages, list) else ():
            if isinstance(each, dict) and callable(each.get("callback")):
                lent.append((each, each["callback"]))
                each["callback"] = wrap(each["callback"])
        try:
            return super().produce_batch(*args, **keywords)
        finally:
            for each, callback in lent:
                each["callback"] = callback


class _ProducerRecorder:
    def __init__(self, history: RealHistory, config: Mapping[str, Any]) -> None:
        self._history = history
        self._client = history.client_name("producer", _client_id(config))
        self._acks = _acks(config)
        self._idempotent = "transactional.id" in config or _is_true(config.get("enable.idempotence"))

    def wrap(self, callback: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
        def on_delivery(error: KafkaError | None, message: Message) -> Any:
            self._record(error, message)
            return None if callback is None else callback(error, message)

        return on_delivery

    def _record(self, error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        base_offset = _OFFSET_INVALID if offset is None or error is not None else offset
        self._history.record(
            Acked(
                self._history.now_us(),
                self._client,
                _place(message),
                _batch(message, max(_UNPLACED, base_offset)),
                0,
                1,
                _code(error),
                base_offset,
                self._acks,
                self._idempotent,
            )
        )


# --- consumers ----------------------------------------------------------------------------------


class RecordingConsumer(Consumer):
    """A consumer that writes down deliveries, ownership, seeks and commits."""

    history: RealHistory

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self._recorder = _ConsumerRecorder(self.history, _merged_config(args, keywords))
        args = _with_callback(args, keywords, "on_commit", self._recorder.wrap_on_commit)
        super().__init__(*args, **keywords) if keywords else super().__init__(*args)

    def poll(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own."""
        message = super().poll(*args, **keywords)
        if message is not None:
            self._recorder.delivered((message,))
        return message

    def consume(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own."""
        messages = super().consume(*args, **keywords)
        self._recorder.delivered(messages)
        return messages

    def subscribe(self, *args: Any, **keywords: Any) -> None:
        """As the client's own; callbacks are heard through the recorder, and the recorder hears without any."""
        given = {**dict(zip(("topics", "on_assign", "on_revoke", "on_lost"), args)), **keywords}
        callbacks = {name: callback for name, callback in given.items() if name != "topics"}
        if "topics" in given and len(args) <= 4 and all(callable(callback) for callback in callbacks.values()):
            super().subscribe(given["topics"], **{**callbacks, **self._recorder.rebalance_callbacks(callbacks)})
        else:
            super().subscribe(*args, **keywords)

    def assign(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().assign(*args, **keywords)
        self._recorder.assigned(_first(args, keywords, "partitions"))

    def unassign(self) -> None:
        """As the client's own."""
        super().unassign()
        self._recorder.unassigned()

    def incremental_assign(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().incremental_assign(*args, **keywords)
        self._recorder.added(_first(args, keywords, "partitions"))

    def incremental_unassign(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().incremental_unassign(*args, **keywords)
        self._recorder.removed(_first(args, keywords, "partitions"))

    def seek(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().seek(*args, **keywords)
        self._recorder.sought(_first(args, keywords, "partition"))

    def commit(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own; an asynchronous commit's end is heard through ``on_commit``."""
        committed = super().commit(*args, **keywords)
        if committed is not None:
            self._recorder.committed(None, committed)
        return committed

    def close(self) -> None:
        """As the client's own."""
        super().close()
        self._recorder.closed()


class _ConsumerRecorder:
    def __init__(self, history: RealHistory, config: Mapping[str, Any]) -> None:
        self._history = history
        self._client = history.client_name("consumer", _client_id(config))
        self._group = str(config.get("group.id", ""))
        self._owned: dict[TopicPartition, None] = {}
        self._is_lost = False
        self._changes = 0

    def delivered(self, messages: Iterable[Message]) -> None:
        now_us, record = self._history.now_us(), self._history.record
        for message in messages:
            if message.error() is None:
                batch = _batch(message, int(message.offset() or 0))
                record(Delivered(now_us, self._client, self._group, _place(message), batch, 0, 1))

    def rebalance_callbacks(self, given: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
        """The three callbacks, around the application's own.

        Where a callback leaves the assignment alone, the client changes it right afterwards: then that is what happened.
        Without ``on_lost`` the client tells a loss through ``on_revoke``.
        """

        def rebalance(callback: Callable[..., Any] | None, change: Callable[[Any], None], is_lost: bool) -> Any:
            def run(consumer: Any, partitions: Any) -> Any:
                before, self._is_lost = self._changes, is_lost
                try:
                    return None if callback is None else callback(consumer, partitions)
                finally:
                    if self._changes == before:
                        change(partitions)
                    self._is_lost = False

            return run

        return {
            "on_assign": rebalance(given.get("on_assign"), self.added, False),
            "on_revoke": rebalance(given.get("on_revoke"), self.removed, False),
            "on_lost": rebalance(given.get("on_lost", given.get("on_revoke")), self.removed, True),
        }

    def assigned(self, partitions: Iterable[Any]) -> None:
        """All that was there goes, all that is named comes: also what stays starts anew."""
        self._tell(tuple(self._owned), tuple(dict.fromkeys(_tp(each) for each in partitions)))

    def unassigned(self) -> None:
        self._tell(tuple(self._owned), ())

    def added(self, partitions: Iterable[Any]) -> None:
        self._tell((), tuple(tp for tp in map(_tp, partitions) if tp not in self._owned))

    def removed(self, partitions: Iterable[Any]) -> None:
        self._tell(tuple(tp for tp in map(_tp, partitions) if tp in self._owned), ())

    def _tell(self, gone: tuple[TopicPartition, ...], new: tuple[TopicPartition, ...]) -> None:
        self._changes += 1
        for tp in gone:
            del self._owned[tp]
        self._owned.update(dict.fromkeys(new))
        now_us = self._history.now_us()
        if gone:
            self._history.record(Revoked(now_us, self._client, self._group, gone, self._is_lost))
        if new:
            self._history.record(Assigned(now_us, self._client, self._group, new))

    def closed(self) -> None:
        self._history.record(Closed(self._history.now_us(), self._client))

    def sought(self, partition: Any) -> None:
        event = Sought(self._history.now_us(), self._client, self._group, _tp(partition), partition.offset)
        self._history.record(event)

    def wrap_on_commit(self, callback: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
        def on_commit(error: KafkaError | None, partitions: Any) -> Any:
            self.committed(error, partitions)
            return None if callback is None else callback(error, partitions)

        return on_commit

    def committed(self, error: KafkaError | None, partitions: Iterable[Any]) -> None:
        offsets = tuple((_tp(each), each.offset, _code(each.error or error)) for each in partitions if each.offset >= 0)
        if offsets:
            self._history.record(Committed(self._history.now_us(), self._client, self._group, offsets))


# --- share consumers ----------------------------------------------------------------------------


class RecordingShareConsumer(ShareConsumer):
    """A share consumer that writes down deliveries and what became of acknowledgements."""

    history: RealHistory

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self._recorder = _ShareRecorder(self.history, _merged_config(args, keywords))
        super().__init__(*args, **keywords) if keywords else super().__init__(*args)
        super().set_acknowledgement_commit_callback(self._recorder.wrap(None))

    def poll(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own; what was acknowledged goes out with it."""
        self._recorder.sending()
        messages = super().poll(*args, **keywords)
        self._recorder.delivered(messages)
        return messages

    def acknowledge(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().acknowledge(*args, **keywords)
        message, kind = _first(args, keywords, "message"), _nth(args, keywords, 1, "ack_type")
        self._recorder.acknowledged(_place(message), message.offset(), kind)

    def acknowledge_offset(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().acknowledge_offset(*args, **keywords)
        given = {**dict(zip(("topic", "partition", "offset", "ack_type"), args)), **keywords}
        tp = TopicPartition(str(given["topic"]), int(given["partition"]))
        self._recorder.acknowledged(tp, given["offset"], given.get("ack_type", 1))

    def commit_sync(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own; where no callback told of a partition's outcome, the result does."""
        sent = self._recorder.sending()
        outcomes = super().commit_sync(*args, **keywords)
        for partition, problem in outcomes.items():
            tp = _tp(partition)
            self._recorder.answered(tp, sent.get(tp, {}), problem)
        return outcomes

    def commit_async(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        self._recorder.sending()
        super().commit_async(*args, **keywords)

    def set_acknowledgement_commit_callback(self, *args: Any, **keywords: Any) -> None:
        """As the client's own; the callback is heard through the recorder."""
        if len(args) == 1 and not keywords and (args[0] is None or callable(args[0])):
            args = (self._recorder.wrap(args[0]),)
        super().set_acknowledgement_commit_callback(*args, **keywords)

    def close(self) -> None:
        """As the client's own; it sends what was acknowledged, and accepts nothing by itself."""
        self._recorder.sending(accepts=False)
        super().close()

    def __exit__(self, *exc: Any) -> Any:
        self._recorder.sending(accepts=False)
        return super().__exit__(*exc)


class _ShareRecorder:
    """``_held``: offset -> what the application said of it (None: nothing yet); ``_sent``: what has no outcome yet."""

    def __init__(self, history: RealHistory, config: Mapping[str, Any]) -> None:
        self._history = history
        self._client = history.client_name("consumer", _client_id(config))
        self._group = str(config.get("group.id", ""))
        self._is_explicit = str(config.get("share.acknowledgement.mode")) == "explicit"
        self._held: dict[TopicPartition, dict[int, str | None]] = {}
        self._sent: dict[TopicPartition, dict[int, str]] = {}

    def delivered(self, messages: Iterable[Message]) -> None:
        now_us, record = self._history.now_us(), self._history.record
        for message in messages:
            offset = message.offset()
            if offset is None or offset < 0:
                continue
            tp = _place(message)
            self._held.setdefault(tp, {})[offset] = None
            if message.error() is None:
                count = message.delivery_count() or 0
                record(ShareDelivered(now_us, self._client, self._group, tp, _batch(message, offset), 0, 1, count))

    def acknowledged(self, tp: TopicPartition, offset: Any, kind: Any) -> None:
        self._held.setdefault(tp, {})[int(offset)] = ACKNOWLEDGE_TYPES[int(kind)]

    def sending(self, *, accepts: bool = True) -> dict[TopicPartition, dict[int, str]]:
        """What goes out with the call that follows: implicitly everything in hand, else what was acknowledged."""
        accepts = accepts and not self._is_explicit
        taken: dict[TopicPartition, dict[int, str]] = {}
        for tp, held in self._held.items():
            out = {offset: kind or ACCEPT for offset, kind in held.items() if kind is not None or accepts}
            if out:
                taken[tp] = out
                self._held[tp] = {offset: kind for offset, kind in held.items() if offset not in out}
                self._sent.setdefault(tp, {}).update(out)
        return taken

    def wrap(self, callback: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
        def on_commit(offsets: Any, problem: Any) -> Any:
            for partition, told in offsets.items():
                self.answered(_tp(partition), told, problem)
            return None if callback is None else callback(offsets, problem)

        return on_commit

    def answered(self, tp: TopicPartition, offsets: Iterable[int], problem: Any) -> None:
        """These have an outcome now, unless they had one before."""
        sent = self._sent.get(tp, {})
        known = sorted(offset for offset in offsets if offset in sent)
        if not known:
            return
        runs: list[tuple[int, int, str]] = []
        for offset in known:
            kind = sent.pop(offset)
            if runs and runs[-1][1] + 1 == offset and runs[-1][2] == kind:
                runs[-1] = (runs[-1][0], offset, kind)
            else:
                runs.append((offset, offset, kind))
        error = problem.args[0] if isinstance(problem, KafkaException) else problem
        now_us = self._history.now_us()
        self._history.record(ShareAcknowledged(now_us, self._client, self._group, tp, tuple(runs), _code(error)))


# --- values -------------------------------------------------------------------------------------


def _merged_config(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The config as the client reads it: a dict, keywords, or both; topic configs may stand in a dict of their own."""
    first = args[0] if args and isinstance(args[0], dict) else {}
    named = keywords.get("config")
    merged = {**first, **(named if isinstance(named, dict) else {}), **keywords}
    topics = merged.get("default.topic.config")
    return {**(topics if isinstance(topics, dict) else {}), **merged}


def _with_callback(
    args: tuple[Any, ...], keywords: dict[str, Any], name: str, wrap: Callable[[Any], Any]
) -> tuple[Any, ...]:
    """The arguments with the recorder in the callback's place; what the client would refuse is left for it to refuse."""
    if name in keywords:
        if keywords[name] is None or callable(keywords[name]):
            keywords[name] = wrap(keywords[name])
        return args
    if args and isinstance(args[0], dict):
        given = args[0].get(name)
        if given is None or callable(given):
            return ({**args[0], name: wrap(given)}, *args[1:])
    elif not args and keywords:
        keywords[name] = wrap(None)
    return args


def _first(args: tuple[Any, ...], keywords: Mapping[str, Any], name: str) -> Any:
    return args[0] if args else keywords[name]


def _nth(args: tuple[Any, ...], keywords: Mapping[str, Any], index: int, name: str) -> Any:
    """An optional argument; acknowledging means accepting."""
    return args[index] if len(args) > index else keywords.get(name, 1)


def _client_id(config: Mapping[str, Any]) -> str:
    return str(config.get("client.id", "rdkafka"))


def _acks(config: Mapping[str, Any]) -> int:
    told = str(config.get("acks", config.get("request.required.acks", "all")))
    return _ACKS_ALL if told in ("all", "-1") else int(told) if told.isdigit() else _ACKS_ALL


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "t")


def _tp(partition: Any) -> TopicPartition:
    return TopicPartition(str(partition.topic), int(partition.partition))


def _place(message: Message) -> TopicPartition:
    partition = message.partition()
    return TopicPartition(message.topic() or "", _UNPLACED if partition is None else partition)


def _batch(message: Message, offset: int) -> RecordBatch:
    key, value = as_bytes(message.key()), as_bytes(message.value())
    kind, stamp_ms = message.timestamp()
    return batch_of_one(key, value, stamp_ms, kind, offset)


def batch_of_one(key: bytes | None, value: bytes | None, stamp_ms: int, kind: int, offset: int) -> RecordBatch:
    """The batch that stands for a record; ``kind`` is the client's timestamp type, which counts from one."""
    size_bytes = len(key or b"") + len(value or b"")
    columns = Columns([key], [value], [stamp_ms])
    return RecordBatch(columns, 1, size_bytes, stamp_ms, offset, timestamp_type=max(0, kind - 1))


def as_bytes(value: Any) -> bytes | None:
    """Keys and values as they are stored."""
    return value.encode() if isinstance(value, str) else value


def _code(error: KafkaError | None) -> ErrorCode:
    if error is None:
        return ErrorCode.NONE
    try:
        return ErrorCode(error.code())
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
