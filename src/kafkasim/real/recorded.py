"""What recorders read from the installed client: its settings as given, its callbacks, and its messages as records.

Inputs:   arguments and objects of the installed confluent_kafka.      Effects: values of the history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, Message

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.records import Columns, RecordBatch

UNPLACED = -1


def merged_config(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The config as the client reads it: a dict, keywords, or both; topic configs may stand in a dict of their own."""
    first = args[0] if args and isinstance(args[0], dict) else {}
    named = keywords.get("config")
    merged = {**first, **(named if isinstance(named, dict) else {}), **keywords}
    topics = merged.get("default.topic.config")
    return {**(topics if isinstance(topics, dict) else {}), **merged}


def with_callback(
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


def first_argument(args: tuple[Any, ...], keywords: Mapping[str, Any], name: str) -> Any:
    return args[0] if args else keywords[name]


def nth_argument(args: tuple[Any, ...], keywords: Mapping[str, Any], index: int, name: str) -> Any:
    """An optional argument; acknowledging means accepting."""
    return args[index] if len(args) > index else keywords.get(name, 1)


def client_id(config: Mapping[str, Any]) -> str:
    return str(config.get("client.id", "rdkafka"))


def is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "t")


def partition_of(partition: Any) -> TopicPartition:
    return TopicPartition(str(partition.topic), int(partition.partition))


def place_of(message: Message) -> TopicPartition:
    partition = message.partition()
    return TopicPartition(message.topic() or "", UNPLACED if partition is None else partition)


def batch_of_message(message: Message, offset: int) -> RecordBatch:
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


def code_of(error: KafkaError | None) -> ErrorCode:
    if error is None:
        return ErrorCode.NONE
    try:
        return ErrorCode(error.code())
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
