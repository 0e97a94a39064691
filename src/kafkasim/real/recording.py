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
    SerializingProducer,
    ShareConsumer,
)
from confluent_kafka.admin import AdminClient

from kafkasim.core.model.history import (
    ACCEPT,
    ACKNOWLEDGE_TYPES,
    GROUP_RESET,
    Assigned,
    Closed,
    Committed,
    Delivered,
    EndTold,
    Happened,
    OffsetsFetched,
    Revoked,
    ShareAcknowledged,
    ShareDelivered,
    Sought,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.real.history import RealHistory
from kafkasim.real.recorded import (
    batch_of_message,
    client_id,
    code_of,
    first_argument,
    merged_config,
    nth_argument,
    partition_of,
    place_of,
    with_callback,
)
from kafkasim.real.recorded_producer import RecordingProducer


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


# --- consumers ----------------------------------------------------------------------------------


class RecordingConsumer(Consumer):
    """A consumer that writes down deliveries, ownership, seeks and commits."""

    history: RealHistory

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self._recorder = _ConsumerRecorder(self.history, merged_config(args, keywords))
        args = with_callback(args, keywords, "on_commit", self._recorder.wrap_on_commit)
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
        self._recorder.assigned(first_argument(args, keywords, "partitions"))

    def unassign(self) -> None:
        """As the client's own."""
        super().unassign()
        self._recorder.unassigned()

    def incremental_assign(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().incremental_assign(*args, **keywords)
        self._recorder.added(first_argument(args, keywords, "partitions"))

    def incremental_unassign(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().incremental_unassign(*args, **keywords)
        self._recorder.removed(first_argument(args, keywords, "partitions"))

    def seek(self, *args: Any, **keywords: Any) -> None:
        """As the client's own."""
        super().seek(*args, **keywords)
        self._recorder.sought(first_argument(args, keywords, "partition"))

    def get_watermark_offsets(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own."""
        started_us = self.history.now_us()
        found = super().get_watermark_offsets(*args, **keywords)
        if found is not None and not (args[2] if len(args) > 2 else keywords.get("cached", False)):
            self._recorder.told_end(first_argument(args, keywords, "partition"), found[1], started_us)
        return found

    def commit(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own; an asynchronous commit's end is heard through ``on_commit``."""
        committed = super().commit(*args, **keywords)
        if committed is not None:
            self._recorder.committed(None, committed)
        return committed

    def committed(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own."""
        asked_us = self._recorder.now_us()
        found = super().committed(*args, **keywords)
        self._recorder.fetched(found, asked_us)
        return found

    def close(self) -> None:
        """As the client's own."""
        super().close()
        self._recorder.closed()


class _ConsumerRecorder:
    def __init__(self, history: RealHistory, config: Mapping[str, Any]) -> None:
        self._history = history
        self._client = history.client_name("consumer", client_id(config))
        self._group = str(config.get("group.id", ""))
        self._owned: dict[TopicPartition, None] = {}
        self._is_lost = False
        self._changes = 0

    def now_us(self) -> int:
        return self._history.now_us()

    def fetched(self, partitions: Iterable[Any], asked_us: int) -> None:
        """What the client says of offsets that it has none of, -1001, is -1 in a history."""
        offsets = tuple((partition_of(each), max(int(each.offset), -1), code_of(each.error)) for each in partitions)
        self._history.record(OffsetsFetched(self._history.now_us(), self._client, self._group, offsets, asked_us))

    def delivered(self, messages: Iterable[Message]) -> None:
        now_us, record = self._history.now_us(), self._history.record
        for message in messages:
            if message.error() is None:
                batch = batch_of_message(message, int(message.offset() or 0))
                record(Delivered(now_us, self._client, self._group, place_of(message), batch, 0, 1))

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
        self._tell(tuple(self._owned), tuple(dict.fromkeys(partition_of(each) for each in partitions)))

    def unassigned(self) -> None:
        self._tell(tuple(self._owned), ())

    def added(self, partitions: Iterable[Any]) -> None:
        self._tell((), tuple(tp for tp in map(partition_of, partitions) if tp not in self._owned))

    def removed(self, partitions: Iterable[Any]) -> None:
        self._tell(tuple(tp for tp in map(partition_of, partitions) if tp in self._owned), ())

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
        event = Sought(self._history.now_us(), self._client, self._group, partition_of(partition), partition.offset)
        self._history.record(event)

    def told_end(self, partition: Any, end: int, started_us: int) -> None:
        self._history.record(EndTold(self._history.now_us(), self._client, partition_of(partition), end, started_us))

    def wrap_on_commit(self, callback: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
        def on_commit(error: KafkaError | None, partitions: Any) -> Any:
            self.committed(error, partitions)
            return None if callback is None else callback(error, partitions)

        return on_commit

    def committed(self, error: KafkaError | None, partitions: Iterable[Any]) -> None:
        offsets = tuple(
            (partition_of(each), each.offset, code_of(each.error or error)) for each in partitions if each.offset >= 0
        )
        if offsets:
            self._history.record(Committed(self._history.now_us(), self._client, self._group, offsets))


# --- admin clients ------------------------------------------------------------------------------


class RecordingAdmin(AdminClient):
    """An admin client that writes down whose offsets it set or deleted: nobody has lost those."""

    history: RealHistory

    def alter_consumer_group_offsets(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own."""
        requests = first_argument(args, keywords, "list_consumer_group_offsets_request") if args or keywords else ()
        self._tell(getattr(each, "group_id", None) for each in requests or ())
        return super().alter_consumer_group_offsets(*args, **keywords)

    def delete_consumer_groups(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own."""
        self._tell(first_argument(args, keywords, "group_ids") if args or keywords else ())
        return super().delete_consumer_groups(*args, **keywords)

    def _tell(self, groups: Any) -> None:
        for group in groups if isinstance(groups, Iterable) else ():
            if isinstance(group, str):
                self.history.record(Happened(self.history.now_us(), -1, GROUP_RESET, group))


# --- share consumers ----------------------------------------------------------------------------


class RecordingShareConsumer(ShareConsumer):
    """A share consumer that writes down deliveries and what became of acknowledgements."""

    history: RealHistory

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self._recorder = _ShareRecorder(self.history, merged_config(args, keywords))
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
        message, kind = first_argument(args, keywords, "message"), nth_argument(args, keywords, 1, "ack_type")
        self._recorder.acknowledged(place_of(message), message.offset(), kind)

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
            tp = partition_of(partition)
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
        self._client = history.client_name("consumer", client_id(config))
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
            tp = place_of(message)
            self._held.setdefault(tp, {})[offset] = None
            if message.error() is None:
                count = message.delivery_count() or 0
                record(
                    ShareDelivered(
                        now_us, self._client, self._group, tp, batch_of_message(message, offset), 0, 1, count
                    )
                )

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
                self.answered(partition_of(partition), told, problem)
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
        self._history.record(ShareAcknowledged(now_us, self._client, self._group, tp, tuple(runs), code_of(error)))
