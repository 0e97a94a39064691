"""Names of what passes on the wire: a request of Kafka's protocol, and where on its way it is.

Rule 1:   a request goes by its name in Kafka's protocol; a follower's Fetch is ``ReplicaFetch``, so that it can be told from a consumer's.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from kafkasim.core.model import (
    admin_messages,
    cluster_messages,
    consumer_group_messages,
    group_messages,
    messages,
    share_messages,
)
from kafkasim.core.model.messages import FetchRequest

_MODULES: tuple[ModuleType, ...] = (
    messages,
    group_messages,
    consumer_group_messages,
    share_messages,
    cluster_messages,
    admin_messages,
)
REPLICA_FETCH = "ReplicaFetch"


def _names() -> dict[type[Any], str]:
    found = {}
    for module in _MODULES:
        for name, value in vars(module).items():
            if isinstance(value, type) and name.endswith("Request") and value.__module__ == module.__name__:
                found[value] = name.removesuffix("Request")
    return found


_NAME_OF = _names()
API_NAMES: tuple[str, ...] = tuple(sorted({*_NAME_OF.values(), REPLICA_FETCH}))


def api_name(request: Any) -> str:
    """What an event calls this request; the class name for what is not listed."""
    kind = type(request)
    if kind is FetchRequest and request.replica_id >= 0:
        return REPLICA_FETCH
    return _NAME_OF.get(kind) or kind.__name__.removesuffix("Request")
