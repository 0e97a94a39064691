"""The recorder around a real producer: each report goes into the history, with when and as which its record was produced.

Mirrors:  kafkasim.sim.recorder, event for event; a batch of one record stands for each record.
Inputs:   calls and callbacks of the installed confluent_kafka.      Effects: events in a `RealHistory`.
Rule 1:   what the application sees does not change: arguments, results, exceptions and the order of callbacks pass through.
Rule 2:   records are counted and timed when the application gives them to the client, one by one under a lock: the order in which
          threads meet there is the order of the client's queue. What the client refuses is not counted.
Differs:  when the client knew of an end is when the application was told of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from confluent_kafka import KafkaError, Message, Producer

from kafkasim.core.model.history import Acked
from kafkasim.real.history import RealHistory
from kafkasim.real.recorded import (
    UNPLACED,
    batch_of_message,
    client_id,
    code_of,
    is_true,
    merged_config,
    place_of,
    with_callback,
)

_ACKS_ALL = -1
_OFFSET_INVALID = -1001
#: The place of ``callback`` among the arguments of produce(), and of produce_batch().
_CALLBACK = 4
_CALLBACK_FOR_ALL = 3


class RecordingProducer(Producer):
    """A producer whose delivery reports go into the history as the application takes them."""

    history: RealHistory

    def __init__(self, *args: Any, **keywords: Any) -> None:
        config = merged_config(args, keywords)
        self._recorder = _ProducerRecorder(self.history, config)
        args = with_callback(args, keywords, "on_delivery", self._recorder.wrap)
        # The client tells no keywords from an empty dict of them.
        super().__init__(*args, **keywords) if keywords else super().__init__(*args)

    def produce(self, *args: Any, **keywords: Any) -> None:
        """As the client's own; the report of this record is heard through the recorder."""
        recorder = self._recorder
        with recorder.lock:
            sent = recorder.sending()
            # topic, value, key, partition, callback, on_delivery: ``callback`` goes before its alias, even where it is None.
            name = "callback" if "callback" in keywords or "on_delivery" not in keywords else "on_delivery"
            if len(args) > _CALLBACK:
                args = (*args[:_CALLBACK], recorder.heard(args[_CALLBACK], sent), *args[_CALLBACK + 1 :])
            else:
                keywords[name] = recorder.heard(keywords.get(name), sent)
            super().produce(*args, **keywords)
            recorder.has_sent(sent)

    def produce_batch(self, *args: Any, **keywords: Any) -> Any:
        """As the client's own, which writes errors into the given dicts: so those are lent callbacks, and get their own back."""
        recorder = self._recorder
        messages = args[1] if len(args) > 1 else keywords.get("messages")
        # topic, messages, partition, callback, on_delivery
        name = "callback" if "callback" in keywords else "on_delivery"
        for_all = args[_CALLBACK_FOR_ALL] if len(args) > _CALLBACK_FOR_ALL else keywords.get(name)
        lent: dict[int, _Lent] = {}
        with recorder.lock:
            for each in messages if isinstance(messages, list) else ():
                if not isinstance(each, dict):
                    continue
                if id(each) in lent:
                    lent[id(each)].sent.is_counted = False  # One dict for several records: their reports look alike.
                    continue
                sent, own = recorder.sending(), each.get("callback")
                lent[id(each)] = _Lent(each, "callback" in each, own, each.get("_error"), sent)
                each["callback"] = recorder.heard(for_all if own is None else own, sent)
            try:
                result = super().produce_batch(*args, **keywords)
                for one in lent.values():
                    if one.message.get("_error") is one.error:
                        recorder.has_sent(one.sent)
                return result
            finally:
                for one in lent.values():
                    if one.had_callback:
                        one.message["callback"] = one.callback
                    else:
                        one.message.pop("callback", None)


@attrs.define(slots=True, eq=False)
class _Sent:
    """One record that is given to the client: when, and as its how manieth, which is known once the client has taken it."""

    at_us: int
    number: int = -1
    is_counted: bool = True


@attrs.define(slots=True, eq=False)
class _Lent:
    """A dict of the application's, and what was in it."""

    message: dict[str, Any]
    had_callback: bool
    callback: Any
    error: Any
    sent: _Sent


class _ProducerRecorder:
    def __init__(self, history: RealHistory, config: Mapping[str, Any]) -> None:
        self._history = history
        self._client = history.client_name("producer", client_id(config))
        self._acks = _acks(config)
        self._idempotent = "transactional.id" in config or is_true(config.get("enable.idempotence"))
        self._in_flight = _in_flight(config, is_idempotent=self._idempotent)
        self._timeout_us = _timeout_us(config)
        self._count = 0
        #: The application's own callback for records that it gives none.
        self._default: Callable[[Any, Any], Any] | None = None
        #: Records are counted in the order in which the client takes them, whichever threads they come from.
        self.lock = threading.RLock()

    def wrap(self, callback: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
        """The callback of the producer itself."""
        self._default = callback
        return self._on_delivery(callback, _Sent(-1))

    def sending(self) -> _Sent:
        """The next record, which the client has not taken yet. With ``lock``."""
        return _Sent(self._history.now_us())

    def has_sent(self, sent: _Sent) -> None:
        if sent.is_counted:
            self._count += 1
            sent.number = self._count

    def heard(self, callback: Any, sent: _Sent) -> Any:
        """The callback of one record, behind which the recorder stands; what cannot be called is left for the client."""
        chosen = self._default if callback is None else callback
        if chosen is not None and not callable(chosen):
            sent.is_counted = False
            return callback
        return self._on_delivery(chosen, sent)

    def _on_delivery(self, callback: Callable[[Any, Any], Any] | None, sent: _Sent) -> Callable[[Any, Any], Any]:
        def on_delivery(error: KafkaError | None, message: Message) -> Any:
            with self.lock:  # Another thread may be about to say which number it is.
                number = sent.number
            self._record(error, message, number, sent.at_us)
            return None if callback is None else callback(error, message)

        return on_delivery

    def _record(self, error: KafkaError | None, message: Message, number: int, sent_us: int) -> None:
        offset = message.offset()
        base_offset = _OFFSET_INVALID if offset is None or error is not None else offset
        now_us = self._history.now_us()
        self._history.record(
            Acked(
                now_us,
                self._client,
                place_of(message),
                batch_of_message(message, max(UNPLACED, base_offset)),
                0,
                1,
                code_of(error),
                base_offset,
                self._acks,
                self._idempotent,
                number,
                sent_us,
                now_us,
                self._timeout_us,
                in_flight=self._in_flight,
            )
        )


def _acks(config: Mapping[str, Any]) -> int:
    told = str(config.get("acks", config.get("request.required.acks", "all")))
    return _ACKS_ALL if told in ("all", "-1") else int(told) if told.isdigit() else _ACKS_ALL


def _in_flight(config: Mapping[str, Any], *, is_idempotent: bool) -> int:
    """Requests to a broker that may be under way at once; the client lets an idempotent producer have five."""
    told = str(config.get("max.in.flight.requests.per.connection", config.get("max.in.flight", 1_000_000)))
    number = int(told) if told.isdigit() else -1
    return min(number, 5) if is_idempotent else number


def _timeout_us(config: Mapping[str, Any]) -> int:
    """delivery.timeout.ms; -1 where some ends are never told, or where the client has it from elsewhere (transactions)."""
    if is_true(config.get("delivery.report.only.error")) or "transactional.id" in config:
        return -1
    told = str(config.get("message.timeout.ms", config.get("delivery.timeout.ms", 300_000)))
    return int(told) * 1000 if told.isdigit() and int(told) else -1
