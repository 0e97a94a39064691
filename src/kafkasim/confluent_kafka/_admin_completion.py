"""From an engine's operation to the future that an application holds.

Mirrors:  Admin_background_event_cb of Admin.c; the checks at the head of each rd_kafka_<Request>() of rdkafka_admin.c.
Rule 1:   what the client refuses by itself, duplicates above all, ends in the future and is not sent.
Rule 2:   these run when an answer comes, from the kernel; a future's own callbacks run with them, as they would run in the
          real client's background thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafkasim.confluent_kafka._constants import OFFSET_SPEC_MAX_TIMESTAMP
from kafkasim.confluent_kafka.errors import KafkaError, KafkaException, error_text
from kafkasim.core.model import admin_messages as admin
from kafkasim.core.model import group_messages as groups
from kafkasim.core.model import messages
from kafkasim.core.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafkasim.core.client.operation import Operation


def when_done(operation: Operation, finish: Callable[[Operation], None]) -> None:
    """Call ``finish`` when the operation is over, beside whoever else wants to know."""
    if operation.done:
        finish(operation)
        return
    others = operation.on_done

    def both(done: Operation) -> None:
        if others is not None:
            others(done)
        finish(done)

    operation.on_done = both


def failed(operation: Operation) -> KafkaException:
    text = operation.error_text or error_text(operation.error)
    return KafkaException(KafkaError(int(operation.error), text))


def set_result(future: Any, make: Callable[[], Any]) -> None:
    try:
        result = make()
    except Exception as exception:
        future.set_exception(exception)
    else:
        future.set_result(result)


def not_modelled(what: str) -> KafkaException:
    text = f"kafkasim does not model {what}, see docs/fidelity.md"
    return KafkaException(KafkaError(int(ErrorCode._NOT_IMPLEMENTED), text))


# --- What the client refuses -----------------------------------------------------------------------------------------


def is_refused(future: Any, request: Any, target: Any) -> bool:
    """Whether the request must not be sent; then the future knows why."""
    if target is None:
        return True
    check = _CHECKS.get(type(request))
    text = None if check is None else check(request)
    if text is None:
        return False
    future.set_exception(KafkaException(KafkaError(int(ErrorCode._INVALID_ARG), text)))
    return True


def has_duplicates(future: Any, names: list[str], text: str) -> bool:
    """The same for a list of names of which none may come twice."""
    if len(set(names)) == len(names):
        return False
    future.set_exception(KafkaException(KafkaError(int(ErrorCode._INVALID_ARG), text)))
    return True


def _is_repeated(items: Iterable[Any]) -> bool:
    listed = list(items)
    return len(set(listed)) < len(listed)


def _check_list_offsets(request: messages.ListOffsetsRequest) -> str | None:
    for index, part in enumerate(request.partitions):
        if not part.tp.topic:
            return f"Partition topic name at index {index} must be non-empty"
        if part.tp.partition < 0:
            return f"Partition at index {index} cannot be negative"
    if _is_repeated(part.tp for part in request.partitions):
        return "Partitions must not contain duplicates"
    for index, part in enumerate(request.partitions):
        if part.timestamp_ms < OFFSET_SPEC_MAX_TIMESTAMP:
            return f"Partition {index} has an invalid offset {part.timestamp_ms}"
    return None


def _check_delete_records(request: messages.DeleteRecordsRequest) -> str | None:
    if not request.partitions:
        return "No records to delete"
    return "Duplicate partitions not allowed" if _is_repeated(part.tp for part in request.partitions) else None


def _check_offset_fetch(request: groups.OffsetFetchRequest) -> str | None:
    if request.partitions is None:
        return None
    if not request.partitions:
        return "NULL or non-empty topic partition list must be passed"
    return "Duplicate partitions not allowed" if _is_repeated(request.partitions) else None


def _check_offset_commit(request: groups.OffsetCommitRequest) -> str | None:
    if not request.offsets:
        return "Non-empty topic partition list must be present"
    if any(to.offset < 0 for _, to in request.offsets):
        return "All topic-partition offsets must be >= 0"
    return "Duplicate partitions not allowed" if _is_repeated(tp for tp, _ in request.offsets) else None


def _check_elect_leaders(request: admin.ElectLeadersRequest) -> str | None:
    return "Duplicate partitions specified" if _is_repeated(request.partitions or ()) else None


def _check_metadata(request: messages.MetadataRequest) -> str | None:
    return "Duplicate topics not allowed" if _is_repeated(request.topics or ()) else None


def _check_alterations(request: admin.IncrementalAlterConfigsRequest) -> str | None:
    for alteration in request.resources:
        if _is_repeated(name for name, _, _ in alteration.changes):
            return "Duplicate ConfigEntry found"
    if _is_repeated((item.resource.resource_type, item.resource.name) for item in request.resources):
        return "Duplicate ConfigResource found"
    return None


_CHECKS: dict[type[Any], Callable[[Any], str | None]] = {
    messages.ListOffsetsRequest: _check_list_offsets,
    messages.DeleteRecordsRequest: _check_delete_records,
    messages.MetadataRequest: _check_metadata,
    groups.OffsetFetchRequest: _check_offset_fetch,
    groups.OffsetCommitRequest: _check_offset_commit,
    admin.ElectLeadersRequest: _check_elect_leaders,
    admin.IncrementalAlterConfigsRequest: _check_alterations,
}
