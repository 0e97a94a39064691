"""From an engine's operation to the future that an application holds.

Mirrors:  Admin_background_event_cb of Admin.c.
Rule 1:   these run when an answer comes, from the kernel; a future's own callbacks run with them, as they would run in the
          real client's background thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafkasim.confluent_kafka.errors import KafkaError, KafkaException, error_text
from kafkasim.core.model.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

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
