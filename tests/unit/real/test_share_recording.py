"""The recorder of share consumers: what goes out with which call, and whose word on its outcome counts."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Named

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.history import ShareAcknowledged, ShareDelivered
from kafkasim.core.model.ids import TopicPartition
from kafkasim.real.history import RealHistory
from kafkasim.real.recording import _ShareRecorder

TP = TopicPartition("jobs", 0)


class Message:
    """What a recorder asks a message for."""

    def __init__(self, offset: int, count: int = 1, error: Any = None) -> None:
        self._offset, self._count, self._error = offset, count, error

    def topic(self) -> str:
        return "jobs"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> Any:
        return self._error

    def delivery_count(self) -> int | None:
        return self._count

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return b"v"

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


def recorder(mode: str) -> tuple[RealHistory, _ShareRecorder]:
    history = RealHistory(lambda: 0)
    return history, _ShareRecorder(history, {"group.id": "workers", "share.acknowledgement.mode": mode})


def told(history: RealHistory) -> list[tuple[Any, ErrorCode]]:
    return [(event.acks, event.error) for event in history if isinstance(event, ShareAcknowledged)]


def test_what_is_in_hand_is_accepted_by_the_next_call_and_not_by_the_close() -> None:
    """Implicit mode; neighbours are told as one."""
    history, recording = recorder("implicit")
    recording.delivered([Message(0), Message(1), Message(3, 2)])  # type: ignore[list-item]
    recording.sending()
    assert told(history) == []
    recording.wrap(None)({Named("jobs", 0): {0, 1, 3}}, None)
    recording.delivered([Message(4)])  # type: ignore[list-item]
    recording.sending(accepts=False)
    recording.wrap(None)({Named("jobs", 0): {4}}, None)
    assert told(history) == [(((0, 1, "accept"), (3, 3, "accept")), ErrorCode.NONE)]
    given = [event for event in history if isinstance(event, ShareDelivered)]
    assert [(event.batch.base_offset, event.delivery_count) for event in given] == [(0, 1), (1, 1), (3, 2), (4, 1)]


def test_an_outcome_counts_once_and_is_the_applications_type() -> None:
    """The last word before it was sent, told by the callback first and then by the result of the same commit."""
    history, recording = recorder("explicit")
    heard: list[Any] = []
    recording.delivered([Message(0), Message(1), Message(2)])  # type: ignore[list-item]
    recording.acknowledged(TP, 0, 1)
    recording.acknowledged(TP, 0, 2)
    recording.acknowledged(TP, 1, 3)
    sent = recording.sending()
    problem = KafkaException(KafkaError(121))
    recording.wrap(lambda *told: heard.append(told))({Named("jobs", 0): {0, 1}}, problem)
    recording.answered(TP, sent[TP], None)
    assert told(history) == [(((0, 0, "release"), (1, 1, "reject")), ErrorCode.INVALID_RECORD_STATE)]
    assert len(heard) == 1
    recording.acknowledged(TP, 2, 1)
    recording.answered(TP, recording.sending()[TP], None)
    assert told(history)[1] == (((2, 2, "accept"),), ErrorCode.NONE)


def test_a_message_with_an_error_is_no_delivery_but_can_be_acknowledged() -> None:
    """Its offset is in hand all the same."""
    history, recording = recorder("explicit")
    recording.delivered([Message(7, error=KafkaError(2))])  # type: ignore[list-item]
    assert not history.of(ShareDelivered)
    recording.acknowledged(TP, 7, 3)
    recording.answered(TP, recording.sending()[TP], None)
    assert told(history) == [(((7, 7, "reject"),), ErrorCode.NONE)]
